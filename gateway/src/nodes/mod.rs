//! This node among those that share its store: it says that it lives, sees who else does, and is linked with them.
//!
//! A node that can't be linked with all others serves all the same, also one that has no links at all, once they have seen
//! that it will: what one may miss of another its clients read ([`crate::cluster`]). One that was taken for dead ends: others have told its users that they are offline, and it
//! could change nothing any more.
//!
//! - [`seen`]: what rows of others mean.
//!
//! What may not live here: what cores say to each other.

mod seen;

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

use self::seen::{Joining, Next, Other, Seen};
use crate::{
    cluster::{Cluster, Live, Outgoing},
    config::Config,
    link_tls::LinkTls,
    peers::{self, Options, Peer, PeerEvents, PeerHandle, Peers},
    shared::Shared,
};

/// A node says so many times in a lease that it lives, and looks who else does.
const RENEWALS_PER_LEASE: u64 = 5;

/// How often a core that starts looks whether it is linked with all others.
const JOINING_LOOK: Duration = Duration::from_millis(20);

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
    is_joining: AtomicBool,
    is_draining: AtomicBool,
    failure: OnceLock<String>,
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
    // Others may not know the region: it is the operator's word, and so is where it lies.
    let region = config.geo.regions.iter().find(|region| region.id == node.region);
    let place = node.place.or(region.map(|region| region.coordinates.degrees()));
    let told = |address: Option<SocketAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    NodeRecord {
        name: node.name.clone(),
        is_edge: false,
        region: node.region.clone(),
        latitude: place.map(|(latitude, _)| latitude),
        longitude: place.map(|(_, longitude)| longitude),
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
    /// Says that this node lives, waits until it may serve, and keeps the lease from here on. Nothing may be changed in the
    /// store before.
    pub fn join(id: NodeId, shared: &Arc<Shared>, listener: Option<TcpListener>) -> anyhow::Result<Running> {
        let (store, clock, record) = (shared.store.clone(), shared.clock.clone(), shared.record.clone());
        let commits = Box::new(shared.sends.clone());
        let cluster = Cluster::new(shared.router.clone(), clock.clone(), commits, shared.config.link.late_ms_max);
        shared.router.join(cluster.clone());
        let peers = listener.map(|listener| start_peers(id, shared, listener, cluster.clone())).transpose()?;
        shared.sends.fence(id);
        let membership = Arc::new(Membership::new(id, store, clock, record, cluster, peers));
        membership.enlist().context("saying that this node lives")?;
        let seen = membership.wait_for_others().context("joining the other cores")?;
        let (stop, stopped) = mpsc::channel();
        let thread = {
            let (membership, shared) = (membership.clone(), shared.clone());
            std::thread::Builder::new().name("nodes".into()).spawn(move || membership.live(seen, &shared, &stopped))?
        };
        Ok(Running { membership, stop, thread })
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
        Membership { id, store, clock, record, cluster, peers, is_joining: AtomicBool::new(true), is_draining, failure }
    }

    fn enlist(&self) -> Result<(), Error> {
        let record = NodeRecord { load: self.load(0), ..self.record.clone() };
        block_on(nodes::enlist(&self.store, self.id, record))
    }

    /// Waits until this node may serve. It is linked with all others, or those with whom it is not know that they miss
    /// what it does: they have looked since its row says that it serves, or were taken for dead.
    fn wait_for_others(&self) -> Result<Seen, Error> {
        let (mut seen, mut joining, mut renew_us) = (Seen::default(), Joining::default(), 0);
        loop {
            if let Some(all) = self.look(&mut seen) {
                match joining.next(&self.others(&all)) {
                    Next::Serve => {
                        self.is_joining.store(false, Ordering::Relaxed);
                        self.cluster.serve(&self.live_cores(&all));
                        return Ok(seen);
                    }
                    Next::Say => {
                        tracing::warn!("not linked with all other cores: until it is, its clients read the log");
                        self.is_joining.store(false, Ordering::Relaxed);
                        while !self.renew(0)? {
                            std::thread::sleep(JOINING_LOOK);
                        }
                    }
                    Next::Wait if self.clock.monotonic_us() >= renew_us => {
                        renew_us = self.clock.monotonic_us() + self.interval_us();
                        self.renew(0)?;
                    }
                    Next::Wait => {}
                }
            }
            std::thread::sleep(JOINING_LOOK);
        }
    }

    /// Looks who else lives and renews the lease, until it is told to stop.
    fn live(&self, mut seen: Seen, shared: &Shared, stopped: &mpsc::Receiver<()>) {
        let interval = Duration::from_micros(self.interval_us());
        loop {
            if let Some(all) = self.look(&mut seen) {
                if self.renew(shared.connections.load(Ordering::Relaxed) as u64).is_err() {
                    let text = "this node was taken for dead by others, which have not heard of it for its lease \
                                (node.lease_ms): it ends, and can be started again";
                    let _ = self.failure.set(text.to_owned());
                    return;
                }
                shared.geo.follow(&all);
                shared.edges.follow(&all);
            }
            self.vouch(shared.edges.records(shared.room()));
            let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(interval) else { return };
        }
    }

    /// Says that this node lives, and has looked just now. Whether it could be said; [`Error::Fenced`]: it was taken for
    /// dead.
    fn renew(&self, connections: u64) -> Result<bool, Error> {
        match block_on(nodes::renew(&self.store, self.id, self.load(connections))) {
            Ok(()) => Ok(true),
            Err(Error::Fenced) => Err(Error::Fenced),
            Err(error) => {
                tracing::warn!(%error, "the lease of this node is not renewed");
                Ok(false)
            }
        }
    }

    fn load(&self, connections: u64) -> Load {
        let [is_draining, is_joining] = [&self.is_draining, &self.is_joining].map(|is| is.load(Ordering::Relaxed));
        Load { connections, is_draining, is_joining }
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

    fn other_cores<'a>(&self, all: &'a [(NodeId, NodeRecord)]) -> impl Iterator<Item = &'a (NodeId, NodeRecord)> {
        let own = self.id;
        all.iter().filter(move |(id, record)| *id != own && !record.is_edge)
    }

    fn live_cores(&self, all: &[(NodeId, NodeRecord)]) -> Vec<Live> {
        self.other_cores(all).map(|(id, record)| Live { id: *id, serves: !record.load.is_joining }).collect()
    }

    fn others(&self, all: &[(NodeId, NodeRecord)]) -> Vec<Other> {
        let other = |(id, record): &(NodeId, NodeRecord)| Other {
            id: *id,
            renewals: record.renewals,
            is_linked: self.cluster.is_linked(*id),
            is_linkable: self.peers.is_some() && !record.peers_address.is_empty(),
        };
        self.other_cores(all).map(other).collect()
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
        let live = self.live_cores(&all);
        match &self.peers {
            Some(peers) => {
                let address = |(id, record): &(NodeId, NodeRecord)| Some((*id, resolve(&record.peers_address)?));
                peers.set(self.other_cores(&all).filter_map(address).collect());
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
        self.0.up(peer.id, peer.version, Box::new(peer.handle.clone()));
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

    fn has_room(&self) -> bool {
        PeerHandle::has_room(self)
    }

    fn close(&self) {
        PeerHandle::close(self);
    }
}

#[cfg(test)]
mod tests;
