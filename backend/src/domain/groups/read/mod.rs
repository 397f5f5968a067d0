//! Reading groups: what they are, who is in them, what they keep (GRP-03, GRP-21, GRP-24).
//!
//! Who is no member sees of a group what anybody may know who wants to join it. Who is in a live room is not known
//! here.

mod receipts;

use std::{collections::HashSet, ops::ControlFlow};

use bytes::Bytes;
use futures::future::try_join_all;
use prost::Message as _;
use protocol::message::{
    Group, GroupApplication, GroupAttributes, GroupBan, GroupCounters, GroupJoinOption, GroupMember, GroupRole,
    GroupType,
};

pub use self::receipts::{Receipts, ReceiptsQuery, receipts};
use super::{
    Refusal, access,
    records::{GroupApplicationRecord, GroupBanRecord, GroupRecord, JoinedRecord, MemberRecord},
};
use crate::{
    domain::{
        AppId, Error, GroupId, UserId,
        change::{conversation, group::shown_attributes, group::words},
        damaged,
        keys::{self, Tail},
        settings::Settings,
        sync::{Budget, PageLimit},
    },
    store::{Lane, RangeQuery, ReadMode, Store, Tx},
};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A user.
    User(UserId),
    /// An administrator of the application, who sees everything.
    Admin,
    /// Nobody in particular.
    Guest,
}

/// A group that a user's sessions are told of as things happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedGroup {
    /// Its id.
    pub group: GroupId,
    /// What it is.
    pub kind: GroupType,
    /// The user has been told of it (GRP-13).
    pub is_active: bool,
    /// The user has been told of it, and receives what is said.
    pub is_heard: bool,
}

/// What somebody may know of a group.
struct Seen {
    record: GroupRecord,
    member: Option<MemberRecord>,
}

impl Seen {
    async fn open(tx: &Tx, app: AppId, asker: &Asker, group: &GroupId) -> Result<Seen, Error> {
        let stored = tx.snapshot_get(&keys::group(app, group));
        let member = match asker {
            Asker::User(user) => tx.snapshot_get(&keys::member(app, group, user)).await?,
            Asker::Admin | Asker::Guest => None,
        };
        let record = access::decode_group(stored.await?.ok_or(Refusal::Unknown)?)?;
        let member = member.map(access::decode_member).transpose()?;
        Ok(Seen { record, member: member.filter(|member| member.role() != GroupRole::None) })
    }

    /// Refuses who may not see what is inside: that is for members. A live room is open to all.
    fn ensure_inside(&self, asker: &Asker) -> Result<(), Error> {
        let is_inside = *asker == Asker::Admin || self.member.is_some() || self.record.rules()?.is_room();
        if is_inside { Ok(()) } else { Err(Refusal::RightMissing.into()) }
    }

    async fn shown(
        &self,
        tx: &Tx,
        app: AppId,
        asker: &Asker,
        group: &GroupId,
        settings: &Settings,
    ) -> Result<Group, Error> {
        let record = &self.record;
        let rules = record.rules()?;
        let known = Group {
            group: group.to_string(),
            r#type: record.kind,
            name: record.name.clone(),
            introduction: record.introduction.clone(),
            image_url: record.image_url.clone(),
            member_count: record.member_count,
            join_option: record.join_option,
            created_ms: record.created_ms,
            member_max: rules.members_max(settings, record.member_max).unwrap_or(0),
            ..Group::default()
        };
        if self.ensure_inside(asker).is_err() {
            return Ok(known);
        }
        let head = conversation::snapshot_head(tx, app, &Tail::from(group)).await?;
        Ok(Group {
            notice: record.notice.clone(),
            owner: record.owner.clone(),
            muted_all: record.muted_all,
            custom: record.custom.clone(),
            revision: record.revision,
            head_seq: head.seq,
            last_message_ms: head.time_ms,
            searchable: record.searchable,
            ..known
        })
    }
}

fn shown_member(user: &UserId, member: MemberRecord) -> GroupMember {
    GroupMember {
        user: user.to_string(),
        role: member.role,
        joined_ms: member.joined_ms,
        name_card: member.name_card,
        custom: member.custom,
        muted_until_ms: member.muted_until_ms,
        last_sent_ms: member.last_sent_ms,
        first_seq: member.first_seq,
    }
}

