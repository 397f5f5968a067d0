//! Profiles, friends and friend requests: what is asked for becomes a change, or a page that is read.

use std::{collections::BTreeMap, rc::Rc};

use backend::domain::{
    Error, UserId,
    act::{Related, RelationOutcome},
    change::{
        Kind,
        friends::{FriendUpdate, FriendsChange, ListsUpdate, NewFriend},
        profile::ProfileChange,
    },
    friends::{self, FriendsPage, Place, RequestsPage, Which},
    keys::Direction,
    profile::{self, Chosen},
};
use bytes::Bytes;
use prost::Message;
use protocol::{
    ErrorCode,
    message::{
        AddFriends, AnswerFriendRequest, CheckRelations, CheckRelationsReply, ChosenFriend, DeleteAllFriends,
        DeleteFriends, DropFriendRequests, Friend, FriendAnswer, FriendResult, FriendResults, GetChosenFriends,
        GetChosenFriendsReply, GetFriendLists, GetFriendListsReply, GetFriendRequests, GetFriendRequestsReply,
        GetFriends, GetFriendsReply, GetProfiles, GetProfilesReply, Profile, ProfileFields, ProfileResult,
        ReadFriendRequests, RelationResult, SetProfile, UpdateFriendLists, UpdateFriends,
    },
};

use super::{
    acts::{ToKind, own, users},
    connection::Connection,
    pages::{answer, fitting, page_limit},
    requests::{identity, invalid, user_id},
};
use crate::errors::{Refusal, relation_code};

/// What became of each relation, as the reply says it.
pub(super) fn results(outcomes: Vec<RelationOutcome>) -> FriendResults {
    let result = |RelationOutcome { user, outcome }: RelationOutcome| {
        let code = match outcome {
            Ok(Related::Done) => 0,
            Ok(Related::Asked) => ErrorCode::FRIEND_REQUEST_SENT.0,
            Err(refusal) => relation_code(refusal).0,
        };
        FriendResult { user: user.to_string(), code }
    };
    FriendResults { results: outcomes.into_iter().map(result).collect() }
}

/// Copied out of what was read: see [`own`].
fn own_fields(custom: &BTreeMap<String, Bytes>) -> BTreeMap<String, Bytes> {
    custom.iter().map(|(name, value)| (name.clone(), own(value))).collect()
}

impl ToKind for SetProfile {
    fn to_kind(self) -> Result<Kind, Refusal> {
        let profile = self.profile.ok_or_else(|| invalid("no profile is given"))?;
        let custom = own_fields(&profile.custom);
        Ok(Kind::Profile(ProfileChange::Set(Box::new(Profile { user: String::new(), custom, ..profile }))))
    }
}

impl ToKind for AddFriends {
    fn to_kind(self) -> Result<Kind, Refusal> {
        let new = |asked: protocol::message::AddFriend| {
            let protocol::message::AddFriend { user, remark, list, source, wording } = asked;
            Ok((user_id(&user)?, NewFriend { remark, list, source, wording }))
        };
        let friends = self.friends.into_iter().map(new).collect::<Result<_, Refusal>>()?;
        Ok(Kind::Friends(FriendsChange::Add { friends, one_way: self.one_way, force: false }))
    }
}

impl ToKind for AnswerFriendRequest {
    fn to_kind(self) -> Result<Kind, Refusal> {
        let answer = FriendAnswer::try_from(self.answer).map_err(|_| invalid("answer is no answer"))?;
        let (other, remark, list) = (user_id(&self.user)?, self.remark, self.list);
        Ok(Kind::Friends(FriendsChange::Answer { other, answer, remark, list }))
    }
}

impl ToKind for UpdateFriends {
    fn to_kind(self) -> Result<Kind, Refusal> {
        let update = |asked: protocol::message::FriendUpdate| {
            let (remark, lists) = (asked.remark, asked.lists.map(|names| names.lists));
            let custom = own_fields(&asked.custom);
            Ok((user_id(&asked.user)?, FriendUpdate { remark, lists, custom }))
        };
        let friends = self.friends.into_iter().map(update).collect::<Result<_, Refusal>>()?;
        Ok(Kind::Friends(FriendsChange::Update { friends }))
    }
}

impl ToKind for DeleteFriends {
    fn to_kind(self) -> Result<Kind, Refusal> {
        Ok(Kind::Friends(FriendsChange::Delete { friends: users(&self.users)?, one_way: self.one_way }))
    }
}

impl ToKind for DeleteAllFriends {
    fn to_kind(self) -> Result<Kind, Refusal> {
        Ok(Kind::Friends(FriendsChange::DeleteAll { friends: Vec::new(), one_way: self.one_way }))
    }
}

impl ToKind for ReadFriendRequests {
    fn to_kind(self) -> Result<Kind, Refusal> {
        Ok(Kind::Friends(FriendsChange::Read { read_ms: self.read_ms }))
    }
}

impl ToKind for DropFriendRequests {
    fn to_kind(self) -> Result<Kind, Refusal> {
        Ok(Kind::Friends(FriendsChange::Drop { others: users(&self.users)?, direction: direction(self.outgoing) }))
    }
}

impl ToKind for UpdateFriendLists {
    fn to_kind(self) -> Result<Kind, Refusal> {
        let (add, remove) = (users(&self.add)?, users(&self.remove)?);
        let update = ListsUpdate { lists: self.lists, delete: self.delete, rename: self.rename, add, remove };
        Ok(Kind::Friends(FriendsChange::Lists(update)))
    }
}

