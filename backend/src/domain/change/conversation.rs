//! What a user keeps about a conversation (MSG-16, MSG-17): pinned, receive option, labels, how far it is
//! read and cleared. The other side learns nothing of it but the read mark (MSG-07).

use bytes::Bytes;
use futures::future::{try_join, try_join_all};
use prost::Message as _;
use protocol::message::{
    ConversationChanged, ConversationState, PeerRead, ReceiveOption, UpdateConversation, event::What,
};

use super::{
    Change,
    blacklist::{put_relation, relation},
    label,
};
use crate::{
    domain::{
        AppId, Error, GroupId, Peer, UserId,
        act::{Answer, Staging},
        callbacks::{ConversationRead, Happened},
        damaged,
        groups::{access, entering, records::MemberRecord},
        keys::{self, Tail},
        records::{ConversationRecord, Head, LabelsRecord, RelationRecord},
        unread::{self, Counts},
    },
    store::{RangeQuery, ReadMode, Tx},
};

/// Longest custom data of a conversation, in bytes.
pub const CUSTOM_DATA_BYTES_MAX: usize = 256;

pub(super) fn check(update: &UpdateConversation) -> Result<(), Error> {
    if update.custom_data.as_ref().is_some_and(|data| data.len() > CUSTOM_DATA_BYTES_MAX) {
        return Err(Error::Argument("custom_data must have at most 256 bytes"));
    }
    if update.receive.is_some_and(|receive| ReceiveOption::try_from(receive).is_err()) {
        return Err(Error::Argument("receive is no receive option"));
    }
    label::check(&update.label, &update.unlabel)
}

pub(super) async fn update(
    staging: &mut Staging<'_>,
    change: &Change,
    peer: &Peer,
    update: &UpdateConversation,
) -> Result<Answer, Error> {
    let (app, user) = (change.app, &change.user);
    let key = keys::kept(app, user, peer);
    let before = decode(staging.get(&key).await?)?;
    let head = change.head(staging, peer).await?;
    let membership = match peer {
        Peer::User(other) if head.seq == 0 => change.ensure_account(staging, other).await.map(|()| None)?,
        Peer::User(_) => None,
        Peer::Group(group) => membership(staging, change, group, head.seq).await?,
    };
    let labels_before = label::read(staging, app, user).await?;
    let mut labels = labels_before.clone();
    let mut now = before.clone();
    set_fields(&mut now, update);
    label::apply(&mut labels, &mut now.labels, update)?;
    let is_end = update.clear || update.remove;
    let read_by_hand = update.read_seq.min(head.seq);
    // What came while the conversation was not received never becomes unread.
    let is_heard_again = is_refused(&before) && !is_refused(&now);
    let read_seq = if is_end || is_heard_again { head.seq } else { read_by_hand };
    if read_seq > now.read_seq {
        let Counts { others, own } = unread::counts_at(staging.tx, app, user, peer, &head, read_seq).await?;
        (now.read_count, now.read_own, now.read_seq) = (others, own, read_seq);
    }
    now.shown_seq = now.shown_seq.max(read_by_hand);
    if update.read_seq > 0 && update.marked_unread.is_none() {
        now.marked_unread = false;
    }
    if update.clear || update.remove && !update.keep_history {
        now.cleared_seq = head.seq;
    }
    if update.remove {
        now = ConversationRecord { pinned: false, marked_unread: false, removed_seq: head.seq, ..now };
    }
    // From here on it is written.
    if labels != labels_before {
        staging.set(keys::labels(app, user), labels.encode_to_vec());
    }
    if now != before || staging.again {
        put(staging, app, user, peer, &before, &now, membership).await?;
        let state = Some(state(&now, &labels));
        let changed = ConversationChanged { conversation: Some(peer.to_conversation()), state };
        staging.append_stored(app, user, &What::Conversation(changed));
        let is_shown = read_by_hand > before.shown_seq
            // An earlier run may have written it without telling anybody.
            || staging.again && read_by_hand > 0 && read_by_hand == before.shown_seq;
        // Who has read how far in a group is told to nobody: receipts say it message by message.
        if let Peer::User(other) = peer
            && is_shown
            && other != user
        {
            let read = ConversationRead { by: user.to_string(), peer: other.to_string() };
            staging.tell_application(app, &Tail::of(user, peer), Happened::Read(read)).await?;
            let conversation = Some(user.to_conversation());
            staging.append_stored(app, other, &What::PeerRead(PeerRead { conversation, read_seq: now.shown_seq }));
        }
    }
    Ok(Answer::Conversation(Box::new(state(&now, &labels))))
}

/// Has so many messages of a group be unread for a member, as far as there are so many that count, and tells his devices.
pub(super) async fn set_unread(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    member: &UserId,
    unread: u32,
) -> Result<(), Error> {
    for now in put_unread(staging, app, group, &[(member, unread)]).await? {
        let labels = label::read(staging, app, member).await?;
        let conversation = Some(Peer::Group(group.clone()).to_conversation());
        let changed = ConversationChanged { conversation, state: Some(state(&now, &labels)) };
        staging.append_stored(app, member, &What::Conversation(changed));
    }
    Ok(())
}

