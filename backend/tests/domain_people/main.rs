//! Goal: profiles, friends, requests, lists and the blacklist come to what the rows say, each refusal included, and
//! changes that take several transactions come to their end (PROF-01 to PROF-05, REL-01 to REL-15, ACC-03).
//!
//! Mechanics: changes go through a queue on the memory engine, one at a time; what each tells is kept, by user. In the
//! end the store is checked as `gateway store check` does it.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod accounts;
mod relations;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc},
};

use backend::{
    domain::{
        AppId, Error, UserId, account,
        act::{Act, Answer, News, Related, RelationOutcome},
        applications::{self, NewApplication},
        change::{
            Change, Kind,
            account::Erase,
            blacklist,
            friends::{FriendUpdate, FriendsChange, ImportedFriend, ListsUpdate, NewFriend},
            profile::ProfileChange,
        },
        conversations,
        friends::{self, Place, Refusal, Which},
        history::{self, HistoryQuery, Start},
        inspect,
        keys::{self, Direction},
        message::NewMessage,
        mute::{self, Mute},
        profile::{self, Chosen, Invalid},
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        settings::Settings,
        sync::{self, From, PageLimit},
        unfinished,
        unsettled::Late,
        usersig,
    },
    env::{Clock, SeededRng, SystemClock},
    store::{Committed, Faults, Lane, Memory, Store, StoreError, StoreOptions, Tx, Versionstamp},
};
use bytes::Bytes;
use futures::executor::block_on;
use prost::Message as _;
use protocol::message::{
    AllowType, Event, Friend, FriendAnswer, FriendRequest, FriendRequestState, Profile, ProfileFields, Relation,
    event::What,
};

const APP: AppId = 7;
const SECRET: &str = "a secret for tests only";
const PAGE: PageLimit = PageLimit { entries_max: 1_000, bytes_max: 1 << 20 };

/// What everybody was told, in order.
type Told = Arc<Mutex<Vec<(UserId, What)>>>;

struct Answers {
    answers: mpsc::Sender<Result<Answer, Error>>,
    told: Told,
    parts: Arc<Mutex<usize>>,
}

impl Outbox for Answers {
    type Origin = ();

    fn complete(&self, batch: Vec<Completion<()>>, _: Option<Committed>) {
        for Completion { outcome, .. } in batch {
            if let Ok(outcome) = &outcome {
                for notice in &outcome.notices {
                    let News::Event(_, event) = &notice.what else { continue };
                    let what = Event::decode(event.to_stored()).unwrap().what.unwrap();
                    self.told.lock().unwrap().push((notice.to.user().unwrap().clone(), what));
                }
            }
            *self.parts.lock().unwrap() += 1;
            let answer = outcome.map(|outcome| outcome.answer);
            if answer.as_ref().map_or(true, Answer::is_last) {
                self.answers.send(answer).unwrap();
            }
        }
    }

    fn late(&self, _: Vec<Late>) {}
}

struct Service {
    store: Store,
    clock: Arc<dyn Clock>,
    queue: SendQueue<Answers>,
    answers: mpsc::Receiver<Result<Answer, Error>>,
    told: Told,
    parts: Arc<Mutex<usize>>,
}

