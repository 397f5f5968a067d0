//! Commits that nobody was told of, and nodes that work at the same time: what was stored is told in its order, once or
//! again, and nobody misses or is given what another does in the same moment (GRP-26; invariants 1 to 4).

use backend::domain::act::{Audience, News};
use bytes::BytesMut;
use protocol::{frame::Payload as _, message::Event};

use super::{remote::Remote, *};

const UNHEARD: Faults = Faults { maybe_committed: 1000, maybe_lost: 0, conflict: 0, unavailable: 0 };
const LOST: Faults = Faults { maybe_lost: 1000, maybe_committed: 0, conflict: 0, unavailable: 0 };
const DOUBT: Result<u64, Error> = Err(Error::Store(StoreError::MaybeCommitted));

/// A service whose transactions are run so often, and its engine.
fn service(retry_attempts_max: u32, group_fanout_max: u32) -> (Memory, Remote, Service) {
    let memory = Memory::new(1, Faults::default());
    let remote = Remote::new(memory.clone());
    let options = StoreOptions { retry_attempts_max, ..StoreOptions::default() };
    let settings = Settings { group_fanout_max, ..Settings::default() };
    let service = Service::start_over(Arc::new(remote.clone()), options, settings);
    (memory, remote, service)
}

/// A group of the type with two members more, whose messages everybody is told.
fn group_of(service: &Service, kind: GroupType) -> GroupId {
    let group = service.group(kind, &["anna", "ben"]);
    service.told();
    group
}

impl Service {
    /// Texts of messages that a group was told since the last time.
    fn told(&self) -> Vec<(String, String)> {
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        let text = |notice: Notice| {
            let Audience::Group(group) = notice.to else { return None };
            let said = match notice.what {
                News::Event(_, event) => match Event::decode(event.to_stored()).unwrap().what? {
                    What::Message(message) => said(&message),
                    _ => return None,
                },
                News::Push(push) => {
                    let mut payload = BytesMut::new();
                    push.put(&mut payload);
                    let text = String::from_utf8_lossy(&payload);
                    text.contains("text ").then(|| text[text.find("text ").unwrap()..][..6].to_owned())?
                }
                _ => return None,
            };
            Some((group.to_string(), said))
        };
        told.into_iter().filter_map(text).collect()
    }
}

fn said_in(group: &GroupId, texts: &[&str]) -> Vec<(String, String)> {
    texts.iter().map(|text| (group.to_string(), (*text).to_owned())).collect()
}

const CASES: [(GroupType, u32); 3] = [(GroupType::Public, 200), (GroupType::Public, 0), (GroupType::Avchatroom, 200)];

#[test]
fn grp_26_what_an_unheard_commit_has_stored_in_a_group_is_answered_and_told_by_the_next_run() {
    for (kind, fanout_max) in CASES {
        let (memory, _, service) = service(20, fanout_max);
        let group = group_of(&service, kind);
        memory.set_faults(UNHEARD);
        let first = service.send("owner", &group, "text 1").unwrap();
        memory.set_faults(Faults::default());
        assert_eq!(service.told(), said_in(&group, &["text 1"]), "{kind:?}, {fanout_max}");
        assert_eq!(service.send("owner", &group, "text 2"), Ok(first + 1));
    }
}

/// The first message of a Work group has its members know of it (GRP-13): sessions receive from then on.
#[test]
fn grp_13_members_receive_from_a_group_whose_first_message_was_stored_unheard() {
    for (retries, fanout_max) in [(20, 200), (20, 0), (0, 200), (0, 0)] {
        let (memory, _, service) = service(retries, fanout_max);
        let group = group_of(&service, GroupType::Work);
        let other = super::group("another");
        service.change("owner", create(&other, GroupType::Public)).unwrap();
        memory.set_faults(UNHEARD);
        let first = service.send("owner", &group, "text 1");
        assert_eq!(first.is_ok(), retries > 0);
        memory.set_faults(Faults::default());
        service.send("owner", &other, "text 2").unwrap();
        let told = std::mem::take(&mut *service.told.lock().unwrap());
        for name in ["anna", "ben"] {
            let is_told = |notice: &Notice| {
                notice.to == Audience::User(user(name)) && matches!(notice.what, News::Entered(_) | News::Behind)
            };
            assert!(told.iter().any(is_told), "{name}, {retries}, {fanout_max}: {told:?}");
        }
    }
}

