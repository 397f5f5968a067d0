//! What an application's own server is asked and told (webhooks, CON-06): which commands there are, and the
//! durable queue of what it is told after it has happened ([`queue`]).
//!
//! An entry is written in the transaction of the thing itself, only where the application wants to hear of it;
//! it holds what happened, not how it is told. Entries stand in lanes: those about one conversation, or about
//! one user's devices, profile and relations, in the same one, and in their order.
//!
//! What may not live here: JSON, HTTP.

mod groups;
pub mod queue;

use std::{collections::BTreeSet, fmt, net::IpAddr};

use bytes::Bytes;
use prost::{Message, Oneof};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

pub use groups::*;

use super::{
    AppId, Error, GroupId, UserId,
    act::Staging,
    keys::{self, Tail},
};

/// Lanes of an application's queue.
pub const LANES: u16 = 16;

/// Longest address, in bytes.
const URL_BYTES_MAX: usize = 1024;
/// Longest token, in bytes (the hosted original's limit).
const TOKEN_BYTES_MAX: usize = 128;
/// Longest time to wait for an answer before an act.
const TIMEOUT_MS_MAX: u32 = 10_000;
/// Longest time that an entry is tried to be delivered.
const GIVE_UP_HOURS_MAX: u32 = 24 * 30;

