//! What the server API looks up: whole users and conversations, whoever is in them.
//!
//! Only reading; what administrators change goes through the act queue like everybody else's acts.

use bytes::Bytes;
use futures::future::try_join_all;
use prost::Message as _;
use protocol::message::{ConversationState, Message};

use super::{
    AppId, Error, UserId,
    account::is_there,
    change::{conversation, label},
    damaged,
    hourly::first_since,
    keys::{self, Conversation, Tail},
    records::{AccountRecord, Head},
    sync::decode_message,
};
use crate::store::{Lane, RangeQuery, ReadMode, Store, Tx};

/// A message of the conversation between two users, whatever they have deleted of it.
pub async fn message(store: &Store, app: AppId, one: &UserId, other: &UserId, seq: u64) -> Result<Message, Error> {
    let key = keys::message(app, Conversation::between(one, other), seq);
    let read = async move |tx: &Tx| tx.snapshot_get(&key).await?.map(decode_message).transpose();
    store.run(Lane::Read, "admin_message", read).await?.0.ok_or(Error::MessageUnknown)
}

/// The first messages of the conversation between two users from a time on, whatever they have deleted of it.
pub async fn messages_since(
    store: &Store,
    app: AppId,
    one: &UserId,
    other: &UserId,
    since_ms: u64,
    limit: usize,
) -> Result<Vec<Message>, Error> {
    let tail = Tail::from(Conversation::between(one, other));
    let read = async move |tx: &Tx| -> Result<Vec<Message>, Error> {
        let head = Head::from_stored(tx.snapshot_get(&tail.head(app)).await?)?;
        let first = first_since(tx, app, &tail, head.seq, since_ms).await?;
        let (begin, end) = (tail.message(app, first), tail.message(app, head.seq + 1));
        let query = RangeQuery { begin, end, limit, reverse: false, mode: ReadMode::Snapshot };
        tx.range(query).await?.pairs.into_iter().map(|(_, stored)| decode_message(stored)).collect()
    };
    Ok(store.run(Lane::Read, "messages_since", read).await?.0)
}

/// Which of these users have an account, in portions of one transaction each.
pub async fn existing(store: &Store, app: AppId, users: &[UserId]) -> Result<Vec<bool>, Error> {
    const PER_TRANSACTION: usize = 256;
    let mut all = Vec::with_capacity(users.len());
    for users in users.chunks(PER_TRANSACTION) {
        let users = users.to_vec();
        let look = async move |tx: &Tx| -> Result<Vec<bool>, Error> {
            let look = async |user: &UserId| is_there(tx.snapshot_get(&keys::account(app, user)).await?);
            try_join_all(users.iter().map(look)).await
        };
        all.extend(store.run(Lane::Read, "existing", look).await?.0);
    }
    Ok(all)
}

/// A user's labels, each with its number.
pub async fn labels(store: &Store, app: AppId, user: &UserId) -> Result<Vec<(u32, String)>, Error> {
    let user = user.clone();
    let read = async move |tx: &Tx| label::decode(tx.snapshot_get(&keys::labels(app, &user)).await?);
    let labels = store.run(Lane::Read, "labels", read).await?.0.labels;
    Ok(labels.into_iter().map(|label| (label.number, label.name)).collect())
}

/// What a user keeps about conversations, by the names of their other sides behind `after`: at most `limit` of
/// them; and the last name looked at, if there are more.
pub async fn states(
    store: &Store,
    app: AppId,
    user: &UserId,
    after: Option<UserId>,
    limit: usize,
) -> Result<(Vec<(UserId, ConversationState)>, Option<UserId>), Error> {
    let user = user.clone();
    let read = async move |tx: &Tx| -> Result<_, Error> {
        let labels = label::decode(tx.snapshot_get(&keys::labels(app, &user)).await?)?;
        let (mut begin, end) = keys::all_kept(app, &user);
        if let Some(after) = &after {
            begin = [&keys::kept(app, &user, &after.clone().into())[..], &[0]].concat().into();
        }
        let query = RangeQuery { begin, end, limit, reverse: false, mode: ReadMode::Snapshot };
        let page = tx.range(query).await?;
        let state = |(key, stored): (Bytes, Bytes)| -> Result<_, Error> {
            let peer = keys::kept_peer(&key).ok_or_else(|| damaged("conversation record key"))?;
            Ok((peer, conversation::state(&conversation::decode(Some(stored))?, &labels)))
        };
        let states = page.pairs.into_iter().map(state).collect::<Result<Vec<_>, Error>>()?;
        let more = if page.more { states.last().map(|(peer, _)| peer.clone()) } else { None };
        Ok((states, more))
    };
    Ok(store.run(Lane::Read, "states", read).await?.0)
}

/// Accounts by the time of their creation: `tell` is called with it for each, in milliseconds since the Unix epoch.
pub async fn each_account(store: &Store, app: AppId, tell: &mut (dyn FnMut(u64) + Send)) -> Result<(), Error> {
    const PER_TRANSACTION: usize = 1_000;
    let (mut begin, end) = keys::all_accounts(app);
    loop {
        let (from, end) = (begin.clone(), end.clone());
        let read = async move |tx: &Tx| -> Result<_, Error> {
            let (begin, end, mode) = (from.clone(), end.clone(), ReadMode::Snapshot);
            Ok(tx.range(RangeQuery { begin, end, limit: PER_TRANSACTION, reverse: false, mode }).await?)
        };
        let page = store.run(Lane::Read, "accounts", read).await?.0;
        for (_, stored) in &page.pairs {
            if is_there(Some(stored.clone()))? {
                tell(AccountRecord::decode(stored.clone()).map_err(|_| damaged("account"))?.created_ms);
            }
        }
        match page.pairs.last() {
            Some((last, _)) if page.more => begin = [&last[..], &[0]].concat().into(),
            _ => return Ok(()),
        }
    }
}
