//! Several devices of one user (MSG-04, MSG-06, MSG-07, MSG-12, MSG-16, MSG-17).
//!
//! Goal: whatever the devices of two users do, and whenever their connections are lost, all devices of a user end with
//! the same, and that is what the gateway says. Mechanics: random acts on random devices, each of which builds what it
//! keeps from its events alone, as WIRE.md tells clients to; then each is compared with the list, the histories and the
//! rest as they are read. `domain_changes` does the same below the gateway, with faults. Without it a push that goes
//! to one device too few would leave a phone and a desktop that disagree for ever.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use protocol::message::{
    ConversationState, Extension, ExtensionChange, Message, Send, UpdateConversation, event::What,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tests::{Client, Gateway, Seed, text_body};

const USERS: [&str; 3] = ["anna", "ben", "carl"];
/// anna and ben have two devices each, carl has none.
const DEVICES: [&str; 4] = ["anna", "anna", "ben", "ben"];
const ACTS: usize = 250;

/// What a device keeps of one conversation.
#[derive(Debug, Default, PartialEq)]
struct Kept {
    messages: BTreeMap<u64, Message>,
    deleted: BTreeSet<u64>,
    extensions: BTreeMap<(u64, String), Extension>,
    pins: BTreeMap<u64, String>,
    state: ConversationState,
    peer_read_seq: u64,
}

impl Kept {
    /// Of two copies of a message the one with the greater revision holds. A device does not know the counts of
    /// what it sent itself.
    fn put(&mut self, message: Message) {
        let message = Message { sender_count: 0, other_count: 0, ..message };
        if self.messages.get(&message.seq).is_none_or(|known| known.revision <= message.revision) {
            self.messages.insert(message.seq, message);
        }
    }

    fn is_visible(&self, seq: u64) -> bool {
        seq > self.state.cleared_seq && !self.deleted.contains(&seq)
    }
}

struct Device {
    client: Client,
    kept: BTreeMap<String, Kept>,
    blacklist: BTreeSet<String>,
}

impl Device {
    fn new(gateway: &Gateway, user: &str) -> Self {
        Device { client: gateway.login(user), kept: BTreeMap::new(), blacklist: BTreeSet::new() }
    }

    fn of(&mut self, peer: &str) -> &mut Kept {
        self.kept.entry(peer.to_owned()).or_default()
    }

    /// The connection is lost with whatever is under way, and another one made.
    fn reconnect(&mut self, gateway: &Gateway) {
        let (user, cursor) = (self.client.user().to_owned(), self.client.cursor.clone());
        self.client = gateway.connect(&user);
        self.client.cursor = cursor;
        self.client.try_login().expect("logged in");
        let missed = self.client.try_catch_up_events().expect("the log");
        missed.into_iter().for_each(|what| self.apply(what));
    }

    /// Takes events up to the message with this text.
    fn take_until(&mut self, text: &str) {
        loop {
            let what = self.client.next_event();
            let is_last = matches!(&what, What::Message(message) if message.body == text_body(text));
            self.apply(what);
            if is_last {
                return;
            }
        }
    }

