//! Accounts that are deleted: their groups let them go and forget them (ACC-03).

use super::*;
use backend::{
    domain::{change::account::Erase, keys, unfinished},
    store::{RangeQuery, ReadMode},
};

fn erase(service: &Service, name: &str) -> Result<Answer, Error> {
    let change = Change::by_admin(APP, user(name), Kind::Erase(Erase::Account));
    service.act(Act::Change(Box::new(change)))
}

/// How many keys say something of a user and groups.
fn kept(service: &Service, name: &str) -> usize {
    let user = user(name);
    let ranges = [keys::joined_groups, keys::former_groups, keys::group_traces, keys::all_active];
    let read = async move |tx: &Tx| -> Result<usize, StoreError> {
        let mut count = usize::from(tx.snapshot_get(&keys::groups_of_user(APP, &user)).await?.is_some());
        for range in ranges {
            let (begin, end) = range(APP, &user);
            let query = RangeQuery { begin, end, limit: 100, reverse: false, mode: ReadMode::Snapshot };
            count += tx.range(query).await?.pairs.len();
        }
        Ok(count)
    };
    block_on(service.store.run(Lane::Read, "kept", read)).unwrap().0
}

#[test]
fn acc_03_a_deleted_account_leaves_its_groups_small_and_large_and_members_are_told() {
    for group_fanout_max in [0, 200] {
        for (kind, is_told) in [(GroupType::Work, true), (GroupType::Public, true), (GroupType::Meeting, false)] {
            let service = Service::start(Settings { group_fanout_max, ..Settings::default() });
            let group = service.group(kind, &["anna", "ben"]);
            service.send("anna", &group, "hello").unwrap();
            assert_eq!(erase(&service, "anna"), Ok(Answer::Done));
            assert_eq!(service.role_of(&group, "anna"), GroupRole::None);
            assert_eq!(service.members(&group).len(), if kind == GroupType::Work { 2 } else { 3 });
            let left = service.heard("ben", &group).iter().filter(|(_, said)| said == "LEFT").count();
            assert_eq!(left, usize::from(is_told), "{kind:?}, {group_fanout_max}");
            assert_eq!(kept(&service, "anna"), 0);
            // What she has said stays; an account of the same name begins empty.
            assert!(service.history("ben", &group).unwrap().messages.iter().any(|message| message.from == "anna"));
            let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
            block_on(account::import(&service.store, &clock, APP, users(&["anna"]))).unwrap();
            assert_eq!(refused(service.history("anna", &group)), Refusal::RightMissing);
            let invite = GroupChange::Invite { group: group.clone(), users: users(&["anna"]), silent: false };
            assert_eq!(each(service.by_admin(invite)), [Ok(())]);
            service.send("anna", &group, "again").unwrap();
        }
    }
}

#[test]
fn acc_03_grp_22_a_group_of_a_deleted_owner_has_none_until_it_is_given_to_another() {
    for kind in KINDS {
        let service = Service::start(Settings::default());
        let group = service.group(kind, &["anna"]);
        assert_eq!(erase(&service, "owner"), Ok(Answer::Done));
        let owner =
            || block_on(read::groups(&service.store, APP, Asker::Admin, vec![group.clone()])).unwrap()[0].clone();
        assert_eq!(owner().unwrap().0.owner, "", "{kind:?}");
        assert_eq!(kept(&service, "owner"), 0);
        assert!(service.change("anna", GroupChange::Dissolve { group: group.clone() }).is_err());
        let transfer = GroupChange::Transfer { group: group.clone(), to: user("anna") };
        assert!(service.change("anna", transfer.clone()).is_err(), "nobody takes it");
        assert_eq!(service.by_admin(transfer), Ok(Answer::Done));
        assert_eq!((owner().unwrap().0.owner.as_str(), service.role_of(&group, "anna")), ("anna", GroupRole::Owner));
    }
}

#[test]
fn acc_03_grp_27_applications_bans_former_groups_and_places_in_live_rooms_are_forgotten() {
    let service = Service::start(Settings::default());
    let group = service.group(GroupType::Public, &["anna"]);
    let room = service.group(GroupType::Avchatroom, &[]);
    let meeting = service.group(GroupType::Meeting, &["anna", "dan"]);
    service.send("owner", &meeting, "hello").unwrap();
    service.change("dan", GroupChange::Leave { group: meeting.clone() }).unwrap();
    service.change("dan", GroupChange::Join { group, wording: "please".into() }).unwrap();
    service.by_admin(role(&room, "dan", GroupRole::Admin)).unwrap();
    let ban =
        GroupChange::Ban { group: meeting.clone(), users: users(&["dan"]), seconds: 1_000, reason: String::new() };
    assert_eq!(each(service.by_admin(ban)), [Ok(())]);
    assert_eq!(erase(&service, "dan"), Ok(Answer::Done));
    assert_eq!(kept(&service, "dan"), 0);
    assert_eq!(service.role_of(&room, "dan"), GroupRole::None);
    let dropped = service.log("owner").into_iter().filter_map(|what| match what {
        What::GroupApplication(application) => Some(application.state()),
        _ => None,
    });
    assert_eq!(dropped.last(), Some(protocol::message::GroupApplicationState::Dropped));
    let bans = block_on(read::bans(&service.store, APP, Asker::Admin, &meeting, None, 0, PAGE)).unwrap().0;
    assert_eq!(bans.len(), 0);
    assert_eq!(block_on(unfinished::acts(&service.store)).unwrap().len(), 0);
}

/// What a process has left behind that died in between: a gateway that starts goes on with it.
#[test]
fn acc_03_a_deletion_that_was_interrupted_goes_on_with_the_groups() {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Unfinished {
        #[prost(bool, tag = "4")]
        erase: bool,
    }
    let service = Service::start(Settings::default());
    let groups = [GroupType::Work, GroupType::Public, GroupType::Avchatroom].map(|kind| service.group(kind, &["anna"]));
    let put = async |tx: &Tx| -> Result<(), StoreError> {
        tx.set(keys::unfinished(APP, &user("owner")), Unfinished { erase: true }.encode_to_vec());
        Ok(())
    };
    block_on(service.store.run(Lane::Write, "leave", put)).unwrap();
    for act in block_on(unfinished::acts(&service.store)).unwrap() {
        assert_eq!(service.act(act), Ok(Answer::Done));
    }
    assert!(groups.iter().all(|group| service.role_of(group, "owner") == GroupRole::None));
    assert_eq!(kept(&service, "owner"), 0);
    assert_eq!(block_on(unfinished::acts(&service.store)).unwrap().len(), 0);
}