fn direction(outgoing: bool) -> Direction {
    if outgoing { Direction::Outgoing } else { Direction::Incoming }
}

/// Users asked about in one request.
fn asked_users(names: &[String]) -> Result<Vec<UserId>, Refusal> {
    if names.len() > profile::PROFILES_MAX {
        return Err(invalid("at most 100 users are asked about at a time"));
    }
    users(names)
}

pub(super) fn profiles(connection: &Rc<Connection>, request: u32, asked: GetProfiles) -> Result<(), Refusal> {
    let users = asked_users(&asked.users)?;
    let fields = asked.fields.filter(|fields| *fields != ProfileFields::default());
    let chosen = fields.map_or(Ok(Chosen::all()), |fields| Chosen::of(&fields)).map_err(Error::from)?;
    let (app, _) = identity(connection)?;
    let bytes_max = page_limit(connection, 0)?.bytes_max;
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move {
        let found = profile::profiles(&store, app, users.clone(), chosen).await?;
        let result = |(user, profile): (&UserId, Option<Profile>)| {
            let code = if profile.is_some() { 0 } else { ErrorCode::PROFILE_USER_UNKNOWN.0 };
            let nobody = || Profile { user: user.to_string(), ..Profile::default() };
            ProfileResult { profile: Some(profile.unwrap_or_else(nobody)), code }
        };
        let mut profiles: Vec<ProfileResult> = users.iter().zip(found).map(result).collect();
        profiles.truncate(fitting(profiles.iter().map(Message::encoded_len), bytes_max));
        Ok(GetProfilesReply { profiles })
    })
}

/// Which fields of their profiles come with friends.
fn chosen(fields: Option<&ProfileFields>) -> Result<Chosen, Refusal> {
    Ok(fields.map_or(Ok(Chosen::basic()), Chosen::of).map_err(Error::from)?)
}

pub(super) fn friends(connection: &Rc<Connection>, request: u32, asked: GetFriends) -> Result<(), Refusal> {
    let (app, user) = identity(connection)?;
    let (from, chosen) = (Place::from_slice(&asked.from)?, chosen(asked.profile.as_ref())?);
    let limit = page_limit(connection, asked.limit)?;
    let list = (!asked.list.is_empty()).then_some(asked.list);
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move {
        let page = friends::page(&store, app, &user, from, list, chosen, limit).await?;
        let FriendsPage { friends, removed, next, more, start_over, count } = page;
        let removed = removed.iter().map(UserId::to_string).collect();
        Ok(GetFriendsReply { friends, removed, next: next.to_bytes(), more, start_over, count })
    })
}

pub(super) fn chosen_friends(
    connection: &Rc<Connection>,
    request: u32,
    asked: GetChosenFriends,
) -> Result<(), Refusal> {
    let (app, user) = identity(connection)?;
    let (others, chosen) = (asked_users(&asked.users)?, chosen(asked.profile.as_ref())?);
    let bytes_max = page_limit(connection, 0)?.bytes_max;
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move {
        let found = friends::chosen(&store, app, &user, others.clone(), chosen).await?;
        let result = |(other, friend): (&UserId, Option<Friend>)| {
            let code = if friend.is_some() { 0 } else { ErrorCode::RELATION_INVALID.0 };
            let nobody = || Friend { user: other.to_string(), ..Friend::default() };
            ChosenFriend { friend: Some(friend.unwrap_or_else(nobody)), code }
        };
        let mut friends: Vec<ChosenFriend> = others.iter().zip(found).map(result).collect();
        friends.truncate(fitting(friends.iter().map(Message::encoded_len), bytes_max));
        Ok(GetChosenFriendsReply { friends })
    })
}

pub(super) fn friend_requests(
    connection: &Rc<Connection>,
    request: u32,
    asked: GetFriendRequests,
) -> Result<(), Refusal> {
    let (app, user) = identity(connection)?;
    let after = if asked.after.is_empty() { None } else { Some(user_id(&asked.after)?) };
    let limit = page_limit(connection, asked.limit)?;
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move {
        let page = friends::requests(&store, app, &user, direction(asked.outgoing), after, limit).await?;
        let RequestsPage { requests, more, read_ms, count } = page;
        Ok(GetFriendRequestsReply { requests, more, read_ms, count })
    })
}

pub(super) fn friend_lists(connection: &Rc<Connection>, request: u32, _: GetFriendLists) -> Result<(), Refusal> {
    let (app, user) = identity(connection)?;
    let store = connection.core.shared.store.clone();
    answer(
        connection,
        request,
        async move { Ok(GetFriendListsReply { lists: friends::lists(&store, app, &user).await? }) },
    )
}

pub(super) fn check_relations(connection: &Rc<Connection>, request: u32, asked: CheckRelations) -> Result<(), Refusal> {
    let (app, user) = identity(connection)?;
    let others = asked_users(&asked.users)?;
    let which = if asked.blacklist { Which::Blacklist } else { Which::Friends };
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move {
        let found = friends::relations(&store, app, &user, others.clone(), which, asked.one_way).await?;
        let result = |(other, relation): (&UserId, Option<_>)| RelationResult {
            user: other.to_string(),
            relation: relation.map_or(0, i32::from),
            code: if relation.is_some() { 0 } else { ErrorCode::RELATION_USER_UNKNOWN.0 },
        };
        Ok(CheckRelationsReply { results: others.iter().zip(found).map(result).collect() })
    })
}
