//! Requests that change something: handed to the act queue, and answered by mail.

use std::rc::Rc;

use backend::domain::{
    GroupId, Peer, UserId,
    act::{Act, Answer, ExtensionOutcome},
    change::{Change, Kind},
    message::{NewMessage, Treatment},
};
use bytes::Bytes;
use protocol::{
    ErrorCode,
    connection::ServerConnection,
    message::{
        Conversation, CreateGroupReply, Delete, Done, Edit, ExtensionResult, JoinGroupReply, MessageReply, Pin,
        Priority, Recall, RenameLabel, Send, SendReceipts, SendReply, SetExtensions, SetExtensionsReply,
        UpdateBlacklist, UpdateConversation, UpdateConversationReply,
    },
};

use super::{
    connection::Connection,
    groups, people,
    requests::{identity, invalid, user_id},
    session::Session,
};
use crate::{errors::Refusal, router::Origin};

/// A request that becomes a change.
pub(super) trait ToKind {
    fn to_kind(self) -> Result<Kind, Refusal>;
}

/// Stores a message.
pub(super) fn send(connection: &Rc<Connection>, request: u32, send: Send) -> Result<(), Refusal> {
    check_send_limit(connection)?;
    let to = peer(Some(&Conversation { user: send.to_user, group: send.to_group }))?;
    let (app, from) = identity(connection)?;
    let is_in_room = match &to {
        Peer::User(_) => false,
        Peer::Group(group) => connection.with_session(|session| session.groups.is_in_room(group)) == Some(true),
    };
    let priority = Priority::try_from(send.priority).unwrap_or_default();
    let treatment = Treatment {
        priority,
        online_only: send.online_only,
        exclude_from_unread: send.exclude_from_unread,
        exclude_from_last_message: send.exclude_from_last_message,
        need_receipt: send.need_receipt,
        is_in_room,
        ..Treatment::default()
    };
    let (client_message_id, body) = (own(&send.client_message_id), own(&send.body));
    let recipients = send.recipients.iter().map(|user| user_id(user)).collect::<Result<_, _>>()?;
    let new = NewMessage::new(app, from, to, client_message_id, body);
    let act = Act::Send(NewMessage { treatment, recipients, ..new });
    let caller = connection.with_session(|session| session.caller.clone()).unwrap_or_default();
    connection.core.shared.look_at_group_rate(&act, &caller)?;
    submit(connection, request, act)
}

/// Refuses a send that is over the user's rate, saying when it is not.
pub(super) fn check_send_limit(connection: &Connection) -> Result<(), Refusal> {
    let shared = &connection.core.shared;
    // By the settings of this moment: a session may have begun under others.
    let take = |session: &mut Session| match shared.applications.send_rate(session.app) {
        Some(rate) => session.send_bucket.take(rate, shared.clock.monotonic_us()),
        None => Ok(()),
    };
    let taken = connection.with_session(take).unwrap_or(Ok(()));
    taken.map_err(|retry_after_ms| Refusal { retry_after_ms, ..ErrorCode::RATE_LIMITED.into() })
}

/// Carries a change out.
pub(super) fn change(connection: &Rc<Connection>, request: u32, asked: impl ToKind) -> Result<(), Refusal> {
    change_to(connection, request, asked.to_kind()?)
}

/// The same for a change that is made out already.
pub(super) fn change_to(connection: &Rc<Connection>, request: u32, kind: Kind) -> Result<(), Refusal> {
    if kind.counts_as_send() {
        check_send_limit(connection)?;
    }
    let (app, user) = identity(connection)?;
    submit(connection, request, Act::Change(Box::new(Change::new(app, user, kind))))
}

fn submit(connection: &Rc<Connection>, request: u32, act: Act) -> Result<(), Refusal> {
    let origin = Origin::Session { address: connection.core.address(connection.id), request };
    let caller = connection.with_session(|session| session.caller.clone()).unwrap_or_default();
    let Some(asking) = connection.core.shared.sends.submit_from(origin, act, caller)? else { return Ok(()) };
    let task = connection.clone();
    connection.core.spawn_for(connection, async move {
        if let Err(error) = asking.await {
            task.refuse(request, error);
        }
    });
    Ok(())
}

