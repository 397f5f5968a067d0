//! Sending and reading back 1:1 messages (MSG-04, MSG-05).
//!
//! Goal: an acknowledged message is stored once, has the next sequence of its conversation, and reaches
//! every device of both users; anything else is refused and the connection goes on. Mechanics: several
//! devices against one gateway. Without it a message could be lost, doubled or shown out of order.

use bytes::Bytes;
use protocol::{ErrorCode, message::HistoryReply};
use tests::{App, Builder, Client, Gateway, MessageExt, Options, text_body, unique_id};

fn refusal(client: &mut Client, to: &str, id: &[u8], body: Bytes) -> Option<ErrorCode> {
    client.send_as(to, id, body).expect_err("a refusal").code()
}

fn seqs(page: &HistoryReply) -> Vec<u64> {
    page.messages.iter().map(|message| message.seq).collect()
}

#[test]
fn msg_04_every_device_of_both_users_gets_it_but_not_the_connection_that_sends() {
    let gateway = Gateway::start();
    let mut anna = gateway.login("anna");
    let mut others = [gateway.login("anna"), gateway.login("ben"), gateway.login("ben"), gateway.login("ben")];
    let ack = anna.send("ben", "hello");
    assert_eq!((ack.seq, ack.duplicate), (1, false));
    for device in &mut others {
        let message = device.next_message();
        assert_eq!((message.from.as_str(), message.to.as_str(), message.seq), ("anna", "ben", 1));
        assert_eq!((message.text(), message.time_ms), ("hello".to_owned(), ack.time_ms));
    }
    // Events come in the log's order: had the sender been sent its own, it would come before this one.
    others[1].send("anna", "hi");
    assert_eq!(anna.next_message().text(), "hi");
    assert_eq!(anna.pushes_waiting(), 0);
    assert!(!anna.ping().behind);
}

#[test]
fn msg_04_both_directions_share_one_sequence_and_conversations_do_not() {
    let gateway = Gateway::start();
    let (mut anna, mut ben, _carl) = (gateway.login("anna"), gateway.login("ben"), gateway.login("carl"));
    for round in 0..5 {
        assert_eq!(anna.send("ben", "ping").seq, 2 * round + 1);
        assert_eq!(ben.send("anna", "pong").seq, 2 * round + 2);
        assert_eq!(anna.send("carl", "apart").seq, round + 1);
    }
    for (client, peer) in [(&mut anna, "ben"), (&mut ben, "anna")] {
        let texts: Vec<_> = client.conversation(peer).iter().map(MessageExt::text).collect();
        assert_eq!(texts, ["ping", "pong"].repeat(5));
    }
}

#[test]
fn msg_04_sends_in_flight_together_each_get_a_place_and_all_arrive_in_order() {
    let gateway = Gateway::start();
    let mut ben = gateway.login("ben");
    let mut anna = gateway.login("anna");
    let requests: Vec<u32> =
        (0..200).map(|n| anna.start_send("ben", &unique_id(), text_body(&n.to_string()))).collect();
    let mut acked: Vec<u64> =
        requests.into_iter().map(|id| anna.answer::<protocol::message::SendReply>(id).expect("sent").seq).collect();
    acked.sort_unstable();
    assert_eq!(acked, (1..=200).collect::<Vec<_>>());
    assert_eq!((1..=200).map(|_| ben.next_message().seq).collect::<Vec<_>>(), acked);
}

#[test]
fn a_message_to_oneself_is_kept_once_and_reaches_the_other_devices() {
    let gateway = Gateway::start();
    let (mut phone, mut laptop) = (gateway.login("anna"), gateway.login("anna"));
    assert_eq!(phone.send("anna", "a note").seq, 1);
    assert_eq!(laptop.next_message().text(), "a note");
    assert_eq!(gateway.connect("anna").log_in_and_sync().len(), 1);
    assert_eq!(phone.conversation("anna").len(), 1);
}

#[test]
fn msg_04_a_resend_is_answered_as_before_on_any_connection_and_stored_once() {
    let gateway = Gateway::start();
    let mut ben = gateway.login("ben");
    let mut anna = gateway.login("anna");
    let first = anna.send_as("ben", b"the id", text_body("once")).expect("sent");
    let same = anna.send_as("ben", b"the id", text_body("once")).expect("sent");
    let mut elsewhere = gateway.login("anna");
    let other = elsewhere.send_as("ben", b"the id", text_body("changed meanwhile")).expect("sent");
    for again in [same, other] {
        assert_eq!((again.seq, again.time_ms, again.duplicate), (first.seq, first.time_ms, true));
    }
    // The id is the sender's own: another user may have the same.
    assert_eq!(ben.send_as("anna", b"the id", text_body("mine")).expect("sent").seq, 2);
    let texts: Vec<_> = anna.conversation("ben").iter().map(MessageExt::text).collect();
    assert_eq!(texts, ["once", "mine"], "what was stored first counts");
    assert_eq!(ben.next_message().text(), "once");
    assert_eq!(ben.pushes_waiting(), 0);
}

