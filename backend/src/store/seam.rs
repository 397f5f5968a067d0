//! The types of the seam and the two traits an engine implements.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;

/// Longest key, in bytes. FoundationDB's limit is 10,000; the rest is room for the prefix of one
/// deployment among several on a cluster.
pub const KEY_BYTES_MAX: usize = 9_900;
/// Longest such prefix, in bytes. Counted with every key on every engine, whether there is one or not.
pub const PREFIX_BYTES_MAX: usize = 32;
/// Longest value, in bytes (FoundationDB's limit).
pub const VALUE_BYTES_MAX: usize = 100_000;
/// Largest sum of written keys, values and conflict ranges in one transaction, in bytes (FoundationDB's limit).
pub const TRANSACTION_BYTES_MAX: usize = 10_000_000;
/// A transaction older than this is refused (FoundationDB's limit).
pub const TRANSACTION_AGE_MS_MAX: u64 = 5_000;

/// Watches of one store that have not ended yet (FoundationDB's limit for one client).
pub const WATCHES_MAX: usize = 10_000;

/// A commit's place in the store's history; grows with every commit that wrote something.
pub type Version = u64;

/// Where in the history a versionstamped key was written: 8 bytes version, 2 bytes order within the
/// commit's batch (both assigned at commit), 2 bytes chosen by the writer; all big-endian, so byte
/// order is history order. Layout as FoundationDB's tuple versionstamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Versionstamp(pub [u8; Versionstamp::LEN]);

impl Versionstamp {
    /// Length in bytes.
    pub const LEN: usize = 12;
    /// Before everything.
    pub const ZERO: Versionstamp = Versionstamp([0; Self::LEN]);

    /// The stamp of the write `user_version` of the commit at (`version`, `batch_order`).
    pub fn new(version: Version, batch_order: u16, user_version: u16) -> Self {
        let mut stamp = [0; Self::LEN];
        stamp[..8].copy_from_slice(&version.to_be_bytes());
        stamp[8..10].copy_from_slice(&batch_order.to_be_bytes());
        stamp[10..].copy_from_slice(&user_version.to_be_bytes());
        Versionstamp(stamp)
    }

    /// Version and order of the commit.
    pub fn place(&self) -> (Version, u16) {
        let [v0, v1, v2, v3, v4, v5, v6, v7, o0, o1, _, _] = self.0;
        (Version::from_be_bytes([v0, v1, v2, v3, v4, v5, v6, v7]), u16::from_be_bytes([o0, o1]))
    }

    /// Reads a stamp back; `None` unless `bytes` is exactly [`Self::LEN`] long.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Versionstamp)
    }
}

/// What a commit was given: the stamps of its versionstamped keys follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The commit's version. For a transaction that wrote nothing: the version it read at.
    pub version: Version,
    /// Order within the batch that shares the version.
    pub batch_order: u16,
}

impl Committed {
    /// The stamp that [`Tx::append_versionstamped`](super::Tx::append_versionstamped) wrote with `user_version`.
    pub fn stamp(&self, user_version: u16) -> Versionstamp {
        Versionstamp::new(self.version, self.batch_order, user_version)
    }
}

/// Whether a read takes part in conflict detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// The commit fails if what was read has changed since.
    Serializable,
    /// Reads the same snapshot, without a conflict if it changes.
    Snapshot,
}

/// A request for the pairs with `begin <= key < end`.
#[derive(Clone, Debug)]
pub struct RangeQuery {
    /// First key, inclusive.
    pub begin: Bytes,
    /// Last key, exclusive.
    pub end: Bytes,
    /// Most pairs to return; at least 1.
    pub limit: usize,
    /// From the end backwards.
    pub reverse: bool,
    /// Conflict detection. A serialisable range marks what it covered: up to the last pair returned
    /// if the limit cut it, the whole request otherwise.
    pub mode: ReadMode,
}

/// An answer to a [`RangeQuery`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangePage {
    /// Pairs in the order asked for.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// The limit was reached: continue behind the last pair. That page may turn out empty, because
    /// looking further would have been a read of its own.
    pub more: bool,
}

/// Read-modify-write operations that never conflict with each other. Operands and stored values are
/// little-endian unsigned integers of the operand's length, as FoundationDB's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomicOp {
    /// Wrapping addition; an absent value counts as zero.
    Add,
    /// The greater of the two; an absent value gives the operand.
    Max,
    /// The smaller of the two; an absent value gives the operand.
    Min,
}

/// What can go wrong in the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Something read by the transaction was changed by another before the commit. Nothing was written.
    #[error("transaction conflict")]
    Conflict,
    /// The commit may or may not have happened; a retry must find out (idempotency records do).
    #[error("commit result unknown")]
    MaybeCommitted,
    /// The transaction lived longer than [`TRANSACTION_AGE_MS_MAX`].
    #[error("transaction too old")]
    TooOld,
    /// A limit of the seam was passed: says which and by what.
    #[error("over the store's limit: {0}")]
    TooLarge(String),
    /// The bounded queue in front of the engine is full; try again later.
    #[error("store is busy")]
    Busy,
    /// The engine can't be reached or refuses work for now (cluster lost, disk full): says why. Nothing was written.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// Stored bytes don't decode: says which.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
}

