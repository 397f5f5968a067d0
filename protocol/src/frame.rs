//! Frames: how a byte stream is cut into units, and how the units are written.
//!
//! ```text
//! frame    = head length body
//! head     = 1 byte: low four bits the kind, high four bits flags (bit 4: compressed; 5–7: zero)
//! length   = varint: bytes in body
//! hello    = magic(4) payload          welcome = payload        goaway = payload
//! request  = id(varint) command(varint) payload
//! response = id(varint) code(varint) payload
//! push     = topic(varint) payload
//! ping     = nothing                   pong    = payload, usually empty
//! ```
//!
//! One byte of head and one of length is all that a heartbeat takes. A compressed payload is the
//! payload's size as a varint followed by raw DEFLATE data; only requests, responses and pushes may be. What may not live here: which frame is
//! allowed when (that is [`connection`](crate::connection)'s).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{ErrorCode, deflate, varint};

/// First four bytes of the first frame's body: tells a foreign protocol from an old version.
pub const MAGIC: &[u8; 4] = b"IMWP";

/// Longest head and length of a frame, in bytes.
pub(crate) const HEADER_BYTES_MAX: usize = 1 + varint::U32_LEN_MAX;

const FLAG_COMPRESSED: u8 = 0x10;
const FLAGS_RESERVED: u8 = 0xe0;
const KIND_MASK: u8 = 0x0f;

/// What a frame is. Kinds this crate doesn't know survive, to be skipped by their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Hello,
    Welcome,
    Request,
    Response,
    Push,
    Ping,
    Pong,
    GoAway,
    Unknown(u8),
}

impl Kind {
    /// Every known kind with its code and name, in the order of WIRE.md.
    pub const TABLE: &[(Kind, u8, &str)] = &[
        (Kind::Hello, 0, "hello"),
        (Kind::Welcome, 1, "welcome"),
        (Kind::Request, 2, "request"),
        (Kind::Response, 3, "response"),
        (Kind::Push, 4, "push"),
        (Kind::Ping, 5, "ping"),
        (Kind::Pong, 6, "pong"),
        (Kind::GoAway, 7, "goaway"),
    ];

    fn code(self) -> u8 {
        match self {
            Kind::Unknown(code) => code & KIND_MASK,
            known => Self::TABLE.iter().find(|row| row.0 == known).map_or(KIND_MASK, |row| row.1),
        }
    }

    fn from_code(code: u8) -> Self {
        Self::TABLE.iter().find(|row| row.1 == code).map_or(Kind::Unknown(code), |row| row.0)
    }

    /// Whether the payload may be compressed. What an unknown kind may is not known: it is skipped anyway.
    fn may_be_compressed(self) -> bool {
        matches!(self, Kind::Request | Kind::Response | Kind::Push | Kind::Unknown(_))
    }
}

/// One frame cut from the stream. The body shares the decoder's buffer; nothing is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// The payload inside the body is compressed.
    pub compressed: bool,
    /// Everything behind the length.
    pub body: Bytes,
}

/// Why the stream can't be trusted any more. Maps to the code that the peer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Reserved or misplaced flags, an invalid length, or a body without its fixed parts.
    #[error("bytes are not a frame")]
    Invalid,
    /// The announced length is over the limit of the connection's state.
    #[error("frame of {announced} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes announced.
        announced: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The stream ended inside a frame.
    #[error("stream ended inside a frame")]
    Truncated,
}

impl FrameError {
    /// The code the peer is told.
    pub fn code(self) -> ErrorCode {
        match self {
            FrameError::Invalid => ErrorCode::FRAME_INVALID,
            FrameError::TooLarge { .. } => ErrorCode::FRAME_TOO_LARGE,
            FrameError::Truncated => ErrorCode::FRAME_TRUNCATED,
        }
    }
}

/// Cuts a byte stream into frames. Holds the bytes of one unfinished frame at the most, and none when
/// there is none: an idle connection costs no buffer.
#[derive(Debug, Default)]
pub struct Decoder {
    input: BytesMut,
}

