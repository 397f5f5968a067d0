//! Edges: nodes near their clients, which reach a core by links (GEO-01).
//!
//! Goal: a client of an edge finds everything as on a core, from a login to a kick; whatever is slow stalls itself alone;
//! and when an edge, the core or the link between them dies, its clients come again and have lost nothing. Mechanics: one
//! core and two edges as processes, with a relay between that can be slow, silent or cut.

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use protocol::{
    ErrorCode,
    command::Command,
    message::{
        Done, GroupType, History, HistoryReply, Locate, LocateReply, Message, OnlineState, Platform, ReportRoundTrips,
        RoundTrip, event::What,
    },
};
use rustls::HandshakeKind;
use serde_json::json;
use tempfile::TempDir;
use tests::{
    Builder, Client, Gateway, MessageExt as _, Options, Refusal, Relay, Wire, eventually, free_port, mmdb,
    node_certificates, text_body, unique_id,
};

use crate::locate::{GERMANY, asked, put_database};

/// A core, and how edges reach it.
pub(crate) struct Scene {
    core: Option<Gateway>,
    relay: Relay,
    certificates: TempDir,
}

impl Scene {
    pub(crate) fn start() -> Scene {
        Scene::start_with(|core| core)
    }

    fn start_with(more: impl FnOnce(Builder) -> Builder) -> Scene {
        let certificates = node_certificates(&["core"], &["east", "west"]);
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let builder = Gateway::builder().node(certificates.path(), "core").flag("link-listen", listen);
        let core = Some(more(builder).start());
        let relay = Relay::start();
        relay.to(listen);
        Scene { core, relay, certificates }
    }

    pub(crate) fn core(&self) -> &Gateway {
        self.core.as_ref().expect("it runs")
    }

    /// An edge that is not started yet.
    fn edge_builder(&self, name: &str) -> Builder {
        self.core().built_from().another().node(self.certificates.path(), name).edge(self.relay.address())
    }

    /// An edge that is linked.
    pub(crate) fn edge(&self, name: &str) -> Gateway {
        let edge = self.edge_builder(name).start();
        wait_linked(&edge);
        edge
    }
}

/// All of its shards have a link.
pub(crate) fn wait_linked(edge: &Gateway) {
    let shards = std::thread::available_parallelism().expect("processors").get();
    edge.wait_metric("gateway_links", &[], shards as f64);
    assert_eq!(edge.get("/readyz").expect("it answers").0, 200);
}

/// The texts of the next messages, by push and, where something may have been missed, from the log.
pub(crate) fn receive(client: &mut Client, count: usize) -> Vec<String> {
    let mut messages: Vec<Message> = Vec::new();
    while messages.len() < count {
        match client.next_push().expect("the connection stays up") {
            Some(message) => messages.push(message),
            None => messages.extend(client.catch_up()),
        }
    }
    messages.iter().map(|message| message.text()).collect()
}

#[test]
fn geo_01_clients_of_edges_and_core_are_together() {
    let scene = Scene::start();
    let (east, west) = (scene.edge("east"), scene.edge("west"));
    let (mut anna, mut ben, mut cleo) = (east.login("anna"), west.login("ben"), scene.core().login("cleo"));
    let expected: Vec<String> = (0..50).map(|number| format!("hello {number}")).collect();
    for text in &expected {
        anna.send("ben", text);
        anna.send("cleo", text);
    }
    assert_eq!(receive(&mut ben, 50), expected);
    assert_eq!(receive(&mut cleo, 50), expected);
    let group = cleo.create_group(GroupType::Work, &["anna", "ben"]);
    cleo.send_to_group(&group, "all of you").expect("sent");
    for client in [&mut anna, &mut ben] {
        eventually(
            "it is told",
            || matches!(client.next_event(), What::Message(message) if message.text() == "all of you"),
        );
    }
    // Presence, and the address that the client has.
    cleo.follow(&["dan"]).expect("followed");
    let dan = west.login("dan");
    assert_eq!(cleo.next_presence().state(), OnlineState::Online);
    drop(dan);
    assert_eq!(cleo.next_presence().state(), OnlineState::Offline);
    // A kick by the server API reaches a client of an edge.
    let answer = scene.core().api().call("im_open_login_svc/kick", &json!({ "UserID": "anna" }));
    assert_eq!(answer["ErrorCode"], 0, "{answer}");
    anna.signed_out();
}

