//! How often something happened in an application, by the day: what its operators are told of it.
//!
//! Gateways count in memory, and add to the store what has come together: nothing that is counted waits for it. So
//! what a gateway has not added when it dies is missing, and what it adds in a transaction that nobody answers may count
//! twice: these are figures to look at, not to pay by.

use std::collections::BTreeMap;

use foundationdb_tuple::unpack;

use super::{AppId, Error, applications, damaged, keys};
use crate::store::{Lane, RangeQuery, ReadMode, Store, Tx};

/// Days for which figures are kept: the present one and those before it.
pub const DAYS: u64 = 30;
/// More than there are of one application: a few for each of those days.
const FIGURES_MAX: usize = 1_000;

/// What is counted. The number stands in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Figure {
    /// Logins.
    Logins = 1,
    /// 1:1 messages that users and the application's server have sent.
    Messages = 2,
    /// Requests to the application's server.
    CallbackRequests = 3,
    /// What it has answered of them.
    CallbackAnswers = 4,
    /// Messages in groups, live rooms among them, that users and the application's server have sent.
    GroupMessages = 5,
    /// Groups that were made.
    GroupsMade = 6,
    /// Groups that were dissolved.
    GroupsDissolved = 7,
    /// Times that somebody became a member of a group that was there, or came into a live room.
    GroupsJoined = 8,
    /// Times that somebody left a group, or was removed; of live rooms not those who were just gone.
    GroupsLeft = 9,
}

/// The day of a time, counted from the Unix epoch, as days begin in Beijing: so the published figures have them.
pub fn day(unix_ms: u64) -> u64 {
    (unix_ms / 1000 + 8 * 3_600) / 86_400
}

/// Adds to the figures of a day. What is older than [`DAYS`] is forgotten.
pub async fn add(store: &Store, day: u64, counted: Vec<(AppId, Figure, u64)>) -> Result<(), Error> {
    let write = async move |tx: &Tx| -> Result<(), Error> {
        for &(app, figure, count) in &counted {
            match applications::ensure(tx, app).await {
                Ok(()) => {}
                Err(Error::ApplicationUnknown) => continue, // it is gone meanwhile
                Err(error) => return Err(error),
            }
            tx.add(&keys::figure(app, day, figure as u32), count);
            let (begin, end) = keys::figures_before(app, (day + 1).saturating_sub(DAYS));
            tx.clear_range(&begin, &end);
        }
        Ok(())
    };
    store.run(Lane::Write, "figures", write).await?;
    Ok(())
}

/// All figures that are kept: of each day, those that are not 0.
pub async fn all(store: &Store, app: AppId) -> Result<BTreeMap<u64, Vec<(u32, u64)>>, Error> {
    let read = async move |tx: &Tx| -> Result<BTreeMap<u64, Vec<(u32, u64)>>, Error> {
        let (begin, end) = keys::figures(app);
        let query = RangeQuery { begin, end, limit: FIGURES_MAX, reverse: false, mode: ReadMode::Snapshot };
        let mut days: BTreeMap<u64, Vec<(u32, u64)>> = BTreeMap::new();
        for (key, value) in tx.range(query).await?.pairs {
            let (_, _, day, figure): (AppId, u32, u64, u32) = unpack(&key).map_err(|_| damaged("figure's key"))?;
            let count = value[..].try_into().map(u64::from_le_bytes).map_err(|_| damaged("figure"))?;
            days.entry(day).or_default().push((figure, count));
        }
        Ok(days)
    };
    Ok(store.run(Lane::Read, "figures_read", read).await?.0)
}