impl Decoder {
    /// Adds bytes as they came from the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Cuts the next frame off; `None` until more bytes are fed. The announced length is compared with
    /// `body_bytes_max` before anything is reserved for it. After an error the stream is lost.
    pub fn next_frame(&mut self, body_bytes_max: usize) -> Result<Option<Frame>, FrameError> {
        let Some((&head, rest)) = self.input.split_first() else {
            self.input = BytesMut::new();
            return Ok(None);
        };
        let kind = Kind::from_code(head & KIND_MASK);
        let compressed = head & FLAG_COMPRESSED != 0;
        if head & FLAGS_RESERVED != 0 || (compressed && !kind.may_be_compressed()) {
            return Err(FrameError::Invalid);
        }
        let (length, length_len) = match varint::read_u32(rest) {
            varint::Read::Value(value, len) => (value as usize, len),
            varint::Read::Incomplete => return Ok(None),
            varint::Read::Invalid => return Err(FrameError::Invalid),
        };
        if length > body_bytes_max {
            return Err(FrameError::TooLarge { announced: length, limit: body_bytes_max });
        }
        // Subtracted rather than added: a length near 2^32 must not overflow where `usize` has 32 bits.
        if rest.len() - length_len < length {
            return Ok(None);
        }
        self.input.advance(1 + length_len);
        let body = self.input.split_to(length).freeze();
        Ok(Some(Frame { kind, compressed, body }))
    }

    /// The stream has ended: an error if that was inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.input.is_empty() { Ok(()) } else { Err(FrameError::Truncated) }
    }

    /// Bytes held back for an unfinished frame.
    pub fn buffered_bytes(&self) -> usize {
        self.input.len()
    }
}

/// Why a payload did not come out of its frame; the stream itself is still good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// Not valid DEFLATE data of the announced size.
    #[error("compressed payload is damaged")]
    Damaged,
    /// It would inflate to more than the limit.
    #[error("compressed payload is over the limit")]
    TooLarge,
}

/// The plain payload: `payload` itself, or what it inflates to, up to `bytes_max`.
pub fn inflated(compressed: bool, mut payload: Bytes, bytes_max: usize) -> Result<Bytes, InflateError> {
    if !compressed {
        return Ok(payload);
    }
    let size = varint::take_u32(&mut payload).ok_or(InflateError::Damaged)? as usize;
    if size > bytes_max {
        return Err(InflateError::TooLarge);
    }
    deflate::inflate(&payload, size).ok_or(InflateError::Damaged)
}

/// Splits a request's or response's body into its two varints and the payload.
pub fn split_pair(mut body: Bytes) -> Result<(u32, u32, Bytes), FrameError> {
    let first = varint::take_u32(&mut body).ok_or(FrameError::Invalid)?;
    let second = varint::take_u32(&mut body).ok_or(FrameError::Invalid)?;
    Ok((first, second, body))
}

/// Splits a push's body into its topic and the payload.
pub fn split_topic(mut body: Bytes) -> Result<(u32, Bytes), FrameError> {
    let topic = varint::take_u32(&mut body).ok_or(FrameError::Invalid)?;
    Ok((topic, body))
}

/// Splits a hello's body into its payload, checking the magic.
pub fn split_magic(mut body: Bytes) -> Result<Bytes, FrameError> {
    if !body.starts_with(MAGIC) {
        return Err(FrameError::Invalid);
    }
    body.advance(MAGIC.len());
    Ok(body)
}

/// What a frame's body starts with, before the payload.
#[derive(Clone, Copy, Debug)]
pub enum Prefix {
    /// Nothing.
    None,
    /// The magic of a hello.
    Magic,
    /// A push's topic.
    Topic(u32),
    /// Id and command of a request, id and code of a response.
    Pair(u32, u32),
}

impl Prefix {
    fn len(self) -> usize {
        match self {
            Prefix::None => 0,
            Prefix::Magic => MAGIC.len(),
            Prefix::Topic(topic) => varint::u32_len(topic),
            Prefix::Pair(first, second) => varint::u32_len(first) + varint::u32_len(second),
        }
    }

