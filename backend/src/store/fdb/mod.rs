//! The FoundationDB engine: the one for production.
//!
//! A thin layer over the client library: transactions, conflict detection, own writes and versions
//! are FoundationDB's. What lives here: the process's one network thread (`network`), the thread
//! that waits for commits (`waiter`), transactions with the deployment's prefix (`tx`), errors in
//! the seam's words (`errors`). What may not: retries (the front's loop decides alone), limits.
//!
//! How it fails:
//! - A cluster that does not answer ends every transaction after [`FdbOptions::timeout_ms`]:
//!   `Unavailable` before the commit was sent, `MaybeCommitted` after. From the first such end on new
//!   transactions are refused at once, so that nobody queues behind a lost cluster, until a probe that
//!   never stops asking has got an answer. Nothing needs a restart. A transaction that takes so long while
//!   others, or its own reads, are answered is too slow itself, and stands for nobody else.
//! - An unknown result is told as such: a retry finds out by what the transaction reads (the domain's
//!   idempotency records). Reading what one is about to write also keeps a commit that is still under
//!   way from succeeding after its retry did.
//! - [`Engine::shutdown`] waits for the commits under way. With the last `Fdb` of the process the
//!   network thread is stopped for good. A process that exits without a shutdown may crash doing so:
//!   nothing is lost, but it does not look well.
//!
//! Building needs `libclang`, linking and running `libfdb_c`: see FOUNDATIONDB.md.

mod errors;
mod network;
mod tx;
mod waiter;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use foundationdb::{
    Database, FdbError, FdbResult,
    options::{DatabaseOption, TransactionOption},
};
use metrics::{Gauge, Histogram};

use self::{errors::store_error, network::Network, tx::FdbTx, waiter::Waiter};
use super::{
    lock,
    seam::{Engine, EngineTx, PREFIX_BYTES_MAX, StoreError, TRANSACTION_BYTES_MAX},
};
use crate::env::Clock;

/// Settings of an [`Fdb`].
#[derive(Clone, Debug)]
pub struct FdbOptions {
    /// Put before every key, so that several deployments can share a cluster. No deployment's prefix
    /// may begin with another's. At most [`PREFIX_BYTES_MAX`] long; the same for the life of the data.
    pub prefix: Vec<u8>,
    /// A transaction that takes longer has lost the cluster, in milliseconds.
    pub timeout_ms: u32,
}

impl Default for FdbOptions {
    fn default() -> Self {
        // Longer than a recovery of the cluster usually takes (a second or two), and shorter than
        // the five seconds after which FoundationDB refuses a transaction anyway.
        FdbOptions { prefix: Vec::new(), timeout_ms: 3_000 }
    }
}

/// Why the engine could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The cluster file can't be read.
    #[error("the cluster file {}: {cause}", path.display())]
    ClusterFile {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The prefix is too long or would reach into the cluster's own keys.
    #[error("the prefix must not begin with 0xff and has at most {PREFIX_BYTES_MAX} bytes")]
    Prefix,
    /// The client library refused: says why.
    #[error("the FoundationDB client: {0}")]
    Client(String),
}

/// The engine. Clones share the connection; it does not have to be up to open.
#[derive(Clone)]
pub struct Fdb {
    shared: Arc<Shared>,
}

struct Shared {
    database: Database,
    prefix: Vec<u8>,
    clock: Arc<dyn Clock>,
    waiter: Waiter,
    metrics: FdbMetrics,
    /// Transactions so far.
    begun: AtomicU64,
    stopped: AtomicBool,
    /// When the cluster was heard last, microseconds.
    answered_us: AtomicU64,
    /// No answer for so long is a sign that the cluster is lost, microseconds.
    silence_us_max: u64,
    /// A transaction ran into its timeout, and the probe has had no answer yet.
    lost: AtomicBool,
    /// Held until the shutdown. Last: what stands above needs it to be dropped.
    network: Mutex<Option<Arc<Network>>>,
}

struct FdbMetrics {
    read_version_seconds: Histogram,
    read_seconds: Histogram,
    reachable: Gauge,
}

impl FdbMetrics {
    fn new() -> Self {
        metrics::describe_histogram!(
            "store_fdb_read_version_seconds",
            "From a transaction's begin to its read version, of one transaction in 16"
        );
        metrics::describe_histogram!("store_fdb_read_seconds", "One read, from its call to its answer");
        metrics::describe_gauge!("store_fdb_reachable", "1 while the cluster answers, 0 after it did not");
        FdbMetrics {
            read_version_seconds: metrics::histogram!("store_fdb_read_version_seconds"),
            read_seconds: metrics::histogram!("store_fdb_read_seconds"),
            reachable: metrics::gauge!("store_fdb_reachable"),
        }
    }
}

