//! What the store holds of members, read as it is, and compared with itself.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use backend::store::{Lane, RangeQuery, ReadMode, StoreError, Tx};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Group {
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
    #[prost(string, tag = "6")]
    pub(super) owner: String,
    #[prost(uint32, tag = "8")]
    pub(super) member_count: u32,
    #[prost(bool, tag = "15")]
    pub(super) is_large: bool,
    #[prost(bool, tag = "16")]
    pub(super) is_active: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Member {
    #[prost(int32, tag = "1")]
    pub(super) role: i32,
    #[prost(string, tag = "3")]
    pub(super) name_card: String,
    #[prost(btree_map = "string, bytes", tag = "4")]
    pub(super) custom: BTreeMap<String, Bytes>,
    #[prost(uint64, tag = "5")]
    pub(super) muted_until_ms: u64,
    #[prost(uint64, tag = "7")]
    pub(super) first_seq: u64,
    #[prost(bool, tag = "9")]
    pub(super) deaf: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Joined {
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
    #[prost(int32, tag = "2")]
    pub(super) role: i32,
    #[prost(bool, tag = "3")]
    pub(super) is_large: bool,
    #[prost(uint64, tag = "4")]
    pub(super) from_version: u64,
    #[prost(bool, tag = "5")]
    pub(super) deaf: bool,
    #[prost(bool, tag = "6")]
    pub(super) is_active: bool,
    #[prost(uint64, tag = "7")]
    pub(super) first_seq: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Span {
    #[prost(uint64, tag = "1")]
    pub(super) first_seq: u64,
    #[prost(uint64, tag = "2")]
    pub(super) last_seq: u64,
    #[prost(bool, tag = "3")]
    pub(super) is_large: bool,
    #[prost(uint64, tag = "4")]
    pub(super) from_version: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Former {
    #[prost(message, repeated, tag = "1")]
    pub(super) spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Counts {
    #[prost(uint32, tag = "1")]
    joined: u32,
    #[prost(uint32, tag = "2")]
    owned: u32,
}

/// An entry of an event log, of which what is in it alone matters.
#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    message: Option<Target>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    stored: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Target {
    #[prost(uint64, tag = "2")]
    seq: u64,
}

/// What stands in a user's log of a group.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Logged {
    Entered(GroupEntered),
    Left(GroupLeft),
}

#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) members: BTreeMap<(String, String), Member>,
    pub(super) joined: BTreeMap<(String, String), Joined>,
    pub(super) former: BTreeMap<(String, String), Former>,
    pub(super) counts: BTreeMap<String, Counts>,
    pub(super) applications: BTreeSet<(String, String)>,
    pub(super) bans: BTreeSet<(String, String)>,
    /// By user.
    pub(super) logs: BTreeMap<String, Vec<Logged>>,
}

/// Groups that any test makes.
fn all_groups(records: &Records) -> Vec<GroupId> {
    records.groups.keys().map(|name| id(name)).collect()
}

impl Records {
    pub(super) fn read(store: &Store) -> Self {
        let read = async |tx: &Tx| -> Result<Records, StoreError> {
            let mut records = Records::default();
            for (key, value) in rows(tx, keys::groups(APP)).await? {
                let group = keys::group_of(&key).unwrap();
                records.groups.insert(group.to_string(), Group::decode(value).unwrap());
            }
            for group in all_groups(&records) {
                for (key, value) in rows(tx, keys::members(APP, &group)).await? {
                    records.members.insert(keys::two_names(&key).unwrap(), Member::decode(value).unwrap());
                }
                let names = |rows: Vec<(Bytes, Bytes)>| rows.into_iter().map(|(key, _)| keys::two_names(&key).unwrap());
                records.applications.extend(names(rows(tx, keys::group_applications(APP, &group)).await?));
                records.bans.extend(names(rows(tx, keys::group_bans(APP, &group)).await?));
            }
            for name in USERS.iter().map(ToString::to_string).chain((0..30).map(|n| format!("u{n:02}"))) {
                records.read_user(tx, &user(&name)).await?;
            }
            Ok(records)
        };
        block_on(store.run(Lane::Read, "records", read)).unwrap().0
    }

    async fn read_user(&mut self, tx: &Tx, user: &UserId) -> Result<(), StoreError> {
        let name = user.to_string();
        for (key, value) in rows(tx, keys::joined_groups(APP, user)).await? {
            let (user, group) = keys::two_names(&key).unwrap();
            self.joined.insert((group, user), Joined::decode(value).unwrap());
        }
        for (key, value) in rows(tx, keys::former_groups(APP, user)).await? {
            let (user, group) = keys::two_names(&key).unwrap();
            self.former.insert((group, user), Former::decode(value).unwrap());
        }
        if let Some(counts) = tx.snapshot_get(&keys::groups_of_user(APP, user)).await? {
            self.counts.insert(name.clone(), Counts::decode(counts).unwrap());
        }
        let log = rows(tx, keys::events_after(APP, user, backend::store::Versionstamp::ZERO)).await?;
        let entries = log.into_iter().filter_map(|(_, entry)| {
            let stored = Entry::decode(entry).unwrap().stored?;
            match Event::decode(stored).unwrap().what? {
                What::GroupEntered(entered) => Some(Logged::Entered(entered)),
                What::GroupLeft(left) => Some(Logged::Left(left)),
                _ => None,
            }
        });
        self.logs.insert(name, entries.collect());
        Ok(())
    }

    pub(super) fn role(&self, group: &GroupId, name: &str) -> GroupRole {
        self.member(group, name).map_or(GroupRole::None, |member| GroupRole::try_from(member.role).unwrap())
    }

    pub(super) fn member(&self, group: &GroupId, name: &str) -> Option<&Member> {
        self.members.get(&(group.to_string(), name.to_owned()))
    }

    pub(super) fn joined(&self, group: &GroupId, name: &str) -> Option<&Joined> {
        self.joined.get(&(group.to_string(), name.to_owned()))
    }

    pub(super) fn spans(&self, group: &GroupId, name: &str) -> Vec<(u64, u64)> {
        let former = self.former.get(&(group.to_string(), name.to_owned()));
        former
            .iter()
            .flat_map(|former| &former.spans)
            .map(|span| (span.first_seq, span.last_seq))
            .filter(|(first, last)| first <= last)
            .collect()
    }

    pub(super) fn of_group(&self, group: &GroupId) -> &Group {
        &self.groups[group.as_str()]
    }

    fn is_room(&self, group: &str) -> bool {
        self.groups[group].kind == i32::from(GroupType::Avchatroom)
    }

    /// Members are the same in the groups' records, the users', the counts, and the logs. Live rooms keep only who leads
    /// them, and users do not count those.
    pub(super) fn check(&self) {
        self.check_numbers();
        self.logs.keys().for_each(|name| self.check_log(name, false));
    }

    /// The same where some were imported, of which they were not told.
    pub(super) fn check_with_imports(&self) {
        self.check_numbers();
        self.logs.keys().for_each(|name| self.check_log(name, true));
    }

    fn check_numbers(&self) {
        let rows = self.members.iter().filter(|(_, row)| row.role != i32::from(GroupRole::None));
        let rows: BTreeMap<_, _> = rows.collect();
        let kept: BTreeSet<_> = rows.keys().copied().filter(|(group, _)| !self.is_room(group)).collect();
        assert_eq!(kept, self.joined.keys().collect(), "members, and groups of users");
        for (key, joined) in &self.joined {
            let (member, group) = (&self.members[key], &self.groups[&key.0]);
            let is_large = group.is_large;
            assert_eq!((joined.role, joined.deaf, joined.is_large), (member.role, member.deaf, is_large), "{key:?}");
            assert_eq!((joined.kind, joined.first_seq), (group.kind, member.first_seq));
        }
        for ((group, user), row) in &rows {
            let is_owner = self.groups[group].owner == *user;
            assert_eq!(is_owner, row.role == i32::from(GroupRole::Owner), "{group}, {user}");
        }
        for (name, group) in &self.groups {
            let count = rows.keys().filter(|(group, _)| group == name).count();
            assert_eq!(group.member_count as usize, count, "members of {name}");
        }
        for name in self.logs.keys() {
            let counts = self.counts.get(name).cloned().unwrap_or_default();
            // Who knows nothing of a group does not count it (GRP-13).
            let joined = self.joined.iter().filter(|((_, user), joined)| user == name && joined.is_active).count();
            let owned = self.groups.values().filter(|group| group.owner == *name).count();
            assert_eq!((counts.joined as usize, counts.owned as usize), (joined, owned), "groups of {name}");
        }
    }

    /// A user's log says in the end which groups the user knows to be in, and since when.
    fn check_log(&self, name: &str, imports: bool) {
        let mut known = BTreeMap::new();
        for logged in &self.logs[name] {
            match logged {
                Logged::Entered(entered) => _ = known.insert(entered.group.clone(), entered.first_seq),
                Logged::Left(left) => _ = known.remove(&left.group),
            }
        }
        let active = self.joined.iter().filter(|((_, user), joined)| user == name && joined.is_active);
        let expected: BTreeMap<_, _> = active.map(|((group, _), joined)| (group.clone(), joined.first_seq)).collect();
        match imports {
            false => assert_eq!(known, expected, "log of {name}"),
            true => assert!(known.iter().all(|(group, first)| expected.get(group) == Some(first)), "log of {name}"),
        }
    }
}

async fn rows(tx: &Tx, (mut begin, end): (Bytes, Bytes)) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    let mut all = Vec::new();
    loop {
        let query = RangeQuery { begin, end: end.clone(), limit: 1_000, reverse: false, mode: ReadMode::Snapshot };
        let page = tx.range(query).await?;
        all.extend(page.pairs);
        match all.last() {
            Some((last, _)) if page.more => begin = [&last[..], &[0]].concat().into(),
            _ => return Ok(all),
        }
    }
}
