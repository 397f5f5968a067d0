//! Reading back: the event log behind a cursor, and pages of a conversation.

use bytes::Bytes;
use prost::Message as _;
use protocol::message::Message;

use super::{
    AppId, Error, UserId, damaged,
    keys::{self, Conversation},
    records::{EventKind, EventRecord},
    send::head_seq,
};
use crate::store::{Lane, RangeQuery, ReadMode, Store, Tx, Versionstamp};

/// How much a page may hold.
#[derive(Clone, Copy, Debug)]
pub struct PageLimit {
    /// Entries, at the most.
    pub entries_max: usize,
    /// Encoded bytes, about, at the most; one entry is returned even if it alone is larger.
    pub bytes_max: usize,
}

/// An entry of an event log.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Where it stands in the log.
    pub position: Versionstamp,
    /// The message it is about.
    pub message: Message,
}

/// A page of an event log.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncPage {
    /// In log order.
    pub events: Vec<Event>,
    /// Position of the last one; the cursor asked with if there is none.
    pub cursor: Versionstamp,
    /// The log goes on behind the cursor.
    pub more: bool,
}

/// Reads `user`'s event log behind `cursor`.
pub async fn events(
    store: &Store,
    app: AppId,
    user: &UserId,
    cursor: Versionstamp,
    limit: PageLimit,
) -> Result<SyncPage, Error> {
    let user = user.clone();
    let read = async move |tx: &Tx| read_events(tx, app, &user, cursor, limit).await;
    let (page, read_at) = store.run(Lane::Read, "sync", read).await?;
    // A cursor from the future was given out by another store, or by this one before it was wiped.
    if cursor > Versionstamp::new(read_at.version, u16::MAX, u16::MAX) {
        return Err(Error::CursorInvalid);
    }
    Ok(page)
}

async fn read_events(
    tx: &Tx,
    app: AppId,
    user: &UserId,
    cursor: Versionstamp,
    limit: PageLimit,
) -> Result<SyncPage, Error> {
    let (begin, end) = keys::events_after(app, user, cursor);
    // One more than the page holds tells whether the log goes on.
    let entries_max = limit.entries_max.max(1);
    let query = RangeQuery { begin, end, limit: entries_max + 1, reverse: false, mode: ReadMode::Snapshot };
    let entries = tx.range(query).await?.pairs;
    let mut page = SyncPage { events: Vec::new(), cursor, more: entries.len() > entries_max };
    let mut budget = Budget::new(limit.bytes_max);
    for (key, value) in entries.into_iter().take(entries_max) {
        let position = keys::event_position(&key).ok_or_else(|| damaged("event key"))?;
        let message = resolve(tx, app, user, value).await?;
        if !budget.take(message.len() + Versionstamp::LEN) {
            page.more = true;
            break;
        }
        page.events.push(Event { position, message: decode_message(message)? });
        page.cursor = position;
    }
    Ok(page)
}

/// The message an entry points to.
async fn resolve(tx: &Tx, app: AppId, user: &UserId, value: Bytes) -> Result<Bytes, Error> {
    let record = EventRecord::decode(value).map_err(|_| damaged("event"))?;
    let Some(EventKind::Message(target)) = record.kind else { return Err(damaged("event kind")) };
    let peer = UserId::new(&target.peer).ok_or_else(|| damaged("event peer"))?;
    let key = keys::message(app, Conversation::between(user, &peer), target.seq);
    tx.snapshot_get(&key).await?.ok_or_else(|| damaged("event without its message"))
}

/// A page of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryPage {
    /// In the direction asked for.
    pub messages: Vec<Message>,
    /// More follow in that direction.
    pub more: bool,
    /// The conversation's newest sequence; 0 if it has no message.
    pub head_seq: u64,
}

/// Which messages of a conversation.
#[derive(Clone, Copy, Debug)]
pub struct HistoryQuery {
    /// The first sequence; `None` for the newest, or the oldest if `forward`.
    pub from_seq: Option<u64>,
    /// Towards newer messages.
    pub forward: bool,
    /// Size of the page.
    pub limit: PageLimit,
}

/// Reads the conversation of `user` with `peer`.
pub async fn history(
    store: &Store,
    app: AppId,
    user: &UserId,
    peer: &UserId,
    query: HistoryQuery,
) -> Result<HistoryPage, Error> {
    let (user, peer) = (user.clone(), peer.clone());
    let read = async move |tx: &Tx| read_history(tx, app, Conversation::between(&user, &peer), query).await;
    Ok(store.run(Lane::Read, "history", read).await?.0)
}

async fn read_history(
    tx: &Tx,
    app: AppId,
    conversation: Conversation<'_>,
    query: HistoryQuery,
) -> Result<HistoryPage, Error> {
    let head_seq = head_seq(tx.snapshot_get(&keys::conversation_head(app, conversation)).await?)?;
    let (first, last) = match (query.from_seq, query.forward) {
        (from, true) => (from.unwrap_or(1), head_seq),
        (from, false) => (1, from.unwrap_or(head_seq).min(head_seq)),
    };
    if first > last {
        return Ok(HistoryPage { messages: Vec::new(), more: false, head_seq });
    }
    let messages = read_messages(tx, app, conversation, first, last, query).await?;
    // Exactly, because the page after sequence 1 would begin at 0, which stands for the newest message.
    let end = if query.forward { last } else { first };
    let more = messages.last().is_some_and(|message: &Message| message.seq != end);
    Ok(HistoryPage { messages, more, head_seq })
}

/// Reads a few at a time, so that little is read beyond what the page can hold.
async fn read_messages(
    tx: &Tx,
    app: AppId,
    conversation: Conversation<'_>,
    mut first: u64,
    mut last: u64,
    query: HistoryQuery,
) -> Result<Vec<Message>, Error> {
    const CHUNK: usize = 16;
    let entries_max = query.limit.entries_max.max(1);
    let mut budget = Budget::new(query.limit.bytes_max);
    let mut messages: Vec<Message> = Vec::new();
    while messages.len() < entries_max && first <= last {
        let chunk = RangeQuery {
            begin: keys::message(app, conversation, first),
            end: keys::message(app, conversation, last + 1),
            limit: CHUNK.min(entries_max - messages.len()),
            reverse: !query.forward,
            mode: ReadMode::Snapshot,
        };
        let pairs = tx.range(chunk).await?.pairs;
        if pairs.is_empty() {
            break;
        }
        for (_, message) in pairs {
            if !budget.take(message.len()) {
                return Ok(messages);
            }
            let message = decode_message(message)?;
            match query.forward {
                true => first = message.seq + 1,
                false => last = message.seq.saturating_sub(1),
            }
            messages.push(message);
        }
    }
    Ok(messages)
}

fn decode_message(stored: Bytes) -> Result<Message, Error> {
    Message::decode(stored).map_err(|_| damaged("message"))
}

/// Counts a page's bytes; the first entry always fits.
struct Budget {
    left: usize,
    empty: bool,
}

impl Budget {
    /// Tags and lengths around an entry in a page.
    const ENTRY_OVERHEAD_BYTES: usize = 16;

    fn new(bytes_max: usize) -> Self {
        Budget { left: bytes_max, empty: true }
    }

    fn take(&mut self, bytes: usize) -> bool {
        let bytes = bytes + Self::ENTRY_OVERHEAD_BYTES;
        let fits = self.empty || bytes <= self.left;
        self.empty = false;
        self.left = self.left.saturating_sub(bytes);
        fits
    }
}
