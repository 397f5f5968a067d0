//! The attacker's view of the messaging features (MSG, TYPE): other users, other applications, and numbers and
//! places that no client would send.
//!
//! Goal: nobody reads or changes what is not theirs, no number brings the gateway down, and no answer is larger than
//! the client takes. Mechanics: every command against a conversation of others, from inside and outside the
//! application, and the greatest numbers in every field. Without it one request could stop everybody's connections.

use bytes::Bytes;
use prost::Message as _;
use protocol::{
    ErrorCode,
    command::Command,
    message::{
        Body, Conversation, Conversations, Done, Edit, GetConversations, GetConversationsReply, GetMerged,
        GetMergedReply, GetPinned, GetPinnedReply, History, HistoryReply, Merged, MessageReply, Recall, Sync,
        SyncReply, UpdateConversation, element::Kind,
    },
};
use tests::{Answer, Client, Gateway, add_extension, body_of, text_body, unique_id};

const ID: &[u8; 16] = b"the content's id";

fn code<T: std::fmt::Debug>(answer: Answer<T>) -> Option<ErrorCode> {
    answer.expect_err("a refusal").code()
}

fn merged_body() -> Bytes {
    let merged = Merged { content_id: Bytes::from_static(ID), count: 1, ..Merged::default() };
    body_of([Kind::Merged(merged)]).encode_to_vec().into()
}

/// Whatever `intruder` tries with the conversation of anna and ben finds and changes nothing.
fn assert_kept_out(intruder: &mut Client) {
    for peer in ["anna", "ben"] {
        assert_eq!(code(intruder.recall(peer, 1, "")), Some(ErrorCode::MESSAGE_UNKNOWN));
        assert_eq!(code(intruder.edit(peer, 1, text_body("x"))), Some(ErrorCode::MESSAGE_UNKNOWN));
        assert_eq!(code(intruder.delete(peer, &[1])), Some(ErrorCode::MESSAGE_UNKNOWN));
        assert_eq!(code(intruder.send_receipts(peer, &[1])), Some(ErrorCode::MESSAGE_UNKNOWN));
        let set = vec![add_extension("like", b"x", 1)];
        assert_eq!(code(intruder.set_extensions(peer, 1, set)), Some(ErrorCode::MESSAGE_UNKNOWN));
        assert_eq!(code(intruder.pin(peer, 2, false)), Some(ErrorCode::MESSAGE_UNKNOWN));
        assert!(intruder.pin(peer, 1, true).is_ok(), "nothing of theirs is unpinned");
        assert_eq!(code(intruder.merge(&unique_id(), &[(peer, &[1])])), Some(ErrorCode::MESSAGE_UNKNOWN));
        assert!(intruder.extensions(peer, 1, "").expect("a page").extensions.is_empty());
        assert!(intruder.pinned(peer).is_empty());
        assert!(intruder.conversation(peer).is_empty());
        assert!(intruder.history_at(peer, 1, true, 0).expect("a page").messages.is_empty());
        let entry = intruder.entry(peer);
        assert_eq!((entry.last_message, entry.head_seq, entry.unread, entry.peer_read_seq), (None, 0, 0, 0));
    }
    assert!(intruder.conversations(0).is_empty());
    assert_eq!(intruder.unread().messages, 0);
    assert!(intruder.blacklisted().is_empty());
}

/// anna and ben have a conversation with something of everything.
fn conversation(gateway: &Gateway) -> (Client, Client) {
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    for n in 1..=2 {
        anna.send("ben", &n.to_string());
    }
    anna.set_extensions("ben", 1, vec![add_extension("like", b"1", 0)]).expect("set");
    anna.pin("ben", 1, false).expect("pinned");
    anna.merge(ID, &[("ben", &[1])]).expect("merged");
    ben.label("anna", &["work"], &[]).expect("labelled");
    ben.read("anna", 2);
    gateway.login("carl");
    ben.blacklist(&["carl"], &[]).expect("blacklisted");
    (anna, ben)
}

/// Everything that the two can read of their conversation.
fn everything(client: &mut Client, peer: &str) -> impl PartialEq + std::fmt::Debug + use<> {
    let extensions = client.extensions(peer, 1, "").expect("a page");
    (client.conversation(peer), client.conversations(0), client.pinned(peer), extensions, client.blacklisted())
}

