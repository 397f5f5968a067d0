//! What is known of every message of a conversation, in four bytes each, and the judgement of what the
//! server says about them: lost, duplicated, reordered.
//!
//! A conversation's sequence is shared by its two directions: the acks a user got and the messages it was
//! given together are 1, 2, 3 … Acks and pushes may overtake each other; pushes may not. A hole that live
//! pushes leave must be filled by catching up; what is not filled when everything has settled is lost.
//!
//! What may not live here: connections, time of its own, output.

use std::collections::VecDeque;

use crate::clock::Micros;

/// Notes kept to describe the first failures; the counts go on.
const NOTES_MAX: usize = 10;

/// A message's seq and what happened to it. The seq is 0 until the server tells it.
#[derive(Clone, Copy, Debug, Default)]
struct State(u32);

impl State {
    /// The sender has its ack.
    const ANSWERED: u32 = 1 << 31;
    /// The recipient has it, live or by catching up.
    const DELIVERED: u32 = 1 << 30;
    /// The server has said that it holds it: by an ack, a delivery or a read.
    const STORED: u32 = 1 << 29;
    /// Seen in the present reading.
    const FOUND: u32 = 1 << 28;
    /// Stored, but was missing somewhere, or had the wrong content.
    const MISSED: u32 = 1 << 27;
    const SEQ_MAX: u32 = Self::MISSED - 1;

    fn is(self, flags: u32) -> bool {
        self.0 & flags == flags
    }

    fn set(&mut self, flags: u32) {
        self.0 |= flags;
    }

    fn clear(&mut self, flags: u32) {
        self.0 &= !flags;
    }

    fn seq(self) -> u32 {
        self.0 & Self::SEQ_MAX
    }
}

/// What went wrong.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) errors: u64,
    /// The first few, in words.
    pub(crate) notes: Vec<String>,
}

impl Findings {
    pub(crate) fn error(&mut self, note: impl FnOnce() -> String) {
        self.errors += 1;
        self.note(note);
    }

    pub(crate) fn note(&mut self, note: impl FnOnce() -> String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note());
        }
    }

    /// A user was told so many times what everybody was to be told once.
    pub(crate) fn told(&mut self, user: &str, times: u64) {
        self.lost += u64::from(times == 0);
        self.duplicated += times.saturating_sub(1);
        if times != 1 {
            self.note(|| format!("{user} was told {times} times what everybody was told once"));
        }
    }

    pub(crate) fn add(&mut self, other: Findings) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.errors += other.errors;
        self.notes.extend(other.notes);
        self.notes.truncate(NOTES_MAX);
    }
}

/// One of the two users of a conversation: 0 or 1.
pub(crate) type Side = usize;

/// A message as the server presents it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting {
    pub(crate) from: Side,
    pub(crate) ordinal: u32,
    pub(crate) seq: u64,
}

/// The messages one side sends.
#[derive(Debug, Default)]
struct Direction {
    states: Vec<State>,
    /// When they were to be sent; kept until a message is both answered and delivered.
    sent_us: VecDeque<Micros>,
    /// The ordinal of the first in `sent_us`.
    sent_first: usize,
    answered: u32,
    delivered_answered: u32,
    finished: bool,
}

impl Direction {
    fn sent_us(&self, ordinal: u32) -> Option<Micros> {
        self.sent_us.get((ordinal as usize).checked_sub(self.sent_first)?).copied()
    }

    fn forget_settled(&mut self) {
        const SETTLED: u32 = State::ANSWERED | State::DELIVERED;
        while !self.sent_us.is_empty() && self.states[self.sent_first].is(SETTLED) {
            self.sent_us.pop_front();
            self.sent_first += 1;
        }
    }

    /// Sets `flag`, counting the messages that are answered and those of them that are delivered.
    fn mark(&mut self, ordinal: u32, flag: u32) {
        const BOTH: u32 = State::ANSWERED | State::DELIVERED;
        let state = &mut self.states[ordinal as usize];
        let before = *state;
        state.set(flag | State::STORED);
        self.answered += u32::from(state.is(State::ANSWERED) && !before.is(State::ANSWERED));
        self.delivered_answered += u32::from(state.is(BOTH) && !before.is(BOTH));
        self.forget_settled();
    }
}

/// How a message came to its viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Push,
    /// A page of the event log.
    Page,
}

/// What one side has been shown.
#[derive(Debug, Default)]
struct Viewer {
    pushed_seq: u64,
    paged_seq: u64,
    catching_up: bool,
}

