//! Messages of groups: saying something, taking it back, changing it, reading it.

use backend::domain::{
    GroupId, UserId,
    act::{Act, Answer, Author},
    change::{Change, Kind, group::GroupChange},
    groups::{Refusal, admin, table},
    history::{self, HistoryQuery, Start},
    message::{NewMessage, RECIPIENTS_MAX, Treatment},
    sync::PageLimit,
};
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use prost::Message as _;
use protocol::message::{Body, Message, Priority, element};
use serde_json::{Value, json};

use super::{change, change_users, ensure_some, group_id, objects, user, words::wrong};
use crate::api::{
    answers::{ensure_account, nothing, object},
    call::Call,
    codes::{self, Failure, of_group_refusal, of_groups},
    elements,
    fields::{Fields, Wrong},
    messages,
    msg_key::{random_of, repeatable},
    table::Outcome,
};

/// How long a repeated request is taken for the same, in milliseconds: as published.
const REPEAT_MS: u64 = 5 * 60_000;
/// Bytes of a page of messages, at the most.
const PAGE_BYTES: usize = 4 << 20;
/// Messages taken back together.
const RECALLED_TOGETHER: usize = 100;
/// Newest messages of a group among which those of one sender are taken back: as published.
const LOOKED_AT_MAX: usize = 1_000;
/// In `IsPlaceMsg`: there is a message; there is none; it was taken back.
const PLACE_FILLED: u32 = 0;
const PLACE_EMPTY: u32 = 1;
const PLACE_RECALLED: u32 = 2;

/// Says something in a group.
pub async fn send(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let group = group_id(fields)?;
    let recipients = recipients(call, fields).await?;
    let from = sender(call, fields).await?;
    let random = fields.number_u32("Random").map_err(wrong)?;
    let random = random.ok_or_else(|| wrong(Wrong { field: "Random", expected: "a whole number of 32 bits" }))?;
    let treatment = treatment(fields)?;
    let (mut body, contents) = messages::body(fields, Body::default()).map_err(of_body)?;
    mention(fields, &mut body)?;
    messages::store_contents(call, contents).await?;
    let shared = call.shared();
    let body = Bytes::from(body.encode_to_vec());
    let (id, earlier) = repeatable((random, 0, group.as_str(), &body), shared.clock.unix_ms(), REPEAT_MS);
    let new = NewMessage::new(call.app, from, group, id, body);
    let act = Act::Send(NewMessage {
        treatment,
        recipients: recipients.into(),
        by: Author::Admin,
        earlier: Some(earlier),
        ..new
    });
    let caller = messages::caller(call, fields).map_err(of_body)?;
    shared.look_at_group_rate(&act, &caller).map_err(|error| of_groups(&error))?;
    let sent = call.start_from(act, caller).await;
    let Answer::Sent { seq, time_ms, .. } = sent.map_err(|error| of_groups(&error))? else { return nothing() };
    object(json!({ "MsgTime": time_ms / 1000, "MsgSeq": seq }))
}

/// For which members alone a message is, if `To_Account` names some.
async fn recipients(call: &Call<'_>, fields: Fields<'_>) -> Result<Vec<UserId>, Failure> {
    if fields.texts("To_Account").map_err(wrong)?.is_none_or(|named| named.is_empty()) {
        return Ok(Vec::new());
    }
    let named = super::some_users(fields, "To_Account", RECIPIENTS_MAX, codes::GROUP_ARGUMENT)?;
    try_join_all(named.iter().map(|user| ensure_account(call, user, codes::GROUP_ACCOUNT, of_groups))).await?;
    Ok(named)
}

/// In whose name something is said: an account's, or the administrator's who calls.
pub async fn sender(call: &Call<'_>, fields: Fields<'_>) -> Result<UserId, Failure> {
    let from = match fields.has("From_Account") {
        true => user(fields, "From_Account")?,
        false => call.identifier.clone(),
    };
    ensure_account(call, &from, codes::GROUP_ACCOUNT, of_groups).await?;
    Ok(from)
}

/// What is wrong with a body has one code here.
pub fn of_body(failure: Failure) -> Failure {
    Failure { code: codes::GROUP_ARGUMENT.0, ..failure }
}

