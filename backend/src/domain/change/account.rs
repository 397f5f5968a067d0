//! An account is deleted (ACC-03): its record becomes a tombstone, so that it does not exist any more and no UserSig
//! issued until then is good, and what it has left is removed, some of it a transaction.
//!
//! What the account said to others stays theirs. Should it be made anew, it begins empty: conversations are cleared
//! up to where they are, and its event log is gone.

use bytes::Bytes;
use futures::future::try_join_all;
use prost::Message as _;
use smallvec::{SmallVec, smallvec};

use super::{
    Change, Kind, conversation,
    friends::{self as change_friends, Book},
    group,
};
use crate::{
    domain::{
        AppId, Error, GroupId, Peer, USER_BYTES_MAX, UserId, account,
        act::{Answer, Staging},
        callbacks::{Happened, Pairs},
        damaged, friends,
        keys::{self, Direction, Listed, Tail},
        records::ConversationRecord,
        unfinished::{self, UnfinishedRecord},
        unread::{self, Counts},
    },
    store::{RangePage, RangeQuery, ReadMode, Versionstamp},
};

/// Others parted from in one transaction.
const PARTED_TOGETHER: usize = 100;
/// Conversations cleared, or other records removed, in one transaction.
const CLEARED_TOGETHER: usize = 256;
/// Entries of the event log removed in one transaction.
const EVENTS_TOGETHER: usize = 1_024;

/// A part of deleting an account, each of which is followed by the next.
#[derive(Clone, Debug)]
pub enum Erase {
    /// The account is no account any more.
    Account,
    /// The user parts from these others, and from all that are left.
    Relations(Vec<UserId>),
    /// What the user says of others, the blacklist among it, is removed.
    Words,
    /// The user goes out of this group, which forgets him, and out of all that are left.
    Groups(Option<GroupId>),
    /// Conversations are cleared, from this place in the list on.
    Conversations(Bytes),
    /// The event log is removed.
    Events,
}

impl Erase {
    pub(super) fn others(&self) -> &[UserId] {
        match self {
            Erase::Relations(others) => others,
            _ => &[],
        }
    }

