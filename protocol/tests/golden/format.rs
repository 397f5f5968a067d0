//! What golden.json looks like.

use bytes::BytesMut;
use protocol::{
    ALPN, ErrorCode, VERSION_MAX, VERSION_MIN,
    command::{Command, Topic},
    frame::{self, Kind, MAGIC},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{bodies, frames, invalid};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct File {
    /// How to read this file.
    about: Vec<String>,
    version_min: u32,
    version_max: u32,
    alpn: String,
    magic: String,
    kinds: Vec<KindRow>,
    commands: Vec<CommandRow>,
    pushes: Vec<PushRow>,
    errors: Vec<ErrorRow>,
    pub(crate) varints: Vec<VarintVector>,
    pub(crate) frames: Vec<FrameVector>,
    pub(crate) bodies: Vec<BodyVector>,
    pub(crate) invalid: Vec<InvalidVector>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct KindRow {
    code: u8,
    name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct CommandRow {
    code: u32,
    name: String,
    access: String,
    request: String,
    reply: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct PushRow {
    code: u32,
    name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ErrorRow {
    code: u32,
    name: String,
    retryable: bool,
    text: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VarintVector {
    pub(crate) hex: String,
    /// Absent: the bytes are no varint of this protocol.
    pub(crate) value: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FrameVector {
    pub(crate) name: String,
    pub(crate) sender: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    pub(crate) kind: String,
    pub(crate) kind_code: u8,
    pub(crate) compressed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) topic: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fields: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<String>,
    pub(crate) canonical: bool,
    pub(crate) hex: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BodyVector {
    pub(crate) name: String,
    pub(crate) note: String,
    pub(crate) texts: Vec<String>,
    pub(crate) fields: Value,
    pub(crate) hex: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct InvalidVector {
    pub(crate) name: String,
    pub(crate) receiver: String,
    pub(crate) state: String,
    pub(crate) hex: String,
    pub(crate) error: InvalidError,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct InvalidError {
    pub(crate) code: u32,
    pub(crate) name: String,
    /// `goaway`: the receiver says it in a go-away and closes. `response`: it answers, and goes on.
    /// `close`: it closes.
    pub(crate) by: String,
}

const ABOUT: &[&str] = &[
    "Golden vectors of the wire protocol; WIRE.md is the text to them.",
    "hex: the bytes on the wire. Bytes are in lowercase hex everywhere, 64-bit numbers are decimal strings.",
    "frames: decoding hex gives the rest of the vector. fields has every field of the message im.proto names, absent ones with their default (a message or an optional field that is absent: null; of a oneof at most one is not null). Enums are numbers, maps objects.",
    "canonical: encoding the vector gives exactly hex. Otherwise only decode: compressors differ, and unknown fields are not shown.",
    "frames without message: payload is to be kept or skipped as it is. command in a response: that of the request with this id.",
    "bodies: encoded Body messages; texts are the text elements in order, fields those of Body; an element of a newer kind is one without any. Whoever passes a body on passes on these bytes.",
    "invalid: what a receiver in state answers. start: nothing was received before. welcomed: hello and welcome were exchanged, with deflate. open: and the login. Limits are the defaults of WIRE.md.",
];

impl File {
    pub(crate) fn generate() -> Self {
        let strings = |lines: &[&str]| lines.iter().map(|line| line.to_string()).collect();
        File {
            about: strings(ABOUT),
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            alpn: String::from_utf8(ALPN.to_vec()).unwrap(),
            magic: hex(MAGIC),
            kinds: Kind::TABLE.iter().map(|row| KindRow { code: row.1, name: row.2.into() }).collect(),
            commands: Command::ALL.iter().copied().map(CommandRow::from).collect(),
            pushes: Topic::ALL.iter().map(|topic| PushRow { code: topic.code(), name: topic.name().into() }).collect(),
            errors: ErrorCode::ALL.iter().copied().map(ErrorRow::from).collect(),
            varints: frames::varints(),
            frames: frames::frames(),
            bodies: bodies::bodies(),
            invalid: invalid::invalid(),
        }
    }
}

impl From<Command> for CommandRow {
    fn from(command: Command) -> Self {
        let (request, reply) = command.messages();
        CommandRow {
            code: command.code(),
            name: command.name().into(),
            access: command.access().as_str().into(),
            request: request.into(),
            reply: reply.into(),
        }
    }
}

impl From<ErrorCode> for ErrorRow {
    fn from(code: ErrorCode) -> Self {
        let name = code.name().unwrap().into();
        ErrorRow { code: code.0, name, retryable: code.is_retryable(), text: code.text().into() }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// A frame as the code writes it.
pub(crate) fn encoded(kind: Kind, prefix: frame::Prefix, payload: &impl frame::Payload) -> String {
    let mut out = BytesMut::new();
    frame::put(&mut out, kind, prefix, payload, false);
    hex(&out)
}
