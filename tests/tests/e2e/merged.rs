//! Merged messages and forwarding (TYPE-11, MSG-08).
//!
//! Goal: up to 300 messages travel as one, are read back in order in pages that fit the reader, and hold nothing
//! that their maker could not read. Mechanics: content made of several conversations, every refusal of a source,
//! and readers with small frames. Without it merging would be a way to read what one may not read.

use bytes::Bytes;
use prost::Message as _;
use protocol::{
    ErrorCode,
    message::{Merged, Message, SendReply, UpdateConversation, element::Kind},
};
use tests::{Answer, Client, Gateway, MessageExt, Options, body_of, text_body, unique_id};

const ID: &[u8; 16] = b"the content's id";

/// Smallest frame limit that a client may announce.
const FRAME_BYTES: u32 = 32_768;

fn merged_body(content_id: &[u8], count: u32) -> Bytes {
    let content_id = Bytes::copy_from_slice(content_id);
    let (title, abstracts) = ("a talk".into(), vec!["anna: hi".into()]);
    let merged = Merged { content_id, title, abstracts, count, ..Merged::default() };
    body_of([Kind::Merged(merged)]).encode_to_vec().into()
}

fn code<T: std::fmt::Debug>(answer: Answer<T>) -> Option<ErrorCode> {
    answer.expect_err("a refusal").code()
}

/// The whole content, in pages that fit.
fn content(client: &mut Client, frame_bytes: u32) -> (Vec<Message>, usize) {
    let mut messages = Vec::new();
    for pages in 1.. {
        let page = client.merged(ID, messages.len() as u32).expect("a page of the content");
        assert!(page.encoded_len() + 16 <= frame_bytes as usize, "a page of {} bytes", page.encoded_len());
        assert!(!page.messages.is_empty());
        messages.extend(page.messages);
        if !page.more {
            return (messages, pages);
        }
    }
    unreachable!("300 messages end some time")
}

/// Sends texts to `to`, all at once.
fn send_all(client: &mut Client, to: &str, texts: impl Iterator<Item = String>) {
    let requests: Vec<u32> = texts.map(|text| client.start_send(to, &unique_id(), text_body(&text))).collect();
    for request in requests {
        client.answer::<SendReply>(request).expect("sent");
    }
}

#[test]
fn type_11_300_messages_are_sent_as_one_and_read_back_in_pages() {
    let gateway = Gateway::start();
    let (mut anna, mut ben, mut carl) = (gateway.login("anna"), gateway.login("ben"), gateway.login("carl"));
    let long = "x".repeat(400);
    send_all(&mut anna, "ben", (1..=200).map(|n| format!("{n} {long}")));
    send_all(&mut anna, "carl", (201..=299).map(|n| format!("{n} {long}")));
    ben.send("anna", "300 from ben");
    let to_ben: Vec<u64> = (1..=200).collect();
    let to_carl: Vec<u64> = (1..=99).collect();
    let sources = [("ben", &to_ben[..]), ("carl", &to_carl[..]), ("ben", &[201][..])];
    assert_eq!(anna.merge(ID, &sources), Ok(300));
    let originals = [anna.conversation("ben"), anna.conversation("carl")];

    gateway.login("dora");
    anna.send_as("dora", b"1", merged_body(ID, 300)).expect("sent");
    for frame_bytes_max in [65_536, FRAME_BYTES] {
        let mut dora = gateway.connect_with("dora", Options { frame_bytes_max, ..Options::default() });
        assert_eq!(dora.log_in_and_sync().first().map(|message| message.body.clone()), Some(merged_body(ID, 300)));
        let (messages, pages) = content(&mut dora, frame_bytes_max);
        assert!(pages > 1);
        let expected = originals[0][..200].iter().chain(&originals[1]).chain(&originals[0][200..]);
        let copies = expected.map(|Message { from, time_ms, body, .. }| Message {
            from: from.clone(),
            time_ms: *time_ms,
            body: body.clone(),
            ..Message::default()
        });
        assert_eq!(messages, copies.collect::<Vec<_>>(), "from, time and body, in the order asked for");
        let behind = dora.merged(ID, 300).expect("a page");
        assert_eq!((behind.messages.len(), behind.more), (0, false));
        assert!(dora.merged(ID, u32::MAX).expect("a page").messages.is_empty());
    }
    // What was copied stays, whatever becomes of the original.
    carl.update("anna", UpdateConversation { clear: true, ..UpdateConversation::default() });
    anna.recall("carl", 1, "").expect("recalled");
    let gateway = gateway.restart();
    let mut dora = gateway.login("dora");
    assert_eq!(content(&mut dora, 65_536).0.get(200).map(MessageExt::text), Some(format!("201 {long}")));
}

#[test]
fn type_11_300_of_the_longest_messages_can_be_merged() {
    let gateway = Gateway::start();
    let mut anna = gateway.login("anna");
    anna.send("anna", &"x".repeat(12_279));
    assert_eq!(anna.merge(ID, &[("anna", &[1; 300])]), Ok(300));
    assert_eq!(content(&mut anna, 65_536).0.len(), 300);
}

