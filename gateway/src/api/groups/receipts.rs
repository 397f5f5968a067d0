//! Receipts of messages in groups: who has read them (MSG-07).

use backend::domain::{
    Error, UserId,
    act::Act,
    change::{Change, Kind},
    groups::{
        Refusal,
        read::{self, Asker, Receipts, ReceiptsQuery},
    },
    sync::PageLimit,
};
use serde_json::{Value, json};

use super::{group_id, messages::seqs, user, words::wrong};
use crate::api::{
    answers::{nothing, object},
    call::Call,
    codes::{self, Failure, of_groups},
    fields::{Fields, Wrong},
    table::Outcome,
};

/// Bytes of a page of names, at the most.
const PAGE_BYTES: usize = 4 << 20;

/// Says in a member's name that messages were read.
pub async fn send(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let (group, reader) = (group_id(fields)?, user(fields, "From_Account")?);
    let seqs = seqs(call, fields, "MsgSeqList")?;
    let kind = Kind::Receipts { peer: group.into(), seqs };
    let act = Act::Change(Box::new(Change::by_admin(call.app, reader, kind)));
    call.start(act).await.map_err(|error| of_groups(&error))?;
    nothing()
}

/// Tells how many have read messages that ask for receipts.
pub async fn counts(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let group = group_id(fields)?;
    let mut told = Vec::new();
    for seq in seqs(call, fields, "MsgSeqList")? {
        let query = ReceiptsQuery { seq, unread: false, after: None, limit: limit_of(1) };
        let found = read::receipts(&call.shared().store, call.app, Asker::Admin, &group, query).await;
        told.push(match asked(found) {
            Ok(found) => json!({ "MsgSeq": seq, "ReadNum": found.read, "UnreadNum": found.unread, "Code": 0 }),
            Err(failure) if failure.code == codes::RECEIPTS_UNKNOWN.0 => {
                json!({ "MsgSeq": seq, "ReadNum": 0, "UnreadNum": 0, "Code": failure.code })
            }
            Err(failure) => return Err(failure),
        });
    }
    object(json!({ "GroupMsgReceiptList": told }))
}

fn limit_of(entries_max: usize) -> PageLimit {
    PageLimit { entries_max, bytes_max: PAGE_BYTES }
}

/// What has become of a message that asks for receipts; of others there are none.
fn asked(found: Result<Receipts, Error>) -> Result<Receipts, Failure> {
    match found {
        Ok(found) if found.is_asked => Ok(found),
        Ok(_) | Err(Error::Group(Refusal::MessageUnknown)) => Err(codes::RECEIPTS_UNKNOWN.into()),
        Err(error) => Err(of_groups(&error)),
    }
}

/// Tells who has read a message, or has not.
pub async fn details(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let group = group_id(fields)?;
    let number = |field| fields.number(field).map_err(wrong);
    let seq = number("MsgSeq")?.ok_or_else(|| wrong(Wrong { field: "MsgSeq", expected: "a whole number" }))?;
    let unread = match number("Filter")?.unwrap_or(0) {
        0 => false,
        1 => true,
        _ => return Err(wrong(Wrong { field: "Filter", expected: "0 or 1" })),
    };
    // As published: more than there may be are as many as there may be.
    let most = call.row.items_max as u64;
    let entries_max = number("Count")?.unwrap_or(most).clamp(1, most) as usize;
    let after = fields.text("Cursor").map_err(wrong)?.filter(|cursor| !cursor.is_empty());
    let cursor = || wrong(Wrong { field: "Cursor", expected: "what the page before said" });
    let after = after.map(|after| UserId::new(after).ok_or_else(cursor)).transpose()?;
    let query = ReceiptsQuery { seq, unread, after, limit: limit_of(entries_max) };
    let found = asked(read::receipts(&call.shared().store, call.app, Asker::Admin, &group, query).await)?;
    let users = |account: &str, of: bool| -> Vec<Value> {
        found.users.iter().filter(|_| of == unread).map(|user| json!({ account: user.as_str() })).collect()
    };
    let cursor = found.users.last().filter(|_| found.more).map_or("", UserId::as_str);
    let is_finished = u32::from(!found.more);
    object(json!({
        "GroupId": group.to_string(), "MsgSeq": seq, "Cursor": cursor, "IsFinish": is_finished,
        // As some callers know it.
        "IsFinished": is_finished,
        "ReadList": users("Read_Account", false), "UnreadList": users("Unread_Account", true),
    }))
}
