//! `gateway world`: a simulator that shows what routing makes of the world, before anybody deploys anything.
//!
//! Users in the cities of [`cities`] ask, race, measure, report and log in through the very code that serves them, in a
//! world ([`earth`]) whose ways are longer than they need be, whose location database is wrong here and there, and some
//! of whose users lie. Each login is compared with the best access point that there was. The same seed makes the same
//! run.

mod cities;
mod earth;
mod run;

use std::fmt::Write as _;

use self::run::Run;
use super::{GeoConfig, access_points::AccessPoint, regions::Region};

/// Sessions that an access point of the simulated deployment may have, where the operator names none.
const CAPACITY_DEFAULT: u64 = 1_500;

/// What happens in a run.
#[derive(Clone, Debug)]
pub enum Event {
    /// All access points of a region fail, and keep whom they have.
    Fail(String),
    /// The same, and all users there lose their connections.
    Drop(String),
    /// Many users of a city come, beside the others.
    Crowd { city: &'static str, logins_per_second: u32, seconds: u32 },
}

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// The access points, each with a capacity.
    pub config: GeoConfig,
    pub seconds: u32,
    pub logins_per_second: u32,
    /// How long a user stays, on average.
    pub stay_s: f64,
    /// Logins count from then on.
    pub warm_up_s: u32,
    /// Clients report what they measure.
    pub reports: bool,
    /// By the second.
    pub events: Vec<(u32, Event)>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Logins that count, and of them those within a tenth of the best round trip.
    pub logins: u64,
    pub good: u64,
    /// How much longer each one's round trip is than the best, in milliseconds.
    pub excess_ms: Vec<f64>,
    /// Users who found nobody to take them.
    pub lost: u64,
    /// Users who went elsewhere when they asked again.
    pub moves: u64,
    /// Of these, moves to one that is more than a tenth slower.
    pub worse_moves: u64,
    /// Seconds at whose end an access point was over its capacity while another had room.
    pub overfull_s: u32,
    /// The last second in which a failed access point had sessions.
    pub last_on_failed_s: u32,
    /// Sessions at the end, and the most that each access point had.
    pub sessions: u64,
    pub most: Vec<u64>,
}

impl Outcome {
    /// Of a hundred logins, so many were within a tenth of the best.
    pub fn good_percent(&self) -> f64 {
        self.good as f64 * 100.0 / self.logins.max(1) as f64
    }

    /// So many of a hundred logins have at most this excess.
    fn excess_ms_at(&self, percent: usize) -> f64 {
        let mut excess_ms = self.excess_ms.clone();
        excess_ms.sort_unstable_by(f64::total_cmp);
        excess_ms.get((excess_ms.len() * percent / 100).min(excess_ms.len().saturating_sub(1))).copied().unwrap_or(0.0)
    }
}

impl Plan {
    /// An ordinary quarter of an hour, after one in which clients have begun to measure.
    pub fn ordinary(seed: u64, config: &GeoConfig) -> Plan {
        let config = GeoConfig { access_points: points(config), expires_seconds: 120, ..config.clone() };
        let (seconds, warm_up_s) = (900, 450);
        Plan {
            seed,
            config,
            seconds,
            logins_per_second: 20,
            stay_s: 300.0,
            warm_up_s,
            reports: true,
            events: Vec::new(),
        }
    }

    /// Runs it.
    pub fn run(&self) -> Outcome {
        Run::new(self).finish()
    }
}

/// The operator's access points, or one in each region.
fn points(config: &GeoConfig) -> Vec<AccessPoint> {
    let of_region = |region: &Region| AccessPoint {
        id: region.id.clone(),
        addresses: vec![format!("{}.example.com:443", region.id)],
        region: region.id.clone(),
        place: region.coordinates,
        weight: 100,
        capacity: CAPACITY_DEFAULT,
        drained: false,
    };
    let mut points = config.access_points.clone();
    if points.is_empty() {
        points = config.regions.iter().map(of_region).collect();
    }
    for point in &mut points {
        point.capacity = if point.capacity == 0 { CAPACITY_DEFAULT } else { point.capacity };
    }
    points
}

/// Runs what an operator would like to know, and says what came of it.
pub fn report(seed: u64, config: &GeoConfig) -> String {
    let ordinary = Plan::ordinary(seed, config);
    let blind = Plan { reports: false, ..ordinary.clone() };
    let busiest = ordinary.run();
    let failing = busiest.most.iter().enumerate().max_by_key(|(_, most)| **most).map_or(0, |(index, _)| index);
    let failing = ordinary.config.access_points[failing].region.clone();
    let failed = Plan { events: vec![(500, Event::Fail(failing.clone()))], ..ordinary.clone() };
    let dropped = Plan { events: vec![(500, Event::Drop(failing.clone()))], ..ordinary.clone() };
    let crowd = Event::Crowd { city: "Jakarta", logins_per_second: 40, seconds: 200 };
    let crowded = Plan { events: vec![(500, crowd)], ..ordinary.clone() };
    let mut text = format!(
        "World with seed {seed}: {} access points, {} logins a second, {} seconds\n\n{:<38} {:>7} {:>10} {:>9} {:>9} {:>6} {:>6} {:>9}\n",
        ordinary.config.access_points.len(),
        ordinary.logins_per_second,
        ordinary.seconds,
        "",
        "logins",
        "within 10%",
        "p95 +ms",
        "p99 +ms",
        "moves",
        "lost",
        "overfull"
    );
    let mut line = |name: &str, outcome: &Outcome| {
        let _ = writeln!(
            text,
            "{name:<38} {:>7} {:>9.1}% {:>9.1} {:>9.1} {:>6} {:>6} {:>7} s",
            outcome.logins,
            outcome.good_percent(),
            outcome.excess_ms_at(95),
            outcome.excess_ms_at(99),
            outcome.moves,
            outcome.lost,
            outcome.overfull_s
        );
    };
    line("by distance alone", &blind.run());
    line("with what clients measure", &busiest);
    let after_failure = failed.run();
    line(&format!("{failing} fails after 500 s"), &after_failure);
    line(&format!("{failing} drops its users after 500 s"), &dropped.run());
    line("a crowd in Jakarta after 500 s", &crowded.run());
    let _ = writeln!(
        text,
        "\nWithin 10%: logins whose round trip is at most a tenth longer than the best one's that was alive and had room.\n\
         Nobody was on {failing} any more {} s after it failed; answers hold for {} s.",
        (after_failure.last_on_failed_s + 1).saturating_sub(500),
        ordinary.config.expires_seconds
    );
    text
}

#[cfg(test)]
mod tests;
