//! Message ids and contents. Both follow from who sends the how-manieth message, so that whoever receives
//! one can tell what it should be without anything having been kept.
//!
//! Ids look random, as those of real clients do (a store must not profit from sorted ones), yet are a
//! permutation that can be undone.

use bytes::{Bytes, BytesMut};
use prost::Message;
use protocol::message::{Body, Element, Send, Text, element::Kind};

use crate::mix;

/// Length of a client message id, in bytes.
const ID_BYTES: usize = 16;

/// A message, by its sender's number among all connections and its own among the sender's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MessageKey {
    pub(crate) sender: u32,
    pub(crate) ordinal: u32,
}

/// Writes and recognises the messages of one run.
#[derive(Clone, Debug)]
pub(crate) struct Composer {
    seed: u64,
    /// Messages are of several types instead of text alone.
    is_mixed: bool,
    /// An encoded `Body` whose text is the last `text_bytes`, up to that text.
    body_head: Vec<u8>,
    text_bytes: usize,
    /// Holds the bytes of the message being sent; reused once nobody points to it any more.
    arena: BytesMut,
}

impl Composer {
    /// Texts have `text_bytes`; `seed` decides what they say.
    pub(crate) fn new(seed: u64, text_bytes: usize) -> Self {
        Self::of(seed, text_bytes, false)
    }

    /// The same; with `is_mixed`, messages are of the types of `mix`, a few of them of each.
    pub(crate) fn of(seed: u64, text_bytes: usize, is_mixed: bool) -> Self {
        let text = Text { text: "x".repeat(text_bytes) };
        let mut body_head =
            Body { elements: vec![Element { kind: Some(Kind::Text(text)) }], ..Body::default() }.encode_to_vec();
        body_head.truncate(body_head.len() - text_bytes);
        Composer { seed, is_mixed, body_head, text_bytes, arena: BytesMut::new() }
    }

    /// Puts the message's id and body into `send`.
    pub(crate) fn compose(&mut self, key: MessageKey, send: &mut Send) {
        // Letting go of the previous message lets the arena take its bytes back instead of allocating.
        send.client_message_id = Bytes::new();
        send.body = Bytes::new();
        let (low, high) = self.id(key);
        self.arena.reserve(ID_BYTES + self.body_head.len() + self.text_bytes);
        self.arena.extend_from_slice(&low.to_be_bytes());
        self.arena.extend_from_slice(&high.to_be_bytes());
        send.client_message_id = self.arena.split().freeze();
        if let Some(body) = self.body_of_type(low) {
            send.body = body.into();
            return;
        }
        self.arena.extend_from_slice(&self.body_head);
        for (letters, len) in text(low, self.text_bytes) {
            self.arena.extend_from_slice(&letters[..len]);
        }
        send.body = self.arena.split().freeze();
    }

    /// Which message the id belongs to; `None` if it is not from this run.
    pub(crate) fn recognise(&self, id: &[u8]) -> Option<MessageKey> {
        let low = u64::from_be_bytes(id.get(..8)?.try_into().ok()?);
        let plain = unmix(low) ^ self.seed;
        let key = MessageKey { sender: (plain >> 32) as u32, ordinal: plain as u32 };
        let (low, high) = self.id(key);
        let same = id.len() == ID_BYTES && id[..8] == low.to_be_bytes() && id[8..] == high.to_be_bytes();
        same.then_some(key)
    }

    /// Whether `body` is what [`Self::compose`] wrote for this message.
    pub(crate) fn is_intact(&self, key: MessageKey, body: &[u8]) -> bool {
        let (low, _) = self.id(key);
        if let Some(expected) = self.body_of_type(low) {
            return body == expected;
        }
        let Some(mut rest) = body.strip_prefix(&self.body_head[..]) else { return false };
        if rest.len() != self.text_bytes {
            return false;
        }
        text(low, self.text_bytes).all(|(letters, len)| {
            let (head, tail) = rest.split_at(len);
            rest = tail;
            head == &letters[..len]
        })
    }

    /// The encoded body of a message that is more than a text.
    fn body_of_type(&self, state: u64) -> Option<Vec<u8>> {
        let kind = if self.is_mixed { mix::element(state)? } else { return None };
        Some(Body { elements: vec![Element { kind: Some(kind) }], ..Body::default() }.encode_to_vec())
    }

