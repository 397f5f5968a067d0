//! Profiles: what users say of themselves, read by anybody (PROF-01 to PROF-05, REL-01).
//!
//! Goal: each field that may be set is set and read by everyone, whole or in part; what may not be is refused by its
//! published code and changes nothing; own devices and friends learn of changes, others do not. Mechanics: several
//! clients, events and readings compared. Without it somebody's name would differ from phone to phone.

use bytes::Bytes;
use protocol::{
    ErrorCode,
    message::{AllowType, Gender, GetFriends, Profile, ProfileFields, event::What},
};
use serde_json::json;
use tests::{Answer, Client, Gateway};

fn code<T: std::fmt::Debug>(answer: Answer<T>) -> Option<ErrorCode> {
    answer.expect_err("a refusal").code()
}

fn none() -> Profile {
    Profile::default()
}

fn of(user: &str, profile: Profile) -> Profile {
    Profile { user: user.to_owned(), ..profile }
}

fn next_profile(client: &mut Client) -> Profile {
    match client.next_event() {
        What::Profile(profile) => profile,
        other => panic!("not a changed profile: {other:?}"),
    }
}

fn start() -> Gateway {
    let fields = json!({ "profile_custom_fields": ["Tag_Profile_Custom_Team", "Tag_Profile_Custom_Desk"] });
    Gateway::builder().more_settings(&fields).start()
}

fn full() -> Profile {
    Profile {
        user: String::new(),
        nick: Some("Änna ✓".into()),
        gender: Some(Gender::Female.into()),
        birthday: Some(20_010_203),
        location: Some("sixteen bytes ok".into()),
        signature: Some("x".repeat(500)),
        allow_type: Some(AllowType::NeedConfirm.into()),
        language: Some(u32::MAX),
        image_url: Some("https://files.example/a.png".into()),
        message_settings: Some(1),
        requests_forbidden: None,
        level: Some(7),
        role: Some(1),
        custom: [("Tag_Profile_Custom_Team".to_owned(), Bytes::from(vec![0xff; 500]))].into(),
    }
}

#[test]
fn prof_01_prof_02_every_field_is_set_and_read_by_oneself_friends_and_strangers() {
    let gateway = start();
    let (mut phone, mut laptop, mut ben) = (gateway.login("anna"), gateway.login("anna"), gateway.login("ben"));
    phone.set_profile(full()).expect("set");
    let whole = of("anna", full());
    for device in [&mut phone, &mut laptop] {
        assert_eq!(next_profile(device), whole, "the device that asked is told, too");
    }
    for client in [&mut laptop, &mut ben] {
        assert_eq!(client.profile("anna"), whole);
    }
    // Field by field; the rest stays, and a default is a value.
    laptop.set_profile(Profile { nick: Some(String::new()), level: Some(0), ..none() }).expect("set");
    let set = Profile { nick: Some(String::new()), level: Some(0), ..none() };
    assert_eq!(next_profile(&mut phone), of("anna", set));
    let custom = [("Tag_Profile_Custom_Team".to_owned(), Bytes::new())].into();
    laptop.set_profile(Profile { custom, ..none() }).expect("taken off");
    let now = Profile { nick: Some(String::new()), level: Some(0), custom: Default::default(), ..whole };
    assert_eq!(ben.profile("anna"), now);
    let gateway = gateway.restart();
    assert_eq!(gateway.login("ben").profile("anna"), now, "kept across a restart");
    assert_eq!(gateway.login("cleo").profile("cleo"), of("cleo", none()), "an account has an empty one");
}

#[test]
fn prof_03_rel_01_chosen_fields_are_read_and_whether_a_user_is_there() {
    let gateway = start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    anna.set_profile(full()).expect("set");
    let fields = |fields: &[u32], custom: &[&str]| {
        let custom = custom.iter().map(ToString::to_string).collect();
        Some(ProfileFields { fields: fields.to_vec(), custom })
    };
    let read = ben.profiles(&["nobody", "anna", "ben"], fields(&[2, 12], &["Tag_Profile_Custom_Team"])).expect("read");
    let codes: Vec<u32> = read.iter().map(|result| result.code).collect();
    assert_eq!(codes, [ErrorCode::PROFILE_USER_UNKNOWN.0, 0, 0], "in the order asked for");
    let chosen = Profile { nick: full().nick, level: Some(7), custom: full().custom, ..none() };
    let profiles: Vec<Option<Profile>> = read.into_iter().map(|result| result.profile).collect();
    assert_eq!(profiles, [Some(of("nobody", none())), Some(of("anna", chosen)), Some(of("ben", none()))]);
    for unknown in [1, 14, 99] {
        assert_eq!(code(ben.profiles(&["anna"], fields(&[unknown], &[]))), Some(ErrorCode::PROFILE_FIELD_UNKNOWN));
    }
    let many = vec!["anna"; 101];
    assert_eq!(code(ben.profiles(&many, None)), Some(ErrorCode::ARGUMENT_INVALID));
    assert_eq!(code(ben.profiles(&[""], None)), Some(ErrorCode::USER_INVALID));
    // More than fits into one answer is left to be asked for again.
    let options = tests::Options { frame_bytes_max: 32_768, ..tests::Options::default() };
    let mut small = gateway.connect_with("cleo", options);
    small.try_login().expect("a login");
    let some = small.profiles(&many[..100], None).expect("some").len();
    assert!((1..100).contains(&some), "{some} profiles");
}

