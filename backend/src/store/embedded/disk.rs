//! The real disk under the sync thread.

use std::io;

use fjall::{Database, PersistMode};

use super::{folder::Folder, journals::ActiveJournal, syncer::Disk};

/// The data folder's disk.
pub(super) struct JournalDisk {
    journal: ActiveJournal,
    // Before the folder, whose lock must go last.
    database: Database,
    folder: Folder,
}

impl JournalDisk {
    pub(super) fn new(journal: ActiveJournal, database: Database, folder: Folder) -> Self {
        JournalDisk { journal, database, folder }
    }
}

impl Disk for JournalDisk {
    fn sync(&self) -> io::Result<()> {
        self.journal.sync()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.folder.free_bytes()
    }

    fn check(&self) -> Result<(), String> {
        // Buffers are empty after every commit: this only asks.
        self.database.persist(PersistMode::Buffer).map_err(|error| match error {
            fjall::Error::Poisoned => "the database stopped: its tables could not be written or merged".into(),
            other => other.to_string(),
        })
    }
}
