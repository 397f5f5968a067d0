//! One client's connection: socket, TLS and protocol state, driven by one task.
//!
//! The task is a poll function: write what waits, read what came, until neither goes on. Everything
//! else (answers, events) puts bytes into the protocol's output and wakes the task, so that whatever
//! gathers until it runs leaves in one write. No buffer is held while nothing is under way.

mod news;

use std::{
    cell::RefCell,
    future::poll_fn,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    sync::atomic::Ordering,
    task::{Context, Poll, Waker},
};

use backend::domain::{Error, act::Answer, callbacks::StateReason};
use futures::{AsyncRead, AsyncWrite};
use protocol::{
    ErrorCode,
    connection::{Millis, ServerConnection, ServerEvent},
};

use super::{Core, acts, requests, routing, session::Session, stream::Stream};
use crate::{
    errors::Refusal,
    mailbox::ConnectionId,
    metrics::tls_failure_kind,
    tls::{Progress, TlsSession},
};

/// Turns of reading before others get theirs.
const READS_PER_TURN_MAX: usize = 8;

/// Pages one client may have read at a time: what bounds the memory of answers it does not take.
const PAGES_RUNNING_MAX: u32 = 8;

/// How long a closing connection waits for the client to close its side, so that the last frame is
/// not destroyed by a reset.
const LINGER_MS: u64 = 1_000;

/// A connection, as its task and everything that sends through it share it.
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) core: Rc<Core>,
    /// Where the client connects from.
    pub(super) ip: Option<IpAddr>,
    /// The access point of the edge that it has come by, empty if that is none; `None`: it has come to this node itself.
    pub(super) via: Option<Box<str>>,
    inner: RefCell<Inner>,
}

struct Inner {
    protocol: ServerConnection,
    /// None where an edge has ended the client's.
    tls: Option<TlsSession>,
    handshake: Progress,
    session: Option<Session>,
    login_running: bool,
    /// Pages of the log or of a conversation that are being read for this client.
    pages_running: u32,
    /// Ciphertext that the socket did not take yet.
    unsent: Vec<u8>,
    /// How much of it the socket has taken.
    unsent_from: usize,
    /// The sending direction has been ended.
    finished: bool,
    /// The client sends no more.
    ended: bool,
    /// Since when the socket takes nothing.
    stalled_since: Option<Millis>,
    draining: bool,
    phase: Phase,
    /// How its session ends, as far as is known.
    end_reason: StateReason,
    waker: Option<Waker>,
    /// When the connection is looked at next.
    look_at: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Reading and writing.
    Open,
    /// Writing what is left, until then at the latest, then saying goodbye.
    Flushing(Millis),
    /// Goodbye is said; waiting for the client's, until then.
    Lingering(Millis),
    /// Over.
    Closed,
}

/// Starts the task of a connection from `ip` that was admitted.
pub(super) fn start(core: &Rc<Core>, stream: Stream, ip: Option<IpAddr>, via: Option<Box<str>>) {
    let tls = match stream {
        Stream::Socket(_) => TlsSession::new(core.shared.tls.load_full()).map(Some),
        Stream::Linked(_) => Ok(None),
    };
    let Ok(tls) = tls else {
        core.shared.connections.fetch_sub(1, Ordering::Relaxed);
        return;
    };
    let now = core.now();
    let protocol = ServerConnection::new(core.shared.limits.clone(), now);
    let id = core.next_connection.get();
    core.next_connection.set(id + 1);
    let first_deadline = protocol.timeout();
    let inner = Inner {
        protocol,
        handshake: if tls.is_some() { Progress::Handshaking } else { Progress::Open },
        tls,
        session: None,
        login_running: false,
        unsent: Vec::new(),
        unsent_from: 0,
        finished: false,
        ended: false,
        pages_running: 0,
        stalled_since: None,
        draining: false,
        phase: Phase::Open,
        end_reason: StateReason::LinkClose,
        waker: None,
        look_at: Millis::MAX,
    };
    let connection = Rc::new(Connection { id, core: core.clone(), ip, via, inner: RefCell::new(inner) });
    core.connections.borrow_mut().insert(id, connection.clone());
    if let Some(deadline) = first_deadline {
        connection.watch_deadline(deadline);
    }
    core.metrics.connections.increment(1.0);
    let registration = Registered { connection: connection.clone() };
    core.spawn_for(&connection.clone(), async move {
        let _registration = registration;
        let mut stream = stream;
        poll_fn(|cx| connection.poll(cx, &mut stream)).await;
    });
}

