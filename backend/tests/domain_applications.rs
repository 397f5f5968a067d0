//! Goal: applications of one deployment are apart, what an operator says of them holds from the next act on,
//! and nothing of a deleted one stays (CON-01, CON-02, CON-04).
//!
//! Mechanics: the domain on the memory engine, and for what may happen meanwhile one that conflicts for no
//! reason and forgets to answer commits.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
    mpsc,
};

use backend::{
    domain::{
        AppId, Error, UserId, account,
        act::Act,
        applications::{self, NewApplication, Put, Refused},
        figures::{self, DAYS, Figure},
        inspect,
        message::NewMessage,
        retention::{Keep, Retention},
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        settings::{LoginPolicy, Settings},
        unsettled::Late,
        usersig::{self, Invalid},
    },
    env::{Clock, SeededRng},
    store::{Committed, Faults, Memory, Store, StoreOptions},
};
use futures::executor::block_on;
use prost::Message as _;
use protocol::message::{Body, Element, Text, element::Kind};
use serde_json::{Map, Value, json};

const APP: AppId = 7;
const SECRET: &str = "a secret of sixteen and more";
const OTHER_SECRET: &str = "another secret, as long as it must be";
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
    answers: Mutex<mpsc::Receiver<Completion<()>>>,
}

impl Service {
    fn start() -> Self {
        Service::with(Faults::default())
    }

    fn with(faults: Faults) -> Self {
        let hand = Arc::new(HandClock(AtomicU64::new(START_S * 1000)));
        let clock: Arc<dyn Clock> = hand.clone();
        let engine = Arc::new(Memory::new(1, faults));
        let options = StoreOptions { retry_attempts_max: 1000, ..StoreOptions::default() };
        let store = Store::new(engine, clock.clone(), Arc::new(SeededRng::new(1)), options);
        let (sender, answers) = mpsc::channel();
        let queue = SendQueue::new(store.clone(), clock.clone(), SendLimits::default(), Answers(sender));
        Service { store, hand, clock, queue, answers: Mutex::new(answers) }
    }

    fn put(&self, new: NewApplication) -> Result<Put, Refused> {
        block_on(applications::put_application(&self.store, &self.clock, new))
    }

    fn create(&self, app: AppId, secret: &str) -> Result<(), Refused> {
        block_on(applications::create(&self.store, &self.clock, NewApplication::new(app, secret)))
    }

    fn set(&self, app: AppId, patch: Value) -> Result<Settings, Refused> {
        let Value::Object(patch) = patch else { panic!("an object") };
        block_on(applications::change_settings(&self.store, app, patch))
    }

    fn rotate(&self, secret: &str, until_s: u64, drop_previous: bool) -> Result<(), Refused> {
        let secret = secret.to_owned();
        block_on(applications::rotate_key(&self.store, &self.clock, APP, secret, until_s, drop_previous))
    }

    fn delete(&self, app: AppId) -> Result<(), Refused> {
        block_on(applications::delete(&self.store, &self.clock, app))
    }

    fn settings(&self) -> Settings {
        block_on(applications::show(&self.store, APP)).ok().unwrap().settings
    }

    fn login_with(&self, app: AppId, name: &str, secret: &str) -> Result<(), Error> {
        let usersig = usersig::sign(app, secret, name, START_S, 1_000_000);
        block_on(account::login(&self.store, &self.clock, false, app, &user(name), usersig)).map(|_| ())
    }

    fn send(&self, app: AppId, from: &str, to: &str, id: &'static str) -> Result<(), Error> {
        let kind = Some(Kind::Text(Text { text: "hello".into() }));
        let body = Body { elements: vec![Element { kind }], ..Body::default() }.encode_to_vec();
        let message = NewMessage::new(app, user(from), user(to), id.as_bytes().into(), body.into());
        self.queue.submit((), Act::Send(message))?;
        self.answers.lock().unwrap().recv().unwrap().outcome.map(|_| ())
    }

    /// Removes what is left of deleted applications; how many keys.
    fn remove(&self) -> usize {
        let keep = Keep { message_days: 0, event_days: 0 };
        let retention = Retention::new(self.store.clone(), self.clock.clone(), &SeededRng::new(2), keep);
        let mut deleted = 0;
        loop {
            let round = block_on(retention.round()).unwrap();
            deleted += round.deleted;
            if !round.more {
                return deleted;
            }
        }
    }

