//! Groups through the server API (CON-10): their life and who is in them.
//!
//! Goal: an application's server makes, reads, changes and ends groups by the published names and codes, as the
//! administrator of the table of groups; members' devices learn of it as of anything that members do. Mechanics: calls
//! beside clients, for each type of group. Without it a shop could not put its customers together.

use protocol::message::{GroupTips, element, event, group_left::Why, group_tips::Kind};
use serde_json::{Value, json};
use tests::{Api, App, Client, Gateway, MessageExt};

use super::api_messages::import;

const RIGHT_MISSING: u64 = 10007;
const UNKNOWN: u64 = 10010;
const ARGUMENT: u64 = 10004;
const FULL: u64 = 10014;
const ID_INVALID: u64 = 10015;
const USER_UNKNOWN: u64 = 10019;

/// Every type, by its published name.
const TYPES: [&str; 4] = ["Private", "Public", "ChatRoom", "AVChatRoom"];

fn svc(command: &str) -> String {
    format!("group_open_http_svc/{command}")
}

/// Calls of the service of groups.
trait GroupApi {
    fn group(&self, command: &str, body: Value) -> Value;
    fn refused(&self, command: &str, body: Value) -> u64;
    fn create(&self, kind: &str, owner: &str, members: &[&str]) -> String;
    fn info(&self, group: &str) -> Value;
}

impl GroupApi for Api {
    fn group(&self, command: &str, body: Value) -> Value {
        self.ok(&svc(command), body)
    }

    fn refused(&self, command: &str, body: Value) -> u64 {
        self.fails(&svc(command), body)
    }

    fn create(&self, kind: &str, owner: &str, members: &[&str]) -> String {
        let members: Vec<Value> = members.iter().map(|user| json!({ "Member_Account": user })).collect();
        let body = json!({ "Type": kind, "Name": "Garden", "Owner_Account": owner, "MemberList": members });
        self.group("create_group", body)["GroupId"].as_str().expect("an id").to_owned()
    }

    fn info(&self, group: &str) -> Value {
        self.group("get_group_info", json!({ "GroupIdList": [group] }))["GroupInfo"][0].clone()
    }
}

fn start() -> Gateway {
    let settings = json!({ "group_custom_fields": ["colour"], "group_member_custom_fields": ["team"] });
    Gateway::builder().more_settings(&settings).start()
}

/// The next tips that a member is told of a group.
fn next_tips(client: &mut Client, group: &str) -> GroupTips {
    loop {
        if let event::What::Message(message) = client.next_event()
            && message.group == group
            && let Some(element::Kind::GroupTips(tips)) = message.decoded().elements.pop().and_then(|it| it.kind)
        {
            return tips;
        }
    }
}

fn members_of(api: &Api, group: &str) -> Vec<String> {
    let found = api.group("get_group_member_info", json!({ "GroupId": group, "MemberInfoFilter": ["Role"] }));
    let name = |member: &Value| format!("{} {}", member["Member_Account"], member["Role"]).replace('"', "");
    found["MemberList"].as_array().expect("a list").iter().map(name).collect()
}

