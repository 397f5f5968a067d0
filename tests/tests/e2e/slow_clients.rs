//! Clients that are too slow, silent, or do not read.
//!
//! Goal: each costs bounded memory for a bounded time, is told why where it can be told, and is counted;
//! what it missed is in its log. Mechanics: settings with short deadlines and small buffers, clients that
//! trickle bytes or leave their socket unread. Without it a few idle sockets could fill the gateway.

use std::time::{Duration, Instant};

use protocol::{ErrorCode, message::Hello};
use tests::{Client, Gateway, MessageExt, Options, PATIENCE, text_body, unique_id};

fn wait_closed(gateway: &Gateway, code: ErrorCode) {
    gateway.wait_metric("gateway_closed_total", &[("code", &code.0.to_string())], 1.0);
}

#[test]
fn a_hello_that_comes_byte_by_byte_is_closed_at_the_deadline() {
    let gateway = Gateway::builder().flag("client-hello-deadline-ms", 1500).start();
    let mut wire = gateway.wire();
    wire.write(&[0x00, 0x80, 0x04]).expect("it takes the head of a frame of 512 bytes");
    let mut answer = None;
    for byte in 0..512u32 {
        let _ = wire.write(&[byte as u8]); // fails once the gateway has closed
        answer = wire.read_until(Instant::now() + Duration::from_millis(20));
        if answer.is_some() {
            break;
        }
    }
    let answer = answer.expect("closed before the hello was whole");
    // Head, length, and the first field of a go-away: the code.
    assert_eq!((answer[0], answer[2]), (0x07, 0x08), "{answer:?}");
    wait_closed(&gateway, ErrorCode::HELLO_DEADLINE);
}

#[test]
fn who_says_nothing_is_closed_at_the_deadline_for_the_hello() {
    let gateway = Gateway::builder().flag("client-hello-deadline-ms", 1000).start();
    assert_eq!(gateway.wire().go_away(), ErrorCode::HELLO_DEADLINE);
    wait_closed(&gateway, ErrorCode::HELLO_DEADLINE);
}

#[test]
fn who_never_logs_in_is_closed_at_the_deadline_for_the_login() {
    let settings = Gateway::builder().flag("client-hello-deadline-ms", 1500).flag("client-login-deadline-ms", 1500);
    let gateway = settings.start();
    let mut wire = gateway.wire();
    wire.hello();
    assert_eq!(wire.go_away(), ErrorCode::LOGIN_DEADLINE);
    wait_closed(&gateway, ErrorCode::LOGIN_DEADLINE);
}

#[test]
fn a_client_without_heartbeats_is_given_up() {
    let gateway = Gateway::builder().flag("client-heartbeat-ms-min", 200).start();
    let mut anna = gateway.connect_with("anna", Options { heartbeat_ms: 200, ..Options::default() });
    anna.log_in_and_sync();
    assert_eq!(anna.closed().map(|(code, _)| code), Some(ErrorCode::HEARTBEAT_LOST));
    wait_closed(&gateway, ErrorCode::HEARTBEAT_LOST);
    // A byte now and then is no sign of life: an unfinished frame has two intervals to arrive in.
    let mut ben = gateway.connect_with("ben", Options { heartbeat_ms: 200, ..Options::default() });
    ben.log_in_and_sync();
    let start = Instant::now();
    ben.wire().write(&[0x02, 0x80, 0x20]).expect("it takes the head of a frame of 4096 bytes");
    while ben.wire().read_until(Instant::now() + Duration::from_millis(20)).is_none() {
        assert!(start.elapsed() < PATIENCE, "a byte now and then keeps the connection alive");
        let _ = ben.wire().write(&[1]);
    }
}

/// A device of `user` whose socket holds little, so that the gateway soon notices that it is not read.
fn small_buffer(gateway: &Gateway, user: &str) -> Client {
    let options = Options { receive_buffer_bytes: Some(4096), ..Options::default() };
    let mut client = gateway.connect_with(user, options);
    client.log_in_and_sync();
    client
}

/// Has `anna` send 12 KB texts until `enough`, a metric, has gone up. Returns how many.
fn send_until(gateway: &Gateway, anna: &mut Client, enough: impl Fn(&Gateway) -> bool) -> u64 {
    let text = "x".repeat(12_000);
    for count in 1..=4000 {
        let body = text_body(&format!("{count} {text}"));
        assert_eq!(anna.send_as("ben", &unique_id(), body).expect("sent").seq, count);
        if count % 10 == 0 && enough(gateway) {
            return count;
        }
    }
    panic!("4,000 messages and the gateway still pushes");
}

