//! The acts of one transaction, between its runs.

use std::sync::{Arc, Mutex};

use super::{Job, Try};

/// The acts of one transaction: filled when it starts, and kept, so that a retry sees the same.
pub(super) struct Batch<Origin>(pub(super) Mutex<Filling<Origin>>);

pub(super) struct Filling<Origin> {
    /// Among those under way, once it has begun.
    pub(super) number: Option<u64>,
    pub(super) jobs: Option<Arc<Vec<Job<Origin>>>>,
    pub(super) runs: u32,
    /// What the last run would have stored, job by job.
    pub(super) staged: Vec<Option<Try>>,
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
        for (job, staged) in jobs.iter_mut().zip(self.staged.drain(..)) {
            job.tries.extend(staged);
        }
        Some(jobs)
    }
}
