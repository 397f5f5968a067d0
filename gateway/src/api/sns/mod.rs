//! `sns`: friends, friend lists and blacklists (REL-02 to REL-14).
//!
//! - [`friends`]: friendships are made, changed and ended. [`read`]: they are read. [`lists`]: friend lists.
//! - [`blacklist`]: who is on it. [`check`]: how users stand to each other.
//!
//! One call may name more users than the domain changes at once: some at a time then, each judged alone.

pub mod blacklist;
pub mod check;
pub mod friends;
pub mod lists;
pub mod read;

use std::iter::repeat_n;

use backend::domain::{
    UserId,
    act::{Act, Answer, Related, RelationOutcome},
    change::{Change, Kind},
    friends::{FRIENDS_MAX, Refusal},
};
use serde_json::{Map, Value, json};

use super::{
    answers::ensure_account,
    call::Call,
    codes::{self, Failure, of_refusal, of_relations},
    fields::{Fields, Wrong},
    named::Named,
};

/// What became of the relation to one user.
type Judged = Result<(), Failure>;

/// Whose relations are changed; that there is such an account is checked with the change.
fn owner(fields: Fields<'_>) -> Result<UserId, Failure> {
    let name = fields.required_text("From_Account").map_err(wrong)?;
    UserId::new(name).ok_or_else(|| codes::RELATION_ACCOUNT.into())
}

/// Whose relations are read.
async fn existing_owner(call: &Call<'_>, fields: Fields<'_>) -> Result<UserId, Failure> {
    let owner = owner(fields)?;
    ensure_account(call, &owner, codes::RELATION_ACCOUNT, of_relations).await?;
    Ok(owner)
}

/// The accounts named.
fn others<'a>(call: &Call<'_>, fields: Fields<'a>) -> Result<(Named<'a>, Vec<UserId>), Failure> {
    Ok(Named::of(&some_texts(fields, "To_Account", call.row.items_max)?))
}

/// Strings, at least one, and at most so many.
fn some_texts<'a>(fields: Fields<'a>, field: &'static str, max: usize) -> Result<Vec<&'a str>, Failure> {
    let texts = fields.texts(field).map_err(wrong)?.unwrap_or_default();
    ensure_some(field, texts.len(), max)?;
    Ok(texts)
}

fn ensure_some(field: &str, count: usize, max: usize) -> Result<(), Failure> {
    match (1..=max).contains(&count) {
        true => Ok(()),
        false => Err(codes::RELATION_ARGUMENT.because(format!("{field} must hold 1 to {max}"))),
    }
}

/// Whether a field says the second of two names rather than the first, which is the default if there is one.
fn is_second(
    fields: Fields<'_>,
    field: &'static str,
    names: [&str; 2],
    default: Option<bool>,
) -> Result<bool, Failure> {
    match fields.text(field).map_err(wrong)? {
        Some(name) if name == names[0] => Ok(false),
        Some(name) if name == names[1] => Ok(true),
        None if default.is_some() => Ok(default.unwrap_or_default()),
        _ => Err(codes::RELATION_ARGUMENT.because(format!("{field} must be {} or {}", names[0], names[1]))),
    }
}

/// Changes the owner's relations to each, some at a time, and returns what became of each.
async fn change<T: Clone>(
    call: &Call<'_>,
    owner: &UserId,
    each: &[T],
    kind: impl Fn(Vec<T>) -> Kind,
) -> Result<Vec<Judged>, Failure> {
    let mut judged = Vec::with_capacity(each.len());
    for some in each.chunks(FRIENDS_MAX) {
        match change_once(call, owner, kind(some.to_vec())).await {
            Ok(outcomes) => judged.extend(outcomes),
            // Nothing was done yet.
            Err(failure) if judged.is_empty() => return Err(failure),
            Err(failure) => judged.extend(repeat_n(Err(failure), some.len())),
        }
    }
    Ok(judged)
}

/// One change of the owner's relations, and what became of each of those named.
async fn change_once(call: &Call<'_>, owner: &UserId, kind: Kind) -> Result<Vec<Judged>, Failure> {
    let act = Act::Change(Box::new(Change::by_admin(call.app, owner.clone(), kind)));
    let answer = call.start(act).await.map_err(|error| of_relations(&error))?;
    let Answer::Relations(outcomes) = answer else { return Ok(Vec::new()) };
    let judged = |outcome: RelationOutcome| match outcome.outcome {
        Ok(Related::Done) => Ok(()),
        Ok(Related::Asked) => Err(codes::FRIEND_REQUEST_SENT.into()),
        Err(refusal) => Err(of_refusal(refusal)),
    };
    Ok(outcomes.into_iter().map(judged).collect())
}

/// The answer to a change.
fn results(named: Named<'_>, judged: Vec<Judged>) -> Map<String, Value> {
    let outcomes = judged.into_iter().map(|judged| judged.map(|()| json!({})));
    named.answer("ResultItem", outcomes, &json!({}), codes::RELATION_ACCOUNT)
}

/// Whoever is no friend, though a friend is asked for.
fn no_friend() -> Failure {
    of_refusal(Refusal::Invalid)
}

fn wrong(wrong: Wrong) -> Failure {
    codes::RELATION_ARGUMENT.because(wrong)
}
