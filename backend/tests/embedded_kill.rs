//! Kill -9, again and again, under load.
//!
//! Goal: what was acknowledged is there, once and in order, and counted, however the process ended.
//! Mechanics: this program starts itself as a writer, which appends numbered entries and prints the
//! number of each that was acknowledged; it is killed after some of them, at a moment drawn from the
//! seed, and the store is opened here and compared. The next round goes on with the same folder.
//! `STORE_CRASH_ROUNDS=100` for the long run, `STORE_SEED` to draw the same moments.

mod ledger;

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, mpsc},
};

use backend::{
    env::{Rng, SeededRng, SystemClock},
    store::*,
};
use ledger::Ledger;

const FOLDER_VARIABLE: &str = "STORE_CRASH_TEST_FOLDER";
const LEDGER: Ledger = Ledger { entry_bytes: 3_000 };

fn open(folder: &Path) -> Store {
    // Small memtables, so that kills meet tables being written as well.
    let options = EmbeddedOptions { disk_reserve_bytes: 0, memtable_bytes: 1 << 20, ..EmbeddedOptions::default() };
    let clock = Arc::new(SystemClock::default());
    let engine = Embedded::open(folder, options, clock.clone()).expect("opens");
    Store::new(Arc::new(engine), clock, Arc::new(SeededRng::new(1)), StoreOptions::default())
}

/// The writer: only if started by the test below.
#[test]
fn writer() {
    let Some(folder) = std::env::var_os(FOLDER_VARIABLE) else { return };
    let store = open(folder.as_ref());
    let (acknowledge, acknowledged) = mpsc::channel::<u64>();
    let submit = || {
        let acknowledge = acknowledge.clone();
        store.run_then(
            Lane::Write,
            "append",
            async |tx: &Tx| LEDGER.append(tx).await,
            move |result| {
                acknowledge.send(result.expect("commits").0).expect("somebody prints");
            },
        );
    };
    (0..16).for_each(|_| submit());
    let mut stdout = std::io::stdout();
    for n in &acknowledged {
        // One write each: a kill can't leave half a number that looks like another.
        stdout.write_all(format!("acknowledged {n}\n").as_bytes()).expect("the parent listens");
        stdout.flush().expect("the parent listens");
        submit();
    }
}

#[test]
fn what_was_acknowledged_survives_kills() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let rounds = number("STORE_CRASH_ROUNDS").unwrap_or(3);
    let seed = number("STORE_SEED").unwrap_or_else(|| SeededRng::new(std::process::id().into()).next_u64());
    println!("STORE_SEED={seed}");
    let rng = SeededRng::new(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let mut before = 0;
    for round in 0..rounds {
        let acknowledged = write_and_kill(folder.path(), 1 + rng.next_u64() % 400).max(before);
        let entries = check(folder.path(), acknowledged);
        println!("round {round}: {acknowledged} acknowledged, {entries} there");
        assert!(entries > before, "the writer got nowhere");
        before = entries;
    }
}

/// Runs the writer until it has told of `enough`; says the newest that it ever told of.
fn write_and_kill(folder: &Path, enough: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["writer", "--exact", "--nocapture"])
        .env(FOLDER_VARIABLE, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut newest = 0;
    let mut told = 0;
    for line in lines {
        let line = line.expect("text");
        // The test runner talks as well, on a line that the first number may share.
        let Some((_, n)) = line.rsplit_once("acknowledged ") else { continue };
        newest = n.parse().expect("a number");
        told += 1;
        if told == enough {
            child.kill().expect("kills");
        }
    }
    child.wait().expect("ends");
    assert!(told >= enough, "the writer ended by itself after {told}");
    newest
}

/// Opens the store and compares everything in it; says how many entries there are.
fn check(folder: &Path, acknowledged: u64) -> u64 {
    let entries = LEDGER.check(&open(folder));
    assert!(entries >= acknowledged, "{acknowledged} were acknowledged, {entries} are there");
    entries
}
