//! An application's own server is told what has happened in groups (CON-06).
//!
//! Goal: each thing comes once, with the published body, in the order of the group, also over a kill; what an
//! administrator does is told as his. Mechanics: as in `callbacks`. Without it an application's own copy of its groups
//! would be wrong.

use bytes::Bytes;
use protocol::{
    ErrorCode,
    command::Command,
    message::{
        Conversation, Done, ExtensionChange, GroupRole, GroupType, GroupUpdate, Recall, SendReceipts, SetExtensions,
        SetExtensionsReply, TransferGroup, UpdateGroup, UpdateGroupMember,
    },
};
use serde_json::{Value, json};
use tests::{Client, Gateway, Received, Receiver, Reply};

use super::api_messages::text;

const CREATED: &str = "Group.CallbackAfterCreateGroup";
const CHANGED: &str = "Group.CallbackAfterGroupInfoChanged";
const ENDED: &str = "Group.CallbackAfterGroupDestroyed";
const SAID: &str = "Group.CallbackAfterSendMsg";
const RECALLED: &str = "Group.CallbackAfterRecallMsg";
const READ: &str = "Group.CallbackAfterReadReceipt";
const JOINED: &str = "Group.CallbackAfterNewMemberJoin";
const EXITED: &str = "Group.CallbackAfterMemberExit";
const LOST: &str = "Group.CallbackOnMemberStateChange";
const OWNER: &str = "Group.CallbackAfterChangeGroupOwner";
const ATTRIBUTES: &str = "Group.CallbackAfterGroupAttrChanged";
const EXTENDED: &str = "Group.CallbackAfterGroupMsgExtension";
const EXTENDED_C2C: &str = "C2C.CallbackAfterC2CMsgExtension";
const FAILED: &str = "Group.CallbackSendMsgException";
const FULL: &str = "Group.CallbackAfterGroupFull";
const MEMBER: &str = "Group.CallbackAfterMemberFieldChanged";
const ALL: [&str; 16] = [
    CREATED,
    CHANGED,
    ENDED,
    SAID,
    RECALLED,
    READ,
    JOINED,
    EXITED,
    LOST,
    OWNER,
    ATTRIBUTES,
    EXTENDED,
    EXTENDED_C2C,
    FAILED,
    FULL,
    MEMBER,
];

/// The next thing that is told, without its command and times.
fn next(receiver: &Receiver, command: &str) -> Value {
    let Received { query, mut body, id, .. } = receiver.next();
    assert_eq!((query["CallbackCommand"].as_str(), &body["CallbackCommand"]), (command, &json!(command)), "{body}");
    assert!(id.is_some(), "what is told has an id");
    let fields = body.as_object_mut().expect("an object");
    assert!(fields.remove("EventTime").is_some_and(|time| time.is_u64()));
    fields.remove("CallbackCommand");
    fields.remove("MsgTime");
    fields.remove("Random");
    body
}

fn start() -> (Receiver, Gateway) {
    let receiver = Receiver::start();
    let mut settings = receiver.settings(&ALL);
    settings["group_custom_fields"] = json!(["colour"]);
    let gateway = Gateway::builder().more_settings(&settings).start();
    (receiver, gateway)
}

fn members(names: &[&str]) -> Value {
    names.iter().map(|name| json!({ "Member_Account": name })).collect()
}

fn said(group: &str, kind: &str, from: &str, seq: u64, words: &str) -> Value {
    json!({
        "GroupId": group, "Type": kind, "From_Account": from, "Operator_Account": from, "MsgSeq": seq,
        "OnlineOnlyFlag": 0, "MsgBody": text(words), "CloudCustomData": "",
    })
}

fn conversation(group: &str) -> Option<Conversation> {
    Some(Conversation { group: group.to_owned(), ..Conversation::default() })
}

fn update(client: &mut Client, group: &str, update: GroupUpdate) {
    let asked = UpdateGroup { group: group.to_owned(), update: Some(update) };
    client.call::<Done>(Command::UpdateGroup, &asked).expect("changed");
}

