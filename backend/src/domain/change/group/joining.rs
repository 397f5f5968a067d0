//! Who comes into a group: by joining, by an application that is agreed to, by an invitation (GRP-05 to GRP-07,
//! GRP-27).

use prost::Message as _;
use protocol::message::{GroupApplication, GroupApplicationState, GroupJoinOption, GroupRole, event::What, group_tips};

use super::{Outcomes, life};
use crate::{
    domain::{
        AppId, Error, GroupId, UserId,
        act::{Answer, Author, Staging},
        change::Change,
        damaged,
        groups::{
            Refusal, access,
            entering::{self, Entrant, Telling},
            records::{GroupApplicationRecord, GroupBanRecord, GroupRecord},
            table::Who,
        },
        keys,
    },
    store::ReadMode,
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
    ensure_not_banned(staging, app, group, user).await?;
    if rules.is_room() {
        return Ok(joined());
    }
    admit(staging, app, &record, user).await?;
    if option == GroupJoinOption::Approval {
        return apply(staging, change, group, wording).await;
    }
    let telling = Telling { by: user.as_str(), tips: Some(group_tips::Kind::Joined) };
    let entrants = [Entrant::new(user.clone(), GroupRole::Member)];
    entering::enter(staging, app, group, &mut record, &entrants, telling).await?;
    Ok(joined())
}

fn joined() -> Answer {
    Answer::GroupJoined { applied: false }
}

/// Refuses who is kept out for a time.
async fn ensure_not_banned(staging: &mut Staging<'_>, app: AppId, group: &GroupId, user: &UserId) -> Result<(), Error> {
    let Some(stored) = staging.get(&keys::group_ban(app, group, user)).await? else { return Ok(()) };
    let ban = GroupBanRecord::decode(stored).map_err(|_| damaged("group ban"))?;
    if ban.until_ms > staging.now_ms { Err(Refusal::Banned.into()) } else { Ok(()) }
}

/// Refuses one more member where there is no room, in the group or among the user's groups.
async fn admit(staging: &mut Staging<'_>, app: AppId, record: &GroupRecord, user: &UserId) -> Result<(), Error> {
    let settings = staging.settings(app).await?;
    if record.rules()?.members_max(&settings, record.member_max).is_some_and(|max| record.member_count >= max) {
        return Err(Refusal::Full.into());
    }
    match entering::counts_of(staging, app, user).await?.joined >= settings.groups_joined_max {
        true => Err(Refusal::GroupsFull.into()),
        false => Ok(()),
    }
}

/// Stores an application, and tells those who decide, and the applicant's devices.
async fn apply(staging: &mut Staging<'_>, change: &Change, group: &GroupId, wording: &str) -> Result<Answer, Error> {
    let (app, user) = (change.app, &change.user);
    let record = GroupApplicationRecord { wording: wording.to_owned(), time_ms: staging.now_ms };
    staging.set(keys::group_application(app, group, user), record.encode_to_vec());
    let told = GroupApplication {
        group: group.to_string(),
        user: user.to_string(),
        wording: wording.to_owned(),
        time_ms: staging.now_ms,
        ..GroupApplication::default()
    };
    tell(staging, app, group, user, &told).await?;
    Ok(Answer::GroupJoined { applied: true })
}

/// Tells the applicant, and everybody who decides about applications.
async fn tell(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    applicant: &UserId,
    told: &GroupApplication,
) -> Result<(), Error> {
    let members = access::members(staging.tx, app, group, ReadMode::Serializable).await?;
    let leads = |role| matches!(role, GroupRole::Owner | GroupRole::Admin);
    let leaders = members.iter().filter(|(_, member)| leads(member.role())).map(|(user, _)| user);
    for user in leaders.chain([applicant]) {
        staging.append_stored(app, user, &What::GroupApplication(told.clone()));
    }
    Ok(())
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
    let Some(stored) = staging.get(&key).await? else {
        return if staging.again { Ok(Answer::Done) } else { Err(Refusal::ApplicationUnknown.into()) };
    };
    let application = GroupApplicationRecord::decode(stored).map_err(|_| damaged("group application"))?;
    if agree {
        life::ensure_account(staging, app, applicant).await?;
        ensure_not_banned(staging, app, group, applicant).await?;
        admit(staging, app, &record, applicant).await?;
    }
    staging.clear(&key);
    let state = if agree { GroupApplicationState::Agreed } else { GroupApplicationState::Refused };
    let told = GroupApplication {
        group: group.to_string(),
        user: applicant.to_string(),
        wording: application.wording,
        time_ms: application.time_ms,
        state: state.into(),
        by: change.user.to_string(),
        text: text.to_owned(),
    };
    tell(staging, app, group, applicant, &told).await?;
    if agree {
        let telling = Telling { by: change.user.as_str(), tips: Some(group_tips::Kind::Joined) };
        let entrants = [Entrant::new(applicant.clone(), GroupRole::Member)];
        entering::enter(staging, app, group, &mut record, &entrants, telling).await?;
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
        let tips = (!silent).then_some(group_tips::Kind::Invited);
        let telling = Telling { by: change.user.as_str(), tips };
        entering::enter(staging, app, group, &mut record, &entrants, telling).await?;
    }
    Ok(Answer::GroupUsers(outcomes))
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
        ensure_not_banned(staging, change.app, group, user).await?;
        admit(staging, change.app, record, user).await
    };
    match checks(staging).await {
        Ok(()) => Ok(Ok(())),
        Err(Error::Group(refusal)) => Ok(Err(refusal)),
        Err(error) => Err(error),
    }
}
