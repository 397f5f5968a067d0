//! Goal: acts that share a transaction come to what they come to one by one, on an engine where reads are started
//! ahead, too: no act may miss what an earlier one of its batch has written, or leave half of itself behind.
//!
//! Mechanics: the same random sends and changes, few users and sequences so that they meet, go through a queue in
//! full batches on the "remote" engine, and one by one on the memory engine. Answers, refusals, and everything
//! stored but the stamps of events must be the same.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod remote;

use std::sync::{Arc, Mutex, mpsc};

use backend::{
    domain::{
        AppId, Error, UserId, account,
        act::{Act, Answer},
        applications::{self, NewApplication},
        change::{
            Change, Kind,
            friends::{FriendsChange, ListsUpdate, NewFriend},
        },
        keys::Direction,
        message::NewMessage,
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        unsettled::Late,
        usersig,
    },
    env::{Clock, Rng, SeededRng, SystemClock},
    store::{Committed, Engine, Faults, Lane, Memory, RangeQuery, ReadMode, Store, StoreError, StoreOptions, Tx},
};
use bytes::Bytes;
use futures::executor::block_on;
use prost::Message as _;
use protocol::message::{
    Body, Element, ExtensionChange, FriendAnswer, Text, UpdateConversation, element::Kind as ElementKind,
};

const APP: AppId = 7;
const SECRET: &str = "a secret for tests only";
const ACTS: usize = 150;

/// The same time for everything.
struct Standstill(SystemClock);

impl Clock for Standstill {
    fn unix_ms(&self) -> u64 {
        1_700_000_000_000
    }

    fn monotonic_us(&self) -> u64 {
        self.0.monotonic_us()
    }
}

struct Answers(mpsc::Sender<(usize, Result<Answer, Error>)>);

impl Outbox for Answers {
    type Origin = usize;

    fn complete(&self, batch: Vec<Completion<usize>>, _: Option<Committed>) {
        for Completion { origin, outcome, .. } in batch {
            self.0.send((origin, outcome.map(|outcome| outcome.answer))).unwrap();
        }
    }

    fn late(&self, _: Vec<Late>) {}
}

fn users() -> Vec<UserId> {
    ["anna", "ben", "cleo"].iter().map(|name| UserId::new(name).unwrap()).collect()
}

fn run(engine: Arc<dyn Engine>, batch_max: usize, acts: &[Act]) -> (Vec<Result<Answer, Error>>, Store) {
    let clock: Arc<dyn Clock> = Arc::new(Standstill(SystemClock::default()));
    let store = Store::new(engine, clock.clone(), Arc::new(SeededRng::new(1)), StoreOptions::default());
    block_on(applications::put_application(&store, &clock, NewApplication::new(APP, SECRET))).unwrap();
    for user in users() {
        let usersig = usersig::sign(APP, SECRET, user.as_str(), clock.unix_ms() / 1000, 3600);
        block_on(account::login(&store, &clock, false, APP, &user, usersig)).unwrap();
    }
    let (sender, answers) = mpsc::channel();
    let limits = SendLimits { batch_max, ..SendLimits::default() };
    let queue = SendQueue::new(store.clone(), clock, limits, Answers(sender));
    // They gather while the write lane is held up.
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let hold = async move |_: &Tx| -> Result<(), StoreError> {
        let _ = held.lock().unwrap().recv();
        Ok(())
    };
    let holding = store.run(Lane::Write, "hold", hold);
    let refused: Vec<_> =
        acts.iter().enumerate().filter_map(|(at, act)| Some((at, queue.submit(at, act.clone()).err()?))).collect();
    drop(release);
    block_on(holding).unwrap();
    let mut all: Vec<_> = answers.iter().take(acts.len() - refused.len()).collect();
    all.extend(refused.into_iter().map(|(at, error)| (at, Err(error))));
    all.sort_by_key(|(at, _)| *at);
    (all.into_iter().map(|(_, answer)| answer).collect(), store)
}

/// Everything stored, event logs without their stamps.
fn stored(store: &Store) -> Vec<(Bytes, Bytes)> {
    let tx = store.begin().unwrap();
    let (begin, end) = (Bytes::from_static(&[0]), Bytes::from_static(&[0xff]));
    let query = RangeQuery { begin, end, limit: 1_000_000, reverse: false, mode: ReadMode::Snapshot };
    let pairs = block_on(tx.range(query)).unwrap().pairs;
    let logs: Vec<Bytes> = users().iter().map(|user| backend::domain::keys::event_prefix(APP, user).into()).collect();
    let without_stamp = |(key, value): (Bytes, Bytes)| {
        let log = logs.iter().find(|log| key.starts_with(log));
        (log.cloned().unwrap_or(key), value)
    };
    pairs.into_iter().map(without_stamp).collect()
}

