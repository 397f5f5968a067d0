//! What waits to be sent on a link: frames in order, bounded by bytes. Filled by any thread, emptied by the link.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use metrics::{Counter, Gauge};
use protocol::link::{self, LENGTH_BYTES_MAX, PEER_FRAME_BYTES_MAX, What};
use tokio::sync::Notify;

/// What is taken at once, in bytes: TLS makes some records of it, and the system one call.
pub const PIECE_BYTES: usize = 64 * 1024;

/// Beyond the bound, in bytes: for pings and pongs, without which a busy link would look dead.
const CONTROL_BYTES_MAX: usize = 1024;

/// There is no room for the frame, or the link has ended: it was not sent, and those behind it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room on the link")]
pub struct Full;

/// A link's end where frames go in. Clones share it; it outlives the link and then refuses everything.
#[derive(Clone)]
pub struct PeerHandle(Arc<Queue>);

struct Queue {
    bytes_max: usize,
    waiting: Mutex<Waiting>,
    /// There is something to do for the link.
    wake: Notify,
    /// It was closed: even when the peer takes nothing of what is being sent.
    closed: Notify,
    /// Bytes that wait, on all links.
    queued: Gauge,
    dropped: Counter,
}

struct Waiting {
    frames: VecDeque<Bytes>,
    bytes: usize,
    course: Course,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Open,
    /// What waits is still sent, but nothing more.
    Finishing,
    Closed,
}

/// What the link is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Send what was put into the piece.
    Send,
    /// Wait.
    Nothing,
    /// Everything is sent, and that is all.
    Finished,
}

