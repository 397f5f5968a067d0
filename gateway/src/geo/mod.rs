//! Geo-routing (GEO-01 to GEO-04): tells a client where to connect, in order, before it logs in.
//!
//! - [`score`]: the decision, a pure function, with its terms in a table.
//! - [`directory`]: the access points there are, and how each is. [`access_points`], [`regions`]: as configured.
//! - [`database`]: where an address is. [`countries`], [`place`]: on the earth.
//! - [`measured`]: what clients have measured. [`token`]: who may report.
//! - [`here`]: questions of this node's clients. [`http`]: `GET /v1/locate`. The command `Locate` and reports come in through `shard/routing.rs`.
//! - [`members`]: nodes of the deployment as access points.
//! - [`checks`]: looks after access points and the database, in the background.
//! - [`explain`]: `gateway locate`. [`world`]: `gateway world`, a simulator of all this.
//!
//! What may not live here: nodes, leases and links; the directory is told of them.

pub mod access_points;
pub mod checks;
mod countries;
pub mod database;
pub mod directory;
pub mod explain;
mod forgetful;
pub mod here;
pub mod http;
mod measured;
mod members;
#[cfg(test)]
#[path = "../../../tests/src/mmdb.rs"]
mod mmdb;
mod place;
pub mod regions;
mod score;
mod token;
pub mod world;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicUsize},
};

use arc_swap::ArcSwap;
use backend::domain::rate::{SendBucket, SendRate};
use ipnetwork::IpNetwork;
use protocol::message::{self, LocateReply};

pub use self::measured::customer;
use self::{
    access_points::AccessPoint,
    database::{Database, Location, Whereabouts},
    directory::{Directory, Node},
    forgetful::ForgetfulMap,
    measured::Measured,
    regions::Region,
    score::{Asker, Candidate, Scored, Standing},
    token::{TOKEN_BYTES, Tokens},
};
/// Addresses whose rates are kept, at the most.
const ADDRESSES_MAX: usize = 100_000;

/// Seconds whose questions an address may ask at once.
const BURST_S: u32 = 5;

/// Round trips in one report, at the most.
pub const ROUND_TRIPS_MAX: usize = 16;

/// What is much better than where a client is: so many milliseconds less, and this share of its round trip.
const MUCH_BETTER_MS: f64 = 30.0;
const MUCH_BETTER_SHARE: f64 = 0.3;

/// `geo` in the configuration.
#[derive(Clone, Debug)]
pub struct GeoConfig {
    /// Of `/v1/locate`.
    pub listen: Option<SocketAddr>,
    pub connections_max: usize,
    pub connections_per_address_max: usize,
    pub access_points: Vec<AccessPoint>,
    /// The catalogue, with the operator's.
    pub regions: Vec<Region>,
    /// Which of them this gateway is; empty: none.
    pub here: String,
    pub database: Option<PathBuf>,
    pub expires_seconds: u32,
    /// Of an address; 0: no limit.
    pub locates_per_second: u32,
    pub trusted_proxies: Vec<IpNetwork>,
    /// 0: access points are not checked.
    pub check_seconds: u32,
}

/// The moment of a question.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub unix_s: u64,
    /// On a clock that never goes back.
    pub monotonic_s: u32,
}

/// What a client has measured to an access point.
#[derive(Clone, Debug)]
pub struct RoundTrip {
    pub access_point: String,
    /// Milliseconds from SYN to established, and from the first TLS byte to the end of the handshake; 0: not known.
    pub connect_ms: u32,
    pub tls_ms: u32,
    /// There was no connection.
    pub failed: bool,
}

/// An access point as a client is told it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub id: String,
    pub region: String,
    pub addresses: Vec<String>,
    /// Of a hundred clients in the same situation, so many are told it first.
    pub weight: u32,
    pub expected_ms: u32,
}

