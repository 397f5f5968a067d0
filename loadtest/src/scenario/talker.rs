//! One user of a `c2c` pair: sends, takes what comes, catches up when told to, and comes back when the
//! connection is lost, sending again what was not answered, with the same ids.

use std::{cell::RefCell, collections::VecDeque, rc::Rc, sync::atomic::Ordering::Relaxed};

use anyhow::{Result, bail};
use bytes::Bytes;
use prost::Message as _;
use protocol::{
    ErrorCode,
    command::Command,
    connection::ClientEvent,
    message::{Event, EventPush, Message, Send, SendReply, Sync, SyncReply, event::What},
};

use super::{c2c::connection_of, comeback::come_back};
use crate::{
    client::{Client, User},
    clock::{Micros, SECOND_US},
    ledger::{Conversation, Findings, Side, Sighting, Way},
    pace::Pace,
    payload::{Composer, MessageKey},
    worker::{Span, Worker},
};

/// What was due before the measured time ended is still sent this much later: a task wakes a little late.
pub(super) const LATE_US: Micros = SECOND_US / 50;
/// While draining: how long nothing may come before what lacks is given up.
pub(super) const QUIET_US_MAX: Micros = 10 * SECOND_US;
/// While draining: how often to ask the server whether it dropped pushes, and to look at the partner.
pub(super) const DRAIN_PING_US: Micros = SECOND_US;
pub(super) const DRAIN_LOOK_US: Micros = SECOND_US / 20;
/// The least wait before a refused request is tried again.
const RETRY_MS_MIN: u32 = 20;

pub(super) type SharedConversation = Rc<RefCell<Conversation>>;

/// A request under way.
#[derive(Clone, Copy, Debug)]
enum Request {
    Send(u32),
    Sync,
}

pub(super) struct Talker {
    worker: Rc<Worker>,
    conversation: SharedConversation,
    side: Side,
    /// The number of this connection, and of the partner's.
    numbers: [u32; 2],
    user: User,
    /// The number of the target that it is at, or tries.
    target: usize,
    reconnect: bool,
    client: Client,
    composer: Composer,
    /// The request that is sent again and again, with other contents.
    send: Send,
    /// Requests under way in the order of their numbers, from `first_id`; answered ones are `None`.
    under_way: VecDeque<Option<Request>>,
    first_id: u32,
    unanswered: u32,
    /// Messages to be sent once more, not before `retry_us`.
    again: VecDeque<u32>,
    retry_us: Micros,
    /// Sends of the pace that were made.
    count: u64,
    /// How often it was told what `push` tells everybody.
    pushes: u64,
    cursor: Vec<u8>,
    is_syncing: bool,
    /// When the connection was lost from which it has not come back yet.
    lost_us: Option<Micros>,
    /// When to ask for the next page; never, most of the time.
    sync_us: Micros,
    last_news_us: Micros,
    last_ping_us: Micros,
}

impl Talker {
    /// Connects, logs in and reads the event log, so that pushes come.
    pub(super) async fn open(
        worker: &Rc<Worker>,
        pair: u32,
        side: Side,
        target: usize,
        conversation: SharedConversation,
        reconnect: bool,
    ) -> Result<Talker> {
        let plan = &worker.plan;
        let numbers = [connection_of(pair, side), connection_of(pair, 1 - side)];
        let user = plan.user(numbers[0]);
        let mut client = Client::open_at(worker, target, &user).await?;
        plan.board.is_at(numbers[0], target);
        let cursor = client.sync(Bytes::new(), |_| {}).await?.to_vec();
        worker.tally.borrow_mut().connected += 1;
        Ok(Talker {
            worker: worker.clone(),
            conversation,
            side,
            numbers,
            user,
            target,
            reconnect,
            client,
            composer: plan.composer(),
            send: Send { to_user: plan.user_name(numbers[1]), ..Send::default() },
            under_way: VecDeque::new(),
            first_id: 0,
            unanswered: 0,
            again: VecDeque::new(),
            retry_us: 0,
            count: 0,
            pushes: 0,
            cursor,
            is_syncing: false,
            lost_us: None,
            sync_us: Micros::MAX,
            last_news_us: 0,
            last_ping_us: 0,
        })
    }

