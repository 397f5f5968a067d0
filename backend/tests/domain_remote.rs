//! Goal: on a remote engine a batch of sends starts its reads together, and nobody can tell from the
//! answers; two nodes that write the same conversations keep its sequences whole; and what was stored
//! without an answer is pushed all the same, in its place.
//!
//! Mechanics: the same random sends (few users, ids sent again, ids used for two recipients) go one by
//! one through an engine in this process, and in batches through a remote one that conflicts for no
//! reason, so that batches are halved. Then two stores on one engine send to the same people at once.
//! On the imagined remote engine, and on a live FoundationDB where there is one. On the imagined one
//! commits also lose their answers, or get stuck on the wire and arrive later.

#[cfg(feature = "fdb")]
mod fdb_cluster;
mod remote;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use backend::{
    domain::{
        AppId, Error, UserId, account,
        act::{Act, Answer, News, Notice},
        applications::{self, NewApplication},
        change::{Change, Kind},
        history::{self, HistoryQuery, Start},
        message::NewMessage,
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        sync::{self, From, PageLimit},
        unsettled::Late,
        usersig,
    },
    env::{Clock, Rng, SeededRng, SystemClock},
    store::*,
};
use bytes::Bytes;
use futures::executor::block_on;
use prost::Message as _;
use protocol::message::{Body, Element, Event, Text, element::Kind as ElementKind, event::What};

const APP: AppId = 7;
const SECRET: &str = "a secret for tests only";
const USERS: [&str; 4] = ["anna", "ben", "cleo", "dan"];
const SENDS: u64 = 400;
const PATIENCE: Duration = Duration::from_secs(60);

/// Hands finished sends to the test, batch by batch.
struct Finished {
    answers: mpsc::Sender<Vec<Completion<usize>>>,
    /// What devices that are online would be pushed, in order.
    pushes: Arc<Mutex<Vec<Notice>>>,
}

impl Outbox for Finished {
    type Origin = usize;

    fn complete(&self, batch: Vec<Completion<usize>>, _: Option<Committed>) {
        let sent = batch.iter().filter_map(|completion| completion.outcome.as_ref().ok());
        self.pushes.lock().expect("sound").extend(sent.flat_map(|sent| sent.notices.clone()));
        let _ = self.answers.send(batch); // a test that failed does not listen
    }

    fn late(&self, acts: Vec<Late>) {
        self.pushes.lock().expect("sound").extend(acts.into_iter().flat_map(|late| late.notices));
    }
}

/// One gateway's half of the service.
struct Node {
    store: Store,
    queue: SendQueue<Finished>,
    finished: mpsc::Receiver<Vec<Completion<usize>>>,
    pushes: Arc<Mutex<Vec<Notice>>>,
}

impl Node {
    fn new(engine: Arc<dyn Engine>, batch_max: usize) -> Self {
        Node::with_retries(engine, batch_max, 1000)
    }

