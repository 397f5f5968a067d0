//! An application's own server is asked and told about profiles and relations (CON-06).
//!
//! Goal: each command comes with the published body, once for each thing that happened, also where an act takes
//! several transactions; what is asked before is decided user by user. Mechanics: as in `callbacks`. Without it an
//! application server would know other friends than the users have.

use std::collections::BTreeSet;

use protocol::{
    ErrorCode,
    message::{AddFriend, AllowType, FriendAnswer, Gender, Platform, Profile, Relation},
};
use serde_json::{Value, json};
use tests::{Client, Gateway, Options, Received, Receiver, Reply};

const PROFILE: &str = "Profile.CallbackPortraitSet";
const BEFORE_ADD: &str = "Sns.CallbackPrevFriendAdd";
const BEFORE_ANSWER: &str = "Sns.CallbackPrevFriendResponse";
const ADDED: &str = "Sns.CallbackFriendAdd";
const DELETED: &str = "Sns.CallbackFriendDelete";
const BLACKLISTED: &str = "Sns.CallbackBlackListAdd";
const UNBLACKLISTED: &str = "Sns.CallbackBlackListDelete";
const AFTER: [&str; 5] = [PROFILE, ADDED, DELETED, BLACKLISTED, UNBLACKLISTED];
const BOTH: [&str; 2] = [BEFORE_ADD, BEFORE_ANSWER];

/// The next request: its body without the time, which is there where it is published.
fn next(receiver: &Receiver, command: &str, platform: &str) -> Value {
    let Received { query, mut body, id, .. } = receiver.next();
    let named = ["CallbackCommand", "OptPlatform"].map(|name| query[name].as_str());
    assert_eq!(named, [command, platform], "{body}");
    assert_eq!(body["CallbackCommand"], command);
    assert_eq!(id.is_some(), AFTER.contains(&command));
    let has_time = [PROFILE, BEFORE_ADD, BEFORE_ANSWER].contains(&command);
    let fields = body.as_object_mut().expect("an object");
    assert_eq!(fields.remove("EventTime").is_some_and(|time| time.is_u64()), has_time);
    body
}

fn pair(from: &str, to: &str) -> Value {
    json!({ "From_Account": from, "To_Account": to })
}

fn pairs(command: &str, pairs: &[Value]) -> Value {
    json!({ "CallbackCommand": command, "PairList": pairs })
}

fn ask(user: &str) -> AddFriend {
    AddFriend { user: user.to_owned(), ..AddFriend::default() }
}

fn need_confirm(client: &mut Client) {
    let allow_type = Some(AllowType::NeedConfirm.into());
    client.set_profile(Profile { allow_type, ..Profile::default() }).expect("set");
}

