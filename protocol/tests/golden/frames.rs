//! The valid vectors: connection, login, sending and reading; compressed frames and unknown ones.

use bytes::Bytes;
use prost::Message as _;
use protocol::{
    ErrorCode,
    command::{Command, Topic},
    frame::{Kind, Prefix},
    message::{element::Kind as ElementKind, event::What, *},
};

use crate::{
    fields::Payload,
    format::{FrameVector, VarintVector, encoded, hex, unhex},
    messaging,
};

pub(crate) const TIME_MS: u64 = 1_767_225_600_000; // 2026-01-01

pub(crate) fn varints() -> Vec<VarintVector> {
    let valid = [
        ("00", 0),
        ("01", 1),
        ("7f", 127),
        ("8001", 128),
        ("ff7f", 16_383),
        ("808001", 16_384),
        ("c19a0c", 200_001),
        ("ffffffff0f", u32::MAX),
    ];
    let invalid = ["8000", "818000", "ffffffff1f", "8080808000", "ffffffffff01", "", "80", "ffffffff"];
    let valid = valid.into_iter().map(|(hex, value)| VarintVector { hex: hex.into(), value: Some(value) });
    valid.chain(invalid.into_iter().map(|hex| VarintVector { hex: hex.into(), value: None })).collect()
}

pub(crate) fn id16() -> Bytes {
    (0..16).collect()
}

pub(crate) fn position(number: u8) -> Bytes {
    Bytes::copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, number, 0, 0, 0, 0])
}

pub(crate) fn body(text: &str) -> Bytes {
    let element = Element { kind: Some(ElementKind::Text(Text { text: text.into() })) };
    Body { elements: vec![element], ..Default::default() }.encode_to_vec().into()
}

pub(crate) fn message(seq: u64, text: &str) -> Message {
    Message {
        from: "ann".into(),
        to: "bob".into(),
        seq,
        time_ms: TIME_MS,
        client_message_id: id16(),
        body: body(text),
        ..Default::default()
    }
}

pub(crate) fn event(number: u8, seq: u64, text: &str) -> Event {
    Event { position: position(number), what: Some(What::Message(message(seq, text))) }
}

/// A vector of a frame as the code encodes it.
pub(crate) fn vector(name: &str, kind: Kind, prefix: Prefix, payload: impl Into<Payload>) -> FrameVector {
    let payload = payload.into();
    let (kind_code, kind_name) = Kind::TABLE.iter().find(|row| row.0 == kind).map(|row| (row.1, row.2)).unwrap();
    let of_client = matches!(kind, Kind::Hello | Kind::Request | Kind::Ping);
    let message = payload.name().map(String::from);
    FrameVector {
        name: name.into(),
        sender: if of_client { "client" } else { "server" }.into(),
        note: None,
        kind: kind_name.into(),
        kind_code,
        compressed: false,
        id: None,
        command: None,
        code: None,
        topic: None,
        fields: message.is_some().then(|| payload.fields()),
        payload: message.is_none().then(String::new),
        message,
        canonical: true,
        hex: encoded(kind, prefix, &payload),
    }
}

pub(crate) fn request(name: &str, id: u32, command: Command, payload: impl Into<Payload>) -> FrameVector {
    let code = command.code();
    let vector = vector(name, Kind::Request, Prefix::Pair(id, code), payload);
    FrameVector { id: Some(id), command: Some(code), ..vector }
}

pub(crate) fn response(name: &str, id: u32, command: Command, payload: impl Into<Payload>) -> FrameVector {
    let vector = vector(name, Kind::Response, Prefix::Pair(id, 0), payload);
    FrameVector { id: Some(id), command: Some(command.code()), code: Some(0), ..vector }
}

fn failure(name: &str, id: u32, command: u32, code: u32, text: &str, retry_after_ms: u32) -> FrameVector {
    let payload = Failure { text: text.into(), retry_after_ms };
    let vector = vector(name, Kind::Response, Prefix::Pair(id, code), payload);
    FrameVector { id: Some(id), command: Some(command), code: Some(code), ..vector }
}

pub(crate) fn push(name: &str, topic: u32, payload: impl Into<Payload>) -> FrameVector {
    FrameVector { topic: Some(topic), ..vector(name, Kind::Push, Prefix::Topic(topic), payload) }
}

pub(crate) fn noted(vector: FrameVector, note: &str) -> FrameVector {
    FrameVector { note: Some(note.into()), ..vector }
}

