//! A map that forgets: of bounded size, whatever strangers put into it, and what was looked at last is kept.
//!
//! Two generations. What is touched is young; when half of the room is full of young entries, they become the old
//! ones, and the old ones before them are gone. So at least half of the room is for what was used last, every step
//! takes the same time, and no entry knows its neighbours.

use std::{hash::Hash, mem};

use ahash::AHashMap;

/// The map.
#[derive(Debug)]
pub struct ForgetfulMap<K, V> {
    young: AHashMap<K, V>,
    old: AHashMap<K, V>,
    /// Entries of a generation, at the most.
    half: usize,
}

impl<K: Hash + Eq + Clone, V> ForgetfulMap<K, V> {
    /// With room for `entries_max` entries.
    pub fn new(entries_max: usize) -> Self {
        ForgetfulMap { young: AHashMap::new(), old: AHashMap::new(), half: (entries_max / 2).max(1) }
    }

    /// Looks an entry up, which keeps it.
    pub fn find(&mut self, key: &K) -> Option<&mut V> {
        if !self.young.contains_key(key) {
            let value = self.old.remove(key)?;
            self.make_young(key.clone(), value);
        }
        self.young.get_mut(key)
    }

    /// The same; one that is not there is made.
    pub fn find_or_make(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        if !self.young.contains_key(&key) {
            let value = self.old.remove(&key).unwrap_or_default();
            self.make_young(key.clone(), value);
        }
        self.young.entry(key).or_default()
    }

    fn make_young(&mut self, key: K, value: V) {
        if self.young.len() >= self.half {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut map = ForgetfulMap::new(100);
        for number in 0..10_000u32 {
            *map.find_or_make(number) = number;
            assert_eq!(map.find(&0), Some(&mut 0), "used all the time");
            assert!(map.len() <= 100);
        }
        assert_eq!(map.find(&9_960), Some(&mut 9_960));
        assert_eq!(map.find(&5_000), None);
    }
}
