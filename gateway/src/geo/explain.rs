//! `gateway locate`: explains, term by term, what a client with a certain address would be told.
//!
//! From the configuration and the location database alone: nodes of the deployment, what clients have measured, and how
//! the access points are, only a running gateway knows. The terms are those of [`super::score`].

use std::{fmt::Write as _, net::IpAddr};

use super::{
    GeoConfig,
    access_points::AccessPoint,
    database::{Database, Location, Whereabouts, is_public},
    measured::Measures,
    place::{floor_ms, usual_ms},
    regions::Region,
    score::{self, Asker, Candidate, Scored, Standing, Status},
};

/// What is said where the configuration has none.
const NO_POINTS: &str = "There are no access points in geo.access_points: unless nodes of the deployment are some, which \
                         only a running gateway knows, clients are told to stay where they are.\n";

/// What to explain.
#[derive(Clone, Debug)]
pub struct Question {
    pub ip: IpAddr,
    /// The access point where the client is; empty: none.
    pub current: String,
    /// Access points to be taken as out of order.
    pub failed: Vec<String>,
}

/// The catalogue of regions, with the operator's: one a line.
pub fn regions(regions: &[Region]) -> String {
    regions.iter().fold(String::new(), |mut text, region| {
        let Region { id, name, country, coordinates } = region;
        let _ = writeln!(text, "{id:<16} {country}  {:<18} {name}", coordinates.to_string());
        text
    })
}

/// Explains it.
pub fn decision(config: &GeoConfig, question: &Question) -> anyhow::Result<String> {
    let Question { current, failed, .. } = question;
    for id in failed.iter().chain([current].into_iter().filter(|id| !id.is_empty())) {
        let is_one = config.access_points.iter().any(|point| point.id == *id);
        anyhow::ensure!(is_one, "\"{id}\" is the id of none of geo.access_points");
    }
    let database = Database::open(config.database.as_deref())?;
    let ip = question.ip.to_canonical();
    let location = database.locate(ip);
    let candidate = |point| Candidate { point, status: status(point, failed), measures: Measures::default() };
    let candidates = config.access_points.iter().map(candidate).collect();
    // The same for the same address: what is random among equals is not explained better by chance.
    let draw = xxhash_rust::xxh3::xxh3_64(ip.to_string().as_bytes());
    let scored = score::decide(candidates, Asker { place: location.place, current, draw });
    let mut text = whereabouts(ip, location, &database);
    if scored.is_empty() {
        text += NO_POINTS;
        return Ok(text);
    }
    text += &table(&scored);
    Ok(text)
}

fn status(point: &AccessPoint, failed: &[String]) -> Status {
    Status { healthy: !failed.contains(&point.id), load: None }
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
        (Some(kind), None) => format!("{ip}: not in the database ({kind}), so distances count for nothing\n"),
    }
}

fn table(scored: &[Scored<'_>]) -> String {
    let mut text = format!(
        "\n{:>2}  {:<20} {:<14} {:>9} {:>9} {:>9} {:>9} {:>7} {:>6} {:>6}  {}\n",
        "", "access point", "region", "km", "floor ms", "usual ms", "rtt ms", "sticky", "weight", "share", "standing"
    );
    for (place, one) in scored.iter().enumerate() {
        let km = |of: fn(f64) -> f64| one.distance_km.map_or_else(|| "-".to_owned(), |km| format!("{:.1}", of(km)));
        let rank = if one.told { (place + 1).to_string() } else { "-".to_owned() };
        let share = if one.near { format!("{}%", one.share_percent) } else { "-".to_owned() };
        let _ = writeln!(
            text,
            "{rank:>2}  {:<20} {:<14} {:>9} {:>9} {:>9} {:>9.1} {:>7.1} {:>6} {share:>6}  {}",
            one.point.id,
            one.point.region,
            km(|km| km),
            km(floor_ms),
            km(usual_ms),
            one.rtt_ms,
            -one.sticky_ms,
            one.point.weight,
            standing(one),
        );
    }
    text + "\n-: not told to the client. Share: of clients in the same situation, so many are told it first.\n\
            Not in here, for only a running gateway knows: nodes of the deployment that are access points, what clients have\n\
            measured, and how full access points are.\n"
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
    use super::{super::tests::config, *};

    fn explained(ip: &str, current: &str, failed: &[&str]) -> String {
        let failed = failed.iter().map(ToString::to_string).collect();
        let question = Question { ip: ip.parse().unwrap(), current: current.to_owned(), failed };
        let (config, _folder) = config();
        decision(&config, &question).unwrap_or_else(|error| format!("error: {error}"))
    }

    fn line(text: &str, id: &str) -> String {
        let line = text.lines().find(|line| line.contains(id)).unwrap_or_else(|| panic!("{id} is missing: {text}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn geo_03_a_decision_is_explained_term_by_term() {
        let text = explained("198.51.100.7", "paris", &[]);
        assert!(text.starts_with("198.51.100.7: DE, 50.10, 8.70 (database Test)\n"), "{text}");
        assert_eq!(line(&text, "frankfurt"), "1 frankfurt germany 1.8 0.0 5.0 5.0 -0.0 100 100% has room");
        assert!(line(&text, "paris").starts_with("2 paris france 47"), "{text}");
        assert!(line(&text, "paris").contains(" 12.7 -5.0 100 - has room"), "{text}");
        let failed = explained("198.51.100.7", "", &["frankfurt"]);
        assert!(line(&failed, "paris").starts_with("1 paris") && line(&failed, "frankfurt").ends_with("unhealthy"));
        assert!(line(&failed, "frankfurt").starts_with("- frankfurt"));
    }

    #[test]
    fn geo_03_what_only_a_running_gateway_knows_is_said() {
        assert!(explained("198.51.100.7", "", &[]).contains("only a running gateway knows: nodes of the deployment"));
        let (config, _folder) = config();
        let config = GeoConfig { access_points: Vec::new(), ..config };
        let question = Question { ip: "198.51.100.7".parse().unwrap(), current: String::new(), failed: Vec::new() };
        assert!(decision(&config, &question).unwrap().ends_with(NO_POINTS));
    }

    #[test]
    fn geo_03_what_can_not_be_located_is_said() {
        assert!(explained("10.0.0.1", "", &[]).starts_with("10.0.0.1: a private"));
        assert!(explained("192.0.2.1", "", &[]).starts_with("192.0.2.1: not in the database"));
        assert_eq!(explained("10.0.0.1", "x", &[]), "error: \"x\" is the id of none of geo.access_points");
        assert!(line(&explained("10.0.0.1", "", &[]), "tokyo").contains(" japan - - - 150.0 "));
    }
}
