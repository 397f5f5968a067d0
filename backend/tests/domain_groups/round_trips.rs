//! What an act waits for on a store at the other end of a wire: many users in one act take no more round trips than few.
//! Else one act would hold up all others, and on a slow store fail for ever.

use super::*;
use backend::domain::change::{account::Erase, group::ImportedMember};

use super::remote::Remote;

/// As many as one act may name, about.
const MANY: usize = 60;

struct Trips {
    service: Service,
    remote: Remote,
}

impl Trips {
    fn start() -> Self {
        let remote = Remote::new(Memory::new(1, Faults::default()));
        let service = Service::start_over(Arc::new(remote.clone()), StoreOptions::default(), Settings::default());
        Trips { service, remote }
    }

    /// Round trips that an act has waited for.
    fn of(&self, act: impl FnOnce(&Service)) -> usize {
        let before = self.remote.round_trips();
        act(&self.service);
        self.remote.round_trips() - before
    }

    fn accounts(&self, name: &str, count: usize) -> Vec<UserId> {
        let users: Vec<UserId> = (0..count).map(|number| user(&format!("{name} {number}"))).collect();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        block_on(account::import(&self.service.store, &clock, APP, users.clone())).unwrap();
        users
    }
}

#[test]
fn grp_06_many_are_invited_in_as_many_round_trips_as_few() {
    let trips = Trips::start();
    let id = trips.service.group(GroupType::Work, &[]);
    trips.service.send("owner", &id, "hello").unwrap();
    let [few, many] = [("few", 2), ("many", MANY)].map(|(name, count)| {
        let users = trips.accounts(name, count);
        let invite = GroupChange::Invite { group: id.clone(), users, silent: false };
        trips.of(|service| assert!(each(service.change("owner", invite)).iter().all(Result::is_ok)))
    });
    assert_eq!(few, many);
    assert_eq!(trips.service.members(&id).len(), 1 + 2 + MANY);
}

#[test]
fn grp_19_many_members_are_imported_in_as_many_round_trips_as_few() {
    let trips = Trips::start();
    let id = group("imported");
    let GroupChange::Create(new) = create(&id, GroupType::Public) else { unreachable!() };
    let new = NewGroup { imported_ms: Some(1_600_000_000_000), ..*new };
    trips.service.by_admin(GroupChange::Create(Box::new(new))).unwrap();
    let [few, many] = [("few", 2), ("many", MANY)].map(|(name, count)| {
        let member = || ImportedMember { role: None, joined_ms: Some(1_700_000_000_000), unread: 1 };
        let members = trips.accounts(name, count).into_iter().map(|user| (user, member())).collect();
        let import = GroupChange::Import { group: id.clone(), members };
        trips.of(|service| assert!(each(service.by_admin(import)).iter().all(Result::is_ok)))
    });
    assert_eq!(few, many);
}

#[test]
fn acc_03_many_conversations_are_cleared_in_as_many_round_trips_as_few() {
    let trips = Trips::start();
    let [few, many] = [("anna", 2), ("ben", MANY)].map(|(name, count)| {
        for to in trips.accounts(&format!("friend of {name}"), count) {
            let id = Bytes::from(format!("to {to}"));
            trips.service.act(Act::Send(NewMessage::new(APP, user(name), to, id, body("hello")))).unwrap();
        }
        let erase = Change::by_admin(APP, user(name), Kind::Erase(Erase::Account));
        trips.of(|service| assert_eq!(service.act(Act::Change(Box::new(erase))), Ok(Answer::Done)))
    });
    assert_eq!(few, many);
}
