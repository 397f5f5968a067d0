//! Friends, friend requests and friend lists are changed (REL-02 to REL-11, REL-15).
//!
//! A friendship of two is two friendships, one in each book; what is to be so on both sides is written in one
//! transaction. Where many users are named, each is judged on its own, in the order named.
//!
//! - `add`: asking, importing and answering; `update`: what is kept about friends, and lists; `end`: ending
//!   friendships, and taking requests off.
//! - `book`: one user's friends, written so that all that belongs together agrees.
//!
//! What may not live here: reading without changing (see [`super::super::friends`]).

mod add;
mod book;
mod end;
mod update;

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::message::FriendAnswer;
use smallvec::{SmallVec, smallvec};

pub(super) use book::Book;

use super::Change;
use crate::domain::{
    AppId, Error, USER_BYTES_MAX, UserId,
    act::{Answer, Author, Related, RelationOutcome, Staging},
    friends::{FRIENDS_MAX, LIST_BYTES_MAX, REMARK_BYTES_MAX, Refusal, SOURCE_BYTES_MAX, WORDING_BYTES_MAX},
    keys::{self, Direction},
    profile,
};

/// Bytes that it takes to change the relation of two users, about: both books, friends, indexes, requests and events.
pub(super) const RELATION_BYTES: usize = 8_000;
/// Entries of event logs that the relation of two users may make: a change of friends and two requests ended on either
/// side.
pub(super) const STAMPS_EACH: usize = 6;

/// A user whose friendship is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewFriend {
    /// What will be kept about the friend.
    pub remark: String,
    /// A friend list to put the friend on; empty: none.
    pub list: String,
    /// How it came about.
    pub source: String,
    /// What is said to the other.
    pub wording: String,
}

/// A friend as an administrator imports it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportedFriend {
    /// What is kept about the friend.
    pub remark: String,
    /// Friend lists that the friend is on.
    pub lists: Vec<String>,
    /// How it came about.
    pub source: String,
    /// What was said.
    pub wording: String,
    /// When, milliseconds since the Unix epoch; 0: now.
    pub added_ms: u64,
    /// Custom fields.
    pub custom: BTreeMap<String, Bytes>,
}

/// What is to be changed of what is kept about a friend.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FriendUpdate {
    /// Absent: as before.
    pub remark: Option<String>,
    /// All lists that the friend is on; absent: as before.
    pub lists: Option<Vec<String>>,
    /// Custom fields to set; an empty one is taken off.
    pub custom: BTreeMap<String, Bytes>,
}

/// Changes of friend lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListsUpdate {
    /// Which.
    pub lists: Vec<String>,
    /// They are deleted; their friends stay friends.
    pub delete: bool,
    /// The one list gets this name; empty: it keeps its own.
    pub rename: String,
    /// Friends to put on all of them.
    pub add: Vec<UserId>,
    /// Friends to take off all of them.
    pub remove: Vec<UserId>,
}

/// A change of a user's friends.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum FriendsChange {
    /// Asks for friendships. `force`: what the others allow does not matter.
    Add { friends: Vec<(UserId, NewFriend)>, one_way: bool, force: bool },
    /// Makes others friends of the user, one way, without asking.
    Import { friends: Vec<(UserId, ImportedFriend)> },
    /// Answers a request of `other`.
    Answer { other: UserId, answer: FriendAnswer, remark: String, list: String },
    /// Changes what is kept about friends.
    Update { friends: Vec<(UserId, FriendUpdate)> },
    /// Ends friendships.
    Delete { friends: Vec<UserId>, one_way: bool },
    /// Ends all friendships: these, and then others.
    DeleteAll { friends: Vec<UserId>, one_way: bool },
    /// Changes friend lists.
    Lists(ListsUpdate),
    /// Makes incoming requests read, up to a time.
    Read { read_ms: u64 },
    /// Takes open requests off.
    Drop { others: Vec<UserId>, direction: Direction },
}

impl FriendsChange {
    /// Everybody else who is named.
    pub(super) fn others(&self) -> Vec<&UserId> {
        match self {
            FriendsChange::Add { friends, .. } => friends.iter().map(|(other, _)| other).collect(),
            FriendsChange::Import { friends } => friends.iter().map(|(other, _)| other).collect(),
            FriendsChange::Update { friends } => friends.iter().map(|(other, _)| other).collect(),
            FriendsChange::Delete { friends, .. } | FriendsChange::DeleteAll { friends, .. } => {
                friends.iter().collect()
            }
            FriendsChange::Lists(ListsUpdate { add, remove, .. }) => add.iter().chain(remove).collect(),
            FriendsChange::Drop { others, .. } => others.iter().collect(),
            FriendsChange::Answer { other, .. } => vec![other],
            FriendsChange::Read { .. } => Vec::new(),
        }
    }

