//! Goal: the devices of a user converge, whatever they do and whatever the store does; and what is counted and
//! listed is what the messages say; friendships of two are never half there (MSG-04, MSG-06, MSG-07, MSG-09, MSG-12,
//! MSG-16, MSG-17, PROF-05, REL-02 to REL-15).
//!
//! Mechanics: seeded histories on the memory engine. Devices follow their users' logs as clients of the gateway
//! do, with pages of random sizes, live pushes, losses, reconnects and starts from nothing; each keeps a model
//! of everything ([`model`]). Meanwhile they send and change at random, in batches, while commits conflict, get
//! lost, end with unknown outcome, wait for durability or die in a crash, and the clock jumps. In the end every
//! device is compared with what the server's reads say, and those with the raw store.
//!
//! `CHANGES_SEED=n` replays one history, `CHANGES_HISTORIES=n` runs that many.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod model;

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use backend::{
    domain::{
        AppId, Error, UserId, account,
        act::{Act, Answer, Notice, Outcome},
        applications::{self, NewApplication},
        change::{
            Change, Kind,
            friends::{FriendUpdate, FriendsChange, ListsUpdate, NewFriend},
            profile::ProfileChange,
        },
        inspect,
        keys::Direction,
        message::{NewMessage, Treatment},
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        sync::{self, From, PageLimit},
        unfinished,
        unsettled::Late,
        usersig,
    },
    env::{Clock, Rng, SeededRng, SystemClock},
    store::{Committed, Faults, Lane, Memory, Store, StoreError, StoreOptions, Tx},
};
use bytes::Bytes;
use futures::executor::block_on;
use model::{Delivery, Device, check::Server};
use prost::Message as _;
use protocol::message::{
    Body, Element, ExtensionChange, FriendAnswer, Priority, Profile, Text, UpdateConversation,
    element::Kind as ElementKind,
};

const APP: AppId = 7;
const SECRET: &str = "a secret for tests only";
const USERS: [&str; 4] = ["anna", "ben", "cleo", "dan"];
/// Who is logged in: each user of the first two has two devices, the third has one, the last none.
const DEVICES: [usize; 5] = [0, 0, 1, 1, 2];
const STEPS: u64 = 150;
const HISTORIES_DEFAULT: u64 = 150;
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn devices_converge_in_seeded_histories() {
    let from_environment = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(seed) = from_environment("CHANGES_SEED") {
        return History::run(seed);
    }
    for seed in 0..from_environment("CHANGES_HISTORIES").unwrap_or(HISTORIES_DEFAULT) {
        let replay = Replay(seed);
        History::run(seed);
        std::mem::forget(replay);
    }
}

/// Says how to replay, if the history panics.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        eprintln!("replay with: CHANGES_SEED={} cargo test -p backend --test domain_changes", self.0);
    }
}

/// A clock whose wall time the test moves, back as well.
struct JumpingClock(AtomicU64, SystemClock);

impl Clock for JumpingClock {
    fn unix_ms(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    fn monotonic_us(&self) -> u64 {
        self.1.monotonic_us()
    }
}

/// A device's connection: its number, and how many the device had before.
type Origin = (usize, u32);

/// Passes on what the queue finished, as the gateway's router does.
#[derive(Clone, Default)]
struct Router(Arc<(Mutex<Routed>, Condvar)>);

#[derive(Default)]
struct Routed {
    answered: usize,
    completions: Vec<Completion<Origin>>,
    deliveries: Vec<(To, Delivery)>,
}

enum To {
    Connection(Origin),
    /// All of the user's, the one in particular that asked.
    User(UserId, Option<Origin>),
}

impl Outbox for Router {
    type Origin = Origin;

    fn complete(&self, batch: Vec<Completion<Origin>>, _: Option<Committed>) {
        let (routed, changed) = &*self.0;
        let mut routed = routed.lock().unwrap();
        let mut news = Vec::new();
        for Completion { origin, act, outcome } in &batch {
            let answer = outcome.as_ref().map(|outcome| outcome.answer.clone()).map_err(Clone::clone);
            if answer.as_ref().map_or(true, Answer::is_last) {
                routed.answered += 1;
                routed.deliveries.push((To::Connection(*origin), Delivery::Answer(act.clone(), answer)));
            }
            let Ok(outcome) = outcome else { continue };
            let knows = outcome.is_whole().then_some(*origin);
            let each = outcome.notices.iter().cloned();
            news.extend(each.map(|notice| (To::User(of_user(&notice), knows), Delivery::News(notice.what, false))));
        }
        routed.deliveries.extend(news);
        routed.completions.extend(batch);
        changed.notify_all();
    }

