//! Merged messages (TYPE-11): copies of many messages, stored once under an id that the one who makes them
//! chooses, and fetched by whoever holds that id.

use bytes::Bytes;
use prost::Message as _;
use protocol::message::Message;

use super::{
    AppId, Error, UserId,
    act::Staging,
    applications,
    change::conversation,
    damaged,
    elements::{CONTENT_ID_BYTES, Facts, MERGED_MAX},
    keys::{self, Conversation},
    records::MergedRecord,
    sync::{Budget, PageLimit},
};
use crate::store::{Lane, RangeQuery, ReadMode, Reading, Store, Tx};

/// Bytes of all messages inside a merged one, at the most: they are stored in one transaction.
const CONTENT_BYTES_MAX: usize = 8_000_000;

/// Where a message to be merged is: the other side of its conversation, and its sequence.
pub type Source = (UserId, u64);

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
    let write = async move |tx: &Tx| -> Result<u32, Error> {
        applications::ensure(tx, app).await?;
        let key = keys::merged(app, &content_id);
        if let Some(stored) = tx.get(&key).await? {
            let record = MergedRecord::decode(stored).map_err(|_| damaged("merged record"))?;
            let own = record.by == user.as_str();
            return if own { Ok(record.count) } else { Err(Error::Argument("content_id is taken")) };
        }
        let messages = read_sources(tx, app, &user, &sources).await?;
        if messages.iter().map(Message::encoded_len).sum::<usize>() > CONTENT_BYTES_MAX {
            return Err(Error::Argument("the messages are larger than 8 MB together"));
        }
        let count = messages.len() as u32;
        for (message, index) in messages.iter().zip(0..) {
            tx.set(keys::merged_message(app, &content_id, index), message.encode_to_vec());
        }
        tx.set(key, MergedRecord { by: user.to_string(), time_ms: now_ms, count }.encode_to_vec());
        Ok(count)
    };
    // A transaction of its own: it may write megabytes.
    Ok(store.run(Lane::Write, "merge", write).await?.0)
}

/// Copies of the messages, each of which `user` can read.
async fn read_sources(tx: &Tx, app: AppId, user: &UserId, sources: &[Source]) -> Result<Vec<Message>, Error> {
    type Reads = (Reading<Option<Bytes>>, Reading<Option<Bytes>>, Reading<Option<Bytes>>);
    let start = |(peer, seq): &Source| -> Reads {
        let message = keys::message(app, Conversation::between(user, peer), *seq);
        let deleted = keys::deleted(app, user, peer, *seq);
        (tx.snapshot_get(&message), tx.snapshot_get(&deleted), tx.snapshot_get(&keys::kept(app, user, peer)))
    };
    let readings: Vec<Reads> = sources.iter().map(start).collect();
    let mut copies = Vec::with_capacity(sources.len());
    for ((_, seq), (message, deleted, kept)) in sources.iter().zip(readings) {
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
    for (content_id, count) in facts.map_or(&[][..], |facts| &facts.merged) {
        let stored = staging.get(&keys::merged(app, content_id)).await?.ok_or(Error::ContentUnknown)?;
        let record = MergedRecord::decode(stored).map_err(|_| damaged("merged record"))?;
        if record.count != *count {
            return Err(Error::Element("count is not that of the content"));
        }
    }
    Ok(())
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
        let record = MergedRecord::decode(stored).map_err(|_| damaged("merged record"))?;
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
