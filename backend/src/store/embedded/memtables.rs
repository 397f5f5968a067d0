//! Frees written-out memtables away from fjall's locks.
//!
//! When a memtable has been written to its table, fjall lets go of it while it holds the lock that every
//! read and commit needs. Freeing some hundred thousand nodes there took 80 ms, in which nothing was
//! served. A thread here holds every memtable once more, so that fjall's letting go frees nothing, and
//! frees it by itself when it is the last to hold it. What may not live here: anything that is needed for
//! correctness; without the thread everything is the same, only with pauses.

use std::{
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::Duration,
};

use fjall::{AbstractTree, Keyspace};

/// How often to look: a memtable takes longer to fill, and may wait that long to be freed.
const INTERVAL: Duration = Duration::from_millis(50);

/// The thread; dropped or stopped, it ends.
pub(super) struct Freeing {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Freeing {
    /// Starts the thread for the memtables of `keyspace`.
    pub(super) fn start(keyspace: Keyspace) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("store-free".into()).spawn(move || {
            let mut held = Vec::new();
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(INTERVAL) {
                let active = keyspace.tree.active_memtable();
                if !held.last().is_some_and(|newest| Arc::ptr_eq(newest, &active)) {
                    held.push(active);
                }
                held.retain(|memtable| Arc::strong_count(memtable) > 1);
            }
        })?;
        Ok(Freeing { stop, thread })
    }

    /// Ends the thread.
    pub(super) fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that frees memtables died");
        }
    }
}
