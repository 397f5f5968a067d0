//! Random histories, checked for serialisability.
//!
//! Goal: whatever transactions do at the same time, there is one order in which they did it one after
//! the other, and it is the order of their versionstamps. Without this, two sends can take one number.
//! Mechanics: transactions of random operations over few keys; each appends its name to a log under a
//! versionstamp, which tells the order, and whether one with an unknown outcome happened. Replayed in
//! that order on a map, each must read what it read, its conflict-free reads must fit one earlier
//! state, and in the end the store must hold what the map holds.
//!
//! In the interleaved tests one thread steps many open transactions at random: `STORE_SEED=n` replays
//! such a history exactly, and two runs of one are compared. The parallel ones draw the same operations,
//! but threads choose the moments.

#[cfg(feature = "fdb")]
mod fdb_cluster;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, mpsc},
};

use backend::{
    env::{Rng, SeededRng, SystemClock},
    store::*,
};
use bytes::Bytes;
use futures::executor::block_on;

const KEYS: u64 = 10;
const LOG: &[u8] = b"log/";
const LOG_END: &[u8] = b"log0";

type Pairs = Vec<(Bytes, Bytes)>;
type State = BTreeMap<Bytes, Bytes>;

/// What a transaction did, with what it was told.
#[derive(Clone, Debug)]
enum Step {
    Get { key: Bytes, mode: ReadMode, seen: Option<Bytes> },
    Range { query: RangeQuery, seen: Pairs },
    Set { key: Bytes, value: Bytes },
    Clear { key: Bytes },
    ClearRange { begin: Bytes, end: Bytes },
    Atomic { op: AtomicOp, key: Bytes, operand: u64 },
}

/// A transaction and how it ended.
struct Run {
    name: u64,
    steps: Vec<Step>,
    writes: bool,
    outcome: Result<Committed, StoreError>,
}

fn key(n: u64) -> Bytes {
    format!("k{n}").into()
}

fn draw_range(rng: &SeededRng) -> (Bytes, Bytes) {
    let (a, b) = (rng.next_u64() % (KEYS + 1), rng.next_u64() % (KEYS + 1));
    (key(a.min(b)), key(a.max(b)))
}

fn draw_mode(rng: &SeededRng) -> ReadMode {
    if rng.next_u64().is_multiple_of(4) { ReadMode::Snapshot } else { ReadMode::Serializable }
}

/// Does one random thing in `tx`.
fn step(rng: &SeededRng, tx: &Tx, writes: bool) -> Step {
    let any_key = key(rng.next_u64() % KEYS);
    match rng.next_u64() % if writes { 10 } else { 5 } {
        0..=2 => {
            let mode = draw_mode(rng);
            let reading = if mode == ReadMode::Snapshot { tx.snapshot_get(&any_key) } else { tx.get(&any_key) };
            Step::Get { seen: block_on(reading).expect("reads"), key: any_key, mode }
        }
        3..=4 => {
            let (begin, end) = draw_range(rng);
            let limit = 1 + rng.next_u64() as usize % 4;
            let query =
                RangeQuery { begin, end, limit, reverse: rng.next_u64().is_multiple_of(2), mode: draw_mode(rng) };
            let seen = block_on(tx.range(query.clone())).expect("reads").pairs;
            Step::Range { query, seen }
        }
        5..=6 => {
            let value = Bytes::copy_from_slice(&rng.next_u64().to_le_bytes());
            tx.set(any_key.clone(), value.clone());
            Step::Set { key: any_key, value }
        }
        7 => {
            tx.clear(&any_key);
            Step::Clear { key: any_key }
        }
        8 => {
            let (begin, end) = draw_range(rng);
            tx.clear_range(&begin, &end);
            Step::ClearRange { begin, end }
        }
        _ => {
            const OPS: [AtomicOp; 3] = [AtomicOp::Add, AtomicOp::Max, AtomicOp::Min];
            let (op, operand) = (OPS[rng.next_u64() as usize % OPS.len()], rng.next_u64() % 100);
            tx.atomic(op, &any_key, &operand.to_le_bytes());
            Step::Atomic { op, key: any_key, operand }
        }
    }
}

/// A transaction under way.
struct Open {
    name: u64,
    tx: Tx,
    writes: bool,
    steps: Vec<Step>,
}

impl Open {
    fn begin(store: &Store, rng: &SeededRng, name: u64) -> Open {
        let tx = store.begin().expect("begins");
        Open { name, tx, writes: !rng.next_u64().is_multiple_of(4), steps: Vec::new() }
    }

    fn step(&mut self, rng: &SeededRng) {
        self.steps.push(step(rng, &self.tx, self.writes));
    }

