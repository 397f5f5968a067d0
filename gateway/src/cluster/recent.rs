//! What was said last in live rooms, asked of the other cores by one that has not heard it, and answered.
//!
//! Each answers with what it knows itself: nobody asks on. What may not live here: what is kept of it, and who waits
//! ([`crate::recent`]).

use backend::domain::{AppId, GroupId};
use protocol::{
    link::{LINK_VERSION_ANSWERS, What},
    link_message::{PeerRecent, PeerRecentAsk},
};

use super::{Cluster, Link, encode};
use crate::mailbox::NodeIndex;

impl Cluster {
    /// Asks the other cores what was said last in a live room, unless they were asked since a link came up. All of them:
    /// which has heard it nobody knows.
    pub fn ask_recent(&self, app: AppId, group: &GroupId) {
        let mut inner = self.inner();
        let links_up = inner.links_up;
        let asked: Vec<&mut Link> = inner.links.values_mut().filter(|link| link.can_be_asked()).collect();
        if asked.is_empty() || !self.router.recent().begin_asking(app, group, asked.len(), links_up) {
            return;
        }
        let frame = encode(&What::RecentAsk(PeerRecentAsk { sdkappid: app, group: group.to_string() }));
        asked.into_iter().for_each(|link| link.send(frame.clone()));
    }

    /// Another core asks. It is told nothing while its link has better things to carry.
    pub(super) fn tell_recent(&self, node: NodeIndex, PeerRecentAsk { sdkappid, group }: PeerRecentAsk) {
        let room = GroupId::new(&group).filter(|_| self.has_room(node) == Some(true));
        let messages = room.map(|room| self.router.recent().told(sdkappid, &room)).unwrap_or_default();
        self.inner().send(node, &What::Recent(PeerRecent { sdkappid, group, messages }));
    }

    /// Another core answers.
    pub(super) fn heard_recent(&self, PeerRecent { sdkappid, group, messages }: &PeerRecent) {
        if let Some(group) = GroupId::new(group) {
            self.router.recent().heard(*sdkappid, &group, messages);
        }
    }
}

impl Link {
    /// An answer will come, and the question takes no room that something better needs.
    fn can_be_asked(&self) -> bool {
        self.version >= LINK_VERSION_ANSWERS && !self.is_broken && !self.has_ended && self.to.has_room()
    }
}
