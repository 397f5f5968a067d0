//! Who is in a group: reading members, adding and removing them, what they may and are called.

use backend::domain::{
    GroupId, UserId,
    act::Act,
    change::{
        Change, Kind,
        group::{GroupChange, MemberUpdate},
    },
    groups::{
        Refusal, admin,
        admin::Mark,
        read::{self, Asker},
    },
    sync::PageLimit,
};
use protocol::message::{GroupMember, GroupRole, UpdateConversation};
use serde_json::{Map, Value, json};

use super::{
    Outcomes, change, change_users, ensure_some, group_id, info, some_members, user, users,
    words::{self, Filter, custom, wrong},
};
use crate::api::{
    answers::{nothing, object},
    call::Call,
    codes::{self, Failure, of_groups},
    fields::Fields,
    table::Outcome,
};

/// More members a group does not have.
const MEMBERS_MAX: usize = 6_000;
/// Users that one change names, at the most.
const TOGETHER: usize = 100;
/// The same of those who are kept out.
const BANNED_TOGETHER: usize = 20;
/// Who is kept out, on one page.
const BANS_MAX: usize = 100;

/// A field of a member, and how it is told.
type Told = (&'static str, fn(&GroupMember, &Mark) -> Value);

/// What is told of a member, by the published names.
const FIELDS: &[Told] = &[
    ("Role", |member, _| words::role_name(member.role).into()),
    ("JoinTime", |member, _| (member.joined_ms / 1000).into()),
    ("MsgSeq", |_, mark| mark.read_seq.into()),
    ("MsgFlag", |_, mark| words::receive_option_name(mark.receive).into()),
    ("LastSendMsgTime", |member, _| (member.last_sent_ms / 1000).into()),
    ("MuteUntil", |member, _| until_s(member.muted_until_ms).into()),
    // Its older name.
    ("ShutUpUntil", |member, _| until_s(member.muted_until_ms).into()),
    ("NameCard", |member, _| member.name_card.as_str().into()),
];

/// A time to come, in seconds: for ever is the largest number of 32 bits.
fn until_s(until_ms: u64) -> u64 {
    (until_ms / 1000).min(u32::MAX.into())
}

/// What is wanted of members.
pub struct Wanted<'a> {
    base: Filter<'a>,
    custom: Filter<'a>,
}

impl<'a> Wanted<'a> {
    pub const ALL: Wanted<'static> = Wanted { base: Filter::ALL, custom: Filter::ALL };

    pub fn of(fields: Fields<'a>) -> Result<Self, Failure> {
        let base = Filter::of(fields, "MemberInfoFilter")?;
        Ok(Wanted { base, custom: Filter::of(fields, "AppDefinedDataFilter_GroupMember")? })
    }

    /// Members as they are told.
    pub async fn all_to_json(
        &self,
        call: &Call<'_>,
        group: &GroupId,
        members: &[GroupMember],
    ) -> Result<Value, Failure> {
        let marks = match self.base.has("MsgSeq") || self.base.has("MsgFlag") {
            true => {
                let users = members.iter().filter_map(|member| UserId::new(&member.user)).collect();
                admin::marks(&call.shared().store, call.app, group, users).await.map_err(|error| of_groups(&error))?
            }
            false => vec![Mark::default(); members.len()],
        };
        Ok(members.iter().zip(&marks).map(|(member, mark)| self.to_json(member, mark)).collect())
    }

    fn to_json(&self, member: &GroupMember, mark: &Mark) -> Value {
        let mut told = Map::from_iter([("Member_Account".to_owned(), Value::from(member.user.as_str()))]);
        let fields = FIELDS.iter().filter(|(name, _)| self.base.has(name));
        told.extend(fields.map(|(name, value)| ((*name).to_owned(), value(member, mark))));
        if self.custom.is_any() {
            told.insert("AppMemberDefinedData".into(), words::custom_to_json(&member.custom, &self.custom));
        }
        told.into()
    }
}

/// Members with one of these roles, or with any, by name; of a live room those that are kept.
pub async fn read(
    call: &Call<'_>,
    group: &GroupId,
    roles: Vec<GroupRole>,
    members_max: usize,
) -> Result<Vec<GroupMember>, Failure> {
    if members_max == 0 {
        return Ok(Vec::new());
    }
    let limit = PageLimit { entries_max: members_max.min(MEMBERS_MAX), bytes_max: usize::MAX >> 1 };
    let found = read::members(&call.shared().store, call.app, Asker::Admin, group, None, roles, limit).await;
    found.map(|(members, _)| members).map_err(|error| of_groups(&error))
}

