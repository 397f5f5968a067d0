//! The memory engine: for tests, with a seed and with faults.
//!
//! The same buffer and conflict code as the embedded engine's, over versions kept in a map. Given
//! the same seed and the same order of calls it does the same. It can hold back durability
//! ([`Memory::hold_syncs`], or at random [`Memory::delay_syncs`]) and crash ([`Memory::crash`]), which loses
//! exactly what was not durable.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{Arc, Mutex},
};

use bytes::Bytes;

use super::{
    buffer::{ScanItem, Snapshot, after},
    conflicts::RecentWrites,
    draft::{Base, Draft, DraftTx},
    lock,
    seam::{CommitDone, Committed, Engine, EngineTx, StoreError, Version},
    watches::{Changed, Watches},
};
use crate::env::{Rng, SeededRng};

/// How often, in a thousand commits that write, something goes wrong though it need not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A conflict without a reason.
    pub conflict: u16,
    /// `MaybeCommitted`, and it was.
    pub maybe_committed: u16,
    /// `MaybeCommitted`, and it was not.
    pub maybe_lost: u16,
    /// `Unavailable`: not committed.
    pub unavailable: u16,
}

/// An engine without a disk. Clones share the data.
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

struct Shared {
    rng: SeededRng,
    faults: Mutex<Faults>,
    state: Mutex<State>,
    watches: Watches,
}

struct State {
    data: Versions,
    newest: Version,
    durable: Version,
    recent: RecentWrites,
    hold_syncs: bool,
    /// How many of a thousand commits are late.
    late: u16,
    /// Who waits for a version to become durable, in version order.
    waiting: Vec<(Committed, CommitDone)>,
    /// Answers to give, in this order.
    answers: VecDeque<(CommitDone, Result<Committed, StoreError>)>,
    /// A thread is giving them: it takes along what others add.
    answering: bool,
    /// Counts crashes: a transaction from before one can't commit.
    life: u64,
    stopped: bool,
}

/// All versions of all keys that some open transaction may still read.
#[derive(Default)]
struct Versions(BTreeMap<Bytes, Vec<(Version, Option<Bytes>)>>);

/// Bytes of recent writes kept for validation.
const RECENT_BYTES_MAX: usize = 64 << 20;

impl Memory {
    /// An empty store whose faults follow from `seed`.
    pub fn new(seed: u64, faults: Faults) -> Self {
        let state = State {
            data: Versions::default(),
            newest: 0,
            durable: 0,
            recent: RecentWrites::new(0, RECENT_BYTES_MAX),
            hold_syncs: false,
            late: 0,
            waiting: Vec::new(),
            answers: VecDeque::new(),
            answering: false,
            life: 0,
            stopped: false,
        };
        let shared = Shared {
            rng: SeededRng::new(seed),
            faults: Mutex::new(faults),
            state: Mutex::new(state),
            watches: Watches::default(),
        };
        Memory { shared: Arc::new(shared) }
    }

    /// Other faults from now on.
    pub fn set_faults(&self, faults: Faults) {
        *lock(&self.shared.faults) = faults;
    }

    /// From now on nothing becomes durable until [`Self::sync`].
    pub fn hold_syncs(&self) {
        lock(&self.shared.state).hold_syncs = true;
    }

    /// From now on so many commits of a thousand are late: durable only with a later one, or by [`Self::sync`].
    pub fn delay_syncs(&self, share: u16) {
        lock(&self.shared.state).late = share;
    }

    /// Makes everything committed so far durable and answers whoever waited for that, in order.
    pub fn sync(&self) {
        {
            let mut state = lock(&self.shared.state);
            state.durable = state.newest;
            state.answer_durable();
        }
        self.shared.answer();
    }

    /// The newest version that a crash would leave.
    pub fn durable(&self) -> Version {
        lock(&self.shared.state).durable
    }

    /// Loses what is not durable, and every open transaction. Whoever waited is told `MaybeCommitted`:
    /// after a real crash nobody would be told anything.
    pub fn crash(&self) {
        {
            let mut state = lock(&self.shared.state);
            let durable = state.durable;
            state.data.forget_after(durable);
            state.newest = durable;
            state.recent = RecentWrites::new(durable, RECENT_BYTES_MAX);
            state.life += 1;
            let lost = std::mem::take(&mut state.waiting);
            state.answers.extend(lost.into_iter().map(|(_, done)| (done, Err(StoreError::MaybeCommitted))));
        }
        self.shared.answer();
    }
}

