//! Keys of what users do with messages and conversations beyond sending and reading.

use bytes::Bytes;
use foundationdb_tuple::{Bytes as TupleBytes, Element, unpack};

use super::{
    ACTIVE, AppId, BLACKLIST, DELETED, DEPLOYMENT, GroupId, IN_GROUP, KEPT, LABELS, MENTION, MERGED, NODE, NODE_ALIVE,
    ONE_TO_ONE, PROBE_KEY, Peer, RELATION, STORE_ID, TICKET_KEYS, TICKET_SECRET, UserId, children, key,
};

/// What a user keeps about a conversation.
pub fn kept(app: AppId, user: &UserId, peer: &Peer) -> Bytes {
    let (kind, name) = peer_parts(peer);
    key(&(app, KEPT, user.as_str(), kind, name))
}

/// Says in which hour a user's conversation was last active.
pub fn active(app: AppId, user: &UserId, hour: u32, peer: &Peer) -> Bytes {
    let (kind, name) = peer_parts(peer);
    key(&(app, ACTIVE, user.as_str(), hour, kind, name))
}

/// All of a user's conversations, by hour.
pub fn all_active(app: AppId, user: &UserId) -> (Bytes, Bytes) {
    children(&(app, ACTIVE, user.as_str()))
}

/// Whom the conversation is with in a key of [`all_active`].
pub fn active_peer(key: &[u8]) -> Option<Peer> {
    let (_, _, _, _, kind, name): (AppId, u32, String, u32, u32, String) = unpack(key).ok()?;
    peer_of(kind, &name)
}

/// Whom a conversation is with, by its kind and name.
pub(super) fn peer_of(kind: u32, name: &str) -> Option<Peer> {
    match kind {
        ONE_TO_ONE => UserId::new(name).map(Peer::User),
        IN_GROUP => GroupId::new(name).map(Peer::Group),
        _ => None,
    }
}

/// A conversation's kind, and whom it is with.
fn peer_parts(peer: &Peer) -> (u32, &str) {
    match peer {
        Peer::User(user) => (ONE_TO_ONE, user.as_str()),
        Peer::Group(group) => (IN_GROUP, group.as_str()),
    }
}

/// The hour in a key of [`all_active`].
pub fn active_hour(key: &[u8]) -> Option<u32> {
    let (_, _, _, hour, _, _): (AppId, u32, String, u32, u32, String) = unpack(key).ok()?;
    Some(hour)
}

/// A user's conversations that were last active in an hour.
pub fn active_in(app: AppId, user: &UserId, hour: u32) -> (Bytes, Bytes) {
    let at = |hour: u32| key(&(app, ACTIVE, user.as_str(), hour));
    (at(hour), at(hour.saturating_add(1)))
}

/// Says that a user has deleted a message.
pub fn deleted(app: AppId, user: &UserId, peer: &Peer, seq: u64) -> Bytes {
    let (kind, name) = peer_parts(peer);
    key(&(app, DELETED, user.as_str(), kind, name, seq))
}

/// Says that a message mentions a user.
pub fn mention(app: AppId, user: &UserId, peer: &Peer, seq: u64) -> Bytes {
    let (kind, name) = peer_parts(peer);
    key(&(app, MENTION, user.as_str(), kind, name, seq))
}

/// The sequence that a key of [`deleted`], [`mention`], [`message`](super::message) or a pin ends with.
pub fn last_seq(key: &[u8]) -> Option<u64> {
    match unpack::<Vec<Element<'_>>>(key).ok()?.last()? {
        Element::Int(seq) => u64::try_from(*seq).ok(),
        _ => None,
    }
}

/// The name in a key of an extension.
pub fn extension_name(key: &[u8]) -> Option<String> {
    match unpack::<Vec<Element<'_>>>(key).ok()?.pop()? {
        Element::String(name) => Some(name.into_owned()),
        _ => None,
    }
}

/// What a merged message holds.
pub fn merged(app: AppId, content_id: &[u8]) -> Bytes {
    key(&(app, MERGED, TupleBytes::from(content_id)))
}

/// A message inside a merged one.
pub fn merged_message(app: AppId, content_id: &[u8], index: u32) -> Bytes {
    key(&(app, MERGED, TupleBytes::from(content_id), index))
}

/// All messages inside a merged one.
pub fn merged_messages(app: AppId, content_id: &[u8]) -> (Bytes, Bytes) {
    children(&(app, MERGED, TupleBytes::from(content_id)))
}

/// What `user` says of `peer`.
pub fn relation(app: AppId, user: &UserId, peer: &UserId) -> Bytes {
    key(&(app, RELATION, user.as_str(), peer.as_str()))
}

/// Everything that `user` says of others.
pub fn relations(app: AppId, user: &UserId) -> (Bytes, Bytes) {
    children(&(app, RELATION, user.as_str()))
}

/// Lists of users that a user keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Whose messages are refused.
    Blacklist,
}

impl Listed {
    fn subspace(self) -> u32 {
        match self {
            Listed::Blacklist => BLACKLIST,
        }
    }
}

/// Says that `other` is on a list of `user`.
pub fn listed(app: AppId, list: Listed, user: &UserId, other: &UserId) -> Bytes {
    key(&(app, list.subspace(), user.as_str(), other.as_str()))
}

/// Everybody on a list of `user`.
pub fn listed_all(app: AppId, list: Listed, user: &UserId) -> (Bytes, Bytes) {
    children(&(app, list.subspace(), user.as_str()))
}

/// Who a key of [`listed`] is about.
pub fn listed_user(key: &[u8]) -> Option<UserId> {
    let (_, _, _, other): (AppId, u32, String, String) = unpack(key).ok()?;
    UserId::new(&other)
}

/// Names of a user's labels.
pub fn labels(app: AppId, user: &UserId) -> Bytes {
    key(&(app, LABELS, user.as_str()))
}

/// Which store this is.
pub fn store_id() -> Bytes {
    key(&(DEPLOYMENT, STORE_ID))
}

/// What signs probe tokens.
pub fn probe_key() -> Bytes {
    key(&(DEPLOYMENT, PROBE_KEY))
}

/// What seals TLS tickets.
pub fn ticket_keys() -> Bytes {
    key(&(DEPLOYMENT, TICKET_KEYS))
}

/// What earlier releases derived those keys from.
pub fn ticket_secret() -> Bytes {
    key(&(DEPLOYMENT, TICKET_SECRET))
}

/// What a node says of itself.
pub fn node(id: u64) -> Bytes {
    key(&(DEPLOYMENT, NODE, id))
}

/// All nodes: from the first key to behind the last.
pub fn nodes() -> (Bytes, Bytes) {
    children(&(DEPLOYMENT, NODE))
}

/// The node of a key of [`node`].
pub fn node_of(key: &[u8]) -> Option<u64> {
    unpack::<(u32, u32, u64)>(key).ok().map(|(_, _, id)| id)
}

/// There as long as the node has not been taken for dead.
pub fn node_alive(id: u64) -> Bytes {
    key(&(DEPLOYMENT, NODE_ALIVE, id))
}
