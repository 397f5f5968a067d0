//! SIGTERM: an orderly end.
//!
//! Goal: a restart by the operator loses nothing and is told to everybody: requests in flight are answered,
//! clients get a go-away with a hint when to come back, new ones are refused, and the process ends with 0
//! in time even if a client does not cooperate. Mechanics: the signal at different moments. Without it each
//! deployment would look like a crash to its users.

use std::{net::TcpStream, process::ExitStatus};

use protocol::{ErrorCode, message::SendReply};
use rustix::process::Signal;
use tests::{Gateway, Options, Refusal, Wire, eventually, text_body, unique_id};

fn assert_clean(status: ExitStatus, output: &str) {
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(output.contains("draining") && output.contains("drained"), "{output}");
}

#[test]
fn clients_get_a_go_away_with_a_hint_and_the_process_ends_with_0() {
    let gateway = Gateway::start();
    let address = gateway.address();
    let mut clients = [gateway.login("anna"), gateway.login("ben"), gateway.connect("not logged in")];
    let mut handshaking = TcpStream::connect(address).expect("a connection");
    gateway.process().signal(Signal::TERM);
    for client in &mut clients {
        let (code, retry_after_ms) = client.closed().expect("a go-away");
        assert_eq!(code, ErrorCode::SERVER_DRAINING);
        assert!(retry_after_ms > 0);
    }
    std::io::Read::read_to_end(&mut handshaking, &mut Vec::new()).ok();
    drop(clients);
    let (status, output, _) = gateway.stop();
    assert_clean(status, &output);
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn while_it_drains_it_is_alive_but_not_ready_and_takes_no_new_connections() {
    let gateway = Gateway::start();
    // Clients that neither read nor close: the gateway waits a moment for their goodbye.
    let _silent: Vec<Wire> = (0..8).map(|_| gateway.wire()).collect();
    assert_eq!(gateway.get("/readyz").map(|(status, _)| status), Some(200));
    gateway.process().signal(Signal::TERM);
    eventually("not ready", || gateway.get("/readyz").is_some_and(|(status, _)| status == 503));
    assert_eq!(gateway.get("/healthz").map(|(status, _)| status), Some(200));
    eventually("no new connections", || gateway.try_connect("late", Options::default()).is_err());
    let (status, output, _) = gateway.stop();
    assert_clean(status, &output);
}

#[test]
fn msg_04_requests_in_flight_are_answered_and_what_was_acknowledged_is_there_afterwards() {
    let mut gateway = Gateway::start();
    let mut acked = Vec::new();
    for round in 0..4 {
        let mut anna = gateway.login("anna");
        let requests: Vec<u32> =
            (0..100).map(|_| anna.start_send("anna", &unique_id(), text_body("in flight"))).collect();
        if round % 2 == 0 {
            acked.push(anna.answer::<SendReply>(requests[0]).expect("sent").seq);
        }
        gateway.process().signal(Signal::TERM);
        let mut open = true;
        for &request in requests.iter().skip(usize::from(round % 2 == 0)) {
            match anna.answer::<SendReply>(request) {
                Ok(reply) => acked.push(reply.seq),
                Err(Refusal::Closed(Some((ErrorCode::SERVER_DRAINING, 1..)))) => open = false,
                Err(other) => panic!("{other:?}"),
            }
        }
        if open {
            assert_eq!(anna.closed().map(|(code, _)| code), Some(ErrorCode::SERVER_DRAINING));
        }
        drop(anna);
        let (status, output, builder) = gateway.stop();
        assert_clean(status, &output);
        gateway = builder.start();
        let stored: Vec<u64> = gateway.login("anna").conversation("anna").iter().map(|message| message.seq).collect();
        assert_eq!(stored, (1..=stored.len() as u64).collect::<Vec<_>>());
        acked.sort_unstable();
        assert!(acked.iter().all(|seq| stored.contains(seq)), "acknowledged: {acked:?}, stored: {}", stored.len());
        assert_eq!(acked.len(), stored.len(), "what was begun before the drain is answered");
    }
}

#[test]
fn a_client_that_does_not_read_holds_nothing_up() {
    let gateway = Gateway::builder().flag("drain-ms-max", 500).start();
    let options = Options { receive_buffer_bytes: Some(4096), ..Options::default() };
    let mut ben = gateway.connect_with("ben", options);
    ben.log_in_and_sync();
    let mut anna = gateway.login("anna");
    let text = "x".repeat(12_000);
    let dropped = || gateway.metrics().sum("gateway_events_dropped_total", &[]) > 0.0;
    while !dropped() {
        for _ in 0..20 {
            anna.send("ben", &text);
        }
    }
    let (status, output, _) = gateway.stop();
    assert_clean(status, &output);
}

#[test]
fn ctrl_c_drains_too_and_an_idle_gateway_ends_at_once() {
    let gateway = Gateway::start();
    gateway.process().signal(Signal::INT);
    let (status, output, _) = gateway.stop();
    assert_clean(status, &output);
}
