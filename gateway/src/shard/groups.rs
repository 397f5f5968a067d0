//! Groups: what is asked for becomes a change, or a page that is read.

use backend::domain::{UserId, groups};
use protocol::message::{GroupResults, GroupUserResult};

use crate::errors::group_code;

/// What became of each user, as the reply says it.
pub(super) fn results(outcomes: Vec<(UserId, Result<(), groups::Refusal>)>) -> GroupResults {
    let result = |(user, outcome): (UserId, Result<(), groups::Refusal>)| {
        let code = outcome.err().map_or(0, |refusal| group_code(refusal).0);
        GroupUserResult { user: user.to_string(), code }
    };
    GroupResults { results: outcomes.into_iter().map(result).collect() }
}
