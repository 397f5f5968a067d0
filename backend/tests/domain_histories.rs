//! Goal: sending, syncing and history keep their promises whatever the store does (invariants 1 to 4 of
//! ARCHITECTURE.md; MSG-04, MSG-05).
//!
//! Mechanics: seeded histories on the memory engine. Users send to each other and to themselves, send the
//! same message again, and one id to two people; meanwhile commits conflict, get lost, end with unknown
//! outcome, wait for durability, or die in a crash. Then everything is read back and compared with what
//! was acknowledged.
//!
//! `DOMAIN_SEED=n` replays one history, `DOMAIN_HISTORIES=n` runs that many.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use backend::{
    domain::{
        AppId, Error, UserId, account,
        message::NewMessage,
        send::Sent,
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        sync::{self, HistoryQuery, PageLimit},
        usersig,
    },
    env::{Clock, Rng, SeededRng, SystemClock},
    store::{Faults, Memory, Store, StoreOptions, Versionstamp},
};
use bytes::Bytes;
use futures::executor::block_on;
use prost::Message as _;
use protocol::message::{Body, Element, Message, Text, element::Kind};

const APP: AppId = 7;
const OTHER_APP: AppId = 8;
const SECRET: &str = "a secret for tests only";
const USERS: [&str; 4] = ["anna", "ben", "cleo", "dan"];
const STEPS: u64 = 120;
const HISTORIES_DEFAULT: u64 = 300;
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn promises_hold_in_seeded_histories() {
    let from_environment = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(seed) = from_environment("DOMAIN_SEED") {
        return History::run(seed);
    }
    for seed in 0..from_environment("DOMAIN_HISTORIES").unwrap_or(HISTORIES_DEFAULT) {
        let replay = Replay(seed);
        History::run(seed);
        std::mem::forget(replay);
    }
}

/// Says how to replay, if the history panics.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        eprintln!("replay with: DOMAIN_SEED={} cargo test -p backend --test domain_histories", self.0);
    }
}

/// Collects what the queue finished, in the order it came.
#[derive(Clone, Default)]
struct Finished(Arc<(Mutex<Vec<Completion<usize>>>, Condvar)>);

impl Outbox for Finished {
    type Origin = usize;

    fn complete(&self, batch: Vec<Completion<usize>>) {
        let (finished, changed) = &*self.0;
        finished.lock().unwrap().extend(batch);
        changed.notify_all();
    }
}

impl Finished {
    fn wait_for(&self, count: usize) -> Vec<Completion<usize>> {
        let (finished, changed) = &*self.0;
        let waiting = changed.wait_timeout_while(finished.lock().unwrap(), PATIENCE, |finished| finished.len() < count);
        let (mut finished, timeout) = waiting.unwrap();
        assert!(!timeout.timed_out(), "{} of {count} sends were answered", finished.len());
        std::mem::take(&mut finished)
    }
}

struct History {
    rng: SeededRng,
    memory: Memory,
    store: Store,
    queue: SendQueue<Finished>,
    finished: Finished,
    users: Vec<UserId>,
    submitted: Vec<NewMessage>,
}

impl History {
    fn run(seed: u64) {
        let mut history = History::new(seed);
        history.memory.set_faults(Faults { conflict: 100, maybe_committed: 60, maybe_lost: 60, unavailable: 30 });
        for _ in 0..STEPS {
            history.step();
        }
        history.memory.set_faults(Faults::default());
        let completions = history.settle();
        history.check(&completions);
        history.store.shutdown();
    }

