//! Where clients are told to connect (GEO-02, GEO-03), from outside: `/v1/locate`, the command, reports, `gateway locate`.
//!
//! Goal: whoever asks, by HTTPS or by the protocol, gets the access points that are near, alive and not drained; who asks
//! too often, or lies about where it is, gets nothing by it. Mechanics: a real gateway with access points and a small
//! location database of the test's; it trusts 127.0.0.1 as a proxy, so that a test can ask from anywhere. Without it a
//! deployment of many access points could send its users to the wrong ones, or to dead ones.

use std::{
    fs,
    io::Read as _,
    net::{TcpListener, TcpStream},
    path::Path,
};

use prost::Message as _;
use protocol::{
    ErrorCode,
    command::Command,
    frame::{self, Kind},
    message::{Done, Locate, LocateReply, ReportRoundTrips, RoundTrip},
};
use serde_json::Value;
use tests::{Answer, Builder, Client, Gateway, PATIENCE, Refusal, eventually, https, mmdb};

pub const GERMANY: &str = "198.51.100.7";
const JAPAN: &str = "203.0.113.7";
const NOWHERE: &str = "192.0.2.7";

const POINTS: &str = r#"[
    { id = "fra", addresses = ["fra.example.com:443"], region = "germany" },
    { id = "par", addresses = ["par.example.com:443"], region = "france" },
    { id = "tyo", addresses = ["tyo.example.com:443", "[2001:db8::1]:443"], region = "japan" },
    { id = "old", addresses = ["old.example.com:443"], region = "germany", drained = true },
]"#;

/// Puts a database in place, as an operator does: the new file under the old one's name.
pub fn put_database(folder: &Path, networks: &[(&str, mmdb::Data)]) -> String {
    let (path, fresh) = (folder.join("where.mmdb"), folder.join("fresh.mmdb"));
    fs::write(&fresh, mmdb::database(networks)).expect("written");
    fs::rename(fresh, &path).expect("renamed");
    path.display().to_string()
}

fn builder() -> Builder {
    let builder = Gateway::builder();
    let networks = [
        ("198.51.100.0/24", mmdb::city("DE", 50.1, 8.7)),
        ("203.0.113.0/24", mmdb::flat_country("JP")),
        ("2001:db8::/32", mmdb::country("JP")),
        ("127.0.0.0/8", mmdb::city("JP", 35.7, 139.7)), // of no use: such addresses are nowhere
    ];
    let database = put_database(builder.folder(), &networks);
    let builder = builder.flag("geo-access-points", POINTS).flag("geo-database", database);
    let unlimited = [("geo-locates-per-second", 0), ("geo-check-seconds", 0)];
    let builder = builder.flag("geo-trusted-proxies", "127.0.0.1");
    unlimited.into_iter().fold(builder, |builder, (name, value)| builder.flag(name, value))
}

/// Asks by HTTPS from an address: the status, the content, and when to ask again.
pub fn asked(gateway: &Gateway, ip: &str, query: &str) -> (u16, Value, Option<String>) {
    let url = gateway.locate_url().expect("it serves /v1/locate").replace("127.0.0.1", "localhost");
    get(gateway, ip, &format!("{url}{query}"))
}

fn get(gateway: &Gateway, ip: &str, url: &str) -> (u16, Value, Option<String>) {
    let reply = https(gateway.certificate(), false).get(url).header("x-forwarded-for", ip).call().expect("an answer");
    let retry_after = reply.headers().get("retry-after").map(|value| value.to_str().expect("text").to_owned());
    let status = reply.status().as_u16();
    let content = reply.into_body().read_to_vec().expect("a body");
    (status, serde_json::from_slice(&content).expect("JSON"), retry_after)
}

fn ids(content: &Value) -> Vec<String> {
    let points = content["access_points"].as_array().expect("a list");
    points.iter().map(|point| point["id"].as_str().expect("an id").to_owned()).collect()
}

