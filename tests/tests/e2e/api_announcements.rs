//! Telling something to everybody, or to all with certain attributes or tags (MSG-14).
//!
//! Goal: one call reaches users who are online at once and the others at their next login within its life, each
//! once; whoever is not meant hears nothing. Mechanics: calls, clients before and after, and a gateway that is
//! killed in between. Without it an announcement could be lost with the process, or told at every login.

use serde_json::{Value, json};
use tests::{Api, Gateway, MessageExt};

use super::api_messages::{import, text, with};

const PUSH: &str = "all_member_push/im_push";
const SET_ATTR: &str = "all_member_push/im_set_attr";
const ADD_TAG: &str = "all_member_push/im_add_tag";

/// As many as a test likes.
fn gateway() -> Gateway {
    Gateway::builder().more_settings(&json!({ "announcements_interval_ms": 0 })).start()
}

fn push(random: u32, what: &str, more: Value) -> Value {
    with(json!({ "MsgRandom": random, "MsgLifeTime": 600, "MsgBody": text(what) }), more)
}

fn announce(api: &Api, random: u32, what: &str, more: Value) {
    let task = api.ok(PUSH, push(random, what, more));
    assert!(task["TaskId"].as_str().is_some_and(|id| !id.is_empty()), "{task}");
}

#[test]
fn msg_14_everybody_is_told_once_online_or_at_the_next_login() {
    let gateway = gateway();
    let api = gateway.api();
    import(&api, &["ben", "carl"]);
    let mut anna = gateway.login("anna");
    announce(&api, 1, "open until nine", json!({}));
    announce(&api, 1, "open until nine", json!({}));
    let told = anna.next_message();
    assert_eq!((told.from.as_str(), told.text().as_str(), told.seq), ("administrator", "open until nine", 1));
    announce(&api, 2, "closed tomorrow", json!({ "From_Account": "carl" }));
    let told = anna.next_message();
    assert_eq!((told.from.as_str(), told.text().as_str()), ("carl", "closed tomorrow"));
    // Whoever was not there hears of both, from a process that has not made them.
    let gateway = gateway.restart();
    let mut ben = gateway.connect("ben");
    let mut messages = ben.log_in_and_sync();
    while messages.len() < 2 {
        messages.push(ben.next_message());
    }
    let mut told: Vec<String> = messages.iter().map(MessageExt::text).collect();
    told.sort_unstable();
    assert_eq!(told, ["closed tomorrow", "open until nine"]);
    drop(ben);
    let mut again = gateway.login("ben");
    let api = gateway.api();
    announce(&api, 3, "the third", json!({}));
    let third = again.next_message();
    assert_eq!((third.text().as_str(), third.seq), ("the third", 2), "nothing was told again before it");
    assert_eq!(again.conversation("administrator").len(), 2);
}

#[test]
fn msg_14_without_a_life_it_is_for_those_online() {
    let gateway = gateway();
    let api = gateway.api();
    import(&api, &["ben"]);
    let mut anna = gateway.login("anna");
    announce(&api, 1, "now", json!({ "MsgLifeTime": 0 }));
    let told = anna.next_online_message();
    assert_eq!((told.text().as_str(), told.seq), ("now", 0));
    let mut ben = gateway.login("ben");
    announce(&api, 2, "kept", json!({}));
    assert_eq!(ben.next_message().text(), "kept");
    assert!(anna.conversation("administrator").iter().all(|message| message.text() == "kept"));
}

