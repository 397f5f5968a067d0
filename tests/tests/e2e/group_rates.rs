//! How many messages one group may be sent (`group_sends_per_second`), and which of them are refused first.
//!
//! Goal: a flood in a group stops at the group's rate, whoever sends it, and takes nothing from other groups. Of what is
//! over the rate low priority is refused first, and high priority still passes. Who is refused learns when to try
//! again; what is tried again is stored once. Mechanics: a low rate, and clients who send until one is refused, in a
//! group that keeps what is said and in a live room; somebody listens. Without it a few who shout could drown a room.

use std::time::{Duration, Instant};

use protocol::{
    ErrorCode,
    message::{GroupType, Priority, Send, event::What},
};
use serde_json::json;
use tests::{Client, Gateway, Refusal, eventually, text_body, unique_id};

/// Messages a second, and as many at once.
const RATE: u32 = 2;
/// How long one of them takes to come back.
const INTERVAL_MS: u32 = 1_000 / RATE;
/// How long it takes, from when none is left, until so many are back as low priority leaves to others.
const HALF: Duration = Duration::from_millis(500);

/// A group, and the sequences of what it was sent.
struct Group {
    kind: GroupType,
    id: String,
    sent: Vec<u64>,
}

impl Group {
    /// Has everybody be in a new group.
    fn new(kind: GroupType, [owner, others @ ..]: [&mut Client; 3]) -> Group {
        let id = match kind {
            GroupType::Avchatroom => owner.create_group(kind, &[]),
            _ => owner.create_group(kind, &others.each_ref().map(|client| client.user())),
        };
        if kind == GroupType::Avchatroom {
            let everybody = [owner].into_iter().chain(others);
            everybody.for_each(|client| _ = client.join_group(&id).expect("in"));
        }
        Group { kind, id, sent: Vec::new() }
    }

