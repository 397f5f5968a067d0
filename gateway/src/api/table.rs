//! Which commands there are: one row each, from which calls are dispatched, limited and documented (API.md).

use std::fmt::Write as _;

use futures::future::BoxFuture;
use serde_json::{Map, Value};

use super::{
    accounts, announcements,
    call::Call,
    codes::{self, Code, Failure},
    config, contacts, extensions,
    fields::Fields,
    files,
    groups::{content, import, info, life, members, messages as group_messages, receipts, rooms},
    messages, past, profile,
    sns::{blacklist, check, friends, lists, read},
};

/// What a command comes to: the fields of its answer beside those that every answer has.
pub type Outcome = Result<Map<String, Value>, Failure>;

type Handler = for<'a> fn(&'a Call<'a>, Fields<'a>) -> BoxFuture<'a, Outcome>;

/// A command.
pub struct Row {
    pub service: &'static str,
    pub command: &'static str,
    pub handler: Handler,
    /// What it does, in a few words.
    pub what: &'static str,
    /// Things that one call may name, at the most.
    pub items_max: usize,
    /// Calls of an application each second, as published.
    pub per_second: u32,
    /// Longest body, in bytes.
    pub body_bytes_max: usize,
    /// The service's code for a body that is JSON, but no object.
    pub not_object: Code,
}

/// Bodies that hold a message, or some names.
const BODY_BYTES: usize = 128 * 1024;
/// Bodies that hold what is to be kept about up to 1,000 friends.
const LIST_BYTES: usize = 1 << 20;

macro_rules! rows {
    ($($service:literal, $not_object:path, $body_bytes_max:path {
        $($command:literal, $handler:path, $items_max:literal, $per_second:literal, $what:literal;)+
    })+) => {
        /// Every command that is served.
        pub const ROWS: &[Row] = &[$($(Row {
            service: $service,
            command: $command,
            handler: |call, fields| Box::pin($handler(call, fields)),
            what: $what,
            items_max: $items_max,
            per_second: $per_second,
            body_bytes_max: $body_bytes_max,
            not_object: $not_object,
        },)+)+];
    };
}

