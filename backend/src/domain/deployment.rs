//! What concerns the deployment as a whole.

use std::fmt;

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

/// What seals TLS tickets in a period, on all nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TicketKey {
    /// Counted from the Unix epoch.
    pub period: u64,
    /// Drawn for this period: no other key tells anything of it.
    pub key: [u8; SECRET_BYTES],
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKey of {}", self.period)
    }
}

impl TicketKey {
    /// Bytes of a stored one.
    pub(crate) const LEN: usize = size_of::<u64>() + SECRET_BYTES;

    fn stored(bytes: &[u8]) -> Option<TicketKey> {
        let (period, key) = bytes.split_first_chunk()?;
        Some(TicketKey { period: u64::from_be_bytes(*period), key: key.try_into().ok()? })
    }
}

/// The keys of TLS tickets in the present period and the one before. The first node that asks in a period puts `fresh` for
/// it, which must be drawn as secrets are; keys of older periods are gone then, and nothing that is left tells them.
pub async fn ticket_keys(store: &Store, period: u64, fresh: [u8; SECRET_BYTES]) -> Result<Vec<TicketKey>, Error> {
    let rotate = async move |tx: &Tx| -> Result<Vec<TicketKey>, Error> {
        let stored = tx.get(&keys::ticket_keys()).await?.unwrap_or_default();
        let stored: Vec<_> = stored.chunks(TicketKey::LEN).filter_map(TicketKey::stored).collect();
        let rotated = rotated(&stored, TicketKey { period, key: fresh });
        if rotated != stored {
            let encoded: Vec<u8> =
                rotated.iter().flat_map(|it| [&it.period.to_be_bytes()[..], &it.key].concat()).collect();
            tx.set(keys::ticket_keys(), encoded);
            // What earlier releases derived all keys from.
            tx.clear(&keys::ticket_secret());
        }
        Ok(rotated)
    };
    Ok(store.run(Lane::Write, "ticket_keys", rotate).await?.0)
}

/// What there is once the period of `fresh` has begun. Where it has begun by another node's clock, that node's stays.
fn rotated(stored: &[TicketKey], fresh: TicketKey) -> Vec<TicketKey> {
    let mut near: Vec<_> = stored.iter().filter(|it| it.period.abs_diff(fresh.period) <= 1).copied().collect();
    if near.iter().all(|it| it.period < fresh.period) {
        near.push(fresh);
    }
    near
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::executor::block_on;

    use super::*;
    use crate::{
        domain::inspect,
        env::{SeededRng, SystemClock},
        store::{Faults, Memory, StoreOptions},
    };

    fn store() -> Store {
        let engine = Arc::new(Memory::new(1, Faults::default()));
        Store::new(engine, Arc::new(SystemClock::default()), Arc::new(SeededRng::new(1)), StoreOptions::default())
    }

    fn stored(store: &Store, key: Bytes) -> Option<Bytes> {
        let get = async move |tx: &Tx| -> Result<Option<Bytes>, Error> { Ok(tx.get(&key).await?) };
        block_on(store.run(Lane::Read, "get", get)).unwrap().0
    }

    fn key(period: u64, byte: u8) -> TicketKey {
        TicketKey { period, key: [byte; SECRET_BYTES] }
    }

    #[test]
    fn geo_01_past_keys_of_tickets_are_gone_from_the_store() {
        let store = store();
        let ask = |period, byte| block_on(ticket_keys(&store, period, [byte; SECRET_BYTES])).unwrap();
        assert_eq!(ask(100, 1), [key(100, 1)]);
        assert_eq!(ask(100, 2), [key(100, 1)], "the first one's is everybody's");
        assert_eq!(ask(101, 3), [key(100, 1), key(101, 3)]);
        assert_eq!(ask(100, 4), [key(100, 1), key(101, 3)], "a clock that is behind takes nothing back");
        assert_eq!(ask(102, 5), [key(101, 3), key(102, 5)]);
        // The first key is nowhere, and the others were drawn without it.
        let row = stored(&store, keys::ticket_keys()).unwrap();
        assert_eq!(row.len(), 2 * TicketKey::LEN);
        assert!(!row.windows(SECRET_BYTES).any(|bytes| bytes == [1; SECRET_BYTES]));
        assert_eq!(ask(110, 6), [key(110, 6)], "after a long time");
        assert_eq!(ask(105, 7), [key(105, 7)], "and where a clock was far ahead");
        assert!(!format!("{:?}", key(1, 77)).contains("77"), "none gets into a log");
    }

    #[test]
    fn geo_01_priv_02_the_secret_of_earlier_releases_is_removed() {
        let store = store();
        let old = [9; SECRET_BYTES];
        block_on(drawn_once(&store, "old", keys::ticket_secret(), &old)).unwrap();
        assert_eq!(block_on(ticket_keys(&store, 100, [1; SECRET_BYTES])).unwrap(), [key(100, 1)]);
        assert_eq!(stored(&store, keys::ticket_secret()), None);
        // A node of the earlier release that starts beside draws another one, which goes with the next period.
        block_on(drawn_once(&store, "old", keys::ticket_secret(), &old)).unwrap();
        block_on(ticket_keys(&store, 101, [2; SECRET_BYTES])).unwrap();
        assert_eq!(stored(&store, keys::ticket_secret()), None);
        let checked = inspect::check(&store, &mut |problem| panic!("{problem}")).unwrap();
        assert_eq!((checked.problems, checked.unknown), (0, 0));
    }
}
