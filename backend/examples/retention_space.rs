//! Whether the embedded engine gives back what retention removes, and how fast it is removed.
//!
//! Days pass by a clock of its own: on each, messages are sent, and what is a week old is removed. After
//! three weeks nothing is sent any more. Prints what the folder takes at the end of every day: it must
//! stop growing after the first week, and shrink when nothing is sent.
//!
//! ```text
//! cargo run --release -p backend --example retention_space -- [messages a day] [users] [folder]
//! ```

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Instant,
};

use backend::{
    domain::{
        AppId, UserId, account,
        act::Act,
        applications::{self, NewApplication},
        message::NewMessage,
        retention::{Keep, Retention},
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        unsettled::Late,
        usersig,
    },
    env::{Clock, Rng, SeededRng, SystemClock, UnixMillis},
    store::{Committed, Embedded, EmbeddedOptions, Store, StoreOptions},
};
use futures::executor::block_on;
use prost::Message as _;
use protocol::message::{Body, Element, Text, element::Kind};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const APP: AppId = 1_400_000_009;
const SECRET: &str = "a secret for measurements only";
const HOUR_MS: u64 = 3_600_000;
const DAYS: u64 = 30;
const DAYS_WITH_MESSAGES: u64 = 21;
const IN_FLIGHT: usize = 2000;
const TEXT_BYTES: usize = 200;

/// Dates of its own, and the machine's time for what is measured.
struct Calendar {
    unix_ms: AtomicU64,
    machine: SystemClock,
}

impl Clock for Calendar {
    fn unix_ms(&self) -> UnixMillis {
        self.unix_ms.load(Ordering::Relaxed)
    }

    fn monotonic_us(&self) -> u64 {
        self.machine.monotonic_us()
    }
}

struct Answers(mpsc::Sender<()>);

impl Outbox for Answers {
    type Origin = ();

    fn complete(&self, batch: Vec<Completion<()>>, _: Option<Committed>) {
        for completion in batch {
            completion.outcome.expect("is stored");
            self.0.send(()).expect("somebody waits");
        }
    }

    fn late(&self, _: Vec<Late>) {}
}

fn argument(n: usize, default: u64) -> u64 {
    std::env::args().nth(n).map_or(default, |text| text.parse().expect("a number"))
}

fn main() {
    let (messages, users) = (argument(1, 100_000), argument(2, 1_000));
    let folder = std::env::args().nth(3).map_or_else(|| PathBuf::from("target/retention_space"), PathBuf::from);
    let _ = fs::remove_dir_all(&folder); // there may be none
    let clock = Arc::new(Calendar { unix_ms: AtomicU64::new(20_000 * 24 * HOUR_MS), machine: SystemClock::default() });
    let engine = Embedded::open(&folder, EmbeddedOptions::default(), clock.clone()).expect("opens");
    let rng = Arc::new(SeededRng::new(1));
    let store = Store::new(Arc::new(engine), clock.clone(), rng.clone(), StoreOptions::default());
    let users = make_users(&store, clock.clone(), users);
    let (sender, answers) = mpsc::channel();
    let queue = SendQueue::new(store.clone(), clock.clone(), SendLimits::default(), Answers(sender));
    let keep = Keep { message_days: 7, event_days: 7 };
    let retention = Retention::new(store.clone(), clock.clone(), &*rng, keep);
    println!("{:>4} {:>10} {:>10} {:>10} {:>12} {:>10}", "day", "sent", "removed", "events", "removed/s", "MB on disk");
    for day in 1..=DAYS {
        let mut removed = (0, 0, 0.0);
        for _ in 0..24 {
            let hourly = if day <= DAYS_WITH_MESSAGES { messages / 24 } else { 0 };
            send(&queue, &answers, &users, &*rng, hourly);
            clock.unix_ms.fetch_add(HOUR_MS, Ordering::Relaxed);
            let start = Instant::now();
            loop {
                let round = block_on(retention.round()).expect("removes");
                removed.0 += round.messages;
                removed.1 += round.events;
                if !round.more {
                    break;
                }
            }
            removed.2 += start.elapsed().as_secs_f64();
        }
        let sent = if day <= DAYS_WITH_MESSAGES { messages / 24 * 24 } else { 0 };
        let rate = removed.0 as f64 / removed.2;
        let disk_mb = disk_bytes(&folder) as f64 / 1e6;
        println!("{day:>4} {sent:>10} {:>10} {:>10} {rate:>12.0} {disk_mb:>10.0}", removed.0, removed.1);
    }
    store.shutdown();
    drop((queue, retention, store));
    println!("closed: {:.0} MB", disk_bytes(&folder) as f64 / 1e6);
    let _ = fs::remove_dir_all(&folder); // only what was made here
}

fn make_users(store: &Store, clock: Arc<dyn Clock>, count: u64) -> Vec<UserId> {
    block_on(applications::put_application(store, &clock, NewApplication::new(APP, SECRET))).expect("is written");
    let make = |n| {
        let user = UserId::new(&format!("user-{n:06}")).expect("a name");
        let usersig = usersig::sign(APP, SECRET, user.as_str(), clock.unix_ms() / 1000, 3600);
        block_on(account::login(store, &clock, true, APP, &user, usersig)).expect("logs in");
        user
    };
    (0..count).map(make).collect()
}

fn send(queue: &SendQueue<Answers>, answers: &mpsc::Receiver<()>, users: &[UserId], rng: &dyn Rng, count: u64) {
    let text = (0..TEXT_BYTES).map(|_| char::from(b' ' + (rng.next_u64() % 90) as u8)).collect();
    let elements = vec![Element { kind: Some(Kind::Text(Text { text })) }];
    let body = bytes::Bytes::from(Body { elements, ..Body::default() }.encode_to_vec());
    let mut in_flight = 0;
    for _ in 0..count {
        let from = rng.next_u64() as usize % users.len();
        // Everybody talks to a few others.
        let to = (from + 1 + rng.next_u64() as usize % 5) % users.len();
        let id = (u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())).to_be_bytes();
        let (from, to) = (users[from].clone(), users[to].clone());
        let client_message_id = bytes::Bytes::copy_from_slice(&id);
        let message = NewMessage::new(APP, from, to, client_message_id, body.clone());
        queue.submit((), Act::Send(message)).expect("is taken");
        in_flight += 1;
        if in_flight == IN_FLIGHT {
            answers.recv().expect("is answered");
            in_flight -= 1;
        }
    }
    (0..in_flight).for_each(|_| answers.recv().expect("is answered"));
}

fn disk_bytes(folder: &Path) -> u64 {
    const BLOCK_BYTES: u64 = 512;
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * BLOCK_BYTES,
        Err(_) => 0, // merged away meanwhile
    };
    fs::read_dir(folder).map_or(0, |entries| entries.flatten().map(size).sum())
}
