//! What waits to be sent on a link. Bounded by the windows of its sessions, and by what asks for an answer.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use protocol::link::{self, What};

/// Encoded frames, in order.
#[derive(Default)]
pub struct Queue {
    waiting: RefCell<BytesMut>,
    waker: RefCell<Option<Waker>>,
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

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}
