//! What FoundationDB gives through the seam and the domain: sends with and without group commit, latencies,
//! and how busy the client library's network thread is.
//!
//!     cargo run --release -p backend --features fdb --example fdb_bench -- CLUSTER_FILE [SECONDS]
//!
//! Writes under the prefix `bench/` of the cluster and leaves it there.

#![allow(clippy::expect_used, clippy::unwrap_used)] // a tool for developers: a panic is its report

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use backend::{
    domain::{
        AppId, UserId, account,
        act::Act,
        applications::{self, NewApplication},
        message::NewMessage,
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        unsettled::Late,
        usersig,
    },
    env::{Clock, SeededRng, SystemClock},
    store::{
        Committed, Lane, Store, StoreError, StoreOptions, Tx,
        fdb::{Fdb, FdbOptions},
    },
};
use futures::executor::block_on;
use prost::Message as _;
use protocol::message::{Body, Element, Text, element::Kind};

const APP: AppId = 7;
const SECRET: &str = "for measuring only";
const TEXT_BYTES: usize = 200;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().expect("the path of a cluster file");
    let run = Duration::from_secs(arguments.next().map_or(10, |seconds| seconds.parse().expect("seconds")));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let options = FdbOptions { prefix: b"bench/".into(), ..FdbOptions::default() };
    let engine = Arc::new(Fdb::open(Path::new(&file), options, clock.clone()).expect("opens"));
    let store = Store::new(engine, clock.clone(), Arc::new(SeededRng::new(1)), StoreOptions::default());
    let users = log_in(&store, &clock, 1024);

    println!("one after the other, in milliseconds");
    latencies(&store, run);
    println!("\nsends a second: one transaction each, so many under way");
    for in_flight in [1, 32, 256] {
        concurrent(&store, in_flight, run);
    }
    println!("\nsends a second: the gateway's queue, one transaction at a time, so many sends under way");
    for (in_flight, batch_max) in [(256, 1), (256, 512), (1024, 128), (1024, 512)] {
        queued(&store, &clock, &users, in_flight, batch_max, run);
    }
    store.shutdown();
}

fn log_in(store: &Store, clock: &Arc<dyn Clock>, count: usize) -> Vec<UserId> {
    block_on(applications::put_application(store, clock, NewApplication::new(APP, SECRET))).expect("puts");
    let log_in = |n: usize| {
        let user = UserId::new(&format!("user{n}")).expect("a name");
        let usersig = usersig::sign(APP, SECRET, user.as_str(), clock.unix_ms() / 1000, 3600);
        block_on(account::login(store, clock, false, APP, &user, usersig)).expect("logs in");
        user
    };
    (0..count).map(log_in).collect()
}

/// Read version, read and commit of small transactions.
fn latencies(store: &Store, run: Duration) {
    let (mut versions, mut reads, mut commits) = (Vec::new(), Vec::new(), Vec::new());
    let end = Instant::now() + run;
    for n in 0u64.. {
        if Instant::now() >= end {
            break;
        }
        let tx = store.begin().expect("begins");
        let key = format!("latency/{}", n % 1000);
        timed(&mut versions, || block_on(tx.read_version()).expect("a version"));
        timed(&mut reads, || block_on(tx.get(key.as_bytes())).expect("reads"));
        tx.set(key, vec![1; TEXT_BYTES]);
        timed(&mut commits, || block_on(tx.commit()).expect("commits"));
    }
    for (what, times) in [("read version", versions), ("read", reads), ("commit", commits)] {
        println!("  {what:12} {}", percentiles(times));
    }
}

/// Transactions like a send's: one read, one record, one counter, two entries of logs.
fn concurrent(store: &Store, in_flight: usize, run: Duration) {
    let (done, finished) = mpsc::channel();
    let start = |n: u64| {
        let (done, began) = (done.clone(), Instant::now());
        let body = async move |tx: &Tx| -> Result<(), StoreError> {
            let key = format!("sent/{}/{n}", std::process::id());
            tx.get(key.as_bytes()).await?;
            tx.set(key, vec![1; TEXT_BYTES]);
            tx.add(format!("count/{}", n % 64).as_bytes(), 1);
            tx.append_versionstamped(format!("log/{}/", n % 64).as_bytes(), 0, b"", "entry");
            tx.append_versionstamped(format!("log/{}/", (n + 1) % 64).as_bytes(), 1, b"", "entry");
            Ok(())
        };
        let tell = move |result: Result<_, StoreError>| {
            let _ = done.send((began.elapsed(), result.is_ok())); // after the measurement nobody listens
        };
        store.run_then(Lane::Read, "single", body, tell);
    };
    let (cpu, began) = (threads_cpu(), Instant::now());
    (0..in_flight as u64).for_each(start);
    let (mut times, mut next) = (Vec::new(), in_flight as u64);
    while began.elapsed() < run {
        let (took, stored) = finished.recv().expect("transactions are answered");
        assert!(stored, "a transaction failed");
        times.push(took);
        start(next);
        next += 1;
    }
    report(&format!("{in_flight} under way"), times, began.elapsed(), &cpu);
    finished.iter().take(in_flight).for_each(|_| ());
}

