//! Every key of the store, in one place.
//!
//! Keys are tuple-encoded (FoundationDB's tuple layer), so that byte order is the tuples' order and any
//! FoundationDB tool can read them. Every key begins with the application; 0 is no application and
//! holds what concerns the deployment. The second element names the subspace:
//!
//! | key | value |
//! | --- | --- |
//! | `(app, 1)` | `ApplicationRecord` |
//! | `(app, 2, user)` | `AccountRecord` |
//! | `(app, 3, 1, user, user)` | a 1:1 conversation's `Head` |
//! | `(app, 4, 1, user, user, seq)` | a message of a 1:1 conversation, as the protocol's `Message` |
//! | `(app, 5, sender, client_message_id)` | `SentRecord`: what a send was answered |
//! | `(app, 6, user, versionstamp)` | `EventRecord`: an entry of the user's event log |
//! | `(app, 20, 1, user, user)` | the first sequence that retention has left of a conversation, u64 little-endian; 1 without |
//! | `(app, 21, hour, 1, user, user)` | empty: the conversation has messages of that hour (hours since the Unix epoch) |
//! | `(app, 22, user)` | the newest position that retention has removed from the user's event log, 12 bytes |
//! | `(0, 23)` | `Claim`: which process removes what has expired |
//! | `(0, 24)` | `EventPass`: how far the pass over the event logs has come |
//! | `(app, 26, hour, content)` | empty: the content of a merged message may expire with that hour |
//! | `(app, 30, user, 1, peer)` | `ConversationRecord`: what a user keeps about a conversation |
//! | `(app, 31, user, hour, 1, peer)` | empty: the conversation was last active in that hour |
//! | `(app, 32, user, 1, peer, seq)` | empty: the user has deleted the message |
//! | `(app, 33, user, 1, peer, seq)` | empty: the message mentions the user |
//! | `(app, 34, 1, user, user, seq)` | the last version of the message's extensions, u64 little-endian |
//! | `(app, 34, 1, user, user, seq, key)` | `ExtensionRecord`: an extension of a message |
//! | `(app, 35, 1, user, user, seq)` | `PinRecord`: a pinned message |
//! | `(app, 36, content)` | `MergedRecord`: what a merged message holds |
//! | `(app, 36, content, index)` | a message inside it, as the protocol's `Message` |
//! | `(app, 37, user, peer)` | `RelationRecord`: what a user says of another |
//! | `(app, 38, user)` | `LabelsRecord`: names of the user's labels |
//! | `(app, 40, user, other)` | since when `other` is on the user's blacklist, in milliseconds (8 bytes); empty: not known |
//! | `(app, 60)` | `AttributeNamesRecord`: names of the attributes that users may have |
//! | `(app, 61, user)` | `AudienceRecord`: a user's attributes and tags |
//! | `(app, 62, versionstamp)` | `AnnouncementRecord`: something told to everybody, without its body |
//! | `(app, 63, random)` | `TaskRecord`: the announcement that was made under this number |
//! | `(app, 64, random)` | the announcement's body, as the protocol's `Body` |
//! | `(app, 65, user)` | up to which announcement the user has been told, 12 bytes |
//! | `(0, 66)` | how many announcements were made, u64 little-endian: watched by every node |
//! | `(app, 67, day, figure)` | how often something happened on that day, u64 little-endian |
//! | `(app, 41, user)` | the user's profile, as the protocol's `Profile` |
//! | `(app, 42, user, friend)` | `FriendRecord`: what a user keeps about a friend |
//! | `(app, 43, user)` | `BookRecord`: counts and sequence of a user's friends and requests, and the friend lists |
//! | `(app, 44, user, seq)` | a name: the friend that changed last at that sequence |
//! | `(app, 45, user, seq)` | a name: who ceased to be a friend at that sequence |
//! | `(app, 46, user, direction, other)` | `RequestRecord`: an open friend request, 1 from `other`, 2 to `other` |
//! | `(app, 47, user)` | `UnfinishedRecord`: what a change of several transactions has still to do |
//! | `(app, 48, user, other)` | empty: `other` has the user as a friend |
//! | `(app, 55)` | empty: somebody of the application has been muted |
//! | `(app, 55, user)` | `MuteRecord`: until when the user may not write |
//! | `(app, 56, hour)`, of groups `(app, 56, hour, 2)` | `HistoryFileRecord`: the messages of that hour as a file |
//! | `(app, 57, hour, attempt, chunk)` | a piece of that file |
//! | `(app, 50, lane, versionstamp)` | `CallbackRecord`: what the application's server is to be told |
//! | `(app, 51, lane)` | `Claim`: which process tells it |
//! | `(app, 52)` | how much there was to tell so far, u64 little-endian |
//! | `(app, 70, group)` | `GroupRecord`: a group |
//! | `(app, 71, group, user)` | `MemberRecord`: what a group knows of a member |
//! | `(app, 72, user, group)` | `JoinedRecord`: a group that the user is in |
//! | `(app, 73, user, group)` | `FormerRecord`: what the user may still see of a group that the user has left |
//! | `(app, 74, group, user)` | `GroupApplicationRecord`: somebody who wants to join |
//! | `(app, 75, group, user)` | `GroupBanRecord`: somebody who is kept out |
//! | `(app, 76, group)` | `GroupAttributesRecord` |
//! | `(app, 77, group)` | `GroupCountersRecord` |
//! | `(app, 78, group, seq)` | how many have read a message, u32 little-endian |
//! | `(app, 78, group, seq, user)` | when the member has read the message, milliseconds, u64 little-endian |
//! | `(app, 79, group, user, seq)` | which of the member's messages it is, of those that count as unread, u64 little-endian |
//! | `(app, 80, word, group)` | empty: a word of a group's name, in lower case |
//! | `(app, 81, user)` | `GroupsOfUserRecord`: how many groups the user is in, owns and has left |
//! | `(app, 82, hour, group, sender, client_message_id)` | `RoomSentRecord`: what a send to a live room was answered |
//! | `(app, 83, place, group)` | the group's type, 4 bytes little-endian: all groups, in the order of their making |
//! | `(app, 84, type)` | how many groups of a type there are, i64 little-endian |
//! | `(app, 85, group, seq)` | who has mentioned everybody in the group with the message: a name |
//! | `(app, 86, user, group)` | empty: the group may keep something of the user, who need not be in it |
//! | `(app, 91, group)` | `ClosingRecord`: a group that has ended, while its members are being told |
//! | `(app, 53)` | how much of it is still to be told, i64 little-endian |
//! | `(0, 39)` | which store this is: 8 random bytes |
//! | `(0, 87)` | what signs probe tokens: 32 random bytes |
//! | `(0, 90)` | what the keys of TLS tickets were derived from by earlier releases: 32 random bytes; removed |
//! | `(0, 92)` | what seals TLS tickets now and in the period before: of each its number, u64 big-endian, and 32 random bytes |
//! | `(0, 88, node)` | `NodeRecord`: a node that lives, as it says |
//! | `(0, 89, node)` | empty: the node has not been taken for dead |
//! | `(0, 28)` | how often applications have changed, u64 little-endian |
//! | `(0, 27, app)` | `RemovalRecord`: an application that was deleted and may have left data |
//! | `(0, 25, time_ms)` | a moment: the version that the store had at that time, u64 big-endian |
//!
//! Where a key has `1, user, user`, or `1, peer` behind a user, a group's conversation has `2, group`. The event log
//! of a large group is `(app, 6, group, versionstamp)` and its floor `(app, 22, group)`, with the group as bytes.
//! The two users of a 1:1 conversation stand in byte order. A subspace's number is never used again
//! for something else. What stands behind a conversation's subspace (`1, user, user`: its kind and who
//! is in it) is its [`Tail`]: the same in all of its keys, so that retention need not know the kinds.

