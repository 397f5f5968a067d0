//! `openim`: what was sent: reading it back, recalling, changing, marking as read, counting what is unread.

use backend::domain::{
    Error, Peer, UserId,
    act::Act,
    admin,
    change::{Change, Kind},
    conversations,
    history::{self, HistoryQuery, Start},
    sync::PageLimit,
};
use prost::Message as _;
use protocol::message::{Body, Message, UpdateConversation};
use serde_json::{Value, json};

use super::{
    answers::{ensure_account, nothing, object},
    call::Call,
    codes::{self, Failure, of_message_field, of_messages},
    elements,
    fields::{Fields, Wrong},
    messages::{self, user},
    msg_key::MsgKey,
    table::Outcome,
};

/// Bytes of messages in one answer, about, at the most.
const PAGE_BYTES: usize = 256 * 1024;

/// In `MsgFlagBits`: the message was recalled.
const RECALLED: u32 = 8;

/// For how long the messages of a batch may have been underway: one key names all of them by their time.
const BATCH_S: u64 = 5;

/// Messages looked at for one that is named by its time, at the most.
const SAME_TIME_MAX: usize = 256;

/// Reads a conversation back, newest messages first.
pub async fn read(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    // Two names of the same, both published.
    let operator = if fields.has("Operator_Account") { "Operator_Account" } else { "From_Account" };
    let peer = if fields.has("Peer_Account") { "Peer_Account" } else { "To_Account" };
    let (operator, peer) = (user(fields, operator)?, user(fields, peer)?);
    let number = |field| fields.number(field).map_err(|wrong| of_message_field(&wrong));
    let required = |field| number(field)?.ok_or_else(|| of_message_field(&Wrong { field, expected: "a whole number" }));
    let entries_max = required("MaxCnt")?.clamp(1, call.row.items_max as u64) as usize;
    let (min_s, max_s) = (required("MinTime")?, required("MaxTime")?);
    let last = fields.text("LastMsgKey").map_err(|wrong| of_message_field(&wrong))?.filter(|key| !key.is_empty());
    let start = match last.map(|key| MsgKey::parse(key).ok_or(codes::MSG_KEY)).transpose()? {
        Some(last) if last.seq <= 1 => return object(page_to_json(&[], true)),
        Some(last) => Start::Seq(last.seq - 1),
        None => Start::Time(max_s.saturating_mul(1000).saturating_add(999)),
    };
    let limit = PageLimit { entries_max, bytes_max: PAGE_BYTES };
    let query = HistoryQuery { start, forward: false, limit };
    let page = history::page(&call.shared().store, call.app, &operator, &peer.clone().into(), query).await;
    let page = page.map_err(|error| of_messages(&error))?;
    let count = page.messages.len();
    let within = |message: &Message| message.time_ms / 1000 >= min_s;
    let messages: Vec<Message> = page.messages.into_iter().take_while(within).collect();
    object(page_to_json(&messages, !page.more || messages.len() < count))
}

fn page_to_json(messages: &[Message], complete: bool) -> Value {
    let list: Vec<Value> = messages.iter().map(message_to_json).collect();
    let last = messages.last().map(MsgKey::of);
    json!({
        "Complete": u32::from(complete), "MsgCnt": list.len(), "LastMsgTime": last.map_or(0, |key| key.time_s),
        "LastMsgKey": last.map_or_else(String::new, |key| key.to_string()), "MsgList": list,
    })
}

fn message_to_json(message: &Message) -> Value {
    let key = MsgKey::of(message);
    let body = Body::decode(message.body.clone()).unwrap_or_default();
    json!({
        "From_Account": message.from, "To_Account": message.to, "MsgSeq": key.seq, "MsgRandom": key.random,
        "MsgTimeStamp": key.time_s, "MsgFlagBits": if message.recalled.is_some() { RECALLED } else { 0 },
        "IsPeerRead": u32::from(message.receipt_ms > 0), "MsgKey": key.to_string(),
        "MsgBody": elements::to_json(&body.elements), "CloudCustomData": elements::cloud_custom_data(&body),
    })
}

/// Takes a message back, however old it is.
pub async fn withdraw(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let named = find(call, fields).await?;
    let kind = Kind::Recall { peer: named.to.into(), seq: named.message.seq, reason: String::new() };
    change(call, named.from, kind).await?;
    nothing()
}

/// Replaces what a request names of a message: its elements, its custom data.
pub async fn modify(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let named = find(call, fields).await?;
    if !fields.has("MsgBody") && !fields.has("CloudCustomData") {
        return Err(codes::MSG_BODY_NO_LIST.into());
    }
    if named.message.recalled.is_some() {
        return Err(of_messages(&Error::MessageRecalled));
    }
    let before = Body::decode(named.message.body.clone()).map_err(|_| of_messages(&Error::MessageInvalid))?;
    let (body, contents) = messages::body(fields, before)?;
    messages::store_contents(call, contents).await?;
    let body = body.encode_to_vec().into();
    change(call, named.from, Kind::Edit { peer: named.to.into(), seq: named.message.seq, body, facts: None }).await?;
    nothing()
}

