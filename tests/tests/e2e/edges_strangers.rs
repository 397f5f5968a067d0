//! What an edge is trusted with, and what a core takes of one (GEO-01).
//!
//! Goal: an edge needs no secret of an application; one that keeps no rules, is too many, or is lost, is told so and harms
//! nobody, nor do strangers; and it goes on to the next core. Mechanics: edges as processes, and a test that speaks as an
//! edge or a core itself, with a node's certificate. Without it a machine far away would hold secrets for nothing, or take
//! all that a core has.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::Arc,
    time::UNIX_EPOCH,
};

use prost::Message as _;
use protocol::{
    ErrorCode,
    command::Command,
    link::{self, EDGE_FRAME_BYTES_MAX, LINK_ALPN, LINK_VERSION_MAX, LINK_VERSION_MIN, LinkDecoder, What},
    link_message::{Directory, LinkHello, LinkPing, LocateAsk, NodeRole, SessionOpen},
    message::{Locate, LocateReply},
};
use rustix::process::Signal;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tests::{Builder, Gateway, PATIENCE, Refusal, eventually, free_port, node_certificates};

use crate::{
    edges::{told, wait_linked},
    production::production,
};

/// A core that takes edges, where it does, and the certificates of the nodes.
fn core_with(more: impl FnOnce(Builder) -> Builder) -> (Gateway, SocketAddr, TempDir) {
    let certificates = node_certificates(&["core"], &["east", "west"]);
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let builder = Gateway::builder().node(certificates.path(), "core").flag("link-listen", listen);
    (more(builder).start(), listen, certificates)
}

/// Somebody with a node's certificate who says what it likes.
struct Stranger {
    node: String,
    stream: Box<dyn ReadAndWrite>,
    decoder: LinkDecoder,
}

trait ReadAndWrite: Read + Write {}

impl<T: Read + Write> ReadAndWrite for T {}

/// The certificate and the key of a node.
fn identity(certificates: &Path, node: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let file = |ending: &str| certificates.join(format!("{node}.{ending}"));
    let certificate = CertificateDer::from_pem_file(file("pem")).expect("a certificate");
    (vec![certificate], PrivateKeyDer::from_pem_file(file("key")).expect("a key"))
}

impl Stranger {
    fn connect(core: SocketAddr, certificates: &Path, node: &str) -> Stranger {
        Stranger::over(TcpStream::connect(core).expect("it listens"), certificates, node)
    }

    fn over(socket: TcpStream, certificates: &Path, node: &str) -> Stranger {
        let mut authorities = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(certificates.join("ca.pem")).expect("a certificate");
        authorities.add(authority).expect("an authority");
        let (chain, key) = identity(certificates, node);
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("a version");
        let builder = builder.with_root_certificates(authorities);
        let mut config = builder.with_client_auth_cert(chain, key).expect("they fit");
        config.alpn_protocols = vec![LINK_ALPN.to_vec()];
        let name = ServerName::try_from("im-core").expect("a name");
        let tls = ClientConnection::new(Arc::new(config), name).expect("a client");
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let stream = Box::new(StreamOwned::new(tls, socket));
        Stranger { node: node.to_owned(), stream, decoder: LinkDecoder::default() }
    }

