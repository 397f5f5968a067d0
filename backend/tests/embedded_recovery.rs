//! The embedded engine's folder after every kind of end: what was acknowledged is there, or the
//! store says why it can't open.

mod ledger;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, mpsc},
};

use backend::{
    env::{SeededRng, SystemClock},
    store::*,
};
use bytes::Bytes;
use futures::executor::block_on;
use ledger::Ledger;

const LEDGER: Ledger = Ledger { entry_bytes: 60_000 };

fn open(folder: &Path) -> Result<Embedded, OpenError> {
    let options = EmbeddedOptions { disk_reserve_bytes: 0, ..EmbeddedOptions::default() };
    Embedded::open(folder, options, Arc::new(SystemClock::default()))
}

/// Opens a folder that this process has just closed. Another test's child process may hold a copy of the
/// lock from its fork to its exec: that passes.
fn reopen(folder: &Path) -> Result<Embedded, OpenError> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        match open(folder) {
            Err(OpenError::InUse { .. }) if std::time::Instant::now() < deadline => std::thread::yield_now(),
            result => return result,
        }
    }
}

fn store_on(engine: Embedded) -> Store {
    let (clock, rng) = (Arc::new(SystemClock::default()), Arc::new(SeededRng::new(1)));
    Store::new(Arc::new(engine), clock, rng, StoreOptions::default())
}

fn append(store: &Store) -> u64 {
    let (sender, receiver) = mpsc::channel();
    start_append(store, move |result| sender.send(result).expect("somebody waits"));
    receiver.recv().expect("answered").expect("commits")
}

/// Appends and commits; the outcome comes later.
fn start_append(store: &Store, done: impl FnOnce(Result<u64, StoreError>) + Send + 'static) {
    let tx = store.begin().expect("begins");
    let n = block_on(LEDGER.append(&tx)).expect("reads");
    tx.commit_then(Box::new(move |result| done(result.map(|_| n))));
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).expect("is there").permissions().mode() & 0o777
}

fn put(engine: &Embedded, key: &str, value: impl Into<Bytes>) -> Committed {
    let (sender, receiver) = mpsc::channel();
    start_put(engine, key, value, move |result| sender.send(result).expect("somebody waits"));
    receiver.recv().expect("answered").expect("commits")
}

fn start_put<D>(engine: &Embedded, key: &str, value: impl Into<Bytes>, done: D)
where
    D: FnOnce(Result<Committed, StoreError>) + Send + 'static,
{
    let tx = engine.begin().expect("begins");
    tx.set(Bytes::copy_from_slice(key.as_bytes()), value.into());
    tx.commit(Box::new(done));
}

fn get(engine: &Embedded, key: &str) -> Option<Bytes> {
    block_on(engine.begin().expect("begins").get(key.as_bytes(), ReadMode::Snapshot)).expect("reads")
}

fn newest_journal(folder: &Path) -> PathBuf {
    let entries = fs::read_dir(folder.join("db")).expect("lists").map(|entry| entry.expect("lists").path());
    let mut journals: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ext| ext == "jnl")).collect();
    journals.sort_by_key(|path| path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()));
    journals.pop().expect("a journal")
}

/// Makes the newest journal a finished one, and says which it is.
fn finish_journal(folder: &Path) -> PathBuf {
    let finished = newest_journal(folder);
    let number: u64 = finished.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).expect("a number");
    fs::write(finished.with_file_name(format!("{}.jnl", number + 1)), [0; 1000]).expect("writes");
    finished
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes");
    for entry in fs::read_dir(from).expect("lists") {
        let (path, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).expect("lists");
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copies");
        }
    }
}

#[test]
fn a_reopened_store_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = open(folder.path()).expect("opens");
    let first = put(&engine, "a", "1");
    drop(engine);
    let engine = reopen(folder.path()).expect("opens again");
    assert_eq!(get(&engine, "a"), Some("1".into()));
    assert_eq!(put(&engine, "b", "2").version, first.version + 1);
}

