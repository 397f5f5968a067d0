//! What users ask for that others must learn of, and what it takes to carry it out inside a transaction.
//!
//! An act is staged: it reads, refuses or writes, and says who is to be told. Many acts share one
//! transaction ([`super::send_queue`]), each of them succeeds or is refused on its own. So an act must
//! have made up its mind before its first write.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use prost::Message as _;
use protocol::{
    EncodedEvent, EncodedPush,
    message::{ConversationState, Extension, GroupAttributes, GroupCounters, Message, Priority, event::What},
};
use smallvec::SmallVec;

use super::{
    AppId, Error, GroupId, Peer, UserId, applications,
    callbacks::{Caller, Pair},
    change::Change,
    friends::Refusal,
    groups::{self, rate::GroupLimits},
    keys,
    message::NewMessage,
    records::{EventKind, EventRecord},
    settings::Settings,
    unsettled::Try,
};
use crate::{
    env::Clock,
    store::{Committed, Reading, Tx, Versionstamp},
};

/// In whose name something is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Author {
    /// The user's own.
    #[default]
    User,
    /// An administrator's, who may do it for any user, and is not bound by what users have set against each other.
    Admin,
}

/// What a user asks for.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends a message.
    Send(NewMessage),
    /// Changes something.
    Change(Box<Change>),
}

impl Act {
    /// The application.
    pub fn app(&self) -> AppId {
        match self {
            Act::Send(message) => message.app,
            Act::Change(change) => change.app,
        }
    }

    /// Bytes that it holds while it waits, about.
    pub fn bytes(&self) -> usize {
        const RECIPIENT_BYTES: usize = 64;
        match self {
            Act::Send(message) => message.body.len() + message.recipients.len() * RECIPIENT_BYTES,
            Act::Change(change) => change.bytes(),
        }
    }

    /// Bytes that it adds to a transaction, about: keys, values and conflict ranges.
    pub(crate) fn written_bytes(&self) -> usize {
        /// Keys, records and events beside the body.
        const SEND_BYTES: usize = 1_500;
        /// An event in one more log.
        const TOLD_BYTES: usize = 300;
        match self {
            // Whatever the group's size: it is taken alone.
            Act::Send(message) if message.treatment.unannounced && matches!(message.to, Peer::Group(_)) => 2 << 20,
            Act::Send(message) => message.body.len() + SEND_BYTES + message.recipients.len() * TOLD_BYTES,
            Act::Change(change) => change.written_bytes(),
        }
    }

    /// Versionstamped writes that it makes at the most.
    pub(crate) fn stamps_max(&self) -> usize {
        match self {
            // With what the application's server is told: of a change of the blacklist, friendships ended, and users
            // put on and taken off.
            Act::Send(_) => 4,
            Act::Change(change) => change.stamps_max() + 3,
        }
    }

    /// Keys that it reads through [`Staging::get`] whatever it finds: their reading can be started before
    /// its turn comes.
    pub(crate) fn reads(&self) -> SmallVec<[Bytes; 4]> {
        match self {
            Act::Send(message) => super::send::reads(message),
            Act::Change(change) => change.reads(),
        }
    }
}

/// What an act comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A message was stored, or had been.
    Sent {
        /// The message's place in its conversation; 0 if it was not to be stored.
        seq: u64,
        /// The server's time of the message, milliseconds since the Unix epoch.
        time_ms: u64,
        /// It had been stored before, by an earlier try.
        duplicate: bool,
    },
    /// A message was changed: as it is now.
    Message(Box<Message>),
    /// What the user keeps about a conversation, as it is now.
    Conversation(Box<ConversationState>),
    /// What became of each change of an extension.
    Extensions(Vec<(Extension, ExtensionOutcome)>),
    /// What became of the relation to each user named.
    Relations(Vec<RelationOutcome>),
    /// A group was made.
    GroupCreated(GroupId),
    /// A group was joined, or applied for.
    GroupJoined {
        /// The application waits for an answer.
        applied: bool,
    },
    /// What became of each user named, in a group.
    GroupUsers(Vec<(UserId, Result<(), groups::Refusal>)>),
    /// A group's attributes, as they are now.
    GroupAttributes(Box<GroupAttributes>),
    /// A group's counters that were changed, as they are now.
    GroupCounters(Box<GroupCounters>),
    /// It is not done yet: another act goes on with it, and is answered.
    Underway,
    /// It was done.
    Done,
}

