//! `api`: an application's server sends messages through the server API, one call at a time on each connection.
//! At the end every recipient logs in, and what was answered must be in its event log, once.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::{StreamExt, channel::mpsc};
use prost::Message as _;
use protocol::message::{Body, Element, Message, element, event::What};
use serde_json::{Value, json};

use super::import::import;
use crate::{
    client::Client,
    clock::Micros,
    http::Api,
    options::{ApiCommand, ApiOptions, Options},
    pace::Pace,
    report::Report,
    run::on_all_threads,
    worker::{Plan, Span, Worker},
};

/// Recipients who are logged in at a time while everything is read back.
const READERS: usize = 8;

pub(super) fn run(plan: &Arc<Plan>, options: ApiOptions) -> Result<Report> {
    let (runtime, api) = Api::of(plan)?;
    let outcome = on_all_threads(plan, move |worker| work(worker, api.clone(), options))?;
    drop(runtime);
    let messages_each = match options.command {
        ApiCommand::Sendmsg => 1,
        ApiCommand::Batchsendmsg => options.recipients.min(options.accounts),
    };
    let per_second = outcome.tally.acked_in_time as f64 * f64::from(messages_each) / plan.options.seconds;
    let unverified = outcome.tally.unverified;
    Ok(Report::new(&plan.options, outcome)
        .with("messages_per_second", per_second.round())
        .with("unverified", unverified))
}

async fn work(worker: Rc<Worker>, api: Api, options: ApiOptions) -> Result<()> {
    import(&worker, &api, options.accounts).await?;
    let span = worker.wait_for_start().await?;
    let (answers, mut answered) = mpsc::unbounded();
    for number in worker.share(worker.plan.options.connections) {
        worker.tally.borrow_mut().connected += 1;
        let caller = Caller { plan: worker.plan.clone(), api: api.clone(), options, number };
        api.spawn(caller.run(span, answers.clone()));
    }
    drop(answers);
    let mut promised: HashMap<u32, HashSet<CallKey>> = HashMap::new();
    while let Some(answer) = answered.next().await {
        let mut tally = worker.tally.borrow_mut();
        tally.sent += 1;
        match answer.failure {
            None => {
                tally.ack(answer.due_us, answer.now_us, span.end_us);
                for user in options.recipients_of(answer.key) {
                    promised.entry(user).or_default().insert(answer.key);
                }
            }
            Some(error) => tally.findings.error(|| format!("{error:#}")),
        }
    }
    futures::stream::iter(promised)
        .for_each_concurrent(READERS, |(user, promised)| read_back(&worker, user, promised))
        .await;
    Ok(())
}

/// A call of this run, which is the text of its messages, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct CallKey {
    caller: u32,
    /// Counts all callers' calls: so each is for other accounts than the last.
    call: u64,
}

impl CallKey {
    /// As a message's text, of so many bytes if it fits.
    fn text(self, bytes: usize) -> String {
        format!("{:.<bytes$}", format!("{} {} ", self.caller, self.call))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        Some(CallKey { caller: words.next()?.parse().ok()?, call: words.next()?.parse().ok()? })
    }
}

impl ApiOptions {
    /// The accounts that a call's message is for.
    fn recipients_of(self, key: CallKey) -> impl Iterator<Item = u32> {
        let count = match self.command {
            ApiCommand::Sendmsg => 1,
            ApiCommand::Batchsendmsg => self.recipients.min(self.accounts),
        };
        let first = key.call * u64::from(count);
        (0..u64::from(count)).map(move |index| ((first + index) % u64::from(self.accounts)) as u32)
    }
}

/// Makes calls, one after the other.
struct Caller {
    plan: Arc<Plan>,
    api: Api,
    options: ApiOptions,
    number: u32,
}

/// What came of a call.
struct Answer {
    key: CallKey,
    due_us: Micros,
    now_us: Micros,
    failure: Option<anyhow::Error>,
}

impl Caller {
    async fn run(self, span: Span, answers: mpsc::UnboundedSender<Answer>) {
        let Options { rate, connections, .. } = self.plan.options;
        let pace = Pace::new(rate, span.start_us, connections, self.number);
        let mut count = 0;
        loop {
            let now_us = self.plan.clock.now_us();
            let Some(due_us) = pace.due_us(count, now_us) else {
                tokio::time::sleep(Duration::from_micros(pace.wake_us(count) - now_us)).await;
                continue;
            };
            if now_us.max(due_us) >= span.end_us {
                return;
            }
            let call = count * u64::from(connections) + u64::from(self.number);
            let key = CallKey { caller: self.number, call };
            let (command, body) = self.message(key);
            let failure = self.api.ask(command, &body).await.err();
            let answer = Answer { key, due_us, now_us: self.plan.clock.now_us(), failure };
            if answers.unbounded_send(answer).is_err() {
                return;
            }
            count += 1;
        }
    }

