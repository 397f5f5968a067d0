//! The durable queue of what application servers are told.
//!
//! One process at a time delivers a lane: it has the lane's claim, in the store, and renews it while it works.
//! An entry goes when it was delivered or is too old. A process that dies, or loses its claim, may have
//! delivered entries that are still there: they are delivered once more, under the same id.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::{CallbackRecord, LANES, StateNews};
use crate::{
    domain::{AppId, Error, applications, claim::Claim, damaged, keys},
    env::Clock,
    store::{Lane, RangeQuery, ReadMode, Store, Tx, Watch},
};

/// Entries that are read at a time.
const PAGE: usize = 32;

/// How long a claim holds. Its owner renews it with each page, and with each delivery once half of it is over.
pub const CLAIM_MS: u64 = 30_000;

/// An entry.
#[derive(Clone, Debug)]
pub struct Entry {
    key: Bytes,
    /// The same at each try of delivering it, and no other's of the application.
    pub id: String,
    /// What happened; `None` if it can't be read.
    pub record: Option<CallbackRecord>,
}

/// What a lane has for whoever claims it.
#[derive(Clone, Debug)]
pub enum Page {
    /// Its oldest entries; none: it is empty.
    Entries(Vec<Entry>),
    /// Another process delivers it.
    Others,
}

/// Writes an entry.
pub(super) fn append(tx: &Tx, app: AppId, lane: u16, stamp: u16, record: &CallbackRecord) {
    tx.append_versionstamped(&keys::callback_prefix(app, lane), stamp, &[], record.encode_to_vec());
    tx.add(&keys::callbacks_version(app), 1);
    tx.add(&keys::callbacks_left(app), 1);
}

/// Writes what happened to devices: at most 512 at a time.
pub async fn append_states(store: &Store, news: Vec<StateNews>) -> Result<(), Error> {
    let append_all = async move |tx: &Tx| -> Result<(), Error> {
        for (news, stamp) in news.iter().zip(0..) {
            // One that is gone meanwhile hears of nothing.
            match applications::ensure(tx, news.app).await {
                Ok(()) => append(tx, news.app, news.lane(), stamp, &news.record),
                Err(Error::ApplicationUnknown) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    store.run(Lane::Write, "callback_states", append_all).await?;
    Ok(())
}

/// What ends when there is more to be told.
pub async fn watch(store: &Store, app: AppId) -> Result<Watch, Error> {
    let watch = async move |tx: &Tx| -> Result<Watch, Error> { Ok(tx.watch(&keys::callbacks_version(app))) };
    Ok(store.run(Lane::Read, "callbacks_watch", watch).await?.0)
}

/// What stands in the queue of an application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The lanes that have entries.
    pub lanes: Vec<u16>,
    /// Entries so far, delivered ones included.
    pub queued: u64,
    /// Entries that are neither delivered nor dropped.
    pub left: u64,
}

/// Looks at what stands in the queue.
pub async fn look(store: &Store, app: AppId) -> Result<Standing, Error> {
    let look = async move |tx: &Tx| -> Result<Standing, Error> {
        let firsts: Vec<_> = (0..LANES).map(|lane| tx.range(first(app, lane, 1))).collect();
        let counts = [keys::callbacks_version(app), keys::callbacks_left(app)].map(|key| tx.snapshot_get(&key));
        let mut lanes = Vec::new();
        for (first, lane) in firsts.into_iter().zip(0..) {
            if !first.await?.pairs.is_empty() {
                lanes.push(lane);
            }
        }
        let [queued, left] = counts;
        // Below 0 for a while if there were entries before they were counted.
        let left = u64::try_from(i64::from_le_bytes(eight(left.await?)?)).unwrap_or(0);
        Ok(Standing { lanes, queued: u64::from_le_bytes(eight(queued.await?)?), left })
    };
    Ok(store.run(Lane::Read, "callbacks_look", look).await?.0)
}

/// Claims a lane for `owner`, and reads its oldest entries.
pub async fn claim(store: &Store, clock: &Arc<dyn Clock>, app: AppId, lane: u16, owner: u64) -> Result<Page, Error> {
    let now_ms = clock.unix_ms();
    let claim = async move |tx: &Tx| -> Result<Page, Error> {
        applications::ensure(tx, app).await?;
        if !renew(tx, app, lane, owner, now_ms).await? {
            return Ok(Page::Others);
        }
        let pairs = tx.range(first(app, lane, PAGE)).await?.pairs;
        let entry = |(key, value): (Bytes, Bytes)| {
            let id = keys::callback_id(&key).ok_or_else(|| damaged("callback key"))?;
            Ok(Entry { key, id, record: CallbackRecord::decode(value).ok() })
        };
        pairs.into_iter().map(entry).collect::<Result<_, Error>>().map(Page::Entries)
    };
    Ok(store.run(Lane::Read, "callbacks_claim", claim).await?.0)
}

/// Removes entries that were delivered or dropped, and renews the claim. `false`: it is another's now.
pub async fn settle(
    store: &Store,
    clock: &Arc<dyn Clock>,
    app: AppId,
    lane: u16,
    owner: u64,
    settled: Vec<Entry>,
) -> Result<bool, Error> {
    let now_ms = clock.unix_ms();
    let settle = async move |tx: &Tx| -> Result<bool, Error> {
        applications::ensure(tx, app).await?;
        // Some may be gone: an earlier run was committed unheard, or another process has delivered them, too.
        let there: Vec<_> = settled.iter().map(|entry| tx.get(&entry.key)).collect();
        let mut gone = 0;
        for (entry, there) in settled.iter().zip(there) {
            gone += u64::from(there.await?.is_some());
            tx.clear(&entry.key);
        }
        if gone > 0 {
            tx.add(&keys::callbacks_left(app), gone.wrapping_neg());
        }
        renew(tx, app, lane, owner, now_ms).await
    };
    Ok(store.run(Lane::Read, "callbacks_settle", settle).await?.0)
}

/// A stored number's bytes; an absent one is 0.
fn eight(stored: Option<Bytes>) -> Result<[u8; 8], Error> {
    stored.map_or(Ok([0; 8]), |stored| stored[..].try_into().map_err(|_| damaged("count of callbacks")))
}

fn first(app: AppId, lane: u16, limit: usize) -> RangeQuery {
    let (begin, end) = keys::callbacks(app, lane);
    RangeQuery { begin, end, limit, reverse: false, mode: ReadMode::Snapshot }
}

/// Takes or renews a claim. `false`: another process has it.
async fn renew(tx: &Tx, app: AppId, lane: u16, owner: u64, now_ms: u64) -> Result<bool, Error> {
    let key = keys::callback_claim(app, lane);
    let claim = Claim::from_stored(tx.get(&key).await?)?;
    if claim.owner != owner && claim.holds(now_ms, CLAIM_MS) {
        return Ok(false);
    }
    if claim.owner != owner || !claim.is_fresh(now_ms, CLAIM_MS) {
        tx.set(key, Claim { owner, until_ms: now_ms + CLAIM_MS }.encode_to_vec());
    }
    Ok(true)
}
