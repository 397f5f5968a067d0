//! How links come about: dialling and accepting, TLS, and both hellos.
//!
//! Who dials speaks first. The other side answers with its own hello once it is ready for the link, or says why there
//! will be none. A node that was started just now may dial before the other one has heard of it: then it is let wait.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use backend::env::Rng;
use protocol::{
    link::{HELLO_BYTES_MAX, What, agree},
    link_message::{LinkHello, LinkRefused},
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{
    Node,
    link::{Connection, Ended},
};
use crate::{
    geo::customer,
    places::{Places, Share},
};

/// For TCP, TLS and the other's hello.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// How long a node that is not known here may wait until it is.
const UNKNOWN_MAX: Duration = Duration::from_secs(3);

/// Connections that are no links yet, at the most; more are closed at once.
const HANDSHAKES_MAX: usize = 64;

/// The same from one address: so who has no certificate, and comes often, keeps no core from coming.
const HANDSHAKES_PER_ADDRESS_MAX: usize = 8;

/// How long to wait after an accept that failed: most likely descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Longest reason of a refusal that is kept, in characters.
pub(super) const REASON_CHARS_MAX: usize = 200;

/// Waits between tries to dial, in milliseconds.
const BACK_OFF_MS: (u64, u64) = (100, 5_000);

/// Keeps up a link with a node that listens at an address, for as long as it is wanted.
pub async fn dial(node: Rc<Node>, id: u64, address: SocketAddr) {
    let mut back_off = BackOff::default();
    let mut said = String::new();
    while !node.is_ending.get() {
        let reached = timeout(HANDSHAKE_MAX + UNKNOWN_MAX, reach(&node, id, address)).await;
        match reached.unwrap_or(Err(Ended::Late)) {
            Ok((hello, version, connection)) => {
                back_off = BackOff::default();
                said.clear();
                // A task of its own: it outlives this one for as long as the last words take.
                let node = node.clone();
                let living = async move { live(&node, hello, version, connection).await };
                let _ = tokio::task::spawn_local(living).await;
            }
            Err(why) => {
                metrics::counter!("gateway_peer_connects_failed_total", "side" => "dialling").increment(1);
                node.hear(&why);
                let why = why.to_string();
                if why != said {
                    tracing::warn!(peer = id, %address, %why, "another core can't be linked with; it is tried again");
                    said = why;
                }
            }
        }
        sleep(back_off.next(&*node.options.rng)).await;
    }
}

async fn reach(node: &Node, id: u64, address: SocketAddr) -> Result<(LinkHello, u32, Connection), Ended> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (config, name) = node.options.tls.client();
    let stream = TlsConnector::from(config).connect(name, socket).await?;
    let mut connection = Connection::new(TlsStream::Client(stream));
    node.options.tls.check(&connection.certificate)?;
    connection.say(&What::Hello(node.options.hello.clone())).await?;
    let hello = hello_of(&mut connection).await?;
    match judge(node, &hello).and_then(|version| if hello.node == id { Ok(version) } else { Err(Ended::AnotherNode) }) {
        Ok(version) => Ok((hello, version, connection)),
        Err(why) => refuse(connection, why).await,
    }
}

