//! Group commit: acts that arrive while a transaction is under way share the next one.
//!
//! Cores hand their acts in here without waiting. One transaction at a time takes what has gathered,
//! in order of arrival; each act in it succeeds or is refused on its own. When the transaction is
//! durable the whole batch goes to the [`Outbox`], in commit order.
//!
//! A batch that conflicts (another node writes to one of its conversations) is halved, down to single acts: a shorter
//! transaction is harder to overtake, and fewer wait for the one that is contended. Those that follow are no
//! larger at first, and grow again as they succeed: otherwise a node with much to do would be overtaken for
//! as long as one with less writes to the same conversations.
//!
//! A commit whose outcome is unknown is run again, too, and halved if that goes on. What it had stored all the
//! same is then completed as if it had been heard, and what stays in doubt is settled first by the next
//! batch ([`super::unsettled`]).
//!
//! Where several nodes share the store, each batch reads that its own node has not been taken for dead
//! ([`super::nodes`]), and a [barrier](SendQueue::barrier) tells when nothing is under way any more that was.

mod barriers;
mod batch;
mod run;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use crossbeam::queue::SegQueue;
use futures::future::BoxFuture;
use smallvec::SmallVec;

use self::{
    barriers::Barriers,
    batch::{Batch, Job, Size},
    run::{Run, Stopped, completions, is_apart, position, recover, stage_all},
};
use super::{
    Error,
    act::{Act, Answer, Outcome, Staged, Staging, first_position},
    callbacks::Caller,
    groups::{Refusal, rate::GroupLimits},
    hooks::{Hooks, NoHooks, Verdict},
    keys,
    message::{MESSAGE_BYTES_MAX_DEFAULT, NewMessage},
    unsettled::{self, Late, Tried, Unsettled},
};
use crate::{
    env::Clock,
    store::{Committed, Earlier, Lane, Store, StoreError, Tx},
};

/// Limits of the queue.
#[derive(Clone, Copy, Debug)]
pub struct SendLimits {
    /// Longest message body, in bytes.
    pub message_bytes_max: usize,
    /// Acts taken over and not answered yet, or in doubt, at the most; more are refused as busy.
    pub queued_max: usize,
    /// Bytes of them, about, at the most.
    pub queued_bytes_max: usize,
    /// Acts in one transaction, at the most.
    pub batch_max: usize,
    /// Bytes that one transaction writes, about, at the most; the last act taken may pass it. Once twice as many are
    /// counted as it goes on, what follows is left to the next one.
    pub batch_bytes_max: usize,
}

impl Default for SendLimits {
    fn default() -> Self {
        SendLimits {
            message_bytes_max: MESSAGE_BYTES_MAX_DEFAULT,
            queued_max: 65_536,
            queued_bytes_max: 64 << 20,
            batch_max: 512,
            batch_bytes_max: 2 << 20,
        }
    }
}

/// Where finished acts go. Called on the store's threads: must not block.
pub trait Outbox: Send + Sync + 'static {
    /// Who asked for an act.
    type Origin: Copy + Send + Sync + 'static;

    /// Takes over a batch of finished acts, and where their transaction was committed, if it was. On the embedded engine
    /// batches come in commit order.
    fn complete(&self, batch: Vec<Completion<Self::Origin>>, at: Option<Committed>);

    /// Takes over acts that were completed with an error because nobody knew that they had been carried
    /// out. They stand in front of every batch that is completed later.
    fn late(&self, acts: Vec<Late>);
}

/// A finished act.
#[derive(Debug)]
pub struct Completion<Origin> {
    /// Who asked for it.
    pub origin: Origin,
    /// What was asked for.
    pub act: Act,
    /// What it came to, durable; or why it was not carried out.
    pub outcome: Result<Outcome, Error>,
}

/// The queue in front of the store. Clones are handles to the same queue.
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
    hooks: Arc<dyn Hooks>,
    limits: SendLimits,
    waiting: SegQueue<Job<O::Origin>>,
    /// Acts out of halved batches, in order; they come before those that wait.
    returned: Mutex<VecDeque<Job<O::Origin>>>,
    unsettled: Unsettled,
    barriers: Barriers,
    group_limits: GroupLimits,
    /// Read by each batch: without it this node is taken for dead.
    fence: OnceLock<Bytes>,
    /// Acts taken over and not answered yet, or in doubt, and their bytes.
    unanswered: AtomicUsize,
    unanswered_bytes: AtomicUsize,
    /// A transaction is queued at the store that has not taken its acts yet.
    scheduled: AtomicBool,
    size: Size,
}

