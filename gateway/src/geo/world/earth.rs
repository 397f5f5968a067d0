//! How the simulated world really is: networks of users, how long their round trips take, what a location database
//! says of them, and how exactly they measure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use backend::env::{Rng, SeededRng};

use super::{
    super::{
        access_points::AccessPoint,
        countries,
        database::{Location, Whereabouts},
        place::floor_ms,
    },
    cities::{CITIES, City},
};

/// Networks (/24) of users.
const NETWORKS: u32 = 1_000;

/// The first of their addresses.
const ADDRESSES_FROM: u32 = u32::from_be_bytes([20, 0, 0, 0]);

/// Of a hundred networks, so many are anywhere else than the database says, so many in another city of the country, and so
/// many are not in it.
const WRONG_PERCENT: u64 = 2;
const WRONG_CITY_PERCENT: u64 = 10;
const UNKNOWN_PERCENT: u64 = 2;

/// Of a hundred pairs of a country and an access point, and of a city and an access point, so many are joined by a long
/// way round.
const COUNTRY_DETOURS_PERCENT: u64 = 5;
const CITY_DETOURS_PERCENT: u64 = 2;

/// Of a hundred measurements, so many meet something that makes them three times as long.
const SPIKES_PERCENT: u64 = 1;

/// Draws numbers.
pub struct Dice(SeededRng);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(SeededRng::new(seed))
    }

    /// 64 random bits.
    pub fn bits(&self) -> u64 {
        self.0.next_u64()
    }

    /// From 0 to below `bound`.
    pub fn below(&self, bound: u64) -> u64 {
        self.bits() % bound.max(1)
    }

    /// Above 0, up to 1.
    pub fn unit(&self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// In so many of a hundred cases.
    pub fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Of an exponential distribution.
    pub fn wait(&self, mean: f64) -> f64 {
        -self.unit().ln() * mean
    }
}

/// Users that share an access network.
struct Network {
    city: usize,
    /// What the way to the internet takes, there and back.
    last_mile_ms: f64,
    /// As the database has it.
    location: Location,
}

/// The world.
pub struct Earth {
    networks: Vec<Network>,
    /// By city, then by access point: the way between them, there and back.
    ways_ms: Vec<Vec<f64>>,
    /// Networks by how often a user is in them: sums of the weights up to each.
    weights: Vec<f64>,
}

impl Earth {
    /// A world with these access points.
    pub fn new(dice: &Dice, points: &[AccessPoint]) -> Self {
        let longer = |percent, most: f64| {
            let detour = if dice.percent(percent) { 0.8 } else { 0.0 };
            most * dice.unit() * dice.unit() + detour
        };
        let mut by_country = BTreeMap::<(&str, usize), f64>::new();
        let mut way = |(_, country, place, _): &City, index: usize, point: &AccessPoint| {
            let of_country = by_country.entry((country, index)).or_insert_with(|| longer(COUNTRY_DETOURS_PERCENT, 0.6));
            let stretch = 1.2 + *of_country + longer(CITY_DETOURS_PERCENT, 0.4);
            2.0 + floor_ms(place.distance_km(point.place)) * stretch
        };
        let mut ways = |city| points.iter().enumerate().map(|(index, point)| way(city, index, point)).collect();
        let ways_ms = CITIES.iter().map(&mut ways).collect();
        let people: f64 = CITIES.iter().map(|city| city.3).sum();
        let (mut networks, mut weights) = (Vec::new(), Vec::new());
        for (city, (_, _, _, millions)) in CITIES.iter().enumerate() {
            let count = (f64::from(NETWORKS) * millions / people).ceil();
            for _ in 0..count as u32 {
                let location = said(city, dice);
                networks.push(Network { city, last_mile_ms: 3.0 + dice.wait(6.0), location });
                weights.push(weights.last().copied().unwrap_or(0.0) + millions / count);
            }
        }
        Earth { networks, ways_ms, weights }
    }

    /// A user somewhere, by an address.
    pub fn user(&self, dice: &Dice) -> Ipv4Addr {
        let at = dice.unit() * self.weights.last().copied().unwrap_or(0.0);
        let network = self.weights.partition_point(|sum| *sum < at).min(self.networks.len() - 1);
        address(network, dice)
    }

    /// A user in a city.
    pub fn user_in(&self, city: &str, dice: &Dice) -> Ipv4Addr {
        let there = |network: &Network| CITIES[network.city].0 == city;
        let first = self.networks.iter().position(there).expect("a city of the world");
        let count = self.networks.iter().filter(|network| there(network)).count();
        address(first + dice.below(count as u64) as usize, dice)
    }

    /// How long a round trip from an address to each access point really takes, in milliseconds.
    pub fn rtt_ms(&self, user: Ipv4Addr, point: usize) -> f64 {
        let network = self.network(user);
        network.map_or(f64::MAX, |network| network.last_mile_ms + self.ways_ms[network.city][point])
    }

    /// The same as a client measures it.
    pub fn measured_ms(&self, user: Ipv4Addr, point: usize, dice: &Dice) -> f64 {
        let spike = if dice.percent(SPIKES_PERCENT) { 3.0 } else { 1.0 };
        self.rtt_ms(user, point) * (1.0 + dice.wait(0.02)) * spike + dice.wait(0.5)
    }

    fn network(&self, user: Ipv4Addr) -> Option<&Network> {
        self.networks.get((user.to_bits().wrapping_sub(ADDRESSES_FROM) >> 8) as usize)
    }
}

impl Whereabouts for Earth {
    fn locate(&self, ip: IpAddr) -> Location {
        let IpAddr::V4(ip) = ip else { return Location::default() };
        self.network(ip).map_or_else(Location::default, |network| network.location)
    }
}

/// What the database says of a network in a city.
fn said(city: usize, dice: &Dice) -> Location {
    let any = |of: &[usize]| of[dice.below(of.len() as u64) as usize];
    let city = match dice.below(100) {
        at if at < UNKNOWN_PERCENT => return Location::default(),
        at if at < UNKNOWN_PERCENT + WRONG_PERCENT => any(&Vec::from_iter(0..CITIES.len())),
        at if at < UNKNOWN_PERCENT + WRONG_PERCENT + WRONG_CITY_PERCENT => {
            let of_country = (0..CITIES.len()).filter(|other| CITIES[*other].1 == CITIES[city].1);
            any(&of_country.collect::<Vec<_>>())
        }
        _ => city,
    };
    let (_, country, place, _) = CITIES[city];
    Location { country: countries::code(country), place: Some(place) }
}

fn address(network: usize, dice: &Dice) -> Ipv4Addr {
    Ipv4Addr::from_bits(ADDRESSES_FROM + ((network as u32) << 8) + dice.below(256) as u32)
}
