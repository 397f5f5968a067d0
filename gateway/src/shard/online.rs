//! Who is online, of the users whose home is this core: where each one's sessions are, what they say of
//! themselves, and what is kept of a user between two sessions.
//!
//! Sessions that other nodes hold stand beside those of this one, as these nodes tell them. All nodes put a user's
//! sessions in the same order, and each signs out those of its own that the policy does not allow beside later ones: so
//! the same ones stay, wherever they are.
//!
//! No clocks, no mail: the core passes the time in and delivers what comes out.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use ahash::AHashMap;
use backend::domain::{AppId, UserId, rate::SendBucket, settings::Settings};
use protocol::{
    ErrorCode,
    connection::Millis,
    message::{Device, OnlineState, Platform, PlatformState, Presence},
};

use crate::{
    mailbox::{Address, HERE, NodeIndex, RemoteSession, Which},
    policy::{self, PolicyDevice},
};

/// A user of an application.
pub(super) type UserKey = (AppId, UserId);

/// Users without a session that something is kept of, at the most; then the soonest is forgotten too soon.
const KEPT_MAX: usize = 100_000;

/// For how long a login may be under way whose credential was checked before all were made invalid: longer
/// than any login deadline that makes sense.
const INVALIDATION_KEPT_MS: Millis = 60_000;

/// Users by name.
pub(super) struct OnlineTable {
    users: AHashMap<UserKey, User>,
    /// Users that were kept without a session, by when to look whether they still have to be.
    kept: BinaryHeap<Reverse<(Millis, UserKey)>>,
    next_session: u64,
    session_step: u64,
}

#[derive(Default)]
struct User {
    /// In order of their logins.
    sessions: Vec<Session>,
    /// What the user says about being there.
    status: Box<str>,
    send_bucket: Arc<SendBucket>,
    /// UserSigs issued before are refused (seconds since the Unix epoch); noted until then.
    invalidated: Option<Box<(u64, Millis)>>,
    /// Has an entry in `kept`.
    is_kept: bool,
}

struct Session {
    address: Address,
    /// The number that the user's devices know it by.
    number: u64,
    since_ms: u64,
    device: Box<str>,
    platform: Platform,
    background: bool,
    /// Of a node that tells all of its sessions anew, and has not named this one yet.
    is_doubtful: bool,
}

/// A login whose credential is good.
pub(super) struct NewSession<'a> {
    pub(super) address: Address,
    pub(super) platform: Platform,
    pub(super) device: &'a str,
    pub(super) background: bool,
    /// When its credential was issued, seconds since the Unix epoch.
    pub(super) issued_s: u64,
    /// When it logged in, milliseconds since the Unix epoch.
    pub(super) since_ms: u64,
}

/// What a login brought about.
pub(super) struct Admitted {
    pub(super) send_bucket: Arc<SendBucket>,
    /// Sessions that are out of the table because of it, and what they run on.
    pub(super) signed_out: Vec<(Address, Platform)>,
    /// The new device, as they are told of it.
    pub(super) by: Device,
}

/// What a session of another node brought about.
#[derive(Debug, PartialEq)]
pub(super) struct PutRemote {
    /// It was not known before.
    pub(super) is_new: bool,
    /// Sessions of this node that are out of the table because of it.
    pub(super) signed_out: Vec<Address>,
    /// The new device, as they are told of it.
    pub(super) by: Device,
}

/// What signing devices out brought about.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Removed {
    /// Other sessions than the one that asked for it.
    pub(super) others: Vec<Address>,
    /// The one that asked, if it is out as well.
    pub(super) own: Option<Device>,
    /// The device that asked.
    pub(super) by: Device,
}

impl OnlineTable {
    /// The table of core `index` of `cores`. Sessions get numbers behind `base` that no other core gives out.
    pub(super) fn new(index: u16, cores: usize, base: u64) -> Self {
        OnlineTable {
            users: AHashMap::default(),
            kept: BinaryHeap::new(),
            next_session: base + u64::from(index) + 1,
            session_step: cores.max(1) as u64,
        }
    }

