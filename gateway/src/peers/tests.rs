//! Links over loopback, with real mutual TLS.
//!
//! Goal: what goes in comes out in order, and whoever does not belong here, is gone or takes nothing is told apart.
//! Mechanics: two [`Peers`] in one process, or one and a [`Stranger`], a blocking connection that says what it likes.
//! Each waits for events, with a deadline.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
};

use backend::env::SeededRng;
use bytes::BytesMut;
use protocol::{
    link::{HELLO_BYTES_MAX, LINK_VERSION_MAX, LINK_VERSION_MIN, LinkDecoder, PEER_FRAME_BYTES_MAX, encode},
    link_message::{LinkPing, LinkRefused, SessionBytes},
};
use rustls::{ClientConnection, ServerConnection, SideData, StreamOwned};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;
use crate::{config::LinkFiles, node_certs};

/// For whatever is waited for.
const DEADLINE: Duration = Duration::from_secs(60);

enum Event {
    Up(u64, u32, PeerHandle),
    Frame(u64, Box<What>),
    Down(u64),
}

struct Events {
    tell: Sender<Event>,
    not_alive: Arc<AtomicBool>,
    /// While it is held, the links' thread stands still at the next frame.
    pause: Arc<Mutex<()>>,
}

impl PeerEvents for Events {
    fn up(&self, peer: &Peer) {
        assert_eq!(peer.name, format!("node-{}", peer.id));
        let _ = self.tell.send(Event::Up(peer.id, peer.version, peer.handle.clone()));
    }

    fn frame(&self, peer: &Peer, frame: What) {
        let _ = self.tell.send(Event::Frame(peer.id, Box::new(frame)));
        drop(self.pause.lock().unwrap());
    }

    fn not_alive(&self) {
        self.not_alive.store(true, Ordering::SeqCst);
    }

    fn down(&self, peer: u64) {
        let _ = self.tell.send(Event::Down(peer));
    }
}

struct TestNode {
    peers: Peers,
    events: Receiver<Event>,
    /// It was told that another node does not know that it lives.
    not_alive: Arc<AtomicBool>,
    pause: Arc<Mutex<()>>,
}

impl TestNode {
    fn start(id: u64, certs: &Certs) -> TestNode {
        Self::start_at(([127, 0, 0, 1], 0).into(), id, certs, |_| {})
    }

    fn start_at(address: SocketAddr, id: u64, certs: &Certs, change: impl FnOnce(&mut Options)) -> TestNode {
        let mut options = Options {
            hello: hello_of(id),
            tls: certs.tls(),
            queue_bytes_max: 2 * PEER_FRAME_BYTES_MAX,
            rng: Arc::new(SeededRng::new(id)),
        };
        change(&mut options);
        let (tell, events) = mpsc::channel();
        let (pause, not_alive) = (Arc::new(Mutex::new(())), Arc::new(AtomicBool::new(false)));
        let told = Events { tell, not_alive: not_alive.clone(), pause: pause.clone() };
        let peers = Peers::start(bind(address).unwrap(), options, told).unwrap();
        TestNode { peers, events, not_alive, pause }
    }

    fn event(&self) -> Event {
        self.events.recv_timeout(DEADLINE).expect("an event in time")
    }

    fn up(&self, id: u64) -> PeerHandle {
        self.up_with(id, LINK_VERSION_MAX)
    }

    /// A link is up on which this version is spoken.
    fn up_with(&self, id: u64, expected: u32) -> PeerHandle {
        match self.event() {
            Event::Up(peer, version, handle) if (peer, version) == (id, expected) => handle,
            other => panic!("not {id} up, but {}", other.name()),
        }
    }

    fn frame(&self, id: u64) -> What {
        match self.event() {
            Event::Frame(peer, frame) if peer == id => *frame,
            other => panic!("no frame of {id}, but {}", other.name()),
        }
    }

    fn down(&self, id: u64) {
        match self.event() {
            Event::Down(peer) if peer == id => {}
            other => panic!("not {id} down, but {}", other.name()),
        }
    }
}

impl Event {
    fn name(&self) -> String {
        match self {
            Event::Up(id, ..) => format!("{id} up"),
            Event::Frame(id, _) => format!("a frame of {id}"),
            Event::Down(id) => format!("{id} down"),
        }
    }
}

const NAMES: node_certs::Names<'static> = node_certs::Names { all: "im-node", cores: "im-core" };

/// Certificates of one authority.
struct Certs(TempDir);

impl Certs {
    fn new() -> Certs {
        let folder = tempfile::tempdir().unwrap();
        node_certs::make(folder.path(), &["node".to_owned()], &[], NAMES).unwrap();
        Certs(folder)
    }

