//! Devices of one user beside each other (LOGIN-01 to LOGIN-05, ACC-02).
//!
//! Goal: an application's policy decides which devices are logged in together; whom it ends is told why and
//! by which device; a user sees the own devices and can end them, a stolen credential included. Mechanics:
//! real connections that say they run on this or that, on gateways with each policy. Without it a phone
//! could be thrown off by a tablet for no reason, or a thief stay logged in beside the owner.

use protocol::{
    ErrorCode,
    message::{Device, Platform},
};
use serde_json::json;
use tests::{Client, Gateway, Options, Refusal, eventually};

use Platform::{Android, Ipad, Iphone, Linux, Mac, Unknown, Web, Windows};

const ALL: [Platform; 7] = [Android, Iphone, Ipad, Windows, Mac, Web, Linux];

/// One or two of each kind; all pairs there are, are in the unit tests of the policy.
const SOME: [Platform; 5] = [Android, Ipad, Windows, Web, Unknown];

fn with_policy(policy: &str) -> Gateway {
    Gateway::builder().settings(json!({ "login_policy": policy })).start()
}

fn connect(gateway: &Gateway, user: &str, platform: Platform, device: &str) -> Client {
    gateway.connect_with(user, Options { platform, device: device.into(), ..Options::default() })
}

fn login(gateway: &Gateway, user: &str, platform: Platform, device: &str) -> Client {
    let mut client = connect(gateway, user, platform, device);
    client.try_login().unwrap_or_else(|refusal| panic!("{user} on {platform:?}: {refusal:?}"));
    client
}

/// What devices are called, in order of their logins.
fn names(devices: &[Device]) -> Vec<&str> {
    devices.iter().map(|device| &device.device[..]).collect()
}

/// For every two of some platforms: the second login ends the first if one of `slots` has both, and only then.
fn check_slots(gateway: &Gateway, slots: &[&[Platform]]) {
    for (index, older) in SOME.into_iter().enumerate() {
        for newer in SOME {
            let user = format!("user {index} {newer:?}");
            let mut first = login(gateway, &user, older, "first");
            let mut second = login(gateway, &user, newer, "second");
            let case = format!("{older:?}, then {newer:?}");
            if slots.iter().any(|slot| slot.contains(&older) && slot.contains(&newer)) {
                let by = first.signed_out();
                let counted = if newer == Unknown { Linux } else { newer };
                assert_eq!((by.device.as_str(), by.platform(), by.own), ("second", counted, false), "{case}");
                assert!(by.session > 0 && by.since_ms > 1_700_000_000_000, "{by:?}");
                assert_eq!(names(&second.devices()), ["second"], "{case}");
            } else {
                assert_eq!(names(&first.devices()), ["first", "second"], "{case}");
                assert_eq!(names(&second.devices()), ["first", "second"], "{case}");
            }
        }
    }
}

#[test]
fn login_01_single_platform_lets_one_device_in() {
    check_slots(&with_policy("single"), &[&SOME]);
}

#[test]
fn login_02_dual_platform_is_the_default_and_lets_the_web_in_beside_one() {
    let dual: [&[Platform]; 2] = [&[Android, Iphone, Ipad, Windows, Mac, Linux, Unknown], &[Web]];
    check_slots(&with_policy("dual"), &dual);
    check_slots(&Gateway::builder().own_app_file().start(), &dual);
}

#[test]
fn login_03_triple_platform_lets_one_mobile_one_desktop_and_the_web_in() {
    check_slots(&with_policy("triple"), &[&[Android, Iphone, Ipad], &[Windows, Mac, Linux, Unknown], &[Web]]);
}

#[test]
fn login_04_multi_platform_lets_one_of_each_in() {
    let gateway = with_policy("multi");
    check_slots(&gateway, &[&[Android], &[Ipad], &[Windows], &[Web], &[Linux, Unknown]]);
    let mut all: Vec<Client> = ALL.iter().map(|&platform| login(&gateway, "anna", platform, "")).collect();
    assert_eq!(all[0].devices().len(), 7);
    all.iter_mut().for_each(|device| _ = device.ping());
}

