//! What was sent, through the server API: reading it back, recalling, changing, marking as read, extensions.
//!
//! Goal: an application's server finds every message by its `MsgKey`, whoever sent it, and what it changes reaches
//! the devices of both sides. Mechanics: messages of clients and of calls, mixed. Without it moderation would not
//! reach what users see.

use serde_json::{Value, json};
use tests::{Api, Gateway, MessageExt};

use super::api_messages::{SEND, import, now_s, text, with};

const ROAM: &str = "openim/admin_getroammsg";
const WITHDRAW: &str = "openim/admin_msgwithdraw";
const MODIFY: &str = "openim/modify_c2c_msg";
const READ: &str = "openim/admin_set_msg_read";
const UNREAD: &str = "openim/get_c2c_unread_msg_num";
const SET_KEYS: &str = "openim_msg_ext_http_svc/set_key_values";
const GET_KEYS: &str = "openim_msg_ext_http_svc/get_key_values";

/// A page of the conversation of anna with ben, from her side.
fn roam(api: &Api, count: u64, more: Value) -> Value {
    let asked = json!({
        "Operator_Account": "anna", "Peer_Account": "ben", "MaxCnt": count, "MinTime": 1, "MaxTime": now_s() + 60,
    });
    api.ok(ROAM, with(asked, more))
}

fn texts(page: &Value) -> Vec<&str> {
    let list = page["MsgList"].as_array().expect("a list");
    list.iter().map(|message| message["MsgBody"][0]["MsgContent"]["Text"].as_str().unwrap_or("")).collect()
}

#[test]
fn msg_05_a_conversation_is_read_back_page_by_page_newest_first() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    for n in 1..=3 {
        anna.send("ben", &format!("a{n}"));
        ben.send("anna", &format!("b{n}"));
    }
    let first = roam(&api, 4, json!({}));
    assert_eq!(texts(&first), ["b3", "a3", "b2", "a2"]);
    assert_eq!((&first["Complete"], &first["MsgCnt"]), (&json!(0), &json!(4)));
    let last = &first["MsgList"][3];
    assert_eq!((&first["LastMsgKey"], &first["LastMsgTime"]), (&last["MsgKey"], &last["MsgTimeStamp"]));
    assert_eq!(
        (&last["From_Account"], &last["To_Account"], &last["MsgSeq"]),
        (&json!("anna"), &json!("ben"), &json!(3))
    );
    let next = json!({ "LastMsgKey": first["LastMsgKey"], "MaxTime": first["LastMsgTime"] });
    let second = roam(&api, 4, next);
    assert_eq!((texts(&second), &second["Complete"]), (vec!["b1", "a1"], &json!(1)));
    assert_eq!(texts(&roam(&api, 9, json!({ "MaxTime": 1 }))), [""; 0]);
    assert_eq!(texts(&roam(&api, 9, json!({ "MinTime": now_s() + 60 }))), [""; 0]);
    // As that user sees it.
    anna.delete("ben", &[1, 6]).expect("deleted");
    assert_eq!(texts(&roam(&api, 9, json!({}))), ["a3", "b2", "a2", "b1"]);
    let others =
        json!({ "From_Account": "ben", "To_Account": "anna", "MaxCnt": 9, "MinTime": 1, "MaxTime": now_s() + 60 });
    assert_eq!(texts(&api.ok(ROAM, others.clone())).len(), 6);
    assert_eq!(api.fails(ROAM, with(others.clone(), json!({ "From_Account": null }))), 90008);
    assert_eq!(api.fails(ROAM, with(others.clone(), json!({ "To_Account": null }))), 90003);
    assert_eq!(api.fails(ROAM, with(others.clone(), json!({ "MaxCnt": null }))), 20001);
    assert_eq!(api.fails(ROAM, with(others, json!({ "LastMsgKey": "1_2" }))), 90054);
}