/// Tells who is in a group.
pub async fn get(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let (group, wanted) = (group_id(fields)?, Wanted::of(fields)?);
    let number = |field| fields.number(field).map_err(wrong);
    let (limit, offset) = (number("Limit")?.unwrap_or(u64::MAX) as usize, number("Offset")?.unwrap_or(0) as usize);
    let wanted_max = offset.saturating_add(limit);
    let members = read(call, &group, words::roles(fields, "MemberRoleFilter")?, wanted_max).await?;
    let page: Vec<GroupMember> = members.iter().skip(offset).take(limit).cloned().collect();
    let list = wanted.all_to_json(call, &group, &page).await?;
    object(json!({ "MemberNum": info::one(call, &group).await?.member_count, "MemberList": list }))
}

/// Tells what chosen members are.
pub async fn chosen(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let (group, wanted) = (group_id(fields)?, Wanted::of(fields)?);
    let users = users(call, fields, "Member_List_Account")?;
    let found = read::chosen_members(&call.shared().store, call.app, Asker::Admin, &group, users).await;
    let found = found.map_err(|error| of_groups(&error))?.into_iter().flatten();
    // A live room keeps who may not write there: he is no member for that.
    let members: Vec<GroupMember> = found.filter(|member| member.role() != GroupRole::None).collect();
    object(json!({ "MemberList": wanted.all_to_json(call, &group, &members).await? }))
}

/// Brings users in.
pub async fn add(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let members = some_members(call, fields)?;
    let users = members.into_iter().map(|member| user(member, "Member_Account")).collect::<Result<Vec<_>, _>>()?;
    let (group, silent) = (group_id(fields)?, fields.flag("Silence").map_err(wrong)?);
    let invite = |users| GroupChange::Invite { group: group.clone(), users, silent };
    let outcomes = in_parts(call, users, TOGETHER, invite).await?;
    if outcomes.iter().all(|(_, outcome)| *outcome != Err(Refusal::MemberAlready)) {
        ensure_some(&outcomes)?;
    }
    let told = outcomes.iter().map(|(user, outcome)| {
        let result = match outcome {
            Ok(()) => 1,
            Err(Refusal::MemberAlready) => 2,
            Err(_) => 0,
        };
        json!({ "Member_Account": user.as_str(), "Result": result })
    });
    object(json!({ "MemberList": told.collect::<Vec<_>>() }))
}

/// Removes members.
pub async fn delete(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let (group, users) = (group_id(fields)?, users(call, fields, "MemberToDel_Account")?);
    let reason = fields.text("Reason").map_err(wrong)?.unwrap_or_default().to_owned();
    let silent = fields.flag("Silence").map_err(wrong)?;
    let outcomes = change_users(call, GroupChange::Remove { group, users, reason, silent }).await?;
    // Who is not in the group is where he shall be.
    let is_done = |(_, outcome): &(_, Result<(), Refusal>)| matches!(outcome, Ok(()) | Err(Refusal::UserUnknown));
    if !outcomes.iter().any(is_done) {
        ensure_some(&outcomes)?;
    }
    nothing()
}

/// Changes what a member is, may, receives and is called.
pub async fn modify(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let (group, member) = (group_id(fields)?, user(fields, "Member_Account")?);
    let update = MemberUpdate {
        role: words::new_role(fields, "Role")?,
        name_card: fields.text("NameCard").map_err(wrong)?.map(str::to_owned),
        custom: custom(fields, "AppMemberDefinedData")?,
    };
    let (receive, seconds) = (words::receive_option(fields, "MsgFlag")?, mute_seconds(fields)?);
    if update != MemberUpdate::default() {
        let (group, member) = (group.clone(), member.clone());
        change(call, GroupChange::Member { group, member, update: Box::new(update) }).await?;
    }
    if let Some(seconds) = seconds {
        let mute = GroupChange::Mute { group: group.clone(), users: vec![member.clone()], seconds };
        ensure_some(&change_users(call, mute).await?)?;
    }
    if let Some(receive) = receive {
        let update = Box::new(UpdateConversation { receive: Some(receive.into()), ..UpdateConversation::default() });
        let kind = Kind::Conversation { peer: group.into(), update };
        let act = Act::Change(Box::new(Change::by_admin(call.app, member, kind)));
        call.start(act).await.map_err(|error| of_groups(&error))?;
    }
    nothing()
}

