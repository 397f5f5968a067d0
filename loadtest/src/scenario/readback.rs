//! The last check of the scenarios that send: every user logs in afresh and reads its event log from the start and the
//! conversation both ways; each reading must have everything acknowledged exactly once, in order, intact.
//! Reads page by page: nothing is kept but the ledger.

use std::{rc::Rc, time::Duration};

use anyhow::{Result, bail};
use bytes::Bytes;
use futures::StreamExt;
use glommio::timer::sleep;
use protocol::{
    command::Command,
    message::{History, HistoryReply, Message, event::What},
};

use super::talker::{SharedConversation, sighting};
use crate::{
    client::Client,
    ledger::{Reading, Side},
    payload::{Composer, MessageKey},
    worker::Worker,
};

/// Conversations a thread reads at a time.
const CONCURRENCY: usize = 8;
/// Tries for each user with `--reconnect`, a second apart.
pub(super) const RECONNECT_TRIES: u32 = 10;

/// A conversation to be read.
pub(super) struct Book {
    pub(super) conversation: SharedConversation,
    /// What stands for its two users in the ids of their messages, and their names; by side.
    pub(super) numbers: [u32; 2],
    pub(super) names: [String; 2],
    /// Who reads it.
    pub(super) readers: &'static [Side],
}

/// Reads all conversations back, and adds up what is missing. What can't be read counts as unverified.
pub(super) async fn read_back(worker: &Rc<Worker>, books: &[Book], reconnect: bool) {
    let tries = if reconnect { RECONNECT_TRIES } else { 1 };
    futures::stream::iter(books)
        .for_each_concurrent(CONCURRENCY, |book| async move {
            for &side in book.readers {
                Reader::new(worker, book, side).read(tries).await;
            }
        })
        .await;
    let mut tally = worker.tally.borrow_mut();
    for book in books {
        let conversation = book.conversation.borrow();
        tally.unknown += conversation.unknown();
        tally.findings.lost += conversation.lost();
    }
}

/// Reads as one user.
struct Reader<'a> {
    worker: &'a Worker,
    conversation: &'a SharedConversation,
    side: Side,
    numbers: [u32; 2],
    names: [String; 2],
    composer: Composer,
}

impl<'a> Reader<'a> {
    fn new(worker: &'a Worker, book: &'a Book, side: Side) -> Self {
        let plan = &worker.plan;
        let numbers = [book.numbers[side], book.numbers[1 - side]];
        let names = [side, 1 - side].map(|side| book.names[side].clone());
        Reader { worker, conversation: &book.conversation, side, numbers, names, composer: plan.composer() }
    }

    /// Reads everything; from the start again if the connection is lost and there are tries left.
    async fn read(&self, tries: u32) {
        for left in (0..tries).rev() {
            let Err(error) = self.try_to_read().await else { return };
            if left > 0 {
                sleep(Duration::from_secs(1)).await;
                continue;
            }
            let mut tally = self.worker.tally.borrow_mut();
            tally.unverified += 1;
            tally.findings.error(|| format!("user {} can't be read back: {error:#}", self.names[0]));
        }
    }

    async fn try_to_read(&self) -> Result<()> {
        let mut client = Client::open(self.worker, &self.worker.plan.user(self.numbers[0])).await?;
        self.read_event_log(&mut client).await?;
        self.read_history(&mut client, true).await?;
        self.read_history(&mut client, false).await?;
        client.close().await
    }

    async fn read_event_log(&self, client: &mut Client) -> Result<()> {
        let mut reading = self.begin("event log", true);
        let mut last_position = Bytes::new();
        let mut is_unordered = false;
        client
            .sync(Bytes::new(), |page| {
                for event in &page.events {
                    is_unordered |= event.position <= last_position;
                    last_position = event.position.clone();
                    if let Some(What::Message(message)) = &event.what {
                        self.take(&mut reading, message);
                    }
                }
            })
            .await?;
        if is_unordered {
            let mut tally = self.worker.tally.borrow_mut();
            tally.findings.reordered += 1;
            tally.findings.note(|| format!("reordered: positions in the event log of {}", self.names[0]));
        }
        self.end(reading);
        Ok(())
    }

    async fn read_history(&self, client: &mut Client, forward: bool) -> Result<()> {
        let mut reading = self.begin(if forward { "history forward" } else { "history backward" }, forward);
        let mut from_seq = 0;
        loop {
            let history = History { user: self.names[1].clone(), from_seq, forward, ..History::default() };
            let page: HistoryReply = client.call(Command::History, &history).await?;
            for message in &page.messages {
                self.take(&mut reading, message);
            }
            if !page.more {
                break;
            }
            let Some(last) = page.messages.last() else { bail!("history: an empty page says that more follows") };
            from_seq = if forward { last.seq + 1 } else { last.seq - 1 };
            if from_seq == 0 {
                bail!("history: there is more behind the oldest message");
            }
        }
        self.end(reading);
        Ok(())
    }

    fn begin(&self, what: &'static str, forward: bool) -> Reading {
        Reading::begin(&mut self.conversation.borrow_mut(), what, forward)
    }

    fn take(&self, reading: &mut Reading, message: &Message) {
        if self.worker.plan.is_push(message) {
            return;
        }
        let mut tally = self.worker.tally.borrow_mut();
        tally.read_back += 1;
        let Some(seen) = sighting(&self.composer, message, self.side, self.numbers) else {
            return tally.findings.error(|| format!("a message that is not of this conversation: {message:?}"));
        };
        let sender = usize::from(seen.from != self.side);
        let key = MessageKey { sender: self.numbers[sender], ordinal: seen.ordinal };
        let is_intact = message.from == self.names[sender]
            && message.to == self.names[1 - sender]
            && self.composer.is_intact(key, &message.body);
        reading.message(&mut self.conversation.borrow_mut(), seen, is_intact, &mut tally.findings);
    }

    fn end(&self, reading: Reading) {
        let mut tally = self.worker.tally.borrow_mut();
        reading.end(&mut self.conversation.borrow_mut(), &mut tally.findings);
    }
}
