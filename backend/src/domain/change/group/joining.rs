//! Who comes into a group: by joining, by an application that is agreed to, by an invitation (GRP-05 to GRP-07,
//! GRP-27).

use std::collections::HashSet;

use bytes::Bytes;
use prost::Message as _;
use protocol::message::{GroupApplicationState, GroupJoinOption, GroupRole, group_tips};

use super::{ImportedMember, Outcomes, USERS_MAX, ensure, life};
use crate::domain::{
    AppId, Error, GroupId, UserId,
    act::{Answer, Author, Staging},
    callbacks::{GroupFull, GroupJoined, Happened},
    change::{Change, conversation},
    damaged,
    groups::{
        Refusal, access,
        entering::{self, Entrant, Telling},
        records::{GroupApplicationRecord, GroupRecord},
        table::Who,
    },
    keys::{self, Tail},
};

/// Who answers applications.
const LEADERS: Who = Who { member: false, admin: true, owner: true, app_admin: true };

/// Joins a group, or applies for it. In a live room nothing is stored: whoever asks may be let in.
pub(super) async fn join(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    wording: &str,
) -> Result<Answer, Error> {
    let (app, user) = (change.app, &change.user);
    let mut record = access::load(staging, app, group).await?;
    let rules = record.rules()?;
    let is_member = access::role(staging, app, group, user).await? != GroupRole::None;
    if is_member && !rules.is_room() {
        return if staging.again { Ok(joined()) } else { Err(Refusal::MemberAlready.into()) };
    }
    let option = match GroupJoinOption::try_from(record.join_option).unwrap_or_default() {
        GroupJoinOption::Default => rules.join,
        option => option,
    };
    if option == GroupJoinOption::Forbidden && !is_member {
        return Err(Refusal::RightMissing.into());
    }
    life::ensure_account(staging, app, user).await?;
    access::ensure_not_banned(staging, app, group, user).await?;
    if rules.is_room() {
        return Ok(joined());
    }
    admit_or_tell(staging, app, group, &record, user).await?;
    if option == GroupJoinOption::Approval {
        return apply(staging, change, group, wording).await;
    }
    let telling = Telling { by: user.as_str(), tips: Some(group_tips::Kind::Joined), quiet: false };
    let entrants = [Entrant::new(user.clone(), GroupRole::Member)];
    entering::enter(staging, app, group, &mut record, &entrants, telling).await?;
    tell_application(staging, change, group, &record, &entrants, false).await?;
    Ok(joined())
}

fn joined() -> Answer {
    Answer::GroupJoined { applied: false }
}

/// Refuses one more member where there is no room, in the group or among the user's groups.
async fn admit(staging: &mut Staging<'_>, app: AppId, record: &GroupRecord, user: &UserId) -> Result<(), Error> {
    let settings = staging.settings(app).await?;
    if record.rules()?.members_max(&settings, record.member_max).is_some_and(|max| record.member_count >= max) {
        return Err(Refusal::Full.into());
    }
    // Of a group that nobody has been told of he is no member yet, as far as he knows.
    let has_room =
        !record.is_active || entering::counts_of(staging, app, user).await?.joined < settings.groups_joined_max;
    if has_room { Ok(()) } else { Err(Refusal::GroupsFull.into()) }
}

/// The same; the application's server is told if it is for want of room.
async fn admit_or_tell(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    record: &GroupRecord,
    user: &UserId,
) -> Result<(), Error> {
    let admitted = admit(staging, app, record, user).await;
    if admitted == Err(Refusal::Full.into()) {
        tell_full(staging, app, group).await?;
    }
    admitted
}

/// Stores an application, and tells those who decide, and the applicant's devices.
async fn apply(staging: &mut Staging<'_>, change: &Change, group: &GroupId, wording: &str) -> Result<Answer, Error> {
    let (app, user) = (change.app, &change.user);
    let record = GroupApplicationRecord { wording: wording.to_owned(), time_ms: staging.now_ms };
    let key = keys::group_application(app, group, user);
    if let Some(stored) = staging.get(&key).await?.filter(|_| !staging.again) {
        let before = GroupApplicationRecord::decode(stored).map_err(|_| damaged("group application"))?;
        // Who decides knows of it: telling it again would be an entry in several logs each time.
        if before.wording == record.wording {
            return Ok(Answer::GroupJoined { applied: true });
        }
        change.take_group_rate(staging, group).await?;
    }
    staging.set(key, record.encode_to_vec());
    staging.tx.set(keys::group_trace(app, user, group), Bytes::new());
    entering::tell_application(staging, app, group, user, record, GroupApplicationState::Open, "", "").await?;
    Ok(Answer::GroupJoined { applied: true })
}

