//! The tables of commands (client to server) and pushes (server to client).
//!
//! A code is never given a second meaning: a retired row stays, commented, with its number.

/// When a command may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only before login.
    BeforeLogin,
    /// Only once logged in.
    AfterLogin,
    /// Once logged in, guests too.
    ByGuests,
    /// Before login and after.
    AtAnyTime,
}

impl Access {
    /// As written in WIRE.md.
    pub fn as_str(self) -> &'static str {
        match self {
            Access::BeforeLogin => "before login",
            Access::AfterLogin => "after login",
            Access::ByGuests => "by guests",
            Access::AtAnyTime => "at any time",
        }
    }
}

macro_rules! command_table {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $name:literal, $access:ident, $request:ident => $reply:ident;)+) => {
        /// What a request asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Command {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Command {
            /// Every command, in the order of the table.
            pub const ALL: &[Command] = &[$(Command::$variant,)+];

            /// The command of a wire code.
            pub fn from_code(code: u32) -> Option<Command> {
                match code {
                    $($code => Some(Command::$variant),)+
                    _ => None,
                }
            }

            /// The wire code.
            pub fn code(self) -> u32 {
                match self {
                    $(Command::$variant => $code,)+
                }
            }

            /// The name, for documents, logs and metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $(Command::$variant => $name,)+
                }
            }

            /// When it may be called.
            pub fn access(self) -> Access {
                match self {
                    $(Command::$variant => Access::$access,)+
                }
            }

            /// Names of the request's and the reply's message.
            pub fn messages(self) -> (&'static str, &'static str) {
                match self {
                    $(Command::$variant => (stringify!($request), stringify!($reply)),)+
                }
            }
        }
    };
}

