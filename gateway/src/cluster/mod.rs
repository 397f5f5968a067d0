//! The cores of a deployment, seen from one of them: what each commits is told on all, and each knows who is where.
//!
//! - [`commits`]: what a node commits with.
//! - [`sequencer`]: in which order batches of several nodes are told.
//! - [`frames`]: what cores say to each other. [`recent`]: what they ask each other about live rooms.
//! - [`sessions`]: who is there, and who is to go.
//!
//! Every core sends every other one each batch once; it is passed on to the devices there as the own ones are. Sessions
//! are told of, too, so that each core can say who is online and apply the policy for logins. All of it is hints: the
//! store is the truth, and whoever may have missed something reads it.
//!
//! What may not live here: sockets (that is [`crate::peers`]'s), and who of this node's devices is told what.

mod commits;
mod frames;
mod recent;
mod sequencer;
mod sessions;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

use ahash::AHashMap;
use backend::{
    domain::{AppId, UserId, act::News},
    env::Clock,
    store::Committed,
};
use bytes::{Bytes, BytesMut};
use protocol::{
    link::{self, What},
    link_message::{PeerAsk, PeerBatch, PeerRooms, PeerSessions, PeerWatermark},
    message::Device,
};

use self::{
    commits::Commits,
    frames::Heard,
    sequencer::{Patience, Place, Released, Sequencer, Step, WATERMARK_END},
};
pub use self::{
    frames::Told,
    sequencer::{Live, NodeId},
};
use crate::{
    mailbox::{Address, HERE, LinkNumber, Mail, NodeIndex, Published, RemoteMail},
    router::Router,
};

/// Bytes of batches that wait for other cores, about; more are told as something to read.
const HELD_BYTES_MAX: usize = 64 << 20;

/// What a batch takes beside the bytes of its events, about: for each that is told something.
const TOLD_BYTES: usize = 200;

/// How often it is tried to settle what is in doubt while somebody waits for it.
const SETTLE_INTERVAL: Duration = Duration::from_millis(100);

/// A link to another core. Sending never waits.
pub trait Outgoing: Send {
    /// Sends an encoded frame. `false`: there is no room for it.
    fn send(&self, frame: Bytes) -> bool;
    /// There is room for what could as well be sent later.
    fn has_room(&self) -> bool;
    /// Ends the link; it comes up again by itself.
    fn close(&self);
}

/// This node among the cores.
pub struct Cluster {
    router: Router,
    clock: Arc<dyn Clock>,
    commits: Box<dyn Commits>,
    inner: Mutex<Inner>,
}

struct Inner {
    sequencer: Sequencer<Vec<Told>>,
    links: AHashMap<NodeId, Link>,
    /// How the nodes are counted here. A node that comes back is another one.
    indexes: AHashMap<NodeId, NodeIndex>,
    last_index: NodeIndex,
    /// Sessions that nodes were asked to end, and for which device: until they say that these are gone, however often a
    /// link is lost meanwhile.
    ending: AHashMap<NodeIndex, AHashMap<Address, Device>>,
    /// The version that this node is to come to, and says so.
    wanted: u64,
    /// The version that it has come to.
    reached: u64,
    is_barrier_set: bool,
    /// How often a link has come up.
    links_up: LinkNumber,
    /// Clients are served here, or about to be.
    serves: bool,
    /// Everything was told in order when it was looked at last.
    was_sure: bool,
}

struct Link {
    to: Box<dyn Outgoing>,
    /// The version of the links' messages that is spoken on it.
    version: u32,
    /// How many links had come up with it.
    number: LinkNumber,
    /// Cores of this node that have not told all of their sessions on it.
    cores_untold: usize,
    /// It was full: nothing more is said on it.
    is_broken: bool,
    /// The node has said all that it will ever say.
    has_ended: bool,
}

impl Cluster {
    /// This node, alone yet.
    pub fn new(router: Router, clock: Arc<dyn Clock>, commits: Box<dyn Commits>, late_ms_max: u64) -> Arc<Self> {
        let inner = Inner {
            sequencer: Sequencer::new(
                Patience { late_us_max: late_ms_max * 1000, held_bytes_max: HELD_BYTES_MAX },
                |told| held_bytes(told),
            ),
            links: AHashMap::default(),
            indexes: AHashMap::default(),
            last_index: HERE,
            ending: AHashMap::default(),
            wanted: 0,
            reached: 0,
            is_barrier_set: false,
            links_up: 0,
            serves: false,
            was_sure: true,
        };
        Arc::new(Cluster { router, clock, commits, inner: Mutex::new(inner) })
    }

