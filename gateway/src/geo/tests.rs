//! Locating and reporting together: what a client is told, and what its reports change.

use super::{place::Place, *};

const DE: &str = "198.51.100.7";
const JP: &str = "203.0.113.7";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(second: u32) -> Now {
    Now { unix_s: 1_800_000_000 + u64::from(second), monotonic_s: second }
}

fn point(id: &str, region: &str, place: Place) -> AccessPoint {
    let addresses = vec![format!("{id}.example.com:443")];
    AccessPoint { id: id.into(), addresses, region: region.into(), place, weight: 100, capacity: 0, drained: false }
}

fn geo(change: impl FnOnce(&mut GeoConfig)) -> Geo {
    let (mut config, _folder) = config();
    change(&mut config);
    Geo::open(config, [7; 32]).unwrap()
}

/// Frankfurt, Paris and Tokyo; Germany and Japan in the database, which is gone with the folder.
pub(super) fn config() -> (GeoConfig, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("where.mmdb");
    let networks =
        [("198.51.0.0/16", mmdb::city("DE", 50.1, 8.7)), ("203.0.113.0/24", mmdb::flat_city("JP", 35.7, 139.7))];
    std::fs::write(&path, mmdb::database(&networks)).unwrap();
    let config = GeoConfig {
        listen: None,
        connections_max: 10,
        connections_per_address_max: 5,
        access_points: vec![
            point("paris", "france", Place::at(48.86, 2.35)),
            point("frankfurt", "germany", Place::at(50.11, 8.68)),
            point("tokyo", "japan", Place::at(35.68, 139.69)),
        ],
        regions: Vec::new(),
        here: String::new(),
        database: Some(path),
        expires_seconds: 300,
        locates_per_second: 2,
        trusted_proxies: Vec::new(),
        check_seconds: 0,
    };
    (config, folder)
}

fn told(geo: &Geo, address: &str, second: u32) -> Vec<String> {
    geo.locate(ip(address), "", 1, at(second)).access_points.into_iter().map(|told| told.id).collect()
}

fn round_trip(access_point: &str, connect_ms: u32, tls_ms: u32) -> RoundTrip {
    RoundTrip { access_point: access_point.into(), connect_ms, tls_ms, failed: false }
}

#[test]
fn geo_02_clients_are_told_what_is_near_them() {
    let geo = geo(|_| ());
    assert_eq!(told(&geo, DE, 0), ["frankfurt", "paris", "tokyo"]);
    assert_eq!(told(&geo, JP, 0)[0], "tokyo");
    assert_eq!(told(&geo, "10.0.0.1", 0).len(), 3, "nowhere, but somewhere to go");
    let located = geo.locate(ip(DE), "", 1, at(0));
    let first = &located.access_points[0];
    assert_eq!((first.region.as_str(), first.weight, first.expected_ms), ("germany", 100, 5));
    assert_eq!(first.addresses, ["frankfurt.example.com:443"]);
    for draw in 0..200 {
        assert!((225..=300).contains(&geo.locate(ip(DE), "", draw << 32, at(0)).expires_s));
    }
}

#[test]
fn geo_03_what_a_network_reports_changes_what_it_is_told() {
    let geo = geo(|_| ());
    let second_of = |host: u32| host * 10;
    for host in 1..=9 {
        let token = geo.locate(ip(&format!("198.51.100.{host}")), "", 1, at(second_of(host))).token;
        let seen = [round_trip("frankfurt", 90, 95), round_trip("paris", 0, 12), round_trip("nowhere", 1, 1)];
        assert_eq!(geo.report(&token, ip(DE), &seen, at(second_of(host))), Ok(2));
        assert_eq!(geo.report(&token, ip(DE), &seen, at(second_of(host) + 1)), Ok(0), "counted already");
    }
    assert_eq!(told(&geo, DE, 100)[0], "paris");
    assert_eq!(told(&geo, JP, 100)[0], "tokyo", "others' measurements");
    // What can't be reached counts as very slow.
    for host in 11..=30 {
        let token = geo.locate(ip(&format!("198.51.100.{host}")), "", 1, at(400)).token;
        let failed = RoundTrip { failed: true, ..round_trip("paris", 0, 0) };
        let seen = [failed, round_trip("frankfurt", 0, 0)];
        assert_eq!(geo.report(&token, ip(DE), &seen, at(400)), Ok(1));
    }
    assert_eq!(told(&geo, DE, 400)[0], "frankfurt");
}

#[test]
fn geo_03_networks_that_are_nowhere_are_told_what_they_have_measured() {
    let geo = geo(|_| ());
    let nowhere = "192.0.2.7";
    let token = geo.locate(ip(nowhere), "", 1, at(0)).token;
    let seen = [round_trip("tokyo", 60, 0), round_trip("paris", 200, 0), round_trip("frankfurt", 90, 0)];
    assert_eq!(geo.report(&token, ip(nowhere), &seen, at(0)), Ok(3));
    let located = geo.locate(ip(nowhere), "", 1, at(0)).access_points;
    assert_eq!(located.iter().map(|told| told.expected_ms).collect::<Vec<_>>(), [60, 90, 200]);
    assert_eq!(located[0].id, "tokyo");
}

