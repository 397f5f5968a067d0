//! One core: one thread, one ring, its own listening socket, its own connections.
//!
//! - [`connection`]: one client's socket, TLS and protocol, as a poll function.
//! - [`requests`]: what each command does.
//! - [`session`]: a logged-in device and its place in the event log.
//! - [`online`]: who is online, for the users whose home is this core.
//! - [`listener`]: where connections are accepted.
//!
//! What a core shares with others is in [`crate::shared::Shared`]; what it keeps for itself is [`Core`].

mod connection;
mod listener;
mod online;
mod requests;
mod session;

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::BinaryHeap,
    future::poll_fn,
    panic::AssertUnwindSafe,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ahash::AHashMap;
use futures::FutureExt;
use glommio::{Latency, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle, timer::Timer};
use protocol::connection::Millis;

use self::{connection::Connection, online::OnlineTable};
use crate::{
    mailbox::{Address, ConnectionId, Delivery, Mail, Published, SendAnswer},
    metrics::CoreMetrics,
    shared::Shared,
};

/// How often deadlines are looked at: the precision of every time-out of a connection.
const TICK: Duration = Duration::from_millis(100);

/// Reads go through this buffer: the largest TLS record and a little more of the next.
const READ_BUFFER_BYTES: usize = 32 * 1024;

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
    deadlines: RefCell<BinaryHeap<Reverse<(Millis, ConnectionId)>>>,
    /// Ciphertext as read, decrypted in place.
    read_buffer: RefCell<Vec<u8>>,
    /// Ciphertext to write.
    write_buffer: RefCell<Vec<u8>>,
    draining: Cell<bool>,
    queue: Cell<Option<TaskQueueHandle>>,
}

/// Runs core `index` on the calling thread until it has drained.
pub fn run(shared: Arc<Shared>, index: u16, listener: socket2::Socket) -> anyhow::Result<()> {
    let placement = if shared.config.cores_pinned { Placement::Fixed(usize::from(index)) } else { Placement::Unbound };
    let executor = LocalExecutorBuilder::new(placement)
        .name(&format!("core-{index}"))
        // No file goes through this ring: the smallest buffer pool will do.
        .io_memory(64 * 1024)
        .make()
        .map_err(|error| anyhow::anyhow!("core {index}: no io_uring executor: {error}"))?;
    executor.run(async move {
        // A wake from another thread reaches a busy executor at its next preemption only: ask for short turns.
        let queue = glommio::executor().create_task_queue(
            Shares::default(),
            Latency::Matters(Duration::from_millis(1)),
            "core",
        );
        let core = Rc::new(Core::new(shared, index));
        core.queue.set(Some(queue));
        let accepting = core.spawn(listener::accept_all(core.clone(), listener));
        core.spawn(tick_forever(core.clone())).detach();
        let mail = core.spawn({
            let core = core.clone();
            async move { core.handle_mail(accepting).await }
        });
        mail.await;
    });
    Ok(())
}

async fn tick_forever(core: Rc<Core>) {
    loop {
        Timer::new(TICK).await;
        core.check_deadlines();
    }
}

impl Core {
    fn new(shared: Arc<Shared>, index: u16) -> Self {
        Core {
            index,
            metrics: CoreMetrics::new(index),
            shared,
            connections: RefCell::default(),
            next_connection: Cell::new(1),
            online: RefCell::default(),
            deadlines: RefCell::default(),
            read_buffer: RefCell::new(vec![0; READ_BUFFER_BYTES]),
            write_buffer: RefCell::new(Vec::new()),
            draining: Cell::new(false),
            queue: Cell::new(None),
        }
    }

    /// Milliseconds on the clock that all deadlines are counted on.
    pub fn now(&self) -> Millis {
        self.shared.clock.monotonic_us() / 1000
    }

