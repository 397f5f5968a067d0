//! Messages of groups through the server API (CON-10).
//!
//! Goal: an application's server says something in a group, takes it back, changes and reads it, and learns who has
//! read it; members' devices hear all of that as from each other. Mechanics: calls beside clients. Without it nobody
//! could moderate a group, or speak to it in the application's name.

use bytes::Bytes;
use protocol::{
    command::Command,
    message::{Done, GroupType, Message, Priority, ReceiveOption, SendReceipts, event::What, group_push},
};
use serde_json::{Value, json};
use tests::{Api, Client, Gateway, MessageExt};

use super::api_messages::{import, text, with};

const SEND: &str = "group_open_http_svc/send_group_msg";
const RECALL: &str = "group_open_http_svc/group_msg_recall";
const READ: &str = "group_open_http_svc/group_msg_get_simple";
const MODIFY: &str = "openim/modify_group_msg";
const NOTIFY: &str = "group_open_http_svc/send_group_system_notification";
const OF_SENDER: &str = "group_open_http_svc/delete_group_msg_by_sender";
const READ_BY: &str = "group_open_http_svc/group_msg_receipt";
const RECEIPTS: &str = "group_open_http_svc/get_group_msg_receipt";
const DETAILS: &str = "group_open_http_svc/get_group_msg_receipt_detail";

fn said(group: &str, random: u32, words: &str) -> Value {
    json!({ "GroupId": group, "Random": random, "MsgBody": text(words) })
}

/// The next message of a member of the group or the application: tips and what tells of groups are passed over.
fn next_said(client: &mut Client) -> Message {
    loop {
        if let What::Message(message) = client.next_event()
            && !message.from.is_empty()
        {
            return message;
        }
    }
}

/// The message as it is after its next change.
fn next_changed(client: &mut Client) -> Message {
    loop {
        if let What::Changed(message) = client.next_event() {
            return message;
        }
    }
}

fn read(api: &Api, group: &str, more: Value) -> Value {
    api.ok(READ, with(json!({ "GroupId": group, "ReqMsgNumber": 20 }), more))
}

#[test]
fn con_10_grp_26_what_is_said_for_the_application_or_a_member_is_heard_by_all() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    gateway.login("zoe");
    let group = anna.create_group(GroupType::Work, &["ben"]);
    let answer = api.ok(SEND, said(&group, 1, "from the application"));
    assert_eq!(answer["MsgSeq"], 1);
    for client in [&mut anna, &mut ben] {
        let heard = next_said(client);
        assert_eq!(
            (heard.from.as_str(), heard.text().as_str(), heard.seq),
            ("administrator", "from the application", 1)
        );
    }
    let forged = with(
        said(&group, 2, "from anna"),
        json!({
            "From_Account": "anna", "CloudCustomData": "mine", "SendMsgControl": ["NoUnread"], "MsgPriority": "High",
            "GroupAtInfo": [{ "GroupAtAllFlag": 0, "GroupAt_Account": "ben" }, { "GroupAtAllFlag": 1 }],
            "OfflinePushInfo": { "PushFlag": 0, "Title": "a title" }, "SupportMessageExtension": 1,
            "ForbidCallbackControl": ["ForbidBeforeSendMsgCallback", "ForbidAfterSendMsgCallback"],
        }),
    );
    assert_eq!(api.ok(SEND, forged.clone())["MsgSeq"], 2);
    // The same once more is the same.
    assert_eq!(api.ok(SEND, forged)["MsgSeq"], 2);
    for client in [&mut anna, &mut ben] {
        let heard = next_said(client);
        let body = heard.decoded();
        assert_eq!((heard.from.as_str(), heard.seq, heard.exclude_from_unread), ("anna", 2, true));
        assert_eq!(heard.priority(), Priority::High);
        assert_eq!(body.offline_push.map(|push| push.title), Some("a title".into()));
        assert_eq!(
            (body.custom_data, body.mention_all, body.mentions),
            (Bytes::from_static(b"mine"), true, vec!["ben".to_owned()])
        );
    }
    assert_eq!(api.ok(SEND, with(said(&group, 3, "now or never"), json!({ "OnlineOnlyFlag": 1 })))["MsgSeq"], 0);
    assert_eq!(ben.next_online_message().text(), "now or never");
    assert_eq!(ben.send_to_group(&group, "three").expect("sent").seq, 3);
    for (wrong, code) in [
        (json!({ "GroupId": "nothing" }), 10010),
        (json!({ "Random": null }), 10004),
        (json!({ "MsgBody": null }), 10004),
        (json!({ "MsgBody": [] }), 10004),
        (json!({ "MsgBody": [{ "MsgType": "TIMWhat", "MsgContent": {} }] }), 10004),
        (json!({ "MsgPriority": "Highest" }), 10004),
        (json!({ "From_Account": "nobody" }), 10019),
        (json!({ "To_Account": ["ben", "nobody"] }), 10019),
        (json!({ "To_Account": ["zoe"] }), 10004), // no member
        (json!({ "To_Account": vec!["ben"; 51] }), 10004),
        (json!({ "To_Account": ["ben"], "GroupAtInfo": [{ "GroupAtAllFlag": 1 }] }), 10004),
        (json!({ "MsgBody": text(&"x".repeat(13_000)) }), 80002),
        (json!({ "GroupAtInfo": [{ "GroupAtAllFlag": 0 }] }), 10004),
    ] {
        assert_eq!(api.fails(SEND, with(said(&group, 9, "x"), wrong.clone())), code, "{wrong}");
    }
    // Whoever is muted, the application is not.
    api.ok("group_open_http_svc/modify_group_base_info", json!({ "GroupId": group, "MuteAllMember": "On" }));
    api.ok(SEND, said(&group, 10, "anyway"));
    gateway.kill().check_store();
}

