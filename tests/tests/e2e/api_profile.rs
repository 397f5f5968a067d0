//! Profiles through the server API (PROF-01 to PROF-05).
//!
//! Goal: an application's server sets and reads what is said of users, by the published names, values and codes, and
//! the users' devices and friends learn of it. Mechanics: calls beside clients. Without it a shop could not name its
//! customers.

use bytes::Bytes;
use protocol::message::{AllowType, Gender, Profile, event::What};
use serde_json::{Value, json};
use tests::{Api, Gateway};

use super::api_messages::import;

const SET: &str = "profile/portrait_set";
const GET: &str = "profile/portrait_get";

fn start() -> Gateway {
    Gateway::builder().more_settings(&json!({ "profile_custom_fields": ["Tag_Profile_Custom_Team"] })).start()
}

fn item(tag: &str, value: impl Into<Value>) -> Value {
    json!({ "Tag": tag, "Value": value.into() })
}

fn set(api: &Api, user: &str, items: &[Value]) {
    api.ok(SET, json!({ "From_Account": user, "ProfileItem": items }));
}

/// Every field, with a value that is not the default.
fn all() -> Vec<Value> {
    vec![
        item("Tag_Profile_IM_Nick", "Anna"),
        item("Tag_Profile_IM_Gender", "Gender_Type_Female"),
        item("Tag_Profile_IM_BirthDay", 19_990_101),
        item("Tag_Profile_IM_Location", "Berlin"),
        item("Tag_Profile_IM_SelfSignature", "hello"),
        item("Tag_Profile_IM_AllowType", "AllowType_Type_NeedConfirm"),
        item("Tag_Profile_IM_Language", 1),
        item("Tag_Profile_IM_Image", "https://files.example/a.png"),
        item("Tag_Profile_IM_MsgSettings", 1),
        item("Tag_Profile_IM_AdminForbidType", "AdminForbid_Type_SendOut"),
        item("Tag_Profile_IM_Level", 7),
        item("Tag_Profile_IM_Role", 2),
        item("Tag_Profile_Custom_Team", "blue"),
    ]
}

fn tags(items: &[Value]) -> Vec<Value> {
    items.iter().map(|item| item["Tag"].clone()).collect()
}

fn next_profile(client: &mut tests::Client) -> Profile {
    match client.next_event() {
        What::Profile(profile) => profile,
        other => panic!("not a changed profile: {other:?}"),
    }
}

#[test]
fn prof_01_prof_05_every_field_is_set_told_and_read() {
    let gateway = start();
    let api = gateway.api();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    assert_eq!(ben.add_friend("anna"), 0);
    for client in [&mut anna, &mut ben] {
        assert!(matches!(client.next_event(), What::Friends(_)));
    }
    set(&api, "anna", &all());
    let told = next_profile(&mut anna);
    assert_eq!(
        (told.nick.as_deref(), told.gender, told.birthday),
        (Some("Anna"), Some(Gender::Female.into()), Some(19_990_101))
    );
    assert_eq!((told.allow_type, told.requests_forbidden), (Some(AllowType::NeedConfirm.into()), Some(true)));
    assert_eq!(told.custom.get("Tag_Profile_Custom_Team"), Some(&Bytes::from_static(b"blue")));
    assert_eq!(next_profile(&mut ben), told, "a friend is told");
    let read = api.ok(GET, json!({ "To_Account": ["anna"], "TagList": tags(&all()) }));
    let expected = json!([{ "To_Account": "anna", "ProfileItem": all(), "ResultCode": 0, "ResultInfo": "" }]);
    assert_eq!(read["UserProfileItem"], expected);
    assert!(read.get("Fail_Account").is_none() && read.get("Invalid_Account").is_none());
    // What a client says of itself is read, too; numbers may be digits; a custom field is taken off.
    anna.set_profile(Profile { nick: Some("Änna".into()), ..Profile::default() }).expect("set");
    set(&api, "anna", &[item("Tag_Profile_IM_Level", "8"), item("Tag_Profile_Custom_Team", "")]);
    let asked = ["Tag_Profile_IM_Level", "Tag_Profile_Custom_Team", "Tag_Profile_IM_Nick"];
    let read = api.ok(GET, json!({ "To_Account": ["anna"], "TagList": asked }));
    let expected = json!([item("Tag_Profile_IM_Level", 8), item("Tag_Profile_IM_Nick", "Änna")]);
    assert_eq!(read["UserProfileItem"][0]["ProfileItem"], expected);
    // The administrator has forbidden it.
    gateway.login("cleo");
    assert_eq!(anna.add_friend("cleo"), 30009);
}