use bytes::Bytes;
use foundationdb_tuple::{Bytes as TupleBytes, TuplePack, pack, unpack};

mod applications;
mod audience;
mod callbacks;
mod expiry;
mod features;
mod groups;
mod parts;
mod people;
mod server_api;

pub(crate) use applications::*;
pub(crate) use audience::*;
pub(crate) use callbacks::*;
pub(crate) use expiry::*;
pub use features::*;
pub use groups::*;
pub(crate) use parts::*;
pub use people::*;
pub(crate) use server_api::*;

use super::{AppId, GroupId, Peer, UserId};
use crate::store::Versionstamp;

const APPLICATION: u32 = 1;
const ACCOUNT: u32 = 2;
const CONVERSATION_HEAD: u32 = 3;
const MESSAGE: u32 = 4;
const SENT: u32 = 5;
const EVENT: u32 = 6;
const CONVERSATION_FLOOR: u32 = 20;
const HOUR: u32 = 21;
const EVENT_FLOOR: u32 = 22;
const RETENTION_CLAIM: u32 = 23;
const EVENT_PASS: u32 = 24;
const MOMENT: u32 = 25;
const MERGED_HOUR: u32 = 26;
const APPLICATIONS_VERSION: u32 = 28;
const REMOVAL: u32 = 27;
const KEPT: u32 = 30;
const ACTIVE: u32 = 31;
const DELETED: u32 = 32;
const MENTION: u32 = 33;
const EXTENSION: u32 = 34;
const PIN: u32 = 35;
const MERGED: u32 = 36;
const RELATION: u32 = 37;
const LABELS: u32 = 38;
const STORE_ID: u32 = 39;
const BLACKLIST: u32 = 40;
const ATTRIBUTE_NAMES: u32 = 60;
const AUDIENCE: u32 = 61;
const ANNOUNCEMENT: u32 = 62;
const ANNOUNCEMENT_TASK: u32 = 63;
const ANNOUNCEMENT_BODY: u32 = 64;
const ANNOUNCED: u32 = 65;
const ANNOUNCEMENTS_MADE: u32 = 66;
const FIGURE: u32 = 67;
const PROFILE: u32 = 41;
const FRIEND: u32 = 42;
const BOOK: u32 = 43;
const FRIEND_CHANGE: u32 = 44;
const FRIEND_REMOVAL: u32 = 45;
const FRIEND_REQUEST: u32 = 46;
const UNFINISHED: u32 = 47;
const KEPT_BY: u32 = 48;
const MUTE: u32 = 55;
const HISTORY_FILE: u32 = 56;
const HISTORY_CHUNK: u32 = 57;
const CALLBACK: u32 = 50;
const CALLBACK_CLAIM: u32 = 51;
const CALLBACKS_VERSION: u32 = 52;
const GROUP: u32 = 70;
const GROUP_MEMBER: u32 = 71;
const GROUP_JOINED: u32 = 72;
const GROUP_FORMER: u32 = 73;
const GROUP_APPLICATION: u32 = 74;
const GROUP_BAN: u32 = 75;
const GROUP_ATTRIBUTES: u32 = 76;
const GROUP_COUNTERS: u32 = 77;
const GROUP_RECEIPT: u32 = 78;
const GROUP_SENT: u32 = 79;
const GROUP_WORD: u32 = 80;
const GROUPS_OF_USER: u32 = 81;
const ROOM_SENT: u32 = 82;
const GROUP_LISTED: u32 = 83;
const GROUP_TOTAL: u32 = 84;
const GROUP_MENTION: u32 = 85;
const GROUP_TRACE: u32 = 86;
const PROBE_KEY: u32 = 87;
const TICKET_SECRET: u32 = 90;
const TICKET_KEYS: u32 = 92;
const NODE: u32 = 88;
const NODE_ALIVE: u32 = 89;
const GROUP_CLOSING: u32 = 91;
const CALLBACKS_LEFT: u32 = 53;

