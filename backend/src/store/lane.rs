//! A lane: a bounded queue of transactions to run, and the threads that take from it.
//!
//! On an engine in this process a thread runs one job after another and sleeps on a condition variable
//! between them. On a remote engine it polls up to a bound of them at once ([`super::pool`]).

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex},
    task::{Context, Poll, Waker},
    thread::JoinHandle,
};

use futures::future::LocalBoxFuture;
use metrics::Gauge;

use super::{front::Lane, lock, metrics::queue_depth, pool, seam::StoreError, turns::Turns};

/// One transaction to run, retries included.
pub(super) trait Job: Send {
    /// Runs it to its end, or to the commit whose outcome the engine will tell.
    fn run(self: Box<Self>);
    /// Runs it to its very end, without holding the thread while it waits.
    fn start(self: Box<Self>) -> LocalBoxFuture<'static, ()>;
    /// Answers without running.
    fn refuse(self: Box<Self>, error: StoreError);
}

/// How a lane's thread runs jobs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Running {
    /// One after another; a commit's outcome is not awaited.
    Blocking,
    /// So many at once, each to its very end.
    Concurrent(usize),
}

/// The queue of a lane.
pub(super) struct LaneQueue {
    jobs: Mutex<Jobs>,
    wake: Condvar,
    jobs_max: usize,
    depth: Gauge,
    /// Of the lane in which order counts. In others a job that is overtaken has nobody behind it.
    turns: Option<Turns>,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Box<dyn Job>>,
    closed: bool,
    /// Concurrent threads that have room for a job and found none; each stands here once at the most.
    sleepers: Vec<Waker>,
}

impl LaneQueue {
    pub(super) fn new(lane: Lane, jobs_max: usize) -> Arc<Self> {
        let turns = (lane == Lane::Write).then(Turns::default);
        let (jobs, wake, depth) = (Mutex::default(), Condvar::new(), queue_depth(lane));
        Arc::new(LaneQueue { jobs, wake, jobs_max, depth, turns })
    }

    pub(super) fn turns(&self) -> Option<&Turns> {
        self.turns.as_ref()
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
        let mut jobs = lock(&self.jobs);
        jobs.closed = true;
        self.wake.notify_all();
        jobs.sleepers.drain(..).for_each(Waker::wake);
    }

    /// Starts a thread that takes jobs, oldest first.
    pub(super) fn spawn(self: &Arc<Self>, name: String, running: Running) -> std::io::Result<JoinHandle<()>> {
        let queue = self.clone();
        std::thread::Builder::new().name(name).spawn(move || match running {
            Running::Blocking => {
                while let Some(job) = queue.pop() {
                    job.run();
                }
            }
            Running::Concurrent(running_max) => pool::run(&queue, running_max),
        })
    }

    fn append(&self, jobs: &mut Jobs, job: Box<dyn Job>) {
        jobs.waiting.push_back(job);
        self.depth.set(jobs.waiting.len() as f64);
        match jobs.sleepers.pop() {
            Some(sleeper) => sleeper.wake(),
            None => self.wake.notify_one(),
        }
    }

    /// The oldest job, for a thread that polls; `None` once there are no more.
    pub(super) fn poll_pop(&self, cx: &Context<'_>) -> Poll<Option<Box<dyn Job>>> {
        let mut jobs = lock(&self.jobs);
        if let Some(job) = jobs.waiting.pop_front() {
            self.depth.set(jobs.waiting.len() as f64);
            return Poll::Ready(Some(job));
        }
        if jobs.closed {
            return Poll::Ready(None);
        }
        if !jobs.sleepers.iter().any(|sleeper| sleeper.will_wake(cx.waker())) {
            jobs.sleepers.push(cx.waker().clone());
        }
        Poll::Pending
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
