//! `openim`: sending and importing 1:1 messages.

use backend::domain::{
    Error, UserId,
    act::{Act, Answer, Author},
    callbacks::Caller,
    merged,
    message::{NewMessage, Treatment},
};
use bytes::Bytes;
use futures::future::join_all;
use prost::Message as _;
use protocol::message::Body;
use serde_json::{Value, json};

use super::{
    answers::{ensure_account, nothing, object},
    call::Call,
    codes::{self, Failure, of_message_field, of_messages},
    elements::{self, Content},
    fields::{Fields, Wrong},
    msg_key::{MsgKey, client_message_id, repeatable},
    table::Outcome,
};

/// Longest life of a message, in seconds.
const LIFE_TIME_S_MAX: u64 = 604_800;

/// How long a repeated request is taken for the same, in milliseconds, if it says no time of its own.
const REPEAT_MS: u64 = 60_000;

/// Sends a message.
pub async fn send(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let to = user(fields, "To_Account")?;
    let said = Said::of(call, fields).await?;
    let sent = call.start_from(said.message(call, to), said.caller).await;
    let Answer::Sent { seq, time_ms, .. } = sent.map_err(|error| of_recipient(&error))? else { return nothing() };
    let key = MsgKey { seq, random: said.random, time_s: time_ms / 1000 };
    object(json!({ "MsgTime": key.time_s, "MsgKey": key.to_string() }))
}

/// Sends a message to several users, each of them in a conversation of its own.
pub async fn send_many(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let names = fields.texts("To_Account").map_err(|wrong| of_message_field(&wrong))?;
    let names = names.filter(|names| !names.is_empty()).ok_or(codes::TO_ACCOUNT)?;
    if names.len() > call.row.items_max {
        return Err(codes::TOO_MANY_RECIPIENTS.into());
    }
    let mut said = Said::of(call, fields).await?;
    // As published: a batch calls nobody back.
    (said.caller.is_asked, said.caller.is_told) = (false, false);
    let sends = names.iter().map(|name| {
        let started = UserId::new(name).map(|to| call.start_from(said.message(call, to), said.caller.clone()));
        async move {
            match started {
                Some(sent) => sent.await,
                None => Err(Error::UserInvalid),
            }
        }
    });
    let sends: Vec<_> = sends.collect();
    let outcomes = join_all(sends).await;
    let failed = names.iter().zip(&outcomes).filter_map(|(name, outcome)| {
        let code = match outcome.as_ref().err()? {
            Error::UserInvalid => codes::ACCOUNT_UNKNOWN.0,
            error => of_messages(error).code,
        };
        Some(json!({ "To_Account": name, "ErrorCode": code }))
    });
    let failed: Vec<Value> = failed.collect();
    let times = outcomes.iter().filter_map(|outcome| match outcome {
        Ok(Answer::Sent { time_ms, .. }) => Some(*time_ms),
        _ => None,
    });
    // As published, one key for all: the conversations number their messages each for itself.
    let key = times.min().map(|time_ms| MsgKey { seq: 0, random: said.random, time_s: time_ms / 1000 });
    let mut answer = json!({
        "MsgKey": key.map_or_else(String::new, |key| key.to_string()), "MsgTime": key.map_or(0, |key| key.time_s),
    });
    if !failed.is_empty() {
        answer["ActionStatus"] = "SomeError".into();
        answer["ErrorList"] = failed.into();
    }
    object(answer)
}

/// Imports a message: as history, which nobody is told of, or as one that is written just now.
pub async fn import(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let to = user(fields, "To_Account")?;
    user(fields, "From_Account")?;
    let mut said = Said { goes_by_numbers: fields.has("MsgSeq"), ..Said::of(call, fields).await? };
    let sent_s = said.sent_s.ok_or(codes::MSG_TIMESTAMP)?;
    said.treatment.sent_ms = Some(sent_s.saturating_mul(1000));
    let wrong = |wrong: Wrong| of_message_field(&wrong);
    match fields.number("SyncFromOldSystem").map_err(wrong)? {
        Some(1 | 5) => {}
        Some(2) => (said.treatment.unannounced, said.treatment.exclude_from_unread) = (true, true),
        _ => return Err(of_message_field(&Wrong { field: "SyncFromOldSystem", expected: "2 or 5" })),
    }
    (said.caller.is_asked, said.caller.is_told) = (false, false);
    call.start_from(said.message(call, to), said.caller).await.map_err(|error| of_recipient(&error))?;
    nothing()
}

/// A user that a field names.
pub fn user(fields: Fields<'_>, field: &'static str) -> Result<UserId, Failure> {
    let named = fields.text(field).map_err(|wrong| of_message_field(&wrong))?;
    let wrong = Wrong { field, expected: "an account" };
    named.and_then(UserId::new).ok_or_else(|| of_message_field(&wrong))
}

fn of_recipient(error: &Error) -> Failure {
    match error {
        Error::UserInvalid => codes::TO_ACCOUNT_UNKNOWN.into(),
        error => of_messages(error),
    }
}

/// What a request says, whoever is to get it.
struct Said {
    from: UserId,
    body: Bytes,
    random: u32,
    msg_seq: u32,
    /// When, as the request has it, in seconds since the Unix epoch.
    sent_s: Option<u64>,
    /// Whether it is known again by its numbers and its time alone, whatever it says.
    goes_by_numbers: bool,
    treatment: Treatment,
    /// Whether the application's server is called back.
    caller: Caller,
}

