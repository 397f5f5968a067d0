//! Keys of groups: what they are, who is in them, what happened in them.

use bytes::Bytes;
use foundationdb_tuple::{Bytes as TupleBytes, pack, unpack};

use super::{
    AppId, EVENT, EVENT_FLOOR, GROUP, GROUP_APPLICATION, GROUP_ATTRIBUTES, GROUP_BAN, GROUP_CLOSING, GROUP_COUNTERS,
    GROUP_FORMER, GROUP_JOINED, GROUP_LISTED, GROUP_MEMBER, GROUP_MENTION, GROUP_RECEIPT, GROUP_SENT, GROUP_TOTAL,
    GROUP_TRACE, GROUP_WORD, GROUPS_OF_USER, GroupId, ROOM_SENT, UserId, VERSIONSTAMP_TYPE, children, key,
};
use crate::store::Versionstamp;

/// A group.
pub fn group(app: AppId, group: &GroupId) -> Bytes {
    key(&(app, GROUP, group.as_str()))
}

/// A group that has ended, while its members are being told.
pub fn closing_group(app: AppId, group: &GroupId) -> Bytes {
    key(&(app, GROUP_CLOSING, group.as_str()))
}

/// All those of an application.
pub fn closing_groups(app: AppId) -> (Bytes, Bytes) {
    children(&(app, GROUP_CLOSING))
}

/// All groups of an application, by id.
pub fn groups(app: AppId) -> (Bytes, Bytes) {
    children(&(app, GROUP))
}

/// The group in a key of [`groups`] or [`closing_groups`].
pub fn group_of(key: &[u8]) -> Option<GroupId> {
    let (_, _, group): (AppId, u32, String) = unpack(key).ok()?;
    GroupId::new(&group)
}

/// A group's place among all groups of its application: see `groups::listing`.
pub fn listed_group(app: AppId, place: u64, group: &GroupId) -> Bytes {
    key(&(app, GROUP_LISTED, place, group.as_str()))
}

/// All groups of an application from a place on.
pub fn listed_groups(app: AppId, place: u64) -> (Bytes, Bytes) {
    let (_, end) = children(&(app, GROUP_LISTED));
    (key(&(app, GROUP_LISTED, place)), end)
}

/// The place and the group in a key of [`listed_groups`].
pub fn listed_group_parts(key: &[u8]) -> Option<(u64, GroupId)> {
    let (_, _, place, group): (AppId, u32, u64, String) = unpack(key).ok()?;
    Some((place, GroupId::new(&group)?))
}

/// How many groups of a type there are.
pub fn group_total(app: AppId, kind: i32) -> Bytes {
    key(&(app, GROUP_TOTAL, kind))
}

/// What a group knows of a member.
pub fn member(app: AppId, group: &GroupId, user: &UserId) -> Bytes {
    key(&(app, GROUP_MEMBER, group.as_str(), user.as_str()))
}

/// All members of a group, by name.
pub fn members(app: AppId, group: &GroupId) -> (Bytes, Bytes) {
    children(&(app, GROUP_MEMBER, group.as_str()))
}

/// Says that a user is in a group.
pub fn joined_group(app: AppId, user: &UserId, group: &GroupId) -> Bytes {
    key(&(app, GROUP_JOINED, user.as_str(), group.as_str()))
}

/// All groups that a user is in, by id.
pub fn joined_groups(app: AppId, user: &UserId) -> (Bytes, Bytes) {
    children(&(app, GROUP_JOINED, user.as_str()))
}

/// What a user may still see of a group that the user has left before.
pub fn former_group(app: AppId, user: &UserId, group: &GroupId) -> Bytes {
    key(&(app, GROUP_FORMER, user.as_str(), group.as_str()))
}

/// All groups that a user has left before.
pub fn former_groups(app: AppId, user: &UserId) -> (Bytes, Bytes) {
    children(&(app, GROUP_FORMER, user.as_str()))
}

/// Somebody who wants to join a group.
pub fn group_application(app: AppId, group: &GroupId, user: &UserId) -> Bytes {
    key(&(app, GROUP_APPLICATION, group.as_str(), user.as_str()))
}

/// Everybody who wants to join a group.
pub fn group_applications(app: AppId, group: &GroupId) -> (Bytes, Bytes) {
    children(&(app, GROUP_APPLICATION, group.as_str()))
}

/// Until when a user is kept out of a group.
pub fn group_ban(app: AppId, group: &GroupId, user: &UserId) -> Bytes {
    key(&(app, GROUP_BAN, group.as_str(), user.as_str()))
}

/// Everybody who is kept out of a group.
pub fn group_bans(app: AppId, group: &GroupId) -> (Bytes, Bytes) {
    children(&(app, GROUP_BAN, group.as_str()))
}

/// The attributes of a group.
pub fn group_attributes(app: AppId, group: &GroupId) -> Bytes {
    key(&(app, GROUP_ATTRIBUTES, group.as_str()))
}

/// The counters of a group.
pub fn group_counters(app: AppId, group: &GroupId) -> Bytes {
    key(&(app, GROUP_COUNTERS, group.as_str()))
}

/// How many have read a message.
pub fn group_receipts_count(app: AppId, group: &GroupId, seq: u64) -> Bytes {
    key(&(app, GROUP_RECEIPT, group.as_str(), seq))
}

/// Says that a member has read a message.
pub fn group_receipt(app: AppId, group: &GroupId, seq: u64, user: &UserId) -> Bytes {
    key(&(app, GROUP_RECEIPT, group.as_str(), seq, user.as_str()))
}

