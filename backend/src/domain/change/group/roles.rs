//! What members are, what they may, and what they are called (GRP-09, GRP-14, GRP-21).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use protocol::message::{GroupRole, GroupTips, group_tips};

use super::{
    MEMBER_FIELD_BYTES_MAX, MemberUpdate, NAME_CARD_BYTES_MAX, Outcomes, check_fields, ensure, leaving::ensure_above,
    life, set_fields,
};
use crate::domain::{
    AppId, Error, GroupId, UserId,
    act::{Answer, Author, Staging},
    change::Change,
    damaged,
    groups::{
        Refusal, access,
        entering::tips,
        records::{GroupRecord, JoinedRecord, MemberRecord},
    },
    keys,
    send::group::append_tips,
};

pub(super) fn check(update: &MemberUpdate) -> Result<(), Error> {
    let is_given = update.role.is_none_or(|role| matches!(role, GroupRole::Admin | GroupRole::Member));
    ensure(is_given, "role must be ADMIN or MEMBER")?;
    let fits = update.name_card.as_ref().is_none_or(|name| name.len() <= NAME_CARD_BYTES_MAX);
    ensure(fits, "name_card must have at most 50 bytes")
}

/// Forbids members to write for a time, or lets them write again.
pub(super) async fn mute(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    users: &[UserId],
    seconds: u32,
) -> Result<Answer, Error> {
    let app = change.app;
    let record = access::load(staging, app, group).await?;
    let rules = record.rules()?;
    let role = access::role(staging, app, group, &change.user).await?;
    if !rules.mutes {
        return Err(Refusal::RightMissing.into());
    }
    access::ensure(rules.mutes(), change.by, role)?;
    let mut outcomes: Outcomes = Vec::with_capacity(users.len());
    let mut muted = Vec::new();
    for user in users {
        let known = access::member(staging, app, group, user).await?;
        // Who is in a live room is not kept; whom it knows of is.
        let known = if rules.is_room() { Some(known.unwrap_or_default()) } else { known };
        let outcome = match &known {
            None => Err(Refusal::UserUnknown),
            Some(member) => ensure_above(change.by, role, member.role()),
        };
        muted.extend(known.filter(|_| outcome.is_ok()).map(|member| (user.clone(), member)));
        outcomes.push((user.clone(), outcome));
    }
    let until_ms = match seconds {
        0 => 0,
        u32::MAX => u64::MAX >> 1,
        seconds => staging.now_ms + u64::from(seconds) * 1000,
    };
    for (user, member) in &muted {
        let key = keys::member(app, group, user);
        let member = MemberRecord { muted_until_ms: until_ms, ..member.clone() };
        match member == MemberRecord::default() {
            true => staging.clear(&key),
            false => staging.set(key, member.encode_to_vec()),
        }
    }
    if !muted.is_empty() && rules.tells_member_changes {
        let changed = BTreeMap::from([("muted_until_ms".to_owned(), Bytes::from(until_ms.to_string()))]);
        let users = muted.iter().map(|(user, _)| user.to_string()).collect();
        let tips = tips(group_tips::Kind::MemberChanged, group, change.user.as_str(), users);
        append_tips(staging, app, group, &record, GroupTips { changed, ..tips }).await?;
    }
    Ok(Answer::GroupUsers(outcomes))
}

/// Changes what a member is, or is called.
pub(super) async fn update(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    user: &UserId,
    update: &MemberUpdate,
) -> Result<Answer, Error> {
    let app = change.app;
    let mut record = access::load(staging, app, group).await?;
    let rules = record.rules()?;
    let role = access::role(staging, app, group, &change.user).await?;
    let known = access::member(staging, app, group, user).await?;
    let known = match known {
        None if rules.is_room() && change.by == Author::Admin => {
            life::ensure_account(staging, app, user).await?;
            Some(MemberRecord::default())
        }
        known => known,
    };
    let names = update.name_card.is_some() || !update.custom.is_empty();
    let is_own = change.by == Author::User && *user == change.user;
    if change.by == Author::User && role == GroupRole::None {
        return Err(Refusal::RightMissing.into());
    }
    let mut member = known.ok_or(Refusal::UserUnknown)?;
    if names && !is_own {
        ensure_above(change.by, role, member.role()).or_else(|refusal| match change.by {
            Author::Admin => Ok(()),
            Author::User => Err(refusal),
        })?;
    }
    let role_before = member.role();
    if let Some(wanted) = update.role.filter(|wanted| *wanted != role_before) {
        ensure_may_set_role(change.by, role, &record, role_before, wanted)?;
    }
    let settings = staging.settings(app).await?;
    check_fields(&update.custom, &settings.group_member_custom_fields, MEMBER_FIELD_BYTES_MAX)?;
    if let Some(name_card) = &update.name_card {
        member.name_card.clone_from(name_card);
    }
    set_fields(&mut member.custom, &update.custom);
    match update.role.filter(|wanted| *wanted != role_before || staging.again) {
        None => staging.set(keys::member(app, group, user), member.encode_to_vec()),
        Some(wanted) => {
            if role_before == GroupRole::None {
                record.member_count += 1;
                member.joined_ms = staging.now_ms;
                staging.set(keys::group(app, group), record.encode_to_vec());
            }
            put_role(staging, app, group, user, member, wanted).await?;
            let kind = match wanted {
                GroupRole::Admin => group_tips::Kind::AdminSet,
                _ => group_tips::Kind::AdminUnset,
            };
            if rules.tells_member_changes {
                let tips = tips(kind, group, change.user.as_str(), vec![user.to_string()]);
                append_tips(staging, app, group, &record, tips).await?;
            }
        }
    }
    Ok(Answer::Done)
}

/// The owner names administrators, where there are any; an administrator of the application those of a live room, too.
fn ensure_may_set_role(
    by: Author,
    role: GroupRole,
    record: &GroupRecord,
    before: GroupRole,
    wanted: GroupRole,
) -> Result<(), Error> {
    let rules = record.rules()?;
    let may = match by {
        Author::Admin => rules.has_admins || rules.is_room(),
        Author::User => rules.has_admins && role == GroupRole::Owner,
    };
    // The owner stays it until the group is given to another.
    let may = may && before != GroupRole::Owner && (wanted == GroupRole::Admin || before == GroupRole::Admin);
    if may { Ok(()) } else { Err(Refusal::RightMissing.into()) }
}

/// Writes a member's role wherever it stands.
pub(super) async fn put_role(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    user: &UserId,
    member: MemberRecord,
    role: GroupRole,
) -> Result<(), Error> {
    staging.set(keys::member(app, group, user), MemberRecord { role: role.into(), ..member }.encode_to_vec());
    let key = keys::joined_group(app, user, group);
    if let Some(stored) = staging.get(&key).await? {
        let joined = JoinedRecord::decode(stored).map_err(|_| damaged("joined group"))?;
        staging.set(key, JoinedRecord { role: role.into(), ..joined }.encode_to_vec());
    }
    Ok(())
}
