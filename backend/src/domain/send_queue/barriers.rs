//! Who waits for what is under way to end, but not for what begins after.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What is called in the end; nothing is locked then.
type Done = Box<dyn FnOnce() + Send>;

/// The batches under way, and those who wait for some of them.
#[derive(Default)]
pub(super) struct Barriers(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    next: u64,
    under_way: BTreeSet<u64>,
    /// Each with the first number that it does not wait for; numbers rise.
    waiting: Vec<(u64, Done)>,
}

impl Barriers {
    /// A batch begins: the number it ends with.
    pub(super) fn begin(&self) -> u64 {
        let mut inner = self.inner();
        let number = inner.next;
        inner.next += 1;
        inner.under_way.insert(number);
        number
    }

    /// A batch has ended, and been handed on; without a number it never began. `is_in_doubt`: something that it or an
    /// earlier one may have committed has not been.
    pub(super) fn end(&self, number: Option<u64>, is_in_doubt: impl FnOnce() -> bool) {
        let mut inner = self.inner();
        if let Some(number) = number {
            inner.under_way.remove(&number);
        }
        let due = inner.due(is_in_doubt);
        drop(inner);
        due.into_iter().for_each(|done| done());
    }

    /// Has `done` called once all that has begun has ended, and nothing is in doubt.
    pub(super) fn set(&self, done: Done, is_in_doubt: impl FnOnce() -> bool) {
        let mut inner = self.inner();
        let next = inner.next;
        inner.waiting.push((next, done));
        let due = inner.due(is_in_doubt);
        drop(inner);
        due.into_iter().for_each(|done| done());
    }

    /// Whether anybody waits.
    pub(super) fn is_waiting(&self) -> bool {
        !self.inner().waiting.is_empty()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes out who need not wait any more.
    fn due(&mut self, is_in_doubt: impl FnOnce() -> bool) -> Vec<Done> {
        if self.waiting.is_empty() || is_in_doubt() {
            return Vec::new();
        }
        let first = self.under_way.first().copied().unwrap_or(u64::MAX);
        self.waiting.extract_if(.., |(until, _)| *until <= first).map(|(_, done)| done).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn geo_01_a_barrier_waits_for_what_has_begun_and_for_nothing_else() {
        let barriers = Barriers::default();
        let called: Arc<Mutex<Vec<&str>>> = Arc::default();
        let set = |name, doubt| {
            let called = called.clone();
            barriers.set(Box::new(move || called.lock().unwrap().push(name)), || doubt);
        };
        set("idle", false);
        assert_eq!(*called.lock().unwrap(), ["idle"]);
        let first = barriers.begin();
        set("behind the first", false);
        let second = barriers.begin();
        set("behind both", false);
        barriers.end(Some(second), || false);
        assert_eq!(called.lock().unwrap().len(), 1, "the first is under way");
        let third = barriers.begin();
        barriers.end(Some(first), || true);
        assert_eq!(called.lock().unwrap().len(), 1, "something is in doubt");
        assert!(barriers.is_waiting());
        barriers.end(None, || false);
        assert_eq!(*called.lock().unwrap(), ["idle", "behind the first", "behind both"], "not for the third");
        barriers.end(Some(third), || false);
        assert!(!barriers.is_waiting());
    }
}
