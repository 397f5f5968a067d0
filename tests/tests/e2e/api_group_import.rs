//! Groups of before, through the server API (GRP-19), and the files of what was said in groups (MSG-01).
//!
//! Goal: who moves to this server brings groups along, with members, times and history, and nobody's device rings.
//! Mechanics: imports beside clients of members. Without it a group would begin anew with its first message here.

use protocol::message::GroupType;
use serde_json::{Value, json};
use tests::{Api, Gateway, MessageExt};

use super::{
    api_config::{hour_of, through},
    api_messages::{import, now_s, text},
};

const GROUP: &str = "group_open_http_svc/import_group";
const MEMBERS: &str = "group_open_http_svc/import_group_member";
const MESSAGES: &str = "group_open_http_svc/import_group_msg";
const HISTORY: &str = "open_msg_svc/get_history";

fn message(from: &str, time_s: u64, random: u32, words: &str) -> Value {
    json!({ "From_Account": from, "SendTime": time_s, "Random": random, "MsgBody": text(words) })
}

fn import_messages(api: &Api, group: &str, list: &Value) -> Vec<(u64, u64)> {
    let answer = api.ok(MESSAGES, json!({ "GroupId": group, "RecentContactFlag": 1, "MsgList": list }));
    let results = answer["ImportMsgResult"].as_array().expect("a list");
    let result = |it: &Value| (it["MsgSeq"].as_u64().expect("a number"), it["Result"].as_u64().expect("a code"));
    results.iter().map(result).collect()
}

#[test]
fn grp_19_grp_26_a_group_comes_with_its_members_and_its_history() {
    let gateway = Gateway::start();
    let api = gateway.api();
    import(&api, &["owner", "ben", "cleo"]);
    let mut anna = gateway.login("anna");
    let then_s = now_s() - 7_200;
    for (kind, shows_earlier) in [("Private", false), ("Public", false), ("ChatRoom", true)] {
        let id = format!("old-{kind}");
        let group =
            json!({ "Type": kind, "GroupId": id, "Name": "Old", "Owner_Account": "owner", "CreateTime": then_s - 100 });
        assert_eq!(api.ok(GROUP, group.clone())["GroupId"], json!(id));
        assert_eq!(api.fails(GROUP, group), 10025, "once");
        let early = json!({ "Member_Account": "anna", "JoinTime": then_s - 50, "UnreadMsgNum": 0 });
        let role = if kind == "Private" { "Member" } else { "Admin" };
        let admin = json!({ "Member_Account": "ben", "Role": role });
        let members = json!({ "GroupId": id, "MemberList": [early, admin, { "Member_Account": "nobody" }] });
        let answer = api.ok(MEMBERS, members.clone());
        let results: Vec<_> = answer["MemberList"].as_array().expect("a list").iter().map(|it| &it["Result"]).collect();
        assert_eq!(results, [&json!(1), &json!(1), &json!(0)], "{kind}");
        assert_eq!(api.ok(MEMBERS, members)["MemberList"][0]["Result"], 2);
        let list = json!([
            message("owner", then_s, 1, "one"),
            message("anna", then_s + 1, 2, "two"),
            message("ben", then_s + 2, 3, "three"),
            message("nobody", then_s + 3, 4, "four"),
        ]);
        let expected = vec![(1, 0), (2, 0), (3, 0), (0, 10019)];
        assert_eq!(import_messages(&api, &id, &list), expected);
        assert_eq!(import_messages(&api, &id, &list), expected, "the same once more is the same");
        // Time does not run back, nor behind the group's making, nor ahead.
        for wrong_s in [then_s + 1, then_s - 200, now_s() + 100] {
            assert_eq!(import_messages(&api, &id, &json!([message("ben", wrong_s, 5, "wrong")])), [(0, 10004)]);
        }
        assert_eq!(anna.group_entry(&id).unread, 0, "who was a member by then has read it");
        // Who came later sees what was said from then on, but where everybody sees all (GRP-11).
        let late = json!({ "GroupId": id, "MemberList": [{ "Member_Account": "cleo", "JoinTime": then_s + 2, "UnreadMsgNum": 1 }] });
        api.ok(MEMBERS, late);
        let asked = json!({ "GroupId": id, "Member_List_Account": ["anna", "ben", "cleo"] });
        let told = api.ok("group_open_http_svc/get_specified_group_member_info", asked)["MemberList"].clone();
        assert_eq!((&told[0]["JoinTime"], &told[1]["Role"]), (&json!(then_s - 50), &json!(role)));
        let info = api.ok("group_open_http_svc/get_group_info", json!({ "GroupIdList": [id] }))["GroupInfo"][0].clone();
        assert_eq!(
            (&info["CreateTime"], &info["NextMsgSeq"], &info["MemberNum"]),
            (&json!(then_s - 100), &json!(4), &json!(4))
        );
        assert_eq!(anna.pushes_waiting(), 0, "nobody is told");
        let said = anna.group_history(&id).expect("history").messages;
        let said: Vec<_> = said.iter().map(|it| (it.seq, it.text(), it.time_ms / 1000)).collect();
        let expected = [(1, "one", 0), (2, "two", 1), (3, "three", 2)];
        assert_eq!(said, expected.map(|(seq, words, later)| (seq, words.to_owned(), then_s + later)), "{kind}");
        let mut cleo = gateway.login("cleo");
        let said = cleo.group_history(&id).expect("history").messages;
        assert_eq!(said.first().map(|it| it.seq), Some(if shows_earlier { 1 } else { 3 }), "{kind}");
        let entry = cleo.group_entry(&id);
        assert_eq!(entry.unread, 1, "{kind}");
        // From here on it is a group like any other.
        assert_eq!(cleo.send_to_group(&id, "hello again").expect("sent").seq, 4);
        let heard = loop {
            let heard = anna.next_message();
            if !heard.from.is_empty() {
                break heard;
            }
        };
        assert_eq!((heard.seq, heard.group.as_str()), (4, id.as_str()));
    }
    gateway.kill().check_store();
}

