//! The published names of what groups and members are, and of what callers may leave out of an answer.

use backend::domain::groups::table::{self, Rules};
use bytes::Bytes;
use protocol::message::{GroupJoinOption, GroupRole, GroupType, ReceiveOption};
use serde_json::{Value, json};

use crate::api::{
    codes::{self, Failure},
    fields::{Fields, Wrong},
    tags,
};

/// Types, by the names that answers have, and those that are understood as well.
const TYPES: [(GroupType, &str, &str); 4] = [
    (GroupType::Work, "Private", "Work"),
    (GroupType::Public, "Public", "Public"),
    (GroupType::Meeting, "ChatRoom", "Meeting"),
    (GroupType::Avchatroom, "AVChatRoom", "AVChatRoom"),
];

const ROLES: [(GroupRole, &str); 4] = [
    (GroupRole::None, "NotMember"),
    (GroupRole::Member, "Member"),
    (GroupRole::Admin, "Admin"),
    (GroupRole::Owner, "Owner"),
];

const JOIN_OPTIONS: [(GroupJoinOption, &str); 3] = [
    (GroupJoinOption::Free, "FreeAccess"),
    (GroupJoinOption::Approval, "NeedPermission"),
    (GroupJoinOption::Forbidden, "DisableApply"),
];

const RECEIVE_OPTIONS: [(ReceiveOption, &str); 3] = [
    (ReceiveOption::Notify, "AcceptAndNotify"),
    (ReceiveOption::Silent, "AcceptNotNotify"),
    (ReceiveOption::Refuse, "Discard"),
];

/// What is known by a name.
fn named<T: Copy>(table: &[(T, &'static str)], name: &str) -> Option<T> {
    table.iter().find(|(_, known)| *known == name).map(|(what, _)| *what)
}

/// The name of what is known.
fn name<T: Copy + PartialEq>(table: &[(T, &'static str)], what: T) -> &'static str {
    table.iter().find(|(known, _)| *known == what).map_or("", |(_, name)| name)
}

/// The published name of a type: in the server API and callbacks the older one.
pub fn type_name(kind: i32) -> &'static str {
    TYPES.iter().find(|(known, ..)| i32::from(*known) == kind).map_or("", |(_, name, _)| name)
}

/// The type that a field names, by either of its names.
pub fn kind(fields: Fields<'_>, field: &'static str) -> Result<Option<GroupType>, Failure> {
    let Some(text) = fields.text(field).map_err(wrong)? else { return Ok(None) };
    let found = TYPES.iter().find(|(_, name, other)| [*name, *other].contains(&text));
    let expected = "Private, Public, ChatRoom or AVChatRoom";
    found.map(|(kind, ..)| Some(*kind)).ok_or_else(|| wrong(Wrong { field, expected }))
}

pub fn role_name(role: i32) -> &'static str {
    name(&ROLES, GroupRole::try_from(role).unwrap_or_default())
}

/// The roles that a field names.
pub fn roles(fields: Fields<'_>, field: &'static str) -> Result<Vec<GroupRole>, Failure> {
    let names = fields.texts(field).map_err(wrong)?.unwrap_or_default();
    let roles: Option<Vec<_>> = names.into_iter().map(|text| named(&ROLES, text)).collect();
    roles.ok_or_else(|| wrong(Wrong { field, expected: "a list of Owner, Admin and Member" }))
}

/// The role that a member is to have.
pub fn new_role(fields: Fields<'_>, field: &'static str) -> Result<Option<GroupRole>, Failure> {
    let Some(text) = fields.text(field).map_err(wrong)? else { return Ok(None) };
    let role = named(&ROLES, text).filter(|role| matches!(role, GroupRole::Admin | GroupRole::Member));
    role.map(Some).ok_or_else(|| wrong(Wrong { field, expected: "Admin or Member" }))
}

/// What becomes of applications for a group.
pub fn join_option_name(option: i32, rules: &Rules) -> &'static str {
    match GroupJoinOption::try_from(option).unwrap_or_default() {
        GroupJoinOption::Default => name(&JOIN_OPTIONS, rules.join),
        option => name(&JOIN_OPTIONS, option),
    }
}

/// What is to become of applications.
pub fn join_option(fields: Fields<'_>, field: &'static str) -> Result<Option<i32>, Failure> {
    let Some(text) = fields.text(field).map_err(wrong)? else { return Ok(None) };
    let option = named(&JOIN_OPTIONS, text).map(|option| Some(option.into()));
    option.ok_or_else(|| wrong(Wrong { field, expected: "FreeAccess, NeedPermission or DisableApply" }))
}

/// What becomes of invitations: that is the type's, and nobody's to change.
pub fn invite_option_name(rules: &Rules) -> &'static str {
    if rules.invites { "FreeAccess" } else { "DisableInvite" }
}

/// Refuses to change what becomes of invitations.
pub fn ensure_invite_option(fields: Fields<'_>, kind: GroupType) -> Result<(), Failure> {
    let Some(text) = fields.text("InviteJoinOption").map_err(wrong)? else { return Ok(()) };
    match table::rules(kind).is_some_and(|rules| invite_option_name(rules) == text) {
        true => Ok(()),
        false => Err(codes::GROUP_ARGUMENT.because("InviteJoinOption follows from the type of the group")),
    }
}

pub fn receive_option_name(option: ReceiveOption) -> &'static str {
    name(&RECEIVE_OPTIONS, option)
}

