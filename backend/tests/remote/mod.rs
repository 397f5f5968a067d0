//! An engine that behaves like one at the other end of a wire: reads are pending at first. Puts the
//! lanes' and the domain's handling of remote engines to the test where there is no FoundationDB.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard},
    task::Poll,
};

use backend::{
    env::{Rng, SeededRng},
    store::*,
};
use bytes::Bytes;

/// An engine behind an imagined wire.
#[derive(Clone)]
pub struct Remote {
    engine: Arc<dyn Engine>,
    wire: Arc<Mutex<Wire>>,
}

/// What happens to commits that write.
#[derive(Default)]
struct Wire {
    /// Those that got stuck on their way, while that is asked for.
    detained: Vec<Box<dyn EngineTx>>,
    detain: bool,
    losses: Losses,
    rng: Option<SeededRng>,
    /// Called before the next loss of an answer is told.
    at_loss: Option<Box<dyn FnOnce() + Send>>,
    /// So many conflict, for no reason.
    conflicts: u32,
    /// Found by ranges that were read.
    rows_read: usize,
    /// Answers to something that was sent after the answer before.
    round_trips: usize,
}

/// How often, in a thousand commits that write, something gets lost: who issued them is told `MaybeCommitted`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Losses {
    /// The answer.
    pub answer: u64,
    /// The commit itself.
    pub commit: u64,
}

struct RemoteTx {
    tx: Box<dyn EngineTx>,
    wire: Arc<Mutex<Wire>>,
    writes: Cell<bool>,
    /// Keys that were read or written: asked for again, they are known on this side of the wire.
    known: RefCell<HashSet<Bytes>>,
}

#[allow(dead_code, reason = "each test program uses its part")]
impl Remote {
    pub fn new(engine: impl Engine) -> Self {
        Remote::over(Arc::new(engine))
    }

    pub fn over(engine: Arc<dyn Engine>) -> Self {
        Remote { engine, wire: Arc::default() }
    }

    /// From now on these get lost, as the seed says.
    pub fn lose(&self, losses: Losses, seed: u64) {
        let mut wire = lock(&self.wire);
        wire.losses = losses;
        wire.rng = Some(SeededRng::new(seed));
    }

    /// The next commit is carried out, and its answer gets lost; `then` is called before that is told.
    pub fn lose_answer_once(&self, then: impl FnOnce() + Send + 'static) {
        lock(&self.wire).at_loss = Some(Box::new(then));
    }

    /// So many commits conflict, for no reason: behind the one whose answer is to get lost.
    pub fn conflict(&self, times: u32) {
        lock(&self.wire).conflicts = times;
    }

    /// Rows that ranges have found so far.
    pub fn rows_read(&self) -> usize {
        lock(&self.wire).rows_read
    }

    /// Round trips that somebody has waited for so far: reads that are under way together take one.
    pub fn round_trips(&self) -> usize {
        lock(&self.wire).round_trips
    }

    /// From now on commits that write get stuck on the wire: who issued them is told `MaybeCommitted`, and who
    /// begins afterwards that the engine is out of reach.
    pub fn detain_commits(&self) {
        lock(&self.wire).detain = true;
    }

    /// No more of that.
    pub fn pass_commits(&self) {
        lock(&self.wire).detain = false;
    }

    /// Lets those that got stuck arrive; tells what becomes of them.
    pub fn deliver_detained(&self) -> Vec<Result<Committed, StoreError>> {
        let detained = std::mem::take(&mut lock(&self.wire).detained);
        let (sender, outcomes) = std::sync::mpsc::channel();
        for tx in detained {
            let sender = sender.clone();
            tx.commit(Box::new(move |outcome| sender.send(outcome).expect("somebody listens")));
        }
        drop(sender);
        outcomes.iter().collect()
    }
}

fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().expect("sound")
}

impl Engine for Remote {
    fn name(&self) -> &'static str {
        "remote"
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn begin(&self) -> Result<Box<dyn EngineTx>, StoreError> {
        let wire = lock(&self.wire);
        if wire.detain && !wire.detained.is_empty() {
            return Err(StoreError::Unavailable("a commit is stuck on the wire".into()));
        }
        drop(wire);
        let (writes, known) = Default::default();
        Ok(Box::new(RemoteTx { tx: self.engine.begin()?, wire: self.wire.clone(), writes, known }))
    }

