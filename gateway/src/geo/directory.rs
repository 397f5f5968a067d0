//! The access points that there are, and how each is.
//!
//! **The one seam to where they come from.** The configuration names some, nodes are others ([`super::members`]), this node
//! checks whether they can be reached ([`super::checks`]), and says how many sessions it has itself. Whatever else is to
//! be a source calls [`Directory::set`], with all there are, and [`Node::report`], in the same way.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use ahash::AHashMap;
use arc_swap::ArcSwap;

use super::{access_points::AccessPoint, measured, score::Status};

/// Sessions of an access point that has said nothing.
const NOT_SAID: u64 = u64::MAX;

/// An access point, and how it is.
#[derive(Debug)]
pub struct Node {
    pub point: AccessPoint,
    /// Its name among measurements of clients that are somewhere, and of those that are nowhere.
    keys: [u64; 2],
    state: Arc<State>,
}

/// How an access point is, whatever else is said of it.
#[derive(Debug)]
struct State {
    healthy: AtomicBool,
    /// It is, or was, a node of the deployment: its lease says whether it is healthy.
    has_lease: AtomicBool,
    /// Checks that have failed since one succeeded.
    failures: AtomicU32,
    sessions: AtomicU64,
    /// Sessions it may have, by its own account.
    capacity: AtomicU64,
}

impl Node {
    /// One of which nothing but good is known.
    pub fn new(point: AccessPoint) -> Self {
        let state = State {
            healthy: true.into(),
            has_lease: false.into(),
            failures: 0.into(),
            sessions: NOT_SAID.into(),
            capacity: 0.into(),
        };
        Node::with(point, Arc::new(state))
    }

    fn with(point: AccessPoint, state: Arc<State>) -> Self {
        let key = measured::key(&point.id);
        Node { point, keys: [key, !key], state }
    }

    /// Its name among measurements: those of clients with a place and without mean different things.
    pub fn key(&self, with_place: bool) -> u64 {
        self.keys[usize::from(with_place)]
    }

    /// How it is, as far as is known.
    pub fn status(&self) -> Status {
        let State { healthy, sessions, capacity, .. } = &*self.state;
        // The operator's word on it counts more.
        let capacity = Some(self.point.capacity).filter(|most| *most > 0).unwrap_or(capacity.load(Ordering::Relaxed));
        let sessions = sessions.load(Ordering::Relaxed);
        let load = (sessions != NOT_SAID && capacity > 0).then_some((sessions, capacity));
        Status { healthy: healthy.load(Ordering::Relaxed), load }
    }

    /// Takes whether it can be entered. Returns whether that is news.
    pub fn set_healthy(&self, healthy: bool) -> bool {
        self.state.healthy.swap(healthy, Ordering::Relaxed) != healthy
    }

    /// Takes whether the node that it is has a lease: one that had one, and has none any more, is unhealthy, whatever
    /// answers at its address.
    pub fn set_lease(&self, has_lease: bool) {
        if self.state.has_lease.fetch_or(has_lease, Ordering::Relaxed) || has_lease {
            self.set_healthy(has_lease);
        }
    }

    /// Whether a lease says how it is, and no check.
    pub fn is_leased(&self) -> bool {
        self.state.has_lease.load(Ordering::Relaxed)
    }

    /// Takes whether a check has reached it; after `failures_max` that have not it is unhealthy, until one has.
    /// Returns how it is, if that is news.
    pub fn checked(&self, reached: bool, failures_max: u32) -> Option<bool> {
        let failures = if reached { 0 } else { self.state.failures.load(Ordering::Relaxed).saturating_add(1) };
        self.state.failures.store(failures, Ordering::Relaxed);
        let is_healthy = match reached {
            true => true,
            false if failures >= failures_max => false,
            false => return None,
        };
        self.set_healthy(is_healthy).then_some(is_healthy)
    }

    /// Takes how many sessions it has, and may have.
    pub fn report(&self, sessions: u64, capacity: u64) {
        self.state.sessions.store(sessions, Ordering::Relaxed);
        self.state.capacity.store(capacity, Ordering::Relaxed);
    }
}

/// All access points.
#[derive(Debug)]
pub struct Directory(ArcSwap<Vec<Arc<Node>>>);

impl Directory {
    /// With these.
    pub fn new(points: Vec<AccessPoint>) -> Self {
        let directory = Directory(ArcSwap::default());
        directory.set(points);
        directory
    }

    /// From now on there are these. How those are that were there before is kept. Returns them in the same order.
    pub fn set(&self, points: Vec<AccessPoint>) -> Arc<Vec<Arc<Node>>> {
        let before = self.nodes();
        let known: AHashMap<&str, &Arc<Node>> = before.iter().map(|node| (node.point.id.as_str(), node)).collect();
        let nodes = points.into_iter().map(|point| match known.get(point.id.as_str()) {
            Some(node) if node.point == point => (*node).clone(),
            Some(node) => Arc::new(Node::with(point, node.state.clone())),
            None => Arc::new(Node::new(point)),
        });
        let nodes = Arc::new(nodes.collect());
        self.0.store(Arc::clone(&nodes));
        nodes
    }

    /// All there are.
    pub fn nodes(&self) -> Arc<Vec<Arc<Node>>> {
        self.0.load_full()
    }

    /// The one called `id`.
    pub fn node(&self, id: &str) -> Option<Arc<Node>> {
        self.0.load().iter().find(|node| node.point.id == id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::place::Place, *};

    fn point(id: &str, capacity: u64) -> AccessPoint {
        let (id, place) = (id.to_owned(), Place::at(0.0, 0.0));
        let addresses = vec!["a:1".to_owned()];
        AccessPoint { id, addresses, region: "usa".into(), place, weight: 100, capacity, drained: false }
    }

    #[test]
    fn geo_03_what_is_known_of_a_node_outlives_changes_of_others() {
        let directory = Directory::new(vec![point("a", 0), point("b", 50)]);
        let [a, b] = ["a", "b"].map(|id| directory.node(id).unwrap());
        assert_eq!(a.status(), Status { healthy: true, load: None });
        assert!(a.set_healthy(false) && !a.set_healthy(false));
        assert_eq!(b.checked(false, 2), None);
        assert_eq!((b.checked(false, 2), b.checked(false, 2)), (Some(false), None));
        assert_eq!((b.checked(true, 2), b.checked(true, 2)), (Some(true), None));
        a.report(7, 100);
        b.report(7, 100);
        assert_eq!((a.status().load, b.status().load), (Some((7, 100)), Some((7, 50))), "the operator's word counts");
        let drained = AccessPoint { drained: true, ..point("b", 50) };
        directory.set(vec![point("a", 0), drained, point("c", 0)]);
        assert_eq!(directory.node("a").unwrap().status(), Status { healthy: false, load: Some((7, 100)) });
        assert_eq!(directory.node("b").unwrap().status().load, Some((7, 50)), "it is another thing how it is");
        assert_eq!(directory.nodes().len(), 3);
        assert!(directory.node("d").is_none());
    }

    #[test]
    fn geo_03_a_lease_says_how_a_node_is_and_so_does_its_end() {
        let node = Node::new(point("a", 0));
        node.set_lease(false);
        assert!(node.status().healthy && !node.is_leased(), "it has never had one");
        node.set_healthy(false);
        node.set_lease(true);
        assert!(node.status().healthy && node.is_leased());
        node.set_lease(false);
        assert!(!node.status().healthy && node.is_leased());
        node.set_lease(true);
        assert!(node.status().healthy);
    }
}
