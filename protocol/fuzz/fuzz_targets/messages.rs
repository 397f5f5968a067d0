//! Every payload message: any bytes decode or don't, and what decoded encodes to its announced length and
//! decodes to the same again. A body inside is taken out and decoded, too, as clients do.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use protocol::{
    EncodedEvent,
    message::{event::What, *},
};

macro_rules! decoders {
    ($($name:ident)+) => {
        /// A decoder for each message that a frame carries, each stored one, and what elements are made of.
        const DECODERS: &[fn(&[u8])] = &[$(|bytes| _ = check::<$name>(bytes),)+ event, body_of_send, body_of_message];
    };
}

decoders! {
    Hello Welcome GoAway Pong Failure Login LoginReply
    Devices DevicesReply SignOut SignOutReply
    SetPresence SetPresenceReply QueryPresence QueryPresenceReply SubscribePresence SubscribePresenceReply Presence
    SendReply Body Element Sync SyncReply EventPush History HistoryReply
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

fuzz_target!(|input: (u8, &[u8])| {
    let (which, bytes) = input;
    DECODERS[usize::from(which) % DECODERS.len()](bytes);
});

fn check<M: Message + Default>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let encoded = message.encode_to_vec();
    assert_eq!(encoded.len(), message.encoded_len());
    // Compared as bytes: a location may be at NaN, which equals nothing.
    assert_eq!(M::decode(&encoded[..]).expect("what was encoded").encode_to_vec(), encoded);
    Some(message)
}

/// What is stored for an event, whatever happened, is the event without its position.
fn event(bytes: &[u8]) {
    let Some(Event { what: Some(what), .. }) = check::<Event>(bytes) else { return };
    let stored = EncodedEvent::of(&what).to_stored();
    assert_eq!(stored, Event { what: Some(what.clone()), ..Event::default() }.encode_to_vec());
    if let What::Message(message) = &what {
        assert_eq!(EncodedEvent::from(message), EncodedEvent::of(&what));
    }
}

fn body_of_send(bytes: &[u8]) {
    if let Some(send) = check::<Send>(bytes) {
        check::<Body>(&send.body);
    }
}

fn body_of_message(bytes: &[u8]) {
    if let Some(message) = check::<protocol::message::Message>(bytes) {
        check::<Body>(&message.body);
    }
}
