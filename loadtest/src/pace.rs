//! When a connection sends: as soon as its window has room, or on a schedule that waits for nobody.
//!
//! The schedule deals the sends of all connections out in turn: the k-th send of connection i of n is
//! number `k·n + i` overall. A send that is late because earlier answers are keeps its scheduled time, and
//! its latency counts from there: a slow server is charged for the whole wait (no coordinated omission).

use crate::clock::{Micros, SECOND_US};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Whenever there is room.
    Window,
    /// On schedule.
    Schedule { start_us: Micros, rate: u64, connections: u64, connection: u64 },
}

impl Pace {
    pub(crate) fn new(rate: Option<u64>, start_us: Micros, connections: u32, connection: u32) -> Self {
        match rate {
            None => Pace::Window,
            Some(rate) => {
                Pace::Schedule { start_us, rate, connections: connections.into(), connection: connection.into() }
            }
        }
    }

    /// The time to count send number `count` of this connection from, if it is due.
    pub(crate) fn due_us(&self, count: u64, now_us: Micros) -> Option<Micros> {
        match self {
            Pace::Window => Some(now_us),
            Pace::Schedule { .. } => Some(self.scheduled_us(count)).filter(|&time| time <= now_us),
        }
    }

    /// When to look again for send number `count`. A window opens with an answer, not with time.
    pub(crate) fn wake_us(&self, count: u64) -> Micros {
        match self {
            Pace::Window => Micros::MAX,
            Pace::Schedule { .. } => self.scheduled_us(count),
        }
    }

    /// How many sends the schedule has for this connection before `end_us`.
    pub(crate) fn planned(&self, end_us: Micros) -> u64 {
        match *self {
            Pace::Window => 0,
            Pace::Schedule { start_us, rate, connections, connection } => {
                let overall = (u128::from(end_us - start_us) * u128::from(rate)).div_ceil(SECOND_US.into()) as u64;
                overall.saturating_sub(connection).div_ceil(connections)
            }
        }
    }

    fn scheduled_us(&self, count: u64) -> Micros {
        match *self {
            Pace::Window => 0,
            Pace::Schedule { start_us, rate, connections, connection } => {
                let overall = u128::from(count) * u128::from(connections) + u128::from(connection);
                start_us + (overall * u128::from(SECOND_US) / u128::from(rate)) as Micros
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_share_the_rate_evenly() {
        let start_us = 500;
        let mut times: Vec<Micros> = (0..4)
            .flat_map(|connection| {
                let pace = Pace::new(Some(1000), start_us, 4, connection);
                (0..25).map(move |count| pace.scheduled_us(count))
            })
            .collect();
        times.sort_unstable();
        let expected: Vec<Micros> = (0..100).map(|overall| start_us + overall * 1000).collect();
        assert_eq!(times, expected);
    }

    #[test]
    fn a_late_send_keeps_its_time() {
        let pace = Pace::new(Some(10), 0, 1, 0);
        assert_eq!(pace.due_us(3, 299_999), None);
        assert_eq!(pace.due_us(3, 300_000), Some(300_000));
        assert_eq!(pace.due_us(3, 9_000_000), Some(300_000));
        assert_eq!(Pace::Window.due_us(3, 77), Some(77));
    }

    #[test]
    fn planned_counts_what_is_scheduled_before_the_end() {
        let (start_us, end_us) = (1_000, 1_000 + 3 * SECOND_US);
        for connection in 0..3 {
            let pace = Pace::new(Some(7), start_us, 3, connection);
            let counted = (0..1000).filter(|&count| pace.scheduled_us(count) < end_us).count() as u64;
            assert_eq!(pace.planned(end_us), counted, "connection {connection}");
        }
    }
}