#[test]
fn grp_20_grp_21_a_group_of_each_type_is_made_read_changed_and_ended() {
    let gateway = start();
    let api = gateway.api();
    import(&api, &["anna", "ben"]);
    let mut owner = gateway.login("owner");
    for (kind, members) in TYPES.into_iter().zip([2, 2, 2, 1]) {
        let id = format!("garden-{kind}");
        let others = if kind == "AVChatRoom" { json!([]) } else { json!([{ "Member_Account": "anna" }]) };
        let body = json!({
            "Owner_Account": "owner", "Type": kind, "GroupId": id, "Name": "Garden", "Introduction": "roses",
            "Notification": "water them", "FaceUrl": "https://files.example/g.png", "MaxMemberCount": 50,
            "ApplyJoinOption": if kind == "Private" { Value::Null } else { "FreeAccess".into() },
            "AppDefinedData": [{ "Key": "colour", "Value": "red" }], "MemberList": others,
        });
        let made = api.group("create_group", body.clone());
        assert_eq!((&made["GroupId"], &made["Type"]), (&json!(id), &json!(kind)));
        let info = api.info(&id);
        let expected = [
            ("Type", json!(kind)),
            ("Name", json!("Garden")),
            ("Introduction", json!("roses")),
            ("Notification", json!("water them")),
            ("FaceUrl", json!("https://files.example/g.png")),
            ("Owner_Account", json!("owner")),
            ("MemberNum", json!(members)),
            ("NextMsgSeq", json!(1)),
            ("ApplyJoinOption", json!(if kind == "Private" { "DisableApply" } else { "FreeAccess" })),
            ("InviteJoinOption", json!(if kind == "Private" { "FreeAccess" } else { "DisableInvite" })),
            ("MuteAllMember", json!("Off")),
            ("AppDefinedData", json!([{ "Key": "colour", "Value": "red" }])),
            ("MaxMemberNum", json!(if kind == "AVChatRoom" { 0 } else { 50 })),
            ("ErrorCode", json!(0)),
        ];
        for (field, value) in expected {
            assert_eq!(info[field], value, "{kind}: {field} of {info}");
        }
        assert!(info["CreateTime"].as_u64().is_some_and(|time_s| time_s > 1_700_000_000));
        assert_eq!(info["LastInfoTime"], info["CreateTime"]);
        assert_eq!(api.refused("create_group", body), 10025, "the owner has it already");
        // GRP-02: an administrator of the application changes groups of every type.
        let change = json!({
            "GroupId": id, "Name": "Park", "Notification": "", "MuteAllMember": "On", "MaxMemberNum": 60,
            "AppDefinedData": [{ "Key": "colour", "Value": "" }],
        });
        api.group("modify_group_base_info", change);
        let info = api.info(&id);
        assert_eq!(
            (&info["Name"], &info["Notification"], &info["MuteAllMember"]),
            (&json!("Park"), &json!(""), &json!("On"))
        );
        assert_eq!(info["AppDefinedData"], json!([]));
        // GRP-04: and ends them.
        api.group("destroy_group", json!({ "GroupId": id }));
        assert_eq!(api.info(&id)["ErrorCode"], UNKNOWN);
        assert_eq!(api.refused("destroy_group", json!({ "GroupId": id })), UNKNOWN);
    }
    assert!(owner.joined_groups().is_empty());
    // Without an owner, with an id that is made for it, and by the newer names of types.
    for (newer, older) in [("Work", "Private"), ("Meeting", "ChatRoom")] {
        let made = api.group("create_group", json!({ "Type": newer, "Name": "Nobody's" }));
        assert_eq!(made["Type"], older);
        let id = made["GroupId"].as_str().expect("an id");
        assert!(id.starts_with("@TGS#"), "{id}");
        assert_eq!((&api.info(id)["Owner_Account"], &api.info(id)["MemberNum"]), (&json!(""), &json!(0)));
    }
}