#[test]
fn login_05_a_platform_has_as_many_devices_as_its_instances() {
    let settings = json!({ "login_policy": "dual", "instances": { "android": 2, "web": 3 } });
    let gateway = Gateway::builder().settings(settings).start();
    let mut web: Vec<Client> = (0..3).map(|n| login(&gateway, "anna", Web, &format!("web {n}"))).collect();
    let mut phones: Vec<Client> = (0..2).map(|n| login(&gateway, "anna", Android, &format!("phone {n}"))).collect();
    let mut third = login(&gateway, "anna", Android, "phone 2");
    assert_eq!(phones[0].signed_out().device, "phone 2");
    assert_eq!(names(&third.devices()), ["web 0", "web 1", "web 2", "phone 1", "phone 2"]);
    let _mac = login(&gateway, "anna", Mac, "mac");
    for phone in [&mut phones[1], &mut third] {
        assert_eq!(phone.signed_out().platform(), Mac, "one platform of a slot, however many instances it has");
    }
    let mut fourth = login(&gateway, "anna", Web, "web 3");
    assert_eq!(web[0].signed_out().device, "web 3");
    assert_eq!(names(&fourth.devices()), ["web 1", "web 2", "mac", "web 3"]);
}

#[test]
fn login_05_a_device_that_comes_back_replaces_itself() {
    let settings = json!({ "login_policy": "multi", "instances": { "android": 5 } });
    let gateway = Gateway::builder().settings(settings).flag("client-sessions-per-user-max", 2).start();
    let mut phone = login(&gateway, "anna", Android, "phone");
    let mut other = login(&gateway, "anna", Android, "other");
    let mut again = login(&gateway, "anna", Android, "phone");
    let by = phone.signed_out();
    assert_eq!((by.device.as_str(), by.session), ("phone", again.session()));
    assert_eq!(names(&other.devices()), ["other", "phone"]);
    let refusal = connect(&gateway, "anna", Android, "third").try_login().expect_err("two are the limit");
    assert_eq!(refusal.code(), Some(ErrorCode::TOO_MANY_SESSIONS));
    assert_eq!(names(&other.devices()), ["other", "phone"], "a refused login signs nobody out");
}

#[test]
fn login_05_what_was_sent_reaches_the_device_that_took_over() {
    let gateway = with_policy("single");
    let mut ben = gateway.login("ben");
    let mut old = login(&gateway, "anna", Android, "old");
    old.catch_up();
    ben.send("anna", "one");
    assert_eq!(old.next_message().seq, 1);
    let mut new = login(&gateway, "anna", Iphone, "new");
    old.signed_out();
    ben.send("anna", "two");
    assert_eq!(new.catch_up().len(), 2);
    ben.send("anna", "three");
    assert_eq!(new.next_message().seq, 3);
}

#[test]
fn login_05_a_wrong_credential_signs_nobody_out() {
    let gateway = with_policy("single");
    let mut phone = login(&gateway, "anna", Android, "phone");
    let wrong = gateway.app().sign("ben");
    let refusal = connect(&gateway, "anna", Web, "thief").login_with(gateway.app().sdkappid, wrong);
    assert_eq!(refusal.expect_err("a refusal").code(), Some(ErrorCode::USERSIG_OTHER_USER));
    assert_eq!(names(&phone.devices()), ["phone"]);
}

#[test]
fn devices_are_listed_with_what_is_known_of_them() {
    let gateway = Gateway::start();
    let mut phone = login(&gateway, "anna", Android, "phone");
    let options = Options { platform: Web, device: "browser".into(), background: true, ..Options::default() };
    let mut web = gateway.connect_with("anna", options);
    web.try_login().expect("logs in");
    login(&gateway, "ben", Android, "ben's");
    let list = |client: &mut Client| -> Vec<(String, Platform, bool, bool)> {
        let seen = |device: &Device| (device.device.clone(), device.platform(), device.background, device.own);
        client.devices().iter().map(seen).collect()
    };
    assert_eq!(list(&mut phone), [("phone".into(), Android, false, true), ("browser".into(), Web, true, false)]);
    web.set_background(false);
    phone.set_background(true);
    assert_eq!(list(&mut web), [("phone".into(), Android, true, false), ("browser".into(), Web, false, true)]);
    drop(phone);
    eventually("the phone has gone", || web.devices().len() == 1);
}

