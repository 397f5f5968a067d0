//! Changes of groups: their life, who is in them, what is said of them and of their members (GRP-02 to GRP-25).
//!
//! What each type of group allows, and to whom, is data: [`crate::domain::groups::table`]. Here is what it takes.
//!
//! - `life`: made, changed, given to another, dissolved. - `joining`: who comes in. - `leaving`: who goes, or is kept
//!   out. - `roles`: what members are, may and are called. - `content`: attributes, counters, notifications.

mod closing;
mod content;
mod erasing;
mod joining;
mod leaving;
mod life;
mod roles;

pub(crate) use content::{decode_attributes, decode_counters, shown_attributes};
pub(super) use erasing::erase;
pub(crate) use life::words;

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::message::{GroupCounterOperation, GroupRole, GroupType, GroupUpdate};

use smallvec::{SmallVec, smallvec};

use super::Change;
use crate::domain::{
    AppId, Error, GroupId, UserId,
    act::{Answer, Author, Staging},
    groups::Refusal,
    keys,
};

/// Users named in one change, at the most.
pub const USERS_MAX: usize = 100;
/// Longest reason why users are kept out, in bytes.
const BAN_REASON_BYTES_MAX: usize = 1_000;
/// Longest name of a group, in bytes.
pub const NAME_BYTES_MAX: usize = 100;
/// Longest introduction or notice, in bytes.
pub const TEXT_BYTES_MAX: usize = 400;
/// Longest address of an image, in bytes.
pub const IMAGE_URL_BYTES_MAX: usize = 500;
/// Longest name card of a member, in bytes.
pub const NAME_CARD_BYTES_MAX: usize = 50;
/// Longest value of a custom field of a group, in bytes.
pub const GROUP_FIELD_BYTES_MAX: usize = 512;
/// Longest value of a custom field of a member, in bytes.
pub const MEMBER_FIELD_BYTES_MAX: usize = 64;
/// Longest words with an application for a group, or with an answer to it, in bytes.
pub const WORDING_BYTES_MAX: usize = 300;
/// Longest notification of a group, in bytes.
pub const NOTIFICATION_BYTES_MAX: usize = 4_096;

/// Bytes that a transaction writes in which somebody goes out of a group, about.
pub(super) const EXIT_BYTES: usize = MEMBER_BYTES + TOLD_BYTES;
/// Rows and events of somebody who comes or goes.
const MEMBER_BYTES: usize = 4_000;
/// An event in the log of each member of a group that is not large.
const TOLD_BYTES: usize = FANOUT_MAX * 400;
/// As many logs at the most, unless the application has set another limit.
const FANOUT_MAX: usize = 200;

/// What became of each user named.
type Outcomes = Vec<(UserId, Result<(), Refusal>)>;

/// A change of a group. The user of the change does it, or an administrator in no member's name.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupChange {
    /// Makes a group.
    Create(Box<NewGroup>),
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
    /// Goes on with what is left of it once it has ended.
    Close {
        /// The group.
        group: GroupId,
    },
    /// Gives it another owner.
    Transfer {
        /// The group.
        group: GroupId,
        /// A member; of a live room anybody with an account.
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
        /// No other change has this random number: adding twice would not be the same as once.
        id: u64,
        /// Which, how, and by how much.
        changes: Vec<(String, GroupCounterOperation, i64)>,
    },
    /// Brings members of before into a group, of which nobody is told (GRP-19).
    Import {
        /// The group.
        group: GroupId,
        /// Who.
        members: Vec<(UserId, ImportedMember)>,
    },
    /// Has so many messages be unread for a member.
    Unread {
        /// The group.
        group: GroupId,
        /// Who.
        member: UserId,
        /// At the most so many as there are.
        count: u32,
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
}

/// A group to be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewGroup {
    /// Its id; `None` is refused.
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
    /// It was made then, elsewhere, and is imported (GRP-19): milliseconds since the Unix epoch. Nobody is told.
    pub imported_ms: Option<u64>,
}

/// A member of before, who is imported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportedMember {
    /// Administrator or member.
    pub role: Option<GroupRole>,
    /// Since when, milliseconds since the Unix epoch; `None`: from the beginning, as far as messages are concerned.
    pub joined_ms: Option<u64>,
    /// Messages that are unread, at the most so many as there are.
    pub unread: u32,
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
}

