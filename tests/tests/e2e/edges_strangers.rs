//! What an edge is trusted with, and what a core takes of one (GEO-01).
//!
//! Goal: an edge needs no secret of an application, and one that keeps no rules, or is too many, is told so and harms
//! nobody. Mechanics: edges as processes, and a test that speaks as an edge itself, with an edge's certificate. Without
//! it a machine far away would hold secrets for nothing, or take all that a core has.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
};

use prost::Message as _;
use protocol::{
    ErrorCode,
    command::Command,
    link::{self, EDGE_FRAME_BYTES_MAX, LINK_ALPN, LINK_VERSION_MAX, LINK_VERSION_MIN, LinkDecoder, What},
    link_message::{LinkHello, LocateAsk, NodeRole},
    message::{Locate, LocateReply},
};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tempfile::TempDir;
use tests::{Builder, Gateway, PATIENCE, Refusal, eventually, free_port, node_certificates};

use crate::{edges::wait_linked, production::production};

/// A core that takes edges, where it does, and the certificates of the nodes.
fn core_with(more: impl FnOnce(Builder) -> Builder) -> (Gateway, SocketAddr, TempDir) {
    let certificates = node_certificates(&["core"], &["east", "west"]);
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let builder = Gateway::builder().node(certificates.path(), "core").flag("link-listen", listen);
    (more(builder).start(), listen, certificates)
}

/// Somebody with an edge's certificate who says what it likes.
struct Stranger {
    stream: StreamOwned<ClientConnection, TcpStream>,
    decoder: LinkDecoder,
}

impl Stranger {
    fn connect(core: SocketAddr, certificates: &Path, node: &str) -> Stranger {
        let file = |name: &str| certificates.join(name);
        let read = |name: &str| CertificateDer::from_pem_file(file(name)).expect("a certificate");
        let mut authorities = RootCertStore::empty();
        authorities.add(read("ca.pem")).expect("an authority");
        let key = PrivateKeyDer::from_pem_file(file(&format!("{node}.key"))).expect("a key");
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("a version");
        let builder = builder.with_root_certificates(authorities);
        let mut config = builder.with_client_auth_cert(vec![read(&format!("{node}.pem"))], key).expect("they fit");
        config.alpn_protocols = vec![LINK_ALPN.to_vec()];
        let name = ServerName::try_from("im-core").expect("a name");
        let tls = ClientConnection::new(Arc::new(config), name).expect("a client");
        let socket = TcpStream::connect(core).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        Stranger { stream: StreamOwned::new(tls, socket), decoder: LinkDecoder::default() }
    }

    /// Says hello, changed in some way; what the core answers.
    fn greet(&mut self, change: impl FnOnce(&mut LinkHello)) -> Option<What> {
        let mut hello = LinkHello {
            version_min: LINK_VERSION_MIN,
            version_max: LINK_VERSION_MAX,
            node: rand::random(),
            name: "stranger".into(),
            role: NodeRole::Edge.into(),
            release: "0.1.0".into(),
            session_window_bytes: 65_536,
            ..LinkHello::default()
        };
        change(&mut hello);
        self.say(&What::Hello(hello));
        self.hear()
    }

    fn say(&mut self, frame: &What) {
        let mut encoded = bytes::BytesMut::new();
        link::encode(frame, &mut encoded);
        self.stream.write_all(&encoded).expect("it takes it");
    }

    /// The next frame; `None`: the link is closed.
    fn hear(&mut self) -> Option<What> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame(EDGE_FRAME_BYTES_MAX).expect("a frame") {
                return Some(frame);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.decoder.feed(&buffer[..count]),
            }
        }
    }
}

/// What the core says that refuses.
fn refused(answer: Option<What>) -> String {
    match answer {
        Some(What::Refused(refused)) => refused.reason,
        other => panic!("it should refuse: {other:?}"),
    }
}

/// A production core that takes edges, where it does, and the certificates of the nodes.
fn production_core() -> (Gateway, SocketAddr, TempDir) {
    let certificates = node_certificates(&["core"], &["east"]);
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let core = production().node(certificates.path(), "core").flag("link-listen", listen).start();
    (core, listen, certificates)
}

/// An edge with the clients' certificate of `core`, as the README has it.
fn production_edge(core: &Gateway, listen: SocketAddr, certificates: &TempDir) -> Builder {
    let file = |name: &str| core.built_from().folder().join(name).display().to_string();
    let edge = core.built_from().another().node(certificates.path(), "east").edge(listen);
    edge.flag("tls-cert", file("cert.pem")).flag("tls-key", file("key.pem"))
}

