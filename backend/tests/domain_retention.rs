//! Goal: what has expired is removed, in bounded portions and whoever does it; nothing else is (MSG-03).
//!
//! Mechanics: the domain on the memory engine with a clock that goes only when told to. What the store
//! holds is counted from outside, key by key. `domain_histories` does the same with faults.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
    mpsc,
};

use backend::{
    domain::{
        AppId, Error, GroupId, UserId, account,
        act::{Act, Answer, News, Outcome},
        applications::{self, NewApplication},
        change::{
            Change, Kind,
            group::{GroupChange, MemberUpdate, NewGroup},
        },
        conversations,
        history::{self, HistoryPage, HistoryQuery, Start},
        keys, merged,
        message::NewMessage,
        retention::{Keep, Retention, Round},
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        settings::Settings,
        sync::{self, From, PageLimit},
        unsettled::Late,
        usersig,
    },
    env::{Clock, SeededRng, UnixMillis},
    store::{Committed, Faults, Memory, RangeQuery, ReadMode, Store, StoreOptions, Versionstamp},
};
use bytes::Bytes;
use futures::executor::block_on;
use prost::Message as _;
use protocol::message::{
    Body, Element, GroupType, GroupUpdate, Merged, Text, element::Kind as ElementKind, event::What,
};

const APP: AppId = 7;
const OTHER_APP: AppId = 8;
const SECRET: &str = "a secret for tests only";
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const WEEK: Keep = Keep { message_days: 7, event_days: 7 };

struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn unix_ms(&self) -> UnixMillis {
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

    fn late(&self, acts: Vec<Late>) {
        panic!("no commit's outcome is unknown here: {acts:?}");
    }
}

struct World {
    clock: Arc<HandClock>,
    store: Store,
    queue: SendQueue<Answers>,
    answers: mpsc::Receiver<Completion<()>>,
}

impl World {
    fn new() -> Self {
        // Midnight, so that days are full hours.
        let clock = Arc::new(HandClock(AtomicU64::new(20_000 * DAY_MS)));
        let engine = Arc::new(Memory::new(1, Faults::default()));
        let store = Store::new(engine, clock.clone(), Arc::new(SeededRng::new(1)), StoreOptions::default());
        let (sender, answers) = mpsc::channel();
        let queue = SendQueue::new(store.clone(), clock.clone(), SendLimits::default(), Answers(sender));
        let dyn_clock: Arc<dyn Clock> = clock.clone();
        for app in [APP, OTHER_APP] {
            block_on(applications::put_application(&store, &dyn_clock, NewApplication::new(app, SECRET))).unwrap();
            for name in ["anna", "ben", "cleo"] {
                let usersig = usersig::sign(app, SECRET, name, clock.unix_ms() / 1000, 3600);
                block_on(account::login(&store, &dyn_clock, false, app, &user(name), usersig)).unwrap();
            }
        }
        World { clock, store, queue, answers }
    }

    fn pass(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
    }

    fn retention(&self, owner: u64, keep: Keep) -> Retention {
        Retention::new(self.store.clone(), self.clock.clone(), &SeededRng::new(owner), keep)
    }

    fn send(&self, app: AppId, from: &str, to: &str, id: &str) -> Outcome {
        self.act(Act::Send(new_message(app, from, to, id))).unwrap()
    }

    fn act(&self, act: Act) -> Result<Outcome, Error> {
        self.queue.submit((), act).unwrap();
        self.answers.recv().unwrap().outcome
    }

    /// `count` messages in one go.
    fn send_many(&self, from: &str, to: &str, count: usize) {
        for n in 0..count {
            let message = new_message(APP, from, to, &format!("{from}{to}{n}"));
            self.queue.submit((), Act::Send(message)).unwrap();
        }
        (0..count).for_each(|_| drop(self.answers.recv().unwrap().outcome.unwrap()));
    }

    fn history(&self, user_name: &str, peer: &str, query: HistoryQuery) -> HistoryPage {
        block_on(history::page(&self.store, APP, &user(user_name), &user(peer).into(), query)).unwrap()
    }

