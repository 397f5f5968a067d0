//! Changes that users make to what is stored, and that their devices or others must learn of.
//!
//! - `message`: recall, edit, delete, receipts (MSG-06, MSG-07, MSG-12).
//! - [`extension`]: reactions and the like; [`pin`]: pinned messages.
//! - [`conversation`]: what a user keeps about a conversation (MSG-16, MSG-17); `label`: its labels.
//! - [`blacklist`]: whose messages a user does not want (REL-08).
//! - [`profile`]: what is said of a user (PROF-01, PROF-05); [`friends`]: friends, requests and lists (REL-02 to
//!   REL-11); [`account`]: deleting accounts (ACC-03).
//!
//! What may not live here: reading without changing (see [`super::sync`], [`super::history`],
//! [`super::conversations`]).

pub mod account;
pub mod blacklist;
pub mod conversation;
pub mod extension;
pub mod friends;
pub mod group;
pub(crate) mod label;
mod message;
pub mod pin;
pub mod profile;
pub(crate) mod receipts;

use bytes::Bytes;
use prost::Message as _;
use protocol::{
    EncodedEvent,
    message::{ExtensionChange, Message, Priority, UpdateConversation, event::What},
};
use smallvec::{SmallVec, smallvec};

use super::{
    AppId, Error, GroupId, Peer, UserId, account as accounts,
    act::{Answer, Audience, Author, Staging},
    damaged,
    elements::Facts,
    groups::{self, access},
    keys::{self, Tail},
    message::MESSAGE_BYTES_MAX_DEFAULT,
    records::{EventKind, Head, RelationRecord},
};

/// Messages that are deleted or given a receipt in one change, at the most.
pub const SEQS_MAX: usize = 100;
/// Longest reason of a recall, in bytes.
pub const REASON_BYTES_MAX: usize = 256;

/// A change that a user asks for.
#[derive(Clone, Debug)]
pub struct Change {
    /// The application.
    pub app: AppId,
    /// Who asks, or is asked for.
    pub user: UserId,
    /// In whose name.
    pub by: Author,
    /// What for.
    pub kind: Kind,
    /// Users named in it whom the application's own server has refused, each with the code it gave.
    pub refused: Vec<(UserId, u32)>,
}

/// What is to be changed. `peer` is whom the conversation is with.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Kind {
    /// Takes one's own message back.
    Recall { peer: Peer, seq: u64, reason: String },
    /// Replaces the body of one's own message.
    Edit { peer: Peer, seq: u64, body: Bytes, facts: Option<Box<Facts>> },
    /// Deletes messages for the user alone.
    Delete { peer: Peer, seqs: Vec<u64> },
    /// Says that received messages were read, one by one.
    Receipts { peer: Peer, seqs: Vec<u64> },
    /// Sets and removes extensions of a message.
    Extensions { peer: Peer, seq: u64, changes: Vec<ExtensionChange> },
    /// Pins a message for both sides, or unpins it.
    Pin { peer: Peer, seq: u64, unpin: bool },
    /// Changes what the user keeps about a conversation.
    Conversation { peer: Peer, update: Box<UpdateConversation> },
    /// Gives a label another name; without one it is taken off all conversations.
    RenameLabel { label: String, to: String },
    /// Puts users on the user's blacklist and takes them off. `each`: those that can't be are left out, instead of
    /// refusing all.
    Blacklist { add: Vec<UserId>, remove: Vec<UserId>, each: bool },
    /// Changes the user's profile.
    Profile(profile::ProfileChange),
    /// Changes the user's friends, requests or lists.
    Friends(friends::FriendsChange),
    /// Deletes the account.
    Erase(account::Erase),
    /// Changes a group, or who is in it.
    Group(Box<group::GroupChange>),
}

impl Kind {
    /// Whether it shows the other side something new, as often as it is done: then it counts as a send where
    /// those are limited. Recalls, receipts and read marks end by themselves.
    pub fn counts_as_send(&self) -> bool {
        matches!(self, Kind::Edit { .. } | Kind::Extensions { .. } | Kind::Pin { .. } | Kind::Group(_))
    }
}

impl Change {
    /// A change that the user asks for.
    pub fn new(app: AppId, user: UserId, kind: Kind) -> Self {
        Change { app, user, by: Author::User, kind, refused: Vec::new() }
    }

