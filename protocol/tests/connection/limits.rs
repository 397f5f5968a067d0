//! Each limit and deadline of `ServerLimits`, and each refusal of the server's side.

use bytes::{Bytes, BytesMut};
use prost::Message;
use protocol::{
    EncodedEvent, ErrorCode,
    command::Command,
    connection::{ServerConnection, ServerEvent, ServerLimits},
    frame::{self, Kind, Prefix},
    message::{GoAway, Hello, LoginReply, Send, SendReply},
};

use crate::support::*;

fn default() -> ServerLimits {
    ServerLimits::default()
}

#[test]
fn hello_too_late() {
    let mut server = server(ServerLimits { hello_deadline_ms: 100, ..default() });
    assert_eq!(server.timeout(), Some(START + 100));
    server.receive(START + 99, &[0]); // half a frame is no hello
    server.handle_timeout(START + 99);
    assert!(server.output().is_empty());
    server.handle_timeout(START + 100);
    assert_closed(&mut server, ErrorCode::HELLO_DEADLINE);
}

#[test]
fn login_too_late_counts_from_the_start() {
    let mut server = server(ServerLimits { hello_deadline_ms: 100, login_deadline_ms: 150, ..default() });
    server.receive(START + 90, &hello_bytes(&hello()));
    server.poll();
    assert_eq!(server.timeout(), Some(START + 150));
    server.welcome(1, 0);
    frames(&mut server);
    server.receive(START + 140, &ping_bytes());
    assert_eq!(events(&mut server), [ServerEvent::Ping]);
    assert_eq!(server.timeout(), Some(START + 150), "a ping does not move the deadline before login");
    server.handle_timeout(START + 150);
    assert_closed(&mut server, ErrorCode::LOGIN_DEADLINE);
}

#[test]
fn a_login_deadline_shorter_than_that_for_hello() {
    let server = server(ServerLimits { hello_deadline_ms: 100, login_deadline_ms: 50, ..default() });
    assert_eq!(server.timeout(), Some(START + 50));
}

#[test]
fn the_login_deadline_holds_without_a_welcome_and_during_a_login() {
    let mut waiting = server(default());
    waiting.receive(START, &hello_bytes(&hello()));
    waiting.poll();
    waiting.handle_timeout(START + 15_000);
    assert_closed(&mut waiting, ErrorCode::LOGIN_DEADLINE);
    let mut checking = welcomed(default());
    checking.receive(START, &login_bytes(1));
    checking.poll();
    checking.handle_timeout(START + 15_000);
    assert_closed(&mut checking, ErrorCode::LOGIN_DEADLINE);
}

/// A head that announces `length` bytes, none of which follow.
fn announced(length: u8) -> [u8; 2] {
    [2, length]
}

#[test]
fn frame_too_large_in_each_state() {
    let limits = ServerLimits { hello_bytes_max: 40, login_bytes_max: 60, frame_bytes_max: 80, ..default() };
    type State = fn(ServerLimits) -> ServerConnection;
    let states: [(State, u8); 3] = [(server, 40), (welcomed, 60), (opened, 80)];
    for (state, limit) in states {
        let mut connection = state(limits.clone());
        connection.receive(START, &announced(limit));
        assert!(connection.output().is_empty(), "{limit} is allowed");
        let mut connection = state(limits.clone());
        connection.receive(START, &announced(limit + 1));
        assert_closed(&mut connection, ErrorCode::FRAME_TOO_LARGE);
    }
}

#[test]
fn too_many_frames_before_login() {
    let mut server = welcomed(ServerLimits { frames_before_login_max: 3, ..default() });
    server.receive(START, UNKNOWN_KIND); // the second; unknown ones count
    server.receive(START, &ping_bytes());
    assert_eq!(events(&mut server), [ServerEvent::Ping]);
    server.receive(START, &login_bytes(1));
    assert_closed(&mut server, ErrorCode::TOO_MANY_FRAMES);
}

