//! Goal: the checker finds every way in which a server can break its promises, and nothing else.
//! Without these, a run that reports zeros would prove nothing.

use super::*;

/// A server's part in one conversation, told what to say.
#[derive(Default)]
struct Run {
    conversation: Conversation,
    findings: Findings,
    /// (from, ordinal), in order of seq.
    log: Vec<(Side, u32)>,
}

impl Run {
    /// Side 0 sends five messages and side 1 three, all acknowledged.
    fn new() -> Self {
        let mut run = Run::default();
        for from in [0, 1, 0, 0, 1, 1, 0, 0] {
            let ordinal = run.conversation.sent(from, 100);
            run.log.push((from, ordinal));
            let seq = run.log.len() as u64;
            assert_eq!(run.conversation.acked(from, ordinal, seq, &mut run.findings), Some(100));
        }
        run
    }

    fn sighting(&self, seq: u64) -> Sighting {
        let (from, ordinal) = self.log[seq as usize - 1];
        Sighting { from, ordinal, seq }
    }

    fn push(&mut self, viewer: Side, seqs: impl IntoIterator<Item = u64>) {
        self.give(viewer, Way::Push, seqs);
    }

    fn page(&mut self, viewer: Side, seqs: impl IntoIterator<Item = u64>) {
        self.give(viewer, Way::Page, seqs);
    }

    fn give(&mut self, viewer: Side, way: Way, seqs: impl IntoIterator<Item = u64>) {
        for seq in seqs {
            let seen = self.sighting(seq);
            self.conversation.arrived(viewer, seen, way, &mut self.findings);
        }
    }

    fn read(&mut self, forward: bool, seqs: impl IntoIterator<Item = u64>) {
        let mut reading = Reading::begin(&mut self.conversation, "history", forward);
        for seq in seqs {
            let seen = self.sighting(seq);
            reading.message(&mut self.conversation, seen, true, &mut self.findings);
        }
        reading.end(&mut self.conversation, &mut self.findings);
    }

    /// Lost, duplicated, reordered, errors.
    fn verdict(&self) -> (u64, u64, u64, u64) {
        (self.conversation.lost(), self.findings.duplicated, self.findings.reordered, self.findings.errors)
    }
}

const OF_SIDE_0: [u64; 5] = [1, 3, 4, 7, 8];
const OF_SIDE_1: [u64; 3] = [2, 5, 6];

#[test]
fn a_good_run_has_no_findings() {
    let mut run = Run::new();
    run.push(1, OF_SIDE_0);
    run.push(0, OF_SIDE_1);
    for side in [0, 1] {
        assert!(!run.conversation.is_settled_for(side));
        run.conversation.finish(1 - side);
        assert!(run.conversation.is_settled_for(side));
        run.conversation.give_up_waiting(side, &mut run.findings);
    }
    for _ in 0..2 {
        run.read(true, 1..=8);
        run.read(false, (1..=8).rev());
    }
    assert_eq!(run.verdict(), (0, 0, 0, 0), "{:?}", run.findings.notes);
    assert_eq!(run.conversation.unknown(), 0);
    assert!(run.conversation.directions.iter().all(|direction| direction.sent_us.is_empty()));
}

#[test]
fn a_delivery_may_overtake_its_ack() {
    let mut run = Run::default();
    let ordinal = run.conversation.sent(0, 7);
    run.log.push((0, ordinal));
    run.push(1, [1]);
    assert_eq!(run.conversation.acked(0, ordinal, 1, &mut run.findings), Some(7));
    run.read(true, [1]);
    assert_eq!(run.verdict(), (0, 0, 0, 0));
}

#[test]
fn loss_on_the_way() {
    let mut run = Run::new();
    run.push(1, [1, 3, 7, 8]);
    run.conversation.finish(0);
    assert!(!run.conversation.is_settled_for(1));
    run.conversation.give_up_waiting(1, &mut run.findings);
    assert_eq!(run.verdict(), (1, 0, 0, 0));
    run.read(true, 1..=8);
    assert_eq!(run.verdict(), (1, 0, 0, 0), "being stored does not make up for it");
}

#[test]
fn loss_in_the_store() {
    for (forward, seqs) in [(true, vec![1, 2, 3, 5, 6, 7, 8]), (false, vec![8, 7, 6, 5, 3, 2, 1])] {
        let mut run = Run::new();
        run.read(forward, seqs);
        assert_eq!(run.verdict(), (1, 0, 0, 0), "in the middle");
    }
    for (forward, seqs) in [(true, [1, 2, 3, 4, 5, 6]), (false, [6, 5, 4, 3, 2, 1])] {
        let mut run = Run::new();
        run.read(forward, seqs);
        assert_eq!(run.verdict(), (2, 0, 0, 0), "the newest two");
    }
    for (forward, seqs) in [(true, [3, 4, 5, 6, 7, 8]), (false, [8, 7, 6, 5, 4, 3])] {
        let mut run = Run::new();
        run.read(forward, seqs);
        assert_eq!(run.verdict(), (2, 0, 0, 0), "the oldest two");
    }
    let mut run = Run::new();
    run.read(true, []);
    assert_eq!(run.verdict(), (8, 0, 0, 0), "everything");
}

#[test]
fn one_loss_seen_in_many_readings_is_one() {
    let mut run = Run::new();
    for _ in 0..3 {
        run.read(true, [1, 2, 3, 4, 5, 6, 8]);
    }
    assert_eq!(run.verdict(), (1, 0, 0, 0));
}

#[test]
fn damaged_content_is_a_loss() {
    let mut run = Run::new();
    let mut reading = Reading::begin(&mut run.conversation, "history", true);
    for seq in 1..=8 {
        let seen = run.sighting(seq);
        reading.message(&mut run.conversation, seen, seq != 5, &mut run.findings);
    }
    reading.end(&mut run.conversation, &mut run.findings);
    assert_eq!(run.verdict(), (1, 0, 0, 0));
}

