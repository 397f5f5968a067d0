//! Receipts in groups: which members have read a message, one by one (MSG-07). Only its sender is told.

use bytes::Bytes;
use protocol::message::{GroupReceipts, GroupRole, Message, event::What};

use super::Change;
use crate::domain::{
    Error, GroupId, Peer, UserId,
    act::{Answer, Staging},
    callbacks::{GroupRead, Happened, ReadNumbers},
    damaged,
    groups::{
        Refusal, access,
        records::{GroupRecord, MemberRecord},
    },
    keys::{self, Tail},
};

/// Notes that the user has read messages of a group.
pub(super) async fn note(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    seqs: &[u64],
) -> Result<Answer, Error> {
    let (app, user) = (change.app, &change.user);
    let peer: Peer = group.clone().into();
    let member = access::member(staging, app, group, user).await?;
    let record = access::load(staging, app, group).await?;
    let member = member.filter(|member| member.role() != GroupRole::None).ok_or(Refusal::RightMissing)?;
    let mut read = Vec::with_capacity(seqs.len());
    for seq in seqs {
        let message = change.present_message(staging, &peer, *seq).await?;
        if message.from == user.as_str() {
            return Err(Error::NotAllowed);
        }
        if !message.need_receipt {
            return Err(Error::Argument("the message asks for no receipt"));
        }
        if !is_asked(&message, &record, user, &member) {
            return Err(Error::Argument("the message asks those for receipts who were there when it was sent"));
        }
        let is_known = staging.tx.get(&keys::group_receipt(app, group, *seq, user)).await?.is_some();
        let count = count(staging.tx.get(&keys::group_receipts_count(app, group, *seq)).await?)?;
        read.push((message, is_known, count));
    }
    let mut numbers = Vec::new();
    for (message, is_known, mut count) in read {
        if !is_known {
            count += 1;
            let (now_ms, tx) = (staging.now_ms, staging.tx);
            tx.set(keys::group_receipt(app, group, message.seq, user), now_ms.to_le_bytes().to_vec());
            tx.set(keys::group_receipts_count(app, group, message.seq), count.to_le_bytes().to_vec());
            let unread = message.receivers.saturating_sub(count);
            numbers.push(ReadNumbers { seq: message.seq, read: count, unread });
        }
        if (!is_known || staging.again)
            && let Some(sender) = UserId::new(&message.from)
        {
            let unread = message.receivers.saturating_sub(count);
            let told = GroupReceipts { group: group.to_string(), seq: message.seq, read: count, unread };
            staging.append_stored(app, &sender, &What::GroupReceipts(told));
        }
    }
    if !numbers.is_empty() {
        let read = GroupRead { group: group.to_string(), kind: record.kind, user: user.to_string(), read: numbers };
        staging.tell_application(app, &Tail::from(group), Happened::GroupRead(read)).await?;
    }
    Ok(Answer::Done)
}

/// Whether a message asks a member for a receipt: who came later is not counted among its receivers. Where newcomers see
/// everything only the time tells.
pub(crate) fn is_asked(message: &Message, group: &GroupRecord, user: &UserId, member: &MemberRecord) -> bool {
    message.from != user.as_str()
        && access::is_for(message, user)
        && member.first_seq <= message.seq
        && (member.first_seq > group.first_seq.max(1) || member.joined_ms <= message.time_ms)
}

/// How many have read a message, from its stored form.
pub(crate) fn count(stored: Option<Bytes>) -> Result<u32, Error> {
    let Some(stored) = stored else { return Ok(0) };
    stored[..].try_into().map(u32::from_le_bytes).map_err(|_| damaged("count of receipts"))
}
