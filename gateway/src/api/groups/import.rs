//! Groups of before, with their members and what was said in them (GRP-19). Nobody is told of what is imported, and the
//! application's server is not called back.

use backend::domain::{
    Error, UserId,
    act::{Act, Answer, Author},
    change::group::{GroupChange, ImportedMember, NewGroup},
    groups::{Refusal, table},
    message::{NewMessage, Treatment},
};
use bytes::Bytes;
use futures::future::join_all;
use prost::Message as _;
use protocol::message::Body;
use serde_json::{Value, json};

use super::{change, change_users, group_id, life, objects, some_members, user, words, words::wrong};
use crate::api::{
    answers::{ensure_account, nothing, object},
    call::Call,
    codes::{self, Failure, of_group_refusal, of_groups},
    fields::{Fields, Wrong},
    messages,
    msg_key::client_message_id,
    table::Outcome,
};

/// Members of one change, at the most.
const TOGETHER: usize = 100;

/// Makes a group of before.
pub async fn group(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let created_s = fields.number("CreateTime").map_err(wrong)?;
    let imported_ms = created_s.map_or_else(|| call.shared().clock.unix_ms(), |seconds| seconds.saturating_mul(1000));
    let new = NewGroup { imported_ms: Some(imported_ms), ..life::new_group(call, fields)? };
    match change(call, GroupChange::Create(Box::new(new))).await? {
        Answer::GroupCreated(group) => object(json!({ "GroupId": group.to_string() })),
        _ => nothing(),
    }
}

/// Brings members of before into a group.
pub async fn members(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let group = group_id(fields)?;
    let members = some_members(call, fields)?;
    let member = |member: Fields<'_>| {
        let joined_s = member.number("JoinTime").map_err(wrong)?;
        let imported = ImportedMember {
            role: words::new_role(member, "Role")?,
            joined_ms: joined_s.map(|seconds| seconds.saturating_mul(1000)),
            unread: member.number_u32("UnreadMsgNum").map_err(wrong)?.unwrap_or(0),
        };
        Ok((user(member, "Member_Account")?, imported))
    };
    let members = members.into_iter().map(member).collect::<Result<Vec<_>, Failure>>()?;
    let mut told = Vec::with_capacity(members.len());
    for some in members.chunks(TOGETHER) {
        let import = GroupChange::Import { group: group.clone(), members: some.to_vec() };
        told.extend(change_users(call, import).await?.into_iter().map(|(user, outcome)| {
            let result = match outcome {
                Ok(()) => 1,
                Err(Refusal::MemberAlready) => 2,
                Err(_) => 0,
            };
            json!({ "Member_Account": user.as_str(), "Result": result })
        }));
    }
    object(json!({ "MemberList": told }))
}

/// What one message says, and when it was sent.
struct Past {
    from: UserId,
    sent_ms: u64,
    id: Bytes,
    body: Bytes,
}

/// Imports what was said, oldest first. Each message has a result of its own.
pub async fn messages(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let group = group_id(fields)?;
    let kind = super::info::one(call, &group).await?.r#type();
    if table::rules(kind).is_none_or(|rules| !rules.is_imported) {
        return Err(of_group_refusal(Refusal::RightMissing));
    }
    let list = objects(fields, "MsgList")?;
    if list.is_empty() || list.len() > call.row.items_max {
        return Err(codes::GROUP_ARGUMENT.because(format!("MsgList must hold 1 to {}", call.row.items_max)));
    }
    // Unless it says so, nobody's list of conversations moves.
    let exclude_from_last_message = !fields.flag("RecentContactFlag").map_err(wrong)?;
    let mut started = Vec::with_capacity(list.len());
    for message in list {
        let past = past(call, group.as_str(), message).await;
        let seconds = message.number("SendTime").ok().flatten().unwrap_or(0);
        started.push((
            seconds,
            past.map(|past| {
                let sent_ms = Some(past.sent_ms);
                let treatment =
                    Treatment { unannounced: true, exclude_from_last_message, sent_ms, ..Treatment::default() };
                let new = NewMessage::new(call.app, past.from, group.clone(), past.id, past.body);
                let mut caller = call.caller();
                (caller.is_asked, caller.is_told) = (false, false);
                // Submitted one after the other: so they are stored in this order.
                call.start_from(Act::Send(NewMessage { treatment, by: Author::Admin, ..new }), caller)
            }),
        ));
    }
    let told = started.into_iter().map(|(seconds, started)| async move {
        let sent = match started {
            Ok(sent) => sent.await.map_err(|error| match error {
                Error::MessageTooLong { .. } => codes::IMPORTED_TOO_LONG.into(),
                error => of_groups(&error),
            }),
            Err(failure) => Err(failure),
        };
        match sent {
            Ok(Answer::Sent { seq, time_ms, .. }) => json!({ "MsgSeq": seq, "MsgTime": time_ms / 1000, "Result": 0 }),
            Ok(_) => json!({ "MsgSeq": 0, "MsgTime": seconds, "Result": 0 }),
            Err(failure) => json!({ "MsgSeq": 0, "MsgTime": seconds, "Result": failure.code }),
        }
    });
    let told: Vec<Value> = join_all(told).await;
    object(json!({ "ImportMsgResult": told }))
}

async fn past(call: &Call<'_>, group: &str, fields: Fields<'_>) -> Result<Past, Failure> {
    let from = user(fields, "From_Account")?;
    ensure_account(call, &from, codes::GROUP_ACCOUNT, of_groups).await?;
    let sent_s = fields.number("SendTime").map_err(wrong)?;
    let sent_s = sent_s.ok_or_else(|| wrong(Wrong { field: "SendTime", expected: "a whole number" }))?;
    let random = fields.number_u32("Random").map_err(wrong)?.unwrap_or(0);
    let (body, contents) = messages::body(fields, Body::default()).map_err(super::messages::of_body)?;
    messages::store_contents(call, contents).await?;
    let body = Bytes::from(body.encode_to_vec());
    // The same message imported once more is the same.
    let id = client_message_id(random, 1, group, &body, sent_s);
    Ok(Past { from, sent_ms: sent_s.saturating_mul(1000), id, body })
}