/// What was read of a group: itself, and what the asker is in it; or why not.
pub type Found = Result<(Group, Option<GroupMember>), Refusal>;

/// Reads groups, in the order asked for.
pub async fn groups(store: &Store, app: AppId, asker: Asker, groups: Vec<GroupId>) -> Result<Vec<Found>, Error> {
    let read = async move |tx: &Tx| -> Result<Vec<Found>, Error> {
        let settings = crate::domain::applications::settings(tx, app).await?;
        try_join_all(groups.iter().map(|group| found(tx, app, &asker, group, &settings))).await
    };
    Ok(store.run(Lane::Read, "groups", read).await?.0)
}

async fn found(tx: &Tx, app: AppId, asker: &Asker, group: &GroupId, settings: &Settings) -> Result<Found, Error> {
    let seen = match Seen::open(tx, app, asker, group).await {
        Err(Error::Group(refusal)) => return Ok(Err(refusal)),
        seen => seen?,
    };
    let shown = seen.shown(tx, app, asker, group, settings).await?;
    let own = match (asker, seen.member) {
        (Asker::User(user), Some(member)) => Some(shown_member(user, member)),
        _ => None,
    };
    Ok(Ok((shown, own)))
}

/// A live room, as somebody finds it who comes in.
pub struct Room {
    /// As everybody in it is shown it.
    pub shown: Group,
    /// Its first message's sequence: what is before it was said in another one of the same id.
    pub first_seq: u64,
}

/// A live room, for somebody who is about to come in; `None`: the group is none. Refuses who may not.
pub async fn room(
    store: &Store,
    app: AppId,
    asker: Asker,
    group: &GroupId,
    now_ms: u64,
) -> Result<Option<Room>, Error> {
    let group = group.clone();
    let read = async move |tx: &Tx| -> Result<Option<Room>, Error> {
        let settings = crate::domain::applications::settings(tx, app).await?;
        let seen = Seen::open(tx, app, &asker, &group).await?;
        let rules = seen.record.rules()?;
        if !rules.is_room() {
            return Ok(None);
        }
        let is_closed = seen.record.join_option == GroupJoinOption::Forbidden as i32;
        if is_closed && seen.member.is_none() || asker == Asker::Guest && !rules.takes_guests {
            return Err(Refusal::RightMissing.into());
        }
        if let Asker::User(user) = &asker
            && let Some(stored) = tx.snapshot_get(&keys::group_ban(app, &group, user)).await?
            && GroupBanRecord::decode(stored).map_err(|_| damaged("group ban"))?.until_ms > now_ms
        {
            return Err(Refusal::Banned.into());
        }
        let shown = seen.shown(tx, app, &asker, &group, &settings).await?;
        Ok(Some(Room { shown, first_seq: seen.record.first_seq }))
    };
    Ok(store.run(Lane::Read, "room", read).await?.0)
}

/// Who may not be in a live room now; `None`: there is no such room.
pub async fn banned_from_room(
    store: &Store,
    app: AppId,
    group: &GroupId,
    now_ms: u64,
) -> Result<Option<HashSet<UserId>>, Error> {
    let group = group.clone();
    let read = async move |tx: &Tx| -> Result<Option<HashSet<UserId>>, Error> {
        let Some(stored) = tx.snapshot_get(&keys::group(app, &group)).await? else { return Ok(None) };
        if !access::decode_group(stored)?.rules()?.is_room() {
            return Ok(None);
        }
        let mut banned = HashSet::new();
        let each = each_page(tx, keys::group_bans(app, &group), ROWS_TOGETHER_MIN, async |rows| {
            for (key, stored) in rows {
                if decode_ban(stored)?.until_ms > now_ms {
                    banned.insert(second_user(&key)?);
                }
            }
            Ok(ControlFlow::Continue(()))
        });
        each.await?;
        Ok(Some(banned))
    };
    Ok(store.run(Lane::Read, "banned_from_room", read).await?.0)
}

