//! What an instant-messaging service is, written once on the store seam.
//!
//! - [`keys`]: every key layout, in one place.
//! - [`usersig`]: the login credential (ACC-06).
//! - [`applications`]: which there are, their keys; [`settings`]: what an operator sets for one.
//! - [`account`]: accounts, login.
//! - [`message`], [`elements`]: what a message may be (TYPE-01 to TYPE-11); [`send`]: storing it exactly
//!   once; [`merged`]: contents of merged messages.
//! - [`profile`]: what is said of users (PROF-01 to PROF-04); [`friends`]: how they stand to each other (REL-01 to
//!   REL-14).
//! - [`change`]: everything else that users do to what is stored: recall, read marks, pins …
//! - [`act`]: either of them, inside a transaction; [`send_queue`]: many acts in one transaction;
//!   [`unsettled`]: those whose commit was not answered.
//! - [`audience`]: what an application's server says about its users; [`announcement`]: telling something
//!   to all of them (MSG-14).
//! - [`unfinished`]: changes that take several transactions.
//! - [`hooks`]: the say of an application's own server in it; [`callbacks`]: what it is told.
//! - [`admin`]: what only administrators may: signing in to the server API, and looking things up for it.
//! - [`mute`]: who may not write; [`hourly`]: all messages of an hour as a file (MSG-01).
//! - [`figures`]: how often something happened, by the day.
//! - [`inspect`]: the whole store looked through, for operators.
//! - [`retention`]: removing what has expired (MSG-03).
//! - [`sync`], [`history`], [`conversations`]: reading the event log, a conversation and the conversation
//!   list back (MSG-03, MSG-04, MSG-05, MSG-16).
//!
//! What may not live here: sockets, sessions, wire codes (the gateway maps [`Error`] to them).

pub mod account;
pub mod act;
pub mod admin;
pub mod announcement;
pub mod applications;
pub mod audience;
pub mod callbacks;
pub mod change;
mod claim;
pub mod conversations;
pub mod deployment;
pub mod elements;
pub mod figures;
pub mod friends;
pub mod groups;
pub mod history;
pub mod hooks;
pub mod hourly;
pub mod inspect;
pub mod keys;
pub mod merged;
pub mod message;
pub mod mute;
pub mod nodes;
pub mod profile;
pub mod rate;
mod records;
pub mod retention;
pub mod send;
pub mod send_queue;
pub mod settings;
pub mod sync;
pub mod unfinished;
mod unread;
pub mod unsettled;
pub mod usersig;

use std::{fmt, sync::Arc};

use crate::store::{Retry, StoreError};

/// An application's number, SDKAppID in the hosted original's words.
pub type AppId = u32;

/// Longest account name, in bytes.
pub const USER_BYTES_MAX: usize = 32;

/// An account's name: 1 to [`USER_BYTES_MAX`] bytes of printable ASCII. Clones share the bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

