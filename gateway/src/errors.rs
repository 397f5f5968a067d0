//! One function from the domain's errors to the codes on the wire.

use backend::{
    domain::{Error, friends, groups, profile, usersig::Invalid},
    store::StoreError,
};
use protocol::ErrorCode;

/// A refusal as a client sees it.
#[derive(Debug)]
pub struct Refusal {
    /// From the error table.
    pub code: ErrorCode,
    /// The table's text, with what the client can use to mend its request.
    pub text: String,
    /// For retryable codes.
    pub retry_after_ms: u32,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        let retry_after_ms = if code.is_retryable() { RETRY_AFTER_MS } else { 0 };
        Refusal { code, text: code.text().to_owned(), retry_after_ms }
    }
}

/// When to try again after a refusal that concerns the moment.
const RETRY_AFTER_MS: u32 = 500;

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::ApplicationUnknown => ErrorCode::APPLICATION_UNKNOWN,
            Error::UserSig(invalid) => usersig_code(*invalid),
            Error::UserInvalid => ErrorCode::USER_INVALID,
            Error::MessageTooLong { .. } => ErrorCode::MESSAGE_TOO_LONG,
            Error::MessageEmpty => ErrorCode::MESSAGE_EMPTY,
            Error::MessageInvalid => ErrorCode::PAYLOAD_INVALID,
            Error::Element(_) => ErrorCode::ELEMENT_INVALID,
            Error::NotAllowed => ErrorCode::NOT_ALLOWED,
            Error::Blacklisted => ErrorCode::BLACKLISTED,
            Error::Refused { code: 0, .. } => ErrorCode::SEND_REFUSED,
            Error::Refused { code, .. } => ErrorCode(*code),
            Error::Muted => ErrorCode::SENDER_MUTED,
            // Only the server API asks for it.
            Error::NotAdmin => ErrorCode::NOT_ALLOWED,
            Error::NotFriends => ErrorCode::NOT_FRIENDS,
            Error::MessageUnknown => ErrorCode::MESSAGE_UNKNOWN,
            Error::MessageRecalled => ErrorCode::MESSAGE_RECALLED,
            Error::TooLate => ErrorCode::RECALL_TOO_LATE,
            Error::ListFull(_) => ErrorCode::LIST_FULL,
            Error::Profile(invalid) => profile_code(*invalid),
            Error::Relation(refusal) => relation_code(*refusal),
            Error::Group(refusal) => group_code(*refusal),
            Error::ContentUnknown => ErrorCode::CONTENT_UNKNOWN,
            Error::Argument(_) => ErrorCode::ARGUMENT_INVALID,
            Error::ClientMessageIdReused => ErrorCode::CLIENT_MESSAGE_ID_REUSED,
            Error::CursorInvalid => ErrorCode::CURSOR_INVALID,
            Error::Fenced => ErrorCode::SERVER_DRAINING,
            Error::Store(error) => store_code(error),
        };
        let mut refusal = Refusal::from(code);
        match &error {
            Error::Refused { .. }
            | Error::MessageTooLong { .. }
            | Error::Argument(_)
            | Error::Element(_)
            | Error::ListFull(_) => {
                refusal.text = error.to_string();
            }
            Error::Group(groups::Refusal::RateLimited(retry_after_ms)) => refusal.retry_after_ms = *retry_after_ms,
            // What went wrong inside is for the operator, not for clients.
            Error::Store(StoreError::Damaged(_) | StoreError::TooLarge(_)) => tracing::error!(%error, "request failed"),
            _ => {}
        }
        refusal
    }
}

fn usersig_code(invalid: Invalid) -> ErrorCode {
    match invalid {
        Invalid::Empty => ErrorCode::USERSIG_EMPTY,
        Invalid::Malformed => ErrorCode::USERSIG_MALFORMED,
        Invalid::OtherApplication => ErrorCode::USERSIG_OTHER_APPLICATION,
        Invalid::OtherUser => ErrorCode::USERSIG_OTHER_USER,
        Invalid::WrongSignature => ErrorCode::USERSIG_WRONG_SIGNATURE,
        Invalid::Expired => ErrorCode::USERSIG_EXPIRED,
        Invalid::Invalidated => ErrorCode::USERSIG_INVALIDATED,
    }
}

