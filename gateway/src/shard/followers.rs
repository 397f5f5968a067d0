//! Who follows the presence of the users whose home is this core, and what they were told.
//!
//! Followers are told states, not changes: the first change at once, then the newest state when some time
//! has passed, and nothing if it is what they know. So a user whose state flaps costs its followers little.

use ahash::{AHashMap, AHashSet};
use protocol::{EncodedPush, connection::Millis, message::Presence};

use super::online::UserKey;
use crate::mailbox::{Address, ConnectionId};

/// Time between two pushes of one user's presence, at the least.
pub(super) const PUSH_INTERVAL_MS: Millis = 500;

/// Followed users by name.
#[derive(Default)]
pub(super) struct FollowerTable {
    followed: AHashMap<UserKey, Followed>,
    /// Users whose followers may have to be told something later.
    unsettled: Vec<UserKey>,
    follows: usize,
}

#[derive(Default)]
struct Followed {
    followers: AHashSet<Address>,
    /// What all of them know; `None`: not the same.
    told: Option<EncodedPush>,
    /// Not to be told anything before.
    quiet_until: Millis,
    /// Is among the unsettled.
    is_unsettled: bool,
}

/// Something to tell.
#[derive(Debug, PartialEq)]
pub(super) struct News {
    pub(super) push: EncodedPush,
    /// By core.
    pub(super) followers: Vec<Vec<ConnectionId>>,
}

impl FollowerTable {
    /// Adds a follower, who is being told `presence`.
    pub(super) fn add(&mut self, key: &UserKey, follower: Address, presence: &Presence) {
        let followed = self.followed.entry(key.clone()).or_default();
        if followed.followers.is_empty() {
            followed.told = Some(EncodedPush::presence(presence));
        }
        self.follows += usize::from(followed.followers.insert(follower));
        self.told_one(key, presence);
    }

    /// Somebody is being told `presence`, whom the next push may concern.
    pub(super) fn told_one(&mut self, key: &UserKey, presence: &Presence) {
        if self.unsettled.is_empty() {
            return; // all followers know the present state
        }
        if let Some(followed) = self.followed.get_mut(key)
            && followed.is_unsettled
            && followed.told.as_ref() != Some(&EncodedPush::presence(presence))
        {
            // The others know an older state: should it come back, this one has to be told.
            followed.told = None;
        }
    }

    /// Removes a follower.
    pub(super) fn remove(&mut self, key: &UserKey, follower: Address) {
        let Some(followed) = self.followed.get_mut(key) else { return };
        self.follows -= usize::from(followed.followers.remove(&follower));
        if followed.followers.is_empty() {
            self.followed.remove(key);
        }
    }

    /// A user's presence may have changed. Returns what to tell now; otherwise it is among [`Self::due`] later.
    pub(super) fn changed(
        &mut self,
        key: &UserKey,
        now: Millis,
        cores: usize,
        presence: impl FnOnce() -> Presence,
    ) -> Option<News> {
        if self.followed.is_empty() {
            return None;
        }
        let followed = self.followed.get_mut(key)?;
        if now < followed.quiet_until {
            if !std::mem::replace(&mut followed.is_unsettled, true) {
                self.unsettled.push(key.clone());
            }
            return None;
        }
        let push = EncodedPush::presence(&presence());
        if followed.told.as_ref() == Some(&push) {
            return None;
        }
        followed.told = Some(push.clone());
        followed.quiet_until = now + PUSH_INTERVAL_MS;
        let mut followers: Vec<Vec<ConnectionId>> = (0..cores).map(|_| Vec::new()).collect();
        for follower in &followed.followers {
            if let Some(connections) = followers.get_mut(usize::from(follower.core)) {
                connections.push(follower.connection);
            }
        }
        Some(News { push, followers })
    }

    /// Users whose followers may be told again; to be asked about with [`Self::changed`].
    pub(super) fn due(&mut self, now: Millis) -> Vec<UserKey> {
        let followed = &mut self.followed;
        let due = self.unsettled.extract_if(.., |key| followed.get(key).is_none_or(|it| now >= it.quiet_until));
        let due: Vec<UserKey> = due.collect();
        for key in &due {
            if let Some(followed) = followed.get_mut(key) {
                followed.is_unsettled = false;
            }
        }
        due
    }

    /// How many follow whom, in all.
    pub(super) fn follows(&self) -> usize {
        self.follows
    }
}

