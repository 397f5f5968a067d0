//! An application's own server is asked and told (CON-06).
//!
//! Goal: each command comes with the published query and body; what is asked before is decided as the server
//! says, or as the settings say if it does not; what is told after comes in order, at least once, across a
//! crash; and a server that is slow or dead costs nobody else anything. Mechanics: a real HTTP or HTTPS server
//! in the test. Without it an application server that moves here would be told something else, or nothing.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use protocol::{
    ErrorCode,
    message::{Platform, Send, UpdateConversation},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tests::{
    Builder, Client, Gateway, MessageExt as _, Options, Received, Receiver, Refusal, Reply, eventually, free_port,
    text_body, unique_id,
};

const ONE: &str = "1400000001";
const BEFORE: &str = "C2C.CallbackBeforeSendMsg";
const AFTER: &str = "C2C.CallbackAfterSendMsg";

fn with(settings: &Value) -> Builder {
    Gateway::builder().more_settings(settings)
}

fn send(client: &mut Client, text: &str) -> Result<protocol::message::SendReply, Refusal> {
    client.send_as("ben", &unique_id(), text_body(text))
}

/// What a request must have in its query, and a body without what changes from run to run.
fn check_query(received: &Received, command: &str, platform: &str) {
    let expected = [
        ("SdkAppid", ONE),
        ("CallbackCommand", command),
        ("contenttype", "json"),
        ("ClientIP", "127.0.0.1"),
        ("OptPlatform", platform),
    ];
    for (name, value) in expected {
        assert_eq!(received.query.get(name).map(String::as_str), Some(value), "{name} of {received:?}");
    }
    assert_eq!((received.path.as_str(), &received.body["CallbackCommand"]), ("/hook", &json!(command)));
}

fn text_of(received: &Received) -> &str {
    received.body["MsgBody"][0]["MsgContent"]["Text"].as_str().expect("a text")
}

#[test]
fn con_06_each_command_comes_as_published() {
    let receiver = Receiver::start();
    let after = [AFTER, "C2C.CallbackAfterMsgReport", "C2C.CallbackAfterMsgWithDraw"];
    let mut settings = receiver.settings(&[&after[..], &[BEFORE]].concat());
    settings["callbacks"]["token"] = "xxxxyyyy".into();
    let gateway = with(&settings).start();
    let mut anna = gateway.connect_with("anna", Options { platform: Platform::Iphone, ..Options::default() });
    anna.log_in_and_sync();
    let mut ben = gateway.login("ben");
    let sent = anna.send("ben", "hello");

    let before = receiver.next();
    check_query(&before, BEFORE, "iOS");
    let RequestTime { time, sign } = RequestTime::of(&before);
    let expected: String = Sha256::digest(format!("xxxxyyyy{time}")).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(sign, expected);
    assert_eq!(before.id, None);
    let body = json!([{ "MsgType": "TIMTextElem", "MsgContent": { "Text": "hello" } }]);
    let random = before.body["MsgRandom"].as_u64().expect("a number");
    let of = |name: &str| before.body[name].clone();
    assert_eq!(
        ["From_Account", "To_Account", "MsgSeq", "OnlineOnlyFlag", "MsgBody", "CloudCustomData"].map(of),
        [json!("anna"), json!("ben"), json!(0), json!(0), body.clone(), json!("")]
    );

    let told = receiver.next();
    check_query(&told, AFTER, "iOS");
    assert!(told.id.is_some());
    let time_s = sent.time_ms / 1000;
    let expected = json!({
        "CallbackCommand": AFTER, "From_Account": "anna", "To_Account": "ben", "MsgSeq": 1, "MsgRandom": random,
        "MsgTime": time_s, "MsgKey": format!("1_{random}_{time_s}"), "OnlineOnlyFlag": 0, "SendMsgResult": 0,
        "ErrorInfo": "send msg succeed", "UnreadMsgNum": 1, "EventTime": sent.time_ms, "MsgBody": body,
        "CloudCustomData": ""
    });
    assert_eq!(told.body, expected);

    ben.update("anna", UpdateConversation { read_seq: 1, ..UpdateConversation::default() });
    let told = receiver.next();
    check_query(&told, after[1], "Unknown");
    let of = |name: &str| told.body[name].clone();
    assert_eq!(["Report_Account", "Peer_Account", "UnreadMsgNum"].map(of), [json!("ben"), json!("anna"), json!(0)]);
    assert!(told.body["LastReadTime"].as_u64().expect("a number") >= time_s);

    anna.recall("ben", 1, "").expect("recalled");
    let told = receiver.next();
    check_query(&told, after[2], "iOS");
    let of = |name: &str| told.body[name].clone();
    let key = json!(format!("1_{random}_{time_s}"));
    assert_eq!(["From_Account", "To_Account", "MsgKey"].map(of), [json!("anna"), json!("ben"), key]);

    // For those online alone, and never stored.
    let online = Send { to_user: "ben".into(), online_only: true, body: text_body("now"), ..Send::default() };
    anna.send_request(online).expect("sent");
    assert_eq!((receiver.next().body["OnlineOnlyFlag"].clone(), text_of(&receiver.next())), (json!(1), "now"));
    gateway.stop().2.check_store();
}