impl UserId {
    /// Checks a name; `None` if it is not one.
    pub fn new(name: &str) -> Option<Self> {
        let printable = name.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
        ((1..=USER_BYTES_MAX).contains(&name.len()) && printable).then(|| UserId(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl UserId {
    /// The 1:1 conversation with this user, as the wire names it.
    pub fn to_conversation(&self) -> protocol::message::Conversation {
        protocol::message::Conversation { user: self.to_string(), ..Default::default() }
    }
}

/// Longest group id, in bytes.
pub const GROUP_BYTES_MAX: usize = 48;

/// A group's id: 1 to [`GROUP_BYTES_MAX`] bytes of printable ASCII. Clones share the bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(Arc<str>);

impl GroupId {
    /// Checks an id; `None` if it is not one.
    pub fn new(id: &str) -> Option<Self> {
        let printable = id.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
        ((1..=GROUP_BYTES_MAX).contains(&id.len()) && printable).then(|| GroupId(id.into()))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who a user's conversation is with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Another user, or the user himself.
    User(UserId),
    /// The members of a group.
    Group(GroupId),
}

impl From<UserId> for Peer {
    fn from(user: UserId) -> Self {
        Peer::User(user)
    }
}

impl From<GroupId> for Peer {
    fn from(group: GroupId) -> Self {
        Peer::Group(group)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::User(user) => user.fmt(f),
            Peer::Group(group) => group.fmt(f),
        }
    }
}

impl Peer {
    /// The other user of a 1:1 conversation.
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Peer::User(user) => Some(user),
            Peer::Group(_) => None,
        }
    }

    /// The group, if it is one.
    pub fn group(&self) -> Option<&GroupId> {
        match self {
            Peer::User(_) => None,
            Peer::Group(group) => Some(group),
        }
    }

    /// The conversation with this peer, as the wire names it.
    pub fn to_conversation(&self) -> protocol::message::Conversation {
        match self {
            Peer::User(user) => user.to_conversation(),
            Peer::Group(group) => protocol::message::Conversation { group: group.to_string(), ..Default::default() },
        }
    }

    /// The peer that the wire names; `None` if it names none, or two.
    pub fn of_conversation(conversation: &protocol::message::Conversation) -> Option<Self> {
        match (conversation.user.as_str(), conversation.group.as_str()) {
            (user, "") => UserId::new(user).map(Peer::User),
            ("", group) => GroupId::new(group).map(Peer::Group),
            _ => None,
        }
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the domain refused or could not do what was asked. The gateway's table gives each a wire code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No application has this number.
    #[error("no such application")]
    ApplicationUnknown,
    /// The credential is not valid.
    #[error("usersig: {0}")]
    UserSig(#[from] usersig::Invalid),
    /// The name is not one, or no account has it.
    #[error("no such user")]
    UserInvalid,
    /// The message is over the limit.
    #[error("message of {bytes} bytes is over the limit of {limit}")]
    MessageTooLong {
        /// Bytes of the body.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// No element, or an element without content.
    #[error("message has no content")]
    MessageEmpty,
    /// The body does not decode.
    #[error("message does not decode")]
    MessageInvalid,
    /// An element of the message has a field out of range: says which.
    #[error("{0}")]
    Element(&'static str),
    /// Only somebody else may do this.
    #[error("not allowed")]
    NotAllowed,
    /// The recipient has blacklisted the sender.
    #[error("blacklisted by the recipient")]
    Blacklisted,
    /// The sender may not write.
    #[error("muted")]
    Muted,
    /// The user is no administrator of the application.
    #[error("not an administrator")]
    NotAdmin,
    /// The two are not friends, and the application wants them to be.
    #[error("not friends")]
    NotFriends,
    /// No such message, as far as the user may know.
    #[error("no such message")]
    MessageUnknown,
    /// The message was recalled.
    #[error("the message was recalled")]
    MessageRecalled,
    /// It is too late to recall or edit the message.
    #[error("too late to recall or edit")]
    TooLate,
    /// As many as there may be are there: says of what.
    #[error("{0}")]
    ListFull(&'static str),
    /// Something of a profile is not as it may be.
    #[error(transparent)]
    Profile(#[from] profile::Invalid),
    /// A relation between users is not as the request supposes.
    #[error(transparent)]
    Relation(#[from] friends::Refusal),
    /// It is not so in the group as the request supposes.
    #[error(transparent)]
    Group(#[from] groups::Refusal),
    /// The application's own server refused it: says why, in its words.
    #[error("{text}")]
    Refused {
        /// The code it gave for its clients; 0: none of its own.
        code: u32,
        /// What it said.
        text: String,
    },
    /// No merged content has this id.
    #[error("no such content")]
    ContentUnknown,
    /// An argument is missing or out of range: says which.
    #[error("{0}")]
    Argument(&'static str),
    /// The sender used this client message id in another conversation.
    #[error("client_message_id was used for another conversation")]
    ClientMessageIdReused,
    /// The cursor is not one that this store gave out.
    #[error("cursor is not one that this server gave out")]
    CursorInvalid,
    /// This node was taken for dead by others: it may change nothing any more.
    #[error("this node was taken for dead")]
    Fenced,
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Retry for Error {
    fn store_error(&self) -> Option<&StoreError> {
        match self {
            Error::Store(error) => Some(error),
            _ => None,
        }
    }
}

/// What went wrong with stored bytes, as a store error.
fn damaged(what: &str) -> Error {
    Error::Store(StoreError::Damaged(what.to_owned()))
}
