//! What groups are: one by one, all of an application, all of a user.

use backend::domain::{
    Error, GroupId, Peer, UserId, conversations,
    groups::{
        Refusal, admin, listing,
        read::{self, Asker},
        table,
    },
};
use futures::future::try_join_all;
use protocol::message::{ConversationEntry, Group, GroupMember};
use serde_json::{Map, Value, json};

use super::{
    group_id, members, user,
    words::{self, Filter, wrong},
};
use crate::api::{
    answers::{ensure_account, object},
    call::Call,
    codes::{self, Failure, of_group_refusal, of_groups},
    fields::Fields,
    table::Outcome,
};

/// Members told with all groups of one call together, at the most: there is a command for more.
const MEMBERS_MAX: usize = 10_000;
/// Groups told on one page, at the most.
const GROUPS_MAX: u64 = 10_000;
/// Groups read together.
const TOGETHER: usize = 50;

/// A field of a group, and how it is told. `None`: groups of its type have none.
type Told = (&'static str, fn(&Group) -> Option<Value>);

/// What is told of a group, by the published names.
const FIELDS: &[Told] = &[
    ("Type", |group| Some(words::type_name(group.r#type).into())),
    ("Name", |group| Some(group.name.as_str().into())),
    ("Introduction", |group| Some(group.introduction.as_str().into())),
    ("Notification", |group| Some(group.notice.as_str().into())),
    ("FaceUrl", |group| Some(group.image_url.as_str().into())),
    ("Owner_Account", |group| Some(group.owner.as_str().into())),
    ("CreateTime", |group| Some((group.created_ms / 1000).into())),
    ("InfoSeq", |group| Some(group.revision.into())),
    ("LastMsgTime", |group| Some((group.last_message_ms / 1000).into())),
    ("NextMsgSeq", |group| Some((group.head_seq + 1).into())),
    ("MemberNum", |group| Some(group.member_count.into())),
    ("MaxMemberNum", |group| Some(group.member_max.into())),
    ("ApplyJoinOption", |group| Some(words::join_option_name(group.join_option, table::rules(group.r#type())?).into())),
    ("InviteJoinOption", |group| Some(words::invite_option_name(table::rules(group.r#type())?).into())),
    ("MuteAllMember", |group| Some(on_off(group.muted_all).into())),
    // Its older name.
    ("ShutUpAllMember", |group| Some(on_off(group.muted_all).into())),
];

fn on_off(is_on: bool) -> &'static str {
    if is_on { "On" } else { "Off" }
}

/// What is wanted of groups.
struct Wanted<'a> {
    base: Filter<'a>,
    custom: Filter<'a>,
}

impl<'a> Wanted<'a> {
    const ALL: Wanted<'static> = Wanted { base: Filter::ALL, custom: Filter::ALL };

    fn of(filter: Fields<'a>) -> Result<Self, Failure> {
        let (base, custom) = (Filter::only(filter, "GroupBaseInfoFilter"), "AppDefinedDataFilter_Group");
        Ok(Wanted { base: base?, custom: Filter::only(filter, custom)? })
    }

    fn to_json(&self, group: &Group, changed_ms: u64) -> Map<String, Value> {
        let mut told = Map::from_iter([("GroupId".to_owned(), Value::from(group.group.as_str()))]);
        for (name, value) in FIELDS.iter().filter(|(name, _)| self.base.has(name)) {
            told.extend(value(group).map(|value| ((*name).to_owned(), value)));
        }
        if self.base.has("LastInfoTime") {
            told.insert("LastInfoTime".into(), (changed_ms / 1000).into());
        }
        if self.custom.is_any() {
            told.insert("AppDefinedData".into(), words::custom_to_json(&group.custom, &self.custom));
        }
        told
    }
}

/// One group, as an administrator sees it.
pub async fn one(call: &Call<'_>, group: &GroupId) -> Result<Group, Failure> {
    let found = read::groups(&call.shared().store, call.app, Asker::Admin, vec![group.clone()]).await;
    let found = found.map_err(|error| of_groups(&error))?.pop().unwrap_or(Err(Refusal::Unknown));
    found.map(|(group, _)| group).map_err(of_group_refusal)
}

/// Tells what groups are, and who is in them.
pub async fn get(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let names = fields.texts("GroupIdList").map_err(wrong)?.unwrap_or_default();
    if names.is_empty() || names.len() > call.row.items_max {
        return Err(codes::GROUP_ARGUMENT.because(format!("GroupIdList must name 1 to {}", call.row.items_max)));
    }
    let filter = fields.object("ResponseFilter").map_err(wrong)?;
    let wanted = filter.map_or(Ok(Wanted::ALL), Wanted::of)?;
    let member_wanted = match filter {
        None => Some(members::Wanted::ALL),
        Some(filter) if filter.has("MemberInfoFilter") => Some(members::Wanted::of(filter)?),
        Some(_) => None,
    };
    let known: Vec<GroupId> = names.iter().filter_map(|name| GroupId::new(name)).collect();
    let found = read(call, known).await?;
    let (mut infos, mut found, mut members_left) = (Vec::with_capacity(names.len()), found.into_iter(), MEMBERS_MAX);
    for name in names {
        let outcome = match GroupId::new(name) {
            Some(group) => found.next().unwrap_or(Err(Refusal::Unknown)).map(|found| (group, found)),
            None => Err(Refusal::IdInvalid),
        };
        infos.push(match outcome {
            Err(refusal) => {
                let Failure { code, info } = of_group_refusal(refusal);
                json!({ "GroupId": name, "ErrorCode": code, "ErrorInfo": info })
            }
            Ok((group, (info, changed_ms))) => {
                let mut told = wanted.to_json(&info, changed_ms);
                told.extend([("ErrorCode".to_owned(), 0.into()), ("ErrorInfo".to_owned(), "".into())]);
                if let Some(wanted) = &member_wanted {
                    let list = members::read(call, &group, Vec::new(), members_left).await?;
                    members_left -= list.len();
                    told.insert("MemberList".into(), wanted.all_to_json(call, &group, &list).await?);
                }
                Value::Object(told)
            }
        });
    }
    object(json!({ "GroupInfo": infos }))
}

/// Groups with when they were last changed, in the order asked for.
async fn read(call: &Call<'_>, groups: Vec<GroupId>) -> Result<Vec<Result<(Group, u64), Refusal>>, Failure> {
    let store = &call.shared().store;
    let found = read::groups(store, call.app, Asker::Admin, groups.clone()).await.map_err(|error| of_groups(&error))?;
    let changed = admin::changed(store, call.app, groups).await.map_err(|error| of_groups(&error))?;
    let pairs = found.into_iter().zip(changed);
    Ok(pairs.map(|(found, changed_ms)| found.map(|(group, _)| (group, changed_ms))).collect())
}

/// Tells which groups the application has.
pub async fn all(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let number = |field| fields.number(field).map_err(wrong);
    let limit = number("Limit")?.unwrap_or(GROUPS_MAX);
    if !(1..=GROUPS_MAX).contains(&limit) {
        return Err(codes::GROUP_ARGUMENT.because("Limit must be 1 to 10000"));
    }
    let (from, kind) = (number("Next")?.unwrap_or(0), words::kind(fields, "GroupType")?);
    let page = listing::page(&call.shared().store, call.app, kind, from, limit as usize).await;
    let page = page.map_err(|error| of_groups(&error))?;
    let groups: Vec<Value> = page.groups.iter().map(|group| json!({ "GroupId": group.to_string() })).collect();
    object(json!({ "TotalCount": page.total, "GroupIdList": groups, "Next": page.next.unwrap_or(0) }))
}

/// Tells which groups a user is in.
pub async fn joined(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = user(fields, "Member_Account")?;
    ensure_account(call, &owner, codes::GROUP_ACCOUNT, of_groups).await?;
    let flag = |field| fields.flag(field).map_err(wrong);
    let (inactive, kind) = (flag("WithNoActiveGroups")?, words::kind(fields, "GroupType")?);
    let number = |field| fields.number(field).map_err(wrong);
    let (limit, offset) = (number("Limit")?.unwrap_or(u64::MAX) as usize, number("Offset")?.unwrap_or(0) as usize);
    let filter = fields.object("ResponseFilter").map_err(wrong)?;
    let wanted = filter.map(Wanted::of).transpose()?;
    let own = filter.filter(|filter| filter.has("SelfInfoFilter"));
    let own = own.map(|filter| Filter::of(filter, "SelfInfoFilter")).transpose()?;
    let found = read::joined_ids(&call.shared().store, call.app, &owner).await.map_err(|error| of_groups(&error))?;
    let found = found.into_iter().filter(|joined| inactive || joined.is_active);
    let found: Vec<GroupId> =
        found.filter(|joined| kind.is_none_or(|kind| joined.kind == kind)).map(|joined| joined.group).collect();
    let total = found.len();
    let page: Vec<GroupId> = found.into_iter().skip(offset).take(limit).collect();
    let mut told: Vec<Map<String, Value>> = match &wanted {
        None => page.iter().map(|group| Map::from_iter([("GroupId".into(), group.as_str().into())])).collect(),
        Some(wanted) => {
            let chunks = page.chunks(TOGETHER).map(|groups| read(call, groups.to_vec()));
            let found = try_join_all(chunks).await?.into_iter().flatten();
            found.filter_map(Result::ok).map(|(group, changed_ms)| wanted.to_json(&group, changed_ms)).collect()
        }
    };
    if let Some(own) = own {
        for groups in told.chunks_mut(TOGETHER) {
            add_self_infos(call, &owner, groups, &own).await?;
        }
    }
    object(json!({ "TotalCount": total, "GroupIdList": told }))
}

/// Adds to groups that are told what a user is in each of them.
async fn add_self_infos(
    call: &Call<'_>,
    user: &UserId,
    told: &mut [Map<String, Value>],
    wanted: &Filter<'_>,
) -> Result<(), Failure> {
    let store = &call.shared().store;
    let id = |group: &Map<String, Value>| group.get("GroupId").and_then(Value::as_str).and_then(GroupId::new);
    let groups: Vec<GroupId> = told.iter().filter_map(id).collect();
    let peers = groups.iter().cloned().map(Peer::Group).collect();
    let found = read::groups(store, call.app, Asker::User(user.clone()), groups).await;
    let entries = conversations::chosen(store, call.app, user, peers).await;
    let entries = match entries {
        // All of them have ended meanwhile.
        Err(Error::Group(_)) => vec![ConversationEntry::default(); told.len()],
        entries => entries.map_err(|error| of_groups(&error))?,
    };
    let found = found.map_err(|error| of_groups(&error))?;
    for ((group, found), entry) in told.iter_mut().zip(found).zip(entries) {
        // Who has left it meanwhile, or whose group is gone, is nothing in it.
        let member = found.ok().and_then(|(_, member)| member).unwrap_or_default();
        group.insert("SelfInfo".into(), self_info(&member, &entry, wanted));
    }
    Ok(())
}

fn self_info(member: &GroupMember, entry: &ConversationEntry, wanted: &Filter<'_>) -> Value {
    let state = entry.state.clone().unwrap_or_default();
    let told = [
        ("Role", Value::from(words::role_name(member.role))),
        ("JoinTime", (member.joined_ms / 1000).into()),
        ("MsgFlag", words::receive_option_name(state.receive()).into()),
        ("MsgSeq", state.read_seq.into()),
        ("UnreadMsgNum", entry.unread.into()),
    ];
    told.into_iter().filter(|(name, _)| wanted.has(name)).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Tells what users are in a group.
pub async fn roles(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let (group, users) = (group_id(fields)?, super::users(call, fields, "User_Account")?);
    let found = read::chosen_members(&call.shared().store, call.app, Asker::Admin, &group, users.clone()).await;
    let found = found.map_err(|error| of_groups(&error))?;
    let told = users.iter().zip(found).map(|(user, member)| {
        let role = member.map_or(0, |member| member.role);
        json!({ "Member_Account": user.as_str(), "Role": words::role_name(role) })
    });
    object(json!({ "UserIdList": told.collect::<Vec<_>>() }))
}
