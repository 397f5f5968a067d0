//! Keys of what an application's server says about its users, and of what it tells all of them (MSG-14).

use bytes::Bytes;

use super::{
    ANNOUNCED, ANNOUNCEMENT, ANNOUNCEMENT_BODY, ANNOUNCEMENT_TASK, ANNOUNCEMENTS_MADE, ATTRIBUTE_NAMES, AUDIENCE,
    AppId, DEPLOYMENT, UserId, VERSIONSTAMP_TYPE, key,
};
use crate::store::Versionstamp;

/// Names of the attributes that an application's users may have.
pub fn attribute_names(app: AppId) -> Bytes {
    key(&(app, ATTRIBUTE_NAMES))
}

/// Attributes and tags of a user.
pub fn audience(app: AppId, user: &UserId) -> Bytes {
    key(&(app, AUDIENCE, user.as_str()))
}

/// What every announcement of an application begins with; the versionstamp follows.
pub fn announcement_prefix(app: AppId) -> Vec<u8> {
    let mut prefix = key(&(app, ANNOUNCEMENT)).to_vec();
    prefix.push(VERSIONSTAMP_TYPE);
    prefix
}

/// The announcements of an application that stand behind `position`.
pub fn announcements_after(app: AppId, position: Versionstamp) -> (Bytes, Bytes) {
    let mut begin = announcement_prefix(app);
    let mut end = begin.clone();
    begin.extend_from_slice(&position.0);
    begin.push(0);
    end.extend_from_slice(&[0xff; Versionstamp::LEN + 1]);
    (begin.into(), end.into())
}

/// What an announcement says, by the number that its maker gave it.
pub fn announcement_body(app: AppId, random: u32) -> Bytes {
    key(&(app, ANNOUNCEMENT_BODY, random))
}

/// The announcement that was made under a number.
pub fn announcement_task(app: AppId, random: u32) -> Bytes {
    key(&(app, ANNOUNCEMENT_TASK, random))
}

/// Up to which announcement a user has been told.
pub fn announced(app: AppId, user: &UserId) -> Bytes {
    key(&(app, ANNOUNCED, user.as_str()))
}

/// Counts announcements of all applications: what every node watches.
pub fn announcements_made() -> Bytes {
    key(&(DEPLOYMENT, ANNOUNCEMENTS_MADE))
}
