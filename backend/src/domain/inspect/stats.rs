//! What is in a store: counted.

use std::collections::BTreeMap;

use super::{
    super::{AppId, Error, keys},
    Walk,
};
use crate::store::Store;

/// What an application has stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplicationStats {
    /// By the subspace's number: its name, keys, and bytes of keys and values.
    pub subspaces: BTreeMap<u32, (&'static str, u64, u64)>,
}

impl ApplicationStats {
    /// Bytes of all keys and values.
    pub fn bytes(&self) -> u64 {
        self.subspaces.values().map(|(_, _, bytes)| bytes).sum()
    }
}

/// What a store has, by application; 0 is what concerns the deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The applications.
    pub applications: BTreeMap<AppId, ApplicationStats>,
    /// Keys that no version of this program has written.
    pub foreign_keys: u64,
}

/// Counts everything.
pub fn stats(store: &Store) -> Result<Stats, Error> {
    let mut stats = Stats::default();
    Walk { store }.each(Walk::whole(), |key, value| {
        let Some((app, subspace, _)) = keys::Parts::of(&key) else {
            stats.foreign_keys += 1;
            return Ok(());
        };
        let name = keys::SUBSPACES.iter().find(|(number, _)| *number == subspace).map_or("unknown", |(_, name)| name);
        let application = stats.applications.entry(app).or_default();
        let (_, count, bytes) = application.subspaces.entry(subspace).or_insert((name, 0, 0));
        *count += 1;
        *bytes += (key.len() + value.len()) as u64;
        Ok(())
    })?;
    Ok(stats)
}
