//! Sessions that other nodes hold, in the tables of their users' homes here, and what those nodes are told of the ones
//! of this node.

use backend::domain::{AppId, UserId};
use protocol::{connection::Millis, message::Device};

use super::{Core, online::UserKey};
use crate::mailbox::{HERE, LinkNumber, NodeIndex, RemoteMail, RemoteSession, Which};

/// How often other nodes are told how many are in live rooms.
const ROOMS_INTERVAL_MS: Millis = 1_000;

/// Frames in which that is told at a time, at the most.
const ROOM_FRAMES_MAX: usize = 100;

/// Users whose sessions are told together where there are many to be told.
const USERS_TOGETHER: usize = 1_000;

impl Core {
    /// Time passes for what this node has to do with others.
    pub(super) fn tick_cluster(&self) {
        let router = &self.shared.router;
        if let Some(cluster) = router.cluster() {
            cluster.tick();
        }
        if self.now() < self.rooms_told.get() + ROOMS_INTERVAL_MS {
            return;
        }
        self.rooms_told.set(self.now());
        let numbers = std::iter::from_fn(|| router.rooms().untold_numbers()).take(ROOM_FRAMES_MAX);
        match router.cluster() {
            Some(cluster) => numbers.for_each(|numbers| cluster.tell_rooms(numbers)),
            None => numbers.for_each(drop),
        }
    }

    /// Tells nodes that are linked newly of the sessions here, as far as there is room on their links.
    pub(super) fn tell_more(&self) {
        let Some(cluster) = self.shared.router.cluster() else { return };
        let tell = |node, users: Vec<UserKey>| {
            let online = self.online.borrow();
            let told = users.iter().flat_map(|key| online.told(key).into_iter().map(move |session| (key, session)));
            cluster.tell_some(node, told.map(|((app, user), session)| (*app, user.clone(), session)));
        };
        self.untold.borrow_mut().retain_mut(|untold| match untold.tell(|node| cluster.has_room(node), tell) {
            Told::Some => true,
            Told::All => {
                cluster.told_all(untold.node, untold.link);
                false
            }
            Told::InVain => false,
        });
    }

    /// Takes in what another node says of its sessions.
    pub(super) fn handle_remote(&self, mail: RemoteMail) {
        match mail {
            RemoteMail::Sessions(sessions) => sessions.into_iter().for_each(|said| self.put_remote(said)),
            RemoteMail::Gone { app, user, address } => {
                let key = (app, user);
                if self.online.borrow_mut().remove(&key, address, self.now()) {
                    self.presence_changed(&key);
                }
            }
            RemoteMail::NodeGone { node } => {
                let concerned = self.online.borrow_mut().remove_node(node, self.now());
                concerned.iter().for_each(|key| self.presence_changed(key));
            }
            RemoteMail::ToldAnew { node } => self.online.borrow_mut().doubt_node(node),
            RemoteMail::AllTold { node } => {
                let concerned = self.online.borrow_mut().remove_doubtful(node, self.now());
                concerned.iter().for_each(|key| self.presence_changed(key));
            }
            RemoteMail::Invalidated { app, user, from_s, by } => self.invalidate_here(&(app, user), from_s, &by),
            RemoteMail::Tell { node, link } => self.tell_all(node, link),
        }
    }

    fn put_remote(&self, (app, user, session): (AppId, UserId, RemoteSession)) {
        // Until the application is known here nobody of it can be here, whom another would exclude.
        let settings = self.shared.applications.find(app).map(|application| application.settings.clone());
        let key = (app, user);
        let put = self.online.borrow_mut().put_remote(&key, &session, &settings.unwrap_or_default());
        self.tell_signed_out(&put.signed_out, &put.by);
        for address in &put.signed_out {
            self.tell_gone(&key, *address);
        }
        self.presence_changed(&key);
    }

    /// UserSigs were invalidated at another node: the sessions of this one end.
    fn invalidate_here(&self, key: &UserKey, usersigs_from_s: u64, by: &Device) {
        let which = Which::All { usersigs_from_s };
        let removed = self.online.borrow_mut().sign_out(key, None, &which, self.now());
        let here: Vec<_> = removed.others.into_iter().filter(|address| address.node == HERE).collect();
        self.tell_signed_out(&here, by);
        here.iter().for_each(|address| self.tell_gone(key, *address));
        self.presence_changed(key);
    }

    /// Tells other nodes of a user's sessions here, one of which is new or has changed.
    pub(super) fn tell_sessions(&self, key: &UserKey) {
        if let Some(cluster) = self.shared.router.cluster() {
            cluster.tell_sessions(key.0, &key.1, self.online.borrow().told(key));
        }
    }

    /// Tells other nodes that a session is gone.
    pub(super) fn tell_gone(&self, key: &UserKey, address: crate::mailbox::Address) {
        if let Some(cluster) = self.shared.router.cluster() {
            cluster.tell_gone(key.0, &key.1, address);
        }
    }

    /// What comes later is told when it comes.
    fn tell_all(&self, node: NodeIndex, link: LinkNumber) {
        let users = self.online.borrow().all().cloned().collect();
        let mut untold = self.untold.borrow_mut();
        untold.retain(|known| known.node != node);
        untold.push(Untold { node, link, users });
        drop(untold);
        self.tell_more();
    }
}

/// Users that a node which is linked newly has not been told of.
pub(super) struct Untold {
    node: NodeIndex,
    link: LinkNumber,
    users: Vec<UserKey>,
}

/// How far a node has been told.
#[derive(Debug, PartialEq)]
enum Told {
    /// There are more, and no room for them yet.
    Some,
    All,
    /// The link is gone.
    InVain,
}

impl Untold {
    /// Tells of some after the other while there is room (`None`: the link is gone).
    fn tell(&mut self, has_room: impl Fn(NodeIndex) -> Option<bool>, tell: impl Fn(NodeIndex, Vec<UserKey>)) -> Told {
        loop {
            match has_room(self.node) {
                None => return Told::InVain,
                Some(false) => return Told::Some,
                Some(true) if self.users.is_empty() => return Told::All,
                Some(true) => {
                    let rest = self.users.len().saturating_sub(USERS_TOGETHER);
                    tell(self.node, self.users.split_off(rest));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use backend::domain::UserId;

    use super::*;

    #[test]
    fn geo_01_many_sessions_are_told_as_there_is_room_for_them() {
        let users =
            (0..3 * USERS_TOGETHER + 1).map(|number| (1, UserId::new(&format!("u{number}")).unwrap())).collect();
        let mut untold = Untold { node: 7, link: 1, users };
        let (room, told) = (Cell::new(2), Cell::new(0));
        let mut tell = |is_linked: bool| {
            let tell = |_, users: Vec<UserKey>| {
                room.set(room.get() - 1);
                told.set(told.get() + users.len());
            };
            untold.tell(|_| is_linked.then_some(room.get() > 0), tell)
        };
        assert_eq!(tell(true), Told::Some);
        assert_eq!(told.get(), 2 * USERS_TOGETHER);
        assert_eq!(tell(true), Told::Some, "there is no room");
        room.set(9);
        assert_eq!(tell(true), Told::All);
        assert_eq!(told.get(), 3 * USERS_TOGETHER + 1);
        assert_eq!(tell(false), Told::InVain, "with a link that is gone this goes, too");
    }
}