impl Said {
    async fn of(call: &Call<'_>, fields: Fields<'_>) -> Result<Self, Failure> {
        let wrong = |wrong: Wrong| of_message_field(&wrong);
        let from = match fields.has("From_Account") {
            true => user(fields, "From_Account")?,
            false => call.identifier.clone(),
        };
        let random = fields.number_u32("MsgRandom").map_err(wrong)?.ok_or(codes::MSG_RANDOM)?;
        let msg_seq = fields.number_u32("MsgSeq").map_err(wrong)?.unwrap_or(0);
        let sent_s = fields.number("MsgTimeStamp").map_err(wrong)?;
        let treatment = treatment(fields)?;
        let (body, contents) = body(fields, Body::default())?;
        ensure_account(call, &from, codes::FROM_ACCOUNT, of_messages).await?;
        store_contents(call, contents).await?;
        let caller = caller(call, fields)?;
        let body = body.encode_to_vec().into();
        Ok(Said { from, body, random, msg_seq, sent_s, goes_by_numbers: false, treatment, caller })
    }

    fn message(&self, call: &Call<'_>, to: UserId) -> Act {
        let content = if self.goes_by_numbers { &[][..] } else { &self.body };
        let (id, earlier) = match self.sent_s {
            Some(sent_s) => (client_message_id(self.random, self.msg_seq, to.as_str(), content, sent_s), None),
            None => {
                let said = (self.random, self.msg_seq, to.as_str(), content);
                let (id, earlier) = repeatable(said, call.shared().clock.unix_ms(), REPEAT_MS);
                (id, Some(earlier))
            }
        };
        let new = NewMessage::new(call.app, self.from.clone(), to, id, self.body.clone());
        Act::Send(NewMessage { treatment: self.treatment, by: Author::Admin, earlier, ..new })
    }
}

/// Where a message comes from, and whether the application's server is asked and told.
pub fn caller(call: &Call<'_>, fields: Fields<'_>) -> Result<Caller, Failure> {
    let forbidden = fields.texts("ForbidCallbackControl").map_err(|wrong| of_message_field(&wrong))?;
    let forbidden = forbidden.unwrap_or_default();
    Ok(Caller {
        is_asked: !forbidden.contains(&"ForbidBeforeSendMsgCallback"),
        is_told: !forbidden.contains(&"ForbidAfterSendMsgCallback"),
        ..call.caller()
    })
}

fn treatment(fields: Fields<'_>) -> Result<Treatment, Failure> {
    let wrong = |wrong: Wrong| of_message_field(&wrong);
    let life_time_s = fields.number("MsgLifeTime").map_err(wrong)?;
    if life_time_s.is_some_and(|seconds| seconds > LIFE_TIME_S_MAX) {
        return Err(codes::MSG_LIFE_TIME_RANGE.into());
    }
    let control = fields.texts("SendMsgControl").map_err(wrong)?.unwrap_or_default();
    Ok(Treatment {
        // An older way and a newer one to say it.
        online_only: life_time_s == Some(0) || fields.flag("OnlineOnlyFlag").map_err(wrong)?,
        exclude_from_unread: control.contains(&"NoUnread"),
        exclude_from_last_message: control.contains(&"NoLastMsg"),
        need_receipt: fields.flag("IsNeedReadReceipt").map_err(wrong)?,
        reaches_deaf: !control.contains(&"WithMuteNotifications"),
        hidden_from_sender: fields.number("SyncOtherMachine").map_err(wrong)? == Some(2),
        ..Treatment::default()
    })
}

/// The body that a request makes of one that was there before: what it does not name stays.
pub fn body(fields: Fields<'_>, before: Body) -> Result<(Body, Vec<Content>), Failure> {
    let is_new = before == Body::default();
    let mut body = before;
    let mut contents = Vec::new();
    if is_new || fields.has("MsgBody") {
        let list = fields.list("MsgBody").ok().flatten().ok_or(codes::MSG_BODY_NO_LIST)?;
        if list.is_empty() {
            return Err(codes::MSG_BODY_INVALID.into());
        }
        let parsed = elements::parse(list).map_err(|wrong| codes::MSG_ELEMENT.because(wrong))?;
        (body.elements, contents) = (parsed.elements, parsed.contents);
    }
    let wrong = |wrong: Wrong| of_message_field(&wrong);
    if let Some(data) = fields.text("CloudCustomData").map_err(wrong)? {
        body.custom_data = Bytes::copy_from_slice(data.as_bytes());
    }
    if let Some(push) = fields.object("OfflinePushInfo").map_err(wrong)? {
        body.offline_push = Some(elements::offline_push(push).map_err(wrong)?);
    }
    Ok((body, contents))
}

/// Stores what merged messages hold, before anything points to it.
pub async fn store_contents(call: &Call<'_>, contents: Vec<Content>) -> Result<(), Failure> {
    let shared = call.shared();
    for Content { id, messages } in contents {
        let put = merged::put(&shared.store, call.app, id, messages, shared.clock.unix_ms()).await;
        put.map_err(|error| of_messages(&error))?;
    }
    Ok(())
}