#[test]
fn msg_06_any_message_is_recalled_at_any_time() {
    let gateway = Gateway::builder().more_settings(&json!({ "recall_seconds": 0 })).start();
    let api = gateway.api();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    anna.send("ben", "regretted");
    ben.next_message();
    let key = roam(&api, 1, json!({}))["MsgList"][0]["MsgKey"].clone();
    let recall = json!({ "From_Account": "anna", "To_Account": "ben", "MsgKey": key });
    api.ok(WITHDRAW, recall.clone());
    for client in [&mut anna, &mut ben] {
        let changed = client.next_changed();
        assert_eq!((changed.recalled.expect("recalled").by.as_str(), changed.body.len()), ("anna", 0));
    }
    assert_eq!(roam(&api, 1, json!({}))["MsgList"][0]["MsgFlagBits"], 8);
    assert_eq!(api.fails(WITHDRAW, recall.clone()), 20023);
    let key = key.as_str().expect("a key").to_owned();
    for (wrong, code) in [
        (json!({ "MsgKey": format!("1{key}") }), 20022),
        (json!({ "MsgKey": key.replacen("_", "_1", 1) }), 20022),
        (json!({ "From_Account": "ben", "To_Account": "anna" }), 20022),
        (json!({ "MsgKey": "nonsense" }), 90054),
        (json!({ "MsgKey": null }), 90054),
        (json!({ "To_Account": null }), 90003),
        (json!({ "From_Account": 1 }), 90008),
    ] {
        assert_eq!(api.fails(WITHDRAW, with(recall.clone(), wrong.clone())), code, "{wrong}");
    }
}

#[test]
fn con_10_a_changed_message_arrives_as_changed() {
    let gateway = Gateway::builder().more_settings(&json!({ "edit_seconds": 1 })).start();
    let api = gateway.api();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    let sent = json!({ "From_Account": "anna", "To_Account": "ben", "MsgRandom": 1, "MsgBody": text("before"), "CloudCustomData": "kept" });
    let key = api.ok(SEND, sent)["MsgKey"].clone();
    ben.next_message();
    anna.next_message();
    ben.blacklist(&["anna"], &[]).expect("blacklisted");
    drop(ben.next_event());
    let change = json!({ "From_Account": "anna", "To_Account": "ben", "MsgKey": key });
    api.ok(MODIFY, with(change.clone(), json!({ "MsgBody": text("after") })));
    for client in [&mut anna, &mut ben] {
        let changed = client.next_changed();
        assert_eq!((changed.text().as_str(), &changed.decoded().custom_data[..]), ("after", &b"kept"[..]));
        assert!(changed.edited_ms > 0);
    }
    api.ok(MODIFY, with(change.clone(), json!({ "CloudCustomData": "new" })));
    let changed = ben.next_changed();
    assert_eq!((changed.text().as_str(), &changed.decoded().custom_data[..]), ("after", &b"new"[..]));
    assert_eq!(api.fails(MODIFY, change.clone()), 90007);
    assert_eq!(api.fails(MODIFY, with(change.clone(), json!({ "MsgBody": [] }))), 90002);
    assert_eq!(api.fails(MODIFY, with(change.clone(), json!({ "MsgBody": text(""), "MsgKey": key }))), 90010);
    assert_eq!(api.fails(MODIFY, with(change.clone(), json!({ "MsgBody": text("x"), "MsgKey": "9_9_9" }))), 20022);
    api.ok(WITHDRAW, change.clone());
    assert_eq!(api.fails(MODIFY, with(change, json!({ "MsgBody": text("x") }))), 20023);
}