/// The groups that a user is in, by id, behind `after`; and whether there are more.
pub async fn joined(
    store: &Store,
    app: AppId,
    user: &UserId,
    after: Option<GroupId>,
    limit: PageLimit,
) -> Result<(Vec<(Group, Option<GroupMember>)>, bool), Error> {
    let user = user.clone();
    let read = async move |tx: &Tx| -> Result<_, Error> {
        let settings = crate::domain::applications::settings(tx, app).await?;
        let (begin, end) = keys::joined_groups(app, &user);
        let begin = after.as_ref().map_or(begin, |after| behind(&keys::joined_group(app, &user, after)));
        let (asker, entries_max) = (Asker::User(user.clone()), limit.entries_max.max(1));
        let mut budget = Budget::new(limit.bytes_max);
        let mut groups = Vec::new();
        let more = each_page(tx, (begin, end), entries_max, async |rows| {
            let mut known = Vec::with_capacity(rows.len());
            for (key, stored) in rows {
                if decode_joined(stored)?.is_active {
                    known.push(second_group(&key)?);
                }
            }
            for known in known.chunks(GROUPS_TOGETHER) {
                let found = known.iter().map(|group| found(tx, app, &asker, group, &settings));
                for found in try_join_all(found).await?.into_iter().flatten() {
                    let bytes = found.0.encoded_len() + found.1.as_ref().map_or(0, GroupMember::encoded_len);
                    if groups.len() == entries_max || !budget.take(bytes) {
                        return Ok(ControlFlow::Break(()));
                    }
                    groups.push(found);
                }
            }
            Ok(ControlFlow::Continue(()))
        });
        let more = more.await?;
        Ok((groups, more))
    };
    Ok(store.run(Lane::Read, "joined_groups", read).await?.0)
}

/// All groups that a user is in.
pub async fn joined_ids(store: &Store, app: AppId, user: &UserId) -> Result<Vec<JoinedGroup>, Error> {
    /// More groups than this nobody is in.
    const GROUPS_MAX: usize = 4_096;
    let user = user.clone();
    let read = async move |tx: &Tx| -> Result<Vec<JoinedGroup>, Error> {
        let page = range(tx, keys::joined_groups(app, &user), GROUPS_MAX).await?;
        let group = |(key, stored): (Bytes, Bytes)| {
            let JoinedRecord { kind, is_active, deaf, .. } = decode_joined(stored)?;
            let kind = GroupType::try_from(kind).unwrap_or_default();
            Ok(JoinedGroup { group: second_group(&key)?, kind, is_active, is_heard: is_active && !deaf })
        };
        page.pairs.into_iter().map(group).collect()
    };
    Ok(store.run(Lane::Read, "joined_group_ids", read).await?.0)
}

/// Members by name, behind `after`, with one of these roles (none named: all); and whether there are more.
pub async fn members(
    store: &Store,
    app: AppId,
    asker: Asker,
    group: &GroupId,
    after: Option<UserId>,
    roles: Vec<GroupRole>,
    limit: PageLimit,
) -> Result<(Vec<GroupMember>, bool), Error> {
    let group = group.clone();
    let read = async move |tx: &Tx| -> Result<_, Error> {
        Seen::open(tx, app, &asker, &group).await?.ensure_inside(&asker)?;
        let (begin, end) = keys::members(app, &group);
        let begin = after.as_ref().map_or(begin, |after| behind(&keys::member(app, &group, after)));
        let entries_max = limit.entries_max.max(1);
        let mut budget = Budget::new(limit.bytes_max);
        let mut members = Vec::new();
        let more = each_page(tx, (begin, end), entries_max, async |rows| {
            for (key, stored) in rows {
                let (user, member) = (second_user(&key)?, access::decode_member(stored)?);
                let role = member.role();
                if role == GroupRole::None || !roles.is_empty() && !roles.contains(&role) {
                    continue;
                }
                let shown = shown_member(&user, member);
                if members.len() == entries_max || !budget.take(shown.encoded_len()) {
                    return Ok(ControlFlow::Break(()));
                }
                members.push(shown);
            }
            Ok(ControlFlow::Continue(()))
        });
        let more = more.await?;
        Ok((members, more))
    };
    Ok(store.run(Lane::Read, "group_members", read).await?.0)
}