/// The subspaces by name, for people.
pub(crate) const SUBSPACES: &[(u32, &str)] = &[
    (APPLICATION, "application"),
    (ACCOUNT, "accounts"),
    (CONVERSATION_HEAD, "conversations"),
    (MESSAGE, "messages"),
    (SENT, "answers to sends"),
    (EVENT, "event logs"),
    (CONVERSATION_FLOOR, "conversation floors"),
    (HOUR, "index of hours"),
    (EVENT_FLOOR, "event log floors"),
    (RETENTION_CLAIM, "retention claim"),
    (EVENT_PASS, "event log pass"),
    (MOMENT, "moments"),
    (MERGED_HOUR, "hours of merged messages"),
    (APPLICATIONS_VERSION, "version of applications"),
    (REMOVAL, "deleted applications"),
    (KEPT, "conversation states"),
    (ACTIVE, "conversation lists"),
    (DELETED, "deleted messages"),
    (MENTION, "mentions"),
    (EXTENSION, "extensions"),
    (PIN, "pinned messages"),
    (MERGED, "merged messages"),
    (RELATION, "relations"),
    (LABELS, "labels"),
    (STORE_ID, "store id"),
    (BLACKLIST, "blacklists"),
    (ATTRIBUTE_NAMES, "attribute names"),
    (AUDIENCE, "attributes and tags"),
    (ANNOUNCEMENT, "announcements"),
    (ANNOUNCEMENT_TASK, "announcement numbers"),
    (ANNOUNCEMENT_BODY, "announcement bodies"),
    (ANNOUNCED, "announcements told"),
    (ANNOUNCEMENTS_MADE, "announcement count"),
    (FIGURE, "figures of days"),
    (PROFILE, "profiles"),
    (FRIEND, "friends"),
    (BOOK, "friend books"),
    (FRIEND_CHANGE, "index of friends"),
    (FRIEND_REMOVAL, "removed friends"),
    (FRIEND_REQUEST, "friend requests"),
    (UNFINISHED, "unfinished changes"),
    (KEPT_BY, "index of who has whom as a friend"),
    (MUTE, "muted users"),
    (HISTORY_FILE, "files of hours"),
    (HISTORY_CHUNK, "pieces of files of hours"),
    (CALLBACK, "callbacks"),
    (CALLBACK_CLAIM, "claims of callbacks"),
    (CALLBACKS_VERSION, "version of callbacks"),
    (GROUP, "groups"),
    (GROUP_MEMBER, "group members"),
    (GROUP_JOINED, "groups of users"),
    (GROUP_FORMER, "former groups of users"),
    (GROUP_APPLICATION, "applications for groups"),
    (GROUP_BAN, "bans from groups"),
    (GROUP_ATTRIBUTES, "group attributes"),
    (GROUP_COUNTERS, "group counters"),
    (GROUP_RECEIPT, "receipts in groups"),
    (GROUP_SENT, "messages of group members"),
    (GROUP_WORD, "words of group names"),
    (GROUPS_OF_USER, "group counts of users"),
    (ROOM_SENT, "answers to sends to live rooms"),
    (GROUP_LISTED, "list of groups"),
    (GROUP_TOTAL, "numbers of groups"),
    (GROUP_MENTION, "mentions of everybody in groups"),
    (GROUP_TRACE, "traces of users in groups"),
    (GROUP_CLOSING, "groups that have ended, whose members are being told"),
    (CALLBACKS_LEFT, "count of callbacks"),
    (PROBE_KEY, "key of probe tokens"),
    (TICKET_SECRET, "secret of TLS tickets"),
    (TICKET_KEYS, "keys of TLS tickets"),
    (NODE, "nodes"),
    (NODE_ALIVE, "nodes that are not dead"),
];

