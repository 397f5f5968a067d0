//! Watches: futures that end when a key's value changes.
//!
//! What lives here: the future that callers hold ([`Watch`]), the bound on how many there are, and the
//! registry of the engines in this process ([`Watches`]). A watch is set up by its transaction's commit,
//! whether or not that wrote something. Nothing is missed between the transaction's reads and the commit:
//! a watch is registered first and compared with the newest value then, and whoever commits publishes
//! first and looks into the registry then.
//!
//! A watch is a hint. It may end though nothing changed, and it ends before the change may be read as
//! durable; the transaction that reads what changed waits for that, as all do.

use std::{
    collections::BTreeMap,
    future::Future,
    ops::Bound,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::channel::oneshot;

use super::{
    buffer::{Snapshot, WriteBuffer},
    lock,
    seam::{StoreError, WATCHES_MAX, WatchEnd},
};

/// Ends when the watched key has changed, or with the reason why it can't be watched. Dropped, it is
/// cancelled. Any executor can poll it.
pub struct Watch {
    end: WatchEnd,
    _place: Option<Place>,
}

impl Watch {
    pub(super) fn new(end: WatchEnd, place: Place) -> Self {
        Watch { end, _place: Some(place) }
    }

    /// One that ends at once.
    pub(super) fn refused(error: StoreError) -> Self {
        Watch { end: Box::pin(std::future::ready(Err(error))), _place: None }
    }
}

impl Future for Watch {
    type Output = Result<(), StoreError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let watch = self.get_mut();
        let end = watch.end.as_mut().poll(cx);
        if end.is_ready() {
            watch._place = None;
        }
        end
    }
}

/// How many watches of a store there are.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<AtomicUsize>);

impl Places {
    /// A place, if one is left.
    pub(super) fn take(&self) -> Result<Place, StoreError> {
        // Counted first: two that take the last one at once must not both have it.
        let place = Place(self.clone());
        match self.0.fetch_add(1, Ordering::Relaxed) {
            taken if taken < WATCHES_MAX => Ok(place),
            _ => Err(StoreError::TooLarge(format!("more than {WATCHES_MAX} watches"))),
        }
    }
}

/// A watch's place; free again when dropped.
pub(super) struct Place(Places);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A watch whose transaction is not committed yet. Dropped, it ends with an error.
pub(super) struct Pending {
    key: Bytes,
    /// As the transaction saw it when it asked for the watch.
    seen: Option<Bytes>,
    teller: Teller,
}

type Teller = oneshot::Sender<Result<(), StoreError>>;

/// A watch on `key`, and its future.
pub(super) fn pending(key: &[u8], seen: Option<Bytes>) -> (Pending, WatchEnd) {
    let (teller, told) = oneshot::channel();
    let not_set_up =
        || StoreError::Unavailable("the watch's transaction was not committed, or the store closed".into());
    let end = Box::pin(async move { told.await.unwrap_or_else(|_| Err(not_set_up())) });
    (Pending { key: Bytes::copy_from_slice(key), seen, teller }, end)
}

/// The watches that are set up.
#[derive(Default)]
pub(super) struct Watches {
    registry: Mutex<Registry>,
    /// How many there are: commits look here first.
    count: AtomicUsize,
}

#[derive(Default)]
struct Registry {
    by_key: BTreeMap<Bytes, Vec<Teller>>,
    count: usize,
}

impl Registry {
    fn add(&mut self, key: Bytes, teller: Teller) {
        self.by_key.entry(key).or_default().push(teller);
        self.count += 1;
    }

    fn take(&mut self, key: &[u8]) -> Vec<Teller> {
        let taken = self.by_key.remove(key).unwrap_or_default();
        self.count -= taken.len();
        taken
    }

    fn take_range(&mut self, begin: &[u8], end: &[u8]) -> Vec<Teller> {
        let range = self.by_key.range::<[u8], _>((Bound::Included(begin), Bound::Excluded(end)));
        let keys: Vec<Bytes> = range.map(|(key, _)| key.clone()).collect();
        keys.iter().flat_map(|key| self.take(key)).collect()
    }