/// Answers an act that was carried out.
pub(super) fn respond(protocol: &mut ServerConnection, request: u32, answer: Answer) {
    match answer {
        Answer::Sent { seq, time_ms, duplicate } => {
            protocol.respond(request, &SendReply { seq, time_ms, duplicate });
        }
        Answer::Message(message) => protocol.respond(request, &MessageReply { message: Some(*message) }),
        Answer::Conversation(state) => {
            protocol.respond(request, &UpdateConversationReply { state: Some(*state) });
        }
        Answer::Extensions(results) => {
            let result = |(extension, outcome)| ExtensionResult { extension: Some(extension), code: code(outcome) };
            let results = results.into_iter().map(result).collect();
            protocol.respond(request, &SetExtensionsReply { results });
        }
        Answer::Relations(outcomes) => protocol.respond(request, &people::results(outcomes)),
        Answer::GroupCreated(group) => protocol.respond(request, &CreateGroupReply { group: group.to_string() }),
        Answer::GroupJoined { applied } => {
            protocol.respond(request, &JoinGroupReply { applied, ..JoinGroupReply::default() });
        }
        Answer::GroupUsers(outcomes) => protocol.respond(request, &groups::results(outcomes)),
        Answer::GroupAttributes(attributes) => protocol.respond(request, &*attributes),
        Answer::GroupCounters(counters) => protocol.respond(request, &*counters),
        Answer::Done => protocol.respond(request, &Done {}),
        // Another act goes on with it: the router waits for its answer.
        Answer::Underway => {}
    }
}

fn code(outcome: ExtensionOutcome) -> u32 {
    match outcome {
        ExtensionOutcome::Changed => 0,
        ExtensionOutcome::Conflict => ErrorCode::EXTENSION_CONFLICT.0,
        ExtensionOutcome::Full => ErrorCode::LIST_FULL.0,
    }
}

/// Copied out of what was read, which may be much larger and would live as long as the act waits.
pub(super) fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// Whom a conversation is with.
pub(super) fn peer(conversation: Option<&Conversation>) -> Result<Peer, Refusal> {
    let conversation = conversation.ok_or_else(|| invalid("no conversation is named"))?;
    match (conversation.user.as_str(), conversation.group.as_str()) {
        (user, "") => user_id(user).map(Peer::User),
        ("", group) => group_id(group).map(Peer::Group),
        _ => Err(invalid("a conversation is with a user or with a group")),
    }
}

/// A group's id.
pub(super) fn group_id(id: &str) -> Result<GroupId, Refusal> {
    GroupId::new(id).ok_or_else(|| ErrorCode::GROUP_ID_INVALID.into())
}

pub(super) fn users(names: &[String]) -> Result<Vec<UserId>, Refusal> {
    names.iter().map(|name| user_id(name)).collect()
}

impl ToKind for Recall {
    fn to_kind(self) -> Result<Kind, Refusal> {
        Ok(Kind::Recall { peer: peer(self.conversation.as_ref())?, seq: self.seq, reason: self.reason })
    }
}

impl ToKind for Edit {
    fn to_kind(self) -> Result<Kind, Refusal> {
        let peer = peer(self.conversation.as_ref())?;
        Ok(Kind::Edit { peer, seq: self.seq, body: own(&self.body), facts: None })
    }
}

impl ToKind for Delete {
    fn to_kind(self) -> Result<Kind, Refusal> {
        Ok(Kind::Delete { peer: peer(self.conversation.as_ref())?, seqs: self.seqs })
    }
}

impl ToKind for SendReceipts {
    fn to_kind(self) -> Result<Kind, Refusal> {
        Ok(Kind::Receipts { peer: peer(self.conversation.as_ref())?, seqs: self.seqs })
    }
}

impl ToKind for SetExtensions {
    fn to_kind(self) -> Result<Kind, Refusal> {
        let mut changes = self.changes;
        changes.iter_mut().for_each(|change| change.value = own(&change.value));
        Ok(Kind::Extensions { peer: peer(self.conversation.as_ref())?, seq: self.seq, changes })
    }
}

impl ToKind for Pin {
    fn to_kind(self) -> Result<Kind, Refusal> {
        Ok(Kind::Pin { peer: peer(self.conversation.as_ref())?, seq: self.seq, unpin: self.unpin })
    }
}

impl ToKind for UpdateConversation {
    fn to_kind(self) -> Result<Kind, Refusal> {
        let peer = peer(self.conversation.as_ref())?;
        let custom_data = self.custom_data.as_ref().map(own);
        Ok(Kind::Conversation { peer, update: Box::new(UpdateConversation { custom_data, ..self }) })
    }
}

impl ToKind for RenameLabel {
    fn to_kind(self) -> Result<Kind, Refusal> {
        Ok(Kind::RenameLabel { label: self.label, to: self.to })
    }
}

impl ToKind for UpdateBlacklist {
    fn to_kind(self) -> Result<Kind, Refusal> {
        Ok(Kind::Blacklist { add: users(&self.add)?, remove: users(&self.remove)?, each: false })
    }
}
