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
    /// A session of a user whose home is this core.
    Register(Registration),
    /// The session is gone.
    Unregister { app: AppId, user: UserId, address: Address },
    /// The core `home` lost events of its users: their sessions here must sync.
    Lost { home: u16 },
    /// Stop accepting, tell clients to go, finish what is in flight.
    Drain,
}

/// A session that wants to be in the online table.
pub struct Registration {
    pub app: AppId,
    pub user: UserId,
    pub address: Address,
    /// Told once it is in the table, or `false`: the user has as many sessions as may be.
    pub registered: oneshot::Sender<bool>,
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

/// Events in one piece of mail: small enough that a mailbox that has been emptied takes any piece.
const EVENTS_PER_MAIL_MAX: usize = 1024;

/// One core's mail.
pub struct Mailbox {
    queue: SegQueue<Mail>,
    events_waiting: AtomicUsize,
    events_max: usize,
    /// By home core: events of its users were lost on their way here.
    lost: Box<[AtomicBool]>,
    any_lost: AtomicBool,
    waker: AtomicWaker,
}

impl Mailbox {
    /// A mailbox in a process of `cores`, for at most `events_max` live events.
    pub fn new(cores: usize, events_max: usize) -> Self {
        Mailbox {
            queue: SegQueue::new(),
            events_waiting: AtomicUsize::new(0),
            events_max: events_max.max(EVENTS_PER_MAIL_MAX),
            lost: (0..cores).map(|_| AtomicBool::new(false)).collect(),
            any_lost: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    /// Puts mail in that is never dropped.
    pub fn put(&self, mail: Mail) {
        self.queue.push(mail);
        self.waker.wake();
    }

    /// Puts events in, in pieces. What is over the limit is dropped, and the core told that events of the
    /// users of `home` were.
    pub fn put_events<E>(&self, mut events: Vec<E>, home: u16, wrap: fn(Vec<E>) -> Mail) {
        while !events.is_empty() {
            let rest = events.split_off(events.len().min(EVENTS_PER_MAIL_MAX));
            let count = events.len();
            if self.events_waiting.fetch_add(count, Ordering::Relaxed) + count > self.events_max {
                self.events_waiting.fetch_sub(count, Ordering::Relaxed);
                metrics::counter!("gateway_events_dropped_total", "reason" => "mailbox_full").increment(count as u64);
                self.mark_lost(home);
            } else {
                self.queue.push(wrap(events));
            }
            events = rest;
        }
        self.waker.wake();
    }

    /// Has the core told that events of the users of `home` were lost. Told once, however often it is marked.
    pub fn mark_lost(&self, home: u16) {
        if let Some(lost) = self.lost.get(usize::from(home)) {
            lost.store(true, Ordering::Release);
            self.any_lost.store(true, Ordering::Release);
            self.waker.wake();
        }
    }

    /// Takes the next mail out; losses first, before anything that came after them. Only the owning core
    /// calls this.
    pub fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Mail> {
        if let Some(mail) = self.take() {
            return Poll::Ready(mail);
        }
        self.waker.register(cx.waker());
        // Mail may have come between looking and registering.
        self.take().map_or(Poll::Pending, Poll::Ready)
    }

    /// Live events waiting.
    pub fn events_waiting(&self) -> usize {
        self.events_waiting.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<Mail> {
        if let Some(home) = self.take_lost() {
            return Some(Mail::Lost { home });
        }
        let mail = self.queue.pop()?;
        self.events_waiting.fetch_sub(mail.events(), Ordering::Relaxed);
        Some(mail)
    }

    fn take_lost(&self) -> Option<u16> {
        if !self.any_lost.load(Ordering::Acquire) {
            return None;
        }
        let home = self.lost.iter().position(|lost| lost.swap(false, Ordering::AcqRel));
        if home.is_none() {
            self.any_lost.store(false, Ordering::Release);
            // One that was marked since the look is found again.
            if self.lost.iter().any(|lost| lost.load(Ordering::Acquire)) {
                self.any_lost.store(true, Ordering::Release);
                return self.take_lost();
            }
        }
        home.map(|home| home as u16)
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

    fn deliveries(count: usize) -> Vec<Delivery> {
        (0..count).map(|_| Delivery { connection: 1, position: Versionstamp::ZERO, event: None }).collect()
    }

    /// What is taken out, in order, as text.
    fn taken(mailbox: &Mailbox) -> Vec<String> {
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let mut all = Vec::new();
        while let Poll::Ready(mail) = mailbox.poll_take(&mut cx) {
            all.push(match mail {
                Mail::Deliver(events) => format!("{} events", events.len()),
                Mail::Sent(_) => "answers".to_owned(),
                Mail::Lost { home } => format!("lost of {home}"),
                _ => "other".to_owned(),
            });
        }
        all
    }

    #[test]
    fn events_over_the_limit_are_dropped_and_told_while_answers_pass() {
        let mailbox = Mailbox::new(2, 1500);
        mailbox.put_events(deliveries(1400), 0, Mail::Deliver);
        mailbox.put_events(deliveries(200), 1, Mail::Deliver);
        mailbox.put_events(deliveries(200), 1, Mail::Deliver);
        mailbox.put(Mail::Sent(Vec::new()));
        assert_eq!(taken(&mailbox), ["lost of 1", "1024 events", "376 events", "answers"]);
        assert_eq!(mailbox.events_waiting(), 0);
        assert!(taken(&mailbox).is_empty(), "a loss is told once");
    }

    #[test]
    fn an_empty_mailbox_takes_any_piece() {
        let mailbox = Mailbox::new(1, 1);
        mailbox.put_events(deliveries(1024), 0, Mail::Deliver);
        assert_eq!(taken(&mailbox), ["1024 events"]);
    }

    #[test]
    fn losses_are_marked_by_home() {
        let mailbox = Mailbox::new(3, 1);
        mailbox.mark_lost(2);
        mailbox.mark_lost(0);
        mailbox.mark_lost(2);
        assert_eq!(taken(&mailbox), ["lost of 0", "lost of 2"]);
    }
}
