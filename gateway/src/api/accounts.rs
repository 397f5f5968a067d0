//! `im_open_login_svc`: accounts (ACC-01, ACC-02, ACC-03, ACC-05); and who is online (ACC-04).

use backend::domain::{
    AppId, Error, UserId, account,
    act::Act,
    admin,
    change::{Change, Kind, account::Erase, profile::ProfileChange},
};
use futures::{channel::oneshot, future::join_all};
use protocol::message::{OnlineState, Platform, Presence, Profile};
use serde_json::{Map, Value, json};

use super::{
    answers::{nothing, object},
    call::Call,
    codes::{self, of_accounts},
    fields::{Fields, Wrong},
    table::Outcome,
};
use crate::{
    homes,
    mailbox::{HomeMail, Which},
    shared::Shared,
};

/// Longest value of a profile's field, in bytes.
const PROFILE_VALUE_BYTES_MAX: usize = 500;

/// Creates an account.
pub async fn import(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let named = Named::of(fields).map_err(|wrong| codes::ACCOUNTS_ARGUMENT.because(wrong))?;
    named.user().ok_or(codes::ACCOUNTS_ARGUMENT)?;
    named.check_profile()?;
    import_accounts(call, &[named]).await?;
    nothing()
}

/// Creates accounts; names that are none are reported.
pub async fn import_many(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let wrong = |wrong: Wrong| codes::ACCOUNTS_ARGUMENT.because(wrong);
    let named = match fields.list("AccountList").map_err(wrong)? {
        Some(list) => list.iter().map(|one| Named::of(Fields::of(one)?).ok()).collect(),
        None => {
            let names = fields.texts("Accounts").map_err(wrong)?;
            names.map(|names| names.into_iter().map(|name| Named { name, nick: None, face_url: None }).collect())
        }
    };
    let named: Vec<Named<'_>> = named.ok_or(codes::ACCOUNTS_ARGUMENT)?;
    if named.is_empty() || named.len() > call.row.items_max {
        return Err(codes::ACCOUNTS_ARGUMENT.because("1 to 100 accounts"));
    }
    let (good, bad): (Vec<_>, Vec<_>) =
        named.into_iter().partition(|named| named.user().is_some() && named.check_profile().is_ok());
    import_accounts(call, &good).await?;
    let failed: Vec<&str> = bad.iter().map(|named| named.name).collect();
    object(json!({ "FailAccounts": failed }))
}

/// An account as it is imported.
struct Named<'a> {
    name: &'a str,
    nick: Option<&'a str>,
    face_url: Option<&'a str>,
}

impl<'a> Named<'a> {
    fn of(fields: Fields<'a>) -> Result<Self, Wrong> {
        // The older name of the field is still in use.
        let name = fields.text("UserID")?.map_or_else(|| fields.required_text("Identifier"), Ok)?;
        Ok(Named { name, nick: fields.text("Nick")?, face_url: fields.text("FaceUrl")? })
    }

    fn user(&self) -> Option<UserId> {
        UserId::new(self.name)
    }

    fn check_profile(&self) -> Result<(), codes::Failure> {
        let fits = |value: Option<&str>| value.is_none_or(|value| value.len() <= PROFILE_VALUE_BYTES_MAX);
        match fits(self.nick) && fits(self.face_url) {
            true => Ok(()),
            false => Err(codes::PROFILE_VALUE_TOO_LONG.into()),
        }
    }

    /// What of the profile is given; `None`: nothing.
    fn profile(&self) -> Option<Profile> {
        let (nick, image_url) = (self.nick.map(str::to_owned), self.face_url.map(str::to_owned));
        (nick.is_some() || image_url.is_some()).then(|| Profile { nick, image_url, ..Profile::default() })
    }
}

async fn import_accounts(call: &Call<'_>, accounts: &[Named<'_>]) -> Result<(), codes::Failure> {
    let shared = call.shared();
    let users = accounts.iter().filter_map(Named::user).collect();
    let imported = account::import(&shared.store, &shared.clock, call.app, users).await;
    imported.map_err(|error| of_accounts(&error))?;
    let profiles = accounts.iter().filter_map(|named| {
        let set = Kind::Profile(ProfileChange::Set(Box::new(named.profile()?)));
        Some(call.start(Act::Change(Box::new(Change::by_admin(call.app, named.user()?, set)))))
    });
    for changed in join_all(profiles).await {
        changed.map_err(|error| of_accounts(&error))?;
    }
    Ok(())
}

