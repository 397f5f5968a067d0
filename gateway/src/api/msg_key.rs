//! `MsgKey`: how the server API names a message, so that it is found without an index.

use std::fmt;

use backend::domain::message::Earlier;
use bytes::Bytes;
use protocol::message::Message;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// What client message ids of messages sent by the server API begin with.
const ID_PREFIX: &[u8] = b"\0v4";

/// A message's name: its place in its conversation, its random number, and the second of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsgKey {
    /// 0: found by its time and random number.
    pub seq: u64,
    pub random: u32,
    pub time_s: u64,
}

impl MsgKey {
    /// The key of a message.
    pub fn of(message: &Message) -> Self {
        MsgKey { seq: message.seq, random: random_of(&message.client_message_id), time_s: message.time_ms / 1000 }
    }

    /// Reads a key.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('_');
        let mut next = || parts.next();
        let key = MsgKey { seq: next()?.parse().ok()?, random: next()?.parse().ok()?, time_s: next()?.parse().ok()? };
        next().is_none().then_some(key)
    }

    /// Whether it names this message.
    pub fn names(self, message: &Message) -> bool {
        self == MsgKey::of(message)
    }
}

impl fmt::Display for MsgKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}", self.seq, self.random, self.time_s)
    }
}

/// The random number of a message: the one it was sent with, or one that follows from its client's id of it.
pub fn random_of(client_message_id: &[u8]) -> u32 {
    match client_message_id.strip_prefix(ID_PREFIX).and_then(|rest| rest.first_chunk()) {
        Some(random) => u32::from_be_bytes(*random),
        None => xxh3_64(client_message_id) as u32 & 0x7fff_ffff,
    }
}

/// The client message id of a message that is taken for the same when it is repeated within `window_ms`, and the one that
/// it would have had before, should that time have begun in the window before this one.
pub fn repeatable(said: (u32, u32, &str, &[u8]), now_ms: u64, window_ms: u64) -> (Bytes, Earlier) {
    let (random, msg_seq, to, body) = said;
    let window = now_ms / window_ms;
    let id = |window| client_message_id(random, msg_seq, to, body, window);
    let since_ms = now_ms.saturating_sub(window_ms);
    (id(window), Earlier { client_message_id: id(window.saturating_sub(1)), since_ms })
}

/// The client message id of a message sent by the server API: the same for a request that is repeated within
/// `period`, and another for one that differs in anything.
pub fn client_message_id(random: u32, msg_seq: u32, to: &str, body: &[u8], period: u64) -> Bytes {
    let said = [to.as_bytes(), &[0], &period.to_be_bytes(), body].concat();
    let digest = xxh3_128(&said).to_be_bytes();
    [ID_PREFIX, &random.to_be_bytes(), &msg_seq.to_be_bytes(), &digest].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_name_one_message() {
        let id = client_message_id(4_000_000_000, 7, "ben", b"hi", 1);
        let message = Message { seq: 12, time_ms: 1_600_000_000_999, client_message_id: id, ..Message::default() };
        let key = MsgKey::of(&message);
        assert_eq!(key.to_string(), "12_4000000000_1600000000");
        assert_eq!(MsgKey::parse(&key.to_string()), Some(key));
        assert!(key.names(&message) && !key.names(&Message { seq: 13, ..message }));
        for wrong in ["", "1_2", "1_2_3_4", "a_2_3", "1_-2_3", "1_4294967296_3"] {
            assert_eq!(MsgKey::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_repeated_in_time_is_known_by_one_of_its_ids() {
        let said = (1, 0, "group", &b"hi"[..]);
        let (first, _) = repeatable(said, 9_999, 1_000);
        let (second, earlier) = repeatable(said, 10_001, 1_000);
        assert_ne!(first, second, "a new window has begun");
        assert_eq!(earlier, Earlier { client_message_id: first.clone(), since_ms: 9_001 });
        assert_eq!(repeatable(said, 9_000, 1_000).0, first);
    }

    #[test]
    fn an_id_is_repeated_by_the_same_request_alone() {
        let id = client_message_id(1, 2, "ben", b"hi", 3);
        assert_eq!(id, client_message_id(1, 2, "ben", b"hi", 3));
        let others = [
            client_message_id(9, 2, "ben", b"hi", 3),
            client_message_id(1, 9, "ben", b"hi", 3),
            client_message_id(1, 2, "anna", b"hi", 3),
            client_message_id(1, 2, "ben", b"ho", 3),
            client_message_id(1, 2, "ben", b"hi", 4),
        ];
        assert!(others.iter().all(|other| *other != id));
        assert!(id.len() <= 32);
        assert!(random_of(b"a client's") < 1 << 31);
    }
}
