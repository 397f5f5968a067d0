//! The edges that are linked to this core, as they say of themselves, and how many links each certificate has.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::AHashMap;
use backend::domain::nodes::{Load, NodeId, NodeRecord};
use protocol::link_message::{DirectoryEntry, EdgeLoad, LinkHello};
use rustls_pki_types::CertificateDer;

/// Edges by id.
pub struct Edges {
    linked: Mutex<AHashMap<NodeId, Linked>>,
    /// Links by certificate: an edge may say any id, but has one certificate.
    places: Mutex<AHashMap<CertificateDer<'static>, usize>>,
    /// Links of each core of this process, those that are to become one among them.
    by_core: Mutex<Vec<usize>>,
}

struct Linked {
    record: NodeRecord,
    /// Links that it has to this core.
    links: usize,
}

impl Edges {
    /// None yet, on so many cores.
    pub fn new(cores: usize) -> Self {
        Edges { linked: Mutex::default(), places: Mutex::default(), by_core: vec![0; cores].into() }
    }

    /// Which core serves one more link: that with the fewest. Where the system has it accepted says nothing of that.
    pub fn choose_core(&self) -> u16 {
        let mut by_core = lock(&self.by_core);
        let Some((core, links)) = (0..).zip(by_core.iter_mut()).min_by_key(|(_, links)| **links) else { return 0 };
        *links += 1;
        core
    }

    /// The link that a core was chosen for is over.
    pub fn left_core(&self, core: u16) {
        if let Some(links) = lock(&self.by_core).get_mut(usize::from(core)) {
            *links -= 1;
        }
    }

    /// Takes one of the links that a certificate may have, unless it has so many.
    pub fn take_place(&self, certificate: &CertificateDer<'static>, most: usize) -> bool {
        let mut places = lock(&self.places);
        let taken = places.entry(certificate.clone()).or_default();
        let is_free = *taken < most;
        *taken += usize::from(is_free);
        is_free
    }

    /// Gives it back.
    pub fn leave_place(&self, certificate: &CertificateDer<'static>) {
        let mut places = lock(&self.places);
        let Some(taken) = places.get_mut(certificate) else { return };
        *taken -= 1;
        if *taken == 0 {
            places.remove(certificate);
        }
    }

    /// A link of an edge is up.
    pub fn joined(&self, hello: &LinkHello, lease_ms: u64) {
        let mut edges = lock(&self.linked);
        let linked = edges.entry(hello.node).or_insert_with(|| Linked { record: record(hello, lease_ms), links: 0 });
        linked.links += 1;
    }

    /// It is down.
    pub fn left(&self, node: NodeId) {
        let mut edges = lock(&self.linked);
        let Some(linked) = edges.get_mut(&node) else { return };
        linked.links -= 1;
        if linked.links == 0 {
            edges.remove(&node);
        }
    }

    /// An edge says how it fares.
    pub fn fares(&self, node: NodeId, load: &EdgeLoad) {
        if let Some(linked) = lock(&self.linked).get_mut(&node) {
            linked.record.load =
                Load { connections: load.connections, is_draining: load.is_draining, ..Load::default() };
        }
    }

    /// All of them.
    pub fn records(&self) -> Vec<(NodeId, NodeRecord)> {
        lock(&self.linked).iter().map(|(node, linked)| (*node, linked.record.clone())).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn record(hello: &LinkHello, lease_ms: u64) -> NodeRecord {
    let DirectoryEntry { region, latitude, longitude, addresses, weight, connections_max, .. } =
        hello.access_point.clone().unwrap_or_default();
    NodeRecord {
        name: hello.name.clone(),
        is_edge: true,
        region,
        latitude,
        longitude,
        addresses,
        weight,
        connections_max,
        lease_ms,
        release: hello.release.clone(),
        ..NodeRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geo_03_an_edge_is_there_as_long_as_one_of_its_links_is() {
        let edges = Edges::new(1);
        let access_point = Some(DirectoryEntry { region: "japan".into(), weight: 100, ..DirectoryEntry::default() });
        let hello = LinkHello { node: 7, name: "tokyo-1".into(), access_point, ..LinkHello::default() };
        edges.joined(&hello, 5_000);
        edges.joined(&hello, 5_000);
        edges.fares(7, &EdgeLoad { connections: 3, is_draining: true });
        edges.fares(8, &EdgeLoad::default());
        let [(7, record)] = &edges.records()[..] else { panic!("one") };
        assert_eq!((record.name.as_str(), record.region.as_str(), record.is_edge), ("tokyo-1", "japan", true));
        assert_eq!(record.load, Load { connections: 3, is_draining: true, ..Load::default() });
        edges.left(7);
        assert_eq!(edges.records().len(), 1);
        edges.left(7);
        edges.left(7);
        assert!(edges.records().is_empty());
    }

    #[test]
    fn geo_01_a_certificate_has_so_many_links_and_no_more() {
        let edges = Edges::new(1);
        let [one, other] = [[1], [2]].map(|der| CertificateDer::from(der.to_vec()));
        assert!(edges.take_place(&one, 2) && edges.take_place(&one, 2) && !edges.take_place(&one, 2));
        assert!(edges.take_place(&other, 2), "each has its own");
        edges.leave_place(&one);
        assert!(edges.take_place(&one, 2) && !edges.take_place(&one, 2));
        [&one, &one, &other].into_iter().for_each(|certificate| edges.leave_place(certificate));
        assert!(lock(&edges.places).is_empty());
    }

    #[test]
    fn geo_01_cores_have_as_many_links_of_edges_as_others() {
        let edges = Edges::new(3);
        assert_eq!([(); 4].map(|()| edges.choose_core()), [0, 1, 2, 0]);
        edges.left_core(1);
        assert_eq!([(); 3].map(|()| edges.choose_core()), [1, 1, 2]);
    }
}
