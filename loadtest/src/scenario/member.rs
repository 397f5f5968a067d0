//! One who is in a group or a live room: says something when it is due, takes what the others say, and at the end
//! waits until everything has come. In a live room nothing is kept: what a connection that did not keep up was not
//! given is counted as shed, if it was told so.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use glommio::timer::sleep;
use prost::Message as _;
use protocol::{
    ErrorCode,
    command::Command,
    connection::ClientEvent,
    message::{
        CreateGroup, CreateGroupReply, Event, EventPush, GroupUpdate, History, HistoryReply, JoinGroup, JoinGroupReply,
        Message, Send, SendReply, Sync, SyncReply, event::What,
    },
};

use super::{
    comeback::come_back,
    crowd::Crowd,
    readback::RECONNECT_TRIES,
    talker::{DRAIN_LOOK_US, DRAIN_PING_US, LATE_US, QUIET_US_MAX, retry_us},
};
use crate::{
    client::Client,
    clock::Micros,
    follower::Follower,
    ledger::Way,
    pace::Pace,
    payload::{Composer, MessageKey},
    worker::{Span, Worker},
};

/// A request under way.
enum Request {
    Send(u32),
    Sync,
}

pub(super) struct Member {
    worker: Rc<Worker>,
    crowd: Arc<Crowd>,
    /// The number of this connection.
    number: u32,
    /// The number of the target that it is at.
    target: usize,
    group: String,
    client: Client,
    composer: Composer,
    send: Send,
    follower: Follower,
    /// The newest message that was pushed.
    pushed_seq: u64,
    /// It was told that pushes were dropped, or would not be.
    may_miss: bool,
    is_syncing: bool,
    /// When the connection was lost from which it has not come back yet.
    lost_us: Option<Micros>,
    under_way: HashMap<u32, Request>,
    /// Messages to be sent once more, not before `retry_us`.
    again: VecDeque<u32>,
    retry_us: Micros,
    /// Sends of the pace that were made.
    count: u64,
    acked: u64,
    is_sender: bool,
    last_news_us: Micros,
    last_ping_us: Micros,
}

impl Member {
    /// Connects, and comes into the group or room, so that pushes come.
    pub(super) async fn open(worker: &Rc<Worker>, crowd: Arc<Crowd>, number: u32) -> Result<Member> {
        let (plan, cast) = (&worker.plan, crowd.cast);
        let group = crowd.group(plan, number);
        let target = cast.target_of(number, plan.targets.len());
        plan.board.is_at(number, target);
        let mut client = match cast.is_guest(number) {
            true => Client::open_as_guest(worker, target).await?,
            false => Client::open_at(worker, target, &plan.user(number)).await?,
        };
        match cast.is_owner(number) {
            true => {
                create(&mut client, &crowd, &group).await?;
                crowd.made.fetch_add(1, Relaxed);
            }
            false => crowd.wait_for_groups(plan).await?,
        }
        if cast.is_room || !cast.is_owner(number) {
            let join = JoinGroup { group: group.clone(), ..JoinGroup::default() };
            let _: JoinGroupReply = client.call(Command::JoinGroup, &join).await.context("cannot join")?;
        }
        let mut follower = Follower::default();
        if !cast.is_guest(number) {
            follower.told_cursor(&client.sync(Bytes::new(), |_| {}).await?);
        }
        worker.tally.borrow_mut().connected += 1;
        Ok(Member {
            worker: worker.clone(),
            number,
            target,
            client,
            composer: plan.composer(),
            send: Send { to_group: group.clone(), ..Send::default() },
            group,
            follower,
            pushed_seq: 0,
            may_miss: cast.is_guest(number),
            is_syncing: false,
            lost_us: None,
            under_way: HashMap::new(),
            again: VecDeque::new(),
            retry_us: 0,
            count: 0,
            acked: 0,
            is_sender: cast.is_sender(number),
            crowd,
            last_news_us: 0,
            last_ping_us: 0,
        })
    }