/// A future that ends once an act has been taken over, or refused.
pub type Asking = BoxFuture<'static, Result<(), Error>>;

impl<O: Outbox> SendQueue<O> {
    /// A queue in front of `store`, in which only the domain decides.
    pub fn new(store: Store, clock: Arc<dyn Clock>, limits: SendLimits, outbox: O) -> Self {
        SendQueue::with_hooks(store, clock, limits, outbox, Arc::new(NoHooks))
    }

    /// A queue in which an application's server has its say.
    pub fn with_hooks(
        store: Store,
        clock: Arc<dyn Clock>,
        limits: SendLimits,
        outbox: O,
        hooks: Arc<dyn Hooks>,
    ) -> Self {
        let shared = Shared {
            store,
            clock,
            outbox,
            hooks,
            limits: SendLimits { batch_max: limits.batch_max.max(1), ..limits },
            waiting: SegQueue::new(),
            returned: Mutex::default(),
            unsettled: Unsettled::default(),
            barriers: Barriers::default(),
            group_limits: GroupLimits::default(),
            fence: OnceLock::new(),
            unanswered: AtomicUsize::new(0),
            unanswered_bytes: AtomicUsize::new(0),
            scheduled: AtomicBool::new(false),
            size: Size::new(limits.batch_max.max(1)),
        };
        SendQueue { shared: Arc::new(shared) }
    }

    /// Takes an act over; its outcome goes to the outbox. An error means it was not taken. If the application
    /// has to be asked first, that is left to the caller: the act is taken over in the future returned.
    pub fn submit(&self, origin: O::Origin, act: Act) -> Result<Option<Asking>, Error> {
        self.submit_from(origin, act, Caller::default())
    }

    /// The same for an act of which it is known where it comes from.
    pub fn submit_from(&self, origin: O::Origin, mut act: Act, caller: Caller) -> Result<Option<Asking>, Error> {
        let hooks = &self.shared.hooks;
        self.check(&mut act).inspect_err(|error| hooks.refused(&act, &caller, error))?;
        let asked = if caller.is_asked { hooks.before(&act, &caller) } else { None };
        let Some(asked) = asked else { return self.take(origin, act, caller).map(|()| None) };
        let queue = self.clone();
        Ok(Some(Box::pin(async move {
            let verdict = asked.await.inspect_err(|error| queue.shared.hooks.refused(&act, &caller, error));
            let is_against = matches!(verdict, Ok(Verdict::Drop) | Err(_));
            // It was let pass before, and its answer was lost: nobody can forbid it now.
            if is_against && queue.is_stored(&act).await? {
                return queue.take(origin, act, caller);
            }
            match (verdict?, &mut act) {
                (Verdict::Drop, Act::Send(_)) => {
                    queue.drop_silently(origin, act);
                    return Ok(());
                }
                // It can't be answered as if it had been made.
                (Verdict::Drop, Act::Change(_)) => return Err(Error::Refused { code: 0, text: String::new() }),
                (Verdict::Replace(body), Act::Send(message)) => {
                    message.body = body;
                    queue.check(&mut act)?;
                }
                (Verdict::Replace(body), Act::Change(change)) => {
                    change.replace_body(body);
                    queue.check(&mut act)?;
                }
                (Verdict::RefuseSome(refused), Act::Change(change)) => change.refused = refused,
                (Verdict::Pass | Verdict::RefuseSome(_), _) => {}
            }
            queue.take(origin, act, caller)
        })))
    }

    fn check(&self, act: &mut Act) -> Result<(), Error> {
        match act {
            Act::Send(message) => message.check(self.shared.limits.message_bytes_max),
            Act::Change(change) => change.check(self.shared.limits.message_bytes_max),
        }
    }

