//! `all_member_push`: telling something to everybody, or to all with certain attributes or tags (MSG-14).

use std::collections::{BTreeMap, BTreeSet};

use backend::domain::{
    UserId,
    announcement::{self, Announced, NewAnnouncement, Quota},
    audience::{self, AttributeNames, Audience, AudienceChange, Condition, NAME_BYTES_MAX, TAGS_PER_CALL_MAX},
};
use prost::Message as _;
use protocol::message::Body;
use serde_json::{Map, Value, json};

use super::{
    answers::{ensure_account, nothing, object},
    call::Call,
    codes::{self, Failure, of_announcements, of_message_field, of_messages},
    fields::{Fields, Wrong},
    messages,
    table::Outcome,
};

/// Makes an announcement.
pub async fn push(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let wrong = |wrong: Wrong| of_message_field(&wrong);
    let from = match fields.has("From_Account") {
        true => messages::user(fields, "From_Account")?,
        false => call.identifier.clone(),
    };
    let random = fields.number_u32("MsgRandom").map_err(wrong)?.ok_or(codes::MSG_RANDOM)?;
    let life_s = fields.number("MsgLifeTime").map_err(wrong)?.unwrap_or(0);
    if life_s > announcement::LIFE_S_MAX {
        return Err(codes::MSG_LIFE_TIME_RANGE.into());
    }
    let condition = condition(call, fields).await?;
    let (body, contents) = messages::body(fields, Body::default())?;
    let body = body.encode_to_vec();
    let shared = call.shared();
    if body.len() > shared.config.message_bytes_max {
        return Err(codes::MESSAGE_TOO_LONG.into());
    }
    ensure_account(call, &from, codes::FROM_ACCOUNT, of_messages).await?;
    messages::store_contents(call, contents).await?;
    let new = NewAnnouncement { from, random, life_s, condition, body: body.into() };
    let settings = call.settings().await?;
    let quota = Quota { per_day: settings.announcements_per_day, interval_ms: settings.announcements_interval_ms };
    let made = announcement::announce(&shared.store, call.app, new, quota, shared.clock.unix_ms()).await;
    match made.map_err(|error| of_messages(&error))? {
        Announced::Task(name) => object(json!({ "TaskId": name })),
        Announced::TooSoon => Err(codes::ANNOUNCED_TOO_SOON.into()),
        Announced::DayFull => Err(codes::ANNOUNCED_TOO_OFTEN.into()),
    }
}

async fn condition(call: &Call<'_>, fields: Fields<'_>) -> Result<Condition, Failure> {
    let wrong = |wrong: Wrong| codes::CONDITION.because(wrong);
    let Some(said) = fields.object("Condition").map_err(wrong)? else { return Ok(Condition::default()) };
    let tags = |field| said.texts(field).map_err(wrong).and_then(|tags| owned_tags(tags.unwrap_or_default()));
    let attributes = |field| match said.object(field).map_err(wrong)? {
        Some(values) => attributes(values, field),
        None => Ok(BTreeMap::new()),
    };
    let condition = Condition {
        attributes_or: attributes("AttrsOr")?,
        attributes_and: attributes("AttrsAnd")?,
        tags_or: tags("TagsOr")?,
        tags_and: tags("TagsAnd")?,
    };
    condition.check().map_err(|error| codes::CONDITION.because(error))?;
    if !condition.attributes_or.is_empty() || !condition.attributes_and.is_empty() {
        let names = names(call).await?;
        let mut asked = condition.attributes_or.keys().chain(condition.attributes_and.keys());
        if let Some(unknown) = asked.find(|asked| names.values().all(|name| name != *asked)) {
            return Err(codes::ATTRIBUTE_UNKNOWN.because(unknown));
        }
    }
    Ok(condition)
}

/// Names attributes of the application's users.
pub async fn set_names(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let named = fields.object("AttrNames").map_err(|wrong| codes::ATTRIBUTE_UNKNOWN.because(wrong))?;
    let named = named.ok_or(codes::ATTRIBUTE_UNKNOWN)?;
    let mut changes = AttributeNames::new();
    for (number, name) in named.all() {
        let number = number.parse().ok().filter(|number| *number < audience::ATTRIBUTES_MAX);
        let number = number.ok_or_else(|| codes::ATTRIBUTE_UNKNOWN.because("attributes are numbered from 0 to 9"))?;
        let name = name.as_str().filter(|name| name.len() <= NAME_BYTES_MAX).ok_or(codes::ATTRIBUTE_LENGTH)?;
        changes.insert(number, name.to_owned());
    }
    let done = audience::name_attributes(&call.shared().store, call.app, changes).await;
    done.map_err(|error| of_announcements(&error))?;
    nothing()
}

/// Says how the attributes are named.
pub async fn get_names(call: &Call<'_>, _: Fields<'_>) -> Outcome {
    let names = names(call).await?.into_iter().map(|(number, name)| (number.to_string(), name.into()));
    object(json!({ "AttrNames": names.collect::<Map<String, Value>>() }))
}

/// Gives users' attributes values.
pub async fn set_attributes(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let change = |user: Fields<'_>| {
        let values = user.object("Attrs").ok().flatten().ok_or(codes::ATTRIBUTE_UNKNOWN)?;
        Ok(AudienceChange::SetAttributes(attributes(values, "Attrs")?))
    };
    change_users(call, fields, "UserAttrs", change).await
}

