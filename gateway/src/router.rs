//! From finished sends to the cores concerned: runs on the store's threads, in commit order.

use std::sync::Arc;

use ahash::RandomState;
use backend::domain::{
    AppId, UserId,
    message::NewMessage,
    send::{Fresh, Sent},
    send_queue::{Completion, Outbox},
};
use protocol::EncodedEvent;

use crate::mailbox::{Address, Mail, Mailbox, Published, SendAnswer};

/// All cores' mailboxes, and which of them is a user's home.
#[derive(Clone)]
pub struct Router {
    mailboxes: Arc<[Mailbox]>,
    hasher: RandomState,
}

/// Which request of which connection a send came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The connection.
    pub address: Address,
    /// The request's number.
    pub request: u32,
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
        let mut answers: Vec<Vec<SendAnswer>> = self.mailboxes.iter().map(|_| Vec::new()).collect();
        let mut published: Vec<Vec<Published>> = self.mailboxes.iter().map(|_| Vec::new()).collect();
        for Completion { origin, message, outcome } in batch {
            let mut outcome = outcome;
            if let Ok(Sent { fresh, .. }) = &mut outcome
                && let Some(fresh) = fresh.take()
            {
                self.publish(&mut published, &message, fresh, origin.address);
            }
            let answer = SendAnswer { connection: origin.address.connection, request: origin.request, outcome };
            answers[usize::from(origin.address.core)].push(answer);
        }
        // All answers before any event: a sender's cursor must not pass its send before its answer.
        for (mailbox, answers) in self.mailboxes.iter().zip(answers).filter(|(_, answers)| !answers.is_empty()) {
            mailbox.put(Mail::Sent(answers));
        }
        for ((mailbox, published), home) in self.mailboxes.iter().zip(published).zip(0..) {
            mailbox.put_events(published, home, Mail::Publish);
        }
    }
}

impl Router {
    fn publish(&self, published: &mut [Vec<Published>], message: &NewMessage, fresh: Fresh, origin: Address) {
        let event = EncodedEvent::message(fresh.message);
        let mut to_user = |user: &UserId, position| {
            let entry = Published { app: message.app, user: user.clone(), position, event: event.clone(), origin };
            published[usize::from(self.home(message.app, user))].push(entry);
        };
        to_user(&message.from, fresh.position_from);
        if message.from != message.to {
            to_user(&message.to, fresh.position_to);
        }
    }
}
