//! Engines on a FoundationDB cluster of one process ([`server`]), for a test.

mod server;

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use backend::{
    env::SystemClock,
    store::{
        Engine,
        fdb::{Fdb, FdbOptions},
    },
};

use server::Server;
#[allow(unused_imports, reason = "each test program uses its part")]
pub use server::say;

/// A running cluster.
pub struct Cluster {
    /// Keeps the client library's network thread, which starts once in a process. So a test program
    /// has one test on a live cluster.
    anchor: Arc<Fdb>,
    server: Server,
}

impl Cluster {
    /// A running, empty cluster; `None`, said aloud, where FoundationDB is not installed.
    pub fn start() -> Option<Cluster> {
        let server = Server::start()?;
        Some(Cluster { anchor: open(&server, "anchor/", 5_000), server })
    }

    /// An engine with a prefix of its own.
    pub fn open(&self, prefix: &str, timeout_ms: u32) -> Arc<Fdb> {
        open(&self.server, prefix, timeout_ms)
    }
}

fn open(server: &Server, prefix: &str, timeout_ms: u32) -> Arc<Fdb> {
    let options = FdbOptions { prefix: prefix.into(), timeout_ms };
    Arc::new(Fdb::open(&server.file(), options, Arc::new(SystemClock::default())).expect("opens"))
}

impl Deref for Cluster {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.anchor.shutdown();
    }
}
