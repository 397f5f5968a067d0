//! The nodes of a deployment that share a store: each has a row, which it renews for as long as it lives, and a *fence*.
//!
//! Whether a row is renewed in time is judged by those who look, each with its own clock: the number of renewals must
//! rise. Clocks of machines are never compared. Who finds one that has not risen for the row's lease takes the node for
//! dead: row and fence are cleared in one transaction. Each batch of acts reads the fence of its node
//! ([`super::send_queue`]), so that a node which was taken for dead, and is not, carries out no acts any more.
//!
//! What may not live here: when to look and whom to be linked with.

use futures::future::try_join_all;
use prost::Message;

use super::{Error, damaged, keys};
use crate::store::{Lane, RangeQuery, ReadMode, Store, Tx};

/// Nodes that are read at the most: more than a deployment has.
const NODES_MAX: usize = 10_000;

/// Leases wait for no act: in the lane of those one transaction after the other is run to its end, and a node would be
/// taken for dead because of a slow one.
const LEASES: Lane = Lane::Read;

/// A node, drawn at its start: one that comes back is another one.
pub type NodeId = u64;

/// What a node says of itself.
#[derive(Clone, PartialEq, Message)]
pub struct NodeRecord {
    /// What its operator calls it.
    #[prost(string, tag = "1")]
    pub name: String,
    /// It has no store, and clients' sessions are with a core.
    #[prost(bool, tag = "2")]
    pub is_edge: bool,
    /// Where it is, as the catalogue of regions names it; empty: not said.
    #[prost(string, tag = "3")]
    pub region: String,
    /// Degrees north, and east; none: those of the region.
    #[prost(double, optional, tag = "4")]
    pub latitude: Option<f64>,
    /// Degrees east.
    #[prost(double, optional, tag = "5")]
    pub longitude: Option<f64>,
    /// Where clients reach it: host and port.
    #[prost(string, repeated, tag = "6")]
    pub addresses: Vec<String>,
    /// Where other cores reach it; empty: nowhere.
    #[prost(string, tag = "7")]
    pub peers_address: String,
    /// Where edges reach it; empty: nowhere.
    #[prost(string, tag = "8")]
    pub link_address: String,
    /// Share of clients that it is given, in percent of the usual.
    #[prost(uint32, tag = "9")]
    pub weight: u32,
    /// Connections that it takes.
    #[prost(uint64, tag = "10")]
    pub connections_max: u64,
    /// How long it is believed without a renewal, milliseconds.
    #[prost(uint64, tag = "11")]
    pub lease_ms: u64,
    /// What it runs.
    #[prost(string, tag = "12")]
    pub release: String,
    /// How often it has said that it lives.
    #[prost(uint64, tag = "13")]
    pub renewals: u64,
    /// How it fares.
    #[prost(message, required, tag = "14")]
    pub load: Load,
    /// The store's version when it came, which says who was first; 0: a release that did not note it has written this.
    #[prost(uint64, tag = "15")]
    pub since: u64,
}

/// How a node fares.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Load {
    /// Connections now.
    #[prost(uint64, tag = "1")]
    pub connections: u64,
    /// It takes no new ones.
    #[prost(bool, tag = "2")]
    pub is_draining: bool,
    /// It serves nobody yet, so others need not hear it. It does not before all that are not linked with it have looked.
    #[prost(bool, tag = "3")]
    pub is_joining: bool,
}

/// A node begins to live. It changes nothing before.
pub async fn enlist(store: &Store, id: NodeId, record: NodeRecord) -> Result<(), Error> {
    let put = async move |tx: &Tx| -> Result<(), Error> {
        let record = NodeRecord { since: now(tx).await?, ..record.clone() };
        tx.set(keys::node(id), record.encode_to_vec());
        tx.set(keys::node_alive(id), Vec::new());
        Ok(())
    };
    store.run(Lane::Write, "enlist", put).await.map(|_| ())
}