#[test]
fn frames_that_wait_for_a_login_are_not_counted_against_it() {
    let mut server = welcomed(ServerLimits { frames_before_login_max: 2, ..default() });
    server.receive(START, &[login_bytes(1), ping_bytes(), ping_bytes(), ping_bytes()].concat());
    assert!(matches!(server.poll(), Some(ServerEvent::Request { id: 1, .. })));
    server.logged_in(START);
    server.respond(1, &LoginReply::default());
    assert_eq!(events(&mut server), [ServerEvent::Ping, ServerEvent::Ping, ServerEvent::Ping]);
}

#[test]
fn login_failures() {
    // The caller may refuse first or count first: the client learns what was wrong before the go-away.
    for refuse_first in [true, false] {
        let mut server = welcomed(ServerLimits { login_failures_max: 2, ..default() });
        for id in [1, 2] {
            server.receive(START, &login_bytes(id));
            assert!(matches!(server.poll(), Some(ServerEvent::Request { command: Command::Login, .. })));
            if refuse_first {
                server.refuse(id, ErrorCode::USERSIG_EXPIRED, "expired", 0);
                server.login_failed();
            } else {
                server.login_failed();
                server.refuse(id, ErrorCode::USERSIG_EXPIRED, "expired", 0);
            }
        }
        let frames = frames(&mut server);
        assert_eq!(frames.len(), 3);
        assert_eq!(answer(&frames[0]), (1, ErrorCode::USERSIG_EXPIRED));
        assert_eq!(answer(&frames[1]), (2, ErrorCode::USERSIG_EXPIRED));
        let goaway = GoAway::decode(frames[2].body.clone()).unwrap();
        assert_eq!((goaway.code, goaway.retry_after_ms), (ErrorCode::TOO_MANY_LOGIN_FAILURES.0, 1_000));
        assert_eq!(events(&mut server), [ServerEvent::Closing(ErrorCode::TOO_MANY_LOGIN_FAILURES)]);
        assert_over(&mut server);
    }
}

#[test]
fn a_login_that_could_not_be_checked_is_no_failure() {
    let mut server = welcomed(ServerLimits { login_failures_max: 1, ..default() });
    for id in 1..5 {
        server.receive(START, &login_bytes(id));
        assert!(matches!(server.poll(), Some(ServerEvent::Request { .. })));
        server.refuse(id, ErrorCode::UNAVAILABLE, "later", 500);
        assert_eq!(answer(&frames(&mut server)[0]), (id, ErrorCode::UNAVAILABLE));
    }
    assert!(server.wants_input());
}

#[test]
fn in_flight_over_the_limit() {
    let mut server = opened(ServerLimits { in_flight_max: 2, ..default() });
    for id in [10, 11, 12] {
        server.receive(START, &send_bytes(id));
    }
    assert_eq!(events(&mut server).len(), 2);
    assert_eq!(server.in_flight(), 2);
    assert_eq!(answer(&frames(&mut server)[0]), (12, ErrorCode::TOO_MANY_IN_FLIGHT));
    server.respond(11, &SendReply::default());
    server.receive(START, &send_bytes(13));
    assert!(matches!(server.poll(), Some(ServerEvent::Request { id: 13, .. })), "there is room again");
}

#[test]
fn requests_that_are_refused_leave_the_connection_open() {
    let unknown = bytes_of(Kind::Request, Prefix::Pair(5, 4_000), &());
    let mut before = welcomed(default());
    before.receive(START, &send_bytes(4));
    before.receive(START, &unknown);
    let answers: Vec<_> = frames(&mut before).iter().map(answer).collect();
    assert_eq!(answers, [(4, ErrorCode::NOT_LOGGED_IN), (5, ErrorCode::COMMAND_UNKNOWN)]);
    let mut after = opened(default());
    after.receive(START, &login_bytes(6));
    after.receive(START, &unknown);
    let answers: Vec<_> = frames(&mut after).iter().map(answer).collect();
    assert_eq!(answers, [(6, ErrorCode::ALREADY_LOGGED_IN), (5, ErrorCode::COMMAND_UNKNOWN)]);
    for mut server in [before, after] {
        assert_eq!(events(&mut server), []);
        assert_eq!(server.in_flight(), 0, "what was never handed out is not in flight");
        assert!(server.wants_input());
    }
}

