//! What is said of a user is changed, and who has the user as a friend is told (PROF-01, PROF-05).
//!
//! The profile and the user's own devices come first, in one transaction. Friends are told some at a time
//! ([`unfinished`]), each what the changed fields are by then: whoever is told twice, or late, ends with what is so.

use bytes::Bytes;
use prost::Message as _;
use protocol::message::{Profile, event::What};
use smallvec::{SmallVec, smallvec};

use super::{Change, Kind};
use crate::{
    domain::{
        AppId, Error, UserId,
        act::{Answer, Author, Staging},
        callbacks::{Happened, ProfileSet},
        damaged, friends, keys,
        profile::{self, Chosen, TEXT_BYTES_MAX},
        unfinished::{self, UnfinishedRecord},
    },
    store::{RangeQuery, ReadMode},
};

/// Friends told in one transaction.
const TOLD_TOGETHER: usize = 100;

/// A change of a profile, or the telling of it.
#[derive(Clone, Debug)]
pub enum ProfileChange {
    /// Sets the fields that are there.
    Set(Box<Profile>),
    /// Goes on telling friends.
    Tell {
        /// Which fields changed.
        fields: Chosen,
        /// Names the telling.
        round: u64,
        /// Everybody up to this name has been told.
        after: Option<UserId>,
        /// Who is told now, by name.
        to: Vec<UserId>,
    },
}

impl ProfileChange {
    pub(super) fn check(&self, by: Author) -> Result<(), Error> {
        match self {
            ProfileChange::Set(set) => profile::check(set, by == Author::Admin),
            ProfileChange::Tell { .. } if by == Author::User => Err(Error::NotAllowed),
            ProfileChange::Tell { .. } => Ok(()),
        }
    }

    pub(super) fn others(&self) -> &[UserId] {
        match self {
            ProfileChange::Set(_) => &[],
            ProfileChange::Tell { to, .. } => to,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            ProfileChange::Set(set) => set.encoded_len(),
            ProfileChange::Tell { to, .. } => to.len() * crate::domain::USER_BYTES_MAX + TEXT_BYTES_MAX,
        }
    }

    pub(super) fn written_bytes(&self) -> usize {
        /// All fields of a profile, about.
        const PROFILE_BYTES: usize = 12_000;
        /// The usual change of a profile, in the log of a friend.
        const TOLD_BYTES: usize = 2 * TEXT_BYTES_MAX;
        match self {
            // Stored, in the user's own log, and for the application's server.
            ProfileChange::Set(set) => PROFILE_BYTES + 3 * set.encoded_len(),
            ProfileChange::Tell { to, .. } => PROFILE_BYTES + to.len() * TOLD_BYTES,
        }
    }

    pub(super) fn stamps_max(&self) -> usize {
        1 + self.others().len()
    }

    pub(super) fn reads(&self, app: AppId, user: &UserId) -> SmallVec<[Bytes; 4]> {
        smallvec![keys::account(app, user), keys::profile(app, user), keys::unfinished(app, user)]
    }

    pub(super) async fn stage(&self, staging: &mut Staging<'_>, change: &Change) -> Result<Answer, Error> {
        match self {
            ProfileChange::Set(set) => self::set(staging, change, set).await,
            ProfileChange::Tell { fields, round, after, to } => {
                tell(staging, change, fields, *round, after.as_ref(), to).await
            }
        }
    }
}

