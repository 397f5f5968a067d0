//! The threads that put the load on: what they share, and what each has for itself.
//!
//! Every thread runs one executor with its own connections. They meet twice: when all connections are
//! ready, and at the time that the measurement starts, which the main thread then sets.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, bail};
use backend::domain::usersig;
use futures::{StreamExt, TryStreamExt};
use glommio::timer::sleep;
use protocol::message::{Message, Platform};

use crate::{
    alarm::Alarms,
    client::User,
    clock::{Clock, Micros, SECOND_US},
    options::{App, Options, Target},
    payload::Composer,
    tally::Tally,
};

/// Handshakes a thread has under way at a time while it sets up its connections.
const SETUP_CONCURRENCY: usize = 32;
/// A UserSig lives longer than any run, in seconds.
const USERSIG_EXPIRE_S: u64 = 7 * 86_400;

/// Everything that is settled before the threads start.
pub(crate) struct Plan {
    pub(crate) options: Options,
    pub(crate) app: App,
    /// One at least.
    pub(crate) targets: Vec<Target>,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    /// Sets this run's users apart from those of every other run.
    pub(crate) run: u32,
    pub(crate) seed: u64,
    pub(crate) clock: Clock,
    pub(crate) board: Board,
}

impl Plan {
    /// The user of connection number `index`.
    pub(crate) fn user(&self, index: u32) -> User {
        let name = self.user_name(index);
        let issued_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let usersig = usersig::sign(self.app.sdkappid, &self.app.secret, &name, issued_s, USERSIG_EXPIRE_S);
        User { sdkappid: self.app.sdkappid, name, usersig, platform: Platform::Linux, device: "loadtest" }
    }

    /// Writes and recognises this run's messages.
    pub(crate) fn composer(&self) -> Composer {
        Composer::of(self.seed, self.options.payload as usize, self.options.is_mixed())
    }

    /// What `push` tells everybody, beside what users send each other.
    pub(crate) fn is_push(&self, message: &Message) -> bool {
        self.options.pushes() && message.from == Options::ADMINISTRATOR
    }

    pub(crate) fn user_name(&self, index: u32) -> String {
        format!("load-{:08x}-{index}", self.run)
    }

    pub(crate) fn measured_us(&self) -> Micros {
        (self.options.seconds * SECOND_US as f64) as Micros
    }
}

/// Where the threads tell the main thread how far they are, and are told to go.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) progress: Vec<Progress>,
    pub(crate) ready: AtomicU32,
    pub(crate) finished: AtomicU32,
    /// When the measurement starts; 0 until that is known.
    pub(crate) start_us: AtomicU64,
    /// When everybody was told something; 0 until then.
    pub(crate) pushed_us: AtomicU64,
    /// Where the connections are that send, each by its number: whoever is given a message asks this.
    places: Vec<AtomicUsize>,
    /// Why the run can't go on: the first thread's reason.
    pub(crate) failure: OnceLock<String>,
}

/// One thread's figures, published now and then.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) connected: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) read_back: AtomicU64,
}

impl Board {
    pub(crate) fn new(threads: u32, connections: u32) -> Self {
        Board {
            progress: (0..threads).map(|_| Progress::default()).collect(),
            ready: AtomicU32::new(0),
            finished: AtomicU32::new(0),
            start_us: AtomicU64::new(0),
            pushed_us: AtomicU64::new(0),
            places: (0..connections).map(|_| AtomicUsize::new(0)).collect(),
            failure: OnceLock::new(),
        }
    }

    /// The connection with this number is at the target with that one.
    pub(crate) fn is_at(&self, number: u32, target: usize) {
        if let Some(place) = self.places.get(number as usize) {
            place.store(target, Relaxed);
        }
    }

    /// The target that the connection with this number is at.
    pub(crate) fn place(&self, number: u32) -> usize {
        self.places.get(number as usize).map_or(0, |place| place.load(Relaxed))
    }

    /// The sum of a figure over all threads.
    pub(crate) fn total(&self, figure: impl Fn(&Progress) -> &AtomicU64) -> u64 {
        self.progress.iter().map(|progress| figure(progress).load(Relaxed)).sum()
    }
}

/// The measured time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start_us: Micros,
    pub(crate) end_us: Micros,
}

/// What the tasks of one thread share.
pub(crate) struct Worker {
    pub(crate) plan: Arc<Plan>,
    pub(crate) index: u32,
    pub(crate) alarms: Alarms,
    pub(crate) tally: RefCell<Tally>,
    /// Connections made so far: targets take turns.
    connects: Cell<usize>,
}

impl Worker {
    pub(crate) fn new(plan: Arc<Plan>, index: u32) -> Self {
        Worker { plan, index, alarms: Alarms::default(), tally: RefCell::default(), connects: Cell::default() }
    }

    /// Where to connect next, by its number.
    pub(crate) fn next_target(&self) -> usize {
        let turn = self.connects.get();
        self.connects.set(turn + 1);
        turn % self.plan.targets.len()
    }

    /// The numbers below `count` that are this thread's.
    pub(crate) fn share(&self, count: u32) -> impl Iterator<Item = u32> + use<> {
        (self.index..count).step_by(self.plan.options.threads as usize)
    }

    /// Whether a number is this thread's.
    pub(crate) fn has(&self, number: u32) -> bool {
        number % self.plan.options.threads == self.index
    }

    /// Makes one thing for each number, a few at a time.
    pub(crate) async fn set_up<T, F>(
        &self,
        numbers: impl Iterator<Item = u32>,
        make: impl Fn(u32) -> F,
    ) -> Result<Vec<T>>
    where
        F: Future<Output = Result<T>>,
    {
        futures::stream::iter(numbers.map(make)).buffer_unordered(SETUP_CONCURRENCY).try_collect().await
    }

    /// This thread is ready: waits until all are, and the measurement starts.
    pub(crate) async fn wait_for_start(&self) -> Result<Span> {
        let board = &self.plan.board;
        board.ready.fetch_add(1, Relaxed);
        loop {
            if board.failure.get().is_some() {
                bail!("another thread gave up");
            }
            let start_us = board.start_us.load(Relaxed);
            if start_us > 0 {
                let wait_us = start_us.saturating_sub(self.plan.clock.now_us());
                sleep(Duration::from_micros(wait_us)).await;
                return Ok(Span { start_us, end_us: start_us + self.plan.measured_us() });
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Rings the alarms and publishes the figures, until it is cancelled.
    pub(crate) async fn tick(&self) {
        // A schedule is kept to the millisecond; without one, only heartbeats and ends fall due.
        let period = Duration::from_millis(if self.plan.options.rate.is_some() { 1 } else { 20 });
        loop {
            sleep(period).await;
            self.alarms.ring(self.plan.clock.now_us());
            self.publish();
        }
    }

    pub(crate) fn publish(&self) {
        let tally = self.tally.borrow();
        let progress = &self.plan.board.progress[self.index as usize];
        progress.connected.store(tally.connected, Relaxed);
        progress.acked.store(tally.acked, Relaxed);
        progress.delivered.store(tally.delivered, Relaxed);
        progress.read_back.store(tally.read_back, Relaxed);
    }
}
