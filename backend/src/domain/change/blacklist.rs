//! The blacklist of a user: whose messages are refused (REL-08).

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use protocol::message::{BlacklistChanged, event::What};

use super::{Change, friends::Book};
use crate::{
    domain::{
        AppId, Error, UserId, account,
        act::{Answer, Related, RelationOutcome, Staging},
        callbacks::{Happened, Pairs},
        damaged,
        friends::Refusal,
        keys::{self, Listed},
        records::RelationRecord,
        sync::{Budget, PageLimit},
    },
    store::{Lane, RangeQuery, ReadMode, Store, Tx},
};

/// Users on one blacklist, at the most (the hosted original's limit).
pub const BLACKLIST_MAX: usize = 1_000;
/// Users put on and taken off in one change, at the most.
pub const CHANGES_MAX: usize = 100;

pub(super) fn check(user: &UserId, add: &mut Vec<UserId>, remove: &mut Vec<UserId>, each: bool) -> Result<(), Error> {
    if !each {
        // Named twice is meant once: the limit and the event count users, not names.
        for named in [&mut *add, &mut *remove] {
            named.sort_unstable();
            named.dedup();
        }
        if add.contains(user) {
            return Err(Error::Argument("users can't blacklist themselves"));
        }
    }
    if !(1..=CHANGES_MAX).contains(&(add.len() + remove.len())) {
        return Err(Error::Argument("add and remove must name 1 to 100 users"));
    }
    if add.iter().any(|added| remove.contains(added)) {
        return Err(Error::Argument("a user is named in both add and remove"));
    }
    Ok(())
}

/// Puts users on the blacklist, which ends what there is between them and the user, and takes users off. `each`:
/// every one is judged alone; otherwise those who can't be put on refuse all.
pub(super) async fn update(
    staging: &mut Staging<'_>,
    change: &Change,
    add: &[UserId],
    remove: &[UserId],
    each: bool,
) -> Result<Answer, Error> {
    let (app, user) = (change.app, &change.user);
    change.ensure_account(staging, user).await?;
    let (begin, end) = keys::listed_all(app, Listed::Blacklist, user);
    let query = RangeQuery { begin, end, limit: BLACKLIST_MAX + 1, reverse: false, mode: ReadMode::Serializable };
    let mut listed: BTreeSet<Bytes> = staging.tx.range(query).await?.pairs.into_iter().map(|(key, _)| key).collect();
    let key = |other: &UserId| keys::listed(app, Listed::Blacklist, user, other);
    let mut outcomes = Vec::with_capacity(add.len() + remove.len());
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for other in add {
        let judged = if other == user {
            Err(Refusal::Invalid)
        } else if !account::is_there(staging.get(&keys::account(app, other)).await?)? {
            if each { Err(Refusal::UserUnknown) } else { return Err(Error::UserInvalid) }
        } else if listed.contains(&key(other)) {
            if staging.again { Ok(Related::Done) } else { Err(Refusal::Invalid) }
        } else if listed.len() >= BLACKLIST_MAX {
            if each { Err(Refusal::BlacklistFull) } else { return Err(FULL) }
        } else {
            listed.insert(key(other));
            added.push(other);
            Ok(Related::Done)
        };
        outcomes.push(RelationOutcome { user: other.clone(), outcome: judged });
    }
    for other in remove {
        let is_listed = listed.remove(&key(other));
        removed.extend(is_listed.then_some(other));
        let judged = if is_listed || staging.again { Ok(Related::Done) } else { Err(Refusal::Invalid) };
        outcomes.push(RelationOutcome { user: other.clone(), outcome: judged });
    }
    // From here on it is written.
    if !added.is_empty() {
        end_relations(staging, change, &added).await?;
    }
    for (others, blacklisted) in [(&added, true), (&removed, false)] {
        for other in others {
            match blacklisted {
                true => staging.tx.set(key(other), Bytes::copy_from_slice(&staging.now_ms.to_be_bytes())),
                false => staging.tx.clear(&key(other)),
            }
            let relation = relation(staging, app, user, other).await?;
            put_relation(staging, app, user, other, &RelationRecord { blacklisted, ..relation });
        }
    }
    tell_application(staging, change, &added, &removed).await?;
    if !added.is_empty() || !removed.is_empty() {
        let names = |users: Vec<&UserId>| users.into_iter().map(UserId::to_string).collect();
        let event = BlacklistChanged { added: names(added), removed: names(removed) };
        staging.append_stored(app, user, &What::Blacklist(event));
    }
    Ok(if each { Answer::Relations(outcomes) } else { Answer::Done })
}

