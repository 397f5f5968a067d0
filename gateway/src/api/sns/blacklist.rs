//! A user's blacklist is changed and read.

use backend::domain::{
    change::{
        Kind,
        blacklist::{self, BLACKLIST_MAX, Blacklisted},
    },
    sync::PageLimit,
};
use serde_json::{Value, json};
use xxhash_rust::xxh3::Xxh3;

use super::{change, existing_owner, others, owner, results, wrong};
use crate::api::{
    answers::object,
    call::Call,
    codes::{self, of_relations},
    fields::Fields,
    table::Outcome,
};

/// Puts users on a user's blacklist.
pub async fn add(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = owner(fields)?;
    let (named, users) = others(call, fields)?;
    let kind = |add| Kind::Blacklist { add, remove: Vec::new(), each: true };
    Ok(results(named, change(call, &owner, &users, kind).await?))
}

/// Takes users off a user's blacklist.
pub async fn delete(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = owner(fields)?;
    let (named, users) = others(call, fields)?;
    let kind = |remove| Kind::Blacklist { add: Vec::new(), remove, each: true };
    Ok(results(named, change(call, &owner, &users, kind).await?))
}

/// Reads a page of a user's blacklist.
pub async fn page(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = existing_owner(call, fields).await?;
    let number = |field| fields.number(field).map(|number| number.and_then(|number| usize::try_from(number).ok()));
    let start = number("StartIndex").map_err(wrong)?.unwrap_or(0);
    let max = number("MaxLimited").map_err(wrong)?.filter(|max| (1..=call.row.items_max).contains(max));
    let max = max.ok_or_else(|| codes::RELATION_ARGUMENT.because("MaxLimited must be 1 to 1000"))?;
    // It is short enough to be read whole.
    let limit = PageLimit { entries_max: BLACKLIST_MAX, bytes_max: usize::MAX };
    let read = blacklist::page(&call.shared().store, call.app, &owner, None, limit).await;
    let (listed, _) = read.map_err(|error| of_relations(&error))?;
    let items: Vec<Value> = listed.iter().skip(start).take(max).map(item).collect();
    let next = Some(start.saturating_add(max)).filter(|next| *next < listed.len()).unwrap_or(0);
    let sequence = sequence(&listed);
    object(json!({
        "BlackListItem": items, "StartIndex": next,
        // Documents have written it both ways.
        "CurrentSequence": sequence, "CurruentSequence": sequence,
    }))
}

fn item(listed: &Blacklisted) -> Value {
    json!({ "To_Account": listed.user.as_str(), "AddBlackTimeStamp": listed.added_ms / 1000 })
}

/// A number that differs for lists that do.
fn sequence(listed: &[Blacklisted]) -> u32 {
    let mut hash = Xxh3::new();
    for Blacklisted { user, added_ms } in listed {
        hash.update(user.as_str().as_bytes());
        hash.update(&added_ms.to_be_bytes());
    }
    (hash.digest() & u64::from(u32::MAX >> 1)) as u32
}
