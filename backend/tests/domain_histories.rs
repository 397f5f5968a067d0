//! Goal: sending, syncing, history and retention keep their promises whatever the store does (invariants
//! 1 to 4 of ARCHITECTURE.md; MSG-03, MSG-04, MSG-05).
//!
//! Mechanics: seeded histories on the memory engine. Users send to each other and to themselves, send the
//! same message again, and one id to two people, while days pass and what has expired is removed;
//! meanwhile commits conflict, get lost, end with unknown outcome, wait for durability, or die in a crash.
//! Then everything is read back and compared with what was acknowledged: what has not expired is there,
//! what has expired is gone.
//!
//! `DOMAIN_SEED=n` draws one history again (what the store's threads and the test do at the same time meets
//! as it happens to: repeat it), `DOMAIN_HISTORIES=n` runs that many.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use backend::{
    domain::{
        AppId, Error, UserId, account,
        act::{Act, Answer, News, Notice, Outcome},
        applications::{self, NewApplication},
        history::{self, HistoryQuery, Start},
        keys,
        message::NewMessage,
        retention::{Keep, Retention},
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        sync::{self, From, PageLimit, SyncPage},
        unsettled::Late,
        usersig,
    },
    env::{Clock, Rng, SeededRng, UnixMillis},
    store::{Committed, Faults, Memory, RangeQuery, ReadMode, Store, StoreOptions, Version, Versionstamp},
};
use bytes::Bytes;
use futures::executor::block_on;
use prost::Message as _;
use protocol::message::{Body, Element, Event, Message, Text, element::Kind, event::What};

const APP: AppId = 7;
const OTHER_APP: AppId = 8;
const SECRET: &str = "a secret for tests only";
const USERS: [&str; 4] = ["anna", "ben", "cleo", "dan"];
const STEPS: u64 = 120;
const HISTORIES_DEFAULT: u64 = 2_000;
const PATIENCE: Duration = Duration::from_secs(60);
const HOUR_MS: u64 = 3_600_000;
const KEEP: Keep = Keep { message_days: 3, event_days: 3 };
const KEPT_MS: u64 = 3 * 24 * HOUR_MS;
/// From one pass over the event logs to the next, and for the moment that tells their age.
const EVENTS_LATE_MS: u64 = 8 * HOUR_MS;

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
struct Finished(Arc<(Mutex<Results>, Condvar)>);

#[derive(Default)]
struct Results {
    completions: Vec<Completion<usize>>,
    /// What sessions that are online would be pushed, each with how many crashes came before.
    pushes: Vec<(usize, Notice)>,
    /// What each crash left as the newest version; unknown while it is under way.
    crashes: Vec<Option<Version>>,
}

impl Results {
    fn push(&mut self, notices: impl IntoIterator<Item = Notice>) {
        let crashes = self.crashes.len();
        self.pushes.extend(notices.into_iter().map(|notice| (crashes, notice)));
    }
}

impl Outbox for Finished {
    type Origin = usize;

    fn complete(&self, batch: Vec<Completion<usize>>, _: Option<Committed>) {
        let (results, changed) = &*self.0;
        let mut results = results.lock().unwrap();
        for completion in &batch {
            let Ok(outcome) = &completion.outcome else { continue };
            assert_eq!(outcome.notices.is_empty(), outcome.is_duplicate());
            results.push(outcome.notices.iter().cloned());
        }
        results.completions.extend(batch);
        changed.notify_all();
    }

    fn late(&self, acts: Vec<Late>) {
        self.0.0.lock().unwrap().push(acts.into_iter().flat_map(|late| late.notices));
    }
}

impl Finished {
    /// All so far, once so many sends have been answered.
    fn wait_for(&self, count: usize) -> MutexGuard<'_, Results> {
        let (results, changed) = &*self.0;
        let waiting =
            changed.wait_timeout_while(results.lock().unwrap(), PATIENCE, |results| results.completions.len() < count);
        let (results, timeout) = waiting.unwrap();
        assert!(!timeout.timed_out(), "{} of {count} sends were answered", results.completions.len());
        results
    }

    fn crash(&self, memory: &Memory) {
        // Counted before: what is answered from now on may be answered after it.
        self.0.0.lock().unwrap().crashes.push(None);
        memory.crash();
        let left = memory.durable();
        *self.0.0.lock().unwrap().crashes.last_mut().unwrap() = Some(left);
    }
}

