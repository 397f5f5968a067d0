//! What only administrators of the application ask of groups.

use bytes::Bytes;
use futures::future::try_join_all;
use prost::Message as _;
use protocol::message::{Message, ReceiveOption};

use super::{Refusal, access, records::GroupsOfUserRecord};
use crate::{
    domain::{
        AppId, Error, GroupId, Peer, UserId,
        change::conversation,
        damaged,
        keys::{self, Tail},
        records::Head,
        sync::decode_message,
    },
    store::{Lane, RangeQuery, ReadMode, Store, Tx},
};

/// How far a member has read, and what he wants to receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Read up to here.
    pub read_seq: u64,
    /// What is received.
    pub receive: ReceiveOption,
}

/// The marks of members, in the order asked for.
pub async fn marks(store: &Store, app: AppId, group: &GroupId, users: Vec<UserId>) -> Result<Vec<Mark>, Error> {
    let peer = Peer::Group(group.clone());
    let read = async move |tx: &Tx| -> Result<Vec<Mark>, Error> {
        let one = async |user: &UserId| -> Result<Mark, Error> {
            let kept = conversation::decode(tx.snapshot_get(&keys::kept(app, user, &peer)).await?)?;
            let receive = ReceiveOption::try_from(kept.receive).unwrap_or_default();
            Ok(Mark { read_seq: kept.read_seq, receive })
        };
        try_join_all(users.iter().map(one)).await
    };
    Ok(store.run(Lane::Read, "member_marks", read).await?.0)
}

/// Who may not write in a group now, by name, and until when: milliseconds since the Unix epoch.
pub async fn muted(store: &Store, app: AppId, group: &GroupId, now_ms: u64) -> Result<Vec<(UserId, u64)>, Error> {
    let group = group.clone();
    let read = async move |tx: &Tx| -> Result<Vec<(UserId, u64)>, Error> {
        if tx.snapshot_get(&keys::group(app, &group)).await?.is_none() {
            return Err(Refusal::Unknown.into());
        }
        let members = access::members(tx, app, &group, ReadMode::Snapshot).await?.into_iter();
        Ok(members.map(|(user, member)| (user, member.muted_until_ms)).filter(|(_, until)| *until > now_ms).collect())
    };
    Ok(store.run(Lane::Read, "muted_members", read).await?.0)
}

/// When what is said of groups was changed last, in the order asked for: milliseconds since the Unix epoch, 0 for none.
pub async fn changed(store: &Store, app: AppId, groups: Vec<GroupId>) -> Result<Vec<u64>, Error> {
    let read = async move |tx: &Tx| -> Result<Vec<u64>, Error> {
        let one = async |group: &GroupId| -> Result<u64, Error> {
            let stored = tx.snapshot_get(&keys::group(app, group)).await?.map(access::decode_group).transpose()?;
            Ok(stored.map_or(0, |record| record.changed_ms))
        };
        try_join_all(groups.iter().map(one)).await
    };
    Ok(store.run(Lane::Read, "groups_changed", read).await?.0)
}

/// A message of a group.
pub async fn message(store: &Store, app: AppId, group: &GroupId, seq: u64) -> Result<Message, Error> {
    let group = group.clone();
    let read = async move |tx: &Tx| -> Result<Message, Error> {
        if tx.snapshot_get(&keys::group(app, &group)).await?.is_none() {
            return Err(Refusal::Unknown.into());
        }
        let stored = tx.snapshot_get(&Tail::from(&group).message(app, seq)).await?;
        decode_message(stored.ok_or(Refusal::MessageUnknown)?)
    };
    Ok(store.run(Lane::Read, "group_message", read).await?.0)
}

/// The sequences of what somebody has said among the `newest` messages of a group, newest first.
pub async fn sent(store: &Store, app: AppId, group: &GroupId, user: &UserId, newest: usize) -> Result<Vec<u64>, Error> {
    let (group, user) = (group.clone(), user.clone());
    let read = async move |tx: &Tx| -> Result<Vec<u64>, Error> {
        if tx.snapshot_get(&keys::group(app, &group)).await?.is_none() {
            return Err(Refusal::Unknown.into());
        }
        let head = Head::from_stored(tx.snapshot_get(&Tail::from(&group).head(app)).await?)?;
        let begin = keys::group_sent(app, &group, &user, (head.seq + 1).saturating_sub(newest as u64));
        let end = keys::group_sent(app, &group, &user, head.seq + 1);
        let query = RangeQuery { begin, end, limit: newest, reverse: true, mode: ReadMode::Snapshot };
        let seq = |(key, _): (Bytes, Bytes)| keys::group_sent_seq(&key).ok_or_else(|| damaged("index of messages"));
        tx.range(query).await?.pairs.into_iter().map(seq).collect()
    };
    Ok(store.run(Lane::Read, "group_messages_sent", read).await?.0)
}

/// How many groups a user owns.
pub async fn owned(store: &Store, app: AppId, user: &UserId) -> Result<u32, Error> {
    let key = keys::groups_of_user(app, user);
    let read = async move |tx: &Tx| -> Result<u32, Error> {
        let stored = tx.snapshot_get(&key).await?.unwrap_or_default();
        Ok(GroupsOfUserRecord::decode(stored).map_err(|_| damaged("groups of a user"))?.owned)
    };
    Ok(store.run(Lane::Read, "groups_owned", read).await?.0)
}
