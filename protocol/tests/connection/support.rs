//! What all tests of the connection need: frames as bytes, and servers brought into a state.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::test_runner::{Config, RngSeed};
use prost::Message;
use protocol::{
    ErrorCode,
    command::Command,
    connection::{ClientConfig, ServerConnection, ServerEvent, ServerLimits},
    frame::{self, Decoder, Frame, Kind, Prefix},
    message::{Failure, GoAway, Hello, Login, LoginReply, Send, Welcome},
};

/// The time at which connections of these tests start.
pub(crate) const START: u64 = 1_000_000;

/// The same cases on every run; `PROPTEST_RNG_SEED` chooses others.
pub(crate) fn seeded(cases: u32) -> Config {
    let mut config = Config::with_cases(cases);
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(0x1517);
    }
    config.failure_persistence = None;
    config
}

pub(crate) fn client_config() -> ClientConfig {
    ClientConfig { heartbeat_ms: 0, frame_bytes_max: 0, deflate: true, client: "test/1".into() }
}

pub(crate) fn bytes_of(kind: Kind, prefix: Prefix, payload: &impl frame::Payload) -> Bytes {
    let mut out = BytesMut::new();
    frame::put(&mut out, kind, prefix, payload, false);
    out.freeze()
}

pub(crate) fn hello() -> Hello {
    Hello { version_min: 1, version_max: 1, deflate: true, client: "test/1".into(), ..Default::default() }
}

pub(crate) fn hello_bytes(hello: &Hello) -> Bytes {
    bytes_of(Kind::Hello, Prefix::Magic, hello)
}

pub(crate) fn request_bytes(id: u32, command: Command, payload: &impl Message) -> Bytes {
    bytes_of(Kind::Request, Prefix::Pair(id, command.code()), payload)
}

pub(crate) fn login_bytes(id: u32) -> Bytes {
    request_bytes(id, Command::Login, &Login { sdkappid: 1, user: "ann".into(), ..Default::default() })
}

pub(crate) fn send_bytes(id: u32) -> Bytes {
    request_bytes(id, Command::Send, &Send { to_user: "bob".into(), ..Default::default() })
}

pub(crate) fn ping_bytes() -> Bytes {
    bytes_of(Kind::Ping, Prefix::None, &())
}

/// A frame of a kind no version knows yet, flags and all.
pub(crate) const UNKNOWN_KIND: &[u8] = &[0x1f, 3, 1, 2, 3];

pub(crate) fn server(limits: ServerLimits) -> ServerConnection {
    ServerConnection::new(Arc::new(limits), START)
}

/// A server that has welcomed its client and waits for the login.
pub(crate) fn welcomed(limits: ServerLimits) -> ServerConnection {
    let mut server = server(limits);
    server.receive(START, &hello_bytes(&hello()));
    assert_eq!(server.poll(), Some(ServerEvent::Hello { version: 1, client: "test/1".into() }));
    server.welcome(1, 7);
    let frames = frames(&mut server);
    assert_eq!(frames.iter().map(|frame| frame.kind).collect::<Vec<_>>(), [Kind::Welcome]);
    server
}

/// A server whose client is logged in.
pub(crate) fn opened(limits: ServerLimits) -> ServerConnection {
    let mut server = welcomed(limits);
    server.receive(START, &login_bytes(1));
    let Some(ServerEvent::Request { id: 1, command: Command::Login, .. }) = server.poll() else { panic!("no login") };
    server.logged_in(START);
    server.respond(1, &LoginReply::default());
    frames(&mut server);
    server
}

/// Takes the output, as frames.
pub(crate) fn frames(server: &mut ServerConnection) -> Vec<Frame> {
    cut(&server.output().split())
}

pub(crate) fn cut(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = Decoder::default();
    decoder.feed(bytes);
    let frames = std::iter::from_fn(|| decoder.next_frame(usize::MAX).unwrap()).collect();
    decoder.finish().unwrap();
    frames
}

pub(crate) fn events(server: &mut ServerConnection) -> Vec<ServerEvent> {
    std::iter::from_fn(|| server.poll()).collect()
}

/// What a response says: its id and its code.
pub(crate) fn answer(frame: &Frame) -> (u32, ErrorCode) {
    assert_eq!(frame.kind, Kind::Response);
    let (id, code, payload) = frame::split_pair(frame.body.clone()).unwrap();
    if code != 0 && !frame.compressed {
        assert_ne!(Failure::decode(payload).unwrap().text, "", "a failure says something to people");
    }
    (id, ErrorCode(code))
}

/// The output is a go-away with `code` and nothing else, the event says the same, and it is the last.
pub(crate) fn assert_closed(server: &mut ServerConnection, code: ErrorCode) {
    assert_eq!(events(server), [ServerEvent::Closing(code)]);
    let frames = frames(server);
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert_eq!(frames[0].kind, Kind::GoAway);
    assert_eq!(GoAway::decode(frames[0].body.clone()).unwrap().code, code.0);
    assert_over(server);
}

/// Nothing goes in or comes out any more, whatever is done.
pub(crate) fn assert_over(server: &mut ServerConnection) {
    server.receive(START + 1, &hello_bytes(&hello()));
    server.receive(START + 2, &[0xff; 100]);
    server.receive_end();
    server.handle_timeout(u64::MAX);
    server.welcome(1, 1);
    server.logged_in(START);
    server.login_failed();
    server.respond(1, &LoginReply::default());
    server.refuse(1, ErrorCode::BUSY, "busy", 0);
    server.push_behind();
    server.pong(None, true);
    server.go_away(ErrorCode::SERVER_DRAINING, 0);
    assert_eq!(events(server), []);
    assert!(server.output().is_empty());
    assert_eq!((server.timeout(), server.wants_input(), server.buffered_bytes()), (None, false, 0));
}

/// A client whose server has welcomed it with `heartbeat_ms`; output and events are taken.
pub(crate) fn welcome_bytes(heartbeat_ms: u32, deflate: bool) -> Bytes {
    let welcome =
        Welcome { version: 1, heartbeat_ms, frame_bytes_max: 65_536, deflate, in_flight_max: 256, server_time_ms: 7 };
    bytes_of(Kind::Welcome, Prefix::None, &welcome)
}