/// The node lives, and has looked just now who else does: so who has renewed twice since something was written has seen
/// it. [`Error::Fenced`]: it was taken for dead.
pub async fn renew(store: &Store, id: NodeId, load: Load) -> Result<(), Error> {
    let put = async move |tx: &Tx| -> Result<(), Error> {
        let Some(mut record) = node(tx, id).await? else { return Err(Error::Fenced) };
        record.renewals += 1;
        record.load = load.clone();
        tx.set(keys::node(id), record.encode_to_vec());
        Ok(())
    };
    store.run(LEASES, "renew", put).await.map(|_| ())
}

/// Edges live, as a core says to which they are linked. They change nothing, so they have no fence. Returns those whose
/// id is a core's: nothing is said of them.
pub async fn vouch(store: &Store, edges: Vec<(NodeId, NodeRecord)>) -> Result<Vec<NodeId>, Error> {
    let put = async move |tx: &Tx| -> Result<Vec<NodeId>, Error> {
        let known = try_join_all(edges.iter().map(|(id, _)| node(tx, *id))).await?;
        let mut refused = Vec::new();
        for ((id, record), known) in edges.iter().zip(known) {
            if known.as_ref().is_some_and(|known| !known.is_edge) {
                refused.push(*id);
                continue;
            }
            let (renewals, since) = known.map_or((0, 0), |known| (known.renewals + 1, known.since));
            let since = if since == 0 { now(tx).await? } else { since };
            let record = NodeRecord { renewals, since, is_edge: true, ..record.clone() };
            tx.set(keys::node(*id), record.encode_to_vec());
        }
        Ok(refused)
    };
    Ok(store.run(LEASES, "vouch", put).await?.0)
}

/// The node has ended, and changes nothing any more.
pub async fn leave(store: &Store, id: NodeId) -> Result<(), Error> {
    let clear = async move |tx: &Tx| -> Result<(), Error> {
        clear(tx, id);
        Ok(())
    };
    store.run(Lane::Write, "leave", clear).await.map(|_| ())
}

/// All nodes, by id.
pub async fn list(store: &Store) -> Result<Vec<(NodeId, NodeRecord)>, Error> {
    let look = async |tx: &Tx| -> Result<Vec<(NodeId, NodeRecord)>, Error> {
        let (begin, end) = keys::nodes();
        let query = RangeQuery { begin, end, limit: NODES_MAX, reverse: false, mode: ReadMode::Snapshot };
        let pairs = tx.range(query).await?.pairs;
        let decoded = pairs.into_iter().filter_map(|(key, stored)| {
            let record = NodeRecord::decode(stored);
            if record.is_err() {
                // Others are not to be taken for dead because of it.
                tracing::warn!(?key, "what is stored of a node does not decode: it is left out");
            }
            Some((keys::node_of(&key)?, record.ok()?))
        });
        Ok(decoded.collect())
    };
    Ok(store.run(Lane::Read, "nodes", look).await?.0)
}

/// Takes a node for dead that was seen at `renewals`, and is there still. Returns whether it is: not if it has said
/// meanwhile that it lives.
pub async fn bury(store: &Store, id: NodeId, renewals: u64) -> Result<bool, Error> {
    let bury = async move |tx: &Tx| -> Result<bool, Error> {
        let found = node(tx, id).await?;
        let is_dead = found.is_none_or(|record| record.renewals == renewals);
        if is_dead {
            clear(tx, id);
        }
        Ok(is_dead)
    };
    Ok(store.run(LEASES, "bury", bury).await?.0)
}

async fn node(tx: &Tx, id: NodeId) -> Result<Option<NodeRecord>, Error> {
    let stored = tx.get(&keys::node(id)).await?;
    stored.map(|stored| NodeRecord::decode(stored).map_err(|_| damaged("a node"))).transpose()
}

/// When a row is made, by the store's history. Not 0, even in a store that has none.
async fn now(tx: &Tx) -> Result<u64, Error> {
    Ok(tx.read_version().await? + 1)
}

fn clear(tx: &Tx, id: NodeId) {
    tx.clear(&keys::node(id));
    tx.clear(&keys::node_alive(id));
}
