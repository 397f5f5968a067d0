//! Reading the conversation list (MSG-16): entries made of what is kept anyway, by hour of activity.

use bytes::Bytes;
use futures::future::try_join_all;
use prost::Message as _;
use protocol::message::{ConversationEntry, Pinned, ReceiveOption};

use super::{
    AppId, Error, Peer, UserId,
    change::{conversation, label},
    damaged,
    groups::{Refusal, access},
    history::View,
    keys::{self, Tail},
    records::{ConversationRecord, Head, LabelsRecord, PinRecord},
    sync::{Budget, PageLimit, decode_message},
    unread,
};
use crate::store::{Lane, RangeQuery, ReadMode, Store, Tx};

/// Mentions told for one conversation, at the most.
pub const MENTIONS_MAX: usize = 10;

/// Conversations read together: where each reading is a round trip, a page takes few.
const TOGETHER: usize = 32;

/// A page of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct ListPage {
    /// Most recently active first.
    pub entries: Vec<ConversationEntry>,
    /// Where the next page begins; `None`: the list is at its end.
    pub next: Option<Bytes>,
}

/// Reads the list of `user`, from the place that the page before named. `label`: only those that have it.
pub async fn list(
    store: &Store,
    app: AppId,
    user: &UserId,
    from: Option<Bytes>,
    label: Option<String>,
    limit: PageLimit,
) -> Result<ListPage, Error> {
    let user = user.clone();
    let read = async move |tx: &Tx| {
        let reader = Reader::open(tx, app, &user).await?;
        reader.list(from.as_ref(), label.as_deref(), limit).await
    };
    Ok(store.run(Lane::Read, "conversations", read).await?.0)
}

/// A place in the list in two numbers: the hour, and which conversation of it comes next (by a hash of its name; 0:
/// the first). A conversation that has moved up meanwhile is looked for in vain: then the hour begins again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Hours since the Unix epoch.
    pub hour: u32,
    /// Below 2^31.
    pub peer: u32,
}

impl Mark {
    fn of(place: &Bytes, prefix: &[u8]) -> Result<Self, Error> {
        let key = [prefix, &place[..]].concat();
        let hour = keys::active_hour(&key).ok_or_else(|| damaged("active key"))?;
        let peer = keys::active_peer(&key).ok_or_else(|| damaged("active key"))?;
        Ok(Mark { hour, peer: mark_of(&peer) })
    }
}

/// A number that stands for a name, from 1 to 2^31 - 1.
fn mark_of(peer: &Peer) -> u32 {
    let name = match peer {
        Peer::User(user) => user.as_str(),
        Peer::Group(group) => group.as_str(),
    };
    (xxhash_rust::xxh3::xxh3_64(name.as_bytes()) as u32 & 0x7fff_ffff).max(1)
}

/// Reads the list of `user` from `from` on; and where the next page begins.
pub async fn list_from(
    store: &Store,
    app: AppId,
    user: &UserId,
    from: Option<Mark>,
    limit: PageLimit,
) -> Result<(Vec<ConversationEntry>, Option<Mark>), Error> {
    let user = user.clone();
    let read = async move |tx: &Tx| -> Result<_, Error> {
        let reader = Reader::open(tx, app, &user).await?;
        let (begin, _) = keys::all_active(app, &user);
        let prefix = begin.get(..begin.len() - 1).unwrap_or_default();
        let place = match from {
            Some(mark) => Some(reader.place(mark, prefix).await?),
            None => None,
        };
        let page = reader.list(place.as_ref(), None, limit).await?;
        let next = page.next.as_ref().map(|place| Mark::of(place, prefix)).transpose()?;
        Ok((page.entries, next))
    };
    Ok(store.run(Lane::Read, "conversations_from", read).await?.0)
}

/// Reads chosen conversations, in the order asked for. One of which the user sees nothing is empty; if there is no other,
/// it is refused.
pub async fn chosen(
    store: &Store,
    app: AppId,
    user: &UserId,
    peers: Vec<Peer>,
) -> Result<Vec<ConversationEntry>, Error> {
    let user = user.clone();
    let read = async move |tx: &Tx| -> Result<Vec<ConversationEntry>, Error> {
        let reader = Reader::open(tx, app, &user).await?;
        let found = try_join_all(peers.iter().map(|peer| reader.chosen_entry(peer))).await?;
        let refusal = found.iter().find_map(|entry| entry.as_ref().err().copied());
        match refusal.filter(|_| found.iter().all(Result::is_err)) {
            Some(refusal) => Err(refusal.into()),
            None => Ok(peers.iter().zip(found).map(|(peer, entry)| entry.unwrap_or_else(|_| empty(peer))).collect()),
        }
    };
    Ok(store.run(Lane::Read, "chosen_conversations", read).await?.0)
}

