//! Transactions of the embedded engine: snapshots to read from, and the commit.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fjall::{Database, Keyspace, OwnedWriteBatch, PersistMode, Readable};

use super::{
    super::{
        buffer::{ScanItem, Snapshot, WriteBuffer},
        conflicts::RecentWrites,
        draft::{Base, Draft, DraftTx},
        lock,
        seam::{CommitDone, Committed, StoreError, Version},
        watches::{self, Watches},
    },
    EmbeddedOptions, MARK_KEY,
    mark::Mark,
    newest::NewestValues,
    syncer::{Disk, Durability, describe},
};
use crate::env::Clock;

/// What all transactions of an open store share.
pub(super) struct Shared {
    // Before the disk, with which the folder's lock goes.
    database: Database,
    keyspace: Keyspace,
    head: Mutex<Head>,
    /// One commit at a time. Apart from `head`, so that transactions can begin while one writes.
    commit_lock: Mutex<()>,
    newest: Arc<NewestValues>,
    durability: Durability,
    watches: Watches,
    disk: Box<dyn Disk>,
}

/// The newest committed state.
struct Head {
    version: Version,
    snapshot: fjall::Snapshot,
    recent: RecentWrites,
}

impl Shared {
    pub(super) fn new(
        disk: Box<dyn Disk>,
        database: Database,
        keyspace: Keyspace,
        version: Version,
        options: &EmbeddedOptions,
    ) -> Self {
        let recent = RecentWrites::new(version, options.recent_writes_bytes_max);
        let head = Head { version, snapshot: database.snapshot(), recent };
        let durability = Durability::new(version, options.disk_reserve_bytes, options.unsynced_bytes_max);
        Shared {
            database,
            keyspace,
            head: Mutex::new(head),
            commit_lock: Mutex::new(()),
            newest: Arc::new(NewestValues::new(version, options.newest_cache_bytes)),
            durability,
            watches: Watches::default(),
            disk,
        }
    }

    /// What broke for good, if something did.
    pub(super) fn failure(&self) -> Option<String> {
        self.durability.failure()
    }

    pub(super) fn begin(self: &Arc<Self>) -> Result<DraftTx<Begun>, StoreError> {
        self.durability.check_open()?;
        let mut head = lock(&self.head);
        let version = head.version;
        head.recent.opened(version);
        let view = self.view(version, head.snapshot.clone());
        drop(head);
        Ok(DraftTx::on(Begun { open: OpenAt { shared: self.clone(), version, is_open: true }, view }))
    }

    pub(super) fn stop(&self) {
        self.durability.stop();
        self.watches.close();
    }

    pub(super) fn run_syncer(&self, clock: &Arc<dyn Clock>) {
        self.durability.run(&*self.disk, clock);
    }

    fn view(&self, version: Version, snapshot: fjall::Snapshot) -> View {
        View { keyspace: self.keyspace.clone(), newest: self.newest.clone(), version, snapshot }
    }

    /// Validates and writes. The answer follows from the durability queue, where commits stand in
    /// version order. No answer is given under the commit lock: it may commit itself.
    fn commit(&self, mut open: OpenAt, mut draft: Draft, done: CommitDone) {
        self.durability.wait_for_room();
        if let Err(error) = self.durability.check_writable() {
            return done(Err(error));
        }
        let Ok(guard) = self.commit_lock.lock() else {
            self.durability.break_down("a commit panicked".into());
            self.durability.answer_failed();
            return done(Err(StoreError::Unavailable("a commit panicked".into())));
        };
        let written = self.prepare(&open, &mut draft).and_then(|prepared| {
            self.write(prepared.batch)?;
            self.renew(prepared.committed.version, &draft.writes, &prepared.removed);
            Ok((prepared.committed, prepared.bytes))
        });
        let (committed, bytes) = match written {
            Ok(written) => written,
            Err(error) => {
                drop(guard);
                self.durability.answer_failed();
                return done(Err(error));
            }
        };
        let mut head = lock(&self.head);
        head.version = committed.version;
        head.snapshot = self.database.snapshot();
        open.close(&mut head);
        // Under the lock that publishes: whoever registers a watch later sees the new head.
        let changed = self.watches.take_changed(&draft.writes);
        let pending = std::mem::take(&mut draft.watches);
        head.recent.record(committed.version, || draft.writes.into_written());
        drop(head);
        self.durability.await_sync(committed, bytes, done);
        drop(guard);
        changed.tell();
        self.set_up_watches(pending);
        self.durability.answer_failed();
    }

    /// Under no lock: some may have ended already, and are told.
    fn set_up_watches(&self, pending: Vec<watches::Pending>) {
        let latest = || {
            let head = lock(&self.head);
            self.view(head.version, head.snapshot.clone())
        };
        self.watches.set_up(pending, latest).tell();
    }

    fn prepare(&self, open: &OpenAt, draft: &mut Draft) -> Result<Prepared, StoreError> {
        let latest = {
            let head = lock(&self.head);
            head.recent.validate(open.version, head.version, &draft.reads)?;
            self.view(head.version, head.snapshot.clone())
        };
        let committed = Committed { version: latest.version + 1, batch_order: 0 };
        draft.writes.resolve(committed, &latest)?;
        self.fill_batch(&draft.writes, committed, &latest)
    }

