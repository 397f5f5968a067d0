//! The admin endpoint: health, readiness and metrics, on a port and a thread of its own.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Context as _;
use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::{metrics, service::bind_problem, shared::Shared};

/// How often histograms are brought up to date between scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// What the endpoint is about.
pub trait Subject: Send + Sync + 'static {
    /// Serving, and not draining.
    fn is_ready(&self) -> bool;
    /// Brings gauges up to date that are not kept so.
    fn update_gauges(&self) {}
}

impl Subject for Shared {
    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    fn update_gauges(&self) {
        metrics::update_rooms(self.router.rooms().numbers());
        ::metrics::gauge!("gateway_sends_unanswered").set(self.sends.unanswered() as f64);
    }
}

#[derive(Clone)]
struct Admin {
    subject: Arc<dyn Subject>,
    prometheus: PrometheusHandle,
}

/// Binds the endpoint.
pub fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener =
        TcpListener::bind(address).with_context(|| bind_problem("admin.listen", address, "--admin-listen"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves on a thread of its own until the process ends.
pub fn serve(listener: TcpListener, subject: Arc<dyn Subject>, prometheus: PrometheusHandle) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("admin".into()).spawn(move || {
        let served = runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::spawn(keep_up(prometheus.clone()));
            let router = Router::new()
                .route("/healthz", get(|| async { "ok\n" }))
                .route("/readyz", get(ready))
                .route("/metrics", get(render))
                .with_state(Admin { subject, prometheus });
            axum::serve(listener, router).await
        });
        if let Err(error) = served {
            tracing::error!(%error, "the admin endpoint has stopped; the service goes on without it");
        }
    })?;
    Ok(())
}

async fn keep_up(prometheus: PrometheusHandle) {
    let mut interval = tokio::time::interval(UPKEEP);
    loop {
        interval.tick().await;
        prometheus.run_upkeep();
    }
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    match admin.subject.is_ready() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not serving\n"),
    }
}

async fn render(State(admin): State<Admin>) -> String {
    metrics::update_process();
    admin.subject.update_gauges();
    admin.prometheus.render()
}
