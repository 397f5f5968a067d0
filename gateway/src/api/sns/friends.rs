//! Friendships are made, changed and ended.

use std::collections::BTreeMap;

use backend::domain::{
    UserId,
    change::{
        Kind,
        friends::{FriendUpdate, FriendsChange, ImportedFriend, NewFriend},
    },
    friends::CUSTOM_PREFIX,
};
use bytes::Bytes;
use serde_json::Value;

use super::{change, change_once, ensure_some, is_second, others, owner, results, wrong};
use crate::api::{
    answers::nothing,
    call::Call,
    codes::{self, Failure},
    fields::{Fields, Wrong},
    named::Named,
    table::Outcome,
    tags,
};

/// What the name of each source of a friendship begins with.
pub(super) const SOURCE_PREFIX: &str = "AddSource_Type_";
pub(super) const REMARK: &str = "Tag_SNS_IM_Remark";
pub(super) const GROUP: &str = "Tag_SNS_IM_Group";

const ADD_TYPES: [&str; 2] = ["Add_Type_Both", "Add_Type_Single"];
const DELETE_TYPES: [&str; 2] = ["Delete_Type_Both", "Delete_Type_Single"];

/// Asks for friendships, or makes them without asking.
pub async fn add(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = owner(fields)?;
    let new = |item: Fields<'_>| {
        let text = |field| Ok::<_, Failure>(item.text(field).map_err(wrong)?.unwrap_or_default().to_owned());
        let (remark, list, wording) = (text("Remark")?, text("GroupName")?, text("AddWording")?);
        Ok(NewFriend { remark, list, source: source(item)?, wording })
    };
    let (named, friends) = items(call, fields, "AddFriendItem", new)?;
    let one_way = is_second(fields, "AddType", ADD_TYPES, Some(false))?;
    let force = fields.flag("ForceAddFlags").map_err(wrong)?;
    let kind = |friends| Kind::Friends(FriendsChange::Add { friends, one_way, force });
    Ok(results(named, change(call, &owner, &friends, kind).await?))
}

/// Makes others friends of a user, one way, without asking.
pub async fn import(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = owner(fields)?;
    let imported = |item: Fields<'_>| {
        let text = |field| Ok::<_, Failure>(item.text(field).map_err(wrong)?.unwrap_or_default().to_owned());
        Ok(ImportedFriend {
            remark: text("Remark")?,
            lists: item
                .texts("GroupName")
                .map_err(wrong)?
                .unwrap_or_default()
                .iter()
                .map(ToString::to_string)
                .collect(),
            source: source(item)?,
            wording: text("AddWording")?,
            added_ms: item.number("AddTime").map_err(wrong)?.unwrap_or(0).saturating_mul(1000),
            custom: custom(tags::read(item, "CustomItem").map_err(wrong)?.unwrap_or_default())?,
        })
    };
    let (named, friends) = items(call, fields, "AddFriendItem", imported)?;
    let kind = |friends| Kind::Friends(FriendsChange::Import { friends });
    Ok(results(named, change(call, &owner, &friends, kind).await?))
}

/// Changes what a user keeps about friends.
pub async fn update(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = owner(fields)?;
    let (named, friends) = items(call, fields, "UpdateItem", friend_update)?;
    let kind = |friends| Kind::Friends(FriendsChange::Update { friends });
    Ok(results(named, change(call, &owner, &friends, kind).await?))
}

fn friend_update(item: Fields<'_>) -> Result<FriendUpdate, Failure> {
    const VALUE: &str = "the Value of Tag_SNS_IM_Remark must be a string, that of Tag_SNS_IM_Group an array of strings";
    let pairs = tags::read(item, "SnsItem").map_err(wrong)?.filter(|pairs| !pairs.is_empty());
    let pairs = pairs.ok_or_else(|| wrong(Wrong { field: "SnsItem", expected: "an array of some fields" }))?;
    let mut update = FriendUpdate::default();
    let mut others = Vec::new();
    for (tag, value) in pairs {
        let taken = match tag {
            REMARK => value.as_str().map(|remark| update.remark = Some(remark.to_owned())),
            GROUP => texts(value).map(|lists| update.lists = Some(lists)),
            _ => {
                others.push((tag, value));
                Some(())
            }
        };
        taken.ok_or_else(|| codes::RELATION_ARGUMENT.because(VALUE))?;
    }
    update.custom = custom(others)?;
    Ok(update)
}

/// Ends friendships.
pub async fn delete(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = owner(fields)?;
    let (named, friends) = others(call, fields)?;
    let one_way = is_second(fields, "DeleteType", DELETE_TYPES, Some(true))?;
    let kind = |friends| Kind::Friends(FriendsChange::Delete { friends, one_way });
    Ok(results(named, change(call, &owner, &friends, kind).await?))
}

/// Ends all friendships of a user.
pub async fn delete_all(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = owner(fields)?;
    let one_way = is_second(fields, "DeleteType", DELETE_TYPES, Some(true))?;
    let kind = Kind::Friends(FriendsChange::DeleteAll { friends: Vec::new(), one_way });
    change_once(call, &owner, kind).await?;
    nothing()
}

/// Whom a list of objects names, and what each object says of that account.
fn items<'a, T>(
    call: &Call<'_>,
    fields: Fields<'a>,
    field: &'static str,
    read: impl Fn(Fields<'a>) -> Result<T, Failure>,
) -> Result<(Named<'a>, Vec<(UserId, T)>), Failure> {
    let list = fields.list(field).map_err(wrong)?.unwrap_or_default();
    ensure_some(field, list.len(), call.row.items_max)?;
    let item = |item: &'a Value| {
        let item = Fields::of(item).ok_or_else(|| wrong(Wrong { field, expected: "an array of objects" }))?;
        Ok((item.required_text("To_Account").map_err(wrong)?, read(item)?))
    };
    Ok(Named::with(list.iter().map(item).collect::<Result<Vec<_>, Failure>>()?))
}

fn source(item: Fields<'_>) -> Result<String, Failure> {
    let source = item.required_text("AddSource").map_err(wrong)?.strip_prefix(SOURCE_PREFIX);
    let source = source.ok_or(Wrong { field: "AddSource", expected: "AddSource_Type_ and a keyword" });
    source.map(str::to_owned).map_err(wrong)
}

/// Custom fields; the domain knows which of them there are.
fn custom(pairs: Vec<(&str, &Value)>) -> Result<BTreeMap<String, Bytes>, Failure> {
    let field = |(tag, value): (&str, &Value)| match tags::custom_bytes(value) {
        Some(value) if tag.starts_with(CUSTOM_PREFIX) => Ok((tag.to_owned(), value)),
        _ => Err(codes::RELATION_ARGUMENT.because(format!("{tag} is no such field, or its value of another type"))),
    };
    pairs.into_iter().map(field).collect()
}

/// Strings; a single one may stand alone.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        value => value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
    }
}