#[test]
fn grp_26_what_was_given_up_but_stored_in_a_group_is_told_before_anything_later() {
    for (kind, fanout_max) in CASES {
        let (memory, _, service) = service(0, fanout_max);
        let group = group_of(&service, kind);
        memory.set_faults(UNHEARD);
        assert_eq!(service.send("owner", &group, "text 1"), DOUBT);
        memory.set_faults(Faults::default());
        let repeat = |new: &mut NewMessage| new.client_message_id = Bytes::from_static(b"id 1");
        service.send("owner", &group, "text 2").unwrap();
        let told = service.told();
        assert_eq!(told[..2], said_in(&group, &["text 1", "text 2"]), "{kind:?}, {fanout_max}");
        // The sender's own repeat finds it.
        let seq = service.send_with("owner", &group, "text 1", repeat).unwrap();
        assert_eq!(service.send("owner", &group, "text 3"), Ok(seq + 2), "{kind:?}, {fanout_max}");
    }
}

#[test]
fn grp_26_what_was_lost_on_its_way_to_a_group_is_stored_by_the_next_try_and_cannot_arrive_later() {
    for (kind, fanout_max) in CASES {
        let (memory, remote, service) = service(0, fanout_max);
        let group = group_of(&service, kind);
        memory.set_faults(LOST);
        assert_eq!(service.send("owner", &group, "text 1"), DOUBT);
        memory.set_faults(Faults::default());
        let other = super::group("another");
        service.change("owner", create(&other, GroupType::Public)).unwrap();
        assert_eq!(service.told(), [], "{kind:?}, {fanout_max}");
        remote.detain_commits();
        assert_eq!(service.send("owner", &group, "text 2"), DOUBT);
        remote.pass_commits();
        service.send("owner", &other, "text 3").unwrap();
        assert_eq!(remote.deliver_detained(), [Err(StoreError::Conflict)], "{kind:?}, {fanout_max}");
        assert_eq!(service.told(), said_in(&other, &["text 3"]));
        service.send("owner", &group, "text 4").unwrap();
        assert_eq!(service.told(), said_in(&group, &["text 4"]));
    }
}

/// Carries out a change on one node while another has its commit on the way; what becomes of the commit.
fn overtake(
    remote: &Remote,
    on_its_way: impl FnOnce() -> Result<Answer, Error>,
    overtakes: impl FnOnce(),
) -> Result<(), StoreError> {
    remote.detain_commits();
    assert_eq!(on_its_way().map(|_| 0), DOUBT);
    overtakes();
    // Before anything else of its node can reach the engine, which would bar it.
    let outcome = remote.deliver_detained().remove(0).map(|_| ());
    remote.pass_commits();
    outcome
}

/// Another node changes a message while somebody leaves the group: if he is still in, he is told.
#[test]
fn grp_26_nobody_misses_what_happens_in_the_moment_of_his_leaving() {
    for (fanout_max, late) in [(0, false), (0, true), (200, false), (200, true)] {
        let (memory, remote, here) = service(0, fanout_max);
        let group = group_of(&here, GroupType::Meeting);
        let seq = here.send("owner", &group, "text 1").unwrap();
        // Not dropped: its end would be that of the engine.
        let there = std::mem::ManuallyDrop::new(Service::over(Arc::new(memory), StoreOptions::default()));
        let leave = GroupChange::Leave { group: group.clone() };
        let recall = || {
            let kind = Kind::Recall { peer: group.clone().into(), seq, reason: String::new() };
            there.conversation("owner", kind).unwrap();
        };
        let left = overtake(
            &remote,
            || here.change("anna", leave.clone()),
            || {
                if late {
                    recall();
                }
            },
        );
        // Of a small group he has it in his own log.
        let is_large = fanout_max == 0;
        assert_eq!(left, if late && is_large { Err(StoreError::Conflict) } else { Ok(()) }, "{fanout_max}");
        if left.is_err() {
            here.change("anna", leave).unwrap();
        }
        if !late {
            recall();
        }
        let told = here.log("anna").into_iter().filter(|what| matches!(what, What::Changed(_))).count();
        assert_eq!(told, usize::from(late), "{fanout_max}");
    }
}

