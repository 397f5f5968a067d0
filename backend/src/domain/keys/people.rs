//! Keys of profiles, friends and friend requests.

use bytes::Bytes;
use foundationdb_tuple::unpack;

use super::{
    AppId, BOOK, FRIEND, FRIEND_CHANGE, FRIEND_REMOVAL, FRIEND_REQUEST, KEPT_BY, PROFILE, UNFINISHED, UserId, children,
    key,
};

/// A user's profile.
pub fn profile(app: AppId, user: &UserId) -> Bytes {
    key(&(app, PROFILE, user.as_str()))
}

/// What `user` keeps about a friend.
pub fn friend(app: AppId, user: &UserId, friend: &UserId) -> Bytes {
    key(&(app, FRIEND, user.as_str(), friend.as_str()))
}

/// All friends of `user`, by name.
pub fn friends(app: AppId, user: &UserId) -> (Bytes, Bytes) {
    children(&(app, FRIEND, user.as_str()))
}

/// Counts and sequence of a user's friends and requests.
pub fn book(app: AppId, user: &UserId) -> Bytes {
    key(&(app, BOOK, user.as_str()))
}

/// Names the friend that changed last at a sequence.
pub fn friend_change(app: AppId, user: &UserId, seq: u64) -> Bytes {
    key(&(app, FRIEND_CHANGE, user.as_str(), seq))
}

/// Names who ceased to be a friend at a sequence.
pub fn friend_removal(app: AppId, user: &UserId, seq: u64) -> Bytes {
    key(&(app, FRIEND_REMOVAL, user.as_str(), seq))
}

/// Everybody who ceased to be a friend of `user`, as far as it is known.
pub fn friend_removals(app: AppId, user: &UserId) -> (Bytes, Bytes) {
    children(&(app, FRIEND_REMOVAL, user.as_str()))
}

/// Which way a friend request goes, seen from the user who keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the other to the user.
    Incoming,
    /// From the user to the other.
    Outgoing,
}

impl Direction {
    fn number(self) -> u32 {
        match self {
            Direction::Incoming => 1,
            Direction::Outgoing => 2,
        }
    }

    /// The same request, seen from the other.
    pub fn reversed(self) -> Self {
        match self {
            Direction::Incoming => Direction::Outgoing,
            Direction::Outgoing => Direction::Incoming,
        }
    }
}

/// An open friend request between `user` and `other`, as `user` keeps it.
pub fn friend_request(app: AppId, user: &UserId, direction: Direction, other: &UserId) -> Bytes {
    key(&(app, FRIEND_REQUEST, user.as_str(), direction.number(), other.as_str()))
}

/// All open friend requests of `user` in one direction, by name.
pub fn friend_requests(app: AppId, user: &UserId, direction: Direction) -> (Bytes, Bytes) {
    children(&(app, FRIEND_REQUEST, user.as_str(), direction.number()))
}

/// The direction of a key of [`friend_request`], and the other.
pub fn friend_request_parts(key: &[u8]) -> Option<(UserId, Direction, UserId)> {
    let (_, _, user, direction, other): (AppId, u32, String, u32, String) = unpack(key).ok()?;
    let direction = [Direction::Incoming, Direction::Outgoing].into_iter().find(|own| own.number() == direction)?;
    Some((UserId::new(&user)?, direction, UserId::new(&other)?))
}

/// What a change of several transactions has still to do.
pub fn unfinished(app: AppId, user: &UserId) -> Bytes {
    key(&(app, UNFINISHED, user.as_str()))
}

/// All unfinished changes of an application.
pub fn all_unfinished(app: AppId) -> (Bytes, Bytes) {
    children(&(app, UNFINISHED))
}

/// Whose a key of [`unfinished`] or [`book`] is.
pub fn one_user(key: &[u8]) -> Option<UserId> {
    let (_, _, user): (AppId, u32, String) = unpack(key).ok()?;
    UserId::new(&user)
}

/// Says that `other` has `user` as a friend.
pub fn kept_by(app: AppId, user: &UserId, other: &UserId) -> Bytes {
    key(&(app, KEPT_BY, user.as_str(), other.as_str()))
}

/// Everybody who has `user` as a friend, by name.
pub fn all_kept_by(app: AppId, user: &UserId) -> (Bytes, Bytes) {
    children(&(app, KEPT_BY, user.as_str()))
}

/// The two users that a key of [`friend`] or [`kept_by`] names.
pub fn two_users(key: &[u8]) -> Option<(UserId, UserId)> {
    let (_, _, one, other): (AppId, u32, String, String) = unpack(key).ok()?;
    Some((UserId::new(&one)?, UserId::new(&other)?))
}

/// The user and the sequence that a key of [`friend_change`] or [`friend_removal`] names.
pub fn user_and_seq(key: &[u8]) -> Option<(UserId, u64)> {
    let (_, _, user, seq): (AppId, u32, String, u64) = unpack(key).ok()?;
    Some((UserId::new(&user)?, seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_people_are_taken_apart_again() {
        let (a, b) = (UserId::new("a").unwrap(), UserId::new("b 2").unwrap());
        assert_eq!(two_users(&friend(9, &a, &b)), Some((a.clone(), b.clone())));
        assert_eq!(two_users(&kept_by(9, &a, &b)), Some((a.clone(), b.clone())));
        assert_eq!(one_user(&unfinished(9, &b)), Some(b.clone()));
        for seq in [0, 255, u64::MAX] {
            assert_eq!(user_and_seq(&friend_change(9, &a, seq)), Some((a.clone(), seq)));
            assert_eq!(user_and_seq(&friend_removal(9, &b, seq)), Some((b.clone(), seq)));
        }
        for direction in [Direction::Incoming, Direction::Outgoing] {
            let request = friend_request(9, &a, direction, &b);
            assert_eq!(friend_request_parts(&request), Some((a.clone(), direction, b.clone())));
            let (begin, end) = friend_requests(9, &a, direction);
            assert!(begin < request && request < end);
        }
        assert!(friend_change(9, &a, 255) < friend_change(9, &a, 256));
    }
}
