//! Friends, friend requests and friend lists: what there is to say about them, and reading them (REL-01 to
//! REL-14).
//!
//! Each user has a book of friends of his own: that one is somebody's friend does not make the other one's, unless
//! both were made so together. Friends are read in the order in which they changed last, so that one range gives
//! all of them, or those that changed since the last time. Who ceased to be a friend is kept beside them, as far as
//! there is room.
//!
//! What may not live here: changing any of it (see [`super::change::friends`]).

mod checks;
mod records;

pub use checks::{Which, relations};
pub(crate) use records::*;

use bytes::Bytes;
use futures::future::try_join_all;
use prost::Message as _;
use protocol::message::{Friend, FriendList, FriendRequest};

use super::{
    AppId, Error, UserId, damaged,
    keys::{self, Direction},
    profile::{self, Chosen},
    sync::{Budget, PageLimit},
};
use crate::store::{Lane, RangeQuery, ReadMode, Store, Tx};

/// Friends named in one change, or read by name, at the most.
pub const FRIENDS_MAX: usize = 100;
/// Longest remark, in bytes.
pub const REMARK_BYTES_MAX: usize = 96;
/// Longest name of a friend list, in bytes.
pub const LIST_BYTES_MAX: usize = 30;
/// Longest source, in bytes.
pub const SOURCE_BYTES_MAX: usize = 16;
/// Longest wording of a request, in bytes.
pub const WORDING_BYTES_MAX: usize = 256;
/// What the name of every custom field begins with.
pub const CUSTOM_PREFIX: &str = "Tag_SNS_Custom_";
/// Users who ceased to be a friend that are still known, at the most.
pub const REMOVED_MAX: u32 = 1_000;

/// Why a change of a relation was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Friends already, or no friends, or the user himself.
    #[error("friends already, no friends, or otherwise not as the request supposes")]
    Invalid,
    /// No account has this name.
    #[error("no such user")]
    UserUnknown,
    /// The user may not ask for friendships.
    #[error("an administrator has forbidden the user to ask for friendships")]
    Forbidden,
    /// The user has too many friends.
    #[error("the user has as many friends as there may be")]
    Full,
    /// The other has too many friends.
    #[error("the other has as many friends as there may be")]
    PeerFull,
    /// Too many friend lists.
    #[error("the user has as many friend lists as there may be")]
    ListsFull,
    /// One of the two has too many open requests.
    #[error("one of the two has as many open friend requests as there may be")]
    RequestsFull,
    /// The user's blacklist is full.
    #[error("the user's blacklist is full")]
    BlacklistFull,
    /// The other is on the user's blacklist.
    #[error("the other is on the user's blacklist")]
    OnBlacklist,
    /// The user is on the other's blacklist.
    #[error("the user is on the other's blacklist")]
    Blacklisted,
    /// The other takes no friends.
    #[error("the other takes no friends")]
    Denied,
    /// There is no such request.
    #[error("no such friend request")]
    RequestUnknown,
    /// There is no such friend to delete.
    #[error("no such friend to delete")]
    FriendUnknown,
}

/// A place in the sequence of a user's friends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Everything up to this sequence has been read.
    pub after: u64,
    /// The last sequence when the reading began: who was removed before that had never been told of. 0: it begins
    /// now, and who was removed until now is not asked for.
    pub base: u64,
}

impl Place {
    /// As clients keep it.
    pub fn to_bytes(self) -> Bytes {
        [self.after.to_be_bytes(), self.base.to_be_bytes()].concat().into()
    }

    /// As clients give it back; empty is the start.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        const LEN: usize = size_of::<u64>();
        if bytes.is_empty() {
            return Ok(Place::default());
        }
        let (after, base) = bytes.split_first_chunk::<LEN>().ok_or(NO_PLACE)?;
        let base = base.try_into().map_err(|_| NO_PLACE)?;
        Ok(Place { after: u64::from_be_bytes(*after), base: u64::from_be_bytes(base) })
    }
}

const NO_PLACE: Error = Error::Argument("from is not what a page named as the next one");

/// A page of a user's friends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FriendsPage {
    /// In the order in which they changed last.
    pub friends: Vec<Friend>,
    /// Who ceased to be a friend.
    pub removed: Vec<UserId>,
    /// Where the next page begins, or the next reading.
    pub next: Place,
    /// There is another page.
    pub more: bool,
    /// Who was removed since the sequence asked with is not known any more.
    pub start_over: bool,
    /// All friends.
    pub count: u32,
}

/// Reads the friends of `user` that changed behind a place (the start: all), and who was removed since. `list`: only
/// those on it. With these fields of their profiles.
pub async fn page(
    store: &Store,
    app: AppId,
    user: &UserId,
    from: Place,
    list: Option<String>,
    chosen: Chosen,
    limit: PageLimit,
) -> Result<FriendsPage, Error> {
    let user = user.clone();
    let read = async move |tx: &Tx| -> Result<FriendsPage, Error> {
        let reader = Reader::open(tx, app, &user).await?;
        reader.page(from, list.as_deref(), &chosen, limit).await
    };
    Ok(store.run(Lane::Read, "friends", read).await?.0)
}