    fn late(&self, acts: Vec<Late>) {
        let notices = acts.into_iter().flat_map(|late| late.notices);
        let news = notices.map(|notice| (To::User(of_user(&notice), None), Delivery::News(notice.what, false)));
        self.0.0.lock().unwrap().deliveries.extend(news);
    }
}

fn of_user(notice: &Notice) -> UserId {
    notice.to.user().expect("there are no groups here").clone()
}

struct History {
    rng: SeededRng,
    memory: Memory,
    clock: Arc<JumpingClock>,
    store: Store,
    queue: SendQueue<Router>,
    router: Router,
    users: Vec<UserId>,
    devices: Vec<Device>,
    sent: Vec<NewMessage>,
    submitted: usize,
}

impl History {
    fn run(seed: u64) {
        let mut history = History::new(seed);
        history.memory.set_faults(Faults { conflict: 80, maybe_committed: 60, maybe_lost: 60, unavailable: 30 });
        for _ in 0..STEPS {
            history.step();
        }
        history.settle();
        history.memory.set_faults(Faults::default());
        // A last one settles what the faults have left in doubt.
        let last = history.message(0);
        history.submit(0, Act::Send(last));
        history.settle();
        // What gave up between two transactions is gone on with, as at the start of a gateway.
        for act in history.waiting_for_durability(|| block_on(unfinished::acts(&history.store)).unwrap()) {
            history.submit(0, act);
        }
        history.settle();
        history.check();
        history.store.shutdown();
    }

    fn new(seed: u64) -> Self {
        let memory = Memory::new(seed, Faults::default());
        let clock = Arc::new(JumpingClock(AtomicU64::new(1_700_000_000_000), SystemClock::default()));
        // Some give up early, with outcomes unknown.
        let retry_attempts_max = [20, 20, 1, 0][seed as usize % 4];
        let options =
            StoreOptions { retry_backoff_us_max: 0, retry_attempts_max, read_threads: 1, ..StoreOptions::default() };
        let env: Arc<dyn Clock> = clock.clone();
        let store = Store::new(Arc::new(memory.clone()), env.clone(), Arc::new(SeededRng::new(seed)), options);
        block_on(applications::put_application(&store, &env, NewApplication::new(APP, SECRET))).unwrap();
        let users: Vec<UserId> = USERS.iter().map(|name| UserId::new(name).unwrap()).collect();
        for user in &users {
            let usersig = usersig::sign(APP, SECRET, user.as_str(), env.unix_ms() / 1000, 3600);
            block_on(account::login(&store, &env, false, APP, user, usersig)).unwrap();
        }
        let router = Router::default();
        let queue =
            SendQueue::new(store.clone(), env, SendLimits { batch_max: 8, ..SendLimits::default() }, router.clone());
        let devices = DEVICES.iter().map(|user| Device::new(users[*user].clone())).collect();
        let rng = SeededRng::new(!seed);
        History { rng, memory, clock, store, queue, router, users, devices, sent: Vec::new(), submitted: 0 }
    }