#[test]
fn a_folder_in_use_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let _engine = open(folder.path()).expect("opens");
    let Err(OpenError::InUse { pid, .. }) = open(folder.path()) else { panic!("opened twice") };
    assert_eq!(pid, std::process::id().to_string());
}

#[test]
fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(reopen(folder.path()).expect("opens"));
    fs::write(folder.path().join("FORMAT"), "3\n").expect("writes");
    assert!(matches!(reopen(folder.path()), Err(OpenError::NewerFormat { found: 3, .. })));
}

/// Goal: a store that has lost its database is not taken for a new one, and an older program does not
/// write over a newer one's folder however that is laid out.
#[test]
fn a_folder_without_its_database_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(reopen(folder.path()).expect("opens"));
    let database = folder.path().join("db");
    fs::remove_dir_all(&database).expect("removes");
    let Err(OpenError::Damaged { file, .. }) = reopen(folder.path()) else { panic!("opened") };
    assert_eq!(file, database);
    fs::write(folder.path().join("FORMAT"), "3\n").expect("writes");
    assert!(matches!(reopen(folder.path()), Err(OpenError::NewerFormat { found: 3, .. })));
    assert_eq!(fs::read_to_string(folder.path().join("FORMAT")).expect("reads"), "3\n");
    assert!(!database.exists());
}

#[test]
fn an_older_format_is_read_and_raised() {
    let folder = tempfile::tempdir().expect("a folder");
    put(&reopen(folder.path()).expect("opens"), "a", "1");
    fs::write(folder.path().join("FORMAT"), "1\n").expect("writes");
    assert_eq!(get(&reopen(folder.path()).expect("opens"), "a"), Some("1".into()));
    assert_eq!(fs::read_to_string(folder.path().join("FORMAT")).expect("reads"), "2\n");
}

#[test]
fn a_cut_off_first_start_is_begun_again() {
    let folder = tempfile::tempdir().expect("a folder");
    for format in [None, Some("2\n")] {
        fs::create_dir(folder.path().join("db.new")).expect("makes");
        fs::write(folder.path().join("db.new/0.jnl"), "half of something").expect("writes");
        if let Some(format) = format {
            fs::remove_dir_all(folder.path().join("db")).expect("removes");
            fs::write(folder.path().join("FORMAT"), format).expect("writes");
        }
        put(&reopen(folder.path()).expect("opens"), "a", "1");
    }
}

