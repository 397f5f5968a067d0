//! In which order a core tells its devices what the cores of a deployment commit: in that of the store's versions, so
//! that every log is told as it is read, and a cursor says what it says on one node.
//!
//! Each core sends the others every batch that it commits, in order, and a *watermark* for each batch of theirs that it
//! learns of: whatever it has committed with this version or a smaller one has been sent. A transaction that begins when
//! a version is known is committed with a larger one, so the watermark is good as soon as what is under way has ended. A
//! batch is released when all have come that far. Acknowledgements wait for nothing of this.
//!
//! While a core that lives can't be heard, or is late, nobody can tell what is missing: then batches are released as
//! *doubtful*, and those concerned read their log. Once everybody is heard again all read it once.
//!
//! No threads, no sockets, no clock: time comes in, batches come out.

use std::collections::BTreeMap;

use ahash::{AHashMap, AHashSet};

/// A node, as it was drawn at its start.
pub type NodeId = u64;

/// Where a commit stands among all: the store's version, and the order within it.
pub type Place = (u64, u16);

/// A core that stops has said all that it will ever say.
pub const WATERMARK_END: u64 = u64::MAX;

/// How often everybody reads the log while order is doubtful, microseconds: what a core that is not heard commits is
/// told by nobody.
const DOUBTFUL_READ_US: u64 = 10_000_000;

/// A core in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    pub id: NodeId,
    /// It serves clients, or is about to: what it commits must be heard.
    pub serves: bool,
}

/// For how long, and how much, it is waited for others.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Microseconds.
    pub late_us_max: u64,
    /// Bytes of all batches that wait together.
    pub held_bytes_max: usize,
}

/// Batches on their way to the devices of this node.
pub struct Sequencer<T> {
    patience: Patience,
    bytes_of: fn(&T) -> usize,
    own: u64,
    peers: AHashMap<NodeId, Peer>,
    /// Cores that have stopped and are still in the directory.
    ended: AHashSet<NodeId>,
    held: BTreeMap<Place, Vec<Held<T>>>,
    held_bytes: usize,
    /// The highest version of any batch.
    known: u64,
    /// The last batch that was released.
    told: Place,
    order: Order,
    /// When everybody was sent to read the log while order was doubtful.
    read_us: u64,
}

struct Peer {
    link: Link,
    watermark: u64,
    /// It has said its watermark since the link is up: so it hears this node, and this node hears all it commits.
    has_answered: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    /// In the directory, and serves nobody: nothing is missed of it.
    Joining,
    Up,
    Down,
}

struct Held<T> {
    batch: T,
    since_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Everybody is heard.
    Sure,
    /// Something may be missing. Over once all have come to this version.
    Doubtful { until: Option<u64> },
}

/// What comes of a step.
#[derive(Debug, PartialEq, Eq)]
pub struct Step<T> {
    /// In this order.
    pub released: Vec<Released<T>>,
    /// Something may have been missed: all sessions read their log.
    pub all_behind: bool,
    /// All cores are to be asked for their watermark at this version.
    pub ask: Option<u64>,
}

/// A batch that is to be told now.
#[derive(Debug, PartialEq, Eq)]
pub enum Released<T> {
    /// Everything before it has been told.
    InOrder(T),
    /// Something before it may be missing: whoever it concerns reads the log.
    Doubtful(T),
}

impl<T> Default for Step<T> {
    fn default() -> Self {
        Step { released: Vec::new(), all_behind: false, ask: None }
    }
}

impl<T> Sequencer<T> {
    /// Nothing has been committed yet. A core whose watermark is late by more than patience has counts as not heard.
    pub fn new(patience: Patience, bytes_of: fn(&T) -> usize) -> Self {
        Sequencer {
            patience,
            bytes_of,
            own: 0,
            peers: AHashMap::default(),
            ended: AHashSet::default(),
            held: BTreeMap::new(),
            held_bytes: 0,
            known: 0,
            told: (0, 0),
            order: Order::Sure,
            read_us: 0,
        }
    }

    /// Whether another core is linked and has answered.
    pub fn has_answered(&self, peer: NodeId) -> bool {
        self.ended.contains(&peer) || self.peers.get(&peer).is_some_and(|known| known.has_answered)
    }

    /// Whether everything is told in order.
    pub fn is_sure(&self) -> bool {
        self.order == Order::Sure
    }

    #[cfg(test)]
    pub fn describe(&self) -> String {
        let peers: Vec<_> = self
            .peers
            .iter()
            .map(|(id, p)| format!("{id}: up {} at {} answered {}", p.link == Link::Up, p.watermark, p.has_answered))
            .collect();
        format!("own {} known {} {:?} {peers:?}", self.own, self.known, self.order)
    }

    /// Batches that wait for others.
    pub fn held(&self) -> usize {
        self.held.values().map(Vec::len).sum()
    }

    /// This node has committed a batch: all of its earlier ones came before.
    pub fn own_batch(&mut self, place: Place, batch: T, now_us: u64) -> Step<T> {
        self.own = self.own.max(place.0);
        self.take(place, batch, now_us)
    }

    /// This node commits nothing any more with this version or a smaller one.
    pub fn own_reached(&mut self, version: u64) -> Step<T> {
        self.own = self.own.max(version);
        self.release()
    }

    /// Another node has committed a batch.
    pub fn peer_batch(&mut self, peer: NodeId, place: Place, batch: T, now_us: u64) -> Step<T> {
        self.raise(peer, place.0);
        self.take(place, batch, now_us)
    }

    /// Something that had been committed turned out later. More of the same place may follow, in any order.
    pub fn late(&mut self, place: Place, batch: T) -> Step<T> {
        self.known = self.known.max(place.0);
        Step { released: vec![Released::Doubtful(batch)], ..Step::default() }
    }

