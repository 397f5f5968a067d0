//! One core: one thread, one ring, its own listening socket, its own connections.
//!
//! - [`connection`]: one client's socket, TLS and protocol, as a poll function.
//! - [`requests`]: what each command does: [`acts`] that change something, [`pages`] that read, [`people`] for
//!   profiles and friends, [`routing`] for where to connect.
//! - [`session`]: a logged-in device and its place in the event log.
//! - [`online`]: who is online, for the users whose home is this core; [`followers`]: who is told of it.
//! - [`devices`], [`presence`]: what clients ask about these, and how their home answers.
//! - [`remote`]: the sessions that other nodes hold.
//! - [`listener`]: where connections are accepted; [`links`]: where edges bring theirs. [`stream`]: either's bytes.
//!
//! What a core shares with others is in [`crate::shared::Shared`]; what it keeps for itself is [`Core`].

mod acts;
mod connection;
mod devices;
mod followers;
mod groups;
mod links;
mod listener;
mod members;
mod online;
mod pages;
mod people;
mod presence;
mod remote;
mod requests;
mod routing;
mod session;
mod stream;

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::BinaryHeap,
    future::poll_fn,
    panic::AssertUnwindSafe,
    rc::Rc,
    sync::{Arc, atomic::Ordering, mpsc},
    task::Poll,
    time::Duration,
};

use ahash::AHashMap;
use backend::domain::{
    AppId,
    act::{Audience, News},
};
use futures::{FutureExt, task::AtomicWaker};
use glommio::{Latency, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle, timer::Timer};
use protocol::{ErrorCode, connection::Millis};

use self::{connection::Connection, followers::FollowerTable, members::MemberTable, online::OnlineTable};
pub use self::{listener::listen, routing::last_word};
use crate::{
    edge_link::Link,
    mailbox::{ActAnswer, Address, ConnectionId, Delivered, Delivery, HERE, Mail, Published, Target},
    metrics::CoreMetrics,
    shared::Shared,
};

/// How often deadlines are looked at: the precision of every time-out of a connection.
const TICK: Duration = Duration::from_millis(100);

/// Reads go through this buffer: the largest TLS record and a little more of the next.
const READ_BUFFER_BYTES: usize = 32 * 1024;

/// How often it is logged that events were dropped, at the most.
const LOSS_LOG_INTERVAL_MS: u64 = 10_000;

/// A write buffer that has grown beyond this is not kept.
const WRITE_BUFFER_BYTES_MAX: usize = 1 << 20;

/// What one core keeps for itself.
pub struct Core {
    /// The core's number.
    pub index: u16,
    /// What all cores share.
    pub shared: Arc<Shared>,
    metrics: CoreMetrics,
    connections: RefCell<AHashMap<ConnectionId, Rc<Connection>>>,
    next_connection: Cell<ConnectionId>,
    online: RefCell<OnlineTable>,
    followers: RefCell<FollowerTable>,
    members: RefCell<MemberTable>,
    /// Of edges.
    links: RefCell<Vec<Rc<Link>>>,
    deadlines: RefCell<BinaryHeap<Reverse<(Millis, ConnectionId)>>>,
    /// Ciphertext as read, decrypted in place.
    read_buffer: RefCell<Vec<u8>>,
    /// Ciphertext to write.
    write_buffer: RefCell<Vec<u8>>,
    draining: Cell<bool>,
    queue: TaskQueueHandle,
    /// Wakes the task that takes mail.
    mail_waker: AtomicWaker,
    loss_logged: Cell<Millis>,
    /// That somebody was put out of a live room, or signed out, may not have been heard.
    is_out_doubtful: Cell<bool>,
    /// What nodes that are linked newly have not been told of yet.
    untold: RefCell<Vec<remote::Untold>>,
    /// When other nodes were told how many are in live rooms.
    rooms_told: Cell<Millis>,
    /// When edges were told where clients should connect.
    directory_told: Cell<Millis>,
}

/// Where one core listens.
pub struct Sockets {
    pub clients: socket2::Socket,
    /// For edges.
    pub links: Option<socket2::Socket>,
}

