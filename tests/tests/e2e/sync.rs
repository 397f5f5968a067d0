//! Catching up from a cursor, and no hole between that and live (MSG-03, MSG-04).
//!
//! Goal: whenever a device comes back, with whatever cursor, it gets what it missed, once and in order, and
//! then live pushes with nothing lost between. Mechanics: pages of several sizes, and a random life of a
//! device while messages flow. Without it a message that arrives in the moment of a login could be lost.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use protocol::{
    ErrorCode,
    message::{SyncReply, event::What},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tests::{Client, Gateway, MessageExt, Seed, text_body, unique_id};

fn texts(page: &SyncReply) -> Vec<String> {
    page.events
        .iter()
        .filter_map(|event| match &event.what {
            Some(What::Message(message)) => Some(message.text()),
            _ => None,
        })
        .collect()
}

#[test]
fn msg_03_pages_bring_everything_behind_the_cursor_in_order() {
    let gateway = Gateway::start();
    let mut ben = gateway.login("ben");
    let mut anna = gateway.login("anna");
    for n in 1..=9 {
        if n % 3 == 0 {
            ben.send("anna", &n.to_string())
        } else {
            anna.send("ben", &n.to_string())
        };
    }
    for user in ["anna", "ben"] {
        let mut client = gateway.connect(user);
        client.try_login().expect("logged in");
        let mut cursor = Bytes::new();
        let mut cursors = Vec::new();
        let mut pages = Vec::new();
        loop {
            let page = client.sync(cursor.clone(), 4).expect("a page");
            assert!(page.cursor > cursor, "cursors grow");
            assert!(page.cursor.len() <= 32);
            assert_eq!(page.events.last().map(|event| &event.position), Some(&page.cursor));
            cursor = page.cursor.clone();
            cursors.push(cursor.clone());
            pages.push(texts(&page));
            if !page.more {
                break;
            }
        }
        assert_eq!(pages.concat(), (1..=9).map(|n| n.to_string()).collect::<Vec<_>>(), "{user}");
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 1]);
        let middle = client.sync(cursors[0].clone(), 0).expect("a page");
        assert_eq!((texts(&middle).len(), middle.more), (5, false), "from the middle");
        let end = client.sync(cursor.clone(), 0).expect("a page");
        assert_eq!((end.events.len(), end.cursor, end.more), (0, cursor, false));
    }
}

#[test]
fn msg_03_cursors_that_were_not_given_out_are_refused() {
    let gateway = Gateway::start();
    let mut anna = gateway.login("anna");
    anna.send("anna", "hello");
    for wrong in [vec![1], vec![0; 11], vec![0; 13], vec![7; 32]] {
        let refusal = anna.sync(wrong.clone().into(), 0).expect_err("a refusal");
        assert_eq!(refusal.code(), Some(ErrorCode::CURSOR_INVALID), "{wrong:?}");
    }
    anna.cursor = Bytes::new();
    assert_eq!(anna.catch_up().len(), 1, "from the start it goes on");
}

#[test]
fn msg_03_a_cursor_outlives_connection_and_gateway() {
    let gateway = Gateway::start();
    gateway.login("ben");
    let mut anna = gateway.login("anna");
    anna.send("ben", "one");
    let mut ben = gateway.connect("ben");
    ben.log_in_and_sync();
    let cursor = ben.cursor.clone();
    drop(ben);
    anna.send("ben", "two");
    let gateway = gateway.restart();
    let mut ben = gateway.connect("ben");
    ben.cursor = cursor;
    assert_eq!(ben.log_in_and_sync().iter().map(MessageExt::text).collect::<Vec<_>>(), ["two"]);
}

#[test]
fn msg_04_nothing_is_pushed_before_the_log_was_read_to_its_end() {
    let gateway = Gateway::start();
    let mut anna = gateway.login("anna");
    let mut ben = gateway.connect("ben");
    ben.try_login().expect("logged in");
    for n in 1..=3 {
        anna.send("ben", &n.to_string());
    }
    let page = ben.sync(Bytes::new(), 2).expect("a page");
    assert!(page.more);
    anna.send("ben", "4");
    ben.ping();
    assert_eq!(ben.pushes_waiting(), 0);
    ben.cursor = page.cursor;
    assert_eq!(ben.catch_up().len(), 2);
    anna.send("ben", "5");
    assert_eq!(ben.next_message().text(), "5");
}

