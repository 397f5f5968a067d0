//! What only the commit decides: versionstamps in values, versions, atomics of many at a time; and the
//! edges of ranges.

use std::sync::{Arc, mpsc};

use backend::store::*;
use bytes::Bytes;
use futures::executor::block_on;

use crate::{Fixture, commit, get, keys, number, query};

pub fn versionstamped_values_are_in_commit_order(on: &Fixture) {
    let (first, second) = (on.begin(), on.begin());
    first.set_versionstamped_value("a", b"<", 3, b">");
    second.set_versionstamped_value("b", b"", 0, b"");
    let stamps = [commit(second).expect("commits").stamp(0), commit(first).expect("commits").stamp(3)];
    assert!(stamps[0] < stamps[1]);
    assert_eq!(on.get("b"), Some(Bytes::copy_from_slice(&stamps[0].0)));
    assert_eq!(on.get("a"), Some([b"<", &stamps[1].0[..], b">"].concat().into()));

    let committed = on.write(|tx| {
        tx.set("over", "written before");
        tx.set_versionstamped_value("over", b"", 1, b"");
        tx.set_versionstamped_value("under", b"", 1, b"");
        tx.set("under", "written later");
        tx.set_versionstamped_value("gone", b"", 1, b"");
        tx.clear_range(b"g", b"h");
        tx.append_versionstamped(b"log/", 1, b"", "the same stamp");
    });
    assert_eq!(on.get("over"), Some(Bytes::copy_from_slice(&committed.stamp(1).0)));
    assert_eq!(on.get("under"), Some("written later".into()));
    assert_eq!(on.get("gone"), None);
    let logged = block_on(on.begin().range(query("log/", "log0", 9, false))).expect("reads").pairs;
    assert_eq!(logged[0].0[4..], committed.stamp(1).0);

    let reader = on.begin();
    get(&reader, "a");
    reader.set("mine", "1");
    on.write(|tx| tx.set_versionstamped_value("a", b"", 0, b""));
    assert_eq!(commit(reader), Err(StoreError::Conflict), "it is a write like others");
}

pub fn read_versions_are_those_of_the_commits_seen(on: &Fixture) {
    let read_version = |tx: &Tx| block_on(tx.read_version()).expect("reads");
    let before = on.begin();
    read_version(&before);
    let committed = on.write(|tx| tx.set("a", "1"));
    let after = on.begin();
    assert!(read_version(&before) < committed.version && committed.version <= read_version(&after));
    assert_eq!(get(&before, "a"), None);
    assert_eq!(commit(after).expect("commits").version, read_version(&on.begin()));
}

