//! What groups keep beside their description: attributes and counters (GRP-21).

use std::collections::BTreeMap;

use backend::domain::{
    GroupId,
    act::Answer,
    change::group::GroupChange,
    groups::read::{self, Asker},
};
use bytes::Bytes;
use protocol::message::GroupCounterOperation;
use serde_json::{Value, json};

use super::{change, group_id, objects, words::wrong};
use crate::api::{
    answers::{nothing, object},
    call::Call,
    codes::{self, Failure, of_groups},
    fields::{Fields, Wrong},
    table::Outcome,
    tags,
};

/// Tells a group's attributes.
pub async fn attributes(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let found = read::attributes(&call.shared().store, call.app, Asker::Admin, &group_id(fields)?).await;
    let found = found.map_err(|error| of_groups(&error))?.attributes;
    let told = found.iter().map(|(key, value)| json!({ "key": key, "value": tags::custom_text(value) }));
    object(json!({ "GroupAttrAry": told.collect::<Vec<_>>() }))
}

/// Changes some attributes.
pub async fn modify_attributes(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    change_attributes(call, fields, given(fields)?, Vec::new(), false).await
}

/// Replaces all attributes.
pub async fn set_attributes(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    change_attributes(call, fields, given(fields)?, Vec::new(), true).await
}

/// Takes all attributes off.
pub async fn clear_attributes(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    change_attributes(call, fields, BTreeMap::new(), Vec::new(), true).await
}

/// Takes some attributes off.
pub async fn delete_attributes(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let keys = objects(fields, "GroupAttr")?.into_iter().map(|attribute| {
        let key = attribute.required_text("key").map_err(wrong)?;
        Ok(key.to_owned())
    });
    let keys = keys.collect::<Result<Vec<String>, Failure>>()?;
    change_attributes(call, fields, BTreeMap::new(), keys, false).await
}

/// The attributes that a call gives: some.
fn given(fields: Fields<'_>) -> Result<BTreeMap<String, Bytes>, Failure> {
    let pair = |attribute: Fields<'_>| {
        let value = attribute.get("value").and_then(tags::custom_bytes);
        let value = value.ok_or_else(|| wrong(Wrong { field: "value", expected: "a string" }))?;
        Ok((attribute.required_text("key").map_err(wrong)?.to_owned(), value))
    };
    let given: BTreeMap<_, _> = objects(fields, "GroupAttr")?.into_iter().map(pair).collect::<Result<_, Failure>>()?;
    match given.is_empty() {
        true => Err(wrong(Wrong { field: "GroupAttr", expected: "an array of some objects with key and value" })),
        false => Ok(given),
    }
}

async fn change_attributes(
    call: &Call<'_>,
    fields: Fields<'_>,
    set: BTreeMap<String, Bytes>,
    remove: Vec<String>,
    reset: bool,
) -> Outcome {
    change(call, GroupChange::Attributes { group: group_id(fields)?, set, remove, reset, revision: 0 }).await?;
    nothing()
}

/// Tells a group's counters: chosen ones, or all.
pub async fn counters(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let group = group_id(fields)?;
    let wanted = fields.texts("GroupCounterKeys").map_err(wrong)?.filter(|keys| !keys.is_empty());
    let found = all_counters(call, &group).await?;
    let is_wanted = |key: &String| wanted.as_ref().is_none_or(|wanted| wanted.contains(&key.as_str()));
    object(json!({ "GroupCounter": counters_to_json(found.iter().filter(|(key, _)| is_wanted(key))) }))
}

async fn all_counters(call: &Call<'_>, group: &GroupId) -> Result<BTreeMap<String, i64>, Failure> {
    let found = read::counters(&call.shared().store, call.app, Asker::Admin, group).await;
    Ok(found.map_err(|error| of_groups(&error))?.counters.into_iter().collect())
}

fn counters_to_json<'a>(counters: impl Iterator<Item = (&'a String, &'a i64)>) -> Value {
    counters.map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

/// Sets counters, or adds to them, or subtracts.
pub async fn update_counters(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let mode = fields.text("Mode").map_err(wrong)?.unwrap_or("Set");
    let (operation, sign) = match mode {
        "Set" => (GroupCounterOperation::Set, 1),
        "Increase" => (GroupCounterOperation::Add, 1),
        "Decrease" => (GroupCounterOperation::Add, -1),
        _ => return Err(wrong(Wrong { field: "Mode", expected: "Set, Increase or Decrease" })),
    };
    let changes = objects(fields, "GroupCounter")?.into_iter().map(|counter| {
        let value = counter.number_i64("Value").map_err(wrong)?.and_then(|value: i64| value.checked_mul(sign));
        let value = value.ok_or_else(|| wrong(Wrong { field: "Value", expected: "a whole number of 64 bits" }))?;
        Ok((counter.required_text("Key").map_err(wrong)?.to_owned(), operation, value))
    });
    let changes = changes.collect::<Result<Vec<_>, Failure>>()?;
    match change_counters(call, group_id(fields)?, changes).await? {
        Answer::GroupCounters(counters) => {
            let counters: BTreeMap<_, _> = counters.counters.into_iter().collect();
            object(json!({ "GroupCounter": counters_to_json(counters.iter()) }))
        }
        _ => nothing(),
    }
}

/// Takes counters off: chosen ones, or all.
pub async fn delete_counters(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let group = group_id(fields)?;
    let named = fields.texts("GroupCounterKeys").map_err(wrong)?.filter(|keys| !keys.is_empty());
    let keys: Vec<String> = match named {
        Some(keys) => keys.into_iter().map(str::to_owned).collect(),
        None => all_counters(call, &group).await?.into_keys().collect(),
    };
    let changes: Vec<_> = keys.into_iter().map(|key| (key, GroupCounterOperation::Remove, 0)).collect();
    if !changes.is_empty() {
        change_counters(call, group, changes).await?;
    }
    nothing()
}

async fn change_counters(
    call: &Call<'_>,
    group: GroupId,
    changes: Vec<(String, GroupCounterOperation, i64)>,
) -> Result<Answer, Failure> {
    if changes.len() > call.row.items_max {
        return Err(codes::GROUP_ARGUMENT.because(format!("at most {} counters at a time", call.row.items_max)));
    }
    let id = call.shared().rng.next_u64();
    change(call, GroupChange::Counters { group, id, changes }).await
}
