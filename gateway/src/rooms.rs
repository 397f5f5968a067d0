//! Who is in live rooms through this process, and how those there are told who comes and goes (GRP-03, GRP-12, GRP-25).
//!
//! Touched when somebody comes or goes, never for a message. Of other nodes their numbers are known, as they say them: a
//! user who is there through two nodes counts twice.
//!
//! What may not live here: whether somebody may be in a room, and which connections are told (`shard/members.rs`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ahash::{AHashMap, AHashSet};
use backend::domain::{AppId, GroupId, UserId};
use protocol::{
    link_message::{PeerRoom, PeerRooms},
    message::{GroupTips, group_tips::Kind},
};

use crate::mailbox::NodeIndex;

/// Users named in one notice of who has come or gone, at the most; nobody hears of more.
const NAMES_MAX: usize = 100;

/// Different marks of those who are in a room, at the most, and users with one of them: as published.
const MARKS_MAX: usize = 10;
const MARKED_MAX: usize = 1_000;

/// Rooms whose numbers are told together, at the most.
const ROOMS_PER_FRAME_MAX: usize = 1_000;

/// The rooms that somebody is in.
#[derive(Default)]
pub struct Rooms(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    rooms: AHashMap<RoomKey, Room>,
    /// Rooms with notices that wait for their time.
    waiting: Vec<RoomKey>,
    /// Who is there through other nodes.
    elsewhere: AHashMap<RoomKey, Vec<Elsewhere>>,
    /// Rooms whose numbers have changed since other nodes were told.
    untold: AHashSet<RoomKey>,
    /// Among them are all rooms: there is a node that has not been told of any.
    is_all_untold: bool,
}

/// How many are in a room through another node.
struct Elsewhere {
    node: NodeIndex,
    members: usize,
    guests: usize,
    /// The node tells of all rooms anew, and has not named this one yet.
    is_doubtful: bool,
}

type RoomKey = (AppId, GroupId);

#[derive(Default)]
struct Room {
    /// Users, by name.
    users: BTreeMap<UserId, Visit>,
    guests: u32,
    /// Users with a mark that the application has given them, for as long as they are there.
    marks: BTreeMap<u32, BTreeSet<UserId>>,
    /// When the next notice may be told, microseconds of the process's clock.
    next_us: u64,
    come: Vec<UserId>,
    gone: Vec<UserId>,
}

#[derive(Default)]
struct Visit {
    connections: u32,
    /// When the first of them came, seconds since the Unix epoch.
    since_s: u64,
}

/// How many are in rooms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    pub rooms: usize,
    /// Users, once for each room.
    pub members: usize,
    /// Connections without an account, once for each room.
    pub guests: usize,
}

/// A connection that comes or goes: a user's, or a guest's.
pub type Who<'a> = Option<&'a UserId>;

impl Rooms {
    /// A connection comes in. Whether it is the first of its user.
    pub fn enter(&self, app: AppId, room: &GroupId, who: Who<'_>, now_s: u64) -> bool {
        let mut inner = self.inner();
        let key = (app, room.clone());
        inner.untold.insert(key.clone());
        let room = inner.rooms.entry(key).or_default();
        match who {
            Some(user) => {
                let visit = room.users.entry(user.clone()).or_insert(Visit { connections: 0, since_s: now_s });
                visit.connections += 1;
                visit.connections == 1
            }
            None => {
                room.guests += 1;
                false
            }
        }
    }

    /// A connection goes out. Whether it was the last of its user.
    pub fn leave(&self, app: AppId, room: &GroupId, who: Who<'_>) -> bool {
        let mut inner = self.inner();
        let key = (app, room.clone());
        inner.untold.insert(key.clone());
        let Some(room) = inner.rooms.get_mut(&key) else { return false };
        let is_last = match who {
            Some(user) => match room.users.get_mut(user) {
                Some(visit) if visit.connections > 1 => {
                    visit.connections -= 1;
                    false
                }
                _ => room.remove(user),
            },
            None => {
                room.guests = room.guests.saturating_sub(1);
                false
            }
        };
        if room.users.is_empty() && room.guests == 0 {
            // Nobody is there to be told anything.
            inner.rooms.remove(&key);
        }
        is_last
    }

