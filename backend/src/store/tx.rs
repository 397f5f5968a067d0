//! [`Tx`]: a transaction as the code above the seam sees it.
//!
//! What lives here: the seam's limits, checked once for all engines. A write returns nothing, so a
//! limit it passes is remembered: every later read and the commit fail with it. What may not:
//! anything an engine could do differently.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    sync::Arc,
};

use bytes::Bytes;
use futures::channel::oneshot;

use super::{
    seam::{
        AtomicOp, CommitDone, Committed, EngineTx, KEY_BYTES_MAX, PREFIX_BYTES_MAX, RangePage, RangeQuery, ReadMode,
        Reading, StoreError, TRANSACTION_AGE_MS_MAX, TRANSACTION_BYTES_MAX, VALUE_BYTES_MAX, Version, Versionstamp,
    },
    watches::{Places, Watch},
};
use crate::env::Clock;

/// Keys from here on belong to the engines, as in FoundationDB.
const KEYS_END: &[u8] = &[0xff];

/// What became of earlier runs of the same transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    /// One may have been committed.
    pub is_unclear: bool,
    /// The last one was overtaken: it conflicted, or took too long.
    pub is_overtaken: bool,
}

/// A transaction. Dropped without a commit, it leaves nothing behind.
pub struct Tx {
    engine_tx: Box<dyn EngineTx>,
    clock: Arc<dyn Clock>,
    remote: bool,
    watches: Places,
    earlier: Earlier,
    began_us: u64,
    bytes: Cell<usize>,
    failed: RefCell<Option<StoreError>>,
}

impl Tx {
    pub(super) fn new(
        engine_tx: Box<dyn EngineTx>,
        clock: Arc<dyn Clock>,
        remote: bool,
        watches: Places,
        earlier: Earlier,
    ) -> Self {
        let began_us = clock.monotonic_us();
        let (bytes, failed) = (Cell::new(0), RefCell::new(None));
        Tx { engine_tx, clock, remote, watches, earlier, began_us, bytes, failed }
    }

    /// What became of earlier runs.
    pub fn earlier(&self) -> Earlier {
        self.earlier
    }

    /// Whether a read is a round trip, so that it pays to start reads before their results are needed.
    pub fn is_remote(&self) -> bool {
        self.remote
    }

    /// The value of `key`; the commit fails if it changes until then.
    pub fn get(&self, key: &[u8]) -> Reading<Option<Bytes>> {
        self.read(key, ReadMode::Serializable)
    }

    /// The value of `key`, with no conflict if it changes.
    pub fn snapshot_get(&self, key: &[u8]) -> Reading<Option<Bytes>> {
        self.read(key, ReadMode::Snapshot)
    }

    /// A page of a range.
    pub fn range(&self, query: RangeQuery) -> Reading<RangePage> {
        let conflict_bytes = range_bytes(&query.begin, &query.end);
        self.charge(if query.mode == ReadMode::Serializable { conflict_bytes } else { 0 });
        if query.limit == 0 {
            self.fail(StoreError::TooLarge("a range read needs a limit of at least 1".into()));
        }
        self.check_range(&query.begin, &query.end);
        match self.usable() {
            Ok(()) => self.engine_tx.range(query),
            Err(error) => Reading::ready(Err(error)),
        }
    }

    /// Writes a pair.
    pub fn set(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        if self.check_write(&key, value.len()) {
            self.engine_tx.set(key, value);
        }
    }

    /// Removes a key.
    pub fn clear(&self, key: &[u8]) {
        // FoundationDB removes the range from the key to the next.
        self.charge(key_bytes(key.len()));
        if self.check_write(key, 0) {
            self.engine_tx.clear(key);
        }
    }

    /// Removes every key with `begin <= key < end`. On the embedded engine the cost is that of
    /// removing each key alone: clear what may be large in portions.
    pub fn clear_range(&self, begin: &[u8], end: &[u8]) {
        self.charge(2 * range_bytes(begin, end));
        if self.check_range(begin, end) {
            self.engine_tx.clear_range(begin, end);
        }
    }

