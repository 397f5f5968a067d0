//! The client's side: deadlines, heartbeats, what it takes from a server and what ends the connection.

use bytes::Bytes;
use protocol::{
    ErrorCode,
    command::{Command, Topic},
    connection::{ClientConfig, ClientConnection, ClientEvent},
    frame::{Kind, Prefix},
    message::{Event, EventPush, Failure, GoAway, Pong, Send, SendReply, Welcome},
};

use crate::support::*;

fn client() -> ClientConnection {
    ClientConnection::new(client_config(), START)
}

/// A client that was welcomed at the start, its output taken.
fn welcomed(heartbeat_ms: u32) -> ClientConnection {
    let mut client = client();
    client.receive(START, &welcome_bytes(heartbeat_ms, true));
    assert!(matches!(client.poll(), Some(ClientEvent::Welcome(_))));
    client.output().clear();
    client
}

fn assert_closed(client: &mut ClientConnection, expected: ErrorCode) {
    match client.poll() {
        Some(ClientEvent::Closing { code, .. }) => assert_eq!(code, expected),
        other => panic!("{other:?} instead of {expected:?}"),
    }
    client.output().clear();
    // Nothing goes in or comes out any more.
    client.receive(START, &welcome_bytes(1_000, false).repeat(1_000));
    client.receive_end();
    client.ping(START);
    client.request(START, Command::Send, &Send::default());
    client.handle_timeout(u64::MAX);
    assert_eq!(client.poll(), None);
    assert!(client.output().is_empty());
    assert_eq!((client.timeout(), client.buffered_bytes()), (u64::MAX, 0));
}

#[test]
fn heartbeats_are_sent_when_due() {
    let mut client = welcomed(1_000);
    assert_eq!((client.heartbeat_ms(), client.timeout()), (Some(1_000), START + 1_000));
    client.handle_timeout(START + 999);
    assert!(client.output().is_empty());
    client.handle_timeout(START + 1_000);
    assert_eq!(client.output().split(), ping_bytes());
    assert_eq!(client.timeout(), START + 2_000);
    client.handle_timeout(START + 1_001);
    assert!(client.output().is_empty(), "one at a time");
    client.request(START + 1_500, Command::Send, &Send::default());
    assert_eq!(client.timeout(), START + 2_500, "whatever is sent is a sign of life");
}

#[test]
fn gives_up_on_silence() {
    let mut client = welcomed(1_000);
    for second in 1..3 {
        client.handle_timeout(START + second * 1_000);
    }
    client.receive(START + 2_500, &bytes_of(Kind::Pong, Prefix::None, &()));
    assert_eq!(client.poll(), Some(ClientEvent::Pong(Pong::default())));
    for second in 3..6 {
        client.handle_timeout(START + second * 1_000);
        assert_eq!(client.poll(), None);
    }
    assert_eq!(client.timeout(), START + 5_500, "three intervals after the last byte");
    client.handle_timeout(START + 5_500);
    assert_closed(&mut client, ErrorCode::HEARTBEAT_LOST);
}

#[test]
fn no_welcome_in_time() {
    let mut client = client();
    assert_eq!(client.timeout(), START + 15_000);
    client.receive(START + 14_000, &[1]); // trickling does not buy time
    assert_eq!(client.timeout(), START + 15_000);
    client.handle_timeout(START + 15_000);
    assert_closed(&mut client, ErrorCode::HELLO_DEADLINE);
}

#[test]
fn a_welcome_that_would_make_it_spin() {
    assert_eq!(welcomed(0).timeout(), START + 100);
}

#[test]
fn what_is_no_answer_to_a_hello() {
    let pong = bytes_of(Kind::Pong, Prefix::None, &());
    let response = bytes_of(Kind::Response, Prefix::Pair(1, 0), &());
    let other_version = bytes_of(Kind::Welcome, Prefix::None, &Welcome { version: 2, ..Default::default() });
    let no_version = bytes_of(Kind::Welcome, Prefix::None, &Welcome::default());
    let unknown = Bytes::from_static(UNKNOWN_KIND);
    let http = Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    for bytes in [pong, response, other_version, no_version, unknown, http] {
        let mut client = client();
        client.receive(START, &bytes);
        assert_closed(&mut client, ErrorCode::FRAME_INVALID);
    }
}

#[test]
fn go_away_instead_of_a_welcome_and_later() {
    let goaway =
        GoAway { code: ErrorCode::CONNECTION_LIMIT.0, text: "full".into(), retry_after_ms: 9, ..GoAway::default() };
    for mut client in [client(), welcomed(1_000)] {
        client.receive(START, &bytes_of(Kind::GoAway, Prefix::None, &goaway));
        let closing = ClientEvent::Closing {
            code: ErrorCode::CONNECTION_LIMIT,
            text: "full".into(),
            retry_after_ms: 9,
            by: None,
            access_points: Vec::new(),
        };
        assert_eq!(client.poll(), Some(closing));
        assert_eq!(client.poll(), None);
    }
}

#[test]
fn frames_only_a_client_may_send_and_a_second_welcome() {
    for kind in [Kind::Hello, Kind::Request, Kind::Ping] {
        let mut client = welcomed(1_000);
        client.receive(START, &bytes_of(kind, Prefix::None, &()));
        assert_closed(&mut client, ErrorCode::FRAME_INVALID);
    }
    let mut client = welcomed(1_000);
    client.receive(START, &welcome_bytes(1_000, true));
    assert_closed(&mut client, ErrorCode::FRAME_INVALID);
}