impl Viewer {
    /// Pages are in order among themselves, and so are pushes; while pages fill holes, the two may mix.
    fn check_order(&mut self, seen: Sighting, way: Way, findings: &mut Findings) {
        let last_seq = match way {
            Way::Push => &mut self.pushed_seq,
            Way::Page => &mut self.paged_seq,
        };
        if seen.seq <= *last_seq && !(self.catching_up && way == Way::Push) {
            findings.reordered += 1;
            findings.note(|| format!("reordered: {seen:?} came behind seq {last_seq}"));
        }
        *last_seq = seen.seq.max(*last_seq);
        if way == Way::Page {
            self.pushed_seq = self.pushed_seq.max(seen.seq); // what is pushed from now on is newer
        }
    }
}

/// A 1:1 conversation of two users of this run.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    directions: [Direction; 2],
    viewers: [Viewer; 2],
    /// The newest seq that the server told of.
    head_seq: u64,
    /// Seqs that no message had, in the worst reading.
    gaps: u64,
}

impl Conversation {
    /// `side` sends its next message, which was due at `sent_us`. Returns the message's ordinal.
    pub(crate) fn sent(&mut self, side: Side, sent_us: Micros) -> u32 {
        let direction = &mut self.directions[side];
        direction.states.push(State::default());
        direction.sent_us.push_back(sent_us);
        direction.states.len() as u32 - 1
    }

    /// The server acknowledged a message. Returns when it was due, the first time.
    pub(crate) fn acked(&mut self, side: Side, ordinal: u32, seq: u64, findings: &mut Findings) -> Option<Micros> {
        let sent_us = self.directions[side].sent_us(ordinal);
        self.place(Sighting { from: side, ordinal, seq }, findings);
        self.directions[side].mark(ordinal, State::ANSWERED);
        sent_us
    }

    /// From here on `side` is given again what its cursor doesn't cover, in order.
    pub(crate) fn begin_catching_up(&mut self, side: Side) {
        self.viewers[side].paged_seq = 0;
        self.viewers[side].catching_up = true;
    }

    /// From here on `side` is pushed what is new, and nothing twice.
    pub(crate) fn end_catching_up(&mut self, side: Side) {
        self.viewers[side].catching_up = false;
    }

    /// `viewer` was given a message. Returns when it was due, if this is its delivery.
    pub(crate) fn arrived(
        &mut self,
        viewer: Side,
        seen: Sighting,
        way: Way,
        findings: &mut Findings,
    ) -> Option<Micros> {
        let Some(&state) = self.directions[seen.from].states.get(seen.ordinal as usize) else {
            findings.error(|| format!("a message arrived that was never sent: {seen:?}"));
            return None;
        };
        let is_own = seen.from == viewer;
        let is_again = is_own || state.is(State::DELIVERED);
        if is_again && !is_own && way == Way::Push && !self.viewers[viewer].catching_up {
            findings.duplicated += 1;
            findings.note(|| format!("duplicated: pushed again: {seen:?}"));
        } else {
            self.viewers[viewer].check_order(seen, way, findings);
        }
        self.place(seen, findings);
        if is_again {
            return None;
        }
        let sent_us = self.directions[seen.from].sent_us(seen.ordinal);
        self.directions[seen.from].mark(seen.ordinal, State::DELIVERED);
        sent_us
    }

    /// One of several devices of the recipient was given a message; its order there is for a
    /// [`Follower`](crate::follower::Follower) to judge. Returns when the message was due, the first time.
    pub(crate) fn shown(&mut self, seen: Sighting, findings: &mut Findings) -> Option<Micros> {
        let Some(&state) = self.directions[seen.from].states.get(seen.ordinal as usize) else {
            findings.error(|| format!("a message arrived that was never sent: {seen:?}"));
            return None;
        };
        let sent_us = self.directions[seen.from].sent_us(seen.ordinal).filter(|_| !state.is(State::DELIVERED));
        self.place(seen, findings);
        self.directions[seen.from].mark(seen.ordinal, State::DELIVERED);
        sent_us
    }

    /// The newest seq that the server told anybody of.
    pub(crate) fn head_seq(&self) -> u64 {
        self.head_seq
    }

    /// Whether `side` has finished.
    pub(crate) fn is_finished(&self, side: Side) -> bool {
        self.directions[side].finished
    }

    /// `side` will neither send nor be answered any more.
    pub(crate) fn finish(&mut self, side: Side) {
        self.directions[side].finished = true;
    }

    /// Whether `viewer` has everything that it will be given.
    pub(crate) fn is_settled_for(&self, viewer: Side) -> bool {
        let direction = &self.directions[1 - viewer];
        direction.finished && direction.delivered_answered == direction.answered
    }

