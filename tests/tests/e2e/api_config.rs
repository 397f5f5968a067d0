//! Muting, figures, addresses, and files of all messages, through the server API (CON-10, MSG-01).
//!
//! Goal: a muted user can't write, in any way and on any device, until the time is over; and an administrator gets
//! all messages of an hour, nobody else. Mechanics: calls beside clients; files unpacked. Without it a spammer goes
//! on, or a company can't archive what its users wrote.

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

use protocol::{ErrorCode, message::GroupType};
use serde_json::{Value, json};
use tests::{Api, Gateway, eventually, text_body};

use super::api_messages::{SEND, import, now_s, text, with};

const MUTE: &str = "openconfigsvr/setnospeaking";
const MUTED: &str = "openconfigsvr/getnospeaking";
const INFO: &str = "openconfigsvr/getappinfo";
const HISTORY: &str = "open_msg_svc/get_history";

#[test]
fn con_10_a_muted_user_cannot_write_until_unmuted() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    anna.send("ben", "before");
    api.ok(
        MUTE,
        json!({ "Set_Account": "anna", "C2CmsgNospeakingTime": 4_294_967_295u32, "GroupmsgNospeakingTime": 7200 }),
    );
    let muted = api.ok(MUTED, json!({ "Get_Account": "anna" }));
    assert_eq!(muted["C2CmsgNospeakingTime"], 4_294_967_295u32);
    assert!((7_000..=7_200).contains(&muted["GroupmsgNospeakingTime"].as_u64().expect("seconds")));
    let refused = |anna: &mut tests::Client| {
        let said = anna.send_as("ben", &tests::unique_id(), text_body("?")).expect_err("muted").code();
        let changed = anna.edit("ben", 1, text_body("?")).expect_err("muted").code();
        assert_eq!((said, changed), (Some(ErrorCode::SENDER_MUTED), Some(ErrorCode::SENDER_MUTED)));
    };
    refused(&mut anna);
    ben.send("anna", "I may");
    // In her name the server may.
    api.ok(SEND, json!({ "From_Account": "anna", "To_Account": "ben", "MsgRandom": 1, "MsgBody": text("hi") }));
    let gateway = gateway.restart();
    let (api, mut anna) = (gateway.api(), gateway.login("anna"));
    refused(&mut anna);
    api.ok(MUTE, json!({ "Set_Account": "anna", "C2CmsgNospeakingTime": 0 }));
    anna.send("ben", "at last");
    assert_eq!(api.ok(MUTED, json!({ "Get_Account": "anna" }))["C2CmsgNospeakingTime"], 0);
    for (wrong, code) in [
        (json!({ "Set_Account": null }), 130_004),
        (json!({ "Set_Account": "nobody" }), 130_005),
        (json!({ "Set_Account": 7 }), 130_005),
        (json!({ "C2CmsgNospeakingTime": null }), 130_008),
        (json!({ "C2CmsgNospeakingTime": -1 }), 130_007),
    ] {
        let good = json!({ "Set_Account": "anna", "C2CmsgNospeakingTime": 0 });
        assert_eq!(api.fails(MUTE, with(good, wrong.clone())), code, "{wrong}");
    }
    assert_eq!(api.fails(MUTED, json!({})), 130_004);
    gateway.kill().check_store();
}

