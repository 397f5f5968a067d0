//! One transaction of FoundationDB's.

use std::{
    cell::{Cell, RefCell},
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use foundationdb::{
    FdbError, FdbResult, KeySelector, RangeOption, Transaction,
    future::FdbValues,
    options::{ConflictRangeType, MutationType, StreamingMode},
};
use futures::{FutureExt as _, future::BoxFuture};

use super::{
    super::seam::{
        AtomicOp, CommitDone, Committed, EngineTx, RangePage, RangeQuery, ReadMode, Reading, StoreError, Version,
        Versionstamp, WatchEnd,
    },
    Shared, errors,
};

/// A transaction, with the deployment's prefix put before every key.
pub(super) struct FdbTx {
    shared: Arc<Shared>,
    /// Shared with the range reads under way, which may need a second request.
    trx: Arc<Transaction>,
    /// Asked for at the beginning: what is committed later conflicts, whether or not something was
    /// read by then.
    read_version: BoxFuture<'static, FdbResult<i64>>,
    /// Something is there to be committed.
    writes: Cell<bool>,
    /// Versionstamped writes, in order, with the prefix that the stamp follows. Issued with the commit:
    /// FoundationDB refuses range reads over anything that they may become.
    appends: RefCell<Vec<Append>>,
    /// The first call that FoundationDB refused; told by the commit.
    refused: Cell<Option<FdbError>>,
    /// Two keys with their prefix, built here to spare an allocation for each call.
    keys: RefCell<[Vec<u8>; 2]>,
}

struct Append {
    prefix: Vec<u8>,
    key: Vec<u8>,
    value: Bytes,
}

impl Append {
    /// Whether what it writes may be in the range.
    fn may_be_in(&self, begin: &[u8], end: &[u8]) -> bool {
        let behind_begin = &self.prefix[..] >= begin || begin.starts_with(&self.prefix);
        behind_begin && &self.prefix[..] < end
    }
}

impl FdbTx {
    pub(super) fn new(shared: Arc<Shared>, trx: Transaction) -> Self {
        if shared.begun.fetch_add(1, Ordering::Relaxed).is_multiple_of(READ_VERSIONS_TIMED) {
            time_read_version(&shared, &trx);
        }
        let keys = RefCell::new([shared.prefix.clone(), shared.prefix.clone()]);
        FdbTx {
            read_version: trx.get_read_version().boxed(),
            writes: Cell::new(false),
            appends: RefCell::default(),
            refused: Cell::new(None),
            keys,
            trx: Arc::new(trx),
            shared,
        }
    }

    fn with_key<R>(&self, key: &[u8], call: impl FnOnce(&[u8]) -> R) -> R {
        self.with_keys(key, &[], |key, _| call(key))
    }

    fn with_keys<R>(&self, first: &[u8], second: &[u8], call: impl FnOnce(&[u8], &[u8]) -> R) -> R {
        let mut keys = self.keys.borrow_mut();
        for (built, key) in keys.iter_mut().zip([first, second]) {
            built.truncate(self.shared.prefix.len());
            built.extend_from_slice(key);
        }
        let [first, second] = &*keys;
        call(first, second)
    }

    fn add_conflict(&self, begin: &[u8], end: &[u8], kind: ConflictRangeType) {
        if begin >= end {
            return; // nothing is in it; FoundationDB would call it an error
        }
        let added = self.with_keys(begin, end, |begin, end| self.trx.add_conflict_range(begin, end, kind));
        if let Err(error) = added {
            self.refused.set(self.refused.get().or(Some(error)));
        }
    }

    /// What records a read's time and translates its error.
    fn answer<T>(&self) -> impl FnOnce(FdbResult<T>) -> Result<T, StoreError> + Send + 'static + use<T> {
        let shared = self.shared.clone();
        let began_us = shared.clock.monotonic_us();
        move |result| match result {
            Ok(value) => {
                shared.answered();
                let took_us = shared.clock.monotonic_us().saturating_sub(began_us);
                shared.metrics.read_seconds.record(took_us as f64 / 1e6);
                Ok(value)
            }
            Err(error) => Err(shared.read_failed(error)),
        }
    }
}

impl EngineTx for FdbTx {
    fn get(&self, key: &[u8], mode: ReadMode) -> Reading<Option<Bytes>> {
        let value = self.with_key(key, |key| self.trx.get(key, mode == ReadMode::Snapshot));
        let copied = value.map(|value| value.map(|value| value.map(|bytes| Bytes::copy_from_slice(&bytes))));
        Reading::Pending(Box::pin(copied.map(self.answer())))
    }

