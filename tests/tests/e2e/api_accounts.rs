//! Accounts and presence through the server API (ACC-01 to ACC-05).
//!
//! Goal: an application's server makes accounts, asks about them and throws users out, with the published fields
//! and codes. Mechanics: calls beside clients over the protocol. Without it users could not write to those who
//! have not logged in yet, and a banned user stay.

use protocol::{ErrorCode, message::Platform};
use serde_json::{Value, json};
use tests::{Gateway, MessageExt, Options, eventually, text_body};

const IMPORT: &str = "im_open_login_svc/account_import";
const IMPORT_MANY: &str = "im_open_login_svc/multiaccount_import";
const DELETE: &str = "im_open_login_svc/account_delete";
const CHECK: &str = "im_open_login_svc/account_check";
const KICK: &str = "im_open_login_svc/kick";
const STATUS: &str = "openim/query_online_status";

/// Which accounts are said to exist.
fn statuses(answer: &Value) -> Vec<&str> {
    let items = answer["ResultItem"].as_array().expect("results");
    items.iter().map(|item| item["AccountStatus"].as_str().expect("a status")).collect()
}

#[test]
fn acc_01_imported_accounts_can_be_written_to_before_they_log_in() {
    let gateway = Gateway::start();
    let api = gateway.api();
    for _ in 0..2 {
        api.ok(IMPORT, json!({ "UserID": "ben", "Nick": "Ben", "FaceUrl": "https://faces.example/ben" }));
    }
    api.ok(IMPORT, json!({ "Identifier": "dan" }));
    let mut anna = gateway.login("anna");
    anna.send("ben", "welcome");
    anna.send("dan", "you too");
    let ben = anna.profile("ben");
    assert_eq!((ben.nick.as_deref(), ben.image_url.as_deref()), (Some("Ben"), Some("https://faces.example/ben")));
    let mut ben = gateway.connect("ben");
    assert_eq!(ben.log_in_and_sync()[0].text(), "welcome");
    for wrong in [json!({}), json!({ "UserID": "" }), json!({ "UserID": 7 }), json!({ "UserID": "x".repeat(33) })] {
        assert_eq!(api.fails(IMPORT, wrong), 70402);
    }
    assert_eq!(api.fails(IMPORT, json!({ "UserID": "eve", "Nick": "n".repeat(501) })), 40601);
}

#[test]
fn acc_01_acc_05_accounts_are_imported_and_looked_for_in_bulk() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let answer = api.ok(IMPORT_MANY, json!({ "Accounts": ["a", "b", "x".repeat(33), "ä"] }));
    assert_eq!(answer["FailAccounts"], json!(["x".repeat(33), "ä"]));
    let list = json!([{ "UserID": "c", "Nick": "C" }, { "UserID": "d", "Nick": "n".repeat(501) }]);
    assert_eq!(api.ok(IMPORT_MANY, json!({ "AccountList": list }))["FailAccounts"], json!(["d"]));
    assert_eq!(gateway.login("a").profile("c").nick.as_deref(), Some("C"));
    let asked: Vec<Value> = ["a", "nobody", "b", "c", "d", ""].iter().map(|name| json!({ "UserID": name })).collect();
    let answer = api.ok(CHECK, json!({ "CheckItem": asked }));
    let (yes, no) = ("Imported", "NotImported");
    assert_eq!(statuses(&answer), [yes, no, yes, yes, no, no]);
    assert_eq!(answer["ResultItem"][1]["UserID"], "nobody");
    let many: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    assert_eq!(api.fails(IMPORT_MANY, json!({ "Accounts": many })), 70402);
    assert_eq!(api.fails(IMPORT_MANY, json!({ "Accounts": [1] })), 70402);
    assert_eq!(api.fails(IMPORT_MANY, json!({})), 70402);
    let many: Vec<Value> = many.iter().map(|name| json!({ "UserID": name })).collect();
    assert_eq!(api.fails(CHECK, json!({ "CheckItem": many })), 70402);
    assert_eq!(api.fails(CHECK, json!({ "CheckItem": ["a"] })), 70402);
    assert_eq!(api.fails(CHECK, json!({})), 70402);
}