#[test]
fn a_device_signs_out_chosen_ones_all_others_or_itself() {
    let gateway = Gateway::start();
    let mut ben = login(&gateway, "ben", Android, "ben's");
    let mut own = login(&gateway, "anna", Web, "own");
    let mut others: Vec<Client> = (0..4).map(|n| login(&gateway, "anna", Android, &format!("phone {n}"))).collect();
    let sessions: Vec<u64> = own.devices().iter().map(|device| device.session).collect();

    assert_eq!(own.sign_out(&[ben.session(), 4_711_000], false), Ok(0), "sessions that are none of the user's");
    ben.ping();
    assert_eq!(own.sign_out(&[sessions[2], sessions[4]], false), Ok(2));
    for index in [1, 3] {
        let by = others[index].signed_out();
        assert_eq!((by.device.as_str(), by.session), ("own", sessions[0]));
    }
    assert_eq!(names(&own.devices()), ["own", "phone 0", "phone 2"]);
    assert_eq!(own.sign_out(&[], false), Ok(2));
    assert_eq!(others[0].signed_out().device, "own");
    assert_eq!(others[2].signed_out().device, "own");
    assert_eq!(own.sign_out(&[], false), Ok(0));
    assert_eq!(own.sign_out(&vec![1; 101], false).expect_err("too many").code(), Some(ErrorCode::ARGUMENT_INVALID));
    assert_eq!(own.sign_out(&[sessions[0]], false), Ok(1), "the answer comes before the end");
    assert!(own.signed_out().own);
    login(&gateway, "anna", Android, "back").ping();
}

#[test]
fn acc_02_invalidated_credentials_are_refused_and_every_device_is_out() {
    let gateway = Gateway::start();
    let app = gateway.app().clone();
    let now_s = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let old = app.sign_at("anna", now_s - 10, 3600);
    let refused = |gateway: &Gateway, usersig: &str| {
        let login = connect(gateway, "anna", Android, "").login_with(app.sdkappid, usersig.to_owned());
        login.err().and_then(|refusal| refusal.code())
    };
    assert_eq!(refused(&gateway, &old), None);
    let mut own = login(&gateway, "anna", Web, "own");
    let mut phone = login(&gateway, "anna", Android, "phone");
    let mut ben = login(&gateway, "ben", Android, "ben's");

    let count = own.sign_out(&[], true).expect("the answer comes before the end");
    assert!((2..=3).contains(&count), "{count}"); // the first connection may be there still
    assert_eq!(own.signed_out().device, "own");
    assert_eq!(phone.signed_out().device, "own");
    assert_eq!(refused(&gateway, &old), Some(ErrorCode::USERSIG_INVALIDATED));
    ben.ping();
    // Issued directly afterwards: within a second there is one that is good.
    eventually("a fresh credential is good", || refused(&gateway, &app.sign("anna")).is_none());
    assert_eq!(refused(&gateway, &old), Some(ErrorCode::USERSIG_INVALIDATED));

    let gateway = gateway.restart();
    assert_eq!(refused(&gateway, &old), Some(ErrorCode::USERSIG_INVALIDATED), "durable");
    assert_eq!(refused(&gateway, &app.sign("anna")), None);
}

#[test]
fn nobody_asks_about_devices_before_login() {
    let gateway = Gateway::start();
    let mut anna = gateway.connect("anna");
    let refusals: [Option<Refusal>; 3] =
        [anna.sign_out(&[], true).err(), anna.query_presence(&["ben"]).err(), anna.follow(&["ben"]).err()];
    for refusal in refusals {
        assert_eq!(refusal.and_then(|refusal| refusal.code()), Some(ErrorCode::NOT_LOGGED_IN));
    }
}