    fn with_retries(engine: Arc<dyn Engine>, batch_max: usize, retry_attempts_max: u32) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let options = StoreOptions { retry_attempts_max, retry_deadline_ms: 30_000, ..StoreOptions::default() };
        let store = Store::new(engine, clock.clone(), Arc::new(SeededRng::new(1)), options);
        let (answers, finished) = mpsc::channel();
        let pushes = Arc::default();
        let outbox = Finished { answers, pushes: Arc::clone(&pushes) };
        let limits = SendLimits { batch_max, ..SendLimits::default() };
        let queue = SendQueue::new(store.clone(), clock, limits, outbox);
        Node { store, queue, finished, pushes }
    }

    fn log_in(&self, users: &[UserId]) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        block_on(applications::put_application(&self.store, &clock, NewApplication::new(APP, SECRET))).expect("puts");
        for user in users {
            let usersig = usersig::sign(APP, SECRET, user.as_str(), clock.unix_ms() / 1000, 3600);
            block_on(account::login(&self.store, &clock, false, APP, user, usersig)).expect("logs in");
        }
    }

    /// Submits all while the write lane is held up, so that they make full batches; the answers in order.
    fn send_all(&self, messages: &[NewMessage]) -> Vec<Completion<usize>> {
        self.act_all(messages.iter().cloned().map(Act::Send).collect())
    }

    fn act_all(&self, acts: Vec<Act>) -> Vec<Completion<usize>> {
        self.act_in_batches(acts).into_iter().flatten().collect()
    }

    fn act_in_batches(&self, acts: Vec<Act>) -> Vec<Vec<Completion<usize>>> {
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let hold = async move |_: &Tx| -> Result<(), StoreError> {
            let _ = held.lock().expect("sound").recv();
            Ok(())
        };
        let holding = self.store.run(Lane::Write, "hold", hold);
        let count = acts.len();
        for (at, act) in acts.into_iter().enumerate() {
            self.queue.submit(at, act).expect("there is room");
        }
        drop(release);
        block_on(holding).expect("holds");
        self.batches(count)
    }

    fn answers(&self, count: usize) -> Vec<Completion<usize>> {
        self.batches(count).into_iter().flatten().collect()
    }

    fn batches(&self, count: usize) -> Vec<Vec<Completion<usize>>> {
        let mut batches: Vec<Vec<_>> = Vec::new();
        while batches.iter().map(Vec::len).sum::<usize>() < count {
            batches.push(self.finished.recv_timeout(PATIENCE).expect("sends are answered"));
        }
        batches
    }

    fn history(&self, user: &UserId, peer: &UserId) -> Vec<(u64, Bytes)> {
        let limit = PageLimit { entries_max: 10_000, bytes_max: 100 << 20 };
        let query = HistoryQuery { start: Start::End, forward: true, limit };
        let page = block_on(history::page(&self.store, APP, user, &peer.clone().into(), query)).expect("reads");
        page.messages.into_iter().map(|message| (message.seq, message.client_message_id)).collect()
    }

    fn events(&self, user: &UserId) -> Vec<(Versionstamp, u64)> {
        let mut events = Vec::new();
        let mut cursor = Versionstamp::ZERO;
        loop {
            let limit = PageLimit { entries_max: 100, bytes_max: 3_000 };
            let page = block_on(sync::events(&self.store, APP, user, From::Cursor(cursor, Bytes::new()), limit))
                .expect("reads");
            events.extend(page.events.iter().map(|event| (event.position, seq(&event.what))));
            cursor = page.cursor;
            if !page.more {
                return events;
            }
        }
    }

    /// Every device online has been pushed its user's log, whole and in order.
    fn check_pushes(&self, user: &UserId) {
        let mut seen: Vec<(Versionstamp, u64)> = Vec::new();
        for push in self.pushes.lock().expect("sound").iter().filter_map(|notice| pushed_to(user, notice)) {
            // As a session does: what is not behind the last one has been pushed before.
            if seen.last().is_none_or(|last| push > *last) {
                seen.push(push);
            }
        }
        assert_eq!(seen, self.events(user), "pushed to {user}");
    }
}

/// Position and sequence of a push, if it goes to the user.
fn pushed_to(user: &UserId, notice: &Notice) -> Option<(Versionstamp, u64)> {
    let News::Event(position, event) = &notice.what else { panic!("not an event: {notice:?}") };
    let event = Event::decode(event.to_stored()).expect("decodes");
    (notice.to.user() == Some(user)).then(|| (*position, seq(&event.what.expect("an event"))))
}

fn seq(what: &What) -> u64 {
    let What::Message(message) = what else { panic!("not a message: {what:?}") };
    message.seq
}

fn users() -> Vec<UserId> {
    USERS.iter().map(|name| UserId::new(name).expect("a name")).collect()
}

fn message(from: &UserId, to: &UserId, id: String) -> NewMessage {
    let text = Text { text: format!("message {id}") };
    let body = Body { elements: vec![Element { kind: Some(ElementKind::Text(text)) }], ..Body::default() };
    NewMessage::new(APP, from.clone(), to.clone(), id.into(), body.encode_to_vec().into())
}

fn draw(seed: u64) -> Vec<NewMessage> {
    let rng = SeededRng::new(seed);
    let mut users = users();
    users.push(UserId::new("nobody").expect("a name"));
    let user = || users[(rng.next_u64() % users.len() as u64) as usize].clone();
    // Few ids: many are sent again, to the same recipient or another.
    let one = || message(&user(), &user(), (rng.next_u64() % 100).to_string());
    (0..SENDS).map(|_| one()).collect()
}

/// What an answer says, without times and positions.
fn essence(answer: &Completion<usize>) -> (usize, Result<(u64, bool), Error>) {
    let outcome = answer.outcome.as_ref().map(|outcome| match outcome.answer {
        Answer::Sent { seq, duplicate, .. } => (seq, duplicate),
        _ => panic!("no answer to a send: {outcome:?}"),
    });
    (answer.origin, outcome.map_err(Clone::clone))
}

