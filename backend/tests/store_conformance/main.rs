//! One suite for every engine: what the seam promises, each promise a function over a fresh store.
//!
//! Mechanics: [`conformance!`] runs every function once per engine, on a live FoundationDB one after
//! the other in one cluster. Nothing here waits for time to pass; whatever must happen at a certain
//! point is made to happen there. [`writes`] has what only a commit decides and ranges' edges,
//! [`watches`] the watches.

#[cfg(feature = "fdb")]
#[path = "../fdb_cluster/mod.rs"]
mod fdb_cluster;
#[path = "../remote/mod.rs"]
mod remote;
mod watches;
mod writes;

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
    mpsc,
};

use backend::{
    env::{Clock, SeededRng, SystemClock, UnixMillis},
    store::*,
};
use bytes::Bytes;
use futures::{FutureExt as _, executor::block_on};

use self::{watches::*, writes::*};

/// A store under test, and what its engine needs to live.
struct Fixture {
    store: Store,
    clock: Arc<HandClock>,
    _folder: Option<tempfile::TempDir>,
}

/// Something a transaction does, and its name.
type Act<'a> = (&'a str, &'a dyn Fn(&Tx));

/// A clock that goes only when told to.
#[derive(Default)]
struct HandClock {
    now_us: AtomicU64,
}

impl Clock for HandClock {
    fn unix_ms(&self) -> UnixMillis {
        self.monotonic_us() / 1000
    }

    fn monotonic_us(&self) -> u64 {
        self.now_us.load(Ordering::Relaxed)
    }
}

fn fixture(engine: Arc<dyn Engine>, folder: Option<tempfile::TempDir>) -> Fixture {
    let clock = Arc::new(HandClock::default());
    let options = StoreOptions { retry_backoff_us_max: 0, queue_max: 64, ..StoreOptions::default() };
    let store = Store::new(engine, clock.clone(), Arc::new(SeededRng::new(1)), options);
    Fixture { store, clock, _folder: folder }
}

fn memory() -> Fixture {
    fixture(Arc::new(Memory::new(1, Faults::default())), None)
}

fn embedded() -> Fixture {
    let folder = tempfile::tempdir().expect("a folder");
    // Other programs may fill the machine's disk while tests run; that is another test's subject.
    let options = EmbeddedOptions { disk_reserve_bytes: 0, ..EmbeddedOptions::default() };
    let engine = Embedded::open(&folder.path().join("data"), options, Arc::new(SystemClock::default())).expect("opens");
    fixture(Arc::new(engine), Some(folder))
}

fn remote() -> Fixture {
    fixture(Arc::new(remote::Remote::new(Memory::new(1, Faults::default()))), None)
}

