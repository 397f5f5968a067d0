//! `recentcontact`: conversation lists, and groups of conversations, which are the labels that clients know.

use backend::domain::{
    Peer, UserId,
    act::{Act, Answer},
    admin,
    change::{Change, Kind},
    conversations::{self, Mark},
    sync::PageLimit,
};
use bytes::Bytes;
use futures::future::join_all;
use protocol::message::{ConversationEntry, ConversationState, UpdateConversation};
use serde_json::{Value, json};

use super::{
    answers::{ensure_account, nothing, object},
    call::Call,
    codes::{self, Failure, of_contacts},
    fields::{Fields, Wrong},
    table::Outcome,
};

/// Kind of a conversation: with one other user.
const ONE_TO_ONE: u64 = 1;

/// In `AssistFlags`: pinned conversations are told as such.
const WITH_PINNED: u64 = 1;

/// Bytes of a page, about, at the most.
const PAGE_BYTES: usize = 1 << 20;

const HOUR_S: u64 = 3_600;

/// Reads a page of a conversation list.
pub async fn list(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = owner(call, fields).await?;
    let number = |field| fields.number(field).map_err(wrong).map(|number| number.unwrap_or(0));
    let (time_s, start) = (number("TimeStamp")?, number("StartIndex")?);
    let with_pinned = number("AssistFlags")? & WITH_PINNED != 0;
    let from = match time_s {
        0 => None,
        time_s => {
            let hour = u32::try_from(time_s / HOUR_S).map_err(|_| codes::CONTACT_ARGUMENT)?;
            Some(Mark { hour, peer: u32::try_from(start).map_err(|_| codes::CONTACT_ARGUMENT)? })
        }
    };
    let limit = PageLimit { entries_max: call.row.items_max, bytes_max: PAGE_BYTES };
    let store = &call.shared().store;
    let page = conversations::list_from(store, call.app, &owner, from, limit).await;
    let (entries, next) = page.map_err(|error| of_contacts(&error))?;
    let labels = admin::labels(store, call.app, &owner).await.map_err(|error| of_contacts(&error))?;
    let items: Vec<Value> = entries.iter().map(|entry| session_item(entry, &labels, with_pinned)).collect();
    let (next_s, next_index) = next.map_or((0, 0), |mark| (u64::from(mark.hour) * HOUR_S, mark.peer));
    object(json!({
        "SessionItem": items, "CompleteFlag": u32::from(next.is_none()),
        "TimeStamp": next_s, "StartIndex": next_index, "TopTimeStamp": next_s, "TopStartIndex": next_index,
    }))
}

fn session_item(entry: &ConversationEntry, labels: &[(u32, String)], with_pinned: bool) -> Value {
    let state = entry.state.clone().unwrap_or_default();
    let peer = entry.conversation.as_ref().map_or("", |conversation| &conversation.user);
    let pinned = with_pinned && state.pinned;
    let mut item = json!({
        "Type": ONE_TO_ONE, "To_Account": peer, "MsgTime": entry.active_ms / 1000, "TopFlag": u32::from(pinned),
    });
    add_marks(&mut item, &state, labels);
    item
}

/// Takes a conversation off the list; its history stays, unless that is to go as well.
pub async fn delete(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = owner(call, fields).await?;
    // Older documents write the name small.
    let field = if fields.has("Type") { "Type" } else { "type" };
    ensure_one_to_one(fields.number(field).map_err(wrong)?)?;
    let peer = account(fields, "To_Account")?;
    let keep_history = !fields.flag("ClearRamble").map_err(wrong)?;
    let update = UpdateConversation { remove: true, keep_history, ..UpdateConversation::default() };
    self::update(call, &owner, peer, update).await?;
    nothing()
}

/// Puts a label on conversations.
pub async fn create_group(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = owner(call, fields).await?;
    let groups = required_list(fields, "GroupContactItem")?;
    let mut results = Vec::new();
    for group in groups {
        let group = Fields::of(group).ok_or(codes::CONTACT_ARGUMENT)?;
        let name = group.required_text("GroupName").map_err(wrong)?;
        let peers = peers(call, group, "ContactItem")?;
        let update = UpdateConversation { label: vec![name.to_owned()], ..UpdateConversation::default() };
        let outcomes = update_each(call, &owner, peers, |_| update.clone()).await;
        // Nothing at all could be done: then it is the label.
        if let Some(Err(failure)) =
            outcomes.iter().map(|(_, outcome)| outcome).find(|it| it.is_ok()).or(outcomes.first().map(|(_, it)| it))
        {
            return Err(failure.clone());
        }
        let items: Vec<Value> = outcomes.iter().map(|(peer, outcome)| result_item(peer, outcome)).collect();
        results.push(json!({ "GroupItem": group_item(call, &owner, name).await?, "ResultItem": items }));
    }
    object(json!({ "GroupResultItem": results }))
}

