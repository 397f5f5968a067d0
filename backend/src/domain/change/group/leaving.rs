//! Who goes out of a group, or is kept out of it (GRP-08, GRP-10).

use prost::Message as _;
use protocol::{
    EncodedPush,
    message::{GroupLeft, GroupPush, GroupRole, group_left::Why, group_push, group_tips},
};

use super::Outcomes;
use crate::domain::{
    Error, GroupId, UserId,
    act::{Answer, Author, Staging},
    change::Change,
    groups::{
        Refusal, access,
        entering::{self, Telling},
        records::{GroupBanRecord, MemberRecord},
        table::Who,
    },
    keys,
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
    if role == GroupRole::Owner && !rules.owner_leaves && !rules.is_room() {
        return Err(Refusal::RightMissing.into());
    }
    if rules.is_room() {
        return Ok(Answer::Done);
    }
    let Some(member) = known else {
        return if staging.again { Ok(Answer::Done) } else { Err(Refusal::RightMissing.into()) };
    };
    let telling = Telling { by: user.as_str(), tips: Some(group_tips::Kind::Left) };
    let leavers = [(user.clone(), member)];
    entering::exit(staging, app, group, &mut record, &leavers, (Why::Left, ""), telling).await?;
    Ok(Answer::Done)
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
        let telling = Telling { by: change.user.as_str(), tips: (!silent).then_some(group_tips::Kind::Removed) };
        entering::exit(staging, app, group, &mut record, &leavers, (Why::Removed, reason), telling).await?;
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
    for user in users {
        let member = access::member(staging, app, group, user).await?;
        let other = member.as_ref().map_or(GroupRole::None, MemberRecord::role);
        let outcome = ensure_above(change.by, role, other);
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
            }
        }
    }
    if seconds == 0 {
        return Ok(Answer::GroupUsers(outcomes));
    }
    if rules.is_room() {
        push_out(staging, change, group, &outcomes, reason);
    } else if !leavers.is_empty() {
        let telling = Telling { by: change.user.as_str(), tips: Some(group_tips::Kind::Removed) };
        entering::exit(staging, app, group, &mut record, &leavers, (Why::Removed, reason), telling).await?;
    }
    Ok(Answer::GroupUsers(outcomes))
}

/// Tells users that they are out of a live room, and has their sessions leave it.
fn push_out(staging: &mut Staging<'_>, change: &Change, group: &GroupId, outcomes: &Outcomes, reason: &str) {
    for (user, _) in outcomes.iter().filter(|(_, outcome)| outcome.is_ok()) {
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
}
