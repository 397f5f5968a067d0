//! What the end-to-end tests are written with: real gateways, and clients that can misbehave.
//!
//! - [`Gateway`]: a gateway process on a temporary folder, with its admin endpoint; killed on drop.
//! - [`Client`]: a well-behaved client: logs in, sends, syncs, waits for pushes.
//!   What it can ask for beyond that is in `features.rs` (recalls, conversations, blacklist) and `people.rs` (friends).
//! - [`Api`]: an application's own server: calls of the server API.
//! - [`Wire`]: TLS and bytes, for everything a client should not do.
//! - [`Receiver`]: an application's own server, which is asked and told.
//! - [`mmdb`]: location databases, written for tests.
//! - [`Relay`]: a network between two of them that can be cut, slow or silent.
//! - [`Regions`]: places far apart, each with a network of its own, where packets take their time and get lost.
//! - [`Seed`]: randomness that can be replayed.
//!
//! Everything blocks, and every wait has a deadline ([`PATIENCE`]) after which the test fails: a hang is
//! a failure. A helper that can't do its part panics with what it was waiting for.

#![allow(clippy::missing_panics_doc, clippy::expect_used)]

mod admin;
mod api;
mod client;
mod devices;
mod features;
mod gateway;
mod groups;
pub mod mmdb;
mod people;
mod process;
mod receiver;
mod regions;
mod relay;
mod seed;
mod wire;

use std::time::Duration;

pub use admin::{Labels, Metrics};
pub use api::{Api, https};
pub use client::{Answer, Client, MessageExt, Options, Refusal, text_body, unique_id};
pub use devices::seen;
pub use features::{add_extension, body_of, user};
pub use gateway::{App, Builder, Gateway, free_port, has_no_embedded_store, node_certificates};
pub use process::{Process, program, skip, target_folder};
pub use receiver::{Received, Receiver, Reply};
pub use regions::{Region, Regions, Way, alone};
pub use relay::Relay;
pub use seed::Seed;
pub use wire::{Config, Wire, tls_config, tls_config_of};

/// How long a test waits for anything. Generous: it is reached only by a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds; fails the test if it does not in time.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5)); // between two looks, not instead of one
    }
}
