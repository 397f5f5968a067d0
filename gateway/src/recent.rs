//! What was said last in live rooms, for whoever comes in: in memory, and lost with the process.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use ahash::AHashMap;
use backend::domain::{AppId, GroupId, act::News};
use bytes::Bytes;
use prost::Message as _;
use protocol::message::Message;

/// Messages kept of a room.
const MESSAGES_MAX: usize = 20;

/// Rooms of which messages are kept; then those are forgotten in which nothing was said for longest.
const ROOMS_MAX: usize = 10_000;

/// Bytes of all of them; over that the same are forgotten.
const BYTES_MAX: usize = 64 << 20;

/// The last messages, by room.
#[derive(Default)]
pub struct Recent(Mutex<Rooms>);

#[derive(Default)]
struct Rooms {
    rooms: AHashMap<(AppId, GroupId), Room>,
    /// Grows with every message.
    clock: u64,
    bytes: usize,
}

#[derive(Default)]
struct Room {
    messages: VecDeque<Bytes>,
    /// The clock at the newest message.
    newest: u64,
}

impl Recent {
    /// Notes a message that a group was pushed. Only those of live rooms are pushed with a sequence: what is online only
    /// has none.
    pub fn note(&self, app: AppId, group: &GroupId, news: &News) {
        let push = match news {
            News::Push(push) => push,
            // It is gone: another one of its id has nothing to do with what was said here.
            News::Left(_) => return self.forget(app, group),
            _ => return,
        };
        let Some(message) = push.as_message() else { return };
        if !Message::decode(message.clone()).is_ok_and(|message| message.seq > 0) {
            return;
        }
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.clock += 1;
        let clock = rooms.clock;
        let room = rooms.rooms.entry((app, group.clone())).or_default();
        room.newest = clock;
        room.messages.push_back(message.clone());
        let dropped = if room.messages.len() > MESSAGES_MAX { room.messages.pop_front() } else { None };
        rooms.bytes += message.len();
        rooms.bytes -= dropped.map_or(0, |message| message.len());
        if rooms.rooms.len() > ROOMS_MAX || rooms.bytes > BYTES_MAX {
            rooms.forget_half();
        }
    }

    fn forget(&self, app: AppId, group: &GroupId) {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = rooms.rooms.remove(&(app, group.clone()));
        rooms.bytes -= room.map_or(0, |room| room.bytes());
    }

    /// The last messages of a room, oldest first.
    pub fn of(&self, app: AppId, group: &GroupId) -> Vec<Message> {
        let rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = rooms.rooms.get(&(app, group.clone()));
        let messages = room.into_iter().flat_map(|room| &room.messages);
        messages.filter_map(|message| Message::decode(message.clone()).ok()).collect()
    }
}

impl Rooms {
    fn forget_half(&mut self) {
        let mut newest: Vec<u64> = self.rooms.values().map(|room| room.newest).collect();
        let half = newest.len() / 2;
        let (_, middle, _) = newest.select_nth_unstable(half);
        let middle = *middle;
        self.rooms.retain(|_, room| room.newest > middle);
        self.bytes = self.rooms.values().map(Room::bytes).sum();
    }
}

impl Room {
    fn bytes(&self) -> usize {
        self.messages.iter().map(Bytes::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use protocol::EncodedPush;

    use super::*;

    fn message(seq: u64) -> News {
        News::Push(EncodedPush::message(Message { seq, ..Message::default() }.encode_to_vec().into()))
    }

    #[test]
    fn the_last_twenty_are_kept_and_of_too_many_rooms_the_newest() {
        let recent = Recent::default();
        let room = |number: usize| GroupId::new(&format!("room {number}")).unwrap();
        (1..=30).for_each(|seq| recent.note(1, &room(0), &message(seq)));
        let seqs: Vec<u64> = recent.of(1, &room(0)).iter().map(|message| message.seq).collect();
        assert_eq!(seqs, (11..=30).collect::<Vec<_>>());
        assert!(recent.of(2, &room(0)).is_empty(), "another application's");
        recent.note(1, &room(1), &message(1));
        recent.note(1, &room(1), &News::Left(room(1)));
        assert!(recent.of(1, &room(1)).is_empty(), "it is gone");
        (1..=ROOMS_MAX).for_each(|number| recent.note(1, &room(number), &message(1)));
        assert!(recent.of(1, &room(0)).is_empty(), "nothing was said there for longest");
        assert_eq!(recent.of(1, &room(ROOMS_MAX)).len(), 1);
    }

    #[test]
    fn of_too_many_bytes_rooms_are_forgotten_in_which_nothing_was_said_for_longest() {
        let recent = Recent::default();
        let room = |number: usize| GroupId::new(&format!("room {number}")).unwrap();
        let long = Message { seq: 1, body: vec![0; BYTES_MAX / 10].into(), ..Message::default() };
        let long = News::Push(EncodedPush::message(long.encode_to_vec().into()));
        (0..9).for_each(|number| recent.note(1, &room(number), &long));
        assert!((0..9).all(|number| recent.of(1, &room(number)).len() == 1), "there is room");
        recent.note(1, &room(9), &long);
        let kept: Vec<bool> = (0..10).map(|number| !recent.of(1, &room(number)).is_empty()).collect();
        assert_eq!(kept, (0..10).map(|number| number > 5).collect::<Vec<_>>());
        // One room alone stays below the bound as well.
        (0..20).for_each(|_| recent.note(1, &room(9), &long));
        assert!(recent.0.lock().unwrap().bytes <= BYTES_MAX);
    }
}
