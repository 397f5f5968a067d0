//! Goal: an application's server has its say before an act (CON-06): what it refuses is not carried out, what it
//! replaces is stored as it says, what it drops is answered and not there.
//!
//! Mechanics: the queue on the memory engine with a hook that refuses some messages, answers others at once,
//! and lets one wait.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::sync::{Arc, Mutex, mpsc};

use backend::{
    domain::{
        AppId, Error, UserId, account,
        act::{Act, Answer},
        applications::{self, NewApplication},
        callbacks::Caller,
        hooks::{Hooks, Verdict},
        message::NewMessage,
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        unsettled::Late,
        usersig,
    },
    env::{Clock, SeededRng, SystemClock},
    store::{Committed, Faults, Memory, Store, StoreOptions},
};
use bytes::Bytes;
use futures::{channel::oneshot, executor::block_on, future::BoxFuture};
use prost::Message as _;
use protocol::message::{Body, Element, Text, element::Kind};

const APP: AppId = 7;
const SECRET: &str = "a secret for tests only";

struct Answers(mpsc::Sender<Completion<()>>);

impl Outbox for Answers {
    type Origin = ();

    fn complete(&self, batch: Vec<Completion<()>>, _: Option<Committed>) {
        batch.into_iter().for_each(|completion| self.0.send(completion).unwrap());
    }

    fn late(&self, _: Vec<Late>) {}
}

/// Refuses what contains "bad", at once; asks somebody about "maybe"; has nothing against the rest.
struct Censor {
    answer: Mutex<Option<oneshot::Receiver<Result<Verdict, Error>>>>,
}

fn text_of(act: &Act) -> String {
    let Act::Send(message) = act else { panic!("only sends were asked for") };
    String::from_utf8_lossy(&message.client_message_id).into_owned()
}

impl Hooks for Censor {
    fn before(&self, act: &Act, _: &Caller) -> Option<BoxFuture<'static, Result<Verdict, Error>>> {
        let text = text_of(act);
        if text.contains("bad") {
            return Some(Box::pin(async { Err(refused()) }));
        }
        if text.contains("nowhere") {
            return Some(Box::pin(async { Ok(Verdict::Drop) }));
        }
        if text.contains("long") {
            let body = body(&"long ".repeat(10_000));
            return Some(Box::pin(async { Ok(Verdict::Replace(body)) }));
        }
        let answer = self.answer.lock().unwrap().take_if(|_| text.contains("maybe"))?;
        Some(Box::pin(async { answer.await.unwrap() }))
    }
}

fn refused() -> Error {
    Error::Refused { code: 120_001, text: "mind your words".into() }
}

fn body(text: &str) -> Bytes {
    let kind = Some(Kind::Text(Text { text: text.into() }));
    Body { elements: vec![Element { kind }], ..Body::default() }.encode_to_vec().into()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn send(id: &'static str) -> Act {
    Act::Send(NewMessage::new(APP, user("anna"), user("ben"), id.as_bytes().into(), body("hello")))
}

#[test]
fn what_is_refused_is_not_carried_out_and_the_rest_is_told_once() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let engine = Arc::new(Memory::new(1, Faults::default()));
    let store = Store::new(engine, clock.clone(), Arc::new(SeededRng::new(1)), StoreOptions::default());
    block_on(applications::put_application(&store, &clock, NewApplication::new(APP, SECRET))).unwrap();
    for name in ["anna", "ben"] {
        let usersig = usersig::sign(APP, SECRET, name, clock.unix_ms() / 1000, 3600);
        block_on(account::login(&store, &clock, false, APP, &user(name), usersig)).unwrap();
    }
    let (sender, answers) = mpsc::channel();
    let (say, answer) = oneshot::channel();
    let censor = Arc::new(Censor { answer: Mutex::new(Some(answer)) });
    let limits = SendLimits::default();
    let queue = SendQueue::with_hooks(store, clock, limits, Answers(sender), censor);

    assert!(queue.submit((), send("fine 1")).unwrap().is_none(), "nothing to wait for");
    assert!(answers.recv().unwrap().outcome.is_ok());
    let asking = queue.submit((), send("bad")).unwrap().expect("the application is asked");
    assert_eq!(block_on(asking), Err(refused()));
    let asking = queue.submit((), send("maybe")).unwrap().expect("the application is asked");
    // Others go on meanwhile.
    queue.submit((), send("fine 2")).unwrap();
    assert_eq!(text_of(&answers.recv().unwrap().act), "fine 2");
    say.send(Ok(Verdict::Pass)).unwrap();
    block_on(asking).unwrap();
    assert_eq!(text_of(&answers.recv().unwrap().act), "maybe");
    // A repeat is answered, and was told before.
    queue.submit((), send("fine 1")).unwrap();
    assert!(answers.recv().unwrap().outcome.unwrap().is_duplicate());
    // What was stored is stored, whatever the application thinks of it now.
    let unasked = Caller { is_asked: false, ..Caller::default() };
    assert!(queue.submit_from((), send("bad, once"), unasked).unwrap().is_none());
    assert!(answers.recv().unwrap().outcome.is_ok());
    let asking = queue.submit((), send("bad, once")).unwrap().expect("the application is asked");
    block_on(asking).unwrap();
    assert!(answers.recv().unwrap().outcome.unwrap().is_duplicate());
    // What is put in its place is checked like what anybody sends.
    let asking = queue.submit((), send("long")).unwrap().expect("the application is asked");
    assert!(matches!(block_on(asking), Err(Error::MessageTooLong { .. })));
    // What is dropped is answered like what is not to be stored.
    let asking = queue.submit((), send("nowhere")).unwrap().expect("the application is asked");
    block_on(asking).unwrap();
    let outcome = answers.recv().unwrap().outcome.unwrap();
    assert!(matches!(outcome.answer, Answer::Sent { seq: 0, duplicate: false, .. }));
    assert!(outcome.notices.is_empty());
}
