//! Durability: one thread that syncs the journal for everybody who waits.
//!
//! Commits queue here in version order. The thread takes all that wait, syncs once, and answers them
//! in order: while it syncs, the next batch gathers. What waits is bounded: beyond, commits are held
//! up before they write. After a failed sync nothing is ever acknowledged again: the kernel may have
//! dropped the pages and would report success to a second try.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::ThreadId,
    time::Duration,
};

use super::super::{
    lock,
    metrics::SyncMetrics,
    seam::{CommitDone, Committed, StoreError, Version},
};
use crate::env::Clock;

/// How often the disk's free space and the database's health are looked at, at least.
const CHECK_INTERVAL_MS: u64 = 250;

/// What waiting costs besides the bytes of a commit: its answer, and whatever that holds.
const WAITING_BYTES: usize = 1 << 10;

/// What the thread needs from its surroundings.
pub(super) trait Disk: Send + Sync {
    /// Makes everything committed before the call durable.
    fn sync(&self) -> io::Result<()>;
    /// Bytes that may still be written.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Whether the database still works. fjall's own threads may have failed while nobody commits, or
    /// while a commit waits for them for ever.
    fn check(&self) -> Result<(), String>;
}

/// Who waits for durability, and how far it is.
pub(super) struct Durability {
    state: Mutex<State>,
    /// Something waits, or the end has come.
    wake: Condvar,
    /// Something was answered.
    room: Condvar,
    durable: AtomicU64,
    /// Whoever waited for a version up to here has been told.
    answered: AtomicU64,
    is_full: AtomicBool,
    reserve_bytes: u64,
    unsynced_bytes_max: usize,
    thread: OnceLock<ThreadId>,
}

struct State {
    waiting: Vec<Waiting>,
    /// Of all that is not answered, taken by the thread or not.
    unanswered_bytes: usize,
    /// Those that nobody can make durable any more, and who are to be told so.
    failed: Vec<CommitDone>,
    stopping: bool,
    /// Why nothing can become durable any more.
    broken: Option<String>,
}

struct Waiting {
    committed: Committed,
    bytes: usize,
    done: CommitDone,
}

impl Durability {
    /// Everything up to `durable` is on the disk. Writes are refused below `reserve_bytes` of free
    /// space, and held up beyond `unsynced_bytes_max` that wait.
    pub(super) fn new(durable: Version, reserve_bytes: u64, unsynced_bytes_max: usize) -> Self {
        let state =
            State { waiting: Vec::new(), unanswered_bytes: 0, failed: Vec::new(), stopping: false, broken: None };
        Durability {
            state: Mutex::new(state),
            wake: Condvar::new(),
            room: Condvar::new(),
            durable: AtomicU64::new(durable),
            answered: AtomicU64::new(durable),
            is_full: AtomicBool::new(false),
            reserve_bytes,
            unsynced_bytes_max,
            thread: OnceLock::new(),
        }
    }

    /// The newest version that is on the disk.
    pub(super) fn durable(&self) -> Version {
        self.durable.load(Ordering::Acquire)
    }

    /// What broke, if something did.
    pub(super) fn failure(&self) -> Option<String> {
        let state = lock(&self.state);
        state.broken.clone().filter(|_| !state.stopping)
    }

