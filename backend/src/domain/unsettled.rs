//! Acts whose commit was not answered: they may be stored without anybody having been told.
//!
//! Such a message must still be pushed, and before anything that came after it: a push moves the
//! device's cursor, and what the cursor passed is never read again. There are two ways out of doubt.
//! - The batch is run again and finds what an earlier run of it has stored: `find_stored` gives what
//!   that run would have answered, had it been heard.
//! - The batch gives up. Its users get an error, and its acts are kept (`Unsettled`) until the next
//!   transaction of the queue settles them (`Batch::settle`): it finds them, or sees to it that the
//!   commit in doubt, should it still be on its way, fails.
//!
//! Changes leave no record by which they could be found again. Run again, they write their events again
//! (`Staging::again`), or say that they can't (`Change::is_told_by_the_log`); then, given up, or refused when they are
//! run again, they send everybody concerned back to the log.
//!
//! What may not live here: what a send stores, who is told.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use prost::Message as _;
use protocol::EncodedEvent;
use smallvec::{SmallVec, smallvec};

use super::{
    AppId, Error, GroupId, Peer, UserId,
    act::{Act, Audience, News, Notice, Staged},
    change::Change,
    groups::{access, records::RoomSentRecord},
    keys::{self, Tail},
    message::NewMessage,
    records::{EventKind, EventRecord, Head, SentRecord},
    retention::hour_of,
    send::group::group_push,
};
use crate::store::{RangeQuery, ReadMode, Tx, Versionstamp};

/// What a run would have stored of a send. Two runs that could be taken for each other, because somebody
/// else has stored the same send with the same sequence in the same millisecond, both push it: once, if
/// they are settled together, or again later, which sessions don't mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Try {
    pub(super) seq: u64,
    pub(super) time_ms: u64,
}

/// A message that has been stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fresh {
    /// The message, encoded as the protocol's `Message`.
    message: Bytes,
    /// Who is to be told, each with where it stands in the log; the sender first.
    places: SmallVec<[(Audience, Versionstamp); 2]>,
    /// Who was told with it to be in the group: they read their logs, and which groups there are.
    behind: Vec<UserId>,
}

impl Fresh {
    /// Who is to be told.
    pub(super) fn notices(self) -> SmallVec<[Notice; 2]> {
        let event = EncodedEvent::message(self.message);
        let notice = |(to, position)| Notice { to, what: News::Event(position, event.clone()) };
        let behind = self.behind.into_iter().map(|user| Notice { to: user.into(), what: News::Behind });
        behind.chain(self.places.into_iter().map(notice)).collect()
    }

    /// Where it stands first.
    fn position(&self) -> Option<Versionstamp> {
        self.places.first().map(|(_, position)| *position)
    }
}

/// An act and the runs that may have stored it.
pub(super) struct Tried {
    pub(super) act: Act,
    pub(super) tries: Vec<Try>,
}

/// The acts in doubt of a batch that has given up.
pub(super) struct Batch(pub(super) Vec<Tried>);

/// An act that was carried out, or may have been, although its user got an error.
#[derive(Clone, Debug)]
pub struct Late {
    /// What was asked for.
    pub act: Act,
    /// Who is to be told.
    pub notices: SmallVec<[Notice; 2]>,
}

/// The batches in doubt, oldest first.
#[derive(Default)]
pub(super) struct Unsettled(Mutex<Vec<InDoubt>>);

struct InDoubt {
    batch: Arc<Batch>,
    /// A transaction has settled it, and what it found is being told.
    is_claimed: bool,
}

impl Unsettled {
    pub(super) fn add(&self, batch: Batch) {
        self.lock().push(InDoubt { batch: Arc::new(batch), is_claimed: false });
    }

    /// Those to be settled.
    pub(super) fn all(&self) -> Vec<Arc<Batch>> {
        self.lock().iter().filter(|known| !known.is_claimed).map(|known| known.batch.clone()).collect()
    }

    /// How many acts are in doubt, or not told yet.
    pub(super) fn acts(&self) -> usize {
        self.lock().iter().map(|known| known.batch.0.len()).sum()
    }

    /// The batch has been settled, and the caller tells what was found; `false` if another one does, or has.
    pub(super) fn claim(&self, settled: &Arc<Batch>) -> bool {
        let mut all = self.lock();
        let known = all.iter_mut().find(|known| Arc::ptr_eq(&known.batch, settled));
        known.is_some_and(|known| !std::mem::replace(&mut known.is_claimed, true))
    }

