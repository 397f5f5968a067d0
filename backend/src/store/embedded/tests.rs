//! The engine over a disk that fails, stands still or is full: what no real disk does on request.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use bytes::Bytes;
use futures::executor::block_on;

use super::{
    super::seam::{Committed, Engine, ReadMode, StoreError},
    Embedded, EmbeddedOptions,
    disk::JournalDisk,
    syncer::Disk,
};
use crate::env::{Clock, UnixMillis};

/// A disk that does what it is told.
struct TestDisk {
    real: JournalDisk,
    orders: Arc<Orders>,
}

#[derive(Default)]
struct Orders {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    fail_syncs: bool,
    hold_syncs: bool,
    is_full: bool,
    sick: bool,
    /// Times the free space was asked for.
    looks: usize,
}

impl Orders {
    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("sound"));
        self.changed.notify_all();
    }

    /// Until the thread has looked at the disk once more.
    fn await_look(&self) {
        let mut state = self.state.lock().expect("sound");
        // The look that is under way may have begun before the order.
        let enough = state.looks + 2;
        while state.looks < enough {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Disk for TestDisk {
    fn sync(&self) -> io::Result<()> {
        let mut state = self.orders.state.lock().expect("sound");
        while state.hold_syncs {
            state = self.orders.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.fail_syncs { Err(io::Error::other("injected")) } else { self.real.sync() }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let mut state = self.orders.state.lock().expect("sound");
        state.looks += 1;
        self.orders.changed.notify_all();
        Ok(if state.is_full { 1 } else { u64::MAX })
    }

    fn check(&self) -> Result<(), String> {
        if self.orders.state.lock().expect("sound").sick { Err("sick".into()) } else { self.real.check() }
    }
}

/// A clock by which the next look at the disk is always due.
#[derive(Default)]
struct HastyClock(AtomicU64);

impl Clock for HastyClock {
    fn unix_ms(&self) -> UnixMillis {
        0
    }

    fn monotonic_us(&self) -> u64 {
        self.0.fetch_add(1_000_000, Ordering::Relaxed)
    }
}

fn open(folder: &Path, unsynced_bytes_max: usize) -> (Arc<Embedded>, Arc<Orders>) {
    let orders = Arc::new(Orders::default());
    let options = EmbeddedOptions { unsynced_bytes_max, ..EmbeddedOptions::default() };
    let wrap = |real| Box::new(TestDisk { real, orders: orders.clone() }) as Box<dyn Disk>;
    let engine = Embedded::open_on(folder, options, Arc::new(HastyClock::default()), wrap).expect("opens");
    (Arc::new(engine), orders)
}

type Answer = Result<Committed, StoreError>;

fn begin_put(engine: &Embedded, key: &str) -> mpsc::Receiver<Answer> {
    let (sender, receiver) = mpsc::channel();
    let tx = engine.begin().expect("begins");
    tx.set(Bytes::copy_from_slice(key.as_bytes()), "1".into());
    tx.commit(Box::new(move |answer| sender.send(answer).expect("somebody waits")));
    receiver
}

fn put(engine: &Embedded, key: &str) -> Answer {
    begin_put(engine, key).recv().expect("answered")
}

fn get(engine: &Embedded, key: &str) -> Option<Bytes> {
    block_on(engine.begin().expect("begins").get(key.as_bytes(), ReadMode::Snapshot)).expect("reads")
}

/// Goal: after a failed sync nothing is acknowledged, although the next sync would succeed: the pages
/// may be gone. Without it, a commit would be acknowledged that a power cut takes back.
#[test]
fn a_failed_sync_is_final_until_the_store_is_opened_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (engine, orders) = open(folder.path(), usize::MAX);
    put(&engine, "before").expect("commits");
    let open_since_before = engine.begin().expect("begins");
    open_since_before.set("late".into(), "1".into());

    orders.set(|state| state.fail_syncs = true);
    assert_eq!(put(&engine, "unsynced"), Err(StoreError::MaybeCommitted));
    orders.set(|state| state.fail_syncs = false);

    let (sender, receiver) = mpsc::channel();
    open_since_before.commit(Box::new(move |answer| sender.send(answer).expect("somebody waits")));
    assert!(matches!(receiver.recv().expect("answered"), Err(StoreError::Unavailable(_))));
    assert!(matches!(engine.begin().map(drop), Err(StoreError::Unavailable(_))));
    drop(engine);

    let (engine, _) = open(folder.path(), usize::MAX);
    assert_eq!(get(&engine, "before"), Some("1".into()));
    assert_eq!(get(&engine, "late"), None);
    put(&engine, "after").expect("commits");
}

/// Goal: a caller that is told of a failure may use the store from there; under the commit's lock it
/// would wait for itself.
#[test]
fn a_failed_commit_is_told_under_no_lock() {
    let folder = tempfile::tempdir().expect("a folder");
    let (engine, orders) = open(folder.path(), usize::MAX);
    orders.set(|state| state.hold_syncs = true);
    let (sender, receiver) = mpsc::channel();
    for n in 0..3 {
        let (tx, again, sender) = (engine.begin().expect("begins"), engine.clone(), sender.clone());
        let second = engine.begin().expect("begins");
        second.set("again".into(), "1".into());
        tx.set(format!("{n}").into(), "1".into());
        tx.commit(Box::new(move |answer| {
            let refused = again.begin().map(drop);
            second.commit(Box::new(move |again| sender.send((answer, refused, again)).expect("somebody waits")));
        }));
    }
    orders.set(|state| (state.fail_syncs, state.hold_syncs) = (true, false));
    for _ in 0..3 {
        let (answer, refused, again) = receiver.recv().expect("answered");
        assert_eq!(answer, Err(StoreError::MaybeCommitted));
        assert!(matches!(refused, Err(StoreError::Unavailable(_))));
        assert!(matches!(again, Err(StoreError::Unavailable(_))));
    }
}

#[test]
fn a_full_disk_refuses_writes_and_recovers() {
    let folder = tempfile::tempdir().expect("a folder");
    let (engine, orders) = open(folder.path(), usize::MAX);
    put(&engine, "before").expect("commits");
    orders.set(|state| state.is_full = true);
    orders.await_look();
    let Err(StoreError::Unavailable(reason)) = put(&engine, "full") else { panic!("committed") };
    assert!(reason.contains("disk full"), "{reason}");
    assert_eq!(get(&engine, "before"), Some("1".into()), "reads go on");
    orders.set(|state| state.is_full = false);
    orders.await_look();
    put(&engine, "after").expect("commits");
    assert_eq!(get(&engine, "full"), None);
}

#[test]
fn a_database_that_died_in_the_background_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (engine, orders) = open(folder.path(), usize::MAX);
    put(&engine, "before").expect("commits");
    orders.set(|state| state.sick = true);
    orders.await_look();
    assert_eq!(engine.begin().map(drop), Err(StoreError::Unavailable("sick".into())));
}

/// Goal: a disk slower than the commits costs bounded memory. Mechanics: room for three small commits;
/// one thread commits far more than that without waiting for answers, and counts those that are
/// missing. Answers commit as well: on the sync thread a commit must not wait for room.
#[test]
fn commits_wait_while_too_much_is_unsynced() {
    const COMMITS: usize = 500;
    let folder = tempfile::tempdir().expect("a folder");
    let (engine, _) = open(folder.path(), 3_000);
    let (sender, receiver) = mpsc::channel();
    let answered = Arc::new(AtomicU64::new(0));
    let mut unanswered_max = 0;
    for n in 0..COMMITS {
        let (tx, again) = (engine.begin().expect("begins"), engine.begin().expect("begins"));
        tx.set(format!("{n}").into(), "1".into());
        again.set(format!("again {n}").into(), "1".into());
        let (sender, count) = (sender.clone(), answered.clone());
        tx.commit(Box::new(move |first| {
            count.fetch_add(1, Ordering::SeqCst);
            again.commit(Box::new(move |second| sender.send((first, second)).expect("somebody waits")));
        }));
        unanswered_max = unanswered_max.max(n + 1 - answered.load(Ordering::SeqCst) as usize);
    }
    for _ in 0..COMMITS {
        let (first, second) = receiver.recv().expect("answered");
        assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    }
    assert!(unanswered_max <= 4, "{unanswered_max} waited");
}
