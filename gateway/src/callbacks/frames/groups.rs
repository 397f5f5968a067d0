//! Bodies of requests about groups.

use backend::{
    domain::{
        AppId, Error, GroupId,
        callbacks::{
            AttributesChange, CallbackCommand, GroupAttributesChanged, GroupChanged, GroupExited, GroupFull,
            GroupJoined, GroupMade, GroupMemberChanged, GroupOwnerChanged, GroupRead, GroupSaid, GroupSendFailed,
            ReadNumbers, RoomLost,
        },
        groups::{
            read::{self, Asker},
            table,
        },
    },
    store::Store,
};
use bytes::Bytes;
use prost::Message as _;
use protocol::message::{GroupRole, GroupType, Message};
use serde_json::{Value, json};

use super::put_body;
use crate::api::{
    groups::words::{self, type_name},
    msg_key::random_of,
};

fn accounts(users: &[String]) -> Value {
    users.iter().map(|user| json!({ "Member_Account": user })).collect()
}

pub fn joined(joined: &GroupJoined, time_ms: u64) -> Value {
    json!({
        "CallbackCommand": CallbackCommand::AfterGroupJoin.name(),
        "GroupId": joined.group,
        "Type": type_name(joined.kind),
        "JoinType": if joined.is_invited { "Invited" } else { "Apply" },
        "Operator_Account": joined.by,
        "NewMemberList": accounts(&joined.users),
        "EventTime": time_ms,
    })
}

pub fn exited(exited: &GroupExited, time_ms: u64) -> Value {
    json!({
        "CallbackCommand": CallbackCommand::AfterGroupExit.name(),
        "GroupId": exited.group,
        "Type": type_name(exited.kind),
        "ExitType": if exited.is_removed { "Kicked" } else { "Quit" },
        "Operator_Account": exited.by,
        "ExitMemberList": accounts(&exited.users),
        "EventTime": time_ms,
    })
}

pub fn full(full: &GroupFull, time_ms: u64) -> Value {
    json!({
        "CallbackCommand": CallbackCommand::AfterGroupFull.name(),
        "GroupId": full.group,
        "EventTime": time_ms,
    })
}

pub fn member_changed(changed: &GroupMemberChanged, time_ms: u64) -> Value {
    let mut frame = json!({
        "CallbackCommand": CallbackCommand::AfterGroupMember.name(),
        "GroupId": changed.group,
        "Type": type_name(changed.kind),
        "Operator_Account": changed.by,
        "Modified_Account": changed.user,
        "EventTime": time_ms,
    });
    if let Some(role) = changed.role {
        let is_admin = role == i32::from(GroupRole::Admin);
        frame["Role"] = if is_admin { "Admin" } else { "Member" }.into();
    }
    if let Some(name_card) = &changed.name_card {
        frame["NameCard"] = name_card.as_str().into();
    }
    frame
}

pub fn made(command: CallbackCommand, made: &GroupMade, time_ms: u64) -> Value {
    json!({
        "CallbackCommand": command.name(),
        "GroupId": made.group,
        "Type": type_name(made.kind),
        "Operator_Account": made.by,
        "Owner_Account": made.owner,
        "Name": made.name,
        "MemberList": accounts(&made.users),
        "EventTime": time_ms,
    })
}

/// A field as it is published.
type Publish = fn(&Bytes, &table::Rules) -> Value;

/// Fields of a group: as tips name them, as they are published, and whether they are texts.
const FIELDS: [(&str, &str, Publish); 8] = [
    ("name", "Name", text),
    ("introduction", "Introduction", text),
    ("notice", "Notification", text),
    ("image_url", "FaceUrl", text),
    ("join_option", "ApplyJoinOption", join_option),
    ("muted_all", "MuteAllMember", on_off),
    ("member_max", "MaxMemberNum", number),
    ("searchable", "Searchable", number),
];

fn text(value: &Bytes, _: &table::Rules) -> Value {
    words_of(value)
}

fn words_of(value: &Bytes) -> Value {
    String::from_utf8_lossy(value).into()
}

fn number(value: &Bytes, _: &table::Rules) -> Value {
    std::str::from_utf8(value).ok().and_then(|digits| digits.parse::<u64>().ok()).unwrap_or(0).into()
}

fn on_off(value: &Bytes, _: &table::Rules) -> Value {
    if value[..] == *b"1" { "On" } else { "Off" }.into()
}

fn join_option(value: &Bytes, rules: &table::Rules) -> Value {
    let option = number(value, rules).as_i64().and_then(|option| i32::try_from(option).ok()).unwrap_or_default();
    words::join_option_name(option, rules).into()
}

pub fn changed(changed: &GroupChanged, time_ms: u64) -> Value {
    let mut frame = json!({
        "CallbackCommand": CallbackCommand::AfterGroupInfo.name(),
        "GroupId": changed.group,
        "Type": type_name(changed.kind),
        "Operator_Account": changed.by,
        "EventTime": time_ms,
    });
    let kind = GroupType::try_from(changed.kind).unwrap_or_default();
    let rules = table::rules(kind).unwrap_or(&table::TABLE[0]);
    for (name, published, told) in FIELDS {
        if let Some(value) = changed.changed.get(name) {
            frame[published] = told(value, rules);
        }
    }
    let custom = changed.changed.iter().filter_map(|(name, value)| Some((name.strip_prefix("custom.")?, value)));
    let custom: Vec<Value> = custom.map(|(name, value)| json!({ "Key": name, "Value": words_of(value) })).collect();
    if !custom.is_empty() {
        frame["UserDefinedDataList"] = custom.into();
    }
    frame
}