    /// Why transactions can't be served, if so.
    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        let state = lock(&self.state);
        match &state.broken {
            Some(reason) => Err(StoreError::Unavailable(reason.clone())),
            None if state.stopping => Err(StoreError::Unavailable("the store is shut down".into())),
            None => Ok(()),
        }
    }

    /// Why writes can't be served, if so.
    pub(super) fn check_writable(&self) -> Result<(), StoreError> {
        self.check_open()?;
        if self.is_full.load(Ordering::Relaxed) {
            let reserve_mib = self.reserve_bytes >> 20;
            return Err(StoreError::Unavailable(format!(
                "disk full: less than the reserve of {reserve_mib} MiB is free"
            )));
        }
        Ok(())
    }

    /// Waits while too much is not answered yet. Not on the thread itself, where answers are given:
    /// it would wait for what only it can do.
    pub(super) fn wait_for_room(&self) {
        if self.thread.get() == Some(&std::thread::current().id()) {
            return;
        }
        let mut state = lock(&self.state);
        while state.unanswered_bytes > self.unsynced_bytes_max && state.broken.is_none() {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Answers `done` once the version that a transaction saw is durable, after everything older.
    pub(super) fn answer_once_durable(&self, seen: Committed, done: CommitDone) {
        // Durable is not enough: the commit itself may be about to be answered on the other thread.
        if seen.version <= self.answered.load(Ordering::Acquire) {
            return done(Ok(seen));
        }
        self.wait_for_room();
        self.await_sync(seen, 0, done);
        self.answer_failed();
    }

    /// Queues the commit `committed`, of `bytes`, for the next sync. Answers nobody.
    pub(super) fn await_sync(&self, committed: Committed, bytes: usize, done: CommitDone) {
        let mut state = lock(&self.state);
        if state.broken.is_some() {
            state.failed.push(done);
            return;
        }
        let place = state.waiting.partition_point(|before| before.committed.version <= committed.version);
        let bytes = bytes + WAITING_BYTES;
        state.unanswered_bytes += bytes;
        state.waiting.insert(place, Waiting { committed, bytes, done });
        drop(state);
        self.wake.notify_one();
    }

    /// Nothing can be made durable any more, because of `reason`. [`Self::answer_failed`] is to follow
    /// where answers can be given.
    pub(super) fn break_down(&self, reason: String) {
        let mut state = lock(&self.state);
        if state.broken.is_none() {
            tracing::error!(reason, "the store stops: what is not durable yet can't become it");
            state.broken = Some(reason);
        }
        let waiting = std::mem::take(&mut state.waiting);
        state.failed.extend(waiting.into_iter().map(|waiting| waiting.done));
        drop(state);
        self.room.notify_all();
    }

    /// Tells those whose commits can't become durable. Not to be called under any lock: whoever is
    /// told may commit.
    pub(super) fn answer_failed(&self) {
        let failed = {
            let mut state = lock(&self.state);
            if state.failed.is_empty() {
                return;
            }
            std::mem::take(&mut state.failed)
        };
        failed.into_iter().for_each(|done| done(Err(StoreError::MaybeCommitted)));
    }

    /// Lets [`Self::run`] end after what waits now.
    pub(super) fn stop(&self) {
        lock(&self.state).stopping = true;
        self.wake.notify_one();
    }

    /// The thread's loop.
    pub(super) fn run(&self, disk: &dyn Disk, clock: &Arc<dyn Clock>) {
        let _ = self.thread.set(std::thread::current().id()); // it runs once
        let metrics = SyncMetrics::new();
        let mut next_check_us = 0;
        loop {
            let now_us = clock.monotonic_us();
            if now_us >= next_check_us {
                self.check_space(disk);
                self.check_health(disk);
                next_check_us = now_us + CHECK_INTERVAL_MS * 1000;
            }
            let Some(waiting) = self.take_waiting() else { break };
            let Some(newest) = waiting.last().map(|newest| newest.committed.version) else { continue };
            if newest > self.durable() {
                let started_us = clock.monotonic_us();
                if let Err(error) = disk.sync() {
                    lock(&self.state).failed.extend(waiting.into_iter().map(|waiting| waiting.done));
                    self.break_down(describe("the journal could not be synced", &error));
                    self.answer_failed();
                    continue;
                }
                metrics.sync_seconds.record(clock.monotonic_us().saturating_sub(started_us) as f64 / 1e6);
                metrics.batch_commits.record(waiting.len() as f64);
                self.durable.store(newest, Ordering::Release);
            }
            let bytes: usize = waiting.iter().map(|waiting| waiting.bytes).sum();
            waiting.into_iter().for_each(|waiting| (waiting.done)(Ok(waiting.committed)));
            self.answered.fetch_max(newest, Ordering::AcqRel);
            lock(&self.state).unanswered_bytes -= bytes;
            self.room.notify_all();
        }
        self.room.notify_all();
        self.answer_failed();
    }

    /// All that wait; nothing after a while, to look at the disk; none at the end.
    fn take_waiting(&self) -> Option<Vec<Waiting>> {
        let mut state = lock(&self.state);
        if state.waiting.is_empty() && !state.stopping {
            let pause = Duration::from_millis(CHECK_INTERVAL_MS);
            state = self.wake.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.waiting.is_empty() && state.stopping {
            // A commit that slips in now would wait for ever.
            state.broken.get_or_insert("the store is shut down".into());
            return None;
        }
        Some(std::mem::take(&mut state.waiting))
    }

    fn check_health(&self, disk: &dyn Disk) {
        if let Err(reason) = disk.check() {
            self.break_down(reason);
            self.answer_failed();
        }
    }

    fn check_space(&self, disk: &dyn Disk) {
        let is_full = match disk.free_bytes() {
            Ok(free) => free < self.reserve_bytes,
            Err(error) => {
                tracing::warn!(%error, "can't tell the free disk space");
                return;
            }
        };
        if self.is_full.swap(is_full, Ordering::Relaxed) != is_full {
            if is_full {
                tracing::error!(reserve_bytes = self.reserve_bytes, "disk full: writes are refused, reads go on");
            } else {
                tracing::info!("disk space is back: writes are accepted again");
            }
        }
    }
}

/// `what` with its cause, in words that name a full disk as such.
pub(super) fn describe(what: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!("disk full: {what}"),
        _ => format!("{what}: {error}"),
    }
}
