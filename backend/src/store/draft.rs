//! A transaction in the making: its write buffer, what it read, and what it wants to watch.
//!
//! All of [`EngineTx`] that is the same for every engine in this process; an engine adds the snapshot
//! underneath and the commit ([`Base`]).

use std::cell::RefCell;

use bytes::Bytes;

use super::{
    buffer::{Own, Snapshot, WriteBuffer, after},
    conflicts::ReadSet,
    seam::{AtomicOp, CommitDone, EngineTx, RangePage, RangeQuery, ReadMode, Reading, StoreError, Version, WatchEnd},
    watches,
};

/// What an engine in this process gives to a transaction.
pub(super) trait Base: Send + 'static {
    /// The committed state that is read.
    fn view(&self) -> &impl Snapshot;
    /// Its version.
    fn version(&self) -> Version;
    /// Commits what was drafted on it.
    fn commit(self, draft: Draft, done: CommitDone);
}

/// A transaction of an engine in this process.
pub(super) struct DraftTx<B> {
    base: B,
    draft: RefCell<Draft>,
}

impl<B> DraftTx<B> {
    pub(super) fn on(base: B) -> Self {
        DraftTx { base, draft: RefCell::default() }
    }
}

impl<B: Base> EngineTx for DraftTx<B> {
    fn get(&self, key: &[u8], mode: ReadMode) -> Reading<Option<Bytes>> {
        Reading::ready(self.draft.borrow_mut().get(self.base.view(), key, mode))
    }

    fn range(&self, query: RangeQuery) -> Reading<RangePage> {
        Reading::ready(self.draft.borrow_mut().range(self.base.view(), &query))
    }

    fn set(&self, key: Bytes, value: Bytes) {
        self.draft.borrow_mut().writes.set(key, value);
    }

    fn clear(&self, key: &[u8]) {
        self.draft.borrow_mut().writes.clear(key);
    }

    fn clear_range(&self, begin: &[u8], end: &[u8]) {
        self.draft.borrow_mut().writes.clear_range(begin, end);
    }

    fn atomic(&self, op: AtomicOp, key: &[u8], operand: &[u8]) {
        self.draft.borrow_mut().writes.atomic(op, key, operand);
    }

    fn append_versionstamped(&self, prefix: &[u8], user_version: u16, suffix: &[u8], value: Bytes) {
        self.draft.borrow_mut().writes.append_versionstamped(prefix, user_version, suffix, value);
    }

    fn set_versionstamped_value(&self, key: Bytes, prefix: &[u8], user_version: u16, suffix: &[u8]) {
        self.draft.borrow_mut().writes.set_versionstamped_value(key, prefix, user_version, suffix);
    }

    fn read_version(&self) -> Reading<Version> {
        Reading::ready(Ok(self.base.version()))
    }

    fn watch(&self, key: &[u8]) -> WatchEnd {
        self.draft.borrow_mut().watch(self.base.view(), key)
    }

    fn add_read_conflict(&self, begin: &[u8], end: &[u8]) {
        self.draft.borrow_mut().add_read_conflict(begin, end);
    }

    fn add_write_conflict(&self, begin: &[u8], end: &[u8]) {
        self.draft.borrow_mut().writes.add_conflict(begin, end);
    }

    fn commit(self: Box<Self>, done: CommitDone) {
        let DraftTx { base, draft } = *self;
        base.commit(draft.into_inner(), done);
    }
}

#[derive(Default)]
pub(super) struct Draft {
    pub(super) writes: WriteBuffer,
    pub(super) reads: ReadSet,
    pub(super) watches: Vec<watches::Pending>,
}

impl Draft {
    fn get(&mut self, base: &impl Snapshot, key: &[u8], mode: ReadMode) -> Result<Option<Bytes>, StoreError> {
        if mode == ReadMode::Serializable && !matches!(self.writes.own(key), Own::Known(_)) {
            self.reads.add_key(key);
        }
        self.writes.read(base, key)
    }

    fn range(&mut self, base: &impl Snapshot, query: &RangeQuery) -> Result<RangePage, StoreError> {
        let page = self.writes.read_range(base, query)?;
        if query.mode == ReadMode::Serializable {
            let last = page.pairs.last().filter(|_| page.more).map(|(key, _)| key);
            let (begin, end) = match last {
                Some(last) if query.reverse => (last.clone(), query.end.clone()),
                Some(last) => (query.begin.clone(), after(last)),
                None => (query.begin.clone(), query.end.clone()),
            };
            self.writes.for_each_gap(&begin, &end, |begin, end| self.reads.add_range(begin, end));
        }
        Ok(page)
    }

    fn watch(&mut self, base: &impl Snapshot, key: &[u8]) -> WatchEnd {
        match self.writes.read(base, key) {
            Ok(seen) => {
                let (pending, end) = watches::pending(key, seen);
                self.watches.push(pending);
                end
            }
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn add_read_conflict(&mut self, begin: &[u8], end: &[u8]) {
        self.reads.add_range(Bytes::copy_from_slice(begin), Bytes::copy_from_slice(end));
    }
}
