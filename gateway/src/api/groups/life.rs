//! Making, changing and ending groups.

use backend::domain::change::group::GroupChange;

use super::{change, group_id};
use crate::api::{answers::nothing, call::Call, codes::of_groups, fields::Fields, table::Outcome};

/// Ends a group.
pub async fn destroy(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let dissolve = GroupChange::Dissolve { group: group_id(fields)? };
    call.start(change(call, dissolve)).await.map_err(|error| of_groups(&error))?;
    nothing()
}
