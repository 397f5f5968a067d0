//! A test in a network of its own: the test program starts itself once more, in a new network namespace, for one test.
//!
//! A process of its own, because only one with a single thread may enter the user namespace that somebody who is not
//! root needs, and because the test's network then ends with it.

use std::process::Command;

use crate::{program, skip};

/// Set for a test that is alone.
const ALONE: &str = "E2E_ALONE";

/// How to get a network namespace: as root, and as anybody who may become root in a namespace of users.
const WAYS: [&[&str]; 2] = [&["--net"], &["--user", "--map-root-user", "--net"]];

/// Runs `body` in a network of its own, or says why it does not. `test` is the whole name of the test that calls this,
/// as `cargo test` prints it; nothing of it may stand outside of `body`.
pub fn alone(test: &str, body: impl FnOnce()) {
    if is_alone() {
        return body();
    }
    let refusals = WAYS.map(refusal);
    let Some(allowed) = refusals.iter().position(Option::is_none) else {
        return skip(&format!("no network namespaces here: {}", refusals.map(Option::unwrap_or_default).join("; ")));
    };
    program("gateway"); // if it must be built, then here, where there is a network
    let itself = std::env::current_exe().expect("this program's path");
    let mut command = Command::new("unshare");
    command.args(WAYS[allowed]).arg(itself).args([test, "--exact", "--include-ignored", "--nocapture"]);
    let output = command.env(ALONE, "1").output().expect("unshare starts");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "no test is called {test}:\n{said}");
}

/// Whether this process has a network of its own.
pub(super) fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// Why there is no network namespace to be had this way; `None`: there is.
fn refusal(way: &[&str]) -> Option<String> {
    let mut command = Command::new("unshare");
    command.args(way).args("ip link add name one type veth peer name two".split(' '));
    match command.output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare does not start: {error}")),
    }
}