/// Conversations whose unread messages are added up, at the most: anybody may have begun one with the user.
pub const UNREAD_CONVERSATIONS_MAX: usize = 10_000;

/// What is unread in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Messages, in conversations that are announced.
    pub messages: u64,
    /// Conversations marked unread by hand that hold no unread message.
    pub marked: u32,
}

/// Adds up what is unread in the most recently active conversations, at least one, some of them in one transaction.
pub async fn total_unread(store: &Store, app: AppId, user: &UserId, conversations_max: usize) -> Result<Unread, Error> {
    const PER_TRANSACTION: usize = 512;
    let mut total = Unread::default();
    let mut left = conversations_max;
    let mut from = None;
    loop {
        let (user, place, limit) = (user.clone(), from.take(), left.min(PER_TRANSACTION));
        let read = async move |tx: &Tx| -> Result<(Unread, Option<Bytes>), Error> {
            let reader = Reader::open(tx, app, &user).await?;
            let (peers, next) = reader.peers(place.as_ref(), limit).await?;
            let each = try_join_all(peers.iter().map(|(peer, _)| reader.unread(peer))).await?;
            let sum = |sum: Unread, one: &Unread| Unread {
                messages: sum.messages + one.messages,
                marked: sum.marked + one.marked,
            };
            Ok((each.iter().fold(Unread::default(), sum), next))
        };
        let ((part, next), _) = store.run(Lane::Read, "total_unread", read).await?;
        total = Unread { messages: total.messages + part.messages, marked: total.marked + part.marked };
        from = next;
        left -= limit;
        if from.is_none() || left == 0 {
            return Ok(total);
        }
    }
}

/// The pinned messages of a conversation, by sequence.
pub async fn pinned(store: &Store, app: AppId, user: &UserId, peer: &Peer) -> Result<Vec<Pinned>, Error> {
    let (user, peer) = (user.clone(), peer.clone());
    let read = async move |tx: &Tx| -> Result<Vec<Pinned>, Error> {
        let tail = Tail::of(&user, &peer);
        let (begin, end) = tail.pins(app);
        let limit = super::change::pin::PINS_MAX;
        let query = RangeQuery { begin, end, limit, reverse: false, mode: ReadMode::Snapshot };
        let kept = conversation::snapshot(tx, app, &user, &peer).await?;
        let spans = match &peer {
            Peer::User(_) => None,
            Peer::Group(group) => Some(access::spans(tx, app, group, &user, u64::MAX).await?),
        };
        let sees =
            |seq| spans.as_ref().is_none_or(|spans| spans.iter().any(|span| (span.first..=span.last).contains(&seq)));
        let mut pinned = Vec::new();
        for (key, record) in tx.range(query).await?.pairs {
            let seq = keys::last_seq(&key).ok_or_else(|| damaged("pin key"))?;
            let PinRecord { by, time_ms } = PinRecord::decode(record).map_err(|_| damaged("pin"))?;
            let deleted = tx.snapshot_get(&keys::deleted(app, &user, &peer, seq)).await?;
            if seq <= kept.cleared_seq || deleted.is_some() || !sees(seq) {
                continue; // gone for this user, pinned or not
            }
            let stored = tx.snapshot_get(&tail.message(app, seq)).await?;
            let message = stored.map(decode_message).transpose()?;
            if let Some(message) = message.filter(|message| access::is_for(message, &user)) {
                pinned.push(Pinned { message: Some(message), by, time_ms });
            }
        }
        Ok(pinned)
    };
    Ok(store.run(Lane::Read, "pinned", read).await?.0)
}

fn empty(peer: &Peer) -> ConversationEntry {
    ConversationEntry { conversation: Some(peer.to_conversation()), ..ConversationEntry::default() }
}

struct Reader<'a> {
    tx: &'a Tx,
    app: AppId,
    user: &'a UserId,
    labels: LabelsRecord,
}

impl<'a> Reader<'a> {
    async fn open(tx: &'a Tx, app: AppId, user: &'a UserId) -> Result<Self, Error> {
        let labels = label::decode(tx.snapshot_get(&keys::labels(app, user)).await?)?;
        Ok(Reader { tx, app, user, labels })
    }