    /// Adds to the counter at `key` (8 bytes, little-endian, wrapping; absent counts as zero), without reading it.
    pub fn add(&self, key: &[u8], delta: u64) {
        self.atomic(AtomicOp::Add, key, &delta.to_le_bytes());
    }

    /// Raises the number at `key` (8 bytes, little-endian) to at least `value`, without reading it.
    pub fn max(&self, key: &[u8], value: u64) {
        self.atomic(AtomicOp::Max, key, &value.to_le_bytes());
    }

    /// Lowers the number at `key` (8 bytes, little-endian) to at most `value`, without reading it.
    /// An absent number becomes `value`.
    pub fn min(&self, key: &[u8], value: u64) {
        self.atomic(AtomicOp::Min, key, &value.to_le_bytes());
    }

    /// Applies `op` to the value at `key` at commit, without reading it; the operand's width decides the result's.
    pub fn atomic(&self, op: AtomicOp, key: &[u8], operand: &[u8]) {
        if self.check_write(key, operand.len()) {
            self.engine_tx.atomic(op, key, operand);
        }
    }

    /// Writes `prefix ++ versionstamp ++ suffix`, the stamp being [`Committed::stamp`] of
    /// `user_version`. This transaction's own reads do not see it.
    pub fn append_versionstamped(&self, prefix: &[u8], user_version: u16, suffix: &[u8], value: impl Into<Bytes>) {
        let value = value.into();
        let key_len = prefix.len() + Versionstamp::LEN + suffix.len();
        if self.check_key(prefix.first(), key_len) && self.check_sizes(key_len, value.len()) {
            self.engine_tx.append_versionstamped(prefix, user_version, suffix, value);
        }
    }

    /// Writes the value `prefix ++ versionstamp ++ suffix` to `key`, the stamp being [`Committed::stamp`]
    /// of `user_version`. This transaction must not read `key` afterwards: what it would see is not
    /// defined.
    pub fn set_versionstamped_value(&self, key: impl Into<Bytes>, prefix: &[u8], user_version: u16, suffix: &[u8]) {
        let key = key.into();
        if self.check_write(&key, prefix.len() + Versionstamp::LEN + suffix.len()) {
            self.engine_tx.set_versionstamped_value(key, prefix, user_version, suffix);
        }
    }

    /// The version that this transaction's reads see: everything that was committed up to it.
    pub fn read_version(&self) -> Reading<Version> {
        match self.usable() {
            Ok(()) => self.engine_tx.read_version(),
            Err(error) => Reading::ready(Err(error)),
        }
    }

    /// Ends when the value of `key` is another than this transaction sees now; it may also end without
    /// that. The commit sets it up, also if there is nothing to write; without the commit it ends with an
    /// error. No conflict comes of it. At most [`WATCHES_MAX`](super::WATCHES_MAX) of a store at a time.
    pub fn watch(&self, key: &[u8]) -> Watch {
        self.check_key(key.first(), key.len());
        match self.usable().and_then(|()| self.watches.take()) {
            Ok(place) => Watch::new(self.engine_tx.watch(key), place),
            Err(error) => Watch::refused(error),
        }
    }

    /// Makes the commit conflict with any write into `begin <= key < end` since this transaction began.
    pub fn add_read_conflict(&self, begin: &[u8], end: &[u8]) {
        self.charge(range_bytes(begin, end));
        if self.check_range(begin, end) {
            self.engine_tx.add_read_conflict(begin, end);
        }
    }

    /// Makes others that read `begin <= key < end` conflict with this commit.
    pub fn add_write_conflict(&self, begin: &[u8], end: &[u8]) {
        self.charge(range_bytes(begin, end));
        if self.check_range(begin, end) {
            self.engine_tx.add_write_conflict(begin, end);
        }
    }