fn a_batch_gives_what_one_by_one_gives(remote: &Node, seed: u64) {
    let messages = draw(seed);
    let local = Node::new(Arc::new(Memory::new(seed, Faults::default())), 1);
    for node in [&local, remote] {
        node.log_in(&users());
    }
    let expected: Vec<_> = local.send_all(&messages).iter().map(essence).collect();
    let answers = remote.send_all(&messages);
    assert_eq!(answers.iter().map(essence).collect::<Vec<_>>(), expected, "seed {seed}");
    for user in users() {
        for peer in users() {
            assert_eq!(remote.history(&user, &peer), local.history(&user, &peer), "seed {seed}");
        }
        let log = remote.events(&user);
        assert!(log.is_sorted_by(|(one, _), (next, _)| one < next), "positions are unique and in order");
        assert_eq!(log.len(), local.events(&user).len());
        let told = answers.iter().filter_map(|answer| answer.outcome.as_ref().ok()).flat_map(|told| &told.notices);
        let positions: BTreeSet<_> =
            told.filter_map(|notice| pushed_to(&user, notice)).map(|(position, _)| position).collect();
        assert!(log.iter().all(|(position, _)| positions.contains(position)), "answers tell the positions");
    }
}

fn two_nodes_keep_sequences_whole(nodes: &[Node; 2]) {
    let users = users();
    nodes[0].log_in(&users);
    let sends: Vec<Vec<NewMessage>> = (0..2)
        .map(|node| {
            // Every tenth goes through both nodes, as after a reconnect.
            let id = |n: u64| if n.is_multiple_of(10) { format!("both-{n}") } else { format!("{node}-{n}") };
            (0..SENDS).map(|n| message(&users[0], &users[1 + (n % 2) as usize], id(n))).collect()
        })
        .collect();
    for (at, (one, other)) in sends[0].iter().zip(&sends[1]).enumerate() {
        nodes[0].queue.submit(at, Act::Send(one.clone())).expect("there is room");
        nodes[1].queue.submit(at, Act::Send(other.clone())).expect("there is room");
    }
    for node in nodes {
        let answers = node.answers(sends[0].len());
        assert!(answers.iter().all(|answer| answer.outcome.is_ok()), "{answers:?}");
    }
    for peer in &users[1..3] {
        let history = nodes[1].history(&users[0], peer);
        let expected: BTreeSet<_> = sends
            .iter()
            .flatten()
            .filter(|send| send.to == peer.clone().into())
            .map(|send| send.client_message_id.clone())
            .collect();
        assert!(history.iter().zip(1..).all(|((seq, _), expected)| *seq == expected), "without holes");
        assert_eq!(history.len(), expected.len(), "each once");
        assert_eq!(history.into_iter().map(|(_, id)| id).collect::<BTreeSet<_>>(), expected);
    }
}

#[test]
fn batches_on_a_remote_engine() {
    for seed in 0..20 {
        let memory = Memory::new(seed, Faults::default());
        let remote = Node::new(Arc::new(remote::Remote::new(memory.clone())), 64);
        remote.log_in(&users());
        memory.set_faults(Faults { conflict: 600, ..Faults::default() });
        a_batch_gives_what_one_by_one_gives(&remote, seed);
    }
}

#[test]
fn two_nodes_on_a_remote_engine() {
    let memory = Memory::new(1, Faults { conflict: 100, ..Faults::default() });
    two_nodes_keep_sequences_whole(&[1, 2].map(|_| Node::new(Arc::new(remote::Remote::new(memory.clone())), 32)));
}

/// A node on a remote engine of its own that runs a transaction again so many times, and ten sends.
fn doubtful(retries: u32) -> (Memory, remote::Remote, Node, Vec<NewMessage>) {
    let memory = Memory::new(1, Faults::default());
    let remote = remote::Remote::new(memory.clone());
    let node = Node::with_retries(Arc::new(remote.clone()), 64, retries);
    node.log_in(&users());
    let (users, rng) = (users(), SeededRng::new(1));
    let user = || users[(rng.next_u64() % users.len() as u64) as usize].clone();
    let sends = (0..10).map(|n| message(&user(), &user(), n.to_string())).collect();
    (memory, remote, node, sends)
}

const UNHEARD: Faults = Faults { maybe_committed: 1000, maybe_lost: 0, conflict: 0, unavailable: 0 };
const LOST: Faults = Faults { maybe_lost: 1000, maybe_committed: 0, conflict: 0, unavailable: 0 };

