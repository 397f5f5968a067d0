//! Reading the event log back, behind a cursor.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::future::try_join_all;
use prost::Message as _;
use protocol::message::{self, Message, event::What};

use super::{
    AppId, Error, GroupId, UserId, damaged,
    groups::records::{FormerRecord, JoinedRecord},
    keys::{self, Tail},
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
    // One more than the page holds tells whether the log goes on.
    let entries_max = limit.entries_max.max(1);
    let own = Source::own(app, user, cursor);
    let own = own.read(tx, entries_max + 1);
    let groups = large_groups(tx, app, user, cursor).await?;
    let others = try_join_all(groups.iter().map(|group| group.read(tx, entries_max + 1))).await?;
    let Some(mut entries) = own.await? else { return Ok(None) };
    for other in others {
        let Some(other) = other else { return Ok(None) };
        entries.extend(other);
    }
    if !groups.is_empty() {
        // Positions are those of one store: together they are one log.
        entries.sort_by_key(|(position, _)| *position);
        // Who has come back may read the same log from two sources.
        entries.dedup_by_key(|(position, _)| *position);
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
        let Some((position, entry)) = started.pop_front() else { break };
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

/// A log that a page is read from.
struct Source {
    range: (Bytes, Bytes),
    /// Where the log begins, if something was removed.
    floor: Bytes,
    cursor: Versionstamp,
    /// Of a group's log: which of its messages concern the user.
    span: Option<Span>,
}

/// Messages of a group from `first` up to `last`; of anything else, what stands up to version `until`.
#[derive(Clone, Copy)]
struct Span {
    first: u64,
    last: u64,
    until: u64,
}

impl Source {
    fn own(app: AppId, user: &UserId, cursor: Versionstamp) -> Self {
        let (range, floor) = (keys::events_after(app, user, cursor), keys::event_floor(app, user));
        Source { range, floor, cursor, span: None }
    }

    /// A group's log, of what lies in `span`; what is not behind `from_version` does not
    /// concern the user.
    fn of_group(app: AppId, group: &GroupId, cursor: Versionstamp, from_version: u64, span: Span) -> Self {
        let cursor = cursor.max(Versionstamp::new(from_version, u16::MAX, u16::MAX));
        let (range, floor) = (keys::group_events_after(app, group, cursor), keys::group_event_floor(app, group));
        Source { range, floor, cursor, span: Some(span) }
    }

    /// The entries behind the cursor, with their positions; `None`: something behind it has expired.
    async fn read(&self, tx: &Tx, limit: usize) -> Result<Option<Vec<(Versionstamp, Bytes)>>, Error> {
        /// Read at a time of the log of a group that the user has left: mostly there is nothing any more.
        const LEFT_CHUNK: usize = 16;
        let (mut begin, end) = self.range.clone();
        let has_left = self.span.is_some_and(|span| span.last < u64::MAX);
        let chunk = if has_left { LEFT_CHUNK } else { limit };
        let floor = tx.snapshot_get(&self.floor);
        let mut entries = Vec::new();
        'reading: loop {
            let mode = ReadMode::Snapshot;
            let page = tx.range(RangeQuery { begin, end: end.clone(), limit: chunk, reverse: false, mode }).await?;
            let last = page.pairs.last().map(|(key, _)| key.clone());
            for (key, value) in page.pairs {
                let position = keys::event_position(&key).ok_or_else(|| damaged("event key"))?;
                match self.concerns(position, &value)? {
                    Concern::Users => entries.push((position, value)),
                    Concern::Nothing => {}
                    Concern::Behind => break 'reading,
                }
            }
            match last {
                Some(last) if page.more && entries.len() < limit => begin = [&last[..], &[0]].concat().into(),
                _ => break,
            }
        }
        // Read at the same version: what was removed before is not among them.
        let is_whole = self.cursor >= event_floor(floor.await?)?;
        Ok(is_whole.then_some(entries))
    }

    /// Whether an entry is about something that was said while the user was in the group.
    fn concerns(&self, position: Versionstamp, value: &Bytes) -> Result<Concern, Error> {
        let Some(Span { first, last, until }) = self.span else { return Ok(Concern::Users) };
        let record = EventRecord::decode(value.clone()).map_err(|_| damaged("event"))?;
        Ok(match record.kind {
            // What was said later is told later.
            Some(EventKind::Message(target)) if target.seq > last => Concern::Behind,
            Some(EventKind::Message(target) | EventKind::Changed(target)) if target.seq < first => Concern::Nothing,
            Some(EventKind::Message(_)) => Concern::Users,
            Some(EventKind::Stored(event)) if message_of(event.clone())?.is_some_and(|seq| seq < first) => {
                Concern::Nothing
            }
            // What else has happened after he had left; the last messages may yet follow.
            _ if position > Versionstamp::new(until, u16::MAX, u16::MAX) => Concern::Nothing,
            _ => Concern::Users,
        })
    }
}

/// The message that an entry is about which holds everything itself, if it is about one.
fn message_of(event: Bytes) -> Result<Option<u64>, Error> {
    let event = message::Event::decode(event).map_err(|_| damaged("stored event"))?;
    Ok(match event.what {
        Some(What::Extensions(changed)) => Some(changed.seq),
        Some(What::Pin(changed)) => Some(changed.seq),
        _ => None,
    })
}

/// Whom an entry of a group's log concerns.
enum Concern {
    Users,
    /// Not this user.
    Nothing,
    /// Nor does anything behind it.
    Behind,
}

/// The logs of large groups that the user is in, or was in.
async fn large_groups(tx: &Tx, app: AppId, user: &UserId, cursor: Versionstamp) -> Result<Vec<Source>, Error> {
    /// More groups than this nobody is in, nor are noted as left: settings have limits.
    const GROUPS_MAX: usize = 4_096;
    let all = |(begin, end): (Bytes, Bytes)| RangeQuery {
        begin,
        end,
        limit: GROUPS_MAX,
        reverse: false,
        mode: ReadMode::Snapshot,
    };
    let (joined, former) =
        (tx.range(all(keys::joined_groups(app, user))), tx.range(all(keys::former_groups(app, user))));
    let group_of = |key: &[u8]| keys::two_names(key).and_then(|(_, group)| GroupId::new(&group));
    let mut sources = Vec::new();
    for (key, stored) in joined.await?.pairs {
        let joined = JoinedRecord::decode(stored).map_err(|_| damaged("joined group"))?;
        if joined.is_large && !joined.deaf {
            let group = group_of(&key).ok_or_else(|| damaged("joined group key"))?;
            let span = Span { first: joined.first_seq, last: u64::MAX, until: u64::MAX };
            sources.push(Source::of_group(app, &group, cursor, joined.from_version, span));
        }
    }
    for (key, stored) in former.await?.pairs {
        let former = FormerRecord::decode(stored).map_err(|_| damaged("former group"))?;
        let group = group_of(&key).ok_or_else(|| damaged("former group key"))?;
        for span in former.spans.iter().filter(|span| span.is_large) {
            let within = Span { first: span.first_seq, last: span.last_seq, until: span.until_version };
            sources.push(Source::of_group(app, &group, cursor, span.from_version, within));
        }
    }
    Ok(sources)
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
    let tail = target.tail(user)?;
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

pub(crate) fn decode_message(stored: Bytes) -> Result<Message, Error> {
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