    fn below(&self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    fn one_in(&self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn step(&mut self) {
        let device = self.below(self.devices.len() as u64) as usize;
        match self.below(100) {
            0..35 => self.act(device),
            35..42 => self.act_together(),
            42..62 => self.sync(device),
            62..82 => self.receive(device),
            82..86 => self.devices[device].reconnect(),
            86..88 => self.start_over(device),
            88..92 => self.memory.hold_syncs(),
            92..96 => self.memory.sync(),
            96..98 => {
                let jump = self.below(4 * 3_600_000);
                match self.one_in(3) {
                    true => self.clock.0.fetch_sub(jump / 2, Ordering::Relaxed),
                    false => self.clock.0.fetch_add(jump, Ordering::Relaxed),
                };
            }
            _ => self.crash(),
        }
    }

    /// No session outlives a crash. What was stored before it and is pushed after it may come too late for one that
    /// does: those that come after it read the log.
    fn crash(&mut self) {
        self.memory.crash();
        self.devices.iter_mut().for_each(Device::reconnect);
    }

    fn act(&mut self, device: usize) {
        let act = self.draw(device);
        self.submit(device, act);
    }

    /// Acts of all devices share transactions.
    fn act_together(&mut self) {
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let hold = async move |_: &Tx| -> Result<(), StoreError> {
            let _ = held.lock().unwrap().recv();
            Ok(())
        };
        let holding = self.store.run(Lane::Write, "hold", hold);
        for _ in 0..2 + self.below(10) {
            let device = self.below(self.devices.len() as u64) as usize;
            self.act(device);
        }
        drop(release);
        // The store may refuse it, too.
        let _ = self.waiting_for_durability(|| block_on(holding));
    }

    fn submit(&mut self, device: usize, act: Act) {
        let origin = (device, self.devices[device].epoch);
        if let Err(error) = self.queue.submit(origin, act.clone()) {
            panic!("{error} for {act:?}");
        }
        self.submitted += 1;
    }

    fn draw(&mut self, device: usize) -> Act {
        let user = self.devices[device].user.clone();
        let peer = self.peer();
        if self.below(100) < 40 {
            let again = !self.sent.is_empty() && self.one_in(8);
            let earlier = self.below(self.sent.len().max(1) as u64) as usize;
            let own = self.sent.get(earlier).filter(|sent| again && sent.from == user).cloned();
            return Act::Send(own.unwrap_or_else(|| self.message(device)));
        }
        let kind = if self.one_in(3) { self.draw_people(device, peer) } else { self.draw_kind(device, peer) };
        Act::Change(Box::new(Change::new(APP, user, kind)))
    }

    fn draw_kind(&self, device: usize, peer: UserId) -> Kind {
        let kept = self.devices[device].local.conversations.get(peer.as_str());
        let head = kept.and_then(|kept| kept.messages.keys().next_back().copied()).unwrap_or(0);
        let any = || 1 + self.below(head + 2);
        let some = || (0..1 + self.below(3)).map(|_| any()).collect::<Vec<u64>>();
        match self.below(16) {
            0 => Kind::Recall { peer: peer.into(), seq: any(), reason: "oh".into() },
            1 | 2 => {
                Kind::Edit { peer: peer.clone().into(), seq: any(), body: self.body("edited", &peer), facts: None }
            }
            3 => Kind::Delete { peer: peer.into(), seqs: some() },
            4 => Kind::Receipts { peer: peer.into(), seqs: vec![any()] },
            5..8 => {
                let seq = any();
                let names = ["like", "smile", "vote"];
                let first = self.below(3) as usize;
                let change = |name: &&str| {
                    let present = kept.and_then(|kept| kept.extensions.get(&(seq, (*name).to_owned())));
                    let right = present.map_or(0, |present| present.version);
                    let version = if self.one_in(6) { self.below(4) } else { right };
                    let value = Bytes::from(self.below(9).to_string());
                    ExtensionChange { key: (*name).to_owned(), value, remove: self.one_in(3), version }
                };
                Kind::Extensions { peer: peer.into(), seq, changes: names[first..].iter().map(change).collect() }
            }
            8 | 9 => Kind::Pin { peer: peer.into(), seq: any(), unpin: self.one_in(2) },
            10..14 => Kind::Conversation { peer: peer.into(), update: Box::new(self.update(head)) },
            14 => {
                let names = ["work", "home", "fun", ""];
                let [label, to] = [3, 4].map(|bound| names[self.below(bound) as usize].to_owned());
                Kind::RenameLabel { label, to }
            }
            _ => {
                let own = &self.devices[device].user;
                let named =
                    if peer == *own { self.users.iter().find(|user| *user != own).unwrap().clone() } else { peer };
                match self.one_in(4) {
                    true => Kind::Blacklist { add: vec![named], remove: vec![], each: false },
                    false => Kind::Blacklist { add: vec![], remove: vec![named], each: false },
                }
            }
        }
    }

    /// Something about friends, or the user's own profile.
    fn draw_people(&self, device: usize, peer: UserId) -> Kind {
        let name = |n: u64| ["close", "far", "work"][n as usize].to_owned();
        let list = || if self.one_in(3) { name(self.below(3)) } else { String::new() };
        let others = || vec![peer.clone(), self.peer()];
        let one_way = self.one_in(3);
        let direction = if self.one_in(2) { Direction::Incoming } else { Direction::Outgoing };
        let change = match self.below(20) {
            0..6 => {
                let new = || NewFriend { list: list(), wording: "hello".into(), ..NewFriend::default() };
                let friends = others().into_iter().map(|other| (other, new())).collect();
                FriendsChange::Add { friends, one_way, force: false }
            }
            6..10 => {
                let asked = self.devices[device].local.requests.keys().find(|(_, incoming)| *incoming);
                let other = asked.map_or(peer.clone(), |(other, _)| UserId::new(other).unwrap());
                let answers = [FriendAnswer::Refuse, FriendAnswer::Agree, FriendAnswer::AgreeAndAdd];
                let answer = answers[self.below(3) as usize];
                FriendsChange::Answer { other, answer, remark: "you".into(), list: list() }
            }
            10 | 11 => FriendsChange::Delete { friends: others(), one_way },
            12 => FriendsChange::DeleteAll { friends: vec![], one_way },
            13 => {
                let update = FriendUpdate {
                    remark: Some(self.below(9).to_string()),
                    lists: self.one_in(2).then(|| vec![name(self.below(3))]),
                    ..FriendUpdate::default()
                };
                FriendsChange::Update { friends: vec![(peer, update)] }
            }
            14 => FriendsChange::Lists(ListsUpdate { lists: vec![name(0)], add: others(), ..ListsUpdate::default() }),
            15 => match self.below(2) {
                0 => FriendsChange::Lists(ListsUpdate { lists: vec![name(1)], delete: true, ..ListsUpdate::default() }),
                _ => FriendsChange::Lists(ListsUpdate { lists: vec![name(0)], rename: name(2), ..Default::default() }),
            },
            16 => FriendsChange::Read { read_ms: 1_700_000_000_000 + self.below(1_000) },
            17 => FriendsChange::Drop { others: others(), direction },
            _ => {
                let set = Profile {
                    nick: self.one_in(2).then(|| self.below(100).to_string()),
                    level: self.one_in(2).then(|| self.below(100) as u32),
                    allow_type: self.one_in(2).then(|| self.below(3) as i32),
                    ..Profile::default()
                };
                return Kind::Profile(ProfileChange::Set(Box::new(set)));
            }
        };
        Kind::Friends(change)
    }

    fn update(&self, head: u64) -> UpdateConversation {
        let label = |n: u64| ["work", "home", "fun"][n as usize].to_owned();
        let labels = || if self.one_in(3) { vec![label(self.below(3))] } else { vec![] };
        UpdateConversation {
            conversation: None,
            pinned: self.one_in(4).then(|| self.one_in(2)),
            receive: self.one_in(6).then(|| [0, 0, 1, 2][self.below(4) as usize]),
            marked_unread: self.one_in(5).then(|| self.one_in(2)),
            custom_data: self.one_in(6).then(|| Bytes::from(self.below(100).to_string())),
            label: labels(),
            unlabel: labels(),
            read_seq: if self.one_in(2) { self.below(head + 2) } else { 0 },
            clear: self.one_in(12),
            remove: self.one_in(12),
            ..UpdateConversation::default()
        }
    }

    fn message(&mut self, device: usize) -> NewMessage {
        let (from, to) = (self.devices[device].user.clone(), self.peer());
        let id = Bytes::from(format!("{:08}", self.sent.len()));
        let body = self.body(&format!("message {}", self.sent.len()), &to);
        let treatment = Treatment {
            priority: Priority::Normal,
            online_only: self.one_in(12),
            exclude_from_unread: self.one_in(6),
            exclude_from_last_message: self.one_in(6),
            need_receipt: self.one_in(2),
            ..Treatment::default()
        };
        let message = NewMessage { treatment, ..NewMessage::new(APP, from, to, id, body) };
        self.sent.push(message.clone());
        message
    }

    fn body(&self, text: &str, to: &UserId) -> Bytes {
        let element = Element { kind: Some(ElementKind::Text(Text { text: text.to_owned() })) };
        let mentions = if self.one_in(4) { vec![to.to_string()] } else { vec![] };
        let body = Body { elements: vec![element], mentions, mention_all: self.one_in(10), ..Body::default() };
        body.encode_to_vec().into()
    }

    /// Anybody; the devices' users mostly.
    fn peer(&self) -> UserId {
        self.users[[0, 0, 0, 1, 1, 1, 2, 3][self.below(8) as usize]].clone()
    }

    /// Brings what the queue has finished to the connections.
    fn route(&mut self) {
        for (to, delivery) in std::mem::take(&mut self.router.0.0.lock().unwrap().deliveries) {
            match (to, delivery) {
                (To::Connection((device, epoch)), delivery) => {
                    let device = &mut self.devices[device];
                    if device.epoch == epoch {
                        device.inbox.push_back(delivery);
                    }
                }
                (To::User(user, origin), Delivery::News(news, _)) => {
                    for (device, at) in self.devices.iter_mut().zip(0..).filter(|(device, _)| device.user == user) {
                        let own = origin == Some((at, device.epoch));
                        device.inbox.push_back(Delivery::News(news.clone(), own));
                    }
                }
                (To::User(..), Delivery::Answer(..)) => unreachable!(),
            }
        }
    }

    fn receive(&mut self, device: usize) {
        self.route();
        for _ in 0..self.below(6) {
            let lost = self.one_in(20);
            self.devices[device].receive(lost);
        }
    }

    fn sync(&mut self, device: usize) {
        if self.one_in(2) {
            self.devices[device].finish_sync();
        }
        if self.devices[device].start_sync() {
            let limit = PageLimit { entries_max: 1 + self.below(30) as usize, bytes_max: self.below(3_000) as usize };
            self.read_log(device, limit);
        }
    }

    fn read_log(&mut self, device: usize, limit: PageLimit) {
        // What has been read is answered when it is durable.
        self.memory.sync();
        let Device { user, cursor, .. } = &self.devices[device];
        let page = sync::events(&self.store, APP, user, From::Cursor(*cursor, Bytes::new()), limit);
        let page = self.waiting_for_durability(|| block_on(page).unwrap());
        self.devices[device].page_read(page);
    }

    /// Forgets all, and reads list and histories behind a cursor at the log's end.
    fn start_over(&mut self, device: usize) {
        self.devices[device].reconnect();
        self.devices[device].start_sync();
        let user = self.devices[device].user.clone();
        let limit = PageLimit { entries_max: 1, bytes_max: 1 };
        let page =
            self.waiting_for_durability(|| block_on(sync::events(&self.store, APP, &user, From::End, limit)).unwrap());
        let local = self.waiting_for_durability(|| self.server().start_over(&user));
        self.route();
        self.devices[device].page_read(page);
        self.devices[device].finish_sync();
        self.devices[device].local = local;
    }

    fn server(&self) -> Server<'_> {
        Server { store: &self.store, app: APP, rng: &self.rng, users: &self.users }
    }

    /// Does something while a thread makes durable what waits for that.
    fn waiting_for_durability<T>(&self, wait: impl FnOnce() -> T) -> T {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    self.memory.sync();
                    std::thread::yield_now();
                }
            });
            let stop = Stop(&done);
            let result = wait();
            drop(stop);
            result
        })
    }

    /// Waits until every act has been answered.
    fn settle(&mut self) {
        let submitted = self.submitted;
        let router = self.router.clone();
        self.waiting_for_durability(|| {
            let (routed, changed) = &*router.0;
            let waiting = |routed: &mut Routed| routed.answered < submitted;
            let (routed, timeout) = changed.wait_timeout_while(routed.lock().unwrap(), PATIENCE, waiting).unwrap();
            assert!(!timeout.timed_out(), "{} of {submitted} acts were answered", routed.answered);
        });
        self.memory.sync();
        self.route();
    }

    /// Everybody comes to the end of the log, some after having been told by pushes alone.
    fn check(&mut self) {
        for device in 0..self.devices.len() {
            while !self.devices[device].is_live() {
                self.devices[device].finish_sync();
                self.devices[device].receive(false);
                if self.devices[device].start_sync() {
                    let limit = PageLimit { entries_max: 1 + self.below(50) as usize, bytes_max: 10_000 };
                    self.read_log(device, limit);
                }
            }
        }
        self.check_answers();
        let server = self.server();
        for user in &self.users {
            let truth = server.start_over(user);
            for device in self.devices.iter().filter(|device| device.user == *user) {
                server.check_device(user, &device.local, &truth);
            }
            server.check_counts(user, &truth);
        }
        let mut problems = Vec::new();
        inspect::check(&self.store, &mut |problem| problems.push(problem.to_owned())).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
    }

    /// What was answered is so, and refusals have a reason that a user may be given.
    fn check_answers(&self) {
        let server = self.server();
        for Completion { act, outcome, .. } in &self.router.0.0.lock().unwrap().completions {
            match (act, outcome) {
                (Act::Send(new), Ok(Outcome { answer: Answer::Sent { seq, time_ms, .. }, .. })) if *seq > 0 => {
                    let stored = &server.raw(&new.from, new.to.user().unwrap())[*seq as usize - 1];
                    assert_eq!((&stored.client_message_id, stored.time_ms), (&new.client_message_id, *time_ms));
                }
                (
                    _,
                    Err(Error::Store(StoreError::MaybeCommitted | StoreError::Conflict | StoreError::Unavailable(_))),
                ) => {}
                (_, Err(Error::Store(error))) => panic!("{error} for {act:?}"),
                _ => {}
            }
        }
    }
}

/// Says that it is over, however it ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