/// A vector whose bytes are not what the code would write, only what it reads.
pub(crate) fn decode_only(vector: FrameVector, compressed: bool, hex: &str, note: &str) -> FrameVector {
    FrameVector { canonical: false, compressed, hex: hex.into(), note: Some(note.into()), ..vector }
}

pub(crate) fn frames() -> Vec<FrameVector> {
    let basics = [connection(), login(), messages(), pushes(), compressed(), unknown()];
    basics.into_iter().flatten().chain(messaging::frames()).collect()
}

fn hello() -> Hello {
    Hello {
        version_min: 1,
        version_max: 1,
        heartbeat_ms: 30_000,
        frame_bytes_max: 65_536,
        deflate: true,
        client: "example/1.0".into(),
    }
}

fn connection() -> Vec<FrameVector> {
    let welcome = Welcome {
        version: 1,
        heartbeat_ms: 30_000,
        frame_bytes_max: 65_536,
        deflate: true,
        in_flight_max: 256,
        server_time_ms: TIME_MS,
    };
    let least = Hello { version_min: 1, version_max: 1, ..Default::default() };
    let drain = GoAway {
        code: ErrorCode::SERVER_DRAINING.0,
        text: ErrorCode::SERVER_DRAINING.text().into(),
        retry_after_ms: 1_500,
        by: None,
        access_points: vec![AccessPoint {
            id: "sg-2".into(),
            addresses: vec!["sg-2.example.com:443".into()],
            region: "singapore".into(),
            weight: 60,
            expected_ms: 12,
        }],
    };
    let bye = FrameVector {
        sender: "client".into(),
        ..vector("goaway of a client", Kind::GoAway, Prefix::None, GoAway::default())
    };
    vec![
        vector("hello", Kind::Hello, Prefix::Magic, hello()),
        vector("hello, the least", Kind::Hello, Prefix::Magic, least),
        vector("welcome", Kind::Welcome, Prefix::None, welcome),
        vector("ping", Kind::Ping, Prefix::None, ()),
        noted(vector("pong, the usual", Kind::Pong, Prefix::None, Pong::default()), "An empty body."),
        vector("pong, behind", Kind::Pong, Prefix::None, Pong { cursor: position(7), behind: true }),
        vector("goaway", Kind::GoAway, Prefix::None, drain),
        noted(bye, "Code 0: the client is done. Closing without it means the same."),
    ]
}

fn login() -> Vec<FrameVector> {
    let login = Login {
        sdkappid: 1_400_000_001,
        user: "ann".into(),
        usersig: "eJw-not-a-real-signature".into(),
        platform: Platform::Android.into(),
        device: "pixel-1".into(),
        background: false,
    };
    let reply = LoginReply { server_time_ms: TIME_MS, ..Default::default() };
    let expired = ErrorCode::USERSIG_EXPIRED;
    vec![
        request("login request", 1, Command::Login, login),
        response("login reply", 1, Command::Login, reply),
        failure("login failure", 1, Command::Login.code(), expired.0, expired.text(), 0),
    ]
}

fn messages() -> Vec<FrameVector> {
    let send =
        Send { to_user: "bob".into(), client_message_id: id16(), body: body("hello, Bob"), ..Default::default() };
    let seq_max = SendReply { seq: u64::MAX, time_ms: TIME_MS, duplicate: false };
    let duplicate = SendReply { seq: 1, time_ms: TIME_MS, duplicate: true };
    let sync_reply = SyncReply {
        events: vec![event(8, 1, "one"), event(9, 2, "zwei ✓")],
        cursor: position(9),
        more: true,
        ..Default::default()
    };
    let at_end = SyncReply { cursor: position(9), ..Default::default() };
    let history = History { user: "bob".into(), from_seq: 300, forward: false, limit: 50, ..Default::default() };
    let page = HistoryReply {
        messages: vec![message(300, "c"), message(299, "b")],
        more: true,
        head_seq: 301,
        ..Default::default()
    };
    let busy = ErrorCode::BUSY;
    vec![
        request("send request", 2, Command::Send, send),
        response("send reply", 2, Command::Send, SendReply { seq: 1, time_ms: TIME_MS, duplicate: false }),
        response("send reply, sent before", 2, Command::Send, duplicate),
        noted(
            response("send reply, largest numbers", u32::MAX, Command::Send, seq_max),
            "Ids have 32 bits, sequences 64.",
        ),
        failure("send failure, to be tried again", 300, Command::Send.code(), busy.0, busy.text(), 250),
        request("sync request of a new device", 3, Command::Sync, Sync::default()),
        request("sync request", 3, Command::Sync, Sync { cursor: position(7), limit: 100, ..Default::default() }),
        response("sync reply with more", 3, Command::Sync, sync_reply),
        noted(
            response("sync reply at the end", 4, Command::Sync, at_end),
            "more is absent: what follows comes as pushes.",
        ),
        request("history request", 5, Command::History, history),
        response("history reply", 5, Command::History, page),
        noted(
            response("history reply of an empty conversation", 6, Command::History, HistoryReply::default()),
            "All fields have their default: the payload is empty.",
        ),
    ]
}