#[test]
fn what_it_does_not_know_is_skipped() {
    let mut client = welcomed(1_000);
    let topic = bytes_of(Kind::Push, Prefix::Topic(77), &());
    let unknown_event =
        EventPush { event: Some(Event { position: Bytes::from_static(b"p"), what: None }), ..default() };
    let event = bytes_of(Kind::Push, Prefix::Topic(Topic::Event.code()), &unknown_event);
    let behind = bytes_of(Kind::Push, Prefix::Topic(Topic::Behind.code()), &());
    client.receive(START, &[UNKNOWN_KIND, &topic, &event, &behind].concat());
    assert_eq!(client.poll(), Some(ClientEvent::Event(unknown_event)), "its position still counts");
    assert_eq!(client.poll(), Some(ClientEvent::Behind));
    assert_eq!(client.poll(), None);
}

fn default<T: Default>() -> T {
    T::default()
}

#[test]
fn answers_and_failures() {
    let mut client = welcomed(1_000);
    let reply = SendReply { seq: 4, time_ms: 5, duplicate: true };
    let failure = Failure { text: "busy".into(), retry_after_ms: 50 };
    client.receive(START, &bytes_of(Kind::Response, Prefix::Pair(9, 0), &reply));
    client.receive(START, &bytes_of(Kind::Response, Prefix::Pair(8, 4_000_000_000), &failure));
    let Some(ClientEvent::Response { id: 9, payload }) = client.poll() else { panic!("no response") };
    assert_eq!(<SendReply as prost::Message>::decode(payload).unwrap(), reply);
    let failed = ClientEvent::Failed { id: 8, code: ErrorCode(4_000_000_000), text: "busy".into(), retry_after_ms: 50 };
    assert_eq!(client.poll(), Some(failed), "a code it does not know survives");
}

#[test]
fn bytes_that_end_the_connection() {
    let too_large = [&[4][..], &[0x81, 0x80, 0x02]].concat(); // 32,769 bytes announced
    let cases = [
        (too_large, ErrorCode::FRAME_TOO_LARGE),
        (vec![0x24, 0], ErrorCode::FRAME_INVALID),
        (vec![0x16, 0], ErrorCode::FRAME_INVALID),       // a compressed pong
        (vec![3, 1, 1], ErrorCode::FRAME_INVALID),       // a response without a code
        (vec![4, 0], ErrorCode::FRAME_INVALID),          // a push without a topic
        (vec![4, 2, 1, 0xff], ErrorCode::FRAME_INVALID), // an event that does not decode
        (vec![0x13, 4, 1, 0, 5, 0xff], ErrorCode::FRAME_INVALID), // damaged DEFLATE data
    ];
    for (bytes, code) in cases {
        let mut client = ClientConnection::new(ClientConfig { frame_bytes_max: 1, ..client_config() }, START);
        client.receive(START, &welcome_bytes(1_000, true));
        client.poll();
        client.receive(START, &bytes);
        assert_closed(&mut client, code);
    }
}

#[test]
fn deflate_that_was_not_agreed() {
    let stored = [0x13, 12, 1, 0, 4, 1, 4, 0, 0xfb, 0xff, b'a', b'b', b'c', b'd'];
    let mut agreed = welcomed(1_000);
    agreed.receive(START, &stored);
    assert_eq!(agreed.poll(), Some(ClientEvent::Response { id: 1, payload: Bytes::from_static(b"abcd") }));
    for (wish, offer) in [(true, false), (false, true)] {
        let mut client = ClientConnection::new(ClientConfig { deflate: wish, ..client_config() }, START);
        client.receive(START, &welcome_bytes(1_000, offer));
        client.poll();
        client.receive(START, &stored);
        assert_closed(&mut client, ErrorCode::FRAME_INVALID);
    }
}

#[test]
fn requests_are_compressed_only_once_agreed() {
    let long = Send { to_user: "x".repeat(5_000), ..Default::default() };
    let mut client = client();
    client.request(START, Command::Send, &long);
    client.receive(START, &welcome_bytes(1_000, true));
    client.request(START, Command::Send, &long);
    let frames = cut(&client.output().split());
    let compressed: Vec<_> = frames.iter().map(|frame| (frame.kind, frame.compressed)).collect();
    assert_eq!(compressed, [(Kind::Hello, false), (Kind::Request, false), (Kind::Request, true)]);
}

#[test]
fn truncated_end() {
    let mut cut = welcomed(1_000);
    cut.receive(START, &[3, 5, 1]);
    cut.receive_end();
    assert_closed(&mut cut, ErrorCode::FRAME_TRUNCATED);
    let mut whole = welcomed(1_000);
    whole.receive(START, &bytes_of(Kind::Pong, Prefix::None, &()));
    whole.receive_end();
    assert!(matches!(whole.poll(), Some(ClientEvent::Pong(_))));
    assert_eq!(whole.poll(), None);
}

#[test]
fn clocks_at_their_end_and_running_backwards() {
    let mut client = ClientConnection::new(client_config(), u64::MAX - 1);
    assert_eq!(client.timeout(), u64::MAX);
    client.receive(u64::MAX, &welcome_bytes(1_000, true));
    client.request(u64::MAX, Command::Send, &Send::default());
    assert_eq!(client.timeout(), u64::MAX);
    let mut client = welcomed(1_000);
    client.receive(5, &bytes_of(Kind::Pong, Prefix::None, &()));
    client.ping(3);
    client.handle_timeout(0);
    assert_eq!(client.timeout(), 1_003);
}
