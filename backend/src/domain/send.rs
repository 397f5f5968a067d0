//! Storing a message exactly once.
//!
//! One transaction per send (or per batch of sends): has this (sender, client message id) been stored?
//! Then its answer is given again. Otherwise the next sequence of the conversation is taken, and the
//! message, the answer and an event-log entry for each of the two users are written together.

use bytes::Bytes;
use prost::Message as _;
use protocol::message::Message;

use super::{
    Error, UserId, account, damaged,
    keys::{self, Conversation},
    message::NewMessage,
    records::{EventKind, EventRecord, MessageRef, SentRecord},
};
use crate::store::{Committed, Tx, Versionstamp};

/// The answer to a send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The message's place in its conversation.
    pub seq: u64,
    /// The server's time of the message, milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// It had been stored before, by an earlier try.
    pub duplicate: bool,
    /// What is to be pushed, if it was stored now.
    pub fresh: Option<Fresh>,
}

/// A message that has just been stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// The message, encoded as the protocol's `Message`.
    pub message: Bytes,
    /// Where it stands in the sender's event log.
    pub position_from: Versionstamp,
    /// Where it stands in the recipient's event log; equal to `position_from` in a talk with oneself.
    pub position_to: Versionstamp,
}

/// A send inside a transaction that is not committed yet: positions follow from the commit.
#[derive(Clone, Debug)]
pub(crate) struct Staged {
    seq: u64,
    time_ms: u64,
    fresh: Option<StagedMessage>,
}

#[derive(Clone, Debug)]
struct StagedMessage {
    message: Bytes,
    stamp_from: u16,
    stamp_to: u16,
}

impl Staged {
    /// The answer, once the transaction has been committed.
    pub(crate) fn committed(self, committed: Committed) -> Sent {
        let fresh = self.fresh.map(|staged| Fresh {
            message: staged.message,
            position_from: committed.stamp(staged.stamp_from),
            position_to: committed.stamp(staged.stamp_to),
        });
        Sent { seq: self.seq, time_ms: self.time_ms, duplicate: fresh.is_none(), fresh }
    }
}

/// Stores a message within `tx`. `stamps` counts the versionstamped writes of the transaction.
pub(crate) async fn stage(tx: &Tx, stamps: &mut u16, new: &NewMessage, now_ms: u64) -> Result<Staged, Error> {
    let sent_key = keys::sent(new.app, &new.from, &new.client_message_id);
    if let Some(stored) = tx.get(&sent_key).await? {
        return repeat(stored, new);
    }
    if !account::account_exists(tx, new.app, &new.to).await? {
        return Err(Error::UserInvalid);
    }
    let conversation = Conversation::between(&new.from, &new.to);
    let seq = next_seq(tx, new, conversation).await?;
    let message: Bytes = encode(new, seq, now_ms).into();
    tx.set(keys::message(new.app, conversation, seq), message.clone());
    tx.set(sent_key, SentRecord { to: new.to.to_string(), seq, time_ms: now_ms }.encode_to_vec());
    let stamp_from = append_event(tx, stamps, new, &new.from, &new.to, seq);
    let stamp_to = match new.from == new.to {
        true => stamp_from,
        false => append_event(tx, stamps, new, &new.to, &new.from, seq),
    };
    Ok(Staged { seq, time_ms: now_ms, fresh: Some(StagedMessage { message, stamp_from, stamp_to }) })
}

/// Versionstamped writes that one send makes at the most.
pub(crate) const STAMPS_PER_SEND: usize = 2;

fn repeat(stored: Bytes, new: &NewMessage) -> Result<Staged, Error> {
    let record = SentRecord::decode(stored).map_err(|_| damaged("sent record"))?;
    if record.to != new.to.as_str() {
        return Err(Error::ClientMessageIdReused);
    }
    Ok(Staged { seq: record.seq, time_ms: record.time_ms, fresh: None })
}

async fn next_seq(tx: &Tx, new: &NewMessage, conversation: Conversation<'_>) -> Result<u64, Error> {
    let key = keys::conversation_head(new.app, conversation);
    let head = head_seq(tx.get(&key).await?)?;
    tx.set(key, (head + 1).to_le_bytes().to_vec());
    Ok(head + 1)
}

/// A conversation's newest sequence, from its stored form; 0 if there is none.
pub(crate) fn head_seq(stored: Option<Bytes>) -> Result<u64, Error> {
    match stored {
        None => Ok(0),
        Some(bytes) => bytes[..].try_into().map(u64::from_le_bytes).map_err(|_| damaged("conversation head")),
    }
}

fn encode(new: &NewMessage, seq: u64, time_ms: u64) -> Vec<u8> {
    let message = Message {
        from: new.from.to_string(),
        to: new.to.to_string(),
        seq,
        time_ms,
        client_message_id: new.client_message_id.clone(),
        body: new.body.clone(),
    };
    message.encode_to_vec()
}

fn append_event(tx: &Tx, stamps: &mut u16, new: &NewMessage, owner: &UserId, peer: &UserId, seq: u64) -> u16 {
    let stamp = *stamps;
    *stamps += 1;
    let record = EventRecord { kind: Some(EventKind::Message(MessageRef { peer: peer.to_string(), seq })) };
    tx.append_versionstamped(&keys::event_prefix(new.app, owner), stamp, &[], record.encode_to_vec());
    stamp
}