    /// Users in a room with when they came, by name: so many, behind the first `skip`. Both should be small: nobody comes
    /// or goes meanwhile.
    pub fn present(&self, app: AppId, room: &GroupId, skip: usize, limit: usize) -> Vec<(UserId, u64)> {
        let inner = self.inner();
        let Some(room) = inner.rooms.get(&(app, room.clone())) else { return Vec::new() };
        room.users.iter().skip(skip).take(limit).map(|(user, visit)| (user.clone(), visit.since_s)).collect()
    }

    /// The same of those who have a mark.
    pub fn marked(&self, app: AppId, room: &GroupId, mark: u32, skip: usize, limit: usize) -> Vec<(UserId, u64)> {
        let inner = self.inner();
        let Some(room) = inner.rooms.get(&(app, room.clone())) else { return Vec::new() };
        let marked = room.marks.get(&mark).into_iter().flatten().skip(skip).take(limit);
        marked.filter_map(|user| Some((user.clone(), room.users.get(user)?.since_s))).collect()
    }

    /// Gives a user who is in a room marks, or takes them off. Whether that was done: not for who is not there, nor over
    /// the limits.
    pub fn mark(&self, app: AppId, room: &GroupId, user: &UserId, marks: &[u32], is_set: bool) -> bool {
        let mut inner = self.inner();
        let room = inner.rooms.get_mut(&(app, room.clone()));
        let Some(room) = room.filter(|room| room.users.contains_key(user)) else { return false };
        match is_set {
            true => room.mark(user, marks),
            false => {
                room.unmark(user, |mark| marks.contains(&mark));
                true
            }
        }
    }

    /// How many users are in a room, and how many guests, on all nodes together.
    pub fn count(&self, app: AppId, room: &GroupId) -> (usize, usize) {
        let inner = self.inner();
        let key = (app, room.clone());
        let here = inner.rooms.get(&key).map_or((0, 0), |room| (room.users.len(), room.guests as usize));
        let elsewhere = inner.elsewhere.get(&key).into_iter().flatten();
        elsewhere.fold(here, |sum, there| (sum.0 + there.members, sum.1 + there.guests))
    }

    /// How many are in rooms through this node, of those that have changed since this was asked last: of so many rooms
    /// as go into a frame.
    pub fn untold_numbers(&self) -> Option<PeerRooms> {
        let mut inner = self.inner();
        let untold: Vec<RoomKey> = inner.untold.iter().take(ROOMS_PER_FRAME_MAX).cloned().collect();
        untold.iter().for_each(|key| _ = inner.untold.remove(key));
        let rooms: Vec<PeerRoom> = untold.iter().map(|key| inner.numbers_of(key)).collect();
        let all_told = inner.untold.is_empty() && std::mem::take(&mut inner.is_all_untold);
        (all_told || !rooms.is_empty()).then_some(PeerRooms { from_scratch: false, rooms, all_told })
    }

    /// There is somebody who has not been told of any room.
    pub fn tell_all_anew(&self) {
        let mut inner = self.inner();
        let Inner { rooms, untold, is_all_untold, .. } = &mut *inner;
        untold.extend(rooms.keys().cloned());
        *is_all_untold = true;
    }

    /// Another node says how many are in rooms through it.
    pub fn heard(&self, node: NodeIndex, said: PeerRooms) {
        let mut inner = self.inner();
        if said.from_scratch {
            let there = inner.elsewhere.values_mut().flatten().filter(|there| there.node == node);
            there.for_each(|there| there.is_doubtful = true);
        }
        for PeerRoom { sdkappid, group, members, guests } in said.rooms {
            let Some(group) = GroupId::new(&group) else { continue };
            let nodes = inner.elsewhere.entry((sdkappid, group.clone())).or_default();
            nodes.retain(|there| there.node != node);
            let (members, guests) = (members as usize, guests as usize);
            if members + guests > 0 {
                nodes.push(Elsewhere { node, members, guests, is_doubtful: false });
            }
            if nodes.is_empty() {
                inner.elsewhere.remove(&(sdkappid, group));
            }
        }
        if said.all_told {
            inner.forget(|there| there.node == node && there.is_doubtful);
        }
    }