    fn fill_batch(&self, writes: &WriteBuffer, committed: Committed, latest: &View) -> Result<Prepared, StoreError> {
        let batch = OwnedWriteBatch::with_capacity(self.database.clone(), writes.points_len() + 1);
        // Into the operating system with each commit, so that a kill of this process loses nothing,
        // and a sync finds all of it in the file.
        let mut batch = batch.durability(Some(PersistMode::Buffer));
        let mut removed = Vec::new();
        for (begin, end) in writes.cleared() {
            for pair in latest.scan(begin, end, false) {
                let (key, _) = pair?;
                if !writes.has_point(&key) {
                    batch.remove(&self.keyspace, &key[..]);
                    removed.push(key);
                }
            }
        }
        let mut points: Vec<_> = writes.points().collect();
        // In order, each search of the memtable begins where the last one left its path in the
        // processor's caches.
        points.sort_unstable_by_key(|(key, _)| *key);
        let mut bytes = removed.iter().map(Bytes::len).sum();
        for (key, value) in points {
            bytes += key.len() + value.map_or(0, Bytes::len);
            match value {
                // Copied on purpose: a value may be a small part of a large network buffer, which
                // the memtable would keep alive.
                Some(value) => batch.insert(&self.keyspace, &key[..], &value[..]),
                None => batch.remove(&self.keyspace, &key[..]),
            }
        }
        let mark = Mark { version: committed.version, durable: self.durability.durable() };
        batch.insert(&self.keyspace, MARK_KEY, mark.to_bytes());
        Ok(Prepared { committed, batch, removed, bytes })
    }

    /// Tells the cache what was written, before anybody can begin at `version`.
    fn renew(&self, version: Version, writes: &WriteBuffer, removed: &[Bytes]) {
        self.newest.committing(version);
        removed.iter().for_each(|key| self.newest.wrote(key, None, version));
        writes.points().for_each(|(key, value)| self.newest.wrote(key, value.map(|value| &value[..]), version));
    }

    fn write(&self, batch: OwnedWriteBatch) -> Result<(), StoreError> {
        let Err(error) = batch.commit() else { return Ok(()) };
        // Part of the batch, or all of it, may be in the journal already.
        self.durability.break_down(match &error {
            fjall::Error::Io(io_error) => describe("the journal could not be written", io_error),
            other => format!("the journal could not be written: {other}"),
        });
        Err(if matches!(error, fjall::Error::Poisoned) {
            StoreError::Unavailable("the database stopped after an earlier error".into())
        } else {
            StoreError::MaybeCommitted
        })
    }
}

/// A commit that only has to be written.
struct Prepared {
    committed: Committed,
    batch: OwnedWriteBatch,
    /// The keys that a cleared range removes.
    removed: Vec<Bytes>,
    /// Size of what is written.
    bytes: usize,
}

/// A transaction's place among the open ones.
struct OpenAt {
    shared: Arc<Shared>,
    version: Version,
    is_open: bool,
}

impl OpenAt {
    fn close(&mut self, head: &mut Head) {
        if std::mem::take(&mut self.is_open) {
            head.recent.closed(self.version);
        }
    }
}

impl Drop for OpenAt {
    fn drop(&mut self) {
        let shared = self.shared.clone();
        self.close(&mut lock(&shared.head));
    }
}

/// What a transaction of the embedded engine stands on.
pub(super) struct Begun {
    open: OpenAt,
    view: View,
}

impl Base for Begun {
    fn view(&self) -> &impl Snapshot {
        &self.view
    }

    fn version(&self) -> Version {
        self.open.version
    }

    fn commit(self, draft: Draft, done: CommitDone) {
        let Begun { open, view } = self;
        drop(view);
        let shared = open.shared.clone();
        if draft.writes.is_empty() {
            let seen = Committed { version: open.version, batch_order: 0 };
            drop(open);
            shared.set_up_watches(draft.watches);
            return shared.durability.answer_once_durable(seen, done);
        }
        shared.commit(open, draft, done);
    }
}

/// Committed state at one version.
struct View {
    keyspace: Keyspace,
    newest: Arc<NewestValues>,
    version: Version,
    snapshot: fjall::Snapshot,
}

impl Snapshot for View {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if let Some(value) = self.newest.get(key, self.version) {
            return Ok(Some(value));
        }
        let Some(value) = self.snapshot.get(&self.keyspace, key).map_err(read_error)? else { return Ok(None) };
        let value = Bytes::copy_from_slice(&value);
        self.newest.read(key, &value, self.version);
        Ok(Some(value))
    }

    fn scan(&self, begin: &[u8], end: &[u8], reverse: bool) -> impl Iterator<Item = ScanItem> {
        let mut pairs = self.snapshot.range(&self.keyspace, begin..end);
        std::iter::from_fn(move || {
            let guard = if reverse { pairs.next_back() } else { pairs.next() }?;
            let pair = guard.into_inner().map_err(read_error);
            Some(pair.map(|(key, value)| (Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value))))
        })
    }
}

fn read_error(error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            StoreError::Unavailable(format!("can't read: {error}"))
        }
        other => StoreError::Damaged(other.to_string()),
    }
}