#[test]
fn con_06_a_groups_life_is_told_as_published_and_in_order() {
    let (receiver, gateway) = start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    let group = anna.create_group(GroupType::Public, &[]);
    let (name, kind) = ("Gardeners of Europe", "Public");
    let made = json!({
        "GroupId": group, "Type": kind, "Operator_Account": "anna", "Owner_Account": "anna", "Name": name,
        "MemberList": members(&["anna"]),
    });
    assert_eq!(next(&receiver, CREATED), made);
    let api = gateway.api();
    api.ok("group_open_http_svc/add_group_member", json!({ "GroupId": group, "MemberList": members(&["ben"]) }));
    let joined = next(&receiver, JOINED);
    assert_eq!((&joined["Operator_Account"], &joined["NewMemberList"]), (&json!("administrator"), &members(&["ben"])));
    let changed = GroupUpdate {
        notice: Some("water them".into()),
        muted_all: Some(true),
        custom: [("colour".to_owned(), "red".into())].into(),
        ..GroupUpdate::default()
    };
    update(&mut anna, &group, changed.clone());
    let told = json!({
        "GroupId": group, "Type": kind, "Operator_Account": "anna", "Notification": "water them", "MuteAllMember": "On",
        "UserDefinedDataList": [{ "Key": "colour", "Value": "red" }],
    });
    assert_eq!(next(&receiver, CHANGED), told);
    update(&mut anna, &group, changed); // nothing has changed by this
    update(&mut anna, &group, GroupUpdate { muted_all: Some(false), ..GroupUpdate::default() });
    assert_eq!(next(&receiver, CHANGED)["MuteAllMember"], "Off");
    let sent: protocol::message::SendReply = anna.send_to_group(&group, "read this").expect("sent");
    assert_eq!(next(&receiver, SAID), said(&group, kind, "anna", sent.seq, "read this"));
    let quiet = json!({ "GroupId": group, "Random": 1, "MsgBody": text("x"), "ForbidCallbackControl": ["ForbidAfterSendMsgCallback"] });
    api.ok("group_open_http_svc/send_group_msg", quiet);
    let asked = json!({ "GroupId": group, "Random": 2, "MsgBody": text("read?"), "From_Account": "anna", "IsNeedReadReceipt": 1 });
    let seq = api.ok("group_open_http_svc/send_group_msg", asked)["MsgSeq"].as_u64().expect("a number");
    let told = next(&receiver, SAID);
    assert_eq!(
        (&told["From_Account"], &told["Operator_Account"], &told["MsgSeq"]),
        (&json!("anna"), &json!("administrator"), &json!(seq))
    );
    let receipts = SendReceipts { conversation: conversation(&group), seqs: vec![seq] };
    for _ in 0..2 {
        ben.call::<Done>(Command::SendReceipts, &receipts).expect("noted");
    }
    let read = json!([{ "MsgSeq": seq, "ReadNum": 1, "UnreadNum": 0, "ReadReceiptMembers": members(&["ben"]) }]);
    assert_eq!(next(&receiver, READ), json!({ "GroupId": group, "Type": kind, "GroupMsgReceiptList": read }));
    let recall = Recall { conversation: conversation(&group), seq: sent.seq, ..Recall::default() };
    anna.call::<protocol::message::MessageReply>(Command::Recall, &recall).expect("recalled");
    let told =
        json!({ "GroupId": group, "Type": kind, "Operator_Account": "anna", "MsgSeqList": [{ "MsgSeq": sent.seq }] });
    assert_eq!(next(&receiver, RECALLED), told);
    let give = TransferGroup { group: group.clone(), user: "ben".into() };
    anna.call::<Done>(Command::TransferGroup, &give).expect("given");
    let told = json!({
        "GroupId": group, "Type": kind, "Operator_Account": "anna", "OldOwner_Account": "anna",
        "NewOwner_Account": "ben",
    });
    assert_eq!(next(&receiver, OWNER), told);
    anna.leave_group(&group).expect("out");
    assert_eq!(next(&receiver, EXITED)["ExitMemberList"], members(&["anna"]));
    api.ok("group_open_http_svc/destroy_group", json!({ "GroupId": group }));
    let ended = json!({
        "GroupId": group, "Type": kind, "Operator_Account": "administrator", "Owner_Account": "ben", "Name": name,
        "MemberList": members(&["ben"]),
    });
    assert_eq!(next(&receiver, ENDED), ended);
    // What is imported is told to nobody.
    api.ok(
        "group_open_http_svc/import_group",
        json!({ "Type": "Public", "Name": "Old", "GroupId": "old", "Owner_Account": "ben" }),
    );
    api.ok(
        "group_open_http_svc/import_group_msg",
        json!({ "GroupId": "old", "MsgList": [
        { "From_Account": "ben", "SendTime": 1_700_000_000, "Random": 1, "MsgBody": text("before") },
    ] }),
    );
    ben.create_group(GroupType::Work, &[]);
    assert_eq!(next(&receiver, CREATED)["Type"], "Private");
}

