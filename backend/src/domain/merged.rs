//! Merged messages (TYPE-11): copies of many messages, stored once under an id that the one who makes them
//! chooses, and fetched by whoever holds that id. They expire when messages would that were stored with the last
//! use of the id: until then something points to them.

use bytes::Bytes;
use prost::Message as _;
use protocol::message::Message;

use super::{
    AppId, Error, Peer, UserId,
    act::{Author, Staging},
    applications,
    change::conversation,
    damaged,
    elements::{self, CONTENT_ID_BYTES, Facts, MERGED_MAX},
    groups::access,
    keys::{self, Tail},
    records::MergedRecord,
    retention::hour_of,
    sync::{Budget, PageLimit},
};
use crate::store::{Lane, RangeQuery, ReadMode, Reading, Store, Tx};

/// Bytes of all messages inside a merged one, at the most: they are stored in one transaction.
const CONTENT_BYTES_MAX: usize = 8_000_000;

/// Where a message to be merged is: whom its conversation is with, and its sequence.
pub type Source = (Peer, u64);

/// Everything that can be said without the store.
pub fn check(content_id: &[u8], sources: &[Source]) -> Result<(), Error> {
    if content_id.len() != CONTENT_ID_BYTES {
        return Err(Error::Argument("content_id must have 16 bytes"));
    }
    match (1..=MERGED_MAX).contains(&sources.len()) {
        true => Ok(()),
        false => Err(Error::Argument("sources must name 1 to 300 messages")),
    }
}

/// Stores copies of messages that `user` can read; done again under the same id, it changes nothing.
/// Returns how many there are.
pub async fn store(
    store: &Store,
    app: AppId,
    user: &UserId,
    content_id: Bytes,
    sources: Vec<Source>,
    now_ms: u64,
) -> Result<u32, Error> {
    let user = user.clone();
    let merge = async move |tx: &Tx| -> Result<u32, Error> {
        applications::ensure(tx, app).await?;
        let key = keys::merged(app, &content_id);
        if let Some(stored) = tx.get(&key).await? {
            let record = decode(stored)?;
            let own = record.by == user.as_str();
            return if own { Ok(record.count) } else { Err(Error::Argument("content_id is taken")) };
        }
        let messages = read_sources(tx, app, &user, &sources).await?;
        if messages.iter().map(Message::encoded_len).sum::<usize>() > CONTENT_BYTES_MAX {
            return Err(Error::Argument("the messages are larger than 8 MB together"));
        }
        write(tx, app, &content_id, user.as_str(), &messages, now_ms).await
    };
    // A transaction of its own: it may write megabytes.
    Ok(store.run(Lane::Write, "merge", merge).await?.0)
}

/// Stores messages that an administrator makes as a content; the same under the same id changes nothing.
pub async fn put(
    store: &Store,
    app: AppId,
    content_id: Bytes,
    messages: Vec<Message>,
    now_ms: u64,
) -> Result<(), Error> {
    if !(1..=MERGED_MAX).contains(&messages.len()) {
        return Err(Error::Argument("a merged message holds 1 to 300 messages"));
    }
    let put = async move |tx: &Tx| -> Result<(), Error> {
        applications::ensure(tx, app).await?;
        let key = keys::merged(app, &content_id);
        match tx.get(&key).await? {
            None => write(tx, app, &content_id, "", &messages, now_ms).await.map(drop),
            // It must not expire before the message that is going to point to it.
            stored => {
                if let Some(used) = use_now(stored, now_ms)? {
                    tx.set(key, used);
                }
                Ok(())
            }
        }
    };
    store.run(Lane::Write, "put_merged", put).await?;
    Ok(())
}

/// Writes a content. Returns how many messages it has.
async fn write(
    tx: &Tx,
    app: AppId,
    content_id: &[u8],
    by: &str,
    messages: &[Message],
    now_ms: u64,
) -> Result<u32, Error> {
    let count = messages.len() as u32;
    for (message, index) in messages.iter().zip(0..) {
        tx.set(keys::merged_message(app, content_id, index), message.encode_to_vec());
    }
    let record = MergedRecord { by: by.to_owned(), time_ms: now_ms, count, used_ms: now_ms };
    tx.set(keys::merged(app, content_id), record.encode_to_vec());
    tx.set(keys::merged_hour(app, hour_of(now_ms), content_id), Bytes::new());
    for message in messages {
        let facts = elements::check(&message.body, Author::Admin).unwrap_or_default();
        for (inner, _) in contents(facts.as_deref()) {
            let inner = keys::merged(app, inner);
            if let Some(used) = use_now(tx.get(&inner).await?, now_ms)? {
                tx.set(inner, used);
            }
        }
    }
    Ok(count)
}

