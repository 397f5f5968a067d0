//! What a user keeps about friends is changed: remarks, custom fields, lists (REL-04, REL-09 to REL-11), and how far
//! requests are read (REL-07).

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::message::{FriendRequestsRead, event::What};

use super::{Book, Change, FriendUpdate, ListsUpdate, check_list, check_lists, outcome};
use crate::domain::{
    Error, UserId,
    act::{Related, RelationOutcome, Staging},
    friends::{FRIENDS_MAX, Refusal},
    profile::{self, CUSTOM_FIELDS_MAX},
    settings::Settings,
};

/// Refuses custom fields that the application has not declared.
pub(super) fn check_declared<'a>(
    all: impl IntoIterator<Item = &'a BTreeMap<String, Bytes>>,
    settings: &Settings,
) -> Result<(), Error> {
    let is_declared = |name: &String| settings.friend_custom_fields.contains(name);
    let fits = |custom: &BTreeMap<String, Bytes>| custom.len() <= CUSTOM_FIELDS_MAX && custom.keys().all(is_declared);
    match all.into_iter().all(fits) {
        true => Ok(()),
        false => Err(Error::Argument("a custom field is not one that the application has declared")),
    }
}

/// Changes what is kept about each.
pub(super) async fn update(
    staging: &mut Staging<'_>,
    change: &Change,
    book: &mut Book,
    friends: &[(UserId, FriendUpdate)],
) -> Result<Vec<RelationOutcome>, Error> {
    let settings = staging.settings(change.app).await?;
    check_declared(friends.iter().map(|(_, friend)| &friend.custom), &settings)?;
    let mut outcomes = Vec::with_capacity(friends.len());
    for (other, update) in friends {
        let Some(before) = book.friend(staging, other).await? else {
            outcomes.push(outcome(other, Err(Refusal::Invalid)));
            continue;
        };
        let lists = match &update.lists {
            None => book.present(&before.lists),
            Some(names) => match book.list_numbers(names, settings.friend_lists_max) {
                Ok(lists) => lists,
                Err(refusal) => {
                    outcomes.push(outcome(other, Err(refusal)));
                    continue;
                }
            },
        };
        let mut now = before.clone();
        now.lists = lists;
        if let Some(remark) = &update.remark {
            now.remark = remark.clone();
        }
        profile::set_custom(&mut now.custom, &update.custom);
        if now != before {
            book.put(staging, other, Some(&before), now).await?;
        }
        outcomes.push(outcome(other, Ok(Related::Done)));
    }
    Ok(outcomes)
}

pub(super) fn check_lists_update(update: &ListsUpdate) -> Result<(), Error> {
    let ListsUpdate { lists, delete, rename, add, remove } = update;
    check_lists(lists)?;
    if lists.is_empty() {
        return Err(Error::Argument("no friend list is named"));
    }
    if add.len() + remove.len() > FRIENDS_MAX {
        return Err(Error::Argument("at most 100 users are named in one change"));
    }
    let has_members = !add.is_empty() || !remove.is_empty();
    match (*delete, rename.is_empty()) {
        (true, true) if !has_members => Ok(()),
        (false, true) => Ok(()),
        (false, false) if !has_members && lists.len() == 1 => check_list(rename),
        _ => Err(Error::Argument("friend lists are deleted, one of them renamed, or friends put on and taken off")),
    }
}

/// Changes friend lists.
pub(super) async fn lists(
    staging: &mut Staging<'_>,
    change: &Change,
    book: &mut Book,
    update: &ListsUpdate,
) -> Result<Vec<RelationOutcome>, Error> {
    let ListsUpdate { lists, delete, rename, add, remove } = update;
    if *delete {
        // Friends keep the numbers, which count for nothing.
        book.record.lists.retain(|list| !lists.contains(&list.name));
        return Ok(Vec::new());
    }
    if let ([list], false) = (&lists[..], rename.is_empty()) {
        let is_renamed = book.list(list).is_none() && book.list(rename).is_some() && staging.again;
        if list == rename || is_renamed {
            return Ok(Vec::new());
        }
        if book.list(list).is_none() || book.list(rename).is_some() {
            return Err(Refusal::Invalid.into());
        }
        book.rename_list(list, rename);
        return Ok(Vec::new());
    }
    let settings = staging.settings(change.app).await?;
    let numbers = book.list_numbers(lists, settings.friend_lists_max)?;
    let mut outcomes = Vec::with_capacity(add.len() + remove.len());
    for (others, is_on) in [(add, true), (remove, false)] {
        for other in others {
            let Some(before) = book.friend(staging, other).await? else {
                outcomes.push(outcome(other, Err(Refusal::Invalid)));
                continue;
            };
            let mut now = before.clone();
            now.lists = book.present(&before.lists);
            now.lists.retain(|number| !numbers.contains(number));
            if is_on {
                now.lists.extend(&numbers);
            }
            now.lists.sort_unstable();
            if now != before {
                book.put(staging, other, Some(&before), now).await?;
            }
            outcomes.push(outcome(other, Ok(Related::Done)));
        }
    }
    Ok(outcomes)
}

/// Makes incoming requests read, up to a time.
pub(super) fn read_requests(staging: &mut Staging<'_>, change: &Change, book: &mut Book, read_ms: u64) {
    let read_ms = read_ms.min(staging.now_ms);
    if read_ms > book.record.read_ms {
        book.record.read_ms = read_ms;
        let event = What::FriendRequestsRead(FriendRequestsRead { read_ms });
        staging.append_stored(change.app, &change.user, &event);
    }
}
