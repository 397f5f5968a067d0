//! A transaction in the making: its write buffer and what it read.
//!
//! The part of [`EngineTx`](super::EngineTx) that is the same for every engine in this process; the
//! engine adds the snapshot underneath and the commit.

use bytes::Bytes;

use super::{
    buffer::{Own, Snapshot, WriteBuffer, after},
    conflicts::ReadSet,
    seam::{RangePage, RangeQuery, ReadMode, StoreError},
};

#[derive(Default)]
pub(super) struct Draft {
    pub(super) writes: WriteBuffer,
    pub(super) reads: ReadSet,
}

impl Draft {
    pub(super) fn get(
        &mut self,
        base: &impl Snapshot,
        key: &[u8],
        mode: ReadMode,
    ) -> Result<Option<Bytes>, StoreError> {
        if mode == ReadMode::Serializable && !matches!(self.writes.own(key), Own::Known(_)) {
            self.reads.add_key(key);
        }
        self.writes.read(base, key)
    }

    pub(super) fn range(&mut self, base: &impl Snapshot, query: &RangeQuery) -> Result<RangePage, StoreError> {
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

    pub(super) fn add_read_conflict(&mut self, begin: &[u8], end: &[u8]) {
        self.reads.add_range(Bytes::copy_from_slice(begin), Bytes::copy_from_slice(end));
    }
}