/// Goal: a torn journal tail loses nothing that was acknowledged before it, leaves all or nothing of each
/// commit, and the store opens.
/// Mechanics: an acknowledged commit's completion holds the sync thread, so that what is committed
/// behind it stays unsynced; the folder is copied as a crash would leave it, and the copy's journal
/// cut or garbled behind the acknowledged part.
/// `STORE_LONG_TESTS=1` tries every offset.
/// Without the tail being cut, fjall refuses many of these or allocates what garbage announces.
#[test]
fn torn_tails_lose_nothing_acknowledged() {
    const ACKNOWLEDGED: u64 = 3;
    const UNSYNCED: u64 = 4;
    let (folder, scratch) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let torn = scratch.path().join("torn");
    let store = store_on(reopen(folder.path()).expect("opens"));
    let (acknowledge, acknowledged) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    (1..ACKNOWLEDGED).for_each(|n| assert_eq!(append(&store), n));
    start_append(&store, move |_| {
        acknowledge.send(()).expect("somebody waits");
        let _ = held.recv(); // an error tells the end as well
    });
    acknowledged.recv().expect("acknowledged");
    let synced = written_len(&newest_journal(folder.path()));
    (0..UNSYNCED).for_each(|_| start_append(&store, drop));
    copy_dir(folder.path(), &torn);
    drop(release);
    drop(store);

    let end = written_len(&newest_journal(&torn));
    // Some of the space taken in advance is enough, and quicker to copy.
    let journal = fs::OpenOptions::new().write(true).open(newest_journal(&torn)).expect("opens");
    journal.set_len(end as u64 + 10_000).expect("cuts");
    let all: Vec<usize> = (synced..synced + 200).chain((synced..end).step_by(2_999)).chain(end - 200..end).collect();
    // Coprime with the five ways of damage, so that every one of them meets every kind of place.
    let step = if std::env::var_os("STORE_LONG_TESTS").is_some() { 1 } else { 13 };
    // Where a batch begins every way of damage, and every byte of its head garbled: no checksum has it.
    let first = (0..5).map(|damage| (damage, synced)).chain((synced..synced + 13).map(|at| (1, at)));
    let spread = all.into_iter().step_by(step).enumerate().map(|(n, offset)| (n % 5, offset));
    for (damage, offset) in first.chain(spread) {
        let case = scratch.path().join("case");
        copy_dir(&torn, &case);
        let journal = newest_journal(&case);
        let mut bytes = fs::read(&journal).expect("reads");
        let page = offset & !4095;
        match damage {
            0 => bytes.truncate(offset),
            1 => bytes[offset] ^= 0xff,
            2 => bytes[offset..end].fill(0x02),
            // A page that never reached the disk, though those behind it did.
            3 => bytes[page.max(synced)..(page + 4096).min(end)].fill(0),
            // A block that still has what stood in it before: valid batches, at the wrong place.
            _ => bytes.copy_within(..(end - offset).min(offset), offset),
        }
        fs::write(&journal, bytes).expect("writes");
        println!("damage {damage} at {offset} of {synced}..{end}");
        let store = store_on(reopen(&case).expect("opens"));
        let found = LEDGER.check(&store);
        assert!((ACKNOWLEDGED..=ACKNOWLEDGED + UNSYNCED).contains(&found), "{found} are there");
        assert_eq!(append(&store), found + 1, "it goes on");
        drop(store);
        let store = store_on(reopen(&case).expect("opens again"));
        assert_eq!(LEDGER.check(&store), found + 1);
        drop(store);
        fs::remove_dir_all(&case).expect("removes");
    }
}

/// Goal: what was synced and is damaged later is not taken for a torn tail and cut away in silence.
/// Mechanics: the third commit was written when the second was known as durable; garble the second.
#[test]
fn damage_in_synced_data_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = reopen(folder.path()).expect("opens");
    put(&engine, "first", "1");
    let second_at = written_len(&newest_journal(folder.path()));
    put(&engine, "second", "2");
    put(&engine, "third", "3");
    drop(engine);
    let journal = newest_journal(folder.path());
    let mut bytes = fs::read(&journal).expect("reads");
    bytes[second_at + 50] ^= 0xff;
    fs::write(&journal, bytes).expect("writes");
    let Err(OpenError::Damaged { file, .. }) = reopen(folder.path()) else { panic!("opened") };
    assert_eq!(file, journal);
}

/// Goal: journals that fjall is done with but still needs are read too, and damage in one is named.
/// Mechanics: an empty journal with the next number is what a rotation leaves before the first commit
/// into it; it makes the one before it a finished one.
#[test]
fn finished_journals_are_read_and_their_damage_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for n in 0..4 {
        put(&reopen(folder.path()).expect("opens"), &format!("{n}"), "1");
        let finished = finish_journal(folder.path());
        let bytes = fs::read(&finished).expect("reads");
        let mut damaged = bytes.clone();
        damaged[40] ^= 0xff;
        fs::write(&finished, damaged).expect("writes");
        let Err(OpenError::Damaged { file, .. }) = reopen(folder.path()) else { panic!("opened") };
        assert_eq!(file, finished);
        fs::write(&finished, bytes).expect("writes");
    }
    let engine = reopen(folder.path()).expect("opens");
    assert!((0..4).all(|n| get(&engine, &format!("{n}")).is_some()));
}

