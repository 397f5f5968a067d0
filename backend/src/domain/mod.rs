//! What an instant-messaging service is, written once on the store seam.
//!
//! - [`keys`]: every key layout, in one place.
//! - [`usersig`]: the login credential (ACC-06).
//! - [`account`]: applications, login.
//! - [`message`]: what a message may be; [`send`]: storing it exactly once; [`send_queue`]: many sends
//!   in one transaction.
//! - [`sync`]: reading the event log and conversations back (MSG-03, MSG-04, MSG-05).
//!
//! What may not live here: sockets, sessions, wire codes (the gateway maps [`Error`] to them).

pub mod account;
pub mod keys;
pub mod message;
mod records;
pub mod send;
pub mod send_queue;
pub mod sync;
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
    /// An argument is missing or out of range: says which.
    #[error("{0}")]
    Argument(&'static str),
    /// The sender used this client message id in another conversation.
    #[error("client_message_id was used for another conversation")]
    ClientMessageIdReused,
    /// The cursor is not one that this store gave out.
    #[error("cursor is not one that this server gave out")]
    CursorInvalid,
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