/// A clock that goes only when told to.
struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn unix_ms(&self) -> UnixMillis {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic_us(&self) -> u64 {
        0
    }
}

struct History {
    rng: SeededRng,
    memory: Memory,
    store: Store,
    clock: Arc<HandClock>,
    retention: Retention,
    /// Removals under way: they may have to wait until what they do is durable.
    removing: Vec<JoinHandle<()>>,
    queue: SendQueue<Finished>,
    finished: Finished,
    users: Vec<UserId>,
    submitted: Vec<NewMessage>,
}

impl History {
    fn run(seed: u64) {
        let mut history = History::new(seed);
        history.memory.set_faults(Faults { conflict: 100, maybe_committed: 60, maybe_lost: 60, unavailable: 30 });
        history.memory.delay_syncs(200);
        for _ in 0..STEPS {
            history.step();
        }
        history.memory.set_faults(Faults::default());
        history.settle();
        // A last one settles what the faults have left in doubt.
        history.send_new();
        history.settle();
        let results = std::mem::take(&mut *history.finished.wait_for(history.submitted.len()));
        history.remove_all_expired();
        // What has just expired may be gone, what has not must not.
        history.check(&results);
        // One pass over the event logs may be under way since a while ago: then another. And a day for what a send has
        // written that began days before by this clock: the hour of that is looked at again within one.
        for _ in 0..3 {
            history.clock.0.fetch_add(EVENTS_LATE_MS, Ordering::Relaxed);
            history.remove_all_expired();
        }
        history.check(&results);
        history.check_nothing_overdue();
        history.store.shutdown();
    }

    fn new(seed: u64) -> Self {
        let memory = Memory::new(seed, Faults::default());
        let hand = Arc::new(HandClock(AtomicU64::new(20_000 * 24 * HOUR_MS + seed % HOUR_MS)));
        let clock: Arc<dyn Clock> = hand.clone();
        // Some give up early, with outcomes unknown.
        let retry_attempts_max = [20, 20, 1, 0][seed as usize % 4];
        let options =
            StoreOptions { retry_backoff_us_max: 0, retry_attempts_max, read_threads: 1, ..StoreOptions::default() };
        let store = Store::new(Arc::new(memory.clone()), clock.clone(), Arc::new(SeededRng::new(seed)), options);
        for app in [APP, OTHER_APP] {
            block_on(applications::put_application(&store, &clock, NewApplication::new(app, SECRET))).unwrap();
        }
        let users: Vec<UserId> = USERS.iter().map(|name| UserId::new(name).unwrap()).collect();
        for user in &users {
            let usersig = usersig::sign(APP, SECRET, user.as_str(), clock.unix_ms() / 1000, 3600);
            block_on(account::login(&store, &clock, false, APP, user, usersig)).unwrap();
        }
        let finished = Finished::default();
        let limits = SendLimits { batch_max: 8, ..SendLimits::default() };
        let queue = SendQueue::new(store.clone(), clock.clone(), limits, finished.clone());
        let retention = Retention::new(store.clone(), clock, &SeededRng::new(seed), KEEP);
        History {
            rng: SeededRng::new(!seed),
            memory,
            store,
            clock: hand,
            retention,
            removing: Vec::new(),
            queue,
            finished,
            users,
            submitted: Vec::new(),
        }
    }

    fn step(&mut self) {
        match self.below(100) {
            0..50 => self.send_new(),
            50..70 => self.send_again(None),
            70..74 => self.pass_time(),
            74..80 => self.remove_expired(),
            80..84 => {
                let to = self.user();
                self.send_again(Some(to));
            }
            84..90 => self.memory.hold_syncs(),
            90..97 => self.memory.sync(),
            _ => self.finished.crash(&self.memory),
        }
    }

