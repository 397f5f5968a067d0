//! A cache of the newest values of small, much-read keys: accounts, heads, counters.
//!
//! A read in the database is a search through its memtables and tables, each step a miss of the
//! processor's caches; here it is one look. A slot tells its key's newest value and since which version
//! it has been that; a transaction that reads at that version or later, up to the newest, may take it.
//!
//! Three rules keep that true:
//! 1. a commit changes its keys here before anybody can begin at its version;
//! 2. a value read from the database goes in only while the version it was read at is the newest;
//! 3. absence is never kept, so removing the keys that are found is enough for a cleared range.
//!
//! Memory: a fixed number of slots, each with one bounded pair. A key has one slot; the newer wins.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use ahash::RandomState;
use bytes::Bytes;

use super::super::{lock, seam::Version};

/// Longer keys are not kept.
const KEY_BYTES_MAX: usize = 128;
/// Longer values are not kept: most of them are read once.
const VALUE_BYTES_MAX: usize = 64;
/// What a slot and its pair take at the most.
const SLOT_BYTES: u64 = (size_of::<Slot>() + KEY_BYTES_MAX + VALUE_BYTES_MAX) as u64;

type Slot = Mutex<Option<Entry>>;

struct Entry {
    key: Bytes,
    value: Bytes,
    since: Version,
}

/// The cache.
pub(super) struct NewestValues {
    hasher: RandomState,
    slots: Box<[Slot]>,
    /// The newest commit whose keys may have been changed here.
    newest: AtomicU64,
}

impl NewestValues {
    /// An empty cache within `bytes_max`, at the version `newest`.
    pub(super) fn new(newest: Version, bytes_max: u64) -> Self {
        let slots = (0..bytes_max / SLOT_BYTES).map(|_| Slot::default()).collect();
        NewestValues { hasher: RandomState::new(), slots, newest: AtomicU64::new(newest) }
    }

    /// The value of `key` at `version`, if that is known here.
    pub(super) fn get(&self, key: &[u8], version: Version) -> Option<Bytes> {
        let slot = lock(self.slot(key)?);
        slot.as_ref().filter(|entry| entry.key == key && entry.since <= version).map(|entry| entry.value.clone())
    }

    /// The database had `value` at `version`. The value must be a buffer of its own.
    pub(super) fn read(&self, key: &[u8], value: &Bytes, version: Version) {
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return;
        }
        let Some(slot) = self.slot(key) else { return };
        let mut slot = lock(slot);
        // Under the slot's lock: a commit raises `newest` first and comes to the slot then, so either
        // it is seen here or it comes after and changes what is put in now.
        if self.newest.load(Ordering::SeqCst) == version {
            *slot = Some(Entry { key: Bytes::copy_from_slice(key), value: value.clone(), since: version });
        }
    }

    /// The commit `version` begins to change keys.
    pub(super) fn committing(&self, version: Version) {
        self.newest.store(version, Ordering::SeqCst);
    }

    /// The commit `version` wrote `value`, or removed the key.
    pub(super) fn wrote(&self, key: &[u8], value: Option<&[u8]>, version: Version) {
        let Some(slot) = self.slot(key) else { return };
        let mut slot = lock(slot);
        let Some(entry) = slot.as_mut().filter(|entry| entry.key == key) else { return };
        match value {
            Some(value) if value.len() <= VALUE_BYTES_MAX => {
                entry.value = Bytes::copy_from_slice(value);
                entry.since = version;
            }
            _ => *slot = None,
        }
    }

    fn slot(&self, key: &[u8]) -> Option<&Slot> {
        let hash = self.hasher.hash_one(key);
        // A multiplication instead of a division: the hash as a fraction of the slots.
        let at = (u128::from(hash) * self.slots.len() as u128) >> 64;
        self.slots.get(at as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> NewestValues {
        NewestValues::new(5, 1 << 20)
    }

    #[test]
    fn a_value_holds_from_its_version_on() {
        let cache = cache();
        cache.read(b"a", &"5".into(), 5);
        assert_eq!(cache.get(b"a", 4), None, "what it was before is not known");
        assert_eq!(cache.get(b"a", 5), Some("5".into()));
        cache.committing(6);
        cache.wrote(b"a", Some(b"6"), 6);
        assert_eq!(cache.get(b"a", 5), None);
        assert_eq!(cache.get(b"a", 7), Some("6".into()));
        cache.wrote(b"a", None, 8);
        assert_eq!(cache.get(b"a", 8), None);
    }

    #[test]
    fn what_was_read_before_a_commit_comes_too_late() {
        let cache = cache();
        cache.committing(6);
        cache.read(b"a", &"5".into(), 5);
        assert_eq!(cache.get(b"a", 6), None);
    }

    #[test]
    fn what_is_large_is_not_kept_and_nothing_fits_into_nothing() {
        let cache = cache();
        cache.read(b"a", &vec![0; VALUE_BYTES_MAX + 1].into(), 5);
        cache.read(&[b'k'; KEY_BYTES_MAX + 1], &"5".into(), 5);
        assert!(cache.slots.iter().all(|slot| lock(slot).is_none()));
        cache.read(b"a", &"5".into(), 5);
        cache.wrote(b"a", Some(&[0; VALUE_BYTES_MAX + 1]), 6);
        assert_eq!(cache.get(b"a", 6), None);

        let none = NewestValues::new(5, 0);
        none.read(b"a", &"5".into(), 5);
        assert_eq!(none.get(b"a", 5), None);
    }
}