#[test]
fn other_users_neither_read_nor_change_a_conversation() {
    let gateway = Gateway::start();
    let (mut anna, mut ben) = conversation(&gateway);
    let before = (everything(&mut anna, "ben"), everything(&mut ben, "anna"));
    let mut carl = gateway.login("carl");
    assert_kept_out(&mut carl);
    assert_eq!((everything(&mut anna, "ben"), everything(&mut ben, "anna")), before);
    // Whoever holds the id of a merged content reads it: that is how it is forwarded.
    assert_eq!(carl.merged(ID, 0).expect("the content").messages.len(), 1);
}

#[test]
fn another_application_neither_reads_nor_changes_a_conversation_nor_merged_content() {
    let (gateway, other, _folder) = super::messages::gateway_with_another_application();
    let (mut anna, mut ben) = conversation(&gateway);
    let before = (everything(&mut anna, "ben"), everything(&mut ben, "anna"));
    let foreign = |name: &str| {
        let mut client = gateway.connect(name);
        client.login_with(other.sdkappid, other.sign(name)).expect("the other application's user");
        client.catch_up();
        client
    };
    let (mut their_anna, mut their_ben) = (foreign("anna"), foreign("ben"));
    assert_kept_out(&mut their_anna);
    assert_kept_out(&mut their_ben);
    assert_eq!(code(their_anna.merged(ID, 0)), Some(ErrorCode::CONTENT_UNKNOWN));
    assert_eq!(code(their_anna.send_as("ben", b"1", merged_body())), Some(ErrorCode::CONTENT_UNKNOWN));
    // Their blacklist is not ours.
    their_ben.blacklist(&["anna"], &[]).expect("blacklisted");
    assert_eq!((everything(&mut anna, "ben"), everything(&mut ben, "anna")), before);
    assert_eq!(anna.send("ben", "ours").seq, 3);
}

#[test]
fn the_greatest_numbers_are_answered_like_others() {
    let gateway = Gateway::start();
    let (mut anna, _ben) = conversation(&gateway);
    let greatest = [u64::MAX, u64::MAX - 1, i64::MAX as u64, i64::MAX as u64 + 1, 1 << 32, 3];
    for seq in greatest {
        for forward in [true, false] {
            let page = anna.history("ben", seq, forward, 1).expect("a page");
            assert_eq!(page.messages.len(), usize::from(!forward), "{seq}");
            let page = anna.history_at("ben", seq, forward, 1).expect("a page");
            // 1 << 32 and 3 are times long ago.
            assert_eq!(page.messages.len(), usize::from(forward == (seq <= 1 << 32)), "{seq}");
        }
        for answer in [
            code(anna.recall("ben", seq, "")),
            code(anna.edit("ben", seq, text_body("x"))),
            code(anna.delete("ben", &[seq])),
            code(anna.send_receipts("ben", &[seq])),
            code(anna.pin("ben", seq, false)),
            code(anna.set_extensions("ben", seq, vec![add_extension("x", b"", u64::MAX)])),
            code(anna.merge(&unique_id(), &[("ben", &[seq])])),
        ] {
            assert_eq!(answer, Some(ErrorCode::MESSAGE_UNKNOWN), "{seq}");
        }
        anna.pin("ben", seq, true).expect("not pinned anyway");
        assert!(anna.extensions("ben", seq, "\u{10ffff}").expect("a page").extensions.is_empty());
        let read = anna.read("ben", seq);
        assert_eq!(read.read_seq, 2);
    }
    // All of a list at once.
    let update = UpdateConversation { read_seq: u64::MAX, clear: true, remove: true, ..Default::default() };
    assert_eq!(anna.update("ben", update).removed_seq, 2);
    assert!(anna.merged(ID, u32::MAX).expect("a page").messages.is_empty());
    assert_eq!(gateway.metrics().sum("gateway_panics_total", &[]), 0.0);
}

