//! A thread that keeps many transactions under way at once, for remote engines.
//!
//! A small executor of its own, because two things must wake the thread beside the futures: a job
//! queued at the lane, and the end of a back-off. What may not live here: what a job is.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::FuturesUnordered};

use super::lane::LaneQueue;

thread_local! {
    /// The back-offs that this thread's jobs are in. Few: a scan finds the next to end.
    static DELAYS: RefCell<Vec<(Instant, Waker)>> = const { RefCell::new(Vec::new()) };
}

/// Runs the lane's jobs, up to `running_max` at once, until it is closed and all have ended.
pub(super) fn run(queue: &LaneQueue, running_max: usize) {
    let mut running = FuturesUnordered::new();
    block_on(poll_fn(|cx| {
        loop {
            let mut closed = false;
            while !closed && running.len() < running_max {
                match queue.poll_pop(cx) {
                    Poll::Ready(Some(job)) => running.push(job.start()),
                    Poll::Ready(None) => closed = true,
                    Poll::Pending => break,
                }
            }
            match running.poll_next_unpin(cx) {
                Poll::Ready(Some(())) => {} // one has ended: there is room
                Poll::Ready(None) if closed => return Poll::Ready(()),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }));
}

/// A pause that holds up nobody else. Only within [`run`].
pub(super) fn delay(pause: Duration) -> impl Future<Output = ()> {
    let end = Instant::now() + pause;
    poll_fn(move |cx| {
        if Instant::now() >= end {
            return Poll::Ready(());
        }
        DELAYS.with_borrow_mut(|delays| delays.push((end, cx.waker().clone())));
        Poll::Pending
    })
}

/// Wakes a thread; remembers it, so that a wake between a poll and the sleep is not lost.
struct ThreadWaker {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

fn block_on(future: impl Future<Output = ()>) {
    let sleeper = Arc::new(ThreadWaker { thread: std::thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(sleeper.clone());
    let mut future = pin!(future);
    while future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        while !sleeper.woken.swap(false, Ordering::AcqRel) {
            match next_delay_end() {
                None => std::thread::park(),
                Some(end) => std::thread::park_timeout(end.saturating_duration_since(Instant::now())),
            }
            end_delays();
        }
    }
}

fn next_delay_end() -> Option<Instant> {
    DELAYS.with_borrow(|delays| delays.iter().map(|(end, _)| *end).min())
}

fn end_delays() {
    let now = Instant::now();
    let ended: Vec<_> = DELAYS.with_borrow_mut(|delays| delays.extract_if(.., |(end, _)| *end <= now).collect());
    ended.into_iter().for_each(|(_, waker)| waker.wake());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_end_each_by_itself_and_together() {
        const LONG: Duration = Duration::from_secs(3600);
        block_on(async {
            futures::future::join_all([3, 0, 1].map(|pause_ms| delay(Duration::from_millis(pause_ms)))).await;
            let (long, short) = (pin!(delay(LONG)), pin!(delay(Duration::from_millis(1))));
            let first = futures::future::select(long, short).await;
            assert!(matches!(first, futures::future::Either::Right(_)), "one that is longer holds up nobody");
        });
    }

    #[test]
    fn a_wake_from_another_thread_is_not_lost() {
        for _ in 0..1000 {
            let (sender, receiver) = futures::channel::oneshot::channel();
            let other = std::thread::spawn(move || sender.send(()));
            block_on(async {
                receiver.await.expect("sent");
            });
            other.join().expect("ends").expect("received");
        }
    }
}
