//! Presence: who is there, in front or in the background, and who is told when that changes (ACC-04).
//!
//! The home core of a user knows; it answers questions and tells followers. A push may be dropped when its
//! follower is slow, as events are: the follower is then told that it is behind, and asks again.

use std::rc::Rc;

use ahash::{AHashMap, AHashSet};
use backend::domain::{AppId, UserId};
use futures::channel::oneshot;
use prost::Message;
use protocol::{
    EncodedPush, ErrorCode,
    message::{
        Presence, QueryPresence, QueryPresenceReply, SetPresence, SetPresenceReply, SubscribePresence,
        SubscribePresenceReply,
    },
};

use super::{
    Core,
    connection::Connection,
    followers::News,
    online::UserKey,
    pages::{PAGE_OVERHEAD_BYTES, start_page},
    requests::{identity, invalid, user_id},
};
use crate::{
    errors::Refusal,
    homes::{self, Asked},
    mailbox::{Address, EVENTS_PER_MAIL_MAX, HomeMail, Mail, PresenceChange},
};

/// Users that one question may name.
const QUERY_USERS_MAX: usize = 500;

/// Users that one request may follow.
const SUBSCRIBE_USERS_MAX: usize = 200;

/// Longest status text, in bytes.
const STATUS_BYTES_MAX: usize = 128;

/// Tag and length of an element of a list, in bytes, at the most: its message is shorter than 2 MiB.
const ELEMENT_HEAD_BYTES: usize = 4;

/// Whom a session follows, and what it has to be told after the answers that are under way.
#[derive(Debug, Default)]
pub(super) struct Following {
    users: AHashSet<UserId>,
    /// Answers with presence that are under way. A push that overtook one would look older than it.
    answers_running: u32,
    /// The newest push of each user that waits for them.
    held: AHashMap<UserId, EncodedPush>,
}

impl Following {
    /// Those followed, when all is over.
    pub(super) fn into_users(self) -> Vec<UserId> {
        self.users.into_iter().collect()
    }

    /// A push about `user` is at hand. Returns whether to write it now.
    fn offer(&mut self, user: &UserId, push: &EncodedPush) -> bool {
        if !self.users.contains(user) {
            return false; // it was under way when the user was followed no longer
        }
        if self.answers_running > 0 {
            self.held.insert(user.clone(), push.clone());
        }
        self.answers_running == 0
    }

    /// An answer has been written. Returns what can be pushed now.
    fn answered(&mut self) -> Vec<EncodedPush> {
        self.answers_running = self.answers_running.saturating_sub(1);
        if self.answers_running > 0 {
            return Vec::new();
        }
        let held = std::mem::take(&mut self.held);
        held.into_iter().filter(|(user, _)| self.users.contains(user)).map(|(_, push)| push).collect()
    }
}

/// What a subscription changes.
#[derive(Debug, PartialEq)]
struct Change {
    follow: Vec<UserId>,
    unfollow: Vec<UserId>,
}

/// Applies a subscription to those followed; with more than `max` of them nothing changes.
fn subscribe(
    users: &mut AHashSet<UserId>,
    follow: &[UserId],
    without: &[UserId],
    reset: bool,
    max: usize,
) -> Result<Change, ErrorCode> {
    let mut after: AHashSet<UserId> = if reset { AHashSet::default() } else { users.clone() };
    without.iter().for_each(|user| _ = after.remove(user));
    after.extend(follow.iter().cloned());
    if after.len() > max {
        return Err(ErrorCode::LIST_FULL);
    }
    let unfollow = users.difference(&after).cloned().collect();
    *users = after;
    Ok(Change { follow: follow.to_vec(), unfollow })
}

/// A device says whether it is in the background, and what its user's status is.
pub(super) fn start_set_presence(connection: &Rc<Connection>, request: u32, set: SetPresence) -> Result<(), Refusal> {
    let SetPresence { background, status } = set;
    if status.as_ref().is_some_and(|status| status.len() > STATUS_BYTES_MAX || status.chars().any(char::is_control)) {
        return Err(invalid("status must have at most 128 bytes and no control characters"));
    }
    let (app, user) = identity(connection)?;
    let core = &connection.core;
    let (done, answer) = oneshot::channel();
    core.ask_home(HomeMail::SetPresence { app, user, address: core.address(connection.id), background, status, done });
    let task = connection.clone();
    core.spawn_for(connection, async move {
        match answer.await {
            Ok(()) => task.with_protocol(|protocol| protocol.respond(request, &SetPresenceReply {})),
            Err(_) => task.refuse(request, ErrorCode::SERVER_DRAINING),
        }
    });
    Ok(())
}

