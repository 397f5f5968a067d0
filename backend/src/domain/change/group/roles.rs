//! What members are, what they may, and what they are called (GRP-09, GRP-14, GRP-21).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use protocol::message::{GroupRole, GroupTips, group_tips};

use super::{
    MEMBER_FIELD_BYTES_MAX, MemberUpdate, NAME_CARD_BYTES_MAX, Outcomes, check_fields, ensure, leaving::ensure_above,
    life, set_fields,
};
use crate::{
    domain::{
        AppId, Error, GroupId, UserId,
        act::{Answer, Author, Staging},
        callbacks::{GroupMemberChanged, Happened},
        change::{Change, conversation},
        damaged,
        groups::{
            Refusal, access,
            entering::tips,
            records::{GroupRecord, JoinedRecord, MemberRecord},
        },
        keys::{self, Tail},
        send::group::append_tips,
    },
    store::ReadMode,
};

/// Administrators that a live room may have, who need not be in it (the hosted original's limit).
const ROOM_ADMINS_MAX: usize = 5;

pub(super) fn check(update: &MemberUpdate) -> Result<(), Error> {
    let is_given = update.role.is_none_or(|role| matches!(role, GroupRole::Admin | GroupRole::Member));
    ensure(is_given, "role must be ADMIN or MEMBER")?;
    let fits = update.name_card.as_ref().is_none_or(|name| name.len() <= NAME_CARD_BYTES_MAX);
    ensure(fits, "name_card must have at most 50 bytes")
}

/// Forbids members to write for a time, or lets them write again.
pub(super) async fn mute(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    users: &[UserId],
    seconds: u32,
) -> Result<Answer, Error> {
    let app = change.app;
    let record = access::load(staging, app, group).await?;
    let rules = record.rules()?;
    let role = access::role(staging, app, group, &change.user).await?;
    if !rules.mutes {
        return Err(Refusal::RightMissing.into());
    }
    access::ensure(rules.mutes(), change.by, role)?;
    let mut outcomes: Outcomes = Vec::with_capacity(users.len());
    let mut muted = Vec::new();
    staging.start_reads(users.iter().map(|user| keys::member(app, group, user)));
    for user in users {
        let known = access::member(staging, app, group, user).await?;
        // Who is in a live room is not kept; whom it knows of is.
        let known = match known {
            None if rules.is_room() && life::has_account(staging, app, user).await? => Some(MemberRecord::default()),
            known => known,
        };
        let outcome = match &known {
            None => Err(Refusal::UserUnknown),
            Some(member) => ensure_above(change.by, role, member.role()),
        };
        muted.extend(known.filter(|_| outcome.is_ok()).map(|member| (user.clone(), member)));
        outcomes.push((user.clone(), outcome));
    }
    if !muted.is_empty() {
        change.take_group_rate(staging, group).await?;
    }
    let until_ms = match seconds {
        0 => 0,
        u32::MAX => u64::MAX >> 1,
        seconds => staging.now_ms + u64::from(seconds) * 1000,
    };
    for (user, member) in &muted {
        if rules.is_room() {
            staging.tx.set(keys::group_trace(app, user, group), Bytes::new());
        }
        let key = keys::member(app, group, user);
        let member = MemberRecord { muted_until_ms: until_ms, ..member.clone() };
        match member == MemberRecord::default() {
            true => staging.clear(&key),
            false => staging.set(key, member.encode_to_vec()),
        }
    }
    if !muted.is_empty() {
        let changed = BTreeMap::from([("muted_until_ms".to_owned(), Bytes::from(until_ms.to_string()))]);
        let users = muted.iter().map(|(user, _)| user.to_string()).collect();
        let tips = tips(group_tips::Kind::MemberChanged, group, change.user.as_str(), users);
        tell(staging, change, group, &record, GroupTips { changed, ..tips }).await?;
    }
    Ok(Answer::GroupUsers(outcomes))
}

