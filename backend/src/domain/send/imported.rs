//! Messages of before: what is imported into a group (GRP-19). Each has its own time, in order, and the next sequence.
//! Nobody is told, and nothing of it is unread: members may be imported later with what they have not read.
//!
//! All rows of members are looked at for each message: imports are no traffic.

use futures::future::try_join_all;
use prost::Message as _;
use protocol::message::Message;

use super::{group::Told, move_in_lists, unaddressed};
use crate::{
    domain::{
        Error, GroupId, Peer, UserId,
        act::{Author, Staging},
        change::conversation,
        damaged,
        groups::{
            Refusal, access,
            records::{GroupRecord, JoinedRecord, MemberRecord},
        },
        keys::{self, Tail},
        message::NewMessage,
        records::{ConversationRecord, Head, SentRecord},
    },
    store::ReadMode,
};

/// Refuses a message that is not the next one of a group that can be imported: its time is neither before the group's,
/// nor before the newest message's, nor in the future.
pub(super) async fn ensure_importable(
    staging: &mut Staging<'_>,
    new: &NewMessage,
    group: &GroupId,
    record: &GroupRecord,
) -> Result<(), Error> {
    if new.by != Author::Admin || !record.rules()?.is_imported {
        return Err(Refusal::RightMissing.into());
    }
    if !crate::domain::account::is_there(staging.get(&keys::account(new.app, &new.from)).await?)? {
        return Err(Refusal::UserUnknown.into());
    }
    let head = Head::from_stored(staging.get(&Tail::from(group).head(new.app)).await?)?;
    let sent_ms = new.treatment.sent_ms.unwrap_or(staging.now_ms);
    // Times are given in seconds: within one, what was written is taken as it comes.
    let is_in_order = (record.made_s()..=staging.now_ms / 1000).contains(&(sent_ms / 1000))
        && (head.seq < record.first_seq || head.time_ms / 1000 <= sent_ms / 1000);
    if is_in_order { Ok(()) } else { Err(Refusal::TimeInvalid.into()) }
}

/// Stores it.
pub(super) async fn store(
    told: &Told<'_>,
    staging: &mut Staging<'_>,
    new: &NewMessage,
    member: Option<MemberRecord>,
) -> Result<Head, Error> {
    let (app, group) = (told.app, told.group);
    let sender_count = told.sender_count(staging, new, member.as_ref()).await?;
    let message = Message { sender_count, ..unaddressed(new, &Head::default()) };
    let (before, head, _) = told.put(staging, &new.treatment, message).await?;
    told.note_sent(staging, new, &head, SentRecord { unreceived: true, hidden: true, ..SentRecord::default() });
    told.count_sent(staging, new, &head, sender_count, member);
    let members = access::members(staging.tx, app, group, ReadMode::Serializable).await?;
    let peer = Peer::Group(group.clone());
    move_in_lists(staging, app, members.iter().map(|(user, _)| (user, &peer)), &before, &head);
    let kept = members.iter().map(|(user, _)| staging.tx.get(&keys::kept(app, user, &peer)));
    let kept = try_join_all(kept.collect::<Vec<_>>()).await?;
    for ((user, member), kept) in members.into_iter().zip(kept) {
        let read = ConversationRecord {
            read_seq: head.seq,
            read_count: head.count_low,
            read_own: member.sent_count,
            ..conversation::decode(kept)?
        };
        staging.set(keys::kept(app, &user, &peer), read.encode_to_vec());
        if !told.record.rules()?.shows_earlier && member.joined_ms / 1000 > head.time_ms / 1000 {
            see_from(told, staging, &user, member, head.seq + 1).await?;
        }
    }
    Ok(head)
}

/// What a member who came later sees begins behind it.
async fn see_from(
    told: &Told<'_>,
    staging: &mut Staging<'_>,
    user: &UserId,
    member: MemberRecord,
    first_seq: u64,
) -> Result<(), Error> {
    let key = keys::joined_group(told.app, user, told.group);
    if let Some(stored) = staging.get(&key).await? {
        let joined = JoinedRecord::decode(stored).map_err(|_| damaged("joined group"))?;
        staging.set(key, JoinedRecord { first_seq, ..joined }.encode_to_vec());
    }
    let member = MemberRecord { first_seq, ..member };
    staging.set(keys::member(told.app, told.group, user), member.encode_to_vec());
    let mut record = access::load(staging, told.app, told.group).await?;
    record.newest_first_seq = record.newest_first_seq.max(first_seq);
    staging.set(keys::group(told.app, told.group), record.encode_to_vec());
    Ok(())
}
