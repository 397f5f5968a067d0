//! Is what is stored sound? Every record decodes, and what belongs together agrees.
//!
//! Checked: conversations have all sequences from their floor to their head, and no others; entries of
//! event logs and answers to sends point to messages that are there or have expired; floors are not ahead
//! of what they limit; a conversation with messages stands in the index of hours, so that it will expire,
//! and in the lists of both users; the counts of unread messages agree from message to message and with
//! the head; profiles, friends and requests agree on both sides and with their indexes and counts (`people`); members of
//! groups are what users know to be in, and are counted rightly on both sides (`groups`).
//! Subspaces that this program does not know are counted and not looked into, and so is what applications
//! have left that were deleted: it is being removed.

use std::collections::HashSet;

mod groups;
mod people;

use bytes::Bytes;
use prost::Message as _;
use protocol::message::{GroupType, Message, Profile};

use super::{
    super::{
        AppId, Error, GroupId, Peer, UserId,
        callbacks::CallbackRecord,
        claim::Claim,
        groups::records::{ClosingRecord, GroupRecord},
        keys::{self, Parts, Tail},
        records::{
            AccountRecord, ApplicationRecord, EventKind, EventPass, EventRecord, Head, MessageRef, RemovalRecord,
            SentRecord,
        },
        retention::{event_floor, floor_seq, hour_of},
        unfinished::UnfinishedRecord,
    },
    Walk,
};
use crate::store::{Store, Versionstamp};

/// What a check found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Keys looked at.
    pub keys: u64,
    /// Of them in subspaces that this program does not know.
    pub unknown: u64,
    /// Problems told.
    pub problems: u64,
}

/// Looks at everything in the store, and tells each problem in one line. An error ends the check: the
/// store could not be read.
pub fn check(store: &Store, tell: &mut dyn FnMut(&str)) -> Result<Checked, Error> {
    let walk = Walk { store };
    let mut deleted = HashSet::new();
    walk.each(keys::removals(), |key, _| {
        deleted.extend(keys::removed_application(&key));
        Ok(())
    })?;
    let mut check = Check { walk: &walk, tell, checked: Checked::default(), deleted, last_conversation: None };
    walk.each(Walk::whole(), |key, value| check.pair(&key, value))?;
    Ok(check.checked)
}

struct Check<'a> {
    walk: &'a Walk<'a>,
    tell: &'a mut dyn FnMut(&str),
    checked: Checked,
    /// Applications whose data is being removed.
    deleted: HashSet<AppId>,
    /// Of the message seen last.
    last_conversation: Option<(AppId, Tail)>,
}