#[test]
fn prof_01_prof_04_what_may_not_be_set_is_refused_and_changes_nothing() {
    let gateway = start();
    let mut anna = gateway.login("anna");
    let custom = |name: &str, bytes: usize| [(name.to_owned(), Bytes::from(vec![1; bytes]))].into();
    let refused = [
        (Profile { nick: Some("x".repeat(501)), ..none() }, ErrorCode::PROFILE_VALUE_TOO_LONG),
        (Profile { signature: Some("x".repeat(501)), ..none() }, ErrorCode::PROFILE_VALUE_TOO_LONG),
        (Profile { image_url: Some("x".repeat(501)), ..none() }, ErrorCode::PROFILE_VALUE_TOO_LONG),
        (Profile { location: Some("x".repeat(17)), ..none() }, ErrorCode::PROFILE_VALUE_TOO_LONG),
        (Profile { custom: custom("Tag_Profile_Custom_Team", 501), ..none() }, ErrorCode::PROFILE_VALUE_TOO_LONG),
        (Profile { gender: Some(3), ..none() }, ErrorCode::PROFILE_VALUE_INVALID),
        (Profile { allow_type: Some(-1), ..none() }, ErrorCode::PROFILE_VALUE_INVALID),
        (Profile { custom: custom("Tag_Profile_Custom_Hat", 1), ..none() }, ErrorCode::PROFILE_FIELD_UNKNOWN),
        (Profile { requests_forbidden: Some(false), ..none() }, ErrorCode::PROFILE_READ_ONLY),
    ];
    for (profile, expected) in refused {
        let with_nick = Profile { level: Some(9), ..profile };
        assert_eq!(code(anna.set_profile(with_nick.clone())), Some(expected), "{with_nick:?}");
    }
    assert_eq!(anna.profile("anna"), of("anna", none()));
    assert_eq!(anna.pushes_waiting(), 0);
}

#[test]
fn prof_05_friends_are_told_and_strangers_are_not() {
    let gateway = start();
    let (mut anna, mut ben, mut cleo) = (gateway.login("anna"), gateway.login("ben"), gateway.login("cleo"));
    assert_eq!(ben.add_friend("anna"), 0);
    for client in [&mut anna, &mut ben] {
        assert!(matches!(client.next_event(), What::Friends(_)));
    }
    let mut ben_later = ben.cursor.clone();
    let set =
        Profile { nick: Some("A".into()), custom: [("Tag_Profile_Custom_Desk".into(), "3".into())].into(), ..none() };
    anna.set_profile(set.clone()).expect("set");
    assert_eq!(next_profile(&mut ben), of("anna", set.clone()));
    cleo.ping();
    assert_eq!(cleo.pushes_waiting(), 0, "a stranger is not told");
    // A device that was away reads it in the log.
    let mut laptop = gateway.connect("ben");
    laptop.try_login().expect("a login");
    std::mem::swap(&mut laptop.cursor, &mut ben_later);
    assert_eq!(laptop.try_catch_up_events(), Ok(vec![What::Profile(of("anna", set.clone()))]));
    // With the friends come the fields asked for: the usual ones, chosen ones, none.
    let read = |client: &mut Client, profile| {
        let page = client.friends_page(GetFriends { profile, ..GetFriends::default() }).expect("a page");
        page.friends.into_iter().next().expect("a friend").profile
    };
    assert_eq!(read(&mut ben, None), Some(of("anna", Profile { nick: Some("A".into()), ..none() })));
    let desk = ProfileFields { fields: vec![], custom: vec!["Tag_Profile_Custom_Desk".into()] };
    assert_eq!(read(&mut ben, Some(desk)), Some(of("anna", Profile { nick: None, ..set })));
    assert_eq!(read(&mut ben, Some(ProfileFields::default())), None);
}