/// Deletes accounts, and what they have left; those who are not there are reported.
pub async fn delete(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let items = items(call, fields, "DeleteItem")?;
    let deleted = join_all(items.iter().map(async |(name, user)| {
        let outcome = match user {
            Some(user) => delete_account(call, user).await,
            None => Err(codes::ACCOUNT_UNKNOWN.into()),
        };
        let (code, info) = outcome.map_or_else(|failure| (failure.code, failure.info), |()| (0, String::new()));
        json!({ "UserID": name, "ResultCode": code, "ResultInfo": info })
    }));
    let results = deleted.await;
    object(json!({ "ResultItem": results }))
}

async fn delete_account(call: &Call<'_>, user: &UserId) -> Result<(), codes::Failure> {
    let shared = call.shared();
    let invalidated = account::invalidate_usersigs(&shared.store, &shared.clock, call.app, user).await;
    let usersigs_from_s = match invalidated {
        Ok(from_s) => from_s,
        // It may be that the account is being deleted already: that goes on.
        Err(Error::UserInvalid) => 0,
        Err(error) => return Err(of_accounts(&error)),
    };
    // Removing what a big account has left may take longer than a call: the devices are out before.
    sign_out(shared, call.app, user, usersigs_from_s).await;
    let (api, app, user) = (call.api.clone(), call.app, user.clone());
    let erase = Change::by_admin(app, user.clone(), Kind::Erase(Erase::Account));
    let erased = call.start(Act::Change(Box::new(erase)));
    // Comes to its end even if the call does not wait for it.
    let finished = tokio::spawn(async move {
        let erased = erased.await;
        // Whoever came in between has logged in to what is no account any more.
        sign_out(&api.shared, app, &user, usersigs_from_s).await;
        erased
    });
    let erased = finished.await.map_err(|_| codes::TIMED_OUT)?;
    erased.map(|_| ()).map_err(|error| of_accounts(&error))
}

/// Signs all devices of a user out, whose UserSigs issued before a time (in seconds) are invalid.
async fn sign_out(shared: &Shared, app: AppId, user: &UserId, usersigs_from_s: u64) {
    let (answer, signed_out) = oneshot::channel();
    let (user, which) = (user.clone(), Which::All { usersigs_from_s });
    homes::post(&shared.router, HomeMail::SignOut { app, user, asker: None, which, answer });
    // A core that is gone holds no sessions any more.
    let _ = signed_out.await;
}

/// Says which accounts exist.
pub async fn check(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let items = items(call, fields, "CheckItem")?;
    let users: Vec<UserId> = items.iter().filter_map(|(_, user)| user.clone()).collect();
    let existing = admin::existing(&call.shared().store, call.app, &users).await;
    let mut existing = existing.map_err(|error| of_accounts(&error))?.into_iter();
    let results: Vec<Value> = items
        .iter()
        .map(|(name, user)| {
            let exists = user.is_some() && existing.next() == Some(true);
            let status = if exists { "Imported" } else { "NotImported" };
            json!({ "UserID": name, "ResultCode": 0, "ResultInfo": "", "AccountStatus": status })
        })
        .collect();
    object(json!({ "ResultItem": results }))
}

/// The accounts that a list of objects names, each with the account if it may be one.
fn items<'a>(
    call: &Call<'_>,
    fields: Fields<'a>,
    field: &'static str,
) -> Result<Vec<(&'a str, Option<UserId>)>, codes::Failure> {
    let list = fields.list(field).map_err(|wrong| codes::ACCOUNTS_ARGUMENT.because(wrong))?;
    let list = list.filter(|list| (1..=call.row.items_max).contains(&list.len()));
    let list = list.ok_or_else(|| codes::ACCOUNTS_ARGUMENT.because(format!("{field} must name 1 to 100 accounts")))?;
    let item = |item: &'a Value| {
        let name = Fields::of(item)?.text("UserID").ok()??;
        Some((name, UserId::new(name)))
    };
    list.iter().map(item).collect::<Option<_>>().ok_or_else(|| codes::ACCOUNTS_ARGUMENT.because("UserID"))
}