/// What became of the change of an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionOutcome {
    /// Changed.
    Changed,
    /// It was changed by somebody else meanwhile.
    Conflict,
    /// The message has as many as it may have.
    Full,
}

/// What became of the relation to one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationOutcome {
    /// The other.
    pub user: UserId,
    /// Whether it was done.
    pub outcome: Result<Related, Refusal>,
}

/// How far it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Related {
    /// It is so now.
    Done,
    /// It waits for the other's answer.
    Asked,
}

/// An act that was carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// For who asked.
    pub answer: Answer,
    /// For everybody concerned.
    pub notices: SmallVec<[Notice; 2]>,
}

impl Answer {
    /// Nothing else of what was asked for will be answered.
    pub fn is_last(&self) -> bool {
        !matches!(self, Answer::Underway)
    }
}

impl Outcome {
    /// Whether the answer says all that the events do: then the device that asked needs no event. An answer
    /// may overtake others' events, or be overtaken by a page of the log: harmless to a message just sent, but a
    /// device that took every answer for the newest state would end with an old one.
    pub fn is_whole(&self) -> bool {
        matches!(self.answer, Answer::Sent { .. })
    }

    /// A message had been stored before, by an earlier try.
    pub fn is_duplicate(&self) -> bool {
        matches!(self.answer, Answer::Sent { duplicate: true, .. })
    }
}

/// Something that devices are told at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Whose devices.
    pub to: Audience,
    /// What.
    pub what: News,
}

/// Whose devices are told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Audience {
    /// A user's.
    User(UserId),
    /// Those of all members of a group who receive from it: the sessions that [`News::Entered`] has put there.
    Group(GroupId),
}

impl Audience {
    /// The user, if it is one.
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Audience::User(user) => Some(user),
            Audience::Group(_) => None,
        }
    }
}

impl From<UserId> for Audience {
    fn from(user: UserId) -> Self {
        Audience::User(user)
    }
}

impl From<GroupId> for Audience {
    fn from(group: GroupId) -> Self {
        Audience::Group(group)
    }
}

/// What devices are told.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// A new entry of the user's event log, and where it stands: for a group, of the log of each of its members, in the
    /// same place, or of the group's own.
    Event(Versionstamp, EncodedEvent),
    /// From here on the user receives what the group is told. To users, never to groups.
    Entered(GroupId),
    /// From here on the user does not; told to the group, nobody does: it is gone.
    Left(GroupId),
    /// Something that is in no log.
    Push(EncodedPush),
    /// Something may be in the log that was not told: to be read.
    Behind,
}

/// The first place in a log that is told.
pub(super) fn first_position(notices: &[Notice]) -> Option<Versionstamp> {
    notices.iter().find_map(|notice| match notice.what {
        News::Event(position, _) => Some(position),
        News::Push(_) | News::Entered(_) | News::Left(_) | News::Behind => None,
    })
}

/// An act inside a transaction that is not committed yet: positions follow from the commit.
#[derive(Clone, Debug)]
pub(crate) struct Staged {
    pub(crate) answer: Answer,
    /// It was an earlier run of the transaction that has stored it.
    pub(crate) is_recovered: bool,
    pub(crate) notices: SmallVec<[StagedNotice; 2]>,
    /// The act that goes on with it, once this is durable.
    pub(crate) next: Option<Box<Change>>,
}

#[derive(Clone, Debug)]
pub(crate) struct StagedNotice {
    pub(crate) to: Audience,
    pub(crate) what: StagedNews,
}

#[derive(Clone, Debug)]
pub(crate) enum StagedNews {
    /// An entry that this transaction writes, by the number of its stamp.
    Event(u16, EncodedEvent),
    /// What has its place already, or needs none.
    Settled(News),
}

impl Staged {
    /// What this run stores of a send; `None` if it was stored before.
    pub(super) fn new_try(&self) -> Option<Try> {
        match self.answer {
            Answer::Sent { seq, time_ms, duplicate: false } if seq > 0 => Some(Try { seq, time_ms }),
            _ => None,
        }
    }

