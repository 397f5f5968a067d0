//! `gateway locate`: explains, term by term, what a client with a certain address would be told.
//!
//! A gateway that runs explains what it would decide now, with the nodes of the deployment, how they are, and what clients
//! have measured. The configuration and the location database alone know nothing of that. The terms are those of
//! [`super::score`].

use std::{fmt::Write as _, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{
    Geo, GeoConfig, Now,
    database::{Database, Location, Whereabouts, is_public},
    measured::LEVELS,
    place::{floor_ms, usual_ms},
    regions::Region,
    score::{self, Asker, Scored, Standing},
};

/// What is said where there are none.
const NO_POINTS: &str = "There are no access points: clients are told to stay where they are.\n";

/// What to explain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Question {
    pub ip: IpAddr,
    /// The access point where the client is; empty: none.
    pub current: String,
    /// Access points to be taken as out of order.
    pub failed: Vec<String>,
}

/// Two configurations with the same number say the same of where clients should connect.
pub fn configured(config: &GeoConfig) -> u64 {
    let GeoConfig { access_points, regions, database, .. } = config;
    xxhash_rust::xxh3::xxh3_64(format!("{access_points:?} {regions:?} {database:?}").as_bytes())
}

/// The catalogue of regions, with the operator's: one a line.
pub fn regions(regions: &[Region]) -> String {
    regions.iter().fold(String::new(), |mut text, region| {
        let Region { id, name, country, coordinates } = region;
        let _ = writeln!(text, "{id:<16} {country}  {:<18} {name}", coordinates.to_string());
        text
    })
}

/// Explains it from the configuration alone; `why` no gateway has done it.
pub fn from_configuration(config: &GeoConfig, question: &Question, why: &str) -> anyhow::Result<String> {
    // Nobody is told a token.
    let geo = Geo::open(config.clone(), [0; 32])?;
    let mut text = geo.explain(question, Now { unix_s: 0, monotonic_s: 0 })?;
    let _ = writeln!(
        text,
        "From the configuration alone ({why}): nodes of the deployment, what clients have measured, and how access points \
         are, only a running gateway knows."
    );
    Ok(text)
}

impl Geo {
    /// Explains what a client would be told now.
    pub fn explain(&self, question: &Question, now: Now) -> anyhow::Result<String> {
        let Question { current, failed, .. } = question;
        let nodes = self.directory.nodes();
        for id in failed.iter().chain([current].into_iter().filter(|id| !id.is_empty())) {
            let is_one = nodes.iter().any(|node| node.point.id == *id);
            anyhow::ensure!(is_one, "\"{id}\" is the id of no access point");
        }
        let ip = question.ip.to_canonical();
        let (location, mut candidates) = self.candidates(&nodes, ip, now);
        for candidate in &mut candidates {
            candidate.status.healthy &= !failed.contains(&candidate.point.id);
        }
        // The same for the same address: what is random among equals is not explained better by chance.
        let draw = xxhash_rust::xxh3::xxh3_64(ip.to_string().as_bytes());
        let scored = score::decide(candidates, Asker { place: location.place, current, draw });
        let text = whereabouts(ip, location, &self.database);
        Ok(text + &if scored.is_empty() { NO_POINTS.to_owned() } else { table(&scored) })
    }
}

fn whereabouts(ip: IpAddr, location: Location, database: &Database) -> String {
    let Location { country, place } = location;
    let country =
        country.map_or_else(|| "country unknown".to_owned(), |code| String::from_utf8_lossy(&code).into_owned());
    match (database.kind(), place) {
        (None, _) => format!("{ip}: no location database (geo.database), so distances count for nothing\n"),
        (Some(_), _) if !is_public(ip) => {
            format!("{ip}: a private, local or reserved address, which is nowhere: distances count for nothing\n")
        }
        (Some(kind), Some(place)) => format!("{ip}: {country}, {place} (database {kind})\n"),
        (Some(_), None) if database.locate(ip).place.is_some() => {
            format!("{ip}: measures what can't be where the database says, so distances count for nothing\n")
        }
        (Some(kind), None) => format!("{ip}: not in the database ({kind}), so distances count for nothing\n"),
    }
}