/// Takes connections of nodes with lower ids.
pub async fn accept_all(node: Rc<Node>, listener: TcpListener) {
    let places = Places::new(HANDSHAKES_MAX);
    loop {
        let Ok((socket, from)) = listener.accept().await else {
            metrics::counter!("gateway_accept_errors_total").increment(1);
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let share = Share { of: customer(from.ip().to_canonical()), most: HANDSHAKES_PER_ADDRESS_MAX };
        let Some(place) = places.take(Some(share)) else { continue };
        let node = node.clone();
        tokio::task::spawn_local(async move {
            match meet(&node, socket).await {
                Ok((hello, version, connection)) => {
                    drop(place);
                    live(&node, hello, version, connection).await;
                }
                Err(why) => {
                    metrics::counter!("gateway_peer_connects_failed_total", "side" => "accepting").increment(1);
                    // Who has no certificate may be anybody, and come often.
                    match why {
                        Ended::Mismatch(_) | Ended::WrongWay | Ended::Refused(_) | Ended::Listed(_) => {
                            tracing::warn!(%from, %why, "another core is not linked with");
                        }
                        why => tracing::debug!(%from, %why, "a connection did not become a link"),
                    }
                }
            }
        });
    }
}

async fn meet(node: &Node, socket: TcpStream) -> Result<(LinkHello, u32, Connection), Ended> {
    let greeted = async {
        socket.set_nodelay(true)?;
        let stream = TlsAcceptor::from(node.options.tls.core_server()).accept(socket).await?;
        let mut connection = Connection::new(TlsStream::Server(stream));
        let hello = hello_of(&mut connection).await?;
        Ok::<_, Ended>((hello, connection))
    };
    let (hello, mut connection) = timeout(HANDSHAKE_MAX, greeted).await.unwrap_or(Err(Ended::Late))?;
    let trusted = node.options.tls.check(&connection.certificate).map_err(Ended::from);
    let judged = match trusted.and_then(|()| judge(node, &hello)) {
        Ok(_) if hello.node > node.options.hello.node => Err(Ended::WrongWay),
        Ok(version) => known(node, hello.node).await.map(|()| version),
        why => why,
    };
    match judged {
        Ok(version) => {
            let own = What::Hello(node.options.hello.clone());
            timeout(HANDSHAKE_MAX, connection.say(&own)).await.unwrap_or(Err(Ended::Late))?;
            Ok((hello, version, connection))
        }
        Err(why) => refuse(connection, why).await,
    }
}

async fn known(node: &Node, id: u64) -> Result<(), Ended> {
    let mut wanted = node.wanted.clone();
    match timeout(UNKNOWN_MAX, wanted.wait_for(|wanted| wanted.contains_key(&id))).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(Ended::Unknown),
    }
}

async fn hello_of(connection: &mut Connection) -> Result<LinkHello, Ended> {
    match connection.incoming.next(HELLO_BYTES_MAX, HANDSHAKE_MAX + UNKNOWN_MAX).await? {
        What::Hello(hello) => Ok(hello),
        What::Refused(refused) => Err(Ended::of(refused)),
        _ => Err(Ended::Unexpected),
    }
}

fn judge(node: &Node, hello: &LinkHello) -> Result<u32, Ended> {
    let version = agree(&node.options.hello, hello)?;
    // Edges have an address of their own.
    if hello.role() == node.options.hello.role() { Ok(version) } else { Err(Ended::Unexpected) }
}

async fn refuse<T>(mut connection: Connection, why: Ended) -> Result<T, Ended> {
    let not_alive = matches!(why, Ended::Unknown);
    let refused = What::Refused(LinkRefused { reason: why.to_string(), not_alive });
    let _ = timeout(HANDSHAKE_MAX, connection.say(&refused)).await;
    Err(why)
}

/// A link from its first to its last moment.
async fn live(node: &Rc<Node>, hello: LinkHello, version: u32, connection: Connection) {
    let id = hello.node;
    let Some(registered) = node.link(hello, version) else { return };
    let why = connection.run(&registered).await;
    node.hear(&why);
    if node.is_ending.get() || !node.is_wanted(id) || !registered.is_current() {
        tracing::debug!(peer = id, %why, "link ended");
    } else {
        metrics::counter!("gateway_peer_links_lost_total").increment(1);
        tracing::warn!(peer = id, name = ?registered.peer.name, %why, "link to another core lost");
    }
}

/// How long to wait before the next try: twice as long each time, and never just as long as others do.
#[derive(Debug)]
struct BackOff {
    next_ms: u64,
}

impl Default for BackOff {
    fn default() -> Self {
        BackOff { next_ms: BACK_OFF_MS.0 }
    }
}

impl BackOff {
    fn next(&mut self, rng: &dyn Rng) -> Duration {
        let half_ms = self.next_ms / 2;
        self.next_ms = (self.next_ms * 2).min(BACK_OFF_MS.1);
        Duration::from_millis(half_ms + rng.next_u64() % (half_ms + 1))
    }
}

#[cfg(test)]
mod tests {
    use backend::env::SeededRng;

    use super::*;

    #[test]
    fn geo_01_tries_become_rarer_but_never_rare_and_are_spread() {
        let rng = SeededRng::new(7);
        let waits = || {
            let mut back_off = BackOff::default();
            (0..12).map(|_| back_off.next(&rng).as_millis() as u64).collect::<Vec<_>>()
        };
        let (one, other) = (waits(), waits());
        assert_ne!(one, other);
        for (index, wait) in one.into_iter().enumerate() {
            let longest = (BACK_OFF_MS.0 << index).min(BACK_OFF_MS.1);
            assert!((longest / 2..=longest).contains(&wait), "{index}: {wait}");
        }
    }
}
