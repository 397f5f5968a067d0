//! Changes of messages: recall, edit, delete for oneself, receipts.

use bytes::Bytes;
use prost::Message as _;
use protocol::{
    EncodedEvent,
    message::{GroupRole, Message, MessagesDeleted, Recalled, event::What},
};

use super::Change;
use crate::domain::{
    Error, GroupId, Peer, UserId,
    act::{Answer, Author, Staging},
    callbacks::{GroupSaid, Happened},
    elements::{self, Facts},
    groups::{Refusal, access},
    keys::{self, Tail},
    merged,
    records::{EventKind, MessageRef},
    send::{group::mention_all, mentioned},
    sync::floor_of,
};

/// Takes a message back, for everyone (MSG-06).
pub(super) async fn recall(
    staging: &mut Staging<'_>,
    change: &Change,
    peer: &Peer,
    seq: u64,
    reason: &str,
) -> Result<Answer, Error> {
    let mut message = change.message(staging, peer, seq).await?;
    let leads = match peer {
        Peer::User(_) => ensure_sender(change, &message).map(|()| false)?,
        Peer::Group(group) => ensure_may_recall(staging, change, group, &message).await?,
    };
    let by = change.user.to_string();
    let is_new = message.recalled.is_none();
    match (&message.recalled, peer) {
        (Some(recalled), _) if staging.again && recalled.by == by => {}
        (Some(_), Peer::User(_)) => return Err(Error::MessageRecalled),
        (Some(_), Peer::Group(_)) => return Err(Refusal::MessageRecalled.into()),
        (None, _) => {
            let window_ms = staging.settings(change.app).await?.recall_seconds * 1000;
            if !leads {
                ensure_in_time(staging, change, peer, &message, window_ms)?;
            }
            message.recalled = Some(Recalled { by, time_ms: staging.now_ms, reason: reason.to_owned() });
            if let Peer::Group(group) = peer {
                clear_mentions(staging, change, group, &message);
            }
            message.body = Bytes::new();
            message.revision += 1;
        }
    }
    // What is no longer said mentions nobody.
    if let Peer::User(other) = peer {
        for (user, other) in change.sides(other) {
            staging.tx.clear(&keys::mention(change.app, user, &other.clone().into(), seq));
        }
        let recalled = Happened::Recalled(message.encode_to_vec().into());
        staging.tell_application(change.app, &Tail::of(&change.user, peer), recalled).await?;
    }
    if let (Peer::Group(group), true) = (peer, is_new) {
        let (kind, by) = (access::load(staging, change.app, group).await?.kind, change.user.to_string());
        let recalled = Happened::GroupRecalled(GroupSaid { kind, by, message: message.encode_to_vec().into() });
        staging.tell_application(change.app, &Tail::from(group), recalled).await?;
    }
    put_changed(staging, change, peer, message).await
}

/// Whether the user leads the group, and so may take anybody's message back at any time; refuses who may take
/// back only what he has said himself, and has not said this. In a live room nothing is taken back.
async fn ensure_may_recall(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    message: &Message,
) -> Result<bool, Error> {
    let record = access::load(staging, change.app, group).await?;
    if record.rules()?.is_room() {
        return Err(Refusal::RightMissing.into());
    }
    let role = access::role(staging, change.app, group, &change.user).await?;
    // What the group itself says nobody in it takes back.
    let is_said = !message.from.is_empty();
    let leads = change.by == Author::Admin || is_said && matches!(role, GroupRole::Owner | GroupRole::Admin);
    let is_own = message.from == change.user.as_str() && role != GroupRole::None;
    if leads || is_own { Ok(leads) } else { Err(Refusal::RightMissing.into()) }
}

/// Replaces the body of a message.
pub(super) async fn edit(
    staging: &mut Staging<'_>,
    change: &Change,
    peer: &Peer,
    seq: u64,
    body: &Bytes,
    facts: Option<&Facts>,
) -> Result<Answer, Error> {
    let mut message = change.present_message(staging, peer, seq).await?;
    ensure_sender(change, &message)?;
    if !message.recipients.is_empty() {
        facts.map_or(Ok(()), Facts::ensure_mentions_nobody)?;
    }
    let relation = change.ensure_welcome(staging, peer).await?;
    let settings = staging.settings(change.app).await?;
    settings.check_message_bytes(body.len())?;
    if settings.edit_seconds > 0 {
        ensure_in_time(staging, change, peer, &message, settings.edit_seconds * 1000)?;
    }
    merged::ensure_known(staging, change.app, facts).await?;
    merged::note_use(staging, change.app, facts).await?;
    if let Peer::User(other) = peer {
        let own: Peer = change.user.clone().into();
        let is_mention = mentioned(facts, other) && *other != change.user && !relation.deaf;
        let is_seen = is_mention && staging.get(&keys::deleted(change.app, other, &own, seq)).await?.is_none();
        let key = keys::mention(change.app, other, &own, seq);
        match is_seen {
            true => staging.tx.set(key, Bytes::new()),
            false => staging.tx.clear(&key),
        }
    }
    if let Peer::Group(group) = peer {
        move_mentions(staging, change, group, &message, facts).await?;
    }
    message.body = body.clone();
    message.edited_ms = staging.now_ms;
    message.revision += 1;
    put_changed(staging, change, peer, message).await
}

