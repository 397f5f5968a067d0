//! The mark that every commit writes under [`MARK_KEY`](super::MARK_KEY).

use super::super::seam::Version;

/// A commit's version, and the newest version known as durable when it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) version: Version,
    pub(super) durable: Version,
}

impl Mark {
    pub(super) const LEN: usize = 16;

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (version, durable) = bytes.split_at_mut(8);
        version.copy_from_slice(&self.version.to_be_bytes());
        durable.copy_from_slice(&self.durable.to_be_bytes());
        bytes
    }

    /// Reads a mark back; `None` unless `bytes` is exactly [`Self::LEN`] long.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, durable) = bytes.split_first_chunk()?;
        let durable = durable.try_into().ok()?;
        Some(Mark { version: Version::from_be_bytes(*version), durable: Version::from_be_bytes(durable) })
    }
}
