//! Goal: a node that is taken for dead changes nothing any more, and a barrier of the send queue says what it promises:
//! whatever was carried out before has been handed on, and what comes is later in the logs.
//!
//! Mechanics: leases on the memory engine; two nodes on one imagined remote engine whose commits conflict and lose their
//! answers, as a seed says. Whenever one node learns of a commit of the other, it sets a barrier.

mod remote;

use std::{
    sync::{Arc, Mutex, OnceLock, Weak, mpsc},
    time::Duration,
};

use backend::{
    domain::{
        AppId, Error, UserId, account,
        act::{Act, News, Notice},
        applications::{self, NewApplication},
        change::{Change, Kind as ChangeKind, account::Erase},
        message::NewMessage,
        nodes::{self, Load, NodeRecord},
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        unsettled::Late,
        usersig,
    },
    env::{Clock, Rng, SeededRng, SystemClock},
    store::*,
};
use futures::executor::block_on;
use prost::Message as _;
use protocol::message::{Body, Element, Text, element::Kind};

use self::remote::Remote;

const APP: AppId = 7;
const SECRET: &str = "a secret for tests only";
const USERS: [&str; 3] = ["anna", "ben", "cleo"];
const PATIENCE: Duration = Duration::from_secs(60);

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::default())
}

fn memory_store() -> Store {
    let engine = Arc::new(Memory::new(1, Faults::default()));
    Store::new(engine, clock(), Arc::new(SeededRng::new(1)), StoreOptions::default())
}

fn record(name: &str) -> NodeRecord {
    NodeRecord { name: name.into(), lease_ms: 5_000, ..NodeRecord::default() }
}

#[test]
fn geo_01_a_node_lives_as_long_as_it_says_so() {
    let store = memory_store();
    let names = || block_on(nodes::list(&store)).unwrap().into_iter().map(|(id, node)| (id, node.name, node.renewals));
    block_on(nodes::enlist(&store, 1, record("one"))).unwrap();
    block_on(nodes::enlist(&store, u64::MAX, record("two"))).unwrap();
    let load = Load { connections: 7, is_draining: true, ..Load::default() };
    block_on(nodes::renew(&store, 1, load.clone())).unwrap();
    assert_eq!(names().collect::<Vec<_>>(), [(1, "one".to_owned(), 1), (u64::MAX, "two".to_owned(), 0)]);
    assert_eq!(block_on(nodes::list(&store)).unwrap()[0].1.load, load);
    assert!(!block_on(nodes::bury(&store, 1, 0)).unwrap(), "it has said that it lives");
    assert!(block_on(nodes::bury(&store, 1, 1)).unwrap());
    assert!(block_on(nodes::bury(&store, 1, 1)).unwrap(), "somebody else was faster");
    assert_eq!(block_on(nodes::renew(&store, 1, Load::default())), Err(Error::Fenced));
    block_on(nodes::leave(&store, u64::MAX)).unwrap();
    assert_eq!(names().count(), 0);
}

#[test]
fn geo_01_edges_live_as_a_core_says_and_take_no_core_s_place() {
    let store = memory_store();
    block_on(nodes::enlist(&store, 1, record("core"))).unwrap();
    let edges = || vec![(1, record("not a core")), (2, record("edge"))];
    assert_eq!(block_on(nodes::vouch(&store, edges())), Ok(vec![1]));
    assert_eq!(block_on(nodes::vouch(&store, edges())), Ok(vec![1]));
    let all = block_on(nodes::list(&store)).unwrap();
    let told: Vec<_> = all.iter().map(|(id, node)| (*id, node.name.as_str(), node.is_edge, node.renewals)).collect();
    assert_eq!(told, [(1, "core", false, 0), (2, "edge", true, 1)]);
    block_on(nodes::renew(&store, 1, Load::default())).unwrap();
}

#[test]
fn geo_03_who_came_first_stays_first_however_many_cores_vouch() {
    let store = memory_store();
    block_on(nodes::vouch(&store, vec![(9, record("edge"))])).unwrap();
    block_on(nodes::enlist(&store, 8, record("edge"))).unwrap();
    // The last one has links to three cores.
    for _ in 0..3 {
        block_on(nodes::vouch(&store, vec![(7, record("edge"))])).unwrap();
    }
    block_on(nodes::vouch(&store, vec![(9, record("edge"))])).unwrap();
    block_on(nodes::renew(&store, 8, Load::default())).unwrap();
    let mut all = block_on(nodes::list(&store)).unwrap();
    all.sort_unstable_by_key(|(_, node)| node.since);
    let told: Vec<_> = all.iter().map(|(id, node)| (*id, node.renewals)).collect();
    assert_eq!(told, [(9, 1), (8, 1), (7, 2)]);
    assert!(all[0].1.since > 0 && all.windows(2).all(|two| two[0].1.since < two[1].1.since));
}