/// Makes all UserSigs of a user invalid, and signs the user's devices out.
pub async fn kick(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let name = Named::of(fields).map_err(|wrong| codes::ACCOUNTS_ARGUMENT.because(wrong))?;
    let user = name.user().ok_or(codes::ACCOUNTS_ARGUMENT)?;
    let (shared, app) = (call.shared(), call.app);
    // First of all durably: what is signed out afterwards can't come back with what it has.
    let invalidated = account::invalidate_usersigs(&shared.store, &shared.clock, app, &user).await;
    let usersigs_from_s = invalidated.map_err(|error| of_accounts(&error))?;
    sign_out(shared, app, &user, usersigs_from_s).await;
    nothing()
}

/// Says which users are online, and on what.
pub async fn query_online_status(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let names = fields.texts("To_Account").map_err(|wrong| codes::TO_ACCOUNT.because(wrong))?;
    let names = names.filter(|names| !names.is_empty()).ok_or(codes::TO_ACCOUNT)?;
    if names.len() > call.row.items_max {
        return Err(codes::TOO_MANY_ACCOUNTS.into());
    }
    let flag = |name| fields.flag(name).map_err(|wrong| codes::of_message_field(&wrong));
    let detail = flag("IsNeedDetail")? || flag("IsReturnDetail")?;
    let custom = flag("IsReturnCustomStatus")?;
    let users: Vec<Option<UserId>> = names.iter().map(|name| UserId::new(name)).collect();
    let valid: Vec<UserId> = users.iter().flatten().cloned().collect();
    let existing = admin::existing(&call.shared().store, call.app, &valid).await;
    let existing = existing.map_err(|error| codes::of_messages(&error))?;
    let known: Vec<UserId> =
        valid.into_iter().zip(existing).filter(|(_, exists)| *exists).map(|(user, _)| user).collect();
    let asked = homes::ask_presence(&call.shared().router, call.app, known.clone(), None);
    let presences = asked.gather().await.ok_or(codes::TIMED_OUT)?;
    let results: Vec<Value> = presences.iter().map(|presence| presence_to_json(presence, detail, custom)).collect();
    let unknown = names.iter().filter(|name| !known.iter().any(|user| user.as_str() == **name));
    let errors: Vec<Value> =
        unknown.map(|name| json!({ "To_Account": name, "ErrorCode": codes::ACCOUNT_UNKNOWN.0 })).collect();
    object(json!({ "QueryResult": results, "ErrorList": errors }))
}

/// The same under the name that it had before, with what its answer had.
pub async fn query_state(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let mut answer = query_online_status(call, fields).await?;
    for result in answer.get_mut("QueryResult").and_then(Value::as_array_mut).into_iter().flatten() {
        result["State"] = result["Status"].clone();
    }
    Ok(answer)
}

fn presence_to_json(presence: &Presence, detail: bool, custom: bool) -> Value {
    let mut result = Map::new();
    result.insert("To_Account".into(), presence.user.clone().into());
    result.insert("Status".into(), status(presence.state()).into());
    if detail && !presence.platforms.is_empty() {
        let platform = |on: &protocol::message::PlatformState| json!({ "Platform": platform_name(on.platform()), "Status": status(on.state()) });
        result.insert("Detail".into(), presence.platforms.iter().map(platform).collect());
    }
    if custom {
        result.insert("CustomStatus".into(), presence.status.clone().into());
    }
    Value::Object(result)
}

fn status(state: OnlineState) -> &'static str {
    match state {
        OnlineState::Online => "Online",
        OnlineState::PushOnline => "PushOnline",
        OnlineState::Offline => "Offline",
    }
}

fn platform_name(platform: Platform) -> &'static str {
    match platform {
        Platform::Android => "Android",
        Platform::Iphone => "iPhone",
        Platform::Ipad => "iPad",
        Platform::Windows => "PC",
        Platform::Mac => "Mac",
        Platform::Web => "Web",
        Platform::Linux | Platform::Unknown => "Linux",
    }
}
