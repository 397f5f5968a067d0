//! Who takes turns with other processes that write to the same keys of a remote engine.
//!
//! Of two lanes that write to the same keys without a pause each begins its next transaction when the other one has just
//! been overtaken and begins again: one of the two conflicts, each time. So a lane that was overtaken lately lets others
//! go first: it pauses, after each transaction, for as long as that took. What is queued meanwhile goes into the next one.
//! A transaction that was overtaken is run again at once.
//!
//! What may not live here: how often something is run again, and the pauses of that.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

/// So many transactions after one that was overtaken let others go first.
const POLITE_FOR: u32 = 16;

/// Longest pause, microseconds: an engine that is slow for another reason is not made slower by it.
const PAUSE_US_MAX: u64 = 100_000;

/// The turns of a lane. One job at a time asks and tells.
#[derive(Debug, Default)]
pub(super) struct Turns {
    polite_for: AtomicU32,
    took_us: AtomicU64,
}

impl Turns {
    /// How long to wait before the next transaction begins.
    pub(super) fn pause(&self) -> Duration {
        match self.polite_for.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            _ => Duration::from_micros(self.took_us.load(Ordering::Relaxed).min(PAUSE_US_MAX)),
        }
    }

    /// One was overtaken.
    pub(super) fn overtaken(&self) {
        self.polite_for.store(POLITE_FOR, Ordering::Relaxed);
    }

    /// One has been committed whose last run took so long.
    pub(super) fn committed(&self, took_us: u64) {
        self.took_us.store(took_us, Ordering::Relaxed);
        let left = self.polite_for.load(Ordering::Relaxed).saturating_sub(1);
        self.polite_for.store(left, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_overtaken_lets_others_go_first_for_a_while() {
        let turns = Turns::default();
        turns.committed(7_000);
        assert_eq!(turns.pause(), Duration::ZERO, "nobody is in the way");
        turns.overtaken();
        assert_eq!(turns.pause(), Duration::from_millis(7));
        for _ in 1..POLITE_FOR {
            turns.committed(3_000);
            assert_eq!(turns.pause(), Duration::from_millis(3));
        }
        turns.committed(3_000);
        assert_eq!(turns.pause(), Duration::ZERO);
        turns.overtaken();
        turns.committed(9_000_000);
        assert_eq!(turns.pause(), Duration::from_micros(PAUSE_US_MAX));
    }
}
