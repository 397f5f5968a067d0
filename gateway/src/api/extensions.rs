//! `openim_msg_ext_http_svc`: keys with values at a message.

use std::ops::ControlFlow;

use backend::domain::{
    Error, GroupId, Peer, UserId,
    act::{Act, Answer, Author, ExtensionOutcome},
    change::{
        Change, Kind,
        extension::{self, CHANGES_MAX},
    },
};
use bytes::Bytes;
use protocol::message::{Extension, ExtensionChange};
use serde_json::{Value, json};

use super::{
    answers::object,
    call::Call,
    codes::{self, Failure, of_groups, of_message_field, of_messages},
    fields::{Fields, Wrong},
    past::{NamedMessage, find},
    table::Outcome,
};

/// More than a message can have.
const ALL_BYTES: usize = 1 << 20;

/// Longest value, in bytes, as published.
const VALUE_BYTES_MAX: usize = 1_000;

/// In the answer to a change: somebody else has changed it, or there are as many as may be.
const CHANGED_MEANWHILE: u32 = 23_001;
const FULL: u32 = 23_002;

/// Reads extensions of a 1:1 message, by the time of their last change.
pub async fn get(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    read(call, fields, find(call, fields).await?.into()).await
}

/// The same of a group's message.
pub async fn get_in_group(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    read(call, fields, Place::in_group(call, fields)?).await
}

/// The message whose extensions they are.
struct Place {
    /// Who reads and changes them; in a group the administrator.
    user: UserId,
    peer: Peer,
    seq: u64,
}

impl From<NamedMessage> for Place {
    fn from(named: NamedMessage) -> Self {
        Place { user: named.from, peer: named.to.into(), seq: named.message.seq }
    }
}

impl Place {
    fn in_group(call: &Call<'_>, fields: Fields<'_>) -> Result<Self, Failure> {
        let wrong = |wrong: Wrong| codes::GROUP_ARGUMENT.because(wrong);
        let seq = fields.number("MsgSeq").map_err(wrong)?;
        let seq = seq.ok_or_else(|| wrong(Wrong { field: "MsgSeq", expected: "a whole number" }))?;
        let group = GroupId::new(fields.required_text("GroupId").map_err(wrong)?).ok_or(codes::GROUP_ID_INVALID)?;
        Ok(Place { user: call.identifier.clone(), peer: group.into(), seq })
    }

    fn failure(&self, error: &Error) -> Failure {
        match self.peer {
            Peer::User(_) => of_messages(error),
            Peer::Group(_) => of_groups(error),
        }
    }
}

async fn read(call: &Call<'_>, fields: Fields<'_>, named: Place) -> Outcome {
    let from = fields.number("StartSeq").map_err(|wrong| of_message_field(&wrong))?.unwrap_or(0);
    let all = all(call, &named).await?;
    let latest = all.iter().map(|extension| extension.version).max().unwrap_or(0);
    let page: Vec<&Extension> = all.iter().filter(|extension| extension.version >= from).collect();
    let complete = page.len() <= call.row.items_max;
    let list: Vec<Value> = page.into_iter().take(call.row.items_max).map(to_json).collect();
    object(json!({
        "CompleteFlag": u32::from(complete), "LatestSeq": latest, "ClearSeq": 0, "ExtensionList": list,
    }))
}

/// Sets, removes or clears extensions of a 1:1 message, whatever there is.
pub async fn set(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    write(call, fields, find(call, fields).await?.into()).await
}

/// The same of a group's message.
pub async fn set_in_group(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    write(call, fields, Place::in_group(call, fields)?).await
}

async fn write(call: &Call<'_>, fields: Fields<'_>, named: Place) -> Outcome {
    let operate = fields.number("OperateType").map_err(|wrong| of_message_field(&wrong))?;
    let changes = match operate {
        Some(1) => changes(call, fields, false)?,
        Some(2) => changes(call, fields, true)?,
        Some(3) => {
            let clear = |it: Extension| ExtensionChange { key: it.key, remove: true, ..ExtensionChange::default() };
            all(call, &named).await?.into_iter().map(clear).collect()
        }
        _ => return Err(of_message_field(&Wrong { field: "OperateType", expected: "1, 2 or 3" })),
    };
    let mut results = Vec::new();
    for changes in changes.chunks(CHANGES_MAX) {
        let kind = Kind::Extensions { peer: named.peer.clone(), seq: named.seq, changes: changes.to_vec() };
        let act = Act::Change(Box::new(Change::by_admin(call.app, named.user.clone(), kind)));
        let answer = call.start(act).await.map_err(|error| named.failure(&error))?;
        if let Answer::Extensions(outcomes) = answer {
            results.extend(outcomes.iter().map(|(extension, outcome)| {
                let code = match outcome {
                    ExtensionOutcome::Changed => 0,
                    ExtensionOutcome::Conflict => CHANGED_MEANWHILE,
                    ExtensionOutcome::Full => FULL,
                };
                json!({ "ErrorCode": code, "Extension": to_json(extension) })
            }));
        }
    }
    let latest = all(call, &named).await?.last().map_or(0, |extension| extension.version);
    object(json!({ "LatestSeq": latest, "ExtensionList": results }))
}

/// The changes that a request names.
fn changes(call: &Call<'_>, fields: Fields<'_>, remove: bool) -> Result<Vec<ExtensionChange>, Failure> {
    let list = fields.list("ExtensionList").map_err(|wrong| of_message_field(&wrong))?;
    let wrong = |expected| of_message_field(&Wrong { field: "ExtensionList", expected });
    let list =
        list.filter(|list| (1..=call.row.items_max).contains(&list.len())).ok_or_else(|| wrong("1 to 20 pairs"))?;
    let change = |pair: &Value| {
        let pair = Fields::of(pair).ok_or_else(|| wrong("an array of objects"))?;
        let key = pair.required_text("Key").map_err(|wrong| of_message_field(&wrong))?;
        let value = pair.text("Value").map_err(|wrong| of_message_field(&wrong))?.unwrap_or_default();
        if value.len() > VALUE_BYTES_MAX {
            return Err(codes::of_message_field(&Wrong { field: "Value", expected: "at most 1000 bytes long" }));
        }
        let value = Bytes::copy_from_slice(value.as_bytes());
        Ok(ExtensionChange { key: key.to_owned(), value, remove, version: 0 })
    };
    list.iter().map(change).collect()
}

/// All extensions of a message, by version.
async fn all(call: &Call<'_>, named: &Place) -> Result<Vec<Extension>, Failure> {
    let mut all = Vec::new();
    let mut after = String::new();
    let store = &call.shared().store;
    let mut state = ControlFlow::Continue(());
    while state.is_continue() {
        let reader = (&named.user, Author::Admin);
        let page = extension::page(store, call.app, reader, &named.peer, named.seq, after.clone(), ALL_BYTES).await;
        let (extensions, more) = page.map_err(|error| named.failure(&error))?;
        match extensions.last() {
            Some(last) if more => after.clone_from(&last.key),
            _ => state = ControlFlow::Break(()),
        }
        all.extend(extensions);
    }
    all.sort_by_key(|extension| extension.version);
    Ok(all)
}

fn to_json(extension: &Extension) -> Value {
    let Extension { key, value, version } = extension;
    json!({ "Key": key, "Value": String::from_utf8_lossy(value), "Seq": version })
}
