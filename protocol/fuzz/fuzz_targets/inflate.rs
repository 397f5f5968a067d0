//! Compressed payloads: never more than the limit, never a panic; and what we compress comes back.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use protocol::{
    frame::{self, Decoder, Kind, Prefix},
    message::Send,
};

fuzz_target!(|input: (u16, &[u8])| {
    let (limit, bytes) = input;
    if let Ok(plain) = frame::inflated(true, Bytes::copy_from_slice(bytes), usize::from(limit)) {
        assert!(plain.len() <= usize::from(limit));
    }
    let payload = Send { body: bytes.repeat(1 + usize::from(limit) / 256).into(), ..Default::default() };
    let mut out = BytesMut::new();
    frame::put(&mut out, Kind::Push, Prefix::Topic(1), &payload, true);
    let mut decoder = Decoder::default();
    decoder.feed(&out);
    let frame = decoder.next_frame(usize::MAX).expect("a frame").expect("a whole one");
    let (_, rest) = frame::split_topic(frame.body).expect("a topic");
    let plain = frame::inflated(frame.compressed, rest, usize::MAX).expect("what was compressed");
    assert_eq!(plain, prost::Message::encode_to_vec(&payload));
});