    /// This node has committed a batch: tells the others, and the devices here once it is their turn.
    pub fn committed(self: &Arc<Self>, at: Committed, news: Vec<Published>) {
        let place = (at.version, at.batch_order);
        let (news, earlier) = split(place, news);
        for (place, news) in earlier {
            self.late(place, news);
        }
        let mut inner = self.inner();
        inner.broadcast_batch(place, false, &news);
        inner.reached = inner.reached.max(place.0);
        let step = inner.sequencer.own_batch(place, all(news), self.now_us());
        self.carry_out(inner, step);
    }

    /// The same for something that turned out to have been committed before.
    pub fn late(self: &Arc<Self>, place: Place, news: Vec<Published>) {
        let mut inner = self.inner();
        inner.broadcast_batch(place, true, &news);
        let step = inner.sequencer.late(place, all(news));
        self.carry_out(inner, step);
    }

    /// Tells the devices of other nodes something that is in no log, at once. Those of this one are told by the caller.
    pub fn hint(&self, told: &Told) {
        let mut inner = self.inner();
        if !inner.links.is_empty() {
            inner.broadcast(&frames::hint(told));
        }
    }

    /// How many are in live rooms of this node that have changed.
    pub fn tell_rooms(&self, rooms: PeerRooms) {
        self.inner().broadcast(&What::Rooms(rooms));
    }

    /// Clients are served from here on, beside these other cores.
    pub fn serve(self: &Arc<Self>, live: &[Live]) {
        self.inner().serves = true;
        self.set_live(live);
    }

    /// Waits until whatever was begun before has been told, and nothing is in doubt. `false`: it took longer.
    pub fn settle(&self, within: Duration) -> bool {
        let deadline_us = self.now_us() + within.as_micros() as u64;
        let (done, settled) = mpsc::channel();
        self.commits.barrier(Box::new(move || _ = done.send(())));
        while self.now_us() < deadline_us {
            if settled.recv_timeout(SETTLE_INTERVAL).is_ok() {
                return true;
            }
            self.commits.settle_doubts();
        }
        false
    }

    /// This node commits nothing any more, and has told all that it has.
    pub fn end(&self) {
        self.inner().broadcast(&What::Watermark(PeerWatermark { version: WATERMARK_END }));
    }

    /// The cores that live, without this one.
    pub fn set_live(self: &Arc<Self>, live: &[Live]) {
        let mut inner = self.inner();
        let Inner { indexes, links, ending, serves, .. } = &mut *inner;
        let gone: Vec<NodeIndex> = indexes
            .extract_if(|node, _| live.iter().all(|core| core.id != *node) && !links.contains_key(node))
            .map(|(_, index)| index)
            .collect();
        for node in gone {
            ending.remove(&node);
            self.forget(node);
        }
        // While nobody is told anything here, nobody misses anything.
        let live: Vec<Live> = live.iter().map(|core| Live { serves: core.serves && *serves, ..*core }).collect();
        let step = inner.sequencer.set_live(&live, self.now_us());
        self.carry_out(inner, step);
    }

    /// Whether another core is linked and has answered.
    pub fn is_linked(&self, node: NodeId) -> bool {
        self.inner().sequencer.has_answered(node)
    }

    /// Whether everything is told in order.
    #[cfg(test)]
    pub fn is_sure(&self) -> bool {
        self.inner().sequencer.is_sure()
    }

    /// Time passes.
    pub fn tick(self: &Arc<Self>) {
        self.commits.settle_doubts();
        let mut inner = self.inner();
        let step = inner.sequencer.tick(self.now_us());
        let (is_sure, held) = (inner.sequencer.is_sure(), inner.sequencer.held());
        let was_sure = std::mem::replace(&mut inner.was_sure, is_sure);
        self.carry_out(inner, step);
        match (was_sure, is_sure) {
            (true, false) => {
                tracing::warn!("a core that lives can't be heard or is late; until it can, devices read the log");
            }
            (false, true) => tracing::info!("all cores are heard again"),
            _ => {}
        }
        metrics::gauge!("gateway_batches_held").set(held as f64);
        metrics::gauge!("gateway_order_doubtful").set(f64::from(u8::from(!is_sure)));
    }
}

/// What links say.
impl Cluster {
    /// A link to another core is up.
    pub fn up(self: &Arc<Self>, peer: NodeId, version: u32, to: Box<dyn Outgoing>) {
        let mut inner = self.inner();
        let node = inner.index(peer);
        inner.links_up += 1;
        let (number, cores_untold) = (inner.links_up, self.router.mailboxes().len());
        inner.links.insert(peer, Link { to, version, number, cores_untold, is_broken: false, has_ended: false });
        let scratch = PeerSessions { from_scratch: true, serves: inner.serves, ..PeerSessions::default() };
        inner.send(node, &What::Sessions(scratch));
        inner.send(node, &What::Rooms(PeerRooms { from_scratch: true, ..PeerRooms::default() }));
        self.router.rooms().tell_all_anew();
        self.mail_all(|| RemoteMail::Tell { node, link: number });
        let step = inner.sequencer.peer_up(peer);
        self.carry_out(inner, step);
    }

