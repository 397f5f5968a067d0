//! What every act on a group begins with: the group, who asks, and whether that is allowed.

use bytes::Bytes;
use prost::Message as _;
use protocol::{
    EncodedEvent,
    message::{GroupRole, GroupType, Message},
};

use super::{
    Refusal,
    records::{FormerRecord, GroupBanRecord, GroupRecord, MemberRecord},
    table::{self, Rules, Who},
};
use crate::{
    domain::{
        AppId, Error, GroupId, UserId,
        act::{Author, Staging},
        damaged,
        keys::{self, Tail},
        mute,
        records::EventKind,
        sync::decode_message,
    },
    store::{RangeQuery, ReadMode, Tx},
};

/// Members whose rows are read at a time.
const PAGE: usize = 1_000;

pub(crate) fn decode_group(stored: Bytes) -> Result<GroupRecord, Error> {
    GroupRecord::decode(stored).map_err(|_| damaged("group record"))
}

pub(crate) fn decode_member(stored: Bytes) -> Result<MemberRecord, Error> {
    MemberRecord::decode(stored).map_err(|_| damaged("group member record"))
}

impl GroupRecord {
    /// What its type allows.
    pub(crate) fn rules(&self) -> Result<&'static Rules, Error> {
        let kind = GroupType::try_from(self.kind).unwrap_or_default();
        table::rules(kind).ok_or_else(|| damaged("group type"))
    }

    /// When it was made, in seconds since the Unix epoch.
    pub(crate) fn made_s(&self) -> u64 {
        self.created_ms / 1000
    }
}

impl MemberRecord {
    /// What the member is in the group.
    pub(crate) fn role(&self) -> GroupRole {
        GroupRole::try_from(self.role).unwrap_or_default()
    }
}

/// A group; the transaction fails if it changes until the commit.
pub(crate) async fn load(staging: &mut Staging<'_>, app: AppId, group: &GroupId) -> Result<GroupRecord, Error> {
    let stored = staging.get(&keys::group(app, group)).await?;
    decode_group(stored.ok_or(Refusal::Unknown)?)
}

/// What a group knows of a user, if it does.
pub(crate) async fn member(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    user: &UserId,
) -> Result<Option<MemberRecord>, Error> {
    staging.get(&keys::member(app, group, user)).await?.map(decode_member).transpose()
}

/// The role that a user has in a group.
pub(crate) async fn role(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    user: &UserId,
) -> Result<GroupRole, Error> {
    Ok(member(staging, app, group, user).await?.map_or(GroupRole::None, |member| member.role()))
}

/// Refuses who is not among `who`: administrators of the application as such, users by their role.
pub(crate) fn ensure(who: Who, by: Author, role: GroupRole) -> Result<(), Error> {
    let may = match by {
        Author::Admin => who.app_admin,
        Author::User => who.includes(role),
    };
    if may { Ok(()) } else { Err(Refusal::RightMissing.into()) }
}

/// Refuses who may not write in a group.
pub(crate) async fn ensure_may_speak(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    record: &GroupRecord,
    user: &UserId,
    by: Author,
) -> Result<Option<MemberRecord>, Error> {
    let known = member(staging, app, group, user).await?;
    if by == Author::Admin {
        return Ok(known);
    }
    let role = known.as_ref().map_or(GroupRole::None, MemberRecord::role);
    // Who is in a live room now only the gateway knows.
    if role == GroupRole::None && !record.rules()?.is_room() {
        return Err(Refusal::RightMissing.into());
    }
    let leads = matches!(role, GroupRole::Owner | GroupRole::Admin);
    let is_muted = known.as_ref().is_some_and(|known| known.muted_until_ms > staging.now_ms);
    if is_muted || record.muted_all && !leads || mute::is_muted_in_groups(staging, app, user).await? {
        return Err(Refusal::Muted.into());
    }
    Ok(known)
}

/// Refuses who is kept out for a time.
pub(crate) async fn ensure_not_banned(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    user: &UserId,
) -> Result<(), Error> {
    let Some(stored) = staging.get(&keys::group_ban(app, group, user)).await? else { return Ok(()) };
    let ban = GroupBanRecord::decode(stored).map_err(|_| damaged("group ban"))?;
    if ban.until_ms > staging.now_ms { Err(Refusal::Banned.into()) } else { Ok(()) }
}

/// There is no such group, as an error.
pub(crate) fn unknown() -> Error {
    Refusal::Unknown.into()
}

