//! Nodes on one store in memory: what each sees of the others, and what it makes of that.

use backend::{
    domain::send_queue::{SendLimits, SendQueue},
    env::SeededRng,
    store::{Faults, Memory, StoreOptions},
};

use super::*;
use crate::{cluster::tests::Hand, figures::Figures, router::Router};

/// A core without links, on a store that it shares.
fn unlinked(id: NodeId, memory: &Memory, clock: &Arc<Hand>) -> Membership {
    let clock: Arc<dyn Clock> = clock.clone();
    let rng = Arc::new(SeededRng::new(id));
    let store = Store::new(Arc::new(memory.clone()), clock.clone(), rng, StoreOptions::default());
    let router = Router::new(1, 1_000, Figures::default());
    let sends = SendQueue::new(store.clone(), clock.clone(), SendLimits::default(), router.clone());
    let cluster = Cluster::new(router, clock.clone(), Box::new(sends), 1_000);
    Membership::new(id, store, clock, node(id, 0).1, cluster, None)
}

/// What a node does each time that it renews its lease.
fn renew(node: &Membership, seen: &mut Seen) {
    node.look(seen).unwrap();
    assert!(node.renew(0).unwrap());
}

#[test]
fn geo_01_cores_without_links_know_that_they_miss_what_others_do_before_a_second_one_serves() {
    let (memory, clock) = (Memory::new(1, Faults::default()), Arc::new(Hand::default()));
    let [one, two] = [1, 2].map(|id| unlinked(id, &memory, &clock));
    one.enlist().unwrap();
    one.wait_for_others(|| false).unwrap();
    assert!(one.cluster.is_sure(), "alone it misses nothing, and waits for nobody");
    two.enlist().unwrap();
    std::thread::scope(|threads| {
        let joining = threads.spawn(|| _ = two.wait_for_others(|| false).unwrap());
        let mut seen = Seen::default();
        while !joining.is_finished() {
            renew(&one, &mut seen);
        }
    });
    assert!(!one.cluster.is_sure() && !two.cluster.is_sure(), "neither hears the other");
}

#[test]
fn geo_01_a_core_that_waits_says_all_the_time_that_it_lives() {
    let (memory, clock) = (Memory::new(1, Faults::default()), Arc::new(Hand::default()));
    let [one, two] = [1, 2].map(|id| unlinked(id, &memory, &clock));
    one.enlist().unwrap();
    two.enlist().unwrap();
    std::thread::scope(|threads| {
        let joining = threads.spawn(|| _ = two.wait_for_others(|| false).unwrap());
        // It waits for one, which does not renew its lease.
        let all = || block_on(nodes::list(&one.store)).unwrap();
        let renewals = || all().iter().find(|(id, _)| *id == two.id).unwrap().1.renewals;
        for _ in 0..4 {
            let before = renewals();
            clock.0.fetch_add(one.interval_us(), Ordering::Relaxed);
            while renewals() == before {
                assert!(!joining.is_finished());
            }
        }
        let mut seen = Seen::default();
        while !joining.is_finished() {
            renew(&one, &mut seen);
        }
    });
}

fn node(id: NodeId, renewals: u64) -> (NodeId, NodeRecord) {
    (id, NodeRecord { renewals, lease_ms: 5_000, ..NodeRecord::default() })
}

const GAP_US: u64 = 3_000_000;

#[test]
fn geo_01_a_lease_is_over_when_it_was_not_renewed_while_looked_at() {
    let mut seen = Seen::default();
    let mut expired = |at_s: u64, all: &[(NodeId, NodeRecord)]| -> Vec<NodeId> {
        seen.expired(all, at_s * 1_000_000, GAP_US).into_iter().map(|(id, _)| id).collect()
    };
    for at_s in 100..105 {
        assert_eq!(expired(at_s, &[node(1, 7), node(2, at_s)]), [0; 0]);
    }
    assert_eq!(expired(105, &[node(1, 7), node(2, 105)]), [1]);
    assert_eq!(expired(106, &[node(1, 8), node(2, 106)]), [0; 0], "it lives after all");
    // This node stood still, or could not look: nobody is dead for that.
    assert_eq!(expired(120, &[node(1, 8), node(2, 106)]), [0; 0]);
    assert_eq!(expired(123, &[node(1, 8)]), [0; 0]);
    assert_eq!(expired(125, &[node(1, 8)]), [1]);
}