/// No application: what concerns the deployment.
const DEPLOYMENT: AppId = 0;

/// Kinds of conversations, inside their keys.
const ONE_TO_ONE: u32 = 1;
const IN_GROUP: u32 = 2;

/// The tuple layer's type code of a versionstamp.
const VERSIONSTAMP_TYPE: u8 = 0x33;

/// A 1:1 conversation: the same for both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversation<'a> {
    low: &'a str,
    high: &'a str,
}

impl<'a> Conversation<'a> {
    /// The conversation between two users, in either order.
    pub fn between(one: &'a UserId, other: &'a UserId) -> Self {
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        Conversation { low: low.as_str(), high: high.as_str() }
    }
}

/// A conversation's part of its keys, packed: whatever its kind, what stands behind the subspace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tail(Bytes);

impl From<Conversation<'_>> for Tail {
    fn from(conversation: Conversation<'_>) -> Self {
        Tail(key(&(ONE_TO_ONE, conversation.low, conversation.high)))
    }
}

impl From<&GroupId> for Tail {
    fn from(group: &GroupId) -> Self {
        Tail(key(&(IN_GROUP, group.as_str())))
    }
}

impl Tail {
    /// The conversation that `user` has with `peer`.
    pub(crate) fn of(user: &UserId, peer: &Peer) -> Self {
        match peer {
            Peer::User(other) => Conversation::between(user, other).into(),
            Peer::Group(group) => group.into(),
        }
    }