#[test]
fn grp_20_what_is_wrong_with_a_new_group_has_its_code() {
    let gateway = start();
    let api = gateway.api();
    import(&api, &["anna", "ben"]);
    let good = json!({ "Type": "Public", "Name": "Garden", "Owner_Account": "anna" });
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    let long = "x".repeat(101);
    for (body, code) in [
        (with("Type", Value::Null), ARGUMENT),
        (with("Type", "Community".into()), ARGUMENT),
        (with("Name", Value::Null), ARGUMENT),
        (with("Name", long.into()), ARGUMENT),
        (with("Name", 7.into()), ARGUMENT),
        (with("GroupId", "@TGS#mine".into()), ID_INVALID),
        (with("GroupId", "x".repeat(49).into()), ID_INVALID),
        (with("Owner_Account", "nobody".into()), USER_UNKNOWN),
        (with("MemberList", json!([{ "Member_Account": "nobody" }])), USER_UNKNOWN),
        (with("MemberList", json!([{ "Member_Account": "ben", "Role": "Owner" }])), ARGUMENT),
        (with("MemberList", json!([{ "Member_Account": "ben", "NameCard": "n".repeat(51) }])), ARGUMENT),
        (with("MemberList", json!(["ben"])), ARGUMENT),
        (with("ApplyJoinOption", "Perhaps".into()), ARGUMENT),
        (with("InviteJoinOption", "FreeAccess".into()), ARGUMENT),
        (with("MaxMemberCount", 6001.into()), ARGUMENT),
        (with("MuteAllMember", "Perhaps".into()), ARGUMENT),
        (with("AppDefinedData", json!([{ "Key": "undeclared", "Value": "x" }])), ARGUMENT),
        (
            json!({ "Type": "Private", "Name": "G", "MemberList": [{ "Member_Account": "ben", "Role": "Admin" }] }),
            RIGHT_MISSING,
        ),
        (json!({ "Type": "AVChatRoom", "Name": "G", "MemberList": [{ "Member_Account": "ben" }] }), RIGHT_MISSING),
    ] {
        assert_eq!(api.refused("create_group", body.clone()), code, "{body}");
    }
    assert_eq!(api.group("get_appid_group_list", json!({}))["TotalCount"], 0, "nothing was made");
    api.group("create_group", with("GroupId", "garden".into()));
    let mut other = with("GroupId", "garden".into());
    other["Owner_Account"] = "ben".into();
    assert_eq!(api.refused("create_group", other), 10021, "taken");
    for command in ["modify_group_base_info", "get_group_member_info", "destroy_group", "get_online_member_num"] {
        assert_eq!(api.refused(command, json!({ "GroupId": "nothing", "Name": "x" })), UNKNOWN, "{command}");
        assert_eq!(api.refused(command, json!({ "GroupId": "é", "Name": "x" })), ID_INVALID, "{command}");
        assert_eq!(api.refused(command, json!({})), ARGUMENT, "{command}");
    }
}

#[test]
fn grp_07_grp_10_grp_12_members_are_added_and_removed_and_everybody_hears_who_is_to() {
    let gateway = start();
    let api = gateway.api();
    let mut owner = gateway.login("owner");
    let mut anna = gateway.login("anna");
    import(&api, &["ben", "cleo"]);
    for kind in TYPES {
        let group = api.create(kind, "owner", &[]);
        let add = |names: &[&str], silence: u32| {
            let members: Vec<Value> = names.iter().map(|user| json!({ "Member_Account": user })).collect();
            json!({ "GroupId": group, "MemberList": members, "Silence": silence })
        };
        let remove = |names: &[&str]| json!({ "GroupId": group, "MemberToDel_Account": names, "Reason": "spam" });
        if kind == "AVChatRoom" {
            assert_eq!(api.refused("add_group_member", add(&["anna"], 0)), RIGHT_MISSING);
            assert_eq!(api.refused("delete_group_member", remove(&["anna"])), RIGHT_MISSING);
            continue;
        }
        let added = api.group("add_group_member", add(&["anna", "owner", "nobody"], 0));
        let results: Vec<_> =
            added["MemberList"].as_array().expect("a list").iter().map(|it| it["Result"].clone()).collect();
        assert_eq!(results, [json!(1), json!(2), json!(0)], "{kind}");
        assert_eq!(api.refused("add_group_member", add(&["nobody"], 0)), USER_UNKNOWN);
        // A Work group is told to nobody before its first message (GRP-13), a Meeting's members hear of nobody (GRP-12).
        if kind == "Private" {
            owner.send_to_group(&group, "hello").expect("sent");
        }
        let entered = loop {
            if let event::What::GroupEntered(entered) = anna.next_event() {
                break entered;
            }
        };
        // A group that begins with its first message is told in its owner's name.
        let by = if kind == "Private" { "owner" } else { "administrator" };
        assert_eq!((entered.group.as_str(), entered.by.as_str()), (group.as_str(), by));
        if kind == "Public" {
            let tips = next_tips(&mut owner, &group);
            assert!(matches!(tips.kind(), Kind::Invited) && tips.users == ["anna"], "{tips:?}");
        }
        api.group("add_group_member", add(&["ben"], 1));
        assert_eq!(members_of(&api, &group), ["anna Member", "ben Member", "owner Owner"]);
        assert_eq!(api.refused("delete_group_member", remove(&["owner"])), RIGHT_MISSING, "nobody removes the owner");
        api.group("delete_group_member", remove(&["cleo"])); // who is not there is where he shall be
        api.group("delete_group_member", remove(&["anna", "ben"]));
        let left = loop {
            if let event::What::GroupLeft(left) = anna.next_event() {
                break left;
            }
        };
        assert_eq!((left.why(), left.reason.as_str(), left.group), (Why::Removed, "spam", group.clone()));
        if kind == "Public" {
            let tips = next_tips(&mut owner, &group);
            assert!(matches!(tips.kind(), Kind::Removed) && tips.users == ["anna", "ben"], "silence is kept: {tips:?}");
        }
        assert_eq!(members_of(&api, &group), ["owner Owner"]);
    }
    let small = api.create("Public", "owner", &[]);
    api.group("modify_group_base_info", json!({ "GroupId": small, "MaxMemberNum": 1 }));
    let add = json!({ "GroupId": small, "MemberList": [{ "Member_Account": "anna" }] });
    assert_eq!(api.refused("add_group_member", add), FULL, "GRP-01");
}