    fn message(&self, key: CallKey) -> (&'static str, Value) {
        let plan = &self.plan;
        let text = key.text(plan.options.payload as usize);
        let elements = json!([{ "MsgType": "TIMTextElem", "MsgContent": { "Text": text } }]);
        let to: Vec<String> = self.options.recipients_of(key).map(|user| plan.user_name(user)).collect();
        let mut body = json!({ "MsgRandom": key.call as u32, "MsgBody": elements });
        match self.options.command {
            ApiCommand::Sendmsg => {
                let from = (key.call + 1) % u64::from(self.options.accounts);
                body["From_Account"] = plan.user_name(from as u32).into();
                body["To_Account"] = to.concat().into();
                ("openim/sendmsg", body)
            }
            ApiCommand::Batchsendmsg => {
                body["SyncOtherMachine"] = 2.into(); // the administrator keeps no copies, as with all such notices
                body["To_Account"] = to.into();
                ("openim/batchsendmsg", body)
            }
        }
    }
}

/// Logs in and looks for what this thread's callers were promised.
async fn read_back(worker: &Worker, user: u32, promised: HashSet<CallKey>) {
    let mut seen = HashSet::new();
    let read = read_log(worker, user, |message| {
        let mut tally = worker.tally.borrow_mut();
        tally.read_back += 1;
        match text_of(message).as_deref().and_then(CallKey::parse) {
            Some(key) if message.to == worker.plan.user_name(user) && worker.has(key.caller) => {
                tally.delivered += 1;
                tally.findings.duplicated += u64::from(!seen.insert(key));
            }
            Some(_) => {} // as its sender has it, or another thread's
            None => tally.findings.error(|| format!("a message that nobody sent: {message:?}")),
        }
    });
    let read = read.await;
    let mut tally = worker.tally.borrow_mut();
    if let Err(error) = read {
        tally.unverified += 1;
        return tally.findings.error(|| format!("user {user} can't be read back: {error:#}"));
    }
    let missing: Vec<_> = promised.difference(&seen).collect();
    tally.findings.lost += missing.len() as u64;
    if let Some(first) = missing.first() {
        tally.findings.note(|| format!("lost: {} messages to user {user}, {first:?} is one", missing.len()));
    }
}

/// Gives all messages in a user's event log to `take`.
async fn read_log(worker: &Worker, user: u32, mut take: impl FnMut(&Message)) -> Result<()> {
    let mut client = Client::open(worker, &worker.plan.user(user)).await.context("cannot log in")?;
    client
        .sync(Bytes::new(), |page| {
            for event in &page.events {
                if let Some(What::Message(message)) = &event.what {
                    take(message);
                }
            }
        })
        .await?;
    client.close().await
}

fn text_of(message: &Message) -> Option<String> {
    let body = Body::decode(message.body.clone()).ok()?;
    match body.elements.into_iter().next() {
        Some(Element { kind: Some(element::Kind::Text(text)), .. }) => Some(text.text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_its_call() {
        let key = CallKey { caller: 7, call: 123_456 };
        for bytes in [1, 100] {
            assert_eq!(CallKey::parse(&key.text(bytes)), Some(key));
        }
        assert_eq!(key.text(100).len(), 100);
        assert_eq!(CallKey::parse("hello"), None);
    }

    #[test]
    fn calls_go_round_all_accounts() {
        let options = ApiOptions { command: ApiCommand::Batchsendmsg, accounts: 5, recipients: 3 };
        let recipients = |call| options.recipients_of(CallKey { caller: 0, call }).collect::<Vec<_>>();
        assert_eq!([recipients(0), recipients(1), recipients(2)], [[0, 1, 2], [3, 4, 0], [1, 2, 3]]);
        let few = ApiOptions { accounts: 2, ..options };
        assert_eq!(few.recipients_of(CallKey { caller: 0, call: 1 }).collect::<Vec<_>>(), [0, 1]);
    }
}