struct Finished(mpsc::Sender<Vec<Completion<Instant>>>);

impl Outbox for Finished {
    type Origin = Instant;

    fn complete(&self, batch: Vec<Completion<Instant>>, _: Option<Committed>) {
        let _ = self.0.send(batch); // after the measurement nobody listens
    }

    fn late(&self, _: Vec<Late>) {}
}

/// Real sends through the queue: each answer makes room for the next.
fn queued(store: &Store, clock: &Arc<dyn Clock>, users: &[UserId], in_flight: usize, batch_max: usize, run: Duration) {
    let (sender, finished) = mpsc::channel();
    let limits = SendLimits { batch_max, ..SendLimits::default() };
    let queue = SendQueue::new(store.clone(), clock.clone(), limits, Finished(sender));
    let text = Text { text: "x".repeat(TEXT_BYTES) };
    let body = Body { elements: vec![Element { kind: Some(Kind::Text(text)) }], ..Body::default() }.encode_to_vec();
    let salt = clock.unix_ms();
    let submit = |n: usize| {
        let (from, to) = (users[n % users.len()].clone(), users[(n + 1) % users.len()].clone());
        let client_message_id = format!("{salt}-{n}").into();
        let message = NewMessage::new(APP, from, to, client_message_id, body.clone().into());
        queue.submit(Instant::now(), Act::Send(message)).expect("there is room");
    };
    let (cpu, began) = (threads_cpu(), Instant::now());
    (0..in_flight).for_each(submit);
    let (mut times, mut next, mut batches) = (Vec::new(), in_flight, 0);
    while began.elapsed() < run {
        let batch = finished.recv().expect("sends are answered");
        batches += 1;
        for completion in batch {
            completion.outcome.expect("is stored");
            times.push(completion.origin.elapsed());
            submit(next);
            next += 1;
        }
    }
    let mean = times.len() / batches.max(1);
    report(
        &format!("{in_flight} under way, at most {batch_max} a batch ({mean} on average)"),
        times,
        began.elapsed(),
        &cpu,
    );
    let mut answered = 0;
    while answered < in_flight {
        answered += finished.recv().map_or(in_flight, |batch| batch.len());
    }
}

fn timed<T>(times: &mut Vec<Duration>, act: impl FnOnce() -> T) {
    let began = Instant::now();
    act();
    times.push(began.elapsed());
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    format!("p50 {:.2}  p99 {:.2}  p99.9 {:.2}  ({})", at(0.5), at(0.99), at(0.999), times.len())
}

fn report(what: &str, times: Vec<Duration>, took: Duration, cpu_before: &BTreeMap<String, f64>) {
    let per_second = times.len() as f64 / took.as_secs_f64();
    println!("  {what}: {per_second:.0}/s, ms {}", percentiles(times));
    let mut busy: Vec<_> = threads_cpu()
        .into_iter()
        .map(|(name, seconds)| (seconds - cpu_before.get(&name).copied().unwrap_or(0.0), name))
        .filter(|(seconds, _)| *seconds > 0.02 * took.as_secs_f64())
        .collect();
    busy.sort_by(|one, other| other.0.total_cmp(&one.0));
    let shares = busy.iter().map(|(seconds, name)| format!("{name} {:.0}%", 100.0 * seconds / took.as_secs_f64()));
    println!("      processor time of this process's threads: {}", shares.collect::<Vec<_>>().join(", "));
}

/// Processor time of each thread of this process, in seconds, by name.
fn threads_cpu() -> BTreeMap<String, f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let mut by_name = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").expect("Linux").flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { continue };
        let Some((name, rest)) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')) else { continue };
        let ticks: f64 = rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        *by_name.entry(format!("{name}/{}", task.file_name().display())).or_insert(0.0) += ticks / TICKS_PER_SECOND;
    }
    by_name
}
