//! One client of an edge: its socket and TLS on one side, its stream on the link on the other. Driven by one task, a poll
//! function, as connections of a core are: what is written on one side waits until the other one has taken it.

use std::{
    cell::RefCell,
    future::poll_fn,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::{Buf as _, BytesMut};
use futures::{AsyncRead as _, AsyncWrite as _};
use glommio::net::TcpStream;
use protocol::{ErrorCode, connection::Millis, frame::Boundary, link_message::SessionOpen};

use super::shard::Shard;
use crate::{
    edge_link::{NoRoom, pipe::Pipe},
    metrics::tls_failure_kind,
    shard::last_word,
    tls::{Progress, TlsSession},
};

/// Turns before others get theirs.
const TURNS_MAX: usize = 8;

/// How long a closing connection waits for the client to close its side.
const LINGER_MS: u64 = 1_000;

pub struct Client {
    shard: Rc<Shard>,
    ip: Option<IpAddr>,
    inner: RefCell<Inner>,
}

struct Inner {
    tls: TlsSession,
    handshake: Progress,
    /// Once the handshake is done.
    pipe: Option<Pipe>,
    /// What the client has said and the link has not taken.
    up: BytesMut,
    /// Where in the core's frames the client is.
    down: Boundary,
    /// Ciphertext that the socket has not taken.
    unsent: Vec<u8>,
    /// The client says no more.
    ended: bool,
    /// The sending direction has been ended.
    finished: bool,
    phase: Phase,
    /// Until when something has to happen.
    deadline: Option<Millis>,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Writing what is left, then ending the sending direction.
    Flushing,
    /// Waiting for the client's end.
    Lingering,
    Closed,
}

impl Client {
    pub fn new(shard: Rc<Shard>, ip: Option<IpAddr>) -> Option<Self> {
        let tls = TlsSession::new(shard.edge.tls.load_full()).ok()?;
        let inner = Inner {
            tls,
            handshake: Progress::Handshaking,
            pipe: None,
            up: BytesMut::new(),
            down: Boundary::default(),
            unsent: Vec::new(),
            ended: false,
            finished: false,
            phase: Phase::Open,
            // From here on the core counts.
            deadline: Some(shard.now() + shard.edge.limits.hello_deadline_ms),
            waker: None,
        };
        Some(Client { shard, ip, inner: RefCell::new(inner) })
    }

    /// Carries it until it is over.
    pub async fn run(&self, mut stream: TcpStream) {
        poll_fn(|cx| self.poll(cx, &mut stream)).await;
        // The stream on the link ends before the place is free.
        self.inner.borrow_mut().pipe = None;
    }

    /// Closes it if something has not happened in time.
    pub fn check_deadline(&self, now: Millis) {
        let mut inner = self.inner.borrow_mut();
        if inner.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        if inner.handshake == Progress::Handshaking {
            self.shard.metrics.tls_failed("deadline");
        } else if inner.phase == Phase::Open {
            self.shard.metrics.closed(ErrorCode::SLOW_READER);
        }
        inner.phase = Phase::Closed;
        inner.wake();
    }

    /// Tells the client to come again elsewhere, and closes.
    pub fn go_away(&self) {
        let mut inner = self.inner.borrow_mut();
        self.send_away(&mut inner, ErrorCode::SERVER_DRAINING, self.ip);
        inner.wake();
    }

    /// Where else it may go is said by its address, `to`; `None`: nowhere, it comes back here.
    fn send_away(&self, inner: &mut Inner, code: ErrorCode, to: Option<IpAddr>) {
        if inner.phase != Phase::Open {
            return;
        }
        // Within a frame of the core it would be taken for the rest of that.
        if inner.handshake != Progress::Handshaking && inner.down.is_between_frames() {
            let edge = &*self.shard.edge;
            let output = last_word(edge, edge.limits.clone(), code, to, None);
            if inner.tls.encrypt(&output, &mut inner.unsent).is_err() {
                inner.phase = Phase::Closed;
                return;
            }
        }
        inner.pipe = None;
        self.start_closing(inner);
    }

    fn start_closing(&self, inner: &mut Inner) {
        if inner.phase == Phase::Open {
            inner.phase = Phase::Flushing;
            inner.deadline = Some(self.shard.now() + self.shard.edge.config.write_stall_ms_max);
        }
    }

    fn poll(&self, cx: &mut Context<'_>, stream: &mut TcpStream) -> Poll<()> {
        let mut inner = self.inner.borrow_mut();
        inner.waker = Some(cx.waker().clone());
        for _ in 0..TURNS_MAX {
            if inner.phase == Phase::Closed {
                return Poll::Ready(());
            }
            match self.turn(&mut inner, cx, stream) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(Gone) => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Does what can be done at once; whether anything was.
    fn turn(&self, inner: &mut Inner, cx: &mut Context<'_>, stream: &mut TcpStream) -> Result<bool, Gone> {
        let has_written = self.write(inner, cx, stream)?;
        let has_taken_down = inner.unsent.is_empty() && self.take_down(inner, cx)?;
        let has_sent_up = inner.send_up(cx);
        let has_read = inner.up.is_empty() && self.read(inner, cx, stream)?;
        Ok(has_written || has_taken_down || has_sent_up || has_read)
    }

    /// Writes what waits for the client.
    fn write(&self, inner: &mut Inner, cx: &mut Context<'_>, stream: &mut TcpStream) -> Result<bool, Gone> {
        if inner.unsent.is_empty() {
            if inner.phase == Phase::Lingering && !inner.finished {
                inner.finished = true;
                let _ = Pin::new(&mut *stream).poll_close(cx);
            }
            if inner.phase == Phase::Flushing {
                if inner.handshake != Progress::Handshaking {
                    inner.tls.close(&mut inner.unsent).map_err(|_| Gone)?;
                }
                inner.phase = Phase::Lingering;
                inner.deadline = Some(self.shard.now() + LINGER_MS);
                return Ok(true);
            }
            return Ok(false);
        }
        match Pin::new(&mut *stream).poll_write(cx, &inner.unsent) {
            Poll::Ready(Ok(count)) => {
                inner.unsent.drain(..count);
                if inner.phase == Phase::Open && inner.handshake != Progress::Handshaking {
                    inner.deadline = None;
                }
                if inner.unsent.is_empty() {
                    inner.unsent = Vec::new();
                }
                Ok(true)
            }
            Poll::Ready(Err(_)) => Err(Gone),
            Poll::Pending => {
                // A client that takes nothing for long is given up.
                let until = self.shard.now() + self.shard.edge.config.write_stall_ms_max;
                inner.deadline.get_or_insert(until);
                Ok(false)
            }
        }
    }

    /// Takes what the core says.
    fn take_down(&self, inner: &mut Inner, cx: &mut Context<'_>) -> Result<bool, Gone> {
        let (Phase::Open, Some(pipe)) = (inner.phase, &inner.pipe) else { return Ok(false) };
        let mut buffer = self.shard.read_buffer.borrow_mut();
        match pipe.poll_read(cx, &mut buffer) {
            Poll::Pending => Ok(false),
            // The core has said goodbye.
            Poll::Ready(Ok(0)) => {
                self.start_closing(inner);
                Ok(true)
            }
            Poll::Ready(Ok(count)) => {
                let data = buffer.get(..count).unwrap_or_default();
                inner.down.pass(data);
                inner.tls.encrypt(data, &mut inner.unsent).map_err(|_| Gone)?;
                Ok(true)
            }
            // The link is lost. Another core is linked with before the client can be back: it need not go far.
            Poll::Ready(Err(_)) => {
                let to = self.ip.filter(|_| self.shard.edge.is_draining());
                self.send_away(inner, ErrorCode::SERVER_DRAINING, to);
                Ok(true)
            }
        }
    }

    /// Reads what the client says.
    fn read(&self, inner: &mut Inner, cx: &mut Context<'_>, stream: &mut TcpStream) -> Result<bool, Gone> {
        if inner.ended || inner.phase == Phase::Flushing {
            return Ok(false);
        }
        let mut buffer = self.shard.read_buffer.borrow_mut();
        let count = match Pin::new(stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Err(_)) => return Err(Gone),
            Poll::Ready(Ok(count)) => count,
        };
        if count == 0 {
            if inner.handshake == Progress::Handshaking {
                self.shard.metrics.tls_failed("end_of_stream");
                return Err(Gone);
            }
            return self.client_ended(inner);
        }
        if inner.phase == Phase::Lingering {
            return Ok(true); // thrown away
        }
        let Inner { tls, up, unsent, .. } = &mut *inner;
        let bytes = buffer.get_mut(..count).unwrap_or_default();
        match tls.receive(bytes, unsent, &mut |plaintext| up.extend_from_slice(plaintext)) {
            Ok(progress) => self.progressed(inner, progress),
            Err(error) => {
                self.shard.metrics.tls_failed(tls_failure_kind(&error));
                self.start_closing(inner);
                Ok(true)
            }
        }
    }

    fn progressed(&self, inner: &mut Inner, progress: Progress) -> Result<bool, Gone> {
        let is_done = inner.handshake == Progress::Handshaking && progress != Progress::Handshaking;
        inner.handshake = progress;
        if is_done {
            self.shard.metrics.handshake_done(inner.tls.resumed());
            inner.deadline = None;
            let ip = self.ip.map(|ip| match ip {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            });
            let access_point = self.shard.edge.config.geo.here.clone();
            let open = SessionOpen { session: 0, ip: ip.unwrap_or_default().into(), access_point };
            match self.shard.link().map(|link| link.open(open)) {
                Some(Ok(pipe)) => inner.pipe = Some(pipe),
                Some(Err(NoRoom)) => self.send_away(inner, ErrorCode::CONNECTION_LIMIT, self.ip),
                None => self.send_away(inner, ErrorCode::SERVER_DRAINING, self.ip),
            }
        }
        if progress == Progress::PeerClosed {
            return self.client_ended(inner);
        }
        Ok(true)
    }

    /// The client says no more; it may still be told something.
    fn client_ended(&self, inner: &mut Inner) -> Result<bool, Gone> {
        inner.ended = true;
        if inner.phase == Phase::Lingering {
            return Err(Gone);
        }
        Ok(true)
    }
}

impl Inner {
    /// Passes on what the client has said, and that it has ended.
    fn send_up(&mut self, cx: &mut Context<'_>) -> bool {
        let (Phase::Open, Some(pipe)) = (self.phase, &self.pipe) else {
            self.up.clear();
            return false;
        };
        if self.up.is_empty() {
            self.up = BytesMut::new();
            if self.ended {
                pipe.close();
            }
            return false;
        }
        match pipe.poll_write(cx, &self.up) {
            Poll::Ready(Ok(count)) => {
                self.up.advance(count);
                true
            }
            // That it is over is seen where it is read.
            Poll::Ready(Err(_)) => {
                self.up.clear();
                false
            }
            Poll::Pending => false,
        }
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// The connection is over.
struct Gone;