#[test]
fn con_06_profiles_and_relations_come_as_published_and_in_order() {
    let receiver = Receiver::start();
    let mut settings = receiver.settings(&[&AFTER[..], &BOTH].concat());
    settings["profile_custom_fields"] = json!(["Tag_Profile_Custom_Data"]);
    let gateway = Gateway::builder().more_settings(&settings).start();
    let on = |user| {
        let mut client = gateway.connect_with(user, Options { platform: Platform::Android, ..Options::default() });
        client.log_in_and_sync();
        client
    };
    let (mut anna, mut ben, mut cleo) = (on("anna"), on("ben"), on("cleo"));
    let item = |tag: &str, value: Value| json!({ "Tag": tag, "Value": value });

    let custom = [("Tag_Profile_Custom_Data".to_owned(), "your custom data".into())].into();
    let set = Profile {
        nick: Some("nick1".into()),
        gender: Some(Gender::Male.into()),
        allow_type: Some(AllowType::NeedConfirm.into()),
        level: Some(3),
        custom,
        ..Profile::default()
    };
    ben.set_profile(set.clone()).expect("set");
    let items = [
        item("Tag_Profile_IM_Nick", "nick1".into()),
        item("Tag_Profile_IM_Gender", "Gender_Type_Male".into()),
        item("Tag_Profile_IM_AllowType", "AllowType_Type_NeedConfirm".into()),
        item("Tag_Profile_IM_Level", 3.into()),
        item("Tag_Profile_Custom_Data", "your custom data".into()),
    ];
    let by_ben = json!({
        "CallbackCommand": PROFILE, "Operator_Account": "ben", "From_Account": "ben", "ProfileItem": items
    });
    assert_eq!(next(&receiver, PROFILE, "Android"), by_ben);
    // Nothing has changed by this; then only the one field has.
    ben.set_profile(set.clone()).expect("set");
    ben.set_profile(Profile { level: Some(4), ..set }).expect("set");
    let told = next(&receiver, PROFILE, "Android");
    assert_eq!(told["ProfileItem"], json!([item("Tag_Profile_IM_Level", 4.into())]));
    gateway.api().ok("im_open_login_svc/account_import", json!({ "UserID": "dan", "Nick": "Dan" }));
    let by_admin = json!({
        "CallbackCommand": PROFILE, "Operator_Account": "administrator", "From_Account": "dan",
        "ProfileItem": [item("Tag_Profile_IM_Nick", "Dan".into())]
    });
    assert_eq!(next(&receiver, PROFILE, "RESTAPI"), by_admin);

    // Asked for, and granted.
    let (remark, list) = ("R".to_owned(), "close".to_owned());
    let friends = vec![AddFriend { remark, list, source: "Android".into(), wording: "hi".into(), ..ask("ben") }];
    let sent = ErrorCode::FRIEND_REQUEST_SENT.0;
    assert_eq!(anna.add_friends(friends, false), Ok(vec![sent]));
    let asked = json!({
        "CallbackCommand": BEFORE_ADD, "Requester_Account": "anna", "From_Account": "anna", "FriendItem": [{
            "To_Account": "ben", "Remark": "R", "GroupName": "close", "AddSource": "AddSource_Type_Android",
            "AddWording": "hi"
        }], "AddType": "Add_Type_Both", "ForceAddFlags": 0
    });
    assert_eq!(next(&receiver, BEFORE_ADD, "Android"), asked);
    ben.answer_friend("anna", FriendAnswer::AgreeAndAdd).expect("answered");
    let answered = json!({
        "CallbackCommand": BEFORE_ANSWER, "Requester_Account": "ben", "From_Account": "ben", "ResponseFriendItem": [{
            "To_Account": "anna", "Remark": "my anna", "TagName": "", "ResponseAction": "Response_Action_AgreeAndAdd"
        }]
    });
    assert_eq!(next(&receiver, BEFORE_ANSWER, "Android"), answered);
    let begun = |from: &str, to: &str| json!({ "From_Account": from, "To_Account": to, "Initiator_Account": "anna" });
    let added = |pairs: &[Value], by: &str| {
        json!({
            "CallbackCommand": ADDED, "PairList": pairs, "ClientCmd": by, "Admin_Account": "", "ForceFlag": 0
        })
    };
    let expected = added(&[begun("ben", "anna"), begun("anna", "ben")], "friend_response");
    assert_eq!(next(&receiver, ADDED, "Android"), expected);
    // One way, at once; and whoever is refused is not told of.
    assert_eq!(anna.add_friends(vec![ask("cleo"), ask("nobody")], true).expect("an answer")[0], 0);
    assert_eq!(next(&receiver, BEFORE_ADD, "Android")["AddType"], "Add_Type_Single");
    assert_eq!(next(&receiver, ADDED, "Android"), added(&[begun("anna", "cleo")], "friend_add"));

    // The end of it, in one way or the other.
    anna.delete_friends(&["ben"], false).expect("deleted");
    let ended = pairs(DELETED, &[pair("anna", "ben"), pair("ben", "anna")]);
    assert_eq!(next(&receiver, DELETED, "Android"), ended);
    anna.blacklist(&["ben", "cleo"], &[]).expect("blacklisted");
    let listed = pairs(BLACKLISTED, &[pair("anna", "ben"), pair("anna", "cleo")]);
    assert_eq!(next(&receiver, BLACKLISTED, "Android"), listed);
    assert_eq!(next(&receiver, DELETED, "Android"), pairs(DELETED, &[pair("anna", "cleo")]));
    anna.blacklist(&["ben"], &[]).expect("as before");
    anna.blacklist(&[], &["ben", "cleo"]).expect("taken off");
    let off = pairs(UNBLACKLISTED, &[pair("anna", "ben"), pair("anna", "cleo")]);
    assert_eq!(next(&receiver, UNBLACKLISTED, "Android"), off);
    // Nothing else was told meanwhile.
    need_confirm(&mut cleo);
    assert_eq!(next(&receiver, PROFILE, "Android")["From_Account"], "cleo");
    assert!(receiver.waiting().is_empty());
    gateway.stop().2.check_store();
}

