//! Who may not write: administrators mute users, for a time or for ever.
//!
//! A send looks for its sender's record only where somebody has ever been muted: that is one key an
//! application, read once a transaction.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::{AppId, Error, UserId, act::Staging, applications, damaged, keys, records::MuteRecord};
use crate::{
    env::Clock,
    store::{Lane, Store, Tx},
};

/// Seconds that stand for ever.
pub const FOR_EVER_S: u32 = u32::MAX;

/// For how long a user may not write from now on, in seconds; 0: the user may, [`FOR_EVER_S`]: never again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mute {
    /// In 1:1 conversations.
    pub one_to_one_s: u32,
    /// In groups.
    pub groups_s: u32,
}

/// Mutes a user, or lets the user write again; `None`: as before.
pub async fn set(
    store: &Store,
    clock: &Arc<dyn Clock>,
    app: AppId,
    user: &UserId,
    one_to_one_s: Option<u32>,
    groups_s: Option<u32>,
) -> Result<(), Error> {
    let (user, now_s) = (user.clone(), clock.unix_ms() / 1000);
    let write = async move |tx: &Tx| -> Result<(), Error> {
        applications::ensure(tx, app).await?;
        let key = keys::mute(app, &user);
        let mut record = decode(tx.get(&key).await?)?;
        if let Some(seconds) = one_to_one_s {
            record.one_to_one_until_s = until(now_s, seconds);
        }
        if let Some(seconds) = groups_s {
            record.groups_until_s = until(now_s, seconds);
        }
        if record == MuteRecord::default() {
            tx.clear(&key);
        } else {
            tx.set(keys::mutes(app), Bytes::new());
            tx.set(key, record.encode_to_vec());
        }
        Ok(())
    };
    store.run(Lane::Write, "mute", write).await?;
    Ok(())
}

/// For how long a user may not write.
pub async fn get(store: &Store, clock: &Arc<dyn Clock>, app: AppId, user: &UserId) -> Result<Mute, Error> {
    let (user, now_s) = (user.clone(), clock.unix_ms() / 1000);
    let read = async move |tx: &Tx| decode(tx.snapshot_get(&keys::mute(app, &user)).await?);
    let record = store.run(Lane::Read, "muted", read).await?.0;
    let left = |until_s| left(now_s, until_s);
    Ok(Mute { one_to_one_s: left(record.one_to_one_until_s), groups_s: left(record.groups_until_s) })
}

/// Refuses a user who may not write in 1:1 conversations.
pub(crate) async fn ensure_may_speak(staging: &mut Staging<'_>, app: AppId, user: &UserId) -> Result<(), Error> {
    let record = record(staging, app, user).await?;
    match left(staging.now_ms / 1000, record.one_to_one_until_s) {
        0 => Ok(()),
        _ => Err(Error::Muted),
    }
}

/// Whether a user may not write in groups, whichever they are.
pub(crate) async fn is_muted_in_groups(staging: &mut Staging<'_>, app: AppId, user: &UserId) -> Result<bool, Error> {
    let record = record(staging, app, user).await?;
    Ok(left(staging.now_ms / 1000, record.groups_until_s) > 0)
}

async fn record(staging: &mut Staging<'_>, app: AppId, user: &UserId) -> Result<MuteRecord, Error> {
    match staging.has_mutes(app).await? {
        true => decode(staging.tx.snapshot_get(&keys::mute(app, user)).await?),
        false => Ok(MuteRecord::default()),
    }
}

fn until(now_s: u64, seconds: u32) -> u64 {
    match seconds {
        0 => 0,
        FOR_EVER_S => u64::MAX,
        seconds => now_s + u64::from(seconds),
    }
}

fn left(now_s: u64, until_s: u64) -> u32 {
    match until_s {
        u64::MAX => FOR_EVER_S,
        until_s => u32::try_from(until_s.saturating_sub(now_s)).unwrap_or(FOR_EVER_S),
    }
}

fn decode(stored: Option<Bytes>) -> Result<MuteRecord, Error> {
    stored.map_or_else(
        || Ok(MuteRecord::default()),
        |stored| MuteRecord::decode(stored).map_err(|_| damaged("mute record")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_end_and_for_ever_does_not() {
        for (seconds, later_s, expected_s) in
            [(0, 0, 0), (60, 0, 60), (60, 59, 1), (60, 60, 0), (60, 61, 0), (FOR_EVER_S, 1 << 40, FOR_EVER_S)]
        {
            assert_eq!(left(1_000 + later_s, until(1_000, seconds)), expected_s, "{seconds} after {later_s}");
        }
    }
}
