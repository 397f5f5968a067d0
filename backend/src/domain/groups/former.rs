//! What a user may still see of groups that he has left (GRP-11): of so many groups, those that he has left last.
//!
//! What may not live here: leaving itself ([`super::entering`]).

use bytes::Bytes;
use prost::Message as _;

use super::{
    entering,
    records::{FormerRecord, SPANS_MAX, SpanRecord},
};
use crate::{
    domain::{AppId, Error, GroupId, Peer, UserId, act::Staging, damaged, keys},
    store::{RangeQuery, ReadMode},
};

/// More than may be set (`groups_left_max`), and more than one act adds.
const ROWS_MAX: usize = 4_096;

/// Reads what is kept for a user of a group; nothing, if he has never left it.
pub(crate) async fn read(
    staging: &mut Staging<'_>,
    app: AppId,
    user: &UserId,
    group: &GroupId,
) -> Result<FormerRecord, Error> {
    decode(staging.get(&keys::former_group(app, user, group)).await?.unwrap_or_default())
}

/// Notes a time in which the user has been in the group, behind those of `former`. Of too many groups those are
/// forgotten that he has left first.
pub(crate) async fn put(
    staging: &mut Staging<'_>,
    app: AppId,
    user: &UserId,
    group: &GroupId,
    mut former: FormerRecord,
    span: SpanRecord,
) -> Result<(), Error> {
    let is_first = former.spans.is_empty();
    if former.spans.len() >= SPANS_MAX {
        former.spans.remove(0);
    }
    former.spans.push(span);
    staging.set(keys::former_group(app, user, group), former.encode_to_vec());
    if !is_first {
        return Ok(());
    }
    let left = entering::count_left(staging, app, user, 1).await?;
    let groups_left_max = staging.settings(app).await?.groups_left_max;
    if left > groups_left_max {
        // Some at once: the next ones that he leaves find room.
        prune(staging, app, user, (groups_left_max - groups_left_max / 10) as usize).await?;
    }
    Ok(())
}

/// Removes what is kept for a user of a group.
pub(crate) async fn forget(staging: &mut Staging<'_>, app: AppId, user: &UserId, group: &GroupId) -> Result<(), Error> {
    let key = keys::former_group(app, user, group);
    if staging.get(&key).await?.is_some() {
        staging.clear(&key);
        entering::count_left(staging, app, user, -1).await?;
    }
    Ok(())
}

async fn prune(staging: &mut Staging<'_>, app: AppId, user: &UserId, kept_max: usize) -> Result<(), Error> {
    let (begin, end) = keys::former_groups(app, user);
    let query = RangeQuery { begin, end, limit: ROWS_MAX, reverse: false, mode: ReadMode::Snapshot };
    let mut rows = Vec::new();
    for (key, stored) in staging.tx.range(query).await?.pairs {
        let group = keys::two_names(&key).and_then(|(_, group)| GroupId::new(&group));
        rows.push((group.ok_or_else(|| damaged("former group key"))?, decode(stored)?));
    }
    rows.sort_unstable_by_key(|(_, former)| former.spans.last().map_or(0, |span| span.until_version));
    rows.truncate(rows.len().saturating_sub(kept_max));
    // Leaving a thousand other groups is no way around a mute.
    rows.retain(|(_, former)| former.muted_until_ms <= staging.now_ms);
    staging.start_reads(rows.iter().map(|(group, _)| keys::joined_group(app, user, group)));
    for (group, former) in &rows {
        staging.clear(&keys::former_group(app, user, group));
        // Of a group that he is in again, the rest is as before.
        if entering::joined(staging, app, user, group).await?.is_none() {
            unlist(staging, app, user, group, former);
        }
    }
    entering::count_left(staging, app, user, -(rows.len() as i64)).await?;
    Ok(())
}

/// Takes the conversation with a group off the user's list, with what he has set for it. What he has deleted stays
/// noted: should he come back, he does not see it again.
fn unlist(staging: &mut Staging<'_>, app: AppId, user: &UserId, group: &GroupId, former: &FormerRecord) {
    let peer = Peer::Group(group.clone());
    if let Some(hour) = former.listed_hour() {
        staging.tx.clear(&keys::active(app, user, hour, &peer));
    }
    staging.clear(&keys::kept(app, user, &peer));
    let (first, last) = (keys::mention(app, user, &peer, 0), keys::mention(app, user, &peer, u64::MAX >> 1));
    staging.tx.clear_range(&first, &last);
}

fn decode(stored: Bytes) -> Result<FormerRecord, Error> {
    FormerRecord::decode(stored).map_err(|_| damaged("former group"))
}

impl FormerRecord {
    /// The hour under which the conversation stands in the list of a user who has left the group, if it does.
    pub(crate) fn listed_hour(&self) -> Option<u32> {
        self.spans.last().map(|span| span.active_hour).filter(|hour| *hour > 0)
    }
}
