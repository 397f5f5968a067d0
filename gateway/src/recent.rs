//! What was said last in live rooms, for whoever comes in: in memory, and lost with the process.
//!
//! A process that has started has heard nothing of what was said before. Other cores that have are asked, once for each
//! room in which somebody meets a gap ([`crate::cluster::Cluster::ask_recent`]); what they answer and what is heard meanwhile
//! go together by sequence.
//!
//! What may not live here: whom to ask, and for how long to wait.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ahash::AHashMap;
use backend::domain::{AppId, GroupId, act::News};
use bytes::Bytes;
use futures::channel::oneshot;
use prost::Message as _;
use protocol::message::Message;

/// Messages kept of a room.
const MESSAGES_MAX: usize = 20;

/// Rooms of which messages are kept; then those are forgotten in which nothing was said for longest.
const ROOMS_MAX: usize = 10_000;

/// Bytes of all of them; over that the same are forgotten.
const BYTES_MAX: usize = 64 << 20;

/// Bytes of a room's messages that another core is told, at the most: the newest.
const TOLD_BYTES_MAX: usize = 256 << 10;

/// The last messages, by room.
#[derive(Default)]
pub struct Recent(Mutex<Rooms>);

/// Which of a room's messages there are: it is another room's what stands before the first.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub first_seq: u64,
    pub head_seq: u64,
}

#[derive(Default)]
struct Rooms {
    rooms: AHashMap<(AppId, GroupId), Room>,
    /// Grows with every message.
    clock: u64,
    bytes: usize,
}

#[derive(Default)]
struct Room {
    /// By sequence: those of several cores come in no order, and some twice.
    messages: BTreeMap<u64, Bytes>,
    /// The clock at the newest message, or at the question.
    newest: u64,
    /// How often a link had come up when other cores were asked; 0: they were not.
    asked: u64,
    asking: Option<Asking>,
}

