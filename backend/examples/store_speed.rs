//! How many durable transactions a second the embedded engine makes, and what our layer costs.
//!
//! Writers each put one value under a new key, wait until it is durable, and go on. For every number of
//! writers and size of a value, in turn and several times, in one run:
//! - `store`: through the seam, `Store::run` on the write lane, conflict detection and retry included;
//! - `fjall`: the bare database, each writer committing by itself, with the least that makes commits durable
//!   together: one thread that syncs for all who wait;
//! - `fsync`: a file that is appended to and synced, again and again, by one thread: the disk alone.
//!
//! Prints the medians of the rounds, the ratio of the first two, and the processor time that each took for a
//! transaction, which says more than the rate on a machine that is not quiet.
//!
//! ```text
//! cargo run --release -p backend --example store_speed -- [rounds] [milliseconds each] [folder]
//! ```

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use backend::{
    env::{Clock, SeededRng, SystemClock},
    store::{Embedded, EmbeddedOptions, Lane, Store, StoreError, StoreOptions, Tx},
};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use futures::executor::block_on;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE_BYTES: [usize; 3] = [100, 1_000, 10_000];
const WRITERS: [usize; 5] = [1, 4, 16, 64, 256];

fn argument(n: usize, default: u64) -> u64 {
    std::env::args().nth(n).map_or(default, |text| text.parse().expect("a number"))
}

fn main() {
    let rounds = argument(1, 5) as usize;
    let time = Duration::from_millis(argument(2, 700));
    let folder = std::env::args().nth(3).map_or_else(|| PathBuf::from("target/store_speed"), PathBuf::from);
    println!("{rounds} rounds of {} ms each; medians, transactions a second", time.as_millis());
    println!("  bytes  writers      store      fjall  store/fjall      fsync   store µs   fjall µs");
    for value_bytes in VALUE_BYTES {
        for writers in WRITERS {
            let (mut store, mut fjall, mut fsync) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..rounds {
                store.push(measure_store(&folder, writers, value_bytes, time));
                fjall.push(measure_fjall(&folder, writers, value_bytes, time));
                fsync.push(measure_fsync(&folder, value_bytes, time / 2));
            }
            // Of the same round: what disturbs one disturbs the other.
            let ratio = median(store.iter().zip(&fjall).map(|(store, fjall)| store.rate / fjall.rate));
            let rates = [&store, &fjall].map(|rounds| median(rounds.iter().map(|round| round.rate)));
            let cpu_us = [&store, &fjall].map(|rounds| median(rounds.iter().map(|round| round.cpu_us)));
            println!(
                "{value_bytes:>7} {writers:>8} {:>10.0} {:>10.0} {ratio:>12.2} {:>10.0} {:>10.1} {:>10.1}",
                rates[0],
                rates[1],
                median(fsync.into_iter()),
                cpu_us[0],
                cpu_us[1]
            );
        }
    }
    let _ = fs::remove_dir_all(&folder); // only what was made here
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One round.
struct Round {
    /// Transactions a second.
    rate: f64,
    /// Processor time of the whole process for one.
    cpu_us: f64,
}

/// Processor time of this process so far, threads that have ended included.
fn process_cpu_us() -> f64 {
    const TICK_US: f64 = 10_000.0;
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let behind_name = stat.rsplit(')').next().expect("a name in brackets");
    let ticks = behind_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number"));
    ticks.sum::<f64>() * TICK_US
}

/// Has `writers` threads call `write` with numbers of their own until the time is over. What comes first
/// does not count: the file system is still busy with the new folder.
fn measure(writers: usize, time: Duration, write: impl Fn(u64) + Sync) -> Round {
    let (number, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut round = Round { rate: 0.0, cpu_us: 0.0 };
    thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    write(number.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
        thread::sleep(time / 2);
        let (start, cpu_before_us, before) = (Instant::now(), process_cpu_us(), number.load(Ordering::Relaxed));
        thread::sleep(time);
        let count = (number.load(Ordering::Relaxed) - before) as f64;
        round.rate = count / start.elapsed().as_secs_f64();
        round.cpu_us = (process_cpu_us() - cpu_before_us) / count;
        stop.store(true, Ordering::Relaxed);
    });
    round
}

/// Spread over the key space, as hashes of users are.
fn key(n: u64) -> [u8; 16] {
    let mut key = [b'k'; 16];
    key[1..9].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key
}

fn fresh(folder: &Path) -> PathBuf {
    let _ = fs::remove_dir_all(folder); // there may be none
    fs::create_dir_all(folder).expect("makes");
    folder.join("data")
}

fn measure_store(folder: &Path, writers: usize, value_bytes: usize, time: Duration) -> Round {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let engine = Embedded::open(&fresh(folder), EmbeddedOptions::default(), clock.clone()).expect("opens");
    let store = Store::new(Arc::new(engine), clock, Arc::new(SeededRng::new(1)), StoreOptions::default());
    let value: bytes::Bytes = vec![b'v'; value_bytes].into();
    let round = measure(writers, time, |n| {
        let value = value.clone();
        let put = async move |tx: &Tx| -> Result<(), StoreError> {
            tx.set(key(n).to_vec(), value.clone());
            Ok(())
        };
        block_on(store.run(Lane::Write, "put", put)).expect("commits");
    });
    store.shutdown();
    round
}

/// The bare database, and the least that makes commits durable together.
struct Bare {
    database: Database,
    keyspace: Keyspace,
    /// Commits so far, and how many of them are durable.
    state: Mutex<(u64, u64)>,
    changed: Condvar,
    stop: AtomicBool,
}

impl Bare {
    fn lock(&self) -> MutexGuard<'_, (u64, u64)> {
        self.state.lock().expect("sound")
    }

    fn put(&self, key: [u8; 16], value: &[u8]) {
        let mut batch = OwnedWriteBatch::with_capacity(self.database.clone(), 1).durability(Some(PersistMode::Buffer));
        batch.insert(&self.keyspace, &key[..], value);
        batch.commit().expect("commits");
        let mut state = self.lock();
        state.0 += 1;
        let own = state.0;
        self.changed.notify_all();
        while state.1 < own {
            state = self.changed.wait(state).expect("sound");
        }
    }

    fn sync_all(&self) {
        let mut state = self.lock();
        while !self.stop.load(Ordering::Relaxed) {
            if state.0 == state.1 {
                state = self.changed.wait_timeout(state, Duration::from_millis(10)).expect("sound").0;
                continue;
            }
            let newest = state.0;
            drop(state);
            self.database.persist(PersistMode::SyncData).expect("syncs");
            state = self.lock();
            state.1 = newest;
            self.changed.notify_all();
        }
    }
}

