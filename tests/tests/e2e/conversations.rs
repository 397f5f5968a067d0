//! The conversation list: order, last message, unread, mentions, read marks (MSG-07, MSG-09, MSG-16).
//!
//! Goal: the list says the same as the history of each conversation, to every device, at any time. Mechanics: a
//! user with several conversations, entries compared with what was sent. Without it counts would drift, or a
//! conversation would stand in the wrong place or not at all.

use bytes::Bytes;
use prost::Message as _;
use protocol::{
    ErrorCode,
    message::{
        Body, ConversationChanged, ConversationEntry, GetConversationsReply, PeerRead, Send, SendReply, Text,
        UpdateConversation, element::Kind, event::What,
    },
};
use tests::{Client, Gateway, MessageExt, body_of, text_body, unique_id, user};

fn peer_of(entry: &ConversationEntry) -> &str {
    entry.conversation.as_ref().map_or("", |conversation| &conversation.user)
}

fn last_text(client: &mut Client, peer: &str) -> Option<String> {
    client.entry(peer).last_message.as_ref().map(MessageExt::text)
}

/// Sends at a later millisecond than `after`, so that the order is certain. Returns the message's time.
fn send_after(client: &mut Client, to: &str, text: &str, after: u64) -> u64 {
    loop {
        let time_ms = client.send(to, text).time_ms;
        if time_ms > after {
            return time_ms;
        }
    }
}

fn mentioning(users: &[&str], all: bool) -> Bytes {
    let kind = Kind::Text(Text { text: "look".into() });
    let mentions = users.iter().map(ToString::to_string).collect();
    Body { mentions, mention_all: all, ..body_of([kind]) }.encode_to_vec().into()
}

fn excluded(to: &str, text: &str) -> Send {
    let body = text_body(text);
    Send { to_user: to.into(), body, exclude_from_unread: true, exclude_from_last_message: true, ..Send::default() }
}

#[test]
fn msg_16_the_list_goes_from_the_most_recently_active_with_the_last_message_of_each() {
    let gateway = Gateway::start();
    for name in ["ben", "carl", "dora", "emil"] {
        gateway.login(name);
    }
    let mut anna = gateway.login("anna");
    assert!(anna.conversations(0).is_empty());
    let mut time = 0;
    for peer in ["dora", "ben", "emil", "carl", "ben"] {
        time = send_after(&mut anna, peer, peer, time);
    }
    assert_eq!(anna.peers(), ["ben", "carl", "emil", "dora"]);
    let entries = anna.conversations(0);
    for entry in &entries {
        let newest = anna.conversation(peer_of(entry)).pop();
        assert_eq!(entry.last_message, newest);
        assert_eq!(Some(entry.head_seq), newest.as_ref().map(|message| message.seq));
        assert_eq!(Some(entry.active_ms), newest.map(|message| message.time_ms));
        assert_eq!((entry.unread, entry.peer_read_seq), (0, 0));
        assert_eq!(entry.state, Some(Default::default()));
    }
    // From the other side, too.
    let mut dora = gateway.login("dora");
    send_after(&mut dora, "anna", "back", time);
    assert_eq!(anna.peers(), ["dora", "ben", "carl", "emil"]);
    assert_eq!(dora.peers(), ["anna"]);
    assert_eq!(last_text(&mut anna, "dora"), last_text(&mut dora, "anna"));
    // Chosen ones come in the order asked for, and those without a message are empty.
    let chosen = anna.chosen_conversations(&["emil", "nobody", "ben"]).expect("conversations");
    assert_eq!(chosen.iter().map(peer_of).collect::<Vec<_>>(), ["emil", "nobody", "ben"]);
    assert_eq!((chosen[1].last_message.as_ref(), chosen[1].head_seq, chosen[1].active_ms), (None, 0, 0));
    let refused = anna.chosen_conversations(&vec!["ben"; 101]).expect_err("a refusal");
    assert_eq!(refused.code(), Some(ErrorCode::ARGUMENT_INVALID));
    assert_eq!(
        anna.conversations_page(Bytes::new(), 1001, "").expect_err("a refusal").code(),
        Some(ErrorCode::ARGUMENT_INVALID)
    );
}

