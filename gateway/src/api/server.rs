//! HTTPS: connections of the server API, on tokio threads of their own.
//!
//! Bounded: connections, the time for a handshake, for a request's head, for its body, for its answer to be
//! taken. On a drain no connection is accepted any more, what is under way is answered, and idle connections end.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::{Arc, mpsc},
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Context as _;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::call::{self, Api, Ends};
use crate::{service::bind_problem, shared::Shared};

/// The protocol that is spoken, as TLS names it.
pub const ALPN: &[u8] = b"http/1.1";

/// Longest head of a request, in bytes: a UserSig is at most 4 KiB of it.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Header fields of a request, at the most.
const HEADERS_MAX: usize = 64;

/// How long to wait after an accept that failed: most likely descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The running server API.
pub struct Server {
    stop: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
}

/// Binds the server API's port.
pub fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| bind_problem("api.listen", address, "--api-listen"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Starts to serve, on threads of its own.
pub fn serve(listener: TcpListener, shared: Arc<Shared>) -> anyhow::Result<Server> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(shared.config.api.threads)
        .thread_name("api")
        .enable_all()
        .build()
        .context("threads for the server API")?;
    let (stop, stopped) = watch::channel(false);
    let (end, ended) = mpsc::channel();
    std::thread::Builder::new().name("api-main".into()).spawn(move || {
        let served = runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            accept_all(listener, Arc::new(Api::new(shared)), stopped).await;
            io::Result::Ok(())
        });
        if let Err(error) = served {
            tracing::error!(%error, "the server API does not serve");
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

async fn accept_all(listener: tokio::net::TcpListener, api: Arc<Api>, mut stop: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(api.shared.config.api.connections_max));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => break,
        };
        let Ok((socket, _)) = accepted else {
            metrics::counter!("gateway_accept_errors_total").increment(1);
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        match places.clone().try_acquire_owned() {
            Ok(place) => drop(tokio::spawn(connection(api.clone(), socket, graceful.watcher(), place))),
            Err(_) => metrics::counter!("gateway_api_connections_refused_total").increment(1),
        }
    }
    drop(listener);
    let limit = Duration::from_millis(api.shared.config.drain_ms_max);
    let _ = timeout(limit, graceful.shutdown()).await;
}

async fn connection(api: Arc<Api>, socket: TcpStream, watcher: Watcher, place: OwnedSemaphorePermit) {
    let config = &api.shared.config.api;
    let head_time = Duration::from_millis(config.head_ms_max);
    let _ = socket.set_nodelay(true);
    let (Ok(local), Ok(remote)) = (socket.local_addr(), socket.peer_addr()) else { return };
    let ends = Ends { local, remote };
    let acceptor = TlsAcceptor::from(api.shared.api_tls.load_full());
    let Ok(Ok(stream)) = timeout(head_time, acceptor.accept(socket)).await else {
        metrics::counter!("gateway_tls_failures_total", "kind" => "api").increment(1);
        return;
    };
    let connections = metrics::gauge!("gateway_api_connections");
    connections.increment(1.0);
    let io = TokioIo::new(Impatient::new(stream, Duration::from_millis(config.write_stall_ms_max)));
    let service = {
        let api = api.clone();
        service_fn(move |request| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(call::answer(&api, ends, request).await) }
        })
    };
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head_time).max_buf_size(HEAD_BYTES_MAX);
    builder.max_headers(HEADERS_MAX).keep_alive(true);
    // How a connection ends is its client's business.
    let _ = watcher.watch(builder.serve_connection(io, service)).await;
    connections.decrement(1.0);
    drop(place);
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
