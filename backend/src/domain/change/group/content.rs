//! What a group keeps beside its description: attributes, counters; and what its members are told (GRP-21).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use protocol::{
    EncodedEvent, EncodedPush,
    message::{
        GroupAttributes, GroupCounterOperation, GroupCounters, GroupNotification, GroupPush, GroupRole, event::What,
        group_push,
    },
};

use super::ensure;
use crate::{
    domain::{
        AppId, Error, GroupId, UserId,
        act::{Answer, Author, Staging},
        callbacks::{AttributesChange, GroupAttributesChanged, Happened},
        change::Change,
        damaged,
        groups::{
            Refusal, access, entering,
            records::{GroupAttributesRecord, GroupCountersRecord, GroupRecord},
        },
        keys::{self, Tail},
        records::EventKind,
    },
    store::ReadMode,
};

/// Attributes of a group, at the most.
const ATTRIBUTES_MAX: usize = 16;
/// Longest key of an attribute, in bytes.
const ATTRIBUTE_KEY_BYTES_MAX: usize = 32;
/// Longest value of an attribute, in bytes.
const ATTRIBUTE_BYTES_MAX: usize = 4_096;
/// All attributes of a group together, in bytes.
const ATTRIBUTES_BYTES_MAX: usize = 16_384;
/// Counters of a group, at the most.
const COUNTERS_MAX: usize = 20;
/// Changes of counters that are known again.
const CHANGES_KNOWN_MAX: usize = 16;
/// Longest key of a counter, in bytes.
const COUNTER_KEY_BYTES_MAX: usize = 128;

pub(super) fn check_attributes(set: &BTreeMap<String, Bytes>, remove: &[String]) -> Result<(), Error> {
    let is_key = |key: &String| (1..=ATTRIBUTE_KEY_BYTES_MAX).contains(&key.len());
    ensure(set.keys().chain(remove).all(is_key), "a key must have 1 to 32 bytes")?;
    ensure(set.values().all(|value| value.len() <= ATTRIBUTE_BYTES_MAX), "a value must have at most 4096 bytes")?;
    ensure(set.len() <= ATTRIBUTES_MAX && remove.len() <= ATTRIBUTES_MAX, "a group has at most 16 attributes")
}

pub(super) fn check_counters(changes: &[(String, GroupCounterOperation, i64)]) -> Result<(), Error> {
    let is_key = |key: &String| (1..=COUNTER_KEY_BYTES_MAX).contains(&key.len());
    ensure(changes.iter().all(|(key, ..)| is_key(key)), "a key must have 1 to 128 bytes")?;
    ensure((1..=COUNTERS_MAX).contains(&changes.len()), "changes must be 1 to 20")
}

/// The group, for somebody who may change what it keeps: members, and administrators of the application. Of a live
/// room whoever leads it, since who is in it is not known here.
async fn open(staging: &mut Staging<'_>, change: &Change, group: &GroupId) -> Result<GroupRecord, Error> {
    let record = access::load(staging, change.app, group).await?;
    let role = access::role(staging, change.app, group, &change.user).await?;
    let is_room = record.rules()?.is_room();
    let may = change.by == Author::Admin || role >= if is_room { GroupRole::Admin } else { GroupRole::Member };
    if !may {
        return Err(Refusal::RightMissing.into());
    }
    change.take_group_rate(staging, group).await?;
    Ok(record)
}

/// Changes the group's attributes.
pub(super) async fn attributes(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    set: &BTreeMap<String, Bytes>,
    remove: &[String],
    reset: bool,
    revision: u64,
) -> Result<Answer, Error> {
    let kind = open(staging, change, group).await?.kind;
    let key = keys::group_attributes(change.app, group);
    let before = decode_attributes(staging.get(&key).await?)?;
    let mut now = before.clone();
    if reset {
        now.attributes.clear();
    }
    remove.iter().for_each(|key| drop(now.attributes.remove(key)));
    now.attributes.extend(set.iter().map(|(key, value)| (key.clone(), value.clone())));
    let is_done = staging.again && now.attributes == before.attributes;
    if revision > 0 && revision != before.revision && !is_done {
        return Err(Refusal::AttributesConflict.into());
    }
    let bytes: usize = now.attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
    if now.attributes.len() > ATTRIBUTES_MAX || bytes > ATTRIBUTES_BYTES_MAX {
        return Err(Error::ListFull("a group has at most 16 attributes of 16384 bytes together"));
    }
    now.revision += u64::from(!is_done);
    staging.set(key, now.encode_to_vec());
    let how = match (reset, set.is_empty(), remove.is_empty()) {
        (true, true, _) => AttributesChange::Cleared,
        (true, false, _) => AttributesChange::Set,
        (false, true, false) => AttributesChange::Deleted,
        (false, ..) => AttributesChange::Modified,
    };
    let removed = remove.iter().filter(|key| !set.contains_key(*key)).map(|key| (key.clone(), Bytes::new()));
    let attributes = removed.chain(set.iter().map(|(key, value)| (key.clone(), value.clone()))).collect();
    let (group_id, by) = (group.to_string(), change.user.to_string());
    let changed = GroupAttributesChanged { group: group_id, kind, by, how: how.into(), attributes };
    staging.tell_application(change.app, &Tail::from(group), Happened::GroupAttributes(changed)).await?;
    let told = shown_attributes(group, now);
    let push = GroupPush { what: Some(group_push::What::Attributes(told.clone())) };
    staging.push(group.clone(), EncodedPush::group(&push));
    Ok(Answer::GroupAttributes(Box::new(told)))
}

