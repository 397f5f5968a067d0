//! The frame decoder: any bytes in any pieces. What it cuts is within the limit, and what it holds too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::frame::{self, Decoder};

const LIMIT: usize = 300;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let mut decoder = Decoder::default();
    for chunk in bytes.chunks(usize::from(piece) + 1) {
        decoder.feed(chunk);
        loop {
            match decoder.next_frame(LIMIT) {
                Ok(Some(frame)) => {
                    assert!(frame.body.len() <= LIMIT);
                    let _ = frame::split_pair(frame.body.clone());
                    let _ = frame::split_topic(frame.body.clone());
                    let _ = frame::split_magic(frame.body);
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(decoder.buffered_bytes() < LIMIT + 6);
    }
    let _ = decoder.finish();
});
