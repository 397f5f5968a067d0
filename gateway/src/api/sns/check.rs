//! How users stand to each other.

use backend::domain::friends::{self, FRIENDS_MAX, Which};
use protocol::message::Relation;
use serde_json::json;

use super::{existing_owner, is_second, others};
use crate::api::{
    call::Call,
    codes::{self, Failure, of_relations},
    fields::Fields,
    table::Outcome,
};

/// The published names of one kind of relation.
struct Names {
    list: &'static str,
    /// Of the ways to check: one way, both ways.
    types: [&'static str; 2],
    none: &'static str,
    user: &'static str,
    other: &'static str,
    both: &'static str,
}

const FRIENDS: Names = Names {
    list: "InfoItem",
    types: ["CheckResult_Type_Single", "CheckResult_Type_Both"],
    none: "CheckResult_Type_NoRelation",
    user: "CheckResult_Type_AWithB",
    other: "CheckResult_Type_BWithA",
    both: "CheckResult_Type_BothWay",
};

const BLACKLIST: Names = Names {
    list: "BlackListCheckItem",
    types: ["BlackCheckResult_Type_Single", "BlackCheckResult_Type_Both"],
    none: "BlackCheckResult_Type_NO",
    user: "BlackCheckResult_Type_AWithB",
    other: "BlackCheckResult_Type_BWithA",
    both: "BlackCheckResult_Type_BothWay",
};

/// Says who is whose friend.
pub async fn friends(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    relations(call, fields, Which::Friends, &FRIENDS).await
}

/// Says who is on whose blacklist.
pub async fn blacklist(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    relations(call, fields, Which::Blacklist, &BLACKLIST).await
}

async fn relations(call: &Call<'_>, fields: Fields<'_>, which: Which, names: &Names) -> Outcome {
    let owner = existing_owner(call, fields).await?;
    let (named, users) = others(call, fields)?;
    let one_way = !is_second(fields, "CheckType", names.types, None)?;
    let mut found = Vec::with_capacity(users.len());
    for some in users.chunks(FRIENDS_MAX) {
        let store = &call.shared().store;
        let relations = friends::relations(store, call.app, &owner, some.to_vec(), which, one_way).await;
        found.extend(relations.map_err(|error| of_relations(&error))?);
    }
    let outcome = |relation: Option<Relation>| {
        let name = match relation.ok_or(codes::RELATION_ACCOUNT)? {
            Relation::None => names.none,
            Relation::User => names.user,
            Relation::Other => names.other,
            Relation::Both => names.both,
        };
        Ok::<_, Failure>(json!({ "Relation": name }))
    };
    let outcomes = found.into_iter().map(outcome);
    Ok(named.answer(names.list, outcomes, &json!({ "Relation": names.none }), codes::RELATION_ACCOUNT))
}