    /// Sender and sequence of each message behind the cursor; `None`: the device is to start over.
    fn events(&self, name: &str, cursor: Versionstamp) -> Option<Vec<(String, u64)>> {
        let from = From::Cursor(cursor, Bytes::new());
        let page = block_on(sync::events(&self.store, APP, &user(name), from, PAGE)).unwrap();
        let message = |what| match what {
            What::Message(message) => (message.from, message.seq),
            what => panic!("not a message: {what:?}"),
        };
        (!page.start_over).then(|| page.events.into_iter().map(|event| message(event.what)).collect())
    }

    /// The same of all that is kept.
    fn kept_events(&self, name: &str) -> Vec<(String, u64)> {
        let Some(cursor) = before_kept(&self.store, &user(name)) else { return Vec::new() };
        self.events(name, cursor).expect("nothing of it has expired")
    }

    /// How many keys an application has in the subspace.
    fn keys(&self, app: AppId, subspace: u32) -> usize {
        let pack = |subspace: u32| Bytes::from(foundationdb_tuple::pack(&(app, subspace)));
        let (begin, end) = (pack(subspace), pack(subspace + 1));
        let query = RangeQuery { begin, end, limit: usize::MAX, reverse: false, mode: ReadMode::Snapshot };
        block_on(self.store.begin().unwrap().range(query)).unwrap().pairs.len()
    }

    /// Messages, answers, entries of event logs, hours.
    fn counts(&self, app: AppId) -> [usize; 4] {
        [4, 5, 6, 21].map(|subspace| self.keys(app, subspace))
    }
}

const PAGE: PageLimit = PageLimit { entries_max: 1000, bytes_max: 1 << 20 };
const FORWARD: HistoryQuery = HistoryQuery { start: Start::End, forward: true, limit: PAGE };

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn new_message(app: AppId, from: &str, to: &str, id: &str) -> NewMessage {
    let body = body_of(text(id));
    let id = Bytes::copy_from_slice(format!("{id:0>8}").as_bytes());
    NewMessage::new(app, user(from), user(to), id, body.encode_to_vec().into())
}

fn text(text: &str) -> ElementKind {
    ElementKind::Text(Text { text: text.to_owned() })
}

fn body_of(kind: ElementKind) -> Body {
    Body { elements: vec![Element { kind: Some(kind) }], ..Body::default() }
}

fn content_id(number: u8) -> Bytes {
    Bytes::copy_from_slice(&[number; 16])
}

/// Rounds until there is no more to do; what they did in all.
fn settle(retention: &Retention) -> Round {
    let mut sum = Round::default();
    loop {
        let round = block_on(retention.round()).unwrap();
        sum.messages += round.messages;
        sum.contents += round.contents;
        sum.events += round.events;
        sum.deleted += round.deleted;
        sum.more = round.more;
        if !round.more {
            return sum;
        }
    }
}

#[test]
fn expired_messages_go_with_all_that_belongs_to_them() {
    let world = World::new();
    let retention = world.retention(1, WEEK);
    settle(&retention);
    world.send(APP, "anna", "ben", "old 1");
    world.send(APP, "ben", "anna", "old 2");
    world.send(OTHER_APP, "anna", "ben", "old 1");
    world.pass(HOUR_MS);
    settle(&retention); // notes the version that the store has now
    world.pass(DAY_MS - HOUR_MS);
    world.send(APP, "anna", "ben", "new");
    world.send(APP, "anna", "anna", "to herself");
    assert_eq!(world.counts(APP), [4, 4, 7, 3]);

    world.pass(6 * DAY_MS + HOUR_MS - 1);
    assert_eq!(settle(&retention).messages, 0, "the hour is not over");
    assert_eq!(world.counts(APP), [4, 4, 7, 3]);

    world.pass(1);
    assert_eq!(settle(&retention).messages, 3);
    world.pass(6 * HOUR_MS);
    let events = settle(&retention).events;
    assert_eq!(events, 6, "with the next pass");
    assert_eq!(world.counts(APP), [2, 2, 3, 2]);
    assert_eq!(world.counts(OTHER_APP), [0, 0, 0, 0]);

    let page = world.history("ben", "anna", FORWARD);
    assert_eq!((page.first_seq, page.head_seq, page.messages.len(), page.more), (3, 3, 1, false));
    let backward = HistoryQuery { start: Start::Seq(2), forward: false, limit: PAGE };
    let page = world.history("anna", "ben", backward);
    assert_eq!((page.messages.len(), page.more), (0, false));
    assert_eq!(world.kept_events("ben"), [("anna".to_owned(), 3)]);
}

