//! Groups: what is asked for becomes a change, or a page that is read; and live rooms, which a connection comes into
//! and goes out of by itself.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use backend::domain::{
    GroupId, UserId,
    act::Act,
    change::{
        Change, Kind,
        group::{GroupChange, MemberUpdate, NewGroup},
    },
    groups::{
        self, read,
        read::{Asker, ReceiptsQuery},
    },
    hooks::Hooks as _,
};
use bytes::Bytes;
use futures::{FutureExt as _, select};
use glommio::timer::Timer;
use protocol::{
    ErrorCode,
    message::{
        AnswerGroupApplication, BanFromGroup, CreateGroup, DissolveGroup, Done, GetChosenGroupMembers,
        GetChosenGroupMembersReply, GetGroupApplications, GetGroupApplicationsReply, GetGroupAttributes, GetGroupBans,
        GetGroupBansReply, GetGroupCounters, GetGroupMembers, GetGroupMembersReply, GetGroupOnline,
        GetGroupOnlineReply, GetGroupReceipts, GetGroupReceiptsReply, GetGroups, GetGroupsReply, GetJoinedGroups,
        GetJoinedGroupsReply, Group, GroupCounterOperation, GroupMember, GroupResult, GroupResults, GroupRole,
        GroupUpdate, GroupUserResult, InviteToGroup, JoinGroup, JoinGroupReply, LeaveGroup, MuteGroupMembers,
        RemoveFromGroup, SearchGroups, SearchGroupsReply, TransferGroup, UpdateGroup, UpdateGroupAttributes,
        UpdateGroupCounter, UpdateGroupMember,
    },
};

use super::{
    acts::{self, ToKind, group_id, own, users},
    connection::Connection,
    members,
    pages::{answer, fitting, page_limit},
    requests::{identity, invalid, user_id},
};
use crate::{
    errors::{Refusal, group_code},
    present::{self, Present},
    recent::Span,
    shared::Shared,
};

/// Groups read in one request, at the most.
const GROUPS_MAX: usize = 50;
/// Members read by name in one request, at the most.
const MEMBERS_MAX: usize = 100;
/// Longest text to search for, in bytes.
const SEARCH_BYTES_MAX: usize = 100;
/// Live rooms that one connection may be in.
const ROOMS_MAX: usize = 10;
/// For how long other cores are asked what was said last in a live room: they are near.
const RECENT_MAX: Duration = Duration::from_millis(300);

/// What became of each user, as the reply says it.
pub(super) fn results(outcomes: Vec<(UserId, Result<(), groups::Refusal>)>) -> GroupResults {
    let result = |(user, outcome): (UserId, Result<(), groups::Refusal>)| {
        let code = outcome.err().map_or(0, |refusal| group_code(refusal).0);
        GroupUserResult { user: user.to_string(), code }
    };
    GroupResults { results: outcomes.into_iter().map(result).collect() }
}

fn group_change(change: GroupChange) -> Kind {
    Kind::Group(Box::new(change))
}

fn own_fields(fields: &BTreeMap<String, Bytes>) -> BTreeMap<String, Bytes> {
    fields.iter().map(|(name, value)| (name.clone(), own(value))).collect()
}

fn own_update(update: GroupUpdate) -> GroupUpdate {
    GroupUpdate { custom: own_fields(&update.custom), ..update }
}

/// Makes a group.
pub(super) fn create(connection: &Rc<Connection>, request: u32, asked: CreateGroup) -> Result<(), Refusal> {
    let kind = asked.r#type();
    let is_generated = asked.group.is_empty();
    let group = match is_generated {
        true => groups::generated_id(kind, &*connection.core.shared.rng),
        false => group_id(&asked.group)?,
    };
    let members = users(&asked.users)?.into_iter().map(|user| (user, MemberUpdate::default())).collect();
    let info = own_update(asked.info.unwrap_or_default());
    let new = NewGroup { group: Some(group), is_generated, kind, owner: None, info, members, imported_ms: None };
    acts::change_to(connection, request, group_change(GroupChange::Create(Box::new(new))))
}

impl ToKind for UpdateGroup {
    fn to_kind(self) -> Result<Kind, Refusal> {
        let update = self.update.ok_or_else(|| invalid("no update is given"))?;
        let (group, update) = (group_id(&self.group)?, Box::new(own_update(update)));
        Ok(group_change(GroupChange::Update { group, update }))
    }
}