fn treatment(fields: Fields<'_>) -> Result<Treatment, Failure> {
    let priority = match fields.text("MsgPriority").map_err(wrong)? {
        None | Some("Normal") => Priority::Normal,
        Some("High") => Priority::High,
        Some("Low" | "Lowest") => Priority::Low,
        Some(_) => return Err(wrong(Wrong { field: "MsgPriority", expected: "High, Normal, Low or Lowest" })),
    };
    let control = fields.texts("SendMsgControl").map_err(wrong)?.unwrap_or_default();
    let flag = |field| fields.flag(field).map_err(wrong);
    Ok(Treatment {
        priority,
        online_only: flag("OnlineOnlyFlag")?,
        exclude_from_unread: control.contains(&"NoUnread"),
        exclude_from_last_message: control.contains(&"NoLastMsg"),
        // By its name for groups, or by that for 1:1.
        need_receipt: flag("NeedReadReceipt")? || flag("IsNeedReadReceipt")?,
        ..Treatment::default()
    })
}

/// Mentions members, or all (MSG-09).
fn mention(fields: Fields<'_>, body: &mut Body) -> Result<(), Failure> {
    for mentioned in objects(fields, "GroupAtInfo")? {
        match mentioned.flag("GroupAtAllFlag").map_err(wrong)? {
            true => body.mention_all = true,
            false => body.mentions.push(user(mentioned, "GroupAt_Account")?.to_string()),
        }
    }
    Ok(())
}

/// Tells members something that is no message: chosen ones, or all.
pub async fn notify(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let group = group_id(fields)?;
    let content = Bytes::copy_from_slice(fields.required_text("Content").map_err(wrong)?.as_bytes());
    let named = fields.texts("ToMembers_Account").map_err(wrong)?.is_some_and(|users| !users.is_empty());
    if !named {
        change(call, GroupChange::Notify { group, users: Vec::new(), content }).await?;
        return nothing();
    }
    let users = super::users(call, fields, "ToMembers_Account")?;
    if is_room(call, &group).await? {
        return Err(codes::GROUP_ARGUMENT.because("ToMembers_Account: a live room is told as a whole"));
    }
    let outcomes = change_users(call, GroupChange::Notify { group, users, content }).await?;
    ensure_some(&outcomes)?;
    nothing()
}

/// Whether a group is a live room, of which little is kept.
async fn is_room(call: &Call<'_>, group: &GroupId) -> Result<bool, Failure> {
    let kind = super::info::one(call, group).await?.r#type();
    Ok(table::rules(kind).is_some_and(|rules| rules.is_room()))
}

/// Takes messages back, however old they are.
pub async fn recall(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let group = group_id(fields)?;
    let seqs = seqs(call, fields, "MsgSeqList")?;
    let reason = fields.text("Reason").map_err(wrong)?.unwrap_or_default();
    super::info::one(call, &group).await?;
    let outcomes = recall_all(call, &group, &seqs, reason).await;
    let told = seqs.iter().zip(outcomes).map(|(seq, outcome)| {
        let code = outcome.err().map_or(0, |failure| failure.code);
        json!({ "MsgSeq": seq, "RetCode": code })
    });
    object(json!({ "RecallRetList": told.collect::<Vec<_>>() }))
}

/// Sequences of messages: some, and no more than the command allows.
pub fn seqs(call: &Call<'_>, fields: Fields<'_>, field: &'static str) -> Result<Vec<u64>, Failure> {
    let seq = |named: Fields<'_>| {
        let seq = named.number("MsgSeq").map_err(wrong)?;
        seq.ok_or_else(|| wrong(Wrong { field: "MsgSeq", expected: "a whole number" }))
    };
    let seqs = objects(fields, field)?.into_iter().map(seq).collect::<Result<Vec<_>, _>>()?;
    if seqs.is_empty() || seqs.len() > call.row.items_max {
        return Err(codes::GROUP_ARGUMENT.because(format!("{field} must name 1 to {}", call.row.items_max)));
    }
    Ok(seqs)
}

async fn recall_all(call: &Call<'_>, group: &GroupId, seqs: &[u64], reason: &str) -> Vec<Result<(), Failure>> {
    let recalls = seqs.iter().map(|seq| {
        let kind = Kind::Recall { peer: group.clone().into(), seq: *seq, reason: reason.to_owned() };
        let recalled = call.start(Act::Change(Box::new(Change::by_admin(call.app, call.identifier.clone(), kind))));
        async move { recalled.await.map(drop).map_err(|error| of_groups(&error)) }
    });
    join_all(recalls).await
}

/// Takes back what one sender has said lately, the newest first.
pub async fn recall_of_sender(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let (group, sender) = (group_id(fields)?, user(fields, "Sender_Account")?);
    let sent = admin::sent(&call.shared().store, call.app, &group, &sender, LOOKED_AT_MAX).await;
    let sent = sent.map_err(|error| of_groups(&error))?;
    for some in sent.chunks(RECALLED_TOGETHER) {
        for outcome in recall_all(call, &group, some, "").await {
            match outcome {
                // It is gone, one way or the other.
                Err(failure) if failure.code == of_group_refusal(Refusal::MessageRecalled).code => {}
                Err(failure) if failure.code == of_group_refusal(Refusal::MessageUnknown).code => {}
                outcome => outcome?,
            }
        }
    }
    nothing()
}

