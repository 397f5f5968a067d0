//! Which access points a client should try, and in which order: a pure function of what is known.
//!
//! | term | from | what it does |
//! | --- | --- | --- |
//! | distance | the location database, [`usual_ms`] | what a round trip should take: where the estimate begins |
//! | measured | votes of the country, the wider network, the network | how many times as long as usual: each moves the estimate towards its median, the wider ones less ([`TRUST`]); [`PRIOR_VOTES`] stand for the distance; the mean of all, the logarithm's |
//! | floor | the distance, [`floor_ms`] | nobody is believed to be faster than light: what is reported is clamped to it |
//! | doubt | round trips that do not fit the place | a network most of whose voters measure what can't be ([`DOUBT_MS`], [`DOUBT_SHARE`]) is nowhere |
//! | unknown | no place in the database | votes of such networks are milliseconds; without them the estimate is [`UNKNOWN_MS`]: what is measured to be better goes first, and the rest by weight |
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
//! Clients measure the first few that they are told ([`RACED`]). So that a wrong first guess is not for ever, one client in
//! [`EXPLORE_ONE_IN`] is told in the last of these places one that could be the best by its distance and of which little
//! is known; a client that is nowhere always is, and in all of these places but the first.
//!
//! **What a vote is.** What a network adds to every round trip (its last mile) says nothing about access points, and would
//! make those that were measured look worse than those that were not. So the access points of one report are compared: the
//! one with the least over its usual time counts as usual, and the others as so much longer. A median of such factors
//! means the same all over a country, where round trips themselves do not.

use super::{
    access_points::AccessPoint,
    measured::{LEVELS, Measures},
    place::{Place, floor_ms, usual_ms},
};

/// How many votes the distance counts as.
const PRIOR_VOTES: f64 = 4.0;

/// What a vote weighs in each of [`LEVELS`]: the wider the group, the less it says about one client.
const TRUST: [f64; LEVELS.len()] = [0.2, 0.4, 1.0];

/// Longer round trips, and attempts that failed, count as this one, in milliseconds.
const RTT_MS_MAX: f64 = 3_000.0;

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

/// Access points that clients measure before they choose (WIRE.md).
const RACED: usize = 3;

/// One client in so many is told one of which little is known: less than so many votes, weighed; for a client that is
/// nowhere, none.
const EXPLORE_ONE_IN: u64 = 4;
const EXPLORED_VOTES: f64 = 3.0;

/// If all of a report take so much longer than usual, in milliseconds, or one so much less than light takes, then the
/// client is not where the database says.
const DOUBT_MS: f64 = 100.0;
const DOUBT_SHARE: f64 = 0.8;

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

/// The round trip: by distance, as many times as long as the groups have measured; without a place, as they have
/// measured. The mean is a geometric one: a single vote, however wild, does not carry the few others with it.
fn estimate_ms(distance_km: Option<f64>, measures: &Measures) -> f64 {
    let (usual_ms, prior_votes) = distance_km.map_or((1.0, 0.0), |km| (usual_ms(km), PRIOR_VOTES));
    let (sum, votes) = weighed(measures).fold((0.0, prior_votes), |(sum, votes), (value, more)| {
        (sum + value.max(f64::MIN_POSITIVE).ln() * more, votes + more)
    });
    if votes > 0.0 { (sum / votes).exp() * usual_ms } else { UNKNOWN_MS }
}

/// What the groups say, and how much it weighs.
fn weighed(measures: &Measures) -> impl Iterator<Item = (f64, f64)> {
    let levels = measures.iter().zip(TRUST);
    levels.filter_map(|(measure, trust)| measure.map(|measure| (measure.value, measure.votes * trust)))
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

/// Puts some of which little is known where they are measured, now and then.
fn explore(alike: &mut [Scored<'_>], asker: Asker<'_>) {
    let Some(best_ms) = alike.first().map(|best| best.rtt_ms) else { return };
    let (explores, from, explored_votes) = match asker.place {
        Some(_) => (hash(asker.draw, "", Draw::Explore).is_multiple_of(EXPLORE_ONE_IN), RACED - 1, EXPLORED_VOTES),
        None => (true, 1, f64::MIN_POSITIVE),
    };
    let could_be_best = |one: &Scored<'_>| one.distance_km.is_none_or(|km| floor_ms(km) < best_ms);
    let is_unknown = |one: &Scored<'_>| weighed(&one.measures).map(|(_, votes)| votes).sum::<f64>() < explored_votes;
    for place in (from..RACED).filter(|_| explores) {
        let choices = alike.iter().enumerate().skip(RACED).filter(|(_, one)| could_be_best(one) && is_unknown(one));
        let chosen = choices.min_by_key(|(_, one)| hash(asker.draw, &one.point.id, Draw::Explore));
        let Some((chosen, _)) = chosen else { return };
        alike[place..=chosen].rotate_right(1);
        alike[place].explored = true;
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

/// What a report of round trips (`None`: there was no connection) is as votes: with a place, how many times as long as
/// usual each is; without one, milliseconds. `None`: it says nothing, for there is nothing to compare it with.
pub fn votes(place: Option<Place>, round_trips: &[(&AccessPoint, Option<f64>)]) -> Vec<Option<f64>> {
    let Some(place) = place else {
        let ms = round_trips.iter().map(|(_, rtt_ms)| Some(rtt_ms.unwrap_or(RTT_MS_MAX).min(RTT_MS_MAX)));
        return ms.collect();
    };
    let times = round_trips.iter().map(|(point, rtt_ms)| {
        let km = place.distance_km(point.place);
        (rtt_ms.map(|rtt_ms| rtt_ms.clamp(floor_ms(km), RTT_MS_MAX)), usual_ms(km))
    });
    let times: Vec<(Option<f64>, f64)> = times.collect();
    let over = times.iter().filter_map(|(rtt_ms, usual_ms)| Some((*rtt_ms)? - usual_ms));
    let last_mile_ms = over.clone().fold(f64::MAX, f64::min);
    let is_alone = over.count() < 2;
    let votes = times.into_iter().map(|(rtt_ms, usual_ms)| match rtt_ms {
        None => Some(RTT_MS_MAX / usual_ms),
        Some(_) if is_alone => None,
        Some(rtt_ms) => Some((rtt_ms - last_mile_ms) / usual_ms),
    });
    votes.collect()
}

/// Whether a client that has measured this can't be where the database says; `None`: nothing was measured.
pub fn is_misplaced(place: Place, round_trips: &[(&AccessPoint, Option<f64>)]) -> Option<bool> {
    let reached = round_trips.iter().filter_map(|(point, rtt_ms)| Some((place.distance_km(point.place), (*rtt_ms)?)));
    let is_too_fast = reached.clone().any(|(km, rtt_ms)| rtt_ms < floor_ms(km) * DOUBT_SHARE);
    let least_over_ms = reached.map(|(km, rtt_ms)| rtt_ms - usual_ms(km)).min_by(f64::total_cmp)?;
    Some(is_too_fast || least_over_ms > DOUBT_MS)
}

#[cfg(test)]
#[path = "score_tests.rs"]
mod tests;
