//! A logged-in device and its place in its user's event log.
//!
//! The rule that leaves no hole between catching up and live: the session is in the online table before
//! its first sync reads the log. While it catches up, live events are not pushed, only noticed. A sync
//! page that ends at the log's end turns pushing on, unless an event behind that end has been noticed
//! meanwhile: then there is one more page. Events of one user reach the session in log order, so what
//! is pushed needs no reordering, and everything up to the cursor has been sent.

use std::sync::Arc;

use backend::{
    domain::{AppId, UserId, callbacks::Caller, rate::SendBucket},
    store::Versionstamp,
};

use super::{members::Groups, presence::Following};
/// A device's session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) app: AppId,
    pub(super) user: UserId,
    /// The core with the user's entry in the online table.
    pub(super) home: u16,
    /// Where it comes from, for the application's server.
    pub(super) caller: Caller,
    /// When its credential was issued, seconds since the Unix epoch.
    pub(super) issued_s: u64,
    /// How much the user has sent of late, on all devices.
    pub(super) send_bucket: Arc<SendBucket>,
    /// Whose presence the device follows.
    pub(super) following: Option<Box<Following>>,
    /// What groups the device is told of.
    pub(super) groups: Groups,
    /// Logged in without an account.
    pub(super) is_guest: bool,
    feed: Feed,
    /// Everything up to here has been sent to the device, or come from it.
    cursor: Versionstamp,
    /// The cursor that the device was last told.
    told: Versionstamp,
    /// The newest event seen.
    noticed: Versionstamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feed {
    /// The device has not asked for its log.
    Idle,
    /// A page is being read.
    Syncing,
    /// The device has been told that there is more to sync.
    CatchingUp,
    /// Events are pushed as they come.
    Live,
    /// Events were dropped; the device has been told so.
    Behind,
}

/// What to do with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Push it.
    Push,
    /// The device knows it or will find it in its log.
    Skip,
}

impl Session {
    pub(super) fn new(
        (app, user): (AppId, UserId),
        home: u16,
        caller: Caller,
        issued_s: u64,
        send_bucket: Arc<SendBucket>,
    ) -> Self {
        let zero = Versionstamp::ZERO;
        let following = None;
        Session {
            app,
            user,
            home,
            caller,
            issued_s,
            send_bucket,
            following,
            groups: Groups::default(),
            is_guest: false,
            feed: Feed::Idle,
            cursor: zero,
            told: zero,
            noticed: zero,
        }
    }

    /// A connection without an account.
    pub(super) fn guest(app: AppId, user: UserId, home: u16, caller: Caller) -> Self {
        Session { is_guest: true, ..Session::new((app, user), home, caller, 0, Arc::default()) }
    }

    /// An event of the user's log is at hand; `own`: this device caused it and knows it.
    pub(super) fn notice(&mut self, position: Versionstamp, own: bool) -> Verdict {
        self.noticed = self.noticed.max(position);
        if self.feed != Feed::Live || position <= self.cursor {
            return Verdict::Skip;
        }
        self.cursor = position;
        if own {
            return Verdict::Skip;
        }
        self.told = position;
        Verdict::Push
    }

    /// Events were dropped, or can't be pushed. Returns whether the device must be told.
    pub(super) fn fall_behind(&mut self) -> bool {
        // Who is catching up reads to the log's end anyway; it only must not take the present end for it.
        let tell = self.feed == Feed::Live;
        match self.feed {
            Feed::Live => self.feed = Feed::Behind,
            Feed::Syncing => self.feed = Feed::CatchingUp,
            Feed::Idle | Feed::CatchingUp | Feed::Behind => {}
        }
        tell
    }

    /// A sync begins. `false`: one is under way.
    pub(super) fn sync_started(&mut self) -> bool {
        if self.feed == Feed::Syncing {
            return false;
        }
        self.feed = Feed::Syncing;
        true
    }

    /// A page up to `cursor` was read, `more` as the log said. Returns whether the device must sync again.
    pub(super) fn sync_finished(&mut self, cursor: Versionstamp, more: bool) -> bool {
        // Whatever changed the feed since the sync began has dropped events that the page may not hold.
        let more = more || self.noticed > cursor || self.feed != Feed::Syncing;
        self.feed = if more { Feed::CatchingUp } else { Feed::Live };
        self.cursor = cursor;
        self.told = cursor;
        more
    }

    /// The sync failed; the device will try again.
    pub(super) fn sync_failed(&mut self) {
        self.feed = Feed::CatchingUp;
    }

    /// Whether the device is told of things as they come.
    pub(super) fn is_live(&self) -> bool {
        self.feed == Feed::Live
    }

    /// Whether the device must sync because pushes were dropped.
    pub(super) fn is_behind(&self) -> bool {
        self.feed == Feed::Behind
    }

    /// The cursor, if it moved since the device was last told.
    pub(super) fn untold_cursor(&mut self) -> Option<Versionstamp> {
        let untold = self.feed == Feed::Live && self.cursor > self.told;
        if untold {
            self.told = self.cursor;
        }
        untold.then_some(self.cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(version: u64) -> Versionstamp {
        Versionstamp::new(version, 0, 0)
    }

    fn session() -> Session {
        Session::new((1, UserId::new("anna").unwrap()), 0, Caller::default(), 0, Arc::default())
    }

    #[test]
    fn nothing_is_pushed_before_the_log_has_been_read_to_its_end() {
        let mut session = session();
        assert_eq!(session.notice(at(1), false), Verdict::Skip);
        assert!(session.sync_started());
        assert!(!session.sync_started(), "one at a time");
        assert_eq!(session.notice(at(5), false), Verdict::Skip);
        assert!(session.sync_finished(at(4), false), "event 5 came while the page was read");
        assert_eq!(session.notice(at(6), false), Verdict::Skip);
        assert!(session.sync_started());
        assert!(!session.sync_finished(at(6), false));
        assert_eq!(session.notice(at(6), false), Verdict::Skip, "was in the page");
        assert_eq!(session.notice(at(7), false), Verdict::Push);
        assert_eq!(session.notice(at(7), false), Verdict::Skip, "once");
    }

    #[test]
    fn own_events_move_the_cursor_without_a_push() {
        let mut session = session();
        session.sync_started();
        session.sync_finished(Versionstamp::ZERO, false);
        assert_eq!(session.notice(at(1), true), Verdict::Skip);
        assert_eq!(session.untold_cursor(), Some(at(1)));
        assert_eq!(session.untold_cursor(), None);
        assert_eq!(session.notice(at(2), false), Verdict::Push);
        assert_eq!(session.untold_cursor(), None, "the push told it");
    }

    #[test]
    fn a_loss_at_any_time_leads_back_to_the_log() {
        let mut session = session();
        assert!(!session.fall_behind(), "has not asked yet");
        session.sync_started();
        assert!(!session.fall_behind());
        assert!(session.sync_finished(at(3), false), "a loss during the read means one more page");
        session.sync_started();
        assert!(!session.sync_finished(at(3), false));
        assert!(session.fall_behind());
        assert!(session.is_behind());
        assert!(!session.fall_behind(), "told once");
        assert_eq!(session.notice(at(9), false), Verdict::Skip);
        assert_eq!(session.untold_cursor(), None);
        session.sync_started();
        assert!(!session.is_behind());
        assert!(!session.sync_finished(at(9), false));
        assert_eq!(session.notice(at(10), false), Verdict::Push);
    }
}