#[test]
fn con_10_the_groups_rate_holds_for_the_application_too() {
    let gateway = Gateway::builder().more_settings(&json!({ "group_sends_per_second": 1 })).start();
    let api = gateway.api();
    let mut anna = gateway.login("anna");
    let (group, other) = (anna.create_group(GroupType::Work, &[]), anna.create_group(GroupType::Work, &[]));
    let code = |n: u32| api.call(SEND, &said(&group, n, "again"))["ErrorCode"].clone();
    let refused = (1..100).map(code).find(|code| *code != 0);
    assert_eq!(refused, Some(json!(10023)));
    api.ok(SEND, said(&other, 1, "elsewhere"));
    // What was refused left nothing.
    let kept = read(&api, &group, json!({}))["RspMsgList"].clone();
    let seqs: Vec<u64> = kept.as_array().expect("a list").iter().filter_map(|it| it["MsgSeq"].as_u64()).collect();
    assert!(seqs.iter().copied().eq((1..=seqs.len() as u64).rev()), "{seqs:?}");
}

#[test]
fn con_10_live_rooms_hear_the_application_and_keep_nothing() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let mut anna = gateway.login("anna");
    let room = anna.create_group(GroupType::Avchatroom, &[]);
    anna.join_group(&room).expect("in");
    assert_eq!(api.ok(SEND, said(&room, 1, "welcome"))["MsgSeq"], 1);
    assert_eq!(anna.next_room_message().text(), "welcome");
    assert_eq!(read(&api, &room, json!({}))["RspMsgList"], json!([]));
    let recalled = api.ok(RECALL, json!({ "GroupId": room, "MsgSeqList": [{ "MsgSeq": 1 }] }));
    assert_eq!(recalled["RecallRetList"], json!([{ "MsgSeq": 1, "RetCode": 10030 }]));
    api.ok(OF_SENDER, json!({ "GroupId": room, "Sender_Account": "administrator" }));
    assert_eq!(api.ok(SEND, said(&room, 1, "welcome"))["MsgSeq"], 1, "the same is the same here, too");
    let some = json!({ "GroupId": room, "Content": "x", "ToMembers_Account": ["anna"] });
    assert_eq!(api.fails(NOTIFY, some), 10004, "a room is told as a whole");
    api.ok(NOTIFY, json!({ "GroupId": room, "Content": "the show begins" }));
    let told = loop {
        if let group_push::What::Notification(told) = anna.next_group_push() {
            break told;
        }
    };
    assert_eq!((told.group, &told.content[..]), (room.clone(), &b"the show begins"[..]));
    let unread = json!({ "GroupId": room, "Member_Account": "anna", "UnreadMsgNum": 1 });
    api.ok("group_open_http_svc/set_unread_msg_num", unread); // as published: to no effect, and no error (GRP-15)
    assert_eq!(api.fails(DETAILS, json!({ "GroupId": room, "MsgSeq": 1 })), 10062);
    assert_eq!(api.fails(MODIFY, json!({ "GroupId": room, "MsgSeq": 1, "MsgBody": text("x") })), 10030);
}

