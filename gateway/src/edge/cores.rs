//! To which core a shard of an edge is linked: the first of `link.cores`, and then of those that cores have named, that
//! takes it, tried in turn, after a while that grows with each round that failed.

use std::{cell::Cell, collections::HashMap, net::ToSocketAddrs as _, rc::Rc, sync::Arc, time::Duration};

use backend::env::Rng as _;
use futures::{StreamExt as _, channel::oneshot};
use futures_rustls::{TlsConnector, client::TlsStream};
use glommio::{net::TcpStream, timer::Timer};
use protocol::{
    link::{LINK_VERSION_ANSWERS, LinkDecoder, What},
    link_message::{LinkHello, SessionOpen},
};
use rustls_pki_types::CertificateDer;

use super::{Edge, asking::Carrier, shard::Shard};
use crate::{
    config::Target,
    edge_link::{
        Link,
        carry::{LinkEvents, carry, prepare},
        greet::{self, Ended},
        pipe::Pipe,
    },
    link_tls::shown,
    tickets,
};

/// Waits between rounds of tries, in milliseconds.
const BACK_OFF_MS: (u64, u64) = (50, 2_000);

/// Keeps up a link, for as long as the shard lives.
pub(super) async fn keep_linked(shard: Rc<Shard>) {
    let mut wait_ms = BACK_OFF_MS.0;
    // Of each core.
    let mut said: HashMap<Target, String> = HashMap::new();
    while !shard.edge.is_draining() {
        let cores = shard.edge.cores();
        said.retain(|target, _| cores.contains(target));
        for target in &cores {
            let said = said.entry(target.clone()).or_default();
            match reach(&shard.edge, target).await {
                Ok(reached) => {
                    (wait_ms, *said) = (BACK_OFF_MS.0, String::new());
                    live(&shard, target, reached).await;
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

/// A core that has greeted.
struct Reached {
    hello: LinkHello,
    /// Of the links' messages.
    version: u32,
    stream: TlsStream<TcpStream>,
    decoder: LinkDecoder,
}

fn certificate(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    shown(stream.get_ref().1.peer_certificates())
}

async fn reach(edge: &Edge, target: &Target) -> Result<Reached, Ended> {
    let addresses = resolve(target).await?;
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable).into();
    for address in addresses {
        let greeted = greet::in_time(async {
            let stream = TcpStream::connect(address).await.map_err(std::io::Error::from)?;
            prepare(&stream);
            let (config, name) = edge.link_tls.client();
            let mut stream = TlsConnector::from(config).connect(name, stream).await?;
            edge.link_tls.check(&certificate(&stream))?;
            let mut decoder = LinkDecoder::default();
            let (hello, version) = greet::dial(&mut stream, &mut decoder, &edge.hello()).await?;
            Ok(Reached { hello, version, stream, decoder })
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
async fn live(shard: &Rc<Shard>, target: &Target, Reached { hello, version, stream, decoder }: Reached) {
    let config = &shard.edge.config.link;
    let sessions_max = config.sessions_max.min(hello.sessions_max) as usize;
    let link = Link::new(config.session_window_bytes, hello.session_window_bytes, sessions_max);
    let name = hello.name.clone();
    tracing::info!(core = name, address = %target, shard = shard.index, "linked with a core");
    shard.linked(link.clone());
    let (left, leaving) = oneshot::channel();
    let core = Core { edge: shard.edge.clone(), certificate: certificate(&stream), left: Cell::new(Some(left)) };
    let (carried, index) = (link.clone(), shard.index);
    glommio::spawn_local(async move {
        let why = carry(&carried, stream, decoder, &core).await;
        tracing::warn!(core = name, %why, shard = index, "the link to a core has ended; its clients come again");
    })
    .detach();
    let carrier = (version >= LINK_VERSION_ANSWERS).then(|| carry_questions(&shard.edge, link));
    let _ = leaving.await; // dropped: it has ended
    drop(carrier);
    shard.unlinked();
}

/// Sends questions by this link, until what is returned is dropped.
fn carry_questions(edge: &Edge, link: Rc<Link>) -> Carrier {
    let (carrier, mut asked) = edge.asking.linked();
    glommio::spawn_local(async move {
        while let Some(question) = asked.next().await {
            link.say(&What::LocateAsk(question));
        }
    })
    .detach();
    carrier
}

/// What a core says beside what its sessions do.
struct Core {
    edge: Arc<Edge>,
    certificate: CertificateDer<'static>,
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
        match frame {
            What::Directory(directory) => {
                self.edge.tickets.share(tickets::heard(&directory.ticket_keys));
                self.edge.learn(&directory.cores);
                self.edge.geo.hear(directory);
            }
            What::LocateAnswer(answer) => self.edge.asking.answered(answer),
            _ => {}
        }
    }

    fn check(&self) -> Result<(), Ended> {
        Ok(self.edge.link_tls.check(&self.certificate)?)
    }
}
