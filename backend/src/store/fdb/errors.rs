//! FoundationDB's errors in the seam's words.

use foundationdb::FdbError;

use super::super::seam::StoreError;

/// Codes of FoundationDB's that mean something to the seam.
mod code {
    pub(super) const TRANSACTION_TOO_OLD: i32 = 1007;
    pub(super) const FUTURE_VERSION: i32 = 1009;
    pub(super) const NOT_COMMITTED: i32 = 1020;
    pub(super) const COMMIT_UNKNOWN_RESULT: i32 = 1021;
    pub(super) const TRANSACTION_TIMED_OUT: i32 = 1031;
    pub(super) const PROCESS_BEHIND: i32 = 1037;
    pub(super) const CLUSTER_VERSION_CHANGED: i32 = 1039;
    pub(super) const COMMIT_PROXY_MEMORY_LIMIT_EXCEEDED: i32 = 1042;
    pub(super) const BATCH_TRANSACTION_THROTTLED: i32 = 1051;
    pub(super) const GRV_PROXY_MEMORY_LIMIT_EXCEEDED: i32 = 1078;
    pub(super) const TAG_THROTTLED: i32 = 1213;
    pub(super) const PROXY_TAG_THROTTLED: i32 = 1223;
    pub(super) const NO_COMMIT_VERSION: i32 = 2021;
    pub(super) const TRANSACTION_TOO_LARGE: i32 = 2101;
    pub(super) const KEY_TOO_LARGE: i32 = 2102;
    pub(super) const VALUE_TOO_LARGE: i32 = 2103;
}

/// The error of anything but a commit.
pub(super) fn store_error(error: FdbError) -> StoreError {
    match error.code() {
        code::NOT_COMMITTED => StoreError::Conflict,
        code::COMMIT_UNKNOWN_RESULT | code::CLUSTER_VERSION_CHANGED => StoreError::MaybeCommitted,
        // All three: this read version is of no use, a newer one will be.
        code::TRANSACTION_TOO_OLD | code::FUTURE_VERSION | code::PROCESS_BEHIND => StoreError::TooOld,
        code::TRANSACTION_TOO_LARGE | code::KEY_TOO_LARGE | code::VALUE_TOO_LARGE => StoreError::TooLarge(text(error)),
        code::COMMIT_PROXY_MEMORY_LIMIT_EXCEEDED
        | code::GRV_PROXY_MEMORY_LIMIT_EXCEEDED
        | code::BATCH_TRANSACTION_THROTTLED
        | code::TAG_THROTTLED
        | code::PROXY_TAG_THROTTLED => StoreError::Busy,
        code::TRANSACTION_TIMED_OUT => StoreError::Unavailable(NO_ANSWER.into()),
        _ => StoreError::Unavailable(text(error)),
    }
}

/// What a caller is told of a cluster that can't be reached.
pub(super) const NO_ANSWER: &str = "the FoundationDB cluster does not answer";

/// The error of a commit: a timeout says nothing about what became of it.
pub(super) fn commit_error(error: FdbError) -> StoreError {
    match is_timeout(error) || error.is_maybe_committed() {
        true => StoreError::MaybeCommitted,
        false => store_error(error),
    }
}

/// The cluster did not answer in time.
pub(super) fn is_timeout(error: FdbError) -> bool {
    error.code() == code::TRANSACTION_TIMED_OUT
}

/// The transaction turned out to have nothing to write.
pub(super) fn is_read_only(error: FdbError) -> bool {
    error.code() == code::NO_COMMIT_VERSION
}

/// For people.
pub(super) fn text(error: FdbError) -> String {
    format!("FoundationDB says: {} ({})", error.message(), error.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_leads_to_the_right_answer() {
        for (code, expected) in [
            (1020, StoreError::Conflict),
            (1021, StoreError::MaybeCommitted),
            (1039, StoreError::MaybeCommitted),
            (1007, StoreError::TooOld),
            (1009, StoreError::TooOld),
            (1042, StoreError::Busy),
        ] {
            assert_eq!(store_error(FdbError::from_code(code)), expected, "{code}");
            assert_eq!(commit_error(FdbError::from_code(code)), expected, "{code} at commit");
        }
        assert!(matches!(store_error(FdbError::from_code(2101)), StoreError::TooLarge(_)));
        let timeout = FdbError::from_code(1031);
        assert!(matches!(store_error(timeout), StoreError::Unavailable(_)), "nothing was written");
        assert_eq!(commit_error(timeout), StoreError::MaybeCommitted);
    }
}
