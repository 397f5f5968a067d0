//! What a user keeps about a conversation: pin, receive option, marks, custom data, labels, clearing and removing
//! (MSG-12, MSG-16, MSG-17).
//!
//! Goal: what is set on one device is the same on all of them, the other side learns nothing of it, and a
//! conversation that was removed or refused comes back as promised. Mechanics: two devices of one user, the events
//! of each, and what the list and the totals say. Without it devices would show different lists.

use protocol::{
    ErrorCode,
    message::{
        ConversationChanged, ConversationState, GetUnreadReply, ReceiveOption, RenameLabel, UpdateConversation,
        event::What,
    },
};
use tests::{Answer, Client, Gateway, MessageExt, text_body, user};

fn code<T: std::fmt::Debug>(answer: Answer<T>) -> Option<ErrorCode> {
    answer.expect_err("a refusal").code()
}

fn none() -> UpdateConversation {
    UpdateConversation::default()
}

fn receive(option: ReceiveOption) -> UpdateConversation {
    UpdateConversation { receive: Some(option.into()), ..none() }
}

/// Takes the next event: what the user keeps about a conversation changed.
fn next_state(client: &mut Client, peer: &str) -> ConversationState {
    match client.next_event() {
        What::Conversation(ConversationChanged { conversation, state }) => {
            assert_eq!(conversation, user(peer));
            state.expect("a state")
        }
        other => panic!("not a changed conversation: {other:?}"),
    }
}

fn total(client: &mut Client) -> (u64, u32) {
    let GetUnreadReply { messages, marked } = client.unread();
    (messages, marked)
}

#[test]
fn msg_16_what_is_set_on_one_device_is_the_same_on_all_and_nothing_to_the_other_side() {
    let gateway = Gateway::start();
    let (mut phone, mut laptop, mut ben) = (gateway.login("anna"), gateway.login("anna"), gateway.login("ben"));
    ben.send("anna", "hello");
    assert_eq!((phone.next_message().seq, laptop.next_message().seq), (1, 1));
    let updates = [
        UpdateConversation { pinned: Some(true), ..none() },
        receive(ReceiveOption::Silent),
        UpdateConversation { marked_unread: Some(true), ..none() },
        UpdateConversation { custom_data: Some(vec![0xff; 256].into()), ..none() },
        UpdateConversation { label: vec!["friends".into(), "work".into()], ..none() },
        UpdateConversation { unlabel: vec!["work".into(), "never put on".into()], ..none() },
        UpdateConversation { read_seq: 1, ..none() },
        UpdateConversation { pinned: Some(false), custom_data: Some(Default::default()), ..none() },
    ];
    let mut expected = ConversationState::default();
    for (index, update) in updates.into_iter().enumerate() {
        match index {
            0 => expected.pinned = true,
            1 => expected.receive = ReceiveOption::Silent.into(),
            2 => expected.marked_unread = true,
            3 => expected.custom_data = vec![0xff; 256].into(),
            4 => expected.labels = vec!["friends".into(), "work".into()],
            5 => expected.labels = vec!["friends".into()],
            6 => (expected.read_seq, expected.marked_unread) = (1, false), // reading takes the mark off
            _ => (expected.pinned, expected.custom_data) = (false, Default::default()),
        }
        assert_eq!(phone.update("ben", update.clone()), expected, "{update:?}");
        for device in [&mut phone, &mut laptop] {
            assert_eq!(next_state(device, "ben"), expected, "{update:?}");
        }
        for device in [&mut phone, &mut laptop] {
            assert_eq!(device.entry("ben").state.as_ref(), Some(&expected));
        }
        // As it is already: nobody is told.
        assert_eq!(phone.update("ben", update), expected);
    }
    laptop.update("ben", UpdateConversation { marked_unread: Some(true), ..none() });
    assert!(next_state(&mut phone, "ben").marked_unread);
    // The other side was told of the read mark, and of nothing else.
    phone.send("ben", "and now");
    assert!(matches!(ben.next_event(), What::PeerRead(_)));
    assert_eq!(ben.next_message().text(), "and now");
    assert_eq!(ben.entry("anna").state, Some(ConversationState::default()));
}