    /// What was found of a batch has been told.
    pub(super) fn remove(&self, told: &Arc<Batch>) {
        self.lock().retain(|known| !Arc::ptr_eq(&known.batch, told));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<InDoubt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    /// What of it is stored. Once `tx` has been committed, nothing more of it will be.
    pub(super) async fn settle(&self, tx: &Tx) -> Result<Vec<Late>, Error> {
        let start = |tried| match tried {
            &Tried { act: Act::Send(ref new), .. } => {
                let key = keys::sent(new.app, &new.from, &new.client_message_id);
                let reading = tx.get(&key);
                forestall(tx, &key);
                Some((new, reading))
            }
            Tried { act: Act::Change(change), .. } => {
                change.guards().iter().for_each(|key| forestall(tx, key));
                None
            }
        };
        let readings: Vec<_> = self.0.iter().map(start).collect();
        let mut stored = Vec::new();
        let mut in_rooms = Vec::new();
        for (tried, reading) in self.0.iter().zip(readings) {
            let Some((message, reading)) = reading else { continue };
            let found = reading.await?.and_then(|record| SentRecord::decode(record).ok());
            let own = found.filter(|found| tried.tries.contains(&Try { seq: found.seq, time_ms: found.time_ms }));
            match own {
                Some(own) => stored.push((message, own)),
                None => in_rooms.extend(find_in_room(tx, message, &tried.tries).await?),
            }
        }
        let fresh = find_stored(tx, &stored).await?;
        let mut found: Vec<_> = stored.into_iter().zip(fresh).collect();
        found.sort_by_key(|(_, fresh)| fresh.as_ref().and_then(Fresh::position));
        let sends = found.into_iter().filter_map(|((message, _), fresh)| {
            Some(Late { act: Act::Send(message.clone()), notices: fresh?.notices() })
        });
        let changes = self.0.iter().filter_map(|tried| match &tried.act {
            Act::Send(_) => None,
            Act::Change(change) => Some(Late::behind(change)),
        });
        Ok(in_rooms.into_iter().chain(sends).chain(changes).collect())
    }
}

impl Late {
    /// A change that may have left entries in logs which nobody was told of: they are to be read.
    fn behind(change: &Change) -> Self {
        let behind = |to| Notice { to, what: News::Behind };
        Late {
            act: Act::Change(Box::new(change.clone())),
            notices: change.concerned().into_iter().map(behind).collect(),
        }
    }

    /// A change that was run again and is not made now: refused, or nothing was left to be done. An earlier
    /// run may have made it, or still be on its way, which is barred here. The same of a change that can't tell what
    /// an earlier run has told.
    pub(super) fn of_earlier_run(tx: &Tx, act: &Act, outcome: &Result<Staged, Error>) -> Option<Self> {
        let Act::Change(change) = act else { return None };
        let tells_again = outcome.as_ref().is_ok_and(|staged| !staged.notices.is_empty());
        if tells_again && !change.is_told_by_the_log() {
            return None;
        }
        change.guards().iter().for_each(|key| forestall(tx, key));
        Some(Late::behind(change))
    }
}

/// A message that one of these runs has stored in a live room: in no log, so that whoever is there is told again.
async fn find_in_room(tx: &Tx, message: &NewMessage, tries: &[Try]) -> Result<Option<Late>, Error> {
    let Peer::Group(group) = &message.to else { return Ok(None) };
    let NewMessage { app, from, client_message_id: id, .. } = message;
    for Try { seq, time_ms } in tries.iter().copied() {
        let stored = tx.get(&keys::room_sent(*app, hour_of(time_ms), group, from, id)).await?;
        let found = stored.and_then(|stored| RoomSentRecord::decode(stored).ok());
        if found.is_some_and(|found| (found.seq, found.time_ms) == (seq, time_ms)) {
            let push = group_push(message, group, &Head { seq, time_ms, ..Head::default() });
            let notice = Notice { to: group.clone().into(), what: News::Push(push) };
            return Ok(Some(Late { act: Act::Send(message.clone()), notices: smallvec![notice] }));
        }
    }
    Ok(None)
}

/// Has a commit in doubt that has read `key` fail if it comes after this one.
fn forestall(tx: &Tx, key: &[u8]) {
    tx.add_write_conflict(key, &[key, &[0]].concat());
}

/// What is to be pushed of messages that were stored lately, given with what their senders were answered.
/// `None`: the log does not have it any more, or holds what can't be read, which must not stop all other sends.
pub(super) async fn find_stored(tx: &Tx, stored: &[(&NewMessage, SentRecord)]) -> Result<Vec<Option<Fresh>>, Error> {
    let mut wanted: HashMap<(AppId, Log), HashSet<(Peer, u64)>> = HashMap::new();
    for (message, sent) in stored {
        for place in places(message, sent) {
            wanted.entry((message.app, place.log)).or_default().insert((place.peer, sent.seq));
        }
    }
    let mut positions = HashMap::new();
    for ((app, log), wanted) in wanted {
        let found = find_positions(tx, app, &log, wanted).await?;
        positions.insert((app, log), found);
    }
    let mut all = Vec::with_capacity(stored.len());
    for (message, sent) in stored {
        let tail = Tail::of(&message.from, &message.to);
        let bytes = tx.snapshot_get(&tail.message(message.app, sent.seq)).await?;
        let place = |Place { log, peer, audience }| {
            let position = positions.get(&(message.app, log))?.get(&(peer, sent.seq))?;
            Some((audience, *position))
        };
        let wanted = places(message, sent);
        // In a group where nobody receives, there may be nobody to tell.
        let is_first_wanted = !sent.hidden && !wanted.is_empty();
        let found: SmallVec<[Option<(Audience, Versionstamp)>; 2]> = wanted.into_iter().map(place).collect();
        let is_there = !is_first_wanted || found.first().is_some_and(Option::is_some);
        let behind = match &message.to {
            Peer::Group(group) if sent.has_activated => {
                let members = access::members(tx, message.app, group, ReadMode::Snapshot).await?;
                members.into_iter().map(|(user, _)| user).collect()
            }
            _ => Vec::new(),
        };
        let places = found.into_iter().flatten().collect();
        all.push(bytes.filter(|_| is_there).map(|message| Fresh { message, places, behind }));
    }
    Ok(all)
}

/// An event log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Log {
    User(UserId),
    Group(GroupId),
}

