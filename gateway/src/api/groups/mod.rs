//! `group_open_http_svc` and its neighbours: groups, for an application's own server (GRP, CON-10).
//!
//! - [`life`]: making, changing, ending groups. [`info`]: what groups are. [`members`]: who is in them.
//!   [`messages`]: what is said there. [`receipts`]: who has read it. [`content`]: attributes and counters.
//!   [`import`]: groups of before. [`rooms`]: live rooms. [`words`]: published names.
//!
//! Each command acts as an administrator of the application: in no member's name, and with every right that the table
//! of groups gives to administrators.

pub mod content;
pub mod import;
pub mod info;
pub mod life;
pub mod members;
pub mod messages;
pub mod receipts;
pub mod rooms;
pub mod words;

use backend::domain::{
    GroupId, UserId,
    act::{Act, Answer},
    change::{Change, Kind, group::GroupChange},
    groups::Refusal,
};

use self::words::wrong;
use super::{
    call::Call,
    codes::{self, Code, Failure, of_group_refusal, of_groups},
    fields::{Fields, Wrong},
};

/// The group that `GroupId` names.
fn group_id(fields: Fields<'_>) -> Result<GroupId, Failure> {
    let named = fields.required_text("GroupId").map_err(wrong)?;
    GroupId::new(named).ok_or_else(|| codes::GROUP_ID_INVALID.into())
}

/// The account that a field names.
fn user(fields: Fields<'_>, field: &'static str) -> Result<UserId, Failure> {
    let named = fields.required_text(field).map_err(wrong)?;
    UserId::new(named).ok_or_else(|| of_group_refusal(Refusal::UserUnknown))
}

/// The accounts that a field names: some, and no more than the command allows.
fn users(call: &Call<'_>, fields: Fields<'_>, field: &'static str) -> Result<Vec<UserId>, Failure> {
    some_users(fields, field, call.row.items_max, codes::GROUP_TOO_MANY_ACCOUNTS)
}

/// The same up to a number, over which the call is refused with a code.
fn some_users(
    fields: Fields<'_>,
    field: &'static str,
    users_max: usize,
    too_many: Code,
) -> Result<Vec<UserId>, Failure> {
    let names = fields.texts(field).map_err(wrong)?.unwrap_or_default();
    if names.is_empty() || names.len() > users_max {
        let code = if names.is_empty() { codes::GROUP_ARGUMENT } else { too_many };
        return Err(code.because(format!("{field} must name 1 to {users_max} accounts")));
    }
    let users: Option<Vec<UserId>> = names.into_iter().map(UserId::new).collect();
    users.ok_or_else(|| of_group_refusal(Refusal::UserUnknown))
}

/// The members that `MemberList` describes: no more than the command allows.
fn listed_members<'a>(call: &Call<'_>, fields: Fields<'a>) -> Result<Vec<Fields<'a>>, Failure> {
    let members = objects(fields, "MemberList")?;
    match members.len() > call.row.items_max {
        true => Err(codes::GROUP_TOO_MANY_ACCOUNTS.because(format!("MemberList holds at most {}", call.row.items_max))),
        false => Ok(members),
    }
}

/// The same, some.
fn some_members<'a>(call: &Call<'_>, fields: Fields<'a>) -> Result<Vec<Fields<'a>>, Failure> {
    let members = listed_members(call, fields)?;
    match members.is_empty() {
        true => Err(wrong(Wrong { field: "MemberList", expected: "an array of some objects" })),
        false => Ok(members),
    }
}

/// The objects of a list.
fn objects<'a>(fields: Fields<'a>, field: &'static str) -> Result<Vec<Fields<'a>>, Failure> {
    let list = fields.list(field).map_err(wrong)?.unwrap_or_default();
    let objects: Option<Vec<_>> = list.iter().map(Fields::of).collect();
    objects.ok_or_else(|| wrong(Wrong { field, expected: "an array of objects" }))
}

/// Has the administrator who calls change something.
async fn change(call: &Call<'_>, what: GroupChange) -> Result<Answer, Failure> {
    let kind = Kind::Group(Box::new(what));
    let act = Act::Change(Box::new(Change::by_admin(call.app, call.identifier.clone(), kind)));
    call.start(act).await.map_err(|error| of_groups(&error))
}

/// What became of each user.
type Outcomes = Vec<(UserId, Result<(), Refusal>)>;

/// The same for a change that names users.
async fn change_users(call: &Call<'_>, what: GroupChange) -> Result<Outcomes, Failure> {
    match change(call, what).await? {
        Answer::GroupUsers(outcomes) => Ok(outcomes),
        _ => Ok(Vec::new()),
    }
}

/// Fails where nothing at all could be done, for the reason that the first user could not.
fn ensure_some(outcomes: &Outcomes) -> Result<(), Failure> {
    match outcomes.first() {
        Some((_, Err(refusal))) if outcomes.iter().all(|(_, outcome)| outcome.is_err()) => {
            Err(of_group_refusal(*refusal))
        }
        _ => Ok(()),
    }
}
