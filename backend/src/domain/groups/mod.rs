//! Groups (GRP): what they are, and reading them. Changes are in [`super::change::group`].
//!
//! What may not live here: who is online, and who is in a live room now; that is the gateway's.

pub(crate) mod access;
pub mod admin;
pub mod document;
pub(crate) mod entering;
pub(crate) mod former;
pub mod listing;
pub mod rate;
pub mod read;
pub(crate) mod records;
pub mod table;

use std::fmt::Write as _;

use protocol::message::GroupType;

use super::GroupId;
use crate::env::Rng;

/// What the ids of groups begin with that this server makes; chosen ones do not.
pub const GENERATED_PREFIX: &str = "@TGS#";

/// An id that no group has.
pub fn generated_id(kind: GroupType, rng: &dyn Rng) -> GroupId {
    let mut id = String::from(GENERATED_PREFIX);
    if kind == GroupType::Avchatroom {
        id.push('a');
    }
    let _ = write!(id, "{:016X}{:016X}", rng.next_u64(), rng.next_u64());
    GroupId::new(&id).unwrap_or_else(|| unreachable!("an id of hexadecimal digits"))
}

/// Why something was not done in or with a group. Each has a published code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The user has no right to do it; or the group's type does not have it.
    #[error("no right to do this in the group")]
    RightMissing,
    /// There is no such group, as far as the user may know.
    #[error("no such group")]
    Unknown,
    /// The user is a member already.
    #[error("a member already")]
    MemberAlready,
    /// The group has as many members as it may have.
    #[error("the group is full")]
    Full,
    /// The id is none.
    #[error("no group id")]
    IdInvalid,
    /// The user may not write in the group, or nobody may.
    #[error("muted in the group")]
    Muted,
    /// No account has this name; or no member of the group.
    #[error("no such user")]
    UserUnknown,
    /// Somebody else has a group with this id.
    #[error("the id is taken")]
    IdTaken,
    /// The user has a group with this id already.
    #[error("the user has this group already")]
    IdOwn,
    /// Too many messages in a short time.
    #[error("too many messages in the group, again in {0} milliseconds")]
    RateLimited(u32),
    /// No such message in the group, as far as the user may know.
    #[error("no such message in the group")]
    MessageUnknown,
    /// It is too late to recall it.
    #[error("too late to recall")]
    RecallTooLate,
    /// The message was recalled.
    #[error("the message was recalled")]
    MessageRecalled,
    /// The user is in, or has, as many groups as there may be.
    #[error("too many groups")]
    GroupsFull,
    /// The attributes were changed by somebody else.
    #[error("the attributes were changed meanwhile")]
    AttributesConflict,
    /// The user is kept out for a time.
    #[error("kept out of the group")]
    Banned,
    /// The owner of such a group gives it away before leaving.
    #[error("the owner must give the group away first")]
    OwnerStays,
    /// There is no such application.
    #[error("no such application")]
    ApplicationUnknown,
    /// A time of what is imported is before the group's, or in the future, or out of order.
    #[error("a time is in the future, or before what it must follow")]
    TimeInvalid,
    /// The application's own server refused this user, with this code.
    #[error("refused by the application")]
    ByApplication(u32),
}