impl ToKind for DissolveGroup {
    fn to_kind(self) -> Result<Kind, Refusal> {
        Ok(group_change(GroupChange::Dissolve { group: group_id(&self.group)? }))
    }
}

impl ToKind for TransferGroup {
    fn to_kind(self) -> Result<Kind, Refusal> {
        Ok(group_change(GroupChange::Transfer { group: group_id(&self.group)?, to: user_id(&self.user)? }))
    }
}

impl ToKind for InviteToGroup {
    fn to_kind(self) -> Result<Kind, Refusal> {
        let (group, users) = (group_id(&self.group)?, users(&self.users)?);
        Ok(group_change(GroupChange::Invite { group, users, silent: false }))
    }
}

impl ToKind for RemoveFromGroup {
    fn to_kind(self) -> Result<Kind, Refusal> {
        let (group, users, reason) = (group_id(&self.group)?, users(&self.users)?, self.reason);
        Ok(group_change(GroupChange::Remove { group, users, reason, silent: false }))
    }
}

impl ToKind for BanFromGroup {
    fn to_kind(self) -> Result<Kind, Refusal> {
        let (group, users) = (group_id(&self.group)?, users(&self.users)?);
        Ok(group_change(GroupChange::Ban { group, users, seconds: self.seconds, reason: self.reason }))
    }
}

impl ToKind for MuteGroupMembers {
    fn to_kind(self) -> Result<Kind, Refusal> {
        let (group, users) = (group_id(&self.group)?, users(&self.users)?);
        Ok(group_change(GroupChange::Mute { group, users, seconds: self.seconds }))
    }
}

impl ToKind for AnswerGroupApplication {
    fn to_kind(self) -> Result<Kind, Refusal> {
        let (group, applicant) = (group_id(&self.group)?, user_id(&self.user)?);
        Ok(group_change(GroupChange::Answer { group, applicant, agree: self.agree, text: self.text }))
    }
}

impl ToKind for UpdateGroupAttributes {
    fn to_kind(self) -> Result<Kind, Refusal> {
        let (group, set) = (group_id(&self.group)?, own_fields(&self.set));
        let UpdateGroupAttributes { remove, reset, revision, .. } = self;
        Ok(group_change(GroupChange::Attributes { group, set, remove, reset, revision }))
    }
}

/// Changes what a member is, or is called.
pub(super) fn update_member(
    connection: &Rc<Connection>,
    request: u32,
    asked: UpdateGroupMember,
) -> Result<(), Refusal> {
    let (_, own_name) = identity(connection)?;
    let member = if asked.user.is_empty() { own_name } else { user_id(&asked.user)? };
    let role = asked.role.map(GroupRole::try_from).transpose().map_err(|_| invalid("role is no role"))?;
    let (name_card, custom) = (asked.name_card, own_fields(&asked.custom));
    let (group, update) = (group_id(&asked.group)?, Box::new(MemberUpdate { role, name_card, custom }));
    acts::change_to(connection, request, group_change(GroupChange::Member { group, member, update }))
}

/// Changes a counter.
pub(super) fn update_counter(
    connection: &Rc<Connection>,
    request: u32,
    asked: UpdateGroupCounter,
) -> Result<(), Refusal> {
    let operation = GroupCounterOperation::try_from(asked.operation).map_err(|_| invalid("operation is none"))?;
    let (group, id) = (group_id(&asked.group)?, connection.core.shared.rng.next_u64());
    let changes = vec![(asked.key, operation, asked.value)];
    acts::change_to(connection, request, group_change(GroupChange::Counters { group, id, changes }))
}

/// The application, and who asks.
fn asker(connection: &Connection) -> Result<(u32, Asker), Refusal> {
    let asker = |app, user, is_guest| (app, if is_guest { Asker::Guest } else { Asker::User(user) });
    connection
        .with_session(|session| asker(session.app, session.user.clone(), session.is_guest))
        .ok_or_else(|| ErrorCode::NOT_LOGGED_IN.into())
}

fn result(group: &GroupId, found: read::Found) -> GroupResult {
    match found {
        Ok((group, own)) => GroupResult { group: Some(group), own, code: 0 },
        Err(refusal) => {
            let named = Group { group: group.to_string(), ..Group::default() };
            GroupResult { group: Some(named), own: None, code: group_code(refusal).0 }
        }
    }
}

