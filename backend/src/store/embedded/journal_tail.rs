//! The journals, checked and their newest one's tail cut before fjall opens them.
//!
//! fjall 3.1 refuses to open, or allocates what garbage tells it to, when a crash of the machine left
//! the newest journal's unsynced tail torn. Cutting the file behind its last valid batch gives back
//! what fjall can read, with every synced batch in it. What may not live here: any trust in lengths
//! read from the file.
//!
//! fjall's journal (`<number>.jnl`; the highest number is the active one, the others are sealed, that
//! is, synced and never written again) is a row of batches, then zeros (space taken in advance):
//!
//! ```text
//! batch = start item* end              all integers little-endian
//! start = 1, items: u32, sequence: u64
//! item  = 2, type: u8, compression: u8, keyspace: u64, key length: u16, value length: u32,
//!         stored value length: u32, key, stored value
//!       | 4, keyspace: u64             (a clear; never written by us)
//! end   = 3, xxh3-64 of the items: u64, "FJL", 3
//! ```
//!
//! Torn or damaged? Pages that were never synced reach the disk in any order, so a valid batch behind
//! an invalid one proves nothing. But each of our batches stores its version and the version that was
//! durable when it was written ([`Mark`]): a batch that knows versions to be durable which are not in
//! the valid part is the proof that synced data is gone. So is a journal that does not go on where the
//! one before it, finished and synced, ends. Synced batches at the very end of the newest journal are
//! beyond proof: if they are gone with nothing behind them, that looks like a tail that was torn.
//!
//! The checksum leaves out the sequence, by which fjall orders what it reads. A wrong one would put a batch
//! over all that follow, so a batch is valid only if its sequence can stand where it does.
//!
//! What is read is what is on the disk: the cache of a system on which a sync has failed holds pages that
//! never reached it, and no later sync tells ([`forget_unwritten`]).

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, ErrorKind, Read, Seek},
    path::Path,
};

use rustix::fs::{Advice, fadvise};
use xxhash_rust::xxh3::Xxh3;

use super::{
    super::seam::Version,
    MARK_KEY,
    folder::{Folder, OpenError},
    journals::list,
    mark::Mark,
};

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: &[u8; 4] = b"FJL\x03";

/// Checks all journals of the database in `folder` and cuts the newest behind its last valid batch.
pub(super) fn repair(folder: &Folder) -> Result<(), OpenError> {
    let journals = list(&folder.database()).map_err(|error| folder.io_error(&folder.database(), error))?;
    let Some(((_, newest), sealed)) = journals.split_last() else { return Ok(()) };
    let mut last = None;
    let mut read = |path: &Path| {
        let scan = forget_unwritten(path).and_then(|()| Journal::scan(path, last));
        let scan = scan.map_err(|error| folder.io_error(path, error))?;
        if !scan.follows {
            return Err(damaged(path, 0, "what was committed before it is lost"));
        }
        last = scan.last;
        Ok(scan)
    };
    for (_, path) in sealed {
        let scan = read(path)?;
        if !scan.rest_is_zero || scan.valid_bytes == 0 {
            return Err(damaged(path, scan.valid_bytes, "no valid batch in a finished journal"));
        }
    }
    let scan = read(newest)?;
    if scan.rest_is_zero {
        return Ok(());
    }
    if scan.durable_proven > scan.last.map_or(0, |last| last.mark.version) {
        return Err(damaged(newest, scan.valid_bytes, "synced batches behind it are lost"));
    }
    cut(newest, scan.valid_bytes).map_err(|error| folder.io_error(newest, error))?;
    tracing::warn!(
        journal = %newest.display(),
        cut_bytes = scan.file_bytes - scan.valid_bytes,
        "cut the journal's torn tail; nothing in it was ever acknowledged"
    );
    Ok(())
}

/// Has the system read the file from the disk from here on. What a kill left in the cache is written first.
fn forget_unwritten(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    file.sync_all()?;
    Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
}

fn damaged(file: &Path, at: u64, what: &str) -> OpenError {
    OpenError::Damaged { file: file.to_path_buf(), what: format!("{what}, from byte {at} on") }
}

fn cut(path: &Path, len: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(len)?;
    file.sync_all()
}

/// A batch that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    mark: Mark,
    /// By which fjall orders it.
    sequence: u64,
}

impl Batch {
    /// Whether this can be the commit after `before`.
    fn is_next(&self, before: &Batch) -> bool {
        // The first marks are those of a store that is being made.
        self.mark.version == before.mark.version + 1 || before.mark.version == 0
    }

    /// Whether its sequence can be the one after `before`. What fjall does itself takes some, few.
    fn is_in_sequence(&self, before: &Batch) -> bool {
        const STEP_MAX: u64 = 1 << 20;
        self.sequence > before.sequence && self.sequence - before.sequence <= STEP_MAX
    }
}

/// What a journal holds.
#[derive(Debug)]
struct Scan {
    file_bytes: u64,
    /// Length of the valid batches from the beginning.
    valid_bytes: u64,
    /// The last of them, or of the journals before.
    last: Option<Batch>,
    /// The first of them is the commit after the last of the journal before.
    follows: bool,
    /// Nothing but zeros, or nothing, follows.
    rest_is_zero: bool,
    /// Otherwise: the newest version that a valid batch further back knows to be durable.
    durable_proven: Version,
}

/// A journal being read.
struct Journal {
    file: BufReader<File>,
    file_bytes: u64,
    at: u64,
}