#[test]
fn grp_09_grp_14_grp_21_what_members_are_may_and_are_called() {
    let gateway = start();
    let api = gateway.api();
    let mut anna = gateway.login("anna");
    import(&api, &["owner", "ben"]);
    for kind in TYPES {
        let is_room = kind == "AVChatRoom";
        let group = api.create(kind, "owner", if is_room { &[] } else { &["anna", "ben"] });
        if is_room {
            anna.join_group(&group).expect("in");
        }
        if kind == "Private" {
            anna.send_to_group(&group, "it begins").expect("sent");
        }
        let member = |field: &str, value: Value| json!({ "GroupId": group, "Member_Account": "anna", field: value });
        // GRP-09: Work has no administrators. Those of a live room are named by the application.
        if kind == "Private" {
            assert_eq!(api.refused("modify_group_member_info", member("Role", "Admin".into())), RIGHT_MISSING);
        } else {
            api.group("modify_group_member_info", member("Role", "Admin".into()));
            let asked = json!({ "GroupId": group, "User_Account": ["anna", "owner", "nobody"] });
            let roles = api.group("get_role_in_group", asked);
            let expected = [("anna", "Admin"), ("owner", "Owner"), ("nobody", "NotMember")];
            let expected = expected.map(|(user, role)| json!({ "Member_Account": user, "Role": role }));
            assert_eq!(roles["UserIdList"], json!(expected), "{kind}");
            api.group("modify_group_member_info", member("Role", "Member".into()));
        }
        // GRP-14: members of Work are not muted.
        let mute = |seconds: u32| json!({ "GroupId": group, "Members_Account": ["anna"], "MuteTime": seconds });
        if kind == "Private" {
            assert_eq!(api.refused("forbid_send_msg", mute(60)), RIGHT_MISSING);
        } else {
            api.group("forbid_send_msg", mute(60));
            assert_eq!(anna.send_to_group(&group, "quiet").expect_err("muted").code().map(|code| code.0), Some(10017));
            let muted = api.group("get_group_muted_account", json!({ "GroupId": group }));
            assert_eq!(muted["MutedAccountList"][0]["Member_Account"], "anna");
            let older = api.group("get_group_shutted_uin", json!({ "GroupId": group }));
            assert_eq!(older["ShuttedUinList"][0]["ShuttedUntil"], muted["MutedAccountList"][0]["MutedUntil"]);
            api.group("forbid_send_msg", mute(0));
            assert_eq!(
                api.group("get_group_muted_account", json!({ "GroupId": group }))["MutedAccountList"],
                json!([])
            );
            anna.send_to_group(&group, "loud").expect("sent");
        }
        let named = json!({
            "GroupId": group, "Member_Account": "anna", "NameCard": "Änne", "MsgFlag": "Discard",
            "AppMemberDefinedData": [{ "Key": "team", "Value": "blue" }],
        });
        if is_room {
            assert_eq!(api.refused("modify_group_member_info", named), RIGHT_MISSING, "it keeps no members");
            continue;
        }
        api.group("modify_group_member_info", named);
        let asked = json!({ "GroupId": group, "Member_List_Account": ["anna", "nobody"] });
        let found = api.group("get_specified_group_member_info", asked);
        let [found] = &found["MemberList"].as_array().expect("a list")[..] else { panic!("{found}") };
        for (field, value) in [
            ("Member_Account", json!("anna")),
            ("NameCard", json!("Änne")),
            ("MsgFlag", json!("Discard")),
            ("AppMemberDefinedData", json!([{ "Key": "team", "Value": "blue" }])),
            ("Role", json!("Member")),
            ("MuteUntil", json!(0)),
        ] {
            assert_eq!(found[field], value, "{kind}: {field} of {found}");
        }
        assert!(found["LastSendMsgTime"].as_u64().is_some_and(|time_s| time_s > 1_700_000_000));
        let few = json!({ "GroupId": group, "MemberInfoFilter": ["NameCard"], "AppDefinedDataFilter_GroupMember": ["x"],
            "MemberRoleFilter": ["Member"], "Limit": 1, "Offset": 0 });
        let found = api.group("get_group_member_info", few);
        let expected = json!([{ "Member_Account": "anna", "NameCard": "Änne", "AppMemberDefinedData": [] }]);
        assert_eq!((&found["MemberNum"], &found["MemberList"]), (&json!(3), &expected));
        for (field, value, code) in [
            ("Role", json!("Owner"), ARGUMENT),
            ("MsgFlag", json!("Perhaps"), ARGUMENT),
            ("NameCard", json!("x".repeat(51)), ARGUMENT),
            ("AppMemberDefinedData", json!([{ "Key": "undeclared", "Value": "x" }]), ARGUMENT),
            ("Member_Account", json!("nobody"), USER_UNKNOWN),
        ] {
            let mut body = member("NameCard", "x".into());
            body[field] = value;
            assert_eq!(api.refused("modify_group_member_info", body), code, "{field}");
        }
    }
}