    /// The same as a core that an edge has dialled.
    fn accept(listener: &TcpListener, certificates: &Path, node: &str) -> Stranger {
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("a version");
        let (chain, key) = identity(certificates, node);
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).expect("they fit");
        config.alpn_protocols = vec![LINK_ALPN.to_vec()];
        let tls = ServerConnection::new(Arc::new(config)).expect("a server");
        let socket = listener.accept().expect("it dials").0;
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let stream = Box::new(StreamOwned::new(tls, socket));
        Stranger { node: node.to_owned(), stream, decoder: LinkDecoder::default() }
    }

    /// Says hello, changed in some way; what the core answers.
    fn greet(&mut self, change: impl FnOnce(&mut LinkHello)) -> Option<What> {
        let mut hello = LinkHello {
            version_min: LINK_VERSION_MIN,
            version_max: LINK_VERSION_MAX,
            // The same for all links of one node.
            node: self.node.bytes().fold(7, |id, byte| id * 31 + u64::from(byte)),
            name: self.node.clone(),
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
fn geo_01_an_edge_is_told_keys_of_tickets_and_no_secret_behind_them() {
    let (core, listen, certificates) = core_with(|core| core);
    let told = || {
        let mut edge = Stranger::connect(listen, certificates.path(), "east");
        assert!(matches!(edge.greet(|_| {}), Some(What::Hello(_))));
        let Some(What::Directory(directory)) = edge.hear() else { panic!("what edges are told") };
        directory.ticket_keys
    };
    let keys = told();
    // Those of the periods that tickets are good in, the present one last. A new store has no earlier one.
    let present = UNIX_EPOCH.elapsed().expect("a time").as_secs() / (6 * 3600);
    assert!(!keys.is_empty() && keys.iter().all(|it| it.key.len() == 32 && it.period + 1 >= present), "{}", keys.len());
    // They are the deployment's: kept over a restart.
    let _core = core.restart();
    let again = told();
    assert!(keys.iter().all(|key| again.contains(key) || key.period + 1 < present), "other keys");
}

#[test]
fn priv_02_edges_of_the_adjacent_releases_are_taken_and_others_told_why_not() {
    let (core, listen, certificates) = core_with(|core| core);
    let greet = |versions: (u32, u32)| {
        let mut edge = Stranger::connect(listen, certificates.path(), "east");
        let answer = edge.greet(|hello| {
            (hello.version_min, hello.version_max) = versions;
            hello.release = "0.2.0".into();
        });
        (edge, answer)
    };
    // The next release speaks this one's version as well as its own; the answer says which are spoken here.
    let (mut next, answer) = greet((LINK_VERSION_MAX, LINK_VERSION_MAX + 1));
    let Some(What::Hello(hello)) = answer else { panic!("the next release is taken: {answer:?}") };
    assert_eq!((hello.version_min, hello.version_max), (LINK_VERSION_MIN, LINK_VERSION_MAX));
    core.wait_metric("gateway_edge_links", &[], 1.0);
    assert!(matches!(next.hear(), Some(What::Directory(_))), "and is told what edges are");
    // The one after it does not.
    let (mut late, answer) = greet((LINK_VERSION_MAX + 1, LINK_VERSION_MAX + 2));
    let reason = refused(answer);
    let (least, most) = (LINK_VERSION_MIN, LINK_VERSION_MAX);
    let expected = format!("no common version: {least} to {most} are spoken here, {} to {} there", most + 1, most + 2);
    assert!(reason.starts_with(&expected), "{reason}");
    assert_eq!(late.hear(), None, "the link is closed behind it");
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
fn geo_03_an_edge_whose_links_carry_no_more_is_told_to_nobody() {
    let located = |node: Builder, region: &str| node.flag("node-region", region).flag("geo-locates-per-second", 0);
    for (of_core, of_edge) in [(2, 10_000), (10_000, 2)] {
        let limited = |node: Builder, sessions_max: u32| node.flag("link-sessions-max", sessions_max);
        let (core, listen, certificates) = core_with(|core| limited(located(core, "germany"), of_core));
        let edge = core.built_from().another().node(certificates.path(), "east").edge(listen).flag("cores", 1);
        let edge = limited(located(edge, "japan"), of_edge).start();
        edge.wait_metric("gateway_links", &[], 1.0);
        let mut ben = core.login("ben");
        eventually("both are known", || told(&mut ben) == ["core", "east"]);
        // By its descriptors it has room for thousands.
        let kept = [edge.login("anna"), edge.login("dan")];
        eventually("it is told no more", || told(&mut ben) == ["core"]);
        drop(kept);
        eventually("it has room again", || told(&mut ben) == ["core", "east"]);
    }
}

#[test]
fn geo_01_strangers_of_one_address_keep_no_edge_of_another_from_linking() {
    let (core, listen, certificates) = core_with(|core| core.flag("cores", 1));
    let from = |last: u8| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).expect("all of 127.0.0.0/8 is here");
        socket.connect(&listen.into()).expect("it listens");
        TcpStream::from(socket)
    };
    // They say nothing, for as long as they may.
    let mut strangers: Vec<TcpStream> = (0..200).map(|_| from(2)).collect();
    let last = strangers.last_mut().expect("one");
    last.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    assert_eq!(last.read(&mut [0]).expect("closed"), 0, "more than one address may have");
    let mut edge = Stranger::over(from(3), certificates.path(), "east");
    assert!(matches!(edge.greet(|_| {}), Some(What::Hello(_))));
    core.wait_metric("gateway_edge_links", &[], 1.0);
}

#[test]
fn geo_01_a_session_of_an_access_point_that_can_be_none_is_served() {
    let (core, listen, certificates) = core_with(|core| core);
    let mut edge = Stranger::connect(listen, certificates.path(), "east");
    assert!(matches!(edge.greet(|_| {}), Some(What::Hello(_))));
    for (session, access_point) in (1..).zip(["", "east", "<east>", &"long".repeat(50_000)]) {
        let ip = [198, 51, 100, 7].to_vec().into();
        edge.say(&What::Open(SessionOpen { session, ip, access_point: access_point.to_owned() }));
    }
    core.wait_metric("gateway_connections", &[], 4.0);
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
    // It may say what it likes of itself: its certificate is what it has one of, and who it is.
    let reason = refused(connect("east").greet(|hello| hello.name = "west".into()));
    assert_eq!(reason, "this certificate is not for west.im-node: that of an edge names it");
    let reason = refused(connect("east").greet(|hello| hello.node = rand::random()));
    assert!(reason.starts_with("another edge has this certificate already"), "{reason}");
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
fn geo_03_of_two_edges_with_one_certificate_the_first_is_linked_and_operators_are_told_of_the_other() {
    let (core, listen, certificates) = core_with(|core| core.flag("geo-locates-per-second", 0));
    let edge = |region| {
        let edge = core.built_from().another().node(certificates.path(), "east").edge(listen);
        edge.flag("node-region", region).start()
    };
    let mut client = core.login("anna");
    let mut region = || {
        let reply: LocateReply = client.call(Command::Locate, &Locate::default()).expect("told");
        reply.access_points.iter().map(|point| point.region.clone()).collect::<Vec<_>>()
    };
    let first = edge("japan");
    eventually("it is known", || region() == ["japan"]);
    let other = edge("usa");
    eventually("a word about it", || core.process().output().contains("another edge has this certificate already"));
    assert_eq!(region(), ["japan"]);
    first.kill();
    wait_linked(&other);
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

#[test]
fn geo_01_an_edge_goes_on_to_the_next_core_that_it_names() {
    let (core, listen, certificates) = core_with(|core| core);
    let cores = format!("127.0.0.1:{},{listen}", free_port());
    let edge = core.built_from().another().node(certificates.path(), "east").edge(listen).flag("link-cores", cores);
    let edge = edge.start();
    wait_linked(&edge);
    edge.login("anna").ping();
    assert!(edge.process().output().contains("a core can't be linked with"), "nobody is at the first");
}

#[test]
fn geo_01_an_edge_goes_on_to_a_core_that_it_has_heard_of() {
    let (core, listen, certificates) = core_with(|core| core);
    let first = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = first.local_addr().expect("its address");
    let edge = core.built_from().another().node(certificates.path(), "east").edge(address).flag("cores", 1).start();
    let mut known = Stranger::accept(&first, certificates.path(), "core");
    assert!(matches!(known.hear(), Some(What::Hello(hello)) if hello.role() == NodeRole::Edge));
    known.say(&What::Hello(LinkHello {
        version_min: LINK_VERSION_MIN,
        version_max: LINK_VERSION_MAX,
        node: rand::random(),
        name: "first".into(),
        role: NodeRole::Core.into(),
        store: b"a store".to_vec().into(),
        session_window_bytes: 65_536,
        sessions_max: 10,
        ..LinkHello::default()
    }));
    known.say(&What::Directory(Directory {
        cores: vec!["no address".into(), listen.to_string(), address.to_string()],
        ..Directory::default()
    }));
    known.say(&What::Ping(LinkPing { number: 7 }));
    while !matches!(known.hear().expect("it stays up"), What::Pong(LinkPing { number: 7 })) {}
    assert_eq!(core.metrics().sum("gateway_edge_links", &[]), 0.0, "it has one that takes it");
    drop((known, first));
    core.wait_metric("gateway_edge_links", &[], 1.0);
    eventually("its clients are served", || edge.connect("anna").try_login().is_ok());
}

/// Lists the certificates of nodes as refused, and has a gateway read that.
fn refuse(gateway: &Gateway, list: &Path, certificates: &Path, nodes: &[&str]) {
    let fingerprint = |node: &&str| {
        let bytes = Sha256::digest(&identity(certificates, node).0[0]);
        bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    };
    let lines: Vec<String> = nodes.iter().map(|node| format!("sha256 Fingerprint={}\n", fingerprint(node))).collect();
    fs::write(list, lines.concat()).expect("written");
    gateway.process().signal(Signal::HUP);
}

#[test]
fn geo_01_a_certificate_that_is_lost_has_no_link_and_keeps_none() {
    let certificates = node_certificates(&["core"], &["east", "west"]);
    let [of_core, of_west] = ["of-core", "of-west"].map(|name| certificates.path().join(name));
    [&of_core, &of_west].into_iter().for_each(|list| fs::write(list, "# nobody yet\n").expect("written"));
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let core = Gateway::builder().node(certificates.path(), "core").flag("link-listen", listen);
    let core = core.flag("link-refused", of_core.display()).start();
    let edge = |name| core.built_from().another().node(certificates.path(), name).edge(listen).flag("cores", 1);
    let (east, west) = (edge("east").start(), edge("west").flag("link-refused", of_west.display()).start());
    let is_linked = |edge: &Gateway| edge.metrics().sum("gateway_links", &[]) == 1.0;
    [&east, &west].into_iter().for_each(|edge| eventually("it is linked", || is_linked(edge)));
    let (mut anna, mut ben) = (east.login("anna"), west.login("ben"));
    // A core has lost an edge: it ends the link that there is, and takes no other.
    refuse(&core, &of_core, certificates.path(), &["east"]);
    assert_eq!(anna.closed().map(|(code, _)| code), Some(ErrorCode::SERVER_DRAINING));
    let said = |node: &Gateway, what: &str| eventually(what, || node.process().output().contains(what));
    said(&core, "a link of an edge is refused");
    said(&core, "link.refused lists this certificate");
    said(&east, "the other side refuses: link.refused lists this certificate");
    ben.ping();
    // It was a mistake.
    refuse(&core, &of_core, certificates.path(), &[]);
    eventually("it is linked", || is_linked(&east));
    // An edge has nothing to do with a core that is lost, likewise.
    refuse(&west, &of_west, certificates.path(), &["core", "east"]);
    assert_eq!(ben.closed().map(|(code, _)| code), Some(ErrorCode::SERVER_DRAINING));
    said(&west, "a core can't be linked with");
    assert!(!is_linked(&west));
    // What can't be read changes nothing.
    fs::write(&of_west, "west").expect("written");
    west.process().signal(Signal::HUP);
    said(&west, "line 1 is no SHA-256 fingerprint");
    assert!(!is_linked(&west) && is_linked(&east));
}