    /// Another core says something.
    pub fn frame(self: &Arc<Self>, peer: NodeId, frame: What) {
        let Some(node) = self.inner().indexes.get(&peer).copied() else { return };
        match frame {
            What::Batch(batch) => self.heard_batch(peer, batch),
            What::Watermark(PeerWatermark { version }) => {
                let mut inner = self.inner();
                if let Some(link) = inner.links.get_mut(&peer) {
                    link.has_ended |= version == WATERMARK_END;
                }
                let step = inner.sequencer.peer_reached(peer, version);
                self.carry_out(inner, step);
            }
            What::Ask(PeerAsk { version }) => self.asked(node, version),
            What::Sessions(sessions) => {
                if sessions.serves {
                    self.heard_serving();
                }
                self.heard_sessions(peer, node, sessions);
            }
            What::SignOut(wish) => self.heard_sign_out(wish),
            What::Invalidated(said) => self.heard_invalidated(said),
            What::Rooms(rooms) => self.heard_rooms(peer, node, rooms),
            What::RecentAsk(asked) => self.tell_recent(node, asked),
            What::Recent(said) => self.heard_recent(&said),
            // Of edges, or of the link itself.
            _ => {}
        }
    }

    /// The link is down.
    pub fn down(self: &Arc<Self>, peer: NodeId) {
        let mut inner = self.inner();
        let ended = inner.links.remove(&peer).is_some_and(|link| link.has_ended);
        if ended && let Some(node) = inner.indexes.remove(&peer) {
            inner.ending.remove(&node);
            self.forget(node);
        }
        let step = inner.sequencer.peer_down(peer);
        self.carry_out(inner, step);
    }

    fn heard_batch(self: &Arc<Self>, peer: NodeId, batch: PeerBatch) {
        let place = (batch.version, u16::try_from(batch.order).unwrap_or(u16::MAX));
        let late = batch.late;
        let Heard { told, is_missing } = frames::heard(batch);
        if place.0 == 0 {
            return self.pass_on(told);
        }
        if is_missing {
            let mut inner = self.inner();
            let step = inner.sequencer.missed();
            self.carry_out(inner, step);
        }
        let mut inner = self.inner();
        let step = match late {
            true => inner.sequencer.late(place, told),
            false => inner.sequencer.peer_batch(peer, place, told, self.now_us()),
        };
        let barrier = inner.want(place.0);
        self.carry_out(inner, step);
        self.set_barrier(barrier);
    }

    fn asked(self: &Arc<Self>, node: NodeIndex, version: u64) {
        let mut inner = self.inner();
        let reached = inner.reached;
        // What has been committed with a smaller version than what is known has been said before.
        inner.send(node, &What::Watermark(PeerWatermark { version: reached.min(version) }));
        let barrier = inner.want(version);
        drop(inner);
        self.set_barrier(barrier);
    }

    /// A core is linked that has served without: what it has changed was not said here.
    fn heard_serving(self: &Arc<Self>) {
        let mut inner = self.inner();
        if inner.serves {
            let step = inner.sequencer.missed();
            self.carry_out(inner, step);
        }
    }
}

impl Cluster {
    /// Does what a step says, in order: so the lock is held until it is done.
    fn carry_out(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>, step: Step<Vec<Told>>) {
        let Step { released, all_behind, ask } = step;
        for batch in released {
            match batch {
                Released::InOrder(told) => self.pass_on(told),
                Released::Doubtful(told) => self.pass_on(doubtful(told)),
            }
        }
        if all_behind {
            for (mailbox, home) in self.router.mailboxes().iter().zip(0..) {
                mailbox.mark_lost(home);
            }
        }
        let Some(version) = ask else { return };
        inner.broadcast(&What::Ask(PeerAsk { version }));
        let barrier = inner.want(version);
        drop(inner);
        self.set_barrier(barrier);
    }

    fn pass_on(&self, told: Vec<Told>) {
        let mut published = Vec::with_capacity(told.len());
        for told in told {
            match told {
                Told::Published(one) => published.push(one),
                Told::Rooms(app, push) => self.router.push_to_rooms_here(app, &push),
            }
        }
        self.router.publish_here(published);
    }

    /// Says how far this node has come once nothing older is under way.
    fn set_barrier(self: &Arc<Self>, version: Option<u64>) {
        let Some(version) = version else { return };
        let cluster = self.clone();
        self.commits.barrier(Box::new(move || cluster.reached(version)));
    }

