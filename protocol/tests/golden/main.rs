//! The golden vectors of `protocol/vectors/golden.json`, which SDKs in other languages test against.
//!
//! Goal: the bytes on the wire never change by accident, and the file is right. Mechanics: `frames.rs`,
//! `messaging.rs`, `bodies.rs` and `invalid.rs` say what there is to be; this file encodes it and compares the result with the file, then
//! decodes the file's bytes and compares the fields. What breaks without it: a client in the field.
//!
//! To write the file anew after a deliberate change:
//!
//! ```sh
//! UPDATE_GOLDEN=1 cargo test -p protocol --test golden
//! ```

#![allow(clippy::unwrap_used)]

mod bodies;
mod fields;
mod format;
mod frames;
mod groups;
mod invalid;
mod messaging;
mod people;
mod places;

use std::{collections::BTreeSet, sync::Once};

use bytes::{Bytes, BytesMut};
use protocol::{
    command::{Command, Topic},
    frame::{self, Decoder, Kind, Prefix},
};

use crate::{
    fields::Payload,
    format::{BodyVector, File, FrameVector, unhex},
};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/golden.json");

/// The file as it stands; written anew first, if that was asked for.
fn file() -> File {
    static UPDATE: Once = Once::new();
    UPDATE.call_once(|| {
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let text = serde_json::to_string_pretty(&File::generate()).unwrap();
            std::fs::write(PATH, text + "\n").unwrap();
        }
    });
    serde_json::from_str(&std::fs::read_to_string(PATH).unwrap()).unwrap()
}

/// Encoding: what the code makes is what the file says.
#[test]
fn the_file_is_what_the_code_encodes() {
    let generated = File::generate();
    let file = file();
    for (ours, theirs) in generated.frames.iter().zip(&file.frames) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(generated, file, "UPDATE_GOLDEN=1 writes the file anew, if the change is meant");
}

/// Decoding: the bytes alone, with what a receiver knows besides, give the fields.
#[test]
fn the_bytes_decode_to_the_fields() {
    for vector in file().frames {
        decode(&vector);
        if vector.canonical {
            assert_eq!(encode(&vector), unhex(&vector.hex), "{}", vector.name);
        }
    }
}

fn decode(vector: &FrameVector) {
    let name = &vector.name;
    let bytes = unhex(&vector.hex);
    let mut decoder = Decoder::default();
    // A byte at a time, as the worst network delivers.
    for (index, byte) in bytes.iter().enumerate() {
        assert_eq!(decoder.next_frame(65_536), Ok(None), "{name}: a frame after {index} bytes");
        decoder.feed(&[*byte]);
    }
    let frame = decoder.next_frame(65_536).unwrap().unwrap();
    assert_eq!(decoder.finish(), Ok(()), "{name}: bytes behind the frame");
    assert_eq!(frame.compressed, vector.compressed, "{name}");
    let code_and_name = Kind::TABLE.iter().find(|row| row.0 == frame.kind).map(|row| (row.1, row.2));
    let expected = match frame.kind {
        Kind::Unknown(code) => (code, "unknown"),
        _ => code_and_name.unwrap(),
    };
    assert_eq!((vector.kind_code, vector.kind.as_str()), expected, "{name}");
    let rest = match frame.kind {
        Kind::Request => {
            let (id, command, rest) = frame::split_pair(frame.body).unwrap();
            assert_eq!((Some(id), Some(command)), (vector.id, vector.command), "{name}");
            rest
        }
        Kind::Response => {
            let (id, code, rest) = frame::split_pair(frame.body).unwrap();
            assert_eq!((Some(id), Some(code)), (vector.id, vector.code), "{name}");
            rest
        }
        Kind::Push => {
            let (topic, rest) = frame::split_topic(frame.body).unwrap();
            assert_eq!(Some(topic), vector.topic, "{name}");
            rest
        }
        Kind::Hello => frame::split_magic(frame.body).unwrap(),
        _ => frame.body,
    };
    let Some(message) = message_name(vector) else {
        assert_eq!(vector.message, None, "{name}");
        assert_eq!(vector.payload.as_deref().map(unhex), Some(rest.to_vec()), "{name}: kept or skipped as bytes");
        return;
    };
    assert_eq!(vector.message.as_deref(), Some(message), "{name}");
    let plain = frame::inflated(frame.compressed, rest, 65_536).unwrap();
    let payload = Payload::decode(message, plain);
    assert_eq!(Some(payload.fields()), vector.fields, "{name}");
}

/// What the payload is, from what is known without looking into it.
fn message_name(vector: &FrameVector) -> Option<&'static str> {
    let messages = Command::from_code(vector.command.unwrap_or(0)).map(Command::messages);
    match vector.kind.as_str() {
        "hello" => Some("Hello"),
        "welcome" => Some("Welcome"),
        "request" => Some(messages?.0),
        "response" if vector.code == Some(0) => Some(messages?.1),
        "response" => Some("Failure"),
        "push" => match Topic::from_code(vector.topic?)? {
            Topic::Event => Some("EventPush"),
            Topic::Behind => None,
            Topic::Message => Some("Message"),
            Topic::Presence => Some("Presence"),
            Topic::Group => Some("GroupPush"),
        },
        "pong" => Some("Pong"),
        "goaway" => Some("GoAway"),
        _ => None,
    }
}

