//! Goal: groups come to what the rows of GROUPS.md say, for each type and role, allowed and refused (GRP-01 to GRP-27).
//!
//! Mechanics: acts go through a queue on the memory engine, one at a time; what members learn is read from their logs,
//! as a device does it. In the end the store is checked as `gateway store check` does it.
//! What breaks without it: a type allows what another forbids; a member misses what was said, or sees what was not
//! meant for him.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod accounts;
mod closing;
mod damage;
mod former;
mod limits;
mod membership;
mod messages;
#[path = "../remote/mod.rs"]
mod remote;
mod rights;
mod round_trips;
mod server_api;
mod unheard;

use std::sync::{Arc, Mutex, mpsc};

use backend::{
    domain::{
        AppId, Error, GroupId, Peer, UserId, account,
        act::{Act, Answer, Notice},
        applications::{self, NewApplication},
        change::{
            Change, Kind,
            group::{GroupChange, MemberUpdate, NewGroup},
        },
        groups::{
            Refusal,
            read::{self, Asker},
        },
        history::{self, HistoryPage, HistoryQuery, Start},
        inspect,
        message::NewMessage,
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        settings::Settings,
        sync::{self, From, PageLimit},
        unsettled::Late,
    },
    env::{Clock, SeededRng, SystemClock},
    store::{Committed, Engine, Faults, Lane, Memory, Store, StoreError, StoreOptions, Tx, Versionstamp},
};
use bytes::Bytes;
use futures::executor::block_on;
use prost::Message as _;
use protocol::message::{
    Body, Element, GroupMember, GroupRole, GroupType, GroupUpdate, Message, Text, element, event::What,
};

const APP: AppId = 7;
const PAGE: PageLimit = PageLimit { entries_max: 1_000, bytes_max: 1 << 20 };
const KINDS: [GroupType; 4] = [GroupType::Work, GroupType::Public, GroupType::Meeting, GroupType::Avchatroom];

struct Answers {
    answers: mpsc::Sender<Result<Answer, Error>>,
    told: Arc<Mutex<Vec<Notice>>>,
}

impl Outbox for Answers {
    type Origin = ();

    fn complete(&self, batch: Vec<Completion<()>>, _: Option<Committed>) {
        for Completion { outcome, .. } in batch {
            self.told.lock().unwrap().extend(outcome.iter().flat_map(|outcome| outcome.notices.clone()));
            let answer = outcome.map(|outcome| outcome.answer);
            if answer.as_ref().map_or(true, Answer::is_last) {
                self.answers.send(answer).unwrap();
            }
        }
    }

    fn late(&self, acts: Vec<Late>) {
        self.told.lock().unwrap().extend(acts.into_iter().flat_map(|late| late.notices));
    }
}

struct Service {
    store: Store,
    queue: SendQueue<Answers>,
    answers: mpsc::Receiver<Result<Answer, Error>>,
    sent: std::cell::Cell<u64>,
    /// What sessions were told, in this order.
    told: Arc<Mutex<Vec<Notice>>>,
}

impl Service {
    fn start(settings: Settings) -> Self {
        Service::start_over(Arc::new(Memory::new(1, Faults::default())), StoreOptions::default(), settings)
    }

    fn start_over(engine: Arc<dyn Engine>, options: StoreOptions, settings: Settings) -> Self {
        // Hardly anything here is about the rate, and tests are fast.
        Service::over(engine, options).with(Settings { group_sends_per_second: 0, ..settings })
    }

    fn with(self, settings: Settings) -> Self {
        let service = self;
        assert_eq!(settings.check(), Ok(()));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let new = NewApplication { settings, ..NewApplication::new(APP, "a secret for tests only") };
        block_on(applications::put_application(&service.store, &clock, new)).unwrap();
        let users = ["owner", "admin", "anna", "ben", "cleo", "dan", "eve"].map(user).to_vec();
        block_on(account::import(&service.store, &clock, APP, users)).unwrap();
        service
    }