/// Takes a label off all conversations.
pub async fn delete_group(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = owner(call, fields).await?;
    let names = fields.texts("GroupName").map_err(wrong)?.ok_or(codes::CONTACT_ARGUMENT)?;
    let [name] = names[..] else { return Err(codes::CONTACT_ARGUMENT.because("GroupName must name one group")) };
    let item = group_item(call, &owner, name).await?;
    rename(call, &owner, name, "").await?;
    object(json!({ "GroupItem": [item] }))
}

/// Renames a label, or changes which conversations have it.
pub async fn update_group(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = owner(call, fields).await?;
    let update = fields.object("UpdateGroup").map_err(wrong)?.ok_or(codes::CONTACT_ARGUMENT)?;
    let old = update.required_text("OldGroupName").map_err(wrong)?;
    let kind = update.number("UpdateGroupType").map_err(wrong)?;
    let (name, items) = match kind {
        Some(1) => {
            let new = update.required_text("NewGroupName").map_err(wrong)?;
            rename(call, &owner, old, new).await?;
            (new, Vec::new())
        }
        Some(2) => {
            let list = required_list(update, "ContactUpdateItem")?;
            if list.len() > call.row.items_max {
                return Err(codes::CONTACT_ARGUMENT.because("at most 100 conversations"));
            }
            (old, change_group(call, &owner, old, list).await?)
        }
        _ => return Err(codes::CONTACT_ARGUMENT.because("UpdateGroupType must be 1 or 2")),
    };
    let group = group_item(call, &owner, name).await?;
    object(json!({
        "UpdateType": 1,
        "UpdateGroupResult": {
            "UpdateGroupType": kind, "GroupName": name, "GroupId": group["GroupId"], "OldGroupName": old,
            "ContactResultItem": items,
        },
    }))
}

/// Puts a label on conversations and takes it off others, as a list says.
async fn change_group(call: &Call<'_>, owner: &UserId, name: &str, list: &[Value]) -> Result<Vec<Value>, Failure> {
    let item = |item: &Value| {
        let item = Fields::of(item).ok_or(codes::CONTACT_ARGUMENT)?;
        let adds = match item.number("ContactOptType").map_err(wrong)? {
            Some(1) => true,
            Some(2) => false,
            _ => return Err(codes::CONTACT_ARGUMENT.because("ContactOptType must be 1 or 2")),
        };
        let contact = item.object("ContactItem").map_err(wrong)?.ok_or(codes::CONTACT_ARGUMENT)?;
        Ok((peer(contact)?, adds))
    };
    let wanted: Vec<(UserId, bool)> = list.iter().map(item).collect::<Result<_, Failure>>()?;
    let peers = wanted.iter().map(|(peer, _)| peer.clone()).collect();
    let change = |index: usize| {
        let names = vec![name.to_owned()];
        match wanted.get(index) {
            Some((_, true)) => UpdateConversation { label: names, ..UpdateConversation::default() },
            _ => UpdateConversation { unlabel: names, ..UpdateConversation::default() },
        }
    };
    let outcomes = update_each(call, owner, peers, change).await;
    let results = outcomes.iter().zip(&wanted).map(|((peer, outcome), (_, adds))| {
        let mut result = result_item(peer, outcome);
        result["ContactOptType"] = json!(if *adds { 1 } else { 2 });
        result
    });
    Ok(results.collect())
}

/// Sets and clears marks of conversations, and their custom data.
pub async fn mark(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = owner(call, fields).await?;
    let list = required_list(fields, "MarkItem")?;
    if list.len() > call.row.items_max {
        return Err(codes::CONTACT_ARGUMENT.because("at most 100 conversations"));
    }
    let wanted: Vec<(UserId, UpdateConversation)> = list.iter().map(mark_item).collect::<Result<_, _>>()?;
    let peers = wanted.iter().map(|(peer, _)| peer.clone()).collect();
    let update = |index: usize| wanted.get(index).map(|(_, update)| update.clone()).unwrap_or_default();
    let outcomes = update_each(call, &owner, peers, update).await;
    let results = outcomes.iter().zip(list).map(|((peer, outcome), item)| {
        let mut result = result_item(peer, outcome);
        result["OptType"] = item["OptType"].clone();
        result
    });
    object(json!({ "ResultItem": results.collect::<Vec<_>>() }))
}

