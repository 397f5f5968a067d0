//! To which core a shard of an edge is linked: the first of `link.cores` that takes it, tried in turn, after a while that
//! grows with each round that failed.

use std::{cell::Cell, net::ToSocketAddrs as _, rc::Rc, sync::Arc, time::Duration};

use backend::env::Rng as _;
use futures::channel::oneshot;
use futures_rustls::{TlsConnector, client::TlsStream};
use glommio::{net::TcpStream, timer::Timer};
use protocol::{
    link::{LinkDecoder, What},
    link_message::{LinkHello, SessionOpen},
};

use super::{Edge, shard::Shard};
use crate::{
    config::Target,
    edge_link::{
        Link,
        carry::{LinkEvents, carry, prepare},
        greet::{self, Ended},
        pipe::Pipe,
    },
    tickets,
};

/// Waits between rounds of tries, in milliseconds.
const BACK_OFF_MS: (u64, u64) = (50, 2_000);

/// Keeps up a link, for as long as the shard lives.
pub(super) async fn keep_linked(shard: Rc<Shard>) {
    let mut wait_ms = BACK_OFF_MS.0;
    // Of each core.
    let mut said = vec![String::new(); shard.edge.config.link.cores.len()];
    while !shard.edge.is_draining() {
        for (target, said) in shard.edge.config.link.cores.iter().zip(&mut said) {
            match reach(&shard.edge, target).await {
                Ok((hello, stream, decoder)) => {
                    (wait_ms, *said) = (BACK_OFF_MS.0, String::new());
                    live(&shard, target, &hello, stream, decoder).await;
                }
                Err(why) => {
                    metrics::counter!("gateway_link_connects_failed_total").increment(1);
                    let why = why.to_string();
                    if why != *said {
                        let (shard, core) = (shard.index, target);
                        tracing::warn!(shard, %core, why, "a core can't be linked with; it is tried again");
                        *said = why;
                    }
                }
            }
            if shard.edge.is_draining() {
                return;
            }
        }
        // Spread out, so that not all edges come back at once.
        let jitter_ms = shard.edge.rng.next_u64() % (wait_ms / 2 + 1);
        Timer::new(Duration::from_millis(wait_ms / 2 + jitter_ms)).await;
        wait_ms = (wait_ms * 2).min(BACK_OFF_MS.1);
    }
}

type LinkStream = TlsStream<TcpStream>;

async fn reach(edge: &Edge, target: &Target) -> Result<(LinkHello, LinkStream, LinkDecoder), Ended> {
    let addresses = resolve(target).await?;
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable).into();
    for address in addresses {
        let greeted = greet::in_time(async {
            let stream = TcpStream::connect(address).await.map_err(std::io::Error::from)?;
            prepare(&stream);
            let (config, name) = edge.link_tls.client();
            let mut stream = TlsConnector::from(config).connect(name, stream).await?;
            let mut decoder = LinkDecoder::default();
            let hello = greet::dial(&mut stream, &mut decoder, &edge.hello()).await?;
            Ok((hello, stream, decoder))
        });
        match greeted.await {
            Ok(linked) => return Ok(linked),
            Err(why) => last = why,
        }
    }
    Err(last)
}

/// Names are looked up by a thread: a shard never waits.
async fn resolve(target: &Target) -> Result<Vec<std::net::SocketAddr>, Ended> {
    if let Ok(ip) = target.host.parse() {
        return Ok(vec![std::net::SocketAddr::new(ip, target.port)]);
    }
    let (found, finding) = oneshot::channel();
    let target = (target.host.clone(), target.port);
    std::thread::Builder::new().name("resolve".into()).spawn(move || {
        let _ = found.send(target.to_socket_addrs().map(Iterator::collect)); // nobody waits any more
    })?;
    Ok(finding.await.map_err(|_| Ended::Late)??)
}

/// Carries a link for as long as sessions can be opened on it; those that it has it carries on by itself.
async fn live(shard: &Rc<Shard>, target: &Target, hello: &LinkHello, stream: LinkStream, decoder: LinkDecoder) {
    let config = &shard.edge.config.link;
    let sessions_max = config.sessions_max.min(hello.sessions_max) as usize;
    let link = Link::new(config.session_window_bytes, hello.session_window_bytes, sessions_max);
    let name = hello.name.clone();
    tracing::info!(core = name, address = %target, shard = shard.index, "linked with a core");
    shard.linked(link.clone());
    let (left, leaving) = oneshot::channel();
    let core = Core { edge: shard.edge.clone(), left: Cell::new(Some(left)) };
    let (carried, index) = (link.clone(), shard.index);
    glommio::spawn_local(async move {
        let why = carry(&carried, stream, decoder, &core).await;
        tracing::warn!(core = name, %why, shard = index, "the link to a core has ended; its clients come again");
    })
    .detach();
    let _ = leaving.await; // dropped: it has ended
    shard.unlinked();
}

/// What a core says beside what its sessions do.
struct Core {
    edge: Arc<Edge>,
    /// Told when no new sessions can be opened any more.
    left: Cell<Option<oneshot::Sender<()>>>,
}

impl LinkEvents for Core {
    fn opened(&self, _: SessionOpen, _: Pipe) {
        // Cores open none: dropped, which tells it.
    }

    fn leaving(&self) {
        self.left.take();
    }

    fn said(&self, frame: What) {
        if let What::Directory(directory) = frame {
            self.edge.tickets.share(tickets::heard(&directory.ticket_keys));
            self.edge.geo.hear(directory);
        }
    }
}