    fn check(&self) {
        let checked = inspect::check(&self.store, &mut |problem| panic!("{problem}")).unwrap();
        assert_eq!(checked.unknown, 0);
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn with_settings(settings: Value) -> NewApplication {
    let Value::Object(settings) = settings else { panic!("an object") };
    NewApplication { settings: Settings::parse(settings).unwrap(), ..NewApplication::new(APP, SECRET) }
}

#[test]
fn con_01_applications_are_created_listed_and_apart() {
    let service = Service::start();
    for app in [APP, 300, u32::MAX, 1] {
        service.create(app, SECRET).unwrap();
    }
    assert_eq!(service.create(300, OTHER_SECRET), Err(Refused::Exists(300)));
    service.login_with(300, "anna", SECRET).unwrap();
    let listed = block_on(applications::list(&service.store)).unwrap();
    assert_eq!(listed.iter().map(|application| application.app).collect::<Vec<_>>(), [1, APP, 300, u32::MAX]);
    // The same key, the same name: still another application.
    let usersig = usersig::sign(300, SECRET, "anna", START_S, 1000);
    let other = block_on(account::login(&service.store, &service.clock, false, APP, &user("anna"), usersig));
    assert_eq!(other.unwrap_err(), Invalid::OtherApplication.into());
    service.login_with(APP, "ben", SECRET).unwrap();
    assert_eq!(service.send(APP, "ben", "anna", "1"), Err(Error::UserInvalid), "anna is in another application");
    for (new, wrong) in [
        (NewApplication::new(0, SECRET), "sdkappid must not be 0"),
        (NewApplication::new(8, "short"), "secret must have at least 16 characters"),
    ] {
        let created = block_on(applications::create(&service.store, &service.clock, new));
        assert_eq!(created, Err(Refused::Invalid(wrong.into())));
    }
    service.check();
}

#[test]
fn con_02_what_is_set_holds_for_the_next_act_and_the_file_counts_when_it_says_something_new() {
    let service = Service::start();
    assert_eq!(service.put(with_settings(json!({"recall_seconds": 5, "blacklist": false}))), Ok(Put::Created));
    service.set(APP, json!({"recall_seconds": 60, "edit_seconds": 9})).unwrap();
    // The next start, with the same file: nothing that was set is taken back.
    assert_eq!(service.put(with_settings(json!({"recall_seconds": 5, "blacklist": false}))), Ok(Put::Unchanged));
    assert_eq!((service.settings().recall_seconds, service.settings().edit_seconds), (60, 9));
    // The file says something else of one setting, and leaves one out that it named.
    assert_eq!(service.put(with_settings(json!({"recall_seconds": 7}))), Ok(Put::Changed));
    let settings = service.settings();
    assert_eq!((settings.recall_seconds, settings.edit_seconds, settings.blacklist), (7, 9, true));
    // Back to what it was set to: that is new, too.
    assert_eq!(service.put(with_settings(json!({"recall_seconds": 5}))), Ok(Put::Changed));
    assert_eq!(service.settings().recall_seconds, 5);

    for name in ["anna", "ben"] {
        service.login_with(APP, name, SECRET).unwrap();
    }
    service.send(APP, "anna", "ben", "1").unwrap();
    service.set(APP, json!({"friends_only": true})).unwrap();
    assert_eq!(service.send(APP, "anna", "ben", "2"), Err(Error::NotFriends));
    service.set(APP, json!({"friends_only": null, "login_policy": "multi"})).unwrap();
    service.send(APP, "anna", "ben", "3").unwrap();
    assert_eq!(service.settings().login_policy, LoginPolicy::Multi);
    let wrong = service.set(APP, json!({"recal": 1})).unwrap_err();
    assert!(wrong.to_string().starts_with("settings.recal is no setting"), "{wrong}");
    assert_eq!(service.set(8, Map::new().into()), Err(Refused::Unknown(8)));
    service.check();
}

#[test]
fn con_01_a_rotated_key_is_good_until_its_date_and_the_file_does_not_bring_it_back() {
    let service = Service::start();
    service.put(NewApplication::new(APP, SECRET)).unwrap();
    service.rotate(OTHER_SECRET, START_S + 100, false).unwrap();
    service.login_with(APP, "anna", SECRET).unwrap();
    service.login_with(APP, "anna", OTHER_SECRET).unwrap();
    let third = "a third secret, long enough as well";
    let refused = service.rotate(third, START_S + 200, false);
    assert_eq!(refused, Err(Refused::PreviousKeyGood { app: APP, until_s: START_S + 100 }));
    // A start with the file as it was.
    assert_eq!(service.put(NewApplication::new(APP, SECRET)), Ok(Put::Unchanged));
    service.login_with(APP, "anna", OTHER_SECRET).unwrap();
    let wrong = Err(Invalid::WrongSignature.into());
    service.hand.0.store((START_S + 100) * 1000, Ordering::Relaxed);
    assert_eq!(service.login_with(APP, "anna", SECRET), wrong);
    service.login_with(APP, "anna", OTHER_SECRET).unwrap();
    service.rotate(third, START_S + 300, false).unwrap();
    service.rotate(SECRET, START_S, true).unwrap();
    assert_eq!(service.login_with(APP, "anna", third), wrong, "its date has passed");
    assert_eq!(service.login_with(APP, "anna", OTHER_SECRET), wrong, "dropped");
    service.login_with(APP, "anna", SECRET).unwrap();
    // A file with another key.
    assert_eq!(service.put(NewApplication::new(APP, OTHER_SECRET)), Ok(Put::Changed));
    assert_eq!(service.login_with(APP, "anna", SECRET), wrong);
    service.login_with(APP, "anna", OTHER_SECRET).unwrap();
}

#[test]
fn con_01_nothing_of_a_deleted_application_stays_and_its_neighbours_do() {
    let service = Service::start();
    for app in [APP - 1, APP, APP + 1] {
        service.create(app, SECRET).unwrap();
        ["anna", "ben"].iter().for_each(|name| service.login_with(app, name, SECRET).unwrap());
        service.send(app, "anna", "ben", "1").unwrap();
    }
    let ids: Vec<&'static str> = (0..300).map(|id| &*format!("more {id}").leak()).collect();
    ids.iter().for_each(|id| service.send(APP, "anna", "ben", id).unwrap());
    service.delete(APP).unwrap();
    service.delete(APP).unwrap(); // once more changes nothing
    assert_eq!(service.delete(9), Err(Refused::Unknown(9)));
    assert_eq!(service.send(APP, "anna", "ben", "2"), Err(Error::ApplicationUnknown));
    assert_eq!(service.send(APP, "anna", "ben", "1"), Err(Error::ApplicationUnknown), "not even a repeat");
    assert_eq!(service.login_with(APP, "anna", SECRET), Err(Error::ApplicationUnknown));
    assert_eq!(service.create(APP, SECRET), Err(Refused::BeingRemoved(APP)));
    assert_eq!(service.put(NewApplication::new(APP, SECRET)), Err(Refused::BeingRemoved(APP)));
    service.check();
    assert!(service.remove() > 1200);
    assert_eq!(service.remove(), 0);
    service.check();
    let stats = inspect::stats(&service.store).unwrap();
    assert_eq!(stats.applications.keys().copied().collect::<Vec<_>>(), [0, APP - 1, APP + 1]);
    service.send(APP - 1, "anna", "ben", "2").unwrap();
    // Anew, and empty.
    service.create(APP, SECRET).unwrap();
    service.login_with(APP, "anna", SECRET).unwrap();
    assert_eq!(service.send(APP, "anna", "ben", "3"), Err(Error::UserInvalid));
}

#[test]
fn what_is_sent_while_an_application_is_deleted_is_refused_or_removed() {
    for seed in 0..20 {
        println!("seed {seed}");
        let faults = Faults { conflict: 200, maybe_committed: 50, ..Faults::default() };
        let service = Service::with(faults);
        service.create(APP, SECRET).unwrap();
        ["anna", "ben"].iter().for_each(|name| service.login_with(APP, name, SECRET).unwrap());
        let ids: Vec<&'static str> = (0..200).map(|id| &*format!("{id}").leak()).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| ids.iter().for_each(|id| _ = service.send(APP, "anna", "ben", id)));
            scope.spawn(|| {
                service.delete(APP).unwrap();
                service.remove();
            });
        });
        service.remove();
        let stats = inspect::stats(&service.store).unwrap();
        assert_eq!(stats.applications.keys().copied().collect::<Vec<_>>(), [0]);
    }
}

