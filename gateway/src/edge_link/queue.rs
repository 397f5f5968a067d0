//! What waits to be sent on a link. Sessions wait when it is much; what asks for an answer adds little, and who asks for
//! too much of it and takes nothing is given up ([`super::carry`]).

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use protocol::link::{self, What};

/// Above it sessions add nothing: what a link takes in a moment.
const BYTES_HIGH: usize = 1 << 20;

/// Encoded frames, in order.
#[derive(Default)]
pub struct Queue {
    waiting: RefCell<BytesMut>,
    waker: RefCell<Option<Waker>>,
    /// Of sessions that wait until there is less.
    crowded: RefCell<Vec<Waker>>,
    /// How often something was taken out.
    takes: Cell<u64>,
    is_finished: Cell<bool>,
}

impl Queue {
    /// Adds a frame.
    pub fn put(&self, frame: &What) {
        link::encode(frame, &mut self.waiting.borrow_mut());
        self.wake();
    }

    /// Nothing more comes behind what waits.
    pub fn finish(&self) {
        self.is_finished.set(true);
        self.wake();
    }

    /// All that waits, once there is anything; `None`: nothing ever will.
    pub async fn take(&self) -> Option<Bytes> {
        poll_fn(|cx| {
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.is_empty() {
                self.takes.set(self.takes.get() + 1);
                self.crowded.borrow_mut().drain(..).for_each(Waker::wake);
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

    /// Whether a session has to wait; it is woken when it need not any more.
    pub fn is_crowded(&self, waker: &Waker) -> bool {
        let is_crowded = self.bytes() >= BYTES_HIGH;
        if is_crowded {
            self.crowded.borrow_mut().push(waker.clone());
        }
        is_crowded
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// How often something was taken out.
    pub fn takes(&self) -> u64 {
        self.takes.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}