/// Takes the frame apart and puts it together again.
fn encode(vector: &FrameVector) -> Vec<u8> {
    let kind = Kind::TABLE.iter().find(|row| row.1 == vector.kind_code).map(|row| row.0).unwrap();
    let prefix = match kind {
        Kind::Hello => Prefix::Magic,
        Kind::Request => Prefix::Pair(vector.id.unwrap(), vector.command.unwrap()),
        Kind::Response => Prefix::Pair(vector.id.unwrap(), vector.code.unwrap()),
        Kind::Push => Prefix::Topic(vector.topic.unwrap()),
        _ => Prefix::None,
    };
    let mut out = BytesMut::new();
    frame::put(&mut out, kind, prefix, &payload(vector), false);
    out.to_vec()
}

/// What an uncompressed frame carries.
fn payload(vector: &FrameVector) -> Payload {
    let mut decoder = Decoder::default();
    decoder.feed(&unhex(&vector.hex));
    let frame = decoder.next_frame(65_536).unwrap().unwrap();
    let payload = match frame.kind {
        Kind::Hello => frame::split_magic(frame.body).unwrap(),
        Kind::Request | Kind::Response => frame::split_pair(frame.body).unwrap().2,
        Kind::Push => frame::split_topic(frame.body).unwrap().1,
        _ => frame.body,
    };
    message_name(vector).map_or(Payload::from(()), |message| Payload::decode(message, payload))
}

#[test]
fn invalid_bytes_give_the_error() {
    for vector in file().invalid {
        assert_eq!(invalid::outcome(&vector), vector.error, "{}", vector.name);
    }
}

#[test]
fn varints() {
    let file = file();
    for vector in &file.varints {
        let mut bytes = unhex(&vector.hex);
        bytes.push(0xaa);
        match vector.value {
            Some(value) => {
                let (topic, rest) = frame::split_topic(bytes.into()).unwrap();
                assert_eq!((topic, &rest[..]), (value, &[0xaa][..]), "{}", vector.hex);
            }
            None => assert!(frame::split_topic(unhex(&vector.hex).into()).is_err(), "{}", vector.hex),
        }
    }
}

#[test]
fn bodies_are_kept_byte_for_byte() {
    for BodyVector { name, hex, texts, fields, .. } in file().bodies {
        use prost::Message;
        use protocol::message::{Body, Message as Stored, element::Kind};
        let body = Bytes::from(unhex(&hex));
        let known = Body::decode(body.clone()).unwrap().elements.into_iter().filter_map(|element| element.kind);
        let known: Vec<String> =
            known.filter_map(|kind| if let Kind::Text(text) = kind { Some(text.text) } else { None }).collect();
        assert_eq!(known, texts, "{name}");
        assert_eq!(Payload::decode("Body", body.clone()).fields(), fields, "{name}");
        let stored = Stored { body: body.clone(), ..Default::default() };
        assert_eq!(Stored::decode(stored.encode_to_vec().as_slice()).unwrap().body, body, "{name}");
    }
}

/// Every frame kind, every command both ways, every push is there.
#[test]
fn nothing_is_missing() {
    let file = file();
    for (_, code, name) in Kind::TABLE {
        assert!(file.frames.iter().any(|vector| vector.kind_code == *code), "{name}");
    }
    for command in Command::ALL {
        let of = |vector: &&FrameVector| vector.command == Some(command.code());
        for kind in ["request", "response"] {
            assert!(file.frames.iter().filter(of).any(|vector| vector.kind == kind), "{} {kind}", command.name());
        }
    }
    for topic in Topic::ALL {
        assert!(file.frames.iter().any(|vector| vector.topic == Some(topic.code())), "{}", topic.name());
    }
    let frames: BTreeSet<_> = file.frames.iter().map(|vector| &vector.name).collect();
    let bodies: BTreeSet<_> = file.bodies.iter().map(|vector| &vector.name).collect();
    assert_eq!((frames.len(), bodies.len()), (file.frames.len(), file.bodies.len()), "names are unique");
}

/// Every field of im.proto is more than absent or zero somewhere: each element, each event, each setting.
#[test]
fn every_field_is_shown() {
    let file = file();
    let mut shown = BTreeSet::new();
    for vector in file.frames.iter().filter(|vector| vector.canonical && vector.message.is_some()) {
        payload(vector).add_set_fields(&mut shown);
    }
    for vector in &file.bodies {
        Payload::decode("Body", unhex(&vector.hex).into()).add_set_fields(&mut shown);
    }
    let missing: Vec<_> = fields::all_fields().into_iter().filter(|field| !shown.contains(field)).collect();
    assert!(missing.is_empty(), "no vector shows {missing:?}");
}
