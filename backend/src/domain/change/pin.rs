//! Messages that are pinned for both sides of a conversation.

use bytes::Bytes;
use prost::Message as _;
use protocol::message::{PinChanged, event::What};

use super::Change;
use crate::{
    domain::{
        Error, Peer,
        act::{Answer, Staging},
        damaged,
        keys::{self, Tail},
        records::PinRecord,
    },
    store::{RangeQuery, ReadMode},
};

/// Pinned messages of a conversation, at the most.
pub const PINS_MAX: usize = 10;

pub(super) async fn change(
    staging: &mut Staging<'_>,
    change: &Change,
    peer: &Peer,
    seq: u64,
    unpin: bool,
) -> Result<Answer, Error> {
    let tail = Tail::of(&change.user, peer);
    // A pin whose message was recalled or has expired can still be taken off.
    if !unpin {
        change.present_message(staging, peer, seq).await?;
    }
    if !unpin || matches!(peer, Peer::Group(_)) {
        change.ensure_welcome(staging, peer).await?;
    }
    let (begin, end) = tail.pins(change.app);
    // One more than there may be: so the whole range is read, and whoever writes into it conflicts.
    let query = RangeQuery { begin, end, limit: PINS_MAX + 1, reverse: false, mode: ReadMode::Serializable };
    let pins = staging.tx.range(query).await?.pairs;
    let key = tail.pin(change.app, seq);
    let present = pins.iter().find(|(pinned, _)| *pinned == key).map(|(_, record)| record.clone());
    let is_pinned = present.is_some();
    if is_pinned != unpin && !staging.again {
        return Ok(Answer::Done); // it is as it shall be
    }
    let mut by = change.user.to_string();
    if unpin {
        staging.tx.clear(&key);
    } else if let Some(present) = present {
        // An earlier run's, or somebody else's.
        by = PinRecord::decode(present).map_err(|_| damaged("pin"))?.by;
    } else {
        if pins.len() >= PINS_MAX {
            take_off_expired(staging, change, &tail, &pins).await?;
        }
        let record = PinRecord { by: by.clone(), time_ms: staging.now_ms };
        staging.tx.set(key, record.encode_to_vec());
    }
    let event = |peer: &Peer| {
        let (conversation, by) = (Some(peer.to_conversation()), by.clone());
        What::Pin(PinChanged { conversation, seq, by, unpinned: unpin })
    };
    change.tell_stored(staging, peer, seq, event).await?;
    Ok(Answer::Done)
}

/// Makes room by taking off pins whose messages are no longer kept: nobody sees them, so nobody would. Refuses
/// if there are none.
async fn take_off_expired(
    staging: &Staging<'_>,
    change: &Change,
    tail: &Tail,
    pins: &[(Bytes, Bytes)],
) -> Result<(), Error> {
    let mut expired = Vec::new();
    for (pin, _) in pins {
        let seq = keys::last_seq(pin).ok_or_else(|| damaged("pin key"))?;
        if staging.tx.get(&tail.message(change.app, seq)).await?.is_none() {
            expired.push(pin);
        }
    }
    if expired.is_empty() {
        return Err(Error::ListFull("a conversation has at most 10 pinned messages"));
    }
    expired.into_iter().for_each(|pin| staging.tx.clear(pin));
    Ok(())
}
