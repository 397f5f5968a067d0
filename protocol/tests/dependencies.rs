//! The protocol crate reads no clock, opens no socket and starts no thread.
//!
//! Goal: it stays usable in a browser, in a simulation and under a fuzzer. Mechanics: the list of normal
//! dependencies must be the one below, and the sources must not name the parts of `std` that do I/O. What
//! breaks without it: one convenient `Instant::now()` makes every test of deadlines wait for real time.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, path::Path, process::Command};

/// All that may be linked in, however indirectly. Derive macros run in the compiler and don't count.
const ALLOWED: &[&str] = &[
    "adler2",
    "bytes",
    "cfg-if",
    "crc32fast",
    "flate2",
    "miniz_oxide",
    "prost",
    "protocol",
    "simd-adler32",
    "thiserror",
];

/// Paths of `std` that read a clock, do I/O or start threads.
const FORBIDDEN: &[&str] = &[
    "std::time",
    "std::net",
    "std::thread",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "Instant",
    "SystemTime",
];

#[test]
fn nothing_but_the_allowed_crates_is_linked() {
    // What this host links: crates for other systems need not have been downloaded here.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = Command::new(cargo)
        .args(["tree", "--offline", "--package", "protocol", "--edges", "normal,no-proc-macro"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let listing = String::from_utf8(tree.stdout).unwrap();
    let linked: BTreeSet<&str> = listing.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(linked.contains("prost"), "cargo tree said: {listing}");
    let allowed: BTreeSet<&str> = ALLOWED.iter().copied().collect();
    let extra: Vec<_> = linked.difference(&allowed).collect();
    assert!(extra.is_empty(), "new dependencies {extra:?}: do they read a clock or open a socket?");
    let manifest = include_str!("../Cargo.toml");
    assert!(!manifest.contains("[target"), "dependencies of one system alone are not seen above");
}

#[test]
fn the_sources_name_no_clock_and_no_socket() {
    let mut sources = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    assert!(sources.len() > 5);
    for path in sources {
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            for forbidden in FORBIDDEN {
                assert!(!line.contains(forbidden), "{}:{number}: {forbidden}", path.display());
            }
        }
    }
}

fn collect(folder: &Path, sources: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => collect(&path, sources),
            false => sources.push(path),
        }
    }
}