impl GroupChange {
    /// Users named in it.
    pub(super) fn named(&self) -> Vec<&UserId> {
        match self {
            GroupChange::Create(new) => new.members.iter().map(|(user, _)| user).chain(new.owner.as_ref()).collect(),
            GroupChange::Import { members, .. } => members.iter().map(|(user, _)| user).collect(),
            GroupChange::Transfer { to: user, .. }
            | GroupChange::Answer { applicant: user, .. }
            | GroupChange::Member { member: user, .. }
            | GroupChange::Unread { member: user, .. } => vec![user],
            GroupChange::Invite { users, .. }
            | GroupChange::Remove { users, .. }
            | GroupChange::Ban { users, .. }
            | GroupChange::Mute { users, .. }
            | GroupChange::Notify { users, .. } => users.iter().collect(),
            GroupChange::Update { .. }
            | GroupChange::Dissolve { .. }
            | GroupChange::Close { .. }
            | GroupChange::Join { .. }
            | GroupChange::Leave { .. }
            | GroupChange::Attributes { .. }
            | GroupChange::Counters { .. } => Vec::new(),
        }
    }

    /// The group; `None`: it has none yet.
    pub fn group(&self) -> Option<&GroupId> {
        match self {
            GroupChange::Create(new) => new.group.as_ref(),
            GroupChange::Update { group, .. }
            | GroupChange::Dissolve { group }
            | GroupChange::Close { group }
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
            | GroupChange::Unread { group, .. }
            | GroupChange::Import { group, .. }
            | GroupChange::Notify { group, .. } => Some(group),
        }
    }
}

impl GroupChange {
    /// Whether it tells members something that is no message.
    pub(super) fn notifies(&self) -> bool {
        matches!(self, GroupChange::Notify { .. })
    }

    /// Whether somebody may come into the group by it, or go.
    pub(super) fn moves(&self) -> bool {
        matches!(
            self,
            GroupChange::Join { .. }
                | GroupChange::Answer { .. }
                | GroupChange::Leave { .. }
                | GroupChange::Invite { .. }
                | GroupChange::Import { .. }
                | GroupChange::Remove { .. }
                | GroupChange::Ban { .. }
        )
    }

