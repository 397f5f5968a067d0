//! Who is there (ACC-04).
//!
//! Goal: the state of a user is that of the devices, on each platform, and who follows the user learns of
//! every change that lasts, in order, a dead connection's included; nobody else does. Mechanics: devices
//! that log in, go to the background and vanish, and followers that wait for the pushes. Without it users
//! would seem to be there for hours after their phone died, or be watched by connections long closed.

use protocol::{
    ErrorCode,
    message::{OnlineState, Platform, SubscribePresence},
};
use tests::{Client, Gateway, Options, eventually, seen, text_body, unique_id};

use OnlineState::{Offline, Online, PushOnline};
use Platform::{Android, Iphone, Linux, Web};

/// What a user who is not there looks like.
const NOBODY: (OnlineState, &str, Vec<(Platform, OnlineState)>) = (Offline, "", Vec::new());

fn login(gateway: &Gateway, user: &str, platform: Platform) -> Client {
    let mut client = gateway.connect_with(user, Options { platform, ..Options::default() });
    client.try_login().expect("logs in");
    client
}

fn unfollow(client: &mut Client, users: &[&str]) {
    let without = users.iter().map(|user| (*user).to_owned()).collect();
    let reply = client.subscribe(&SubscribePresence { without, ..SubscribePresence::default() });
    assert_eq!(reply, Ok(vec![]));
}

fn code<T: std::fmt::Debug>(answer: Result<T, tests::Refusal>) -> Option<ErrorCode> {
    answer.expect_err("a refusal").code()
}

#[test]
fn acc_04_a_follower_learns_every_state_in_order() {
    let gateway = Gateway::builder().flag("cores", 3).start();
    let mut ben = gateway.login("ben");
    let now = ben.follow(&["anna"]).expect("an answer");
    assert_eq!(now.iter().map(seen).collect::<Vec<_>>(), [NOBODY]);

    let mut phone = login(&gateway, "anna", Android);
    assert_eq!(seen(&ben.next_presence()), (Online, "", vec![(Android, Online)]));
    let options = Options { platform: Web, background: true, ..Options::default() };
    let mut web = gateway.connect_with("anna", options);
    web.try_login().expect("logs in");
    assert_eq!(seen(&ben.next_presence()), (Online, "", vec![(Android, Online), (Web, PushOnline)]));
    phone.set_background(true);
    assert_eq!(seen(&ben.next_presence()), (PushOnline, "", vec![(Android, PushOnline), (Web, PushOnline)]));
    web.set_background(false);
    web.set_status("at my desk").expect("set");
    let mut push = ben.next_presence();
    if push.status.is_empty() {
        push = ben.next_presence(); // it came between the two
    }
    assert_eq!(seen(&push), (Online, "at my desk", vec![(Android, PushOnline), (Web, Online)]));
    assert_eq!(push.user, "anna");
    drop(phone);
    assert_eq!(seen(&ben.next_presence()), (Online, "at my desk", vec![(Web, Online)]));
    drop(web);
    assert_eq!(seen(&ben.next_presence()), NOBODY);
    assert_eq!(seen(&ben.presence_of("anna")), NOBODY);
    assert_eq!(ben.presences_waiting(), 0);
}

#[test]
fn acc_04_on_one_platform_the_device_in_front_counts() {
    let gateway = Gateway::start();
    let mut ben = gateway.login("ben");
    let mut phones = [login(&gateway, "anna", Android), login(&gateway, "anna", Android)];
    let mut unknown = gateway.login("anna");
    phones[0].set_background(true);
    assert_eq!(seen(&ben.presence_of("anna")), (Online, "", vec![(Android, Online), (Linux, Online)]));
    phones[1].set_background(true);
    assert_eq!(seen(&ben.presence_of("anna")), (Online, "", vec![(Android, PushOnline), (Linux, Online)]));
    unknown.set_background(true);
    assert_eq!(seen(&ben.presence_of("anna")), (PushOnline, "", vec![(Android, PushOnline), (Linux, PushOnline)]));
}

