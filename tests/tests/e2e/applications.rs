//! Several applications, and what an operator does to them while they are used (CON-01, CON-02, CON-04).
//!
//! Goal: applications see nothing of each other; keys are exchanged and settings changed without a restart, and
//! that survives one; a deleted application is gone, with its sessions and its data. Mechanics: `gateway app`
//! beside a running gateway, through its socket, and without one. Without it an operator would have to stop
//! everybody's service to change one application's, or one company would read another's messages.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
};

use protocol::{
    ErrorCode,
    message::{OnlineState, Platform},
};
use serde_json::{Value, json};
use tests::{App, Client, Gateway, Options, Refusal, eventually, program, skip, text_body, unique_id};

const ONE: &str = "1400000001";

fn refused<T: std::fmt::Debug>(answer: Result<T, Refusal>) -> ErrorCode {
    answer.expect_err("it should be refused").code().expect("with a code")
}

fn write_private(path: &Path, content: &Value) {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.expect("a file").write_all(content.to_string().as_bytes()).expect("written");
}

fn login_to(gateway: &Gateway, app: &App, user: &str) -> Client {
    let mut client = gateway.connect_to(app, user);
    client.log_in_and_sync();
    client
}

#[test]
fn con_01_two_applications_do_not_meet() {
    let builder = Gateway::builder();
    let file = builder.folder().join("apps.json");
    let secrets = ["one secret, sixteen and more", "two secret, sixteen and more"];
    write_private(&file, &json!([{"sdkappid": 11, "secret": secrets[0]}, {"sdkappid": 12, "secret": secrets[1]}]));
    let gateway = builder.flag("app-file", file.display()).start();
    let [one, two] =
        [(11, secrets[0]), (12, secrets[1])].map(|(sdkappid, secret)| App { sdkappid, secret: secret.into() });

    let mut anna = login_to(&gateway, &one, "anna");
    let mut ben = login_to(&gateway, &one, "ben");
    let mut other_anna = login_to(&gateway, &two, "anna");
    let mut other_ben = login_to(&gateway, &two, "ben");
    anna.send("ben", "in the first");
    assert_eq!(ben.next_message().seq, 1);
    other_ben.send("anna", "in the second");
    assert_eq!(other_anna.next_message().from, "ben");
    other_anna.ping();
    assert_eq!((other_anna.pushes_waiting(), other_anna.conversation("ben").len()), (0, 1));
    assert_eq!((anna.conversation("ben").len(), ben.conversation("anna").len()), (1, 1));
    // Nobody of the other is there, or can be written to.
    let mut cleo = login_to(&gateway, &one, "cleo");
    let presence = other_anna.query_presence(&["cleo", "ben"]).expect("presence");
    let states: Vec<_> = presence.iter().map(|user| user.state()).collect();
    assert_eq!(states, [OnlineState::Offline, OnlineState::Online]);
    assert_eq!(refused(other_anna.send_as("cleo", &unique_id(), text_body("hello"))), ErrorCode::USER_INVALID);
    cleo.ping();
    assert_eq!(cleo.pushes_waiting(), 0);

    let mut stranger = gateway.connect_to(&two, "anna");
    assert_eq!(refused(stranger.login_with(12, one.sign("anna"))), ErrorCode::USERSIG_OTHER_APPLICATION);
    let mut stranger = gateway.connect_to(&two, "anna");
    let forged = App { sdkappid: 12, ..one };
    assert_eq!(refused(stranger.login_with(12, forged.sign("anna"))), ErrorCode::USERSIG_WRONG_SIGNATURE);
}