/// Mechanics: writers on both lanes and on threads of their own, all on the same keys, none reading.
pub fn atomics_of_many_at_a_time_all_count(on: &Fixture) {
    const WRITERS: u64 = 4;
    const EACH: u64 = 50;
    let (sender, done) = mpsc::channel();
    let bump = |tx: &Tx, n: u64| {
        tx.add(b"sum", n);
        tx.max(b"greatest", n);
        tx.min(b"smallest", n);
    };
    for n in 1..=WRITERS * EACH {
        let sender = sender.clone();
        let body = async move |tx: &Tx| -> Result<(), StoreError> {
            bump(tx, n);
            Ok(())
        };
        let lane = if n.is_multiple_of(2) { Lane::Read } else { Lane::Write };
        on.store.run_then(lane, "bump", body, move |result| sender.send(result.map(drop)).expect("somebody waits"));
        if n.is_multiple_of(EACH) {
            // No more than the lanes take.
            assert!((0..EACH).all(|_| done.recv().expect("answered").is_ok()));
        }
    }
    let store = Arc::new(on.store.clone());
    let threads = (0..WRITERS).map(|writer| {
        let store = store.clone();
        std::thread::spawn(move || {
            for n in 1..=EACH {
                let tx = store.begin().expect("begins");
                bump(&tx, 1000 * (writer + 1) + n);
                commit(tx).expect("atomics never conflict");
            }
        })
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().expect("ends"));
    let all = (1..=WRITERS * EACH).chain((1..=WRITERS).flat_map(|writer| (1..=EACH).map(move |n| 1000 * writer + n)));
    assert_eq!(number(on.get("sum")), Some(all.sum()));
    assert_eq!(number(on.get("greatest")), Some(1000 * WRITERS + EACH));
    assert_eq!(number(on.get("smallest")), Some(1));
}

pub fn atomics_go_on_from_a_range_clear_and_a_stamp(on: &Fixture) {
    on.write(|tx| tx.add(b"n", 5));
    on.write(|tx| {
        tx.clear_range(b"a", b"z");
        tx.add(b"n", 2);
        tx.set_versionstamped_value("stamp", b"", 0, b"");
        tx.atomic(AtomicOp::Max, b"stamp", &[0xff; Versionstamp::LEN]);
    });
    assert_eq!(number(on.get("n")), Some(2));
    assert_eq!(on.get("stamp"), Some(vec![0xff; Versionstamp::LEN].into()));
}

pub fn ranges_end_where_they_should(on: &Fixture) {
    on.write(|tx| {
        for key in [&b"\0"[..], b"a", b"a\0", b"a\0\0", b"a\xff", b"b", b"\xfe\xff\xff"] {
            tx.set(Bytes::copy_from_slice(key), "1");
        }
    });
    let tx = on.begin();
    let count = |begin: &'static [u8], end: &'static [u8], limit, reverse| {
        let (begin, end) = (Bytes::from_static(begin), Bytes::from_static(end));
        let page = block_on(tx.range(RangeQuery { begin, end, limit, reverse, mode: ReadMode::Snapshot }));
        let page = page.expect("reads");
        (page.pairs.len(), page.more)
    };
    for reverse in [false, true] {
        assert_eq!(count(b"", b"\xff", 99, reverse), (7, false), "everything");
        assert_eq!(count(b"", b"\xff", 7, reverse).0, 7, "just as many as there are");
        assert_eq!(count(b"", b"\xff", 6, reverse), (6, true));
        assert_eq!(count(b"a", b"a\0", 9, reverse), (1, false), "one key is a range up to the next");
        assert_eq!(count(b"a\0", b"a\0\0\0", 9, reverse), (2, false));
        assert_eq!(count(b"a\0\0\0", b"a\xff", 9, reverse), (0, false), "between two keys");
        assert_eq!(count(b"b", b"b", 9, reverse), (0, false));
        assert_eq!(count(b"c", b"b", 9, reverse), (0, false));
        assert_eq!(count(b"b\0", b"\xff", 9, reverse), (1, false));
    }
}

/// Goal: pages of every size, in both directions, with own writes and clears in between, give the whole.
pub fn pages_of_every_size_give_the_whole(on: &Fixture) {
    on.fill(&["b", "d", "f", "h", "j", "l", "n", "p"]);
    let tx = on.begin();
    tx.set("e", "own");
    tx.add(b"k", 1);
    tx.clear(b"j");
    tx.clear_range(b"m", b"o");
    tx.set("nn", "own, in the cleared range");
    const WHOLE: &str = "b d e f h k l nn p";
    for limit in 1..=10 {
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        let (mut begin, mut end) = (Bytes::from_static(b"a"), Bytes::from_static(b"z"));
        loop {
            let page = page(&tx, &begin, &Bytes::from_static(b"z"), limit, false);
            forward.extend(page.pairs.into_iter().map(|(key, _)| key));
            let Some(last) = forward.last().filter(|_| page.more) else { break };
            begin = [&last[..], &[0]].concat().into();
        }
        loop {
            let page = page(&tx, &Bytes::from_static(b"a"), &end, limit, true);
            backward.extend(page.pairs.into_iter().map(|(key, _)| key));
            let Some(last) = backward.last().filter(|_| page.more) else { break };
            end = last.clone();
        }
        backward.reverse();
        assert_eq!(forward.join(&b' '), WHOLE.as_bytes(), "pages of {limit}");
        assert_eq!(backward.join(&b' '), WHOLE.as_bytes(), "pages of {limit}, backwards");
    }
    assert_eq!(keys(&tx, query("a", "z", 99, false)).0, WHOLE);
}

fn page(tx: &Tx, begin: &Bytes, end: &Bytes, limit: usize, reverse: bool) -> RangePage {
    let (begin, end) = (begin.clone(), end.clone());
    block_on(tx.range(RangeQuery { begin, end, limit, reverse, mode: ReadMode::Serializable })).expect("reads")
}