/// Messages of a group that a user can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// What a user can see of a group whose newest message is `head`, oldest first: what was said while the user was in
/// it. Refuses who never was.
pub(crate) async fn spans(tx: &Tx, app: AppId, group: &GroupId, user: &UserId, head: u64) -> Result<Vec<Span>, Error> {
    let (former, member) = (tx.snapshot_get(&keys::former_group(app, user, group)), keys::member(app, group, user));
    let member = tx.snapshot_get(&member).await?.map(decode_member).transpose()?;
    let former = FormerRecord::decode(former.await?.unwrap_or_default()).map_err(|_| damaged("former group"))?;
    let left = former.spans.iter().map(|span| Span { first: span.first_seq, last: span.last_seq });
    let present = member.filter(|member| member.role() != GroupRole::None);
    // Of a live room nothing is kept: what may be there is an earlier group's of the same id.
    let first = |member: MemberRecord| if member.first_seq == 0 { head.saturating_add(1) } else { member.first_seq };
    let now = present.map(|member| Span { first: first(member), last: head });
    let spans: Vec<Span> = left.chain(now).collect();
    if spans.is_empty() {
        let is_there = tx.snapshot_get(&keys::group(app, group)).await?.is_some();
        return Err(if is_there { Refusal::RightMissing.into() } else { unknown() });
    }
    Ok(spans)
}

/// Refuses what a user can't see of a group.
pub(crate) async fn ensure_sees(tx: &Tx, app: AppId, group: &GroupId, user: &UserId, seq: u64) -> Result<(), Error> {
    let stored = tx.snapshot_get(&Tail::from(group).message(app, seq));
    let spans = spans(tx, app, group, user, u64::MAX).await?;
    let is_in_view = spans.iter().any(|span| (span.first..=span.last).contains(&seq));
    let message = stored.await?.map(decode_message).transpose()?;
    match is_in_view && message.is_none_or(|message| is_for(&message, user)) {
        true => Ok(()),
        false => Err(Refusal::MessageUnknown.into()),
    }
}

/// Whether a message of a group is for a user: there are some that are not for all who were there.
pub(crate) fn is_for(message: &Message, user: &UserId) -> bool {
    message.recipients.is_empty()
        || message.from == user.as_str()
        || message.recipients.iter().any(|it| it == user.as_str())
}

/// All members of a group with what it knows of them, by name.
pub(crate) async fn members(
    tx: &Tx,
    app: AppId,
    group: &GroupId,
    mode: ReadMode,
) -> Result<Vec<(UserId, MemberRecord)>, Error> {
    let (mut begin, end) = keys::members(app, group);
    let mut members = Vec::new();
    loop {
        let query = RangeQuery { begin, end: end.clone(), limit: PAGE, reverse: false, mode };
        let page = tx.range(query).await?;
        for (key, stored) in &page.pairs {
            let name = keys::two_names(key).and_then(|(_, user)| UserId::new(&user));
            members.push((name.ok_or_else(|| damaged("group member key"))?, decode_member(stored.clone())?));
        }
        match page.pairs.last() {
            Some((last, _)) if page.more => begin = [&last[..], &[0]].concat().into(),
            _ => return Ok(members),
        }
    }
}

/// Writes what somebody does with message `seq` into the logs of all who receive from a group and see the message, or
/// into the group's own; and into his own, should he act without receiving, for his other devices.
pub(crate) async fn tell(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    record: &GroupRecord,
    actor: &UserId,
    seq: u64,
    (kind, event): (EventKind, EncodedEvent),
) -> Result<(), Error> {
    let stored = staging.get(&Tail::from(group).message(app, seq)).await?;
    let message = stored.map(decode_message).transpose()?.unwrap_or_default();
    let stamp = if !message.recipients.is_empty() {
        let all = members(staging.tx, app, group, ReadMode::Serializable).await?;
        let hears = |(user, member): &(UserId, MemberRecord)| !member.deaf && is_for(&message, user);
        let stamp = staging.next_stamp();
        for (user, _) in all.iter().filter(|member| hears(member)) {
            staging.append_at(stamp, app, user, kind.clone(), event.clone());
        }
        stamp
    } else if seq >= record.newest_first_seq {
        let receivers = receivers(staging, app, group, record).await?;
        staging.append_to_group(app, group, receivers.as_deref(), kind.clone(), event.clone())
    } else {
        // Some have come since.
        let all = members(staging.tx, app, group, ReadMode::Serializable).await?;
        let sees = |(user, member): (UserId, MemberRecord)| (!member.deaf && member.first_seq <= seq).then_some(user);
        let seers: Vec<UserId> = all.into_iter().filter_map(sees).collect();
        staging.append_to_some(app, group, record.is_large, &seers, kind.clone(), event.clone())
    };
    if member(staging, app, group, actor).await?.is_some_and(|member| member.deaf) {
        staging.append_at(stamp, app, actor, kind, event);
    }
    Ok(())
}

/// Who has what happens in the group written into a log of his own: all who receive from it. `None`: the group is large,
/// and has one log for all.
pub(crate) async fn receivers(
    staging: &Staging<'_>,
    app: AppId,
    group: &GroupId,
    record: &GroupRecord,
) -> Result<Option<Vec<UserId>>, Error> {
    if record.is_large {
        return Ok(None);
    }
    let all = members(staging.tx, app, group, ReadMode::Serializable).await?;
    let receives = |(user, member): (UserId, MemberRecord)| (!member.deaf).then_some(user);
    Ok(Some(all.into_iter().filter_map(receives).collect()))
}