#[test]
fn a_seq_without_a_message_is_a_loss() {
    let mut run = Run::default();
    for seq in [1, 3] {
        let ordinal = run.conversation.sent(0, 0);
        run.conversation.acked(0, ordinal, seq, &mut run.findings);
    }
    let mut reading = Reading::begin(&mut run.conversation, "history", true);
    for (ordinal, seq) in [(0, 1), (1, 3)] {
        reading.message(&mut run.conversation, Sighting { from: 0, ordinal, seq }, true, &mut run.findings);
    }
    reading.end(&mut run.conversation, &mut run.findings);
    assert_eq!(run.verdict(), (1, 0, 0, 0));
}

#[test]
fn duplicates() {
    let mut run = Run::new();
    run.push(1, [1, 3, 3, 4]);
    assert_eq!(run.verdict(), (0, 1, 0, 0), "pushed twice");

    let mut run = Run::new();
    run.read(true, [1, 2, 3, 4, 4, 5, 6, 7, 8]);
    assert_eq!(run.verdict(), (0, 1, 0, 0), "a page that repeats");

    let mut run = Run::new();
    run.log.push((0, 2)); // the message at seq 4 is stored again at seq 9
    run.read(true, 1..=9);
    assert_eq!(run.verdict(), (0, 1, 0, 0), "stored twice");

    let mut run = Run::new();
    assert_eq!(run.conversation.acked(0, 0, 9, &mut run.findings), Some(100));
    assert_eq!(run.verdict(), (0, 1, 0, 0), "acknowledged with another seq when sent again");
}

#[test]
fn reorders() {
    let mut run = Run::new();
    run.push(1, [1, 4, 3, 7, 8]);
    assert_eq!(run.verdict(), (0, 0, 1, 0), "pushes");

    for (forward, seqs) in [(true, [1, 2, 4, 3, 5, 6, 7, 8]), (false, [8, 7, 6, 5, 3, 4, 2, 1])] {
        let mut run = Run::new();
        run.read(forward, seqs);
        let (_, duplicated, reordered, errors) = run.verdict();
        assert_eq!((duplicated, reordered, errors), (0, 1, 0), "pages");
    }
}

#[test]
fn catching_up_repeats_and_fills_holes() {
    let mut run = Run::new();
    run.push(1, [1, 7]); // 3 and 4 were dropped
    run.conversation.begin_catching_up(1);
    run.page(1, [2, 3, 4]); // with its own, from the cursor
    run.push(1, [8]);
    run.page(1, [5, 6, 7, 8]);
    run.conversation.end_catching_up(1);
    run.conversation.finish(0);
    assert!(run.conversation.is_settled_for(1));
    assert_eq!(run.verdict(), (0, 0, 0, 0), "{:?}", run.findings.notes);
    run.push(1, [8]);
    assert_eq!(run.verdict(), (0, 1, 0, 0), "live pushes begin behind the last page");
}

#[test]
fn catching_up_is_in_order() {
    let mut run = Run::new();
    run.conversation.begin_catching_up(1);
    run.page(1, [1, 3, 2]);
    assert_eq!(run.verdict(), (0, 0, 1, 0));

    let mut run = Run::new();
    run.conversation.begin_catching_up(1);
    run.page(1, [1, 2, 4]);
    run.conversation.end_catching_up(1);
    run.push(1, [3]);
    assert_eq!(run.verdict(), (0, 0, 1, 0), "the last page was the log's end");
}

#[test]
fn unknown_sends_may_exist_once_or_not() {
    let unanswered = |seqs: &[u64]| {
        let mut run = Run::new();
        let ordinal = run.conversation.sent(0, 0);
        assert_eq!(run.conversation.unknown(), 1);
        run.log.extend([(0, ordinal), (0, ordinal)]);
        run.read(true, seqs.iter().copied());
        run
    };
    assert_eq!(unanswered(&[1, 2, 3, 4, 5, 6, 7, 8]).verdict(), (0, 0, 0, 0));
    assert_eq!(unanswered(&[1, 2, 3, 4, 5, 6, 7, 8, 9]).verdict(), (0, 0, 0, 0));
    assert_eq!(unanswered(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]).verdict(), (0, 1, 0, 0));
    let mut run = unanswered(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    run.read(false, (1..=8).rev());
    assert_eq!(run.verdict(), (1, 0, 0, 0), "once seen it has to stay");
}

#[test]
fn what_was_never_sent_is_an_error() {
    let mut run = Run::new();
    let seen = Sighting { from: 0, ordinal: 99, seq: 9 };
    run.conversation.arrived(1, seen, Way::Push, &mut run.findings);
    assert_eq!(run.verdict(), (0, 0, 0, 1));
}

#[test]
fn several_devices_are_shown_one_message() {
    let mut run = Run::new();
    let seen = run.sighting(4);
    assert_eq!(run.conversation.head_seq(), 8);
    assert_eq!(run.conversation.shown(seen, &mut run.findings), Some(100));
    assert_eq!(run.conversation.shown(seen, &mut run.findings), None, "on another device it is no new delivery");
    assert_eq!(run.verdict(), (0, 0, 0, 0));
    run.conversation.shown(Sighting { seq: 9, ..seen }, &mut run.findings);
    assert_eq!((run.conversation.head_seq(), run.verdict()), (9, (0, 1, 0, 0)), "with another seq it is stored twice");
    run.conversation.shown(Sighting { ordinal: 99, ..seen }, &mut run.findings);
    assert_eq!(run.verdict(), (0, 1, 0, 1), "never sent");
}
