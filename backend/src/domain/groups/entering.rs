//! Coming into a group and going out of it: all rows that say so, and who is told.
//!
//! What may not live here: whether somebody may; that has been decided before the first row is written.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::try_join_all;
use prost::Message as _;
use protocol::{
    EncodedEvent,
    message::{
        GroupApplication, GroupApplicationState, GroupEntered, GroupLeft, GroupRole, GroupTips, ReceiveOption,
        event::What, group_left::Why, group_tips,
    },
};

use super::{
    access, former,
    records::{
        FormerRecord, GroupApplicationRecord, GroupRecord, GroupsOfUserRecord, JoinedRecord, MemberRecord, SpanRecord,
    },
};
use crate::{
    domain::{
        AppId, Error, GroupId, Peer, UserId,
        act::Staging,
        change::conversation,
        damaged,
        hourly::first_since,
        keys,
        keys::Tail,
        records::{ConversationRecord, EventKind, Head},
        retention::hour_of,
        send::group::append_tips,
        unread::{self, Counts},
    },
    store::ReadMode,
};

/// Somebody who comes into a group.
#[derive(Clone, Debug)]
pub(crate) struct Entrant {
    pub(crate) user: UserId,
    pub(crate) role: GroupRole,
    pub(crate) name_card: String,
    pub(crate) custom: BTreeMap<String, Bytes>,
    /// When, if it was earlier than now: milliseconds since the Unix epoch.
    pub(crate) joined_ms: Option<u64>,
}

impl Entrant {
    pub(crate) fn new(user: UserId, role: GroupRole) -> Self {
        Entrant { user, role, name_card: String::new(), custom: BTreeMap::new(), joined_ms: None }
    }
}

/// How others are told that somebody has come or gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Telling<'a> {
    /// Who has done it.
    pub(crate) by: &'a str,
    /// How the group is told; `None`: it is not.
    pub(crate) tips: Option<group_tips::Kind>,
    /// Nobody is told, and whoever comes was there before: he is imported (GRP-19).
    pub(crate) quiet: bool,
}

/// Puts users into a group who are not in it. Writes the group's record, too.
pub(crate) async fn enter(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    record: &mut GroupRecord,
    entrants: &[Entrant],
    telling: Telling<'_>,
) -> Result<(), Error> {
    record.member_count += entrants.len() as u32;
    record.revision += 1;
    let fanout_max = staging.settings(app).await?.group_fanout_max;
    if !record.is_large && record.member_count > fanout_max {
        grow(staging, app, group, record).await?;
    }
    let head = Head::from_stored(staging.get(&Tail::from(group).head(app)).await?)?;
    let from_version = log_version(staging, app, group).await?;
    let stamp = staging.next_stamp();
    let peer = Peer::Group(group.clone());
    staging.start_reads(entrants.iter().flat_map(|Entrant { user, .. }| {
        [
            keys::former_group(app, user, group),
            keys::kept(app, user, &peer),
            keys::groups_of_user(app, user),
            keys::group_application(app, group, user),
        ]
    }));
    let seen = entrants.iter().map(|entrant| first_seq(staging, app, group, record, &head, entrant, telling.quiet));
    let seen = try_join_all(seen).await?;
    // Who comes back goes on counting where he has left off: the index of his messages says where.
    let counts = entrants.iter().map(|entrant| unread::counts(staging.tx, app, &entrant.user, &peer, &head));
    let counts = try_join_all(counts).await?;
    for ((entrant, first_seq), counts) in entrants.iter().zip(seen).zip(counts) {
        record.newest_first_seq = record.newest_first_seq.max(first_seq);
        let member = MemberRecord {
            role: entrant.role.into(),
            joined_ms: entrant.joined_ms.unwrap_or(staging.now_ms),
            name_card: entrant.name_card.clone(),
            custom: entrant.custom.clone(),
            first_seq,
            sent_count: counts.own,
            ..MemberRecord::default()
        };
        let former = former::read(staging, app, &entrant.user, group).await?;
        let is_told = record.is_active || entrant.role == GroupRole::Owner;
        let receive = record.rules()?.receive();
        let kept = start_conversation(staging, app, group, &entrant.user, (&head, counts), &former, receive).await?;
        let member = MemberRecord {
            deaf: conversation::is_refused(&kept),
            // It survives leaving.
            muted_until_ms: former.muted_until_ms,
            ..member
        };
        let joined = put_member(staging, app, group, record, &entrant.user, member, from_version, is_told);
        // A group that he knows nothing of takes no other's place (GRP-13).
        count(staging, app, &entrant.user, i64::from(is_told), i64::from(entrant.role == GroupRole::Owner)).await?;
        if is_told && telling.quiet {
            staging.note_membership(&entrant.user, group, !joined.deaf);
        } else if is_told {
            tell_entered(staging, stamp, app, group, &entrant.user, &joined, telling.by);
        }
        drop_application(staging, app, group, &entrant.user, GroupApplicationState::Dropped, telling.by, "").await?;
    }
    staging.set(keys::group(app, group), record.encode_to_vec());
    if let Some(kind) = telling.tips.filter(|_| record.rules().is_ok_and(|rules| rules.tells_member_changes)) {
        let users = entrants.iter().map(|entrant| entrant.user.to_string()).collect();
        let tips = tips(kind, group, telling.by, users);
        append_tips(staging, app, group, record, tips).await?;
    }
    Ok(())
}