/// Mechanics: a message every 20 minutes; from then on, whenever the clock has gone a little further,
/// exactly what is due is gone.
#[test]
fn hour_by_hour_nothing_goes_early_or_stays_for_long() {
    const STEP_MS: u64 = 20 * 60_000;
    let world = World::new();
    let retention = world.retention(1, WEEK);
    let start_ms = world.clock.unix_ms();
    for n in 0..30 {
        world.send(APP, "anna", "ben", &format!("{n}"));
        settle(&retention);
        world.pass(STEP_MS);
    }
    settle(&retention);
    world.pass(7 * DAY_MS - 30 * STEP_MS);
    for n in 0..66 {
        settle(&retention);
        let kept_from_ms = start_ms + n * STEP_MS;
        assert_eq!(world.clock.unix_ms() - 7 * DAY_MS, kept_from_ms);
        let due = |ms: u64| (ms / HOUR_MS * 3).min(30) + 1;
        let floor_seq = world.history("anna", "ben", FORWARD).first_seq;
        assert_eq!(floor_seq, due(kept_from_ms - start_ms), "after {n} steps");
        let events = world.kept_events("ben");
        let oldest = events.first().map_or(31, |(_, seq)| *seq);
        assert!(oldest >= floor_seq && oldest <= (n + 1).max(floor_seq), "{oldest} after {n} steps");
        world.pass(STEP_MS);
    }
    assert_eq!(world.counts(APP), [0, 0, 0, 0]);
}

#[test]
fn sequences_go_on_behind_what_was_removed() {
    let world = World::new();
    let retention = world.retention(1, WEEK);
    world.send_many("anna", "ben", 3);
    world.pass(8 * DAY_MS);
    assert_eq!(settle(&retention).messages, 3);
    let page = world.history("anna", "ben", FORWARD);
    assert_eq!((page.first_seq, page.head_seq, page.messages.len()), (4, 3, 0));
    assert_eq!(seq(&world.send(APP, "ben", "anna", "again")), 4);
    // A repeat after so long is a new message: that is how long repeats are known.
    let repeat = world.send(APP, "anna", "ben", "annaben0");
    assert_eq!((seq(&repeat), repeat.is_duplicate()), (5, false));
}

#[test]
fn within_the_time_a_repeat_is_known() {
    let world = World::new();
    let retention = world.retention(1, WEEK);
    world.send(APP, "anna", "ben", "once");
    world.pass(7 * DAY_MS);
    settle(&retention);
    assert!(world.send(APP, "anna", "ben", "once").is_duplicate());
}

/// Goal: a device that has seen all that was removed goes on; one that missed some of it is told so.
#[test]
fn a_cursor_behind_which_something_was_removed_has_expired() {
    let world = World::new();
    let retention = world.retention(1, WEEK);
    let position = |sent: Outcome| match sent.notices.last().unwrap().what {
        News::Event(position, _) => position,
        _ => panic!("not an event: {sent:?}"),
    };
    let first = position(world.send(APP, "anna", "ben", "first"));
    let second = position(world.send(APP, "anna", "ben", "second"));
    settle(&retention); // notes the version that the store has now
    world.pass(DAY_MS);
    world.send(APP, "anna", "ben", "third");
    world.pass(6 * DAY_MS + HOUR_MS);
    settle(&retention);

    assert_eq!(world.events("ben", first), None);
    assert_eq!(world.events("ben", Versionstamp::ZERO), None, "nor has a new device seen what was removed");
    let third = [("anna".to_owned(), 3)];
    assert_eq!(world.events("ben", second).unwrap(), third, "it had seen everything");
}

