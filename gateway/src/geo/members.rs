//! Access points that nodes of the deployment are, as they say of themselves: beside those of the configuration, which
//! come first where both have the same name.
//!
//! A node is one if it says where it is: by a region that is known here, or by coordinates. It is healthy as long as its
//! lease is; how full it is it says with each renewal.

use std::sync::Arc;

use ahash::AHashMap;
use backend::domain::nodes::{NodeId, NodeRecord};
use ipnetwork::IpNetwork;
use prost::Message as _;
use protocol::{
    link::EDGE_FRAME_BYTES_MAX,
    link_message::{Directory, DirectoryEntry},
};

use super::{
    Geo,
    access_points::AccessPoint,
    database::Whereabouts,
    directory::Node,
    place::Place,
    regions::{Region, is_id},
    score::Status,
    token::Tokens,
};

impl<W: Whereabouts> Geo<W> {
    /// From now on these nodes live.
    pub fn follow(&self, nodes: &[(NodeId, NodeRecord)]) {
        let mut members: AHashMap<&str, &NodeRecord> = AHashMap::new();
        for (_, record) in nodes {
            // One that has come back, and its row from before: the row that is younger has been renewed less often.
            let known = members.entry(&record.name).or_insert(record);
            if record.renewals < known.renewals {
                *known = record;
            }
        }
        let configured = self.config.access_points.iter();
        let mut points: Vec<AccessPoint> = configured.cloned().collect();
        let of_nodes = members.values().filter_map(|record| access_point(record, &self.config.regions));
        let new = of_nodes.filter(|point| self.config.access_points.iter().all(|known| known.id != point.id));
        points.extend(new);
        points.sort_by(|one, other| one.id.cmp(&other.id));
        self.directory.set(points);
        for (name, record) in members {
            if let Some(node) = self.directory.node(name) {
                node.report(record.load.connections, record.connections_max);
            }
        }
    }

    /// The access point that this node is; empty: none.
    pub fn here(&self) -> &str {
        &self.config.here
    }

    /// Who is believed when it says for whom it asks.
    pub fn trusted_proxies(&self) -> &[IpNetwork] {
        &self.config.trusted_proxies
    }

    /// All access points, as edges are told them; `probe_key`: what signs probe tokens.
    pub fn told(&self, probe_key: [u8; 32]) -> Directory {
        let entry = |node: &Arc<Node>| {
            let AccessPoint { id, addresses, region, place, weight, drained, .. } = node.point.clone();
            let Status { healthy, load } = node.status();
            let (connections, connections_max) = load.unwrap_or_default();
            let (latitude, longitude) = place.degrees();
            DirectoryEntry {
                id,
                region,
                latitude: Some(latitude),
                longitude: Some(longitude),
                addresses,
                weight,
                connections,
                connections_max,
                is_draining: drained,
                is_unhealthy: !healthy,
            }
        };
        // As many as one frame takes, and some to spare.
        let mut bytes = 0;
        let fits = |entry: &DirectoryEntry| {
            bytes += entry.encoded_len() + 8;
            bytes <= EDGE_FRAME_BYTES_MAX / 2
        };
        let entries = self.directory.nodes().iter().map(entry).take_while(fits).collect();
        Directory { probe_key: probe_key.to_vec().into(), entries, ..Directory::default() }
    }

    /// From now on there are these: a core says so to an edge.
    pub fn hear(&self, said: Directory) {
        if let Ok(key) = said.probe_key[..].try_into() {
            self.tokens.store(Arc::new(Tokens::new(key)));
        }
        let mut points = Vec::new();
        let mut states = Vec::new();
        for entry in said.entries {
            let DirectoryEntry { id, addresses, region, weight, connections, connections_max, .. } = entry;
            let place = entry.latitude.zip(entry.longitude).and_then(|degrees| Place::try_from(degrees).ok());
            let (Some(place), true) = (place, is_id(&id)) else { continue };
            states.push((id.clone(), !entry.is_unhealthy, connections, connections_max));
            let drained = entry.is_draining;
            points.push(AccessPoint { id, addresses, region, place, weight: weight.max(1), capacity: 0, drained });
        }
        self.directory.set(points);
        for (id, is_healthy, connections, connections_max) in states {
            if let Some(node) = self.directory.node(&id) {
                node.set_healthy(is_healthy);
                if connections_max > 0 {
                    node.report(connections, connections_max);
                }
            }
        }
    }
}

/// What a node is to clients; `None`: it does not say where it is.
fn access_point(record: &NodeRecord, regions: &[Region]) -> Option<AccessPoint> {
    let region = regions.iter().find(|region| region.id == record.region);
    let own = record.latitude.zip(record.longitude).map(|(latitude, longitude)| Place::at(latitude, longitude));
    let place = own.or(region.map(|region| region.coordinates))?;
    is_id(&record.name).then(|| AccessPoint {
        id: record.name.clone(),
        addresses: record.addresses.clone(),
        region: record.region.clone(),
        place,
        weight: record.weight.max(1),
        capacity: 0,
        drained: record.load.is_draining || record.load.is_joining || record.weight == 0,
    })
}

#[cfg(test)]
mod tests {
    use backend::domain::nodes::Load;

    use super::*;

    fn node(name: &str, region: &str) -> NodeRecord {
        let (name, region, addresses) = (name.into(), region.into(), vec!["h:1".into()]);
        NodeRecord { name, region, addresses, weight: 100, connections_max: 10, ..NodeRecord::default() }
    }

    #[test]
    fn geo_03_nodes_are_access_points_where_they_say() {
        let regions = super::super::regions::with(Vec::new()).unwrap();
        let of = |record: &NodeRecord| access_point(record, &regions);
        let tokyo = of(&node("tokyo-1", "japan")).unwrap();
        let japan = regions.iter().find(|region| region.id == "japan").unwrap();
        assert_eq!((tokyo.id.as_str(), tokyo.place, tokyo.drained), ("tokyo-1", japan.coordinates, false));
        assert_eq!(of(&node("x", "")), None, "it does not say where it is");
        assert_eq!(of(&node("x", "atlantis")), None);
        let placed = NodeRecord { latitude: Some(10.0), longitude: Some(20.0), ..node("x", "atlantis") };
        assert_eq!(of(&placed).unwrap().place, Place::at(10.0, 20.0));
        let load = Load { connections: 3, is_draining: true, ..Load::default() };
        assert!(of(&NodeRecord { load, ..node("x", "japan") }).unwrap().drained);
        let load = Load { is_joining: true, ..Load::default() };
        assert!(of(&NodeRecord { load, ..node("x", "japan") }).unwrap().drained, "it serves nobody yet");
        assert!(of(&NodeRecord { weight: 0, ..node("x", "japan") }).unwrap().drained);
        assert_eq!(of(&node("not an id", "japan")), None);
    }
}
