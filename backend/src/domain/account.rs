//! Accounts: who exists, and who may log in.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use prost::Message;

use super::{
    AppId, Error, UserId,
    applications::{self, application},
    damaged, keys,
    records::AccountRecord,
    settings::Settings,
    unfinished, usersig,
};
use crate::{
    env::Clock,
    store::{Lane, Store, StoreError, Tx},
};

/// A user whose credential is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// The application's settings.
    pub settings: Settings,
    /// When the credential was issued, in seconds since the Unix epoch: whoever keeps sessions compares it
    /// with an invalidation that came while the login was under way.
    pub issued_s: u64,
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
) -> Result<LoggedIn, Error> {
    let now_ms = clock.unix_ms();
    let check = {
        let user = user.clone();
        async move |tx: &Tx| -> Result<(bool, LoggedIn), Error> {
            let application = application(tx, app).await?.filter(|found| development || !found.development);
            let application = application.ok_or(Error::ApplicationUnknown)?;
            let issued_s = application.verify(user.as_str(), &usersig, now_ms / 1000)?;
            let account = account(tx, app, &user).await?;
            if account.as_ref().is_some_and(|account| issued_s < account.usersigs_from_s) {
                return Err(usersig::Invalid::Invalidated.into());
            }
            let exists = account.is_some_and(|account| !account.deleted);
            Ok((exists, LoggedIn { settings: application.settings, issued_s }))
        }
    };
    let ((exists, logged_in), _) = store.run(Lane::Read, "login", check).await?;
    if !exists {
        let user = user.clone();
        let create = async move |tx: &Tx| create_account(tx, app, &user, now_ms).await;
        store.run(Lane::Write, "create_account", create).await?;
    }
    Ok(logged_in)
}

/// Checks that `user` is an administrator of the application, with the credential of one. As for
/// [`login`], but there need be no account, and none is made.
pub async fn admin(
    store: &Store,
    clock: &Arc<dyn Clock>,
    development: bool,
    app: AppId,
    user: &UserId,
    usersig: String,
) -> Result<(), Error> {
    let now_s = clock.unix_ms() / 1000;
    let user = user.clone();
    let check = async move |tx: &Tx| -> Result<(), Error> {
        let application = application(tx, app).await?.filter(|found| development || !found.development);
        let application = application.ok_or(Error::ApplicationUnknown)?;
        let issued_s = application.verify(user.as_str(), &usersig, now_s)?;
        let settings = application.settings;
        if !settings.admins.iter().any(|admin| admin == user.as_str()) {
            return Err(Error::NotAdmin);
        }
        let account = account(tx, app, &user).await?;
        match account.is_some_and(|account| issued_s < account.usersigs_from_s) {
            true => Err(usersig::Invalid::Invalidated.into()),
            false => Ok(()),
        }
    };
    store.run(Lane::Read, "admin", check).await?;
    Ok(())
}

/// Makes every UserSig of the user that was issued until now invalid, durably (ACC-02). Returns the first
/// time of issue that is good again, in seconds since the Unix epoch; ending the user's sessions is up to
/// whoever keeps them. Fails with [`Error::UserInvalid`] if there is no such account.
///
/// A UserSig says only the second it was issued in. One from the very second of this call may have been
/// issued before it, perhaps to the thief because of whom it is made, so that whole second is refused. The
/// price is small: one issued directly afterwards may be refused too, and within a second the
/// application's server makes one that is good; clients ask it for a fresh one on that refusal.
/// It supposes that the application server's clock is not ahead of this one.
pub async fn invalidate_usersigs(
    store: &Store,
    clock: &Arc<dyn Clock>,
    app: AppId,
    user: &UserId,
) -> Result<u64, Error> {
    let from_s = invalid_until_s(clock.unix_ms());
    let user = user.clone();
    let invalidate = async move |tx: &Tx| -> Result<u64, Error> {
        applications::ensure(tx, app).await?;
        let record = account(tx, app, &user).await?.filter(|account| !account.deleted);
        let mut record = record.ok_or(Error::UserInvalid)?;
        // A clock that was set back must not make anything valid again.
        record.usersigs_from_s = record.usersigs_from_s.max(from_s);
        tx.set(keys::account(app, &user), record.encode_to_vec());
        Ok(record.usersigs_from_s)
    };
    let (from_s, _) = store.run(Lane::Write, "invalidate_usersigs", invalidate).await?;
    Ok(from_s)
}