pub(super) fn groups(connection: &Rc<Connection>, request: u32, asked: GetGroups) -> Result<(), Refusal> {
    if asked.groups.len() > GROUPS_MAX {
        return Err(invalid("at most 50 groups are asked about at a time"));
    }
    let wanted = asked.groups.iter().map(|group| group_id(group)).collect::<Result<Vec<_>, _>>()?;
    let (app, asker) = asker(connection)?;
    let bytes_max = page_limit(connection, 0)?.bytes_max;
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move {
        let found = read::groups(&store, app, asker, wanted.clone()).await?;
        let mut groups: Vec<_> = wanted.iter().zip(found).map(|(group, found)| result(group, found)).collect();
        groups.truncate(fitting(groups.iter().map(prost::Message::encoded_len), bytes_max));
        Ok(GetGroupsReply { groups })
    })
}

pub(super) fn joined(connection: &Rc<Connection>, request: u32, asked: GetJoinedGroups) -> Result<(), Refusal> {
    let (app, user) = identity(connection)?;
    let after = if asked.after.is_empty() { None } else { Some(group_id(&asked.after)?) };
    let limit = page_limit(connection, asked.limit)?;
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move {
        let (found, more) = read::joined(&store, app, &user, after, limit).await?;
        let groups = found.into_iter().map(|(group, own)| GroupResult { group: Some(group), own, code: 0 });
        Ok(GetJoinedGroupsReply { groups: groups.collect(), more })
    })
}

pub(super) fn search(connection: &Rc<Connection>, request: u32, asked: SearchGroups) -> Result<(), Refusal> {
    if !(1..=SEARCH_BYTES_MAX).contains(&asked.text.len()) {
        return Err(invalid("text must have 1 to 100 bytes"));
    }
    let (app, _) = identity(connection)?;
    let from = (!asked.from.is_empty()).then(|| own(&asked.from));
    let limit = page_limit(connection, asked.limit)?.entries_max.min(GROUPS_MAX);
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move {
        let (groups, next) = read::search(&store, app, &asked.text, from, limit).await?;
        Ok(SearchGroupsReply { groups, next: next.unwrap_or_default() })
    })
}

pub(super) fn bans(connection: &Rc<Connection>, request: u32, asked: GetGroupBans) -> Result<(), Refusal> {
    let (app, asker) = asker(connection)?;
    let (group, after) = (group_id(&asked.group)?, after(&asked.after)?);
    let limit = page_limit(connection, asked.limit)?;
    let (store, now_ms) = (connection.core.shared.store.clone(), connection.core.shared.clock.unix_ms());
    answer(connection, request, async move {
        let (bans, more) = read::bans(&store, app, asker, &group, after, now_ms, limit).await?;
        Ok(GetGroupBansReply { bans, more })
    })
}

fn after(name: &str) -> Result<Option<UserId>, Refusal> {
    if name.is_empty() { Ok(None) } else { user_id(name).map(Some) }
}

/// Members: of a live room those who are in it now, as far as they are shown.
pub(super) fn members(connection: &Rc<Connection>, request: u32, asked: GetGroupMembers) -> Result<(), Refusal> {
    let (app, asker) = asker(connection)?;
    let (group, after) = (group_id(&asked.group)?, after(&asked.after)?);
    let role = |role: &i32| GroupRole::try_from(*role).map_err(|_| invalid("roles names no role"));
    let roles = asked.roles.iter().map(role).collect::<Result<Vec<_>, _>>()?;
    let limit = page_limit(connection, asked.limit)?;
    let shared = connection.core.shared.clone();
    answer(connection, request, async move {
        let (members, more) = match present::shown_members(&shared, app, &asker, &group).await? {
            Some(shown) => {
                let shown = present::in_room(&shared, app, &group, shown).await?.into_iter();
                let behind = shown.filter(|(user, _)| after.as_ref().is_none_or(|after| user > after));
                let mut behind = behind.map(|(_, member)| member).filter(|member| is_of(member, &roles));
                let members: Vec<_> = behind.by_ref().take(limit.entries_max.max(1)).collect();
                (members, behind.next().is_some())
            }
            None => read::members(&shared.store, app, asker, &group, after, roles, limit).await?,
        };
        Ok(GetGroupMembersReply { members, more })
    })
}

/// Whether a member has one of these roles; none named: any.
fn is_of(member: &GroupMember, roles: &[GroupRole]) -> bool {
    roles.is_empty() || roles.contains(&member.role())
}

