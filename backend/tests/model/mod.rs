//! What a device keeps, and how it follows its user's event log: the rules of WIRE.md for clients, and those
//! of the gateway's `shard/session.rs` for the other end of the connection.

pub mod check;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use backend::{
    domain::{
        Error, UserId,
        act::{Act, Answer, News},
        message::NewMessage,
        sync::SyncPage,
    },
    store::Versionstamp,
};
use prost::Message as _;
use protocol::message::{
    ConversationState, Event, Extension, FriendRequest, FriendRequestState, Message, Profile, event::What,
};

/// What a device keeps of one conversation.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub messages: BTreeMap<u64, Message>,
    pub deleted: BTreeSet<u64>,
    pub extensions: BTreeMap<(u64, String), Extension>,
    /// Pinned sequences, and by whom.
    pub pins: BTreeMap<u64, String>,
    pub state: ConversationState,
    pub peer_read_seq: u64,
}

impl Kept {
    /// Of two copies of a message the one with the greater revision holds.
    pub fn put(&mut self, message: Message) {
        match self.messages.get(&message.seq) {
            Some(known) if known.revision > message.revision => {}
            _ => drop(self.messages.insert(message.seq, message)),
        }
    }

    /// What is shown to the user, without the counts, which a device does not know of what it sent itself.
    pub fn visible(&self) -> BTreeMap<u64, Message> {
        let shown = |seq: &u64| *seq > self.state.cleared_seq && !self.deleted.contains(seq);
        self.messages
            .iter()
            .filter(|(seq, _)| shown(seq))
            .map(|(seq, message)| (*seq, without_counts(message.clone())))
            .collect()
    }

    fn put_extension(&mut self, seq: u64, extension: Extension) {
        let key = (seq, extension.key.clone());
        match extension.version {
            0 => drop(self.extensions.remove(&key)),
            _ => drop(self.extensions.insert(key, extension)),
        }
    }

    /// The first extension of a message changes the message, too.
    fn mark_extended(&mut self, seq: u64) {
        if let Some(message) = self.messages.get_mut(&seq).filter(|message| !message.extended) {
            message.extended = true;
            message.revision += 1;
        }
    }
}

pub fn without_counts(message: Message) -> Message {
    Message { sender_count: 0, other_count: 0, ..message }
}

/// What a device keeps.
#[derive(Clone, Debug, Default)]
pub struct Local {
    pub conversations: BTreeMap<String, Kept>,
    pub blacklist: BTreeSet<String>,
    pub friends: BTreeSet<String>,
    /// Open requests, by the other and whether they are the other's.
    pub requests: BTreeMap<(String, bool), FriendRequest>,
    pub requests_read_ms: u64,
    pub friend_lists: Vec<String>,
    /// What was told of the user's own profile, and of friends' since they became friends.
    pub profiles: BTreeMap<String, Profile>,
}

impl Local {
    pub fn conversation(&mut self, peer: &str) -> &mut Kept {
        self.conversations.entry(peer.to_owned()).or_default()
    }

    /// An entry of the user's log.
    pub fn apply(&mut self, user: &UserId, what: What) {
        let peer_of = |conversation: Option<protocol::message::Conversation>| conversation.unwrap().user;
        match what {
            What::Message(message) => {
                let peer = peer_in(user, &message);
                self.conversation(&peer).put(message);
            }
            What::Changed(message) => {
                let peer = peer_in(user, &message);
                let kept = self.conversation(&peer);
                // What the device does not have the user may have deleted, before it started over.
                if kept.messages.contains_key(&message.seq) {
                    kept.put(message);
                }
            }
            What::Deleted(deleted) => {
                self.conversation(&peer_of(deleted.conversation)).deleted.extend(deleted.seqs);
            }
            What::Conversation(changed) => {
                self.conversation(&peer_of(changed.conversation)).state = changed.state.unwrap();
            }
            What::PeerRead(read) => {
                let kept = self.conversation(&peer_of(read.conversation));
                kept.peer_read_seq = kept.peer_read_seq.max(read.read_seq);
            }
            What::Extensions(changed) => {
                let kept = self.conversation(&peer_of(changed.conversation));
                kept.mark_extended(changed.seq);
                changed.extensions.into_iter().for_each(|extension| kept.put_extension(changed.seq, extension));
            }
            What::Pin(pin) => {
                let pins = &mut self.conversation(&peer_of(pin.conversation)).pins;
                match pin.unpinned {
                    true => drop(pins.remove(&pin.seq)),
                    false => drop(pins.insert(pin.seq, pin.by)),
                }
            }
            What::Blacklist(changed) => {
                self.blacklist.extend(changed.added);
                self.blacklist.retain(|user| !changed.removed.contains(user));
            }
            What::Profile(told) => {
                if told.user == user.as_str() || self.friends.contains(&told.user) {
                    let known = self.profiles.entry(told.user.clone()).or_default();
                    known.user = told.user;
                    known.nick = told.nick.or(known.nick.take());
                    known.level = told.level.or(known.level);
                }
            }
            What::Friends(changed) => {
                self.friends.retain(|friend| !changed.removed.contains(friend));
                self.profiles.retain(|friend, _| !changed.removed.contains(friend));
                self.friends.extend(changed.changed);
            }
            What::FriendRequest(request) => {
                let place = (request.user.clone(), request.incoming);
                match request.state() {
                    FriendRequestState::Open => drop(self.requests.insert(place, request)),
                    _ => drop(self.requests.remove(&place)),
                }
            }
            What::FriendRequestsRead(read) => self.requests_read_ms = read.read_ms,
            What::FriendLists(changed) => self.friend_lists = changed.lists,
            What::GroupEntered(_)
            | What::GroupLeft(_)
            | What::GroupApplication(_)
            | What::GroupReceipts(_)
            | What::GroupNotification(_) => panic!("there are no groups here"),
            What::Label(rename) => {
                for labels in self.conversations.values_mut().map(|kept| &mut kept.state.labels) {
                    labels
                        .iter_mut()
                        .filter(|label| **label == rename.label)
                        .for_each(|label| *label = rename.to.clone());
                    labels.retain(|label| !label.is_empty());
                }
            }
        }
    }

