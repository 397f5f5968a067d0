//! Random members come and go, are imported, speak, take back what they have said, and have their accounts deleted,
//! while groups grow large, are changed, given to others, end and are made again with the same id, as another type
//! maybe, and commits conflict, get lost and end with unknown outcome. In the end all
//! records agree with the answers and with each other, sessions receive from the groups that they are told of, and
//! everybody's devices have been given what was said while they were members and wanted to hear it: that, once, in its
//! order, and nothing else; of a group that has ended they keep nothing. One device of each follows its log in small
//! pages as it goes on, another reads it all in the end. `GROUPS_SEED=n` replays one history, `GROUPS_HISTORIES=n` runs
//! that many.

use std::collections::{BTreeMap, BTreeSet};

use backend::{
    domain::{
        act::Author,
        change::{account::Erase, group::ImportedMember},
        sync::{self, From, PageLimit},
    },
    env::Rng,
    store::Versionstamp,
};

use super::{remote::Remote, *};

const STEPS: usize = 400;
const HISTORIES_DEFAULT: u64 = 40;
const PEOPLE: u64 = 30;

#[test]
fn members_their_groups_counts_and_logs_agree_in_seeded_histories() {
    let from_environment = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(seed) = from_environment("GROUPS_SEED") {
        return History::run(seed);
    }
    for seed in 0..from_environment("GROUPS_HISTORIES").unwrap_or(HISTORIES_DEFAULT) {
        let replay = Replay(seed);
        History::run(seed);
        std::mem::forget(replay);
    }
}

/// Says how to replay, if the history panics.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        eprintln!("replay with: GROUPS_SEED={} cargo test -p backend --test domain_groups_members seeded", self.0);
    }
}

struct History {
    service: Service,
    rng: SeededRng,
    groups: Vec<GroupId>,
    /// Of what type they are; without one there is none of the id now.
    kinds: BTreeMap<GroupId, GroupType>,
    /// Who is what in which group, as far as answers say.
    roles: BTreeMap<(String, String), GroupRole>,
    /// Whose sessions receive from which group.
    receiving: BTreeSet<(String, String)>,
    /// What was said, for whom to hear, by group and sequence.
    heard: BTreeMap<String, Vec<(String, u64)>>,
    /// One device of each user.
    devices: BTreeMap<String, Device>,
    /// Whose accounts were deleted.
    gone: BTreeSet<String>,
    /// Who has said what.
    said: Vec<(GroupId, String, u64)>,
}

/// What a device has been given.
struct Device {
    cursor: Versionstamp,
    messages: Vec<(String, u64)>,
}

impl Default for Device {
    fn default() -> Self {
        Device { cursor: Versionstamp::ZERO, messages: Vec::new() }
    }
}

impl Device {
    /// Reads a page of its user's log. Whether there is more.
    fn sync(&mut self, service: &Service, name: &str, entries_max: usize) -> bool {
        let limit = PageLimit { entries_max, bytes_max: 1 << 20 };
        let from = From::Cursor(self.cursor, Bytes::new());
        let page = block_on(sync::events(&service.store, APP, &user(name), from, limit)).unwrap();
        assert!(!page.start_over);
        for event in page.events {
            match event.what {
                What::Message(message) if !message.from.is_empty() => self.messages.push((message.group, message.seq)),
                // Nothing is left of the group: so the device drops it.
                What::GroupLeft(left) if left.last_seq == 0 => self.messages.retain(|(group, _)| *group != left.group),
                _ => {}
            }
        }
        self.cursor = page.cursor;
        page.more
    }
}

impl History {
    fn run(seed: u64) {
        let settings = Settings { group_fanout_max: 8, groups_joined_max: 3, ..Settings::default() };
        // Every other one on an engine at the other end of a wire.
        let engine_on = |memory: &Memory| -> Arc<dyn Engine> {
            if seed.is_multiple_of(2) { Arc::new(memory.clone()) } else { Arc::new(Remote::new(memory.clone())) }
        };
        let service = Service::over(seed, engine_on, settings);
        let people = (0..PEOPLE).map(|n| user(&format!("u{n:02}"))).collect();
        block_on(account::import(&service.store, &service.clock, APP, people)).unwrap();
        let rng = SeededRng::new(seed);
        let mut history = History {
            service,
            rng,
            groups: vec![],
            kinds: BTreeMap::new(),
            roles: BTreeMap::new(),
            receiving: BTreeSet::new(),
            heard: BTreeMap::new(),
            devices: BTreeMap::new(),
            gone: BTreeSet::new(),
            said: Vec::new(),
        };
        for (kind, n) in TYPES.into_iter().zip(0..) {
            let info = GroupUpdate { member_max: Some(15), ..new_group(kind).info };
            let owner = format!("u{n:02}");
            let new = NewGroup { owner: Some(user(&owner)), members: vec![], info, ..new_group(kind) };
            let group = history.service.create(new);
            history.roles.insert((group.to_string(), owner.clone()), GroupRole::Owner);
            history.kinds.insert(group.clone(), kind);
            if kind != GroupType::Avchatroom {
                history.receiving.insert((group.to_string(), owner));
            }
            history.groups.push(group);
        }
        history.service.engine.set_faults(Faults { conflict: 80, maybe_committed: 60, maybe_lost: 60, unavailable: 0 });
        for _ in 0..STEPS {
            history.step();
        }
        history.service.engine.set_faults(Faults::default());
        history.compare();
    }

