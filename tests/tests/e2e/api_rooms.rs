//! Live rooms through the server API (GRP-03, GRP-09, GRP-16, GRP-25).
//!
//! Goal: an application's server knows who watches, says who leads, and reaches everybody who watches anything.
//! Mechanics: calls beside users and guests in rooms, over several cores.

use protocol::message::GroupType;
use serde_json::{Value, json};
use tests::{Client, Gateway, MessageExt};

use super::api_messages::text;

const BROADCAST: &str = "group_open_http_svc/send_broadcast_msg";

fn svc(command: &str) -> String {
    format!("group_open_avchatroom_http_svc/{command}")
}

fn guest(gateway: &Gateway) -> Client {
    let mut guest = gateway.connect("nobody");
    guest.log_in_as_guest(gateway.app().sdkappid).expect("logged in");
    guest
}

#[test]
fn grp_03_grp_25_who_is_there_is_told() {
    let gateway = Gateway::builder().flag("cores", 2).start();
    let api = gateway.api();
    let mut host = gateway.login("host");
    let room = host.create_group(GroupType::Avchatroom, &[]);
    let mut anna = gateway.login("anna");
    let mut watcher = guest(&gateway);
    for client in [&mut host, &mut anna, &mut watcher] {
        client.join_group(&room).expect("in");
    }
    api.ok(
        "profile/portrait_set",
        json!({ "From_Account": "anna", "ProfileItem": [{ "Tag": "Tag_Profile_IM_Nick", "Value": "Änne" }] }),
    );
    let mut told = api.ok(&svc("get_members"), json!({ "GroupId": room, "Timestamp": 0 }));
    for member in told["MemberList"].as_array_mut().expect("a list") {
        let since = member.as_object_mut().expect("an object").remove("JoinTime");
        assert!(since.is_some_and(|since| since.as_u64() > Some(1_700_000_000)), "when he came");
    }
    let expected = json!([
        { "Member_Account": "anna", "NickName": "Änne", "Avatar": "" },
        { "Member_Account": "host", "NickName": "", "Avatar": "" },
    ]);
    assert_eq!((&told["MemberList"], &told["NextTimestamp"]), (&expected, &json!(0)));
    let asked = json!({ "GroupId": room, "Member_Account": ["anna", "ben"] });
    let expected = json!([{ "Member_Account": "anna", "Result": 1 }, { "Member_Account": "ben", "Result": 0 }]);
    assert_eq!(api.ok(&svc("check_members"), asked)["MemberList"], expected);
    assert_eq!(api.ok("group_open_http_svc/get_online_member_num", json!({ "GroupId": room }))["OnlineMemberNum"], 3);
    let group = host.create_group(GroupType::Public, &[]);
    for command in ["get_members", "check_members", "get_admin_list"] {
        let body = |group: &str| json!({ "GroupId": group, "Member_Account": ["anna"] });
        assert_eq!(api.fails(&svc(command), body(&group)), 10007, "{command}: no live room");
        assert_eq!(api.fails(&svc(command), body("nothing")), 10010, "{command}");
        assert_eq!(api.fails(&svc(command), json!({})), 10004, "{command}");
    }
}

#[test]
fn grp_09_who_leads_a_room_is_the_applications_to_say() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let mut host = gateway.login("host");
    let names: Vec<String> = (0..6).map(|n| format!("u{n}")).collect();
    api.ok("im_open_login_svc/multiaccount_import", json!({ "Accounts": names }));
    let room = host.create_group(GroupType::Avchatroom, &[]);
    let modify = |kind: u32, users: &[String]| json!({ "GroupId": room, "CommandType": kind, "Admin_Account": users });
    api.ok(&svc("modify_admin"), modify(1, &names[..5]));
    let admins = || -> Vec<Value> {
        let list = api.ok(&svc("get_admin_list"), json!({ "GroupId": room }))["Admin_List"].clone();
        list.as_array().expect("a list").iter().map(|admin| admin["Admin_Account"].clone()).collect()
    };
    assert_eq!(admins(), names[..5].iter().map(|name| json!(name)).collect::<Vec<_>>());
    assert_eq!(api.fails(&svc("modify_admin"), modify(1, &names[5..])), 10004, "five at the most");
    api.ok(&svc("modify_admin"), modify(2, &names[..1]));
    assert_eq!(admins().len(), 4);
    assert_eq!(api.fails(&svc("modify_admin"), modify(3, &names[..1])), 10004);
    assert_eq!(api.fails(&svc("modify_admin"), modify(1, &["nobody".to_owned()])), 10019);
}

