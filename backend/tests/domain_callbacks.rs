//! Goal: what an application's server is to be told is queued with the thing itself, once and in its order, only
//! where it is wanted; one process at a time delivers a lane, and another takes over when that one is gone
//! (CON-06).
//!
//! Mechanics: sends and changes on the memory engine, which conflicts for no reason and forgets to answer commits; two
//! owners that claim the lanes, under a clock that the test sets.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
    mpsc,
};

use backend::{
    domain::{
        AppId, UserId, account,
        act::Act,
        applications::{self, NewApplication},
        callbacks::{
            CallbackCommand, Callbacks, Caller, Happened, Pair, Pairs,
            queue::{self, CLAIM_MS, Entry, Page, Standing},
        },
        change::{
            Change, Kind,
            friends::{FriendsChange, NewFriend},
            profile::ProfileChange,
        },
        inspect,
        message::NewMessage,
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        settings::Settings,
        unsettled::Late,
        usersig,
    },
    env::{Clock, SeededRng},
    store::{Committed, Faults, Memory, Store, StoreOptions},
};
use futures::executor::block_on;
use prost::Message as _;
use protocol::message::{Body, Element, Message, Profile, Text, element};

const APP: AppId = 7;
const SECRET: &str = "a secret of sixteen and more";
const START_S: u64 = 1_800_000_000;

/// A clock that the test sets.
struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic_us(&self) -> u64 {
        0
    }
}

struct Answers(mpsc::Sender<Completion<()>>);

impl Outbox for Answers {
    type Origin = ();

    fn complete(&self, batch: Vec<Completion<()>>, _: Option<Committed>) {
        batch.into_iter().for_each(|completion| self.0.send(completion).unwrap());
    }

    fn late(&self, _: Vec<Late>) {}
}

struct Service {
    store: Store,
    hand: Arc<HandClock>,
    clock: Arc<dyn Clock>,
    queue: SendQueue<Answers>,
    answers: mpsc::Receiver<Completion<()>>,
}

impl Service {
    fn start(faults: Faults, commands: impl IntoIterator<Item = CallbackCommand>) -> Self {
        let hand = Arc::new(HandClock(AtomicU64::new(START_S * 1000)));
        let clock: Arc<dyn Clock> = hand.clone();
        let options = StoreOptions { retry_attempts_max: 1000, ..StoreOptions::default() };
        let engine = Arc::new(Memory::new(1, faults));
        let store = Store::new(engine, clock.clone(), Arc::new(SeededRng::new(1)), options);
        let callbacks =
            Callbacks { url: "http://here".into(), commands: commands.into_iter().collect(), ..Callbacks::default() };
        let settings = Settings { callbacks: Some(callbacks), ..Settings::default() };
        let new = NewApplication { settings, ..NewApplication::new(APP, SECRET) };
        block_on(applications::put_application(&store, &clock, new)).unwrap();
        for name in ["anna", "ben"] {
            let usersig = usersig::sign(APP, SECRET, name, START_S, 1_000_000);
            block_on(account::login(&store, &clock, false, APP, &user(name), usersig)).unwrap();
        }
        let (sender, answers) = mpsc::channel();
        let queue = SendQueue::new(store.clone(), clock.clone(), SendLimits::default(), Answers(sender));
        Service { store, hand, clock, queue, answers }
    }

    fn send(&self, id: &str, caller: Caller) {
        let kind = Some(element::Kind::Text(Text { text: id.into() }));
        let body = Body { elements: vec![Element { kind }], ..Body::default() }.encode_to_vec();
        let id = id.to_owned().into_bytes();
        let message = NewMessage::new(APP, user("anna"), user("ben"), id.into(), body.into());
        self.queue.submit_from((), Act::Send(message), caller).unwrap();
    }

    /// A change of anna's, through to its end.
    fn change(&self, kind: Kind) {
        self.queue.submit((), Act::Change(Box::new(Change::new(APP, user("anna"), kind)))).unwrap();
        self.wait(1);
    }

    fn wait(&self, sends: usize) {
        (0..sends).for_each(|_| assert!(self.answers.recv().unwrap().outcome.is_ok()));
    }