/// Copies of the messages, each of which `user` can read.
async fn read_sources(tx: &Tx, app: AppId, user: &UserId, sources: &[Source]) -> Result<Vec<Message>, Error> {
    type Reads = (Reading<Option<Bytes>>, Reading<Option<Bytes>>, Reading<Option<Bytes>>);
    let start = |(peer, seq): &Source| -> Reads {
        let message = Tail::of(user, peer).message(app, *seq);
        let deleted = keys::deleted(app, user, peer, *seq);
        (tx.snapshot_get(&message), tx.snapshot_get(&deleted), tx.snapshot_get(&keys::kept(app, user, peer)))
    };
    let readings: Vec<Reads> = sources.iter().map(start).collect();
    let mut copies = Vec::with_capacity(sources.len());
    for ((peer, seq), (message, deleted, kept)) in sources.iter().zip(readings) {
        if let Peer::Group(group) = peer {
            access::ensure_sees(tx, app, group, user, *seq).await?;
        }
        let gone = deleted.await?.is_some() || conversation::decode(kept.await?)?.cleared_seq >= *seq;
        let stored = message.await?.filter(|_| !gone).ok_or(Error::MessageUnknown)?;
        let message = Message::decode(stored).map_err(|_| damaged("message"))?;
        if message.recalled.is_some() {
            return Err(Error::MessageRecalled);
        }
        let Message { from, time_ms, body, .. } = message;
        copies.push(Message { from, time_ms, body, ..Message::default() });
    }
    Ok(copies)
}

/// Refuses a body that points to content which is not there, or says wrong things of it.
pub(super) async fn ensure_known(staging: &mut Staging<'_>, app: AppId, facts: Option<&Facts>) -> Result<(), Error> {
    for (content_id, count) in contents(facts) {
        let stored = staging.get(&keys::merged(app, content_id)).await?.ok_or(Error::ContentUnknown)?;
        let record = decode(stored)?;
        if record.count != *count {
            return Err(Error::Element("count is not that of the content"));
        }
    }
    Ok(())
}

/// Notes that a message with this body is stored: what it points to stays for as long.
pub(super) async fn note_use(staging: &mut Staging<'_>, app: AppId, facts: Option<&Facts>) -> Result<(), Error> {
    for (content_id, _) in contents(facts) {
        let key = keys::merged(app, content_id);
        if let Some(used) = use_now(staging.get(&key).await?, staging.now_ms)? {
            staging.set(key, used);
        }
    }
    Ok(())
}

/// The record with its use noted; `None` if there is nothing to note within the same hour.
fn use_now(stored: Option<Bytes>, now_ms: u64) -> Result<Option<Vec<u8>>, Error> {
    let Some(stored) = stored else { return Ok(None) };
    let record = decode(stored)?;
    let is_new = hour_of(record.used_ms) < hour_of(now_ms);
    Ok(is_new.then(|| MergedRecord { used_ms: now_ms, ..record }.encode_to_vec()))
}

/// Removes a content that is due, or puts it off to the hour of its last use. Returns whether it was removed.
pub(super) async fn expire(tx: &Tx, app: AppId, content_id: &[u8], cutoff_hour: u32) -> Result<bool, Error> {
    let key = keys::merged(app, content_id);
    let Some(stored) = tx.get(&key).await? else { return Ok(false) };
    let used_hour = hour_of(decode(stored)?.used_ms);
    if used_hour >= cutoff_hour {
        tx.set(keys::merged_hour(app, used_hour, content_id), Bytes::new());
        return Ok(false);
    }
    let (begin, end) = keys::merged_messages(app, content_id);
    tx.clear_range(&begin, &end);
    tx.clear(&key);
    Ok(true)
}

fn contents(facts: Option<&Facts>) -> &[(Bytes, u32)] {
    facts.map_or(&[], |facts| &facts.merged)
}

fn decode(stored: Bytes) -> Result<MergedRecord, Error> {
    MergedRecord::decode(stored).map_err(|_| damaged("merged record"))
}

/// Messages inside a merged one, from `from_index` on; and whether there are more.
pub async fn page(
    store: &Store,
    app: AppId,
    content_id: Bytes,
    from_index: u32,
    limit: PageLimit,
) -> Result<(Vec<Message>, bool), Error> {
    let read = async move |tx: &Tx| -> Result<(Vec<Message>, bool), Error> {
        let Some(stored) = tx.snapshot_get(&keys::merged(app, &content_id)).await? else {
            return Err(Error::ContentUnknown);
        };
        let record = decode(stored)?;
        let begin = keys::merged_message(app, &content_id, from_index);
        let end = keys::merged_message(app, &content_id, record.count);
        if from_index >= record.count {
            return Ok((Vec::new(), false));
        }
        // No more than a page can hold of messages of some length.
        const READ_MAX: usize = 64;
        let mode = ReadMode::Snapshot;
        let pairs = tx
            .range(RangeQuery { begin, end, limit: limit.entries_max.clamp(1, READ_MAX), reverse: false, mode })
            .await?;
        let mut budget = Budget::new(limit.bytes_max);
        let mut messages = Vec::new();
        for (_, message) in pairs.pairs {
            if !budget.take(message.len()) {
                break;
            }
            messages.push(Message::decode(message).map_err(|_| damaged("message"))?);
        }
        let more = from_index as usize + messages.len() < record.count as usize;
        Ok((messages, more))
    };
    Ok(store.run(Lane::Read, "merged", read).await?.0)
}