/// The published code of what is wrong with a profile.
pub fn profile_code(invalid: profile::Invalid) -> ErrorCode {
    match invalid {
        profile::Invalid::ReadOnly => ErrorCode::PROFILE_READ_ONLY,
        profile::Invalid::Unknown => ErrorCode::PROFILE_FIELD_UNKNOWN,
        profile::Invalid::TooLong => ErrorCode::PROFILE_VALUE_TOO_LONG,
        profile::Invalid::Value => ErrorCode::PROFILE_VALUE_INVALID,
        profile::Invalid::Type => ErrorCode::PROFILE_VALUE_TYPE,
    }
}

/// The published code of why a relation was not changed.
pub fn relation_code(refusal: friends::Refusal) -> ErrorCode {
    use friends::Refusal;
    match refusal {
        Refusal::Invalid => ErrorCode::RELATION_INVALID,
        Refusal::UserUnknown => ErrorCode::RELATION_USER_UNKNOWN,
        Refusal::Forbidden => ErrorCode::FRIEND_REQUESTS_FORBIDDEN,
        Refusal::Full => ErrorCode::FRIENDS_FULL,
        Refusal::PeerFull => ErrorCode::PEER_FRIENDS_FULL,
        Refusal::ListsFull => ErrorCode::FRIEND_LISTS_FULL,
        Refusal::RequestsFull => ErrorCode::FRIEND_REQUESTS_FULL,
        Refusal::BlacklistFull => ErrorCode::BLACKLIST_FULL,
        Refusal::OnBlacklist => ErrorCode::FRIEND_ON_BLACKLIST,
        Refusal::Blacklisted => ErrorCode::FRIEND_HAS_BLACKLISTED,
        Refusal::Denied => ErrorCode::FRIENDSHIP_DENIED,
        Refusal::RequestUnknown => ErrorCode::FRIEND_REQUEST_UNKNOWN,
        Refusal::FriendUnknown => ErrorCode::FRIEND_UNKNOWN,
        Refusal::ByApplication(code) => ErrorCode(code),
    }
}

/// The published code of why something was not done in a group.
pub fn group_code(refusal: groups::Refusal) -> ErrorCode {
    use groups::Refusal;
    match refusal {
        Refusal::RightMissing => ErrorCode::GROUP_RIGHT_MISSING,
        Refusal::Unknown => ErrorCode::GROUP_UNKNOWN,
        Refusal::MemberAlready => ErrorCode::GROUP_MEMBER_ALREADY,
        Refusal::Full => ErrorCode::GROUP_FULL,
        Refusal::IdInvalid => ErrorCode::GROUP_ID_INVALID,
        Refusal::Muted => ErrorCode::GROUP_MUTED,
        Refusal::UserUnknown => ErrorCode::GROUP_USER_UNKNOWN,
        Refusal::IdTaken => ErrorCode::GROUP_ID_TAKEN,
        Refusal::IdOwn => ErrorCode::GROUP_ID_OWN,
        Refusal::RateLimited(_) => ErrorCode::GROUP_RATE_LIMITED,
        Refusal::MessageUnknown => ErrorCode::GROUP_MESSAGE_UNKNOWN,
        Refusal::RecallTooLate => ErrorCode::GROUP_RECALL_TOO_LATE,
        Refusal::MessageRecalled => ErrorCode::GROUP_MESSAGE_RECALLED,
        Refusal::GroupsFull => ErrorCode::GROUPS_FULL,
        Refusal::AttributesConflict => ErrorCode::GROUP_ATTRIBUTES_CONFLICT,
        Refusal::Banned => ErrorCode::GROUP_BANNED,
        Refusal::OwnerStays => ErrorCode::GROUP_OWNER_STAYS,
        Refusal::ApplicationUnknown => ErrorCode::GROUP_APPLICATION_UNKNOWN,
        // Of imports, which are the server API's: there it is a wrong parameter.
        Refusal::TimeInvalid => ErrorCode(10004),
        Refusal::ByApplication(code) => ErrorCode(code),
    }
}

fn store_code(error: &StoreError) -> ErrorCode {
    match error {
        StoreError::Busy | StoreError::Conflict | StoreError::TooOld => ErrorCode::BUSY,
        StoreError::Unavailable(_) | StoreError::MaybeCommitted => ErrorCode::UNAVAILABLE,
        StoreError::TooLarge(_) | StoreError::Damaged(_) => ErrorCode::INTERNAL,
    }
}
