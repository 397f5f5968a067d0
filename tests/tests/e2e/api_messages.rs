//! Messages through the server API: sending, to many, importing (CON-10, TYPE-09, MSG-10).
//!
//! Goal: an application's server writes to its users, in its own name or in theirs, once, and past what users have
//! set against each other; with the published fields and codes. Mechanics: calls, and clients that receive.
//! Without it a repeated call could write twice, or an announcement not reach those who blacklist somebody.

use protocol::message::{UpdateConversation, element::Kind};
use serde_json::{Value, json};
use tests::{Api, Gateway, MessageExt};

pub(crate) const SEND: &str = "openim/sendmsg";
const SEND_MANY: &str = "openim/batchsendmsg";
const IMPORT: &str = "openim/importmsg";

/// A body with one text.
pub(crate) fn text(text: &str) -> Value {
    json!([{ "MsgType": "TIMTextElem", "MsgContent": { "Text": text } }])
}

/// Makes accounts.
pub(crate) fn import(api: &Api, users: &[&str]) {
    api.ok("im_open_login_svc/multiaccount_import", json!({ "Accounts": users }));
}

/// `one` with the fields of `other`.
pub(crate) fn with(mut one: Value, other: Value) -> Value {
    for (name, value) in other.as_object().expect("an object") {
        one[name] = value.clone();
    }
    one
}

pub(crate) fn now_s() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs()
}

#[test]
fn con_10_a_message_of_the_server_is_pushed_and_stored_once() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    let message = json!({
        "SyncOtherMachine": 1, "From_Account": "anna", "To_Account": "ben", "MsgSeq": 93847636, "MsgRandom": 1287657,
        "MsgBody": text("hi, beauty"), "CloudCustomData": "your cloud custom data",
        "OfflinePushInfo": { "PushFlag": 0, "Desc": "offline", "Ext": "{}", "AndroidInfo": { "Sound": "android.mp3" } },
    });
    let sent = api.ok(SEND, message.clone());
    assert_eq!(api.ok(SEND, message.clone())["MsgKey"], sent["MsgKey"], "the same again");
    let other = api.ok(SEND, with(message, json!({ "MsgRandom": 5 })));
    assert_ne!(other["MsgKey"], sent["MsgKey"]);
    assert!(sent["MsgKey"].as_str().expect("a key").starts_with("1_1287657_"), "{sent}");
    assert!(sent["MsgTime"].as_u64().expect("a time").abs_diff(now_s()) < 60);
    for client in [&mut ben, &mut anna] {
        let pushed = client.next_message();
        assert_eq!((pushed.from.as_str(), pushed.to.as_str(), pushed.text().as_str()), ("anna", "ben", "hi, beauty"));
        let push = pushed.decoded().offline_push.expect("an offline push");
        assert_eq!((push.text.as_str(), push.sound.as_str()), ("offline", "android.mp3"));
        assert_eq!(pushed.decoded().custom_data, "your cloud custom data");
        assert_eq!(client.next_message().seq, 2);
    }
    // In the administrator's own name, which needs no account.
    api.ok(SEND, json!({ "To_Account": "ben", "MsgRandom": "7", "MsgBody": text("from us") }));
    assert_eq!(ben.next_message().from, "administrator");
    assert_eq!(ben.conversation("anna").len(), 2);
}

#[test]
fn con_10_users_settings_against_each_other_do_not_bind_the_server() {
    let gateway = Gateway::builder().more_settings(&json!({ "friends_only": true })).start();
    let api = gateway.api();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    ben.blacklist(&["anna"], &[]).expect("blacklisted");
    let message =
        json!({ "From_Account": "anna", "To_Account": "ben", "MsgRandom": 1, "MsgBody": text("all the same") });
    api.ok(SEND, message.clone());
    drop(ben.next_event()); // the blacklist
    assert_eq!(ben.next_message().text(), "all the same");
    assert_eq!(anna.next_message().text(), "all the same");
    // Refused as a receive option: only where it is to be heeded.
    ben.update("anna", UpdateConversation { receive: Some(2), ..UpdateConversation::default() });
    let muted = json!({ "MsgRandom": 2, "MsgBody": text("unheard"), "SendMsgControl": ["WithMuteNotifications"] });
    api.ok(SEND, with(message.clone(), muted));
    api.ok(SEND, with(message, json!({ "MsgRandom": 3, "MsgBody": text("heard") })));
    drop(ben.next_event()); // the option
    assert_eq!(ben.next_message().text(), "heard");
}

