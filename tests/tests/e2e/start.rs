//! Starting on a fresh folder and on a used one.
//!
//! Goal: `cargo run -p gateway` on a clean checkout serves at once, with nothing made by hand, and what it
//! made is kept and kept private. Mechanics: a real start on an empty temporary folder. Without it a first
//! start could leave secrets readable by others, or a second one lock everybody out with a new secret.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use tests::{App, Gateway, MessageExt};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o777
}

#[test]
fn a_fresh_folder_gets_private_development_files_and_a_ready_line() {
    if tests::has_no_embedded_store() {
        return;
    }
    let gateway = Gateway::builder().own_app_file().start();
    let data = gateway.data();
    for (path, expected) in
        [("", 0o700), ("dev", 0o700), ("dev/cert.pem", 0o600), ("dev/key.pem", 0o600), ("dev/app.json", 0o600)]
    {
        assert_eq!(mode(&data.join(path)), expected, "mode of {path}");
    }
    let cores = std::thread::available_parallelism().expect("a number");
    let expected = format!(
        "gateway ready: client tls://{}, admin http://{}, store embedded at {}, {cores} cores",
        gateway.address(),
        gateway.admin_address(),
        data.display()
    );
    assert_eq!(gateway.ready_line(), expected);
    gateway.login("anna").ping();
}

#[test]
fn a_second_start_uses_what_the_first_one_made() {
    let gateway = Gateway::builder().own_app_file().start();
    let file = |name: &str| fs::read(gateway.data().join("dev").join(name)).expect("a development file");
    let before = ["cert.pem", "key.pem", "app.json"].map(file);
    gateway.login("ben");
    gateway.login("anna").send("ben", "kept");

    let gateway = gateway.restart();
    let file = |name: &str| fs::read(gateway.data().join("dev").join(name)).expect("a development file");
    assert!(before == ["cert.pem", "key.pem", "app.json"].map(file), "development files were made anew");
    let mut ben = gateway.connect("ben");
    assert_eq!(ben.log_in_and_sync()[0].text(), "kept");
}

#[test]
fn settings_come_from_file_environment_and_flags_in_rising_precedence() {
    let builder = Gateway::builder();
    let file = builder.folder().join("gateway.toml");
    fs::write(&file, "[client]\nin_flight_max = 3\nheartbeat_ms = 6000\nframe_bytes_max = 40000\n").expect("written");
    let gateway = builder
        .environment("GATEWAY_CONFIG", &file.display().to_string())
        .environment("GATEWAY_CLIENT_HEARTBEAT_MS", "7000")
        .environment("GATEWAY_CLIENT_FRAME_BYTES_MAX", "50000")
        .flag("client-frame-bytes-max", 60000)
        .start();
    let welcome = gateway.wire().hello();
    assert_eq!((welcome.in_flight_max, welcome.heartbeat_ms, welcome.frame_bytes_max), (3, 7000, 60000));
}

#[test]
fn one_core_serves_as_well() {
    let gateway = Gateway::builder().flag("cores", 1).start();
    assert!(gateway.ready_line().ends_with(", 1 cores"), "{}", gateway.ready_line());
    let mut ben = gateway.login("ben");
    gateway.login("anna").send("ben", "hello");
    assert_eq!(ben.next_message().text(), "hello");
}

#[test]
fn an_application_of_ones_own_can_be_served_with_the_development_certificate() {
    let builder = Gateway::builder();
    let app_file = builder.folder().join("app.json");
    super::production::make_app_file(&app_file, 1_400_000_077);
    let gateway = builder.flag("app-file", app_file.display()).start();
    assert_eq!(gateway.app(), &App::read(&app_file));
    gateway.login("anna").ping();
}