#[test]
fn msg_16_pages_of_any_size_bring_every_conversation_once() {
    let gateway = Gateway::builder().more_settings(&serde_json::json!({"recipient_exists": false})).start();
    let mut anna = gateway.login("anna");
    let peers: Vec<String> = (0..75).map(|n| format!("peer {n:02}")).collect();
    let requests: Vec<u32> = peers.iter().map(|peer| anna.start_send(peer, &unique_id(), text_body(peer))).collect();
    for request in requests {
        anna.answer::<SendReply>(request).expect("sent");
    }
    let whole = anna.conversations(0);
    assert!(whole.windows(2).all(|pair| pair[0].active_ms >= pair[1].active_ms), "from the most recent on");
    for limit in [1, 7, 32, 33, 74, 75, 76, 1000] {
        let mut entries = anna.conversations(limit);
        entries.sort_by(|a, b| peer_of(a).cmp(peer_of(b)));
        assert_eq!(entries.iter().map(peer_of).collect::<Vec<_>>(), peers, "pages of {limit}");
        assert!(entries.iter().all(|entry| whole.contains(entry)));
    }
}

#[test]
fn msg_16_the_last_message_is_the_newest_that_the_user_sees_and_that_counts_as_one() {
    let gateway = Gateway::start();
    gateway.login("carl");
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    for text in ["one", "two", "three"] {
        anna.send("ben", text);
    }
    let time = anna.entry("ben").active_ms;
    let time = send_after(&mut anna, "carl", "above", time);
    // Neither shown nor bringing the conversation up.
    assert_eq!(anna.send_request(excluded("ben", "excluded")).expect("sent").seq, 4);
    assert_eq!(anna.peers(), ["carl", "ben"]);
    let entry = ben.entry("anna");
    assert_eq!((entry.last_message.map(|message| message.text()), entry.head_seq), (Some("three".into()), 4));
    assert!(entry.active_ms < time);
    // Deleted by one: the other still sees it.
    ben.delete("anna", &[3]).expect("deleted");
    assert_eq!(last_text(&mut ben, "anna"), Some("two".into()));
    assert_eq!(last_text(&mut anna, "ben"), Some("three".into()));
    // Recalled: its tip is shown to who has not deleted it.
    anna.recall("ben", 3, "").expect("recalled");
    assert!(anna.entry("ben").last_message.is_some_and(|message| message.recalled.is_some()));
    assert_eq!(last_text(&mut ben, "anna"), Some("two".into()));
    ben.delete("anna", &[1, 2]).expect("deleted");
    assert_eq!(last_text(&mut ben, "anna"), None);
    assert_eq!(ben.peers(), ["anna"], "it is still in the list");
    // Many deleted or excluded ones before it.
    for n in 0..40 {
        anna.send("ben", &n.to_string());
        anna.send_request(excluded("ben", "excluded")).expect("sent");
    }
    ben.delete("anna", &(10..=84).collect::<Vec<_>>()).expect("deleted");
    assert_eq!(last_text(&mut ben, "anna"), Some("2".into()), "message 9");
    // A conversation of excluded messages alone is in nobody's list.
    anna.send_request(excluded("anna", "excluded")).expect("sent");
    assert!(!anna.peers().contains(&"anna".to_owned()));
}

