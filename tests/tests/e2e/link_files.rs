//! Certificates of links between nodes, as operators make, name and replace them.
//!
//! Goal: a node starts only with links that can work and that nobody else can make, and says what is wrong with them.
//! Mechanics: files of `gateway node-certs`, spoilt one after another; a start, and SIGHUP while it serves. Without it
//! a typo would show only when another node can't be reached, or a key would lie open.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use rustix::process::Signal;
use tests::{Builder, Gateway, eventually, program};

/// Makes certificates, and names them in a start.
fn with_links(builder: Builder, node: &str) -> Builder {
    let folder = builder.folder().join("certs");
    let mut command = Command::new(program("gateway"));
    let made = command.arg("node-certs").arg(&folder).args(["one", "two"]).output().expect("it starts");
    assert!(made.status.success(), "{made:?}");
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(said.contains("two: --link-cert"), "{said}");
    let file = |name: &str| folder.join(name).display().to_string();
    builder
        .flag("link-cert", file(&format!("{node}.pem")))
        .flag("link-key", file(&format!("{node}.key")))
        .flag("link-ca", file("ca.pem"))
        .flag("link-listen", "127.0.0.1:0")
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
}

fn refused(builder: &Builder, expected: &str) {
    let output = builder.fails();
    assert!(output.contains(expected), "should say {expected:?}: {output}");
}

#[test]
fn geo_01_a_start_with_links_that_can_not_work_says_why() {
    let start = || Gateway::builder().flag("link-listen", "127.0.0.1:0");
    refused(&start(), "link.cert is \"\", but must be named");
    let missing = start().flag("link-cert", "a.pem").flag("link-key", "a.key").flag("link-ca", "ca.pem");
    refused(&missing, "link.key a.key: No such file");
    refused(&Gateway::builder().flag("node-role", "edge"), "link.cores is \"\"");
    let builder = with_links(Gateway::builder(), "one");
    let certs = builder.folder().join("certs");
    let builder = builder.flag("link-key", certs.join("two.key").display());
    refused(&builder, "do not fit together");
    let listed = certs.join("refused");
    fs::write(&listed, "one.pem").expect("written");
    let unlisted = with_links(Gateway::builder(), "one").flag("link-refused", listed.display());
    refused(&unlisted, "line 1 is no SHA-256 fingerprint");
    chmod(&certs.join("two.key"), 0o604);
    refused(&builder, "so others can read the secret: chmod 600");
}

#[test]
fn geo_01_certificates_of_links_are_read_again_on_sighup() {
    let builder = with_links(Gateway::builder(), "one");
    let key = builder.folder().join("certs/one.key");
    let gateway = builder.start();
    gateway.process().signal(Signal::HUP);
    eventually("a word about it", || gateway.process().output().contains("certificate of links reloaded"));
    chmod(&key, 0o644);
    gateway.process().signal(Signal::HUP);
    eventually("a word about it", || gateway.process().output().contains("certificate of links not reloaded"));
    gateway.login("anna").ping();
}