    fn put(self, out: &mut BytesMut) {
        match self {
            Prefix::None => {}
            Prefix::Magic => out.put_slice(MAGIC),
            Prefix::Topic(topic) => varint::put_u32(out, topic),
            Prefix::Pair(first, second) => {
                varint::put_u32(out, first);
                varint::put_u32(out, second);
            }
        }
    }
}

/// A payload that knows its length before it is written, so that a frame is written in one pass.
pub trait Payload {
    /// Encoded length, in bytes.
    fn len(&self) -> usize;
    /// Appends the encoding.
    fn put(&self, out: &mut BytesMut);
    /// Whether it encodes to nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<M: prost::Message> Payload for M {
    fn len(&self) -> usize {
        self.encoded_len()
    }

    fn put(&self, out: &mut BytesMut) {
        self.encode_raw(out);
    }
}

/// Appends a frame. With `deflate`, a payload that is large enough is compressed if that makes it smaller
/// and the kind allows it.
pub fn put(out: &mut BytesMut, kind: Kind, prefix: Prefix, payload: &impl Payload, deflate: bool) {
    let payload_len = payload.len();
    if deflate && kind.may_be_compressed() && payload_len >= deflate::WORTH_BYTES_MIN {
        let mut plain = BytesMut::with_capacity(payload_len);
        payload.put(&mut plain);
        match deflate::compress(&plain) {
            Some(small) => put_compressed(out, kind, prefix, payload_len, &small),
            None => {
                put_head(out, kind, 0, prefix.len() + plain.len());
                prefix.put(out);
                out.put_slice(&plain);
            }
        }
        return;
    }
    put_head(out, kind, 0, prefix.len() + payload_len);
    prefix.put(out);
    payload.put(out);
}

fn put_compressed(out: &mut BytesMut, kind: Kind, prefix: Prefix, plain_len: usize, small: &[u8]) {
    let plain_len = plain_len as u32;
    put_head(out, kind, FLAG_COMPRESSED, prefix.len() + varint::u32_len(plain_len) + small.len());
    prefix.put(out);
    varint::put_u32(out, plain_len);
    out.put_slice(small);
}

fn put_head(out: &mut BytesMut, kind: Kind, flags: u8, body_len: usize) {
    out.reserve(HEADER_BYTES_MAX + body_len);
    out.put_u8(kind.code() | flags);
    varint::put_u32(out, body_len as u32);
}

/// Follows a stream of frames without reading them: whether it stands between two of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Boundary {
    /// Bytes of the head and length that have passed.
    header_bytes: u32,
    length: u64,
    /// Bytes of the body that are still to come.
    body_bytes: u64,
}

