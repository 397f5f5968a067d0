//! The application's administrator, who acts through the server API: for each row of the table, and each type, what the
//! document says is tried.

use serde_json::{Value, json};
use tests::Api;

use super::*;
use crate::api_messages::import;

/// Rows that say nothing about who may do what, or speak of clients alone: with the test that tries them.
const OF_CLIENTS: [(&str, &str); 11] = [
    ("GRP-05", "clients apply; an app admin adds members (GRP-07)"),
    ("GRP-06", "owner and admin answer; no command of the server API does"),
    ("GRP-08", "the owner's own leaving"),
    ("GRP-11", "what members read"),
    ("GRP-12", "what members are told"),
    ("GRP-13", "when members know of it"),
    ("GRP-15", "what members have not read"),
    ("GRP-16", "who need not log in"),
    ("GRP-17", "what is kept"),
    ("GRP-18", "what devices are told"),
    ("GRP-26", "sequences"),
];

/// What an app admin tries of a row, with a group of a type: the code, and whether the document allows it.
type Try = fn(&Api, &Scene) -> (u64, bool);

const TRIED: [(&str, Try); 8] = [
    ("GRP-01", limits_of_members),
    ("GRP-02", edits_the_information),
    ("GRP-03", lists_members),
    ("GRP-07", adds_members),
    ("GRP-09", makes_administrators),
    ("GRP-14", mutes_members),
    ("GRP-10", removes_members),
    ("GRP-19", imports),
];

/// Ends the group, so it comes last.
const LAST: (&str, Try) = ("GRP-04", dissolves);

fn call(api: &Api, command: &str, body: &Value) -> u64 {
    let answer = api.call(&format!("group_open_http_svc/{command}"), body);
    answer["ErrorCode"].as_u64().expect("a code")
}

fn names_app_admin(cell: &str) -> bool {
    // Whoever may do what any member may, may do it for the application.
    cell == "any member" || cell.split(", ").any(|name| name == "app admin")
}

fn limits_of_members(api: &Api, scene: &Scene) -> (u64, bool) {
    let limited = cell("GRP-01", scene.kind) != "unlimited";
    let body = json!({ "GroupId": scene.group, "MaxMemberNum": 7 });
    let code = call(api, "modify_group_base_info", &body);
    let info = api.ok("group_open_http_svc/get_group_info", json!({ "GroupIdList": [scene.group] }));
    let shown = info["GroupInfo"][0]["MaxMemberNum"].as_u64().expect("a number");
    assert_eq!(shown, if limited { 7 } else { 0 }, "{:?}", scene.kind);
    (code, true)
}

fn edits_the_information(api: &Api, scene: &Scene) -> (u64, bool) {
    let body = json!({ "GroupId": scene.group, "Introduction": "by an app admin" });
    (call(api, "modify_group_base_info", &body), names_app_admin(cell("GRP-02", scene.kind)))
}

fn lists_members(api: &Api, scene: &Scene) -> (u64, bool) {
    let code = call(api, "get_group_member_info", &json!({ "GroupId": scene.group }));
    // Who is in a live room is asked for by a command of its own.
    (code, cell("GRP-03", scene.kind) == "all" || code == 0)
}

fn adds_members(api: &Api, scene: &Scene) -> (u64, bool) {
    let body = json!({ "GroupId": scene.group, "MemberList": [{ "Member_Account": scene.outsider.user() }] });
    (call(api, "add_group_member", &body), scene.kind != Avchatroom)
}

fn makes_administrators(api: &Api, scene: &Scene) -> (u64, bool) {
    let body = json!({ "GroupId": scene.group, "Member_Account": scene.member.user(), "Role": "Admin" });
    let code = call(api, "modify_group_member_info", &body);
    let back = json!({ "GroupId": scene.group, "Member_Account": scene.member.user(), "Role": "Member" });
    if code == 0 {
        assert_eq!(call(api, "modify_group_member_info", &back), 0);
    }
    // Live rooms have none of their owner's; those that they have are made by app admins alone.
    (code, is_yes("GRP-09", scene.kind) || scene.kind == Avchatroom)
}

fn mutes_members(api: &Api, scene: &Scene) -> (u64, bool) {
    let mute = |seconds: u32| {
        let body = json!({ "GroupId": scene.group, "Members_Account": [scene.member.user()], "MuteTime": seconds });
        call(api, "forbid_send_msg", &body)
    };
    let code = mute(60);
    if code == 0 {
        assert_eq!(mute(0), 0);
    }
    (code, is_yes("GRP-14", scene.kind))
}