    fn commit(self, done: &mpsc::Sender<Run>) {
        let Open { name, tx, writes, steps } = self;
        if writes {
            tx.append_versionstamped(LOG, 0, b"", Bytes::copy_from_slice(&name.to_be_bytes()));
        }
        let done = done.clone();
        tx.commit_then(Box::new(move |outcome| {
            done.send(Run { name, steps, writes, outcome }).expect("somebody checks");
        }));
    }
}

/// One thread, many open transactions: the same seed gives the same history. `settle` has the last of them
/// answered.
fn interleaved(store: &Store, seed: u64, transactions: u64, settle: impl FnOnce()) -> Vec<Run> {
    let (done, runs) = mpsc::channel();
    let rng = SeededRng::new(seed);
    let mut open: Vec<Open> = Vec::new();
    let mut begun = 0;
    while begun < transactions || !open.is_empty() {
        let may_begin = begun < transactions && open.len() < 6;
        match rng.next_u64() % 6 {
            0 if may_begin => {
                open.push(Open::begin(store, &rng, begun));
                begun += 1;
            }
            1 if !open.is_empty() => {
                let at = rng.next_u64() as usize % open.len();
                open.swap_remove(at).commit(&done);
            }
            _ if !open.is_empty() => {
                let at = rng.next_u64() as usize % open.len();
                open[at].step(&rng);
            }
            _ => {}
        }
    }
    drop(done);
    settle();
    runs.iter().collect()
}

/// Threads of their own.
fn parallel(store: &Store, seed: u64, transactions: u64) -> Vec<Run> {
    const THREADS: u64 = 4;
    let (done, runs) = mpsc::channel();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let done = done.clone();
            scope.spawn(move || {
                let rng = SeededRng::new(seed ^ (thread << 56));
                for n in 0..transactions / THREADS {
                    let mut open = Open::begin(store, &rng, thread << 32 | n);
                    (0..1 + rng.next_u64() % 6).for_each(|_| open.step(&rng));
                    open.commit(&done);
                }
            });
        }
    });
    drop(done);
    runs.iter().collect()
}

/// The names in the log with their versions, in order.
fn read_log(store: &Store) -> Vec<(Version, u64)> {
    let page = read_all(store, LOG, LOG_END);
    let entry = |(key, value): (Bytes, Bytes)| {
        let version = Version::from_be_bytes(key[LOG.len()..LOG.len() + 8].try_into().expect("8 bytes"));
        (version, u64::from_be_bytes(value[..].try_into().expect("8 bytes")))
    };
    page.into_iter().map(entry).collect()
}

fn read_all(store: &Store, begin: &[u8], end: &[u8]) -> Pairs {
    let (begin, end) = (Bytes::copy_from_slice(begin), Bytes::copy_from_slice(end));
    let query = RangeQuery { begin, end, limit: usize::MAX, reverse: false, mode: ReadMode::Snapshot };
    block_on(store.begin().expect("begins").range(query)).expect("reads").pairs
}

/// Does `steps` on `state`; says whether the reads (the serialisable ones, or all) are answered as they were.
fn replay(state: &mut State, steps: &[Step], all_reads: bool) -> bool {
    let counts = |mode: ReadMode| all_reads || mode == ReadMode::Serializable;
    let mut fits = true;
    for step in steps {
        match step {
            Step::Get { key, mode, seen } => fits &= !counts(*mode) || state.get(key) == seen.as_ref(),
            Step::Range { query, seen } => fits &= !counts(query.mode) || range(state, query) == *seen,
            Step::Set { key, value } => drop(state.insert(key.clone(), value.clone())),
            Step::Clear { key } => drop(state.remove(key)),
            Step::ClearRange { begin, end } => state.retain(|key, _| key < begin || key >= end),
            Step::Atomic { op, key, operand } => {
                let old = state.get(key).map(|value| u64::from_le_bytes(value[..].try_into().expect("8 bytes")));
                let new = match (op, old) {
                    (_, None) => *operand,
                    (AtomicOp::Add, Some(old)) => old.wrapping_add(*operand),
                    (AtomicOp::Max, Some(old)) => old.max(*operand),
                    (AtomicOp::Min, Some(old)) => old.min(*operand),
                };
                state.insert(key.clone(), Bytes::copy_from_slice(&new.to_le_bytes()));
            }
        }
    }
    fits
}

fn range(state: &State, query: &RangeQuery) -> Pairs {
    let inside = state.iter().filter(|(key, _)| **key >= query.begin && **key < query.end);
    let mut pairs: Pairs = inside.map(|(key, value)| (key.clone(), value.clone())).collect();
    if query.reverse {
        pairs.reverse();
    }
    pairs.truncate(query.limit);
    pairs
}