    fn range(&self, query: RangeQuery) -> Reading<RangePage> {
        if query.begin >= query.end {
            return Reading::ready(Ok(RangePage::default()));
        }
        let (begin, end) = self.with_keys(&query.begin, &query.end, |begin, end| (begin.to_vec(), end.to_vec()));
        let walk = RangeWalk {
            trx: self.trx.clone(),
            prefix_len: self.shared.prefix.len(),
            begin: KeySelector::first_greater_or_equal(begin),
            end: KeySelector::first_greater_or_equal(end),
            limit: query.limit,
            reverse: query.reverse,
            snapshot: query.mode == ReadMode::Snapshot,
        };
        Reading::Pending(Box::pin(walk.start().map(self.answer())))
    }

    fn set(&self, key: Bytes, value: Bytes) {
        self.writes.set(true);
        self.with_key(&key, |key| self.trx.set(key, &value));
    }

    fn clear(&self, key: &[u8]) {
        self.writes.set(true);
        self.with_key(key, |key| self.trx.clear(key));
    }

    fn clear_range(&self, begin: &[u8], end: &[u8]) {
        if begin < end {
            self.writes.set(true);
            self.with_keys(begin, end, |begin, end| {
                // What was appended before the clear goes with it.
                if self.appends.borrow().iter().any(|append| append.may_be_in(begin, end)) {
                    self.appends.borrow_mut().drain(..).for_each(|append| issue(&self.trx, &append));
                }
                self.trx.clear_range(begin, end);
            });
        }
    }

    fn atomic(&self, op: AtomicOp, key: &[u8], operand: &[u8]) {
        self.writes.set(true);
        let op = match op {
            AtomicOp::Add => MutationType::Add,
            AtomicOp::Max => MutationType::Max,
            AtomicOp::Min => MutationType::Min,
        };
        self.with_key(key, |key| self.trx.atomic_op(key, operand, op));
    }

    fn append_versionstamped(&self, prefix: &[u8], user_version: u16, suffix: &[u8], value: Bytes) {
        self.writes.set(true);
        let all_prefix = &self.shared.prefix[..];
        // The stamp's first ten bytes are filled in at commit; the last four bytes say where.
        let stamp = Versionstamp::new(0, 0, user_version).0;
        let at = ((all_prefix.len() + prefix.len()) as u32).to_le_bytes();
        let key = [all_prefix, prefix, &stamp, suffix, &at].concat();
        self.appends.borrow_mut().push(Append { prefix: [all_prefix, prefix].concat(), key, value });
    }

    fn set_versionstamped_value(&self, key: Bytes, prefix: &[u8], user_version: u16, suffix: &[u8]) {
        self.writes.set(true);
        let stamp = Versionstamp::new(0, 0, user_version).0;
        let at = (prefix.len() as u32).to_le_bytes();
        let value = [prefix, &stamp, suffix, &at].concat();
        self.with_key(&key, |key| self.trx.atomic_op(key, &value, MutationType::SetVersionstampedValue));
    }

    fn read_version(&self) -> Reading<Version> {
        let version = self.trx.get_read_version().map(|version| version.map(i64::unsigned_abs));
        Reading::Pending(Box::pin(version.map(self.answer())))
    }

    fn watch(&self, key: &[u8]) -> WatchEnd {
        // Only a commit sets it up, also one that writes nothing.
        self.writes.set(true);
        let end = self.with_key(key, |key| self.trx.watch(key));
        Box::pin(end.map(|result| result.map_err(errors::store_error)))
    }

    fn add_read_conflict(&self, begin: &[u8], end: &[u8]) {
        self.add_conflict(begin, end, ConflictRangeType::Read);
    }

    fn add_write_conflict(&self, begin: &[u8], end: &[u8]) {
        self.writes.set(true);
        self.add_conflict(begin, end, ConflictRangeType::Write);
    }

