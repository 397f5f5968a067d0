//! Reading a conversation back, page by page, as one of its users sees it (MSG-03, MSG-05).

use bytes::Bytes;
use protocol::message::Message;

use super::{
    AppId, Error, GroupId, Peer, UserId,
    change::conversation,
    damaged,
    groups::access,
    keys::{self, Tail},
    records::{ConversationRecord, Head},
    sync::{Budget, PageLimit, decode_message, floor_of},
};
use crate::store::{Lane, RangeQuery, ReadMode, Store, Tx};

/// Messages read at a time, so that little is read beyond what is wanted.
const CHUNK: usize = 16;

/// A page of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryPage {
    /// In the direction asked for.
    pub messages: Vec<Message>,
    /// More follow in that direction.
    pub more: bool,
    /// The conversation's newest sequence; 0 if it has no message.
    pub head_seq: u64,
    /// Where the next page begins, if there is more.
    pub next_seq: u64,
    /// The first sequence that this user can read.
    pub first_seq: u64,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the newest message; at the oldest, if the page goes towards newer ones.
    End,
    /// At a sequence.
    Seq(u64),
    /// At the last message not after a time, milliseconds since the Unix epoch; at the first one not
    /// before it, if the page goes towards newer ones.
    Time(u64),
}

/// Which messages of a conversation.
#[derive(Clone, Copy, Debug)]
pub struct HistoryQuery {
    /// The first message.
    pub start: Start,
    /// Towards newer messages.
    pub forward: bool,
    /// Size of the page.
    pub limit: PageLimit,
}

/// Reads the conversation of `user` with `peer`, without what the user has cleared or deleted.
pub async fn page(
    store: &Store,
    app: AppId,
    user: &UserId,
    peer: &Peer,
    query: HistoryQuery,
) -> Result<HistoryPage, Error> {
    let (user, peer) = (user.clone(), peer.clone());
    let read = async move |tx: &Tx| View::open(tx, app, &user, &peer).await?.page(query).await;
    Ok(store.run(Lane::Read, "history", read).await?.0)
}

/// Reads the conversation of a group, as an administrator sees it.
pub async fn page_of_group(
    store: &Store,
    app: AppId,
    group: &GroupId,
    query: HistoryQuery,
) -> Result<HistoryPage, Error> {
    let group = group.clone();
    let read = async move |tx: &Tx| View::of_group(tx, app, &group).await?.page(query).await;
    Ok(store.run(Lane::Read, "group_history", read).await?.0)
}

/// A conversation, as one of its users sees it.
pub(super) struct View<'a> {
    tx: &'a Tx,
    app: AppId,
    tail: Tail,
    /// Whose marks of deleted messages hold; an administrator has none.
    eyes: Option<(&'a UserId, &'a Peer)>,
    /// The first sequence that the user can read, and the newest one.
    first: u64,
    head: u64,
    /// Of a group: what the user can read between the two, oldest first.
    spans: Option<Vec<access::Span>>,
}

impl<'a> View<'a> {
    pub(super) async fn open(tx: &'a Tx, app: AppId, user: &'a UserId, peer: &'a Peer) -> Result<Self, Error> {
        let head = conversation::snapshot_head(tx, app, &Tail::of(user, peer)).await?;
        let kept = conversation::snapshot(tx, app, user, peer).await?;
        View::of(tx, app, user, peer, &head, &kept).await
    }

    async fn of_group(tx: &'a Tx, app: AppId, group: &GroupId) -> Result<Self, Error> {
        let stored = tx.snapshot_get(&keys::group(app, group)).await?.ok_or_else(access::unknown)?;
        let group_first = access::decode_group(stored)?.first_seq;
        let tail = Tail::from(group);
        let head = conversation::snapshot_head(tx, app, &tail).await?.seq;
        let first = floor_of(tx, app, &tail).await?.max(group_first);
        Ok(View { tx, app, tail, eyes: None, first, head, spans: None })
    }

    pub(super) async fn of(
        tx: &'a Tx,
        app: AppId,
        user: &'a UserId,
        peer: &'a Peer,
        head: &Head,
        kept: &ConversationRecord,
    ) -> Result<Self, Error> {
        let tail = Tail::of(user, peer);
        let floor = floor_of(tx, app, &tail).await?.max(kept.cleared_seq + 1);
        let spans = match peer {
            Peer::User(_) => None,
            Peer::Group(group) => Some(access::spans(tx, app, group, user, head.seq).await?),
        };
        let (first, last) = spans.as_ref().map_or((floor, head.seq), |spans| {
            let ends = (spans.first().map_or(1, |span| span.first), spans.last().map_or(0, |span| span.last));
            (ends.0.max(floor), ends.1)
        });
        Ok(View { tx, app, tail, eyes: Some((user, peer)), first, head: last, spans })
    }

