//! What a client may get wrong in the protocol, and what it is told.
//!
//! Goal: the Bad-input table: an error that says which, the connection goes on where the stream can still
//! be trusted and ends where it can't, and every end is counted by its code. Mechanics: raw frames inside
//! TLS against the real process. Without it a broken client could take the gateway down, or leave its
//! developers guessing.

use bytes::Bytes;
use protocol::{
    ErrorCode,
    command::Command,
    frame::{Kind, Prefix},
    message::{Hello, Login, Pong, Send, Sync},
};
use tests::{Gateway, Options, Refusal, Wire, text_body, unique_id};

/// `gateway_closed_total` by code.
fn wait_closed(gateway: &Gateway, code: ErrorCode, count: f64) {
    gateway.wait_metric("gateway_closed_total", &[("code", &code.0.to_string())], count);
}

fn log_in(gateway: &Gateway, wire: &mut Wire, id: u32) {
    wire.hello();
    let app = gateway.app();
    let login = Login { sdkappid: app.sdkappid, user: "anna".into(), usersig: app.sign("anna"), ..Login::default() };
    wire.request(id, Command::Login, &login);
    let frame = wire.frame().expect("a reply");
    assert_eq!((frame.kind, &frame.body[..2]), (Kind::Response, &[id as u8, 0][..]));
}

/// The connection still answers.
fn assert_alive(wire: &mut Wire) {
    wire.send(Kind::Ping, Prefix::None, &());
    assert_eq!(wire.frame().map(|frame| frame.kind), Some(Kind::Pong));
}

#[test]
fn streams_that_are_no_frames_are_told_so_and_closed() {
    let gateway = Gateway::start();
    let http = &b"GET / HTTP/1.1\r\n\r\n"[..];
    let cases: [(&str, &[u8], ErrorCode); 8] = [
        ("http inside TLS", http, ErrorCode::FRAME_INVALID),
        ("a reserved bit of the head", &[0x20, 0], ErrorCode::FRAME_INVALID),
        ("a length that is overlong", &[0x00, 0x88, 0x00], ErrorCode::FRAME_INVALID),
        ("a length of more than 32 bits", &[0x00, 0xff, 0xff, 0xff, 0xff, 0x7f], ErrorCode::FRAME_INVALID),
        ("another magic", b"\x00\x08IMWQ\x08\x01\x10\x01", ErrorCode::FRAME_INVALID),
        ("a hello that does not decode", b"\x00\x06IMWP\x08\xff", ErrorCode::FRAME_INVALID),
        ("a frame before the hello", &[0x05, 0], ErrorCode::FRAME_INVALID),
        ("a length of 4 GiB", &[0x00, 0xff, 0xff, 0xff, 0xff, 0x0f], ErrorCode::FRAME_TOO_LARGE),
    ];
    for (what, bytes, expected) in cases {
        let mut wire = gateway.wire();
        wire.write(bytes).expect("it takes bytes");
        assert_eq!(wire.go_away(), expected, "{what}");
    }
    wait_closed(&gateway, ErrorCode::FRAME_INVALID, 7.0);
    wait_closed(&gateway, ErrorCode::FRAME_TOO_LARGE, 1.0);
    assert_eq!(gateway.metrics().sum("gateway_panics_total", &[]), 0.0);
}

#[test]
fn a_welcomed_stream_that_goes_wrong_is_closed_too() {
    let gateway = Gateway::start();
    let cases: [(&str, &[u8]); 6] = [
        ("a second hello", b"\x00\x08IMWP\x08\x01\x10\x01"),
        ("a server's frame", &[0x03, 2, 1, 0]),
        ("a request with number 0", &[0x02, 2, 0, 17]),
        ("a request without a command", &[0x02, 1, 1]),
        ("a compressed request that was not agreed on", &[0x12, 3, 1, 17, 0]),
        ("a compressed ping", &[0x15, 0]),
    ];
    for (what, bytes) in cases {
        let mut wire = gateway.wire();
        wire.hello();
        wire.write(bytes).expect("it takes bytes");
        assert_eq!(wire.go_away(), ErrorCode::FRAME_INVALID, "{what}");
    }
    wait_closed(&gateway, ErrorCode::FRAME_INVALID, 6.0);
}