#[cfg(test)]
mod tests {
    use backend::domain::UserId;
    use protocol::message::OnlineState;

    use super::*;

    fn key() -> UserKey {
        (1, UserId::new("anna").unwrap())
    }

    fn at(connection: ConnectionId) -> Address {
        Address { node: crate::mailbox::HERE, core: 1, connection }
    }

    fn presence(state: OnlineState) -> Presence {
        Presence { user: "anna".into(), state: state.into(), ..Presence::default() }
    }

    /// Whom a change to `state` is told to at `now`.
    fn told(table: &mut FollowerTable, now: Millis, state: OnlineState) -> Vec<ConnectionId> {
        let news = table.changed(&key(), now, 2, || presence(state));
        news.map(|news| {
            assert_eq!(news.push, EncodedPush::presence(&presence(state)));
            assert!(news.followers[0].is_empty());
            let mut connections = news.followers[1].clone();
            connections.sort_unstable();
            connections
        })
        .unwrap_or_default()
    }

    use OnlineState::{Offline, Online, PushOnline};

    #[test]
    fn a_change_is_told_once_and_to_followers_alone() {
        let mut table = FollowerTable::default();
        assert!(told(&mut table, 1_000, Online).is_empty(), "nobody follows");
        for connection in [1, 2, 1] {
            table.add(&key(), at(connection), &presence(Offline));
        }
        assert_eq!(table.follows(), 2);
        assert!(told(&mut table, 1_000, Offline).is_empty(), "they know");
        assert_eq!(told(&mut table, 1_000, Online), [1, 2]);
        table.remove(&key(), at(1));
        table.remove(&key(), at(1));
        assert!(told(&mut table, 9_000, Online).is_empty());
        assert_eq!(told(&mut table, 9_000, Offline), [2]);
        table.remove(&key(), at(2));
        assert_eq!((table.follows(), table.followed.len()), (0, 0));
        assert!(told(&mut table, 20_000, Online).is_empty());
    }

    #[test]
    fn states_of_a_busy_time_are_left_out_but_not_the_last() {
        let mut table = FollowerTable::default();
        table.add(&key(), at(1), &presence(Offline));
        assert_eq!(told(&mut table, 1_000, Online), [1]);
        for state in [PushOnline, Online, PushOnline] {
            assert!(told(&mut table, 1_001, state).is_empty());
        }
        assert!(table.due(1_000 + PUSH_INTERVAL_MS - 1).is_empty());
        assert_eq!(table.due(1_000 + PUSH_INTERVAL_MS), [key()]);
        assert_eq!(told(&mut table, 1_000 + PUSH_INTERVAL_MS, PushOnline), [1]);
        assert!(table.due(9_000).is_empty(), "settled");
        // There and back again is no news.
        assert!(told(&mut table, 1_501, Online).is_empty());
        assert!(told(&mut table, 1_502, PushOnline).is_empty());
        assert_eq!(table.due(9_000), [key()]);
        assert!(told(&mut table, 9_000, PushOnline).is_empty());
    }

    #[test]
    fn who_was_answered_a_passing_state_is_told_that_it_has_passed() {
        for asks in [false, true] {
            let mut table = FollowerTable::default();
            table.add(&key(), at(1), &presence(Offline));
            assert_eq!(told(&mut table, 1_000, Online), [1]);
            assert!(told(&mut table, 1_001, PushOnline).is_empty());
            if asks {
                table.told_one(&key(), &presence(PushOnline));
            } else {
                table.add(&key(), at(2), &presence(PushOnline));
            }
            assert!(told(&mut table, 1_002, Online).is_empty());
            assert_eq!(table.due(2_000), [key()]);
            assert_eq!(told(&mut table, 2_000, Online), if asks { vec![1] } else { vec![1, 2] });
        }
    }

    #[test]
    fn who_is_gone_before_the_time_has_come_is_told_nothing() {
        let mut table = FollowerTable::default();
        table.add(&key(), at(1), &presence(Offline));
        assert_eq!(told(&mut table, 1_000, Online), [1]);
        assert!(told(&mut table, 1_001, Offline).is_empty());
        table.remove(&key(), at(1));
        assert_eq!(table.due(1_001), [key()]);
        assert!(told(&mut table, 1_001, Offline).is_empty());
        assert!(table.unsettled.is_empty());
    }
}