/// Other cores are being asked.
struct Asking {
    answers_to_come: usize,
    /// Dropped when they wait no longer.
    waiting: Vec<oneshot::Sender<()>>,
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
        let Some(seq) = seq(message) else { return };
        let mut rooms = self.rooms();
        rooms.touch(app, group);
        rooms.add(app, group, seq, message.clone());
        rooms.forget_some();
    }

    /// The last messages of a room, oldest first.
    pub fn of(&self, app: AppId, group: &GroupId, first_seq: u64) -> Vec<Message> {
        let rooms = self.rooms();
        let room = rooms.rooms.get(&(app, group.clone()));
        let messages = room.into_iter().flat_map(|room| room.messages.range(first_seq..));
        messages.filter_map(|(_, message)| Message::decode(message.clone()).ok()).collect()
    }

    /// Whether all is here that is to be kept of a room.
    pub fn is_whole(&self, app: AppId, group: &GroupId, span: Span) -> bool {
        let from = span.first_seq.max(span.head_seq.saturating_sub(MESSAGES_MAX as u64 - 1)).max(1);
        if from > span.head_seq {
            return true;
        }
        let rooms = self.rooms();
        let room = rooms.rooms.get(&(app, group.clone()));
        let known = room.map_or(0, |room| room.messages.range(from..=span.head_seq).count());
        known as u64 == span.head_seq - from + 1
    }

    fn forget(&self, app: AppId, group: &GroupId) {
        let mut rooms = self.rooms();
        let room = rooms.rooms.remove(&(app, group.clone()));
        rooms.bytes -= room.map_or(0, |room| room.bytes());
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of several cores.
impl Recent {
    /// So many other cores are about to be asked about a room, where a link has come up so many times. `false`: they need
    /// not be, because they were since one did.
    pub fn begin_asking(&self, app: AppId, group: &GroupId, cores: usize, links_up: u64) -> bool {
        let mut rooms = self.rooms();
        let room = rooms.touch(app, group);
        if room.asked == links_up {
            return false;
        }
        room.asked = links_up;
        let waiting = room.asking.take().map(|asking| asking.waiting).unwrap_or_default();
        room.asking = Some(Asking { answers_to_come: cores, waiting });
        rooms.forget_some();
        true
    }

    /// Comes to an end, whichever, when there is nothing more to wait for. `None`: nobody is being asked.
    pub fn wait(&self, app: AppId, group: &GroupId) -> Option<oneshot::Receiver<()>> {
        let mut rooms = self.rooms();
        let asking = rooms.rooms.get_mut(&(app, group.clone()))?.asking.as_mut()?;
        let (done, waiting) = oneshot::channel();
        asking.waiting.push(done);
        Some(waiting)
    }

    /// It has taken too long: nobody waits any more. What comes later is kept all the same.
    pub fn stop_waiting(&self, app: AppId, group: &GroupId) {
        if let Some(room) = self.rooms().rooms.get_mut(&(app, group.clone())) {
            room.asking = None;
        }
    }

    /// What another core is told of a room: the newest messages, as many as should go into one frame.
    pub fn told(&self, app: AppId, group: &GroupId) -> Vec<Bytes> {
        let rooms = self.rooms();
        let room = rooms.rooms.get(&(app, group.clone()));
        let mut bytes = 0;
        let fits = |message: &&Bytes| {
            bytes += message.len();
            bytes <= TOLD_BYTES_MAX
        };
        room.into_iter().flat_map(|room| room.messages.values().rev()).take_while(fits).cloned().collect()
    }

    /// Another core has answered.
    pub fn heard(&self, app: AppId, group: &GroupId, messages: &[Bytes]) {
        let mut rooms = self.rooms();
        // A room that was forgotten meanwhile is gone, or not worth it.
        let Some(room) = rooms.rooms.get_mut(&(app, group.clone())) else { return };
        if let Some(asking) = &mut room.asking {
            asking.answers_to_come = asking.answers_to_come.saturating_sub(1);
        }
        room.asking.take_if(|asking| asking.answers_to_come == 0);
        for message in messages {
            if let Some(seq) = seq(message) {
                // Copied: it shares what was read together with it.
                rooms.add(app, group, seq, Bytes::copy_from_slice(message));
            }
        }
        rooms.forget_some();
    }
}

impl Rooms {
    /// The room, in which something was said just now.
    fn touch(&mut self, app: AppId, group: &GroupId) -> &mut Room {
        self.clock += 1;
        let room = self.rooms.entry((app, group.clone())).or_default();
        room.newest = self.clock;
        room
    }

    fn add(&mut self, app: AppId, group: &GroupId, seq: u64, message: Bytes) {
        let Some(room) = self.rooms.get_mut(&(app, group.clone())) else { return };
        self.bytes += message.len();
        let replaced = room.messages.insert(seq, message);
        let oldest = if room.messages.len() > MESSAGES_MAX { room.messages.pop_first() } else { None };
        let dropped = replaced.into_iter().chain(oldest.map(|(_, message)| message));
        self.bytes -= dropped.map(|message| message.len()).sum::<usize>();
    }

    /// Forgets half of the rooms, if there are too many.
    fn forget_some(&mut self) {
        if self.rooms.len() <= ROOMS_MAX && self.bytes <= BYTES_MAX {
            return;
        }
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
        self.messages.values().map(Bytes::len).sum()
    }
}

/// A message's place in its room; `None`: it has none.
fn seq(message: &Bytes) -> Option<u64> {
    Message::decode(message.clone()).ok().map(|message| message.seq).filter(|seq| *seq > 0)
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
        let seqs: Vec<u64> = recent.of(1, &room(0), 0).iter().map(|message| message.seq).collect();
        assert_eq!(seqs, (11..=30).collect::<Vec<_>>());
        assert!(recent.of(2, &room(0), 0).is_empty(), "another application's");
        recent.note(1, &room(1), &message(1));
        recent.note(1, &room(1), &News::Left(room(1)));
        assert!(recent.of(1, &room(1), 0).is_empty(), "it is gone");
        (1..=ROOMS_MAX).for_each(|number| recent.note(1, &room(number), &message(1)));
        assert!(recent.of(1, &room(0), 0).is_empty(), "nothing was said there for longest");
        assert_eq!(recent.of(1, &room(ROOMS_MAX), 0).len(), 1);
    }

    fn seqs(recent: &Recent, first_seq: u64) -> Vec<u64> {
        recent.of(1, &GroupId::new("room").unwrap(), first_seq).iter().map(|message| message.seq).collect()
    }

    fn said(seqs: impl IntoIterator<Item = u64>) -> Vec<Bytes> {
        seqs.into_iter().map(|seq| Message { seq, ..Message::default() }.encode_to_vec().into()).collect()
    }

    #[test]
    fn geo_01_what_others_say_goes_together_with_what_is_heard_by_sequence() {
        let (here, room) = (Recent::default(), GroupId::new("room").unwrap());
        here.heard(1, &room, &said(1..=3));
        assert!(seqs(&here, 0).is_empty(), "nobody was asked about it");
        here.note(1, &room, &message(31));
        assert!(here.begin_asking(1, &room, 2, 1));
        here.note(1, &room, &message(33));
        here.heard(1, &room, &said((20..=32).rev()));
        here.heard(1, &room, &said(5..=24));
        here.note(1, &room, &message(32));
        assert_eq!(seqs(&here, 0), (14..=33).collect::<Vec<_>>(), "each once, in order, the newest");
        assert_eq!(seqs(&here, 30), [30, 31, 32, 33], "what is before was said in another room");
        let garbage = [Bytes::from_static(b"\xff"), Bytes::new()];
        here.heard(1, &room, &garbage);
        assert_eq!(seqs(&here, 0).len(), MESSAGES_MAX);
        let bytes: usize = here.rooms().rooms.values().map(Room::bytes).sum();
        assert_eq!(here.rooms().bytes, bytes);
    }

    #[test]
    fn geo_01_a_gap_is_known_by_the_sequences_that_a_room_has() {
        let (here, room) = (Recent::default(), GroupId::new("room").unwrap());
        let is_whole = |first_seq, head_seq| here.is_whole(1, &room, Span { first_seq, head_seq });
        assert!(is_whole(0, 0) && is_whole(31, 30), "nothing was said");
        assert!(!is_whole(0, 1) && !is_whole(30, 30));
        (11..=30).for_each(|seq| here.note(1, &room, &message(seq)));
        assert!(is_whole(0, 30) && is_whole(1, 30) && is_whole(25, 30));
        assert!(is_whole(11, 29) && !is_whole(0, 29), "one more would be kept");
        assert!(!is_whole(0, 31), "the newest is missing");
        here.note(1, &room, &message(32));
        assert!(!is_whole(0, 32), "one in between is missing");
    }

    #[test]
    fn geo_01_others_are_asked_once_and_waited_for_until_all_have_answered() {
        let (here, room) = (Recent::default(), GroupId::new("room").unwrap());
        let is_over = |waiting: &mut oneshot::Receiver<()>| waiting.try_recv().is_err();
        assert!(here.wait(1, &room).is_none(), "nobody is asked");
        assert!(here.begin_asking(1, &room, 2, 1) && !here.begin_asking(1, &room, 2, 1));
        let [mut one, mut other] = [(); 2].map(|()| here.wait(1, &room).unwrap());
        here.heard(1, &room, &[]);
        assert!(!is_over(&mut one));
        here.heard(1, &room, &said([1]));
        assert!(is_over(&mut one) && is_over(&mut other) && here.wait(1, &room).is_none());
        assert!(!here.begin_asking(1, &room, 2, 1), "it is of no use to ask again");
        // Another link has come up since.
        assert!(here.begin_asking(1, &room, 3, 2));
        let mut waiting = here.wait(1, &room).unwrap();
        here.stop_waiting(1, &room);
        assert!(is_over(&mut waiting) && here.wait(1, &room).is_none(), "nobody waits a second time");
        here.heard(1, &room, &said([2]));
        assert_eq!(seqs(&here, 0), [1, 2], "late, and kept");
        // Who waits hears of the room's end, too.
        assert!(here.begin_asking(1, &room, 1, 3));
        let mut waiting = here.wait(1, &room).unwrap();
        here.note(1, &room, &News::Left(room.clone()));
        here.heard(1, &room, &said([3]));
        assert!(is_over(&mut waiting) && seqs(&here, 0).is_empty());
    }

    #[test]
    fn geo_01_no_more_is_told_of_a_room_than_should_go_into_a_frame() {
        let (here, room) = (Recent::default(), GroupId::new("room").unwrap());
        assert!(here.told(1, &room).is_empty());
        let long = |seq| Message { seq, body: vec![0; TOLD_BYTES_MAX / 4].into(), ..Message::default() };
        let push = |seq| News::Push(EncodedPush::message(long(seq).encode_to_vec().into()));
        (1..=10).for_each(|seq| here.note(1, &room, &push(seq)));
        assert_eq!(here.told(1, &room).iter().filter_map(seq).collect::<Vec<_>>(), [10, 9, 8]);
    }

    #[test]
    fn of_too_many_bytes_rooms_are_forgotten_in_which_nothing_was_said_for_longest() {
        let recent = Recent::default();
        let room = |number: usize| GroupId::new(&format!("room {number}")).unwrap();
        let long = |seq| {
            let long = Message { seq, body: vec![0; BYTES_MAX / 10].into(), ..Message::default() };
            News::Push(EncodedPush::message(long.encode_to_vec().into()))
        };
        (0..9).for_each(|number| recent.note(1, &room(number), &long(1)));
        assert!((0..9).all(|number| recent.of(1, &room(number), 0).len() == 1), "there is room");
        recent.note(1, &room(9), &long(1));
        let kept: Vec<bool> = (0..10).map(|number| !recent.of(1, &room(number), 0).is_empty()).collect();
        assert_eq!(kept, (0..10).map(|number| number > 5).collect::<Vec<_>>());
        // One room alone stays below the bound as well.
        (2..20).for_each(|seq| recent.note(1, &room(9), &long(seq)));
        assert!(recent.0.lock().unwrap().bytes <= BYTES_MAX);
    }
}
