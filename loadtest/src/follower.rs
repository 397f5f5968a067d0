//! What one device has been given of its user's event log, and the judgement of it: holes, repeats, order.
//!
//! For users who talk with one partner, or in one group, only: then the log's messages are the conversation's, seq 1, 2, 3 …
//! Pages must be exactly what lies behind the cursor. Pushes may leave a hole that a later push or a page
//! fills; what is not filled once the log has been read past it, or at the end of the run, is lost.
//!
//! What may not live here: connections, time, output.

use std::collections::BTreeSet;

use crate::ledger::{Findings, Way};

/// One device's view of the log.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    /// What the server gave this device to come back with.
    cursor: Vec<u8>,
    /// The newest event that came by each way.
    paged_position: Vec<u8>,
    pushed_position: Vec<u8>,
    /// The newest message that was given.
    last_seq: u64,
    /// The newest message of the pages being read.
    paged_seq: u64,
    /// Messages before `last_seq` that were not given yet.
    holes: BTreeSet<u64>,
    catching_up: bool,
}

impl Follower {
    /// What to sync from.
    pub(crate) fn cursor(&self) -> &[u8] {
        &self.cursor
    }

    /// The log is being read from the cursor on: after a connection was made, or pushes were dropped.
    pub(crate) fn begin_catching_up(&mut self) {
        self.catching_up = true;
        self.paged_position.clone_from(&self.cursor);
        self.paged_seq = 0;
    }

    /// An event came, of whatever kind; its message, if it is one, goes to [`Self::message`].
    pub(crate) fn event(&mut self, position: &[u8], way: Way, findings: &mut Findings) {
        let last = match way {
            Way::Page => &mut self.paged_position,
            Way::Push => &mut self.pushed_position,
        };
        if position <= &last[..] && !(way == Way::Push && self.catching_up) {
            findings.reordered += 1;
            findings.note(|| format!("reordered: an event at {position:02x?} by {way:?} came behind {last:02x?}"));
        }
        last.clear();
        last.extend_from_slice(position);
    }

    /// The event is a message. Whether it was given for the first time.
    pub(crate) fn message(&mut self, seq: u64, way: Way, findings: &mut Findings) -> bool {
        if way == Way::Page {
            if seq <= self.paged_seq {
                findings.reordered += 1;
                findings.note(|| format!("reordered: a page has seq {seq} behind seq {}", self.paged_seq));
            }
            self.paged_seq = seq.max(self.paged_seq);
        }
        let is_new = self.own(seq);
        if !is_new && !self.catching_up {
            findings.duplicated += 1;
            findings.note(|| format!("duplicated: seq {seq} was pushed again"));
        }
        is_new
    }

    /// The device knows a message of its own, which it may also be given. Whether it did not know it before.
    pub(crate) fn own(&mut self, seq: u64) -> bool {
        if seq > self.last_seq {
            self.holes.extend(self.last_seq + 1..seq);
            self.last_seq = seq;
            return true;
        }
        self.holes.remove(&seq)
    }

    /// A page has been taken.
    pub(crate) fn page_end(&mut self, cursor: &[u8]) {
        self.move_cursor(cursor);
    }

    /// The log's end was reached: what the pages went past and did not bring is lost.
    pub(crate) fn end_catching_up(&mut self, findings: &mut Findings) {
        self.catching_up = false;
        self.pushed_position = self.paged_position.clone(); // what is pushed from now on is newer
        let later = self.holes.split_off(&self.paged_seq.max(1));
        let missed = std::mem::replace(&mut self.holes, later);
        lost(&missed, "the log was read past them", findings);
    }

    /// The cursor of a push or a pong. While pages are read it would skip what was dropped.
    pub(crate) fn told_cursor(&mut self, cursor: &[u8]) {
        if !self.catching_up && cursor > &self.cursor[..] {
            self.move_cursor(cursor);
        }
    }

    /// Whether everything up to `head_seq` has been given.
    pub(crate) fn has_all(&self, head_seq: u64) -> bool {
        self.holes.is_empty() && self.last_seq >= head_seq
    }

    /// How many of the messages up to `head_seq` have not been given.
    pub(crate) fn missing(&self, head_seq: u64) -> u64 {
        self.holes.len() as u64 + head_seq.saturating_sub(self.last_seq)
    }

    /// Nothing more will come: what is missing up to `head_seq` is lost.
    pub(crate) fn end(mut self, head_seq: u64, findings: &mut Findings) {
        self.holes.extend(self.last_seq + 1..=head_seq);
        lost(&self.holes, "they never came", findings);
    }

    fn move_cursor(&mut self, cursor: &[u8]) {
        self.cursor.clear();
        self.cursor.extend_from_slice(cursor);
    }
}

fn lost(seqs: &BTreeSet<u64>, why: &str, findings: &mut Findings) {
    findings.lost += seqs.len() as u64;
    if let (Some(first), Some(last)) = (seqs.first(), seqs.last()) {
        findings.note(|| format!("lost: {} messages of a device, seq {first} to {last}: {why}", seqs.len()));
    }
}

#[cfg(test)]
#[path = "follower_tests.rs"]
mod tests;