    /// `viewer` is connected, has waited, and is given nothing more: what it lacks counts as lost.
    pub(crate) fn give_up_waiting(&mut self, viewer: Side, findings: &mut Findings) {
        for (ordinal, state) in self.directions[1 - viewer].states.iter_mut().enumerate() {
            if state.is(State::ANSWERED) && !state.is(State::DELIVERED) {
                state.set(State::MISSED);
                findings.note(|| format!("lost: message {ordinal} (seq {}) was never delivered", state.seq()));
            }
        }
    }

    /// Sends whose ack never came: they may be stored or not.
    pub(crate) fn unknown(&self) -> u64 {
        let states = self.directions.iter().flat_map(|direction| &direction.states);
        states.filter(|state| !state.is(State::ANSWERED)).count() as u64
    }

    /// Messages that are not, or not wholly, where they must be.
    pub(crate) fn lost(&self) -> u64 {
        let states = self.directions.iter().flat_map(|direction| &direction.states);
        (states.filter(|state| state.is(State::MISSED)).count() as u64).max(self.gaps)
    }

    /// Records a message's seq; a message with two of them is stored twice.
    fn place(&mut self, seen: Sighting, findings: &mut Findings) {
        let state = &mut self.directions[seen.from].states[seen.ordinal as usize];
        state.set(State::STORED);
        let seq = match u32::try_from(seen.seq) {
            Ok(seq @ 1..=State::SEQ_MAX) => seq,
            _ => return findings.error(|| format!("impossible seq: {seen:?}")),
        };
        self.head_seq = self.head_seq.max(seen.seq);
        match state.seq() {
            0 => state.set(seq),
            known if known == seq => {}
            known => {
                findings.duplicated += 1;
                findings.note(|| format!("duplicated: {seen:?} had seq {known} before"));
            }
        }
    }
}

/// One pass over a conversation as the server stores it, from one of its ends.
#[derive(Debug)]
pub(crate) struct Reading {
    what: &'static str,
    forward: bool,
    last_seq: Option<u64>,
    gaps: u64,
}

impl Reading {
    /// Begins a pass; `what` names it in notes.
    pub(crate) fn begin(conversation: &mut Conversation, what: &'static str, forward: bool) -> Self {
        for state in conversation.directions.iter_mut().flat_map(|direction| &mut direction.states) {
            state.clear(State::FOUND);
        }
        Reading { what, forward, last_seq: None, gaps: 0 }
    }

    /// The next message of the pass.
    pub(crate) fn message(
        &mut self,
        conversation: &mut Conversation,
        seen: Sighting,
        is_intact: bool,
        findings: &mut Findings,
    ) {
        let what = self.what;
        let Some(state) = conversation.directions[seen.from].states.get_mut(seen.ordinal as usize) else {
            return findings.error(|| format!("{what}: a message that was never sent: {seen:?}"));
        };
        if state.is(State::FOUND) {
            findings.duplicated += 1;
            return findings.note(|| format!("duplicated: {what} has {seen:?} twice"));
        }
        state.set(State::FOUND);
        if !is_intact {
            state.set(State::MISSED);
            findings.note(|| format!("lost: {what} has {seen:?} with the wrong content"));
        }
        conversation.place(seen, findings);
        self.check_order(seen, findings);
    }

    /// The pass is over: what was not in it is lost.
    pub(crate) fn end(mut self, conversation: &mut Conversation, findings: &mut Findings) {
        let what = self.what;
        if let (false, Some(seq)) = (self.forward, self.last_seq) {
            self.gaps += seq.saturating_sub(1);
        }
        if self.gaps > 0 {
            findings.note(|| format!("lost: {what} has no message for {} seqs", self.gaps));
        }
        conversation.gaps = conversation.gaps.max(self.gaps);
        for (from, direction) in conversation.directions.iter_mut().enumerate() {
            for (ordinal, state) in direction.states.iter_mut().enumerate() {
                if state.is(State::STORED) && !state.is(State::FOUND) {
                    state.set(State::MISSED);
                    findings.note(|| format!("lost: {what} lacks {ordinal} of side {from}, seq {}", state.seq()));
                }
            }
        }
    }

    fn check_order(&mut self, seen: Sighting, findings: &mut Findings) {
        let step = match (self.forward, self.last_seq) {
            (true, last) => seen.seq.checked_sub(last.unwrap_or(0)),
            (false, Some(last)) => last.checked_sub(seen.seq),
            (false, None) => Some(1),
        };
        match step {
            Some(step @ 1..) => {
                self.gaps += step - 1;
                self.last_seq = Some(seen.seq);
            }
            _ => {
                findings.reordered += 1;
                findings.note(|| format!("reordered: {} has {seen:?} next to seq {:?}", self.what, self.last_seq));
            }
        }
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
