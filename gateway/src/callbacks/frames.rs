//! The body of each request, and what an answer says: the published JSON. Here of messages and devices;
//! [`people`]: of profiles and relations; [`groups`], [`groups_asked`]: of groups; [`edits`]: of edited messages.

mod edits;
mod groups;
mod groups_asked;
mod people;

use std::ops::RangeInclusive;

use backend::{
    domain::{
        AppId, Error, Peer, UserId,
        act::Act,
        callbacks::{
            CallbackCommand, CallbackRecord, Caller, CallerPlatform, ConversationRead, Happened, MessageExtended,
            StateChanged, StateReason,
        },
        change::Kind,
        conversations,
        hooks::Verdict,
        message::NewMessage,
    },
    store::Store,
};
use bytes::Bytes;
use prost::Message as _;
use protocol::message::{Body, Element, ExtensionsChanged, Message};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{
    elements,
    msg_key::{MsgKey, random_of},
};

/// Longest text of a refusal that clients are told, in bytes: it must fit into any client's frame.
const TEXT_BYTES_MAX: usize = 1024;

/// Conversations whose unread messages are added up for `UnreadMsgNum`.
const UNREAD_CONVERSATIONS_MAX: usize = 100;

/// Codes that an application's server may give for its clients.
const OWN_CODES: RangeInclusive<u32> = 120_001..=130_000;

/// What an application's server is asked about an act with; `None`: it is not asked.
pub fn question(act: &Act) -> Option<CallbackCommand> {
    match act {
        Act::Send(NewMessage { to: Peer::User(_), .. }) => Some(CallbackCommand::BeforeSend),
        Act::Change(change) if !matches!(change.kind, Kind::Group(_)) => {
            edits::question(change).or_else(|| people::question(change))
        }
        _ => groups_asked::question(act),
    }
}

pub use self::edits::as_asked;

/// Whether it is about a group.
fn is_about_group(act: &Act) -> bool {
    match act {
        Act::Send(message) => matches!(message.to, Peer::Group(_)),
        Act::Change(change) => matches!(change.kind, Kind::Group(_)),
    }
}

/// The same question; `None`: there is nothing to ask, the act is about a group that is none.
pub async fn before(
    store: &Store,
    (act, seq): (&Act, u64),
    (command, caller): (CallbackCommand, &Caller),
    now_ms: u64,
) -> Result<Option<Bytes>, Error> {
    let mut frame = match act {
        act if is_about_group(act) => {
            let Some(facts) = groups_asked::facts(store, act).await? else { return Ok(None) };
            groups_asked::before(act, caller, facts, now_ms)
        }
        Act::Send(message) => before_send(message, seq, now_ms),
        Act::Change(change) => people::before(change, command, now_ms),
    };
    if seq > 0 {
        frame["MsgSeq"] = seq.into();
    }
    Ok(Some(to_bytes(&frame)))
}

/// What the answer says of the act: `None` if it makes no sense.
pub fn verdict(act: &Act, answer: &[u8]) -> Option<Result<Verdict, Error>> {
    match act {
        act if is_about_group(act) => groups_asked::verdict(act, answer),
        Act::Send(message) => Some(Said::parse(answer, &OWN_CODES)?.verdict(&message.body)),
        Act::Change(change) => people::verdict(change, answer),
    }
}

/// Why an act that there is no answer about is not carried out.
pub fn unanswered(act: &Act) -> Error {
    let text = "the application's server does not answer";
    match act {
        act if is_about_group(act) => groups_asked::unanswered(text),
        Act::Send(_) => Error::Refused { code: 0, text: text.into() },
        Act::Change(_) => people::unanswered(text),
    }
}

/// Asks about a message: one that is not sent yet has no sequence.
fn before_send(message: &NewMessage, seq: u64, now_ms: u64) -> Value {
    let NewMessage { from, to, client_message_id, body, treatment, .. } = message;
    let online_only = treatment.online_only;
    let to = to.user().map_or("", UserId::as_str);
    let time_ms = treatment.sent_ms.unwrap_or(now_ms);
    let named = Named { from: from.as_str(), to, seq, time_ms, client_message_id, online_only };
    let mut frame = named.frame(CallbackCommand::BeforeSend);
    put_body(&mut frame, body);
    frame
}

