//! The edges that are linked to this core, as they say of themselves, and how many links each certificate has.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ahash::AHashMap;
use backend::domain::nodes::{Load, NodeId, NodeRecord};
use protocol::link_message::{DirectoryEntry, EdgeLoad, LinkHello};
use rustls_pki_types::CertificateDer;

use crate::{
    edge_link::greet::Ended,
    geo::customer,
    places::{Place, Places, Share},
};

/// Connections that are no links yet, at the most; more are closed at once.
const GREETINGS_MAX: usize = 256;

/// The same from one address, which may be that of an edge with as many processors.
const GREETINGS_PER_ADDRESS_MAX: usize = 32;

/// Edges by id.
pub struct Edges {
    linked: Mutex<AHashMap<NodeId, Linked>>,
    /// Links by certificate: an edge may say any id, but has one certificate.
    places: Mutex<AHashMap<CertificateDer<'static>, Links>>,
    /// Links of each core of this process, those that are to become one among them.
    by_core: Mutex<Vec<usize>>,
    /// For those that are to become one.
    greetings: Arc<Places>,
    /// Where edges reach this core and others.
    cores: Mutex<Vec<String>>,
    /// Clients on one link, at the most.
    sessions_max: u64,
}

/// Links with one certificate.
struct Links {
    /// The edge that has it.
    node: NodeId,
    count: usize,
}

struct Linked {
    record: NodeRecord,
    /// How many edges there had been before it.
    order: u64,
    /// Links that it has to this core, and how many clients each carries.
    links: usize,
    sessions_max: u64,
}

impl Edges {
    /// None yet, on so many cores, with so many clients on a link.
    pub fn new(cores: usize, sessions_max: u32) -> Self {
        Edges {
            linked: Mutex::default(),
            places: Mutex::default(),
            by_core: vec![0; cores].into(),
            greetings: Places::new(GREETINGS_MAX),
            cores: Mutex::default(),
            sessions_max: sessions_max.into(),
        }
    }