/// Answers with the presence of users.
pub(super) fn start_query(connection: &Rc<Connection>, request: u32, query: &QueryPresence) -> Result<(), Refusal> {
    if query.users.len() > QUERY_USERS_MAX {
        return Err(invalid("at most 500 users can be asked about at a time"));
    }
    let users = user_ids(&query.users)?;
    let (app, _) = identity(connection)?;
    start_page(connection)?;
    let asked = homes::ask_presence(&connection.core.shared.router, app, users, None);
    answer(
        connection,
        asked,
        move |task, users| {
            task.with_protocol(|protocol| protocol.respond(request, &QueryPresenceReply { users }));
        },
        request,
    );
    Ok(())
}

/// Follows users and follows others no longer.
pub(super) fn start_subscribe(
    connection: &Rc<Connection>,
    request: u32,
    wish: &SubscribePresence,
) -> Result<(), Refusal> {
    if wish.users.len() > SUBSCRIBE_USERS_MAX {
        return Err(invalid("at most 200 users can be followed in one request"));
    }
    let (follow, without) = (user_ids(&wish.users)?, user_ids(&wish.without)?);
    let (app, _) = identity(connection)?;
    start_page(connection)?;
    let core = &connection.core;
    let max = core.shared.config.presence_subscriptions_max;
    let change = connection
        .with_session(|session| {
            let users = &mut session.following.get_or_insert_default().users;
            subscribe(users, &follow, &without, wish.reset, max)
        })
        .unwrap_or(Err(ErrorCode::NOT_LOGGED_IN))
        .inspect_err(|_| connection.page_finished())?;
    let follower = core.address(connection.id);
    core.unfollow(app, change.unfollow, follower);
    let asked = homes::ask_presence(&core.shared.router, app, change.follow, Some(follower));
    answer(
        connection,
        asked,
        move |task, users| {
            task.with_protocol(|protocol| protocol.respond(request, &SubscribePresenceReply { users }));
        },
        request,
    );
    Ok(())
}

fn user_ids(names: &[String]) -> Result<Vec<UserId>, Refusal> {
    names.iter().map(|name| user_id(name)).collect()
}

/// Responds once all homes have answered, then pushes what has come meanwhile.
fn answer(
    connection: &Rc<Connection>,
    asked: Asked,
    respond: impl FnOnce(&Rc<Connection>, Vec<Presence>) + 'static,
    request: u32,
) {
    connection.with_session(|session| session.following.get_or_insert_default().answers_running += 1);
    let task = connection.clone();
    connection.core.spawn_for(connection, async move {
        let gathered = asked.gather().await;
        task.page_finished();
        match gathered {
            Some(users) => {
                let bytes_max = task.answer_bytes_max().saturating_sub(PAGE_OVERHEAD_BYTES);
                respond(&task, fitting(users, bytes_max));
            }
            None => task.refuse(request, ErrorCode::SERVER_DRAINING),
        }
        let held = task.with_session(|session| session.following.as_mut().map(|following| following.answered()));
        for push in held.flatten().unwrap_or_default() {
            task.push_hint(&push);
        }
    });
}

/// As many of them as fit into an answer.
fn fitting(mut users: Vec<Presence>, bytes_max: usize) -> Vec<Presence> {
    let mut bytes = 0;
    let fits = users.iter().take_while(|user| {
        bytes += user.encoded_len() + ELEMENT_HEAD_BYTES;
        bytes <= bytes_max
    });
    let count = fits.count();
    users.truncate(count);
    users
}

impl Core {
    /// Tells the homes of `users` that `follower` follows them no longer.
    pub(super) fn unfollow(&self, app: AppId, users: Vec<UserId>, follower: Address) {
        let router = &self.shared.router;
        for (_, users) in homes::by_home(router, app, users) {
            homes::post(router, HomeMail::Unfollow { app, users, follower });
        }
    }

    /// The presence of users whose home is here; `follower` is told of its changes from now on.
    pub(super) fn presence_of(&self, app: AppId, users: Vec<UserId>, follower: Option<Address>) -> Vec<Presence> {
        let online = self.online.borrow();
        let mut followers = self.followers.borrow_mut();
        let look_up = |user| {
            let key = (app, user);
            let presence = online.presence(&key);
            match follower {
                Some(follower) => followers.add(&key, follower, &presence),
                None => followers.told_one(&key, &presence),
            }
            presence
        };
        users.into_iter().map(look_up).collect()
    }