#[test]
fn geo_01_an_edge_in_production_needs_no_application() {
    let (core, listen, certificates) = production_core();
    let edge = production_edge(&core, listen, &certificates).start();
    wait_linked(&edge);
    edge.login("anna").ping();
    let made = fs::read_dir(edge.data().join("dev")).expect("the test's own");
    let made: Vec<_> = made.map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(made, ["app.json"], "that is where the test has the core's");
}

#[test]
fn geo_01_an_edge_takes_no_secret_of_an_application() {
    let (core, listen, certificates) = production_core();
    let secret = core.built_from().folder().join("app.json").display().to_string();
    let output = production_edge(&core, listen, &certificates).flag("app-file", secret).fails();
    assert!(output.contains("app.file is ") && output.contains("must be empty where node.role is edge"), "{output}");
}

#[test]
fn geo_01_an_edge_that_would_take_nothing_is_refused() {
    let (core, listen, certificates) = core_with(|core| core);
    let mut edge = Stranger::connect(listen, certificates.path(), "east");
    let reason = refused(edge.greet(|hello| hello.session_window_bytes = 0));
    assert_eq!(reason, "the hello's session_window_bytes is invalid");
    assert_eq!(edge.hear(), None, "the link is closed behind it");
    // The same edge with a window is taken.
    let mut edge = Stranger::connect(listen, certificates.path(), "east");
    assert!(matches!(edge.greet(|_| {}), Some(What::Hello(hello)) if hello.role() == NodeRole::Core));
    core.wait_metric("gateway_edge_links", &[], 1.0);
}

#[test]
fn geo_01_clients_of_edges_are_told_that_the_core_or_the_link_is_full() {
    let full = |refusal: Option<Refusal>| {
        let refusal = refusal.expect("no room");
        assert!(matches!(refusal, Refusal::Closed(Some((ErrorCode::CONNECTION_LIMIT, 1..)))), "{refusal:?}");
    };
    // The core has two places.
    let (core, listen, certificates) = core_with(|core| core.flag("client-connections-max", 2));
    let edge = core.built_from().another().node(certificates.path(), "east").edge(listen).start();
    wait_linked(&edge);
    let (anna, mut ben) = (core.login("anna"), edge.login("ben"));
    full(edge.connect("carl").try_login().err());
    core.wait_metric("gateway_connections_refused_total", &[], 1.0);
    ben.ping();
    drop(anna);
    eventually("there is room again", || edge.connect("carl").try_login().is_ok());
    // So has each link of this edge, of which it has one.
    let (core, listen, certificates) = core_with(|core| core.flag("link-sessions-max", 2));
    let edge = core.built_from().another().node(certificates.path(), "east").edge(listen).flag("cores", 1).start();
    edge.wait_metric("gateway_links", &[], 1.0);
    let _kept = [edge.login("anna"), edge.login("ben")];
    full(edge.connect("carl").try_login().err());
}

#[test]
fn geo_01_an_edge_has_so_many_links_and_no_more() {
    let (core, listen, certificates) = core_with(|core| core.flag("link-edge-links-max", 2));
    let connect = |node| Stranger::connect(listen, certificates.path(), node);
    let taken = |node| {
        let mut edge = connect(node);
        assert!(matches!(edge.greet(|_| {}), Some(What::Hello(_))));
        edge
    };
    let (one, _other) = (taken("east"), taken("east"));
    let reason = refused(connect("east").greet(|hello| hello.name = "another".into()));
    assert!(reason.starts_with("this certificate has the edge") && reason.contains("already"), "{reason}");
    // It says another number each time: its certificate is what it has one of.
    let reason = refused(connect("east").greet(|_| {}));
    let expected = "this certificate has 2 links here already, as many as link.edge_links_max allows";
    assert_eq!(reason, expected);
    eventually("a word about it", || {
        let said = core.process().output();
        said.contains("a link of an edge is refused") && said.contains(expected)
    });
    let _west = taken("west");
    drop(one);
    eventually("there is room again", || matches!(connect("east").greet(|_| {}), Some(What::Hello(_))));
}