#[test]
fn con_06_who_comes_into_a_live_room_and_goes_is_told_and_what_is_said_there() {
    let (receiver, gateway) = start();
    let (mut host, mut anna) = (gateway.login("host"), gateway.login("anna"));
    let room = host.create_group(GroupType::Avchatroom, &[]);
    assert_eq!(next(&receiver, CREATED)["Type"], "AVChatRoom");
    anna.join_group(&room).expect("in");
    let joined = next(&receiver, JOINED);
    assert_eq!(
        (&joined["Type"], &joined["JoinType"], &joined["NewMemberList"]),
        (&json!("AVChatRoom"), &json!("Apply"), &members(&["anna"]))
    );
    anna.send_to_group(&room, "hello").expect("sent");
    assert_eq!(next(&receiver, SAID), said(&room, "AVChatRoom", "anna", 1, "hello"));
    anna.leave_group(&room).expect("out");
    assert_eq!(next(&receiver, EXITED)["ExitMemberList"], members(&["anna"]));
    anna.join_group(&room).expect("in");
    next(&receiver, JOINED);
    drop(anna);
    let lost = json!({ "GroupId": room, "EventType": "Offline", "MemberList": members(&["anna"]) });
    assert_eq!(next(&receiver, LOST), lost);
}

#[test]
fn con_06_what_was_not_told_is_told_after_a_kill_once_each_and_in_order() {
    let (receiver, gateway) = start();
    receiver.answer(|_| Reply::Status(503));
    let mut anna = gateway.login("anna");
    let group = anna.create_group(GroupType::Work, &[]);
    for n in 1..=20 {
        anna.send_to_group(&group, &format!("m{n}")).expect("sent");
    }
    let again = gateway.kill();
    receiver.answer(|_| Reply::ok());
    receiver.waiting();
    let _gateway = again.start();
    let mut told = Vec::new();
    while told.len() < 21 {
        let Received { body, id, .. } = receiver.next();
        let entry = (id.expect("an id"), body["MsgSeq"].as_u64().unwrap_or(0));
        if !told.contains(&entry) {
            told.push(entry);
        }
    }
    assert_eq!(told.iter().map(|(_, seq)| *seq).collect::<Vec<_>>(), (0..=20).collect::<Vec<_>>());
}

