//! Links of edges to this core: each is a connection that holds many clients, whose TLS the edge has ended.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    rc::Rc,
    time::Duration,
};

use backend::domain::nodes::NodeRecord;
use bytes::Bytes;
use futures_rustls::TlsAcceptor;
use glommio::{
    net::{AcceptedTcpStream, TcpStream},
    timer::Timer,
};
use prost::Message as _;
use protocol::{
    ErrorCode,
    connection::Millis,
    link::{LinkDecoder, What},
    link_message::{Directory, LinkHello, LocateAnswer, LocateAsk, NodeRole, SessionOpen},
    message::LocateReply,
};
use rustls_pki_types::CertificateDer;

use super::{Core, connection, last_word, listener, requests::DRAIN_RETRY_AFTER_MS, stream::Stream};
use crate::{
    edge_link::{
        Link,
        carry::{self, LinkEvents, carry, prepare},
        greet::{self, Ended},
        pipe::Pipe,
    },
    geo::here::Locator as _,
    geo::regions::is_id,
    link_tls::shown,
    mailbox::Mail,
    places,
    shared::Shared,
    tickets,
};

/// How long to leave the listener alone after it failed.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Accepts links for as long as the core lives, for whichever core has the fewest: an edge has few links, and the system
/// may well have one core accept all of them.
pub(super) async fn accept_all(core: Rc<Core>, socket: socket2::Socket) {
    let listener = listener::listen(socket);
    loop {
        match listener.shared_accept().await {
            Ok(accepted) => {
                pass_on(&core.shared, accepted);
                glommio::yield_if_needed().await;
            }
            Err(error) => {
                core.metrics.accept_errors.increment(1);
                tracing::warn!(core = core.index, %error, "accepting links failed; pausing");
                Timer::new(BACK_OFF).await;
            }
        }
    }
}

fn pass_on(shared: &Shared, accepted: AcceptedTcpStream) {
    // Who has none is gone, and its socket was closed in asking: to bind it would close another one's later.
    let Ok(from) = accepted.peer_addr() else { return };
    match shared.edges.greet(from.ip()) {
        Some(place) => {
            let chosen = shared.edges.choose_core();
            shared.router.mailbox(chosen).put(Mail::EdgeLink(accepted, place));
        }
        None => drop(accepted.bind_to_executor()), // which closes it
    }
}

/// Serves a link that this core was chosen for.
pub(super) fn start(core: &Rc<Core>, accepted: AcceptedTcpStream, greeting: places::Place) {
    let (stream, chosen) = (accepted.bind_to_executor(), Chosen(core.clone()));
    core.spawn_vital(async move { serve(&chosen.0, stream, greeting).await }).detach();
}

/// That a core was chosen holds as long as this does.
struct Chosen(Rc<Core>);

impl Drop for Chosen {
    fn drop(&mut self) {
        self.0.shared.edges.left_core(self.0.index);
    }
}

async fn serve(core: &Rc<Core>, stream: TcpStream, greeting: places::Place) {
    let from = stream.peer_addr().map(|address| address.to_string()).unwrap_or_default();
    prepare(&stream);
    let Some(tls) = core.shared.link_tls.clone() else { return };
    let mut decoder = LinkDecoder::default();
    let own = core.shared.link_hello();
    let greeted = greet::in_time(async {
        let mut stream = TlsAcceptor::from(tls.server()).accept(stream).await?;
        let shown = shown(stream.get_ref().1.peer_certificates());
        let admit = |hello: &LinkHello| admit(core, hello, shown);
        let (hello, place) = greet::accept(&mut stream, &mut decoder, &own, admit).await?;
        Ok((stream, hello, place))
    });
    let (stream, hello, place) = match greeted.await {
        Ok(greeted) => greeted,
        Err(why @ (Ended::TooMany(_) | Ended::Another | Ended::NotNamed(_) | Ended::Listed(_))) => {
            return tracing::warn!(from, %why, "a link of an edge is refused");
        }
        Err(why) => return tracing::debug!(from, %why, "a connection did not become an edge's link"),
    };
    drop(greeting);
    let (name, edge, config) = (hello.name.clone(), hello.node, &core.shared.config.link);
    let link = Link::new(config.session_window_bytes, hello.session_window_bytes, config.sessions_max as usize);
    core.links.borrow_mut().push(link.clone());
    core.shared.edges.joined(&hello, core.shared.config.node.lease_ms);
    link.say(&core.shared.directory());
    tracing::info!(edge = name, from, core = core.index, "an edge is linked");
    let links = metrics::gauge!("gateway_edge_links", "core" => core.index.to_string());
    links.increment(1.0);
    if core.draining.get() {
        carry::say_goodbye(&link, DRAIN_RETRY_AFTER_MS);
    }
    let why = carry(&link, stream, decoder, &Clients { place, edge, link: link.clone() }).await;
    links.decrement(1.0);
    core.shared.edges.left(edge);
    core.links.borrow_mut().retain(|other| !Rc::ptr_eq(other, &link));
    tracing::info!(edge = name, %why, "the link of an edge has ended");
}

