//! The store's metrics: their names, and handles that are looked up once.
//!
//! Install the recorder before the store is made: handles taken earlier stay mute.

use metrics::{Gauge, Histogram};

use super::{front::Lane, seam::StoreError};

/// What the front measures.
pub(super) struct FrontMetrics {
    /// From the commit call to the durable outcome.
    pub(super) commit_seconds: Histogram,
}

impl FrontMetrics {
    pub(super) fn new() -> Self {
        metrics::describe_histogram!("store_commit_seconds", "From a commit's call to its durable outcome");
        metrics::describe_gauge!("store_queue_depth", "Transactions that wait for a worker, by lane");
        metrics::describe_counter!("store_retries_total", "Transactions run again, by cause");
        FrontMetrics { commit_seconds: metrics::histogram!("store_commit_seconds") }
    }
}

/// How many transactions wait in `lane`.
pub(super) fn queue_depth(lane: Lane) -> Gauge {
    metrics::gauge!("store_queue_depth", "lane" => lane.label())
}

/// Counts a retry.
pub(super) fn count_retry(cause: &StoreError) {
    let cause = match cause {
        StoreError::Conflict => "conflict",
        StoreError::MaybeCommitted => "maybe_committed",
        StoreError::TooOld => "too_old",
        StoreError::TooLarge(_) | StoreError::Busy | StoreError::Unavailable(_) | StoreError::Damaged(_) => "other",
    };
    metrics::counter!("store_retries_total", "cause" => cause).increment(1);
}

/// What the thread that syncs measures.
pub(super) struct SyncMetrics {
    /// One sync of the journal.
    pub(super) sync_seconds: Histogram,
    /// How many commits one sync made durable.
    pub(super) batch_commits: Histogram,
}

impl SyncMetrics {
    pub(super) fn new() -> Self {
        metrics::describe_histogram!("store_sync_seconds", "One sync of the embedded store's journal");
        metrics::describe_histogram!("store_sync_batch_commits", "Commits made durable by one sync");
        SyncMetrics {
            sync_seconds: metrics::histogram!("store_sync_seconds"),
            batch_commits: metrics::histogram!("store_sync_batch_commits"),
        }
    }
}
