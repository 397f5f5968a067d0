//! How many messages are unread, without a counter that every message would have to raise.
//!
//! The head of a conversation and each message carry how many messages of either side count as unread so
//! far. What is unread is the other side's number now, less its number where the user has read to.

use bytes::Bytes;
use prost::Message as _;
use protocol::message::{Message, ReceiveOption};

use super::{
    AppId, Error, UserId, damaged,
    keys::{self, Conversation},
    records::{ConversationRecord, Head},
};
use crate::store::{RangeQuery, ReadMode, Tx};

/// Messages of `peer` that `user` has not read; of a conversation that is not received, none.
pub(crate) fn unread(user: &UserId, peer: &UserId, head: &Head, kept: &ConversationRecord) -> u64 {
    if kept.receive == i32::from(ReceiveOption::Refuse) {
        return 0;
    }
    head.count_of(peer, user).saturating_sub(kept.read_count)
}

/// Messages of `peer` that count as unread, up to `seq`.
pub(crate) async fn count_at(
    tx: &Tx,
    app: AppId,
    user: &UserId,
    peer: &UserId,
    head: &Head,
    seq: u64,
) -> Result<u64, Error> {
    if seq >= head.seq || user == peer {
        return Ok(head.count_of(peer, user));
    }
    // The message itself, or the next one that is still there.
    let conversation = Conversation::between(user, peer);
    let (begin, end) = (keys::message(app, conversation, seq), keys::message(app, conversation, head.seq + 1));
    let query = RangeQuery { begin, end, limit: 1, reverse: false, mode: ReadMode::Snapshot };
    let page = tx.range(query).await?.pairs;
    let Some((_, stored)) = page.into_iter().next() else { return Ok(head.count_of(peer, user)) };
    peer_count(stored, peer, seq)
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
        let (anna, ben) = (user("anna"), user("ben"));
        let head = Head { seq: 9, count_low: 2, count_high: 6, ..Head::default() };
        let kept = |read_count, receive: ReceiveOption| ConversationRecord {
            read_count,
            receive: receive.into(),
            ..ConversationRecord::default()
        };
        assert_eq!(unread(&anna, &ben, &head, &kept(4, ReceiveOption::Notify)), 2);
        assert_eq!(unread(&ben, &anna, &head, &kept(0, ReceiveOption::Silent)), 2);
        assert_eq!(unread(&anna, &ben, &head, &kept(4, ReceiveOption::Refuse)), 0);
        assert_eq!(unread(&anna, &ben, &head, &kept(7, ReceiveOption::Notify)), 0);
    }
}
