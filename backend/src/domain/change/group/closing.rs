//! A group's end (GRP-04): from its first transaction on nobody finds it any more; then its members are let go and told,
//! some at a time, since there may be more of them than a transaction can hold.
//!
//! In between the group's record is gone and a [`ClosingRecord`] stands in its place: the id is taken until all is done,
//! and a gateway that starts goes on with what it finds (`unfinished`).

use bytes::Bytes;
use prost::Message as _;
use protocol::{
    EncodedPush,
    message::{
        GroupApplication, GroupApplicationState, GroupLeft, GroupPush, GroupRole, event::What, group_left::Why,
        group_push,
    },
};

use super::{GroupChange, life};
use crate::{
    domain::{
        Error, GroupId, Peer, UserId,
        act::{Answer, Staging},
        callbacks::{Happened, MEMBERS_TOLD_MAX},
        change::{Change, Kind},
        damaged,
        groups::{
            Refusal, access, entering, former, listing,
            records::{ClosingRecord, GroupApplicationRecord, GroupRecord},
        },
        keys::{self, Tail},
        records::Head,
        retention::hour_of,
    },
    store::{RangePage, RangeQuery, ReadMode},
};

/// Members, or applicants, who are let go in one transaction: with the longest names about 3 MB.
const TOGETHER: usize = 1_000;
/// What a part of it writes, about: so it has a transaction of its own.
pub(super) const PART_BYTES: usize = TOGETHER * 3_300;
/// A stamp for each applicant, and some.
pub(super) const PART_STAMPS: usize = TOGETHER + 16;

/// Ends a group. Its sequence goes on, should one of the same id be made again.
pub(super) async fn dissolve(staging: &mut Staging<'_>, change: &Change, group: &GroupId) -> Result<Answer, Error> {
    let app = change.app;
    let record = match access::load(staging, app, group).await {
        Err(Error::Group(Refusal::Unknown)) if staging.again => return go_on(staging, change, group).await,
        record => record?,
    };
    let role = access::role(staging, app, group, &change.user).await?;
    access::ensure(record.rules()?.dissolves, change.by, role)?;
    tell_application(staging, change, group, &record).await?;
    if record.rules()?.is_room() {
        let left = GroupPush { what: Some(group_push::What::Left(left(change, group))) };
        staging.push(group.clone(), EncodedPush::group(&left));
        staging.note_end(group);
    }
    life::put_words(staging, app, group, Some(&record), None);
    listing::remove(staging, app, group, &record);
    staging.clear(&keys::group(app, group));
    staging.clear(&keys::group_attributes(app, group));
    staging.clear(&keys::group_counters(app, group));
    for (begin, end) in [keys::group_bans(app, group), keys::all_group_receipts(app, group)] {
        staging.tx.clear_range(&begin, &end);
    }
    let closing = ClosingRecord { by: change.user.to_string(), is_room: record.rules()?.is_room() };
    let_go(staging, change, group, closing).await
}

async fn tell_application(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    record: &GroupRecord,
) -> Result<(), Error> {
    let members = some(staging, keys::members(change.app, group), MEMBERS_TOLD_MAX).await?.pairs;
    let users = members.iter().map(|(key, _)| user_of(key)).collect::<Result<Vec<_>, _>>()?;
    let ended = Happened::GroupDissolved(life::told_of(change, group, record, users.iter()));
    staging.tell_application(change.app, &Tail::from(group), ended).await
}

/// Goes on with what is left of a group that has ended, if anything is.
pub(super) async fn go_on(staging: &mut Staging<'_>, change: &Change, group: &GroupId) -> Result<Answer, Error> {
    match staging.get(&keys::closing_group(change.app, group)).await? {
        None => Ok(Answer::Done),
        Some(stored) => {
            let closing = ClosingRecord::decode(stored).map_err(|_| damaged("closing group"))?;
            let_go(staging, change, group, closing).await
        }
    }
}