/// Chosen members, in the order asked for; `None`: no member.
pub async fn chosen_members(
    store: &Store,
    app: AppId,
    asker: Asker,
    group: &GroupId,
    users: Vec<UserId>,
) -> Result<Vec<Option<GroupMember>>, Error> {
    let group = group.clone();
    let read = async move |tx: &Tx| -> Result<_, Error> {
        Seen::open(tx, app, &asker, &group).await?.ensure_inside(&asker)?;
        let one = async |user: &UserId| -> Result<Option<GroupMember>, Error> {
            let stored = tx.snapshot_get(&keys::member(app, &group, user)).await?;
            Ok(stored.map(access::decode_member).transpose()?.map(|member| shown_member(user, member)))
        };
        try_join_all(users.iter().map(one)).await
    };
    Ok(store.run(Lane::Read, "chosen_group_members", read).await?.0)
}

/// Who is kept out of a group now, by name behind `after`; and whether there are more. For whoever leads it.
pub async fn bans(
    store: &Store,
    app: AppId,
    asker: Asker,
    group: &GroupId,
    after: Option<UserId>,
    now_ms: u64,
    limit: PageLimit,
) -> Result<(Vec<GroupBan>, bool), Error> {
    let group = group.clone();
    let read = async move |tx: &Tx| -> Result<_, Error> {
        let seen = Seen::open(tx, app, &asker, &group).await?;
        let role = seen.member.as_ref().map_or(GroupRole::None, MemberRecord::role);
        if asker != Asker::Admin && role < GroupRole::Admin {
            return Err(Refusal::RightMissing.into());
        }
        let (begin, end) = keys::group_bans(app, &group);
        let begin = after.as_ref().map_or(begin, |after| behind(&keys::group_ban(app, &group, after)));
        let entries_max = limit.entries_max.max(1);
        let mut bans = Vec::new();
        let more = each_page(tx, (begin, end), entries_max, async |rows| {
            for (key, stored) in rows {
                let GroupBanRecord { until_ms } = decode_ban(stored)?;
                if until_ms <= now_ms {
                    continue;
                }
                if bans.len() == entries_max {
                    return Ok(ControlFlow::Break(()));
                }
                bans.push(GroupBan { user: second_user(&key)?.to_string(), until_ms });
            }
            Ok(ControlFlow::Continue(()))
        });
        let more = more.await?;
        Ok((bans, more))
    };
    Ok(store.run(Lane::Read, "group_bans", read).await?.0)
}

/// Where a page of applications begins: behind an applicant for a group.
pub type ApplicationPlace = (GroupId, UserId);

/// Open applications for groups that a user decides about; and where the next page begins, if there are more.
pub async fn applications(
    store: &Store,
    app: AppId,
    user: &UserId,
    from: Option<ApplicationPlace>,
    limit: PageLimit,
) -> Result<(Vec<GroupApplication>, Option<ApplicationPlace>), Error> {
    let user = user.clone();
    let read = async move |tx: &Tx| -> Result<_, Error> {
        let (first, end) = keys::joined_groups(app, &user);
        let mut begin = from.as_ref().map_or(first, |(group, _)| keys::joined_group(app, &user, group));
        let entries_max = limit.entries_max.max(1);
        let mut applications: Vec<GroupApplication> = Vec::new();
        loop {
            let page = range(tx, (begin, end.clone()), GROUPS_TOGETHER).await?;
            let last = page.pairs.last().map(|(key, _)| key.clone());
            let mut led = Vec::new();
            for (key, stored) in page.pairs {
                if decode_joined(stored)?.role >= GroupRole::Admin as i32 {
                    led.push(second_group(&key)?);
                }
            }
            // One more than the page holds tells whether there are more.
            let found = led.iter().map(|group| {
                let after = from.as_ref().filter(|(from, _)| from == group).map(|(_, applicant)| applicant);
                group_applications(tx, app, group, after, entries_max + 1 - applications.len())
            });
            applications.extend(try_join_all(found).await?.into_iter().flatten());
            if applications.len() > entries_max {
                applications.truncate(entries_max);
                let place =
                    applications.last().and_then(|last| Some((GroupId::new(&last.group)?, UserId::new(&last.user)?)));
                return Ok((applications, place));
            }
            match last.filter(|_| page.more) {
                Some(last) => begin = behind(&last),
                None => return Ok((applications, None)),
            }
        }
    };
    Ok(store.run(Lane::Read, "group_applications", read).await?.0)
}

