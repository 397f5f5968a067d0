//! Friendships begin: asked for, imported, or granted (REL-02, REL-03, REL-07).

use protocol::message::{AllowType, FriendAnswer, FriendRequestState};

use super::{Book, Change, ImportedFriend, NewFriend, outcome};
use crate::domain::{
    Error, UserId, account,
    act::{Author, Related, RelationOutcome, Staging},
    change::blacklist::relation,
    friends::{FriendRecord, Refusal, RequestRecord},
    keys::{self, Direction},
    profile,
    settings::Settings,
};

type Judged = Result<Result<Related, Refusal>, Error>;

/// Asks for the friendship of each.
pub(super) async fn add(
    staging: &mut Staging<'_>,
    change: &Change,
    book: &mut Book,
    friends: &[(UserId, NewFriend)],
    one_way: bool,
    force: bool,
) -> Result<Vec<RelationOutcome>, Error> {
    let settings = staging.settings(change.app).await?;
    let own = profile::decode(staging.get(&keys::profile(change.app, &change.user)).await?)?;
    let is_forbidden = own.requests_forbidden() && change.by == Author::User;
    let mut outcomes = Vec::with_capacity(friends.len());
    for (other, new) in friends {
        let asking = Asking { change, settings: &settings, other, new, one_way, force };
        let refused = change.refused.iter().find(|(refused, _)| refused == other);
        let judged = match refused {
            _ if is_forbidden => Err(Refusal::Forbidden),
            Some((_, code)) => Err(Refusal::ByApplication(*code)),
            None => asking.ask(staging, book).await?,
        };
        outcomes.push(outcome(other, judged));
    }
    Ok(outcomes)
}

/// One user's friendship is asked for.
struct Asking<'a> {
    change: &'a Change,
    settings: &'a Settings,
    other: &'a UserId,
    new: &'a NewFriend,
    one_way: bool,
    force: bool,
}

impl Asking<'_> {
    async fn ask(&self, staging: &mut Staging<'_>, book: &mut Book) -> Judged {
        let Asking { change, other, .. } = *self;
        if let Err(refusal) = ensure_apart(staging, change, other).await? {
            return Ok(Err(refusal));
        }
        if book.friend(staging, other).await?.is_some() {
            // By an earlier run, perhaps.
            return Ok(if staging.again { Ok(Related::Done) } else { Err(Refusal::Invalid) });
        }
        let mut peer = Book::open(staging, change.app, other).await?;
        let judged = match self.is_granted(staging, book, &peer).await? {
            Err(refusal) => return Ok(Err(refusal)),
            Ok(true) => self.befriend(staging, book, &mut peer).await?,
            Ok(false) => self.leave_open(staging, book, &mut peer).await?,
        };
        peer.close(staging).await?;
        Ok(judged)
    }

    /// Whether they become friends at once.
    async fn is_granted(
        &self,
        staging: &mut Staging<'_>,
        book: &Book,
        peer: &Book,
    ) -> Result<Result<bool, Refusal>, Error> {
        // Whoever has the user as a friend, or has asked to, need not be asked.
        let is_wanted = peer.friend(staging, &book.user).await?.is_some()
            || book.request(staging, Direction::Incoming, &peer.user).await?.is_some();
        if is_wanted || self.force {
            return Ok(Ok(true));
        }
        let theirs = profile::decode(staging.get(&keys::profile(self.change.app, self.other)).await?)?;
        Ok(match theirs.allow_type() {
            AllowType::Any => Ok(true),
            AllowType::NeedConfirm => Ok(false),
            AllowType::DenyAny => Err(Refusal::Denied),
        })
    }

    async fn befriend(&self, staging: &mut Staging<'_>, book: &mut Book, peer: &mut Book) -> Judged {
        let NewFriend { remark, list, source, wording } = self.new;
        let back = peer.friend(staging, &book.user).await?;
        let makes_back = !self.one_way && back.is_none();
        if book.record.friends >= self.settings.friends_max {
            return Ok(Err(Refusal::Full));
        }
        if makes_back && peer.record.friends >= self.settings.friends_max {
            return Ok(Err(Refusal::PeerFull));
        }
        let named: &[String] = if list.is_empty() { &[] } else { std::slice::from_ref(list) };
        let lists = match book.list_numbers(named, self.settings.friend_lists_max) {
            Ok(lists) => lists,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let new = FriendRecord {
            source: source.clone(),
            wording: wording.clone(),
            added_ms: staging.now_ms,
            ..FriendRecord::default()
        };
        if makes_back {
            peer.put(staging, &book.user, None, new.clone()).await?;
        }
        book.put(staging, self.other, None, FriendRecord { remark: remark.clone(), lists, ..new }).await?;
        book.end_requests(staging, peer, FriendRequestState::Agreed).await?;
        Ok(Ok(Related::Done))
    }

    /// The request waits for an answer; it takes the place of an earlier one.
    async fn leave_open(&self, staging: &mut Staging<'_>, book: &mut Book, peer: &mut Book) -> Judged {
        let NewFriend { remark, list, source, wording } = self.new.clone();
        let is_new = book.request(staging, Direction::Outgoing, self.other).await?.is_none();
        let requests_max = self.settings.friend_requests_max;
        let has_room =
            book.has_room(Direction::Outgoing, requests_max) && peer.has_room(Direction::Incoming, requests_max);
        if is_new && !has_room {
            return Ok(Err(Refusal::RequestsFull));
        }
        let told = RequestRecord { wording, source, time_ms: staging.now_ms, ..RequestRecord::default() };
        peer.put_request(staging, Direction::Incoming, &book.user, &told, is_new);
        let own = RequestRecord { remark, list, ..told };
        book.put_request(staging, Direction::Outgoing, self.other, &own, is_new);
        Ok(Ok(Related::Asked))
    }
}

