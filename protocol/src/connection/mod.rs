//! The connection as a state machine without I/O, for either side.
//!
//! Bytes read from the transport and the present time go in ([`ServerConnection::receive`],
//! [`ServerConnection::handle_timeout`]); events come out of `poll`, bytes to write out of `output`,
//! and the time at which to call `handle_timeout` out of `timeout`. Whoever owns the socket drives it:
//!
//! 1. `poll` until it gives nothing, and handle each event;
//! 2. write what `output` holds, and if there was something, go to 1 (frames may have waited for the room);
//! 3. wait for bytes (only if [`ServerConnection::wants_input`]), for the timeout, or for something to
//!    answer or push; tell the machine; go to 1.
//!
//! Frames are cut from the input one event at a time, and no faster than the peer takes the answers:
//! what the machine holds is bounded by [`OUTPUT_BYTES_HIGH`], the frame limit and one piece of input.
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

/// A server cuts no further frames from its input while this many bytes wait in its output: a client
/// that sends but does not read fills its own buffers, not the server's memory.
pub const OUTPUT_BYTES_HIGH: usize = 64 * 1024;

/// A side that hears nothing for this many heartbeat intervals gives the connection up.
const SILENT_INTERVALS_MAX: u64 = 2;

/// Puts `limit` into the range both sides can rely on.
fn frame_limit(announced: u32) -> usize {
    let limit = if announced == 0 { FRAME_BYTES_DEFAULT } else { announced };
    limit.max(FRAME_BYTES_MIN) as usize
}
