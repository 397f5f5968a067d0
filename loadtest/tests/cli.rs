//! The command line from outside.
//!
//! Goal: a run that can't be made says why and ends with 2, so that a script can tell it from a broken
//! promise of the gateway (1). Mechanics: the built program without a gateway. This file also makes
//! `cargo test --workspace` build the program.

use std::process::{Command, Output};

fn loadtest(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(arguments).current_dir(folder.path()).output().expect("it starts")
}

#[test]
fn runs_that_cannot_be_made_say_why_and_end_with_2() {
    for (arguments, expected) in [
        (&["c2c", "--connections", "3"][..], "works in pairs"),
        (&["ping"], "start the gateway here"),
        (&["ping", "--seconds", "0"], "give a number above 0"),
        (&["dance"], "unrecognized subcommand"),
    ] {
        let output = loadtest(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(expected), "{said}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
    }
}
