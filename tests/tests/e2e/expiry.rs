//! Devices that were away for longer than messages and event logs are kept (MSG-03, TYPE-11).
//!
//! Goal: what has expired is gone for every reader, a device that missed some of it is told to start over, and one
//! that missed nothing goes on. Mechanics: the domain itself fills a store by a clock ten days behind; then a gateway
//! of today serves that store. Without it a phone that was in a drawer would miss messages and never know.

use std::{
    path::Path,
    sync::{Arc, mpsc},
};

use backend::{
    domain::{
        UserId, account,
        act::{Act, News},
        applications::{self, NewApplication},
        merged,
        message::NewMessage,
        retention::{Keep, Retention},
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        unsettled::Late,
        usersig,
    },
    env::{Clock, SeededRng, SystemClock, UnixMillis},
    store::{Committed, Embedded, EmbeddedOptions, Store, StoreOptions},
};
use bytes::Bytes;
use futures::executor::block_on;
use protocol::ErrorCode;
use tests::{Gateway, MessageExt, text_body};

/// The application of a development start.
const APP: u32 = 1_400_000_001;
const CONTENT_ID: &[u8; 16] = b"the content's id";
const DAY_MS: u64 = 86_400_000;

/// Ten days ago.
#[derive(Default)]
struct Behind(SystemClock);

impl Clock for Behind {
    fn unix_ms(&self) -> UnixMillis {
        self.0.unix_ms() - 10 * DAY_MS
    }

    fn monotonic_us(&self) -> u64 {
        self.0.monotonic_us()
    }
}

struct Answers(mpsc::Sender<Completion<()>>);

impl Outbox for Answers {
    type Origin = ();

    fn complete(&self, batch: Vec<Completion<()>>, _: Option<Committed>) {
        batch.into_iter().for_each(|completion| self.0.send(completion).expect("somebody waits"));
    }

    fn late(&self, acts: Vec<Late>) {
        panic!("every commit's outcome is known here: {acts:?}");
    }
}

/// anna has sent three messages to ben ten days ago, and merged one. Returns ben's place in his log after each.
fn fill(folder: &Path) -> Vec<Bytes> {
    let clock: Arc<dyn Clock> = Arc::new(Behind::default());
    let engine = Embedded::open(folder, EmbeddedOptions::default(), clock.clone()).expect("a store");
    let rng = SeededRng::new(1);
    let store = Store::new(Arc::new(engine), clock.clone(), Arc::new(SeededRng::new(1)), StoreOptions::default());
    block_on(applications::put_application(&store, &clock, NewApplication::new(APP, "a secret of those days")))
        .expect("an application");
    let [anna, ben] = ["anna", "ben"].map(|name| {
        let (user, usersig) = (
            UserId::new(name).expect("a name"),
            usersig::sign(APP, "a secret of those days", name, clock.unix_ms() / 1000, 60),
        );
        block_on(account::login(&store, &clock, true, APP, &user, usersig)).expect("a login");
        user
    });
    let (sender, answers) = mpsc::channel();
    let queue = SendQueue::new(store.clone(), clock.clone(), SendLimits::default(), Answers(sender));
    let places = ["1", "2", "3"].map(|text| {
        let id = Bytes::copy_from_slice(text.as_bytes());
        let message = NewMessage::new(APP, anna.clone(), ben.clone(), id, text_body(text));
        queue.submit((), Act::Send(message)).expect("taken over");
        let sent = answers.recv().expect("an answer").outcome.expect("sent");
        let to_ben = sent.notices.iter().find(|notice| notice.to == ben.clone().into()).expect("ben is told");
        match to_ben.what {
            News::Event(position, _) => Bytes::copy_from_slice(&position.0),
            _ => panic!("not an event: {to_ben:?}"),
        }
    });
    let sources = vec![(ben.into(), 1)];
    let now_ms = clock.unix_ms();
    block_on(merged::store(&store, APP, &anna, Bytes::from_static(CONTENT_ID), sources, now_ms)).expect("merged");
    // As a gateway would have: what the store held at that time.
    let keep = Keep { message_days: 7, event_days: 7 };
    block_on(Retention::new(store.clone(), clock, &rng, keep).round()).expect("a round");
    store.shutdown();
    places.into()
}

#[test]
fn msg_03_who_was_away_for_longer_than_logs_are_kept_starts_over() {
    if tests::has_no_embedded_store() {
        return;
    }
    let builder = Gateway::builder();
    let places = fill(&builder.folder().join("data/store"));
    let gateway = builder.start();
    for (what, count) in [("message", 3.0), ("content", 1.0), ("event", 6.0)] {
        gateway.wait_metric("retention_removed_total", &[("what", what)], count);
    }
    let [mut anna, mut ben] = ["anna", "ben"].map(|name| gateway.connect(name));
    for client in [&mut anna, &mut ben] {
        client.try_login().expect("logged in");
    }
    for cursor in [Bytes::new(), places[0].clone(), places[1].clone()] {
        let page = ben.sync(cursor, 0).expect("a page");
        assert!(page.start_over && page.events.is_empty() && page.cursor > places[2], "{page:?}");
    }
    let page = ben.sync(places[2].clone(), 0).expect("a page");
    assert_eq!((page.start_over, page.events.len(), page.more), (false, 0, false), "it had seen everything");

    let page = anna.history("ben", 0, true, 0).expect("a page");
    assert_eq!((page.messages.len(), page.first_seq, page.head_seq), (0, 4, 3));
    let gone = anna.merged(CONTENT_ID, 0).expect_err("a refusal");
    assert_eq!(gone.code(), Some(ErrorCode::CONTENT_UNKNOWN));
    let gone = anna.recall("ben", 3, "").expect_err("a refusal");
    assert_eq!(gone.code(), Some(ErrorCode::MESSAGE_UNKNOWN));
    assert_eq!(anna.send("ben", "of today").seq, 4);
    assert_eq!(ben.next_message().text(), "of today");
    assert_eq!(ben.entry("anna").last_message.expect("a last message").seq, 4);
}
