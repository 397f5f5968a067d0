//! Connections that come and go in every way.
//!
//! Goal: whatever way a connection ends, nothing of it stays: no descriptor, no session, no count.
//! Mechanics: many short connections of each kind, then the gauges are compared with those before. Without
//! it a gateway that runs for months would end for want of descriptors, or push to devices that are gone.

use std::{
    io::Write,
    net::{Shutdown, TcpStream},
};

use protocol::{
    ErrorCode,
    frame::{Kind, Prefix},
    message::GoAway,
};
use socket2::SockRef;
use tests::{Gateway, eventually};

/// Ends a connection with a reset instead of an orderly end.
fn reset(socket: &TcpStream) {
    SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO)).expect("a socket");
}

#[test]
fn connections_leave_nothing_behind() {
    let gateway = Gateway::start();
    gateway.login("anna");
    let open_files = || gateway.metrics().sum("process_open_fds", &[]);
    eventually("quiet", || gateway.metrics().sum("gateway_connections", &[]) == 0.0);
    let before = open_files();
    let connect = || TcpStream::connect(gateway.address()).expect("a connection");
    let ways: [(&str, &dyn Fn()); 8] = [
        ("closed at once", &|| drop(connect())),
        ("reset at once", &|| reset(&connect())),
        ("not TLS", &|| connect().write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it takes bytes")),
        ("half a handshake", &|| {
            let mut socket = connect();
            socket.write_all(&[0x16, 3, 1, 2, 0, 1]).expect("it takes bytes");
            socket.shutdown(Shutdown::Write).expect("open");
        }),
        ("reset after the handshake", &|| reset(gateway.wire().socket())),
        ("bytes that are no frame", &|| gateway.wire().write(b"nonsense").expect("it takes bytes")),
        ("logged in and closed", &|| drop(gateway.login("anna"))),
        ("reset with answers on the way", &|| {
            let mut anna = gateway.login("anna");
            for _ in 0..20 {
                anna.start_send("anna", &tests::unique_id(), tests::text_body("hello"));
            }
            reset(anna.wire().socket());
        }),
    ];
    for (what, way) in ways {
        (0..30).for_each(|_| way());
        eventually(what, || gateway.metrics().sum("gateway_connections", &[]) == 0.0);
    }
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("gateway_sessions", &[]), 0.0);
    assert_eq!(metrics.sum("gateway_panics_total", &[]), 0.0);
    // The store may hold a file or two more; each way left 30 connections.
    assert!(open_files() < before + 20.0, "{before} before, {} now", open_files());
    let numbers: Vec<u64> = gateway.login("anna").conversation("anna").iter().map(|message| message.seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_goodbye_of_the_client_is_counted_by_a_known_code() {
    let gateway = Gateway::start();
    for (code, label) in [(0, "0"), (ErrorCode::SERVER_DRAINING.0, "200011"), (4_000_000_000, "unknown")] {
        let mut wire = gateway.wire();
        wire.hello();
        wire.send(Kind::GoAway, Prefix::None, &GoAway { code, ..GoAway::default() });
        wire.closed();
        gateway.wait_metric("gateway_closed_total", &[("code", label)], 1.0);
    }
}

#[test]
fn many_devices_of_one_user_come_and_go_and_each_gets_every_message() {
    let gateway = Gateway::builder().flag("client-sessions-per-user-max", 20).start();
    let mut anna = gateway.login("anna");
    let mut devices: Vec<_> = (0..20).map(|_| gateway.login("ben")).collect();
    let one_more = gateway.connect("ben").try_login().expect_err("a session over the limit");
    assert_eq!(one_more.code(), Some(ErrorCode::TOO_MANY_SESSIONS));
    for left in [20, 15, 10, 5] {
        devices.truncate(left);
        let seq = anna.send("ben", "to all").seq;
        for device in &mut devices {
            assert_eq!(device.next_message().seq, seq);
        }
    }
    eventually("those that left are gone", || gateway.metrics().sum("gateway_sessions", &[]) == 6.0);
    eventually("there is room again", || gateway.connect("ben").try_login().is_ok());
}