rows! {
    "im_open_login_svc", codes::ACCOUNTS_ARGUMENT, BODY_BYTES {
        "account_import", accounts::import, 1, 200, "creates an account";
        "multiaccount_import", accounts::import_many, 100, 100, "creates accounts";
        "account_delete", accounts::delete, 100, 100, "deletes accounts and what they have left";
        "account_check", accounts::check, 100, 100, "says which accounts exist";
        "kick", accounts::kick, 1, 200, "makes a user's UserSigs invalid, and signs the user out";
    }
    "openim", codes::BODY_NOT_OBJECT, BODY_BYTES {
        "query_online_status", accounts::query_online_status, 500, 200, "says which users are online";
        "querystate", accounts::query_state, 500, 200, "the same, by its older name";
        "sendmsg", messages::send, 1, 200, "sends a message";
        "batchsendmsg", messages::send_many, 500, 200, "sends a message to several users";
        "importmsg", messages::import, 1, 200, "imports a message";
        "admin_getroammsg", past::read, 100, 200, "reads a conversation back";
        "admin_msgwithdraw", past::withdraw, 1, 200, "recalls a message";
        "modify_c2c_msg", past::modify, 1, 200, "changes a message";
        "modify_group_msg", group_messages::modify, 1, 200, "changes a message of a group";
        "admin_set_msg_read", past::set_read, 1, 200, "marks a conversation as read";
        "get_c2c_unread_msg_num", past::unread, 10, 200, "counts unread messages";
    }
    "openim_msg_ext_http_svc", codes::BODY_NOT_OBJECT, BODY_BYTES {
        "get_key_values", extensions::get, 200, 200, "reads the extensions of a message";
        "set_key_values", extensions::set, 20, 200, "changes the extensions of a message";
        "group_get_key_values", extensions::get_in_group, 200, 200, "reads the extensions of a group's message";
        "group_set_key_values", extensions::set_in_group, 20, 200, "changes the extensions of a group's message";
    }
    "profile", codes::PROFILE_ARGUMENT, BODY_BYTES {
        "portrait_set", profile::set, 1, 200, "changes a user's profile";
        "portrait_get", profile::get, 100, 200, "reads profiles";
    }
    "sns", codes::RELATION_ARGUMENT, LIST_BYTES {
        "friend_add", friends::add, 1000, 200, "asks for friendships, or makes them";
        "friend_import", friends::import, 1000, 200, "makes others friends of a user, one way, without asking";
        "friend_update", friends::update, 1000, 200, "changes what a user keeps about friends";
        "friend_delete", friends::delete, 1000, 200, "ends friendships";
        "friend_delete_all", friends::delete_all, 1, 200, "ends all friendships of a user";
        "friend_check", check::friends, 1000, 200, "says who is whose friend";
        "friend_get", read::page, 500, 200, "reads a user's friends";
        "friend_get_list", read::chosen, 100, 200, "reads chosen friends, with their profiles";
        "black_list_add", blacklist::add, 1000, 200, "puts users on a user's blacklist, which ends their friendships";
        "black_list_delete", blacklist::delete, 1000, 200, "takes users off a user's blacklist";
        "black_list_get", blacklist::page, 1000, 200, "reads a user's blacklist";
        "black_list_check", check::blacklist, 1000, 200, "says who is on whose blacklist";
        "group_add", lists::add, 32, 200, "makes friend lists, and puts friends on them";
        "group_delete", lists::delete, 32, 200, "deletes friend lists";
        "group_get", lists::get, 32, 200, "reads friend lists";
    }
    "group_open_http_svc", codes::GROUP_ARGUMENT, BODY_BYTES {
        "get_appid_group_list", info::all, 10000, 100, "reads the ids of all groups";
        "create_group", life::create, 100, 200, "makes a group";
        "get_group_info", info::get, 50, 200, "reads groups, with their members";
        "get_group_member_info", members::get, 6000, 200, "reads the members of a group";
        "get_specified_group_member_info", members::chosen, 50, 200, "reads chosen members of a group";
        "modify_group_base_info", life::modify, 1, 200, "changes a group";
        "add_group_member", members::add, 300, 200, "puts users into a group";
        "delete_group_member", members::delete, 100, 200, "removes members of a group";
        "modify_group_member_info", members::modify, 1, 200, "changes a member";
        "destroy_group", life::destroy, 1, 200, "dissolves a group";
        "get_joined_group_list", info::joined, 4096, 200, "reads the groups of a user";
        "get_role_in_group", info::roles, 500, 200, "says what users are in a group";
        "forbid_send_msg", members::mute, 500, 200, "mutes members of a group";
        "get_group_muted_account", members::muted, 6000, 200, "says who is muted in a group";
        "get_group_shutted_uin", members::shut_up, 6000, 200, "the same, by its older name";
        "change_group_owner", life::change_owner, 1, 200, "gives a group to another member";
        "ban_group_member", members::ban, 100, 200, "keeps users out of a group for a time";
        "unban_group_member", members::unban, 100, 200, "lets users into a group again";
        "get_group_ban_member", members::banned, 100, 200, "says who is kept out of a group";
        "send_group_msg", group_messages::send, 1, 200, "says something in a group";
        "send_group_system_notification", group_messages::notify, 50, 200, "tells members something that is no message";
        "group_msg_recall", group_messages::recall, 10, 200, "recalls messages of a group";
        "delete_group_msg_by_sender", group_messages::recall_of_sender, 1000, 200, "recalls what one sender has said in a group";
        "group_msg_get_simple", group_messages::read, 20, 200, "reads what was said in a group";
        "set_unread_msg_num", group_messages::set_unread, 1, 200, "sets how many messages are unread for a member";
        "group_msg_receipt", receipts::send, 50, 200, "says in a member's name that messages of a group were read";
        "get_group_msg_receipt", receipts::counts, 20, 200, "says how many have read messages of a group";
        "get_group_msg_receipt_detail", receipts::details, 200, 200, "says who has read a message of a group, or has not";
        "import_group", import::group, 1, 200, "imports a group";
        "import_group_member", import::members, 300, 200, "imports members of a group";
        "import_group_msg", import::messages, 20, 200, "imports what was said in a group";
        "send_broadcast_msg", rooms::broadcast, 1, 1, "tells everybody in live rooms something";
        "get_online_member_num", life::online, 1, 200, "says how many are in a group now";
        "modify_group_attr", content::modify_attributes, 16, 200, "changes attributes of a group";
        "set_group_attr", content::set_attributes, 16, 200, "replaces all attributes of a group";
        "delete_group_attr", content::delete_attributes, 16, 200, "takes attributes off a group";
        "clear_group_attr", content::clear_attributes, 1, 200, "takes all attributes off a group";
        "get_group_counter", content::counters, 20, 200, "reads counters of a group";
        "update_group_counter", content::update_counters, 20, 200, "changes counters of a group";
        "delete_group_counter", content::delete_counters, 20, 200, "takes counters off a group";
    }
    "group_open_avchatroom_http_svc", codes::GROUP_ARGUMENT, BODY_BYTES {
        "get_members", rooms::present, 500, 200, "says who is in a live room now";
        "check_members", rooms::check, 20, 200, "says which users are in a live room now";
        "modify_admin", rooms::modify_admin, 5, 200, "has users lead a live room, or not any more";
        "get_admin_list", rooms::admins, 5, 200, "says who leads a live room";
        "modify_user_info", rooms::mark, 500, 200, "gives those who are in a live room marks, or takes them off";
    }
    "group_open_attr_http_svc", codes::GROUP_ARGUMENT, BODY_BYTES {
        "get_group_attr", content::attributes, 1, 200, "reads the attributes of a group";
    }
    "recentcontact", codes::CONTACT_ARGUMENT, BODY_BYTES {
        "get_list", contacts::list, 100, 200, "reads a conversation list";
        "delete", contacts::delete, 1, 200, "takes a conversation off the list";
        "create_contact_group", contacts::create_group, 100, 200, "puts a label on conversations";
        "del_contact_group", contacts::delete_group, 1, 200, "takes a label off all conversations";
        "update_contact_group", contacts::update_group, 100, 200, "renames a label, or changes which conversations have it";
        "mark_contact", contacts::mark, 100, 200, "marks conversations";
        "search_contact_group", contacts::search, 300, 200, "reads labels and marks of conversations";
        "get_contact_group", contacts::groups, 100, 200, "reads all labels and marks";
    }
    "all_member_push", codes::BODY_NOT_OBJECT, BODY_BYTES {
        "im_push", announcements::push, 1, 100, "tells something to everybody, or to all with some attributes or tags";
        "im_set_attr_name", announcements::set_names, 10, 100, "names the attributes that users may have";
        "im_get_attr_name", announcements::get_names, 10, 100, "says how attributes are named";
        "im_set_attr", announcements::set_attributes, 100, 100, "gives users' attributes values";
        "im_remove_attr", announcements::remove_attributes, 100, 100, "takes attributes from users";
        "im_get_attr", announcements::get_attributes, 100, 100, "says which attributes users have";
        "im_add_tag", announcements::add_tags, 100, 100, "puts tags on users";
        "im_remove_tag", announcements::remove_tags, 100, 100, "takes tags off users";
        "im_remove_all_tags", announcements::remove_all_tags, 100, 100, "takes all tags off users";
        "im_get_tag", announcements::get_tags, 100, 100, "says which tags users have";
    }
    "openconfigsvr", codes::CONFIG_NOT_OBJECT, BODY_BYTES {
        "setnospeaking", config::set_no_speaking, 1, 200, "mutes a user";
        "getnospeaking", config::no_speaking, 1, 200, "says for how long a user is muted";
        "getappinfo", config::app_info, 30, 200, "tells figures of the last 30 days";
    }
    "ConfigSvc", codes::CONFIG_NOT_OBJECT, BODY_BYTES {
        "GetIPList", config::ip_list, 1, 200, "says which address this server has";
    }
    "open_msg_svc", codes::HISTORY_ARGUMENT, BODY_BYTES {
        "get_history", files::history, 1, 10, "makes a file of all messages of an hour";
    }
}