#[test]
fn con_10_figures_and_addresses() {
    let gateway = Gateway::start();
    let api = gateway.api();
    import(&api, &["anna", "ben"]);
    let figures = api.ok(INFO, json!({}))["Result"].clone();
    let today = &figures[0];
    assert_eq!(figures.as_array().expect("days").len(), 30);
    let both = (today["RegistUserNumOneDay"].as_str(), today["RegistUserNumTotal"].as_str());
    assert_eq!(both, (Some("2"), Some("2")));
    assert_eq!(today["Date"].as_str().map(str::len), Some(8));
    let one = api.ok(INFO, json!({ "RequestField": ["RegistUserNumTotal"] }))["Result"][0].clone();
    assert!(one["RegistUserNumOneDay"].is_null() && one["RegistUserNumTotal"] == "2");
    assert_eq!(api.fails(INFO, json!({ "RequestField": "x" })), 130_001);
    assert_eq!(api.ok("ConfigSvc/GetIPList", json!({}))["IPList"], json!(["127.0.0.1"]));

    let (mut anna, _ben) = (gateway.login("anna"), gateway.login("ben"));
    let id = tests::unique_id();
    for _ in 0..2 {
        anna.send_as("ben", &id, text_body("once")).expect("sent"); // the second time it is there already
    }
    api.ok(SEND, json!({ "To_Account": "ben", "MsgRandom": 1, "MsgBody": text("by the server") }));
    let told = |api: &Api| {
        let today = api.ok(INFO, json!({}))["Result"][0].clone();
        ["LoginTimes", "UpMsgNum", "C2CUpMsgNum", "CallBackReq"]
            .map(|name| today[name].as_str().unwrap_or("").to_owned())
    };
    eventually("it is added", || told(&api)[0] == "2");
    assert_eq!(told(&api), ["2", "2", "2", "0"]);
    // What has come together is added at the end, too.
    anna.send("ben", "the last");
    let gateway = gateway.stop().2.start();
    assert_eq!(told(&gateway.api())[1], "3");
    gateway.stop().2.check_store();
}

#[test]
fn con_10_figures_of_groups() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    let (group, other) = (anna.create_group(GroupType::Meeting, &[]), anna.create_group(GroupType::Public, &[]));
    ben.join_group(&group).expect("in");
    ben.send_to_group(&group, "hello").expect("sent");
    api.ok("group_open_http_svc/send_group_msg", json!({ "GroupId": group, "Random": 1, "MsgBody": text("hi") }));
    anna.send("ben", "beside the group");
    ben.leave_group(&group).expect("out");
    let room = anna.create_group(GroupType::Avchatroom, &[]);
    ben.join_group(&room).expect("in");
    api.ok("group_open_http_svc/destroy_group", json!({ "GroupId": other }));
    let gateway = gateway.stop().2.start();
    let days = gateway.api().ok(INFO, json!({}))["Result"].clone();
    let told = |day: usize, name: &str| days[day][name].as_str().unwrap_or("").to_owned();
    for (name, expected) in [
        ("UpMsgNum", "3"),
        ("C2CUpMsgNum", "1"),
        ("GroupUpMsgNum", "2"),
        ("GroupNewGroupNum", "3"),
        ("GroupDestroyGroupNum", "1"),
        ("GroupAllGroupNum", "2"),
        ("GroupJoinGroupTimes", "2"),
        ("GroupQuitGroupTimes", "1"),
    ] {
        assert_eq!(told(0, name), expected, "{name}");
    }
    assert_eq!(told(1, "GroupAllGroupNum"), "0", "the day before there was none");
    gateway.stop().2.check_store();
}

/// The hour of a time, as Beijing writes it.
pub(crate) fn hour_of(unix_s: u64) -> String {
    let mut date = Command::new("date");
    let written = date.args(["-u", "-d", &format!("@{}", unix_s + 8 * 3_600), "+%Y%m%d%H"]).output().expect("date");
    String::from_utf8(written.stdout).expect("text").trim().to_owned()
}

fn file_of(api: &Api, hour: &str) -> Value {
    api.ok(HISTORY, json!({ "ChatType": "C2C", "MsgTime": hour }))["File"][0].clone()
}

/// What a program makes of some input.
pub(crate) fn through(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program);
    let mut child = child.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let mut output = Vec::new();
    child.stdout.take().expect("piped").read_to_end(&mut output).expect("output");
    writer.join().expect("no panic").expect("written");
    assert!(child.wait().expect("a child").success());
    output
}