fn table(scored: &[Scored<'_>]) -> String {
    let mut text = format!(
        "\n{:>2}  {:<20} {:<14} {:>9} {:>9} {:>9} {:>9} {:>7} {:>13} {:>6} {:>6}  {}\n",
        "",
        "access point",
        "region",
        "km",
        "floor ms",
        "usual ms",
        "rtt ms",
        "sticky",
        "load",
        "weight",
        "share",
        "standing"
    );
    for (place, one) in scored.iter().enumerate() {
        let km = |of: fn(f64) -> f64| one.distance_km.map_or_else(|| "-".to_owned(), |km| format!("{:.1}", of(km)));
        let rank = if one.told { (place + 1).to_string() } else { "-".to_owned() };
        let load = one.status.load.map_or_else(|| "-".to_owned(), |(sessions, most)| format!("{sessions}/{most}"));
        let share = if one.near { format!("{}%", one.share_percent) } else { "-".to_owned() };
        let _ = writeln!(
            text,
            "{rank:>2}  {:<20} {:<14} {:>9} {:>9} {:>9} {:>9.1} {:>7.1} {load:>13} {:>6} {share:>6}  {}{}",
            one.point.id,
            one.point.region,
            km(|km| km),
            km(floor_ms),
            km(usual_ms),
            one.rtt_ms,
            -one.sticky_ms,
            one.point.weight,
            standing(one),
            measures(one),
        );
    }
    text + "\n-: not told to the client. Load: sessions, and how many it takes. Share: of clients in the same situation, so \
            many are told it first.\n"
}

/// What the groups of the client have measured: how many times as long as usual, or milliseconds where it is nowhere.
fn measures(one: &Scored<'_>) -> String {
    let unit = if one.distance_km.is_some() { "x" } else { " ms" };
    let known = LEVELS.iter().zip(one.measures).filter_map(|(level, measure)| Some((level, measure?)));
    known.fold(String::new(), |mut text, (level, measure)| {
        let _ = write!(text, ", {level} {:.2}{unit} ({:.1} votes)", measure.value, measure.votes);
        text
    })
}

fn standing(one: &Scored<'_>) -> String {
    let standing = match one.standing {
        Standing::Room => "has room",
        Standing::Full => "full",
        Standing::Unhealthy => "unhealthy",
        Standing::Drained => "drained",
    };
    if one.explored { format!("{standing}, to be measured") } else { standing.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{RoundTrip, tests::config},
        *,
    };

    const NOW: Now = Now { unix_s: 1_800_000_000, monotonic_s: 10 };

    fn question(ip: &str, current: &str, failed: &[&str]) -> Question {
        let failed = failed.iter().map(ToString::to_string).collect();
        Question { ip: ip.parse().unwrap(), current: current.to_owned(), failed }
    }

    fn explained(ip: &str, current: &str, failed: &[&str]) -> String {
        let (config, _folder) = config();
        let explained = from_configuration(&config, &question(ip, current, failed), "why");
        explained.unwrap_or_else(|error| format!("error: {error}"))
    }

    fn line(text: &str, id: &str) -> String {
        let line = text.lines().find(|line| line.contains(id)).unwrap_or_else(|| panic!("{id} is missing: {text}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn geo_03_a_decision_is_explained_term_by_term() {
        let text = explained("198.51.100.7", "paris", &[]);
        assert!(text.starts_with("198.51.100.7: DE, 50.10, 8.70 (database Test)\n"), "{text}");
        assert_eq!(line(&text, "frankfurt"), "1 frankfurt germany 1.8 0.0 5.0 5.0 -0.0 - 100 100% has room");
        assert!(line(&text, "paris").starts_with("2 paris france 47"), "{text}");
        assert!(line(&text, "paris").contains(" 12.7 -5.0 - 100 - has room"), "{text}");
        let failed = explained("198.51.100.7", "", &["frankfurt"]);
        assert!(line(&failed, "paris").starts_with("1 paris") && line(&failed, "frankfurt").ends_with("unhealthy"));
        assert!(line(&failed, "frankfurt").starts_with("- frankfurt"));
    }

    #[test]
    fn geo_03_a_running_gateway_explains_what_it_knows() {
        let (config, _folder) = config();
        let geo = Geo::open(config, [7; 32]).unwrap();
        let explain = |asked: &Question| geo.explain(asked, NOW).unwrap();
        let (asked, paris) = (question("198.51.100.7", "", &[]), geo.directory.node("paris").unwrap());
        paris.report(3, 10);
        assert!(line(&explain(&asked), "paris").ends_with(" 3/10 100 - has room"));
        paris.report(10, 10);
        paris.set_healthy(false);
        let ways = [("frankfurt", 60), ("paris", 12)].map(|(id, connect_ms)| RoundTrip {
            access_point: id.to_owned(),
            connect_ms,
            tls_ms: 0,
            failed: false,
        });
        let token = geo.locate(asked.ip, "", 1, NOW).token;
        assert_eq!(geo.report(&token, asked.ip, &ways, NOW), Ok(2));
        let text = explain(&asked);
        assert!(line(&text, "paris").contains(" 10/10 100 - unhealthy, country 1.00x (1.0 votes)"), "{text}");
        let measured = ", country 12.06x (1.0 votes), wide network 12.06x (1.0 votes), network 12.06x (1.0 votes)";
        assert!(line(&text, "frankfurt").ends_with(measured), "{text}");
        assert!(!text.contains("configuration"), "it knows better");
    }

    #[test]
    fn geo_03_what_only_a_running_gateway_knows_is_said_in_one_line() {
        let alone = "From the configuration alone (why): nodes of the deployment, what clients have measured, and how access \
                     points are, only a running gateway knows.\n";
        assert!(explained("198.51.100.7", "", &[]).ends_with(&format!("\n{alone}")));
        let (config, _folder) = config();
        let config = GeoConfig { access_points: Vec::new(), ..config };
        let text = from_configuration(&config, &question("198.51.100.7", "", &[]), "why").unwrap();
        assert!(text.ends_with(&format!("\n{NO_POINTS}{alone}")), "{text}");
    }

    #[test]
    fn geo_03_another_configuration_is_told_from_the_same() {
        let (config, _folder) = config();
        let mut other = GeoConfig { locates_per_second: 77, here: "paris".into(), ..config.clone() };
        assert_eq!(configured(&config), configured(&other), "what it says of where clients should connect is the same");
        other.access_points[0].weight += 1;
        assert_ne!(configured(&config), configured(&other));
        assert_ne!(configured(&config), configured(&GeoConfig { database: None, ..config.clone() }));
    }

    #[test]
    fn geo_03_what_can_not_be_located_is_said() {
        assert!(explained("10.0.0.1", "", &[]).starts_with("10.0.0.1: a private"));
        assert!(explained("192.0.2.1", "", &[]).starts_with("192.0.2.1: not in the database"));
        assert_eq!(explained("10.0.0.1", "x", &[]), "error: \"x\" is the id of no access point");
        assert_eq!(explained("10.0.0.1", "", &["y"]), "error: \"y\" is the id of no access point");
        assert!(line(&explained("10.0.0.1", "", &[]), "tokyo").contains(" japan - - - 150.0 "));
    }
}