    fn apply(&mut self, what: What) {
        let peer = |conversation: Option<protocol::message::Conversation>| conversation.expect("it names one").user;
        match what {
            What::Message(message) => self.conversation_of(&message).put(message),
            What::Changed(message) => {
                let kept = self.conversation_of(&message);
                // One that the device does not have the user may have deleted.
                if kept.messages.contains_key(&message.seq) {
                    kept.put(message);
                }
            }
            What::Deleted(deleted) => self.of(&peer(deleted.conversation)).deleted.extend(deleted.seqs),
            What::Conversation(changed) => {
                self.of(&peer(changed.conversation)).state = changed.state.expect("a state");
            }
            What::PeerRead(read) => {
                let kept = self.of(&peer(read.conversation));
                kept.peer_read_seq = kept.peer_read_seq.max(read.read_seq);
            }
            What::Extensions(changed) => {
                let kept = self.of(&peer(changed.conversation));
                // The first one changes the message, too.
                if let Some(message) = kept.messages.get_mut(&changed.seq).filter(|message| !message.extended) {
                    (message.extended, message.revision) = (true, message.revision + 1);
                }
                for extension in changed.extensions {
                    let key = (changed.seq, extension.key.clone());
                    match extension.version {
                        0 => drop(kept.extensions.remove(&key)),
                        _ => drop(kept.extensions.insert(key, extension)),
                    }
                }
            }
            What::Pin(pin) => {
                let pins = &mut self.of(&peer(pin.conversation)).pins;
                match pin.unpinned {
                    true => drop(pins.remove(&pin.seq)),
                    false => drop(pins.insert(pin.seq, pin.by)),
                }
            }
            What::Blacklist(changed) => {
                self.blacklist.extend(changed.added);
                self.blacklist.retain(|user| !changed.removed.contains(user));
            }
            What::Label(rename) => {
                for labels in self.kept.values_mut().map(|kept| &mut kept.state.labels) {
                    labels
                        .iter_mut()
                        .filter(|label| **label == rename.label)
                        .for_each(|label| *label = rename.to.clone());
                    labels.retain(|label| !label.is_empty());
                }
            }
            // Nobody has friends here, nor a profile.
            What::Profile(_)
            | What::Friends(_)
            | What::FriendRequest(_)
            | What::FriendRequestsRead(_)
            | What::FriendLists(_) => {}
            // Nor are there groups.
            What::GroupEntered(_)
            | What::GroupLeft(_)
            | What::GroupApplication(_)
            | What::GroupReceipts(_)
            | What::GroupNotification(_) => {}
        }
    }

    fn conversation_of(&mut self, message: &Message) -> &mut Kept {
        let peer = if message.from == self.client.user() { &message.to } else { &message.from };
        self.kept.entry(peer.clone()).or_default()
    }

    /// Sends, and keeps what the answer says: no event of it comes.
    fn send(&mut self, to: &str, send: Send) {
        let Ok(reply) = self.client.send_request(send.clone()) else { return };
        let message = Message {
            from: self.client.user().to_owned(),
            to: to.to_owned(),
            seq: reply.seq,
            time_ms: reply.time_ms,
            client_message_id: send.client_message_id,
            body: send.body,
            exclude_from_unread: send.exclude_from_unread,
            exclude_from_last_message: send.exclude_from_last_message,
            need_receipt: send.need_receipt,
            ..Message::default()
        };
        self.of(to).put(message);
    }

    /// Does something at random. It may be refused: that changes nothing anywhere.
    fn act(&mut self, random: &mut StdRng, number: usize) {
        let peer = USERS[random.random_range(0..USERS.len())];
        let head = self.of(peer).messages.keys().next_back().copied().unwrap_or(0);
        let seq = random.random_range(1..=head + 1);
        let client = &mut self.client;
        let changed = match random.random_range(0..20) {
            0..6 => {
                let send = Send {
                    to_user: peer.to_owned(),
                    client_message_id: Bytes::from(format!("{number}")),
                    body: text_body(&format!("message {number}")),
                    exclude_from_unread: random.random_ratio(1, 6),
                    exclude_from_last_message: random.random_ratio(1, 6),
                    need_receipt: random.random_ratio(1, 2),
                    ..Send::default()
                };
                self.send(peer, send);
                return;
            }
            6 => client.recall(peer, seq, "oh").map(drop),
            7 => client.edit(peer, seq, text_body(&format!("edited {number}"))).map(drop),
            8 => client.delete(peer, &[seq]).map(drop),
            9 => client.send_receipts(peer, &[seq]).map(drop),
            10..13 => {
                let key = ["like", "smile"][random.random_range(0..2)].to_owned();
                let present = self.kept.get(peer).and_then(|kept| kept.extensions.get(&(seq, key.clone())));
                let version = present.map_or(0, |present| present.version);
                let value = Bytes::from(number.to_string());
                let change = ExtensionChange { key, value, remove: random.random_ratio(1, 3), version };
                self.client.set_extensions(peer, seq, vec![change]).map(drop)
            }
            13 | 14 => client.pin(peer, seq, random.random_ratio(1, 3)).map(drop),
            15..18 => client.try_update(peer, update(random, seq)).map(drop),
            18 => client.rename_label("work", if random.random_ratio(1, 2) { "fun" } else { "" }).map(drop),
            _ => match random.random_ratio(1, 4) {
                true => client.blacklist(&[peer], &[]).map(drop),
                false => client.blacklist(&[], &[peer]).map(drop),
            },
        };
        assert!(!matches!(changed, Err(tests::Refusal::Closed(_))), "{changed:?}");
    }