fn told(gateway: &Gateway, ip: &str) -> Vec<String> {
    let (status, content, _) = asked(gateway, ip, "");
    assert_eq!(status, 200, "{content}");
    ids(&content)
}

fn locate(client: &mut Client, current: &str) -> Answer<LocateReply> {
    client.call(Command::Locate, &Locate { current: current.into() })
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids
}

#[test]
fn geo_02_clients_are_told_by_https_what_is_near_them() {
    let gateway = builder().start();
    let (status, content, _) = asked(&gateway, GERMANY, "");
    assert_eq!(
        (status, ids(&content)),
        (200, vec!["fra".into(), "par".into(), "tyo".into()]),
        "without the drained one"
    );
    assert_eq!(content["access_points"][0]["addresses"][0], "fra.example.com:443");
    assert_eq!(
        (&content["access_points"][0]["region"], &content["access_points"][0]["weight"]),
        (&"germany".into(), &100.into())
    );
    assert!((200..=300).contains(&content["expires_s"].as_u64().expect("a number")), "{content}");
    assert_eq!(content["token"].as_str().expect("a token").len(), 55, "41 bytes");
    assert_eq!(told(&gateway, JAPAN)[0], "tyo");
    assert_eq!(told(&gateway, "2001:db8::77")[0], "tyo");
    // Who is nowhere goes somewhere; private addresses are nowhere, whatever the database says.
    for nowhere in [NOWHERE, "10.1.2.3", "127.0.0.1", "::1", "fd00::1"] {
        assert_eq!(sorted(told(&gateway, nowhere)), ["fra", "par", "tyo"], "{nowhere}");
    }
    let firsts: std::collections::BTreeSet<_> = (0..60).map(|_| told(&gateway, NOWHERE)[0].clone()).collect();
    assert_eq!(firsts.len(), 3, "spread over all of them");
    assert_eq!(gateway.metrics().sum("gateway_locates_total", &[("way", "https")]), 68.0);
}

#[test]
fn geo_02_other_paths_methods_and_queries_are_refused() {
    let gateway = builder().start();
    let url = gateway.locate_url().expect("it is served").replace("127.0.0.1", "localhost");
    for (wrong, status) in [
        (url.replace("/v1/locate", "/"), 404),
        (url.replace("/v1/locate", "/v4/openim/sendmsg"), 404),
        (format!("{url}/more"), 404),
        (format!("{url}?current=%zz"), 400),
    ] {
        let (found, content, _) = get(&gateway, GERMANY, &wrong);
        assert!(found == status && content["error"].is_string(), "{wrong}: {found} {content}");
    }
    let agent = https(gateway.certificate(), false);
    assert_eq!(agent.post(&url).send("x").expect("an answer").status().as_u16(), 405);
    // The server API's port does not serve it, and what it is not configured for is not served at all.
    let api = format!("https://localhost:{}/v1/locate", gateway.api_address().port());
    assert!(get(&gateway, GERMANY, &api).1["ErrorCode"].as_u64().is_some_and(|code| code != 0));
    let silent = builder().flag("geo-listen", "").start();
    assert_eq!(silent.locate_url(), None);
}

#[test]
fn geo_02_clients_ask_over_the_protocol_before_login_and_after() {
    let gateway = builder().start();
    let mut client = gateway.connect("anna");
    let before = locate(&mut client, "").expect("before login");
    let ids = |reply: &LocateReply| sorted(reply.access_points.iter().map(|point| point.id.clone()).collect());
    assert_eq!(ids(&before), ["fra", "par", "tyo"]);
    let tokyo = before.access_points.iter().find(|point| point.id == "tyo").expect("told");
    assert_eq!((tokyo.addresses.len(), tokyo.region.as_str(), tokyo.expected_ms), (2, "japan", 150));
    assert_eq!(before.token.len(), 41);
    assert!(!client.try_login().expect("it goes on").locate, "nothing is much better from nowhere");
    let after = locate(&mut client, "par").expect("after login");
    assert_eq!(after.access_points[0].id, "par", "where it is, it may stay");
    assert_eq!(gateway.metrics().sum("gateway_locates_total", &[("way", "protocol")]), 2.0);
    // A gateway without access points says that any address will do.
    let bare = Gateway::start();
    let reply = locate(&mut bare.connect("anna"), "").expect("an answer");
    assert!(reply.access_points.is_empty() && reply.expires_s > 0);
}

