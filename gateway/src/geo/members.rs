//! Access points that nodes of the deployment are, as they say of themselves, beside those of the configuration. Where
//! both have the same name they are one: where it is and how it is reached the configuration says, and how it is the node.
//!
//! A node is one if it says where it is: by a region that is known here, or by coordinates. It is healthy as long as its
//! lease is; how full it is it says with each renewal. What an edge says is a stranger's word: no number and no text of
//! it goes further than one in the configuration could.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, atomic::Ordering},
};

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
    access_points::{ADDRESSES_MAX, AccessPoint, WEIGHT_MAX, is_address},
    database::Whereabouts,
    directory::Node,
    place::Place,
    regions::{Region, is_id},
    score::Status,
    token::Tokens,
};
use crate::config::is_name;

impl<W: Whereabouts> Geo<W> {
    /// From now on these nodes live.
    pub fn follow(&self, nodes: &[(NodeId, NodeRecord)]) {
        let members = by_name(nodes);
        let mut points = self.config.access_points.clone();
        for point in &mut points {
            point.drained |= members.get(point.id.as_str()).is_some_and(|record| record.load.is_draining);
        }
        let is_new = |id: &str| self.config.access_points.iter().all(|known| known.id != id);
        let mut complaints = names_twice(nodes);
        for record in members.values() {
            match access_point(record, &self.config.regions) {
                _ if !is_new(&record.name) => {}
                Ok(point) => points.extend(point),
                Err(why) => _ = complaints.insert(format!("the node {:?} is no access point: {why}", record.name)),
            }
        }
        self.complain(complaints);
        points.sort_by(|one, other| one.id.cmp(&other.id));
        for node in self.directory.set(points).iter() {
            let record = members.get(node.point.id.as_str());
            node.set_lease(record.is_some());
            if let Some(record) = record {
                node.report(record.load.connections, record.connections_max);
            }
        }
    }

    /// Says what is wrong with nodes, each once for as long as it is.
    fn complain(&self, now: BTreeSet<String>) {
        let mut said = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        now.difference(&said).for_each(|wrong| tracing::warn!("{wrong}"));
        *said = now;
    }

    /// The access point that this node is; empty: none.
    pub fn here(&self) -> &str {
        &self.config.here
    }

    /// Who is believed when it says for whom it asks.
    pub fn trusted_proxies(&self) -> &[IpNetwork] {
        &self.config.trusted_proxies
    }

    /// How many connections to `/v1/locate` an address may have.
    pub fn connections_per_address_max(&self) -> usize {
        self.config.connections_per_address_max
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
        let nodes = self.directory.nodes();
        let entries: Vec<_> = nodes.iter().map(entry).take_while(fits).collect();
        let untold = nodes.len() - entries.len();
        if self.untold.swap(untold, Ordering::Relaxed) < untold {
            tracing::warn!(untold, "there are more access points than a link's frame takes: edges know no others");
        }
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
            states.push((!entry.is_unhealthy, connections, connections_max));
            let drained = entry.is_draining;
            let weight = weight.clamp(1, WEIGHT_MAX);
            points.push(AccessPoint { id, addresses, region, place, weight, capacity: 0, drained });
        }
        for (node, (is_healthy, connections, connections_max)) in self.directory.set(points).iter().zip(states) {
            node.set_healthy(is_healthy);
            if connections_max > 0 {
                node.report(connections, connections_max);
            }
        }
    }
}

/// Who has each name. Of several a core, to which no edge can make itself, and else who has had it for longest, however
/// often it says so: a node that has come back gets it when the lease of its row from before is over. Where rows don't say
/// since when, the first is.
fn by_name(nodes: &[(NodeId, NodeRecord)]) -> AHashMap<&str, &NodeRecord> {
    let mut members: AHashMap<&str, &NodeRecord> = AHashMap::new();
    for (_, record) in nodes {
        let known = members.entry(&record.name).or_insert(record);
        if (record.is_edge, record.since) < (known.is_edge, known.since) {
            *known = record;
        }
    }
    members
}

