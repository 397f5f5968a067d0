//! Which connections of this core receive what groups are told: those of members, and those in live rooms.
//!
//! A session's groups are read from the store before its first page of the log; from then on the user's own news say
//! where it has come in or gone out, in the order of the log. A live room is joined by a connection itself.

use std::rc::Rc;

use ahash::{AHashMap, AHashSet};
use backend::domain::{AppId, GroupId, UserId, figures::Figure, groups::read};
use protocol::{
    EncodedPush,
    message::{GroupPush, GroupTips, group_push::What},
};

use super::{Core, connection::Connection, session::Session};
use crate::{
    callbacks::InRoom,
    mailbox::{Address, ConnectionId, Delivered},
};

/// Whose connection is in a room; a guest is nobody.
type Visitor = (Option<UserId>, ConnectionId);

/// Connections by group, and by the home of their user: whose news come from there.
#[derive(Default)]
pub(super) struct MemberTable {
    groups: AHashMap<(AppId, GroupId), AHashMap<u16, AHashSet<ConnectionId>>>,
}

impl MemberTable {
    fn insert(&mut self, app: AppId, group: &GroupId, home: u16, connection: ConnectionId) {
        self.groups.entry((app, group.clone())).or_default().entry(home).or_default().insert(connection);
    }

    fn remove(&mut self, app: AppId, group: &GroupId, home: u16, connection: ConnectionId) {
        let key = (app, group.clone());
        let Some(homes) = self.groups.get_mut(&key) else { return };
        if let Some(connections) = homes.get_mut(&home) {
            connections.remove(&connection);
            if connections.is_empty() {
                homes.remove(&home);
            }
        }
        if homes.is_empty() {
            self.groups.remove(&key);
        }
    }

    fn of(&self, app: AppId, group: &GroupId, home: u16) -> Vec<ConnectionId> {
        let homes = self.groups.get(&(app, group.clone()));
        homes.and_then(|homes| homes.get(&home)).into_iter().flatten().copied().collect()
    }
}

/// What a session receives from.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Groups that the user is a member of, and receives from.
    joined: AHashSet<GroupId>,
    /// Live rooms that this connection is in.
    rooms: AHashSet<GroupId>,
    feed: Loading,
}

/// Whether `joined` is what the store says.
#[derive(Debug, Default)]
enum Loading {
    /// It may not be: to be read before the log is.
    #[default]
    Stale,
    /// It is being read; what has come in meanwhile, in order.
    Running(Vec<(GroupId, bool)>),
    /// It is, and every change comes in order.
    Loaded,
}

impl Groups {
    /// The connection is in this live room.
    pub(super) fn is_in_room(&self, group: &GroupId) -> bool {
        self.rooms.contains(group)
    }

    /// Live rooms that the connection is in.
    pub(super) fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// What is known may be wrong: it is read again before the log is.
    pub(super) fn mark_stale(&mut self) {
        self.feed = Loading::Stale;
    }

    /// Begins to read the user's groups. `false`: they are known.
    fn start(&mut self) -> bool {
        let is_stale = matches!(self.feed, Loading::Stale);
        if is_stale {
            self.feed = Loading::Running(Vec::new());
        }
        is_stale
    }

    /// They were read. What is to be entered into the table, and taken from it.
    fn finish(&mut self, loaded: AHashSet<GroupId>) -> Vec<(GroupId, bool)> {
        // Marked stale meanwhile: this page is not the last, and they are read once more.
        let Loading::Running(changes) = std::mem::take(&mut self.feed) else { return Vec::new() };
        self.feed = Loading::Loaded;
        let mut now = loaded;
        for (group, is_in) in changes {
            if is_in {
                now.insert(group)
            } else {
                now.remove(&group)
            };
        }
        let gone: Vec<_> = self.joined.difference(&now).map(|group| (group.clone(), false)).collect();
        let come: Vec<_> = now.difference(&self.joined).map(|group| (group.clone(), true)).collect();
        self.joined = now;
        gone.into_iter().chain(come).collect()
    }

    /// The user has come into a group or gone out of it. Whether the table must learn of it.
    fn change(&mut self, group: &GroupId, is_in: bool) -> bool {
        match &mut self.feed {
            Loading::Stale => !is_in,
            Loading::Running(changes) => {
                changes.push((group.clone(), is_in));
                !is_in
            }
            Loading::Loaded => {
                if is_in {
                    self.joined.insert(group.clone())
                } else {
                    self.joined.remove(group)
                };
                true
            }
        }
    }
}

