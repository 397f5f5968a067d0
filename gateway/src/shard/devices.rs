//! A user's devices: entering and leaving the online table, the device list, signing out (LOGIN-01 to
//! LOGIN-05, ACC-02).

use std::{rc::Rc, sync::atomic::Ordering};

use ahash::AHashMap;
use backend::domain::{
    AppId, UserId, account,
    callbacks::{Caller, CallerPlatform, StateReason},
};
use futures::channel::oneshot;
use protocol::{
    ErrorCode,
    message::{Device, DevicesReply, SignOut, SignOutReply},
};

use super::{
    Core,
    connection::Connection,
    online::{NewSession, Removed, UserKey},
    requests::{caller_platform, identity, invalid},
    session::Session,
};
use crate::{
    errors::Refusal,
    homes,
    mailbox::{Address, Admission, ConnectionId, HERE, HomeMail, Mail, Registration, SignedOut, Which},
};

/// Sessions that one request may name.
const SIGN_OUT_SESSIONS_MAX: usize = 100;

/// Answers with the user's devices.
pub(super) fn start_devices(connection: &Rc<Connection>, request: u32) -> Result<(), Refusal> {
    let (app, user) = identity(connection)?;
    let core = &connection.core;
    let (answer, devices) = oneshot::channel();
    let asker = core.address(connection.id);
    core.ask_home(HomeMail::Devices { app, user, asker, answer });
    let task = connection.clone();
    core.spawn_for(connection, async move {
        match devices.await {
            Ok(devices) => task.with_protocol(|protocol| protocol.respond(request, &DevicesReply { devices })),
            Err(_) => task.refuse(request, ErrorCode::SERVER_DRAINING),
        }
    });
    Ok(())
}

/// Signs devices of the user out.
pub(super) fn start_sign_out(connection: &Rc<Connection>, request: u32, wish: SignOut) -> Result<(), Refusal> {
    if wish.sessions.len() > SIGN_OUT_SESSIONS_MAX {
        return Err(invalid("at most 100 sessions can be signed out at a time"));
    }
    identity(connection)?;
    let task = connection.clone();
    connection.core.spawn_for(connection, async move {
        match sign_out(&task, wish).await {
            Ok(SignedOut { count, own }) => task.with_protocol(|protocol| {
                protocol.respond(request, &SignOutReply { count });
                if let Some(own) = own {
                    protocol.sign_out(own);
                }
            }),
            Err(refusal) => task.refuse(request, refusal),
        }
    });
    Ok(())
}

async fn sign_out(connection: &Rc<Connection>, wish: SignOut) -> Result<SignedOut, Refusal> {
    let core = &connection.core;
    let (app, user) = identity(connection)?;
    let which = if wish.invalidate_usersigs {
        // First of all durably: what is signed out afterwards can't come back with what it has.
        let usersigs_from_s = account::invalidate_usersigs(&core.shared.store, &core.shared.clock, app, &user).await?;
        Which::All { usersigs_from_s }
    } else if wish.sessions.is_empty() {
        Which::Others
    } else {
        Which::Chosen(wish.sessions)
    };
    let (answer, signed_out) = oneshot::channel();
    core.ask_home(HomeMail::SignOut { app, user, asker: Some(core.address(connection.id)), which, answer });
    signed_out.await.map_err(|_| ErrorCode::SERVER_DRAINING.into())
}

impl Core {
    /// Sends mail to the home core that it is for.
    pub(super) fn ask_home(&self, mail: HomeMail) {
        homes::post(&self.shared.router, mail);
    }

