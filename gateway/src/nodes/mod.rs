//! This node among those that share its store: it says that it lives, sees who else does, and is linked with them.
//!
//! A node that can't be linked with all others serves all the same, after a while, also one that has no links at all:
//! what it may miss its clients read ([`crate::cluster`]). One that was taken for dead ends: others have told its users that they are offline, and it
//! could change nothing any more.
//!
//! What may not live here: what cores say to each other.

use std::{
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use ahash::AHashMap;
use anyhow::Context as _;
use backend::{
    domain::{
        Error,
        nodes::{self, Load, NodeId, NodeRecord},
    },
    env::Clock,
    store::Store,
};
use futures::executor::block_on;
use protocol::link::What;

use crate::{
    cluster::{Cluster, Outgoing},
    config::Config,
    link_tls::LinkTls,
    peers::{self, Options, Peer, PeerEvents, PeerHandle, Peers},
    shared::Shared,
};

/// A node says so many times in a lease that it lives, and looks who else does.
const RENEWALS_PER_LEASE: u64 = 5;

/// For how long a node that ends waits for what is under way in the store, or in doubt.
const SETTLE_WITHIN: Duration = Duration::from_secs(5);

/// Bits of a session's number that say which session of its node it is: numbers stay within what all clients can count.
const SESSION_BITS: u32 = 32;
const NODE_BITS: u32 = 20;

/// This node's part in the deployment, from its start on.
pub struct Membership {
    id: NodeId,
    store: Store,
    clock: Arc<dyn Clock>,
    record: NodeRecord,
    cluster: Arc<Cluster>,
    /// Links with the other cores. Without them they are never heard here, and everything is told as something to read.
    peers: Option<Peers>,
    is_draining: Arc<AtomicBool>,
    failure: Arc<OnceLock<String>>,
}

/// A membership whose lease a thread renews.
pub struct Running {
    membership: Arc<Membership>,
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

/// Where sessions of a node get their numbers from.
pub fn session_base(id: NodeId) -> u64 {
    (id & ((1 << NODE_BITS) - 1)) << SESSION_BITS
}

/// What this node says of itself.
pub fn record(
    config: &Config,
    client_address: SocketAddr,
    peers_address: Option<SocketAddr>,
    connections_max: usize,
) -> NodeRecord {
    let (node, link) = (&config.node, &config.link);
    let addresses = match &node.addresses[..] {
        [] => vec![client_address.to_string()],
        named => named.iter().map(ToString::to_string).collect(),
    };
    let told = |address: Option<SocketAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    NodeRecord {
        name: node.name.clone(),
        is_edge: false,
        region: node.region.clone(),
        latitude: node.place.map(|(latitude, _)| latitude),
        longitude: node.place.map(|(_, longitude)| longitude),
        addresses,
        peers_address: told(link.peers_advertise.or(peers_address)),
        link_address: told(link.advertise.or(link.listen)),
        weight: node.weight,
        connections_max: connections_max as u64,
        lease_ms: node.lease_ms,
        release: env!("CARGO_PKG_VERSION").to_owned(),
        ..NodeRecord::default()
    }
}

impl Membership {
    /// Says that this node lives, and is linked with the other cores or has waited for them long enough. Nothing may be
    /// changed in the store before.
    pub fn join(id: NodeId, shared: &Shared, listener: Option<TcpListener>) -> anyhow::Result<Arc<Self>> {
        let (store, clock, record) = (shared.store.clone(), shared.clock.clone(), shared.record.clone());
        let commits = Box::new(shared.sends.clone());
        let cluster = Cluster::new(shared.router.clone(), clock.clone(), commits, shared.config.link.late_ms_max);
        shared.router.join(cluster.clone());
        let peers = listener.map(|listener| start_peers(id, shared, listener, cluster.clone())).transpose()?;
        shared.sends.fence(id);
        let membership = Membership::new(id, store, clock, record, cluster, peers);
        membership.enlist().context("saying that this node lives")?;
        membership.wait_for_others();
        membership.cluster.serve();
        Ok(Arc::new(membership))
    }

    fn new(
        id: NodeId,
        store: Store,
        clock: Arc<dyn Clock>,
        record: NodeRecord,
        cluster: Arc<Cluster>,
        peers: Option<Peers>,
    ) -> Self {
        let (is_draining, failure) = Default::default();
        Membership { id, store, clock, record, cluster, peers, is_draining, failure }
    }

    fn enlist(&self) -> Result<(), Error> {
        block_on(nodes::enlist(&self.store, self.id, self.record.clone()))
    }

    /// Keeps the lease from here on.
    pub fn start(self: Arc<Self>, shared: Arc<Shared>) -> anyhow::Result<Running> {
        let (stop, stopped) = mpsc::channel();
        let membership = self.clone();
        let thread =
            std::thread::Builder::new().name("nodes".into()).spawn(move || membership.live(&shared, &stopped))?;
        Ok(Running { membership: self, stop, thread })
    }

    fn wait_for_others(&self) {
        // As long as others may take to see this node, and to count it as not heard.
        let deadline_us = self.clock.monotonic_us() + 2 * self.interval_us() + 2_000_000;
        let mut seen = Seen::default();
        while self.clock.monotonic_us() < deadline_us {
            if let Some(all) = self.look(&mut seen)
                && self.cluster.has_joined(&self.other_cores(&all))
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        tracing::warn!("not linked with all other cores: until it is, its clients read the log");
    }

    /// Renews the lease and looks who else lives, until it is told to stop.
    fn live(&self, shared: &Shared, stopped: &mpsc::Receiver<()>) {
        let mut seen = Seen::default();
        let interval = Duration::from_micros(self.interval_us());
        while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(interval) {
            let connections = shared.connections.load(Ordering::Relaxed) as u64;
            let load = Load { connections, is_draining: self.is_draining.load(Ordering::Relaxed) };
            match block_on(nodes::renew(&self.store, self.id, load)) {
                Ok(()) => {}
                Err(Error::Fenced) => {
                    let text = "this node was taken for dead by others, which have not heard of it for its lease \
                                (node.lease_ms): it ends, and can be started again";
                    let _ = self.failure.set(text.to_owned());
                    return;
                }
                Err(error) => tracing::warn!(%error, "the lease of this node is not renewed"),
            }
            self.vouch(shared.edges.records());
            if let Some(all) = self.look(&mut seen) {
                shared.geo.follow(&all);
            }
        }
    }

    /// Says of the edges that are linked here that they live: of all in one transaction, since the lease waits.
    fn vouch(&self, edges: Vec<(NodeId, NodeRecord)>) {
        if edges.is_empty() {
            return;
        }
        match block_on(nodes::vouch(&self.store, edges)) {
            Ok(refused) => {
                refused.iter().for_each(|id| tracing::warn!(id, "an edge says that it is a core: others are not told"));
            }
            Err(error) => tracing::warn!(%error, "others are not told of edges"),
        }
    }

    fn leave(&self) {
        let is_settled = self.cluster.settle(SETTLE_WITHIN);
        // From here on nothing of this node is committed any more.
        if let Err(error) = block_on(nodes::leave(&self.store, self.id)) {
            tracing::warn!(%error, "others are not told that this node ends: they wait for its lease");
            return;
        }
        match is_settled && self.cluster.settle(SETTLE_WITHIN) {
            true => self.cluster.end(),
            false => tracing::warn!("not all that this node has changed could be told: clients elsewhere read the log"),
        }
    }

    fn other_cores(&self, all: &[(NodeId, NodeRecord)]) -> Vec<NodeId> {
        all.iter().filter(|(id, record)| *id != self.id && !record.is_edge).map(|(id, _)| *id).collect()
    }

    /// All nodes that live; is linked with the cores among them. `None`: the store does not say.
    fn look(&self, seen: &mut Seen) -> Option<Vec<(NodeId, NodeRecord)>> {
        let now_us = self.clock.monotonic_us();
        let all = match block_on(nodes::list(&self.store)) {
            Ok(all) => all,
            Err(error) => {
                // Who could not say that it lives is not dead for that.
                seen.forget();
                tracing::warn!(%error, "the nodes can't be read");
                return None;
            }
        };
        for (id, record) in seen.expired(&all, now_us, 3 * self.interval_us()) {
            match block_on(nodes::bury(&self.store, id, record.renewals)) {
                Ok(true) => tracing::warn!(
                    node = record.name,
                    id,
                    "a node was not heard of for its lease: it is taken for dead"
                ),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, node = record.name, "a node can't be taken for dead"),
            }
        }
        let live = self.other_cores(&all);
        let others = all.iter().filter(|(id, _)| live.contains(id));
        match &self.peers {
            Some(peers) => {
                peers.set(others.filter_map(|(id, record)| Some((*id, resolve(&record.peers_address)?))).collect());
            }
            None if !live.is_empty() && !seen.has_warned => {
                seen.has_warned = true;
                tracing::warn!(
                    others = live.len(),
                    "other cores share this store, and this one has no link.peers_listen: clients here read their log \
                     for everything that is new"
                );
            }
            None => {}
        }
        self.cluster.set_live(&live);
        Some(all)
    }

    fn interval_us(&self) -> u64 {
        self.record.lease_ms * 1000 / RENEWALS_PER_LEASE
    }
}

impl Running {
    /// Why this node must end, if it must.
    pub fn failure(&self) -> Option<&str> {
        self.membership.failure.get().map(String::as_str)
    }

    /// Others send no new clients here from now on.
    pub fn drain(&self) {
        self.membership.is_draining.store(true, Ordering::Relaxed);
    }

    /// This node ends. Others are told that it is gone, and that they have heard all that it has changed, if they have:
    /// else they read the logs.
    pub fn leave(self) {
        let Running { membership, stop, thread } = self;
        drop(stop);
        let _ = thread.join();
        if membership.failure.get().is_none() {
            membership.leave();
        }
        if let Some(peers) = Arc::into_inner(membership).and_then(|membership| membership.peers) {
            peers.stop();
        }
    }
}

/// What was seen of the nodes, by this node's own clock.
#[derive(Default)]
struct Seen {
    /// Renewals, and since when they are so many.
    nodes: AHashMap<NodeId, (u64, u64)>,
    looked_us: u64,
    has_warned: bool,
}

impl Seen {
    fn forget(&mut self) {
        self.nodes.clear();
    }

    /// Those whose lease is over: it was not renewed while it was looked at all the time.
    fn expired(&mut self, all: &[(NodeId, NodeRecord)], now_us: u64, gap_us_max: u64) -> Vec<(NodeId, NodeRecord)> {
        if now_us > self.looked_us + gap_us_max {
            self.forget();
        }
        self.looked_us = now_us;
        self.nodes.retain(|id, _| all.iter().any(|(other, _)| other == id));
        let mut expired = Vec::new();
        for (id, record) in all {
            let known = self.nodes.entry(*id).or_insert((record.renewals, now_us));
            if known.0 != record.renewals {
                *known = (record.renewals, now_us);
            }
            if now_us >= known.1 + record.lease_ms * 1000 {
                expired.push((*id, record.clone()));
            }
        }
        expired
    }
}

fn resolve(address: &str) -> Option<SocketAddr> {
    address.to_socket_addrs().ok()?.next()
}

fn start_peers(id: NodeId, shared: &Shared, listener: TcpListener, cluster: Arc<Cluster>) -> anyhow::Result<Peers> {
    let config = &shared.config;
    let tls: Arc<LinkTls> = shared.link_tls.clone().context("links have no certificate")?;
    let options = Options {
        hello: peers::hello(id, &config.node.name, shared.store_id.clone()),
        tls,
        queue_bytes_max: config.link.queue_bytes_max,
        rng: shared.rng.clone(),
    };
    Peers::start(listener, options, Links(cluster))
}

/// What links say, for the cluster.
struct Links(Arc<Cluster>);

impl PeerEvents for Links {
    fn up(&self, peer: &Peer) {
        self.0.up(peer.id, Box::new(peer.handle.clone()));
    }

    fn frame(&self, peer: &Peer, frame: What) {
        self.0.frame(peer.id, frame);
    }

    fn down(&self, peer: u64) {
        self.0.down(peer);
    }
}

impl Outgoing for PeerHandle {
    fn send(&self, frame: bytes::Bytes) -> bool {
        self.send_encoded(frame).is_ok()
    }

    fn close(&self) {
        PeerHandle::close(self);
    }
}

#[cfg(test)]
mod tests;