    /// The group that is told.
    pub(super) fn group(&self) -> Option<&GroupId> {
        match self {
            Erase::Groups(group) => group.as_ref(),
            _ => None,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        (1 + self.others().len()) * USER_BYTES_MAX
    }

    pub(super) fn written_bytes(&self) -> usize {
        const RECORD_BYTES: usize = 500;
        match self {
            Erase::Account => 10 * RECORD_BYTES,
            Erase::Relations(others) => others.len() * change_friends::RELATION_BYTES,
            Erase::Words | Erase::Conversations(_) => CLEARED_TOGETHER * RECORD_BYTES,
            Erase::Groups(_) => group::EXIT_BYTES,
            Erase::Events => EVENTS_TOGETHER * RECORD_BYTES / 2,
        }
    }

    pub(super) fn stamps_max(&self) -> usize {
        /// The group is told, and who decides about an application.
        const GROUP_STAMPS: usize = 8;
        1 + change_friends::STAMPS_EACH * self.others().len() + self.group().map_or(0, |_| GROUP_STAMPS)
    }

    pub(super) fn reads(&self, app: AppId, user: &UserId) -> SmallVec<[Bytes; 4]> {
        let mut keys: SmallVec<[Bytes; 4]> = smallvec![keys::unfinished(app, user)];
        match self {
            Erase::Account => keys.push(keys::account(app, user)),
            Erase::Relations(others) => {
                keys.push(keys::book(app, user));
                keys.extend(others.iter().flat_map(|other| change_friends::reads(app, user, other)));
            }
            Erase::Groups(Some(group)) => keys.push(keys::group(app, group)),
            _ => {}
        }
        keys
    }

    pub(super) async fn stage(&self, staging: &mut Staging<'_>, change: &Change) -> Result<Answer, Error> {
        let is_erasing = unfinished::read(staging, change.app, &change.user).await?.is_some_and(|record| record.erase);
        let next = match self {
            Erase::Account => begin(staging, change, is_erasing).await?,
            // Somebody else has come to the end of it.
            _ if !is_erasing => return Ok(Answer::Done),
            Erase::Relations(others) => part(staging, change, others).await?,
            Erase::Words => forget(staging, change).await?,
            Erase::Groups(group) => leave_groups(staging, change, group.as_ref()).await?,
            Erase::Conversations(place) => clear_conversations(staging, change, place).await?,
            Erase::Events => remove_events(staging, change).await?,
        };
        Ok(match next {
            Some(next) => staging.go_on(Change::by_admin(change.app, change.user.clone(), Kind::Erase(next))),
            None => Answer::Done,
        })
    }
}

/// The account becomes a tombstone. Whoever is deleting it already goes on, too, which does no harm.
async fn begin(staging: &mut Staging<'_>, change: &Change, is_erasing: bool) -> Result<Option<Erase>, Error> {
    let (app, user) = (change.app, &change.user);
    let key = keys::account(app, user);
    let record = account::decode(staging.get(&key).await?)?;
    let Some(mut record) = record.filter(|record| !record.deleted) else {
        return if is_erasing { Ok(Some(Erase::Relations(Vec::new()))) } else { Err(Error::UserInvalid) };
    };
    record.deleted = true;
    record.usersigs_from_s = record.usersigs_from_s.max(account::invalid_until_s(staging.now_ms));
    staging.set(key, record.encode_to_vec());
    staging.clear(&keys::profile(app, user));
    staging.clear(&keys::labels(app, user));
    staging.clear(&keys::audience(app, user));
    staging.clear(&keys::announced(app, user));
    staging.clear(&keys::mute(app, user));
    let unfinished = UnfinishedRecord { erase: true, ..UnfinishedRecord::default() };
    staging.set(keys::unfinished(app, user), unfinished.encode_to_vec());
    Ok(Some(Erase::Relations(Vec::new())))
}

async fn part(staging: &mut Staging<'_>, change: &Change, others: &[UserId]) -> Result<Option<Erase>, Error> {
    let (app, user) = (change.app, &change.user);
    let mut book = Book::open(staging, app, user).await?;
    for other in others {
        let mut peer = Book::open(staging, app, other).await?;
        book.part(staging, &mut peer).await?;
        peer.close(staging).await?;
    }
    book.close(staging).await?;
    let next = related(staging, app, user).await?;
    if !next.is_empty() {
        return Ok(Some(Erase::Relations(next)));
    }
    // Few enough: only so many are kept.
    let (begin, end) = keys::friend_removals(app, user);
    staging.tx.clear_range(&begin, &end);
    staging.clear(&keys::book(app, user));
    Ok(Some(Erase::Words))
}

/// Some of those to whom the user stands in a relation, on either side.
async fn related(staging: &Staging<'_>, app: AppId, user: &UserId) -> Result<Vec<UserId>, Error> {
    let mut others = Vec::new();
    for range in [keys::friends(app, user), keys::all_kept_by(app, user)] {
        for (key, _) in some(staging, range, PARTED_TOGETHER).await?.pairs {
            others.push(keys::two_users(&key).ok_or_else(|| damaged("friend key"))?.1);
        }
    }
    for direction in [Direction::Incoming, Direction::Outgoing] {
        let range = keys::friend_requests(app, user, direction);
        for (key, _) in some(staging, range, PARTED_TOGETHER).await?.pairs {
            others.push(keys::friend_request_parts(&key).ok_or_else(|| damaged("friend request key"))?.2);
        }
    }
    others.sort_unstable();
    others.dedup();
    others.truncate(PARTED_TOGETHER);
    Ok(others)
}

async fn forget(staging: &mut Staging<'_>, change: &Change) -> Result<Option<Erase>, Error> {
    let (app, user) = (change.app, &change.user);
    let page = some(staging, keys::relations(app, user), CLEARED_TOGETHER).await?;
    page.pairs.iter().for_each(|(key, _)| staging.clear(key));
    if page.more {
        return Ok(Some(Erase::Words));
    }
    let page = some(staging, keys::listed_all(app, Listed::Blacklist, user), CLEARED_TOGETHER).await?;
    page.pairs.iter().for_each(|(key, _)| staging.clear(key));
    let listed = |(key, _): &(Bytes, Bytes)| keys::listed_user(key).ok_or_else(|| damaged("blacklist key"));
    let listed = page.pairs.iter().map(listed).collect::<Result<Vec<_>, _>>()?;
    if !listed.is_empty() {
        let taken_off = Happened::Unblacklisted(Pairs::of(user, &listed));
        staging.tell_application_of(app, user, taken_off).await?;
    }
    Ok(Some(if page.more { Erase::Words } else { Erase::Groups(None) }))
}

/// One group after the other: each may have to tell all of its members.
async fn leave_groups(
    staging: &mut Staging<'_>,
    change: &Change,
    group: Option<&GroupId>,
) -> Result<Option<Erase>, Error> {
    let (app, user) = (change.app, &change.user);
    if let Some(group) = group {
        group::erase(staging, change, group).await?;
    }
    for groups in [keys::joined_groups(app, user), keys::group_traces(app, user), keys::former_groups(app, user)] {
        if let Some((key, _)) = some(staging, groups, 1).await?.pairs.pop() {
            let next = keys::two_names(&key).and_then(|(_, group)| GroupId::new(&group));
            return Ok(Some(Erase::Groups(Some(next.ok_or_else(|| damaged("key of a user's group"))?))));
        }
    }
    Ok(Some(Erase::Conversations(Bytes::new())))
}

/// Conversations stay in the list's index, as all with messages do, with nothing of them left to be seen.
async fn clear_conversations(
    staging: &mut Staging<'_>,
    change: &Change,
    place: &Bytes,
) -> Result<Option<Erase>, Error> {
    let (app, user) = (change.app, &change.user);
    let (begin, end) = keys::all_active(app, user);
    let begin = if place.is_empty() { begin } else { friends::behind(place) };
    let page = some(staging, (begin, end), CLEARED_TOGETHER).await?;
    let peer = |(key, _): &(Bytes, Bytes)| keys::active_peer(key).ok_or_else(|| damaged("active key"));
    let peers = page.pairs.iter().map(peer).collect::<Result<Vec<_>, _>>()?;
    let rows = |peer: &Peer| [Tail::of(user, peer).head(app), keys::kept(app, user, peer)];
    staging.start_reads(peers.iter().flat_map(rows));
    let mut heads = Vec::with_capacity(peers.len());
    for peer in &peers {
        heads.push(change.head(staging, peer).await?);
    }
    let counts = peers.iter().zip(&heads).map(|(peer, head)| unread::counts(staging.tx, app, user, peer, head));
    let counts = try_join_all(counts).await?;
    for ((peer, head), Counts { others, own }) in peers.iter().zip(heads).zip(counts) {
        let kept = keys::kept(app, user, peer);
        let before = conversation::decode(staging.get(&kept).await?)?;
        let now = ConversationRecord {
            read_seq: head.seq,
            read_count: others,
            read_own: own,
            cleared_seq: head.seq,
            removed_seq: head.seq,
            shown_seq: before.shown_seq,
            ..ConversationRecord::default()
        };
        staging.set(kept, now.encode_to_vec());
    }
    Ok(Some(match page.pairs.last() {
        Some((last, _)) if page.more => Erase::Conversations(last.clone()),
        _ => Erase::Events,
    }))
}

async fn remove_events(staging: &mut Staging<'_>, change: &Change) -> Result<Option<Erase>, Error> {
    let (app, user) = (change.app, &change.user);
    let page = some(staging, keys::events_after(app, user, Versionstamp::ZERO), EVENTS_TOGETHER).await?;
    page.pairs.iter().for_each(|(key, _)| staging.tx.clear(key));
    if let Some((last, _)) = page.pairs.last() {
        let position = keys::event_position(last).ok_or_else(|| damaged("event key"))?;
        staging.tx.set(keys::event_floor(app, user), Bytes::copy_from_slice(&position.0));
    }
    if page.more {
        return Ok(Some(Erase::Events));
    }
    staging.clear(&keys::unfinished(app, user));
    Ok(None)
}

async fn some(staging: &Staging<'_>, (begin, end): (Bytes, Bytes), limit: usize) -> Result<RangePage, Error> {
    Ok(staging.tx.range(RangeQuery { begin, end, limit, reverse: false, mode: ReadMode::Serializable }).await?)
}