command_table! {
    /// Proves who the user is.
    Login = 1, "login", BeforeLogin, Login => LoginReply;
    /// Lists the user's own logged-in devices.
    Devices = 2, "devices", AfterLogin, Devices => DevicesReply;
    /// Signs own devices out.
    SignOut = 3, "sign_out", AfterLogin, SignOut => SignOutReply;
    /// Says something about this device or its user.
    SetPresence = 4, "set_presence", AfterLogin, SetPresence => SetPresenceReply;
    /// Asks for users' presence.
    QueryPresence = 5, "query_presence", AfterLogin, QueryPresence => QueryPresenceReply;
    /// Has changes of users' presence pushed.
    SubscribePresence = 6, "subscribe_presence", AfterLogin, SubscribePresence => SubscribePresenceReply;
    /// Logs in without an account, to receive in live rooms.
    GuestLogin = 7, "guest_login", BeforeLogin, GuestLogin => LoginReply;
    /// Asks where to connect.
    Locate = 8, "locate", AtAnyTime, Locate => LocateReply;
    /// Says how long round trips to access points take.
    ReportRoundTrips = 9, "report_round_trips", ByGuests, ReportRoundTrips => Done;
    /// Stores a message.
    Send = 16, "send", AfterLogin, Send => SendReply;
    /// Reads the event log behind a cursor.
    Sync = 17, "sync", AfterLogin, Sync => SyncReply;
    /// Reads a page of a conversation.
    History = 18, "history", AfterLogin, History => HistoryReply;
    /// Takes one's own message back.
    Recall = 19, "recall", AfterLogin, Recall => MessageReply;
    /// Replaces the body of one's own message.
    Edit = 20, "edit", AfterLogin, Edit => MessageReply;
    /// Deletes messages for oneself.
    Delete = 21, "delete", AfterLogin, Delete => Done;
    /// Says that messages were read, one by one.
    SendReceipts = 22, "send_receipts", AfterLogin, SendReceipts => Done;
    /// Sets or removes extensions of a message.
    SetExtensions = 23, "set_extensions", AfterLogin, SetExtensions => SetExtensionsReply;
    /// Reads the extensions of a message.
    GetExtensions = 24, "get_extensions", AfterLogin, GetExtensions => GetExtensionsReply;
    /// Pins a message or unpins it.
    Pin = 25, "pin", AfterLogin, Pin => Done;
    /// Reads the pinned messages of a conversation.
    GetPinned = 26, "get_pinned", AfterLogin, GetPinned => GetPinnedReply;
    /// Stores the content of a merged message.
    Merge = 27, "merge", AfterLogin, Merge => MergeReply;
    /// Reads the content of a merged message.
    GetMerged = 28, "get_merged", AfterLogin, GetMerged => GetMergedReply;
    /// Reads the conversation list.
    Conversations = 48, "conversations", AfterLogin, Conversations => ConversationsReply;
    /// Reads chosen conversations.
    GetConversations = 49, "get_conversations", AfterLogin, GetConversations => GetConversationsReply;
    /// Changes what the user keeps about a conversation.
    UpdateConversation = 50, "update_conversation", AfterLogin, UpdateConversation => UpdateConversationReply;
    /// Renames a label of conversations.
    RenameLabel = 51, "rename_label", AfterLogin, RenameLabel => Done;
    /// Asks for the total of unread messages.
    GetUnread = 52, "get_unread", AfterLogin, GetUnread => GetUnreadReply;
    /// Changes the user's blacklist.
    UpdateBlacklist = 64, "update_blacklist", AfterLogin, UpdateBlacklist => Done;
    /// Reads the user's blacklist.
    GetBlacklist = 65, "get_blacklist", AfterLogin, GetBlacklist => GetBlacklistReply;
    /// Changes the user's own profile.
    SetProfile = 80, "set_profile", AfterLogin, SetProfile => Done;
    /// Reads profiles.
    GetProfiles = 81, "get_profiles", AfterLogin, GetProfiles => GetProfilesReply;
    /// Asks users for their friendship.
    AddFriends = 88, "add_friends", AfterLogin, AddFriends => FriendResults;
    /// Answers a request for the user's friendship.
    AnswerFriendRequest = 89, "answer_friend_request", AfterLogin, AnswerFriendRequest => Done;
    /// Changes what the user keeps about friends.
    UpdateFriends = 90, "update_friends", AfterLogin, UpdateFriends => FriendResults;
    /// Ends friendships.
    DeleteFriends = 91, "delete_friends", AfterLogin, DeleteFriends => FriendResults;
    /// Ends all friendships.
    DeleteAllFriends = 92, "delete_all_friends", AfterLogin, DeleteAllFriends => Done;
    /// Reads the user's friends.
    GetFriends = 93, "get_friends", AfterLogin, GetFriends => GetFriendsReply;
    /// Reads chosen friends.
    GetChosenFriends = 94, "get_chosen_friends", AfterLogin, GetChosenFriends => GetChosenFriendsReply;
    /// Reads open friend requests.
    GetFriendRequests = 95, "get_friend_requests", AfterLogin, GetFriendRequests => GetFriendRequestsReply;
    /// Makes friend requests read.
    ReadFriendRequests = 96, "read_friend_requests", AfterLogin, ReadFriendRequests => Done;
    /// Takes friend requests off without an answer.
    DropFriendRequests = 97, "drop_friend_requests", AfterLogin, DropFriendRequests => FriendResults;
    /// Changes friend lists.
    UpdateFriendLists = 98, "update_friend_lists", AfterLogin, UpdateFriendLists => FriendResults;
    /// Reads the names of friend lists.
    GetFriendLists = 99, "get_friend_lists", AfterLogin, GetFriendLists => GetFriendListsReply;
    /// Asks how the user and others stand to each other.
    CheckRelations = 100, "check_relations", AfterLogin, CheckRelations => CheckRelationsReply;
    /// Makes a group.
    CreateGroup = 112, "create_group", AfterLogin, CreateGroup => CreateGroupReply;
    /// Reads groups.
    GetGroups = 113, "get_groups", ByGuests, GetGroups => GetGroupsReply;
    /// Changes a group.
    UpdateGroup = 114, "update_group", AfterLogin, UpdateGroup => Done;
    /// Dissolves a group.
    DissolveGroup = 115, "dissolve_group", AfterLogin, DissolveGroup => Done;
    /// Gives a group another owner.
    TransferGroup = 116, "transfer_group", AfterLogin, TransferGroup => Done;
    /// Reads the groups that the user is in.
    GetJoinedGroups = 117, "get_joined_groups", AfterLogin, GetJoinedGroups => GetJoinedGroupsReply;
    /// Finds groups.
    SearchGroups = 118, "search_groups", AfterLogin, SearchGroups => SearchGroupsReply;
    /// Joins a group, or applies for it.
    JoinGroup = 119, "join_group", ByGuests, JoinGroup => JoinGroupReply;
    /// Leaves a group.
    LeaveGroup = 120, "leave_group", ByGuests, LeaveGroup => Done;
    /// Brings users into a group.
    InviteToGroup = 121, "invite_to_group", AfterLogin, InviteToGroup => GroupResults;
    /// Removes members from a group.
    RemoveFromGroup = 122, "remove_from_group", AfterLogin, RemoveFromGroup => GroupResults;
    /// Keeps users out of a group for a time.
    BanFromGroup = 123, "ban_from_group", AfterLogin, BanFromGroup => GroupResults;
    /// Reads who is kept out of a group.
    GetGroupBans = 124, "get_group_bans", AfterLogin, GetGroupBans => GetGroupBansReply;
    /// Forbids members to write for a time.
    MuteGroupMembers = 125, "mute_group_members", AfterLogin, MuteGroupMembers => GroupResults;
    /// Changes what a member is, or is called.
    UpdateGroupMember = 126, "update_group_member", AfterLogin, UpdateGroupMember => Done;
    /// Reads the members of a group.
    GetGroupMembers = 127, "get_group_members", AfterLogin, GetGroupMembers => GetGroupMembersReply;
    /// Reads chosen members of a group.
    GetChosenGroupMembers = 128, "get_chosen_group_members", AfterLogin, GetChosenGroupMembers => GetChosenGroupMembersReply;
    /// Answers an application for a group.
    AnswerGroupApplication = 129, "answer_group_application", AfterLogin, AnswerGroupApplication => Done;
    /// Reads open applications for groups.
    GetGroupApplications = 130, "get_group_applications", AfterLogin, GetGroupApplications => GetGroupApplicationsReply;
    /// Changes attributes of a group.
    UpdateGroupAttributes = 131, "update_group_attributes", AfterLogin, UpdateGroupAttributes => GroupAttributes;
    /// Reads the attributes of a group.
    GetGroupAttributes = 132, "get_group_attributes", ByGuests, GetGroupAttributes => GroupAttributes;
    /// Changes a counter of a group.
    UpdateGroupCounter = 133, "update_group_counter", AfterLogin, UpdateGroupCounter => GroupCounters;
    /// Reads the counters of a group.
    GetGroupCounters = 134, "get_group_counters", ByGuests, GetGroupCounters => GroupCounters;
    /// Reads who has read a message in a group.
    GetGroupReceipts = 135, "get_group_receipts", AfterLogin, GetGroupReceipts => GetGroupReceiptsReply;
    /// Asks how many are in a group now.
    GetGroupOnline = 136, "get_group_online", ByGuests, GetGroupOnline => GetGroupOnlineReply;
}

/// What a push is about. A client skips topics it doesn't know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A new entry of the user's event log; payload `EventPush`.
    Event,
    /// Live pushes were dropped: sync from the last cursor; no payload.
    Behind,
    /// An online-only message; payload `Message`.
    Message,
    /// The presence of a followed user changed; payload `Presence`.
    Presence,
    /// Something of a group that is in no log; payload `GroupPush`.
    Group,
}

impl Topic {
    /// Every topic, in the order of the table.
    pub const ALL: &[Topic] = &[Topic::Event, Topic::Behind, Topic::Message, Topic::Presence, Topic::Group];

    /// The topic of a wire code.
    pub fn from_code(code: u32) -> Option<Topic> {
        Topic::ALL.iter().copied().find(|topic| topic.code() == code)
    }

    /// The wire code.
    pub fn code(self) -> u32 {
        match self {
            Topic::Event => 1,
            Topic::Behind => 2,
            Topic::Message => 3,
            Topic::Presence => 4,
            Topic::Group => 5,
        }
    }

    /// The name, for documents and logs.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Event => "event",
            Topic::Behind => "behind",
            Topic::Message => "message",
            Topic::Presence => "presence",
            Topic::Group => "group",
        }
    }
}