    /// Commits. On success the commit is durable.
    pub fn commit(self) -> impl Future<Output = Result<Committed, StoreError>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        self.commit_then(Box::new(move |result| {
            let _ = sender.send(result); // nobody waits any more: nobody to tell
        }));
        async { receiver.await.unwrap_or(Err(StoreError::MaybeCommitted)) }
    }

    /// Commits, and calls `done` once with the outcome, from here or from a thread of the engine.
    pub fn commit_then(self, done: CommitDone) {
        match self.usable() {
            Ok(()) => self.engine_tx.commit(done),
            Err(error) => done(Err(error)),
        }
    }

    fn read(&self, key: &[u8], mode: ReadMode) -> Reading<Option<Bytes>> {
        self.charge(if mode == ReadMode::Serializable { key_conflict_bytes(key.len()) } else { 0 });
        self.check_key(key.first(), key.len());
        match self.usable() {
            Ok(()) => self.engine_tx.get(key, mode),
            Err(error) => Reading::ready(Err(error)),
        }
    }

    fn usable(&self) -> Result<(), StoreError> {
        if let Some(error) = &*self.failed.borrow() {
            return Err(error.clone());
        }
        if self.clock.monotonic_us().saturating_sub(self.began_us) > TRANSACTION_AGE_MS_MAX * 1000 {
            return Err(StoreError::TooOld);
        }
        Ok(())
    }

    fn check_write(&self, key: &[u8], value_len: usize) -> bool {
        self.check_key(key.first(), key.len()) && self.check_sizes(key.len(), value_len)
    }

    fn check_key(&self, first: Option<&u8>, len: usize) -> bool {
        match first {
            None => self.fail(StoreError::TooLarge("a key is at least one byte long".into())),
            Some(0xff) => self.fail(StoreError::TooLarge("keys that begin with 0xff are the engine's own".into())),
            Some(_) if len > KEY_BYTES_MAX => self.fail(over("key", len, KEY_BYTES_MAX)),
            Some(_) => true,
        }
    }

    fn check_range(&self, begin: &[u8], end: &[u8]) -> bool {
        let longest = begin.len().max(end.len());
        if begin > KEYS_END || end > KEYS_END {
            self.fail(StoreError::TooLarge("a range ends at 0xff at most".into()))
        } else if longest > KEY_BYTES_MAX {
            self.fail(over("key", longest, KEY_BYTES_MAX))
        } else {
            self.failed.borrow().is_none()
        }
    }

    fn check_sizes(&self, key_len: usize, value_len: usize) -> bool {
        self.charge(key_bytes(key_len) + value_len + key_conflict_bytes(key_len));
        if value_len > VALUE_BYTES_MAX {
            return self.fail(over("value", value_len, VALUE_BYTES_MAX));
        }
        self.failed.borrow().is_none()
    }

    /// Bytes that its limit counts so far: keys and values that it writes, and conflict ranges.
    pub(crate) fn charged_bytes(&self) -> usize {
        self.bytes.get()
    }

    fn charge(&self, bytes: usize) {
        let sum = self.bytes.get().saturating_add(bytes);
        self.bytes.set(sum);
        if sum > TRANSACTION_BYTES_MAX {
            self.fail(over("transaction", sum, TRANSACTION_BYTES_MAX));
        }
    }

    /// Remembers the first failure; says `false` for the caller to return.
    fn fail(&self, error: StoreError) -> bool {
        self.failed.borrow_mut().get_or_insert(error);
        false
    }
}

/// What a key counts: as on the engine where it is longest, behind a prefix and with the four bytes that
/// say where a stamp goes.
fn key_bytes(len: usize) -> usize {
    PREFIX_BYTES_MAX + len + 4
}

fn range_bytes(begin: &[u8], end: &[u8]) -> usize {
    key_bytes(begin.len()) + key_bytes(end.len())
}

/// A conflict on one key is the range from the key to the next.
fn key_conflict_bytes(key_len: usize) -> usize {
    2 * key_bytes(key_len) + 1
}

fn over(what: &str, bytes: usize, bytes_max: usize) -> StoreError {
    StoreError::TooLarge(format!("a {what} of {bytes} bytes, at most {bytes_max} are allowed"))
}
