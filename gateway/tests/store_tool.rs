//! `gateway store check` and `gateway store stats`, from outside.
//!
//! Goal: a sound store is called so, each kind of damage is named in one line with exit status 1, a store
//! that is in use or not there is refused. Mechanics: the domain fills a store in this process; keys are
//! then changed behind its back, and the built program looks at it.

use std::{
    path::Path,
    process::{Command, Output},
    sync::{Arc, mpsc},
};

use backend::{
    domain::{
        AppId, UserId, account,
        act::Act,
        applications::{self, NewApplication},
        change::{
            Change, Kind,
            friends::{FriendsChange, NewFriend},
        },
        keys::{self, Conversation, Direction, Tail},
        message::NewMessage,
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        unsettled::Late,
        usersig,
    },
    env::{Clock, SeededRng, SystemClock},
    store::{Committed, Embedded, EmbeddedOptions, OpenError, Store, StoreOptions, Tx},
};
use futures::executor::block_on;

const APP: AppId = 1_400_000_009;
const SECRET: &str = "a secret for tests only";

struct Answers(mpsc::Sender<Completion<()>>);

impl Outbox for Answers {
    type Origin = ();

    fn complete(&self, batch: Vec<Completion<()>>, _: Option<Committed>) {
        batch.into_iter().for_each(|completion| self.0.send(completion).expect("somebody waits"));
    }

    fn late(&self, _: Vec<Late>) {}
}

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a name")
}

fn open(folder: &Path) -> Store {
    let clock = Arc::new(SystemClock::default());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let options = EmbeddedOptions { disk_reserve_bytes: 0, ..EmbeddedOptions::default() };
        match Embedded::open(&folder.join("store"), options, clock.clone()) {
            // Another test's child may hold a copy of the lock from its fork to its exec.
            Err(OpenError::InUse { .. }) if std::time::Instant::now() < deadline => std::thread::yield_now(),
            engine => {
                let engine = Arc::new(engine.expect("opens"));
                return Store::new(engine, clock, Arc::new(SeededRng::new(1)), StoreOptions::default());
            }
        }
    }
}

/// Two accounts that are friends, and two messages each way.
fn fill(store: &Store) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    block_on(applications::put_application(store, &clock, NewApplication::new(APP, SECRET))).expect("is written");
    for name in ["anna", "ben"] {
        let usersig = usersig::sign(APP, SECRET, name, clock.unix_ms() / 1000, 3600);
        block_on(account::login(store, &clock, true, APP, &user(name), usersig)).expect("logs in");
    }
    let (sender, answers) = mpsc::channel();
    let queue = SendQueue::new(store.clone(), clock, SendLimits::default(), Answers(sender));
    for (from, to, id) in [("anna", "ben", 1), ("ben", "anna", 2), ("anna", "ben", 3), ("ben", "anna", 4)] {
        let id = format!("message {id}").into();
        // One text element, "hello".
        let body = b"\x0a\x09\x0a\x07\x0a\x05hello".as_slice().into();
        let message = NewMessage::new(APP, user(from), user(to), id, body);
        queue.submit((), Act::Send(message)).expect("is taken");
        answers.recv().expect("is answered").outcome.expect("is stored");
    }
    let friends = vec![(user("ben"), NewFriend::default())];
    let kind = Kind::Friends(FriendsChange::Add { friends, one_way: false, force: false });
    queue.submit((), Act::Change(Box::new(Change::new(APP, user("anna"), kind)))).expect("is taken");
    answers.recv().expect("is answered").outcome.expect("is done");
}

fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    fill(&store);
    store.shutdown();
    folder
}

fn change(folder: &Path, change: impl FnOnce(&Tx)) {
    let store = open(folder);
    let tx = store.begin().expect("begins");
    change(&tx);
    block_on(tx.commit()).expect("commits");
    store.shutdown();
}