pub(super) fn chosen_members(
    connection: &Rc<Connection>,
    request: u32,
    asked: GetChosenGroupMembers,
) -> Result<(), Refusal> {
    if asked.users.len() > MEMBERS_MAX {
        return Err(invalid("at most 100 users are asked about at a time"));
    }
    let (app, asker) = asker(connection)?;
    let (group, wanted) = (group_id(&asked.group)?, users(&asked.users)?);
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move {
        let found = read::chosen_members(&store, app, asker, &group, wanted.clone()).await?;
        let nobody = |user: &UserId| GroupMember { user: user.to_string(), ..GroupMember::default() };
        let members = wanted.iter().zip(found).map(|(user, member)| member.unwrap_or_else(|| nobody(user)));
        Ok(GetChosenGroupMembersReply { members: members.collect() })
    })
}

pub(super) fn applications(
    connection: &Rc<Connection>,
    request: u32,
    asked: GetGroupApplications,
) -> Result<(), Refusal> {
    let (app, user) = identity(connection)?;
    let from = if asked.from.is_empty() { None } else { Some(place(&asked.from)?) };
    let limit = page_limit(connection, asked.limit)?;
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move {
        let (applications, next) = read::applications(&store, app, &user, from, limit).await?;
        let next = next.map(|(group, user)| Bytes::from(format!("{user}\n{group}"))).unwrap_or_default();
        Ok(GetGroupApplicationsReply { applications, next })
    })
}

/// A place among applications: names have no line breaks.
fn place(from: &Bytes) -> Result<read::ApplicationPlace, Refusal> {
    let text = std::str::from_utf8(from).ok().and_then(|text| text.split_once('\n'));
    let place = text.and_then(|(user, group)| Some((GroupId::new(group)?, UserId::new(user)?)));
    place.ok_or_else(|| invalid("from is not of this server's making"))
}

pub(super) fn attributes(connection: &Rc<Connection>, request: u32, asked: GetGroupAttributes) -> Result<(), Refusal> {
    let (app, asker) = asker(connection)?;
    let group = group_id(&asked.group)?;
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move { read::attributes(&store, app, asker, &group).await })
}

pub(super) fn counters(connection: &Rc<Connection>, request: u32, asked: GetGroupCounters) -> Result<(), Refusal> {
    let (app, asker) = asker(connection)?;
    let group = group_id(&asked.group)?;
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move { read::counters(&store, app, asker, &group).await })
}

pub(super) fn receipts(connection: &Rc<Connection>, request: u32, asked: GetGroupReceipts) -> Result<(), Refusal> {
    let (app, asker) = asker(connection)?;
    let (group, after) = (group_id(&asked.group)?, after(&asked.after)?);
    let limit = page_limit(connection, asked.limit)?;
    let query = ReceiptsQuery { seq: asked.seq, unread: asked.unread, after, limit };
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move {
        let found = read::receipts(&store, app, asker, &group, query).await?;
        let users = found.users.iter().map(UserId::to_string).collect();
        Ok(GetGroupReceiptsReply { users, more: found.more, read: found.read, unread: found.unread })
    })
}

/// Joins a group. A live room this connection comes into, once it is known that it may.
pub(super) fn join(connection: &Rc<Connection>, request: u32, asked: JoinGroup) -> Result<(), Refusal> {
    let (app, asker) = asker(connection)?;
    let group = group_id(&asked.group)?;
    let task = connection.clone();
    connection.core.spawn_for(connection, async move {
        let connection = task;
        let store = &connection.core.shared.store;
        let now_ms = connection.core.shared.clock.unix_ms();
        match read::room(store, app, asker.clone(), &group, now_ms).await {
            Err(error) => connection.refuse(request, error),
            Ok(Some(room)) => {
                if let Err(refusal) = come_in(&connection, request, app, asker, &group, &room).await {
                    connection.refuse(request, refusal);
                }
            }
            Ok(None) if asker == Asker::Guest => connection.refuse(request, ErrorCode::GROUP_RIGHT_MISSING),
            Ok(None) => {
                let change = group_change(GroupChange::Join { group, wording: asked.wording });
                if let Err(refusal) = acts::change_to(&connection, request, change) {
                    connection.refuse(request, refusal);
                }
            }
        }
    });
    Ok(())
}