fn pushes() -> Vec<FrameVector> {
    let plain = EventPush { event: Some(event(9, 1, "hello, Bob")), cursor: Bytes::new() };
    let ahead = EventPush { event: Some(event(9, 1, "hello, Bob")), cursor: position(11) };
    let nothing = EventPush { event: Some(Event { position: position(12), what: None }), cursor: Bytes::new() };
    vec![
        noted(push("event push", Topic::Event.code(), plain), "The cursor to store is the event's position."),
        noted(push("event push with a cursor", Topic::Event.code(), ahead), "The cursor to store is the cursor."),
        noted(
            push("event push without content", Topic::Event.code(), nothing),
            "What an event of a newer kind decodes to: nothing to show, and the position is stored all the same.",
        ),
        push("behind push", Topic::Behind.code(), ()),
    ]
}

fn compressed() -> Vec<FrameVector> {
    let long = "to be or not to be, ".repeat(60);
    let send = Send { to_user: "bob".into(), client_message_id: id16(), body: body(&long), ..Default::default() };
    let event = EventPush { event: Some(event(9, 1, "hello, Bob")), cursor: Bytes::new() };
    let page =
        HistoryReply { messages: vec![message(1, "hello, Bob")], more: false, head_seq: 1, ..Default::default() };
    vec![
        decode_only(
            request("send request, compressed", 6, Command::Send, send),
            true,
            "12450610d309e3624eca4f12126060646266616563e7e0e4e2e6e1e5e397dac9c9b58d936b3327d706ce927c85a45485fc2285bcfc120530474761546c546c546c546c308a0100",
            "By zlib, dynamic Huffman codes.",
        ),
        decode_only(
            push("event push, compressed", Topic::Event.code(), event),
            true,
            "14500149014900b6ff0a470a0c00000000000000090000000012370a03616e6e1203626f6218012080d0eab6b7332a10000102030405060708090a0b0c0d0e0f32100a0e0a0c0a0a68656c6c6f2c20426f62",
            "One stored block: what a receiver without a compressor may still send.",
        ),
        decode_only(
            response("history reply, compressed", 8, Command::History, page),
            true,
            "133e08003be332e7624ecccb13624eca4f92605468b8f06adb76632d0106462666165636760e4e2e6e1e5e3e7e23012e3e2e1e2eae8cd49c9c7c1d0527906200",
            "By zlib, fixed Huffman codes.",
        ),
    ]
}

fn unknown() -> Vec<FrameVector> {
    let ping = vector("", Kind::Ping, Prefix::None, ());
    let kind = FrameVector {
        name: "frame of an unknown kind".into(),
        kind: "unknown".into(),
        kind_code: 15,
        payload: Some("0a0b0c".into()),
        sender: "server".into(),
        ..ping
    };
    let flagged = FrameVector { name: "compressed frame of an unknown kind".into(), kind_code: 8, ..kind.clone() };
    let topic = FrameVector { payload: Some("0801".into()), ..push("push of an unknown topic", 77, ()) };
    let fields = vector("hello with fields of a newer client", Kind::Hello, Prefix::Magic, hello());
    // Field 100 (a number) and field 101 (bytes) behind the fields of today.
    let newer = [unhex(&fields.hex)[2..].to_vec(), vec![0xa0, 0x06, 0x05, 0xaa, 0x06, 0x02, 0x78, 0x79]].concat();
    let newer = [vec![0, newer.len() as u8], newer].concat();
    vec![
        decode_only(kind, false, "0f030a0b0c", "Skipped by its length, after hello and welcome."),
        decode_only(flagged, true, "18030a0b0c", "Skipped; its payload is not looked at."),
        decode_only(topic, false, "04034d0801", "Skipped."),
        decode_only(fields, false, &hex(&newer), "Unknown fields are ignored."),
        noted(
            failure("failure with an unknown code", 7, 4_000, 4_000_000_000, "from the future", 0),
            "Codes that are not in the table are final failures.",
        ),
    ]
}