/// Lets some of those go who are left; the last of them with what says that there is something left.
async fn let_go(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    closing: ClosingRecord,
) -> Result<Answer, Error> {
    let app = change.app;
    let members = some(staging, keys::members(app, group), TOGETHER).await?;
    release(staging, change, group, &closing, &members).await?;
    let left = TOGETHER.saturating_sub(members.pairs.len()).max(1);
    let applications = some(staging, keys::group_applications(app, group), left).await?;
    drop_applications(staging, change, group, &applications)?;
    let key = keys::closing_group(app, group);
    if members.more || applications.more {
        staging.set(key, closing.encode_to_vec());
        let kind = Kind::Group(Box::new(GroupChange::Close { group: group.clone() }));
        return Ok(staging.go_on(Change::by_admin(app, change.user.clone(), kind)));
    }
    staging.clear(&key);
    Ok(Answer::Done)
}

/// Removes what says that they are in the group, and tells them.
async fn release(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    closing: &ClosingRecord,
    members: &RangePage,
) -> Result<(), Error> {
    let app = change.app;
    let users = members.pairs.iter().map(|(key, _)| user_of(key)).collect::<Result<Vec<_>, _>>()?;
    let rows = |user: &UserId| {
        [keys::groups_of_user(app, user), keys::joined_group(app, user, group), keys::former_group(app, user, group)]
    };
    staging.start_reads(users.iter().flat_map(rows));
    let head = Head::from_stored(staging.get(&Tail::from(group).head(app)).await?)?;
    let mut informed = Vec::new();
    for (user, (key, stored)) in users.iter().zip(&members.pairs) {
        let owned = i64::from(access::decode_member(stored.clone())?.role() == GroupRole::Owner);
        let joined = entering::joined(staging, app, user, group).await?;
        let is_counted = joined.as_ref().is_some_and(|joined| joined.is_active);
        entering::count(staging, app, user, -i64::from(is_counted), -owned).await?;
        // Who has never heard of the group does not hear of its end, either (GRP-13).
        informed.extend(is_counted.then_some(user));
        if head.last_seq > 0 {
            staging.tx.clear(&keys::active(app, user, hour_of(head.active_ms), &Peer::Group(group.clone())));
        }
        staging.clear(&keys::joined_group(app, user, group));
        former::forget(staging, app, user, group).await?;
        staging.clear(key);
        if joined.is_some() {
            staging.note_membership(user, group, false);
        }
        if closing.is_room {
            staging.clear(&keys::group_trace(app, user, group));
        }
    }
    if !closing.is_room {
        let left = GroupLeft { by: closing.by.clone(), ..left(change, group) };
        staging.append_stored_for_all(app, informed, &What::GroupLeft(left));
    }
    Ok(())
}

/// Tells applicants that nobody will answer. Who would have decided hears of the group's end.
fn drop_applications(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    applications: &RangePage,
) -> Result<(), Error> {
    for (key, stored) in &applications.pairs {
        let applicant = user_of(key)?;
        let record = GroupApplicationRecord::decode(stored.clone()).map_err(|_| damaged("group application"))?;
        let told = GroupApplication {
            group: group.to_string(),
            user: applicant.to_string(),
            wording: record.wording,
            time_ms: record.time_ms,
            state: GroupApplicationState::Dropped.into(),
            by: change.user.to_string(),
            text: String::new(),
        };
        staging.append_stored(change.app, &applicant, &What::GroupApplication(told));
        staging.clear(key);
    }
    Ok(())
}

fn left(change: &Change, group: &GroupId) -> GroupLeft {
    let (group, by) = (group.to_string(), change.user.to_string());
    GroupLeft { group, why: Why::Dissolved.into(), by, ..GroupLeft::default() }
}

fn user_of(key: &[u8]) -> Result<UserId, Error> {
    keys::last_name(key).and_then(|user| UserId::new(&user)).ok_or_else(|| damaged("group key with a user"))
}

async fn some(staging: &Staging<'_>, (begin, end): (Bytes, Bytes), limit: usize) -> Result<RangePage, Error> {
    Ok(staging.tx.range(RangeQuery { begin, end, limit, reverse: false, mode: ReadMode::Serializable }).await?)
}