#[test]
fn acc_04_what_nobody_sees_is_not_pushed() {
    let gateway = Gateway::start();
    let mut ben = gateway.login("ben");
    let mut phone = login(&gateway, "anna", Android);
    ben.follow(&["anna"]).expect("an answer");
    phone.set_background(false);
    phone.set_status("").expect("set");
    let other = login(&gateway, "anna", Android);
    drop(other);
    eventually("the other has gone", || phone.devices().len() == 1);
    phone.set_status("now").expect("set");
    assert_eq!(seen(&ben.next_presence()), (Online, "now", vec![(Android, Online)]));
    assert_eq!(ben.presences_waiting(), 0);
}

#[test]
fn acc_04_only_followers_are_told() {
    let gateway = Gateway::builder().flag("cores", 2).start();
    let mut phone = login(&gateway, "anna", Android);
    let mut own = login(&gateway, "anna", Web);
    let mut stranger = gateway.login("carl");
    let mut former = gateway.login("dora");
    let mut follower = gateway.login("ben");
    let mut myself = login(&gateway, "anna", Iphone);
    for client in [&mut former, &mut follower, &mut myself] {
        client.follow(&["anna"]).expect("an answer");
    }
    stranger.follow(&["ben"]).expect("an answer");
    unfollow(&mut former, &["anna", "nobody"]);
    for status in ["one", "two", "three"] {
        phone.set_status(status).expect("set");
        assert_eq!(follower.next_presence().status, status);
        assert_eq!(myself.next_presence().status, status, "the user too, who has asked for it");
        for client in [&mut own, &mut stranger, &mut former, &mut phone] {
            client.ping();
            assert_eq!(client.presences_waiting(), 0, "{}", client.user());
        }
    }
    let reset = SubscribePresence { reset: true, users: vec!["carl".into()], ..SubscribePresence::default() };
    assert_eq!(follower.subscribe(&reset).expect("an answer").len(), 1);
    drop(stranger);
    assert_eq!(seen(&follower.next_presence()), NOBODY);
    phone.set_status("four").expect("set");
    assert_eq!(myself.next_presence().status, "four");
    follower.ping();
    assert_eq!(follower.presences_waiting(), 0);
    gateway.wait_metric("gateway_presence_pushes_total", &[], 8.0);
}

#[test]
fn acc_04_subscriptions_end_with_their_connection() {
    let gateway = Gateway::builder().flag("client-heartbeat-ms-min", 200).start();
    let follows = |expected: f64| {
        let is = || gateway.metrics().sum("gateway_presence_follows", &[]) == expected;
        eventually(&format!("{expected} follows"), is);
    };
    let mut ben = gateway.login("ben");
    let mut dora = gateway.login("dora");
    dora.follow(&["anna", "ben", "nobody"]).expect("an answer");
    ben.follow(&["anna", "dora", "anna"]).expect("an answer");
    follows(5.0);
    drop(dora);
    follows(2.0);
    let mut silent = gateway.connect_with("carl", Options { heartbeat_ms: 2_000, ..Options::default() });
    silent.try_login().expect("logs in");
    silent.follow(&["anna", "eve"]).expect("an answer");
    follows(4.0);
    follows(2.0);
    gateway.wait_metric("gateway_closed_total", &[("code", &ErrorCode::HEARTBEAT_LOST.0.to_string())], 1.0);
    unfollow(&mut ben, &["dora"]);
    follows(1.0);
    drop(ben);
    follows(0.0);
}

#[test]
fn acc_04_a_dead_connection_is_found_by_its_heartbeat() {
    let gateway = Gateway::builder().flag("client-heartbeat-ms-min", 200).start();
    let mut ben = gateway.login("ben");
    ben.follow(&["anna"]).expect("an answer");
    let mut anna = gateway.connect_with("anna", Options { heartbeat_ms: 200, ..Options::default() });
    anna.try_login().expect("logs in");
    assert_eq!(ben.next_presence().state(), Online);
    assert_eq!(ben.next_presence().state(), Offline, "nothing was closed: anna's client just says nothing");
    gateway.wait_metric("gateway_closed_total", &[("code", &ErrorCode::HEARTBEAT_LOST.0.to_string())], 1.0);
}

