//! All groups of an application, in the order of their making, and how many there are of each type.

use bytes::Bytes;
use protocol::message::GroupType;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    domain::{AppId, Error, GroupId, act::Staging, damaged, groups::records::GroupRecord, keys},
    store::{Lane, RangeQuery, ReadMode, Store, Tx},
};

/// Groups looked at for one page, at the most.
const LOOKED_AT_MAX: usize = 20_000;
/// Bits of a place that tell groups of one second apart. A place is below 2^53, which JSON's numbers hold everywhere.
const APART_BITS: u32 = 20;

/// Where a group stands among all: by the second of its making. Two may have the same place.
fn place(group: &GroupId, record: &GroupRecord) -> u64 {
    let apart = xxh3_64(group.as_str().as_bytes()) & ((1 << APART_BITS) - 1);
    ((record.created_ms / 1000) << APART_BITS) | apart
}

/// Lists a group that was made.
pub(crate) fn add(staging: &mut Staging<'_>, app: AppId, group: &GroupId, record: &GroupRecord) {
    let key = keys::listed_group(app, place(group, record), group);
    staging.tx.set(key, record.kind.to_le_bytes().to_vec());
    staging.tx.add(&keys::group_total(app, record.kind), 1);
}

/// Takes a group off that has ended.
pub(crate) fn remove(staging: &mut Staging<'_>, app: AppId, group: &GroupId, record: &GroupRecord) {
    staging.tx.clear(&keys::listed_group(app, place(group, record), group));
    staging.tx.add(&keys::group_total(app, record.kind), 1_u64.wrapping_neg());
}

/// A page of all groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Groups of the type asked for, or of any, oldest first.
    pub groups: Vec<GroupId>,
    /// Where the next page begins; `None`: there is none. A page may be short, or empty, and have a next one.
    pub next: Option<u64>,
    /// How many such groups there are.
    pub total: u64,
}

/// Reads a page that begins at `from`: 0, or what an earlier page said. It holds `limit` groups, and one more where two
/// have the same place.
pub async fn page(store: &Store, app: AppId, kind: Option<GroupType>, from: u64, limit: usize) -> Result<Page, Error> {
    let read = async move |tx: &Tx| -> Result<Page, Error> {
        let mut page = Page { total: total(tx, app, kind).await?, ..Page::default() };
        let (begin, end) = keys::listed_groups(app, from);
        let looked_at_max = match kind {
            None => limit.clamp(1, LOOKED_AT_MAX) + 2,
            Some(_) => LOOKED_AT_MAX,
        };
        let query = RangeQuery { begin, end, limit: looked_at_max, reverse: false, mode: ReadMode::Snapshot };
        let found = tx.range(query).await?;
        let mut last = None;
        for (key, value) in found.pairs {
            let (place, group) = keys::listed_group_parts(&key).ok_or_else(|| damaged("list of groups"))?;
            if page.groups.len() >= limit.max(1) && last != Some(place) {
                page.next = Some(place);
                return Ok(page);
            }
            last = Some(place);
            let is_wanted = kind.is_none_or(|kind| value[..] == i32::from(kind).to_le_bytes());
            page.groups.extend(is_wanted.then_some(group));
        }
        page.next = last.filter(|_| found.more).map(|last| last + 1);
        Ok(page)
    };
    Ok(store.run(Lane::Read, "all_groups", read).await?.0)
}

async fn total(tx: &Tx, app: AppId, kind: Option<GroupType>) -> Result<u64, Error> {
    let kinds = super::table::TABLE.iter().map(|rules| rules.kind);
    let mut total = 0_i64;
    for kind in kinds.filter(|one| kind.is_none_or(|kind| kind == *one)) {
        let stored: Option<Bytes> = tx.snapshot_get(&keys::group_total(app, kind.into())).await?;
        let number = stored.map(|stored| <[u8; 8]>::try_from(&stored[..])).transpose();
        total += number.map_err(|_| damaged("number of groups"))?.map_or(0, i64::from_le_bytes);
    }
    Ok(total.max(0) as u64)
}