fn md5_of(content: &[u8]) -> String {
    String::from_utf8(through("md5sum", &[], content)).expect("text").split(' ').next().expect("a sum").to_owned()
}

#[test]
fn msg_01_all_messages_of_an_hour_are_fetched_by_a_signed_link() {
    let gateway = Gateway::builder().flag("api-rate-percent", 0).start();
    let api = gateway.api();
    import(&api, &["anna", "ben", "cleo"]);
    let then_s = now_s() - 7_200;
    let put = |from: &str, to: &str, time_s: u64, said: &str| {
        let message = json!({
            "SyncFromOldSystem": 2, "From_Account": from, "To_Account": to, "MsgRandom": 1, "MsgTimeStamp": time_s,
            "MsgBody": text(said), "CloudCustomData": "x".repeat(1_000),
        });
        api.ok("openim/importmsg", message);
    };
    put("anna", "ben", then_s - 3_600, "an hour before");
    // More than one portion, and more than one piece of the file.
    for n in 0..300 {
        put("anna", "ben", then_s, &format!("{n} {}", n * 7_919 % 1_000_003));
    }
    put("cleo", "anna", then_s, "another conversation");
    put("anna", "ben", now_s(), "now");
    let hour = hour_of(then_s);
    let file = file_of(&api, &hour);
    let url = file["URL"].as_str().expect("a link").to_owned();
    let (status, packed) = api.fetch(&url);
    assert_eq!(status, 200);
    let content = through("gzip", &["-dc"], &packed);
    assert_eq!((&file["GzipSize"], &file["FileSize"]), (&json!(packed.len()), &json!(content.len())));
    assert_eq!((&file["GzipMD5"], &file["FileMD5"]), (&json!(md5_of(&packed)), &json!(md5_of(&content))));
    let list: Value = serde_json::from_slice(&content).expect("JSON");
    let list = list["MsgList"].as_array().expect("a list");
    assert_eq!(list.len(), 301);
    assert_eq!((&list[300]["From_Account"], &list[300]["MsgTimestamp"]), (&json!("cleo"), &json!(then_s)));
    assert_eq!(file_of(&api, &hour)["GzipMD5"], file["GzipMD5"], "the same file again");
    // Nobody else gets it.
    let (link, sign) = url.split_once("?sign=").expect("a signature");
    assert_eq!(api.fetch(link).0, 403);
    assert_eq!(api.fetch(&format!("{link}?sign=nonsense")).0, 403);
    let other = file_of(&api, &hour_of(then_s - 3_600));
    let other = other["URL"].as_str().expect("a link").split_once("?sign=").expect("a signature").0.to_owned();
    assert_eq!(api.fetch(&format!("{other}?sign={sign}")).0, 403);
    assert_eq!(api.fetch(&format!("{link}?sign={}", gateway.app().sign("administrator"))).0, 403);
    assert_eq!(api.fetch(&link.replace(".gz", "")).0, 404);

    let asked = |more: Value| with(json!({ "ChatType": "C2C", "MsgTime": hour }), more);
    for (wrong, code) in [
        (json!({ "MsgTime": hour_of(now_s()) }), 1004),
        (json!({ "MsgTime": hour_of(then_s - 86_400) }), 1004),
        (json!({ "MsgTime": hour_of(now_s() - 8 * 86_400) }), 1005),
        (json!({ "ChatType": "Group" }), 1004),
        (json!({ "ChatType": "x" }), 1001),
        (json!({ "MsgTime": "2015" }), 1001),
        (json!({ "MsgTime": null }), 1001),
    ] {
        assert_eq!(api.fails(HISTORY, asked(wrong.clone())), code, "{wrong}");
    }
    let gateway = gateway.restart();
    assert_eq!(file_of(&gateway.api(), &hour)["GzipMD5"], file["GzipMD5"]);
    gateway.kill().check_store();
}
