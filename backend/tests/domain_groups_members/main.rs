//! Goal: who may bring whom into a group, out of it, and into which place in it is what the table says, cell by cell,
//! and for whom it says so; and what is written of members agrees with itself, whatever happens (GRP-01, GRP-05 to
//! GRP-14, GRP-27).
//!
//! Mechanics: changes go through a queue on the memory engine, one at a time; what each tells is kept. Each test makes
//! groups of each type, with an owner, an administrator where there are such, a member and strangers, and has each of
//! them ask. In the end what is stored is compared: members with the groups of users, their counts, and their logs.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod applying;
mod histories;
mod places;
mod records;
#[path = "../remote/mod.rs"]
mod remote;
mod rights;

use std::{
    cell::Cell,
    sync::{Arc, Mutex, mpsc},
};

use backend::{
    domain::{
        AppId, Error, GroupId, Peer, UserId, account,
        act::{Act, Answer, Audience, News},
        applications::{self, NewApplication},
        callbacks::{CallbackCommand, Callbacks},
        change::{
            Change, Kind,
            group::{GroupChange, MemberUpdate, NewGroup},
        },
        groups::Refusal,
        inspect, keys,
        message::NewMessage,
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        settings::Settings,
        unsettled::Late,
    },
    env::{Clock, SeededRng, SystemClock},
    store::{Committed, Engine, Faults, Memory, Store, StoreOptions},
};
use bytes::{Bytes, BytesMut};
use futures::executor::block_on;
use prost::Message as _;
use protocol::{
    frame::Payload as _,
    message::{
        Body, Element, Event, GroupApplication, GroupApplicationState, GroupEntered, GroupJoinOption, GroupLeft,
        GroupPush, GroupRole, GroupTips, GroupType, GroupUpdate, Message, ReceiveOption, Text, UpdateConversation,
        element, event::What, group_left::Why, group_push, group_tips::Kind as Tip,
    },
};
use records::Records;

const APP: AppId = 7;
const SECRET: &str = "a secret for tests only";
const TYPES: [GroupType; 4] = [GroupType::Work, GroupType::Public, GroupType::Meeting, GroupType::Avchatroom];
/// Who asks: `app` is an administrator of the application.
const ACTORS: [&str; 5] = ["owner", "admin", "member", "stranger", "app"];
const USERS: [&str; 12] = [
    "owner",
    "admin",
    "admin2",
    "member",
    "member2",
    "member3",
    "stranger",
    "stranger2",
    "stranger3",
    "anna",
    "ben",
    "cleo",
];

type Outcome = Result<Answer, Error>;

struct Answers {
    answers: mpsc::Sender<Outcome>,
    told: Arc<Mutex<Vec<(Audience, News)>>>,
}

impl Outbox for Answers {
    type Origin = ();

    fn complete(&self, batch: Vec<Completion<()>>, _: Option<Committed>) {
        for Completion { outcome, .. } in batch {
            if let Ok(outcome) = &outcome {
                let notices = outcome.notices.iter().map(|notice| (notice.to.clone(), notice.what.clone()));
                self.told.lock().unwrap().extend(notices);
            }
            let answer = outcome.map(|outcome| outcome.answer);
            if answer.as_ref().map_or(true, Answer::is_last) {
                self.answers.send(answer).unwrap();
            }
        }
    }

    fn late(&self, acts: Vec<Late>) {
        let notices = acts.into_iter().flat_map(|late| late.notices).map(|notice| (notice.to, notice.what));
        self.told.lock().unwrap().extend(notices);
    }
}

/// Something that somebody was told.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Entered(GroupEntered),
    Left(GroupLeft),
    Application(GroupApplication),
    /// To the group.
    Tips(Tip, Vec<String>),
    /// A live room's: to the user.
    OutOfRoom(GroupLeft),
    /// From here on sessions receive from the group, or not any more.
    Receives(bool),
    Other,
}

struct Service {
    store: Store,
    clock: Arc<dyn Clock>,
    engine: Memory,
    queue: SendQueue<Answers>,
    answers: mpsc::Receiver<Outcome>,
    told: Arc<Mutex<Vec<(Audience, News)>>>,
    /// Made so far.
    groups: Cell<u32>,
    /// Sent so far.
    messages: Cell<u32>,
    /// Somebody was imported.
    imports: Cell<bool>,
}

impl Service {
    fn start() -> Self {
        Service::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        Service::over(1, |memory| Arc::new(memory.clone()), settings)
    }

