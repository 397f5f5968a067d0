//! Access points that nodes of the deployment are, as they say of themselves: beside those of the configuration, which
//! come first where both have the same name.
//!
//! A node is one if it says where it is: by a region that is known here, or by coordinates. It is healthy as long as its
//! lease is; how full it is it says with each renewal.

use ahash::AHashMap;
use backend::domain::nodes::{NodeId, NodeRecord};

use super::{
    Geo,
    access_points::AccessPoint,
    database::Whereabouts,
    place::Place,
    regions::{Region, is_id},
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
        drained: record.load.is_draining || record.weight == 0,
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
        let load = Load { connections: 3, is_draining: true };
        assert!(of(&NodeRecord { load, ..node("x", "japan") }).unwrap().drained);
        assert!(of(&NodeRecord { weight: 0, ..node("x", "japan") }).unwrap().drained);
        assert_eq!(of(&node("not an id", "japan")), None);
    }
}
