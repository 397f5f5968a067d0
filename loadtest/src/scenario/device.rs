//! A device that messages are sent to: it comes, catches up, takes what is pushed, loses its connection and
//! comes back, as its timetable says. What it is given is followed to the last message.

use std::{rc::Rc, sync::Arc, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use glommio::timer::sleep;
use protocol::{
    connection::ClientEvent,
    message::{Event, EventPush, event::What},
};

use super::{
    feeder::{FEEDER, FLOW},
    talker::{DRAIN_PING_US, QUIET_US_MAX, SharedConversation, sighting},
};
use crate::{
    client::{Client, User},
    clock::{Micros, SECOND_US},
    follower::Follower,
    ledger::Way,
    mix::Draw,
    payload::{Composer, MessageKey},
    timetable::Absence,
    worker::{Span, Worker},
};

/// The device's side of its conversation.
pub(super) const RECIPIENT: usize = 1 - FEEDER;
/// At the end: how often to look whether everything has come.
const LOOK_US: Micros = SECOND_US / 5;
/// Waits behind a try to come back that failed, doubling from the first to the last (WIRE.md, Go-away). A
/// random part of up to the same length is added.
const BACK_OFF_MS: (u64, u64) = (1_000, 60_000);
/// A device that is not back after this time is given up.
const GIVE_UP_US: Micros = 120 * SECOND_US;

pub(super) struct Device {
    worker: Rc<Worker>,
    conversation: SharedConversation,
    /// What stands for this device's user and for the sender in the ids of messages.
    numbers: [u32; 2],
    user: User,
    tls: Arc<rustls::ClientConfig>,
    /// Comes back as a device that knows nothing.
    forgets: bool,
    composer: Composer,
    follower: Follower,
    /// For the waits between tries.
    draw: Draw,
    end_us: Micros,
}

impl Device {
    /// A device of user number `number`, which is not connected yet.
    pub(super) fn new(
        worker: &Rc<Worker>,
        number: u32,
        user: User,
        tls: Arc<rustls::ClientConfig>,
        forgets: bool,
        conversation: SharedConversation,
    ) -> Self {
        Device {
            worker: worker.clone(),
            conversation,
            numbers: [number, FLOW | number],
            user,
            tls,
            forgets,
            composer: worker.plan.composer(),
            follower: Follower::default(),
            draw: Draw::new(worker.plan.seed ^ u64::from(number)),
            end_us: 0,
        }
    }

    /// Connects, logs in and reads the event log to its end, so that pushes come.
    pub(super) async fn come(&mut self) -> Result<Client> {
        let mut client = Client::open_with(&self.worker, &self.user, self.tls.clone()).await?;
        self.catch_up(&mut client).await?;
        Ok(client)
    }

    /// Keeps to its timetable, and stays at the end until it has been given everything.
    pub(super) async fn run(mut self, client: Client, absences: Vec<Absence>, span: Span) {
        self.end_us = span.end_us;
        if let Err(error) = self.live(client, absences).await {
            let mut tally = self.worker.tally.borrow_mut();
            tally.unverified += 1;
            tally.findings.error(|| format!("device {} of {} is gone: {error:#}", self.user.device, self.user.name));
            return;
        }
        let head_seq = self.conversation.borrow().head_seq();
        self.follower.end(head_seq, &mut self.worker.tally.borrow_mut().findings);
    }

    async fn live(&mut self, mut client: Client, absences: Vec<Absence>) -> Result<()> {
        let clock = self.worker.plan.clock;
        for absence in absences {
            client = self.stay_until(client, absence.leave_us).await?;
            drop(client); // no farewell: this is what losing a connection looks like
            if self.forgets {
                self.follower = Follower::default();
            }
            sleep(Duration::from_micros(absence.return_us.saturating_sub(clock.now_us()))).await;
            client = self.come_back(absence.counted_from_us).await?;
        }
        client = self.stay_until(client, self.end_us).await?;
        self.settle(&mut client).await?;
        _ = client.close().await;
        Ok(())
    }

    /// Takes what is pushed. If the connection is lost, another one takes its place.
    async fn stay_until(&mut self, mut client: Client, until_us: Micros) -> Result<Client> {
        while let Err(error) = self.stay(&mut client, until_us).await {
            let name = &self.user.name;
            self.worker.tally.borrow_mut().findings.error(|| format!("{name}: {error:#}"));
            client = self.come_back(self.worker.plan.clock.now_us()).await?;
        }
        Ok(client)
    }

    async fn stay(&mut self, client: &mut Client, until_us: Micros) -> Result<()> {
        let mut now_us = self.worker.plan.clock.now_us();
        loop {
            self.take_events(client, now_us).await?;
            if now_us >= until_us {
                return Ok(());
            }
            now_us = client.turn(until_us).await?;
        }
    }

    /// After the end: waits until everything has come, or nothing comes any more.
    async fn settle(&mut self, client: &mut Client) -> Result<()> {
        let mut now_us = self.worker.plan.clock.now_us();
        let (mut ping_us, mut news_us) = (now_us, now_us);
        while !self.is_settled() && now_us < news_us + QUIET_US_MAX {
            if now_us >= ping_us {
                ping_us = now_us + DRAIN_PING_US;
                client.ping(now_us); // its answer tells of dropped pushes
            }
            now_us = client.turn(now_us + LOOK_US).await?;
            let is_news = self.take_events(client, now_us).await?;
            // While the sender waits for answers there may be news.
            if is_news || !self.conversation.borrow().is_finished(FEEDER) {
                news_us = now_us;
            }
        }
        Ok(())
    }

    fn is_settled(&self) -> bool {
        let conversation = self.conversation.borrow();
        conversation.is_finished(FEEDER) && self.follower.has_all(conversation.head_seq())
    }

    /// Tries until it is back, waiting longer each time. How long that took counts from `counted_from_us`.
    async fn come_back(&mut self, counted_from_us: Micros) -> Result<Client> {
        let clock = self.worker.plan.clock;
        let give_up_us = clock.now_us() + GIVE_UP_US;
        let mut wait_ms = BACK_OFF_MS.0;
        loop {
            match self.come().await {
                Ok(client) => {
                    let way_us = clock.now_us().saturating_sub(counted_from_us);
                    self.worker.tally.borrow_mut().return_us.saturating_record(way_us);
                    return Ok(client);
                }
                Err(error) if clock.now_us() >= give_up_us => return Err(error),
                Err(error) => self.worker.tally.borrow_mut().retry(&error),
            }
            sleep(Duration::from_millis(wait_ms + self.draw.below(wait_ms))).await;
            wait_ms = (wait_ms * 2).min(BACK_OFF_MS.1);
        }
    }

    /// Reads the event log from the cursor to its end.
    async fn catch_up(&mut self, client: &mut Client) -> Result<()> {
        let clock = self.worker.plan.clock;
        let start_us = clock.now_us();
        let mut events = 0;
        self.follower.begin_catching_up();
        let cursor = Bytes::copy_from_slice(self.follower.cursor());
        client
            .sync(cursor, |page| {
                events += page.events.len() as u64;
                let now_us = clock.now_us();
                page.events.iter().for_each(|event| self.take(event, Way::Page, now_us));
                self.follower.page_end(&page.cursor);
            })
            .await?;
        let mut tally = self.worker.tally.borrow_mut();
        self.follower.end_catching_up(&mut tally.findings);
        if self.end_us > 0 {
            tally.catch_up(events, start_us, clock.now_us(), self.end_us); // the first coming is not counted
        }
        Ok(())
    }

    /// Returns whether an event came.
    async fn take_events(&mut self, client: &mut Client, mut now_us: Micros) -> Result<bool> {
        let mut is_news = false;
        while let Some(event) = client.next_event()? {
            match event {
                ClientEvent::Event(EventPush { event: Some(event), cursor }) => {
                    is_news = true;
                    self.take(&event, Way::Push, now_us);
                    self.follower.told_cursor(if cursor.is_empty() { &event.position } else { &cursor });
                }
                ClientEvent::Pong(pong) if !pong.behind => self.follower.told_cursor(&pong.cursor),
                ClientEvent::Behind | ClientEvent::Pong(_) => {
                    self.catch_up(client).await?;
                    now_us = self.worker.plan.clock.now_us();
                }
                _ => {}
            }
        }
        Ok(is_news)
    }

    fn take(&mut self, event: &Event, way: Way, now_us: Micros) {
        let mut tally = self.worker.tally.borrow_mut();
        self.follower.event(&event.position, way, &mut tally.findings);
        let Some(What::Message(message)) = &event.what else { return };
        let Some(seen) = sighting(&self.composer, message, RECIPIENT, self.numbers) else {
            return tally.findings.error(|| format!("a message that is not of this conversation: {message:?}"));
        };
        self.follower.message(seen.seq, way, &mut tally.findings);
        if !self.composer.is_intact(MessageKey { sender: self.numbers[1], ordinal: seen.ordinal }, &message.body) {
            tally.findings.error(|| format!("wrong content: {seen:?}"));
        }
        if let Some(sent_us) = self.conversation.borrow_mut().shown(seen, &mut tally.findings) {
            tally.delivery(sent_us, now_us, self.end_us);
        }
    }
}
