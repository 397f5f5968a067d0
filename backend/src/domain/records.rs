//! Stored values. Encoded with Protocol Buffers, so that fields can be added; a tag is never reused.

use bytes::Bytes;
use prost::{Message, Oneof};

use super::{Error, GroupId, Peer, UserId, damaged, keys::Tail};

/// An application.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ApplicationRecord {
    /// The key UserSigs are signed with.
    #[prost(string, tag = "1")]
    pub(crate) secret: String,
    /// When it was created, milliseconds since the Unix epoch.
    #[prost(uint64, tag = "2")]
    pub(crate) created_ms: u64,
    /// Made by a development start: refused by a production one.
    #[prost(bool, tag = "3")]
    pub(crate) development: bool,
    /// Its `Settings`, as JSON; empty for the defaults.
    #[prost(string, tag = "4")]
    pub(crate) settings: String,
    /// The key before `secret`; empty: none.
    #[prost(string, tag = "5")]
    pub(crate) previous_secret: String,
    /// Until when that one is good, seconds since the Unix epoch.
    #[prost(uint64, tag = "6")]
    pub(crate) previous_until_s: u64,
    /// SHA-256 of the key that the application file named last.
    #[prost(bytes = "bytes", tag = "7")]
    pub(crate) file_secret: Bytes,
    /// The settings that it said last, as JSON.
    #[prost(string, tag = "8")]
    pub(crate) file_settings: String,
}

/// An application that was deleted, and may have left data.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RemovalRecord {
    /// When it was deleted, milliseconds since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub(crate) since_ms: u64,
}

/// An account.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AccountRecord {
    /// When it was created, milliseconds since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub(crate) created_ms: u64,
    /// UserSigs issued before this are refused, seconds since the Unix epoch (ACC-02).
    #[prost(uint64, tag = "2")]
    pub(crate) usersigs_from_s: u64,
    /// The account was deleted, and is made anew by the next login with a UserSig that is good (ACC-03).
    #[prost(bool, tag = "3")]
    pub(crate) deleted: bool,
}

/// A pass over all event logs, as far as it has come.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct EventPass {
    /// When the pass began, milliseconds since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub(crate) began_ms: u64,
    /// The application it is at; 0 when it has ended.
    #[prost(uint32, tag = "2")]
    pub(crate) app: u32,
    /// The key to go on from; empty for the application's first.
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) next: Bytes,
    /// Entries up to this version have expired.
    #[prost(uint64, tag = "4")]
    pub(crate) version: u64,
}

/// What a send was answered, kept so that the same send is answered the same.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SentRecord {
    /// The recipient.
    #[prost(string, tag = "1")]
    pub(crate) to: String,
    /// The message's sequence in its conversation.
    #[prost(uint64, tag = "2")]
    pub(crate) seq: u64,
    /// The message's time.
    #[prost(uint64, tag = "3")]
    pub(crate) time_ms: u64,
    /// The recipient did not want it: it is not in the recipient's log.
    #[prost(bool, tag = "4")]
    pub(crate) unreceived: bool,
    /// It is not in the sender's log.
    #[prost(bool, tag = "5")]
    pub(crate) hidden: bool,
    /// The group it was sent to; `to` is empty then.
    #[prost(string, tag = "6")]
    pub(crate) group: String,
    /// It stands in the group's own log.
    #[prost(bool, tag = "7")]
    pub(crate) is_in_group_log: bool,
    /// One of those in whose logs a small group's message stands; empty: it stands in nobody's as a member's.
    #[prost(string, tag = "8")]
    pub(crate) log_owner: String,
    /// The sender does not receive from the group: it stands in his log all the same, for his other devices.
    #[prost(bool, tag = "9")]
    pub(crate) is_told_apart: bool,
    /// With it the group's members were told that they are in it (GRP-13).
    #[prost(bool, tag = "10")]
    pub(crate) has_activated: bool,
    /// In whose logs a message stands that is for some members of a group alone, all in the same place; empty: it is for
    /// everybody.
    #[prost(string, repeated, tag = "11")]
    pub(crate) told: Vec<String>,
}

/// An entry of an event log: points to what happened.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct EventRecord {
    #[prost(oneof = "EventKind", tags = "1, 2, 3")]
    pub(crate) kind: Option<EventKind>,
}

