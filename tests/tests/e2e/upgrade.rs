//! A release takes the place of another, a copy that of a lost disk, and nothing outside is needed (PRIV-01, PRIV-02).
//!
//! Goal: what README.md tells operators is so: a folder that an earlier release has written is sound and is served, a
//! newer one is refused and left as it is, a copy that was made with the service stopped is the store, and devices that
//! had seen more than a copy has lose nothing. Mechanics: a folder that release 0.1.0 has written (format 2 of the
//! store), in `fixtures/`; folders that are copied by the commands of the README; a network without a way out.
//! Without it the first to try an upgrade or a backup would be an operator with everybody's messages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use protocol::{
    command::Command as Asked,
    message::{GroupType, Sync, SyncReply},
};
use tests::{Builder, Client, Gateway, MessageExt as _, alone, has_no_embedded_store};

/// Folders that releases have written, in `fixtures/`.
const FOLDERS: &[&str] = &["0.1.0-format-2"];

/// What each of them has: said in a conversation, and in a group.
const SAID: [&str; 3] = ["before the upgrade", "and ü, 你好", "the last one"];
const SAID_IN_GROUP: &str = "to all of us";
const GROUP: &str = "the-old-group";

/// A data folder in the repository, packed.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(format!("{name}.tar.gz"))
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("in ASCII")
}

/// Everything is kept: the fixture is to be good in years, too.
fn keeps_for_ever(builder: Builder) -> Builder {
    builder.flag("retention-message-days", 0).flag("retention-event-days", 0)
}

/// The files that a process has open.
fn open_files(process: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).expect("its files");
    let files = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    files.filter(|file| file.is_file() && !file.starts_with("/dev")).collect()
}

fn texts(client: &mut Client, user: &str) -> Vec<String> {
    client.conversation(user).iter().map(|message| message.text()).collect()
}

/// Writes the folder of the release that this is, under another name if the format has changed. It is to be run once for
/// a format: `cargo test -p tests --test e2e -- --ignored priv_02_the_folder_of_this_release_is_written`.
#[test]
#[ignore = "writes a fixture"]
fn priv_02_the_folder_of_this_release_is_written() {
    let gateway = keeps_for_ever(Gateway::builder()).start();
    let (mut anna, _ben) = (gateway.login("anna"), gateway.login("ben"));
    for said in SAID {
        anna.send("ben", said);
    }
    anna.try_create_group(GroupType::Work, GROUP, &["ben"]).expect("made");
    anna.send_to_group(GROUP, SAID_IN_GROUP).expect("sent");
    let (status, _, builder) = gateway.stop();
    assert!(status.success());
    let format = fs::read_to_string(builder.data_folder().join("store/FORMAT")).expect("a number");
    let packed = fixture(&format!("{}-format-{}", env!("CARGO_PKG_VERSION"), format.trim()));
    // Journals have space taken in advance: sparse, it packs to nothing. Its certificate is made anew when it is missing.
    let folder = text(builder.data_folder());
    run("tar", &["--sparse", "-czf", text(&packed), "-C", folder, "store", "dev/app.json"]);
}

#[test]
fn priv_02_a_folder_of_an_earlier_release_is_sound_and_served() {
    if has_no_embedded_store() {
        return;
    }
    for name in FOLDERS {
        let builder = keeps_for_ever(Gateway::builder());
        fs::create_dir(builder.data_folder()).expect("a folder");
        run("tar", &["-xzf", text(&fixture(name)), "-C", text(builder.data_folder())]);
        builder.check_store();
        let gateway = builder.start();
        let (mut anna, mut ben) = (gateway.login("anna"), gateway.connect("ben"));
        assert_eq!(texts(&mut anna, "ben"), SAID, "{name}");
        let log: Vec<String> = ben.log_in_and_sync().iter().map(|message| message.text()).collect();
        assert!(SAID.iter().all(|said| log.iter().any(|text| text == said)), "{name}: {log:?}");
        let group = ben.group_history(GROUP).expect("a page");
        assert!(group.messages.iter().any(|message| message.text() == SAID_IN_GROUP), "{name}: {group:?}");
        // It goes on where it was.
        assert_eq!(anna.send("ben", "behind it").seq, SAID.len() as u64 + 1);
        assert_eq!(ben.next_message().text(), "behind it");
        drop((anna, ben));
        let (status, output, builder) = gateway.stop();
        assert!(status.success(), "{output}");
        builder.check_store();
    }
}

