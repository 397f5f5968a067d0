//! Order, pipelining, flow control, heartbeats and odd clocks on the server's side.

use bytes::Bytes;
use protocol::{
    ErrorCode,
    command::Command,
    connection::{OUTPUT_BYTES_HIGH, ServerEvent, ServerLimits},
    frame::{Kind, Prefix},
    message::{GoAway, Hello, Locate, LocateReply, LoginReply, ReportRoundTrips, SendReply},
};

use crate::support::*;

#[test]
fn hello_login_and_requests_in_one_flight() {
    let mut server = server(ServerLimits::default());
    server.receive(START, &[hello_bytes(&hello()), login_bytes(1), send_bytes(2), ping_bytes()].concat());
    assert!(matches!(server.poll(), Some(ServerEvent::Hello { .. })));
    assert_eq!(server.poll(), None, "the rest waits for the welcome");
    server.welcome(1, 7);
    assert!(matches!(server.poll(), Some(ServerEvent::Request { id: 1, command: Command::Login, .. })));
    assert_eq!(server.poll(), None, "the rest waits for the login");
    server.logged_in(START);
    server.respond(1, &LoginReply::default());
    assert!(matches!(server.poll(), Some(ServerEvent::Request { id: 2, command: Command::Send, .. })));
    assert_eq!(server.poll(), Some(ServerEvent::Ping));
    let kinds: Vec<Kind> = frames(&mut server).iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [Kind::Welcome, Kind::Response]);
}

/// A refusal that the machine writes by itself must not overtake the welcome: a client takes anything
/// else as its first frame for a foreign protocol.
#[test]
fn nothing_overtakes_the_welcome() {
    let mut server = server(ServerLimits::default());
    server.receive(START, &[hello_bytes(&hello()), send_bytes(1)].concat());
    server.poll();
    assert_eq!(server.poll(), None);
    server.welcome(1, 7);
    server.welcome(1, 7); // a second one is not sent
    assert_eq!(server.poll(), None);
    let frames = frames(&mut server);
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0].kind, Kind::Welcome);
    assert_eq!(answer(&frames[1]), (1, ErrorCode::NOT_LOGGED_IN));
}

#[test]
fn one_login_at_a_time() {
    let mut server = welcomed(ServerLimits::default());
    server.receive(START, &[login_bytes(1), login_bytes(2), login_bytes(3)].concat());
    assert!(matches!(server.poll(), Some(ServerEvent::Request { id: 1, .. })));
    assert_eq!(server.poll(), None, "a second user must not be checked while the first one is");
    server.refuse(1, ErrorCode::USERSIG_EXPIRED, "expired", 0);
    server.login_failed();
    assert!(matches!(server.poll(), Some(ServerEvent::Request { id: 2, .. })));
    server.logged_in(START);
    server.respond(2, &LoginReply::default());
    assert_eq!(server.poll(), None);
    let answers: Vec<_> = frames(&mut server).iter().map(answer).collect();
    assert_eq!(answers, [(1, ErrorCode::USERSIG_EXPIRED), (2, ErrorCode(0)), (3, ErrorCode::ALREADY_LOGGED_IN)]);
}

/// Where to connect is asked before login and after; what was measured is said after.
#[test]
fn geo_02_locate_is_taken_at_any_time() {
    let mut server = welcomed(ServerLimits::default());
    let asks = |ids: [u32; 2]| {
        let report = request_bytes(ids[1], Command::ReportRoundTrips, &ReportRoundTrips::default());
        [request_bytes(ids[0], Command::Locate, &Locate::default()), report].concat()
    };
    server.receive(START, &asks([1, 2]));
    assert!(matches!(server.poll(), Some(ServerEvent::Request { id: 1, command: Command::Locate, .. })));
    server.respond(1, &LocateReply::default());
    assert_eq!(server.poll(), None);
    let answers: Vec<_> = frames(&mut server).iter().map(answer).collect();
    assert_eq!(answers, [(1, ErrorCode(0)), (2, ErrorCode::NOT_LOGGED_IN)]);
    server.receive(START, &[login_bytes(3), asks([4, 5]).into()].concat());
    server.poll();
    server.guest_logged_in(START);
    server.respond(3, &LoginReply::default());
    assert!(matches!(server.poll(), Some(ServerEvent::Request { id: 4, command: Command::Locate, .. })));
    assert!(matches!(server.poll(), Some(ServerEvent::Request { id: 5, command: Command::ReportRoundTrips, .. })));
}

