//! Stored values of friends and requests. Encoded with Protocol Buffers, as those of `super::super::records`.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use crate::domain::{Error, damaged};

/// What a user keeps about a friend.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FriendRecord {
    #[prost(string, tag = "1")]
    pub(crate) remark: String,
    /// Numbers of friend lists; those that are not in the `BookRecord` any more count for nothing.
    #[prost(uint32, repeated, tag = "2")]
    pub(crate) lists: Vec<u32>,
    #[prost(string, tag = "3")]
    pub(crate) source: String,
    #[prost(string, tag = "4")]
    pub(crate) wording: String,
    #[prost(uint64, tag = "5")]
    pub(crate) added_ms: u64,
    #[prost(btree_map = "string, bytes", tag = "6")]
    pub(crate) custom: BTreeMap<String, Bytes>,
    /// When it changed last, in the sequence of the user's friends: where the index of friends names it.
    #[prost(uint64, tag = "7")]
    pub(crate) seq: u64,
}

/// What there is of a user's friends and requests in all.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct BookRecord {
    /// Friends.
    #[prost(uint32, tag = "1")]
    pub(crate) friends: u32,
    /// The sequence of the last change of a friend.
    #[prost(uint64, tag = "2")]
    pub(crate) seq: u64,
    /// Who ceased to be a friend up to this sequence is not known any more.
    #[prost(uint64, tag = "3")]
    pub(crate) floor_seq: u64,
    /// Those who ceased to be a friend that are still known.
    #[prost(uint32, tag = "4")]
    pub(crate) removed: u32,
    #[prost(message, repeated, tag = "5")]
    pub(crate) lists: Vec<ListRecord>,
    /// The last number given to a list; none is given twice.
    #[prost(uint32, tag = "6")]
    pub(crate) last_list: u32,
    /// Open requests to the user.
    #[prost(uint32, tag = "7")]
    pub(crate) incoming: u32,
    /// Open requests of the user.
    #[prost(uint32, tag = "8")]
    pub(crate) outgoing: u32,
    /// Incoming requests up to this time are read.
    #[prost(uint64, tag = "9")]
    pub(crate) read_ms: u64,
    /// Grows with each change of friend lists, or of who may be on them.
    #[prost(uint64, tag = "10")]
    pub(crate) lists_seq: u64,
}

/// A friend list.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListRecord {
    #[prost(uint32, tag = "1")]
    pub(crate) number: u32,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
}

/// An open request, as either side keeps it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RequestRecord {
    #[prost(string, tag = "1")]
    pub(crate) wording: String,
    #[prost(string, tag = "2")]
    pub(crate) source: String,
    #[prost(uint64, tag = "3")]
    pub(crate) time_ms: u64,
    /// What the one who asks will keep about the friend; not in the other's copy.
    #[prost(string, tag = "4")]
    pub(crate) remark: String,
    #[prost(string, tag = "5")]
    pub(crate) list: String,
}

impl BookRecord {
    /// From its stored form.
    pub(crate) fn from_stored(stored: Option<Bytes>) -> Result<Self, Error> {
        stored.map_or_else(
            || Ok(BookRecord::default()),
            |stored| BookRecord::decode(stored).map_err(|_| damaged("friend book")),
        )
    }

    /// Names of the lists with these numbers, in the order in which the lists were made.
    pub(crate) fn names(&self, numbers: &[u32]) -> Vec<String> {
        self.lists.iter().filter(|list| numbers.contains(&list.number)).map(|list| list.name.clone()).collect()
    }
}

impl FriendRecord {
    /// From its stored form.
    pub(crate) fn from_stored(stored: Bytes) -> Result<Self, Error> {
        FriendRecord::decode(stored).map_err(|_| damaged("friend"))
    }
}

impl RequestRecord {
    /// From its stored form.
    pub(crate) fn from_stored(stored: Bytes) -> Result<Self, Error> {
        RequestRecord::decode(stored).map_err(|_| damaged("friend request"))
    }
}
