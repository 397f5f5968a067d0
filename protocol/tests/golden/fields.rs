//! Payloads as JSON: every field by its name in im.proto; bytes in hex, 64-bit numbers as decimal strings.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use protocol::{frame, message::*};
use serde_json::{Value, json};

use crate::format::hex;

macro_rules! payloads {
    ($($name:ident),+) => {
        /// A payload of any kind.
        pub(crate) enum Payload {
            None,
            $($name($name),)+
        }

        impl Payload {
            pub(crate) fn decode(name: &str, bytes: Bytes) -> Self {
                match name {
                    $(stringify!($name) => Payload::$name($name::decode(bytes).unwrap()),)+
                    _ => panic!("no message {name}"),
                }
            }

            pub(crate) fn name(&self) -> Option<&'static str> {
                match self {
                    Payload::None => None,
                    $(Payload::$name(_) => Some(stringify!($name)),)+
                }
            }

            pub(crate) fn fields(&self) -> Value {
                match self {
                    Payload::None => Value::Null,
                    $(Payload::$name(message) => message.fields(),)+
                }
            }
        }

        impl frame::Payload for Payload {
            fn len(&self) -> usize {
                match self {
                    Payload::None => 0,
                    $(Payload::$name(message) => message.encoded_len(),)+
                }
            }

            fn put(&self, out: &mut BytesMut) {
                match self {
                    Payload::None => {}
                    $(Payload::$name(message) => message.encode(out).unwrap(),)+
                }
            }
        }
    };
}

payloads!(
    Hello,
    Welcome,
    GoAway,
    Pong,
    Failure,
    Login,
    LoginReply,
    Send,
    SendReply,
    Sync,
    SyncReply,
    EventPush,
    History,
    HistoryReply
);

trait Fields {
    fn fields(&self) -> Value;
}

/// A 64-bit number: JSON readers keep 53 bits of a number, and all of a string.
fn wide(number: u64) -> String {
    number.to_string()
}

fn list<M: Fields>(messages: &[M]) -> Vec<Value> {
    messages.iter().map(Fields::fields).collect()
}

macro_rules! fields {
    ($($message:ident: |$this:ident| { $($field:literal: $value:expr),+ $(,)? })+) => {
        $(impl Fields for $message {
            fn fields(&self) -> Value {
                let $this = self;
                json!({ $($field: $value),+ })
            }
        })+
    };
}

fields! {
    Hello: |m| {
        "version_min": m.version_min, "version_max": m.version_max, "heartbeat_ms": m.heartbeat_ms,
        "frame_bytes_max": m.frame_bytes_max, "deflate": m.deflate, "client": m.client,
    }
    Welcome: |m| {
        "version": m.version, "heartbeat_ms": m.heartbeat_ms, "frame_bytes_max": m.frame_bytes_max,
        "deflate": m.deflate, "in_flight_max": m.in_flight_max, "server_time_ms": wide(m.server_time_ms),
    }
    GoAway: |m| { "code": m.code, "text": m.text, "retry_after_ms": m.retry_after_ms }
    Pong: |m| { "cursor": hex(&m.cursor), "behind": m.behind }
    Failure: |m| { "text": m.text, "retry_after_ms": m.retry_after_ms }
    Login: |m| {
        "sdkappid": m.sdkappid, "user": m.user, "usersig": m.usersig, "platform": m.platform, "device": m.device,
    }
    LoginReply: |m| { "server_time_ms": wide(m.server_time_ms) }
    Send: |m| { "to_user": m.to_user, "client_message_id": hex(&m.client_message_id), "body": hex(&m.body) }
    SendReply: |m| { "seq": wide(m.seq), "time_ms": wide(m.time_ms), "duplicate": m.duplicate }
    Message: |m| {
        "from": m.from, "to": m.to, "seq": wide(m.seq), "time_ms": wide(m.time_ms),
        "client_message_id": hex(&m.client_message_id), "body": hex(&m.body),
    }
    Event: |m| {
        "position": hex(&m.position),
        "message": match &m.what {
            Some(event::What::Message(message)) => message.fields(),
            None => Value::Null,
        },
    }
    Sync: |m| { "cursor": hex(&m.cursor), "limit": m.limit }
    SyncReply: |m| { "events": list(&m.events), "cursor": hex(&m.cursor), "more": m.more }
    EventPush: |m| { "event": m.event.as_ref().map(Fields::fields), "cursor": hex(&m.cursor) }
    History: |m| { "user": m.user, "from_seq": wide(m.from_seq), "forward": m.forward, "limit": m.limit }
    HistoryReply: |m| { "messages": list(&m.messages), "more": m.more, "head_seq": wide(m.head_seq) }
}