#[test]
fn msg_16_msg_07_unread_messages_are_counted_and_read_marks_told() {
    let gateway = Gateway::start();
    let (mut anna, mut ben, mut tablet) = (gateway.login("anna"), gateway.login("ben"), gateway.login("ben"));
    let read = |client: &mut Client, seq, expected_unread| {
        client.read("anna", seq);
        assert_eq!(client.entry("anna").unread, expected_unread, "read to {seq}");
    };
    anna.send("ben", "1");
    anna.send_request(Send { exclude_from_last_message: false, ..excluded("ben", "2") }).expect("sent");
    ben.send("anna", "3");
    anna.send("ben", "4");
    anna.send("ben", "5");
    assert_eq!(ben.entry("anna").unread, 3, "neither the excluded one nor one's own");
    assert_eq!(anna.entry("ben").unread, 1);
    assert_eq!((ben.unread().messages, anna.unread().messages), (3, 1));
    read(&mut ben, 1, 2);
    read(&mut ben, 2, 2);
    read(&mut ben, 3, 2);
    read(&mut ben, 4, 1);
    read(&mut ben, 2, 1); // never back
    assert_eq!(ben.entry("anna").state.map(|state| state.read_seq), Some(4));
    read(&mut ben, u64::MAX, 0);
    assert_eq!(ben.entry("anna").state.map(|state| state.read_seq), Some(5), "no further than there is something");
    anna.send("ben", "6");
    assert_eq!((ben.entry("anna").unread, ben.unread().messages), (1, 1));
    // The other side is told each mark that moved, and reads the newest in the list.
    assert_eq!(anna.next_message().seq, 3);
    for read_seq in [1, 2, 3, 4, 5] {
        assert_eq!(anna.next_event(), What::PeerRead(PeerRead { conversation: user("ben"), read_seq }));
    }
    assert_eq!((anna.entry("ben").peer_read_seq, ben.entry("anna").peer_read_seq), (5, 0));
    // The user's own other device, too.
    let states: Vec<u64> = std::iter::repeat_with(|| tablet.next_event())
        .filter_map(|what| match what {
            What::Conversation(ConversationChanged { state, .. }) => state.map(|state| state.read_seq),
            _ => None,
        })
        .take(5)
        .collect();
    assert_eq!(states, [1, 2, 3, 4, 5]);
    // All of it is in the log of a new device.
    let mut new_device = gateway.connect("anna");
    new_device.try_login().expect("logged in");
    let marks = new_device.try_catch_up_events().expect("the log");
    assert_eq!(marks.iter().filter(|what| matches!(what, What::PeerRead(_))).count(), 5);
}

#[test]
fn msg_16_notes_to_oneself_are_never_unread() {
    let gateway = Gateway::start();
    let mut anna = gateway.login("anna");
    for n in 1..=3 {
        anna.send("anna", &n.to_string());
    }
    let entry = anna.entry("anna");
    assert_eq!((entry.unread, entry.head_seq, anna.peers()), (0, 3, vec!["anna".to_owned()]));
    anna.read("anna", 2);
    anna.send("anna", "4");
    assert_eq!((anna.entry("anna").unread, anna.unread().messages), (0, 0));
    let entry = anna.entry("anna");
    assert_eq!((entry.peer_read_seq, entry.state.map(|state| state.read_seq)), (0, Some(2)), "there is no other side");
    anna.send_as("anna", b"5", mentioning(&["anna"], true)).expect("sent");
    assert!(anna.entry("anna").mentions.is_empty(), "nobody calls oneself");
}

#[test]
fn msg_09_unread_mentions_are_told_until_they_are_read() {
    let gateway = Gateway::start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    anna.send("ben", "1");
    anna.send_as("ben", b"2", mentioning(&["carl"], false)).expect("sent");
    anna.send_as("ben", b"3", mentioning(&["carl", "ben"], false)).expect("sent");
    anna.send_as("ben", b"4", mentioning(&[], true)).expect("sent");
    assert_eq!(ben.entry("anna").mentions, [3, 4]);
    assert_eq!(ben.conversations(0)[0].mentions, [3, 4]);
    assert!(anna.entry("ben").mentions.is_empty());
    ben.read("anna", 3);
    assert_eq!(ben.entry("anna").mentions, [4]);
    ben.read("anna", 4);
    assert!(ben.entry("anna").mentions.is_empty());
    for n in 5..=16u8 {
        anna.send_as("ben", &[n], mentioning(&["ben"], false)).expect("sent");
    }
    assert_eq!(ben.entry("anna").mentions, (5..=14).collect::<Vec<_>>(), "the ten oldest");
    ben.delete("anna", &[5]).expect("deleted");
    assert_eq!(ben.entry("anna").mentions, (6..=15).collect::<Vec<_>>());
    ben.update("anna", UpdateConversation { clear: true, ..UpdateConversation::default() });
    assert!(ben.entry("anna").mentions.is_empty());
}