    /// Talks for the measured time, then until everything has settled.
    pub(super) async fn run(mut self, span: Span) {
        let options = &self.worker.plan.options;
        let pace = Pace::new(options.rate, span.start_us, options.connections, self.numbers[0]);
        let is_connected = self.talk(&pace, span).await;
        self.settle(&pace, span, is_connected);
        _ = self.client.close().await;
    }

    /// Nothing more will come: says what is missing.
    fn settle(&self, pace: &Pace, span: Span, is_connected: bool) {
        let mut conversation = self.conversation.borrow_mut();
        let mut tally = self.worker.tally.borrow_mut();
        conversation.finish(self.side);
        if is_connected {
            conversation.give_up_waiting(self.side, &mut tally.findings);
        }
        tally.unsent += pace.planned(span.end_us).saturating_sub(self.count);
        if self.worker.plan.options.pushes() {
            tally.findings.told(&self.user.name, self.pushes);
        }
    }

    /// Returns whether the connection was there to the end.
    async fn talk(&mut self, pace: &Pace, span: Span) -> bool {
        loop {
            let Err(error) = self.converse(pace, span).await else { return true };
            let number = self.numbers[0];
            let lost = |error: anyhow::Error| format!("connection {number}: {error:#}");
            if !self.reconnect {
                self.with_findings(|findings| findings.error(|| lost(error)));
                return false;
            }
            if let Err(error) = self.come_back().await {
                self.with_findings(|findings| findings.error(|| lost(error)));
                return false;
            }
        }
    }

    async fn converse(&mut self, pace: &Pace, span: Span) -> Result<()> {
        let mut now_us = self.worker.plan.clock.now_us();
        self.last_news_us = now_us;
        loop {
            if now_us >= self.sync_us {
                self.request_sync(now_us);
            }
            self.send_due(pace, span, now_us);
            if now_us >= span.end_us && self.is_done(now_us, span) {
                return Ok(());
            }
            now_us = self.client.turn(self.wake_us(pace, span, now_us)).await?;
            self.take_events(now_us, span)?;
        }
    }

    /// Fills the window with what is to be sent again and with what is due.
    fn send_due(&mut self, pace: &Pace, span: Span, now_us: Micros) {
        let window = self.window();
        while self.unanswered < window {
            let ordinal = if now_us >= self.retry_us && !self.again.is_empty() {
                self.again.pop_front()
            } else {
                let due_us = pace.due_us(self.count, now_us).filter(|&due_us| due_us < span.end_us);
                due_us.filter(|_| now_us < span.end_us + LATE_US).map(|due_us| {
                    self.count += 1;
                    self.worker.tally.borrow_mut().sent += 1;
                    self.conversation.borrow_mut().sent(self.side, due_us)
                })
            };
            let Some(ordinal) = ordinal else { break };
            self.composer.compose(MessageKey { sender: self.numbers[0], ordinal }, &mut self.send);
            let id = self.client.request(now_us, Command::Send, &self.send);
            self.requested(id, Request::Send(ordinal));
            self.unanswered += 1;
        }
    }

    /// When to look again if nothing comes.
    fn wake_us(&self, pace: &Pace, span: Span, now_us: Micros) -> Micros {
        if now_us >= span.end_us {
            return self.sync_us.min(now_us + DRAIN_LOOK_US);
        }
        let has_room = self.unanswered < self.window();
        let due_us = if has_room { pace.wake_us(self.count) } else { Micros::MAX };
        let retry_us = if has_room && !self.again.is_empty() { self.retry_us } else { Micros::MAX };
        due_us.min(retry_us).min(self.sync_us).min(span.end_us)
    }

    /// After the measured time: whether everything has settled, or nothing comes any more.
    fn is_done(&mut self, now_us: Micros, span: Span) -> bool {
        if self.unanswered == 0 && self.again.is_empty() {
            self.conversation.borrow_mut().finish(self.side);
            let is_told = self.pushes > 0 || !self.worker.plan.options.pushes();
            if is_told && !self.is_syncing && self.conversation.borrow().is_settled_for(self.side) {
                return true;
            }
        }
        if now_us >= self.last_ping_us + DRAIN_PING_US {
            self.last_ping_us = now_us;
            self.client.ping(now_us); // its answer tells of dropped pushes
        }
        now_us >= self.last_news_us.max(span.end_us) + QUIET_US_MAX
    }

