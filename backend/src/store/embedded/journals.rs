//! The journal's files, and their sync on handles of our own.
//!
//! fjall's `persist` holds the journal's lock while the disk works, so that no commit could be
//! written meanwhile. `fdatasync` concerns the file, not the handle: a handle of ours does the same
//! without the lock. Why nothing is missed:
//!
//! - A commit returns when its whole batch has gone to the operating system (`PersistMode::Buffer`).
//! - fjall moves to the next journal only after it has synced the last one, under its lock, and never
//!   writes to that again. So a journal with a written byte proves that all before it are on the disk.
//! - A newer journal that is still all zeros may be the trace of a move that failed: it does not count.
//! - A failed write-back is told to every handle that was open then, and to the first one opened later.
//!   If fjall was told first, it takes no commit any more.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Mutex,
};

use super::super::lock;

/// The journals in the order they were written, with their numbers. The last one is the active one.
pub(super) fn list(database: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        journals.extend(number.map(|number| (number, path)));
    }
    journals.sort();
    Ok(journals)
}

/// The journal that commits go to.
pub(super) struct ActiveJournal {
    database: PathBuf,
    active: Mutex<(u64, File)>,
}

impl ActiveJournal {
    /// The active journal of the database in the folder `database`. Before fjall opens it: from then
    /// on it may move to the next one at any time.
    pub(super) fn find(database: PathBuf) -> io::Result<Option<Self>> {
        let Some((number, path)) = list(&database)?.pop() else { return Ok(None) };
        let active = Mutex::new((number, File::open(path)?));
        Ok(Some(ActiveJournal { database, active }))
    }

    /// Makes durable whatever was committed before this call.
    pub(super) fn sync(&self) -> io::Result<()> {
        let mut active = lock(&self.active);
        if let Some(newer) = self.newest_written(active.0)? {
            *active = newer;
        }
        active.1.sync_data()
    }

    fn newest_written(&self, known: u64) -> io::Result<Option<(u64, File)>> {
        for (number, path) in list(&self.database)?.into_iter().rev().take_while(|(number, _)| *number > known) {
            match File::open(path) {
                Ok(file) if has_content(&file)? => return Ok(Some((number, file))),
                Ok(_) => {}
                // Not needed any more since the list was made, so the next one was in use by then.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return self.newest_written(known),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

fn has_content(mut journal: &File) -> io::Result<bool> {
    let mut first = [0];
    Ok(journal.read(&mut first)? == 1 && first != [0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_journal_counts_from_its_first_byte() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().to_path_buf();
        let write = |name: &str, content: &[u8]| fs::write(database.join(name), content).expect("writes");
        assert!(ActiveJournal::find(database.clone()).expect("lists").is_none());
        write("9.jnl", &[1]);
        write("10.jnl", &[1]);
        write("other", &[1]);
        let journal = ActiveJournal::find(database.clone()).expect("lists").expect("a journal");
        let synced = || {
            journal.sync().expect("syncs");
            lock(&journal.active).0
        };
        assert_eq!(synced(), 10);
        write("11.jnl", &[0; 100]);
        assert_eq!(synced(), 10, "nothing is in it");
        write("12.jnl", &[1]);
        write("13.jnl", &[0; 100]);
        assert_eq!(synced(), 12);
        fs::remove_file(database.join("12.jnl")).expect("removes");
        assert_eq!(synced(), 12, "the handle stays");
        write("13.jnl", &[1]);
        assert_eq!(synced(), 13);
    }
}
