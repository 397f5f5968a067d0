//! Friends, friend lists and blacklists through the server API (REL-02 to REL-15).
//!
//! Goal: an application's server makes, changes and reads relations, each account named judged alone by its published
//! code; and the users' devices learn of it and agree. Mechanics: calls beside clients. Without it nobody could bring
//! his users' friends along.

use bytes::Bytes;
use protocol::message::{AllowType, FriendListsChanged, FriendsChanged, Profile, event::What};
use serde_json::{Value, json};
use tests::{Api, Client, Gateway, eventually};

use super::api_messages::{import, with};

const ADD: &str = "sns/friend_add";
const IMPORT: &str = "sns/friend_import";
const UPDATE: &str = "sns/friend_update";
const DELETE: &str = "sns/friend_delete";
const DELETE_ALL: &str = "sns/friend_delete_all";
const CHECK: &str = "sns/friend_check";
const GET: &str = "sns/friend_get";
const GET_LIST: &str = "sns/friend_get_list";
const BLACKLIST_ADD: &str = "sns/black_list_add";
const BLACKLIST_DELETE: &str = "sns/black_list_delete";
const BLACKLIST_GET: &str = "sns/black_list_get";
const BLACKLIST_CHECK: &str = "sns/black_list_check";
const GROUP_ADD: &str = "sns/group_add";
const GROUP_DELETE: &str = "sns/group_delete";
const GROUP_GET: &str = "sns/group_get";

fn start() -> Gateway {
    let settings = json!({ "friend_custom_fields": ["Tag_SNS_Custom_Team"], "profile_custom_fields": ["Tag_Profile_Custom_Team"] });
    Gateway::builder().more_settings(&settings).start()
}

fn friend(user: &str) -> Value {
    json!({ "To_Account": user, "AddSource": "AddSource_Type_Web" })
}

/// Makes friends, both ways and without asking.
fn befriend(api: &Api, user: &str, friends: &[&str]) {
    let items: Vec<Value> = friends.iter().map(|user| friend(user)).collect();
    let answer = api.ok(ADD, json!({ "From_Account": user, "AddFriendItem": items, "ForceAddFlags": 1 }));
    assert!(answer.get("Fail_Account").is_none(), "{answer}");
}

fn item(tag: &str, value: impl Into<Value>) -> Value {
    json!({ "Tag": tag, "Value": value.into() })
}

fn items<'a>(answer: &'a Value, list: &str) -> &'a [Value] {
    answer[list].as_array().unwrap_or_else(|| panic!("{list} is missing: {answer}"))
}

/// The codes of a list of results.
fn codes(answer: &Value, list: &str) -> Vec<u64> {
    let code = |item: &Value| {
        let code = item["ResultCode"].as_u64().expect("a code");
        assert_eq!(item["ResultInfo"].as_str().expect("words").is_empty(), code == 0, "{item}");
        code
    };
    items(answer, list).iter().map(code).collect()
}

fn strings<'a>(answer: &'a Value, list: &str, field: &str) -> Vec<&'a str> {
    items(answer, list).iter().map(|item| item[field].as_str().expect("a string")).collect()
}