#[test]
fn msg_05_msg_06_what_was_said_is_read_changed_and_taken_back() {
    let gateway = Gateway::builder().more_settings(&json!({ "recall_seconds": 0 })).start();
    let api = gateway.api();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    let group = anna.create_group(GroupType::Meeting, &[]);
    ben.join_group(&group).expect("in");
    for n in 1..=4 {
        let talker = if n % 2 == 0 { &mut anna } else { &mut ben };
        assert_eq!(talker.send_to_group(&group, &format!("m{n}")).expect("sent").seq, n);
    }
    let page = read(&api, &group, json!({ "ReqMsgNumber": 3 }));
    let texts = |page: &Value| -> Vec<String> {
        let list = page["RspMsgList"].as_array().expect("a list");
        list.iter().map(|it| it["MsgBody"][0]["MsgContent"]["Text"].as_str().unwrap_or("-").to_owned()).collect()
    };
    assert_eq!((texts(&page), &page["IsFinished"]), (vec!["m4".into(), "m3".into(), "m2".into()], &json!(0)));
    let page = read(&api, &group, json!({ "ReqMsgSeq": 1 }));
    assert_eq!((texts(&page), &page["IsFinished"]), (vec!["m1".into()], &json!(1)));
    let first = &page["RspMsgList"][0];
    assert_eq!((&first["From_Account"], &first["IsPlaceMsg"], &first["MsgSeq"]), (&json!("ben"), &json!(0), &json!(1)));
    assert_eq!((&first["MsgPriority"], &first["IsSystemMsg"]), (&json!(2), &json!(0)), "normal, and no tips");
    assert!(first["MsgRandom"].is_u64() && first["MsgTimeStamp"].is_u64());
    // More than there may be is as much as there may be; 0 is the newest.
    assert_eq!(texts(&read(&api, &group, json!({ "ReqMsgNumber": 1_000, "ReqMsgSeq": 0 }))).len(), 4);

    api.ok(MODIFY, json!({ "GroupId": group, "MsgSeq": 2, "MsgBody": text("better"), "CloudCustomData": "x" }));
    assert_eq!(next_changed(&mut ben).text(), "better");
    assert_eq!(api.fails(MODIFY, json!({ "GroupId": group, "MsgSeq": 99, "MsgBody": text("x") })), 10030);
    assert_eq!(api.fails(MODIFY, json!({ "GroupId": group, "MsgSeq": 2 })), 10004);

    let recalled = api
        .ok(RECALL, json!({ "GroupId": group, "MsgSeqList": [{ "MsgSeq": 3 }, { "MsgSeq": 99 }], "Reason": "rude" }));
    assert_eq!(recalled["RecallRetList"], json!([{ "MsgSeq": 3, "RetCode": 0 }, { "MsgSeq": 99, "RetCode": 10030 }]));
    let taken = next_changed(&mut ben);
    assert_eq!(taken.recalled.map(|it| it.reason), Some("rude".into()));
    let again = api.ok(RECALL, json!({ "GroupId": group, "MsgSeqList": [{ "MsgSeq": 3 }] }));
    assert_eq!(again["RecallRetList"][0]["RetCode"], 10032);
    assert_eq!(api.fails(MODIFY, json!({ "GroupId": group, "MsgSeq": 3, "MsgBody": text("x") })), 10032);
    for (with_recalled, place) in [(0, 1), (1, 2)] {
        let page = read(&api, &group, json!({ "ReqMsgSeq": 3, "WithRecalledMsg": with_recalled }));
        let taken = &page["RspMsgList"][0];
        assert_eq!((&taken["IsPlaceMsg"], &taken["MsgBody"]), (&json!(place), &json!([])));
    }
    // All that one member has said: devices are told.
    api.ok(OF_SENDER, json!({ "GroupId": group, "Sender_Account": "ben" }));
    assert!(next_changed(&mut ben).recalled.is_some_and(|it| it.by == "administrator"));
    assert_eq!(texts(&read(&api, &group, json!({}))), ["m4", "-", "better", "-"]);
    for (command, body, code) in [
        (RECALL, json!({ "GroupId": group, "MsgSeqList": [] }), 10004),
        (RECALL, json!({ "GroupId": "nothing", "MsgSeqList": [{ "MsgSeq": 1 }] }), 10010),
        (
            RECALL,
            json!({ "GroupId": group, "MsgSeqList": (1..=11).map(|n| json!({ "MsgSeq": n })).collect::<Vec<_>>() }),
            10004,
        ),
        (OF_SENDER, json!({ "GroupId": "nothing", "Sender_Account": "ben" }), 10010),
        (OF_SENDER, json!({ "GroupId": group }), 10004),
        (READ, json!({ "GroupId": group, "ReqMsgNumber": 0 }), 10004),
        (READ, json!({ "GroupId": group, "ReqMsgNumber": null }), 10004),
        (READ, json!({ "GroupId": "nothing", "ReqMsgNumber": 1 }), 10010),
    ] {
        assert_eq!(api.fails(command, body.clone()), code, "{command}: {body}");
    }
}