fn mark_item(item: &Value) -> Result<(UserId, UpdateConversation), Failure> {
    let item = Fields::of(item).ok_or(codes::CONTACT_ARGUMENT)?;
    let contact = item.object("ContactItem").map_err(wrong)?.ok_or(codes::CONTACT_ARGUMENT)?;
    let operation = item.number("OptType").map_err(wrong)?.filter(|operation| (1..=3).contains(operation));
    let operation = operation.ok_or_else(|| codes::CONTACT_ARGUMENT.because("OptType must be 1, 2 or 3"))?;
    let mut update = UpdateConversation::default();
    if operation & 1 != 0 {
        (update.set_marks, update.clear_marks) = (bits(item, "SetMark")?, bits(item, "ClearMark")?);
    }
    if operation & 2 != 0 {
        let custom = item.text("CustomMark").map_err(wrong)?.unwrap_or_default();
        update.custom_data = Some(Bytes::copy_from_slice(custom.as_bytes()));
    }
    Ok((peer(contact)?, update))
}

/// The bits that a list names by number.
fn bits(item: Fields<'_>, field: &'static str) -> Result<u64, Failure> {
    let list = item.list(field).map_err(wrong)?.unwrap_or_default();
    let bit = |number: &Value| number.as_u64().filter(|number| *number < 64).map(|number| 1u64 << number);
    let bits = list.iter().map(bit).try_fold(0, |all, bit| Some(all | bit?));
    bits.ok_or_else(|| codes::CONTACT_ARGUMENT.because(format!("{field} must hold numbers from 0 to 63")))
}

/// Reads labels and marks of chosen conversations.
pub async fn search(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = owner(call, fields).await?;
    let peers = peers(call, fields, "ContactItem")?;
    let store = &call.shared().store;
    let entries = conversations::chosen(store, call.app, &owner, peers.iter().cloned().map(Peer::User).collect()).await;
    let entries = entries.map_err(|error| of_contacts(&error))?;
    let labels = admin::labels(store, call.app, &owner).await.map_err(|error| of_contacts(&error))?;
    let items = peers.iter().zip(&entries).map(|(peer, entry)| {
        let mut item = json!({ "Type": ONE_TO_ONE, "To_Account": peer.as_str(), "Timestamp": entry.active_ms / 1000 });
        add_marks(&mut item, &entry.state.clone().unwrap_or_default(), &labels);
        item
    });
    let items: Vec<Value> = items.collect();
    object(json!({ "ContactResultItem": items, "GroupItem": group_items(&labels) }))
}