#[test]
fn msg_14_attributes_and_tags_choose_who_is_told() {
    let gateway = gateway();
    let api = gateway.api();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    api.ok("all_member_push/im_set_attr_name", json!({ "AttrNames": { "0": "sex", "1": "city" } }));
    assert_eq!(api.ok("all_member_push/im_get_attr_name", json!({}))["AttrNames"], json!({ "0": "sex", "1": "city" }));
    api.ok(SET_ATTR, json!({ "UserAttrs": [{ "To_Account": "anna", "Attrs": { "city": "Ulm", "sex": "f" } }] }));
    api.ok(ADD_TAG, json!({ "UserTags": [{ "To_Account": "ben", "Tags": ["a", "b"] }] }));
    announce(&api, 1, "Ulm", json!({ "Condition": { "AttrsAnd": { "city": "Ulm" }, "AttrsOr": { "sex": "f" } } }));
    announce(&api, 2, "tagged", json!({ "Condition": { "TagsAnd": ["a", "b"] } }));
    announce(&api, 3, "nobody", json!({ "Condition": { "TagsAnd": ["a", "c"] } }));
    announce(&api, 4, "all", json!({}));
    assert_eq!([anna.next_message().text(), anna.next_message().text()], ["Ulm", "all"]);
    assert_eq!([ben.next_message().text(), ben.next_message().text()], ["tagged", "all"]);

    let said = api.ok("all_member_push/im_get_attr", json!({ "To_Account": ["anna", "ben"] }));
    let expected =
        json!([{ "To_Account": "anna", "Attrs": { "city": "Ulm", "sex": "f" } }, { "To_Account": "ben", "Attrs": {} }]);
    assert_eq!(said["UserAttrs"], expected);
    api.ok("all_member_push/im_remove_attr", json!({ "UserAttrs": [{ "To_Account": "anna", "Attrs": ["sex"] }] }));
    let said = api.ok("all_member_push/im_get_attr", json!({ "To_Account": ["anna"] }));
    assert_eq!(said["UserAttrs"][0]["Attrs"], json!({ "city": "Ulm" }));
    api.ok("all_member_push/im_remove_tag", json!({ "UserTags": [{ "To_Account": "ben", "Tags": ["a"] }] }));
    let tags = || api.ok("all_member_push/im_get_tag", json!({ "To_Account": ["ben"] }))["UserTags"][0]["Tags"].clone();
    assert_eq!(tags(), json!(["b"]));
    api.ok("all_member_push/im_remove_all_tags", json!({ "To_Account": ["ben"] }));
    assert_eq!(tags(), json!([]));
}

#[test]
fn msg_14_what_is_wrong_is_refused_with_its_code() {
    let gateway = Gateway::builder().more_settings(&json!({ "announcements_per_day": 1 })).start();
    let api = gateway.api();
    import(&api, &["anna"]);
    let long = "x".repeat(51);
    let eleven: Vec<String> = (0..11).map(|n| n.to_string()).collect();
    let condition = |condition: Value| push(9, "x", json!({ "Condition": condition }));
    for (command, body, code) in [
        (PUSH, json!({ "MsgBody": text("x") }), 90005),
        (PUSH, json!({ "MsgRandom": 1 }), 90007),
        (PUSH, push(1, "x", json!({ "MsgLifeTime": 604_801 })), 90026),
        (PUSH, push(1, "x", json!({ "From_Account": "nobody" })), 90008),
        (PUSH, condition(json!({ "TagsAnd": ["a"], "AttrsAnd": { "city": "Ulm" } })), 90022),
        (PUSH, condition(json!({ "TagsAnd": eleven })), 90032),
        (PUSH, condition(json!({ "TagsOr": [long] })), 90040),
        (PUSH, condition(json!({ "AttrsAnd": { "city": "Ulm" } })), 90033),
        (SET_ATTR, json!({ "UserAttrs": [{ "To_Account": "anna", "Attrs": { "city": "Ulm" } }] }), 90033),
        (SET_ATTR, json!({ "UserAttrs": [{ "To_Account": "anna", "Attrs": { "city": long } }] }), 90030),
        ("all_member_push/im_set_attr_name", json!({ "AttrNames": { "10": "city" } }), 90033),
        (ADD_TAG, json!({ "UserTags": [{ "To_Account": "nobody", "Tags": ["a"] }] }), 90048),
        (ADD_TAG, json!({ "UserTags": [] }), 90003),
        (ADD_TAG, json!({ "UserTags": [{ "To_Account": "anna", "Tags": [""] }] }), 90040),
        ("all_member_push/im_get_tag", json!({ "To_Account": vec!["anna"; 101] }), 90018),
    ] {
        assert_eq!(api.fails(command, body.clone()), code, "{command} {body}");
    }
    announce(&api, 1, "the first", json!({}));
    // The interval is looked at first; the quota would refuse it, too.
    assert!([90024, 90047].contains(&api.fails(PUSH, push(2, "too soon", json!({})))));
}
