//! A group's life: made, changed, given to another owner, dissolved (GRP-02, GRP-04, GRP-20 to GRP-23).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use protocol::message::{GroupJoinOption, GroupRole, GroupTips, GroupUpdate, group_tips};

use super::{
    GROUP_FIELD_BYTES_MAX, IMAGE_URL_BYTES_MAX, MEMBER_FIELD_BYTES_MAX, NAME_BYTES_MAX, NewGroup, TEXT_BYTES_MAX,
    USERS_MAX, check_fields, ensure, roles, set_fields,
};
use crate::domain::{
    AppId, Error, GroupId, UserId,
    act::{Answer, Author, Staging},
    callbacks::{GroupChanged, GroupMade, GroupOwnerChanged, Happened, MEMBERS_TOLD_MAX},
    change::Change,
    groups::{
        GENERATED_PREFIX, Refusal, access,
        entering::{self, Entrant, Telling, tips},
        listing,
        records::{GroupRecord, MemberRecord},
        table::{self, Rules, Who},
    },
    keys::{self, Tail},
    records::Head,
    send::group::append_tips,
    settings::{GROUP_MEMBERS_MAX, Settings},
};

/// Words of a group's name by which it is found, at the most.
const WORDS_MAX: usize = 32;

pub(super) fn check_new(new: &NewGroup) -> Result<(), Error> {
    let Some(group) = &new.group else { return Err(Refusal::IdInvalid.into()) };
    if group.as_str().starts_with(GENERATED_PREFIX) != new.is_generated {
        return Err(Refusal::IdInvalid.into());
    }
    ensure(table::rules(new.kind).is_some(), "type is no type of group")?;
    ensure(new.info.name.as_ref().is_some_and(|name| !name.is_empty()), "a group needs a name")?;
    ensure(new.members.len() <= USERS_MAX, "users must name at most 100 users")?;
    new.members.iter().try_for_each(|(_, update)| roles::check(update))?;
    check_update(&new.info)
}

pub(super) fn check_update(update: &GroupUpdate) -> Result<(), Error> {
    let fits = |text: &Option<String>, max| text.as_ref().is_none_or(|text| text.len() <= max);
    ensure(update.name.as_ref().is_none_or(|name| !name.is_empty()), "a group needs a name")?;
    let fits_max = update.member_max.is_none_or(|max| max <= GROUP_MEMBERS_MAX);
    ensure(fits_max, "a group has at most 6000 members")?;
    ensure(fits(&update.name, NAME_BYTES_MAX), "name must have at most 100 bytes")?;
    ensure(fits(&update.introduction, TEXT_BYTES_MAX), "introduction must have at most 400 bytes")?;
    ensure(fits(&update.notice, TEXT_BYTES_MAX), "notice must have at most 400 bytes")?;
    ensure(fits(&update.image_url, IMAGE_URL_BYTES_MAX), "image_url must have at most 500 bytes")?;
    let is_option = |option| GroupJoinOption::try_from(option).is_ok();
    ensure(update.join_option.is_none_or(is_option), "join_option is no join option")
}

