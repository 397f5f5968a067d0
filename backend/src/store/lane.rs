//! A lane: a bounded queue of transactions to run, and the threads that take from it.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
};

use metrics::Gauge;

use super::{front::Lane, lock, metrics::queue_depth, seam::StoreError};

/// One transaction to run, retries included.
pub(super) trait Job: Send {
    /// Runs it to its end, or to the commit whose outcome the engine will tell.
    fn run(self: Box<Self>);
    /// Answers without running.
    fn refuse(self: Box<Self>, error: StoreError);
}

/// The queue of a lane.
pub(super) struct LaneQueue {
    jobs: Mutex<Jobs>,
    wake: Condvar,
    jobs_max: usize,
    depth: Gauge,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Box<dyn Job>>,
    closed: bool,
}

impl LaneQueue {
    pub(super) fn new(lane: Lane, jobs_max: usize) -> Arc<Self> {
        Arc::new(LaneQueue { jobs: Mutex::default(), wake: Condvar::new(), jobs_max, depth: queue_depth(lane) })
    }

    /// Queues a new job, or refuses it.
    pub(super) fn push(&self, job: Box<dyn Job>) {
        let mut jobs = lock(&self.jobs);
        let refusal = match &*jobs {
            Jobs { closed: true, .. } => StoreError::Unavailable("the store is shut down".into()),
            Jobs { waiting, .. } if waiting.len() >= self.jobs_max => StoreError::Busy,
            _ => return self.append(&mut jobs, job),
        };
        drop(jobs);
        job.refuse(refusal);
    }

    /// Queues a job again that was accepted before, however long the queue; refuses it with `error` after a shutdown.
    pub(super) fn push_again(&self, job: Box<dyn Job>, error: StoreError) {
        let mut jobs = lock(&self.jobs);
        if !jobs.closed {
            return self.append(&mut jobs, job);
        }
        drop(jobs);
        job.refuse(error);
    }

    /// No more jobs from now on; the threads end after those that wait.
    pub(super) fn close(&self) {
        lock(&self.jobs).closed = true;
        self.wake.notify_all();
    }

    /// Starts a thread that takes jobs, oldest first.
    pub(super) fn spawn(self: &Arc<Self>, name: String) -> std::io::Result<JoinHandle<()>> {
        let queue = self.clone();
        std::thread::Builder::new().name(name).spawn(move || {
            while let Some(job) = queue.pop() {
                job.run();
            }
        })
    }

    fn append(&self, jobs: &mut Jobs, job: Box<dyn Job>) {
        jobs.waiting.push_back(job);
        self.depth.set(jobs.waiting.len() as f64);
        self.wake.notify_one();
    }

    fn pop(&self) -> Option<Box<dyn Job>> {
        let mut jobs = lock(&self.jobs);
        loop {
            if let Some(job) = jobs.waiting.pop_front() {
                self.depth.set(jobs.waiting.len() as f64);
                return Some(job);
            }
            if jobs.closed {
                return None;
            }
            jobs = self.wake.wait(jobs).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}