#[test]
fn session_numbers_of_nodes_are_apart_and_small_enough_for_all_clients() {
    assert_eq!(session_base(0), 0);
    assert_eq!(session_base(1), 1 << 32);
    assert!(session_base(u64::MAX) + u64::from(u32::MAX) < 1 << 53);
}

fn other(renewals: u64, is_linked: bool) -> Other {
    Other { id: 9, renewals, is_linked, is_linkable: true }
}

#[test]
fn geo_01_a_core_serves_when_it_is_linked_or_when_it_was_seen_that_it_will() {
    assert_eq!(Joining::default().next(&[]), Next::Serve);
    let mut joining = Joining::default();
    assert_eq!(joining.next(&[other(7, false)]), Next::Wait);
    assert_eq!(joining.next(&[other(7, true)]), Next::Serve);
    let mut joining = Joining::default();
    for renewals in 7..12 {
        assert_eq!(joining.next(&[other(renewals, false)]), Next::Wait);
    }
    assert_eq!(joining.next(&[other(12, false)]), Next::Say);
    // The first may have looked before that was said.
    assert_eq!([12, 12, 13].map(|renewals| joining.next(&[other(renewals, false)])), [(); 3].map(|()| Next::Wait));
    assert_eq!(joining.next(&[other(14, false)]), Next::Serve);
}

#[test]
fn geo_01_a_core_that_is_not_renewed_is_waited_for_until_it_is_dead() {
    let mut joining = Joining::default();
    for _ in 0..1_000 {
        assert_eq!(joining.next(&[other(7, false)]), Next::Wait);
    }
    assert_eq!(joining.next(&[]), Next::Serve);
    let unlinkable = Other { is_linkable: false, ..other(7, false) };
    let mut joining = Joining::default();
    assert_eq!(joining.next(&[unlinkable]), Next::Say, "no link is hoped for");
    assert_eq!(joining.next(&[unlinkable]), Next::Wait);
}

#[test]
fn geo_01_a_core_that_alone_does_not_reach_the_store_ends_once_others_have_taken_it_for_dead() {
    let (memory, clock) = (Memory::new(1, Faults::default()), Arc::new(Hand::default()));
    let node = unlinked(1, &memory, &clock);
    let at = |us: u64| clock.0.store(us, Ordering::Relaxed);
    let lease_us = node.record.lease_ms * 1000;
    at(lease_us);
    node.not_alive_us.store(lease_us - 1, Ordering::Relaxed);
    at(10 * lease_us);
    assert!(!node.is_cut_off(lease_us), "that was said before the lease was renewed");
    node.not_alive_us.store(lease_us + 1, Ordering::Relaxed);
    at(2 * lease_us - 1);
    assert!(!node.is_cut_off(lease_us), "it may yet be renewed");
    at(2 * lease_us);
    assert!(node.is_cut_off(lease_us));
}

#[test]
fn geo_01_a_core_that_waits_for_others_stops_when_it_is_told_to() {
    let (memory, clock) = (Memory::new(1, Faults::default()), Arc::new(Hand::default()));
    let [one, two] = [1, 2].map(|id| unlinked(id, &memory, &clock));
    one.enlist().unwrap();
    two.enlist().unwrap();
    assert!(two.wait_for_others(|| true).unwrap().is_none());
    two.leave();
    assert_eq!(block_on(nodes::list(&one.store)).unwrap().len(), 1, "and leaves no row");
}