    /// Adds a session, and takes those out that the policy does not allow beside it. A user has at most
    /// `max` of them; one more is refused, and then nothing changes.
    pub(super) fn insert(
        &mut self,
        key: UserKey,
        new: &NewSession<'_>,
        settings: &Settings,
        max: usize,
    ) -> Result<Admitted, ErrorCode> {
        let user = self.users.entry(key).or_default();
        if user.invalidated.as_ref().is_some_and(|invalidated| new.issued_s < invalidated.0) {
            return Err(ErrorCode::USERSIG_INVALIDATED);
        }
        let out = user.signed_out_by(new, settings);
        if user.sessions.len() - out.len() >= max {
            return Err(ErrorCode::TOO_MANY_SESSIONS);
        }
        // Behind all that are known, whatever the clocks of nodes say.
        let after = |session: &Session| session.since_ms + u64::from(session.address.node != HERE);
        let after_ms = user.sessions.iter().map(after).max();
        let out: Vec<u64> = out.iter().filter_map(|&index| Some(user.sessions.get(index)?.number)).collect();
        let signed_out = user.sessions.extract_if(.., |session| out.contains(&session.number));
        let signed_out = signed_out.map(|session| (session.address, session.platform)).collect();
        let session = Session {
            address: new.address,
            number: self.next_session,
            since_ms: new.since_ms.max(after_ms.unwrap_or(0)),
            device: new.device.into(),
            platform: policy::counted(new.platform),
            background: new.background,
            is_doubtful: false,
        };
        self.next_session += self.session_step;
        let by = session.describe(None);
        if user.sessions.is_empty() {
            user.sessions.reserve_exact(1);
        }
        user.sessions.push(session);
        Ok(Admitted { send_bucket: user.send_bucket.clone(), signed_out, by })
    }

    /// A session of another node is there, or has changed. Returns the sessions of this node that the policy does not
    /// allow beside it; they are out of the table.
    pub(super) fn put_remote(&mut self, key: &UserKey, remote: &RemoteSession, settings: &Settings) -> PutRemote {
        let user = self.users.entry(key.clone()).or_default();
        user.status = remote.status.as_str().into();
        let known = user.sessions.iter().position(|session| session.address == remote.address);
        known.map(|place| user.sessions.remove(place));
        let session = Session::remote(remote);
        let by = session.describe(None);
        let place = user.sessions.partition_point(|other| other.order() < session.order());
        let older = user.sessions.get(..place).unwrap_or_default();
        let older: Vec<_> = older.iter().map(Session::for_policy).collect();
        let out = policy::signed_out(settings, &older, session.for_policy());
        let is_out = |session: &&Session| session.address.node == HERE;
        let out = out.iter().filter_map(|&index| user.sessions.get(index)).filter(is_out);
        let signed_out: Vec<Address> = out.map(|session| session.address).collect();
        user.sessions.insert(place, session);
        user.sessions.retain(|session| !signed_out.contains(&session.address));
        PutRemote { is_new: known.is_none(), signed_out, by }
    }

    /// A node and its sessions are gone. Whose they were.
    pub(super) fn remove_node(&mut self, node: NodeIndex, now: Millis) -> Vec<UserKey> {
        self.remove_all(now, |session| session.address.node == node)
    }

    /// A node that was not heard for a while tells all of its sessions anew. They are believed in meanwhile: hardly any is
    /// gone, and nobody is to hear that users are who have been there all the time.
    pub(super) fn doubt_node(&mut self, node: NodeIndex) {
        let sessions = self.users.values_mut().flat_map(|user| &mut user.sessions);
        sessions.filter(|session| session.address.node == node).for_each(|session| session.is_doubtful = true);
    }

    /// A node has told all of its sessions: those that it has not named are gone. Whose they were.
    pub(super) fn remove_doubtful(&mut self, node: NodeIndex, now: Millis) -> Vec<UserKey> {
        self.remove_all(now, |session| session.is_doubtful && session.address.node == node)
    }

    fn remove_all(&mut self, now: Millis, is_gone: impl Fn(&Session) -> bool) -> Vec<UserKey> {
        let mut concerned = Vec::new();
        for (key, user) in &mut self.users {
            let before = user.sessions.len();
            user.sessions.retain(|session| !is_gone(session));
            if user.sessions.len() < before {
                concerned.push(key.clone());
            }
        }
        concerned.iter().for_each(|key| self.settle(key, now));
        concerned
    }