    /// Whether an act is a message that has been stored.
    async fn is_stored(&self, act: &Act) -> Result<bool, Error> {
        let Act::Send(NewMessage { app, from, client_message_id, .. }) = act else { return Ok(false) };
        let key = keys::sent(*app, from, client_message_id);
        let look = async move |tx: &Tx| -> Result<bool, Error> { Ok(tx.snapshot_get(&key).await?.is_some()) };
        Ok(self.shared.store.run(Lane::Read, "is_stored", look).await?.0)
    }

    /// Answers an act that is not carried out, as if it had been: a message like one that is not to be stored.
    fn drop_silently(&self, origin: O::Origin, act: Act) {
        let answer = Answer::Sent { seq: 0, time_ms: self.shared.clock.unix_ms(), duplicate: false };
        let outcome = Ok(Outcome { answer, notices: SmallVec::new() });
        self.shared.outbox.complete(vec![Completion { origin, act, outcome }], None);
    }

    fn take(&self, origin: O::Origin, act: Act, caller: Caller) -> Result<(), Error> {
        let (limits, bytes) = (&self.shared.limits, act.bytes());
        let count = self.shared.unanswered.fetch_add(1, Ordering::Relaxed);
        let queued_bytes = self.shared.unanswered_bytes.fetch_add(bytes, Ordering::Relaxed);
        if count >= limits.queued_max || queued_bytes + bytes > limits.queued_bytes_max {
            self.shared.answered(1, bytes);
            return Err(StoreError::Busy.into());
        }
        self.shared.waiting.push(Job::new(origin, act, caller));
        self.shared.schedule();
        Ok(())
    }

    /// How many messages groups may be sent.
    pub fn group_limits(&self) -> &GroupLimits {
        &self.shared.group_limits
    }

    /// From here on nothing is carried out any more once the node is taken for dead: then acts end with
    /// [`Error::Fenced`]. Said once, before the first act.
    pub fn fence(&self, node: u64) {
        let _ = self.shared.fence.set(keys::node_alive(node));
    }

    /// Calls `done` once every batch that has begun is completed, and none of earlier ones is in doubt: so what this
    /// queue has carried out up to now has been handed to the outbox. At once if nothing is under way. What begins
    /// meanwhile is not waited for.
    pub fn barrier(&self, done: impl FnOnce() + Send + 'static) {
        let shared = &self.shared;
        shared.barriers.set(Box::new(done), || shared.unsettled.acts() > 0);
        self.settle_doubts();
    }

    /// Tries to settle what is in doubt, if a barrier waits for that and nothing else does it.
    pub fn settle_doubts(&self) {
        if self.shared.barriers.is_waiting() && self.shared.unsettled.acts() > 0 {
            self.shared.schedule();
        }
    }

    /// Acts taken over and not answered yet, or in doubt.
    pub fn unanswered(&self) -> usize {
        self.shared.unanswered.load(Ordering::Relaxed)
    }
}

/// Versionstamped writes of one transaction, each of which needs a number of its own: so many, and those of
/// one act more.
const BATCH_STAMPS_MAX: usize = u16::MAX as usize - 1_000;

/// Runs of a batch as it is; from the next one on it is halved.
const RUNS_WHOLE_MAX: u32 = 3;

/// The same of one that is overtaken. The second time others let it go first.
const RUNS_OVERTAKEN_MAX: u32 = 2;

impl<O: Outbox> Shared<O> {
    /// Queues a transaction unless one is queued already that will take what is waiting.
    fn schedule(self: &Arc<Self>) {
        if self.scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        let batch = Arc::new(Batch::new());
        let body = {
            let (shared, batch) = (self.clone(), batch.clone());
            async move |tx: &Tx| shared.run(tx, &batch).await
        };
        let shared = self.clone();
        let done = move |result| {
            shared.finish(&batch, result);
            let number = lock(&batch.0).number.take();
            shared.barriers.end(number, || shared.unsettled.acts() > 0);
        };
        self.store.run_then(Lane::Write, "send", body, done);
    }

