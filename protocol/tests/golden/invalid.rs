//! The invalid vectors: what a receiver makes of bytes that are wrong.

use std::sync::Arc;

use protocol::{
    ErrorCode,
    command::Command,
    connection::{ClientConfig, ClientConnection, ClientEvent, ServerConnection, ServerEvent, ServerLimits},
    frame::{self, Decoder, Kind, Prefix},
    message::{GoAway, Hello, Login, LoginReply, Welcome},
};

use crate::format::{InvalidError, InvalidVector, encoded, unhex};

pub(crate) fn invalid() -> Vec<InvalidVector> {
    let (server, client) = ("server", "client");
    let invalid = (ErrorCode::FRAME_INVALID, "goaway");
    let large = (ErrorCode::FRAME_TOO_LARGE, "goaway");
    let damaged = (ErrorCode::PAYLOAD_INVALID, "response");
    let closes = (ErrorCode::FRAME_INVALID, "close");
    let newer = Hello { version_min: 2, version_max: 3, ..Default::default() };
    let newer = encoded(Kind::Hello, Prefix::Magic, &newer);
    let other_version = encoded(Kind::Welcome, Prefix::None, &Welcome { version: 2, ..Default::default() });
    let login = encoded(Kind::Request, Prefix::Pair(9, Command::Login.code()), &Login::default());
    let rows = [
        ("first frame is a ping", server, "start", "0500", invalid),
        ("another protocol", server, "start", "474554202f20485454502f312e310d0a", invalid),
        ("hello with another magic", server, "start", "0004494d5751", invalid),
        ("hello that ends inside the magic", server, "start", "0003494d57", invalid),
        ("hello that does not decode", server, "start", "0006494d5750ffff", invalid),
        ("hello of newer versions only", server, "start", &newer, (ErrorCode::VERSION_UNSUPPORTED, "goaway")),
        ("hello over 512 bytes", server, "start", "008104", large),
        ("login over 8192 bytes", server, "welcomed", "028140", large),
        ("second hello", server, "welcomed", "0004494d5750", invalid),
        ("send before login", server, "welcomed", "02020910", (ErrorCode::NOT_LOGGED_IN, "response")),
        ("second login", server, "open", &login, (ErrorCode::ALREADY_LOGGED_IN, "response")),
        ("frame over 65536 bytes", server, "open", "02818004", large),
        ("frame of 4 GiB", server, "open", "02ffffffff0f", large),
        ("reserved flag 0x20", server, "open", "2500", invalid),
        ("reserved flag 0x40", server, "open", "4500", invalid),
        ("reserved flag 0x80", server, "open", "8500", invalid),
        ("compressed flag on a ping", server, "open", "1500", invalid),
        ("length longer than it needs to be", server, "open", "058000", invalid),
        ("length over 32 bits", server, "open", "02ffffffff1f", invalid),
        ("request without an id", server, "open", "0200", invalid),
        ("request without a command", server, "open", "020109", invalid),
        ("request with id 0", server, "open", "02020010", invalid),
        ("request with an id longer than it needs to be", server, "open", "0203890010", invalid),
        ("response from a client", server, "open", "03020900", invalid),
        ("unknown command", server, "open", "020309a01f", (ErrorCode::COMMAND_UNKNOWN, "response")),
        ("compressed payload that is no DEFLATE data", server, "open", "1206091005ffffff", damaged),
        ("compressed payload shorter than announced", server, "open", "120c0910050104 00fbff61626364", damaged),
        ("compressed payload longer than announced", server, "open", "120c0910030104 00fbff61626364", damaged),
        ("compressed payload with a byte behind it", server, "open", "120d0910040104 00fbff6162636400", damaged),
        ("compressed payload without its size", server, "open", "12020910", damaged),
        (
            "compressed payload that inflates to over 65536 bytes",
            server,
            "open",
            "1207091081800403 00",
            (ErrorCode::FRAME_TOO_LARGE, "response"),
        ),
        ("first frame is no welcome", client, "start", "0600", closes),
        ("welcome with a version that was not offered", client, "start", &other_version, closes),
        ("second welcome", client, "open", "01020801", closes),
        ("ping from a server", client, "open", "0500", closes),
        ("response without a code", client, "open", "030109", closes),
        ("push without a topic", client, "open", "0400", closes),
        ("event push that does not decode", client, "open", "0403010aff", closes),
        ("message push that does not decode", client, "open", "0403030aff", closes),
        ("presence push that does not decode", client, "open", "0403040aff", closes),
        ("compressed flag on a pong", client, "open", "1600", closes),
        ("compressed response that is no DEFLATE data", client, "open", "130609 0005ffffff", closes),
        ("frame over the limit of the hello", client, "open", "04818004", (ErrorCode::FRAME_TOO_LARGE, "close")),
    ];
    rows.map(|(name, receiver, state, hex, (code, by))| InvalidVector {
        name: name.into(),
        receiver: receiver.into(),
        state: state.into(),
        hex: hex.replace(' ', ""),
        error: error(code, by),
    })
    .into()
}