/// Goal: a finished journal that has lost commits from its end is found out by the next one, though nothing
/// in it looks damaged. Without it, what was acknowledged would be gone in silence from under newer data.
#[test]
fn a_finished_journal_without_its_end_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = reopen(folder.path()).expect("opens");
    put(&engine, "first", "1");
    let second_at = written_len(&newest_journal(folder.path()));
    put(&engine, "second", "2");
    drop(engine);
    let finished = finish_journal(folder.path());
    let bytes = fs::read(&finished).expect("reads");
    // It may go now, its content being in a table, and comes back below as after a crash that undid that.
    put(&reopen(folder.path()).expect("opens"), "third", "3");
    for (kept, named) in [(0, &finished), (second_at, &newest_journal(folder.path()))] {
        for zeros in [0, 5_000] {
            fs::write(&finished, [&bytes[..kept], &vec![0; zeros]].concat()).expect("writes");
            let Err(OpenError::Damaged { file, .. }) = reopen(folder.path()) else { panic!("opened with {kept}") };
            assert_eq!(file, *named);
        }
    }
    fs::write(&finished, bytes).expect("writes");
    let engine = reopen(folder.path()).expect("opens");
    assert!(["first", "second", "third"].iter().all(|key| get(&engine, key).is_some()));
}

/// Goal: the same where no later commit knows that the lost one was durable. Mechanics: what was written while
/// the sync thread was held, put into two journals without the commit between them.
#[test]
fn a_journal_that_does_not_follow_the_one_before_it_is_refused() {
    let (folder, copy) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let engine = reopen(folder.path()).expect("opens");
    let (release, held) = mpsc::channel::<()>();
    let (acknowledge, acknowledged) = mpsc::channel();
    start_put(&engine, "first", "1", move |_| {
        acknowledge.send(()).expect("somebody waits");
        let _ = held.recv(); // an error tells the end as well
    });
    acknowledged.recv().expect("acknowledged");
    let ends = ["first", "lost", "third"].map(|key| {
        if key != "first" {
            start_put(&engine, key, "1", drop);
        }
        written_len(&newest_journal(folder.path()))
    });
    copy_dir(folder.path(), copy.path());
    drop(release);
    let finished = finish_journal(copy.path());
    let newest = newest_journal(copy.path());
    let bytes = fs::read(&finished).expect("reads");
    fs::write(&finished, &bytes[..ends[0]]).expect("writes");
    fs::write(&newest, &bytes[ends[1]..ends[2]]).expect("writes");
    let Err(OpenError::Damaged { file, .. }) = reopen(copy.path()) else { panic!("opened") };
    assert_eq!(file, newest);
}

/// Goal: when fjall moves to a new journal, commits become durable there, and nothing is lost.
/// Mechanics: it moves when it writes a memtable with more than 64 MB in the journal.
#[test]
fn commits_go_on_across_journals() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = EmbeddedOptions { disk_reserve_bytes: 0, memtable_bytes: 4 << 20, ..EmbeddedOptions::default() };
    let engine = Embedded::open(folder.path(), options, Arc::new(SystemClock::default())).expect("opens");
    let first = newest_journal(folder.path());
    let mut commits = 0;
    while newest_journal(folder.path()) == first {
        let tx = engine.begin().expect("begins");
        (0..40).for_each(|n| tx.set(format!("{commits:04}/{n:02}").into(), vec![n; VALUE_BYTES_MAX].into()));
        let (sender, receiver) = mpsc::channel();
        tx.commit(Box::new(move |result| sender.send(result).expect("somebody waits")));
        receiver.recv().expect("answered").expect("commits");
        commits += 1;
        assert!(commits < 200, "800 MB and still the same journal");
    }
    put(&engine, "last", "1");
    drop(engine);
    let engine = reopen(folder.path()).expect("opens");
    assert_eq!(get(&engine, "last"), Some("1".into()));
    for commit in 0..commits {
        assert!(get(&engine, &format!("{commit:04}/00")).is_some_and(|value| value.len() == VALUE_BYTES_MAX));
        assert!(get(&engine, &format!("{commit:04}/39")).is_some());
    }
}