    fn step(&mut self) {
        match self.below(60) {
            0 => self.erase(),
            1..=4 => self.recall(),
            5..=8 => self.import(),
            9..=24 => self.speak(),
            25..=42 => {
                let (name, entries_max) = (self.person(), 1 + self.below(5) as usize);
                if !self.gone.contains(&name) {
                    self.devices.entry(name.clone()).or_default().sync(&self.service, &name, entries_max);
                }
            }
            _ => self.change(),
        }
    }

    /// Somebody says something in a group, if he may.
    fn speak(&mut self) {
        let group = self.group();
        let members = self.roles.keys().filter(|(of, _)| *of == group.to_string());
        let members: Vec<String> = members.map(|(_, name)| name.clone()).collect();
        let speaker = match members.len() as u64 {
            0 => self.person(),
            count => members[self.below(count) as usize].clone(),
        };
        let answer = self.service.act(Act::Send(self.service.message(&group, &speaker)));
        self.follow();
        let Ok(Answer::Sent { seq, .. }) = answer else { return };
        if self.is_room(&group) {
            return; // nothing of it is kept
        }
        let mut hears: BTreeSet<String> = receiving(&self.service.records())
            .filter(|(of, _)| *of == group.to_string())
            .map(|(_, name)| name)
            .collect();
        hears.insert(speaker.clone());
        self.said.push((group.clone(), speaker, seq));
        for name in hears {
            self.heard.entry(name).or_default().push((group.to_string(), seq));
        }
    }

    /// An account is deleted, and goes out of all groups.
    fn erase(&mut self) {
        let name = self.person();
        let kind = Kind::Erase(Erase::Account);
        let answer = self.service.act(Act::Change(Box::new(Change::by_admin(APP, user(&name), kind))));
        self.follow();
        match self.gone.insert(name.clone()) {
            true => assert_eq!(answer, Ok(Answer::Done)),
            false => assert_eq!(answer, Err(Error::UserInvalid)),
        }
        assert!(self.receiving.iter().all(|(_, user)| *user != name), "live rooms keep nobody");
        self.roles.retain(|(_, user), _| *user != name);
    }

    /// A message is taken back by whoever has said it, or by an administrator.
    fn recall(&mut self) {
        if self.said.is_empty() {
            return;
        }
        let (group, name, seq) = self.said[self.below(self.said.len() as u64) as usize].clone();
        let kind = Kind::Recall { peer: group.into(), seq, reason: String::new() };
        let change = match self.below(2) {
            0 => Change::new(APP, user(&name), kind),
            _ => Change::by_admin(APP, user("administrator"), kind),
        };
        let _ = self.service.act(Act::Change(Box::new(change)));
        self.follow();
    }

    /// Messages and members of before: nobody is told.
    fn import(&mut self) {
        self.service.imports.set(true);
        let (group, name) = (self.group(), self.person());
        let keeps_history = self.kinds.contains_key(&group) && !self.is_room(&group);
        if self.below(2) == 0 {
            let mut new = self.service.message(&group, &name);
            (new.by, new.treatment.unannounced) = (Author::Admin, true);
            let answer = self.service.act(Act::Send(new));
            self.follow();
            assert_eq!(answer.is_ok(), keeps_history && !self.gone.contains(&name), "{answer:?}");
            return;
        }
        let members = vec![(user(&name), ImportedMember::default())];
        let import = GroupChange::Import { group: group.clone(), members };
        let outcome = self.service.ask("app", import.clone());
        self.follow();
        if let Ok(answer) = outcome {
            self.apply(&group, "app", import, answer);
        }
    }

