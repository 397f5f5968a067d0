//! Who goes out of a group, or is kept out of it (GRP-08, GRP-10).

use bytes::Bytes;
use prost::Message as _;
use protocol::{
    EncodedPush,
    message::{GroupApplicationState, GroupLeft, GroupPush, GroupRole, group_left::Why, group_push, group_tips},
};

use super::{Outcomes, life, roles};
use crate::domain::{
    Error, GroupId, UserId,
    act::{Answer, Author, Staging},
    callbacks::{GroupExited, Happened},
    change::Change,
    groups::{
        Refusal, access,
        entering::{self, Telling},
        records::{GroupBanRecord, GroupRecord, MemberRecord},
        table::Who,
    },
    keys::{self, Tail},
    send::group::append_tips,
};

/// Users banned in one change, at the most.
const BANNED_TOGETHER_MAX: usize = 20;

/// Leaves a group. A live room keeps nobody: there is nothing to be done.
pub(super) async fn leave(staging: &mut Staging<'_>, change: &Change, group: &GroupId) -> Result<Answer, Error> {
    let (app, user) = (change.app, &change.user);
    let mut record = access::load(staging, app, group).await?;
    let rules = record.rules()?;
    let known = access::member(staging, app, group, user).await?;
    let role = known.as_ref().map_or(GroupRole::None, MemberRecord::role);
    if role == GroupRole::Owner && !rules.owner_leaves {
        return Err(Refusal::OwnerStays.into());
    }
    if rules.is_room() {
        return Ok(Answer::Done);
    }
    let Some(member) = known else {
        return if staging.again { Ok(Answer::Done) } else { Err(Refusal::RightMissing.into()) };
    };
    go(staging, change, group, &mut record, member).await?;
    Ok(Answer::Done)
}

/// Has a member go of himself.
pub(super) async fn go(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    record: &mut GroupRecord,
    member: MemberRecord,
) -> Result<(), Error> {
    let user = &change.user;
    let telling = Telling { by: user.as_str(), tips: Some(group_tips::Kind::Left), quiet: false };
    let leavers = [(user.clone(), member)];
    entering::exit(staging, change.app, group, record, &leavers, (Why::Left, ""), telling).await?;
    tell_application(staging, change, group, record, &leavers, false).await
}

/// Whether somebody may remove, or mute, a member: nobody the owner, and administrators no administrators.
pub(super) fn ensure_above(by: Author, role: GroupRole, other: GroupRole) -> Result<(), Refusal> {
    let is_above = match (by, role) {
        (Author::Admin, _) => true,
        (Author::User, role) => role > other,
    };
    if is_above && other != GroupRole::Owner { Ok(()) } else { Err(Refusal::RightMissing) }
}

/// Removes members.
pub(super) async fn remove(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    users: &[UserId],
    reason: &str,
    silent: bool,
) -> Result<Answer, Error> {
    let app = change.app;
    let mut record = access::load(staging, app, group).await?;
    let role = access::role(staging, app, group, &change.user).await?;
    access::ensure(record.rules()?.removes, change.by, role)?;
    let mut outcomes: Outcomes = Vec::with_capacity(users.len());
    let mut leavers = Vec::new();
    staging.start_reads(users.iter().map(|user| keys::member(app, group, user)));
    for user in users {
        let outcome = match access::member(staging, app, group, user).await? {
            None if staging.again => Ok(()),
            None => Err(Refusal::UserUnknown),
            Some(member) => {
                let may = ensure_above(change.by, role, member.role());
                leavers.extend(may.is_ok().then(|| (user.clone(), member)));
                may
            }
        };
        outcomes.push((user.clone(), outcome));
    }
    if !leavers.is_empty() {
        let telling =
            Telling { by: change.user.as_str(), tips: (!silent).then_some(group_tips::Kind::Removed), quiet: false };
        entering::exit(staging, app, group, &mut record, &leavers, (Why::Removed, reason), telling).await?;
        tell_application(staging, change, group, &record, &leavers, true).await?;
    }
    Ok(Answer::GroupUsers(outcomes))
}