    fn new(seed: u64) -> Self {
        let memory = Memory::new(seed, Faults::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let options = StoreOptions { retry_backoff_us_max: 0, read_threads: 1, ..StoreOptions::default() };
        let store = Store::new(Arc::new(memory.clone()), clock.clone(), Arc::new(SeededRng::new(seed)), options);
        for app in [APP, OTHER_APP] {
            block_on(account::put_application(&store, &clock, app, SECRET, false)).unwrap();
        }
        let users: Vec<UserId> = USERS.iter().map(|name| UserId::new(name).unwrap()).collect();
        for user in &users {
            let usersig = usersig::sign(APP, SECRET, user.as_str(), clock.unix_ms() / 1000, 3600);
            block_on(account::login(&store, &clock, false, APP, user, usersig)).unwrap();
        }
        let finished = Finished::default();
        let limits = SendLimits { batch_max: 8, ..SendLimits::default() };
        let queue = SendQueue::new(store.clone(), clock, limits, finished.clone());
        History { rng: SeededRng::new(!seed), memory, store, queue, finished, users, submitted: Vec::new() }
    }

    fn step(&mut self) {
        match self.below(100) {
            0..60 => self.send_new(),
            60..80 => self.send_again(None),
            80..84 => {
                let to = self.user();
                self.send_again(Some(to));
            }
            84..90 => self.memory.hold_syncs(),
            90..97 => self.memory.sync(),
            _ => self.memory.crash(),
        }
    }

    fn send_new(&mut self) {
        let number = self.submitted.len();
        let text = Text { text: format!("message {number}") };
        let body = Body { elements: vec![Element { kind: Some(Kind::Text(text)) }] };
        let message = NewMessage {
            app: APP,
            from: self.user(),
            to: self.user(),
            client_message_id: Bytes::from(format!("{number:08}")),
            body: body.encode_to_vec().into(),
        };
        self.submit(message);
    }

    fn send_again(&mut self, other_recipient: Option<UserId>) {
        if self.submitted.is_empty() {
            return;
        }
        let earlier = self.submitted[self.below(self.submitted.len() as u64) as usize].clone();
        let to = other_recipient.unwrap_or_else(|| earlier.to.clone());
        self.submit(NewMessage { to, ..earlier });
    }

    fn submit(&mut self, message: NewMessage) {
        self.queue.submit(self.submitted.len(), message.clone()).unwrap();
        self.submitted.push(message);
    }

    /// Waits until every send has been answered, making durable what waits for that.
    fn settle(&mut self) -> Vec<Completion<usize>> {
        let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let syncing = std::thread::spawn({
            let (memory, done) = (self.memory.clone(), done.clone());
            move || {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    memory.sync();
                    std::thread::yield_now();
                }
            }
        });
        let completions = self.finished.wait_for(self.submitted.len());
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        syncing.join().unwrap();
        self.memory.sync();
        completions
    }

    fn check(&self, completions: &[Completion<usize>]) {
        let origins: HashSet<usize> = completions.iter().map(|completion| completion.origin).collect();
        assert_eq!(origins.len(), self.submitted.len(), "every send is answered once");
        check_commit_order(completions);
        let stored = self.read_conversations();
        self.check_answers(completions, &stored);
        for user in &self.users {
            self.check_event_log(user, &stored, completions);
        }
        self.check_isolation();
    }

    /// Every conversation, each read in both directions with pages of random sizes.
    fn read_conversations(&self) -> BTreeMap<(UserId, UserId), Vec<Message>> {
        let mut conversations = BTreeMap::new();
        for (index, one) in self.users.iter().enumerate() {
            for other in &self.users[index..] {
                let forward = self.read_history(one, other, true);
                let mut backward = self.read_history(other, one, false);
                backward.reverse();
                assert_eq!(forward, backward);
                let seqs: Vec<u64> = forward.iter().map(|message| message.seq).collect();
                assert_eq!(seqs, (1..=forward.len() as u64).collect::<Vec<_>>(), "no gap, no repeat");
                conversations.insert((one.clone(), other.clone()), forward);
            }
        }
        let ids = conversations.values().flatten().map(|message| (&message.from, &message.client_message_id));
        let count = conversations.values().map(Vec::len).sum::<usize>();
        assert_eq!(ids.collect::<HashSet<_>>().len(), count, "a message is stored once");
        conversations
    }

    fn read_history(&self, user: &UserId, peer: &UserId, forward: bool) -> Vec<Message> {
        let mut messages: Vec<Message> = Vec::new();
        let mut from_seq = None;
        loop {
            let limit = PageLimit { entries_max: 1 + self.below(7) as usize, bytes_max: self.below(300) as usize };
            let query = HistoryQuery { from_seq, forward, limit };
            let page = block_on(sync::history(&self.store, APP, user, peer, query)).unwrap();
            assert!(!page.messages.is_empty() || !page.more, "a page that goes on is not empty");
            messages.extend(page.messages);
            let Some(last) = messages.last().filter(|_| page.more) else { return messages };
            from_seq = Some(if forward { last.seq + 1 } else { last.seq - 1 });
        }
    }