#[test]
fn geo_01_a_lease_is_renewed_however_long_an_act_takes() {
    let (_, [node, other]) = two(1);
    block_on(nodes::enlist(&node.store, 11, record("one"))).unwrap();
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let hold = async move |_: &Tx| -> Result<(), StoreError> {
        let _ = held.lock().unwrap().recv();
        Ok(())
    };
    let holding = node.store.run(Lane::Write, "hold", hold);
    let (told, renewed) = mpsc::channel();
    let renewing = node.store.clone();
    std::thread::spawn(move || told.send(block_on(nodes::renew(&renewing, 11, Load::default()))));
    assert_eq!(renewed.recv_timeout(PATIENCE), Ok(Ok(())));
    assert!(!block_on(nodes::bury(&other.store, 11, 0)).unwrap());
    drop(release);
    block_on(holding).unwrap();
}

/// What a node was told, in order.
#[derive(Debug)]
enum Told {
    /// Something that stands there in the logs.
    At(Versionstamp),
    /// A barrier that was set when this version was known.
    Barrier(Version),
}

/// What a node does with what it has carried out: remembers it, and has the other one set a barrier.
#[derive(Clone)]
struct Watched {
    told: Arc<Mutex<Vec<Told>>>,
    answers: mpsc::Sender<Vec<Completion<usize>>>,
    other: Arc<OnceLock<Weak<Node>>>,
}

impl Watched {
    fn remember(&self, notices: &[Notice]) {
        let positions = notices.iter().filter_map(|notice| match &notice.what {
            News::Event(position, _) => Some(Told::At(*position)),
            _ => None,
        });
        self.told.lock().expect("sound").extend(positions);
    }
}

impl Outbox for Watched {
    type Origin = usize;

    fn complete(&self, batch: Vec<Completion<usize>>, at: Option<Committed>) {
        for outcome in batch.iter().filter_map(|completion| completion.outcome.as_ref().ok()) {
            self.remember(&outcome.notices);
        }
        let _ = self.answers.send(batch);
        let (Some(at), Some(other)) = (at, self.other.get().and_then(Weak::upgrade)) else { return };
        let told = other.outbox.told.clone();
        other.queue.barrier(move || told.lock().expect("sound").push(Told::Barrier(at.version)));
    }

    fn late(&self, acts: Vec<Late>) {
        acts.iter().for_each(|late| self.remember(&late.notices));
    }
}

struct Node {
    store: Store,
    queue: SendQueue<Watched>,
    outbox: Watched,
    answered: Mutex<mpsc::Receiver<Vec<Completion<usize>>>>,
}

impl Node {
    fn new(engine: Arc<dyn Engine>, seed: u64) -> Arc<Self> {
        let options = StoreOptions { retry_attempts_max: 2, retry_deadline_ms: 30_000, ..StoreOptions::default() };
        let store = Store::new(engine, clock(), Arc::new(SeededRng::new(seed)), options);
        let (answers, answered) = mpsc::channel();
        let outbox = Watched { told: Arc::default(), answers, other: Arc::default() };
        let limits = SendLimits { batch_max: 8, ..SendLimits::default() };
        let queue = SendQueue::new(store.clone(), clock(), limits, outbox.clone());
        Arc::new(Node { store, queue, outbox, answered: Mutex::new(answered) })
    }

    fn log_in_all(&self) {
        block_on(applications::put_application(&self.store, &clock(), NewApplication::new(APP, SECRET)))
            .expect("sound");
        for user in users() {
            let usersig = usersig::sign(APP, SECRET, user.as_str(), clock().unix_ms() / 1000, 3600);
            block_on(account::login(&self.store, &clock(), false, APP, &user, usersig)).expect("sound");
        }
    }

    fn answers(&self, count: usize) -> Vec<Completion<usize>> {
        let answered = self.answered.lock().expect("sound");
        let mut answers = Vec::new();
        while answers.len() < count {
            answers.extend(answered.recv_timeout(PATIENCE).expect("sends are answered"));
        }
        answers
    }

    /// Every barrier stands behind all that is not later than it.
    fn check(&self, seed: u64) {
        let told = self.outbox.told.lock().expect("sound");
        let mut reached = 0;
        for (index, told) in told.iter().enumerate() {
            match told {
                Told::Barrier(version) => reached = reached.max(*version),
                Told::At(position) => {
                    let version = position.place().0;
                    assert!(
                        version > reached,
                        "seed {seed}: {version} is told at {index}, behind the barrier of {reached}"
                    );
                }
            }
        }
        assert!(reached > 0, "seed {seed}: barriers were passed");
    }
}

fn users() -> Vec<UserId> {
    USERS.iter().map(|name| UserId::new(name).expect("sound")).collect()
}

fn message(from: &UserId, to: &UserId, id: String) -> NewMessage {
    let text = Text { text: id.clone() };
    let body = Body { elements: vec![Element { kind: Some(Kind::Text(text)) }], ..Body::default() };
    NewMessage::new(APP, from.clone(), to.clone(), id.into(), body.encode_to_vec().into())
}

fn two(seed: u64) -> (Memory, [Arc<Node>; 2]) {
    let memory = Memory::new(seed, Faults::default());
    let nodes = [1, 2].map(|n| Node::new(Arc::new(Remote::new(memory.clone())), seed * 2 + n));
    nodes[0].log_in_all();
    (memory, nodes)
}