fn draw(seed: u64) -> Vec<Act> {
    let rng = SeededRng::new(seed);
    let below = |bound: u64| rng.next_u64() % bound;
    let user = || users()[below(3) as usize].clone();
    (0..ACTS)
        .map(|_| if below(2) == 0 { send(&below, user(), user()) } else { change(&below, user(), user()) })
        .collect()
}

fn body(text: String, mention: Option<&UserId>) -> Bytes {
    let element = Element { kind: Some(ElementKind::Text(Text { text })) };
    let mentions = mention.into_iter().map(UserId::to_string).collect();
    Body { elements: vec![element], mentions, ..Body::default() }.encode_to_vec().into()
}

fn send(below: &impl Fn(u64) -> u64, from: UserId, to: UserId) -> Act {
    let id = Bytes::from(below(200).to_string());
    let body = body("text".into(), (below(3) == 0).then_some(&to));
    let mut message = NewMessage::new(APP, from, to, id, body);
    message.treatment.exclude_from_unread = below(5) == 0;
    message.treatment.exclude_from_last_message = below(5) == 0;
    message.treatment.need_receipt = below(2) == 0;
    Act::Send(message)
}

fn change(below: &impl Fn(u64) -> u64, user: UserId, peer: UserId) -> Act {
    let seq = 1 + below(8);
    let label = || ["work", "home"][below(2) as usize].to_owned();
    let kind = match below(20) {
        0 => Kind::Recall { peer: peer.into(), seq, reason: "oh".into() },
        1 => Kind::Edit {
            body: body("edited".into(), (below(2) == 0).then_some(&peer)),
            peer: peer.into(),
            seq,
            facts: None,
        },
        2 => Kind::Delete { peer: peer.into(), seqs: vec![seq, seq + below(3)] },
        3 => Kind::Receipts { peer: peer.into(), seqs: vec![seq] },
        4 | 5 => {
            let change = |key: &str| {
                let value = Bytes::from_static(b"1");
                ExtensionChange { key: key.into(), value, remove: below(3) == 0, version: below(3) }
            };
            Kind::Extensions { peer: peer.into(), seq, changes: vec![change("like"), change("vote")] }
        }
        6 => Kind::Pin { peer: peer.into(), seq, unpin: below(2) == 0 },
        7..10 => {
            let update = UpdateConversation {
                receive: (below(2) == 0).then(|| below(3) as i32),
                pinned: Some(below(2) == 0),
                label: if below(2) == 0 { vec![label()] } else { vec![] },
                read_seq: below(9),
                clear: below(8) == 0,
                ..UpdateConversation::default()
            };
            Kind::Conversation { peer: peer.into(), update: Box::new(update) }
        }
        10 => Kind::RenameLabel { label: label(), to: label() },
        11..18 => Kind::Friends(friends_change(below, peer)),
        _ => match below(2) {
            0 => Kind::Blacklist { add: vec![peer], remove: vec![], each: false },
            _ => Kind::Blacklist { add: vec![], remove: vec![peer], each: false },
        },
    };
    Act::Change(Box::new(Change::new(APP, user, kind)))
}

fn friends_change(below: &impl Fn(u64) -> u64, peer: UserId) -> FriendsChange {
    let others = || vec![peer.clone(), users()[below(3) as usize].clone()];
    let one_way = below(2) == 0;
    match below(6) {
        0 | 1 => {
            let new = NewFriend { list: "work".into(), ..NewFriend::default() };
            let friends = others().into_iter().map(|other| (other, new.clone())).collect();
            FriendsChange::Add { friends, one_way, force: false }
        }
        2 => FriendsChange::Answer {
            other: peer,
            answer: FriendAnswer::AgreeAndAdd,
            remark: "x".into(),
            list: "y".into(),
        },
        3 => FriendsChange::Delete { friends: others(), one_way },
        4 => FriendsChange::Lists(ListsUpdate { lists: vec!["a".into()], add: others(), ..ListsUpdate::default() }),
        _ => FriendsChange::Drop { others: others(), direction: Direction::Outgoing },
    }
}

#[test]
fn a_batch_of_all_kinds_comes_to_what_one_by_one_comes_to() {
    for seed in 0..60 {
        let acts = draw(seed);
        let (one_by_one, local) = run(Arc::new(Memory::new(seed, Faults::default())), 1, &acts);
        let remote = remote::Remote::new(Memory::new(seed, Faults::default()));
        let (together, batched) = run(Arc::new(remote), 64, &acts);
        for ((act, one), other) in acts.iter().zip(one_by_one).zip(together) {
            assert_eq!(one, other, "seed {seed}: {act:?}");
        }
        let (one, other) = (stored(&local), stored(&batched));
        assert_eq!(one.len(), other.len(), "seed {seed}");
        for (one, other) in one.into_iter().zip(other) {
            assert_eq!(one, other, "seed {seed}");
        }
    }
}