    fn send_new(&mut self) {
        let number = self.submitted.len();
        let text = Text { text: format!("message {number}") };
        let body = Body { elements: vec![Element { kind: Some(Kind::Text(text)) }], ..Body::default() };
        let id = Bytes::from(format!("{number:08}"));
        let message = NewMessage::new(APP, self.user(), self.user(), id, body.encode_to_vec().into());
        self.submit(message);
    }

    fn send_again(&mut self, other_recipient: Option<UserId>) {
        if self.submitted.is_empty() {
            return;
        }
        let earlier = self.submitted[self.below(self.submitted.len() as u64) as usize].clone();
        let to = other_recipient.map_or_else(|| earlier.to.clone(), Into::into);
        self.submit(NewMessage { to, ..earlier });
    }

    fn pass_time(&self) {
        self.clock.0.fetch_add(self.below(40) * HOUR_MS / 2, Ordering::Relaxed);
    }

    fn remove_expired(&mut self) {
        let retention = self.retention.clone();
        self.removing.push(std::thread::spawn(move || drop(block_on(retention.round())))); // may fail
    }

    fn submit(&mut self, message: NewMessage) {
        self.queue.submit(self.submitted.len(), Act::Send(message.clone())).unwrap();
        self.submitted.push(message);
    }

    /// Waits until every send has been answered, and no removal is under way.
    fn settle(&mut self) {
        let removing = std::mem::take(&mut self.removing);
        self.while_syncing(|| {
            drop(self.finished.wait_for(self.submitted.len()));
            removing.into_iter().for_each(|removing| removing.join().unwrap());
        });
    }

    fn remove_all_expired(&self) {
        self.while_syncing(|| while block_on(self.retention.round()).unwrap().more {});
    }