#[test]
fn geo_01_behind_a_barrier_nothing_is_told_that_is_not_later() {
    for seed in 0..40 {
        println!("seed {seed}");
        let (memory, nodes) = two(seed);
        for (node, other) in [(0, 1), (1, 0)] {
            let _ = nodes[node].outbox.other.set(Arc::downgrade(&nodes[other]));
        }
        memory.set_faults(Faults { maybe_committed: 150, maybe_lost: 100, conflict: 100, unavailable: 0 });
        let (rng, users) = (SeededRng::new(seed), users());
        let user = || users[(rng.next_u64() % users.len() as u64) as usize].clone();
        for at in 0..150 {
            for (number, node) in nodes.iter().enumerate() {
                let send = message(&user(), &user(), format!("{number}-{at}"));
                node.queue.submit(at, Act::Send(send)).unwrap();
            }
        }
        nodes.iter().for_each(|node| drop(node.answers(150)));
        memory.set_faults(Faults::default());
        // What is still in doubt is settled by the next batch, and what waited for it is called.
        for node in &nodes {
            let (called, call) = mpsc::channel();
            node.queue.barrier(move || _ = called.send(()));
            call.recv_timeout(PATIENCE).expect("the barrier is passed");
            assert_eq!(node.queue.unanswered(), 0, "seed {seed}: nothing is in doubt");
        }
        nodes.iter().for_each(|node| node.check(seed));
    }
}

#[test]
fn geo_01_a_node_that_was_taken_for_dead_changes_nothing_any_more() {
    let (_, nodes) = two(1);
    let users = users();
    let fenced = &nodes[0];
    block_on(nodes::enlist(&fenced.store, 11, record("one"))).unwrap();
    fenced.queue.fence(11);
    let send = |id: &str| Act::Send(message(&users[0], &users[1], id.to_owned()));
    fenced.queue.submit(0, send("alive")).unwrap();
    assert!(fenced.answers(1)[0].outcome.is_ok());
    // It has begun a batch, and stands still: before it goes on, another node buries it.
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let hold = async move |_: &Tx| -> Result<(), StoreError> {
        let _ = held.lock().unwrap().recv();
        Ok(())
    };
    let holding = fenced.store.run(Lane::Write, "hold", hold);
    fenced.queue.submit(1, send("too late")).unwrap();
    assert!(block_on(nodes::bury(&nodes[1].store, 11, 0)).unwrap());
    drop(release);
    block_on(holding).unwrap();
    assert_eq!(fenced.answers(1)[0].outcome, Err(Error::Fenced));
    // The other one has not been buried, and stores the same message.
    nodes[1].queue.submit(0, send("too late")).unwrap();
    let answers = nodes[1].answers(1);
    assert!(!answers[0].outcome.as_ref().unwrap().is_duplicate(), "nothing of it was stored");
}

#[test]
fn geo_01_what_a_node_may_have_stored_before_it_was_buried_holds_its_barriers_up() {
    let memory = Memory::new(1, Faults::default());
    let remote = Remote::new(memory.clone());
    let node = Node::new(Arc::new(remote.clone()), 1);
    node.log_in_all();
    block_on(nodes::enlist(&node.store, 11, record("one"))).unwrap();
    node.queue.fence(11);
    let other = Node::new(Arc::new(Remote::new(memory)), 2);
    let store = other.store.clone();
    remote.lose_answer_once(move || assert!(block_on(nodes::bury(&store, 11, 0)).unwrap()));
    let users = users();
    node.queue.submit(0, Act::Send(message(&users[0], &users[1], "stored".into()))).unwrap();
    assert_eq!(node.answers(1)[0].outcome, Err(Error::Fenced));
    // It is stored, and will be told by nobody here: so this node must not say that it has told everything.
    let (called, call) = mpsc::channel();
    node.queue.barrier(move || _ = called.send(()));
    node.queue.submit(1, Act::Send(message(&users[0], &users[1], "too late".into()))).unwrap();
    assert_eq!(node.answers(1)[0].outcome, Err(Error::Fenced));
    assert_eq!(call.try_recv(), Err(mpsc::TryRecvError::Empty));
}

#[test]
fn geo_01_what_a_node_that_has_left_does_not_carry_out_is_in_no_doubt() {
    let (_, [node, _other]) = two(1);
    node.queue.fence(11);
    // It has left: its fence is gone. Acts still come, changes among them.
    let users = users();
    let kind = ChangeKind::Erase(Erase::Account);
    node.queue.submit(0, Act::Change(Box::new(Change::by_admin(APP, users[2].clone(), kind)))).unwrap();
    node.queue.submit(1, Act::Send(message(&users[0], &users[1], "too late".into()))).unwrap();
    let answers = node.answers(2);
    assert!(answers.iter().all(|answer| answer.outcome == Err(Error::Fenced)));
    // So it can say that it has told all that it will ever have changed.
    let (called, call) = mpsc::channel();
    node.queue.barrier(move || _ = called.send(()));
    call.recv_timeout(PATIENCE).expect("nothing is in doubt");
}