/// Marks what the other side has sent until a time as read.
pub async fn set_read(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let (reader, peer) = (user(fields, "Report_Account")?, user(fields, "Peer_Account")?);
    ensure_account(call, &reader, codes::FROM_ACCOUNT, of_messages).await?;
    ensure_account(call, &peer, codes::TO_ACCOUNT, of_messages).await?;
    let until_s = fields.number("MsgReadTime").map_err(|wrong| of_message_field(&wrong))?;
    let read_seq = match until_s {
        None => u64::MAX,
        Some(until_s) => {
            let start = Start::Time(until_s.saturating_mul(1000).saturating_add(999));
            let limit = PageLimit { entries_max: 1, bytes_max: PAGE_BYTES };
            let query = HistoryQuery { start, forward: false, limit };
            let page = history::page(&call.shared().store, call.app, &reader, &peer.clone().into(), query).await;
            page.map_err(|error| of_messages(&error))?.messages.first().map_or(0, |message| message.seq)
        }
    };
    if read_seq > 0 {
        let update = Box::new(UpdateConversation { read_seq, ..UpdateConversation::default() });
        change(call, reader, Kind::Conversation { peer: peer.into(), update }).await?;
    }
    nothing()
}

/// Counts unread messages: of all conversations, or of chosen ones.
pub async fn unread(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = user(fields, "To_Account")?;
    ensure_account(call, &owner, codes::TO_ACCOUNT, of_messages).await?;
    let store = &call.shared().store;
    let peers = fields.texts("Peer_Account").map_err(|wrong| of_message_field(&wrong))?;
    let Some(names) = peers.filter(|peers| !peers.is_empty()) else {
        let most = conversations::UNREAD_CONVERSATIONS_MAX;
        let total = conversations::total_unread(store, call.app, &owner, most).await;
        return object(json!({ "AllC2CUnreadMsgNum": total.map_err(|error| of_messages(&error))?.messages }));
    };
    if names.len() > call.row.items_max {
        return Err(codes::TOO_MANY_ACCOUNTS.into());
    }
    let valid: Vec<UserId> = names.iter().filter_map(|name| UserId::new(name)).collect();
    let existing = admin::existing(store, call.app, &valid).await.map_err(|error| of_messages(&error))?;
    let known: Vec<UserId> =
        valid.into_iter().zip(existing).filter(|(_, exists)| *exists).map(|(user, _)| user).collect();
    let entries = conversations::chosen(store, call.app, &owner, known.iter().cloned().map(Peer::User).collect()).await;
    let entries = entries.map_err(|error| of_messages(&error))?;
    let counts = known.iter().zip(&entries);
    let counts: Vec<Value> =
        counts.map(|(peer, entry)| json!({ "Peer_Account": peer.as_str(), "C2CUnreadMsgNum": entry.unread })).collect();
    let unknown = names.iter().filter(|name| !known.iter().any(|user| user.as_str() == **name));
    let errors: Vec<Value> =
        unknown.map(|name| json!({ "Peer_Account": name, "ErrorCode": codes::ACCOUNT_UNKNOWN.0 })).collect();
    object(json!({ "C2CUnreadMsgNumList": counts, "ErrorList": errors }))
}

/// A message that a request names.
pub struct NamedMessage {
    pub from: UserId,
    pub to: UserId,
    pub message: Message,
}

/// Finds the message that `From_Account`, `To_Account` and `MsgKey` name.
pub async fn find(call: &Call<'_>, fields: Fields<'_>) -> Result<NamedMessage, Failure> {
    let from = match fields.has("From_Account") {
        true => user(fields, "From_Account")?,
        false => call.identifier.clone(),
    };
    let to = user(fields, "To_Account")?;
    let key = fields.text("MsgKey").map_err(|wrong| of_message_field(&wrong))?;
    let key = key.and_then(MsgKey::parse).ok_or(codes::MSG_KEY)?;
    let store = &call.shared().store;
    let found = match key.seq {
        0 => {
            let since_ms = key.time_s.saturating_mul(1000);
            let messages = admin::messages_since(store, call.app, &from, &to, since_ms, SAME_TIME_MAX).await;
            let is_it = |message: &Message| {
                let own = MsgKey::of(message);
                own.random == key.random && message.from == from.as_str() && own.time_s <= key.time_s + BATCH_S
            };
            messages.map_err(|error| of_messages(&error))?.into_iter().find(is_it)
        }
        seq => match admin::message(store, call.app, &from, &to, seq).await {
            Ok(message) => Some(message).filter(|message| key.names(message) && message.from == from.as_str()),
            Err(Error::MessageUnknown) => None,
            Err(error) => return Err(of_messages(&error)),
        },
    };
    let message = found.ok_or_else(|| of_messages(&Error::MessageUnknown))?;
    Ok(NamedMessage { from, to, message })
}

async fn change(call: &Call<'_>, user: UserId, kind: Kind) -> Result<(), Failure> {
    let act = Act::Change(Box::new(Change::by_admin(call.app, user, kind)));
    call.start(act).await.map_err(|error| of_messages(&error))?;
    Ok(())
}
