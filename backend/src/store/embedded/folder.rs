//! The data folder: its lock, its file modes, its format marker, its free space.
//!
//! Layout: `LOCK` (held while open, names the process), `FORMAT` (our format number), `db/` (fjall's).
//! `db.new/` is a database that was never finished: a first start that was cut off.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock, statvfs};

/// The format this program writes. Raise it when an older program would misread what a newer wrote.
/// 1: the first. 2: heads of conversations have an hour; format 1 is read as it is.
pub(super) const FORMAT: u32 = 2;

/// Why a store can't be opened, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the data folder {} is in use by process {pid}: stop that process or choose another folder", .folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The process that holds it, as it wrote itself; `unknown` if it could not.
        pid: String,
    },
    /// Missing rights, or a read-only file system.
    #[error("the data folder {} is not writable ({source}): give this user write access or choose another folder", .folder.display())]
    NotWritable {
        /// The folder.
        folder: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A folder with other things in it, which could become unreadable for others or mixed up.
    #[error("the folder {} holds other files and no store ({found}): choose an empty or a new folder", .folder.display())]
    NotAStore {
        /// The folder.
        folder: PathBuf,
        /// One of the other files.
        found: String,
    },
    /// No room to open.
    #[error("no space left for the data folder {}: free some space, then start again", .folder.display())]
    OutOfSpace {
        /// The folder.
        folder: PathBuf,
    },
    /// Written by a newer program.
    #[error("the data folder {} has format {found}, this program knows {FORMAT} at most: run the newer program", .folder.display())]
    NewerFormat {
        /// The folder.
        folder: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Bytes that were once synced are wrong now.
    #[error("{} is damaged ({what}): check the disk, then restore the data folder from a backup", .file.display())]
    Damaged {
        /// Which file, or the folder if that is all that is known.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Anything else the operating system said.
    #[error("can't open {}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl OpenError {
    /// The error that `source`, met at `file`, means for `folder`.
    pub(super) fn from_io(folder: &Path, file: &Path, source: io::Error) -> Self {
        use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let folder = folder.to_path_buf();
        match source.kind() {
            PermissionDenied | ReadOnlyFilesystem => OpenError::NotWritable { folder, source },
            StorageFull | QuotaExceeded => OpenError::OutOfSpace { folder },
            _ => OpenError::Io { file: file.to_path_buf(), source },
        }
    }
}

/// The data folder, locked as long as this lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// The lock goes when the file closes, whatever way the process ends.
    _lock: File,
}

impl Folder {
    /// Makes the folder if it is missing, locks it, and takes other users' rights to it away: only
    /// from a folder that is ours, or empty.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let in_folder = |source| OpenError::from_io(path, path, source);
        let is_new = !path.exists();
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(in_folder)?;
        if is_new && let Some(parent) = path.canonicalize().map_err(in_folder)?.parent() {
            sync_dir(parent).map_err(in_folder)?;
        }
        refuse_foreign(path)?;
        let lock = acquire_lock(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(in_folder)?;
        Ok(Folder { path: path.to_path_buf(), _lock: lock })
    }

    /// Where fjall lives, once made.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join("db")
    }

    /// Where a first start makes the database.
    pub(super) fn unfinished_database(&self) -> PathBuf {
        self.path.join("db.new")
    }

    /// Whether the database is still to be made: at a first start, or after one that was cut off. A store
    /// whose database is gone is neither, and not to be replaced by an empty one.
    pub(super) fn is_unfinished(&self) -> Result<bool, OpenError> {
        let exists = |path: PathBuf| path.try_exists().map_err(|error| self.io_error(&path, error));
        if exists(self.database())? {
            return Ok(false);
        }
        if exists(self.path.join("FORMAT"))? {
            self.check_format()?;
            if !exists(self.unfinished_database())? {
                return Err(OpenError::Damaged { file: self.database(), what: "it is missing".into() });
            }
        }
        Ok(true)
    }

    /// Removes what a first start that was cut off has left.
    pub(super) fn discard_unfinished(&self) -> Result<(), OpenError> {
        let remove = || -> io::Result<()> {
            // The format first: alone it would speak of a database that is gone.
            ignore_missing(fs::remove_file(self.path.join("FORMAT")))?;
            sync_dir(&self.path)?;
            ignore_missing(fs::remove_dir_all(self.unfinished_database()))
        };
        remove().map_err(|error| self.io_error(&self.unfinished_database(), error))
    }

    /// Refuses a format this program does not know. To be asked before anything else is touched. Says
    /// which format it is.
    pub(super) fn check_format(&self) -> Result<u32, OpenError> {
        let file = self.path.join("FORMAT");
        let damaged = |what: &str| OpenError::Damaged { file: file.clone(), what: what.into() };
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged("it is missing")),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(damaged("it is no text")),
            Err(error) => return Err(self.io_error(&file, error)),
        };
        let found: u32 = text.trim().parse().map_err(|_| damaged("it holds no format number"))?;
        if found > FORMAT {
            return Err(OpenError::NewerFormat { folder: self.path.clone(), found });
        }
        Ok(found)
    }

    /// Marks an older store as one of this format: from here on older programs refuse it.
    pub(super) fn raise_format(&self) -> Result<(), OpenError> {
        let (file, aside) = (self.path.join("FORMAT"), self.path.join("FORMAT.new"));
        let write = || -> io::Result<()> {
            let mut format = open_private(&aside)?;
            format.set_len(0)?;
            writeln!(format, "{FORMAT}")?;
            format.sync_all()?;
            fs::rename(&aside, &file)?;
            sync_dir(&self.path)
        };
        write().map_err(|error| self.io_error(&file, error))
    }

    /// The last step of a first start: marks the format and puts the finished database in its place.
    pub(super) fn finish_database(&self) -> Result<(), OpenError> {
        let file = self.path.join("FORMAT");
        let write = || -> io::Result<()> {
            let mut format = open_private(&file)?;
            format.set_len(0)?;
            writeln!(format, "{FORMAT}")?;
            format.sync_all()?;
            sync_dir(&self.path)?;
            fs::rename(self.unfinished_database(), self.database())?;
            sync_dir(&self.path)
        };
        write().map_err(|error| self.io_error(&file, error))
    }

    /// The error that `source`, met at `file`, means here.
    pub(super) fn io_error(&self, file: &Path, source: io::Error) -> OpenError {
        OpenError::from_io(&self.path, file, source)
    }

    /// The folder's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that this user may still write.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let stat = statvfs(&self.path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