/// Changes what a member is, or is called.
pub(super) async fn update(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    user: &UserId,
    update: &MemberUpdate,
) -> Result<Answer, Error> {
    let app = change.app;
    let mut record = access::load(staging, app, group).await?;
    let before = judge(staging, change, group, &record, user, update).await?;
    let mut now = before.clone();
    if let Some(name_card) = &update.name_card {
        now.name_card.clone_from(name_card);
    }
    set_fields(&mut now.custom, &update.custom);
    let changed = differences(&before, &now);
    let is_admin = before.role() == GroupRole::Admin;
    let role = update.role.filter(|role| (*role == GroupRole::Admin) != is_admin);
    if changed.is_empty() && role.is_none() {
        return Ok(Answer::Done);
    }
    change.take_group_rate(staging, group).await?;
    if !changed.is_empty() {
        staging.set(keys::member(app, group, user), now.encode_to_vec());
        let tips = GroupTips { changed, ..tips_of(change, group, group_tips::Kind::MemberChanged, user) };
        tell(staging, change, group, &record, tips).await?;
    }
    if let Some(role) = role {
        let kind = match role {
            GroupRole::Admin => group_tips::Kind::AdminSet,
            _ => group_tips::Kind::AdminUnset,
        };
        put(staging, app, group, &mut record, user, now.clone(), role).await?;
        tell(staging, change, group, &record, tips_of(change, group, kind, user)).await?;
    }
    let name_card = (now.name_card != before.name_card).then_some(now.name_card);
    tell_application(staging, change, group, &record, user, role, name_card).await?;
    Ok(Answer::Done)
}

/// Refuses what may not be changed. Returns the member, as he is; of a live room whoever has an account.
async fn judge(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    record: &GroupRecord,
    user: &UserId,
    update: &MemberUpdate,
) -> Result<MemberRecord, Error> {
    let (app, rules) = (change.app, record.rules()?);
    let own = access::role(staging, app, group, &change.user).await?;
    if change.by == Author::User && own == GroupRole::None {
        return Err(Refusal::RightMissing.into());
    }
    if update.role.is_some() {
        access::ensure(rules.names_admins(), change.by, own)?;
    }
    let names = update.name_card.is_some() || !update.custom.is_empty();
    if names && rules.is_room() {
        return Err(Refusal::RightMissing.into()); // it does not keep its members
    }
    let member = match access::member(staging, app, group, user).await? {
        None if rules.is_room() && life::has_account(staging, app, user).await? => MemberRecord::default(),
        known => known.ok_or(Refusal::UserUnknown)?,
    };
    let is_own = *user == change.user;
    if names && change.by == Author::User && !is_own && (own < GroupRole::Admin || own <= member.role()) {
        return Err(Refusal::RightMissing.into());
    }
    if update.role.is_some() && member.role() == GroupRole::Owner {
        return Err(Refusal::RightMissing.into()); // until the group is given to another
    }
    if rules.is_room() && update.role == Some(GroupRole::Admin) && member.role() == GroupRole::None {
        let kept = access::members(staging.tx, app, group, ReadMode::Serializable).await?;
        if kept.iter().filter(|(_, member)| member.role() == GroupRole::Admin).count() >= ROOM_ADMINS_MAX {
            return Err(Error::ListFull("a live room has at most 5 administrators"));
        }
    }
    let settings = staging.settings(app).await?;
    check_fields(&update.custom, &settings.group_member_custom_fields, MEMBER_FIELD_BYTES_MAX)?;
    Ok(member)
}

/// Has so many messages be unread for a member. Where nothing is counted there is nothing to set (GRP-15).
pub(super) async fn set_unread(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    member: &UserId,
    count: u32,
) -> Result<Answer, Error> {
    let record = access::load(staging, change.app, group).await?;
    if !record.rules()?.counts_unread {
        return Err(Refusal::RightMissing.into());
    }
    access::member(staging, change.app, group, member).await?.ok_or(Refusal::UserUnknown)?;
    conversation::set_unread(staging, change.app, group, member, count).await?;
    Ok(Answer::Done)
}

