//! Goal: a FoundationDB cluster that goes away costs errors, never an answer that is wrong or missing,
//! and service resumes by itself.
//!
//! Mechanics: a live cluster is frozen (SIGSTOP: connections stay, answers don't), later killed and
//! started again, under counters in both lanes. What was acknowledged must be counted once.
#![cfg(feature = "fdb")]

mod fdb_cluster;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use backend::{
    env::{SeededRng, SystemClock},
    store::{
        fdb::{Fdb, FdbOptions, OpenError},
        *,
    },
};
use fdb_cluster::{Cluster, say};
use futures::executor::block_on;

const TIMEOUT_MS: u32 = 1_000;
const PATIENCE: Duration = Duration::from_secs(60);

fn store(cluster: &Cluster) -> Store {
    let options = StoreOptions { retry_deadline_ms: 1_500, ..StoreOptions::default() };
    let clock = Arc::new(SystemClock::default());
    Store::new(cluster.open("outage/", TIMEOUT_MS), clock, Arc::new(SeededRng::new(1)), options)
}

/// Counts one, exactly once for each `id` however often it is tried. Under way from the call on.
fn count(store: &Store, lane: Lane, id: u32) -> impl Future<Output = Result<(), StoreError>> + use<> {
    let body = async move |tx: &Tx| -> Result<(), StoreError> {
        let key = format!("id/{id}");
        if tx.get(key.as_bytes()).await?.is_none() {
            tx.set(key, "");
            tx.add(b"count", 1);
        }
        Ok(())
    };
    let counting = store.run(lane, "count", body);
    async { counting.await.map(drop) }
}

/// Tries until the store answers again.
fn count_in_the_end(store: &Store, lane: Lane, id: u32) -> Duration {
    let began = Instant::now();
    while let Err(error) = block_on(count(store, lane, id)) {
        let expected = matches!(error, StoreError::Unavailable(_) | StoreError::MaybeCommitted | StoreError::TooOld);
        assert!(expected, "{error:?}");
        assert!(began.elapsed() < PATIENCE, "the store does not come back: {error}");
        std::thread::sleep(Duration::from_millis(20));
    }
    began.elapsed()
}

fn counted(store: &Store) -> u64 {
    let read = async |tx: &Tx| tx.get(b"count").await;
    let (value, _) = block_on(store.run(Lane::Read, "read", read)).expect("reads");
    u64::from_le_bytes(value.expect("something was counted")[..].try_into().expect("8 bytes"))
}

/// One test, because the client library serves a process once.
#[test]
fn outages() {
    let cluster = Cluster::start();
    without_a_cluster_every_caller_is_told_in_time();
    if let Some(cluster) = cluster {
        an_outage_is_told_and_survived(cluster);
    }
}

/// Needs the client library alone: nobody listens where the cluster file points.
fn without_a_cluster_every_caller_is_told_in_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("fdb.cluster");
    let clock = Arc::new(SystemClock::default());
    assert!(Fdb::open(&file, FdbOptions::default(), clock.clone()).is_err(), "a missing file is told at once");
    std::fs::write(&file, "test:test@127.0.0.1:1\n").expect("writes");
    let too_long = FdbOptions { prefix: vec![b'p'; PREFIX_BYTES_MAX + 1], ..FdbOptions::default() };
    assert!(matches!(Fdb::open(&file, too_long, clock.clone()), Err(OpenError::Prefix)));

    let options = FdbOptions { timeout_ms: TIMEOUT_MS, ..FdbOptions::default() };
    let engine = Arc::new(Fdb::open(&file, options, clock.clone()).expect("opens without the cluster"));
    let store = Store::new(engine, clock, Arc::new(SeededRng::new(1)), StoreOptions::default());
    let blind = store.begin().expect("begins");
    blind.set("a", "1");
    let began = Instant::now();
    // All wait for the same lost cluster, not one after the other.
    let waiting: Vec<_> = (0..50).map(|id| count(&store, Lane::Read, id)).collect();
    for result in waiting.into_iter().map(block_on) {
        assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
    }
    assert_eq!(block_on(blind.commit()), Err(StoreError::MaybeCommitted), "a commit that was sent");
    assert!(began.elapsed() < Duration::from_millis(3 * u64::from(TIMEOUT_MS)), "{:?}", began.elapsed());

    let began = Instant::now();
    for id in 0..50 {
        assert!(matches!(block_on(count(&store, Lane::Write, id)), Err(StoreError::Unavailable(_))));
    }
    assert!(began.elapsed() < Duration::from_millis(500), "refused at once from then on: {:?}", began.elapsed());
    let began = Instant::now();
    store.shutdown();
    assert!(began.elapsed() < Duration::from_secs(2), "stops in time: {:?}", began.elapsed());
}

fn an_outage_is_told_and_survived(mut cluster: Cluster) {
    let store = store(&cluster);
    let lanes = [Lane::Write, Lane::Read];
    for (id, lane) in (0..20).zip(lanes.into_iter().cycle()) {
        block_on(count(&store, lane, id)).expect("counts");
    }

    a_transaction_that_takes_too_long_is_no_outage(&store);

    cluster.freeze();
    for (id, lane) in (20..22).zip(lanes) {
        let began = Instant::now();
        let result = block_on(count(&store, lane, id));
        let took = began.elapsed();
        say(&format!("frozen, {lane:?} lane: {result:?} after {took:?}"));
        assert!(matches!(result, Err(StoreError::Unavailable(_) | StoreError::MaybeCommitted)), "{result:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    let began = Instant::now();
    assert!(matches!(block_on(count(&store, Lane::Write, 20)), Err(StoreError::Unavailable(_))));
    assert!(began.elapsed() < Duration::from_millis(500), "refused at once while the cluster is known to be lost");

    cluster.thaw();
    for (id, lane) in (20..22).zip(lanes) {
        say(&format!("thawed, {lane:?} lane: back after {:?}", count_in_the_end(&store, lane, id)));
    }

    // Transactions under way when the process dies.
    let under_way: Vec<_> = (22..72).map(|id| count(&store, lanes[id as usize % 2], id)).collect();
    cluster.restart();
    let results: Vec<_> = under_way.into_iter().map(block_on).collect();
    say(&format!("restarted: {} of 50 under way were acknowledged", results.iter().flatten().count()));
    for (id, _) in (22..).zip(&results).filter(|(_, result)| result.is_err()) {
        count_in_the_end(&store, Lane::Write, id);
    }
    assert_eq!(counted(&store), 72, "each once");
    store.shutdown();
}

fn a_transaction_that_takes_too_long_is_no_outage(store: &Store) {
    let read_on = async |tx: &Tx| -> Result<(), StoreError> {
        for number in 0_u64.. {
            tx.get(&number.to_be_bytes()).await?;
        }
        Ok(())
    };
    let (told, ended) = std::sync::mpsc::channel();
    let others = store.clone();
    store.run_then(Lane::Read, "too long", read_on, move |result| {
        told.send((result, others.begin().is_ok())).expect("somebody listens");
    });
    let (result, others_begin) = ended.recv().expect("it ends");
    assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
    assert!(others_begin, "nobody else is refused for it");
}
