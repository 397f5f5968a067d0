//! Who is there on other cores, as they say it, and what they are told of this one's sessions.
//!
//! A node that is linked newly is told of all sessions, some at a time as there is room, and then that these were all:
//! what it knew before and has not been named again is gone only then, so that a link which was cut for a while changes
//! nothing for users who have been there all the time.
//!
//! What may not live here: the tables of who is there, and what their users are told (`shard/online.rs`).

use backend::domain::{AppId, UserId};
use prost::Message as _;
use protocol::{
    link::{LINK_VERSION_ALL_TOLD, What},
    link_message::{PeerInvalidated, PeerRooms, PeerSession, PeerSessions, PeerSignOut},
    message::Device,
};

use super::{Cluster, Inner, NodeId, frames};
use crate::mailbox::{Address, HERE, LinkNumber, Mail, NodeIndex, RemoteMail, RemoteSession};

/// Sessions that are told of in one frame.
const SESSIONS_PER_FRAME_MAX: usize = 1_000;

/// Sessions of one node that were asked to end and are not gone yet, at the most; of more it is not noted.
const ENDING_MAX: usize = 10_000;

/// What others are told.
impl Cluster {
    /// A session of this node is there, or has changed.
    pub fn tell_sessions(&self, app: AppId, user: &UserId, sessions: Vec<RemoteSession>) {
        let mut inner = self.inner();
        if !inner.links.is_empty() {
            let sessions = sessions.into_iter().map(|session| frames::session(app, user, session)).collect();
            inner.broadcast(&What::Sessions(PeerSessions { sessions, ..PeerSessions::default() }));
        }
    }

    /// A session of this node is gone.
    pub fn tell_gone(&self, app: AppId, user: &UserId, address: Address) {
        self.inner().broadcast(&frames::gone(app, user, address));
    }

    /// Some sessions of a core, for a node that is linked since they came.
    pub fn tell_some(&self, node: NodeIndex, sessions: impl Iterator<Item = (AppId, UserId, RemoteSession)>) {
        let mut sessions = sessions.map(|(app, user, session)| frames::session(app, &user, session)).peekable();
        while sessions.peek().is_some() {
            let some: Vec<PeerSession> = sessions.by_ref().take(SESSIONS_PER_FRAME_MAX).collect();
            let frame = What::Sessions(PeerSessions { sessions: some, ..PeerSessions::default() });
            self.inner().send(node, &frame);
        }
    }

    /// A core of this node has told all of its sessions on a link. Behind the last one that has, the other side is told.
    pub fn told_all(&self, node: NodeIndex, number: LinkNumber) {
        let mut inner = self.inner();
        let Some(link) = inner.link(node).filter(|link| link.number == number) else { return };
        link.cores_untold = link.cores_untold.saturating_sub(1);
        if link.cores_untold == 0 {
            let all = PeerSessions { all_told: true, ..PeerSessions::default() };
            inner.send(node, &What::Sessions(all));
        }
    }

    /// Whether there is room on the link with a node for what can wait; `None`: there is no link.
    pub fn has_room(&self, node: NodeIndex) -> Option<bool> {
        self.inner().link(node).map(|link| !link.is_broken && link.to.has_room())
    }

    /// Ends a session of another node, for the device `by`.
    pub fn sign_out(&self, session: Address, by: &Device) {
        let mut inner = self.inner();
        let is_known = inner.indexes.values().any(|node| *node == session.node);
        let ending = inner.ending.entry(session.node).or_default();
        if is_known && ending.len() < ENDING_MAX {
            ending.insert(session, by.clone());
        }
        inner.send(session.node, &frames::sign_out(session, by));
    }

    /// A user's UserSigs issued before `from_s` are invalid: the sessions on other nodes end.
    pub fn invalidated(&self, app: AppId, user: &UserId, from_s: u64, by: &Device) {
        self.inner().broadcast(&frames::invalidated(app, user, from_s, by));
    }
}

/// What others say.
impl Cluster {
    pub(super) fn heard_sessions(&self, peer: NodeId, node: NodeIndex, said: PeerSessions) {
        if said.from_scratch {
            match self.inner().says_when_all_is_told(peer) {
                true => self.mail_all(|| RemoteMail::ToldAnew { node }),
                false => self.mail_all(|| RemoteMail::NodeGone { node }),
            }
        }
        let mut by_home: Vec<Vec<_>> = self.router.mailboxes().iter().map(|_| Vec::new()).collect();
        let sessions = said.sessions.into_iter().filter_map(|session| frames::remote_session(node, session));
        for session in sessions.filter(|(.., session)| !self.is_to_end(session.address)) {
            let home = self.router.home(session.0, &session.1);
            if let Some(sessions) = by_home.get_mut(usize::from(home)) {
                sessions.push(session);
            }
        }
        for (mailbox, sessions) in self.router.mailboxes().iter().zip(by_home).filter(|(_, some)| !some.is_empty()) {
            mailbox.put(Mail::Remote(Box::new(RemoteMail::Sessions(sessions))));
        }
        for gone in said.gone {
            let address = gone.address.and_then(|address| frames::address(node, address));
            if let (Some(user), Some(address)) = (UserId::new(&gone.user), address) {
                self.inner().ending.get_mut(&node).map(|ending| ending.remove(&address));
                let app = gone.sdkappid;
                self.mail_home(app, &user.clone(), RemoteMail::Gone { app, user, address });
            }
        }
        if said.all_told {
            self.mail_all(|| RemoteMail::AllTold { node });
        }
    }

    /// A session of this node is to end.
    pub(super) fn heard_sign_out(&self, wish: PeerSignOut) {
        let address = wish.address.and_then(|address| frames::address(HERE, address));
        let by = Device::decode(wish.by).ok();
        let cores = self.router.mailboxes().len();
        if let (Some(Address { core, connection, .. }), Some(by)) = (address, by)
            && usize::from(core) < cores
        {
            self.router.mailbox(core).put(Mail::SignedOut { connection, by: Box::new(by) });
        }
    }

    pub(super) fn heard_invalidated(&self, said: PeerInvalidated) {
        let (user, by) = (UserId::new(&said.user), Device::decode(said.by).ok());
        if let (Some(user), Some(by)) = (user, by) {
            let (app, from_s) = (said.sdkappid, said.from_s);
            self.mail_home(app, &user.clone(), RemoteMail::Invalidated { app, user, from_s, by });
        }
    }

    pub(super) fn heard_rooms(&self, peer: NodeId, node: NodeIndex, said: PeerRooms) {
        let rooms = self.router.rooms();
        if said.from_scratch && !self.inner().says_when_all_is_told(peer) {
            rooms.forget_node(node);
        }
        rooms.heard(node, said);
    }

    /// Whether a session of another node was asked to end: then it is asked once more, since that may have been lost.
    fn is_to_end(&self, session: Address) -> bool {
        let mut inner = self.inner();
        let by = inner.ending.get(&session.node).and_then(|ending| ending.get(&session)).cloned();
        if let Some(by) = &by {
            inner.send(session.node, &frames::sign_out(session, by));
        }
        by.is_some()
    }
}

impl Inner {
    fn says_when_all_is_told(&self, peer: NodeId) -> bool {
        self.links.get(&peer).is_some_and(|link| link.version >= LINK_VERSION_ALL_TOLD)
    }
}