/// Published commands that are not served yet, by service.
const NOT_YET: &[(&str, &[&str])] = &[
    ("openim", &["delete_c2c_msg_ramble"]),
    ("follow", &["all of its commands"]),
    ("im_cos_msg", &["get_cos_sig", "forbid_illegal_object", "allow_banned_object"]),
    ("im_msg_audit", &["all of its commands"]),
    ("im_msg_audit_mgr", &["all of its commands"]),
    ("openim_robot_http_svc", &["all of its commands"]),
    ("official_account_open_http_svc", &["all of its commands"]),
];

/// The row of a command.
pub fn find(service: &str, command: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.service == service && row.command == command)
}

/// API.md.
pub fn document() -> String {
    let mut text = String::from(
        "# The server API\n\n\
         What an application's own server asks of a gateway: compatible with the published \"v4\" server API of the\n\
         hosted original, in names, fields, defaults and error codes. A server moves over by changing one host name.\n\n    \
         POST https://HOST:8444/v4/<service>/<command>?sdkappid=…&identifier=…&usersig=…&random=…&contenttype=json\n\n\
         `identifier` is one of the application's `admins`, `usersig` a UserSig of it. Answers have HTTP status 200 and\n\
         `ActionStatus` (`OK` or `FAIL`), `ErrorCode` and `ErrorInfo`, whatever happened. Unknown fields are ignored; a whole\n\
         number may be written as a string.\n\n\
         This file is printed by `gateway api`.\n\n\
         ## Served\n\n\
         | command | what it does | at once | calls a second |\n| --- | --- | --- | --- |\n",
    );
    for Row { service, command, what, items_max, per_second, .. } in ROWS {
        let _ = writeln!(text, "| `{service}/{command}` | {what} | {items_max} | {per_second} |");
    }
    text.push_str(NOTES);
    text.push_str("\n## Not served yet\n\n");
    for (service, commands) in NOT_YET {
        let _ = writeln!(text, "- `{service}`: {}", commands.join(", "));
    }
    text
}

