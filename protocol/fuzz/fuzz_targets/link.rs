//! Links between nodes: any bytes in any pieces. What is held is bounded, what is understood encodes to the same
//! again, and any two hellos are agreed about alike on both sides.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use protocol::link::{self, LENGTH_BYTES_MAX, LinkDecoder, What};

const LIMIT: usize = 300;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let mut decoder = LinkDecoder::default();
    let mut last_hello = None;
    for chunk in bytes.chunks(usize::from(piece) + 1) {
        decoder.feed(chunk);
        loop {
            match decoder.next_frame(LIMIT) {
                Ok(Some(frame)) => {
                    comes_back(&frame);
                    if let What::Hello(hello) = frame {
                        let before = last_hello.get_or_insert_with(|| hello.clone());
                        // Each side judges the other's hello, so they agree where both make sense.
                        if let (Ok(one), Ok(other)) = (link::agree(before, &hello), link::agree(&hello, before)) {
                            assert_eq!(one, other);
                        }
                    }
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(decoder.buffered_bytes() < LIMIT + LENGTH_BYTES_MAX);
    }
    let _ = decoder.finish();
});

fn comes_back(frame: &What) {
    let mut out = BytesMut::new();
    link::encode(frame, &mut out);
    assert!(out.len() <= link::encoded_len(frame) + LENGTH_BYTES_MAX);
    let mut decoder = LinkDecoder::default();
    decoder.feed(&out);
    assert_eq!(decoder.next_frame(usize::MAX), Ok(Some(frame.clone())));
    assert_eq!(decoder.finish(), Ok(()));
}
