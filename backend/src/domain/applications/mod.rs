//! Applications: several on one deployment, apart by the number that all of their keys begin with.
//!
//! An operator creates them, changes their settings, exchanges their key and deletes them; an *application
//! file* says what should be there at a start ([`put_application`]). Every change raises the deployment's
//! version of applications ([`watch`]), so that each node notices it and reads them anew ([`list`]).
//!
//! What writes something of an application reads its record in the same transaction (`settings`,
//! `ensure`): so nothing is written for one that is deleted meanwhile, and `removal` leaves nothing behind.
//!
//! What may not live here: how an operator is asked and answered.

mod removal;

pub(crate) use removal::remove_portion;

use std::{fmt, sync::Arc};

use prost::Message;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::{
    AppId, Error, damaged, keys,
    records::{ApplicationRecord, RemovalRecord},
    settings::Settings,
    usersig,
};
use crate::{
    env::Clock,
    store::{Lane, RangeQuery, ReadMode, Retry, Store, StoreError, Tx, Watch},
};

/// Shortest key, in characters.
pub const SECRET_CHARS_MIN: usize = 16;
/// Longest key, in bytes.
pub const SECRET_BYTES_MAX: usize = 1024;

/// Applications read in one transaction.
const LIST_PAGE: usize = 64;

/// An application as an operator sets it up. The key never goes into a log: there is no `Debug`.
#[derive(Clone)]
pub struct NewApplication {
    /// Its number, not 0.
    pub app: AppId,
    /// The key that UserSigs are signed with.
    pub secret: String,
    /// Its key lies in a development start's folder, so a production start must not accept it.
    pub development: bool,
    /// What the operator set.
    pub settings: Settings,
}

impl NewApplication {
    /// An application for production with default settings.
    pub fn new(app: AppId, secret: &str) -> Self {
        NewApplication { app, secret: secret.to_owned(), development: false, settings: Settings::default() }
    }

    /// What is wrong with it, in words for the operator.
    pub fn check(&self) -> Result<(), Refused> {
        let problem = match () {
            () if self.app == 0 => "sdkappid must not be 0",
            () if self.secret.chars().count() < SECRET_CHARS_MIN => "secret must have at least 16 characters",
            () if self.secret.len() > SECRET_BYTES_MAX => "secret must have at most 1024 bytes",
            () => return self.settings.check().map_err(Refused::Invalid),
        };
        Err(Refused::Invalid(problem.to_owned()))
    }
}

/// An application as it is stored. The keys never go into a log: there is no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Application {
    /// Its number.
    pub app: AppId,
    /// When it was created, milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Made by a development start: refused by a production one.
    pub development: bool,
    /// Its settings.
    pub settings: Settings,
    /// The key that UserSigs are signed with.
    pub secret: String,
    /// The key before that, and until when it is good, too (seconds since the Unix epoch).
    pub previous: Option<(String, u64)>,
}

impl Application {
    fn of(app: AppId, record: ApplicationRecord) -> Result<Self, Error> {
        let settings = Settings::from_stored(&record.settings).ok_or_else(|| damaged("application settings"))?;
        let ApplicationRecord { secret, created_ms, development, previous_secret, previous_until_s, .. } = record;
        let previous = (!previous_secret.is_empty()).then_some((previous_secret, previous_until_s));
        Ok(Application { app, created_ms, development, settings, secret, previous })
    }

    /// Checks a credential for `user` at `now_s` (seconds since the Unix epoch) with the keys that are good
    /// then. Returns when it was issued, in seconds since the Unix epoch.
    pub fn verify(&self, user: &str, usersig: &str, now_s: u64) -> Result<u64, usersig::Invalid> {
        let previous = self.previous.as_ref().filter(|(_, until_s)| now_s < *until_s);
        let secrets = [Some(&self.secret[..]), previous.map(|(secret, _)| &secret[..])];
        usersig::verify(self.app, secrets.into_iter().flatten(), user, usersig, now_s)
    }
}

