//! What the server's reads say, compared with the raw store (counters, lists) and with what devices keep.

use std::collections::{BTreeMap, BTreeSet};

use backend::{
    domain::{
        AppId, UserId,
        act::Author,
        change::{blacklist, extension},
        conversations,
        friends::{self, Place},
        history::{self, HistoryQuery, Start},
        keys::{self, Direction},
        profile::{self, Chosen},
        sync::{self, From, PageLimit},
    },
    env::{Rng, SeededRng},
    store::{RangeQuery, ReadMode, Store, Versionstamp},
};
use bytes::Bytes;
use futures::executor::block_on;
use prost::Message as _;
use protocol::message::{Body, ConversationEntry, Message, ReceiveOption, event::What};

use super::{Kept, Local, without_counts};

const HOUR_MS: u64 = 3_600_000;

/// Reads of a list until none of its pages has changed between two of them.
const READS_MAX: usize = 20;

/// Reads everything of the server.
pub struct Server<'a> {
    pub store: &'a Store,
    pub app: AppId,
    pub rng: &'a SeededRng,
    pub users: &'a [UserId],
}

impl Server<'_> {
    fn below(&self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    fn limit(&self) -> PageLimit {
        PageLimit { entries_max: 1 + self.below(7) as usize, bytes_max: self.below(600) as usize }
    }

    /// A conversation as it is stored.
    pub fn raw(&self, one: &UserId, other: &UserId) -> Vec<Message> {
        let conversation = keys::Conversation::between(one, other);
        let (begin, end) = (keys::message(self.app, conversation, 0), keys::message(self.app, conversation, 1 << 40));
        let pairs = self.raw_range(begin, end);
        pairs.into_iter().map(|(_, stored)| Message::decode(stored).unwrap()).collect()
    }

    fn raw_range(&self, begin: Bytes, end: Bytes) -> Vec<(Bytes, Bytes)> {
        let tx = self.store.begin().unwrap();
        let query = RangeQuery { begin, end, limit: 100_000, reverse: false, mode: ReadMode::Snapshot };
        block_on(tx.range(query)).unwrap().pairs
    }

    fn history(&self, user: &UserId, peer: &UserId, mut start: Start, forward: bool) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let query = HistoryQuery { start, forward, limit: self.limit() };
            let page = block_on(history::page(self.store, self.app, user, &peer.clone().into(), query)).unwrap();
            messages.extend(page.messages);
            if !page.more {
                return messages;
            }
            start = Start::Seq(page.next_seq);
        }
    }

    pub fn list(&self, user: &UserId, label: Option<&str>) -> Vec<ConversationEntry> {
        let (mut all, mut from) = (Vec::new(), None);
        loop {
            let label = label.map(str::to_owned);
            let page = block_on(conversations::list(self.store, self.app, user, from, label, self.limit())).unwrap();
            let times: Vec<u64> = page.entries.iter().map(|entry| entry.active_ms).collect();
            assert!(times.is_sorted_by(|one, next| one >= next), "most recently active first: {times:?}");
            all.extend(page.entries);
            from = page.next;
            if from.is_none() {
                return all;
            }
        }
    }

    /// As a device does that has been told to start over, with a cursor from the log's end.
    pub fn start_over(&self, user: &UserId) -> Local {
        let mut local = Local::default();
        let listed = self.list(user, None);
        let not_listed = self.users.iter().filter(|peer| !listed.iter().any(|entry| peer_of(entry) == peer.as_str()));
        let chosen = conversations::chosen(self.store, self.app, user, not_listed.cloned().map(Into::into).collect());
        for entry in listed.into_iter().chain(block_on(chosen).unwrap()) {
            let peer = UserId::new(&peer_of(&entry)).unwrap();
            let kept = self.conversation(user, &peer, entry);
            local.conversations.insert(peer.to_string(), kept);
        }
        let mut after = None;
        loop {
            let page = blacklist::page(self.store, self.app, user, after, self.limit());
            let (listed, more) = block_on(page).unwrap();
            local.blacklist.extend(listed.iter().map(|listed| listed.user.to_string()));
            after = listed.last().map(|listed| listed.user.clone());
            if !more {
                self.read_people(user, &mut local);
                return local;
            }
        }
    }

    /// All friends, page by page. A list that changes between two pages is read once more.
    fn read_friends(&self, user: &UserId) -> BTreeSet<String> {
        for _ in 0..READS_MAX {
            let (mut friends, mut place) = (BTreeSet::new(), Place::default());
            let count = loop {
                let page = friends::page(self.store, self.app, user, place, None, Chosen::basic(), self.limit());
                let page = block_on(page).unwrap();
                assert!(!page.start_over);
                friends.extend(page.friends.into_iter().map(|friend| friend.user));
                place = page.next;
                if !page.more {
                    break page.count as usize;
                }
            };
            if friends.len() == count {
                return friends;
            }
        }
        panic!("as many friends of {user} as are counted were never there");
    }

    /// Friends, requests, lists and the user's own profile.
    fn read_people(&self, user: &UserId, local: &mut Local) {
        local.friends.extend(self.read_friends(user));
        for direction in [Direction::Incoming, Direction::Outgoing] {
            let mut after = None;
            loop {
                let page = friends::requests(self.store, self.app, user, direction, after, self.limit());
                let page = block_on(page).unwrap();
                after = page.requests.last().and_then(|request| UserId::new(&request.user));
                let placed =
                    page.requests.into_iter().map(|request| ((request.user.clone(), request.incoming), request));
                local.requests.extend(placed);
                local.requests_read_ms = page.read_ms;
                if !page.more {
                    break;
                }
            }
        }
        let lists = block_on(friends::lists(self.store, self.app, user)).unwrap();
        local.friend_lists = lists.into_iter().map(|list| list.name).collect();
        let own = profile::profiles(self.store, self.app, vec![user.clone()], Chosen::all());
        let own = block_on(own).unwrap().remove(0).unwrap();
        local.profiles.insert(user.to_string(), own);
    }

    /// What a device knows of people is what the server says.
    fn check_people(&self, user: &UserId, device: &Local, truth: &Local) {
        assert_eq!(device.friends, truth.friends, "friends of {user}");
        assert_eq!(device.requests, truth.requests, "requests of {user}");
        assert_eq!(device.requests_read_ms, truth.requests_read_ms, "read requests of {user}");
        assert_eq!(device.friend_lists, truth.friend_lists, "friend lists of {user}");
        let own = |local: &Local| {
            let own = local.profiles.get(user.as_str()).cloned().unwrap_or_default();
            (own.nick, own.level)
        };
        assert_eq!(own(device), own(truth), "profile of {user}");
        for (other, told) in &device.profiles {
            let other = UserId::new(other).unwrap();
            let now = profile::profiles(self.store, self.app, vec![other.clone()], Chosen::all());
            let now = block_on(now).unwrap().remove(0).unwrap();
            assert!(told.nick.is_none() || told.nick == now.nick, "{user} knows of {told:?}, which is {now:?}");
            assert!(told.level.is_none() || told.level == now.level, "{user} knows of {told:?}, which is {now:?}");
        }
    }

    fn conversation(&self, user: &UserId, peer: &UserId, entry: ConversationEntry) -> Kept {
        let messages = self.history(user, peer, Start::End, true);
        let mut kept = Kept { state: entry.state.unwrap(), peer_read_seq: entry.peer_read_seq, ..Kept::default() };
        kept.messages = messages.into_iter().map(|message| (message.seq, message)).collect();
        for pinned in block_on(conversations::pinned(self.store, self.app, user, &peer.clone().into())).unwrap() {
            kept.pins.insert(pinned.message.unwrap().seq, pinned.by);
        }
        for seq in 1..=entry.head_seq {
            let mut after = String::new();
            loop {
                let with = peer.clone().into();
                let page = extension::page(
                    self.store,
                    self.app,
                    (user, Author::User),
                    &with,
                    seq,
                    after,
                    self.below(40) as usize,
                );
                let (extensions, more) = block_on(page).unwrap();
                after = extensions.last().map(|extension| extension.key.clone()).unwrap_or_default();
                let keyed = extensions.into_iter().map(|extension| ((seq, extension.key.clone()), extension));
                kept.extensions.extend(keyed);
                if !more {
                    break;
                }
            }
        }
        kept
    }

    /// Messages that are in a user's log, by peer; and peers that were refused at some time.
    fn received(&self, user: &UserId) -> (BTreeSet<(String, u64)>, BTreeSet<String>) {
        let (mut received, mut refused) = (BTreeSet::new(), BTreeSet::new());
        let mut cursor = Versionstamp::ZERO;
        loop {
            let from = From::Cursor(cursor, Bytes::new());
            let page = block_on(sync::events(self.store, self.app, user, from, self.limit())).unwrap();
            for event in page.events {
                assert!(event.position > cursor, "in log order");
                cursor = event.position;
                match event.what {
                    What::Message(message) => {
                        let peer = if message.from == user.as_str() { message.to } else { message.from };
                        received.insert((peer, message.seq));
                    }
                    What::Conversation(changed)
                        if changed.state.as_ref().unwrap().receive == i32::from(ReceiveOption::Refuse) =>
                    {
                        refused.insert(changed.conversation.unwrap().user);
                    }
                    _ => {}
                }
            }
            if !page.more {
                return (received, refused);
            }
        }
    }

    /// A device that has come to the end of its log knows what the server says.
    pub fn check_device(&self, user: &UserId, device: &Local, truth: &Local) {
        assert_eq!(device.blacklist, truth.blacklist, "blacklist of {user}");
        self.check_people(user, device, truth);
        let (received, _) = self.received(user);
        for (peer, kept) in &truth.conversations {
            let own = device.conversations.get(peer).cloned().unwrap_or_default();
            let place = format!("{user} with {peer}");
            assert_eq!(own.state, kept.state, "state of {place}");
            assert_eq!(own.peer_read_seq, kept.peer_read_seq, "what the peer has read of {place}");
            // Of what a user has deleted or cleared, the pin is there, and not shown.
            let shown = kept.visible();
            let pins = own.pins.iter().filter(|(seq, _)| shown.contains_key(seq));
            assert!(pins.eq(&kept.pins), "pins of {place}: {:?}, {:?}", own.pins, kept.pins);
            assert_eq!(own.extensions, kept.extensions, "extensions of {place}");
            let (shown, stored) = (own.visible(), kept.visible());
            for (seq, message) in &stored {
                match shown.get(seq) {
                    Some(shown) => assert_eq!(shown, message, "{place}"),
                    // What was refused, the device reads in the history.
                    None => assert!(!received.contains(&(peer.clone(), *seq)), "{place} has lost {seq}"),
                }
            }
            assert!(shown.keys().all(|seq| stored.contains_key(seq)), "{place} shows {:?}", shown.keys());
        }
    }

    /// What is counted and listed is what a count of the messages gives.
    pub fn check_counts(&self, user: &UserId, truth: &Local) {
        let (received, refused) = self.received(user);
        let listed = self.list(user, None);
        let mut total = conversations::Unread::default();
        let mut expected_list = BTreeSet::new();
        let mut expected_active = BTreeMap::new();
        for peer in self.users {
            let raw = self.raw(user, peer);
            let entry = block_on(conversations::chosen(self.store, self.app, user, vec![peer.clone().into()]))
                .unwrap()
                .remove(0);
            let state = entry.state.clone().unwrap();
            let place = format!("{user} with {peer}");
            assert!(raw.iter().map(|message| message.seq).eq(1..=entry.head_seq), "no gap in {place}");
            assert!(raw.is_sorted_by_key(|message| message.time_ms), "time of {place}");
            let last = raw.iter().rfind(|message| !message.exclude_from_last_message);
            assert_eq!(entry.active_ms, last.map_or(0, |message| message.time_ms), "{place}");
            if let Some(last) = last {
                expected_active.insert(peer.to_string(), last.time_ms / HOUR_MS);
            }
            if last.is_some_and(|last| last.seq > state.removed_seq) {
                expected_list.insert(peer.to_string());
                assert!(listed.contains(&entry), "{place}: {entry:?} in {listed:?}");
            }
            let of_peer = |message: &&Message| message.from == peer.as_str() && user != peer;
            let is_refused = state.receive == i32::from(ReceiveOption::Refuse);
            let counting = |message: &&Message| message.seq > state.read_seq && !message.exclude_from_unread;
            let unread = raw.iter().filter(of_peer).filter(counting).count() as u64;
            assert_eq!(entry.unread, if is_refused { 0 } else { unread }, "unread of {place}");
            let is_listed = last.is_some_and(|last| last.seq > state.removed_seq);
            if is_listed && state.receive == i32::from(ReceiveOption::Notify) {
                total.messages += unread;
                total.marked += u32::from(unread == 0 && state.marked_unread);
            }
            let visible = truth.conversations[peer.as_str()].visible();
            let newest = visible.values().rfind(|message| !message.exclude_from_last_message);
            assert_eq!(entry.last_message.map(without_counts).as_ref(), newest, "last message of {place}");
            if !refused.contains(peer.as_str()) {
                let mentions = visible.values().filter(|message| {
                    let body = Body::decode(message.body.clone()).unwrap();
                    let named = body.mention_all || body.mentions.iter().any(|name| name == user.as_str());
                    named && of_peer(message) && message.seq > state.read_seq
                });
                let mentions: Vec<u64> = mentions.map(|message| message.seq).take(10).collect();
                assert_eq!(entry.mentions, mentions, "mentions of {place}");
                let all_received = raw.iter().all(|message| received.contains(&(peer.to_string(), message.seq)));
                assert!(all_received, "log of {place}");
            }
            self.check_history(user, peer, &visible);
        }
        let read = |max| block_on(conversations::total_unread(self.store, self.app, user, max)).unwrap();
        assert_eq!(read(usize::MAX), total, "{user}");
        let largest = listed.iter().map(|entry| entry.unread).max().unwrap_or(0);
        assert!(read(1).messages <= largest && read(2).messages <= 2 * largest, "{user}: more than was asked for");
        let names: Vec<String> = listed.iter().map(peer_of).collect();
        assert_eq!(names.len(), expected_list.len(), "each once: {names:?}");
        assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), expected_list);
        let hours: Vec<u64> = listed.iter().map(|entry| entry.active_ms / HOUR_MS).collect();
        assert!(hours.is_sorted_by(|one, next| one >= next), "{hours:?}");
        self.check_active(user, &expected_active);
        self.check_labels(user, &listed);
    }

    fn check_active(&self, user: &UserId, expected: &BTreeMap<String, u64>) {
        let (begin, end) = keys::all_active(self.app, user);
        let entries: Vec<Bytes> = self.raw_range(begin, end).into_iter().map(|(key, _)| key).collect();
        let expected: BTreeSet<Bytes> = expected
            .iter()
            .map(|(peer, hour)| keys::active(self.app, user, *hour as u32, &UserId::new(peer).unwrap().into()))
            .collect();
        assert_eq!(entries.into_iter().collect::<BTreeSet<_>>(), expected, "exactly one entry for each conversation");
    }

    fn check_labels(&self, user: &UserId, listed: &[ConversationEntry]) {
        let labels = |entry: &ConversationEntry| entry.state.clone().unwrap().labels;
        let all: BTreeSet<String> = listed.iter().flat_map(labels).collect();
        for label in &all {
            let with = self.list(user, Some(label));
            let expected: BTreeSet<_> =
                listed.iter().filter(|entry| labels(entry).contains(label)).map(peer_of).collect();
            assert_eq!(with.len(), expected.len());
            assert_eq!(with.iter().map(peer_of).collect::<BTreeSet<_>>(), expected, "label {label} of {user}");
        }
    }

    fn check_history(&self, user: &UserId, peer: &UserId, visible: &BTreeMap<u64, Message>) {
        let place = format!("{user} with {peer}");
        let read = |start, forward| -> Vec<Message> {
            self.history(user, peer, start, forward).into_iter().map(without_counts).collect()
        };
        let reversed = |mut messages: Vec<Message>| {
            messages.reverse();
            messages
        };
        assert!(reversed(read(Start::End, false)).iter().eq(visible.values()), "{place} backwards");
        let times: Vec<u64> = visible.values().map(|message| message.time_ms).collect();
        if times.is_empty() {
            return;
        }
        let time_ms = times[self.below(times.len() as u64) as usize] + self.below(3) - 1;
        let since = visible.values().filter(|message| message.time_ms >= time_ms);
        assert!(read(Start::Time(time_ms), true).iter().eq(since), "{place} since {time_ms}");
        let until = visible.values().filter(|message| message.time_ms <= time_ms);
        assert!(reversed(read(Start::Time(time_ms), false)).iter().eq(until), "{place} until {time_ms}");
    }
}

fn peer_of(entry: &ConversationEntry) -> String {
    entry.conversation.as_ref().unwrap().user.clone()
}
