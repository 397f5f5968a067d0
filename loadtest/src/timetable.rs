//! When devices lose their connections and when they come back. Everything follows from the seed.
//!
//! What may not live here: connections, a clock.

use crate::{
    clock::Micros,
    mix::Draw,
    options::{Options, ReconnectOptions, Scenario, SyncOptions},
    payload::mix,
    worker::Span,
};

/// A device is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Absence {
    pub(crate) leave_us: Micros,
    /// When it first tries to come back.
    pub(crate) return_us: Micros,
    /// Its way back counts from here.
    pub(crate) counted_from_us: Micros,
}

/// The absences of a device, in order.
pub(crate) fn absences(options: &Options, seed: u64, device: u32, span: Span) -> Vec<Absence> {
    let draw = Draw::new(mix(seed ^ mix(device.into())));
    match options.scenario {
        Scenario::Sync(options) => come_and_go(&options, draw, span),
        Scenario::Reconnect(options) => storms(&options, draw, span),
        _ => Vec::new(),
    }
}

/// Stays and absences of half to one and a half times their average; the first stay of any length up to
/// that, so that devices do not leave together. Nobody stays away beyond the end.
fn come_and_go(options: &SyncOptions, mut draw: Draw, span: Span) -> Vec<Absence> {
    let (online_us, away_us) = (options.online_ms * 1_000, options.away_ms * 1_000);
    let mut absences = Vec::new();
    let mut leave_us = span.start_us + draw.below(online_us * 3 / 2);
    while leave_us < span.end_us {
        let return_us = (leave_us + around(away_us, &mut draw)).min(span.end_us);
        absences.push(Absence { leave_us, return_us, counted_from_us: return_us });
        leave_us = return_us + around(online_us, &mut draw);
    }
    absences
}

fn around(average_us: Micros, draw: &mut Draw) -> Micros {
    average_us / 2 + draw.below(average_us)
}

/// Everybody leaves in the middle of each of equal parts of the time.
fn storms(options: &ReconnectOptions, mut draw: Draw, span: Span) -> Vec<Absence> {
    let (storms, spread_us) = (u64::from(options.storms), options.spread_ms * 1_000);
    let absence = |storm: u64| {
        let leave_us = span.start_us + (span.end_us - span.start_us) * (2 * storm + 1) / (2 * storms);
        Absence { leave_us, return_us: leave_us + draw.below(spread_us + 1), counted_from_us: leave_us }
    };
    (0..storms).map(absence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    const SPAN: Span = Span { start_us: 5_000_000, end_us: 25_000_000 };

    fn of(line: &str, device: u32) -> Vec<Absence> {
        absences(&Options::parse_from(line.split(' ')), 42, device, SPAN)
    }

    #[test]
    fn a_storm_takes_everyone_at_once_and_back_at_once() {
        let absence = |us| Absence { leave_us: us, return_us: us, counted_from_us: us };
        for device in [0, 1, 4_999] {
            assert_eq!(of("loadtest reconnect", device), [absence(15_000_000)]);
            assert_eq!(of("loadtest reconnect --storms 2", device), [absence(10_000_000), absence(20_000_000)]);
        }
    }

    #[test]
    fn a_spread_return_counts_from_the_drop() {
        let mut latest_us = 0;
        for device in 0..1_000 {
            let absence = of("loadtest reconnect --spread-ms 2000", device)[0];
            assert_eq!((absence.leave_us, absence.counted_from_us), (15_000_000, 15_000_000));
            assert!((15_000_000..=17_000_000).contains(&absence.return_us));
            latest_us = latest_us.max(absence.return_us);
        }
        assert!(latest_us > 16_900_000, "the whole time is used");
    }

    #[test]
    fn devices_come_and_go_each_for_itself() {
        let line = "loadtest sync --online-ms 1000 --away-ms 500";
        assert_eq!(of(line, 7), of(line, 7), "the same seed, the same times");
        assert_ne!(of(line, 7), of(line, 8));
        for device in 0..100 {
            let absences = of(line, device);
            assert!((10..=20).contains(&absences.len()), "{} absences in 20 s", absences.len());
            let mut back_us = SPAN.start_us;
            for Absence { leave_us, return_us, counted_from_us } in absences {
                let (stay_us, away_us) = (leave_us - back_us, return_us - leave_us);
                assert!(stay_us < 1_500_000 && (stay_us >= 500_000 || back_us == SPAN.start_us));
                assert!(away_us < 750_000 && (away_us >= 250_000 || return_us == SPAN.end_us));
                assert!(leave_us < SPAN.end_us && return_us <= SPAN.end_us && counted_from_us == return_us);
                back_us = return_us;
            }
        }
    }
}