    /// The place behind which a mark's page begins.
    async fn place(&self, mark: Mark, prefix: &[u8]) -> Result<Bytes, Error> {
        let (begin, behind) = keys::active_in(self.app, self.user, mark.hour);
        let start = Bytes::copy_from_slice(behind.get(prefix.len()..).unwrap_or_default());
        if mark.peer == 0 {
            return Ok(start);
        }
        let mut end = behind;
        loop {
            let (begin, mode) = (begin.clone(), ReadMode::Snapshot);
            let page = self.tx.range(RangeQuery { begin, end, limit: 1_000, reverse: true, mode }).await?;
            let is_marked = |key: &Bytes| keys::active_peer(key).is_some_and(|peer| mark_of(&peer) == mark.peer);
            if let Some((key, _)) = page.pairs.iter().find(|(key, _)| is_marked(key)) {
                return Ok(key.slice(prefix.len()..));
            }
            match page.pairs.last() {
                Some((oldest, _)) if page.more => end = oldest.clone(),
                _ => return Ok(start),
            }
        }
    }

    async fn list(&self, from: Option<&Bytes>, label: Option<&str>, limit: PageLimit) -> Result<ListPage, Error> {
        let mut budget = Budget::new(limit.bytes_max);
        let mut page = ListPage { entries: Vec::new(), next: from.cloned() };
        let entries_max = limit.entries_max.max(1);
        let mut looked_at = 0;
        loop {
            let wanted = if label.is_some() { TOGETHER } else { TOGETHER.min(entries_max + 1 - page.entries.len()) };
            let (peers, next) = self.peers(page.next.as_ref(), wanted).await?;
            looked_at += peers.len();
            let entries = try_join_all(peers.iter().map(|(peer, _)| self.listed_entry(peer, label))).await?;
            for (entry, (_, place)) in entries.into_iter().zip(&peers) {
                if let Some(entry) = entry {
                    if page.entries.len() == entries_max || !budget.take(entry.encoded_len()) {
                        return Ok(page.sorted());
                    }
                    page.entries.push(entry);
                }
                page.next = Some(place.clone());
            }
            if next.is_none() {
                page.next = None;
                return Ok(page.sorted());
            }
            // A page may end early, rather than a transaction grow old over conversations without the label.
            if page.entries.len() == entries_max || looked_at >= 2 * entries_max + TOGETHER {
                return Ok(page.sorted());
            }
        }
    }

    /// Peers behind a place in the list, each with its own place; and where to go on.
    async fn peers(&self, from: Option<&Bytes>, limit: usize) -> Result<(Vec<(Peer, Bytes)>, Option<Bytes>), Error> {
        /// No place is longer: it names an hour and a user.
        const PLACE_BYTES_MAX: usize = 80;
        if from.is_some_and(|place| place.len() > PLACE_BYTES_MAX) {
            return Err(Error::Argument("from is not of this server's making"));
        }
        let (begin, last) = keys::all_active(self.app, self.user);
        let prefix = begin.len() - 1;
        // A place is the end of a key: a client can't name one in another user's list.
        let end = match from {
            Some(place) => [begin.get(..prefix).unwrap_or_default(), &place[..]].concat().into(),
            None => last,
        };
        let query = RangeQuery { begin, end, limit, reverse: true, mode: ReadMode::Snapshot };
        let page = self.tx.range(query).await?;
        let peer = |(key, _): (Bytes, Bytes)| {
            let peer = keys::active_peer(&key).ok_or_else(|| damaged("active key"))?;
            Ok((peer, key.slice(prefix..)))
        };
        let peers = page.pairs.into_iter().map(peer).collect::<Result<Vec<_>, Error>>()?;
        let next = if page.more { peers.last().map(|(_, place)| place.clone()) } else { None };
        Ok((peers, next))
    }

    async fn parts(&self, peer: &Peer) -> Result<(Head, ConversationRecord), Error> {
        let tail = Tail::of(self.user, peer);
        let head = conversation::snapshot_head(self.tx, self.app, &tail);
        let kept = conversation::snapshot(self.tx, self.app, self.user, peer);
        futures::try_join!(head, kept)
    }

    async fn unread(&self, peer: &Peer) -> Result<Unread, Error> {
        let (head, kept) = self.parts(peer).await?;
        if kept.receive != i32::from(ReceiveOption::Notify) || head.last_seq <= kept.removed_seq {
            return Ok(Unread::default());
        }
        let messages = self.unread_messages(peer, &head, &kept).await?;
        Ok(Unread { messages, marked: u32::from(kept.marked_unread && messages == 0) })
    }

