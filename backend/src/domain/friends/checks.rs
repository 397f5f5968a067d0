//! How users stand to each other (REL-12, REL-13).

use futures::future::try_join_all;
use prost::Message as _;
use protocol::message::Relation;

use crate::{
    domain::{AppId, Error, UserId, account, damaged, keys, records::RelationRecord},
    store::{Lane, Store, Tx},
};

/// Which relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Who is whose friend.
    Friends,
    /// Who is on whose blacklist.
    Blacklist,
}

impl Which {
    fn of(self, relation: &RelationRecord) -> bool {
        match self {
            Which::Friends => relation.friend,
            Which::Blacklist => relation.blacklisted,
        }
    }
}

/// Says of each user how `user` and that one stand to each other, `None` if there is no such account. `one_way`: only
/// what `user` says.
pub async fn relations(
    store: &Store,
    app: AppId,
    user: &UserId,
    others: Vec<UserId>,
    which: Which,
    one_way: bool,
) -> Result<Vec<Option<Relation>>, Error> {
    let user = user.clone();
    let read = async move |tx: &Tx| -> Result<Vec<Option<Relation>>, Error> {
        let each = others.iter().map(async |other| {
            let account = tx.snapshot_get(&keys::account(app, other));
            let own = says(tx, app, &user, other, which);
            let back = async { if one_way { Ok(false) } else { says(tx, app, other, &user, which).await } };
            let (own, back) = futures::try_join!(own, back)?;
            let relation = match (own, back) {
                (false, false) => Relation::None,
                (true, false) => Relation::User,
                (false, true) => Relation::Other,
                (true, true) => Relation::Both,
            };
            Ok::<_, Error>(account::is_there(account.await?)?.then_some(relation))
        });
        try_join_all(each).await
    };
    Ok(store.run(Lane::Read, "relations", read).await?.0)
}

async fn says(tx: &Tx, app: AppId, user: &UserId, other: &UserId, which: Which) -> Result<bool, Error> {
    let stored = tx.snapshot_get(&keys::relation(app, user, other)).await?;
    let relation = stored.map(|stored| RelationRecord::decode(stored).map_err(|_| damaged("relation"))).transpose()?;
    Ok(relation.is_some_and(|relation| which.of(&relation)))
}