#[test]
fn type_11_a_content_is_stored_once_and_belongs_to_who_made_it() {
    let gateway = Gateway::start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    anna.send("ben", "one");
    anna.send("ben", "two");
    assert_eq!(anna.merge(ID, &[("ben", &[1, 2])]), Ok(2));
    assert_eq!(anna.merge(ID, &[("ben", &[1, 2])]), Ok(2), "again, as after a lost answer");
    assert_eq!(anna.merge(ID, &[("ben", &[2])]), Ok(2), "what was stored first counts");
    assert_eq!(code(ben.merge(ID, &[("anna", &[1])])), Some(ErrorCode::ARGUMENT_INVALID), "another user's id");
    let texts: Vec<String> = content(&mut ben, 65_536).0.iter().map(MessageExt::text).collect();
    assert_eq!(texts, ["one", "two"]);
}

#[test]
fn type_11_only_what_one_can_read_can_be_merged() {
    let gateway = Gateway::start();
    let (mut anna, mut ben, mut carl) = (gateway.login("anna"), gateway.login("ben"), gateway.login("carl"));
    for n in 1..=5 {
        anna.send("ben", &n.to_string());
    }
    carl.send("anna", "cleared");
    anna.update("carl", UpdateConversation { clear: true, ..UpdateConversation::default() });
    anna.delete("ben", &[2]).expect("deleted");
    anna.recall("ben", 3, "").expect("recalled");
    let cases: [(&str, &str, &[u64], ErrorCode); 9] = [
        ("no sequence", "ben", &[], ErrorCode::ARGUMENT_INVALID),
        ("301", "ben", &[1; 301], ErrorCode::ARGUMENT_INVALID),
        ("unknown", "ben", &[1, 6], ErrorCode::MESSAGE_UNKNOWN),
        ("sequence 0", "ben", &[0], ErrorCode::MESSAGE_UNKNOWN),
        ("the greatest sequence", "ben", &[u64::MAX], ErrorCode::MESSAGE_UNKNOWN),
        ("deleted", "ben", &[1, 2], ErrorCode::MESSAGE_UNKNOWN),
        ("recalled", "ben", &[3, 4], ErrorCode::MESSAGE_RECALLED),
        ("cleared", "carl", &[1], ErrorCode::MESSAGE_UNKNOWN),
        ("no user", "", &[1], ErrorCode::USER_INVALID),
    ];
    for (what, peer, seqs, expected) in cases {
        assert_eq!(code(anna.merge(ID, &[(peer, seqs)])), Some(expected), "{what}");
    }
    for (what, id) in [("short", &[7; 15][..]), ("long", &[7; 17]), ("none", &[])] {
        assert_eq!(code(anna.merge(id, &[("ben", &[1])])), Some(ErrorCode::ARGUMENT_INVALID), "{what}");
    }
    for peer in ["anna", "ben"] {
        assert_eq!(code(carl.merge(ID, &[(peer, &[1, 4])])), Some(ErrorCode::MESSAGE_UNKNOWN), "others' messages");
    }
    // Who did not delete or clear can merge it; and a refusal has stored nothing.
    assert_eq!(code(anna.merged(ID, 0)), Some(ErrorCode::CONTENT_UNKNOWN));
    assert_eq!(ben.merge(ID, &[("anna", &[2])]), Ok(1));
}

#[test]
fn type_11_a_merged_message_says_what_is_in_its_content_or_is_refused() {
    let gateway = Gateway::start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    anna.send("ben", "one");
    let unknown = anna.send_as("ben", b"1", merged_body(ID, 1));
    assert_eq!(code(unknown), Some(ErrorCode::CONTENT_UNKNOWN));
    assert_eq!(code(anna.edit("ben", 1, merged_body(ID, 1))), Some(ErrorCode::CONTENT_UNKNOWN), "by editing");
    anna.merge(ID, &[("ben", &[1])]).expect("merged");
    assert_eq!(code(anna.send_as("ben", b"1", merged_body(ID, 2))), Some(ErrorCode::ELEMENT_INVALID), "wrong count");
    assert_eq!(code(anna.edit("ben", 1, merged_body(ID, 2))), Some(ErrorCode::ELEMENT_INVALID), "by editing");
    assert_eq!(anna.send_as("ben", b"1", merged_body(ID, 1)).expect("sent").seq, 2);
    assert_eq!(code(ben.merged(&[7; 16], 0)), Some(ErrorCode::CONTENT_UNKNOWN));
    assert_eq!(code(ben.merged(&[], 0)), Some(ErrorCode::CONTENT_UNKNOWN));
}

#[test]
fn msg_08_messages_are_forwarded_one_by_one_and_merged_ones_again() {
    let gateway = Gateway::start();
    let (mut anna, mut ben, mut carl) = (gateway.login("anna"), gateway.login("ben"), gateway.login("carl"));
    anna.send("ben", "one");
    anna.merge(ID, &[("ben", &[1])]).expect("merged");
    anna.send_as("ben", b"1", merged_body(ID, 1)).expect("sent");
    // One by one: the body as it was received, to somebody else.
    for seq in 1..=2 {
        let body = ben.next_message().body;
        ben.send_as("carl", &[seq], body.clone()).expect("forwarded");
        assert_eq!(carl.next_message().body, body);
    }
    assert_eq!(content(&mut carl, 65_536).0.iter().map(MessageExt::text).collect::<Vec<_>>(), ["one"]);
    // A merged message inside a merged one.
    let outer = *b"the outer one id";
    assert_eq!(ben.merge(&outer, &[("anna", &[1, 2])]), Ok(2));
    ben.send_as("carl", &[3], merged_body(&outer, 2)).expect("forwarded");
    let inside = carl.merged(&outer, 0).expect("the content").messages;
    assert_eq!(inside.last().map(|message| message.body.clone()), Some(merged_body(ID, 1)));
}
