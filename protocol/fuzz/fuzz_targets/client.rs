//! The client's side of a connection, fed any bytes in any pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{
    command::Command,
    connection::{ClientConfig, ClientConnection, ClientEvent},
    message::Sync,
};

/// Each piece of input: how long it is, what the caller does behind it, and the time.
type Piece = (u8, u8, u32);

fuzz_target!(|input: (bool, Vec<Piece>, &[u8])| {
    let (prelude, pieces, mut rest) = input;
    let config = ClientConfig { heartbeat_ms: 0, frame_bytes_max: 0, deflate: true, client: "fuzz".into() };
    let mut client = ClientConnection::new(config, 0);
    if prelude {
        // A welcome with deflate, so that the fuzzer need not find it.
        client.receive(0, b"\x01\x07\x08\x01\x10\xe8\x07\x20\x01");
    }
    let mut closed = false;
    for (len, choice, now) in pieces {
        let (piece, behind) = rest.split_at(usize::from(len).min(rest.len()));
        client.receive(u64::from(now), piece);
        rest = behind;
        while let Some(event) = client.poll() {
            assert!(!closed, "an event after the last one");
            closed = matches!(event, ClientEvent::Closing { .. });
        }
        assert!(client.buffered_bytes() <= 65_536 + 6);
        client.output().clear();
        match choice & 3 {
            0 => client.handle_timeout(u64::from(now)),
            1 => client.ping(u64::from(now)),
            2 => drop(client.request(u64::from(now), Command::Sync, &Sync::default())),
            _ => {}
        }
        assert!(!closed || client.output().is_empty());
        client.timeout();
    }
    client.receive_end();
});