/// The first message that somebody who comes in can see (GRP-11). Who is imported was there before: from then on.
async fn first_seq(
    staging: &Staging<'_>,
    app: AppId,
    group: &GroupId,
    record: &GroupRecord,
    head: &Head,
    entrant: &Entrant,
    is_imported: bool,
) -> Result<u64, Error> {
    let first = record.first_seq.max(1);
    match (record.rules()?.shows_earlier, is_imported, entrant.joined_ms) {
        (true, ..) | (false, true, None) => Ok(first),
        (false, true, Some(joined_ms)) => {
            let since = first_since(staging.tx, app, &Tail::from(group), head.seq, joined_ms).await?;
            Ok(since.max(first))
        }
        (false, false, _) => Ok(head.seq + 1),
    }
}

/// The version that a group is read at; nothing is written into its log until the commit. So what stands there up to
/// this version happened before whatever the transaction does, and what follows after it, on every node.
async fn log_version(staging: &Staging<'_>, app: AppId, group: &GroupId) -> Result<u64, Error> {
    let (begin, end) = keys::group_event_guard(app, group);
    staging.tx.add_read_conflict(&begin, &end);
    Ok(staging.tx.read_version().await?)
}

/// Something that happened to members.
pub(crate) fn tips(kind: group_tips::Kind, group: &GroupId, by: &str, users: Vec<String>) -> GroupTips {
    GroupTips { kind: kind.into(), group: group.to_string(), by: by.to_owned(), users, ..GroupTips::default() }
}

#[allow(clippy::too_many_arguments)]
fn put_member(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    record: &GroupRecord,
    user: &UserId,
    member: MemberRecord,
    from_version: u64,
    is_told: bool,
) -> JoinedRecord {
    let joined = JoinedRecord {
        kind: record.kind,
        role: member.role,
        is_large: record.is_large,
        from_version,
        deaf: member.deaf,
        is_active: is_told,
        first_seq: member.first_seq,
    };
    staging.set(keys::member(app, group, user), member.encode_to_vec());
    staging.set(keys::joined_group(app, user, group), joined.encode_to_vec());
    joined
}

/// Nothing that was said before is unread; the conversation stands in the user's list where it stands in others'.
async fn start_conversation(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    user: &UserId,
    (head, counts): (&Head, Counts),
    former: &FormerRecord,
    receive: ReceiveOption,
) -> Result<ConversationRecord, Error> {
    let peer = Peer::Group(group.clone());
    let key = keys::kept(app, user, &peer);
    let before = match staging.get(&key).await? {
        // He has not said otherwise yet (GRP-18).
        None => ConversationRecord { receive: receive.into(), ..ConversationRecord::default() },
        stored => conversation::decode(stored)?,
    };
    let Counts { others, own } = counts;
    let now = ConversationRecord { read_seq: head.seq, read_count: others, read_own: own, ..before };
    staging.set(key, now.encode_to_vec());
    if let Some(hour) = former.listed_hour() {
        staging.tx.clear(&keys::active(app, user, hour, &peer));
    }
    if head.last_seq > 0 {
        staging.tx.set(keys::active(app, user, hour_of(head.active_ms), &peer), Bytes::new());
    }
    Ok(now)
}

