//! What clients have measured of access points, from which network.
//!
//! A measurement is a number ([`super::score::votes`] says which), and a *vote* in three *groups*: the client's network
//! (IPv4 /24, IPv6 /48), a wider one (/16, /32), and its country. In each, the members of the next narrower kind have one
//! vote each: [`customer`]s in a network, networks in a wide one, wide ones in a country. The newest vote of a voter replaces
//! its older one, once in [`INTERVAL_S`] at the most. Of a group and access point the last [`VOTES_MAX`] voters are kept,
//! and the estimate is their weighted median, a vote's weight halving each [`HALF_LIFE_S`]. A group keeps votes of
//! [`POINTS_MAX`] access points. When it has so many, a voter that brings a new one takes the place of one of which nobody
//! but itself has said anything, or else of the one of which least is known, if that is no more than a single fresh vote;
//! otherwise it is not kept there.
//!
//! So whoever lies moves little: an outlier moves a median by one rank, and pushes out what one other has said at the
//! most; one host can mislead its own network at the worst, and only as long as nobody else there speaks; and no vote is
//! out of what is possible, for whoever makes it clamps it.
//!
//! Beside that, the hosts of a network vote in the same way whether it can be where the location database says.
//!
//! No clock in here: `now_s` counts from any start. Nothing is stored: after a restart the distance speaks alone, until
//! clients have measured again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ahash::RandomState;

use super::{countries::Country, forgetful::ForgetfulMap};

/// A voter's next vote for the same access point counts after so long, in seconds.
pub const INTERVAL_S: u32 = 300;

/// After so long a vote weighs half, in seconds.
const HALF_LIFE_S: f64 = 2.0 * 3600.0;

/// After so long a vote is forgotten, in seconds: it weighs a sixteenth then.
const LIFE_S: u32 = 8 * 3600;

/// Votes kept of a group and access point.
const VOTES_MAX: usize = 11;

/// Access points of which a group keeps votes: those that its members are sent to.
const POINTS_MAX: usize = 12;

/// Votes that a network is not where the database says, weighed, under which nothing is made of them.
const DOUBTERS_MIN: f64 = 1.5;

/// Bits of an IPv6 address that are one customer's.
const CUSTOMER_BITS: u8 = 56;

/// Groups that are kept, and networks that doubts are kept of; those heard of least recently go first. With all of them
/// full, some 40 MiB.
const GROUPS_MAX: usize = 20_000;

/// The kinds of groups, from the widest to the narrowest.
pub const LEVELS: [&str; 3] = ["country", "wide network", "network"];

/// A group of clients that are likely to measure the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Group {
    Country(Country),
    /// Its first address, and how many bits of it count.
    Network(IpAddr, u8),
}

/// What a group knows of an access point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    /// How many votes it is made of, each by its weight.
    pub votes: f64,
    /// Their median.
    pub value: f64,
}

/// What the groups of a client know of an access point, as in [`LEVELS`].
pub type Measures = [Option<Measure>; LEVELS.len()];

/// All votes.
pub struct Measured {
    groups: ForgetfulMap<Group, Vec<(u64, Votes)>>,
    /// By network, whether it is somewhere else than the database says: 1 is yes.
    doubts: ForgetfulMap<Group, Votes>,
    /// Nobody outside can make two voters look like one.
    hasher: RandomState,
}

impl Default for Measured {
    fn default() -> Self {
        let (groups, doubts) = (ForgetfulMap::new(GROUPS_MAX), ForgetfulMap::new(GROUPS_MAX));
        Measured { groups, doubts, hasher: RandomState::new() }
    }
}

impl Measured {
    /// Takes what a client has measured to an access point (by [`key`]). Returns whether it counts anywhere.
    pub fn vote(&mut self, ip: IpAddr, country: Option<Country>, point: u64, value: f64, now_s: u32) -> bool {
        let mut counts = false;
        for (group, voter) in groups_and_voters(ip, country).into_iter().flatten() {
            let voter = self.hasher.hash_one(voter) as u32;
            let points = self.groups.find_or_make(group);
            let vote = Vote { voter, at_s: now_s, value: value as f32 };
            counts |= votes_for(points, point, vote).is_some_and(|votes| votes.take(vote));
        }
        counts
    }