/// Whom a body mentions by name.
fn named(body: &Bytes) -> Vec<UserId> {
    elements::check(body, Author::Admin).ok().flatten().map(|facts| facts.mentions.clone()).unwrap_or_default()
}

/// What is no longer said in a group mentions nobody.
fn clear_mentions(staging: &Staging<'_>, change: &Change, group: &GroupId, message: &Message) {
    let (peer, seq) = (Peer::Group(group.clone()), message.seq);
    staging.tx.clear(&keys::mention_of_all(change.app, group, seq));
    named(&message.body).iter().for_each(|user| staging.tx.clear(&keys::mention(change.app, user, &peer, seq)));
}

/// Has a group's message mention whom its new body mentions: everybody, or by name members who receive it.
async fn move_mentions(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    message: &Message,
    facts: Option<&Facts>,
) -> Result<(), Error> {
    let (app, seq, peer) = (change.app, message.seq, Peer::Group(group.clone()));
    clear_mentions(staging, change, group, message);
    let Some(facts) = facts else { return Ok(()) };
    if facts.mention_all {
        mention_all(staging, app, group, seq, &change.user);
    }
    for user in facts.mentions.iter().filter(|user| **user != change.user) {
        let Some(member) = access::member(staging, app, group, user).await? else { continue };
        let is_seen = !member.deaf && staging.get(&keys::deleted(app, user, &peer, seq)).await?.is_none();
        if is_seen {
            staging.tx.set(keys::mention(app, user, &peer, seq), Bytes::new());
        }
    }
    Ok(())
}

fn ensure_sender(change: &Change, message: &Message) -> Result<(), Error> {
    if message.from == change.user.as_str() { Ok(()) } else { Err(Error::NotAllowed) }
}

fn ensure_in_time(
    staging: &Staging<'_>,
    change: &Change,
    peer: &Peer,
    message: &Message,
    window_ms: u64,
) -> Result<(), Error> {
    let in_time = change.by == Author::Admin || staging.now_ms.saturating_sub(message.time_ms) <= window_ms;
    match (in_time, peer) {
        (true, _) => Ok(()),
        (false, Peer::User(_)) => Err(Error::TooLate),
        (false, Peer::Group(_)) => Err(Refusal::RecallTooLate.into()),
    }
}

/// Writes a message as it is now, and tells everybody in the conversation.
async fn put_changed(
    staging: &mut Staging<'_>,
    change: &Change,
    peer: &Peer,
    message: Message,
) -> Result<Answer, Error> {
    let key = Tail::of(&change.user, peer).message(change.app, message.seq);
    staging.set(key, message.encode_to_vec());
    let event = EncodedEvent::of(&What::Changed(message.clone()));
    let told = |peer: &Peer| (EventKind::Changed(MessageRef::new(peer, message.seq)), event.clone());
    change.tell(staging, peer, message.seq, told).await?;
    Ok(Answer::Message(Box::new(message)))
}

/// Deletes messages for the user alone, on all devices (MSG-12).
pub(super) async fn delete(
    staging: &mut Staging<'_>,
    change: &Change,
    peer: &Peer,
    seqs: &[u64],
) -> Result<Answer, Error> {
    let head = change.head(staging, peer).await?;
    let (first, last) = (seqs.first().copied().unwrap_or(0), seqs.last().copied().unwrap_or(0));
    if first == 0 || last > head.seq {
        return Err(Error::MessageUnknown);
    }
    if let Peer::Group(group) = peer {
        access::spans(staging.tx, change.app, group, &change.user, head.seq).await?;
    }
    let floor = floor_of(staging.tx, change.app, &Tail::of(&change.user, peer)).await?;
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
    peer: &Peer,
    seqs: &[u64],
) -> Result<Answer, Error> {
    if let Peer::Group(group) = peer {
        return super::receipts::note(staging, change, group, seqs).await;
    }
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
            put_changed(staging, change, peer, message).await?;
        }
    }
    Ok(Answer::Done)
}