#[test]
fn msg_04_the_sending_device_is_told_how_far_its_log_has_come() {
    let gateway = Gateway::start();
    let mut anna = gateway.login("anna");
    anna.send("anna", "a note");
    // The answer and the event come by different ways; the cursor is told by one of the next pongs.
    let mut cursor = Bytes::new();
    tests::eventually("a cursor in a pong", || {
        cursor = anna.ping().cursor;
        !cursor.is_empty()
    });
    let mut again = gateway.connect("anna");
    again.cursor = cursor;
    assert!(again.log_in_and_sync().is_empty());
}

/// What a device has stored: its cursor, and the sequences it was given, in that order.
#[derive(Default)]
struct Device {
    cursor: Bytes,
    seqs: Vec<u64>,
}

impl Device {
    /// Lives for a while: comes back, catches up, takes pushes, and vanishes at any point of that.
    fn live(&mut self, gateway: &Gateway, random: &mut StdRng) {
        let mut client = gateway.connect("ben");
        client.cursor = self.cursor.clone();
        client.try_login().expect("logged in");
        let limit = random.random_range(1..40);
        loop {
            if random.random_ratio(1, 20) {
                return; // in the middle of catching up
            }
            let page = client.sync(client.cursor.clone(), limit).expect("a page");
            let page_seqs = page.events.iter().filter_map(|event| event.what.as_ref());
            self.seqs.extend(
                page_seqs.filter_map(|what| if let What::Message(message) = what { Some(message.seq) } else { None }),
            );
            client.cursor = page.cursor.clone();
            self.cursor = page.cursor;
            if !page.more {
                break;
            }
        }
        self.take_pushes(&mut client, random.random_range(0..60));
    }

    fn take_pushes(&mut self, client: &mut Client, count: usize) {
        for _ in 0..count {
            client.ping();
            while client.pushes_waiting() > 0 {
                let seq = client.next_message().seq;
                self.cursor = client.cursor.clone();
                self.seqs.push(seq);
            }
        }
    }
}

#[test]
fn msg_03_msg_04_no_hole_and_no_repeat_between_catching_up_and_live() {
    let seed = Seed::for_test("msg_03_msg_04_no_hole");
    let gateway = Gateway::start();
    gateway.login("ben");
    let done = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let devices: Vec<_> = (0..3)
            .map(|index| {
                let (gateway, done) = (&gateway, &done);
                scope.spawn(move || {
                    let mut random = StdRng::seed_from_u64(seed.wrapping_add(index));
                    let mut device = Device::default();
                    while !done.load(Ordering::Acquire) {
                        device.live(gateway, &mut random);
                    }
                    // What is left, with nothing flowing any more.
                    let mut client = gateway.connect("ben");
                    client.cursor = device.cursor.clone();
                    device.seqs.extend(client.log_in_and_sync().iter().map(|message| message.seq));
                    device.seqs
                })
            })
            .collect();
        let sent = send_in_bursts(&gateway, &mut StdRng::seed_from_u64(*seed));
        done.store(true, Ordering::Release);
        for device in devices {
            let seqs = device.join().expect("no panic");
            assert_eq!(seqs, (1..=sent).collect::<Vec<_>>(), "every message once and in order");
        }
        sent
    });
    assert_eq!(gateway.login("anna").conversation("ben").len() as u64, sent);
}

/// `anna` sends to `ben`, a few at a time, from several connections. Returns how many.
fn send_in_bursts(gateway: &Gateway, random: &mut StdRng) -> u64 {
    let mut devices = [gateway.login("anna"), gateway.login("anna")];
    let mut sent = 0;
    while sent < 1500 {
        let anna = &mut devices[random.random_range(0..2)];
        let burst: Vec<u32> =
            (0..random.random_range(1..20)).map(|_| anna.start_send("ben", &unique_id(), text_body("flow"))).collect();
        for request in burst {
            anna.answer::<protocol::message::SendReply>(request).expect("sent");
            sent += 1;
        }
    }
    sent
}