    /// What was stored of a send before, if it was.
    pub(super) fn earlier_try(&self) -> Option<Try> {
        match self.answer {
            Answer::Sent { seq, time_ms, duplicate: true } => Some(Try { seq, time_ms }),
            _ => None,
        }
    }

    /// It was an earlier run of this transaction that has stored it: everybody is told now.
    pub(super) fn recover(&mut self, notices: SmallVec<[Notice; 2]>) {
        self.note_first();
        let settled = |Notice { to, what }| StagedNotice { to, what: StagedNews::Settled(what) };
        self.notices = notices.into_iter().map(settled).collect();
        self.is_recovered = true;
    }

    /// What was stored before, this send has stored: nobody has been answered yet.
    pub(super) fn note_first(&mut self) {
        if let Answer::Sent { duplicate, .. } = &mut self.answer {
            *duplicate = false;
        }
    }

    /// What it came to, once the transaction has been committed.
    pub(crate) fn committed(self, committed: Committed) -> Outcome {
        let settle = |StagedNotice { to, what }| match what {
            StagedNews::Event(stamp, event) => Notice { to, what: News::Event(committed.stamp(stamp), event) },
            StagedNews::Settled(what) => Notice { to, what },
        };
        Outcome { answer: self.answer, notices: self.notices.into_iter().map(settle).collect() }
    }
}

/// One run of a transaction that carries out acts.
pub(crate) struct Staging<'a> {
    pub(crate) tx: &'a Tx,
    pub(crate) now_ms: u64,
    /// An earlier run of the same transaction may have been committed without having been heard. What
    /// finds its work done tells everybody all the same: nobody has been told yet.
    pub(crate) again: bool,
    /// An earlier run has counted the act at hand against its group's rate.
    pub(crate) is_counted: bool,
    /// Who asks for the act at hand.
    pub(crate) caller: Caller,
    group_limits: &'a GroupLimits,
    now_us: u64,
    stamps: u16,
    ahead: HashMap<Bytes, Reading<Option<Bytes>>>,
    settings: SmallVec<[(AppId, Arc<Settings>); 1]>,
    mutes: SmallVec<[(AppId, bool); 1]>,
    notices: SmallVec<[StagedNotice; 2]>,
    next: Option<Box<Change>>,
    friendships: Friendships,
}

/// Which friendships the act at hand has begun and ended: the application's server is told of all of them together.
#[derive(Debug, Default)]
pub(crate) struct Friendships {
    pub(crate) begun: Vec<Pair>,
    pub(crate) ended: Vec<Pair>,
}

impl<'a> Staging<'a> {
    pub(crate) fn new(tx: &'a Tx, clock: &dyn Clock, group_limits: &'a GroupLimits) -> Self {
        let (now_ms, now_us) = (clock.unix_ms(), clock.monotonic_us());
        let (ahead, notices) = (HashMap::new(), SmallVec::new());
        let (settings, mutes, caller) = (SmallVec::new(), SmallVec::new(), Caller::default());
        let friendships = Friendships::default();
        Staging {
            tx,
            now_ms,
            again: false,
            is_counted: false,
            caller,
            group_limits,
            now_us,
            stamps: 0,
            ahead,
            settings,
            mutes,
            notices,
            next: None,
            friendships,
        }
    }

