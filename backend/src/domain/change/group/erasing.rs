//! What groups know of a user whose account was deleted (ACC-03): a group after the other lets him go and forgets him.
//!
//! What he has said stays, as it does between two users; receipts that he has given go with the messages.

use protocol::message::{GroupApplicationState, GroupRole};

use super::{leaving, roles};
use crate::domain::{
    AppId, Error, GroupId, Peer, UserId,
    act::Staging,
    change::Change,
    groups::{
        access, entering, former,
        records::{GroupRecord, MemberRecord},
    },
    keys,
};

/// Takes the user of the change out of a group, with all that it keeps of him; whoever is told of such things is. A
/// group that he has owned has no owner then. Done again, it does nothing.
pub(in crate::domain::change) async fn erase(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
) -> Result<(), Error> {
    let (app, user) = (change.app, &change.user);
    if let Some(stored) = staging.get(&keys::group(app, group)).await? {
        let mut record = access::decode_group(stored)?;
        let state = GroupApplicationState::Dropped;
        entering::drop_application(staging, app, group, user, state, user.as_str(), "").await?;
        staging.clear(&keys::group_ban(app, group, user));
        match access::member(staging, app, group, user).await? {
            Some(member) if record.rules()?.is_room() => {
                leave_room(staging, change, group, &mut record, member).await?;
            }
            Some(member) => leaving::go(staging, change, group, &mut record, member).await?,
            None => {}
        }
    }
    // Of a group that has just ended somebody else lets him go, who may come too late.
    staging.clear(&keys::member(app, group, user));
    staging.clear(&keys::joined_group(app, user, group));
    forget(staging, app, user, group).await
}

/// A live room keeps only who leads it, and who may not write.
async fn leave_room(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    record: &mut GroupRecord,
    member: MemberRecord,
) -> Result<(), Error> {
    let (app, user) = (change.app, &change.user);
    if member.role() == GroupRole::Owner {
        record.owner.clear();
        entering::count(staging, app, user, 0, -1).await?;
    }
    roles::put_in_room(staging, app, group, record, user, member, GroupRole::None).await?;
    staging.clear(&keys::member(app, group, user));
    Ok(())
}

/// Removes what is kept of the group for the user, and by the group of what he has sent. An account of the same name
/// made later finds nothing of it.
async fn forget(staging: &mut Staging<'_>, app: AppId, user: &UserId, group: &GroupId) -> Result<(), Error> {
    let peer = Peer::Group(group.clone());
    if let Some(hour) = former::read(staging, app, user, group).await?.listed_hour() {
        staging.tx.clear(&keys::active(app, user, hour, &peer));
    }
    former::forget(staging, app, user, group).await?;
    staging.clear(&keys::group_trace(app, user, group));
    staging.clear(&keys::kept(app, user, &peer));
    for mark in [keys::deleted, keys::mention] {
        staging.tx.clear_range(&mark(app, user, &peer, 0), &mark(app, user, &peer, u64::MAX >> 1));
    }
    let (begin, end) = keys::all_group_sent(app, group, user);
    staging.tx.clear_range(&begin, &end);
    Ok(())
}
