//! Questions of an edge to its core: where a client should connect that asks the edge itself (`/v1/locate`).
//!
//! What clients have measured only cores know, so an edge passes the question on, by whichever link it has, and answers
//! from its own view where there is no link, or no answer in time. Bounded: so many questions are under way, and who asks
//! has been counted before, here and then by the core, as if it had asked there.
//!
//! What may not live here: where clients should connect.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ahash::AHashMap;
use futures::channel::{mpsc, oneshot};
use prost::Message as _;
use protocol::{
    link_message::{LocateAnswer, LocateAsk},
    message::LocateReply,
};
use tokio::time::timeout;

use crate::geo::regions::is_id;

/// For how long the core is waited for: it may be on the other side of the world, but a client waits.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Questions under way, at the most; more are answered here.
const QUESTIONS_MAX: usize = 256;

/// What a core has said: where to connect, or in how many milliseconds the client may ask again.
pub type Answer = Result<LocateReply, u32>;

/// All questions, and the links they may take.
#[derive(Default)]
pub struct Asking(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    links: Vec<(u64, mpsc::Sender<LocateAsk>)>,
    waiting: AHashMap<u64, oneshot::Sender<Answer>>,
    /// Counts links and questions.
    last: u64,
}

/// A shard's link, for as long as this lives. Who has it sends the questions that come.
pub struct Carrier {
    number: u64,
    asking: Arc<Asking>,
}

/// A question that waits for its answer.
struct Waiting<'a> {
    number: u64,
    asking: &'a Asking,
}

impl Asking {
    /// Questions may take this link from now on.
    pub fn linked(self: &Arc<Self>) -> (Carrier, mpsc::Receiver<LocateAsk>) {
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let mut inner = self.inner();
        let number = inner.count();
        inner.links.push((number, questions));
        (Carrier { number, asking: self.clone() }, asked)
    }

    /// Asks the core. `None`: it does not say.
    pub async fn ask(&self, ip: IpAddr, current: &str) -> Option<Answer> {
        self.ask_within(ANSWER_MAX, ip, current).await
    }

    async fn ask_within(&self, most: Duration, ip: IpAddr, current: &str) -> Option<Answer> {
        let (_waiting, answer) = self.put(ip, current)?;
        timeout(most, answer).await.ok()?.ok()
    }

    fn put(&self, ip: IpAddr, current: &str) -> Option<(Waiting<'_>, oneshot::Receiver<Answer>)> {
        let mut inner = self.inner();
        if inner.waiting.len() >= QUESTIONS_MAX || inner.links.is_empty() {
            return None;
        }
        let question = inner.count();
        let link = question as usize % inner.links.len();
        let ip = match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        // What is no id is no access point's.
        let current = if is_id(current) { current.to_owned() } else { String::new() };
        let (_, questions) = inner.links.get_mut(link)?;
        questions.try_send(LocateAsk { question, ip: ip.into(), current }).ok()?;
        let (told, answer) = oneshot::channel();
        inner.waiting.insert(question, told);
        Some((Waiting { number: question, asking: self }, answer))
    }

    /// The core has answered.
    pub fn answered(&self, answer: LocateAnswer) {
        let waiting = self.inner().waiting.remove(&answer.question);
        // Nobody waits any more, or it makes no sense: then the edge says what it thinks itself.
        if let (Some(waiting), Some(answer)) = (waiting, read(answer)) {
            let _ = waiting.send(answer);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn count(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.asking.inner().links.retain(|(number, _)| *number != self.number);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.asking.inner().waiting.remove(&self.number);
    }
}

fn read(answer: LocateAnswer) -> Option<Answer> {
    match answer.retry_after_ms {
        0 => LocateReply::decode(answer.reply).ok().map(Ok),
        wait_ms => Some(Err(wait_ms)),
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

    fn answer(question: u64) -> LocateAnswer {
        let reply = LocateReply { expires_s: 7, ..LocateReply::default() };
        LocateAnswer { question, reply: reply.encode_to_vec().into(), retry_after_ms: 0 }
    }

    #[tokio::test]
    async fn geo_03_a_question_takes_any_link_and_gets_its_own_answer() {
        let asking = Arc::new(Asking::default());
        assert_eq!(asking.ask(CLIENT, "").await, None, "there is no link");
        let (first, mut one) = asking.linked();
        let (_second, mut other) = asking.linked();
        let core = asking.clone();
        tokio::spawn(async move {
            drop(first);
            assert_eq!(one.next().await, None, "its link is gone");
            let mut asked = [other.next().await.unwrap(), other.next().await.unwrap()];
            asked.sort_unstable_by_key(|asked| asked.current.len());
            assert_eq!(
                (&asked[0].ip[..], &*asked[0].current, &*asked[1].current),
                (&[198, 51, 100, 7][..], "", "fra-1")
            );
            core.answered(LocateAnswer { retry_after_ms: 40, ..answer(asked[1].question) });
            core.answered(answer(asked[1].question));
            core.answered(answer(asked[0].question));
        });
        tokio::task::yield_now().await;
        let (no_id, id) = tokio::join!(asking.ask(CLIENT, "<no id>"), asking.ask(CLIENT, "fra-1"));
        assert_eq!(no_id, Some(Ok(LocateReply { expires_s: 7, ..LocateReply::default() })));
        assert_eq!(id, Some(Err(40)));
        assert!(asking.inner().waiting.is_empty());
    }

    #[tokio::test]
    async fn geo_03_without_an_answer_that_makes_sense_nobody_waits_for_long() {
        let asking = Arc::new(Asking::default());
        let (_carrier, mut asked) = asking.linked();
        assert_eq!(asking.ask_within(Duration::ZERO, CLIENT, "").await, None, "no answer");
        let late = asked.next().await.unwrap();
        asking.answered(answer(late.question));
        let (answered, ()) = tokio::join!(asking.ask(CLIENT, ""), async {
            let question = asked.next().await.unwrap().question;
            asking.answered(LocateAnswer { reply: vec![0xff].into(), ..answer(question) });
        });
        assert_eq!(answered, None, "nonsense");
        assert!(asking.inner().waiting.is_empty());
    }

    #[test]
    fn geo_02_so_many_questions_are_under_way_and_no_more() {
        let asking = Arc::new(Asking::default());
        let (_carrier, _asked) = asking.linked();
        let mut waiting: Vec<_> = (0..QUESTIONS_MAX).filter_map(|_| asking.put(CLIENT, "")).collect();
        assert_eq!(waiting.len(), QUESTIONS_MAX);
        assert!(asking.put(CLIENT, "").is_none());
        // Those that are given up are still on their way to the link, which takes none.
        waiting.clear();
        let more = (0..10 * QUESTIONS_MAX).filter_map(|_| asking.put(CLIENT, "")).count();
        assert!(more < QUESTIONS_MAX, "{more}");
    }
}