#[test]
fn grp_19_live_rooms_are_not_imported_and_what_is_wrong_has_its_code() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let mut anna = gateway.login("anna");
    let room = anna.create_group(GroupType::Avchatroom, &[]);
    assert_eq!(api.fails(GROUP, json!({ "Type": "AVChatRoom", "Name": "Live" })), 10007);
    let members = json!({ "GroupId": room, "MemberList": [{ "Member_Account": "anna" }] });
    assert_eq!(api.fails(MEMBERS, members), 10007);
    let said = json!({ "GroupId": room, "MsgList": [message("anna", now_s(), 1, "x")] });
    assert_eq!(api.fails(MESSAGES, said), 10007);
    let group = anna.create_group(GroupType::Public, &[]);
    for (command, body, code) in [
        (MESSAGES, json!({ "GroupId": "nothing", "MsgList": [message("anna", 1, 1, "x")] }), 10010),
        (MESSAGES, json!({ "GroupId": group, "MsgList": [] }), 10004),
        (MEMBERS, json!({ "GroupId": "nothing", "MemberList": [{ "Member_Account": "anna" }] }), 10010),
        (MEMBERS, json!({ "GroupId": group, "MemberList": [{ "Member_Account": "anna", "Role": "Owner" }] }), 10004),
        (MEMBERS, json!({ "GroupId": group, "MemberList": [] }), 10004),
        (GROUP, json!({ "Type": "Public" }), 10004),
    ] {
        assert_eq!(api.fails(command, body.clone()), code, "{command}: {body}");
    }
    let wrong =
        json!([{ "From_Account": "anna", "MsgBody": text("no time") }, { "From_Account": "anna", "SendTime": 5 }]);
    assert_eq!(import_messages(&api, &group, &wrong), [(0, 10004), (0, 10004)]);
}

#[test]
fn msg_01_all_messages_of_groups_of_an_hour_are_one_file() {
    let gateway = Gateway::start();
    let api = gateway.api();
    import(&api, &["anna", "ben"]);
    let then_s = now_s() - 7_200;
    for id in ["one", "two"] {
        api.ok(
            GROUP,
            json!({ "Type": "Public", "GroupId": id, "Name": "Old", "Owner_Account": "anna", "CreateTime": then_s }),
        );
        let list: Vec<Value> = (0..20).map(|n| message("anna", then_s, n, &format!("{id} {n}"))).collect();
        assert_eq!(import_messages(&api, id, &list.into()).len(), 20);
    }
    let message = json!({
        "SyncFromOldSystem": 2, "From_Account": "anna", "To_Account": "ben", "MsgRandom": 1, "MsgTimeStamp": then_s,
        "MsgBody": text("between two"),
    });
    api.ok("openim/importmsg", message);
    let hour = hour_of(then_s);
    let list_of = |chat: &str| -> Value {
        let file = api.ok(HISTORY, json!({ "ChatType": chat, "MsgTime": hour }))["File"][0].clone();
        let (status, packed) = api.fetch(file["URL"].as_str().expect("a link"));
        assert_eq!(status, 200);
        serde_json::from_slice(&through("gzip", &["-dc"], &packed)).expect("JSON")
    };
    let (groups, others) = (list_of("Group"), list_of("C2C"));
    assert_eq!((&groups["ChatType"], &others["ChatType"]), (&json!("Group"), &json!("C2C")));
    let list = groups["MsgList"].as_array().expect("a list");
    assert_eq!((list.len(), others["MsgList"].as_array().map(Vec::len)), (40, Some(1)));
    assert_eq!(
        (&list[0]["GroupId"], &list[0]["From_Account"], &list[39]["GroupId"]),
        (&json!("one"), &json!("anna"), &json!("two"))
    );
    // A link to one of them leads to no other.
    let link = |chat: &str| api.ok(HISTORY, json!({ "ChatType": chat, "MsgTime": hour }))["File"][0]["URL"].clone();
    let forged = link("C2C").as_str().expect("a link").replace("/C2C/", "/Group/");
    assert_eq!(api.fetch(&forged).0, 403);
}