    /// The sessions of a user that this node holds, as other nodes are told of them.
    pub(super) fn told(&self, key: &UserKey) -> Vec<RemoteSession> {
        let user = self.users.get(key);
        let here = user.into_iter().flat_map(|user| user.sessions.iter().map(move |session| (session, &user.status)));
        here.filter(|(session, _)| session.address.node == HERE).map(|(session, status)| session.told(status)).collect()
    }

    /// All users who have a session.
    pub(super) fn all(&self) -> impl Iterator<Item = &UserKey> {
        self.users.iter().filter(|(_, user)| !user.sessions.is_empty()).map(|(key, _)| key)
    }

    /// Removes a session. Returns whether it was there.
    pub(super) fn remove(&mut self, key: &UserKey, address: Address, now: Millis) -> bool {
        let Some(user) = self.users.get_mut(key) else { return false };
        let before = user.sessions.len();
        user.sessions.retain(|session| session.address != address);
        let removed = user.sessions.len() < before;
        if removed {
            self.settle(key, now);
        }
        removed
    }

    /// Takes sessions of a user out, for the one at `asker`; `None`: for an administrator.
    pub(super) fn sign_out(&mut self, key: &UserKey, asker: Option<Address>, which: &Which, now: Millis) -> Removed {
        if let Which::All { usersigs_from_s } = *which {
            let user = self.users.entry(key.clone()).or_default();
            let from_s = user.invalidated.as_ref().map_or(0, |invalidated| invalidated.0).max(usersigs_from_s);
            user.invalidated = Some(Box::new((from_s, now + INVALIDATION_KEPT_MS)));
        }
        let Some(user) = self.users.get_mut(key) else { return Removed::default() };
        let by = user.sessions.iter().find(|session| Some(session.address) == asker);
        let is_out = |session: &Session| match which {
            Which::Others => Some(session.address) != asker,
            Which::Chosen(numbers) => numbers.contains(&session.number),
            Which::All { .. } => true,
        };
        let mut removed = Removed::default();
        match by {
            Some(by) => removed.by = by.describe(None),
            // It was itself signed out meanwhile, and has no say any more. What is durable already holds.
            None if !matches!(which, Which::All { .. }) => return removed,
            None => {}
        }
        for session in user.sessions.extract_if(.., |session| is_out(session)) {
            if Some(session.address) == asker {
                removed.own = Some(session.describe(asker));
            } else {
                removed.others.push(session.address);
            }
        }
        self.settle(key, now);
        removed
    }

    /// Where a user's sessions on this node are.
    pub(super) fn addresses(&self, app: AppId, user: &UserId) -> impl Iterator<Item = Address> {
        let user = self.users.get(&(app, user.clone()));
        user.into_iter().flat_map(|user| &user.sessions).map(|session| session.address).filter(|at| at.node == HERE)
    }

    /// Users of an application who have a session on this node.
    pub(super) fn users(&self, app: AppId) -> Vec<UserId> {
        let is_here = |user: &User| user.sessions.iter().any(|session| session.address.node == HERE);
        let here = self.users.iter().filter(|((of, _), user)| *of == app && is_here(user));
        here.map(|((_, name), _)| name.clone()).collect()
    }

    /// A user's devices, seen from the session at `asker`.
    pub(super) fn devices(&self, key: &UserKey, asker: Address) -> Vec<Device> {
        let sessions = self.users.get(key).into_iter().flat_map(|user| &user.sessions);
        sessions.map(|session| session.describe(Some(asker))).collect()
    }

    /// The session at `address` says whether it is in the background, and what its user's status is.
    pub(super) fn set_presence(
        &mut self,
        key: &UserKey,
        address: Address,
        background: Option<bool>,
        status: Option<String>,
    ) {
        let Some(user) = self.users.get_mut(key) else { return };
        let Some(session) = user.sessions.iter_mut().find(|session| session.address == address) else { return };
        session.background = background.unwrap_or(session.background);
        if let Some(status) = status {
            user.status = status.into_boxed_str();
        }
    }