struct RequestTime {
    time: String,
    sign: String,
}

impl RequestTime {
    fn of(received: &Received) -> Self {
        let of = |name: &str| received.query.get(name).expect("it is signed").clone();
        RequestTime { time: of("RequestTime"), sign: of("Sign") }
    }
}

#[test]
fn con_06_devices_that_come_and_go_are_told_with_their_reasons() {
    let receiver = Receiver::start();
    let mut settings = receiver.settings(&["State.StateChange"]);
    settings["login_policy"] = "single".into();
    let gateway = with(&settings).flag("client-heartbeat-ms-min", 200).start();
    let state = |received: Received| {
        assert_eq!(received.query["CallbackCommand"], "State.StateChange");
        let body = received.body;
        assert!(body["EventTime"].is_u64());
        let info = &body["Info"];
        assert_eq!(info["To_Account"], "anna");
        let of = |name: &str| info[name].as_str().expect("a text").to_owned();
        (of("Action"), of("Reason"), received.query["OptPlatform"].clone(), body["KickedDevice"].clone())
    };
    let expected = |action: &str, reason: &str, platform: &str, kicked: Value| {
        (action.to_owned(), reason.to_owned(), platform.to_owned(), kicked)
    };
    let on = |platform| {
        let mut client = gateway.connect_with("anna", Options { platform, ..Options::default() });
        client.log_in_and_sync();
        client
    };
    let _android = on(Platform::Android);
    assert_eq!(state(receiver.next()), expected("Login", "Register", "Android", Value::Null));
    let mac = on(Platform::Mac);
    // The device that had to go is told with the login, and not once more.
    let kicked = json!([{ "Platform": "Android" }]);
    assert_eq!(state(receiver.next()), expected("Login", "Register", "Mac", kicked));
    drop(mac);
    assert_eq!(state(receiver.next()), expected("Disconnect", "LinkClose", "Mac", Value::Null));
    let mut web = on(Platform::Web);
    assert_eq!(state(receiver.next()), expected("Login", "Register", "Web", Value::Null));
    web.sign_out(&[], false).expect("nobody else is there");
    // One of which nothing is heard any more.
    let silent = Options { platform: Platform::Ipad, heartbeat_ms: 200, ..Options::default() };
    let mut silent = gateway.connect_with("anna", silent);
    silent.try_login().expect("logged in");
    let kicked = json!([{ "Platform": "Web" }]);
    assert_eq!(state(receiver.next()), expected("Login", "Register", "iPad", kicked));
    assert_eq!(state(receiver.next()), expected("Disconnect", "TimeOut", "iPad", Value::Null));
    let mut web = on(Platform::Web);
    assert_eq!(state(receiver.next()), expected("Login", "Register", "Web", Value::Null));
    web.sign_out(&[], true).expect("signed out");
    assert_eq!(state(receiver.next()), expected("Logout", "Unregister", "Web", Value::Null));
}