    /// A change that an administrator asks for.
    pub fn by_admin(app: AppId, user: UserId, kind: Kind) -> Self {
        Change { by: Author::Admin, ..Change::new(app, user, kind) }
    }

    /// Puts another body in the place of the one that an edit gives.
    pub(super) fn replace_body(&mut self, replacement: Bytes) {
        if let Kind::Edit { body, .. } = &mut self.kind {
            *body = replacement;
        }
    }

    /// Everything that can be said without the store.
    pub fn check(&mut self, message_bytes_max: usize) -> Result<(), Error> {
        match &mut self.kind {
            Kind::Recall { reason, .. } if reason.len() > REASON_BYTES_MAX => {
                Err(Error::Argument("reason must have at most 256 bytes"))
            }
            Kind::Edit { body, facts, .. } => {
                if body.len() > message_bytes_max {
                    return Err(Error::MessageTooLong { bytes: body.len(), limit: message_bytes_max });
                }
                *facts = super::elements::check(body, self.by)?;
                Ok(())
            }
            Kind::Delete { seqs, .. } | Kind::Receipts { seqs, .. } => {
                seqs.sort_unstable();
                seqs.dedup();
                match (1..=SEQS_MAX).contains(&seqs.len()) {
                    true => Ok(()),
                    false => Err(Error::Argument("seqs must name 1 to 100 messages")),
                }
            }
            Kind::Extensions { changes, .. } => extension::check(changes),
            Kind::Conversation { update, .. } => conversation::check(update),
            Kind::RenameLabel { label, to } => label::check_rename(label, to),
            Kind::Blacklist { add, remove, each } => blacklist::check(&self.user, add, remove, *each),
            Kind::Profile(change) => change.check(self.by),
            Kind::Friends(change) => change.check(self.by),
            Kind::Group(change) => change.check(self.by),
            Kind::Erase(_) if self.by == Author::User => Err(Error::NotAllowed),
            Kind::Erase(_) => Ok(()),
            Kind::Recall { .. } | Kind::Pin { .. } => Ok(()),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.kind {
            Kind::Edit { body, .. } => body.len(),
            Kind::Extensions { changes, .. } => {
                changes.iter().map(|change| change.key.len() + change.value.len()).sum()
            }
            Kind::Receipts { seqs, .. } | Kind::Delete { seqs, .. } => seqs.len() * size_of::<u64>(),
            Kind::Blacklist { add, remove, .. } => (add.len() + remove.len()) * super::USER_BYTES_MAX,
            Kind::Profile(change) => change.bytes(),
            Kind::Friends(change) => change.bytes(),
            Kind::Erase(erase) => erase.bytes(),
            Kind::Group(change) => change.bytes(),
            Kind::Conversation { update, .. } => update.encoded_len(),
            Kind::Recall { .. } | Kind::Pin { .. } | Kind::RenameLabel { .. } => REASON_BYTES_MAX,
        }
    }

    /// Bytes that it adds to a transaction, about.
    pub(super) fn written_bytes(&self) -> usize {
        /// A key with its conflict ranges and a small value, twice: what it takes to note a thing and to tell it.
        const NOTE_BYTES: usize = 500;
        const MESSAGE_BYTES: usize = MESSAGE_BYTES_MAX_DEFAULT + 4 * NOTE_BYTES;
        /// A user's label names, and two events.
        const CONVERSATION_BYTES: usize = 8_000;
        match &self.kind {
            Kind::Receipts { seqs, .. } => seqs.len() * MESSAGE_BYTES,
            Kind::Edit { body, .. } => body.len() + 4 * NOTE_BYTES,
            // Stored once, and in both sides' logs; the message is noted to have extensions.
            Kind::Extensions { changes, .. } => MESSAGE_BYTES + 3 * self.bytes() + changes.len() * NOTE_BYTES,
            Kind::Delete { seqs, .. } => (seqs.len() + 1) * NOTE_BYTES,
            // Ends a friendship, and open requests, too.
            Kind::Blacklist { add, remove, .. } => {
                add.len() * friends::RELATION_BYTES + (remove.len() + 1) * 2 * NOTE_BYTES
            }
            Kind::Profile(change) => change.written_bytes(),
            Kind::Friends(change) => change.written_bytes(),
            Kind::Erase(erase) => erase.written_bytes(),
            Kind::Group(change) => change.written_bytes(),
            Kind::Conversation { .. } | Kind::RenameLabel { .. } => CONVERSATION_BYTES,
            Kind::Recall { .. } | Kind::Pin { .. } => 4 * NOTE_BYTES,
        }
    }

    pub(super) fn stamps_max(&self) -> usize {
        match &self.kind {
            Kind::Receipts { seqs, .. } => 2 * seqs.len(),
            Kind::Blacklist { add, .. } => 2 + add.len() * friends::STAMPS_EACH,
            Kind::Profile(change) => change.stamps_max(),
            Kind::Friends(change) => change.stamps_max(),
            Kind::Erase(erase) => erase.stamps_max(),
            Kind::Group(change) => change.stamps_max(),
            _ => 2,
        }
    }

    pub(super) fn reads(&self) -> SmallVec<[Bytes; 4]> {
        let app = self.app;
        match &self.kind {
            Kind::Recall { peer, seq, .. } => {
                smallvec![Tail::of(&self.user, peer).message(app, *seq)]
            }
            Kind::Edit { peer, seq, .. }
            | Kind::Extensions { peer, seq, .. }
            | Kind::Pin { peer, seq, unpin: false } => {
                let message = Tail::of(&self.user, peer).message(app, *seq);
                match peer {
                    Peer::User(other) => smallvec![message, keys::relation(app, other, &self.user)],
                    Peer::Group(group) => smallvec![message, keys::group(app, group)],
                }
            }
            Kind::Pin { unpin: true, .. } => SmallVec::new(),
            Kind::Receipts { peer, seqs } => {
                let tail = Tail::of(&self.user, peer);
                seqs.iter().map(|seq| tail.message(app, *seq)).collect()
            }
            Kind::Conversation { peer, .. } => smallvec![
                keys::kept(app, &self.user, peer),
                Tail::of(&self.user, peer).head(app),
                keys::labels(app, &self.user),
            ],
            Kind::RenameLabel { .. } => smallvec![keys::labels(app, &self.user)],
            Kind::Delete { peer, .. } => {
                smallvec![Tail::of(&self.user, peer).head(app)]
            }
            Kind::Blacklist { add, remove, .. } => {
                let accounts = add.iter().chain([&self.user]).map(|other| keys::account(app, other));
                let relations = add.iter().chain(remove).map(|other| keys::relation(app, &self.user, other));
                let ended = add.iter().flat_map(|other| friends::reads(app, &self.user, other));
                accounts.chain(relations).chain(ended).collect()
            }
            Kind::Profile(change) => change.reads(app, &self.user),
            Kind::Friends(change) => change.reads(app, &self.user),
            Kind::Erase(erase) => erase.reads(app, &self.user),
            Kind::Group(change) => change.reads(app),
        }
    }

    /// Keys one of which each run reads, so that writing them makes a run in doubt fail.
    pub(super) fn guards(&self) -> SmallVec<[Bytes; 4]> {
        match &self.kind {
            // Within a list, all of which is read.
            Kind::Pin { peer, seq, .. } => {
                smallvec![Tail::of(&self.user, peer).pin(self.app, *seq)]
            }
            Kind::Blacklist { .. } => {
                smallvec![keys::listed(self.app, keys::Listed::Blacklist, &self.user, &self.user)]
            }
            Kind::Friends(_) => smallvec![keys::book(self.app, &self.user)],
            Kind::Profile(_) => smallvec![keys::profile(self.app, &self.user)],
            Kind::Erase(_) => smallvec![keys::unfinished(self.app, &self.user)],
            Kind::Group(change) => change.guards(self.app),
            _ => self.reads(),
        }
    }

    /// Whether a run of the change can't tell what an earlier one has written into logs: then everybody concerned
    /// reads them, and that run is barred, should it still be on its way.
    pub(super) fn is_told_by_the_log(&self) -> bool {
        matches!(
            self.kind,
            Kind::Blacklist { .. } | Kind::Profile(_) | Kind::Friends(_) | Kind::Erase(_) | Kind::Group(_)
        )
    }

    pub(super) async fn stage(&self, staging: &mut Staging<'_>) -> Result<Answer, Error> {
        let answer = self.stage_kind(staging).await?;
        friends::tell_application(staging, self).await?;
        Ok(answer)
    }

    async fn stage_kind(&self, staging: &mut Staging<'_>) -> Result<Answer, Error> {
        match &self.kind {
            Kind::Recall { peer, seq, reason } => message::recall(staging, self, peer, *seq, reason).await,
            Kind::Edit { peer, seq, body, facts } => {
                message::edit(staging, self, peer, *seq, body, facts.as_deref()).await
            }
            Kind::Delete { peer, seqs } => message::delete(staging, self, peer, seqs).await,
            Kind::Receipts { peer, seqs } => message::receipts(staging, self, peer, seqs).await,
            Kind::Extensions { peer, seq, changes } => extension::change(staging, self, peer, *seq, changes).await,
            Kind::Pin { peer, seq, unpin } => pin::change(staging, self, peer, *seq, *unpin).await,
            Kind::Conversation { peer, update } => conversation::update(staging, self, peer, update).await,
            Kind::RenameLabel { label, to } => label::rename(staging, self, label, to).await,
            Kind::Blacklist { add, remove, each } => blacklist::update(staging, self, add, remove, *each).await,
            Kind::Profile(change) => change.stage(staging, self).await,
            Kind::Friends(change) => change.stage(staging, self).await,
            Kind::Erase(erase) => erase.stage(staging, self).await,
            Kind::Group(change) => change.stage(staging, self).await,
        }
    }

    /// Everybody who may be told of it.
    pub fn concerned(&self) -> SmallVec<[Audience; 2]> {
        match &self.kind {
            Kind::Recall { peer, .. }
            | Kind::Edit { peer, .. }
            | Kind::Receipts { peer, .. }
            | Kind::Extensions { peer, .. }
            | Kind::Pin { peer, .. }
            | Kind::Conversation { peer, .. } => {
                let other = match peer {
                    Peer::User(other) => other.clone().into(),
                    Peer::Group(group) => group.clone().into(),
                };
                smallvec![self.user.clone().into(), other]
            }
            Kind::Delete { .. } | Kind::RenameLabel { .. } => smallvec![self.user.clone().into()],
            Kind::Blacklist { add, .. } => self.with_user(add),
            Kind::Profile(change) => self.with_user(change.others()),
            Kind::Friends(change) => self.with_user(change.others()),
            Kind::Erase(erase) => {
                let group = erase.group().map(|group| group.clone().into());
                self.with_user(erase.others()).into_iter().chain(group).collect()
            }
            Kind::Group(change) => {
                let group = change.group().map(|group| group.clone().into());
                self.with_user(change.named()).into_iter().chain(group).collect()
            }
        }
    }

    /// The group that may be told of it otherwise than by a message.
    pub(super) fn tells_group(&self) -> Option<&GroupId> {
        match &self.kind {
            Kind::Recall { peer, .. }
            | Kind::Edit { peer, .. }
            | Kind::Extensions { peer, .. }
            | Kind::Pin { peer, .. } => peer.group(),
            Kind::Group(change) => change.group().filter(|_| change.notifies()),
            _ => None,
        }
    }

    /// The group from which somebody may begin to receive by it, or cease to.
    pub(super) fn moves_in(&self) -> Option<&GroupId> {
        match &self.kind {
            Kind::Conversation { peer, update } => peer.group().filter(|_| update.receive.is_some()),
            Kind::Erase(erase) => erase.group(),
            Kind::Group(change) => change.group().filter(|_| change.moves()),
            _ => None,
        }
    }

    fn with_user<'a>(&'a self, others: impl IntoIterator<Item = &'a UserId>) -> SmallVec<[Audience; 2]> {
        others.into_iter().chain([&self.user]).map(|user| user.clone().into()).collect()
    }

