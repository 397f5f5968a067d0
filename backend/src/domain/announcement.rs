//! Telling something to everybody, or to all who meet a condition (MSG-14).
//!
//! An announcement is stored once, whoever is meant: one small transaction. Each node tells those of its
//! users who are online at once, a bounded portion at a time, and the others when they log in within the
//! announcement's life. To tell a user is to send a message through the act queue, so what reaches a
//! device is in its log, counted, and known from then on; a mark says up to which announcement a user has
//! been told. A message and its mark are two transactions: what is told again in between is known by its
//! client message id.
//!
//! An announcement without a life goes to those online now, and is stored nowhere with them.
//!
//! What may not live here: who is online (the gateway knows).

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use prost::Message;

use super::{
    AppId, Error, UserId, account,
    act::Author,
    applications::{self, next_application},
    audience::{self, Condition},
    damaged, elements, keys,
    message::{NewMessage, Treatment},
};
use crate::store::{Lane, RangeQuery, ReadMode, Reading, Store, Tx, Versionstamp, Watch};

/// Longest life of an announcement, in seconds: seven days.
pub const LIFE_S_MAX: u64 = 7 * 86_400;
/// For how long the number of an announcement is known, in milliseconds: seven days.
const NUMBER_KEPT_MS: u64 = 7 * 86_400_000;
/// For how long one without a life is told, in milliseconds: nodes learn of it within a moment.
const UNKEPT_TOLD_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;
/// Users looked at in one transaction, at the most.
pub const USERS_MAX: usize = 100;
/// Announcements of an application that are kept, at the most.
const KEPT_MAX: usize = 10_000;
/// Announcements removed in one transaction, at the most.
const REMOVED_MAX: usize = 100;

/// Something to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct NewAnnouncement {
    /// Who is seen to say it.
    pub from: UserId,
    /// Its maker's number of it: the same within seven days is the same announcement.
    pub random: u32,
    /// For how long it waits for those who are not online, in seconds, at most [`LIFE_S_MAX`]. 0: not at all.
    pub life_s: u64,
    /// Who is meant.
    pub condition: Condition,
    /// An encoded [`Body`](protocol::message::Body).
    pub body: Bytes,
}

/// How many announcements an application may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// In 24 hours; 0: without limit.
    pub per_day: u32,
    /// From one to the next, in milliseconds.
    pub interval_ms: u64,
}

/// What became of an announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announced {
    /// It is told, now or from earlier on: its name.
    Task(String),
    /// The last one is too short ago.
    TooSoon,
    /// As many as there may be in 24 hours were made.
    DayFull,
}

/// What is kept of an announcement.
#[derive(Clone, PartialEq, Message)]
struct AnnouncementRecord {
    #[prost(string, tag = "1")]
    from: String,
    #[prost(uint32, tag = "2")]
    random: u32,
    #[prost(uint64, tag = "3")]
    created_ms: u64,
    #[prost(uint64, tag = "4")]
    life_s: u64,
    #[prost(message, optional, tag = "5")]
    condition: Option<Condition>,
}

/// The announcement made under a number.
#[derive(Clone, PartialEq, Message)]
struct TaskRecord {
    #[prost(uint64, tag = "1")]
    created_ms: u64,
}

/// An announcement that some have not been told yet.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// The application.
    pub app: AppId,
    /// Its place among the application's announcements.
    pub position: Versionstamp,
    /// When it was made, milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Who is seen to say it.
    pub from: UserId,
    /// It waits for users who are not online.
    pub is_kept: bool,
    random: u32,
    until_ms: u64,
    condition: Condition,
    body: Bytes,
}