/// A conversation's newest message. Not Protocol Buffers: it is written with every message.
///
/// Layout, all little-endian: sequence, time, last sequence, active, the two counts; 8 bytes each. Fields
/// are added at the end: what a shorter record does not have is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The newest sequence; 0 if there is no message.
    pub(crate) seq: u64,
    /// The newest message's time, milliseconds since the Unix epoch.
    pub(crate) time_ms: u64,
    /// The newest sequence that counts as the conversation's last message; 0: none.
    pub(crate) last_seq: u64,
    /// That message's time.
    pub(crate) active_ms: u64,
    /// Messages that count as unread, of the user whose name comes first.
    pub(crate) count_low: u64,
    /// The same of the other one.
    pub(crate) count_high: u64,
}

impl Head {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let Head { seq, time_ms, last_seq, active_ms, count_low, count_high } = self;
        let mut bytes = Vec::with_capacity(6 * size_of::<u64>());
        for field in [seq, time_ms, last_seq, active_ms, count_low, count_high] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// Reads a stored head back.
    pub(crate) fn from_stored(stored: Option<Bytes>) -> Result<Self, Error> {
        let Some(stored) = stored else { return Ok(Head::default()) };
        let (fields, rest) = stored.as_chunks::<{ size_of::<u64>() }>();
        // Format 2 of the store had the sequence and an hour of 4 bytes.
        if fields.is_empty() || !rest.is_empty() && fields.len() > 1 {
            return Err(damaged("conversation head"));
        }
        let mut fields = fields.iter().map(|field| u64::from_le_bytes(*field));
        let mut next = || fields.next().unwrap_or(0);
        Ok(Head {
            seq: next(),
            time_ms: next(),
            last_seq: next(),
            active_ms: next(),
            count_low: next(),
            count_high: next(),
        })
    }

    /// Messages of `user` that count as unread, in the conversation with `other`.
    pub(crate) fn count_of(&self, user: &UserId, other: &UserId) -> u64 {
        if user <= other { self.count_low } else { self.count_high }
    }

    pub(crate) fn count_mut(&mut self, user: &UserId, other: &UserId) -> &mut u64 {
        if user <= other { &mut self.count_low } else { &mut self.count_high }
    }
}

/// What a user keeps about a conversation.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConversationRecord {
    #[prost(bool, tag = "1")]
    pub(crate) pinned: bool,
    /// The protocol's `ReceiveOption`.
    #[prost(int32, tag = "2")]
    pub(crate) receive: i32,
    #[prost(bool, tag = "3")]
    pub(crate) marked_unread: bool,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) custom_data: Bytes,
    /// Numbers of labels; those that are not in the `LabelsRecord` any more count for nothing.
    #[prost(uint32, repeated, tag = "5")]
    pub(crate) labels: Vec<u32>,
    /// Read up to here.
    #[prost(uint64, tag = "6")]
    pub(crate) read_seq: u64,
    /// Messages of the other side that count as unread, up to `read_seq`.
    #[prost(uint64, tag = "7")]
    pub(crate) read_count: u64,
    /// Messages up to here are gone for this user.
    #[prost(uint64, tag = "8")]
    pub(crate) cleared_seq: u64,
    /// Not in the list until something newer than this comes.
    #[prost(uint64, tag = "9")]
    pub(crate) removed_seq: u64,
    /// Read up to here, as far as the other side is told: clearing a conversation reads it without a word.
    #[prost(uint64, tag = "10")]
    pub(crate) shown_seq: u64,
    /// The protocol's marks, a bit each.
    #[prost(uint64, tag = "11")]
    pub(crate) marks: u64,
    /// In a group: messages of the user that count as unread, up to `read_seq`. `read_count` is everybody's then.
    #[prost(uint64, tag = "12")]
    pub(crate) read_own: u64,
}

/// A user's labels.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LabelsRecord {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<LabelRecord>,
    /// The last number given to a label; none is given twice.
    #[prost(uint32, tag = "2")]
    pub(crate) last_number: u32,
}

/// A label.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LabelRecord {
    #[prost(uint32, tag = "1")]
    pub(crate) number: u32,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
}

/// An extension of a message.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExtensionRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) value: Bytes,
    /// Grows with every change of the message's extensions.
    #[prost(uint64, tag = "2")]
    pub(crate) version: u64,
}

