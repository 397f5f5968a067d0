//! Starting, running and stopping the service.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use arc_swap::ArcSwap;
use backend::{
    domain::{
        applications::{self, NewApplication, Put, Refused},
        deployment,
        retention::{Retention, RetentionTask},
        send_queue::{SendLimits, SendQueue},
        unfinished,
    },
    env::{Clock, Rng as _, SeededRng, SystemClock},
    store::{Embedded, EmbeddedOptions, Engine, Store, StoreOptions},
};
use protocol::link_message::NodeRole;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    admin,
    announcer::{Announcing, Arrivals},
    api, application,
    applications::{Applications, Following, refresh},
    callbacks::Callbacks,
    config::{Config, StoreEngine},
    control, development, edge,
    edges::Edges,
    figures::{Adding, Figures},
    geo::{self, Geo},
    https, limits,
    link_tls::LinkTls,
    mailbox::Mail,
    metrics,
    nodes::{self, Membership},
    peers,
    rotation::{self, Rotating},
    router::{Origin, Router},
    shard::{self, Sockets},
    shared::Shared,
    tickets::Tickets,
    tls,
};

/// Live events that may wait for one core.
const MAILBOX_EVENTS_MAX: usize = 65_536;

/// Connections that may wait for accept.
const BACKLOG: i32 = 4096;

/// Beyond the drain's own deadline: what stopping may take in all before the process gives up.
pub const STOP_GRACE: Duration = Duration::from_secs(5);

/// What the process is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Drain and end.
    Stop,
    /// Read the certificate again.
    Reload,
}