    /// Makes durable whatever `act` waits for.
    fn while_syncing<T>(&self, act: impl FnOnce() -> T) -> T {
        let done = AtomicBool::new(false);
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    self.memory.sync();
                    std::thread::yield_now();
                }
            });
            // Whatever happens, the other thread must end.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            done.store(true, Ordering::Relaxed);
            result
        });
        self.memory.sync();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn check(&self, results: &Results) {
        let completions = &results.completions;
        let origins: HashSet<usize> = completions.iter().map(|completion| completion.origin).collect();
        assert_eq!(origins.len(), self.submitted.len(), "every send is answered once");
        let stored = self.read_conversations();
        self.check_answers(completions, &stored);
        for user in &self.users {
            self.check_event_log(user, &stored, results);
        }
        self.check_isolation();
    }

    /// Before, all has expired; from then on, nothing.
    fn expired_ms(&self) -> u64 {
        self.clock.unix_ms() - KEPT_MS
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
                let (floor, head) = self.bounds(one, other);
                assert_eq!(seqs, (floor..=head).collect::<Vec<_>>(), "no gap, no repeat");
                conversations.insert((one.clone(), other.clone()), forward);
            }
        }
        let ids = conversations.values().flatten().map(|message| (&message.from, &message.client_message_id));
        let count = conversations.values().map(Vec::len).sum::<usize>();
        assert_eq!(ids.collect::<HashSet<_>>().len(), count, "a message is stored once");
        conversations
    }

    /// First and last sequence of what is kept.
    fn bounds(&self, one: &UserId, other: &UserId) -> (u64, u64) {
        let limit = PageLimit { entries_max: 1, bytes_max: 1 };
        let query = HistoryQuery { start: Start::End, forward: true, limit };
        let page = block_on(history::page(&self.store, APP, one, &other.clone().into(), query)).unwrap();
        (page.first_seq, page.head_seq)
    }

    fn read_history(&self, user: &UserId, peer: &UserId, forward: bool) -> Vec<Message> {
        let mut messages: Vec<Message> = Vec::new();
        let mut start = Start::End;
        loop {
            let limit = PageLimit { entries_max: 1 + self.below(7) as usize, bytes_max: self.below(300) as usize };
            let query = HistoryQuery { start, forward, limit };
            let page = block_on(history::page(&self.store, APP, user, &peer.clone().into(), query)).unwrap();
            assert!(!page.messages.is_empty() || messages.is_empty(), "the page before said that there is more");
            messages.extend(page.messages);
            if !page.more {
                return messages;
            }
            start = Start::Seq(page.next_seq);
        }
    }

    fn check_answers(&self, completions: &[Completion<usize>], stored: &BTreeMap<(UserId, UserId), Vec<Message>>) {
        for Completion { act, outcome, .. } in completions {
            let Act::Send(message) = act else { panic!("only sends were asked for") };
            match outcome {
                Ok(Outcome { answer: Answer::Sent { seq, time_ms, .. }, .. }) => {
                    let found = stored[&pair(message)].iter().find(|found| found.seq == *seq);
                    let Some(found) = found else {
                        assert!(*time_ms < self.expired_ms(), "removed before its time");
                        continue;
                    };
                    assert_eq!(found.client_message_id, message.client_message_id, "the acknowledged sequence");
                    assert_eq!(
                        (found.from.as_str(), found.to.as_str()),
                        (message.from.as_str(), &*message.to.to_string())
                    );
                    assert_eq!((&found.body, found.time_ms), (&message.body, *time_ms));
                }
                Ok(outcome) => panic!("no answer to a send: {outcome:?}"),
                Err(Error::ClientMessageIdReused) => {
                    let elsewhere = stored.values().flatten().any(|other| {
                        other.client_message_id == message.client_message_id && other.to != message.to.to_string()
                    });
                    // It may have expired since.
                    let sent_elsewhere = self
                        .submitted
                        .iter()
                        .any(|other| other.client_message_id == message.client_message_id && other.to != message.to);
                    assert!(elsewhere || sent_elsewhere, "refused, though the id is nowhere else");
                }
                Err(Error::Store(_)) => {} // may or may not be there: at most once, as checked above
                Err(error) => panic!("unexpected: {error}"),
            }
        }
    }

    /// The log has exactly the user's messages that have not expired, each conversation in order, and each
    /// was pushed, once, as it stands there: whatever became of the commit, and whatever its sender was told.
    /// What was stored before a crash and pushed after it may come too late: no session outlives a crash, and
    /// those that come after it have read the log.
    fn check_event_log(&self, user: &UserId, stored: &BTreeMap<(UserId, UserId), Vec<Message>>, results: &Results) {
        let mut positions = HashMap::new();
        let mut next_seq: HashMap<String, u64> = HashMap::new();
        let start = before_kept(&self.store, user);
        let mut cursor = start;
        loop {
            let limit = PageLimit { entries_max: 1 + self.below(9) as usize, bytes_max: self.below(400) as usize };
            let page = self.events(APP, user, cursor, limit);
            assert!(page.cursor > cursor || cursor == start, "the page before said that there is more");
            for event in page.events {
                assert!(event.position > cursor, "in log order");
                cursor = event.position;
                let What::Message(message) = event.what else { panic!("not a message") };
                let peer = if message.from == user.as_str() { &message.to } else { &message.from };
                let expected = next_seq.entry(peer.clone()).or_insert(message.seq);
                assert_eq!(message.seq, *expected, "conversation of {user} with {peer} in order");
                *expected += 1;
                positions.insert((message.from, message.to, message.seq), event.position);
            }
            // An entry whose message has expired is passed over.
            assert!(page.cursor >= cursor);
            cursor = page.cursor;
            if !page.more {
                break;
            }
        }
        let own = stored.iter().filter(|((one, other), _)| one == user || other == user);
        for message in own.flat_map(|(_, messages)| messages) {
            let is_logged = positions.contains_key(&(message.from.clone(), message.to.clone(), message.seq));
            assert!(is_logged || message.time_ms < self.expired_ms(), "not in the log of {user}: {message:?}");
        }
        // As a session does: what is not behind its cursor has been pushed before.
        let mut cursor = Versionstamp::ZERO;
        let mut after_a_crash = HashSet::new();
        for (crashes, notice) in results.pushes.iter().filter(|(_, notice)| notice.to.user() == Some(user)) {
            let News::Event(position, event) = &notice.what else { panic!("not an event: {notice:?}") };
            let crashes_until_stored = results.crashes.iter().filter(|left| **left < version(*position)).count();
            if *crashes > crashes_until_stored {
                after_a_crash.insert(*position);
            }
            if *position > cursor {
                cursor = *position;
                let event = Event::decode(event.to_stored()).unwrap();
                let Some(What::Message(text)) = event.what else { panic!("not a message") };
                let stored = stored[&pair_of(&text)].iter().find(|stored| stored.seq == text.seq);
                let logged = positions.remove(&(text.from.clone(), text.to.clone(), text.seq));
                assert!(logged == Some(*position) || logged.is_none() && text.time_ms < self.expired_ms());
                assert!(stored.is_none_or(|stored| *stored == text), "{text:?} was pushed, {stored:?} is stored");
            }
        }
        positions.retain(|_, position| !after_a_crash.contains(position));
        assert!(positions.is_empty(), "never pushed to {user}: {positions:?}");
    }

    fn check_nothing_overdue(&self) {
        // An hour is removed as a whole.
        let expired_hour = self.expired_ms() / HOUR_MS;
        for message in self.read_conversations().values().flatten() {
            assert!(message.time_ms / HOUR_MS >= expired_hour, "{message:?} is kept at {}", self.expired_ms());
        }
        for user in &self.users {
            let limit = PageLimit { entries_max: 1, bytes_max: 1 };
            let page = self.events(APP, user, before_kept(&self.store, user), limit);
            let oldest_ms = page.events.first().map_or(u64::MAX, |event| match &event.what {
                What::Message(message) => message.time_ms,
                what => panic!("not a message: {what:?}"),
            });
            assert!(oldest_ms >= self.expired_ms() - EVENTS_LATE_MS, "log of {user}: {:?} is kept", page.events);
        }
    }

    /// The same names in another application have nothing.
    fn check_isolation(&self) {
        let limit = PageLimit { entries_max: 10, bytes_max: 1000 };
        for user in &self.users {
            let page = self.events(OTHER_APP, user, Versionstamp::ZERO, limit);
            assert!(page.events.is_empty() && !page.more);
            let query = HistoryQuery { start: Start::End, forward: true, limit };
            let page =
                block_on(history::page(&self.store, OTHER_APP, user, &self.users[0].clone().into(), query)).unwrap();
            assert_eq!((page.messages.len(), page.head_seq), (0, 0));
        }
    }

    fn events(&self, app: AppId, user: &UserId, cursor: Versionstamp, limit: PageLimit) -> SyncPage {
        block_on(sync::events(&self.store, app, user, From::Cursor(cursor, Bytes::new()), limit)).unwrap()
    }

    fn user(&self) -> UserId {
        self.users[self.below(self.users.len() as u64) as usize].clone()
    }

    fn below(&self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }
}

fn version(position: Versionstamp) -> Option<Version> {
    position.0.first_chunk().map(|version| Version::from_be_bytes(*version))
}

fn pair(message: &NewMessage) -> (UserId, UserId) {
    let (one, other) = (message.from.clone(), message.to.user().unwrap().clone());
    if one <= other { (one, other) } else { (other, one) }
}

fn pair_of(message: &Message) -> (UserId, UserId) {
    let [one, other] = [&message.from, &message.to].map(|name| UserId::new(name).unwrap());
    if one <= other { (one, other) } else { (other, one) }
}

/// A cursor just before everything that is kept of a user's log; the very beginning if nothing is.
fn before_kept(store: &Store, user: &UserId) -> Versionstamp {
    let (begin, end) = keys::events_after(APP, user, Versionstamp::ZERO);
    let query = RangeQuery { begin, end, limit: 1, reverse: false, mode: ReadMode::Snapshot };
    let pairs = block_on(store.begin().unwrap().range(query)).unwrap().pairs;
    let Some((key, _)) = pairs.first() else { return Versionstamp::ZERO };
    let mut position = keys::event_position(key).unwrap();
    // One less, as the number that it is.
    for byte in position.0.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != u8::MAX {
            break;
        }
    }
    position
}