impl Engine for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn begin(&self) -> Result<Box<dyn EngineTx>, StoreError> {
        let mut state = lock(&self.shared.state);
        if state.stopped {
            return Err(stopped());
        }
        let (version, life) = (state.newest, state.life);
        state.recent.opened(version);
        let view = View { shared: self.shared.clone(), version, life };
        Ok(Box::new(DraftTx::on(view)))
    }

    fn shutdown(&self) {
        self.sync();
        lock(&self.shared.state).stopped = true;
        self.shared.watches.close();
    }
}

impl Base for View {
    fn view(&self) -> &impl Snapshot {
        self
    }

    fn version(&self) -> Version {
        self.version
    }

    fn commit(self, draft: Draft, done: CommitDone) {
        match View::commit(&self, draft, done) {
            Err((error, done)) => done(Err(error)),
            Ok(changed) => {
                changed.tell();
                self.shared.answer();
            }
        }
    }
}

/// The state as of a transaction's read version, which it holds open.
struct View {
    shared: Arc<Shared>,
    version: Version,
    life: u64,
}

impl View {
    /// Commits and takes `done` along, or gives it back with the error. Under one lock, so that answers
    /// stand in the order of the commits.
    fn commit(&self, draft: Draft, done: CommitDone) -> Result<Changed, (StoreError, CommitDone)> {
        let mut state = lock(&self.shared.state);
        match self.try_commit(&mut state, draft) {
            Ok((committed, changed)) => {
                let place = state.waiting.partition_point(|(before, _)| before.version <= committed.version);
                state.waiting.insert(place, (committed, done));
                state.answer_durable();
                Ok(changed)
            }
            Err(error) => Err((error, done)),
        }
    }

    fn try_commit(&self, state: &mut State, mut draft: Draft) -> Result<(Committed, Changed), StoreError> {
        if state.stopped || state.life != self.life {
            return Err(stopped());
        }
        let pending = std::mem::take(&mut draft.watches);
        if draft.writes.is_empty() {
            let changed = self.shared.watches.set_up(pending, || Latest(&state.data));
            return Ok((Committed { version: self.version, batch_order: 0 }, changed));
        }
        state.recent.validate(self.version, state.newest, &draft.reads)?;
        let fault = self.shared.draw_fault();
        if let Some((error, false)) = fault {
            return Err(error);
        }
        let is_late = state.hold_syncs || state.late > 0 && self.shared.draw() < state.late;
        let (committed, mut changed) = state.write(draft, &self.shared.watches, is_late)?;
        match fault {
            // Whoever watched what was written is told; this transaction's own watches are not set up.
            Some((error, _)) => {
                changed.tell();
                Err(error)
            }
            None => {
                changed.extend(self.shared.watches.set_up(pending, || Latest(&state.data)));
                Ok((committed, changed))
            }
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        if state.life == self.life {
            state.recent.closed(self.version);
        }
    }
}

impl Snapshot for View {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(lock(&self.shared.state).data.get(key, self.version))
    }

    fn scan(&self, begin: &[u8], end: &[u8], reverse: bool) -> impl Iterator<Item = ScanItem> {
        let (mut begin, mut end) = (Bytes::copy_from_slice(begin), Bytes::copy_from_slice(end));
        std::iter::from_fn(move || {
            // One step at a time: the lock can't be kept while the caller goes on with a pair.
            let state = lock(&self.shared.state);
            let (key, value) = state.data.scan(&begin, &end, self.version, reverse).next()?;
            if reverse {
                end = key.clone();
            } else {
                begin = after(&key);
            }
            Some(Ok((key, value)))
        })
    }
}

impl Shared {
    fn draw(&self) -> u16 {
        (self.rng.next_u64() % 1000) as u16
    }

    /// The fault of this commit, and whether the commit happens all the same.
    fn draw_fault(&self) -> Option<(StoreError, bool)> {
        let faults = *lock(&self.faults);
        let mut draw = self.draw();
        let outcomes = [
            (faults.conflict, StoreError::Conflict, false),
            (faults.maybe_committed, StoreError::MaybeCommitted, true),
            (faults.maybe_lost, StoreError::MaybeCommitted, false),
            (faults.unavailable, StoreError::Unavailable("injected".into()), false),
        ];
        for (share, error, happens) in outcomes {
            if draw < share {
                return Some((error, happens));
            }
            draw -= share;
        }
        None
    }

