//! The server's side of a connection, fed any bytes in any pieces by a caller that keeps the rules.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use protocol::{
    ErrorCode,
    command::Command,
    connection::{OUTPUT_BYTES_HIGH, ServerConnection, ServerEvent, ServerLimits},
    frame::Decoder,
    message::{LoginReply, SendReply},
};

const FRAME_BYTES_MAX: usize = 2_000;

/// Each piece of input: how long it is, what the caller does around it, and the time.
type Piece = (u8, u8, u32);

fuzz_target!(|input: (bool, Vec<Piece>, &[u8])| {
    let (prelude, pieces, mut rest) = input;
    let limits = ServerLimits { frame_bytes_max: FRAME_BYTES_MAX, in_flight_max: 8, ..ServerLimits::default() };
    let mut server = ServerConnection::new(Arc::new(limits), 0);
    if prelude {
        // A hello with deflate and an empty login, so that the fuzzer need not find them.
        server.receive(0, b"\x00\x0aIMWP\x08\x01\x10\x01\x28\x01");
        serve(&mut server, 0, 0);
        server.receive(0, b"\x02\x02\x01\x01");
        serve(&mut server, 0, 0);
    }
    for (len, choice, now) in pieces {
        let (piece, behind) = rest.split_at(usize::from(len).min(rest.len()));
        if server.wants_input() {
            server.receive(u64::from(now), piece);
            rest = behind;
        }
        serve(&mut server, choice, u64::from(now));
        assert!(server.buffered_bytes() <= FRAME_BYTES_MAX + 6 + 8 * 1024 + 255);
        assert!(server.output().len() <= OUTPUT_BYTES_HIGH + 1_000);
        if choice & 1 == 0 {
            written(&mut server);
        }
    }
    server.receive_end();
    serve(&mut server, 0, 0);
    written(&mut server);
});

/// Handles all events, as `choice` says.
fn serve(server: &mut ServerConnection, choice: u8, now: u64) {
    if choice & 0x80 != 0 {
        server.handle_timeout(now);
    }
    while let Some(event) = server.poll() {
        match event {
            ServerEvent::Hello { version, .. } => server.welcome(version, now),
            ServerEvent::Request { id, command: Command::Login, .. } if choice & 2 == 0 => {
                server.logged_in(now);
                server.respond(id, &LoginReply::default());
            }
            ServerEvent::Request { id, command: Command::Login, .. } => {
                server.login_failed();
                server.refuse(id, ErrorCode::USERSIG_EXPIRED, "expired", 0);
            }
            ServerEvent::Request { id, payload, .. } => {
                assert!(payload.len() <= FRAME_BYTES_MAX);
                if choice & 4 == 0 {
                    server.respond(id, &SendReply::default());
                }
            }
            ServerEvent::Ping => server.pong(None, choice & 8 == 0),
            ServerEvent::Closing(_) => assert!(!server.wants_input() && server.timeout().is_none()),
        }
    }
}

/// What is written is whole frames.
fn written(server: &mut ServerConnection) {
    let mut decoder = Decoder::default();
    decoder.feed(&server.output().split());
    while decoder.next_frame(usize::MAX).expect("a frame").is_some() {}
    decoder.finish().expect("whole frames");
}
