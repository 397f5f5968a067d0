//! Goal: profiles, friends, requests, lists and the blacklist come to what the rows say, each refusal included, and
//! changes that take several transactions come to their end (PROF-01 to PROF-05, REL-01 to REL-15, ACC-03).
//!
//! Mechanics: changes go through a queue on the memory engine, one at a time; what each tells is kept, by user. In the
//! end the store is checked as `gateway store check` does it.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc},
};

use backend::{
    domain::{
        AppId, Error, UserId,
        account::{self, NewApplication},
        act::{Act, Answer, News, Related, RelationOutcome},
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
        profile::{self, Chosen, Invalid},
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        settings::Settings,
        sync::{self, From, PageLimit},
        unfinished,
        unsettled::Late,
        usersig,
    },
    env::{Clock, SeededRng, SystemClock},
    store::{Faults, Lane, Memory, Store, StoreError, StoreOptions, Tx, Versionstamp},
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

    fn complete(&self, batch: Vec<Completion<()>>) {
        for Completion { outcome, .. } in batch {
            if let Ok(outcome) = &outcome {
                for notice in &outcome.notices {
                    let News::Event(_, event) = &notice.what else { continue };
                    let what = Event::decode(event.to_stored()).unwrap().what.unwrap();
                    self.told.lock().unwrap().push((notice.user.clone(), what));
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
        block_on(account::put_application(&store, &clock, new)).unwrap();
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

#[test]
fn rel_02_what_becomes_of_a_request_is_up_to_the_other() {
    let service = Service::start(Settings::default());
    service.allow("cleo", AllowType::NeedConfirm);
    service.allow("dan", AllowType::DenyAny);
    let results = service.add("anna", &["ben", "cleo", "dan", "anna", "nobody"], false);
    assert_eq!(
        results,
        [DONE, ASKED, Err(Refusal::Denied), Err(Refusal::Invalid), Err(Refusal::UserUnknown)],
        "each is judged on its own"
    );
    let told = service.told();
    let by_user = friends_told(&told);
    assert_eq!(by_user.len(), 2, "nobody else");
    assert_eq!(by_user["anna"], (names(&["ben"]), vec![]));
    assert_eq!(by_user["ben"], (names(&["anna"]), vec![]));
    assert_eq!(service.add("anna", &["ben"], false), [Err(Refusal::Invalid)], "a friend already");
    assert_eq!(service.relation("anna", "ben"), Some(Relation::Both));
    assert_eq!(service.relation("anna", "cleo"), Some(Relation::None));
    let own = service.friend("anna", "ben").unwrap();
    assert_eq!((own.remark.as_str(), own.wording.as_str(), own.source.as_str()), ("r", "hello", "App"));
    assert_eq!(own.lists, ["l"]);
    let theirs = service.friend("ben", "anna").unwrap();
    assert_eq!((theirs.remark.as_str(), theirs.wording.as_str()), ("", "hello"), "the remark is the user's own");
    assert!(theirs.lists.is_empty());
}

#[test]
fn rel_02_one_way_makes_one_friend_and_the_other_way_needs_no_asking() {
    let service = Service::start(Settings::default());
    assert_eq!(service.add("anna", &["ben"], true), [DONE]);
    assert_eq!(service.relation("anna", "ben"), Some(Relation::User));
    assert_eq!(service.relation("ben", "anna"), Some(Relation::Other));
    service.allow("anna", AllowType::NeedConfirm);
    assert_eq!(service.add("ben", &["anna"], true), [DONE], "whoever has the user as a friend has agreed");
    assert_eq!(service.relation("ben", "anna"), Some(Relation::Both));
}

#[test]
fn rel_07_requests_are_told_listed_read_and_answered() {
    let service = Service::start(Settings::default());
    service.allow("ben", AllowType::NeedConfirm);
    assert_eq!(service.add("anna", &["ben"], false), [ASKED]);
    let incoming = service.requests("ben", Direction::Incoming);
    let outgoing = service.requests("anna", Direction::Outgoing);
    assert_eq!((incoming.len(), outgoing.len()), (1, 1));
    assert_eq!((incoming[0].user.as_str(), incoming[0].wording.as_str()), ("anna", "hello"));
    let told = service.told();
    assert!(told.contains(&("ben".into(), What::FriendRequest(incoming[0].clone()))));
    assert!(told.contains(&("anna".into(), What::FriendRequest(outgoing[0].clone()))));
    // Asked again, it takes the place of the first.
    assert_eq!(service.add("anna", &["ben"], false), [ASKED]);
    assert_eq!(service.requests("ben", Direction::Incoming).len(), 1);
    service.told();
    let read_ms = service.clock.unix_ms();
    service.change("ben", Kind::Friends(FriendsChange::Read { read_ms })).unwrap();
    assert!(
        matches!(&service.told()[..], [(ben, What::FriendRequestsRead(read))] if ben == "ben" && read.read_ms <= read_ms)
    );
    service.change("ben", Kind::Friends(FriendsChange::Read { read_ms: 5 })).unwrap();
    assert!(service.told().is_empty(), "it never goes back");
    let unknown = Err(Error::Relation(Refusal::RequestUnknown));
    assert_eq!(service.answer("anna", "ben", FriendAnswer::Agree), unknown, "one's own request");
    service.answer("ben", "anna", FriendAnswer::AgreeAndAdd).unwrap();
    let told = service.told();
    let states: Vec<_> = told
        .iter()
        .filter_map(|(user, what)| match what {
            What::FriendRequest(request) => Some((user.as_str(), request.state())),
            _ => None,
        })
        .collect();
    assert_eq!(states, [("ben", FriendRequestState::Agreed), ("anna", FriendRequestState::Agreed)]);
    assert_eq!(friends_told(&told)["anna"], (names(&["ben"]), vec![]));
    assert_eq!(service.relation("anna", "ben"), Some(Relation::Both));
    let kept = service.friend("anna", "ben").unwrap();
    assert_eq!((kept.remark.as_str(), kept.lists.len()), ("r", 1), "what was to be kept from the request on");
    assert_eq!(service.friend("ben", "anna").unwrap().remark, "a remark");
    assert_eq!(service.answer("ben", "anna", FriendAnswer::Agree), unknown, "answered already");
}

#[test]
fn rel_07_a_request_can_be_granted_one_way_refused_dropped_or_met_by_another() {
    let service = Service::start(Settings::default());
    for name in ["ben", "anna", "cleo", "dan"] {
        service.allow(name, AllowType::NeedConfirm);
    }
    assert_eq!(service.add("anna", &["ben", "cleo", "dan"], false), [ASKED; 3]);
    service.answer("ben", "anna", FriendAnswer::Agree).unwrap();
    assert_eq!(service.relation("anna", "ben"), Some(Relation::User));
    service.told();
    service.answer("cleo", "anna", FriendAnswer::Refuse).unwrap();
    assert_eq!(service.relation("anna", "cleo"), Some(Relation::None));
    let told = service.told();
    assert!(matches!(&told[..], [(_, What::FriendRequest(one)), (_, What::FriendRequest(other))]
        if one.state() == FriendRequestState::Refused && other.state() == FriendRequestState::Refused));
    let drop = |direction| FriendsChange::Drop { others: users(&["dan", "ben"]), direction };
    let unknown = Err(Refusal::RequestUnknown);
    assert_eq!(service.friends("anna", drop(Direction::Incoming)), [unknown, unknown], "the other direction");
    assert_eq!(service.friends("anna", drop(Direction::Outgoing)), [DONE, unknown]);
    assert!(service.requests("dan", Direction::Incoming).is_empty());
    // Both ask: the second agrees.
    assert_eq!(service.add("cleo", &["dan"], false), [ASKED]);
    assert_eq!(service.add("dan", &["cleo"], false), [DONE]);
    assert_eq!(service.relation("cleo", "dan"), Some(Relation::Both));
    assert!(service.requests("cleo", Direction::Outgoing).is_empty());
}

#[test]
fn limits_of_friends_lists_and_requests_hold_on_both_sides() {
    let settings = Settings { friends_max: 2, friend_lists_max: 1, friend_requests_max: 1, ..Settings::default() };
    let service = Service::start(settings);
    service.befriend("anna", "ben");
    service.befriend("anna", "cleo");
    assert_eq!(service.add("anna", &["dan"], true), [Err(Refusal::Full)]);
    assert_eq!(service.add("dan", &["anna"], false), [Err(Refusal::PeerFull)]);
    assert_eq!(service.add("dan", &["anna"], true), [DONE], "one way it takes no room of the other's");
    let second = FriendUpdate { lists: Some(names(&["l", "m"])), ..FriendUpdate::default() };
    let update =
        FriendsChange::Update { friends: vec![(user("ben"), second), (user("cleo"), FriendUpdate::default())] };
    assert_eq!(service.friends("anna", update), [Err(Refusal::ListsFull), DONE]);
    let lists = ListsUpdate { lists: names(&["m"]), ..ListsUpdate::default() };
    let full = Err(Error::Relation(Refusal::ListsFull));
    assert_eq!(service.change("anna", Kind::Friends(FriendsChange::Lists(lists))), full);
    service.allow("dan", AllowType::NeedConfirm);
    service.allow("cleo", AllowType::NeedConfirm);
    assert_eq!(service.add("ben", &["dan", "cleo"], false), [ASKED, Err(Refusal::RequestsFull)]);
    assert_eq!(service.add("cleo", &["dan"], false), [Err(Refusal::RequestsFull)], "the other has one");
    // The one who has asked got a second friend meanwhile, and so has no room for a third.
    service.befriend("ben", "cleo");
    assert_eq!(service.answer("dan", "ben", FriendAnswer::Agree), Err(Error::Relation(Refusal::PeerFull)));
    service.answer("dan", "ben", FriendAnswer::Refuse).unwrap();
}

#[test]
fn rel_08_the_blacklist_ends_the_friendship_and_bars_another() {
    let service = Service::start(Settings::default());
    service.befriend("anna", "ben");
    service.allow("anna", AllowType::NeedConfirm);
    assert_eq!(service.add("cleo", &["anna"], false), [ASKED]);
    service.told();
    service.blacklist("anna", &["ben", "cleo"]).unwrap();
    let told = service.told();
    let by_user = friends_told(&told);
    assert_eq!(by_user["anna"], (vec![], names(&["ben"])));
    assert_eq!(by_user["ben"], (vec![], names(&["anna"])));
    let dropped = |(user, what): &&(String, What)| {
        matches!(what, What::FriendRequest(request) if request.state() == FriendRequestState::Dropped) && user == "cleo"
    };
    assert_eq!(told.iter().filter(dropped).count(), 1);
    assert_eq!(service.relation("anna", "ben"), Some(Relation::None));
    assert_eq!(service.add("anna", &["ben"], false), [Err(Refusal::OnBlacklist)]);
    assert_eq!(service.add("ben", &["anna"], false), [Err(Refusal::Blacklisted)]);
    let force = || FriendsChange::Add { friends: new_friends(&["ben"]), one_way: false, force: true };
    assert_eq!(outcomes(service.by_admin("anna", Kind::Friends(force()))), [Err(Refusal::OnBlacklist)]);
    // Each on its own.
    let each =
        Kind::Blacklist { add: users(&["dan", "ben", "nobody", "anna"]), remove: users(&["cleo", "eve"]), each: true };
    let results = outcomes(service.by_admin("anna", each));
    let invalid = Err(Refusal::Invalid);
    assert_eq!(results, [DONE, invalid, Err(Refusal::UserUnknown), invalid, DONE, invalid]);
    let listed = block_on(blacklist::page(&service.store, APP, &user("anna"), None, PAGE)).unwrap().0;
    assert_eq!(listed, users(&["ben", "dan"]));
    let checked = service.relations("ben", &["anna", "cleo", "eve"], Which::Blacklist);
    assert_eq!(checked, [Some(Relation::Other), Some(Relation::None), None]);
}

#[test]
fn rel_05_deleting_goes_one_way_both_ways_and_for_all() {
    let service = Service::start(Settings::default());
    for other in ["ben", "cleo", "dan"] {
        service.befriend("anna", other);
    }
    let delete = |names: &[&str], one_way| FriendsChange::Delete { friends: users(names), one_way };
    assert_eq!(service.friends("anna", delete(&["ben"], true)), [DONE]);
    assert_eq!(service.relation("anna", "ben"), Some(Relation::Other));
    let gone = Err(Refusal::FriendUnknown);
    assert_eq!(service.friends("anna", delete(&["ben", "nobody", "anna"], true)), [gone; 3]);
    assert_eq!(service.friends("anna", delete(&["ben", "cleo"], false)), [DONE, DONE], "what is left of it");
    assert_eq!(service.relation("anna", "ben"), Some(Relation::None));
    assert_eq!(service.relation("cleo", "anna"), Some(Relation::None));
    service.told();
    let all = FriendsChange::DeleteAll { friends: vec![], one_way: true };
    assert_eq!(service.change("anna", Kind::Friends(all.clone())), Ok(Answer::Done));
    assert_eq!(friends_told(&service.told())["anna"], (vec![], names(&["dan"])));
    assert_eq!(service.relation("dan", "anna"), Some(Relation::User), "the other's is the other's");
    assert_eq!(service.change("anna", Kind::Friends(all)), Ok(Answer::Done), "nothing left to do");
}

#[test]
fn rel_03_an_administrator_imports_and_a_user_does_not() {
    let service =
        Service::start(Settings { friend_custom_fields: names(&["Tag_SNS_Custom_A"]), ..Settings::default() });
    let custom: BTreeMap<String, Bytes> = [("Tag_SNS_Custom_A".to_owned(), Bytes::from_static(b"1"))].into();
    let friend = ImportedFriend { lists: names(&["x", "y"]), added_ms: 77, custom, ..ImportedFriend::default() };
    let import = |names: &[&str]| FriendsChange::Import {
        friends: names.iter().map(|name| (user(name), friend.clone())).collect(),
    };
    service.allow("ben", AllowType::DenyAny);
    assert_eq!(service.change("anna", Kind::Friends(import(&["ben"]))), Err(Error::NotAllowed));
    let force = FriendsChange::Add { friends: new_friends(&["ben"]), one_way: true, force: true };
    assert_eq!(service.change("anna", Kind::Friends(force)), Err(Error::NotAllowed));
    let results = outcomes(service.by_admin("anna", Kind::Friends(import(&["ben", "nobody", "anna", "ben"]))));
    let invalid = Err(Refusal::Invalid);
    assert_eq!(results, [DONE, Err(Refusal::UserUnknown), invalid, invalid]);
    let own = service.friend("anna", "ben").unwrap();
    assert_eq!((own.lists, own.added_ms, own.custom), (names(&["x", "y"]), 77, friend.custom.clone()));
    assert_eq!(service.relation("anna", "ben"), Some(Relation::User));
}

#[test]
fn rel_04_rel_09_rel_10_what_is_kept_about_friends_is_changed_many_at_once() {
    let service =
        Service::start(Settings { friend_custom_fields: names(&["Tag_SNS_Custom_A"]), ..Settings::default() });
    service.befriend("anna", "ben");
    service.befriend("anna", "cleo");
    let custom =
        |name: &str, value: &'static [u8]| -> BTreeMap<String, Bytes> { [(name.to_owned(), value.into())].into() };
    let update = |remark: &str, value| FriendUpdate {
        remark: Some(remark.into()),
        lists: Some(names(&["close"])),
        custom: custom("Tag_SNS_Custom_A", value),
    };
    let change = FriendsChange::Update {
        friends: vec![
            (user("ben"), update("B", b"1")),
            (user("dan"), update("D", b"2")),
            (user("cleo"), update("C", b"3")),
        ],
    };
    assert_eq!(service.friends("anna", change), [DONE, Err(Refusal::Invalid), DONE]);
    assert_eq!(friends_told(&service.told())["anna"].0, names(&["ben", "cleo"]));
    let ben = service.friend("anna", "ben").unwrap();
    assert_eq!((ben.remark.as_str(), ben.lists.clone()), ("B", names(&["close"])));
    assert_eq!(ben.custom, custom("Tag_SNS_Custom_A", b"1"));
    let off = FriendUpdate { custom: custom("Tag_SNS_Custom_A", b""), ..FriendUpdate::default() };
    service.friends("anna", FriendsChange::Update { friends: vec![(user("ben"), off)] });
    let now = service.friend("anna", "ben").unwrap();
    assert_eq!((now.custom.len(), now.remark, now.lists), (0, ben.remark, ben.lists), "the rest stays");
    service.told();
    service.friends("anna", FriendsChange::Update { friends: vec![(user("ben"), FriendUpdate::default())] });
    assert!(service.told().is_empty(), "as it is already");
    let undeclared = FriendUpdate { custom: custom("Tag_SNS_Custom_B", b"1"), ..FriendUpdate::default() };
    let update = FriendsChange::Update { friends: vec![(user("ben"), undeclared)] };
    assert!(matches!(service.change("anna", Kind::Friends(update)), Err(Error::Argument(_))));
}

#[test]
fn texts_and_numbers_of_users_have_limits() {
    let service = Service::start(Settings::default());
    let long = |bytes: usize| "x".repeat(bytes);
    let new = |new: NewFriend| FriendsChange::Add { friends: vec![(user("ben"), new)], one_way: false, force: false };
    let refused = [
        new(NewFriend { remark: long(97), ..NewFriend::default() }),
        new(NewFriend { wording: long(257), ..NewFriend::default() }),
        new(NewFriend { source: long(17), ..NewFriend::default() }),
        new(NewFriend { source: "a b".into(), ..NewFriend::default() }),
        new(NewFriend { list: long(31), ..NewFriend::default() }),
        FriendsChange::Delete { friends: vec![user("ben"); 101], one_way: false },
        FriendsChange::Lists(ListsUpdate::default()),
        FriendsChange::Lists(ListsUpdate { lists: names(&["a", "b"]), rename: "c".into(), ..ListsUpdate::default() }),
        FriendsChange::Lists(ListsUpdate { lists: vec![String::new()], ..ListsUpdate::default() }),
        FriendsChange::Lists(ListsUpdate {
            lists: names(&["a"]),
            delete: true,
            add: users(&["ben"]),
            ..Default::default()
        }),
    ];
    for change in refused {
        let answer = service.change("anna", Kind::Friends(change.clone()));
        assert!(matches!(answer, Err(Error::Argument(_))), "{answer:?} to {change:?}");
    }
    let all = FriendsChange::DeleteAll { friends: users(&["ben"]), one_way: false };
    assert_eq!(service.change("anna", Kind::Friends(all)), Err(Error::NotAllowed), "who is deleted is not said");
    let most = NewFriend { remark: long(96), wording: long(256), source: long(16), list: long(30) };
    assert_eq!(service.friends("anna", new(most)), [DONE]);
}

#[test]
fn rel_11_friend_lists_are_made_renamed_filled_and_deleted() {
    let service = Service::start(Settings::default());
    for other in ["ben", "cleo"] {
        let force = FriendsChange::Import { friends: vec![(user(other), ImportedFriend::default())] };
        outcomes(service.by_admin("anna", Kind::Friends(force)));
    }
    service.told();
    let lists = |update: ListsUpdate| service.change("anna", Kind::Friends(FriendsChange::Lists(update)));
    let members = || block_on(friends::members(&service.store, APP, &user("anna"))).unwrap();
    let (close, far) = (names(&["close"]), names(&["far"]));
    let both = ListsUpdate { lists: names(&["close", "far"]), add: users(&["ben", "dan"]), ..ListsUpdate::default() };
    assert_eq!(outcomes(lists(both)), [DONE, Err(Refusal::Invalid)], "dan is no friend");
    assert_eq!(members(), [("close".to_owned(), users(&["ben"])), ("far".to_owned(), users(&["ben"]))]);
    assert!(
        matches!(&service.told()[..], [(_, What::FriendLists(told)), (_, What::Friends(_))] if told.lists == ["close", "far"])
    );
    let swap =
        ListsUpdate { lists: far.clone(), add: users(&["cleo"]), remove: users(&["ben"]), ..ListsUpdate::default() };
    assert_eq!(outcomes(lists(swap)), [DONE, DONE]);
    assert_eq!(members(), [("close".to_owned(), users(&["ben"])), ("far".to_owned(), users(&["cleo"]))]);
    assert_eq!(service.page("anna", Place::default(), Some("far")).friends[0].user, "cleo", "one list's friends");
    service.told();
    let rename = |from: &[String], to: &str| {
        lists(ListsUpdate { lists: from.to_vec(), rename: to.into(), ..Default::default() })
    };
    assert_eq!(outcomes(rename(&close, "near")), []);
    let told = service.told();
    assert!(matches!(&told[..], [(_, What::FriendLists(told))] if told.lists == ["near", "far"]
        && (told.renamed.as_str(), told.to.as_str()) == ("close", "near")));
    assert_eq!(service.friend("anna", "ben").unwrap().lists, ["near"]);
    assert_eq!(rename(&close, "x"), Err(Error::Relation(Refusal::Invalid)), "there is none");
    assert_eq!(rename(&far, "near"), Err(Error::Relation(Refusal::Invalid)), "there is one");
    let delete = ListsUpdate { lists: names(&["near", "nothing"]), delete: true, ..ListsUpdate::default() };
    assert_eq!(outcomes(lists(delete)), []);
    assert!(service.friend("anna", "ben").unwrap().lists.is_empty());
    // A new list of the same name is another one.
    outcomes(lists(ListsUpdate { lists: names(&["near"]), ..ListsUpdate::default() }));
    assert_eq!(members(), [("far".to_owned(), users(&["cleo"])), ("near".to_owned(), vec![])]);
}

#[test]
fn rel_06_rel_14_friends_are_read_in_pages_and_then_what_changed() {
    let service = Service::start(Settings::default());
    let others: Vec<String> = (0..150).map(|n| format!("f{n:03}")).collect();
    for some in others.chunks(100) {
        let some: Vec<UserId> = some.iter().map(|name| user(name)).collect();
        block_on(account::import(&service.store, &service.clock, APP, some.clone())).unwrap();
        let friends = some.into_iter().map(|other| (other, ImportedFriend::default())).collect();
        outcomes(service.by_admin("anna", Kind::Friends(FriendsChange::Import { friends })));
    }
    let read = |mut from: Place, limit: PageLimit| {
        let (mut friends, mut removed, mut pages) = (Vec::new(), Vec::new(), 0);
        loop {
            let anna = user("anna");
            let page = friends::page(&service.store, APP, &anna, from, None, Chosen::basic(), limit);
            let page = block_on(page).unwrap();
            assert!(!page.start_over);
            assert!(Place::from_slice(&page.next.to_bytes()) == Ok(page.next));
            (from, pages) = (page.next, pages + 1);
            friends.extend(page.friends.into_iter().map(|friend| friend.user));
            removed.extend(page.removed.iter().map(UserId::to_string));
            if !page.more {
                return (friends, removed, from, pages);
            }
        }
    };
    let (friends, removed, place, pages) = read(Place::default(), PageLimit { entries_max: 7, ..PAGE });
    assert_eq!((friends, removed.len(), pages), (others, 0, 22));
    assert!(read(Place::default(), PageLimit { entries_max: 100, bytes_max: 300 }).3 > 2, "cut by bytes");
    assert_eq!(read(place, PAGE).0, Vec::<String>::new(), "nothing changed since");
    let remark = FriendUpdate { remark: Some("x".into()), ..FriendUpdate::default() };
    service.friends("anna", FriendsChange::Update { friends: vec![(user("f003"), remark)] });
    service.friends("anna", FriendsChange::Delete { friends: users(&["f001", "f002"]), one_way: false });
    assert_eq!(service.add("anna", &["f002"], false), [DONE]);
    let (changed, removed, ..) = read(place, PageLimit { entries_max: 2, ..PAGE });
    assert_eq!((changed, removed), (names(&["f003", "f002"]), names(&["f001", "f002"])));
    let (all, removed, ..) = read(Place::default(), PageLimit { entries_max: 2, ..PAGE });
    assert_eq!((all.len(), removed.len()), (149, 0), "from the start nobody is gone");
    // While the pages are being read, somebody goes who was in the first of them.
    let limit = PageLimit { entries_max: 3, ..PAGE };
    let anna = user("anna");
    let first = friends::page(&service.store, APP, &anna, Place::default(), None, Chosen::basic(), limit);
    let first = block_on(first).unwrap();
    service.friends("anna", FriendsChange::Delete { friends: users(&["f000"]), one_way: false });
    assert_eq!(first.friends[0].user, "f000");
    assert_eq!(read(first.next, PAGE).1, names(&["f000"]));
    for wrong in [&b"x"[..], &[0; 15], &[0; 17]] {
        assert!(Place::from_slice(wrong).is_err());
    }
    let ahead = Place { after: 1 << 40, base: 0 };
    assert!(service.page("anna", ahead, None).start_over, "of another store");
}

#[test]
fn rel_14_who_was_removed_long_ago_is_not_known_any_more() {
    let service = Service::start(Settings::default());
    service.befriend("anna", "cleo");
    let early = service.page("anna", Place::default(), None).next;
    let once = || {
        outcomes(service.by_admin(
            "anna",
            Kind::Friends(FriendsChange::Import { friends: vec![(user("ben"), ImportedFriend::default())] }),
        ));
        service.friends("anna", FriendsChange::Delete { friends: users(&["ben"]), one_way: true });
    };
    (0..friends::REMOVED_MAX).for_each(|_| once());
    assert!(!service.page("anna", early, None).start_over);
    once();
    let page = service.page("anna", early, None);
    assert!(page.start_over && page.friends.is_empty() && page.count == 1);
    assert_eq!(service.all_friends("anna").len(), 1);
}

#[test]
fn prof_01_prof_03_prof_04_a_profile_is_set_field_by_field_and_read_in_part() {
    let service =
        Service::start(Settings { profile_custom_fields: names(&["Tag_Profile_Custom_A"]), ..Settings::default() });
    let custom = |name: &str, value: &'static [u8]| [(name.to_owned(), Bytes::from_static(value))].into();
    let set = Profile {
        nick: Some("Anna".into()),
        level: Some(3),
        custom: custom("Tag_Profile_Custom_A", b"1"),
        ..Profile::default()
    };
    service.set("anna", set.clone()).unwrap();
    let told = Profile { user: "anna".into(), ..set.clone() };
    assert_eq!(service.told(), [("anna".to_owned(), What::Profile(told.clone()))]);
    service.set("anna", set).unwrap();
    assert!(service.told().is_empty(), "as it is already");
    service.set("anna", Profile { nick: Some(String::new()), ..Profile::default() }).unwrap();
    assert_eq!(service.profile("anna"), Some(Profile { nick: Some(String::new()), ..told }));
    assert_eq!(service.profile("nobody"), None);
    assert_eq!(service.profile("ben"), Some(Profile { user: "ben".into(), ..Profile::default() }));
    let fields = ProfileFields { fields: vec![12], custom: vec![] };
    let chosen = profile::profiles(&service.store, APP, users(&["anna"]), Chosen::of(&fields).unwrap());
    assert_eq!(block_on(chosen), Ok(vec![Some(Profile { user: "anna".into(), level: Some(3), ..Profile::default() })]));
    let undeclared = Profile { custom: custom("Tag_Profile_Custom_B", b"1"), ..Profile::default() };
    assert_eq!(service.set("anna", undeclared), Err(Error::Profile(Invalid::Unknown)));
    let forbid = Profile { requests_forbidden: Some(true), ..Profile::default() };
    assert_eq!(service.set("anna", forbid.clone()), Err(Error::Profile(Invalid::ReadOnly)));
    service.by_admin("anna", Kind::Profile(ProfileChange::Set(Box::new(forbid)))).unwrap();
    assert_eq!(service.add("anna", &["ben", "cleo"], false), [Err(Refusal::Forbidden); 2]);
    assert_eq!(service.add("ben", &["anna"], true), [DONE], "others may ask");
    let nobody = Kind::Profile(ProfileChange::Set(Box::default()));
    assert_eq!(service.by_admin("nobody", nobody), Err(Error::UserInvalid));
}

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

#[test]
fn prof_05_everybody_who_has_the_user_as_a_friend_is_told_some_at_a_time() {
    let service = Service::start(Settings::default());
    let followers = with_followers(&service, "anna", 230);
    let before = *service.parts.lock().unwrap();
    assert_eq!(service.set("anna", Profile { nick: Some("A".into()), ..Profile::default() }), Ok(Answer::Done));
    assert_eq!(*service.parts.lock().unwrap() - before, 4, "the user, and three times some of the others");
    let told = Profile { user: "anna".into(), nick: Some("A".into()), ..Profile::default() };
    let everybody = ["anna".to_owned()].into_iter().chain(followers);
    let expected: Vec<_> = everybody.map(|name| (name, What::Profile(told.clone()))).collect();
    assert_eq!(service.told(), expected);
    assert_eq!(block_on(unfinished::acts(&service.store)).unwrap().len(), 0);
    // What a process has left behind that died in between: the rest is told, as the profile is now.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Unfinished {
        #[prost(bytes = "bytes", tag = "1")]
        fields: Bytes,
        #[prost(uint64, tag = "2")]
        round: u64,
        #[prost(string, tag = "3")]
        after: String,
    }
    let fields = ProfileFields { fields: vec![2], custom: vec![] }.encode_to_vec().into();
    let left = Unfinished { fields, round: 9, after: "f099".into() }.encode_to_vec();
    let put = async move |tx: &Tx| -> Result<(), StoreError> {
        tx.set(keys::unfinished(APP, &user("anna")), left.clone());
        Ok(())
    };
    block_on(service.store.run(Lane::Write, "leave", put)).unwrap();
    for act in block_on(unfinished::acts(&service.store)).unwrap() {
        service.act(act).unwrap();
    }
    assert_eq!(service.told(), expected[101..]);
    assert_eq!(block_on(unfinished::acts(&service.store)).unwrap().len(), 0);
}

#[test]
fn rel_05_all_friends_are_deleted_some_at_a_time() {
    let service = Service::start(Settings::default());
    let others = with_followers(&service, "anna", 230);
    for some in others.chunks(100) {
        let friends = some.iter().map(|name| (user(name), ImportedFriend::default())).collect();
        outcomes(service.by_admin("anna", Kind::Friends(FriendsChange::Import { friends })));
    }
    let before = *service.parts.lock().unwrap();
    let all = FriendsChange::DeleteAll { friends: vec![], one_way: false };
    assert_eq!(service.change("anna", Kind::Friends(all)), Ok(Answer::Done));
    assert_eq!(*service.parts.lock().unwrap() - before, 4);
    assert!(service.all_friends("anna").is_empty());
    assert!(others.iter().all(|other| service.all_friends(other).is_empty()));
}

#[test]
fn acc_03_a_deleted_account_is_gone_for_everybody_and_begins_anew() {
    let service = Service::start(Settings::default());
    let followers = with_followers(&service, "anna", 130);
    service.befriend("anna", "ben");
    service.allow("cleo", AllowType::NeedConfirm);
    assert_eq!(service.add("anna", &["cleo"], false), [ASKED]);
    service.blacklist("anna", &["dan"]).unwrap();
    service.set("anna", Profile { nick: Some("A".into()), ..Profile::default() }).unwrap();
    // An element with a text.
    let body = Bytes::from_static(b"\x0a\x05\x0a\x03\x0a\x01a");
    let message = |from: &str, to: &str, id: &'static [u8]| {
        Act::Send(NewMessage::new(APP, user(from), user(to), Bytes::from_static(id), body.clone()))
    };
    service.act(message("ben", "anna", b"1")).unwrap();
    service.act(message("anna", "ben", b"2")).unwrap();
    service.told();
    let login = |issued_s: u64| {
        let usersig = usersig::sign(APP, SECRET, "anna", issued_s, 1_000_000);
        block_on(account::login(&service.store, &service.clock, false, APP, &user("anna"), usersig))
    };
    let now_s = service.clock.unix_ms() / 1000;
    login(now_s).unwrap();
    assert_eq!(service.change("anna", Kind::Erase(Erase::Account)), Err(Error::NotAllowed), "not by the user");
    assert_eq!(service.by_admin("anna", Kind::Erase(Erase::Account)), Ok(Answer::Done));
    let told = service.told();
    let by_user = friends_told(&told);
    for name in followers.iter().map(String::as_str).chain(["ben"]) {
        assert_eq!(by_user[name], (vec![], names(&["anna"])), "{name}");
    }
    assert!(service.requests("cleo", Direction::Incoming).is_empty());
    assert_eq!(block_on(account::exist(&service.store, APP, users(&["anna", "ben"]))), Ok(vec![false, true]));
    assert_eq!(service.profile("anna"), None);
    assert_eq!(service.relation("ben", "anna"), None);
    assert_eq!(service.act(message("ben", "anna", b"3")), Err(Error::UserInvalid));
    assert_eq!(service.add("ben", &["anna"], false), [Err(Refusal::UserUnknown)]);
    assert_eq!(service.by_admin("anna", Kind::Erase(Erase::Account)), Err(Error::UserInvalid), "deleted already");
    assert_eq!(login(now_s), Err(usersig::Invalid::Invalidated.into()));
    assert_eq!(
        block_on(account::invalidate_usersigs(&service.store, &service.clock, APP, &user("anna"))),
        Err(Error::UserInvalid)
    );
    login(service.clock.unix_ms() / 1000 + 100).unwrap();
    assert_eq!(service.profile("anna"), Some(Profile { user: "anna".into(), ..Profile::default() }), "empty");
    assert!(service.all_friends("anna").is_empty());
    let store = &service.store;
    let log = block_on(sync::events(store, APP, &user("anna"), From::Cursor(Versionstamp::ZERO, Bytes::new()), PAGE))
        .unwrap();
    assert!(log.events.is_empty() && log.start_over);
    let list = block_on(conversations::list(store, APP, &user("anna"), None, None, PAGE)).unwrap();
    assert!(list.entries.is_empty());
    let query = HistoryQuery { start: Start::End, forward: false, limit: PAGE };
    assert!(block_on(history::page(store, APP, &user("anna"), &user("ben"), query)).unwrap().messages.is_empty());
    assert_eq!(block_on(history::page(store, APP, &user("ben"), &user("anna"), query)).unwrap().messages.len(), 2);
    service.act(message("ben", "anna", b"3")).unwrap();
    let entry = block_on(conversations::list(store, APP, &user("anna"), None, None, PAGE)).unwrap().entries.remove(0);
    assert_eq!(entry.unread, 1);
    service.act(message("dan", "anna", b"1")).expect("the blacklist was the old account's");
}

#[test]
fn acc_03_nobody_logs_in_while_what_the_account_left_is_being_removed() {
    let service = Service::start(Settings::default());
    service.befriend("anna", "ben");
    // As a process leaves it that died behind the first transaction of the deletion.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Record {
        #[prost(bool, tag = "3")]
        deleted: bool,
        #[prost(bool, tag = "4")]
        erase: bool,
    }
    let put = async move |tx: &Tx| -> Result<(), StoreError> {
        tx.set(keys::account(APP, &user("anna")), Record { deleted: true, erase: false }.encode_to_vec());
        tx.set(keys::unfinished(APP, &user("anna")), Record { deleted: false, erase: true }.encode_to_vec());
        Ok(())
    };
    block_on(service.store.run(Lane::Write, "leave", put)).unwrap();
    let login = || {
        let usersig = usersig::sign(APP, SECRET, "anna", service.clock.unix_ms() / 1000, 1_000);
        block_on(account::login(&service.store, &service.clock, false, APP, &user("anna"), usersig))
    };
    assert_eq!(login(), Err(Error::Store(StoreError::Busy)));
    for act in block_on(unfinished::acts(&service.store)).unwrap() {
        service.act(act).unwrap();
    }
    assert_eq!(service.relation("ben", "anna"), None);
    login().unwrap();
    assert_eq!(service.relation("ben", "anna"), Some(Relation::None));
}
