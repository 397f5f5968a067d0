//! The server API's port.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    sync::Arc,
};

use hyper::{Request, body::Incoming};

use super::call::{self, Api};
use crate::{
    https::{self, Ends, Limits, Reply, Server, Share, Site},
    shared::Shared,
};

/// Binds it.
pub fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    https::bind("api.listen", address, "--api-listen")
}

/// Starts to serve, on threads of its own.
pub fn serve(listener: TcpListener, shared: Arc<Shared>) -> anyhow::Result<Server> {
    let config = &shared.config.api;
    let limits = Limits {
        threads: config.threads,
        connections_max: config.connections_max,
        head_ms_max: config.head_ms_max,
        write_stall_ms_max: config.write_stall_ms_max,
    };
    https::serve(listener, shared.clone(), Arc::new(Api::new(shared)), limits)
}

impl Site for Api {
    const NAME: &'static str = "api";
    const METRICS: (&'static str, &'static str) = ("gateway_api_connections", "gateway_api_connections_refused_total");
    const KEEPS_CONNECTIONS: bool = true;

    fn share(&self, _: IpAddr) -> Option<Share> {
        None
    }

    async fn answer(self: Arc<Self>, ends: Ends, request: Request<Incoming>) -> Reply {
        call::answer(&self, ends, request).await
    }
}
