//! `group_open_http_svc` and its neighbours: groups, for an application's own server (GRP, CON-10).
//!
//! Each command acts as an administrator of the application: in no member's name, and with every right that the table
//! of groups gives to administrators.

mod life;

use backend::domain::{
    GroupId,
    act::Act,
    change::{Change, Kind, group::GroupChange},
};

pub use life::*;

use super::{
    call::Call,
    codes::{self, Failure},
    fields::Fields,
};

/// The group that `GroupId` names.
fn group_id(fields: Fields<'_>) -> Result<GroupId, Failure> {
    let named = fields.required_text("GroupId").map_err(|wrong| codes::GROUP_ARGUMENT.because(wrong))?;
    GroupId::new(named).ok_or_else(|| codes::GROUP_ID_INVALID.into())
}

/// A change that the administrator who calls makes.
fn change(call: &Call<'_>, what: GroupChange) -> Act {
    let kind = Kind::Group(Box::new(what));
    Act::Change(Box::new(Change::by_admin(call.app, call.identifier.clone(), kind)))
}