/// Removes users and keeps them out for a time, or lets them in again.
pub(super) async fn ban(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    users: &[UserId],
    seconds: u32,
    reason: &str,
) -> Result<Answer, Error> {
    const LEADERS: Who = Who { member: false, admin: true, owner: true, app_admin: true };
    if users.len() > BANNED_TOGETHER_MAX {
        return Err(Error::Argument("at most 20 users are banned at a time"));
    }
    let app = change.app;
    let mut record = access::load(staging, app, group).await?;
    let rules = record.rules()?;
    let role = access::role(staging, app, group, &change.user).await?;
    // Where members are removed, by whom they are; in a live room by whoever leads it.
    access::ensure(if rules.is_room() { LEADERS } else { rules.removes }, change.by, role)?;
    let mut outcomes: Outcomes = Vec::with_capacity(users.len());
    let mut leavers = Vec::new();
    staging.start_reads(users.iter().flat_map(|user| {
        [keys::member(app, group, user), keys::account(app, user), keys::group_application(app, group, user)]
    }));
    for user in users {
        let member = access::member(staging, app, group, user).await?;
        let other = member.as_ref().map_or(GroupRole::None, MemberRecord::role);
        let outcome = match ensure_above(change.by, role, other) {
            Ok(()) => life::has_account(staging, app, user).await?.then_some(()).ok_or(Refusal::UserUnknown),
            refused => refused,
        };
        leavers.extend(member.filter(|_| outcome.is_ok()).map(|member| (user.clone(), member)));
        outcomes.push((user.clone(), outcome));
    }
    for (user, _) in outcomes.iter().filter(|(_, outcome)| outcome.is_ok()) {
        let key = keys::group_ban(app, group, user);
        match seconds {
            0 => staging.clear(&key),
            seconds => {
                let until_ms = staging.now_ms + u64::from(seconds) * 1000;
                staging.set(key, GroupBanRecord { until_ms }.encode_to_vec());
                staging.tx.set(keys::group_trace(app, user, group), Bytes::new());
                let (state, by) = (GroupApplicationState::Refused, change.user.as_str());
                entering::drop_application(staging, app, group, user, state, by, reason).await?;
            }
        }
    }
    if seconds == 0 {
        return Ok(Answer::GroupUsers(outcomes));
    }
    if rules.is_room() {
        for (user, member) in leavers {
            roles::put_in_room(staging, app, group, &mut record, &user, member, GroupRole::None).await?;
        }
        push_out(staging, change, group, &record, &outcomes, reason).await?;
    } else if !leavers.is_empty() {
        let telling = Telling { by: change.user.as_str(), tips: Some(group_tips::Kind::Removed), quiet: false };
        entering::exit(staging, app, group, &mut record, &leavers, (Why::Removed, reason), telling).await?;
        tell_application(staging, change, group, &record, &leavers, true).await?;
    }
    Ok(Answer::GroupUsers(outcomes))
}

/// Tells users that they are out of a live room, and has their sessions leave it.
async fn push_out(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    record: &GroupRecord,
    outcomes: &Outcomes,
    reason: &str,
) -> Result<(), Error> {
    let out = || outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(user, _)| user);
    for user in out() {
        let left = GroupLeft {
            group: group.to_string(),
            why: Why::Removed.into(),
            by: change.user.to_string(),
            reason: reason.to_owned(),
            last_seq: 0,
        };
        let push = GroupPush { what: Some(group_push::What::Left(left)) };
        staging.push(user.clone(), EncodedPush::group(&push));
        staging.note_membership(user, group, false);
    }
    let users: Vec<String> = out().map(UserId::to_string).collect();
    if users.is_empty() || !record.rules()?.tells_member_changes {
        return Ok(());
    }
    let tips = entering::tips(group_tips::Kind::Removed, group, change.user.as_str(), users);
    append_tips(staging, change.app, group, record, tips).await
}

/// Queues for the application's server who has left, if anybody has.
async fn tell_application(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    record: &GroupRecord,
    leavers: &[(UserId, MemberRecord)],
    is_removed: bool,
) -> Result<(), Error> {
    if leavers.is_empty() {
        return Ok(());
    }
    let exited = GroupExited {
        group: group.to_string(),
        kind: record.kind,
        by: change.user.to_string(),
        users: leavers.iter().map(|(user, _)| user.to_string()).collect(),
        is_removed,
    };
    staging.tell_application(change.app, &Tail::from(group), Happened::GroupExited(exited)).await
}