/// `None`: the entry can't be read.
pub fn said(said: &GroupSaid, time_ms: u64) -> Option<Value> {
    let message = Message::decode(said.message.clone()).ok()?;
    let mut frame = json!({
        "CallbackCommand": CallbackCommand::AfterGroupSend.name(),
        "GroupId": message.group,
        "Type": type_name(said.kind),
        "From_Account": message.from,
        "Operator_Account": said.by,
        "Random": random_of(&message.client_message_id),
        "MsgSeq": message.seq,
        "MsgTime": message.time_ms / 1000,
        "OnlineOnlyFlag": u8::from(message.seq == 0),
        "EventTime": time_ms,
    });
    put_body(&mut frame, &message.body);
    Some(frame)
}

/// The same.
pub fn recalled(recalled: &GroupSaid, time_ms: u64) -> Option<Value> {
    let message = Message::decode(recalled.message.clone()).ok()?;
    Some(json!({
        "CallbackCommand": CallbackCommand::AfterGroupRecall.name(),
        "GroupId": message.group,
        "Type": type_name(recalled.kind),
        "Operator_Account": recalled.by,
        "MsgSeqList": [{ "MsgSeq": message.seq }],
        "EventTime": time_ms,
    }))
}

pub fn read(read: &GroupRead, time_ms: u64) -> Value {
    let receipt = |numbers: &ReadNumbers| {
        json!({
            "MsgSeq": numbers.seq, "ReadNum": numbers.read, "UnreadNum": numbers.unread,
            "ReadReceiptMembers": [{ "Member_Account": read.user }],
        })
    };
    json!({
        "CallbackCommand": CallbackCommand::AfterGroupReceipt.name(),
        "GroupId": read.group,
        "Type": type_name(read.kind),
        "GroupMsgReceiptList": read.read.iter().map(receipt).collect::<Vec<_>>(),
        "EventTime": time_ms,
    })
}

pub fn lost(lost: &RoomLost, time_ms: u64) -> Value {
    json!({
        "CallbackCommand": CallbackCommand::RoomState.name(),
        "GroupId": lost.group,
        "EventType": "Offline",
        "MemberList": [{ "Member_Account": lost.user }],
        "EventTime": time_ms,
    })
}

pub fn attributes(changed: &GroupAttributesChanged, time_ms: u64) -> Value {
    let how = match changed.how() {
        AttributesChange::Modified => "modify",
        AttributesChange::Set => "set",
        AttributesChange::Deleted => "delete",
        AttributesChange::Cleared => "clear",
    };
    let told = changed.attributes.iter().map(|(key, value)| json!({ "key": key, "value": words_of(value) }));
    json!({
        "CallbackCommand": CallbackCommand::AfterGroupAttributes.name(),
        "GroupId": changed.group,
        "Type": type_name(changed.kind),
        "Operator_Account": changed.by,
        "OptionType": how,
        "GroupAttr": told.collect::<Vec<_>>(),
        "EventTime": time_ms,
    })
}

pub fn owner(changed: &GroupOwnerChanged, time_ms: u64) -> Value {
    json!({
        "CallbackCommand": CallbackCommand::AfterGroupOwner.name(),
        "GroupId": changed.group,
        "Type": type_name(changed.kind),
        "Operator_Account": changed.by,
        "OldOwner_Account": changed.old,
        "NewOwner_Account": changed.new,
        "EventTime": time_ms,
    })
}

/// A message that was refused. What type its group is of is looked up now; empty: there is none.
pub async fn send_failed(
    store: &Store,
    app: AppId,
    failed: &GroupSendFailed,
    time_ms: u64,
) -> Result<Option<Value>, Error> {
    let Ok(message) = Message::decode(failed.message.clone()) else { return Ok(None) };
    let Some(group) = GroupId::new(&message.group) else { return Ok(None) };
    let found = read::groups(store, app, Asker::Admin, vec![group]).await?.pop();
    let kind = found.and_then(Result::ok).map_or("", |(group, _)| type_name(group.r#type));
    let mut frame = json!({
        "CallbackCommand": CallbackCommand::GroupSendFailed.name(),
        "GroupId": message.group,
        "Type": kind,
        "From_Account": message.from,
        "Operator_Account": failed.by,
        "Random": random_of(&message.client_message_id),
        "OnlineOnlyFlag": u32::from(failed.online_only),
        "ErrorCode": failed.code,
        "ErrorInfo": failed.text,
        "EventTime": time_ms,
    });
    put_body(&mut frame, &message.body);
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn con_06_who_came_and_went_is_told_in_published_words() {
        let users = vec!["a".to_owned(), "b".to_owned()];
        let (group, by) = ("g".to_owned(), "c".to_owned());
        let kind = GroupType::Meeting.into();
        let came = GroupJoined { group: group.clone(), kind, by: by.clone(), users: users.clone(), is_invited: true };
        assert_eq!(
            joined(&came, 7),
            json!({
                "CallbackCommand": "Group.CallbackAfterNewMemberJoin", "GroupId": "g", "Type": "ChatRoom",
                "JoinType": "Invited", "Operator_Account": "c",
                "NewMemberList": [{ "Member_Account": "a" }, { "Member_Account": "b" }], "EventTime": 7,
            })
        );
        let went = GroupExited { group: group.clone(), kind, by: by.clone(), users, is_removed: false };
        assert_eq!(exited(&went, 7)["ExitType"], "Quit");
        let role = Some(GroupRole::Member.into());
        let changed = GroupMemberChanged { group, kind, by, user: "a".into(), role, name_card: None };
        let frame = member_changed(&changed, 7);
        assert_eq!((frame["Role"].as_str(), frame.get("NameCard")), (Some("Member"), None));
    }
}
