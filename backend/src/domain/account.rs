//! Applications and their accounts: who exists, and who may log in.

use std::sync::Arc;

use prost::Message;

use super::{
    AppId, Error, UserId, damaged, keys,
    records::{AccountRecord, ApplicationRecord},
    usersig,
};
use crate::{
    env::Clock,
    store::{Lane, Store, Tx},
};

/// Creates an application, or sets the secret of an existing one. `development`: its secret lies in a
/// development start's folder, so a production start must not accept it.
pub async fn put_application(
    store: &Store,
    clock: &Arc<dyn Clock>,
    app: AppId,
    secret: &str,
    development: bool,
) -> Result<(), Error> {
    if app == 0 {
        return Err(Error::Argument("sdkappid is 0"));
    }
    let record = ApplicationRecord { secret: secret.to_owned(), created_ms: clock.unix_ms(), development };
    let put = async move |tx: &Tx| -> Result<(), Error> {
        let existing = application(tx, app).await?;
        let created_ms = existing.map_or(record.created_ms, |existing| existing.created_ms);
        tx.set(keys::application(app), ApplicationRecord { created_ms, ..record.clone() }.encode_to_vec());
        Ok(())
    };
    store.run(Lane::Write, "put_application", put).await?;
    Ok(())
}

/// Checks who the user is, and creates the account at its first login. Development applications exist
/// only where `development` is set.
pub async fn login(
    store: &Store,
    clock: &Arc<dyn Clock>,
    development: bool,
    app: AppId,
    user: &UserId,
    usersig: String,
) -> Result<(), Error> {
    let now_ms = clock.unix_ms();
    let check = {
        let user = user.clone();
        async move |tx: &Tx| -> Result<bool, Error> {
            let application = application(tx, app).await?.filter(|found| development || !found.development);
            let application = application.ok_or(Error::ApplicationUnknown)?;
            usersig::verify(app, &application.secret, user.as_str(), &usersig, now_ms / 1000)?;
            account_exists(tx, app, &user).await
        }
    };
    let (exists, _) = store.run(Lane::Read, "login", check).await?;
    if !exists {
        let user = user.clone();
        let create = async move |tx: &Tx| create_account(tx, app, &user, now_ms).await;
        store.run(Lane::Write, "create_account", create).await?;
    }
    Ok(())
}

/// Writes the account unless it is there.
pub(crate) async fn create_account(tx: &Tx, app: AppId, user: &UserId, now_ms: u64) -> Result<(), Error> {
    if !account_exists(tx, app, user).await? {
        tx.set(keys::account(app, user), AccountRecord { created_ms: now_ms }.encode_to_vec());
    }
    Ok(())
}

/// Whether the account is there.
pub(crate) async fn account_exists(tx: &Tx, app: AppId, user: &UserId) -> Result<bool, Error> {
    Ok(tx.get(&keys::account(app, user)).await?.is_some())
}

async fn application(tx: &Tx, app: AppId) -> Result<Option<ApplicationRecord>, Error> {
    let stored = tx.snapshot_get(&keys::application(app)).await?;
    stored.map(|bytes| ApplicationRecord::decode(bytes).map_err(|_| damaged("application"))).transpose()
}