#[test]
fn con_10_how_a_message_is_treated() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    let send = |random: u32, said: &str, more: Value| {
        let message =
            json!({ "From_Account": "anna", "To_Account": "ben", "MsgRandom": random, "MsgBody": text(said) });
        api.ok(SEND, with(message, more))
    };
    // MSG-10: now or never.
    let sent = send(1, "typing", json!({ "MsgLifeTime": 0 }));
    assert!(sent["MsgKey"].as_str().expect("a key").starts_with("0_1_"));
    assert_eq!(ben.next_online_message().text(), "typing");
    send(5, "still typing", json!({ "OnlineOnlyFlag": 1 }));
    assert_eq!(ben.next_online_message().text(), "still typing");
    send(2, "uncounted", json!({ "SendMsgControl": ["NoUnread", "NoLastMsg"], "MsgLifeTime": 604_800 }));
    send(3, "with receipt", json!({ "IsNeedReadReceipt": 1 }));
    send(4, "not for the sender", json!({ "SyncOtherMachine": 2 }));
    let received: Vec<_> = (0..3).map(|_| ben.next_message()).collect();
    assert!(received[0].exclude_from_unread && received[0].exclude_from_last_message);
    assert!(received[1].need_receipt);
    assert_eq!(ben.entry("anna").unread, 2);
    let own: Vec<_> = (0..2).map(|_| anna.next_message().text()).collect();
    assert_eq!(own, ["uncounted", "with receipt"]);
    assert_eq!(anna.conversation("ben").len(), 2, "the sender has not got the last one");
    assert_eq!(ben.conversation("anna").len(), 3);
    let builder = gateway.kill();
    builder.check_store();
}

#[test]
fn type_09_notifications_are_sent_by_servers_alone() {
    let gateway = Gateway::start();
    let mut ben = gateway.login("ben");
    let body = json!([{ "MsgType": "TIMNotificationElem", "MsgContent": { "Topic": "order", "Data": "{\"id\":7}" } }]);
    gateway.api().ok(SEND, json!({ "To_Account": "ben", "MsgRandom": 1, "MsgBody": body }));
    let received = ben.next_message();
    let Some(Kind::Notification(notification)) = &received.decoded().elements[0].kind else { panic!() };
    assert_eq!((notification.topic.as_str(), &notification.data[..]), ("order", &b"{\"id\":7}"[..]));
}

#[test]
fn type_11_a_merged_message_brings_its_content() {
    let gateway = Gateway::start();
    let mut ben = gateway.login("ben");
    let list = json!([{ "From_Account": "cleo", "MsgTimeStamp": 1_600_000_000, "MsgBody": text("inside") }]);
    let relay = json!({ "Title": "a talk", "MsgNum": 1, "AbstractList": ["cleo: inside"], "MsgList": list });
    let body = json!([{ "MsgType": "TIMRelayElem", "MsgContent": relay }]);
    gateway.api().ok(SEND, json!({ "To_Account": "ben", "MsgRandom": 1, "MsgBody": body }));
    let received = ben.next_message();
    let Some(Kind::Merged(merged)) = &received.decoded().elements[0].kind else { panic!() };
    let inside = ben.merged(&merged.content_id, 0).expect("its content").messages;
    assert_eq!((inside[0].from.as_str(), inside[0].text().as_str()), ("cleo", "inside"));
}

#[test]
fn con_10_each_wrong_field_has_its_code() {
    let gateway = Gateway::start();
    let api = gateway.api();
    import(&api, &["anna", "ben"]);
    let good = json!({ "From_Account": "anna", "To_Account": "ben", "MsgRandom": 1, "MsgBody": text("hi") });
    let long = text(&"x".repeat(13_000));
    let wrong_element = json!([{ "MsgType": "TIMTextElem", "MsgContent": { "Text": 1 } }]);
    for (wrong, code) in [
        (json!({ "To_Account": null }), 90003),
        (json!({ "To_Account": ["ben"] }), 90003),
        (json!({ "To_Account": "nobody" }), 90012),
        (json!({ "From_Account": "nobody" }), 90008),
        (json!({ "From_Account": 7 }), 90008),
        (json!({ "MsgRandom": null }), 90005),
        (json!({ "MsgRandom": "x" }), 90005),
        (json!({ "MsgTimeStamp": "x" }), 90006),
        (json!({ "MsgBody": null }), 90007),
        (json!({ "MsgBody": {} }), 90007),
        (json!({ "MsgBody": [] }), 90002),
        (json!({ "MsgBody": wrong_element }), 90010),
        (json!({ "MsgBody": [{ "MsgType": "TIMNothingElem", "MsgContent": {} }] }), 90010),
        (json!({ "MsgBody": text("") }), 90010),
        (json!({ "MsgLifeTime": 604_801 }), 90026),
        (json!({ "MsgLifeTime": "x" }), 90044),
        (json!({ "SyncOtherMachine": "x" }), 90031),
        (json!({ "MsgBody": long }), 93000),
    ] {
        assert_eq!(api.fails(SEND, with(good.clone(), wrong.clone())), code, "{wrong}");
    }
    api.ok(SEND, good);
}

