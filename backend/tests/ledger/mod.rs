//! Numbered entries with everything that must agree with them: for tests that end a store in ways it did
//! not ask for.
//!
//! An append takes the next number by reading the last, writes its entry and a line of a log under a
//! versionstamp, and counts in every way there is: read and written, added blindly, the greatest and the
//! smallest. After whatever happened, [`Ledger::check`] finds all or nothing of each append, each once and
//! in order, and all counters saying the same.

use backend::store::*;
use bytes::Bytes;
use futures::executor::block_on;

/// What entries look like.
#[derive(Clone, Copy)]
pub struct Ledger {
    /// Entries have any length below, so that a limit or a cut falls anywhere.
    pub entry_bytes: u64,
}

impl Ledger {
    /// Takes the next number and says which.
    pub async fn append(self, tx: &Tx) -> Result<u64, StoreError> {
        let n = number(tx.get(b"last").await?) + 1;
        tx.set("last", n.to_le_bytes().to_vec());
        tx.add(b"count", 1);
        tx.add(b"sum", n);
        tx.max(b"greatest", n);
        tx.min(b"smallest", n);
        tx.set(key(n), self.entry(n));
        tx.append_versionstamped(b"log/", 0, b"", n.to_le_bytes().to_vec());
        Ok(n)
    }

    /// Compares everything in the store; says how many entries there are.
    pub fn check(self, store: &Store) -> u64 {
        let tx = store.begin().expect("begins");
        let counter = |key: &str| number(block_on(tx.get(key.as_bytes())).expect("reads"));
        let all = |begin: &'static str, end: &'static str| {
            let (begin, end) = (begin.into(), end.into());
            let query = RangeQuery { begin, end, limit: usize::MAX, reverse: false, mode: ReadMode::Snapshot };
            block_on(tx.range(query)).expect("reads").pairs
        };
        let log: Vec<u64> = all("log/", "log0").into_iter().map(|(_, value)| number(Some(value))).collect();
        let entries = log.len() as u64;
        assert_eq!(log, (1..=entries).collect::<Vec<_>>(), "the log has all, once, in order");
        let expected = [entries, entries, log.iter().sum(), entries, entries.min(1)];
        let counters = ["last", "count", "sum", "greatest", "smallest"];
        assert_eq!(counters.map(counter), expected, "{counters:?} agree with the log");
        let stored = all("entry/", "entry0");
        assert_eq!(stored.len() as u64, entries);
        for (n, (stored_key, value)) in (1..).zip(stored) {
            assert!(stored_key == key(n) && value == self.entry(n), "entry {n}");
        }
        entries
    }

    fn entry(self, n: u64) -> Vec<u8> {
        vec![n as u8; (n * 7919 % self.entry_bytes) as usize]
    }
}

fn key(n: u64) -> String {
    format!("entry/{n:010}")
}

fn number(value: Option<Bytes>) -> u64 {
    value.map_or(0, |value| u64::from_le_bytes(value[..].try_into().expect("8 bytes")))
}
