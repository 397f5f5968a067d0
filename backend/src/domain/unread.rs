//! How many messages are unread, without a counter that every message would have to raise.
//!
//! The head of a conversation and each message carry how many messages of either side count as unread so
//! far. What is unread is the other side's number now, less its number where the user has read to.

use bytes::Bytes;
use prost::Message as _;
use protocol::message::{Message, ReceiveOption};

use super::{
    AppId, Error, GroupId, Peer, UserId, damaged,
    keys::{self, Tail},
    records::{ConversationRecord, Head},
};
use crate::store::{RangeQuery, ReadMode, Tx};

/// How many messages of others, and of the user, count as unread up to somewhere in a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Of the other side; in a group of everybody.
    pub(crate) others: u64,
    /// In a group, of the user.
    pub(crate) own: u64,
}

/// Messages that `user` has not read, of a conversation that stands at `now`; of one that is not received, none.
pub(crate) fn unread(now: Counts, kept: &ConversationRecord) -> u64 {
    if kept.receive == i32::from(ReceiveOption::Refuse) {
        return 0;
    }
    let own = now.own.saturating_sub(kept.read_own);
    now.others.saturating_sub(kept.read_count).saturating_sub(own)
}

/// Where a conversation stands.
pub(crate) async fn counts(tx: &Tx, app: AppId, user: &UserId, peer: &Peer, head: &Head) -> Result<Counts, Error> {
    match peer {
        Peer::User(other) => Ok(Counts { others: head.count_of(other, user), own: 0 }),
        Peer::Group(group) => {
            Ok(Counts { others: head.count_low, own: own_count(tx, app, group, user, u64::MAX >> 1).await? })
        }
    }
}

/// Where it stood at `seq`.
pub(crate) async fn counts_at(
    tx: &Tx,
    app: AppId,
    user: &UserId,
    peer: &Peer,
    head: &Head,
    seq: u64,
) -> Result<Counts, Error> {
    if seq >= head.seq || *peer == Peer::User(user.clone()) {
        return counts(tx, app, user, peer, head).await;
    }
    // The message itself, or the next one that is still there.
    let tail = Tail::of(user, peer);
    let (begin, end) = (tail.message(app, seq), tail.message(app, head.seq + 1));
    let query = RangeQuery { begin, end, limit: 1, reverse: false, mode: ReadMode::Snapshot };
    let Some((_, stored)) = tx.range(query).await?.pairs.into_iter().next() else {
        return counts(tx, app, user, peer, head).await;
    };
    match peer {
        Peer::User(other) => Ok(Counts { others: peer_count(stored, other, seq)?, own: 0 }),
        Peer::Group(group) => {
            Ok(Counts { others: group_count(stored, seq)?, own: own_count(tx, app, group, user, seq).await? })
        }
    }
}

/// Messages of a member that count as unread, up to `seq`: the index of the member's messages says it.
async fn own_count(tx: &Tx, app: AppId, group: &GroupId, user: &UserId, seq: u64) -> Result<u64, Error> {
    let begin = keys::group_sent(app, group, user, 0);
    let end = keys::group_sent(app, group, user, seq.saturating_add(1));
    let query = RangeQuery { begin, end, limit: 1, reverse: true, mode: ReadMode::Snapshot };
    let Some((_, count)) = tx.range(query).await?.pairs.pop() else { return Ok(0) };
    count[..].try_into().map(u64::from_le_bytes).map_err(|_| damaged("count of a member's messages"))
}

fn group_count(stored: Bytes, seq: u64) -> Result<u64, Error> {
    let message = Message::decode(stored).map_err(|_| damaged("message"))?;
    // A later message is not read yet: it does not count.
    let itself = message.seq > seq && !message.exclude_from_unread;
    Ok(message.other_count.saturating_sub(u64::from(itself)))
}

fn peer_count(stored: Bytes, peer: &UserId, seq: u64) -> Result<u64, Error> {
    let message = Message::decode(stored).map_err(|_| damaged("message"))?;
    let by_peer = message.from == peer.as_str();
    let count = if by_peer { message.sender_count } else { message.other_count };
    // A later message of the peer is not read yet: it does not count.
    let itself = by_peer && message.seq > seq && !message.exclude_from_unread;
    Ok(count.saturating_sub(u64::from(itself)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn stored(from: &str, seq: u64, (sender_count, other_count): (u64, u64), exclude_from_unread: bool) -> Bytes {
        let from = from.to_owned();
        Message { from, seq, sender_count, other_count, exclude_from_unread, ..Message::default() }
            .encode_to_vec()
            .into()
    }

    #[test]
    fn what_is_read_is_counted_at_the_message_itself_or_before_the_next_one_left() {
        let peer = user("ben");
        let count = |stored, seq| peer_count(stored, &peer, seq).unwrap();
        assert_eq!(count(stored("ben", 5, (3, 7), false), 5), 3, "it is read itself");
        assert_eq!(count(stored("anna", 5, (7, 3), false), 5), 3);
        assert_eq!(count(stored("ben", 6, (4, 7), false), 5), 3, "the next one counts, and is not read");
        assert_eq!(count(stored("ben", 6, (3, 7), true), 5), 3, "the next one does not count");
        assert_eq!(count(stored("anna", 6, (7, 3), false), 5), 3);
        assert_eq!(count(stored("ben", 6, (0, 0), false), 5), 0, "stored before messages were counted");
    }

    #[test]
    fn nothing_is_unread_that_is_not_received_or_was_read() {
        let kept = |read_count, receive: ReceiveOption| ConversationRecord {
            read_count,
            receive: receive.into(),
            ..ConversationRecord::default()
        };
        let others = |others| Counts { others, own: 0 };
        assert_eq!(unread(others(6), &kept(4, ReceiveOption::Notify)), 2);
        assert_eq!(unread(others(2), &kept(0, ReceiveOption::Silent)), 2);
        assert_eq!(unread(others(6), &kept(4, ReceiveOption::Refuse)), 0);
        assert_eq!(unread(others(6), &kept(7, ReceiveOption::Notify)), 0);
        let own = ConversationRecord { read_count: 4, read_own: 1, ..ConversationRecord::default() };
        assert_eq!(unread(Counts { others: 9, own: 3 }, &own), 3, "five came, two of them the user's own");
    }
}