    /// The answer to what this device asked for. The events of an answer that says everything don't come; others
    /// may have been overtaken by it, or have overtaken it.
    fn apply_answer(&mut self, act: &Act, answer: Answer) {
        match (act, answer) {
            // What had been sent before is in the log; the user may have deleted it since.
            (Act::Send(new), Answer::Sent { seq, time_ms, duplicate: false }) if seq > 0 => {
                let message = sent_message(new, seq, time_ms);
                self.conversation(&new.to.to_string()).messages.entry(seq).or_insert(message);
            }
            // These say how it was then: what holds is told by the events, which come to this device, too.
            (Act::Change(_), Answer::Message(_) | Answer::Conversation(_) | Answer::Extensions(_)) => {}
            (_, Answer::Done | Answer::Relations(_) | Answer::Sent { .. }) => {}
            (act, answer) => panic!("{answer:?} to {act:?}"),
        }
    }
}

fn peer_in(user: &UserId, message: &Message) -> String {
    if message.from == user.as_str() { message.to.clone() } else { message.from.clone() }
}

fn sent_message(new: &NewMessage, seq: u64, time_ms: u64) -> Message {
    Message {
        from: new.from.to_string(),
        to: new.to.to_string(),
        seq,
        time_ms,
        client_message_id: new.client_message_id.clone(),
        body: new.body.clone(),
        priority: new.treatment.priority.into(),
        exclude_from_unread: new.treatment.exclude_from_unread,
        exclude_from_last_message: new.treatment.exclude_from_last_message,
        need_receipt: new.treatment.need_receipt,
        ..Message::default()
    }
}

/// What arrives at a device's connection, in order.
pub enum Delivery {
    Answer(Act, Result<Answer, Error>),
    /// `true`: of what this very connection asked for.
    News(News, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feed {
    Idle,
    Syncing,
    CatchingUp,
    Live,
    Behind,
}

/// A device and its session.
pub struct Device {
    pub user: UserId,
    pub local: Local,
    /// What the device stores; with it begins each session.
    pub cursor: Versionstamp,
    /// Connections so far: what belongs to an earlier one does not reach the device.
    pub epoch: u32,
    pub inbox: VecDeque<Delivery>,
    feed: Feed,
    session_cursor: Versionstamp,
    noticed: Versionstamp,
    page: Option<SyncPage>,
}

impl Device {
    pub fn new(user: UserId) -> Self {
        let zero = Versionstamp::ZERO;
        let (local, inbox) = (Local::default(), VecDeque::new());
        let feed = Feed::Idle;
        Device { user, local, cursor: zero, epoch: 0, inbox, feed, session_cursor: zero, noticed: zero, page: None }
    }

    /// The connection is lost, and another one made.
    pub fn reconnect(&mut self) {
        self.epoch += 1;
        self.inbox.clear();
        self.page = None;
        (self.feed, self.session_cursor, self.noticed) = (Feed::Idle, Versionstamp::ZERO, Versionstamp::ZERO);
    }

    /// Takes the next thing that has arrived. `lost`: it was dropped on the way, if that may be.
    pub fn receive(&mut self, lost: bool) {
        match self.inbox.pop_front() {
            None => {}
            Some(Delivery::Answer(act, outcome)) => {
                outcome.into_iter().for_each(|answer| self.local.apply_answer(&act, answer));
            }
            Some(Delivery::News(News::Behind, _)) => self.fall_behind(),
            Some(Delivery::News(News::Event(..), _)) if lost => self.fall_behind(),
            Some(Delivery::News(News::Event(position, event), own)) => {
                self.noticed = self.noticed.max(position);
                if self.feed == Feed::Live && position > self.session_cursor {
                    self.session_cursor = position;
                    if !own {
                        let what = Event::decode(event.to_stored()).unwrap().what.unwrap();
                        self.local.apply(&self.user, what);
                    }
                    // Told by the push, or by the next pong.
                    self.cursor = position;
                }
            }
            Some(Delivery::News(News::Push(_) | News::Entered(_) | News::Left(_), _)) => {}
        }
    }

    fn fall_behind(&mut self) {
        self.feed = match self.feed {
            Feed::Live => Feed::Behind,
            Feed::Syncing => Feed::CatchingUp,
            feed => feed,
        };
    }

    /// The device asks for its log, if it is to; `true` if it does.
    pub fn start_sync(&mut self) -> bool {
        let starts = self.page.is_none() && self.feed != Feed::Live;
        if starts {
            self.feed = Feed::Syncing;
        }
        starts
    }

    /// The page has been read; its answer is on its way.
    pub fn page_read(&mut self, page: SyncPage) {
        assert!(!page.start_over, "the whole log is there");
        self.page = Some(page);
    }

    /// The answer comes.
    pub fn finish_sync(&mut self) {
        let Some(page) = self.page.take() else { return };
        let more = page.more || self.noticed > page.cursor || self.feed != Feed::Syncing;
        self.feed = if more { Feed::CatchingUp } else { Feed::Live };
        self.session_cursor = page.cursor;
        self.cursor = page.cursor;
        page.events.into_iter().for_each(|event| self.local.apply(&self.user, event.what));
    }

    pub fn is_live(&self) -> bool {
        self.feed == Feed::Live && self.page.is_none() && self.inbox.is_empty()
    }
}