#[test]
fn geo_03_a_core_answers_an_edge_that_asks_for_a_client_and_counts_the_client() {
    let (core, listen, certificates) =
        core_with(|core| core.flag("node-region", "germany").flag("geo-locates-per-second", 1));
    let mut edge = Stranger::connect(listen, certificates.path(), "east");
    assert!(matches!(edge.greet(|_| {}), Some(What::Hello(_))));
    let mut ask = |question, ip: &[u8]| {
        let ask = LocateAsk { question, ip: ip.to_vec().into(), current: "x".repeat(1_000) };
        edge.say(&What::LocateAsk(ask));
        loop {
            match edge.hear().expect("the link goes on") {
                What::LocateAnswer(answer) => break answer,
                What::Directory(_) | What::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    let answer = ask(7, &[198, 51, 100, 7]);
    let reply = LocateReply::decode(answer.reply).expect("a reply");
    assert_eq!((answer.question, answer.retry_after_ms), (7, 0));
    assert!(reply.expires_s > 0 && reply.token.len() == 41, "{reply:?}");
    // Too often for this client, and not for another one.
    let refused = (8..60).map(|question| ask(question, &[198, 51, 100, 7])).find(|answer| answer.retry_after_ms > 0);
    assert!(refused.is_some_and(|answer| answer.reply.is_empty()));
    assert_eq!(ask(60, &[203, 0, 113, 7]).retry_after_ms, 0);
    // What is no address gets no answer, and does no harm.
    edge.say(&What::LocateAsk(LocateAsk { question: 61, ip: vec![1, 2, 3].into(), ..LocateAsk::default() }));
    let next = LocateAsk { question: 62, ip: [0x20; 16].to_vec().into(), ..LocateAsk::default() };
    edge.say(&What::LocateAsk(next));
    let answer = std::iter::from_fn(|| edge.hear()).find_map(|frame| match frame {
        What::LocateAnswer(answer) => Some(answer.question),
        _ => None,
    });
    assert_eq!(answer, Some(62));
    core.wait_metric("gateway_locates_refused_total", &[("way", "edge")], 1.0);
}

/// An edge of the release before is served as ever: it asks nothing, and is told nothing that it does not know.
#[test]
fn geo_01_an_edge_of_the_release_before_is_taken() {
    let (core, listen, certificates) = core_with(|core| core);
    let mut edge = Stranger::connect(listen, certificates.path(), "east");
    let answer = edge.greet(|hello| hello.version_max = LINK_VERSION_MAX - 1);
    assert!(matches!(answer, Some(What::Hello(hello)) if hello.version_max == LINK_VERSION_MAX));
    core.wait_metric("gateway_edge_links", &[], 1.0);
    for _ in 0..4 {
        assert!(matches!(edge.hear(), Some(What::Directory(_) | What::Ping(_))));
    }
}

#[test]
fn geo_03_of_two_edges_with_one_name_clients_are_told_the_first_and_operators_of_the_other() {
    let (core, listen, certificates) = core_with(|core| core.flag("geo-locates-per-second", 0));
    let edge = |certificate, region| {
        let edge = core.built_from().another().node(certificates.path(), certificate).edge(listen);
        let edge = edge.flag("node-name", "east").flag("node-region", region).start();
        wait_linked(&edge);
        edge
    };
    let mut client = core.login("anna");
    let mut region = || {
        let reply: LocateReply = client.call(Command::Locate, &Locate::default()).expect("told");
        reply.access_points.iter().map(|point| point.region.clone()).collect::<Vec<_>>()
    };
    let first = edge("east", "japan");
    eventually("it is known", || region() == ["japan"]);
    let _other = edge("west", "usa");
    eventually("a word about it", || core.process().output().contains("another node has the name \"east\" already"));
    assert_eq!(region(), ["japan"]);
    first.kill();
    eventually("the name is free", || region() == ["usa"]);
}

#[test]
fn geo_01_a_core_is_no_edge() {
    let (_core, listen, certificates) = core_with(|core| core);
    let mut edge = Stranger::connect(listen, certificates.path(), "east");
    let Some(What::Hello(core)) = edge.greet(|_| {}) else { panic!("an edge is taken") };
    let mut other = Stranger::connect(listen, certificates.path(), "core");
    let reason = refused(other.greet(|hello| *hello = LinkHello { node: hello.node, ..core }));
    assert_eq!(reason, "only edges have links here");
}

#[test]
fn geo_01_links_of_an_edge_are_spread_over_the_processors_of_a_core() {
    let (core, listen, certificates) = core_with(|core| core.flag("cores", 3));
    let links = || ["0", "1", "2"].map(|index| core.metrics().sum("gateway_edge_links", &[("core", index)]));
    let edge = core.built_from().another().node(certificates.path(), "east").edge(listen).flag("cores", 6).start();
    eventually("two each", || links() == [2.0; 3]);
    edge.login("anna").ping();
    edge.kill();
    eventually("they are gone", || links() == [0.0; 3]);
    let edge = core.built_from().another().node(certificates.path(), "west").edge(listen).flag("cores", 3).start();
    eventually("one each", || links() == [1.0; 3]);
    edge.login("anna").ping();
}
