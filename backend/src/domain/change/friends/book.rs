//! A user's book of friends inside a change: opened, written into, and closed.
//!
//! Everything that belongs together is written together here: the friend, the index of friends, the mark that sends
//! look for (`RelationRecord.friend`), the index of who has whom as a friend, and the counts.

use bytes::Bytes;
use prost::Message as _;
use protocol::message::{FriendListsChanged, FriendRequestState, FriendsChanged, event::What};

use crate::{
    domain::{
        AppId, Error, UserId,
        act::Staging,
        change::blacklist::{put_relation, relation},
        damaged,
        friends::{self, BookRecord, FriendRecord, ListRecord, REMOVED_MAX, Refusal, RequestRecord},
        keys::{self, Direction},
        records::RelationRecord,
    },
    store::{RangeQuery, ReadMode},
};

/// An open book.
pub(in crate::domain::change) struct Book {
    app: AppId,
    pub(in crate::domain::change) user: UserId,
    pub(in crate::domain::change) record: BookRecord,
    before: BookRecord,
    changed: Vec<UserId>,
    removed: Vec<UserId>,
    /// A list that was given another name.
    renamed: Option<(String, String)>,
}

impl Book {
    /// Opens a user's book.
    pub(in crate::domain::change) async fn open(
        staging: &mut Staging<'_>,
        app: AppId,
        user: &UserId,
    ) -> Result<Self, Error> {
        let record = BookRecord::from_stored(staging.get(&keys::book(app, user)).await?)?;
        let (before, changed, removed) = (record.clone(), Vec::new(), Vec::new());
        Ok(Book { app, user: user.clone(), record, before, changed, removed, renamed: None })
    }

    /// What is kept about a friend.
    pub(in crate::domain::change) async fn friend(
        &self,
        staging: &mut Staging<'_>,
        other: &UserId,
    ) -> Result<Option<FriendRecord>, Error> {
        let stored = staging.get(&keys::friend(self.app, &self.user, other)).await?;
        stored.map(FriendRecord::from_stored).transpose()
    }

    /// Writes a friend, who may be one already.
    pub(in crate::domain::change) async fn put(
        &mut self,
        staging: &mut Staging<'_>,
        other: &UserId,
        before: Option<&FriendRecord>,
        friend: FriendRecord,
    ) -> Result<(), Error> {
        let (app, user) = (self.app, &self.user);
        match before {
            Some(before) => staging.clear(&keys::friend_change(app, user, before.seq)),
            None => {
                self.record.friends += 1;
                self.mark(staging, other, true).await?;
                staging.set(keys::kept_by(app, other, user), Bytes::new());
            }
        }
        self.record.seq += 1;
        let friend = FriendRecord { seq: self.record.seq, ..friend };
        staging.set(keys::friend(app, user, other), friend.encode_to_vec());
        staging.set(keys::friend_change(app, user, friend.seq), Bytes::copy_from_slice(other.as_str().as_bytes()));
        self.changed.push(other.clone());
        Ok(())
    }

    /// Removes a friend.
    pub(in crate::domain::change) async fn remove(
        &mut self,
        staging: &mut Staging<'_>,
        other: &UserId,
        friend: &FriendRecord,
    ) -> Result<(), Error> {
        let (app, user) = (self.app, &self.user);
        self.record.friends = self.record.friends.saturating_sub(1);
        self.record.seq += 1;
        self.record.removed += 1;
        self.mark(staging, other, false).await?;
        staging.clear(&keys::kept_by(app, other, user));
        staging.clear(&keys::friend(app, user, other));
        staging.clear(&keys::friend_change(app, user, friend.seq));
        let name = Bytes::copy_from_slice(other.as_str().as_bytes());
        staging.set(keys::friend_removal(app, user, self.record.seq), name);
        self.removed.push(other.clone());
        Ok(())
    }

    /// Says where sends look for it whether the other is a friend.
    async fn mark(&self, staging: &mut Staging<'_>, other: &UserId, friend: bool) -> Result<(), Error> {
        let relation = relation(staging, self.app, &self.user, other).await?;
        put_relation(staging, self.app, &self.user, other, &RelationRecord { friend, ..relation });
        Ok(())
    }