    /// Compares what it keeps with what the gateway says.
    fn check(&mut self) {
        assert_eq!(self.client.blacklisted(), self.blacklist.iter().cloned().collect::<Vec<_>>());
        for peer in USERS {
            let Device { client, kept, .. } = self;
            let kept = kept.entry(peer.to_owned()).or_default();
            let who = format!("{} with {peer}", client.user());
            let mut read = Kept::default();
            client.conversation(peer).into_iter().for_each(|message| read.put(message));
            let visible: Vec<_> = kept.messages.values().filter(|message| kept.is_visible(message.seq)).collect();
            assert_eq!(visible, read.messages.values().collect::<Vec<_>>(), "{who}");
            let entry = client.entry(peer);
            assert_eq!((Some(&kept.state), kept.peer_read_seq), (entry.state.as_ref(), entry.peer_read_seq), "{who}");
            let last = read.messages.values().rfind(|message| !message.exclude_from_last_message);
            assert_eq!(entry.last_message.map(|message| message.seq), last.map(|message| message.seq), "{who}");
            let pins =
                client.pinned(peer).into_iter().map(|pinned| (pinned.message.expect("a message").seq, pinned.by));
            let kept_pins = kept.pins.iter().filter(|(seq, _)| kept.is_visible(**seq));
            let kept_pins: Vec<_> = kept_pins.map(|(seq, by)| (*seq, by.clone())).collect();
            assert_eq!(pins.collect::<Vec<_>>(), kept_pins, "{who}");
            for seq in kept.messages.keys().copied().collect::<Vec<_>>() {
                let page = client.extensions(peer, seq, "").expect("a page");
                let of_message =
                    kept.extensions.iter().filter(|((of, _), _)| *of == seq).map(|(_, extension)| extension);
                assert_eq!(page.extensions.iter().collect::<Vec<_>>(), of_message.collect::<Vec<_>>(), "{who}, {seq}");
            }
        }
    }
}

fn update(random: &mut StdRng, seq: u64) -> UpdateConversation {
    let mut labels = || if random.random_ratio(1, 3) { vec!["work".to_owned()] } else { vec![] };
    let (label, unlabel) = (labels(), labels());
    UpdateConversation {
        pinned: random.random_ratio(1, 3).then(|| random.random_ratio(1, 2)),
        // Not REFUSE: what came meanwhile is in the history alone.
        receive: random.random_ratio(1, 4).then(|| random.random_range(0..2)),
        marked_unread: random.random_ratio(1, 4).then(|| random.random_ratio(1, 2)),
        custom_data: random.random_ratio(1, 4).then(|| Bytes::from(seq.to_string())),
        label,
        unlabel,
        read_seq: if random.random_ratio(1, 2) { seq } else { 0 },
        clear: random.random_ratio(1, 15),
        remove: random.random_ratio(1, 15),
        ..UpdateConversation::default()
    }
}

#[test]
fn msg_04_devices_that_come_and_go_converge_on_what_the_gateway_says() {
    let mut random = StdRng::seed_from_u64(*Seed::for_test("msg_04_devices_that_come_and_go"));
    let gateway = Gateway::start();
    USERS.iter().for_each(|user| drop(gateway.login(user)));
    let mut devices = DEVICES.map(|user| Device::new(&gateway, user));
    for number in 0..ACTS {
        devices[random.random_range(0..DEVICES.len())].act(&mut random, number);
        if random.random_ratio(1, 12) {
            devices[random.random_range(0..DEVICES.len())].reconnect(&gateway);
        }
    }
    // Whatever was told before it has come when this comes, from a connection of its own.
    for user in ["anna", "ben"] {
        let mut last = gateway.login(user);
        last.send(user, "the last one");
        devices
            .iter_mut()
            .filter(|device| device.client.user() == user)
            .for_each(|device| device.take_until("the last one"));
    }
    devices.iter_mut().for_each(Device::check);
    // And whoever comes back finds nothing that it has not seen.
    for device in &mut devices {
        device.reconnect(&gateway);
        device.check();
    }
}
