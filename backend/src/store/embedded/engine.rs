//! Transactions of the embedded engine: snapshots to read from, and the commit.

use std::{
    cell::RefCell,
    io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use fjall::{Database, Keyspace, OwnedWriteBatch, PersistMode, Readable};

use super::{
    super::{
        buffer::{ScanItem, Snapshot, WriteBuffer},
        conflicts::RecentWrites,
        draft::Draft,
        lock,
        seam::{
            AtomicOp, CommitDone, Committed, EngineTx, RangePage, RangeQuery, ReadMode, Reading, StoreError, Version,
        },
    },
    EmbeddedOptions, MARK_KEY,
    folder::Folder,
    mark::Mark,
    syncer::{Disk, Durability, describe},
};
use crate::env::Clock;

/// What all transactions of an open store share.
pub(super) struct Shared {
    // Before the folder, whose lock must go last.
    database: Database,
    keyspace: Keyspace,
    head: Mutex<Head>,
    /// One commit at a time. Apart from `head`, so that transactions can begin while one writes.
    commit_lock: Mutex<()>,
    durability: Durability,
    folder: Folder,
}

/// The newest committed state.
struct Head {
    version: Version,
    snapshot: fjall::Snapshot,
    recent: RecentWrites,
}

impl Shared {
    pub(super) fn new(
        folder: Folder,
        database: Database,
        keyspace: Keyspace,
        version: Version,
        options: &EmbeddedOptions,
    ) -> Self {
        let recent = RecentWrites::new(version, options.recent_writes_bytes_max);
        let head = Head { version, snapshot: database.snapshot(), recent };
        let durability = Durability::new(version, options.disk_reserve_bytes);
        Shared { database, keyspace, head: Mutex::new(head), commit_lock: Mutex::new(()), durability, folder }
    }

    pub(super) fn begin(self: &Arc<Self>) -> Result<EmbeddedTx, StoreError> {
        self.durability.check_open()?;
        let mut head = lock(&self.head);
        let version = head.version;
        head.recent.opened(version);
        let view = View { keyspace: self.keyspace.clone(), snapshot: head.snapshot.clone() };
        Ok(EmbeddedTx {
            open: OpenAt { shared: self.clone(), version, is_open: true },
            view,
            draft: RefCell::default(),
        })
    }

    pub(super) fn stop(&self) {
        self.durability.stop();
    }

    pub(super) fn run_syncer(&self, clock: &Arc<dyn Clock>) {
        self.durability.run(self, clock);
    }

    /// Validates and writes. The answer follows from the durability queue, where commits stand in version order.
    fn commit(&self, mut open: OpenAt, mut draft: Draft, done: CommitDone) {
        if let Err(error) = self.durability.check_writable() {
            return done(Err(error));
        }
        let Ok(guard) = self.commit_lock.lock() else {
            self.durability.break_down("a commit panicked".into());
            return done(Err(StoreError::Unavailable("a commit panicked".into())));
        };
        let written = self.prepare(&open, &mut draft).and_then(|(committed, batch)| {
            self.write(batch)?;
            Ok(committed)
        });
        let committed = match written {
            Ok(committed) => committed,
            Err(error) => {
                drop(guard);
                return done(Err(error));
            }
        };
        let mut head = lock(&self.head);
        head.version = committed.version;
        head.snapshot = self.database.snapshot();
        open.close(&mut head);
        head.recent.record(committed.version, || draft.writes.into_written());
        drop(head);
        self.durability.answer_once_durable(committed, done);
        drop(guard);
    }

    fn prepare(&self, open: &OpenAt, draft: &mut Draft) -> Result<(Committed, OwnedWriteBatch), StoreError> {
        let (newest, snapshot) = {
            let head = lock(&self.head);
            head.recent.validate(open.version, head.version, &draft.reads)?;
            (head.version, head.snapshot.clone())
        };
        let latest = View { keyspace: self.keyspace.clone(), snapshot };
        let committed = Committed { version: newest + 1, batch_order: 0 };
        draft.writes.resolve(committed, &latest)?;
        let batch = self.fill_batch(&draft.writes, committed.version, &latest)?;
        Ok((committed, batch))
    }

    fn fill_batch(&self, writes: &WriteBuffer, version: Version, latest: &View) -> Result<OwnedWriteBatch, StoreError> {
        let batch = OwnedWriteBatch::with_capacity(self.database.clone(), writes.points_len() + 1);
        // Into the operating system with each commit, so that a kill of this process loses nothing.
        let mut batch = batch.durability(Some(PersistMode::Buffer));
        for (begin, end) in writes.cleared() {
            for pair in latest.scan(begin, end, false) {
                let (key, _) = pair?;
                if !writes.has_point(&key) {
                    batch.remove(&self.keyspace, &key[..]);
                }
            }
        }
        for (key, value) in writes.points() {
            match value {
                // Copied on purpose: a value may be a small part of a large network buffer, which
                // the memtable would keep alive.
                Some(value) => batch.insert(&self.keyspace, &key[..], &value[..]),
                None => batch.remove(&self.keyspace, &key[..]),
            }
        }
        let mark = Mark { version, durable: self.durability.durable() };
        batch.insert(&self.keyspace, MARK_KEY, mark.to_bytes());
        Ok(batch)
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

impl Disk for Shared {
    fn sync(&self) -> io::Result<()> {
        self.database.persist(PersistMode::SyncData).map_err(|error| match error {
            fjall::Error::Io(error) => error,
            other => io::Error::other(other.to_string()),
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.folder.free_bytes()
    }
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

/// A transaction of the embedded engine.
pub(super) struct EmbeddedTx {
    open: OpenAt,
    view: View,
    draft: RefCell<Draft>,
}

impl EngineTx for EmbeddedTx {
    fn get(&self, key: &[u8], mode: ReadMode) -> Reading<Option<Bytes>> {
        Reading::ready(self.draft.borrow_mut().get(&self.view, key, mode))
    }

    fn range(&self, query: RangeQuery) -> Reading<RangePage> {
        Reading::ready(self.draft.borrow_mut().range(&self.view, &query))
    }

    fn set(&self, key: Bytes, value: Bytes) {
        self.draft.borrow_mut().writes.set(key, value);
    }

    fn clear(&self, key: &[u8]) {
        self.draft.borrow_mut().writes.clear(key);
    }

    fn clear_range(&self, begin: &[u8], end: &[u8]) {
        self.draft.borrow_mut().writes.clear_range(begin, end);
    }

    fn atomic(&self, op: AtomicOp, key: &[u8], operand: &[u8]) {
        self.draft.borrow_mut().writes.atomic(op, key, operand);
    }

    fn append_versionstamped(&self, prefix: &[u8], user_version: u16, suffix: &[u8], value: Bytes) {
        self.draft.borrow_mut().writes.append_versionstamped(prefix, user_version, suffix, value);
    }

    fn add_read_conflict(&self, begin: &[u8], end: &[u8]) {
        self.draft.borrow_mut().add_read_conflict(begin, end);
    }

    fn add_write_conflict(&self, begin: &[u8], end: &[u8]) {
        self.draft.borrow_mut().writes.add_conflict(begin, end);
    }

    fn commit(self: Box<Self>, done: CommitDone) {
        let EmbeddedTx { open, view, draft } = *self;
        drop(view);
        let draft = draft.into_inner();
        let shared = open.shared.clone();
        if draft.writes.is_empty() {
            let seen = Committed { version: open.version, batch_order: 0 };
            drop(open);
            return shared.durability.answer_once_durable(seen, done);
        }
        shared.commit(open, draft, done);
    }
}

/// Committed state at one version.
struct View {
    keyspace: Keyspace,
    snapshot: fjall::Snapshot,
}

impl Snapshot for View {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.snapshot.get(&self.keyspace, key).map_err(read_error)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
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
