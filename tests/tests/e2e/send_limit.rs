//! How many messages one user may send (`sends_per_second`, `sends_burst`).
//!
//! Goal: the limit is the user's, on all devices together; who is refused learns when to try again, and that
//! is true. Mechanics: a low rate, two devices, sends until one is refused. Without it one account could
//! take the service's writes for itself by opening more connections.

use std::time::{Duration, Instant};

use protocol::{
    ErrorCode,
    message::{GroupType, Send},
};
use serde_json::json;
use tests::{Answer, Client, Gateway, Refusal, add_extension, eventually, text_body, unique_id};

fn gateway(per_second: u32, burst: u32) -> Gateway {
    let settings = json!({
        "login_policy": "multi", "instances": { "linux": 10 }, "sends_per_second": per_second, "sends_burst": burst
    });
    Gateway::builder().settings(settings).start()
}

/// Sends; when to try again if that was refused.
fn send(client: &mut Client) -> Result<(), u32> {
    match client.send_as("ben", &unique_id(), text_body("again and again")) {
        Ok(_) => Ok(()),
        Err(Refusal::Failed { code: ErrorCode::RATE_LIMITED, retry_after_ms }) => Err(retry_after_ms),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_user_s_devices_share_the_limit_and_the_wait_is_the_right_one() {
    let gateway = gateway(1, 4);
    let mut ben = gateway.login("ben");
    let mut devices = [gateway.login("anna"), gateway.login("anna")];
    let start = Instant::now();
    let mut sent = 0;
    let wait_ms = loop {
        match send(&mut devices[sent % 2]) {
            Ok(()) => sent += 1,
            Err(wait_ms) => break wait_ms,
        }
    };
    let allowed = 4 + start.elapsed().as_secs() as usize;
    assert!((4..=allowed).contains(&sent), "{sent} were sent at once, {allowed} may be");
    assert!((1..=1_000).contains(&wait_ms), "{wait_ms}");
    ben.send("anna", "another user is not");
    // What a client does that is told to wait.
    std::thread::sleep(Duration::from_millis(u64::from(wait_ms)));
    assert_eq!(send(&mut devices[1 - sent % 2]), Ok(()), "on the other device, too");
    assert_eq!(ben.conversation("anna").len(), sent + 2, "what was refused is not stored");
    gateway.wait_metric("gateway_requests_refused_total", &[("code", "200028")], 1.0);
}

/// Does something until it is refused as over the limit.
fn exhaust<T: std::fmt::Debug>(what: &str, mut act: impl FnMut() -> Answer<T>) {
    // The rate lets one a second through: far fewer than are tried.
    let code = (0..200).find_map(|_| act().err()).and_then(|refusal| refusal.code());
    assert_eq!(code, Some(ErrorCode::RATE_LIMITED), "{what}");
}

#[test]
fn what_shows_the_other_side_something_new_counts_and_taking_back_does_not() {
    let gateway = gateway(1, 8);
    let mut ben = gateway.login("ben");
    let mut anna = gateway.login("anna");
    anna.send("ben", "first");
    exhaust("edits", || anna.edit("ben", 1, text_body("edited")));
    exhaust("extensions", || anna.set_extensions("ben", 1, vec![add_extension("like", b"", u64::MAX)]));
    let mut pins = false;
    exhaust("pins", || {
        pins = !pins;
        anna.pin("ben", 1, !pins)
    });
    exhaust("online-only messages", || {
        let body = text_body("typing");
        anna.send_request(Send { to_user: "ben".into(), body, online_only: true, ..Send::default() })
    });
    exhaust("merged messages", || anna.merge(&unique_id(), &[("ben", &[1])]));
    anna.recall("ben", 1, "").expect("taken back");
    anna.delete("ben", &[1]).expect("deleted");
    anna.read("ben", 1);
    ben.read("anna", 1);
}

#[test]
fn coming_back_brings_no_fresh_burst() {
    let gateway = gateway(1, 30);
    gateway.login("ben");
    let mut anna = gateway.login("anna");
    while send(&mut anna).is_ok() {}
    let start = Instant::now();
    drop(anna);
    eventually("the session is gone", || gateway.metrics().sum("gateway_sessions", &[]) == 0.0);
    let mut anna = gateway.login("anna");
    let mut sent = 0;
    while send(&mut anna).is_ok() {
        sent += 1;
    }
    let allowed = 1 + start.elapsed().as_secs();
    assert!(sent <= allowed, "{sent} were sent, {allowed} may be");
}

#[test]
fn without_the_setting_there_is_no_limit() {
    let gateway = Gateway::start();
    gateway.login("ben");
    let mut anna = gateway.login("anna");
    let requests: Vec<u32> = (0..200).map(|_| anna.start_send("ben", &unique_id(), text_body("x"))).collect();
    for request in requests {
        anna.answer::<protocol::message::SendReply>(request).expect("sent");
    }
}

/// Whoever may not send to a group takes nothing of what it may be sent.
#[test]
fn grp_10_strangers_do_not_use_up_what_a_group_may_be_sent() {
    let gateway = Gateway::builder().more_settings(&json!({ "group_sends_per_second": 2 })).start();
    let (mut anna, mut eve) = (gateway.login("anna"), gateway.login("eve"));
    for kind in [GroupType::Public, GroupType::Avchatroom] {
        let group = anna.create_group(kind, &[]);
        for _ in 0..50 {
            let refused = eve.send_to_group(&group, "noise").expect_err("she is not in it").code();
            assert_eq!(refused, Some(ErrorCode::GROUP_RIGHT_MISSING), "{kind:?}");
        }
        if kind == GroupType::Avchatroom {
            anna.join_group(&group).expect("in");
        }
        anna.send_to_group(&group, "heard").expect("sent");
    }
}
