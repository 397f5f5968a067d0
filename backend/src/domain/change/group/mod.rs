//! Changes of groups: their life, who is in them, what is said of them and of their members (GRP-02 to GRP-25).
//!
//! What each type of group allows, and to whom, is data: [`crate::domain::groups::table`]. Here is what it takes.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::message::{GroupCounterOperation, GroupRole, GroupType, GroupUpdate};

use crate::domain::{GroupId, UserId};

/// A change of a group. The user of the change does it, or an administrator in no member's name.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupChange {
    /// Makes a group.
    Create(Box<NewGroup>),
    /// Makes a group with its history: it has members and messages before anybody is told of it (GRP-19).
    Import(Box<NewGroup>),
    /// Puts members into a group that is being imported, each with the time of joining, its role, and how many
    /// messages it has not read.
    ImportMembers {
        /// The group.
        group: GroupId,
        /// Who, and since when.
        members: Vec<ImportedMember>,
    },
    /// Changes what is said of a group.
    Update {
        /// The group.
        group: GroupId,
        /// What.
        update: Box<GroupUpdate>,
    },
    /// Ends it.
    Dissolve {
        /// The group.
        group: GroupId,
    },
    /// Gives it another owner.
    Transfer {
        /// The group.
        group: GroupId,
        /// A member; anybody with an account, if an administrator does it: then the user joins.
        to: UserId,
    },
    /// Joins it, or applies for it.
    Join {
        /// The group.
        group: GroupId,
        /// Told to who decides.
        wording: String,
    },
    /// Answers an application.
    Answer {
        /// The group.
        group: GroupId,
        /// Who wants to join.
        applicant: UserId,
        /// Lets the applicant in.
        agree: bool,
        /// Told to the applicant.
        text: String,
    },
    /// Leaves it.
    Leave {
        /// The group.
        group: GroupId,
    },
    /// Brings users into it.
    Invite {
        /// The group.
        group: GroupId,
        /// Who.
        users: Vec<UserId>,
        /// Nobody but they is told.
        silent: bool,
    },
    /// Removes members.
    Remove {
        /// The group.
        group: GroupId,
        /// Who.
        users: Vec<UserId>,
        /// Told to them.
        reason: String,
        /// Nobody but they is told.
        silent: bool,
    },
    /// Removes users, and keeps them out for a time.
    Ban {
        /// The group.
        group: GroupId,
        /// Who.
        users: Vec<UserId>,
        /// From now on; 0: lets them in again.
        seconds: u32,
        /// Told to them.
        reason: String,
    },
    /// Forbids members to write for a time.
    Mute {
        /// The group.
        group: GroupId,
        /// Who.
        users: Vec<UserId>,
        /// From now on; 0: lets them write again.
        seconds: u32,
    },
    /// Changes what a member is, or is called.
    Member {
        /// The group.
        group: GroupId,
        /// Who.
        member: UserId,
        /// What.
        update: Box<MemberUpdate>,
    },
    /// Changes the group's attributes.
    Attributes {
        /// The group.
        group: GroupId,
        /// What is set.
        set: BTreeMap<String, Bytes>,
        /// What is taken off.
        remove: Vec<String>,
        /// Takes all off that are not set.
        reset: bool,
        /// The revision that the change is made to; 0: whatever it is.
        revision: u64,
    },
    /// Changes counters.
    Counters {
        /// The group.
        group: GroupId,
        /// Which, how, and by how much.
        changes: Vec<(String, GroupCounterOperation, i64)>,
    },
    /// Tells members something that the application has to say.
    Notify {
        /// The group.
        group: GroupId,
        /// Whom; empty: all members.
        users: Vec<UserId>,
        /// What.
        content: Bytes,
    },
    /// Takes back all messages that a user has sent to the group.
    RecallAllOf {
        /// The group.
        group: GroupId,
        /// Who has sent them.
        sender: UserId,
        /// Messages from this sequence on: the rest of an act of several transactions.
        from_seq: u64,
    },
    /// Sets how many messages a member has not read.
    SetUnread {
        /// The group.
        group: GroupId,
        /// Who.
        member: UserId,
        /// How many.
        unread: u64,
    },
}

/// A group to be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewGroup {
    /// Its id.
    pub group: Option<GroupId>,
    /// The id was made by this server, see `groups::generated_id`; otherwise chosen, and checked as such.
    pub is_generated: bool,
    /// What it is.
    pub kind: GroupType,
    /// Who owns it: the user of the change, unless an administrator makes it; `None`: nobody.
    pub owner: Option<UserId>,
    /// What is said of it.
    pub info: GroupUpdate,
    /// Members beside the owner, each with its role, name card and custom fields.
    pub members: Vec<(UserId, MemberUpdate)>,
    /// When it was made, if that was earlier: milliseconds since the Unix epoch.
    pub created_ms: Option<u64>,
}

/// What is to be changed of a member; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberUpdate {
    /// Administrator or member.
    pub role: Option<GroupRole>,
    /// What the member is called in the group.
    pub name_card: Option<String>,
    /// Fields that the application has declared; an empty one is taken off.
    pub custom: BTreeMap<String, Bytes>,
    /// Seconds from now for which the member may not write; 0: may.
    pub mute_seconds: Option<u32>,
    /// The protocol's `ReceiveOption` of the conversation.
    pub receive: Option<i32>,
}

/// A member of an imported group.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportedMember {
    /// Who.
    pub user: UserId,
    /// Administrator or member.
    pub role: GroupRole,
    /// Milliseconds since the Unix epoch; 0: now.
    pub joined_ms: u64,
    /// Messages not read.
    pub unread: u64,
}

impl GroupChange {
    /// The group; `None`: it has none yet.
    pub fn group(&self) -> Option<&GroupId> {
        match self {
            GroupChange::Create(new) | GroupChange::Import(new) => new.group.as_ref(),
            GroupChange::ImportMembers { group, .. }
            | GroupChange::Update { group, .. }
            | GroupChange::Dissolve { group }
            | GroupChange::Transfer { group, .. }
            | GroupChange::Join { group, .. }
            | GroupChange::Answer { group, .. }
            | GroupChange::Leave { group }
            | GroupChange::Invite { group, .. }
            | GroupChange::Remove { group, .. }
            | GroupChange::Ban { group, .. }
            | GroupChange::Mute { group, .. }
            | GroupChange::Member { group, .. }
            | GroupChange::Attributes { group, .. }
            | GroupChange::Counters { group, .. }
            | GroupChange::Notify { group, .. }
            | GroupChange::RecallAllOf { group, .. }
            | GroupChange::SetUnread { group, .. } => Some(group),
        }
    }
}