    /// One run of a batch's transaction.
    async fn run(self: &Arc<Self>, tx: &Tx, batch: &Batch<O::Origin>) -> Result<Run, Error> {
        let mut jobs = self.next_run(batch, tx.earlier());
        let alive = self.fence.get().map(|fence| tx.get(fence));
        let mut settled = Vec::new();
        for unsettled in self.unsettled.all() {
            let late = unsettled.settle(tx).await?;
            settled.push((unsettled, late));
        }
        let (is_unclear, is_fixed) = {
            let filling = lock(&batch.0);
            (filling.is_unclear, filling.is_fixed)
        };
        let staging = Staging::new(tx, &*self.clock, &self.group_limits);
        let bytes_max = if is_fixed { usize::MAX } else { 2 * self.limits.batch_bytes_max };
        let mut outcomes = match stage_all(staging, &jobs, is_unclear, bytes_max).await {
            Ok(outcomes) => outcomes,
            Err(Stopped::Failed(error)) => return Err(error.into()),
            Err(Stopped::Full(fit)) => return Err(self.split(batch, jobs.len(), fit).into()),
        };
        if outcomes.len() < jobs.len() {
            jobs = self.put_back(batch, outcomes.len());
        }
        let staged = outcomes.iter().map(|outcome| {
            let is_over_rate = matches!(outcome, Err(Error::Group(Refusal::RateLimited(_))));
            (outcome.as_ref().ok().and_then(Staged::new_try), !is_over_rate)
        });
        {
            let mut filling = lock(&batch.0);
            (filling.staged, filling.is_fixed) = (staged.collect(), true);
        }
        recover(tx, &jobs, &mut outcomes).await?;
        if let Some(alive) = alive
            && alive.await?.is_none()
        {
            return Err(Error::Fenced);
        }
        let rerun = jobs.iter().zip(&outcomes).filter(|(job, _)| is_unclear || job.in_doubt);
        let unheard = rerun.filter_map(|(job, outcome)| Late::of_earlier_run(tx, &job.act, outcome)).collect();
        Ok(Run { settled, unheard, outcomes })
    }

    /// Has the next run of a batch store less, of which `fit` are known to fit: what is too much for a transaction is
    /// so alone, and others do not fail with it.
    fn split(&self, batch: &Batch<O::Origin>, jobs: usize, fit: usize) -> StoreError {
        if jobs == 1 {
            return StoreError::TooLarge("what one act writes".into());
        }
        let mut filling = lock(&batch.0);
        match filling.is_fixed {
            true => filling.runs = filling.runs.max(RUNS_WHOLE_MAX),
            false => filling.kept_max = Some(fit.max(1)),
        }
        StoreError::Conflict
    }

    /// What the next run of a batch's transaction stores.
    fn next_run(self: &Arc<Self>, batch: &Batch<O::Origin>, earlier: Earlier) -> Arc<Vec<Job<O::Origin>>> {
        let mut filling = lock(&batch.0);
        filling.runs += 1;
        filling.is_unclear |= earlier.is_unclear;
        let is_unclear = filling.is_unclear;
        let is_overtaken = earlier.is_overtaken && !is_unclear;
        let is_to_be_halved = filling.runs > if is_overtaken { RUNS_OVERTAKEN_MAX } else { RUNS_WHOLE_MAX };
        filling.number.get_or_insert_with(|| self.barriers.begin());
        let kept_max = filling.kept_max.take();
        let jobs = match (filling.take(), kept_max) {
            (None, _) => self.take_waiting(),
            (Some(jobs), Some(kept)) => self.keep(jobs, kept),
            (Some(jobs), None) if is_to_be_halved && jobs.len() > 1 => self.halve(jobs, is_unclear),
            (Some(jobs), None) => jobs,
        };
        filling.jobs.insert(Arc::new(jobs)).clone()
    }

    /// Keeps the first acts of a batch whose others would make its transaction too large: how much an act writes may
    /// show only as it is carried out. The next transaction takes those first.
    fn put_back(self: &Arc<Self>, batch: &Batch<O::Origin>, kept: usize) -> Arc<Vec<Job<O::Origin>>> {
        let mut filling = lock(&batch.0);
        let jobs = filling.jobs.take().map(Arc::unwrap_or_clone).unwrap_or_default();
        filling.jobs.insert(Arc::new(self.keep(jobs, kept))).clone()
    }

    fn keep(self: &Arc<Self>, mut jobs: Vec<Job<O::Origin>>, kept: usize) -> Vec<Job<O::Origin>> {
        let mut returned = lock(&self.returned);
        jobs.drain(kept..).rev().for_each(|job| returned.push_front(job));
        drop(returned);
        self.schedule();
        jobs
    }

