//! The edges that are linked to this core, as they say of themselves.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::AHashMap;
use backend::domain::nodes::{Load, NodeId, NodeRecord};
use protocol::link_message::{DirectoryEntry, EdgeLoad, LinkHello};

/// Edges by id.
#[derive(Default)]
pub struct Edges(Mutex<AHashMap<NodeId, Linked>>);

struct Linked {
    record: NodeRecord,
    /// Links that it has to this core.
    links: usize,
}

impl Edges {
    /// A link of an edge is up.
    pub fn joined(&self, hello: &LinkHello, lease_ms: u64) {
        let mut edges = self.edges();
        let linked = edges.entry(hello.node).or_insert_with(|| Linked { record: record(hello, lease_ms), links: 0 });
        linked.links += 1;
    }

    /// It is down.
    pub fn left(&self, node: NodeId) {
        let mut edges = self.edges();
        let Some(linked) = edges.get_mut(&node) else { return };
        linked.links -= 1;
        if linked.links == 0 {
            edges.remove(&node);
        }
    }

    /// An edge says how it fares.
    pub fn fares(&self, node: NodeId, load: &EdgeLoad) {
        if let Some(linked) = self.edges().get_mut(&node) {
            linked.record.load = Load { connections: load.connections, is_draining: load.is_draining };
        }
    }

    /// All of them.
    pub fn records(&self) -> Vec<(NodeId, NodeRecord)> {
        self.edges().iter().map(|(node, linked)| (*node, linked.record.clone())).collect()
    }

    fn edges(&self) -> MutexGuard<'_, AHashMap<NodeId, Linked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let edges = Edges::default();
        let access_point = Some(DirectoryEntry { region: "japan".into(), weight: 100, ..DirectoryEntry::default() });
        let hello = LinkHello { node: 7, name: "tokyo-1".into(), access_point, ..LinkHello::default() };
        edges.joined(&hello, 5_000);
        edges.joined(&hello, 5_000);
        edges.fares(7, &EdgeLoad { connections: 3, is_draining: true });
        edges.fares(8, &EdgeLoad::default());
        let [(7, record)] = &edges.records()[..] else { panic!("one") };
        assert_eq!((record.name.as_str(), record.region.as_str(), record.is_edge), ("tokyo-1", "japan", true));
        assert_eq!(record.load, Load { connections: 3, is_draining: true });
        edges.left(7);
        assert_eq!(edges.records().len(), 1);
        edges.left(7);
        edges.left(7);
        assert!(edges.records().is_empty());
    }
}