fn ignore_missing(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn refuse_foreign(folder: &Path) -> Result<(), OpenError> {
    const OURS: [&str; 4] = ["LOCK", "FORMAT", "db", "db.new"];
    let in_folder = |source| OpenError::from_io(folder, folder, source);
    let mut foreign = None;
    for entry in fs::read_dir(folder).map_err(in_folder)? {
        let name = entry.map_err(in_folder)?.file_name();
        match name.to_str() {
            // What else lies in a store's folder is its owner's business.
            Some("FORMAT") => return Ok(()),
            Some(name) if OURS.contains(&name) => {}
            _ => foreign = Some(name.to_string_lossy().into_owned()),
        }
    }
    match foreign {
        Some(found) => Err(OpenError::NotAStore { folder: folder.to_path_buf(), found }),
        None => Ok(()),
    }
}

fn acquire_lock(folder: &Path) -> Result<File, OpenError> {
    let file = folder.join("LOCK");
    let failed = |source| OpenError::from_io(folder, &file, source);
    let mut lock = open_private(&file).map_err(failed)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = lock.read_to_string(&mut pid); // only for the message
            let pid = if pid.trim().is_empty() { "unknown" } else { pid.trim() };
            return Err(OpenError::InUse { folder: folder.to_path_buf(), pid: pid.into() });
        }
        Err(error) => return Err(failed(error.into())),
    }
    let write_pid = |lock: &mut File| -> io::Result<()> {
        lock.set_len(0)?;
        lock.seek(SeekFrom::Start(0))?;
        writeln!(lock, "{}", std::process::id())
    };
    write_pid(&mut lock).map_err(failed)?;
    Ok(lock)
}

fn open_private(file: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(file)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