/// The first second of issue of a UserSig that is good again, when all issued until now are to be refused.
pub(crate) fn invalid_until_s(now_ms: u64) -> u64 {
    now_ms / 1000 + 1
}

/// Accounts imported or looked for in one go, at the most.
pub const ACCOUNTS_MAX: usize = 100;

/// Creates those of the accounts that are not there (ACC-01). Idempotent.
pub async fn import(store: &Store, clock: &Arc<dyn Clock>, app: AppId, users: Vec<UserId>) -> Result<(), Error> {
    if users.len() > ACCOUNTS_MAX {
        return Err(Error::Argument("at most 100 accounts are imported at a time"));
    }
    let now_ms = clock.unix_ms();
    let import = async move |tx: &Tx| -> Result<(), Error> {
        try_join_all(users.iter().map(|user| create_account(tx, app, user, now_ms))).await?;
        Ok(())
    };
    store.run(Lane::Write, "import_accounts", import).await?;
    Ok(())
}

/// Says of each user whether the account is there (ACC-05).
pub async fn exist(store: &Store, app: AppId, users: Vec<UserId>) -> Result<Vec<bool>, Error> {
    if users.len() > ACCOUNTS_MAX {
        return Err(Error::Argument("at most 100 accounts are looked for at a time"));
    }
    let look = async move |tx: &Tx| -> Result<Vec<bool>, Error> {
        let each = users.iter().map(async |user| is_there(tx.snapshot_get(&keys::account(app, user)).await?));
        try_join_all(each).await
    };
    Ok(store.run(Lane::Read, "accounts_exist", look).await?.0)
}

/// The first time of issue of each user's UserSigs that is good, in seconds since the Unix epoch: later than all that there
/// were where the account was deleted.
pub async fn usersigs_from_s(store: &Store, app: AppId, users: Vec<UserId>) -> Result<Vec<u64>, Error> {
    if users.len() > ACCOUNTS_MAX {
        return Err(Error::Argument("at most 100 accounts are looked for at a time"));
    }
    let look = async move |tx: &Tx| -> Result<Vec<u64>, Error> {
        let each = users.iter().map(async |user| -> Result<u64, Error> {
            let account = decode(tx.snapshot_get(&keys::account(app, user)).await?)?;
            Ok(account.map_or(0, |account| account.usersigs_from_s))
        });
        try_join_all(each).await
    };
    Ok(store.run(Lane::Read, "usersigs_from", look).await?.0)
}

/// Writes the account unless it is there.
pub(crate) async fn create_account(tx: &Tx, app: AppId, user: &UserId, now_ms: u64) -> Result<(), Error> {
    let before = account(tx, app, user).await?;
    if before.as_ref().is_some_and(|account| !account.deleted) {
        return Ok(());
    }
    // What the account that was deleted has left is still being removed: what is made now would go with it.
    if before.is_some() && unfinished::is_erasing(tx, app, user).await? {
        return Err(StoreError::Busy.into());
    }
    let record = AccountRecord { created_ms: now_ms, deleted: false, ..before.unwrap_or_default() };
    tx.set(keys::account(app, user), record.encode_to_vec());
    Ok(())
}

/// Whether a stored record is that of an account: one that was deleted is none (ACC-03).
pub(crate) fn is_there(stored: Option<Bytes>) -> Result<bool, Error> {
    Ok(decode(stored)?.is_some_and(|account| !account.deleted))
}

/// An account's record, also one that was deleted.
pub(crate) fn decode(stored: Option<Bytes>) -> Result<Option<AccountRecord>, Error> {
    stored.map(|bytes| AccountRecord::decode(bytes).map_err(|_| damaged("account"))).transpose()
}

async fn account(tx: &Tx, app: AppId, user: &UserId) -> Result<Option<AccountRecord>, Error> {
    decode(tx.get(&keys::account(app, user)).await?)
}