/// The answer to a client.
#[derive(Clone, Debug)]
pub struct Located {
    /// The best first; empty: wherever the client is.
    pub access_points: Vec<Told>,
    /// There is none that has room.
    pub are_full: bool,
    /// For how long this is good, in seconds.
    pub expires_s: u32,
    /// With which it reports what it measured.
    pub token: [u8; TOKEN_BYTES],
}

impl From<Located> for LocateReply {
    fn from(Located { access_points, expires_s, token, .. }: Located) -> Self {
        let access_points = access_points.into_iter().map(message::AccessPoint::from).collect();
        LocateReply { access_points, expires_s, token: token.to_vec().into() }
    }
}

impl From<Told> for message::AccessPoint {
    fn from(Told { id, region, addresses, weight, expected_ms }: Told) -> Self {
        message::AccessPoint { id, addresses, region, weight, expected_ms }
    }
}

/// The token is not one of ours, or not good any more.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenInvalid;

/// All that routing knows; `W` says where addresses are.
pub struct Geo<W = Database> {
    pub directory: Directory,
    pub database: W,
    config: GeoConfig,
    measured: Mutex<Measured>,
    tokens: ArcSwap<Tokens>,
    asked: Mutex<ForgetfulMap<IpAddr, SendBucket>>,
    /// What is wrong with nodes, and has been said.
    complaints: Mutex<BTreeSet<String>>,
    /// Access points that edges are not told of, because there are too many.
    untold: AtomicUsize,
}

impl Geo {
    /// As configured; `key` signs tokens.
    pub fn open(config: GeoConfig, key: [u8; 32]) -> anyhow::Result<Self> {
        let database = Database::open(config.database.as_deref())?;
        Ok(Geo::new(config, database, key))
    }
}

impl<W: Whereabouts> Geo<W> {
    /// With nothing measured yet.
    pub fn new(config: GeoConfig, database: W, key: [u8; 32]) -> Self {
        Geo {
            directory: Directory::new(config.access_points.clone()),
            database,
            measured: Mutex::default(),
            tokens: ArcSwap::from_pointee(Tokens::new(key)),
            asked: Mutex::new(ForgetfulMap::new(ADDRESSES_MAX)),
            complaints: Mutex::default(),
            untold: AtomicUsize::new(0),
            config,
        }
    }

