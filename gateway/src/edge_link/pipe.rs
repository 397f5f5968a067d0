//! One end of a client's byte stream on a link.

use std::{
    cell::RefCell,
    io,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
};

use bytes::{Buf as _, BytesMut};
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
    /// Copied out of the link's buffers, so that a client that is slow holds no more than its window.
    received: BytesMut,
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
    /// Who waits to send, for credit or for room on the link.
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
        if inner.received.is_empty() {
            // What ended in good order has, whatever became of the link later.
            return match (inner.peer_ended, inner.is_over) {
                (true, _) => Poll::Ready(Ok(0)),
                (false, true) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                (false, false) => {
                    inner.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        }
        let count = inner.received.len().min(buffer.len());
        inner.received.copy_to_slice(buffer.get_mut(..count).unwrap_or_default());
        if inner.received.is_empty() {
            inner.received = BytesMut::new();
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
        let is_crowded = inner.link.queue.is_crowded(inner.session, cx.waker());
        let count = if is_crowded { 0 } else { data.len().min(inner.credit).min(PIECE_BYTES_MAX) };
        if count == 0 {
            // Whoever waits for room, too, is woken when the stream is over: no room may ever come.
            inner.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        inner.credit -= count;
        inner.link.send_bytes(inner.session, data.get(..count).unwrap_or_default());
        Poll::Ready(Ok(count))
    }

    /// Sends something short, without waiting for room, and no more: that a session is not taken is little to say, as answers
    /// of the link itself are. A window that is too small for it gets nothing.
    pub fn last_word(&self, data: &[u8]) {
        let mut inner = self.0.borrow_mut();
        if inner.credit < data.len() || inner.is_over || inner.ended {
            return;
        }
        inner.credit -= data.len();
        inner.link.send_bytes(inner.session, data);
        drop(inner);
        self.close();
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
    pub(super) fn receive(&self, data: &[u8]) -> Result<(), Overrun> {
        let mut inner = self.0.borrow_mut();
        if inner.received.len() + inner.taken + data.len() > inner.link.window {
            return Err(Overrun);
        }
        inner.received.extend_from_slice(data);
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
        if aborted {
            return self.lose();
        }
        let mut inner = self.0.borrow_mut();
        inner.peer_ended = true;
        wake(&mut inner.reader);
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
            received: BytesMut::new(),
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