impl Core {
    /// Has everybody go out of live rooms that are gone, or that they were put out of: that may not have been heard.
    pub(super) async fn check_rooms(&self) {
        let shared = &self.shared;
        for ((app, group), connections) in self.in_rooms() {
            let Ok(banned) = read::banned_from_room(&shared.store, app, &group, shared.clock.unix_ms()).await else {
                // The store says why. It is asked again.
                self.is_out_doubtful.set(true);
                return;
            };
            for (user, id) in connections {
                let is_out = match (&banned, &user) {
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(banned), Some(user)) => banned.contains(user),
                };
                if is_out {
                    self.with_connection(id, |connection| enter_room(connection, &group, false));
                }
            }
        }
    }

    /// Which connections are in which live rooms, and whose they are; of guests nobody's.
    fn in_rooms(&self) -> AHashMap<(AppId, GroupId), Vec<Visitor>> {
        let mut all: AHashMap<_, Vec<_>> = AHashMap::default();
        for id in self.connection_ids() {
            self.with_connection(id, |connection| {
                connection.with_session(|session| {
                    for room in &session.groups.rooms {
                        let user = (!session.is_guest).then(|| session.user.clone());
                        all.entry((session.app, room.clone())).or_default().push((user, id));
                    }
                });
            });
        }
        all
    }

    /// Tells those of a group whose home is `home`.
    pub(super) fn deliver_to_group(
        &self,
        app: AppId,
        group: &GroupId,
        home: u16,
        origin: Option<Address>,
        what: &Delivered,
    ) {
        let connections = self.members.borrow().of(app, group, home);
        for id in connections {
            let own = origin == Some(self.address(id));
            let what = match (what, own) {
                (Delivered::Event(position, _), true) => Delivered::OwnEvent(*position),
                (Delivered::Push(_), true) => continue,
                (what, _) => what.clone(),
            };
            self.with_connection(id, |connection| connection.deliver_of_group(group, what));
        }
    }

    /// A session is gone, and with it its places.
    pub(super) fn leave_groups(&self, connection: ConnectionId, session: &mut Session) {
        let groups = std::mem::take(&mut session.groups);
        let mut members = self.members.borrow_mut();
        for group in groups.joined.iter().chain(&groups.rooms) {
            members.remove(session.app, group, session.home, connection);
        }
        drop(members);
        groups.rooms.iter().for_each(|room| self.note_in_room(session, room, InRoom::Lost));
    }

    /// Tells every connection that is in a live room of an application.
    pub(super) fn broadcast(&self, app: AppId, push: &EncodedPush) {
        for id in self.connection_ids() {
            self.with_connection(id, |connection| {
                let is_in = connection.with_session(|session| session.app == app && session.groups.rooms() > 0);
                if is_in == Some(true) {
                    connection.push_hint(push);
                }
            });
        }
    }

    /// A connection has come into a live room or gone out of it: tells those who are there, unless the user has others
    /// there (GRP-12). Nobody hears of guests.
    fn note_in_room(&self, session: &Session, group: &GroupId, how: InRoom) {
        let (rooms, app, is_in) = (self.shared.router.rooms(), session.app, how == InRoom::Came);
        let who = (!session.is_guest).then_some(&session.user);
        let is_news = if is_in {
            rooms.enter(app, group, who, self.shared.clock.unix_ms() / 1000)
        } else {
            rooms.leave(app, group, who)
        };
        let Some(user) = who.filter(|_| is_news) else { return };
        match how {
            InRoom::Came => self.shared.figures.count(app, Figure::GroupsJoined, 1),
            InRoom::Left => self.shared.figures.count(app, Figure::GroupsLeft, 1),
            InRoom::Lost => {}
        }
        self.shared.callbacks.states.note_in_room(app, group, user, session.caller.clone(), how);
        let pace = (self.shared.config.room_notices_per_second, self.shared.clock.monotonic_us());
        if let Some(tips) = rooms.news((app, group), user, is_in, pace) {
            self.tell_room(app, group, tips);
        }
    }

    /// Tells those in live rooms who has come and gone since they were told last.
    pub(super) fn tell_rooms(&self) {
        let pace = (self.shared.config.room_notices_per_second, self.shared.clock.monotonic_us());
        for ((app, group), tips) in self.shared.router.rooms().due(pace.0, pace.1) {
            self.tell_room(app, &group, tips);
        }
    }

    fn tell_room(&self, app: AppId, group: &GroupId, tips: GroupTips) {
        let push = EncodedPush::group(&GroupPush { what: Some(What::Tips(tips)) });
        self.shared.router.push_to_group(app, group, push);
    }
}