#[test]
fn con_06_attributes_and_extensions_are_told_as_published() {
    let (receiver, gateway) = start();
    let api = gateway.api();
    let mut anna = gateway.login("anna");
    let group = anna.create_group(GroupType::Public, &[]);
    next(&receiver, CREATED);
    let call = |command: &str, more: Value| {
        let mut body = json!({ "GroupId": group });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        api.ok(&format!("group_open_http_svc/{command}"), body);
    };
    let told = |how: &str, attributes: Value| {
        json!({
            "GroupId": group, "Type": "Public", "Operator_Account": "administrator", "OptionType": how,
            "GroupAttr": attributes,
        })
    };
    let one = json!([{ "key": "a", "value": "1" }]);
    call("modify_group_attr", json!({ "GroupAttr": one }));
    assert_eq!(next(&receiver, ATTRIBUTES), told("modify", one.clone()));
    call("set_group_attr", json!({ "GroupAttr": one }));
    assert_eq!(next(&receiver, ATTRIBUTES), told("set", one));
    call("delete_group_attr", json!({ "GroupAttr": [{ "key": "a" }] }));
    assert_eq!(next(&receiver, ATTRIBUTES), told("delete", json!([{ "key": "a", "value": "" }])));
    call("clear_group_attr", json!({}));
    assert_eq!(next(&receiver, ATTRIBUTES), told("clear", json!([])));
    let seq = anna.send_to_group(&group, "like it?").expect("sent").seq;
    next(&receiver, SAID);
    let change = |key: &str, version, remove| ExtensionChange {
        key: key.to_owned(),
        value: if remove { Bytes::new() } else { "1".into() },
        version,
        remove,
    };
    let mut set = |conversation: Option<Conversation>, seq, changes: Vec<ExtensionChange>| {
        let asked = SetExtensions { conversation, seq, changes };
        anna.call::<SetExtensionsReply>(Command::SetExtensions, &asked).expect("changed");
    };
    set(conversation(&group), seq, vec![change("ben", 0, false), change("cleo", 0, false)]);
    let list = json!([{ "Key": "ben", "Value": "1", "Seq": 1 }, { "Key": "cleo", "Value": "1", "Seq": 2 }]);
    let extended = json!({ "GroupId": group, "MsgSeq": seq, "OperateType": 1, "ExtensionList": list, "Seq": 2 });
    assert_eq!(next(&receiver, EXTENDED), extended);
    set(conversation(&group), seq, vec![change("ben", 1, true)]);
    let list = json!([{ "Key": "ben", "Value": "", "Seq": 3 }]);
    let extended = json!({ "GroupId": group, "MsgSeq": seq, "OperateType": 2, "ExtensionList": list, "Seq": 3 });
    assert_eq!(next(&receiver, EXTENDED), extended);
    let _ben = gateway.login("ben");
    let seq = anna.send("ben", "and this?").seq;
    let with = Some(Conversation { user: "ben".into(), ..Conversation::default() });
    let asked = SetExtensions { conversation: with, seq, changes: vec![change("x", 0, false)] };
    anna.call::<SetExtensionsReply>(Command::SetExtensions, &asked).expect("changed");
    let told = next(&receiver, EXTENDED_C2C);
    assert_eq!((&told["From_Account"], &told["To_Account"], &told["Seq"]), (&json!("anna"), &json!("ben"), &json!(1)));
    assert!(told["MsgKey"].as_str().is_some_and(|key| !key.is_empty()));
}

#[test]
fn con_06_messages_that_were_not_sent_to_a_group_are_told_with_why() {
    let (receiver, gateway) = start();
    let (mut anna, mut eve) = (gateway.login("anna"), gateway.login("eve"));
    let group = anna.create_group(GroupType::Public, &[]);
    next(&receiver, CREATED);
    eve.send_to_group(&group, "let me in").expect_err("she is not in it");
    let told = next(&receiver, FAILED);
    let expected = json!({
        "GroupId": group, "Type": "Public", "From_Account": "eve", "Operator_Account": "eve", "OnlineOnlyFlag": 0,
        "MsgBody": text("let me in"), "CloudCustomData": "", "ErrorCode": 10007, "ErrorInfo": told["ErrorInfo"],
    });
    assert_eq!(told, expected);
    assert!(told["ErrorInfo"].as_str().is_some_and(|text| !text.is_empty()));
    eve.send_to_group("nowhere", "hello?").expect_err("there is none");
    let told = next(&receiver, FAILED);
    assert_eq!((&told["GroupId"], &told["Type"], &told["ErrorCode"]), (&json!("nowhere"), &json!(""), &json!(10010)));
    // By the server API the administrator has asked for it.
    let asked = json!({ "GroupId": "nowhere", "Random": 7, "From_Account": "anna", "MsgBody": text("x") });
    gateway.api().fails("group_open_http_svc/send_group_msg", asked);
    let told = next(&receiver, FAILED);
    assert_eq!((&told["From_Account"], &told["Operator_Account"]), (&json!("anna"), &json!("administrator")));
}