/// A pinned message.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PinRecord {
    #[prost(string, tag = "1")]
    pub(crate) by: String,
    #[prost(uint64, tag = "2")]
    pub(crate) time_ms: u64,
}

/// The content of a merged message.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MergedRecord {
    /// Who stored it.
    #[prost(string, tag = "1")]
    pub(crate) by: String,
    #[prost(uint64, tag = "2")]
    pub(crate) time_ms: u64,
    /// Messages inside.
    #[prost(uint32, tag = "3")]
    pub(crate) count: u32,
    /// When something that points to it was last stored, to the hour: it expires with that.
    #[prost(uint64, tag = "4")]
    pub(crate) used_ms: u64,
}

/// What a user says of another. Not there: nothing.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RelationRecord {
    /// The other's messages are refused.
    #[prost(bool, tag = "1")]
    pub(crate) blacklisted: bool,
    #[prost(bool, tag = "2")]
    pub(crate) friend: bool,
    /// The other's messages are taken, but not received: `RECEIVE_OPTION_REFUSE`.
    #[prost(bool, tag = "3")]
    pub(crate) deaf: bool,
}

/// Until when a user may not write.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MuteRecord {
    /// In 1:1 conversations, seconds since the Unix epoch; the greatest number: for ever.
    #[prost(uint64, tag = "1")]
    pub(crate) one_to_one_until_s: u64,
    /// The same in groups.
    #[prost(uint64, tag = "2")]
    pub(crate) groups_until_s: u64,
}

/// All messages of an hour, as a file to be fetched.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HistoryFileRecord {
    /// Which of several attempts to make it has been completed: in the keys of its chunks.
    #[prost(uint64, tag = "1")]
    pub(crate) attempt: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) chunks: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) bytes: u64,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) md5: Bytes,
    /// The same, compressed.
    #[prost(uint64, tag = "5")]
    pub(crate) gzip_bytes: u64,
    #[prost(bytes = "bytes", tag = "6")]
    pub(crate) gzip_md5: Bytes,
}

/// What happened.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum EventKind {
    /// A message in a 1:1 conversation.
    #[prost(message, tag = "1")]
    Message(MessageRef),
    /// A message that was changed.
    #[prost(message, tag = "2")]
    Changed(MessageRef),
    /// Anything else, as the protocol's `Event` without its position.
    #[prost(bytes = "bytes", tag = "3")]
    Stored(Bytes),
}

/// A message, seen from the log's owner.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MessageRef {
    /// The other side; empty: a group's.
    #[prost(string, tag = "1")]
    pub(crate) peer: String,
    /// The message's sequence.
    #[prost(uint64, tag = "2")]
    pub(crate) seq: u64,
    /// The group.
    #[prost(string, tag = "3")]
    pub(crate) group: String,
}

impl MessageRef {
    pub(crate) fn new(peer: &Peer, seq: u64) -> Self {
        match peer {
            Peer::User(user) => MessageRef { peer: user.to_string(), seq, group: String::new() },
            Peer::Group(group) => MessageRef { peer: String::new(), seq, group: group.to_string() },
        }
    }

    /// Whom the conversation is with; `None`: that can't be read.
    pub(crate) fn peer(&self) -> Option<Peer> {
        match self.peer.is_empty() {
            true => GroupId::new(&self.group).map(Peer::Group),
            false => UserId::new(&self.peer).map(Peer::User),
        }
    }

    /// The conversation, seen from `owner`.
    pub(crate) fn tail(&self, owner: &UserId) -> Result<Tail, Error> {
        self.peer().map(|peer| Tail::of(owner, &peer)).ok_or_else(|| damaged("event peer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_back_and_a_shorter_one_has_noughts() {
        let head = Head { seq: 1, time_ms: u64::MAX, last_seq: 3, active_ms: 4, count_low: 5, count_high: 6 };
        let bytes = Bytes::from(head.to_bytes());
        assert_eq!(Head::from_stored(Some(bytes.clone())).unwrap(), head);
        let short = Head { seq: 1, time_ms: u64::MAX, ..Head::default() };
        assert_eq!(Head::from_stored(Some(bytes.slice(..16))).unwrap(), short);
        assert_eq!(Head::from_stored(None).unwrap(), Head::default());
        for damaged in [0, 7, 20] {
            assert!(Head::from_stored(Some(bytes.slice(..damaged))).is_err());
        }
    }
}