/// Tells a user that he is a member, and has him receive, unless he does not want to.
fn tell_entered(
    staging: &mut Staging<'_>,
    stamp: u16,
    app: AppId,
    group: &GroupId,
    user: &UserId,
    joined: &JoinedRecord,
    by: &str,
) {
    if !joined.deaf {
        // Before anything that the group is told from here on.
        staging.note_membership(user, group, true);
    }
    let JoinedRecord { kind, role, first_seq, .. } = *joined;
    let entered = GroupEntered { group: group.to_string(), r#type: kind, by: by.to_owned(), first_seq, role };
    let event = EncodedEvent::of(&What::GroupEntered(entered));
    staging.append_at(stamp, app, user, EventKind::Stored(event.to_stored()), event);
}

/// Takes an application off that has come to its end, if there is one: the applicant is told, and who decides.
pub(crate) async fn drop_application(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    applicant: &UserId,
    state: GroupApplicationState,
    by: &str,
    text: &str,
) -> Result<(), Error> {
    let key = keys::group_application(app, group, applicant);
    let Some(stored) = staging.get(&key).await? else { return Ok(()) };
    let record = GroupApplicationRecord::decode(stored).map_err(|_| damaged("group application"))?;
    staging.clear(&key);
    tell_application(staging, app, group, applicant, record, state, by, text).await
}

/// Tells the applicant, and everybody who decides about applications, how one stands.
#[allow(clippy::too_many_arguments)]
pub(crate) async fn tell_application(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    applicant: &UserId,
    record: GroupApplicationRecord,
    state: GroupApplicationState,
    by: &str,
    text: &str,
) -> Result<(), Error> {
    let told = GroupApplication {
        group: group.to_string(),
        user: applicant.to_string(),
        wording: record.wording,
        time_ms: record.time_ms,
        state: state.into(),
        by: by.to_owned(),
        text: text.to_owned(),
    };
    // Who leads a group is written with its record, which every act reads: so no send stands in the way of this.
    let members = access::members(staging.tx, app, group, ReadMode::Snapshot).await?;
    let leads = |(user, member): &(UserId, MemberRecord)| member.role() >= GroupRole::Admin && user != applicant;
    let leaders = members.iter().filter(|member| leads(member)).map(|(user, _)| user);
    staging.append_stored_for_all(app, leaders.chain([applicant]), &What::GroupApplication(told));
    Ok(())
}

/// From here on what happens in the group is written once, into a log of its own.
async fn grow(staging: &mut Staging<'_>, app: AppId, group: &GroupId, record: &mut GroupRecord) -> Result<(), Error> {
    record.is_large = true;
    // Its own log may hold something of an earlier group of the id.
    let from_version = log_version(staging, app, group).await?;
    let members = access::members(staging.tx, app, group, ReadMode::Serializable).await?;
    staging.start_reads(members.iter().map(|(user, _)| keys::joined_group(app, user, group)));
    for (user, _) in members {
        let Some(joined) = joined(staging, app, &user, group).await? else { continue };
        let key = keys::joined_group(app, &user, group);
        staging.set(key, JoinedRecord { is_large: true, from_version, ..joined }.encode_to_vec());
    }
    Ok(())
}

/// Tells the members of a group that has not been told to anybody but its owner (GRP-13).
pub(crate) async fn activate(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    record: &mut GroupRecord,
) -> Result<(), Error> {
    record.is_active = true;
    staging.set(keys::group(app, group), record.encode_to_vec());
    let (owner, stamp) = (record.owner.clone(), staging.next_stamp());
    let members = access::members(staging.tx, app, group, ReadMode::Serializable).await?;
    staging.start_reads(members.iter().map(|(user, _)| keys::groups_of_user(app, user)));
    // Whoever changes such a row changes the group's or the member's, too, both of which are read above: so none is
    // guarded for itself, and the transaction holds as many members as there may be.
    let rows = members.iter().map(|(user, _)| staging.tx.snapshot_get(&keys::joined_group(app, user, group)));
    let rows: Vec<_> = rows.collect();
    for ((user, _), row) in members.into_iter().zip(rows) {
        let joined = row.await?.map(decode_joined).transpose()?;
        activate_member(staging, stamp, app, group, &user, joined, &owner).await?;
    }
    Ok(())
}

/// Tells one member of a group, if he has not been told.
pub(crate) async fn activate_for(
    staging: &mut Staging<'_>,
    stamp: u16,
    app: AppId,
    group: &GroupId,
    user: &UserId,
    by: &str,
) -> Result<(), Error> {
    let joined = joined(staging, app, user, group).await?;
    activate_member(staging, stamp, app, group, user, joined, by).await
}

async fn activate_member(
    staging: &mut Staging<'_>,
    stamp: u16,
    app: AppId,
    group: &GroupId,
    user: &UserId,
    joined: Option<JoinedRecord>,
    by: &str,
) -> Result<(), Error> {
    if let Some(joined) = joined.filter(|joined| !joined.is_active) {
        let joined = JoinedRecord { is_active: true, ..joined };
        staging.set(keys::joined_group(app, user, group), joined.encode_to_vec());
        count(staging, app, user, 1, 0).await?;
        tell_entered(staging, stamp, app, group, user, &joined, by);
    }
    Ok(())
}

/// Takes members out of a group. Writes the group's record, too.
pub(crate) async fn exit(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    record: &mut GroupRecord,
    leavers: &[(UserId, MemberRecord)],
    (why, reason): (Why, &str),
    telling: Telling<'_>,
) -> Result<(), Error> {
    let rules = record.rules()?;
    record.member_count = record.member_count.saturating_sub(leavers.len() as u32);
    record.revision += 1;
    if let Some(kind) = telling.tips.filter(|_| rules.tells_member_changes) {
        let users = leavers.iter().map(|(user, _)| user.to_string()).collect();
        // Those who go are told as well: it is the last that they see.
        append_tips(staging, app, group, record, tips(kind, group, telling.by, users)).await?;
    }
    let head = Head::from_stored(staging.get(&Tail::from(group).head(app)).await?)?;
    let until_version = log_version(staging, app, group).await?;
    let stamp = staging.next_stamp();
    staging.start_reads(leavers.iter().flat_map(|(user, _)| {
        [keys::joined_group(app, user, group), keys::former_group(app, user, group), keys::groups_of_user(app, user)]
    }));
    for (user, member) in leavers {
        if record.owner == user.as_str() {
            record.owner.clear();
        }
        let is_told = remove_rows(staging, app, group, user, member, &head, until_version).await?;
        count(staging, app, user, -i64::from(is_told), -i64::from(member.role() == GroupRole::Owner)).await?;
        if is_told {
            let left = GroupLeft {
                group: group.to_string(),
                why: why.into(),
                by: telling.by.to_owned(),
                reason: reason.to_owned(),
                last_seq: head.seq,
            };
            let event = EncodedEvent::of(&What::GroupLeft(left));
            staging.append_at(stamp, app, user, EventKind::Stored(event.to_stored()), event);
            staging.note_membership(user, group, false);
        }
    }
    staging.set(keys::group(app, group), record.encode_to_vec());
    Ok(())
}

/// Removes what says that a user is in a group, and notes what he may still see. Whether he knew of the group.
async fn remove_rows(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    user: &UserId,
    member: &MemberRecord,
    head: &Head,
    until_version: u64,
) -> Result<bool, Error> {
    let joined = joined(staging, app, user, group).await?.unwrap_or_default();
    let former = former::read(staging, app, user, group).await?;
    let former = FormerRecord { muted_until_ms: member.muted_until_ms, ..former };
    let span = SpanRecord {
        first_seq: member.first_seq,
        last_seq: head.seq,
        // What was not received is in the history, not in the log.
        is_large: joined.is_large && !joined.deaf,
        from_version: joined.from_version,
        active_hour: if head.last_seq > 0 { hour_of(head.active_ms) } else { 0 },
        until_version,
    };
    former::put(staging, app, user, group, former, span).await?;
    staging.clear(&keys::joined_group(app, user, group));
    staging.clear(&keys::member(app, group, user));
    Ok(joined.is_active)
}

/// Has a member not receive from a group any more, or do so again. Of a large group, whose log stands for all of it,
/// what was said before stays his to be told, and what is said meanwhile never is.
pub(crate) async fn set_deaf(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    user: &UserId,
    member: MemberRecord,
    deaf: bool,
) -> Result<(), Error> {
    let key = keys::joined_group(app, user, group);
    // Live rooms have their members receive or leave.
    let Some(joined) = joined(staging, app, user, group).await? else { return Ok(()) };
    if joined.is_large && deaf && !joined.deaf {
        let head = Head::from_stored(staging.get(&Tail::from(group).head(app)).await?)?;
        let former = former::read(staging, app, user, group).await?;
        let JoinedRecord { first_seq, is_large, from_version, .. } = joined;
        let active_hour = former.spans.last().map_or(0, |span| span.active_hour);
        let (last_seq, until_version) = (head.seq, log_version(staging, app, group).await?);
        let span = SpanRecord { first_seq, last_seq, is_large, from_version, active_hour, until_version };
        former::put(staging, app, user, group, former, span).await?;
    }
    let hears_again = joined.deaf && !deaf;
    let from_version = if hears_again { log_version(staging, app, group).await? } else { joined.from_version };
    if joined.is_active {
        staging.note_membership(user, group, !deaf);
    }
    staging.set(key, JoinedRecord { deaf, from_version, ..joined }.encode_to_vec());
    staging.set(keys::member(app, group, user), MemberRecord { deaf, ..member }.encode_to_vec());
    Ok(())
}

/// What a user's records say of a group that he is in.
pub(crate) async fn joined(
    staging: &mut Staging<'_>,
    app: AppId,
    user: &UserId,
    group: &GroupId,
) -> Result<Option<JoinedRecord>, Error> {
    staging.get(&keys::joined_group(app, user, group)).await?.map(decode_joined).transpose()
}

fn decode_joined(stored: Bytes) -> Result<JoinedRecord, Error> {
    JoinedRecord::decode(stored).map_err(|_| damaged("joined group"))
}

/// How many groups a user is in, as far as he knows, and owns.
pub(crate) async fn counts_of(
    staging: &mut Staging<'_>,
    app: AppId,
    user: &UserId,
) -> Result<GroupsOfUserRecord, Error> {
    let stored = staging.get(&keys::groups_of_user(app, user)).await?.unwrap_or_default();
    GroupsOfUserRecord::decode(stored).map_err(|_| damaged("groups of a user"))
}

/// Counts a user's groups.
pub(crate) async fn count(
    staging: &mut Staging<'_>,
    app: AppId,
    user: &UserId,
    joined: i64,
    owned: i64,
) -> Result<(), Error> {
    let GroupsOfUserRecord { joined: was_joined, owned: was_owned, left } = counts_of(staging, app, user).await?;
    let counts = GroupsOfUserRecord { joined: add(was_joined, joined), owned: add(was_owned, owned), left };
    put_counts(staging, app, user, &counts);
    Ok(())
}

/// Counts the groups of which is kept what a user may still see. How many they are now.
pub(crate) async fn count_left(staging: &mut Staging<'_>, app: AppId, user: &UserId, by: i64) -> Result<u32, Error> {
    let counts = counts_of(staging, app, user).await?;
    let counts = GroupsOfUserRecord { left: add(counts.left, by), ..counts };
    put_counts(staging, app, user, &counts);
    Ok(counts.left)
}

fn add(count: u32, by: i64) -> u32 {
    u32::try_from((i64::from(count) + by).max(0)).unwrap_or(u32::MAX)
}

fn put_counts(staging: &mut Staging<'_>, app: AppId, user: &UserId, counts: &GroupsOfUserRecord) {
    let key = keys::groups_of_user(app, user);
    match *counts == GroupsOfUserRecord::default() {
        true => staging.clear(&key),
        false => staging.set(key, counts.encode_to_vec()),
    }
}
