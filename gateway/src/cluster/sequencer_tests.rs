use super::*;

const A: NodeId = 1;
const B: NodeId = 2;
const LATE_US: u64 = 500_000;
const PATIENCE: Patience = Patience { late_us_max: LATE_US, held_bytes_max: 40 };

/// What a step has released: in order as it is, doubtful with a question mark.
fn said(step: Step<&'static str>) -> Vec<String> {
    let mut said: Vec<String> = step
        .released
        .into_iter()
        .map(|released| match released {
            Released::InOrder(batch) => batch.to_owned(),
            Released::Doubtful(batch) => format!("{batch}?"),
        })
        .collect();
    if step.all_behind {
        said.push("all behind".to_owned());
    }
    said
}

fn serving(ids: &[NodeId]) -> Vec<Live> {
    ids.iter().map(|id| Live { id: *id, serves: true }).collect()
}

fn nothing() -> Vec<String> {
    Vec::new()
}

/// A node with two others, all of which are heard.
fn three() -> Sequencer<&'static str> {
    let mut sequencer = Sequencer::new(PATIENCE, |batch: &&str| batch.len());
    for peer in [A, B] {
        sequencer.peer_up(peer);
        assert!(!sequencer.has_answered(peer));
        sequencer.peer_reached(peer, 0);
        assert!(sequencer.has_answered(peer));
    }
    assert_eq!(said(sequencer.set_live(&serving(&[A, B]), 0)), nothing());
    sequencer
}

#[test]
fn geo_01_alone_a_node_waits_for_nobody() {
    let mut sequencer = Sequencer::new(PATIENCE, |batch: &&str| batch.len());
    assert_eq!(said(sequencer.own_batch((5, 0), "five", 0)), ["five"]);
}

#[test]
fn geo_01_batches_are_told_in_the_order_of_versions_once_all_have_come_that_far() {
    let mut sequencer = three();
    assert_eq!(said(sequencer.peer_batch(A, (7, 0), "a7", 0)), nothing());
    assert_eq!(said(sequencer.own_batch((6, 0), "own6", 0)), nothing());
    assert_eq!(said(sequencer.own_reached(7)), nothing());
    // What was under way at B when it learned of 7.
    assert_eq!(said(sequencer.peer_batch(B, (5, 0), "b5", 0)), ["b5"]);
    assert_eq!(said(sequencer.peer_reached(B, 7)), ["own6", "a7"]);
    // One version may hold commits of several.
    assert_eq!(said(sequencer.peer_batch(B, (9, 2), "b9.2", 0)), nothing());
    assert_eq!(said(sequencer.peer_batch(A, (9, 1), "a9.1", 0)), nothing());
    assert_eq!(said(sequencer.own_reached(9)), ["a9.1", "b9.2"]);
}

#[test]
fn geo_01_without_a_link_everything_is_doubtful_until_all_are_heard_again() {
    let mut sequencer = three();
    assert_eq!(said(sequencer.own_batch((6, 0), "own6", 0)), nothing());
    assert_eq!(said(sequencer.peer_down(A)), ["own6?"]);
    assert!(!sequencer.is_sure());
    assert_eq!(said(sequencer.peer_batch(B, (7, 0), "b7", 0)), ["b7?"]);
    assert_eq!(said(sequencer.peer_reached(B, 9)), nothing());
    assert_eq!(said(sequencer.tick(1)), nothing());
    assert_eq!(sequencer.peer_up(A).ask, Some(7));
    assert_eq!(sequencer.tick(2).ask, Some(7), "all are asked how far they have come");
    assert_eq!(said(sequencer.own_reached(7)), nothing());
    assert_eq!(said(sequencer.own_batch((8, 0), "own8", 3)), ["own8?"], "A has not said what it had committed");
    assert_eq!(said(sequencer.peer_reached(A, 7)), ["all behind"]);
    assert!(sequencer.is_sure());
    assert_eq!(said(sequencer.own_batch((10, 0), "own10", 4)), nothing());
    assert_eq!(said(sequencer.peer_reached(A, 10)), nothing());
    assert_eq!(said(sequencer.peer_reached(B, 10)), ["own10"]);
}

#[test]
fn geo_01_who_is_late_is_waited_for_so_long_and_no_longer() {
    let mut sequencer = three();
    assert_eq!(said(sequencer.own_batch((6, 0), "own6", 1_000)), nothing());
    assert_eq!(said(sequencer.peer_reached(A, 6)), nothing());
    assert_eq!(said(sequencer.tick(1_000 + LATE_US - 1)), nothing());
    assert_eq!(said(sequencer.tick(1_000 + LATE_US)), ["own6?"]);
    // It comes after all, with something from before.
    assert_eq!(said(sequencer.peer_batch(B, (5, 0), "b5", 0)), ["b5?"]);
    assert_eq!(sequencer.tick(2_000 + LATE_US).ask, Some(6));
    assert_eq!(said(sequencer.peer_reached(B, 6)), ["all behind"]);
    assert_eq!(said(sequencer.late((4, 0), "b4")), ["b4?"], "told behind its time");
}

#[test]
fn geo_01_a_core_that_dies_is_waited_for_no_longer_and_all_read_once() {
    let mut sequencer = three();
    assert_eq!(said(sequencer.peer_down(B)), nothing());
    assert_eq!(said(sequencer.own_batch((6, 0), "own6", 0)), ["own6?"]);
    assert_eq!(said(sequencer.peer_reached(A, 6)), nothing());
    assert_eq!(said(sequencer.set_live(&serving(&[A]), 10)), nothing());
    assert_eq!(said(sequencer.tick(11)), ["all behind"]);
    assert!(sequencer.is_sure());
    assert_eq!(said(sequencer.own_batch((8, 0), "own8", 12)), nothing());
    assert_eq!(said(sequencer.peer_reached(A, 8)), ["own8"]);
}