/// Goal: what users note about messages, and copies of messages, go as the messages do.
#[test]
fn what_was_deleted_and_who_was_mentioned_is_forgotten_with_the_messages() {
    let world = World::new();
    let retention = world.retention(1, WEEK);
    let ben = user("ben");
    let marks = || [32, 33].map(|subspace| world.keys(APP, subspace));
    let delete = |seqs: &[u64]| {
        let kind = Kind::Delete { peer: user("anna").into(), seqs: seqs.to_vec() };
        world.act(Act::Change(Box::new(Change::new(APP, ben.clone(), kind)))).unwrap();
    };
    let mention = |id: &str| {
        let body = Body { mentions: vec!["ben".into()], ..body_of(text(id)) };
        world
            .act(Act::Send(NewMessage { body: body.encode_to_vec().into(), ..new_message(APP, "anna", "ben", id) }))
            .unwrap();
    };
    mention("1");
    world.send(APP, "anna", "ben", "2");
    world.pass(DAY_MS);
    mention("3");
    world.send(APP, "anna", "ben", "4");
    delete(&[2, 4]);
    assert_eq!(marks(), [2, 2]);
    world.pass(6 * DAY_MS + HOUR_MS);
    assert_eq!(settle(&retention).messages, 2);
    assert_eq!(marks(), [1, 1]);
    delete(&[1, 2, 3]);
    assert_eq!(marks(), [2, 0], "what has expired is not noted");
    world.pass(DAY_MS);
    assert_eq!(settle(&retention).messages, 2);
    assert_eq!(marks(), [0, 0]);
}

/// Goal: what is noted beside a group's messages goes as they do, and the group stays in its members' lists, large or not.
#[test]
fn msg_09_grp_17_mentions_in_groups_go_with_their_messages_and_lists_follow_the_hours() {
    for group_fanout_max in [0, 200] {
        let world = World::new();
        let settings = Settings { group_fanout_max, group_sends_per_second: 0, ..Settings::default() };
        let dyn_clock: Arc<dyn Clock> = world.clock.clone();
        let new = NewApplication { settings, ..NewApplication::new(OTHER_APP + 1, SECRET) };
        block_on(applications::put_application(&world.store, &dyn_clock, new)).unwrap();
        let app = OTHER_APP + 1;
        block_on(account::import(&world.store, &dyn_clock, app, ["anna", "ben", "cleo"].map(user).to_vec())).unwrap();
        let group = GroupId::new("friends").unwrap();
        let new = NewGroup {
            group: Some(group.clone()),
            kind: GroupType::Public,
            owner: Some(user("anna")),
            info: GroupUpdate { name: Some("Friends".into()), ..GroupUpdate::default() },
            members: ["ben", "cleo"].map(|name| (user(name), MemberUpdate::default())).to_vec(),
            ..NewGroup::default()
        };
        let kind = Kind::Group(Box::new(GroupChange::Create(Box::new(new))));
        world.act(Act::Change(Box::new(Change::by_admin(app, user("administrator"), kind)))).unwrap();
        let say = |id: &str| {
            let body = Body { mention_all: true, mentions: vec!["ben".into()], ..body_of(text(id)) };
            let body = body.encode_to_vec().into();
            let new = NewMessage::new(app, user("anna"), group.clone(), Bytes::copy_from_slice(id.as_bytes()), body);
            world.act(Act::Send(new)).unwrap();
        };
        // Of members' lists, mentions by name, and mentions of all.
        let counts = || [31, 33, 85].map(|subspace| world.keys(app, subspace));
        let retention = world.retention(1, WEEK);
        say("1");
        assert_eq!(counts(), [3, 1, 1], "{group_fanout_max}");
        world.pass(DAY_MS);
        say("2");
        assert_eq!(counts(), [3, 2, 2], "{group_fanout_max}: each is in one hour");
        world.pass(6 * DAY_MS + HOUR_MS);
        settle(&retention);
        assert_eq!(counts(), [3, 1, 1], "{group_fanout_max}");
        let listed = block_on(conversations::list(&world.store, app, &user("cleo"), None, None, PAGE)).unwrap();
        assert_eq!(listed.entries.iter().map(|entry| entry.mentions.clone()).collect::<Vec<_>>(), [vec![2]]);
        world.pass(DAY_MS);
        settle(&retention);
        assert_eq!(counts()[1..], [0, 0], "{group_fanout_max}");
    }
}