impl PeerHandle {
    /// With room for so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        let waiting = Waiting { frames: VecDeque::new(), bytes: 0, course: Course::Open };
        PeerHandle(Arc::new(Queue {
            bytes_max,
            waiting: Mutex::new(waiting),
            wake: Notify::new(),
            closed: Notify::new(),
            queued: metrics::gauge!("gateway_peer_queued_bytes"),
            dropped: metrics::counter!("gateway_peer_frames_dropped_total"),
        }))
    }

    /// Sends a frame.
    #[cfg(test)]
    pub fn send(&self, frame: &What) -> Result<(), Full> {
        let mut encoded = BytesMut::new();
        link::encode(frame, &mut encoded);
        self.send_encoded(encoded.freeze())
    }

    /// Sends a frame, as [`link::encode`] has made it, behind all those before. Never waits.
    pub fn send_encoded(&self, frame: Bytes) -> Result<(), Full> {
        let mut waiting = self.waiting();
        let room = self.0.bytes_max.saturating_sub(waiting.bytes);
        let is_too_large = frame.len() > PEER_FRAME_BYTES_MAX + LENGTH_BYTES_MAX;
        if waiting.course != Course::Open || frame.len() > room || is_too_large {
            self.0.dropped.increment(1);
            return Err(Full);
        }
        self.put(&mut waiting, frame);
        Ok(())
    }

    /// Whether less than half of what may wait does: for what could as well be sent later.
    pub fn has_room(&self) -> bool {
        self.waiting().bytes < self.0.bytes_max / 2
    }

    /// Ends the link at once. It comes up again by itself, as long as [`Peers::set`](super::Peers::set) wants it.
    pub fn close(&self) {
        let mut waiting = self.waiting();
        waiting.course = Course::Closed;
        waiting.frames.clear();
        self.0.queued.decrement(waiting.bytes as f64);
        waiting.bytes = 0;
        self.0.closed.notify_one();
    }

    /// Ends the link once everything is sent.
    pub fn finish(&self) {
        let mut waiting = self.waiting();
        if waiting.course == Course::Open {
            waiting.course = Course::Finishing;
        }
        self.0.wake.notify_one();
    }

    /// Sends a ping or a pong, though the queue be full; a peer that takes nothing does not get it.
    pub fn send_control(&self, frame: &What) {
        let mut encoded = BytesMut::new();
        link::encode(frame, &mut encoded);
        let mut waiting = self.waiting();
        if waiting.course == Course::Open && waiting.bytes + encoded.len() <= self.0.bytes_max + CONTROL_BYTES_MAX {
            self.put(&mut waiting, encoded.freeze());
        }
    }

    /// Moves the next bytes into an empty piece.
    pub fn take(&self, piece: &mut Vec<u8>) -> Next {
        let mut waiting = self.waiting();
        while let Some(front) = waiting.frames.front_mut()
            && piece.len() < PIECE_BYTES
        {
            let part = front.split_to(front.len().min(PIECE_BYTES - piece.len()));
            if front.is_empty() {
                waiting.frames.pop_front();
            }
            waiting.bytes -= part.len();
            piece.extend_from_slice(&part);
        }
        self.0.queued.decrement(piece.len() as f64);
        match waiting.course {
            _ if !piece.is_empty() => Next::Send,
            Course::Finishing => Next::Finished,
            Course::Open | Course::Closed => Next::Nothing,
        }
    }

    /// Waits until there may be something to do.
    pub async fn woken(&self) {
        self.0.wake.notified().await;
    }

    /// Waits until the link is closed.
    pub async fn closed(&self) {
        self.0.closed.notified().await;
    }

    fn put(&self, waiting: &mut Waiting, frame: Bytes) {
        self.0.queued.increment(frame.len() as f64);
        waiting.bytes += frame.len();
        waiting.frames.push_back(frame);
        self.0.wake.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(handle: &PeerHandle) -> (Next, usize) {
        let mut piece = Vec::new();
        (handle.take(&mut piece), piece.len())
    }

    #[test]
    fn geo_01_a_full_queue_says_so_and_takes_more_once_there_is_room() {
        let handle = PeerHandle::new(100_000);
        let frame = Bytes::from(vec![0; 40_000]);
        assert!(handle.has_room());
        assert_eq!([(); 3].map(|()| handle.send_encoded(frame.clone())), [Ok(()), Ok(()), Err(Full)]);
        assert!(!handle.has_room());
        handle.send_control(&What::Ping(Default::default()));
        assert_eq!(taken(&handle), (Next::Send, PIECE_BYTES));
        assert_eq!([(); 3].map(|()| handle.send_encoded(frame.clone())), [Ok(()), Ok(()), Err(Full)]);
        assert_eq!(taken(&handle), (Next::Send, PIECE_BYTES));
        assert_eq!(taken(&handle), (Next::Send, 4 * 40_000 + 3 - 2 * PIECE_BYTES));
        assert_eq!(taken(&handle), (Next::Nothing, 0));
        assert!(handle.has_room());
    }

    #[test]
    fn geo_01_pings_and_pongs_of_who_takes_nothing_are_bounded() {
        let handle = PeerHandle::new(10);
        (0..10_000).for_each(|number| handle.send_control(&What::Pong(protocol::link_message::LinkPing { number })));
        let (next, bytes) = taken(&handle);
        assert_eq!(next, Next::Send);
        assert!(bytes <= 10 + CONTROL_BYTES_MAX);
    }

    #[test]
    fn geo_01_what_waits_goes_before_the_end_but_not_before_a_close() {
        let (ends, closes) = (PeerHandle::new(100), PeerHandle::new(100));
        for handle in [&ends, &closes] {
            handle.send_encoded(Bytes::from_static(b"frame")).unwrap();
        }
        ends.finish();
        closes.close();
        closes.finish();
        for handle in [&ends, &closes] {
            assert_eq!(handle.send_encoded(Bytes::from_static(b"frame")), Err(Full));
        }
        assert_eq!([taken(&ends), taken(&ends)], [(Next::Send, 5), (Next::Finished, 0)]);
        assert_eq!(taken(&closes), (Next::Nothing, 0));
    }
}
