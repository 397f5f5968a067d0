//! Reading the event log back, behind a cursor.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;
use protocol::message::{self, Message, event::What};

use super::{
    AppId, Error, UserId, damaged,
    keys::{self, Conversation, Tail},
    records::{EventKind, EventRecord},
    retention::{event_floor, floor_seq},
};
use crate::store::{Lane, RangeQuery, ReadMode, Reading, Store, Tx, Versionstamp};

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
    /// What it is about; a message as it is now.
    pub what: What,
}

/// Where to read an event log from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// Behind what the device had last been given, in the store of this id (empty: not known).
    Cursor(Versionstamp, Bytes),
    /// The end: the device reads the conversation list instead.
    End,
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
    /// The log does not hold what follows the cursor asked with: `cursor` is its end.
    pub start_over: bool,
}

/// Reads `user`'s event log.
pub async fn events(store: &Store, app: AppId, user: &UserId, from: From, limit: PageLimit) -> Result<SyncPage, Error> {
    let user = user.clone();
    let asked = from.clone();
    let read = async move |tx: &Tx| match &asked {
        From::Cursor(cursor, store_id) if is_of_this_store(tx, store_id).await? => {
            read_events(tx, app, &user, *cursor, limit).await
        }
        _ => Ok(None),
    };
    let (page, read_at) = store.run(Lane::Read, "sync", read).await?;
    // Everything that was committed before this has been seen, or need not be.
    let end = Versionstamp::new(read_at.version, u16::MAX, u16::MAX);
    let at_end = |start_over| SyncPage { events: Vec::new(), cursor: end, more: false, start_over };
    match (page, from) {
        (_, From::End) => Ok(at_end(false)),
        // A cursor from the future was given out by another store, or by this one before it was wiped.
        (Some(page), From::Cursor(cursor, _)) if cursor <= end => Ok(page),
        _ => Ok(at_end(true)),
    }
}

async fn is_of_this_store(tx: &Tx, store_id: &Bytes) -> Result<bool, Error> {
    Ok(store_id.is_empty() || tx.snapshot_get(&keys::store_id()).await?.is_none_or(|own| own == *store_id))
}

async fn read_events(
    tx: &Tx,
    app: AppId,
    user: &UserId,
    cursor: Versionstamp,
    limit: PageLimit,
) -> Result<Option<SyncPage>, Error> {
    let (begin, end) = keys::events_after(app, user, cursor);
    // One more than the page holds tells whether the log goes on.
    let entries_max = limit.entries_max.max(1);
    let query = RangeQuery { begin, end, limit: entries_max + 1, reverse: false, mode: ReadMode::Snapshot };
    let floor = tx.snapshot_get(&keys::event_floor(app, user));
    let entries = tx.range(query).await?.pairs;
    if cursor < event_floor(floor.await?)? {
        return Ok(None); // something behind the cursor has expired
    }
    let mut page = SyncPage { events: Vec::new(), cursor, more: entries.len() > entries_max, start_over: false };
    let mut budget = Budget::new(limit.bytes_max);
    let mut entries = entries.into_iter().take(entries_max);
    let mut started = VecDeque::new();
    loop {
        started.extend(entries.by_ref().take(ahead_max(tx) - started.len()).map(|(key, value)| {
            let entry = start_resolving(tx, app, user, value);
            (key, entry)
        }));
        let Some((key, entry)) = started.pop_front() else { break };
        let position = keys::event_position(&key).ok_or_else(|| damaged("event key"))?;
        if let Some(what) = entry?.resolve(tx, app).await? {
            if !budget.take(what.encoded_len() + Versionstamp::LEN) {
                page.more = true;
                break;
            }
            page.events.push(Event { position, what });
        }
        page.cursor = position;
    }
    Ok(Some(page))
}

/// Messages whose reading is started before the first is needed: where each is a round trip, a page
/// takes few. Elsewhere a message that the page has no room for would be read for nothing.
fn ahead_max(tx: &Tx) -> usize {
    if tx.is_remote() { 64 } else { 1 }
}

/// An entry, as far as it is read.
enum Entry {
    /// Points to a message, by conversation and sequence; `true`: to one that was changed.
    Message(Tail, u64, Reading<Option<Bytes>>, bool),
    /// Holds everything itself.
    Stored(Bytes),
}

/// Reads the message an entry points to.
fn start_resolving(tx: &Tx, app: AppId, user: &UserId, value: Bytes) -> Result<Entry, Error> {
    let record = EventRecord::decode(value).map_err(|_| damaged("event"))?;
    let (target, is_change) = match record.kind {
        Some(EventKind::Message(target)) => (target, false),
        Some(EventKind::Changed(target)) => (target, true),
        Some(EventKind::Stored(event)) => return Ok(Entry::Stored(event)),
        None => return Err(damaged("event kind")),
    };
    let peer = UserId::new(&target.peer).ok_or_else(|| damaged("event peer"))?;
    let tail = Tail::from(Conversation::between(user, &peer));
    let message = tx.snapshot_get(&tail.message(app, target.seq));
    Ok(Entry::Message(tail, target.seq, message, is_change))
}

impl Entry {
    /// What it is about; `None` if that has expired.
    async fn resolve(self, tx: &Tx, app: AppId) -> Result<Option<What>, Error> {
        match self {
            Entry::Message(tail, seq, reading, is_change) => {
                let Some(stored) = reading.await? else {
                    let has_expired = seq < floor_of(tx, app, &tail).await?;
                    return if has_expired { Ok(None) } else { Err(damaged("event without its message")) };
                };
                let message = decode_message(stored)?;
                Ok(Some(if is_change { What::Changed(message) } else { What::Message(message) }))
            }
            Entry::Stored(event) => Ok(message::Event::decode(event).map_err(|_| damaged("stored event"))?.what),
        }
    }
}

/// The first sequence that a conversation may still have.
pub(super) async fn floor_of(tx: &Tx, app: AppId, tail: &Tail) -> Result<u64, Error> {
    floor_seq(tx.snapshot_get(&tail.floor(app)).await?)
}

pub(super) fn decode_message(stored: Bytes) -> Result<Message, Error> {
    Message::decode(stored).map_err(|_| damaged("message"))
}

/// Counts a page's bytes; the first entry always fits.
pub(super) struct Budget {
    left: usize,
    empty: bool,
}

impl Budget {
    /// Tags and lengths around an entry in a page.
    const ENTRY_OVERHEAD_BYTES: usize = 16;

    pub(super) fn new(bytes_max: usize) -> Self {
        Budget { left: bytes_max, empty: true }
    }

    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let bytes = bytes + Self::ENTRY_OVERHEAD_BYTES;
        let fits = self.empty || bytes <= self.left;
        self.empty = false;
        self.left = self.left.saturating_sub(bytes);
        fits
    }
}
