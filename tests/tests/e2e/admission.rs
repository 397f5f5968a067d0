//! Who may write to whom: checks at sending, each a setting of the application (MSG-04's refusals, REL-08).
//!
//! Goal: what the application forbids is refused with its published code and stored nowhere, and the blacklist is
//! the user's alone. Mechanics: application files with settings, blacklists filled to their limit. Without it
//! whoever was blocked could go on writing.

use std::fs;

use protocol::{
    ErrorCode,
    message::{BlacklistChanged, event::What},
};
use tests::{Answer, Client, Gateway, MessageExt, Options, text_body, unique_id};

fn code<T: std::fmt::Debug>(answer: Answer<T>) -> Option<ErrorCode> {
    answer.expect_err("a refusal").code()
}

fn refusal(client: &mut Client, to: &str) -> Option<ErrorCode> {
    code(client.send_as(to, &unique_id(), text_body("hello")))
}

#[test]
fn messages_to_users_who_do_not_exist_wait_for_them_if_the_application_says_so() {
    let gateway = Gateway::builder().more_settings(&serde_json::json!({"recipient_exists": false})).start();
    let mut anna = gateway.login("anna");
    anna.send("ben", "before your time");
    assert_eq!(anna.entry("ben").head_seq, 1);
    let mut ben = gateway.connect("ben");
    assert_eq!(ben.log_in_and_sync().iter().map(MessageExt::text).collect::<Vec<_>>(), ["before your time"]);
    assert_eq!(ben.entry("anna").unread, 1);
    for wrong in ["", "a name of more than thirty-two bytes", "ümlaut"] {
        assert_eq!(refusal(&mut anna, wrong), Some(ErrorCode::USER_INVALID));
    }
    // By default nobody writes to who is not there.
    let gateway = gateway.kill().more_settings(&serde_json::json!({"recipient_exists": true})).start();
    let mut anna = gateway.login("anna");
    assert_eq!(refusal(&mut anna, "carl"), Some(ErrorCode::USER_INVALID));
    assert_eq!(anna.send("ben", "again").seq, 2);
}

#[test]
fn rel_08_a_blacklisted_user_can_not_write_until_taken_off() {
    let gateway = Gateway::start();
    let (mut anna, mut ben, mut tablet) = (gateway.login("anna"), gateway.login("ben"), gateway.login("ben"));
    gateway.login("carl");
    anna.send("ben", "before");
    assert_eq!((ben.next_message().seq, tablet.next_message().seq), (1, 1));
    ben.blacklist(&["carl", "anna"], &[]).expect("blacklisted");
    let changed = |added: &[&str], removed: &[&str]| {
        let names = |users: &[&str]| users.iter().map(ToString::to_string).collect();
        What::Blacklist(BlacklistChanged { added: names(added), removed: names(removed) })
    };
    for device in [&mut ben, &mut tablet] {
        assert_eq!(device.next_event(), changed(&["anna", "carl"], &[]));
    }
    assert_eq!(ErrorCode::BLACKLISTED.0, 20007);
    assert_eq!(refusal(&mut anna, "ben"), Some(ErrorCode::BLACKLISTED));
    assert_eq!(ben.blacklisted(), ["anna", "carl"]);
    assert!(anna.blacklisted().is_empty());
    // Nor by other ways that ben would read; what was said can still be taken back.
    assert_eq!(code(anna.edit("ben", 1, text_body("edited"))), Some(ErrorCode::BLACKLISTED));
    let reaction = tests::add_extension("like", b"x", 0);
    assert_eq!(code(anna.set_extensions("ben", 1, vec![reaction])), Some(ErrorCode::BLACKLISTED));
    assert_eq!(code(anna.pin("ben", 1, false)), Some(ErrorCode::BLACKLISTED));
    anna.delete("ben", &[1]).expect("one's own view");
    anna.recall("ben", 1, "").expect("recalled");
    // It goes one way; and what was written before stays.
    ben.send("anna", "the other way");
    assert!(matches!(anna.next_event(), What::Deleted(_)), "what anna did herself");
    assert!(matches!(anna.next_event(), What::Changed(_)));
    assert_eq!(anna.next_message().seq, 2, "anna has learned nothing else");
    assert_eq!(ben.conversation("anna").len(), 2);
    // Already there, or not: nobody is told.
    ben.blacklist(&["anna"], &["dora"]).expect("as it is");
    let gateway = gateway.restart();
    let (mut anna, mut ben, mut tablet) = (gateway.login("anna"), gateway.login("ben"), gateway.login("ben"));
    assert_eq!(refusal(&mut anna, "ben"), Some(ErrorCode::BLACKLISTED));
    ben.blacklist(&[], &["anna"]).expect("taken off");
    assert_eq!(tablet.next_event(), changed(&[], &["anna"]));
    assert_eq!(anna.send("ben", "after").seq, 3);
    assert_eq!(ben.blacklisted(), ["carl"]);
    let mut new_device = gateway.connect("ben");
    new_device.try_login().expect("logged in");
    let events = new_device.try_catch_up_events().expect("the log");
    assert_eq!(events.iter().filter(|what| matches!(what, What::Blacklist(_))).count(), 2);
}