macro_rules! commands {
    ($($(#[$doc:meta])* $command:ident = $name:literal;)+) => {
        /// What an application's server can be asked or told, by the published names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum CallbackCommand {
            $($(#[$doc])* #[serde(rename = $name)] $command,)+
        }

        impl CallbackCommand {
            /// Every command, in the order of the table.
            pub const ALL: &[CallbackCommand] = &[$(CallbackCommand::$command,)+];

            /// Its published name.
            pub fn name(self) -> &'static str {
                match self {
                    $(CallbackCommand::$command => $name,)+
                }
            }
        }
    };
}

commands! {
    /// Told: a device has logged in or is gone.
    StateChange = "State.StateChange";
    /// Asked: before a message is sent.
    BeforeSend = "C2C.CallbackBeforeSendMsg";
    /// Told: a message was sent.
    AfterSend = "C2C.CallbackAfterSendMsg";
    /// Told: a conversation was read.
    AfterRead = "C2C.CallbackAfterMsgReport";
    /// Told: a message was taken back.
    AfterRecall = "C2C.CallbackAfterMsgWithDraw";
    /// Told: a profile was changed.
    AfterProfile = "Profile.CallbackPortraitSet";
    /// Asked: before a user asks for friendships.
    BeforeFriendAdd = "Sns.CallbackPrevFriendAdd";
    /// Asked: before a user answers a friend request.
    BeforeFriendAnswer = "Sns.CallbackPrevFriendResponse";
    /// Told: users have become friends.
    AfterFriendAdd = "Sns.CallbackFriendAdd";
    /// Told: users have ceased to be friends.
    AfterFriendDelete = "Sns.CallbackFriendDelete";
    /// Told: users were put on a blacklist.
    AfterBlacklistAdd = "Sns.CallbackBlackListAdd";
    /// Told: users were taken off a blacklist.
    AfterBlacklistDelete = "Sns.CallbackBlackListDelete";
    /// Asked: before a group is made.
    BeforeGroupCreate = "Group.CallbackBeforeCreateGroup";
    /// Asked: before a user joins a group, or applies for it.
    BeforeGroupJoin = "Group.CallbackBeforeApplyJoinGroup";
    /// Asked: before users are brought into a group.
    BeforeGroupInvite = "Group.CallbackBeforeInviteJoinGroup";
    /// Asked: before a message is sent to a group.
    BeforeGroupSend = "Group.CallbackBeforeSendMsg";
    /// Told: users have become members of a group.
    AfterGroupJoin = "Group.CallbackAfterNewMemberJoin";
    /// Told: users have ceased to be members of a group.
    AfterGroupExit = "Group.CallbackAfterMemberExit";
    /// Told: a group has as many members as it may have.
    AfterGroupFull = "Group.CallbackAfterGroupFull";
    /// Told: a group was made.
    AfterGroupCreate = "Group.CallbackAfterCreateGroup";
    /// Told: what is said of a group was changed.
    AfterGroupInfo = "Group.CallbackAfterGroupInfoChanged";
    /// Told: a group was dissolved.
    AfterGroupEnd = "Group.CallbackAfterGroupDestroyed";
    /// Told: a message was sent to a group.
    AfterGroupSend = "Group.CallbackAfterSendMsg";
    /// Told: a message of a group was taken back.
    AfterGroupRecall = "Group.CallbackAfterRecallMsg";
    /// Told: members have read messages of a group that ask for it.
    AfterGroupReceipt = "Group.CallbackAfterReadReceipt";
    /// Told: users have been lost out of a live room.
    RoomState = "Group.CallbackOnMemberStateChange";
    /// Told: attributes of a group were changed.
    AfterGroupAttributes = "Group.CallbackAfterGroupAttrChanged";
    /// Told: a group has another owner.
    AfterGroupOwner = "Group.CallbackAfterChangeGroupOwner";
    /// Told: a message was not sent to a group.
    GroupSendFailed = "Group.CallbackSendMsgException";
    /// Told: extensions of a message in a group were changed.
    AfterGroupExtension = "Group.CallbackAfterGroupMsgExtension";
    /// Told: extensions of a message between two users were changed.
    AfterExtension = "C2C.CallbackAfterC2CMsgExtension";
    /// Told: a member is an administrator, or no longer, or has another name card.
    AfterGroupMember = "Group.CallbackAfterMemberFieldChanged";
}

/// How an application's server is reached, and what for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Callbacks {
    /// Where it listens: `http://…` or `https://…`.
    pub url: String,
    /// What requests are signed with; empty: they are not.
    pub token: Token,
    /// For how long an act waits for its answer, in milliseconds.
    pub timeout_ms: u32,
    /// What becomes of an act that it does not answer about in time, or not sensibly.
    pub on_timeout: OnTimeout,
    /// For how long it is tried to tell it of a thing, in hours; then that is dropped.
    pub give_up_hours: u32,
    /// What it is asked and told.
    pub commands: BTreeSet<CallbackCommand>,
}

impl Default for Callbacks {
    fn default() -> Self {
        Callbacks {
            url: String::new(),
            token: Token::default(),
            timeout_ms: 2_000,
            on_timeout: OnTimeout::Pass,
            give_up_hours: 24,
            commands: BTreeSet::new(),
        }
    }
}

impl Callbacks {
    /// Whether it is asked or told this.
    pub fn wants(&self, command: CallbackCommand) -> bool {
        self.commands.contains(&command)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let is_url = self.url.starts_with("http://") || self.url.starts_with("https://");
        if !is_url || self.url.len() > URL_BYTES_MAX || !self.url.bytes().all(|byte| (0x21..=0x7e).contains(&byte)) {
            return Err(format!(
                "settings.callbacks.url must be like https://example.com/hook, at most {URL_BYTES_MAX} characters"
            ));
        }
        if self.token.0.len() > TOKEN_BYTES_MAX {
            return Err(format!("settings.callbacks.token must have at most {TOKEN_BYTES_MAX} bytes"));
        }
        if !(1..=TIMEOUT_MS_MAX).contains(&self.timeout_ms) {
            return Err(format!("settings.callbacks.timeout_ms must be 1 to {TIMEOUT_MS_MAX}"));
        }
        if !(1..=GIVE_UP_HOURS_MAX).contains(&self.give_up_hours) {
            return Err(format!("settings.callbacks.give_up_hours must be 1 to {GIVE_UP_HOURS_MAX}"));
        }
        Ok(())
    }
}

/// A secret that both sides know. Never in a log.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "…" })
    }
}

/// What becomes of an act that the application's server does not answer about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTimeout {
    /// It is carried out.
    Pass,
    /// It is refused.
    Refuse,
}

/// Where an act comes from, as the application's server is told; and whether it is asked and told at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The client's address, if it is known.
    pub ip: Option<IpAddr>,
    /// What it runs on.
    pub platform: CallerPlatform,
    /// The administrator who calls, if it is one.
    pub admin: Option<UserId>,
    /// The application's server is asked before.
    pub is_asked: bool,
    /// It is told after.
    pub is_told: bool,
}

