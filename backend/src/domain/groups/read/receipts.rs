//! Who has read a message of a group, and who has not (MSG-07).

use std::ops::ControlFlow;

use futures::future::try_join_all;

use super::{Asker, Seen, behind, each_page, last_user};
use crate::{
    domain::{
        AppId, Error, GroupId, UserId,
        change::receipts,
        groups::{Refusal, access},
        keys::{self, Tail},
        sync::{PageLimit, decode_message},
    },
    store::{Lane, Store, Tx},
};

/// Who has read a message, or has not, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipts {
    /// Users of the page.
    pub users: Vec<UserId>,
    /// There are more.
    pub more: bool,
    /// How many have read it.
    pub read: u32,
    /// How many of those who were to receive it have not.
    pub unread: u32,
    /// The message asks for receipts.
    pub is_asked: bool,
}

/// Which page of those who have read a message, or have not.
#[derive(Clone, Debug)]
pub struct ReceiptsQuery {
    /// The message.
    pub seq: u64,
    /// Those who have not.
    pub unread: bool,
    /// Behind this user.
    pub after: Option<UserId>,
    /// Size of the page.
    pub limit: PageLimit,
}

/// Who has read a message that the asker has sent, or has not. Of those who have not, whoever was in
/// the group then and still is.
pub async fn receipts(
    store: &Store,
    app: AppId,
    asker: Asker,
    group: &GroupId,
    query: ReceiptsQuery,
) -> Result<Receipts, Error> {
    let group = group.clone();
    let read = async move |tx: &Tx| -> Result<Receipts, Error> {
        let ReceiptsQuery { seq, unread, after, limit } = query.clone();
        let seen = Seen::open(tx, app, &asker, &group).await?;
        if asker != Asker::Admin && seen.member.is_none() {
            return Err(Refusal::RightMissing.into());
        }
        let stored = tx.snapshot_get(&Tail::from(&group).message(app, seq)).await?.ok_or(Refusal::MessageUnknown)?;
        let message = decode_message(stored)?;
        if matches!(&asker, Asker::User(user) if message.from != user.as_str()) {
            return Err(Refusal::RightMissing.into());
        }
        let read = receipts::count(tx.snapshot_get(&keys::group_receipts_count(app, &group, seq)).await?)?;
        let mut found = Receipts {
            read,
            unread: message.receivers.saturating_sub(read),
            is_asked: message.need_receipt,
            ..Receipts::default()
        };
        let entries_max = limit.entries_max.max(1);
        let (begin, end) = match unread {
            false => keys::group_receipts(app, &group, seq),
            true => keys::members(app, &group),
        };
        let begin = after.as_ref().map_or(begin, |after| {
            behind(&match unread {
                false => keys::group_receipt(app, &group, seq, after),
                true => keys::member(app, &group, after),
            })
        });
        let more = each_page(tx, (begin, end), entries_max, async |rows| {
            let mut users = Vec::with_capacity(rows.len());
            for (key, stored) in rows {
                let user = last_user(&key)?;
                if !unread || receipts::is_asked(&message, &seen.record, &user, &access::decode_member(stored)?) {
                    users.push(user);
                }
            }
            let has_read = async |user: &UserId| match unread {
                true => Ok(tx.snapshot_get(&keys::group_receipt(app, &group, seq, user)).await?.is_some()),
                false => Ok::<_, Error>(false),
            };
            let have_read = try_join_all(users.iter().map(has_read)).await?;
            for (user, _) in users.into_iter().zip(have_read).filter(|(_, has_read)| !has_read) {
                if found.users.len() == entries_max {
                    return Ok(ControlFlow::Break(()));
                }
                found.users.push(user);
            }
            Ok(ControlFlow::Continue(()))
        });
        found.more = more.await?;
        Ok(found)
    };
    Ok(store.run(Lane::Read, "group_receipts", read).await?.0)
}