    /// A place for a connection until it is known whether it becomes a link, if there is one for its address.
    pub fn greet(&self, ip: IpAddr) -> Option<Place> {
        self.greetings.take(Some(Share { of: customer(ip.to_canonical()), most: GREETINGS_PER_ADDRESS_MAX }))
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

    /// Takes one of the links that a certificate may have, for the edge with this id: unless there are so many, or another
    /// edge has it.
    pub fn take_place(&self, certificate: &CertificateDer<'static>, node: NodeId, most: usize) -> Result<(), Ended> {
        let mut places = lock(&self.places);
        let links = places.entry(certificate.clone()).or_insert(Links { node, count: 0 });
        if links.node != node {
            return Err(Ended::Another);
        }
        if links.count >= most {
            return Err(Ended::TooMany(most));
        }
        links.count += 1;
        Ok(())
    }

    /// Gives it back.
    pub fn leave_place(&self, certificate: &CertificateDer<'static>) {
        let mut places = lock(&self.places);
        let Some(links) = places.get_mut(certificate) else { return };
        links.count -= 1;
        if links.count == 0 {
            places.remove(certificate);
        }
    }

    /// These nodes live: edges are told of the cores that take links, and do not end.
    pub fn follow(&self, nodes: &[(NodeId, NodeRecord)]) {
        let takes_links = |record: &&NodeRecord| !record.is_edge && !record.load.is_draining;
        let cores = nodes.iter().map(|(_, record)| record).filter(takes_links);
        let addresses = cores.map(|record| record.link_address.clone()).filter(|address| !address.is_empty());
        *lock(&self.cores) = addresses.collect();
    }

    /// Where edges reach cores.
    pub fn cores(&self) -> Vec<String> {
        lock(&self.cores).clone()
    }

    /// A link of an edge is up.
    pub fn joined(&self, hello: &LinkHello, lease_ms: u64) {
        let mut edges = lock(&self.linked);
        let order = edges.values().map(|linked| linked.order + 1).max().unwrap_or(0);
        let opened = if hello.sessions_max == 0 { u64::MAX } else { hello.sessions_max.into() };
        let sessions_max = opened.min(self.sessions_max);
        let new = || Linked { record: record(hello, lease_ms), order, links: 0, sessions_max };
        edges.entry(hello.node).or_insert_with(new).links += 1;
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

    /// All of them, the first comer first, where this core takes so many connections more: an edge has no more room than its
    /// core, nor than its links carry.
    pub fn records(&self, room: u64) -> Vec<(NodeId, NodeRecord)> {
        let edges = lock(&self.linked);
        let mut linked: Vec<(&NodeId, &Linked)> = edges.iter().collect();
        linked.sort_unstable_by_key(|(_, linked)| linked.order);
        linked.into_iter().map(|(node, linked)| (*node, told(linked, room))).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn told(linked: &Linked, room: u64) -> NodeRecord {
    let carried = (linked.links as u64).saturating_mul(linked.sessions_max);
    let connections_max = linked.record.connections_max.min(carried);
    with_room(NodeRecord { connections_max, ..linked.record.clone() }, room)
}

fn with_room(mut record: NodeRecord, room: u64) -> NodeRecord {
    let most = record.load.connections.saturating_add(room).min(record.connections_max);
    record.connections_max = most.max(1); // 0 would be: not said
    if room == 0 {
        record.load.connections = record.connections_max;
    }
    record
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
        let edges = Edges::new(1, 10);
        let access_point = Some(DirectoryEntry { region: "japan".into(), weight: 100, ..DirectoryEntry::default() });
        let hello = LinkHello { node: 7, name: "tokyo-1".into(), access_point, ..LinkHello::default() };
        edges.joined(&hello, 5_000);
        edges.joined(&hello, 5_000);
        edges.fares(7, &EdgeLoad { connections: 3, is_draining: true });
        edges.fares(8, &EdgeLoad::default());
        let [(7, record)] = &edges.records(u64::MAX)[..] else { panic!("one") };
        assert_eq!((record.name.as_str(), record.region.as_str(), record.is_edge), ("tokyo-1", "japan", true));
        assert_eq!(record.load, Load { connections: 3, is_draining: true, ..Load::default() });
        edges.left(7);
        assert_eq!(edges.records(1).len(), 1);
        edges.left(7);
        edges.left(7);
        assert!(edges.records(1).is_empty());
    }

    #[test]
    fn geo_03_an_edge_has_no_more_room_than_its_core() {
        let record = |connections| NodeRecord {
            connections_max: 100,
            load: Load { connections, ..Load::default() },
            ..NodeRecord::default()
        };
        for (connections, room, told) in
            [(40, 1_000, (40, 100)), (40, 20, (40, 60)), (0, 20, (0, 20)), (40, 0, (40, 40)), (0, 0, (1, 1))]
        {
            let NodeRecord { load, connections_max, .. } = with_room(record(connections), room);
            assert_eq!((load.connections, connections_max), told, "{connections} and {room}");
        }
    }

    #[test]
    fn geo_03_an_edge_has_no_more_room_than_its_links() {
        let edges = Edges::new(1, 10);
        let hello = |connections_max, sessions_max| {
            let access_point = Some(DirectoryEntry { connections_max, ..DirectoryEntry::default() });
            LinkHello { node: 7, access_point, sessions_max, ..LinkHello::default() }
        };
        let room = || edges.records(u64::MAX).first().map(|(_, record)| record.connections_max);
        edges.joined(&hello(100, 0), 5_000);
        assert_eq!(room(), Some(10));
        edges.joined(&hello(100, 0), 5_000);
        assert_eq!(room(), Some(20));
        edges.left(7);
        assert_eq!(room(), Some(10), "the other one is lost");
        for (said, told) in [((3, 50), 3), ((100, 50), 10), ((100, 4), 4)] {
            edges.left(7);
            edges.joined(&hello(said.0, said.1), 5_000);
            assert_eq!(room(), Some(told), "{said:?}");
        }
    }

    #[test]
    fn geo_01_who_comes_often_from_one_address_keeps_nobody_else_out() {
        let edges = Edges::new(1, 10);
        let ip = |number: u8| IpAddr::from([10, 0, 0, number]);
        let mut taken: Vec<Place> = std::iter::from_fn(|| edges.greet(ip(1))).collect();
        assert_eq!(taken.len(), GREETINGS_PER_ADDRESS_MAX);
        assert!(edges.greet("::ffff:10.0.0.1".parse().unwrap()).is_none(), "the same, written otherwise");
        assert!(edges.greet(ip(2)).is_some(), "another one comes in");
        taken.pop();
        assert!(edges.greet(ip(1)).is_some(), "and this one, once one has gone");
        taken.clear();
        for number in 0..u8::MAX {
            taken.extend(std::iter::from_fn(|| edges.greet(ip(number))));
        }
        assert_eq!(taken.len(), GREETINGS_MAX);
    }

    #[test]
    fn geo_01_edges_are_told_of_cores_that_take_links() {
        let core = |link_address: &str| NodeRecord { link_address: link_address.into(), ..NodeRecord::default() };
        let drained = NodeRecord { load: Load { is_draining: true, ..Load::default() }, ..core("10.0.0.3:9443") };
        let edge = NodeRecord { is_edge: true, ..core("10.0.0.4:9443") };
        let edges = Edges::new(1, 10);
        edges.follow(&[(1, core("10.0.0.1:9443")), (2, core("")), (3, drained), (4, edge), (5, core("10.0.0.5:9443"))]);
        assert_eq!(edges.cores(), ["10.0.0.1:9443", "10.0.0.5:9443"]);
        edges.follow(&[]);
        assert!(edges.cores().is_empty());
    }

    #[test]
    fn geo_01_a_certificate_has_so_many_links_and_no_more() {
        let edges = Edges::new(1, 10);
        let [one, other] = [[1], [2]].map(|der| CertificateDer::from(der.to_vec()));
        let take = |certificate, node| edges.take_place(certificate, node, 2).map_err(|why| why.to_string());
        let is_full = |taken: Result<(), String>| taken.unwrap_err().contains("2 links here already");
        assert!(take(&one, 7).is_ok() && take(&one, 7).is_ok() && is_full(take(&one, 7)));
        assert!(take(&other, 8).is_ok(), "each has its own");
        edges.leave_place(&one);
        assert!(take(&one, 8).unwrap_err().contains("another edge has this certificate"));
        assert!(take(&one, 7).is_ok() && is_full(take(&one, 7)));
        [&one, &one, &other].into_iter().for_each(|certificate| edges.leave_place(certificate));
        assert!(lock(&edges.places).is_empty());
    }

    #[test]
    fn geo_01_cores_have_as_many_links_of_edges_as_others() {
        let edges = Edges::new(3, 10);
        assert_eq!([(); 4].map(|()| edges.choose_core()), [0, 1, 2, 0]);
        edges.left_core(1);
        assert_eq!([(); 3].map(|()| edges.choose_core()), [1, 1, 2]);
    }
}