    fn id(&self, key: MessageKey) -> (u64, u64) {
        let low = mix((u64::from(key.sender) << 32 | u64::from(key.ordinal)) ^ self.seed);
        (low, mix(low.wrapping_add(self.seed)))
    }
}

/// The text that belongs to `state`, in pieces of up to eight letters.
fn text(mut state: u64, text_bytes: usize) -> impl Iterator<Item = ([u8; 8], usize)> {
    (0..text_bytes).step_by(8).map(move |start| {
        state = state.wrapping_add(GOLDEN_GAMMA);
        let letters = (mix(state) & 0x0f0f_0f0f_0f0f_0f0f) + u64::from_ne_bytes([b'a'; 8]);
        (letters.to_ne_bytes(), (text_bytes - start).min(8))
    })
}

pub(crate) const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's finaliser: a permutation of the 64-bit numbers that looks random.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn unmix(mut z: u64) -> u64 {
    z = (z ^ (z >> 31) ^ (z >> 62)).wrapping_mul(0x3196_42B2_D24D_8EC3);
    z = (z ^ (z >> 27) ^ (z >> 54)).wrapping_mul(0x96DE_1B17_3F11_9089);
    z ^ (z >> 30) ^ (z >> 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_recognised_and_bodies_checked() {
        for text_bytes in [1, 7, 8, 100, 12_000] {
            let mut composer = Composer::new(42, text_bytes);
            let mut send = Send::default();
            for ordinal in [0, 1, 77, u32::MAX] {
                let key = MessageKey { sender: 9, ordinal };
                composer.compose(key, &mut send);
                assert_eq!(composer.recognise(&send.client_message_id), Some(key));
                assert!(composer.is_intact(key, &send.body));
                assert!(!composer.is_intact(MessageKey { sender: 8, ordinal }, &send.body) || text_bytes == 1);
                let mut damaged = send.body.to_vec();
                *damaged.last_mut().unwrap() ^= 1;
                assert!(!composer.is_intact(key, &damaged));
                assert!(!composer.is_intact(key, &send.body[1..]));
            }
        }
    }

    #[test]
    fn body_is_a_real_body() {
        let mut send = Send::default();
        Composer::new(1, 20).compose(MessageKey { sender: 1, ordinal: 2 }, &mut send);
        let body = Body::decode(send.body).unwrap();
        let Some(Kind::Text(text)) = &body.elements[0].kind else { panic!("no text") };
        assert_eq!(text.text.len(), 20);
    }

    #[test]
    fn messages_of_many_types_are_checked_to_the_byte() {
        let mut composer = Composer::of(42, 30, true);
        let mut send = Send::default();
        let mut texts = 0;
        for ordinal in 0..1_000 {
            let key = MessageKey { sender: 9, ordinal };
            composer.compose(key, &mut send);
            assert_eq!(composer.recognise(&send.client_message_id), Some(key));
            assert!(composer.is_intact(key, &send.body));
            for index in 0..send.body.len() {
                let mut damaged = send.body.to_vec();
                damaged[index] ^= 1;
                assert!(!composer.is_intact(key, &damaged), "message {ordinal}, byte {index}");
            }
            assert!(!composer.is_intact(key, &send.body[..send.body.len() - 1]));
            let element = Body::decode(send.body.clone()).unwrap().elements.remove(0);
            texts += u32::from(matches!(element.kind, Some(Kind::Text(_))));
        }
        assert!((500..900).contains(&texts), "{texts} of 1,000 are texts");
    }

    #[test]
    fn foreign_ids_are_refused() {
        let composer = Composer::new(1, 10);
        let mut send = Send::default();
        Composer::new(2, 10).compose(MessageKey { sender: 1, ordinal: 2 }, &mut send);
        assert_eq!(composer.recognise(&send.client_message_id), None);
        assert_eq!(composer.recognise(b""), None);
        assert_eq!(composer.recognise(&[7; 17]), None);
    }

    #[test]
    fn mixing_can_be_undone() {
        for z in (0..1000u64).map(|i| i.wrapping_mul(GOLDEN_GAMMA)) {
            assert_eq!(unmix(mix(z)), z);
        }
    }
}
