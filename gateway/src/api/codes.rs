//! The published error codes of the server API, and which of the domain's errors each service answers with which.
//!
//! A service has its own numbers for the same thing; what is wrong with a call before it reaches its service has
//! one number for all.

use backend::{
    domain::{Error, friends::Refusal, groups, usersig::Invalid},
    store::StoreError,
};

use super::fields::Wrong;
use crate::errors::{group_code, profile_code, relation_code};

/// A published code with its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32, pub &'static str);

/// Why a call failed, as its caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The published number.
    pub code: u32,
    /// What it means, with what helps to mend the call.
    pub info: String,
}

impl From<Code> for Failure {
    fn from(Code(code, info): Code) -> Self {
        Failure { code, info: info.to_owned() }
    }
}

impl Code {
    /// With more about this case.
    pub fn because(self, why: impl std::fmt::Display) -> Failure {
        Failure { code: self.0, info: format!("{}: {why}", self.1) }
    }
}

// What concerns any call.
pub const HTTP_INVALID: Code = Code(60002, "the HTTP request is not one that is understood");
pub const JSON_INVALID: Code = Code(60003, "the body is not JSON");
pub const IDENTIFIER_INVALID: Code = Code(60004, "identifier or usersig is missing or invalid");
pub const SDKAPPID_INVALID: Code = Code(60006, "sdkappid is not valid");
pub const TOO_FREQUENT: Code = Code(60007, "called too frequently");
pub const TIMED_OUT: Code = Code(60008, "the request was not handled in time");
pub const COMMAND_UNKNOWN: Code = Code(60009, "no such service and command");
pub const NOT_ADMIN: Code = Code(60010, "identifier is no administrator of the application");
pub const SDKAPPID_MISSING: Code = Code(60012, "sdkappid is missing");

// The credential.
const USERSIG_EXPIRED: Code = Code(70001, "UserSig expired");
const USERSIG_EMPTY: Code = Code(70002, "UserSig is empty");
const USERSIG_MALFORMED: Code = Code(70003, "UserSig cannot be parsed");
const USERSIG_WRONG_SIGNATURE: Code = Code(70009, "UserSig was not signed with this application's key");
const USERSIG_OTHER_USER: Code = Code(70013, "UserSig was made for another user");
const USERSIG_OTHER_APPLICATION: Code = Code(70014, "UserSig was made for another application");
const APPLICATION_UNKNOWN: Code = Code(70020, "no such application");
const USERSIG_INVALIDATED: Code = Code(70052, "UserSig was issued before all of the user's were made invalid");

// Accounts.
pub const ACCOUNT_UNKNOWN: Code = Code(70107, "no such account");
pub const ACCOUNTS_ARGUMENT: Code = Code(70402, "a parameter is missing or invalid");
const ACCOUNTS_INTERNAL: Code = Code(70500, "internal error, try again");
pub const PROFILE_VALUE_TOO_LONG: Code = Code(40601, "a value of the profile is longer than 500 bytes");

// Profiles.
pub const PROFILE_ARGUMENT: Code = Code(40001, "a parameter is missing or invalid");
pub const PROFILE_ACCOUNT: Code = Code(40003, "no such account");
const PROFILE_INTERNAL: Code = Code(40006, "internal error, try again");

// Friends and blacklists.
pub const RELATION_ARGUMENT: Code = Code(30001, "a parameter is missing or invalid");
pub const RELATION_ACCOUNT: Code = Code(30003, "no such account");
const RELATION_INTERNAL: Code = Code(30006, "internal error, try again");
const RELATION_CONFLICT: Code = Code(30008, "too many changes at a time, try again");
pub const FRIEND_REQUEST_SENT: Code = Code(30539, "the request waits for the other's answer");
pub const NO_FRIEND_FOR_LIST: Code = Code(32216, "only friends can be on a friend list");