/// Makes an announcement; under a number that was used within seven days, it is the one that was made then.
pub async fn announce(
    store: &Store,
    app: AppId,
    mut new: NewAnnouncement,
    quota: Quota,
    now_ms: u64,
) -> Result<Announced, Error> {
    new.condition.check()?;
    elements::check(&new.body, Author::Admin)?;
    if new.life_s > LIFE_S_MAX {
        return Err(Error::Argument("an announcement lives for at most 604800 seconds"));
    }
    new.body = Bytes::copy_from_slice(&new.body);
    let write = async move |tx: &Tx| -> Result<Announced, Error> {
        applications::ensure(tx, app).await?;
        let key = keys::announcement_task(app, new.random);
        if let Some(stored) = tx.get(&key).await? {
            let known = TaskRecord::decode(stored).map_err(|_| damaged("announcement number"))?;
            if now_ms < known.created_ms.saturating_add(NUMBER_KEPT_MS) {
                return Ok(Announced::Task(task_name(app, new.random, known.created_ms)));
            }
        }
        if let Some(refused) = over_quota(tx, app, quota, now_ms).await? {
            return Ok(refused);
        }
        let record = AnnouncementRecord {
            from: new.from.to_string(),
            random: new.random,
            created_ms: now_ms,
            life_s: new.life_s,
            condition: (!new.condition.is_everybody()).then(|| new.condition.clone()),
        };
        tx.append_versionstamped(&keys::announcement_prefix(app), 0, &[], record.encode_to_vec());
        tx.set(keys::announcement_body(app, new.random), new.body.clone());
        tx.set(key, TaskRecord { created_ms: now_ms }.encode_to_vec());
        tx.add(&keys::announcements_made(), 1);
        Ok(Announced::Task(task_name(app, new.random, now_ms)))
    };
    Ok(store.run(Lane::Write, "announce", write).await?.0)
}

fn task_name(app: AppId, random: u32, created_ms: u64) -> String {
    format!("{app}_{random}_{created_ms}")
}

async fn over_quota(tx: &Tx, app: AppId, quota: Quota, now_ms: u64) -> Result<Option<Announced>, Error> {
    let (begin, end) = keys::announcements_after(app, Versionstamp::ZERO);
    let limit = (quota.per_day as usize).clamp(1, KEPT_MAX);
    let newest = tx.range(RangeQuery { begin, end, limit, reverse: true, mode: ReadMode::Serializable }).await?;
    let mut made_ms = Vec::with_capacity(newest.pairs.len());
    for (_, stored) in newest.pairs {
        made_ms.push(decode_record(stored)?.created_ms);
    }
    let within = |made_ms: &u64, span_ms: u64| now_ms.saturating_sub(*made_ms) < span_ms;
    if made_ms.first().is_some_and(|newest_ms| within(newest_ms, quota.interval_ms)) {
        return Ok(Some(Announced::TooSoon));
    }
    let today = made_ms.iter().filter(|made_ms| within(made_ms, DAY_MS)).count();
    Ok((quota.per_day > 0 && today >= quota.per_day as usize).then_some(Announced::DayFull))
}

/// What there is to tell, oldest first in each application, behind the places in `since`; and a watch that ends
/// when there is more.
pub async fn news(
    store: &Store,
    since: HashMap<AppId, Versionstamp>,
    now_ms: u64,
) -> Result<(Vec<Announcement>, Watch), Error> {
    let read = async move |tx: &Tx| -> Result<(Vec<Announcement>, Watch), Error> {
        let watch = tx.watch(&keys::announcements_made());
        let (mut all, mut app) = (Vec::new(), 0);
        while let Some(next) = next_application(tx, app).await? {
            app = next;
            all.extend(active(tx, app, since.get(&app).copied().unwrap_or(Versionstamp::ZERO), now_ms).await?);
        }
        Ok((all, watch))
    };
    Ok(store.run(Lane::Read, "announcements", read).await?.0)
}

async fn active(tx: &Tx, app: AppId, since: Versionstamp, now_ms: u64) -> Result<Vec<Announcement>, Error> {
    let (begin, end) = keys::announcements_after(app, since);
    let query = RangeQuery { begin, end, limit: KEPT_MAX, reverse: false, mode: ReadMode::Snapshot };
    let mut found = Vec::new();
    for (key, stored) in tx.range(query).await?.pairs {
        let record = decode_record(stored)?;
        if now_ms < until_ms(&record) {
            let body = tx.snapshot_get(&keys::announcement_body(app, record.random));
            found.push((keys::event_position(&key).ok_or_else(|| damaged("announcement key"))?, record, body));
        }
    }
    let mut active = Vec::with_capacity(found.len());
    for (position, record, body) in found {
        active.push(Announcement {
            app,
            position,
            created_ms: record.created_ms,
            from: UserId::new(&record.from).ok_or_else(|| damaged("announcement"))?,
            is_kept: record.life_s > 0,
            random: record.random,
            until_ms: until_ms(&record),
            condition: record.condition.unwrap_or_default(),
            body: body.await?.ok_or_else(|| damaged("announcement without a body"))?,
        });
    }
    Ok(active)
}

