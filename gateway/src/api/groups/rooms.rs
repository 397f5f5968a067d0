//! `group_open_avchatroom_http_svc`, and what else is for live rooms alone: who is there, who leads them, telling all of
//! them something.

use backend::domain::{
    GroupId, UserId,
    change::group::{GroupChange, MemberUpdate},
    groups::{Refusal, table},
    profile::{self, Chosen},
};
use prost::Message as _;
use protocol::{
    EncodedPush,
    message::{Body, GroupRole, Message},
};
use serde_json::{Value, json};

use super::{change, group_id, info, members, messages::of_body, some_members, user, users, words::wrong};
use crate::api::{
    answers::{nothing, object},
    call::Call,
    codes::{self, Failure, of_group_refusal, of_groups},
    fields::{Fields, Wrong},
    messages,
    msg_key::client_message_id,
    table::Outcome,
};

/// Members told in one answer.
const PAGE: usize = 500;

/// The live room that `GroupId` names.
async fn room(call: &Call<'_>, fields: Fields<'_>) -> Result<GroupId, Failure> {
    let group = group_id(fields)?;
    let kind = info::one(call, &group).await?.r#type();
    match table::rules(kind).is_some_and(table::Rules::is_room) {
        true => Ok(group),
        false => Err(of_group_refusal(Refusal::RightMissing)),
    }
}

/// Members that are told of a live room, over all pages.
const SHOWN_MAX: usize = 10_000;

/// Tells who is in a live room now through this node, by name. `Timestamp` says where a page begins, behind so many, and
/// `NextTimestamp` where the next one does; 0: that was all. With a `Mark`, who has it.
pub async fn present(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let room = room(call, fields).await?;
    let from = fields.number("Timestamp").map_err(wrong)?.unwrap_or(0) as usize;
    let limit = SHOWN_MAX.saturating_sub(from).min(PAGE);
    let (rooms, skipped) = (call.shared().router.rooms(), from.min(SHOWN_MAX));
    let mut page = match fields.number_u32("Mark").map_err(wrong)? {
        Some(mark) => rooms.marked(call.app, &room, mark, skipped, limit + 1),
        None => rooms.present(call.app, &room, skipped, limit + 1),
    };
    let next = if page.len() > limit && limit == PAGE { from + PAGE } else { 0 };
    page.truncate(limit);
    let (users, since_s): (Vec<UserId>, Vec<u64>) = page.into_iter().unzip();
    let told = named(call, users).await?.into_iter().zip(since_s);
    let told = told.map(|((user, nick, image), since_s)| {
        json!({ "Member_Account": user.as_str(), "NickName": nick, "Avatar": image, "JoinTime": since_s })
    });
    object(json!({ "MemberList": told.collect::<Vec<Value>>(), "NextTimestamp": next }))
}

/// Users with what they are called, and their images.
async fn named(call: &Call<'_>, users: Vec<UserId>) -> Result<Vec<(UserId, String, String)>, Failure> {
    let chosen = Chosen::of_tags(["Tag_Profile_IM_Nick", "Tag_Profile_IM_Image"]);
    let chosen = chosen.map_err(|invalid| of_groups(&invalid.into()))?;
    let profiles = profile::profiles(&call.shared().store, call.app, users.clone(), chosen).await;
    let profiles = profiles.map_err(|error| of_groups(&error))?.into_iter().map(Option::unwrap_or_default);
    let named = users.into_iter().zip(profiles);
    Ok(named.map(|(user, it)| (user, it.nick.unwrap_or_default(), it.image_url.unwrap_or_default())).collect())
}

/// Marks that an application may give.
const MARK_MIN: u32 = 1_000;

