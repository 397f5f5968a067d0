//! All 1:1 messages of an hour, or all of groups, as one compressed file (MSG-01), made when it is first asked for and kept in the
//! store in pieces, so that any node can hand it out and its checksums hold however messages change later.
//!
//! The index of hours says which conversations to look at. Reading and writing are portioned, and outside of the
//! write lane: nobody's messages wait for it. What a message looks like in the file is up to the caller.

use std::{io::Write as _, sync::Arc};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use md5::{Digest, Md5};
use prost::Message as _;
use protocol::message::Message;

use super::{
    AppId, Error, applications, damaged,
    keys::{self, Tail},
    records::{Head, HistoryFileRecord},
    retention::floor_seq,
    sync::decode_message,
    usersig,
};
use crate::{
    env::Rng,
    store::{Lane, RangeQuery, ReadMode, Store, Tx},
};

const HOUR_MS: u64 = 3_600_000;

/// Bytes of a piece: a value of the store is not larger than 100 kB.
const CHUNK_BYTES: usize = 64 * 1024;

/// Messages read in one transaction, at the most.
const MESSAGES_MAX: usize = 128;

/// Pieces of old files removed with each new file, at the most.
const OLD_CHUNKS_MAX: usize = 1_024;

/// Which messages a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chat {
    /// Those between two users.
    OneToOne,
    /// Those in groups; of live rooms nothing is kept.
    Groups,
}

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HourFile {
    /// Names its pieces.
    pub attempt: u64,
    /// How many there are.
    pub chunks: u32,
    /// Length of the content, in bytes.
    pub bytes: u64,
    /// Its MD5.
    pub md5: Bytes,
    /// Length of the file, in bytes.
    pub gzip_bytes: u64,
    /// Its MD5.
    pub gzip_md5: Bytes,
}

/// Names a file, so that whoever was told of it can fetch it without being an administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The application.
    pub app: AppId,
    /// Which messages.
    pub chat: Chat,
    /// Hours since the Unix epoch.
    pub hour: u32,
    /// Of the file.
    pub attempt: u64,
}

impl Link {
    /// A signature that holds for `valid_s` seconds.
    pub async fn sign(self, store: &Store, now_s: u64, valid_s: u64) -> Result<String, Error> {
        let sign = async move |tx: &Tx| -> Result<String, Error> {
            let application = applications::application(tx, self.app).await?.ok_or(Error::ApplicationUnknown)?;
            Ok(usersig::sign(self.app, &application.secret, &self.name(), now_s, valid_s))
        };
        Ok(store.run(Lane::Read, "sign_link", sign).await?.0)
    }

    /// Refuses a signature that is none, or holds no longer.
    pub async fn check(self, store: &Store, signature: String, now_s: u64) -> Result<(), Error> {
        let check = async move |tx: &Tx| -> Result<(), Error> {
            let application = applications::application(tx, self.app).await?.ok_or(Error::ApplicationUnknown)?;
            application.verify(&self.name(), &signature, now_s)?;
            Ok(())
        };
        store.run(Lane::Read, "check_link", check).await?;
        Ok(())
    }

    /// What is signed: longer than any user's name, so that it is no credential of anybody.
    fn name(self) -> String {
        format!("file of all messages ({:?}) of the hour {}, {}", self.chat, self.hour, self.attempt)
    }
}

/// How a file is written: what stands before, between and behind the messages, and a message.
pub trait Layout: Send + Sync + 'static {
    /// The beginning of the content.
    fn head(&self) -> Vec<u8>;
    /// One message; `first`: nothing stands before it.
    fn message(&self, message: &Message, first: bool) -> Vec<u8>;
    /// The end of the content.
    fn tail(&self) -> Vec<u8>;
}

/// The file of an hour (hours since the Unix epoch), made if it is not there. `None`: the hour has no messages.
/// Files of hours before `oldest` are removed on the way.
pub async fn file(
    store: &Store,
    rng: &dyn Rng,
    app: AppId,
    (chat, hour): (Chat, u32),
    oldest: u32,
    layout: Arc<dyn Layout>,
) -> Result<Option<HourFile>, Error> {
    if let Some(found) = find(store, app, chat, hour).await? {
        return Ok(Some(found));
    }
    remove_old(store, app, oldest).await?;
    let mut writer = Writer::new(store.clone(), app, (chat, hour), rng.next_u64());
    writer.write(&layout.head()).await?;
    let mut place = Place::default();
    let mut count = 0usize;
    loop {
        let (messages, next) = read_some(store, app, (chat, hour), place).await?;
        for message in messages {
            writer.write(&layout.message(&message, count == 0)).await?;
            count += 1;
        }
        match next {
            Some(next) => place = next,
            None => break,
        }
    }
    if count == 0 {
        return Ok(None);
    }
    writer.write(&layout.tail()).await?;
    writer.finish().await.map(Some)
}