    /// The group whose conversation it is.
    pub(crate) fn group(&self) -> Option<GroupId> {
        let (kind, group): (u32, String) = unpack(&self.0).ok()?;
        (kind == IN_GROUP).then(|| GroupId::new(&group))?
    }

    /// The users of a 1:1 conversation, each with the other one.
    pub(crate) fn sides(&self) -> Option<[(UserId, UserId); 2]> {
        let (kind, low, high): (u32, String, String) = unpack(&self.0).ok()?;
        let (low, high) = (UserId::new(&low)?, UserId::new(&high)?);
        (kind == ONE_TO_ONE).then(|| [(low.clone(), high.clone()), (high, low)])
    }

    /// The conversation's newest sequence.
    pub(crate) fn head(&self, app: AppId) -> Bytes {
        joined(&(app, CONVERSATION_HEAD), &self.0, &())
    }

    /// The sequence to read a conversation from: what is before was removed.
    pub(crate) fn floor(&self, app: AppId) -> Bytes {
        joined(&(app, CONVERSATION_FLOOR), &self.0, &())
    }

    /// A message.
    pub(crate) fn message(&self, app: AppId, seq: u64) -> Bytes {
        joined(&(app, MESSAGE), &self.0, &(seq,))
    }

    /// The last version that an extension of a message was given. Here its extensions begin, and those of the
    /// messages before it end.
    pub fn extension_counter(&self, app: AppId, seq: u64) -> Bytes {
        joined(&(app, EXTENSION), &self.0, &(seq,))
    }

    /// An extension of a message.
    pub fn extension(&self, app: AppId, seq: u64, name: &str) -> Bytes {
        joined(&(app, EXTENSION), &self.0, &(seq, name))
    }

    /// All extensions of a message.
    pub(crate) fn extensions(&self, app: AppId, seq: u64) -> (Bytes, Bytes) {
        behind(&self.extension_counter(app, seq))
    }

    /// A pinned message.
    pub fn pin(&self, app: AppId, seq: u64) -> Bytes {
        joined(&(app, PIN), &self.0, &(seq,))
    }

    /// All pinned messages.
    pub(crate) fn pins(&self, app: AppId) -> (Bytes, Bytes) {
        behind(&joined(&(app, PIN), &self.0, &()))
    }

    /// Says that the conversation has messages of an hour.
    pub(crate) fn hour(&self, app: AppId, hour: u32) -> Bytes {
        joined(&(app, HOUR, hour), &self.0, &())
    }
}