    pub(super) fn check(&self, by: Author) -> Result<(), Error> {
        if self.others().len() > FRIENDS_MAX {
            return Err(Error::Argument("at most 100 users are named in one change"));
        }
        match self {
            FriendsChange::Import { .. } | FriendsChange::Add { force: true, .. } if by == Author::User => {
                Err(Error::NotAllowed)
            }
            FriendsChange::Add { friends, .. } => {
                friends.iter().try_for_each(|(_, NewFriend { remark, list, source, wording })| {
                    check_texts(remark, source, wording)?;
                    if list.is_empty() { Ok(()) } else { check_list(list) }
                })
            }
            FriendsChange::Import { friends } => friends.iter().try_for_each(|(_, friend)| {
                check_texts(&friend.remark, &friend.source, &friend.wording)?;
                check_lists(&friend.lists)?;
                Ok(profile::check_custom_values(&friend.custom)?)
            }),
            FriendsChange::Answer { remark, list, .. } => {
                check_texts(remark, "", "")?;
                if list.is_empty() { Ok(()) } else { check_list(list) }
            }
            FriendsChange::Update { friends } => friends.iter().try_for_each(|(_, friend)| {
                check_texts(friend.remark.as_deref().unwrap_or_default(), "", "")?;
                check_lists(friend.lists.as_deref().unwrap_or_default())?;
                Ok(profile::check_custom_values(&friend.custom)?)
            }),
            FriendsChange::Lists(lists) => update::check_lists_update(lists),
            FriendsChange::DeleteAll { friends, .. } if !friends.is_empty() && by == Author::User => {
                Err(Error::NotAllowed)
            }
            FriendsChange::Delete { .. }
            | FriendsChange::DeleteAll { .. }
            | FriendsChange::Read { .. }
            | FriendsChange::Drop { .. } => Ok(()),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        const TEXT_BYTES: usize = REMARK_BYTES_MAX + WORDING_BYTES_MAX;
        let custom =
            |custom: &BTreeMap<String, Bytes>| custom.iter().map(|(name, value)| name.len() + value.len()).sum();
        let custom_bytes: usize = match self {
            FriendsChange::Import { friends } => {
                friends.iter().map(|(_, friend)| -> usize { custom(&friend.custom) }).sum()
            }
            FriendsChange::Update { friends } => {
                friends.iter().map(|(_, friend)| -> usize { custom(&friend.custom) }).sum()
            }
            _ => 0,
        };
        TEXT_BYTES + self.others().len() * (USER_BYTES_MAX + TEXT_BYTES) + custom_bytes
    }

    pub(super) fn written_bytes(&self) -> usize {
        (1 + self.others().len()) * RELATION_BYTES + self.bytes()
    }

    pub(super) fn stamps_max(&self) -> usize {
        2 + STAMPS_EACH * self.others().len()
    }

    pub(super) fn reads(&self, app: AppId, user: &UserId) -> SmallVec<[Bytes; 4]> {
        let mut keys: SmallVec<[Bytes; 4]> = smallvec![keys::account(app, user), keys::book(app, user)];
        match self {
            FriendsChange::Update { .. } | FriendsChange::Lists(_) => {
                keys.extend(self.others().into_iter().map(|other| keys::friend(app, user, other)));
            }
            FriendsChange::Read { .. } => {}
            _ => {
                for other in self.others() {
                    keys.extend(reads(app, user, other));
                    keys.extend([keys::account(app, other), keys::profile(app, other)]);
                    keys.extend([keys::relation(app, user, other), keys::relation(app, other, user)]);
                }
            }
        }
        keys
    }

    pub(super) async fn stage(&self, staging: &mut Staging<'_>, change: &Change) -> Result<Answer, Error> {
        change.ensure_account(staging, &change.user).await?;
        let mut book = Book::open(staging, change.app, &change.user).await?;
        let outcomes = match self {
            FriendsChange::Add { friends, one_way, force } => {
                add::add(staging, change, &mut book, friends, *one_way, *force).await?
            }
            FriendsChange::Import { friends } => add::import(staging, change, &mut book, friends).await?,
            FriendsChange::Answer { other, answer, remark, list } => {
                add::answer(staging, change, &mut book, other, *answer, remark, list).await?;
                book.close(staging).await?;
                return Ok(Answer::Done);
            }
            FriendsChange::Update { friends } => update::update(staging, change, &mut book, friends).await?,
            FriendsChange::Delete { friends, one_way } => {
                end::delete(staging, change, &mut book, friends, *one_way).await?
            }
            FriendsChange::DeleteAll { friends, one_way } => {
                return end::delete_all(staging, change, book, friends, *one_way).await;
            }
            FriendsChange::Lists(lists) => update::lists(staging, change, &mut book, lists).await?,
            FriendsChange::Read { read_ms } => {
                update::read_requests(staging, change, &mut book, *read_ms);
                book.close(staging).await?;
                return Ok(Answer::Done);
            }
            FriendsChange::Drop { others, direction } => {
                end::drop_requests(staging, change, &mut book, others, *direction).await?
            }
        };
        book.close(staging).await?;
        Ok(Answer::Relations(outcomes))
    }
}

/// Keys that ending what is between two users reads.
pub(super) fn reads(app: AppId, user: &UserId, other: &UserId) -> [Bytes; 5] {
    [
        keys::book(app, other),
        keys::friend(app, user, other),
        keys::friend(app, other, user),
        keys::friend_request(app, user, Direction::Outgoing, other),
        keys::friend_request(app, user, Direction::Incoming, other),
    ]
}

fn outcome(user: &UserId, outcome: Result<Related, Refusal>) -> RelationOutcome {
    RelationOutcome { user: user.clone(), outcome }
}

fn check_texts(remark: &str, source: &str, wording: &str) -> Result<(), Error> {
    if remark.len() > REMARK_BYTES_MAX {
        return Err(Error::Argument("remark must have at most 96 bytes"));
    }
    if wording.len() > WORDING_BYTES_MAX {
        return Err(Error::Argument("wording must have at most 256 bytes"));
    }
    if source.len() > SOURCE_BYTES_MAX || !source.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Error::Argument("source must be at most 16 letters and digits"));
    }
    Ok(())
}

fn check_list(name: &str) -> Result<(), Error> {
    match (1..=LIST_BYTES_MAX).contains(&name.len()) {
        true => Ok(()),
        false => Err(Error::Argument("the name of a friend list must have 1 to 30 bytes")),
    }
}

fn check_lists(names: &[String]) -> Result<(), Error> {
    if names.len() > FRIENDS_MAX {
        return Err(Error::Argument("at most 100 friend lists are named"));
    }
    names.iter().try_for_each(|name| check_list(name))
}
