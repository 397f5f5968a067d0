//! Links between cores: one TCP connection a pair, all on one thread of their own.
//!
//! - [`connect`]: how a link comes about. [`link`]: how it lives and ends. [`queue`]: what waits to be sent on it.
//!
//! Of two nodes the one with the lower id dials, and dials again whenever the link is lost, after a while that grows
//! from a tenth of a second to five seconds. A link is only with whom [`Peers::set`] names, and there is one with each:
//! a new connection takes the place of one that the other side has given up before it was noticed here.
//!
//! Frames of a link arrive in order or not at all: what was sent and had not arrived when a link ended is lost. Sending
//! never waits: what a slow peer does not take is refused, and what becomes of that is the user's to decide.
//!
//! What may not live here: what cores say to each other.

mod connect;
mod link;
mod queue;
#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context as _;
use backend::env::Rng;
use bytes::Bytes;
use protocol::{
    link::{LINK_VERSION_MAX, LINK_VERSION_MIN, What},
    link_message::{LinkHello, LinkRefused, NodeRole},
};
use tokio::{
    sync::{Notify, oneshot, watch},
    task::LocalSet,
    time::timeout,
};

use self::link::Ended;
#[allow(unused_imports)] // until the sequencer uses it
pub use self::queue::{Full, PeerHandle};
use crate::{link_tls::LinkTls, service::bind_problem};

/// From the wish to stop to the end: what waits is still sent within it.
const STOP_MAX: Duration = Duration::from_secs(1);

/// What links need to know.
pub struct Options {
    /// What is said of this node: see [`hello`].
    pub hello: LinkHello,
    /// Its certificate, and whose others are taken.
    pub tls: Arc<LinkTls>,
    /// What may wait on one link, in bytes.
    pub queue_bytes_max: usize,
    /// Spreads the times of dialling again.
    pub rng: Arc<dyn Rng>,
}

