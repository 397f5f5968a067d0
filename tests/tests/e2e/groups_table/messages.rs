//! What becomes of messages: unread numbers, guests, history, receive options, sequences.

use protocol::message::{ReceiveOption, UpdateConversation, UpdateConversationReply};
use serde_json::json;
use tests::text_body;

use super::*;

#[test]
fn grp_15_unread_messages_are_counted_where_the_document_says_so() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway) {
        let group = scene.group.clone();
        let last = (0..3).map(|n| scene.owner.send_to_group(&group, &n.to_string()).expect("sent").seq).last();
        scene.member.send_to_group(&group, "my own does not count").expect("sent");
        if !is_yes("GRP-15", scene.kind) {
            assert_eq!(refused(entry(&mut scene.member, &group)), ErrorCode::GROUP_RIGHT_MISSING);
            assert!(scene.member.conversations(0).is_empty(), "a live room is in no list");
            continue;
        }
        let unread = |client: &mut Client| entry(client, &group).expect("read").unread;
        assert_eq!(unread(&mut scene.member), 3, "{:?}", scene.kind);
        let conversation = Some(Conversation { group: group.clone(), ..Conversation::default() });
        let read = UpdateConversation { conversation, read_seq: last.unwrap_or(0), ..UpdateConversation::default() };
        scene.member.call::<UpdateConversationReply>(Command::UpdateConversation, &read).expect("read");
        assert_eq!(unread(&mut scene.member), 0, "{:?}", scene.kind);
    }
}

#[test]
fn grp_16_guests_receive_where_the_document_says_so() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway) {
        let (mut guest, joined) = guest_in(&gateway, &scene.group);
        match is_yes("GRP-16", scene.kind) {
            false => assert_eq!(refused(joined), ErrorCode::GROUP_RIGHT_MISSING, "{:?}", scene.kind),
            true => {
                joined.expect("in");
                scene.member.send_to_group(&scene.group, "hello").expect("sent");
                assert_eq!(guest.next_room_message().text(), "hello");
                assert_eq!(refused(guest.send_to_group(&scene.group, "hi")), ErrorCode::GUESTS_MAY_NOT);
            }
        }
    }
}

#[test]
fn grp_17_history_is_kept_where_the_document_says_so() {
    let gateway = Gateway::start();
    let mut groups = Vec::new();
    for mut scene in Scene::each(&gateway) {
        scene.owner.send_to_group(&scene.group, "kept?").expect("sent");
        groups.push((scene.kind, scene.group));
    }
    let gateway = gateway.restart();
    for (kind, group) in groups {
        for user in ["owner", "member"] {
            let mut client = gateway.login(&name(user, kind));
            let seen = history(&mut client, &group, kind);
            let has = seen.iter().any(|message| message.text() == "kept?");
            assert_eq!(has, is_yes("GRP-17", kind), "{kind:?}: {user}");
        }
    }
}

#[test]
fn grp_18_members_who_have_not_said_otherwise_receive_as_the_document_says() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway) {
        let group = scene.group.clone();
        let is_announced = match cell("GRP-18", scene.kind) {
            "online and offline push" => true,
            "online only" => false,
            other => panic!("{other}"),
        };
        let device = gateway.login(scene.member.user());
        let cursor = device.cursor.clone();
        drop(device);
        scene.owner.send_to_group(&group, "hello").expect("sent");
        // Online everybody receives.
        match scene.kind {
            Avchatroom => assert_eq!(scene.member.next_room_message().text(), "hello"),
            _ => {
                let heard = told(&mut scene.member, &mut scene.outsider);
                let is_hello = |what: &What| matches!(what, What::Message(message) if message.text() == "hello");
                assert_eq!(heard.iter().filter(|what| is_hello(what)).count(), 1, "{:?}", scene.kind);
                let receive = if is_announced { ReceiveOption::Notify } else { ReceiveOption::Silent };
                let state = entry(&mut scene.member, &group).expect("read").state.expect("a state");
                assert_eq!(state.receive(), receive, "{:?}", scene.kind);
                // Besides "mark", which is announced.
                assert_eq!(scene.member.unread().messages, 1 + u64::from(is_announced), "{:?}", scene.kind);
            }
        }
        // A device that was away finds what is kept.
        let mut device = gateway.connect(scene.member.user());
        device.try_login().expect("logged in");
        device.cursor = cursor;
        let found = device.catch_up().iter().filter(|message| message.text() == "hello").count();
        assert_eq!(found, usize::from(is_yes("GRP-17", scene.kind)), "{:?}", scene.kind);
    }
}