#[test]
fn con_10_what_the_application_has_said_is_changed_like_what_members_say() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    let group = anna.create_group(GroupType::Work, &["ben"]);
    api.ok(SEND, said(&group, 1, "from the application"));
    ben.send_to_group(&group, "ben's").expect("sent");
    ben.leave_group(&group).expect("left");
    for (seq, words) in [(1, "better"), (2, "ben's, as the application has it")] {
        api.ok(MODIFY, json!({ "GroupId": group, "MsgSeq": seq, "MsgBody": text(words) }));
        assert_eq!(next_changed(&mut anna).text(), words);
    }
    // Its custom data alone: what is said stays.
    api.ok(MODIFY, json!({ "GroupId": group, "MsgSeq": 1, "CloudCustomData": "more" }));
    let changed = next_changed(&mut anna);
    assert_eq!((changed.text().as_str(), &changed.decoded().custom_data[..]), ("better", &b"more"[..]));
    for (wrong, code) in [
        (json!({ "MsgSeq": null }), 10004),
        (json!({ "GroupId": "nothing" }), 10010),
        (json!({ "MsgBody": [] }), 10004),
        (json!({ "MsgBody": text(&"x".repeat(13_000)) }), 80002),
        // What tells of members is nobody's.
        (json!({ "MsgSeq": 3 }), 10007),
    ] {
        let asked = with(json!({ "GroupId": group, "MsgSeq": 1, "MsgBody": text("x") }), wrong.clone());
        assert_eq!(api.fails(MODIFY, asked), code, "{wrong}");
    }
}