#[test]
fn a_frame_behind_the_login_has_the_limit_of_a_logged_in_client() {
    let limits = ServerLimits { login_bytes_max: 100, ..ServerLimits::default() };
    let large = bytes_of(Kind::Request, Prefix::Pair(2, 16), &hello_of(1_000));
    let mut server = welcomed(limits);
    server.receive(START, &[login_bytes(1), large].concat());
    server.poll();
    assert!(!server.wants_input(), "what waits for a login is bounded by the limit before login");
    server.logged_in(START);
    server.respond(1, &LoginReply::default());
    assert!(matches!(server.poll(), Some(ServerEvent::Request { id: 2, .. })));
    assert!(server.wants_input());
}

fn hello_of(bytes: usize) -> Hello {
    Hello { client: "x".repeat(bytes), ..Default::default() }
}

#[test]
fn the_clients_name_is_fit_for_a_log() {
    let named = |name: &str| {
        let mut server = server(ServerLimits::default());
        server.receive(START, &hello_bytes(&Hello { client: name.into(), ..hello() }));
        match server.poll() {
            Some(ServerEvent::Hello { client, .. }) => client,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(named("a\n\u{1b}[31mb\0"), "a[31mb");
    assert_eq!(named(&"ü".repeat(100)), "ü".repeat(32));
    assert_eq!(named(&"x".repeat(100)).len(), 64);
}

#[test]
fn what_the_welcome_says() {
    use prost::Message;
    let limits = ServerLimits::default();
    for (wish, agreed) in [(0, 60_000), (1, 5_000), (30_000, 30_000), (u32::MAX, 300_000)] {
        let mut server = server(limits.clone());
        server.receive(START, &hello_bytes(&Hello { heartbeat_ms: wish, ..hello() }));
        server.poll();
        server.welcome(1, 99);
        let frame = frames(&mut server).remove(0);
        let welcome = protocol::message::Welcome::decode(frame.body).unwrap();
        assert_eq!((welcome.version, welcome.heartbeat_ms, welcome.server_time_ms), (1, agreed, 99));
        assert_eq!((welcome.frame_bytes_max, welcome.in_flight_max, welcome.deflate), (65_536, 256, true));
    }
}

#[test]
fn the_peers_frame_limit_is_between_the_least_and_the_servers_own() {
    for (wish, agreed) in [(0, 65_536), (1, 32_768), (32_768, 32_768), (40_000, 40_000), (100_000, 65_536)] {
        let mut server = server(ServerLimits::default());
        server.receive(START, &hello_bytes(&Hello { frame_bytes_max: wish, ..hello() }));
        assert_eq!(server.peer_frame_bytes_max(), agreed);
    }
}

#[test]
fn heartbeat_lost() {
    let mut server = opened(ServerLimits::default());
    assert_eq!(server.timeout(), Some(START + 120_000), "two intervals of a minute");
    server.receive(START + 100_000, &ping_bytes());
    server.handle_timeout(START + 219_999);
    assert!(server.output().is_empty());
    events(&mut server);
    server.handle_timeout(START + 220_000);
    assert_closed(&mut server, ErrorCode::HEARTBEAT_LOST);
}

#[test]
fn a_byte_a_second_is_no_sign_of_life() {
    let mut server = opened(ServerLimits::default());
    server.receive(START + 10, &[2, 0xc8, 1]); // 200 bytes announced
    for second in 1..119 {
        server.receive(START + 10 + second * 1_000, &[0]);
        server.receive(START + 10 + second * 1_000, &[]);
        assert_eq!(server.timeout(), Some(START + 120_010), "a frame has two intervals to arrive in");
    }
    server.handle_timeout(START + 120_010);
    assert_closed(&mut server, ErrorCode::HEARTBEAT_LOST);
}

#[test]
fn each_frame_that_arrives_is_a_sign_of_life() {
    let mut server = opened(ServerLimits::default());
    server.receive(START + 10, &[ping_bytes(), Bytes::from_static(&[2, 3, 9])].concat());
    events(&mut server);
    server.receive(START + 20, &[16]);
    assert_eq!(server.timeout(), Some(START + 120_010));
    server.receive(START + 30, &[0]);
    events(&mut server);
    server.receive(START + 40, &ping_bytes());
    assert_eq!(server.timeout(), Some(START + 120_040));
}

/// A client that asks and asks without reading the answers: what it can make the server hold has an end.
#[test]
fn a_flood_fills_the_clients_buffers_not_the_servers() {
    let unknown = bytes_of(Kind::Request, Prefix::Pair(5, 4_000), &()).repeat(1_000);
    let pings = ping_bytes().repeat(2_000);
    for (flood, frame_len) in [(unknown, 5), (pings, 2)] {
        let mut server = opened(ServerLimits::default());
        let (mut pieces, mut answers) = (0, 0);
        while server.wants_input() {
            server.receive(START, &flood);
            pieces += 1;
            while let Some(event) = server.poll() {
                assert_eq!(event, ServerEvent::Ping);
                server.pong(None, false);
            }
            assert!(server.output().len() < OUTPUT_BYTES_HIGH + 100);
            assert!(server.buffered_bytes() < ServerLimits::default().frame_bytes_max + 6 + flood.len());
        }
        // Reading the answers makes room; nothing was lost.
        while !server.output().is_empty() {
            answers += frames(&mut server).len();
            while server.poll().is_some() {
                server.pong(None, false);
            }
        }
        assert_eq!(answers, pieces * flood.len() / frame_len);
        assert!(server.wants_input());
        assert_eq!(server.buffered_bytes(), 0);
    }
}

#[test]
fn a_client_that_does_not_read_is_told_so_at_the_deadline() {
    let mut server = opened(ServerLimits::default());
    while server.wants_input() {
        server.receive(START + 5, &bytes_of(Kind::Request, Prefix::Pair(5, 4_000), &()).repeat(1_000));
    }
    server.output().truncate(OUTPUT_BYTES_HIGH);
    server.handle_timeout(START + 5 + 120_000);
    assert_eq!(events(&mut server), [ServerEvent::Closing(ErrorCode::SLOW_READER)]);
}

#[test]
fn answers_in_any_order() {
    let mut server = opened(ServerLimits::default());
    server.receive(START, &[send_bytes(7), send_bytes(8), send_bytes(9)].concat());
    assert_eq!(events(&mut server).len(), 3);
    for id in [9, 7, 8] {
        server.respond(id, &SendReply { seq: u64::from(id), ..Default::default() });
    }
    let ids: Vec<u32> = frames(&mut server).iter().map(|frame| answer(frame).0).collect();
    assert_eq!(ids, [9, 7, 8]);
    assert_eq!(server.in_flight(), 0);
    server.respond(7, &SendReply::default()); // once too often: a mistake of the caller, not a crash
    assert_eq!(server.in_flight(), 0);
}

#[test]
fn the_client_goes_away() {
    for (payload, code) in [(Bytes::from_static(b"\x08\x07"), 7), (Bytes::from_static(b"\xff"), 0)] {
        let mut server = opened(ServerLimits::default());
        server.receive(START, &[&[7, payload.len() as u8], &payload[..], &ping_bytes()].concat());
        assert_eq!(events(&mut server), [ServerEvent::Closing(ErrorCode(code))]);
        assert!(server.output().is_empty());
        assert_over(&mut server);
    }
}

#[test]
fn the_server_goes_away() {
    use prost::Message;
    let mut server = opened(ServerLimits::default());
    server.receive(START, &send_bytes(2));
    server.go_away(ErrorCode::SERVER_DRAINING, 500);
    let frame = frames(&mut server).remove(0);
    let goaway = GoAway::decode(frame.body).unwrap();
    assert_eq!((goaway.code, goaway.retry_after_ms), (ErrorCode::SERVER_DRAINING.0, 500));
    let events = events(&mut server);
    assert_eq!(events.last(), Some(&ServerEvent::Closing(ErrorCode::SERVER_DRAINING)));
    assert_over(&mut server);
}

#[test]
fn clocks_at_their_end_and_running_backwards() {
    let mut late =
        protocol::connection::ServerConnection::new(std::sync::Arc::new(ServerLimits::default()), u64::MAX - 1);
    late.receive(u64::MAX, &hello_bytes(&hello()));
    late.poll();
    late.welcome(1, u64::MAX);
    late.receive(u64::MAX, &login_bytes(1));
    late.poll();
    late.logged_in(u64::MAX);
    late.respond(1, &LoginReply::default());
    late.receive(u64::MAX, &ping_bytes());
    assert_eq!(late.timeout(), Some(u64::MAX));
    let mut backwards = opened(ServerLimits::default());
    backwards.receive(3, &ping_bytes());
    backwards.handle_timeout(0);
    assert_eq!(backwards.timeout(), Some(120_003));
    assert!(backwards.output().is_empty());
}

#[test]
fn limits_that_make_no_sense_do_not_panic() {
    let limits = ServerLimits {
        hello_deadline_ms: u64::MAX,
        login_deadline_ms: u64::MAX,
        heartbeat_ms_min: 9_000,
        heartbeat_ms_max: 1_000,
        login_failures_max: 0,
        ..ServerLimits::default()
    };
    let mut server = server(limits);
    server.receive(START, &hello_bytes(&Hello { heartbeat_ms: 5_000, ..hello() }));
    server.poll();
    server.welcome(1, 0);
    assert_eq!(server.timeout(), Some(u64::MAX));
    server.receive(START, &login_bytes(1));
    server.poll();
    server.refuse(1, ErrorCode::UNAVAILABLE, "later", 0);
    assert!(server.wants_input());
}