#[test]
fn grp_22_grp_08_a_group_is_given_to_another_member_and_bans_keep_users_out() {
    let gateway = start();
    let api = gateway.api();
    let mut anna = gateway.login("anna");
    import(&api, &["owner", "ben"]);
    for kind in TYPES {
        let is_room = kind == "AVChatRoom";
        let group = api.create(kind, "owner", if is_room { &[] } else { &["anna"] });
        let give = |user: &str| json!({ "GroupId": group, "NewOwner_Account": user });
        if !is_room {
            assert_eq!(api.refused("change_group_owner", give("ben")), USER_UNKNOWN, "no member");
        }
        api.group("change_group_owner", give("anna"));
        assert_eq!(api.info(&group)["Owner_Account"], "anna", "{kind}");
        api.group("change_group_owner", give("anna"));
        api.group("change_group_owner", give("owner"));
        let ban = |command: &str, users: &[&str]| {
            (
                svc(command),
                json!({ "GroupId": group, "Members_Account": users, "Duration": 600, "Description": "spam" }),
            )
        };
        let (command, body) = ban("ban_group_member", &["owner"]);
        assert_eq!(api.fails(&command, body), RIGHT_MISSING, "nobody bans the owner");
        let (command, body) = ban("ban_group_member", &["anna"]);
        api.ok(&command, body);
        let banned = api.group("get_group_ban_member", json!({ "GroupId": group, "Offset": 0, "Limit": 10 }));
        assert_eq!(banned["BannedAccountList"][0]["Member_Account"], "anna");
        assert_eq!(banned["NextOffset"], 0);
        if kind != "Private" {
            let refused = anna.join_group(&group).expect_err("banned").code();
            assert_eq!(refused, Some(protocol::ErrorCode::GROUP_BANNED), "{kind}");
        }
        let (command, body) = ban("unban_group_member", &["anna"]);
        api.ok(&command, body);
        let banned = api.group("get_group_ban_member", json!({ "GroupId": group }));
        assert_eq!(banned["BannedAccountList"], json!([]));
        if kind != "Private" {
            anna.join_group(&group).expect("in, or applied");
        }
        let without = json!({ "GroupId": group, "Members_Account": ["anna"] });
        assert_eq!(api.refused("ban_group_member", without), ARGUMENT, "for how long?");
    }
}

