//! Sessions that other nodes hold, in the tables of their users' homes here, and what those nodes are told of the ones
//! of this node.

use backend::domain::{AppId, UserId};
use protocol::{connection::Millis, message::Device};

use super::{Core, online::UserKey};
use crate::mailbox::{HERE, NodeIndex, RemoteMail, RemoteSession, Which};

/// How often other nodes are told how many are in live rooms.
const ROOMS_INTERVAL_MS: Millis = 1_000;

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
        let numbers = router.rooms().untold_numbers();
        if let (Some(cluster), Some(numbers)) = (router.cluster(), numbers) {
            cluster.tell_rooms(numbers);
        }
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
            RemoteMail::Invalidated { app, user, from_s, by } => self.invalidate_here(&(app, user), from_s, &by),
            RemoteMail::Tell { node } => self.tell_all(node),
        }
    }

    fn put_remote(&self, (app, user, session): (AppId, UserId, RemoteSession)) {
        // Until it is known here, nobody of the application can be here.
        let Some(application) = self.shared.applications.find(app) else { return };
        let key = (app, user);
        let put = self.online.borrow_mut().put_remote(&key, &session, &application.settings);
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

    fn tell_all(&self, node: NodeIndex) {
        let Some(cluster) = self.shared.router.cluster() else { return };
        let online = self.online.borrow();
        let told =
            online.all().flat_map(|key| online.told(key).into_iter().map(|session| (key.0, key.1.clone(), session)));
        cluster.tell_all(node, told);
    }
}
