//! The one retry loop of the system.
//!
//! A retry that is known while the worker still holds the transaction (a conflict on an engine in
//! this process) runs in its place, before the lane's next job. One that is known only later goes
//! to the end of the lane's queue. On a remote engine every outcome is awaited, without holding the
//! thread, and the retry follows in the same place.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt as _, executor::block_on, future::LocalBoxFuture};

use super::{
    front::{Context, Retry},
    lane::{Job, LaneQueue},
    lock,
    metrics::count_retry,
    pool,
    seam::{Committed, StoreError},
    turns::Turns,
    tx::{Earlier, Tx},
};

/// Told the final outcome, once.
pub(super) type Done<T, E> = Box<dyn FnOnce(Result<(T, Committed), E>) + Send>;

/// A transaction to run, and how far its retries are.
pub(super) struct Attempt<T, E, F> {
    context: Arc<Context>,
    lane: Arc<LaneQueue>,
    name: &'static str,
    body: F,
    done: Done<T, E>,
    retries: u32,
    earlier: Earlier,
    started_us: Option<u64>,
}

/// How a commit that must be run again gets back to the worker, if that still waits for it.
enum Handback<A> {
    WorkerWaits,
    Again(A),
    WorkerLeft,
}

impl<T, E, F> Attempt<T, E, F> {
    pub(super) fn new(
        context: Arc<Context>,
        lane: Arc<LaneQueue>,
        name: &'static str,
        body: F,
        done: Done<T, E>,
    ) -> Self {
        Attempt { context, lane, name, body, done, retries: 0, earlier: Earlier::default(), started_us: None }
    }
}

impl<T, E, F> Job for Attempt<T, E, F>
where
    F: AsyncFn(&Tx) -> Result<T, E> + Send + 'static,
    E: From<StoreError> + Retry + Send + 'static,
    T: Send + 'static,
{
    fn run(self: Box<Self>) {
        let mut next = Some(*self);
        while let Some(attempt) = next {
            next = attempt.once();
        }
    }

    fn start(self: Box<Self>) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            let mut next = Some(*self);
            while let Some(attempt) = next {
                next = attempt.once_remote().await;
            }
        })
    }

    fn refuse(self: Box<Self>, error: StoreError) {
        self.finish(Err(error.into()));
    }
}

