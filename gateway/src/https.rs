//! HTTPS on tokio threads of its own: the server API's, and that of `/v1/locate`.
//!
//! Bounded: connections, the time for a handshake, for a request's head, for its body, for its answer to be
//! taken. On a drain no connection is accepted any more, what is under way is answered, and idle connections end.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    pin::Pin,
    sync::{Arc, mpsc},
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use rustls::ServerConfig;

pub use crate::places::Share;
use crate::{
    places::{Place, Places},
    service::bind_problem,
};

/// The protocol that is spoken, as TLS names it.
pub const ALPN: &[u8] = b"http/1.1";

/// Longest head of a request, in bytes: a UserSig is at most 4 KiB of it.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Header fields of a request, at the most.
const HEADERS_MAX: usize = 64;

/// How long to wait after an accept that failed: most likely descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An answer.
pub type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

/// Who answers requests.
pub trait Site: Send + Sync + 'static {
    /// What threads are called.
    const NAME: &'static str;
    /// What the gauge of connections is called, and the counter of those that were refused.
    const METRICS: (&'static str, &'static str);
    /// Whether a connection may ask more than once.
    const KEEPS_CONNECTIONS: bool;

    /// With whom who comes from this address is counted together, and how many connections they may have; `None`: as
    /// many as there are.
    fn share(&self, ip: IpAddr) -> Option<Share>;

    /// Answers a request.
    fn answer(self: Arc<Self>, ends: Ends, request: Request<Incoming>) -> impl Future<Output = Reply> + Send;
}

/// Where sites are served.
pub trait Host: Send + Sync + 'static {
    /// The present certificate.
    fn tls(&self) -> Arc<ServerConfig>;
    /// What is under way has so long to end.
    fn drain_ms_max(&self) -> u64;
}

/// How much a site may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub threads: usize,
    pub connections_max: usize,
    /// For the handshake, then for each request's head.
    pub head_ms_max: u64,
    pub write_stall_ms_max: u64,
}

/// A running site.
pub struct Server {
    stop: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
}

/// Binds a port; `key` and `flag` are the setting's, for an error.
pub fn bind(key: &str, address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| bind_problem(key, address, flag))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Starts to serve, on threads of its own.
pub fn serve<S: Site>(
    listener: TcpListener,
    host: Arc<dyn Host>,
    site: Arc<S>,
    limits: Limits,
) -> anyhow::Result<Server> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(limits.threads)
        .thread_name(S::NAME)
        .enable_all()
        .build()
        .with_context(|| format!("threads for {}", S::NAME))?;
    let (stop, stopped) = watch::channel(false);
    let (end, ended) = mpsc::channel();
    std::thread::Builder::new().name(format!("{}-main", S::NAME)).spawn(move || {
        let served = runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            Accepting { host, site, limits }.run(listener, stopped).await;
            io::Result::Ok(())
        });
        if let Err(error) = served {
            tracing::error!(%error, "{} does not serve", S::NAME);
        }
        // What is still running has had its time.
        runtime.shutdown_background();
        let _ = end.send(());
    })?;
    Ok(Server { stop, ended })
}

impl Server {
    /// No connections from now on; what is under way is answered.
    pub fn drain(&self) {
        let _ = self.stop.send(true);
    }

    /// Waits until the drain is done, `limit` at the most.
    pub fn wait(&self, limit: Duration) {
        let _ = self.ended.recv_timeout(limit);
    }
}

struct Accepting<S> {
    host: Arc<dyn Host>,
    site: Arc<S>,
    limits: Limits,
}

impl<S: Site> Accepting<S> {
    async fn run(self, listener: tokio::net::TcpListener, mut stop: watch::Receiver<bool>) {
        let (connections, refused) = S::METRICS;
        let graceful = GracefulShutdown::new();
        let places = Places::new(self.limits.connections_max);
        let drain_time = Duration::from_millis(self.host.drain_ms_max());
        let accepting = Arc::new(self);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.changed() => break,
            };
            let Ok((socket, remote)) = accepted else {
                metrics::counter!("gateway_accept_errors_total").increment(1);
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            match places.take(accepting.site.share(remote.ip().to_canonical())) {
                Some(place) => {
                    let connection = accepting.clone().connection(socket, graceful.watcher(), place, connections);
                    drop(tokio::spawn(connection));
                }
                None => metrics::counter!(refused).increment(1),
            }
        }
        drop(listener);
        let _ = timeout(drain_time, graceful.shutdown()).await;
    }

    async fn connection(self: Arc<Self>, socket: TcpStream, watcher: Watcher, place: Place, connections: &'static str) {
        let Limits { head_ms_max, write_stall_ms_max, .. } = self.limits;
        let head_time = Duration::from_millis(head_ms_max);
        let _ = socket.set_nodelay(true);
        let (Ok(local), Ok(remote)) = (socket.local_addr(), socket.peer_addr()) else { return };
        let ends = Ends { local, remote };
        let acceptor = TlsAcceptor::from(self.host.tls());
        let Ok(Ok(stream)) = timeout(head_time, acceptor.accept(socket)).await else {
            metrics::counter!("gateway_tls_failures_total", "kind" => S::NAME).increment(1);
            return;
        };
        let connections = metrics::gauge!(connections);
        connections.increment(1.0);
        let io = TokioIo::new(Impatient::new(stream, Duration::from_millis(write_stall_ms_max)));
        let service = service_fn(|request| {
            let answer = self.site.clone().answer(ends, request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(head_time).max_buf_size(HEAD_BYTES_MAX);
        builder.max_headers(HEADERS_MAX).keep_alive(S::KEEPS_CONNECTIONS);
        // How a connection ends is its client's business.
        let _ = watcher.watch(builder.serve_connection(io, service)).await;
        connections.decrement(1.0);
        drop(place);
    }
}

/// A stream that fails when its peer takes nothing for too long.
struct Impatient<S> {
    stream: S,
    stall_max: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    fn new(stream: S, stall_max: Duration) -> Self {
        Impatient { stream, stall_max, stalled: None }
    }

    fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stall_max = self.stall_max;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(stall_max)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(cx, shut)
    }
}