#[test]
fn msg_07_who_has_read_a_message_is_told_name_by_name() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    import(&api, &["cleo", "dan", "eve"]);
    let group = anna.create_group(GroupType::Work, &["ben", "cleo", "dan"]);
    let asked = with(said(&group, 1, "have you read it?"), json!({ "From_Account": "anna", "NeedReadReceipt": 1 }));
    assert_eq!(api.ok(SEND, asked)["MsgSeq"], 1);
    assert_eq!(api.ok(SEND, said(&group, 2, "as you like"))["MsgSeq"], 2);
    assert!(next_said(&mut ben).need_receipt);
    let receipts = SendReceipts {
        conversation: Some(protocol::message::Conversation { group: group.clone(), ..Default::default() }),
        seqs: vec![1],
    };
    ben.call::<Done>(Command::SendReceipts, &receipts).expect("noted");
    // The application says it for a member.
    let read_by =
        |name: &str, seq: u64| json!({ "GroupId": group, "From_Account": name, "MsgSeqList": [{ "MsgSeq": seq }] });
    api.ok(READ_BY, read_by("dan", 1));
    api.ok(READ_BY, read_by("dan", 1));
    let told = loop {
        if let What::GroupReceipts(told) = anna.next_event()
            && told.read == 2
        {
            break told;
        }
    };
    assert_eq!((told.seq, told.unread), (1, 1), "its sender hears of it");
    let list = json!([{ "MsgSeq": 1 }, { "MsgSeq": 2 }, { "MsgSeq": 7 }]);
    let told = api.ok(RECEIPTS, json!({ "GroupId": group, "MsgSeqList": list }));
    let expected = json!([
        { "MsgSeq": 1, "ReadNum": 2, "UnreadNum": 1, "Code": 0 },
        { "MsgSeq": 2, "ReadNum": 0, "UnreadNum": 0, "Code": 10062 },
        { "MsgSeq": 7, "ReadNum": 0, "UnreadNum": 0, "Code": 10062 },
    ]);
    assert_eq!(told["GroupMsgReceiptList"], expected);
    let details = |more: Value| {
        api.ok(DETAILS, with(json!({ "GroupId": group, "MsgSeq": 1, "Count": 200, "Cursor": "", "Filter": 0 }), more))
    };
    let read = details(json!({}));
    assert_eq!(read["ReadList"], json!([{ "Read_Account": "ben" }, { "Read_Account": "dan" }]));
    assert_eq!((&read["UnreadList"], &read["IsFinish"], &read["Cursor"]), (&json!([]), &json!(1), &json!("")));
    assert_eq!((&read["MsgSeq"], &read["GroupId"]), (&json!(1), &json!(group)));
    let page = details(json!({ "Count": 1 }));
    assert_eq!((&page["ReadList"], &page["IsFinish"]), (&json!([{ "Read_Account": "ben" }]), &json!(0)));
    let page = details(json!({ "Count": 1, "Cursor": page["Cursor"] }));
    assert_eq!((&page["ReadList"], &page["IsFinish"]), (&json!([{ "Read_Account": "dan" }]), &json!(1)));
    let unread = details(json!({ "Filter": 1, "Count": 1_000 }));
    assert_eq!((&unread["UnreadList"], &unread["ReadList"]), (&json!([{ "Unread_Account": "cleo" }]), &json!([])));
    for (command, body, code) in [
        (DETAILS, json!({ "GroupId": group, "MsgSeq": 1, "Filter": 2 }), 10004),
        (DETAILS, json!({ "GroupId": group, "MsgSeq": 2 }), 10062),
        (DETAILS, json!({ "GroupId": group, "MsgSeq": 9 }), 10062),
        (DETAILS, json!({ "GroupId": "nothing", "MsgSeq": 1 }), 10010),
        (RECEIPTS, json!({ "GroupId": "nothing", "MsgSeqList": [{ "MsgSeq": 1 }] }), 10010),
        (RECEIPTS, json!({ "GroupId": group }), 10004),
        (READ_BY, read_by("eve", 1), 10007),
        (READ_BY, read_by("anna", 1), 10007),
        (READ_BY, read_by("dan", 2), 10004),
        (READ_BY, read_by("dan", 9), 10030),
        (READ_BY, json!({ "GroupId": group, "From_Account": "dan" }), 10004),
    ] {
        assert_eq!(api.fails(command, body.clone()), code, "{command}: {body}");
    }
}

