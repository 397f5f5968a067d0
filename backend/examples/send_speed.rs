//! How fast the embedded engine takes the domain's sends, and what they cost.
//!
//! Runs transactions of nearly the shape of `domain::send` (which also reads what the recipient says of the
//! sender) through `run_then` on the write lane: for each message three reads (idempotency record: absent;
//! account: there; conversation head) and five writes. Prints durable messages a second and the processor time per message of each thread, which
//! says more than the rate on a machine that is not quiet.
//!
//! ```text
//! cargo run --release -p backend --example send_speed -- [messages] [batch] [transactions in flight] [users] [folder]
//! ```

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, mpsc},
    time::Instant,
};

use backend::{
    domain::{
        UserId,
        keys::{self, Conversation},
    },
    env::{Clock, Rng, SeededRng, SystemClock},
    store::{Committed, Embedded, EmbeddedOptions, Lane, Store, StoreError, StoreOptions, Tx},
};
use bytes::Bytes;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const APP: u32 = 1_400_000_001;
const BODY_BYTES: usize = 120;
/// Others that each user talks to.
const PEERS: usize = 5;

/// One message to store.
struct Send {
    from: UserId,
    to: UserId,
    id: [u8; 16],
}

fn argument(n: usize, default: usize) -> usize {
    std::env::args().nth(n).map_or(default, |text| text.parse().expect("a number"))
}

fn main() {
    let (messages, batch, in_flight) = (argument(1, 400_000), argument(2, 100), argument(3, 4));
    let users: Arc<Vec<UserId>> = Arc::new((0..argument(4, 20_000)).map(user).collect());
    let folder = std::env::args().nth(5).map_or_else(|| PathBuf::from("target/send_speed"), PathBuf::from);
    let _ = fs::remove_dir_all(&folder); // there may be none

    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let engine = Embedded::open(&folder, EmbeddedOptions::default(), clock.clone()).expect("opens");
    let store = Store::new(Arc::new(engine), clock, Arc::new(SeededRng::new(1)), StoreOptions::default());
    create_accounts(&store, &users);

    let rng = SeededRng::new(7);
    let (done, finished) = mpsc::channel::<Instant>();
    let transactions = messages / batch;
    let (mut started, mut latencies_us) = (0, Vec::with_capacity(transactions));
    let (cpu_before, start) = (cpu_us_by_thread(), Instant::now());
    while latencies_us.len() < transactions {
        while started < transactions && started - latencies_us.len() < in_flight {
            submit(&store, draw(&rng, &users, batch), done.clone());
            started += 1;
        }
        let begun = finished.recv().expect("the store lives");
        latencies_us.push(begun.elapsed().as_micros() as u64);
    }
    let elapsed = start.elapsed();
    let cpu_after = cpu_us_by_thread();

    latencies_us.sort_unstable();
    let percentile = |share: f64| latencies_us[((latencies_us.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    let stored = (transactions * batch) as f64;
    println!(
        "{:.0} messages/s ({batch} a transaction, {in_flight} in flight); latency ms p50 {:.1} p99 {:.1} max {:.1}",
        stored / elapsed.as_secs_f64(),
        percentile(0.5),
        percentile(0.99),
        percentile(1.0),
    );
    let total: u64 = cpu_after.values().sum::<u64>() - cpu_before.values().sum::<u64>();
    print!("processor µs per message: {:.1} in all", total as f64 / stored);
    for (thread, after) in &cpu_after {
        let spent = after - cpu_before.get(thread).unwrap_or(&0);
        print!(", {thread} {:.1}", spent as f64 / stored);
    }
    println!();
}

fn user(n: usize) -> UserId {
    UserId::new(&format!("user-{n:07}")).expect("a name")
}

fn create_accounts(store: &Store, users: &[UserId]) {
    for chunk in users.chunks(1000) {
        let keys: Vec<Bytes> = chunk.iter().map(|user| keys::account(APP, user)).collect();
        let create = async move |tx: &Tx| -> Result<(), StoreError> {
            keys.iter().for_each(|key| tx.set(key.clone(), vec![8, 200, 1, 1, 1, 1]));
            Ok(())
        };
        futures::executor::block_on(store.run(Lane::Write, "accounts", create)).expect("commits");
    }
}

fn draw(rng: &SeededRng, users: &[UserId], batch: usize) -> Vec<Send> {
    let id = || (u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())).to_be_bytes();
    (0..batch)
        .map(|_| {
            // Users talk to a few others, again and again.
            let from = rng.next_u64() as usize % users.len();
            let to = (from + 1 + rng.next_u64() as usize % PEERS) % users.len();
            Send { from: users[from].clone(), to: users[to].clone(), id: id() }
        })
        .collect()
}

fn submit(store: &Store, sends: Vec<Send>, done: mpsc::Sender<Instant>) {
    let begun = Instant::now();
    let body = async move |tx: &Tx| -> Result<(), StoreError> {
        let mut stamps = 0;
        for send in &sends {
            stage(tx, send, &mut stamps).await?;
        }
        Ok(())
    };
    store.run_then(Lane::Write, "send", body, move |result: Result<((), Committed), StoreError>| {
        result.expect("commits");
        let _ = done.send(begun); // the end of the program
    });
}

async fn stage(tx: &Tx, send: &Send, stamps: &mut u16) -> Result<(), StoreError> {
    let sent_key = keys::sent(APP, &send.from, &send.id);
    assert!(tx.get(&sent_key).await?.is_none(), "a new message");
    assert!(tx.get(&keys::account(APP, &send.to)).await?.is_some(), "an account");
    let conversation = Conversation::between(&send.from, &send.to);
    let head_key = keys::conversation_head(APP, conversation);
    let head = tx.get(&head_key).await?.map_or(0, |bytes| u64::from_le_bytes(bytes[..].try_into().expect("8 bytes")));
    tx.set(head_key, (head + 1).to_le_bytes().to_vec());
    tx.set(keys::message(APP, conversation, head + 1), vec![b'm'; BODY_BYTES + 60]);
    tx.set(sent_key, vec![b's'; 24]);
    for owner in [&send.from, &send.to] {
        tx.append_versionstamped(&keys::event_prefix(APP, owner), *stamps, &[], vec![b'e'; 20]);
        *stamps += 1;
    }
    Ok(())
}

/// Processor time so far, by thread name.
fn cpu_us_by_thread() -> BTreeMap<String, u64> {
    let mut by_name = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").expect("Linux").flatten() {
        // Nanoseconds on a processor; the thread may have ended meanwhile.
        let Ok(schedstat) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        let Ok(name) = fs::read_to_string(task.path().join("comm")) else { continue };
        let spent_ns: u64 = schedstat.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        *by_name.entry(name.trim().to_owned()).or_default() += spent_ns / 1000;
    }
    by_name
}
