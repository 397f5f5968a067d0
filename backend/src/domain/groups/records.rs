//! What is stored of groups. Encoded with Protocol Buffers; a tag is never reused.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

/// A group.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GroupRecord {
    /// The protocol's `GroupType`.
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(string, tag = "3")]
    pub(crate) introduction: String,
    #[prost(string, tag = "4")]
    pub(crate) notice: String,
    #[prost(string, tag = "5")]
    pub(crate) image_url: String,
    /// Empty: nobody.
    #[prost(string, tag = "6")]
    pub(crate) owner: String,
    #[prost(uint64, tag = "7")]
    pub(crate) created_ms: u64,
    /// Members; of a live room those that are kept: owner and administrators.
    #[prost(uint32, tag = "8")]
    pub(crate) member_count: u32,
    /// Members it may have; 0: as its type and the application's settings say.
    #[prost(uint32, tag = "9")]
    pub(crate) member_max: u32,
    /// The protocol's `GroupJoinOption`.
    #[prost(int32, tag = "10")]
    pub(crate) join_option: i32,
    #[prost(bool, tag = "11")]
    pub(crate) muted_all: bool,
    #[prost(btree_map = "string, bytes", tag = "12")]
    pub(crate) custom: BTreeMap<String, Bytes>,
    /// Grows with every change of what clients see of the group.
    #[prost(uint64, tag = "13")]
    pub(crate) revision: u64,
    #[prost(bool, tag = "14")]
    pub(crate) searchable: bool,
    /// What happens in it stands once in its own event log, not in each member's (fan-out on read). Never goes back.
    #[prost(bool, tag = "15")]
    pub(crate) is_large: bool,
    /// Its members have been told of it (GRP-13).
    #[prost(bool, tag = "16")]
    pub(crate) is_active: bool,
    /// When what is said of it was changed last, or it was made.
    #[prost(uint64, tag = "19")]
    pub(crate) changed_ms: u64,
    /// Its first message's sequence: what is before it was another group's of the same id; 0 stands for 1.
    #[prost(uint64, tag = "18")]
    pub(crate) first_seq: u64,
    /// From this message on every member sees all: nobody's `first_seq` is larger.
    #[prost(uint64, tag = "20")]
    pub(crate) newest_first_seq: u64,
}

/// A group that has ended, while its members are being told.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ClosingRecord {
    /// Who has ended it.
    #[prost(string, tag = "1")]
    pub(crate) by: String,
    #[prost(bool, tag = "2")]
    pub(crate) is_room: bool,
}

/// A member; of a live room whoever something is kept of.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MemberRecord {
    /// The protocol's `GroupRole`; none: not in it (live rooms only).
    #[prost(int32, tag = "1")]
    pub(crate) role: i32,
    #[prost(uint64, tag = "2")]
    pub(crate) joined_ms: u64,
    #[prost(string, tag = "3")]
    pub(crate) name_card: String,
    #[prost(btree_map = "string, bytes", tag = "4")]
    pub(crate) custom: BTreeMap<String, Bytes>,
    /// Until when the member may not write, milliseconds since the Unix epoch.
    #[prost(uint64, tag = "5")]
    pub(crate) muted_until_ms: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) last_sent_ms: u64,
    /// The first message that is the member's to see.
    #[prost(uint64, tag = "7")]
    pub(crate) first_seq: u64,
    /// Messages of the member that count as unread, so far.
    #[prost(uint64, tag = "8")]
    pub(crate) sent_count: u64,
    /// The member does not receive what is said: `RECEIVE_OPTION_REFUSE`.
    #[prost(bool, tag = "9")]
    pub(crate) deaf: bool,
}

/// A group that a user is in, as the user's other records name it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct JoinedRecord {
    /// The protocol's `GroupType`.
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
    /// The protocol's `GroupRole`.
    #[prost(int32, tag = "2")]
    pub(crate) role: i32,
    /// The group's own event log is to be read.
    #[prost(bool, tag = "3")]
    pub(crate) is_large: bool,
    /// Nothing in the group's log up to this version of the store concerns the user.
    #[prost(uint64, tag = "4")]
    pub(crate) from_version: u64,
    #[prost(bool, tag = "5")]
    pub(crate) deaf: bool,
    /// The user has been told of it (GRP-13).
    #[prost(bool, tag = "6")]
    pub(crate) is_active: bool,
    /// The first message that is the user's to see.
    #[prost(uint64, tag = "7")]
    pub(crate) first_seq: u64,
}

/// What a user may still see of a group that the user has left: messages that were sent while he was in it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FormerRecord {
    /// Oldest first, at most [`SPANS_MAX`].
    #[prost(message, repeated, tag = "1")]
    pub(crate) spans: Vec<SpanRecord>,
    /// Until when he may not write, should he come back: milliseconds since the Unix epoch.
    #[prost(uint64, tag = "2")]
    pub(crate) muted_until_ms: u64,
}

/// Spans kept of a user in a group, at the most; then the oldest is forgotten.
pub(crate) const SPANS_MAX: usize = 16;

/// A time in which a user was in a group.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SpanRecord {
    /// Messages from this sequence on…
    #[prost(uint64, tag = "1")]
    pub(crate) first_seq: u64,
    /// … up to this one.
    #[prost(uint64, tag = "2")]
    pub(crate) last_seq: u64,
    /// In it, or later in it, what happened stood in the group's own log.
    #[prost(bool, tag = "3")]
    pub(crate) is_large: bool,
    /// Nothing in the group's log up to this version of the store concerns the user.
    #[prost(uint64, tag = "4")]
    pub(crate) from_version: u64,
    /// The hour, since the Unix epoch, under which the conversation stands in the user's list; 0: it does not.
    #[prost(uint32, tag = "5")]
    pub(crate) active_hour: u32,
    /// A version of the store at which the user was still in. What stands in the group's log behind it, and is no
    /// message up to `last_seq`, does not concern him.
    #[prost(uint64, tag = "6")]
    pub(crate) until_version: u64,
}

/// An open application for a group.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GroupApplicationRecord {
    #[prost(string, tag = "1")]
    pub(crate) wording: String,
    #[prost(uint64, tag = "2")]
    pub(crate) time_ms: u64,
}

/// Who is kept out of a group.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GroupBanRecord {
    /// Milliseconds since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub(crate) until_ms: u64,
}

/// Attributes of a group.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GroupAttributesRecord {
    #[prost(btree_map = "string, bytes", tag = "1")]
    pub(crate) attributes: BTreeMap<String, Bytes>,
    #[prost(uint64, tag = "2")]
    pub(crate) revision: u64,
}

/// Counters of a group.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GroupCountersRecord {
    #[prost(btree_map = "string, int64", tag = "1")]
    pub(crate) counters: BTreeMap<String, i64>,
    /// The last changes that were made, newest last: one that is run again is not made again.
    #[prost(fixed64, repeated, tag = "2")]
    pub(crate) changes: Vec<u64>,
}

/// How many groups a user is in, owns and has left.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GroupsOfUserRecord {
    #[prost(uint32, tag = "1")]
    pub(crate) joined: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) owned: u32,
    /// Groups of which is kept what he may still see since he has left: [`FormerRecord`].
    #[prost(uint32, tag = "3")]
    pub(crate) left: u32,
}

/// What a send to a live room was answered.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RoomSentRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) time_ms: u64,
}