#[test]
fn msg_16_updates_that_are_wrong_are_refused_and_change_nothing() {
    let gateway = Gateway::start();
    let (mut anna, _ben) = (gateway.login("anna"), gateway.login("ben"));
    let label = |label: &str| UpdateConversation { label: vec![label.to_owned()], ..none() };
    let pinned = Some(true);
    for (what, update) in [
        ("custom data of 257 bytes", UpdateConversation { custom_data: Some(vec![1; 257].into()), ..none() }),
        ("no receive option", UpdateConversation { receive: Some(3), ..none() }),
        ("a negative one", UpdateConversation { receive: Some(-1), ..none() }),
        ("no label", label("")),
        ("a label of 33 bytes", label(&"l".repeat(33))),
        ("21 labels", UpdateConversation { label: vec!["l".into(); 21], ..none() }),
        ("21 labels off", UpdateConversation { unlabel: vec!["l".into(); 21], ..none() }),
    ] {
        let update = UpdateConversation { pinned, ..update };
        assert_eq!(code(anna.try_update("ben", update)), Some(ErrorCode::ARGUMENT_INVALID), "{what}");
    }
    let update = UpdateConversation { pinned, ..none() };
    assert_eq!(code(anna.try_update("nobody", update.clone())), Some(ErrorCode::USER_INVALID));
    assert_eq!(code(anna.try_update("", update)), Some(ErrorCode::USER_INVALID));
    assert_eq!(anna.entry("ben").state, Some(ConversationState::default()));
    // Before there is a message, too, something can be kept.
    assert!(anna.update("ben", UpdateConversation { pinned, ..none() }).pinned);
    assert!(anna.entry("ben").state.is_some_and(|state| state.pinned));
}

#[test]
fn msg_16_labels_group_conversations_and_are_renamed_everywhere_at_once() {
    let gateway = Gateway::start();
    for name in ["ben", "carl", "dora"] {
        gateway.login(name);
    }
    let (mut phone, mut laptop) = (gateway.login("anna"), gateway.login("anna"));
    for peer in ["ben", "carl", "dora"] {
        phone.send(peer, "hello");
        laptop.next_message();
    }
    phone.label("ben", &["friends"], &[]).expect("labelled");
    phone.label("carl", &["friends", "work"], &[]).expect("labelled");
    let labelled = |client: &mut Client, label: &str| -> Vec<String> {
        let page = client.conversations_page(bytes::Bytes::new(), 0, label).expect("a page");
        let mut peers: Vec<String> =
            page.conversations.into_iter().filter_map(|entry| Some(entry.conversation?.user)).collect();
        peers.sort_unstable();
        peers
    };
    assert_eq!(labelled(&mut laptop, "friends"), ["ben", "carl"]);
    assert_eq!(labelled(&mut laptop, "work"), ["carl"]);
    assert!(labelled(&mut laptop, "nothing").is_empty());
    for peer in ["ben", "carl"] {
        next_state(&mut laptop, peer);
    }

    phone.rename_label("friends", "good friends").expect("renamed");
    let event = RenameLabel { label: "friends".into(), to: "good friends".into() };
    assert_eq!(laptop.next_event(), What::Label(event));
    assert_eq!(labelled(&mut laptop, "good friends"), ["ben", "carl"]);
    assert!(labelled(&mut laptop, "friends").is_empty());
    phone.rename_label("good friends", "").expect("taken off");
    assert_eq!(laptop.next_event(), What::Label(RenameLabel { label: "good friends".into(), to: String::new() }));
    assert!(labelled(&mut laptop, "good friends").is_empty());
    assert_eq!(phone.entry("carl").state.map(|state| state.labels), Some(vec!["work".to_owned()]));
    // The same name later is another label.
    phone.label("dora", &["good friends"], &[]).expect("labelled");
    assert_eq!(labelled(&mut phone, "good friends"), ["dora"]);
    for (what, label, to) in [
        ("unknown", "nothing", "something"),
        ("taken", "good friends", "work"),
        ("no name", "", "x"),
        ("a long name", "work", &"l".repeat(33)),
    ] {
        assert_eq!(code(phone.rename_label(label, to)), Some(ErrorCode::ARGUMENT_INVALID), "{what}");
    }
    assert_eq!(labelled(&mut phone, "work"), ["carl"]);
}