#[test]
fn geo_01_a_core_that_stops_says_so_and_nobody_reads_anything_for_it() {
    let mut sequencer = three();
    assert_eq!(said(sequencer.own_batch((6, 0), "own6", 0)), nothing());
    assert_eq!(said(sequencer.peer_reached(A, 6)), nothing());
    assert_eq!(said(sequencer.peer_reached(B, WATERMARK_END)), ["own6"]);
    assert_eq!(said(sequencer.peer_down(B)), nothing());
    assert_eq!(said(sequencer.set_live(&serving(&[A, B]), 1)), nothing(), "its row is still there");
    assert_eq!(said(sequencer.tick(9_000_000)), nothing());
    assert_eq!(said(sequencer.set_live(&serving(&[A]), 9_000_001)), nothing());
    assert!(sequencer.is_sure());
}

#[test]
fn geo_01_a_core_that_joins_is_linked_or_makes_all_doubtful_before_it_serves() {
    let with = |serves| [&serving(&[A, B])[..], &[Live { id: 3, serves }]].concat();
    let mut sequencer = three();
    assert_eq!(said(sequencer.set_live(&with(false), 0)), nothing());
    assert_eq!(said(sequencer.tick(9_000_000)), nothing());
    assert!(sequencer.is_sure(), "however long it takes");
    assert_eq!(said(sequencer.own_batch((6, 0), "own6", 9_000_000)), nothing());
    // Here it is seen that it is going to serve: what it commits before 6 would be passed by.
    assert_eq!(said(sequencer.set_live(&with(true), 9_000_001)), ["own6?"]);
    assert!(!sequencer.is_sure());
    let mut sequencer = three();
    assert_eq!(said(sequencer.own_batch((6, 0), "own6", 0)), nothing());
    sequencer.set_live(&with(false), 0);
    assert_eq!(sequencer.peer_up(3).ask, Some(6), "it was not told of what is held");
    sequencer.peer_reached(A, 6);
    assert_eq!(said(sequencer.peer_reached(B, 6)), nothing());
    assert_eq!(said(sequencer.peer_reached(3, 6)), ["own6"]);
    assert!(sequencer.is_sure());
}

#[test]
fn geo_01_what_stands_at_one_place_is_told_all_of_it() {
    let mut sequencer = three();
    assert_eq!(said(sequencer.peer_batch(A, (7, 0), "a7", 0)), nothing());
    // It wrote nothing, and read that version.
    assert_eq!(said(sequencer.own_batch((7, 0), "own nothing", 0)), nothing());
    assert_eq!(sequencer.held(), 2);
    assert_eq!(said(sequencer.peer_reached(B, 7)), ["a7", "own nothing"]);
    assert_eq!(said(sequencer.own_batch((8, 0), "own8", 0)), nothing());
    assert_eq!(said(sequencer.own_batch((8, 0), "nothing8", 0)), nothing());
    assert_eq!(said(sequencer.peer_down(A)), ["own8?", "nothing8?"]);
}

#[test]
fn geo_01_what_turns_out_later_is_told_at_once_and_holds_nothing_up() {
    let mut sequencer = three();
    assert_eq!(said(sequencer.own_batch((6, 0), "own6", 0)), nothing());
    // Several acts of one commit, each found by itself.
    assert_eq!(said(sequencer.late((5, 0), "b5.2")), ["b5.2?"]);
    assert_eq!(said(sequencer.late((5, 0), "b5.1")), ["b5.1?"]);
    assert_eq!(said(sequencer.late((6, 0), "more of 6")), ["more of 6?"]);
    assert_eq!(said(sequencer.peer_reached(A, 6)), nothing());
    assert_eq!(said(sequencer.peer_reached(B, 6)), ["own6"]);
    assert!(sequencer.is_sure());
}

#[test]
fn geo_01_a_core_that_served_before_it_was_linked_makes_all_read_once() {
    let mut sequencer = three();
    sequencer.peer_up(3);
    assert_eq!(said(sequencer.missed()), nothing());
    assert_eq!(said(sequencer.own_batch((6, 0), "own6", 0)), ["own6?"], "3 may have committed something before");
    assert_eq!(sequencer.tick(1).ask, Some(6));
    assert_eq!(said(sequencer.peer_reached(A, 6)), nothing());
    assert_eq!(said(sequencer.peer_reached(B, 6)), nothing());
    assert_eq!(said(sequencer.peer_reached(3, 6)), ["all behind"]);
    assert!(sequencer.is_sure());
}

#[test]
fn geo_01_what_waits_for_others_is_bounded() {
    let mut sequencer = three();
    let long = "a batch of thirty bytes, about";
    for version in (10..20).step_by(2) {
        assert_eq!(said(sequencer.own_batch((version, 0), long, 0)), nothing());
        assert_eq!(said(sequencer.peer_reached(A, version)), nothing());
        assert_eq!(said(sequencer.peer_reached(B, version)), [long], "what was told waits no longer");
    }
    assert_eq!(said(sequencer.own_batch((20, 0), long, 0)), nothing());
    assert_eq!(said(sequencer.own_batch((21, 0), "the last straw", 0)), [format!("{long}?"), "the last straw?".into()]);
    assert!(!sequencer.is_sure());
    assert_eq!(sequencer.tick(1).ask, Some(21));
    assert_eq!(said(sequencer.peer_reached(A, 21)), nothing());
    assert_eq!(said(sequencer.peer_reached(B, 21)), ["all behind"]);
    assert_eq!(said(sequencer.own_batch((22, 0), long, 0)), nothing());
}