/// Hello, the question and the end of it: no login is needed.
#[test]
fn geo_02_a_stranger_is_told_in_one_flight() {
    let gateway = builder().start();
    let mut wire = gateway.wire();
    wire.hello();
    wire.request(7, Command::Locate, &Locate::default());
    let frame = wire.frame().expect("an answer");
    assert_eq!(frame.kind, Kind::Response);
    let (id, code, payload) = frame::split_pair(frame.body).expect("a response");
    assert_eq!((id, code), (7, 0));
    assert_eq!(LocateReply::decode(payload).expect("a reply").access_points.len(), 3);
    wire.request(8, Command::ReportRoundTrips, &ReportRoundTrips::default());
    assert_eq!(wire.failure(8), ErrorCode::NOT_LOGGED_IN);
}

#[test]
fn geo_03_what_clients_measure_changes_what_others_of_their_network_are_told() {
    let gateway = builder().start();
    let mut client = gateway.connect("anna");
    let token = locate(&mut client, "").expect("an answer").token;
    let round_trip = |id: &str, connect_ms| RoundTrip { access_point: id.into(), connect_ms, ..RoundTrip::default() };
    let seen = vec![round_trip("fra", 80), round_trip("par", 20), round_trip("tyo", 250), round_trip("gone", 1)];
    let report = |client: &mut Client, token: &[u8], round_trips: &[RoundTrip]| -> Answer<Done> {
        let (token, round_trips) = (token.to_vec().into(), round_trips.to_vec());
        client.call(Command::ReportRoundTrips, &ReportRoundTrips { token, round_trips })
    };
    client.try_login().expect("logged in");
    report(&mut client, &token, &seen).expect("taken");
    let second = locate(&mut gateway.connect("ben"), "").expect("an answer");
    let expected: Vec<_> = second.access_points.iter().map(|point| (point.id.as_str(), point.expected_ms)).collect();
    assert_eq!(expected, [("par", 20), ("fra", 80), ("tyo", 250)]);
    // Another network has measured nothing.
    assert_eq!(told(&gateway, GERMANY)[0], "fra");
    // The same again counts no more.
    report(&mut client, &token, &seen).expect("taken, and left out");
    let counted = |counted| gateway.metrics().sum("gateway_round_trips_total", &[("counted", counted)]);
    assert_eq!((counted("yes"), counted("no")), (3.0, 5.0));
    let refused = |answer: Answer<Done>| answer.expect_err("a refusal").code();
    let mut forged = token.to_vec();
    forged[5] ^= 1;
    assert_eq!(refused(report(&mut client, &forged, &seen)), Some(ErrorCode::ARGUMENT_INVALID));
    assert_eq!(refused(report(&mut client, &[], &seen)), Some(ErrorCode::ARGUMENT_INVALID));
    let too_many = vec![round_trip("fra", 1); 17];
    assert_eq!(refused(report(&mut client, &token, &too_many)), Some(ErrorCode::ARGUMENT_INVALID));
}

/// The key of tokens is the store's: another gateway on it, or this one after a restart, knows them.
#[test]
fn geo_03_a_token_outlives_its_gateway() {
    let gateway = builder().start();
    let token = locate(&mut gateway.connect("anna"), "").expect("an answer").token;
    let gateway = gateway.restart();
    let mut client = gateway.login("anna");
    let round_trips = vec![RoundTrip { access_point: "par".into(), tls_ms: 20, ..RoundTrip::default() }];
    let report = ReportRoundTrips { token, round_trips };
    client.call::<Done>(Command::ReportRoundTrips, &report).expect("taken");
    assert_eq!(gateway.metrics().sum("gateway_round_trips_total", &[("counted", "yes")]), 1.0);
    if !tests::has_no_embedded_store() {
        gateway.kill().check_store();
    }
}