/// Groups looked at together.
const GROUPS_TOGETHER: usize = 64;

/// Reads so many applications for a group.
async fn group_applications(
    tx: &Tx,
    app: AppId,
    group: &GroupId,
    after: Option<&UserId>,
    limit: usize,
) -> Result<Vec<GroupApplication>, Error> {
    let (begin, end) = keys::group_applications(app, group);
    let begin = after.map_or(begin, |after| behind(&keys::group_application(app, group, after)));
    let page = range(tx, (begin, end), limit).await?;
    let shown = |(key, stored): (Bytes, Bytes)| {
        let record = GroupApplicationRecord::decode(stored).map_err(|_| damaged("group application"))?;
        Ok(GroupApplication {
            group: group.to_string(),
            user: second_user(&key)?.to_string(),
            wording: record.wording,
            time_ms: record.time_ms,
            ..GroupApplication::default()
        })
    };
    page.pairs.into_iter().map(shown).collect()
}

/// The group's attributes.
pub async fn attributes(store: &Store, app: AppId, asker: Asker, group: &GroupId) -> Result<GroupAttributes, Error> {
    let group = group.clone();
    let read = async move |tx: &Tx| -> Result<_, Error> {
        Seen::open(tx, app, &asker, &group).await?.ensure_inside(&asker)?;
        let stored = tx.snapshot_get(&keys::group_attributes(app, &group)).await?;
        Ok(shown_attributes(&group, crate::domain::change::group::decode_attributes(stored)?))
    };
    Ok(store.run(Lane::Read, "group_attributes", read).await?.0)
}

/// The group's counters.
pub async fn counters(store: &Store, app: AppId, asker: Asker, group: &GroupId) -> Result<GroupCounters, Error> {
    let group = group.clone();
    let read = async move |tx: &Tx| -> Result<_, Error> {
        Seen::open(tx, app, &asker, &group).await?.ensure_inside(&asker)?;
        let stored = tx.snapshot_get(&keys::group_counters(app, &group)).await?;
        let record = crate::domain::change::group::decode_counters(stored)?;
        Ok(GroupCounters { group: group.to_string(), counters: record.counters, removed: Vec::new() })
    };
    Ok(store.run(Lane::Read, "group_counters", read).await?.0)
}

