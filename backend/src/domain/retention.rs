//! Removing what has expired (MSG-03), a bounded portion a transaction.
//!
//! - Messages, with the answers that their sends were given. Each conversation stands in an index of
//!   hours once for every hour that it has messages of (`note_hour`, written with the first of them).
//!   An hour that is older than what is kept is due: the conversation is cut from its floor up to the
//!   first message that has not expired, and the entry of the index goes.
//! - Contents of merged messages, which are copies of messages: by an index of hours of their own, when
//!   nothing that points to them can be there any more.
//! - Entries of event logs. A log is ordered by versions, so nothing is written for its expiry with
//!   each event: once an hour the store's version is noted (`keys::moment`), and a few times a day a
//!   pass over all logs removes what is older than the newest version that has expired. It jumps from log
//!   to log, so it reads one entry of each log and those that it removes.
//!
//! - What deleted applications have left ([`super::applications`]).
//!
//! The first two leave a floor, so that a reader knows "removed" from "never there". Clocks that are wrong
//! by hours remove by hours too late or too early; sequences, and what is newer, are never touched.
//!
//! On several nodes one process has the claim, in the store. It only saves the others the work: each
//! portion is one serialisable transaction, and right whoever runs it.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use futures::executor::block_on;
use prost::Message as _;
use protocol::message::Message;

use super::{
    AppId, Error, GroupId, Peer, UserId,
    act::Author,
    applications::{next_application, remove_portion},
    claim::Claim,
    damaged, elements,
    keys::{self, EventPlace, Tail},
    merged,
    records::EventPass,
};
use crate::{
    env::{Clock, Rng, UnixMillis},
    store::{Lane, RangePage, RangeQuery, ReadMode, Store, Tx, Versionstamp},
};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Messages that one transaction removes at the most; each with an answer.
const MESSAGES_MAX: usize = 256;
/// Messages read at a time: no more than 2 MB of the longest.
const MESSAGES_CHUNK: usize = 64;
/// Entries of the index of hours that one transaction settles at the most.
const HOURS_MAX: usize = 64;
/// Contents of merged messages that one transaction looks at, at the most: 300 messages each.
const CONTENTS_MAX: usize = 4;
/// Event logs that one transaction looks at, at the most.
const LOGS_MAX: usize = 64;
/// Entries of event logs that one transaction removes at the most.
const EVENTS_MAX: usize = 1024;
/// From one pass over the event logs to the next: how much longer an entry may live.
const PASS_INTERVAL_MS: u64 = 6 * HOUR_MS;
/// How long a claim holds. Its owner renews it after half of that.
const CLAIM_MS: u64 = 10 * 60_000;
/// When nothing is due, or the store can't: until the next look.
const IDLE_PAUSE: Duration = Duration::from_secs(60);

/// How long things are kept, in days; 0: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Messages, and the answers that make a repeated send known as such.
    pub message_days: u32,
    /// Entries of event logs. A device that stays away for longer starts over.
    pub event_days: u32,
}

/// The hour that a time falls into, in hours since the Unix epoch.
pub(crate) fn hour_of(time_ms: UnixMillis) -> u32 {
    u32::try_from(time_ms / HOUR_MS).unwrap_or(u32::MAX)
}

/// Notes that the conversation has a message of this time. To be called with every message whose hour
/// is not that of the message before it.
pub(crate) fn note_hour(tx: &Tx, app: AppId, conversation: &Tail, time_ms: UnixMillis) {
    tx.set(conversation.hour(app, hour_of(time_ms)), Bytes::new());
}

/// The first sequence that a conversation may still have, from its stored form.
pub(crate) fn floor_seq(stored: Option<Bytes>) -> Result<u64, Error> {
    match stored {
        None => Ok(1),
        Some(bytes) => bytes[..].try_into().map(u64::from_le_bytes).map_err(|_| damaged("conversation floor")),
    }
}

/// Up to where an event log was removed, from its stored form.
pub(crate) fn event_floor(stored: Option<Bytes>) -> Result<Versionstamp, Error> {
    match stored {
        None => Ok(Versionstamp::ZERO),
        Some(bytes) => Versionstamp::from_slice(&bytes).ok_or_else(|| damaged("event floor")),
    }
}

/// What one [`Retention::round`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Messages removed.
    pub messages: usize,
    /// Contents of merged messages removed.
    pub contents: usize,
    /// Entries of event logs removed.
    pub events: usize,
    /// Keys removed of applications that were deleted.
    pub deleted: usize,
    /// There is more to do.
    pub more: bool,
}

