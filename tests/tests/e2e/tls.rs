//! TLS as clients and strangers meet it.
//!
//! Goal: TLS 1.3 and 1.2 with our ALPN name work and are resumed by tickets, anything else is closed,
//! counted by kind, and disturbs nobody. Mechanics: rustls as the client, and bare TCP. Without it a
//! stranger could hold connections for free, a mobile client could pay for a full handshake each time,
//! or a renewed certificate could need a restart.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

use rustix::process::Signal;
use rustls::{HandshakeKind, ProtocolVersion, SupportedProtocolVersion, version};
use tests::{Gateway, MessageExt, Options, PATIENCE, Wire, eventually, tls_config_of};

use super::production::make_certificate;

const TLS_FAILURES: &str = "gateway_tls_failures_total";

fn certificate(gateway: &Gateway) -> std::path::PathBuf {
    gateway.data().join("dev/cert.pem")
}

/// Reads to the end of the stream; fails the test if that does not come in time.
fn read_to_end(mut socket: &TcpStream) -> Vec<u8> {
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut bytes = Vec::new();
    match socket.read_to_end(&mut bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the gateway does not close"),
        _ => bytes, // the end or a reset
    }
}

#[test]
fn both_versions_work() {
    let gateway = Gateway::start();
    let versions: [(&'static SupportedProtocolVersion, _); 2] =
        [(&version::TLS13, ProtocolVersion::TLSv1_3), (&version::TLS12, ProtocolVersion::TLSv1_2)];
    for (offered, expected) in versions {
        let config = tls_config_of(&certificate(&gateway), &[offered]);
        let mut wire = Wire::open(gateway.address(), Arc::new(config)).expect("a handshake");
        assert_eq!(wire.tls().protocol_version(), Some(expected));
        assert_eq!(wire.tls().alpn_protocol(), Some(protocol::ALPN));
        assert_eq!(wire.hello().version, 1);
    }
}

#[test]
fn sessions_are_resumed_by_ticket_in_both_versions() {
    let gateway = Gateway::start();
    for offered in [&version::TLS13, &version::TLS12] {
        let config = Arc::new(tls_config_of(&certificate(&gateway), &[offered]));
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut wire = Wire::open(gateway.address(), config.clone()).expect("a handshake");
            wire.hello(); // the ticket comes with the first data, or before
            kinds.push(wire.tls().handshake_kind());
        }
        assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)], "{offered:?}");
    }
    let metrics = gateway.metrics();
    for kind in ["full", "resumed"] {
        assert_eq!(metrics.sum("gateway_handshakes_total", &[("kind", kind)]), 2.0, "{kind}");
    }
}

#[test]
fn the_protocol_must_be_named() {
    let gateway = Gateway::start();
    for (offered, count) in [(vec![b"h2".to_vec(), b"http/1.1".to_vec()], 1.0), (vec![b"im/0".to_vec()], 2.0)] {
        let mut config = tls_config_of(&certificate(&gateway), rustls::ALL_VERSIONS);
        config.alpn_protocols = offered;
        let refused = Wire::open(gateway.address(), Arc::new(config)).err().expect("a refused handshake");
        assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
        gateway.wait_metric(TLS_FAILURES, &[("kind", "alpn")], count);
    }
    let mut config = tls_config_of(&certificate(&gateway), rustls::ALL_VERSIONS);
    config.alpn_protocols = Vec::new();
    // A client may be done with its side of the handshake when it is refused.
    if let Ok(mut silent) = Wire::open(gateway.address(), Arc::new(config)) {
        silent.closed();
    }
    gateway.wait_metric(TLS_FAILURES, &[("kind", "alpn")], 3.0);
    gateway.login("anna").ping();
}

#[test]
fn what_is_not_tls_is_closed_at_once_and_counted() {
    let gateway = Gateway::start();
    let cases = [&b"GET / HTTP/1.1\r\nhost: im.example.org\r\n\r\n"[..], b"\0\0\0\0\0\0\0\0\0\0", &[0xff; 4096]];
    for (index, bytes) in cases.into_iter().enumerate() {
        let mut socket = TcpStream::connect(gateway.address()).expect("a connection");
        socket.write_all(bytes).expect("it takes bytes");
        let answer = read_to_end(&socket);
        assert!(answer.len() < 64, "no more than an alert: {answer:?}");
        gateway.wait_metric(TLS_FAILURES, &[("kind", "not_tls")], index as f64 + 1.0);
    }
    eventually("all closed", || gateway.metrics().sum("gateway_connections", &[]) == 0.0);
    gateway.login("anna").ping();
}

#[test]
fn half_a_handshake_is_closed_at_the_deadline_and_counted() {
    let gateway = Gateway::builder().flag("client-hello-deadline-ms", 1000).start();
    let nothing = TcpStream::connect(gateway.address()).expect("a connection");
    let mut half = TcpStream::connect(gateway.address()).expect("a connection");
    // The start of a record that announces a client hello of 512 bytes.
    half.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).expect("it takes bytes");
    read_to_end(&nothing);
    read_to_end(&half);
    gateway.wait_metric(TLS_FAILURES, &[("kind", "deadline")], 2.0);

    let leaves = TcpStream::connect(gateway.address()).expect("a connection");
    drop(leaves);
    gateway.wait_metric(TLS_FAILURES, &[("kind", "end_of_stream")], 1.0);
}

#[test]
fn noise_inside_tls_closes_that_connection_alone() {
    let gateway = Gateway::start();
    let mut anna = gateway.login("anna");
    let victim = gateway.wire();
    // Behind TLS' back: a record of application data that nobody encrypted.
    let mut socket = victim.socket();
    socket.write_all(&[&[0x17, 3, 3, 0, 32][..], &[7; 32]].concat()).expect("it takes bytes");
    read_to_end(socket);
    gateway.wait_metric(TLS_FAILURES, &[("kind", "decrypt")], 1.0);
    anna.ping();
}

#[test]
fn sighup_brings_a_renewed_certificate_to_new_connections_while_old_ones_go_on() {
    let builder = Gateway::builder();
    let file = |name: &str| builder.folder().join(name);
    let (cert, key, app) = (file("cert.pem"), file("key.pem"), file("app.json"));
    make_certificate(&cert, &key, "the old one");
    super::production::make_app_file(&app, 7);
    let builder =
        builder.flag("tls-cert", cert.display()).flag("tls-key", key.display()).flag("app-file", app.display());
    let gateway = builder.start();
    let mut ben = gateway.login("ben");
    let presented = || gateway.wire().tls().peer_certificates().expect("a certificate")[0].to_vec();
    let old_config = gateway.tls();
    let old = presented();

    make_certificate(&cert, &key, "the new one");
    gateway.process().signal(Signal::HUP);
    eventually("the new certificate", || gateway.try_connect("anna", Options::default()).is_ok());
    assert_ne!(presented(), old);
    assert!(Wire::open(gateway.address(), old_config).is_err(), "who trusts the old one alone is warned");
    let new_config = gateway.tls();
    gateway.login("anna").send("ben", "still there?");
    assert_eq!(ben.next_message().text(), "still there?");

    // A broken file changes nothing.
    std::fs::write(&cert, "nothing").expect("written");
    gateway.process().signal(Signal::HUP);
    eventually("a word about it", || gateway.process().output().contains("certificate not reloaded"));
    Wire::open(gateway.address(), new_config).expect("the certificate before goes on being used");
    ben.ping();
}
