//! Conversation lists and groups of conversations through the server API (MSG-16).
//!
//! Goal: an application's server sees and orders a user's conversations, and the user's devices see the same.
//! Mechanics: calls beside a client's own list. Without it a support desk could not sort its customers' chats.

use protocol::message::UpdateConversation;
use serde_json::{Value, json};
use tests::{Api, Gateway};

use super::api_messages::{SEND, import, text};

const LIST: &str = "recentcontact/get_list";
const DELETE: &str = "recentcontact/delete";
const CREATE: &str = "recentcontact/create_contact_group";
const REMOVE: &str = "recentcontact/del_contact_group";
const UPDATE: &str = "recentcontact/update_contact_group";
const MARK: &str = "recentcontact/mark_contact";
const SEARCH: &str = "recentcontact/search_contact_group";
const GROUPS: &str = "recentcontact/get_contact_group";

fn with_user(name: &str) -> Value {
    json!({ "Type": 1, "To_Account": name })
}

/// A page of anna's list.
fn page(api: &Api, time_s: &Value, start: &Value) -> Value {
    let asked = json!({
        "From_Account": "anna", "TimeStamp": time_s, "StartIndex": start, "TopTimeStamp": 0, "TopStartIndex": 0,
        "AssistFlags": 15,
    });
    api.ok(LIST, asked)
}

fn peers(page: &Value) -> Vec<String> {
    let items = page["SessionItem"].as_array().expect("a list");
    items.iter().map(|item| item["To_Account"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn msg_16_the_list_is_read_page_by_page() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let mut anna = gateway.login("anna");
    let names: Vec<String> = (0..230).map(|n| format!("user {n}")).collect();
    for names in names.chunks(100) {
        api.ok("im_open_login_svc/multiaccount_import", json!({ "Accounts": names }));
    }
    let message = json!({ "From_Account": "anna", "To_Account": names, "MsgRandom": 1, "MsgBody": text("hi") });
    api.ok("openim/batchsendmsg", message);
    anna.update("user 7", UpdateConversation { pinned: Some(true), ..UpdateConversation::default() });
    let (mut all, mut pages) = (Vec::new(), 0);
    let (mut time_s, mut start) = (json!(0), json!(0));
    loop {
        let page = page(&api, &time_s, &start);
        for item in page["SessionItem"].as_array().expect("a list") {
            let pinned = item["To_Account"] == "user 7";
            assert_eq!((&item["TopFlag"], &item["Type"]), (&json!(u32::from(pinned)), &json!(1)), "{item}");
            assert!(item["MsgTime"].as_u64().expect("a time") > 1_700_000_000);
        }
        all.extend(peers(&page));
        pages += 1;
        (time_s, start) = (page["TimeStamp"].clone(), page["StartIndex"].clone());
        if page["CompleteFlag"] == 1 {
            break;
        }
    }
    assert_eq!(pages, 3);
    all.sort_unstable();
    let mut expected = names;
    expected.sort_unstable();
    assert_eq!(all, expected, "each once");
    assert_eq!(api.fails(LIST, json!({ "From_Account": "nobody" })), 50001);
    assert_eq!(api.fails(LIST, json!({})), 50002);
    assert_eq!(api.fails(LIST, json!({ "From_Account": "anna", "TimeStamp": "x" })), 50002);
}

#[test]
fn msg_16_a_conversation_is_taken_off_the_list_with_or_without_its_history() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let mut anna = gateway.login("anna");
    import(&api, &["ben", "cleo"]);
    anna.send("ben", "stays");
    anna.send("cleo", "goes");
    api.ok(DELETE, json!({ "From_Account": "anna", "type": 1, "To_Account": "ben" }));
    api.ok(DELETE, json!({ "From_Account": "anna", "Type": 1, "To_Account": "cleo", "ClearRamble": 1 }));
    assert_eq!(anna.peers(), [""; 0]);
    assert_eq!(peers(&page(&api, &json!(0), &json!(0))), [""; 0]);
    assert_eq!((anna.conversation("ben").len(), anna.conversation("cleo").len()), (1, 0));
    anna.send("ben", "back");
    assert_eq!(anna.peers(), ["ben"]);
    assert_eq!(api.fails(DELETE, json!({ "From_Account": "anna", "Type": 2, "ToGroupId": "g" })), 50002);
    assert_eq!(api.fails(DELETE, json!({ "From_Account": "anna", "Type": 1 })), 50002);
    assert_eq!(api.fails(DELETE, json!({ "From_Account": "nobody", "Type": 1, "To_Account": "ben" })), 50001);
}

#[test]
fn msg_16_groups_of_conversations_are_labels() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let mut anna = gateway.login("anna");
    import(&api, &["ben", "cleo"]);
    let group = json!([{ "GroupName": "work", "ContactItem": [with_user("ben"), with_user("nobody")] }]);
    let created = api.ok(CREATE, json!({ "From_Account": "anna", "GroupContactItem": group }));
    let result = &created["GroupResultItem"][0];
    assert_eq!(result["GroupItem"], json!({ "GroupName": "work", "GroupId": 1 }));
    assert_eq!(
        (&result["ResultItem"][0]["ResultCode"], &result["ResultItem"][1]["ResultCode"]),
        (&json!(0), &json!(50001))
    );
    assert_eq!(anna.entry("ben").state.expect("a state").labels, ["work"]);
    let change = |kind: u32, more: Value| {
        let group = super::api_messages::with(json!({ "UpdateGroupType": kind, "OldGroupName": "work" }), more);
        json!({ "From_Account": "anna", "UpdateType": 1, "UpdateGroup": group })
    };
    let items = json!([
        { "ContactOptType": 1, "ContactItem": with_user("cleo") }, { "ContactOptType": 2, "ContactItem": with_user("ben") },
    ]);
    let changed = api.ok(UPDATE, change(2, json!({ "ContactUpdateItem": items })));
    assert_eq!(changed["UpdateGroupResult"]["ContactResultItem"][1]["ResultCode"], 0);
    assert_eq!(anna.entry("ben").state.expect("a state").labels, [""; 0]);
    api.ok(UPDATE, change(1, json!({ "NewGroupName": "office" })));
    assert_eq!(anna.entry("cleo").state.expect("a state").labels, ["office"]);
    let found = api.ok(SEARCH, json!({ "From_Account": "anna", "ContactItem": [with_user("cleo"), with_user("ben")] }));
    assert_eq!(found["ContactResultItem"][0]["ContactGroupId"], json!([1]));
    assert!(found["ContactResultItem"][1]["ContactGroupId"].is_null());
    assert_eq!(found["GroupItem"], json!([{ "GroupName": "office", "GroupId": 1 }]));
    let removed = api.ok(REMOVE, json!({ "From_Account": "anna", "GroupName": ["office"] }));
    assert_eq!(removed["GroupItem"], json!([{ "GroupName": "office", "GroupId": 1 }]));
    assert_eq!(anna.entry("cleo").state.expect("a state").labels, [""; 0]);

    assert_eq!(api.fails(REMOVE, json!({ "From_Account": "anna", "GroupName": ["office"] })), 50002);
    assert_eq!(api.fails(REMOVE, json!({ "From_Account": "anna", "GroupName": ["a", "b"] })), 50002);
    assert_eq!(api.fails(UPDATE, change(3, json!({}))), 50002);
    assert_eq!(api.fails(UPDATE, json!({ "From_Account": "anna" })), 50002);
    let nobody = json!([{ "GroupName": "x", "ContactItem": [with_user("nobody")] }]);
    assert_eq!(api.fails(CREATE, json!({ "From_Account": "anna", "GroupContactItem": nobody })), 50001);
    assert_eq!(api.fails(CREATE, json!({ "From_Account": "anna", "GroupContactItem": [] })), 50002);
    assert_eq!(api.fails(SEARCH, json!({ "From_Account": "anna", "ContactItem": [] })), 50002);
}