    /// Over an engine that works like the one in memory, or on it.
    fn over(seed: u64, engine_on: impl Fn(&Memory) -> Arc<dyn Engine>, settings: Settings) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let engine = Memory::new(seed, Faults::default());
        let rng = Arc::new(SeededRng::new(1));
        let store = Store::new(engine_on(&engine), clock.clone(), rng, StoreOptions::default());
        // Nothing here is about the rate, and tests are fast.
        let settings = Settings { group_sends_per_second: 0, ..settings };
        assert_eq!(settings.check(), Ok(()));
        let new = NewApplication { settings, ..NewApplication::new(APP, SECRET) };
        block_on(applications::put_application(&store, &clock, new)).unwrap();
        block_on(account::import(&store, &clock, APP, users(&USERS))).unwrap();
        let (sender, answers) = mpsc::channel();
        let told = Arc::default();
        let outbox = Answers { answers: sender, told: Arc::clone(&told) };
        let queue = SendQueue::new(store.clone(), clock.clone(), SendLimits::default(), outbox);
        let (groups, messages, imports) = Default::default();
        Service { store, clock, engine, queue, answers, told, groups, messages, imports }
    }

    fn act(&self, act: Act) -> Outcome {
        self.queue.submit((), act)?;
        self.answers.recv().unwrap()
    }

    /// Has somebody of [`ACTORS`] ask, or any user.
    fn ask(&self, actor: &str, change: GroupChange) -> Outcome {
        self.act(Act::Change(Box::new(asked(actor, change))))
    }

    /// Makes a group under the next id.
    fn create(&self, mut new: NewGroup) -> GroupId {
        let number = self.groups.replace(self.groups.get() + 1);
        let group = id(&format!("{} {number}", new.kind.as_str_name()));
        new.group = Some(group.clone());
        let created = self.ask("app", GroupChange::Create(Box::new(new)));
        assert_eq!(created, Ok(Answer::GroupCreated(group.clone())));
        self.told();
        group
    }

    /// A group of the type with an owner, members and an administrator, where there are such.
    fn group(&self, kind: GroupType) -> GroupId {
        let group = self.create(new_group(kind));
        let role = |role| MemberUpdate { role: Some(role), ..MemberUpdate::default() };
        if kind == GroupType::Avchatroom {
            let admin = GroupChange::Member {
                group: group.clone(),
                member: user("admin"),
                update: role(GroupRole::Admin).into(),
            };
            self.ask("app", admin).unwrap();
        }
        if kind == GroupType::Work {
            // It is known to its members.
            self.say(&group, "owner");
        }
        self.told();
        group
    }

    /// Sends a message to a group.
    fn say(&self, group: &GroupId, from: &str) {
        assert!(matches!(self.act(Act::Send(self.message(group, from))), Ok(Answer::Sent { .. })));
    }

    fn message(&self, group: &GroupId, from: &str) -> NewMessage {
        let number = self.messages.replace(self.messages.get() + 1);
        let text = element::Kind::Text(Text { text: "hello".into() });
        let body = Body { elements: vec![Element { kind: Some(text) }], ..Body::default() }.encode_to_vec();
        NewMessage::new(APP, user(from), Peer::Group(group.clone()), Bytes::from(number.to_string()), body.into())
    }

    /// What was told since the last time, to whom, in this order.
    fn told(&self) -> Vec<(String, Told)> {
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        let name = |to: Audience| match to {
            Audience::User(user) => user.to_string(),
            Audience::Group(group) => group.to_string(),
        };
        told.into_iter().map(|(to, news)| (name(to), told_of(news))).collect()
    }

    fn records(&self) -> Records {
        Records::read(&self.store)
    }

    fn role(&self, group: &GroupId, name: &str) -> GroupRole {
        self.records().role(group, name)
    }
}

impl Drop for Service {
    /// Every test ends with records that agree.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let records = self.records();
            match self.imports.get() {
                true => records.check_with_imports(),
                false => records.check(),
            }
            inspect::check(&self.store, &mut |problem| panic!("{problem}")).unwrap();
        }
    }
}

fn told_of(news: News) -> Told {
    match news {
        News::Entered(_) => Told::Receives(true),
        News::Left(_) => Told::Receives(false),
        News::Event(_, event) => match Event::decode(event.to_stored()).unwrap().what.unwrap() {
            What::GroupEntered(entered) => Told::Entered(entered),
            What::GroupLeft(left) => Told::Left(left),
            What::GroupApplication(application) => Told::Application(application),
            What::Message(message) => tips_of(&message).map_or(Told::Other, tips),
            _ => Told::Other,
        },
        News::Push(push) => {
            let mut payload = BytesMut::new();
            push.put(&mut payload);
            match GroupPush::decode(payload).unwrap().what.unwrap() {
                group_push::What::Tips(told) => tips(told),
                group_push::What::Left(left) => Told::OutOfRoom(left),
                _ => Told::Other,
            }
        }
        News::Behind => Told::Other,
    }
}