/// The settings of an application now.
pub async fn settings_now(store: &Store, app: AppId) -> Result<Settings, Error> {
    let read = async move |tx: &Tx| applications::settings(tx, app).await;
    Ok(store.run(Lane::Read, "settings", read).await?.0)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures::executor::block_on;

    use super::*;
    use crate::{
        domain::applications::{NewApplication, put_application},
        env::SeededRng,
        store::{Faults, Memory, StoreOptions},
    };

    const APP: AppId = 7;
    const SECRET: &str = "a secret of sixteen and more";
    const START_S: u64 = 1_800_000_000;

    /// A clock that the test sets.
    struct HandClock(AtomicU64);

    impl Clock for HandClock {
        fn unix_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        fn monotonic_us(&self) -> u64 {
            0
        }
    }

    struct Service {
        store: Store,
        hand: Arc<HandClock>,
        clock: Arc<dyn Clock>,
    }

    impl Service {
        fn start() -> Self {
            let hand = Arc::new(HandClock(AtomicU64::new(START_S * 1000)));
            let clock: Arc<dyn Clock> = hand.clone();
            let engine = Arc::new(Memory::new(1, Faults::default()));
            let store = Store::new(engine, clock.clone(), Arc::new(SeededRng::new(1)), StoreOptions::default());
            for app in [APP, APP + 1] {
                block_on(put_application(&store, &clock, NewApplication::new(app, SECRET))).unwrap();
            }
            Service { store, hand, clock }
        }

        fn set_time_ms(&self, ms: u64) {
            self.hand.0.store(ms, Ordering::Relaxed);
        }

        fn login(&self, app: AppId, name: &str, issued_s: u64) -> Result<LoggedIn, Error> {
            let usersig = usersig::sign(app, SECRET, name, issued_s, 1_000_000);
            block_on(login(&self.store, &self.clock, false, app, &user(name), usersig))
        }

        fn invalidate(&self, name: &str) -> Result<u64, Error> {
            block_on(invalidate_usersigs(&self.store, &self.clock, APP, &user(name)))
        }
    }

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn invalidated() -> Result<LoggedIn, Error> {
        Err(usersig::Invalid::Invalidated.into())
    }

    #[test]
    fn acc_02_what_was_issued_until_the_call_is_refused_and_what_comes_after_is_not() {
        let service = Service::start();
        for (app, name) in [(APP, "anna"), (APP, "ben"), (APP + 1, "anna")] {
            service.login(app, name, START_S).unwrap();
        }
        service.set_time_ms(START_S * 1000 + 10_999);
        assert_eq!(service.invalidate("anna"), Ok(START_S + 11));
        let asked = ["ben", "anna", "nobody"].map(user).to_vec();
        assert_eq!(block_on(usersigs_from_s(&service.store, APP, asked)), Ok(vec![0, START_S + 11, 0]));
        assert_eq!(service.login(APP, "anna", START_S), invalidated());
        assert_eq!(service.login(APP, "anna", START_S + 10), invalidated(), "of the second of the call");
        let fresh = service.login(APP, "anna", START_S + 11).unwrap();
        assert_eq!(fresh.issued_s, START_S + 11);
        service.login(APP, "ben", START_S).expect("another user's is as good as before");
        service.login(APP + 1, "anna", START_S).expect("another application's user of that name too");
    }

    #[test]
    fn acc_02_a_clock_set_back_makes_nothing_valid_again() {
        let service = Service::start();
        service.login(APP, "anna", START_S).unwrap();
        service.set_time_ms(START_S * 1000 + 60_000);
        service.invalidate("anna").unwrap();
        service.set_time_ms(START_S * 1000);
        assert_eq!(service.invalidate("anna"), Ok(START_S + 61));
        assert_eq!(service.login(APP, "anna", START_S + 60), invalidated());
    }

    #[test]
    fn acc_01_acc_05_imported_accounts_are_there_and_log_in() {
        let service = Service::start();
        let users = ["anna", "ben", "anna"].map(user).to_vec();
        for _ in 0..2 {
            block_on(import(&service.store, &service.clock, APP, users.clone())).unwrap();
        }
        service.login(APP, "anna", START_S).unwrap();
        let asked = ["ben", "cleo", "anna"].map(user).to_vec();
        assert_eq!(block_on(exist(&service.store, APP, asked.clone())), Ok(vec![true, false, true]));
        assert_eq!(block_on(exist(&service.store, APP + 1, asked)), Ok(vec![false; 3]), "of another application");
        let many = vec![user("dan"); ACCOUNTS_MAX + 1];
        assert!(block_on(import(&service.store, &service.clock, APP, many.clone())).is_err());
        assert!(block_on(exist(&service.store, APP, many)).is_err());
    }

    #[test]
    fn acc_02_needs_an_account() {
        assert_eq!(Service::start().invalidate("nobody"), Err(Error::UserInvalid));
    }
}