#[test]
fn msg_16_the_list_outlives_the_gateway() {
    let gateway = Gateway::start();
    let (mut anna, mut ben, mut carl) = (gateway.login("anna"), gateway.login("ben"), gateway.login("carl"));
    for n in 1..=3 {
        anna.send("ben", &n.to_string());
        carl.send("ben", &n.to_string());
        anna.send_as("ben", &[n], mentioning(&["ben"], false)).expect("sent");
    }
    ben.label("anna", &["friends", "work"], &[]).expect("labelled");
    let update = UpdateConversation { pinned: Some(true), receive: Some(1), read_seq: 2, ..Default::default() };
    ben.update("anna", update);
    let marks = UpdateConversation { marked_unread: Some(true), custom_data: Some("x".into()), ..Default::default() };
    ben.update("carl", marks);
    let before = (ben.conversations(0), ben.unread(), anna.conversations(0));
    assert_eq!(before.0.iter().map(|entry| entry.unread).sum::<u64>(), 4 + 3);
    assert_eq!(before.1.messages, 3, "without those of the silent one");
    let gateway = gateway.restart();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    assert_eq!((ben.conversations(0), ben.unread(), anna.conversations(0)), before);
    anna.send("ben", "goes on");
    assert_eq!(ben.entry("anna").unread, 5);
}

#[test]
fn msg_16_pages_of_the_list_fit_the_frame_of_the_reader() {
    const FRAME_BYTES: u32 = 32_768;
    let gateway = Gateway::builder().more_settings(&serde_json::json!({"recipient_exists": false})).start();
    let options = tests::Options { frame_bytes_max: FRAME_BYTES, ..Default::default() };
    let mut anna = gateway.connect_with("anna", options);
    anna.log_in_and_sync();
    let peers: Vec<String> = (0..100).map(|n| format!("{n:02}{}", "p".repeat(30))).collect();
    let labels: Vec<String> = (0..20).map(|n| format!("{n:02}{}", "l".repeat(30))).collect();
    let mut sizes = std::iter::repeat([12_000, 10_000, 9_000, 400, 10, 10, 10]).flatten();
    for peer in &peers {
        let text = "x".repeat(sizes.next().unwrap_or(1));
        anna.send(peer, &text);
        anna.update(
            peer,
            UpdateConversation {
                label: labels.clone(),
                custom_data: Some(vec![7; 256].into()),
                ..UpdateConversation::default()
            },
        );
    }
    let entries = anna.conversations(1000);
    assert_eq!(entries.len(), 100);
    assert!(entries.iter().all(|entry| entry.last_message.is_some()));
    // Asked for by name, they come without what does not fit, and as many as do.
    let names: Vec<&str> = peers.iter().map(String::as_str).collect();
    for count in [1, 5, 10, 20, 25, 100] {
        let conversations = anna.chosen_conversations(&names[..count]).expect("conversations");
        let reply = GetConversationsReply { conversations };
        assert!(reply.encoded_len() + 16 <= FRAME_BYTES as usize, "{} bytes", reply.encoded_len());
        let chosen: Vec<&str> = reply.conversations.iter().map(peer_of).collect();
        assert!(names[..count].starts_with(&chosen) && chosen.len() >= count.min(5), "{chosen:?}");
        let first = reply.conversations.first().and_then(|entry| entry.last_message.as_ref());
        assert_eq!(first.map(|message| message.text().len()), Some(12_000));
    }
}
