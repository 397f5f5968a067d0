//! The acts of one transaction, between its runs, and how many they may be.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use super::super::{act::Act, callbacks::Caller, unsettled::Try};

/// Of so many acts that a transaction has stored, the next may have one more.
const GROWTH_SHARE: usize = 2;

/// An act that was asked for.
#[derive(Clone)]
pub(super) struct Job<Origin> {
    pub(super) origin: Origin,
    pub(super) act: Act,
    pub(super) caller: Caller,
    /// What earlier runs would have stored of it.
    pub(super) tries: Vec<Try>,
    /// Some of those runs were another batch's, before it was halved, and may have been committed.
    pub(super) in_doubt: bool,
    /// It was counted against its group's rate by one of them.
    pub(super) is_counted: bool,
}

impl<Origin> Job<Origin> {
    pub(super) fn new(origin: Origin, act: Act, caller: Caller) -> Self {
        Job { origin, act, caller, tries: Vec::new(), in_doubt: false, is_counted: false }
    }
}

/// How many acts the next transaction may have: fewer than the limit since one was overtaken. Of several transactions that
/// end together the last one has its way.
pub(super) struct Size {
    now: AtomicUsize,
    most: usize,
}

impl Size {
    pub(super) fn new(most: usize) -> Self {
        Size { now: AtomicUsize::new(most), most }
    }

    pub(super) fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// More than these were overtaken.
    pub(super) fn shrink(&self, kept: usize) {
        self.now.store(kept, Ordering::Relaxed);
    }

    /// These were stored: if they were as many as could be, the next may be more.
    pub(super) fn grow(&self, stored: usize) {
        let now = self.now();
        if stored >= now {
            self.now.store((now + now.div_ceil(GROWTH_SHARE)).min(self.most), Ordering::Relaxed);
        }
    }
}

/// The acts of one transaction: filled when it starts, and kept, so that a retry sees the same.
pub(super) struct Batch<Origin>(pub(super) Mutex<Filling<Origin>>);

pub(super) struct Filling<Origin> {
    /// Among those under way, once it has begun.
    pub(super) number: Option<u64>,
    pub(super) jobs: Option<Arc<Vec<Job<Origin>>>>,
    pub(super) runs: u32,
    /// One of them may have been committed.
    pub(super) is_unclear: bool,
    /// What the last run would have stored, job by job, and whether it was counted against its group's rate.
    pub(super) staged: Vec<(Option<Try>, bool)>,
    /// A run may have been committed: from then on no act is put back.
    pub(super) is_fixed: bool,
    /// More than so many acts were too much for one transaction.
    pub(super) kept_max: Option<usize>,
}

impl<Origin> Batch<Origin> {
    pub(super) fn new() -> Self {
        Batch(Mutex::new(Filling {
            number: None,
            jobs: None,
            runs: 0,
            is_unclear: false,
            staged: Vec::new(),
            is_fixed: false,
            kept_max: None,
        }))
    }
}

impl<Origin: Clone> Filling<Origin> {
    /// Takes the jobs out, each with what the last run would have stored of it.
    pub(super) fn take(&mut self) -> Option<Vec<Job<Origin>>> {
        let mut jobs = Arc::unwrap_or_clone(self.jobs.take()?);
        for (job, (staged, is_counted)) in jobs.iter_mut().zip(self.staged.drain(..)) {
            job.tries.extend(staged);
            job.is_counted |= is_counted;
        }
        Some(jobs)
    }
}