#[test]
fn versions() {
    for (version_min, version_max, agreed) in
        [(1, 1, true), (0, 1, true), (1, 9, true), (2, 9, false), (0, 0, false), (2, 1, false), (9, 0, false)]
    {
        let mut server = server(default());
        server.receive(START, &hello_bytes(&Hello { version_min, version_max, ..hello() }));
        if agreed {
            assert!(
                matches!(server.poll(), Some(ServerEvent::Hello { version: 1, .. })),
                "{version_min}-{version_max}"
            );
        } else {
            assert_closed(&mut server, ErrorCode::VERSION_UNSUPPORTED);
        }
    }
}

#[test]
fn what_does_not_begin_with_a_hello() {
    let wrong_magic = Bytes::from_static(b"\x00\x04IMWQ");
    let short = Bytes::from_static(b"\x00\x03IMW");
    let undecodable = Bytes::from_static(b"\x00\x06IMWP\xff\xff");
    let compressed = Bytes::from_static(b"\x10\x04IMWP");
    let http = Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n");
    let unknown = Bytes::from_static(UNKNOWN_KIND);
    for bytes in [ping_bytes(), send_bytes(1), wrong_magic, short, undecodable, compressed, http, unknown] {
        let mut server = server(default());
        server.receive(START, &bytes);
        assert_closed(&mut server, ErrorCode::FRAME_INVALID);
    }
}

#[test]
fn frames_only_a_server_may_send_and_a_second_hello() {
    for state in [welcomed, opened] {
        for kind in [Kind::Hello, Kind::Welcome, Kind::Response, Kind::Push, Kind::Pong] {
            let mut server = state(default());
            server.receive(START, &bytes_of(kind, Prefix::Magic, &hello()));
            assert_closed(&mut server, ErrorCode::FRAME_INVALID);
        }
    }
}

#[test]
fn bytes_that_are_no_frame() {
    let reserved_flag = [0x25, 0].to_vec();
    let compressed_ping = [0x15, 0].to_vec();
    let overlong_length = [5, 0x80, 0].to_vec();
    let id_zero = bytes_of(Kind::Request, Prefix::Pair(0, 16), &()).to_vec();
    let without_command = [2, 1, 1].to_vec();
    let empty_request = [2, 0].to_vec();
    let overlong_id = [2, 3, 0x81, 0, 16].to_vec();
    for bytes in [reserved_flag, compressed_ping, overlong_length, id_zero, without_command, empty_request, overlong_id]
    {
        let mut server = opened(default());
        server.receive(START, &bytes);
        assert_closed(&mut server, ErrorCode::FRAME_INVALID);
    }
}

#[test]
fn truncated_end() {
    let mut cut = opened(default());
    cut.receive(START, &[2, 5, 1]);
    cut.receive_end();
    assert_closed(&mut cut, ErrorCode::FRAME_TRUNCATED);
    let mut whole = opened(default());
    whole.receive(START, &send_bytes(2));
    whole.receive_end();
    assert_eq!(events(&mut whole).len(), 1, "what came before the end is served");
    assert!(!whole.wants_input());
    whole.respond(2, &SendReply::default());
    assert_eq!(answer(&frames(&mut whole)[0]).0, 2);
}

#[test]
fn an_end_behind_frames_that_wait() {
    let mut server = welcomed(default());
    server.receive(START, &[login_bytes(1), send_bytes(2), Bytes::from_static(&[2, 5])].concat());
    server.receive_end();
    assert!(matches!(server.poll(), Some(ServerEvent::Request { id: 1, .. })));
    assert_eq!(server.poll(), None, "the login is not answered yet, and nothing is truncated yet");
    server.logged_in(START);
    server.respond(1, &LoginReply::default());
    assert!(matches!(server.poll(), Some(ServerEvent::Request { id: 2, .. })));
    frames(&mut server);
    assert_closed(&mut server, ErrorCode::FRAME_TRUNCATED);
}

