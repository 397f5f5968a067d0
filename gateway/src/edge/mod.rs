//! An edge: ends the TLS of clients near it, and carries their bytes over a few links to a core. It has no store, and
//! knows nothing of what clients say.
//!
//! - [`shard`]: one thread, its listening socket, its clients and its link. [`client`]: one client.
//! - [`cores`]: to which core a shard is linked. [`asking`]: what the core is asked.
//!
//! What may not live here: anything of the client protocol but its last word.

mod asking;
mod client;
mod cores;
mod shard;

use std::{
    net::{IpAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use backend::{
    domain::nodes::NodeRecord,
    env::{Clock, Rng, SeededRng, SystemClock},
};
use protocol::{
    connection::ServerLimits,
    link::{LINK_VERSION_MAX, LINK_VERSION_MIN},
    link_message::{DirectoryEntry, LinkHello, NodeRole},
    message::LocateReply,
};
use rustls::ServerConfig;

use self::asking::Asking;
use crate::{
    admin,
    config::{Config, Target},
    geo::{self, Geo, here::Locator},
    https::{self, Host},
    limits,
    link_tls::LinkTls,
    metrics, nodes,
    service::{self, Files, Signal, bind_shared, core_count, local_address, random, say, store_seed},
    tickets::Tickets,
};

/// Cores that an edge learns of, at the most.
const LEARNED_MAX: usize = 64;

/// What all shards of an edge share.
struct Edge {
    config: Config,
    limits: Arc<ServerLimits>,
    connections_max: usize,
    clock: Arc<dyn Clock>,
    rng: SeededRng,
    /// Drawn at the start.
    node: u64,
    /// Where it is for its clients.
    access_point: DirectoryEntry,
    /// For clients: swapped on SIGHUP, read at accept.
    tls: ArcSwap<ServerConfig>,
    /// For `/v1/locate`.
    https_tls: ArcSwap<ServerConfig>,
    link_tls: Arc<LinkTls>,
    tickets: Arc<Tickets>,
    /// Cores beside the configured ones, as cores say.
    learned: ArcSwap<Vec<Target>>,
    /// Where clients should connect, as cores say.
    geo: Arc<Geo>,
    asking: Arc<Asking>,
    connections: AtomicUsize,
    /// Shards that have a link.
    links: AtomicUsize,
    draining: AtomicBool,
}

impl Edge {
    fn hello(&self) -> LinkHello {
        LinkHello {
            version_min: LINK_VERSION_MIN,
            version_max: LINK_VERSION_MAX,
            node: self.node,
            name: self.config.node.name.clone(),
            role: NodeRole::Edge.into(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            session_window_bytes: self.config.link.session_window_bytes,
            sessions_max: self.config.link.sessions_max,
            access_point: Some(self.access_point.clone()),
            ..LinkHello::default()
        }
    }

    /// The cores there are, the configured ones first.
    fn cores(&self) -> Vec<Target> {
        [&self.config.link.cores[..], &self.learned.load()[..]].concat()
    }

    /// Takes where a core says that there are cores.
    fn learn(&self, said: &[String]) {
        self.learned.store(Arc::new(others(&self.config.link.cores, said)));
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

impl Locator for Edge {
    fn geo(&self) -> &Geo {
        &self.geo
    }

    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn rng(&self) -> &dyn Rng {
        &self.rng
    }

    fn own_state(&self) -> (bool, Option<(usize, usize)>) {
        (admin::Subject::is_ready(self), None)
    }

    /// What clients have measured the core knows; this node's own view is for when it does not say.
    async fn locate_by_https(&self, ip: IpAddr, current: &str) -> Result<LocateReply, u32> {
        self.take(ip, "https")?;
        ::metrics::counter!("gateway_locates_total", "way" => "https").increment(1);
        match self.asking.ask(ip.to_canonical(), current).await {
            Some(answer) => answer.inspect_err(|_| {
                ::metrics::counter!("gateway_locates_refused_total", "way" => "https").increment(1);
            }),
            None => Ok(self.locate_now(ip, current).into()),
        }
    }
}

impl Host for Edge {
    fn tls(&self) -> Arc<ServerConfig> {
        self.https_tls.load_full()
    }

    fn drain_ms_max(&self) -> u64 {
        self.config.drain_ms_max
    }
}

impl admin::Subject for Edge {
    fn is_ready(&self) -> bool {
        self.links.load(Ordering::Relaxed) > 0 && !self.is_draining()
    }
}

/// Runs an edge until it is told to stop. An error is one of the start, or a shard that died.
pub fn run(config: Config, signals: &mpsc::Receiver<Signal>) -> anyhow::Result<()> {
    let prometheus = metrics::install()?;
    let connections_max = limits::check(config.connections_max)?;
    let shards = core_count(config.cores)?;
    let files = Files::prepare(&config)?;
    let sockets = bind_shared("client.listen", config.client_listen, "--client-listen", shards)?;
    let client_address = sockets.first().map_or(Ok(config.client_listen), local_address)?;
    let admin_listener = admin::bind(config.admin_listen)?;
    let admin_address = admin_listener.local_addr()?;
    let bind_locate = |address| https::bind("geo.listen", address, "--geo-listen");
    let locate_listener = config.geo.listen.map(bind_locate).transpose()?;
    let locate_address = locate_listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let link_files = config.link.files.as_ref().context("links have no certificate")?;
    let rng = SeededRng::new(store_seed()?);
    let edge = Arc::new(Edge {
        limits: Arc::new(config.limits.clone()),
        connections_max,
        clock: Arc::new(SystemClock::default()),
        node: rng.next_u64().max(1),
        rng,
        access_point: access_point(&nodes::record(&config, client_address, None, connections_max)),
        tls: ArcSwap::new(files.tls_config(protocol::ALPN)?),
        https_tls: ArcSwap::new(files.tls_config(https::ALPN)?),
        // Until a core says what signs tokens on all nodes.
        geo: Arc::new(Geo::open(config.geo.clone(), random()?)?),
        link_tls: LinkTls::load(link_files)?,
        tickets: files.tickets.clone(),
        learned: ArcSwap::default(),
        asking: Arc::default(),
        connections: AtomicUsize::new(0),
        links: AtomicUsize::new(0),
        draining: AtomicBool::new(false),
        config,
    });
    admin::serve(admin_listener, edge.clone(), prometheus)?;
    let ended = start(&edge, sockets)?;
    geo::checks::start_without_checks(&edge.geo).context("watching the location database")?;
    let site = locate_listener.map(|listener| geo::http::serve(listener, edge.clone(), &edge.config)).transpose()?;
    let of: Vec<String> = edge.config.link.cores.iter().map(ToString::to_string).collect();
    let of = of.join(" ");
    say(&format!(
        "gateway ready: client tls://{client_address}, admin http://{admin_address}, edge of {of}, {shards} cores\n{}",
        locate_address.map_or_else(String::new, |address| format!("locate https://{address}{}\n", geo::http::PATH))
    ));
    let result = serve(&edge, &files, signals, &ended, shards);
    if let Some(site) = site {
        site.drain();
    }
    result
}

/// What is said of cores, beside those that are known, as far as it makes sense.
fn others(known: &[Target], said: &[String]) -> Vec<Target> {
    let targets = said.iter().filter_map(|text| text.parse().ok());
    targets.filter(|target| !known.contains(target)).take(LEARNED_MAX).collect()
}

/// What cores tell others of this edge.
fn access_point(record: &NodeRecord) -> DirectoryEntry {
    let NodeRecord { region, latitude, longitude, addresses, weight, connections_max, .. } = record.clone();
    DirectoryEntry { region, latitude, longitude, addresses, weight, connections_max, ..DirectoryEntry::default() }
}

type ShardEnd = (u16, anyhow::Result<()>);

fn start(edge: &Arc<Edge>, sockets: Vec<socket2::Socket>) -> anyhow::Result<mpsc::Receiver<ShardEnd>> {
    let (report, ended) = mpsc::channel();
    for (socket, index) in sockets.into_iter().zip(0..) {
        let (edge, report) = (edge.clone(), report.clone());
        std::thread::Builder::new().name(format!("core-{index}")).spawn(move || {
            let run = std::panic::AssertUnwindSafe(|| shard::run(edge, index, socket));
            let result =
                std::panic::catch_unwind(run).unwrap_or_else(|_| Err(anyhow::anyhow!("core {index} panicked")));
            let _ = report.send((index, result));
        })?;
    }
    Ok(ended)
}

fn serve(
    edge: &Edge,
    files: &Files,
    signals: &mpsc::Receiver<Signal>,
    ended: &mpsc::Receiver<ShardEnd>,
    shards: usize,
) -> anyhow::Result<()> {
    const POLL: Duration = Duration::from_millis(50);
    loop {
        match signals.recv_timeout(POLL) {
            Ok(Signal::Reload) => reload(edge, files),
            Ok(Signal::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if let Ok((index, result)) = ended.try_recv() {
            return result.and_then(|()| bail!("core {index} ended by itself"));
        }
    }
    tracing::info!(connections = edge.connections.load(Ordering::Relaxed), "draining: clients are sent elsewhere");
    edge.draining.store(true, Ordering::Relaxed);
    let limit = Duration::from_millis(edge.config.drain_ms_max) + service::STOP_GRACE;
    for _ in 0..shards {
        match ended.recv_timeout(limit) {
            Ok((_, result)) => result?,
            Err(_) => bail!("the cores have not stopped in time"),
        }
    }
    tracing::info!("drained");
    Ok(())
}

fn reload(edge: &Edge, files: &Files) {
    let both = || Ok((files.tls_config(protocol::ALPN)?, files.tls_config(https::ALPN)?));
    match files.check_tls(&edge.config).and_then(|()| both()) {
        Ok((config, https_config)) => {
            edge.tls.store(config);
            edge.https_tls.store(https_config);
            tracing::info!("certificate reloaded; new connections use it");
        }
        Err(error) => tracing::error!("certificate not reloaded, the old one stays in use: {error:#}"),
    }
    match edge.link_tls.reload() {
        Ok(()) => tracing::info!("certificates of links reloaded; new links use them"),
        Err(error) => tracing::error!("certificates of links not reloaded, the old ones stay in use: {error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geo_01_an_edge_learns_of_other_cores() {
        let known: Vec<Target> = vec!["10.0.0.1:9443".parse().unwrap()];
        let learned = |said: &[&str]| {
            let said: Vec<String> = said.iter().map(|&text| text.to_owned()).collect();
            others(&known, &said).iter().map(Target::to_string).collect::<Vec<_>>()
        };
        let said = ["10.0.0.1:9443", "10.0.0.2:9443", "nowhere", "10.0.0.3:0", "[2001:db8::1]:9443", ""];
        assert_eq!(learned(&said), ["10.0.0.2:9443", "[2001:db8::1]:9443"]);
        assert_eq!(learned(&["c:1"; 100]).len(), LEARNED_MAX);
    }
}