/// Reads chosen friends, in the order asked for; `None` for those who are none.
pub async fn chosen(
    store: &Store,
    app: AppId,
    user: &UserId,
    others: Vec<UserId>,
    chosen: Chosen,
) -> Result<Vec<Option<Friend>>, Error> {
    let user = user.clone();
    let read = async move |tx: &Tx| -> Result<Vec<Option<Friend>>, Error> {
        let reader = Reader::open(tx, app, &user).await?;
        try_join_all(others.iter().map(|other| reader.friend(other, &chosen))).await
    };
    Ok(store.run(Lane::Read, "chosen_friends", read).await?.0)
}

/// A page of open friend requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestsPage {
    /// By name of the other.
    pub requests: Vec<FriendRequest>,
    /// There is another page.
    pub more: bool,
    /// Incoming requests up to this time are read.
    pub read_ms: u64,
    /// All open requests in that direction.
    pub count: u32,
}

/// Reads open friend requests of `user`, behind the name that the page before ended with.
pub async fn requests(
    store: &Store,
    app: AppId,
    user: &UserId,
    direction: Direction,
    after: Option<UserId>,
    limit: PageLimit,
) -> Result<RequestsPage, Error> {
    let user = user.clone();
    let entries_max = limit.entries_max.max(1);
    let read = async move |tx: &Tx| -> Result<RequestsPage, Error> {
        let book = tx.snapshot_get(&keys::book(app, &user));
        let (begin, end) = keys::friend_requests(app, &user, direction);
        let begin = after.as_ref().map_or(begin, |after| behind(&keys::friend_request(app, &user, direction, after)));
        let query = RangeQuery { begin, end, limit: entries_max + 1, reverse: false, mode: ReadMode::Snapshot };
        let pairs = tx.range(query).await?.pairs;
        let book = BookRecord::from_stored(book.await?)?;
        let count = if direction == Direction::Incoming { book.incoming } else { book.outgoing };
        let mut page =
            RequestsPage { more: pairs.len() > entries_max, read_ms: book.read_ms, count, ..Default::default() };
        let mut budget = Budget::new(limit.bytes_max);
        for (key, record) in pairs.into_iter().take(entries_max) {
            let (_, _, other) = keys::friend_request_parts(&key).ok_or_else(|| damaged("friend request key"))?;
            let request = told(&other, direction, &RequestRecord::from_stored(record)?);
            if !budget.take(request.encoded_len()) {
                page.more = true;
                break;
            }
            page.requests.push(request);
        }
        Ok(page)
    };
    Ok(store.run(Lane::Read, "friend_requests", read).await?.0)
}

/// An open request as the protocol tells it.
pub(crate) fn told(other: &UserId, direction: Direction, record: &RequestRecord) -> FriendRequest {
    FriendRequest {
        user: other.to_string(),
        incoming: direction == Direction::Incoming,
        wording: record.wording.clone(),
        source: record.source.clone(),
        time_ms: record.time_ms,
        ..FriendRequest::default()
    }
}

/// A user's friend lists, and how many friends are on each.
pub async fn lists(store: &Store, app: AppId, user: &UserId) -> Result<Vec<FriendList>, Error> {
    Ok(members(store, app, user).await?.into_iter().map(|(name, members)| list(name, members.len())).collect())
}

/// A number that grows whenever a user's friend lists change, or who is on them.
pub async fn lists_seq(store: &Store, app: AppId, user: &UserId) -> Result<u64, Error> {
    let key = keys::book(app, user);
    let read = async move |tx: &Tx| BookRecord::from_stored(tx.snapshot_get(&key).await?);
    Ok(store.run(Lane::Read, "friend_lists_seq", read).await?.0.lists_seq)
}

fn list(name: String, count: usize) -> FriendList {
    FriendList { name, count: u32::try_from(count).unwrap_or(u32::MAX) }
}

/// A user's friend lists, and who is on each, by name.
pub async fn members(store: &Store, app: AppId, user: &UserId) -> Result<Vec<(String, Vec<UserId>)>, Error> {
    let mut on_lists: Vec<OnLists> = Vec::new();
    let book = loop {
        let (user, after) = (user.clone(), on_lists.last().map(|(friend, _)| friend.clone()));
        let read = async move |tx: &Tx| some_on_lists(tx, app, &user, after.as_ref()).await;
        let ((book, friends, more), _) = store.run(Lane::Read, "friend_lists", read).await?;
        on_lists.extend(friends);
        if !more {
            break book;
        }
    };
    let on = |number: u32| on_lists.iter().filter(move |(_, lists)| lists.contains(&number));
    let lists = book.lists.into_iter();
    Ok(lists.map(|list| (list.name, on(list.number).map(|(friend, _)| friend.clone()).collect())).collect())
}

/// A friend, and the numbers of the lists that the friend is on.
type OnLists = (UserId, Vec<u32>);