#[test]
fn con_06_grp_01_that_a_group_is_full_is_told_with_the_last_who_comes_in_and_each_who_does_not() {
    let (receiver, gateway) = start();
    let api = gateway.api();
    let [mut anna, mut ben, mut cleo] = ["anna", "ben", "cleo"].map(|user| gateway.login(user));
    let group = anna.create_group(GroupType::Meeting, &[]);
    next(&receiver, CREATED);
    api.ok("group_open_http_svc/modify_group_base_info", json!({ "GroupId": group, "MaxMemberNum": 2 }));
    assert_eq!(next(&receiver, CHANGED)["MaxMemberNum"], 2);
    let full = json!({ "GroupId": group });
    ben.join_group(&group).expect("joined");
    assert_eq!(next(&receiver, JOINED)["NewMemberList"], members(&["ben"]));
    assert_eq!(next(&receiver, FULL), full);
    for _ in 0..2 {
        let refused = cleo.join_group(&group).expect_err("there is no room");
        assert_eq!(refused.code(), Some(ErrorCode::GROUP_FULL));
        assert_eq!(next(&receiver, FULL), full);
    }
    // So also if others bring him; and it is not full for ever.
    let add = json!({ "GroupId": group, "MemberList": members(&["cleo"]) });
    assert_eq!(api.fails("group_open_http_svc/add_group_member", add), 10014);
    assert_eq!(next(&receiver, FULL), full);
    ben.leave_group(&group).expect("left");
    next(&receiver, EXITED);
    api.ok("group_open_http_svc/modify_group_base_info", json!({ "GroupId": group, "MaxMemberNum": 3 }));
    next(&receiver, CHANGED);
    cleo.join_group(&group).expect("joined");
    next(&receiver, JOINED);
    anna.send_to_group(&group, "there is room for one more").expect("sent");
    next(&receiver, SAID);
}

#[test]
fn con_06_grp_09_grp_21_what_a_member_is_and_is_called_is_told_as_published() {
    let (receiver, gateway) = start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    let group = anna.create_group(GroupType::Meeting, &[]);
    next(&receiver, CREATED);
    ben.join_group(&group).expect("joined");
    next(&receiver, JOINED);
    let change = |client: &mut Client, role: Option<GroupRole>, card: Option<&str>| {
        let (group, user, role) = (group.clone(), "ben".to_owned(), role.map(i32::from));
        let asked =
            UpdateGroupMember { group, user, role, name_card: card.map(str::to_owned), ..UpdateGroupMember::default() };
        client.call::<Done>(Command::UpdateGroupMember, &asked)
    };
    let told = |by: &str, more: Value| {
        let mut body =
            json!({ "GroupId": group, "Type": "ChatRoom", "Operator_Account": by, "Modified_Account": "ben" });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    for (role, name) in [(GroupRole::Admin, "Admin"), (GroupRole::Member, "Member")] {
        change(&mut anna, Some(role), None).expect("changed");
        assert_eq!(next(&receiver, MEMBER), told("anna", json!({ "Role": name })));
        change(&mut anna, Some(role), None).expect("nothing has changed by this");
    }
    change(&mut ben, None, Some("Ben of the roses")).expect("changed");
    assert_eq!(next(&receiver, MEMBER), told("ben", json!({ "NameCard": "Ben of the roses" })));
    change(&mut ben, Some(GroupRole::Admin), Some("Ben the Great")).expect_err("he makes no administrators");
    // The last of them: none came between for what was refused, or has changed nothing.
    let both = json!({ "GroupId": group, "Member_Account": "ben", "Role": "Admin", "NameCard": "" });
    gateway.api().ok("group_open_http_svc/modify_group_member_info", both);
    assert_eq!(next(&receiver, MEMBER), told("administrator", json!({ "Role": "Admin", "NameCard": "" })));
}