impl Boundary {
    /// These bytes have passed.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let body = self.body_bytes.min(bytes.len() as u64);
            self.body_bytes -= body;
            bytes = bytes.get(body as usize..).unwrap_or_default();
            if let Some((&byte, rest)) = bytes.split_first() {
                self.pass_header(byte);
                bytes = rest;
            }
        }
    }

    /// Whether another frame could begin here.
    pub fn is_between_frames(&self) -> bool {
        self.header_bytes == 0 && self.body_bytes == 0
    }

    fn pass_header(&mut self, byte: u8) {
        if self.header_bytes > 0 {
            // A length that is too long is no length: the receiver refuses it.
            self.length |= u64::from(byte & 0x7f).checked_shl(7 * (self.header_bytes - 1)).unwrap_or_default();
            if byte & 0x80 == 0 {
                *self = Boundary { body_bytes: self.length, ..Boundary::default() };
                return;
            }
        }
        self.header_bytes = (self.header_bytes + 1).min(16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message;
    use proptest::prelude::*;

    const LIMIT: usize = 1 << 16;

    #[test]
    fn a_heartbeat_takes_two_bytes() {
        let mut out = BytesMut::new();
        put(&mut out, Kind::Ping, Prefix::None, &(), false);
        assert_eq!(&out[..], &[5, 0]);
    }

    #[test]
    fn refusals() {
        let next = |bytes: &[u8], limit| {
            let mut decoder = Decoder::default();
            decoder.feed(bytes);
            decoder.next_frame(limit)
        };
        assert_eq!(next(&[0x22], LIMIT), Err(FrameError::Invalid), "reserved flag");
        assert_eq!(next(&[0x15], LIMIT), Err(FrameError::Invalid), "a compressed ping");
        assert_eq!(next(&[2, 0x80, 0x00], LIMIT), Err(FrameError::Invalid), "overlong length");
        assert_eq!(next(&[2, 11], 10), Err(FrameError::TooLarge { announced: 11, limit: 10 }));
        assert_eq!(next(&[2, 3, 0, 0], LIMIT), Ok(None));
        let mut cut = Decoder::default();
        cut.feed(&[2, 3, 0, 0]);
        assert_eq!(cut.finish(), Err(FrameError::Truncated));
        assert_eq!(split_pair(Bytes::from_static(&[1])), Err(FrameError::Invalid));
        assert_eq!(split_magic(Bytes::from_static(b"HTTP")), Err(FrameError::Invalid));
    }

    #[test]
    fn compressed_payload_round_trips_and_is_bounded() {
        let payload = message::Text { text: "hello ".repeat(1000) };
        let mut out = BytesMut::new();
        put(&mut out, Kind::Request, Prefix::Pair(7, 16), &payload, true);
        assert!(out.len() < 200);
        let mut decoder = Decoder::default();
        decoder.feed(&out);
        let frame = decoder.next_frame(LIMIT).unwrap().unwrap();
        let (id, command, rest) = split_pair(frame.body).unwrap();
        assert_eq!((frame.compressed, id, command), (true, 7, 16));
        assert_eq!(inflated(true, rest.clone(), 100), Err(InflateError::TooLarge));
        let plain = inflated(true, rest, LIMIT).unwrap();
        assert_eq!(<message::Text as prost::Message>::decode(plain).unwrap(), payload);
    }

    proptest! {
        /// Any bytes in any pieces: frames or an error come out, never a panic, and what is held is bounded.
        #[test]
        fn any_bytes_in_any_pieces(bytes: Vec<u8>, piece in 1usize..20) {
            let mut decoder = Decoder::default();
            'stream: for chunk in bytes.chunks(piece) {
                decoder.feed(chunk);
                loop {
                    match decoder.next_frame(64) {
                        Ok(Some(frame)) => prop_assert!(frame.body.len() <= 64),
                        Ok(None) => break,
                        Err(_) => break 'stream,
                    }
                }
                prop_assert!(decoder.buffered_bytes() <= 64 + 6);
            }
        }

        /// Frames written one after another come back the same, however the stream is cut.
        #[test]
        fn round_trip(payloads in prop::collection::vec(".{0,80}", 1..8), piece in 1usize..50) {
            let mut out = BytesMut::new();
            for (index, text) in payloads.iter().enumerate() {
                put(&mut out, Kind::Push, Prefix::Topic(index as u32), &message::Text { text: text.clone() }, false);
            }
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for chunk in out.chunks(piece) {
                decoder.feed(chunk);
                while let Some(frame) = decoder.next_frame(LIMIT).unwrap() {
                    let (topic, payload) = split_topic(frame.body).unwrap();
                    prop_assert_eq!(topic as usize, seen.len());
                    seen.push(<message::Text as prost::Message>::decode(payload).unwrap().text);
                }
            }
            prop_assert_eq!(seen, payloads);
            prop_assert!(decoder.finish().is_ok());
        }
    }

    proptest! {
        /// However a stream is cut, it stands between frames exactly where one has ended.
        #[test]
        fn a_boundary_is_where_a_frame_has_ended(lengths in prop::collection::vec(0u32..40_000, 1..6), piece in 1usize..5000) {
            let (mut stream, mut ends) = (Vec::new(), vec![0]);
            for length in lengths {
                stream.push(4);
                let mut header = BytesMut::new();
                varint::put_u32(&mut header, length);
                stream.extend_from_slice(&header);
                stream.resize(stream.len() + length as usize, 0xff);
                ends.push(stream.len());
            }
            let (mut boundary, mut passed) = (Boundary::default(), 0);
            for part in stream.chunks(piece) {
                boundary.pass(part);
                passed += part.len();
                prop_assert_eq!(boundary.is_between_frames(), ends.contains(&passed));
            }
            prop_assert!(boundary.is_between_frames());
        }
    }
}
