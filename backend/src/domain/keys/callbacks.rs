//! Keys of what application servers are told.

use bytes::Bytes;
use foundationdb_tuple::pack;

use super::{
    AppId, CALLBACK, CALLBACK_CLAIM, CALLBACKS_LEFT, CALLBACKS_VERSION, VERSIONSTAMP_TYPE, event_position, key,
};

/// What every entry of a lane begins with; the versionstamp follows.
pub(crate) fn callback_prefix(app: AppId, lane: u16) -> Vec<u8> {
    let mut prefix = pack(&(app, CALLBACK, u32::from(lane)));
    prefix.push(VERSIONSTAMP_TYPE);
    prefix
}

/// All entries of a lane.
pub(crate) fn callbacks(app: AppId, lane: u16) -> (Bytes, Bytes) {
    let begin = callback_prefix(app, lane);
    let mut end = pack(&(app, CALLBACK, u32::from(lane)));
    end.push(VERSIONSTAMP_TYPE + 1);
    (begin.into(), end.into())
}

/// What an entry's key ends with, as text.
pub(crate) fn callback_id(key: &[u8]) -> Option<String> {
    Some(event_position(key)?.0.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Which process delivers a lane.
pub(crate) fn callback_claim(app: AppId, lane: u16) -> Bytes {
    key(&(app, CALLBACK_CLAIM, u32::from(lane)))
}

/// Grows with every entry.
pub(crate) fn callbacks_version(app: AppId) -> Bytes {
    key(&(app, CALLBACKS_VERSION))
}

/// How many entries there are.
pub(crate) fn callbacks_left(app: AppId) -> Bytes {
    key(&(app, CALLBACKS_LEFT))
}
