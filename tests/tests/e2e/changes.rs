//! Changes of messages: recall, edit, deleting for oneself, receipts (MSG-06, MSG-07, MSG-09, MSG-12).
//!
//! Goal: a change reaches every device of both sides and shows in whatever they read later, or is refused and
//! changes nothing. Mechanics: two devices of the one who changes and one of the other side; history, sync of a new
//! device and the conversation list are compared with what was pushed. Without it devices could show different
//! things, or a stranger could change one's messages.

use prost::Message as _;
use protocol::{
    ErrorCode,
    message::{Body, Message, MessagesDeleted, Send, Text, UpdateConversation, element::Kind, event::What},
};
use tests::{Answer, Client, Gateway, MessageExt, body_of, text_body, user};

fn code<T: std::fmt::Debug>(answer: Answer<T>) -> Option<ErrorCode> {
    answer.expect_err("a refusal").code()
}

fn seqs(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| message.seq).collect()
}

/// Sends a text that asks for a receipt.
fn send_with_receipt(client: &mut Client, to: &str, text: &str) -> u64 {
    let send = Send { to_user: to.into(), body: text_body(text), need_receipt: true, ..Send::default() };
    client.send_request(send).expect("sent").seq
}

/// `message` is what everybody reads from now on.
fn assert_everybody_reads(gateway: &Gateway, clients: [(&mut Client, &str); 2], message: &Message) {
    for (client, peer) in clients {
        assert_eq!(client.history(peer, message.seq, true, 1).expect("a page").messages, std::slice::from_ref(message));
        assert_eq!(client.entry(peer).last_message.as_ref(), Some(message), "the last message in the list");
        let mut new_device = gateway.connect(client.user());
        new_device.try_login().expect("logged in");
        let events = new_device.try_catch_up_events().expect("the log");
        // The log points to the message: what it was before is nowhere.
        assert!(events.contains(&What::Message(message.clone())), "{events:?}");
        assert_eq!(events.last(), Some(&What::Changed(message.clone())));
    }
}

#[test]
fn msg_06_a_recalled_message_is_gone_for_everyone_with_a_tip_in_its_place() {
    let gateway = Gateway::start();
    let (mut anna, mut laptop, mut ben) = (gateway.login("anna"), gateway.login("anna"), gateway.login("ben"));
    let sent = anna.send("ben", "a secret");
    let before = ben.next_message();
    laptop.next_message();
    let recalled = anna.recall("ben", 1, "a typing error").expect("recalled");
    let tip = recalled.recalled.clone().expect("who, when and why");
    assert_eq!((tip.by.as_str(), tip.reason.as_str()), ("anna", "a typing error"));
    assert!(tip.time_ms >= sent.time_ms);
    assert!(recalled.body.is_empty());
    assert_eq!(recalled.revision, before.revision + 1);
    let rest = Message { body: before.body.clone(), recalled: None, revision: before.revision, ..recalled.clone() };
    assert_eq!(rest, before, "nothing else has changed");
    // Who recalls, too: its answer may have overtaken what others did.
    for device in [&mut anna, &mut laptop, &mut ben] {
        assert_eq!(device.next_changed(), recalled);
    }
    assert_everybody_reads(&gateway, [(&mut anna, "ben"), (&mut ben, "anna")], &recalled);
}

#[test]
fn msg_06_recalls_that_are_wrong_are_refused_and_change_nothing() {
    let gateway = Gateway::start();
    let (mut anna, mut ben, mut carl) = (gateway.login("anna"), gateway.login("ben"), gateway.login("carl"));
    anna.send("ben", "hello");
    for (what, peer, seq, reason, expected) in [
        ("unknown", "ben", 2, String::new(), ErrorCode::MESSAGE_UNKNOWN),
        ("sequence 0", "ben", 0, String::new(), ErrorCode::MESSAGE_UNKNOWN),
        ("the greatest", "ben", u64::MAX, String::new(), ErrorCode::MESSAGE_UNKNOWN),
        ("another conversation", "carl", 1, String::new(), ErrorCode::MESSAGE_UNKNOWN),
        ("a long reason", "ben", 1, "x".repeat(257), ErrorCode::ARGUMENT_INVALID),
        ("no user", "", 1, String::new(), ErrorCode::USER_INVALID),
    ] {
        assert_eq!(code(anna.recall(peer, seq, &reason)), Some(expected), "{what}");
    }
    assert_eq!(code(ben.recall("anna", 1, "")), Some(ErrorCode::NOT_ALLOWED), "the recipient");
    for peer in ["anna", "ben"] {
        assert_eq!(code(carl.recall(peer, 1, "")), Some(ErrorCode::MESSAGE_UNKNOWN), "a stranger");
    }
    assert_eq!(ben.next_message(), ben.conversation("anna")[0], "as it was");
    anna.recall("ben", 1, &"x".repeat(256)).expect("recalled");
    assert_eq!(code(anna.recall("ben", 1, "again")), Some(ErrorCode::MESSAGE_RECALLED));
    assert_eq!(code(anna.edit("ben", 1, text_body("edited"))), Some(ErrorCode::MESSAGE_RECALLED));
    assert_eq!(ben.next_changed().recalled.map(|tip| tip.reason.len()), Some(256));
}

