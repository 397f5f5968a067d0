//! Changes of messages: recall, edit, delete for oneself, receipts.

use bytes::Bytes;
use prost::Message as _;
use protocol::{
    EncodedEvent,
    message::{Message, MessagesDeleted, Recalled, event::What},
};

use super::Change;
use crate::domain::{
    Error, UserId,
    act::{Answer, Author, Staging},
    elements::Facts,
    keys::{self, Conversation},
    merged,
    records::{EventKind, MessageRef},
    send::mentioned,
    sync::floor_of,
};

/// Takes a message back, for everyone (MSG-06).
pub(super) async fn recall(
    staging: &mut Staging<'_>,
    change: &Change,
    peer: &UserId,
    seq: u64,
    reason: &str,
) -> Result<Answer, Error> {
    let mut message = change.message(staging, peer, seq).await?;
    ensure_sender(change, &message)?;
    let by = change.user.to_string();
    match &message.recalled {
        Some(recalled) if staging.again && recalled.by == by => {}
        Some(_) => return Err(Error::MessageRecalled),
        None => {
            let window_ms = staging.settings(change.app).await?.recall_seconds * 1000;
            ensure_in_time(staging, change, &message, window_ms)?;
            message.recalled = Some(Recalled { by, time_ms: staging.now_ms, reason: reason.to_owned() });
            message.body = Bytes::new();
            message.revision += 1;
        }
    }
    // What is no longer said mentions nobody.
    for (user, other) in change.sides(peer) {
        staging.tx.clear(&keys::mention(change.app, user, other, seq));
    }
    Ok(put_changed(staging, change, peer, message))
}

/// Replaces the body of a message.
pub(super) async fn edit(
    staging: &mut Staging<'_>,
    change: &Change,
    peer: &UserId,
    seq: u64,
    body: &Bytes,
    facts: Option<&Facts>,
) -> Result<Answer, Error> {
    let mut message = change.present_message(staging, peer, seq).await?;
    ensure_sender(change, &message)?;
    let relation = change.ensure_welcome(staging, peer).await?;
    let settings = staging.settings(change.app).await?;
    settings.check_message_bytes(body.len())?;
    if settings.edit_seconds > 0 {
        ensure_in_time(staging, change, &message, settings.edit_seconds * 1000)?;
    }
    merged::ensure_known(staging, change.app, facts).await?;
    merged::note_use(staging, change.app, facts).await?;
    let is_mention = mentioned(facts, peer) && *peer != change.user && !relation.deaf;
    let is_seen = is_mention && staging.get(&keys::deleted(change.app, peer, &change.user, seq)).await?.is_none();
    message.body = body.clone();
    message.edited_ms = staging.now_ms;
    message.revision += 1;
    let key = keys::mention(change.app, peer, &change.user, seq);
    match is_seen {
        true => staging.tx.set(key, Bytes::new()),
        false => staging.tx.clear(&key),
    }
    Ok(put_changed(staging, change, peer, message))
}

fn ensure_sender(change: &Change, message: &Message) -> Result<(), Error> {
    if message.from == change.user.as_str() { Ok(()) } else { Err(Error::NotAllowed) }
}

fn ensure_in_time(staging: &Staging<'_>, change: &Change, message: &Message, window_ms: u64) -> Result<(), Error> {
    let in_time = change.by == Author::Admin || staging.now_ms.saturating_sub(message.time_ms) <= window_ms;
    if in_time { Ok(()) } else { Err(Error::TooLate) }
}

/// Writes a message as it is now, and tells both sides.
fn put_changed(staging: &mut Staging<'_>, change: &Change, peer: &UserId, message: Message) -> Answer {
    let key = keys::message(change.app, Conversation::between(&change.user, peer), message.seq);
    staging.set(key, message.encode_to_vec());
    let event = EncodedEvent::of(&What::Changed(message.clone()));
    for (user, other) in change.sides(peer) {
        let target = MessageRef { peer: other.to_string(), seq: message.seq };
        staging.append(change.app, user, EventKind::Changed(target), event.clone());
    }
    Answer::Message(Box::new(message))
}

/// Deletes messages for the user alone, on all devices (MSG-12).
pub(super) async fn delete(
    staging: &mut Staging<'_>,
    change: &Change,
    peer: &UserId,
    seqs: &[u64],
) -> Result<Answer, Error> {
    let head = change.head(staging, peer).await?;
    let (first, last) = (seqs.first().copied().unwrap_or(0), seqs.last().copied().unwrap_or(0));
    if first == 0 || last > head.seq {
        return Err(Error::MessageUnknown);
    }
    let conversation = Conversation::between(&change.user, peer).into();
    let floor = floor_of(staging.tx, change.app, &conversation).await?;
    // Of those that have expired nothing is noted: nobody would ever remove it.
    for seq in seqs.iter().filter(|seq| **seq >= floor) {
        staging.set(keys::deleted(change.app, &change.user, peer, *seq), Bytes::new());
        staging.tx.clear(&keys::mention(change.app, &change.user, peer, *seq));
    }
    let deleted = MessagesDeleted { conversation: Some(peer.to_conversation()), seqs: seqs.to_vec() };
    staging.append_stored(change.app, &change.user, &What::Deleted(deleted));
    Ok(Answer::Done)
}

/// Notes that the user has read messages of the other side, one by one (MSG-07).
pub(super) async fn receipts(
    staging: &mut Staging<'_>,
    change: &Change,
    peer: &UserId,
    seqs: &[u64],
) -> Result<Answer, Error> {
    let mut read = Vec::with_capacity(seqs.len());
    for seq in seqs {
        let message = change.present_message(staging, peer, *seq).await?;
        if message.to != change.user.as_str() || message.from == message.to {
            return Err(Error::NotAllowed);
        }
        if !message.need_receipt {
            return Err(Error::Argument("the message asks for no receipt"));
        }
        read.push(message);
    }
    for mut message in read {
        let is_new = message.receipt_ms == 0;
        if is_new {
            message.receipt_ms = staging.now_ms;
            message.revision += 1;
        }
        if is_new || staging.again {
            put_changed(staging, change, peer, message);
        }
    }
    Ok(Answer::Done)
}
