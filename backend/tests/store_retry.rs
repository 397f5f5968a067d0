//! Goal: the one retry loop ends, says no more than it knows, and counts every retry by its cause.
//!
//! Mechanics: bodies that bring about what the commit is told, run by run: the memory engine's faults at
//! full strength, a clock that goes only when told to. On the engine in this process, where a worker runs
//! the loop, and behind the imagined wire, where it is polled.

mod remote;

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use backend::{
    env::{Clock, SeededRng, UnixMillis},
    store::*,
};
use futures::executor::block_on;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

const QUIET: Faults = Faults { conflict: 0, maybe_committed: 0, maybe_lost: 0, unavailable: 0 };
const CONFLICT: Faults = Faults { conflict: 1000, ..QUIET };
const UNHEARD: Faults = Faults { maybe_committed: 1000, ..QUIET };
const LOST: Faults = Faults { maybe_lost: 1000, ..QUIET };
const UNAVAILABLE: Faults = Faults { unavailable: 1000, ..QUIET };

#[derive(Default)]
struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn unix_ms(&self) -> UnixMillis {
        0
    }

    fn monotonic_us(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A store and what decides its fate.
struct World {
    memory: Memory,
    clock: Arc<HandClock>,
    store: Store,
    runs: Arc<AtomicU32>,
}

/// What one run of the body brings about.
#[derive(Clone)]
struct Step {
    faults: Faults,
    takes_ms: u64,
    /// The body's own error.
    refuses: Option<StoreError>,
}

const COMMITS: Step = Step { faults: QUIET, takes_ms: 0, refuses: None };

impl World {
    /// What `steps` lead to, the last one again and again. Each run counts one under `count`.
    fn run(&self, steps: &[Step]) -> Result<u32, StoreError> {
        self.runs.store(0, Ordering::Relaxed);
        let (memory, clock, runs) = (self.memory.clone(), self.clock.clone(), self.runs.clone());
        let steps = steps.to_vec();
        let body = async move |tx: &Tx| -> Result<u32, StoreError> {
            let run = runs.fetch_add(1, Ordering::Relaxed);
            let step = &steps[(run as usize).min(steps.len() - 1)];
            memory.set_faults(step.faults);
            tx.add(b"count", 1);
            clock.0.fetch_add(step.takes_ms * 1000, Ordering::Relaxed);
            step.refuses.clone().map_or(Ok(run), Err)
        };
        let result = block_on(self.store.run(Lane::Write, "steps", body));
        self.memory.set_faults(QUIET);
        result.map(|(run, _)| run)
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::Relaxed)
    }

    fn count(&self) -> u64 {
        let value = block_on(self.store.begin().expect("begins").get(b"count")).expect("reads");
        value.map_or(0, |value| u64::from_le_bytes(value[..].try_into().expect("8 bytes")))
    }
}

/// The process's metrics; whoever holds them is alone with them.
fn metrics() -> MutexGuard<'static, PrometheusHandle> {
    static METRICS: OnceLock<Mutex<PrometheusHandle>> = OnceLock::new();
    let installed = METRICS.get_or_init(|| Mutex::new(PrometheusBuilder::new().install_recorder().expect("installs")));
    installed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often transactions were run again so far, because of `cause`.
fn retries(metrics: &PrometheusHandle, cause: &str) -> u32 {
    let name = format!("store_retries_total{{cause=\"{cause}\"}} ");
    let text = metrics.render();
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().expect("a number"))
}

fn on_both(options: &StoreOptions, check: impl Fn(&World, &PrometheusHandle)) {
    let metrics = metrics();
    for is_remote in [false, true] {
        let (memory, clock) = (Memory::new(1, QUIET), Arc::new(HandClock::default()));
        let engine: Arc<dyn Engine> = match is_remote {
            true => Arc::new(remote::Remote::new(memory.clone())),
            false => Arc::new(memory.clone()),
        };
        let options = StoreOptions { retry_backoff_us_max: 0, ..options.clone() };
        let store = Store::new(engine, clock.clone(), Arc::new(SeededRng::new(1)), options);
        check(&World { memory, clock, store, runs: Arc::default() }, &metrics);
    }
}