    /// Sends a message: whether it had been stored before, or when to try again.
    fn send(&mut self, client: &mut Client, message_id: [u8; 16], priority: Priority) -> Result<bool, u32> {
        let send = Send {
            to_group: self.id.clone(),
            client_message_id: message_id.to_vec().into(),
            body: text_body("again and again"),
            priority: priority.into(),
            ..Send::default()
        };
        match client.send_request(send) {
            Ok(reply) => {
                self.sent.extend((!reply.duplicate).then_some(reply.seq));
                Ok(reply.duplicate)
            }
            Err(Refusal::Failed { code: ErrorCode::GROUP_RATE_LIMITED, retry_after_ms }) => Err(retry_after_ms),
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Sends until one is refused: how many passed, the id of the one that did not, and when to send it again.
    fn flood(&mut self, client: &mut Client, priority: Priority) -> (u32, [u8; 16], u32) {
        // Far more than come back meanwhile.
        for passed in 0..1_000 {
            let id = unique_id();
            if let Err(wait_ms) = self.send(client, id, priority) {
                return (passed, id, wait_ms);
            }
        }
        panic!("{priority:?} has no limit in {:?}", self.kind);
    }

    /// Somebody who only listens has heard all of it: once, in its order, and nothing that was refused.
    fn was_heard_by(&self, listener: &mut Client) {
        let mut heard = Vec::new();
        while heard.len() < self.sent.len() {
            let message = match self.kind {
                GroupType::Avchatroom => listener.next_room_message(),
                _ => match listener.next_event() {
                    What::Message(message) => message,
                    What::GroupEntered(_) => continue,
                    other => panic!("{other:?}"),
                },
            };
            heard.push(message.seq);
        }
        let all: Vec<u64> = (1..=self.sent.len() as u64).collect();
        assert_eq!((&heard, &self.sent), (&all, &all), "{:?}: what is refused takes no sequence", self.kind);
        listener.ping();
        assert_eq!(listener.pushes_waiting(), 0, "{:?}", self.kind);
    }
}

#[test]
fn low_priority_is_refused_first_high_still_passes_and_what_is_sent_again_is_stored_once() {
    for kind in [GroupType::Work, GroupType::Avchatroom] {
        let gateway = Gateway::builder().more_settings(&json!({ "group_sends_per_second": RATE })).start();
        let [mut anna, mut ben, mut cleo] = ["anna", "ben", "cleo"].map(|user| gateway.login(user));
        let mut group = Group::new(kind, [&mut anna, &mut ben, &mut cleo]);
        let mut other = Group::new(kind, [&mut anna, &mut ben, &mut cleo]);
        // Low priority leaves half to others, whoever they are.
        let (passed, _, wait_ms) = group.flood(&mut anna, Priority::Low);
        assert!(passed >= RATE / 2 && (1..=INTERVAL_MS).contains(&wait_ms), "{kind:?}: {passed}, {wait_ms}");
        let (passed, refused, wait_ms) = group.flood(&mut ben, Priority::Normal);
        assert!(passed >= RATE / 2 && (1..=INTERVAL_MS).contains(&wait_ms), "{kind:?}: {passed}, {wait_ms}");
        let (passed, _, wait_ms) = group.flood(&mut anna, Priority::High);
        assert!(passed >= RATE && (1..=INTERVAL_MS).contains(&wait_ms), "{kind:?}: {passed}, {wait_ms}");
        low_is_refused_with_normal(&mut group, &mut ben);
        // It is the same message, however often it is sent.
        eventually("it passes", || group.send(&mut ben, refused, Priority::Normal) == Ok(false));
        eventually("it is known", || group.send(&mut ben, refused, Priority::Normal) == Ok(true));
        group.was_heard_by(&mut cleo);
        assert_eq!(other.send(&mut ben, unique_id(), Priority::Low), Ok(false), "another group has its own rate");
        gateway.wait_metric("gateway_requests_refused_total", &[("code", "10023")], 4.0);
    }
}

/// What is of low priority does not pass right behind what is not and was refused.
fn low_is_refused_with_normal(group: &mut Group, client: &mut Client) {
    loop {
        let asked = Instant::now();
        let [normal, low] = [Priority::Normal, Priority::Low].map(|priority| group.send(client, unique_id(), priority));
        // A test that was held up meanwhile tries again: half of what may be sent has come back.
        if normal.is_err() && asked.elapsed() < HALF {
            return assert!(low.is_err(), "{:?}", group.kind);
        }
    }
}

#[test]
fn grp_26_of_a_flood_at_once_as_much_is_stored_as_may_be_and_without_gaps() {
    const FLOOD: usize = 200;
    let gateway = Gateway::builder().flag("cores", 2).more_settings(&json!({ "group_sends_per_second": 10 })).start();
    for kind in [GroupType::Work, GroupType::Avchatroom] {
        let [mut anna, mut ben, mut cleo] = ["anna", "ben", "cleo"].map(|user| gateway.login(user));
        let mut group = Group::new(kind, [&mut anna, &mut ben, &mut cleo]);
        let start = Instant::now();
        // Nobody waits for an answer.
        let ask = |n: usize, client: &mut Client| {
            let (client_message_id, body) = (unique_id().to_vec().into(), text_body(&n.to_string()));
            let send = Send { to_group: group.id.clone(), client_message_id, body, ..Send::default() };
            client.request(protocol::command::Command::Send, &send)
        };
        let asked: Vec<_> = (0..FLOOD).map(|n| [ask(n, &mut anna), ask(n, &mut ben)]).collect();
        for [by_anna, by_ben] in asked {
            for answer in [anna.answer(by_anna), ben.answer(by_ben)] {
                let answer: tests::Answer<protocol::message::SendReply> = answer;
                match answer {
                    Ok(reply) => group.sent.push(reply.seq),
                    Err(refusal) => assert_eq!(refusal.code(), Some(ErrorCode::GROUP_RATE_LIMITED), "{kind:?}"),
                }
            }
        }
        let allowed = 10 + (start.elapsed().as_millis() / 100) as usize;
        assert!((10..=allowed).contains(&group.sent.len()), "{kind:?}: {} of {allowed}", group.sent.len());
        group.sent.sort_unstable();
        group.was_heard_by(&mut cleo);
    }
}