    async fn unread_messages(&self, peer: &Peer, head: &Head, kept: &ConversationRecord) -> Result<u64, Error> {
        if let Peer::Group(group) = peer {
            // What goes on in a group that the user has left is nothing to read.
            let member = self.tx.snapshot_get(&keys::member(self.app, group, self.user)).await?;
            if member.is_none() {
                return Ok(0);
            }
        }
        let counts = unread::counts(self.tx, self.app, self.user, peer, head).await?;
        Ok(unread::unread(counts, kept))
    }

    /// The entry, if it is to be in the list.
    async fn listed_entry(&self, peer: &Peer, label: Option<&str>) -> Result<Option<ConversationEntry>, Error> {
        let (head, kept) = self.parts(peer).await?;
        let is_removed = head.last_seq <= kept.removed_seq;
        let has_label =
            label.is_none_or(|label| label::names(&self.labels, &kept.labels).iter().any(|own| own == label));
        if is_removed || !has_label {
            return Ok(None);
        }
        match self.entry_of(peer, head, kept).await {
            // A group that was dissolved, or that the user has nothing to see of any more.
            Err(Error::Group(_)) => Ok(None),
            entry => entry.map(Some),
        }
    }

    /// The entry, or why the user sees nothing of the conversation.
    async fn chosen_entry(&self, peer: &Peer) -> Result<Result<ConversationEntry, Refusal>, Error> {
        let (head, kept) = self.parts(peer).await?;
        match self.entry_of(peer, head, kept).await {
            Err(Error::Group(refusal)) => Ok(Err(refusal)),
            entry => entry.map(Ok),
        }
    }

    async fn entry_of(&self, peer: &Peer, head: Head, kept: ConversationRecord) -> Result<ConversationEntry, Error> {
        let view = View::of(self.tx, self.app, self.user, peer, &head, &kept).await?;
        let newest = view.newest(head.last_seq, |message| !message.exclude_from_last_message);
        let (last_message, peer_read_seq, mentions, unread) = futures::try_join!(
            newest,
            self.peer_read_seq(peer),
            self.mentions(peer, &view, &kept),
            self.unread_messages(peer, &head, &kept)
        )?;
        Ok(ConversationEntry {
            conversation: Some(peer.to_conversation()),
            last_message,
            unread,
            mentions,
            head_seq: view.head(),
            active_ms: head.active_ms,
            peer_read_seq,
            state: Some(conversation::state(&kept, &self.labels)),
        })
    }

    /// How far the other side of a 1:1 conversation has read.
    async fn peer_read_seq(&self, peer: &Peer) -> Result<u64, Error> {
        match peer {
            Peer::User(other) if other != self.user => {
                let own = Peer::User(self.user.clone());
                Ok(conversation::snapshot(self.tx, self.app, other, &own).await?.shown_seq)
            }
            _ => Ok(0),
        }
    }

    /// Sequences of messages that mention the user and that he has not read: each by name, or everybody in a group.
    async fn mentions(&self, peer: &Peer, view: &View<'_>, kept: &ConversationRecord) -> Result<Vec<u64>, Error> {
        /// Of everybody, some are the user's own.
        const LOOKED_AT_MAX: usize = 64;
        let first = kept.read_seq.saturating_add(1).max(view.first());
        let begin = keys::mention(self.app, self.user, peer, first);
        let named = self.marks(begin, keys::mention(self.app, self.user, peer, u64::MAX >> 1), MENTIONS_MAX).await?;
        let mut seqs: Vec<u64> = named.iter().filter_map(|(key, _)| keys::last_seq(key)).collect();
        if let Peer::Group(group) = peer
            && !conversation::is_refused(kept)
        {
            let begin = keys::mention_of_all(self.app, group, first);
            let end = keys::mention_of_all(self.app, group, u64::MAX >> 1);
            for (key, by) in self.marks(begin, end, LOOKED_AT_MAX).await? {
                let Some(seq) = keys::last_seq(&key).filter(|seq| view.is_in_view(*seq)) else { continue };
                let deleted = self.tx.snapshot_get(&keys::deleted(self.app, self.user, peer, seq));
                if by != self.user.as_str().as_bytes() && deleted.await?.is_none() {
                    seqs.push(seq);
                }
            }
            seqs.sort_unstable();
            seqs.dedup();
            seqs.truncate(MENTIONS_MAX);
        }
        Ok(seqs)
    }

    async fn marks(&self, begin: Bytes, end: Bytes, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let query = RangeQuery { begin, end, limit, reverse: false, mode: ReadMode::Snapshot };
        Ok(self.tx.range(query).await?.pairs)
    }
}

impl ListPage {
    /// The index goes by the hour: inside a page the order is exact.
    fn sorted(mut self) -> Self {
        self.entries.sort_by_key(|entry| std::cmp::Reverse(entry.active_ms));
        self
    }
}