    /// A user whose home is here may look different now: tells the followers, now or soon.
    pub(super) fn presence_changed(&self, key: &UserKey) {
        let cores = self.shared.router.mailboxes().len();
        let presence = || self.online.borrow().presence(key);
        let news = self.followers.borrow_mut().changed(key, self.now(), cores, presence);
        let Some(News { push, followers }) = news else { return };
        for (connections, core) in followers.into_iter().zip(0..) {
            for connections in connections.chunks(EVENTS_PER_MAIL_MAX) {
                let (app, user) = key.clone();
                let change = PresenceChange { app, user, push: push.clone(), connections: connections.to_vec() };
                // To this core too: there may be many, and others wait for their turn.
                if !self.shared.router.mailbox(core).put_hints(Mail::Presence(Box::new(change))) {
                    self.metrics.presence_dropped.increment(connections.len() as u64);
                }
            }
        }
    }

    /// Tells what had to wait, and forgets what needs not be kept.
    pub(super) fn tick_home(&self) {
        let now = self.now();
        self.online.borrow_mut().prune(now);
        let due = self.followers.borrow_mut().due(now);
        due.iter().for_each(|key| self.presence_changed(key));
        self.metrics.presence_follows.set(self.followers.borrow().follows() as f64);
    }

    /// Pushes a change to the connections here that follow.
    pub(super) fn deliver_presence(&self, change: PresenceChange) {
        let PresenceChange { app, user, push, connections } = change;
        for id in connections {
            self.with_connection(id, |connection| {
                let is_wanted = connection.with_session(|session| {
                    session.app == app && session.following.as_mut().is_some_and(|it| it.offer(&user, &push))
                });
                if is_wanted == Some(true) && connection.push_hint(&push) {
                    self.metrics.presence_pushes.increment(1);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(names: &[&str]) -> Vec<UserId> {
        names.iter().map(|name| UserId::new(name).unwrap()).collect()
    }

    fn sorted(set: impl IntoIterator<Item = UserId>) -> Vec<UserId> {
        let mut all: Vec<_> = set.into_iter().collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn a_subscription_changes_what_it_says_or_nothing() {
        let mut followed = AHashSet::default();
        let mut apply = |follow: &[&str], without: &[&str], reset, max| {
            let change = subscribe(&mut followed, &users(follow), &users(without), reset, max);
            change.map(|change| (change.follow, sorted(change.unfollow), sorted(followed.clone())))
        };
        let none = Vec::new;
        assert_eq!(apply(&["a", "b", "a"], &[], false, 3), Ok((users(&["a", "b", "a"]), none(), users(&["a", "b"]))));
        assert_eq!(apply(&["c", "d"], &[], false, 3), Err(ErrorCode::LIST_FULL));
        assert_eq!(apply(&["c", "a"], &["x"], false, 3), Ok((users(&["c", "a"]), none(), users(&["a", "b", "c"]))));
        assert_eq!(apply(&["d"], &["a"], false, 3), Ok((users(&["d"]), users(&["a"]), users(&["b", "c", "d"]))));
        assert_eq!(apply(&["e", "b"], &[], true, 2), Ok((users(&["e", "b"]), users(&["c", "d"]), users(&["b", "e"]))));
        assert_eq!(apply(&["e"], &["e"], false, 2), Ok((users(&["e"]), none(), users(&["b", "e"]))), "still followed");
        assert_eq!(apply(&[], &[], true, 2), Ok((none(), users(&["b", "e"]), none())));
    }

    #[test]
    fn a_push_never_overtakes_an_answer_and_the_newest_of_a_user_stays() {
        let push = |status: &str| EncodedPush::presence(&Presence { status: status.into(), ..Presence::default() });
        let [anna, ben] = ["anna", "ben"].map(|name| UserId::new(name).unwrap());
        let mut following = Following { users: [anna.clone()].into_iter().collect(), ..Following::default() };
        assert!(following.offer(&anna, &push("1")));
        assert!(!following.offer(&ben, &push("1")), "not followed");
        following.answers_running = 2;
        assert!(!following.offer(&anna, &push("2")));
        assert!(!following.offer(&anna, &push("3")));
        assert!(following.answered().is_empty(), "another answer is under way");
        assert_eq!(following.answered(), [push("3")]);
        assert!(following.offer(&anna, &push("4")));
        following.answers_running = 1;
        assert!(!following.offer(&anna, &push("5")));
        following.users.clear();
        assert!(following.answered().is_empty(), "followed no longer");
    }

    #[test]
    fn an_answer_is_cut_to_what_the_client_takes() {
        let presence = Presence { user: "x".repeat(32), status: "s".repeat(128), ..Presence::default() };
        let all = vec![presence; 500];
        let reply = |bytes_max| QueryPresenceReply { users: fitting(all.clone(), bytes_max) };
        assert_eq!(reply(1 << 20).users.len(), 500);
        let cut = reply(32_000);
        assert!((150..200).contains(&cut.users.len()), "{}", cut.users.len());
        assert!(cut.encoded_len() <= 32_000);
    }
}