impl StoreError {
    /// Whether running the transaction again at once is the right answer.
    pub fn is_retryable(&self) -> bool {
        matches!(self, StoreError::Conflict | StoreError::MaybeCommitted | StoreError::TooOld)
    }
}

/// The result of a read: ready at once on engines that read in place, pending on those that ask a
/// server. The read is under way from the call that made it, polled or not, so several can be started
/// and then awaited one after another at the price of one.
pub enum Reading<T> {
    /// Already there; `None` once taken.
    Ready(Option<Result<T, StoreError>>),
    /// On its way.
    Pending(Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>),
}

impl<T> Reading<T> {
    /// A reading that is already there.
    pub fn ready(result: Result<T, StoreError>) -> Self {
        Reading::Ready(Some(result))
    }
}

impl<T: Unpin> Future for Reading<T> {
    type Output = Result<T, StoreError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Reading::Ready(result) => Poll::Ready(
                result.take().unwrap_or_else(|| Err(StoreError::Damaged("a reading was polled twice".into()))),
            ),
            Reading::Pending(future) => future.as_mut().poll(cx),
        }
    }
}

/// What an engine gives for a watch: ends when the key has changed.
pub type WatchEnd = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// Called exactly once with a commit's outcome: on `Ok` the commit is durable.
pub type CommitDone = Box<dyn FnOnce(Result<Committed, StoreError>) + Send>;

/// A storage engine: hands out transactions. Shared by all threads.
pub trait Engine: Send + Sync + 'static {
    /// Name for logs and the ready line: `embedded`, `memory`, `fdb`.
    fn name(&self) -> &'static str;
    /// Whether reads and commits are round trips to a server. On such an engine commits that are in
    /// flight together may overtake each other or conflict, so the write lane waits for each outcome
    /// before it starts the next body, and the read lane keeps many bodies under way on each thread.
    /// An engine in this process reads at once, orders commits as they are issued, and makes them
    /// durable meanwhile: there, waiting would only cost.
    fn is_remote(&self) -> bool {
        false
    }
    /// Starts a transaction on the newest committed state, which a remote engine settles between this
    /// call and the first read's answer.
    fn begin(&self) -> Result<Box<dyn EngineTx>, StoreError>;
    /// Why the engine has stopped for good, if it has: it acknowledges nothing any more and must be opened
    /// again. What passes by itself (a full disk, a lost cluster) is no such failure.
    fn failure(&self) -> Option<String> {
        None
    }
    /// Stops the engine's threads once everything committed is durable. Later calls answer `Unavailable`.
    fn shutdown(&self);
}

/// One transaction of an engine. Reads see the transaction's own writes. Writes take effect at commit
/// or never. Limits are checked by the front ([`Tx`](super::Tx)) before these are called.
pub trait EngineTx: Send {
    /// The value of `key`.
    fn get(&self, key: &[u8], mode: ReadMode) -> Reading<Option<Bytes>>;
    /// The pairs of a range.
    fn range(&self, query: RangeQuery) -> Reading<RangePage>;
    /// Writes a pair.
    fn set(&self, key: Bytes, value: Bytes);
    /// Removes a key.
    fn clear(&self, key: &[u8]);
    /// Removes every key with `begin <= key < end`.
    fn clear_range(&self, begin: &[u8], end: &[u8]);
    /// Applies `op` at commit, without reading.
    fn atomic(&self, op: AtomicOp, key: &[u8], operand: &[u8]);
    /// Writes `prefix ++ versionstamp(user_version) ++ suffix`, the stamp assigned at commit. Not
    /// visible to this transaction's own reads.
    fn append_versionstamped(&self, prefix: &[u8], user_version: u16, suffix: &[u8], value: Bytes);
    /// Writes the value `prefix ++ versionstamp(user_version) ++ suffix` to `key`, the stamp assigned at
    /// commit. What this transaction's own later reads of `key` give is not defined.
    fn set_versionstamped_value(&self, key: Bytes, prefix: &[u8], user_version: u16, suffix: &[u8]);
    /// The version that reads see.
    fn read_version(&self) -> Reading<Version>;
    /// Ends when the value of `key` is another than this transaction sees now. Set up by the commit,
    /// also if there is nothing to write.
    fn watch(&self, key: &[u8]) -> WatchEnd;
    /// Makes the commit conflict with any write into `begin <= key < end` since this transaction began.
    fn add_read_conflict(&self, begin: &[u8], end: &[u8]);
    /// Makes others that read `begin <= key < end` conflict with this commit.
    fn add_write_conflict(&self, begin: &[u8], end: &[u8]);
    /// Commits. `done` is called once: from this call (conflict, nothing to write and all seen is
    /// durable) or later from an engine thread.
    fn commit(self: Box<Self>, done: CommitDone);
}
