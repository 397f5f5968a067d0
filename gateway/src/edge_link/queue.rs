//! What waits to be sent on a link. Sessions wait when it is much; what asks for an answer adds little, and who asks for
//! too much of it and takes nothing is given up ([`super::carry`]).

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Poll, Waker},
};

use ahash::{AHashMap, AHashSet};
use bytes::{Bytes, BytesMut};
use protocol::{
    link::{self, What},
    link_message::{SessionBytes, SessionsBytes},
};

/// Above it sessions add nothing: what a link takes in a moment.
const BYTES_HIGH: usize = 1 << 20;

/// Sessions that one frame names, at the most.
const SESSIONS_MAX: usize = 4_096;

/// Encoded frames, in order.
#[derive(Default)]
pub struct Queue {
    waiting: RefCell<BytesMut>,
    /// Bytes of sessions that stand behind them, and may be those of the next session, too: what many are pushed goes
    /// over the link once.
    same: RefCell<Same>,
    waker: RefCell<Option<Waker>>,
    /// Sessions that wait until there is less.
    crowded: RefCell<AHashMap<u64, Waker>>,
    /// Bytes of what was taken out that have gone.
    gone: Cell<u64>,
    is_finished: Cell<bool>,
}

#[derive(Default)]
struct Same {
    sessions: Vec<u64>,
    known: AHashSet<u64>,
    data: Bytes,
}

impl Queue {
    /// Adds a frame.
    pub fn put(&self, frame: &What) {
        self.end_same();
        link::encode(frame, &mut self.waiting.borrow_mut());
        self.wake();
    }

    /// Adds bytes of a session.
    pub fn put_bytes(&self, session: u64, data: &[u8]) {
        let is_same = {
            let same = self.same.borrow();
            same.data == data && same.sessions.len() < SESSIONS_MAX && !same.known.contains(&session)
        };
        if !is_same {
            self.end_same();
            self.same.borrow_mut().data = Bytes::copy_from_slice(data);
        }
        let mut same = self.same.borrow_mut();
        same.sessions.push(session);
        same.known.insert(session);
        drop(same);
        self.wake();
    }

    /// Encodes what has gathered for sessions.
    fn end_same(&self) {
        let Same { sessions, data, .. } = std::mem::take(&mut *self.same.borrow_mut());
        let frame = match sessions[..] {
            [] => return,
            [session] => What::Bytes(SessionBytes { session, data }),
            _ => What::ManyBytes(SessionsBytes { sessions, data }),
        };
        link::encode(&frame, &mut self.waiting.borrow_mut());
    }

    /// Nothing more comes behind what waits.
    pub fn finish(&self) {
        self.is_finished.set(true);
        self.wake();
    }

    /// All that waits, once there is anything; `None`: nothing ever will.
    pub async fn take(&self) -> Option<Bytes> {
        poll_fn(|cx| {
            self.end_same();
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.is_empty() {
                self.crowded.take().into_values().for_each(Waker::wake);
                return Poll::Ready(Some(waiting.split().freeze()));
            }
            if self.is_finished.get() {
                return Poll::Ready(None);
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Whether a session has to wait; it is woken when it need not any more. That it is over it hears from its pipe.
    pub fn is_crowded(&self, session: u64, waker: &Waker) -> bool {
        let is_crowded = self.bytes() >= BYTES_HIGH;
        if is_crowded {
            self.crowded.borrow_mut().insert(session, waker.clone());
        }
        is_crowded
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.waiting.borrow().len() + self.same.borrow().data.len()
    }

    /// So many bytes of what was taken out have gone.
    pub fn went(&self, bytes: usize) {
        self.gone.set(self.gone.get() + bytes as u64);
    }

    /// Bytes that have gone, ever.
    pub fn gone(&self) -> u64 {
        self.gone.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use protocol::link::{EDGE_FRAME_BYTES_MAX, LinkDecoder};

    use super::*;

    /// What has been put in, in words.
    fn taken(queue: &Queue) -> Vec<String> {
        let mut decoder = LinkDecoder::default();
        queue.finish();
        while let Some(bytes) = block_on(queue.take()) {
            decoder.feed(&bytes);
        }
        let mut said = Vec::new();
        while let Some(frame) = decoder.next_frame(EDGE_FRAME_BYTES_MAX).unwrap() {
            said.push(match frame {
                What::Bytes(bytes) => format!("{} {:?}", bytes.session, bytes.data),
                What::ManyBytes(bytes) => format!("{:?} {:?}", bytes.sessions, bytes.data),
                _ => "other".to_owned(),
            });
        }
        said
    }

    #[test]
    fn geo_01_what_many_are_told_goes_over_the_link_once() {
        let queue = Queue::default();
        for session in [1, 2, 3] {
            queue.put_bytes(session, b"push");
        }
        queue.put_bytes(4, b"another");
        queue.put_bytes(1, b"another");
        // The same for one session twice is two things.
        queue.put_bytes(5, b"twice");
        queue.put_bytes(5, b"twice");
        queue.put(&What::Ping(Default::default()));
        queue.put_bytes(5, b"twice");
        let expected = [
            r#"[1, 2, 3] b"push""#,
            r#"[4, 1] b"another""#,
            r#"5 b"twice""#,
            r#"5 b"twice""#,
            "other",
            r#"5 b"twice""#,
        ];
        assert_eq!(taken(&queue), expected);
    }

    #[test]
    fn geo_01_a_frame_names_no_more_sessions_than_it_may() {
        let queue = Queue::default();
        (0..10_000).for_each(|session| queue.put_bytes(session, b"push"));
        assert_eq!(taken(&queue).len(), 3);
    }
}