/// The hello of a core.
pub fn hello(node: u64, name: &str, store_id: Bytes) -> LinkHello {
    LinkHello {
        version_min: LINK_VERSION_MIN,
        version_max: LINK_VERSION_MAX,
        node,
        name: name.to_owned(),
        role: NodeRole::Core.into(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
        store: store_id,
        ..LinkHello::default()
    }
}

/// Another core, linked now.
pub struct Peer {
    /// Drawn at its start.
    pub id: u64,
    pub name: String,
    /// The version of the links' messages that is spoken with it.
    pub version: u32,
    pub handle: PeerHandle,
}

/// What is done when something happens. Called on the links' thread, one after another: it must not wait.
pub trait PeerEvents {
    /// A link is up. Frames that are sent from now on arrive, as long as it is.
    fn up(&self, peer: &Peer);
    /// Something was said on it. Its `Bytes` share what was read together: a small piece that is kept should be copied.
    fn frame(&self, peer: &Peer, frame: What);
    /// Another core has looked, and this node is not among those that live. So it is as well when it has just begun to.
    fn not_alive(&self);
    /// It is lost, or was ended. Comes once for each `up`, and before the next one of the same peer.
    fn down(&self, peer: u64);
}

/// The running links.
pub struct Peers {
    #[cfg(test)]
    address: SocketAddr,
    wanted: watch::Sender<Wanted>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// Where those are that this node is to be linked with.
type Wanted = BTreeMap<u64, SocketAddr>;

/// Binds the port where other cores dial.
pub fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let flag = "--link-peers-listen";
    let listener = TcpListener::bind(address).with_context(|| bind_problem("link.peers_listen", address, flag))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Peers {
    /// Starts, with nobody to be linked with yet.
    pub fn start(
        listener: TcpListener,
        options: Options,
        events: impl PeerEvents + Send + 'static,
    ) -> anyhow::Result<Self> {
        #[cfg(test)]
        let address = listener.local_addr()?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("the thread of links")?;
        let listener = {
            let _in_runtime = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (wanted, wishes) = watch::channel(Wanted::new());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("peers".into()).spawn(move || {
            let node = Rc::new(Node::new(options, Box::new(events), wishes.clone()));
            let tasks = LocalSet::new();
            tasks.block_on(&runtime, run(node, listener, wishes, stopped));
        })?;
        Ok(Peers {
            #[cfg(test)]
            address,
            wanted,
            stop,
            thread,
        })
    }

    /// Where other cores dial.
    #[cfg(test)]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says whom to be linked with: ids, and where these nodes listen. Links with others end. This node itself may be
    /// among them.
    pub fn set(&self, peers: Vec<(u64, SocketAddr)>) {
        self.wanted.send_replace(peers.into_iter().collect());
    }

    /// The thread of links has ended, though it was not told to.
    pub fn has_died(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends all links once what waits has been sent, or after a second. When it returns, `down` was called for each.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread of links died");
        }
    }
}

async fn run(
    node: Rc<Node>,
    listener: tokio::net::TcpListener,
    mut wishes: watch::Receiver<Wanted>,
    mut stopped: oneshot::Receiver<()>,
) {
    let accepting = tokio::task::spawn_local(connect::accept_all(node.clone(), listener));
    let mut dialling = HashMap::new();
    loop {
        let wanted = wishes.borrow_and_update().clone();
        node.end_others(&wanted);
        dialling.retain(|(id, address), task: &mut tokio::task::JoinHandle<()>| {
            let is_wanted = wanted.get(id) == Some(address) && !task.is_finished();
            if !is_wanted {
                task.abort();
            }
            is_wanted
        });
        for (&id, &address) in wanted.range(node.options.hello.node..).skip_while(|(id, _)| node.is_own(**id)) {
            let dial = || tokio::task::spawn_local(connect::dial(node.clone(), id, address));
            dialling.entry((id, address)).or_insert_with(dial);
        }
        tokio::select! {
            _ = &mut stopped => break,
            changed = wishes.changed() => if changed.is_err() { break },
        }
    }
    accepting.abort();
    node.end().await;
}

/// This node on the links' thread, shared by all tasks there.
struct Node {
    options: Options,
    events: Box<dyn PeerEvents>,
    wanted: watch::Receiver<Wanted>,
    links: RefCell<HashMap<u64, Linked>>,
    /// Counts links, so that an old one is told from the one that took its place.
    last_number: Cell<u64>,
    is_ending: Cell<bool>,
    /// A link has ended.
    ended: Notify,
}

struct Linked {
    number: u64,
    handle: PeerHandle,
}

impl Node {
    fn new(options: Options, events: Box<dyn PeerEvents>, wanted: watch::Receiver<Wanted>) -> Self {
        Node {
            options,
            events,
            wanted,
            links: RefCell::default(),
            last_number: Cell::new(0),
            is_ending: Cell::new(false),
            ended: Notify::new(),
        }
    }

    fn is_own(&self, id: u64) -> bool {
        id == self.options.hello.node
    }

    fn is_wanted(&self, id: u64) -> bool {
        self.wanted.borrow().contains_key(&id)
    }

    /// Tells of a new link, in place of the one before. `None` if there is to be none.
    fn link(self: &Rc<Self>, hello: LinkHello, version: u32) -> Option<Registered> {
        let id = hello.node;
        if self.is_ending.get() || !self.is_wanted(id) {
            return None;
        }
        if self.links.borrow().contains_key(&id) {
            tracing::info!(peer = id, "the other core has made a new connection: the one before is given up");
            self.unlink(id, None);
        }
        let number = self.last_number.get() + 1;
        self.last_number.set(number);
        let handle = PeerHandle::new(self.options.queue_bytes_max);
        self.links.borrow_mut().insert(id, Linked { number, handle: handle.clone() });
        metrics::gauge!("gateway_peer_links").increment(1.0);
        tracing::info!(peer = id, name = ?hello.name, release = ?hello.release, version, "linked with another core");
        let peer = Peer { id, name: hello.name, version, handle };
        self.events.up(&peer);
        Some(Registered { node: self.clone(), peer, number })
    }

    /// Forgets a link, if it is the one with this number, and tells of it.
    fn unlink(&self, id: u64, number: Option<u64>) {
        let is_it = |linked: &Linked| number.is_none_or(|number| linked.number == number);
        if self.links.borrow().get(&id).is_some_and(is_it) {
            self.forget(id, PeerHandle::close);
        }
    }

    /// Forgets the link with another core, ends it, and tells of it.
    fn forget(&self, id: u64, end: impl FnOnce(&PeerHandle)) {
        let Some(Linked { handle, .. }) = self.links.borrow_mut().remove(&id) else { return };
        end(&handle);
        metrics::gauge!("gateway_peer_links").decrement(1.0);
        self.events.down(id);
        self.ended.notify_one();
    }

    /// Ends links with whom there are to be none any more.
    fn end_others(&self, wanted: &Wanted) {
        let others: Vec<u64> = self.links.borrow().keys().copied().filter(|id| !wanted.contains_key(id)).collect();
        for id in others {
            tracing::info!(peer = id, "link ended: the other core is not there any more");
            // It may live, and not reach the store.
            let refused = LinkRefused { reason: "not known here any more".to_owned(), not_alive: true };
            self.forget(id, |handle| {
                handle.send_control(&What::Refused(refused));
                handle.finish();
            });
        }
    }

    /// Tells why there is no link, or none any more, as far as it matters.
    fn hear(&self, why: &Ended) {
        if matches!(why, Ended::NotAlive) {
            self.events.not_alive();
        }
    }

    /// Ends all, with what waits sent if that can be done soon.
    async fn end(&self) {
        self.is_ending.set(true);
        self.links.borrow().values().for_each(|linked| linked.handle.finish());
        let all = async {
            while !self.links.borrow().is_empty() {
                self.ended.notified().await;
            }
        };
        let _ = timeout(STOP_MAX, all).await;
        let rest: Vec<u64> = self.links.borrow().keys().copied().collect();
        rest.into_iter().for_each(|id| self.unlink(id, None));
    }
}

/// A link that was told of; that it ended is told when this goes.
struct Registered {
    node: Rc<Node>,
    peer: Peer,
    number: u64,
}

impl Registered {
    /// Passes on what was said, unless the link was ended or replaced meanwhile.
    fn frame(&self, frame: What) -> Result<(), Ended> {
        if !self.is_current() {
            return Err(Ended::ClosedHere);
        }
        self.node.events.frame(&self.peer, frame);
        Ok(())
    }

    fn is_current(&self) -> bool {
        self.node.links.borrow().get(&self.peer.id).is_some_and(|linked| linked.number == self.number)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.node.unlink(self.peer.id, Some(self.number));
    }
}