async fn set(staging: &mut Staging<'_>, change: &Change, set: &Profile) -> Result<Answer, Error> {
    let (app, user) = (change.app, &change.user);
    let key = keys::profile(app, user);
    let before = profile::decode(staging.get(&key).await?)?;
    change.ensure_account(staging, user).await?;
    profile::check_declared(set, &*staging.settings(app).await?)?;
    let mut now = before.clone();
    profile::apply(&mut now, set);
    now.user.clear();
    // A run that finds its work done by an earlier one tells what was to be set.
    let changed = match now == before && staging.again {
        true => Chosen::in_profile(set),
        false => Chosen::changed(&before, &now),
    };
    if changed.is_empty() {
        return Ok(Answer::Done);
    }
    let earlier = unfinished::read(staging, app, user).await?;
    // Whoever becomes a friend meanwhile and reads the profile as it was conflicts with this.
    let next = next_told(staging, app, user, None, ReadMode::Serializable).await?;
    // From here on it is written.
    staging.set(key, now.encode_to_vec());
    let told = changed.told(user, &now);
    if now != before {
        let admin = staging.caller.admin.as_ref().map(UserId::to_string).unwrap_or_default();
        let set = ProfileSet { user: user.to_string(), admin, profile: told.encode_to_vec().into() };
        staging.tell_application_of(app, user, Happened::ProfileSet(set)).await?;
    }
    staging.append_stored(app, user, &What::Profile(told));
    if next.is_empty() {
        return Ok(Answer::Done);
    }
    let (fields, round) = match earlier {
        // The account is being deleted: nobody is told.
        Some(earlier) if earlier.erase => return Ok(Answer::Done),
        Some(earlier) => (changed.and(earlier.chosen()?), earlier.round + 1),
        None => (changed, staging.now_ms),
    };
    note(staging, app, user, &fields, round, None);
    let kind = Kind::Profile(ProfileChange::Tell { fields, round, after: None, to: next });
    Ok(staging.go_on(Change::by_admin(app, user.clone(), kind)))
}

async fn tell(
    staging: &mut Staging<'_>,
    change: &Change,
    fields: &Chosen,
    round: u64,
    after: Option<&UserId>,
    to: &[UserId],
) -> Result<Answer, Error> {
    let (app, user) = (change.app, &change.user);
    let now = profile::decode(staging.get(&keys::profile(app, user)).await?)?;
    let noted = unfinished::read(staging, app, user).await?;
    let is_newest = noted.is_some_and(|noted| noted.round == round && !noted.erase);
    let place = to.last().or(after);
    // Whoever becomes a friend now reads the profile as it is.
    let next = next_told(staging, app, user, place, ReadMode::Snapshot).await?;
    let event = What::Profile(fields.told(user, &now));
    for other in to {
        staging.append_stored(app, other, &event);
    }
    if next.is_empty() {
        if is_newest {
            staging.clear(&keys::unfinished(app, user));
        }
        return Ok(Answer::Done);
    }
    if is_newest {
        note(staging, app, user, fields, round, place);
    }
    let kind = Kind::Profile(ProfileChange::Tell { fields: fields.clone(), round, after: None, to: next });
    Ok(staging.go_on(Change::by_admin(app, user.clone(), kind)))
}

fn note(staging: &mut Staging<'_>, app: AppId, user: &UserId, fields: &Chosen, round: u64, after: Option<&UserId>) {
    let (fields, after) = (fields.to_fields().encode_to_vec().into(), after.map(UserId::to_string));
    let record = UnfinishedRecord { fields, round, after: after.unwrap_or_default(), erase: false };
    staging.set(keys::unfinished(app, user), record.encode_to_vec());
}

/// Who has the user as a friend, behind a name.
async fn next_told(
    staging: &Staging<'_>,
    app: AppId,
    user: &UserId,
    after: Option<&UserId>,
    mode: ReadMode,
) -> Result<Vec<UserId>, Error> {
    let (begin, end) = keys::all_kept_by(app, user);
    let begin = after.map_or(begin, |after| friends::behind(&keys::kept_by(app, user, after)));
    let query = RangeQuery { begin, end, limit: TOLD_TOGETHER, reverse: false, mode };
    let pairs = staging.tx.range(query).await?.pairs;
    let other = |(key, _): &(Bytes, Bytes)| keys::two_users(key).map(|(_, other)| other);
    pairs.iter().map(|pair| other(pair).ok_or_else(|| damaged("index of friends"))).collect()
}
