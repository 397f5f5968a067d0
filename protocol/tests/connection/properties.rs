//! Whatever bytes come, in whatever pieces, at whatever time: no panic, and an end to what is held.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message;
use protocol::{
    ErrorCode,
    command::Command,
    connection::{ClientConnection, ClientEvent, OUTPUT_BYTES_HIGH, ServerConnection, ServerEvent, ServerLimits},
    frame::{self, Decoder, Kind, Prefix},
    message::{EventPush, Failure, GoAway, Hello, LoginReply, Pong, SendReply, Text, Welcome},
};

use crate::support::*;

/// Frames that are right, nearly right, or no frames at all, one after another.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(any::<u8>(), 0..40);
    let framed = (0u8..16, any::<bool>(), body).prop_map(|(kind, compressed, body)| {
        let head = kind | if compressed { 0x10 } else { 0 };
        [&[head, body.len() as u8], &body[..]].concat()
    });
    let part = prop_oneof![
        2 => Just(hello_bytes(&hello()).to_vec()),
        2 => (0u32..5).prop_map(|id| login_bytes(id).to_vec()),
        3 => (0u32..9, 14u32..20).prop_map(|(id, code)| bytes_of(Kind::Request, Prefix::Pair(id, code), &()).to_vec()),
        2 => Just(ping_bytes().to_vec()),
        2 => deflated(),
        2 => (any::<u32>(), any::<bool>()).prop_map(|(beat, deflate)| welcome_bytes(beat, deflate).to_vec()),
        2 => (any::<u32>(), any::<u32>()).prop_map(|(id, code)| bytes_of(Kind::Response, Prefix::Pair(id, code), &()).to_vec()),
        3 => framed,
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

/// A compressed request or push, perhaps with one byte changed.
fn deflated() -> impl Strategy<Value = Vec<u8>> {
    (any::<bool>(), 1_100usize..3_000, prop::option::of((any::<prop::sample::Index>(), any::<u8>()))).prop_map(
        |(request, bytes, change)| {
            let mut out = BytesMut::new();
            let text = Text { text: "ab".repeat(bytes) };
            match request {
                true => frame::put(&mut out, Kind::Request, Prefix::Pair(3, 16), &text, true),
                false => frame::put(&mut out, Kind::Push, Prefix::Topic(1), &text, true),
            }
            if let Some((index, byte)) = change {
                let index = index.index(out.len());
                out[index] = byte;
            }
            out.to_vec()
        },
    )
}

fn limits() -> ServerLimits {
    ServerLimits {
        hello_bytes_max: 100,
        login_bytes_max: 300,
        frame_bytes_max: 2_000,
        in_flight_max: 4,
        ..Default::default()
    }
}

proptest! {
    #![proptest_config(seeded(1_000))]

    #[test]
    fn a_server_survives_anything(
        bytes in stream(),
        pieces in prop::collection::vec((1usize..200, any::<u64>(), 0u8..8), 1..40),
        good_start: bool,
    ) {
        let limits = limits();
        let mut server = match good_start { true => opened(limits.clone()), false => server(limits.clone()) };
        let mut rest = &bytes[..];
        let mut closed = 0;
        for (len, now, choice) in pieces.iter().cycle().take(bytes.len().max(pieces.len())) {
            if server.wants_input() {
                let (piece, behind) = rest.split_at((*len).min(rest.len()));
                server.receive(*now, piece);
                rest = behind;
            }
            while let Some(event) = server.poll() {
                prop_assert_eq!(closed, 0, "{:?} after closing", event);
                match event {
                    ServerEvent::Hello { version, client } => {
                        prop_assert!(client.len() <= 64);
                        server.welcome(version, *now);
                    }
                    ServerEvent::Request { id, command: Command::Login, .. } => match choice {
                        0..=4 => { server.logged_in(*now); server.respond(id, &LoginReply::default()); }
                        5 => { server.login_failed(); server.refuse(id, ErrorCode::USERSIG_EMPTY, "no", 0); }
                        _ => server.refuse(id, ErrorCode::BUSY, "busy", 1),
                    },
                    ServerEvent::Request { id, payload, .. } => {
                        prop_assert!(payload.len() <= limits.frame_bytes_max);
                        if *choice < 4 { server.respond(id, &SendReply::default()); }
                    }
                    ServerEvent::Ping => server.pong(None, false),
                    ServerEvent::Closing(_) => closed += 1,
                }
            }
            prop_assert!(server.in_flight() <= limits.in_flight_max);
            prop_assert!(server.buffered_bytes() <= limits.frame_bytes_max + 6 + 200);
            prop_assert!(server.output().len() <= OUTPUT_BYTES_HIGH + 1_000);
            if *choice == 1 { server.handle_timeout(*now); }
            if *choice > 5 {
                cut(&server.output().split()); // what it says is always whole frames
            }
        }
        server.receive_end();
        server.handle_timeout(u64::MAX);
        cut(&server.output().split());
    }

    #[test]
    fn a_client_survives_anything(
        bytes in stream(),
        pieces in prop::collection::vec((1usize..200, any::<u64>(), 0u8..8), 1..40),
        good_start: bool,
    ) {
        let mut client = ClientConnection::new(client_config(), START);
        if good_start {
            client.receive(START, &welcome_bytes(1_000, true));
        }
        let mut rest = &bytes[..];
        let mut closed = 0;
        for (len, now, choice) in pieces.iter().cycle().take(bytes.len().max(pieces.len())) {
            let (piece, behind) = rest.split_at((*len).min(rest.len()));
            client.receive(*now, piece);
            rest = behind;
            while let Some(event) = client.poll() {
                prop_assert_eq!(closed, 0, "{:?} after closing", event);
                if let ClientEvent::Closing { .. } = event { closed += 1 }
            }
            prop_assert!(client.buffered_bytes() <= 65_536 + 6);
            match choice {
                1 => client.handle_timeout(*now),
                2 => { client.request(*now, Command::Send, &SendReply::default()); }
                3 => client.ping(*now),
                _ => {}
            }
            client.timeout();
            cut(&client.output().split());
        }
        client.receive_end();
        client.handle_timeout(u64::MAX);
    }

    #[test]
    fn a_decoder_holds_one_frame_at_the_most(bytes in stream(), piece in 1usize..300) {
        let mut decoder = Decoder::default();
        'stream: for chunk in bytes.chunks(piece) {
            decoder.feed(chunk);
            loop {
                match decoder.next_frame(100) {
                    Ok(Some(frame)) => prop_assert!(frame.body.len() <= 100),
                    Ok(None) => break,
                    Err(_) => break 'stream,
                }
            }
            prop_assert!(decoder.buffered_bytes() < 100 + 6);
        }
    }

    #[test]
    fn inflating_gives_no_more_than_allowed(bytes: Vec<u8>, limit in 0usize..5_000) {
        if let Ok(plain) = frame::inflated(true, Bytes::from(bytes), limit) {
            prop_assert!(plain.len() <= limit);
        }
    }

    /// What any conforming compressor makes is taken, whatever its length and its blocks.
    #[test]
    fn stored_blocks_of_any_length_inflate(payload in prop::collection::vec(any::<u8>(), 1..3_000), block in 1usize..1_000) {
        let mut deflated = Vec::new();
        for chunk in payload.chunks(block) {
            let len = chunk.len() as u16;
            deflated.push(0);
            deflated.extend_from_slice(&len.to_le_bytes());
            deflated.extend_from_slice(&(!len).to_le_bytes());
            deflated.extend_from_slice(chunk);
        }
        deflated.extend_from_slice(&[3, 0]); // an empty last block, as a flushing compressor leaves it
        let mut sized = Vec::new();
        prost::encoding::encode_varint(payload.len() as u64, &mut sized);
        sized.extend_from_slice(&deflated);
        prop_assert_eq!(frame::inflated(true, sized.into(), 3_000), Ok(Bytes::from(payload)));
    }

    #[test]
    fn no_message_panics(bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        let _ = Hello::decode(bytes.clone());
        let _ = Welcome::decode(bytes.clone());
        let _ = GoAway::decode(bytes.clone());
        let _ = Pong::decode(bytes.clone());
        let _ = Failure::decode(bytes.clone());
        let _ = EventPush::decode(bytes);
    }
}

/// A connection that is idle holds no buffers, however busy it was.
#[test]
fn idle_is_cheap() {
    let mut server: ServerConnection = opened(ServerLimits::default());
    for id in 2..200 {
        server.receive(START, &send_bytes(id));
        while let Some(event) = server.poll() {
            if let ServerEvent::Request { id, .. } = event {
                server.respond(id, &SendReply::default());
            }
        }
        frames(&mut server);
    }
    assert_eq!((server.buffered_bytes(), server.output().len()), (0, 0));
}