/// The same for several without telling anybody.
pub(super) async fn put_unread(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    members: &[(&UserId, u32)],
) -> Result<Vec<ConversationRecord>, Error> {
    let peer = Peer::Group(group.clone());
    let head = Head::from_stored(staging.get(&Tail::from(group).head(app)).await?)?;
    let mut first_seqs = Vec::with_capacity(members.len());
    for (member, _) in members {
        first_seqs.push(access::member(staging, app, group, member).await?.map_or(1, |member| member.first_seq.max(1)));
    }
    let tx = staging.tx;
    let counts = members.iter().zip(first_seqs).map(|((member, _), first_seq)| {
        let now = unread::counts(tx, app, member, &peer, &head);
        // As many as others have said since he sees what is said.
        let then = unread::counts_at(tx, app, member, &peer, &head, first_seq - 1);
        try_join(now, then)
    });
    let counts = try_join_all(counts).await?;
    let mut all = Vec::with_capacity(members.len());
    for ((member, unread), (Counts { others, own }, then)) in members.iter().zip(counts) {
        let key = keys::kept(app, member, &peer);
        let before = decode(staging.get(&key).await?)?;
        let there = others.saturating_sub(then.others).saturating_sub(own.saturating_sub(then.own));
        let unread = u64::from(*unread).min(there);
        let now = ConversationRecord {
            read_seq: head.seq.saturating_sub(unread),
            read_count: others.saturating_sub(unread),
            read_own: own,
            ..before
        };
        staging.set(key, now.encode_to_vec());
        all.push(now);
    }
    Ok(all)
}

/// What a group knows of the user, if he is in it; refuses who never was.
async fn membership(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    head: u64,
) -> Result<Option<MemberRecord>, Error> {
    access::spans(staging.tx, change.app, group, &change.user, head).await?;
    access::member(staging, change.app, group, &change.user).await
}

/// Whether the user does not receive what is said there.
pub(crate) fn is_refused(record: &ConversationRecord) -> bool {
    record.receive == i32::from(ReceiveOption::Refuse)
}

fn set_fields(record: &mut ConversationRecord, update: &UpdateConversation) {
    let UpdateConversation { pinned, receive, marked_unread, custom_data, .. } = update;
    record.pinned = pinned.unwrap_or(record.pinned);
    record.receive = receive.unwrap_or(record.receive);
    record.marked_unread = marked_unread.unwrap_or(record.marked_unread);
    if let Some(data) = custom_data {
        record.custom_data = data.clone();
    }
    record.marks = record.marks & !update.clear_marks | update.set_marks;
}

/// Writes what the user keeps, and what follows from it.
async fn put(
    staging: &mut Staging<'_>,
    app: AppId,
    user: &UserId,
    peer: &Peer,
    before: &ConversationRecord,
    now: &ConversationRecord,
    membership: Option<MemberRecord>,
) -> Result<(), Error> {
    staging.set(keys::kept(app, user, peer), now.encode_to_vec());
    // An earlier run may have done it, and was not heard.
    if now.receive != before.receive || staging.again {
        put_deaf(staging, app, user, peer, membership, is_refused(now)).await?;
    }
    if now.read_seq > before.read_seq {
        let read = keys::mention(app, user, peer, now.read_seq + 1);
        clear_some(staging.tx, keys::mention(app, user, peer, 0), read).await?;
    }
    if now.cleared_seq > before.cleared_seq {
        let cleared = keys::deleted(app, user, peer, now.cleared_seq + 1);
        clear_some(staging.tx, keys::deleted(app, user, peer, 0), cleared).await?;
    }
    Ok(())
}

/// Notes whether the user receives from the peer, where a send looks for it.
async fn put_deaf(
    staging: &mut Staging<'_>,
    app: AppId,
    user: &UserId,
    peer: &Peer,
    membership: Option<MemberRecord>,
    deaf: bool,
) -> Result<(), Error> {
    match (peer, membership) {
        (Peer::User(other), _) => {
            let relation = relation(staging, app, user, other).await?;
            put_relation(staging, app, user, other, &RelationRecord { deaf, ..relation });
        }
        (Peer::Group(group), Some(member)) => {
            entering::set_deaf(staging, app, group, user, member, deaf).await?;
        }
        (Peer::Group(_), None) => {}
    }
    Ok(())
}

/// Clears marks that count for nothing any more: not all of them, if they are many. Whoever mentions a user
/// in a hundred thousand messages must not hold up everybody else when they are read.
async fn clear_some(tx: &Tx, begin: Bytes, end: Bytes) -> Result<(), Error> {
    const MARKS_MAX: usize = 256;
    let query = RangeQuery { begin, end, limit: MARKS_MAX, reverse: false, mode: ReadMode::Snapshot };
    for (mark, _) in tx.range(query).await?.pairs {
        tx.clear(&mark);
    }
    Ok(())
}

/// What a user keeps about a conversation, from its stored form.
pub(crate) fn decode(stored: Option<Bytes>) -> Result<ConversationRecord, Error> {
    stored.map_or_else(
        || Ok(ConversationRecord::default()),
        |stored| ConversationRecord::decode(stored).map_err(|_| damaged("conversation record")),
    )
}

/// As clients see it.
pub(crate) fn state(record: &ConversationRecord, labels: &LabelsRecord) -> ConversationState {
    ConversationState {
        pinned: record.pinned,
        receive: record.receive,
        marked_unread: record.marked_unread,
        custom_data: record.custom_data.clone(),
        labels: label::names(labels, &record.labels),
        read_seq: record.read_seq,
        cleared_seq: record.cleared_seq,
        removed_seq: record.removed_seq,
        marks: record.marks,
    }
}

/// What a user keeps, read without changing it.
pub(crate) async fn snapshot(tx: &Tx, app: AppId, user: &UserId, peer: &Peer) -> Result<ConversationRecord, Error> {
    decode(tx.snapshot_get(&keys::kept(app, user, peer)).await?)
}

/// A conversation's newest message, read without changing it.
pub(crate) async fn snapshot_head(tx: &Tx, app: AppId, conversation: &Tail) -> Result<Head, Error> {
    Head::from_stored(tx.snapshot_get(&conversation.head(app)).await?)
}
