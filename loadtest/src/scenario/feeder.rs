//! A user who sends to many others in turn and stays: the messages that flow while devices come and go.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
};

use anyhow::{Result, bail};
use prost::Message as _;
use protocol::{
    command::Command,
    connection::ClientEvent,
    message::{Send, SendReply},
};

use super::talker::{LATE_US, SharedConversation, retry_us};
use crate::{
    client::{Client, PATIENCE_US},
    clock::Micros,
    pace::Pace,
    payload::{Composer, MessageKey},
    worker::{Span, Worker},
};

/// The feeder's side of each of its conversations.
pub(super) const FEEDER: usize = 0;

/// Messages are numbered in each conversation from 0. So that their ids differ all the same, what stands for
/// the sender in them is the recipient's number with this bit.
pub(super) const FLOW: u32 = 1 << 31;

/// Somebody to send to.
pub(super) struct Partner {
    /// The user's number.
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) conversation: SharedConversation,
}

/// A message: which of the partners it is for, and its number among those sent to that one.
type Origin = (usize, u32);

pub(super) struct Feeder {
    worker: Rc<Worker>,
    /// The number of this connection.
    number: u32,
    client: Client,
    composer: Composer,
    partners: Vec<Partner>,
    send: Send,
    under_way: HashMap<u32, Origin>,
    /// Messages to be sent once more, not before `retry_us`.
    again: VecDeque<Origin>,
    retry_us: Micros,
    /// Sends of the pace that were made.
    count: u64,
}

impl Feeder {
    pub(super) async fn open(worker: &Rc<Worker>, number: u32, partners: Vec<Partner>) -> Result<Feeder> {
        let client = Client::open(worker, &worker.plan.user(number)).await?;
        Ok(Feeder {
            worker: worker.clone(),
            number,
            client,
            composer: worker.plan.composer(),
            partners,
            send: Send::default(),
            under_way: HashMap::new(),
            again: VecDeque::new(),
            retry_us: 0,
            count: 0,
        })
    }

    /// Sends for the measured time, then waits for what is unanswered.
    pub(super) async fn run(mut self, pace: Pace, span: Span) {
        let result = self.feed(&pace, span).await;
        self.finish(&pace, span, result);
        _ = self.client.close().await;
    }

    fn finish(&self, pace: &Pace, span: Span, result: Result<()>) {
        let mut tally = self.worker.tally.borrow_mut();
        if let Err(error) = result {
            tally.findings.error(|| format!("sender {}: {error:#}", self.number));
        }
        tally.unsent += pace.planned(span.end_us).saturating_sub(self.count);
        for partner in &self.partners {
            partner.conversation.borrow_mut().finish(FEEDER);
        }
    }

    async fn feed(&mut self, pace: &Pace, span: Span) -> Result<()> {
        let mut now_us = self.worker.plan.clock.now_us();
        loop {
            self.send_due(pace, span, now_us);
            let is_over = now_us >= span.end_us + LATE_US;
            if is_over && self.under_way.is_empty() && self.again.is_empty() {
                return Ok(());
            }
            if now_us >= span.end_us + PATIENCE_US {
                bail!("{} sends were not answered", self.under_way.len() + self.again.len());
            }
            now_us = self.client.turn(self.wake_us(pace, span, is_over)).await?;
            self.take_events(now_us, span)?;
        }
    }

    fn send_due(&mut self, pace: &Pace, span: Span, now_us: Micros) {
        while self.under_way.len() < self.window() {
            let origin = if now_us >= self.retry_us && !self.again.is_empty() {
                self.again.pop_front()
            } else {
                self.next_due(pace, span, now_us)
            };
            let Some((partner, ordinal)) = origin else { break };
            self.compose(partner, ordinal);
            let id = self.client.request(now_us, Command::Send, &self.send);
            self.under_way.insert(id, (partner, ordinal));
        }
    }

    /// The next message of the pace, to the next partner in turn.
    fn next_due(&mut self, pace: &Pace, span: Span, now_us: Micros) -> Option<Origin> {
        let due_us = pace.due_us(self.count, now_us).filter(|&due_us| due_us < span.end_us)?;
        if now_us >= span.end_us + LATE_US {
            return None;
        }
        let partner = (self.count % self.partners.len() as u64) as usize;
        self.count += 1;
        self.worker.tally.borrow_mut().sent += 1;
        Some((partner, self.partners[partner].conversation.borrow_mut().sent(FEEDER, due_us)))
    }

    fn compose(&mut self, partner: usize, ordinal: u32) {
        let Partner { number, name, .. } = &self.partners[partner];
        self.composer.compose(MessageKey { sender: FLOW | number, ordinal }, &mut self.send);
        self.send.to_user.clone_from(name);
    }

    fn wake_us(&self, pace: &Pace, span: Span, is_over: bool) -> Micros {
        let retry_us = if self.again.is_empty() { Micros::MAX } else { self.retry_us };
        let due_us =
            if is_over { span.end_us + PATIENCE_US } else { pace.wake_us(self.count).min(span.end_us + LATE_US) };
        // With a full window only an answer helps; it wakes by itself.
        if self.under_way.len() < self.window() { due_us.min(retry_us) } else { span.end_us + PATIENCE_US }
    }

    /// Unanswered sends to have.
    fn window(&self) -> usize {
        self.worker.plan.options.window.min(self.client.in_flight_max()) as usize
    }

    fn take_events(&mut self, now_us: Micros, span: Span) -> Result<()> {
        while let Some(event) = self.client.next_event()? {
            match event {
                ClientEvent::Response { id, payload } => {
                    let reply = SendReply::decode(payload)?;
                    let Some((partner, ordinal)) = self.under_way.remove(&id) else { continue };
                    let mut tally = self.worker.tally.borrow_mut();
                    let conversation = &self.partners[partner].conversation;
                    let sent_us = conversation.borrow_mut().acked(FEEDER, ordinal, reply.seq, &mut tally.findings);
                    tally.ack(sent_us.unwrap_or(now_us), now_us, span.end_us);
                }
                ClientEvent::Failed { id, code, text, retry_after_ms } => {
                    let Some(origin) = self.under_way.remove(&id) else { continue };
                    let findings = &mut self.worker.tally.borrow_mut().findings;
                    findings.error(|| format!("a send was refused: {code} ({text})"));
                    if code.is_retryable() {
                        self.again.push_back(origin);
                        self.retry_us = retry_us(retry_after_ms, now_us);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
