//! Writes that really fail: a file that may not grow, a disk that is full, one that takes what it can't keep.
//!
//! Goal: a journal that can't be written, or only in part, costs nothing that was acknowledged, and what is
//! asked for after the first error is never acknowledged; the store opens again and goes on. (What was
//! written before the error may be: the sync that makes it durable may be under way on another thread.)
//! Mechanics: this program starts itself as a writer, under a limit of the operating system's: the size of
//! a file (`RLIMIT_FSIZE`; the write that reaches it is cut short in the middle of a commit), a small
//! tmpfs, or a file system whose device has less room than it says. The limits are drawn, so that they meet any place in a commit. The writer says what was
//! acknowledged, and what it was told when no more was. Then the limit is gone and the store is compared.
//! `STORE_CRASH_ROUNDS=20` for the long run, `STORE_SEED` to draw the same limits.

mod ledger;

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, mpsc},
};

use backend::{
    env::{Rng, SeededRng, SystemClock},
    store::*,
};
use ledger::Ledger;
use rustix::process::{Resource, Rlimit, setrlimit};

const FOLDER_VARIABLE: &str = "STORE_FAULT_TEST_FOLDER";
const FILE_BYTES_VARIABLE: &str = "STORE_FAULT_TEST_FILE_BYTES";
const LEDGER: Ledger = Ledger { entry_bytes: 60_000 };

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

/// Which append it was, and the number it took.
type Answer = (usize, Result<u64, StoreError>);

/// Asks for the next entry.
fn append(store: &Store, index: usize, done: mpsc::Sender<Answer>) {
    store.run_then(
        Lane::Write,
        "append",
        async |tx: &Tx| LEDGER.append(tx).await,
        move |result| {
            let _ = done.send((index, result.map(|(n, _)| n))); // nobody waits any more: the end
        },
    );
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
    let entries = LEDGER.check(&store);
    assert!(entries >= said.acknowledged, "{entries} are there: {said:?}");
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
        let pages = 2000 + rng.next_u64() % 2000;
        let Some(disk) = Mount::tmpfs(folder.path(), pages) else { return };
        let data = disk.0.join("data");
        let said = write(&data, None);
        println!("round {round}: {pages} pages, {} acknowledged", said.acknowledged);
        assert!(said.acknowledged > 50, "{said:?}");
        assert!(said.failure.contains("disk full"), "it says why: {said:?}");
        disk.grow();
        check(&data, &said);
    }
}

/// Goal: after a sync that failed, a new start believes the disk and not the system's cache, which still has
/// what never reached the disk, while every later sync succeeds. Without it, that would be taken for durable,
/// answered as stored, and gone when the machine starts again.
/// Mechanics: a file system in a sparse file on a tmpfs too small for it: writes are taken, and the sync that
/// should bring them to the disk fails. The tmpfs grows; the store is opened over the same cache, and once
/// more when the file system has been mounted anew, which leaves only what the disk has.
#[test]
fn what_a_failed_sync_left_in_the_cache_is_not_believed() {
    let (rounds, rng) = draw();
    for round in 0..rounds {
        let folder = tempfile::tempdir().expect("a folder");
        let [backing, at] = ["backing", "disk"].map(|name| folder.path().join(name));
        let pages = 4000 + rng.next_u64() % 2000;
        let Some(backing) = Mount::tmpfs(&backing, pages) else { return };
        let Some(disk) = Mount::sparse(&backing, &at) else { return };
        let data = at.join("data");
        let said = write(&data, None);
        println!("round {round}: {pages} pages, {} acknowledged", said.acknowledged);
        assert!(said.acknowledged > 50, "{said:?}");
        assert!(said.failure.contains("the journal could not be synced"), "it says why: {said:?}");
        backing.grow();
        check(&data, &said);
        let entries = said.acknowledged.max(LEDGER.check(&open(&data)));
        disk.unmount();
        let _disk = Mount::sparse(&backing, &at).expect("mounts again");
        check(&data, &Said { acknowledged: entries, ..said });
    }
}

/// A file system of the test's own, gone with this.
struct Mount(PathBuf);

impl Mount {
    /// A tmpfs of so many pages. Needs the right to mount; says so and gives none otherwise.
    fn tmpfs(at: &Path, pages: u64) -> Option<Mount> {
        Mount::new(at, "tmpfs", &["-t", "tmpfs", "-o", &format!("size={}", pages * 4096)])
    }

    /// What is in the file `image` on `backing`: at first an empty file system larger than that.
    fn sparse(backing: &Mount, at: &Path) -> Option<Mount> {
        let image = backing.0.join("image");
        if !image.exists() {
            // Without a journal of its own, and with all of its tables written: only data will be missing.
            let options =
                ["-q", "-F", "-b", "4096", "-O", "^has_journal", "-E", "lazy_itable_init=0,nodiscard", "-N", "256"];
            if !done(Command::new("mkfs.ext4").args(options).arg(&image).arg("100M")) {
                println!("skipped: this test makes a file system with mkfs.ext4, and there is none");
                return None;
            }
        }
        let disk = Mount::new(at, &image, &["-o", "loop"])?;
        disk.write_page_by_page();
        Some(disk)
    }

    /// The loop device calls a write done that was done in part. Of one page there is no part.
    fn write_page_by_page(&self) {
        let mounts = std::fs::read_to_string("/proc/mounts").expect("Linux");
        let own = mounts.lines().find(|line| line.split(' ').nth(1) == self.0.to_str()).expect("is mounted");
        let device = own.split(' ').next().and_then(|device| device.strip_prefix("/dev/")).expect("a device");
        std::fs::write(format!("/sys/block/{device}/queue/max_sectors_kb"), "4").expect("sets");
    }

    fn new(at: &Path, source: impl AsRef<OsStr>, options: &[&str]) -> Option<Mount> {
        std::fs::create_dir_all(at).expect("makes");
        if done(Command::new("mount").args(options).arg(source).arg(at)) {
            return Some(Mount(at.to_owned()));
        }
        println!("skipped: this test mounts a small file system, and this user may not");
        None
    }

    /// Makes it large enough for everything.
    fn grow(&self) {
        assert!(done(Command::new("mount").args(["-o", "remount,size=256m"]).arg(&self.0)), "remounts");
    }

    /// With all that the system's cache has of it.
    fn unmount(self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        // Another test's child may hold one of its files from its fork to its exec.
        while !done(Command::new("umount").arg(&self.0)) {
            assert!(std::time::Instant::now() < deadline, "unmounts");
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = done(Command::new("umount").arg("-l").arg(&self.0)); // at worst it stays, or was unmounted before
    }
}

fn done(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