/// Tells what has happened; `None`: nothing that this program knows.
pub async fn after(
    store: &Store,
    app: AppId,
    record: &CallbackRecord,
) -> Result<Option<(CallbackCommand, Bytes)>, Error> {
    let Some(what) = &record.what else { return Ok(None) };
    let frame = match what {
        Happened::State(changed) => state(changed, record.time_ms),
        Happened::Sent(message) => sent(store, app, message.clone(), record.time_ms).await?,
        Happened::Read(read) => self::read(store, app, read, record.time_ms).await?,
        Happened::Recalled(message) => recalled(store, app, message.clone(), record.time_ms).await?,
        Happened::ProfileSet(set) => people::profile_set(set, record.time_ms),
        Happened::Befriended(befriended) => Some(people::befriended(befriended)),
        Happened::Parted(pairs) | Happened::Blacklisted(pairs) | Happened::Unblacklisted(pairs) => {
            Some(people::pairs(what.command(), pairs))
        }
        Happened::GroupJoined(joined) => Some(groups::joined(joined, record.time_ms)),
        Happened::GroupExited(exited) => Some(groups::exited(exited, record.time_ms)),
        Happened::GroupFull(full) => Some(groups::full(full, record.time_ms)),
        Happened::GroupMemberChanged(changed) => Some(groups::member_changed(changed, record.time_ms)),
        Happened::GroupCreated(made) | Happened::GroupDissolved(made) => {
            Some(groups::made(what.command(), made, record.time_ms))
        }
        Happened::GroupChanged(changed) => Some(groups::changed(changed, record.time_ms)),
        Happened::GroupSaid(said) => groups::said(said, record.time_ms),
        Happened::GroupRecalled(recalled) => groups::recalled(recalled, record.time_ms),
        Happened::GroupRead(read) => Some(groups::read(read, record.time_ms)),
        Happened::RoomLost(lost) => Some(groups::lost(lost, record.time_ms)),
        Happened::GroupAttributes(changed) => Some(groups::attributes(changed, record.time_ms)),
        Happened::GroupOwner(changed) => Some(groups::owner(changed, record.time_ms)),
        Happened::GroupSendFailed(failed) => groups::send_failed(store, app, failed, record.time_ms).await?,
        Happened::GroupExtended(extended) | Happened::Extended(extended) => {
            extended_frame(what.command(), extended, record.time_ms)
        }
    };
    Ok(frame.map(|frame| (what.command(), to_bytes(&frame))))
}

fn state(changed: &StateChanged, time_ms: u64) -> Option<Value> {
    let (action, reason) = match StateReason::try_from(changed.reason).ok()? {
        StateReason::Login => ("Login", "Register"),
        StateReason::Logout => ("Logout", "Unregister"),
        StateReason::LinkClose => ("Disconnect", "LinkClose"),
        StateReason::TimeOut => ("Disconnect", "TimeOut"),
    };
    let mut frame = json!({
        "CallbackCommand": CallbackCommand::StateChange.name(),
        "EventTime": time_ms,
        "Info": { "Action": action, "To_Account": changed.user, "Reason": reason },
    });
    if !changed.signed_out.is_empty() {
        let platform = |&number: &i32| CallerPlatform::try_from(number).unwrap_or(CallerPlatform::Unknown).name();
        let kicked = changed.signed_out.iter().map(|number| json!({ "Platform": platform(number) }));
        frame["KickedDevice"] = kicked.collect();
    }
    Some(frame)
}

async fn sent(store: &Store, app: AppId, message: Bytes, time_ms: u64) -> Result<Option<Value>, Error> {
    let Ok(message) = Message::decode(message) else { return Ok(None) };
    let mut frame = Named::of(&message).frame(CallbackCommand::AfterSend);
    put_body(&mut frame, &message.body);
    frame["SendMsgResult"] = 0.into();
    frame["ErrorInfo"] = "send msg succeed".into();
    frame["UnreadMsgNum"] = unread(store, app, &message.to).await?.into();
    frame["EventTime"] = time_ms.into();
    Ok(Some(frame))
}