    /// A node is gone, and nobody is anywhere through it.
    pub fn forget_node(&self, node: NodeIndex) {
        self.inner().forget(|there| there.node == node);
    }

    /// Which of these users are in a room.
    pub fn are_in(&self, app: AppId, room: &GroupId, users: &[UserId]) -> Vec<bool> {
        let inner = self.inner();
        let room = inner.rooms.get(&(app, room.clone()));
        users.iter().map(|user| room.is_some_and(|room| room.users.contains_key(user))).collect()
    }

    /// How many are in all rooms together.
    pub fn numbers(&self) -> Numbers {
        let inner = self.inner();
        let add = |sum: Numbers, room: &Room| Numbers {
            members: sum.members + room.users.len(),
            guests: sum.guests + room.guests as usize,
            ..sum
        };
        inner.rooms.values().fold(Numbers { rooms: inner.rooms.len(), ..Numbers::default() }, add)
    }

    /// A user has come or gone: what those there are told of it now. Over so many notices a second it waits, and is told
    /// together with others.
    pub fn news(
        &self,
        (app, room): (AppId, &GroupId),
        user: &UserId,
        is_in: bool,
        (per_second, now_us): (u32, u64),
    ) -> Option<GroupTips> {
        let mut inner = self.inner();
        let key = (app, room.clone());
        let known = inner.rooms.get_mut(&key).filter(|_| per_second > 0)?;
        let is_waiting = known.is_waiting();
        if !is_waiting && now_us >= known.next_us {
            known.next_us = now_us + 1_000_000 / u64::from(per_second);
            return Some(notice(room, is_in, vec![user.clone()]));
        }
        // Those who have come are told before those who have gone: who is back again has not gone.
        let back = known.gone.iter().position(|waiting| waiting == user).filter(|_| is_in);
        let list = if is_in { &mut known.come } else { &mut known.gone };
        match back {
            Some(place) => _ = known.gone.swap_remove(place),
            None if list.len() < NAMES_MAX => list.push(user.clone()),
            None => metrics::counter!("gateway_room_notices_dropped_total").increment(1),
        }
        if !is_waiting && known.is_waiting() {
            inner.waiting.push(key);
        }
        None
    }

    /// The notices that have waited for their time.
    pub fn due(&self, per_second: u32, now_us: u64) -> Vec<(RoomKey, GroupTips)> {
        let mut inner = self.inner();
        let mut due = Vec::new();
        let Inner { rooms, waiting, .. } = &mut *inner;
        waiting.retain(|key| {
            let Some(room) = rooms.get_mut(key) else { return false };
            if now_us < room.next_us && per_second > 0 {
                return true;
            }
            let (come, gone) = (std::mem::take(&mut room.come), std::mem::take(&mut room.gone));
            room.next_us = now_us + 1_000_000 / u64::from(per_second.max(1));
            for (users, is_in) in [(come, true), (gone, false)] {
                if !users.is_empty() && per_second > 0 {
                    due.push((key.clone(), notice(&key.1, is_in, users)));
                }
            }
            false
        });
        due
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget(&mut self, is_gone: impl Fn(&Elsewhere) -> bool) {
        self.elsewhere.retain(|_, nodes| {
            nodes.retain(|there| !is_gone(there));
            !nodes.is_empty()
        });
    }

    fn numbers_of(&self, key: &RoomKey) -> PeerRoom {
        let here = self.rooms.get(key).map_or((0, 0), |room| (room.users.len() as u32, room.guests));
        PeerRoom { sdkappid: key.0, group: key.1.to_string(), members: here.0, guests: here.1 }
    }
}

impl Room {
    /// Whether the user was there.
    fn remove(&mut self, user: &UserId) -> bool {
        self.unmark(user, |_| true);
        self.users.remove(user).is_some()
    }

