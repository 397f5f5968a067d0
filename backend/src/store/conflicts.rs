//! Optimistic validation: what a transaction read, against what others wrote since.
//!
//! Shared by the engines that keep their transactions in this process. An engine holds one
//! [`RecentWrites`] under the lock that also guards its newest version. Writes are remembered only
//! while a transaction is open that began before them: with one write lane and nobody else, nothing
//! is ever recorded or compared.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, HashSet, VecDeque},
};

use bytes::Bytes;

use super::{
    buffer::KeyRange,
    seam::{StoreError, Version},
};

/// What one transaction read with conflict detection on.
///
/// Keys go into one arena, unsorted and with repeats: recording a read is two appends, and whatever
/// costs more waits until a commit really has to be compared.
#[derive(Default)]
pub(super) struct ReadSet {
    arena: Vec<u8>,
    key_ends: Vec<usize>,
    ranges: Vec<KeyRange>,
}

impl ReadSet {
    pub(super) fn add_key(&mut self, key: &[u8]) {
        self.arena.extend_from_slice(key);
        self.key_ends.push(self.arena.len());
    }

    pub(super) fn add_range(&mut self, begin: Bytes, end: Bytes) {
        if begin < end {
            self.ranges.push((begin, end));
        }
    }

    fn is_empty(&self) -> bool {
        self.key_ends.is_empty() && self.ranges.is_empty()
    }

    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.key_ends.iter().copied());
        begins.zip(&self.key_ends).filter_map(|(begin, end)| self.arena.get(begin..*end))
    }
}

struct CommitWrites {
    version: Version,
    keys: Vec<Bytes>,
    ranges: Vec<KeyRange>,
    bytes: usize,
}

/// The writes of the newest commits, as far back as an open transaction may need them.
pub(super) struct RecentWrites {
    commits: VecDeque<CommitWrites>,
    bytes: usize,
    bytes_max: usize,
    /// Commits up to here are forgotten: whoever began before can't be validated.
    forgotten: Version,
    /// Open transactions by the version they read at.
    open: BTreeMap<Version, usize>,
}

impl RecentWrites {
    /// A window that starts at `version` and forgets the oldest writes beyond `bytes_max`.
    pub(super) fn new(version: Version, bytes_max: usize) -> Self {
        RecentWrites { commits: VecDeque::new(), bytes: 0, bytes_max, forgotten: version, open: BTreeMap::new() }
    }

    /// A transaction that reads at `version` began.
    pub(super) fn opened(&mut self, version: Version) {
        *self.open.entry(version).or_default() += 1;
    }

    /// A transaction that read at `version` ended, one way or the other.
    pub(super) fn closed(&mut self, version: Version) {
        if let Some(count) = self.open.get_mut(&version) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&version);
                self.forget_unneeded();
            }
        }
    }

    /// The version of the oldest open transaction.
    pub(super) fn oldest_open(&self) -> Option<Version> {
        self.open.keys().next().copied()
    }

    /// Whether `reads`, taken at `read_version`, still hold. Call it with the newest version so far.
    pub(super) fn validate(&self, read_version: Version, newest: Version, reads: &ReadSet) -> Result<(), StoreError> {
        if read_version == newest || reads.is_empty() {
            return Ok(());
        }
        if read_version < self.forgotten {
            return Err(StoreError::TooOld);
        }
        let index = ReadIndex::new(reads);
        let since = self.commits.iter().rev().take_while(|commit| commit.version > read_version);
        let hit = |commit: &CommitWrites| {
            commit.keys.iter().any(|key| index.covers(key)) || commit.ranges.iter().any(|range| index.touches(range))
        };
        if since.into_iter().any(hit) { Err(StoreError::Conflict) } else { Ok(()) }
    }

    /// The commit `version` wrote what `written` tells. Call it under the lock that hands out read
    /// versions, and best after [`Self::closed`] for the transaction itself.
    pub(super) fn record(&mut self, version: Version, written: impl FnOnce() -> (Vec<Bytes>, Vec<KeyRange>)) {
        if self.open.is_empty() {
            self.forgotten = version;
            return;
        }
        /// The containers' own share for an entry.
        const ENTRY_BYTES: usize = 64;
        let (keys, ranges) = written();
        let key_bytes: usize = keys.iter().map(|key| key.len() + ENTRY_BYTES).sum();
        let range_bytes: usize = ranges.iter().map(|(begin, end)| begin.len() + end.len() + 2 * ENTRY_BYTES).sum();
        let bytes = key_bytes + range_bytes;
        self.commits.push_back(CommitWrites { version, keys, ranges, bytes });
        self.bytes += bytes;
        while self.bytes > self.bytes_max && self.forget_oldest() {}
    }

    fn forget_unneeded(&mut self) {
        let needed_after = self.oldest_open().unwrap_or(Version::MAX);
        while self.commits.front().is_some_and(|commit| commit.version <= needed_after) && self.forget_oldest() {}
    }

    fn forget_oldest(&mut self) -> bool {
        let Some(commit) = self.commits.pop_front() else { return false };
        self.bytes -= commit.bytes;
        self.forgotten = commit.version;
        true
    }
}

