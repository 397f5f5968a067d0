//! The table of error codes: the one place every error that a client sees comes from.
//!
//! Where the hosted original publishes a code for the case, that code is used; the rest have numbers
//! from 200001. A code is never given a second meaning: a retired row stays, commented, with its number.

use std::fmt;

/// An error code as on the wire. Codes this crate doesn't know survive decoding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(pub u32);

macro_rules! error_table {
    ($($constant:ident = $code:literal, $retry:ident, $text:literal;)+) => {
        impl ErrorCode {
            $(#[doc = $text] pub const $constant: ErrorCode = ErrorCode($code);)+

            /// Every known code, in the order of the table.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$constant,)+];

            /// The name, for documents, logs and metrics; `None` for codes this crate doesn't know.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($constant)),)+
                    _ => None,
                }
            }

            /// What it means, in English.
            pub fn text(self) -> &'static str {
                match self.0 {
                    $($code => $text,)+
                    _ => "unknown error",
                }
            }

            /// Whether the same request can succeed later without being changed. Unknown codes: no.
            pub fn is_retryable(self) -> bool {
                match self.0 {
                    $($code => error_table!(@ $retry),)+
                    _ => false,
                }
            }
        }
    };
    (@ final) => { false };
    (@ retry) => { true };
}

error_table! {
    // Published codes of the hosted original.
    NOT_LOGGED_IN = 6014, final, "not logged in";
    SIGNED_OUT_BY_OTHER_DEVICE = 6208, final, "signed out by another device of the same account";
    GROUP_RIGHT_MISSING = 10007, final, "the user has no right to do this in the group";
    GROUP_OWNER_STAYS = 10009, final, "the owner of such a group gives it away before leaving";
    GROUP_UNKNOWN = 10010, final, "no such group";
    GROUP_MEMBER_ALREADY = 10013, final, "the user is a member already";
    GROUP_FULL = 10014, final, "the group has as many members as it may have";
    GROUP_ID_INVALID = 10015, final, "the group's id is none";
    GROUP_REFUSED = 10016, final, "the application refused it";
    GROUP_MUTED = 10017, final, "the user may not write in the group";
    GROUP_USER_UNKNOWN = 10019, final, "no such user";
    GROUP_ID_TAKEN = 10021, final, "another user has a group with this id";
    GROUP_RATE_LIMITED = 10023, retry, "too many messages in the group in a short time";
    GROUP_APPLICATION_UNKNOWN = 10024, final, "no such application for the group, or it has been answered";
    GROUP_ID_OWN = 10025, final, "the user has a group with this id already";
    GROUP_MESSAGE_UNKNOWN = 10030, final, "no such message in the group";
    GROUP_RECALL_TOO_LATE = 10031, final, "the time in which a message of the group can be recalled is over";
    GROUP_MESSAGE_RECALLED = 10032, final, "the message of the group was recalled";
    GROUPS_FULL = 10037, final, "the user is in as many groups, or has as many, as there may be";
    GROUP_ATTRIBUTES_CONFLICT = 10056, final, "the attributes were changed by someone else meanwhile";
    USER_INVALID = 20003, final, "sender or recipient is invalid or does not exist";
    SEND_REFUSED = 20006, final, "the application refused the message";
    BLACKLISTED = 20007, final, "the recipient has blacklisted the sender";
    NOT_FRIENDS = 20009, final, "sender and recipient are not friends";
    SENDER_MUTED = 20012, final, "the sender is muted";
    RECALL_TOO_LATE = 20016, final, "the time in which a message can be recalled or edited is over";
    MESSAGE_UNKNOWN = 20022, final, "no such message";
    MESSAGE_RECALLED = 20023, final, "the message was recalled";
    RELATION_INVALID = 30001, final, "friends already, no friends, or otherwise not as the request supposes";
    RELATION_USER_UNKNOWN = 30003, final, "no such user";
    FRIEND_REQUESTS_FORBIDDEN = 30009, final, "an administrator has forbidden the user to ask for friendships";
    FRIENDS_FULL = 30010, final, "the user has as many friends as there may be";
    FRIEND_LISTS_FULL = 30011, final, "the user has as many friend lists as there may be";
    FRIEND_REQUESTS_FULL = 30012, final, "one of the two has as many open friend requests as there may be";
    BLACKLIST_FULL = 30013, final, "the user's blacklist is full";
    PEER_FRIENDS_FULL = 30014, final, "the other has as many friends as there may be";
    FRIEND_ON_BLACKLIST = 30515, final, "the other is on the user's blacklist";
    FRIENDSHIP_DENIED = 30516, final, "the other takes no friends";
    FRIEND_HAS_BLACKLISTED = 30525, final, "the user is on the other's blacklist";
    FRIEND_REQUEST_SENT = 30539, final, "the request waits for the other's answer";
    FRIEND_REQUEST_UNKNOWN = 30614, final, "no such friend request";
    FRIEND_UNKNOWN = 31704, final, "no such friend to delete";
    PROFILE_USER_UNKNOWN = 40003, final, "no such user";
    PROFILE_READ_ONLY = 40008, final, "only an administrator may set this field";
    PROFILE_FIELD_UNKNOWN = 40009, final, "no such profile field";
    PROFILE_VALUE_TOO_LONG = 40601, final, "the value of a profile field is too long";
    PROFILE_VALUE_INVALID = 40605, final, "the value of a profile field is out of range";
    PROFILE_VALUE_TYPE = 40610, final, "the value of a profile field is of another type";
    USERSIG_EXPIRED = 70001, final, "UserSig expired";
    USERSIG_EMPTY = 70002, final, "UserSig is empty";
    USERSIG_MALFORMED = 70003, final, "UserSig cannot be parsed";
    USERSIG_WRONG_SIGNATURE = 70009, final, "UserSig was not signed with this application's key";
    USERSIG_OTHER_USER = 70013, final, "UserSig was made for another user";
    USERSIG_OTHER_APPLICATION = 70014, final, "UserSig was made for another application";
    APPLICATION_UNKNOWN = 70020, final, "no such application";
    USERSIG_INVALIDATED = 70052, final, "UserSig was issued before all of the user's were made invalid";
    MESSAGE_TOO_LONG = 80002, final, "message is too long";

    // The connection.
    FRAME_INVALID = 200001, final, "bytes are not a frame of this protocol";
    VERSION_UNSUPPORTED = 200002, final, "no protocol version in common";
    FRAME_TOO_LARGE = 200003, final, "frame is over the limit";
    FRAME_TRUNCATED = 200004, final, "stream ended inside a frame";
    HELLO_DEADLINE = 200005, retry, "no hello in time";
    LOGIN_DEADLINE = 200006, retry, "no login in time";
    HEARTBEAT_LOST = 200007, retry, "no frame was received for longer than the heartbeat allows";
    SLOW_READER = 200008, retry, "the client does not read what it is sent";
    TOO_MANY_FRAMES = 200009, final, "too many frames before login";
    TOO_MANY_LOGIN_FAILURES = 200010, retry, "too many failed logins on one connection";
    SERVER_DRAINING = 200011, retry, "the server is shutting down";
    CONNECTION_LIMIT = 200012, retry, "the server has as many connections as it is set to take";
    TOO_MANY_SESSIONS = 200013, final, "the account has as many sessions as it may have";

    // Requests.
    COMMAND_UNKNOWN = 200020, final, "unknown command";
    PAYLOAD_INVALID = 200021, final, "payload does not decode";
    ARGUMENT_INVALID = 200022, final, "an argument is missing or out of range";
    ALREADY_LOGGED_IN = 200023, final, "already logged in";
    TOO_MANY_IN_FLIGHT = 200024, retry, "too many unanswered requests";
    MESSAGE_EMPTY = 200025, final, "message has no content";
    CLIENT_MESSAGE_ID_REUSED = 200026, final, "client_message_id was used for another conversation";
    CURSOR_INVALID = 200027, final, "cursor is not one that this server gave out";
    RATE_LIMITED = 200028, retry, "too many messages in a short time";
    NOT_ALLOWED = 200029, final, "only the sender, or nobody among clients, may do this";
    LIST_FULL = 200030, final, "as many as there may be are there";
    EXTENSION_CONFLICT = 200031, final, "the extension was changed by someone else meanwhile";
    CONTENT_UNKNOWN = 200032, final, "no merged content has this id";
    ELEMENT_INVALID = 200033, final, "an element of the message has a field missing or out of range";
    GROUP_BANNED = 200034, final, "the user is kept out of the group for a time";
    GUESTS_MAY_NOT = 200036, final, "guests may only receive";
    GUESTS_FULL = 200037, retry, "as many guests as there may be are there";

    // The server.
    BUSY = 200040, retry, "the server is busy";
    UNAVAILABLE = 200041, retry, "storage is unavailable";
    INTERNAL = 200042, final, "internal error";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.text())
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, self.name().unwrap_or("?"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique() {
        let mut codes: Vec<u32> = ErrorCode::ALL.iter().map(|code| code.0).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn unknown_codes_survive() {
        assert_eq!(ErrorCode(4_000_000_000).name(), None);
        assert!(!ErrorCode(4_000_000_000).is_retryable());
    }
}