#[test]
fn every_change_is_noticed() {
    let service = Service::start();
    let mut seen = 0;
    let mut change = |what: &dyn Fn()| {
        let (version, watch) = block_on(applications::watch(&service.store)).unwrap();
        assert!(version >= seen);
        seen = version + 1;
        what();
        block_on(watch).unwrap();
    };
    change(&|| service.create(APP, SECRET).unwrap());
    change(&|| _ = service.set(APP, json!({"recall_seconds": 1})).unwrap());
    change(&|| service.rotate(OTHER_SECRET, START_S + 1, false).unwrap());
    change(&|| service.delete(APP).unwrap());
}

#[test]
fn con_10_figures_are_added_up_by_the_day_and_forgotten() {
    let service = Service::with(Faults { conflict: 200, ..Faults::default() });
    service.create(APP, SECRET).unwrap();
    let add = |day: u64, counted: &[(AppId, Figure, u64)]| {
        block_on(figures::add(&service.store, day, counted.to_vec())).unwrap();
    };
    // In Beijing the day begins eight hours before it does here.
    let day = figures::day(20_000 * 86_400_000 - 8 * 3_600_000);
    assert_eq!((day, figures::day(20_000 * 86_400_000 - 8 * 3_600_000 - 1)), (20_000, 19_999));
    add(day, &[(APP, Figure::Logins, 2), (APP, Figure::Messages, 5), (99, Figure::Logins, 1)]);
    add(day, &[(APP, Figure::Messages, 7)]);
    let all = |app| block_on(figures::all(&service.store, app)).unwrap();
    let first = (day, vec![(Figure::Logins as u32, 2), (Figure::Messages as u32, 12)]);
    assert_eq!(all(APP), [first.clone()].into());
    assert!(all(99).is_empty(), "nothing is written for an application that is not there");
    add(day + DAYS - 1, &[(APP, Figure::Logins, 1)]);
    let last = (day + DAYS - 1, vec![(Figure::Logins as u32, 1)]);
    assert_eq!(all(APP), [first, last.clone()].into());
    add(day + DAYS, &[(APP, Figure::Logins, 1)]);
    assert_eq!(all(APP), [last, (day + DAYS, vec![(Figure::Logins as u32, 1)])].into());
    inspect::check(&service.store, &mut |problem| panic!("{problem}")).unwrap();
}