#[test]
fn msg_04_an_id_in_flight_twice_is_stored_once() {
    let gateway = Gateway::start();
    gateway.login("ben");
    let mut anna = gateway.login("anna");
    let requests: Vec<u32> = (0..20).map(|_| anna.start_send("ben", b"the id", text_body("once"))).collect();
    let answers: Vec<_> =
        requests.into_iter().map(|id| anna.answer::<protocol::message::SendReply>(id).expect("sent")).collect();
    assert!(answers.iter().all(|answer| answer.seq == 1));
    assert_eq!(answers.iter().filter(|answer| !answer.duplicate).count(), 1);
    assert_eq!(anna.conversation("ben").len(), 1);
}

#[test]
fn sends_that_are_wrong_are_refused_and_the_connection_goes_on() {
    let gateway = Gateway::start();
    let mut ben = gateway.login("ben");
    gateway.login("carl");
    let mut anna = gateway.login("anna");
    anna.send_as("ben", b"used", text_body("first")).expect("sent");
    let too_long = text_body(&"x".repeat(12 * 1024));
    let cases = [
        ("unknown recipient", "nobody", &b"1"[..], text_body("hello"), ErrorCode::USER_INVALID),
        ("no recipient", "", b"2", text_body("hello"), ErrorCode::USER_INVALID),
        ("empty text", "ben", b"3", text_body(""), ErrorCode::MESSAGE_EMPTY),
        ("no body", "ben", b"4", Bytes::new(), ErrorCode::MESSAGE_EMPTY),
        ("over 12 KB", "ben", b"5", too_long, ErrorCode::MESSAGE_TOO_LONG),
        ("a body that does not decode", "ben", b"6", Bytes::from_static(b"\xff"), ErrorCode::PAYLOAD_INVALID),
        ("an id of another conversation", "carl", b"used", text_body("hello"), ErrorCode::CLIENT_MESSAGE_ID_REUSED),
        ("no id", "ben", b"", text_body("hello"), ErrorCode::ARGUMENT_INVALID),
        ("an id of 33 bytes", "ben", &[7; 33], text_body("hello"), ErrorCode::ARGUMENT_INVALID),
    ];
    assert_eq!(ErrorCode::USER_INVALID.0, 20003);
    assert_eq!(ErrorCode::MESSAGE_TOO_LONG.0, 80002);
    for (what, to, id, body, expected) in cases {
        assert_eq!(refusal(&mut anna, to, id, body), Some(expected), "{what}");
    }
    assert_eq!(anna.send("ben", "still here").seq, 2, "what was refused took no place");
    assert_eq!([ben.next_message().seq, ben.next_message().seq], [1, 2]);
}

#[test]
fn a_body_of_exactly_the_limit_is_taken_and_the_limit_can_be_set() {
    let gateway = Gateway::start();
    let body = |bytes: usize| (0..16).map(|less| text_body(&"x".repeat(bytes - less))).find(|body| body.len() <= bytes);
    let mut anna = gateway.login("anna");
    let largest = body(12_288).expect("a body of that size");
    assert_eq!(largest.len(), 12_288);
    anna.send_as("anna", b"largest", largest.clone()).expect("sent");
    assert_eq!(anna.conversation("anna")[0].body, largest);

    let gateway = Gateway::builder().flag("message-bytes-max", 100).start();
    let mut anna = gateway.login("anna");
    anna.send_as("anna", b"1", body(100).expect("a body")).expect("sent");
    assert_eq!(refusal(&mut anna, "anna", b"2", text_body(&"x".repeat(100))), Some(ErrorCode::MESSAGE_TOO_LONG));
}

#[test]
fn an_element_of_an_unknown_type_passes_byte_for_byte() {
    let gateway = Gateway::start();
    let mut ben = gateway.login("ben");
    let mut anna = gateway.login("anna");
    // Field 1 (element) holding field 15, which this version does not know, and an unknown field of the body.
    let body = Bytes::from_static(&[0x0a, 0x03, 0x7a, 0x01, b'x', 0xfa, 0x01, 0x02, 1, 2]);
    anna.send_as("ben", b"new", body.clone()).expect("sent");
    assert_eq!(ben.next_message().body, body);
    assert_eq!(anna.conversation("ben")[0].body, body);
    assert_eq!(gateway.connect("ben").log_in_and_sync()[0].body, body);
}