/// Runs the service until it is told to stop. An error is one of the start, or a core that died.
pub fn run(config: Config, signals: mpsc::Receiver<Signal>) -> anyhow::Result<()> {
    if config.node.role == NodeRole::Edge {
        return edge::run(config, &signals);
    }
    let prometheus = metrics::install()?;
    let connections_max = limits::check(config.connections_max)?;
    let cores = core_count(config.cores)?;
    let files = Files::prepare(&config)?;
    let named = named_applications(&config)?;
    let tls_config = files.tls_config(protocol::ALPN)?;
    let api_tls_config = files.tls_config(https::ALPN)?;
    let link_tls = config.link.files.as_ref().map(LinkTls::load).transpose()?;
    let listeners = bind_shared("client.listen", config.client_listen, "--client-listen", cores)?;
    let links = config.link.listen.map(|address| bind_shared("link.listen", address, "--link-listen", cores));
    let mut links = links.transpose()?.into_iter().flatten();
    let client_address = listeners.first().map_or(Ok(config.client_listen), local_address)?;
    let admin_listener = admin::bind(config.admin_listen)?;
    let admin_address = admin_listener.local_addr()?;
    let api_listener = api::server::bind(config.api.listen)?;
    let api_address = api_listener.local_addr()?;
    let bind_locate = |address| https::bind("geo.listen", address, "--geo-listen");
    let locate_listener = config.geo.listen.map(bind_locate).transpose()?;
    let locate_address = locate_listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let peers_listener = config.link.peers_listen.map(peers::bind).transpose()?;
    let peers_address = peers_listener.as_ref().map(TcpListener::local_addr).transpose()?;

    if config.tls.is_none() && !client_address.ip().is_loopback() {
        tracing::warn!(%client_address, "development certificate and application on an address that others may reach; name tls.cert, tls.key and app.file");
    }

    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let store = open_store(&config, &clock)?;
    let _shut_down = ShutDown(store.clone());
    for new in &named {
        put_application(&store, &clock, new)
            .with_context(|| format!("writing an application into the store at {}", store_place(&config).display()))?;
    }
    let rng = SeededRng::new(store_seed()?);
    let store_id = futures::executor::block_on(deployment::store_id(&store, &rng)).context("naming the store")?;
    let probe_key = futures::executor::block_on(deployment::probe_key(&store, random()?)).context("reading a key")?;
    if let Err(error) = futures::executor::block_on(rotation::rotate(&files.tickets, &store)) {
        tracing::warn!(%error, "no keys for TLS tickets yet; another try follows"); // a full disk keeps nobody from serving
    }
    let geo = Arc::new(Geo::open(config.geo.clone(), probe_key)?);
    let figures = Figures::default();
    let router = Router::new(cores, MAILBOX_EVENTS_MAX, figures.clone());
    let limits = SendLimits {
        message_bytes_max: config.message_bytes_max,
        queued_max: config.queue_max,
        batch_max: config.batch_max,
        ..SendLimits::default()
    };
    let (arrivals, arrived) = Arrivals::new();
    let applications = Arc::new(Applications::default());
    // The embedded store is one process's alone: what an earlier one had claimed is this one's.
    let owner = if store.engine_name() == "embedded" { 1 } else { rng.next_u64() };
    let (node, is_alone) = (rng.next_u64().max(1), store.engine_name() == "embedded");
    let (callbacks, asking) = Callbacks::start(
        store.clone(),
        clock.clone(),
        applications.clone(),
        (config.callbacks_ca_file.as_deref(), figures.clone()),
        owner,
    )?;
    let shared = Arc::new(Shared {
        limits: Arc::new(config.limits.clone()),
        connections_max,
        sends: SendQueue::with_hooks(store.clone(), clock.clone(), limits, router.clone(), callbacks.clone()),
        clock,
        store,
        rng: Arc::new(SeededRng::new(store_seed()?)),
        applications,
        callbacks,
        store_id,
        probe_key,
        tickets: files.tickets.clone(),
        node,
        record: nodes::record(&config, client_address, peers_address, connections_max),
        edges: Edges::new(cores, config.link.sessions_max),
        session_base: if is_alone { 0 } else { nodes::session_base(node) },
        router,
        geo,
        figures: figures.clone(),
        arrivals,
        tls: ArcSwap::new(tls_config),
        api_tls: ArcSwap::new(api_tls_config),
        link_tls,
        connections: AtomicUsize::new(0),
        guests: AtomicUsize::new(0),
        ready: AtomicBool::new(false),
        development: config.tls.is_none(),
        config,
    });
    futures::executor::block_on(refresh(&shared)).context("reading the applications")?;
    admin::serve(admin_listener, shared.clone(), prometheus)?;
    // Before anything is served: the ready line says that all of it works.
    let _control = match shared.config.store_engine {
        StoreEngine::Embedded => Some(control::serve(&shared.config.store_path, shared.clone())?),
        // There `gateway app` goes to the store, so there may be no such folder.
        StoreEngine::Fdb { .. } => control::serve(&shared.config.store_path, shared.clone())
            .inspect_err(|error| tracing::info!("`gateway locate` can't ask this gateway: {error:#}"))
            .ok(),
    };
    let should_stop = || matches!(signals.try_recv(), Ok(Signal::Stop) | Err(mpsc::TryRecvError::Disconnected));
    let membership = match is_alone {
        true => None,
        false => match Membership::join(node, &shared, peers_listener, should_stop)? {
            None => return Ok(()),
            joined => joined,
        },
    };
    let sockets = listeners.into_iter().map(|clients| Sockets { clients, links: links.next() }).collect();
    let ended = start_cores(&shared, sockets)?;
    let mut sites = vec![api::server::serve(api_listener, shared.clone())?];
    if let Some(listener) = locate_listener {
        sites.push(geo::http::serve(listener, shared.clone(), &shared.config)?);
    }
    geo::checks::start(&shared.geo).context("starting the checks of access points")?;
    let retention = start_retention(&shared)?;
    let adding = Adding::start(figures, shared.store.clone(), shared.clock.clone()).context("starting the figures")?;
    let (look, told) = (retention.waker(), shared.callbacks.clone());
    let changed = move || {
        look();
        told.applications_changed();
    };
    let rotating = Rotating::start(shared.clone()).context("starting the rotation of keys")?;
    let following = Following::start(shared.clone(), changed).context("following the applications")?;
    shared.ready.store(true, Ordering::Release);
    say(&format!(
        "gateway ready: client tls://{client_address}, admin http://{admin_address}, store {} at {}, {cores} cores\n\
         server API https://{api_address}/v4/\n{}",
        shared.store.engine_name(),
        store_place(&shared.config).display(),
        locate_address.map_or_else(String::new, |address| format!("locate https://{address}{}\n", geo::http::PATH))
    ));
    go_on_with_unfinished(&shared);
    let announcing = Announcing::start(shared.clone(), arrived).context("starting the announcer")?;
    let result = serve(&shared, &files, &signals, &ended, cores, &sites, membership.as_ref());
    announcing.stop();
    following.stop();
    rotating.stop();
    asking.stop();
    adding.stop();
    retention.stop();
    if let Some(membership) = membership {
        membership.leave();
    }
    result
}