fn measure_fjall(folder: &Path, writers: usize, value_bytes: usize, time: Duration) -> Round {
    let options = EmbeddedOptions::default();
    let database = Database::builder(fresh(folder))
        .cache_size(options.cache_bytes)
        .max_journaling_size(options.journal_bytes_max)
        .worker_threads(options.worker_threads)
        .max_cached_files(Some(options.open_files_max))
        .journal_compression(fjall::CompressionType::None)
        .open()
        .expect("opens");
    let create = || KeyspaceCreateOptions::default().max_memtable_size(options.memtable_bytes);
    let keyspace = database.keyspace("data", create).expect("makes");
    let (state, changed, stop) = Default::default();
    let bare = Arc::new(Bare { database, keyspace, state, changed, stop });
    let syncer = thread::spawn({
        let bare = bare.clone();
        move || bare.sync_all()
    });
    let value = vec![b'v'; value_bytes];
    let round = measure(writers, time, |n| bare.put(key(n), &value));
    bare.stop.store(true, Ordering::Relaxed);
    syncer.join().expect("ends");
    round
}

fn measure_fsync(folder: &Path, value_bytes: usize, time: Duration) -> f64 {
    let mut file = File::create(fresh(folder)).expect("makes");
    // Space taken in advance, as journals do.
    file.set_len(64 << 20).expect("grows");
    let value = vec![b'v'; value_bytes];
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < time {
        file.write_all(&value).expect("writes");
        file.sync_data().expect("syncs");
        count += 1;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}