impl Node {
    fn fail_all(&self, sends: &[NewMessage]) {
        for answer in self.send_all(sends) {
            assert_eq!(answer.outcome, Err(Error::Store(StoreError::MaybeCommitted)));
        }
    }

    fn check_all_pushes(&self) {
        users().iter().for_each(|user| self.check_pushes(user));
        assert_eq!(self.queue.unanswered(), 0, "nothing is in doubt any more");
    }
}

/// In the order of the sends.
fn are_duplicates(mut answers: Vec<Completion<usize>>) -> Vec<bool> {
    answers.sort_by_key(|answer| answer.origin);
    answers.iter().map(|answer| answer.outcome.as_ref().expect("is stored").is_duplicate()).collect()
}

#[test]
fn what_an_unheard_commit_has_stored_is_completed_by_the_next_run() {
    let (memory, _, node, mut sends) = doubtful(20);
    sends.push(sends[3].clone()); // this one is a duplicate in any run
    memory.set_faults(UNHEARD);
    let answers = node.send_all(&sends);
    memory.set_faults(Faults::default());
    assert_eq!(are_duplicates(answers), [&[false; 10][..], &[true]].concat());
    node.check_all_pushes();
}

#[test]
fn what_an_unheard_commit_has_stored_is_pushed_before_anything_later() {
    let (memory, _, node, sends) = doubtful(0);
    memory.set_faults(UNHEARD);
    node.fail_all(&sends);
    memory.set_faults(Faults::default());
    let mut again = sends.clone();
    again.push(message(&sends[0].from, sends[0].to.user().expect("a user"), "new".into()));
    assert_eq!(are_duplicates(node.send_all(&again)), [&[true; 10][..], &[false]].concat());
    node.check_all_pushes();
}

#[test]
fn what_a_lost_commit_has_not_stored_is_stored_by_the_client_s_next_try() {
    let (memory, _, node, sends) = doubtful(0);
    memory.set_faults(LOST);
    node.fail_all(&sends);
    memory.set_faults(Faults::default());
    assert_eq!(are_duplicates(node.send_all(&sends)), [false; 10]);
    node.check_all_pushes();
}

/// A change leaves no place by which it could be pushed: who is concerned reads the log, before a push makes him pass
/// by it.
#[test]
fn what_an_unheard_run_has_changed_is_told_before_what_it_has_sent() {
    let (_, remote, node, _) = doubtful(20);
    let users = users();
    let change = Kind::Blacklist { add: vec![users[3].clone()], remove: vec![], each: false };
    let mut acts = vec![Act::Change(Box::new(Change::new(APP, users[0].clone(), change)))];
    acts.extend((0..3).map(|n| Act::Send(message(&users[0], &users[1], n.to_string()))));
    // The batch is stored unheard, and halved when it is run again.
    remote.lose_answer_once(|| {});
    remote.conflict(2);
    assert!(node.act_all(acts).iter().all(|answer| answer.outcome.is_ok()));
    let pushes = node.pushes.lock().expect("sound");
    let first = pushes.iter().find(|notice| notice.to.user() == Some(&users[0])).expect("told");
    assert_eq!(first.what, News::Behind);
    let pushed = pushes.iter().filter(|notice| matches!(notice.what, News::Event(..))).count();
    assert!(pushed >= 6, "all the same");
}

/// A node with much to do is not overtaken for ever by one with less that writes to the same conversations.
#[test]
fn behind_a_transaction_that_was_overtaken_others_are_smaller_and_grow_again() {
    let (_, remote, node, _) = doubtful(20);
    let users = users();
    remote.conflict(2);
    let change = Kind::Blacklist { add: vec![users[3].clone()], remove: vec![], each: false };
    let mut acts = vec![Act::Change(Box::new(Change::new(APP, users[0].clone(), change)))];
    acts.extend((1..200).map(|n| Act::Send(message(&users[0], &users[1], n.to_string()))));
    let batches = node.act_in_batches(acts);
    assert!(batches.iter().flatten().all(|answer| answer.outcome.is_ok()));
    assert!(batches.iter().flatten().map(|answer| answer.origin).eq(0..200), "in the order in which they came");
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [32, 48, 64, 56]);
    // What conflicts is not stored: nothing is in doubt, and nobody need read.
    let pushes = node.pushes.lock().expect("sound");
    assert!(pushes.iter().all(|notice| notice.what != News::Behind));
    assert_eq!(node.queue.unanswered(), 0);
}

