//! A link between an edge and a core, on one shard of each: byte streams of clients, many on one connection.
//!
//! - [`pipe`]: one end of one client's stream. [`queue`]: what waits to be sent on the link.
//! - [`carry`]: the link while it lives. [`greet`]: TLS and hellos.
//!
//! A stream has a window in each direction: its sender may have so many bytes under way, and is given more as they are
//! taken. So a client or a core that is slow stalls that client alone, and what waits for a link is bounded by its
//! windows.
//!
//! What may not live here: what the bytes mean, and whom they are for.

pub mod carry;
pub mod greet;
pub mod pipe;
mod queue;

use std::{cell::RefCell, rc::Rc};

use ahash::AHashMap;
use protocol::{
    link::What,
    link_message::{SessionClose, SessionOpen},
};

use self::{
    pipe::{Pipe, PipeInner, WeakPipe},
    queue::Queue,
};

/// Most bytes under way in one session, whatever window the other side says: the largest that can be configured.
const PEER_WINDOW_BYTES_MAX: u32 = 1 << 24;

/// A link, as its sessions share it.
pub struct Link {
    queue: Queue,
    sessions: RefCell<AHashMap<u64, WeakPipe>>,
    /// Bytes that may be under way in one session, to here and to there.
    window: usize,
    peer_window: usize,
    sessions_max: usize,
    state: std::cell::Cell<State>,
    last_session: std::cell::Cell<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The other side takes no new sessions.
    Leaving,
    Over,
}

/// There can't be one more session.
#[derive(Debug, PartialEq, Eq)]
pub struct NoRoom;

impl Link {
    /// A link whose other side takes so many bytes at a time of each session.
    pub fn new(window: u32, peer_window: u32, sessions_max: usize) -> Rc<Self> {
        Rc::new(Link {
            queue: Queue::default(),
            sessions: RefCell::default(),
            window: window as usize,
            peer_window: peer_window.min(PEER_WINDOW_BYTES_MAX) as usize,
            sessions_max,
            state: State::Open.into(),
            last_session: 0.into(),
        })
    }

    /// Opens a session to the other side.
    pub fn open(self: &Rc<Self>, open: SessionOpen) -> Result<Pipe, NoRoom> {
        if self.state.get() != State::Open || self.sessions.borrow().len() >= self.sessions_max {
            return Err(NoRoom);
        }
        let session = self.last_session.get() + 1;
        self.last_session.set(session);
        self.queue.put(&What::Open(SessionOpen { session, ..open }));
        Ok(self.add(session))
    }

    /// Takes a session that the other side has opened.
    fn opened(self: &Rc<Self>, session: u64) -> Option<Pipe> {
        let is_known = self.sessions.borrow().contains_key(&session);
        let is_full = self.sessions.borrow().len() >= self.sessions_max;
        if is_known || is_full || self.state.get() != State::Open {
            self.queue.put(&What::Close(SessionClose { session, aborted: true }));
            return None;
        }
        Some(self.add(session))
    }

    fn add(self: &Rc<Self>, session: u64) -> Pipe {
        let pipe = Pipe::new(PipeInner::new(self.clone(), session));
        self.sessions.borrow_mut().insert(session, pipe.downgrade());
        pipe
    }

    fn session(&self, session: u64) -> Option<Pipe> {
        self.sessions.borrow().get(&session).and_then(WeakPipe::upgrade)
    }

    /// Says something that is of no session.
    pub fn say(&self, frame: &What) {
        if self.state.get() != State::Over {
            self.queue.put(frame);
        }
    }

    /// Takes no new sessions.
    pub fn leave(&self) {
        if self.state.get() == State::Open {
            self.state.set(State::Leaving);
        }
    }

    /// Whether sessions can be opened.
    pub fn is_open(&self) -> bool {
        self.state.get() == State::Open
    }

    /// The link is over, and all of its sessions with it.
    fn end(&self) {
        self.state.set(State::Over);
        let sessions = std::mem::take(&mut *self.sessions.borrow_mut());
        sessions.values().filter_map(WeakPipe::upgrade).for_each(|pipe| pipe.lose());
    }

    fn send_bytes(&self, session: u64, data: &[u8]) {
        self.queue.put_bytes(session, data);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Poll, Wake, Waker},
    };

    use futures::executor::block_on;

    use super::*;

    /// A task that counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A session that has sent until the link had no room, and waits for it; `then` happens. Whether it was woken, and what
    /// becomes of what it sends now.
    fn waiting(then: impl FnOnce(&Link, &Pipe)) -> (bool, Poll<bool>) {
        let link = Link::new(1 << 24, 1 << 24, 10);
        let pipe = link.open(SessionOpen::default()).unwrap();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        while pipe.poll_write(&mut cx, &[7; 16 * 1024]).is_ready() {}
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        then(&link, &pipe);
        let is_woken = woken.0.load(Ordering::Relaxed) > 0;
        (is_woken, pipe.poll_write(&mut cx, b"more").map(|sent| sent.is_ok()))
    }

    #[test]
    fn geo_01_who_waits_for_room_on_a_link_hears_of_it_and_of_the_end() {
        assert_eq!(waiting(|_, _| {}), (false, Poll::Pending));
        assert_eq!(waiting(|link, _| drop(block_on(link.queue.take()))), (true, Poll::Ready(true)));
        assert_eq!(waiting(|link, _| link.end()), (true, Poll::Ready(false)));
        assert_eq!(waiting(|_, pipe| pipe.peer_closed(true)), (true, Poll::Ready(false)));
    }
}
