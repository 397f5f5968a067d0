//! Watches end when their key changes, and not for ever before.

use std::{
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use backend::store::*;
use futures::{FutureExt as _, executor::block_on};

use crate::{Act, Fixture, commit, get, number};

/// How long a watch may take to end: a server may have to be asked.
const PATIENCE: Duration = Duration::from_secs(30);

/// Polls the watch on a thread of its own; tells its end.
fn await_end(watch: Watch) -> Receiver<Result<(), StoreError>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(block_on(watch)));
    receiver
}

fn ended(receiver: &Receiver<Result<(), StoreError>>) -> Result<(), StoreError> {
    receiver.recv_timeout(PATIENCE).expect("the watch ends")
}

fn set_up(on: &Fixture, key: &str) -> Watch {
    let tx = on.begin();
    let watch = tx.watch(key.as_bytes());
    commit(tx).expect("commits");
    watch
}

pub fn watches_end_when_the_key_changes(on: &Fixture) {
    let changes: [Act; 5] = [
        ("set", &|tx| tx.set("a", "2")),
        ("clear", &|tx| tx.clear(b"a")),
        ("clear range", &|tx| tx.clear_range(b"", b"b")),
        ("atomic", &|tx| tx.add(b"a", 1)),
        ("stamp", &|tx| tx.set_versionstamped_value("a", b"", 0, b"")),
    ];
    for (what, change) in changes {
        on.fill(&["a"]);
        let mut watch = set_up(on, "a");
        on.write(|tx| tx.set("b", what));
        assert!((&mut watch).now_or_never().is_none(), "{what}: not before");
        let end = await_end(watch);
        on.write(change);
        assert_eq!(ended(&end), Ok(()), "{what}");
    }
    let appended = {
        let tx = on.begin();
        let watches = [tx.watch(b"absent"), tx.watch(b"absent")];
        commit(tx).expect("commits");
        watches.map(await_end)
    };
    on.write(|tx| tx.set("absent", "1"));
    appended.iter().for_each(|end| assert_eq!(ended(end), Ok(()), "all that watch a key, absent or not"));
}

/// Goal: between what the transaction saw and its commit nothing is missed.
pub fn watches_compare_with_what_the_transaction_saw(on: &Fixture) {
    on.fill(&["a"]);
    let tx = on.begin();
    let watch = tx.watch(b"a");
    on.write(|tx| tx.set("a", "overtakes"));
    assert!(commit(tx).is_ok(), "a watch is no conflict");
    assert_eq!(ended(&await_end(watch)), Ok(()), "changed before the commit");

    let tx = on.begin();
    tx.set("a", "own");
    let mut watch = tx.watch(b"a");
    commit(tx).expect("commits");
    assert!((&mut watch).now_or_never().is_none(), "its own write is what it saw");
    let end = await_end(watch);
    on.write(|tx| tx.set("a", "later"));
    assert_eq!(ended(&end), Ok(()));

    let tx = on.begin();
    let watch = tx.watch(b"a");
    tx.set("a", "own, but later");
    commit(tx).expect("commits");
    assert_eq!(ended(&await_end(watch)), Ok(()));
}

pub fn watches_without_a_commit_fail(on: &Fixture) {
    on.fill(&["a"]);
    let tx = on.begin();
    let watch = tx.watch(b"a");
    drop(tx);
    assert!(ended(&await_end(watch)).is_err());

    let tx = on.begin();
    get(&tx, "a");
    tx.set("b", "1");
    let watch = tx.watch(b"a");
    on.write(|tx| tx.set("a", "overtakes"));
    assert_eq!(commit(tx), Err(StoreError::Conflict));
    assert!(ended(&await_end(watch)).is_err());
    assert!(matches!(block_on(on.begin().watch(b"")), Err(StoreError::TooLarge(_))), "no key");
}

pub fn watches_are_bounded_and_dropped_ones_make_room(on: &Fixture) {
    let tx = on.begin();
    let mut watches: Vec<Watch> = (0..WATCHES_MAX).map(|n| tx.watch(format!("{}", n % 7).as_bytes())).collect();
    assert!(matches!(block_on(tx.watch(b"one more")), Err(StoreError::TooLarge(_))));
    commit(tx).expect("commits");
    for _ in 0..3 {
        watches.truncate(WATCHES_MAX / 2);
        let tx = on.begin();
        watches.extend((0..WATCHES_MAX / 2).map(|_| tx.watch(b"1")));
        commit(tx).expect("commits");
    }
    on.write(|tx| (0..7).for_each(|n| tx.set(format!("{n}"), "1")));
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(block_on(futures::future::join_all(watches))));
    let ends = receiver.recv_timeout(PATIENCE).expect("all end");
    assert!(ends.iter().all(Result::is_ok) && ends.len() == WATCHES_MAX);
    drop(set_up(on, "there is room again"));
}

pub fn watches_end_with_the_store(on: &Fixture) {
    let end = await_end(set_up(on, "a"));
    on.store.shutdown();
    if on.store.engine_name() != "fdb" {
        assert!(ended(&end).is_err()); // FoundationDB's end with the process
    }
}

/// Goal: whoever reads, watches and waits, again and again, sees the last change, whenever the changes
/// come. Without the comparison at set-up it would wait for ever where a change came in between.
pub fn a_follower_misses_nothing(on: &Fixture) {
    const CHANGES: u64 = 300;
    let follower = on.store.clone();
    let (sender, caught_up) = mpsc::channel();
    std::thread::spawn(move || {
        loop {
            let tx = follower.begin().expect("begins");
            let seen = number(get(&tx, "n"));
            let watch = tx.watch(b"n");
            commit(tx).expect("commits");
            if seen == Some(CHANGES) {
                return sender.send(());
            }
            block_on(watch).expect("ends");
        }
    });
    for _ in 0..CHANGES {
        on.write(|tx| tx.add(b"n", 1));
    }
    caught_up.recv_timeout(PATIENCE).expect("the follower sees the last change");
}