    /// A session has ended: it leaves the table of its home, and follows nobody any more.
    pub(super) fn leave_home(&self, connection: ConnectionId, mut session: Session, reason: StateReason) {
        let address = self.address(connection);
        self.leave_groups(connection, &mut session);
        if session.is_guest {
            self.shared.guests.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let Session { app, user, home, caller, following, .. } = session;
        if let Some(following) = following {
            self.unfollow(app, following.into_users(), address);
        }
        self.shared.router.mailbox(home).put(Mail::Unregister { app, user, address, caller, reason });
    }

    /// A login with a good credential: decides which older sessions have to go.
    pub(super) fn register(&self, registration: Registration) {
        let Registration { app, user, address, platform, device, background, caller, issued_s, settings, registered } =
            registration;
        let since_ms = self.shared.clock.unix_ms();
        let new = NewSession { address, platform, device: &device, background, issued_s, since_ms };
        let key = (app, user);
        let max = self.shared.config.sessions_per_user_max;
        let admitted = self.online.borrow_mut().insert(key.clone(), &new, &settings, max);
        let answer = admitted.map(|admitted| {
            // As published: that others had to go is told with the login that made them.
            let platforms = admitted.signed_out.iter().map(|(_, platform)| caller_platform(*platform));
            self.shared.callbacks.states.note(app, &key.1, caller, StateReason::Login, platforms);
            let signed_out: Vec<Address> = admitted.signed_out.iter().map(|(address, _)| *address).collect();
            self.tell_signed_out(&signed_out, &admitted.by);
            self.tell_ended(&key, &signed_out);
            self.tell_sessions(&key);
            self.presence_changed(&key);
            self.shared.arrivals.arrived(key.0, &key.1);
            Admission { send_bucket: admitted.send_bucket }
        });
        // The session may have gone meanwhile; its own Unregister follows.
        let _ = registered.send(answer);
    }

    /// A session is gone.
    pub(super) fn unregister(&self, key: &UserKey, address: Address, caller: Caller, reason: StateReason) {
        if self.online.borrow_mut().remove(key, address, self.now()) {
            self.shared.callbacks.states.note(key.0, &key.1, caller, reason, []);
            self.tell_gone(key, address);
            self.presence_changed(key);
        }
    }

    /// Answers what a core is asked about users whose home is here.
    pub(super) fn handle_home(&self, mail: HomeMail) {
        // Whoever asked may be gone: nobody has to hear an answer.
        match mail {
            HomeMail::Devices { app, user, asker, answer } => {
                let _ = answer.send(self.online.borrow().devices(&(app, user), asker));
            }
            HomeMail::SignOut { app, user, asker, which, answer } => {
                let _ = answer.send(self.sign_out(&(app, user), asker, &which));
            }
            HomeMail::SetPresence { app, user, address, background, status, done } => {
                let key = (app, user);
                self.online.borrow_mut().set_presence(&key, address, background, status);
                self.tell_sessions(&key);
                self.presence_changed(&key);
                let _ = done.send(());
            }
            HomeMail::Presence { app, users, follower, answer } => {
                let _ = answer.send(self.presence_of(app, users, follower));
            }
            HomeMail::Online { app, answer } => {
                let _ = answer.send(self.online.borrow().users(app));
            }
            HomeMail::Broadcast { app, push } => self.broadcast(app, &push),
            HomeMail::Unfollow { app, users, follower } => {
                let mut followers = self.followers.borrow_mut();
                users.into_iter().for_each(|user| followers.remove(&(app, user), follower));
            }
        }
    }

    fn sign_out(&self, key: &UserKey, asker: Option<Address>, which: &Which) -> SignedOut {
        let Removed { others, own, by } = self.online.borrow_mut().sign_out(key, asker, which, self.now());
        self.tell_signed_out(&others, &by);
        self.tell_ended(key, &others);
        if let (Which::All { usersigs_from_s }, Some(cluster)) = (which, self.shared.router.cluster()) {
            cluster.invalidated(key.0, &key.1, *usersigs_from_s, &by);
        }
        // Nobody among the user's devices has asked for it: then it was an administrator, through the server API.
        let platform = asker.map_or(CallerPlatform::RestApi, |_| caller_platform(by.platform()));
        for _ in 0..others.len() + usize::from(own.is_some()) {
            let caller = Caller { platform, ..Caller::default() };
            self.shared.callbacks.states.note(key.0, &key.1, caller, StateReason::Logout, []);
        }
        asker.filter(|_| own.is_some()).into_iter().for_each(|asker| self.tell_gone(key, asker));
        self.presence_changed(key);
        SignedOut { count: (others.len() + usize::from(own.is_some())) as u32, own }
    }

    pub(super) fn tell_signed_out(&self, sessions: &[Address], by: &Device) {
        for session in sessions {
            if session.node != HERE {
                if let Some(cluster) = self.shared.router.cluster() {
                    cluster.sign_out(*session, by);
                }
                continue;
            }
            let mail = Mail::SignedOut { connection: session.connection, by: Box::new(by.clone()) };
            self.shared.router.mailbox(session.core).put(mail);
        }
    }

    /// Ends sessions whose UserSigs are not good any more (ACC-02, ACC-03): that it was said at another node may not have
    /// been heard here.
    pub(super) async fn check_usersigs(&self) {
        if self.shared.router.cluster().is_none() {
            return;
        }
        for (app, sessions) in self.sessions() {
            for some in sessions.chunks(account::ACCOUNTS_MAX) {
                let users = some.iter().map(|(user, ..)| user.clone()).collect();
                let Ok(from_s) = account::usersigs_from_s(&self.shared.store, app, users).await else {
                    // The store says why. It is asked again.
                    self.is_out_doubtful.set(true);
                    return;
                };
                for ((_, issued_s, id), _) in some.iter().zip(from_s).filter(|((_, issued_s, _), from)| issued_s < from)
                {
                    tracing::info!(app, issued_s, "a session ends whose UserSig was made invalid elsewhere");
                    self.with_connection(*id, |connection| {
                        connection.with_protocol(|protocol| protocol.sign_out(Device::default()));
                    });
                }
            }
        }
    }

    /// Sessions of accounts here, by application: each with when its credential was issued.
    fn sessions(&self) -> AHashMap<AppId, Vec<(UserId, u64, ConnectionId)>> {
        let mut all: AHashMap<_, Vec<_>> = AHashMap::default();
        for id in self.connection_ids() {
            self.with_connection(id, |connection| {
                connection.with_session(|session| {
                    if !session.is_guest {
                        all.entry(session.app).or_default().push((session.user.clone(), session.issued_s, id));
                    }
                });
            });
        }
        all
    }

    /// Tells other nodes of sessions that are out of the table.
    fn tell_ended(&self, key: &UserKey, sessions: &[Address]) {
        sessions.iter().filter(|session| session.node == HERE).for_each(|session| self.tell_gone(key, *session));
    }
}