/// Sees to it that a session receives what its user's groups are told, before its log is read.
pub(super) async fn load(connection: &Rc<Connection>) -> Result<(), backend::domain::Error> {
    let start = connection.with_session(|session| {
        let starts = !session.is_guest && session.groups.start();
        starts.then(|| (session.app, session.user.clone()))
    });
    let Some(Some((app, user))) = start else { return Ok(()) };
    let loaded = read::joined_ids(&connection.core.shared.store, app, &user).await;
    let heard = match loaded {
        Ok(joined) => joined.into_iter().filter(|joined| joined.is_heard).map(|joined| joined.group).collect(),
        Err(error) => {
            connection.with_session(|session| session.groups.mark_stale());
            return Err(error);
        }
    };
    connection.with_session(|session| {
        let (app, home) = (session.app, session.home);
        let mut members = connection.core.members.borrow_mut();
        for (group, is_in) in session.groups.finish(heard) {
            match is_in {
                true => members.insert(app, &group, home, connection.id),
                false if !session.groups.is_in_room(&group) => members.remove(app, &group, home, connection.id),
                false => {}
            }
        }
    });
    Ok(())
}

/// The user of a session has come into a group or gone out of it.
pub(super) fn changed(core: &Core, connection: ConnectionId, session: &mut Session, group: &GroupId, is_in: bool) {
    if !is_in && session.groups.rooms.remove(group) {
        core.note_in_room(session, group, InRoom::Left);
    }
    if session.groups.change(group, is_in) {
        let mut members = core.members.borrow_mut();
        match is_in {
            true => members.insert(session.app, group, session.home, connection),
            false => members.remove(session.app, group, session.home, connection),
        }
    }
}

/// A connection comes into a live room, or goes out of it, and those who are there are told.
pub(super) fn enter_room(connection: &Connection, group: &GroupId, is_in: bool) {
    connection.with_session(|session| {
        let rooms = &mut session.groups.rooms;
        let changes = if is_in { rooms.insert(group.clone()) } else { rooms.remove(group) };
        if !changes {
            return;
        }
        let (core, app, home) = (&connection.core, session.app, session.home);
        match is_in {
            true => core.members.borrow_mut().insert(app, group, home, connection.id),
            false => core.members.borrow_mut().remove(app, group, home, connection.id),
        }
        core.note_in_room(session, group, if is_in { InRoom::Came } else { InRoom::Left });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str) -> GroupId {
        GroupId::new(name).unwrap()
    }

    #[test]
    fn connections_are_found_by_group_and_home() {
        let mut table = MemberTable::default();
        table.insert(1, &group("a"), 0, 7);
        table.insert(1, &group("a"), 1, 8);
        table.insert(2, &group("a"), 0, 9);
        assert_eq!(table.of(1, &group("a"), 0), [7]);
        table.remove(1, &group("a"), 0, 7);
        assert!(table.of(1, &group("a"), 0).is_empty());
        assert_eq!(table.of(1, &group("a"), 1), [8]);
        table.remove(1, &group("a"), 1, 8);
        table.remove(2, &group("a"), 0, 9);
        assert!(table.groups.is_empty(), "nothing is kept of groups that nobody is in");
    }

    #[test]
    fn what_changes_while_groups_are_read_is_applied_in_order() {
        let mut groups = Groups::default();
        assert!(!groups.change(&group("early"), true), "the store is going to say so");
        assert!(groups.start());
        assert!(!groups.start(), "one at a time");
        for (name, is_in) in [("left", false), ("joined", true), ("both", false), ("both", true)] {
            groups.change(&group(name), is_in);
        }
        let loaded = ["left", "both", "early"].map(group).into_iter().collect();
        let mut come = groups.finish(loaded);
        come.sort();
        assert_eq!(come, [("both", true), ("early", true), ("joined", true)].map(|(name, is_in)| (group(name), is_in)));
        assert!(groups.change(&group("both"), false));
        groups.mark_stale();
        assert!(groups.start());
        assert_eq!(groups.finish(AHashSet::default()).len(), 2, "early and joined are gone");
    }
}
