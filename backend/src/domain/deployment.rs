//! What concerns the deployment as a whole.

use bytes::Bytes;

use super::{Error, keys};
use crate::{
    env::Rng,
    store::{Lane, Store, Tx},
};

/// Which store this is: 8 bytes drawn when it was new. A cursor is worth something only together with it.
pub async fn store_id(store: &Store, rng: &dyn Rng) -> Result<Bytes, Error> {
    let fresh = Bytes::copy_from_slice(&rng.next_u64().to_be_bytes());
    let put = async move |tx: &Tx| -> Result<Bytes, Error> {
        let stored = tx.get(&keys::store_id()).await?;
        // A start changes nothing: not even a full disk must keep it from serving what there is.
        if stored.is_none() {
            tx.set(keys::store_id(), fresh.clone());
        }
        Ok(stored.unwrap_or_else(|| fresh.clone()))
    };
    Ok(store.run(Lane::Write, "store_id", put).await?.0)
}