/// Attributes from their stored form.
pub(crate) fn decode_attributes(stored: Option<Bytes>) -> Result<GroupAttributesRecord, Error> {
    GroupAttributesRecord::decode(stored.unwrap_or_default()).map_err(|_| damaged("group attributes"))
}

/// As clients see them.
pub(crate) fn shown_attributes(group: &GroupId, record: GroupAttributesRecord) -> GroupAttributes {
    GroupAttributes { group: group.to_string(), attributes: record.attributes, revision: record.revision }
}

/// Changes counters.
pub(super) async fn counters(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    id: u64,
    changes: &[(String, GroupCounterOperation, i64)],
) -> Result<Answer, Error> {
    open(staging, change, group).await?;
    let key = keys::group_counters(change.app, group);
    let mut now = decode_counters(staging.get(&key).await?)?;
    if now.changes.contains(&id) {
        let wanted = changes.iter().filter_map(|(key, ..)| Some((key.clone(), *now.counters.get(key)?)));
        let counters = wanted.collect();
        let told = GroupCounters { group: group.to_string(), counters, ..GroupCounters::default() };
        return Ok(Answer::GroupCounters(Box::new(told)));
    }
    let mut told = GroupCounters { group: group.to_string(), ..GroupCounters::default() };
    for (key, operation, value) in changes {
        let known = now.counters.get(key).copied();
        let next = match operation {
            GroupCounterOperation::Remove => {
                now.counters.remove(key);
                told.removed.push(key.clone());
                continue;
            }
            GroupCounterOperation::Set => *value,
            GroupCounterOperation::Add => {
                known.unwrap_or(0).checked_add(*value).ok_or(Error::Argument("the counter would overflow"))?
            }
        };
        now.counters.insert(key.clone(), next);
        told.counters.insert(key.clone(), next);
    }
    if now.counters.len() > COUNTERS_MAX {
        return Err(Error::ListFull("a group has at most 20 counters"));
    }
    now.changes.push(id);
    if now.changes.len() > CHANGES_KNOWN_MAX {
        now.changes.remove(0);
    }
    staging.set(key, now.encode_to_vec());
    let push = GroupPush { what: Some(group_push::What::Counters(told.clone())) };
    staging.push(group.clone(), EncodedPush::group(&push));
    Ok(Answer::GroupCounters(Box::new(told)))
}

/// Counters from their stored form.
pub(crate) fn decode_counters(stored: Option<Bytes>) -> Result<GroupCountersRecord, Error> {
    GroupCountersRecord::decode(stored.unwrap_or_default()).map_err(|_| damaged("group counters"))
}

/// Tells members something that the application has to say.
pub(super) async fn notify(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    users: &[UserId],
    content: &Bytes,
) -> Result<Answer, Error> {
    let app = change.app;
    let record = access::load(staging, app, group).await?;
    let told = GroupNotification {
        group: group.to_string(),
        by: change.user.to_string(),
        content: content.clone(),
        time_ms: staging.now_ms,
    };
    if record.rules()?.is_room() {
        let push = EncodedPush::group(&GroupPush { what: Some(group_push::What::Notification(told)) });
        match users {
            [] => staging.push(group.clone(), push),
            users => users.iter().for_each(|user| staging.push(user.clone(), push.clone())),
        }
        return Ok(Answer::Done);
    }
    let what = What::GroupNotification(told);
    if users.is_empty() && record.is_active {
        let event = EncodedEvent::of(&what);
        let receivers = access::receivers(staging, app, group, &record).await?;
        let kind = EventKind::Stored(event.to_stored());
        staging.append_to_group(app, group, receivers.as_deref(), kind, event);
        return Ok(Answer::Done);
    }
    if users.is_empty() {
        let members = access::members(staging.tx, app, group, ReadMode::Serializable).await?;
        let members: Vec<UserId> = members.into_iter().map(|(user, _)| user).collect();
        notify_informed(staging, app, group, &members, &what).await?;
        return Ok(Answer::Done);
    }
    let mut outcomes = Vec::with_capacity(users.len());
    staging.start_reads(users.iter().map(|user| keys::member(app, group, user)));
    for user in users {
        let is_member = access::member(staging, app, group, user).await?.is_some();
        outcomes.push((user.clone(), if is_member { Ok(()) } else { Err(Refusal::UserUnknown) }));
    }
    let members = outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(user, _)| user);
    notify_informed(staging, app, group, members, &what).await?;
    Ok(Answer::GroupUsers(outcomes))
}

/// Tells those of these members who know of the group: of one in which nothing has been said, hardly anybody (GRP-13).
async fn notify_informed(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    members: impl IntoIterator<Item = &UserId> + Clone,
    what: &What,
) -> Result<(), Error> {
    staging.start_reads(members.clone().into_iter().map(|user| keys::joined_group(app, user, group)));
    let mut informed = Vec::new();
    for user in members {
        if entering::joined(staging, app, user, group).await?.is_some_and(|joined| joined.is_active) {
            informed.push(user);
        }
    }
    staging.append_stored_for_all(app, informed, what);
    Ok(())
}
