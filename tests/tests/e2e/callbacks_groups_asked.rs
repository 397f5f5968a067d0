//! An application's own server is asked about groups (CON-06).
//!
//! Goal: it decides who makes and joins groups, who is brought in, and what is said there, with codes of its own; what
//! it does not answer goes as its settings say. Mechanics: as in `callbacks`. Without it an application could not keep
//! groups to those who have paid, nor words out of them.

use protocol::{
    ErrorCode,
    message::{GroupType, event::What},
};
use serde_json::{Value, json};
use tests::{Answer, Client, Gateway, MessageExt, Received, Receiver, Reply};

use super::api_messages::{import, text};

const CREATE: &str = "Group.CallbackBeforeCreateGroup";
const JOIN: &str = "Group.CallbackBeforeApplyJoinGroup";
const INVITE: &str = "Group.CallbackBeforeInviteJoinGroup";
const SEND: &str = "Group.CallbackBeforeSendMsg";
const ALL: [&str; 4] = [CREATE, JOIN, INVITE, SEND];

fn code<T: std::fmt::Debug>(answer: Answer<T>) -> u32 {
    answer.expect_err("a refusal").code().expect("a code").0
}

fn start(commands: &[&str], more: &Value) -> (Receiver, Gateway) {
    let receiver = Receiver::start();
    let mut settings = receiver.settings(commands);
    for (name, value) in more.as_object().expect("an object") {
        settings["callbacks"][name] = value.clone();
    }
    let gateway = Gateway::builder().more_settings(&settings).start();
    (receiver, gateway)
}

/// The next question, without the time.
fn next(receiver: &Receiver, command: &str) -> Value {
    let Received { query, mut body, id, .. } = receiver.next();
    assert_eq!((query["CallbackCommand"].as_str(), &body["CallbackCommand"]), (command, &json!(command)), "{body}");
    assert!(id.is_none());
    let fields = body.as_object_mut().expect("an object");
    assert!(fields.remove("EventTime").is_some_and(|time| time.is_u64()));
    fields.remove("CallbackCommand");
    body
}

#[test]
fn con_06_each_question_comes_as_published_and_is_let_pass() {
    let (receiver, gateway) = start(&ALL, &json!({}));
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    gateway.login("cleo");
    let group = anna.create_group(GroupType::Work, &["ben"]);
    let asked = json!({
        "Operator_Account": "anna", "Owner_Account": "anna", "Type": "Private", "Name": "Gardeners of Europe",
        "CreateGroupNum": 0, "MemberList": [{ "Member_Account": "ben" }],
    });
    assert_eq!(next(&receiver, CREATE), asked);
    anna.invite_to_group(&group, &["cleo"]).expect("invited");
    let asked = json!({
        "GroupId": group, "Type": "Private", "Operator_Account": "anna", "DestinationMembers": [{ "Member_Account": "cleo" }],
    });
    assert_eq!(next(&receiver, INVITE), asked);
    anna.send_to_group(&group, "hello").expect("sent");
    let mut asked = next(&receiver, SEND);
    assert!(asked["Random"].take().is_u64());
    let expected = json!({
        "GroupId": group, "Type": "Private", "From_Account": "anna", "Operator_Account": "anna", "Random": null,
        "OnlineOnlyFlag": 0, "MsgBody": text("hello"), "CloudCustomData": "",
    });
    assert_eq!(asked, expected);
    // An administrator's calls are asked about, too, unless they say otherwise.
    let api = gateway.api();
    let made = api.ok(
        "group_open_http_svc/create_group",
        json!({ "Type": "AVChatRoom", "Name": "Live", "Owner_Account": "anna" }),
    );
    let asked = next(&receiver, CREATE);
    assert_eq!(
        (&asked["Operator_Account"], &asked["Owner_Account"], &asked["CreateGroupNum"]),
        (&json!("administrator"), &json!("anna"), &json!(1))
    );
    let room = made["GroupId"].as_str().expect("an id");
    ben.join_group(room).expect("in");
    let asked = json!({ "GroupId": room, "Type": "AVChatRoom", "Requestor_Account": "ben", "ApplyMsg": "" });
    assert_eq!(next(&receiver, JOIN), asked);
    let said = json!({ "GroupId": group, "Random": 7, "MsgBody": text("x"), "From_Account": "ben" });
    api.ok("group_open_http_svc/send_group_msg", said.clone());
    let asked = next(&receiver, SEND);
    assert_eq!(
        (&asked["From_Account"], &asked["Operator_Account"], &asked["Random"]),
        (&json!("ben"), &json!("administrator"), &json!(7))
    );
    let mut quiet = said;
    quiet["ForbidCallbackControl"] = json!(["ForbidBeforeSendMsgCallback"]);
    quiet["Random"] = 8.into();
    api.ok("group_open_http_svc/send_group_msg", quiet);
    // Nor about what is imported, or about groups that are none.
    import(&api, &["dan"]);
    api.ok("group_open_http_svc/import_group", json!({ "Type": "Public", "Name": "Old", "GroupId": "old" }));
    api.ok(
        "group_open_http_svc/import_group_msg",
        json!({ "GroupId": "old", "MsgList": [
        { "From_Account": "dan", "SendTime": 1_700_000_000, "Random": 1, "MsgBody": text("before") },
    ] }),
    );
    assert_eq!(code(anna.send_to_group("nothing", "x")), ErrorCode::GROUP_UNKNOWN.0);
    anna.create_group(GroupType::Public, &[]);
    assert_eq!(next(&receiver, CREATE)["Type"], "Public", "nothing else was asked");
}

