//! Messages that many are given: how many have each of them, and when the last one had it.
//!
//! Each thread notes what its own connections were given; at the end the notes are added up.
//!
//! What may not live here: connections, time of its own, output.

use std::collections::HashMap;

use crate::{clock::Micros, payload::MessageKey};

/// What is known of one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    /// To so many.
    pub(crate) count: u32,
    /// To the last of them at this time.
    pub(crate) last_us: Micros,
}

/// All messages of a run.
#[derive(Debug, Default)]
pub(crate) struct Spread(HashMap<MessageKey, Given>);

impl Spread {
    /// Somebody was given a message.
    pub(crate) fn given(&mut self, message: MessageKey, now_us: Micros) {
        self.merge(message, Given { count: 1, last_us: now_us });
    }

    pub(crate) fn add(&mut self, other: Spread) {
        other.0.into_iter().for_each(|(message, given)| self.merge(message, given));
    }

    /// Messages that all of `count` were given, with the time when the last one was.
    pub(crate) fn complete(&self, count: u32) -> impl Iterator<Item = (MessageKey, Micros)> {
        self.0.iter().filter(move |(_, given)| given.count == count).map(|(message, given)| (*message, given.last_us))
    }

    fn merge(&mut self, message: MessageKey, more: Given) {
        let given = self.0.entry(message).or_default();
        given.count += more.count;
        given.last_us = given.last_us.max(more.last_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_complete_when_all_threads_together_have_given_it_to_everybody() {
        let [one, other] = [0, 1].map(|ordinal| MessageKey { sender: 7, ordinal });
        let (mut here, mut there) = (Spread::default(), Spread::default());
        here.given(one, 10);
        here.given(one, 30);
        here.given(other, 40);
        there.given(one, 20);
        here.add(there);
        assert_eq!(here.complete(3).collect::<Vec<_>>(), [(one, 30)]);
        assert_eq!(here.complete(1).collect::<Vec<_>>(), [(other, 40)]);
    }
}