/// A device that was pushed what came after it would never see it.
#[test]
fn a_commit_in_doubt_cannot_arrive_any_more_after_the_next_batch() {
    let (_, remote, node, _) = doubtful(20);
    let users = users();
    // Nothing but being settled by it connects the one with the other.
    let [stuck, other] = [0, 2].map(|n| message(&users[n], &users[n + 1], n.to_string()));
    remote.detain_commits();
    node.fail_all(std::slice::from_ref(&stuck));
    remote.pass_commits();
    assert_eq!(are_duplicates(node.send_all(std::slice::from_ref(&other))), [false]);
    assert_eq!(remote.deliver_detained(), [Err(StoreError::Conflict)]);
    assert_eq!(are_duplicates(node.send_all(&[stuck, other])), [false, true]);
    node.check_all_pushes();
}

#[test]
fn a_commit_in_doubt_that_arrives_before_the_next_batch_is_pushed_by_it() {
    let (_, remote, node, sends) = doubtful(20);
    remote.detain_commits();
    node.fail_all(&sends[..5]);
    assert!(matches!(remote.deliver_detained()[..], [Ok(_)]));
    remote.pass_commits();
    assert_eq!(are_duplicates(node.send_all(&sends)), [[true; 5], [false; 5]].concat());
    node.check_all_pushes();
}

/// Random sends, many of them again, while answers and commits get lost on the wire.
fn devices_online_see_everything(remote: &remote::Remote, node: &Node, seed: u64, calm: impl FnOnce()) {
    let rng = SeededRng::new(seed);
    let draw = |bound: u64| rng.next_u64() % bound;
    for _ in 0..20 {
        remote.lose(remote::Losses { answer: draw(350), commit: draw(350) }, rng.next_u64());
        let one = |id: u64| {
            let users = users();
            message(&users[id as usize % 3], &users[1 + id as usize % 2], id.to_string())
        };
        let sends: Vec<_> = (0..1 + draw(20)).map(|_| one(draw(200))).collect();
        for (at, send) in sends.iter().enumerate() {
            node.queue.submit(at, Act::Send(send.clone())).expect("there is room");
        }
        node.answers(sends.len());
    }
    remote.lose(remote::Losses::default(), 0);
    calm();
    node.send_all(&[message(&users()[0], &users()[1], "last".into())]);
    node.check_all_pushes();
    let stored = [(0, 1), (1, 2), (2, 1), (1, 1), (0, 2), (2, 2)].map(|(from, to)| {
        let history = node.history(&users()[from], &users()[to]);
        assert!(history.iter().zip(1..).all(|((seq, _), expected)| *seq == expected), "without holes");
        history.into_iter().map(|(_, id)| id).collect::<Vec<_>>()
    });
    // One to two is the same conversation as two to one.
    let ids: Vec<_> = [0, 1, 3, 4, 5].iter().flat_map(|at| stored[*at].iter()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "each once");
}

/// How often a transaction is run again; some give up early, with outcomes unknown.
fn retries(seed: u64) -> u32 {
    [0, 1, 4, 20][seed as usize % 4]
}

#[test]
fn devices_online_see_everything_whatever_becomes_of_commits() {
    for seed in 0..300 {
        println!("seed {seed}");
        let (memory, remote, node, _) = doubtful(retries(seed));
        memory.set_faults(Faults { conflict: 150, unavailable: 40, ..Faults::default() });
        devices_online_see_everything(&remote, &node, seed, || memory.set_faults(Faults::default()));
    }
}

#[cfg(feature = "fdb")]
#[test]
fn on_fdb() {
    let Some(cluster) = fdb_cluster::Cluster::start() else { return };
    for seed in 0..3 {
        let remote = Node::new(cluster.open(&format!("batch{seed}/"), 5_000), 64);
        a_batch_gives_what_one_by_one_gives(&remote, seed);
    }
    two_nodes_keep_sequences_whole(&[1, 2].map(|_| Node::new(cluster.open("nodes/", 5_000), 32)));
    for seed in 0..12 {
        fdb_cluster::say(&format!("on_fdb: answers and commits get lost, seed {seed}"));
        let remote = remote::Remote::over(cluster.open(&format!("lossy{seed}/"), 5_000));
        let node = Node::with_retries(Arc::new(remote.clone()), 64, retries(seed));
        node.log_in(&users());
        devices_online_see_everything(&remote, &node, seed, || ());
    }
}
