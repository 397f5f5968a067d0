//! Online-only messages: typing indicators and the like (MSG-10).
//!
//! Goal: they reach the recipient's live devices, now or never, and leave no trace; whoever may not send may not
//! send these either. Mechanics: devices in every state, and everything that could have kept one read afterwards.
//! Without it a "typing" could turn up hours later, or get around a blacklist.

use bytes::Bytes;
use protocol::{
    ErrorCode,
    message::{Message, Priority, Send, SendReply, UpdateConversation},
};
use tests::{Answer, Client, Gateway, MessageExt, text_body};

fn try_send(client: &mut Client, to: &str, text: &str) -> Answer<SendReply> {
    let body = text_body(text);
    client.send_request(Send { to_user: to.into(), body, online_only: true, ..Send::default() })
}

fn refused(answer: Answer<SendReply>) -> Option<ErrorCode> {
    answer.expect_err("a refusal").code()
}

#[test]
fn msg_10_live_devices_get_it_and_nothing_is_kept() {
    let gateway = Gateway::start();
    let (mut anna, mut desktop) = (gateway.login("anna"), gateway.login("anna"));
    let (mut ben, mut tablet) = (gateway.login("ben"), gateway.login("ben"));
    let mut idle = gateway.connect("ben");
    idle.try_login().expect("logged in, and never synced");
    let send = Send {
        to_user: "ben".into(),
        client_message_id: Bytes::from_static(b"typing"),
        body: text_body("typing"),
        priority: Priority::High.into(),
        online_only: true,
        ..Send::default()
    };
    let sent = anna.send_request(send.clone()).expect("sent");
    assert_eq!((sent.seq, sent.duplicate), (0, false));
    assert!(sent.time_ms > 0);
    for device in [&mut ben, &mut tablet] {
        let expected = Message {
            from: "anna".into(),
            to: "ben".into(),
            time_ms: sent.time_ms,
            client_message_id: send.client_message_id.clone(),
            body: send.body.clone(),
            priority: send.priority,
            ..Message::default()
        };
        assert_eq!(device.next_online_message(), expected);
    }
    // The same id again is another one, and does not stand in the way of a message that is kept.
    assert_eq!(anna.send_request(send.clone()).expect("sent").seq, 0);
    assert_eq!(ben.next_online_message().text(), "typing");
    let kept = anna.send_request(Send { online_only: false, ..send.clone() }).expect("sent");
    assert_eq!((kept.seq, kept.duplicate), (1, false));
    // An online-only message under the id of a kept one is no repetition of it.
    assert_eq!(anna.send_request(send).expect("sent").seq, 0);
    assert_eq!((ben.next_message().seq, desktop.next_message().seq), (1, 1));
    assert_eq!(ben.next_online_message().seq, 0);

    for (client, peer) in [(&mut anna, "ben"), (&mut ben, "anna")] {
        assert_eq!(client.conversation(peer).iter().map(|message| message.seq).collect::<Vec<_>>(), [1]);
        assert_eq!(client.entry(peer).head_seq, 1);
    }
    assert_eq!(ben.entry("anna").unread, 1);
    assert_eq!(idle.pushes_waiting(), 0);
    assert_eq!(idle.catch_up().len(), 1, "the log of who was not live has the kept one alone");
    idle.ping();
    assert_eq!(idle.pushes_waiting(), 0);
    assert_eq!(gateway.connect("ben").log_in_and_sync().len(), 1);
    desktop.ping();
    assert_eq!(desktop.pushes_waiting(), 0, "the sender's other devices don't need it");
}

#[test]
fn msg_10_a_conversation_of_online_only_messages_is_in_no_list() {
    let gateway = Gateway::start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    try_send(&mut anna, "ben", "typing").expect("sent");
    assert_eq!(ben.next_online_message().text(), "typing");
    for (client, peer) in [(&mut anna, "ben"), (&mut ben, "anna")] {
        assert!(client.conversations(0).is_empty());
        let entry = client.entry(peer);
        assert_eq!((entry.head_seq, entry.unread, entry.active_ms), (0, 0, 0));
    }
    // Changes have nothing to change.
    assert_eq!(anna.recall("ben", 0, "").expect_err("a refusal").code(), Some(ErrorCode::MESSAGE_UNKNOWN));
}

#[test]
fn msg_10_nobody_who_is_away_gets_it_later() {
    let gateway = Gateway::start();
    drop(gateway.login("ben"));
    let mut anna = gateway.login("anna");
    assert_eq!(try_send(&mut anna, "ben", "typing").expect("sent").seq, 0);
    let mut ben = gateway.connect("ben");
    assert!(ben.log_in_and_sync().is_empty());
    // Pushes keep their order: one of before would come first.
    try_send(&mut anna, "ben", "now").expect("sent");
    assert_eq!(ben.next_online_message().text(), "now");
    assert!(gateway.restart().connect("ben").log_in_and_sync().is_empty());
}

#[test]
fn msg_10_who_may_not_send_may_not_send_this_and_who_hears_nothing_hears_this_neither() {
    let gateway = Gateway::start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    ben.blacklist(&["anna"], &[]).expect("blacklisted");
    assert_eq!(refused(try_send(&mut anna, "ben", "typing")), Some(ErrorCode::BLACKLISTED));
    assert_eq!(refused(try_send(&mut anna, "nobody", "typing")), Some(ErrorCode::USER_INVALID));
    assert_eq!(refused(try_send(&mut anna, "ben", "")), Some(ErrorCode::MESSAGE_EMPTY));
    assert_eq!(refused(try_send(&mut anna, "ben", &"x".repeat(12 * 1024))), Some(ErrorCode::MESSAGE_TOO_LONG));
    ben.blacklist(&[], &["anna"]).expect("taken off");
    // Refused as a receive option: the sender notices nothing.
    let refuse = UpdateConversation { receive: Some(2), ..UpdateConversation::default() };
    ben.update("anna", refuse);
    assert_eq!(try_send(&mut anna, "ben", "unheard").expect("sent").seq, 0);
    ben.update("anna", UpdateConversation { receive: Some(0), ..UpdateConversation::default() });
    try_send(&mut anna, "ben", "heard").expect("sent");
    assert_eq!(ben.next_online_message().text(), "heard");
}

#[test]
fn msg_10_to_oneself_it_goes_to_the_other_devices() {
    let gateway = Gateway::start();
    let (mut phone, mut laptop) = (gateway.login("anna"), gateway.login("anna"));
    try_send(&mut phone, "anna", "a draft").expect("sent");
    assert_eq!(laptop.next_online_message().text(), "a draft");
    try_send(&mut laptop, "anna", "back").expect("sent");
    assert_eq!(phone.next_online_message().text(), "back", "and not one's own");
}
