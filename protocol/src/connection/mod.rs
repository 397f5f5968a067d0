//! The connection as a state machine without I/O, for either side.
//!
//! Bytes read from the transport and the present time go in ([`ServerConnection::receive`],
//! [`ServerConnection::handle_timeout`]); events come out of `poll`, bytes to write out of `output`,
//! and the time at which to call `handle_timeout` out of `timeout`. Whoever owns the socket drives it.
//!
//! What may not live here: what a request means. What is decided here: which frame is allowed in which
//! state, sizes, counts and deadlines, and the error the peer is told when it breaks one.

mod client;
mod server;

pub use client::{ClientConfig, ClientConnection, ClientEvent};
pub use server::{ServerConnection, ServerEvent, ServerLimits};

/// Milliseconds from any fixed start; only differences count.
pub type Millis = u64;

/// The frame limit that a [`Hello`](crate::message::Hello) without one stands for, in bytes.
pub const FRAME_BYTES_DEFAULT: u32 = 65_536;
/// The smallest frame limit a side may announce, in bytes: the largest message still fits.
pub const FRAME_BYTES_MIN: u32 = 32_768;

/// A side that hears nothing for this many heartbeat intervals gives the connection up.
const SILENT_INTERVALS_MAX: u64 = 2;

/// Puts `limit` into the range both sides can rely on.
fn frame_limit(announced: u32) -> usize {
    let limit = if announced == 0 { FRAME_BYTES_DEFAULT } else { announced };
    limit.max(FRAME_BYTES_MIN) as usize
}
