//! What a connection is told without having asked: events, presence, that it is behind.

use std::rc::Rc;

use backend::domain::GroupId;
use protocol::EncodedPush;

use super::{Connection, Inner, Phase};
use crate::{
    mailbox::Delivered,
    shard::{members, session::Verdict},
};

impl Connection {
    /// Pushes news, if the session is live and the client reads what it is sent.
    pub(in crate::shard) fn deliver(self: &Rc<Self>, what: Delivered) {
        let mut inner = self.inner.borrow_mut();
        let crowded = inner.waiting_bytes() > self.core.shared.config.push_buffer_bytes_max;
        if inner.phase != Phase::Open {
            return;
        }
        let Inner { session: Some(session), protocol, .. } = &mut *inner else { return };
        // Holds whether or not the client reads what it is sent.
        if let Delivered::Membership(group, is_in) = &what {
            return members::changed(&self.core, self.id, session, group, *is_in);
        }
        if crowded {
            self.core.metrics.pushes_dropped.increment(1);
            drop(inner);
            return self.fall_behind(|_| true);
        }
        let pushed = match what {
            Delivered::Event(position, event) if session.notice(position, false) == Verdict::Push => {
                protocol.push_event(&position.0, &event, None);
                true
            }
            Delivered::Push(push) if session.is_live() => {
                protocol.push(&push);
                true
            }
            Delivered::OwnEvent(position) => {
                session.notice(position, true);
                false
            }
            Delivered::Event(..) | Delivered::Push(_) | Delivered::Membership(..) => false,
            Delivered::Behind => {
                // That the user has come into groups may not have been told, either.
                session.groups.mark_stale();
                drop(inner);
                return self.fall_behind(|_| true);
            }
        };
        drop(inner);
        if pushed {
            self.core.metrics.pushes.increment(1);
            self.wake();
        }
    }

    /// Pushes what a group is told. Who is in a live room need not have read a log.
    pub(in crate::shard) fn deliver_of_group(self: &Rc<Self>, group: &GroupId, what: Delivered) {
        let is_in_room = self.with_session(|session| session.groups.is_in_room(group));
        match what {
            Delivered::Push(push) if is_in_room == Some(true) => _ = self.push_hint(&push),
            what => self.deliver(what),
        }
    }

    /// Pushes what is in no log, if the client reads what it is sent. Returns whether it was pushed.
    pub(in crate::shard) fn push_hint(self: &Rc<Self>, push: &EncodedPush) -> bool {
        let mut inner = self.inner.borrow_mut();
        if inner.phase != Phase::Open || inner.session.is_none() {
            return false;
        }
        if inner.waiting_bytes() > self.core.shared.config.push_buffer_bytes_max {
            drop(inner);
            self.core.metrics.pushes_dropped.increment(1);
            self.fall_behind(|_| true);
            return false;
        }
        inner.protocol.push(push);
        drop(inner);
        self.wake();
        true
    }

    /// Sends the device back to its log, if `concerns` its user's home.
    pub(in crate::shard) fn fall_behind(self: &Rc<Self>, concerns: impl Fn(u16) -> bool) {
        let mut inner = self.inner.borrow_mut();
        let Some(session) = &mut inner.session else { return };
        if !concerns(session.home) {
            return;
        }
        session.groups.mark_stale();
        if session.fall_behind() {
            inner.protocol.push_behind();
            drop(inner);
            self.wake();
        }
    }
}