/// What differs from the original, or is not said by it.
const NOTES: &str = "
`at once` is how many accounts, messages or conversations one call may name, or is given. The calls a second are
those of one application, as published; `api.rate_percent` scales them.

- `MsgKey` is `<sequence>_<MsgRandom>_<seconds>`, the sequence being the message's place in its conversation, which
  is `MsgSeq` in answers, too. `batchsendmsg` answers one key for all of its messages, as published: its sequence is 0,
  and the message is found by time and `MsgRandom`. A message of a client has a `MsgRandom` that follows from its id.
- The same `sendmsg` (`MsgRandom`, `MsgSeq`, recipient, content) within a minute is stored once and answered
  again; with `MsgTimeStamp`, whenever it comes.
- `importmsg`: within a conversation time does not run back. A message older than the newest one of its conversation
  is put behind that, with its time. What has a `MsgSeq`, and all of `MsgSeq`, `MsgRandom` and `MsgTimeStamp` as an
  earlier one from the same sender to the same recipient, is that one, whatever it says.
- `TIMRelayElem` brings its content as `MsgList`, and is told with `JsonMsgKey`, which names that content.
  Notifications (TYPE-09) are a `TIMNotificationElem` with `Topic` and `Data`.
- Values of custom fields are texts; a whole number is kept as its digits. Fields of profiles that were never set
  have their defaults; custom fields, and fields of friends, are left out then.
- `RemarkTime` is not kept. `friend_get` has one sequence for both kinds of data; each kind is left out where the one
  that the caller has, with `StartIndex` 0, is still the newest.
