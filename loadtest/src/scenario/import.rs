//! Accounts that the server API makes, for users who have not logged in yet.

use std::rc::Rc;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{http::Api, worker::Worker};

/// Accounts that one call makes, at the most.
const ACCOUNTS_PER_CALL: u32 = 100;

/// Imports this thread's share of the users numbered below `accounts`.
pub(super) async fn import(worker: &Rc<Worker>, api: &Api, accounts: u32) -> Result<()> {
    let calls = worker.share(accounts.div_ceil(ACCOUNTS_PER_CALL));
    worker.set_up(calls, |call| import_some(worker, api, call * ACCOUNTS_PER_CALL, accounts)).await?;
    Ok(())
}

async fn import_some(worker: &Worker, api: &Api, from: u32, accounts: u32) -> Result<()> {
    let users = from..accounts.min(from + ACCOUNTS_PER_CALL);
    let list: Vec<Value> = users.map(|user| json!({ "UserID": worker.plan.user_name(user) })).collect();
    let answer = api.call("im_open_login_svc/multiaccount_import", json!({ "AccountList": list })).await?;
    anyhow::ensure!(answer["FailAccounts"] == json!([]), "some accounts were not imported: {answer}");
    Ok(())
}
