//! Mail between threads: the only way into a core from outside it.
//!
//! The store's threads and the other cores put mail in; the core takes it out. Live events are hints
//! and bounded: over the limit they are dropped and the core is told that some were, so that it sends
//! the sessions concerned back to their log. Answers and registrations are not dropped; there are never
//! more of them than requests in flight, which are bounded at admission.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use backend::{
    domain::{
        AppId, Error, GroupId, UserId,
        act::{Answer, Audience, News},
        callbacks::{Caller, StateReason},
        rate::SendBucket,
        settings::Settings,
    },
    store::Versionstamp,
};
use crossbeam::queue::SegQueue;
use futures::{channel::oneshot, task::AtomicWaker};
use glommio::net::AcceptedTcpStream;
use protocol::{
    EncodedEvent, EncodedPush, ErrorCode,
    message::{Device, Platform, Presence},
};

use crate::places::Place;

/// A connection's number, unique on its core.
pub type ConnectionId = u64;

/// A node of the deployment, as this one counts them.
pub type NodeIndex = u32;

/// A link between cores, by how many had come up on this node with it.
pub type LinkNumber = u64;

/// This node.
pub const HERE: NodeIndex = 0;

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Node that holds the connection.
    pub node: NodeIndex,
    /// Core that holds the connection.
    pub core: u16,
    /// The connection.
    pub connection: ConnectionId,
}

/// What a core is told.
pub enum Mail {
    /// Finished acts of this core's connections.
    Acted(Vec<ActAnswer>),
    /// News for users whose home is this core.
    Publish(Vec<Published>),
    /// Events for connections of this core.
    Deliver(Vec<Delivery>),
    /// A session of a user whose home is this core.
    Register(Box<Registration>),
    /// The session is gone.
    Unregister { app: AppId, user: UserId, address: Address, caller: Caller, reason: StateReason },
    /// A question or a wish about users whose home is this core.
    Home(Box<HomeMail>),
    /// What other nodes say of their sessions.
    Remote(Box<RemoteMail>),
    /// A connection of this core was signed out, because of the device `by`.
    SignedOut { connection: ConnectionId, by: Box<Device> },
    /// Presence that connections of this core follow.
    Presence(Box<PresenceChange>),
    /// The application was deleted: its sessions end.
    ApplicationGone { app: AppId },
    /// The core `home` lost events of its users: their sessions here must sync.
    Lost { home: u16 },
    /// An edge has connected, or somebody who is none, and this core has the fewest links. Its place is given back once
    /// that is known.
    EdgeLink(AcceptedTcpStream, Place),
    /// Stop accepting, tell clients to go, finish what is in flight.
    Drain,
}

/// A session that wants to be in the online table.
pub struct Registration {
    pub app: AppId,
    pub user: UserId,
    pub address: Address,
    pub platform: Platform,
    /// The client's name of the installation.
    pub device: String,
    pub background: bool,
    /// Where it comes from, for the application's server.
    pub caller: Caller,
    /// When its credential was issued, seconds since the Unix epoch.
    pub issued_s: u64,
    /// Of the application: say which devices exclude each other.
    pub settings: Settings,
    /// Told once it is in the table, or why it may not be.
    pub registered: oneshot::Sender<Result<Admission, ErrorCode>>,
}

/// What a session is given by its home.
pub struct Admission {
    /// The bucket it shares with the user's other sessions.
    pub send_bucket: Arc<SendBucket>,
}

/// What a home core is asked. Dropped senders mean that it is gone.
pub enum HomeMail {
    /// The devices of a user, seen from `asker`.
    Devices { app: AppId, user: UserId, asker: Address, answer: oneshot::Sender<Vec<Device>> },
    /// Sign devices of a user out; no `asker`: an administrator wants it.
    SignOut { app: AppId, user: UserId, asker: Option<Address>, which: Which, answer: oneshot::Sender<SignedOut> },
    /// The session at `address` says something about itself or its user.
    SetPresence {
        app: AppId,
        user: UserId,
        address: Address,
        background: Option<bool>,
        status: Option<String>,
        done: oneshot::Sender<()>,
    },
    /// The presence of users, in order; `follower` is told of its changes from now on.
    Presence { app: AppId, users: Vec<UserId>, follower: Option<Address>, answer: oneshot::Sender<Vec<Presence>> },
    /// Users of an application who have a session, of those whose home the core is.
    Online { app: AppId, answer: oneshot::Sender<Vec<UserId>> },
    /// Something is told to every connection that is in a live room of the application: any core is told.
    Broadcast { app: AppId, push: EncodedPush },
    /// `follower` is no longer told.
    Unfollow { app: AppId, users: Vec<UserId>, follower: Address },
}

/// What a home core is told of the sessions that other nodes hold.
pub enum RemoteMail {
    /// They are there, or have changed.
    Sessions(Vec<(AppId, UserId, RemoteSession)>),
    /// One is gone.
    Gone { app: AppId, user: UserId, address: Address },
    /// None of the node's is there any more.
    NodeGone { node: NodeIndex },
    /// The node says from now on which of its are there: those that it does not name again are gone.
    ToldAnew { node: NodeIndex },
    /// It has named all of them.
    AllTold { node: NodeIndex },
    /// UserSigs issued before `from_s` (seconds since the Unix epoch) are invalid, because of the device `by`.
    Invalidated { app: AppId, user: UserId, from_s: u64, by: Device },
    /// A node wants to know of all sessions that this one holds: on this link, and of no other one.
    Tell { node: NodeIndex, link: LinkNumber },
}