impl Fdb {
    /// Connects to the cluster that `cluster_file` names. Does not wait for it: transactions say
    /// `Unavailable` while it can't be reached. The client library may rewrite the file when the
    /// cluster's coordinators change.
    pub fn open(cluster_file: &Path, options: FdbOptions, clock: Arc<dyn Clock>) -> Result<Fdb, OpenError> {
        let unreadable = |cause| OpenError::ClusterFile { path: cluster_file.to_owned(), cause };
        std::fs::read(cluster_file).map_err(unreadable)?;
        let path = cluster_file
            .to_str()
            .filter(|path| !path.contains('\0'))
            .ok_or_else(|| unreadable(std::io::Error::other("its name is not UTF-8")))?;
        if options.prefix.len() > PREFIX_BYTES_MAX || options.prefix.first() == Some(&0xff) {
            return Err(OpenError::Prefix);
        }
        let network = network::join()?;
        let database = connect(path, &options).map_err(|error| OpenError::Client(errors::text(error)))?;
        let shared = Shared {
            database,
            prefix: options.prefix,
            clock,
            waiter: Waiter::start().map_err(|error| OpenError::Client(error.to_string()))?,
            metrics: FdbMetrics::new(),
            begun: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            answered_us: AtomicU64::new(0),
            silence_us_max: u64::from(options.timeout_ms) * 1000 / 2,
            lost: AtomicBool::new(false),
            network: Mutex::new(Some(network)),
        };
        shared.metrics.reachable.set(1.0);
        Ok(Fdb { shared: Arc::new(shared) })
    }
}

fn connect(path: &str, options: &FdbOptions) -> Result<Database, FdbError> {
    let database = Database::from_path(path)?;
    let timeout_ms = i32::try_from(options.timeout_ms.max(1)).unwrap_or(i32::MAX);
    database.set_option(DatabaseOption::TransactionTimeout(timeout_ms))?;
    database.set_option(DatabaseOption::TransactionSizeLimit(TRANSACTION_BYTES_MAX as i32))?;
    Ok(database)
}

impl Engine for Fdb {
    fn name(&self) -> &'static str {
        "fdb"
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn begin(&self) -> Result<Box<dyn EngineTx>, StoreError> {
        self.shared.usable()?;
        if self.shared.lost.load(Ordering::Acquire) {
            return Err(StoreError::Unavailable(errors::NO_ANSWER.into()));
        }
        let trx = self.shared.database.create_trx().map_err(store_error)?;
        Ok(Box::new(FdbTx::new(self.shared.clone(), trx)))
    }

    fn shutdown(&self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.waiter.stop();
        let network = lock(&self.shared.network).take();
        drop(network); // the last one waits for the thread
    }
}

impl Shared {
    fn usable(&self) -> Result<(), StoreError> {
        match self.stopped.load(Ordering::Acquire) {
            true => Err(StoreError::Unavailable("the store is shut down".into())),
            false => Ok(()),
        }
    }

    /// The seam's error for a read's; a timeout is remembered.
    fn read_failed(self: &Arc<Self>, error: FdbError) -> StoreError {
        if errors::is_timeout(error) {
            self.timed_out();
        }
        store_error(error)
    }

    /// The seam's error for a commit's; a timeout is remembered.
    fn commit_failed(self: &Arc<Self>, error: FdbError) -> StoreError {
        if errors::is_timeout(error) {
            self.timed_out();
        }
        errors::commit_error(error)
    }

    /// The cluster has answered something.
    fn answered(&self) {
        self.answered_us.store(self.clock.monotonic_us(), Ordering::Relaxed);
    }

    fn timed_out(self: &Arc<Self>) {
        let silent_us = self.clock.monotonic_us().saturating_sub(self.answered_us.load(Ordering::Relaxed));
        match silent_us < self.silence_us_max {
            true => tracing::warn!("a transaction took too long, though the FoundationDB cluster answers"),
            false => self.lose(),
        }
    }

    /// The cluster did not answer in time: refuse new transactions until it does.
    fn lose(self: &Arc<Self>) {
        if self.lost.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::error!("the FoundationDB cluster does not answer; requests are refused until it does");
        self.metrics.reachable.set(0.0);
        let shared = self.clone();
        self.waiter.spawn(async move {
            if !shared.probe().await {
                return;
            }
            shared.lost.store(false, Ordering::Release);
            shared.metrics.reachable.set(1.0);
            tracing::info!("the FoundationDB cluster answers");
        });
    }

    /// Asks until there is an answer; `false` if the engine stops before.
    async fn probe(&self) -> bool {
        while self.usable().is_ok() {
            match self.ask().await {
                Err(error) if errors::is_timeout(error) => {}
                // Any other refusal is an answer, too: let transactions tell it to their callers.
                Ok(()) | Err(_) => return true,
            }
        }
        false
    }

    /// A read, not only a version: the storage servers must be there, too.
    async fn ask(&self) -> FdbResult<()> {
        const PROBE_MS: i32 = 500;
        let trx = self.database.create_trx()?;
        trx.set_option(TransactionOption::Timeout(PROBE_MS))?;
        let key = [&self.prefix[..], b"\0"].concat();
        trx.get(&key, true).await.map(drop)
    }
}
