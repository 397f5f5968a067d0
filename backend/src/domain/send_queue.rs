//! Group commit: sends that arrive while a transaction is under way share the next one.
//!
//! Cores hand their sends in here without waiting. One transaction at a time takes what has gathered,
//! in order of arrival; each send in it succeeds or is refused on its own. When the transaction is
//! durable the whole batch goes to the [`Outbox`], in commit order.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crossbeam::queue::SegQueue;

use super::{
    Error,
    message::{MESSAGE_BYTES_MAX_DEFAULT, NewMessage},
    send::{STAMPS_PER_SEND, Sent, Staged, stage},
};
use crate::{
    env::Clock,
    store::{Committed, Lane, Store, StoreError, Tx},
};

/// Limits of the queue.
#[derive(Clone, Copy, Debug)]
pub struct SendLimits {
    /// Longest message body, in bytes.
    pub message_bytes_max: usize,
    /// Sends waiting for a transaction, at the most; more are refused as busy.
    pub queued_max: usize,
    /// Sends in one transaction, at the most.
    pub batch_max: usize,
    /// Message bytes in one transaction, at the most.
    pub batch_bytes_max: usize,
}

impl Default for SendLimits {
    fn default() -> Self {
        SendLimits {
            message_bytes_max: MESSAGE_BYTES_MAX_DEFAULT,
            queued_max: 65_536,
            batch_max: 512,
            batch_bytes_max: 2 << 20,
        }
    }
}

/// Where finished sends go. Called on the store's threads: must not block.
pub trait Outbox: Send + Sync + 'static {
    /// Who asked for a send.
    type Origin: Copy + Send + Sync + 'static;

    /// Takes over a batch of finished sends. On the embedded engine batches come in commit order.
    fn complete(&self, batch: Vec<Completion<Self::Origin>>);
}

/// A finished send.
#[derive(Debug)]
pub struct Completion<Origin> {
    /// Who asked for it.
    pub origin: Origin,
    /// What was to be sent.
    pub message: NewMessage,
    /// The durable answer, or why there is none.
    pub outcome: Result<Sent, Error>,
}

/// The queue in front of the store's sends. Clones are handles to the same queue.
pub struct SendQueue<O: Outbox> {
    shared: Arc<Shared<O>>,
}

impl<O: Outbox> Clone for SendQueue<O> {
    fn clone(&self) -> Self {
        SendQueue { shared: self.shared.clone() }
    }
}

struct Shared<O: Outbox> {
    store: Store,
    clock: Arc<dyn Clock>,
    outbox: O,
    limits: SendLimits,
    waiting: SegQueue<Job<O::Origin>>,
    waiting_count: AtomicUsize,
    /// A transaction is queued at the store that has not taken its sends yet.
    scheduled: AtomicBool,
}

struct Job<Origin> {
    origin: Origin,
    message: NewMessage,
}

impl<O: Outbox> SendQueue<O> {
    /// A queue in front of `store`.
    pub fn new(store: Store, clock: Arc<dyn Clock>, limits: SendLimits, outbox: O) -> Self {
        // Each versionstamped write of a transaction needs a number of its own.
        let batch_max = limits.batch_max.clamp(1, usize::from(u16::MAX) / STAMPS_PER_SEND);
        let shared = Shared {
            store,
            clock,
            outbox,
            limits: SendLimits { batch_max, ..limits },
            waiting: SegQueue::new(),
            waiting_count: AtomicUsize::new(0),
            scheduled: AtomicBool::new(false),
        };
        SendQueue { shared: Arc::new(shared) }
    }

    /// Takes a send over; its outcome goes to the outbox. An error means it was not taken.
    pub fn submit(&self, origin: O::Origin, message: NewMessage) -> Result<(), Error> {
        message.check(self.shared.limits.message_bytes_max)?;
        if self.shared.waiting_count.fetch_add(1, Ordering::Relaxed) >= self.shared.limits.queued_max {
            self.shared.waiting_count.fetch_sub(1, Ordering::Relaxed);
            return Err(StoreError::Busy.into());
        }
        self.shared.waiting.push(Job { origin, message });
        self.shared.schedule();
        Ok(())
    }

    /// Sends waiting for a transaction.
    pub fn waiting(&self) -> usize {
        self.shared.waiting_count.load(Ordering::Relaxed)
    }
}

type Batch<Origin> = Arc<OnceLock<Vec<Job<Origin>>>>;

impl<O: Outbox> Shared<O> {
    /// Queues a transaction unless one is queued already that will take what is waiting.
    fn schedule(self: &Arc<Self>) {
        if self.scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        // Filled when the transaction starts, and kept: a retry must see the same sends.
        let batch: Batch<O::Origin> = Arc::default();
        let body = {
            let (shared, batch) = (self.clone(), batch.clone());
            async move |tx: &Tx| {
                let jobs = batch.get_or_init(|| shared.take_waiting());
                stage_all(tx, jobs, shared.clock.unix_ms()).await
            }
        };
        let shared = self.clone();
        let done = move |result| shared.finish(&batch, result);
        self.store.run_then(Lane::Write, "send", body, done);
    }

    fn take_waiting(self: &Arc<Self>) -> Vec<Job<O::Origin>> {
        // First the flag, then the queue: a send pushed in between schedules a transaction of its own.
        self.scheduled.store(false, Ordering::Release);
        let mut jobs = Vec::new();
        let mut bytes = 0;
        while jobs.len() < self.limits.batch_max && bytes < self.limits.batch_bytes_max {
            let Some(job) = self.waiting.pop() else { break };
            bytes += job.message.body.len();
            jobs.push(job);
        }
        self.waiting_count.fetch_sub(jobs.len(), Ordering::Relaxed);
        if !self.waiting.is_empty() {
            self.schedule();
        }
        metrics::histogram!("send_batch_messages").record(jobs.len() as f64);
        jobs
    }

    fn finish(self: &Arc<Self>, batch: &Batch<O::Origin>, result: Result<(Vec<Outcome>, Committed), Error>) {
        // A transaction that never started has not taken its sends: they fail with it.
        let jobs = batch.get_or_init(|| self.take_waiting());
        let complete =
            |job: &Job<O::Origin>, outcome| Completion { origin: job.origin, message: job.message.clone(), outcome };
        let completions = match result {
            Ok((outcomes, committed)) => jobs
                .iter()
                .zip(outcomes)
                .map(|(job, outcome)| complete(job, outcome.map(|staged| staged.committed(committed))))
                .collect(),
            Err(error) => jobs.iter().map(|job| complete(job, Err(error.clone()))).collect(),
        };
        self.outbox.complete(completions);
    }
}

type Outcome = Result<Staged, Error>;

/// Stores each send of a batch. A refusal concerns one send, an error of the store the transaction.
async fn stage_all<Origin>(tx: &Tx, jobs: &[Job<Origin>], now_ms: u64) -> Result<Vec<Outcome>, Error> {
    let mut outcomes = Vec::with_capacity(jobs.len());
    let mut stamps = 0;
    for job in jobs {
        match stage(tx, &mut stamps, &job.message, now_ms).await {
            Err(Error::Store(error)) => return Err(error.into()),
            outcome => outcomes.push(outcome),
        }
    }
    Ok(outcomes)
}