    /// The two sides of a 1:1 conversation, once each.
    fn sides<'a>(&'a self, other: &'a UserId) -> SmallVec<[(&'a UserId, &'a UserId); 2]> {
        match self.user == *other {
            true => smallvec![(other, other)],
            false => smallvec![(&self.user, other), (other, &self.user)],
        }
    }

    /// Writes an entry about message `seq` into the log of everybody in the conversation who sees it, as `told` makes it
    /// of whom it is with there.
    async fn tell(
        &self,
        staging: &mut Staging<'_>,
        peer: &Peer,
        seq: u64,
        told: impl Fn(&Peer) -> (EventKind, EncodedEvent),
    ) -> Result<(), Error> {
        match peer {
            Peer::User(other) => {
                for (user, other) in self.sides(other) {
                    let (kind, event) = told(&Peer::User(other.clone()));
                    staging.append(self.app, user, kind, event);
                }
            }
            Peer::Group(group) => {
                let record = access::load(staging, self.app, group).await?;
                access::tell(staging, self.app, group, &record, &self.user, seq, told(peer)).await?;
            }
        }
        Ok(())
    }

    /// The same for what has no record of its own: the entry holds it.
    async fn tell_stored(
        &self,
        staging: &mut Staging<'_>,
        peer: &Peer,
        seq: u64,
        what: impl Fn(&Peer) -> What,
    ) -> Result<(), Error> {
        let told = |peer: &Peer| {
            let event = EncodedEvent::of(&what(peer));
            (EventKind::Stored(event.to_stored()), event)
        };
        self.tell(staging, peer, seq, told).await
    }

    /// A message of the user's conversation with `peer`.
    async fn message(&self, staging: &mut Staging<'_>, peer: &Peer, seq: u64) -> Result<Message, Error> {
        self.ensure_seen(staging, peer, seq).await?;
        let stored = staging.get(&Tail::of(&self.user, peer).message(self.app, seq)).await?;
        let unknown = || match peer {
            Peer::User(_) => Error::MessageUnknown,
            Peer::Group(_) => groups::Refusal::MessageUnknown.into(),
        };
        Message::decode(stored.ok_or_else(unknown)?).map_err(|_| damaged("message"))
    }

    /// Refuses what was said in a group while the user was not in it.
    async fn ensure_seen(&self, staging: &Staging<'_>, peer: &Peer, seq: u64) -> Result<(), Error> {
        let Peer::Group(group) = peer else { return Ok(()) };
        if self.by == Author::Admin {
            return Ok(());
        }
        access::ensure_sees(staging.tx, self.app, group, &self.user, seq).await
    }

    /// The same, if it was not recalled.
    async fn present_message(&self, staging: &mut Staging<'_>, peer: &Peer, seq: u64) -> Result<Message, Error> {
        let message = self.message(staging, peer, seq).await?;
        match (&message.recalled, peer) {
            (None, _) => Ok(message),
            (Some(_), Peer::User(_)) => Err(Error::MessageRecalled),
            (Some(_), Peer::Group(_)) => Err(groups::Refusal::MessageRecalled.into()),
        }
    }

    async fn head(&self, staging: &mut Staging<'_>, peer: &Peer) -> Result<Head, Error> {
        Head::from_stored(staging.get(&Tail::of(&self.user, peer).head(self.app)).await?)
    }

    /// Refuses users that do not exist.
    async fn ensure_account(&self, staging: &mut Staging<'_>, user: &UserId) -> Result<(), Error> {
        match accounts::is_there(staging.get(&keys::account(self.app, user)).await?)? {
            true => Ok(()),
            false => Err(Error::UserInvalid),
        }
    }

    /// Refuses what would be refused as a message: an old message must not become the way to say something new.
    /// Returns what the other side of a 1:1 conversation says of the user.
    async fn ensure_welcome(&self, staging: &mut Staging<'_>, peer: &Peer) -> Result<RelationRecord, Error> {
        match peer {
            Peer::User(other) => {
                let settings = staging.settings(self.app).await?;
                super::send::ensure_welcome(staging, self.app, &self.user, other, &settings, self.by).await
            }
            Peer::Group(group) => {
                let record = access::load(staging, self.app, group).await?;
                access::ensure_may_speak(staging, self.app, group, &record, &self.user, self.by).await?;
                self.take_group_rate(staging, group).await?;
                Ok(RelationRecord::default())
            }
        }
    }

    /// Counts what a user may do, and everybody in a group is told of, as a message to it: else it would be a way around
    /// the group's rate. To be asked before the first write.
    async fn take_group_rate(&self, staging: &mut Staging<'_>, group: &GroupId) -> Result<(), Error> {
        if self.by == Author::Admin {
            return Ok(());
        }
        let settings = staging.settings(self.app).await?;
        staging.take_group_send(self.app, group, Priority::Normal, &settings)
    }
}