/// For how long somebody is not to write; its older name is understood as well.
fn mute_seconds(fields: Fields<'_>) -> Result<Option<u32>, Failure> {
    fields.number_u32(if fields.has("MuteTime") { "MuteTime" } else { "ShutUpTime" }).map_err(wrong)
}

/// Forbids users to write for a time, or lets them write again.
pub async fn mute(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let (group, users) = (group_id(fields)?, users(call, fields, "Members_Account")?);
    let seconds = mute_seconds(fields)?.ok_or_else(|| codes::GROUP_ARGUMENT.because("MuteTime is missing"))?;
    let mute = |users| GroupChange::Mute { group: group.clone(), users, seconds };
    ensure_some(&in_parts(call, users, TOGETHER, mute).await?)?;
    nothing()
}

/// Changes more users than one act names.
async fn in_parts(
    call: &Call<'_>,
    users: Vec<UserId>,
    together: usize,
    what: impl Fn(Vec<UserId>) -> GroupChange,
) -> Result<Outcomes, Failure> {
    let mut outcomes = Vec::with_capacity(users.len());
    for some in users.chunks(together) {
        outcomes.extend(change_users(call, what(some.to_vec())).await?);
    }
    Ok(outcomes)
}

/// Tells who may not write now.
pub async fn muted(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let list = muted_until(call, fields, "MutedUntil").await?;
    object(json!({ "GroupId": group_id(fields)?.to_string(), "MutedAccountList": list }))
}

/// The same, by its older names.
pub async fn shut_up(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let list = muted_until(call, fields, "ShuttedUntil").await?;
    object(json!({ "GroupId": group_id(fields)?.to_string(), "ShuttedUinList": list }))
}

async fn muted_until(call: &Call<'_>, fields: Fields<'_>, until: &'static str) -> Result<Value, Failure> {
    let (group, shared) = (group_id(fields)?, call.shared());
    let found = admin::muted(&shared.store, call.app, &group, shared.clock.unix_ms()).await;
    let found = found.map_err(|error| of_groups(&error))?;
    let told =
        found.iter().map(|(user, until_ms)| json!({ "Member_Account": user.as_str(), until: until_s(*until_ms) }));
    Ok(told.collect())
}

/// Removes users and keeps them out for a time.
pub async fn ban(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let seconds = fields.number_u32("Duration").map_err(wrong)?.filter(|seconds| *seconds > 0);
    let seconds = seconds.ok_or_else(|| codes::GROUP_ARGUMENT.because("Duration must be some seconds"))?;
    let reason = fields.text("Description").map_err(wrong)?.unwrap_or_default().to_owned();
    ban_for(call, fields, seconds, &reason).await
}

/// Lets users in again.
pub async fn unban(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    ban_for(call, fields, 0, "").await
}

async fn ban_for(call: &Call<'_>, fields: Fields<'_>, seconds: u32, reason: &str) -> Outcome {
    let (group, users) = (group_id(fields)?, users(call, fields, "Members_Account")?);
    let ban = |users| GroupChange::Ban { group: group.clone(), users, seconds, reason: reason.to_owned() };
    ensure_some(&in_parts(call, users, BANNED_TOGETHER, ban).await?)?;
    nothing()
}

/// Tells who is kept out now.
pub async fn banned(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let (group, shared) = (group_id(fields)?, call.shared());
    let number = |field| fields.number(field).map_err(wrong).map(|number| number.map(|number| number as usize));
    let (offset, limit) = (number("Offset")?.unwrap_or(0), number("Limit")?.unwrap_or(BANS_MAX).clamp(1, BANS_MAX));
    let page = PageLimit { entries_max: offset.saturating_add(limit), bytes_max: usize::MAX >> 1 };
    let now_ms = shared.clock.unix_ms();
    let found = read::bans(&shared.store, call.app, Asker::Admin, &group, None, now_ms, page).await;
    let (bans, more) = found.map_err(|error| of_groups(&error))?;
    let told = bans.iter().skip(offset);
    let told = told.map(|ban| json!({ "Member_Account": ban.user, "BannedUntil": ban.until_ms / 1000 }));
    let next = if more { bans.len() } else { 0 };
    object(json!({ "BannedAccountList": told.collect::<Vec<_>>(), "NextOffset": next }))
}