#[test]
fn con_10_a_batch_reports_each_recipient() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let mut clients: Vec<_> = ["anna", "ben"].map(|user| gateway.login(user)).into();
    let message = json!({ "To_Account": ["anna", "ben"], "MsgRandom": 9, "MsgBody": text("to all") });
    let sent = api.ok(SEND_MANY, message.clone());
    assert!(sent["ErrorList"].is_null());
    assert!(sent["MsgTime"].as_u64().expect("a time").abs_diff(now_s()) < 60);
    for client in &mut clients {
        assert_eq!(client.next_message().text(), "to all");
    }
    // One key for all of them.
    let recall = json!({ "From_Account": "administrator", "To_Account": "ben", "MsgKey": sent["MsgKey"] });
    api.ok("openim/admin_msgwithdraw", recall);
    assert!(clients[1].next_changed().recalled.is_some());
    let some = with(message.clone(), json!({ "To_Account": ["anna", "nobody"], "MsgRandom": 10 }));
    let answer = api.call(SEND_MANY, &some);
    assert_eq!((&answer["ActionStatus"], &answer["ErrorCode"]), (&json!("SomeError"), &json!(0)));
    assert_eq!(answer["ErrorList"], json!([{ "To_Account": "nobody", "ErrorCode": 70107 }]));
    assert_eq!(clients[0].next_message().text(), "to all");
    let many: Vec<String> = (0..501).map(|n| n.to_string()).collect();
    assert_eq!(api.fails(SEND_MANY, with(message.clone(), json!({ "To_Account": many }))), 90011);
    assert_eq!(api.fails(SEND_MANY, with(message.clone(), json!({ "To_Account": [] }))), 90003);
    assert_eq!(api.fails(SEND_MANY, with(message, json!({ "MsgRandom": null }))), 90005);
}

#[test]
fn con_10_imported_history_is_there_and_nobody_is_told() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    let then_s = now_s() - 7_200;
    let old = json!({
        "SyncFromOldSystem": 2, "From_Account": "anna", "To_Account": "ben", "MsgSeq": 1, "MsgRandom": 1,
        "MsgTimeStamp": then_s, "MsgBody": text("long ago"),
    });
    api.ok(IMPORT, old.clone());
    // The same by its numbers and its time, whatever it says.
    api.ok(IMPORT, with(old.clone(), json!({ "MsgBody": text("told differently") })));
    let live =
        json!({ "SyncFromOldSystem": 5, "MsgRandom": 2, "MsgTimeStamp": now_s() - 60, "MsgBody": text("just now") });
    api.ok(IMPORT, with(old.clone(), live));
    assert_eq!(ben.next_message().text(), "just now", "the first that anybody is told of");
    assert_eq!(anna.next_message().text(), "just now");
    let history = ben.conversation("anna");
    let seen: Vec<_> = history.iter().map(|message| (message.text(), message.time_ms / 1000 <= then_s)).collect();
    assert_eq!(seen, [("long ago".to_owned(), true), ("just now".to_owned(), false)]);
    assert_eq!(ben.entry("anna").unread, 1);
    for (wrong, code) in [
        (json!({ "SyncFromOldSystem": 3 }), 20001),
        (json!({ "MsgTimeStamp": null }), 90006),
        (json!({ "From_Account": null }), 90008),
        (json!({ "To_Account": "nobody" }), 90012),
        (json!({ "MsgBody": null }), 90007),
    ] {
        assert_eq!(api.fails(IMPORT, with(old.clone(), wrong.clone())), code, "{wrong}");
    }
    let gateway = gateway.restart();
    assert_eq!(gateway.login("ben").conversation("anna").len(), 2);
    gateway.kill().check_store();
}
