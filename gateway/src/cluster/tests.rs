//! Several cores with a store between them, links that are cut and come back, and one session on each core that must
//! miss nothing: by seeded histories.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};

use backend::{
    domain::{GroupId, act::Audience},
    env::{Clock, Rng, SeededRng},
    store::Versionstamp,
};
use futures::channel::oneshot;
use prost::Message as _;
use protocol::{
    EncodedEvent, EncodedPush,
    link::{LINK_VERSION_ALL_TOLD, LINK_VERSION_ANSWERS, LINK_VERSION_MAX},
    message::{Message, event},
};

use super::*;
use crate::{figures::Figures, mailbox::RemoteSession};

const NODES: usize = 3;

/// A clock that is moved by hand.
#[derive(Default)]
pub(crate) struct Hand(pub(crate) AtomicU64);

impl Clock for Hand {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed) / 1000
    }
    fn monotonic_us(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is on its way over a link, in one direction. Links are numbered: what is sent on one that is down arrives nowhere.
enum OnWay {
    Up(u64),
    Frame(u64, Bytes),
    Down,
}

type Way = Arc<Mutex<VecDeque<OnWay>>>;

/// One end of a link.
struct End {
    number: u64,
    way: Way,
    /// Frames that it takes.
    room: usize,
    between: (usize, usize),
    closed: Arc<Mutex<Vec<(usize, usize)>>>,
}

impl Outgoing for End {
    fn send(&self, frame: Bytes) -> bool {
        let mut way = self.way.lock().unwrap();
        let fits = way.len() < self.room;
        if fits {
            way.push_back(OnWay::Frame(self.number, frame));
        }
        fits
    }
    fn has_room(&self) -> bool {
        self.way.lock().unwrap().len() < self.room / 2
    }
    fn close(&self) {
        self.closed.lock().unwrap().push(self.between);
    }
}

type Done = Box<dyn FnOnce() + Send>;

/// What a node is doing with the store.
#[derive(Default)]
struct Work {
    /// A transaction: begun, and where it was committed.
    under_way: Option<Option<Committed>>,
    /// Commits whose answers were lost.
    in_doubt: Vec<Committed>,
    barriers: Vec<Done>,
}

impl Work {
    /// Those who need wait no longer.
    fn due(&mut self) -> Vec<Done> {
        match self.under_way.is_none() && self.in_doubt.is_empty() {
            true => std::mem::take(&mut self.barriers),
            false => Vec::new(),
        }
    }
}

struct Queue(Arc<Mutex<Work>>);

impl Commits for Queue {
    fn barrier(&self, done: Done) {
        let mut now = self.0.lock().unwrap();
        now.barriers.push(done);
        let due = now.due();
        drop(now);
        due.into_iter().for_each(|done| done());
    }

    fn settle_doubts(&self) {}
}

struct Node {
    id: NodeId,
    is_alive: bool,
    cluster: Arc<Cluster>,
    router: Router,
    work: Arc<Mutex<Work>>,
    /// Of the session: all before has been told or read.
    cursor: Place,
    /// Sessions of other nodes, as this one is told of them.
    elsewhere: Vec<Address>,
    /// Connections of this node that were signed out.
    signed_out: Vec<u64>,
    /// How often others began to tell of all of theirs, and were done.
    told_anew: usize,
    all_told: usize,
    /// Who is to be told of all sessions here, and on which link.
    to_tell: Vec<(NodeIndex, LinkNumber)>,
}

struct World {
    rng: SeededRng,
    clock: Arc<Hand>,
    nodes: Vec<Node>,
    /// By sender and receiver.
    ways: Vec<Vec<Way>>,
    linked: Vec<Vec<bool>>,
    /// The link that the receiver knows of.
    known: Vec<Vec<u64>>,
    last_link: u64,
    closed: Arc<Mutex<Vec<(usize, usize)>>>,
    committed: BTreeSet<Place>,
    version: u64,
    link_room: usize,
    link_version: u32,
}

impl World {
    fn new(seed: u64, link_room: usize) -> Self {
        let clock: Arc<Hand> = Arc::default();
        let nodes = (0..NODES).map(|index| Node::new(index as u64 + 1, clock.clone())).collect();
        let ways = (0..NODES).map(|_| (0..NODES).map(|_| Way::default()).collect()).collect();
        let (linked, known) = (vec![vec![false; NODES]; NODES], vec![vec![0; NODES]; NODES]);
        let closed = Arc::default();
        let rng = SeededRng::new(seed);
        let (last_link, committed) = (0, BTreeSet::new());
        let (version, link_version) = (100, LINK_VERSION_MAX);
        World { rng, clock, nodes, ways, linked, known, last_link, closed, committed, version, link_room, link_version }
    }

    fn below(&self, bound: usize) -> usize {
        (self.rng.next_u64() % bound as u64) as usize
    }

    fn link(&mut self, a: usize, b: usize) {
        if a == b || self.linked[a][b] || !self.nodes[a].is_alive || !self.nodes[b].is_alive {
            return;
        }
        self.last_link += 1;
        for (from, to) in [(a, b), (b, a)] {
            self.linked[from][to] = true;
            self.ways[to][from].lock().unwrap().push_back(OnWay::Up(self.last_link));
        }
    }

    /// What has not arrived is lost; either side learns of it when it comes to it.
    fn cut(&mut self, a: usize, b: usize) {
        if !self.linked[a][b] {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            self.linked[from][to] = false;
            let mut way = self.ways[from][to].lock().unwrap();
            // A side that has not learned yet that the link is up never will.
            match way.iter().rposition(|item| matches!(item, OnWay::Up(_))) {
                Some(up) => way.truncate(up),
                None => {
                    let kept = self.below(way.len() + 1);
                    way.truncate(kept);
                    way.push_back(OnWay::Down);
                }
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize) {
        let Some(item) = self.ways[from][to].lock().unwrap().pop_front() else { return };
        let peer = self.nodes[from].id;
        if !self.nodes[to].is_alive {
            return;
        }
        let cluster = self.nodes[to].cluster.clone();
        match item {
            OnWay::Up(number) => {
                self.known[from][to] = number;
                let (way, room) = (self.ways[to][from].clone(), self.link_room);
                let end = End { number, way, room, between: (to, from), closed: self.closed.clone() };
                cluster.up(peer, self.link_version, Box::new(end));
            }
            OnWay::Frame(number, _) if number != self.known[from][to] => {}
            OnWay::Frame(_, bytes) => {
                let mut decoder = link::LinkDecoder::default();
                decoder.feed(&bytes);
                let frame = decoder.next_frame(link::PEER_FRAME_BYTES_MAX).unwrap().unwrap();
                cluster.frame(peer, frame);
            }
            OnWay::Down => {
                self.known[from][to] = 0;
                cluster.down(peer);
            }
        }
        self.read_mail(to);
    }

    /// Links that a side has given up.
    fn cut_closed(&mut self) {
        let closed = std::mem::take(&mut *self.closed.lock().unwrap());
        closed.into_iter().for_each(|(a, b)| self.cut(a, b));
    }

    /// One step of a node's send queue.
    fn work(&mut self, index: usize) {
        if !self.nodes[index].is_alive {
            return;
        }
        let under_way = self.nodes[index].work.lock().unwrap().under_way;
        match under_way {
            // A batch that writes nothing stands where it reads.
            None if self.below(4) == 0 => {
                let (version, batch_order) = self.committed.last().copied().unwrap_or_default();
                self.finish(index, Committed { version, batch_order }, Vec::new());
            }
            None => self.nodes[index].work.lock().unwrap().under_way = Some(None),
            Some(None) => {
                let at = self.commit();
                self.nodes[index].work.lock().unwrap().under_way = Some(Some(at));
            }
            Some(Some(at)) if self.below(8) == 0 => {
                let mut work = self.nodes[index].work.lock().unwrap();
                work.under_way = None;
                work.in_doubt.push(at);
            }
            Some(Some(at)) => self.finish(index, at, vec![news(at, 0)]),
        }
        self.read_mail(index);
    }

    fn commit(&mut self) -> Committed {
        self.version += 1 + self.rng.next_u64() % 3;
        let at = Committed { version: self.version, batch_order: (self.rng.next_u64() % 4) as u16 };
        self.committed.insert((at.version, at.batch_order));
        at
    }

    /// A batch of a node ends. It has found what lost commits have stored, act by act.
    fn finish(&mut self, index: usize, at: Committed, written: Vec<Published>) {
        let node = &self.nodes[index];
        let lost = std::mem::take(&mut node.work.lock().unwrap().in_doubt);
        for lost in lost {
            let place = (lost.version, lost.batch_order);
            (0..2).rev().for_each(|act| node.cluster.late(place, vec![news(lost, act)]));
        }
        node.cluster.committed(at, written);
        let mut work = node.work.lock().unwrap();
        work.under_way = None;
        let due = work.due();
        drop(work);
        due.into_iter().for_each(|done| done());
    }

    /// What the session of a node is told: it must not miss anything.
    fn read_mail(&mut self, index: usize) {
        let last = self.committed.last().copied().unwrap_or_default();
        let node = &mut self.nodes[index];
        let mut cx = Context::from_waker(futures::task::noop_waker_ref());
        while let Poll::Ready(mail) = node.router.mailbox(0).poll_take(&mut cx) {
            match mail {
                // It reads the log at once.
                Mail::Lost { .. } => node.cursor = last,
                Mail::Publish(news) => {
                    for published in news {
                        match published.news {
                            News::Behind => node.cursor = last,
                            News::Event(position, _) if position.place() > node.cursor => {
                                let place = position.place();
                                let missed: Vec<_> =
                                    self.committed.range(..place).filter(|p| **p > node.cursor).collect();
                                assert!(missed.is_empty(), "node {index} is told {place:?} before {missed:?}");
                                node.cursor = place;
                            }
                            _ => {}
                        }
                    }
                }
                Mail::Remote(remote) => match *remote {
                    RemoteMail::Sessions(sessions) => {
                        let addresses = sessions.into_iter().map(|(.., session)| session.address);
                        node.elsewhere.retain(|known| !addresses.clone().any(|named| named == *known));
                        node.elsewhere.extend(addresses);
                    }
                    RemoteMail::NodeGone { node: gone } => node.elsewhere.retain(|known| known.node != gone),
                    RemoteMail::Gone { address, .. } => node.elsewhere.retain(|known| *known != address),
                    RemoteMail::ToldAnew { .. } => node.told_anew += 1,
                    RemoteMail::AllTold { .. } => node.all_told += 1,
                    RemoteMail::Tell { node: to, link } => node.to_tell.push((to, link)),
                    RemoteMail::Invalidated { .. } => {}
                },
                Mail::SignedOut { connection, .. } => node.signed_out.push(connection),
                _ => {}
            }
        }
    }

    fn tick(&mut self, index: usize) {
        self.clock.0.fetch_add(self.rng.next_u64() % 60_000, Ordering::Relaxed);
        if self.nodes[index].is_alive {
            self.nodes[index].cluster.tick();
            self.read_mail(index);
        }
    }

    fn poll_directory(&mut self, index: usize) {
        let alive = self.nodes.iter().filter(|node| node.is_alive).map(|node| node.id);
        let others = alive.filter(|id| *id != self.nodes[index].id);
        let live: Vec<Live> = others.map(|id| Live { id, serves: true }).collect();
        self.nodes[index].cluster.set_live(&live);
        self.read_mail(index);
    }

    fn kill(&mut self, index: usize) {
        (0..NODES).for_each(|other| self.cut(index, other));
        self.nodes[index].is_alive = false;
    }

    /// Everything is linked and has arrived.
    fn come_to_rest(&mut self) {
        for _ in 0..400 {
            for a in 0..NODES {
                self.poll_directory(a);
                self.tick(a);
                while self.nodes[a].is_alive && !self.nodes[a].is_idle() {
                    self.work(a);
                }
                for b in 0..NODES {
                    let no_rest = self.ways[a][b].lock().unwrap().len();
                    (0..no_rest).for_each(|_| self.deliver(a, b));
                    if !self.ways[a][b].lock().unwrap().iter().any(|item| matches!(item, OnWay::Down)) {
                        self.link(a, b);
                    }
                    self.cut_closed();
                }
            }
        }
    }
}

impl Node {
    fn new(id: NodeId, clock: Arc<Hand>) -> Self {
        let router = Router::new(1, 1_000_000, Figures::default());
        let work: Arc<Mutex<Work>> = Arc::default();
        let cluster = Cluster::new(router.clone(), clock, Box::new(Queue(work.clone())), 300);
        cluster.serve(&[]);
        let (elsewhere, signed_out, to_tell) = Default::default();
        let (told_anew, all_told) = (0, 0);
        let (is_alive, cursor) = (true, (0, 0));
        Node { id, is_alive, cluster, router, work, cursor, elsewhere, signed_out, told_anew, all_told, to_tell }
    }

    fn is_idle(&self) -> bool {
        let work = self.work.lock().unwrap();
        work.under_way.is_none() && work.in_doubt.is_empty()
    }
}

/// One of the acts of a commit.
fn news(at: Committed, act: u16) -> Published {
    let position = Versionstamp::new(at.version, at.batch_order, act);
    let event = EncodedEvent::of(&event::What::Message(Default::default()));
    let to = Audience::User(UserId::new("anna").unwrap());
    Published { app: 1, to, news: News::Event(position, event), origin: None }
}

fn history(seed: u64, steps: usize, link_room: usize, cuts: bool) {
    println!("seed {seed}: run this test with SEED={seed} to see it again");
    let mut world = World::new(seed, link_room);
    (0..NODES).for_each(|index| world.poll_directory(index));
    world.come_to_rest();
    for _ in 0..steps {
        let (a, b) = (world.below(NODES), world.below(NODES));
        match world.below(100) {
            0 if cuts => world.cut(a, b),
            1 | 2 => world.link(a, b),
            3 if cuts && world.below(40) == 0 && world.nodes.iter().filter(|node| node.is_alive).count() > 2 => {
                world.kill(a);
            }
            4 if world.nodes[a].is_alive => world.poll_directory(a),
            5..=9 => world.tick(a),
            10..=49 => world.work(a),
            _ => world.deliver(a, b),
        }
        world.cut_closed();
    }
    world.come_to_rest();
    let last = world.committed.last().copied().unwrap_or_default();
    for node in world.nodes.iter().filter(|node| node.is_alive) {
        assert_eq!(node.cursor, last, "everything is told in the end");
        assert!(node.cluster.inner().sequencer.is_sure(), "{}", node.cluster.inner().sequencer.describe());
    }
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..count).collect(),
    }
}

#[test]
fn geo_01_nothing_is_missed_or_told_out_of_order_while_all_are_linked() {
    seeds(30).into_iter().for_each(|seed| history(seed, 3_000, usize::MAX, false));
}

#[test]
fn geo_01_nothing_is_missed_when_links_are_cut_and_cores_die() {
    seeds(100).into_iter().for_each(|seed| history(seed, 3_000, usize::MAX, true));
}

#[test]
fn geo_01_a_link_without_room_is_given_up_and_nothing_is_missed() {
    seeds(30).into_iter().for_each(|seed| history(seed, 3_000, 12, true));
}

/// What a node says of the one session that it has.
fn tell_session(world: &World, index: usize) {
    let session = RemoteSession {
        address: Address { node: HERE, core: 0, connection: 5 },
        number: 1,
        since_ms: 1,
        platform: Default::default(),
        device: String::new(),
        background: false,
        status: String::new(),
    };
    world.nodes[index].cluster.tell_sessions(1, &UserId::new("anna").unwrap(), vec![session]);
}

/// The only core of a node tells others of all of its sessions, on links that have come up.
fn tell_all(world: &mut World, index: usize) {
    for (node, link) in std::mem::take(&mut world.nodes[index].to_tell) {
        world.nodes[index].cluster.told_all(node, link);
    }
}

#[test]
fn acc_04_geo_01_the_end_of_all_sessions_is_told_on_the_link_that_they_were_told_on() {
    let mut world = World::new(1, usize::MAX);
    world.link(0, 1);
    deliver_all(&mut world);
    assert_eq!((world.nodes[0].told_anew, world.nodes[0].all_told), (1, 0));
    let cut_off = std::mem::take(&mut world.nodes[1].to_tell);
    world.cut(0, 1);
    deliver_all(&mut world);
    world.link(0, 1);
    deliver_all(&mut world);
    assert_eq!((world.nodes[0].told_anew, world.nodes[0].all_told), (2, 0));
    // What was to be said on the link before is nothing to this one.
    cut_off.into_iter().for_each(|(node, link)| world.nodes[1].cluster.told_all(node, link));
    deliver_all(&mut world);
    assert_eq!(world.nodes[0].all_told, 0);
    tell_all(&mut world, 1);
    deliver_all(&mut world);
    assert_eq!(world.nodes[0].all_told, 1);
    assert_eq!(world.nodes[1].all_told, 0, "the other side has not told all");
}

#[test]
fn acc_04_geo_01_a_core_of_the_release_before_has_nobody_else_when_it_begins() {
    let mut world = World::new(1, usize::MAX);
    world.link_version = LINK_VERSION_ALL_TOLD - 1;
    world.link(0, 1);
    deliver_all(&mut world);
    tell_session(&world, 1);
    deliver_all(&mut world);
    assert_eq!(world.nodes[0].elsewhere.len(), 1);
    world.cut(0, 1);
    deliver_all(&mut world);
    assert_eq!(world.nodes[0].elsewhere.len(), 1, "a lost link says nothing");
    world.link(0, 1);
    deliver_all(&mut world);
    assert!(world.nodes[0].elsewhere.is_empty());
    assert_eq!(world.nodes[0].told_anew, 0);
}

fn deliver_all(world: &mut World) {
    while world.ways.iter().flatten().any(|way| !way.lock().unwrap().is_empty()) {
        (0..NODES).for_each(|from| (0..NODES).for_each(|to| world.deliver(from, to)));
    }
}

#[test]
fn geo_01_login_05_a_session_that_is_signed_out_over_a_lost_link_ends_once_there_is_one_again() {
    let mut world = World::new(1, usize::MAX);
    world.link(0, 1);
    deliver_all(&mut world);
    tell_session(&world, 1);
    deliver_all(&mut world);
    let [there] = world.nodes[0].elsewhere[..] else { panic!("one session") };
    world.cut(0, 1);
    deliver_all(&mut world);
    world.nodes[0].cluster.sign_out(there, &Device::default());
    assert!(world.nodes[1].signed_out.is_empty(), "it can't know");
    world.link(0, 1);
    deliver_all(&mut world);
    tell_session(&world, 1);
    deliver_all(&mut world);
    assert_eq!(world.nodes[1].signed_out, [5]);
    assert_eq!(world.nodes[0].elsewhere, [there], "it is not told of again");
    // It is gone: what is noted of it goes, too.
    let here = Address { node: HERE, ..there };
    world.nodes[1].cluster.tell_gone(1, &UserId::new("anna").unwrap(), here);
    deliver_all(&mut world);
    assert!(world.nodes[0].cluster.inner().ending.values().all(|ending| ending.is_empty()));
}

#[test]
fn geo_01_what_a_later_release_says_makes_all_read() {
    let mut world = World::new(1, usize::MAX);
    (0..NODES).for_each(|index| world.poll_directory(index));
    world.come_to_rest();
    assert!(world.nodes[0].cluster.is_sure());
    let news = vec![protocol::link_message::PeerNews::default()];
    let batch = PeerBatch { version: 1_000, news, ..PeerBatch::default() };
    world.nodes[0].cluster.frame(2, What::Batch(batch));
    assert!(!world.nodes[0].cluster.is_sure());
    world.come_to_rest();
    assert!(world.nodes[0].cluster.is_sure());
}

/// Something is said in a live room, and heard on one node.
fn say_in_room(world: &World, index: usize, seq: u64) {
    let message = Message { seq, ..Message::default() };
    let push = EncodedPush::message(message.encode_to_vec().into());
    let room = GroupId::new("room").unwrap();
    world.nodes[index].router.recent().note(1, &room, &News::Push(push));
}

/// A node asks the others what was said in the room last, and waits.
fn ask_recent(world: &World, index: usize) -> Option<oneshot::Receiver<()>> {
    let (node, room) = (&world.nodes[index], GroupId::new("room").unwrap());
    node.cluster.ask_recent(1, &room);
    node.router.recent().wait(1, &room)
}

fn recent(world: &World, index: usize) -> Vec<u64> {
    let room = GroupId::new("room").unwrap();
    world.nodes[index].router.recent().of(1, &room, 0).iter().map(|message| message.seq).collect()
}

#[test]
fn geo_01_a_core_that_has_just_come_asks_what_was_said_last_in_a_room() {
    let mut world = World::new(1, usize::MAX);
    assert!(ask_recent(&world, 0).is_none(), "there is nobody to ask");
    [(0, 1), (0, 2)].into_iter().for_each(|(a, b)| world.link(a, b));
    deliver_all(&mut world);
    // One has heard it all, one has come in between.
    (1..=30).for_each(|seq| say_in_room(&world, 1, seq));
    (28..=30).for_each(|seq| say_in_room(&world, 2, seq));
    let mut waiting = ask_recent(&world, 0).unwrap();
    say_in_room(&world, 0, 31);
    assert_eq!(waiting.try_recv(), Ok(None), "nobody has answered");
    deliver_all(&mut world);
    assert!(waiting.try_recv().is_err(), "both have");
    assert_eq!(recent(&world, 0), (12..=31).collect::<Vec<_>>());
    assert!(ask_recent(&world, 0).is_none(), "once is enough");
    // Until somebody comes who may know more.
    world.cut(0, 1);
    deliver_all(&mut world);
    world.link(0, 1);
    deliver_all(&mut world);
    say_in_room(&world, 1, 33);
    assert!(ask_recent(&world, 0).is_some());
    deliver_all(&mut world);
    assert_eq!(recent(&world, 0).last(), Some(&33));
}

#[test]
fn geo_01_a_core_of_the_release_before_and_one_that_is_busy_are_not_asked() {
    let mut world = World::new(1, usize::MAX);
    world.link_version = LINK_VERSION_ANSWERS - 1;
    world.link(0, 1);
    deliver_all(&mut world);
    say_in_room(&world, 1, 1);
    assert!(ask_recent(&world, 0).is_none(), "it would not answer");
    world.link_version = LINK_VERSION_ANSWERS;
    world.link_room = 8;
    world.link(0, 2);
    deliver_all(&mut world);
    // What waits for it takes more than half of its link.
    (0..5).for_each(|_| tell_session(&world, 0));
    assert!(ask_recent(&world, 0).is_none());
    deliver_all(&mut world);
    let mut waiting = ask_recent(&world, 0).unwrap();
    // Nor does it answer with much while this side takes nothing, but it answers.
    say_in_room(&world, 2, 1);
    (0..4).for_each(|_| tell_session(&world, 2));
    deliver_all(&mut world);
    assert!(waiting.try_recv().is_err());
    assert!(recent(&world, 0).is_empty());
}
