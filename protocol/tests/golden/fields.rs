//! Payloads as JSON: every field by its name in im.proto; bytes in hex, 64-bit numbers as decimal strings,
//! enums as numbers, what is absent null. By reflection, so that a new field is in the file by itself.

use std::{collections::BTreeSet, sync::LazyLock};

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MapKey, MessageDescriptor, ReflectMessage, Value as Field};
use protocol::{frame, message::*};
use serde_json::{Value, json};

use crate::format::hex;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let descriptors = include_bytes!(concat!(env!("OUT_DIR"), "/im.descriptors"));
    DescriptorPool::decode(&descriptors[..]).unwrap()
});

/// A payload of any kind, as the generated code encodes it.
#[derive(Clone)]
pub(crate) struct Payload {
    name: Option<&'static str>,
    bytes: Bytes,
}

impl From<()> for Payload {
    fn from((): ()) -> Self {
        Payload { name: None, bytes: Bytes::new() }
    }
}

macro_rules! payloads {
    ($($name:ident)+) => {
        $(impl From<$name> for Payload {
            fn from(message: $name) -> Self {
                Payload { name: Some(stringify!($name)), bytes: message.encode_to_vec().into() }
            }
        })+

        impl Payload {
            /// What the generated code makes of the bytes: fields that it does not know are gone.
            pub(crate) fn decode(name: &str, bytes: Bytes) -> Self {
                match name {
                    $(stringify!($name) => $name::decode(bytes).unwrap().into(),)+
                    _ => panic!("{name} is missing in the list of payloads"),
                }
            }
        }
    };
}

payloads! {
    Hello Welcome GoAway Pong Failure Login LoginReply
    Devices DevicesReply SignOut SignOutReply
    SetPresence SetPresenceReply QueryPresence QueryPresenceReply SubscribePresence SubscribePresenceReply Presence
    Send SendReply Message Body Sync SyncReply EventPush History HistoryReply
    Recall Edit MessageReply Delete Done SendReceipts
    SetExtensions SetExtensionsReply GetExtensions GetExtensionsReply Pin GetPinned GetPinnedReply
    Merge MergeReply GetMerged GetMergedReply
    Conversations ConversationsReply GetConversations GetConversationsReply
    UpdateConversation UpdateConversationReply RenameLabel GetUnread GetUnreadReply
    UpdateBlacklist GetBlacklist GetBlacklistReply
    SetProfile GetProfiles GetProfilesReply
    AddFriends FriendResults AnswerFriendRequest UpdateFriends DeleteFriends DeleteAllFriends
    GetFriends GetFriendsReply GetChosenFriends GetChosenFriendsReply
    GetFriendRequests GetFriendRequestsReply ReadFriendRequests DropFriendRequests
    UpdateFriendLists GetFriendLists GetFriendListsReply CheckRelations CheckRelationsReply
    GuestLogin CreateGroup CreateGroupReply GetGroups GetGroupsReply UpdateGroup DissolveGroup TransferGroup
    GetJoinedGroups GetJoinedGroupsReply SearchGroups SearchGroupsReply JoinGroup JoinGroupReply LeaveGroup
    InviteToGroup GroupResults RemoveFromGroup BanFromGroup GetGroupBans GetGroupBansReply MuteGroupMembers
    UpdateGroupMember GetGroupMembers GetGroupMembersReply GetChosenGroupMembers GetChosenGroupMembersReply
    AnswerGroupApplication GetGroupApplications GetGroupApplicationsReply UpdateGroupAttributes GetGroupAttributes
    GroupAttributes UpdateGroupCounter GetGroupCounters GroupCounters GetGroupReceipts GetGroupReceiptsReply
    GetGroupOnline GetGroupOnlineReply GroupPush
    Locate LocateReply ReportRoundTrips
}

impl Payload {
    /// The message's name in im.proto; `None`: there is no message.
    pub(crate) fn name(&self) -> Option<&'static str> {
        self.name
    }

    pub(crate) fn fields(&self) -> Value {
        self.dynamic().map_or(Value::Null, |message| rendered(&message))
    }

    /// Adds each field, as `Message.field`, that is not absent or at its default, here or further inside.
    pub(crate) fn add_set_fields(&self, names: &mut BTreeSet<String>) {
        if let Some(message) = self.dynamic() {
            add_set_fields(&message, names);
        }
    }

    fn dynamic(&self) -> Option<DynamicMessage> {
        let descriptor = POOL.get_message_by_name(&format!("im.v1.{}", self.name?)).unwrap();
        Some(DynamicMessage::decode(descriptor, self.bytes.clone()).unwrap())
    }
}

impl frame::Payload for Payload {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn put(&self, out: &mut BytesMut) {
        out.extend_from_slice(&self.bytes);
    }
}

fn rendered(message: &DynamicMessage) -> Value {
    let descriptor = message.descriptor();
    let fields = descriptor.fields().map(|field| {
        let absent = field.supports_presence() && !message.has_field(&field);
        let value = if absent { Value::Null } else { value(&message.get_field(&field)) };
        (field.name().to_owned(), value)
    });
    Value::Object(fields.collect())
}

fn value(field: &Field) -> Value {
    match field {
        Field::Bool(value) => json!(value),
        Field::I32(number) | Field::EnumNumber(number) => json!(number),
        Field::U32(number) => json!(number),
        // JSON readers keep 53 bits of a number, and all of a string.
        Field::I64(number) => json!(number.to_string()),
        Field::U64(number) => json!(number.to_string()),
        Field::F32(number) => json!(number),
        Field::F64(number) => json!(number),
        Field::String(text) => json!(text),
        Field::Bytes(bytes) => json!(hex(bytes)),
        Field::Message(message) => rendered(message),
        Field::List(list) => list.iter().map(value).collect(),
        Field::Map(map) => Value::Object(map.iter().map(|(name, field)| (key(name), value(field))).collect()),
    }
}

fn key(key: &MapKey) -> String {
    match key {
        MapKey::String(text) => text.clone(),
        other => panic!("{other:?}: say in format.rs how such a key is written"),
    }
}

fn add_set_fields(message: &DynamicMessage, names: &mut BTreeSet<String>) {
    for (field, value) in message.fields() {
        names.insert(field_name(&message.descriptor(), field.name()));
        match value {
            Field::Message(message) => add_set_fields(message, names),
            Field::List(list) => {
                list.iter().filter_map(Field::as_message).for_each(|message| add_set_fields(message, names));
            }
            _ => {}
        }
    }
}

/// Every field of every message in im.proto, as `Message.field`.
pub(crate) fn all_fields() -> BTreeSet<String> {
    let of_clients = |message: &MessageDescriptor| message.parent_file().name() == "im.proto";
    let messages = POOL.all_messages().filter(|message| !message.is_map_entry() && of_clients(message));
    messages
        .flat_map(|message| message.fields().map(|field| field_name(&message, field.name())).collect::<Vec<_>>())
        .collect()
}

fn field_name(message: &MessageDescriptor, field: &str) -> String {
    format!("{}.{field}", message.name())
}
