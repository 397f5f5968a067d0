//! The command line from outside.
//!
//! Goal: what an operator types is answered on the spot: the template, the application file, errors with
//! exit status 1 (2 for flags that don't exist). Mechanics: the built program without a running service. This
//! file also makes `cargo test --workspace` build the program for the `tests` crate.

use std::process::{Command, Output};

fn gateway(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    for (variable, _) in std::env::vars().filter(|(name, _)| name.starts_with("GATEWAY_")) {
        command.env_remove(variable);
    }
    let output = command.args(arguments).current_dir(folder.path()).output().expect("it starts");
    assert_eq!(std::fs::read_dir(folder.path()).expect("still there").count(), 0, "nothing is made");
    output
}

#[test]
fn errors_of_the_configuration_end_the_start_with_1() {
    for (arguments, expected) in [
        (&["--client-listen", "nowhere"][..], "gateway: client.listen is \"nowhere\", but must be an address like"),
        (&["--tls-cert", "cert.pem"], "gateway: tls.cert and tls.key go together: name both or neither"),
        (&["--config", "missing.toml"], "gateway: configuration file missing.toml: No such file"),
    ] {
        let output = gateway(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with(expected), "{said}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    }
    assert_eq!(gateway(&["--no-such-flag"]).status.code(), Some(2));
}

#[test]
fn the_template_is_printed_and_every_key_has_a_flag() {
    let template = gateway(&["config"]);
    let template = String::from_utf8_lossy(&template.stdout);
    let help = gateway(&["--help"]);
    let help = String::from_utf8_lossy(&help.stdout);
    let mut section = "";
    for line in template.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        }
        let Some((key, _)) = line.strip_prefix('#').and_then(|line| line.split_once(" = ")) else { continue };
        if !key.starts_with(' ') {
            let flag = format!("--{section}-{key}").replace("---", "--").replace('_', "-");
            assert!(help.contains(&flag), "{flag} is missing");
        }
    }
    assert!(help.contains("GATEWAY_CLIENT_LISTEN"));
}
