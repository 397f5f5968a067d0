//! Accounts: who exists, and who may log in.

use std::sync::Arc;

use prost::Message;

use super::{
    AppId, Error, UserId,
    applications::{self, application},
    damaged, keys,
    records::AccountRecord,
    settings::Settings,
    usersig,
};
use crate::{
    env::Clock,
    store::{Lane, Store, Tx},
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
            Ok((account.is_some(), LoggedIn { settings: application.settings, issued_s }))
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
    let from_s = clock.unix_ms() / 1000 + 1;
    let user = user.clone();
    let invalidate = async move |tx: &Tx| -> Result<u64, Error> {
        applications::ensure(tx, app).await?;
        let mut record = account(tx, app, &user).await?.ok_or(Error::UserInvalid)?;
        // A clock that was set back must not make anything valid again.
        record.usersigs_from_s = record.usersigs_from_s.max(from_s);
        tx.set(keys::account(app, &user), record.encode_to_vec());
        Ok(record.usersigs_from_s)
    };
    let (from_s, _) = store.run(Lane::Write, "invalidate_usersigs", invalidate).await?;
    Ok(from_s)
}

/// Writes the account unless it is there.
pub(crate) async fn create_account(tx: &Tx, app: AppId, user: &UserId, now_ms: u64) -> Result<(), Error> {
    applications::ensure(tx, app).await?;
    if !account_exists(tx, app, user).await? {
        let record = AccountRecord { created_ms: now_ms, ..AccountRecord::default() };
        tx.set(keys::account(app, user), record.encode_to_vec());
    }
    Ok(())
}

/// Whether the account is there.
pub(crate) async fn account_exists(tx: &Tx, app: AppId, user: &UserId) -> Result<bool, Error> {
    Ok(tx.get(&keys::account(app, user)).await?.is_some())
}

async fn account(tx: &Tx, app: AppId, user: &UserId) -> Result<Option<AccountRecord>, Error> {
    let stored = tx.get(&keys::account(app, user)).await?;
    stored.map(|bytes| AccountRecord::decode(bytes).map_err(|_| damaged("account"))).transpose()
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
    fn acc_02_needs_an_account() {
        assert_eq!(Service::start().invalidate("nobody"), Err(Error::UserInvalid));
    }
}
