//! Credentials of the public libraries (ACC-06): npm and PyPI `tls-sig-api-v2`.
//!
//! Goal: what an application's server makes with the libraries it has today logs in here unchanged.
//! Mechanics: the real packages, fetched into the target folder, run as children with the application's
//! number and secret; the login is a real one. Without it our own reading of the format is all we test.
//! Skipped, with a word, where node, python or the registry is missing.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use protocol::ErrorCode;
use tests::{Gateway, skip, target_folder};

const NODE: &str = "
    const api = new (require('tls-sig-api-v2').Api)(Number(process.argv[1]), process.argv[2]);
    console.log(api.genUserSig(process.argv[3], Number(process.argv[4])));
    console.log(api.genPrivateMapKey(process.argv[3], Number(process.argv[4]), 10000, 255));
";

const PYTHON: &str = "
import sys, TLSSigAPIv2
api = TLSSigAPIv2.TLSSigAPIv2(int(sys.argv[1]), sys.argv[2])
print(api.gen_sig(sys.argv[3], int(sys.argv[4])))
print(api.gen_sig_with_userbuf(sys.argv[3], int(sys.argv[4]), b'abc'))
";

#[test]
fn acc_06_credentials_of_the_node_library_log_in() {
    let Some(folder) = fetched(
        "node",
        &["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "tls-sig-api-v2", "--prefix"],
    ) else {
        return;
    };
    check(|arguments| {
        let mut node = Command::new("node");
        node.args(["-e", NODE]).args(arguments).current_dir(&folder);
        node
    });
}

#[test]
fn acc_06_credentials_of_the_python_library_log_in() {
    let Some(folder) =
        fetched("python", &["python3", "-m", "pip", "install", "--no-deps", "--quiet", "tls-sig-api-v2", "--target"])
    else {
        return;
    };
    check(|arguments| {
        let mut python = Command::new("python3");
        python.args(["-c", PYTHON]).args(arguments).env("PYTHONPATH", &folder);
        python
    });
}

/// Logs in with what the library makes, for names and lifetimes of several kinds.
fn check(library: impl Fn(&[&str]) -> Command) {
    let gateway = Gateway::start();
    let (sdkappid, secret) = (gateway.app().sdkappid.to_string(), gateway.app().secret.clone());
    let made = |user: &str, expire_s: &str| -> Vec<String> {
        let output = library(&[&sdkappid, &secret, user, expire_s]).output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    };
    for user in ["anna", "user_1@example.org", "a b/c+d=e", &"x".repeat(32)] {
        let credentials = made(user, "86400");
        assert_eq!(credentials.len(), 2, "a plain one and one with a userbuf");
        for usersig in credentials {
            let login = gateway.connect(user).login_with(gateway.app().sdkappid, usersig.clone());
            login.unwrap_or_else(|refusal| panic!("{user:?} with {usersig}: {refusal:?}"));
        }
    }
    let usersig = made("anna", "86400").swap_remove(0);
    let foreign = gateway.connect("ben").login_with(gateway.app().sdkappid, usersig).expect_err("anna's credential");
    assert_eq!(foreign.code(), Some(ErrorCode::USERSIG_OTHER_USER));
    let expired = made("anna", "0").swap_remove(0);
    let refusal = gateway.connect("anna").login_with(gateway.app().sdkappid, expired).expect_err("expired at once");
    assert_eq!(refusal.code(), Some(ErrorCode::USERSIG_EXPIRED));
}

/// The folder with the library, installed by `command` unless it is there.
fn fetched(name: &str, command: &[&str]) -> Option<PathBuf> {
    let folder = target_folder().join("usersig-libraries").join(name);
    let done = folder.join(".done");
    if !done.exists() {
        std::fs::create_dir_all(&folder).expect("a folder in target");
        let installed = Command::new(command[0]).args(&command[1..]).arg(&folder).output();
        match installed {
            Ok(Output { status, .. }) if status.success() => std::fs::write(done, "").expect("written"),
            Ok(output) => {
                skip(&format!("{name}: the registry does not answer: {}", String::from_utf8_lossy(&output.stderr)));
                return None;
            }
            Err(error) => {
                skip(&format!("{name}: {} does not start: {error}", command[0]));
                return None;
            }
        }
    }
    Some(folder)
}