/// Removes what has expired.
#[derive(Clone)]
pub struct Retention {
    store: Store,
    clock: Arc<dyn Clock>,
    keep: Keep,
    owner: u64,
    settled: Arc<Mutex<Settled>>,
}

/// Up to where the index of hours is known to have nothing left, by application. An LSM tree keeps what
/// was removed until it merges it away, and would walk over all of that again for every portion.
#[derive(Clone, Debug, Default)]
struct Settled {
    up_to: HashMap<AppId, Bytes>,
    /// The same of everything of an application that was deleted.
    deleted: Option<(AppId, Bytes)>,
    /// When it was begun afresh. A clock that was wrong may have noted an hour that lies behind.
    since_ms: UnixMillis,
}

/// The thread that removes; dropped or stopped, it ends.
pub struct RetentionTask {
    tell: mpsc::Sender<Told>,
    thread: JoinHandle<()>,
}

/// What the thread that removes is told.
enum Told {
    Look,
    Stop,
}

impl RetentionTask {
    /// Has the thread look again now whether something is due; asked for as often as one likes.
    pub fn waker(&self) -> impl Fn() + Send + 'static {
        let tell = self.tell.clone();
        move || _ = tell.send(Told::Look) // it has ended: nothing is due any more
    }

    /// Ends the thread after the transaction it is at.
    pub fn stop(self) {
        let _ = self.tell.send(Told::Stop); // it has ended: so it should
        if self.thread.join().is_err() {
            tracing::error!("the thread that removes what has expired died");
        }
    }
}

impl Retention {
    /// `rng` draws what this process is known by among others on the same store.
    pub fn new(store: Store, clock: Arc<dyn Clock>, rng: &dyn Rng, keep: Keep) -> Self {
        metrics::describe_counter!("retention_removed_total", "What was removed because it had expired, by kind");
        metrics::describe_gauge!(
            "retention_behind_hours",
            "Age of the oldest hour of messages that is due for removal"
        );
        Retention { store, clock, keep, owner: rng.next_u64(), settled: Arc::default() }
    }

    /// Starts a thread that does what is due, for no more than half of the time.
    pub fn start(self) -> io::Result<RetentionTask> {
        let (tell, told) = mpsc::channel();
        let thread = std::thread::Builder::new().name("retention".into()).spawn(move || {
            let mut pause = Duration::ZERO;
            while let Ok(Told::Look) | Err(mpsc::RecvTimeoutError::Timeout) = told.recv_timeout(pause) {
                let began_us = self.clock.monotonic_us();
                pause = match block_on(self.round()) {
                    Ok(round) if round.more => {
                        Duration::from_micros(self.clock.monotonic_us().saturating_sub(began_us).max(1000))
                    }
                    Ok(_) => IDLE_PAUSE,
                    Err(error) => {
                        tracing::warn!(%error, "what has expired was not removed; another try follows");
                        IDLE_PAUSE
                    }
                };
            }
        })?;
        Ok(RetentionTask { tell, thread })
    }

    /// Does one portion of what is due, if this process has the claim or can take it.
    pub async fn round(&self) -> Result<Round, Error> {
        let Some(version) = self.claim().await? else { return Ok(Round::default()) };
        // After the claim: everything up to its version is older than this.
        let now_ms = self.clock.unix_ms();
        let (messages, contents) = match self.keep.message_days {
            0 => (Portion::default(), Portion::default()),
            days => {
                let cutoff_ms = now_ms.saturating_sub(u64::from(days) * DAY_MS);
                (self.remove_messages(now_ms, cutoff_ms).await?, self.remove_contents(cutoff_ms).await?)
            }
        };
        let events = match self.keep.event_days {
            0 => Portion::default(),
            days => self.remove_events(now_ms, now_ms.saturating_sub(u64::from(days) * DAY_MS), version).await?,
        };
        let deleted = self.remove_deleted().await?;
        let all = [("message", messages), ("content", contents), ("event", events), ("deleted_application", deleted)];
        for (what, portion) in all {
            metrics::counter!("retention_removed_total", "what" => what).increment(portion.removed as u64);
        }
        Ok(Round {
            messages: messages.removed,
            contents: contents.removed,
            events: events.removed,
            deleted: deleted.removed,
            more: all.iter().any(|(_, portion)| portion.more),
        })
    }

