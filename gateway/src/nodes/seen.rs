//! What a node makes of the rows of others: who is dead, and when it may serve beside those who are not.

use ahash::AHashMap;
use backend::domain::nodes::{NodeId, NodeRecord};

/// Renewals of another core within which it should have come to a link.
const RENEWALS_TO_LINK: u64 = 5;

/// Renewals of another core after which it has seen what was written before the first of them ([`nodes::renew`]).
///
/// [`nodes::renew`]: backend::domain::nodes::renew
const RENEWALS_TO_SEE: u64 = 2;

/// What was seen of the nodes, by this node's own clock.
#[derive(Default)]
pub struct Seen {
    /// Renewals, and since when they are so many.
    nodes: AHashMap<NodeId, (u64, u64)>,
    looked_us: u64,
    /// It was said that others can't be linked with.
    pub has_warned: bool,
}

impl Seen {
    pub fn forget(&mut self) {
        self.nodes.clear();
    }

    /// Those whose lease is over: it was not renewed while it was looked at all the time.
    pub fn expired(&mut self, all: &[(NodeId, NodeRecord)], now_us: u64, gap_us_max: u64) -> Vec<(NodeId, NodeRecord)> {
        if now_us > self.looked_us + gap_us_max {
            self.forget();
        }
        self.looked_us = now_us;
        self.nodes.retain(|id, _| all.iter().any(|(other, _)| other == id));
        let mut expired = Vec::new();
        for (id, record) in all {
            let known = self.nodes.entry(*id).or_insert((record.renewals, now_us));
            if known.0 != record.renewals {
                *known = (record.renewals, now_us);
            }
            if now_us >= known.1 + record.lease_ms * 1000 {
                expired.push((*id, record.clone()));
            }
        }
        expired
    }
}

/// A core that has begun to live and waits until it may serve: so long that none of the others can pass by, with what it
/// tells, something that this one commits unheard.
#[derive(Default)]
pub struct Joining {
    /// Its row says that it serves.
    has_said: bool,
    /// Renewals of those who are not linked, when they were seen first; since then, or since it was said.
    first: AHashMap<NodeId, u64>,
}

/// Another core, seen by one that joins.
#[derive(Clone, Copy)]
pub struct Other {
    pub id: NodeId,
    pub renewals: u64,
    pub is_linked: bool,
    /// A link with it can be hoped for.
    pub is_linkable: bool,
}

/// What a core that joins is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Wait,
    /// Write into its row that it serves: others are not to wait for its link any more.
    Say,
    Serve,
}

impl Joining {
    /// These others live, as was read after all that was written.
    pub fn next(&mut self, others: &[Other]) -> Next {
        let mut is_settled = true;
        for other in others.iter().filter(|other| !other.is_linked) {
            let first = *self.first.entry(other.id).or_insert(other.renewals);
            is_settled &= match self.has_said {
                true => other.renewals >= first + RENEWALS_TO_SEE,
                false => other.renewals >= first + RENEWALS_TO_LINK || !other.is_linkable,
            };
        }
        if others.iter().all(|other| other.is_linked) || is_settled && self.has_said {
            return Next::Serve;
        }
        if !is_settled || self.has_said {
            return Next::Wait;
        }
        self.has_said = true;
        self.first.clear();
        Next::Say
    }
}