#[test]
fn acc_04_a_dead_connection_with_full_buffers_is_found_no_later() {
    // Long after its heartbeats have stopped the connection would still be there.
    let gateway = Gateway::builder().flag("client-heartbeat-ms-min", 200);
    let gateway = gateway.flag("client-write-stall-ms-max", 3_600_000).start();
    let mut ben = gateway.login("ben");
    ben.follow(&["anna"]).expect("an answer");
    let options = Options { heartbeat_ms: 3_000, receive_buffer_bytes: Some(4096), ..Options::default() };
    let mut anna = gateway.connect_with("anna", options);
    anna.log_in_and_sync();
    assert_eq!(ben.next_presence().state(), Online);
    let text = text_body(&"x".repeat(12_000));
    while gateway.metrics().sum("gateway_events_dropped_total", &[]) == 0.0 {
        anna.request(protocol::command::Command::Devices, &protocol::message::Devices {}); // it is alive, but does not read
        for _ in 0..20 {
            ben.send_as("anna", &unique_id(), text.clone()).expect("sent");
        }
    }
    assert_eq!(ben.next_presence().state(), Offline);
    assert_eq!(gateway.metrics().sum("gateway_connections", &[]), 2.0, "its socket takes no goodbye");
}

#[test]
fn acc_04_a_slow_follower_loses_hints_and_is_told_that_it_is_behind() {
    let gateway = Gateway::builder().flag("client-push-buffer-bytes-max", 4096).start();
    let mut anna = login(&gateway, "anna", Android);
    let options = Options { receive_buffer_bytes: Some(4096), ..Options::default() };
    let mut slow = gateway.connect_with("carl", options);
    slow.log_in_and_sync();
    slow.follow(&["anna"]).expect("an answer");
    let mut ben = gateway.login("ben");
    let dropped = || gateway.metrics().sum("gateway_events_dropped_total", &[("reason", "slow_reader")]);
    let text = text_body(&"x".repeat(12_000));
    while dropped() == 0.0 {
        for _ in 0..20 {
            ben.send_as("carl", &unique_id(), text.clone()).expect("sent");
        }
    }
    // Its socket may still take what waits: pages that it does not read fill it, until a change is dropped.
    let before = dropped();
    let pushed = || gateway.metrics().sum("gateway_presence_pushes_total", &[]);
    let history = protocol::message::History { user: "ben".into(), ..Default::default() };
    let mut status = 0;
    while dropped() == before {
        let settled = pushed() + dropped();
        (0..8).for_each(|_| _ = slow.request(protocol::command::Command::History, &history));
        status += 1;
        anna.set_status(&status.to_string()).expect("set");
        eventually("the change is pushed or dropped", || pushed() + dropped() > settled);
    }
    while slow.next_push().expect("the connection is open").is_some() {}
    let again = slow.follow(&["anna"]).expect("an answer");
    assert_eq!(again[0].status, status.to_string(), "asked again, it knows");
}

#[test]
fn acc_04_a_status_has_its_limits_and_ends_with_the_last_device() {
    let gateway = Gateway::start();
    let mut ben = gateway.login("ben");
    let mut anna = login(&gateway, "anna", Web);
    let longest = "ä".repeat(64);
    anna.set_status(&longest).expect("128 bytes are allowed");
    for wrong in [format!("{longest}!"), "two\nlines".into(), "\u{7f}".into()] {
        assert_eq!(code(anna.set_status(&wrong)), Some(ErrorCode::ARGUMENT_INVALID), "{wrong:?}");
    }
    assert_eq!(ben.presence_of("anna").status, longest);
    drop(anna);
    eventually("anna has gone", || ben.presence_of("anna").state() == Offline);
    let _again = login(&gateway, "anna", Web);
    assert_eq!(seen(&ben.presence_of("anna")), (Online, "", vec![(Web, Online)]));
}

#[test]
fn acc_04_five_hundred_users_are_answered_in_order_over_all_cores() {
    let gateway = Gateway::builder().flag("cores", 4).start();
    let mut asker = gateway.login("asker");
    let names: Vec<String> = (0..500).map(|n| format!("user-{n}")).collect();
    let mut there: Vec<Client> = names.iter().step_by(20).map(|name| login(&gateway, name, Iphone)).collect();
    for client in there.iter_mut().step_by(2) {
        client.set_background(true);
    }
    let answers = asker.query_presence(&names).expect("an answer");
    let found: Vec<(&str, OnlineState)> = answers.iter().map(|it| (&it.user[..], it.state())).collect();
    let state = |n: usize| match n {
        n if n % 40 == 0 => PushOnline,
        n if n % 20 == 0 => Online,
        _ => Offline,
    };
    let expected: Vec<(&str, OnlineState)> = names.iter().enumerate().map(|(n, name)| (&name[..], state(n))).collect();
    assert_eq!(found, expected);
    assert_eq!(asker.query_presence(&["user-0", "user-1", "user-0"]).expect("an answer").len(), 3);
    assert_eq!(asker.query_presence::<&str>(&[]), Ok(vec![]));
}