    /// Whether this process is the one that removes; then also a version that the store has reached.
    async fn claim(&self) -> Result<Option<u64>, Error> {
        let (owner, clock) = (self.owner, self.clock.clone());
        let body = async move |tx: &Tx| -> Result<bool, Error> {
            let key = keys::retention_claim();
            let (claim, now_ms) = (Claim::from_stored(tx.snapshot_get(&key).await?)?, clock.unix_ms());
            if claim.owner != owner && claim.holds(now_ms, CLAIM_MS) {
                return Ok(false);
            }
            if claim.owner != owner || !claim.is_fresh(now_ms, CLAIM_MS) {
                tx.get(&key).await?; // of two that take it at once, one conflicts
                tx.set(key, Claim { owner, until_ms: now_ms + CLAIM_MS }.encode_to_vec());
            }
            Ok(true)
        };
        let (is_ours, committed) = self.store.run(Lane::Read, "retention_claim", body).await?;
        Ok(is_ours.then_some(committed.version))
    }

    async fn remove_messages(&self, now_ms: u64, cutoff_ms: u64) -> Result<Portion, Error> {
        let mut settled = self.settled().clone();
        if now_ms.abs_diff(settled.since_ms) >= DAY_MS {
            settled = Settled { up_to: HashMap::new(), deleted: None, since_ms: now_ms };
        }
        let body = async move |tx: &Tx| -> Result<(Portion, Settled), Error> {
            let mut settled = settled.clone();
            Ok((remove_messages(tx, now_ms, cutoff_ms, &mut settled.up_to).await?, settled))
        };
        let ((portion, settled), _) = self.store.run(Lane::Read, "retention_messages", body).await?;
        *self.settled() = settled;
        Ok(portion)
    }

    fn settled(&self) -> MutexGuard<'_, Settled> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn remove_deleted(&self) -> Result<Portion, Error> {
        let from = self.settled().deleted.clone();
        let body = async move |tx: &Tx| remove_portion(tx, from.as_ref()).await;
        let ((portion, next), _) = self.store.run(Lane::Read, "retention_deleted", body).await?;
        self.settled().deleted = next;
        Ok(portion)
    }

    async fn remove_contents(&self, cutoff_ms: u64) -> Result<Portion, Error> {
        let body = async move |tx: &Tx| remove_contents(tx, cutoff_ms).await;
        Ok(self.store.run(Lane::Read, "retention_contents", body).await?.0)
    }

    async fn remove_events(&self, now_ms: u64, cutoff_ms: u64, version: u64) -> Result<Portion, Error> {
        let body = async move |tx: &Tx| remove_events(tx, now_ms, cutoff_ms, version).await;
        Ok(self.store.run(Lane::Read, "retention_events", body).await?.0)
    }
}

/// What one transaction did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Portion {
    pub(crate) removed: usize,
    pub(crate) more: bool,
}

/// Settles hours that are due, of one application after the other.
async fn remove_messages(
    tx: &Tx,
    now_ms: u64,
    cutoff_ms: u64,
    settled: &mut HashMap<AppId, Bytes>,
) -> Result<Portion, Error> {
    let mut portion = Portion::default();
    let mut app = 0;
    metrics::gauge!("retention_behind_hours").set(0.0);
    while let Some(next) = next_application(tx, app).await? {
        app = next;
        remove_room_answers(tx, app, now_ms).await?;
        // Serialisable: an hour that is noted again meanwhile must not go unseen.
        let (begin, end) = keys::hours_before(app, hour_of(cutoff_ms));
        let begin = settled.get(&app).cloned().unwrap_or(begin);
        let due = page(tx, (begin, end.clone()), HOURS_MAX, ReadMode::Serializable).await?;
        for (key, _) in &due.pairs {
            let (hour, tail) = keys::hour_parts(app, key).ok_or_else(|| damaged("hour key"))?;
            metrics::gauge!("retention_behind_hours").set(f64::from(hour_of(now_ms).saturating_sub(hour)));
            let left = MESSAGES_MAX - portion.removed;
            let cut = cut_conversation(tx, app, &tail, cutoff_ms, left).await?;
            portion.removed += cut.removed;
            if cut.more {
                return Ok(Portion { more: true, ..portion });
            }
            tx.clear(key);
            settled.insert(app, key.clone());
        }
        if due.more {
            return Ok(Portion { more: true, ..portion });
        }
        settled.insert(app, end);
    }
    Ok(portion)
}

/// Removes what sends to live rooms were answered, once nobody repeats them any more.
async fn remove_room_answers(tx: &Tx, app: AppId, now_ms: u64) -> Result<(), Error> {
    let (begin, end) = keys::room_sent_before(app, hour_of(now_ms).saturating_sub(1));
    if !page(tx, (begin.clone(), end.clone()), 1, ReadMode::Snapshot).await?.pairs.is_empty() {
        tx.clear_range(&begin, &end);
    }
    Ok(())
}