#[test]
fn msg_06_the_windows_of_recall_and_edit_are_settings_of_the_application() {
    let settings = serde_json::json!({"recall_seconds": 1, "edit_seconds": 1});
    let gateway = Gateway::builder().more_settings(&settings).start();
    gateway.login("ben");
    let mut anna = gateway.login("anna");
    let first = anna.send("ben", "first");
    tests::eventually("more than a second on the gateway's clock", || {
        anna.send("ben", "later").time_ms > first.time_ms + 1000
    });
    assert_eq!(code(anna.recall("ben", 1, "")), Some(ErrorCode::RECALL_TOO_LATE));
    assert_eq!(code(anna.edit("ben", 1, text_body("edited"))), Some(ErrorCode::RECALL_TOO_LATE));
    assert_eq!(anna.conversation("ben")[0].text(), "first");

    // A longer window, and editing without one.
    let settings = serde_json::json!({"recall_seconds": 3600, "edit_seconds": 0});
    let gateway = gateway.kill().more_settings(&settings).start();
    let mut anna = gateway.login("anna");
    assert_eq!(anna.edit("ben", 1, text_body("edited")).expect("edited").text(), "edited");
    anna.recall("ben", 1, "").expect("recalled");
}

#[test]
fn msg_06_an_edited_message_is_read_by_everyone_as_it_is_now() {
    let gateway = Gateway::start();
    let (mut anna, mut laptop, mut ben) = (gateway.login("anna"), gateway.login("anna"), gateway.login("ben"));
    anna.send("ben", "helo");
    let before = ben.next_message();
    laptop.next_message();
    for (revision, text) in [(1, "hallo"), (2, "hello")] {
        let edited = anna.edit("ben", 1, text_body(text)).expect("edited");
        assert_eq!((edited.revision, edited.text()), (revision, text.to_owned()));
        assert!(edited.edited_ms >= before.time_ms);
        let rest = Message { body: before.body.clone(), revision: 0, edited_ms: 0, ..edited.clone() };
        assert_eq!(rest, before, "nothing else has changed");
        for device in [&mut laptop, &mut ben] {
            assert_eq!(device.next_changed(), edited);
        }
        assert_everybody_reads(&gateway, [(&mut anna, "ben"), (&mut ben, "anna")], &edited);
    }
}

#[test]
fn msg_06_edits_that_are_wrong_are_refused_and_change_nothing() {
    let gateway = Gateway::start();
    let (mut anna, mut ben, mut carl) = (gateway.login("anna"), gateway.login("ben"), gateway.login("carl"));
    anna.send("ben", "hello");
    let empty = body_of([Kind::Text(Text::default())]).encode_to_vec();
    for (what, seq, body, expected) in [
        ("unknown", 2, text_body("x"), ErrorCode::MESSAGE_UNKNOWN),
        ("the greatest", u64::MAX, text_body("x"), ErrorCode::MESSAGE_UNKNOWN),
        ("an empty body", 1, bytes::Bytes::new(), ErrorCode::MESSAGE_EMPTY),
        ("an empty text", 1, empty.into(), ErrorCode::MESSAGE_EMPTY),
        ("no body", 1, bytes::Bytes::from_static(b"\xff"), ErrorCode::PAYLOAD_INVALID),
        ("too long", 1, text_body(&"x".repeat(12 * 1024)), ErrorCode::MESSAGE_TOO_LONG),
    ] {
        assert_eq!(code(anna.edit("ben", seq, body)), Some(expected), "{what}");
    }
    assert_eq!(code(ben.edit("anna", 1, text_body("x"))), Some(ErrorCode::NOT_ALLOWED), "the recipient");
    assert_eq!(code(carl.edit("anna", 1, text_body("x"))), Some(ErrorCode::MESSAGE_UNKNOWN), "a stranger");
    assert_eq!(ben.next_message(), ben.conversation("anna")[0], "as it was");
    // Events come in the log's order: a change would come before this one.
    anna.send("ben", "next");
    assert_eq!(ben.next_message().text(), "next");
}

