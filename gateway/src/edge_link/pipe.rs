//! One end of a client's byte stream on a link.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
};

use bytes::{Buf as _, Bytes};
use protocol::{
    link::What,
    link_message::{SessionClose, SessionCredit},
};

use super::Link;

/// Most bytes of one frame: others get their turn in between.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// The end that belongs to this side. Dropped, the stream is over.
pub struct Pipe(Rc<RefCell<PipeInner>>);

/// The link's hold on it.
pub struct WeakPipe(Weak<RefCell<PipeInner>>);

pub struct PipeInner {
    link: Rc<Link>,
    session: u64,
    received: VecDeque<Bytes>,
    received_bytes: usize,
    /// Taken out, and not yet given as new credit.
    taken: usize,
    /// Bytes that may be sent.
    credit: usize,
    /// The other side sends no more.
    peer_ended: bool,
    /// This side sends no more.
    ended: bool,
    /// The link is lost, or the other side has given the stream up.
    is_over: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The other side has sent more than it may.
#[derive(Debug, PartialEq, Eq)]
pub struct Overrun;

impl Pipe {
    pub(super) fn new(inner: PipeInner) -> Self {
        Pipe(Rc::new(RefCell::new(inner)))
    }

    pub(super) fn downgrade(&self) -> WeakPipe {
        WeakPipe(Rc::downgrade(&self.0))
    }

    /// Takes what was received. Nothing: the other side sends no more. An error: the stream is over.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        let Some(first) = inner.received.front_mut() else {
            return match (inner.is_over, inner.peer_ended) {
                (true, _) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                (false, true) => Poll::Ready(Ok(0)),
                (false, false) => {
                    inner.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        };
        let count = first.len().min(buffer.len());
        first.copy_to_slice(buffer.get_mut(..count).unwrap_or_default());
        if first.is_empty() {
            inner.received.pop_front();
        }
        inner.took(count);
        Poll::Ready(Ok(count))
    }

    /// Sends as much as there is credit for.
    pub fn poll_write(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        if inner.is_over || inner.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = data.len().min(inner.credit).min(PIECE_BYTES_MAX);
        if count == 0 {
            inner.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        inner.credit -= count;
        inner.link.send_bytes(inner.session, data.get(..count).unwrap_or_default());
        Poll::Ready(Ok(count))
    }

    /// Sends no more.
    pub fn close(&self) {
        let mut inner = self.0.borrow_mut();
        if !inner.ended && !inner.is_over {
            inner.ended = true;
            inner.link.queue.put(&What::Close(SessionClose { session: inner.session, aborted: false }));
        }
    }

    /// Bytes have arrived.
    pub(super) fn receive(&self, data: Bytes) -> Result<(), Overrun> {
        let mut inner = self.0.borrow_mut();
        if inner.received_bytes + inner.taken + data.len() > inner.link.window {
            return Err(Overrun);
        }
        inner.received_bytes += data.len();
        if !data.is_empty() {
            inner.received.push_back(data);
        }
        wake(&mut inner.reader);
        Ok(())
    }

    /// The other side takes so many bytes more.
    pub(super) fn give_credit(&self, bytes: usize) {
        let mut inner = self.0.borrow_mut();
        inner.credit = (inner.credit + bytes).min(inner.link.peer_window);
        wake(&mut inner.writer);
    }

    /// The other side sends no more; `aborted`: nor does it take anything.
    pub(super) fn peer_closed(&self, aborted: bool) {
        self.0.borrow_mut().peer_ended = true;
        if aborted {
            return self.lose();
        }
        wake(&mut self.0.borrow_mut().reader);
    }

    /// It is over.
    pub(super) fn lose(&self) {
        let mut inner = self.0.borrow_mut();
        inner.is_over = true;
        wake(&mut inner.reader);
        wake(&mut inner.writer);
    }
}

impl WeakPipe {
    pub(super) fn upgrade(&self) -> Option<Pipe> {
        self.0.upgrade().map(Pipe)
    }
}

impl PipeInner {
    pub(super) fn new(link: Rc<Link>, session: u64) -> Self {
        PipeInner {
            credit: link.peer_window,
            link,
            session,
            received: VecDeque::new(),
            received_bytes: 0,
            taken: 0,
            peer_ended: false,
            ended: false,
            is_over: false,
            reader: None,
            writer: None,
        }
    }

    /// Gives credit for what was taken, half a window at a time.
    fn took(&mut self, count: usize) {
        self.received_bytes -= count;
        self.taken += count;
        if self.taken * 2 >= self.link.window && !self.is_over {
            let bytes = std::mem::take(&mut self.taken) as u32;
            self.link.queue.put(&What::Credit(SessionCredit { session: self.session, bytes }));
        }
    }
}

impl Drop for PipeInner {
    fn drop(&mut self) {
        let was_there = self.link.sessions.borrow_mut().remove(&self.session).is_some();
        let is_known_there = !(self.ended && self.peer_ended);
        if was_there && is_known_there && !self.is_over {
            self.link.queue.put(&What::Close(SessionClose { session: self.session, aborted: true }));
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
