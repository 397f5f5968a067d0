//! Friends and requests: what is kept in several places says the same in each.

use bytes::Bytes;
use prost::Message as _;

use super::Check;
use crate::domain::{
    AppId, Error, UserId,
    account::is_there,
    friends::{BookRecord, FriendRecord, REMOVED_MAX, RequestRecord},
    keys::{self, Direction},
    records::RelationRecord,
};

impl Check<'_> {
    pub(super) fn friend(
        &mut self,
        app: AppId,
        key: &[u8],
        user: &UserId,
        friend: &UserId,
        value: Bytes,
    ) -> Result<(), Error> {
        let Ok(record) = FriendRecord::decode(value) else {
            self.problem(key, "does not decode");
            return Ok(());
        };
        if self.walk.get(&keys::friend_change(app, user, record.seq))?.as_deref() != Some(friend.as_str().as_bytes()) {
            self.problem(key, &format!("the index of friends does not name it at sequence {}", record.seq));
        }
        if !self.says(app, user, friend)?.friend {
            self.problem(key, "sends would not find that they are friends");
        }
        if self.walk.get(&keys::kept_by(app, friend, user))?.is_none() {
            self.problem(key, "it is not in the index of who has whom as a friend");
        }
        for (one, other) in [(user, friend), (friend, user)] {
            if self.says(app, one, other)?.blacklisted {
                self.problem(key, &format!("{one} has blacklisted {other}"));
            }
        }
        if !is_there(self.walk.get(&keys::account(app, friend))?).unwrap_or(true)
            && self.walk.get(&keys::unfinished(app, friend))?.is_none()
        {
            self.problem(key, "the friend's account is not there");
        }
        Ok(())
    }

    fn says(&self, app: AppId, user: &UserId, other: &UserId) -> Result<RelationRecord, Error> {
        let stored = self.walk.get(&keys::relation(app, user, other))?;
        // What does not decode is told where it stands.
        Ok(stored.and_then(|stored| RelationRecord::decode(stored).ok()).unwrap_or_default())
    }

    pub(super) fn relation(
        &mut self,
        app: AppId,
        key: &[u8],
        user: &UserId,
        other: &UserId,
        value: Bytes,
    ) -> Result<(), Error> {
        match RelationRecord::decode(value) {
            Err(_) => self.problem(key, "does not decode"),
            Ok(relation) if relation.friend && self.walk.get(&keys::friend(app, user, other))?.is_none() => {
                self.problem(key, "says that they are friends, and nothing is kept about the friend");
            }
            Ok(_) => {}
        }
        Ok(())
    }

    pub(super) fn book(&mut self, app: AppId, key: &[u8], user: &UserId, value: Bytes) -> Result<(), Error> {
        let Ok(book) = BookRecord::decode(value) else {
            self.problem(key, "does not decode");
            return Ok(());
        };
        let requests = |direction| keys::friend_requests(app, user, direction);
        let counts = [
            ("friends", book.friends, keys::friends(app, user)),
            ("removed friends", book.removed, keys::friend_removals(app, user)),
            ("incoming requests", book.incoming, requests(Direction::Incoming)),
            ("outgoing requests", book.outgoing, requests(Direction::Outgoing)),
        ];
        for (what, noted, range) in counts {
            let mut count = 0;
            self.walk.each(range, |_, _| {
                count += 1;
                Ok(())
            })?;
            if count != noted {
                self.problem(key, &format!("{what}: {noted} are noted, {count} are there"));
            }
        }
        if book.removed > REMOVED_MAX || book.floor_seq > book.seq {
            self.problem(key, "more removed friends are kept than may be, or its floor is above its sequence");
        }
        Ok(())
    }

    pub(super) fn friend_change(
        &mut self,
        app: AppId,
        key: &[u8],
        user: &UserId,
        seq: u64,
        value: &[u8],
    ) -> Result<(), Error> {
        let named = std::str::from_utf8(value).ok().and_then(UserId::new);
        let friend = match named {
            Some(friend) => self.walk.get(&keys::friend(app, user, &friend))?,
            None => None,
        };
        if friend.and_then(|friend| FriendRecord::decode(friend).ok()).is_none_or(|friend| friend.seq != seq) {
            self.problem(key, "the friend that it names did not change last at this sequence");
        }
        self.within_book(app, key, user, seq)
    }

    pub(super) fn friend_removal(&mut self, app: AppId, key: &[u8], user: &UserId, seq: u64) -> Result<(), Error> {
        self.within_book(app, key, user, seq)
    }

    fn within_book(&mut self, app: AppId, key: &[u8], user: &UserId, seq: u64) -> Result<(), Error> {
        let book = self.walk.get(&keys::book(app, user))?;
        let book = book.and_then(|book| BookRecord::decode(book).ok()).unwrap_or_default();
        if seq > book.seq {
            self.problem(key, &format!("the sequence of the user's friends is only {}", book.seq));
        }
        Ok(())
    }

    pub(super) fn friend_request(
        &mut self,
        app: AppId,
        key: &[u8],
        user: &UserId,
        direction: Direction,
        other: &UserId,
        value: Bytes,
    ) -> Result<(), Error> {
        if RequestRecord::decode(value).is_err() {
            self.problem(key, "does not decode");
        }
        if self.walk.get(&keys::friend_request(app, other, direction.reversed(), user))?.is_none() {
            self.problem(key, "the other does not have it");
        }
        // That there is a book at all: its counts are checked where it stands.
        if self.walk.get(&keys::book(app, user))?.is_none() {
            self.problem(key, "its user has no book of friends");
        }
        Ok(())
    }

    pub(super) fn kept_by(&mut self, app: AppId, key: &[u8], user: &UserId, other: &UserId) -> Result<(), Error> {
        if self.walk.get(&keys::friend(app, other, user))?.is_none() {
            self.problem(key, "the other does not have the user as a friend");
        }
        Ok(())
    }
}