/// The application itself.
pub fn application(app: AppId) -> Bytes {
    key(&(app, APPLICATION))
}

/// An account.
pub fn account(app: AppId, user: &UserId) -> Bytes {
    key(&(app, ACCOUNT, user.as_str()))
}

/// A conversation's newest sequence.
pub fn conversation_head(app: AppId, conversation: Conversation<'_>) -> Bytes {
    key(&(app, CONVERSATION_HEAD, ONE_TO_ONE, conversation.low, conversation.high))
}

/// A message.
pub fn message(app: AppId, conversation: Conversation<'_>, seq: u64) -> Bytes {
    key(&(app, MESSAGE, ONE_TO_ONE, conversation.low, conversation.high, seq))
}

/// The answer that a send was given, by the sender's own id of it.
pub fn sent(app: AppId, sender: &UserId, client_message_id: &[u8]) -> Bytes {
    key(&(app, SENT, sender.as_str(), TupleBytes::from(client_message_id)))
}

/// What every entry of a user's event log begins with; the versionstamp follows.
pub fn event_prefix(app: AppId, user: &UserId) -> Vec<u8> {
    let mut prefix = pack(&(app, EVENT, user.as_str()));
    prefix.push(VERSIONSTAMP_TYPE);
    prefix
}

/// First key behind `position` in an event log, and the end of the log.
pub fn events_after(app: AppId, user: &UserId, position: Versionstamp) -> (Bytes, Bytes) {
    let mut begin = event_prefix(app, user);
    let mut end = begin.clone();
    begin.extend_from_slice(&position.0);
    begin.push(0);
    end.extend_from_slice(&[0xff; Versionstamp::LEN + 1]);
    (begin.into(), end.into())
}

/// The position of an event log's key.
pub fn event_position(key: &[u8]) -> Option<Versionstamp> {
    let start = key.len().checked_sub(Versionstamp::LEN)?;
    Versionstamp::from_slice(key.get(start..)?)
}

/// The range of all keys that begin with a tuple and go on.
fn children(tuple: &impl TuplePack) -> (Bytes, Bytes) {
    behind(&pack(tuple))
}

/// The range of all keys that begin with these bytes and go on.
fn behind(prefix: &[u8]) -> (Bytes, Bytes) {
    let with = |last: u8| [prefix, &[last]].concat().into();
    (with(0x00), with(0xff))
}

fn key(tuple: &impl TuplePack) -> Bytes {
    pack(tuple).into()
}