impl Service {
    fn start(settings: Settings) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let engine = Arc::new(Memory::new(1, Faults::default()));
        let store = Store::new(engine, clock.clone(), Arc::new(SeededRng::new(1)), StoreOptions::default());
        assert_eq!(settings.check(), Ok(()));
        let new = NewApplication { settings, ..NewApplication::new(APP, SECRET) };
        block_on(applications::put_application(&store, &clock, new)).unwrap();
        let users = ["anna", "ben", "cleo", "dan"].map(user).to_vec();
        block_on(account::import(&store, &clock, APP, users)).unwrap();
        let (sender, answers) = mpsc::channel();
        let (told, parts) = (Told::default(), Arc::default());
        let outbox = Answers { answers: sender, told: Arc::clone(&told), parts: Arc::clone(&parts) };
        let queue = SendQueue::new(store.clone(), clock.clone(), SendLimits::default(), outbox);
        Service { store, clock, queue, answers, told, parts }
    }

    fn act(&self, act: Act) -> Result<Answer, Error> {
        self.queue.submit((), act)?;
        self.answers.recv().unwrap()
    }

    fn change(&self, name: &str, kind: Kind) -> Result<Answer, Error> {
        self.act(Act::Change(Box::new(Change::new(APP, user(name), kind))))
    }

    fn by_admin(&self, name: &str, kind: Kind) -> Result<Answer, Error> {
        self.act(Act::Change(Box::new(Change::by_admin(APP, user(name), kind))))
    }

    /// What became of a change of friends, for each user.
    fn friends(&self, name: &str, change: FriendsChange) -> Vec<Result<Related, Refusal>> {
        outcomes(self.change(name, Kind::Friends(change)))
    }

    fn add(&self, name: &str, others: &[&str], one_way: bool) -> Vec<Result<Related, Refusal>> {
        self.friends(name, add(others, one_way))
    }

    fn befriend(&self, name: &str, other: &str) {
        let force = FriendsChange::Add { friends: new_friends(&[other]), one_way: false, force: true };
        assert_eq!(outcomes(self.by_admin(name, Kind::Friends(force))), [Ok(Related::Done)]);
        self.told();
    }

    fn answer(&self, name: &str, other: &str, answer: FriendAnswer) -> Result<Answer, Error> {
        let (remark, list) = ("a remark".into(), String::new());
        self.change(name, Kind::Friends(FriendsChange::Answer { other: user(other), answer, remark, list }))
    }

    fn set(&self, name: &str, profile: Profile) -> Result<Answer, Error> {
        self.change(name, Kind::Profile(ProfileChange::Set(Box::new(profile))))
    }

    fn allow(&self, name: &str, allow: AllowType) {
        self.set(name, Profile { allow_type: Some(allow.into()), ..Profile::default() }).unwrap();
        self.told();
    }

    fn blacklist(&self, name: &str, add: &[&str]) -> Result<Answer, Error> {
        self.change(name, Kind::Blacklist { add: users(add), remove: vec![], each: false })
    }

    /// Takes what was told since the last time.
    fn told(&self) -> Vec<(String, What)> {
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        told.into_iter().map(|(user, what)| (user.to_string(), what)).collect()
    }

    fn all_friends(&self, name: &str) -> Vec<Friend> {
        self.page(name, Place::default(), None).friends
    }

    fn page(&self, name: &str, from: Place, list: Option<&str>) -> friends::FriendsPage {
        let list = list.map(str::to_owned);
        block_on(friends::page(&self.store, APP, &user(name), from, list, Chosen::basic(), PAGE)).unwrap()
    }

    fn friend(&self, name: &str, other: &str) -> Option<Friend> {
        block_on(friends::chosen(&self.store, APP, &user(name), users(&[other]), Chosen::basic())).unwrap().remove(0)
    }

    fn requests(&self, name: &str, direction: Direction) -> Vec<FriendRequest> {
        block_on(friends::requests(&self.store, APP, &user(name), direction, None, PAGE)).unwrap().requests
    }

    fn relation(&self, name: &str, other: &str) -> Option<Relation> {
        self.relations(name, &[other], Which::Friends).remove(0)
    }

    fn relations(&self, name: &str, others: &[&str], which: Which) -> Vec<Option<Relation>> {
        block_on(friends::relations(&self.store, APP, &user(name), users(others), which, false)).unwrap()
    }

    fn profile(&self, name: &str) -> Option<Profile> {
        block_on(profile::profiles(&self.store, APP, users(&[name]), Chosen::all())).unwrap().remove(0)
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

fn new_friends(names: &[&str]) -> Vec<(UserId, NewFriend)> {
    let new = NewFriend { remark: "r".into(), list: "l".into(), source: "App".into(), wording: "hello".into() };
    names.iter().map(|name| (user(name), new.clone())).collect()
}

fn add(names: &[&str], one_way: bool) -> FriendsChange {
    FriendsChange::Add { friends: new_friends(names), one_way, force: false }
}

fn outcomes(answer: Result<Answer, Error>) -> Vec<Result<Related, Refusal>> {
    match answer.unwrap() {
        Answer::Relations(outcomes) => outcomes.into_iter().map(|RelationOutcome { outcome, .. }| outcome).collect(),
        other => panic!("{other:?}"),
    }
}

/// Names of friends that were told to have changed, and to be gone, by user.
fn friends_told(told: &[(String, What)]) -> BTreeMap<&str, (Vec<String>, Vec<String>)> {
    let friends = |(user, what): &'_ (String, What)| match what {
        What::Friends(changed) => Some((user.clone(), changed.clone())),
        _ => None,
    };
    let mut by_user = BTreeMap::new();
    for (user, changed) in told.iter().filter_map(friends) {
        let name = told.iter().map(|(name, _)| name.as_str()).find(|name| *name == user).unwrap();
        by_user.insert(name, (changed.changed, changed.removed));
    }
    by_user
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

const DONE: Result<Related, Refusal> = Ok(Related::Done);
const ASKED: Result<Related, Refusal> = Ok(Related::Asked);

/// A user whom so many others have as a friend.
fn with_followers(service: &Service, name: &str, count: usize) -> Vec<String> {
    let followers: Vec<String> = (0..count).map(|n| format!("f{n:03}")).collect();
    for some in followers.chunks(100) {
        let some = some.iter().map(|name| user(name)).collect();
        block_on(account::import(&service.store, &service.clock, APP, some)).unwrap();
    }
    for follower in &followers {
        let friends = vec![(user(name), ImportedFriend::default())];
        outcomes(service.by_admin(follower, Kind::Friends(FriendsChange::Import { friends })));
    }
    service.told();
    followers
}