    /// The one lane that has entries.
    fn lane(&self) -> Option<u16> {
        let lanes = block_on(queue::look(&self.store, APP)).unwrap().lanes;
        assert!(lanes.len() <= 1, "all are about one conversation, or one user");
        lanes.first().copied()
    }

    /// How many entries there were, and are.
    fn counts(&self) -> (u64, u64) {
        let Standing { queued, left, .. } = block_on(queue::look(&self.store, APP)).unwrap();
        (queued, left)
    }

    /// What a process gets when it claims the lane; `None`: another has it.
    fn claim(&self, lane: u16, owner: u64) -> Option<Vec<Entry>> {
        match block_on(queue::claim(&self.store, &self.clock, APP, lane, owner)).unwrap() {
            Page::Entries(entries) => Some(entries),
            Page::Others => None,
        }
    }

    fn settle(&self, lane: u16, owner: u64, entries: Vec<Entry>) -> bool {
        block_on(queue::settle(&self.store, &self.clock, APP, lane, owner, entries)).unwrap()
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn seq(entry: &Entry) -> u64 {
    let Some(Happened::Sent(message)) = entry.record.clone().unwrap().what else { panic!("a message") };
    Message::decode(message).unwrap().seq
}

fn ids(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| &entry.id[..]).collect()
}

#[test]
fn every_message_is_queued_once_and_in_order_whatever_is_run_again() {
    let faults = Faults { conflict: 200, maybe_committed: 100, maybe_lost: 100, ..Faults::default() };
    let service = Service::start(faults, [CallbackCommand::AfterSend]);
    (0..200).for_each(|id| service.send(&format!("{id}"), Caller::default()));
    // The same once more: told before.
    (0..200).for_each(|id| service.send(&format!("{id}"), Caller::default()));
    service.wait(400);
    assert_eq!(service.counts(), (200, 200));
    let lane = service.lane().unwrap();
    let mut seqs = Vec::new();
    loop {
        let entries = service.claim(lane, 1).unwrap();
        if entries.is_empty() {
            break;
        }
        seqs.extend(entries.iter().map(seq));
        assert!(service.settle(lane, 1, entries));
    }
    assert_eq!(seqs, (1..=200).collect::<Vec<_>>());
    assert_eq!(service.counts(), (200, 0));
    let checked = inspect::check(&service.store, &mut |problem| panic!("{problem}")).unwrap();
    assert_eq!(checked.unknown, 0);
}

#[test]
fn what_becomes_of_people_is_queued_once_and_in_order_whatever_is_run_again() {
    use CallbackCommand::{AfterBlacklistAdd, AfterBlacklistDelete, AfterFriendAdd, AfterFriendDelete, AfterProfile};
    let commands = [AfterProfile, AfterFriendAdd, AfterFriendDelete, AfterBlacklistAdd, AfterBlacklistDelete];
    let faults = Faults { conflict: 200, maybe_committed: 100, maybe_lost: 100, ..Faults::default() };
    let service = Service::start(faults, commands);
    let ben = || vec![user("ben")];
    let add =
        || FriendsChange::Add { friends: vec![(user("ben"), NewFriend::default())], one_way: false, force: false };
    const ROUNDS: u32 = 30;
    for round in 1..=ROUNDS {
        let set = Profile { level: Some(round), ..Profile::default() };
        service.change(Kind::Profile(ProfileChange::Set(Box::new(set))));
        service.change(Kind::Friends(add()));
        service.change(Kind::Friends(FriendsChange::Delete { friends: ben(), one_way: false }));
        service.change(Kind::Friends(add()));
        // Ends the friendship, too.
        service.change(Kind::Blacklist { add: ben(), remove: vec![], each: false });
        service.change(Kind::Blacklist { add: vec![], remove: ben(), each: false });
    }
    let lane = service.lane().unwrap();
    let mut told = Vec::new();
    loop {
        let entries = service.claim(lane, 1).unwrap();
        if entries.is_empty() {
            break;
        }
        told.extend(entries.iter().map(|entry| entry.record.clone().unwrap().what.unwrap()));
        assert!(service.settle(lane, 1, entries));
    }
    let a_round = [
        AfterProfile,
        AfterFriendAdd,
        AfterFriendDelete,
        AfterFriendAdd,
        AfterBlacklistAdd,
        AfterFriendDelete,
        AfterBlacklistDelete,
    ];
    let expected: Vec<_> = (0..ROUNDS).flat_map(|_| a_round).collect();
    assert_eq!(told.iter().map(Happened::command).collect::<Vec<_>>(), expected);
    let pair = |from: &str, to: &str| Pair { from: from.into(), to: to.into() };
    let mut both = vec![pair("ben", "anna"), pair("anna", "ben")];
    for round in told.chunks(a_round.len()) {
        let Happened::Befriended(befriended) = &round[1] else { panic!("{round:?}") };
        assert_eq!(befriended.pairs, both);
        both.reverse();
        assert_eq!(round[2], Happened::Parted(Pairs { pairs: both.clone() }));
        both.reverse();
        assert_eq!(round[4], Happened::Blacklisted(Pairs { pairs: vec![pair("anna", "ben")] }));
    }
}

#[test]
fn nothing_is_queued_that_is_not_wanted() {
    let service = Service::start(Faults::default(), [CallbackCommand::AfterRead]);
    service.send("1", Caller::default());
    service.wait(1);
    assert_eq!(service.lane(), None);
    let service = Service::start(Faults::default(), [CallbackCommand::AfterSend]);
    service.send("1", Caller { is_told: false, ..Caller::default() });
    service.wait(1);
    assert_eq!(service.lane(), None);
}

#[test]
fn a_lane_has_one_owner_until_that_one_is_silent() {
    let service = Service::start(Faults::default(), [CallbackCommand::AfterSend]);
    (0..3).for_each(|id| service.send(&format!("{id}"), Caller::default()));
    service.wait(3);
    let lane = service.lane().unwrap();
    let first = service.claim(lane, 1).unwrap();
    assert!(service.claim(lane, 2).is_none());
    // It has delivered one, and goes on living.
    let later = |ms| _ = service.hand.0.fetch_add(ms, Ordering::Relaxed);
    later(CLAIM_MS * 3 / 4);
    assert!(service.settle(lane, 1, first[..1].to_vec()));
    later(CLAIM_MS * 3 / 4);
    assert!(service.claim(lane, 2).is_none(), "it was renewed");
    // Now it is gone, or as good as that.
    later(CLAIM_MS / 2);
    let taken_over = service.claim(lane, 2).unwrap();
    assert_eq!(ids(&taken_over), ids(&first[1..]), "once more, under the same ids");
    assert!(!service.settle(lane, 1, first[1..2].to_vec()), "it learns of it");
    assert!(service.claim(lane, 1).is_none());
    assert!(service.settle(lane, 2, taken_over));
    assert_eq!(service.counts(), (3, 0), "one was removed twice");
    assert!(service.claim(lane, 2).unwrap().is_empty());
}

#[test]
fn a_lane_that_was_claimed_by_a_clock_ahead_is_its_owners_unless_that_clock_is_wrong() {
    let service = Service::start(Faults::default(), [CallbackCommand::AfterSend]);
    service.send("1", Caller::default());
    service.wait(1);
    let lane = service.lane().unwrap();
    let now_ms = service.hand.0.load(Ordering::Relaxed);
    let at = |ms| service.hand.0.store(ms, Ordering::Relaxed);
    at(now_ms + CLAIM_MS / 2);
    assert!(service.claim(lane, 1).is_some());
    at(now_ms);
    assert!(service.claim(lane, 2).is_none(), "clocks of two nodes are never quite the same");
    at(now_ms - 2 * CLAIM_MS);
    assert!(service.claim(lane, 2).is_some(), "for so long nobody claims anything");
}

#[test]
fn what_is_queued_ends_a_watch() {
    let service = Service::start(Faults::default(), [CallbackCommand::AfterSend]);
    let watch = block_on(queue::watch(&service.store, APP)).unwrap();
    service.send("1", Caller::default());
    block_on(watch).unwrap();
    service.wait(1);
}