impl Journal {
    /// Reads the journal that comes behind one that ends with `before`.
    fn scan(path: &Path, before: Option<Batch>) -> io::Result<Scan> {
        let file = File::open(path)?;
        let file_bytes = file.metadata()?.len();
        let mut journal = Journal { file: BufReader::with_capacity(1 << 16, file), file_bytes, at: 0 };
        let (follows, last) = (true, before);
        let mut scan = Scan { file_bytes, valid_bytes: 0, last, follows, rest_is_zero: false, durable_proven: 0 };
        // Before the last: its end, and which it is.
        let mut earlier = (0, None);
        while let Some(batch) = journal.batch()? {
            if let Some(last) = scan.last
                && !(batch.is_next(&last) && batch.is_in_sequence(&last))
            {
                let is_next = batch.is_next(&last);
                scan.follows = is_next || scan.valid_bytes > 0;
                // Where this one could stand behind the one before the last, the last one's sequence is wrong.
                if is_next && earlier.1.is_some_and(|earlier| batch.is_in_sequence(&earlier)) {
                    (scan.valid_bytes, scan.last) = earlier;
                }
                break;
            }
            earlier = (scan.valid_bytes, scan.last);
            (scan.valid_bytes, scan.last) = (journal.at, Some(batch));
        }
        journal.seek(scan.valid_bytes)?;
        scan.rest_is_zero = journal.rest_is_zero()?;
        if !scan.rest_is_zero {
            scan.durable_proven = journal.durable_proven_after(scan.valid_bytes)?;
        }
        Ok(scan)
    }

    /// Reads one batch. None if there is no valid one here; the position is then anywhere.
    fn batch(&mut self) -> io::Result<Option<Batch>> {
        match self.parse_batch() {
            Ok(batch) => Ok(batch),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse_batch(&mut self) -> io::Result<Option<Batch>> {
        let [START] = self.bytes()? else { return Ok(None) };
        let items = self.bytes()?;
        let sequence = u64::from_le_bytes(self.bytes()?);
        let mut checksum = Xxh3::new();
        let mut mark = Mark::default();
        for _ in 0..u32::from_le_bytes(items) {
            let [tag] = self.bytes()?;
            checksum.update(&[tag]);
            match tag {
                ITEM => mark = mark.max(self.item(&mut checksum)?),
                CLEAR => checksum.update(&self.bytes::<8>()?),
                _ => return Ok(None),
            }
        }
        let [END, sum @ .., t0, t1, t2, t3] = self.bytes::<13>()? else { return Ok(None) };
        let is_valid = u64::from_le_bytes(sum) == checksum.digest() && [t0, t1, t2, t3] == *TRAILER;
        Ok(is_valid.then_some(Batch { mark, sequence }))
    }

    fn item(&mut self, checksum: &mut Xxh3) -> io::Result<Mark> {
        let header = self.bytes::<20>()?;
        checksum.update(&header);
        let [_, _, _, _, _, _, _, _, _, _, k0, k1, _, _, _, _, v0, v1, v2, v3] = header;
        let key_bytes = u64::from(u16::from_le_bytes([k0, k1]));
        let value_bytes = u64::from(u32::from_le_bytes([v0, v1, v2, v3]));
        // Refused by size first: garbage must not send the parser through the whole file.
        if key_bytes + value_bytes > self.file_bytes.saturating_sub(self.at) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if key_bytes == MARK_KEY.len() as u64 && value_bytes == Mark::LEN as u64 {
            let (key, value) = (self.bytes::<{ MARK_KEY.len() }>()?, self.bytes::<{ Mark::LEN }>()?);
            checksum.update(&key);
            checksum.update(&value);
            return Ok(if key == *MARK_KEY { Mark::from_bytes(&value).unwrap_or_default() } else { Mark::default() });
        }
        self.hash_bytes(key_bytes + value_bytes, checksum)?;
        Ok(Mark::default())
    }

    fn hash_bytes(&mut self, mut left: u64, checksum: &mut Xxh3) -> io::Result<()> {
        let mut chunk = [0; 4096];
        while left > 0 {
            let len = left.min(chunk.len() as u64) as usize;
            let Some(part) = chunk.get_mut(..len) else { break };
            self.file.read_exact(part)?;
            checksum.update(part);
            self.at += len as u64;
            left -= len as u64;
        }
        Ok(())
    }

    fn rest_is_zero(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        loop {
            let len = self.file.read(&mut chunk)?;
            if len == 0 {
                return Ok(true);
            }
            if chunk.iter().take(len).any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
    }

    /// The newest version known as durable by any valid batch from `at` on. Batches follow each
    /// other, so one is looked for behind everything that looks like the end of another.
    fn durable_proven_after(&mut self, mut at: u64) -> io::Result<Version> {
        let mut proven = 0;
        loop {
            self.seek(at)?;
            if let Some(batch) = self.batch()? {
                proven = proven.max(batch.mark.durable);
                // Step back over its trailer: it is where the next may begin.
                at = self.at - TRAILER.len() as u64;
            }
            self.seek(at)?;
            if !self.skip_trailer()? {
                return Ok(proven);
            }
            at = self.at;
        }
    }

    /// Goes behind the next trailer.
    fn skip_trailer(&mut self) -> io::Result<bool> {
        let mut last = [0; 4];
        loop {
            let byte = match self.bytes::<1>() {
                Ok([byte]) => byte,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
            };
            let [_, b, c, d] = last;
            last = [b, c, d, byte];
            if last == *TRAILER {
                return Ok(true);
            }
        }
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn seek(&mut self, at: u64) -> io::Result<()> {
        // Not from `self.at`: a read that failed half-way moved the file further than that.
        let here = self.file.stream_position()?;
        self.file.seek_relative(at as i64 - here as i64)?;
        self.at = at;
        Ok(())
    }
}
