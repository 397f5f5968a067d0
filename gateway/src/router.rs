//! From finished acts to the cores concerned: runs on the store's threads, in commit order.

use std::sync::Arc;

use ahash::RandomState;
use backend::domain::{
    AppId, UserId,
    act::{Notice, Outcome},
    send_queue::{Completion, Outbox},
    unsettled::Late,
};

use crate::mailbox::{ActAnswer, Address, ConnectionId, Mail, Mailbox, Published};

/// All cores' mailboxes, and which of them is a user's home.
#[derive(Clone)]
pub struct Router {
    mailboxes: Arc<[Mailbox]>,
    hasher: RandomState,
}

/// Which request of which connection an act came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The connection.
    pub address: Address,
    /// The request's number.
    pub request: u32,
}

impl Origin {
    /// Nobody waits for the answer: no connection has this number.
    pub const NOBODY: Origin = Origin { address: Address { core: 0, connection: ConnectionId::MAX }, request: 0 };
}

impl Router {
    /// A router between `cores` cores.
    pub fn new(cores: usize, events_max: usize) -> Self {
        let mailboxes = (0..cores).map(|_| Mailbox::new(cores, events_max)).collect();
        // Where a user is at home needs to be the same only within the process: random, so that nobody
        // can choose names that all meet on one core.
        Router { mailboxes, hasher: RandomState::new() }
    }

    /// The core whose table says where `user` is online.
    pub fn home(&self, app: AppId, user: &UserId) -> u16 {
        (self.hasher.hash_one((app, user)) % self.mailboxes.len() as u64) as u16
    }

    /// A core's mailbox.
    pub fn mailbox(&self, core: u16) -> &Mailbox {
        &self.mailboxes[usize::from(core)]
    }

    /// Every core's mailbox.
    pub fn mailboxes(&self) -> &[Mailbox] {
        &self.mailboxes
    }
}

impl Outbox for Router {
    type Origin = Origin;

    fn complete(&self, batch: Vec<Completion<Origin>>) {
        let mut answers: Vec<Vec<ActAnswer>> = self.mailboxes.iter().map(|_| Vec::new()).collect();
        let mut published: Vec<Vec<Published>> = self.mailboxes.iter().map(|_| Vec::new()).collect();
        for Completion { origin, act, outcome } in batch {
            let outcome = outcome.map(|outcome| {
                let knows = outcome.is_whole().then_some(origin.address);
                let Outcome { answer, notices } = outcome;
                self.publish(&mut published, act.app(), notices, knows);
                answer
            });
            if outcome.as_ref().is_ok_and(|answer| !answer.is_last()) {
                continue;
            }
            let answer = ActAnswer { connection: origin.address.connection, request: origin.request, outcome };
            answers[usize::from(origin.address.core)].push(answer);
        }
        // All answers before any event: a device's cursor must not pass what it did before its answer.
        for (mailbox, answers) in self.mailboxes.iter().zip(answers).filter(|(_, answers)| !answers.is_empty()) {
            mailbox.put(Mail::Acted(answers));
        }
        self.put(published);
    }

    fn late(&self, acts: Vec<Late>) {
        let mut published: Vec<Vec<Published>> = self.mailboxes.iter().map(|_| Vec::new()).collect();
        for Late { act, notices } in acts {
            // The device that asked was told that it failed: it is told now, too.
            self.publish(&mut published, act.app(), notices, None);
        }
        self.put(published);
    }
}

impl Router {
    fn put(&self, published: Vec<Vec<Published>>) {
        for ((mailbox, published), home) in self.mailboxes.iter().zip(published).zip(0..) {
            mailbox.put_events(published, home, Mail::Publish);
        }
    }

    fn publish(
        &self,
        published: &mut [Vec<Published>],
        app: AppId,
        notices: impl IntoIterator<Item = Notice>,
        origin: Option<Address>,
    ) {
        for Notice { user, what: news } in notices {
            let home = usize::from(self.home(app, &user));
            published[home].push(Published { app, user, news, origin });
        }
    }
}
