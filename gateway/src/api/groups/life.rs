//! Making, changing and ending groups.

use backend::domain::{
    GroupId, UserId,
    act::Answer,
    change::group::{GroupChange, MemberUpdate, NewGroup},
    groups::{self, Refusal},
};
use protocol::message::{GroupType, GroupUpdate};
use serde_json::json;

use super::{
    change, group_id, user,
    words::{self, custom, wrong},
};
use crate::api::{
    answers::{nothing, object},
    call::Call,
    codes::{self, Failure, of_group_refusal, of_groups},
    fields::Fields,
    table::Outcome,
};

/// Makes a group.
pub async fn create(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let new = new_group(call, fields)?;
    let kind = new.kind;
    match change(call, GroupChange::Create(Box::new(new))).await? {
        Answer::GroupCreated(group) => {
            object(json!({ "GroupId": group.to_string(), "Type": words::type_name(kind.into()) }))
        }
        _ => nothing(),
    }
}

/// A group as `create_group` describes it.
pub fn new_group(call: &Call<'_>, fields: Fields<'_>) -> Result<NewGroup, Failure> {
    let kind = words::kind(fields, "Type")?.ok_or_else(|| codes::GROUP_ARGUMENT.because("Type is missing"))?;
    words::ensure_invite_option(fields, kind)?;
    let chosen = fields.text("GroupId").map_err(wrong)?.filter(|id| !id.is_empty());
    let group = match chosen {
        Some(id) => GroupId::new(id).ok_or(codes::GROUP_ID_INVALID)?,
        None => groups::generated_id(kind, &*call.shared().rng),
    };
    let owner = fields.text("Owner_Account").map_err(wrong)?.filter(|owner| !owner.is_empty());
    let owner = owner.map(|owner| UserId::new(owner).ok_or_else(|| of_group_refusal(Refusal::UserUnknown)));
    Ok(NewGroup {
        group: Some(group),
        is_generated: chosen.is_none(),
        kind,
        owner: owner.transpose()?,
        info: update(fields, "MaxMemberCount")?,
        members: founders(call, fields, kind)?,
        imported_ms: None,
    })
}

/// What is said of a group, by the names that making and changing it share.
fn update(fields: Fields<'_>, member_max: &'static str) -> Result<GroupUpdate, Failure> {
    let text = |field| fields.text(field).map_err(wrong).map(|text| text.map(str::to_owned));
    let muted = if fields.has("MuteAllMember") { "MuteAllMember" } else { "ShutUpAllMember" };
    Ok(GroupUpdate {
        name: text("Name")?,
        introduction: text("Introduction")?,
        notice: text("Notification")?,
        image_url: text("FaceUrl")?,
        join_option: words::join_option(fields, "ApplyJoinOption")?,
        muted_all: words::on_off(fields, muted)?,
        custom: custom(fields, "AppDefinedData")?,
        member_max: fields.number_u32(member_max).map_err(wrong)?,
        searchable: words::on_off(fields, "Searchable")?,
    })
}

/// Members of a group from its beginning.
fn founders(call: &Call<'_>, fields: Fields<'_>, kind: GroupType) -> Result<Vec<(UserId, MemberUpdate)>, Failure> {
    let members = super::listed_members(call, fields)?;
    // As published: who would be a member of a live room joins it.
    if kind == GroupType::Avchatroom && !members.is_empty() {
        return Err(of_group_refusal(Refusal::RightMissing));
    }
    let member = |member: Fields<'_>| {
        let update = MemberUpdate {
            role: words::new_role(member, "Role")?,
            name_card: member.text("NameCard").map_err(wrong)?.map(str::to_owned),
            custom: custom(member, "AppMemberDefinedData")?,
        };
        Ok((user(member, "Member_Account")?, update))
    };
    members.into_iter().map(member).collect()
}

/// Changes what is said of a group.
pub async fn modify(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let (group, update) = (group_id(fields)?, Box::new(update(fields, "MaxMemberNum")?));
    if fields.has("InviteJoinOption") {
        words::ensure_invite_option(fields, super::info::one(call, &group).await?.r#type())?;
    }
    change(call, GroupChange::Update { group, update }).await?;
    nothing()
}

/// Gives a group to another member.
pub async fn change_owner(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let transfer = GroupChange::Transfer { group: group_id(fields)?, to: user(fields, "NewOwner_Account")? };
    change(call, transfer).await?;
    nothing()
}

/// Ends a group.
pub async fn destroy(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    change(call, GroupChange::Dissolve { group: group_id(fields)? }).await?;
    nothing()
}

/// How many are in a group now: of a live room whoever is there, of others members with a device.
pub async fn online(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let group = group_id(fields)?;
    let present = crate::present::count(call.shared(), call.app, groups::read::Asker::Admin, &group).await;
    let present = present.map_err(|error| of_groups(&error))?;
    object(json!({ "OnlineMemberNum": present.members + present.guests }))
}
