//! What a client may do on purpose.
//!
//! Goal: one client harms itself alone: it can't end the process, make it hold or do more than the
//! settings allow, or keep others from being served (invariant 5). Mechanics: hostile bytes against the
//! real process, with a bystander who must go on as if nothing were. Each test stands for something that
//! once worked.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use bytes::Bytes;
use protocol::{ErrorCode, command::Command, message::HistoryReply};
use tests::{Gateway, Options, PATIENCE, Refusal, eventually, text_body, unique_id};

/// A sync without content: kind and length of the frame, id 1, command 17.
const EMPTY_SYNC: [u8; 4] = [2, 2, 1, 17];

#[test]
fn thousands_of_refused_requests_in_one_write_do_not_end_the_process() {
    let gateway = Gateway::start();
    let mut bystander = gateway.login("ben");
    for _ in 0..3 {
        let mut attacker = gateway.login("mallory");
        let _ = attacker.wire().write(&EMPTY_SYNC.repeat(4_000));
        bystander.ping();
        drop(attacker);
    }
    assert_eq!(gateway.metrics().sum("gateway_panics_total", &[]), 0.0);
    eventually("only the bystander is left", || gateway.metrics().sum("gateway_sessions", &[]) == 1.0);
    bystander.ping();
}

#[test]
fn a_handshake_in_crumbs_is_not_kept() {
    let gateway = Gateway::start();
    let mut socket = TcpStream::connect(gateway.address()).expect("connects");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    // A ClientHello of 65,535 bytes, a byte a record: six times as much to hold until it is whole.
    let message = [1, 0, 0xff, 0xff].into_iter().chain(std::iter::repeat_n(0, 0xffff));
    let records: Vec<u8> = message.flat_map(|byte| [0x16, 3, 1, 0, 1, byte]).collect();
    let _ = socket.write_all(&records); // it may be closed before the end
    let _ = socket.read_to_end(&mut Vec::new());
    gateway.wait_metric("gateway_tls_failures_total", &[("kind", "too_large")], 1.0);
    gateway.login("ben").ping();
}

#[test]
fn who_ends_its_sending_direction_still_gets_its_answers() {
    let gateway = Gateway::start();
    gateway.login("ben");
    let mut anna = gateway.login("anna");
    let requests: Vec<u32> = (0..20).map(|_| anna.start_send("ben", &unique_id(), text_body("last words"))).collect();
    anna.wire().end();
    for (request, seq) in requests.into_iter().zip(1..) {
        let reply = anna.answer::<protocol::message::SendReply>(request).expect("an answer");
        assert_eq!(reply.seq, seq);
    }
    assert_eq!(anna.closed(), None);
}

#[test]
fn an_account_has_no_more_sessions_than_it_may() {
    let gateway = Gateway::builder().flag("client-sessions-per-user-max", 2).start();
    let _first = gateway.login("anna");
    let second = gateway.login("anna");
    let third = gateway.connect("anna").try_login();
    assert_eq!(third.err().and_then(|refusal| refusal.code()), Some(ErrorCode::TOO_MANY_SESSIONS));
    gateway.login("ben").ping();
    drop(second);
    eventually("there is room again", || gateway.connect("anna").try_login().is_ok());
}

#[test]
fn who_asks_for_huge_pages_gets_usual_ones() {
    let gateway = Gateway::start();
    gateway.login("ben");
    let greedy = Options { frame_bytes_max: u32::MAX, ..Options::default() };
    let mut anna = gateway.connect_with("anna", greedy);
    anna.log_in_and_sync();
    for _ in 0..20 {
        anna.send_as("ben", &unique_id(), text_body(&"x".repeat(10_000))).expect("sent");
    }
    let page: HistoryReply = anna.history("ben", 0, true, 1_000).expect("a page");
    let bytes: usize = page.messages.iter().map(|message| message.body.len()).sum();
    assert!(page.more && !page.messages.is_empty() && bytes <= 65_536, "{bytes} bytes");
}

#[test]
fn many_pages_at_once_are_refused_as_busy_and_all_answered() {
    let gateway = Gateway::start();
    gateway.login("ben");
    let mut anna = gateway.login("anna");
    anna.send("ben", "hello");
    let history = protocol::message::History { user: "ben".into(), ..Default::default() };
    let requests: Vec<u32> = (0..200).map(|_| anna.request(Command::History, &history)).collect();
    let answers: Vec<_> = requests.into_iter().map(|request| anna.answer::<HistoryReply>(request)).collect();
    assert!(answers.iter().any(Result::is_ok));
    for refusal in answers.into_iter().filter_map(Result::err) {
        assert!(matches!(refusal, Refusal::Failed { code: ErrorCode::BUSY, retry_after_ms: 1.. }), "{refusal:?}");
    }
}

#[test]
fn the_same_id_in_a_flood_is_stored_once() {
    let gateway = Gateway::start();
    gateway.login("ben");
    let (mut anna, id) = (gateway.login("anna"), unique_id());
    let body: Bytes = text_body("once");
    let requests: Vec<u32> = (0..200).map(|_| anna.start_send("ben", &id, body.clone())).collect();
    for request in requests {
        assert_eq!(anna.answer::<protocol::message::SendReply>(request).expect("an answer").seq, 1);
    }
    assert_eq!(anna.conversation("ben").len(), 1);
}
