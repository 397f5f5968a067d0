//! Starting over: cursors that are worth nothing, and devices that begin at the log's end (MSG-03).
//!
//! Goal: a device with a cursor of another store is told so and loses nothing: the conversation list, the history
//! and the log from the new cursor together are everything. Mechanics: cursors from the future and of other stores,
//! a device that starts over while messages flow. Without it such a device would wait for ever.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use protocol::{
    ErrorCode,
    command::Command,
    message::{LoginReply, Sync, SyncReply},
};
use tests::{Client, Gateway, MessageExt};

fn sync(client: &mut Client, sync: &Sync) -> SyncReply {
    client.call(Command::Sync, sync).expect("a page")
}

fn store_of(gateway: &Gateway, user: &str) -> Bytes {
    let LoginReply { store, .. } = gateway.connect(user).try_login().expect("logged in");
    assert_eq!(store.len(), 8);
    store
}

/// It is told to start over, gets nothing of before, and everything from now on.
fn assert_starts_over(gateway: &Gateway, asked: &Sync, what: &str) {
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.connect("ben"));
    ben.try_login().expect("logged in");
    let page = sync(&mut ben, asked);
    assert!(page.start_over && page.events.is_empty() && !page.cursor.is_empty(), "{what}: {page:?}");
    ben.cursor = page.cursor;
    if page.more {
        ben.catch_up();
    }
    anna.send("ben", what);
    assert_eq!(ben.next_message().text(), what);
    let mut again = gateway.connect("ben");
    again.cursor = ben.cursor.clone();
    assert!(again.log_in_and_sync().is_empty(), "{what}: the new cursor is a good one");
}

#[test]
fn msg_03_a_cursor_of_another_store_or_from_the_future_starts_over() {
    let gateway = Gateway::start();
    let mut ben = gateway.login("ben");
    let mut anna = gateway.login("anna");
    for n in 1..=5 {
        anna.send("ben", &n.to_string());
        ben.next_message();
    }
    let (cursor, store) = (ben.cursor.clone(), store_of(&gateway, "ben"));
    let future = |store: &Bytes| Sync { cursor: vec![0xff; 12].into(), store: store.clone(), ..Sync::default() };
    let mut next = cursor.to_vec();
    next[3] = next[3].wrapping_add(1);
    let near_future = Sync { cursor: next.into(), ..Sync::default() };
    let foreign = Sync { cursor: cursor.clone(), store: Bytes::from_static(b"foreign!"), ..Sync::default() };
    for (what, asked) in [
        ("from the future", future(&store)),
        ("from the future, of a store not named", future(&Bytes::new())),
        ("from the near future", near_future),
        ("of another store", foreign),
        ("of a store with a longer id", Sync { cursor: cursor.clone(), store: vec![1; 100].into(), ..Sync::default() }),
    ] {
        assert_starts_over(&gateway, &asked, what);
    }
    // The cursor itself is as good as before, with and without its store; and none at all is the start.
    for asked in [Sync { cursor: cursor.clone(), store, ..Sync::default() }, Sync { cursor, ..Sync::default() }] {
        let page = sync(&mut ben, &asked);
        assert_eq!((page.start_over, page.events.len()), (false, 5));
    }
    let from_start = sync(&mut ben, &Sync { store: Bytes::from_static(b"foreign!"), ..Sync::default() });
    assert_eq!((from_start.start_over, from_start.events.len()), (false, 10), "a new device needs no cursor");
    let wrong = ben.sync(vec![1; 11].into(), 0).expect_err("no cursor at all");
    assert_eq!(wrong.code(), Some(ErrorCode::CURSOR_INVALID));
}

#[test]
fn msg_03_a_wiped_server_is_another_store_even_if_it_has_come_further() {
    let gateway = Gateway::start();
    let mut ben = gateway.login("ben");
    gateway.login("anna").send("ben", "gone with the disk");
    ben.next_message();
    let (cursor, store) = (ben.cursor.clone(), store_of(&gateway, "ben"));
    assert_eq!(store_of(&gateway, "anna"), store, "the same for everybody");
    let gateway = gateway.restart();
    assert_eq!(store_of(&gateway, "ben"), store, "and after a restart");
    drop(gateway);

    let wiped = Gateway::start();
    assert_ne!(store_of(&wiped, "ben"), store);
    let mut anna = wiped.login("anna");
    for n in 1..=50 {
        anna.send("ben", &n.to_string());
    }
    assert_starts_over(&wiped, &Sync { cursor, store, ..Sync::default() }, "of the wiped store");
}

#[test]
fn msg_03_a_device_can_begin_at_the_end() {
    let gateway = Gateway::start();
    gateway.login("ben");
    let mut anna = gateway.login("anna");
    for n in 1..=3 {
        anna.send("ben", &n.to_string());
    }
    let mut ben = gateway.connect("ben");
    ben.try_login().expect("logged in");
    let page = sync(&mut ben, &Sync { from_end: true, ..Sync::default() });
    assert_eq!((page.events.len(), page.start_over), (0, false));
    ben.cursor = page.cursor;
    ben.catch_up();
    assert_eq!(ben.pushes_waiting(), 0);
    anna.send("ben", "4");
    assert_eq!(ben.next_message().text(), "4");
    // Of a user who has nothing at all, too.
    let mut carl = gateway.connect("carl");
    carl.try_login().expect("logged in");
    carl.cursor = sync(&mut carl, &Sync { from_end: true, ..Sync::default() }).cursor;
    assert!(carl.catch_up().is_empty());
    anna.send("carl", "5");
    assert_eq!(carl.next_message().text(), "5");
}

#[test]
fn msg_03_list_history_and_log_leave_no_hole_while_messages_flow() {
    const SENT: u64 = 300;
    let gateway = Gateway::start();
    gateway.login("ben");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (gateway, done) = (&gateway, &done);
        scope.spawn(move || {
            let mut anna = gateway.login("anna");
            for n in 1..=SENT {
                anna.send("ben", &n.to_string());
            }
            done.store(true, Ordering::Release);
        });
        let mut rounds = 0;
        loop {
            let last_round = done.load(Ordering::Acquire);
            let mut ben = gateway.connect("ben");
            ben.try_login().expect("logged in");
            // First the place in the log, then what there is: what comes between is in both.
            ben.cursor = sync(&mut ben, &Sync { from_end: true, ..Sync::default() }).cursor;
            let entries = ben.conversations(0);
            let head = entries.first().map_or(0, |entry| entry.head_seq);
            let mut seqs: Vec<u64> = ben.conversation("anna").iter().map(|message| message.seq).collect();
            assert!(seqs.len() as u64 >= head, "the history is not behind the list");
            seqs.extend(ben.catch_up().iter().map(|message| message.seq));
            for _ in 0..30 {
                if seqs.last().is_none_or(|last| *last < SENT) {
                    seqs.push(ben.next_message().seq);
                }
            }
            seqs.sort_unstable();
            seqs.dedup();
            let last = seqs.last().copied().unwrap_or(0);
            assert_eq!(seqs, (1..=last).collect::<Vec<_>>(), "round {rounds}");
            rounds += 1;
            if last_round {
                assert_eq!(last, SENT);
                return;
            }
        }
    });
}