impl Check<'_> {
    fn problem(&mut self, key: &[u8], what: &str) {
        self.checked.problems += 1;
        (self.tell)(&format!("{}: {what}", keys::text(key)));
    }

    fn pair(&mut self, key: &[u8], value: Bytes) -> Result<(), Error> {
        self.checked.keys += 1;
        let Some((app, subspace, parts)) = Parts::of(key) else {
            self.problem(key, "not a key that this program writes");
            return Ok(());
        };
        if self.deleted.contains(&app) {
            return Ok(());
        }
        match parts {
            Parts::Application => self.decodes::<ApplicationRecord>(key, value),
            Parts::Account => self.decodes::<AccountRecord>(key, value),
            Parts::Head(tail) => return self.conversation(app, key, &tail, value),
            Parts::Message(tail, _) => return self.message(app, key, tail),
            Parts::Sent { sender, client_message_id } => {
                return self.sent(app, key, &sender, &client_message_id, value);
            }
            Parts::Event { user, .. } => return self.event(app, key, &user, value),
            Parts::GroupEvent { group, .. } => return self.group_event(app, key, &group, value),
            Parts::Floor(tail) => return self.floor(app, key, &tail, value),
            Parts::Hour(_, tail) => return self.hour(app, key, &tail, &value),
            Parts::EventFloor { user } => return self.event_floor(app, key, &user, value),
            Parts::RetentionClaim => self.decodes::<Claim>(key, value),
            Parts::EventPass => self.decodes::<EventPass>(key, value),
            Parts::Profile => self.decodes::<Profile>(key, value),
            Parts::Unfinished => self.decodes::<UnfinishedRecord>(key, value),
            Parts::Closing => self.decodes::<ClosingRecord>(key, value),
            Parts::Relation(user, other) => return self.relation(app, key, &user, &other, value),
            Parts::Friend(user, friend) => return self.friend(app, key, &user, &friend, value),
            Parts::Book(user) => return self.book(app, key, &user, value),
            Parts::FriendChange(user, seq) => return self.friend_change(app, key, &user, seq, &value),
            Parts::FriendRemoval(user, seq) => return self.friend_removal(app, key, &user, seq),
            Parts::FriendRequest(user, way, other) => {
                return self.friend_request(app, key, &user, way, &other, value);
            }
            Parts::KeptBy(user, other) => return self.kept_by(app, key, &user, &other),
            Parts::Group(group) => return self.group(app, key, &group, value),
            Parts::Member(group, user) => return self.member(app, key, &group, &user, value),
            Parts::Joined(user, group) => return self.joined(app, key, &user, &group, value),
            Parts::GroupsOfUser(user) => return self.groups_of_user(app, key, &user, value),
            Parts::Feature if keys::feature_decodes(subspace, key, &value) => {}
            Parts::Feature => self.problem(key, "does not decode"),
            Parts::Removal => self.decodes::<RemovalRecord>(key, value),
            Parts::Callback => self.decodes::<CallbackRecord>(key, value),
            Parts::CallbackClaim => self.decodes::<Claim>(key, value),
            Parts::Moment | Parts::ApplicationsVersion | Parts::CallbacksVersion | Parts::CallbacksLeft => {
                if value.len() != size_of::<u64>() {
                    self.problem(key, "should be eight bytes long");
                }
            }
            Parts::Unknown => self.checked.unknown += 1,
        }
        Ok(())
    }

    fn decodes<R: prost::Message + Default>(&mut self, key: &[u8], value: Bytes) {
        if R::decode(value).is_err() {
            self.problem(key, "does not decode");
        }
    }

    /// From its head: all messages that it should have.
    fn conversation(&mut self, app: AppId, key: &[u8], tail: &Tail, value: Bytes) -> Result<(), Error> {
        let Ok(head) = Head::from_stored(Some(value)) else {
            self.problem(key, "does not decode");
            return Ok(());
        };
        let Some(first) = self.first_kept(app, tail)? else { return Ok(()) };
        // What is wrong with the floor is told where it stands.
        let mut next = floor_seq(self.walk.get(&tail.floor(app))?).unwrap_or(1);
        let is_empty = next.max(first) > head.seq;
        let walk = self.walk;
        let mut newest: Option<Message> = None;
        walk.each((tail.message(app, 0), tail.message(app, u64::MAX)), |key, value| {
            let Some((_, _, Parts::Message(_, seq))) = Parts::of(&key) else { return Ok(()) };
            let due = next.max(first);
            if seq > due {
                self.problem(&key, &format!("the messages from {due} to {} are missing before it", seq - 1));
            } else if seq < next {
                self.problem(&key, "should have been removed: the conversation's floor is above it");
            }
            if seq > head.seq {
                self.problem(&key, &format!("the conversation's head is only {}", head.seq));
            }
            match Message::decode(value) {
                Ok(message) if message.seq == seq => {
                    if newest.as_ref().is_some_and(|before| before.seq + 1 == seq && !follows(before, &message)) {
                        self.problem(&key, "its time or its counts do not follow from the message before it");
                    }
                    newest = Some(message);
                }
                Ok(message) => self.problem(&key, &format!("the message says that its sequence is {}", message.seq)),
                Err(_) => self.problem(&key, "does not decode"),
            }
            next = next.max(seq + 1);
            Ok(())
        })?;
        next = next.max(first);
        if next <= head.seq {
            self.problem(key, &format!("the messages from {next} to {} are missing", head.seq));
        }
        if !is_empty && self.walk.get(&tail.hour(app, hour_of(head.time_ms)))?.is_none() {
            self.problem(key, "its newest message's hour is not in the index of hours");
        }
        match newest {
            Some(newest) if newest.seq == head.seq => self.head(app, key, &head, &newest),
            _ => Ok(()),
        }
    }

    /// From where on all messages of a conversation are kept. Earlier ones of a group may have been said in a live room
    /// of the same id. `None`: none need be, in a live room; or in a group that is gone, of which that can't be told.
    fn first_kept(&self, app: AppId, tail: &Tail) -> Result<Option<u64>, Error> {
        let Some(group) = tail.group() else { return Ok(Some(1)) };
        let Some(stored) = self.walk.get(&keys::group(app, &group))? else { return Ok(None) };
        let record = GroupRecord::decode(stored).unwrap_or_default();
        Ok((record.kind != GroupType::Avchatroom as i32).then_some(record.first_seq.max(1)))
    }

    /// What the head says of its newest message, and where it has put the conversation.
    fn head(&mut self, app: AppId, key: &[u8], head: &Head, newest: &Message) -> Result<(), Error> {
        if !newest.group.is_empty() {
            if head.count_low != newest.other_count {
                self.problem(key, "its count is not that of its newest message");
            }
            return Ok(());
        }
        let (Some(from), Some(to)) = (UserId::new(&newest.from), UserId::new(&newest.to)) else {
            self.problem(key, "sender or recipient of its newest message is no user name");
            return Ok(());
        };
        let counts = (head.count_of(&from, &to), head.count_of(&to, &from));
        if from != to && counts != (newest.sender_count, newest.other_count) {
            self.problem(key, "its counts are not those of its newest message");
        }
        for (user, peer) in [(&from, &to), (&to, &from)] {
            let entry = keys::active(app, user, hour_of(head.active_ms), &peer.clone().into());
            if head.last_seq > 0 && self.walk.get(&entry)?.is_none() {
                self.problem(key, &format!("it is not in the list of {user}"));
            }
        }
        Ok(())
    }

    /// The message itself was looked at from its conversation's head.
    fn message(&mut self, app: AppId, key: &[u8], tail: Tail) -> Result<(), Error> {
        let conversation = Some((app, tail));
        if let Some((app, tail)) = conversation.as_ref().filter(|_| self.last_conversation != conversation)
            && self.walk.get(&tail.head(*app))?.is_none()
        {
            self.problem(key, "its conversation has no head");
        }
        self.last_conversation = conversation;
        Ok(())
    }

    fn sent(&mut self, app: AppId, key: &[u8], sender: &str, id: &[u8], value: Bytes) -> Result<(), Error> {
        let Ok(record) = SentRecord::decode(value) else {
            self.problem(key, "does not decode");
            return Ok(());
        };
        let to = if record.group.is_empty() {
            UserId::new(&record.to).map(Peer::User)
        } else {
            GroupId::new(&record.group).map(Peer::Group)
        };
        let (Some(from), Some(to)) = (UserId::new(sender), to) else {
            self.problem(key, "sender or recipient is no name");
            return Ok(());
        };
        let tail = Tail::of(&from, &to);
        let stored = self.walk.get(&tail.message(app, record.seq))?;
        let Some(message) = stored.and_then(|stored| Message::decode(stored).ok()) else {
            self.problem(key, &format!("its message, sequence {}, is not there", record.seq));
            return Ok(());
        };
        if message.from != sender || message.client_message_id != id {
            self.problem(key, &format!("sequence {} is another message", record.seq));
        }
        Ok(())
    }

    fn event(&mut self, app: AppId, key: &[u8], user: &str, value: Bytes) -> Result<(), Error> {
        let user = UserId::new(user);
        self.entry(app, key, value, |target| target.tail(user.as_ref()?).ok())
    }

    fn group_event(&mut self, app: AppId, key: &[u8], group: &GroupId, value: Bytes) -> Result<(), Error> {
        self.entry(app, key, value, |target| (target.group == group.as_str()).then(|| group.into()))
    }

    /// An entry of an event log; `tail`: the conversation that it names.
    fn entry(
        &mut self,
        app: AppId,
        key: &[u8],
        value: Bytes,
        tail: impl Fn(&MessageRef) -> Option<Tail>,
    ) -> Result<(), Error> {
        let Ok(record) = EventRecord::decode(value) else {
            self.problem(key, "does not decode");
            return Ok(());
        };
        // Of a kind that this program does not know.
        let Some(EventKind::Message(target) | EventKind::Changed(target)) = record.kind else { return Ok(()) };
        let Some(tail) = tail(&target) else {
            self.problem(key, "the log's owner or the conversation is not what it should be");
            return Ok(());
        };
        if self.walk.get(&tail.message(app, target.seq))?.is_none()
            && target.seq >= floor_seq(self.walk.get(&tail.floor(app))?).unwrap_or(1)
        {
            self.problem(
                key,
                &format!("its message, sequence {} with {}{}, is not there", target.seq, target.peer, target.group),
            );
        }
        Ok(())
    }

    fn floor(&mut self, app: AppId, key: &[u8], tail: &Tail, value: Bytes) -> Result<(), Error> {
        let Ok(floor) = floor_seq(Some(value)) else {
            self.problem(key, "does not decode");
            return Ok(());
        };
        let head = self.walk.get(&tail.head(app))?;
        let head_seq = Head::from_stored(head).unwrap_or_default().seq;
        if floor > head_seq + 1 {
            self.problem(key, &format!("the floor {floor} is above the head {head_seq}"));
        }
        Ok(())
    }

    fn hour(&mut self, app: AppId, key: &[u8], tail: &Tail, value: &[u8]) -> Result<(), Error> {
        if !value.is_empty() {
            self.problem(key, "should be empty");
        }
        if self.walk.get(&tail.head(app))?.is_none() {
            self.problem(key, "its conversation has no head");
        }
        Ok(())
    }

    fn event_floor(&mut self, app: AppId, key: &[u8], user: &str, value: Bytes) -> Result<(), Error> {
        let (Ok(floor), Some(user)) = (event_floor(Some(value)), UserId::new(user)) else {
            self.problem(key, "does not decode");
            return Ok(());
        };
        let (begin, end) = keys::events_after(app, &user, Versionstamp::ZERO);
        let oldest = self.walk.first(begin, end)?;
        if oldest.and_then(|key| keys::event_position(&key)).is_some_and(|oldest| oldest <= floor) {
            self.problem(key, "the log has entries that should have been removed");
        }
        Ok(())
    }
}

/// Whether time and counts of a message can be those of the one behind `before`.
fn follows(before: &Message, message: &Message) -> bool {
    if !message.group.is_empty() {
        let counted = message.other_count.checked_sub(before.other_count);
        return message.time_ms >= before.time_ms && counted.is_some_and(|counted| counted <= 1);
    }
    let (of_sender, of_other) = match before.from == message.from {
        true => (before.sender_count, before.other_count),
        false => (before.other_count, before.sender_count),
    };
    let counted = message.sender_count.checked_sub(of_sender);
    message.time_ms >= before.time_ms && message.other_count == of_other && counted.is_some_and(|counted| counted <= 1)
}