    /// Gives the answers that stand ready, under no lock, unless another thread is doing so.
    fn answer(&self) {
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.answering, true) {
            return;
        }
        while let Some((done, outcome)) = state.answers.pop_front() {
            drop(state);
            done(outcome);
            state = lock(&self.state);
        }
        state.answering = false;
    }
}

impl State {
    fn answer_durable(&mut self) {
        let durable = self.waiting.partition_point(|(committed, _)| committed.version <= self.durable);
        let ready = self.waiting.drain(..durable).map(|(committed, done)| (done, Ok(committed)));
        self.answers.extend(ready);
    }

    fn write(
        &mut self,
        mut draft: Draft,
        watches: &Watches,
        is_late: bool,
    ) -> Result<(Committed, Changed), StoreError> {
        let committed = Committed { version: self.newest + 1, batch_order: 0 };
        draft.writes.resolve(committed, &Latest(&self.data))?;
        let ranges: Vec<_> = draft.writes.cleared().map(|(begin, end)| (begin.clone(), end.clone())).collect();
        for (begin, end) in ranges {
            let removed: Vec<Bytes> = self.data.scan(&begin, &end, Version::MAX, false).map(|(key, _)| key).collect();
            removed.into_iter().for_each(|key| self.put(key, committed.version, None));
        }
        let points: Vec<_> = draft.writes.points().map(|(key, value)| (key.clone(), value.cloned())).collect();
        points.into_iter().for_each(|(key, value)| self.put(key, committed.version, value));
        self.newest = committed.version;
        if !is_late {
            self.durable = self.newest;
        }
        let changed = watches.take_changed(&draft.writes);
        self.recent.record(committed.version, || draft.writes.into_written());
        Ok((committed, changed))
    }

    fn put(&mut self, key: Bytes, version: Version, value: Option<Bytes>) {
        // Whoever reads now reads at the oldest open version or later, and a crash goes back to the durable one.
        let needed_from = self.recent.oldest_open().unwrap_or(Version::MAX).min(self.durable);
        self.data.put(key, version, value, needed_from);
    }
}

impl Versions {
    fn get(&self, key: &[u8], version: Version) -> Option<Bytes> {
        self.0.get(key).and_then(|versions| at(versions, version)).cloned()
    }

    fn scan<'a>(
        &'a self,
        begin: &[u8],
        end: &[u8],
        version: Version,
        reverse: bool,
    ) -> Box<dyn Iterator<Item = (Bytes, Bytes)> + 'a> {
        if begin >= end {
            return Box::new(std::iter::empty());
        }
        let keys = self.0.range::<[u8], _>((Bound::Included(begin), Bound::Excluded(end)));
        let seen =
            move |(key, versions): (&Bytes, &Vec<_>)| at(versions, version).map(|value| (key.clone(), value.clone()));
        if reverse { Box::new(keys.rev().filter_map(seen)) } else { Box::new(keys.filter_map(seen)) }
    }

    fn put(&mut self, key: Bytes, version: Version, value: Option<Bytes>, needed_from: Version) {
        let versions = self.0.entry(key).or_default();
        versions.retain(|(old, _)| *old != version);
        let needless = versions.iter().rposition(|(old, _)| *old <= needed_from).unwrap_or(0);
        versions.drain(..needless);
        versions.push((version, value));
    }

    fn forget_after(&mut self, version: Version) {
        self.0.retain(|_, versions| {
            versions.retain(|(written, _)| *written <= version);
            !versions.is_empty()
        });
    }
}

/// The newest state, while its lock is held.
struct Latest<'a>(&'a Versions);

impl Snapshot for Latest<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.get(key, Version::MAX))
    }

    fn scan(&self, begin: &[u8], end: &[u8], reverse: bool) -> impl Iterator<Item = ScanItem> {
        self.0.scan(begin, end, Version::MAX, reverse).map(Ok)
    }
}

fn at(versions: &[(Version, Option<Bytes>)], version: Version) -> Option<&Bytes> {
    versions.iter().rev().find(|(written, _)| *written <= version).and_then(|(_, value)| value.as_ref())
}

fn stopped() -> StoreError {
    StoreError::Unavailable("the memory store was stopped or crashed since".into())
}