/// The file of an hour, if it has been made.
pub async fn find(store: &Store, app: AppId, chat: Chat, hour: u32) -> Result<Option<HourFile>, Error> {
    let read = async move |tx: &Tx| -> Result<Option<HistoryFileRecord>, Error> {
        let stored = tx.snapshot_get(&keys::history_file(app, chat, hour)).await?;
        stored.map(|stored| HistoryFileRecord::decode(stored).map_err(|_| damaged("file of an hour"))).transpose()
    };
    let record = store.run(Lane::Read, "history_file", read).await?.0;
    Ok(record.map(|HistoryFileRecord { attempt, chunks, bytes, md5, gzip_bytes, gzip_md5 }| HourFile {
        attempt,
        chunks,
        bytes,
        md5,
        gzip_bytes,
        gzip_md5,
    }))
}

/// A piece of a file.
pub async fn chunk(store: &Store, app: AppId, hour: u32, attempt: u64, chunk: u32) -> Result<Bytes, Error> {
    let key = keys::history_chunk(app, hour, attempt, chunk);
    let read = async move |tx: &Tx| -> Result<Option<Bytes>, Error> { Ok(tx.snapshot_get(&key).await?) };
    store.run(Lane::Read, "history_chunk", read).await?.0.ok_or_else(|| damaged("file of an hour without a piece"))
}

async fn remove_old(store: &Store, app: AppId, oldest: u32) -> Result<(), Error> {
    let remove = async move |tx: &Tx| -> Result<(), Error> {
        for (begin, end) in keys::history_before(app, oldest) {
            let mode = ReadMode::Snapshot;
            let old = tx.range(RangeQuery { begin, end, limit: OLD_CHUNKS_MAX, reverse: false, mode }).await?;
            old.pairs.iter().for_each(|(key, _)| tx.clear(key));
        }
        Ok(())
    };
    store.run(Lane::Read, "remove_history_files", remove).await?;
    Ok(())
}

/// How far an hour has been read: the conversation's key in the index, and the next sequence in it.
#[derive(Clone, Debug, Default)]
struct Place {
    conversation: Option<Bytes>,
    seq: u64,
}

/// Some messages of an hour, and where it goes on.
async fn read_some(
    store: &Store,
    app: AppId,
    (chat, hour): (Chat, u32),
    from: Place,
) -> Result<(Vec<Message>, Option<Place>), Error> {
    let read = async move |tx: &Tx| -> Result<_, Error> {
        let (first, end) = keys::hour(app, hour);
        let begin = from.conversation.clone().unwrap_or(first);
        let query = RangeQuery { begin, end, limit: 1, reverse: false, mode: ReadMode::Snapshot };
        let Some((key, _)) = tx.range(query).await?.pairs.into_iter().next() else { return Ok((Vec::new(), None)) };
        let (_, tail) = keys::hour_parts(app, &key).ok_or_else(|| damaged("hour key"))?;
        let seq = if from.conversation.as_ref() == Some(&key) { from.seq } else { 0 };
        let is_wanted = tail.group().is_some() == (chat == Chat::Groups);
        let (messages, next) = match is_wanted {
            false => (Vec::new(), None),
            true => read_conversation(tx, app, hour, &tail, seq).await?,
        };
        let place = match next {
            Some(seq) => Place { conversation: Some(key), seq },
            None => Place { conversation: Some([&key[..], &[0]].concat().into()), seq: 0 },
        };
        Ok((messages, Some(place)))
    };
    Ok(store.run(Lane::Read, "history_of_hour", read).await?.0)
}

/// Some messages of an hour in one conversation, from a sequence on (0: from the hour's first), and the next
/// sequence if there are more.
async fn read_conversation(
    tx: &Tx,
    app: AppId,
    hour: u32,
    tail: &Tail,
    from: u64,
) -> Result<(Vec<Message>, Option<u64>), Error> {
    let from_ms = u64::from(hour) * HOUR_MS;
    let head = Head::from_stored(tx.snapshot_get(&tail.head(app)).await?)?;
    let first = match from {
        0 => first_since(tx, app, tail, head.seq, from_ms).await?,
        from => from,
    };
    let (begin, end) = (tail.message(app, first), tail.message(app, head.seq + 1));
    let query = RangeQuery { begin, end, limit: MESSAGES_MAX, reverse: false, mode: ReadMode::Snapshot };
    let page = tx.range(query).await?;
    let mut messages = Vec::with_capacity(page.pairs.len());
    for (_, stored) in page.pairs {
        let message = decode_message(stored)?;
        if message.time_ms >= from_ms + HOUR_MS {
            return Ok((messages, None));
        }
        messages.push(message);
    }
    let next = messages.last().filter(|_| page.more).map(|last| last.seq + 1);
    Ok((messages, next))
}

