//! What a cluster asks of what its node commits with.

use backend::domain::send_queue::SendQueue;

use crate::router::Router;

/// What this node commits with: its send queue.
pub trait Commits: Send + Sync {
    /// Calls `done` once nothing is under way any more that was begun before, and none of it is in doubt.
    fn barrier(&self, done: Box<dyn FnOnce() + Send>);
    /// Tries to settle what is in doubt, if a barrier waits for that.
    fn settle_doubts(&self);
}

impl Commits for SendQueue<Router> {
    fn barrier(&self, done: Box<dyn FnOnce() + Send>) {
        SendQueue::barrier(self, done);
    }

    fn settle_doubts(&self) {
        SendQueue::settle_doubts(self);
    }
}