/// Runs core `index` on the calling thread until all cores have drained. `up` is told once it serves.
pub fn run(shared: Arc<Shared>, index: u16, sockets: Sockets, up: &mpsc::Sender<u16>) -> anyhow::Result<()> {
    let placement = if shared.config.cores_pinned { Placement::Fixed(usize::from(index)) } else { Placement::Unbound };
    let executor = LocalExecutorBuilder::new(placement)
        .name(&format!("core-{index}"))
        // No file goes through this ring: the smallest buffer pool will do.
        .io_memory(64 * 1024)
        .make()
        .map_err(|error| {
            anyhow::anyhow!(
                "core {index}: no io_uring executor: {error}. Does the kernel have io_uring (5.8 or later), is it \
                 allowed here (a container's seccomp profile, kernel.io_uring_disabled), and are there as many \
                 processors as `cores` and `cores_pinned` say?"
            )
        })?;
    executor.run(async move {
        // A wake from another thread reaches a busy executor at its next preemption only: ask for short turns.
        let latency = Latency::Matters(Duration::from_millis(1));
        let queue = glommio::executor().create_task_queue(Shares::default(), latency, "core");
        let core = Rc::new(Core::new(shared, index, queue));
        // Without these the core only half serves: a panic in one ends the core, and so the process.
        let accepting = core.spawn_vital(listener::accept_all(core.clone(), sockets.clients));
        if let Some(socket) = sockets.links {
            core.spawn_vital(links::accept_all(core.clone(), socket)).detach();
        }
        core.spawn_vital(tick_forever(core.clone())).detach();
        let _ = up.send(index);
        let mail = core.clone();
        core.spawn_vital(async move { mail.handle_mail(accepting).await }).await;
    });
    Ok(())
}

async fn tick_forever(core: Rc<Core>) {
    loop {
        Timer::new(TICK).await;
        core.check_deadlines();
        core.tick_home();
        core.tell_more();
        if core.index == 0 {
            core.tell_rooms();
            core.tick_cluster();
        }
        core.tick_links();
        if core.is_out_doubtful.take() {
            let checked = core.clone();
            let check = async move {
                checked.check_rooms().await;
                checked.check_usersigs().await;
            };
            core.spawn_vital(check).detach();
        }
    }
}

/// What a connection is told of news; `own`: it has caused them, and learns of them by its answer.
fn delivered(news: &News, own: bool) -> Option<Delivered> {
    Some(match (news, own) {
        (News::Event(position, event), false) => Delivered::Event(*position, event.clone()),
        (News::Event(position, _), true) => Delivered::OwnEvent(*position),
        (News::Push(push), false) => Delivered::Push(push.clone()),
        (News::Push(_), true) => return None,
        (News::Entered(group), _) => Delivered::Membership(group.clone(), true),
        (News::Left(group), _) => Delivered::Membership(group.clone(), false),
        (News::Behind, _) => Delivered::Behind,
    })
}

impl Core {
    fn new(shared: Arc<Shared>, index: u16, queue: TaskQueueHandle) -> Self {
        Core {
            index,
            metrics: CoreMetrics::new(index),
            online: RefCell::new(OnlineTable::new(index, shared.router.mailboxes().len(), shared.session_base)),
            followers: RefCell::default(),
            members: RefCell::default(),
            links: RefCell::default(),
            shared,
            connections: RefCell::default(),
            next_connection: Cell::new(1),
            deadlines: RefCell::default(),
            read_buffer: RefCell::new(vec![0; READ_BUFFER_BYTES]),
            write_buffer: RefCell::new(Vec::new()),
            draining: Cell::new(false),
            queue,
            mail_waker: AtomicWaker::new(),
            loss_logged: Cell::new(0),
            is_out_doubtful: Cell::new(false),
            untold: RefCell::default(),
            rooms_told: Cell::new(0),
            directory_told: Cell::new(0),
        }
    }

    /// Milliseconds on the clock that all deadlines are counted on.
    pub fn now(&self) -> Millis {
        self.shared.clock.monotonic_us() / 1000
    }