#[test]
fn msg_16_labels_have_limits() {
    let gateway = Gateway::start();
    for n in 0..6 {
        gateway.login(&format!("peer {n}"));
    }
    let mut anna = gateway.login("anna");
    let names: Vec<String> = (0..101).map(|n| format!("label {n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for n in 0..5 {
        anna.label(&format!("peer {n}"), &names[n * 20..n * 20 + 20], &[]).expect("labelled");
    }
    assert_eq!(code(anna.label("peer 5", &[names[100]], &[])), Some(ErrorCode::LIST_FULL), "the user's 101st");
    assert_eq!(code(anna.label("peer 0", &[names[20]], &[])), Some(ErrorCode::LIST_FULL), "the conversation's 21st");
    assert_eq!(anna.entry("peer 0").state.map(|state| state.labels.len()), Some(20));
    anna.label("peer 0", &[names[20]], &[names[0]]).expect("one on, one off");
    // A label that no conversation has any more makes room when it is taken off all.
    anna.rename_label(names[0], "").expect("taken off");
    anna.label("peer 5", &[names[100]], &[]).expect("there is room again");
}

#[test]
fn msg_17_silent_conversations_are_received_but_not_in_the_total() {
    let gateway = Gateway::start();
    let (mut anna, mut ben, mut carl) = (gateway.login("anna"), gateway.login("ben"), gateway.login("carl"));
    anna.update("ben", receive(ReceiveOption::Silent));
    next_state(&mut anna, "ben");
    ben.send("anna", "1");
    carl.send("anna", "2");
    assert_eq!([anna.next_message().text(), anna.next_message().text()], ["1", "2"]);
    assert_eq!((anna.entry("ben").unread, anna.entry("carl").unread), (1, 1));
    assert_eq!(total(&mut anna), (1, 0));
    anna.update("ben", receive(ReceiveOption::Notify));
    assert_eq!(total(&mut anna), (2, 0));
    // Marked by hand: only where nothing is unread, and not if it is silent.
    for peer in ["ben", "carl"] {
        anna.update(peer, UpdateConversation { marked_unread: Some(true), ..none() });
    }
    assert_eq!(total(&mut anna), (2, 0));
    // Read and marked at the same time: marked.
    for peer in ["ben", "carl"] {
        anna.update(peer, UpdateConversation { read_seq: 1, marked_unread: Some(true), ..none() });
    }
    assert_eq!(total(&mut anna), (0, 2));
    anna.update("ben", receive(ReceiveOption::Silent));
    assert_eq!(total(&mut anna), (0, 1));
    anna.read("carl", 1);
    assert_eq!(total(&mut anna), (0, 0));
}

#[test]
fn msg_17_refused_messages_are_in_the_history_alone() {
    let gateway = Gateway::start();
    let (mut anna, mut laptop, mut ben) = (gateway.login("anna"), gateway.login("anna"), gateway.login("ben"));
    let mut carl = gateway.login("carl");
    ben.send("anna", "before");
    assert_eq!((anna.next_message().seq, laptop.next_message().seq), (1, 1));
    anna.update("ben", receive(ReceiveOption::Refuse));
    for device in [&mut anna, &mut laptop] {
        next_state(device, "ben");
    }
    assert_eq!(ben.send("anna", "refused").seq, 2, "the sender notices nothing");
    carl.send("anna", "from carl");
    assert_eq!([anna.next_message().text(), laptop.next_message().text()], ["from carl", "from carl"]);
    assert_eq!((anna.entry("ben").unread, total(&mut anna)), (0, (1, 0)), "nothing is unread while it is refused");
    let texts =
        |client: &mut Client, peer| -> Vec<String> { client.conversation(peer).iter().map(MessageExt::text).collect() };
    assert_eq!(texts(&mut anna, "ben"), ["before", "refused"]);
    assert_eq!(texts(&mut ben, "anna"), ["before", "refused"]);
    let synced = gateway.connect("anna").log_in_and_sync();
    assert_eq!(synced.iter().map(MessageExt::text).collect::<Vec<_>>(), ["before", "from carl"]);
    // Writing there oneself, and receiving again.
    assert_eq!(anna.send("ben", "from anna").seq, 3);
    assert_eq!(laptop.next_message().text(), "from anna");
    anna.update("ben", receive(ReceiveOption::Notify));
    next_state(&mut anna, "ben");
    assert_eq!(anna.entry("ben").unread, 0, "what came meanwhile counts as read");
    ben.send("anna", "after");
    assert_eq!(anna.next_message().text(), "after");
    assert_eq!(anna.entry("ben").unread, 1);
    assert_eq!(total(&mut anna), (2, 0));
    anna.read("ben", 4);
    assert_eq!(anna.entry("ben").unread, 0);
}

#[test]
fn msg_12_a_cleared_history_is_gone_for_oneself_and_the_conversation_stays() {
    let gateway = Gateway::start();
    let (mut anna, mut laptop, mut ben) = (gateway.login("anna"), gateway.login("anna"), gateway.login("ben"));
    for n in 1..=3 {
        ben.send("anna", &n.to_string());
        assert_eq!((anna.next_message().seq, laptop.next_message().seq), (n, n));
    }
    anna.update("ben", UpdateConversation { pinned: Some(true), ..none() });
    next_state(&mut laptop, "ben");
    let state = anna.update("ben", UpdateConversation { clear: true, ..none() });
    assert_eq!((state.cleared_seq, state.read_seq, state.pinned, state.removed_seq), (3, 3, true, 0));
    assert_eq!(next_state(&mut laptop, "ben"), state);
    let page = anna.history("ben", 0, false, 0).expect("a page");
    assert_eq!((page.messages.len(), page.more, page.head_seq, page.first_seq), (0, false, 3, 4));
    assert!(anna.history("ben", 1, true, 0).expect("a page").messages.is_empty());
    let entry = anna.entry("ben");
    assert_eq!((entry.last_message, entry.unread, total(&mut anna)), (None, 0, (0, 0)));
    assert_eq!(anna.peers(), ["ben"]);
    assert_eq!(ben.conversation("anna").len(), 3);
    assert_eq!(ben.send("anna", "4").seq, 4);
    assert_eq!(anna.conversation("ben").iter().map(|message| message.seq).collect::<Vec<_>>(), [4]);
    assert_eq!(anna.entry("ben").unread, 1);
}

#[test]
fn msg_16_a_removed_conversation_comes_back_with_the_next_message_and_no_older_one() {
    let gateway = Gateway::start();
    let (mut anna, mut laptop, mut ben) = (gateway.login("anna"), gateway.login("anna"), gateway.login("ben"));
    gateway.login("carl").send("anna", "hello");
    for n in 1..=3 {
        ben.send("anna", &n.to_string());
    }
    let kept = UpdateConversation { label: vec!["work".into()], ..receive(ReceiveOption::Silent) };
    anna.update("ben", UpdateConversation { pinned: Some(true), marked_unread: Some(true), ..kept });
    let state = anna.update("ben", UpdateConversation { remove: true, ..none() });
    assert_eq!((state.removed_seq, state.cleared_seq, state.pinned, state.marked_unread), (3, 3, false, false));
    let states = std::iter::repeat_with(|| laptop.next_event());
    let last = states.filter(|what| matches!(what, What::Conversation(_))).nth(1);
    let expected = ConversationChanged { conversation: user("ben"), state: Some(state) };
    assert_eq!(last, Some(What::Conversation(expected)));
    assert_eq!((anna.peers(), laptop.peers()), (vec!["carl".to_owned()], vec!["carl".to_owned()]));
    assert_eq!(ben.peers(), ["anna"], "the other side has learned nothing");
    assert!(anna.conversation("ben").is_empty());
    assert_eq!(total(&mut anna), (1, 0));
    // A message that is no last message does not bring it back, the next other one does.
    let send = protocol::message::Send {
        to_user: "anna".into(),
        body: text_body("4"),
        exclude_from_last_message: true,
        ..Default::default()
    };
    ben.send_request(send).expect("sent");
    assert_eq!(anna.peers(), ["carl"]);
    ben.send("anna", "5");
    assert_eq!(anna.peers(), ["ben", "carl"]);
    let seqs = |client: &mut Client, peer| -> Vec<u64> {
        client.conversation(peer).iter().map(|message| message.seq).collect()
    };
    assert_eq!(seqs(&mut anna, "ben"), [4, 5]);
    assert_eq!(seqs(&mut ben, "anna"), [1, 2, 3, 4, 5]);
    assert_eq!(anna.entry("ben").unread, 2);
    // One's own message brings it back, too; and after a restart it is as before.
    anna.update("ben", UpdateConversation { remove: true, ..none() });
    assert_eq!(anna.peers(), ["carl"]);
    let gateway = gateway.restart();
    let mut anna = gateway.login("anna");
    assert_eq!(anna.peers(), ["carl"]);
    anna.send("ben", "6");
    assert_eq!(anna.peers(), ["ben", "carl"]);
    assert_eq!(seqs(&mut anna, "ben"), [6]);
}

#[test]
fn msg_07_the_read_mark_in_the_list_is_the_one_that_was_told() {
    let gateway = Gateway::start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    anna.send("ben", "hello");
    // Clearing is no reading: the other side neither sees nor hears of it.
    ben.update("anna", UpdateConversation { clear: true, ..none() });
    assert_eq!(anna.entry("ben").peer_read_seq, 0);
    anna.send("ben", "again");
    ben.update("anna", UpdateConversation { read_seq: 2, ..none() });
    let told = protocol::message::PeerRead { conversation: user("ben"), read_seq: anna.entry("ben").peer_read_seq };
    assert_eq!(told.read_seq, 2);
    assert_eq!(anna.next_event(), What::PeerRead(told));
}