#[test]
fn grp_15_unread_numbers_are_set_and_notifications_reach_whom_they_name() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    import(&api, &["cleo"]);
    let group = anna.create_group(GroupType::Work, &["ben"]);
    for n in 1..=5 {
        anna.send_to_group(&group, &format!("m{n}")).expect("sent");
    }
    let unread = |user: &str| {
        let asked = json!({ "Member_Account": user, "ResponseFilter": { "SelfInfoFilter": ["UnreadMsgNum"] } });
        api.ok("group_open_http_svc/get_joined_group_list", asked)["GroupIdList"][0]["SelfInfo"]["UnreadMsgNum"].clone()
    };
    assert_eq!(unread("ben"), 5);
    let set = |user: &str, number: u32| json!({ "GroupId": group, "Member_Account": user, "UnreadMsgNum": number });
    let command = "group_open_http_svc/set_unread_msg_num";
    for number in [2, 0, 3] {
        api.ok(command, set("ben", number));
        assert_eq!(unread("ben"), number);
    }
    // His devices learn of it, and what he reads is read.
    let state = loop {
        if let What::Conversation(changed) = ben.next_event() {
            break changed.state.expect("a state");
        }
    };
    assert_eq!(state.receive(), ReceiveOption::Notify);
    anna.send_to_group(&group, "m6").expect("sent");
    assert_eq!(unread("ben"), 4);
    api.ok(command, set("ben", 4_000_000_000));
    assert_eq!(unread("ben"), 6, "there are no more");
    assert_eq!(api.fails(command, set("cleo", 1)), 10019);
    assert_eq!(api.fails(command, json!({ "GroupId": group, "Member_Account": "ben" })), 10004);

    let told = |client: &mut Client| loop {
        if let What::GroupNotification(told) = client.next_event() {
            return String::from_utf8_lossy(&told.content).into_owned();
        }
    };
    api.ok(NOTIFY, json!({ "GroupId": group, "Content": "to all" }));
    api.ok(NOTIFY, json!({ "GroupId": group, "Content": "to ben", "ToMembers_Account": ["ben"] }));
    assert_eq!((told(&mut ben), told(&mut ben)), ("to all".into(), "to ben".into()));
    assert_eq!(told(&mut anna), "to all");
    assert_eq!(api.fails(NOTIFY, json!({ "GroupId": group, "Content": "x", "ToMembers_Account": ["cleo"] })), 10019);
    assert_eq!(api.fails(NOTIFY, json!({ "GroupId": group })), 10004);
}

#[test]
fn con_10_extensions_of_a_message_are_changed_and_read() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let mut anna = gateway.login("anna");
    let group = anna.create_group(GroupType::Work, &[]);
    anna.send_to_group(&group, "vote").expect("sent");
    let set = |seq: u64, kind: u32| {
        let list = json!([{ "Key": "yes", "Value": "1" }]);
        json!({ "GroupId": group, "MsgSeq": seq, "OperateType": kind, "ExtensionList": list })
    };
    let (write, get) = ("openim_msg_ext_http_svc/group_set_key_values", "openim_msg_ext_http_svc/group_get_key_values");
    let answer = api.ok(write, set(1, 1));
    assert_eq!(answer["ExtensionList"][0]["ErrorCode"], 0);
    let found = api.ok(get, json!({ "GroupId": group, "MsgSeq": 1, "StartSeq": 0 }));
    assert_eq!((&found["ExtensionList"][0]["Key"], &found["CompleteFlag"]), (&json!("yes"), &json!(1)));
    api.ok(write, set(1, 3));
    assert_eq!(api.ok(get, json!({ "GroupId": group, "MsgSeq": 1 }))["ExtensionList"], json!([]));
    assert_eq!(api.fails(write, set(9, 1)), 10030);
    assert_eq!(api.fails(write, json!({ "GroupId": group, "OperateType": 1 })), 10004);
}
