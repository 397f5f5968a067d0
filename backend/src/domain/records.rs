//! Stored values. Encoded with Protocol Buffers, so that fields can be added; a tag is never reused.

use prost::{Message, Oneof};

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
}

/// An account.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AccountRecord {
    /// When it was created, milliseconds since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub(crate) created_ms: u64,
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
}

/// An entry of an event log: points to what happened.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct EventRecord {
    #[prost(oneof = "EventKind", tags = "1")]
    pub(crate) kind: Option<EventKind>,
}

/// What happened.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum EventKind {
    /// A message in a 1:1 conversation.
    #[prost(message, tag = "1")]
    Message(MessageRef),
}

/// A message of a 1:1 conversation, seen from the log's owner.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MessageRef {
    /// The other side.
    #[prost(string, tag = "1")]
    pub(crate) peer: String,
    /// The message's sequence.
    #[prost(uint64, tag = "2")]
    pub(crate) seq: u64,
}
