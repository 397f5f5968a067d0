//! Groups over the wire (GRP-01 to GRP-27): what members learn at once, what they find when they come back.
//!
//! Goal: whoever is in a group gets everything that is said there, on every device, live or later, in order and once;
//! whoever is not gets nothing. A client can't tell a small group from a large one. Mechanics: clients of several users
//! and devices, with the limit between the two set low or high; the gateway is killed in the middle. What each role may
//! do is tested in the backend, cell by cell; here are the published codes.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::{
    ErrorCode,
    command::Command,
    message::{
        Conversation, Done, GetGroupReceipts, GetGroupReceiptsReply, GroupAttributes, GroupType, GroupUpdate,
        SearchGroups, SearchGroupsReply, Send, SendReceipts, SendReply, UpdateGroup, UpdateGroupAttributes,
        event::What, group_push,
    },
};
use serde_json::json;
use tests::{Answer, Client, Gateway, MessageExt, text_body, unique_id};

fn code<T: std::fmt::Debug>(answer: Answer<T>) -> Option<ErrorCode> {
    answer.expect_err("a refusal").code()
}

/// A gateway on which groups of more than two are large, and one on which none of these is.
fn gateways() -> [Gateway; 2] {
    [2, 200].map(|max| Gateway::builder().more_settings(&json!({ "group_fanout_max": max })).start())
}