#[test]
fn msg_09_edits_and_recalls_move_the_marks_of_who_is_mentioned() {
    let gateway = Gateway::start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    let mention = |text: &str| {
        let kind = Kind::Text(Text { text: text.to_owned() });
        let body = Body { mentions: vec!["ben".into()], ..body_of([kind]) };
        bytes::Bytes::from(body.encode_to_vec())
    };
    anna.send("ben", "1");
    anna.send_as("ben", b"2", mention("@ben 2")).expect("sent");
    anna.send_as("ben", b"3", mention("@ben 3")).expect("sent");
    assert_eq!(ben.entry("anna").mentions, [2, 3]);
    anna.edit("ben", 1, mention("@ben 1")).expect("edited");
    assert_eq!(ben.entry("anna").mentions, [1, 2, 3]);
    anna.edit("ben", 2, text_body("2")).expect("edited");
    assert_eq!(ben.entry("anna").mentions, [1, 3]);
    anna.recall("ben", 3, "").expect("recalled");
    assert_eq!(ben.entry("anna").mentions, [1]);
    assert!(anna.entry("ben").mentions.is_empty());
    // What one has deleted calls for nobody, however it is edited.
    ben.delete("anna", &[1, 2]).expect("deleted");
    anna.edit("ben", 2, mention("@ben again")).expect("edited");
    assert!(ben.entry("anna").mentions.is_empty());
}

#[test]
fn msg_12_deleting_is_for_oneself_on_all_devices() {
    let gateway = Gateway::start();
    let (mut anna, mut laptop, mut ben) = (gateway.login("anna"), gateway.login("anna"), gateway.login("ben"));
    for n in 1..=4 {
        anna.send("ben", &n.to_string());
        assert_eq!((laptop.next_message().seq, ben.next_message().seq), (n, n));
    }
    // Twice named, in any order: once deleted.
    anna.delete("ben", &[4, 2, 4]).expect("deleted");
    let deleted = MessagesDeleted { conversation: user("ben"), seqs: vec![2, 4] };
    assert_eq!(laptop.next_event(), What::Deleted(deleted.clone()));
    for client in [&mut anna, &mut laptop] {
        assert_eq!(seqs(&client.conversation("ben")), [1, 3]);
        let backward = client.history("ben", 0, false, 1).expect("a page");
        assert_eq!((seqs(&backward.messages), backward.more, backward.head_seq), (vec![3], true, 4));
        assert_eq!(client.entry("ben").last_message.map(|message| message.seq), Some(3));
    }
    // The other side has learned nothing of it.
    assert_eq!(seqs(&ben.conversation("anna")), [1, 2, 3, 4]);
    assert_eq!(ben.entry("anna").last_message.map(|message| message.seq), Some(4));
    // A new device learns of it from the log.
    let mut new_device = gateway.connect("anna");
    new_device.try_login().expect("logged in");
    assert_eq!(new_device.try_catch_up_events().expect("the log").pop(), Some(What::Deleted(deleted)));
    anna.delete("ben", &[2]).expect("again");
    anna.delete("ben", &[1, 3]).expect("the rest");
    assert!(anna.conversation("ben").is_empty());
    assert_eq!(anna.entry("ben").last_message, None);
    assert_eq!(anna.send("ben", "5").seq, 5);
    assert_eq!(seqs(&anna.conversation("ben")), [5]);
    assert_eq!(ben.next_message().seq, 5, "nothing came before it");
}

#[test]
fn msg_12_deletions_that_are_wrong_are_refused_and_delete_nothing() {
    let gateway = Gateway::start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    for n in 1..=2 {
        anna.send("ben", &n.to_string());
    }
    let many: Vec<u64> = (1..=101).collect();
    let cases: [(&str, &[u64], ErrorCode); 6] = [
        ("nothing", &[], ErrorCode::ARGUMENT_INVALID),
        ("101", &many, ErrorCode::ARGUMENT_INVALID),
        ("sequence 0", &[0, 1], ErrorCode::MESSAGE_UNKNOWN),
        ("beyond the newest", &[1, 3], ErrorCode::MESSAGE_UNKNOWN),
        ("the greatest", &[1, u64::MAX], ErrorCode::MESSAGE_UNKNOWN),
        ("101, once each", &many[..100], ErrorCode::MESSAGE_UNKNOWN),
    ];
    for (what, seqs, expected) in cases {
        assert_eq!(code(anna.delete("ben", seqs)), Some(expected), "{what}");
    }
    assert_eq!(code(anna.delete("nobody", &[1])), Some(ErrorCode::MESSAGE_UNKNOWN));
    assert_eq!(seqs(&anna.conversation("ben")), [1, 2]);
    // 100 names of one message are one message.
    ben.delete("anna", &[1; 300]).expect("deleted");
    assert_eq!(seqs(&ben.conversation("anna")), [2]);
}