#[test]
fn merged_content_stays_for_as_long_as_something_points_to_it() {
    let world = World::new();
    let retention = world.retention(1, WEEK);
    let (inner, outer, unused) = (content_id(1), content_id(2), content_id(3));
    let merge = |id: &Bytes, seq: u64| {
        let (store, now_ms) = (&world.store, world.clock.unix_ms());
        block_on(merged::store(store, APP, &user("anna"), id.clone(), vec![(user("ben").into(), seq)], now_ms)).unwrap()
    };
    let is_there = |id: &Bytes| match block_on(merged::page(&world.store, APP, id.clone(), 0, PAGE)) {
        Ok((messages, _)) => !messages.is_empty(),
        Err(error) => error != Error::ContentUnknown,
    };
    let point_to = |id: &Bytes, message: &str, kind: Option<u64>| {
        let merged = Merged { content_id: id.clone(), count: 1, ..Merged::default() };
        let mut new = new_message(APP, "anna", "ben", message);
        new.body = body_of(ElementKind::Merged(merged)).encode_to_vec().into();
        let edit = |seq| Kind::Edit { peer: user("ben").into(), seq, body: new.body.clone(), facts: None };
        world.act(match kind {
            None => Act::Send(new),
            Some(seq) => Act::Change(Box::new(Change::new(APP, user("anna"), edit(seq)))),
        })
    };
    // Day 0: contents of a message that will be gone after day 7.
    world.send(APP, "anna", "ben", "said");
    [&inner, &unused].into_iter().for_each(|id| assert_eq!(merge(id, 1), 1));
    point_to(&inner, "day 0", None).unwrap();
    // Day 3: a content inside a content.
    world.pass(3 * DAY_MS);
    merge(&outer, 2);
    point_to(&outer, "day 3", None).unwrap();
    world.send(APP, "anna", "ben", "edited soon");
    // Day 7: the content that nothing pointed to goes, not the others.
    world.pass(4 * DAY_MS + HOUR_MS);
    let round = settle(&retention);
    assert_eq!((round.messages, round.contents), (2, 1));
    assert_eq!([&inner, &outer, &unused].map(&is_there), [true, true, false]);
    assert_eq!(point_to(&unused, "too late", None), Err(Error::ContentUnknown));
    // Day 8: an edit points to the outer one anew. Day 10: the inner one goes with day 3.
    world.pass(DAY_MS);
    point_to(&outer, "day 8", Some(4)).unwrap();
    world.pass(2 * DAY_MS + HOUR_MS);
    assert_eq!(settle(&retention).contents, 1);
    assert_eq!([&inner, &outer].map(&is_there), [false, true]);
    // Day 15.
    world.pass(5 * DAY_MS + HOUR_MS);
    assert_eq!(settle(&retention).contents, 1);
    assert_eq!([26, 36].map(|subspace| world.keys(APP, subspace)), [0, 0]);
}

#[test]
fn contents_are_removed_a_few_at_a_time_and_kept_where_messages_are() {
    let world = World::new();
    world.send(APP, "anna", "ben", "said");
    for n in 1..=10 {
        let now_ms = world.clock.unix_ms();
        let sources = vec![(user("ben").into(), 1); 300];
        block_on(merged::store(&world.store, APP, &user("anna"), content_id(n), sources, now_ms)).unwrap();
    }
    world.pass(1_000 * DAY_MS);
    let for_ever = world.retention(1, Keep { message_days: 0, event_days: 7 });
    assert_eq!(settle(&for_ever).contents, 0);
    let retention = world.retention(1, WEEK);
    let mut removed = Vec::new();
    loop {
        let round = block_on(retention.round()).unwrap();
        removed.push(round.contents);
        if !round.more {
            break;
        }
    }
    assert_eq!(removed, [4, 4, 2, 0]);
    assert_eq!(world.keys(APP, 36), 0);
}

/// Goal: what is large is removed in portions, and a portion is bounded.
#[test]
fn portions_are_bounded_and_add_up() {
    let world = World::new();
    let retention = world.retention(1, WEEK);
    world.send_many("anna", "ben", 1000);
    world.send_many("ben", "cleo", 300);
    settle(&retention);
    world.pass(8 * DAY_MS);
    let (mut messages, mut events, mut rounds) = (0, 0, 0);
    loop {
        let round = block_on(retention.round()).unwrap();
        assert!(round.messages <= 256 && round.events <= 1024, "{round:?}");
        (messages, events, rounds) = (messages + round.messages, events + round.events, rounds + 1);
        let kept = world.history("anna", "ben", FORWARD);
        let first = kept.messages.first().map_or(kept.head_seq + 1, |message| message.seq);
        assert_eq!(first, kept.first_seq, "the floor is right after every portion");
        world.kept_events("ben"); // entries whose message is gone are passed over
        if !round.more {
            break;
        }
    }
    assert_eq!((messages, events), (1300, 2600));
    assert!(rounds >= 6, "{rounds}");
    assert_eq!(world.counts(APP), [0, 0, 0, 0]);
}