/// Answers an application.
pub(super) async fn answer(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    applicant: &UserId,
    agree: bool,
    text: &str,
) -> Result<Answer, Error> {
    let app = change.app;
    let mut record = access::load(staging, app, group).await?;
    let role = access::role(staging, app, group, &change.user).await?;
    access::ensure(LEADERS, change.by, role)?;
    let key = keys::group_application(app, group, applicant);
    if staging.get(&key).await?.is_none() {
        return if staging.again { Ok(Answer::Done) } else { Err(Refusal::ApplicationUnknown.into()) };
    }
    if agree {
        life::ensure_account(staging, app, applicant).await?;
        access::ensure_not_banned(staging, app, group, applicant).await?;
        admit_or_tell(staging, app, group, &record, applicant).await?;
    }
    let state = if agree { GroupApplicationState::Agreed } else { GroupApplicationState::Refused };
    entering::drop_application(staging, app, group, applicant, state, change.user.as_str(), text).await?;
    if agree {
        let telling = Telling { by: change.user.as_str(), tips: Some(group_tips::Kind::Joined), quiet: false };
        let entrants = [Entrant::new(applicant.clone(), GroupRole::Member)];
        entering::enter(staging, app, group, &mut record, &entrants, telling).await?;
        tell_application(staging, change, group, &record, &entrants, false).await?;
    }
    Ok(Answer::Done)
}

/// Brings users into a group who need not agree; an administrator of the application into any that keeps members.
pub(super) async fn invite(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    users: &[UserId],
    silent: bool,
) -> Result<Answer, Error> {
    let app = change.app;
    let mut record = access::load(staging, app, group).await?;
    let rules = record.rules()?;
    let role = access::role(staging, app, group, &change.user).await?;
    let may = match change.by {
        Author::Admin => !rules.is_room(),
        Author::User => rules.invites && role != GroupRole::None,
    };
    if !may {
        return Err(Refusal::RightMissing.into());
    }
    let mut outcomes: Outcomes = Vec::with_capacity(users.len());
    let mut entrants = Vec::new();
    let mut counted = record.clone();
    start_judging(staging, app, group, users.iter());
    for user in users {
        if access::role(staging, app, group, user).await? != GroupRole::None {
            // An earlier run may have brought the user in.
            let outcome = if staging.again { Ok(()) } else { Err(Refusal::MemberAlready) };
            outcomes.push((user.clone(), outcome));
            continue;
        }
        let outcome = judge(staging, change, group, &counted, user).await?;
        if outcome.is_ok() {
            counted.member_count += 1;
            entrants.push(Entrant::new(user.clone(), GroupRole::Member));
        }
        outcomes.push((user.clone(), outcome));
    }
    if !entrants.is_empty() {
        change.take_group_rate(staging, group).await?;
        let tips = (!silent).then_some(group_tips::Kind::Invited);
        let telling = Telling { by: change.user.as_str(), tips, quiet: false };
        entering::enter(staging, app, group, &mut record, &entrants, telling).await?;
        tell_application(staging, change, group, &record, &entrants, true).await?;
    } else if outcomes.iter().any(|(_, outcome)| *outcome == Err(Refusal::Full)) {
        tell_full(staging, app, group).await?;
    }
    Ok(Answer::GroupUsers(outcomes))
}

pub(super) fn check_imported(members: &mut Vec<(UserId, ImportedMember)>) -> Result<(), Error> {
    let mut seen = HashSet::new();
    members.retain(|(user, _)| seen.insert(user.clone()));
    let is_given = |role| matches!(role, GroupRole::Admin | GroupRole::Member);
    ensure(members.iter().all(|(_, member)| member.role.is_none_or(is_given)), "role must be ADMIN or MEMBER")?;
    ensure((1..=USERS_MAX).contains(&members.len()), "members must name 1 to 100 users")
}

