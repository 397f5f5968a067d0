//! Links between nodes: how their byte stream is cut into frames, and whether two nodes go together at all.
//!
//! ```text
//! frame  = length body
//! length = varint: bytes in body
//! body   = a `LinkFrame` of `proto/link.proto`
//! ```
//!
//! Who dials sends its `LinkHello` at once, the other side answers with its own. Each [`agree`]s with what it was sent:
//! on a version of the messages, or on why there will be no link, which it says as `LinkRefused` before it closes. Both
//! sides judge the same two hellos, so that they come to the same end.
//!
//! A frame shares the decoder's buffer; nothing is copied. So a small piece of a frame that is kept for long keeps
//! everything that was fed together with it: who keeps it copies it.
//!
//! What may not live here: which frame is allowed when, and what becomes of it (that is the gateway's).

use bytes::{Buf, Bytes, BytesMut};
use prost::Message as _;

use crate::{
    frame::FrameError,
    link_message::{LinkFrame, LinkHello, NodeRole},
    varint,
};

pub use crate::link_message::link_frame::What;

/// Oldest version of the links' messages that this crate speaks.
pub const LINK_VERSION_MIN: u32 = 1;
/// Newest version of the links' messages that this crate speaks.
pub const LINK_VERSION_MAX: u32 = 2;
/// From this version on nodes answer each other's questions. One that speaks only older ones would skip them, and whoever
/// has asked would wait for nothing.
pub const LINK_VERSION_ANSWERS: u32 = 2;
/// From this version on a core that has told of all its sessions, or of all live rooms, says so. Whoever speaks only older
/// ones is believed to have nothing else as soon as it begins.
pub const LINK_VERSION_ALL_TOLD: u32 = 2;
/// The ALPN protocol name of links inside TLS.
pub const LINK_ALPN: &[u8] = b"im-link";

/// Longest first frame, in bytes: nothing larger is taken from a node before its hello.
pub const HELLO_BYTES_MAX: usize = 4 * 1024;
/// Longest frame between an edge and a core, in bytes.
pub const EDGE_FRAME_BYTES_MAX: usize = 256 * 1024;
/// Longest frame between cores, in bytes: what one transaction brings about, which is 4 MiB and its last act.
pub const PEER_FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest name of a node and of its release, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Longest length in front of a frame, in bytes.
pub const LENGTH_BYTES_MAX: usize = varint::U32_LEN_MAX;

/// Cuts a link's byte stream into frames. Holds the bytes of one unfinished frame at the most.
#[derive(Debug, Default)]
pub struct LinkDecoder {
    input: BytesMut,
}

impl LinkDecoder {
    /// Adds bytes as they came from the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Cuts the next frame off; `None` until more bytes are fed. Frames that this release does not know are skipped.
    /// The announced length is compared with `frame_bytes_max` before anything is reserved for it. After an error
    /// the stream is lost.
    pub fn next_frame(&mut self, frame_bytes_max: usize) -> Result<Option<What>, FrameError> {
        while let Some(body) = self.next_body(frame_bytes_max)? {
            let frame = LinkFrame::decode(body).map_err(|_| FrameError::Invalid)?;
            if frame.what.is_some() {
                return Ok(frame.what);
            }
        }
        Ok(None)
    }

    /// The stream has ended: an error if that was inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.input.is_empty() { Ok(()) } else { Err(FrameError::Truncated) }
    }

    /// Bytes held back for an unfinished frame.
    pub fn buffered_bytes(&self) -> usize {
        self.input.len()
    }

    fn next_body(&mut self, frame_bytes_max: usize) -> Result<Option<Bytes>, FrameError> {
        if self.input.is_empty() {
            self.input = BytesMut::new();
            return Ok(None);
        }
        let (length, length_len) = match varint::read_u32(&self.input) {
            varint::Read::Value(value, len) => (value as usize, len),
            varint::Read::Incomplete => return Ok(None),
            varint::Read::Invalid => return Err(FrameError::Invalid),
        };
        if length > frame_bytes_max {
            return Err(FrameError::TooLarge { announced: length, limit: frame_bytes_max });
        }
        // Subtracted rather than added: a length near 2^32 must not overflow where `usize` has 32 bits.
        if self.input.len() - length_len < length {
            return Ok(None);
        }
        self.input.advance(length_len);
        Ok(Some(self.input.split_to(length).freeze()))
    }
}