#[test]
fn con_06_what_is_asked_before_is_decided_as_the_server_says() {
    let receiver = Receiver::start();
    receiver.answer(|asked| match text_of(asked) {
        "bad" => Reply::code(1, "mind your words"),
        "worse" => Reply::code(120_007, "seven days"),
        "odd" => Reply::code(99, "what"),
        "nowhere" => Reply::code(2, ""),
        "other" => {
            let body = json!([{ "MsgType": "TIMTextElem", "MsgContent": { "Text": "something else" } }]);
            Reply::Json(json!({ "ActionStatus": "OK", "ErrorCode": 0, "ErrorInfo": "", "MsgBody": body, "CloudCustomData": "mark" }))
        }
        "empty" => {
            let body = json!([{ "MsgType": "TIMTextElem", "MsgContent": { "Text": "" } }]);
            Reply::Json(json!({ "ActionStatus": "OK", "ErrorCode": 0, "ErrorInfo": "", "MsgBody": body }))
        }
        _ => Reply::ok(),
    });
    let gateway = with(&receiver.settings(&[BEFORE])).start();
    let mut anna = gateway.login("anna");
    let mut ben = gateway.login("ben");
    let code =
        |answer: Result<_, Refusal>| answer.map(|_: protocol::message::SendReply| ()).map_err(|refusal| refusal.code());
    assert_eq!(code(send(&mut anna, "good")), Ok(()));
    assert_eq!(ben.next_message().text(), "good");
    assert_eq!(code(send(&mut anna, "bad")), Err(Some(ErrorCode::SEND_REFUSED)));
    assert_eq!(code(send(&mut anna, "worse")), Err(Some(ErrorCode(120_007))));
    assert_eq!(code(send(&mut anna, "odd")), Err(Some(ErrorCode::SEND_REFUSED)));
    assert_eq!(code(send(&mut anna, "empty")), Err(Some(ErrorCode::MESSAGE_EMPTY)), "checked like anything else");
    assert_eq!(send(&mut anna, "nowhere").expect("as if it were sent").seq, 0);
    assert_eq!(code(send(&mut anna, "other")), Ok(()));
    let replaced = ben.next_message();
    assert_eq!(replaced.text(), "something else");
    // A message whose answer was lost comes again, and is stored, whatever the server thinks of it now.
    let id = unique_id();
    let first = anna.send_as("ben", &id, text_body("later bad")).expect("passed");
    receiver.answer(|_| Reply::code(1, "no more"));
    let again = anna.send_as("ben", &id, text_body("later bad")).expect("it is stored");
    assert_eq!((again.seq, again.duplicate), (first.seq, true));
    let stored = anna.conversation("ben");
    assert_eq!(
        stored.iter().map(|message| message.text()).collect::<Vec<_>>(),
        ["good", "something else", "later bad"]
    );
}

#[test]
fn con_06_a_server_that_does_not_answer_is_passed_over_or_counts_as_a_refusal() {
    let receiver = Receiver::start();
    receiver.answer(|_| Reply::Silence);
    let mut settings = receiver.settings(&[BEFORE]);
    settings["callbacks"]["timeout_ms"] = 50.into();
    let gateway = with(&settings).start();
    let mut anna = gateway.login("anna");
    gateway.login("ben");
    send(&mut anna, "pass").expect("that is the default");
    gateway.app_command(&["set", ONE, "callbacks.on_timeout=refuse"]).expect("set");
    let refused = send(&mut anna, "refuse").expect_err("that is set");
    assert_eq!(refused.code(), Some(ErrorCode::SEND_REFUSED));
    receiver.answer(|_| Reply::Status(500));
    assert!(send(&mut anna, "an error is no answer").is_err());
    receiver.answer(|_| Reply::Json(json!({ "Error": 0 })));
    assert!(send(&mut anna, "nonsense is none").is_err());
    receiver.answer(|_| Reply::ok());
    send(&mut anna, "back").expect("it answers again");
    for (outcome, at_least) in [("timed_out", 2.0), ("failed", 1.0), ("senseless", 1.0), ("passed", 1.0)] {
        gateway.wait_metric("callbacks_asked_total", &[("outcome", outcome)], at_least);
    }
}

#[test]
fn con_06_a_dead_server_costs_nobody_else_anything_and_soon_nobody_at_all() {
    let receiver = Receiver::start();
    receiver.answer(|_| Reply::Silence);
    let mut settings = receiver.settings(&[BEFORE, AFTER]);
    settings["callbacks"]["timeout_ms"] = 10_000.into();
    let gateway = with(&settings).start();
    let printed = gateway.app_command(&["create", "88"]).expect("created");
    let other = tests::App::of(&printed);
    let mut anna = gateway.login("anna");
    gateway.login("ben");
    let waiting: Vec<u32> = (0..20).map(|_| anna.start_send("ben", &unique_id(), text_body("slow"))).collect();
    // Everybody else goes on: another application, and everything of this one that nobody is asked about.
    let mut cleo = gateway.connect_to(&other, "cleo");
    cleo.log_in_and_sync();
    let start = Instant::now();
    cleo.send("cleo", "nobody asks about me");
    anna.conversation("ben");
    assert!(start.elapsed() < Duration::from_secs(10), "they waited for the dead server");
    for request in waiting {
        anna.answer::<protocol::message::SendReply>(request).expect("passed");
    }
    // So many have failed that it is not asked any more.
    let asked = receiver.waiting().len();
    (0..10).for_each(|_| _ = send(&mut anna, "not asked").expect("passed"));
    gateway.wait_metric("callbacks_asked_total", &[("outcome", "not_asked")], 10.0);
    let asked_since = receiver.waiting().iter().filter(|asked| asked.query["CallbackCommand"] == BEFORE).count();
    assert!(asked >= 20 && asked_since <= 1, "{asked_since}");
}