/// Takes events until one is a message that says this; of what came before, only tips and what tells of groups.
fn until(client: &mut Client, text: &str) -> u64 {
    loop {
        match client.next_event() {
            What::Message(message) if message.from.is_empty() => {} // tips
            What::Message(message) => {
                assert_eq!(message.text(), text, "{} heard something else", client.user());
                return message.seq;
            }
            What::GroupEntered(_) | What::GroupLeft(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn grp_26_members_hear_everything_on_every_device_live_and_later() {
    for gateway in gateways() {
        let mut owner = gateway.login("owner");
        let (mut anna, mut tablet) = (gateway.login("anna"), gateway.login("anna"));
        let mut ben = gateway.login("ben");
        let away = gateway.login("cleo");
        let group = owner.create_group(GroupType::Work, &["anna", "ben", "cleo"]);
        let cursor = away.cursor.clone();
        drop(away);
        // The first message makes the group known; the sender's own devices learn of it, too.
        assert_eq!(owner.send_to_group(&group, "one").expect("sent").seq, 1);
        for client in [&mut anna, &mut tablet, &mut ben] {
            assert!(matches!(client.next_event(), What::GroupEntered(entered) if entered.group == group));
            assert_eq!(until(client, "one"), 1);
        }
        assert_eq!(ben.send_to_group(&group, "two").expect("sent").seq, 2);
        for client in [&mut owner, &mut anna, &mut tablet] {
            assert_eq!(until(client, "two"), 2);
        }
        assert_eq!(ben.pushes_waiting(), 0, "who has sent it knows it");
        let mut away = gateway.connect("cleo");
        away.try_login().expect("logged in");
        away.cursor = cursor;
        let heard: Vec<u64> = away.catch_up().iter().map(|message| message.seq).collect();
        assert_eq!(heard, [1, 2]);
        owner.send_to_group(&group, "three").expect("sent");
        assert_eq!(until(&mut away, "three"), 3);
    }
}

#[test]
fn who_comes_in_hears_from_then_on_and_who_goes_no_more() {
    for gateway in gateways() {
        let mut owner = gateway.login("owner");
        let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
        let group = owner.create_group(GroupType::Meeting, &[]);
        for client in [&mut anna, &mut ben] {
            assert_eq!(code(client.send_to_group(&group, "from outside")), Some(ErrorCode::GROUP_RIGHT_MISSING));
            assert!(!client.join_group(&group).expect("joined").applied);
            assert_eq!(code(client.join_group(&group)), Some(ErrorCode::GROUP_MEMBER_ALREADY));
        }
        owner.send_to_group(&group, "one").expect("sent");
        until(&mut anna, "one");
        until(&mut ben, "one");
        owner.remove_from_group(&group, &["ben"]).expect("removed");
        owner.send_to_group(&group, "two").expect("sent");
        until(&mut anna, "two");
        assert!(matches!(ben.next_event(), What::GroupLeft(left) if left.group == group));
        ben.ping();
        assert_eq!(ben.pushes_waiting(), 0);
        assert!(ben.catch_up().is_empty());
        let seen = ben.group_history(&group).expect("what he has heard");
        assert_eq!(seen.messages.iter().map(|message| message.text()).collect::<Vec<_>>(), ["one"]);
        let mut eve = gateway.login("eve");
        assert_eq!(code(eve.group_history(&group)), Some(ErrorCode::GROUP_RIGHT_MISSING));
        assert_eq!(code(eve.group_history("nothing")), Some(ErrorCode::GROUP_UNKNOWN));
        assert_eq!(code(eve.group_members(&group)), Some(ErrorCode::GROUP_RIGHT_MISSING));
    }
}

#[test]
fn groups_survive_a_kill() {
    for gateway in gateways() {
        let mut owner = gateway.login("owner");
        let mut anna = gateway.login("anna");
        let group = owner.create_group(GroupType::Meeting, &[]);
        anna.join_group(&group).expect("joined");
        let acked: Vec<u64> = (0..20).map(|n| anna.send_to_group(&group, &n.to_string()).expect("sent").seq).collect();
        let cursor = owner.cursor.clone();
        let gateway = gateway.kill().start();
        let mut owner = gateway.connect("owner");
        owner.try_login().expect("logged in");
        owner.cursor = cursor;
        let heard: Vec<u64> = owner.catch_up().iter().map(|message| message.seq).collect();
        assert_eq!(heard, acked);
        assert_eq!(owner.joined_groups(), std::slice::from_ref(&group));
        let mut anna = gateway.login("anna");
        assert_eq!(anna.send_to_group(&group, "more").expect("sent").seq, 21, "without a gap");
        until(&mut owner, "more");
    }
}

#[test]
fn grp_20_grp_21_grp_24_groups_are_found_read_and_changed() {
    let gateway = Gateway::start();
    let (mut owner, mut eve) = (gateway.login("owner"), gateway.login("eve"));
    let group = owner.try_create_group(GroupType::Public, "garden", &[]).expect("made");
    assert_eq!(code(owner.try_create_group(GroupType::Public, "garden", &[])), Some(ErrorCode::GROUP_ID_OWN));
    assert_eq!(code(eve.try_create_group(GroupType::Public, "garden", &[])), Some(ErrorCode::GROUP_ID_TAKEN));
    assert_eq!(code(eve.try_create_group(GroupType::Work, "@TGS#x", &[])), Some(ErrorCode::GROUP_ID_INVALID));
    assert_eq!(code(eve.try_create_group(GroupType::Work, "", &["nobody"])), Some(ErrorCode::GROUP_USER_UNKNOWN));
    let update = GroupUpdate { notice: Some("closed in winter".into()), ..GroupUpdate::default() };
    let update = UpdateGroup { group: group.clone(), update: Some(update) };
    owner.call::<Done>(Command::UpdateGroup, &update).expect("changed");
    assert_eq!(code(eve.call::<Done>(Command::UpdateGroup, &update)), Some(ErrorCode::GROUP_RIGHT_MISSING));
    let found = owner.groups(&["garden", "nothing"]).expect("read");
    let garden = found[0].group.as_ref().expect("a group");
    assert_eq!((garden.notice.as_str(), garden.owner.as_str(), garden.member_count), ("closed in winter", "owner", 1));
    assert_eq!(found[1].code, ErrorCode::GROUP_UNKNOWN.0);
    let seen = eve.groups(&["garden"]).expect("read").remove(0);
    assert_eq!((seen.group.expect("a group").notice.as_str(), seen.own), ("", None));
    for (text, expected) in [("garden", 1), ("euro gard", 1), ("garden", 1), ("geese", 0)] {
        let asked = SearchGroups { text: text.into(), ..SearchGroups::default() };
        let reply: SearchGroupsReply = eve.call(Command::SearchGroups, &asked).expect("searched");
        assert_eq!(reply.groups.len(), expected, "{text}");
    }
    let set = BTreeMap::from([("mood".to_owned(), Bytes::from("fine"))]);
    let change = UpdateGroupAttributes { group, set: set.clone(), ..UpdateGroupAttributes::default() };
    let mut tablet = gateway.login("owner");
    let reply: GroupAttributes = owner.call(Command::UpdateGroupAttributes, &change).expect("changed");
    assert_eq!(reply.attributes, set);
    let group_push::What::Attributes(told) = tablet.next_group_push() else { panic!("not attributes") };
    assert_eq!(told, reply);
}

#[test]
fn msg_07_a_sender_learns_who_has_read() {
    for gateway in gateways() {
        let mut owner = gateway.login("owner");
        let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
        let group = owner.create_group(GroupType::Work, &["anna", "ben"]);
        let send = Send {
            to_group: group.clone(),
            client_message_id: unique_id().to_vec().into(),
            body: text_body("read this"),
            need_receipt: true,
            ..Send::default()
        };
        let sent: SendReply = owner.call(Command::Send, &send).expect("sent");
        until(&mut anna, "read this");
        until(&mut ben, "read this");
        let conversation = Some(Conversation { group: group.clone(), ..Conversation::default() });
        let receipt = SendReceipts { conversation, seqs: vec![sent.seq] };
        anna.call::<Done>(Command::SendReceipts, &receipt).expect("noted");
        let told = loop {
            match owner.next_event() {
                What::GroupReceipts(told) => break told,
                What::GroupEntered(_) => {} // as it was made
                other => panic!("not receipts: {other:?}"),
            }
        };
        assert_eq!((told.seq, told.read, told.unread), (sent.seq, 1, 1));
        for (unread, expected) in [(false, "anna"), (true, "ben")] {
            let asked = GetGroupReceipts { group: group.clone(), seq: sent.seq, unread, ..GetGroupReceipts::default() };
            let reply: GetGroupReceiptsReply = owner.call(Command::GetGroupReceipts, &asked).expect("read");
            assert_eq!(reply.users, [expected]);
        }
        assert_eq!(owner.group_online(&group).expect("counted"), (3, 0));
        drop(ben);
        tests::eventually("ben is gone", || owner.group_online(&group).expect("counted") == (2, 0));
    }
}