/// Takes messages up to the one with this text, as an attentive client does: pushes, and the log where
/// it was too slow for a moment.
fn seqs_until(client: &mut Client, last: &str) -> Vec<u64> {
    let mut seqs = Vec::new();
    loop {
        let push = client.next_push().expect("the connection is kept");
        let messages = push.map_or_else(|| client.catch_up(), |message| vec![message]);
        seqs.extend(messages.iter().map(|message| message.seq));
        if messages.last().is_some_and(|message| message.text() == last) {
            return seqs;
        }
    }
}

#[test]
fn msg_04_a_client_that_stops_reading_loses_pushes_is_told_and_catches_up() {
    let gateway = Gateway::builder().flag("client-push-buffer-bytes-max", 65536).start();
    let mut ben = small_buffer(&gateway, "ben");
    let mut witness = gateway.login("ben");
    let mut anna = gateway.login("anna");
    let dropped =
        |gateway: &Gateway| gateway.metrics().sum("gateway_events_dropped_total", &[("reason", "slow_reader")]) >= 10.0;
    // Another device of the same user reads, and is not held up by the one that doesn't.
    let sent = std::thread::scope(|scope| {
        let reading = scope.spawn(|| seqs_until(&mut witness, "end"));
        send_until(&gateway, &mut anna, dropped);
        let last = anna.send("ben", "end").seq;
        assert_eq!(reading.join().expect("no panic"), (1..=last).collect::<Vec<_>>());
        last
    });

    let mut seen = Vec::new();
    while let Some(message) = ben.next_push().expect("the connection is kept") {
        seen.push(message.seq);
    }
    assert!((seen.len() as u64) < sent);
    seen.extend(ben.catch_up().iter().map(|message| message.seq));
    assert_eq!(seen, (1..=sent).collect::<Vec<_>>(), "every message once, in order");
    assert_eq!(anna.send("ben", "live again").seq, sent + 1);
    assert_eq!(ben.next_message().text(), "live again");
}

#[test]
fn a_client_that_takes_nothing_at_all_is_closed() {
    let gateway = Gateway::builder().flag("client-write-stall-ms-max", 500).start();
    let mut ben = small_buffer(&gateway, "ben");
    let mut anna = gateway.login("anna");
    let closed = |gateway: &Gateway| {
        gateway.metrics().sum("gateway_closed_total", &[("code", &ErrorCode::SLOW_READER.0.to_string())]) >= 1.0
    };
    let sent = send_until(&gateway, &mut anna, closed);
    ben.closed();
    let mut ben = gateway.connect("ben");
    let all: Vec<u64> = ben.log_in_and_sync().iter().map(|message| message.seq).collect();
    assert_eq!(all, (1..=sent).collect::<Vec<_>>());
    tests::eventually("the session is gone", || gateway.metrics().sum("gateway_sessions", &[]) == 2.0);
}

#[test]
fn pages_that_are_not_read_are_bounded() {
    let gateway = Gateway::builder().flag("client-push-buffer-bytes-max", 65536).start();
    let mut anna = gateway.login("anna");
    let text = "x".repeat(12_000);
    for _ in 0..20 {
        anna.send("anna", &text);
    }
    let mut greedy = small_buffer(&gateway, "anna");
    let history = protocol::message::History { user: "anna".into(), ..Default::default() };
    let requests: Vec<u32> = (0..200).map(|_| greedy.request(protocol::command::Command::History, &history)).collect();
    let mut refused = 0;
    for request in requests {
        match greedy.answer::<protocol::message::HistoryReply>(request) {
            Ok(page) => assert!(!page.messages.is_empty()),
            Err(refusal) => {
                assert_eq!(refusal.code(), Some(ErrorCode::BUSY));
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "200 pages of 48 KB were read for a client that takes none");
    greedy.ping();
}

#[test]
fn heartbeats_are_agreed_on_within_the_limits() {
    let gateway = Gateway::start();
    for (wish, expected) in [(0, 60_000), (1, 5_000), (20_000, 20_000), (u32::MAX, 300_000)] {
        let mut wire = gateway.wire();
        wire.hello_with(&Hello { version_min: 1, version_max: 1, heartbeat_ms: wish, ..Hello::default() });
        let welcome = wire.frame().expect("a welcome");
        let welcome = <protocol::message::Welcome as prost::Message>::decode(welcome.body).expect("a welcome");
        assert_eq!(welcome.heartbeat_ms, expected, "wish {wish}");
    }
}