#[test]
fn con_01_a_key_is_exchanged_under_its_users() {
    let gateway = Gateway::start();
    let old = gateway.app().clone();
    let mut anna = gateway.login("anna");
    let printed = gateway.app_command(&["rotate-key", ONE]).expect("rotated");
    let new = App::of(&printed);
    assert_ne!(new.secret, old.secret);
    // Both are good, and who is there stays.
    let mut ben = login_to(&gateway, &new, "ben");
    ben.send("anna", "signed with the new key");
    anna.next_message();
    login_to(&gateway, &old, "cleo");
    let error = gateway.app_command(&["rotate-key", ONE]).expect_err("two keys are good");
    assert!(error.contains("still good") && error.contains("--drop-previous"), "{error}");
    // No secret is shown that was not asked for.
    let shown = gateway.app_command(&["show", ONE]).expect("shown");
    assert!(!shown.to_string().contains(&new.secret) && !shown.to_string().contains(&old.secret));
    assert_eq!(shown["previous_secret_until"], printed["previous_secret_until"]);
    let shown = gateway.app_command(&["show", ONE, "--secret"]).expect("shown");
    assert_eq!((&shown["secret"], &shown["previous_secret"]), (&json!(new.secret), &json!(old.secret)));
    // The file of a development start still has the first key. That brings nothing back.
    let gateway = gateway.restart();
    login_to(&gateway, &new, "anna");
    let third =
        gateway.app_command(&["rotate-key", ONE, "--drop-previous", "--previous-until", "now"]).expect("rotated");
    for gone in [&old, &new] {
        assert_eq!(refused(gateway.connect_to(gone, "anna").try_login()), ErrorCode::USERSIG_WRONG_SIGNATURE);
    }
    login_to(&gateway, &App::of(&third), "anna");
}