/// Gives those who are in a live room now marks, or takes them off. Tells for whom it has done so.
pub async fn mark(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let room = room(call, fields).await?;
    let command = fields.number("CommandType").map_err(wrong)?;
    let is_set = match command {
        Some(1) => true,
        Some(2) => false,
        _ => return Err(wrong(Wrong { field: "CommandType", expected: "1 or 2" })),
    };
    let members = some_members(call, fields)?.into_iter().map(|member| {
        let user = user(member, "Member_Account")?;
        Ok((user, marks(member)?))
    });
    let members = members.collect::<Result<Vec<_>, Failure>>()?;
    let rooms = call.shared().router.rooms();
    let done = members.iter().filter(|(user, marks)| rooms.mark(call.app, &room, user, marks, is_set));
    let told = done.map(|(user, marks)| json!({ "Member_Account": user.as_str(), "Marks": marks }));
    object(json!({ "CommandType": command, "MemberList": told.collect::<Vec<_>>() }))
}

fn marks(member: Fields<'_>) -> Result<Vec<u32>, Failure> {
    let list = member.list("Marks").map_err(wrong)?.unwrap_or_default();
    let number = |mark: &Value| u32::try_from(mark.as_u64()?).ok().filter(|mark| *mark >= MARK_MIN);
    let marks: Option<Vec<u32>> = list.iter().map(number).collect();
    let marks = marks.filter(|marks| !marks.is_empty());
    marks.ok_or_else(|| wrong(Wrong { field: "Marks", expected: "an array of some whole numbers from 1000 on" }))
}

/// Says which users are in a live room now.
pub async fn check(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let (room, users) = (room(call, fields).await?, users(call, fields, "Member_Account")?);
    let are_in = call.shared().router.rooms().are_in(call.app, &room, &users);
    let told = users.iter().zip(are_in);
    let told = told.map(|(user, is_in)| json!({ "Member_Account": user.as_str(), "Result": u32::from(is_in) }));
    object(json!({ "MemberList": told.collect::<Vec<_>>() }))
}

/// Has users lead a live room, or not any more.
pub async fn modify_admin(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let (room, users) = (room(call, fields).await?, users(call, fields, "Admin_Account")?);
    let role = match fields.number("CommandType").map_err(wrong)? {
        Some(1) => GroupRole::Admin,
        Some(2) => GroupRole::Member,
        _ => return Err(wrong(Wrong { field: "CommandType", expected: "1 or 2" })),
    };
    for member in users {
        let update = Box::new(MemberUpdate { role: Some(role), ..MemberUpdate::default() });
        change(call, GroupChange::Member { group: room.clone(), member, update }).await?;
    }
    nothing()
}

/// Tells who leads a live room beside its owner.
pub async fn admins(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let room = room(call, fields).await?;
    let admins = members::read(call, &room, vec![GroupRole::Admin], usize::MAX).await?;
    let admins = admins.iter().filter_map(|member| UserId::new(&member.user)).collect();
    let told = named(call, admins).await?.into_iter();
    let told =
        told.map(|(user, nick, image)| json!({ "Admin_Account": user.as_str(), "NickName": nick, "Avatar": image }));
    object(json!({ "Admin_List": told.collect::<Vec<_>>() }))
}

/// Tells everybody who is in a live room now, guests among them, whichever it is. Nothing is kept.
pub async fn broadcast(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let from = super::messages::sender(call, fields).await?;
    let random = fields.number_u32("Random").map_err(wrong)?;
    let random = random.ok_or_else(|| wrong(Wrong { field: "Random", expected: "a whole number of 32 bits" }))?;
    let (body, contents) = messages::body(fields, Body::default()).map_err(of_body)?;
    messages::store_contents(call, contents).await?;
    let (body, shared) = (body.encode_to_vec(), call.shared());
    if body.len() > shared.config.message_bytes_max {
        return Err(codes::GROUP_MESSAGE_TOO_LONG.into());
    }
    let time_ms = shared.clock.unix_ms();
    let id = client_message_id(random, 0, "", &body, time_ms);
    let message =
        Message { from: from.to_string(), time_ms, client_message_id: id, body: body.into(), ..Message::default() };
    // Written once, whoever is told.
    shared.router.push_to_rooms(call.app, &EncodedPush::message(message.encode_to_vec().into()));
    nothing()
}
