//! `profile`: what is said of users (PROF-01 to PROF-04).

use backend::domain::{
    UserId,
    act::Act,
    change::{Change, Kind, profile::ProfileChange},
    profile::{self, CUSTOM_PREFIX, Chosen, Field, Invalid},
};
use protocol::message::Profile;
use serde_json::{Value, json};

use super::{
    answers::nothing,
    call::Call,
    codes::{self, Failure, of_profile},
    fields::{Fields, Wrong},
    named::Named,
    table::Outcome,
    tags,
};

/// Sets fields of a user's profile.
pub async fn set(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let user = fields.required_text("From_Account").map_err(wrong)?;
    let user = UserId::new(user).ok_or(codes::PROFILE_ACCOUNT)?;
    let items = tags::read(fields, "ProfileItem").map_err(wrong)?.filter(|items| !items.is_empty());
    let items = items.ok_or_else(|| codes::PROFILE_ARGUMENT.because("ProfileItem must hold some fields"))?;
    let mut profile = Profile::default();
    for (tag, value) in items {
        set_field(&mut profile, tag, value).map_err(|invalid| of_profile(&invalid.into()))?;
    }
    let kind = Kind::Profile(ProfileChange::Set(Box::new(profile)));
    let changed = call.start(Act::Change(Box::new(Change::by_admin(call.app, user, kind)))).await;
    changed.map_err(|error| of_profile(&error))?;
    nothing()
}

fn set_field(profile: &mut Profile, tag: &str, value: &Value) -> Result<(), Invalid> {
    let Some(field) = Field::of_tag(tag) else {
        if !tag.starts_with(CUSTOM_PREFIX) {
            return Err(Invalid::Unknown);
        }
        profile.custom.insert(tag.to_owned(), tags::custom_bytes(value).ok_or(Invalid::Type)?);
        return Ok(());
    };
    match value {
        Value::String(text) => match (field.set(profile, profile::Value::Text(text.clone())), text.parse()) {
            (Err(Invalid::Type), Ok(number)) => field.set(profile, profile::Value::Number(number)),
            (outcome, _) => outcome,
        },
        Value::Number(number) => {
            let number = number.as_u64().and_then(|number| u32::try_from(number).ok());
            field.set(profile, profile::Value::Number(number.ok_or(Invalid::Value)?))
        }
        _ => Err(Invalid::Type),
    }
}

/// Reads fields of profiles.
pub async fn get(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let names = required_texts(fields, "To_Account")?;
    if names.len() > call.row.items_max {
        return Err(codes::PROFILE_ARGUMENT.because("To_Account must name at most 100 accounts"));
    }
    let asked = required_texts(fields, "TagList")?;
    let chosen = Chosen::of_tags(asked.iter().copied()).map_err(|invalid| of_profile(&invalid.into()))?;
    let (named, users) = Named::of(&names);
    let profiles = profile::profiles(&call.shared().store, call.app, users, chosen).await;
    let profiles = profiles.map_err(|error| of_profile(&error))?;
    let outcome = |profile: Option<Profile>| match profile {
        Some(profile) => Ok(json!({ "ProfileItem": tags::of_profile(&profile, asked.iter().copied()) })),
        None => Err(codes::PROFILE_ACCOUNT.into()),
    };
    let blank = json!({ "ProfileItem": [] });
    Ok(named.answer("UserProfileItem", profiles.into_iter().map(outcome), &blank, codes::PROFILE_ACCOUNT))
}

fn required_texts<'a>(fields: Fields<'a>, field: &'static str) -> Result<Vec<&'a str>, Failure> {
    let texts = fields.texts(field).map_err(wrong)?.filter(|texts| !texts.is_empty());
    texts.ok_or_else(|| wrong(Wrong { field, expected: "an array of some strings" }))
}

fn wrong(wrong: Wrong) -> Failure {
    codes::PROFILE_ARGUMENT.because(wrong)
}