fn removes_members(api: &Api, scene: &Scene) -> (u64, bool) {
    let body = json!({ "GroupId": scene.group, "MemberToDel_Account": [scene.member.user()] });
    (call(api, "delete_group_member", &body), names_app_admin(cell("GRP-10", scene.kind)))
}

fn imports(api: &Api, scene: &Scene) -> (u64, bool) {
    let kind =
        ["Private", "Public", "ChatRoom", "AVChatRoom"][TYPES.iter().position(|it| *it == scene.kind).unwrap_or(0)];
    let body = json!({ "Type": kind, "Name": "From elsewhere", "Owner_Account": scene.owner.user(), "CreateTime": 1_700_000_000 });
    (call(api, "import_group", &body), is_yes("GRP-19", scene.kind))
}

fn dissolves(api: &Api, scene: &Scene) -> (u64, bool) {
    (call(api, "destroy_group", &json!({ "GroupId": scene.group })), names_app_admin(cell("GRP-04", scene.kind)))
}

#[test]
fn con_10_an_app_admin_may_through_the_server_api_what_each_cell_says() {
    let gateway = Gateway::start();
    let api = gateway.api();
    for scene in Scene::each(&gateway) {
        for (row, try_it) in TRIED.into_iter().chain([LAST]) {
            let (code, allowed) = try_it(&api, &scene);
            let kind = scene.kind;
            match allowed {
                true => assert_eq!(code, 0, "{row}, {kind:?}"),
                false => {
                    let refusals = [u64::from(ErrorCode::GROUP_RIGHT_MISSING.0), 10004];
                    assert!(refusals.contains(&code), "{row}, {kind:?}: {code}");
                }
            }
        }
    }
}

#[test]
fn con_10_what_holds_for_every_type_an_app_admin_may_too() {
    let gateway = Gateway::start();
    let api = gateway.api();
    import(&api, &["heir"]);
    for scene in Scene::each(&gateway) {
        let (group, kind) = (scene.group.clone(), scene.kind);
        let ok = |command: &str, body: Value| {
            let code = call(&api, command, &body);
            assert_eq!(code, 0, "{command}, {kind:?}");
        };
        // GRP-20: for anybody, with an id of one's own.
        let names = ["Private", "Public", "ChatRoom", "AVChatRoom"];
        let name = names[TYPES.iter().position(|it| *it == kind).expect("one of the four")];
        let id = format!("own-{name}");
        ok("create_group", json!({ "Type": name, "Name": "Own", "GroupId": id, "Owner_Account": "heir" }));
        // GRP-21: attributes and counters of groups that it is not in.
        ok("modify_group_attr", json!({ "GroupId": id, "GroupAttr": [{ "key": "colour", "value": "red" }] }));
        // GRP-22
        let heir = if kind == Avchatroom { "heir" } else { scene.member.user() };
        ok("change_group_owner", json!({ "GroupId": group, "NewOwner_Account": heir }));
        // GRP-23
        ok("modify_group_base_info", json!({ "GroupId": group, "MuteAllMember": "On" }));
        let info = api.ok("group_open_http_svc/get_group_info", json!({ "GroupIdList": [group] }));
        assert_eq!(info["GroupInfo"][0]["MuteAllMember"], "On", "{kind:?}");
        ok("modify_group_base_info", json!({ "GroupId": group, "MuteAllMember": "Off" }));
        // GRP-24
        ok("get_joined_group_list", json!({ "Member_Account": scene.owner.user() }));
        // GRP-25
        ok("get_online_member_num", json!({ "GroupId": group }));
    }
}

#[test]
fn con_10_each_row_of_the_table_is_tried_or_is_for_clients_alone() {
    let table =
        DOCUMENT.split("<!-- table: types -->").nth(1).expect("the table").split("\n\n").next().expect("its lines");
    let rows = table.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim);
    let known: Vec<&str> =
        TRIED.iter().chain([&LAST]).map(|(row, _)| *row).chain(OF_CLIENTS.map(|(row, _)| row)).collect();
    let missing: Vec<&str> = rows.filter(|row| row.starts_with("GRP-") && !known.contains(row)).collect();
    assert!(missing.is_empty(), "nobody tries {missing:?}");
    for (row, _) in TRIED.iter().chain([&LAST]) {
        assert!(OF_CLIENTS.iter().all(|(other, _)| other != row), "{row} is tried");
    }
}