    fn shutdown(&self) {
        self.engine.shutdown();
    }
}

/// The same answer, two polls later.
fn later<T: Send + Unpin + 'static>(wire: &Arc<Mutex<Wire>>, reading: Reading<T>) -> Reading<T> {
    let Reading::Ready(mut result) = reading else { return reading };
    let (mut polls, wire, sent_at) = (0, wire.clone(), lock(wire).round_trips);
    Reading::Pending(Box::pin(std::future::poll_fn(move |cx| {
        polls += 1;
        if polls <= 2 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let trips = &mut lock(&wire).round_trips;
        *trips = (*trips).max(sent_at + 1);
        Poll::Ready(result.take().expect("polled once more after the end"))
    })))
}

impl EngineTx for RemoteTx {
    fn get(&self, key: &[u8], mode: ReadMode) -> Reading<Option<Bytes>> {
        let reading = self.tx.get(key, mode);
        if !self.known.borrow_mut().insert(Bytes::copy_from_slice(key)) {
            return reading;
        }
        later(&self.wire, reading)
    }

    fn range(&self, query: RangeQuery) -> Reading<RangePage> {
        let reading = self.tx.range(query);
        if let Reading::Ready(Some(Ok(page))) = &reading {
            lock(&self.wire).rows_read += page.pairs.len();
        }
        later(&self.wire, reading)
    }

    fn set(&self, key: Bytes, value: Bytes) {
        self.writes.set(true);
        self.known.borrow_mut().insert(key.clone());
        self.tx.set(key, value);
    }

    fn clear(&self, key: &[u8]) {
        self.writes.set(true);
        self.tx.clear(key);
    }

    fn clear_range(&self, begin: &[u8], end: &[u8]) {
        self.writes.set(true);
        self.tx.clear_range(begin, end);
    }

    fn atomic(&self, op: AtomicOp, key: &[u8], operand: &[u8]) {
        self.writes.set(true);
        self.tx.atomic(op, key, operand);
    }

    fn append_versionstamped(&self, prefix: &[u8], user_version: u16, suffix: &[u8], value: Bytes) {
        self.writes.set(true);
        self.tx.append_versionstamped(prefix, user_version, suffix, value);
    }

    fn set_versionstamped_value(&self, key: Bytes, prefix: &[u8], user_version: u16, suffix: &[u8]) {
        self.writes.set(true);
        self.tx.set_versionstamped_value(key, prefix, user_version, suffix);
    }

    fn read_version(&self) -> Reading<Version> {
        later(&self.wire, self.tx.read_version())
    }

    fn watch(&self, key: &[u8]) -> WatchEnd {
        self.tx.watch(key)
    }

    fn add_read_conflict(&self, begin: &[u8], end: &[u8]) {
        self.tx.add_read_conflict(begin, end);
    }

    fn add_write_conflict(&self, begin: &[u8], end: &[u8]) {
        self.writes.set(true);
        self.tx.add_write_conflict(begin, end);
    }

    fn commit(self: Box<Self>, done: CommitDone) {
        let RemoteTx { tx, wire, writes, .. } = *self;
        let mut wire = lock(&wire);
        if !writes.get() {
            drop(wire);
            return tx.commit(done);
        }
        if wire.detain {
            wire.detained.push(tx);
            drop(wire);
            return done(Err(StoreError::MaybeCommitted));
        }
        if let Some(then) = wire.at_loss.take() {
            drop(wire);
            return tx.commit(Box::new(|outcome| {
                // Not here: the engine waits for this to return.
                let tell = move || {
                    then();
                    done(outcome.and(Err(StoreError::MaybeCommitted)));
                };
                std::thread::spawn(tell);
            }));
        }
        if wire.conflicts > 0 {
            wire.conflicts -= 1;
            drop(wire);
            return done(Err(StoreError::Conflict));
        }
        let Losses { answer, commit } = wire.losses;
        let draw = wire.rng.as_ref().map_or(u64::MAX, |rng| rng.next_u64() % 1000);
        drop(wire);
        match draw {
            draw if draw < answer => {
                tx.commit(Box::new(|outcome| done(outcome.and(Err(StoreError::MaybeCommitted)))));
            }
            draw if draw < answer + commit => done(Err(StoreError::MaybeCommitted)),
            _ => tx.commit(done),
        }
    }
}