    /// Starts the reads of all acts, where each is a round trip: together they take one. A key is read
    /// ahead for the first act that asks for it, unless one before it writes it ([`Staging::set`]).
    pub(crate) fn read_ahead<'b>(&mut self, acts: impl Iterator<Item = &'b Act>) {
        self.start_reads(acts.flat_map(Act::reads));
    }

    /// Starts reads of what will be asked for, one by one: together they take one round trip.
    pub(crate) fn start_reads(&mut self, keys: impl Iterator<Item = Bytes>) {
        if self.tx.is_remote() {
            for key in keys {
                self.ahead.entry(key).or_insert_with_key(|key| self.tx.get(key));
            }
        }
    }

    /// The value of `key`; the transaction fails if it changes until the commit.
    pub(crate) async fn get(&mut self, key: &Bytes) -> Result<Option<Bytes>, Error> {
        let ahead = if self.ahead.is_empty() { None } else { self.ahead.remove(key) };
        Ok(ahead.unwrap_or_else(|| self.tx.get(key)).await?)
    }

    /// Writes what [`Staging::get`] may be asked for.
    pub(crate) fn set(&mut self, key: Bytes, value: impl Into<Bytes>) {
        self.outdate(&key);
        self.tx.set(key, value);
    }

    /// Removes what [`Staging::get`] may be asked for.
    pub(crate) fn clear(&mut self, key: &[u8]) {
        self.outdate(key);
        self.tx.clear(key);
    }

    /// What was read of `key` before any act's turn came is no longer so.
    fn outdate(&mut self, key: &[u8]) {
        if !self.ahead.is_empty() {
            self.ahead.remove(key);
        }
    }

    /// The settings of an application.
    pub(crate) async fn settings(&mut self, app: AppId) -> Result<Arc<Settings>, Error> {
        if let Some((_, settings)) = self.settings.iter().find(|(known, _)| *known == app) {
            return Ok(settings.clone());
        }
        let settings = Arc::new(applications::settings(self.tx, app).await?);
        self.settings.push((app, settings.clone()));
        Ok(settings)
    }

    /// Counts a message of somebody who may send it to a group. Refuses what is over the group's rate; what was counted
    /// in an earlier run is not counted again.
    pub(crate) fn take_group_send(
        &self,
        app: AppId,
        group: &GroupId,
        priority: Priority,
        settings: &Settings,
    ) -> Result<(), Error> {
        if self.is_counted {
            return Ok(());
        }
        let taken = self.group_limits.take(app, group, priority, settings.group_sends_per_second, self.now_us);
        taken.map_err(|retry_after_ms| groups::Refusal::RateLimited(retry_after_ms).into())
    }

    /// Whether anybody of an application has ever been muted: only then is there more to look for.
    pub(crate) async fn has_mutes(&mut self, app: AppId) -> Result<bool, Error> {
        if let Some((_, has_mutes)) = self.mutes.iter().find(|(known, _)| *known == app) {
            return Ok(*has_mutes);
        }
        let has_mutes = self.tx.snapshot_get(&keys::mutes(app)).await?.is_some();
        self.mutes.push((app, has_mutes));
        Ok(has_mutes)
    }

    /// A number for a versionstamped write, once.
    pub(crate) fn next_stamp(&mut self) -> u16 {
        self.stamps += 1;
        self.stamps - 1
    }

    /// Writes an entry into a user's event log, and has it pushed as `event`.
    pub(crate) fn append(&mut self, app: AppId, user: &UserId, kind: EventKind, event: EncodedEvent) {
        let stamp = self.next_stamp();
        self.append_at(stamp, app, user, kind, event);
    }

    /// The same with a stamp of one's own choice: one is enough for many users, each of whom has another log.
    pub(crate) fn append_at(&mut self, stamp: u16, app: AppId, user: &UserId, kind: EventKind, event: EncodedEvent) {
        let record = EventRecord { kind: Some(kind) };
        self.tx.append_versionstamped(&keys::event_prefix(app, user), stamp, &[], record.encode_to_vec());
        self.notices.push(StagedNotice { to: user.clone().into(), what: StagedNews::Event(stamp, event) });
    }

    /// Writes an entry into the logs of all members of a group, or into the group's own, as one event in one place, and
    /// has it pushed to the group. `members`: who has a log of his own to write it into; `None`: the group is large.
    /// Returns the number of its stamp.
    pub(crate) fn append_to_group(
        &mut self,
        app: AppId,
        group: &GroupId,
        members: Option<&[UserId]>,
        kind: EventKind,
        event: EncodedEvent,
    ) -> u16 {
        let stamp = self.next_stamp();
        match members {
            // The same stamp in each: they are different keys.
            Some(members) => {
                let record = Bytes::from(EventRecord { kind: Some(kind) }.encode_to_vec());
                members.iter().for_each(|member| {
                    self.tx.append_versionstamped(&keys::event_prefix(app, member), stamp, &[], record.clone());
                });
            }
            None => self.append_to_group_log(stamp, app, group, kind),
        }
        self.notices.push(StagedNotice { to: group.clone().into(), what: StagedNews::Event(stamp, event) });
        stamp
    }

    /// The same for some of those who receive from a group. Whoever reads a large group's log sees to it himself that an
    /// entry does not concern him.
    pub(crate) fn append_to_some(
        &mut self,
        app: AppId,
        group: &GroupId,
        is_large: bool,
        users: &[UserId],
        kind: EventKind,
        event: EncodedEvent,
    ) -> u16 {
        let stamp = self.next_stamp();
        if is_large {
            self.append_to_group_log(stamp, app, group, kind);
            let notice =
                |user: &UserId| StagedNotice { to: user.clone().into(), what: StagedNews::Event(stamp, event.clone()) };
            self.notices.extend(users.iter().map(notice));
        } else {
            users.iter().for_each(|user| self.append_at(stamp, app, user, kind.clone(), event.clone()));
        }
        stamp
    }

    fn append_to_group_log(&mut self, stamp: u16, app: AppId, group: &GroupId, kind: EventKind) {
        let record = EventRecord { kind: Some(kind) };
        self.tx.append_versionstamped(&keys::group_event_prefix(app, group), stamp, &[], record.encode_to_vec());
        let (begin, end) = keys::group_event_guard(app, group);
        self.tx.add_write_conflict(&begin, &end);
    }

    /// Has a user's sessions receive what a group is told from here on, or not any more.
    pub(crate) fn note_membership(&mut self, user: &UserId, group: &GroupId, has_entered: bool) {
        let group = group.clone();
        let news = if has_entered { News::Entered(group) } else { News::Left(group) };
        self.notices.push(StagedNotice { to: user.clone().into(), what: StagedNews::Settled(news) });
    }

    /// Has nobody receive any more what a group is told, whoever is there: it is gone.
    pub(crate) fn note_end(&mut self, group: &GroupId) {
        let news = StagedNews::Settled(News::Left(group.clone()));
        self.notices.push(StagedNotice { to: group.clone().into(), what: news });
    }

    /// The same for what has no record of its own: the entry holds it.
    pub(crate) fn append_stored(&mut self, app: AppId, user: &UserId, what: &What) {
        let event = EncodedEvent::of(what);
        self.append(app, user, EventKind::Stored(event.to_stored()), event);
    }

    /// The same for several users, each named once.
    pub(crate) fn append_stored_for_all<'b>(
        &mut self,
        app: AppId,
        users: impl IntoIterator<Item = &'b UserId>,
        what: &What,
    ) {
        let (stamp, event) = (self.next_stamp(), EncodedEvent::of(what));
        for user in users {
            self.append_at(stamp, app, user, EventKind::Stored(event.to_stored()), event.clone());
        }
    }

    /// Has something pushed that is in no log.
    pub(crate) fn push(&mut self, to: impl Into<Audience>, push: EncodedPush) {
        self.notices.push(StagedNotice { to: to.into(), what: StagedNews::Settled(News::Push(push)) });
    }

    /// Has another change go on with the act, once this one is durable; it is answered in its place.
    pub(crate) fn go_on(&mut self, next: Change) -> Answer {
        self.next = Some(Box::new(next));
        Answer::Underway
    }

    /// Notes that `other` has become a friend of `user`, or has ceased to be one.
    pub(crate) fn note_friendship(&mut self, user: &UserId, other: &UserId, has_begun: bool) {
        let Friendships { begun, ended } = &mut self.friendships;
        if has_begun { begun } else { ended }.push(Pair::new(user, other));
    }

    /// What was noted of friendships; nothing is left.
    pub(crate) fn take_friendships(&mut self) -> Friendships {
        std::mem::take(&mut self.friendships)
    }

    /// Carries an act out.
    pub(crate) async fn stage(&mut self, act: &Act, caller: Caller) -> Result<Staged, Error> {
        self.notices.clear();
        self.next = None;
        self.friendships = Friendships::default();
        self.caller = caller;
        // Nothing is written for an application that is gone.
        self.settings(act.app()).await?;
        let answer = match act {
            Act::Send(message) => super::send::stage(self, message).await?,
            Act::Change(change) => change.stage(self).await?,
        };
        let (notices, next) = (std::mem::take(&mut self.notices), self.next.take());
        Ok(Staged { answer, is_recovered: false, notices, next })
    }
}