    /// The first sequence that the user can read.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The newest sequence that the user can read.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    async fn page(&self, query: HistoryQuery) -> Result<HistoryPage, Error> {
        let (first, last) = self.bounds(query).await?;
        let (messages, next) = self.read(first, last, query).await?;
        let more = (first..=last).contains(&next);
        let next_seq = if more { next } else { 0 };
        Ok(HistoryPage { messages, more, head_seq: self.head, next_seq, first_seq: self.first })
    }

    /// First and last sequence that the page may hold.
    async fn bounds(&self, query: HistoryQuery) -> Result<(u64, u64), Error> {
        let start = match query.start {
            Start::End => None,
            Start::Seq(seq) => Some(seq),
            Start::Time(time_ms) if query.forward => Some(self.first_since(time_ms).await?),
            Start::Time(time_ms) => Some(self.first_since(time_ms.saturating_add(1)).await?.saturating_sub(1)),
        };
        Ok(match query.forward {
            true => (start.unwrap_or(0).max(self.first), self.head),
            false => (self.first, start.unwrap_or(self.head).min(self.head)),
        })
    }

    /// The first sequence that is not before a time. Times never fall from one sequence to the next, so
    /// the middle of what is left tells on which side it is.
    async fn first_since(&self, time_ms: u64) -> Result<u64, Error> {
        let (mut low, mut high) = (self.first, self.head + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_from(middle).await? {
                Some(found) if found.time_ms < time_ms => low = found.seq + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// The first message with this sequence or a later one.
    async fn first_from(&self, seq: u64) -> Result<Option<Message>, Error> {
        let (begin, end) = self.keys(seq, self.head);
        let query = RangeQuery { begin, end, limit: 1, reverse: false, mode: ReadMode::Snapshot };
        self.tx.range(query).await?.pairs.into_iter().next().map(|(_, stored)| decode_message(stored)).transpose()
    }

    /// The newest message up to `last` that the user sees and that `pick` takes, among the few newest.
    pub(super) async fn newest(&self, last: u64, pick: impl Fn(&Message) -> bool) -> Result<Option<Message>, Error> {
        const LOOKED_AT_MAX: usize = 256;
        let mut last = last.min(self.head);
        let mut looked_at = 0;
        while looked_at < LOOKED_AT_MAX && self.first <= last {
            // The first one is it, nearly always.
            let limit = if looked_at == 0 { 1 } else { CHUNK };
            let chunk = self.chunk(self.first, last, limit, true).await?;
            looked_at += chunk.len();
            let Some((oldest, ..)) = chunk.last() else { return Ok(None) };
            last = oldest.seq - 1;
            let is_picked = |(message, _, is_deleted): &(Message, usize, bool)| !is_deleted && pick(message);
            if let Some((message, ..)) = chunk.into_iter().find(is_picked) {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// Reads a few at a time, so that little is read beyond what the page can hold. Returns where reading
    /// would go on.
    async fn read(&self, mut first: u64, mut last: u64, query: HistoryQuery) -> Result<(Vec<Message>, u64), Error> {
        /// A page over nothing but deleted messages ends somewhere, too.
        const DELETED_MAX: usize = 1_000;
        let entries_max = query.limit.entries_max.max(1);
        let mut budget = Budget::new(query.limit.bytes_max);
        let mut messages: Vec<Message> = Vec::new();
        let mut deleted = 0;
        while messages.len() < entries_max && deleted < DELETED_MAX && first <= last {
            let limit = CHUNK.min(entries_max - messages.len());
            let chunk = self.chunk(first, last, limit, !query.forward).await?;
            if chunk.is_empty() {
                // Nothing is left in this direction.
                return Ok((messages, if query.forward { last + 1 } else { first - 1 }));
            }
            for (message, bytes, is_deleted) in chunk {
                let seq = message.seq;
                if is_deleted {
                    deleted += 1;
                } else if budget.take(bytes) {
                    messages.push(message);
                } else {
                    return Ok((messages, seq));
                }
                match query.forward {
                    true => first = seq + 1,
                    false => last = seq - 1,
                }
            }
        }
        Ok((messages, if query.forward { first } else { last }))
    }

    /// Some messages, each with its length and whether the user does not see it.
    async fn chunk(
        &self,
        first: u64,
        last: u64,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(Message, usize, bool)>, Error> {
        let (begin, end) = self.keys(first, last);
        let query = RangeQuery { begin, end, limit, reverse, mode: ReadMode::Snapshot };
        let pairs = self.tx.range(query).await?.pairs;
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        let deleted = self.deleted(&pairs).await?;
        let decode = |(_, stored): (Bytes, Bytes)| {
            let bytes = stored.len();
            let message = decode_message(stored)?;
            let is_hidden = deleted.contains(&message.seq) || !self.is_in_view(message.seq) || !self.is_for(&message);
            Ok((message, bytes, is_hidden))
        };
        pairs.into_iter().map(decode).collect()
    }

    /// Which of these messages the user has deleted.
    async fn deleted(&self, pairs: &[(Bytes, Bytes)]) -> Result<Vec<u64>, Error> {
        let seqs = pairs.iter().filter_map(|(key, _)| keys::last_seq(key));
        let (Some(low), Some(high)) = (seqs.clone().min(), seqs.max()) else { return Err(damaged("message key")) };
        let Some((user, peer)) = self.eyes else { return Ok(Vec::new()) };
        let begin = keys::deleted(self.app, user, peer, low);
        let end = keys::deleted(self.app, user, peer, high + 1);
        // As many as there may be, and not as there are messages: some of those may be gone for good.
        let limit = usize::try_from(high - low).unwrap_or(usize::MAX).saturating_add(1);
        let query = RangeQuery { begin, end, limit, reverse: false, mode: ReadMode::Snapshot };
        let marks = self.tx.range(query).await?.pairs;
        Ok(marks.iter().filter_map(|(key, _)| keys::last_seq(key)).collect())
    }

    fn is_for(&self, message: &Message) -> bool {
        self.eyes.is_none_or(|(user, _)| access::is_for(message, user))
    }

    fn keys(&self, first: u64, last: u64) -> (Bytes, Bytes) {
        (self.tail.message(self.app, first), self.tail.message(self.app, last + 1))
    }

    /// Whether the user was there when it was said.
    pub(super) fn is_in_view(&self, seq: u64) -> bool {
        self.spans.as_ref().is_none_or(|spans| spans.iter().any(|span| (span.first..=span.last).contains(&seq)))
    }
}
