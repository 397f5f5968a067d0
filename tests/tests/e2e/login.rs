//! Logging in with a UserSig (ACC-06).
//!
//! Goal: the right credential opens the connection; every other one is refused with the code that the
//! hosted original publishes, and guessing ends after a few tries. Mechanics: credentials made wrong in one
//! way each. Without it a forged or expired credential could open someone's messages.

use protocol::{
    ErrorCode,
    command::Command,
    message::{Login, LoginReply, SyncReply},
};
use tests::{App, Client, Gateway, Refusal};

fn refused(client: &mut Client, sdkappid: u32, usersig: &str) -> Option<ErrorCode> {
    client.login_with(sdkappid, usersig.to_owned()).expect_err("a refusal").code()
}

#[test]
fn acc_06_a_good_credential_opens_the_connection_and_makes_the_account() {
    let gateway = Gateway::start();
    let mut anna = gateway.connect("anna");
    let reply = anna.try_login().expect("a good credential");
    assert!(reply.server_time_ms > 1_700_000_000_000);
    assert_eq!(anna.send("anna", "to myself").seq, 1);
    gateway.wait_metric("gateway_logins_total", &[], 1.0);
    assert_eq!(gateway.metrics().sum("gateway_sessions", &[]), 1.0);
    drop(anna);
    tests::eventually("the session is gone", || gateway.metrics().sum("gateway_sessions", &[]) == 0.0);
}

#[test]
fn acc_06_each_wrong_credential_gets_its_published_code_and_can_be_mended() {
    let gateway = Gateway::start();
    let app = gateway.app().clone();
    let other_app = App { sdkappid: app.sdkappid + 1, ..app.clone() };
    let wrong_secret = App { secret: "0".repeat(64), sdkappid: app.sdkappid };
    let good = app.sign("anna");
    let cases = [
        ("expired", app.sdkappid, app.sign_at("anna", 1_600_000_000, 3600), 70001),
        ("empty", app.sdkappid, String::new(), 70002),
        ("no base64", app.sdkappid, "%%%%".into(), 70003),
        ("cut in half", app.sdkappid, good[..good.len() / 2].into(), 70003),
        ("too long", app.sdkappid, "A".repeat(5000), 70003),
        ("signed with another secret", app.sdkappid, wrong_secret.sign("anna"), 70009),
        ("of another user", app.sdkappid, app.sign("ben"), 70013),
        ("of another application", app.sdkappid, other_app.sign("anna"), 70014),
        ("to an unknown application", 7, app.sign("anna"), 70020),
        ("to no application", 0, app.sign("anna"), 70020),
    ];
    for (what, sdkappid, usersig, expected) in cases {
        let mut client = gateway.connect("anna");
        assert_eq!(refused(&mut client, sdkappid, &usersig), Some(ErrorCode(expected)), "{what}");
        let refused_too = client.sync(Default::default(), 0).expect_err("not logged in");
        assert_eq!(refused_too.code(), Some(ErrorCode::NOT_LOGGED_IN));
        client.try_login().unwrap_or_else(|refusal| panic!("after {what}: {refusal:?}"));
        gateway.wait_metric("gateway_requests_refused_total", &[("code", &expected.to_string())], 1.0);
    }
}

#[test]
fn acc_06_the_last_of_a_few_wrong_tries_is_answered_and_closes_the_connection() {
    let gateway = Gateway::start();
    let wrong = App { secret: "0".repeat(64), ..gateway.app().clone() };
    let mut guesser = gateway.connect("anna");
    for _ in 0..3 {
        assert_eq!(refused(&mut guesser, wrong.sdkappid, &wrong.sign("anna")), Some(ErrorCode(70009)));
    }
    let (code, retry_after_ms) = guesser.closed().expect("a go-away");
    assert_eq!(code, ErrorCode::TOO_MANY_LOGIN_FAILURES);
    assert!(retry_after_ms > 0, "with a hint when to come back");
    gateway.wait_metric("gateway_closed_total", &[("code", &code.0.to_string())], 1.0);
    gateway.login("anna").ping();
}

#[test]
fn names_that_are_none_are_refused() {
    let gateway = Gateway::start();
    for name in ["", "ä", "tab\t", &"x".repeat(33)] {
        let refusal = gateway.connect(name).try_login().expect_err("a refusal");
        assert_eq!(refusal.code(), Some(ErrorCode::USER_INVALID), "{name:?}");
    }
    for name in [" ", "~", "a b", &"x".repeat(32)] {
        gateway.connect(name).try_login().unwrap_or_else(|refusal| panic!("{name:?}: {refusal:?}"));
    }
}

#[test]
fn a_device_name_over_the_limit_is_refused() {
    let gateway = Gateway::start();
    let mut anna = gateway.connect("anna");
    let app = gateway.app();
    let mut login =
        Login { sdkappid: app.sdkappid, user: "anna".into(), usersig: app.sign("anna"), ..Login::default() };
    login.device = "d".repeat(65);
    let refusal = anna.call::<LoginReply>(Command::Login, &login).expect_err("a refusal");
    assert_eq!(refusal.code(), Some(ErrorCode::ARGUMENT_INVALID));
    login.device.pop();
    login.platform = 4711; // of a newer client
    anna.call::<LoginReply>(Command::Login, &login).expect("64 bytes are allowed");
}

#[test]
fn a_connection_logs_in_once() {
    let gateway = Gateway::start();
    let mut anna = gateway.login("anna");
    assert_eq!(anna.try_login().expect_err("a refusal").code(), Some(ErrorCode::ALREADY_LOGGED_IN));
    anna.ping();
}

#[test]
fn hello_login_and_sync_may_leave_in_one_flight() {
    let gateway = Gateway::start();
    let app = gateway.app();
    gateway.login("anna").send("anna", "one");
    let login = |usersig| Login { sdkappid: app.sdkappid, user: "anna".into(), usersig, ..Login::default() };
    let mut anna = gateway.connect("anna");
    let wrong = anna.request(Command::Login, &login("wrong".into()));
    let early = anna.request(Command::Sync, &protocol::message::Sync::default());
    let right = anna.request(Command::Login, &login(app.sign("anna")));
    let sync = anna.request(Command::Sync, &protocol::message::Sync::default());
    // Each waits for the login before it: the first sync meets a failed one, the second a good one.
    let code = |answer: Result<SyncReply, Refusal>| answer.expect_err("a refusal").code();
    assert_eq!(code(anna.answer(wrong)), Some(ErrorCode::USERSIG_MALFORMED));
    assert_eq!(code(anna.answer(early)), Some(ErrorCode::NOT_LOGGED_IN));
    anna.answer::<LoginReply>(right).expect("a good credential");
    assert_eq!(anna.answer::<SyncReply>(sync).expect("logged in").events.len(), 1);
}