#[test]
fn acc_03_a_deleted_account_is_gone_and_begins_empty_when_it_is_made_anew() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let app = gateway.app().clone();
    let now_s = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let old = app.sign_at("anna", now_s - 10, 3600);
    let mut anna = gateway.login("anna");
    let mut ben = gateway.login("ben");
    anna.send("ben", "from anna");
    assert_eq!(ben.next_message().text(), "from anna");
    api.ok("im_open_login_svc/account_import", json!({ "UserID": "dan", "Nick": "Dan" }));
    let named = |names: &[&str]| json!({ "DeleteItem": names.iter().map(|name| json!({ "UserID": name })).collect::<Vec<_>>() });
    let answer = api.ok(DELETE, named(&["anna", "nobody", "dan", "x y"]));
    let codes: Vec<&Value> =
        answer["ResultItem"].as_array().expect("results").iter().map(|one| &one["ResultCode"]).collect();
    assert_eq!(codes, [0, 70107, 0, 70107]);
    assert_eq!(answer["ResultItem"][1]["UserID"], "nobody");
    // Its devices are out, what they have is good no more, and nobody finds it.
    assert_eq!(anna.closed(), Some((ErrorCode::SIGNED_OUT_BY_OTHER_DEVICE, 0)));
    let refused = gateway.connect("anna").login_with(app.sdkappid, old).expect_err("an old credential");
    assert_eq!(refused.code(), Some(ErrorCode::USERSIG_INVALIDATED));
    let asked = json!({ "CheckItem": [{ "UserID": "anna" }, { "UserID": "ben" }, { "UserID": "dan" }] });
    assert_eq!(statuses(&api.ok(CHECK, asked)), ["NotImported", "Imported", "NotImported"]);
    assert_eq!(
        ben.send_as("anna", b"1", text_body("are you there")).expect_err("nobody").code(),
        Some(ErrorCode::USER_INVALID)
    );
    assert_eq!(api.fails(KICK, json!({ "UserID": "anna" })), 70107);
    // What it said to others stays theirs; made anew it has nothing.
    assert_eq!(ben.history("anna", 0, false, 10).expect("history").messages[0].text(), "from anna");
    eventually("a fresh credential", || gateway.connect("anna").login_with(app.sdkappid, app.sign("anna")).is_ok());
    let mut anew = gateway.connect("anna");
    anew.login_with(app.sdkappid, app.sign("anna")).expect("logged in");
    assert!(anew.history("ben", 0, false, 10).expect("history").messages.is_empty());
    for wrong in [json!({}), json!({ "DeleteItem": [] }), json!({ "DeleteItem": ["a"] }), named(&["a"; 101])] {
        assert_eq!(api.fails(DELETE, wrong), 70402);
    }
}

#[test]
fn acc_03_devices_of_a_deleted_account_are_out_and_can_do_nothing_more() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let mut ben = gateway.login("ben");
    let mut devices = [gateway.login("anna"), gateway.login("anna")];
    api.ok(DELETE, json!({ "DeleteItem": [{ "UserID": "anna" }] }));
    for device in &mut devices {
        assert!(device.send_as("ben", b"1", text_body("still here")).is_err());
        assert_eq!(device.closed(), Some((ErrorCode::SIGNED_OUT_BY_OTHER_DEVICE, 0)));
    }
    ben.ping();
    assert_eq!(ben.pushes_waiting(), 0);
    assert!(ben.history("anna", 0, false, 10).expect("history").messages.is_empty());
}