/// Finds the order of `runs` and follows it. Returns how many committed.
fn check(store: &Store, runs: &[Run]) -> Result<usize, String> {
    let log = read_log(store);
    let by_name: HashMap<u64, &Run> = runs.iter().map(|run| (run.name, run)).collect();
    let logged: HashMap<u64, Version> = log.iter().map(|(version, name)| (*name, *version)).collect();
    if logged.len() != log.len() {
        return Err("a transaction happened twice".into());
    }
    for run in runs.iter().filter(|run| run.writes) {
        let happened = logged.get(&run.name);
        let fits = match &run.outcome {
            Ok(committed) => happened == Some(&committed.version),
            Err(StoreError::MaybeCommitted) => true,
            Err(_) => happened.is_none(),
        };
        if !fits {
            return Err(format!("{} was told {:?} and is in the log at {happened:?}", run.name, run.outcome));
        }
    }
    // The states after the versions of the log, with a first one that is empty.
    let mut states: Vec<(Version, State)> = vec![(0, State::new())];
    for (version, name) in &log {
        let run = by_name.get(name).ok_or_else(|| format!("{name} is nobody"))?;
        let fits_earlier = |(_, state): &(Version, State)| replay(&mut state.clone(), &run.steps, true);
        if !states.iter().rev().any(fits_earlier) {
            return Err(format!("{name} saw no state that ever was: {:#?}", run.steps));
        }
        let mut state = states.last().map(|(_, state)| state.clone()).unwrap_or_default();
        if !replay(&mut state, &run.steps, false) {
            return Err(format!("{name} at {version} read what was not so any more: {:#?}", run.steps));
        }
        states.push((*version, state));
    }
    for run in runs.iter().filter(|run| !run.writes) {
        let Ok(committed) = &run.outcome else { continue };
        let seen = states.iter().rev().find(|(version, _)| *version <= committed.version);
        if !seen.is_some_and(|(_, state)| replay(&mut state.clone(), &run.steps, true)) {
            return Err(format!("{} did not see the state of {}: {:#?}", run.name, committed.version, run.steps));
        }
    }
    let held: State = read_all(store, b"k", b"l").into_iter().collect();
    match states.last() {
        Some((_, last)) if *last == held => Ok(log.len()),
        _ => Err("the store holds something else than the log says".into()),
    }
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("STORE_SEED") {
        Ok(seed) => vec![seed.parse().expect("STORE_SEED is a number")],
        Err(_) => {
            let first = SeededRng::new(std::process::id().into()).next_u64();
            (0..count).map(|n| first.wrapping_add(n)).collect()
        }
    }
}

fn store_on(engine: Arc<dyn Engine>) -> Store {
    Store::new(engine, Arc::new(SystemClock::default()), Arc::new(SeededRng::new(1)), StoreOptions::default())
}

fn verify(seed: u64, store: &Store, runs: &[Run]) {
    match check(store, runs) {
        Ok(committed) => assert!(committed > 20, "seed {seed}: almost nothing committed"),
        Err(error) => {
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            panic!("replay with: STORE_SEED={seed} cargo test -p backend --test store_histories {test}\n{error}")
        }
    }
}

fn embedded(folder: &tempfile::TempDir) -> Store {
    let options = EmbeddedOptions { disk_reserve_bytes: 0, ..EmbeddedOptions::default() };
    let clock = Arc::new(SystemClock::default());
    store_on(Arc::new(Embedded::open(&folder.path().join("data"), options, clock).expect("opens")))
}

#[test]
fn interleaved_on_memory() {
    for seed in seeds(40) {
        println!("STORE_SEED={seed}");
        let store = store_on(Arc::new(Memory::new(seed, Faults::default())));
        verify(seed, &store, &interleaved(&store, seed, 150, || ()));
    }
}

#[test]
fn interleaved_on_memory_with_faults() {
    let faults = Faults { conflict: 50, maybe_committed: 80, maybe_lost: 80, unavailable: 30 };
    for seed in seeds(40) {
        println!("STORE_SEED={seed}");
        let memory = Memory::new(seed, faults);
        memory.delay_syncs(300);
        let store = store_on(Arc::new(memory.clone()));
        verify(seed, &store, &interleaved(&store, seed, 150, || memory.sync()));
    }
}