/// Takes the connection off every table when its task ends, however it ends.
struct Registered {
    connection: Rc<Connection>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let Connection { id, core, .. } = &*self.connection;
        core.connections.borrow_mut().remove(id);
        core.shared.connections.fetch_sub(1, Ordering::Relaxed);
        core.metrics.connections.decrement(1.0);
        if let Ok(mut inner) = self.connection.inner.try_borrow_mut() {
            inner.phase = Phase::Closed;
            self.connection.end_session(&mut inner);
        }
    }
}

impl Connection {
    fn poll(self: &Rc<Self>, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<()> {
        self.inner.borrow_mut().keep_waker(cx);
        for _ in 0..READS_PER_TURN_MAX {
            if self.inner.borrow().phase == Phase::Closed {
                return Poll::Ready(());
            }
            let write_blocked = match self.inner.borrow_mut().poll_write(&self.core, cx, stream) {
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(Gone)) => return Poll::Ready(()),
                Poll::Pending => true,
            };
            self.watch_stall(write_blocked);
            let phase = self.inner.borrow().phase;
            if let Phase::Flushing(until) | Phase::Lingering(until) = phase {
                self.end_session(&mut self.inner.borrow_mut());
                self.watch_deadline(until);
            }
            if write_blocked {
                return Poll::Pending;
            }
            // Frames may have waited until the output had room; their answers go first.
            if self.handle_events() || matches!(self.inner.borrow().phase, Phase::Flushing(_)) {
                continue;
            }
            if !self.inner.borrow().may_read() {
                return Poll::Pending;
            }
            match self.poll_read(cx, stream) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once and handles what came. `false`: the connection is over.
    fn poll_read(self: &Rc<Self>, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<bool> {
        let mut buffer = self.core.read_buffer.borrow_mut();
        let count = match Pin::new(stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(false),
            Poll::Ready(Ok(count)) => count,
        };
        let mut inner = self.inner.borrow_mut();
        if count == 0 {
            let go_on = inner.handle_end(&self.core);
            drop(inner);
            drop(buffer);
            self.handle_events();
            return Poll::Ready(go_on);
        }
        let bytes = buffer.get_mut(..count).unwrap_or_default();
        inner.handle_bytes(&self.core, bytes);
        drop(inner);
        drop(buffer);
        self.handle_events();
        Poll::Ready(true)
    }

    /// Handles what the client did. Returns whether there was anything.
    fn handle_events(self: &Rc<Self>) -> bool {
        let mut any = false;
        loop {
            let Some(event) = self.inner.borrow_mut().next_event(&self.core) else { return any };
            any = true;
            match event {
                ServerEvent::Hello { version, client } => {
                    tracing::debug!(connection = self.id, version, client, "hello");
                    let now_ms = self.core.shared.clock.unix_ms();
                    self.inner.borrow_mut().protocol.welcome(version, now_ms);
                }
                ServerEvent::Request { id, command, payload } => requests::handle(self, id, command, payload),
                ServerEvent::Ping => self.inner.borrow_mut().pong(),
                ServerEvent::Closing(code) => {
                    if code.0 == 0 {
                        self.inner.borrow_mut().end_reason = StateReason::Logout;
                    }
                    self.core.metrics.closed(code);
                    self.inner.borrow_mut().start_closing(&self.core);
                }
            }
        }
    }

    /// Runs `change` on the protocol state and has the task write what came of it.
    pub(super) fn with_protocol<T>(self: &Rc<Self>, change: impl FnOnce(&mut ServerConnection) -> T) -> T {
        let result = change(&mut self.inner.borrow_mut().protocol);
        self.after_change();
        result
    }

    /// Answers a request with an error.
    pub(super) fn refuse(self: &Rc<Self>, request: u32, refusal: impl Into<Refusal>) {
        let Refusal { code, text, retry_after_ms } = refusal.into();
        self.core.metrics.refused(code);
        self.with_protocol(|protocol| protocol.refuse(request, code, &text, retry_after_ms));
    }

    /// Answers an act.
    pub(super) fn answer_act(self: &Rc<Self>, request: u32, outcome: Result<Answer, Error>) {
        match outcome {
            Ok(answer) => {
                if matches!(answer, Answer::Sent { .. }) {
                    self.core.metrics.messages.increment(1);
                }
                self.with_protocol(|protocol| acts::respond(protocol, request, answer));
            }
            Err(error) => self.refuse(request, error),
        }
    }

    /// A login is under way from here on. `false`: one is already.
    pub(super) fn login_started(&self) -> bool {
        !std::mem::replace(&mut self.inner.borrow_mut().login_running, true)
    }

    /// The login failed.
    pub(super) fn login_failed(self: &Rc<Self>, request: u32, refusal: Refusal) {
        self.inner.borrow_mut().login_running = false;
        // A failure of the store says nothing about the client.
        if !refusal.code.is_retryable() {
            self.inner.borrow_mut().protocol.login_failed();
        }
        self.refuse(request, refusal);
    }

    /// The login succeeded and the session is in the online table. `false`: the client is gone.
    pub(super) fn logged_in(&self, session: Session) -> bool {
        let mut inner = self.inner.borrow_mut();
        if inner.phase != Phase::Open {
            return false;
        }
        match session.is_guest {
            false => inner.protocol.logged_in(self.core.now()),
            true => {
                self.core.shared.guests.fetch_add(1, Ordering::Relaxed);
                inner.protocol.guest_logged_in(self.core.now());
            }
        }
        inner.session = Some(session);
        let deadline = inner.protocol.timeout();
        drop(inner);
        self.core.metrics.sessions.increment(1.0);
        // Heartbeats may be due before the deadline of the login would have been.
        if let Some(deadline) = deadline {
            self.watch_deadline(deadline);
        }
        true
    }

    /// The session is over, whether or not the connection is: the user's other devices, and who follows the
    /// user, need not wait for the last byte.
    fn end_session(&self, inner: &mut Inner) {
        if let Some(session) = inner.session.take() {
            self.core.metrics.sessions.decrement(1.0);
            self.core.leave_home(self.id, session, inner.end_reason);
        }
    }

    /// A page is being read from here on. `false`: as many are as may be, or the client takes no answers.
    pub(super) fn page_started(&self) -> bool {
        let mut inner = self.inner.borrow_mut();
        let crowded = inner.waiting_bytes() > self.core.shared.config.push_buffer_bytes_max;
        let admitted = !crowded && inner.pages_running < PAGES_RUNNING_MAX;
        inner.pages_running += u32::from(admitted);
        admitted
    }

    /// The page has been read.
    pub(super) fn page_finished(&self) {
        self.inner.borrow_mut().pages_running -= 1;
    }

    /// Largest answer the client accepts, in bytes.
    pub(super) fn answer_bytes_max(&self) -> usize {
        self.inner.borrow().protocol.peer_frame_bytes_max()
    }

    /// Looks at or changes the session, if there is one.
    pub(super) fn with_session<T>(&self, use_it: impl FnOnce(&mut Session) -> T) -> Option<T> {
        self.inner.borrow_mut().session.as_mut().map(use_it)
    }

    /// Something of the connection has panicked: its state can't be trusted any more.
    pub(super) fn abort(&self) {
        self.core.metrics.panics.increment(1);
        self.inner.borrow_mut().phase = Phase::Closed;
        self.wake();
    }

    /// Takes no new requests, answers those in flight, then says goodbye.
    pub(super) fn drain(self: &Rc<Self>) {
        self.inner.borrow_mut().draining = true;
        self.after_change();
    }

    /// The time `deadline` has come that was asked for.
    pub(super) fn deadline_passed(self: &Rc<Self>, deadline: Millis, now: Millis) {
        if self.inner.borrow().look_at != deadline {
            return; // superseded by an earlier one
        }
        self.inner.borrow_mut().look_at = Millis::MAX;
        if let Some(next) = self.check_deadlines(now) {
            self.watch_deadline(next.max(now + 1));
        }
    }

    /// Closes the connection if one of its deadlines has passed. Returns when to look again.
    fn check_deadlines(&self, now: Millis) -> Option<Millis> {
        let mut inner = self.inner.borrow_mut();
        if let Phase::Flushing(until) | Phase::Lingering(until) = inner.phase {
            if now >= until {
                inner.phase = Phase::Closed;
            }
            drop(inner);
            self.wake();
            return (now < until).then_some(until);
        }
        let stall_deadline = inner.stalled_since.map(|since| since + self.core.shared.config.write_stall_ms_max);
        if stall_deadline.is_some_and(|deadline| now >= deadline) {
            self.core.metrics.closed(ErrorCode::SLOW_READER);
            inner.phase = Phase::Closed; // nothing more can be written to it
            drop(inner);
            self.wake();
            return None;
        }
        inner.protocol.handle_timeout(now);
        if inner.handshake == Progress::Handshaking && inner.protocol.timeout().is_none() {
            self.core.metrics.tls_failed("deadline");
            inner.phase = Phase::Closed;
        }
        let next = inner.protocol.timeout();
        if next.is_none() {
            // It is given up, even if its socket does not take the goodbye for long.
            inner.end_reason = StateReason::TimeOut;
            self.end_session(&mut inner);
        }
        drop(inner);
        self.wake();
        [next, stall_deadline].into_iter().flatten().min()
    }

    /// Has the connection looked at when `deadline` has come, at the latest. It has one entry among the
    /// core's deadlines, and a superseded one now and then.
    fn watch_deadline(&self, deadline: Millis) {
        let mut inner = self.inner.borrow_mut();
        if deadline < inner.look_at {
            inner.look_at = deadline;
            self.core.watch_deadline(deadline, self.id);
        }
    }

    fn watch_stall(&self, blocked: bool) {
        let mut inner = self.inner.borrow_mut();
        if blocked && inner.stalled_since.is_none() {
            let now = self.core.now();
            inner.stalled_since = Some(now);
            drop(inner);
            self.watch_deadline(now + self.core.shared.config.write_stall_ms_max);
        } else if !blocked {
            inner.stalled_since = None;
        }
    }

    fn after_change(self: &Rc<Self>) {
        let mut inner = self.inner.borrow_mut();
        if inner.draining && inner.protocol.in_flight() == 0 {
            let elsewhere = self.ip.map_or_else(Vec::new, |ip| routing::elsewhere(&*self.core.shared, ip, None));
            let code = ErrorCode::SERVER_DRAINING;
            inner.protocol.go_elsewhere(code, requests::DRAIN_RETRY_AFTER_MS, elsewhere);
        }
        drop(inner);
        // The task handles what may have waited for this. Handling it here would nest as deep as a client pipelines.
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &self.inner.borrow().waker {
            waker.wake_by_ref();
        }
    }
}

impl Inner {
    fn keep_waker(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    fn may_read(&self) -> bool {
        match self.phase {
            Phase::Open => !self.draining && !self.ended && self.protocol.wants_input(),
            Phase::Flushing(_) | Phase::Closed => false,
            Phase::Lingering(_) => true,
        }
    }

    fn waiting_bytes(&mut self) -> usize {
        self.unsent.len() - self.unsent_from + self.protocol.output().len()
    }

    /// The next thing the client did. Once it has said that it sends no more, and has its answers, the
    /// connection is over.
    fn next_event(&mut self, core: &Core) -> Option<ServerEvent> {
        if self.draining && self.protocol.in_flight() > 0 {
            return None; // what came before the drain is answered, what came after it is not begun
        }
        let event = self.protocol.poll();
        let settled = self.protocol.in_flight() == 0 && self.protocol.buffered_bytes() == 0;
        if event.is_none() && self.ended && settled {
            self.start_closing(core);
        }
        event
    }

    /// Takes in what was read.
    fn handle_bytes(&mut self, core: &Core, bytes: &mut [u8]) {
        if self.phase != Phase::Open {
            return; // lingering: read and thrown away
        }
        let now = core.now();
        let Inner { tls, protocol, .. } = self;
        let Some(tls) = tls else { return protocol.receive(now, bytes) };
        let result = tls.receive(bytes, &mut self.unsent, &mut |plaintext| protocol.receive(now, plaintext));
        match result {
            Ok(progress) => {
                if self.handshake == Progress::Handshaking && progress != Progress::Handshaking {
                    core.metrics.handshake_done(tls.resumed());
                }
                self.handshake = progress;
                if progress == Progress::PeerClosed {
                    self.ended = true;
                    self.protocol.receive_end();
                }
            }
            Err(error) => {
                core.metrics.tls_failed(tls_failure_kind(&error));
                self.start_closing(core);
            }
        }
    }

    /// The client sends no more. `false`: the connection is over.
    fn handle_end(&mut self, core: &Core) -> bool {
        if matches!(self.phase, Phase::Lingering(_)) {
            return false;
        }
        if self.handshake == Progress::Handshaking {
            core.metrics.tls_failed("end_of_stream");
            return false;
        }
        self.ended = true;
        self.protocol.receive_end();
        true
    }

    fn start_closing(&mut self, core: &Core) {
        if self.phase == Phase::Open {
            self.phase = Phase::Flushing(core.now() + core.shared.config.write_stall_ms_max);
        }
    }

    fn pong(&mut self) {
        let session = self.session.as_mut();
        let (cursor, behind) = session.map_or((None, false), |session| (session.untold_cursor(), session.is_behind()));
        self.protocol.pong(cursor.as_ref().map(|cursor| &cursor.0[..]), behind);
    }

    /// Writes what waits. Ready: all of it is out. An error means that the connection is over.
    fn poll_write(&mut self, core: &Core, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<Result<(), Gone>> {
        loop {
            while !self.unsent.is_empty() {
                let Poll::Ready(result) = Pin::new(&mut *stream).poll_write(cx, &self.unsent) else {
                    return Poll::Pending;
                };
                let written = result.map_err(|_| Gone)?;
                self.stalled_since = None;
                self.unsent.drain(..written);
            }
            core.keep_buffer(&mut self.unsent);
            if !self.protocol.output().is_empty() && self.handshake != Progress::Handshaking {
                self.encrypt_output(core)?;
            } else if matches!(self.phase, Phase::Flushing(_)) {
                self.say_goodbye(core)?;
            } else if matches!(self.phase, Phase::Lingering(_)) && !self.finished {
                // Everything is out, the goodbye too: end the sending direction.
                self.finished = true;
                let _ = Pin::new(&mut *stream).poll_close(cx);
            } else {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn encrypt_output(&mut self, core: &Core) -> Result<(), Gone> {
        core.lend_buffer(&mut self.unsent);
        let output = std::mem::take(self.protocol.output());
        match &mut self.tls {
            Some(tls) => tls.encrypt(&output, &mut self.unsent).map_err(|_| Gone),
            None => {
                self.unsent.extend_from_slice(&output);
                Ok(())
            }
        }
    }

    fn say_goodbye(&mut self, core: &Core) -> Result<(), Gone> {
        let until = core.now() + LINGER_MS;
        self.phase = Phase::Lingering(until);
        match (self.handshake, &mut self.tls) {
            (Progress::Handshaking, _) | (_, None) => Ok(()),
            (Progress::Open | Progress::PeerClosed, Some(tls)) => tls.close(&mut self.unsent).map_err(|_| Gone),
        }
    }
}

/// The connection is over: nothing more can be written to it.
struct Gone;