#[test]
fn geo_02_who_asks_too_often_is_refused() {
    let gateway = builder().flag("geo-locates-per-second", 1).start();
    let answers: Vec<_> = (0..40).map(|_| asked(&gateway, GERMANY, "")).collect();
    let refused = answers.iter().find(|(status, ..)| *status == 429).expect("one of them");
    assert_eq!((refused.1["error"].is_string(), refused.2.as_deref()), (true, Some("1")));
    assert!(answers.iter().take(5).all(|(status, ..)| *status == 200), "five at once are taken");
    assert_eq!(asked(&gateway, JAPAN, "").0, 200, "each address apart");
    let mut client = gateway.connect("anna");
    let refusal = (0..12).find_map(|_| locate(&mut client, "").err()).expect("one of them");
    let Refusal::Failed { code, retry_after_ms } = refusal else { panic!("{refusal:?}") };
    assert!(code == ErrorCode::RATE_LIMITED && (1..=1_000).contains(&retry_after_ms), "{refusal:?}");
    client.try_login().expect("the connection goes on");
    // Reports are out of the same, good or bad.
    let report = ReportRoundTrips { token: vec![7; 41].into(), ..ReportRoundTrips::default() };
    let codes = (0..40).map(|_| client.call::<Done>(Command::ReportRoundTrips, &report).expect_err("refused").code());
    assert!(codes.into_iter().any(|code| code == Some(ErrorCode::RATE_LIMITED)));
    assert!(gateway.metrics().sum("gateway_locates_refused_total", &[]) >= 2.0);
}

#[test]
fn geo_02_one_address_can_not_keep_others_from_asking() {
    let refused = |gateway: &Gateway| gateway.metrics().sum("gateway_locate_connections_refused_total", &[]);
    let connect = |gateway: &Gateway| {
        let url = gateway.locate_url().expect("it serves /v1/locate");
        let address = url.trim_start_matches("https://").trim_end_matches("/v1/locate");
        TcpStream::connect(address).expect("connected")
    };
    let builder = || builder().flag("geo-connections-per-address-max", 2);
    let gateway = builder().flag("geo-trusted-proxies", "10.0.0.0/8").start();
    let _held = [connect(&gateway), connect(&gateway)];
    let mut third = connect(&gateway);
    third.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    assert_eq!((third.read(&mut [0]).expect("it is closed"), refused(&gateway)), (0, 1.0));
    // A proxy that is trusted has as many as there are. A connection is for one question.
    let gateway = builder().start();
    let _held = [connect(&gateway), connect(&gateway)];
    let url = gateway.locate_url().expect("it serves /v1/locate").replace("127.0.0.1", "localhost");
    let reply = https(gateway.certificate(), false).get(&url).call().expect("an answer");
    assert!(reply.headers().get("connection").is_some_and(|value| value == "close"), "{reply:?}");
    assert_eq!(refused(&gateway), 0.0);
}

#[test]
fn geo_03_only_trusted_proxies_say_who_asks() {
    let gateway = builder().flag("geo-trusted-proxies", "10.0.0.0/8").flag("geo-locates-per-second", 1).start();
    let statuses: Vec<u16> = (0..40).map(|host| asked(&gateway, &format!("198.51.100.{host}"), "").0).collect();
    assert!(statuses.contains(&429), "it is 127.0.0.1 that asks, whatever it says");
}

