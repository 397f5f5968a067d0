//! Durability: one thread that syncs the journal for everybody who waits.
//!
//! Commits queue here in version order. The thread takes all that wait, syncs once, and answers them
//! in order: while it syncs, the next batch gathers. After a failed sync nothing is ever acknowledged
//! again: the kernel may have dropped the pages and would report success to a second try.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::super::{
    lock,
    metrics::SyncMetrics,
    seam::{CommitDone, Committed, StoreError, Version},
};
use crate::env::Clock;

/// How often free space is looked at, at least.
const SPACE_CHECK_INTERVAL_MS: u64 = 250;

/// What the thread needs from its surroundings.
pub(super) trait Disk {
    /// Makes everything written before the call durable.
    fn sync(&self) -> io::Result<()>;
    /// Bytes that may still be written.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// Who waits for durability, and how far it is.
pub(super) struct Durability {
    state: Mutex<State>,
    wake: Condvar,
    durable: AtomicU64,
    is_full: AtomicBool,
    reserve_bytes: u64,
}

struct State {
    waiting: Vec<(Committed, CommitDone)>,
    stopping: bool,
    /// Why nothing can become durable any more.
    broken: Option<String>,
}

impl Durability {
    /// Everything up to `durable` is on the disk. Writes are refused below `reserve_bytes` of free space.
    pub(super) fn new(durable: Version, reserve_bytes: u64) -> Self {
        let state = State { waiting: Vec::new(), stopping: false, broken: None };
        Durability {
            state: Mutex::new(state),
            wake: Condvar::new(),
            durable: AtomicU64::new(durable),
            is_full: AtomicBool::new(false),
            reserve_bytes,
        }
    }

    /// The newest version that is on the disk.
    pub(super) fn durable(&self) -> Version {
        self.durable.load(Ordering::Acquire)
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

    /// Answers `done` once `committed` is durable, after everything with an older version.
    pub(super) fn answer_once_durable(&self, committed: Committed, done: CommitDone) {
        if committed.version <= self.durable() {
            return done(Ok(committed));
        }
        let mut state = lock(&self.state);
        if state.broken.is_some() {
            drop(state);
            return done(Err(StoreError::MaybeCommitted));
        }
        let place = state.waiting.partition_point(|(before, _)| before.version <= committed.version);
        state.waiting.insert(place, (committed, done));
        drop(state);
        self.wake.notify_one();
    }

    /// Nothing can be made durable any more, because of `reason`.
    pub(super) fn break_down(&self, reason: String) {
        tracing::error!(reason, "the store stops: what is not durable yet can't become it");
        let waiting = {
            let mut state = lock(&self.state);
            state.broken.get_or_insert(reason);
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(|(_, done)| done(Err(StoreError::MaybeCommitted)));
    }

    /// Lets [`Self::run`] end after what waits now.
    pub(super) fn stop(&self) {
        lock(&self.state).stopping = true;
        self.wake.notify_one();
    }

    /// The thread's loop.
    pub(super) fn run(&self, disk: &impl Disk, clock: &Arc<dyn Clock>) {
        let metrics = SyncMetrics::new();
        let mut next_space_check_us = 0;
        loop {
            let now_us = clock.monotonic_us();
            if now_us >= next_space_check_us {
                self.check_space(disk);
                next_space_check_us = now_us + SPACE_CHECK_INTERVAL_MS * 1000;
            }
            let Some(waiting) = self.take_waiting() else { return };
            let Some((newest, _)) = waiting.last() else { continue };
            if newest.version > self.durable() {
                let started_us = clock.monotonic_us();
                if let Err(error) = disk.sync() {
                    self.break_down(describe("the journal could not be synced", &error));
                    waiting.into_iter().for_each(|(_, done)| done(Err(StoreError::MaybeCommitted)));
                    continue;
                }
                metrics.sync_seconds.record(clock.monotonic_us().saturating_sub(started_us) as f64 / 1e6);
                metrics.batch_commits.record(waiting.len() as f64);
                self.durable.store(newest.version, Ordering::Release);
            }
            waiting.into_iter().for_each(|(committed, done)| done(Ok(committed)));
        }
    }

    /// All that wait; nothing after a while, to look at the disk; none at the end.
    fn take_waiting(&self) -> Option<Vec<(Committed, CommitDone)>> {
        let mut state = lock(&self.state);
        if state.waiting.is_empty() && !state.stopping {
            let pause = Duration::from_millis(SPACE_CHECK_INTERVAL_MS);
            state = self.wake.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.waiting.is_empty() && state.stopping {
            // A commit that slips in now would wait for ever.
            state.broken.get_or_insert("the store is shut down".into());
            return None;
        }
        Some(std::mem::take(&mut state.waiting))
    }

    fn check_space(&self, disk: &impl Disk) {
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