macro_rules! conformance {
    ($($name:ident,)*) => {
        mod on_memory {
            $(#[test] fn $name() { super::$name(&super::memory()); })*
        }
        mod on_embedded {
            $(#[test] fn $name() { super::$name(&super::embedded()); })*
        }
        mod on_remote {
            $(#[test] fn $name() { super::$name(&super::remote()); })*
        }
        #[cfg(feature = "fdb")]
        #[test]
        fn on_fdb() {
            let Some(cluster) = fdb_cluster::Cluster::start() else { return };
            let promises = [$((stringify!($name), $name as fn(&Fixture)),)*];
            for (number, (name, promise)) in promises.into_iter().enumerate() {
                fdb_cluster::say(&format!("on_fdb: {name}"));
                promise(&fixture(cluster.open(&format!("{number}/"), 5_000), None));
            }
        }
    };
}

conformance! {
    sets_gets_and_clears,
    own_writes_are_read,
    ranges_go_both_ways_and_continue,
    ranges_merge_own_writes,
    atomics_count_from_nothing_and_over_own_writes,
    versionstamps_are_in_commit_order,
    a_range_clear_spares_what_was_written_later,
    limits_are_checked,
    the_largest_transaction_is_committed,
    old_transactions_fail,
    reads_conflict_with_later_writes,
    ranges_conflict_with_phantoms,
    a_cut_range_conflicts_only_where_it_looked,
    what_does_not_conflict,
    explicit_conflicts,
    snapshots_hold_still,
    versionstamped_values_are_in_commit_order,
    read_versions_are_those_of_the_commits_seen,
    atomics_of_many_at_a_time_all_count,
    atomics_go_on_from_a_range_clear_and_a_stamp,
    ranges_end_where_they_should,
    pages_of_every_size_give_the_whole,
    watches_end_when_the_key_changes,
    watches_compare_with_what_the_transaction_saw,
    watches_without_a_commit_fail,
    watches_are_bounded_and_dropped_ones_make_room,
    a_follower_misses_nothing,
    watches_end_with_the_store,
    write_lane_completes_in_order,
    conflicts_are_retried_in_place,
    domain_errors_write_nothing,
    a_full_queue_is_busy,
    a_panicking_body_is_an_error,
    after_shutdown_nothing_is_served,
}

impl Fixture {
    fn begin(&self) -> Tx {
        self.store.begin().expect("begins")
    }

    fn write(&self, write: impl FnOnce(&Tx)) -> Committed {
        let tx = self.begin();
        write(&tx);
        commit(tx).expect("commits")
    }

    fn get(&self, key: &str) -> Option<Bytes> {
        get(&self.begin(), key)
    }

    fn fill(&self, keys: &[&'static str]) {
        self.write(|tx| keys.iter().for_each(|key| tx.set(*key, *key)));
    }
}

fn commit(tx: Tx) -> Result<Committed, StoreError> {
    block_on(tx.commit())
}

fn get(tx: &Tx, key: &str) -> Option<Bytes> {
    block_on(tx.get(key.as_bytes())).expect("reads")
}

fn query(begin: &'static str, end: &'static str, limit: usize, reverse: bool) -> RangeQuery {
    RangeQuery { begin: begin.into(), end: end.into(), limit, reverse, mode: ReadMode::Serializable }
}

fn keys(tx: &Tx, query: RangeQuery) -> (String, bool) {
    let page = block_on(tx.range(query)).expect("reads");
    let keys: Vec<_> = page.pairs.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect();
    (keys.join(" "), page.more)
}

fn number(value: Option<Bytes>) -> Option<u64> {
    value.map(|value| u64::from_le_bytes(value[..].try_into().expect("8 bytes")))
}

fn sets_gets_and_clears(on: &Fixture) {
    let first = on.write(|tx| {
        tx.set("a", "1");
        tx.set("b", "");
    });
    assert_eq!(on.get("a"), Some("1".into()));
    assert_eq!(on.get("b"), Some("".into()), "an empty value is a value");
    assert_eq!(on.get("c"), None);
    let second = on.write(|tx| tx.clear(b"a"));
    assert_eq!(on.get("a"), None);
    assert!(second.version > first.version);
    let read_only = on.begin();
    assert!(commit(read_only).expect("commits").version >= second.version);
}

fn own_writes_are_read(on: &Fixture) {
    on.fill(&["a", "b", "c"]);
    let tx = on.begin();
    tx.set("a", "new");
    tx.clear(b"b");
    tx.clear_range(b"c", b"d");
    tx.set("cc", "in the cleared range");
    assert_eq!(get(&tx, "a"), Some("new".into()));
    assert_eq!(get(&tx, "b"), None);
    assert_eq!(get(&tx, "c"), None);
    assert_eq!(get(&tx, "cc"), Some("in the cleared range".into()));
    assert_eq!(on.get("a"), Some("a".into()), "nobody else sees it");
    drop(tx);
    assert_eq!(on.get("b"), Some("b".into()), "a dropped transaction leaves nothing");
}

fn ranges_go_both_ways_and_continue(on: &Fixture) {
    on.fill(&["a", "b", "c", "d", "e"]);
    let tx = on.begin();
    assert_eq!(keys(&tx, query("b", "e", 10, false)), ("b c d".into(), false));
    assert_eq!(keys(&tx, query("b", "e", 10, true)), ("d c b".into(), false));
    assert_eq!(keys(&tx, query("a", "z", 2, false)), ("a b".into(), true));
    assert_eq!(keys(&tx, query("b\0", "z", 2, false)), ("c d".into(), true));
    assert_eq!(keys(&tx, query("d\0", "z", 2, false)), ("e".into(), false));
    assert_eq!(keys(&tx, query("a", "z", 2, true)), ("e d".into(), true));
    assert_eq!(keys(&tx, query("a", "d", 2, true)), ("c b".into(), true));
    assert_eq!(keys(&tx, query("c", "c", 2, true)), (String::new(), false));
    assert_eq!(keys(&tx, query("d", "c", 2, false)), (String::new(), false));
}

fn ranges_merge_own_writes(on: &Fixture) {
    on.fill(&["a", "b", "c", "d", "e", "f", "g"]);
    let tx = on.begin();
    tx.clear_range(b"b", b"e");
    tx.set("c", "again");
    tx.set("aa", "new");
    tx.clear(b"f");
    tx.add(b"h", 1);
    assert_eq!(keys(&tx, query("a", "z", 10, false)), ("a aa c e g h".into(), false));
    assert_eq!(keys(&tx, query("a", "z", 10, true)), ("h g e c aa a".into(), false));
    assert_eq!(keys(&tx, query("a", "z", 3, false)), ("a aa c".into(), true));
    assert_eq!(keys(&tx, query("c\0", "z", 2, false)), ("e g".into(), true));
    assert_eq!(keys(&tx, query("b", "e", 9, true)), ("c".into(), false));
    commit(tx).expect("commits");
    assert_eq!(keys(&on.begin(), query("a", "z", 10, false)), ("a aa c e g h".into(), false));
}

fn atomics_count_from_nothing_and_over_own_writes(on: &Fixture) {
    on.write(|tx| tx.add(b"n", 5));
    let tx = on.begin();
    tx.add(b"n", 2);
    tx.max(b"max", 7);
    tx.max(b"max", 3);
    tx.min(b"min", 7);
    tx.min(b"min", 3);
    tx.set("own", Bytes::copy_from_slice(&10u64.to_le_bytes()));
    tx.add(b"own", 1);
    tx.clear(b"cleared");
    tx.add(b"cleared", 1);
    assert_eq!(number(get(&tx, "n")), Some(7));
    commit(tx).expect("commits");
    let values = ["n", "max", "min", "own", "cleared"].map(|key| number(on.get(key)));
    assert_eq!(values, [Some(7), Some(7), Some(3), Some(11), Some(1)]);

    on.write(|tx| tx.add(b"n", u64::MAX));
    assert_eq!(number(on.get("n")), Some(6), "wraps");

    let blind = [on.begin(), on.begin(), on.begin()];
    blind.iter().for_each(|tx| tx.add(b"n", 10));
    assert!(blind.into_iter().all(|tx| commit(tx).is_ok()), "atomics do not conflict");
    assert_eq!(number(on.get("n")), Some(36));
}

fn versionstamps_are_in_commit_order(on: &Fixture) {
    let (first, second) = (on.begin(), on.begin());
    second.append_versionstamped(b"log/", 0, b"", "second began, first committed");
    first.append_versionstamped(b"log/", 0, b"/x", "a");
    first.append_versionstamped(b"log/", 1, b"/y", "b");
    let unseen = RangeQuery { mode: ReadMode::Snapshot, ..query("log/", "log0", 9, false) };
    assert_eq!(keys(&first, unseen).0, "", "not visible to itself");
    let stamps = [commit(second).expect("commits").stamp(0), commit(first).expect("commits").stamp(0)];
    assert!(stamps[0] < stamps[1]);
    let page = block_on(on.begin().range(query("log/", "log0", 9, false))).expect("reads");
    let values: Vec<_> = page.pairs.iter().map(|(_, value)| value.clone()).collect();
    assert_eq!(values, ["second began, first committed", "a", "b"]);
    let key = [b"log/", &stamps[1].0[..], b"/x"].concat();
    assert_eq!(page.pairs[1].0, key, "the committed version tells the key");
}

fn a_range_clear_spares_what_was_written_later(on: &Fixture) {
    on.write(|tx| {
        tx.append_versionstamped(b"log/", 0, b"", "cleared");
        tx.clear_range(b"log/", b"log0");
        tx.append_versionstamped(b"log/", 1, b"", "kept");
        tx.set("log/\0", "kept too");
    });
    let page = block_on(on.begin().range(query("log/", "log0", 9, false))).expect("reads");
    let values: Vec<_> = page.pairs.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, ["kept too", "kept"]);
}

fn limits_are_checked(on: &Fixture) {
    let too_large = |write: &dyn Fn(&Tx)| {
        let tx = on.begin();
        write(&tx);
        assert!(matches!(block_on(tx.get(b"a")), Err(StoreError::TooLarge(_))), "reads say it");
        assert!(matches!(commit(tx), Err(StoreError::TooLarge(_))), "the commit says it");
    };
    too_large(&|tx| tx.set(vec![b'k'; KEY_BYTES_MAX + 1], "v"));
    too_large(&|tx| tx.set("k", vec![0; VALUE_BYTES_MAX + 1]));
    too_large(&|tx| tx.set("", "v"));
    too_large(&|tx| tx.set(vec![0xff], "v"));
    too_large(&|tx| tx.clear_range(b"a", &[0xff, 0]));
    too_large(&|tx| tx.append_versionstamped(&[b'k'; KEY_BYTES_MAX - 11], 0, b"", "v"));
    too_large(&|tx| tx.set_versionstamped_value("k", &[b'v'; VALUE_BYTES_MAX - 11], 0, b""));
    too_large(&|tx| tx.set_versionstamped_value(vec![b'k'; KEY_BYTES_MAX + 1], b"", 0, b""));
    too_large(&|tx| tx.atomic(AtomicOp::Add, b"k", &[0; VALUE_BYTES_MAX + 1]));
    too_large(&|tx| tx.clear(&[b'k'; KEY_BYTES_MAX + 1]));
    too_large(&|tx| drop(tx.get(&[b'k'; KEY_BYTES_MAX + 1])));
    too_large(&|tx| drop(tx.watch(&[b'k'; KEY_BYTES_MAX + 1])));
    too_large(&|tx| tx.add_read_conflict(b"a", &[0xff, 0]));
    too_large(&|tx| drop(tx.range(query("a", "b", 0, false))));
    too_large(&|tx| (0..=99u8).for_each(|n| tx.set(vec![b'k', n], vec![0; VALUE_BYTES_MAX])));
    on.write(|tx| {
        tx.set(vec![b'k'; KEY_BYTES_MAX], vec![1; VALUE_BYTES_MAX]);
        tx.clear_range(b"", &[0xff]);
        tx.set(vec![b'k'; KEY_BYTES_MAX], vec![2; VALUE_BYTES_MAX]);
    });
    let value = block_on(on.begin().get(&[b'k'; KEY_BYTES_MAX])).expect("reads");
    assert_eq!(value, Some(vec![2; VALUE_BYTES_MAX].into()));
}

/// Goal: what the seam takes every engine takes, whatever it counts itself. Mechanics: of every kind of
/// write and read so many as just pass, with keys so short that what an engine adds to each is most of it.
fn the_largest_transaction_is_committed(on: &Fixture) {
    let one_of_each = |tx: &Tx, n: u32| {
        let key = |kind: u8| [&[b'k', kind][..], &n.to_be_bytes()].concat();
        tx.set(key(0), "");
        tx.clear(&key(1));
        tx.add(&key(2), 1);
        tx.append_versionstamped(&key(3), 0, b"", "");
        tx.set_versionstamped_value(key(4), b"", 0, b"");
        tx.clear_range(&key(5), &key(6));
        tx.add_write_conflict(&key(6), &key(7));
        tx.add_read_conflict(&key(7), &key(8));
    };
    let is_taken = |tx: &Tx| tx.snapshot_get(b"a").now_or_never().is_none_or(|read| read.is_ok());
    let measured = on.begin();
    let count = (0..).take_while(|n| (one_of_each(&measured, *n), is_taken(&measured)).1).count() as u32;
    drop(measured);
    assert!(count > 2_000, "{count}");
    let largest = on.begin();
    (0..count).for_each(|n| one_of_each(&largest, n));
    commit(largest).expect("commits");
    assert!(on.get("a").is_none());
}

fn old_transactions_fail(on: &Fixture) {
    let tx = on.begin();
    tx.set("a", "1");
    on.clock.now_us.fetch_add(TRANSACTION_AGE_MS_MAX * 1000 + 1, Ordering::Relaxed);
    assert_eq!(block_on(tx.get(b"a")), Err(StoreError::TooOld));
    assert_eq!(commit(tx), Err(StoreError::TooOld));
    assert_eq!(on.get("a"), None);
}

fn reads_conflict_with_later_writes(on: &Fixture) {
    on.fill(&["a", "b"]);
    let overtake: [Act; 5] = [
        ("set", &|tx| tx.set("a", "2")),
        ("clear", &|tx| tx.clear(b"a")),
        ("clear range", &|tx| tx.clear_range(b"", b"aa")),
        ("atomic", &|tx| tx.add(b"a", 1)),
        ("explicit", &|tx| tx.add_write_conflict(b"a", b"b")),
    ];
    for (what, write) in overtake {
        let tx = on.begin();
        get(&tx, "a");
        tx.set("mine", what);
        on.write(write);
        assert_eq!(commit(tx), Err(StoreError::Conflict), "{what}");
    }
    assert_eq!(on.get("mine"), None, "nothing is written on a conflict");
}

fn ranges_conflict_with_phantoms(on: &Fixture) {
    on.fill(&["b", "d"]);
    for (limit, reverse) in [(9, false), (9, true)] {
        let tx = on.begin();
        keys(&tx, query("a", "f", limit, reverse));
        tx.set("mine", "1");
        on.write(|tx| tx.set("e", "phantom"));
        assert_eq!(commit(tx), Err(StoreError::Conflict));
    }
    let stamped = on.begin();
    keys(&stamped, query("log/", "log0", 9, false));
    stamped.set("mine", "1");
    on.write(|tx| tx.append_versionstamped(b"log/", 0, b"", "phantom"));
    assert_eq!(commit(stamped), Err(StoreError::Conflict));
}

fn a_cut_range_conflicts_only_where_it_looked(on: &Fixture) {
    on.fill(&["b", "d", "f", "h"]);
    let conflicts = |reverse: bool, key: &'static str| {
        let tx = on.begin();
        keys(&tx, query("a", "z", 2, reverse));
        tx.set("mine", "1");
        on.write(|tx| tx.set(key, "overtakes"));
        commit(tx) == Err(StoreError::Conflict)
    };
    assert!(conflicts(false, "d"));
    assert!(!conflicts(false, "da"));
    assert!(conflicts(false, "a"));
    on.write(|tx| tx.clear_range(b"", &[0xff]));
    on.fill(&["b", "d", "f", "h"]);
    assert!(conflicts(true, "f"));
    assert!(!conflicts(true, "ez"));
    assert!(conflicts(true, "i"));
}

fn what_does_not_conflict(on: &Fixture) {
    on.fill(&["a", "b", "c"]);
    let harmless: [Act; 6] = [
        ("blind write", &|tx| tx.set("a", "2")),
        ("blind atomic", &|tx| tx.add(b"a", 1)),
        ("snapshot read", &|tx| assert!(block_on(tx.snapshot_get(b"a")).is_ok())),
        ("snapshot range", &|tx| {
            let query = RangeQuery { mode: ReadMode::Snapshot, ..query("", "z", 9, false) };
            assert!(block_on(tx.range(query)).is_ok());
        }),
        ("own write", &|tx| {
            tx.set("a", "2");
            get(tx, "a");
            keys(tx, query("a", "b", 9, false));
        }),
        ("another key", &|tx| assert!(get(tx, "b").is_some())),
    ];
    for (what, act) in harmless {
        let tx = on.begin();
        act(&tx);
        tx.set("mine", what);
        on.write(|tx| tx.set("a", "overtakes"));
        assert!(commit(tx).is_ok(), "{what}");
    }
    let read_only = on.begin();
    get(&read_only, "a");
    on.write(|tx| tx.set("a", "overtakes"));
    assert!(commit(read_only).is_ok(), "what wrote nothing is right as of when it read");
}

fn explicit_conflicts(on: &Fixture) {
    let tx = on.begin();
    tx.add_read_conflict(b"a", b"c");
    tx.set("mine", "1");
    on.write(|tx| tx.set("b", "overtakes"));
    assert_eq!(commit(tx), Err(StoreError::Conflict));

    let tx = on.begin();
    get(&tx, "a");
    tx.add_write_conflict(b"x", b"y");
    on.write(|tx| tx.set("a", "overtakes"));
    assert_eq!(commit(tx), Err(StoreError::Conflict), "a declared write makes it a writer");

    let tx = on.begin();
    keys(&tx, query("a", "z", 9, false));
    tx.add_read_conflict(b"x", b"b");
    tx.set("mine", "1");
    on.write(|tx| {
        tx.add_write_conflict(b"m", b"m");
        tx.add_write_conflict(b"x", b"b");
    });
    assert!(commit(tx).is_ok(), "there is nothing in an empty range");
}

fn snapshots_hold_still(on: &Fixture) {
    on.fill(&["a"]);
    let tx = on.begin();
    on.write(|tx| {
        tx.set("a", "2");
        tx.set("b", "2");
    });
    on.write(|tx| tx.clear(b"a"));
    assert_eq!(get(&tx, "a"), Some("a".into()));
    assert_eq!(keys(&tx, query("", "z", 9, false)).0, "a");
}

fn write_lane_completes_in_order(on: &Fixture) {
    let (sender, receiver) = mpsc::channel();
    for n in 0..50u32 {
        let sender = sender.clone();
        let body = async move |tx: &Tx| -> Result<u64, StoreError> {
            tx.add(b"n", 1);
            Ok(number(tx.get(b"n").await?).unwrap_or(0))
        };
        on.store.run_then(Lane::Write, "count", body, move |result| {
            let (value, committed) = result.expect("commits");
            sender.send((n, value, committed.version)).expect("somebody listens");
        });
    }
    drop(sender);
    let done: Vec<_> = receiver.iter().collect();
    assert!(done.is_sorted_by_key(|(_, _, version)| *version), "{done:?}");
    let numbered: Vec<_> = done.iter().map(|(n, value, _)| (u64::from(*n) + 1, *value)).collect();
    assert!(numbered.iter().all(|(n, value)| n == value), "{numbered:?}");
}

fn conflicts_are_retried_in_place(on: &Fixture) {
    let other = on.store.clone();
    let runs = AtomicU32::new(0);
    let body = async move |tx: &Tx| -> Result<u32, StoreError> {
        tx.get(b"a").await?;
        tx.set("mine", "1");
        let run = runs.fetch_add(1, Ordering::Relaxed);
        if run < 3 {
            let overtaking = other.begin()?;
            overtaking.set("a", "overtakes");
            overtaking.commit().await?;
        }
        Ok(run)
    };
    let (run, _) = block_on(on.store.run(Lane::Write, "overtaken", body)).expect("commits in the end");
    assert_eq!(run, 3);
}

#[derive(Debug, PartialEq)]
enum DomainError {
    Store(StoreError),
    Refused,
}

impl From<StoreError> for DomainError {
    fn from(error: StoreError) -> Self {
        DomainError::Store(error)
    }
}

impl Retry for DomainError {
    fn store_error(&self) -> Option<&StoreError> {
        match self {
            DomainError::Store(error) => Some(error),
            DomainError::Refused => None,
        }
    }
}

fn domain_errors_write_nothing(on: &Fixture) {
    let body = async |tx: &Tx| -> Result<(), DomainError> {
        tx.set("a", "1");
        tx.get(b"b").await?;
        Err(DomainError::Refused)
    };
    assert_eq!(block_on(on.store.run(Lane::Write, "refuses", body)), Err(DomainError::Refused));
    assert_eq!(on.get("a"), None);
}

fn a_full_queue_is_busy(on: &Fixture) {
    let (release, held) = mpsc::channel::<()>();
    let (started, starting) = mpsc::channel();
    let held = std::sync::Mutex::new(held);
    let hold = async move |_: &Tx| -> Result<(), StoreError> {
        started.send(()).expect("somebody listens");
        let _ = held.lock().expect("sound").recv();
        Ok(())
    };
    let first = on.store.run(Lane::Write, "holds the worker", hold);
    starting.recv().expect("the worker has it");
    let waiting: Vec<_> =
        (0..64).map(|_| on.store.run(Lane::Write, "waits", async |_: &Tx| Ok::<_, StoreError>(()))).collect();
    let refused = on.store.run(Lane::Write, "too many", async |_: &Tx| Ok::<_, StoreError>(()));
    assert_eq!(block_on(refused), Err(StoreError::Busy));
    drop(release);
    block_on(first).expect("commits");
    assert!(waiting.into_iter().all(|one| block_on(one).is_ok()), "what was accepted is run");
}

fn a_panicking_body_is_an_error(on: &Fixture) {
    let panics = async |tx: &Tx| -> Result<(), StoreError> {
        tx.set("a", "1");
        panic!("on purpose")
    };
    let result = block_on(on.store.run(Lane::Write, "panics", panics));
    assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
    assert_eq!(on.get("a"), None);
    let goes_on = on.store.run(Lane::Write, "goes on", async |_: &Tx| Ok::<_, StoreError>(()));
    block_on(goes_on).expect("the worker lives");
}

fn after_shutdown_nothing_is_served(on: &Fixture) {
    let last = on.store.run(Lane::Write, "last", async |tx: &Tx| {
        tx.set("a", "1");
        Ok::<_, StoreError>(())
    });
    let open = on.begin();
    open.set("b", "1");
    on.store.shutdown();
    block_on(last).expect("what was accepted is run");
    assert!(matches!(commit(open), Err(StoreError::Unavailable(_))));
    assert!(matches!(on.store.begin().map(drop), Err(StoreError::Unavailable(_))));
    let late = on.store.run(Lane::Read, "late", async |_: &Tx| Ok::<_, StoreError>(()));
    assert!(matches!(block_on(late), Err(StoreError::Unavailable(_))));
}
