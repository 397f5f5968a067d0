//! Mail between threads: the only way into a core from outside it.
//!
//! The store's threads and the other cores put mail in; the core takes it out. Live events are hints
//! and bounded: over the limit they are dropped and the core is told that some were, so that it sends
//! the sessions concerned back to their log. Answers and registrations are not dropped; there are never
//! more of them than requests in flight, which are bounded at admission.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    task::{Context, Poll},
};

use backend::{
    domain::{AppId, Error, UserId, send::Sent},
    store::Versionstamp,
};
use crossbeam::queue::SegQueue;
use futures::{channel::oneshot, task::AtomicWaker};
use protocol::EncodedEvent;

/// A connection's number, unique on its core.
pub type ConnectionId = u64;

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Core that holds the connection.
    pub core: u16,
    /// The connection.
    pub connection: ConnectionId,
}

/// What a core is told.
pub enum Mail {
    /// Finished sends of this core's connections.
    Sent(Vec<SendAnswer>),
    /// New entries in event logs of users whose home is this core.
    Publish(Vec<Published>),
    /// Events for connections of this core.
    Deliver(Vec<Delivery>),
    /// A session of a user whose home is this core; answered once it is in the table.
    Register { app: AppId, user: UserId, address: Address, registered: oneshot::Sender<()> },
    /// The session is gone.
    Unregister { app: AppId, user: UserId, address: Address },
    /// The core `home` lost events of its users: their sessions here must sync.
    Lost { home: u16 },
    /// Stop accepting, tell clients to go, finish what is in flight.
    Drain,
}

/// A finished send.
pub struct SendAnswer {
    pub connection: ConnectionId,
    pub request: u32,
    pub outcome: Result<Sent, Error>,
}

/// A new entry in a user's event log.
#[derive(Clone)]
pub struct Published {
    pub app: AppId,
    pub user: UserId,
    pub position: Versionstamp,
    pub event: EncodedEvent,
    /// The session that caused it, which learns of it by the answer to its request.
    pub origin: Address,
}

/// An event for one connection.
pub struct Delivery {
    pub connection: ConnectionId,
    pub position: Versionstamp,
    /// `None`: the connection knows it already; only its cursor moves.
    pub event: Option<EncodedEvent>,
}

/// One core's mail.
pub struct Mailbox {
    queue: SegQueue<Mail>,
    events_waiting: AtomicUsize,
    events_max: usize,
    events_lost: AtomicBool,
    waker: AtomicWaker,
}

impl Mailbox {
    /// A mailbox for at most `events_max` live events.
    pub fn new(events_max: usize) -> Self {
        Mailbox {
            queue: SegQueue::new(),
            events_waiting: AtomicUsize::new(0),
            events_max,
            events_lost: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    /// Puts mail in. Events over the limit are dropped.
    pub fn put(&self, mail: Mail) {
        let events = mail.events();
        if events > 0 && self.events_waiting.fetch_add(events, Ordering::Relaxed) + events > self.events_max {
            self.events_waiting.fetch_sub(events, Ordering::Relaxed);
            self.events_lost.store(true, Ordering::Release);
            metrics::counter!("gateway_events_dropped_total", "reason" => "mailbox_full").increment(events as u64);
        } else {
            self.queue.push(mail);
        }
        self.waker.wake();
    }

    /// Takes the next mail out. Only the owning core calls this.
    pub fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Mail> {
        if let Some(mail) = self.take() {
            return Poll::Ready(mail);
        }
        self.waker.register(cx.waker());
        // Mail may have come between looking and registering.
        match self.take() {
            Some(mail) => Poll::Ready(mail),
            None if self.events_lost.load(Ordering::Acquire) => Poll::Ready(Mail::Deliver(Vec::new())),
            None => Poll::Pending,
        }
    }

    /// Whether events were dropped since the last call.
    pub fn take_events_lost(&self) -> bool {
        self.events_lost.load(Ordering::Relaxed) && self.events_lost.swap(false, Ordering::AcqRel)
    }

    /// Live events waiting.
    pub fn events_waiting(&self) -> usize {
        self.events_waiting.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<Mail> {
        let mail = self.queue.pop()?;
        self.events_waiting.fetch_sub(mail.events(), Ordering::Relaxed);
        Some(mail)
    }
}

impl Mail {
    fn events(&self) -> usize {
        match self {
            Mail::Publish(events) => events.len(),
            Mail::Deliver(events) => events.len(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::task::noop_waker;

    fn deliveries(count: u64) -> Mail {
        let delivery = |connection| Delivery { connection, position: Versionstamp::ZERO, event: None };
        Mail::Deliver((0..count).map(delivery).collect())
    }

    #[test]
    fn events_over_the_limit_are_dropped_and_told_while_answers_pass() {
        let mailbox = Mailbox::new(10);
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        assert!(mailbox.poll_take(&mut cx).is_pending());
        mailbox.put(deliveries(8));
        mailbox.put(deliveries(3));
        mailbox.put(Mail::Sent(Vec::new()));
        assert!(mailbox.take_events_lost());
        assert!(!mailbox.take_events_lost());
        assert!(matches!(mailbox.poll_take(&mut cx), Poll::Ready(Mail::Deliver(events)) if events.len() == 8));
        assert!(matches!(mailbox.poll_take(&mut cx), Poll::Ready(Mail::Sent(_))));
        assert_eq!(mailbox.events_waiting(), 0);
        mailbox.put(deliveries(10));
        assert!(matches!(mailbox.poll_take(&mut cx), Poll::Ready(Mail::Deliver(events)) if events.len() == 10));
    }

    #[test]
    fn a_loss_alone_wakes_the_core() {
        let mailbox = Mailbox::new(1);
        let waker = noop_waker();
        mailbox.put(deliveries(2));
        assert!(mailbox.poll_take(&mut Context::from_waker(&waker)).is_ready());
        assert!(mailbox.take_events_lost());
    }
}