/// The first sequence that is not before a time: times never fall from one sequence to the next.
pub(super) async fn first_since(tx: &Tx, app: AppId, tail: &Tail, head: u64, time_ms: u64) -> Result<u64, Error> {
    let mut low = floor_seq(tx.snapshot_get(&tail.floor(app)).await?)?;
    let mut high = head + 1;
    while low < high {
        let middle = low + (high - low) / 2;
        let (begin, end) = (tail.message(app, middle), tail.message(app, head + 1));
        let query = RangeQuery { begin, end, limit: 1, reverse: false, mode: ReadMode::Snapshot };
        let found = tx.range(query).await?.pairs.into_iter().next();
        match found.map(|(_, stored)| decode_message(stored)).transpose()? {
            Some(found) if found.time_ms < time_ms => low = found.seq + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// Compresses what it is given, and writes it into the store piece by piece.
struct Writer {
    store: Store,
    app: AppId,
    chat: Chat,
    hour: u32,
    encoder: GzEncoder<Vec<u8>>,
    md5: Md5,
    gzip_md5: Md5,
    record: HistoryFileRecord,
}

impl Writer {
    fn new(store: Store, app: AppId, (chat, hour): (Chat, u32), attempt: u64) -> Self {
        // Half of the numbers there are: the tuple layer's integers have a sign.
        let record = HistoryFileRecord { attempt: attempt >> 1, ..HistoryFileRecord::default() };
        let encoder = GzEncoder::new(Vec::new(), Compression::default());
        Writer { store, app, chat, hour, encoder, md5: Md5::new(), gzip_md5: Md5::new(), record }
    }

    async fn write(&mut self, content: &[u8]) -> Result<(), Error> {
        self.md5.update(content);
        self.record.bytes += content.len() as u64;
        self.encoder.write_all(content).map_err(|_| damaged("compressing"))?;
        while self.encoder.get_ref().len() >= CHUNK_BYTES {
            let rest = self.encoder.get_mut().split_off(CHUNK_BYTES);
            let chunk = std::mem::replace(self.encoder.get_mut(), rest);
            self.put(chunk).await?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<HourFile, Error> {
        let encoder = std::mem::replace(&mut self.encoder, GzEncoder::new(Vec::new(), Compression::none()));
        let rest = encoder.finish().map_err(|_| damaged("compressing"))?;
        for chunk in rest.chunks(CHUNK_BYTES) {
            self.put(chunk.to_vec()).await?;
        }
        self.record.md5 = Bytes::copy_from_slice(&self.md5.finalize());
        self.record.gzip_md5 = Bytes::copy_from_slice(&self.gzip_md5.finalize());
        let (app, key, record) =
            (self.app, keys::history_file(self.app, self.chat, self.hour), self.record.encode_to_vec());
        let write = async move |tx: &Tx| -> Result<(), Error> {
            applications::ensure(tx, app).await?;
            // Somebody else may have been faster: links to that file have been given out.
            if tx.get(&key).await?.is_none() {
                tx.set(key.clone(), record.clone());
            }
            Ok(())
        };
        self.store.run(Lane::Read, "put_history_file", write).await?;
        find(&self.store, self.app, self.chat, self.hour).await?.ok_or_else(|| damaged("file of an hour"))
    }

    async fn put(&mut self, chunk: Vec<u8>) -> Result<(), Error> {
        self.gzip_md5.update(&chunk);
        self.record.gzip_bytes += chunk.len() as u64;
        let key = keys::history_chunk(self.app, self.hour, self.record.attempt, self.record.chunks);
        self.record.chunks += 1;
        let (app, chunk) = (self.app, Bytes::from(chunk));
        let write = async move |tx: &Tx| -> Result<(), Error> {
            applications::ensure(tx, app).await?;
            tx.set(key.clone(), chunk.clone());
            Ok(())
        };
        self.store.run(Lane::Read, "put_history_chunk", write).await?;
        Ok(())
    }
}