    fn check_answers(&self, completions: &[Completion<usize>], stored: &BTreeMap<(UserId, UserId), Vec<Message>>) {
        for Completion { message, outcome, .. } in completions {
            match outcome {
                Ok(Sent { seq, time_ms, .. }) => {
                    let found = &stored[&pair(message)][*seq as usize - 1];
                    assert_eq!(found.client_message_id, message.client_message_id, "the acknowledged sequence");
                    assert_eq!((found.from.as_str(), found.to.as_str()), (message.from.as_str(), message.to.as_str()));
                    assert_eq!((&found.body, found.time_ms), (&message.body, *time_ms));
                }
                Err(Error::ClientMessageIdReused) => {
                    let elsewhere = stored.values().flatten().any(|other| {
                        other.client_message_id == message.client_message_id && other.to != message.to.as_str()
                    });
                    assert!(elsewhere, "refused, though the id is nowhere else");
                }
                Err(Error::Store(_)) => {} // may or may not be there: at most once, as checked above
                Err(error) => panic!("unexpected: {error}"),
            }
        }
    }

    /// The log has exactly the user's messages, each conversation in order, at the positions told at sending.
    fn check_event_log(
        &self,
        user: &UserId,
        stored: &BTreeMap<(UserId, UserId), Vec<Message>>,
        completions: &[Completion<usize>],
    ) {
        let mut positions = HashMap::new();
        let mut next_seq: HashMap<String, u64> = HashMap::new();
        let mut cursor = Versionstamp::ZERO;
        loop {
            let limit = PageLimit { entries_max: 1 + self.below(9) as usize, bytes_max: self.below(400) as usize };
            let page = block_on(sync::events(&self.store, APP, user, cursor, limit)).unwrap();
            for event in page.events {
                assert!(event.position > cursor, "in log order");
                cursor = event.position;
                let message = event.message;
                let peer = if message.from == user.as_str() { &message.to } else { &message.from };
                let expected = next_seq.entry(peer.clone()).or_insert(1);
                assert_eq!(message.seq, *expected, "conversation of {user} with {peer} in order");
                *expected += 1;
                positions.insert((message.from, message.client_message_id), event.position);
            }
            assert_eq!(page.cursor, cursor);
            if !page.more {
                break;
            }
        }
        let own = stored.iter().filter(|((one, other), _)| one == user || other == user);
        assert_eq!(positions.len(), own.map(|(_, messages)| messages.len()).sum::<usize>(), "log of {user}");
        for Completion { message, outcome, .. } in completions {
            let Ok(Sent { fresh: Some(fresh), .. }) = outcome else { continue };
            let logged = positions.get(&(message.from.to_string(), message.client_message_id.clone()));
            if message.from == *user {
                assert_eq!(logged, Some(&fresh.position_from));
            }
            if message.to == *user {
                assert_eq!(logged, Some(&fresh.position_to));
            }
        }
    }

    /// The same names in another application have nothing.
    fn check_isolation(&self) {
        let limit = PageLimit { entries_max: 10, bytes_max: 1000 };
        for user in &self.users {
            let page = block_on(sync::events(&self.store, OTHER_APP, user, Versionstamp::ZERO, limit)).unwrap();
            assert!(page.events.is_empty() && !page.more);
            let query = HistoryQuery { from_seq: None, forward: true, limit };
            let page = block_on(sync::history(&self.store, OTHER_APP, user, &self.users[0], query)).unwrap();
            assert_eq!((page.messages.len(), page.head_seq), (0, 0));
        }
    }

    fn user(&self) -> UserId {
        self.users[self.below(self.users.len() as u64) as usize].clone()
    }

    fn below(&self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }
}

/// What is pushed comes in commit order: sessions rely on it.
fn check_commit_order(completions: &[Completion<usize>]) {
    let fresh = completions.iter().filter_map(|completion| completion.outcome.as_ref().ok()?.fresh.as_ref());
    let positions: Vec<Versionstamp> = fresh.map(|fresh| fresh.position_from).collect();
    assert!(positions.is_sorted(), "completions come in commit order");
}

fn pair(message: &NewMessage) -> (UserId, UserId) {
    let (one, other) = (message.from.clone(), message.to.clone());
    if one <= other { (one, other) } else { (other, one) }
}