#[test]
fn con_02_settings_hold_from_the_next_act_on_and_after_a_restart() {
    let gateway = Gateway::start();
    let set = |gateway: &Gateway, settings: &[&str]| {
        gateway.app_command(&[&["set", ONE], settings].concat()).expect("set");
    };
    let mut anna = gateway.login("anna");
    let mut ben = gateway.login("ben");
    let sent = anna.send("ben", "to be recalled");
    set(&gateway, &["recall_seconds=0"]);
    // The command took longer than the millisecond that is still in time.
    assert_eq!(refused(anna.recall("ben", sent.seq, "")), ErrorCode::RECALL_TOO_LATE);
    set(&gateway, &["recall_seconds=600"]);
    anna.recall("ben", sent.seq, "").expect("in time again");

    ben.blacklist(&["anna"], &[]).expect("added");
    let send = |anna: &mut Client| anna.send_as("ben", &unique_id(), text_body("hello"));
    assert_eq!(refused(send(&mut anna)), ErrorCode::BLACKLISTED);
    set(&gateway, &["blacklist=false"]);
    send(&mut anna).expect("the list does not count");

    set(&gateway, &["sends_per_second=1", "sends_burst=1"]);
    send(&mut anna).expect("one");
    assert_eq!(refused(send(&mut anna)), ErrorCode::RATE_LIMITED);
    set(&gateway, &["sends_per_second=null"]);
    send(&mut anna).expect("without a limit");

    // At the next login.
    set(&gateway, &["login_policy=single"]);
    anna.ping();
    let phone = Options { platform: Platform::Iphone, ..Options::default() };
    let mut on_phone = gateway.connect_with("anna", phone.clone());
    on_phone.log_in_and_sync();
    assert_eq!(anna.closed().map(|(code, _)| code), Some(ErrorCode::SIGNED_OUT_BY_OTHER_DEVICE));

    // A restart, with the same file: its settings are not new.
    let gateway = gateway.restart();
    let shown = gateway.app_command(&["show", ONE]).expect("shown");
    assert_eq!(shown["settings"]["login_policy"], "single");
    let mut anna = gateway.login("anna");
    gateway.connect_with("anna", phone).log_in_and_sync();
    assert_eq!(anna.closed().map(|(code, _)| code), Some(ErrorCode::SIGNED_OUT_BY_OTHER_DEVICE));
    // Now the file says something else of one of them.
    let builder = gateway.kill().more_settings(&json!({"recall_seconds": 77}));
    let gateway = builder.start();
    let shown = gateway.app_command(&["show", ONE]).expect("shown");
    let settings = &shown["settings"];
    assert_eq!((&settings["recall_seconds"], &settings["login_policy"]), (&json!(77), &json!("single")));

    for (arguments, expected) in [
        (&["set", ONE, "recal=1"][..], "settings.recal is no setting; there are admins"),
        (&["set", ONE, "recall_seconds=soon"], "settings.recall_seconds: invalid type"),
        (&["set", "99", "recall_seconds=1"], "there is no application 99"),
        (&["create", ONE], "there is an application 1400000001 already"),
        (&["show", "0"], "0 is not in"),
    ] {
        let error = gateway.app_command(arguments).expect_err("wrong");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn con_01_a_deleted_application_is_gone_with_its_sessions_and_data() {
    let gateway = Gateway::start();
    let printed = gateway.app_command(&["create", "77", "recall_seconds=1"]).expect("created");
    let app = App::of(&printed);
    let mut anna = login_to(&gateway, &app, "anna");
    let mut neighbour = gateway.login("anna");
    (0..300).for_each(|_| _ = anna.send("anna", "a note"));
    neighbour.send("anna", "a note");
    let error = gateway.app_command(&["delete", "77"]).expect_err("it is not said");
    assert!(error.contains("--with-all-data"), "{error}");
    anna.ping();
    gateway.app_command(&["delete", "77", "--with-all-data"]).expect("deleted");
    assert_eq!(anna.closed(), Some((ErrorCode::APPLICATION_UNKNOWN, 0)));
    assert_eq!(refused(gateway.connect_to(&app, "anna").try_login()), ErrorCode::APPLICATION_UNKNOWN);
    assert_eq!(neighbour.conversation("anna").len(), 1);
    eventually("its data is removed", || gateway.app_command(&["create", "77"]).is_ok());
    let new = App::of(&gateway.app_command(&["show", "77", "--secret"]).expect("shown"));
    assert!(login_to(&gateway, &new, "anna").conversation("anna").is_empty());
    gateway.stop().2.check_store();
}

#[test]
fn without_a_gateway_the_commands_work_on_the_store() {
    if tests::has_no_embedded_store() {
        return;
    }
    let builder = Gateway::builder();
    let error = builder.app(&["list"]).expect_err("nothing is there");
    assert!(error.contains("there is no store in"), "{error}");
    let builder = builder.start().stop().2;
    let key = builder.folder().join("key");
    fs::write(&key, "a key that it has elsewhere\n").expect("written");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("ours");
    let key = key.display().to_string();
    let error = builder.app(&["create", "5", "--secret-file", &key]).expect_err("others can read it");
    assert!(error.contains("chmod 600"), "{error}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("ours");
    let printed = builder.app(&["create", "5", "--secret-file", &key]).expect("created");
    assert_eq!(printed, json!({"sdkappid": 5, "secret": "a key that it has elsewhere"}));
    builder.app(&["set", "5", "friends_only=true"]).expect("set");
    let gateway = builder.start();
    login_to(&gateway, &App::of(&printed), "anna");
    assert_eq!(gateway.app_command(&["show", "5"]).expect("shown")["settings"]["friends_only"], true);
}

#[test]
fn the_socket_is_for_the_gateway_s_user_alone() {
    if tests::has_no_embedded_store() {
        return;
    }
    let gateway = Gateway::start();
    let socket = gateway.data().join("gateway.sock");
    let mode = fs::metadata(&socket).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    if !rustix::process::geteuid().is_root() {
        return skip("only root can start a command as another user");
    }
    // Even where the folder and the socket could be opened by others.
    for path in [gateway.built_from().folder(), gateway.data()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("ours");
    }
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).expect("ours");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program("gateway"));
    let output = command.args(["app", "list", "--store-path"]).arg(gateway.data()).current_dir("/").output();
    match output {
        Ok(output) => assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}"),
        Err(_) => skip("setpriv is not here"),
    }
    gateway.app_command(&["show", ONE]).expect("its own user is answered");
}