async fn read(store: &Store, app: AppId, read: &ConversationRead, time_ms: u64) -> Result<Option<Value>, Error> {
    Ok(Some(json!({
        "CallbackCommand": CallbackCommand::AfterRead.name(),
        "Report_Account": read.by,
        "Peer_Account": read.peer,
        "LastReadTime": time_ms / 1000,
        "UnreadMsgNum": unread(store, app, &read.by).await?,
        "EventTime": time_ms,
    })))
}

async fn recalled(store: &Store, app: AppId, message: Bytes, time_ms: u64) -> Result<Option<Value>, Error> {
    let Ok(message) = Message::decode(message) else { return Ok(None) };
    Ok(Some(json!({
        "CallbackCommand": CallbackCommand::AfterRecall.name(),
        "From_Account": message.from,
        "To_Account": message.to,
        "MsgKey": MsgKey::of(&message).to_string(),
        "UnreadMsgNum": unread(store, app, &message.to).await?,
        "EventTime": time_ms,
    })))
}

/// Extensions of a message as they are now: what was removed has no value.
fn extended_frame(command: CallbackCommand, extended: &MessageExtended, time_ms: u64) -> Option<Value> {
    const SET: u32 = 1;
    const DELETED: u32 = 2;
    let message = Message::decode(extended.message.clone()).ok()?;
    let changed = ExtensionsChanged::decode(extended.changed.clone()).ok()?;
    // What was removed has no version of its own.
    let is_set = changed.extensions.iter().any(|extension| extension.version > 0);
    let version = |own: u64| if own > 0 { own } else { extended.version };
    let text = |value: &Bytes| String::from_utf8_lossy(value).into_owned();
    let list = changed.extensions.iter();
    let list = list.map(|it| json!({ "Key": it.key, "Value": text(&it.value), "Seq": version(it.version) }));
    let mut frame = json!({
        "CallbackCommand": command.name(),
        "OperateType": if is_set { SET } else { DELETED },
        "ExtensionList": list.collect::<Vec<_>>(),
        "Seq": extended.version,
        "EventTime": time_ms,
    });
    if message.group.is_empty() {
        frame["From_Account"] = message.from.as_str().into();
        frame["To_Account"] = message.to.as_str().into();
        frame["MsgKey"] = MsgKey::of(&message).to_string().into();
    } else {
        frame["GroupId"] = message.group.as_str().into();
        frame["MsgSeq"] = message.seq.into();
    }
    Some(frame)
}

/// Unread messages of a user as it is now, in the conversations that were active last: adding up thousands
/// with each message would cost more than the message.
async fn unread(store: &Store, app: AppId, user: &str) -> Result<u64, Error> {
    let Some(user) = UserId::new(user) else { return Ok(0) };
    Ok(conversations::total_unread(store, app, &user, UNREAD_CONVERSATIONS_MAX).await?.messages)
}

/// What names a message.
struct Named<'a> {
    from: &'a str,
    to: &'a str,
    seq: u64,
    time_ms: u64,
    client_message_id: &'a [u8],
    online_only: bool,
}

impl<'a> Named<'a> {
    fn of(message: &'a Message) -> Self {
        let Message { from, to, seq, time_ms, client_message_id, .. } = message;
        Named { from, to, seq: *seq, time_ms: *time_ms, client_message_id, online_only: *seq == 0 }
    }

    fn frame(&self, command: CallbackCommand) -> Value {
        let random = random_of(self.client_message_id);
        let key = MsgKey { seq: self.seq, random, time_s: self.time_ms / 1000 };
        json!({
            "CallbackCommand": command.name(),
            "From_Account": self.from,
            "To_Account": self.to,
            "MsgSeq": self.seq,
            "MsgRandom": random,
            "MsgTime": key.time_s,
            "MsgKey": key.to_string(),
            "OnlineOnlyFlag": u8::from(self.online_only),
        })
    }
}

fn put_body(frame: &mut Value, body: &[u8]) {
    let body = Body::decode(body).unwrap_or_default();
    frame["MsgBody"] = elements::to_json(&body.elements);
    frame["CloudCustomData"] = elements::cloud_custom_data(&body).into();
}

fn to_bytes(frame: &Value) -> Bytes {
    frame.to_string().into()
}

/// A text for clients: no longer than they can be told.
fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