    /// Takes whether a client has measured what can't be where the database says that it is.
    pub fn doubt(&mut self, ip: IpAddr, is_misplaced: bool, now_s: u32) {
        let (network, host) = network_and_host(ip);
        let vote = Vote { voter: self.hasher.hash_one(host) as u32, at_s: now_s, value: f32::from(is_misplaced) };
        self.doubts.find_or_make(network).take(vote);
    }

    /// Whether most of the client's network have measured what can't be where the database says that it is.
    pub fn is_doubted(&mut self, ip: IpAddr, now_s: u32) -> bool {
        let votes = self.doubts.find(&network_and_host(ip).0);
        let doubt = votes.and_then(|votes| votes.measure(now_s));
        doubt.is_some_and(|doubt| doubt.votes >= DOUBTERS_MIN && doubt.value > 0.5)
    }

    /// What is known of access points (by [`key`]) where the client is.
    pub fn of(&mut self, ip: IpAddr, country: Option<Country>, points: &[u64], now_s: u32) -> Vec<Measures> {
        let mut all = vec![Measures::default(); points.len()];
        for (level, group) in groups_and_voters(ip, country).into_iter().enumerate() {
            let Some(votes) = group.and_then(|(group, _)| self.groups.find(&group)) else { continue };
            for (of_point, point) in all.iter_mut().zip(points) {
                let found = votes.iter().find(|(known, _)| known == point);
                if let (Some((_, votes)), Some(place)) = (found, of_point.get_mut(level)) {
                    *place = votes.measure(now_s);
                }
            }
        }
        all
    }
}

/// Names an access point among the votes.
pub fn key(id: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(id.as_bytes())
}

/// As in [`LEVELS`]: a group of the client, and who votes for the client in it.
fn groups_and_voters(ip: IpAddr, country: Option<Country>) -> [Option<(Group, Group)>; LEVELS.len()] {
    let wide = if ip.is_ipv4() { 16 } else { 32 };
    let wide = Group::Network(masked(ip, wide), wide);
    let (near, host) = network_and_host(ip);
    [country.map(|country| (Group::Country(country), wide)), Some((wide, near)), Some((near, host))]
}

/// The client's network, and its vote there.
fn network_and_host(ip: IpAddr) -> (Group, Group) {
    let near = if ip.is_ipv4() { 24 } else { 48 };
    (Group::Network(masked(ip, near), near), Group::Network(customer(ip), CUSTOMER_BITS))
}

/// The addresses that one customer of a provider has, by the first of them: of IPv6 a /56, as most are given.
pub fn customer(ip: IpAddr) -> IpAddr {
    if ip.is_ipv4() { ip } else { masked(ip, CUSTOMER_BITS) }
}

/// Whether clients at these addresses are of one network, and may speak for it.
pub fn are_of_one_network(one: IpAddr, other: IpAddr) -> bool {
    network_and_host(one).0 == network_and_host(other).0
}

/// An address with nothing but its first bits.
fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

/// The votes for an access point; `None`: there is no place for them.
fn votes_for(points: &mut Vec<(u64, Votes)>, point: u64, vote: Vote) -> Option<&mut Votes> {
    let found = points.iter().position(|(known, _)| *known == point);
    let index = match found {
        Some(index) => index,
        None if points.len() < POINTS_MAX => {
            points.push((point, Votes::default()));
            points.len() - 1
        }
        None => {
            let index = place_to_take(points, vote)?;
            *points.get_mut(index)? = (point, Votes::default());
            index
        }
    };
    points.get_mut(index).map(|(_, votes)| votes)
}

/// Whose place a new access point may take.
fn place_to_take(points: &[(u64, Votes)], vote: Vote) -> Option<usize> {
    let of_voter = points.iter().position(|(_, votes)| votes.are_all_of(vote.voter));
    let known = |votes: &Votes| votes.measure(vote.at_s).map_or(0.0, |measure| measure.votes);
    of_voter.or_else(|| {
        let weights = points.iter().enumerate().map(|(index, (_, votes))| (index, known(votes), votes.newest_s()));
        let least = weights.min_by(|one, other| one.1.total_cmp(&other.1).then(one.2.cmp(&other.2)));
        least.filter(|(_, weight, _)| *weight <= vote.weight(vote.at_s)).map(|(index, ..)| index)
    })
}

