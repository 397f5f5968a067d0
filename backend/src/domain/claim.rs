//! Which process does what one of several does for all: it says so in the store, for a time, and again while it works.

use bytes::Bytes;
use prost::Message;

use super::{Error, damaged};

/// A claim.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Claim {
    /// A number that each process draws at its start.
    #[prost(uint64, tag = "1")]
    pub(crate) owner: u64,
    /// Until when, milliseconds since the Unix epoch. Then any other may take over.
    #[prost(uint64, tag = "2")]
    pub(crate) until_ms: u64,
}

impl Claim {
    pub(crate) fn from_stored(stored: Option<Bytes>) -> Result<Claim, Error> {
        Claim::decode(stored.unwrap_or_default()).map_err(|_| damaged("claim"))
    }

    /// Whether it holds, if claims are for `term_ms`. It may hold for longer than one taken now: by a clock that is a
    /// little ahead of this one, or since this one was looked at before the store was. One that holds for far longer was
    /// taken by a clock that is wrong.
    pub(crate) fn holds(&self, now_ms: u64, term_ms: u64) -> bool {
        (1..=2 * term_ms).contains(&self.until_ms.saturating_sub(now_ms))
    }

    /// Whether its owner need not say it again yet.
    pub(crate) fn is_fresh(&self, now_ms: u64, term_ms: u64) -> bool {
        self.holds(now_ms, term_ms) && self.until_ms.saturating_sub(now_ms) >= term_ms / 2
    }
}