    /// A node over an engine, which may have what another has stored.
    fn over(engine: Arc<dyn Engine>, options: StoreOptions) -> Self {
        Service::at(Arc::new(SystemClock::default()), engine, options)
    }

    fn at(clock: Arc<dyn Clock>, engine: Arc<dyn Engine>, options: StoreOptions) -> Self {
        let store = Store::new(engine, clock.clone(), Arc::new(SeededRng::new(1)), options);
        let (sender, answers) = mpsc::channel();
        let told = Arc::default();
        let outbox = Answers { answers: sender, told: Arc::clone(&told) };
        let queue = SendQueue::new(store.clone(), clock.clone(), SendLimits::default(), outbox);
        Service { store, queue, answers, sent: Default::default(), told }
    }

    fn act(&self, act: Act) -> Result<Answer, Error> {
        self.queue.submit((), act)?;
        self.answers.recv().unwrap()
    }

    /// Acts that gather while the write lane is held up.
    fn act_together(&self, acts: Vec<Act>) -> Vec<Result<Answer, Error>> {
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let hold = async move |_: &Tx| -> Result<(), StoreError> {
            let _ = held.lock().unwrap().recv();
            Ok(())
        };
        let holding = self.store.run(Lane::Write, "hold", hold);
        let count = acts.len();
        for act in acts {
            self.queue.submit((), act).unwrap();
        }
        drop(release);
        block_on(holding).unwrap();
        self.answers.iter().take(count).collect()
    }

    fn change(&self, name: &str, change: GroupChange) -> Result<Answer, Error> {
        self.act(Act::Change(Box::new(Change::new(APP, user(name), Kind::Group(Box::new(change))))))
    }

    fn by_admin(&self, change: GroupChange) -> Result<Answer, Error> {
        let kind = Kind::Group(Box::new(change));
        self.act(Act::Change(Box::new(Change::by_admin(APP, user("administrator"), kind))))
    }

    fn conversation(&self, name: &str, kind: Kind) -> Result<Answer, Error> {
        self.act(Act::Change(Box::new(Change::new(APP, user(name), kind))))
    }

    /// A group of this type with an owner, and with an administrator where there are any. `members`: who else is in it.
    fn group(&self, kind: GroupType, members: &[&str]) -> GroupId {
        let id = group(&format!("group of {}", kind.as_str_name()));
        self.change("owner", create(&id, kind)).unwrap();
        if kind == GroupType::Avchatroom {
            return id;
        }
        let has_admin = kind != GroupType::Work;
        let all: Vec<&str> = has_admin.then_some("admin").into_iter().chain(members.iter().copied()).collect();
        if !all.is_empty() {
            let invite = GroupChange::Invite { group: id.clone(), users: users(&all), silent: true };
            assert!(each(self.by_admin(invite)).iter().all(Result::is_ok));
        }
        if has_admin {
            self.change("owner", role(&id, "admin", GroupRole::Admin)).unwrap();
        }
        id
    }

    fn send(&self, name: &str, group: &GroupId, text: &str) -> Result<u64, Error> {
        self.send_with(name, group, text, |_| {})
    }

    fn send_with(
        &self,
        name: &str,
        group: &GroupId,
        text: &str,
        with: impl FnOnce(&mut NewMessage),
    ) -> Result<u64, Error> {
        let number = self.sent.get() + 1;
        self.sent.set(number);
        let id = Bytes::from(format!("id {number}"));
        let mut new = NewMessage::new(APP, user(name), group.clone(), id, body(text));
        with(&mut new);
        match self.act(Act::Send(new))? {
            Answer::Sent { seq, .. } => Ok(seq),
            other => panic!("{other:?}"),
        }
    }

    /// Everything in a user's log, as a new device reads it.
    fn log(&self, name: &str) -> Vec<What> {
        self.log_since(name, Versionstamp::ZERO).0
    }

