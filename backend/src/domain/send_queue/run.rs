//! One run of a batch's transaction: its acts are staged, what an earlier run has stored is found, and the outcomes become
//! completions.

use std::sync::Arc;

use prost::Message as _;

use super::{
    super::{
        Error,
        act::{Act, Staged, Staging, first_position},
        keys,
        records::SentRecord,
        unsettled::{self, Late, find_stored},
    },
    Completion, Job,
};
use crate::store::{Committed, StoreError, TRANSACTION_BYTES_MAX, Tx, Versionstamp};

/// Whether an act can't share a transaction with these. Since when somebody receives from a group, and until when, is
/// told in versions of the store: what happens there in the version of his coming or going is later than it.
pub(super) fn is_apart<Origin>(jobs: &[Job<Origin>], act: &Act) -> bool {
    let Act::Change(change) = act else { return false };
    let Some(group) = change.moves_in() else { return false };
    jobs.iter().any(|job| matches!(&job.act, Act::Change(before) if before.tells_group() == Some(group)))
}

/// What a run of a batch's transaction comes to, if it is committed.
pub(super) struct Run {
    pub(super) settled: Vec<(Arc<unsettled::Batch>, Vec<Late>)>,
    /// Changes that are not made now, but may have been made by an earlier run.
    pub(super) unheard: Vec<Late>,
    pub(super) outcomes: Vec<Result<Staged, Error>>,
}

pub(super) fn completions<Origin>(
    jobs: Vec<Job<Origin>>,
    outcomes: Vec<Result<Staged, Error>>,
    committed: Committed,
) -> Vec<Completion<Origin>> {
    let recovered = outcomes.iter().flatten().any(|staged| staged.is_recovered);
    let complete = |(job, outcome): (Job<Origin>, Result<Staged, Error>)| {
        let outcome = outcome.map(|staged| staged.committed(committed));
        Completion { origin: job.origin, act: job.act, outcome }
    };
    let mut completions: Vec<_> = jobs.into_iter().zip(outcomes).map(complete).collect();
    if recovered {
        // An earlier run has stored these: they stand in the logs before what this run has stored.
        completions.sort_by_key(position);
    }
    completions
}

/// Where the first of a completion's pushes stands in its log.
pub(super) fn position<Origin>(completion: &Completion<Origin>) -> Option<Versionstamp> {
    first_position(&completion.outcome.as_ref().ok()?.notices)
}

/// Completes what an earlier run of the batch has stored.
pub(super) async fn recover<Origin>(
    tx: &Tx,
    jobs: &[Job<Origin>],
    outcomes: &mut [Result<Staged, Error>],
) -> Result<(), Error> {
    let mut stored = Vec::new();
    let mut found = Vec::new();
    for (job, outcome) in jobs.iter().zip(outcomes) {
        let (Ok(staged), Act::Send(message)) = (outcome, &job.act) else { continue };
        if staged.earlier_try().is_some_and(|earlier| job.tries.contains(&earlier)) {
            // In a live room it stands in no log: it has been pushed again.
            if !staged.notices.is_empty() {
                staged.note_first();
                continue;
            }
            let key = keys::sent(message.app, &message.from, &message.client_message_id);
            let sent = tx.snapshot_get(&key).await?.and_then(|stored| SentRecord::decode(stored).ok());
            stored.push((message, sent.unwrap_or_default()));
            found.push(staged);
        }
    }
    let fresh = find_stored(tx, &stored).await?;
    for (staged, fresh) in found.into_iter().zip(fresh) {
        fresh.into_iter().for_each(|fresh| staged.recover(fresh.notices()));
    }
    Ok(())
}

/// Why a run stores nothing.
pub(super) enum Stopped {
    /// The store has failed.
    Failed(StoreError),
    /// The act behind so many is more than the transaction can hold with them.
    Full(usize),
}

/// Carries out the acts of a batch, as many as fit into a transaction of `bytes_max`, about, and one at least. A refusal
/// concerns one act, an error of the store the transaction.
pub(super) async fn stage_all<Origin>(
    mut staging: Staging<'_>,
    jobs: &[Job<Origin>],
    is_unclear: bool,
    bytes_max: usize,
) -> Result<Vec<Result<Staged, Error>>, Stopped> {
    let mut outcomes = Vec::with_capacity(jobs.len());
    staging.read_ahead(jobs.iter().map(|job| &job.act));
    for job in jobs {
        let bytes = staging.tx.charged_bytes().saturating_add(job.act.written_bytes());
        if bytes > bytes_max && !outcomes.is_empty() {
            break;
        }
        staging.again = is_unclear || job.in_doubt;
        staging.is_counted = job.is_counted;
        let outcome = staging.stage(&job.act, job.caller.clone()).await;
        // What it writes may be too much without a read that would say so.
        match (staging.tx.charged_bytes() > TRANSACTION_BYTES_MAX, outcome) {
            (true, _) => return Err(Stopped::Full(outcomes.len())),
            (false, Err(Error::Store(error))) => return Err(Stopped::Failed(error)),
            (false, outcome) => outcomes.push(outcome),
        }
    }
    Ok(outcomes)
}