async fn tell_application(
    staging: &mut Staging<'_>,
    change: &Change,
    added: &[&UserId],
    removed: &[&UserId],
) -> Result<(), Error> {
    for (others, happened) in [(added, Happened::Blacklisted as fn(Pairs) -> _), (removed, Happened::Unblacklisted)] {
        if !others.is_empty() {
            let pairs = Pairs::of(&change.user, others.iter().copied());
            staging.tell_application_of(change.app, &change.user, happened(pairs)).await?;
        }
    }
    Ok(())
}

const FULL: Error = Error::ListFull("a blacklist holds at most 1000 users");

/// Ends friendships and open requests between the user and others.
async fn end_relations(staging: &mut Staging<'_>, change: &Change, others: &[&UserId]) -> Result<(), Error> {
    let mut book = Book::open(staging, change.app, &change.user).await?;
    for other in others {
        let mut peer = Book::open(staging, change.app, other).await?;
        book.part(staging, &mut peer).await?;
        peer.close(staging).await?;
    }
    book.close(staging).await
}

/// What `user` says of `other`.
pub(crate) async fn relation(
    staging: &mut Staging<'_>,
    app: AppId,
    user: &UserId,
    other: &UserId,
) -> Result<RelationRecord, Error> {
    staging.get(&keys::relation(app, user, other)).await?.map_or_else(
        || Ok(RelationRecord::default()),
        |stored| RelationRecord::decode(stored).map_err(|_| damaged("relation")),
    )
}

/// Writes what `user` says of `other`; nothing said is nothing kept.
pub(crate) fn put_relation(
    staging: &mut Staging<'_>,
    app: AppId,
    user: &UserId,
    other: &UserId,
    relation: &RelationRecord,
) {
    let key = keys::relation(app, user, other);
    match *relation == RelationRecord::default() {
        true => staging.clear(&key),
        false => staging.set(key, relation.encode_to_vec()),
    }
}

/// A user on a blacklist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blacklisted {
    /// Who.
    pub user: UserId,
    /// Since when, milliseconds since the Unix epoch; 0: not known.
    pub added_ms: u64,
}

impl Blacklisted {
    fn of((key, value): &(Bytes, Bytes)) -> Option<Self> {
        Some(Blacklisted { user: keys::listed_user(key)?, added_ms: keys::blacklisted_ms(value)? })
    }
}

/// A page of the blacklist, by name, behind `after`; and whether it goes on.
pub async fn page(
    store: &Store,
    app: AppId,
    user: &UserId,
    after: Option<UserId>,
    limit: PageLimit,
) -> Result<(Vec<Blacklisted>, bool), Error> {
    let user = user.clone();
    let entries_max = limit.entries_max.max(1);
    let read = async move |tx: &Tx| -> Result<(Vec<Blacklisted>, bool), Error> {
        let (mut begin, end) = keys::listed_all(app, Listed::Blacklist, &user);
        if let Some(after) = &after {
            begin = [&keys::listed(app, Listed::Blacklist, &user, after)[..], &[0]].concat().into();
        }
        let query = RangeQuery { begin, end, limit: entries_max + 1, reverse: false, mode: ReadMode::Snapshot };
        let pairs = tx.range(query).await?.pairs;
        let listed = |pair: &(Bytes, Bytes)| Blacklisted::of(pair).ok_or_else(|| damaged("blacklist"));
        let mut users = pairs.iter().map(listed).collect::<Result<Vec<_>, _>>()?;
        let mut budget = Budget::new(limit.bytes_max);
        let fits = users.iter().take(entries_max).take_while(|listed| budget.take(listed.user.as_str().len())).count();
        let more = fits < users.len();
        users.truncate(fits);
        Ok((users, more))
    };
    Ok(store.run(Lane::Read, "blacklist", read).await?.0)
}
