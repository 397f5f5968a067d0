//! One shard of an edge: a thread with its own ring, listening socket, clients and link.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ahash::AHashMap;
use glommio::{
    LocalExecutorBuilder, Placement,
    net::{TcpListener, TcpStream},
    timer::Timer,
};
use protocol::{connection::Millis, link::What, link_message::EdgeLoad};

use super::{Edge, client::Client, cores};
use crate::{
    edge_link::{Link, carry},
    metrics::CoreMetrics,
};

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);

/// How often the core is told how many clients the edge has.
const LOAD_INTERVAL_MS: Millis = 1_000;

/// How long to leave the listener alone after it failed.
const BACK_OFF: Duration = Duration::from_millis(100);

const READ_BUFFER_BYTES: usize = 32 * 1024;

pub struct Shard {
    pub index: u16,
    pub edge: Arc<Edge>,
    pub metrics: CoreMetrics,
    /// What comes goes through it, from clients and from the core: written over each time, not cleared.
    pub read_buffer: RefCell<Vec<u8>>,
    link: RefCell<Option<Rc<Link>>>,
    clients: RefCell<AHashMap<u64, Rc<Client>>>,
    last_client: Cell<u64>,
}

/// Runs shard `index` on the calling thread until it has drained.
pub fn run(edge: Arc<Edge>, index: u16, socket: socket2::Socket) -> anyhow::Result<()> {
    let placement = if edge.config.cores_pinned { Placement::Fixed(usize::from(index)) } else { Placement::Unbound };
    let executor = LocalExecutorBuilder::new(placement)
        .name(&format!("core-{index}"))
        .io_memory(64 * 1024)
        .make()
        .map_err(|error| anyhow::anyhow!("core {index}: no io_uring executor: {error}"))?;
    executor.run(async move {
        let shard = Rc::new(Shard {
            index,
            metrics: CoreMetrics::new(index),
            edge,
            read_buffer: RefCell::new(vec![0; READ_BUFFER_BYTES]),
            link: RefCell::default(),
            clients: RefCell::default(),
            last_client: Cell::new(0),
        });
        let accepting = glommio::spawn_local(accept_all(shard.clone(), crate::shard::listen(socket)));
        let linking = glommio::spawn_local(cores::keep_linked(shard.clone()));
        watch(&shard).await;
        accepting.cancel().await;
        shard.drain().await;
        linking.cancel().await;
    });
    Ok(())
}

async fn accept_all(shard: Rc<Shard>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok(stream) => {
                shard.admit(stream);
                glommio::yield_if_needed().await;
            }
            Err(error) => {
                shard.metrics.accept_errors.increment(1);
                tracing::warn!(core = shard.index, %error, "accepting failed; pausing. Out of file descriptors? Raise the open-files limit.");
                Timer::new(BACK_OFF).await;
            }
        }
    }
}

/// Looks at deadlines until the edge drains, and says how it fares.
async fn watch(shard: &Shard) {
    let mut told_ms = 0;
    while !shard.edge.is_draining() {
        Timer::new(TICK).await;
        shard.check_deadlines();
        if shard.now() >= told_ms + LOAD_INTERVAL_MS {
            told_ms = shard.now();
            shard.tell_load();
        }
    }
    shard.tell_load();
}

impl Shard {
    /// Milliseconds on the clock that deadlines are counted on.
    pub fn now(&self) -> Millis {
        self.edge.clock.monotonic_us() / 1000
    }

    /// The link, if sessions can be opened on it.
    pub fn link(&self) -> Option<Rc<Link>> {
        self.link.borrow().clone().filter(|link| link.is_open() && !self.edge.is_draining())
    }

    /// There is a link from now on.
    pub fn linked(&self, link: Rc<Link>) {
        *self.link.borrow_mut() = Some(link);
        self.edge.links.fetch_add(1, Ordering::Relaxed);
        metrics::gauge!("gateway_links").increment(1.0);
    }

    /// It is gone: its clients have seen it already.
    pub fn unlinked(&self) {
        *self.link.borrow_mut() = None;
        self.edge.links.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("gateway_links").decrement(1.0);
    }

    fn admit(self: &Rc<Self>, stream: TcpStream) {
        let edge = &self.edge;
        if edge.connections.fetch_add(1, Ordering::Relaxed) >= edge.connections_max {
            edge.connections.fetch_sub(1, Ordering::Relaxed);
            self.metrics.connections_refused.increment(1);
            return;
        }
        let _ = stream.set_nodelay(true);
        let ip = stream.peer_addr().ok().map(|address| address.ip().to_canonical());
        let Some(client) = Client::new(self.clone(), ip) else {
            edge.connections.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        let number = self.last_client.get() + 1;
        self.last_client.set(number);
        let client = Rc::new(client);
        self.clients.borrow_mut().insert(number, client.clone());
        self.metrics.connections.increment(1.0);
        let place = Place { shard: self.clone(), number };
        glommio::spawn_local(async move {
            let _place = place;
            client.run(stream).await;
        })
        .detach();
    }

    fn tell_load(&self) {
        if let Some(link) = &*self.link.borrow() {
            let connections = self.edge.connections.load(Ordering::Relaxed) as u64;
            link.say(&What::Load(EdgeLoad { connections, is_draining: self.edge.is_draining() }));
        }
    }

    fn check_deadlines(&self) {
        let now = self.now();
        self.clients.borrow().values().for_each(|client| client.check_deadline(now));
    }

    /// Sends all clients elsewhere, and waits until they are gone, or for so long.
    async fn drain(&self) {
        let until = self.now() + self.edge.config.drain_ms_max;
        let clients: Vec<Rc<Client>> = self.clients.borrow().values().cloned().collect();
        clients.iter().for_each(|client| client.go_away());
        while !self.clients.borrow().is_empty() && self.now() < until {
            Timer::new(TICK).await;
            self.check_deadlines();
        }
        if let Some(link) = &*self.link.borrow() {
            carry::finish(link);
        }
    }
}

/// A client's place in the table.
struct Place {
    shard: Rc<Shard>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shard.clients.borrow_mut().remove(&self.number);
        self.shard.edge.connections.fetch_sub(1, Ordering::Relaxed);
        self.shard.metrics.connections.decrement(1.0);
    }
}