/// Removes the oldest messages of a conversation, up to the first that has not expired.
async fn cut_conversation(tx: &Tx, app: AppId, tail: &Tail, cutoff_ms: u64, left: usize) -> Result<Portion, Error> {
    let floor = floor_seq(tx.get(&tail.floor(app)).await?)?;
    let mut seq = floor;
    let mut cut = Portion::default();
    'reading: loop {
        let limit = MESSAGES_CHUNK.min(left - cut.removed);
        if limit == 0 {
            cut.more = true;
            break;
        }
        let range = (tail.message(app, seq), tail.message(app, u64::MAX));
        let messages = page(tx, range, limit, ReadMode::Snapshot).await?;
        for (key, stored) in messages.pairs {
            let Ok(message) = Message::decode(stored) else {
                // Its age can't be told. The rest of the conversation stays behind it.
                tracing::error!(?key, "a stored message does not decode, and is kept");
                break 'reading;
            };
            if message.time_ms >= cutoff_ms {
                break 'reading;
            }
            if let Some(sender) = UserId::new(&message.from) {
                tx.clear(&keys::sent(app, &sender, &message.client_message_id));
            }
            clear_group_marks(tx, app, &message).await?;
            cut.removed += 1;
            seq = message.seq + 1;
        }
        if !messages.more {
            break;
        }
    }
    if seq > floor {
        tx.clear_range(&tail.message(app, floor), &tail.message(app, seq));
        tx.clear_range(&tail.extension_counter(app, floor), &tail.extension_counter(app, seq));
        tx.clear_range(&tail.pin(app, floor), &tail.pin(app, seq));
        for (user, peer) in tail.sides().into_iter().flatten() {
            let peer = Peer::User(peer);
            for mark in [keys::deleted, keys::mention] {
                tx.clear_range(&mark(app, &user, &peer, floor), &mark(app, &user, &peer, seq));
            }
        }
        if let Some(group) = tail.group() {
            let (begin, end) = keys::group_receipts_before(app, &group, seq);
            tx.clear_range(&begin, &end);
            tx.clear_range(&keys::mention_of_all(app, &group, floor), &keys::mention_of_all(app, &group, seq));
        }
        tx.set(tail.floor(app), seq.to_le_bytes().to_vec());
    }
    Ok(cut)
}

/// Clears what is kept of a group's message for single members: who has sent it, and whom it mentions by name. Marks
/// of messages that members have deleted for themselves go when they clear.
async fn clear_group_marks(tx: &Tx, app: AppId, message: &Message) -> Result<(), Error> {
    let Some(group) = GroupId::new(&message.group) else { return Ok(()) };
    if let Some(sender) = UserId::new(&message.from) {
        // The newest of a member's says how many there were before it.
        let (begin, end) =
            (keys::group_sent(app, &group, &sender, message.seq + 1), keys::all_group_sent(app, &group, &sender).1);
        let query = RangeQuery { begin, end, limit: 1, reverse: false, mode: ReadMode::Snapshot };
        if !tx.range(query).await?.pairs.is_empty() {
            tx.clear(&keys::group_sent(app, &group, &sender, message.seq));
        }
    }
    let facts = elements::check(&message.body, Author::Admin).unwrap_or_default();
    for user in facts.iter().flat_map(|facts| &facts.mentions) {
        tx.clear(&keys::mention(app, user, &group.clone().into(), message.seq));
    }
    Ok(())
}

/// Looks at contents of merged messages that may have expired, of the first application that has some.
async fn remove_contents(tx: &Tx, cutoff_ms: u64) -> Result<Portion, Error> {
    let cutoff_hour = hour_of(cutoff_ms);
    let mut app = 0;
    while let Some(next) = next_application(tx, app).await? {
        app = next;
        let range = keys::merged_hours_before(app, cutoff_hour);
        let due = page(tx, range, CONTENTS_MAX, ReadMode::Serializable).await?.pairs;
        let mut removed = 0;
        for (key, _) in &due {
            let content_id = keys::merged_hour_content(key).ok_or_else(|| damaged("merged hour key"))?;
            tx.clear(key);
            removed += usize::from(merged::expire(tx, app, &content_id, cutoff_hour).await?);
        }
        if !due.is_empty() {
            return Ok(Portion { removed, more: true });
        }
    }
    Ok(Portion::default())
}