#[test]
fn retries_are_limited_in_number() {
    let options = StoreOptions { retry_attempts_max: 7, ..StoreOptions::default() };
    on_both(&options, |world, metrics| {
        let before = retries(metrics, "conflict");
        assert_eq!(world.run(&[Step { faults: CONFLICT, ..COMMITS }]), Err(StoreError::Conflict));
        assert_eq!(world.runs(), 1 + 7);
        assert_eq!(retries(metrics, "conflict") - before, 7);
        assert_eq!(world.count(), 0);
    });
}

#[test]
fn retries_are_limited_in_time() {
    let options = StoreOptions { retry_deadline_ms: 1_000, ..StoreOptions::default() };
    on_both(&options, |world, _| {
        assert_eq!(world.run(&[Step { faults: CONFLICT, takes_ms: 400, ..COMMITS }]), Err(StoreError::Conflict));
        assert_eq!(world.runs(), 3, "none begins after the deadline");
    });
}

#[test]
fn what_a_retry_mends_is_run_again_and_counted_by_its_cause() {
    let options = StoreOptions { retry_deadline_ms: u64::MAX, ..StoreOptions::default() };
    on_both(&options, |world, metrics| {
        let causes = ["conflict", "maybe_committed", "too_old"];
        let before = causes.map(|cause| retries(metrics, cause));
        const TOO_OLD: Step = Step { takes_ms: TRANSACTION_AGE_MS_MAX + 1, ..COMMITS };
        let steps =
            &[Step { faults: LOST, ..COMMITS }, TOO_OLD, Step { faults: CONFLICT, ..COMMITS }, TOO_OLD, COMMITS];
        assert_eq!(world.run(steps), Ok(4));
        let after = causes.map(|cause| retries(metrics, cause));
        assert_eq!([0, 1, 2].map(|at| after[at] - before[at]), [1, 1, 2]);
        assert_eq!(world.count(), 1);
    });
}

#[test]
fn what_no_retry_mends_is_told_at_once() {
    on_both(&StoreOptions::default(), |world, _| {
        let told = world.run(&[Step { faults: UNAVAILABLE, ..COMMITS }, COMMITS]);
        assert!(matches!(told, Err(StoreError::Unavailable(_))), "{told:?}");
        assert_eq!(world.run(&[Step { refuses: Some(StoreError::Busy), ..COMMITS }, COMMITS]), Err(StoreError::Busy));
        assert_eq!((world.runs(), world.count()), (1, 0));
    });
}

/// Goal: nobody is told that nothing was written when an earlier run may have been committed.
#[test]
fn an_unknown_outcome_stays_unknown() {
    let options = StoreOptions { retry_attempts_max: 1, ..StoreOptions::default() };
    on_both(&options, |world, _| {
        let damaged = StoreError::Damaged("a record".into());
        let ends: [&[Step]; 5] = [
            &[Step { faults: UNHEARD, ..COMMITS }],
            &[Step { faults: UNHEARD, ..COMMITS }, Step { faults: UNAVAILABLE, ..COMMITS }],
            &[Step { faults: UNHEARD, ..COMMITS }, Step { faults: CONFLICT, ..COMMITS }],
            &[Step { faults: UNHEARD, ..COMMITS }, Step { takes_ms: TRANSACTION_AGE_MS_MAX + 1, ..COMMITS }],
            &[Step { faults: UNHEARD, ..COMMITS }, Step { refuses: Some(damaged), ..COMMITS }],
        ];
        for steps in ends {
            assert_eq!(world.run(steps), Err(StoreError::MaybeCommitted));
            assert_eq!(world.runs(), 2);
        }
        assert_eq!(world.count(), 6, "each was committed, the first one twice");
    });
}