/// Makes a group.
pub(super) async fn create(staging: &mut Staging<'_>, change: &Change, new: &NewGroup) -> Result<Answer, Error> {
    let app = change.app;
    let group = new.group.as_ref().ok_or(Refusal::IdInvalid)?;
    let rules = table::rules(new.kind).ok_or(Error::Argument("type is no type of group"))?;
    let owner = if change.by == Author::User { Some(&change.user) } else { new.owner.as_ref() };
    if staging.get(&keys::closing_group(app, group)).await?.is_some() {
        return Err(Refusal::IdTaken.into());
    }
    if let Some(stored) = staging.get(&keys::group(app, group)).await? {
        let is_own =
            owner.is_some_and(|owner| access::decode_group(stored).is_ok_and(|known| known.owner == owner.as_str()));
        return match is_own {
            true if staging.again => Ok(Answer::GroupCreated(group.clone())),
            true => Err(Refusal::IdOwn.into()),
            false => Err(Refusal::IdTaken.into()),
        };
    }
    if new.imported_ms.is_some_and(|imported_ms| imported_ms / 1000 > staging.now_ms / 1000) {
        return Err(Refusal::TimeInvalid.into());
    }
    let settings = staging.settings(app).await?;
    let mut record = new_record(change, new, rules, owner, &settings)?;
    record.created_ms = new.imported_ms.map_or(staging.now_ms, |imported_ms| imported_ms.min(staging.now_ms));
    record.changed_ms = record.created_ms;
    record.first_seq = Head::from_stored(staging.get(&Tail::from(group).head(app)).await?)?.seq + 1;
    let mut entrants = entrants(new, owner);
    entrants.iter_mut().for_each(|entrant| entrant.joined_ms = new.imported_ms);
    admit_founders(staging, change, rules, &settings, (record.member_max, new.imported_ms.is_some()), &entrants)
        .await?;
    put_words(staging, app, group, None, Some(&record));
    listing::add(staging, app, group, &record);
    if new.imported_ms.is_none() {
        let users = entrants.iter().map(|entrant| &entrant.user);
        let made = Happened::GroupCreated(told_of(change, group, &record, users));
        staging.tell_application(app, &Tail::from(group), made).await?;
    }
    if rules.is_room() {
        return create_room(staging, app, group, record, owner).await;
    }
    let telling = Telling { by: change.user.as_str(), tips: None, quiet: new.imported_ms.is_some() };
    entering::enter(staging, app, group, &mut record, &entrants, telling).await?;
    Ok(Answer::GroupCreated(group.clone()))
}

/// A group as the application's server is told of it.
pub(super) fn told_of<'a>(
    change: &Change,
    group: &GroupId,
    record: &GroupRecord,
    users: impl Iterator<Item = &'a UserId>,
) -> GroupMade {
    GroupMade {
        group: group.to_string(),
        kind: record.kind,
        by: change.user.to_string(),
        owner: record.owner.clone(),
        name: record.name.clone(),
        users: users.take(MEMBERS_TOLD_MAX).map(UserId::to_string).collect(),
    }
}

/// Queues for the application's server what has changed of a group.
async fn tell_changed(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    kind: i32,
    changed: BTreeMap<String, Bytes>,
) -> Result<(), Error> {
    let changed = GroupChanged { group: group.to_string(), kind, by: change.user.to_string(), changed };
    staging.tell_application(change.app, &Tail::from(group), Happened::GroupChanged(changed)).await
}

fn new_record(
    change: &Change,
    new: &NewGroup,
    rules: &Rules,
    owner: Option<&UserId>,
    settings: &Settings,
) -> Result<GroupRecord, Error> {
    let mut record = GroupRecord {
        kind: new.kind.into(),
        owner: owner.map(UserId::to_string).unwrap_or_default(),
        // What is imported has its beginning behind it.
        is_active: rules.is_active_at_once || new.imported_ms.is_some(),
        searchable: rules.join != GroupJoinOption::Forbidden,
        ..GroupRecord::default()
    };
    // Whoever makes it may say everything of it that its owner, or an administrator, may.
    ensure_may_update(change.by, GroupRole::Owner, rules, &GroupUpdate { name: None, ..only_led(&new.info) })?;
    check_fields(&new.info.custom, &settings.group_custom_fields, GROUP_FIELD_BYTES_MAX)?;
    apply(&mut record, &new.info);
    Ok(record)
}

/// What of an update is not the group's description.
fn only_led(update: &GroupUpdate) -> GroupUpdate {
    GroupUpdate {
        join_option: update.join_option,
        muted_all: update.muted_all,
        member_max: update.member_max,
        searchable: update.searchable,
        ..GroupUpdate::default()
    }
}

