//! The wire: what client and server say to each other, and the rules of the conversation.
//!
//! - [`message`]: the payloads (prost, from `proto/im.proto`).
//! - [`frame`]: how payloads are wrapped into bytes, and unwrapped from bytes of any kind.
//! - [`command`], [`error`]: the tables of commands, pushes and error codes.
//! - [`connection`]: the connection as a state machine for either side. Bytes and time go in; events
//!   and bytes come out.
//! - [`link`]: what nodes say to each other (messages in [`link_message`]).
//!
//! `WIRE.md` at the top of the repository is the normative text of what this crate implements.
//!
//! What may not live here: sockets, clocks, threads, a runtime. The crate builds for wasm32.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod command;
pub mod connection;
mod deflate;
pub mod error;
pub mod frame;
pub mod link;
mod push;
mod varint;

/// The payload messages, generated from `proto/im.proto`.
#[allow(missing_docs, clippy::all)]
pub mod message {
    include!(concat!(env!("OUT_DIR"), "/im.v1.rs"));
}

/// What nodes say to each other, generated from `proto/link.proto`.
#[allow(missing_docs, clippy::all)]
pub mod link_message {
    include!(concat!(env!("OUT_DIR"), "/im.link.rs"));
}

pub use error::ErrorCode;
pub use push::{EncodedEvent, EncodedPush};

/// Lowest protocol version this crate speaks.
pub const VERSION_MIN: u32 = 1;
/// Highest protocol version this crate speaks.
pub const VERSION_MAX: u32 = 1;
/// The ALPN protocol name offered and required inside TLS.
pub const ALPN: &[u8] = b"im/1";