/// Reads all conversations that have a label or a mark, by page.
pub async fn groups(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = owner(call, fields).await?;
    let start = fields.number("StartIndex").map_err(wrong)?.unwrap_or(0);
    let start = usize::try_from(start).map_err(|_| codes::CONTACT_ARGUMENT)?;
    let store = &call.shared().store;
    let labels = admin::labels(store, call.app, &owner).await.map_err(|error| of_contacts(&error))?;
    let (mut items, mut looked_at, mut after) = (Vec::new(), 0, None);
    let is_marked =
        |state: &ConversationState| !state.labels.is_empty() || state.marks != 0 || !state.custom_data.is_empty();
    loop {
        const TOGETHER: usize = 512;
        let page = admin::states(store, call.app, &owner, after.take(), TOGETHER).await;
        let (states, more) = page.map_err(|error| of_contacts(&error))?;
        for (peer, state) in states.into_iter().filter(|(_, state)| is_marked(state)) {
            if looked_at >= start && items.len() == call.row.items_max {
                return object(json!({
                    "ContactItem": items, "GroupItem": group_items(&labels), "CompleteFlag": 0,
                    "NextStartIndex": looked_at,
                }));
            }
            if looked_at >= start {
                let mut item = json!({ "Type": ONE_TO_ONE, "To_Account": peer.as_str(), "Timestamp": 0 });
                add_marks(&mut item, &state, &labels);
                items.push(item);
            }
            looked_at += 1;
        }
        match more {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    object(json!({
        "ContactItem": items, "GroupItem": group_items(&labels), "CompleteFlag": 1, "NextStartIndex": 0,
    }))
}

/// Adds what conversations have beside their messages, where it is there.
fn add_marks(item: &mut Value, state: &ConversationState, labels: &[(u32, String)]) {
    if state.marks != 0 {
        item["StandardMark"] = json!(format!("{:b}", state.marks));
    }
    if !state.custom_data.is_empty() {
        item["CustomMark"] = json!(String::from_utf8_lossy(&state.custom_data));
    }
    let numbers: Vec<u32> =
        labels.iter().filter(|(_, name)| state.labels.contains(name)).map(|(number, _)| *number).collect();
    if !numbers.is_empty() {
        item["ContactGroupId"] = json!(numbers);
    }
}

fn group_items(labels: &[(u32, String)]) -> Vec<Value> {
    labels.iter().map(|(number, name)| json!({ "GroupName": name, "GroupId": number })).collect()
}

async fn group_item(call: &Call<'_>, owner: &UserId, name: &str) -> Result<Value, Failure> {
    let labels = admin::labels(&call.shared().store, call.app, owner).await.map_err(|error| of_contacts(&error))?;
    let number = labels.iter().find(|(_, known)| known == name).map(|(number, _)| *number);
    let number = number.ok_or_else(|| codes::CONTACT_ARGUMENT.because(format!("there is no group {name}")))?;
    Ok(json!({ "GroupName": name, "GroupId": number }))
}

fn result_item(peer: &UserId, outcome: &Result<(), Failure>) -> Value {
    let (code, info) = match outcome {
        Ok(()) => (0, ""),
        Err(failure) => (failure.code, failure.info.as_str()),
    };
    let contact = json!({ "Type": ONE_TO_ONE, "To_Account": peer.as_str() });
    json!({ "ContactItem": contact, "ResultCode": code, "ResultInfo": info })
}

async fn rename(call: &Call<'_>, owner: &UserId, label: &str, to: &str) -> Result<(), Failure> {
    let kind = Kind::RenameLabel { label: label.to_owned(), to: to.to_owned() };
    let act = Act::Change(Box::new(Change::by_admin(call.app, owner.clone(), kind)));
    call.start(act).await.map_err(|error| of_contacts(&error))?;
    Ok(())
}

async fn update(call: &Call<'_>, owner: &UserId, peer: UserId, update: UpdateConversation) -> Result<(), Failure> {
    start_update(call, owner, peer, update).await.map_err(|error| of_contacts(&error))?;
    Ok(())
}

fn start_update(
    call: &Call<'_>,
    owner: &UserId,
    peer: UserId,
    update: UpdateConversation,
) -> impl Future<Output = Result<Answer, backend::domain::Error>> + Send + use<> {
    let kind = Kind::Conversation { peer: peer.into(), update: Box::new(update) };
    call.start(Act::Change(Box::new(Change::by_admin(call.app, owner.clone(), kind))))
}

/// Changes conversations together, each for itself; `update` is called with their places.
async fn update_each(
    call: &Call<'_>,
    owner: &UserId,
    peers: Vec<UserId>,
    update: impl Fn(usize) -> UpdateConversation,
) -> Vec<(UserId, Result<(), Failure>)> {
    let started: Vec<_> =
        peers.iter().enumerate().map(|(index, peer)| start_update(call, owner, peer.clone(), update(index))).collect();
    let outcomes = join_all(started).await;
    let outcome = |outcome: Result<Answer, _>| outcome.map(|_| ()).map_err(|error| of_contacts(&error));
    peers.into_iter().zip(outcomes.into_iter().map(outcome)).collect()
}

/// Whose list it is.
async fn owner(call: &Call<'_>, fields: Fields<'_>) -> Result<UserId, Failure> {
    let owner = account(fields, "From_Account")?;
    ensure_account(call, &owner, codes::CONTACT_ACCOUNT, of_contacts).await?;
    Ok(owner)
}

fn account(fields: Fields<'_>, field: &'static str) -> Result<UserId, Failure> {
    let name = fields.required_text(field).map_err(wrong)?;
    UserId::new(name).ok_or_else(|| codes::CONTACT_ARGUMENT.because(Wrong { field, expected: "an account" }))
}

/// The other side of a conversation object.
fn peer(contact: Fields<'_>) -> Result<UserId, Failure> {
    ensure_one_to_one(contact.number("Type").map_err(wrong)?)?;
    account(contact, "To_Account")
}

fn peers(call: &Call<'_>, fields: Fields<'_>, field: &'static str) -> Result<Vec<UserId>, Failure> {
    let list = required_list(fields, field)?;
    if list.len() > call.row.items_max {
        return Err(codes::CONTACT_ARGUMENT.because(format!("{field} names too many conversations")));
    }
    list.iter().map(|contact| peer(Fields::of(contact).ok_or(codes::CONTACT_ARGUMENT)?)).collect()
}

fn required_list<'a>(fields: Fields<'a>, field: &'static str) -> Result<&'a [Value], Failure> {
    let list = fields.list(field).map_err(wrong)?.filter(|list| !list.is_empty());
    list.ok_or_else(|| codes::CONTACT_ARGUMENT.because(Wrong { field, expected: "an array of some" }))
}

fn ensure_one_to_one(kind: Option<u64>) -> Result<(), Failure> {
    match kind {
        Some(ONE_TO_ONE) => Ok(()),
        _ => Err(codes::CONTACT_ARGUMENT.because("Type must be 1")),
    }
}

fn wrong(wrong: Wrong) -> Failure {
    codes::CONTACT_ARGUMENT.because(wrong)
}