fn entrants(new: &NewGroup, owner: Option<&UserId>) -> Vec<Entrant> {
    let mut entrants: Vec<Entrant> =
        owner.map(|owner| Entrant::new(owner.clone(), GroupRole::Owner)).into_iter().collect();
    for (user, update) in &new.members {
        if entrants.iter().all(|known| known.user != *user) {
            entrants.push(Entrant {
                name_card: update.name_card.clone().unwrap_or_default(),
                custom: update.custom.clone(),
                ..Entrant::new(user.clone(), update.role.unwrap_or(GroupRole::Member))
            });
        }
    }
    entrants
}

/// Refuses those who can't be in the group from the beginning.
async fn admit_founders(
    staging: &mut Staging<'_>,
    change: &Change,
    rules: &Rules,
    settings: &Settings,
    (new_max, is_imported): (u32, bool),
    entrants: &[Entrant],
) -> Result<(), Error> {
    if is_imported && !rules.is_imported {
        return Err(Refusal::RightMissing.into());
    }
    let others = entrants.iter().any(|entrant| entrant.role != GroupRole::Owner);
    if others && (rules.is_room() || change.by == Author::User && !rules.invites) {
        return Err(Refusal::RightMissing.into());
    }
    if entrants.iter().any(|entrant| entrant.role == GroupRole::Admin && !rules.has_admins) {
        return Err(Refusal::RightMissing.into());
    }
    if rules.members_max(settings, new_max).is_some_and(|max| entrants.len() > max as usize) {
        return Err(Refusal::Full.into());
    }
    for entrant in entrants {
        check_fields(&entrant.custom, &settings.group_member_custom_fields, MEMBER_FIELD_BYTES_MAX)?;
        ensure_account(staging, change.app, &entrant.user).await?;
        let counts = entering::counts_of(staging, change.app, &entrant.user).await?;
        let owns_too_many = entrant.role == GroupRole::Owner && counts.owned >= settings.groups_owned_max;
        // Others are counted once they are told.
        let joins = rules.is_active_at_once || is_imported || entrant.role == GroupRole::Owner;
        if joins && counts.joined >= settings.groups_joined_max || owns_too_many {
            return Err(Refusal::GroupsFull.into());
        }
    }
    Ok(())
}

/// Refuses users that do not exist.
pub(super) async fn ensure_account(staging: &mut Staging<'_>, app: AppId, user: &UserId) -> Result<(), Error> {
    match has_account(staging, app, user).await? {
        true => Ok(()),
        false => Err(Refusal::UserUnknown.into()),
    }
}

pub(super) async fn has_account(staging: &mut Staging<'_>, app: AppId, user: &UserId) -> Result<bool, Error> {
    crate::domain::account::is_there(staging.get(&keys::account(app, user)).await?)
}

async fn create_room(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    mut record: GroupRecord,
    owner: Option<&UserId>,
) -> Result<Answer, Error> {
    if let Some(owner) = owner {
        record.member_count = 1;
        let member =
            MemberRecord { role: GroupRole::Owner.into(), joined_ms: staging.now_ms, ..MemberRecord::default() };
        staging.set(keys::member(app, group, owner), member.encode_to_vec());
        staging.tx.set(keys::group_trace(app, owner, group), Bytes::new());
        entering::count(staging, app, owner, 0, 1).await?;
    }
    staging.set(keys::group(app, group), record.encode_to_vec());
    Ok(Answer::GroupCreated(group.clone()))
}

/// Changes what is said of a group.
pub(super) async fn update(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    update: &GroupUpdate,
) -> Result<Answer, Error> {
    let app = change.app;
    let before = access::load(staging, app, group).await?;
    let rules = before.rules()?;
    let role = access::role(staging, app, group, &change.user).await?;
    ensure_may_update(change.by, role, rules, update)?;
    let settings = staging.settings(app).await?;
    check_fields(&update.custom, &settings.group_custom_fields, GROUP_FIELD_BYTES_MAX)?;
    let mut record = before.clone();
    apply(&mut record, update);
    let changed = differences(&before, &record);
    if changed.is_empty() {
        return Ok(Answer::Done);
    }
    change.take_group_rate(staging, group).await?;
    (record.revision, record.changed_ms) = (record.revision + 1, staging.now_ms);
    put_words(staging, app, group, Some(&before), Some(&record));
    staging.set(keys::group(app, group), record.encode_to_vec());
    tell_changed(staging, change, group, record.kind, changed.clone()).await?;
    let tips = GroupTips { changed, ..tips(group_tips::Kind::GroupChanged, group, change.user.as_str(), Vec::new()) };
    append_tips(staging, app, group, &record, tips).await?;
    Ok(Answer::Done)
}