#[test]
fn geo_03_a_replaced_database_is_used_without_a_restart() {
    let gateway = builder().start();
    assert_eq!(told(&gateway, GERMANY)[0], "fra");
    put_database(gateway.built_from().folder(), &[("198.51.100.0/24", mmdb::country("JP"))]);
    eventually("the new database", || told(&gateway, GERMANY)[0] == "tyo");
    // A broken one changes nothing, and is said.
    fs::write(gateway.built_from().folder().join("where.mmdb"), b"no database").expect("written");
    put_later(&gateway);
    let (_, output, _) = gateway.stop();
    assert!(output.contains("geo.database not reloaded"), "{output}");
}

/// Waits until the broken file has been looked at: the one after it is in use, and the one before was until then.
fn put_later(gateway: &Gateway) {
    eventually("the broken file to be noticed", || gateway.process().output().contains("not reloaded"));
    assert_eq!(told(gateway, GERMANY)[0], "tyo");
    put_database(gateway.built_from().folder(), &[("198.51.100.0/24", mmdb::country("FR"))]);
    eventually("the next database", || told(gateway, GERMANY)[0] == "par");
}

#[test]
fn geo_03_an_access_point_that_takes_no_connections_drops_out_and_comes_back() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let near = listener.local_addr().expect("an address");
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let far = other.local_addr().expect("an address");
    let points = format!(
        r#"[{{ id = "near", addresses = ["{near}"], region = "germany" }}, {{ id = "far", addresses = ["{far}"], region = "japan" }}]"#
    );
    let gateway = builder().flag("geo-access-points", points).flag("geo-check-seconds", 1).start();
    assert_eq!(told(&gateway, GERMANY), ["near", "far"]);
    drop(listener);
    eventually("the dead one to drop out", || told(&gateway, GERMANY) == ["far"]);
    let _listener = TcpListener::bind(near).expect("the same port");
    eventually("it to come back", || told(&gateway, GERMANY) == ["near", "far"]);
}

#[test]
fn geo_03_this_gateway_is_told_as_full_when_it_is_and_hints_where_it_is_better() {
    let points = r#"[{ id = "here", addresses = ["a.example.com:443"], region = "germany", capacity = 10 },
                     { id = "there", addresses = ["b.example.com:443"], region = "japan" }]"#;
    let builder = || builder().flag("node-name", "here"); // which is geo.here then
    let gateway = builder().flag("geo-access-points", points).start();
    assert_eq!(told(&gateway, GERMANY), ["here", "there"]);
    let mut clients: Vec<_> = (0..10).map(|number| gateway.login(&format!("user-{number}"))).collect();
    assert_eq!(told(&gateway, GERMANY), ["there"], "full");
    let (_, stays, _) = asked(&gateway, GERMANY, "?current=there");
    assert_eq!(ids(&stays), ["there"]);
    clients.truncate(2);
    eventually("room again", || told(&gateway, GERMANY) == ["here", "there"]);
    // A login where the operator empties the access point is served, and told that it is better elsewhere.
    let drained = points.replace("capacity = 10", "drained = true");
    let drained = builder().flag("geo-access-points", drained).flag("geo-here", "here").start();
    let mut client = drained.connect("anna");
    assert!(client.try_login().expect("a hint is no wall").locate);
    assert_eq!(told(&drained, GERMANY), ["there"]);
}

#[test]
fn geo_03_a_node_alone_that_says_where_it_is_is_an_access_point() {
    let gateway = Gateway::builder().flag("node-region", "germany").flag("geo-locates-per-second", 0).start();
    eventually("it is told", || told(&gateway, GERMANY) == ["node"]);
}