#[test]
fn rel_08_changes_of_the_blacklist_that_are_wrong_are_refused_and_change_nothing() {
    let gateway = Gateway::start();
    let (mut anna, _ben) = (gateway.login("anna"), gateway.login("ben"));
    let many: Vec<String> = (0..101).map(|n| format!("user-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let cases: [(&str, &[&str], &[&str], ErrorCode); 7] = [
        ("nobody", &[], &[], ErrorCode::ARGUMENT_INVALID),
        ("oneself", &["ben", "anna"], &[], ErrorCode::ARGUMENT_INVALID),
        ("on and off", &["ben"], &["ben"], ErrorCode::ARGUMENT_INVALID),
        ("101", &[], &many, ErrorCode::ARGUMENT_INVALID),
        ("unknown", &["ben", "carl"], &[], ErrorCode::USER_INVALID),
        ("no name", &["ben", ""], &[], ErrorCode::USER_INVALID),
        ("no name to take off", &["ben"], &[""], ErrorCode::USER_INVALID),
    ];
    for (what, add, remove, expected) in cases {
        assert_eq!(code(anna.blacklist(add, remove)), Some(expected), "{what}");
    }
    assert!(anna.blacklisted().is_empty());
    assert_eq!(code(anna.blacklist_page("", 1001)), Some(ErrorCode::ARGUMENT_INVALID));
    // A user named many times is put on once, and told once.
    let mut other = gateway.login("anna");
    anna.blacklist(&["ben"; 100], &[]).expect("blacklisted");
    let expected = BlacklistChanged { added: vec!["ben".into()], removed: vec![] };
    assert_eq!(other.next_event(), What::Blacklist(expected));
    assert_eq!(anna.blacklisted(), ["ben"]);
}

#[test]
fn rel_08_the_blacklist_does_not_hold_if_the_application_says_so() {
    let gateway = Gateway::builder().more_settings(&serde_json::json!({"blacklist": false})).start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    ben.blacklist(&["anna"], &[]).expect("blacklisted");
    assert_eq!(anna.send("ben", "hello").seq, 1);
}

#[test]
fn rel_08_a_blacklist_holds_1000_users_and_its_pages_fit_the_reader() {
    let gateway = Gateway::start();
    let names: Vec<String> = (0..1001).map(|n| format!("{n:04}{}", "n".repeat(28))).collect();
    std::thread::scope(|scope| {
        for part in names.chunks(126) {
            let gateway = &gateway;
            scope.spawn(move || {
                for name in part {
                    gateway.connect(name).try_login().expect("logged in");
                }
            });
        }
    });
    let options = Options { frame_bytes_max: 32_768, ..Options::default() };
    let mut anna = gateway.connect_with("anna", options);
    anna.log_in_and_sync();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for part in names[..1000].chunks(100) {
        anna.blacklist(part, &[]).expect("blacklisted");
    }
    assert_eq!(code(anna.blacklist(&[names[1000]], &[])), Some(ErrorCode::LIST_FULL));
    anna.blacklist(&[names[999]], &[]).expect("on it already");
    assert_eq!(anna.blacklisted(), names[..1000]);
    let page = anna.blacklist_page("", 1000).expect("a page");
    assert!(page.more && page.users.len() > 600, "{} in a frame", page.users.len());
    let page = anna.blacklist_page(names[989], 3).expect("a page");
    assert_eq!((page.users, page.more), (names[990..993].iter().map(ToString::to_string).collect(), true));
    let page = anna.blacklist_page(names[999], 0).expect("a page");
    assert_eq!((page.users.len(), page.more), (0, false));
    anna.blacklist(&[names[1000]], &[names[0]]).expect_err("full, before one is taken off");
    anna.blacklist(&[], &[names[0]]).expect("taken off");
    anna.blacklist(&[names[1000]], &[]).expect("there is room");
}

#[test]
fn strangers_can_not_write_if_the_application_wants_friends_only() {
    let gateway = Gateway::builder().more_settings(&serde_json::json!({"friends_only": true})).start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    assert_eq!(ErrorCode::NOT_FRIENDS.0, 20009);
    assert_eq!(refusal(&mut anna, "ben"), Some(ErrorCode::NOT_FRIENDS));
    ben.blacklist(&["anna"], &[]).expect("blacklisted");
    assert_eq!(refusal(&mut anna, "ben"), Some(ErrorCode::BLACKLISTED), "the stronger reason");
    assert_eq!(anna.send("anna", "oneself is no stranger").seq, 1);
    assert!(ben.conversation("anna").is_empty());
}

#[test]
fn the_length_of_messages_is_a_setting_of_the_application_within_the_server_s() {
    let gateway = Gateway::builder().more_settings(&serde_json::json!({"message_bytes_max": 100})).start();
    let (mut anna, _ben) = (gateway.login("anna"), gateway.login("ben"));
    let body = |bytes: usize| (0..9).map(|n| text_body(&"x".repeat(bytes - n))).find(|body| body.len() == bytes);
    let (fits, too_long) = (body(100).expect("a body"), body(101).expect("a body"));
    assert_eq!(anna.send_as("ben", b"1", fits).expect("sent").seq, 1);
    assert_eq!(code(anna.send_as("ben", b"2", too_long.clone())), Some(ErrorCode::MESSAGE_TOO_LONG));
    assert_eq!(code(anna.edit("ben", 1, too_long)), Some(ErrorCode::MESSAGE_TOO_LONG), "by editing");
    // More than the server's is the server's.
    let gateway = gateway.kill().more_settings(&serde_json::json!({"message_bytes_max": 1_000_000})).start();
    let refused = code(gateway.login("anna").send_as("ben", b"3", text_body(&"x".repeat(12_288))));
    assert_eq!(refused, Some(ErrorCode::MESSAGE_TOO_LONG));
}

#[test]
fn settings_that_are_wrong_are_refused_at_the_start_by_name() {
    let output = |settings: serde_json::Value| {
        let builder = Gateway::builder();
        let path = builder.folder().join("app.json");
        super::production::make_app_file(&path, 1_400_000_002);
        let mut app: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("made")).expect("JSON");
        app["settings"] = settings;
        fs::write(&path, app.to_string()).expect("written");
        builder.flag("app-file", path.display()).fails()
    };
    for name in ["recall_seconds", "edit_seconds"] {
        let said = output(serde_json::json!({name: 10_000_000_000_u64}));
        assert!(said.contains(&format!("settings.{name}")), "{said}");
    }
    assert!(output(serde_json::json!({"recall_minutes": 2})).contains("app.file"));
}