#[test]
fn grp_26_sequences_are_without_gaps_or_repeats_whoever_sends_at_once() {
    const EACH: usize = 20;
    for fanout_max in [2, 200] {
        let settings = json!({ "group_fanout_max": fanout_max, "group_sends_per_second": 0 });
        let gateway = Gateway::builder().more_settings(&settings).start();
        for mut scene in Scene::each(&gateway) {
            let group = scene.group.clone();
            let actors: Vec<Actor> = scene.actors().into_iter().filter(|actor| *actor != Outsider).collect();
            // All at once, nobody waits for an answer.
            let mut asked = Vec::new();
            for n in 0..EACH {
                for actor in &actors {
                    let send = protocol::message::Send {
                        to_group: group.clone(),
                        client_message_id: unique_id().to_vec().into(),
                        body: text_body(&n.to_string()),
                        ..protocol::message::Send::default()
                    };
                    asked.push((*actor, scene.client(*actor).request(Command::Send, &send)));
                }
            }
            let answer = |(actor, id)| {
                let reply: Answer<protocol::message::SendReply> = scene.client(actor).answer(id);
                reply.expect("sent").seq
            };
            let mut seqs: Vec<u64> = asked.into_iter().map(answer).collect();
            seqs.sort_unstable();
            let first = seqs[0];
            assert_eq!(seqs, (first..first + seqs.len() as u64).collect::<Vec<_>>(), "{:?}", scene.kind);
            // From 1 on: what came before were tips of who came in.
            let mut newcomer = gateway.login(scene.owner.user());
            if is_yes("GRP-17", scene.kind) {
                let history = newcomer.group_history(&group).expect("read").messages;
                let all: Vec<u64> = history.iter().map(|message| message.seq).collect();
                let seen = newcomer.groups(&[&group]).expect("read").remove(0).own.expect("a member").first_seq;
                assert_eq!(
                    (seen, first - 1),
                    (1, history.iter().filter(|message| message.from.is_empty()).count() as u64)
                );
                assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>(), "{:?}", scene.kind);
            } else {
                assert_eq!(first, 1, "tips of a live room take no sequence");
            }
            heard_in_order(&mut scene, &actors, first, seqs.len() as u64);
        }
    }
}

/// Everybody has heard what the others have said, once and in order.
fn heard_in_order(scene: &mut Scene, actors: &[Actor], first: u64, count: u64) {
    for actor in actors {
        let kind = scene.kind;
        let others = (count as usize / actors.len()) * (actors.len() - 1);
        let mut heard = Vec::new();
        let client = match actor {
            Member => &mut scene.member,
            Admin => scene.admin.as_mut().expect("there is one"),
            _ => &mut scene.owner,
        };
        while heard.len() < others {
            let message = match kind {
                Avchatroom => client.next_room_message(),
                _ => match client.next_event() {
                    What::Message(message) if message.from.is_empty() => continue,
                    What::Message(message) => message,
                    What::GroupEntered(_) | What::GroupApplication(_) => continue,
                    other => panic!("{other:?}"),
                },
            };
            assert_ne!(message.from, client.user());
            heard.push(message.seq);
        }
        assert!(heard.is_sorted_by(|one, next| one < next), "{kind:?}, {actor:?}: {heard:?}");
        assert!(heard.iter().all(|seq| (first..first + count).contains(seq)), "{kind:?}, {actor:?}: {heard:?}");
    }
}