#[test]
fn msg_07_unread_messages_are_counted_and_marked_as_read() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let (mut anna, mut ben, mut cleo) = (gateway.login("anna"), gateway.login("ben"), gateway.login("cleo"));
    for _ in 0..3 {
        anna.send("ben", "read this");
    }
    cleo.send("ben", "and this");
    assert_eq!(api.ok(UNREAD, json!({ "To_Account": "ben" }))["AllC2CUnreadMsgNum"], 4);
    let answer = api.ok(UNREAD, json!({ "To_Account": "ben", "Peer_Account": ["anna", "cleo", "nobody"] }));
    let expected = json!([
        { "Peer_Account": "anna", "C2CUnreadMsgNum": 3 },
        { "Peer_Account": "cleo", "C2CUnreadMsgNum": 1 },
    ]);
    assert_eq!(answer["C2CUnreadMsgNumList"], expected);
    assert_eq!(answer["ErrorList"], json!([{ "Peer_Account": "nobody", "ErrorCode": 70107 }]));
    api.ok(READ, json!({ "Report_Account": "ben", "Peer_Account": "anna", "MsgReadTime": (now_s() - 60).to_string() }));
    assert_eq!(ben.entry("anna").unread, 3, "nothing is as old");
    api.ok(READ, json!({ "Report_Account": "ben", "Peer_Account": "anna" }));
    assert_eq!(ben.entry("anna").unread, 0);
    assert_eq!(anna.entry("ben").peer_read_seq, 3);
    api.ok(READ, json!({ "Report_Account": "ben", "Peer_Account": "cleo", "MsgReadTime": now_s() + 60 }));
    assert_eq!(api.ok(UNREAD, json!({ "To_Account": "ben" }))["AllC2CUnreadMsgNum"], 0);
    assert_eq!(api.fails(READ, json!({ "Report_Account": "nobody", "Peer_Account": "anna" })), 90008);
    assert_eq!(api.fails(READ, json!({ "Report_Account": "ben", "Peer_Account": "nobody" })), 90003);
    assert_eq!(api.fails(READ, json!({ "Report_Account": "ben" })), 90003);
    assert_eq!(api.fails(UNREAD, json!({})), 90003);
    assert_eq!(api.fails(UNREAD, json!({ "To_Account": "ben", "Peer_Account": vec!["anna"; 11] })), 90018);
}

#[test]
fn con_10_extensions_are_set_read_removed_and_cleared() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let mut ben = gateway.login("ben");
    import(&api, &["anna"]);
    let sent = json!({ "From_Account": "anna", "To_Account": "ben", "MsgRandom": 1, "MsgBody": text("vote") });
    let key = api.ok(SEND, sent)["MsgKey"].clone();
    ben.next_message();
    let named = json!({ "From_Account": "anna", "To_Account": "ben", "MsgKey": key });
    let set = |operate: u32, list: Value| with(named.clone(), json!({ "OperateType": operate, "ExtensionList": list }));
    let pairs = json!([{ "Key": "k1", "Value": "v1", "Seq": 0 }, { "Key": "k2", "Value": "v2" }]);
    let answer = api.ok(SET_KEYS, set(1, pairs));
    assert_eq!((&answer["LatestSeq"], &answer["ExtensionList"][1]["ErrorCode"]), (&json!(2), &json!(0)));
    // Of a client, with which the server does not compete.
    ben.set_extensions("anna", 1, vec![tests::add_extension("k3", b"v3", 0)]).expect("set");
    api.ok(SET_KEYS, set(1, json!([{ "Key": "k3", "Value": "ours" }])));
    let answer = api.ok(GET_KEYS, named.clone());
    let expected = json!([
        { "Key": "k1", "Value": "v1", "Seq": 1 }, { "Key": "k2", "Value": "v2", "Seq": 2 }, { "Key": "k3", "Value": "ours", "Seq": 4 },
    ]);
    assert_eq!(
        (&answer["ExtensionList"], &answer["CompleteFlag"], &answer["LatestSeq"]),
        (&expected, &json!(1), &json!(4))
    );
    let since = api.ok(GET_KEYS, with(named.clone(), json!({ "StartSeq": 3 })));
    assert_eq!(since["ExtensionList"].as_array().expect("a list").len(), 1);
    api.ok(SET_KEYS, set(2, json!([{ "Key": "k1", "Value": "" }])));
    assert_eq!(api.ok(GET_KEYS, named.clone())["ExtensionList"].as_array().expect("a list").len(), 2);
    api.ok(SET_KEYS, with(named.clone(), json!({ "OperateType": 3 })));
    assert_eq!(api.ok(GET_KEYS, named.clone())["ExtensionList"], json!([]));
    assert_eq!(api.fails(SET_KEYS, set(4, json!([]))), 20001);
    assert_eq!(api.fails(SET_KEYS, set(1, json!([]))), 20001);
    assert_eq!(api.fails(SET_KEYS, set(1, json!([{ "Key": "k", "Value": "v".repeat(1_001) }]))), 20001);
    assert_eq!(api.fails(GET_KEYS, with(named.clone(), json!({ "MsgKey": "8_8_8" }))), 20022);
    assert_eq!(api.fails(GET_KEYS, with(named, json!({ "MsgKey": "8" }))), 90054);
}
