//! Calls of the server API, whatever the command (CON-10).
//!
//! Goal: an application's server that was written for the hosted original finds the same door: the same URL, the
//! same checks in the same order, the same codes; and nobody else comes in, or keeps others from it. Mechanics:
//! real HTTPS calls, good ones, wrong ones, slow ones. Without it a stranger could act for an application, or a
//! client that never finishes a request hold the API up.

use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{Api, App, Gateway, PATIENCE, Wire, eventually, tls_config_of};

use super::production::{make_certificate, production};

const CHECK: &str = "im_open_login_svc/account_check";

fn somebody() -> Value {
    json!({ "CheckItem": [{ "UserID": "anna" }] })
}

/// The code of a call to a URL.
fn code(api: &Api, url: &str) -> u64 {
    api.post(url, somebody().to_string().as_bytes())["ErrorCode"].as_u64().expect("a code")
}

/// A TLS connection to the server API, for bytes of any kind.
fn wire(gateway: &Gateway) -> Wire {
    let mut config = tls_config_of(gateway.certificate(), rustls::ALL_VERSIONS);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Wire::open(gateway.api_address(), config.into()).expect("a TLS connection")
}

/// What comes on a connection until it ends.
fn read_to_end(wire: &mut Wire) -> String {
    let deadline = Instant::now() + PATIENCE;
    let mut all = Vec::new();
    loop {
        let bytes = wire.read_until(deadline).expect("the end, in time");
        if bytes.is_empty() || bytes.iter().all(|byte| *byte == 0) {
            return String::from_utf8_lossy(&all).into_owned();
        }
        all.extend(bytes);
    }
}

#[test]
fn con_10_who_calls_is_checked_in_the_published_order() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let app = gateway.app();
    let url = |query: &str| format!("{}?{query}", api.bare_url(CHECK));
    let by = |identifier: &str, usersig: &str| {
        code(&api, &url(&format!("sdkappid={}&identifier={identifier}&usersig={usersig}", app.sdkappid)))
    };
    let good = app.sign("administrator");
    let now_s = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let other_key = App { secret: "f".repeat(64), ..app.clone() };
    let other_app = App { sdkappid: 7, ..app.clone() };

    assert_eq!(code(&api, &api.url("im_open_login_svc/nothing")), 60009);
    assert_eq!(code(&api, &api.url("nothing/account_check")), 60009);
    assert_eq!(code(&api, &api.bare_url(CHECK)), 60012);
    assert_eq!(code(&api, &url("sdkappid=x")), 60006);
    assert_eq!(code(&api, &url("sdkappid=1&identifier=%zz")), 60002);
    assert_eq!(code(&api, &url(&format!("sdkappid={}", app.sdkappid))), 60004);
    assert_eq!(code(&api, &url(&format!("sdkappid={}&identifier=administrator", app.sdkappid))), 60004);
    assert_eq!(code(&api, &url(&format!("sdkappid=9&identifier=administrator&usersig={good}"))), 70020);
    assert_eq!(by(&"x".repeat(33), &good), 60004);
    assert_eq!(by("administrator", ""), 70002);
    assert_eq!(by("administrator", "nonsense"), 70003);
    assert_eq!(by("administrator", &other_key.sign("administrator")), 70009);
    assert_eq!(by("administrator", &app.sign_at("administrator", now_s - 100, 60)), 70001);
    assert_eq!(by("administrator", &app.sign("anna")), 70013);
    assert_eq!(by("administrator", &other_app.sign("administrator")), 70014);
    assert_eq!(by("anna", &app.sign("anna")), 60010);
    assert_eq!(by("administrator", &good), 0);
}

