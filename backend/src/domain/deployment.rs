//! What concerns the deployment as a whole.

use bytes::Bytes;

use super::{Error, keys};
use crate::{
    env::Rng,
    store::{Lane, Store, Tx},
};

/// Bytes of what nodes share to sign and seal with.
pub const SECRET_BYTES: usize = 32;

/// Which store this is: 8 bytes drawn when it was new. A cursor is worth something only together with it.
pub async fn store_id(store: &Store, rng: &dyn Rng) -> Result<Bytes, Error> {
    drawn_once(store, "store_id", keys::store_id(), &rng.next_u64().to_be_bytes()).await
}

/// From now on it is another store: one that was put back from a copy is not what devices know. Their cursors may be ahead
/// of it, and would pass for good ones as soon as it has come as far.
pub async fn rename_store(store: &Store, rng: &dyn Rng) -> Result<(), Error> {
    let id = Bytes::copy_from_slice(&rng.next_u64().to_be_bytes());
    let put = async move |tx: &Tx| -> Result<(), Error> {
        tx.set(keys::store_id(), id.clone());
        Ok(())
    };
    store.run(Lane::Write, "rename_store", put).await.map(|_| ())
}

/// What signs probe tokens, on all nodes: `fresh` if there was none yet. It must be drawn as secrets are.
pub async fn probe_key(store: &Store, fresh: [u8; SECRET_BYTES]) -> Result<[u8; SECRET_BYTES], Error> {
    let key = drawn_once(store, "probe_key", keys::probe_key(), &fresh).await?;
    // One of another length was written by nobody here; then this node has its own.
    Ok(key[..].try_into().unwrap_or(fresh))
}

/// What seals TLS tickets, on all nodes: `fresh` if there was none yet. It must be drawn as secrets are.
pub async fn ticket_secret(store: &Store, fresh: [u8; SECRET_BYTES]) -> Result<[u8; SECRET_BYTES], Error> {
    let secret = drawn_once(store, "ticket_secret", keys::ticket_secret(), &fresh).await?;
    Ok(secret[..].try_into().unwrap_or(fresh))
}

/// What stands under a key, drawn when the store was new.
async fn drawn_once(store: &Store, name: &'static str, key: Bytes, fresh: &[u8]) -> Result<Bytes, Error> {
    let fresh = Bytes::copy_from_slice(fresh);
    let put = async move |tx: &Tx| -> Result<Bytes, Error> {
        let stored = tx.get(&key).await?;
        // A start changes nothing: not even a full disk must keep it from serving what there is.
        if stored.is_none() {
            tx.set(key.clone(), fresh.clone());
        }
        Ok(stored.unwrap_or_else(|| fresh.clone()))
    };
    Ok(store.run(Lane::Write, name, put).await?.0)
}