#[test]
fn priv_02_a_folder_of_a_newer_release_is_refused_and_left_as_it_is() {
    if has_no_embedded_store() {
        return;
    }
    let (_, _, builder) = Gateway::start().stop();
    let format = builder.data_folder().join("store/FORMAT");
    let known: u32 = fs::read_to_string(&format).expect("a number").trim().parse().expect("a number");
    let newer = format!("{}\n", known + 1);
    fs::write(&format, &newer).expect("written");
    let output = builder.fails();
    assert!(
        output.contains(&format!("has format {}", known + 1)) && output.contains("run the newer program"),
        "{output}"
    );
    assert_eq!(fs::read_to_string(&format).expect("a number"), newer);
    // The newer program, which this one is again, finds all as it was.
    fs::write(&format, format!("{known}\n")).expect("written");
    builder.check_store();
    builder.start().login("anna").ping();
}

#[test]
fn priv_02_a_copy_of_a_stopped_store_takes_its_place_and_devices_lose_nothing() {
    if has_no_embedded_store() {
        return;
    }
    let gateway = Gateway::start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    for said in SAID {
        anna.send("ben", said);
        assert_eq!(ben.next_message().text(), said);
    }
    drop((anna, ben));
    let (status, _, builder) = gateway.stop();
    assert!(status.success());
    let backup = builder.folder().join("backup");
    let data = builder.data_folder().to_owned();
    run("cp", &["-a", text(&data), text(&backup)]);

    // The service goes on, ben sees more, and the disk is lost.
    let gateway = builder.start();
    let store = gateway.connect("ben").try_login().expect("logged in").store;
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    for _ in 0..3 {
        anna.send("ben", "not in the copy");
        ben.next_message();
    }
    let seen = Sync { cursor: ben.cursor.clone(), store: store.clone(), ..Sync::default() };
    let builder = gateway.kill();
    fs::remove_dir_all(&data).expect("removed");

    run("cp", &["-a", text(&backup), text(&data)]);
    builder.check_store();
    builder.restored();
    let gateway = builder.start();
    let mut anna = gateway.login("anna");
    assert_eq!(texts(&mut anna, "ben"), SAID);
    // The copy comes further than ben had seen before he is back: his cursor is of another store.
    for number in 0..10 {
        anna.send("ben", &number.to_string());
    }
    let mut ben = gateway.connect("ben");
    assert_ne!(ben.try_login().expect("logged in").store, store);
    let page: SyncReply = ben.call(Asked::Sync, &seen).expect("a page");
    assert!(page.start_over && page.events.is_empty(), "{page:?}");
    assert_eq!(texts(&mut ben, "anna").len(), SAID.len() + 10);
}

#[test]
fn priv_01_all_runs_where_there_is_no_way_out_and_all_is_kept_in_its_folder() {
    let test = "upgrade::priv_01_all_runs_where_there_is_no_way_out_and_all_is_kept_in_its_folder";
    alone(test, || {
        if has_no_embedded_store() {
            return;
        }
        run("ip", &["link", "set", "lo", "up"]); // and there is nothing else
        let gateway = Gateway::start();
        let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
        anna.send("ben", "between us");
        assert_eq!(ben.next_message().text(), "between us");
        drop((anna, ben));
        // Whatever file the process has open, and was not given by this one, is in its folder.
        let given = open_files("self");
        let open = open_files(&gateway.process().id().to_string());
        let (own, other): (Vec<_>, Vec<_>) = open.iter().partition(|file| file.starts_with(gateway.data()));
        assert!(!own.is_empty(), "it has its journal open");
        assert!(other.iter().all(|file| given.contains(file)), "{other:?}");
    });
}
