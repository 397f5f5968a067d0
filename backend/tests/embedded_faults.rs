//! Writes that really fail: a file that may not grow, a disk that is full.
//!
//! Goal: a journal that can't be written, or only in part, costs nothing that was acknowledged, and what is
//! asked for after the first error is never acknowledged; the store opens again and goes on. (What was
//! written before the error may be: the sync that makes it durable may be under way on another thread.)
//! Mechanics: this program starts itself as a writer, under a limit of the operating system's: the size of
//! a file (`RLIMIT_FSIZE`; the write that reaches it is cut short in the middle of a commit), or a small
//! tmpfs. The limits are drawn, so that they meet any place in a commit. The writer says what was
//! acknowledged, and what it was told when no more was. Then the limit is gone and the store is compared.
//! `STORE_CRASH_ROUNDS=20` for the long run, `STORE_SEED` to draw the same limits.

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
use bytes::Bytes;
use futures::executor::block_on;
use rustix::process::{Resource, Rlimit, setrlimit};

const FOLDER_VARIABLE: &str = "STORE_FAULT_TEST_FOLDER";
const FILE_BYTES_VARIABLE: &str = "STORE_FAULT_TEST_FILE_BYTES";

fn open(folder: &Path) -> Store {
    let options = EmbeddedOptions {
        disk_reserve_bytes: 0,
        // Nothing but the journal is written, and it is never moved on from.
        memtable_bytes: 512 << 20,
        journal_bytes_max: 1 << 30,
        ..EmbeddedOptions::default()
    };
    let clock = Arc::new(SystemClock::default());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let engine = loop {
        match Embedded::open(folder, options, clock.clone()) {
            // Another test's child may hold a copy of the lock from its fork to its exec.
            Err(OpenError::InUse { .. }) if std::time::Instant::now() < deadline => std::thread::yield_now(),
            engine => break engine.expect("opens"),
        }
    };
    Store::new(Arc::new(engine), clock, Arc::new(SeededRng::new(1)), StoreOptions::default())
}

fn count(value: Option<Bytes>) -> u64 {
    value.map_or(0, |value| u64::from_le_bytes(value[..].try_into().expect("8 bytes")))
}

/// Entry `n`'s value: of any length, so that a limit falls anywhere.
fn entry(n: u64) -> Vec<u8> {
    vec![n as u8; (n * 7919 % 60_000) as usize]
}

/// Which append it was, and the number it took.
type Answer = (usize, Result<u64, StoreError>);

/// Takes the next number, and writes its entry and a line of the log.
fn append(store: &Store, index: usize, done: mpsc::Sender<Answer>) {
    let body = async |tx: &Tx| -> Result<u64, StoreError> {
        let n = count(tx.get(b"count").await?) + 1;
        tx.set("count", n.to_le_bytes().to_vec());
        tx.set(format!("entry/{n:010}"), entry(n));
        tx.append_versionstamped(b"log/", 0, b"", n.to_le_bytes().to_vec());
        Ok(n)
    };
    store.run_then(Lane::Write, "append", body, move |result| {
        let _ = done.send((index, result.map(|(n, _)| n))); // nobody waits any more: the end
    });
}

/// The writer: only if started by a test below.
#[test]
fn writer() {
    let Some(folder) = std::env::var_os(FOLDER_VARIABLE) else { return };
    let store = open(folder.as_ref());
    if let Ok(bytes) = std::env::var(FILE_BYTES_VARIABLE) {
        let limit = Some(bytes.parse().expect("a number"));
        setrlimit(Resource::Fsize, Rlimit { current: limit, maximum: limit }).expect("limits");
    }
    let say = |line: String| std::io::stdout().write_all(format!("{line}\n").as_bytes()).expect("the parent listens");
    let (done, answers) = mpsc::channel();
    (0..16).for_each(|index| append(&store, index, done.clone()));
    let (mut failures, mut asked_before_error) = (0, usize::MAX);
    for next in 16.. {
        match answers.recv().expect("answered") {
            (index, Ok(n)) if index >= asked_before_error => say(format!("trusted again with {n}")),
            (_, Ok(n)) => say(format!("acknowledged {n}")),
            (_, Err(error)) => {
                failures += 1;
                asked_before_error = asked_before_error.min(next);
                say(format!("refused {error}"));
            }
        }
        if failures == 64 {
            break;
        }
        append(&store, next, done.clone());
    }
    say(format!("failed {}", store.failure().unwrap_or_default()));
}

/// What the writer said.
#[derive(Debug, Default)]
struct Said {
    acknowledged: u64,
    refused: Vec<String>,
    failure: String,
}