/// Groups that may be found, by id or by the beginnings of words of their names; and where the next page begins.
pub async fn search(
    store: &Store,
    app: AppId,
    text: &str,
    from: Option<Bytes>,
    limit: usize,
) -> Result<(Vec<Group>, Option<Bytes>), Error> {
    /// No place is longer: it names a word and a group.
    const PLACE_BYTES_MAX: usize = 512;
    /// Where the words begin: behind the group that has the text as its id. No other place is as short.
    const WORDS: &[u8] = &[0];
    if from.as_ref().is_some_and(|place| place.len() > PLACE_BYTES_MAX) {
        return Err(Error::Argument("from is not of this server's making"));
    }
    let wanted: Vec<String> = words(text).into_iter().collect();
    let by_id = GroupId::new(text);
    let read = async move |tx: &Tx| -> Result<_, Error> {
        let settings = crate::domain::applications::settings(tx, app).await?;
        let mut groups = Vec::new();
        if from.is_none()
            && let Some(group) = &by_id
            && is_searchable(tx, app, group).await?
            && let Ok((shown, _)) = found(tx, app, &Asker::Guest, group, &settings).await?
        {
            groups.push(shown);
        }
        let Some(longest) = wanted.iter().max_by_key(|word| word.len()) else { return Ok((groups, None)) };
        if groups.len() >= limit.max(1) {
            return Ok((groups, Some(Bytes::from_static(WORDS))));
        }
        let (first, end) = keys::group_words(app, longest);
        let place = from.as_ref().filter(|place| **place != WORDS);
        let mut begin = place.map_or(first.clone(), |place| [&first[..], &place[..], &[0]].concat().into());
        let mut looked_at = 0;
        loop {
            let page = range(tx, (begin.clone(), end.clone()), GROUPS_TOGETHER).await?;
            let parts = page.pairs.iter().map(|(key, _)| keys::group_word_parts(key));
            let named = parts.collect::<Option<Vec<_>>>().ok_or_else(|| damaged("group word key"))?;
            let read = named.iter().map(|(_, group)| found(tx, app, &Asker::Guest, group, &settings));
            let read = try_join_all(read).await?;
            for (((key, _), (word, group)), found) in page.pairs.iter().zip(&named).zip(read) {
                looked_at += 1;
                let place = key.slice(first.len().min(key.len())..);
                begin = behind(key);
                let Ok((shown, _)) = found else { continue };
                let own = words(&shown.name);
                let has = |word: &String| own.iter().any(|own| own.starts_with(word.as_str()));
                // Each is found once, on whatever page: by its id, or else by the first of its words that begin so.
                let is_first = own.iter().find(|own| own.starts_with(longest.as_str())) == Some(word);
                if is_first && by_id.as_ref() != Some(group) && wanted.iter().all(has) {
                    groups.push(shown);
                }
                if groups.len() >= limit.max(1) || looked_at >= LOOKED_AT_MAX {
                    return Ok((groups, Some(place)));
                }
            }
            if !page.more {
                return Ok((groups, None));
            }
        }
    };
    Ok(store.run(Lane::Read, "search_groups", read).await?.0)
}

async fn is_searchable(tx: &Tx, app: AppId, group: &GroupId) -> Result<bool, Error> {
    let stored = tx.snapshot_get(&keys::group(app, group)).await?;
    Ok(stored.map(access::decode_group).transpose()?.is_some_and(|record| record.searchable))
}

/// Groups that one search looks at, at the most.
const LOOKED_AT_MAX: usize = 512;

/// Rows that are read at a time, at the least: of those that are looked at a page may hold few.
const ROWS_TOGETHER_MIN: usize = 256;

/// Goes through the rows of a range, some at a time, until `pass` has enough. Returns whether it had before the end.
async fn each_page(
    tx: &Tx,
    (mut begin, end): (Bytes, Bytes),
    together: usize,
    mut pass: impl AsyncFnMut(Vec<(Bytes, Bytes)>) -> Result<ControlFlow<()>, Error>,
) -> Result<bool, Error> {
    loop {
        let page = range(tx, (begin, end.clone()), together.max(ROWS_TOGETHER_MIN)).await?;
        let last = page.pairs.last().map(|(key, _)| key.clone());
        if pass(page.pairs).await?.is_break() {
            return Ok(true);
        }
        match last.filter(|_| page.more) {
            Some(last) => begin = behind(&last),
            None => return Ok(false),
        }
    }
}

async fn range(tx: &Tx, (begin, end): (Bytes, Bytes), limit: usize) -> Result<crate::store::RangePage, Error> {
    Ok(tx.range(RangeQuery { begin, end, limit, reverse: false, mode: ReadMode::Snapshot }).await?)
}

fn behind(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

fn decode_ban(stored: Bytes) -> Result<GroupBanRecord, Error> {
    GroupBanRecord::decode(stored).map_err(|_| damaged("group ban"))
}

fn decode_joined(stored: Bytes) -> Result<JoinedRecord, Error> {
    JoinedRecord::decode(stored).map_err(|_| damaged("joined group"))
}

fn second_group(key: &[u8]) -> Result<GroupId, Error> {
    let group = keys::two_names(key).and_then(|(_, group)| GroupId::new(&group));
    group.ok_or_else(|| damaged("joined group key"))
}

fn second_user(key: &[u8]) -> Result<UserId, Error> {
    keys::two_names(key).and_then(|(_, user)| UserId::new(&user)).ok_or_else(|| damaged("group key with a user"))
}

fn last_user(key: &[u8]) -> Result<UserId, Error> {
    keys::last_name(key).and_then(|user| UserId::new(&user)).ok_or_else(|| damaged("group key with a user"))
}
