//! Starts that can't work, and what they say.
//!
//! Goal: a wrong setting, a taken port, a folder that is in use, damaged, newer or read-only, or limits of
//! the system that are too low end the start with an error that says what to do (Bad input, last row).
//! Mechanics: a real start that must exit with 1 and never say that it is ready. Without it a gateway
//! could half-serve, or stop with a message that helps nobody.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path};

use tests::{Builder, Gateway, skip};

fn refused(builder: &Builder, expected: &[&str]) {
    let output = builder.fails();
    for part in expected {
        assert!(output.contains(part), "should say {part:?}: {output}");
    }
}

#[test]
fn configuration_errors_name_key_value_and_what_is_right_before_anything_is_bound_or_made() {
    if tests::has_no_embedded_store() {
        return;
    }
    // Both ports are taken: whoever binds before the whole configuration is checked says so instead.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound");
    let start = || Gateway::builder().flag("client-listen", address).flag("admin-listen", "127.0.0.1:0");
    for (flag, value, expected) in [
        ("client-listen", "nowhere", "client.listen is \"nowhere\", but must be an address like"),
        ("cores", "many", "cores is \"many\", but must be a number from 0 to 1024"),
        ("client-in-flight-max", "0", "client.in_flight_max is \"0\", but must be a number from 1"),
        ("client-deflate", "perhaps", "client.deflate is \"perhaps\", but must be true or false"),
        ("message-bytes-max", "64000", "message.bytes_max is \"64000\", but must be 256 less than"),
        ("store-engine", "paper", "store.engine is \"paper\", but must be embedded or fdb"),
        ("tls-cert", "cert.pem", "tls.cert and tls.key go together"),
        ("log", "louder=than=ever", "log is \"louder=than=ever\", but must be a level"),
    ] {
        let builder = start().flag(flag, value);
        refused(&builder, &[expected]);
        assert!(!builder.folder().join("data").exists(), "{flag}: nothing should have been made");
    }
    refused(&start().environment("GATEWAY_CLIENT_LISTN", "x"), &["GATEWAY_CLIENT_LISTN names no configuration key"]);
    let builder = start();
    let file = builder.folder().join("gateway.toml");
    fs::write(&file, "[client]\nlisten_on = 1\n").expect("written");
    refused(&builder.flag("config", file.display()), &["gateway.toml", "client.listen_on is no configuration key"]);
    refused(&start().flag("config", "nothing.toml"), &["configuration file nothing.toml", "No such file"]);
}

#[test]
fn a_port_that_is_taken_is_named_with_the_flag_that_changes_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    for (flag, key) in [("client-listen", "client.listen"), ("admin-listen", "admin.listen")] {
        let builder = Gateway::builder().flag(flag, &address);
        refused(&builder, &[key, &address, "another gateway may be running", &format!("--{flag}")]);
    }
}

#[test]
fn a_port_of_another_gateway_is_taken_although_it_could_be_shared() {
    let first = Gateway::start();
    let second = Gateway::builder().flag("client-listen", first.address());
    refused(&second, &["client.listen", &first.address().to_string()]);
    first.login("anna").ping();
}

#[test]
fn a_folder_in_use_is_refused_with_the_process_that_has_it() {
    if tests::has_no_embedded_store() {
        return;
    }
    let first = Gateway::start();
    let second = Gateway::builder().data(first.data());
    refused(&second, &["in use by process", "choose another folder", &first.data().display().to_string()]);
    first.login("anna").ping();
}

#[test]
fn a_file_in_place_of_the_folder_is_refused() {
    let builder = Gateway::builder();
    fs::write(builder.folder().join("data"), "a file").expect("written");
    refused(&builder, &["store.path", "can't make the folder", "--store-path"]);
}

#[test]
fn a_read_only_folder_is_refused() {
    let Some(unprivileged) = as_nobody() else { return };
    let builder = Gateway::builder();
    fs::set_permissions(builder.folder(), fs::Permissions::from_mode(0o755)).expect("our own folder");
    let data = builder.folder().join("data");
    fs::create_dir(&data).expect("a folder");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o555)).expect("our own folder");
    refused(
        &builder.through(&unprivileged),
        &["store.path", "can't make the folder", "Permission denied", "--store-path"],
    );
}