#[test]
fn geo_03_a_network_that_is_not_where_the_database_says_finds_its_way() {
    let geo = geo(|_| ());
    for host in 1..=20 {
        let address = format!("198.51.100.{host}"); // Germany, says the database; it is in Japan
        let told = geo.locate(ip(&address), "", host, at(0));
        let seen = told.access_points.iter().take(3).map(|told| match told.id.as_str() {
            "tokyo" => round_trip("tokyo", 9, 0),
            id => round_trip(id, 230, 0),
        });
        assert_eq!(geo.report(&told.token, ip(&address), &seen.collect::<Vec<_>>(), at(0)), Ok(3));
    }
    assert_eq!(told(&geo, DE, 0)[0], "tokyo");
    assert_eq!(told(&geo, "198.51.101.1", 0)[0], "frankfurt", "another network");
}

#[test]
fn geo_03_reports_need_a_token_and_obey_physics() {
    let geo = geo(|_| ());
    let token = geo.locate(ip(DE), "", 1, at(0)).token;
    let seen = [round_trip("tokyo", 1, 1), round_trip("paris", 15, 15)];
    assert_eq!(geo.report(&[], ip(DE), &seen, at(0)), Err(TokenInvalid));
    assert_eq!(geo.report(&token, ip(DE), &seen, at(10_000)), Err(TokenInvalid));
    assert_eq!(geo.report(&token, ip(DE), &seen, at(0)), Ok(2));
    let tokyo = geo.locate(ip(DE), "", 1, at(0)).access_points.into_iter().find(|told| told.id == "tokyo").unwrap();
    assert!(tokyo.expected_ms >= 93, "{tokyo:?}: light takes 93 ms");
    let many = vec![round_trip("frankfurt", 10, 10); 1_000];
    assert_eq!(geo.report(&token, ip(DE), &many, at(0)), Ok(1));
}

/// Whoever collects tokens of others, as a page that many visit can, votes for none of them.
#[test]
fn geo_03_a_report_counts_only_from_the_network_that_asked() {
    let geo = geo(|_| ());
    let seen = [round_trip("frankfurt", 300, 0), round_trip("paris", 12, 0)];
    for host in 1..=9 {
        let token = geo.locate(ip(&format!("198.51.100.{host}")), "", 1, at(0)).token;
        for stranger in ["203.0.113.7", "198.51.101.7", "2001:db8::1"] {
            assert_eq!(geo.report(&token, ip(stranger), &seen, at(0)), Ok(0), "{stranger}");
        }
        assert_eq!(geo.report(&token, ip("198.51.100.77"), &seen, at(0)), Ok(2), "a neighbour, or itself");
    }
    let token = geo.locate(ip("2001:db8:7:1::1"), "", 1, at(0)).token;
    assert_eq!(geo.report(&token, ip("2001:db8:7:2::2"), &seen, at(0)), Ok(2));
}

#[test]
fn geo_03_a_hint_is_given_where_it_is_much_better_elsewhere() {
    let all = geo(|config| config.access_points[1].drained = false);
    assert!(all.is_much_better_elsewhere(ip(DE), "tokyo", 1, at(0)));
    assert!(!all.is_much_better_elsewhere(ip(JP), "tokyo", 1, at(0)));
    assert!(!all.is_much_better_elsewhere(ip("10.0.0.1"), "tokyo", 1, at(0)));
    assert!(!all.is_much_better_elsewhere(ip(DE), "", 1, at(0)));
    assert!(!all.is_much_better_elsewhere(ip(DE), "paris", 1, at(0)), "a few milliseconds are not much");
    let drained = geo(|config| config.access_points[1].drained = true);
    assert!(drained.is_much_better_elsewhere(ip(DE), "frankfurt", 1, at(0)), "this one is to be left");
}

#[test]
fn geo_02_questions_are_limited_by_address() {
    let geo = geo(|_| ());
    let asked = |address: &str| (0..100).take_while(|_| geo.take(ip(address), 0).is_ok()).count();
    assert_eq!(asked("198.51.100.7"), 10);
    assert_eq!(asked("198.51.100.8"), 10);
    assert_eq!(asked("2001:db8::1"), 10);
    assert_eq!((asked("2001:db8::2"), asked("2001:db8:0:ff::1")), (0, 0), "the same customer");
    assert_eq!(asked("2001:db8:0:100::1"), 10);
    assert_eq!(geo.take(ip("198.51.100.7"), 0), Err(500));
    assert_eq!(geo.take(ip("198.51.100.7"), 500_000), Ok(()));
}