    fn commit(self: Box<Self>, done: CommitDone) {
        let FdbTx { shared, trx, mut read_version, writes, refused, appends, .. } = *self;
        if let Err(error) = refused.get().map_or(Ok(()), |error| Err(errors::store_error(error))).and(shared.usable()) {
            return done(Err(error));
        }
        if !writes.get() {
            // Right as of its read version, which any read has already brought. What FoundationDB
            // lets read is durable.
            return match (&mut read_version).now_or_never() {
                Some(version) => done(read_only(&shared, version)),
                None => shared.clone().waiter.spawn(async move {
                    let version = read_version.await;
                    drop(trx); // lives until its version is there
                    done(read_only(&shared, version));
                }),
            };
        }
        let Ok(trx) = Arc::try_unwrap(trx) else {
            return done(Err(StoreError::Unavailable("a range read of the transaction is still under way".into())));
        };
        appends.into_inner().iter().for_each(|append| issue(&trx, append));
        let stamp = trx.get_versionstamp();
        let commit = trx.commit();
        shared.clone().waiter.spawn(async move {
            let outcome = match commit.await {
                Err(error) => Err(shared.commit_failed(error.into())),
                Ok(_committed) => {
                    shared.answered();
                    match stamp.await {
                        Ok(stamp) => from_stamp(&stamp),
                        Err(error) if errors::is_read_only(error) => read_only(&shared, read_version.await),
                        // Committed, but where is not known: a retry finds out.
                        Err(_) => Err(StoreError::MaybeCommitted),
                    }
                }
            };
            done(outcome);
        });
    }
}

/// One in so many transactions has its read version timed: nobody else waits for that alone.
const READ_VERSIONS_TIMED: u64 = 16;

fn time_read_version(shared: &Arc<Shared>, trx: &Transaction) {
    let (begun_us, version, timing) = (shared.clock.monotonic_us(), trx.get_read_version(), shared.clone());
    shared.waiter.spawn(async move {
        // It ends early with the transaction, and is not counted then.
        if version.await.is_ok() {
            let took_us = timing.clock.monotonic_us().saturating_sub(begun_us);
            timing.metrics.read_version_seconds.record(took_us as f64 / 1e6);
        }
    });
}

fn issue(trx: &Transaction, append: &Append) {
    trx.atomic_op(&append.key, &append.value, MutationType::SetVersionstampedKey);
}

fn read_only(shared: &Arc<Shared>, version: FdbResult<i64>) -> Result<Committed, StoreError> {
    let version = version.map_err(|error| shared.read_failed(error))?;
    Ok(Committed { version: version.unsigned_abs(), batch_order: 0 })
}

/// Reads the ten bytes that FoundationDB put into versionstamped keys.
fn from_stamp(stamp: &[u8]) -> Result<Committed, StoreError> {
    let parts = stamp.split_first_chunk::<8>().and_then(|(version, rest)| Some((version, rest.try_into().ok()?)));
    let (version, batch_order) = parts.ok_or_else(|| StoreError::Damaged("a versionstamp is ten bytes long".into()))?;
    Ok(Committed { version: u64::from_be_bytes(*version), batch_order: u16::from_be_bytes(batch_order) })
}

/// A range read: as many requests as it takes to reach the limit or the end.
struct RangeWalk {
    trx: Arc<Transaction>,
    prefix_len: usize,
    begin: KeySelector<'static>,
    end: KeySelector<'static>,
    limit: usize,
    reverse: bool,
    snapshot: bool,
}

impl RangeWalk {
    /// Sends the first request before it returns.
    fn start(mut self) -> impl Future<Output = FdbResult<RangePage>> + Send + 'static {
        let mut answer = self.request(self.limit);
        async move {
            let mut page = RangePage::default();
            loop {
                let values = answer.await?;
                page.pairs.extend(values.iter().map(|pair| {
                    let key = pair.key().get(self.prefix_len..).unwrap_or_default();
                    (Bytes::copy_from_slice(key), Bytes::copy_from_slice(pair.value()))
                }));
                page.more = page.pairs.len() >= self.limit;
                let Some(last) = values.last().filter(|_| values.more() && !page.more) else { return Ok(page) };
                match self.reverse {
                    true => self.end = KeySelector::first_greater_or_equal(last.key().to_vec()),
                    false => self.begin = KeySelector::first_greater_than(last.key().to_vec()),
                }
                answer = self.request(self.limit - page.pairs.len());
            }
        }
    }

    fn request(&self, limit: usize) -> BoxFuture<'static, FdbResult<FdbValues>> {
        let options = RangeOption {
            begin: self.begin.clone(),
            end: self.end.clone(),
            limit: Some(limit),
            // Everything up to the limit is wanted: as much of it in an answer as fits.
            mode: StreamingMode::WantAll,
            reverse: self.reverse,
            ..RangeOption::default()
        };
        self.trx.get_range(&options, 1, self.snapshot).boxed()
    }
}