fn next_friends(client: &mut Client) -> (Vec<String>, Vec<String>) {
    match client.next_event() {
        What::Friends(FriendsChanged { changed, removed }) => (changed, removed),
        other => panic!("not changed friends: {other:?}"),
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// A call whose From_Account is missing, is no account, and can't be one; and others that are not understood.
fn refuses(api: &Api, command: &str, good: &Value, wrong: &[Value]) {
    for (owner, code) in [(Value::Null, 30001), (json!(7), 30001), (json!("nobody"), 30003), (json!("ä"), 30003)] {
        assert_eq!(api.fails(command, with(good.clone(), json!({ "From_Account": owner }))), code, "{command}");
    }
    for wrong in wrong {
        assert_eq!(api.fails(command, with(good.clone(), wrong.clone())), 30001, "{command}");
    }
    assert_eq!(api.fails(command, json!([])), 30001, "{command}");
}

#[test]
fn rel_02_rel_15_friends_added_by_the_server_are_in_the_clients_lists() {
    let gateway = start();
    let api = gateway.api();
    let (mut anna, mut laptop, mut ben) = (gateway.login("anna"), gateway.login("anna"), gateway.login("ben"));
    let new = json!({ "To_Account": "ben", "Remark": "B", "GroupName": "close", "AddSource": "AddSource_Type_Web", "AddWording": "hi" });
    let asked = json!({ "From_Account": "anna", "AddFriendItem": [new] });
    let answer = api.ok(ADD, asked.clone());
    assert_eq!(answer["ResultItem"], json!([{ "To_Account": "ben", "ResultCode": 0, "ResultInfo": "" }]));
    for device in [&mut anna, &mut laptop] {
        assert!(
            matches!(device.next_event(), What::FriendLists(FriendListsChanged { lists, .. }) if lists == ["close"])
        );
        assert_eq!(next_friends(device), (owned(&["ben"]), vec![]));
    }
    assert_eq!(next_friends(&mut ben), (owned(&["anna"]), vec![]));
    let kept = laptop.friends(Bytes::new(), 0).0.remove(0);
    assert_eq!((kept.remark.as_str(), kept.source.as_str(), kept.wording.as_str()), ("B", "Web", "hi"));
    assert_eq!((kept.lists, ben.friend_names()), (owned(&["close"]), owned(&["anna"])));
    assert_eq!(codes(&api.ok(ADD, asked), "ResultItem"), [30001], "friends already");
    // One way.
    import(&api, &["cleo"]);
    let one_way = json!({ "From_Account": "anna", "AddFriendItem": [friend("cleo")], "AddType": "Add_Type_Single" });
    api.ok(ADD, one_way);
    assert_eq!(gateway.login("cleo").friend_names(), [""; 0]);
}

#[test]
fn rel_02_each_friend_asked_for_is_judged_alone() {
    let gateway = Gateway::builder().more_settings(&json!({ "friends_max": 3 })).start();
    let api = gateway.api();
    let [mut anna, mut ben, mut cleo, mut dan] = ["anna", "ben", "cleo", "dan"].map(|user| gateway.login(user));
    import(&api, &["eve", "fay", "gus"]);
    for (client, allow) in [(&mut ben, AllowType::NeedConfirm), (&mut cleo, AllowType::DenyAny)] {
        client.set_profile(Profile { allow_type: Some(allow.into()), ..Profile::default() }).expect("set");
        client.next_event();
    }
    dan.blacklist(&["anna"], &[]).expect("blacklisted");
    anna.blacklist(&["eve"], &[]).expect("blacklisted");
    let names = ["ben", "cleo", "dan", "eve", "anna", "nobody", "ä", "fay"];
    let all: Vec<Value> = names.iter().map(|user| friend(user)).collect();
    let asked = json!({ "From_Account": "anna", "AddFriendItem": all });
    let answer = api.ok(ADD, asked.clone());
    assert_eq!(codes(&answer, "ResultItem"), [30539, 30516, 30525, 30515, 30001, 30003, 30003, 0]);
    assert_eq!(strings(&answer, "ResultItem", "To_Account"), names);
    assert_eq!((&answer["Fail_Account"], &answer["Invalid_Account"]), (&json!(&names[..7]), &json!(["ä"])));
    assert!(matches!(ben.next_event(), What::FriendRequest(request) if request.user == "anna" && request.incoming));
    // By force nobody is asked; blacklists hold all the same.
    let answer = api.ok(ADD, with(asked, json!({ "ForceAddFlags": 1 })));
    assert_eq!(codes(&answer, "ResultItem"), [0, 0, 30525, 30515, 30001, 30003, 30003, 30001]);
    assert_eq!(
        codes(&api.ok(ADD, json!({ "From_Account": "anna", "AddFriendItem": [friend("gus")] })), "ResultItem"),
        [30010]
    );
    let mut names = anna.friend_names();
    names.sort_unstable();
    assert_eq!(names, ["ben", "cleo", "fay"]);
    let item = |more: Value| json!({ "AddFriendItem": [with(friend("gus"), more)] });
    let wrong = [
        json!({ "AddFriendItem": [] }),
        json!({ "AddFriendItem": friend("gus") }),
        json!({ "AddFriendItem": vec![friend("gus"); 1001] }),
        json!({ "AddFriendItem": ["gus"] }),
        json!({ "AddType": "Add_Type_Maybe" }),
        json!({ "ForceAddFlags": "x" }),
        item(json!({ "To_Account": null })),
        item(json!({ "AddSource": null })),
        item(json!({ "AddSource": "Web" })),
        item(json!({ "AddSource": "AddSource_Type_two words" })),
        item(json!({ "Remark": "x".repeat(97) })),
        item(json!({ "Remark": 1 })),
        item(json!({ "GroupName": "x".repeat(31) })),
        item(json!({ "AddWording": "x".repeat(257) })),
    ];
    refuses(&api, ADD, &json!({ "From_Account": "anna", "AddFriendItem": [friend("gus")] }), &wrong);
}

#[test]
fn rel_03_friends_are_imported_in_large_numbers_and_read_page_by_page() {
    let gateway = start();
    let api = gateway.api();
    let mut anna = gateway.login("anna");
    let names: Vec<String> = (0..620).map(|n| format!("user {n}").replace(' ', "_")).collect();
    for names in names.chunks(100) {
        api.ok("im_open_login_svc/multiaccount_import", json!({ "Accounts": names }));
    }
    let imported = |name: &String| {
        json!({
            "To_Account": name, "AddSource": "AddSource_Type_Move", "Remark": format!("my {name}"), "GroupName": ["old", "far"],
            "AddWording": "hi", "AddTime": 1_420_000_001, "RemarkTime": 1_420_000_002,
            "CustomItem": [item("Tag_SNS_Custom_Team", 5)],
        })
    };
    let all: Vec<Value> = names.iter().map(imported).collect();
    let answer = api.ok(IMPORT, json!({ "From_Account": "anna", "AddFriendItem": all }));
    assert_eq!(codes(&answer, "ResultItem"), vec![0; names.len()]);
    let again =
        json!({ "From_Account": "anna", "AddFriendItem": [imported(&names[0]), friend("nobody"), friend("anna")] });
    assert_eq!(codes(&api.ok(IMPORT, again), "ResultItem"), [30001, 30003, 30001]);
    eventually("all friends", || anna.friend_names().len() == names.len());
    assert_eq!(gateway.login(&names[0]).friend_names(), [""; 0], "one way");
    // As callers do: with what the page before said.
    let first =
        api.ok(GET, json!({ "From_Account": "anna", "StartIndex": 0, "StandardSequence": 0, "CustomSequence": 0 }));
    assert_eq!(
        (&first["CompleteFlag"], &first["FriendNum"], items(&first, "UserDataItem").len()),
        (&json!(0), &json!(620), 500)
    );
    let second = json!({
        "From_Account": "anna", "StartIndex": first["NextStartIndex"],
        "StandardSequence": first["StandardSequence"], "CustomSequence": first["CustomSequence"],
    });
    let second = api.ok(GET, second);
    assert_eq!((&second["CompleteFlag"], &second["NextStartIndex"]), (&json!(1), &json!(0)));
    let told = [items(&first, "UserDataItem"), items(&second, "UserDataItem")].concat();
    assert_eq!(told.iter().map(|item| item["To_Account"].as_str().expect("a name")).collect::<Vec<_>>(), names);
    let expected = json!([
        item("Tag_SNS_IM_AddSource", "AddSource_Type_Move"),
        item("Tag_SNS_IM_Remark", "my user_0"),
        item("Tag_SNS_IM_Group", json!(["old", "far"])),
        item("Tag_SNS_IM_AddTime", 1_420_000_001),
        item("Tag_SNS_IM_AddWording", "hi"),
        item("Tag_SNS_Custom_Team", "5"),
    ]);
    assert_eq!(told[0]["ValueItem"], expected);
    // What the caller has already is left out.
    let sequence = &second["StandardSequence"];
    let known = |more: Value| api.ok(GET, with(json!({ "From_Account": "anna", "StandardSequence": sequence }), more));
    for more in [json!({}), json!({ "StartIndex": 0, "CustomSequence": sequence })] {
        let nothing = known(more);
        assert_eq!((items(&nothing, "UserDataItem").len(), &nothing["CompleteFlag"]), (0, &json!(1)));
    }
    let custom = known(json!({ "CustomSequence": 0 }));
    assert_eq!(custom["UserDataItem"][0]["ValueItem"], json!([item("Tag_SNS_Custom_Team", "5")]));
    let one = |more: Value| json!({ "AddFriendItem": [with(friend("nobody"), more)] });
    let wrong = [
        one(json!({ "GroupName": "old" })),
        one(json!({ "AddTime": "x" })),
        one(json!({ "CustomItem": [item("Tag_SNS_Custom_Hat", "x")] })),
        one(json!({ "CustomItem": [item("Tag_SNS_IM_Remark", "x")] })),
        one(json!({ "CustomItem": [item("Tag_SNS_Custom_Team", "x".repeat(501))] })),
        one(json!({ "CustomItem": [{}] })),
    ];
    refuses(&api, IMPORT, &json!({ "From_Account": "anna", "AddFriendItem": [friend("nobody")] }), &wrong);
    let wrong = [json!({ "StartIndex": "x" }), json!({ "StartIndex": 1_000_000 }), json!({ "StandardSequence": -1 })];
    refuses(&api, GET, &json!({ "From_Account": "anna", "StartIndex": 0 }), &wrong);
}

#[test]
fn rel_06_rel_09_rel_10_friends_are_changed_and_read_with_their_profiles() {
    let gateway = start();
    let api = gateway.api();
    let mut anna = gateway.login("anna");
    import(&api, &["ben", "cleo", "dan"]);
    befriend(&api, "anna", &["ben", "cleo"]);
    next_friends(&mut anna);
    let update = |user: &str, items: &[Value]| json!({ "To_Account": user, "SnsItem": items });
    let both = [
        item("Tag_SNS_IM_Remark", "B"),
        item("Tag_SNS_IM_Group", json!(["work", "close"])),
        item("Tag_SNS_Custom_Team", "red"),
    ];
    let changes =
        json!([update("ben", &both), update("dan", &both), update("cleo", &[item("Tag_SNS_IM_Group", "work")])]);
    let answer = api.ok(UPDATE, json!({ "From_Account": "anna", "UpdateItem": changes }));
    assert_eq!((codes(&answer, "ResultItem"), &answer["Fail_Account"]), (vec![0, 30001, 0], &json!(["dan"])));
    assert!(matches!(anna.next_event(), What::FriendLists(_)));
    assert_eq!(next_friends(&mut anna), (owned(&["ben", "cleo"]), vec![]));
    let kept = anna.chosen_friends(&["ben", "cleo"], None).expect("friends");
    let kept: Vec<_> = kept.into_iter().map(|chosen| chosen.friend.expect("a friend")).collect();
    assert_eq!((kept[0].remark.as_str(), kept[0].lists.len(), kept[1].lists.clone()), ("B", 2, owned(&["work"])));
    api.ok(
        "profile/portrait_set",
        json!({ "From_Account": "ben", "ProfileItem": [item("Tag_Profile_IM_Nick", "Ben")] }),
    );
    let asked = [
        "Tag_SNS_IM_Remark",
        "Tag_SNS_IM_Group",
        "Tag_SNS_Custom_Team",
        "Tag_SNS_IM_AddSource",
        "Tag_SNS_IM_AddWording",
        "Tag_SNS_IM_RemarkTime",
        "Tag_Profile_IM_Nick",
        "Tag_Profile_Custom_Team",
    ];
    let read = api.ok(
        GET_LIST,
        json!({ "From_Account": "anna", "To_Account": ["ben", "dan", "cleo", "nobody", "ä"], "TagList": asked }),
    );
    assert_eq!(codes(&read, "InfoItem"), [0, 30001, 0, 30001, 30003]);
    assert_eq!((&read["Fail_Account"], &read["Invalid_Account"]), (&json!(["dan", "nobody", "ä"]), &json!(["ä"])));
    let source = || item("Tag_SNS_IM_AddSource", "AddSource_Type_Web");
    let of_ben = json!([
        item("Tag_SNS_IM_Remark", "B"),
        item("Tag_SNS_IM_Group", json!(["work", "close"])),
        item("Tag_SNS_Custom_Team", "red"),
        source(),
        item("Tag_Profile_IM_Nick", "Ben"),
    ]);
    let of_cleo = json!([item("Tag_SNS_IM_Group", json!(["work"])), source(), item("Tag_Profile_IM_Nick", "")]);
    let told = items(&read, "InfoItem");
    assert_eq!(
        (&told[0]["SnsProfileItem"], &told[2]["SnsProfileItem"], &told[1]["SnsProfileItem"]),
        (&of_ben, &of_cleo, &json!([]))
    );
    let one = |items: Value| json!({ "UpdateItem": [{ "To_Account": "ben", "SnsItem": items }] });
    let wrong = [
        one(json!([])),
        one(json!([{ "Tag": "Tag_SNS_IM_Remark" }])),
        one(json!([item("Tag_SNS_IM_Remark", 1)])),
        one(json!([item("Tag_SNS_IM_Remark", "x".repeat(97))])),
        one(json!([item("Tag_SNS_IM_Group", json!([1]))])),
        one(json!([item("Tag_SNS_IM_AddTime", 1)])),
        one(json!([item("Tag_SNS_Custom_Hat", "x")])),
        one(json!([item("Tag_SNS_Custom_Team", json!({}))])),
        json!({ "UpdateItem": [] }),
    ];
    refuses(&api, UPDATE, &json!({ "From_Account": "anna", "UpdateItem": [update("ben", &both)] }), &wrong);
    let wrong = [
        json!({ "To_Account": [] }),
        json!({ "To_Account": vec!["ben"; 101] }),
        json!({ "TagList": [] }),
        json!({ "TagList": ["Tag_SNS_IM_Shoes"] }),
        json!({ "TagList": null }),
    ];
    refuses(&api, GET_LIST, &json!({ "From_Account": "anna", "To_Account": ["ben"], "TagList": asked }), &wrong);
}

#[test]
fn rel_05_rel_12_friendships_are_checked_and_ended() {
    let gateway = start();
    let api = gateway.api();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    import(&api, &["cleo", "dan", "eve"]);
    befriend(&api, "anna", &["ben", "cleo", "dan"]);
    next_friends(&mut anna);
    next_friends(&mut ben);
    let one_way = json!({ "From_Account": "anna", "To_Account": ["ben", "eve", "nobody", "ä"] });
    assert_eq!(codes(&api.ok(DELETE, one_way), "ResultItem"), [0, 31704, 31704, 30003]);
    assert_eq!(next_friends(&mut anna), (vec![], owned(&["ben"])));
    assert_eq!(ben.friend_names(), ["anna"]);
    let asked = json!({ "From_Account": "anna", "To_Account": ["ben", "cleo", "eve", "nobody"] });
    let check = |kind: &str| api.ok(CHECK, with(asked.clone(), json!({ "CheckType": kind })));
    let both = check("CheckResult_Type_Both");
    let (a_with_b, none) = ("CheckResult_Type_AWithB", "CheckResult_Type_NoRelation");
    assert_eq!(
        strings(&both, "InfoItem", "Relation"),
        ["CheckResult_Type_BWithA", "CheckResult_Type_BothWay", none, none]
    );
    assert_eq!((codes(&both, "InfoItem"), &both["Fail_Account"]), (vec![0, 0, 0, 30003], &json!(["nobody"])));
    let single = check("CheckResult_Type_Single");
    assert_eq!(strings(&single, "InfoItem", "Relation"), [none, a_with_b, none, none]);
    let of_ben = json!({ "From_Account": "ben", "To_Account": ["anna"], "CheckType": "CheckResult_Type_Both" });
    assert_eq!(strings(&api.ok(CHECK, of_ben), "InfoItem", "Relation"), [a_with_b]);
    // Both ways.
    let both_ways = json!({ "From_Account": "anna", "To_Account": ["ben", "cleo"], "DeleteType": "Delete_Type_Both" });
    assert_eq!(codes(&api.ok(DELETE, both_ways), "ResultItem"), [0, 0]);
    assert_eq!(next_friends(&mut ben), (vec![], owned(&["anna"])));
    // All.
    befriend(&api, "anna", &["ben"]);
    assert_eq!(next_friends(&mut ben), (owned(&["anna"]), vec![]));
    api.ok(DELETE_ALL, json!({ "From_Account": "anna", "DeleteType": "Delete_Type_Both" }));
    assert_eq!((anna.friend_names().len(), ben.friend_names().len()), (0, 0));
    befriend(&api, "anna", &["ben"]);
    api.ok(DELETE_ALL, json!({ "From_Account": "anna" }));
    assert_eq!((anna.friend_names().len(), ben.friend_names().len()), (0, 1), "one way, as published");
    let many = json!({ "To_Account": vec!["ben"; 1001] });
    let to_ben = json!({ "From_Account": "anna", "To_Account": ["ben"] });
    let wrong =
        [json!({ "To_Account": [] }), json!({ "To_Account": "ben" }), many.clone(), json!({ "DeleteType": "All" })];
    refuses(&api, DELETE, &to_ben, &wrong);
    refuses(&api, DELETE_ALL, &json!({ "From_Account": "anna" }), &[json!({ "DeleteType": 1 })]);
    let wrong = [
        json!({ "To_Account": [1] }),
        many,
        json!({ "CheckType": null }),
        json!({ "CheckType": "BlackCheckResult_Type_Both" }),
    ];
    refuses(&api, CHECK, &with(to_ben, json!({ "CheckType": "CheckResult_Type_Both" })), &wrong);
}

#[test]
fn rel_08_rel_13_blacklists_are_kept_by_the_server() {
    let gateway = start();
    let api = gateway.api();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    import(&api, &["cleo", "dan"]);
    befriend(&api, "anna", &["ben"]);
    next_friends(&mut anna);
    let add = json!({ "From_Account": "anna", "To_Account": ["ben", "cleo", "anna", "nobody", "ä", "cleo"] });
    let answer = api.ok(BLACKLIST_ADD, add);
    assert_eq!(codes(&answer, "ResultItem"), [0, 0, 30001, 30003, 30003, 30001]);
    assert_eq!(next_friends(&mut anna), (vec![], owned(&["ben"])), "it ends the friendship");
    assert!(matches!(anna.next_event(), What::Blacklist(changed) if changed.added == ["ben", "cleo"]));
    assert_eq!(
        (anna.blacklisted(), anna.friend_names().len(), ben.friend_names().len()),
        (owned(&["ben", "cleo"]), 0, 0)
    );
    assert!(ben.send_as("anna", b"1", tests::text_body("hello")).is_err());
    let page = |start: u32, max: u32| {
        api.ok(
            BLACKLIST_GET,
            json!({ "From_Account": "anna", "StartIndex": start, "MaxLimited": max, "LastSequence": 0 }),
        )
    };
    let first = page(0, 1);
    assert_eq!((strings(&first, "BlackListItem", "To_Account"), &first["StartIndex"]), (vec!["ben"], &json!(1)));
    assert!(first["BlackListItem"][0]["AddBlackTimeStamp"].as_u64().expect("a time") > 1_700_000_000);
    let second = page(1, 1);
    assert_eq!((strings(&second, "BlackListItem", "To_Account"), &second["StartIndex"]), (vec!["cleo"], &json!(0)));
    assert_eq!(first["CurrentSequence"], second["CurrentSequence"]);
    ben.blacklist(&["anna", "dan"], &[]).expect("blacklisted");
    let check = |kind: &str| {
        let asked =
            json!({ "From_Account": "anna", "To_Account": ["ben", "cleo", "dan", "nobody"], "CheckType": kind });
        api.ok(BLACKLIST_CHECK, asked)
    };
    let (a_with_b, none) = ("BlackCheckResult_Type_AWithB", "BlackCheckResult_Type_NO");
    let both = check("BlackCheckResult_Type_Both");
    assert_eq!(
        strings(&both, "BlackListCheckItem", "Relation"),
        ["BlackCheckResult_Type_BothWay", a_with_b, none, none]
    );
    assert_eq!(codes(&both, "BlackListCheckItem"), [0, 0, 0, 30003]);
    assert_eq!(
        strings(&check("BlackCheckResult_Type_Single"), "BlackListCheckItem", "Relation"),
        [a_with_b, a_with_b, none, none]
    );
    let of_dan = json!({ "From_Account": "dan", "To_Account": ["ben"], "CheckType": "BlackCheckResult_Type_Both" });
    assert_eq!(
        strings(&api.ok(BLACKLIST_CHECK, of_dan), "BlackListCheckItem", "Relation"),
        ["BlackCheckResult_Type_BWithA"]
    );
    let off = json!({ "From_Account": "anna", "To_Account": ["ben", "dan", "ä"] });
    assert_eq!(codes(&api.ok(BLACKLIST_DELETE, off), "ResultItem"), [0, 30001, 30003]);
    assert_eq!(anna.blacklisted(), ["cleo"]);
    assert_ne!(page(0, 9)["CurrentSequence"], first["CurrentSequence"]);
    let to_ben = json!({ "From_Account": "anna", "To_Account": ["ben"] });
    let wrong =
        [json!({ "To_Account": [] }), json!({ "To_Account": null }), json!({ "To_Account": vec!["ben"; 1001] })];
    refuses(&api, BLACKLIST_ADD, &to_ben, &wrong);
    refuses(&api, BLACKLIST_DELETE, &to_ben, &wrong);
    let kind = json!({ "CheckType": "BlackCheckResult_Type_Both" });
    refuses(&api, BLACKLIST_CHECK, &with(to_ben, kind), &[&wrong[..], &[json!({ "CheckType": "x" })]].concat());
    let wrong = [
        json!({ "MaxLimited": null }),
        json!({ "MaxLimited": 0 }),
        json!({ "MaxLimited": 1001 }),
        json!({ "StartIndex": "x" }),
    ];
    refuses(&api, BLACKLIST_GET, &json!({ "From_Account": "anna", "StartIndex": 0, "MaxLimited": 30 }), &wrong);
}

#[test]
fn rel_08_a_full_blacklist_takes_nobody_else() {
    let gateway = start();
    let api = gateway.api();
    let names: Vec<String> = (0..1001).map(|n| format!("u{n:04}")).collect();
    for names in names.chunks(100) {
        api.ok("im_open_login_svc/multiaccount_import", json!({ "Accounts": names }));
    }
    import(&api, &["anna"]);
    let answer = api.ok(BLACKLIST_ADD, json!({ "From_Account": "anna", "To_Account": &names[..1000] }));
    assert_eq!(codes(&answer, "ResultItem"), vec![0; 1000]);
    let more = api.ok(BLACKLIST_ADD, json!({ "From_Account": "anna", "To_Account": [names[1000]] }));
    assert_eq!(codes(&more, "ResultItem"), [30013]);
    let page = api.ok(BLACKLIST_GET, json!({ "From_Account": "anna", "StartIndex": 0, "MaxLimited": 1000 }));
    assert_eq!((strings(&page, "BlackListItem", "To_Account").len(), &page["StartIndex"]), (1000, &json!(0)));
}

#[test]
fn rel_11_friend_lists_are_made_filled_read_and_deleted() {
    let gateway = Gateway::builder().more_settings(&json!({ "friend_lists_max": 3 })).start();
    let api = gateway.api();
    let mut anna = gateway.login("anna");
    import(&api, &["ben", "cleo", "dan"]);
    befriend(&api, "anna", &["ben", "cleo"]);
    next_friends(&mut anna);
    let made = api.ok(GROUP_ADD, json!({ "From_Account": "anna", "GroupName": ["work", "close"] }));
    assert!(made.get("ResultItem").is_none());
    assert!(
        matches!(anna.next_event(), What::FriendLists(FriendListsChanged { lists, .. }) if lists == ["work", "close"])
    );
    let filled =
        json!({ "From_Account": "anna", "GroupName": ["close", "new"], "To_Account": ["ben", "dan", "cleo", "ä"] });
    let filled = api.ok(GROUP_ADD, filled);
    assert_eq!(
        (codes(&filled, "ResultItem"), &filled["Fail_Account"]),
        (vec![0, 32216, 0, 30003], &json!(["dan", "ä"]))
    );
    assert!(matches!(anna.next_event(), What::FriendLists(_)));
    assert_eq!(next_friends(&mut anna), (owned(&["ben", "cleo"]), vec![]));
    let counts: Vec<_> = anna.friend_lists().into_iter().map(|list| (list.name, list.count)).collect();
    assert_eq!(counts, [("work".to_owned(), 0), ("close".to_owned(), 2), ("new".to_owned(), 2)]);
    let sequence = |answer: &Value| answer["CurrentSequence"].as_u64().expect("a sequence");
    assert!(sequence(&made) < sequence(&filled));
    let all = api.ok(GROUP_GET, json!({ "From_Account": "anna" }));
    let expected = json!([
        { "GroupName": "work", "FriendNumber": 0 }, { "GroupName": "close", "FriendNumber": 2 }, { "GroupName": "new", "FriendNumber": 2 },
    ]);
    assert_eq!((&all["ResultItem"], sequence(&all)), (&expected, sequence(&filled)));
    let one = json!({ "From_Account": "anna", "GroupName": ["new", "nothing"], "NeedFriend": "Need_Friend_Type_Yes" });
    let expected = json!([{ "GroupName": "new", "FriendNumber": 2, "To_Account": ["ben", "cleo"] }]);
    assert_eq!(api.ok(GROUP_GET, one)["ResultItem"], expected);
    assert_eq!(api.fails(GROUP_ADD, json!({ "From_Account": "anna", "GroupName": ["one more"] })), 30011);
    let deleted = api.ok(GROUP_DELETE, json!({ "From_Account": "anna", "GroupName": ["close", "nothing"] }));
    assert!(sequence(&deleted) > sequence(&all));
    assert!(
        matches!(anna.next_event(), What::FriendLists(FriendListsChanged { lists, .. }) if lists == ["work", "new"])
    );
    assert_eq!(anna.friend_names().len(), 2, "friends they stay");
    let good = json!({ "From_Account": "anna", "GroupName": ["work"] });
    let wrong = [
        json!({ "GroupName": [] }),
        json!({ "GroupName": "work" }),
        json!({ "GroupName": vec!["work"; 33] }),
        json!({ "GroupName": ["x".repeat(31)] }),
        json!({ "GroupName": [""] }),
    ];
    refuses(&api, GROUP_DELETE, &good, &wrong);
    let friends = [json!({ "To_Account": "ben" }), json!({ "To_Account": vec!["ben"; 1001] })];
    refuses(&api, GROUP_ADD, &good, &[&wrong[..], &friends].concat());
    refuses(&api, GROUP_GET, &good, &[json!({ "GroupName": "work" }), json!({ "NeedFriend": "Perhaps" })]);
}