#[test]
fn a_folder_open_to_others_is_closed_and_a_foreign_one_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, foreign) = (folder.path().join("ours"), folder.path().join("foreign"));
    for path in [&ours, &foreign] {
        fs::create_dir(path).expect("makes");
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("sets");
    }
    drop(reopen(&ours).expect("opens"));
    assert_eq!(mode_of(&ours), 0o700);

    fs::write(foreign.join("letter.txt"), "dear").expect("writes");
    let Err(OpenError::NotAStore { found, .. }) = reopen(&foreign) else { panic!("opened") };
    assert_eq!(found, "letter.txt");
    assert_eq!(mode_of(&foreign), 0o755);
    assert_eq!(fs::read_dir(&foreign).expect("lists").count(), 1, "nothing was put into it");
}

/// A small file system of its own, gone with this.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Needs the right to mount; says so and gives none otherwise.
    fn mount(size: &str) -> Option<SmallDisk> {
        let disk = SmallDisk(tempfile::tempdir().expect("a folder"));
        if disk.mount_with(&["-t", "tmpfs"], &format!("size={size}")) {
            return Some(disk);
        }
        println!("skipped: this test mounts a small file system, and this user may not");
        None
    }

    fn mount_with(&self, arguments: &[&str], options: &str) -> bool {
        let mut mount = Command::new("mount");
        mount.args(arguments).args(["-o", options, "tmpfs"]).arg(self.0.path());
        mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    fn remount(&self, options: &str) {
        assert!(self.mount_with(&[], &format!("remount,{options}")), "remounts");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).stderr(Stdio::null()).status(); // at worst it stays
    }
}

#[test]
fn a_read_only_disk_is_named() {
    let Some(disk) = SmallDisk::mount("64m") else { return };
    let folder = disk.0.path().join("data");
    drop(reopen(&folder).expect("opens"));
    disk.remount("ro");
    let Err(error @ OpenError::NotWritable { .. }) = reopen(&folder) else { panic!("opened") };
    assert!(error.to_string().contains("write access"), "{error}");
    disk.remount("rw");
    put(&reopen(&folder).expect("opens"), "a", "1");
}

/// Goal: a disk that is really full, reserve or not, loses nothing that was acknowledged.
/// Mechanics: no reserve; commits until the journal can't be written; then a larger disk.
#[test]
fn a_full_disk_loses_nothing_acknowledged() {
    let Some(disk) = SmallDisk::mount("16m") else { return };
    let folder = disk.0.path().join("data");
    let engine = reopen(&folder).expect("opens");
    let mut acknowledged = 0;
    let error = loop {
        let (sender, receiver) = mpsc::channel();
        start_put(&engine, &format!("{acknowledged}"), vec![1; VALUE_BYTES_MAX], move |result| {
            sender.send(result).expect("somebody waits");
        });
        match receiver.recv().expect("answered") {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(acknowledged > 50, "{acknowledged}");
    assert_eq!(error, StoreError::MaybeCommitted);
    let Err(StoreError::Unavailable(reason)) = engine.begin().map(drop) else { panic!("serves") };
    assert!(reason.contains("disk full"), "{reason}");
    drop(engine);

    disk.remount("size=200m");
    let engine = reopen(&folder).expect("opens");
    for n in 0..acknowledged {
        assert!(get(&engine, &format!("{n}")).is_some(), "{n} of {acknowledged}");
    }
    put(&engine, "after", "1");
}

/// The journal without the zeros behind it.
fn written_len(journal: &Path) -> usize {
    let bytes = fs::read(journal).expect("reads");
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}
