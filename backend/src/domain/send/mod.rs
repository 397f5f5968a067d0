//! Storing a message exactly once.
//!
//! One transaction per send (or per batch of acts): has this (sender, client message id) been stored?
//! Then its answer is given again. Otherwise the next sequence of the conversation is taken, and the
//! message, the answer and an event-log entry for each of the two users are written together.
//!
//! A conversation stands in both users' lists under the hour in which it was last active: so only the
//! first message of an hour has to move it, and the head says whether one is.

pub(crate) mod group;
mod imported;
mod to_some;

use bytes::Bytes;
use prost::Message as _;
use protocol::{EncodedEvent, EncodedPush, message::Message};
use smallvec::{SmallVec, smallvec};

use super::{
    AppId, Error, Peer, UserId, account,
    act::{Answer, Author, Staging},
    callbacks::Happened,
    change::blacklist::relation,
    damaged,
    elements::Facts,
    keys::{self, Conversation, Tail},
    merged,
    message::{NewMessage, Treatment},
    mute,
    records::{EventKind, Head, MessageRef, RelationRecord, SentRecord},
    retention::{hour_of, note_hour},
    settings::Settings,
};

/// Keys that a send reads first.
pub(crate) fn reads(new: &NewMessage) -> SmallVec<[Bytes; 4]> {
    let mut keys = match &new.to {
        Peer::User(to) => smallvec![keys::account(new.app, to), keys::relation(new.app, to, &new.from)],
        Peer::Group(group) => smallvec![keys::group(new.app, group), keys::member(new.app, group, &new.from)],
    };
    if let (Peer::Group(group), true) = (&new.to, new.treatment.is_in_room) {
        keys.push(keys::group_ban(new.app, group, &new.from));
    }
    if !new.treatment.online_only {
        keys.extend(new.ids().map(|(id, _)| keys::sent(new.app, &new.from, id)));
        keys.push(Tail::of(&new.from, &new.to).head(new.app));
    }
    keys
}

/// Stores a message.
pub(crate) async fn stage(staging: &mut Staging<'_>, new: &NewMessage) -> Result<Answer, Error> {
    if !new.treatment.online_only
        && let Some(answer) = repeat(staging, new).await?
    {
        return Ok(answer);
    }
    let settings = staging.settings(new.app).await?;
    match &new.to {
        Peer::User(to) => stage_to_user(staging, new, to, &settings).await,
        Peer::Group(group) => group::stage(staging, new, group, &settings).await,
    }
}

async fn stage_to_user(
    staging: &mut Staging<'_>,
    new: &NewMessage,
    to: &UserId,
    settings: &Settings,
) -> Result<Answer, Error> {
    let relation = admit(staging, new, to, settings).await?;
    if new.treatment.online_only {
        return push_only(staging, new, to, &relation).await;
    }
    merged::note_use(staging, new.app, new.facts.as_deref()).await?;
    let tail = Tail::from(Conversation::between(&new.from, to));
    let head_key = tail.head(new.app);
    let before = Head::from_stored(staging.get(&head_key).await?)?;
    let head = before.with(new, to, staging.now_ms);
    let sides = [(&new.from, to), (to, &new.from)].map(|(user, peer)| (user.clone(), Peer::User(peer.clone())));
    let sides = sides.iter().take(if new.from == *to { 1 } else { 2 });
    move_in_lists(staging, new.app, sides.map(|(user, peer)| (user, peer)), &before, &head);
    note_hours(staging, new.app, &tail, 1, (&before, &head));
    staging.set(head_key, head.to_bytes());
    let message: Bytes = encode(new, to, &head).into();
    staging.set(tail.message(new.app, head.seq), message.clone());
    let told = Told::of(new, to, &relation);
    let sent = SentRecord {
        to: to.to_string(),
        seq: head.seq,
        time_ms: head.time_ms,
        unreceived: !told.recipient,
        hidden: !told.sender,
        ..SentRecord::default()
    };
    staging.set(keys::sent(new.app, &new.from, &new.client_message_id), sent.encode_to_vec());
    if mentioned(new.facts.as_deref(), to) && *to != new.from && told.recipient {
        staging.tx.set(keys::mention(new.app, to, &new.from.clone().into(), head.seq), Bytes::new());
    }
    staging.tell_application(new.app, &tail, Happened::Sent(message.clone())).await?;
    let event = EncodedEvent::message(message);
    if told.sender {
        append(staging, new, &new.from, to, head.seq, &event);
    } else if new.treatment.hidden_from_sender {
        staging.set(keys::deleted(new.app, &new.from, &new.to, head.seq), Bytes::new());
    }
    if new.from != *to && told.recipient {
        append(staging, new, to, &new.from, head.seq, &event);
    }
    Ok(Answer::Sent { seq: head.seq, time_ms: head.time_ms, duplicate: false })
}

/// Whose event logs a message is written into.
struct Told {
    sender: bool,
    recipient: bool,
}

impl Told {
    fn of(new: &NewMessage, to: &UserId, relation: &RelationRecord) -> Self {
        let treatment = &new.treatment;
        Told {
            sender: !treatment.unannounced && (!treatment.hidden_from_sender || new.from == *to),
            recipient: !treatment.unannounced && is_heard(new, relation),
        }
    }
}

/// Whether the recipient receives it.
fn is_heard(new: &NewMessage, relation: &RelationRecord) -> bool {
    !relation.deaf || new.treatment.reaches_deaf
}