    fn take_events(&mut self, now_us: Micros, span: Span) -> Result<()> {
        while let Some(event) = self.client.next_event()? {
            match event {
                ClientEvent::Event(EventPush { event: Some(event), cursor }) => {
                    self.take_event(&event, Way::Push, now_us, span);
                    self.told_cursor(if cursor.is_empty() { &event.position } else { &cursor });
                }
                ClientEvent::Response { id, payload } => match self.answered(id) {
                    Some(Request::Send(ordinal)) => self.take_ack(ordinal, &SendReply::decode(payload)?, now_us, span),
                    Some(Request::Sync) => self.take_page(&SyncReply::decode(payload)?, now_us, span),
                    None => bail!("an answer to a request that was not made: {id}"),
                },
                ClientEvent::Failed { id, code, text, retry_after_ms } => match self.answered(id) {
                    Some(Request::Send(ordinal)) => self.take_refusal(ordinal, code, &text, retry_after_ms, now_us),
                    Some(Request::Sync) if code.is_retryable() => self.sync_us = retry_us(retry_after_ms, now_us),
                    _ => bail!("request {id} failed: {code} ({text})"),
                },
                ClientEvent::Behind => self.catch_up(now_us),
                ClientEvent::Pong(pong) if pong.behind => self.catch_up(now_us),
                ClientEvent::Pong(pong) if !pong.cursor.is_empty() => self.told_cursor(&pong.cursor),
                _ => {}
            }
        }
        Ok(())
    }

    fn take_ack(&mut self, ordinal: u32, reply: &SendReply, now_us: Micros, span: Span) {
        let mut tally = self.worker.tally.borrow_mut();
        let sent_us = self.conversation.borrow_mut().acked(self.side, ordinal, reply.seq, &mut tally.findings);
        let sent_us = sent_us.unwrap_or(now_us);
        tally.ack(sent_us, now_us, span.end_us);
        tally.ack_us_at.record(self.target, now_us.saturating_sub(sent_us));
        let pushed_us = self.worker.plan.board.pushed_us.load(Relaxed);
        if pushed_us > 0 && (pushed_us..pushed_us + SECOND_US).contains(&sent_us) {
            tally.beside_push_us.saturating_record(now_us - sent_us);
        }
        self.last_news_us = now_us;
    }

    /// The send may be stored or not. What may succeed later is tried again, with the same id.
    fn take_refusal(&mut self, ordinal: u32, code: ErrorCode, text: &str, retry_after_ms: u32, now_us: Micros) {
        self.with_findings(|findings| findings.error(|| format!("a send was refused: {code} ({text})")));
        if code.is_retryable() {
            self.again.push_back(ordinal);
            self.retry_us = retry_us(retry_after_ms, now_us);
        }
    }

    fn take_page(&mut self, page: &SyncReply, now_us: Micros, span: Span) {
        for event in &page.events {
            self.take_event(event, Way::Page, now_us, span);
        }
        self.move_cursor(&page.cursor);
        if !page.more {
            self.is_syncing = false;
            self.conversation.borrow_mut().end_catching_up(self.side);
            let away_us = self.lost_us.take().map(|lost_us| now_us - lost_us);
            away_us.into_iter().for_each(|away_us| self.worker.tally.borrow_mut().return_us.saturating_record(away_us));
        } else {
            self.sync_us = now_us; // behind an empty page, too: an event came while the server looked
        }
    }

    fn take_event(&mut self, event: &Event, way: Way, now_us: Micros, span: Span) {
        let Some(What::Message(message)) = &event.what else { return };
        let mut tally = self.worker.tally.borrow_mut();
        self.last_news_us = now_us;
        if self.worker.plan.is_push(message) {
            self.pushes += 1;
            return tally.told_us.saturating_record(now_us - self.worker.plan.board.pushed_us.load(Relaxed));
        }
        let Some(seen) = sighting(&self.composer, message, self.side, self.numbers) else {
            return tally.findings.error(|| format!("a message that is not of this conversation: {message:?}"));
        };
        let key = MessageKey { sender: connection_of(self.numbers[0] / 2, seen.from), ordinal: seen.ordinal };
        if !self.composer.is_intact(key, &message.body) {
            tally.findings.error(|| format!("wrong content: {seen:?}"));
        }
        if let Some(sent_us) = self.conversation.borrow_mut().arrived(self.side, seen, way, &mut tally.findings) {
            tally.delivery(sent_us, now_us, span.end_us);
            let way = (self.worker.plan.board.place(key.sender), self.target);
            tally.delivery_us_between.record(way, now_us.saturating_sub(sent_us));
        }
    }