    fn change(&mut self) {
        let group = self.group();
        if !self.kinds.contains_key(&group) && self.below(2) == 0 {
            return self.make_again(group);
        }
        let actor = if self.below(2) == 0 { "app".to_owned() } else { self.person() };
        let some: Vec<String> = (0..=self.below(4)).map(|_| self.person()).collect();
        let some: Vec<&str> = some.iter().map(String::as_str).collect();
        let change = match self.below(15) {
            0 | 1 => join(&group),
            2 => leave(&group),
            3..=5 => invite(&group, &some),
            6 => remove(&group, &some),
            7 => ban(&group, &some, self.below(2) as u32 * 1_000),
            8 => mute(&group, &some, self.below(2) as u32 * 1_000),
            9 => answer(&group, some[0], self.below(3) > 0),
            10 => member(&group, some[0], as_admin(self.below(2) == 0)),
            11 => GroupChange::Transfer { group: group.clone(), to: user(some[0]) },
            12 => GroupChange::Update { group: group.clone(), update: Box::new(self.update()) },
            // Not so often that no group grows old.
            13 if self.below(3) == 0 => GroupChange::Dissolve { group: group.clone() },
            _ => {
                let option = ReceiveOption::try_from(self.below(3) as i32).unwrap();
                let _ = self.service.act(super::receive(&group, some[0], option));
                return self.follow();
            }
        };
        let asked = super::asked(&actor, change.clone());
        let outcome = self.service.act(Act::Change(Box::new(asked)));
        self.follow();
        if let Ok(answer) = outcome {
            self.apply(&group, &actor, change, answer);
        }
    }

    /// A group that has ended is made again: what was said in the earlier one is no concern of the new one's.
    fn make_again(&mut self, group: GroupId) {
        let kind = TYPES[self.below(4) as usize];
        let (owner, count) = (self.person(), if kind == GroupType::Avchatroom { 0 } else { self.below(4) });
        let members: Vec<String> = (0..count).map(|_| self.person()).collect();
        let new = NewGroup {
            group: Some(group.clone()),
            owner: Some(user(&owner)),
            info: GroupUpdate { member_max: Some(15), ..new_group(kind).info },
            members: members.iter().map(|name| (user(name), MemberUpdate::default())).collect(),
            ..new_group(kind)
        };
        let outcome = self.service.ask("app", GroupChange::Create(Box::new(new)));
        self.follow();
        if outcome.is_ok() {
            for (name, role) in
                members.into_iter().map(|name| (name, GroupRole::Member)).chain([(owner, GroupRole::Owner)])
            {
                self.roles.insert((group.to_string(), name), role);
            }
            self.kinds.insert(group, kind);
        }
    }

    /// Something about a group that is not who is in it.
    fn update(&self) -> GroupUpdate {
        match self.below(4) {
            0 => GroupUpdate { name: Some(format!("group {}", self.below(100))), ..GroupUpdate::default() },
            1 => GroupUpdate { muted_all: Some(self.below(2) == 0), ..GroupUpdate::default() },
            2 => GroupUpdate { member_max: Some(10 + self.below(10) as u32), ..GroupUpdate::default() },
            _ => GroupUpdate { searchable: Some(self.below(2) == 0), ..GroupUpdate::default() },
        }
    }

