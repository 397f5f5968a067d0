//! The embedded engine: durable, in this process, in one folder. The default of a fresh checkout.
//!
//! fjall keeps the ordered data and the journal; what lives here is what fjall does not do for us:
//! versions, conflicts ([`super::conflicts`]), one batched sync for many commits ([`syncer`],
//! [`journals`]), a cache of much-read keys ([`newest`]), a journal that opens after every crash
//! ([`journal_tail`]), and refusing cleanly when the folder ([`folder`]) is in use, full, newer or
//! damaged. fjall's own transactions are not used.
//!
//! How it fails: a failed write or sync of the journal is final. Everything after answers
//! `Unavailable` until the process starts again and reads what really is on the disk.

mod disk;
mod engine;
mod folder;
mod journal_tail;
mod journals;
mod mark;
mod memtables;
mod newest;
mod syncer;
#[cfg(test)]
mod tests;

pub use folder::OpenError;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use self::{
    disk::JournalDisk,
    engine::Shared,
    folder::{FORMAT, Folder},
    journals::ActiveJournal,
    mark::Mark,
    memtables::Freeing,
    syncer::Disk,
};
use super::{
    lock,
    seam::{Engine, EngineTx, StoreError},
};
use crate::env::Clock;

/// Where the newest commit's [`Mark`] is: in the engine's own part of the key space.
const MARK_KEY: &[u8; 6] = b"\xffstore";

/// Settings of the embedded engine. Memory is about `cache_bytes` + `newest_cache_bytes` + 4 ×
/// `memtable_bytes` (fjall halts writers at four full memtables) + `recent_writes_bytes_max` +
/// `unsynced_bytes_max`.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedOptions {
    /// Cache of blocks read from tables.
    pub cache_bytes: u64,
    /// Cache of the newest values of small, much-read keys, a look in which spares a search in fjall.
    pub newest_cache_bytes: u64,
    /// New data kept in memory before it is written as a table.
    pub memtable_bytes: u64,
    /// Journals on the disk; beyond this, memtables are written early. At least 64 MiB.
    pub journal_bytes_max: u64,
    /// Threads that write and merge tables.
    pub worker_threads: usize,
    /// Table files held open.
    pub open_files_max: usize,
    /// Writes of recent commits kept to validate transactions that began before them.
    pub recent_writes_bytes_max: usize,
    /// Commits written but not yet synced, beyond which new ones wait: what a disk that stands still
    /// may cost in memory. Reads of what is not synced count a little as well.
    pub unsynced_bytes_max: usize,
    /// Writes are refused while less is free on the disk. Room for the tables that are being written
    /// and merged: with less than two memtables they fail, and the store with them.
    pub disk_reserve_bytes: u64,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        EmbeddedOptions {
            cache_bytes: 64 << 20,
            // Fifty thousand accounts and heads.
            newest_cache_bytes: 16 << 20,
            // A larger one means fewer merges, and a longer start after a crash.
            memtable_bytes: 32 << 20,
            // What a start after a crash reads at most.
            journal_bytes_max: 256 << 20,
            // One to write tables without waiting for the other that merges them.
            worker_threads: 2,
            open_files_max: 256,
            // Two seconds of a full write lane, seen by a transaction that began before.
            recent_writes_bytes_max: 64 << 20,
            // Half a second of a full write lane.
            unsynced_bytes_max: 16 << 20,
            disk_reserve_bytes: 64 << 20,
        }
    }
}

/// The embedded engine.
pub struct Embedded {
    shared: Arc<Shared>,
    syncer: Mutex<Option<JoinHandle<()>>>,
    freeing: Mutex<Option<Freeing>>,
}

impl Embedded {
    /// Opens the store in the folder `path`, or makes it. Whatever a crash left behind is put right first.
    pub fn open(path: &Path, options: EmbeddedOptions, clock: Arc<dyn Clock>) -> Result<Embedded, OpenError> {
        Embedded::open_on(path, options, clock, |disk| Box::new(disk))
    }