    /// The numbers of lists with these names; those that are not there are made.
    pub(in crate::domain::change) fn list_numbers(
        &mut self,
        names: &[String],
        lists_max: u32,
    ) -> Result<Vec<u32>, Refusal> {
        let is_new = |name: &&String| self.record.lists.iter().all(|list| list.name != **name);
        let mut new: Vec<&String> = names.iter().filter(is_new).collect();
        new.sort_unstable();
        new.dedup();
        if !new.is_empty() && self.record.lists.len() + new.len() > lists_max as usize {
            return Err(Refusal::ListsFull);
        }
        // In the order in which they are named.
        for name in names {
            if self.list(name).is_none() {
                self.record.last_list += 1;
                self.record.lists.push(ListRecord { number: self.record.last_list, name: name.clone() });
            }
        }
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| self.list(name)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    /// The number of a list.
    pub(in crate::domain::change) fn list(&self, name: &str) -> Option<u32> {
        self.record.lists.iter().find(|list| list.name == name).map(|list| list.number)
    }

    /// Leaves out the numbers of lists that are gone.
    pub(in crate::domain::change) fn present(&self, numbers: &[u32]) -> Vec<u32> {
        let is_there = |number: &u32| self.record.lists.iter().any(|list| list.number == *number);
        numbers.iter().copied().filter(is_there).collect()
    }

    /// Gives a list another name.
    pub(in crate::domain::change) fn rename_list(&mut self, name: &str, to: &str) {
        for list in self.record.lists.iter_mut().filter(|list| list.name == name) {
            list.name = to.to_owned();
        }
        self.renamed = Some((name.to_owned(), to.to_owned()));
    }

    /// An open request between the user and another one.
    pub(in crate::domain::change) async fn request(
        &self,
        staging: &mut Staging<'_>,
        direction: Direction,
        other: &UserId,
    ) -> Result<Option<RequestRecord>, Error> {
        let stored = staging.get(&keys::friend_request(self.app, &self.user, direction, other)).await?;
        stored.map(RequestRecord::from_stored).transpose()
    }

    fn open_requests(&mut self, direction: Direction) -> &mut u32 {
        match direction {
            Direction::Incoming => &mut self.record.incoming,
            Direction::Outgoing => &mut self.record.outgoing,
        }
    }

    /// Whether the user may have another open request in a direction.
    pub(in crate::domain::change) fn has_room(&mut self, direction: Direction, requests_max: u32) -> bool {
        *self.open_requests(direction) < requests_max
    }

    /// Writes one side of an open request, and tells that side. `is_new`: there was none.
    pub(in crate::domain::change) fn put_request(
        &mut self,
        staging: &mut Staging<'_>,
        direction: Direction,
        other: &UserId,
        request: &RequestRecord,
        is_new: bool,
    ) {
        *self.open_requests(direction) += u32::from(is_new);
        staging.set(keys::friend_request(self.app, &self.user, direction, other), request.encode_to_vec());
        let event = friends::told(other, direction, request);
        staging.append_stored(self.app, &self.user, &What::FriendRequest(event));
    }

    /// Removes one side of an open request, and tells that side what became of it.
    fn take_request(
        &mut self,
        staging: &mut Staging<'_>,
        direction: Direction,
        other: &UserId,
        request: &RequestRecord,
        state: FriendRequestState,
    ) {
        let open = self.open_requests(direction);
        *open = open.saturating_sub(1);
        staging.clear(&keys::friend_request(self.app, &self.user, direction, other));
        let mut event = friends::told(other, direction, request);
        event.set_state(state);
        staging.append_stored(self.app, &self.user, &What::FriendRequest(event));
    }

    /// Ends an open request on both sides; `peer` is the other's book. Returns what this side kept.
    pub(in crate::domain::change) async fn end_request(
        &mut self,
        staging: &mut Staging<'_>,
        peer: &mut Book,
        direction: Direction,
        state: FriendRequestState,
    ) -> Result<Option<RequestRecord>, Error> {
        let Some(own) = self.request(staging, direction, &peer.user).await? else { return Ok(None) };
        let back = direction.reversed();
        let theirs = peer.request(staging, back, &self.user).await?.ok_or_else(|| damaged("friend request"))?;
        self.take_request(staging, direction, &peer.user, &own, state);
        peer.take_request(staging, back, &self.user, &theirs, state);
        Ok(Some(own))
    }

    /// Ends the open requests of both directions between two users.
    pub(in crate::domain::change) async fn end_requests(
        &mut self,
        staging: &mut Staging<'_>,
        peer: &mut Book,
        state: FriendRequestState,
    ) -> Result<(), Error> {
        self.end_request(staging, peer, Direction::Outgoing, state).await?;
        self.end_request(staging, peer, Direction::Incoming, state).await?;
        Ok(())
    }

    /// Ends what there is between two users: friendships of both, and open requests.
    pub(in crate::domain::change) async fn part(
        &mut self,
        staging: &mut Staging<'_>,
        peer: &mut Book,
    ) -> Result<(), Error> {
        if let Some(friend) = self.friend(staging, &peer.user).await? {
            self.remove(staging, &peer.user.clone(), &friend).await?;
        }
        if let Some(friend) = peer.friend(staging, &self.user).await? {
            peer.remove(staging, &self.user, &friend).await?;
        }
        self.end_requests(staging, peer, FriendRequestState::Dropped).await
    }

    /// Writes what is left to write, and tells the user's devices. Once nothing is read any more.
    pub(in crate::domain::change) async fn close(mut self, staging: &mut Staging<'_>) -> Result<(), Error> {
        self.forget_removed(staging).await?;
        if self.record.lists != self.before.lists || !self.changed.is_empty() || !self.removed.is_empty() {
            self.record.lists_seq += 1;
        }
        let Book { app, user, record, before, changed, removed, renamed } = self;
        if record.lists != before.lists {
            let lists = record.lists.iter().map(|list| list.name.clone()).collect();
            let (renamed, to) = renamed.unwrap_or_default();
            staging.append_stored(app, &user, &What::FriendLists(FriendListsChanged { lists, renamed, to }));
        }
        if !changed.is_empty() || !removed.is_empty() {
            let names = |users: Vec<UserId>| users.iter().map(UserId::to_string).collect();
            let event = FriendsChanged { changed: names(changed), removed: names(removed) };
            staging.append_stored(app, &user, &What::Friends(event));
        }
        if record != before {
            staging.set(keys::book(app, &user), record.encode_to_vec());
        }
        Ok(())
    }

    /// Those who ceased to be a friend longest ago are not known any more, if they are too many.
    async fn forget_removed(&mut self, staging: &Staging<'_>) -> Result<(), Error> {
        let too_many = self.record.removed.saturating_sub(REMOVED_MAX);
        if too_many == 0 {
            return Ok(());
        }
        let (begin, end) = keys::friend_removals(self.app, &self.user);
        let limit = too_many as usize;
        let query = RangeQuery { begin, end, limit, reverse: false, mode: ReadMode::Serializable };
        for (key, _) in staging.tx.range(query).await?.pairs {
            let (_, seq) = keys::user_and_seq(&key).ok_or_else(|| damaged("removed friend key"))?;
            staging.tx.clear(&key);
            self.record.floor_seq = seq;
            self.record.removed -= 1;
        }
        Ok(())
    }
}
