//! Which access points a client should try, and in which order: a pure function of what is known.
//!
//! | term | from | what it does |
//! | --- | --- | --- |
//! | distance | the location database, [`place::usual_ms`] | what a round trip should take: where the estimate begins |
//! | measured | votes of the country, the wider network, the network | each moves the estimate towards its median: by half once it has [`PRIOR_VOTES`] votes, by more with more |
//! | floor | the distance, [`place::floor_ms`] | nobody is believed to be faster than light: votes are clamped to it when they come in |
//! | unknown | neither distance nor votes | the estimate is [`UNKNOWN_MS`]: whoever is measured to be better goes first, and the rest by weight |
//! | stickiness | where the client is now | that one counts as [`STICKY_SHARE`] better, at least [`STICKY_MS_MIN`]; and stays first among its equals |
//! | near-equal | the best estimate | up to [`NEAR_SHARE`] and [`NEAR_MS`] more than the best is as good as the best |
//! | weight | the operator | among near-equal ones, which share of clients comes to each first |
//! | free capacity | sessions and capacity as reported | multiplies the weight; one that reports nothing counts as empty |
//! | room | the same, and the client's draw | from [`FILLING`] to [`FULL`] of its capacity an access point is full for ever more clients, then for all who are not there yet |
//! | health | checks, and reports of the access point | an unhealthy one is not told, as long as others are healthy |
//! | drain | the operator | a drained one is told to nobody |
//!
//! What has room goes before what is full, what is full before what is unhealthy, and only the first kind that there is
//! is told. Draws differ from client to client and spread them over near-equal access points, so that not everybody
//! runs to the one that is best by a hair or has just become free.
//!
//! Clients measure the first few that they are told. So that a wrong first guess is not for ever, one client in
//! [`EXPLORE_ONE_IN`] is told in third place one that could be the best by its distance and of which little is known.

use super::{
    access_points::AccessPoint,
    measured::{Measures, RTT_MS_MAX},
    place::{Place, floor_ms, usual_ms},
};

/// Votes that weigh as much as what was thought before.
const PRIOR_VOTES: f64 = 2.0;

/// A round trip of which nothing is known, in milliseconds.
const UNKNOWN_MS: f64 = 150.0;

/// How much better the client's present access point counts: this share of its round trip, and at least so many
/// milliseconds.
const STICKY_SHARE: f64 = 0.10;
const STICKY_MS_MIN: f64 = 5.0;

/// What is as good as the best: this share and so many milliseconds more.
const NEAR_SHARE: f64 = 0.05;
const NEAR_MS: f64 = 1.0;

/// From which part of its capacity on an access point is full for some, and from which for all who are not there yet.
const FILLING: f64 = 0.80;
const FULL: f64 = 0.97;

/// Access points that a client is told, at the most.
pub const TOLD_MAX: usize = 8;

/// One client in so many is told one in third place of which little is known: that many votes in all.
const EXPLORE_ONE_IN: u64 = 8;
const EXPLORED_VOTES: f64 = 3.0;

/// How an access point is, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Status {
    pub healthy: bool,
    /// Sessions and capacity; `None`: it does not say.
    pub load: Option<(u64, u64)>,
}

impl Status {
    /// The part of its capacity that is used.
    fn used(&self) -> f64 {
        self.load.map_or(0.0, |(sessions, capacity)| sessions as f64 / capacity.max(1) as f64)
    }
}

/// An access point, how it is, and what the client's groups have measured to it.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    pub point: &'a AccessPoint,
    pub status: Status,
    pub measures: Measures,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    pub place: Option<Place>,
    /// The access point where it is, or was last; empty: none.
    pub current: &'a str,
    /// Drawn for it.
    pub draw: u64,
}

/// Whether an access point can be entered; the better first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Room,
    Full,
    Unhealthy,
    Drained,
}

/// An access point with all that was thought about it.
#[derive(Clone, Debug)]
pub struct Scored<'a> {
    pub point: &'a AccessPoint,
    pub status: Status,
    pub measures: Measures,
    pub standing: Standing,
    pub distance_km: Option<f64>,
    /// What a round trip should take by distance and measurements.
    pub rtt_ms: f64,
    /// Taken off because the client is there.
    pub sticky_ms: f64,
    /// As good as the best.
    pub near: bool,
    /// Of clients in the same situation, this many in a hundred are told it first.
    pub share_percent: u32,
    /// Stands before its turn, to be measured.
    pub explored: bool,
    /// The client is told it.
    pub told: bool,
}

impl Scored<'_> {
    fn cost_ms(&self) -> f64 {
        self.rtt_ms - self.sticky_ms
    }

    /// How much of what comes it takes beside its equals.
    fn weight(&self) -> f64 {
        f64::from(self.point.weight) * (1.0 - self.status.used()).clamp(0.05, 1.0)
    }
}

