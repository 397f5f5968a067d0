//! The whole store, looked through key by key for operators: is it sound ([`check`]), and what is in it
//! ([`stats`]). Reads only.
//!
//! Pages are transactions of their own, so what is written meanwhile may be seen in part: on a store that
//! others write to, [`check`] may report what is only half seen.

mod check;
mod stats;

pub use check::{Checked, check};
pub use stats::{ApplicationStats, Stats, stats};

use bytes::Bytes;
use futures::executor::block_on;

use super::Error;
use crate::store::{RangeQuery, ReadMode, Store};

/// Keys read at a time.
const PAGE: usize = 1000;

/// Reads of a walk.
struct Walk<'a> {
    store: &'a Store,
}

impl Walk<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(block_on(self.store.begin()?.snapshot_get(key))?)
    }

    fn first(&self, begin: Bytes, end: Bytes) -> Result<Option<Bytes>, Error> {
        let query = RangeQuery { begin, end, limit: 1, reverse: false, mode: ReadMode::Snapshot };
        Ok(block_on(self.store.begin()?.range(query))?.pairs.pop().map(|(key, _)| key))
    }

    /// Calls `see` with every pair of a range, in order.
    fn each(
        &self,
        (mut begin, end): (Bytes, Bytes),
        mut see: impl FnMut(Bytes, Bytes) -> Result<(), Error>,
    ) -> Result<(), Error> {
        loop {
            let query = RangeQuery { begin, end: end.clone(), limit: PAGE, reverse: false, mode: ReadMode::Snapshot };
            let page = block_on(self.store.begin()?.range(query))?;
            let Some((last, _)) = page.pairs.last() else { return Ok(()) };
            begin = [&last[..], &[0]].concat().into();
            for (key, value) in page.pairs {
                see(key, value)?;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    fn whole() -> (Bytes, Bytes) {
        (Bytes::new(), Bytes::from_static(&[0xff]))
    }
}