    /// Keeps the first half. The lane starts the transaction of the others after this one, so sends
    /// stay in their order.
    fn halve(self: &Arc<Self>, mut jobs: Vec<Job<O::Origin>>, is_unclear: bool) -> Vec<Job<O::Origin>> {
        let rest = jobs.split_off(jobs.len().div_ceil(2));
        self.size.shrink(jobs.len());
        metrics::counter!("send_batches_halved_total").increment(1);
        if is_unclear {
            // The half that is kept may pass by, in the logs, what an unheard run has stored of the rest: all of it is
            // told first, in the order of the logs.
            let is_send = |job: &&Job<O::Origin>| matches!(job.act, Act::Send(_));
            let doubtful = jobs.iter().filter(is_send).chain(&rest);
            self.doubt(doubtful.map(|job| Tried { act: job.act.clone(), tries: job.tries.clone() }).collect());
        }
        let mut returned = lock(&self.returned);
        let doubted = |job: Job<O::Origin>| Job { in_doubt: job.in_doubt || is_unclear, ..job };
        rest.into_iter().rev().for_each(|job| returned.push_front(doubted(job)));
        drop(returned);
        self.schedule();
        jobs
    }

    fn take_waiting(self: &Arc<Self>) -> Vec<Job<O::Origin>> {
        // First the flag, then the queue: a send pushed in between schedules a transaction of its own.
        self.scheduled.store(false, Ordering::Release);
        let mut returned = lock(&self.returned);
        let mut jobs = Vec::new();
        let (mut bytes, mut stamps) = (0, 0);
        // What is in doubt takes its part of the transaction.
        let jobs_max = self.size.now().saturating_sub(self.unsettled.acts()).max(1);
        while jobs.len() < jobs_max && bytes < self.limits.batch_bytes_max && stamps < BATCH_STAMPS_MAX {
            let Some(job) = returned.pop_front().or_else(|| self.waiting.pop()) else { break };
            let is_large = job.act.written_bytes() >= self.limits.batch_bytes_max;
            if !jobs.is_empty() && (is_large || is_apart(&jobs, &job.act)) {
                returned.push_front(job);
                break;
            }
            bytes += job.act.written_bytes();
            stamps += job.act.stamps_max();
            jobs.push(job);
        }
        let more = !returned.is_empty() || !self.waiting.is_empty();
        drop(returned);
        if more {
            self.schedule();
        }
        metrics::histogram!("send_batch_messages").record(jobs.len() as f64);
        jobs
    }

    /// Takes everything, without asking the store again, which has just refused.
    fn take_all_waiting(&self) -> Vec<Job<O::Origin>> {
        self.scheduled.store(false, Ordering::Release);
        let mut jobs: Vec<_> = std::mem::take(&mut *lock(&self.returned)).into();
        jobs.extend(std::iter::from_fn(|| self.waiting.pop()));
        jobs
    }

    /// The next commit settles these, although they are going to be run again.
    fn doubt(&self, tried: Vec<Tried>) {
        self.unanswered.fetch_add(tried.len(), Ordering::Relaxed);
        self.unanswered_bytes.fetch_add(tried.iter().map(|tried| tried.act.bytes()).sum(), Ordering::Relaxed);
        self.unsettled.add(unsettled::Batch(tried));
    }

