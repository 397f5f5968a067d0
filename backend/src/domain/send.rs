//! Storing a message exactly once.
//!
//! One transaction per send (or per batch of acts): has this (sender, client message id) been stored?
//! Then its answer is given again. Otherwise the next sequence of the conversation is taken, and the
//! message, the answer and an event-log entry for each of the two users are written together.
//!
//! A conversation stands in both users' lists under the hour in which it was last active: so only the
//! first message of an hour has to move it, and the head says whether one is.

use bytes::Bytes;
use prost::Message as _;
use protocol::{EncodedEvent, EncodedPush, message::Message};
use smallvec::{SmallVec, smallvec};

use super::{
    AppId, Error, UserId, account,
    act::{Answer, Author, Staging},
    callbacks::Happened,
    change::blacklist::relation,
    damaged,
    elements::Facts,
    keys::{self, Conversation},
    merged,
    message::NewMessage,
    mute,
    records::{EventKind, Head, MessageRef, RelationRecord, SentRecord},
    retention::{hour_of, note_hour},
    settings::Settings,
};

/// Keys that a send reads first.
pub(crate) fn reads(new: &NewMessage) -> SmallVec<[Bytes; 4]> {
    let mut keys = smallvec![keys::account(new.app, &new.to), keys::relation(new.app, &new.to, &new.from)];
    if !new.treatment.online_only {
        keys.push(keys::sent(new.app, &new.from, &new.client_message_id));
        keys.push(keys::conversation_head(new.app, Conversation::between(&new.from, &new.to)));
    }
    keys
}

/// Stores a message.
pub(crate) async fn stage(staging: &mut Staging<'_>, new: &NewMessage) -> Result<Answer, Error> {
    let sent_key = keys::sent(new.app, &new.from, &new.client_message_id);
    if !new.treatment.online_only
        && let Some(stored) = staging.get(&sent_key).await?
    {
        return repeat(stored, new);
    }
    let settings = staging.settings(new.app).await?;
    let relation = admit(staging, new, &settings).await?;
    if new.treatment.online_only {
        return push_only(staging, new, &relation).await;
    }
    merged::note_use(staging, new.app, new.facts.as_deref()).await?;
    let conversation = Conversation::between(&new.from, &new.to);
    let head_key = keys::conversation_head(new.app, conversation);
    let before = Head::from_stored(staging.get(&head_key).await?)?;
    let head = before.with(new, staging.now_ms);
    move_in_lists(staging, new, &before, &head);
    if before.seq == 0 || hour_of(before.time_ms) != hour_of(head.time_ms) {
        note_hour(staging.tx, new.app, conversation, head.time_ms);
    }
    if head.time_ms < staging.now_ms {
        // Retention may have passed that hour already: it comes by again.
        note_hour(staging.tx, new.app, conversation, staging.now_ms);
    }
    staging.set(head_key, head.to_bytes());
    let message: Bytes = encode(new, &head).into();
    staging.set(keys::message(new.app, conversation, head.seq), message.clone());
    let told = Told::of(new, &relation);
    let sent = SentRecord {
        to: new.to.to_string(),
        seq: head.seq,
        time_ms: head.time_ms,
        unreceived: !told.recipient,
        hidden: !told.sender,
    };
    staging.set(sent_key, sent.encode_to_vec());
    if mentioned(new.facts.as_deref(), &new.to) && new.to != new.from && told.recipient {
        staging.tx.set(keys::mention(new.app, &new.to, &new.from, head.seq), Bytes::new());
    }
    let sent = Happened::Sent(message.clone());
    staging.tell_application(new.app, (&new.from, &new.to), sent).await?;
    let event = EncodedEvent::message(message);
    if told.sender {
        append(staging, new, &new.from, &new.to, head.seq, &event);
    } else if new.treatment.hidden_from_sender {
        staging.set(keys::deleted(new.app, &new.from, &new.to, head.seq), Bytes::new());
    }
    if new.from != new.to && told.recipient {
        append(staging, new, &new.to, &new.from, head.seq, &event);
    }
    Ok(Answer::Sent { seq: head.seq, time_ms: head.time_ms, duplicate: false })
}

/// Whose event logs a message is written into.
struct Told {
    sender: bool,
    recipient: bool,
}

impl Told {
    fn of(new: &NewMessage, relation: &RelationRecord) -> Self {
        let treatment = &new.treatment;
        Told {
            sender: !treatment.unannounced && (!treatment.hidden_from_sender || new.from == new.to),
            recipient: !treatment.unannounced && is_heard(new, relation),
        }
    }
}

/// Whether the recipient receives it.
fn is_heard(new: &NewMessage, relation: &RelationRecord) -> bool {
    !relation.deaf || new.treatment.reaches_deaf
}

fn repeat(stored: Bytes, new: &NewMessage) -> Result<Answer, Error> {
    let record = SentRecord::decode(stored).map_err(|_| damaged("sent record"))?;
    if record.to != new.to.as_str() {
        return Err(Error::ClientMessageIdReused);
    }
    Ok(Answer::Sent { seq: record.seq, time_ms: record.time_ms, duplicate: true })
}

