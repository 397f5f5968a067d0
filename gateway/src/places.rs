//! Places for connections: so many in all, and so many for each who comes.
//!
//! Of requests to a site, and of connections that are to become links between nodes: who has no certificate, and comes
//! often, keeps none of those out that have one.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ahash::AHashMap;

/// The places that there are.
pub struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// Of those who are counted.
    of: AHashMap<IpAddr, usize>,
}

/// Who is counted together, and how many places they may have.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub of: IpAddr,
    pub most: usize,
}

/// A place that is taken, for as long as it lives.
pub struct Place {
    places: Arc<Places>,
    of: Option<IpAddr>,
}

impl Places {
    /// So many in all.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Places { most, taken: Mutex::default() })
    }

    /// Takes one, if there is one in all and in the share.
    pub fn take(self: &Arc<Self>, share: Option<Share>) -> Option<Place> {
        let mut taken = self.taken();
        let is_free = |share: &Share| taken.of.get(&share.of).copied().unwrap_or(0) < share.most;
        if taken.all >= self.most || !share.as_ref().is_none_or(is_free) {
            return None;
        }
        taken.all += 1;
        if let Some(share) = share {
            *taken.of.entry(share.of).or_default() += 1;
        }
        Some(Place { places: self.clone(), of: share.map(|share| share.of) })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        let Some(of) = self.of else { return };
        let Some(count) = taken.of.get_mut(&of) else { return };
        *count -= 1;
        if *count == 0 {
            taken.of.remove(&of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geo_02_there_are_so_many_places_in_all_and_for_each() {
        let places = Places::new(5);
        let share = |of: &str| Some(Share { of: of.parse().unwrap(), most: 2 });
        let [one, other] = ["198.51.100.7", "198.51.100.8"].map(share);
        let mut taken: Vec<Place> =
            [one, one, other, None].into_iter().filter_map(|share| places.take(share)).collect();
        assert_eq!(taken.len(), 4);
        assert!(places.take(one).is_none(), "its share is taken");
        taken.extend(places.take(other));
        assert!(taken.len() == 5 && places.take(None).is_none(), "all are taken");
        taken.remove(0);
        assert!(places.take(one).is_some(), "one was given back");
        drop(taken);
        assert!(places.taken().all == 0 && places.taken().of.is_empty());
    }
}
