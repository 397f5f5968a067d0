//! Goal: an application's server has its say before an act and learns of it after (CON-06
//! builds on it): what it refuses is not carried out, what it takes is told to it once.
//!
//! Mechanics: the queue on the memory engine with a hook that refuses some messages, answers others at once,
//! and lets one wait.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::sync::{Arc, Mutex, mpsc};

use backend::{
    domain::{
        AppId, Error, UserId,
        account::{self, NewApplication},
        act::{Act, Outcome},
        hooks::Hooks,
        message::NewMessage,
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        unsettled::Late,
        usersig,
    },
    env::{Clock, SeededRng, SystemClock},
    store::{Faults, Memory, Store, StoreOptions},
};
use futures::{channel::oneshot, executor::block_on, future::BoxFuture};
use prost::Message as _;
use protocol::message::{Body, Element, Text, element::Kind};

const APP: AppId = 7;
const SECRET: &str = "a secret for tests only";

struct Answers(mpsc::Sender<Completion<()>>);

impl Outbox for Answers {
    type Origin = ();

    fn complete(&self, batch: Vec<Completion<()>>) {
        batch.into_iter().for_each(|completion| self.0.send(completion).unwrap());
    }

    fn late(&self, _: Vec<Late>) {}
}

/// Refuses what contains "bad", at once; asks somebody about "maybe"; has nothing against the rest.
#[derive(Default)]
struct Censor {
    answer: Mutex<Option<oneshot::Receiver<Result<(), Error>>>>,
    told: Mutex<Vec<String>>,
}

fn text_of(act: &Act) -> String {
    let Act::Send(message) = act else { panic!("only sends were asked for") };
    String::from_utf8_lossy(&message.client_message_id).into_owned()
}

impl Hooks for Censor {
    fn before(&self, act: &Act) -> Option<BoxFuture<'static, Result<(), Error>>> {
        let text = text_of(act);
        if text.contains("bad") {
            return Some(Box::pin(async { Err(Error::Refused("mind your words".into())) }));
        }
        let answer = self.answer.lock().unwrap().take_if(|_| text.contains("maybe"))?;
        Some(Box::pin(async { answer.await.unwrap() }))
    }

    fn after(&self, act: &Act, _: &Outcome) {
        self.told.lock().unwrap().push(text_of(act));
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn send(id: &'static str) -> Act {
    let kind = Some(Kind::Text(Text { text: "hello".into() }));
    let body = Body { elements: vec![Element { kind }], ..Body::default() }.encode_to_vec();
    Act::Send(NewMessage::new(APP, user("anna"), user("ben"), id.as_bytes().into(), body.into()))
}

#[test]
fn what_is_refused_is_not_carried_out_and_the_rest_is_told_once() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let engine = Arc::new(Memory::new(1, Faults::default()));
    let store = Store::new(engine, clock.clone(), Arc::new(SeededRng::new(1)), StoreOptions::default());
    block_on(account::put_application(&store, &clock, NewApplication::new(APP, SECRET))).unwrap();
    for name in ["anna", "ben"] {
        let usersig = usersig::sign(APP, SECRET, name, clock.unix_ms() / 1000, 3600);
        block_on(account::login(&store, &clock, false, APP, &user(name), usersig)).unwrap();
    }
    let (sender, answers) = mpsc::channel();
    let (say, answer) = oneshot::channel();
    let censor = Arc::new(Censor { answer: Mutex::new(Some(answer)), ..Censor::default() });
    let limits = SendLimits::default();
    let queue = SendQueue::with_hooks(store, clock, limits, Answers(sender), censor.clone());

    assert!(queue.submit((), send("fine 1")).unwrap().is_none(), "nothing to wait for");
    assert!(answers.recv().unwrap().outcome.is_ok());
    let asking = queue.submit((), send("bad")).unwrap().expect("the application is asked");
    assert_eq!(block_on(asking), Err(Error::Refused("mind your words".into())));
    let asking = queue.submit((), send("maybe")).unwrap().expect("the application is asked");
    // Others go on meanwhile.
    queue.submit((), send("fine 2")).unwrap();
    assert_eq!(text_of(&answers.recv().unwrap().act), "fine 2");
    say.send(Ok(())).unwrap();
    block_on(asking).unwrap();
    assert_eq!(text_of(&answers.recv().unwrap().act), "maybe");
    // A repeat is answered, and was told before.
    queue.submit((), send("fine 1")).unwrap();
    assert!(answers.recv().unwrap().outcome.unwrap().is_duplicate());
    assert_eq!(*censor.told.lock().unwrap(), ["fine 1", "fine 2", "maybe"]);
}