#[test]
fn msg_16_marks_and_custom_data() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let mut anna = gateway.login("anna");
    import(&api, &["ben", "cleo"]);
    let sent = json!({ "From_Account": "anna", "To_Account": "ben", "MsgRandom": 1, "MsgBody": text("hi") });
    api.ok(SEND, sent);
    let mark = |item: Value| json!({ "From_Account": "anna", "MarkItem": [item] });
    let both = json!({ "OptType": 3, "ContactItem": with_user("ben"), "SetMark": [0, 3, 63], "CustomMark": "abcd" });
    let answer = api.ok(MARK, mark(both));
    let done = json!([{ "OptType": 3, "ContactItem": with_user("ben"), "ResultCode": 0, "ResultInfo": "" }]);
    assert_eq!(answer["ResultItem"], done);
    let state = anna.entry("ben").state.expect("a state");
    assert_eq!((state.marks, &state.custom_data[..]), (1 << 63 | 0b1001, &b"abcd"[..]));
    api.ok(MARK, mark(json!({ "OptType": 1, "ContactItem": with_user("ben"), "ClearMark": [63] })));
    let all = api.ok(GROUPS, json!({ "From_Account": "anna", "StartIndex": 0 }));
    let [item] = &all["ContactItem"].as_array().expect("a list")[..] else { panic!("{all}") };
    assert_eq!((&item["StandardMark"], &item["CustomMark"]), (&json!("1001"), &json!("abcd")));
    assert_eq!((&all["CompleteFlag"], &all["NextStartIndex"]), (&json!(1), &json!(0)));
    assert_eq!(page(&api, &json!(0), &json!(0))["SessionItem"][0]["StandardMark"], "1001");
    assert_eq!(api.ok(GROUPS, json!({ "From_Account": "anna", "StartIndex": 1 }))["ContactItem"], json!([]));
    for wrong in [
        json!({ "OptType": 4, "ContactItem": with_user("ben") }),
        json!({ "OptType": 1, "ContactItem": with_user("ben"), "SetMark": [64] }),
        json!({ "OptType": 1 }),
    ] {
        assert_eq!(api.fails(MARK, mark(wrong.clone())), 50002, "{wrong}");
    }
    let long = json!({ "OptType": 2, "ContactItem": with_user("ben"), "CustomMark": "x".repeat(257) });
    assert_eq!(api.ok(MARK, mark(long))["ResultItem"][0]["ResultCode"], 50002);
    assert_eq!(api.fails(GROUPS, json!({ "From_Account": "nobody" })), 50001);
}