fn error(code: ErrorCode, by: &str) -> InvalidError {
    InvalidError { code: code.0, name: code.name().unwrap_or("?").into(), by: by.into() }
}

/// What our own machines say to the bytes.
pub(crate) fn outcome(vector: &InvalidVector) -> InvalidError {
    match vector.receiver.as_str() {
        "server" => server_outcome(&vector.state, &unhex(&vector.hex)),
        _ => client_outcome(&vector.state, &unhex(&vector.hex)),
    }
}

fn server_outcome(state: &str, bytes: &[u8]) -> InvalidError {
    let mut server = ServerConnection::new(Arc::new(ServerLimits::default()), 0);
    if state != "start" {
        let hello = Hello { version_min: 1, version_max: 1, deflate: true, ..Default::default() };
        server.receive(0, &unhex(&encoded(Kind::Hello, Prefix::Magic, &hello)));
        assert!(matches!(server.poll(), Some(ServerEvent::Hello { .. })));
        server.welcome(1, 0);
    }
    if state == "open" {
        server.receive(0, &unhex(&encoded(Kind::Request, Prefix::Pair(1, 1), &Login::default())));
        assert!(matches!(server.poll(), Some(ServerEvent::Request { id: 1, .. })));
        server.logged_in(0);
        server.respond(1, &LoginReply::default());
    }
    server.output().clear();
    server.receive(0, bytes);
    let mut decoder = Decoder::default();
    decoder.feed(server.output());
    let answer = decoder.next_frame(65_536).unwrap().unwrap();
    match answer.kind {
        Kind::GoAway => {
            let code = <GoAway as prost::Message>::decode(answer.body).unwrap().code;
            assert_eq!(server.poll(), Some(ServerEvent::Closing(ErrorCode(code))));
            error(ErrorCode(code), "goaway")
        }
        Kind::Response => {
            let (id, code, _) = frame::split_pair(answer.body).unwrap();
            assert_eq!((id, server.poll()), (9, None));
            error(ErrorCode(code), "response")
        }
        other => panic!("{other:?}"),
    }
}

fn client_outcome(state: &str, bytes: &[u8]) -> InvalidError {
    let config = ClientConfig { heartbeat_ms: 0, frame_bytes_max: 0, deflate: true, client: String::new() };
    let mut client = ClientConnection::new(config, 0);
    if state != "start" {
        let welcome = Welcome { version: 1, heartbeat_ms: 60_000, deflate: true, ..Default::default() };
        client.receive(0, &unhex(&encoded(Kind::Welcome, Prefix::None, &welcome)));
        assert!(matches!(client.poll(), Some(ClientEvent::Welcome(_))));
    }
    client.receive(0, bytes);
    match client.poll() {
        Some(ClientEvent::Closing { code, .. }) => error(code, "close"),
        other => panic!("{other:?}"),
    }
}