#[test]
fn versions_without_one_in_common_are_refused() {
    let gateway = Gateway::start();
    for (version_min, version_max) in [(2, 9), (0, 0), (5, 1)] {
        let mut wire = gateway.wire();
        wire.hello_with(&Hello { version_min, version_max, ..Hello::default() });
        assert_eq!(wire.go_away(), ErrorCode::VERSION_UNSUPPORTED, "{version_min} to {version_max}");
    }
    wait_closed(&gateway, ErrorCode::VERSION_UNSUPPORTED, 3.0);
    let mut wire = gateway.wire();
    wire.hello_with(&Hello { version_min: 1, version_max: 9, ..Hello::default() });
    assert_eq!(wire.frame().map(|frame| frame.kind), Some(Kind::Welcome), "version 1 is among them");
}

#[test]
fn frames_over_the_limit_of_each_state_are_refused_before_they_are_sent() {
    let gateway = Gateway::start();
    let announce = |wire: &mut Wire, kind: u8, length: u32| {
        let varint = [(length & 0x7f | 0x80) as u8, (length >> 7 & 0x7f | 0x80) as u8, (length >> 14) as u8];
        wire.write(&[&[kind][..], &varint].concat()).expect("it takes a head");
    };
    let mut before_hello = gateway.wire();
    before_hello.write(&[0x00, 0x81, 0x04]).expect("it takes a head"); // 513
    assert_eq!(before_hello.go_away(), ErrorCode::FRAME_TOO_LARGE);

    let mut before_login = gateway.wire();
    before_login.hello();
    before_login.write(&[0x02, 0x81, 0x40]).expect("it takes a head"); // 8193
    assert_eq!(before_login.go_away(), ErrorCode::FRAME_TOO_LARGE);

    let mut logged_in = gateway.wire();
    log_in(&gateway, &mut logged_in, 1);
    announce(&mut logged_in, 0x02, 65_537);
    assert_eq!(logged_in.go_away(), ErrorCode::FRAME_TOO_LARGE);
    wait_closed(&gateway, ErrorCode::FRAME_TOO_LARGE, 3.0);
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_told_so() {
    let gateway = Gateway::start();
    let mut wire = gateway.wire();
    wire.hello();
    wire.write(&[0x02, 100, 1]).expect("it takes bytes");
    wire.end();
    assert_eq!(wire.go_away(), ErrorCode::FRAME_TRUNCATED);
    wait_closed(&gateway, ErrorCode::FRAME_TRUNCATED, 1.0);
}

#[test]
fn a_stream_that_ends_between_frames_still_gets_its_answers() {
    let gateway = Gateway::start();
    let mut wire = gateway.wire();
    log_in(&gateway, &mut wire, 1);
    wire.request(2, Command::Sync, &Sync::default());
    wire.end();
    assert_eq!(wire.frame().map(|frame| frame.kind), Some(Kind::Response));
    wire.closed();
}

#[test]
fn requests_that_are_wrong_fail_and_the_connection_goes_on() {
    let gateway = Gateway::start();
    let mut wire = gateway.wire();
    wire.hello();
    wire.request(1, Command::Sync, &Sync::default());
    assert_eq!(wire.failure(1), ErrorCode::NOT_LOGGED_IN);
    wire.send(Kind::Request, Prefix::Pair(2, 999), &Pong::default());
    assert_eq!(wire.failure(2), ErrorCode::COMMAND_UNKNOWN);
    wire.write(&[0x02, 4, 3, 1, 0xff, 0xff]).expect("it takes bytes");
    assert_eq!(wire.failure(3), ErrorCode::PAYLOAD_INVALID);
    assert_alive(&mut wire);

    let mut wire = gateway.wire();
    log_in(&gateway, &mut wire, 1);
    wire.request(2, Command::Login, &Login::default());
    assert_eq!(wire.failure(2), ErrorCode::ALREADY_LOGGED_IN);
    wire.send(Kind::Request, Prefix::Pair(3, 999), &Pong::default());
    assert_eq!(wire.failure(3), ErrorCode::COMMAND_UNKNOWN);
    for command in [Command::Send, Command::Sync, Command::History] {
        wire.write(&[0x02, 4, 4, command.code() as u8, 0xff, 0xff]).expect("it takes bytes");
        assert_eq!(wire.failure(4), ErrorCode::PAYLOAD_INVALID, "{command:?}");
    }
    let send = Send {
        to_user: "anna".into(),
        client_message_id: Bytes::from_static(b"1"),
        body: Bytes::from_static(&[0xff; 3]),
        ..Send::default()
    };
    wire.request(5, Command::Send, &send);
    assert_eq!(wire.failure(5), ErrorCode::PAYLOAD_INVALID, "a body that does not decode");
    wire.request(6, Command::Sync, &Sync { limit: 1001, ..Sync::default() });
    assert_eq!(wire.failure(6), ErrorCode::ARGUMENT_INVALID);
    assert_alive(&mut wire);
    gateway.wait_metric("gateway_requests_refused_total", &[("code", "200021")], 1.0);
}

#[test]
fn what_a_newer_client_sends_is_skipped() {
    let gateway = Gateway::start();
    let mut wire = gateway.wire();
    wire.hello();
    wire.write(&[0x0f, 3, 0x0a, 0x0b, 0x0c]).expect("it takes bytes"); // an unknown kind
    wire.write(&[0x05, 2, 7, 7]).expect("it takes bytes"); // a ping with a body
    assert_eq!(wire.frame().map(|frame| frame.kind), Some(Kind::Pong));
    assert_alive(&mut wire);
}

#[test]
fn before_login_only_a_few_frames_are_taken() {
    let gateway = Gateway::start();
    let mut wire = gateway.wire();
    wire.hello(); // the first of 16
    for _ in 0..15 {
        assert_alive(&mut wire);
    }
    wire.send(Kind::Ping, Prefix::None, &());
    assert_eq!(wire.go_away(), ErrorCode::TOO_MANY_FRAMES);
    wait_closed(&gateway, ErrorCode::TOO_MANY_FRAMES, 1.0);
}

#[test]
fn more_requests_than_agreed_on_are_refused_one_by_one() {
    let gateway = Gateway::builder().flag("client-in-flight-max", 2).start();
    let mut anna = gateway.login("anna");
    // In one write, so that they arrive together; each is answered, with success or the failure.
    let requests: Vec<u32> = (0..50).map(|_| anna.start_send("anna", &unique_id(), text_body("hello"))).collect();
    let mut stored = 0;
    for request in requests {
        match anna.answer::<protocol::message::SendReply>(request) {
            Ok(_) => stored += 1,
            Err(Refusal::Failed { code, .. }) => assert_eq!(code, ErrorCode::TOO_MANY_IN_FLIGHT),
            Err(closed) => panic!("{closed:?}"),
        }
    }
    assert!(stored >= 2, "{stored}");
    assert_eq!(anna.conversation("anna").len(), stored);
}

#[test]
fn compressed_payloads_that_are_damaged_or_a_bomb_fail_alone() {
    let gateway = Gateway::start();
    let mut wire = gateway.wire();
    wire.hello_with(&Hello { version_min: 1, version_max: 1, deflate: true, ..Hello::default() });
    assert_eq!(wire.frame().map(|frame| frame.kind), Some(Kind::Welcome));
    wire.write(&[0x12, 5, 1, 1, 10, 0xff, 0xff]).expect("it takes bytes");
    assert_eq!(wire.failure(1), ErrorCode::PAYLOAD_INVALID);
    // Announces 2 MiB.
    wire.write(&[0x12, 7, 2, 1, 0x80, 0x80, 0x80, 0x01, 0]).expect("it takes bytes");
    assert_eq!(wire.failure(2), ErrorCode::FRAME_TOO_LARGE);
    assert_alive(&mut wire);
}

#[test]
fn large_texts_are_compressed_both_ways_if_agreed_on() {
    let gateway = Gateway::start();
    let options = Options { deflate: true, ..Options::default() };
    let mut anna = gateway.connect_with("anna", options);
    anna.log_in_and_sync();
    let text = "all the same ".repeat(800);
    anna.send("anna", &text);
    assert_eq!(tests::MessageExt::text(&anna.conversation("anna")[0]), text);
}

#[test]
fn connections_over_the_limit_are_closed_at_once_and_counted() {
    let gateway = Gateway::builder().flag("client-connections-max", 2).start();
    let mut kept = [gateway.login("anna"), gateway.login("ben")];
    assert!(gateway.try_connect("carl", Options::default()).is_err());
    gateway.wait_metric("gateway_connections_refused_total", &[], 1.0);
    kept.iter_mut().for_each(|client| drop(client.ping()));
    let [anna, _ben] = kept;
    drop(anna);
    tests::eventually("there is room again", || gateway.try_connect("carl", Options::default()).is_ok());
}