    /// Those that were dropped stay until there are more than there may be at a time.
    fn forget_cancelled(&mut self) {
        if self.count > WATCHES_MAX {
            self.by_key.retain(|_, tellers| {
                tellers.retain(|teller| !teller.is_canceled());
                !tellers.is_empty()
            });
            self.count = self.by_key.values().map(Vec::len).sum();
        }
    }
}

/// Who is to be told. Under no lock: whoever is told may do anything.
#[must_use]
#[derive(Default)]
pub(super) struct Changed(Vec<Teller>);

impl Changed {
    pub(super) fn extend(&mut self, other: Changed) {
        self.0.extend(other.0);
    }

    pub(super) fn tell(self) {
        self.0.into_iter().for_each(|teller| drop(teller.send(Ok(())))); // nobody waits any more: nobody to tell
    }
}

impl Watches {
    /// Sets up `watches`; those whose key has another value in `latest` have ended. `latest` is asked for
    /// only once they are registered.
    pub(super) fn set_up<S: Snapshot>(&self, watches: Vec<Pending>, latest: impl FnOnce() -> S) -> Changed {
        if watches.is_empty() {
            return Changed::default();
        }
        let mut compared = Vec::with_capacity(watches.len());
        self.change(|registry| {
            for Pending { key, seen, teller } in watches {
                registry.add(key.clone(), teller);
                compared.push((key, seen));
            }
            registry.forget_cancelled();
        });
        let latest = latest();
        // A value that can't be read is told as a change: whoever then reads it learns why.
        compared.retain(|(key, seen)| latest.get(key).as_ref() != Ok(seen));
        if compared.is_empty() {
            return Changed::default();
        }
        // With all others on the same key: a watch may end for nothing.
        Changed(self.change(|registry| compared.iter().flat_map(|(key, _)| registry.take(key)).collect()))
    }

    /// Takes the watches on what was written. To be called once that is published.
    pub(super) fn take_changed(&self, writes: &WriteBuffer) -> Changed {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Changed::default();
        }
        Changed(self.change(|registry| {
            let mut taken: Vec<Teller> =
                writes.cleared().flat_map(|(begin, end)| registry.take_range(begin, end)).collect();
            taken.extend(writes.points().flat_map(|(key, _)| registry.take(key)));
            taken
        }))
    }

    /// Ends all of them: nothing changes any more.
    pub(super) fn close(&self) {
        let registry = self.change(std::mem::take);
        drop(registry); // under no lock: those who wait are woken
    }

    fn change<R>(&self, change: impl FnOnce(&mut Registry) -> R) -> R {
        let mut registry = lock(&self.registry);
        let result = change(&mut registry);
        self.count.store(registry.count, Ordering::SeqCst);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Empty;

    impl Snapshot for Empty {
        fn get(&self, _: &[u8]) -> Result<Option<Bytes>, StoreError> {
            Ok(None)
        }

        fn scan(&self, _: &[u8], _: &[u8], _: bool) -> impl Iterator<Item = super::super::buffer::ScanItem> {
            std::iter::empty()
        }
    }

    /// Goal: a follower that gives up and watches again, for ever, costs bounded memory.
    #[test]
    fn dropped_watches_are_forgotten() {
        let watches = Watches::default();
        let (kept, end) = pending(b"kept", None);
        watches.set_up(vec![kept], || Empty).tell();
        for n in 0..3 * WATCHES_MAX {
            let (dropped, _) = pending(format!("{}", n % 10).as_bytes(), None);
            watches.set_up(vec![dropped], || Empty).tell();
            assert!(watches.count.load(Ordering::SeqCst) <= WATCHES_MAX);
        }
        let mut writes = WriteBuffer::default();
        writes.set("kept".into(), "1".into());
        watches.take_changed(&writes).tell();
        assert_eq!(futures::executor::block_on(end), Ok(()));
    }
}