    fn fingerprint(&self) -> String {
        let certificate = CertificateDer::from_pem_file(self.0.path().join("node.pem")).unwrap();
        Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// That of a node which refuses those that a file lists.
    fn picky_tls(&self, refused: &Path) -> Arc<LinkTls> {
        let files = node_certs::files(self.0.path(), "node", NAMES);
        LinkTls::load(&LinkFiles { refused: Some(refused.to_path_buf()), ..files }).unwrap()
    }

    fn tls(&self) -> Arc<LinkTls> {
        LinkTls::load(&node_certs::files(self.0.path(), "node", NAMES)).unwrap()
    }
}

fn hello_of(id: u64) -> LinkHello {
    hello(id, &format!("node-{id}"), Bytes::from_static(b"store"))
}

fn frame_of(number: u64, bytes: usize) -> What {
    What::Bytes(SessionBytes { session: number, data: vec![number as u8; bytes].into() })
}

/// Two nodes that are linked, and what each sends to the other one with.
fn pair(certs: &Certs) -> ((TestNode, PeerHandle), (TestNode, PeerHandle)) {
    let (low, high) = (TestNode::start(1, certs), TestNode::start(2, certs));
    let both = vec![(1, low.peers.address()), (2, high.peers.address())];
    low.peers.set(both.clone());
    high.peers.set(both);
    let (to_high, to_low) = (low.up(2), high.up(1));
    ((low, to_high), (high, to_low))
}

/// Somebody who connects, or is connected to, and keeps no rules.
struct Stranger<C> {
    stream: StreamOwned<C, TcpStream>,
    decoder: LinkDecoder,
}

impl Stranger<ClientConnection> {
    /// Connects and says hello.
    fn dial(node: &TestNode, certs: &Certs, hello: LinkHello) -> Self {
        let (config, name) = certs.tls().client();
        let socket = TcpStream::connect(node.peers.address()).unwrap();
        let mut stranger = Self::new(ClientConnection::new(config, name).unwrap(), socket);
        let _ = stranger.say(&What::Hello(hello));
        stranger
    }
}

impl Stranger<ServerConnection> {
    fn accept(listener: &TcpListener, certs: &Certs) -> Self {
        let (socket, _) = listener.accept().unwrap();
        Self::new(ServerConnection::new(certs.tls().core_server()).unwrap(), socket)
    }
}

impl<C, S> Stranger<C>
where
    C: std::ops::DerefMut<Target = rustls::ConnectionCommon<S>>,
    S: SideData,
{
    fn new(connection: C, socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Stranger { stream: StreamOwned::new(connection, socket), decoder: LinkDecoder::default() }
    }

    fn say(&mut self, frame: &What) -> std::io::Result<()> {
        let mut bytes = BytesMut::new();
        encode(frame, &mut bytes);
        self.stream.write_all(&bytes)?;
        self.stream.flush()
    }

    /// What is said next; pings are not counted.
    fn hear(&mut self) -> std::io::Result<What> {
        loop {
            match self.decoder.next_frame(PEER_FRAME_BYTES_MAX).unwrap() {
                Some(What::Ping(_)) => continue,
                Some(frame) => return Ok(frame),
                None => {}
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => self.decoder.feed(&buffer[..count]),
            }
        }
    }

    fn is_refused(&mut self, because: &str) {
        match self.hear().unwrap() {
            What::Refused(LinkRefused { reason, .. }) => assert!(reason.contains(because), "{reason}"),
            other => panic!("{other:?}"),
        }
        assert!(self.hear().is_err(), "and closed");
    }
}

#[test]
fn geo_01_frames_arrive_in_order_both_ways() {
    let certs = Certs::new();
    let ((low, to_high), (high, to_low)) = pair(&certs);
    const FRAMES: u64 = 2_000;
    let bytes = |number: u64| if number % 500 == 7 { 1 << 20 } else { (number * 37 % 3_000) as usize };
    for number in 0..FRAMES {
        to_high.send(&frame_of(number, bytes(number))).unwrap();
        to_low.send(&frame_of(number + 1, bytes(number))).unwrap();
    }
    for number in 0..FRAMES {
        assert_eq!(high.frame(1), frame_of(number, bytes(number)));
        assert_eq!(low.frame(2), frame_of(number + 1, bytes(number)));
    }
    // One that was encoded before, and the longest there may be.
    let longest = frame_of(7, PEER_FRAME_BYTES_MAX - 20);
    let mut encoded = BytesMut::new();
    encode(&longest, &mut encoded);
    to_high.send_encoded(encoded.freeze()).unwrap();
    assert!(high.frame(1) == longest);
    assert_eq!(to_high.send(&frame_of(7, PEER_FRAME_BYTES_MAX)), Err(Full), "longer than is taken");
}

#[test]
fn geo_01_a_node_hears_that_another_takes_it_for_dead_whichever_has_dialled() {
    let certs = Certs::new();
    for is_high_dead in [false, true] {
        let ((low, _to_high), (high, _to_low)) = pair(&certs);
        let (alive, dead, dead_id, alive_id) = if is_high_dead { (low, high, 2, 1) } else { (high, low, 1, 2) };
        alive.peers.set(vec![]);
        alive.down(dead_id);
        dead.down(alive_id);
        assert!(dead.not_alive.load(Ordering::SeqCst) && !alive.not_alive.load(Ordering::SeqCst));
    }
}

#[test]
fn geo_01_a_certificate_that_is_listed_has_no_link_and_keeps_none() {
    let certs = Certs::new();
    let list = certs.0.path().join("refused");
    fs::write(&list, "# nobody yet").unwrap();
    let tls = certs.picky_tls(&list);
    let picky = |id| TestNode::start_at(([127, 0, 0, 1], 0).into(), id, &certs, |options| options.tls = tls.clone());
    // It dials one and is dialled by the other.
    let (low, node, high) = (TestNode::start(1, &certs), picky(5), TestNode::start(9, &certs));
    let both = vec![(5, node.peers.address()), (9, high.peers.address())];
    node.peers.set(both.clone());
    high.peers.set(both);
    node.up(9);
    high.up(5);
    node.peers.set(vec![(1, low.peers.address()), (5, node.peers.address()), (9, high.peers.address())]);
    low.peers.set(vec![(5, node.peers.address())]);
    node.up(1);
    low.up(5);

    fs::write(&list, certs.fingerprint()).unwrap();
    tls.reload().unwrap();
    for peer in [&low, &high] {
        peer.down(5);
    }
    for _ in 0..2 {
        assert!(matches!(node.event(), Event::Down(1 | 9)));
    }
    // Both try again, in vain.
    Stranger::dial(&node, &certs, hello_of(1)).is_refused("link.refused lists this certificate");
    fs::write(&list, "").unwrap();
    tls.reload().unwrap();
    low.up(5);
    high.up(5);
}

#[test]
fn geo_01_a_node_of_another_authority_is_refused_by_either_side() {
    let (certs, others) = (Certs::new(), Certs::new());
    let node = TestNode::start(5, &certs);
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap();
    node.peers.set(vec![(1, node.peers.address()), (9, nowhere.local_addr().unwrap())]);
    // Whoever trusts this node, but is not of its authority.
    let socket = TcpStream::connect(node.peers.address()).unwrap();
    let mut config = (*others.tls().client().0).clone();
    config.dangerous().set_certificate_verifier(trusting(&certs));
    let client = ClientConnection::new(Arc::new(config), others.tls().client().1).unwrap();
    let mut stranger = Stranger::<ClientConnection>::new(client, socket);
    let _ = stranger.say(&What::Hello(hello_of(1)));
    is_alert(&stranger.hear().unwrap_err());
    // This node dials, and finds somebody else.
    let mut stranger = Stranger::accept(&nowhere, &others);
    is_alert(&stranger.hear().unwrap_err());
    assert!(node.events.try_recv().is_err(), "nobody was linked");
}

/// Refused by TLS, because of the certificate.
fn is_alert(error: &std::io::Error) {
    assert!(error.to_string().contains("received fatal alert"), "{error}");
}

/// Trusts the servers of these.
fn trusting(certs: &Certs) -> Arc<dyn rustls::client::danger::ServerCertVerifier> {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certs.0.path().join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap()
}

#[test]
fn geo_01_hellos_that_do_not_go_together_are_refused_in_words() {
    let certs = Certs::new();
    let node = TestNode::start(5, &certs);
    let address = node.peers.address();
    node.peers.set(vec![(1, address), (3, address), (5, address), (9, address)]);
    let with = |id: u64, change: fn(&mut LinkHello)| {
        let mut hello = hello_of(id);
        change(&mut hello);
        Stranger::dial(&node, &certs, hello)
    };
    with(1, |hello| hello.store = Bytes::from_static(b"another")).is_refused("different stores");
    let versions = format!("{LINK_VERSION_MIN} to {LINK_VERSION_MAX} are spoken here, 98 to 99 there");
    with(1, |hello| (hello.version_min, hello.version_max) = (98, 99)).is_refused(&versions);
    with(1, |hello| hello.name = String::new()).is_refused("name is invalid");
    with(1, |hello| (hello.role, hello.session_window_bytes) = (NodeRole::Edge.into(), 1)).is_refused("no place");
    with(5, |_| {}).is_refused("no link with itself");
    with(9, |_| {}).is_refused("the lower id dials");
    with(2, |_| {}).is_refused("not known here");
    // Something else instead of a hello, or too much of it.
    let mut stranger = with(1, |hello| hello.name = "n".repeat(HELLO_BYTES_MAX));
    assert!(stranger.hear().is_err());
    // The next release still speaks this one's version.
    let mut next = with(1, |hello| hello.version_max = LINK_VERSION_MAX + 1);
    assert!(matches!(next.hear().unwrap(), What::Hello(hello) if hello == hello_of(5)));
    let _ = node.up(1);
    // And this one that of the release before.
    let mut before = with(3, |hello| hello.version_max = LINK_VERSION_MAX - 1);
    assert!(matches!(before.hear().unwrap(), What::Hello(hello) if hello == hello_of(5)));
    let _ = node.up_with(3, LINK_VERSION_MAX - 1);
}

#[test]
fn geo_01_who_dials_looks_at_the_answer() {
    let certs = Certs::new();
    let node = TestNode::start(1, &certs);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    node.peers.set(vec![(2, listener.local_addr().unwrap())]);
    let answer = |change: fn(&mut LinkHello)| {
        let mut stranger = Stranger::accept(&listener, &certs);
        assert_eq!(stranger.hear().unwrap(), What::Hello(hello_of(1)));
        let mut hello = hello_of(2);
        change(&mut hello);
        stranger.say(&What::Hello(hello)).unwrap();
        stranger
    };
    // It comes again each time.
    answer(|hello| hello.store = Bytes::from_static(b"another")).is_refused("different stores");
    answer(|hello| (hello.version_min, hello.version_max) = (98, 99)).is_refused("no common version");
    // A node that has restarted at the same address is another one.
    answer(|hello| (hello.node, hello.name) = (3, "node-3".into())).is_refused("another node answers");
    let mut stranger = Stranger::accept(&listener, &certs);
    assert_eq!(stranger.hear().unwrap(), What::Hello(hello_of(1)));
    stranger.say(&What::Refused(LinkRefused { reason: "no\nway".into(), not_alive: false })).unwrap();
    assert!(stranger.hear().is_err());
    let _linked = answer(|_| {});
    let _ = node.up(2);
}

#[test]
fn geo_01_a_node_that_dials_before_it_is_known_is_linked_once_it_is() {
    let certs = Certs::new();
    let node = TestNode::start(5, &certs);
    let mut stranger = Stranger::dial(&node, &certs, hello_of(1));
    node.peers.set(vec![(1, node.peers.address())]);
    assert!(matches!(stranger.hear().unwrap(), What::Hello(_)));
    let handle = node.up(1);
    handle.send(&frame_of(1, 10)).unwrap();
    assert_eq!(stranger.hear().unwrap(), frame_of(1, 10));
    stranger.say(&What::Ping(LinkPing { number: 77 })).unwrap();
    assert_eq!(stranger.hear().unwrap(), What::Pong(LinkPing { number: 77 }));
    // A hello where none is due ends it.
    stranger.say(&What::Hello(hello_of(1))).unwrap();
    node.down(1);
    assert_eq!(handle.send(&frame_of(1, 10)), Err(Full));
}

#[test]
fn geo_01_a_full_link_refuses_and_takes_more_later() {
    let certs = Certs::new();
    let ((low, to_high), (high, _)) = pair(&certs);
    let paused = high.pause.lock().unwrap();
    let mut sent = 0;
    while to_high.send(&frame_of(sent, 1 << 20)).is_ok() {
        sent += 1;
        assert!(sent < 10_000, "it takes anything");
    }
    drop(paused);
    for number in 0..sent {
        assert!(high.frame(1) == frame_of(number, 1 << 20), "{number}");
    }
    to_high.send(&frame_of(1_000_000, 10)).unwrap();
    assert_eq!(high.frame(1), frame_of(1_000_000, 10));
    assert!(low.events.try_recv().is_err(), "the link was never down");
}

#[test]
fn geo_01_a_link_that_is_full_can_be_closed_and_begins_anew() {
    let certs = Certs::new();
    let ((low, to_high), (high, _)) = pair(&certs);
    let paused = high.pause.lock().unwrap();
    while to_high.send(&frame_of(1, 1 << 20)).is_ok() {}
    to_high.close();
    low.down(2);
    drop(paused);
    let to_high = low.up(2);
    to_high.send(&frame_of(2, 10)).unwrap();
    loop {
        match high.event() {
            Event::Frame(1, frame) if *frame == frame_of(2, 10) => break,
            Event::Frame(1, frame) => assert!(*frame == frame_of(1, 1 << 20)),
            Event::Up(1, ..) | Event::Down(1) => {}
            other => panic!("{}", other.name()),
        }
    }
}

#[test]
fn geo_01_a_peer_that_falls_silent_is_given_up() {
    let certs = Certs::new();
    let node = TestNode::start(5, &certs);
    node.peers.set(vec![(1, node.peers.address())]);
    let mut stranger = Stranger::dial(&node, &certs, hello_of(1));
    assert!(matches!(stranger.hear().unwrap(), What::Hello(_)));
    node.up(1);
    node.down(1);
    // Only the silence: this side was pinged, and its connection is closed.
    assert!(stranger.hear().is_err());
}

#[test]
fn geo_01_nonsense_ends_a_link() {
    let certs = Certs::new();
    let node = TestNode::start(5, &certs);
    node.peers.set(vec![(1, node.peers.address())]);
    for nonsense in [&[0xff; 16][..], &[0xff, 0xff, 0xff, 0x7f], &[2, 0x1a, 5]] {
        let mut stranger = Stranger::dial(&node, &certs, hello_of(1));
        assert!(matches!(stranger.hear().unwrap(), What::Hello(_)));
        node.up(1);
        stranger.stream.write_all(nonsense).unwrap();
        stranger.stream.flush().unwrap();
        node.down(1);
    }
}

#[test]
fn geo_01_a_new_connection_takes_the_place_of_a_dead_one() {
    let certs = Certs::new();
    let node = TestNode::start(5, &certs);
    node.peers.set(vec![(1, node.peers.address())]);
    let mut first = Stranger::dial(&node, &certs, hello_of(1));
    assert!(matches!(first.hear().unwrap(), What::Hello(_)));
    let old = node.up(1);
    let mut second = Stranger::dial(&node, &certs, hello_of(1));
    assert!(matches!(second.hear().unwrap(), What::Hello(_)));
    node.down(1);
    let new = node.up(1);
    assert_eq!(old.send(&frame_of(1, 1)), Err(Full));
    assert!(first.hear().is_err());
    new.send(&frame_of(2, 2)).unwrap();
    assert_eq!(second.hear().unwrap(), frame_of(2, 2));
    second.say(&frame_of(3, 3)).unwrap();
    assert_eq!(node.frame(1), frame_of(3, 3));
}

#[test]
fn geo_01_links_come_back_and_a_restarted_node_is_another_one() {
    let certs = Certs::new();
    let ((low, _), (high, _)) = pair(&certs);
    let address = high.peers.address();
    high.peers.stop();
    low.down(2);
    // At the same address, with another id: not linked before it is named.
    let high = TestNode::start_at(address, 3, &certs, |_| {});
    high.peers.set(vec![(1, low.peers.address())]);
    low.peers.set(vec![(3, address)]);
    low.up(3);
    high.up(1);
    // The one that dials restarts.
    low.peers.stop();
    high.down(1);
    let low = TestNode::start(2, &certs);
    high.peers.set(vec![(2, low.peers.address())]);
    low.peers.set(vec![(3, address)]);
    low.up(3);
    high.up(2);
    // A connection that is cut comes back by itself.
    high.peers.set(vec![]);
    high.down(2);
    low.down(3);
    high.peers.set(vec![(2, low.peers.address())]);
    high.up(2);
    low.up(3);
}

#[test]
fn geo_01_a_node_is_dialled_until_it_is_there() {
    let certs = Certs::new();
    let low = TestNode::start(1, &certs);
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    low.peers.set(vec![(2, address)]);
    let high = TestNode::start_at(address, 2, &certs, |_| {});
    high.peers.set(vec![(1, low.peers.address())]);
    low.up(2);
    high.up(1);
}

#[test]
fn geo_01_what_was_sent_before_a_stop_arrives() {
    let certs = Certs::new();
    let ((low, to_high), (high, _)) = pair(&certs);
    for number in 0..100 {
        to_high.send(&frame_of(number, 10_000)).unwrap();
    }
    let TestNode { peers, events, .. } = low;
    peers.stop();
    for number in 0..100 {
        assert_eq!(high.frame(1), frame_of(number, 10_000));
    }
    high.down(1);
    assert!(matches!(events.try_recv(), Ok(Event::Down(2))), "told before it has stopped");
    assert_eq!(to_high.send(&frame_of(1, 1)), Err(Full));
}