/// Goal: a history that failed can be had again. Without it a seed is worth nothing.
#[test]
fn the_same_seed_gives_the_same_history() {
    let faults = Faults { conflict: 50, maybe_committed: 80, maybe_lost: 80, unavailable: 30 };
    for seed in seeds(5) {
        let history = || {
            let memory = Memory::new(seed, faults);
            memory.delay_syncs(300);
            let store = store_on(Arc::new(memory.clone()));
            let runs = interleaved(&store, seed, 150, || memory.sync());
            let runs: Vec<_> = runs
                .into_iter()
                .map(|Run { name, steps, outcome, .. }| format!("{name} {steps:?} {outcome:?}"))
                .collect();
            (runs, read_all(&store, b"", b"\xff"))
        };
        assert!(history() == history(), "STORE_SEED={seed}");
    }
}

#[test]
fn interleaved_on_embedded() {
    for seed in seeds(6) {
        println!("STORE_SEED={seed}");
        let folder = tempfile::tempdir().expect("a folder");
        let store = embedded(&folder);
        verify(seed, &store, &interleaved(&store, seed, 300, || ()));
    }
}

#[test]
fn parallel_on_memory() {
    for seed in seeds(10) {
        println!("STORE_SEED={seed}");
        let store = store_on(Arc::new(Memory::new(seed, Faults::default())));
        verify(seed, &store, &parallel(&store, seed, 300));
    }
}

#[test]
fn parallel_on_embedded() {
    for seed in seeds(4) {
        println!("STORE_SEED={seed}");
        let folder = tempfile::tempdir().expect("a folder");
        let store = embedded(&folder);
        verify(seed, &store, &parallel(&store, seed, 400));
    }
}

/// In transactions that overlap on purpose, and on threads of their own.
#[cfg(feature = "fdb")]
#[test]
fn on_fdb() {
    let Some(cluster) = fdb_cluster::Cluster::start() else { return };
    for seed in seeds(20) {
        fdb_cluster::say(&format!("on_fdb: STORE_SEED={seed}"));
        let store = store_on(cluster.open(&format!("interleaved{seed}/"), 5_000));
        verify(seed, &store, &interleaved(&store, seed, 200, || ()));
        let store = store_on(cluster.open(&format!("parallel{seed}/"), 5_000));
        verify(seed, &store, &parallel(&store, seed, 400));
    }
}

/// The check itself: a history with a write that got lost must not pass.
#[test]
fn a_lost_update_is_found() {
    let store = store_on(Arc::new(Memory::new(1, Faults::default())));
    let (done, runs) = mpsc::channel();
    for name in 0..2 {
        let mut open = Open { name, tx: store.begin().expect("begins"), writes: true, steps: Vec::new() };
        let value = Bytes::copy_from_slice(&(name + 1).to_le_bytes());
        open.tx.set("k0", value.clone());
        // Both claim to have read nothing there.
        open.steps.push(Step::Get { key: key(0), mode: ReadMode::Serializable, seen: None });
        open.steps.push(Step::Set { key: key(0), value });
        open.commit(&done);
    }
    drop(done);
    let runs: Vec<Run> = runs.iter().collect();
    assert!(check(&store, &runs).is_err_and(|error| error.contains("not so any more")));
}

/// A crash of the memory engine takes back exactly what nobody was told: the log is the beginning of
/// what was committed, with all that was acknowledged in it.
#[test]
fn a_crash_takes_back_only_what_was_not_acknowledged() {
    for seed in seeds(50) {
        println!("STORE_SEED={seed}");
        let rng = SeededRng::new(seed);
        let memory = Memory::new(seed, Faults::default());
        let store = store_on(Arc::new(memory.clone()));
        memory.hold_syncs();
        let (done, outcomes) = mpsc::channel();
        let commits = 1 + rng.next_u64() % 30;
        for name in 0..commits {
            let done = done.clone();
            let tx = store.begin().expect("begins");
            tx.append_versionstamped(LOG, 0, b"", Bytes::copy_from_slice(&name.to_be_bytes()));
            tx.add(b"count", 1);
            tx.commit_then(Box::new(move |outcome| done.send((name, outcome)).expect("somebody checks")));
            if rng.next_u64().is_multiple_of(8) {
                memory.sync();
            }
        }
        memory.crash();
        drop(done);
        let outcomes: Vec<_> = outcomes.iter().collect();
        assert_eq!(outcomes.len() as u64, commits, "seed {seed}: everybody is told once");
        let acknowledged = outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).count();
        let names: Vec<u64> = read_log(&store).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, (0..acknowledged as u64).collect::<Vec<_>>(), "seed {seed}");
        let count = block_on(store.begin().expect("begins").get(b"count")).expect("reads");
        let count = count.map_or(0, |value| u64::from_le_bytes(value[..].try_into().expect("8 bytes")));
        assert_eq!(count, acknowledged as u64, "seed {seed}: the counter agrees with the log");
    }
}