    /// What a device reads that has read up to the cursor, page by page; and its cursor then.
    fn log_since(&self, name: &str, mut cursor: Versionstamp) -> (Vec<What>, Versionstamp) {
        let limit = PageLimit { entries_max: 3, bytes_max: 1 << 20 };
        let mut all = Vec::new();
        loop {
            let from = From::Cursor(cursor, Bytes::new());
            let page = block_on(sync::events(&self.store, APP, &user(name), from, limit)).unwrap();
            assert!(!page.start_over);
            assert!(page.events.iter().all(|event| event.position > cursor), "nothing comes twice");
            assert!(page.events.windows(2).all(|pair| pair[0].position < pair[1].position), "in order");
            cursor = page.cursor;
            all.extend(page.events.into_iter().map(|event| event.what));
            if !page.more {
                return (all, cursor);
            }
        }
    }

    /// Texts of a group's messages in a user's log, with their sequences; tips by kind.
    fn heard(&self, name: &str, group: &GroupId) -> Vec<(u64, String)> {
        heard_in(self.log(name), group)
    }

    fn history(&self, name: &str, group: &GroupId) -> Result<HistoryPage, Error> {
        let query = HistoryQuery { start: Start::End, forward: true, limit: PAGE };
        block_on(history::page(&self.store, APP, &user(name), &Peer::Group(group.clone()), query))
    }

    fn members(&self, group: &GroupId) -> Vec<GroupMember> {
        block_on(read::members(&self.store, APP, Asker::Admin, group, None, vec![], PAGE)).unwrap().0
    }

    fn role_of(&self, group: &GroupId, name: &str) -> GroupRole {
        let members = self.members(group);
        members.iter().find(|member| member.user == name).map_or(GroupRole::None, GroupMember::role)
    }
}

impl Drop for Service {
    /// Every test ends with a sound store.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let mut problems = Vec::new();
            inspect::check(&self.store, &mut |problem| problems.push(problem.to_owned())).unwrap();
            assert!(problems.is_empty(), "{problems:?}");
        }
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn users(names: &[&str]) -> Vec<UserId> {
    names.iter().map(|name| user(name)).collect()
}

fn group(id: &str) -> GroupId {
    GroupId::new(id).unwrap()
}

fn body(text: &str) -> Bytes {
    let element = Element { kind: Some(element::Kind::Text(Text { text: text.to_owned() })) };
    Body { elements: vec![element], ..Body::default() }.encode_to_vec().into()
}

fn create(id: &GroupId, kind: GroupType) -> GroupChange {
    let info = GroupUpdate { name: Some("A Group".into()), ..GroupUpdate::default() };
    GroupChange::Create(Box::new(NewGroup { group: Some(id.clone()), kind, info, ..NewGroup::default() }))
}

fn named(name: &str) -> Box<GroupUpdate> {
    Box::new(GroupUpdate { name: Some(name.into()), ..GroupUpdate::default() })
}

fn role(group: &GroupId, name: &str, role: GroupRole) -> GroupChange {
    let update = Box::new(MemberUpdate { role: Some(role), ..MemberUpdate::default() });
    GroupChange::Member { group: group.clone(), member: user(name), update }
}

fn each(answer: Result<Answer, Error>) -> Vec<Result<(), Refusal>> {
    match answer.unwrap() {
        Answer::GroupUsers(outcomes) => outcomes.into_iter().map(|(_, outcome)| outcome).collect(),
        other => panic!("{other:?}"),
    }
}

/// What a message says: its text, or what kind of tips it is.
fn said(message: &Message) -> String {
    let body = Body::decode(message.body.clone()).unwrap();
    match body.elements.into_iter().next().and_then(|element| element.kind) {
        Some(element::Kind::Text(text)) => text.text,
        Some(element::Kind::GroupTips(tips)) => tips.kind().as_str_name().to_owned(),
        other => format!("{other:?}"),
    }
}

fn heard_in(log: Vec<What>, group: &GroupId) -> Vec<(u64, String)> {
    let of_group = |what: What| match what {
        What::Message(message) if message.group == group.as_str() => Some((message.seq, said(&message))),
        _ => None,
    };
    log.into_iter().filter_map(of_group).collect()
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>) -> Refusal {
    match answer.unwrap_err() {
        Error::Group(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}