#[test]
fn prof_03_each_account_has_its_own_result_and_what_was_never_set_its_default() {
    let gateway = start();
    let api = gateway.api();
    import(&api, &["anna", "ben"]);
    set(&api, "anna", &[item("Tag_Profile_Custom_Team", 7)]);
    let asked = ["Tag_Profile_IM_Nick", "Tag_Profile_IM_AllowType", "Tag_Profile_IM_Role", "Tag_Profile_Custom_Team"];
    let read = api.ok(GET, json!({ "To_Account": ["anna", "nobody", "ben", "ä"], "TagList": asked }));
    let defaults = [
        item("Tag_Profile_IM_Nick", ""),
        item("Tag_Profile_IM_AllowType", "AllowType_Type_AllowAny"),
        item("Tag_Profile_IM_Role", 0),
    ];
    let items = &read["UserProfileItem"];
    assert_eq!(items[0]["ProfileItem"], json!([&defaults[..], &[item("Tag_Profile_Custom_Team", "7")]].concat()));
    assert_eq!(items[2]["ProfileItem"], json!(defaults));
    for index in [1, 3] {
        assert_eq!((&items[index]["ResultCode"], &items[index]["ProfileItem"]), (&json!(40003), &json!([])));
    }
    assert_eq!((&read["Fail_Account"], &read["Invalid_Account"]), (&json!(["nobody", "ä"]), &json!(["ä"])));
}

#[test]
fn prof_01_prof_04_what_may_not_be_set_or_asked_for_has_a_published_code() {
    let gateway = start();
    let api = gateway.api();
    import(&api, &["anna"]);
    let refused = |tag: &str, value: Value| {
        // All or nothing.
        let items = [item("Tag_Profile_IM_Nick", "never"), item(tag, value)];
        api.fails(SET, json!({ "From_Account": "anna", "ProfileItem": items }))
    };
    assert_eq!(refused("Tag_Profile_IM_Shoes", json!(1)), 40009);
    assert_eq!(refused("Tag_Profile_Custom_Hat", json!("red")), 40009);
    assert_eq!(refused("Tag_SNS_IM_Remark", json!("x")), 40009);
    assert_eq!(refused("Tag_Profile_IM_Nick", json!("x".repeat(501))), 40601);
    assert_eq!(refused("Tag_Profile_IM_Location", json!("x".repeat(17))), 40601);
    assert_eq!(refused("Tag_Profile_Custom_Team", json!("x".repeat(501))), 40601);
    assert_eq!(refused("Tag_Profile_IM_Gender", json!("Gender_Type_Other")), 40605);
    assert_eq!(refused("Tag_Profile_IM_Level", json!(u64::MAX)), 40605);
    assert_eq!(refused("Tag_Profile_IM_Level", json!(-1)), 40605);
    assert_eq!(refused("Tag_Profile_IM_Level", json!("high")), 40610);
    assert_eq!(refused("Tag_Profile_IM_Nick", json!(7)), 40610);
    assert_eq!(refused("Tag_Profile_IM_Nick", json!(["x"])), 40610);
    assert_eq!(refused("Tag_Profile_Custom_Team", json!(1.5)), 40610);
    assert_eq!(gateway.login("ben").profile("anna").nick, None);
    let nick = json!([item("Tag_Profile_IM_Nick", "x")]);
    for nobody in ["nobody", "ä"] {
        assert_eq!(api.fails(SET, json!({ "From_Account": nobody, "ProfileItem": nick })), 40003);
    }
    for wrong in [
        json!({ "ProfileItem": nick }),
        json!({ "From_Account": "anna" }),
        json!({ "From_Account": "anna", "ProfileItem": [] }),
        json!({ "From_Account": "anna", "ProfileItem": [{ "Tag": "Tag_Profile_IM_Nick" }] }),
        json!([]),
    ] {
        assert_eq!(api.fails(SET, wrong), 40001);
    }
    let get = |users: Value, tags: Value| api.fails(GET, json!({ "To_Account": users, "TagList": tags }));
    let tag = json!(["Tag_Profile_IM_Nick"]);
    assert_eq!(get(json!(["anna"]), json!(["Tag_Profile_IM_Shoes"])), 40009);
    for (users, tags) in [
        (json!([]), tag.clone()),
        (json!("anna"), tag.clone()),
        (json!(vec!["anna"; 101]), tag.clone()),
        (json!(["anna"]), json!([])),
        (json!(["anna"]), json!([1])),
        (Value::Null, tag),
    ] {
        assert_eq!(get(users, tags), 40001);
    }
}
