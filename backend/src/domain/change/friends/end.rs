//! Friendships end, and requests are taken off (REL-05, REL-07).

use bytes::Bytes;
use protocol::message::FriendRequestState;

use super::{Book, Change, FriendsChange, outcome};
use crate::{
    domain::{
        AppId, Error, UserId,
        act::{Answer, Related, RelationOutcome, Staging},
        change::Kind,
        damaged,
        friends::{FRIENDS_MAX, Refusal},
        keys::{self, Direction},
    },
    store::{RangeQuery, ReadMode},
};

/// Ends the friendship with each; `one_way`: the user stays a friend of theirs.
pub(super) async fn delete(
    staging: &mut Staging<'_>,
    change: &Change,
    book: &mut Book,
    friends: &[UserId],
    one_way: bool,
) -> Result<Vec<RelationOutcome>, Error> {
    let mut outcomes = Vec::with_capacity(friends.len());
    for other in friends {
        let mut is_ended = false;
        if let Some(friend) = book.friend(staging, other).await? {
            book.remove(staging, other, &friend).await?;
            is_ended = true;
        }
        if !one_way && other != &book.user {
            let mut peer = Book::open(staging, change.app, other).await?;
            if let Some(friend) = peer.friend(staging, &book.user).await? {
                peer.remove(staging, &book.user, &friend).await?;
                is_ended = true;
            }
            peer.close(staging).await?;
        }
        let judged = if is_ended || staging.again { Ok(Related::Done) } else { Err(Refusal::FriendUnknown) };
        outcomes.push(outcome(other, judged));
    }
    Ok(outcomes)
}

/// Ends the friendships with some, and leaves others to the next transaction.
pub(super) async fn delete_all(
    staging: &mut Staging<'_>,
    change: &Change,
    mut book: Book,
    friends: &[UserId],
    one_way: bool,
) -> Result<Answer, Error> {
    delete(staging, change, &mut book, friends, one_way).await?;
    book.close(staging).await?;
    let next = next_friends(staging, change.app, &change.user).await?;
    if next.is_empty() {
        return Ok(Answer::Done);
    }
    let kind = Kind::Friends(FriendsChange::DeleteAll { friends: next, one_way });
    Ok(staging.go_on(Change::by_admin(change.app, change.user.clone(), kind)))
}

/// Some of the user's friends.
async fn next_friends(staging: &Staging<'_>, app: AppId, user: &UserId) -> Result<Vec<UserId>, Error> {
    let (begin, end) = keys::friends(app, user);
    let query = RangeQuery { begin, end, limit: FRIENDS_MAX, reverse: false, mode: ReadMode::Snapshot };
    let pairs = staging.tx.range(query).await?.pairs;
    let friend = |(key, _): &(Bytes, Bytes)| keys::two_users(key).map(|(_, friend)| friend);
    pairs.iter().map(|pair| friend(pair).ok_or_else(|| damaged("friend key"))).collect()
}

/// Takes open requests off, on both sides, without an answer.
pub(super) async fn drop_requests(
    staging: &mut Staging<'_>,
    change: &Change,
    book: &mut Book,
    others: &[UserId],
    direction: Direction,
) -> Result<Vec<RelationOutcome>, Error> {
    let mut outcomes = Vec::with_capacity(others.len());
    for other in others {
        let mut peer = Book::open(staging, change.app, other).await?;
        let ended = book.end_request(staging, &mut peer, direction, FriendRequestState::Dropped).await?;
        peer.close(staging).await?;
        let is_done = ended.is_some() || staging.again;
        outcomes.push(outcome(other, if is_done { Ok(Related::Done) } else { Err(Refusal::RequestUnknown) }));
    }
    Ok(outcomes)
}
