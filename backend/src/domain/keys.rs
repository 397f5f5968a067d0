//! Every key of the store, in one place.
//!
//! Keys are tuple-encoded (FoundationDB's tuple layer), so that byte order is the tuples' order and any
//! FoundationDB tool can read them. Every key begins with the application; 0 is no application and
//! holds what concerns the deployment. The second element names the subspace:
//!
//! | key | value |
//! | --- | --- |
//! | `(app, 1)` | `ApplicationRecord` |
//! | `(app, 2, user)` | `AccountRecord` |
//! | `(app, 3, 1, user, user)` | a 1:1 conversation's newest sequence, u64 little-endian |
//! | `(app, 4, 1, user, user, seq)` | a message of a 1:1 conversation, as the protocol's `Message` |
//! | `(app, 5, sender, client_message_id)` | `SentRecord`: what a send was answered |
//! | `(app, 6, user, versionstamp)` | `EventRecord`: an entry of the user's event log |
//!
//! The two users of a 1:1 conversation stand in byte order. A subspace's number is never used again
//! for something else.

use bytes::Bytes;
use foundationdb_tuple::{Bytes as TupleBytes, TuplePack, pack};

use super::{AppId, UserId};
use crate::store::Versionstamp;

const APPLICATION: u32 = 1;
const ACCOUNT: u32 = 2;
const CONVERSATION_HEAD: u32 = 3;
const MESSAGE: u32 = 4;
const SENT: u32 = 5;
const EVENT: u32 = 6;

/// Kind of a conversation, inside its keys.
const ONE_TO_ONE: u32 = 1;

/// The tuple layer's type code of a versionstamp.
const VERSIONSTAMP_TYPE: u8 = 0x33;

/// A 1:1 conversation: the same for both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversation<'a> {
    low: &'a str,
    high: &'a str,
}

impl<'a> Conversation<'a> {
    /// The conversation between two users, in either order.
    pub fn between(one: &'a UserId, other: &'a UserId) -> Self {
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        Conversation { low: low.as_str(), high: high.as_str() }
    }
}

/// The application itself.
pub fn application(app: AppId) -> Bytes {
    key(&(app, APPLICATION))
}

/// An account.
pub fn account(app: AppId, user: &UserId) -> Bytes {
    key(&(app, ACCOUNT, user.as_str()))
}

/// A conversation's newest sequence.
pub fn conversation_head(app: AppId, conversation: Conversation<'_>) -> Bytes {
    key(&(app, CONVERSATION_HEAD, ONE_TO_ONE, conversation.low, conversation.high))
}

/// A message.
pub fn message(app: AppId, conversation: Conversation<'_>, seq: u64) -> Bytes {
    key(&(app, MESSAGE, ONE_TO_ONE, conversation.low, conversation.high, seq))
}

/// The answer that a send was given, by the sender's own id of it.
pub fn sent(app: AppId, sender: &UserId, client_message_id: &[u8]) -> Bytes {
    key(&(app, SENT, sender.as_str(), TupleBytes::from(client_message_id)))
}

/// What every entry of a user's event log begins with; the versionstamp follows.
pub fn event_prefix(app: AppId, user: &UserId) -> Vec<u8> {
    let mut prefix = pack(&(app, EVENT, user.as_str()));
    prefix.push(VERSIONSTAMP_TYPE);
    prefix
}

/// First key behind `position` in an event log, and the end of the log.
pub fn events_after(app: AppId, user: &UserId, position: Versionstamp) -> (Bytes, Bytes) {
    let mut begin = event_prefix(app, user);
    let mut end = begin.clone();
    begin.extend_from_slice(&position.0);
    begin.push(0);
    end.extend_from_slice(&[0xff; Versionstamp::LEN + 1]);
    (begin.into(), end.into())
}

/// The position of an event log's key.
pub fn event_position(key: &[u8]) -> Option<Versionstamp> {
    let start = key.len().checked_sub(Versionstamp::LEN)?;
    Versionstamp::from_slice(key.get(start..)?)
}

fn key(tuple: &impl TuplePack) -> Bytes {
    pack(tuple).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    #[test]
    fn a_conversation_is_the_same_from_both_sides() {
        let (a, b) = (user("anna"), user("ben"));
        assert_eq!(Conversation::between(&a, &b), Conversation::between(&b, &a));
    }

    #[test]
    fn messages_are_ordered_by_sequence_and_apart_by_conversation() {
        let (a, b, c) = (user("a"), user("b"), user("b c"));
        let ab = Conversation::between(&a, &b);
        assert!(message(1, ab, 255) < message(1, ab, 256));
        assert!(message(1, ab, u64::MAX) < message(1, Conversation::between(&a, &c), 1));
        assert!(message(1, ab, 1) < message(2, ab, 1));
    }

    #[test]
    fn event_bounds_hold_exactly_the_user_s_own_log() {
        let position = Versionstamp::new(7, 0, 1);
        let at = |name: &str, position: Versionstamp| [&event_prefix(1, &user(name))[..], &position.0].concat();
        let (begin, end) = events_after(1, &user("a"), position);
        let inside = |key: &[u8]| key >= &begin[..] && key < &end[..];
        assert!(!inside(&at("a", position)));
        assert!(inside(&at("a", Versionstamp::new(7, 0, 2))));
        assert!(inside(&at("a", Versionstamp([0xff; 12]))));
        assert!(!inside(&at("a ", Versionstamp::new(8, 0, 0))));
        assert_eq!(event_position(&at("a", position)), Some(position));
    }
}