/// Takes a place for a link of the edge that has said hello and shown a certificate.
fn admit(core: &Rc<Core>, hello: &LinkHello, certificate: CertificateDer<'static>) -> Result<Place, Ended> {
    check(core, &certificate)?;
    if hello.role() != NodeRole::Edge {
        return Err(Ended::NoEdge);
    }
    if let Some(tls) = &core.shared.link_tls
        && !tls.is_of_edge(&certificate, &hello.name)
    {
        return Err(Ended::NotNamed(tls.edge_name(&hello.name)));
    }
    if core.draining.get() {
        return Err(Ended::Leaving);
    }
    core.shared.edges.take_place(&certificate, hello.node, core.shared.config.link.edge_links_max)?;
    Ok(Place { core: core.clone(), certificate })
}

fn check(core: &Core, certificate: &CertificateDer<'_>) -> Result<(), Ended> {
    let Some(tls) = &core.shared.link_tls else { return Ok(()) };
    Ok(tls.check(certificate)?)
}

/// One of the links that a certificate may have.
struct Place {
    core: Rc<Core>,
    certificate: CertificateDer<'static>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.core.shared.edges.leave_place(&self.certificate);
    }
}

/// An edge's clients become connections of this core.
struct Clients {
    place: Place,
    edge: u64,
    link: Rc<Link>,
}

impl LinkEvents for Clients {
    fn opened(&self, open: SessionOpen, pipe: Pipe) {
        let ip = ip(&open.ip);
        let via = via(open.access_point);
        let core = &self.place.core;
        if !listener::has_room(core) {
            let (shared, code) = (&core.shared, ErrorCode::CONNECTION_LIMIT);
            return pipe.last_word(&last_word(&**shared, shared.limits.clone(), code, ip, Some(&via)));
        }
        connection::start(core, Stream::Linked(pipe), ip, Some(via));
    }

    fn said(&self, frame: What) {
        match frame {
            What::Load(load) => self.place.core.shared.edges.fares(self.edge, &load),
            What::LocateAsk(asked) => {
                if let Some(answer) = self.place.core.shared.tell_where(&asked) {
                    self.link.say(&What::LocateAnswer(answer));
                }
            }
            _ => {}
        }
    }

    fn check(&self) -> Result<(), Ended> {
        check(&self.place.core, &self.place.certificate)
    }
}

/// The access point that an edge says a client has come by. What can't be one, however long, is none.
fn via(access_point: String) -> Box<str> {
    if is_id(&access_point) { access_point.into_boxed_str() } else { Box::default() }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(|bytes| IpAddr::from(Ipv4Addr::from(bytes)));
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(|bytes| IpAddr::from(Ipv6Addr::from(bytes)));
    v4().or_else(v6).map(|ip| ip.to_canonical())
}

impl Core {
    /// Tells edges that this core ends: their clients go elsewhere.
    pub(super) fn leave_links(&self) {
        self.links.borrow().iter().for_each(|link| carry::say_goodbye(link, DRAIN_RETRY_AFTER_MS));
    }
}

/// How often edges are told where clients should connect.
const DIRECTORY_INTERVAL_MS: Millis = 1_000;

impl Core {
    /// Looks where clients should connect, and tells edges, now and then.
    pub(super) fn tick_links(&self) {
        let Shared { store, edges, geo, node, record, .. } = &*self.shared;
        if self.now() < self.directory_told.get() + DIRECTORY_INTERVAL_MS {
            return;
        }
        self.directory_told.set(self.now());
        if self.index == 0 && store.engine_name() == "embedded" {
            // Nobody reads rows of nodes: there is this one, and its edges, if it takes any.
            let own = NodeRecord { load: self.shared.load(self.draining.get()), ..record.clone() };
            let all: Vec<_> = edges.records(self.shared.room()).into_iter().chain([(*node, own)]).collect();
            geo.follow(&all);
        }
        let links = self.links.borrow();
        if !links.is_empty() {
            let directory = self.shared.directory();
            links.iter().for_each(|link| link.say(&directory));
        }
    }
}

impl Shared {
    /// What edges are told of the deployment.
    fn directory(&self) -> What {
        let ticket_keys = tickets::told(&self.tickets.shared());
        What::Directory(Directory { ticket_keys, cores: self.edges.cores(), ..self.geo.told(self.probe_key) })
    }

    /// Answers an edge that asks for one of its clients, which may not ask more often than if it had come here.
    fn tell_where(&self, LocateAsk { question, ip: from, current }: &LocateAsk) -> Option<LocateAnswer> {
        let (reply, retry_after_ms) = match self.locate(ip(from)?, current, "edge") {
            Ok(located) => (LocateReply::from(located).encode_to_vec().into(), 0),
            Err(wait_ms) => (Bytes::new(), wait_ms.max(1)),
        };
        Some(LocateAnswer { question: *question, reply, retry_after_ms })
    }

    /// What this core says to edges first.
    fn link_hello(&self) -> LinkHello {
        LinkHello {
            session_window_bytes: self.config.link.session_window_bytes,
            sessions_max: self.config.link.sessions_max,
            ..crate::peers::hello(self.node, &self.config.node.name, self.store_id.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geo_01_what_an_edge_says_of_a_client_is_kept_if_it_can_be_so() {
        for (said, kept) in [("tokyo-1", "tokyo-1"), ("", ""), ("<tokyo>", "")] {
            assert_eq!(&*via(said.into()), kept);
        }
        assert_eq!(&*via("x".repeat(33)), "");
        assert_eq!(ip(&[10, 0, 0, 7]), Some(IpAddr::from([10, 0, 0, 7])));
        assert_eq!(ip(&[0; 5]), None);
    }
}