/// Goal: a clock that was set back leaves nothing behind for ever, and removes nothing early.
#[test]
fn a_clock_that_went_back_only_delays() {
    let world = World::new();
    let retention = world.retention(1, WEEK);
    world.pass(5 * HOUR_MS);
    world.send(APP, "anna", "ben", "late");
    world.clock.0.fetch_sub(3 * HOUR_MS, Ordering::Relaxed);
    world.send(APP, "anna", "ben", "early");
    settle(&retention);
    world.pass(7 * DAY_MS + HOUR_MS);
    assert_eq!(settle(&retention).messages, 0, "the first in the conversation has not expired");
    world.pass(3 * HOUR_MS);
    assert_eq!(settle(&retention).messages, 2);
    assert_eq!(world.keys(APP, 21), 0);
}

#[test]
fn zero_days_keep_for_ever() {
    let world = World::new();
    world.send_many("anna", "ben", 3);
    let before = world.counts(APP);
    settle(&world.retention(1, WEEK));
    world.pass(1000 * DAY_MS);
    assert_eq!(settle(&world.retention(1, Keep { message_days: 0, event_days: 0 })), Round::default());
    assert_eq!(world.counts(APP), before);
    let messages_only = Keep { message_days: 7, event_days: 0 };
    let done = settle(&world.retention(1, messages_only));
    assert_eq!((done.messages, done.events), (3, 0));
    assert_eq!(world.kept_events("ben"), [], "what they point to has expired");
}

/// Goal: of several processes on one store one works; if it goes away another takes over.
#[test]
fn one_process_has_the_claim() {
    let world = World::new();
    let (one, other) = (world.retention(1, WEEK), world.retention(2, WEEK));
    world.send(APP, "anna", "ben", "old");
    settle(&one);
    world.pass(8 * DAY_MS);
    assert_eq!(settle(&one).messages, 1);
    world.send(APP, "anna", "ben", "old again");
    world.pass(5 * 60_000);
    settle(&one); // renews
    world.pass(8 * 60_000);
    assert_eq!(settle(&other), Round::default(), "the claim was renewed and holds");
    world.pass(8 * DAY_MS);
    assert_eq!(settle(&other).messages, 1, "it has run out");
    assert_eq!(settle(&one), Round::default(), "and is the other's now");
}

/// Goal: two that both believe to have the claim do no harm: every message is removed once.
#[test]
fn two_at_once_remove_everything_once() {
    let world = World::new();
    world.send_many("anna", "ben", 2000);
    settle(&world.retention(1, WEEK));
    world.pass(8 * DAY_MS);
    // The same owner in two threads: the claim is both of theirs.
    let run = |retention: Retention| std::thread::spawn(move || settle(&retention));
    let threads = [run(world.retention(1, WEEK)), run(world.retention(1, WEEK))];
    let done = threads.map(|thread| thread.join().unwrap());
    assert_eq!(done.iter().map(|round| round.messages).sum::<usize>(), 2000);
    assert_eq!(done.iter().map(|round| round.events).sum::<usize>(), 4000);
    assert_eq!(world.counts(APP), [0, 0, 0, 0]);
}

fn seq(sent: &Outcome) -> u64 {
    match sent.answer {
        Answer::Sent { seq, .. } => seq,
        _ => panic!("no answer to a send: {sent:?}"),
    }
}

/// A cursor just before everything that is kept of a user's log, if anything is.
fn before_kept(store: &Store, user: &UserId) -> Option<Versionstamp> {
    let (begin, end) = keys::events_after(APP, user, Versionstamp::ZERO);
    let query = RangeQuery { begin, end, limit: 1, reverse: false, mode: ReadMode::Snapshot };
    let pairs = block_on(store.begin().unwrap().range(query)).unwrap().pairs;
    let mut position = keys::event_position(&pairs.first()?.0).unwrap();
    // One less, as the number that it is.
    for byte in position.0.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != u8::MAX {
            break;
        }
    }
    Some(position)
}