    /// Everything that can be said without the store.
    pub(super) fn check(&mut self, by: Author) -> Result<(), Error> {
        match self {
            GroupChange::Update { update, .. } => life::check_update(update),
            GroupChange::Join { wording: text, .. } | GroupChange::Answer { text, .. } => {
                ensure(text.len() <= WORDING_BYTES_MAX, "wording must have at most 300 bytes")
            }
            GroupChange::Remove { users, reason, .. } => {
                ensure(reason.len() <= super::REASON_BYTES_MAX, "reason must have at most 256 bytes")?;
                check_users(users)
            }
            GroupChange::Ban { users, reason, .. } => {
                ensure(reason.len() <= BAN_REASON_BYTES_MAX, "reason must have at most 1000 bytes")?;
                check_users(users)
            }
            GroupChange::Invite { users, .. } | GroupChange::Mute { users, .. } => check_users(users),
            GroupChange::Member { update, .. } => roles::check(update),
            GroupChange::Attributes { set, remove, .. } => content::check_attributes(set, remove),
            GroupChange::Counters { changes, .. } => content::check_counters(changes),
            GroupChange::Notify { .. }
            | GroupChange::Unread { .. }
            | GroupChange::Import { .. }
            | GroupChange::Close { .. }
                if by == Author::User =>
            {
                Err(Error::NotAllowed)
            }
            GroupChange::Create(new) if by == Author::User && new.imported_ms.is_some() => Err(Error::NotAllowed),
            GroupChange::Create(new) => life::check_new(new),
            GroupChange::Import { members, .. } => joining::check_imported(members),
            GroupChange::Notify { users, content, .. } => {
                ensure(content.len() <= NOTIFICATION_BYTES_MAX, "content must have at most 4096 bytes")?;
                if users.is_empty() { Ok(()) } else { check_users(users) }
            }
            GroupChange::Dissolve { .. }
            | GroupChange::Close { .. }
            | GroupChange::Transfer { .. }
            | GroupChange::Leave { .. }
            | GroupChange::Unread { .. } => Ok(()),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let names = self.named().len() * super::super::USER_BYTES_MAX;
        let content = match self {
            GroupChange::Notify { content, .. } => content.len(),
            GroupChange::Attributes { set, .. } => set.values().map(Bytes::len).sum(),
            GroupChange::Create(_) | GroupChange::Update { .. } => 4 * TEXT_BYTES_MAX,
            _ => WORDING_BYTES_MAX,
        };
        names + content
    }

    /// Bytes that it adds to a transaction, about: what concerns a group may be told to all of its members.
    pub(super) fn written_bytes(&self) -> usize {
        match self {
            GroupChange::Dissolve { .. } | GroupChange::Close { .. } => closing::PART_BYTES,
            // What it says stands in each member's log.
            GroupChange::Notify { .. } => {
                self.bytes() * (1 + FANOUT_MAX) + self.named().len() * MEMBER_BYTES + TOLD_BYTES
            }
            _ => self.bytes() + self.named().len() * MEMBER_BYTES + TOLD_BYTES,
        }
    }

    pub(super) fn stamps_max(&self) -> usize {
        match self {
            GroupChange::Dissolve { .. } | GroupChange::Close { .. } => closing::PART_STAMPS,
            // Applications are told to whoever decides.
            GroupChange::Join { .. } | GroupChange::Answer { .. } => 600,
            _ => 16 + 2 * self.named().len(),
        }
    }

    pub(super) fn reads(&self, app: AppId) -> SmallVec<[Bytes; 4]> {
        self.group().map(|group| keys::group(app, group)).into_iter().collect()
    }

    /// A key that each run reads.
    pub(super) fn guards(&self, app: AppId) -> SmallVec<[Bytes; 4]> {
        self.group().map_or_else(SmallVec::new, |group| smallvec![keys::group(app, group)])
    }

    pub(super) async fn stage(&self, staging: &mut Staging<'_>, change: &Change) -> Result<Answer, Error> {
        match self {
            GroupChange::Create(new) => life::create(staging, change, new).await,
            GroupChange::Update { group, update } => life::update(staging, change, group, update).await,
            GroupChange::Dissolve { group } => closing::dissolve(staging, change, group).await,
            GroupChange::Close { group } => closing::go_on(staging, change, group).await,
            GroupChange::Transfer { group, to } => life::transfer(staging, change, group, to).await,
            GroupChange::Join { group, wording } => joining::join(staging, change, group, wording).await,
            GroupChange::Answer { group, applicant, agree, text } => {
                joining::answer(staging, change, group, applicant, *agree, text).await
            }
            GroupChange::Invite { group, users, silent } => {
                joining::invite(staging, change, group, users, *silent).await
            }
            GroupChange::Leave { group } => leaving::leave(staging, change, group).await,
            GroupChange::Remove { group, users, reason, silent } => {
                leaving::remove(staging, change, group, users, reason, *silent).await
            }
            GroupChange::Ban { group, users, seconds, reason } => {
                leaving::ban(staging, change, group, users, *seconds, reason).await
            }
            GroupChange::Mute { group, users, seconds } => roles::mute(staging, change, group, users, *seconds).await,
            GroupChange::Member { group, member, update } => {
                roles::update(staging, change, group, member, update).await
            }
            GroupChange::Attributes { group, set, remove, reset, revision } => {
                content::attributes(staging, change, group, set, remove, *reset, *revision).await
            }
            GroupChange::Counters { group, id, changes } => {
                content::counters(staging, change, group, *id, changes).await
            }
            GroupChange::Import { group, members } => joining::import(staging, change, group, members).await,
            GroupChange::Unread { group, member, count } => {
                roles::set_unread(staging, change, group, member, *count).await
            }
            GroupChange::Notify { group, users, content } => {
                content::notify(staging, change, group, users, content).await
            }
        }
    }
}

fn ensure(holds: bool, wrong: &'static str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Argument(wrong)) }
}

fn check_users(users: &mut Vec<UserId>) -> Result<(), Error> {
    let mut seen = std::collections::HashSet::new();
    users.retain(|user| seen.insert(user.clone()));
    ensure((1..=USERS_MAX).contains(&users.len()), "users must name 1 to 100 users")
}

/// Custom fields: declared ones, and not too long.
fn check_fields(given: &BTreeMap<String, Bytes>, declared: &[String], bytes_max: usize) -> Result<(), Error> {
    if given.keys().any(|name| !declared.contains(name)) {
        return Err(Error::Argument("the application has not declared this custom field"));
    }
    ensure(given.values().all(|value| value.len() <= bytes_max), "the value of a custom field is too long")
}

/// Sets what is there; an empty one is taken off.
fn set_fields(fields: &mut BTreeMap<String, Bytes>, given: &BTreeMap<String, Bytes>) {
    for (name, value) in given {
        match value.is_empty() {
            true => drop(fields.remove(name)),
            false => drop(fields.insert(name.clone(), value.clone())),
        }
    }
}