/// Why an operator's wish was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none of this number.
    #[error("there is no application {0}")]
    Unknown(AppId),
    /// There is one.
    #[error("there is an application {0} already")]
    Exists(AppId),
    /// It was deleted, and not all of its data is gone.
    #[error("application {0} was deleted, and its data is still being removed: try again later")]
    BeingRemoved(AppId),
    /// The key before the present one is still good.
    #[error("application {app}: the key before the present one is still good, and a third one can't be")]
    PreviousKeyGood {
        /// The application.
        app: AppId,
        /// Until when that key is good, seconds since the Unix epoch.
        until_s: u64,
    },
    /// Something given is wrong: says what would be right.
    #[error("{0}")]
    Invalid(String),
    /// Something went wrong inside.
    #[error(transparent)]
    Inside(#[from] Error),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Refused::Inside(error.into())
    }
}

impl Retry for Refused {
    fn store_error(&self) -> Option<&StoreError> {
        match self {
            Refused::Inside(error) => error.store_error(),
            _ => None,
        }
    }
}

/// What came of an application file's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The application was created.
    Created,
    /// Key or settings were set, because the file says something else of them than at the last start.
    Changed,
    /// The file says what it said before: the store stays as it is.
    Unchanged,
}

/// Has an application as its file says. What the file says of the key and of each setting counts when it is
/// new: a change made since then in the store holds until the file says something else than it did.
pub async fn put_application(store: &Store, clock: &Arc<dyn Clock>, new: NewApplication) -> Result<Put, Refused> {
    new.check()?;
    let said = FileSays::of(&new)?;
    let created_ms = clock.unix_ms();
    let put = async move |tx: &Tx| -> Result<Put, Refused> {
        let Some(before) = record(tx, new.app).await? else {
            create_record(tx, &new, &said, created_ms).await?;
            return Ok(Put::Created);
        };
        let mut wanted = before.clone();
        said.apply(&mut wanted)?;
        wanted.development = new.development;
        // A start changes nothing: not even a full disk must keep it from serving what there is.
        if wanted == before {
            return Ok(Put::Unchanged);
        }
        write(tx, new.app, &wanted);
        Ok(Put::Changed)
    };
    Ok(store.run(Lane::Write, "put_application", put).await?.0)
}

/// Creates an application.
pub async fn create(store: &Store, clock: &Arc<dyn Clock>, new: NewApplication) -> Result<(), Refused> {
    new.check()?;
    let said = FileSays::of(&new)?;
    let created_ms = clock.unix_ms();
    let create = async move |tx: &Tx| -> Result<(), Refused> {
        match record(tx, new.app).await? {
            None => create_record(tx, &new, &said, created_ms).await,
            // An unheard run of this transaction has created it.
            Some(own) if own.created_ms == created_ms && own.secret == new.secret => Ok(()),
            Some(_) => Err(Refused::Exists(new.app)),
        }
    };
    store.run(Lane::Write, "create_application", create).await?;
    Ok(())
}

/// Changes settings: `patch` has those that change, by name; null sets one back to its default, and within
/// an object the same holds for its members. Returns all of them.
pub async fn change_settings(store: &Store, app: AppId, patch: Map<String, Value>) -> Result<Settings, Refused> {
    let change = async move |tx: &Tx| -> Result<Settings, Refused> {
        let before = record(tx, app).await?.ok_or(Refused::Unknown(app))?;
        let settings = Application::of(app, before.clone())?.settings.patched(&patch).map_err(Refused::Invalid)?;
        let wanted = ApplicationRecord { settings: settings.to_stored(), ..before.clone() };
        if wanted != before {
            write(tx, app, &wanted);
        }
        Ok(settings)
    };
    Ok(store.run(Lane::Write, "change_application", change).await?.0)
}

/// Gives an application another key. The present one stays good until `until_s` (seconds since the Unix
/// epoch). An older one that is still good is in the way, unless `drop_previous`: then it ends now.
pub async fn rotate_key(
    store: &Store,
    clock: &Arc<dyn Clock>,
    app: AppId,
    secret: String,
    until_s: u64,
    drop_previous: bool,
) -> Result<(), Refused> {
    NewApplication::new(app, &secret).check()?;
    let now_s = clock.unix_ms() / 1000;
    let rotate = async move |tx: &Tx| -> Result<(), Refused> {
        let before = record(tx, app).await?.ok_or(Refused::Unknown(app))?;
        if before.secret == secret {
            return Ok(()); // an unheard run of this transaction
        }
        let is_good = !before.previous_secret.is_empty() && now_s < before.previous_until_s;
        if is_good && !drop_previous {
            return Err(Refused::PreviousKeyGood { app, until_s: before.previous_until_s });
        }
        let (previous_secret, previous_until_s) = match now_s < until_s {
            true => (before.secret.clone(), until_s),
            false => (String::new(), 0),
        };
        let wanted = ApplicationRecord { secret: secret.clone(), previous_secret, previous_until_s, ..before };
        write(tx, app, &wanted);
        Ok(())
    };
    store.run(Lane::Write, "rotate_key", rotate).await?;
    Ok(())
}