/// What an earlier send of the same message was answered.
async fn repeat(staging: &mut Staging<'_>, new: &NewMessage) -> Result<Option<Answer>, Error> {
    for (id, since_ms) in new.ids() {
        let Some(stored) = staging.get(&keys::sent(new.app, &new.from, id)).await? else { continue };
        let record = SentRecord::decode(stored).map_err(|_| damaged("sent record"))?;
        let is_same = match &new.to {
            Peer::User(to) => record.group.is_empty() && record.to == to.as_str(),
            Peer::Group(group) => record.group == group.as_str(),
        };
        if !is_same {
            return Err(Error::ClientMessageIdReused);
        }
        if record.time_ms >= since_ms {
            return Ok(Some(Answer::Sent { seq: record.seq, time_ms: record.time_ms, duplicate: true }));
        }
    }
    Ok(None)
}

/// Whether the sender may send this to the recipient. Returns what the recipient says of the sender.
async fn admit(
    staging: &mut Staging<'_>,
    new: &NewMessage,
    to: &UserId,
    settings: &Settings,
) -> Result<RelationRecord, Error> {
    settings.check_message_bytes(new.body.len())?;
    if settings.recipient_exists && !account::is_there(staging.get(&keys::account(new.app, to)).await?)? {
        return Err(Error::UserInvalid);
    }
    let relation = ensure_welcome(staging, new.app, &new.from, to, settings, new.by).await?;
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
async fn push_only(
    staging: &mut Staging<'_>,
    new: &NewMessage,
    to: &UserId,
    relation: &RelationRecord,
) -> Result<Answer, Error> {
    let time_ms = staging.now_ms;
    let message = Bytes::from(encode(new, to, &Head { time_ms, ..Head::default() }));
    let tail = Tail::of(&new.from, &new.to);
    staging.tell_application(new.app, &tail, Happened::Sent(message.clone())).await?;
    if is_heard(new, relation) {
        staging.push(to.clone(), EncodedPush::message(message));
    }
    Ok(Answer::Sent { seq: 0, time_ms, duplicate: false })
}

/// Whether a message mentions a user.
pub(crate) fn mentioned(facts: Option<&Facts>, user: &UserId) -> bool {
    facts.is_some_and(|facts| facts.mention_all || facts.mentions.contains(user))
}

/// Moves the conversation up in its users' lists, if it was last active in an earlier hour.
fn move_in_lists<'b>(
    staging: &Staging<'_>,
    app: AppId,
    sides: impl Iterator<Item = (&'b UserId, &'b Peer)>,
    before: &Head,
    head: &Head,
) {
    let (left, entered) = (list_hour(before), list_hour(head));
    if left == entered {
        return;
    }
    for (user, peer) in sides {
        if let Some(left) = left {
            staging.tx.clear(&keys::active(app, user, left, peer));
        }
        if let Some(entered) = entered {
            staging.tx.set(keys::active(app, user, entered, peer), Bytes::new());
        }
    }
}

/// The hour under which a conversation stands in its users' lists, if it does.
fn list_hour(head: &Head) -> Option<u32> {
    (head.last_seq > 0).then(|| hour_of(head.active_ms))
}

/// Notes, for retention, that the conversation has messages of an hour: with the first of them. What stands before
/// `first_seq` was another group's of the same id: in a live room nothing is noted.
fn note_hours(staging: &Staging<'_>, app: AppId, tail: &Tail, first_seq: u64, (before, head): (&Head, &Head)) {
    if before.seq < first_seq || hour_of(before.time_ms) != hour_of(head.time_ms) {
        note_hour(staging.tx, app, tail, head.time_ms);
    }
    if head.time_ms < staging.now_ms {
        // Retention may have passed that hour already: it comes by again.
        note_hour(staging.tx, app, tail, staging.now_ms);
    }
}

impl Head {
    /// The head once `new` is stored. What the recipient keeps about the conversation is not in it: the
    /// sender reads these numbers, too.
    fn with(&self, new: &NewMessage, to: &UserId, now_ms: u64) -> Head {
        let mut head = self.next(&new.treatment, now_ms);
        if !new.treatment.exclude_from_unread && new.from != *to {
            *head.count_mut(&new.from, to) += 1;
        }
        head
    }

    /// The head of any conversation once a message is stored, without its counts.
    fn next(&self, treatment: &Treatment, now_ms: u64) -> Head {
        // Time never runs back within a conversation: what is later in sequence is not earlier in time.
        let time_ms = treatment.sent_ms.map_or(now_ms, |sent_ms| sent_ms.min(now_ms)).max(self.time_ms);
        let mut head = Head { seq: self.seq + 1, time_ms, ..*self };
        if !treatment.exclude_from_last_message {
            (head.last_seq, head.active_ms) = (head.seq, time_ms);
        }
        head
    }
}

fn encode(new: &NewMessage, to: &UserId, head: &Head) -> Vec<u8> {
    let message = Message {
        to: to.to_string(),
        sender_count: head.count_of(&new.from, to),
        other_count: head.count_of(to, &new.from),
        ..unaddressed(new, head)
    };
    message.encode_to_vec()
}

/// What a message says, whomever it is for.
fn unaddressed(new: &NewMessage, head: &Head) -> Message {
    let treatment = new.treatment;
    Message {
        from: new.from.to_string(),
        seq: head.seq,
        time_ms: head.time_ms,
        client_message_id: new.client_message_id.clone(),
        body: new.body.clone(),
        priority: treatment.priority.into(),
        exclude_from_unread: treatment.exclude_from_unread,
        exclude_from_last_message: treatment.exclude_from_last_message,
        need_receipt: treatment.need_receipt,
        ..Message::default()
    }
}

fn append(staging: &mut Staging<'_>, new: &NewMessage, owner: &UserId, peer: &UserId, seq: u64, event: &EncodedEvent) {
    let target = MessageRef { peer: peer.to_string(), seq, group: String::new() };
    staging.append(new.app, owner, EventKind::Message(target), event.clone());
}