/// Goes on with the pass over the event logs, or begins one if it is time.
async fn remove_events(tx: &Tx, now_ms: u64, cutoff_ms: u64, version: u64) -> Result<Portion, Error> {
    note_moment(tx, now_ms, version).await?;
    let stored = tx.get(&keys::event_pass()).await?.unwrap_or_default();
    let mut pass = EventPass::decode(stored).map_err(|_| damaged("event pass"))?;
    if pass.app == 0 {
        if now_ms.abs_diff(pass.began_ms) < PASS_INTERVAL_MS {
            return Ok(Portion::default());
        }
        let Some(begun) = begin_pass(tx, now_ms, cutoff_ms).await? else { return Ok(Portion::default()) };
        pass = begun;
    }
    let mut removed = 0;
    for _ in 0..LOGS_MAX {
        removed += continue_pass(tx, &mut pass, EVENTS_MAX - removed).await?;
        if pass.app == 0 || removed >= EVENTS_MAX {
            break;
        }
    }
    tx.set(keys::event_pass(), pass.encode_to_vec());
    Ok(Portion { removed, more: pass.app != 0 })
}

/// Once an hour: what was written up to `version` was written before now.
async fn note_moment(tx: &Tx, now_ms: u64, version: u64) -> Result<(), Error> {
    let newest_ms = newest_moment(tx, u64::MAX).await?.map(|(time_ms, _)| time_ms);
    if newest_ms.is_none_or(|newest_ms| newest_ms + HOUR_MS <= now_ms) {
        tx.set(keys::moment(now_ms), version.to_be_bytes().to_vec());
    }
    Ok(())
}

/// The newest moment before `before_ms`: its time and version.
async fn newest_moment(tx: &Tx, before_ms: u64) -> Result<Option<(u64, u64)>, Error> {
    let (begin, end) = keys::moments_before(before_ms);
    let query = RangeQuery { begin, end, limit: 1, reverse: true, mode: ReadMode::Snapshot };
    let Some((key, value)) = tx.range(query).await?.pairs.pop() else { return Ok(None) };
    let time_ms = keys::moment_ms(&key).ok_or_else(|| damaged("moment key"))?;
    let version = value[..].try_into().map(u64::from_be_bytes).map_err(|_| damaged("moment"))?;
    Ok(Some((time_ms, version)))
}

async fn begin_pass(tx: &Tx, now_ms: u64, cutoff_ms: u64) -> Result<Option<EventPass>, Error> {
    let Some((moment_ms, version)) = newest_moment(tx, cutoff_ms).await? else { return Ok(None) };
    let Some(app) = next_application(tx, 0).await? else { return Ok(None) };
    // Older moments tell nothing that this one does not.
    let (begin, end) = keys::moments_before(moment_ms);
    tx.clear_range(&begin, &end);
    Ok(Some(EventPass { began_ms: now_ms, app, next: Bytes::new(), version }))
}

/// Looks at the next log, or goes to the next application. Says how many entries it removed.
async fn continue_pass(tx: &Tx, pass: &mut EventPass, left: usize) -> Result<usize, Error> {
    let (mut begin, end) = keys::event_logs(pass.app);
    if !pass.next.is_empty() {
        begin = pass.next.clone();
    }
    let Some((oldest, _)) = page(tx, (begin, end), 1, ReadMode::Snapshot).await?.pairs.pop() else {
        pass.app = next_application(tx, pass.app).await?.unwrap_or(0);
        pass.next = Bytes::new();
        return Ok(0);
    };
    let oldest = EventPlace::of(pass.app, &oldest).ok_or_else(|| damaged("event key"))?;
    pass.next = oldest.behind_log(pass.app);
    let first_kept = Versionstamp::new(pass.version + 1, 0, 0);
    if oldest.position >= first_kept {
        return Ok(0);
    }
    let (begin, end) = oldest.log_before(pass.app, first_kept);
    let expired = page(tx, (begin.clone(), end), left, ReadMode::Snapshot).await?;
    if let Some((last, _)) = expired.pairs.last() {
        let last_place = EventPlace::of(pass.app, last).ok_or_else(|| damaged("event key"))?;
        tx.clear_range(&begin, &[&last[..], &[0]].concat());
        tx.set(last_place.floor(pass.app), last_place.position.0.to_vec());
    }
    if expired.more {
        pass.next = begin;
    }
    Ok(expired.pairs.len())
}

async fn page(tx: &Tx, (begin, end): (Bytes, Bytes), limit: usize, mode: ReadMode) -> Result<RangePage, Error> {
    Ok(tx.range(RangeQuery { begin, end, limit, reverse: false, mode }).await?)
}
