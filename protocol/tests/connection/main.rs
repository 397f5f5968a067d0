//! The connection's two state machines, driven without a socket or a clock.
//!
//! Goal: every rule of WIRE.md about states, limits, deadlines and order has a test that fails without it.
//! Mechanics: bytes made with `frame::put` go in, time is a number, and what comes out is cut into frames
//! again. Nothing here waits.

#![allow(clippy::unwrap_used)]

mod client;
mod flow;
mod limits;
mod pair;
mod properties;
mod support;