/// Appends a frame. That it is no longer than the receiver's limit is the caller's to see to ([`encoded_len`]).
pub fn encode(frame: &What, out: &mut BytesMut) {
    let body_len = frame.encoded_len();
    out.reserve(LENGTH_BYTES_MAX + body_len);
    varint::put_u32(out, body_len as u32);
    frame.encode(out);
}

/// Length of a frame's body, in bytes: what the receiver's limit is about.
pub fn encoded_len(frame: &What) -> usize {
    frame.encoded_len()
}

/// Why two nodes will not have a link. Its text is for the operators of both.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The peer's hello makes no sense: which part of it.
    #[error("the hello's {0} is invalid")]
    Invalid(&'static str),
    /// No version is spoken by both. Two adjacent releases always have one.
    #[error("no common version: {own_min} to {own_max} are spoken here, {peer_min} to {peer_max} there")]
    Version {
        /// Oldest version spoken here.
        own_min: u32,
        /// Newest version spoken here.
        own_max: u32,
        /// Oldest version spoken there.
        peer_min: u32,
        /// Newest version spoken there.
        peer_max: u32,
    },
    /// Both hellos are of one node: it has been given its own address.
    #[error("a node has no link with itself")]
    Itself,
    /// Two edges: each needs a core.
    #[error("two edges have nothing to say to each other")]
    Edges,
    /// Two cores of different deployments.
    #[error("the cores have different stores")]
    Store,
}

/// The version that both sides use: the newest that both speak. Or why there is none, for whatever reason two nodes
/// don't go together.
pub fn agree(own: &LinkHello, peer: &LinkHello) -> Result<u32, Mismatch> {
    // A newer release may have other rules for all the rest, so versions come first.
    let version = common_version(own, peer)?;
    if peer.node == 0 {
        return Err(Mismatch::Invalid("node"));
    }
    if peer.name.is_empty() || peer.name.len() > NAME_BYTES_MAX {
        return Err(Mismatch::Invalid("name"));
    }
    if peer.release.len() > NAME_BYTES_MAX {
        return Err(Mismatch::Invalid("release"));
    }
    if own.node == peer.node {
        return Err(Mismatch::Itself);
    }
    match (own.role(), peer.role()) {
        (_, NodeRole::Unknown) | (NodeRole::Unknown, _) => Err(Mismatch::Invalid("role")),
        (NodeRole::Edge, NodeRole::Edge) => Err(Mismatch::Edges),
        (_, NodeRole::Core) if peer.store.is_empty() => Err(Mismatch::Invalid("store")),
        (NodeRole::Core, NodeRole::Core) if own.store != peer.store => Err(Mismatch::Store),
        (NodeRole::Core, NodeRole::Core) => Ok(version),
        // Sessions could be opened, and nothing would ever come of them.
        _ if peer.session_window_bytes == 0 => Err(Mismatch::Invalid("session_window_bytes")),
        (_, NodeRole::Core) if peer.sessions_max == 0 => Err(Mismatch::Invalid("sessions_max")),
        _ => Ok(version),
    }
}