#[test]
fn con_10_bodies_are_json_objects_of_some_length() {
    let gateway = Gateway::builder().flag("api-body-bytes-max", 4096).start();
    let api = gateway.api();
    let code = |command: &str, body: &[u8]| api.post(&api.url(command), body)["ErrorCode"].as_u64();
    for body in [&b"{"[..], b"\xff", b"{}{}"] {
        assert_eq!(code(CHECK, body), Some(60003));
    }
    for (command, expected) in [
        (CHECK, 70402),
        ("openim/sendmsg", 90001),
        ("recentcontact/get_list", 50002),
        ("openconfigsvr/getappinfo", 130_001),
    ] {
        assert_eq!(code(command, b"[]"), Some(expected), "{command}");
    }
    assert_eq!(code("openconfigsvr/getappinfo", b""), Some(0), "nothing is an empty object");
    let long = json!({ "unknown": "x".repeat(5_000) }).to_string();
    assert_eq!(code("openconfigsvr/getappinfo", long.as_bytes()), Some(60002));
    assert_eq!(code("openconfigsvr/getappinfo", br#"{"unknown":1}"#), Some(0), "unknown fields are ignored");
}

#[test]
fn con_10_administrators_are_a_setting_of_the_application() {
    let gateway = Gateway::builder().more_settings(&json!({ "admins": ["root", "ops"] })).start();
    let by = |identifier: &str| {
        Api::new(gateway.api_address(), gateway.certificate(), gateway.app(), identifier).call(CHECK, &somebody())
    };
    assert_eq!(by("administrator")["ErrorCode"], 60010);
    assert_eq!(by("root")["ErrorCode"], 0);
    assert_eq!(by("ops")["ErrorCode"], 0);
}

#[test]
fn con_10_a_production_start_refuses_the_development_application() {
    let development = Gateway::start();
    let app = development.app().clone();
    assert_eq!(development.api().call(CHECK, &somebody())["ErrorCode"], 0);
    let data = development.data().to_path_buf();
    let _folder = development.kill();
    let gateway = production().data(&data).start();
    let stranger = Api::new(gateway.api_address(), gateway.certificate(), &app, "administrator");
    assert_eq!(stranger.fails(CHECK, somebody()), 70020);
    gateway.api().ok(CHECK, somebody());
}

#[test]
fn con_10_too_many_calls_in_a_second_are_refused_by_command_and_application() {
    let gateway = Gateway::builder().flag("api-rate-percent", 1).start();
    let api = gateway.api();
    eventually("a refusal", || api.call(CHECK, &somebody())["ErrorCode"] == 60007);
    api.ok("ConfigSvc/GetIPList", json!({}));
}

#[test]
fn connections_are_kept_counted_and_limited() {
    let gateway = Gateway::builder().flag("api-connections-max", 2).start();
    let (first, second) = (gateway.api(), gateway.api());
    for _ in 0..10 {
        first.ok(CHECK, somebody());
    }
    assert_eq!(gateway.metrics().sum("gateway_api_connections", &[]), 1.0);
    second.fails("openim/sendmsg", json!({}));
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("gateway_api_calls_total", &[("command", CHECK), ("code", "0")]), 10.0);
    assert_eq!(metrics.sum("gateway_api_calls_total", &[("command", "openim/sendmsg")]), 1.0);
    assert_eq!(metrics.sum("gateway_api_seconds_count", &[]), 11.0);
    let mut config = tls_config_of(gateway.certificate(), rustls::ALL_VERSIONS);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(Wire::open(gateway.api_address(), config.into()).is_err(), "one more than may be");
    gateway.wait_metric("gateway_api_connections_refused_total", &[], 1.0);
    first.ok(CHECK, somebody());
}

#[test]
fn slow_clients_are_cut_off() {
    let gateway = Gateway::builder().flag("api-head-ms-max", 1000).flag("api-body-ms-max", 300).start();
    let mut idle = wire(&gateway);
    let mut half = wire(&gateway);
    half.write(b"POST /v4/openim/sendmsg HTTP/1.1\r\nhost: x\r\n").expect("it takes bytes");
    read_to_end(&mut idle);
    read_to_end(&mut half);
    let mut no_body = wire(&gateway);
    let path = gateway.api().url("openconfigsvr/getappinfo");
    let path = path.split_once("/v4").expect("a path").1;
    let head = format!("POST /v4{path} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{");
    no_body.write(head.as_bytes()).expect("it takes bytes");
    assert!(read_to_end(&mut no_body).contains("60008"));
    gateway.api().ok(CHECK, somebody());
}

#[test]
fn what_is_no_http_or_no_post_is_refused() {
    let gateway = Gateway::start();
    let mut noise = wire(&gateway);
    noise.write(b"\0\0\0\0 nonsense\r\n\r\n").expect("it takes bytes");
    read_to_end(&mut noise);
    let mut get = wire(&gateway);
    get.write(b"GET /v4/openim/sendmsg HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("it takes bytes");
    let answer = read_to_end(&mut get);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("60002"), "{answer}");
    let mut long = wire(&gateway);
    let head = format!("POST /v4/{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(100_000));
    let _ = long.write(head.as_bytes()); // it may be closed before all is written
    read_to_end(&mut long);
    gateway.api().ok(CHECK, somebody());
}

#[test]
fn a_drain_ends_connections_and_the_process() {
    let gateway = Gateway::start();
    let api = gateway.api();
    api.ok(CHECK, somebody());
    let mut idle = wire(&gateway);
    gateway.process().signal(Signal::TERM);
    read_to_end(&mut idle);
    let (status, output, _) = gateway.ended();
    assert!(status.success(), "{output}");
}

#[test]
fn sighup_brings_a_renewed_certificate() {
    let builder = production();
    let (cert, key) = (builder.folder().join("cert.pem"), builder.folder().join("key.pem"));
    let gateway = builder.start();
    gateway.api().ok(CHECK, somebody());
    make_certificate(&cert, &key, "the new one");
    gateway.process().signal(Signal::HUP);
    eventually("a word about it", || gateway.process().output().contains("certificate reloaded"));
    gateway.api().ok(CHECK, somebody());
}

#[test]
fn credentials_and_messages_appear_nowhere() {
    let gateway = Gateway::builder().flag("log", "debug").start();
    let api = gateway.api();
    let app = gateway.app().clone();
    let wrong = App { secret: "f".repeat(64), ..app };
    let stranger = Api::new(gateway.api_address(), gateway.certificate(), &wrong, "administrator");
    stranger.fails(CHECK, somebody());
    api.ok("im_open_login_svc/account_import", json!({ "UserID": "anna" }));
    let text = "for your eyes only";
    let body = json!([{ "MsgType": "TIMTextElem", "MsgContent": { "Text": text } }]);
    api.ok("openim/sendmsg", json!({ "To_Account": "anna", "MsgRandom": 1, "MsgBody": body }));
    let metrics = gateway.metrics().0;
    let (_, output, _) = gateway.stop();
    for secret in [&app.secret, "usersig", text] {
        assert!(!output.contains(secret) && !metrics.contains(secret), "{secret:?} can be seen in:\n{output}");
    }
}