/// Takes attributes from users.
pub async fn remove_attributes(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let change = |user: Fields<'_>| {
        let names = user.texts("Attrs").ok().flatten().ok_or(codes::ATTRIBUTE_UNKNOWN)?;
        Ok(AudienceChange::RemoveAttributes(names.into_iter().map(str::to_owned).collect::<BTreeSet<_>>()))
    };
    change_users(call, fields, "UserAttrs", change).await
}

/// Puts tags on users.
pub async fn add_tags(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    change_users(call, fields, "UserTags", |user| Ok(AudienceChange::AddTags(tags_of(user)?))).await
}

/// Takes tags off users.
pub async fn remove_tags(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    change_users(call, fields, "UserTags", |user| Ok(AudienceChange::RemoveTags(tags_of(user)?))).await
}

/// Takes all tags off users.
pub async fn remove_all_tags(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let users = users(call, fields)?;
    change(call, users.into_iter().map(|user| (user, AudienceChange::RemoveAllTags)).collect()).await
}

/// Says which attributes users have.
pub async fn get_attributes(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let told = |user: &UserId, said: Audience| json!({ "To_Account": user.as_str(), "Attrs": said.attributes });
    tell_users(call, fields, "UserAttrs", told).await
}

/// Says which tags users have.
pub async fn get_tags(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let told = |user: &UserId, said: Audience| json!({ "To_Account": user.as_str(), "Tags": said.tags });
    tell_users(call, fields, "UserTags", told).await
}

async fn tell_users(call: &Call<'_>, fields: Fields<'_>, list: &str, told: fn(&UserId, Audience) -> Value) -> Outcome {
    let users = users(call, fields)?;
    let said = audience::of_users(&call.shared().store, call.app, users.clone()).await;
    let said = said.map_err(|error| of_announcements(&error))?;
    let told: Vec<Value> = users.iter().zip(said).map(|(user, said)| told(user, said)).collect();
    object(json!({ list: told }))
}

async fn change_users<'a>(
    call: &Call<'_>,
    fields: Fields<'a>,
    list: &'static str,
    to_change: impl Fn(Fields<'a>) -> Result<AudienceChange, Failure>,
) -> Outcome {
    let named = fields.list(list).map_err(|wrong| of_message_field(&wrong))?.unwrap_or_default();
    let mut changes = Vec::with_capacity(named.len());
    for value in named {
        let user = Fields::of(value).ok_or(codes::BODY_NOT_OBJECT)?;
        changes.push((messages::user(user, "To_Account")?, to_change(user)?));
    }
    check_count(call, changes.len())?;
    change(call, changes).await
}

async fn change(call: &Call<'_>, changes: Vec<(UserId, AudienceChange)>) -> Outcome {
    let done = audience::change(&call.shared().store, call.app, changes).await;
    done.map_err(|error| of_announcements(&error))?;
    nothing()
}

fn users(call: &Call<'_>, fields: Fields<'_>) -> Result<Vec<UserId>, Failure> {
    let names = fields.texts("To_Account").map_err(|wrong| of_message_field(&wrong))?.ok_or(codes::TO_ACCOUNT)?;
    check_count(call, names.len())?;
    names.into_iter().map(|name| UserId::new(name).ok_or(codes::TO_ACCOUNT.into())).collect()
}

fn check_count(call: &Call<'_>, count: usize) -> Result<(), Failure> {
    match count {
        0 => Err(codes::TO_ACCOUNT.into()),
        count if count > call.row.items_max => Err(codes::TOO_MANY_ACCOUNTS.into()),
        _ => Ok(()),
    }
}

fn tags_of(user: Fields<'_>) -> Result<Vec<String>, Failure> {
    let tags = user.texts("Tags").map_err(|wrong| codes::CONDITION.because(wrong))?;
    owned_tags(tags.ok_or(codes::CONDITION)?)
}

fn owned_tags(tags: Vec<&str>) -> Result<Vec<String>, Failure> {
    if tags.len() > TAGS_PER_CALL_MAX {
        return Err(codes::TOO_MANY_TAGS.into());
    }
    let fits = |tag: &&str| (1..=NAME_BYTES_MAX).contains(&tag.len());
    match tags.iter().all(fits) {
        true => Ok(tags.into_iter().map(str::to_owned).collect()),
        false => Err(codes::TAG_LENGTH.into()),
    }
}

fn attributes(values: Fields<'_>, field: &'static str) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |(name, value): (&String, &Value)| {
        let value = value.as_str().ok_or_else(|| codes::ATTRIBUTE_UNKNOWN.because(field))?;
        match (1..=NAME_BYTES_MAX).contains(&name.len()) && value.len() <= NAME_BYTES_MAX {
            true => Ok((name.clone(), value.to_owned())),
            false => Err(codes::ATTRIBUTE_LENGTH.into()),
        }
    };
    values.all().map(pair).collect()
}

async fn names(call: &Call<'_>) -> Result<AttributeNames, Failure> {
    let names = audience::attribute_names(&call.shared().store, call.app).await;
    names.map_err(|error| of_announcements(&error))
}