    /// All of the marks, or none.
    fn mark(&mut self, user: &UserId, marks: &[u32]) -> bool {
        let marks: BTreeSet<u32> = marks.iter().copied().collect();
        let new = marks.iter().filter(|mark| !self.marks.contains_key(*mark)).count();
        let is_full =
            |mark: &u32| self.marks.get(mark).is_some_and(|users| users.len() >= MARKED_MAX && !users.contains(user));
        if self.marks.len() + new > MARKS_MAX || marks.iter().any(is_full) {
            return false;
        }
        marks.into_iter().for_each(|mark| _ = self.marks.entry(mark).or_default().insert(user.clone()));
        true
    }

    fn unmark(&mut self, user: &UserId, which: impl Fn(u32) -> bool) {
        self.marks.retain(|mark, users| {
            if which(*mark) {
                users.remove(user);
            }
            !users.is_empty()
        });
    }

    fn is_waiting(&self) -> bool {
        !self.come.is_empty() || !self.gone.is_empty()
    }
}

/// Users have come or gone: `by` names one who has, alone.
fn notice(room: &GroupId, is_in: bool, users: Vec<UserId>) -> GroupTips {
    let by = if let [user] = &users[..] { user.to_string() } else { String::new() };
    GroupTips {
        kind: if is_in { Kind::Joined } else { Kind::Left }.into(),
        group: room.to_string(),
        by,
        users: users.iter().map(UserId::to_string).collect(),
        ..GroupTips::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn room() -> GroupId {
        GroupId::new("room").unwrap()
    }

    #[test]
    fn grp_25_users_count_once_however_many_devices_they_have() {
        let (rooms, room, anna) = (Rooms::default(), room(), user("anna"));
        assert!(rooms.enter(1, &room, Some(&anna), 7));
        assert!(!rooms.enter(1, &room, Some(&anna), 7), "the second device");
        assert!(!rooms.enter(1, &room, None, 7));
        assert!(rooms.enter(2, &room, Some(&anna), 7), "another application's");
        assert_eq!(rooms.count(1, &room), (1, 1));
        assert_eq!(rooms.numbers(), Numbers { rooms: 2, members: 2, guests: 1 });
        assert_eq!(rooms.are_in(1, &room, &[anna.clone(), user("ben")]), [true, false]);
        assert!(!rooms.leave(1, &room, Some(&anna)));
        assert!(rooms.leave(1, &room, Some(&anna)), "the last device");
        assert!(!rooms.leave(1, &room, Some(&anna)), "gone already");
        rooms.leave(1, &room, None);
        rooms.leave(2, &room, Some(&anna));
        assert_eq!(rooms.numbers(), Numbers::default(), "nothing is kept of empty rooms");
    }

    #[test]
    fn geo_01_numbers_of_many_rooms_are_told_some_at_a_time() {
        let (here, there) = (Rooms::default(), Rooms::default());
        let room = |number: usize| GroupId::new(&format!("room {number}")).unwrap();
        (0..2_500).for_each(|number| _ = here.enter(1, &room(number), None, 7));
        let tell = || {
            std::iter::from_fn(|| here.untold_numbers()).map(|told| {
                let count = told.rooms.len();
                there.heard(3, told);
                count
            })
        };
        assert_eq!(tell().collect::<Vec<_>>(), [1_000, 1_000, 500]);
        assert_eq!(tell().count(), 0);
        // It is linked anew, and one has left meanwhile who could not be heard to.
        here.leave(1, &room(7), None);
        assert_eq!(here.untold_numbers().map(|lost| lost.rooms.len()), Some(1));
        let scratch = PeerRooms { from_scratch: true, ..PeerRooms::default() };
        there.heard(3, scratch.clone());
        assert!((0..2_500).all(|number| there.count(1, &room(number)) == (0, 1)), "believed in until it has told all");
        here.tell_all_anew();
        assert_eq!(tell().collect::<Vec<_>>(), [1_000, 1_000, 499]);
        assert!((0..2_500).all(|number| there.count(1, &room(number)) == (0, usize::from(number != 7))));
        // Nobody is anywhere: that is told as well.
        (0..2_500).filter(|number| *number != 7).for_each(|number| _ = here.leave(1, &room(number), None));
        while here.untold_numbers().is_some() {}
        there.heard(3, scratch);
        here.tell_all_anew();
        assert_eq!(tell().collect::<Vec<_>>(), [0]);
        assert!((0..2_500).all(|number| there.count(1, &room(number)) == (0, 0)));
    }

    #[test]
    fn grp_12_over_the_rate_notices_wait_and_are_told_together() {
        let (rooms, room) = (Rooms::default(), room());
        let at = |now_us| (2, now_us);
        let come = |name: &str, now_us| {
            rooms.enter(1, &room, Some(&user(name)), 7);
            rooms.news((1, &room), &user(name), true, at(now_us)).map(|tips| tips.users)
        };
        assert_eq!(come("a", 0), Some(vec!["a".to_owned()]));
        assert_eq!([come("b", 1_000), come("c", 2_000), come("d", 3_000)], [None, None, None]);
        // One goes again, another one goes and is back.
        for (name, is_in) in [("c", false), ("b", false), ("b", true)] {
            assert_eq!(rooms.news((1, &room), &user(name), is_in, at(4_000)), None);
        }
        assert!(rooms.due(2, 499_999).is_empty(), "it is not time yet");
        let due: Vec<_> =
            rooms.due(2, 500_000).into_iter().map(|(_, tips)| (tips.kind(), tips.users, tips.by)).collect();
        let told = ["b", "c", "d"].map(str::to_owned).to_vec();
        assert_eq!(due, [(Kind::Joined, told, String::new()), (Kind::Left, vec!["c".to_owned()], "c".to_owned())]);
        assert!(rooms.due(2, 9_000_000).is_empty());
        assert_eq!(come("e", 9_000_000), Some(vec!["e".to_owned()]));
    }

    #[test]
    fn grp_12_a_flood_of_visitors_is_told_in_part_and_without_a_rate_nobody_is() {
        let (rooms, room) = (Rooms::default(), room());
        let mut told = 0;
        for number in 0..10_000_u64 {
            let name = user(&format!("u{number}"));
            rooms.enter(1, &room, Some(&name), 7);
            let news = rooms.news((1, &room), &name, true, (10, number * 100));
            told += news.map_or(0, |tips| tips.users.len());
            told += rooms.due(10, number * 100).iter().map(|(_, tips)| tips.users.len()).sum::<usize>();
        }
        // A second with ten notices of at most a hundred names.
        assert!((900..=1_100).contains(&told), "{told}");
        assert_eq!(rooms.news((1, &room), &user("x"), true, (0, 99_000_000)), None);
    }

    #[test]
    fn grp_03_marks_are_few_and_go_with_whoever_has_them() {
        let (rooms, anna) = (Rooms::default(), user("anna"));
        let marked = |mark| rooms.marked(1, &room(), mark, 0, 2_000).len();
        assert!(!rooms.mark(1, &room(), &anna, &[1_000], true), "she is not there");
        rooms.enter(1, &room(), Some(&anna), 7);
        assert!(rooms.mark(1, &room(), &anna, &[1_000, 1_001], true));
        assert_eq!(rooms.marked(1, &room(), 1_000, 0, 9), [(anna.clone(), 7)]);
        assert!(rooms.mark(1, &room(), &anna, &[1_001, 1_002], false));
        assert_eq!([1_000, 1_001].map(marked), [1, 0]);
        let many: Vec<u32> = (2_000..2_000 + MARKS_MAX as u32).collect();
        assert!(!rooms.mark(1, &room(), &anna, &many, true), "with the one that she has they are too many");
        assert_eq!(marked(2_000), 0, "then none is given");
        assert!(rooms.mark(1, &room(), &anna, &many[1..], true));
        for number in 1..MARKED_MAX {
            let user = user(&format!("u{number}"));
            rooms.enter(1, &room(), Some(&user), 8);
            assert!(rooms.mark(1, &room(), &user, &[1_000], true));
        }
        let last = user("last");
        rooms.enter(1, &room(), Some(&last), 9);
        assert!(!rooms.mark(1, &room(), &last, &[1_000], true));
        assert!(rooms.mark(1, &room(), &anna, &[1_000], true), "as she is");
        rooms.leave(1, &room(), Some(&anna));
        rooms.enter(1, &room(), Some(&anna), 10);
        assert_eq!((marked(1_000), marked(2_001)), (MARKED_MAX - 1, 0));
    }
}