/// Deletes an application: nobody can use it any more. All of its data is removed in the background.
pub async fn delete(store: &Store, clock: &Arc<dyn Clock>, app: AppId) -> Result<(), Refused> {
    let since_ms = clock.unix_ms();
    let delete = async move |tx: &Tx| -> Result<(), Refused> {
        if record(tx, app).await?.is_none() {
            let is_going = tx.get(&keys::removal(app)).await?.is_some();
            return if is_going { Ok(()) } else { Err(Refused::Unknown(app)) };
        }
        tx.clear(&keys::application(app));
        tx.set(keys::removal(app), RemovalRecord { since_ms }.encode_to_vec());
        tx.add(&keys::applications_version(), 1);
        Ok(())
    };
    store.run(Lane::Write, "delete_application", delete).await?;
    Ok(())
}

/// An application.
pub async fn show(store: &Store, app: AppId) -> Result<Application, Refused> {
    let show = async move |tx: &Tx| -> Result<Application, Refused> {
        application(tx, app).await?.ok_or(Refused::Unknown(app))
    };
    Ok(store.run(Lane::Read, "show_application", show).await?.0)
}

/// All applications, by number. One whose record can't be read is left out, and logged.
pub async fn list(store: &Store) -> Result<Vec<Application>, Error> {
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let page = async move |tx: &Tx| list_page(tx, after).await;
        let ((page, next), _) = store.run(Lane::Read, "list_applications", page).await?;
        all.extend(page);
        match next {
            Some(next) => after = next,
            None => return Ok(all),
        }
    }
}

/// Some applications behind `after`, and where to go on.
async fn list_page(tx: &Tx, after: AppId) -> Result<(Vec<Application>, Option<AppId>), Error> {
    let mut page = Vec::new();
    let mut app = after;
    for _ in 0..LIST_PAGE {
        let Some(next) = next_application(tx, app).await? else { return Ok((page, None)) };
        app = next;
        match application(tx, app).await {
            Ok(application) => page.extend(application),
            Err(error @ Error::Store(StoreError::Damaged(_))) => {
                tracing::error!(app, %error, "an application can't be read; it is not served");
            }
            Err(error) => return Err(error),
        }
    }
    Ok((page, Some(app)))
}

/// The version of all applications, and what ends when it grows.
pub async fn watch(store: &Store) -> Result<(u64, Watch), Error> {
    let watch = async |tx: &Tx| -> Result<(u64, Watch), Error> {
        let key = keys::applications_version();
        let version = version(tx.snapshot_get(&key).await?)?;
        Ok((version, tx.watch(&key)))
    };
    Ok(store.run(Lane::Read, "watch_applications", watch).await?.0)
}

/// The next application behind `app` that has anything stored.
pub(crate) async fn next_application(tx: &Tx, app: AppId) -> Result<Option<AppId>, Error> {
    let (begin, end) = keys::applications_after(app);
    let query = RangeQuery { begin, end, limit: 1, reverse: false, mode: ReadMode::Snapshot };
    let Some((key, _)) = tx.range(query).await?.pairs.pop() else { return Ok(None) };
    keys::application_of(&key).map(Some).ok_or_else(|| damaged("application of a key"))
}

/// An application, as long as it stays as it is until the commit.
pub(crate) async fn application(tx: &Tx, app: AppId) -> Result<Option<Application>, Error> {
    record(tx, app).await?.map(|record| Application::of(app, record)).transpose()
}

