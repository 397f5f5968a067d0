//! Extensions of a message: keys with values that either side sets, changes and removes, reactions above
//! all. A change names the version it is made to, so that nobody overwrites what they have not seen.

use bytes::Bytes;
use prost::Message as _;
use protocol::message::{Extension, ExtensionChange, ExtensionsChanged, event::What};

use super::Change;
use crate::{
    domain::{
        AppId, Error, Peer, UserId,
        act::{Answer, Author, ExtensionOutcome, Staging},
        callbacks::{Happened, MessageExtended},
        damaged,
        groups::access,
        keys::{self, Tail},
        records::ExtensionRecord,
        sync::Budget,
    },
    store::{Lane, RangeQuery, ReadMode, Store, Tx},
};

/// Extensions of a message, at the most.
pub const EXTENSIONS_MAX: usize = 300;
/// Extensions changed at a time, at the most.
pub const CHANGES_MAX: usize = 20;
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 100;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1_024;

pub(super) fn check(changes: &[ExtensionChange]) -> Result<(), Error> {
    if !(1..=CHANGES_MAX).contains(&changes.len()) {
        return Err(Error::Argument("changes must be 1 to 20"));
    }
    if changes.iter().any(|change| !(1..=KEY_BYTES_MAX).contains(&change.key.len())) {
        return Err(Error::Argument("a key must have 1 to 100 bytes"));
    }
    if changes.iter().any(|change| change.value.len() > VALUE_BYTES_MAX) {
        return Err(Error::Argument("a value must have at most 1024 bytes"));
    }
    let mut names: Vec<&str> = changes.iter().map(|change| change.key.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() == changes.len() { Ok(()) } else { Err(Error::Argument("a key is named twice")) }
}

/// Makes those changes whose version is the present one.
pub(super) async fn change(
    staging: &mut Staging<'_>,
    change: &Change,
    peer: &Peer,
    seq: u64,
    changes: &[ExtensionChange],
) -> Result<Answer, Error> {
    let mut message = change.present_message(staging, peer, seq).await?;
    change.ensure_welcome(staging, peer).await?;
    let tail = Tail::of(&change.user, peer);
    let mut present = read(staging.tx, ReadMode::Serializable, change.app, &tail, seq).await?;
    // The counter stays when the extensions go: a version is never given twice.
    let counter_key = tail.extension_counter(change.app, seq);
    let mut version = counter(staging.get(&counter_key).await?)?;
    let mut changed = Vec::new();
    let mut results = Vec::with_capacity(changes.len());
    for wanted in changes {
        let index = present.iter().position(|extension| extension.key == wanted.key);
        let found = index.and_then(|index| present.get(index));
        let outcome = match change.by {
            Author::User => judge(found, wanted, present.len(), staging.again),
            // Whatever is there: that is theirs to say.
            Author::Admin => {
                let wanted = ExtensionChange { version: found.map_or(0, |found| found.version), ..wanted.clone() };
                judge(found, &wanted, present.len(), staging.again)
            }
        };
        if outcome == ExtensionOutcome::Changed {
            version += 1;
            index.map(|index| present.swap_remove(index));
            let key = tail.extension(change.app, seq, &wanted.key);
            let now = put(staging.tx, key, wanted, version);
            present.extend((now.version > 0).then(|| now.clone()));
            changed.push(now);
        }
        let now = present.iter().find(|extension| extension.key == wanted.key).cloned();
        results.push((now.unwrap_or_else(|| Extension { key: wanted.key.clone(), ..Extension::default() }), outcome));
    }
    if !changed.is_empty() {
        staging.set(counter_key, version.to_le_bytes().to_vec());
        if !message.extended {
            message.extended = true;
            message.revision += 1;
            staging.set(tail.message(change.app, seq), message.encode_to_vec());
        }
        let told = |peer: &Peer| {
            let conversation = Some(peer.to_conversation());
            ExtensionsChanged { conversation, seq, extensions: changed.clone() }
        };
        change.tell_stored(staging, peer, seq, |peer| What::Extensions(told(peer))).await?;
        let (message, changed) = (message.encode_to_vec().into(), told(peer).encode_to_vec().into());
        let told = MessageExtended { message, changed, version };
        let happened = match peer {
            Peer::User(_) => Happened::Extended(told),
            Peer::Group(_) => Happened::GroupExtended(told),
        };
        staging.tell_application(change.app, &tail, happened).await?;
    }
    Ok(Answer::Extensions(results))
}

fn judge(present: Option<&Extension>, wanted: &ExtensionChange, count: usize, again: bool) -> ExtensionOutcome {
    // An earlier run may have made the change already.
    let is_done = match present {
        Some(present) => !wanted.remove && present.value == wanted.value && present.version > wanted.version,
        None => wanted.remove,
    };
    if present.map_or(0, |present| present.version) != wanted.version && !(again && is_done) {
        return ExtensionOutcome::Conflict;
    }
    let is_full = present.is_none() && !wanted.remove && count >= EXTENSIONS_MAX;
    if is_full { ExtensionOutcome::Full } else { ExtensionOutcome::Changed }
}

/// Writes or removes an extension; without a version it is not there.
fn put(tx: &Tx, key: Bytes, wanted: &ExtensionChange, version: u64) -> Extension {
    if wanted.remove {
        tx.clear(&key);
        return Extension { key: wanted.key.clone(), ..Extension::default() };
    }
    tx.set(key, ExtensionRecord { value: wanted.value.clone(), version }.encode_to_vec());
    Extension { key: wanted.key.clone(), value: wanted.value.clone(), version }
}

fn counter(stored: Option<Bytes>) -> Result<u64, Error> {
    let Some(stored) = stored else { return Ok(0) };
    stored[..].try_into().map(u64::from_le_bytes).map_err(|_| damaged("extension counter"))
}

/// A page of the extensions of a message, by key, behind `after`; and whether it goes on.
pub async fn page(
    store: &Store,
    app: AppId,
    (user, by): (&UserId, Author),
    peer: &Peer,
    seq: u64,
    after: String,
    bytes_max: usize,
) -> Result<(Vec<Extension>, bool), Error> {
    let (user, peer) = (user.clone(), peer.clone());
    let read = async move |tx: &Tx| {
        if let (Peer::Group(group), Author::User) = (&peer, by) {
            access::ensure_sees(tx, app, group, &user, seq).await?;
        }
        read(tx, ReadMode::Snapshot, app, &Tail::of(&user, &peer), seq).await
    };
    let mut left = store.run(Lane::Read, "extensions", read).await?.0;
    left.retain(|extension| after.is_empty() || extension.key > after);
    let mut budget = Budget::new(bytes_max);
    let fits = left.iter().take_while(|extension| budget.take(extension.encoded_len())).count();
    let more = fits < left.len();
    left.truncate(fits);
    Ok((left, more))
}

/// All extensions of a message, by key.
async fn read(tx: &Tx, mode: ReadMode, app: AppId, tail: &Tail, seq: u64) -> Result<Vec<Extension>, Error> {
    let (begin, end) = tail.extensions(app, seq);
    let query = RangeQuery { begin, end, limit: EXTENSIONS_MAX, reverse: false, mode };
    let decode = |(key, value): (Bytes, Bytes)| {
        let record = ExtensionRecord::decode(value).map_err(|_| damaged("extension"))?;
        let key = keys::extension_name(&key).ok_or_else(|| damaged("extension key"))?;
        Ok(Extension { key, value: record.value, version: record.version })
    };
    tx.range(query).await?.pairs.into_iter().map(decode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_made_to_the_version_it_names_or_not_at_all() {
        use ExtensionOutcome::{Changed, Conflict, Full};
        let wanted = |version, remove| ExtensionChange { key: "k".into(), value: "new".into(), remove, version };
        let present = |version, value: &'static str| Extension { key: "k".into(), value: value.into(), version };
        let cases = [
            (None, wanted(0, false), 0, false, Changed),
            (None, wanted(3, false), 0, false, Conflict),
            (None, wanted(0, false), EXTENSIONS_MAX, false, Full),
            (None, wanted(0, true), EXTENSIONS_MAX, false, Changed),
            (Some(present(3, "old")), wanted(3, false), EXTENSIONS_MAX, false, Changed),
            (Some(present(3, "old")), wanted(2, false), 1, false, Conflict),
            (Some(present(3, "new")), wanted(2, false), 1, false, Conflict),
            // An earlier run may have made it.
            (Some(present(3, "new")), wanted(2, false), 1, true, Changed),
            (Some(present(3, "old")), wanted(2, false), 1, true, Conflict),
            (Some(present(3, "new")), wanted(2, true), 1, true, Conflict),
            (None, wanted(3, true), 0, true, Changed),
            (None, wanted(3, true), 0, false, Conflict),
        ];
        for (present, wanted, count, again, expected) in cases {
            assert_eq!(judge(present.as_ref(), &wanted, count, again), expected, "{present:?} {wanted:?} {again}");
        }
    }
}
