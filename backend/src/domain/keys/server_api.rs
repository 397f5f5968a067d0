//! Keys of what only the server API writes or looks through.

use bytes::Bytes;
use foundationdb_tuple::unpack;

use super::{
    ACCOUNT, AppId, FIGURE, HISTORY_CHUNK, HISTORY_FILE, HOUR, IN_GROUP, KEPT, MUTE, ONE_TO_ONE, UserId, children, key,
};
use crate::domain::hourly::Chat;

/// Says that somebody of the application has been muted.
pub(crate) fn mutes(app: AppId) -> Bytes {
    key(&(app, MUTE))
}

/// Until when a user may not write.
pub(crate) fn mute(app: AppId, user: &UserId) -> Bytes {
    key(&(app, MUTE, user.as_str()))
}

/// The conversations that have messages of an hour.
pub(crate) fn hour(app: AppId, hour: u32) -> (Bytes, Bytes) {
    (key(&(app, HOUR, hour)), key(&(app, HOUR, hour + 1)))
}

/// The file of an hour.
pub(crate) fn history_file(app: AppId, chat: Chat, hour: u32) -> Bytes {
    match chat {
        Chat::OneToOne => key(&(app, HISTORY_FILE, hour)),
        Chat::Groups => key(&(app, HISTORY_FILE, hour, IN_GROUP)),
    }
}

/// A piece of the file of an hour.
pub(crate) fn history_chunk(app: AppId, hour: u32, attempt: u64, chunk: u32) -> Bytes {
    key(&(app, HISTORY_CHUNK, hour, attempt, chunk))
}

/// Files, and pieces of files, of the hours before `hour`.
pub(crate) fn history_before(app: AppId, hour: u32) -> [(Bytes, Bytes); 2] {
    [HISTORY_FILE, HISTORY_CHUNK].map(|subspace| (key(&(app, subspace)), key(&(app, subspace, hour))))
}

/// What a user keeps about all 1:1 conversations.
pub(crate) fn all_kept(app: AppId, user: &UserId) -> (Bytes, Bytes) {
    children(&(app, KEPT, user.as_str(), ONE_TO_ONE))
}

/// The other side in a key of [`all_kept`].
pub(crate) fn kept_peer(key: &[u8]) -> Option<UserId> {
    let (_, _, _, _, peer): (AppId, u32, String, u32, String) = unpack(key).ok()?;
    UserId::new(&peer)
}

/// All accounts of an application.
pub(crate) fn all_accounts(app: AppId) -> (Bytes, Bytes) {
    children(&(app, ACCOUNT))
}

/// How often something happened on a day.
pub(crate) fn figure(app: AppId, day: u64, figure: u32) -> Bytes {
    key(&(app, FIGURE, day, figure))
}

/// The figures of all days.
pub(crate) fn figures(app: AppId) -> (Bytes, Bytes) {
    children(&(app, FIGURE))
}

/// The figures of all days before one.
pub(crate) fn figures_before(app: AppId, day: u64) -> (Bytes, Bytes) {
    (figures(app).0, key(&(app, FIGURE, day)))
}