#[test]
fn con_06_friendships_are_refused_user_by_user() {
    let receiver = Receiver::start();
    let mut settings = receiver.settings(&BOTH);
    settings["callbacks"]["timeout_ms"] = 50.into();
    let gateway = Gateway::builder().more_settings(&settings).start();
    let [mut anna, mut ben, mut cleo] = ["anna", "ben", "cleo"].map(|user| gateway.login(user));
    gateway.login("dan");
    let said = |items: &[(&str, u32)]| {
        let item =
            |(user, code): &(&str, u32)| json!({ "To_Account": user, "ResultCode": code, "ResultInfo": "too young" });
        let items: Vec<Value> = items.iter().map(item).collect();
        json!({ "ActionStatus": "OK", "ErrorCode": 0, "ErrorInfo": "", "ResultItem": items })
    };
    let say = |said: Value| receiver.answer(move |_| Reply::Json(said.clone()));
    say(said(&[("ben", 0), ("cleo", 38_001), ("dan", 7)]));
    let codes = anna.add_friends(vec![ask("ben"), ask("cleo"), ask("dan")], false);
    assert_eq!(codes, Ok(vec![0, 38_001, 38_000]));
    let relations = anna.check_relations(&["ben", "cleo", "dan"], false, false).expect("relations");
    let (both, none) = (Relation::Both as i32, Relation::None as i32);
    assert_eq!(relations.iter().map(|result| result.relation).collect::<Vec<_>>(), [both, none, none]);

    // An answer to a request.
    need_confirm(&mut cleo);
    say(said(&[]));
    assert_eq!(anna.add_friend("cleo"), ErrorCode::FRIEND_REQUEST_SENT.0);
    say(said(&[("anna", 38_002)]));
    let refused = cleo.answer_friend("anna", FriendAnswer::Agree).expect_err("refused");
    assert_eq!(refused.code(), Some(ErrorCode(38_002)));
    assert_eq!(cleo.friend_requests(false, "", 0).expect("requests").count, 1, "it is open still");
    say(said(&[("ben", 38_002)]));
    cleo.answer_friend("anna", FriendAnswer::Agree).expect("nothing against anna");

    // A server that fails, or says so, is left out, or counts as a refusal.
    for failure in [Reply::code(38_003, "down"), Reply::Silence] {
        receiver.answer(move |_| failure.clone());
        gateway.app_command(&["set", "1400000001", "callbacks.on_timeout=pass"]).expect("set");
        assert_eq!(ben.delete_friends(&["dan"], false), Ok(vec![ErrorCode::FRIEND_UNKNOWN.0]), "nobody is asked");
        assert_eq!(ben.add_friend("dan"), 0);
        gateway.app_command(&["set", "1400000001", "callbacks.on_timeout=refuse"]).expect("set");
        let refused = ben.add_friends(vec![ask("cleo")], false).expect_err("refused");
        assert_eq!(refused.code(), Some(ErrorCode(38_000)));
        ben.delete_friends(&["dan"], false).expect("deleted");
    }
}