/// A read set, arranged for many questions.
struct ReadIndex<'a> {
    reads: &'a ReadSet,
    keys: HashSet<&'a [u8], ahash::RandomState>,
    /// Disjoint, in order.
    ranges: Vec<(&'a [u8], &'a [u8])>,
    /// The keys in order: only range writes ask for it.
    ordered: OnceCell<Vec<&'a [u8]>>,
}

impl<'a> ReadIndex<'a> {
    fn new(reads: &'a ReadSet) -> Self {
        let mut sorted: Vec<(&[u8], &[u8])> = reads.ranges.iter().map(|(begin, end)| (&begin[..], &end[..])).collect();
        sorted.sort_unstable();
        let mut ranges: Vec<(&[u8], &[u8])> = Vec::with_capacity(sorted.len());
        for (begin, end) in sorted {
            match ranges.last_mut() {
                Some((_, last_end)) if begin <= *last_end => *last_end = end.max(*last_end),
                _ => ranges.push((begin, end)),
            }
        }
        ReadIndex { reads, keys: reads.keys().collect(), ranges, ordered: OnceCell::new() }
    }

    fn covers(&self, key: &[u8]) -> bool {
        let behind = self.ranges.partition_point(|(begin, _)| *begin <= key);
        let before = behind.checked_sub(1).and_then(|at| self.ranges.get(at));
        self.keys.contains(key) || before.is_some_and(|(_, end)| key < *end)
    }

    fn touches(&self, (begin, end): &KeyRange) -> bool {
        let keys = self.ordered_keys();
        let first_key = keys.partition_point(|key| *key < &begin[..]);
        let first_range = self.ranges.partition_point(|(_, range_end)| *range_end <= &begin[..]);
        keys.get(first_key).is_some_and(|key| *key < &end[..])
            || self.ranges.get(first_range).is_some_and(|(range_begin, _)| *range_begin < &end[..])
    }

    fn ordered_keys(&self) -> &[&'a [u8]] {
        self.ordered.get_or_init(|| {
            let mut keys: Vec<&[u8]> = self.reads.keys().collect();
            keys.sort_unstable();
            keys
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(keys: &[&str], ranges: &[(&str, &str)]) -> ReadSet {
        let mut set = ReadSet::default();
        keys.iter().for_each(|key| set.add_key(key.as_bytes()));
        ranges.iter().for_each(|(begin, end)| {
            set.add_range(Bytes::copy_from_slice(begin.as_bytes()), Bytes::copy_from_slice(end.as_bytes()));
        });
        set
    }

    fn keys(keys: &[&'static str]) -> (Vec<Bytes>, Vec<KeyRange>) {
        (keys.iter().map(|key| Bytes::from(*key)).collect(), Vec::new())
    }

    #[test]
    fn points_and_ranges_meet_all_ways() {
        let mut recent = RecentWrites::new(0, 1 << 20);
        recent.opened(0);
        recent.record(1, || keys(&["b", "m"]));
        recent.record(2, || (Vec::new(), vec![("p".into(), "r".into())]));
        let verdict = |set: &ReadSet| recent.validate(0, 2, set);
        assert_eq!(verdict(&reads(&["b"], &[])), Err(StoreError::Conflict));
        assert_eq!(verdict(&reads(&["q"], &[])), Err(StoreError::Conflict));
        assert_eq!(verdict(&reads(&[], &[("l", "n")])), Err(StoreError::Conflict));
        assert_eq!(verdict(&reads(&[], &[("a", "b\0")])), Err(StoreError::Conflict));
        assert_eq!(verdict(&reads(&[], &[("q", "z")])), Err(StoreError::Conflict));
        assert_eq!(verdict(&reads(&["a", "c", "r"], &[("a", "b"), ("n", "p"), ("r", "z")])), Ok(()));
        assert_eq!(recent.validate(1, 2, &reads(&["b"], &[])), Ok(()), "written before it began");
    }

    #[test]
    fn nothing_is_kept_without_an_older_transaction() {
        let mut recent = RecentWrites::new(0, 1 << 20);
        recent.record(1, || panic!("nobody can need this"));
        recent.opened(1);
        recent.record(2, || keys(&["a"]));
        assert_eq!(recent.commits.len(), 1);
        recent.closed(1);
        assert_eq!((recent.commits.len(), recent.bytes), (0, 0));
    }

    #[test]
    fn the_window_is_bounded() {
        let mut recent = RecentWrites::new(0, 200);
        recent.opened(0);
        recent.opened(0);
        for version in 1..=10 {
            recent.record(version, || keys(&["some key"]));
        }
        assert!(recent.bytes <= 200);
        assert_eq!(recent.validate(0, 10, &reads(&["other"], &[])), Err(StoreError::TooOld));
        assert_eq!(recent.validate(9, 10, &reads(&["other"], &[])), Ok(()));
    }
}