/// Whether the sender may send this to the recipient. Returns what the recipient says of the sender.
async fn admit(staging: &mut Staging<'_>, new: &NewMessage, settings: &Settings) -> Result<RelationRecord, Error> {
    settings.check_message_bytes(new.body.len())?;
    if settings.recipient_exists && !account::is_there(staging.get(&keys::account(new.app, &new.to)).await?)? {
        return Err(Error::UserInvalid);
    }
    let relation = ensure_welcome(staging, new.app, &new.from, &new.to, settings, new.by).await?;
    merged::ensure_known(staging, new.app, new.facts.as_deref()).await?;
    Ok(relation)
}

/// Refuses what `to` does not want to have from `from`. Returns what `to` says of `from`.
pub(crate) async fn ensure_welcome(
    staging: &mut Staging<'_>,
    app: AppId,
    from: &UserId,
    to: &UserId,
    settings: &Settings,
    by: Author,
) -> Result<RelationRecord, Error> {
    let relation = relation(staging, app, to, from).await?;
    if by == Author::Admin {
        return Ok(relation);
    }
    mute::ensure_may_speak(staging, app, from).await?;
    if settings.blacklist && relation.blacklisted {
        return Err(Error::Blacklisted);
    }
    if settings.friends_only && from != to {
        let back = self::relation(staging, app, from, to).await?;
        if !relation.friend || !back.friend {
            return Err(Error::NotFriends);
        }
    }
    Ok(relation)
}

/// Tells the recipient's devices that are live now, and nobody later (MSG-10).
async fn push_only(staging: &mut Staging<'_>, new: &NewMessage, relation: &RelationRecord) -> Result<Answer, Error> {
    let time_ms = staging.now_ms;
    let message = Bytes::from(encode(new, &Head { time_ms, ..Head::default() }));
    let sent = Happened::Sent(message.clone());
    staging.tell_application(new.app, (&new.from, &new.to), sent).await?;
    if is_heard(new, relation) {
        staging.push(new.to.clone(), EncodedPush::message(message));
    }
    Ok(Answer::Sent { seq: 0, time_ms, duplicate: false })
}

/// Whether a message mentions a user.
pub(crate) fn mentioned(facts: Option<&Facts>, user: &UserId) -> bool {
    facts.is_some_and(|facts| facts.mention_all || facts.mentions.contains(user))
}

/// Moves the conversation up in both users' lists, if it was last active in an earlier hour.
fn move_in_lists(staging: &Staging<'_>, new: &NewMessage, before: &Head, head: &Head) {
    let hours = |head: &Head| (head.last_seq > 0).then(|| hour_of(head.active_ms));
    let (left, entered) = (hours(before), hours(head));
    if left == entered {
        return;
    }
    let sides = [(&new.from, &new.to), (&new.to, &new.from)];
    for (user, peer) in sides.into_iter().take(if new.from == new.to { 1 } else { 2 }) {
        if let Some(left) = left {
            staging.tx.clear(&keys::active(new.app, user, left, peer));
        }
        if let Some(entered) = entered {
            staging.tx.set(keys::active(new.app, user, entered, peer), Bytes::new());
        }
    }
}

impl Head {
    /// The head once `new` is stored. What the recipient keeps about the conversation is not in it: the
    /// sender reads these numbers, too.
    fn with(&self, new: &NewMessage, now_ms: u64) -> Head {
        let treatment = new.treatment;
        // Time never runs back within a conversation: what is later in sequence is not earlier in time.
        let time_ms = treatment.sent_ms.map_or(now_ms, |sent_ms| sent_ms.min(now_ms)).max(self.time_ms);
        let mut head = Head { seq: self.seq + 1, time_ms, ..*self };
        if !treatment.exclude_from_last_message {
            (head.last_seq, head.active_ms) = (head.seq, time_ms);
        }
        if !treatment.exclude_from_unread && new.from != new.to {
            *head.count_mut(&new.from, &new.to) += 1;
        }
        head
    }
}

fn encode(new: &NewMessage, head: &Head) -> Vec<u8> {
    let treatment = new.treatment;
    let message = Message {
        from: new.from.to_string(),
        to: new.to.to_string(),
        seq: head.seq,
        time_ms: head.time_ms,
        client_message_id: new.client_message_id.clone(),
        body: new.body.clone(),
        priority: treatment.priority.into(),
        exclude_from_unread: treatment.exclude_from_unread,
        exclude_from_last_message: treatment.exclude_from_last_message,
        need_receipt: treatment.need_receipt,
        sender_count: head.count_of(&new.from, &new.to),
        other_count: head.count_of(&new.to, &new.from),
        ..Message::default()
    };
    message.encode_to_vec()
}

fn append(staging: &mut Staging<'_>, new: &NewMessage, owner: &UserId, peer: &UserId, seq: u64, event: &EncodedEvent) {
    let target = MessageRef { peer: peer.to_string(), seq };
    staging.append(new.app, owner, EventKind::Message(target), event.clone());
}