/// A complaint for each node whose name another one has.
fn names_twice(nodes: &[(NodeId, NodeRecord)]) -> BTreeSet<String> {
    let members = by_name(nodes);
    let has_its_name = |record: &NodeRecord| members.get(&*record.name).is_some_and(|has| std::ptr::eq(*has, record));
    let others = nodes.iter().filter(|(_, record)| !has_its_name(record));
    let complaint = |(id, NodeRecord { name, addresses, .. }): &(NodeId, NodeRecord)| {
        format!(
            "another node has the name {name:?} already, unless that has just gone: clients are not told of the one at \
             {addresses:?} (id {id})"
        )
    };
    others.map(complaint).collect()
}

/// What a node is to clients; `None`: it does not say where it is. An error is what makes no sense in what it says.
fn access_point(record: &NodeRecord, regions: &[Region]) -> Result<Option<AccessPoint>, &'static str> {
    let degrees = record.latitude.zip(record.longitude);
    if degrees.is_none() && record.region.is_empty() {
        return Ok(None);
    }
    let place = match degrees {
        Some(degrees) => Place::try_from(degrees)?,
        None => regions.iter().find(|region| region.id == record.region).ok_or("nobody knows its region")?.coordinates,
    };
    if !is_id(&record.name) {
        return Err("its name is no id: 1 to 32 letters, digits or hyphens");
    }
    let addresses = record.addresses.iter().filter(|address| is_address(address)).take(ADDRESSES_MAX);
    let addresses: Vec<String> = addresses.cloned().collect();
    if addresses.is_empty() {
        return Err("it names no address");
    }
    Ok(Some(AccessPoint {
        id: record.name.clone(),
        addresses,
        region: if is_name(&record.region) { record.region.clone() } else { String::new() },
        place,
        weight: record.weight.clamp(1, WEIGHT_MAX),
        capacity: 0,
        drained: record.load.is_draining || record.load.is_joining || record.weight == 0,
    }))
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
        let of = |record: &NodeRecord| access_point(record, &regions).unwrap();
        let refused = |record: &NodeRecord| access_point(record, &regions).unwrap_err();
        let tokyo = of(&node("tokyo-1", "japan")).unwrap();
        let japan = regions.iter().find(|region| region.id == "japan").unwrap();
        assert_eq!((tokyo.id.as_str(), tokyo.place, tokyo.drained), ("tokyo-1", japan.coordinates, false));
        assert_eq!(of(&node("x", "")), None, "it does not say where it is");
        assert!(refused(&node("x", "atlantis")).contains("region"));
        let placed = NodeRecord { latitude: Some(10.0), longitude: Some(20.0), ..node("x", "atlantis") };
        assert_eq!(of(&placed).unwrap().place, Place::at(10.0, 20.0));
        let load = Load { connections: 3, is_draining: true, ..Load::default() };
        assert!(of(&NodeRecord { load, ..node("x", "japan") }).unwrap().drained);
        let load = Load { is_joining: true, ..Load::default() };
        assert!(of(&NodeRecord { load, ..node("x", "japan") }).unwrap().drained, "it serves nobody yet");
        assert!(of(&NodeRecord { weight: 0, ..node("x", "japan") }).unwrap().drained);
        assert!(refused(&node("not_an_id", "japan")).contains("name"));
        assert!(refused(&NodeRecord { addresses: Vec::new(), ..node("x", "japan") }).contains("address"));
    }

    #[test]
    fn geo_03_a_node_that_the_configuration_names_drains_and_ends_like_others() {
        let (config, _folder) = super::super::tests::config();
        let geo = Geo::open(config, [7; 32]).unwrap();
        let paris = || geo.directory.node("paris").unwrap();
        let of = |load: Load| vec![(1, NodeRecord { load, ..node("paris", "japan") })];
        geo.follow(&of(Load { connections: 4, ..Load::default() }));
        assert_eq!(paris().status(), Status { healthy: true, load: Some((4, 10)) });
        assert!(!paris().point.drained && paris().point.region == "france", "the configuration says where it is");
        geo.follow(&of(Load { connections: 4, is_draining: true, ..Load::default() }));
        assert!(paris().point.drained);
        geo.follow(&[]);
        assert!(!paris().point.drained && !paris().status().healthy, "its lease is over");
        assert!(geo.directory.node("tokyo").unwrap().status().healthy, "it has never had one");
        geo.follow(&of(Load::default()));
        assert_eq!(paris().status(), Status { healthy: true, load: Some((0, 10)) });
    }

    #[test]
    fn geo_03_an_edge_hears_what_its_core_tells_and_no_more_than_a_frame_takes() {
        let (config, _folder) = super::super::tests::config();
        let [core, edge] = [config.clone(), config].map(|config| Geo::open(config, [7; 32]).unwrap());
        core.directory.node("tokyo").unwrap().set_healthy(false);
        core.directory.node("paris").unwrap().report(3, 9);
        edge.hear(core.told([7; 32]));
        let of = |geo: &Geo| {
            let nodes = geo.directory.nodes();
            nodes.iter().map(|node| (node.point.id.clone(), node.status())).collect::<Vec<_>>()
        };
        assert_eq!(of(&edge), of(&core));
        let host = "h".repeat(200);
        let many = (0..2_000).map(|id| NodeRecord {
            addresses: vec![format!("{host}:1")],
            latitude: Some(1.0),
            longitude: Some(2.0),
            ..node(&format!("n{id}"), "japan")
        });
        core.follow(&(1..).zip(many).collect::<Vec<_>>());
        let told = core.told([7; 32]).entries.len();
        assert!(told > 100 && core.untold.load(Ordering::Relaxed) == 2_003 - told);
    }

    #[test]
    fn geo_03_nobody_takes_the_name_of_a_node_that_lives() {
        // Whoever links to several cores is vouched for more often, and gains nothing by it.
        let of = |id, is_edge, since| {
            let (renewals, addresses) = (since * 100, vec![format!("h:{id}")]);
            (id, NodeRecord { is_edge, since, renewals, addresses, ..node("fra-1", "germany") })
        };
        for (nodes, expected) in [
            (vec![of(1, true, 7), of(2, false, 900)], 2),
            (vec![of(1, false, 900), of(2, true, 7)], 1),
            (vec![of(1, true, 7), of(2, true, 9)], 1),
            (vec![of(1, true, 9), of(2, true, 7)], 2),
            (vec![of(1, false, 9), of(2, false, 7)], 2),
            (vec![of(1, true, 7), of(2, true, 0)], 2),
        ] {
            assert_eq!(by_name(&nodes)["fra-1"].addresses, [format!("h:{expected}")], "{nodes:?}");
            let complaints: Vec<String> = names_twice(&nodes).into_iter().collect();
            let other = format!("clients are not told of the one at [\"h:{0}\"] (id {0})", 3 - expected);
            assert!(complaints.len() == 1 && complaints[0].ends_with(&other), "{complaints:?}");
        }
        let back = [of(2, true, 40)];
        assert_eq!((by_name(&back)["fra-1"].since, names_twice(&back).len()), (40, 0), "the one from before is gone");
        // Nobody notes it where there is one core: who was first is named first.
        let nodes = [of(2, true, 0), of(1, true, 0)];
        assert_eq!(by_name(&nodes)["fra-1"].addresses, ["h:2"]);
    }

    #[test]
    fn geo_03_no_word_of_a_node_goes_further_than_the_configuration_could() {
        let regions = super::super::regions::with(Vec::new()).unwrap();
        let of = |record: &NodeRecord| access_point(record, &regions).ok().flatten();
        for wrong in [f64::INFINITY, f64::NAN, -f64::NAN, 90.1] {
            let record = NodeRecord { latitude: Some(wrong), longitude: Some(0.0), ..node("x", "japan") };
            assert_eq!(of(&record), None, "{wrong}");
        }
        assert_eq!(of(&NodeRecord { weight: u32::MAX, ..node("x", "japan") }).unwrap().weight, WEIGHT_MAX);
        let mut addresses: Vec<String> = (1..=20).map(|port| format!("h:{port}")).collect();
        addresses[0] = "<no address>".to_owned();
        let told = of(&NodeRecord { addresses, ..node("x", "japan") }).unwrap().addresses;
        assert!(told.len() == ADDRESSES_MAX && told[0] == "h:2", "{told:?}");
        let placed = NodeRecord { latitude: Some(1.0), longitude: Some(2.0), ..node("x", &"long ".repeat(9_000)) };
        assert_eq!(of(&placed).unwrap().region, "");
    }
}