/// Has a connection come into a live room that it may be in, as it was found.
async fn come_in(
    connection: &Rc<Connection>,
    request: u32,
    app: u32,
    asker: Asker,
    group: &GroupId,
    found: &read::Room,
) -> Result<(), Refusal> {
    ensure_not_crowded(connection, group)?;
    // Coming and going is told to everybody there: as often as one may write.
    acts::check_send_limit(connection)?;
    ask_application(connection, app, &asker, group).await?;
    let shared = &connection.core.shared;
    hear_recent(shared, app, group, found).await;
    // Others that were asked for meanwhile may have taken the last place.
    ensure_not_crowded(connection, group)?;
    members::enter_room(connection, group, true);
    // Asked once more: whoever was put out between the question and the entry was not there to be put out.
    let room = match read::room(&shared.store, app, asker, group, shared.clock.unix_ms()).await {
        Ok(Some(room)) => room,
        refused => {
            members::enter_room(connection, group, false);
            return Err(refused.err().map_or_else(|| ErrorCode::GROUP_UNKNOWN.into(), Refusal::from));
        }
    };
    let recent = shared.router.recent().of(app, group, room.first_seq);
    let reply = JoinGroupReply { applied: false, recent, info: Some(room.shown) };
    connection.with_protocol(|protocol| protocol.respond(request, &reply));
    Ok(())
}

/// Asks the other cores for what was said last in a room, if something is missing here: for so long and no longer.
async fn hear_recent(shared: &Shared, app: u32, group: &GroupId, room: &read::Room) {
    let (Some(cluster), recent) = (shared.router.cluster(), shared.router.recent()) else { return };
    let span = Span { first_seq: room.first_seq, head_seq: room.shown.head_seq };
    if recent.is_whole(app, group, span) {
        return;
    }
    cluster.ask_recent(app, group);
    let Some(mut answered) = recent.wait(app, group) else { return };
    let mut late = Timer::new(RECENT_MAX).fuse();
    select! {
        _ = answered => {}
        _ = late => recent.stop_waiting(app, group),
    }
}

/// Refuses one more live room to a connection that is in as many as it may be.
fn ensure_not_crowded(connection: &Connection, group: &GroupId) -> Result<(), Refusal> {
    let is_crowded = |groups: &members::Groups| groups.rooms() >= ROOMS_MAX && !groups.is_in_room(group);
    match connection.with_session(|session| is_crowded(&session.groups)) {
        Some(true) => Err(ErrorCode::GROUPS_FULL.into()),
        _ => Ok(()),
    }
}

/// Asks the application's server whether a user may come into a live room, if it wants to be asked. About guests it is
/// not asked.
async fn ask_application(connection: &Rc<Connection>, app: u32, asker: &Asker, group: &GroupId) -> Result<(), Refusal> {
    let Asker::User(user) = asker else { return Ok(()) };
    let join = GroupChange::Join { group: group.clone(), wording: String::new() };
    let act = Act::Change(Box::new(Change::new(app, user.clone(), group_change(join))));
    let caller = connection.with_session(|session| session.caller.clone()).unwrap_or_default();
    match connection.core.shared.callbacks.before(&act, &caller) {
        Some(asking) => asking.await.map(drop).map_err(Refusal::from),
        None => Ok(()),
    }
}

/// Leaves a group, or goes out of a live room.
pub(super) fn leave(connection: &Rc<Connection>, request: u32, asked: LeaveGroup) -> Result<(), Refusal> {
    let (_, asker) = asker(connection)?;
    let group = group_id(&asked.group)?;
    if connection.with_session(|session| session.groups.is_in_room(&group)) == Some(true) {
        members::enter_room(connection, &group, false);
        connection.with_protocol(|protocol| protocol.respond(request, &Done {}));
        return Ok(());
    }
    if asker == Asker::Guest {
        return Err(ErrorCode::GROUP_RIGHT_MISSING.into());
    }
    acts::change_to(connection, request, group_change(GroupChange::Leave { group }))
}

/// How many of a group are there now.
pub(super) fn online(connection: &Rc<Connection>, request: u32, asked: GetGroupOnline) -> Result<(), Refusal> {
    let (app, asker) = asker(connection)?;
    let group = group_id(&asked.group)?;
    let shared = connection.core.shared.clone();
    answer(connection, request, async move {
        let Present { members, guests } = present::count(&shared, app, asker, &group).await?;
        Ok(GetGroupOnlineReply { members: members as u32, guests: guests as u32 })
    })
}