#[derive(Clone, Copy, Debug)]
struct Vote {
    voter: u32,
    at_s: u32,
    value: f32,
}

impl Vote {
    fn weight(&self, now_s: u32) -> f64 {
        (-f64::from(now_s.saturating_sub(self.at_s)) / HALF_LIFE_S).exp2()
    }
}

/// Votes of different voters.
#[derive(Debug, Default)]
struct Votes(Vec<Vote>);

impl Votes {
    fn take(&mut self, vote: Vote) -> bool {
        self.0.retain(|old| vote.at_s.saturating_sub(old.at_s) < LIFE_S);
        if let Some(own) = self.0.iter_mut().find(|old| old.voter == vote.voter) {
            let counts = vote.at_s.saturating_sub(own.at_s) >= INTERVAL_S;
            if counts {
                *own = vote;
            }
            return counts;
        }
        if self.0.len() >= VOTES_MAX {
            let oldest = self.0.iter().enumerate().min_by_key(|(_, vote)| vote.at_s).map(|(index, _)| index);
            self.0.swap_remove(oldest.unwrap_or_default());
        }
        self.0.push(vote);
        true
    }

    fn are_all_of(&self, voter: u32) -> bool {
        self.0.iter().all(|vote| vote.voter == voter)
    }

    fn newest_s(&self) -> u32 {
        self.0.iter().map(|vote| vote.at_s).max().unwrap_or(0)
    }