    /// Spawns onto this core's task queue. A panic ends the core.
    fn spawn_vital(&self, future: impl Future<Output = ()> + 'static) -> glommio::Task<()> {
        glommio::spawn_local_into(future, self.queue)
            .unwrap_or_else(|error| unreachable!("the core's own task queue: {error}"))
    }

    /// Spawns a task of `connection`. A panic ends the connection alone; the panic hook has logged where.
    fn spawn_for(&self, connection: &Rc<Connection>, future: impl Future<Output = ()> + 'static) {
        let connection = connection.clone();
        let guarded = async move {
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                connection.abort();
            }
        };
        self.spawn_vital(guarded).detach();
    }

    /// Does something to a connection, if it is still there. A panic ends the connection alone.
    fn with_connection(&self, id: ConnectionId, act: impl FnOnce(&Rc<Connection>)) {
        let Some(connection) = self.connections.borrow().get(&id).cloned() else { return };
        if std::panic::catch_unwind(AssertUnwindSafe(|| act(&connection))).is_err() {
            connection.abort();
        }
    }

    /// Takes mail until all cores have drained.
    async fn handle_mail(self: &Rc<Self>, accepting: glommio::Task<()>) {
        let mut accepting = Some(accepting);
        let mut drain_deadline = None;
        let mailbox = self.shared.router.mailbox(self.index);
        loop {
            let mail = poll_fn(|cx| {
                // Until the last connection anywhere is gone, other cores may need this one's table.
                let drained = || self.shared.connections.load(Ordering::Relaxed) == 0;
                if drain_deadline.is_some_and(|deadline| drained() || self.now() >= deadline) {
                    return Poll::Ready(None);
                }
                self.mail_waker.register(cx.waker());
                mailbox.poll_take(cx).map(Some)
            });
            match mail.await {
                None => return,
                Some(Mail::Drain) => {
                    if let Some(accepting) = accepting.take() {
                        accepting.cancel().await;
                    }
                    drain_deadline = Some(self.now() + self.shared.config.drain_ms_max);
                    self.drain();
                }
                Some(mail) => self.handle(mail),
            }
            // Connections and deadlines get their turns however much mail there is.
            glommio::yield_if_needed().await;
        }
    }

    fn handle(self: &Rc<Self>, mail: Mail) {
        match mail {
            Mail::Acted(answers) => self.answer_acts(answers),
            Mail::Publish(news) => self.publish(news),
            Mail::Deliver(news) => self.deliver(news),
            Mail::Register(registration) => self.register(*registration),
            Mail::Unregister { app, user, address, caller, reason } => {
                self.unregister(&(app, user), address, caller, reason);
            }
            Mail::Home(mail) => self.handle_home(*mail),
            Mail::Remote(mail) => self.handle_remote(*mail),
            Mail::SignedOut { connection, by } => {
                self.with_connection(connection, |connection| {
                    connection.with_protocol(|protocol| protocol.sign_out(*by));
                });
            }
            Mail::Presence(change) => self.deliver_presence(*change),
            Mail::ApplicationGone { app } => self.end_application(app),
            Mail::Lost { home } => self.handle_loss(home),
            Mail::EdgeLink(accepted, place) => links::start(self, accepted, place),
            Mail::Drain => {}
        }
    }

    fn answer_acts(&self, answers: Vec<ActAnswer>) {
        for answer in answers {
            let ActAnswer { connection, request, outcome } = answer;
            self.with_connection(connection, |connection| connection.answer_act(request, outcome));
        }
    }

    /// Passes news on to the cores that hold a session of their user.
    fn publish(&self, news: Vec<Published>) {
        let cores = self.shared.router.mailboxes().len();
        let mut by_core: Vec<Vec<Delivery>> = (0..cores).map(|_| Vec::new()).collect();
        let online = self.online.borrow();
        for Published { app, to, news, origin } in news {
            match to {
                Audience::User(user) => {
                    for address in online.addresses(app, &user) {
                        let Some(what) = delivered(&news, Some(address) == origin) else { continue };
                        let to = Target::Connection(address.connection);
                        by_core[usize::from(address.core)].push(Delivery { to, what });
                    }
                }
                Audience::Group(group) => {
                    let Some(what) = delivered(&news, false) else { continue };
                    for deliveries in &mut by_core {
                        let (group, what) = (group.clone(), what.clone());
                        let to = Target::Members { app, group, home: self.index, origin };
                        deliveries.push(Delivery { to, what });
                    }
                }
            }
        }
        for (deliveries, core) in by_core.into_iter().zip(0..) {
            if core == self.index {
                self.deliver(deliveries);
            } else {
                self.shared.router.mailbox(core).put_events(deliveries, self.index, Mail::Deliver);
            }
        }
    }

    fn deliver(&self, deliveries: Vec<Delivery>) {
        for Delivery { to, what } in deliveries {
            match to {
                Target::Connection(connection) => {
                    self.with_connection(connection, |connection| connection.deliver(what));
                }
                Target::Members { app, group, home, origin } => self.deliver_to_group(app, &group, home, origin, &what),
            }
        }
    }

    /// Events of users at home on `home` were dropped on their way into this core: everyone they may have
    /// concerned is sent back to the log. If that is this core, sessions elsewhere are concerned too.
    fn handle_loss(&self, home: u16) {
        let now = self.now();
        if now >= self.loss_logged.get() + LOSS_LOG_INTERVAL_MS {
            self.loss_logged.set(now);
            tracing::warn!(
                core = self.index,
                "live events were dropped because the core fell behind; sessions sync from the log"
            );
        }
        self.is_out_doubtful.set(true);
        if home == self.index {
            let others = self.shared.router.mailboxes().iter().zip(0..).filter(|(_, core)| *core != self.index);
            others.for_each(|(mailbox, _)| mailbox.mark_lost(home));
        }
        for id in self.connection_ids() {
            self.with_connection(id, |connection| connection.fall_behind(|session_home| session_home == home));
        }
    }

    /// The application was deleted: nobody of it has anything to do here any more.
    fn end_application(&self, app: AppId) {
        for id in self.connection_ids() {
            self.with_connection(id, |connection| {
                if connection.with_session(|session| session.app == app) == Some(true) {
                    connection.with_protocol(|protocol| protocol.go_away(ErrorCode::APPLICATION_UNKNOWN, 0));
                }
            });
        }
    }

    fn drain(&self) {
        self.draining.set(true);
        self.leave_links();
        for id in self.connection_ids() {
            self.with_connection(id, Connection::drain);
        }
    }

    fn connection_ids(&self) -> Vec<ConnectionId> {
        self.connections.borrow().keys().copied().collect()
    }

    /// Has the connection looked at when `deadline` has come.
    fn watch_deadline(&self, deadline: Millis, id: ConnectionId) {
        self.deadlines.borrow_mut().push(Reverse((deadline, id)));
    }

    fn check_deadlines(&self) {
        let now = self.now();
        loop {
            let due = {
                let mut deadlines = self.deadlines.borrow_mut();
                match deadlines.peek() {
                    Some(Reverse((deadline, _))) if *deadline <= now => deadlines.pop(),
                    _ => None,
                }
            };
            let Some(Reverse((deadline, id))) = due else { break };
            self.with_connection(id, |connection| connection.deadline_passed(deadline, now));
        }
        self.metrics.mailbox_events.set(self.shared.router.mailbox(self.index).events_waiting() as f64);
        if self.draining.get() {
            self.mail_waker.wake(); // it looks at the drain's deadline
        }
    }

    /// Gives a connection the core's write buffer, unless it has bytes of its own to write first.
    fn lend_buffer(&self, unsent: &mut Vec<u8>) {
        if unsent.capacity() == 0 {
            std::mem::swap(unsent, &mut self.write_buffer.borrow_mut());
        }
    }

    /// Takes an emptied buffer back; what a connection stalled with is not missed.
    fn keep_buffer(&self, emptied: &mut Vec<u8>) {
        let mut kept = self.write_buffer.borrow_mut();
        if emptied.capacity() > kept.capacity() && emptied.capacity() <= WRITE_BUFFER_BYTES_MAX {
            std::mem::swap(emptied, &mut kept);
        }
        *emptied = Vec::new();
    }

    fn address(&self, connection: ConnectionId) -> Address {
        Address { node: HERE, core: self.index, connection }
    }
}