    /// Reads the event log from the cursor on: pushes were dropped, or the connection is a new one.
    fn catch_up(&mut self, now_us: Micros) {
        if !self.is_syncing {
            self.is_syncing = true;
            self.conversation.borrow_mut().begin_catching_up(self.side);
            self.sync_us = now_us;
        }
    }

    fn request_sync(&mut self, now_us: Micros) {
        self.sync_us = Micros::MAX;
        let sync = Sync { cursor: Bytes::copy_from_slice(&self.cursor), ..Sync::default() };
        let id = self.client.request(now_us, Command::Sync, &sync);
        self.requested(id, Request::Sync);
    }

    async fn come_back(&mut self) -> Result<()> {
        self.lost_us.get_or_insert(self.worker.plan.clock.now_us());
        self.client = come_back(&self.worker, self.numbers[0], &self.user, &mut self.target).await?;
        self.begin_again(self.worker.plan.clock.now_us());
        Ok(())
    }

    /// On a new connection: asks for what was missed, and sends again what was not answered, oldest first.
    fn begin_again(&mut self, now_us: Micros) {
        let unanswered = self.under_way.drain(..).filter_map(|request| match request {
            Some(Request::Send(ordinal)) => Some(ordinal),
            _ => None,
        });
        self.again = unanswered.chain(self.again.drain(..)).collect();
        self.again.make_contiguous().sort_unstable();
        self.retry_us = 0;
        self.unanswered = 0;
        self.is_syncing = false;
        self.catch_up(now_us);
    }

    fn requested(&mut self, id: u32, request: Request) {
        if self.under_way.is_empty() {
            self.first_id = id;
        }
        self.under_way.push_back(Some(request));
    }

    fn answered(&mut self, id: u32) -> Option<Request> {
        let index = id.checked_sub(self.first_id)?;
        let request = self.under_way.get_mut(index as usize)?.take()?;
        while let Some(None) = self.under_way.front() {
            self.under_way.pop_front();
            self.first_id += 1;
        }
        self.unanswered -= u32::from(matches!(request, Request::Send(_)));
        Some(request)
    }

    /// Unanswered sends to have; one less than the server allows, which leaves room to sync.
    fn window(&self) -> u32 {
        self.worker.plan.options.window.min(self.client.in_flight_max().saturating_sub(1)).max(1)
    }

    /// The cursor of a push or a pong. While pages are read it would skip what was dropped.
    fn told_cursor(&mut self, cursor: &[u8]) {
        if !self.is_syncing && cursor > &self.cursor[..] {
            self.move_cursor(cursor);
        }
    }

    fn move_cursor(&mut self, cursor: &[u8]) {
        self.cursor.clear();
        self.cursor.extend_from_slice(cursor);
    }

    fn with_findings(&self, report: impl FnOnce(&mut Findings)) {
        report(&mut self.worker.tally.borrow_mut().findings);
    }
}

/// When to try again what was refused at `now_us`.
pub(super) fn retry_us(retry_after_ms: u32, now_us: Micros) -> Micros {
    now_us + u64::from(retry_after_ms.max(RETRY_MS_MIN)) * 1_000
}

/// What a message is in the conversation of `numbers` (the viewer's connection and its partner's); `None` if
/// it is none of theirs.
pub(super) fn sighting(composer: &Composer, message: &Message, viewer: Side, numbers: [u32; 2]) -> Option<Sighting> {
    let key = composer.recognise(&message.client_message_id)?;
    let from = match key.sender {
        sender if sender == numbers[0] => viewer,
        sender if sender == numbers[1] => 1 - viewer,
        _ => return None,
    };
    Some(Sighting { from, ordinal: key.ordinal, seq: message.seq })
}