#[test]
fn geo_01_login_02_devices_exclude_each_other_across_edges() {
    let scene = Scene::start_with(|core| core.settings(json!({ "login_policy": "dual" })));
    let (east, west) = (scene.edge("east"), scene.edge("west"));
    let log_in = |at: &Gateway, device: &str| {
        let options = Options { platform: Platform::Android, device: device.into(), ..Options::default() };
        let mut client = at.connect_with("anna", options);
        client.log_in_and_sync();
        client
    };
    let mut first = log_in(&east, "first");
    let mut second = log_in(&west, "second");
    assert_eq!(first.signed_out().device, "second");
    let mut third = log_in(scene.core(), "third");
    assert_eq!(second.signed_out().device, "third");
    assert_eq!(third.devices().len(), 1);
}

#[test]
fn geo_01_big_answers_pass_small_windows_and_who_does_not_read_stalls_itself_alone() {
    let scene = Scene::start_with(|core| core.flag("link-session-window-bytes", 16_384));
    let east = scene.edge_builder("east").flag("link-session-window-bytes", 16_384).start();
    wait_linked(&east);
    let (mut anna, mut ben) = (east.login("anna"), east.login("ben"));
    let slow = Options { receive_buffer_bytes: Some(4096), ..Options::default() };
    let mut deaf = east.connect_with("deaf", slow);
    deaf.log_in_and_sync();
    let text = "x".repeat(8_000);
    for number in 0..60 {
        anna.send_as("deaf", &unique_id(), text_body(&text)).expect("sent");
        anna.send("ben", &format!("{number}"));
    }
    assert_eq!(receive(&mut ben, 60), (0..60).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(anna.conversation("deaf").len(), 60, "480 kB by pages");
    // It reads at last, and has missed nothing.
    assert_eq!(receive(&mut deaf, 60).len(), 60);
}

#[test]
fn geo_01_a_killed_edge_takes_its_sessions_with_it_and_its_clients_come_back_over_another() {
    let scene = Scene::start();
    let (east, west) = (scene.edge("east"), scene.edge("west"));
    let mut ben = scene.core().login("ben");
    let mut anna = east.login("anna");
    anna.send("ben", "before");
    assert_eq!(receive(&mut ben, 1), ["before"]);
    assert_eq!(ben.presence_of("anna").state(), OnlineState::Online);
    east.kill();
    eventually("she is gone with her edge", || ben.presence_of("anna").state() == OnlineState::Offline);
    ben.send("anna", "meanwhile");
    let mut anna = west.connect("anna");
    let missed = anna.log_in_and_sync();
    assert_eq!(missed.last().expect("a message").text(), "meanwhile");
    anna.send("ben", "after");
    assert_eq!(receive(&mut ben, 1), ["after"]);
}

#[test]
fn geo_01_when_the_core_dies_clients_of_edges_are_told_and_come_back_to_the_next_one() {
    let other = r#"[{ id = "other", addresses = ["other.example.com:443"], region = "france" }]"#;
    let mut scene = Scene::start_with(|core| core.flag("geo-access-points", other).flag("geo-check-seconds", 0));
    let east = scene.edge_builder("east").flag("node-region", "japan").start();
    wait_linked(&east);
    let (mut anna, mut ben, mut cleo) = (east.login("anna"), east.login("ben"), east.login("cleo"));
    eventually("the edge knows where else there is", || asked_ids(&east).contains(&"other".to_owned()));
    let mut acknowledged = Vec::new();
    for number in 0..20 {
        anna.send("ben", &format!("{number}"));
        acknowledged.push(number.to_string());
    }
    let builder = scene.core.take().expect("it runs").kill();
    let (code, retry_after_ms) = anna.closed().expect("a last word");
    assert_eq!(code, ErrorCode::SERVER_DRAINING);
    assert!(retry_after_ms > 0, "spread out");
    assert!(ben.closed().is_some());
    assert_eq!(cleo.sent_elsewhere(), [""; 0], "they come back here: another core may be linked with by then");
    eventually("it says that it serves nobody", || east.get("/readyz").expect("it answers").0 == 503);
    // Who comes meanwhile is told the same, and where else to go.
    let mut early = east.connect("early");
    assert!(matches!(early.try_login(), Err(Refusal::Closed(Some((ErrorCode::SERVER_DRAINING, 1..))))));
    assert_eq!(east.connect("early").sent_elsewhere(), ["other"]);
    scene.core = Some(builder.start());
    wait_linked(&east);
    let mut ben = east.login("ben");
    let texts: Vec<String> = ben.conversation("anna").iter().map(|message| message.text()).collect();
    assert_eq!(texts, acknowledged);
    let mut anna = east.login("anna");
    anna.send("ben", "again");
    assert_eq!(receive(&mut ben, 1), ["again"]);
}

#[test]
fn geo_01_a_cut_or_silent_link_ends_its_sessions_and_comes_back() {
    let scene = Scene::start();
    let east = scene.edge("east");
    let mut ben = scene.core().login("ben");
    for how in [Relay::cut, Relay::silence] {
        let mut anna = east.login("anna");
        assert_eq!(ben.presence_of("anna").state(), OnlineState::Online);
        how(&scene.relay);
        assert_eq!(anna.closed().map(|(code, _)| code), Some(ErrorCode::SERVER_DRAINING));
        eventually("the core has seen it", || ben.presence_of("anna").state() == OnlineState::Offline);
        scene.relay.mend();
        wait_linked(&east);
    }
    let mut anna = east.login("anna");
    anna.send("ben", "still there");
    assert_eq!(receive(&mut ben, 1), ["still there"]);
}

#[test]
fn geo_01_an_edge_far_away_costs_one_round_trip_a_send() {
    let scene = Scene::start();
    let east = scene.edge("east");
    let (mut anna, mut ben) = (east.login("anna"), scene.core().login("ben"));
    scene.relay.delay_ms(40);
    for number in 0..5 {
        anna.send("ben", &number.to_string());
    }
    // How long it takes is for the load test; here it works, and heartbeats do.
    anna.ping();
    assert_eq!(receive(&mut ben, 5), ["0", "1", "2", "3", "4"]);
}

#[test]
fn geo_01_a_link_that_is_slow_and_moves_is_kept() {
    let window = ("link-session-window-bytes", 1 << 20);
    let scene = Scene::start_with(|core| core.flag(window.0, window.1));
    // What waits takes longer than a link may take nothing.
    scene.relay.bytes_per_second(60_000);
    let east = scene.edge_builder("east").flag(window.0, window.1).flag("cores", 1).start();
    east.wait_metric("gateway_links", &[], 1.0);
    let mut clients = [east.login("ben"), east.login("ben")];
    let mut anna = scene.core().login("anna");
    for _ in 0..8 {
        anna.send_as("ben", &unique_id(), text_body(&"x".repeat(8_000))).expect("sent");
    }
    let history = History { user: "anna".into(), forward: true, ..History::default() };
    let pages = clients.each_mut().map(|ben| [(); 4].map(|()| ben.request(Command::History, &history)));
    for (ben, pages) in clients.iter_mut().zip(pages) {
        for page in pages {
            let page: HistoryReply = ben.answer(page).expect("it comes at last");
            assert!(!page.messages.is_empty());
        }
    }
    assert_eq!(east.metrics().sum("gateway_links", &[]), 1.0);
}

#[test]
fn geo_01_an_edge_that_drains_sends_its_clients_elsewhere() {
    let scene = Scene::start();
    let (east, west) = (scene.edge("east"), scene.edge("west"));
    let mut anna = east.login("anna");
    let mut ben = west.login("ben");
    let stopping = std::thread::spawn(move || east.stop());
    assert_eq!(anna.closed().map(|(code, _)| code), Some(ErrorCode::SERVER_DRAINING));
    drop(anna);
    let (status, output, _) = stopping.join().expect("stopped");
    assert_eq!(status.code(), Some(0), "{output}");
    let mut anna = west.login("anna");
    anna.send("ben", "over here");
    assert_eq!(receive(&mut ben, 1), ["over here"]);
}

/// The access points that a client is told, by id.
pub(crate) fn told(client: &mut Client) -> Vec<String> {
    let reply: LocateReply = client.call(Command::Locate, &Locate::default()).expect("told");
    let mut ids: Vec<String> = reply.access_points.into_iter().map(|point| point.id).collect();
    ids.sort();
    ids
}

#[test]
fn geo_02_geo_03_edges_are_access_points_and_say_so_as_cores_do() {
    let scene = Scene::start_with(|core| core.flag("node-region", "germany").flag("geo-locates-per-second", 0));
    let build = |name: &str, region: &str| {
        scene.edge_builder(name).flag("node-region", region).flag("geo-locates-per-second", 0)
    };
    let east = build("east", "japan").start();
    let west = build("west", "usa").start();
    [&east, &west].into_iter().for_each(wait_linked);
    let mut clients = [scene.core().login("a"), east.login("b"), west.login("c")];
    for client in &mut clients {
        eventually("all three are known", || told(client) == ["core", "east", "west"]);
    }
    // By HTTPS at the edge itself, with a token that is good everywhere.
    let mut answer = serde_json::Value::Null;
    eventually("the edge says the same", || {
        answer = asked(&east, "127.0.0.1", "").1;
        answer["access_points"].as_array().is_some_and(|points| points.len() == 3)
    });
    let token = URL_SAFE_NO_PAD.decode(answer["token"].as_str().expect("a token")).expect("base64");
    let round_trips = vec![RoundTrip { access_point: "east".into(), connect_ms: 20, ..RoundTrip::default() }];
    let report = ReportRoundTrips { token: token.into(), round_trips };
    let mut reporter = scene.core().login("reporter");
    reporter.call::<Done>(Command::ReportRoundTrips, &report).expect("taken");
    // One that drains is told to nobody any more, and sends its clients to the others.
    let mut anna = east.login("anna");
    let stopping = std::thread::spawn(move || east.stop());
    let elsewhere = anna.sent_elsewhere();
    assert!(!elsewhere.is_empty() && !elsewhere.contains(&"east".to_owned()), "{elsewhere:?}");
    drop((anna, clients));
    assert_eq!(stopping.join().expect("stopped").0.code(), Some(0));
    let mut client = west.login("d");
    eventually("it is told no more", || told(&mut client) == ["core", "west"]);
    // Nor is one that has died.
    west.kill();
    let mut client = scene.core().login("e");
    eventually("it is told no more", || told(&mut client) == ["core"]);
}

/// The access points that an edge tells by HTTPS, in order.
fn asked_ids(edge: &Gateway) -> Vec<String> {
    let points = asked(edge, "127.0.0.1", "").1["access_points"].as_array().cloned().unwrap_or_default();
    points.iter().map(|point| point["id"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Of a hundred clients that are nowhere, so many are told an access point first.
fn share(edge: &Gateway, id: &str) -> Option<u64> {
    let (_, answer, _) = asked(edge, "127.0.0.1", "");
    let point = answer["access_points"].as_array()?.iter().find(|point| point["id"] == id)?;
    point["weight"].as_u64()
}

#[test]
fn geo_03_edges_are_told_how_full_their_core_is() {
    let limits = [("client-connections-max", 40), ("geo-locates-per-second", 0)];
    let scene = Scene::start_with(|core| {
        limits.iter().fold(core.flag("node-region", "germany"), |core, (name, value)| core.flag(name, value))
    });
    let east = scene.edge_builder("east").flag("node-region", "japan").flag("geo-locates-per-second", 0).start();
    wait_linked(&east);
    eventually("both share clients", || share(&east, "core") == Some(50));
    let _clients: Vec<Client> = (0..20).map(|number| scene.core().login(&format!("user {number}"))).collect();
    eventually("the core takes fewer", || share(&east, "core").is_some_and(|share| share <= 35));
}

#[test]
fn geo_03_an_edge_of_a_full_core_is_full_and_nobody_is_sent_back_to_it() {
    let other = r#"[{ id = "other", addresses = ["other.example.com:443"], region = "france" }]"#;
    let scene = Scene::start_with(|core| {
        let core = core.flag("node-region", "germany").flag("geo-access-points", other);
        core.flag("client-connections-max", 2).flag("geo-check-seconds", 0).flag("geo-locates-per-second", 0)
    });
    let east = scene.edge_builder("east").flag("node-region", "japan").flag("geo-locates-per-second", 0).start();
    wait_linked(&east);
    let mut ben = east.login("ben");
    eventually("all are known", || told(&mut ben) == ["core", "east", "other"]);
    let _anna = scene.core().login("anna");
    assert_eq!(east.connect("carl").sent_elsewhere(), ["other"]);
    eventually("the edge says that it is full", || asked_ids(&east) == ["other"]);
}

#[test]
fn geo_03_who_comes_by_an_edge_is_not_judged_by_where_its_core_is() {
    let points = r#"[{ id = "core", addresses = ["core.example.com:443"], region = "germany", drained = true },
                     { id = "other", addresses = ["other.example.com:443"], region = "france" }]"#;
    let scene = Scene::start_with(|core| core.flag("geo-access-points", points).flag("geo-check-seconds", 0));
    let east = scene.edge("east");
    let is_better_elsewhere = |at: &Gateway| at.connect("anna").try_login().expect("a hint is no wall").locate;
    assert!(is_better_elsewhere(scene.core()));
    assert!(!is_better_elsewhere(&east), "it does not say where it is");
}

/// What a client at this edge's host is told by HTTPS to expect of an access point, in milliseconds.
fn expected_ms(edge: &Gateway, id: &str) -> Option<u64> {
    let (_, answer, _) = asked(edge, "127.0.0.1", "");
    let point = answer["access_points"].as_array()?.iter().find(|point| point["id"] == id)?;
    point["expected_ms"].as_u64()
}

#[test]
fn geo_03_an_edge_that_is_asked_says_what_its_core_would() {
    let scene = Scene::start_with(|core| core.flag("node-region", "germany").flag("geo-locates-per-second", 0));
    let east = scene.edge_builder("east").flag("node-region", "japan").flag("geo-locates-per-second", 0).start();
    wait_linked(&east);
    let mut anna = scene.core().login("anna");
    eventually("both are known", || told(&mut anna) == ["core", "east"]);
    eventually("nothing was measured", || expected_ms(&east, "east") == Some(150));
    // What a client reports at the core, the edge's own answer knows.
    let token = anna.call::<LocateReply>(Command::Locate, &Locate::default()).expect("told").token;
    let measured = |id: &str, connect_ms| RoundTrip { access_point: id.into(), connect_ms, ..RoundTrip::default() };
    let round_trips = vec![measured("east", 30), measured("core", 240)];
    anna.call::<Done>(Command::ReportRoundTrips, &ReportRoundTrips { token, round_trips }).expect("taken");
    assert_eq!((expected_ms(&east, "east"), expected_ms(&east, "core")), (Some(30), Some(240)));
    // So does the core, when its operator asks how it decides.
    let explained = scene.core().built_from().locate(&["--ip", "127.0.0.1"]).expect("an explanation");
    let line = explained.lines().find(|line| line.contains(" east ")).unwrap_or_default();
    assert!(line.contains(" japan ") && line.contains(" 30.0 ") && line.contains("network 30.00 ms"), "{explained}");
    let relayed = || scene.core().metrics().sum("gateway_locates_total", &[("way", "edge")]);
    assert!(relayed() >= 3.0);
    // A core that does not answer keeps nobody waiting for long, nor does one that is not there.
    scene.relay.silence();
    assert_eq!(expected_ms(&east, "core"), Some(150));
    eventually("it is noticed", || east.get("/readyz").expect("it answers").0 == 503);
    assert_eq!(expected_ms(&east, "core"), Some(150));
    scene.relay.mend();
    wait_linked(&east);
    eventually("the core is asked again", || expected_ms(&east, "core") == Some(240));
}

#[test]
fn geo_02_who_asks_an_edge_too_often_is_refused_by_it_and_by_its_core() {
    let scene = Scene::start_with(|core| core.flag("node-region", "germany").flag("geo-locates-per-second", 1));
    let refused = |node: &Gateway, way| node.metrics().sum("gateway_locates_refused_total", &[("way", way)]);
    let ask_often = |edge: &Gateway| {
        let answers: Vec<_> = (0..40).map(|_| asked(edge, "127.0.0.1", "")).collect();
        let (_, content, retry_after) = answers.into_iter().find(|(status, ..)| *status == 429).expect("one of them");
        assert_eq!((content["error"].is_string(), retry_after.as_deref()), (true, Some("1")));
    };
    // The core counts those that come over an edge, as if they had come to it.
    let east = scene.edge_builder("east").flag("geo-locates-per-second", 0).start();
    wait_linked(&east);
    ask_often(&east);
    let by_core = refused(scene.core(), "edge");
    assert!(by_core > 0.0 && refused(&east, "https") == by_core);
    // What an edge refuses itself does not come to the core.
    let west = scene.edge_builder("west").flag("geo-locates-per-second", 1).start();
    wait_linked(&west);
    eventually("the core has forgotten it", || asked(&east, "127.0.0.1", "").0 == 200);
    let asked_before = scene.core().metrics().sum("gateway_locates_total", &[]);
    ask_often(&west);
    assert!(refused(&west, "https") > 0.0);
    assert!(scene.core().metrics().sum("gateway_locates_total", &[]) - asked_before < 40.0);
}

#[test]
fn geo_03_an_edge_without_its_core_reads_a_replaced_database_without_a_restart() {
    let other = r#"[{ id = "other", addresses = ["other.example.com:443"], region = "japan" }]"#;
    let scene = Scene::start_with(|core| {
        core.flag("node-region", "germany").flag("geo-access-points", other).flag("geo-check-seconds", 0)
    });
    let builder = scene.edge_builder("east").flag("geo-trusted-proxies", "127.0.0.1");
    let put = |country| put_database(scene.certificates.path(), &[("198.51.100.0/24", mmdb::country(country))]);
    let east = builder.flag("geo-database", put("DE")).flag("geo-locates-per-second", 0).start();
    wait_linked(&east);
    let ids = || {
        let points = asked(&east, GERMANY, "").1["access_points"].as_array().cloned().unwrap_or_default();
        points.iter().map(|point| point["id"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    eventually("all are known", || ids().len() == 2);
    scene.relay.cut();
    eventually("it is noticed", || east.get("/readyz").expect("it answers").0 == 503);
    eventually("the core is near", || ids() == ["core", "other"]);
    put("JP");
    eventually("the other one is nearer", || ids() == ["other", "core"]);
}

#[test]
fn geo_01_a_core_that_drains_sends_the_clients_of_edges_away_once_they_are_answered() {
    let mut scene = Scene::start();
    let east = scene.edge("east");
    let mut anna = east.login("anna");
    let core = scene.core.take().expect("it runs");
    let stopping = std::thread::spawn(move || core.stop());
    assert_eq!(anna.closed().map(|(code, _)| code), Some(ErrorCode::SERVER_DRAINING));
    let (status, output, _) = stopping.join().expect("stopped");
    assert_eq!(status.code(), Some(0), "{output}");
}

#[test]
fn geo_01_a_tls_session_of_the_core_is_resumed_at_an_edge() {
    let scene = Scene::start();
    let builder = scene.edge_builder("east");
    // One certificate for clients, as in a deployment.
    for file in ["cert.pem", "key.pem"] {
        std::fs::copy(scene.core().data().join("dev").join(file), builder.data_folder().join("dev").join(file))
            .expect("copied");
    }
    let east = builder.start();
    wait_linked(&east);
    let config = scene.core().tls();
    let mut kinds = Vec::new();
    for node in [scene.core(), &east] {
        let mut wire = Wire::open(node.address(), config.clone()).expect("a handshake");
        wire.hello(); // the ticket comes with the first data, or before
        kinds.push(wire.tls().handshake_kind());
    }
    assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]);
}

#[test]
fn geo_01_an_edge_without_the_deployment_s_certificate_is_not_taken() {
    let scene = Scene::start();
    let foreign = node_certificates(&[], &["east"]);
    let edge = scene.edge_builder("east").node(foreign.path(), "east").start();
    edge.wait_metric("gateway_link_connects_failed_total", &[], 3.0);
    assert_eq!(edge.get("/readyz").expect("it answers").0, 503);
    let mut anna = edge.connect("anna");
    assert!(anna.try_login().is_err());
    assert_eq!(scene.core().metrics().sum("gateway_edge_links", &[]), 0.0);
}

#[test]
fn geo_01_many_clients_share_the_links_of_an_edge() {
    let scene = Scene::start();
    let east = scene.edge("east");
    let mut clients: Vec<Client> = (0..100).map(|number| east.login(&format!("user {number}"))).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let to = format!("user {}", (number + 37) % 100);
        client.send(&to, &number.to_string());
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(receive(client, 1), [((number + 63) % 100).to_string()]);
    }
    drop(clients);
    eventually("all are gone", || scene.core().metrics().sum("gateway_sessions", &[]) == 0.0);
}