/// As many friends as one transaction should read, behind a name; and whether there are more.
async fn some_on_lists(
    tx: &Tx,
    app: AppId,
    user: &UserId,
    after: Option<&UserId>,
) -> Result<(BookRecord, Vec<OnLists>, bool), Error> {
    const PER_TRANSACTION: usize = 512;
    let book = tx.snapshot_get(&keys::book(app, user));
    let (begin, end) = keys::friends(app, user);
    let begin = after.map_or(begin, |after| behind(&keys::friend(app, user, after)));
    let query = RangeQuery { begin, end, limit: PER_TRANSACTION, reverse: false, mode: ReadMode::Snapshot };
    let page = tx.range(query).await?;
    let mut friends = Vec::with_capacity(page.pairs.len());
    for (key, record) in page.pairs {
        let (_, friend) = keys::two_users(&key).ok_or_else(|| damaged("friend key"))?;
        friends.push((friend, FriendRecord::from_stored(record)?.lists));
    }
    Ok((BookRecord::from_stored(book.await?)?, friends, page.more))
}

/// The first key behind another one.
pub(crate) fn behind(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

struct Reader<'a> {
    tx: &'a Tx,
    app: AppId,
    user: &'a UserId,
    book: BookRecord,
}

impl<'a> Reader<'a> {
    async fn open(tx: &'a Tx, app: AppId, user: &'a UserId) -> Result<Self, Error> {
        let book = BookRecord::from_stored(tx.snapshot_get(&keys::book(app, user)).await?)?;
        Ok(Reader { tx, app, user, book })
    }

    async fn friend(&self, other: &UserId, chosen: &Chosen) -> Result<Option<Friend>, Error> {
        let friend = self.tx.snapshot_get(&keys::friend(self.app, self.user, other));
        let profile = match chosen.is_empty() {
            true => None,
            false => Some(chosen.of_profile(other, &profile::snapshot(self.tx, self.app, other).await?)),
        };
        let Some(stored) = friend.await? else { return Ok(None) };
        let FriendRecord { remark, lists, source, wording, added_ms, custom, .. } = FriendRecord::from_stored(stored)?;
        let (user, lists) = (other.to_string(), self.book.names(&lists));
        Ok(Some(Friend { user, remark, lists, source, wording, added_ms, custom, profile }))
    }

    async fn page(
        &self,
        from: Place,
        list: Option<&str>,
        chosen: &Chosen,
        limit: PageLimit,
    ) -> Result<FriendsPage, Error> {
        let (seq, count) = (self.book.seq, self.book.friends);
        let base = if from.base == 0 { seq } else { from.base };
        let Place { after, .. } = from;
        let known = after.max(base);
        if known > seq || known < self.book.floor_seq {
            return Ok(FriendsPage { start_over: true, count, ..FriendsPage::default() });
        }
        let entries_max = limit.entries_max.max(1);
        let changed = self.named(keys::friend_change, after, entries_max);
        let removed = self.named(keys::friend_removal, known, entries_max);
        let (changed, removed) = futures::try_join!(changed, removed)?;
        let is_cut = changed.len().max(removed.len()) > entries_max;
        let mut all: Vec<_> = changed.into_iter().map(|(seq, other)| (seq, other, false)).collect();
        all.extend(removed.into_iter().map(|(seq, other)| (seq, other, true)));
        all.sort_by_key(|(seq, _, _)| *seq);
        let more = is_cut || all.len() > entries_max;
        all.truncate(entries_max);
        let looked = all.iter().map(async |(_, other, is_removed)| match is_removed {
            true => Ok(None),
            false => self.friend(other, chosen).await,
        });
        let looked: Vec<Option<Friend>> = try_join_all(looked).await?;
        let next = Place { after, base };
        let mut page = FriendsPage { next, more, count, ..FriendsPage::default() };
        let mut budget = Budget::new(limit.bytes_max);
        for ((seq, other, is_removed), friend) in all.into_iter().zip(looked) {
            let wanted = friend.filter(|friend| list.is_none_or(|list| friend.lists.iter().any(|own| own == list)));
            let bytes = wanted.as_ref().map_or(other.as_str().len(), |friend| friend.encoded_len());
            if !budget.take(bytes) {
                page.more = true;
                return Ok(page);
            }
            page.next.after = seq;
            page.friends.extend(wanted);
            page.removed.extend(is_removed.then_some(other));
        }
        if !page.more {
            page.next = Place { after: seq, base: seq };
        }
        Ok(page)
    }

    /// Names in an index by sequence, behind `after`; one more than asked for, if there are more.
    async fn named(
        &self,
        key: fn(AppId, &UserId, u64) -> Bytes,
        after: u64,
        count: usize,
    ) -> Result<Vec<(u64, UserId)>, Error> {
        let begin = key(self.app, self.user, after.saturating_add(1));
        let end = key(self.app, self.user, u64::MAX);
        let query = RangeQuery { begin, end, limit: count + 1, reverse: false, mode: ReadMode::Snapshot };
        let named = |(key, name): (Bytes, Bytes)| {
            let (_, seq) = keys::user_and_seq(&key)?;
            Some((seq, UserId::new(std::str::from_utf8(&name).ok()?)?))
        };
        let pairs = self.tx.range(query).await?.pairs.into_iter();
        pairs.map(|pair| named(pair).ok_or_else(|| damaged("index of friends"))).collect()
    }
}