#[test]
fn msg_07_receipts_tell_the_sender_which_messages_were_read() {
    let gateway = Gateway::start();
    let (mut anna, mut ben, mut tablet) = (gateway.login("anna"), gateway.login("ben"), gateway.login("ben"));
    for n in 1..=3 {
        send_with_receipt(&mut anna, "ben", &n.to_string());
        assert!(ben.next_message().need_receipt);
        tablet.next_message();
    }
    ben.send_receipts("anna", &[3, 1]).expect("receipts");
    let events = [anna.next_changed(), anna.next_changed()];
    assert_eq!(seqs(&events), [1, 3]);
    for event in &events {
        assert!(event.receipt_ms >= event.time_ms, "{event:?}");
        assert_eq!(event.revision, 1);
        assert_eq!(tablet.next_changed(), *event);
    }
    let read = anna.conversation("ben");
    assert_eq!(read.iter().map(|message| message.receipt_ms > 0).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!([read[0].clone(), read[2].clone()], events);
    assert_eq!(ben.conversation("anna"), read);
    // Again: done already, and nobody is told.
    tablet.send_receipts("anna", &[1, 3]).expect("receipts");
    tablet.send_receipts("anna", &[2]).expect("receipts");
    assert_eq!(anna.next_changed().seq, 2);
    assert_eq!(anna.conversation("ben")[0], events[0]);
}

#[test]
fn msg_07_receipts_that_are_wrong_are_refused_as_a_whole() {
    let gateway = Gateway::start();
    let (mut anna, mut ben, mut carl) = (gateway.login("anna"), gateway.login("ben"), gateway.login("carl"));
    send_with_receipt(&mut anna, "ben", "1");
    anna.send("ben", "2 asks for none");
    send_with_receipt(&mut anna, "ben", "3");
    anna.recall("ben", 3, "").expect("recalled");
    send_with_receipt(&mut ben, "anna", "4");
    let cases: [(&str, &[u64], ErrorCode); 7] = [
        ("nothing", &[], ErrorCode::ARGUMENT_INVALID),
        ("asks for none", &[1, 2], ErrorCode::ARGUMENT_INVALID),
        ("recalled", &[1, 3], ErrorCode::MESSAGE_RECALLED),
        ("one's own", &[1, 4], ErrorCode::NOT_ALLOWED),
        ("unknown", &[1, 5], ErrorCode::MESSAGE_UNKNOWN),
        ("sequence 0", &[0, 1], ErrorCode::MESSAGE_UNKNOWN),
        ("the greatest", &[1, u64::MAX], ErrorCode::MESSAGE_UNKNOWN),
    ];
    for (what, seqs, expected) in cases {
        assert_eq!(code(ben.send_receipts("anna", seqs)), Some(expected), "{what}");
    }
    let many: Vec<u64> = (1..=101).collect();
    assert_eq!(code(ben.send_receipts("anna", &many)), Some(ErrorCode::ARGUMENT_INVALID));
    assert_eq!(code(carl.send_receipts("anna", &[1])), Some(ErrorCode::MESSAGE_UNKNOWN), "a stranger");
    send_with_receipt(&mut anna, "anna", "a note");
    assert_eq!(code(anna.send_receipts("anna", &[1])), Some(ErrorCode::NOT_ALLOWED), "a note to oneself");
    assert_eq!(anna.conversation("ben")[0].receipt_ms, 0, "none was taken");
}

#[test]
fn msg_06_msg_07_msg_12_changes_outlive_the_gateway() {
    let gateway = Gateway::start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    for n in 1..=4 {
        send_with_receipt(&mut anna, "ben", &n.to_string());
    }
    anna.recall("ben", 1, "why").expect("recalled");
    anna.edit("ben", 2, text_body("edited")).expect("edited");
    ben.send_receipts("anna", &[3]).expect("receipts");
    ben.delete("anna", &[4]).expect("deleted");
    ben.update("anna", UpdateConversation { pinned: Some(true), read_seq: 2, ..UpdateConversation::default() });
    let before = [anna.conversation("ben"), ben.conversation("anna")];
    let entries = [anna.conversations(0), ben.conversations(0)];
    assert_eq!(before.iter().map(|messages| seqs(messages)).collect::<Vec<_>>(), [vec![1, 2, 3, 4], vec![1, 2, 3]]);
    let gateway = gateway.restart();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    assert_eq!([anna.conversation("ben"), ben.conversation("anna")], before);
    assert_eq!([anna.conversations(0), ben.conversations(0)], entries);
    assert_eq!(code(anna.recall("ben", 1, "")), Some(ErrorCode::MESSAGE_RECALLED));
    assert_eq!(anna.edit("ben", 2, text_body("again")).expect("edited").revision, 2);
}