/// Puts access points in order, the best first; those that are told to the client before those that are not.
pub fn decide<'a>(candidates: Vec<Candidate<'a>>, asker: Asker<'_>) -> Vec<Scored<'a>> {
    let mut scored: Vec<_> = candidates.into_iter().map(|candidate| score(candidate, asker)).collect();
    scored.sort_by(|one, other| {
        let by_cost = one.cost_ms().total_cmp(&other.cost_ms());
        one.standing.cmp(&other.standing).then(by_cost).then_with(|| one.point.id.cmp(&other.point.id))
    });
    let Some(best) = scored.first().filter(|best| best.standing < Standing::Drained) else { return scored };
    let (standing, near_ms) = (best.standing, best.cost_ms().max(0.0) * (1.0 + NEAR_SHARE) + NEAR_MS);
    let alike = scored.partition_point(|one| one.standing == standing);
    let near = scored.partition_point(|one| one.standing == standing && one.cost_ms() <= near_ms);
    spread(&mut scored[..near], asker);
    explore(&mut scored[..alike], asker);
    scored.iter_mut().take(alike.min(TOLD_MAX)).for_each(|one| one.told = true);
    scored
}

fn score<'a>(candidate: Candidate<'a>, asker: Asker<'_>) -> Scored<'a> {
    let Candidate { point, status, measures } = candidate;
    let distance_km = asker.place.map(|place| place.distance_km(point.place));
    let is_current = point.id == asker.current;
    let rtt_ms = estimate_ms(distance_km, &measures);
    let sticky_ms = if is_current { (rtt_ms * STICKY_SHARE).max(STICKY_MS_MIN) } else { 0.0 };
    let standing = standing(point, status, is_current, asker.draw);
    let (near, share_percent, explored, told) = (false, 0, false, false);
    Scored { point, status, measures, standing, distance_km, rtt_ms, sticky_ms, near, share_percent, explored, told }
}

/// The round trip: by distance, moved by what the groups have measured, the widest first, so that the narrowest has
/// the last word.
fn estimate_ms(distance_km: Option<f64>, measures: &Measures) -> f64 {
    let by_distance = distance_km.map(usual_ms);
    let moved = measures.iter().flatten().fold(by_distance, |before, measure| match before {
        None => Some(measure.rtt_ms),
        Some(before) => Some((before * PRIOR_VOTES + measure.rtt_ms * measure.votes) / (PRIOR_VOTES + measure.votes)),
    });
    moved.unwrap_or(UNKNOWN_MS)
}

fn standing(point: &AccessPoint, status: Status, is_current: bool, draw: u64) -> Standing {
    // Who is there takes no more room by coming back.
    let full_from = if is_current { 1.0 } else { FILLING + (FULL - FILLING) * unit(draw, &point.id, Draw::Room) };
    match status {
        _ if point.drained => Standing::Drained,
        Status { healthy: false, .. } => Standing::Unhealthy,
        _ if status.load.is_some() && status.used() >= full_from => Standing::Full,
        _ => Standing::Room,
    }
}

/// Orders near-equal access points by the client's draw, so that each comes first as often as its weight says; where
/// the client is now comes first.
fn spread(near: &mut [Scored<'_>], asker: Asker<'_>) {
    let total: f64 = near.iter().map(Scored::weight).sum();
    for one in near.iter_mut() {
        one.near = true;
        one.share_percent = (one.weight() / total * 100.0).round() as u32;
    }
    // The first of exponential waits whose rates are the weights.
    let wait = |one: &Scored<'_>| match one.point.id == asker.current {
        true => -1.0,
        false => -unit(asker.draw, &one.point.id, Draw::Order).ln() / one.weight(),
    };
    near.sort_by(|one, other| wait(one).total_cmp(&wait(other)));
}

/// Puts one of which little is known into third place, now and then.
fn explore(alike: &mut [Scored<'_>], asker: Asker<'_>) {
    let Some(best_ms) = alike.first().map(|best| best.rtt_ms) else { return };
    if hash(asker.draw, "", Draw::Explore) % EXPLORE_ONE_IN != 0 {
        return;
    }
    let could_be_best = |one: &Scored<'_>| one.distance_km.is_none_or(|km| floor_ms(km) < best_ms);
    let is_unknown =
        |one: &Scored<'_>| one.measures.iter().flatten().map(|measure| measure.votes).sum::<f64>() < EXPLORED_VOTES;
    let choices = alike.iter().enumerate().skip(3).filter(|(_, one)| could_be_best(one) && is_unknown(one));
    let chosen = choices.min_by_key(|(_, one)| hash(asker.draw, &one.point.id, Draw::Explore)).map(|(index, _)| index);
    if let Some(chosen) = chosen {
        alike[2..=chosen].rotate_right(1);
        alike[2].explored = true;
    }
}

/// Draws of one client that have nothing to do with each other.
#[derive(Clone, Copy)]
enum Draw {
    Room,
    Order,
    Explore,
}

fn hash(draw: u64, id: &str, of: Draw) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(id.as_bytes(), draw ^ (of as u64) << 56)
}

/// Above 0, up to 1.
fn unit(draw: u64, id: &str, of: Draw) -> f64 {
    ((hash(draw, id, of) >> 11) + 1) as f64 / (1u64 << 53) as f64
}

/// What a measurement to an access point counts as: not less than light takes from where the client is.
pub fn clamped_ms(rtt_ms: f64, client: Option<Place>, point: &AccessPoint) -> f64 {
    let floor = client.map_or(0.0, |place| floor_ms(place.distance_km(point.place)));
    rtt_ms.clamp(floor.min(RTT_MS_MAX), RTT_MS_MAX)
}

#[cfg(test)]
#[path = "score_tests.rs"]
mod tests;