    /// [`Self::open`] with something between the engine and its disk: tests make it fail.
    fn open_on<F>(
        path: &Path,
        options: EmbeddedOptions,
        clock: Arc<dyn Clock>,
        wrap_disk: F,
    ) -> Result<Embedded, OpenError>
    where
        F: FnOnce(JournalDisk) -> Box<dyn Disk>,
    {
        let folder = Folder::open(path)?;
        // Below the reserve every write is refused, those of a start too.
        if folder.free_bytes().is_ok_and(|free| free < options.disk_reserve_bytes) {
            return Err(OpenError::OutOfSpace { folder: path.to_path_buf() });
        }
        if folder.is_unfinished()? {
            create_database(&folder, &options)?;
        }
        let format = folder.check_format()?;
        journal_tail::repair(&folder)?;
        let journal = ActiveJournal::find(folder.database()).map_err(|error| folder.io_error(path, error))?;
        let no_journal = || OpenError::Damaged { file: folder.database(), what: "it has no journal".into() };
        let journal = journal.ok_or_else(no_journal)?;
        let (database, keyspace) = open_database(&folder, &folder.database(), &options)?;
        let newest = newest_mark(&folder, &database, &keyspace)?.version;
        if format < FORMAT {
            folder.raise_format()?;
        }
        // What was found is durable from here on, also where a kill came before its sync.
        database.persist(PersistMode::SyncAll).map_err(|error| engine_error(&folder, error))?;

        let disk = wrap_disk(JournalDisk::new(journal, database.clone(), folder));
        let no_thread = |source| OpenError::Io { file: path.to_path_buf(), source };
        let freeing = Freeing::start(keyspace.clone()).map_err(no_thread)?;
        let shared = Arc::new(Shared::new(disk, database, keyspace, newest, &options));
        let thread = std::thread::Builder::new().name("store-sync".into()).spawn({
            let shared = shared.clone();
            move || shared.run_syncer(&clock)
        });
        let syncer = Mutex::new(Some(thread.map_err(no_thread)?));
        Ok(Embedded { shared, syncer, freeing: Mutex::new(Some(freeing)) })
    }
}

impl Engine for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn failure(&self) -> Option<String> {
        self.shared.failure()
    }

    fn begin(&self) -> Result<Box<dyn EngineTx>, StoreError> {
        Ok(Box::new(self.shared.begin()?))
    }

    fn shutdown(&self) {
        self.shared.stop();
        if let Some(thread) = lock(&self.syncer).take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the store's sync thread died");
        }
        if let Some(freeing) = lock(&self.freeing).take() {
            freeing.stop();
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Makes the database aside and moves it to its place when it is whole: fjall can't go on with half of one.
fn create_database(folder: &Folder, options: &EmbeddedOptions) -> Result<(), OpenError> {
    folder.discard_unfinished()?;
    let (database, keyspace) = open_database(folder, &folder.unfinished_database(), options)?;
    keyspace.insert(MARK_KEY, Mark::default().to_bytes()).map_err(|error| engine_error(folder, error))?;
    database.persist(PersistMode::SyncAll).map_err(|error| engine_error(folder, error))?;
    drop((keyspace, database));
    folder.finish_database()
}

fn open_database(folder: &Folder, path: &Path, options: &EmbeddedOptions) -> Result<(Database, Keyspace), OpenError> {
    const JOURNAL_BYTES_MIN: u64 = 64 << 20;
    let open = || -> fjall::Result<(Database, Keyspace)> {
        let database = Database::builder(path)
            .cache_size(options.cache_bytes)
            .max_journaling_size(options.journal_bytes_max.max(JOURNAL_BYTES_MIN))
            .worker_threads(options.worker_threads.max(1))
            .max_cached_files(Some(options.open_files_max.max(16)))
            .journal_compression(fjall::CompressionType::None)
            .open()?;
        let create = || KeyspaceCreateOptions::default().max_memtable_size(options.memtable_bytes);
        let keyspace = database.keyspace("data", create)?;
        Ok((database, keyspace))
    };
    // fjall asserts some of what it reads.
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(opened) => opened.map_err(|error| engine_error(folder, error)),
        Err(_) => Err(OpenError::Damaged { file: path.to_path_buf(), what: "its parts contradict each other".into() }),
    }
}

fn newest_mark(folder: &Folder, database: &Database, keyspace: &Keyspace) -> Result<Mark, OpenError> {
    let bytes = database.snapshot().get(keyspace, MARK_KEY).map_err(|error| engine_error(folder, error))?;
    let mark = bytes.as_deref().and_then(Mark::from_bytes);
    mark.ok_or_else(|| OpenError::Damaged { file: folder.database(), what: "it has no version mark".into() })
}

fn engine_error(folder: &Folder, error: fjall::Error) -> OpenError {
    match error {
        fjall::Error::Io(source) | fjall::Error::Storage(fjall::LsmError::Io(source)) => {
            folder.io_error(&folder.database(), source)
        }
        fjall::Error::Locked => OpenError::InUse { folder: folder.path().to_path_buf(), pid: "unknown".into() },
        other => OpenError::Damaged { file: folder.database(), what: other.to_string() },
    }
}