#[test]
fn con_06_what_is_told_after_survives_a_crash_and_keeps_its_order() {
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/hook");
    let settings = json!({ "callbacks": { "url": url, "commands": [AFTER] } });
    let gateway = with(&settings).start();
    let mut anna = gateway.login("anna");
    let peers: Vec<String> = (0..8).map(|peer| format!("peer-{peer}")).collect();
    peers.iter().for_each(|peer| _ = gateway.login(peer));
    // Nobody listens yet.
    for number in 0..80 {
        anna.send(&peers[number % peers.len()], &format!("{number}"));
    }
    gateway.wait_metric("callbacks_failed_total", &[], 1.0);
    gateway.wait_metric("callbacks_queue_length", &[("app", ONE)], 80.0);
    let gateway = gateway.restart(); // kill -9
    let receiver = Receiver::start_on(port);
    let mut anna = gateway.login("anna");
    let mut seen: HashMap<String, Vec<u64>> = HashMap::new();
    let mut ids = HashSet::new();
    let mut is_killed = false;
    let mut gateway = Some(gateway);
    while seen.values().map(Vec::len).sum::<usize>() < 88 {
        let told = receiver.next();
        // Told once more after a crash, under the same id.
        if !ids.insert(told.id.clone().expect("an id")) {
            continue;
        }
        let to = told.body["To_Account"].as_str().expect("a name").to_owned();
        seen.entry(to).or_default().push(told.body["MsgSeq"].as_u64().expect("a number"));
        if !is_killed && ids.len() > 20 {
            is_killed = true;
            peers.iter().for_each(|peer| _ = anna.send(peer, "one more"));
            gateway = gateway.map(Gateway::restart); // in the midst of it
        }
    }
    for (to, seqs) in seen {
        let expected: Vec<u64> = (1..=11).collect();
        assert_eq!(seqs, expected, "the messages to {to}");
    }
    let gateway = gateway.expect("it runs");
    gateway.wait_metric("callbacks_queued_total", &[("app", ONE)], 88.0);
    eventually("nothing is left", || gateway.metrics().sum("callbacks_queue_length", &[("app", ONE)]) == 0.0);
    assert_eq!(gateway.metrics().sum("callbacks_queued_total", &[("app", ONE)]), 88.0, "each is counted once");
    gateway.stop().2.check_store();
}

#[test]
fn con_06_over_tls_with_a_private_authority() {
    let builder = Gateway::builder();
    let receiver = Receiver::start_tls(builder.folder());
    let builder = builder.more_settings(&receiver.settings(&[BEFORE]));
    receiver.answer(|_| Reply::code(1, "no"));
    // Not trusted: no answer, and so it passes.
    let gateway = builder.start();
    let mut anna = gateway.login("anna");
    gateway.login("ben");
    send(&mut anna, "nobody can be asked").expect("passed");
    assert!(receiver.waiting().is_empty());
    let certificate = receiver.certificate().display().to_string();
    let gateway = gateway.kill().flag("callbacks-ca-file", certificate).start();
    let mut anna = gateway.login("anna");
    assert!(send(&mut anna, "now it is asked").is_err());
    check_query(&receiver.next(), BEFORE, "Unknown");
    let missing = gateway.kill().flag("callbacks-ca-file", "nothing.pem").fails();
    assert!(missing.contains("callbacks.ca_file nothing.pem"), "{missing}");
}

#[test]
fn con_06_the_token_is_shown_to_nobody_who_did_not_ask() {
    let gateway = Gateway::start();
    gateway.app_command(&["set", ONE, "callbacks.url=http://127.0.0.1:9/", "callbacks.token=hush"]).expect("set");
    let shown = gateway.app_command(&["show", ONE]).expect("shown");
    assert!(!shown.to_string().contains("hush"), "{shown}");
    let shown = gateway.app_command(&["show", ONE, "--secret"]).expect("shown");
    assert_eq!(shown["settings"]["callbacks"]["token"], "hush");
    let (_, output, _) = gateway.stop();
    assert!(!output.contains("hush"), "{output}");
}