/// Refuses guests where the application takes none.
pub async fn ensure_takes_guests(store: &Store, app: AppId, development: bool) -> Result<(), Error> {
    let check = async move |tx: &Tx| -> Result<bool, Error> {
        let application = application(tx, app).await?.filter(|found| development || !found.development);
        Ok(application.ok_or(Error::ApplicationUnknown)?.settings.guests)
    };
    match store.run(Lane::Read, "guest_login", check).await?.0 {
        true => Ok(()),
        false => Err(Error::NotAllowed),
    }
}

/// The settings of an application, as long as they stay so until the commit.
pub(crate) async fn settings(tx: &Tx, app: AppId) -> Result<Settings, Error> {
    Ok(application(tx, app).await?.ok_or(Error::ApplicationUnknown)?.settings)
}

/// Refuses to write for an application that is not there, or is deleted before the commit.
pub(crate) async fn ensure(tx: &Tx, app: AppId) -> Result<(), Error> {
    let stored = tx.get(&keys::application(app)).await?;
    stored.map(|_| ()).ok_or(Error::ApplicationUnknown)
}

async fn record(tx: &Tx, app: AppId) -> Result<Option<ApplicationRecord>, Error> {
    let stored = tx.get(&keys::application(app)).await?;
    stored.map(|bytes| ApplicationRecord::decode(bytes).map_err(|_| damaged("application"))).transpose()
}

async fn create_record(tx: &Tx, new: &NewApplication, said: &FileSays, created_ms: u64) -> Result<(), Refused> {
    if tx.get(&keys::removal(new.app)).await?.is_some() {
        return Err(Refused::BeingRemoved(new.app));
    }
    let record = ApplicationRecord {
        secret: new.secret.clone(),
        created_ms,
        development: new.development,
        settings: new.settings.to_stored(),
        file_secret: said.secret.clone().into(),
        file_settings: said.settings.clone(),
        ..ApplicationRecord::default()
    };
    write(tx, new.app, &record);
    Ok(())
}

fn write(tx: &Tx, app: AppId, record: &ApplicationRecord) {
    tx.set(keys::application(app), record.encode_to_vec());
    tx.add(&keys::applications_version(), 1);
}

/// A counter's value in its stored form.
fn version(stored: Option<bytes::Bytes>) -> Result<u64, Error> {
    let Some(stored) = stored else { return Ok(0) };
    stored[..].try_into().map(u64::from_le_bytes).map_err(|_| damaged("version of applications"))
}

/// What an application file says, as it is remembered: the key only as its hash.
struct FileSays {
    secret: Vec<u8>,
    new_secret: String,
    settings: String,
}

impl FileSays {
    fn of(new: &NewApplication) -> Result<Self, Refused> {
        let secret = Sha256::digest(new.secret.as_bytes()).to_vec();
        Ok(FileSays { secret, new_secret: new.secret.clone(), settings: new.settings.to_stored() })
    }

    /// Sets what it says otherwise than the file did before.
    fn apply(&self, record: &mut ApplicationRecord) -> Result<(), Error> {
        // Written when files said all there was: it is what the file said.
        if record.file_settings.is_empty() {
            record.file_settings.clone_from(&record.settings);
            record.file_secret = Sha256::digest(record.secret.as_bytes()).to_vec().into();
        }
        if record.file_secret != self.secret {
            record.secret.clone_from(&self.new_secret);
            record.file_secret = self.secret.clone().into();
            // The operator has replaced it by hand: what was to end anyway ends with it.
            (record.previous_secret, record.previous_until_s) = (String::new(), 0);
        }
        let mut settings = members(&record.settings)?;
        let before = members(&record.file_settings)?;
        for (name, value) in members(&self.settings)? {
            if before.get(&name) != Some(&value) {
                settings.insert(name, value);
            }
        }
        let settings = Settings::from_stored(&Value::Object(settings).to_string());
        record.settings = settings.ok_or_else(|| damaged("application settings"))?.to_stored();
        record.file_settings.clone_from(&self.settings);
        Ok(())
    }
}

/// All settings by name, from their stored form.
fn members(stored: &str) -> Result<Map<String, Value>, Error> {
    let settings = Settings::from_stored(stored).ok_or_else(|| damaged("application settings"))?;
    Ok(settings.to_members())
}

impl fmt::Display for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Put::Created => "created",
            Put::Changed => "changed",
            Put::Unchanged => "unchanged",
        })
    }
}