    /// Spawns onto this core's task queue. A panic ends the task alone: it is logged and counted.
    fn spawn(&self, future: impl Future<Output = ()> + 'static) -> glommio::Task<()> {
        let panics = self.metrics.panics.clone();
        let guarded = async move {
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                panics.increment(1); // the panic hook has logged where
            }
        };
        match self.queue.get() {
            Some(queue) => glommio::spawn_local_into(guarded, queue)
                .unwrap_or_else(|error| unreachable!("the core's own task queue: {error}")),
            None => glommio::spawn_local(guarded),
        }
    }

    /// Takes mail until the core has drained.
    async fn handle_mail(self: &Rc<Self>, accepting: glommio::Task<()>) {
        let mut accepting = Some(accepting);
        let mut drain_deadline = None;
        let mailbox = self.shared.router.mailbox(self.index);
        loop {
            let mail = poll_fn(|cx| {
                if drain_deadline.is_some_and(|deadline| self.connections.borrow().is_empty() || self.now() >= deadline)
                {
                    return std::task::Poll::Ready(None);
                }
                mailbox.poll_take(cx).map(Some)
            });
            let Some(mail) = mail.await else { return };
            if mailbox.take_events_lost() {
                self.handle_loss();
            }
            match mail {
                Mail::Sent(answers) => self.answer_sends(answers),
                Mail::Publish(events) => self.publish(events),
                Mail::Deliver(events) => self.deliver(events),
                Mail::Register { app, user, address, registered } => {
                    self.online.borrow_mut().insert(app, user, address);
                    // The session may have gone meanwhile; its own Unregister follows.
                    let _ = registered.send(());
                }
                Mail::Unregister { app, user, address } => self.online.borrow_mut().remove(app, &user, address),
                Mail::Lost { home } => self.fall_behind(|session_home| session_home == home),
                Mail::Drain => {
                    if let Some(accepting) = accepting.take() {
                        accepting.cancel().await;
                    }
                    drain_deadline = Some(self.now() + self.shared.config.drain_ms_max);
                    self.drain();
                }
            }
        }
    }

    fn answer_sends(&self, answers: Vec<SendAnswer>) {
        for answer in answers {
            if let Some(connection) = self.connection(answer.connection) {
                connection.answer_send(answer.request, answer.outcome);
            }
        }
    }

    /// Sends each event to the cores that hold a session of its user.
    fn publish(&self, events: Vec<Published>) {
        let cores = self.shared.router.mailboxes().len();
        let mut by_core: Vec<Vec<Delivery>> = (0..cores).map(|_| Vec::new()).collect();
        let online = self.online.borrow();
        for Published { app, user, position, event, origin } in events {
            for &address in online.sessions(app, &user) {
                let event = (address != origin).then(|| event.clone());
                by_core[usize::from(address.core)].push(Delivery { connection: address.connection, position, event });
            }
        }
        for (core, deliveries) in by_core.into_iter().enumerate() {
            if core == usize::from(self.index) {
                self.deliver(deliveries);
            } else if !deliveries.is_empty() {
                self.shared.router.mailbox(core as u16).put(Mail::Deliver(deliveries));
            }
        }
    }

    fn deliver(&self, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            if let Some(connection) = self.connection(delivery.connection) {
                connection.deliver(delivery.position, delivery.event);
            }
        }
    }

    /// Events of unknown users were dropped on their way into this core: everyone they may have
    /// concerned is sent back to the log. That is every session here, and every session elsewhere of a
    /// user whose home is here.
    fn handle_loss(&self) {
        tracing::warn!(
            core = self.index,
            "live events were dropped because the core fell behind; sessions will sync from the log"
        );
        for (core, mailbox) in self.shared.router.mailboxes().iter().enumerate() {
            if core != usize::from(self.index) {
                mailbox.put(Mail::Lost { home: self.index });
            }
        }
        self.fall_behind(|_| true);
    }

    fn fall_behind(&self, concerns: impl Fn(u16) -> bool) {
        let connections: Vec<_> = self.connections.borrow().values().cloned().collect();
        for connection in connections {
            connection.fall_behind(&concerns);
        }
    }

    fn drain(&self) {
        self.draining.set(true);
        let connections: Vec<_> = self.connections.borrow().values().cloned().collect();
        for connection in connections {
            connection.drain();
        }
    }

    fn connection(&self, id: ConnectionId) -> Option<Rc<Connection>> {
        self.connections.borrow().get(&id).cloned()
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
            if let Some(connection) = self.connection(id) {
                connection.deadline_passed(deadline, now);
            }
        }
        self.metrics.mailbox_events.set(self.shared.router.mailbox(self.index).events_waiting() as f64);
        if self.draining.get() {
            // The drain's own deadline is looked at when mail comes.
            self.shared.router.mailbox(self.index).put(Mail::Deliver(Vec::new()));
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
        Address { core: self.index, connection }
    }
}