#[test]
fn msg_05_history_pages_go_both_ways_from_anywhere() {
    let gateway = Gateway::start();
    gateway.login("ben");
    let mut anna = gateway.login("anna");
    for n in 1..=10 {
        anna.send("ben", &n.to_string());
    }
    // from, forward, limit; sequences, more
    let cases: [(u64, bool, u32, &[u64], bool); 9] = [
        (0, false, 3, &[10, 9, 8], true),
        (7, false, 3, &[7, 6, 5], true),
        (2, false, 3, &[2, 1], false),
        (99, false, 2, &[10, 9], true),
        (0, true, 3, &[1, 2, 3], true),
        (4, true, 3, &[4, 5, 6], true),
        (9, true, 3, &[9, 10], false),
        (11, true, 3, &[], false),
        (0, false, 10, &[10, 9, 8, 7, 6, 5, 4, 3, 2, 1], false),
    ];
    for (from, forward, limit, expected, more) in cases {
        let page = anna.history("ben", from, forward, limit).expect("a page");
        assert_eq!((&seqs(&page)[..], page.more, page.head_seq), (expected, more, 10), "{from} {forward} {limit}");
    }
    let empty = anna.history("nobody", 0, false, 0).expect("an empty page");
    assert_eq!((empty.messages.len(), empty.more, empty.head_seq), (0, false, 0));
    let refused =
        |client: &mut Client, user: &str, limit| client.history(user, 0, false, limit).expect_err("a refusal").code();
    assert_eq!(refused(&mut anna, "ben", 1001), Some(ErrorCode::ARGUMENT_INVALID));
    assert_eq!(refused(&mut anna, "", 0), Some(ErrorCode::USER_INVALID));
}

#[test]
fn msg_05_history_is_cut_to_the_frame_limit_of_the_client() {
    let gateway = Gateway::start();
    let options = Options { frame_bytes_max: 32_768, ..Options::default() };
    let mut anna = gateway.connect_with("anna", options);
    anna.log_in_and_sync();
    let text = "x".repeat(12_000);
    for _ in 0..7 {
        anna.send("anna", &text);
    }
    let page = anna.history("anna", 0, false, 0).expect("a page");
    assert_eq!((seqs(&page), page.more), (vec![7, 6], true));
    assert_eq!(anna.conversation("anna").len(), 7);
    anna.cursor = Bytes::new();
    assert_eq!(anna.catch_up().len(), 7);
}

#[test]
fn nobody_reads_a_conversation_of_others() {
    let gateway = Gateway::start();
    gateway.login("ben");
    gateway.login("anna").send("ben", "between us");
    let mut carl = gateway.login("carl");
    for peer in ["anna", "ben"] {
        assert!(carl.conversation(peer).is_empty());
    }
    carl.cursor = Bytes::new();
    assert!(carl.catch_up().is_empty());
}

/// A gateway whose store has a second application; its folder is to be kept for as long.
pub fn gateway_with_another_application() -> (Gateway, App, Builder) {
    let builder = Gateway::builder();
    let other_file = builder.folder().join("other.json");
    super::production::make_app_file(&other_file, 1_400_000_099);
    let other = App::read(&other_file);
    // Both applications are in the store once the gateway has served each.
    let first = builder.flag("app-file", other_file.display()).start();
    let data = first.data().to_path_buf();
    let folder = first.kill();
    (Gateway::builder().data(&data).start(), other, folder)
}

#[test]
fn applications_are_apart_even_with_the_same_names() {
    let (gateway, other, _folder) = gateway_with_another_application();

    let mut ours = [gateway.login("anna"), gateway.login("ben")];
    let foreign = |user: &str| {
        let mut client = gateway.connect(user);
        client.login_with(other.sdkappid, other.sign(user)).expect("the other application's user");
        client.catch_up();
        client
    };
    let mut their_anna = foreign("anna");
    assert_eq!(refusal(&mut their_anna, "ben", b"1", text_body("hello")), Some(ErrorCode::USER_INVALID));
    let mut their_ben = foreign("ben");
    assert_eq!(their_anna.send("ben", "theirs").seq, 1);
    assert_eq!(ours[0].send("ben", "ours").seq, 1);
    assert_eq!(ours[1].next_message().text(), "ours");
    assert_eq!(their_ben.next_message().text(), "theirs");
    assert_eq!(their_ben.conversation("anna").len(), 1);
    let crossed = gateway.connect("anna").login_with(other.sdkappid, gateway.app().sign("anna")).expect_err("crossed");
    assert_eq!(crossed.code(), Some(ErrorCode::USERSIG_OTHER_APPLICATION));
}