// 1:1 messages.
pub const BODY_NOT_OBJECT: Code = Code(90001, "the body is not a JSON object");
pub const MSG_BODY_INVALID: Code = Code(90002, "MsgBody is not as it should be");
pub const TO_ACCOUNT: Code = Code(90003, "To_Account is missing or no such account");
pub const MSG_RANDOM: Code = Code(90005, "MsgRandom is missing or not a whole number");
pub const MSG_TIMESTAMP: Code = Code(90006, "MsgTimeStamp is missing or not a whole number");
pub const MSG_BODY_NO_LIST: Code = Code(90007, "MsgBody is missing or not an array");
pub const FROM_ACCOUNT: Code = Code(90008, "From_Account is missing or no such account");
pub const MSG_ELEMENT: Code = Code(90010, "an element of MsgBody is not as it should be");
pub const TOO_MANY_RECIPIENTS: Code = Code(90011, "more than 500 accounts in To_Account");
pub const TO_ACCOUNT_UNKNOWN: Code = Code(90012, "To_Account is no account");
pub const TOO_MANY_ACCOUNTS: Code = Code(90018, "more accounts than may be asked for");
pub const MSG_LIFE_TIME_RANGE: Code = Code(90026, "MsgLifeTime must be at most 7 days");
pub const SYNC_OTHER_MACHINE: Code = Code(90031, "SyncOtherMachine is not a whole number");
pub const MSG_LIFE_TIME: Code = Code(90044, "MsgLifeTime is not a whole number");
pub const CONDITION: Code = Code(90022, "Condition, or tags, are not as they should be");
pub const ANNOUNCED_TOO_SOON: Code = Code(90024, "the last push is too short ago");
pub const ATTRIBUTE_LENGTH: Code = Code(90030, "names of attributes have 1 to 50 bytes, values at most 50");
pub const TOO_MANY_TAGS: Code = Code(90032, "more than 10 tags at a time");
pub const ATTRIBUTE_UNKNOWN: Code = Code(90033, "an attribute is invalid");
pub const TAG_LENGTH: Code = Code(90040, "a tag has 1 to 50 bytes");
pub const ANNOUNCED_TOO_OFTEN: Code = Code(90047, "as many pushes as may be made in a day were made");
const AUDIENCE_ACCOUNT: Code = Code(90048, "no such account");
pub const MSG_KEY: Code = Code(90054, "MsgKey is missing or none");
const MESSAGES_INTERNAL: Code = Code(90992, "internal error, try again");
const MESSAGES_FAILED: Code = Code(91000, "internal error, try again");
pub const MESSAGE_TOO_LONG: Code = Code(93000, "the message is longer than may be");
const MESSAGES_ARGUMENT: Code = Code(20001, "a parameter is invalid");
const SENDER_OR_RECIPIENT: Code = Code(20003, "sender or recipient is invalid or does not exist");
const SEND_REFUSED: Code = Code(20006, "the application refused it");
const MESSAGE_UNKNOWN: Code = Code(20022, "no such message");
const MESSAGE_RECALLED: Code = Code(20023, "the message was recalled");

// Groups.
const GROUP_INTERNAL: Code = Code(10002, "internal error, try again");
pub const GROUP_ARGUMENT: Code = Code(10004, "a parameter is missing or invalid");
pub const GROUP_TOO_MANY_ACCOUNTS: Code = Code(10005, "more accounts than may be named");
pub const GROUP_ID_INVALID: Code = Code(10015, "GroupId is none");
pub const IMPORTED_TOO_LONG: Code = Code(80002, "the message is longer than may be");
pub const GROUP_ACCOUNT: Code = Code(10019, "no such account");
pub const GROUP_MESSAGE_TOO_LONG: Code = Code(80002, "the message is longer than may be");
pub const RECEIPTS_UNKNOWN: Code = Code(10062, "there are no receipts of this message");
const GROUP_REFUSED: Code = Code(10016, "the application refused it");

// Recent contacts.
pub const CONTACT_ACCOUNT: Code = Code(50001, "no such account");
pub const CONTACT_ARGUMENT: Code = Code(50002, "a parameter is missing or invalid");
const CONTACT_INTERNAL: Code = Code(50004, "internal error, try again");
pub const CONTACTS_FULL: Code = Code(51008, "as many as there may be are there");