#[test]
fn acc_03_a_deletion_goes_on_when_its_call_was_given_up() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let deleted: Vec<String> = (0..10).map(|n| format!("deleted-{n}")).collect();
    let friends: Vec<String> = (0..1_000).map(|n| format!("friend-{n}")).collect();
    for some in deleted.chunks(100).chain(friends.chunks(100)) {
        api.ok(IMPORT_MANY, json!({ "Accounts": some }));
    }
    let friend = |name: &String| json!({ "To_Account": name, "AddSource": "AddSource_Type_Test" });
    let friends: Vec<Value> = friends.iter().map(friend).collect();
    for name in &deleted {
        api.ok("sns/friend_import", json!({ "From_Account": name, "AddFriendItem": friends }));
    }
    let gateway = gateway.kill().flag("api-call-ms-max", 100).start();
    let items: Vec<Value> = deleted.iter().map(|name| json!({ "UserID": name })).collect();
    // Ten thousand friendships take longer.
    assert_eq!(gateway.api().fails(DELETE, json!({ "DeleteItem": items })), 60008);
    eventually("it comes to its end", || gateway.metrics().sum("gateway_sends_unanswered", &[]) == 0.0);
    let gateway = gateway.kill().without_flag("api-call-ms-max").start();
    let api = gateway.api();
    let answer = api.ok(CHECK, json!({ "CheckItem": items }));
    // On a slow machine some were not begun in time.
    let begun: Vec<_> = deleted.iter().zip(statuses(&answer)).filter(|(_, status)| *status == "NotImported").collect();
    assert!(!begun.is_empty());
    api.ok(IMPORT_MANY, json!({ "Accounts": deleted }));
    for (name, _) in begun {
        let kept = api.ok("sns/friend_get", json!({ "From_Account": name, "StartIndex": 0 }));
        assert_eq!(kept["FriendNum"], 0, "{name}");
    }
    gateway.kill().check_store();
}

#[test]
fn acc_02_a_kicked_user_is_out_and_comes_back_with_a_fresh_credential_only() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let app = gateway.app().clone();
    let now_s = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let old = app.sign_at("anna", now_s - 10, 3600);
    let mut phone = gateway.login("anna");
    let mut ben = gateway.login("ben");
    api.ok(KICK, json!({ "UserID": "anna" }));
    assert_eq!(phone.closed(), Some((ErrorCode::SIGNED_OUT_BY_OTHER_DEVICE, 0)));
    let refused = gateway.connect("anna").login_with(app.sdkappid, old).expect_err("an old credential");
    assert_eq!(refused.code(), Some(ErrorCode::USERSIG_INVALIDATED));
    ben.ping();
    eventually("a fresh credential", || gateway.connect("anna").login_with(app.sdkappid, app.sign("anna")).is_ok());
    assert_eq!(api.fails(KICK, json!({ "UserID": "nobody" })), 70107);
    assert_eq!(api.fails(KICK, json!({})), 70402);
}

#[test]
fn acc_04_who_is_online_and_on_what() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let on = |user: &str, platform, background| {
        let mut client = gateway.connect_with(user, Options { platform, background, ..Options::default() });
        client.log_in_and_sync();
        client
    };
    let _phone = on("anna", Platform::Iphone, true);
    let _web = on("anna", Platform::Web, false);
    let _desktop = on("ben", Platform::Windows, true);
    api.ok(IMPORT, json!({ "UserID": "cleo" }));
    let answer = api.ok(STATUS, json!({ "To_Account": ["anna", "ben", "cleo", "nobody"] }));
    let expected = json!([
        { "To_Account": "anna", "Status": "Online" },
        { "To_Account": "ben", "Status": "PushOnline" },
        { "To_Account": "cleo", "Status": "Offline" },
    ]);
    assert_eq!(answer["QueryResult"], expected);
    assert_eq!(answer["ErrorList"], json!([{ "To_Account": "nobody", "ErrorCode": 70107 }]));
    let answer = api.ok(STATUS, json!({ "IsNeedDetail": 1, "To_Account": ["anna", "cleo"] }));
    let detail = json!([
        { "Platform": "iPhone", "Status": "PushOnline" },
        { "Platform": "Web", "Status": "Online" },
    ]);
    assert_eq!(answer["QueryResult"][0]["Detail"], detail);
    assert!(answer["QueryResult"][1]["Detail"].is_null());
    let older = api.ok("openim/querystate", json!({ "To_Account": ["ben", "nobody"] }));
    assert_eq!(older["QueryResult"], json!([{ "To_Account": "ben", "Status": "PushOnline", "State": "PushOnline" }]));
    assert_eq!(api.fails(STATUS, json!({ "To_Account": vec!["anna"; 501] })), 90018);
    assert_eq!(api.fails(STATUS, json!({ "To_Account": "anna" })), 90003);
    assert_eq!(api.fails(STATUS, json!({ "To_Account": [] })), 90003);
}