#[test]
fn geo_03_gateway_locate_explains_a_decision() {
    let builder = builder();
    let explained = builder.locate(&["--ip", GERMANY, "--current", "par", "--failed", "tyo"]).expect("an explanation");
    assert!(explained.starts_with("198.51.100.7: DE, 50.10, 8.70 (database Test)"), "{explained}");
    let line =
        |id: &str| explained.lines().find(|line| line.contains(id)).unwrap_or_else(|| panic!("{id}: {explained}"));
    assert!(line(" fra ").trim_start().starts_with("1 ") && line(" par ").contains("-5.0"), "{explained}");
    assert!(line(" tyo ").ends_with("unhealthy") && line(" old ").ends_with("drained"), "{explained}");
    assert!(builder.locate(&["--ip", "10.0.0.1"]).expect("an explanation").contains("private"));
    assert!(builder.locate(&["--regions"]).expect("a list").lines().count() == 30);
    assert!(builder.locate(&["--ip", "nonsense"]).is_err());
    assert!(builder.locate(&["--ip", GERMANY, "--current", "gone"]).expect_err("an error").contains("gone"));
    assert!(explained.contains("\nFrom the configuration alone (none runs with its store.path at "), "{explained}");
}

#[test]
fn geo_03_gateway_locate_explains_what_the_running_gateway_decides() {
    let gateway = builder().flag("node-name", "fra").flag("client-connections-max", 50).start();
    let _anna = gateway.login("anna");
    let tool = gateway.built_from();
    let explain = |arguments: &[&str]| {
        let text = tool.locate(arguments).expect("an explanation");
        let line = |id: &str| text.lines().find(|line| line.contains(id)).map(str::to_owned).unwrap_or_default();
        let points = ["fra", "par", "tyo"].map(|id| line(&format!(" {id} ")));
        (text.lines().last().unwrap_or_default().to_owned(), points)
    };
    let (by_whom, [fra, ..]) = explain(&["--ip", GERMANY]);
    assert_eq!(by_whom, "As the gateway decides that runs here, at this moment.");
    assert!(fra.contains(" 1/50 ") && fra.ends_with("has room"), "{fra}");
    // What clients have measured.
    let mut client = gateway.login("ben");
    let token = locate(&mut client, "").expect("an answer").token;
    let round_trips = [("fra", 80), ("par", 20)].map(|(id, connect_ms)| RoundTrip {
        access_point: id.to_owned(),
        connect_ms,
        ..RoundTrip::default()
    });
    let report = ReportRoundTrips { token, round_trips: round_trips.to_vec() };
    client.call::<Done>(Command::ReportRoundTrips, &report).expect("taken");
    let (_, [fra, par, _]) = explain(&["--ip", "127.0.0.1"]);
    assert!(par.contains(" 20.0 ") && par.ends_with(", network 20.00 ms (1.0 votes)"), "{par}");
    assert!(fra.contains(" 80.0 "), "{fra}");
    // What if.
    let (_, [fra, par, _]) = explain(&["--ip", GERMANY, "--failed", "fra", "--current", "par"]);
    assert!(fra.contains("unhealthy") && par.trim_start().starts_with("1 ") && par.contains("-5.0"), "{fra}\n{par}");
    assert!(tool.locate(&["--ip", GERMANY, "--failed", "gone"]).expect_err("an error").contains("gone"));
    // With another configuration it is not this gateway that decides, nor once it has ended.
    let regions = r#"[{ id = "moon", name = "Moon", country = "XX", coordinates = [0, 0] }]"#;
    let (alone, _) = explain(&["--ip", GERMANY, "--geo-regions", regions]);
    let why = "From the configuration alone (the gateway that runs here has another configuration of access points): ";
    assert!(alone.starts_with(why), "{alone}");
    let builder = gateway.kill();
    let explained = builder.locate(&["--ip", GERMANY]).expect("an explanation");
    assert!(explained.contains("From the configuration alone (none runs"), "{explained}");
}

#[test]
fn geo_03_a_start_refuses_what_it_can_not_use() {
    let missing = builder().flag("geo-database", "/nowhere/where.mmdb").fails();
    assert!(missing.contains("geo.database /nowhere/where.mmdb"), "{missing}");
    let wrong =
        builder().flag("geo-access-points", r#"[{ id = "a", addresses = ["a:1"], region = "atlantis" }]"#).fails();
    assert!(wrong.contains("geo.access_points: a: region \"atlantis\""), "{wrong}");
}