impl<T, E, F> Attempt<T, E, F>
where
    F: AsyncFn(&Tx) -> Result<T, E> + Send + 'static,
    E: From<StoreError> + Retry + Send + 'static,
    T: Send + 'static,
{
    /// Runs the body and issues the commit. Returns itself to be run again.
    fn once(mut self) -> Option<Self> {
        match self.started_us {
            None => self.started_us = Some(self.context.clock.monotonic_us()),
            Some(_) => std::thread::sleep(self.backoff()),
        }
        let tx = match self.context.begin(self.earlier) {
            Ok(tx) => tx,
            Err(error) => return self.failed(error.into()),
        };
        match catch_unwind(AssertUnwindSafe(|| block_on((self.body)(&tx)))) {
            Ok(Ok(value)) => self.commit(tx, value),
            Ok(Err(error)) => self.failed(error),
            Err(panic) => self.panicked(&*panic),
        }
    }

    /// Runs the body and the commit. Returns itself to be run again.
    async fn once_remote(mut self) -> Option<Self> {
        match self.started_us {
            None => {
                let pause = self.lane.turns().map_or(Duration::ZERO, Turns::pause);
                if !pause.is_zero() {
                    pool::delay(pause).await;
                }
                self.started_us = Some(self.context.clock.monotonic_us());
            }
            Some(_) => pool::delay(self.backoff()).await,
        }
        let began_us = self.context.clock.monotonic_us();
        let tx = match self.context.begin(self.earlier) {
            Ok(tx) => tx,
            Err(error) => return self.failed(error.into()),
        };
        let value = match AssertUnwindSafe(async { (self.body)(&tx).await }).catch_unwind().await {
            Ok(Ok(value)) => value,
            Ok(Err(error)) => return self.failed(error),
            Err(panic) => return self.panicked(&*panic),
        };
        let committing_us = self.context.clock.monotonic_us();
        match tx.commit().await {
            Ok(committed) => {
                let took_us = self.context.clock.monotonic_us().saturating_sub(began_us);
                self.lane.turns().inspect(|turns| turns.committed(took_us));
                self.committed(value, committed, committing_us);
                None
            }
            Err(error) => {
                self.lane.turns().filter(|_| error == StoreError::Conflict).inspect(|turns| turns.overtaken());
                self.failed(error.into())
            }
        }
    }

    fn commit(self, tx: Tx, value: T) -> Option<Self> {
        let handback = Arc::new(Mutex::new(Handback::WorkerWaits));
        let worker_end = handback.clone();
        let committing_us = self.context.clock.monotonic_us();
        tx.commit_then(Box::new(move |result| match result {
            Ok(committed) => self.committed(value, committed, committing_us),
            Err(error) => {
                if let Some(again) = self.failed(error.clone().into()) {
                    again.hand_back(&handback, error);
                }
            }
        }));
        match std::mem::replace(&mut *lock(&worker_end), Handback::WorkerLeft) {
            Handback::Again(again) => Some(again),
            Handback::WorkerWaits | Handback::WorkerLeft => None,
        }
    }

    fn committed(self, value: T, committed: Committed, committing_us: u64) {
        let waited_us = self.context.clock.monotonic_us().saturating_sub(committing_us);
        self.context.metrics.commit_seconds.record(waited_us as f64 / 1e6);
        self.finish(Ok((value, committed)));
    }

    fn panicked(self, panic: &(dyn Any + Send)) -> Option<Self> {
        tracing::error!(transaction = self.name, panic = panic_text(panic), "a transaction's body panicked");
        let error = StoreError::Unavailable(format!("transaction {} panicked", self.name));
        self.finish(Err(error.into()));
        None
    }

    fn hand_back(self, handback: &Mutex<Handback<Self>>, error: StoreError) {
        let mut place = lock(handback);
        if let Handback::WorkerWaits = *place {
            *place = Handback::Again(self);
            return;
        }
        drop(place);
        let lane = self.lane.clone();
        lane.push_again(Box::new(self), error);
    }

    /// After an error: returns itself if the transaction is to be run again, else tells the caller.
    fn failed(mut self, error: E) -> Option<Self> {
        let Some(cause) = error.store_error() else {
            self.answer_once_durable(error);
            return None;
        };
        self.earlier.is_unclear |= *cause == StoreError::MaybeCommitted;
        self.earlier.is_overtaken = matches!(cause, StoreError::Conflict | StoreError::TooOld);
        let elapsed_us = self.started_us.map_or(0, |start| self.context.clock.monotonic_us().saturating_sub(start));
        let options = &self.context.options;
        let in_time = elapsed_us <= options.retry_deadline_ms.saturating_mul(1000);
        if !cause.is_retryable() || self.retries >= options.retry_attempts_max || !in_time {
            self.finish(Err(error));
            return None;
        }
        count_retry(cause);
        self.retries += 1;
        Some(self)
    }

    /// The domain's "no" rests on what the body read, which a crash must not be able to undo after
    /// the answer is out. An empty transaction, begun later, is answered when all that is durable.
    fn answer_once_durable(self, answer: E) {
        match self.context.engine.begin() {
            Ok(empty) => empty.commit(Box::new(move |result| match result {
                Ok(_) => self.finish(Err(answer)),
                Err(error) => self.finish(Err(error.into())),
            })),
            Err(error) => self.finish(Err(error.into())),
        }
    }

    fn finish(self, result: Result<(T, Committed), E>) {
        let Attempt { done, name, earlier, .. } = self;
        let result = result.map_err(|error| if earlier.is_unclear { still_unclear(error) } else { error });
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| done(result))) {
            tracing::error!(transaction = name, panic = panic_text(&*panic), "a transaction's completion panicked");
        }
    }

    fn backoff(&self) -> Duration {
        let draw = self.context.rng.next_u64();
        Duration::from_micros(pause_us(self.retries, self.context.options.retry_backoff_us_max, draw))
    }
}

/// A pause that doubles with each retry, spread evenly between nothing and all of it.
fn pause_us(retries: u32, longest_us: u64, draw: u64) -> u64 {
    const FIRST_US: u64 = 50;
    let ceiling_us = FIRST_US.saturating_mul(1 << retries.min(20)).min(longest_us);
    draw % (ceiling_us + 1)
}

/// No error of the store is the whole truth when an earlier run may have been committed. An answer of the
/// domain is: it comes from what the last run has read.
fn still_unclear<E: From<StoreError> + Retry>(error: E) -> E {
    if error.store_error().is_some() { StoreError::MaybeCommitted.into() } else { error }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_spread() {
        let longest = |retries| (0..10_000).map(|draw| pause_us(retries, 1_000, draw)).max();
        assert_eq!([1, 2, 3, 4, 5, 6, 60].map(longest), [100, 200, 400, 800, 1_000, 1_000, 1_000].map(Some));
        assert_eq!([0, 7, 100, 101].map(|draw| pause_us(1, 1_000, draw)), [0, 7, 100, 0]);
        assert_eq!(pause_us(3, 0, 12_345), 0);
    }
}