    /// Takes a question out of what an address may ask. With too many: in how many milliseconds there is room.
    pub fn take(&self, ip: IpAddr, now_us: u64) -> Result<(), u32> {
        let per_second = self.config.locates_per_second;
        if per_second == 0 {
            return Ok(());
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = SendRate::new(per_second, per_second.saturating_mul(BURST_S));
        asked.find_or_make(measured::customer(ip)).take(rate, now_us)
    }

    /// Where a client should connect. `current`: the access point where it is or was last; `draw` is drawn for it.
    pub fn locate(&self, ip: IpAddr, current: &str, draw: u64, now: Now) -> Located {
        let nodes = self.directory.nodes();
        let scored = self.decide(&nodes, ip, current, draw, now);
        let told = scored.iter().filter(|one| one.told).map(|one| Told {
            id: one.point.id.clone(),
            region: one.point.region.clone(),
            addresses: one.point.addresses.clone(),
            weight: one.share_percent,
            expected_ms: one.rtt_ms.round() as u32,
        });
        // Not all who ask in one moment ask again in one moment.
        let expires_s = u64::from(self.config.expires_seconds);
        let expires_s = expires_s - (draw >> 32) % (expires_s / 4 + 1);
        Located {
            access_points: told.collect(),
            are_full: scored.first().is_some_and(|best| best.standing == Standing::Full),
            expires_s: expires_s as u32,
            token: self.tokens.load().issue(ip, now.unix_s),
        }
    }

    /// Whether a client that has come to the access point `here` would be much better off elsewhere.
    pub fn is_much_better_elsewhere(&self, ip: IpAddr, here: &str, draw: u64, now: Now) -> bool {
        if here.is_empty() {
            return false;
        }
        let nodes = self.directory.nodes();
        let scored = self.decide(&nodes, ip, here, draw, now);
        let best = scored.first().filter(|best| best.told && best.point.id != here);
        let own = scored.iter().find(|one| one.point.id == here);
        let (Some(best), Some(own)) = (best, own) else { return false };
        let gain_ms = own.rtt_ms - best.rtt_ms;
        own.standing > best.standing || gain_ms > MUCH_BETTER_MS && gain_ms > own.rtt_ms * MUCH_BETTER_SHARE
    }

    /// Takes what a client has measured that has come from `from`. Returns how many of the round trips count: none, if it
    /// was told where to connect in another network, for whose clients it can't speak.
    pub fn report(
        &self,
        token: &[u8],
        from: IpAddr,
        round_trips: &[RoundTrip],
        now: Now,
    ) -> Result<usize, TokenInvalid> {
        let ip = self.tokens.load().check(token, now.unix_s).ok_or(TokenInvalid)?;
        if !measured::are_of_one_network(ip, from) {
            return Ok(0);
        }
        let known = round_trips.iter().take(ROUND_TRIPS_MAX).filter_map(|round_trip| {
            let node = self.directory.node(&round_trip.access_point)?;
            Some((node, rtt_ms(round_trip)?))
        });
        let known: Vec<(Arc<Node>, Option<f64>)> = known.collect();
        let votes: Vec<_> = known.iter().map(|(node, rtt_ms)| (&node.point, *rtt_ms)).collect();
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(is_misplaced) = self.database.locate(ip).place.and_then(|place| score::is_misplaced(place, &votes))
        {
            measured.doubt(ip, is_misplaced, now.monotonic_s);
        }
        let Location { country, place } = self.whereabouts(ip, &mut measured, now);
        let votes = score::votes(place, &votes);
        let counting = known.iter().zip(votes).filter(|((node, _), vote)| {
            vote.is_some_and(|vote| measured.vote(ip, country, node.key(place.is_some()), vote, now.monotonic_s))
        });
        Ok(counting.count())
    }

    fn decide<'a>(&self, nodes: &'a [Arc<Node>], ip: IpAddr, current: &str, draw: u64, now: Now) -> Vec<Scored<'a>> {
        let (location, candidates) = self.candidates(nodes, ip, now);
        score::decide(candidates, Asker { place: location.place, current, draw })
    }

    /// Where a client is, and all access points with what its groups have measured.
    fn candidates<'a>(&self, nodes: &'a [Arc<Node>], ip: IpAddr, now: Now) -> (Location, Vec<Candidate<'a>>) {
        let (location, measures) = {
            let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
            let location = self.whereabouts(ip, &mut measured, now);
            let keys: Vec<u64> = nodes.iter().map(|node| node.key(location.place.is_some())).collect();
            (location, measured.of(ip, location.country, &keys, now.monotonic_s))
        };
        let candidates = nodes.iter().zip(measures);
        let candidates =
            candidates.map(|(node, measures)| Candidate { point: &node.point, status: node.status(), measures });
        (location, candidates.collect())
    }

    /// Where a client is; nowhere, if its network has measured what can't be there.
    fn whereabouts(&self, ip: IpAddr, measured: &mut Measured, now: Now) -> Location {
        if measured.is_doubted(ip, now.monotonic_s) { Location::default() } else { self.database.locate(ip) }
    }
}

/// The round trip of a measurement, `Some(None)` if it has failed: connecting takes one, and so does the handshake, beside
/// what it computes.
fn rtt_ms(round_trip: &RoundTrip) -> Option<Option<f64>> {
    if round_trip.failed {
        return Some(None);
    }
    let known = [round_trip.connect_ms, round_trip.tls_ms].into_iter().filter(|ms| *ms > 0);
    known.min().map(f64::from).map(Some)
}

#[cfg(test)]
mod tests;