// Global muting.
pub const CONFIG_NOT_OBJECT: Code = Code(130_001, "the body is not a JSON object");
pub const SET_ACCOUNT_MISSING: Code = Code(130_004, "the account is missing");
pub const SET_ACCOUNT_INVALID: Code = Code(130_005, "the account is invalid");
pub const MUTE_TIME_INVALID: Code = Code(130_007, "a time is not a whole number of seconds");
pub const MUTE_TIME_MISSING: Code = Code(130_008, "neither C2CmsgNospeakingTime nor GroupmsgNospeakingTime is there");
const CONFIG_INTERNAL: Code = Code(130_014, "internal error, try again");

// Files of hours.
pub const HISTORY_ARGUMENT: Code = Code(1001, "ChatType or MsgTime is missing or invalid");
pub const HISTORY_NONE: Code = Code(1004, "there are no messages of that hour, or it is not over");
pub const HISTORY_EXPIRED: Code = Code(1005, "that hour is more than 7 days ago");
const HISTORY_INTERNAL: Code = Code(1006, "internal error, try again");

/// The code of a credential that is not good, or of whoever it is for.
pub fn of_credential(error: &Error) -> Failure {
    match error {
        Error::ApplicationUnknown => APPLICATION_UNKNOWN.into(),
        Error::NotAdmin => NOT_ADMIN.into(),
        Error::UserSig(invalid) => match invalid {
            Invalid::Empty => USERSIG_EMPTY,
            Invalid::Malformed => USERSIG_MALFORMED,
            Invalid::OtherApplication => USERSIG_OTHER_APPLICATION,
            Invalid::OtherUser => USERSIG_OTHER_USER,
            Invalid::WrongSignature => USERSIG_WRONG_SIGNATURE,
            Invalid::Expired => USERSIG_EXPIRED,
            Invalid::Invalidated => USERSIG_INVALIDATED,
        }
        .into(),
        error => internal(error, TIMED_OUT),
    }
}

/// Of `im_open_login_svc`.
pub fn of_accounts(error: &Error) -> Failure {
    match error {
        Error::UserInvalid => ACCOUNT_UNKNOWN.into(),
        Error::Argument(why) => ACCOUNTS_ARGUMENT.because(why),
        error => internal(error, ACCOUNTS_INTERNAL),
    }
}

/// Of `profile`.
pub fn of_profile(error: &Error) -> Failure {
    match error {
        Error::UserInvalid => PROFILE_ACCOUNT.into(),
        Error::Argument(why) => PROFILE_ARGUMENT.because(why),
        Error::Profile(invalid) => Failure { code: profile_code(*invalid).0, info: invalid.to_string() },
        error => internal(error, PROFILE_INTERNAL),
    }
}

/// Of `sns`.
pub fn of_relations(error: &Error) -> Failure {
    match error {
        Error::UserInvalid => RELATION_ACCOUNT.into(),
        Error::Argument(why) => RELATION_ARGUMENT.because(why),
        Error::Profile(invalid) => RELATION_ARGUMENT.because(invalid),
        Error::Relation(refusal) => of_refusal(*refusal),
        Error::Store(StoreError::Busy | StoreError::Conflict | StoreError::TooOld) => RELATION_CONFLICT.into(),
        error => internal(error, RELATION_INTERNAL),
    }
}

/// Why the relation to one user was not changed.
pub fn of_refusal(refusal: Refusal) -> Failure {
    Failure { code: relation_code(refusal).0, info: refusal.to_string() }
}