#[test]
fn a_read_only_store_is_refused() {
    if tests::has_no_embedded_store() {
        return;
    }
    let Some(unprivileged) = as_nobody() else { return };
    let builder = Gateway::start().kill();
    fs::set_permissions(builder.folder(), fs::Permissions::from_mode(0o755)).expect("our own folder");
    let data = builder.folder().join("data");
    give_away(&data);
    let output = builder.through(&unprivileged).fails();
    assert!(output.contains("Permission denied") || output.contains("not writable"), "{output}");
    assert!(output.contains(&data.display().to_string()), "{output}");
}

/// Takes the right to write from everything below, and hands it to nobody if we are root.
fn give_away(path: &Path) {
    if path.is_dir() {
        fs::read_dir(path).expect("a folder").flatten().for_each(|entry| give_away(&entry.path()));
    }
    let mode = if path.is_dir() { 0o500 } else { 0o400 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).expect("root may");
    }
}

/// How to start a program without root's right to write everywhere; nothing to add if we are not root.
fn as_nobody() -> Option<Vec<&'static str>> {
    if !rustix::process::geteuid().is_root() {
        return Some(Vec::new());
    }
    let prefix = vec!["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let reaches = |program: &Path| {
        let mut command = std::process::Command::new(prefix[0]);
        command.args(&prefix[1..]).arg(program).arg("--version").current_dir("/");
        command.output().is_ok_and(|output| output.status.success())
    };
    if reaches(&tests::program("gateway")) {
        return Some(prefix);
    }
    skip("this is root, and setpriv can't start the gateway as another user");
    None
}

#[test]
fn a_newer_format_is_refused() {
    if tests::has_no_embedded_store() {
        return;
    }
    let builder = Gateway::start().kill();
    let format = builder.folder().join("data/store/FORMAT");
    fs::write(&format, "99\n").expect("written");
    refused(&builder, &["format 99", "run the newer program"]);
    fs::write(&format, "1\n").expect("written");
    builder.start().login("anna");
}

#[test]
fn a_damaged_store_is_refused_and_left_alone() {
    if tests::has_no_embedded_store() {
        return;
    }
    let gateway = Gateway::start();
    gateway.login("anna").send("anna", "hello");
    let builder = gateway.stop().2;
    let data = builder.folder().join("data/store");
    let files = files_below(&data.join("db"));
    for (path, damage) in [(data.join("FORMAT"), &b"one"[..]), (data.join("FORMAT"), b"\xff\xfe")] {
        let before = fs::read(&path).expect("readable");
        fs::write(&path, damage).expect("written");
        refused(&builder, &["is damaged", "restore the data folder from a backup", &path.display().to_string()]);
        fs::write(&path, before).expect("written");
    }
    // Noise over the first half of every file of the database: something must notice, and say so.
    let contents: Vec<_> = files.iter().map(|path| fs::read(path).expect("readable")).collect();
    for (path, content) in files.iter().zip(&contents) {
        let mut noisy = content.clone();
        let half = noisy.len() / 2;
        noisy[..half].iter_mut().for_each(|byte| *byte ^= 0xa5);
        fs::write(path, noisy).expect("written");
    }
    refused(&builder, &["damaged", "restore the data folder from a backup"]);
    for (path, content) in files.iter().zip(&contents) {
        fs::write(path, content).expect("written");
    }
    let gateway = builder.start();
    assert_eq!(gateway.connect("anna").log_in_and_sync().len(), 1);
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

#[test]
fn too_few_open_files_are_refused_with_the_number_to_set() {
    let builder = Gateway::builder().through(&["sh", "-c", "ulimit -n 100; exec \"$0\" \"$@\""]);
    refused(&builder, &["open-files limit is 100", "ulimit -n 576", "LimitNOFILE=576"]);
    let builder = Gateway::builder().flag("client-connections-max", 1_000_000).through(&[
        "sh",
        "-c",
        "ulimit -n 2000; exec \"$0\" \"$@\"",
    ]);
    refused(&builder, &["open-files limit is 2000", "1000512 are needed", "lower client.connections_max"]);
}

#[test]
fn too_little_locked_memory_is_refused_with_the_number_to_set() {
    let builder = Gateway::builder().through(&["sh", "-c", "ulimit -l 64; exec \"$0\" \"$@\""]);
    refused(&builder, &["locked-memory limit is 65536 bytes", "ulimit -l 512", "LimitMEMLOCK="]);
}

#[test]
fn a_soft_limit_below_the_hard_one_is_raised() {
    let builder = Gateway::builder().through(&["sh", "-c", "ulimit -S -n 100; ulimit -S -l 64; exec \"$0\" \"$@\""]);
    builder.start().login("anna").ping();
}
