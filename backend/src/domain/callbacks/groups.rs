//! What an application's server is told of groups.

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