/// Removes announcements that are over and whose numbers need not be known any more. Returns whether there
/// may be more.
pub async fn remove_expired(store: &Store, app: AppId, now_ms: u64) -> Result<bool, Error> {
    let write = async move |tx: &Tx| -> Result<bool, Error> {
        let (begin, end) = keys::announcements_after(app, Versionstamp::ZERO);
        let query = RangeQuery { begin, end, limit: REMOVED_MAX, reverse: false, mode: ReadMode::Serializable };
        let page = tx.range(query).await?;
        for (key, stored) in &page.pairs {
            let record = decode_record(stored.clone())?;
            if now_ms < until_ms(&record).max(record.created_ms.saturating_add(NUMBER_KEPT_MS)) {
                return Ok(false);
            }
            tx.clear(key);
            // The number may have been used again since.
            let task_key = keys::announcement_task(app, record.random);
            let task = TaskRecord::decode(tx.get(&task_key).await?.unwrap_or_default());
            if task.map_err(|_| damaged("announcement number"))?.created_ms == record.created_ms {
                tx.clear(&task_key);
                tx.clear(&keys::announcement_body(app, record.random));
            }
        }
        Ok(page.more)
    };
    Ok(store.run(Lane::Read, "announcements_expired", write).await?.0)
}

fn until_ms(record: &AnnouncementRecord) -> u64 {
    let life_ms = if record.life_s > 0 { record.life_s * 1000 } else { UNKEPT_TOLD_MS };
    record.created_ms.saturating_add(life_ms)
}

fn decode_record(stored: Bytes) -> Result<AnnouncementRecord, Error> {
    AnnouncementRecord::decode(stored).map_err(|_| damaged("announcement"))
}

/// The messages that users, at most [`USERS_MAX`], are to be sent now of `announcements` (oldest first, all of
/// one application): what is meant for them and they have not been told.
pub async fn due(
    store: &Store,
    app: AppId,
    users: Vec<UserId>,
    announcements: Arc<[Announcement]>,
    now_ms: u64,
) -> Result<Vec<NewMessage>, Error> {
    type Reads = [Reading<Option<Bytes>>; 3];
    let read = async move |tx: &Tx| -> Result<Vec<NewMessage>, Error> {
        let reads = |user: &UserId| -> Reads {
            [keys::account(app, user), keys::announced(app, user), keys::audience(app, user)]
                .map(|key| tx.snapshot_get(&key))
        };
        let readings: Vec<Reads> = users.iter().map(reads).collect();
        let mut due = Vec::new();
        for (user, [account, announced, audience]) in users.iter().zip(readings) {
            let account = account::decode(account.await?)?.filter(|account| !account.deleted);
            let Some(account) = account else { continue };
            let announced = position(announced.await?)?;
            let audience = audience::decode(audience.await?)?;
            let is_due = |announcement: &&Announcement| {
                announcement.position > announced
                    && now_ms < announcement.until_ms
                    // Whoever came later was not there to be told.
                    && account.created_ms <= announcement.created_ms
                    && announcement.condition.matches(&audience)
            };
            due.extend(announcements.iter().filter(is_due).map(|announcement| announcement.to_message(user)));
        }
        Ok(due)
    };
    Ok(store.run(Lane::Read, "announcements_due", read).await?.0)
}