impl Default for Caller {
    fn default() -> Self {
        Caller { ip: None, platform: CallerPlatform::Unknown, admin: None, is_asked: true, is_told: true }
    }
}

/// What an act's client runs on, by the published names of `OptPlatform`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum CallerPlatform {
    Unknown = 0,
    /// The application's own server.
    RestApi = 1,
    Web = 2,
    Android = 3,
    Ios = 4,
    Windows = 5,
    Mac = 6,
    Ipad = 7,
    Linux = 8,
}

impl CallerPlatform {
    /// Its published name.
    pub fn name(self) -> &'static str {
        match self {
            CallerPlatform::Unknown => "Unknown",
            CallerPlatform::RestApi => "RESTAPI",
            CallerPlatform::Web => "Web",
            CallerPlatform::Android => "Android",
            CallerPlatform::Ios => "iOS",
            CallerPlatform::Windows => "Windows",
            CallerPlatform::Mac => "Mac",
            CallerPlatform::Ipad => "iPad",
            CallerPlatform::Linux => "Linux",
        }
    }
}

/// An entry of the queue.
#[derive(Clone, PartialEq, Message)]
pub struct CallbackRecord {
    /// When it happened, milliseconds since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub time_ms: u64,
    /// The client's address; empty: not known.
    #[prost(string, tag = "2")]
    pub ip: String,
    /// What it runs on.
    #[prost(enumeration = "CallerPlatform", tag = "3")]
    pub platform: i32,
    /// What happened.
    #[prost(
        oneof = "Happened",
        tags = "4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28"
    )]
    pub what: Option<Happened>,
}

/// What happened.
#[derive(Clone, PartialEq, Oneof)]
pub enum Happened {
    /// A device came or went.
    #[prost(message, tag = "4")]
    State(StateChanged),
    /// A message was sent: the protocol's `Message`; its sequence is 0 if it was for those online alone.
    #[prost(bytes = "bytes", tag = "5")]
    Sent(Bytes),
    /// A conversation was read.
    #[prost(message, tag = "6")]
    Read(ConversationRead),
    /// A message was taken back: the protocol's `Message`.
    #[prost(bytes = "bytes", tag = "7")]
    Recalled(Bytes),
    /// A profile was changed.
    #[prost(message, tag = "8")]
    ProfileSet(ProfileSet),
    /// Users have become friends.
    #[prost(message, tag = "9")]
    Befriended(Befriended),
    /// Users have ceased to be friends: who is no friend of whom any more, on whose side.
    #[prost(message, tag = "10")]
    Parted(Pairs),
    /// Users were put on a blacklist: on whose, and who.
    #[prost(message, tag = "11")]
    Blacklisted(Pairs),
    /// Users were taken off a blacklist.
    #[prost(message, tag = "12")]
    Unblacklisted(Pairs),
    /// Users have become members of a group.
    #[prost(message, tag = "13")]
    GroupJoined(GroupJoined),
    /// Users have ceased to be members of a group.
    #[prost(message, tag = "14")]
    GroupExited(GroupExited),
    /// A group is full.
    #[prost(message, tag = "15")]
    GroupFull(GroupFull),
    /// A member was changed.
    #[prost(message, tag = "16")]
    GroupMemberChanged(GroupMemberChanged),
    /// A group was made.
    #[prost(message, tag = "17")]
    GroupCreated(GroupMade),
    /// A group was changed.
    #[prost(message, tag = "18")]
    GroupChanged(GroupChanged),
    /// A group was dissolved.
    #[prost(message, tag = "19")]
    GroupDissolved(GroupMade),
    /// A message was sent to a group.
    #[prost(message, tag = "20")]
    GroupSaid(GroupSaid),
    /// A message of a group was taken back.
    #[prost(message, tag = "21")]
    GroupRecalled(GroupSaid),
    /// A member has read messages of a group.
    #[prost(message, tag = "22")]
    GroupRead(GroupRead),
    /// A user was lost out of a live room.
    #[prost(message, tag = "23")]
    RoomLost(RoomLost),
    /// Attributes of a group were changed.
    #[prost(message, tag = "24")]
    GroupAttributes(GroupAttributesChanged),
    /// A group has another owner.
    #[prost(message, tag = "25")]
    GroupOwner(GroupOwnerChanged),
    /// A message was not sent to a group.
    #[prost(message, tag = "26")]
    GroupSendFailed(GroupSendFailed),
    /// Extensions of a message in a group were changed.
    #[prost(message, tag = "27")]
    GroupExtended(MessageExtended),
    /// Extensions of a message between two users were changed.
    #[prost(message, tag = "28")]
    Extended(MessageExtended),
}

