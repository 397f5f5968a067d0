//! What an application's server is told of groups.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

/// Users have become members of a group.
#[derive(Clone, PartialEq, Message)]
pub struct GroupJoined {
    /// The group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// The protocol's `GroupType`.
    #[prost(int32, tag = "2")]
    pub kind: i32,
    /// Who made it so: the one who joined, who agreed to it, or who brought them in.
    #[prost(string, tag = "3")]
    pub by: String,
    /// Who.
    #[prost(string, repeated, tag = "4")]
    pub users: Vec<String>,
    /// Brought in by others; otherwise they came, or applied for it.
    #[prost(bool, tag = "5")]
    pub is_invited: bool,
}

/// Users have ceased to be members of a group.
#[derive(Clone, PartialEq, Message)]
pub struct GroupExited {
    /// The group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// The protocol's `GroupType`.
    #[prost(int32, tag = "2")]
    pub kind: i32,
    /// Who made it so.
    #[prost(string, tag = "3")]
    pub by: String,
    /// Who.
    #[prost(string, repeated, tag = "4")]
    pub users: Vec<String>,
    /// Removed by others; otherwise they left.
    #[prost(bool, tag = "5")]
    pub is_removed: bool,
}

/// A group has as many members as it may have; or somebody was refused for that.
#[derive(Clone, PartialEq, Message)]
pub struct GroupFull {
    /// The group.
    #[prost(string, tag = "1")]
    pub group: String,
}

/// A member is something else, or is called something else.
#[derive(Clone, PartialEq, Message)]
pub struct GroupMemberChanged {
    /// The group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// The protocol's `GroupType`.
    #[prost(int32, tag = "2")]
    pub kind: i32,
    /// Who made it so.
    #[prost(string, tag = "3")]
    pub by: String,
    /// Who.
    #[prost(string, tag = "4")]
    pub user: String,
    /// The protocol's `GroupRole`; absent: as before.
    #[prost(int32, optional, tag = "5")]
    pub role: Option<i32>,
    /// What the member is called now; absent: as before.
    #[prost(string, optional, tag = "6")]
    pub name_card: Option<String>,
}

/// Members of a group that an entry names, at the most: it has to fit into a value of the store.
pub const MEMBERS_TOLD_MAX: usize = 1_000;

/// A group was made, or has ended.
#[derive(Clone, PartialEq, Message)]
pub struct GroupMade {
    /// The group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// The protocol's `GroupType`.
    #[prost(int32, tag = "2")]
    pub kind: i32,
    /// Who made it so.
    #[prost(string, tag = "3")]
    pub by: String,
    /// Its owner; empty: nobody.
    #[prost(string, tag = "4")]
    pub owner: String,
    /// Its name.
    #[prost(string, tag = "5")]
    pub name: String,
    /// Who is, or was, in it: at most [`MEMBERS_TOLD_MAX`].
    #[prost(string, repeated, tag = "6")]
    pub users: Vec<String>,
}

/// What is said of a group was changed.
#[derive(Clone, PartialEq, Message)]
pub struct GroupChanged {
    /// The group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// The protocol's `GroupType`.
    #[prost(int32, tag = "2")]
    pub kind: i32,
    /// Who made it so.
    #[prost(string, tag = "3")]
    pub by: String,
    /// What has changed, as it is now, by the names of the protocol's tips.
    #[prost(btree_map = "string, bytes", tag = "4")]
    pub changed: BTreeMap<String, Bytes>,
}

/// Attributes of a group were changed.
#[derive(Clone, PartialEq, Message)]
pub struct GroupAttributesChanged {
    /// The group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// The protocol's `GroupType`.
    #[prost(int32, tag = "2")]
    pub kind: i32,
    /// Who made it so.
    #[prost(string, tag = "3")]
    pub by: String,
    /// How.
    #[prost(enumeration = "AttributesChange", tag = "4")]
    pub how: i32,
    /// Those concerned, as they are now; what was removed is empty.
    #[prost(btree_map = "string, bytes", tag = "5")]
    pub attributes: BTreeMap<String, Bytes>,
}

/// How attributes of a group were changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum AttributesChange {
    /// Some were set, others stay.
    Modified = 0,
    /// All are what was set.
    Set = 1,
    /// Some were removed.
    Deleted = 2,
    /// All were removed.
    Cleared = 3,
}

/// A group has another owner.
#[derive(Clone, PartialEq, Message)]
pub struct GroupOwnerChanged {
    /// The group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// The protocol's `GroupType`.
    #[prost(int32, tag = "2")]
    pub kind: i32,
    /// Who made it so.
    #[prost(string, tag = "3")]
    pub by: String,
    /// Whose it was; empty: nobody's.
    #[prost(string, tag = "4")]
    pub old: String,
    /// Whose it is.
    #[prost(string, tag = "5")]
    pub new: String,
}

/// A message was not sent to a group.
#[derive(Clone, PartialEq, Message)]
pub struct GroupSendFailed {
    /// Who asked for it.
    #[prost(string, tag = "1")]
    pub by: String,
    /// The protocol's `Message`, without a sequence.
    #[prost(bytes = "bytes", tag = "2")]
    pub message: Bytes,
    /// It was for those there alone.
    #[prost(bool, tag = "3")]
    pub online_only: bool,
    /// Why: as in the table of errors.
    #[prost(uint32, tag = "4")]
    pub code: u32,
    /// The same in words.
    #[prost(string, tag = "5")]
    pub text: String,
}

/// A message was sent to a group, or taken back.
#[derive(Clone, PartialEq, Message)]
pub struct GroupSaid {
    /// The protocol's `GroupType`.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// Who made it so.
    #[prost(string, tag = "2")]
    pub by: String,
    /// The protocol's `Message`; its sequence is 0 if it was for those there alone.
    #[prost(bytes = "bytes", tag = "3")]
    pub message: Bytes,
}

/// A member has read messages of a group that ask for it.
#[derive(Clone, PartialEq, Message)]
pub struct GroupRead {
    /// The group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// The protocol's `GroupType`.
    #[prost(int32, tag = "2")]
    pub kind: i32,
    /// Who has read them.
    #[prost(string, tag = "3")]
    pub user: String,
    /// Each of them.
    #[prost(message, repeated, tag = "4")]
    pub read: Vec<ReadNumbers>,
}

/// How many have read a message.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct ReadNumbers {
    /// The message.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// How many have read it.
    #[prost(uint32, tag = "2")]
    pub read: u32,
    /// How many of those who were to have not.
    #[prost(uint32, tag = "3")]
    pub unread: u32,
}

/// A user was lost out of a live room: the last connection there has ended.
#[derive(Clone, PartialEq, Message)]
pub struct RoomLost {
    /// The room.
    #[prost(string, tag = "1")]
    pub group: String,
    /// Who.
    #[prost(string, tag = "2")]
    pub user: String,
}
