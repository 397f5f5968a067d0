//! Keys taken apart, for those who look at the whole store.

use bytes::Bytes;
use foundationdb_tuple::{Bytes as TupleBytes, Element, pack, unpack};
use prost::Message;
use protocol::message;

use super::super::{
    audience::Audience,
    deployment::{SECRET_BYTES, TicketKey},
    groups::records::{
        FormerRecord, GroupApplicationRecord, GroupAttributesRecord, GroupBanRecord, GroupCountersRecord,
        RoomSentRecord,
    },
    nodes::NodeRecord,
    records::{ConversationRecord, ExtensionRecord, LabelsRecord, MergedRecord, PinRecord},
};
use super::{
    ACCOUNT, ACTIVE, ANNOUNCED, ANNOUNCEMENT, ANNOUNCEMENT_BODY, ANNOUNCEMENT_TASK, ANNOUNCEMENTS_MADE, APPLICATION,
    APPLICATIONS_VERSION, ATTRIBUTE_NAMES, AUDIENCE, AppId, BLACKLIST, BOOK, CALLBACK, CALLBACK_CLAIM, CALLBACKS_LEFT,
    CALLBACKS_VERSION, CONVERSATION_FLOOR, CONVERSATION_HEAD, DELETED, Direction, EVENT, EVENT_FLOOR, EVENT_PASS,
    EXTENSION, EventPlace, FIGURE, FRIEND, FRIEND_CHANGE, FRIEND_REMOVAL, FRIEND_REQUEST, GROUP, GROUP_APPLICATION,
    GROUP_ATTRIBUTES, GROUP_BAN, GROUP_CLOSING, GROUP_COUNTERS, GROUP_FORMER, GROUP_JOINED, GROUP_LISTED, GROUP_MEMBER,
    GROUP_MENTION, GROUP_RECEIPT, GROUP_SENT, GROUP_TOTAL, GROUP_TRACE, GROUP_WORD, GROUPS_OF_USER, GroupId,
    HISTORY_CHUNK, HISTORY_FILE, HOUR, KEPT, KEPT_BY, LABELS, MENTION, MERGED, MERGED_HOUR, MESSAGE, MOMENT, MUTE,
    NODE, NODE_ALIVE, PIN, PROBE_KEY, PROFILE, RELATION, REMOVAL, RETENTION_CLAIM, ROOM_SENT, SENT, STORE_ID,
    TICKET_KEYS, TICKET_SECRET, Tail, UNFINISHED, UserId, expiry::split_number, friend_request_parts, group_of,
    hour_parts, one_user, two_names, two_users, user_and_seq,
};
use crate::store::Versionstamp;

/// A key taken apart, for those who look at the whole store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    Application,
    Account,
    Head(Tail),
    Message(Tail, u64),
    Sent {
        sender: String,
        client_message_id: Bytes,
    },
    Event {
        user: String,
        position: Versionstamp,
    },
    GroupEvent {
        group: GroupId,
        position: Versionstamp,
    },
    Floor(Tail),
    Hour(u32, Tail),
    EventFloor {
        user: String,
    },
    RetentionClaim,
    EventPass,
    Moment,
    Profile,
    /// What the first says of the second.
    Relation(UserId, UserId),
    /// What the first keeps about the second.
    Friend(UserId, UserId),
    Book(UserId),
    FriendChange(UserId, u64),
    FriendRemoval(UserId, u64),
    FriendRequest(UserId, Direction, UserId),
    Unfinished,
    /// The second has the first as a friend.
    KeptBy(UserId, UserId),
    ApplicationsVersion,
    Callback,
    CallbackClaim,
    CallbacksVersion,
    CallbacksLeft,
    Removal,
    Group(GroupId),
    /// A group that has ended.
    Closing,
    /// Of the user, in the group.
    Member(GroupId, UserId),
    /// The user is in the group.
    Joined(UserId, GroupId),
    GroupsOfUser(UserId),
    /// Something that belongs to messages or conversations, and is checked by its subspace alone.
    Feature,
    /// A subspace that this program does not know.
    Unknown,
}

