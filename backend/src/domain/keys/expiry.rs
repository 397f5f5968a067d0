//! Keys of what expires, and of who removes it.

use bytes::Bytes;
use foundationdb_tuple::{Bytes as TupleBytes, pack, unpack};

use super::{
    AppId, DEPLOYMENT, EVENT, EVENT_FLOOR, EVENT_PASS, HOUR, MERGED_HOUR, MOMENT, RETENTION_CLAIM, Tail, UserId,
    VERSIONSTAMP_TYPE, event_position, joined, key,
};
use crate::store::Versionstamp;

/// Where in an event log something is: the log's part of its keys, packed, and a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventPlace {
    pub(super) user: Bytes,
    pub(crate) position: Versionstamp,
}

impl EventPlace {
    /// Reads the key of an entry in an application's event logs.
    pub(crate) fn of(app: AppId, key: &[u8]) -> Option<Self> {
        let position = event_position(key)?;
        let behind = key.strip_prefix(&pack(&(app, EVENT))[..])?;
        let (user, stamp) = behind.split_at_checked(behind.len().checked_sub(Versionstamp::LEN + 1)?)?;
        (stamp.first() == Some(&VERSIONSTAMP_TYPE)).then(|| EventPlace { user: Bytes::copy_from_slice(user), position })
    }

    /// The log's entries before `position`.
    pub(crate) fn log_before(&self, app: AppId, position: Versionstamp) -> (Bytes, Bytes) {
        let prefix = joined(&(app, EVENT), &self.user, &());
        let begin = [&prefix[..], &[VERSIONSTAMP_TYPE]].concat();
        let end = [&begin[..], &position.0].concat();
        (begin.into(), end.into())
    }

    /// The first key behind the log.
    pub(crate) fn behind_log(&self, app: AppId) -> Bytes {
        let prefix = joined(&(app, EVENT), &self.user, &());
        [&prefix[..], &[VERSIONSTAMP_TYPE + 1]].concat().into()
    }

    /// Up to where the log was removed.
    pub(crate) fn floor(&self, app: AppId) -> Bytes {
        joined(&(app, EVENT_FLOOR), &self.user, &())
    }
}

/// All event logs of an application.
pub(crate) fn event_logs(app: AppId) -> (Bytes, Bytes) {
    (key(&(app, EVENT)), key(&(app, EVENT + 1)))
}

/// Up to where a user's event log was removed.
pub(crate) fn event_floor(app: AppId, user: &UserId) -> Bytes {
    key(&(app, EVENT_FLOOR, user.as_str()))
}

/// The hours before `hour` of all conversations of an application, oldest first.
pub(crate) fn hours_before(app: AppId, hour: u32) -> (Bytes, Bytes) {
    (key(&(app, HOUR)), key(&(app, HOUR, hour)))
}

/// Reads a key of [`hours_before`].
pub(crate) fn hour_parts(app: AppId, key: &[u8]) -> Option<(u32, Tail)> {
    let behind = key.strip_prefix(&pack(&(app, HOUR))[..])?;
    let (hour, tail) = split_number(behind)?;
    Some((hour.try_into().ok()?, Tail(Bytes::copy_from_slice(tail))))
}

/// Says that the content of a merged message may expire with an hour.
pub(crate) fn merged_hour(app: AppId, hour: u32, content_id: &[u8]) -> Bytes {
    key(&(app, MERGED_HOUR, hour, TupleBytes::from(content_id)))
}

/// The contents of merged messages that may expire with the hours before `hour`, oldest first.
pub(crate) fn merged_hours_before(app: AppId, hour: u32) -> (Bytes, Bytes) {
    (key(&(app, MERGED_HOUR)), key(&(app, MERGED_HOUR, hour)))
}

/// The content in a key of [`merged_hours_before`].
pub(crate) fn merged_hour_content(key: &[u8]) -> Option<Bytes> {
    let (_, _, _, content_id): (AppId, u32, u32, TupleBytes<'_>) = unpack(key).ok()?;
    Some(Bytes::copy_from_slice(&content_id))
}

/// Everything of the applications behind `app`.
pub(crate) fn applications_after(app: AppId) -> (Bytes, Bytes) {
    (key(&(u64::from(app) + 1,)), Bytes::from_static(&[0xff]))
}

/// The application that a key belongs to.
pub(crate) fn application_of(key: &[u8]) -> Option<AppId> {
    split_number(key)?.0.try_into().ok()
}

/// Which process removes what has expired.
pub(crate) fn retention_claim() -> Bytes {
    key(&(DEPLOYMENT, RETENTION_CLAIM))
}

/// How far the pass over the event logs has come.
pub(crate) fn event_pass() -> Bytes {
    key(&(DEPLOYMENT, EVENT_PASS))
}

/// The version that the store had at a time.
pub(crate) fn moment(time_ms: u64) -> Bytes {
    key(&(DEPLOYMENT, MOMENT, time_ms))
}

/// The moments before `time_ms`.
pub(crate) fn moments_before(time_ms: u64) -> (Bytes, Bytes) {
    (key(&(DEPLOYMENT, MOMENT)), moment(time_ms))
}

/// The time of a moment's key.
pub(crate) fn moment_ms(key: &[u8]) -> Option<u64> {
    let behind = key.strip_prefix(&pack(&(DEPLOYMENT, MOMENT))[..])?;
    Some(split_number(behind)?.0)
}

/// The number that a packed tuple begins with, and the rest. The tuple layer writes how many bytes the
/// number has as a type code.
pub(super) fn split_number(packed: &[u8]) -> Option<(u64, &[u8])> {
    const ZERO: u8 = 0x14;
    let bytes = usize::from(packed.first()?.checked_sub(ZERO)?);
    let (number, rest) = packed.split_at_checked(1 + bytes)?;
    Some((unpack::<(u64,)>(number).ok()?.0, rest))
}