impl Happened {
    /// What the application's server is told it with.
    pub fn command(&self) -> CallbackCommand {
        match self {
            Happened::State(_) => CallbackCommand::StateChange,
            Happened::Sent(_) => CallbackCommand::AfterSend,
            Happened::Read(_) => CallbackCommand::AfterRead,
            Happened::Recalled(_) => CallbackCommand::AfterRecall,
            Happened::ProfileSet(_) => CallbackCommand::AfterProfile,
            Happened::Befriended(_) => CallbackCommand::AfterFriendAdd,
            Happened::Parted(_) => CallbackCommand::AfterFriendDelete,
            Happened::Blacklisted(_) => CallbackCommand::AfterBlacklistAdd,
            Happened::Unblacklisted(_) => CallbackCommand::AfterBlacklistDelete,
            Happened::GroupJoined(_) => CallbackCommand::AfterGroupJoin,
            Happened::GroupExited(_) => CallbackCommand::AfterGroupExit,
            Happened::GroupFull(_) => CallbackCommand::AfterGroupFull,
            Happened::GroupMemberChanged(_) => CallbackCommand::AfterGroupMember,
            Happened::GroupCreated(_) => CallbackCommand::AfterGroupCreate,
            Happened::GroupChanged(_) => CallbackCommand::AfterGroupInfo,
            Happened::GroupDissolved(_) => CallbackCommand::AfterGroupEnd,
            Happened::GroupSaid(_) => CallbackCommand::AfterGroupSend,
            Happened::GroupRecalled(_) => CallbackCommand::AfterGroupRecall,
            Happened::GroupRead(_) => CallbackCommand::AfterGroupReceipt,
            Happened::RoomLost(_) => CallbackCommand::RoomState,
            Happened::GroupAttributes(_) => CallbackCommand::AfterGroupAttributes,
            Happened::GroupOwner(_) => CallbackCommand::AfterGroupOwner,
            Happened::GroupSendFailed(_) => CallbackCommand::GroupSendFailed,
            Happened::GroupExtended(_) => CallbackCommand::AfterGroupExtension,
            Happened::Extended(_) => CallbackCommand::AfterExtension,
        }
    }
}

/// A device came or went.
#[derive(Clone, PartialEq, Message)]
pub struct StateChanged {
    /// Whose.
    #[prost(string, tag = "1")]
    pub user: String,
    /// How.
    #[prost(enumeration = "StateReason", tag = "2")]
    pub reason: i32,
    /// What those run on that were signed out by it.
    #[prost(enumeration = "CallerPlatform", repeated, tag = "3")]
    pub signed_out: Vec<i32>,
}

/// How a device came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum StateReason {
    /// It has logged in.
    Login = 0,
    /// It has said goodbye, or was signed out.
    Logout = 1,
    /// Its connection has ended without a word.
    LinkClose = 2,
    /// Nothing was heard of it.
    TimeOut = 3,
}

/// A conversation was read.
#[derive(Clone, PartialEq, Message)]
pub struct ConversationRead {
    /// Who has read it.
    #[prost(string, tag = "1")]
    pub by: String,
    /// The other side.
    #[prost(string, tag = "2")]
    pub peer: String,
}

/// Extensions of a message were changed.
#[derive(Clone, PartialEq, Message)]
pub struct MessageExtended {
    /// The protocol's `Message`.
    #[prost(bytes = "bytes", tag = "1")]
    pub message: Bytes,
    /// What was changed, as it is now: the protocol's `ExtensionsChanged`.
    #[prost(bytes = "bytes", tag = "2")]
    pub changed: Bytes,
    /// The version that the message's extensions have with it.
    #[prost(uint64, tag = "3")]
    pub version: u64,
}