/// Everybody who has read a message.
pub fn group_receipts(app: AppId, group: &GroupId, seq: u64) -> (Bytes, Bytes) {
    children(&(app, GROUP_RECEIPT, group.as_str(), seq))
}

/// Everybody who has read anything in a group.
pub fn all_group_receipts(app: AppId, group: &GroupId) -> (Bytes, Bytes) {
    children(&(app, GROUP_RECEIPT, group.as_str()))
}

/// Receipts of messages before `seq`.
pub fn group_receipts_before(app: AppId, group: &GroupId, seq: u64) -> (Bytes, Bytes) {
    (key(&(app, GROUP_RECEIPT, group.as_str())), group_receipts_count(app, group, seq))
}

/// Says that a member has sent a message: the value counts those of the member that count as unread, it included.
pub fn group_sent(app: AppId, group: &GroupId, user: &UserId, seq: u64) -> Bytes {
    key(&(app, GROUP_SENT, group.as_str(), user.as_str(), seq))
}

/// The sequence in a key of [`group_sent`].
pub fn group_sent_seq(key: &[u8]) -> Option<u64> {
    let (_, _, _, _, seq): (AppId, u32, String, String, u64) = unpack(key).ok()?;
    Some(seq)
}

/// All messages that a member has sent.
pub fn all_group_sent(app: AppId, group: &GroupId, user: &UserId) -> (Bytes, Bytes) {
    children(&(app, GROUP_SENT, group.as_str(), user.as_str()))
}

/// Says who has mentioned everybody in a group with a message.
pub fn mention_of_all(app: AppId, group: &GroupId, seq: u64) -> Bytes {
    key(&(app, GROUP_MENTION, group.as_str(), seq))
}

/// Says that a group may keep something of a user who need not be a member: an application, a ban, a place in a live
/// room. It may also keep nothing any more.
pub fn group_trace(app: AppId, user: &UserId, group: &GroupId) -> Bytes {
    key(&(app, GROUP_TRACE, user.as_str(), group.as_str()))
}

/// All groups that may keep something of a user.
pub fn group_traces(app: AppId, user: &UserId) -> (Bytes, Bytes) {
    children(&(app, GROUP_TRACE, user.as_str()))
}

/// Says that a word of a group's name begins like this.
pub fn group_word(app: AppId, word: &str, group: &GroupId) -> Bytes {
    key(&(app, GROUP_WORD, word, group.as_str()))
}

/// Words of groups' names that begin like this.
pub fn group_words(app: AppId, beginning: &str) -> (Bytes, Bytes) {
    let mut begin = pack(&(app, GROUP_WORD, beginning));
    begin.pop(); // the end of the text
    let end = [&begin[..], &[0xff]].concat();
    (begin.into(), end.into())
}

/// The word and the group in a key of [`group_words`].
pub fn group_word_parts(key: &[u8]) -> Option<(String, GroupId)> {
    let (_, _, word, group): (AppId, u32, String, String) = unpack(key).ok()?;
    Some((word, GroupId::new(&group)?))
}

/// How many groups a user is in, and owns.
pub fn groups_of_user(app: AppId, user: &UserId) -> Bytes {
    key(&(app, GROUPS_OF_USER, user.as_str()))
}

/// What a send to a live room was answered, by hour.
pub fn room_sent(app: AppId, hour: u32, group: &GroupId, sender: &UserId, client_message_id: &[u8]) -> Bytes {
    key(&(app, ROOM_SENT, hour, group.as_str(), sender.as_str(), TupleBytes::from(client_message_id)))
}

/// All answers to sends to live rooms before an hour.
pub fn room_sent_before(app: AppId, hour: u32) -> (Bytes, Bytes) {
    (key(&(app, ROOM_SENT)), key(&(app, ROOM_SENT, hour)))
}

/// The name that a key ends with.
pub fn last_name(key: &[u8]) -> Option<String> {
    super::extension_name(key)
}

/// The two names that a key ends with, behind application and subspace.
pub fn two_names(key: &[u8]) -> Option<(String, String)> {
    let (_, _, first, second): (AppId, u32, String, String) = unpack(key).ok()?;
    Some((first, second))
}

/// What every entry of a group's event log begins with; the versionstamp follows. A user's log has a text in its
/// place: so no user's name is taken for a group's.
pub fn group_event_prefix(app: AppId, group: &GroupId) -> Vec<u8> {
    let mut prefix = pack(&(app, EVENT, TupleBytes::from(group.as_str().as_bytes())));
    prefix.push(VERSIONSTAMP_TYPE);
    prefix
}

/// First key behind `position` in a group's event log, and the end of the log.
pub fn group_events_after(app: AppId, group: &GroupId, position: Versionstamp) -> (Bytes, Bytes) {
    let mut begin = group_event_prefix(app, group);
    let mut end = begin.clone();
    begin.extend_from_slice(&position.0);
    begin.push(0);
    end.extend_from_slice(&[0xff; Versionstamp::LEN + 1]);
    (begin.into(), end.into())
}

/// What every entry of a group's event log is written together with, as a conflict: nothing stands there.
pub fn group_event_guard(app: AppId, group: &GroupId) -> (Bytes, Bytes) {
    let mut end = group_event_prefix(app, group);
    let begin = end.clone();
    end.push(0);
    (begin.into(), end.into())
}

/// Up to where a group's event log was removed.
pub fn group_event_floor(app: AppId, group: &GroupId) -> Bytes {
    key(&(app, EVENT_FLOOR, TupleBytes::from(group.as_str().as_bytes())))
}
