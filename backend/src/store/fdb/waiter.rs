//! The thread that waits for commits and calls whoever issued them.
//!
//! The client library's own thread could do that, but it does all of the process's network work: a
//! completion that takes long would hold up every transaction.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::Mutex,
    thread::{self, JoinHandle},
};

use futures::{
    FutureExt as _, StreamExt as _,
    channel::mpsc::{self, UnboundedSender},
    executor::block_on,
    future::BoxFuture,
};

use super::super::lock;

pub(super) struct Waiter {
    sender: UnboundedSender<BoxFuture<'static, ()>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Waiter {
    pub(super) fn start() -> std::io::Result<Self> {
        // Bounded by who can have commits under way: the lanes.
        let (sender, receiver) = mpsc::unbounded::<BoxFuture<'static, ()>>();
        let wait = || block_on(receiver.for_each_concurrent(None, |work| work));
        let thread = thread::Builder::new().name("fdb-commits".into()).spawn(wait)?;
        Ok(Waiter { sender, thread: Mutex::new(Some(thread)) })
    }

    /// Polls `work` to its end.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let caught = AssertUnwindSafe(work).catch_unwind().map(|ended| {
            if ended.is_err() {
                tracing::error!("a commit's completion panicked");
            }
        });
        if let Err(refused) = self.sender.unbounded_send(caught.boxed()) {
            // Stopped in between: whoever came too late waits for himself.
            block_on(refused.into_inner());
        }
    }

    /// Waits for all that is under way; nothing new is taken.
    pub(super) fn stop(&self) {
        self.sender.close_channel();
        let Some(thread) = lock(&self.thread).take() else { return };
        // A completion that drops the last store stops it from here: a thread can't wait for itself.
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            tracing::error!("the thread that waits for commits died");
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.stop();
    }
}