    fn reached(self: &Arc<Self>, version: u64) {
        let mut inner = self.inner();
        inner.reached = inner.reached.max(version);
        inner.is_barrier_set = false;
        inner.broadcast(&What::Watermark(PeerWatermark { version }));
        let step = inner.sequencer.own_reached(version);
        let wanted = inner.wanted;
        let barrier = inner.want(wanted);
        self.carry_out(inner, step);
        self.set_barrier(barrier);
    }

    fn forget(&self, node: NodeIndex) {
        self.router.rooms().forget_node(node);
        self.mail_all(|| RemoteMail::NodeGone { node });
    }

    fn mail_all(&self, mail: impl Fn() -> RemoteMail) {
        for mailbox in self.router.mailboxes() {
            mailbox.put(Mail::Remote(Box::new(mail())));
        }
    }

    fn mail_home(&self, app: AppId, user: &UserId, mail: RemoteMail) {
        self.router.mailbox(self.router.home(app, user)).put(Mail::Remote(Box::new(mail)));
    }

    fn now_us(&self) -> u64 {
        self.clock.monotonic_us()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// This node is to come to a version. The one to set a barrier for now, if none is set.
    fn want(&mut self, version: u64) -> Option<u64> {
        self.wanted = self.wanted.max(version);
        let is_needed = self.wanted > self.reached && !self.is_barrier_set;
        self.is_barrier_set |= is_needed;
        is_needed.then_some(self.wanted)
    }

    /// Encoded once, for all that are linked.
    fn broadcast_batch(&mut self, place: Place, late: bool, news: &[Published]) {
        if !self.links.is_empty() {
            frames::batch(place, late, news).iter().for_each(|part| self.broadcast(part));
        }
    }

    fn broadcast(&mut self, frame: &What) {
        if self.links.is_empty() {
            return;
        }
        let encoded = encode(frame);
        for link in self.links.values_mut() {
            link.send(encoded.clone());
        }
    }

    fn send(&mut self, node: NodeIndex, frame: &What) {
        if let Some(link) = self.link(node) {
            link.send(encode(frame));
        }
    }

    fn link(&mut self, node: NodeIndex) -> Option<&mut Link> {
        let (peer, _) = self.indexes.iter().find(|(_, index)| **index == node)?;
        self.links.get_mut(peer)
    }

    fn index(&mut self, peer: NodeId) -> NodeIndex {
        if let Some(index) = self.indexes.get(&peer) {
            return *index;
        }
        self.last_index += 1;
        self.indexes.insert(peer, self.last_index);
        self.last_index
    }
}

impl Link {
    /// A link that has no room is given up: with the next one both sides begin anew, and miss nothing.
    fn send(&mut self, frame: Bytes) {
        if self.is_broken {
            return;
        }
        if !self.to.send(frame) {
            self.is_broken = true;
            self.to.close();
            metrics::counter!("gateway_peer_links_given_up_total").increment(1);
        }
    }
}

/// Takes out what stands elsewhere in the logs: an earlier run of the same acts has stored it.
fn split(at: Place, news: Vec<Published>) -> (Vec<Published>, BTreeMap<Place, Vec<Published>>) {
    let mut earlier: BTreeMap<Place, Vec<Published>> = BTreeMap::new();
    let mut here = Vec::with_capacity(news.len());
    for published in news {
        match &published.news {
            News::Event(position, _) if position.place() != at => {
                earlier.entry(position.place()).or_default().push(published);
            }
            _ => here.push(published),
        }
    }
    (here, earlier)
}

fn encode(frame: &What) -> Bytes {
    let mut encoded = BytesMut::new();
    link::encode(frame, &mut encoded);
    encoded.freeze()
}

fn all(news: Vec<Published>) -> Vec<Told> {
    news.into_iter().map(Told::Published).collect()
}

/// Memory that a batch takes while it waits: several that are told the same event share its bytes, as a rule, but for those
/// of other nodes.
fn held_bytes(told: &[Told]) -> usize {
    let bytes = |told: &Told| match told {
        Told::Published(Published { news: News::Event(_, event), .. }) => event.len(),
        _ => 0,
    };
    told.iter().map(|told| TOLD_BYTES + bytes(told)).sum()
}

/// What is told when something before may be missing: that there is something to read.
fn doubtful(told: Vec<Told>) -> Vec<Told> {
    let doubt = |told| match told {
        Told::Published(Published { app, to, news: News::Event(..), .. }) => {
            Told::Published(Published { app, to, news: News::Behind, origin: None })
        }
        told => told,
    };
    told.into_iter().map(doubt).collect()
}

#[cfg(test)]
pub(crate) mod tests;
