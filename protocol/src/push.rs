//! Pushes encoded once and shared. An event is the same bytes for everyone it goes to; only the position
//! in each receiver's own log differs.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::{command::Topic, frame::Payload, message};

const EVENT_POSITION: u32 = 1;
const EVENT_MESSAGE: u32 = 2;
const PUSH_EVENT: u32 = 1;
const PUSH_CURSOR: u32 = 2;

/// What happened, encoded; clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedEvent {
    field: u32,
    bytes: Bytes,
}

impl EncodedEvent {
    /// A message, as [`message::Message`] encodes it.
    pub fn message(encoded: Bytes) -> Self {
        EncodedEvent { field: EVENT_MESSAGE, bytes: encoded }
    }

    /// Anything that can stand in an event log.
    pub fn of(what: &message::event::What) -> Self {
        let mut encoded = BytesMut::with_capacity(what.encoded_len());
        what.encode(&mut encoded);
        let mut encoded = encoded.freeze();
        // A oneof encodes as its one field: the head is taken off, and put on again in each push.
        let field = decode_key(&mut encoded).map_or(0, |(field, _)| field);
        let _length = decode_varint(&mut encoded);
        EncodedEvent { field, bytes: encoded.copy_to_bytes(encoded.remaining()) }
    }

    /// Reads back what [`Self::to_stored`] wrote; `None`: it is nothing of that kind.
    pub fn from_stored(stored: &Bytes) -> Option<Self> {
        let mut rest = stored.clone();
        let (field, wire_type) = decode_key(&mut rest).ok()?;
        let length = decode_varint(&mut rest).ok()?;
        let is_whole = wire_type == WireType::LengthDelimited && length == rest.remaining() as u64;
        is_whole.then_some(EncodedEvent { field, bytes: rest })
    }

    /// As a whole [`message::Event`] without a position: how it can be kept.
    pub fn to_stored(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(field_len(self.field, self.bytes.len()));
        put_field(&mut out, self.field, &self.bytes);
        out.freeze()
    }

    /// Length of the encoded entry, in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the entry encodes to nothing.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// The payload of the push `event`: an [`message::EventPush`] around shared bytes.
pub(crate) struct EventPush<'a> {
    pub(crate) position: &'a [u8],
    pub(crate) event: &'a EncodedEvent,
    /// `None`: the same as the position.
    pub(crate) cursor: Option<&'a [u8]>,
}

impl EventPush<'_> {
    fn event_len(&self) -> usize {
        field_len(EVENT_POSITION, self.position.len()) + field_len(self.event.field, self.event.bytes.len())
    }
}

impl Payload for EventPush<'_> {
    fn len(&self) -> usize {
        field_len(PUSH_EVENT, self.event_len()) + self.cursor.map_or(0, |cursor| field_len(PUSH_CURSOR, cursor.len()))
    }

    fn put(&self, out: &mut BytesMut) {
        put_field_head(out, PUSH_EVENT, self.event_len());
        put_field(out, EVENT_POSITION, self.position);
        put_field(out, self.event.field, &self.event.bytes);
        if let Some(cursor) = self.cursor {
            put_field(out, PUSH_CURSOR, cursor);
        }
    }
}

fn field_len(field: u32, len: usize) -> usize {
    key_len(field) + encoded_len_varint(len as u64) + len
}

fn put_field_head(out: &mut BytesMut, field: u32, len: usize) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

fn put_field(out: &mut BytesMut, field: u32, bytes: &[u8]) {
    put_field_head(out, field, bytes.len());
    out.put_slice(bytes);
}

/// A push that is a message as it is, encoded once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedPush {
    pub(crate) topic: Topic,
    pub(crate) payload: Bytes,
}

impl EncodedPush {
    /// An online-only message, as [`message::Message`] encodes it.
    pub fn message(encoded: Bytes) -> Self {
        EncodedPush { topic: Topic::Message, payload: encoded }
    }

    /// The message, if it is one, as [`message::Message`] encodes it.
    pub fn as_message(&self) -> Option<&Bytes> {
        (self.topic == Topic::Message).then_some(&self.payload)
    }

    /// A push as another node has encoded it; `None`: there is no such topic.
    pub fn from_parts(topic: u32, payload: Bytes) -> Option<Self> {
        Some(EncodedPush { topic: Topic::from_code(topic)?, payload })
    }

    /// Its topic's number and its payload: what [`Self::from_parts`] makes it of again.
    pub fn parts(&self) -> (u32, Bytes) {
        (self.topic.code(), self.payload.clone())
    }

    /// Something of a group that is in no log.
    pub fn group(push: &message::GroupPush) -> Self {
        EncodedPush { topic: Topic::Group, payload: prost::Message::encode_to_vec(push).into() }
    }

    /// A user's presence.
    pub fn presence(presence: &message::Presence) -> Self {
        EncodedPush { topic: Topic::Presence, payload: prost::Message::encode_to_vec(presence).into() }
    }
}

impl Payload for EncodedPush {
    fn len(&self) -> usize {
        self.payload.len()
    }

    fn put(&self, out: &mut BytesMut) {
        out.put_slice(&self.payload);
    }
}

impl From<&message::Message> for EncodedEvent {
    fn from(message: &message::Message) -> Self {
        EncodedEvent::message(prost::Message::encode_to_vec(message).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    #[test]
    fn encodes_as_the_generated_message_does() {
        let message = message::Message { from: "a".into(), to: "b".into(), seq: 3, ..Default::default() };
        let encoded = EncodedEvent::from(&message);
        for cursor in [None, Some(&b"cursor-bytes"[..])] {
            let ours = EventPush { position: b"position", event: &encoded, cursor };
            let generated = message::EventPush {
                event: Some(message::Event {
                    position: Bytes::from_static(b"position"),
                    what: Some(message::event::What::Message(message.clone())),
                }),
                cursor: cursor.map(Bytes::copy_from_slice).unwrap_or_default(),
            };
            let mut out = BytesMut::new();
            ours.put(&mut out);
            assert_eq!(out, generated.encode_to_vec());
            assert_eq!(Payload::len(&ours), out.len());
        }
    }

    #[test]
    fn any_event_encodes_as_the_generated_one_does() {
        use message::event::What;
        let message = message::Message { seq: 3, ..Default::default() };
        let deleted = message::MessagesDeleted { seqs: vec![1, 2, 300], ..Default::default() };
        assert_eq!(EncodedEvent::of(&What::Message(message.clone())), EncodedEvent::from(&message));
        for what in [What::Message(message), What::Deleted(deleted), What::Pin(Default::default())] {
            let event = message::Event { position: Bytes::new(), what: Some(what.clone()) };
            assert_eq!(EncodedEvent::of(&what).to_stored(), event.encode_to_vec());
        }
    }
}