/// What stands in a large group's log is nobody's before he came.
#[test]
fn grp_11_nobody_is_given_what_happens_in_the_moment_before_his_coming() {
    let (memory, remote, here) = service(0, 0);
    let group = group_of(&here, GroupType::Meeting);
    let seq = here.send("owner", &group, "text 1").unwrap();
    // Not dropped: its end would be that of the engine.
    let there = std::mem::ManuallyDrop::new(Service::over(Arc::new(memory), StoreOptions::default()));
    let join = GroupChange::Join { group: group.clone(), wording: String::new() };
    let pin = || {
        let pin = Kind::Pin { peer: group.clone().into(), seq, unpin: false };
        there.conversation("owner", pin).unwrap();
    };
    let joined = overtake(&remote, || here.change("eve", join.clone()), pin);
    assert_eq!(joined, Err(StoreError::Conflict));
    here.change("eve", join).unwrap();
    let pins = |name| here.log(name).into_iter().filter(|what| matches!(what, What::Pin(_))).count();
    assert_eq!((pins("eve"), pins("anna")), (0, 1));
}

/// What comes together may share a transaction, whose changes have one version: its acts happen one after the other.
#[test]
fn grp_11_grp_26_who_comes_and_goes_in_one_batch_with_what_is_told_has_a_place_among_it() {
    for fanout_max in [0, 200] {
        let (_, _, service) = service(20, fanout_max);
        let group = group_of(&service, GroupType::Meeting);
        let seq = service.send("owner", &group, "text 1").unwrap();
        let pin = |unpin| {
            Act::Change(Box::new(Change::new(APP, user("owner"), Kind::Pin { peer: group.clone().into(), seq, unpin })))
        };
        let by =
            |name: &str, change| Act::Change(Box::new(Change::new(APP, user(name), Kind::Group(Box::new(change)))));
        let leave = by("anna", GroupChange::Leave { group: group.clone() });
        let join = by("eve", GroupChange::Join { group: group.clone(), wording: String::new() });
        let answers = service.act_together(vec![pin(false), leave, join, pin(true)]);
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        let pins = |name: &str| -> Vec<bool> {
            let pins = service.log(name).into_iter().filter_map(|what| match what {
                What::Pin(pin) => Some(!pin.unpinned),
                _ => None,
            });
            pins.collect()
        };
        assert_eq!((pins("anna"), pins("eve"), pins("ben")), (vec![true], vec![false], vec![true, false]));
    }
}

/// Counted in what is read: a message to a large group costs the same whatever the group's size.
#[test]
fn grp_26_a_send_to_a_large_group_reads_no_members() {
    let (_, remote, service) = service(0, 3);
    let group = group_of(&service, GroupType::Meeting);
    service.send("owner", &group, "text 0").unwrap(); // may be the first of an hour
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let crowd: Vec<String> = (0..60).map(|n| format!("u{n}")).collect();
    let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    block_on(account::import(&service.store, &clock, APP, users(&crowd))).unwrap();
    let invite = GroupChange::Invite { group: group.clone(), users: users(&crowd), silent: false };
    assert!(each(service.by_admin(invite)).iter().all(Result::is_ok));
    let mut reads = Vec::new();
    for text in ["text 1", "text 2", "text 3"] {
        let before = remote.rows_read();
        service.send("owner", &group, text).unwrap();
        reads.push(remote.rows_read() - before);
    }
    // An hour may have passed between two of them.
    assert!(reads.iter().filter(|rows| **rows <= 5).count() >= 2, "{reads:?}");
}