    /// A group has ended: it lets everybody go, and each drops what he has heard there.
    fn ended(&mut self, group: &GroupId) {
        let is_room = self.is_room(group);
        let (ended, others): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.roles).into_iter().partition(|((of, _), _)| *of == group.to_string());
        self.roles = others;
        self.kinds.remove(group);
        for (_, name) in ended.into_keys().filter(|_| !is_room) {
            self.heard.entry(name).or_default().retain(|(of, _)| *of != group.to_string());
        }
    }

    /// What an answer says.
    fn apply(&mut self, group: &GroupId, actor: &str, change: GroupChange, answer: Answer) {
        let is_room = self.is_room(group);
        if matches!(change, GroupChange::Dissolve { .. }) {
            return self.ended(group);
        }
        let is_owner =
            |((of, _), role): &(&(String, String), &GroupRole)| *of == group.to_string() && **role == GroupRole::Owner;
        let owner = self.roles.iter().find(is_owner).map(|((_, name), _)| name.clone());
        let mut put = |name: &str, role: GroupRole| {
            let key = (group.to_string(), name.to_owned());
            match role {
                GroupRole::None => drop(self.roles.remove(&key)),
                GroupRole::Member => drop(self.roles.entry(key).or_insert(role)),
                role => drop(self.roles.insert(key, role)),
            }
        };
        match (change, answer) {
            (GroupChange::Join { .. }, JOINED_NOW) if !is_room => put(actor, GroupRole::Member),
            (GroupChange::Leave { .. }, _) if !is_room => put(actor, GroupRole::None),
            (GroupChange::Invite { .. } | GroupChange::Import { .. }, Answer::GroupUsers(users)) => {
                users
                    .iter()
                    .filter(|(_, done)| done.is_ok())
                    .for_each(|(user, _)| put(user.as_str(), GroupRole::Member));
            }
            (GroupChange::Remove { .. } | GroupChange::Ban { seconds: 1.., .. }, Answer::GroupUsers(users)) => {
                users.iter().filter(|(_, done)| done.is_ok()).for_each(|(user, _)| put(user.as_str(), GroupRole::None));
            }
            (GroupChange::Transfer { to, .. }, _) => {
                if let Some(owner) = owner {
                    put(&owner, GroupRole::None);
                    if !is_room {
                        put(&owner, GroupRole::Member);
                    }
                }
                put(to.as_str(), GroupRole::Owner);
            }
            (GroupChange::Answer { applicant, agree: true, .. }, _) => put(applicant.as_str(), GroupRole::Member),
            (GroupChange::Member { member, update, .. }, _) => match update.role {
                Some(GroupRole::Admin) => put(member.as_str(), GroupRole::Admin),
                Some(_) => {
                    put(member.as_str(), GroupRole::None);
                    if !is_room {
                        put(member.as_str(), GroupRole::Member);
                    }
                }
                None => {}
            },
            _ => {}
        }
    }

    /// Sessions follow what they are told.
    fn follow(&mut self) {
        let told = std::mem::take(&mut *self.service.told.lock().unwrap());
        for (to, news) in told {
            match (to, news) {
                (Audience::User(user), News::Entered(group)) => {
                    self.receiving.insert((group.to_string(), user.to_string()));
                }
                (Audience::User(user), News::Left(group)) => {
                    self.receiving.remove(&(group.to_string(), user.to_string()));
                }
                // They read the log, and which groups there are.
                (to, News::Behind) => {
                    let who: BTreeSet<String> = match to {
                        Audience::User(user) => [user.to_string()].into(),
                        Audience::Group(group) => self.receiving_from(&group).collect(),
                    };
                    self.receiving.retain(|(_, user)| !who.contains(user));
                    self.receiving.extend(receiving(&self.service.records()).filter(|(_, user)| who.contains(user)));
                }
                _ => {}
            }
        }
    }

    fn receiving_from(&self, group: &GroupId) -> impl Iterator<Item = String> {
        self.receiving.iter().filter(|(of, _)| *of == group.to_string()).map(|(_, user)| user.clone())
    }

    fn compare(&mut self) {
        let records = self.service.records();
        records.check_with_imports();
        let role =
            |(key, row): (&(String, String), &records::Member)| (key.clone(), GroupRole::try_from(row.role).unwrap());
        let roles = records.members.iter().map(role).filter(|(_, role)| *role != GroupRole::None);
        let roles: BTreeMap<_, _> = roles.collect();
        assert_eq!(roles, self.roles, "who is what");
        assert_eq!(self.receiving, receiving(&records).collect(), "whose sessions receive");
        let people = (0..PEOPLE).map(|n| format!("u{n:02}"));
        for name in people.filter(|name| !self.gone.contains(name)).collect::<Vec<_>>() {
            let expected = self.heard.remove(&name).unwrap_or_default();
            let (mut old, mut new) = (self.devices.remove(&name).unwrap_or_default(), Device::default());
            for (device, entries_max) in [(&mut old, 3), (&mut new, 1_000)] {
                while device.sync(&self.service, &name, entries_max) {}
                assert_eq!(device.messages, expected, "what {name} was given");
            }
        }
    }

    fn below(&self, limit: u64) -> u64 {
        self.rng.next_u64() % limit
    }

    fn group(&self) -> GroupId {
        self.groups[self.below(self.groups.len() as u64) as usize].clone()
    }

    fn is_room(&self, group: &GroupId) -> bool {
        self.kinds.get(group) == Some(&GroupType::Avchatroom)
    }

    fn person(&self) -> String {
        format!("u{:02}", self.below(PEOPLE))
    }
}

const JOINED_NOW: Answer = Answer::GroupJoined { applied: false };

/// Whose sessions are to receive from which group.
fn receiving(records: &Records) -> impl Iterator<Item = (String, String)> {
    records.joined.iter().filter(|(_, joined)| joined.is_active && !joined.deaf).map(|(key, _)| key.clone())
}
