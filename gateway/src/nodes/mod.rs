//! This node among those that share its store: it says that it lives, sees who else does, and is linked with them.
//!
//! A node that can't be linked with all others serves all the same, also one that has no links at all, once they have seen
//! that it will: what one may miss of another its clients read ([`crate::cluster`]). One that was taken for dead ends:
//! others have told its users that they are offline, and it could carry out nothing any more. It learns of it from the
//! store, or, if that is out of its reach alone, from a core that it was linked with.
//!
//! - [`seen`]: what rows of others mean.
//!
//! What may not live here: what cores say to each other.

mod seen;

use std::{
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
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

/// Nodes that are taken for dead at a time, at the most: this node's own lease waits for it.
const BURIED_MAX: usize = 50;

/// How often a core that starts looks whether it is linked with all others.
const JOINING_LOOK: Duration = Duration::from_millis(20);

/// For how long a node that ends waits for what is under way in the store, or in doubt.
const SETTLE_WITHIN: Duration = Duration::from_secs(5);

/// Why a node ends, for its operator.
const TAKEN_FOR_DEAD: &str = "this node was taken for dead by others, which have not heard of it for its lease \
                              (node.lease_ms): it ends, and can be started again";
const CUT_OFF: &str = "this node does not reach the store, and others do, which have taken it for dead: it ends, so that \
                       its clients go to them, and can be started again once the store is in reach";
const THREAD_DIED: &str = "a thread has died that keeps this node among the others (the log says why)";

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
    /// When another core said last that this node is not among those that live, microseconds of the clock; 0: never.
    not_alive_us: Arc<AtomicU64>,
    failure: OnceLock<&'static str>,
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
    /// store before. `None`: it shall stop, before it has come to that.
    pub fn join(
        id: NodeId,
        shared: &Arc<Shared>,
        listener: Option<TcpListener>,
        should_stop: impl Fn() -> bool,
    ) -> anyhow::Result<Option<Running>> {
        let (store, clock, record) = (shared.store.clone(), shared.clock.clone(), shared.record.clone());
        let commits = Box::new(shared.sends.clone());
        let cluster = Cluster::new(shared.router.clone(), clock.clone(), commits, shared.config.link.late_ms_max);
        shared.router.join(cluster.clone());
        let not_alive_us = Arc::new(AtomicU64::new(0));
        let links = Links { cluster: cluster.clone(), clock: clock.clone(), not_alive_us: not_alive_us.clone() };
        let peers = listener.map(|listener| start_peers(id, shared, listener, links)).transpose()?;
        shared.sends.fence(id);
        let membership = Membership::new(id, store, clock, record, cluster, peers);
        let membership = Arc::new(Membership { not_alive_us, ..membership });
        membership.enlist().context("saying that this node lives")?;
        let Some(seen) = membership.wait_for_others(should_stop).context("joining the other cores")? else {
            membership.leave();
            return Ok(None);
        };
        let (stop, stopped) = mpsc::channel();
        let thread = {
            let (membership, shared) = (membership.clone(), shared.clone());
            std::thread::Builder::new().name("nodes".into()).spawn(move || membership.live(seen, &shared, &stopped))?
        };
        Ok(Some(Running { membership, stop, thread }))
    }

    fn new(
        id: NodeId,
        store: Store,
        clock: Arc<dyn Clock>,
        record: NodeRecord,
        cluster: Arc<Cluster>,
        peers: Option<Peers>,
    ) -> Self {
        let (is_draining, not_alive_us, failure) = Default::default();
        let is_joining = AtomicBool::new(true);
        Membership { id, store, clock, record, cluster, peers, is_joining, is_draining, not_alive_us, failure }
    }

    fn enlist(&self) -> Result<(), Error> {
        let record = NodeRecord { load: self.load(0), ..self.record.clone() };
        block_on(nodes::enlist(&self.store, self.id, record))
    }

    /// Waits until this node may serve. It is linked with all others, or those with whom it is not know that they miss
    /// what it does: they have looked since its row says that it serves, or were taken for dead.
    /// `None`: it shall stop.
    fn wait_for_others(&self, should_stop: impl Fn() -> bool) -> Result<Option<Seen>, Error> {
        let (mut seen, mut joining, mut renew_us, mut look_us) = (Seen::default(), Joining::default(), 0, 0);
        while !should_stop() {
            let is_due = self.clock.monotonic_us() >= look_us;
            if let Some(all) = is_due.then(|| self.look(&mut seen)) {
                let Some(all) = all else {
                    // The store is asked no more often than by a node that serves.
                    look_us = self.clock.monotonic_us() + self.interval_us();
                    continue;
                };
                self.bury(&mut seen, &all);
                match joining.next(&self.others(&all)) {
                    Next::Serve => {
                        self.is_joining.store(false, Ordering::Relaxed);
                        self.cluster.serve(&self.live_cores(&all));
                        return Ok(Some(seen));
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
        Ok(None)
    }

    /// Looks who else lives and renews the lease, until it is told to stop.
    fn live(&self, mut seen: Seen, shared: &Shared, stopped: &mpsc::Receiver<()>) {
        let interval = Duration::from_micros(self.interval_us());
        let mut renewed_us = self.clock.monotonic_us();
        loop {
            if let Some(all) = self.look(&mut seen) {
                let now_us = self.clock.monotonic_us();
                match self.renew(shared.connections.load(Ordering::Relaxed) as u64) {
                    Ok(true) => renewed_us = now_us,
                    Ok(false) => {}
                    Err(_) => return self.fail(TAKEN_FOR_DEAD),
                }
                self.bury(&mut seen, &all);
                shared.geo.follow(&all);
                shared.edges.follow(&all);
            }
            if self.is_cut_off(renewed_us) {
                return self.fail(CUT_OFF);
            }
            self.vouch(shared.edges.records(shared.room()));
            let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(interval) else { return };
        }
    }

    /// The lease, last renewed then, is over, and another core has said since that it sees this node no more. While nobody
    /// reaches the store nobody says so.
    fn is_cut_off(&self, renewed_us: u64) -> bool {
        let is_over = self.clock.monotonic_us() >= renewed_us + self.record.lease_ms * 1000;
        is_over && self.not_alive_us.load(Ordering::Relaxed) > renewed_us
    }

    fn fail(&self, why: &'static str) {
        let _ = self.failure.set(why);
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
        let all = match block_on(nodes::list(&self.store)) {
            Ok(all) => all,
            Err(error) => {
                // Who could not say that it lives is not dead for that.
                seen.forget();
                tracing::warn!(%error, "the nodes can't be read");
                return None;
            }
        };
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

    /// Takes nodes for dead whose lease is over: cores first, and of too many some.
    fn bury(&self, seen: &mut Seen, all: &[(NodeId, NodeRecord)]) {
        let mut expired = seen.expired(all, self.clock.monotonic_us(), 3 * self.interval_us());
        expired.sort_by_key(|(_, record)| record.is_edge);
        for (id, record) in expired.into_iter().take(BURIED_MAX) {
            let node = record.name;
            match block_on(nodes::bury(&self.store, id, record.renewals)) {
                Ok(true) => tracing::warn!(node, id, "a node was not heard of for its lease: it is taken for dead"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, node, "a node can't be taken for dead"),
            }
        }
    }

    fn interval_us(&self) -> u64 {
        self.record.lease_ms * 1000 / RENEWALS_PER_LEASE
    }
}

impl Running {
    /// Why this node must end, if it must.
    pub fn failure(&self) -> Option<&'static str> {
        let has_died = self.thread.is_finished() || self.membership.peers.as_ref().is_some_and(Peers::has_died);
        self.membership.failure.get().copied().or(has_died.then_some(THREAD_DIED))
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

fn start_peers(id: NodeId, shared: &Shared, listener: TcpListener, links: Links) -> anyhow::Result<Peers> {
    let config = &shared.config;
    let tls: Arc<LinkTls> = shared.link_tls.clone().context("links have no certificate")?;
    let options = Options {
        hello: peers::hello(id, &config.node.name, shared.store_id.clone()),
        tls,
        queue_bytes_max: config.link.queue_bytes_max,
        rng: shared.rng.clone(),
    };
    Peers::start(listener, options, links)
}

/// What links say, for the cluster.
struct Links {
    cluster: Arc<Cluster>,
    clock: Arc<dyn Clock>,
    not_alive_us: Arc<AtomicU64>,
}

impl PeerEvents for Links {
    fn up(&self, peer: &Peer) {
        self.cluster.up(peer.id, peer.version, Box::new(peer.handle.clone()));
    }

    fn frame(&self, peer: &Peer, frame: What) {
        self.cluster.frame(peer.id, frame);
    }

    fn not_alive(&self) {
        self.not_alive_us.store(self.clock.monotonic_us(), Ordering::Relaxed);
    }

    fn down(&self, peer: u64) {
        self.cluster.down(peer);
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