/// Replaces what a request names of a message: its elements, its custom data.
pub async fn modify(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let group = group_id(fields)?;
    let seq = fields.number("MsgSeq").map_err(wrong)?;
    let seq = seq.ok_or_else(|| wrong(Wrong { field: "MsgSeq", expected: "a whole number" }))?;
    if !fields.has("MsgBody") && !fields.has("CloudCustomData") {
        return Err(codes::GROUP_ARGUMENT.because("neither MsgBody nor CloudCustomData is given"));
    }
    let message = admin::message(&call.shared().store, call.app, &group, seq).await;
    let message = message.map_err(|error| of_groups(&error))?;
    if message.recalled.is_some() {
        return Err(of_group_refusal(Refusal::MessageRecalled));
    }
    // What tells of members is nobody's to change.
    let from = UserId::new(&message.from).ok_or_else(|| of_group_refusal(Refusal::RightMissing))?;
    let before = Body::decode(message.body).map_err(|_| of_groups(&backend::domain::Error::MessageInvalid))?;
    let (body, contents) = messages::body(fields, before).map_err(of_body)?;
    messages::store_contents(call, contents).await?;
    let kind = Kind::Edit { peer: group.into(), seq, body: body.encode_to_vec().into(), facts: None };
    let act = Act::Change(Box::new(Change::by_admin(call.app, from, kind)));
    call.start(act).await.map_err(|error| of_groups(&error))?;
    nothing()
}

/// Reads what was said, newest first.
pub async fn read(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let group = group_id(fields)?;
    let number = |field| fields.number(field).map_err(wrong);
    let asked = number("ReqMsgNumber")?.filter(|asked| *asked > 0);
    let asked = asked.ok_or_else(|| wrong(Wrong { field: "ReqMsgNumber", expected: "a whole number, at least 1" }))?;
    let start = number("ReqMsgSeq")?.filter(|seq| *seq > 0).map_or(Start::End, Start::Seq);
    let place = match fields.flag("WithRecalledMsg").map_err(wrong)? {
        true => PLACE_RECALLED,
        false => PLACE_EMPTY,
    };
    // As published: who asks for more than there may be gets as many as there may be.
    let limit = PageLimit { entries_max: call.row.items_max.min(asked as usize), bytes_max: PAGE_BYTES };
    let query = HistoryQuery { start, forward: false, limit };
    let page = history::page_of_group(&call.shared().store, call.app, &group, query).await;
    let page = page.map_err(|error| of_groups(&error))?;
    let list: Vec<Value> = page.messages.iter().map(|message| message_to_json(message, place)).collect();
    object(json!({ "GroupId": group.to_string(), "IsFinished": u32::from(!page.more), "RspMsgList": list }))
}

/// `place`: what is said of the place of a message that was taken back.
fn message_to_json(message: &Message, place: u32) -> Value {
    let body = Body::decode(message.body.clone()).unwrap_or_default();
    let is_tips = body.elements.iter().any(|it| matches!(it.kind, Some(element::Kind::GroupTips(_))));
    let priority = match message.priority() {
        Priority::High => 1,
        Priority::Normal => 2,
        Priority::Low => 3,
    };
    json!({
        "From_Account": message.from, "IsPlaceMsg": if message.recalled.is_some() { place } else { PLACE_FILLED },
        "MsgBody": elements::to_json(&body.elements), "CloudCustomData": elements::cloud_custom_data(&body),
        "MsgPriority": priority, "MsgRandom": random_of(&message.client_message_id), "MsgSeq": message.seq,
        "MsgTimeStamp": message.time_ms / 1000, "IsSystemMsg": u32::from(is_tips),
    })
}

/// Has so many messages be unread for a member.
pub async fn set_unread(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let (group, member) = (group_id(fields)?, user(fields, "Member_Account")?);
    let count = fields.number_u32("UnreadMsgNum").map_err(wrong)?;
    let count = count.ok_or_else(|| wrong(Wrong { field: "UnreadMsgNum", expected: "a whole number" }))?;
    // As published: where nothing is counted there is nothing to set, and no error.
    if !is_room(call, &group).await? {
        change(call, GroupChange::Unread { group, member, count }).await?;
    }
    nothing()
}