#[test]
fn limits_over_the_limit_are_refused_everywhere() {
    let gateway = Gateway::start();
    let (mut anna, _ben) = conversation(&gateway);
    for limit in [1001, u32::MAX] {
        assert_eq!(code(anna.history("ben", 0, false, limit)), Some(ErrorCode::ARGUMENT_INVALID));
        assert_eq!(code(anna.history_at("ben", 1, true, limit)), Some(ErrorCode::ARGUMENT_INVALID));
        assert_eq!(code(anna.conversations_page(Bytes::new(), limit, "")), Some(ErrorCode::ARGUMENT_INVALID));
        assert_eq!(code(anna.blacklist_page("", limit)), Some(ErrorCode::ARGUMENT_INVALID));
        assert_eq!(code(anna.sync(Bytes::new(), limit)), Some(ErrorCode::ARGUMENT_INVALID));
    }
}

#[test]
fn places_in_the_list_that_were_not_given_out_lead_nowhere_else() {
    let gateway = Gateway::start();
    let (mut anna, mut ben) = conversation(&gateway);
    ben.send("carl", "between us");
    let good = ben.conversations_page(Bytes::new(), 1, "").expect("a page").next;
    assert!(!good.is_empty());
    let mut places: Vec<Vec<u8>> = vec![vec![0], vec![1], vec![0xff], vec![0xff; 40], vec![0; 40], b"carl".to_vec()];
    places.push(vec![0xff; 20_000]);
    places.push(vec![b'x'; 60_000]);
    for cut in 1..good.len() {
        places.push(good[..cut].to_vec());
    }
    for bit in 0..good.len() * 8 {
        let mut place = good.to_vec();
        place[bit / 8] ^= 1 << (bit % 8);
        places.push(place);
    }
    places.push([&good[..], &[0xff; 30]].concat());
    for place in places {
        let shown = place.get(..40).unwrap_or(&place).to_vec();
        match anna.conversations_page(place.into(), 0, "") {
            Ok(page) => {
                let peers =
                    page.conversations.iter().filter_map(|entry| Some(entry.conversation.as_ref()?.user.as_str()));
                assert!(peers.clone().all(|peer| peer == "ben"), "{shown:?}: {:?}", peers.collect::<Vec<_>>());
            }
            Err(refusal) => assert_eq!(refusal.code(), Some(ErrorCode::ARGUMENT_INVALID), "{shown:?}"),
        }
    }
}

#[test]
fn requests_without_a_conversation_or_with_bytes_that_do_not_decode_are_refused() {
    let gateway = Gateway::start();
    let mut anna = gateway.login("anna");
    let invalid = Some(ErrorCode::ARGUMENT_INVALID);
    assert_eq!(code(anna.call::<MessageReply>(Command::Recall, &Recall { seq: 1, ..Recall::default() })), invalid);
    let edit = Edit { seq: 1, body: text_body("x"), ..Edit::default() };
    assert_eq!(code(anna.call::<MessageReply>(Command::Edit, &edit)), invalid);
    assert_eq!(code(anna.call::<GetPinnedReply>(Command::GetPinned, &GetPinned::default())), invalid);
    assert_eq!(code(anna.call::<Done>(Command::UpdateConversation, &UpdateConversation::default())), invalid);
    let nobody = GetConversations { conversations: vec![Conversation::default()] };
    let answer = anna.call::<GetConversationsReply>(Command::GetConversations, &nobody);
    assert_eq!(code(answer), Some(ErrorCode::USER_INVALID));
    // A text where a message should be: of every command.
    let wrong =
        Body { custom_data: Bytes::from_static(b"\xff\xff"), mentions: vec!["\u{7f}".into()], ..Body::default() };
    for command in Command::ALL.iter().copied().filter(|command| *command != Command::Login) {
        let answer = anna.call::<Done>(command, &wrong);
        assert!(answer.is_ok() || answer.is_err_and(|refusal| refusal.code().is_some()), "{}", command.name());
    }
    // Still there.
    assert_eq!(anna.send("anna", "hello").seq, 1);
    assert_eq!(
        anna.call::<HistoryReply>(Command::History, &History { user: "anna".into(), ..History::default() })
            .map(|page| page.messages.len()),
        Ok(1)
    );
    assert_eq!(
        code(anna.call::<GetMergedReply>(Command::GetMerged, &GetMerged::default())),
        Some(ErrorCode::CONTENT_UNKNOWN)
    );
    assert!(anna.call::<SyncReply>(Command::Sync, &Sync::default()).is_ok());
    assert!(
        anna.call::<protocol::message::ConversationsReply>(Command::Conversations, &Conversations::default()).is_ok()
    );
}