/// Has an application as its file says. One that was deleted, and has left data, is not served yet; its
/// removal needs a service that runs.
fn put_application(store: &Store, clock: &Arc<dyn Clock>, new: &NewApplication) -> anyhow::Result<()> {
    let app = new.app;
    match futures::executor::block_on(applications::put_application(store, clock, new.clone())) {
        Ok(Put::Unchanged) => {}
        Ok(put) => tracing::info!(app, "application {put}, as app.file says"),
        Err(error @ Refused::BeingRemoved(_)) => {
            tracing::error!(
                "app.file: {error} (it is created again by a start after that), or take it out of the file"
            );
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Says something in one piece to whoever started this. Whoever has read enough and listens no longer is no reason to end.
pub fn say(text: &str) {
    let mut output = std::io::stdout().lock();
    let said = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    if let Err(error) = said {
        tracing::info!(%error, "nobody reads what this process says");
    }
}

/// Shuts the store down however the run ends, a failed start included: threads that live on hold the
/// store, and FoundationDB's client library must be stopped before the process exits.
struct ShutDown(Store);

impl Drop for ShutDown {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

/// The certificate for clients: the operator's, or the development one.
pub struct Files {
    cert: PathBuf,
    key: PathBuf,
    /// Of TLS: those of clients are good on all nodes.
    pub tickets: Arc<Tickets>,
}

impl Files {
    pub fn prepare(config: &Config) -> anyhow::Result<Self> {
        // Without keys, until those of the deployment are known.
        let tickets = Tickets::new(Arc::new(SystemClock::default()));
        let (cert, key) = match &config.tls {
            Some(files) => files.clone(),
            None => development::certificate(&config.store_path)?,
        };
        let files = Files { cert, key, tickets };
        files.check_tls(config)?;
        Ok(files)
    }

    pub fn tls_config(&self, alpn: &[u8]) -> anyhow::Result<Arc<rustls::ServerConfig>> {
        tls::server_config(&self.cert, &self.key, alpn, self.tickets.clone())
    }

    /// What a production start asks of its certificate, now and at every reload.
    pub fn check_tls(&self, config: &Config) -> anyhow::Result<()> {
        if config.tls.is_none() {
            return Ok(());
        }
        anyhow::ensure!(
            !development::is_development_certificate(&self.cert)?,
            "tls.cert {} is a development certificate: a production start needs one that clients can trust",
            self.cert.display()
        );
        application::ensure_private(&self.key).with_context(|| format!("tls.key {}", self.key.display()))
    }
}

/// The applications that the store shall have: the operator's, or the development one.
fn named_applications(config: &Config) -> anyhow::Result<Vec<NewApplication>> {
    if config.tls.is_none() {
        let development = development::application(&config.store_path)?;
        return application::read(config.app_file.as_deref().unwrap_or(&development));
    }
    let app_file = config.app_file.as_deref().context("app.file is empty")?;
    let applications = application::read(app_file)?;
    anyhow::ensure!(
        !applications.iter().any(|application| application.development),
        "app.file {} has a development application: a production start (tls.cert is set) needs its own. \
         `gateway app-file PATH` makes one",
        app_file.display()
    );
    Ok(applications)
}

/// Two stores that were new at the same time must not get the same name.
pub fn store_seed() -> anyhow::Result<u64> {
    random().map(u64::from_le_bytes)
}

pub fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut random = [0u8; N];
    getrandom::fill(&mut random).map_err(|error| anyhow!("no randomness: {error}"))?;
    Ok(random)
}

pub fn core_count(wanted: usize) -> anyhow::Result<usize> {
    let available = std::thread::available_parallelism().context("counting the processors")?.get();
    Ok(if wanted == 0 { available } else { wanted })
}

/// What the ready line and errors name as the store's place.
fn store_place(config: &Config) -> &Path {
    match &config.store_engine {
        StoreEngine::Embedded => &config.store_path,
        StoreEngine::Fdb { cluster_file, .. } => cluster_file,
    }
}

/// Opens the store that the configuration names.
pub fn open_store(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<Store> {
    let engine = match &config.store_engine {
        StoreEngine::Embedded => open_embedded(config, clock),
        StoreEngine::Fdb { cluster_file, prefix } => open_fdb(cluster_file, prefix, clock),
    };
    let engine = engine.with_context(|| format!("the store at {}", store_place(config).display()))?;
    let rng = Arc::new(SeededRng::new(clock.monotonic_us() ^ clock.unix_ms()));
    let options =
        StoreOptions { read_threads: config.read_threads, queue_max: config.queue_max, ..StoreOptions::default() };
    Ok(Store::new(engine, clock.clone(), rng, options))
}

fn open_embedded(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Engine>> {
    let options = EmbeddedOptions {
        cache_bytes: config.cache_bytes,
        disk_reserve_bytes: config.disk_reserve_bytes,
        ..EmbeddedOptions::default()
    };
    Ok(Arc::new(Embedded::open(&embedded_folder(config), options, clock.clone())?))
}

/// Where the embedded store is, beside the development files.
pub fn embedded_folder(config: &Config) -> PathBuf {
    config.store_path.join("store")
}

#[cfg(feature = "fdb")]
fn open_fdb(cluster_file: &Path, prefix: &str, clock: &Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Engine>> {
    use backend::store::fdb::{Fdb, FdbOptions};
    let options = FdbOptions { prefix: prefix.into(), ..FdbOptions::default() };
    Ok(Arc::new(Fdb::open(cluster_file, options, clock.clone())?))
}

#[cfg(not(feature = "fdb"))]
fn open_fdb(_: &Path, _: &str, _: &Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Engine>> {
    anyhow::bail!("this build is without the FoundationDB engine")
}

/// Goes on with changes that a process which died has left between two transactions. What can't be done now is
/// done at the next start.
fn go_on_with_unfinished(shared: &Shared) {
    let acts = match futures::executor::block_on(unfinished::acts(&shared.store)) {
        Ok(acts) => acts,
        Err(error) => return tracing::warn!(%error, "unfinished changes can't be read"),
    };
    for act in acts {
        if let Err(error) = shared.sends.submit(Origin::NOBODY, act) {
            tracing::warn!(%error, "an unfinished change is not taken over");
        }
    }
}

/// Removes what has expired, in the background.
fn start_retention(shared: &Shared) -> anyhow::Result<RetentionTask> {
    let rng = SeededRng::new(shared.clock.unix_ms() ^ u64::from(std::process::id()) << 32);
    let retention = Retention::new(shared.store.clone(), shared.clock.clone(), &rng, shared.config.keep);
    retention.start().context("starting the removal of what has expired")
}

/// One listening socket a core, all on the same port.
pub fn bind_shared(key: &str, address: SocketAddr, flag: &str, cores: usize) -> anyhow::Result<Vec<Socket>> {
    let taken = || bind_problem(key, address, flag);
    // SO_REUSEPORT would share the port with another process silently: look first.
    drop(TcpListener::bind(address).with_context(taken)?);
    let mut address = address;
    let mut sockets = Vec::new();
    for _ in 0..cores {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into()).with_context(taken)?;
        socket.listen(BACKLOG)?;
        address = local_address(&socket)?; // with port 0: the one that was given
        sockets.push(socket);
    }
    Ok(sockets)
}

/// What to say when an address can't be bound; the cause follows it.
pub fn bind_problem(key: &str, address: SocketAddr, flag: &str) -> String {
    format!(
        "{key}: can't bind {address}. If it is in use, another gateway may be running: choose another port with {flag}"
    )
}

pub fn local_address(socket: &Socket) -> anyhow::Result<SocketAddr> {
    socket.local_addr()?.as_socket().context("the listening socket has no address")
}

/// How a core ended.
type CoreEnd = (u16, anyhow::Result<()>);

/// Starts a thread a core and waits until all of them serve. Each reports its end.
fn start_cores(shared: &Arc<Shared>, sockets: Vec<Sockets>) -> anyhow::Result<mpsc::Receiver<CoreEnd>> {
    let (report, ended) = mpsc::channel();
    let (up, ups) = mpsc::channel();
    let cores = sockets.len();
    for (sockets, index) in sockets.into_iter().zip(0..) {
        let (shared, report, up) = (shared.clone(), report.clone(), up.clone());
        std::thread::Builder::new().name(format!("core-{index}")).spawn(move || {
            let run = std::panic::AssertUnwindSafe(|| shard::run(shared, index, sockets, &up));
            let result = std::panic::catch_unwind(run).unwrap_or_else(|_| Err(anyhow!("core {index} panicked")));
            let _ = report.send((index, result));
        })?;
    }
    drop(up);
    for _ in 0..cores {
        if ups.recv_timeout(STOP_GRACE).is_err() {
            let (index, result) = ended.try_recv().context("the cores have not started in time")?;
            result?;
            bail!("core {index} ended by itself");
        }
    }
    Ok(ended)
}

/// Waits for signals, for cores to end, and for the store to break: what serves only half ends loudly.
fn serve(
    shared: &Arc<Shared>,
    files: &Files,
    signals: &mpsc::Receiver<Signal>,
    ended: &mpsc::Receiver<CoreEnd>,
    cores: usize,
    sites: &[https::Server],
    membership: Option<&nodes::Running>,
) -> anyhow::Result<()> {
    const POLL: Duration = Duration::from_millis(50);
    loop {
        match signals.recv_timeout(POLL) {
            Ok(Signal::Reload) => reload(shared, files),
            Ok(Signal::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                membership.into_iter().for_each(nodes::Running::drain);
                return drain(shared, ended, cores, sites);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if let Ok((index, result)) = ended.try_recv() {
            shared.ready.store(false, Ordering::Release);
            return result.and_then(|()| bail!("core {index} ended by itself"));
        }
        if let Some(reason) = membership.and_then(nodes::Running::failure) {
            shared.ready.store(false, Ordering::Release);
            bail!("{reason}");
        }
        if let Some(reason) = shared.store.failure() {
            shared.ready.store(false, Ordering::Release);
            bail!("the store has failed and acknowledges nothing any more: {reason}. Mend the disk and start again");
        }
    }
}

fn reload(shared: &Shared, files: &Files) {
    let both = || Ok((files.tls_config(protocol::ALPN)?, files.tls_config(https::ALPN)?));
    match files.check_tls(&shared.config).and_then(|()| both()) {
        Ok((config, api_config)) => {
            shared.tls.store(config);
            shared.api_tls.store(api_config);
            tracing::info!(cert = %files.cert.display(), "certificate reloaded; new connections use it");
        }
        Err(error) => tracing::error!("certificate not reloaded, the old one stays in use: {error:#}"),
    }
    match shared.link_tls.as_ref().map(|tls| tls.reload()) {
        Some(Ok(())) => tracing::info!("certificate of links reloaded; new links use it"),
        Some(Err(error)) => tracing::error!("certificate of links not reloaded, the old one stays in use: {error:#}"),
        None => {}
    }
}

fn drain(
    shared: &Shared,
    ended: &mpsc::Receiver<CoreEnd>,
    cores: usize,
    sites: &[https::Server],
) -> anyhow::Result<()> {
    tracing::info!(
        connections = shared.connections.load(Ordering::Relaxed),
        "draining: no new connections, requests in flight are finished"
    );
    shared.ready.store(false, Ordering::Release);
    let limit = Duration::from_millis(shared.config.drain_ms_max) + STOP_GRACE;
    // First what may ask the cores something.
    sites.iter().for_each(https::Server::drain);
    sites.iter().for_each(|site| site.wait(limit));
    for mailbox in shared.router.mailboxes() {
        mailbox.put(Mail::Drain);
    }
    for _ in 0..cores {
        match ended.recv_timeout(limit) {
            Ok((_, result)) => result?,
            Err(_) => bail!("the cores have not stopped in time"),
        }
    }
    tracing::info!("drained");
    Ok(())
}