/// What a member is to receive.
pub fn receive_option(fields: Fields<'_>, field: &'static str) -> Result<Option<ReceiveOption>, Failure> {
    let Some(text) = fields.text(field).map_err(wrong)? else { return Ok(None) };
    let expected = "AcceptAndNotify, AcceptNotNotify or Discard";
    named(&RECEIVE_OPTIONS, text).map(Some).ok_or_else(|| wrong(Wrong { field, expected }))
}

/// A switch that is `On` or `Off`.
pub fn on_off(fields: Fields<'_>, field: &'static str) -> Result<Option<bool>, Failure> {
    match fields.text(field).map_err(wrong)? {
        None => Ok(None),
        Some("On") => Ok(Some(true)),
        Some("Off") => Ok(Some(false)),
        Some(_) => Err(wrong(Wrong { field, expected: "On or Off" })),
    }
}

/// Custom fields: a list of objects with `Key` and `Value`.
pub fn custom<C: FromIterator<(String, Bytes)>>(fields: Fields<'_>, field: &'static str) -> Result<C, Failure> {
    let list = fields.list(field).map_err(wrong)?.unwrap_or_default();
    let pair = |item| {
        let item = Fields::of(item)?;
        Some((item.text("Key").ok()??.to_owned(), tags::custom_bytes(item.get("Value")?)?))
    };
    let pairs: Option<C> = list.iter().map(pair).collect();
    pairs.ok_or_else(|| wrong(Wrong { field, expected: "an array of objects with Key and Value" }))
}

/// Custom fields as they are told.
pub fn custom_to_json<'a>(fields: impl IntoIterator<Item = (&'a String, &'a Bytes)>, wanted: &Filter<'_>) -> Value {
    let fields = fields.into_iter().filter(|(name, _)| wanted.has(name));
    fields.map(|(name, value)| json!({ "Key": name, "Value": tags::custom_text(value) })).collect()
}

/// Which fields a caller wants; all of them if it does not say.
pub struct Filter<'a>(Option<Vec<&'a str>>);

impl<'a> Filter<'a> {
    pub const ALL: Filter<'static> = Filter(None);

    pub fn of(fields: Fields<'a>, field: &'static str) -> Result<Self, Failure> {
        fields.texts(field).map(Filter).map_err(wrong)
    }

    /// The same, but without it nothing is wanted.
    pub fn only(fields: Fields<'a>, field: &'static str) -> Result<Self, Failure> {
        Ok(Filter(Some(fields.texts(field).map_err(wrong)?.unwrap_or_default())))
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|names| names.contains(&name))
    }

    /// Whether anything is wanted.
    pub fn is_any(&self) -> bool {
        self.0.as_ref().is_none_or(|names| !names.is_empty())
    }
}

/// What is wrong with a field.
pub fn wrong(wrong: Wrong) -> Failure {
    codes::GROUP_ARGUMENT.because(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_the_table_has_a_name_and_is_understood_by_both() {
        for rules in &table::TABLE {
            let names = [type_name(rules.kind.into()), rules.name];
            for name in names {
                let body = json!({ "Type": name });
                assert_eq!(kind(Fields::of(&body).unwrap(), "Type").unwrap(), Some(rules.kind), "{name}");
            }
        }
        assert!(kind(Fields::of(&json!({ "Type": "Community" })).unwrap(), "Type").is_err());
    }

    #[test]
    fn a_filter_lets_through_what_it_names_and_all_if_there_is_none() {
        let body = json!({ "F": ["a"] });
        let fields = Fields::of(&body).unwrap();
        let filter = Filter::of(fields, "F").unwrap();
        assert!(filter.has("a") && !filter.has("b"));
        assert!(Filter::of(fields, "G").unwrap().has("b") && !Filter::only(fields, "G").unwrap().has("b"));
    }
}