/// A profile was changed.
#[derive(Clone, PartialEq, Message)]
pub struct ProfileSet {
    /// Whose.
    #[prost(string, tag = "1")]
    pub user: String,
    /// The administrator who has changed it; empty: the user.
    #[prost(string, tag = "2")]
    pub admin: String,
    /// What was changed, as it is now: the protocol's `Profile`.
    #[prost(bytes = "bytes", tag = "3")]
    pub profile: Bytes,
}

/// Users have become friends.
#[derive(Clone, PartialEq, Message)]
pub struct Befriended {
    /// Who has whom as a friend now.
    #[prost(message, repeated, tag = "1")]
    pub pairs: Vec<Pair>,
    /// Who had asked for it.
    #[prost(string, tag = "2")]
    pub asked_by: String,
    /// By an answer to a request; otherwise at once.
    #[prost(bool, tag = "3")]
    pub by_answer: bool,
    /// The administrator who has made them friends; empty: a user.
    #[prost(string, tag = "4")]
    pub admin: String,
    /// Whatever the others allow.
    #[prost(bool, tag = "5")]
    pub force: bool,
}

/// Relations between users.
#[derive(Clone, PartialEq, Message)]
pub struct Pairs {
    /// Each, once.
    #[prost(message, repeated, tag = "1")]
    pub pairs: Vec<Pair>,
}

/// What one user has with another, on the one's side.
#[derive(Clone, PartialEq, Message)]
pub struct Pair {
    /// The one.
    #[prost(string, tag = "1")]
    pub from: String,
    /// The other.
    #[prost(string, tag = "2")]
    pub to: String,
}

impl Pair {
    pub(crate) fn new(from: &UserId, to: &UserId) -> Self {
        Pair { from: from.to_string(), to: to.to_string() }
    }
}

impl Pairs {
    /// What one user has with others.
    pub(crate) fn of<'a>(from: &UserId, others: impl IntoIterator<Item = &'a UserId>) -> Self {
        Pairs { pairs: others.into_iter().map(|to| Pair::new(from, to)).collect() }
    }
}

/// The lane of a conversation.
fn lane_of(app: AppId, conversation: &Tail) -> u16 {
    lane(&conversation.head(app))
}

/// The lane of what concerns one user: devices, profile, relations.
fn lane_of_user(app: AppId, user: &UserId) -> u16 {
    lane(&keys::account(app, user))
}

fn lane(of: &[u8]) -> u16 {
    (xxh3_64(of) % u64::from(LANES)) as u16
}

impl Staging<'_> {
    /// Queues what happened in a conversation, if the application wants to hear of it.
    pub(crate) async fn tell_application(
        &mut self,
        app: AppId,
        conversation: &Tail,
        what: Happened,
    ) -> Result<(), Error> {
        self.queue_callback(app, lane_of(app, conversation), what).await
    }

    /// The same for what a user has done, or was done for him, to his profile or relations.
    pub(crate) async fn tell_application_of(&mut self, app: AppId, user: &UserId, what: Happened) -> Result<(), Error> {
        self.queue_callback(app, lane_of_user(app, user), what).await
    }

    async fn queue_callback(&mut self, app: AppId, lane: u16, what: Happened) -> Result<(), Error> {
        let settings = self.settings(app).await?;
        let wants = settings.callbacks.as_ref().is_some_and(|callbacks| callbacks.wants(what.command()));
        if !wants || !self.caller.is_told {
            return Ok(());
        }
        let record = CallbackRecord {
            time_ms: self.now_ms,
            ip: self.caller.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            platform: self.caller.platform.into(),
            what: Some(what),
        };
        let stamp = self.next_stamp();
        queue::append(self.tx, app, lane, stamp, &record);
        Ok(())
    }
}

/// A device came or went, for the queue.
#[derive(Clone, Debug)]
pub struct StateNews {
    /// The application.
    pub app: AppId,
    /// Whose device.
    pub user: UserId,
    /// The live room that it came into or went out of; `None`: it came or went altogether.
    pub room: Option<GroupId>,
    /// What is stored.
    pub record: CallbackRecord,
}

impl StateNews {
    fn lane(&self) -> u16 {
        match &self.room {
            Some(room) => lane_of(self.app, &Tail::from(room)),
            None => lane_of_user(self.app, &self.user),
        }
    }
}