#[test]
fn unknown_kinds_are_skipped() {
    for state in [welcomed, opened] {
        let mut server = state(default());
        server.receive(START, &[UNKNOWN_KIND, &ping_bytes(), &[0x08, 0], &ping_bytes()].concat());
        assert_eq!(events(&mut server), [ServerEvent::Ping, ServerEvent::Ping]);
        assert!(server.output().is_empty());
    }
}

/// A send in a frame with the compressed flag.
fn compressed(id: u8, size: &[u8], deflated: &[u8]) -> Vec<u8> {
    let body = [&[id, 16], size, deflated].concat();
    [&[0x12, body.len() as u8], &body[..]].concat()
}

#[test]
fn bad_deflate_is_an_answer_not_an_end() {
    let cases: [(&[u8], &[u8], ErrorCode); 6] = [
        (&[5], b"\xff\xff\xff", ErrorCode::PAYLOAD_INVALID), // no DEFLATE data
        (&[5], b"\x01\x04\x00\xfb\xffabcd", ErrorCode::PAYLOAD_INVALID), // four bytes, five announced
        (&[3], b"\x01\x04\x00\xfb\xffabcd", ErrorCode::PAYLOAD_INVALID), // four bytes, three announced
        (&[4], b"\x01\x04\x00\xfb\xffabcdx", ErrorCode::PAYLOAD_INVALID), // a byte too many
        (&[0x80, 0], b"", ErrorCode::PAYLOAD_INVALID),       // overlong size
        (&[0x81, 0x80, 0x04], b"\x03\x00", ErrorCode::FRAME_TOO_LARGE), // 65,537 bytes announced
    ];
    let mut server = opened(default());
    for (id, (size, deflated, code)) in (10..).zip(cases) {
        server.receive(START, &compressed(id, size, deflated));
        assert_eq!(events(&mut server), [], "{code:?}");
        assert_eq!(answer(&frames(&mut server)[0]), (u32::from(id), code));
    }
    server.receive(START, &compressed(9, &[4], b"\x01\x04\x00\xfb\xffabcd"));
    let request = ServerEvent::Request { id: 9, command: Command::Send, payload: Bytes::from_static(b"abcd") };
    assert_eq!(events(&mut server), [request]);
}

#[test]
fn deflate_that_was_not_agreed() {
    for (wish, allowed) in [(false, true), (true, false)] {
        let mut server = server(ServerLimits { deflate: allowed, ..default() });
        server.receive(START, &hello_bytes(&Hello { deflate: wish, ..hello() }));
        server.poll();
        server.welcome(1, 0);
        frames(&mut server);
        server.receive(START, &compressed(9, &[4], b"\x01\x04\x00\xfb\xffabcd"));
        assert_closed(&mut server, ErrorCode::FRAME_INVALID);
    }
}

#[test]
fn only_an_agreed_peer_gets_compressed_pushes_and_nobody_compressed_answers() {
    let long = Send { to_user: "x".repeat(5_000), ..Default::default() };
    let event = EncodedEvent::message(Bytes::from(vec![b'x'; 5_000]));
    let mut agreed = opened(default());
    agreed.push_event(b"position", &event, None);
    agreed.respond(1, &long);
    let sent = frames(&mut agreed);
    assert!(sent[0].compressed && sent[0].body.len() < 200);
    assert!(!sent[1].compressed, "an answer may hold what several people wrote");
    let mut plain = opened(ServerLimits { deflate: false, ..default() });
    plain.push_event(b"position", &event, None);
    assert!(!frames(&mut plain)[0].compressed);
}

#[test]
fn a_bomb_is_refused_by_what_it_announces() {
    let mut server = opened(ServerLimits { frame_bytes_max: 40_000, ..default() });
    let payload = Send { to_user: "x".repeat(50_000), ..Default::default() };
    let mut bytes = BytesMut::new();
    frame::put(&mut bytes, Kind::Request, Prefix::Pair(3, 16), &payload, true);
    assert!(bytes.len() < 1_000);
    server.receive(START, &bytes);
    assert_eq!(answer(&frames(&mut server)[0]), (3, ErrorCode::FRAME_TOO_LARGE));
    assert_eq!(events(&mut server), []);
}