/// What an application's server says about a message.
#[derive(Debug, PartialEq)]
enum Said {
    /// It may be sent, perhaps with another content.
    Pass(Option<Replacement>),
    /// It is to be dropped without a word.
    Drop,
    /// It is refused; code 0: without a code of its own.
    Refuse { code: u32, text: String },
}

/// What is put in the place of a message's content.
#[derive(Debug, PartialEq)]
struct Replacement {
    elements: Option<Vec<Element>>,
    custom_data: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    error_code: u32,
    #[serde(default)]
    error_info: String,
    msg_body: Option<Value>,
    cloud_custom_data: Option<String>,
}

impl Said {
    /// Reads an answer; `None` if it makes no sense.
    fn parse(answer: &[u8], own_codes: &RangeInclusive<u32>) -> Option<Said> {
        let Answer { error_code, error_info, msg_body, cloud_custom_data } = serde_json::from_slice(answer).ok()?;
        Some(match error_code {
            0 => {
                // An empty body is none.
                let elements = msg_body.filter(|body| body.as_array().is_none_or(|body| !body.is_empty()));
                let elements = elements.map(|body| replacement(&body).ok_or(())).transpose().ok()?;
                let replaces = elements.is_some() || cloud_custom_data.is_some();
                Said::Pass(replaces.then_some(Replacement { elements, custom_data: cloud_custom_data }))
            }
            2 => Said::Drop,
            code => {
                let text = bounded(error_info);
                Said::Refuse { code: if own_codes.contains(&code) { code } else { 0 }, text }
            }
        })
    }

    fn verdict(self, body: &Bytes) -> Result<Verdict, Error> {
        match self {
            Said::Pass(None) => Ok(Verdict::Pass),
            Said::Pass(Some(replacement)) => Ok(Verdict::Replace(replacement.apply(body)?)),
            Said::Drop => Ok(Verdict::Drop),
            Said::Refuse { code, text } => Err(Error::Refused { code, text }),
        }
    }
}

impl Replacement {
    /// The body with what is replaced.
    fn apply(self, body: &Bytes) -> Result<Bytes, Error> {
        let mut body = Body::decode(body.clone()).map_err(|_| Error::MessageInvalid)?;
        if let Some(elements) = self.elements {
            body.elements = elements;
        }
        if let Some(data) = self.custom_data {
            body.custom_data = data.into();
        }
        Ok(body.encode_to_vec().into())
    }
}

/// Elements in place of a message's own; `None` if they have not the published form, or bring contents that would
/// have to be stored first.
fn replacement(body: &Value) -> Option<Vec<Element>> {
    let parsed = elements::parse(body.as_array()?).ok()?;
    parsed.contents.is_empty().then_some(parsed.elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_published_and_the_rest_makes_no_sense() {
        let parse = |answer: Value| Said::parse(answer.to_string().as_bytes(), &OWN_CODES);
        let refuse = |code| Some(Said::Refuse { code, text: "no".into() });
        assert_eq!(parse(json!({"ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0})), Some(Said::Pass(None)));
        assert_eq!(parse(json!({"ErrorCode": 0, "MsgBody": []})), Some(Said::Pass(None)));
        assert_eq!(parse(json!({"ErrorCode": 2})), Some(Said::Drop));
        for (given, code) in [(1, 0), (120_000, 0), (120_001, 120_001), (130_000, 130_000), (130_001, 0)] {
            assert_eq!(parse(json!({"ErrorCode": given, "ErrorInfo": "no"})), refuse(code));
        }
        let Some(Said::Refuse { text, .. }) = parse(json!({"ErrorCode": 1, "ErrorInfo": "ü".repeat(5_000)})) else {
            panic!()
        };
        assert_eq!(text, "ü".repeat(TEXT_BYTES_MAX / 2));
        let custom_data = Some("x".to_owned());
        let replaced = Some(Said::Pass(Some(Replacement { elements: None, custom_data })));
        assert_eq!(parse(json!({"ErrorCode": 0, "CloudCustomData": "x"})), replaced);
        for senseless in [json!({}), json!({"ErrorCode": "0"}), json!({"ErrorCode": 0, "MsgBody": "hi"}), json!(7)] {
            assert_eq!(parse(senseless), None);
        }
    }
}
