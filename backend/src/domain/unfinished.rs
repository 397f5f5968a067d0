//! Changes that take several transactions, and what is known of them between two.
//!
//! Telling everybody who has a user as a friend, removing what a deleted account has left, or ending a large group may be more than a
//! transaction should do. Such a change writes what it has still to do beside its own writes, and hands the next part
//! on to the queue ([`super::act::Outcome`]). Should the process die in between, a gateway that starts goes on with
//! what it finds ([`acts`]).

use bytes::Bytes;
use prost::Message as _;
use protocol::message::ProfileFields;

use super::{
    AppId, Error, UserId,
    act::{Act, Staging},
    change::{Change, Kind, account::Erase, group::GroupChange, profile::ProfileChange},
    damaged,
    groups::records::ClosingRecord,
    keys,
    profile::Chosen,
};
use crate::store::{Lane, RangeQuery, ReadMode, Store, Tx};

/// What a change of several transactions has still to do.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UnfinishedRecord {
    /// The fields of the profile, as the protocol's `ProfileFields`, that friends are being told.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) fields: Bytes,
    /// Names the telling: a later one takes its place.
    #[prost(uint64, tag = "2")]
    pub(crate) round: u64,
    /// Friends up to this name have been told.
    #[prost(string, tag = "3")]
    pub(crate) after: String,
    /// The account was deleted, and what it has left is being removed.
    #[prost(bool, tag = "4")]
    pub(crate) erase: bool,
}

impl UnfinishedRecord {
    pub(crate) fn from_stored(stored: Option<Bytes>) -> Result<Option<Self>, Error> {
        stored.map(|stored| UnfinishedRecord::decode(stored).map_err(|_| damaged("unfinished change"))).transpose()
    }

    /// The fields that friends are being told.
    pub(crate) fn chosen(&self) -> Result<Chosen, Error> {
        let fields = ProfileFields::decode(self.fields.clone()).map_err(|_| damaged("unfinished change"))?;
        Chosen::of(&fields).map_err(|_| damaged("unfinished change"))
    }

    /// The act that goes on with it.
    fn act(self, app: AppId, user: UserId) -> Result<Act, Error> {
        let kind = match self.erase {
            true => Kind::Erase(Erase::Relations(Vec::new())),
            false => Kind::Profile(ProfileChange::Tell {
                fields: self.chosen()?,
                round: self.round,
                after: UserId::new(&self.after),
                to: Vec::new(),
            }),
        };
        Ok(Act::Change(Box::new(Change::by_admin(app, user, kind))))
    }
}

/// What there is still to do for a user.
pub(crate) async fn read(
    staging: &mut Staging<'_>,
    app: AppId,
    user: &UserId,
) -> Result<Option<UnfinishedRecord>, Error> {
    UnfinishedRecord::from_stored(staging.get(&keys::unfinished(app, user)).await?)
}

/// Whether what a deleted account has left is still being removed.
pub(crate) async fn is_erasing(tx: &Tx, app: AppId, user: &UserId) -> Result<bool, Error> {
    let record = UnfinishedRecord::from_stored(tx.get(&keys::unfinished(app, user)).await?)?;
    Ok(record.is_some_and(|record| record.erase))
}

/// Acts that go on with what a process has left unfinished. To carry out one that is still under way does no harm.
pub async fn acts(store: &Store) -> Result<Vec<Act>, Error> {
    let mut acts = Vec::new();
    let mut after = 0;
    loop {
        let next = async move |tx: &Tx| -> Result<Option<AppId>, Error> {
            let (begin, end) = keys::applications_after(after);
            let query = RangeQuery { begin, end, limit: 1, reverse: false, mode: ReadMode::Snapshot };
            Ok(tx.range(query).await?.pairs.first().and_then(|(key, _)| keys::application_of(key)))
        };
        let (Some(app), _) = store.run(Lane::Read, "next_application", next).await? else { return Ok(acts) };
        after = app;
        of_application(store, app, &mut acts).await?;
    }
}

async fn of_application(store: &Store, app: AppId, acts: &mut Vec<Act>) -> Result<(), Error> {
    each(store, keys::all_unfinished(app), |key, stored| {
        let user = keys::one_user(&key).ok_or_else(|| damaged("unfinished key"))?;
        acts.push(UnfinishedRecord::from_stored(Some(stored))?.unwrap_or_default().act(app, user)?);
        Ok(())
    })
    .await?;
    each(store, keys::closing_groups(app), |key, stored| {
        let group = keys::group_of(&key).ok_or_else(|| damaged("key of a closing group"))?;
        let ClosingRecord { by, .. } = ClosingRecord::decode(stored).map_err(|_| damaged("closing group"))?;
        let by = UserId::new(&by).ok_or_else(|| damaged("closing group"))?;
        let kind = Kind::Group(Box::new(GroupChange::Close { group }));
        acts.push(Act::Change(Box::new(Change::by_admin(app, by, kind))));
        Ok(())
    })
    .await
}

/// Goes through what a range holds, some in a transaction.
async fn each(
    store: &Store,
    (mut begin, end): (Bytes, Bytes),
    mut found: impl FnMut(Bytes, Bytes) -> Result<(), Error>,
) -> Result<(), Error> {
    const PER_TRANSACTION: usize = 256;
    loop {
        let query =
            RangeQuery { begin, end: end.clone(), limit: PER_TRANSACTION, reverse: false, mode: ReadMode::Snapshot };
        let read = async move |tx: &Tx| -> Result<_, Error> { Ok(tx.range(query.clone()).await?) };
        let (page, _) = store.run(Lane::Read, "unfinished", read).await?;
        let last = page.pairs.last().map(|(key, _)| key.clone());
        page.pairs.into_iter().try_for_each(|(key, stored)| found(key, stored))?;
        match last {
            Some(key) if page.more => begin = super::friends::behind(&key),
            _ => return Ok(()),
        }
    }
}