/// The description is changed by whom the type allows it; who may write or join, by whoever leads the group; its size,
/// and whether it is found, by administrators of the application.
fn ensure_may_update(by: Author, role: GroupRole, rules: &Rules, update: &GroupUpdate) -> Result<(), Error> {
    const LEADERS: Who = Who { member: false, admin: true, owner: true, app_admin: true };
    const APP: Who = Who { member: false, admin: false, owner: false, app_admin: true };
    let GroupUpdate { name, introduction, notice, image_url, custom, .. } = update;
    let describes = name.is_some() || introduction.is_some() || notice.is_some() || image_url.is_some();
    if describes || !custom.is_empty() {
        access::ensure(rules.edits, by, role)?;
    }
    if update.muted_all.is_some() || update.join_option.is_some() {
        access::ensure(LEADERS, by, role)?;
    }
    let asks = update.join_option == Some(GroupJoinOption::Approval.into());
    if update.join_option.is_some() && rules.join == GroupJoinOption::Forbidden || asks && rules.is_room() {
        return Err(Refusal::RightMissing.into()); // nobody applies for such a group
    }
    if update.member_max.is_some() || update.searchable.is_some() {
        access::ensure(APP, by, role)?;
    }
    // Who may change nothing may not try, either.
    if by == Author::User && role == GroupRole::None { Err(Refusal::RightMissing.into()) } else { Ok(()) }
}

fn apply(record: &mut GroupRecord, update: &GroupUpdate) {
    let set = |field: &mut String, given: &Option<String>| {
        if let Some(given) = given {
            field.clone_from(given);
        }
    };
    set(&mut record.name, &update.name);
    set(&mut record.introduction, &update.introduction);
    set(&mut record.notice, &update.notice);
    set(&mut record.image_url, &update.image_url);
    record.join_option = update.join_option.unwrap_or(record.join_option);
    record.muted_all = update.muted_all.unwrap_or(record.muted_all);
    record.member_max = update.member_max.unwrap_or(record.member_max);
    record.searchable = update.searchable.unwrap_or(record.searchable);
    set_fields(&mut record.custom, &update.custom);
}

/// What differs, by the names of the fields.
fn differences(before: &GroupRecord, now: &GroupRecord) -> BTreeMap<String, Bytes> {
    let texts = [
        ("name", &before.name, &now.name),
        ("introduction", &before.introduction, &now.introduction),
        ("notice", &before.notice, &now.notice),
        ("image_url", &before.image_url, &now.image_url),
    ];
    let number = |number: u64| Bytes::from(number.to_string());
    let numbers = [
        ("join_option", before.join_option as u64, now.join_option as u64),
        ("muted_all", before.muted_all.into(), now.muted_all.into()),
        ("member_max", before.member_max.into(), now.member_max.into()),
        ("searchable", before.searchable.into(), now.searchable.into()),
    ];
    let texts = texts.into_iter().filter(|(_, before, now)| before != now);
    let texts = texts.map(|(name, _, now)| (name.to_owned(), Bytes::from(now.clone())));
    let numbers = numbers.into_iter().filter(|(_, before, now)| before != now);
    let numbers = numbers.map(|(name, _, now)| (name.to_owned(), number(now)));
    let names: BTreeSet<&String> = before.custom.keys().chain(now.custom.keys()).collect();
    let fields = names.into_iter().filter(|name| before.custom.get(*name) != now.custom.get(*name));
    let fields = fields.map(|name| (format!("custom.{name}"), now.custom.get(name).cloned().unwrap_or_default()));
    texts.chain(numbers).chain(fields).collect()
}