    /// Takes part for the measured time, then until everything has come.
    pub(super) async fn run(mut self, span: Span) {
        let pace = self.crowd.cast.pace(&self.worker.plan.options, span.start_us, self.number);
        let mut result = self.take_part(&pace, span).await;
        while result.is_err() && self.crowd.cast.reconnects {
            match self.come_back().await {
                Ok(()) => result = self.take_part(&pace, span).await,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        self.finish_sending();
        self.settle(&pace, span, result);
        _ = self.client.close().await;
    }

    /// Nothing more will come: says what is missing.
    fn settle(&mut self, pace: &Pace, span: Span, result: Result<()>) {
        let mut tally = self.worker.tally.borrow_mut();
        if let Err(error) = result {
            tally.unverified += 1;
            return tally.findings.error(|| format!("connection {} is gone: {error:#}", self.number));
        }
        if self.crowd.cast.is_sender(self.number) {
            tally.unsent += pace.planned(span.end_us).saturating_sub(self.count);
            tally.unknown += self.count - self.acked;
        }
        let head_seq = self.crowd.place(self.number).head_seq.load(Relaxed);
        let follower = std::mem::take(&mut self.follower);
        if self.crowd.cast.is_room && self.may_miss {
            tally.shed += follower.missing(head_seq);
        } else {
            follower.end(head_seq, &mut tally.findings);
        }
    }

    /// What this connection sends has been answered, or never will be.
    fn finish_sending(&mut self) {
        if std::mem::take(&mut self.is_sender) {
            self.crowd.place(self.number).senders.fetch_sub(1, Relaxed);
        }
    }

    async fn take_part(&mut self, pace: &Pace, span: Span) -> Result<()> {
        let mut now_us = self.worker.plan.clock.now_us();
        self.last_news_us = now_us;
        loop {
            if self.is_sender {
                self.send_due(pace, span, now_us);
            }
            if now_us >= span.end_us + LATE_US && self.is_done(now_us, span) {
                return Ok(());
            }
            now_us = self.client.turn(self.wake_us(pace, span, now_us)).await?;
            self.take_events(now_us, span)?;
        }
    }

    fn send_due(&mut self, pace: &Pace, span: Span, now_us: Micros) {
        // One less than the server allows leaves room to sync.
        let window = self.worker.plan.options.window.min(self.client.in_flight_max().saturating_sub(1)).max(1);
        while self.under_way.len() < window as usize {
            let ordinal = if now_us >= self.retry_us && !self.again.is_empty() {
                self.again.pop_front()
            } else {
                let due_us = pace.due_us(self.count, now_us).filter(|&due_us| due_us < span.end_us);
                due_us.filter(|_| now_us < span.end_us + LATE_US).map(|_| {
                    self.count += 1;
                    self.worker.tally.borrow_mut().sent += 1;
                    (self.count - 1) as u32
                })
            };
            let Some(ordinal) = ordinal else { break };
            self.composer.compose(MessageKey { sender: self.number, ordinal }, &mut self.send);
            let id = self.client.request(now_us, Command::Send, &self.send);
            self.under_way.insert(id, Request::Send(ordinal));
        }
    }

    /// When to look again if nothing comes.
    fn wake_us(&self, pace: &Pace, span: Span, now_us: Micros) -> Micros {
        let over_us = span.end_us + LATE_US;
        if now_us >= over_us {
            return now_us + DRAIN_LOOK_US;
        }
        let due_us = if self.is_sender { pace.wake_us(self.count) } else { Micros::MAX };
        let retry_us = if self.again.is_empty() { Micros::MAX } else { self.retry_us };
        // What is due already waits for an answer, which wakes by itself.
        [due_us, retry_us].into_iter().filter(|&at_us| at_us > now_us).min().unwrap_or(over_us).min(over_us)
    }

    /// After the measured time: whether everything has come, or nothing comes any more.
    fn is_done(&mut self, now_us: Micros, span: Span) -> bool {
        if self.under_way.is_empty() && self.again.is_empty() {
            self.finish_sending();
            let place = self.crowd.place(self.number);
            let all_have_sent = place.senders.load(Relaxed) == 0;
            if all_have_sent && !self.is_syncing && self.follower.has_all(place.head_seq.load(Relaxed)) {
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
                ClientEvent::OnlineMessage(message) => self.take_message(&message, Way::Push, now_us, span),
                ClientEvent::Event(EventPush { event: Some(event), cursor }) => {
                    self.take_event(&event, Way::Push, now_us, span);
                    self.follower.told_cursor(if cursor.is_empty() { &event.position } else { &cursor });
                }
                ClientEvent::Response { id, payload } => match self.under_way.remove(&id) {
                    Some(Request::Send(ordinal)) => self.take_ack(ordinal, &SendReply::decode(payload)?, now_us, span),
                    Some(Request::Sync) => self.take_page(&SyncReply::decode(payload)?, now_us, span),
                    None => bail!("an answer to a request that was not made: {id}"),
                },
                ClientEvent::Failed { id, code, text, retry_after_ms } => match self.under_way.remove(&id) {
                    Some(Request::Send(ordinal)) => self.take_refusal(ordinal, code, &text, retry_after_ms, now_us),
                    Some(Request::Sync) if code.is_retryable() => self.request_sync(now_us),
                    _ => bail!("request {id} failed: {code} ({text})"),
                },
                ClientEvent::Pong(pong) if !pong.behind => self.follower.told_cursor(&pong.cursor),
                ClientEvent::Behind | ClientEvent::Pong(_) => self.catch_up(now_us),
                _ => {}
            }
        }
        Ok(())
    }

    fn take_ack(&mut self, ordinal: u32, reply: &SendReply, now_us: Micros, span: Span) {
        self.acked += 1;
        self.last_news_us = now_us;
        self.follower.own(reply.seq);
        self.crowd.place(self.number).head_seq.fetch_max(reply.seq, Relaxed);
        let due_us = self.due_us(MessageKey { sender: self.number, ordinal }, span);
        let mut tally = self.worker.tally.borrow_mut();
        tally.ack(due_us, now_us, span.end_us);
        tally.ack_us_at.record(self.target, now_us.saturating_sub(due_us));
    }

    /// The send may be stored or not. What may succeed later is tried again, with the same id.
    fn take_refusal(&mut self, ordinal: u32, code: ErrorCode, text: &str, retry_after_ms: u32, now_us: Micros) {
        self.worker.tally.borrow_mut().findings.error(|| format!("a send was refused: {code} ({text})"));
        if code.is_retryable() {
            self.again.push_back(ordinal);
            self.retry_us = retry_us(retry_after_ms, now_us);
        }
    }

    fn take_event(&mut self, event: &Event, way: Way, now_us: Micros, span: Span) {
        self.last_news_us = now_us;
        self.follower.event(&event.position, way, &mut self.worker.tally.borrow_mut().findings);
        if let Some(What::Message(message)) = &event.what {
            self.take_message(message, way, now_us, span);
        }
    }

    fn take_message(&mut self, message: &Message, way: Way, now_us: Micros, span: Span) {
        self.last_news_us = now_us;
        let mut tally = self.worker.tally.borrow_mut();
        let key = self.composer.recognise(&message.client_message_id).filter(|_| message.group == self.group);
        let Some(key) = key else {
            return tally.findings.error(|| format!("a message that is not of this group: {message:?}"));
        };
        if !self.composer.is_intact(key, &message.body) {
            tally.findings.error(|| format!("wrong content: {key:?}"));
        }
        if way == Way::Push && !self.is_syncing {
            if message.seq <= self.pushed_seq {
                tally.findings.reordered += 1;
                tally.findings.note(|| format!("reordered: {} was pushed behind {}", message.seq, self.pushed_seq));
            }
            self.pushed_seq = message.seq;
        }
        if key.sender == self.number {
            self.follower.own(message.seq); // it is met again in pages
        } else if self.follower.message(message.seq, way, &mut tally.findings) {
            tally.spread.given(key, now_us);
            let due_us = self.due_us(key, span);
            tally.delivery(due_us, now_us, span.end_us);
            let way = (self.worker.plan.board.place(key.sender), self.target);
            tally.delivery_us_between.record(way, now_us.saturating_sub(due_us));
        }
    }

    /// When a message was to be sent.
    fn due_us(&self, message: MessageKey, span: Span) -> Micros {
        let pace = self.crowd.cast.pace(&self.worker.plan.options, span.start_us, message.sender);
        pace.wake_us(message.ordinal.into())
    }

    /// On a new connection: asks for what was missed, and sends again what was not answered, oldest first.
    async fn come_back(&mut self) -> Result<()> {
        self.lost_us.get_or_insert(self.worker.plan.clock.now_us());
        let user = self.worker.plan.user(self.number);
        self.client = come_back(&self.worker, self.number, &user, &mut self.target).await?;
        let unanswered = self.under_way.drain().filter_map(|(_, request)| match request {
            Request::Send(ordinal) => Some(ordinal),
            Request::Sync => None,
        });
        self.again.extend(unanswered);
        self.again.make_contiguous().sort_unstable();
        (self.retry_us, self.is_syncing) = (0, false);
        self.catch_up(self.worker.plan.clock.now_us());
        Ok(())
    }

    /// Pushes were dropped: what is kept is in the log, and of a live room nothing is.
    fn catch_up(&mut self, now_us: Micros) {
        self.may_miss = true;
        if !self.is_syncing && !self.crowd.cast.is_guest(self.number) {
            self.is_syncing = true;
            if !self.crowd.cast.is_room {
                self.follower.begin_catching_up();
            }
            self.request_sync(now_us);
        }
    }

    fn request_sync(&mut self, now_us: Micros) {
        let sync = Sync { cursor: Bytes::copy_from_slice(self.follower.cursor()), ..Sync::default() };
        let id = self.client.request(now_us, Command::Sync, &sync);
        self.under_way.insert(id, Request::Sync);
    }

    fn take_page(&mut self, page: &SyncReply, now_us: Micros, span: Span) {
        for event in &page.events {
            self.take_event(event, Way::Page, now_us, span);
        }
        self.follower.page_end(&page.cursor);
        if page.more {
            return self.request_sync(now_us); // behind an empty page, too: an event came while the server looked
        }
        self.is_syncing = false;
        let away_us = self.lost_us.take().map(|lost_us| now_us - lost_us);
        away_us.into_iter().for_each(|away_us| self.worker.tally.borrow_mut().return_us.saturating_record(away_us));
        if !self.crowd.cast.is_room {
            self.follower.end_catching_up(&mut self.worker.tally.borrow_mut().findings);
        }
    }
}

async fn create(client: &mut Client, crowd: &Crowd, group: &str) -> Result<()> {
    let info = GroupUpdate { name: Some("load".into()), ..GroupUpdate::default() };
    let create = CreateGroup {
        r#type: crowd.cast.kind().into(),
        group: group.to_owned(),
        info: Some(info),
        ..CreateGroup::default()
    };
    let _: CreateGroupReply = client.call(Command::CreateGroup, &create).await.context("cannot make a group")?;
    Ok(())
}

/// Reads a group's history from its start: every sequence must be there. What can't be found out counts as unverified.
pub(super) async fn read_back(worker: &Rc<Worker>, crowd: &Crowd, owner: u32) -> Result<()> {
    let mut result = try_to_read(worker, crowd, owner).await;
    for _ in 1..if crowd.cast.reconnects { RECONNECT_TRIES } else { 1 } {
        if result.is_ok() {
            break;
        }
        sleep(Duration::from_secs(1)).await;
        result = try_to_read(worker, crowd, owner).await;
    }
    if let Err(error) = result {
        let mut tally = worker.tally.borrow_mut();
        tally.unverified += 1;
        tally.findings.error(|| format!("group {owner} can't be read back: {error:#}"));
    }
    Ok(())
}

async fn try_to_read(worker: &Worker, crowd: &Crowd, owner: u32) -> Result<()> {
    let mut client = Client::open(worker, &worker.plan.user(owner)).await?;
    let (group, head_seq) = (crowd.group(&worker.plan, owner), crowd.place(owner).head_seq.load(Relaxed));
    let composer = worker.plan.composer();
    let mut follower = Follower::default();
    let mut from_seq = 0;
    loop {
        let history = History { group: group.clone(), from_seq, forward: true, ..History::default() };
        let page: HistoryReply = client.call(Command::History, &history).await?;
        let mut tally = worker.tally.borrow_mut();
        for message in &page.messages {
            tally.read_back += 1;
            let key = composer.recognise(&message.client_message_id);
            if !key.is_some_and(|key| composer.is_intact(key, &message.body)) {
                tally.findings.lost += 1;
                tally
                    .findings
                    .note(|| format!("lost: the history of {group} has {} with the wrong content", message.seq));
            }
            follower.message(message.seq, Way::Page, &mut tally.findings);
        }
        match page.messages.last() {
            Some(last) if page.more => from_seq = last.seq + 1,
            None if page.more => bail!("history: an empty page says that more follows"),
            _ => break,
        }
    }
    follower.end(head_seq, &mut worker.tally.borrow_mut().findings);
    client.close().await
}