#[test]
fn grp_24_lists_of_groups_are_paged_filtered_and_counted() {
    let gateway = start();
    let api = gateway.api();
    let mut anna = gateway.login("anna");
    import(&api, &["owner"]);
    let mut made: Vec<String> = Vec::new();
    for kind in ["Public", "ChatRoom", "Private", "Public", "Public"] {
        made.push(api.create(kind, "owner", &["anna"]));
    }
    made.push(api.create("AVChatRoom", "owner", &[]));
    let ids = |answer: &Value| -> Vec<String> {
        let list = answer["GroupIdList"].as_array().expect("a list");
        list.iter().map(|group| group["GroupId"].as_str().expect("an id").to_owned()).collect()
    };
    let (mut all, mut next) = (Vec::new(), 0);
    loop {
        let page = api.group("get_appid_group_list", json!({ "Limit": 2, "Next": next }));
        assert_eq!(page["TotalCount"], 6);
        all.extend(ids(&page));
        next = page["Next"].as_u64().expect("a number");
        if next == 0 {
            break;
        }
    }
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    assert_eq!(sorted(all), sorted(made.clone()));
    let rooms = api.group("get_appid_group_list", json!({ "GroupType": "AVChatRoom" }));
    assert_eq!((rooms["TotalCount"].as_u64(), ids(&rooms)), (Some(1), vec![made[5].clone()]));
    assert_eq!(api.refused("get_appid_group_list", json!({ "Limit": 10001 })), ARGUMENT);
    api.group("destroy_group", json!({ "GroupId": made[4] }));
    assert_eq!(api.group("get_appid_group_list", json!({ "GroupType": "Public" }))["TotalCount"], 2);
    // Those of a user: Work groups that nobody has written in are left out unless they are asked for.
    let asked = json!({ "Member_Account": "anna" });
    assert_eq!(
        sorted(ids(&api.group("get_joined_group_list", asked))),
        sorted(vec![made[0].clone(), made[1].clone(), made[3].clone()])
    );
    let asked = json!({ "Member_Account": "anna", "WithNoActiveGroups": 1, "Limit": 2, "Offset": 2 });
    let page = api.group("get_joined_group_list", asked);
    assert_eq!((page["TotalCount"].as_u64(), ids(&page).len()), (Some(4), 2));
    anna.send_to_group(&made[0], "mine").expect("sent");
    let asked = json!({
        "Member_Account": "anna", "GroupType": "Public",
        "ResponseFilter": { "GroupBaseInfoFilter": ["Name", "NextMsgSeq"], "SelfInfoFilter": ["Role", "MsgFlag", "UnreadMsgNum"] },
    });
    let page = api.group("get_joined_group_list", asked);
    let own = json!({ "Role": "Member", "MsgFlag": "AcceptAndNotify", "UnreadMsgNum": 0 });
    let first =
        page["GroupIdList"].as_array().expect("a list").iter().find(|group| group["GroupId"] == made[0].as_str());
    let first = first.expect("it is there");
    assert_eq!((&first["Name"], &first["SelfInfo"], first.get("Type")), (&json!("Garden"), &own, None));
    assert_eq!(api.refused("get_joined_group_list", json!({ "Member_Account": "nobody" })), USER_UNKNOWN);
}