/// Runs the writer until it ends by itself.
fn write(folder: &Path, file_bytes: Option<u64>) -> Said {
    let mut command = Command::new("sh");
    // Without it the kernel ends a process that reaches the limit, instead of telling it.
    command.args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#]).arg(std::env::current_exe().expect("this program"));
    command.args(["writer", "--exact", "--nocapture"]).env(FOLDER_VARIABLE, folder);
    command.envs(file_bytes.map(|bytes| (FILE_BYTES_VARIABLE, bytes.to_string())));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let mut said = Said::default();
    for line in BufReader::new(child.stdout.take().expect("a pipe")).lines() {
        let line = line.expect("text");
        // The test runner talks as well, on a line that the first words may share.
        if let Some((_, n)) = line.rsplit_once("acknowledged ") {
            said.acknowledged = n.parse().expect("a number");
        } else if line.contains("trusted again") {
            panic!("{line}, after {:?}", said.refused);
        } else if let Some((_, error)) = line.split_once("refused ") {
            said.refused.push(error.to_owned());
        } else if let Some((_, failure)) = line.split_once("failed ") {
            said.failure = failure.to_owned();
            break;
        }
    }
    child.wait().expect("ends");
    said
}

/// Opens the store, compares everything in it, and goes on.
fn check(folder: &Path, said: &Said) {
    let store = open(folder);
    let tx = store.begin().expect("begins");
    let entries = count(block_on(tx.get(b"count")).expect("reads"));
    assert!(entries >= said.acknowledged, "{entries} are there: {said:?}");
    let all = |begin: &'static str, end: &'static str| {
        let (begin, end) = (begin.into(), end.into());
        let query = RangeQuery { begin, end, limit: usize::MAX, reverse: false, mode: ReadMode::Snapshot };
        block_on(tx.range(query)).expect("reads").pairs
    };
    let log: Vec<u64> = all("log/", "log0").into_iter().map(|(_, value)| count(Some(value))).collect();
    assert_eq!(log, (1..=entries).collect::<Vec<_>>(), "the log has all, once, in order");
    let stored = all("entry/", "entry0");
    assert_eq!(stored.len() as u64, entries);
    for (n, (key, value)) in (1..).zip(stored) {
        assert_eq!(key, format!("entry/{n:010}"));
        assert!(value == entry(n), "entry {n}");
    }
    drop(tx);
    let (done, answers) = mpsc::channel();
    append(&store, 0, done);
    assert_eq!(answers.recv().expect("answered"), (0, Ok(entries + 1)), "it goes on");
    store.shutdown();
}

fn draw() -> (u64, SeededRng) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number("STORE_SEED").unwrap_or_else(|| SeededRng::new(std::process::id().into()).next_u64());
    println!("STORE_SEED={seed}");
    (number("STORE_CRASH_ROUNDS").map_or(2, |rounds| rounds.min(20)), SeededRng::new(seed))
}

#[test]
fn a_write_that_is_cut_short_loses_nothing_acknowledged() {
    // fjall takes so much space for a journal in advance; beyond it, the file grows with each write.
    const RESERVED_BYTES: u64 = 64 << 20;
    let (rounds, rng) = draw();
    for round in 0..rounds {
        let folder = tempfile::tempdir().expect("a folder");
        let file_bytes = RESERVED_BYTES + rng.next_u64() % (1 << 20);
        let said = write(folder.path(), Some(file_bytes));
        println!("round {round}: {file_bytes} bytes a file, {} acknowledged", said.acknowledged);
        assert!(said.acknowledged > 1000, "{said:?}");
        assert!(said.failure.contains("File too large"), "it says why: {said:?}");
        assert!(said.refused.last().is_some_and(|error| error.contains(&said.failure)), "{said:?}");
        check(folder.path(), &said);
    }
}

#[test]
fn a_full_disk_at_any_size_loses_nothing_acknowledged() {
    let (rounds, rng) = draw();
    for round in 0..rounds {
        let folder = tempfile::tempdir().expect("a folder");
        let mount = |options: &str| {
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path()).stderr(Stdio::null());
            mount.status().is_ok_and(|status| status.success())
        };
        let pages = 2000 + rng.next_u64() % 2000;
        if !mount(&format!("size={}", pages * 4096)) {
            return println!("skipped: this test mounts a small file system, and this user may not");
        }
        let data = folder.path().join("data");
        let said = write(&data, None);
        println!("round {round}: {pages} pages, {} acknowledged", said.acknowledged);
        let checked = std::panic::catch_unwind(|| {
            assert!(said.acknowledged > 50, "{said:?}");
            assert!(said.failure.contains("disk full"), "it says why: {said:?}");
            assert!(mount("remount,size=256m"), "remounts");
            check(&data, &said);
        });
        let _ = Command::new("umount").arg("-l").arg(folder.path()).stderr(Stdio::null()).status(); // at worst it stays
        checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
}