#[test]
fn grp_16_a_broadcast_reaches_all_rooms_of_the_application_and_nobody_else() {
    let gateway = Gateway::builder().flag("cores", 2).flag("api-rate-percent", 0).start();
    let api = gateway.api();
    let mut host = gateway.login("host");
    let rooms: Vec<String> = (0..3).map(|_| host.create_group(GroupType::Avchatroom, &[])).collect();
    let mut there: Vec<Client> = (0..6).map(|n| gateway.login(&format!("u{n}"))).collect();
    for (client, room) in there.iter_mut().zip(rooms.iter().cycle()) {
        client.join_group(room).expect("in");
    }
    let mut watcher = guest(&gateway);
    rooms.iter().for_each(|room| _ = watcher.join_group(room).expect("in"));
    there.push(watcher);
    let mut outside = gateway.login("outside");
    api.ok(BROADCAST, json!({ "Random": 1, "MsgBody": text("it is twelve"), "CloudCustomData": "x" }));
    api.ok(BROADCAST, json!({ "Random": 2, "MsgBody": text("it is one"), "From_Account": "host" }));
    for client in &mut there {
        let first = client.next_room_message();
        assert_eq!(
            (first.text().as_str(), first.from.as_str(), first.group.as_str(), first.seq),
            ("it is twelve", "administrator", "", 0)
        );
        let second = client.next_room_message();
        assert_eq!((second.text().as_str(), second.from.as_str()), ("it is one", "host"), "once, however many rooms");
    }
    outside.ping();
    assert_eq!(outside.pushes_waiting(), 0);
    for (body, code) in [
        (json!({ "MsgBody": text("x") }), 10004),
        (json!({ "Random": 1 }), 10004),
        (json!({ "Random": 1, "MsgBody": text("x"), "From_Account": "nobody" }), 10019),
        (json!({ "Random": 1, "MsgBody": text(&"x".repeat(20_000)) }), 80002),
    ] {
        assert_eq!(api.fails(BROADCAST, body.clone()), code, "{body}");
    }
}

#[test]
fn grp_03_whoever_is_there_has_marks_until_he_goes() {
    let gateway = Gateway::builder().flag("cores", 2).start();
    let api = gateway.api();
    let mut host = gateway.login("host");
    let room = host.create_group(GroupType::Avchatroom, &[]);
    let mut anna = gateway.login("anna");
    for client in [&mut host, &mut anna] {
        client.join_group(&room).expect("in");
    }
    let asked = |command: u32, marks: Value| {
        let member = |name: &str| json!({ "Member_Account": name, "Marks": marks });
        json!({ "GroupId": room, "CommandType": command, "MemberList": [member("anna"), member("nobody")] })
    };
    let with = |mark: u32| {
        let told = api.ok(&svc("get_members"), json!({ "GroupId": room, "Timestamp": 0, "Mark": mark }));
        let list = told["MemberList"].as_array().expect("a list").clone();
        list.into_iter().map(|member| member["Member_Account"].clone()).collect::<Vec<_>>()
    };
    let told = api.ok(&svc("modify_user_info"), asked(1, json!([1000, 1001])));
    assert_eq!(told["MemberList"], json!([{ "Member_Account": "anna", "Marks": [1000, 1001] }]), "who is there");
    assert_eq!(told["CommandType"], 1);
    assert_eq!((with(1000), with(1001)), (vec![json!("anna")], vec![json!("anna")]));
    api.ok(&svc("modify_user_info"), asked(2, json!([1001])));
    assert_eq!((with(1000), with(1001)), (vec![json!("anna")], vec![]));
    for wrong in [asked(3, json!([1000])), asked(1, json!([999])), asked(1, json!([]))] {
        assert_eq!(api.fails(&svc("modify_user_info"), wrong), 10004);
    }
    let group = host.create_group(GroupType::Public, &[]);
    let member = json!({ "Member_Account": "host", "Marks": [1000] });
    let asked = json!({ "GroupId": group, "CommandType": 1, "MemberList": [member] });
    assert_eq!(api.fails(&svc("modify_user_info"), asked), 10007);
    anna.leave_group(&room).expect("out");
    anna.join_group(&room).expect("in");
    assert_eq!(with(1000), Vec::<Value>::new());
}