/// Of `openim` and `openim_msg_ext_http_svc`.
pub fn of_messages(error: &Error) -> Failure {
    match error {
        Error::UserInvalid => SENDER_OR_RECIPIENT.into(),
        Error::MessageTooLong { .. } => MESSAGE_TOO_LONG.because(error),
        Error::MessageEmpty | Error::MessageInvalid | Error::ContentUnknown => MSG_ELEMENT.because(error),
        Error::Element(why) => MSG_ELEMENT.because(why),
        Error::Argument(why) | Error::ListFull(why) => MESSAGES_ARGUMENT.because(why),
        Error::ClientMessageIdReused => MSG_RANDOM.because(error),
        Error::Refused { code: 0, text } => SEND_REFUSED.because(text),
        Error::Refused { code, text } => Failure { code: *code, info: text.clone() },
        Error::MessageUnknown | Error::NotAllowed => MESSAGE_UNKNOWN.into(),
        Error::MessageRecalled => MESSAGE_RECALLED.into(),
        Error::Store(StoreError::Busy | StoreError::Conflict | StoreError::TooOld) => MESSAGES_INTERNAL.into(),
        error => internal(error, MESSAGES_FAILED),
    }
}

/// Of `all_member_push`, where it is about attributes and tags.
pub fn of_announcements(error: &Error) -> Failure {
    match error {
        Error::UserInvalid => AUDIENCE_ACCOUNT.into(),
        Error::Argument(why) => ATTRIBUTE_UNKNOWN.because(why),
        error => of_messages(error),
    }
}

/// What is wrong with a field, where services have a code for each.
pub fn of_message_field(wrong: &Wrong) -> Failure {
    let code = match wrong.field {
        "To_Account" | "Peer_Account" => TO_ACCOUNT,
        "From_Account" | "Operator_Account" | "Report_Account" => FROM_ACCOUNT,
        "MsgRandom" => MSG_RANDOM,
        "MsgTimeStamp" => MSG_TIMESTAMP,
        "SyncOtherMachine" => SYNC_OTHER_MACHINE,
        "MsgLifeTime" => MSG_LIFE_TIME,
        "MsgKey" | "LastMsgKey" => MSG_KEY,
        _ => MESSAGES_ARGUMENT,
    };
    code.because(wrong)
}

/// Of `group_open_http_svc` and its neighbours.
pub fn of_groups(error: &Error) -> Failure {
    match error {
        Error::Group(refusal) => of_group_refusal(*refusal),
        Error::UserInvalid => of_group_refusal(groups::Refusal::UserUnknown),
        Error::MessageUnknown => of_group_refusal(groups::Refusal::MessageUnknown),
        Error::NotAllowed => of_group_refusal(groups::Refusal::RightMissing),
        Error::MessageRecalled => of_group_refusal(groups::Refusal::MessageRecalled),
        Error::Argument(why) | Error::ListFull(why) | Error::Element(why) => GROUP_ARGUMENT.because(why),
        Error::MessageEmpty | Error::MessageInvalid | Error::ContentUnknown => GROUP_ARGUMENT.because(error),
        Error::MessageTooLong { .. } => GROUP_MESSAGE_TOO_LONG.because(error),
        Error::Refused { code: 0, text } => GROUP_REFUSED.because(text),
        Error::Refused { code, text } => Failure { code: *code, info: text.clone() },
        error => internal(error, GROUP_INTERNAL),
    }
}

/// Why something was not done with a group, or with one user in it.
pub fn of_group_refusal(refusal: groups::Refusal) -> Failure {
    Failure { code: group_code(refusal).0, info: refusal.to_string() }
}

/// Of `recentcontact`.
pub fn of_contacts(error: &Error) -> Failure {
    match error {
        Error::UserInvalid => CONTACT_ACCOUNT.into(),
        Error::Argument(why) => CONTACT_ARGUMENT.because(why),
        Error::ListFull(why) => CONTACTS_FULL.because(why),
        error => internal(error, CONTACT_INTERNAL),
    }
}

/// Of `openconfigsvr`.
pub fn of_config(error: &Error) -> Failure {
    internal(error, CONFIG_INTERNAL)
}

/// Of `open_msg_svc`.
pub fn of_history(error: &Error) -> Failure {
    internal(error, HISTORY_INTERNAL)
}

/// What went wrong inside is for the operator, not for callers.
fn internal(error: &Error, code: Code) -> Failure {
    match error {
        Error::Store(StoreError::Busy | StoreError::Conflict | StoreError::TooOld | StoreError::Unavailable(_)) => {}
        error => tracing::error!(%error, "a call of the server API failed"),
    }
    code.into()
}