- `CurrentSequence` of `black_list_get` differs whenever the list does, and says nothing else.
- `group_add` fills a list that is there already, with up to 1,000 friends in a call.
- Conversation groups are the labels that clients know: `GroupId` is a label's number.
- `get_history`: `MsgTime` is Beijing time, as published. The file is gzip-compressed JSON with a `MsgList`; its link
  holds for `api.link_hours`, and says by its checksums what it holds, even if a message is changed later.
- `im_push` reaches users who are online at once. Within `MsgLifeTime` it reaches others when they log in, in the
  conversation with `From_Account`, as a message that is stored. Its quota and interval are settings of the
  application. Accounts made later are not told.
- `create_group` and `modify_group_base_info` have a `Searchable` of their own, `On` or `Off`: whether clients find the
  group when they look for groups.
- Groups: types are answered by their older names (`Private`, `ChatRoom`) and understood by the newer ones (`Work`,
  `Meeting`), too. `InviteJoinOption` follows from the type. `MuteAllMember` and `MuteUntil` have their older names beside
  them. `get_group_info` tells up to 10,000 members in one call. Of a live room owner and administrators are kept as
  members; who is there now has commands of its own, so `WithHugeGroups` adds nothing. Members stand by name.
- The same `send_group_msg` (`Random`, content) within five minutes is stored once. One with
  `To_Account`, for up to 50 members alone, has a sequence like others; who is named and is no member is left out.
  `send_group_msg` shares the group's rate with its members. `group_msg_get_simple` tells a message
  that was taken back by `IsPlaceMsg` 1, with `WithRecalledMsg` by 2: what it said is gone. Tips stand among messages
  (`IsSystemMsg` 1, no `From_Account`) and have sequences of their own. `delete_group_msg_by_sender` is a recall like
  others: devices are told at once. `set_unread_msg_num` sets at the most as many as there are, in meetings, too. Of live
  rooms no message is kept: they are in no file, and nothing there is recalled or read back.
- Live rooms: `get_members`, `check_members` and `modify_user_info` know whoever is there through the gateway that is
  called, as clients do who ask for members; `get_online_member_num` adds up all gateways. `Timestamp` and `NextTimestamp`
  of `get_members` count members, up to 10,000. Marks go when their user does; `modify_user_info` names those for whom
  it was done, and `Marks` below 1000 are refused. `send_broadcast_msg` reaches whoever is in any live room, as a
  message of no group; it is not kept, and has no `MsgSeq`.
- `modify_group_member_info`, and lists longer than one change takes (100 users, 20 bans), are several changes: what was
  done before one that is refused stands. An `Increase` that is repeated counts again.
- Import of groups: nobody is told, and nobody called back. A message of `import_group_msg` that was imported before
  (`Random`, `SendTime`, sender, content) is the same. One that is earlier than the group or its newest message, or in the
  future, has `Result` 10004; within one second they are taken as they come. Members who were imported before it have
  read it. A member sees what was sent from `JoinTime` on, and all of it without one; he is told nothing of it before
  something new is said.
- `Next` of `get_appid_group_list` follows from the time of groups' making; a page may be short, or hold one more.
- `getappinfo` has the figures that are kept: registrations, `LoginTimes`, `UpMsgNum`, `C2CUpMsgNum` and `GroupUpMsgNum`
  (messages sent by users and by the server), `GroupNewGroupNum`, `GroupDestroyGroupNum`, `GroupAllGroupNum`,
  `GroupJoinGroupTimes` and `GroupQuitGroupTimes` (of live rooms not those who are just gone), `CallBackReq` and
  `CallBackRsp`. Gateways add what they have counted every five seconds; what one has not added when it dies is missing.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_stands_twice() {
        let mut names: Vec<_> = ROWS.iter().map(|row| (row.service, row.command)).collect();
        let not_yet =
            NOT_YET.iter().flat_map(|(service, commands)| commands.iter().map(|command| (*service, *command)));
        names.extend(not_yet);
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn the_document_is_the_file_in_the_repository() {
        assert_eq!(include_str!("../../../API.md"), document(), "run `cargo run -p gateway -- api > API.md`");
    }
}