#[test]
fn acc_04_limits_are_kept_and_a_refusal_changes_nothing() {
    let gateway = Gateway::builder().flag("client-presence-subscriptions-max", 202).start();
    let mut ben = gateway.login("ben");
    let names: Vec<String> = (0..501).map(|n| format!("user-{n}")).collect();
    assert_eq!(code(ben.query_presence(&names)), Some(ErrorCode::ARGUMENT_INVALID));
    assert_eq!(code(ben.query_presence(&["anna", ""])), Some(ErrorCode::USER_INVALID));
    assert_eq!(code(ben.follow(&names[..201])), Some(ErrorCode::ARGUMENT_INVALID));
    assert_eq!(code(ben.follow(&["tab\t"])), Some(ErrorCode::USER_INVALID));
    assert_eq!(ben.follow(&names[..200]).expect("an answer").len(), 200);
    let full = SubscribePresence {
        users: names[200..203].to_vec(),
        without: vec!["nobody".into()],
        ..SubscribePresence::default()
    };
    assert_eq!(code(ben.subscribe(&full)), Some(ErrorCode::LIST_FULL));
    let _late = login(&gateway, "user-200", Web);
    assert_eq!(ben.follow(&["user-201", "user-0", "user-1"]).expect("an answer").len(), 3, "one of them is new");
    let _told = login(&gateway, "user-201", Web);
    assert_eq!(ben.next_presence().user, "user-201", "and none of the refused");
    assert_eq!(code(ben.follow(&names[202..204])), Some(ErrorCode::LIST_FULL));
    let swap = SubscribePresence { without: vec!["user-5".into()], ..full };
    assert_eq!(ben.subscribe(&swap).expect("who is left makes room").len(), 3);
    assert_eq!(code(ben.follow(&["user-5"])), Some(ErrorCode::LIST_FULL));
    unfollow(&mut ben, &["user-6"]);
    assert_eq!(ben.follow(&["user-5"]).expect("an answer").len(), 1);
}

#[test]
fn acc_04_applications_and_accounts_that_are_not_there_tell_nothing() {
    let builder = Gateway::builder();
    let other_file = builder.folder().join("other-app.json");
    super::production::make_app_file(&other_file, 1_400_000_099);
    // Both applications are in the store from then on.
    let first = builder.flag("app-file", other_file.display()).start();
    let other_app = first.app().clone();
    let gateway = first.kill().without_flag("app-file").start();
    let mut ben = gateway.login("ben");
    assert_eq!(ben.follow(&["anna"]).expect("an answer").iter().map(seen).collect::<Vec<_>>(), [NOBODY]);

    let connect = || tests::Client::connect(gateway.address(), gateway.tls(), "anna", &other_app, Options::default());
    let mut stranger = connect().expect("connects");
    stranger.try_login().expect("an application of its own");
    stranger.set_status("elsewhere").expect("set");
    assert_eq!(seen(&ben.presence_of("anna")), NOBODY, "no account, or one of another application");
    let mut anna = login(&gateway, "anna", Web);
    assert_eq!(seen(&ben.next_presence()), (Online, "", vec![(Web, Online)]));
    assert_eq!((anna.devices().len(), stranger.devices().len()), (1, 1));
    assert_eq!(anna.sign_out(&[], false), Ok(0));
    assert_eq!(seen(&stranger.presence_of("ben")), NOBODY);
    stranger.follow(&["ben", "anna"]).expect("an answer");
    ben.set_status("here").expect("set");
    ben.follow(&["ben"]).expect("an answer");
    stranger.ping();
    assert_eq!(stranger.presences_waiting(), 0);
    let stranger_session = stranger.session();
    assert_eq!(anna.sign_out(&[stranger_session], false), Ok(0));
    stranger.ping();
}