impl Parts {
    /// The application and subspace of a key, and what it is; `None` if the tuple layer did not write it so.
    pub(crate) fn of(key: &[u8]) -> Option<(AppId, u32, Parts)> {
        let (app, behind_app) = split_number(key)?;
        let (subspace, rest) = split_number(behind_app)?;
        let (app, subspace) = (app.try_into().ok()?, subspace.try_into().ok()?);
        let tail = |rest: &[u8]| Tail(Bytes::copy_from_slice(rest));
        let parts = match subspace {
            APPLICATION => Parts::Application,
            ACCOUNT => Parts::Account,
            CONVERSATION_HEAD => Parts::Head(tail(rest)),
            MESSAGE => {
                let seq = match unpack::<Vec<Element<'_>>>(rest).ok()?.pop()? {
                    Element::Int(seq) => u64::try_from(seq).ok()?,
                    _ => return None,
                };
                let tail_bytes = rest.len().checked_sub(pack(&(seq,)).len())?;
                Parts::Message(tail(rest.get(..tail_bytes)?), seq)
            }
            SENT => {
                let (sender, client_message_id): (String, TupleBytes<'_>) = unpack(rest).ok()?;
                Parts::Sent { sender, client_message_id: Bytes::copy_from_slice(&client_message_id) }
            }
            EVENT => {
                let place = EventPlace::of(app, key)?;
                match unpack::<(String,)>(&place.user) {
                    Ok((user,)) => Parts::Event { user, position: place.position },
                    Err(_) => Parts::GroupEvent { group: group_name(&place.user)?, position: place.position },
                }
            }
            CONVERSATION_FLOOR => Parts::Floor(tail(rest)),
            HOUR => hour_parts(app, key).map(|(hour, tail)| Parts::Hour(hour, tail))?,
            EVENT_FLOOR => match unpack::<(String,)>(rest) {
                Ok((user,)) => Parts::EventFloor { user },
                Err(_) => group_name(rest).map(|_| Parts::Feature)?,
            },
            GROUP => Parts::Group(group_of(key)?),
            GROUP_CLOSING => Parts::Closing,
            GROUP_MEMBER => two_names(key)
                .and_then(|(group, user)| Some(Parts::Member(GroupId::new(&group)?, UserId::new(&user)?)))?,
            GROUP_JOINED => two_names(key)
                .and_then(|(user, group)| Some(Parts::Joined(UserId::new(&user)?, GroupId::new(&group)?)))?,
            GROUPS_OF_USER => Parts::GroupsOfUser(one_user(key)?),
            GROUP_FORMER | GROUP_APPLICATION | GROUP_BAN | GROUP_ATTRIBUTES | GROUP_COUNTERS | GROUP_RECEIPT
            | GROUP_SENT | GROUP_WORD | ROOM_SENT | GROUP_LISTED | GROUP_TOTAL | GROUP_MENTION | GROUP_TRACE => {
                Parts::Feature
            }
            RETENTION_CLAIM => Parts::RetentionClaim,
            EVENT_PASS => Parts::EventPass,
            MOMENT => Parts::Moment,
            PROFILE => Parts::Profile,
            RELATION => two_users(key).map(|(user, other)| Parts::Relation(user, other))?,
            FRIEND => two_users(key).map(|(user, friend)| Parts::Friend(user, friend))?,
            BOOK => Parts::Book(one_user(key)?),
            FRIEND_CHANGE => user_and_seq(key).map(|(user, seq)| Parts::FriendChange(user, seq))?,
            FRIEND_REMOVAL => user_and_seq(key).map(|(user, seq)| Parts::FriendRemoval(user, seq))?,
            FRIEND_REQUEST => {
                friend_request_parts(key).map(|(user, way, other)| Parts::FriendRequest(user, way, other))?
            }
            UNFINISHED => Parts::Unfinished,
            KEPT_BY => two_users(key).map(|(user, other)| Parts::KeptBy(user, other))?,
            MERGED_HOUR | KEPT | ACTIVE | DELETED | MENTION | EXTENSION | PIN | MERGED | LABELS | STORE_ID
            | BLACKLIST | MUTE | HISTORY_FILE | HISTORY_CHUNK | ATTRIBUTE_NAMES | AUDIENCE | ANNOUNCEMENT
            | ANNOUNCEMENT_TASK | ANNOUNCEMENT_BODY | ANNOUNCED | ANNOUNCEMENTS_MADE | FIGURE | PROBE_KEY
            | TICKET_SECRET | TICKET_KEYS | NODE | NODE_ALIVE => Parts::Feature,
            APPLICATIONS_VERSION => Parts::ApplicationsVersion,
            REMOVAL => Parts::Removal,
            CALLBACK => Parts::Callback,
            CALLBACK_CLAIM => Parts::CallbackClaim,
            CALLBACKS_VERSION => Parts::CallbacksVersion,
            CALLBACKS_LEFT => Parts::CallbacksLeft,
            _ => Parts::Unknown,
        };
        Some((app, subspace, parts))
    }
}