/// A key whose middle is packed already.
fn joined(front: &impl TuplePack, middle: &[u8], back: &impl TuplePack) -> Bytes {
    [&pack(front)[..], middle, &pack(back)[..]].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    #[test]
    fn a_conversation_is_the_same_from_both_sides() {
        let (a, b) = (user("anna"), user("ben"));
        assert_eq!(Conversation::between(&a, &b), Conversation::between(&b, &a));
    }

    #[test]
    fn messages_are_ordered_by_sequence_and_apart_by_conversation() {
        let (a, b, c) = (user("a"), user("b"), user("b c"));
        let ab = Conversation::between(&a, &b);
        assert!(message(1, ab, 255) < message(1, ab, 256));
        assert!(message(1, ab, u64::MAX) < message(1, Conversation::between(&a, &c), 1));
        assert!(message(1, ab, 1) < message(2, ab, 1));
    }

    #[test]
    fn event_bounds_hold_exactly_the_user_s_own_log() {
        let position = Versionstamp::new(7, 0, 1);
        let at = |name: &str, position: Versionstamp| [&event_prefix(1, &user(name))[..], &position.0].concat();
        let (begin, end) = events_after(1, &user("a"), position);
        let inside = |key: &[u8]| key >= &begin[..] && key < &end[..];
        assert!(!inside(&at("a", position)));
        assert!(inside(&at("a", Versionstamp::new(7, 0, 2))));
        assert!(inside(&at("a", Versionstamp([0xff; 12]))));
        assert!(!inside(&at("a ", Versionstamp::new(8, 0, 0))));
        assert_eq!(event_position(&at("a", position)), Some(position));
    }

    #[test]
    fn a_tail_makes_the_conversation_s_own_keys() {
        let (a, b) = (user("a"), user("b"));
        let conversation = Conversation::between(&b, &a);
        let tail = Tail::from(conversation);
        assert_eq!(tail.message(1, 300), message(1, conversation, 300));
        for hour in [0, 1, 500_000] {
            let key = tail.hour(1, hour);
            assert_eq!(hour_parts(1, &key), Some((hour, tail.clone())));
            assert_eq!(hour_parts(2, &key), None);
            let due = |before: u32| hours_before(1, before).0 <= key && key < hours_before(1, before).1;
            assert!(due(hour + 1) && !due(hour));
        }
    }

    #[test]
    fn keys_are_taken_apart_again() {
        let (a, b) = (user("a"), user("b 2"));
        let conversation = Conversation::between(&b, &a);
        let tail = Tail::from(conversation);
        let parts = |key: &[u8]| Parts::of(key).map(|(app, _, parts)| (app, parts));
        for seq in [0, 1, 255, 256, u64::from(u32::MAX)] {
            assert_eq!(parts(&message(9, conversation, seq)), Some((9, Parts::Message(tail.clone(), seq))));
        }
        assert_eq!(parts(&conversation_head(9, conversation)), Some((9, Parts::Head(tail.clone()))));
        assert_eq!(parts(&tail.floor(9)), Some((9, Parts::Floor(tail))));
        let sent = Parts::Sent { sender: "a".into(), client_message_id: b"\0\xff\0".as_slice().into() };
        assert_eq!(parts(&super::sent(9, &a, b"\0\xff\0")), Some((9, sent)));
        let position = Versionstamp::new(3, 0, 1);
        let entry = [&event_prefix(9, &a)[..], &position.0].concat();
        assert_eq!(parts(&entry), Some((9, Parts::Event { user: "a".into(), position })));
        assert_eq!(parts(b"\x02a\0"), None);
        assert_eq!(text(&message(9, conversation, 3)), r#"(9, 4, 1, "a", "b 2", 3)"#);
        assert_eq!(text(&[0x99]), "0x99");
    }

    #[test]
    fn the_place_in_an_event_log_is_read_from_its_key() {
        let position = Versionstamp::new(7, 0, 1);
        for name in ["a", "a3", "3"] {
            let log = event_prefix(1, &user(name));
            let entry = [&log[..], &position.0].concat();
            let place = EventPlace::of(1, &entry).expect("a place");
            assert_eq!(place.position, position);
            assert_eq!(place.log_before(1, position), (log.clone().into(), entry.clone().into()));
            assert_eq!(place.floor(1), event_floor(1, &user(name)));
            let last = [&log[..], &[0xff; Versionstamp::LEN]].concat();
            assert!(place.behind_log(1) > last && place.behind_log(1) < event_prefix(1, &user("a4")));
            assert_eq!(EventPlace::of(2, &entry), None);
        }
        assert_eq!(EventPlace::of(1, &event_floor(1, &user("a long name of a user"))), None);
    }

    #[test]
    fn applications_and_moments_are_found_in_order() {
        let (begin, end) = applications_after(5);
        assert!(application(5) < begin && begin <= application(6) && application(u32::MAX) < end);
        assert!(applications_after(u32::MAX).0 > application(u32::MAX));
        assert_eq!(application_of(&account(6, &user("a"))), Some(6));
        assert_eq!(moment_ms(&moment(77)), Some(77));
        assert!(moments_before(77).1 == moment(77) && moment(76) > moments_before(77).0);
        assert_eq!(moment_ms(&retention_claim()), None);
    }
}