    /// Another node's watermark.
    pub fn peer_reached(&mut self, peer: NodeId, version: u64) -> Step<T> {
        self.raise(peer, version);
        if let Some(known) = self.peers.get_mut(&peer) {
            known.has_answered |= known.link == Link::Up;
        }
        self.release()
    }

    /// A link to another core is up: what it says from here on is complete.
    pub fn peer_up(&mut self, peer: NodeId) -> Step<T> {
        self.peers.insert(peer, Peer { link: Link::Up, watermark: 0, has_answered: false });
        // What is held was not said to it: it is asked how far it has come.
        Step { ask: Some(self.known), ..Step::default() }
    }

    /// A core that is linked has committed what was not said here, or not understood.
    pub fn missed(&mut self) -> Step<T> {
        self.doubt()
    }

    /// The link is down.
    pub fn peer_down(&mut self, peer: NodeId) -> Step<T> {
        let Some(known) = self.peers.get_mut(&peer) else { return Step::default() };
        if known.watermark == WATERMARK_END {
            self.peers.remove(&peer);
            self.ended.insert(peer);
            return self.release();
        }
        (known.link, known.has_answered) = (Link::Down, false);
        self.doubt()
    }

    /// The cores that live, without this one. From when one serves that is not linked, nothing is told in order.
    pub fn set_live(&mut self, live: &[Live], now_us: u64) -> Step<T> {
        let is_live = |peer: &NodeId| live.iter().any(|core| core.id == *peer);
        self.ended.retain(is_live);
        // One that is linked and not in the directory yet has come since that was read.
        self.peers.retain(|peer, known| is_live(peer) || known.link == Link::Up);
        for core in live.iter().filter(|core| !self.ended.contains(&core.id)) {
            let unknown = Peer { link: Link::Joining, watermark: 0, has_answered: false };
            let known = self.peers.entry(core.id).or_insert(unknown);
            if known.link == Link::Joining && core.serves {
                known.link = Link::Down;
            }
        }
        if self.is_anyone_unheard() { self.doubt_at(now_us) } else { self.release() }
    }

    /// Time passes.
    pub fn tick(&mut self, now_us: u64) -> Step<T> {
        let is_late = self.held.values().flatten().any(|held| now_us >= held.since_us + self.patience.late_us_max);
        if is_late || self.is_anyone_unheard() {
            let step = self.doubt_at(now_us);
            let all_behind = now_us >= self.read_us + DOUBTFUL_READ_US;
            if all_behind {
                self.read_us = now_us;
            }
            return Step { all_behind, ..step };
        }
        match self.order {
            Order::Sure => self.release(),
            Order::Doubtful { until: None } => {
                self.order = Order::Doubtful { until: Some(self.known) };
                Step { ask: Some(self.known), ..self.release() }
            }
            Order::Doubtful { until: Some(version) } => Step { ask: Some(version), ..self.release() },
        }
    }

    fn raise(&mut self, peer: NodeId, version: u64) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.watermark = known.watermark.max(version);
        }
    }

    fn take(&mut self, place: Place, batch: T, now_us: u64) -> Step<T> {
        self.known = self.known.max(place.0);
        // What comes behind its time finds later ones told.
        if self.order != Order::Sure || place <= self.told {
            let mut step = self.release();
            step.released.push(Released::Doubtful(batch));
            return step;
        }
        self.held_bytes += (self.bytes_of)(&batch);
        self.held.entry(place).or_default().push(Held { batch, since_us: now_us });
        let step = self.release();
        if self.held_bytes <= self.patience.held_bytes_max {
            return step;
        }
        let Step { mut released, .. } = step;
        released.extend(self.doubt_at(now_us).released);
        Step { released, ..Step::default() }
    }

    /// Up to where everybody has come.
    fn reached(&self) -> u64 {
        let linked = self.peers.values().filter(|peer| peer.link == Link::Up);
        linked.map(|peer| peer.watermark).min().unwrap_or(WATERMARK_END).min(self.own)
    }

    /// Releases what nothing can come before any more.
    fn release(&mut self) -> Step<T> {
        let mut step = Step::default();
        let reached = self.reached();
        while let Some(first) = self.held.first_entry().filter(|first| first.key().0 <= reached) {
            self.told = self.told.max(*first.key());
            for Held { batch, .. } in first.remove() {
                self.held_bytes -= (self.bytes_of)(&batch);
                step.released.push(Released::InOrder(batch));
            }
        }
        let is_heard = self.peers.values().all(|peer| match peer.link {
            Link::Up => peer.has_answered,
            Link::Joining => true,
            Link::Down => false,
        });
        if let Order::Doubtful { until: Some(version) } = self.order
            && is_heard
            && reached >= version
        {
            self.order = Order::Sure;
            step.all_behind = true;
        }
        step
    }

    fn is_anyone_unheard(&self) -> bool {
        self.peers.values().any(|peer| peer.link == Link::Down)
    }

    fn doubt_at(&mut self, now_us: u64) -> Step<T> {
        if self.order == Order::Sure {
            self.read_us = now_us;
        }
        self.doubt()
    }

    /// Nobody knows what is missing.
    fn doubt(&mut self) -> Step<T> {
        self.order = Order::Doubtful { until: None };
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        self.told = held.last_key_value().map_or(self.told, |(place, _)| self.told.max(*place));
        let released = held.into_values().flatten().map(|held| Released::Doubtful(held.batch)).collect();
        Step { released, ..Step::default() }
    }
}

#[cfg(test)]
#[path = "sequencer_tests.rs"]
mod tests;
