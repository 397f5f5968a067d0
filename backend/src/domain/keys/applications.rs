//! Keys of the applications as such.

use bytes::Bytes;
use foundationdb_tuple::pack;

use super::{APPLICATIONS_VERSION, AppId, DEPLOYMENT, REMOVAL, children, expiry::split_number, key};

/// Grows with every change of an application.
pub(crate) fn applications_version() -> Bytes {
    key(&(DEPLOYMENT, APPLICATIONS_VERSION))
}

/// Says that an application was deleted.
pub(crate) fn removal(app: AppId) -> Bytes {
    key(&(DEPLOYMENT, REMOVAL, app))
}

/// All deleted applications.
pub(crate) fn removals() -> (Bytes, Bytes) {
    children(&(DEPLOYMENT, REMOVAL))
}

/// The application in a key of [`removals`].
pub(crate) fn removed_application(key: &[u8]) -> Option<AppId> {
    let behind = key.strip_prefix(&pack(&(DEPLOYMENT, REMOVAL))[..])?;
    split_number(behind)?.0.try_into().ok()
}

/// Everything of an application.
pub(crate) fn whole_application(app: AppId) -> (Bytes, Bytes) {
    children(&(app,))
}