/// Notes that users, at most [`USERS_MAX`], have been told everything up to `position`.
pub async fn told(store: &Store, app: AppId, users: Vec<UserId>, position: Versionstamp) -> Result<(), Error> {
    let write = async move |tx: &Tx| -> Result<(), Error> {
        applications::ensure(tx, app).await?;
        let readings: Vec<_> = users.iter().map(|user| tx.get(&keys::announced(app, user))).collect();
        for (user, reading) in users.iter().zip(readings) {
            if self::position(reading.await?)? < position {
                tx.set(keys::announced(app, user), position.0.to_vec());
            }
        }
        Ok(())
    };
    store.run(Lane::Read, "announcements_told", write).await?;
    Ok(())
}

fn position(stored: Option<Bytes>) -> Result<Versionstamp, Error> {
    let Some(bytes) = stored else { return Ok(Versionstamp::ZERO) };
    Versionstamp::from_slice(&bytes).ok_or_else(|| damaged("mark of announcements"))
}

impl Announcement {
    /// Whether its life is over.
    pub fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.until_ms
    }

    /// The message that tells it to a user; the same one whenever it is made.
    fn to_message(&self, user: &UserId) -> NewMessage {
        let treatment = Treatment { online_only: !self.is_kept, ..Treatment::default() };
        // The sender's ids are the sender's over all conversations.
        let client_message_id = [
            &b"\0all"[..],
            &self.random.to_be_bytes(),
            &self.created_ms.to_be_bytes(),
            &xxhash_rust::xxh3::xxh3_128(user.as_str().as_bytes()).to_be_bytes(),
        ]
        .concat();
        NewMessage {
            treatment,
            by: Author::Admin,
            ..NewMessage::new(self.app, self.from.clone(), user.clone(), client_message_id.into(), self.body.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use futures::executor::block_on;
    use protocol::message::{Body, Element, Text, element::Kind};

    use super::*;
    use crate::{
        domain::audience::AudienceChange,
        env::{Clock, SeededRng, SystemClock},
        store::{Faults, Memory, StoreOptions},
    };

    const APP: AppId = 7;
    const NOW_MS: u64 = 1_800_000_000_000;
    const FREE: Quota = Quota { per_day: 0, interval_ms: 0 };

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn store_with(names: &[&str]) -> Store {
        let engine = Arc::new(Memory::new(1, Faults::default()));
        let clock = Arc::new(SystemClock::default());
        let store = Store::new(engine, clock, Arc::new(SeededRng::new(1)), StoreOptions::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let application = applications::NewApplication::new(APP, "a secret of sixteen and more");
        block_on(applications::put_application(&store, &clock, application)).unwrap();
        for name in names {
            let user = user(name);
            let create = async move |tx: &Tx| account::create_account(tx, APP, &user, NOW_MS).await;
            block_on(store.run(Lane::Write, "create", create)).unwrap();
        }
        store
    }

    fn new(random: u32, life_s: u64) -> NewAnnouncement {
        let text = Element { kind: Some(Kind::Text(Text { text: format!("news {random}") })) };
        let body = Body { elements: vec![text], ..Body::default() }.encode_to_vec().into();
        NewAnnouncement { from: user("admin"), random, life_s, condition: Condition::default(), body }
    }

    fn make(store: &Store, new: NewAnnouncement, now_ms: u64) -> Result<Announced, Error> {
        block_on(announce(store, APP, new, FREE, now_ms))
    }

    fn all(store: &Store, now_ms: u64) -> Vec<Announcement> {
        block_on(news(store, HashMap::new(), now_ms)).unwrap().0
    }

    fn due_at(store: &Store, name: &str, now_ms: u64) -> Vec<NewMessage> {
        block_on(due(store, APP, vec![user(name)], all(store, now_ms).into(), now_ms)).unwrap()
    }

    #[test]
    fn msg_14_everybody_is_told_once_within_its_life() {
        let store = store_with(&["admin", "anna"]);
        let task = make(&store, new(5, 60), NOW_MS).unwrap();
        assert_eq!(make(&store, new(5, 60), NOW_MS + 1).unwrap(), task, "the same number is the same announcement");
        make(&store, new(6, 3600), NOW_MS + 1).unwrap();
        let first = due_at(&store, "anna", NOW_MS + 2);
        assert_eq!(first.len(), 2);
        assert_eq!(due_at(&store, "anna", NOW_MS + 2), first, "told again, it is the same message");
        assert_ne!(first[0].client_message_id, first[1].client_message_id);
        assert_eq!(due_at(&store, "anna", NOW_MS + 60_000).len(), 1, "the first is over");
        let position = all(&store, NOW_MS)[1].position;
        let rest = block_on(news(&store, HashMap::from([(APP, position)]), NOW_MS)).unwrap().0;
        assert!(rest.is_empty(), "behind the last one there is nothing");
        block_on(told(&store, APP, vec![user("anna")], position)).unwrap();
        assert_eq!(due_at(&store, "anna", NOW_MS + 2), []);
        assert_eq!(due_at(&store, "nobody", NOW_MS + 2), []);
    }

    #[test]
    fn msg_14_who_came_later_or_does_not_meet_the_condition_is_not_told() {
        let store = store_with(&["admin", "anna", "ben"]);
        block_on(audience::name_attributes(&store, APP, BTreeMap::from([(0, "city".to_owned())]))).unwrap();
        let ulm = BTreeMap::from([("city".to_owned(), "Ulm".to_owned())]);
        block_on(audience::change(&store, APP, vec![(user("ben"), AudienceChange::SetAttributes(ulm.clone()))]))
            .unwrap();
        let condition = Condition { attributes_and: ulm, ..Condition::default() };
        make(&store, NewAnnouncement { condition, ..new(1, 60) }, NOW_MS).unwrap();
        assert_eq!(due_at(&store, "anna", NOW_MS), []);
        assert_eq!(due_at(&store, "ben", NOW_MS).len(), 1);
        make(&store, new(2, 60), NOW_MS - 1).unwrap();
        assert_eq!(due_at(&store, "ben", NOW_MS).len(), 1, "the account is younger than the second one");
    }

    #[test]
    fn msg_14_the_quota_and_the_interval_hold() {
        let store = store_with(&["admin"]);
        let quota = Quota { per_day: 2, interval_ms: 1000 };
        let make = |random, now_ms| block_on(announce(&store, APP, new(random, 0), quota, now_ms)).unwrap();
        assert!(matches!(make(1, NOW_MS), Announced::Task(_)));
        assert_eq!(make(2, NOW_MS + 999), Announced::TooSoon);
        assert!(matches!(make(2, NOW_MS + 1000), Announced::Task(_)));
        assert_eq!(make(3, NOW_MS + 5000), Announced::DayFull);
        assert!(matches!(make(3, NOW_MS + DAY_MS), Announced::Task(_)), "the first is a day old");
    }

    #[test]
    fn msg_14_what_is_over_is_removed_with_its_number() {
        let store = store_with(&["admin"]);
        make(&store, new(1, 60), NOW_MS).unwrap();
        let later_ms = NOW_MS + NUMBER_KEPT_MS;
        block_on(remove_expired(&store, APP, later_ms - 1)).unwrap();
        let is_known = |tx_key: Bytes| block_on(store.begin().unwrap().get(&tx_key)).unwrap().is_some();
        assert!(is_known(keys::announcement_task(APP, 1)) && is_known(keys::announcement_body(APP, 1)));
        make(&store, new(1, 60), later_ms).unwrap();
        block_on(remove_expired(&store, APP, later_ms)).unwrap();
        assert!(is_known(keys::announcement_body(APP, 1)), "the number was used again");
        assert_eq!(all(&store, later_ms).len(), 1);
        block_on(remove_expired(&store, APP, later_ms + NUMBER_KEPT_MS)).unwrap();
        assert!(!is_known(keys::announcement_task(APP, 1)) && !is_known(keys::announcement_body(APP, 1)));
    }

    #[test]
    fn msg_14_empty_bodies_and_too_long_lives_are_refused() {
        let store = store_with(&["admin"]);
        assert_eq!(make(&store, NewAnnouncement { body: Bytes::new(), ..new(1, 0) }, NOW_MS), Err(Error::MessageEmpty));
        assert!(matches!(make(&store, new(1, LIFE_S_MAX + 1), NOW_MS), Err(Error::Argument(_))));
    }
}