/// What has changed of what a member is called, by the names of the fields.
fn differences(before: &MemberRecord, now: &MemberRecord) -> BTreeMap<String, Bytes> {
    let card = (now.name_card != before.name_card).then(|| ("name_card".to_owned(), now.name_card.clone().into()));
    let names: BTreeSet<&String> = before.custom.keys().chain(now.custom.keys()).collect();
    let fields = names.into_iter().filter(|name| before.custom.get(*name) != now.custom.get(*name));
    let fields = fields.map(|name| (format!("custom.{name}"), now.custom.get(name).cloned().unwrap_or_default()));
    card.into_iter().chain(fields).collect()
}

fn tips_of(change: &Change, group: &GroupId, kind: group_tips::Kind, user: &UserId) -> GroupTips {
    tips(kind, group, change.user.as_str(), vec![user.to_string()])
}

/// Tells the group, where the type wants members to know of each other's changes (GRP-12).
async fn tell(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    record: &GroupRecord,
    tips: GroupTips,
) -> Result<(), Error> {
    match record.rules()?.tells_member_changes {
        true => append_tips(staging, change.app, group, record, tips).await,
        false => Ok(()),
    }
}

/// Queues for the application's server what has changed of a member, if it wants to hear of such.
async fn tell_application(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    record: &GroupRecord,
    user: &UserId,
    role: Option<GroupRole>,
    name_card: Option<String>,
) -> Result<(), Error> {
    if role.is_none() && name_card.is_none() {
        return Ok(());
    }
    let changed = GroupMemberChanged {
        group: group.to_string(),
        kind: record.kind,
        by: change.user.to_string(),
        user: user.to_string(),
        role: role.map(i32::from),
        name_card,
    };
    staging.tell_application(change.app, &Tail::from(group), Happened::GroupMemberChanged(changed)).await
}

/// Gives a member a role. Writes the group's record, too: who leads a group is written with it.
pub(super) async fn put(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    record: &mut GroupRecord,
    user: &UserId,
    member: MemberRecord,
    role: GroupRole,
) -> Result<(), Error> {
    if !record.rules()?.is_room() {
        put_role(staging, app, group, user, member, role).await?;
        staging.set(keys::group(app, group), record.encode_to_vec());
        return Ok(());
    }
    // Nobody is a mere member of it, as far as it is kept.
    let role = if role > GroupRole::Member { role } else { GroupRole::None };
    put_in_room(staging, app, group, record, user, member, role).await
}

/// Has somebody lead a live room, or not any more: only those who do are counted. Writes the group's record, too.
pub(super) async fn put_in_room(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    record: &mut GroupRecord,
    user: &UserId,
    member: MemberRecord,
    role: GroupRole,
) -> Result<(), Error> {
    let is_kept = |role| role != GroupRole::None;
    let (before, muted_until_ms) = (member.role(), member.muted_until_ms);
    record.member_count += u32::from(is_kept(role));
    record.member_count = record.member_count.saturating_sub(u32::from(is_kept(before)));
    staging.set(keys::group(app, group), record.encode_to_vec());
    staging.tx.set(keys::group_trace(app, user, group), Bytes::new());
    let key = keys::member(app, group, user);
    let now = match is_kept(role) {
        true => MemberRecord { role: role.into(), joined_ms: staging.now_ms, ..member },
        false => MemberRecord { muted_until_ms, ..MemberRecord::default() },
    };
    match now == MemberRecord::default() {
        true => staging.clear(&key),
        false => staging.set(key, now.encode_to_vec()),
    }
    Ok(())
}

/// Writes a member's role wherever it stands.
async fn put_role(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    user: &UserId,
    member: MemberRecord,
    role: GroupRole,
) -> Result<(), Error> {
    staging.set(keys::member(app, group, user), MemberRecord { role: role.into(), ..member }.encode_to_vec());
    let key = keys::joined_group(app, user, group);
    if let Some(stored) = staging.get(&key).await? {
        let joined = JoinedRecord::decode(stored).map_err(|_| damaged("joined group"))?;
        staging.set(key, JoinedRecord { role: role.into(), ..joined }.encode_to_vec());
    }
    Ok(())
}
