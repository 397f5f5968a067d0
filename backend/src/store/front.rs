//! [`Store`]: where transactions are run.
//!
//! What lives here: the settings, the lanes with their worker threads, start and stop. A transaction's
//! body runs on a worker and may run several times ([`super::attempt`]); its caller hears once, when
//! the outcome is final and durable. What may not: limits ([`super::Tx`]), anything of one engine.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use futures::channel::oneshot;

use super::{
    attempt::Attempt,
    lane::{LaneQueue, Running},
    lock,
    metrics::FrontMetrics,
    seam::{Committed, Engine, StoreError},
    tx::{Earlier, Tx},
    watches::Places,
};
use crate::env::{Clock, Rng};

/// Settings of a [`Store`].
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Worker threads of [`Lane::Read`].
    pub read_threads: usize,
    /// Transactions that each of them keeps under way at once, if the engine is a remote one.
    pub read_running_max: usize,
    /// Transactions that may wait in a lane; more are answered `Busy`.
    pub queue_max: usize,
    /// How often a transaction is run again before its caller gets the error.
    pub retry_attempts_max: u32,
    /// No retry starts later than this after the first attempt.
    pub retry_deadline_ms: u64,
    /// Longest pause before a retry. Pauses grow from 50 µs and are spread at random.
    pub retry_backoff_us_max: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            // Reads that miss the cache wait for the disk; one thread would make all others wait too.
            read_threads: 2,
            // A round trip of about a millisecond for each: far more than one thread can start.
            read_running_max: 256,
            // A second's work of the write lane when transactions are small.
            queue_max: 10_000,
            retry_attempts_max: 20,
            retry_deadline_ms: 3_000,
            // A worker sleeps through this with its lane waiting: no more than a slow sync.
            retry_backoff_us_max: 5_000,
        }
    }
}

/// Which workers run a transaction. Both may write; what differs is order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// One thread, strictly first in, first out: each job's commit is issued before the next job's
    /// body starts. It is not awaited, so that syncs overlap with execution, unless the engine is a
    /// remote one, where a body that starts earlier would conflict with that commit.
    Write,
    /// Several threads, in no order: reads, and writes that may conflict. On a remote engine each
    /// thread runs many.
    Read,
}

impl Lane {
    pub(super) fn label(self) -> &'static str {
        match self {
            Lane::Write => "write",
            Lane::Read => "read",
        }
    }
}

/// How the retry loop sees the error type of a transaction's body.
pub trait Retry {
    /// The store's error inside, if it is one. Any other error aborts the transaction: nothing is written.
    fn store_error(&self) -> Option<&StoreError>;
}

impl Retry for StoreError {
    fn store_error(&self) -> Option<&StoreError> {
        Some(self)
    }
}

/// The store. Clones share everything; the last one dropped shuts it down.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    context: Arc<Context>,
    write: Arc<LaneQueue>,
    read: Arc<LaneQueue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What every transaction needs to run.
pub(super) struct Context {
    pub(super) engine: Arc<dyn Engine>,
    /// The engine's [`Engine::is_remote`].
    pub(super) remote: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Arc<dyn Rng>,
    pub(super) options: StoreOptions,
    pub(super) metrics: FrontMetrics,
    pub(super) watches: Places,
}

impl Store {
    /// A store on `engine`, with its worker threads. Install the metrics recorder first.
    ///
    /// # Panics
    ///
    /// If the operating system refuses a thread.
    pub fn new(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>, options: StoreOptions) -> Store {
        let write = LaneQueue::new(Lane::Write, options.queue_max);
        let read = LaneQueue::new(Lane::Read, options.queue_max);
        let remote = engine.is_remote();
        let (write_running, read_running) = match remote {
            true => (Running::Concurrent(1), Running::Concurrent(options.read_running_max.max(1))),
            false => (Running::Blocking, Running::Blocking),
        };
        let mut threads = vec![write.spawn("store-write".into(), write_running)];
        threads.extend((0..options.read_threads.max(1)).map(|n| read.spawn(format!("store-read-{n}"), read_running)));
        let threads = threads.into_iter().collect::<Result<_, _>>().expect("threads for the store");
        let context = Arc::new(Context {
            engine,
            remote,
            clock,
            rng,
            options,
            metrics: FrontMetrics::new(),
            watches: Places::default(),
        });
        Store { inner: Arc::new(Inner { context, write, read, threads: Mutex::new(threads) }) }
    }

    /// The engine's name, for logs.
    pub fn engine_name(&self) -> &'static str {
        self.inner.context.engine.name()
    }

    /// Why the store has stopped for good, if it has ([`Engine::failure`]).
    pub fn failure(&self) -> Option<String> {
        self.inner.context.engine.failure()
    }

    /// A transaction without lane or retry, for tools and tests.
    pub fn begin(&self) -> Result<Tx, StoreError> {
        self.inner.context.begin(Earlier::default())
    }

    /// Runs `body` as a transaction on a worker of `lane` and calls `done` exactly once with the
    /// outcome: after durability on success, from a worker or a thread of the engine, so it must be
    /// short and must not wait. An error of the domain is an answer too: it is told once all that
    /// the body saw is durable.
    ///
    /// On [`Lane::Write`] over the embedded and the memory engine, `done` is called in the order of the commits.
    pub fn run_then<T, E, F, D>(&self, lane: Lane, name: &'static str, body: F, done: D)
    where
        F: AsyncFn(&Tx) -> Result<T, E> + Send + 'static,
        E: From<StoreError> + Retry + Send + 'static,
        T: Send + 'static,
        D: FnOnce(Result<(T, Committed), E>) + Send + 'static,
    {
        let queue = match lane {
            Lane::Write => &self.inner.write,
            Lane::Read => &self.inner.read,
        };
        let attempt = Attempt::new(self.inner.context.clone(), queue.clone(), name, body, Box::new(done));
        queue.push(Box::new(attempt));
    }

    /// [`Self::run_then`] as a future that any executor can poll. Dropping it does not undo the transaction.
    pub fn run<T, E, F>(
        &self,
        lane: Lane,
        name: &'static str,
        body: F,
    ) -> impl Future<Output = Result<(T, Committed), E>> + Send + 'static + use<T, E, F>
    where
        F: AsyncFn(&Tx) -> Result<T, E> + Send + 'static,
        E: From<StoreError> + Retry + Send + 'static,
        T: Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.run_then(lane, name, body, move |result| {
            let _ = sender.send(result); // nobody waits any more: nobody to tell
        });
        async { receiver.await.unwrap_or_else(|_| Err(StoreError::MaybeCommitted.into())) }
    }

    /// Finishes what is queued, makes all of it durable, and stops the threads. Later calls answer `Unavailable`.
    /// Not to be called from a transaction's body or `done`.
    pub fn shutdown(&self) {
        self.inner.shutdown();
    }
}

impl Inner {
    fn shutdown(&self) {
        self.write.close();
        self.read.close();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            // The last clone may have been owned by a transaction: a thread can't wait for itself.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a store worker died");
            }
        }
        self.context.engine.shutdown();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Context {
    pub(super) fn begin(&self, earlier: Earlier) -> Result<Tx, StoreError> {
        Ok(Tx::new(self.engine.begin()?, self.clock.clone(), self.remote, self.watches.clone(), earlier))
    }
}