    /// What others may know of a user. Who does not exist is offline.
    pub(super) fn presence(&self, key: &UserKey) -> Presence {
        let mut presence = Presence { user: key.1.as_str().to_owned(), ..Presence::default() };
        let Some(user) = self.users.get(key) else { return presence };
        presence.status = user.status.clone().into_string();
        for session in &user.sessions {
            let state = if session.background { OnlineState::PushOnline } else { OnlineState::Online };
            presence.state = in_front(presence.state, state);
            let platform = session.platform as i32;
            match presence.platforms.iter_mut().find(|known| known.platform == platform) {
                Some(known) => known.state = in_front(known.state, state),
                None => presence.platforms.push(PlatformState { platform, state: state.into() }),
            }
        }
        // The same devices look the same in whatever order they came.
        presence.platforms.sort_unstable_by_key(|platform| platform.platform);
        presence
    }

    /// Forgets what needs not be kept any longer of users without a session.
    pub(super) fn prune(&mut self, now: Millis) {
        while let Some(Reverse((until, _))) = self.kept.peek() {
            if *until > now && self.kept.len() <= KEPT_MAX {
                return;
            }
            let is_due = *until <= now;
            let Some(Reverse((_, key))) = self.kept.pop() else { return };
            if let Some(user) = self.users.get_mut(&key) {
                user.is_kept = false;
                if !is_due && user.sessions.is_empty() {
                    self.users.remove(&key); // there are too many
                } else {
                    self.settle(&key, now);
                }
            }
        }
    }

    /// A user without sessions is forgotten, unless a rate limit or an invalidation has to outlive them.
    fn settle(&mut self, key: &UserKey, now: Millis) {
        let Some(user) = self.users.get_mut(key) else { return };
        if !user.sessions.is_empty() {
            return;
        }
        user.status = Box::default();
        let limited = user.send_bucket.full_at_ms();
        let until = user.invalidated.as_ref().map_or(0, |invalidated| invalidated.1).max(limited);
        if until <= now {
            if !user.is_kept {
                self.users.remove(key);
            }
        } else if !std::mem::replace(&mut user.is_kept, true) {
            user.sessions = Vec::new();
            self.kept.push(Reverse((until, key.clone())));
        }
    }
}

impl User {
    fn signed_out_by(&self, new: &NewSession<'_>, settings: &Settings) -> Vec<usize> {
        if self.sessions.is_empty() {
            return Vec::new();
        }
        let older: Vec<_> = self.sessions.iter().map(Session::for_policy).collect();
        policy::signed_out(settings, &older, PolicyDevice { platform: new.platform, device: new.device })
    }
}

impl Session {
    /// One that another node holds.
    fn remote(remote: &RemoteSession) -> Self {
        Session {
            address: remote.address,
            number: remote.number,
            since_ms: remote.since_ms,
            device: remote.device.as_str().into(),
            platform: policy::counted(remote.platform),
            background: remote.background,
            is_doubtful: false,
        }
    }

    /// As another node is told of it.
    fn told(&self, status: &str) -> RemoteSession {
        RemoteSession {
            address: self.address,
            number: self.number,
            since_ms: self.since_ms,
            platform: self.platform,
            device: self.device.to_string(),
            background: self.background,
            status: status.to_owned(),
        }
    }

    /// Its place among the user's: the same on all nodes.
    fn order(&self) -> (u64, u64) {
        (self.since_ms, self.number)
    }

    fn for_policy(&self) -> PolicyDevice<'_> {
        PolicyDevice { platform: self.platform, device: &self.device }
    }

    /// As devices of the same user see it.
    fn describe(&self, asker: Option<Address>) -> Device {
        Device {
            session: self.number,
            platform: self.platform.into(),
            device: self.device.to_string(),
            since_ms: self.since_ms,
            background: self.background,
            own: asker == Some(self.address),
        }
    }
}

/// Of two states of a user that is there: in front, if one of them is.
fn in_front(known: i32, state: OnlineState) -> i32 {
    if known == OnlineState::Online as i32 { known } else { state.into() }
}

#[cfg(test)]
#[path = "online_tests.rs"]
mod tests;