#[test]
fn con_06_each_is_refused_with_the_applications_code_and_not_done() {
    let (receiver, gateway) = start(&ALL, &json!({}));
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    gateway.login("cleo");
    let work = anna.create_group(GroupType::Work, &["ben"]);
    let public = anna.create_group(GroupType::Public, &[]);
    let room = anna.create_group(GroupType::Avchatroom, &[]);
    anna.send_to_group(&work, "first").expect("sent");
    receiver.answer(|_| Reply::code(10_123, "you have not paid"));
    assert_eq!(code(anna.try_create_group(GroupType::Public, "mine", &[])), 10_123);
    assert_eq!(
        gateway.api().call("group_open_http_svc/get_group_info", &json!({ "GroupIdList": ["mine"] }))["GroupInfo"][0]["ErrorCode"],
        10010
    );
    assert_eq!(code(ben.join_group(&public)), 10_123);
    assert_eq!(code(ben.join_group(&room)), 10_123);
    assert_eq!(anna.group_online(&room).expect("counted"), (0, 0));
    assert_eq!(code(anna.invite_to_group(&work, &["cleo"])), 10_123);
    assert_eq!(code(anna.send_to_group(&work, "rude")), 10_123);
    assert_eq!(
        gateway
            .api()
            .fails("group_open_http_svc/send_group_msg", json!({ "GroupId": work, "Random": 1, "MsgBody": text("x") })),
        10_123
    );
    // A code that is not the application's to give becomes the published one.
    receiver.answer(|_| Reply::code(1, "no"));
    assert_eq!(code(anna.send_to_group(&work, "rude")), ErrorCode::GROUP_REFUSED.0);
    // Some of those who are brought in.
    receiver.answer(|_| Reply::Json(json!({ "ErrorCode": 0, "RefusedMembers_Account": ["cleo"] })));
    gateway.login("dan");
    assert_eq!(anna.invite_to_group(&work, &["cleo", "dan"]).expect("invited"), [ErrorCode::GROUP_REFUSED.0, 0]);
    // Dropped without a word; replaced.
    receiver.answer(|_| Reply::code(2, ""));
    assert_eq!(anna.send_to_group(&work, "dropped").expect("as if sent").seq, 0);
    receiver.answer(|_| Reply::Json(json!({ "ErrorCode": 0, "MsgBody": text("****"), "CloudCustomData": "seen" })));
    let sent = anna.send_to_group(&work, "swearing").expect("sent").seq;
    let said = ben.group_history(&work).expect("history").messages;
    let last = said.last().expect("it is there");
    assert_eq!((last.seq, last.text().as_str(), &last.decoded().custom_data[..]), (sent, "****", &b"seen"[..]));
    assert!(said.iter().all(|message| message.text() != "dropped" && message.text() != "rude"));
}

#[test]
fn con_06_without_an_answer_it_goes_as_the_settings_say() {
    for (on_timeout, passes) in [("pass", true), ("refuse", false)] {
        let (receiver, gateway) = start(&[SEND, JOIN], &json!({ "on_timeout": on_timeout, "timeout_ms": 50 }));
        let mut anna = gateway.login("anna");
        let group = anna.create_group(GroupType::Work, &[]);
        let room = anna.create_group(GroupType::Avchatroom, &[]);
        for reply in [Reply::Silence, Reply::Status(500), Reply::Json(json!({ "what": 1 }))] {
            receiver.answer(move |_| reply.clone());
            match passes {
                true => {
                    anna.send_to_group(&group, "hello").expect("sent");
                    anna.join_group(&room).expect("in");
                    anna.leave_group(&room).expect("out");
                }
                false => {
                    assert_eq!(code(anna.send_to_group(&group, "hello")), ErrorCode::GROUP_REFUSED.0);
                    assert_eq!(code(anna.join_group(&room)), ErrorCode::GROUP_REFUSED.0);
                }
            }
        }
    }
}

#[test]
fn con_06_a_message_that_is_let_pass_reaches_everybody_as_ever() {
    let (_receiver, gateway) = start(&[SEND], &json!({}));
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    let group = anna.create_group(GroupType::Work, &["ben"]);
    let heard = |client: &mut Client| loop {
        if let What::Message(message) = client.next_event() {
            return (message.seq, message.text());
        }
    };
    for n in 1..=5 {
        assert_eq!(anna.send_to_group(&group, &format!("m{n}")).expect("sent").seq, n);
        assert_eq!(heard(&mut ben), (n, format!("m{n}")));
    }
    gateway.kill().check_store();
}