#[test]
fn grp_21_attributes_and_counters_are_kept() {
    let gateway = start();
    let api = gateway.api();
    import(&api, &["owner"]);
    for kind in TYPES {
        let group = api.create(kind, "owner", &[]);
        let attributes = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
            json!({ "GroupId": group, "GroupAttr": pairs })
        };
        let kept =
            || api.ok("group_open_attr_http_svc/get_group_attr", json!({ "GroupId": group }))["GroupAttrAry"].clone();
        api.group("set_group_attr", attributes(&[("a", "1"), ("b", "2")]));
        api.group("modify_group_attr", attributes(&[("b", "3")]));
        assert_eq!(kept(), attributes(&[("a", "1"), ("b", "3")])["GroupAttr"], "{kind}");
        api.group("delete_group_attr", json!({ "GroupId": group, "GroupAttr": [{ "key": "a" }] }));
        assert_eq!(kept(), attributes(&[("b", "3")])["GroupAttr"]);
        api.group("set_group_attr", attributes(&[("c", "4")]));
        assert_eq!(kept(), attributes(&[("c", "4")])["GroupAttr"]);
        api.group("clear_group_attr", json!({ "GroupId": group }));
        assert_eq!(kept(), json!([]));
        assert_eq!(api.refused("modify_group_attr", attributes(&[])), ARGUMENT);
        assert_eq!(api.refused("modify_group_attr", attributes(&[("k".repeat(33).as_str(), "1")])), ARGUMENT);
        let count = |mode: &str, pairs: Value| json!({ "GroupId": group, "Mode": mode, "GroupCounter": pairs });
        api.group(
            "update_group_counter",
            count("Set", json!([{ "Key": "likes", "Value": 5 }, { "Key": "gifts", "Value": -1 }])),
        );
        let now = api.group("update_group_counter", count("Increase", json!([{ "Key": "likes", "Value": 2 }])));
        assert_eq!(now["GroupCounter"], json!([{ "Key": "likes", "Value": 7 }]));
        let now = api.group("update_group_counter", count("Decrease", json!([{ "Key": "likes", "Value": 3 }])));
        assert_eq!(now["GroupCounter"], json!([{ "Key": "likes", "Value": 4 }]));
        let read = |keys: Value| {
            api.group("get_group_counter", json!({ "GroupId": group, "GroupCounterKeys": keys }))["GroupCounter"]
                .clone()
        };
        assert_eq!(read(json!(["gifts", "none"])), json!([{ "Key": "gifts", "Value": -1 }]));
        api.group("delete_group_counter", json!({ "GroupId": group, "GroupCounterKeys": ["gifts"] }));
        assert_eq!(read(Value::Null), json!([{ "Key": "likes", "Value": 4 }]));
        api.group("delete_group_counter", json!({ "GroupId": group }));
        assert_eq!(read(Value::Null), json!([]));
        assert_eq!(api.refused("update_group_counter", count("Divide", json!([{ "Key": "x", "Value": 1 }]))), ARGUMENT);
        assert_eq!(api.refused("update_group_counter", count("Set", json!([{ "Key": "x", "Value": "y" }]))), ARGUMENT);
    }
}

#[test]
fn grp_25_those_who_are_there_are_counted() {
    let gateway = start();
    let api = gateway.api();
    let mut anna = gateway.login("anna");
    let owner = gateway.login("owner");
    let online =
        |group: &str| api.group("get_online_member_num", json!({ "GroupId": group }))["OnlineMemberNum"].clone();
    let room = api.create("AVChatRoom", "owner", &[]);
    assert_eq!(online(&room), 0);
    anna.join_group(&room).expect("in");
    let mut guest = gateway.connect("nobody");
    guest.log_in_as_guest(gateway.app().sdkappid).expect("logged in");
    guest.join_group(&room).expect("in");
    assert_eq!(online(&room), 2);
    let group = api.create("Public", "owner", &["anna"]);
    assert_eq!(online(&group), 2);
    drop(owner);
    tests::eventually("the owner is gone", || online(&group) == 1);
}

#[test]
fn groups_of_another_application_are_none() {
    let gateway = start();
    let api = gateway.api();
    let printed = gateway.app_command(&["create", "77"]).expect("created");
    let other = Api::new(gateway.api_address(), gateway.certificate(), &App::of(&printed), "administrator");
    import(&api, &["owner"]);
    let group = api.create("Public", "owner", &[]);
    assert_eq!(other.info(&group)["ErrorCode"], UNKNOWN);
    assert_eq!(other.refused("destroy_group", json!({ "GroupId": group })), UNKNOWN);
    assert_eq!(other.group("get_appid_group_list", json!({}))["TotalCount"], 0);
}