fn tips(tips: GroupTips) -> Told {
    Told::Tips(tips.kind(), tips.users)
}

fn tips_of(message: &Message) -> Option<GroupTips> {
    match Body::decode(message.body.clone()).unwrap().elements.first()?.kind.as_ref()? {
        element::Kind::GroupTips(tips) => Some(tips.clone()),
        _ => None,
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn users(names: &[&str]) -> Vec<UserId> {
    names.iter().map(|name| user(name)).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn id(name: &str) -> GroupId {
    GroupId::new(name).unwrap()
}

/// A change that somebody of [`ACTORS`] asks for, or any user.
fn asked(actor: &str, change: GroupChange) -> Change {
    let kind = Kind::Group(Box::new(change));
    if actor == "app" {
        Change::by_admin(APP, user("administrator"), kind)
    } else {
        Change::new(APP, user(actor), kind)
    }
}

/// A group with an owner, administrators where there are such, and members.
fn new_group(kind: GroupType) -> NewGroup {
    let as_role =
        |(name, role): (&str, GroupRole)| (user(name), MemberUpdate { role: Some(role), ..MemberUpdate::default() });
    let everybody: &[(&str, GroupRole)] = match kind {
        GroupType::Avchatroom => &[],
        GroupType::Work => {
            &[("admin", GroupRole::Member), ("member", GroupRole::Member), ("member2", GroupRole::Member)]
        }
        _ => &[
            ("admin", GroupRole::Admin),
            ("admin2", GroupRole::Admin),
            ("member", GroupRole::Member),
            ("member2", GroupRole::Member),
        ],
    };
    NewGroup {
        kind,
        owner: Some(user("owner")),
        info: GroupUpdate { name: Some("a group".into()), ..GroupUpdate::default() },
        members: everybody.iter().copied().map(as_role).collect(),
        ..NewGroup::default()
    }
}

fn done(answer: &Outcome) -> bool {
    answer.is_ok()
}

fn refused(refusal: Refusal) -> Outcome {
    Err(refusal.into())
}

/// What became of each user.
fn outcomes(answer: Outcome) -> Vec<Result<(), Refusal>> {
    match answer.unwrap() {
        Answer::GroupUsers(users) => users.into_iter().map(|(_, outcome)| outcome).collect(),
        other => panic!("{other:?}"),
    }
}

const JOINED: Outcome = Ok(Answer::GroupJoined { applied: false });
const APPLIED: Outcome = Ok(Answer::GroupJoined { applied: true });

fn join(group: &GroupId) -> GroupChange {
    GroupChange::Join { group: group.clone(), wording: "please".into() }
}

fn leave(group: &GroupId) -> GroupChange {
    GroupChange::Leave { group: group.clone() }
}

fn invite(group: &GroupId, names: &[&str]) -> GroupChange {
    GroupChange::Invite { group: group.clone(), users: users(names), silent: false }
}

fn remove(group: &GroupId, names: &[&str]) -> GroupChange {
    GroupChange::Remove { group: group.clone(), users: users(names), reason: "why".into(), silent: false }
}

fn ban(group: &GroupId, names: &[&str], seconds: u32) -> GroupChange {
    GroupChange::Ban { group: group.clone(), users: users(names), seconds, reason: "why".into() }
}

fn mute(group: &GroupId, names: &[&str], seconds: u32) -> GroupChange {
    GroupChange::Mute { group: group.clone(), users: users(names), seconds }
}

fn answer(group: &GroupId, applicant: &str, agree: bool) -> GroupChange {
    GroupChange::Answer { group: group.clone(), applicant: user(applicant), agree, text: "because".into() }
}

fn member(group: &GroupId, name: &str, update: MemberUpdate) -> GroupChange {
    GroupChange::Member { group: group.clone(), member: user(name), update: Box::new(update) }
}

fn as_admin(is_admin: bool) -> MemberUpdate {
    let role = if is_admin { GroupRole::Admin } else { GroupRole::Member };
    MemberUpdate { role: Some(role), ..MemberUpdate::default() }
}

/// What a user wants to receive from a group.
fn receive(group: &GroupId, name: &str, option: ReceiveOption) -> Act {
    let update = UpdateConversation { receive: Some(option.into()), ..UpdateConversation::default() };
    let kind = Kind::Conversation { peer: Peer::Group(group.clone()), update: Box::new(update) };
    Act::Change(Box::new(Change::new(APP, user(name), kind)))
}
