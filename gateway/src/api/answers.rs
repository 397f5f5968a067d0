//! What handlers need to make their answers of.

use backend::domain::{UserId, admin};
use serde_json::{Map, Value};

use super::{
    call::Call,
    codes::{Code, Failure},
    table::Outcome,
};

/// Nothing to say but that it is done.
pub fn nothing() -> Outcome {
    Ok(Map::new())
}

/// The fields of an object.
pub fn object(value: Value) -> Outcome {
    match value {
        Value::Object(fields) => Ok(fields),
        other => unreachable!("answers are objects: {other}"),
    }
}

/// Refuses a user without an account, with the code of whoever names it. The administrator who calls needs none.
pub async fn ensure_account(
    call: &Call<'_>,
    user: &UserId,
    code: Code,
    of: fn(&backend::domain::Error) -> Failure,
) -> Result<(), Failure> {
    if *user == call.identifier {
        return Ok(());
    }
    let exists = admin::existing(&call.shared().store, call.app, std::slice::from_ref(user)).await;
    match exists.map_err(|error| of(&error))?.first() {
        Some(true) => Ok(()),
        _ => Err(code.because(user)),
    }
}