/// Words of a name that it is found by.
pub(crate) fn words(name: &str) -> BTreeSet<String> {
    let words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.flat_map(beginnings).map(str::to_lowercase).take(WORDS_MAX).collect()
}

/// A word, and what follows in it from each character of a script that has no spaces between words.
fn beginnings(word: &str) -> impl Iterator<Item = &str> {
    let inner = word.char_indices().skip(1).filter(|(_, character)| is_unspaced(*character));
    std::iter::once(word).chain(inner.map(|(at, _)| &word[at..]))
}

/// Chinese and Japanese characters.
fn is_unspaced(character: char) -> bool {
    matches!(character,
        '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

pub(super) fn put_words(
    staging: &Staging<'_>,
    app: AppId,
    group: &GroupId,
    before: Option<&GroupRecord>,
    now: Option<&GroupRecord>,
) {
    let of = |record: Option<&GroupRecord>| {
        record.filter(|record| record.searchable).map(|record| words(&record.name)).unwrap_or_default()
    };
    let (before, now) = (of(before), of(now));
    before.difference(&now).for_each(|word| staging.tx.clear(&keys::group_word(app, word, group)));
    now.difference(&before).for_each(|word| staging.tx.set(keys::group_word(app, word, group), Bytes::new()));
}

/// Gives a group to another member.
pub(super) async fn transfer(
    staging: &mut Staging<'_>,
    change: &Change,
    group: &GroupId,
    to: &UserId,
) -> Result<Answer, Error> {
    const OWNER: Who = Who { member: false, admin: false, owner: true, app_admin: true };
    let app = change.app;
    let mut record = access::load(staging, app, group).await?;
    if staging.again && record.owner == to.as_str() {
        return Ok(Answer::Done);
    }
    let role = access::role(staging, app, group, &change.user).await?;
    access::ensure(OWNER, change.by, role)?;
    let next = match access::member(staging, app, group, to).await? {
        Some(member) if member.role() == GroupRole::Owner => return Ok(Answer::Done),
        // Of a live room whoever exists can be the owner: it keeps nobody who does not lead it.
        None if record.rules()?.is_room() => {
            ensure_account(staging, app, to).await?;
            MemberRecord::default()
        }
        known => known.ok_or(Refusal::UserUnknown)?,
    };
    let settings = staging.settings(app).await?;
    if entering::counts_of(staging, app, to).await?.owned >= settings.groups_owned_max {
        return Err(Refusal::GroupsFull.into());
    }
    if let Some(owner) = UserId::new(&record.owner)
        && let Some(before) = access::member(staging, app, group, &owner).await?
    {
        roles::put(staging, app, group, &mut record, &owner, before, GroupRole::Member).await?;
        entering::count(staging, app, &owner, 0, -1).await?;
    }
    roles::put(staging, app, group, &mut record, to, next, GroupRole::Owner).await?;
    entering::count(staging, app, to, 0, 1).await?;
    // Whoever owns a group knows of it.
    let stamp = staging.next_stamp();
    entering::activate_for(staging, stamp, app, group, to, change.user.as_str()).await?;
    let owner = GroupOwnerChanged {
        group: group.to_string(),
        kind: record.kind,
        by: change.user.to_string(),
        old: std::mem::replace(&mut record.owner, to.to_string()),
        new: to.to_string(),
    };
    (record.revision, record.changed_ms) = (record.revision + 1, staging.now_ms);
    staging.set(keys::group(app, group), record.encode_to_vec());
    let changed = BTreeMap::from([("owner".to_owned(), Bytes::from(to.to_string()))]);
    staging.tell_application(app, &Tail::from(group), Happened::GroupOwner(owner)).await?;
    let tips = GroupTips {
        changed,
        ..tips(group_tips::Kind::GroupChanged, group, change.user.as_str(), vec![to.to_string()])
    };
    append_tips(staging, app, group, &record, tips).await?;
    Ok(Answer::Done)
}