fn common_version(own: &LinkHello, peer: &LinkHello) -> Result<u32, Mismatch> {
    if peer.version_min == 0 || peer.version_min > peer.version_max {
        return Err(Mismatch::Invalid("version"));
    }
    let newest = own.version_max.min(peer.version_max);
    let oldest = own.version_min.max(peer.version_min);
    if newest >= oldest {
        return Ok(newest);
    }
    Err(Mismatch::Version {
        own_min: own.version_min,
        own_max: own.version_max,
        peer_min: peer.version_min,
        peer_max: peer.version_max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link_message::{LinkPing, PeerAsk, SessionBytes, SessionsBytes};
    use proptest::prelude::*;

    const LIMIT: usize = 1 << 16;

    fn ping(number: u64) -> What {
        What::Ping(LinkPing { number })
    }

    fn encoded(frames: &[What]) -> BytesMut {
        let mut out = BytesMut::new();
        frames.iter().for_each(|frame| encode(frame, &mut out));
        out
    }

    fn fed(bytes: &[u8]) -> LinkDecoder {
        let mut decoder = LinkDecoder::default();
        decoder.feed(bytes);
        decoder
    }

    #[test]
    fn a_frame_is_its_length_and_a_link_frame() {
        let out = encoded(&[ping(300)]);
        assert_eq!(out[..], [5, 0x1a, 3, 8, 0xac, 2]);
        let same = LinkFrame { what: Some(ping(300)) };
        assert_eq!((out[1..].to_vec(), encoded_len(&ping(300))), (same.encode_to_vec(), 5));
    }

    #[test]
    fn a_stream_that_is_none_is_refused() {
        let next = |bytes: &[u8]| fed(bytes).next_frame(LIMIT);
        assert_eq!(next(&[0x80, 0x00]), Err(FrameError::Invalid), "overlong length");
        assert_eq!(next(&[0xff; 5]), Err(FrameError::Invalid), "length over 32 bits");
        assert_eq!(next(&[2, 0x1a, 5]), Err(FrameError::Invalid), "a message that ends behind its frame");
        let too_large = FrameError::TooLarge { announced: 11, limit: 10 };
        assert_eq!(fed(&[11]).next_frame(10), Err(too_large));
        assert_eq!(fed(&[3, 0, 0]).finish(), Err(FrameError::Truncated));
    }

    #[test]
    fn what_a_newer_release_says_is_skipped() {
        let mut stream = BytesMut::from(&[0][..]);
        // Field 2047 of a frame.
        stream.extend_from_slice(&[5, 0xfa, 0x7f, 2, 1, 2]);
        encode(&What::Ask(PeerAsk { version: 7 }), &mut stream);
        let mut decoder = fed(&stream);
        assert_eq!(decoder.next_frame(LIMIT), Ok(Some(What::Ask(PeerAsk { version: 7 }))));
        assert_eq!(decoder.next_frame(LIMIT), Ok(None));
        assert_eq!(decoder.finish(), Ok(()));
    }

    #[test]
    fn bytes_of_a_session_are_not_copied() {
        let data = Bytes::from(vec![7; 1000]);
        let mut decoder = fed(&encoded(&[What::Bytes(SessionBytes { session: 1, data: data.clone() })]));
        let held = decoder.input.as_ptr_range();
        match decoder.next_frame(LIMIT).unwrap() {
            Some(What::Bytes(bytes)) => {
                assert_eq!(bytes.data, data);
                assert!(held.contains(&bytes.data.as_ptr()));
            }
            other => panic!("{other:?}"),
        }
    }

    fn hello(node: u64, role: NodeRole, versions: (u32, u32)) -> LinkHello {
        LinkHello {
            version_min: versions.0,
            version_max: versions.1,
            node,
            name: format!("node-{node}"),
            role: role.into(),
            release: "0.1.0".into(),
            store: if role == NodeRole::Core { Bytes::from_static(b"store") } else { Bytes::new() },
            session_window_bytes: 1,
            sessions_max: u32::from(role == NodeRole::Core),
            ..LinkHello::default()
        }
    }

    #[test]
    fn the_newest_common_version_holds_on_both_sides() {
        for (own, peer, version) in [((1, 1), (1, 1), 1), ((1, 2), (2, 3), 2), ((2, 5), (1, 4), 4)] {
            let own = hello(1, NodeRole::Core, own);
            for role in [NodeRole::Core, NodeRole::Edge] {
                let peer = hello(2, role, peer);
                assert_eq!((agree(&own, &peer), agree(&peer, &own)), (Ok(version), Ok(version)));
            }
        }
    }

    #[test]
    fn nodes_that_do_not_go_together_are_refused() {
        let core = || hello(2, NodeRole::Core, (1, 2));
        let refused = |peer: LinkHello| agree(&core(), &peer).unwrap_err();
        let version = Mismatch::Version { own_min: 1, own_max: 2, peer_min: 3, peer_max: 4 };
        assert_eq!(refused(hello(1, NodeRole::Core, (3, 4))), version);
        assert_eq!(refused(hello(1, NodeRole::Core, (0, 4))), Mismatch::Invalid("version"));
        assert_eq!(refused(hello(1, NodeRole::Core, (2, 1))), Mismatch::Invalid("version"));
        assert_eq!(refused(hello(0, NodeRole::Core, (1, 2))), Mismatch::Invalid("node"));
        assert_eq!(refused(hello(2, NodeRole::Core, (1, 2))), Mismatch::Itself);
        assert_eq!(refused(hello(1, NodeRole::Unknown, (1, 2))), Mismatch::Invalid("role"));
        let other = |change: fn(&mut LinkHello)| {
            let mut peer = hello(1, NodeRole::Core, (1, 2));
            change(&mut peer);
            refused(peer)
        };
        assert_eq!(other(|peer| peer.name = String::new()), Mismatch::Invalid("name"));
        assert_eq!(other(|peer| peer.name = "n".repeat(65)), Mismatch::Invalid("name"));
        assert_eq!(other(|peer| peer.release = "r".repeat(65)), Mismatch::Invalid("release"));
        assert_eq!(other(|peer| peer.role = 77), Mismatch::Invalid("role"));
        assert_eq!(other(|peer| peer.store = Bytes::new()), Mismatch::Invalid("store"));
        assert_eq!(other(|peer| peer.store = Bytes::from_static(b"another")), Mismatch::Store);
        let edge = |node| hello(node, NodeRole::Edge, (1, 1));
        assert_eq!(agree(&edge(1), &edge(2)), Err(Mismatch::Edges));
    }

    #[test]
    fn edge_and_core_take_something_of_sessions_and_cores_have_none() {
        let (core, edge) = (hello(1, NodeRole::Core, (1, 1)), hello(2, NodeRole::Edge, (1, 1)));
        let closed = |hello: &LinkHello| LinkHello { session_window_bytes: 0, ..hello.clone() };
        assert_eq!(agree(&core, &closed(&edge)), Err(Mismatch::Invalid("session_window_bytes")));
        assert_eq!(agree(&edge, &closed(&core)), Err(Mismatch::Invalid("session_window_bytes")));
        let full = LinkHello { sessions_max: 0, ..core.clone() };
        assert_eq!(agree(&edge, &full), Err(Mismatch::Invalid("sessions_max")));
        let other = LinkHello { node: 3, ..closed(&full) };
        assert_eq!((agree(&core, &other), agree(&other, &core)), (Ok(1), Ok(1)));
    }

    proptest! {
        /// Any bytes in any pieces: frames or an error come out, never a panic, and what is held is bounded.
        #[test]
        fn any_bytes_in_any_pieces(bytes: Vec<u8>, piece in 1usize..20) {
            let mut decoder = LinkDecoder::default();
            'stream: for chunk in bytes.chunks(piece) {
                decoder.feed(chunk);
                loop {
                    match decoder.next_frame(64) {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => break 'stream,
                    }
                }
                prop_assert!(decoder.buffered_bytes() <= 64 + LENGTH_BYTES_MAX);
            }
        }

        /// Frames written one after another come back the same, however the stream is cut.
        #[test]
        fn round_trip(all in prop::collection::vec((any::<u64>(), any::<Vec<u8>>()), 1..8), piece in 1usize..50) {
            let many = |(session, data): (u64, Vec<u8>)| {
                What::ManyBytes(SessionsBytes { sessions: vec![session, 1], data: data.into() })
            };
            let frames: Vec<What> = all.into_iter().map(many).collect();
            let mut decoder = LinkDecoder::default();
            let mut seen = Vec::new();
            for chunk in encoded(&frames).chunks(piece) {
                decoder.feed(chunk);
                while let Some(frame) = decoder.next_frame(LIMIT).unwrap() {
                    seen.push(frame);
                }
            }
            prop_assert_eq!(seen, frames);
            prop_assert!(decoder.finish().is_ok());
        }
    }
}