/// Brings members of before into a group. Nobody is told.
pub(super) async fn import(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    members: &[(UserId, ImportedMember)],
) -> Result<Answer, Error> {
    let app = change.app;
    let mut record = access::load(staging, app, group).await?;
    let rules = record.rules()?;
    if !rules.is_imported {
        return Err(Refusal::RightMissing.into());
    }
    let mut outcomes: Outcomes = Vec::with_capacity(members.len());
    let mut entrants = Vec::new();
    let mut counted = record.clone();
    start_judging(staging, app, group, members.iter().map(|(user, _)| user));
    for (user, member) in members {
        let role = member.role.unwrap_or(GroupRole::Member);
        let is_past = |joined_ms: u64| (record.made_s()..=staging.now_ms / 1000).contains(&(joined_ms / 1000));
        let is_in_time = member.joined_ms.is_none_or(is_past);
        let outcome = match access::role(staging, app, group, user).await? {
            GroupRole::None if !is_in_time => Err(Refusal::TimeInvalid),
            GroupRole::None if role == GroupRole::Admin && !rules.has_admins => Err(Refusal::RightMissing),
            GroupRole::None => judge(staging, change, group, &counted, user).await?,
            _ if staging.again => {
                outcomes.push((user.clone(), Ok(()))); // an earlier run has brought him in
                continue;
            }
            _ => Err(Refusal::MemberAlready),
        };
        if outcome.is_ok() {
            counted.member_count += 1;
            entrants.push(Entrant { joined_ms: member.joined_ms, ..Entrant::new(user.clone(), role) });
        }
        outcomes.push((user.clone(), outcome));
    }
    if !entrants.is_empty() {
        let telling = Telling { by: change.user.as_str(), tips: None, quiet: true };
        entering::enter(staging, app, group, &mut record, &entrants, telling).await?;
        let entered = members.iter().filter(|(user, _)| entrants.iter().any(|entrant| entrant.user == *user));
        let unread: Vec<_> = entered.map(|(user, member)| (user, member.unread)).collect();
        conversation::put_unread(staging, app, group, &unread).await?;
    }
    Ok(Answer::GroupUsers(outcomes))
}

/// Starts the reads by which these users are judged, one by one: together they take one round trip.
fn start_judging<'u>(staging: &mut Staging<'_>, app: AppId, group: &GroupId, users: impl Iterator<Item = &'u UserId>) {
    staging.start_reads(users.flat_map(|user| {
        [
            keys::member(app, group, user),
            keys::account(app, user),
            keys::group_ban(app, group, user),
            keys::groups_of_user(app, user),
        ]
    }));
}

/// Whether a user can be brought in.
async fn judge(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    record: &GroupRecord,
    user: &UserId,
) -> Result<Result<(), Refusal>, Error> {
    if let Some((_, code)) = change.refused.iter().find(|(refused, _)| refused == user) {
        return Ok(Err(Refusal::ByApplication(*code)));
    }
    let checks = async |staging: &mut Staging<'_>| -> Result<(), Error> {
        life::ensure_account(staging, change.app, user).await?;
        access::ensure_not_banned(staging, change.app, group, user).await?;
        admit(staging, change.app, record, user).await
    };
    match checks(staging).await {
        Ok(()) => Ok(Ok(())),
        Err(Error::Group(refusal)) => Ok(Err(refusal)),
        Err(error) => Err(error),
    }
}

/// Queues for the application's server who has become a member, and that the group is full now, if it is.
async fn tell_application(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    record: &GroupRecord,
    entrants: &[Entrant],
    is_invited: bool,
) -> Result<(), Error> {
    let app = change.app;
    let joined = GroupJoined {
        group: group.to_string(),
        kind: record.kind,
        by: change.user.to_string(),
        users: entrants.iter().map(|entrant| entrant.user.to_string()).collect(),
        is_invited,
    };
    staging.tell_application(app, &Tail::from(group), Happened::GroupJoined(joined)).await?;
    let settings = staging.settings(app).await?;
    match record.rules()?.members_max(&settings, record.member_max) {
        Some(max) if record.member_count >= max => tell_full(staging, app, group).await,
        _ => Ok(()),
    }
}

/// Queues for the application's server that a group is full: so also for each who was refused for it.
async fn tell_full(staging: &mut Staging<'_>, app: AppId, group: &GroupId) -> Result<(), Error> {
    let full = Happened::GroupFull(GroupFull { group: group.to_string() });
    staging.tell_application(app, &Tail::from(group), full).await
}