    /// The weighted median: as much weight below as above.
    fn measure(&self, now_s: u32) -> Option<Measure> {
        let alive = self.0.iter().filter(|vote| now_s.saturating_sub(vote.at_s) < LIFE_S);
        let mut weighed: Vec<(f64, f64)> = alive.map(|vote| (f64::from(vote.value), vote.weight(now_s))).collect();
        weighed.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
        let votes: f64 = weighed.iter().map(|(_, weight)| weight).sum();
        let mut below = 0.0;
        let median = weighed.iter().find(|(_, weight)| {
            below += weight;
            below >= votes / 2.0
        });
        median.map(|(value, _)| Measure { votes, value: *value })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DE: Option<Country> = Some(*b"DE");

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn of(measured: &mut Measured, address: &str, now_s: u32) -> Measures {
        measured.of(ip(address), DE, &[key("a")], now_s)[0]
    }

    fn value(measure: Option<Measure>) -> Option<f64> {
        measure.map(|measure| measure.value)
    }

    #[test]
    fn geo_03_a_measurement_counts_for_host_network_wide_network_and_country() {
        let mut measured = Measured::default();
        assert!(measured.vote(ip("198.51.100.7"), DE, key("a"), 20.0, 0));
        for (address, known) in [
            ("198.51.100.9", [true, true, true]),
            ("198.51.7.1", [true, true, false]),
            ("203.0.113.1", [true, false, false]),
        ] {
            assert_eq!(of(&mut measured, address, 0).map(|measure| measure.is_some()), known, "{address}");
        }
        assert_eq!(measured.of(ip("203.0.113.1"), None, &[key("a")], 0), [Measures::default()]);
        assert!(measured.vote(ip("2001:db8:1:1::1"), None, key("a"), 30.0, 0));
        let near = measured.of(ip("2001:db8:1:ffff::1"), None, &[key("a"), key("b")], 0);
        assert_eq!(near[0].map(value), [None, Some(30.0), Some(30.0)]);
        assert_eq!(near[1], Measures::default());
    }

    #[test]
    fn geo_03_a_voter_has_one_vote_each_interval() {
        let mut measured = Measured::default();
        assert!(measured.vote(ip("198.51.100.7"), DE, key("a"), 20.0, 0));
        assert!(!measured.vote(ip("198.51.100.7"), DE, key("a"), 900.0, INTERVAL_S - 1), "too soon");
        assert_eq!(of(&mut measured, "198.51.100.7", INTERVAL_S).map(value), [Some(20.0); 3]);
        assert!(measured.vote(ip("198.51.100.7"), DE, key("a"), 90.0, INTERVAL_S));
        assert_eq!(of(&mut measured, "198.51.100.7", INTERVAL_S).map(value), [Some(90.0); 3], "the newest replaces it");
        // Another host of the network: a vote there, but not a second one of the network in the wider groups.
        assert!(measured.vote(ip("198.51.100.8"), DE, key("a"), 10.0, INTERVAL_S));
        assert_eq!(of(&mut measured, "198.51.100.8", INTERVAL_S).map(value), [Some(90.0), Some(90.0), Some(10.0)]);
    }

    #[test]
    fn geo_03_old_votes_fade_and_are_forgotten() {
        let mut measured = Measured::default();
        measured.vote(ip("198.51.100.7"), DE, key("a"), 20.0, 0);
        let votes =
            |measured: &mut Measured, now_s| of(measured, "198.51.100.7", now_s)[2].map(|measure| measure.votes);
        assert_eq!(votes(&mut measured, 0), Some(1.0));
        assert_eq!(votes(&mut measured, HALF_LIFE_S as u32), Some(0.5));
        assert_eq!(votes(&mut measured, LIFE_S), None);
        // Two old votes against a new one.
        measured.vote(ip("198.51.100.8"), DE, key("a"), 30.0, 0);
        measured.vote(ip("198.51.100.9"), DE, key("a"), 80.0, LIFE_S - 1);
        assert_eq!(value(of(&mut measured, "198.51.100.7", LIFE_S - 1)[2]), Some(80.0));
    }

    #[test]
    fn geo_03_a_liar_moves_its_own_network_at_the_worst() {
        let mut measured = Measured::default();
        for network in 0..5 {
            measured.vote(ip(&format!("198.51.{network}.1")), DE, key("a"), 20.0 + f64::from(network), 0);
        }
        // One host says 1 ms, again and again, and from every address of its network.
        for round in 1..20 {
            for host in 0..=255 {
                measured.vote(ip(&format!("198.51.66.{host}")), DE, key("a"), 1.0, round * INTERVAL_S);
            }
        }
        let wide = of(&mut measured, "198.51.4.1", 20 * INTERVAL_S)[1].unwrap();
        assert!((20.0..=24.0).contains(&wide.value) && wide.votes <= 6.0, "{wide:?}");
        assert_eq!(value(of(&mut measured, "198.51.4.1", 20 * INTERVAL_S)[2]), Some(24.0));
    }

    /// Twelve access points, of which all of a country and of a wide network have measured all.
    fn all_known() -> (Measured, Vec<u64>) {
        let mut measured = Measured::default();
        let points: Vec<u64> = (0..POINTS_MAX).map(|number| key(&format!("known-{number}"))).collect();
        for voter in 0..VOTES_MAX {
            for &point in &points {
                measured.vote(ip(&format!("198.51.{voter}.1")), DE, point, 1.0, 0);
                measured.vote(ip(&format!("198.{}.0.1", 100 + voter)), DE, point, 1.0, 0);
            }
        }
        (measured, points)
    }

    #[test]
    fn geo_03_a_liar_pushes_out_nothing_that_others_know() {
        let (mut measured, points) = all_known();
        for second in 0..2 * INTERVAL_S {
            for number in 0..POINTS_MAX {
                measured.vote(ip("198.51.66.1"), DE, key(&format!("junk-{number}")), 600.0, second);
            }
            points.iter().for_each(|&point| _ = measured.vote(ip("198.51.66.1"), DE, point, 600.0, second));
        }
        for [country, wide, _] in measured.of(ip("198.51.4.1"), DE, &points, 2 * INTERVAL_S) {
            for of_group in [country, wide] {
                let Measure { votes, value } = of_group.unwrap();
                assert!(votes > 10.0 && value == 1.0, "{votes} votes for {value}");
            }
        }
    }

    #[test]
    fn geo_03_a_liar_pushes_out_one_of_which_little_is_known_at_the_most() {
        let mut measured = Measured::default();
        let points: Vec<u64> = (0..POINTS_MAX).map(|number| key(&format!("known-{number}"))).collect();
        points.iter().zip(1..).for_each(|(&point, host)| {
            measured.vote(ip(&format!("198.51.100.{host}")), DE, point, 1.0, 0);
        });
        for number in 0..100 {
            measured.vote(ip("198.51.100.66"), DE, key(&format!("junk-{number}")), 600.0, 0);
        }
        let known = |measured: &mut Measured, now_s| {
            let of_points = measured.of(ip("198.51.100.1"), DE, &points, now_s);
            of_points.iter().filter(|measures| measures[2].is_some()).count()
        };
        assert_eq!(known(&mut measured, 0), POINTS_MAX - 1);
        // What has faded makes room for what somebody has just measured.
        assert!(measured.vote(ip("198.51.100.9"), DE, key("new"), 1.0, LIFE_S));
        assert_eq!(value(measured.of(ip("198.51.100.9"), DE, &[key("new")], LIFE_S)[0][2]), Some(1.0));
    }

    /// Who has a /56 has 256 networks of 2^64 addresses, and one vote.
    #[test]
    fn geo_03_a_customer_with_many_ipv6_networks_has_one_vote() {
        let mut measured = Measured::default();
        let [honest, other] = ["2001:db8:1:100::1", "2001:db8:1:200::1"];
        [honest, other].into_iter().for_each(|address| _ = measured.vote(ip(address), DE, key("a"), 20.0, 0));
        for network in 0..=255 {
            measured.vote(ip(&format!("2001:db8:1:ff{network:02x}::1")), DE, key("a"), 900.0, 1);
            measured.doubt(ip(&format!("2001:db8:1:ff{network:02x}::1")), true, 1);
        }
        let near = of(&mut measured, honest, 1)[2].unwrap();
        assert!(near.value == 20.0 && near.votes < 3.1, "{near:?}");
        assert!(!measured.is_doubted(ip(honest), 1));
    }

    #[test]
    fn geo_03_doubts_of_a_network_are_its_hosts_alone() {
        let mut measured = Measured::default();
        for second in 0..INTERVAL_S {
            measured.doubt(ip("198.51.100.1"), true, second);
        }
        assert!(!measured.is_doubted(ip("198.51.100.1"), INTERVAL_S), "one is no majority");
        measured.doubt(ip("198.51.100.2"), true, INTERVAL_S);
        assert!(measured.is_doubted(ip("198.51.100.3"), INTERVAL_S));
        assert!(!measured.is_doubted(ip("198.51.101.3"), INTERVAL_S), "another network");
        for host in 3..=6 {
            measured.doubt(ip(&format!("198.51.100.{host}")), false, INTERVAL_S);
        }
        assert!(!measured.is_doubted(ip("198.51.100.3"), INTERVAL_S));
    }

    #[test]
    fn geo_03_memory_is_bounded() {
        let mut measured = Measured::default();
        for number in 0..2 * GROUPS_MAX as u32 {
            let address = IpAddr::V4(Ipv4Addr::from_bits(number << 8));
            measured.vote(address, None, key("a"), 20.0, 0);
        }
        assert!(measured.groups.len() <= GROUPS_MAX);
        for number in 0..1_000 {
            measured.vote(ip("198.51.100.7"), DE, key(&format!("point-{number}")), 20.0, number);
            measured.vote(ip(&format!("198.51.100.{}", number % 256)), DE, key("a"), 20.0, number * INTERVAL_S);
        }
        let points = measured.groups.find(&Group::Network(ip("198.51.100.0"), 24)).unwrap();
        assert!(points.len() <= POINTS_MAX && points.iter().all(|(_, votes)| votes.0.len() <= VOTES_MAX));
    }

    proptest! {
        /// Fewer than half of the voters, whatever they say, do not move the median out of what the others say.
        #[test]
        fn geo_03_fewer_than_half_cannot_move_the_median_away(
            honest in prop::collection::vec(10.0..100.0f64, 6),
            lies in prop::collection::vec(prop_oneof![Just(0.0), Just(3_000.0), 0.0..3_000.0], 0..=5),
            order in any::<u64>(),
        ) {
            let mut votes: Vec<f64> = honest.iter().chain(&lies).copied().collect();
            let by = (order % votes.len() as u64) as usize;
            votes.rotate_left(by);
            let mut measured = Measured::default();
            for (host, value) in votes.iter().enumerate() {
                measured.vote(ip(&format!("198.51.100.{host}")), DE, key("a"), *value, 0);
            }
            let found = value(of(&mut measured, "198.51.100.1", 0)[2]).unwrap();
            let (least, most) = honest.iter().fold((f64::MAX, 0.0f64), |(least, most), &ms| (least.min(ms), most.max(ms)));
            prop_assert!((least - 0.01..=most + 0.01).contains(&found));
        }
    }
}
