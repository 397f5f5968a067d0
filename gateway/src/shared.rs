//! What all cores share. Everything in it is immutable, atomic, or a bounded queue.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use arc_swap::ArcSwap;
use backend::{
    domain::{
        Error, Peer,
        act::{Act, Answer},
        callbacks::Caller,
        groups,
        hooks::Hooks as _,
        message::NewMessage,
        nodes::{Load, NodeRecord},
        send_queue::SendQueue,
    },
    env::{Clock, Rng},
    store::Store,
};
use bytes::Bytes;
use protocol::connection::ServerLimits;
use rustls::ServerConfig;

use crate::{
    announcer::Arrivals,
    applications::Applications,
    callbacks::Callbacks,
    config::Config,
    edges::Edges,
    figures::Figures,
    geo::{Geo, here::Locator},
    https::Host,
    link_tls::LinkTls,
    router::Router,
    tickets::Tickets,
};

/// What all cores share.
pub struct Shared {
    pub config: Config,
    /// Limits of every connection.
    pub limits: Arc<ServerLimits>,
    /// Connections on all cores together, at the most.
    pub connections_max: usize,
    pub clock: Arc<dyn Clock>,
    pub store: Store,
    /// Draws ids of groups and names of guests: that no two are the same, not that nobody can guess them.
    pub rng: Arc<dyn Rng>,
    /// The applications, for what needs their settings outside of a transaction.
    pub applications: Arc<Applications>,
    /// Their own servers are asked and told.
    pub callbacks: Arc<Callbacks>,
    /// Which store it is: cursors belong to it.
    pub store_id: Bytes,
    /// What signs probe tokens on all nodes.
    pub probe_key: [u8; 32],
    /// TLS tickets, good on all nodes.
    pub tickets: Arc<Tickets>,
    /// Which node this is: drawn at its start.
    pub node: u64,
    /// What it says of itself.
    pub record: NodeRecord,
    /// Those that are linked to it.
    pub edges: Edges,
    /// Sessions of this node get numbers behind it, which no other node gives out.
    pub session_base: u64,
    pub sends: SendQueue<Router>,
    pub router: Router,
    /// Where clients should connect.
    pub geo: Arc<Geo>,
    /// What applications' figures are made of.
    pub figures: Figures,
    /// Who has logged in while something is announced.
    pub arrivals: Arrivals,
    /// The present certificate: swapped on SIGHUP, read at accept.
    pub tls: ArcSwap<ServerConfig>,
    /// The same certificate for the server API.
    pub api_tls: ArcSwap<ServerConfig>,
    /// Certificates of links, if there are any.
    pub link_tls: Option<Arc<LinkTls>>,
    /// A development start: the development application may be used.
    pub development: bool,
    /// Connections now.
    pub connections: AtomicUsize,
    /// Of them, those without an account.
    pub guests: AtomicUsize,
    /// Serving, and not draining: what /readyz answers.
    pub ready: AtomicBool,
}

impl Shared {
    /// Refuses a message that is over what a group may be sent, before it costs anything. It counts once it is known that
    /// its sender may send it.
    pub fn look_at_group_rate(&self, act: &Act, caller: &Caller) -> Result<(), Error> {
        let Act::Send(NewMessage { app, to: Peer::Group(group), treatment, .. }) = act else { return Ok(()) };
        let per_second = self.applications.group_sends_per_second(*app);
        let limits = self.sends.group_limits();
        let looked = limits.look(*app, group, treatment.priority, per_second, self.clock.monotonic_us());
        let looked = looked.map_err(|retry_after_ms| groups::Refusal::RateLimited(retry_after_ms).into());
        looked.inspect_err(|error| self.callbacks.refused(act, caller, error))
    }

    /// How this node fares.
    pub fn load(&self, is_draining: bool) -> Load {
        Load { connections: self.connections.load(Ordering::Relaxed) as u64, is_draining, ..Load::default() }
    }

    /// How many connections it takes beside those that it has.
    pub fn room(&self) -> u64 {
        self.connections_max.saturating_sub(self.connections.load(Ordering::Relaxed)) as u64
    }

    /// Submits an act of this server; the future is its outcome, once it is durable. Any executor can wait for it.
    pub fn act(&self, act: Act, caller: Caller) -> impl Future<Output = Result<Answer, Error>> + Send + use<> {
        let call = self.router.call();
        let submitted = self.sends.submit_from(call.origin(), act, caller);
        async move {
            if let Some(asking) = submitted? {
                asking.await?;
            }
            call.answer().await
        }
    }
}

impl Host for Shared {
    fn tls(&self) -> Arc<ServerConfig> {
        self.api_tls.load_full()
    }

    fn drain_ms_max(&self) -> u64 {
        self.config.drain_ms_max
    }
}

impl Locator for Shared {
    fn geo(&self) -> &Geo {
        &self.geo
    }

    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn rng(&self) -> &dyn Rng {
        &*self.rng
    }

    fn own_state(&self) -> (bool, Option<(usize, usize)>) {
        let connections = self.connections.load(Ordering::Relaxed);
        (self.ready.load(Ordering::Acquire), Some((connections, self.connections_max)))
    }
}