/// A session that another node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSession {
    pub address: Address,
    /// The number that the user's devices know it by.
    pub number: u64,
    /// When it logged in, milliseconds since the Unix epoch.
    pub since_ms: u64,
    pub platform: Platform,
    /// The client's name of the installation.
    pub device: String,
    pub background: bool,
    /// What its user says about being there.
    pub status: String,
}

/// Which devices to sign out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All but the one that asks.
    Others,
    /// These sessions, if they are the user's.
    Chosen(Vec<u64>),
    /// All, the asking one too, because UserSigs issued before `usersigs_from_s` (seconds since the Unix
    /// epoch) are invalid: a login with one that is still under way is refused.
    All { usersigs_from_s: u64 },
}

/// What became of it.
pub struct SignedOut {
    /// Devices that were signed out.
    pub count: u32,
    /// The one that asked, if it is among them: its connection ends itself, once it has answered.
    pub own: Option<Device>,
}

/// The presence of `user` changed.
pub struct PresenceChange {
    pub app: AppId,
    pub user: UserId,
    pub push: EncodedPush,
    /// The followers on this core.
    pub connections: Vec<ConnectionId>,
}

/// A finished act.
pub struct ActAnswer {
    pub connection: ConnectionId,
    pub request: u32,
    pub outcome: Result<Answer, Error>,
}

/// Something that devices are told.
#[derive(Clone)]
pub struct Published {
    pub app: AppId,
    pub to: Audience,
    pub news: News,
    /// The session that caused it, which learns of it by the answer to its request; none if it was
    /// answered with an error.
    pub origin: Option<Address>,
}

/// News for connections of one core.
pub struct Delivery {
    pub to: Target,
    pub what: Delivered,
}

/// Which connections.
pub enum Target {
    /// This one.
    Connection(ConnectionId),
    /// Those of members of a group whose home is the core that delivers; the one at `origin` has caused it, and
    /// learns of it by the answer to its request.
    Members { app: AppId, group: GroupId, home: u16, origin: Option<Address> },
}

/// What a connection is told.
#[derive(Clone)]
pub enum Delivered {
    /// A new entry of its user's event log.
    Event(Versionstamp, EncodedEvent),
    /// The same, caused by itself: only its cursor moves.
    OwnEvent(Versionstamp),
    /// Something that is in no log.
    Push(EncodedPush),
    /// From here on the user receives what the group is told, or not any more.
    Membership(GroupId, bool),
    /// Something may be in the log that was not told.
    Behind,
}

/// Events in one piece of mail: small enough that a mailbox that has been emptied takes any piece.
pub const EVENTS_PER_MAIL_MAX: usize = 1024;

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

    /// Puts hints in that nobody misses: over half of the limit they are dropped, so that they never take the
    /// place of events. Returns whether they were put in.
    pub fn put_hints(&self, mail: Mail) -> bool {
        let count = mail.events();
        let admitted = self.events_waiting.fetch_add(count, Ordering::Relaxed) + count <= self.events_max / 2;
        if admitted {
            self.put(mail);
        } else {
            self.events_waiting.fetch_sub(count, Ordering::Relaxed);
        }
        admitted
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
            Mail::Presence(change) => change.connections.len(),
            _ => 0,
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use futures::task::noop_waker;

    fn deliveries(count: usize) -> Vec<Delivery> {
        (0..count)
            .map(|_| Delivery { to: Target::Connection(1), what: Delivered::OwnEvent(Versionstamp::ZERO) })
            .collect()
    }

    /// What is taken out, in order, as text.
    fn taken(mailbox: &Mailbox) -> Vec<String> {
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let mut all = Vec::new();
        while let Poll::Ready(mail) = mailbox.poll_take(&mut cx) {
            all.push(match mail {
                Mail::Deliver(events) => format!("{} events", events.len()),
                Mail::Acted(_) => "answers".to_owned(),
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
        mailbox.put(Mail::Acted(Vec::new()));
        assert_eq!(taken(&mailbox), ["lost of 1", "1024 events", "376 events", "answers"]);
        assert_eq!(mailbox.events_waiting(), 0);
        assert!(taken(&mailbox).is_empty(), "a loss is told once");
    }

    #[test]
    fn hints_fill_half_of_it_at_the_most_and_lose_nobody_anything() {
        let hints = |count: u64| {
            let user = UserId::new("anna").unwrap();
            let (push, connections) = (EncodedPush::presence(&Presence::default()), (0..count).collect());
            Mail::Presence(Box::new(PresenceChange { app: 1, user, push, connections }))
        };
        let mailbox = Mailbox::new(1, 2000);
        assert!(mailbox.put_hints(hints(1000)));
        assert!(!mailbox.put_hints(hints(1)));
        mailbox.put_events(deliveries(900), 0, Mail::Deliver);
        assert_eq!(taken(&mailbox), ["other", "900 events"]);
        assert_eq!(mailbox.events_waiting(), 0);
        assert!(mailbox.put_hints(hints(1)));
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
