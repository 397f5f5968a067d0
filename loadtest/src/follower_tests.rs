//! Goal: the checker finds what a device was not given, was given twice or in the wrong order, and nothing
//! else. Without these, a `sync` or `reconnect` run that reports zeros would prove nothing.

use super::*;

/// A device to which a server says what it is told to. The position of a message is its seq.
#[derive(Default)]
struct Run {
    follower: Follower,
    findings: Findings,
}

impl Run {
    fn page(&mut self, seqs: impl IntoIterator<Item = u64>) {
        let mut cursor = self.follower.cursor().to_vec();
        for seq in seqs {
            cursor = position(seq).to_vec();
            self.follower.event(&cursor, Way::Page, &mut self.findings);
            self.follower.message(seq, Way::Page, &mut self.findings);
        }
        self.follower.page_end(&cursor);
    }

    fn catch_up(&mut self, seqs: impl IntoIterator<Item = u64>) {
        self.follower.begin_catching_up();
        self.page(seqs);
        self.follower.end_catching_up(&mut self.findings);
    }

    fn push(&mut self, seqs: impl IntoIterator<Item = u64>) {
        for seq in seqs {
            self.follower.event(&position(seq), Way::Push, &mut self.findings);
            self.follower.message(seq, Way::Push, &mut self.findings);
            self.follower.told_cursor(&position(seq));
        }
    }

    /// (lost, duplicated, reordered) so far.
    fn verdict(&self) -> (u64, u64, u64) {
        assert_eq!(self.findings.errors, 0);
        (self.findings.lost, self.findings.duplicated, self.findings.reordered)
    }

    /// The verdict once `head_seq` messages were sent and nothing more comes.
    fn end(mut self, head_seq: u64) -> (u64, u64, u64) {
        self.follower = {
            self.follower.end(head_seq, &mut self.findings);
            Follower::default()
        };
        self.verdict()
    }
}

fn position(seq: u64) -> [u8; 8] {
    seq.to_be_bytes()
}

#[test]
fn coming_and_going_without_a_fault() {
    let mut run = Run::default();
    run.catch_up([]);
    run.push(1..=3);
    run.catch_up(4..=9);
    run.catch_up([]);
    run.push([10]);
    assert_eq!(run.follower.cursor(), position(10));
    assert!(run.follower.has_all(10) && !run.follower.has_all(11));
    assert_eq!(run.end(10), (0, 0, 0));
}

#[test]
fn pages_that_skip_something_lose_it() {
    let mut run = Run::default();
    run.catch_up([1, 2, 5]);
    assert_eq!(run.verdict(), (2, 0, 0), "between two messages");

    let mut run = Run::default();
    run.push(1..=3);
    run.catch_up([5, 6]);
    assert_eq!(run.verdict(), (1, 0, 0), "right behind the cursor");

    let mut run = Run::default();
    run.catch_up(1..=3);
    run.push([5]);
    assert!(!run.follower.has_all(5));
    run.catch_up([6]);
    assert_eq!(run.verdict(), (1, 0, 0), "between catching up and live");
    assert_eq!(run.end(6), (1, 0, 0), "and it is counted once");
}

#[test]
fn what_never_comes_is_lost() {
    let mut run = Run::default();
    run.push([1, 2, 4]);
    assert_eq!(run.verdict(), (0, 0, 0), "it may still come");
    assert_eq!(run.end(6), (3, 0, 0), "one in between, two at the end");
    assert_eq!(Run::default().end(2), (2, 0, 0), "everything");
}

#[test]
fn a_hole_may_be_filled_by_catching_up() {
    let mut run = Run::default();
    run.push([1, 2]);
    run.follower.begin_catching_up(); // told to be behind: the cursor stays
    run.push([5]);
    assert_eq!(run.follower.cursor(), position(2));
    run.page([3, 4, 5]);
    run.follower.end_catching_up(&mut run.findings);
    run.push([6]);
    assert_eq!(run.end(6), (0, 0, 0));
}

#[test]
fn repeats() {
    let mut run = Run::default();
    run.catch_up([1, 2]);
    run.follower.event(&position(9), Way::Push, &mut run.findings);
    run.follower.message(2, Way::Push, &mut run.findings);
    assert_eq!(run.verdict(), (0, 1, 0), "another event for the same message");

    let mut run = Run::default();
    run.catch_up([1, 2]);
    run.push([2]);
    assert_eq!(run.verdict(), (0, 1, 1), "the same event again, live");

    let mut run = Run::default();
    run.push([1, 2, 3]);
    run.catch_up([3, 4]);
    assert_eq!(run.verdict(), (0, 0, 1), "a page with what the cursor covers");
}

#[test]
fn order() {
    let mut run = Run::default();
    run.catch_up([1, 3, 2, 4]);
    assert_eq!(run.verdict(), (0, 0, 2), "in a page: by position and by seq");

    let mut run = Run::default();
    run.push([1, 3, 2]);
    assert_eq!(run.verdict(), (0, 0, 1), "live");

    let mut run = Run::default();
    run.follower.begin_catching_up();
    run.page([1, 2]);
    run.page([2, 3]);
    run.follower.end_catching_up(&mut run.findings);
    assert_eq!(run.verdict(), (0, 0, 2), "a page that begins inside the one before");
}

#[test]
fn a_pong_moves_the_cursor_and_never_back() {
    let mut run = Run::default();
    run.push([1]);
    run.follower.told_cursor(&position(7));
    run.follower.told_cursor(&position(3));
    assert_eq!(run.follower.cursor(), position(7));
}
