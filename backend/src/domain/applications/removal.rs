//! Removing all that a deleted application has left, a bounded portion a transaction.
//!
//! The application's record went when it was deleted, and whoever writes for an application has read that
//! record in the same transaction: nothing comes after it. Everything is removed in the order of the keys;
//! when nothing is left, so is the note that there is something to remove. Safe to run anywhere, any number
//! of times at once.

use bytes::Bytes;

use super::super::{AppId, Error, damaged, keys, retention::Portion};
use crate::store::{RangeQuery, ReadMode, Tx};

/// Keys that one transaction removes at the most.
const KEYS_MAX: usize = 256;

/// Removes some of what deleted applications have left. `from`: up to where an earlier portion has left
/// nothing; that only saves walking over what an LSM tree keeps of removed keys. Returns the same for the next.
pub(crate) async fn remove_portion(
    tx: &Tx,
    from: Option<&(AppId, Bytes)>,
) -> Result<(Portion, Option<(AppId, Bytes)>), Error> {
    let Some(note) = first(tx, keys::removals(), 1).await?.pop() else { return Ok((Portion::default(), None)) };
    let app = keys::removed_application(&note).ok_or_else(|| damaged("key of a removal"))?;
    let from = from.filter(|(removed, _)| *removed == app).map(|(_, from)| from.clone());
    let (begin, end) = keys::whole_application(app);
    let left = first(tx, (from.clone().unwrap_or(begin), end), KEYS_MAX).await?;
    let (Some(first), Some(last)) = (left.first(), left.last()) else {
        // Nothing behind `from`: looked through once more from the beginning.
        if from.is_none() {
            tx.clear(&note);
            tracing::info!(app, "all data of the deleted application is removed");
        }
        return Ok((Portion { removed: 0, more: true }, None));
    };
    let next = [&last[..], &[0]].concat();
    tx.clear_range(first, &next);
    Ok((Portion { removed: left.len(), more: true }, Some((app, next.into()))))
}

/// The first keys of a range.
async fn first(tx: &Tx, (begin, end): (Bytes, Bytes), limit: usize) -> Result<Vec<Bytes>, Error> {
    let query = RangeQuery { begin, end, limit, reverse: false, mode: ReadMode::Serializable };
    Ok(tx.range(query).await?.pairs.into_iter().map(|(key, _)| key).collect())
}