/// Refuses what can't become a friendship: of the user himself, of nobody, of someone blacklisted.
async fn ensure_apart(
    staging: &mut Staging<'_>,
    change: &Change,
    other: &UserId,
) -> Result<Result<(), Refusal>, Error> {
    let (app, user) = (change.app, &change.user);
    if other == user {
        return Ok(Err(Refusal::Invalid));
    }
    if !account::is_there(staging.get(&keys::account(app, other)).await?)? {
        return Ok(Err(Refusal::UserUnknown));
    }
    if relation(staging, app, user, other).await?.blacklisted {
        return Ok(Err(Refusal::OnBlacklist));
    }
    if relation(staging, app, other, user).await?.blacklisted {
        return Ok(Err(Refusal::Blacklisted));
    }
    Ok(Ok(()))
}

/// Makes each a friend of the user, without asking, and not the user a friend of theirs.
pub(super) async fn import(
    staging: &mut Staging<'_>,
    change: &Change,
    book: &mut Book,
    friends: &[(UserId, ImportedFriend)],
) -> Result<Vec<RelationOutcome>, Error> {
    let settings = staging.settings(change.app).await?;
    super::update::check_declared(friends.iter().map(|(_, friend)| &friend.custom), &settings)?;
    let mut outcomes = Vec::with_capacity(friends.len());
    for (other, friend) in friends {
        let judged = import_one(staging, change, book, other, friend, &settings).await?;
        outcomes.push(outcome(other, judged));
    }
    Ok(outcomes)
}

async fn import_one(
    staging: &mut Staging<'_>,
    change: &Change,
    book: &mut Book,
    other: &UserId,
    friend: &ImportedFriend,
    settings: &Settings,
) -> Judged {
    if let Err(refusal) = ensure_apart(staging, change, other).await? {
        return Ok(Err(refusal));
    }
    if book.friend(staging, other).await?.is_some() {
        return Ok(if staging.again { Ok(Related::Done) } else { Err(Refusal::Invalid) });
    }
    if book.record.friends >= settings.friends_max {
        return Ok(Err(Refusal::Full));
    }
    let lists = match book.list_numbers(&friend.lists, settings.friend_lists_max) {
        Ok(lists) => lists,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let ImportedFriend { remark, source, wording, added_ms, custom, .. } = friend.clone();
    let added_ms = if added_ms == 0 { staging.now_ms } else { added_ms };
    let record = FriendRecord { remark, lists, source, wording, added_ms, custom, seq: 0 };
    book.put(staging, other, None, record).await?;
    // The user's own request has come to its end; one of the other's waits on.
    let mut peer = Book::open(staging, change.app, other).await?;
    book.end_request(staging, &mut peer, Direction::Outgoing, FriendRequestState::Agreed).await?;
    peer.close(staging).await?;
    Ok(Ok(Related::Done))
}

/// Answers a request of `other` to the user.
pub(super) async fn answer(
    staging: &mut Staging<'_>,
    change: &Change,
    book: &mut Book,
    other: &UserId,
    answer: FriendAnswer,
    remark: &str,
    list: &str,
) -> Result<(), Error> {
    let settings = staging.settings(change.app).await?;
    if book.request(staging, Direction::Incoming, other).await?.is_none() {
        // Answered by an earlier run, perhaps.
        return if staging.again { Ok(()) } else { Err(Refusal::RequestUnknown.into()) };
    }
    let mut peer = Book::open(staging, change.app, other).await?;
    let asked = peer.request(staging, Direction::Outgoing, &book.user).await?.unwrap_or_default();
    let (own, theirs) = (book.friend(staging, other).await?, peer.friend(staging, &book.user).await?);
    let makes_theirs = answer != FriendAnswer::Refuse && theirs.is_none();
    let makes_own = answer == FriendAnswer::AgreeAndAdd && own.is_none();
    if makes_theirs && peer.record.friends >= settings.friends_max {
        return Err(Refusal::PeerFull.into());
    }
    if makes_own && book.record.friends >= settings.friends_max {
        return Err(Refusal::Full.into());
    }
    let named = |list: &str| if list.is_empty() { Vec::new() } else { vec![list.to_owned()] };
    let new = FriendRecord {
        source: asked.source.clone(),
        wording: asked.wording.clone(),
        added_ms: staging.now_ms,
        ..FriendRecord::default()
    };
    if makes_own {
        let lists = book.list_numbers(&named(list), settings.friend_lists_max)?;
        let friend = FriendRecord { remark: remark.to_owned(), lists, ..new.clone() };
        book.put(staging, other, None, friend).await?;
    }
    if makes_theirs {
        // If there is no room for the list that was wished for, the friend is on none.
        let lists = peer.list_numbers(&named(&asked.list), settings.friend_lists_max).unwrap_or_default();
        let friend = FriendRecord { remark: asked.remark.clone(), lists, ..new };
        peer.put(staging, &book.user, None, friend).await?;
    }
    let state = if answer == FriendAnswer::Refuse { FriendRequestState::Refused } else { FriendRequestState::Agreed };
    book.end_request(staging, &mut peer, Direction::Incoming, state).await?;
    if makes_own {
        // Each had asked the other.
        book.end_request(staging, &mut peer, Direction::Outgoing, state).await?;
    }
    peer.close(staging).await
}