/// The group whose log a key's part names.
fn group_name(packed: &[u8]) -> Option<GroupId> {
    let (name,): (TupleBytes<'_>,) = unpack(packed).ok()?;
    GroupId::new(std::str::from_utf8(&name).ok()?)
}

/// Since when a user is on a blacklist; 0 in entries that were written when that was not kept.
pub(crate) fn blacklisted_ms(value: &[u8]) -> Option<u64> {
    if value.is_empty() { Some(0) } else { value.try_into().ok().map(u64::from_be_bytes) }
}

/// Whether the value of a [`Parts::Feature`] is what its subspace holds.
pub(crate) fn feature_decodes(subspace: u32, key: &[u8], value: &[u8]) -> bool {
    fn is<R: Message + Default>(value: &[u8]) -> bool {
        R::decode(value).is_ok()
    }
    let elements = unpack::<Vec<Element<'_>>>(key).unwrap_or_default();
    // A conversation is told by two users, or by a group.
    let is_of_group = matches!(elements.get(2), Some(Element::Int(2)));
    let elements = elements.len();
    match (subspace, elements) {
        (KEPT, _) => is::<ConversationRecord>(value),
        (ACTIVE | DELETED | MENTION | NODE_ALIVE, _) => value.is_empty(),
        (NODE, _) => is::<NodeRecord>(value),
        (BLACKLIST, _) => blacklisted_ms(value).is_some(),
        (AUDIENCE, _) => is::<Audience>(value),
        (ANNOUNCEMENT_BODY, _) => is::<message::Body>(value),
        (ANNOUNCED, _) => value.len() == Versionstamp::LEN,
        (ANNOUNCEMENTS_MADE | FIGURE, _) => value.len() == size_of::<u64>(),
        (STORE_ID, _) => value.len() == size_of::<u64>(),
        (EXTENSION, 6) if !is_of_group => value.len() == size_of::<u64>(),
        (EXTENSION, 5) => value.len() == size_of::<u64>(),
        (PROBE_KEY | TICKET_SECRET, _) => value.len() == SECRET_BYTES,
        (TICKET_KEYS, _) => value.len().is_multiple_of(TicketKey::LEN),
        (EXTENSION, _) => is::<ExtensionRecord>(value),
        (PIN, _) => is::<PinRecord>(value),
        (MERGED, 3) => is::<MergedRecord>(value),
        (MERGED, _) => is::<message::Message>(value),
        (LABELS, _) => is::<LabelsRecord>(value),
        (GROUP_FORMER, _) => is::<FormerRecord>(value),
        (GROUP_APPLICATION, _) => is::<GroupApplicationRecord>(value),
        (GROUP_BAN, _) => is::<GroupBanRecord>(value),
        (GROUP_ATTRIBUTES, _) => is::<GroupAttributesRecord>(value),
        (GROUP_COUNTERS, _) => is::<GroupCountersRecord>(value),
        (GROUP_RECEIPT, 4) => value.len() == size_of::<u32>(),
        (GROUP_RECEIPT | GROUP_SENT, _) => value.len() == size_of::<u64>(),
        (GROUP_LISTED, _) => value.len() == size_of::<i32>(),
        (GROUP_TOTAL, _) => value.len() == size_of::<i64>(),
        (GROUP_WORD | GROUP_TRACE, _) => value.is_empty(),
        (GROUP_MENTION, _) => std::str::from_utf8(value).ok().and_then(UserId::new).is_some(),
        (ROOM_SENT, _) => is::<RoomSentRecord>(value),
        // One that was added later.
        _ => true,
    }
}

/// A key as text: `(7, 4, 1, "anna", "ben", 3)`; in hexadecimal what the tuple layer did not write.
pub(crate) fn text(key: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let Ok(elements) = unpack::<Vec<Element<'_>>>(key) else { return format!("0x{}", hex(key)) };
    let element = |element: &Element<'_>| match element {
        Element::Int(number) => number.to_string(),
        Element::String(text) => format!("{text:?}"),
        Element::Bytes(bytes) => format!("0x{}", hex(bytes)),
        Element::Versionstamp(stamp) => format!("0x{}", hex(stamp.as_bytes())),
        other => format!("{other:?}"),
    };
    format!("({})", elements.iter().map(element).collect::<Vec<_>>().join(", "))
}