#[test]
fn con_06_what_takes_several_transactions_is_told_once() {
    const FRIENDS: usize = 150;
    let receiver = Receiver::start();
    let settings = receiver.settings(&AFTER);
    let gateway = Gateway::builder().more_settings(&settings).start();
    let api = gateway.api();
    let names: Vec<String> = (0..FRIENDS).map(|number| format!("friend-{number}")).collect();
    for names in names.chunks(100) {
        api.ok("im_open_login_svc/multiaccount_import", json!({ "Accounts": names }));
    }
    let mut anna = gateway.login("anna");
    let befriend = |anna: &mut Client| {
        for names in names.chunks(100) {
            let codes = anna.add_friends(names.iter().map(|name| ask(name)).collect(), false);
            assert_eq!(codes, Ok(vec![0; names.len()]));
        }
    };
    let expected = |command: &str| {
        let of = |name: &String| [("anna".to_owned(), name.clone()), (name.clone(), "anna".to_owned())];
        let told = next_pairs(&receiver, command, 2 * FRIENDS);
        assert_eq!(told, names.iter().flat_map(of).collect());
    };
    befriend(&mut anna);
    expected(ADDED);
    // Everybody who has anna as a friend is told of this, some at a time; the application once.
    anna.set_profile(Profile { nick: Some("Anna".into()), ..Profile::default() }).expect("set");
    assert_eq!(receiver.next().body["CallbackCommand"], PROFILE);
    anna.delete_all_friends().expect("deleted");
    expected(DELETED);
    befriend(&mut anna);
    expected(ADDED);
    // A deleted account has no friends, and nobody on a blacklist.
    api.ok("im_open_login_svc/account_import", json!({ "UserID": "eve" }));
    anna.blacklist(&["eve"], &[]).expect("blacklisted");
    assert_eq!(receiver.next().body, pairs(BLACKLISTED, &[pair("anna", "eve")]));
    api.ok("im_open_login_svc/account_delete", json!({ "DeleteItem": [{ "UserID": "anna" }] }));
    expected(DELETED);
    assert_eq!(receiver.next().body, pairs(UNBLACKLISTED, &[pair("anna", "eve")]));
    // Nothing is told that has not happened.
    assert!(receiver.waiting().is_empty());
    gateway.stop().2.check_store();
}

/// Takes requests until so many pairs were told, none of them twice.
fn next_pairs(receiver: &Receiver, command: &str, count: usize) -> BTreeSet<(String, String)> {
    let mut all = BTreeSet::new();
    while all.len() < count {
        let body = receiver.next().body;
        assert_eq!(body["CallbackCommand"], command);
        for pair in body["PairList"].as_array().expect("pairs") {
            let of = |name: &str| pair[name].as_str().expect("a name").to_owned();
            let pair = (of("From_Account"), of("To_Account"));
            assert!(all.insert(pair.clone()), "{pair:?} was told twice");
        }
    }
    all
}

#[test]
fn con_06_whoever_is_thrown_out_through_the_server_api_is_told_to_be_gone() {
    let receiver = Receiver::start();
    let gateway = Gateway::builder().more_settings(&receiver.settings(&["State.StateChange"])).start();
    let api = gateway.api();
    let state = || {
        let Received { query, body, .. } = receiver.next();
        let of = |name: &str| body["Info"][name].as_str().expect("a text").to_owned();
        (of("To_Account"), of("Action"), of("Reason"), query["OptPlatform"].clone())
    };
    let is = |user: &str, action: &str, reason: &str, platform: &str| {
        (user.to_owned(), action.to_owned(), reason.to_owned(), platform.to_owned())
    };
    let acts = [
        ("anna", "kick", json!({ "UserID": "anna" })),
        ("ben", "account_delete", json!({ "DeleteItem": [{ "UserID": "ben" }] })),
    ];
    for (user, command, body) in acts {
        let _client = gateway.login(user);
        assert_eq!(state(), is(user, "Login", "Register", "Unknown"));
        api.ok(&format!("im_open_login_svc/{command}"), body);
        assert_eq!(state(), is(user, "Logout", "Unregister", "RESTAPI"));
    }
    assert!(receiver.waiting().is_empty());
}