/// Where a message stands in a log, and who is told of it there.
struct Place {
    log: Log,
    /// Whom the conversation is with, for the log's owner.
    peer: Peer,
    audience: Audience,
}

/// Where a message was written: the sender's place first, if he is told. Where it is not, the whole log would be
/// searched for it.
fn places(message: &NewMessage, sent: &SentRecord) -> SmallVec<[Place; 2]> {
    let of_user = |user: &UserId, peer: &Peer| Place {
        log: Log::User(user.clone()),
        peer: peer.clone(),
        audience: user.clone().into(),
    };
    let from = &message.from;
    match &message.to {
        Peer::User(to) => {
            let own = (!sent.hidden).then(|| of_user(from, &message.to));
            let others = (!sent.unreceived && from != to).then(|| of_user(to, &Peer::User(from.clone())));
            own.into_iter().chain(others).collect()
        }
        Peer::Group(_) if !sent.told.is_empty() => {
            let log = UserId::new(&sent.log_owner).map(Log::User);
            let told = sent.told.iter().filter_map(|user| UserId::new(user));
            let place = |(log, user): (Log, UserId)| Place { log, peer: message.to.clone(), audience: user.into() };
            log.map(|log| told.map(|user| place((log.clone(), user))).collect()).unwrap_or_default()
        }
        // It stands in the same place in every member's log.
        Peer::Group(group) if !sent.hidden => {
            let log = match sent.is_in_group_log {
                true => Some(Log::Group(group.clone())),
                false => UserId::new(&sent.log_owner).map(Log::User),
            };
            let members = log.map(|log| Place { log, peer: message.to.clone(), audience: group.clone().into() });
            let own = sent.is_told_apart.then(|| of_user(from, &message.to));
            members.into_iter().chain(own).collect()
        }
        Peer::Group(_) => SmallVec::new(),
    }
}

/// Looks through an event log, newest first, until everything wanted has been found.
async fn find_positions(
    tx: &Tx,
    app: AppId,
    log: &Log,
    mut wanted: HashSet<(Peer, u64)>,
) -> Result<HashMap<(Peer, u64), Versionstamp>, Error> {
    const PAGE: usize = 64;
    let mut positions = HashMap::new();
    let (begin, mut end) = match log {
        Log::User(user) => keys::events_after(app, user, Versionstamp::ZERO),
        Log::Group(group) => keys::group_events_after(app, group, Versionstamp::ZERO),
    };
    while !wanted.is_empty() {
        let (begin, mode) = (begin.clone(), ReadMode::Snapshot);
        let page = tx.range(RangeQuery { begin, end, limit: PAGE, reverse: true, mode }).await?;
        let Some((oldest, _)) = page.pairs.last() else { break };
        end = oldest.clone();
        for (key, value) in page.pairs {
            let Ok(EventRecord { kind: Some(EventKind::Message(event)) }) = EventRecord::decode(value) else {
                continue;
            };
            let found = event.peer().map(|peer| (peer, event.seq)).filter(|found| wanted.remove(found));
            if let (Some(found), Some(position)) = (found, keys::event_position(&key)) {
                positions.insert(found, position);
            }
        }
    }
    Ok(positions)
}