    fn answered(&self, count: usize, bytes: usize) {
        self.unanswered.fetch_sub(count, Ordering::Relaxed);
        self.unanswered_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn finish(self: &Arc<Self>, batch: &Batch<O::Origin>, result: Result<(Run, Committed), Error>) {
        let mut filling = lock(&batch.0);
        match result {
            Ok((mut run, committed)) => {
                let jobs = filling.jobs.take().map(Arc::unwrap_or_clone).unwrap_or_default();
                drop(filling);
                self.size.grow(jobs.len());
                self.go_on(&jobs, &mut run.outcomes);
                for (job, outcome) in jobs.iter().zip(&run.outcomes) {
                    if let Err(error) = outcome {
                        self.hooks.refused(&job.act, &job.caller, error);
                    }
                }
                self.answered(jobs.len(), jobs.iter().map(|job| job.act.bytes()).sum());
                let completions = completions(jobs, run.outcomes, committed);
                self.settle(run.settled, run.unheard, &completions);
                self.outbox.complete(completions, Some(committed));
            }
            Err(error) => {
                // A transaction that never started has not taken its sends: all that wait fail with it.
                if error == Error::Fenced {
                    // The last run was not committed.
                    filling.staged.clear();
                }
                let is_unclear = filling.is_unclear;
                let jobs = filling.take().unwrap_or_else(|| self.take_all_waiting());
                drop(filling);
                self.give_up(jobs, is_unclear, error);
            }
        }
    }

    /// Queues what goes on with acts that are not done yet: taken over already, so never refused as too much.
    fn go_on(self: &Arc<Self>, jobs: &[Job<O::Origin>], outcomes: &mut [Result<Staged, Error>]) {
        let mut goes_on = false;
        for (job, outcome) in jobs.iter().zip(outcomes) {
            let Some(next) = outcome.as_mut().ok().and_then(|staged| staged.next.take()) else { continue };
            let act = Act::Change(next);
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            self.unanswered_bytes.fetch_add(act.bytes(), Ordering::Relaxed);
            let (origin, caller) = (job.origin, job.caller.clone());
            self.waiting.push(Job::new(origin, act, caller));
            goes_on = true;
        }
        if goes_on {
            self.schedule();
        }
    }

    /// Passes on what turned out to be stored of batches that had given up, in the order of the logs: with those
    /// of `completions` that stand between. They come once more, which sessions don't mind. Together with what earlier
    /// runs of these completions may have stored (`unheard`), in the place of which nothing else may be told before.
    fn settle(
        &self,
        settled: Vec<(Arc<unsettled::Batch>, Vec<Late>)>,
        unheard: Vec<Late>,
        completions: &[Completion<O::Origin>],
    ) {
        let mut claimed = Vec::with_capacity(settled.len());
        let mut all = unheard;
        for (batch, late) in settled {
            if self.unsettled.claim(&batch) {
                claimed.push(batch);
                all.extend(late);
            }
        }
        if !all.is_empty() {
            self.tell_late(all, completions);
        }
        // Now, not before: a barrier waits for what is told here.
        for batch in claimed {
            self.unsettled.remove(&batch);
            self.answered(batch.0.len(), batch.0.iter().map(|tried| tried.act.bytes()).sum());
        }
    }

    fn tell_late(&self, mut all: Vec<Late>, completions: &[Completion<O::Origin>]) {
        let place = |late: &Late| first_position(&late.notices);
        let last = all.iter().filter_map(place).max();
        let between = completions.iter().filter(|completion| position(completion).is_some_and(|own| Some(own) <= last));
        all.extend(between.filter_map(|Completion { act, outcome, .. }| {
            Some(Late { act: act.clone(), notices: outcome.as_ref().ok()?.notices.clone() })
        }));
        all.sort_by_key(place);
        all.dedup_by(|one, other| place(one).is_some() && place(one) == place(other));
        self.outbox.late(all);
    }

    /// Answers `error`, with which the last run ended, to all; what may be stored all the same, by that or by an earlier
    /// one, stays in doubt.
    fn give_up(self: &Arc<Self>, jobs: Vec<Job<O::Origin>>, is_unclear: bool, error: Error) {
        let unknown = is_unclear || error == Error::Store(StoreError::MaybeCommitted);
        let mut completions = Vec::with_capacity(jobs.len());
        let mut in_doubt = Vec::new();
        for Job { origin, act, tries, in_doubt: was_in_doubt, .. } in jobs {
            // Of a change no run leaves a trace: it is in doubt as soon as it has been run.
            let tried = !tries.is_empty() || matches!(act, Act::Change(_));
            match (unknown || was_in_doubt) && tried {
                true => in_doubt.push(Tried { act: act.clone(), tries }),
                false => self.answered(1, act.bytes()),
            }
            completions.push(Completion { origin, act, outcome: Err(error.clone()) });
        }
        let settle = !in_doubt.is_empty();
        if settle {
            self.unsettled.add(unsettled::Batch(in_doubt));
        }
        self.outbox.complete(completions, None);
        // Tried once at once; if that fails, too, the next send brings the next chance.
        if settle {
            self.schedule();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