fn gateway_store(what: &str, folder: &Path) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    for (variable, _) in std::env::vars().filter(|(name, _)| name.starts_with("GATEWAY_")) {
        command.env_remove(variable);
    }
    command.args(["store", what, "--store-path"]).arg(folder);
    let Output { status, stdout, stderr } = command.current_dir(folder).output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn a_sound_store_is_called_so() {
    let folder = filled();
    let (code, said, errors) = gateway_store("check", folder.path());
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{said}");
    assert!(said.starts_with("checked ") && said.ends_with(" keys: no problem\n"), "{said}");
}

#[test]
fn every_kind_of_damage_is_named() {
    type Damage = (fn(&Tx), &'static [&'static str]);
    let damages: &[Damage] = &[
        (
            |tx| tx.clear(&keys::message(APP, Conversation::between(&user("anna"), &user("ben")), 2)),
            &[
                r#"(1400000009, 4, 1, "anna", "ben", 3): the messages from 2 to 2 are missing before it"#,
                "its message, sequence 2, is not there",
                "its message, sequence 2 with ben, is not there",
                "its message, sequence 2 with anna, is not there",
            ],
        ),
        (
            |tx| tx.clear(&keys::message(APP, Conversation::between(&user("anna"), &user("ben")), 4)),
            &[
                r#"(1400000009, 3, 1, "anna", "ben"): the messages from 4 to 4 are missing"#,
                "its message, sequence 4, is not there",
                "its message, sequence 4 with ben, is not there",
                "its message, sequence 4 with anna, is not there",
            ],
        ),
        (
            |tx| tx.clear(&keys::conversation_head(APP, Conversation::between(&user("anna"), &user("ben")))),
            &[r#"(1400000009, 4, 1, "anna", "ben", 1): its conversation has no head"#, "its conversation has no head"],
        ),
        (
            |tx| tx.set(keys::account(APP, &user("anna")), "not a record"),
            &[r#"(1400000009, 2, "anna"): does not decode"#],
        ),
        (
            |tx| tx.set(keys::sent(APP, &user("anna"), b"other"), b"\x0a\x03ben\x10\x01".as_slice()),
            &[r#"(1400000009, 5, "anna", 0x6f74686572): sequence 1 is another message"#],
        ),
        (
            |tx| {
                let (anna, ben) = (user("anna"), user("ben"));
                let conversation = Conversation::between(&anna, &ben);
                tx.set(keys::kept(APP, &anna, &ben.clone().into()), "not a record");
                tx.set(Tail::from(conversation).pin(APP, 1), "not a record");
                tx.set(Tail::from(conversation).extension(APP, 1, "like"), "not a record");
                tx.set(Tail::from(conversation).extension_counter(APP, 1), "not a number");
                tx.set(keys::deleted(APP, &anna, &ben.clone().into(), 1), "not empty");
            },
            &[
                r#"(1400000009, 30, "anna", 1, "ben"): does not decode"#,
                r#"(1400000009, 32, "anna", 1, "ben", 1): does not decode"#,
                r#"(1400000009, 34, 1, "anna", "ben", 1): does not decode"#,
                r#"(1400000009, 34, 1, "anna", "ben", 1, "like"): does not decode"#,
                r#"(1400000009, 35, 1, "anna", "ben", 1): does not decode"#,
            ],
        ),
        (
            |tx| tx.clear(&keys::friend_change(APP, &user("anna"), 1)),
            &[r#"(1400000009, 42, "anna", "ben"): the index of friends does not name it at sequence 1"#],
        ),
        (
            // Ben has forgotten anna, and his book has not.
            |tx| tx.clear(&keys::friend(APP, &user("ben"), &user("anna"))),
            &[
                r#"(1400000009, 37, "ben", "anna"): says that they are friends, and nothing is kept about the friend"#,
                r#"(1400000009, 43, "ben"): friends: 1 are noted, 0 are there"#,
                "the friend that it names did not change last at this sequence",
                r#"(1400000009, 48, "anna", "ben"): the other does not have the user as a friend"#,
            ],
        ),
        (
            |tx| {
                tx.clear(&keys::relation(APP, &user("anna"), &user("ben")));
                tx.clear(&keys::kept_by(APP, &user("ben"), &user("anna")));
            },
            &["sends would not find that they are friends", "it is not in the index of who has whom as a friend"],
        ),
        (
            // A request that only cleo knows of, and that her book does not count.
            |tx| tx.set(keys::friend_request(APP, &user("cleo"), Direction::Incoming, &user("anna")), Vec::new()),
            &["the other does not have it", "its user has no book of friends"],
        ),
        (
            |tx| tx.set(keys::profile(APP, &user("anna")), "not a record"),
            &[r#"(1400000009, 41, "anna"): does not decode"#],
        ),
        (|tx| tx.set("no tuple", "1"), &["0x6e6f207475706c65: not a key that this program writes"]),
    ];
    for (damage, expected) in damages {
        let folder = filled();
        change(folder.path(), damage);
        let (code, said, errors) = gateway_store("check", folder.path());
        assert_eq!((code, errors.as_str()), (Some(1), ""), "{said}");
        let lines: Vec<&str> = said.lines().collect();
        let (last, problems) = lines.split_last().expect("a last line");
        assert_eq!(problems.len(), expected.len(), "{said}");
        for (problem, expected) in problems.iter().zip(*expected) {
            assert!(problem.starts_with("problem: (") || problem.starts_with("problem: 0x"), "{said}");
            assert!(problem.ends_with(expected), "{expected} in {said}");
        }
        let count = match problems.len() {
            1 => "1 problem".to_owned(),
            count => format!("{count} problems"),
        };
        assert!(last.ends_with(&count), "{said}");
    }
}

#[test]
fn what_a_newer_program_wrote_is_left_alone() {
    let folder = filled();
    // The tuple (1400000009, 1000), packed.
    const NEWER: [u8; 8] = [0x18, 0x53, 0x72, 0x4e, 0x09, 0x16, 0x03, 0xe8];
    change(folder.path(), |tx| tx.set(NEWER.to_vec(), "?"));
    let (code, said, _) = gateway_store("check", folder.path());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("no problem; 1 of a newer program's kinds were not looked into\n"), "{said}");
}

#[test]
fn what_is_stored_is_counted() {
    let folder = filled();
    let (code, said, errors) = gateway_store("stats", folder.path());
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{said}");
    let (deployment, application) = said.split_once("application 1400000009\n").expect("the application's part");
    assert!(deployment.starts_with("deployment\n"), "{said}");
    let row = |name: &str| {
        let mut lines = application.lines();
        let line = lines.find(|line| line.trim_start().starts_with(name)).unwrap_or_else(|| panic!("{said}"));
        let numbers = line.trim_start().trim_start_matches(name);
        numbers.split_whitespace().next().and_then(|count| count.parse::<u64>().ok()).expect("a count")
    };
    assert_eq!(["accounts", "conversations", "messages", "event logs", "answers to sends"].map(row), [2, 1, 4, 10, 4]);
    // Beside those the application itself, the conversation's hour, its entry in both lists, and on either side the
    // friend, the relation, the book, and the entries in both indexes.
    assert_eq!(row("in all"), 2 + 1 + 4 + 10 + 4 + 1 + 1 + 2 + 2 * 5);
    assert!(said.lines().last().is_some_and(|line| line.starts_with("on disk: ")), "{said}");
}

#[test]
fn a_store_in_use_or_not_there_is_refused() {
    let folder = filled();
    let store = open(folder.path());
    for what in ["check", "stats"] {
        let (code, said, errors) = gateway_store(what, folder.path());
        assert_eq!((code, said.as_str()), (Some(1), ""));
        let in_use = format!("is in use by process {}", std::process::id());
        assert!(errors.starts_with("gateway: the store at ") && errors.contains(&in_use), "{errors}");
    }
    store.shutdown();

    let empty = tempfile::tempdir().expect("a folder");
    let (code, _, errors) = gateway_store("check", empty.path());
    assert_eq!(code, Some(1));
    assert!(errors.starts_with("gateway: there is no store in "), "{errors}");
    assert_eq!(std::fs::read_dir(empty.path()).expect("is there").count(), 0, "and none is made");
}
