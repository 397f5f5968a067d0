//! How much a group keeps beside its description, and how many groups a user owns: as much as GROUPS.md says, and no
//! more (GRP-21, GRP-22).

use std::collections::BTreeMap;

use protocol::message::{GroupAttributes, GroupCounterOperation, GroupCounters};

use super::*;

/// Changes attributes: some are set, each to so many bytes, others taken off.
fn attributes(service: &Service, group: &GroupId, set: &[(String, usize)], remove: &[&str]) -> Result<Answer, Error> {
    let set = set.iter().map(|(key, bytes)| (key.clone(), vec![b'x'; *bytes].into())).collect();
    let remove = remove.iter().map(ToString::to_string).collect();
    service.change("anna", GroupChange::Attributes { group: group.clone(), set, remove, reset: false, revision: 0 })
}

/// How many attributes there are, and which revision.
fn kept(service: &Service, group: &GroupId) -> (usize, u64) {
    let GroupAttributes { attributes, revision, .. } =
        block_on(read::attributes(&service.store, APP, Asker::Admin, group)).unwrap();
    (attributes.len(), revision)
}

/// A key, made as long as this.
fn key(number: usize, bytes: usize) -> String {
    format!("{number:0bytes$}")
}

#[test]
fn grp_21_a_group_has_sixteen_attributes_and_no_more() {
    let service = Service::start(Settings::default());
    let group = service.group(GroupType::Public, &["anna"]);
    let sixteen: Vec<(String, usize)> = (0..16).map(|n| (key(n, 32), 1)).collect();
    assert!(attributes(&service, &group, &sixteen, &[]).is_ok());
    let one_more = [(key(16, 32), 1)];
    assert!(matches!(attributes(&service, &group, &one_more, &[]), Err(Error::ListFull(_))));
    let seventeen: Vec<_> = sixteen.iter().chain(&one_more).cloned().collect();
    assert!(matches!(attributes(&service, &group, &seventeen, &[]), Err(Error::Argument(_))));
    assert_eq!(kept(&service, &group), (16, 1), "what is refused changes nothing");
    // There is room for it once another goes, in the same change.
    assert!(attributes(&service, &group, &one_more, &[&key(0, 32)]).is_ok());
    assert_eq!(kept(&service, &group), (16, 2));
    for wrong in [key(0, 33), String::new()] {
        assert!(matches!(attributes(&service, &group, &[(wrong, 1)], &[]), Err(Error::Argument(_))));
    }
}

#[test]
fn grp_21_an_attribute_is_as_long_as_may_be_and_all_together_are() {
    let service = Service::start(Settings::default());
    let group = service.group(GroupType::Public, &["anna"]);
    assert!(attributes(&service, &group, &[(key(1, 1), 4_096)], &[]).is_ok());
    assert!(matches!(attributes(&service, &group, &[(key(1, 1), 4_097)], &[]), Err(Error::Argument(_))));
    // With their keys four of these have 16,384 bytes.
    let four: Vec<(String, usize)> = (1..=4).map(|n| (key(n, 1), 4_095)).collect();
    assert!(attributes(&service, &group, &four, &[]).is_ok());
    assert_eq!(kept(&service, &group), (4, 2));
    for one_byte_more in [[(key(1, 1), 4_096)], [(key(5, 1), 0)]] {
        assert!(matches!(attributes(&service, &group, &one_byte_more, &[]), Err(Error::ListFull(_))));
    }
    assert_eq!(kept(&service, &group), (4, 2), "what is refused changes nothing");
    assert!(attributes(&service, &group, &[(key(5, 1), 4_095)], &[&key(1, 1)]).is_ok());
}

#[test]
fn grp_21_a_group_has_twenty_counters_and_no_more() {
    let service = Service::start(Settings::default());
    let group = service.group(GroupType::Public, &["anna"]);
    let id = std::cell::Cell::new(0);
    let count = |changes: Vec<(String, GroupCounterOperation, i64)>| {
        id.set(id.get() + 1);
        service.change("anna", GroupChange::Counters { group: group.clone(), id: id.get(), changes })
    };
    let add = |n: usize| (key(n, 128), GroupCounterOperation::Add, 1);
    let kept = || -> BTreeMap<String, i64> {
        let counters = block_on(read::counters(&service.store, APP, Asker::Admin, &group));
        let GroupCounters { counters, .. } = counters.unwrap();
        counters
    };
    assert!(count((0..20).map(add).collect()).is_ok());
    assert!(matches!(count(vec![add(20)]), Err(Error::ListFull(_))));
    assert!(matches!(count(vec![add(1), add(20)]), Err(Error::ListFull(_))));
    assert!(matches!(count((0..21).map(add).collect()), Err(Error::Argument(_))));
    let expected: BTreeMap<_, _> = (0..20).map(|n| (key(n, 128), 1)).collect();
    assert_eq!(kept(), expected, "what is refused changes nothing");
    assert!(count(vec![(key(0, 128), GroupCounterOperation::Remove, 0), add(20)]).is_ok());
    assert!(matches!(count(vec![(key(1, 129), GroupCounterOperation::Set, 1)]), Err(Error::Argument(_))));
    assert!(matches!(count(vec![(String::new(), GroupCounterOperation::Set, 1)]), Err(Error::Argument(_))));
    // Nor does one run over.
    assert!(count(vec![(key(1, 128), GroupCounterOperation::Set, i64::MAX)]).is_ok());
    assert!(matches!(count(vec![add(1)]), Err(Error::Argument(_))));
    assert_eq!(kept()[&key(1, 128)], i64::MAX);
}

#[test]
fn grp_22_nobody_is_given_more_groups_than_he_may_own() {
    for kind in KINDS {
        let service = Service::start(Settings { groups_owned_max: 2, ..Settings::default() });
        let given = service.group(kind, &["anna"]);
        let give = || GroupChange::Transfer { group: given.clone(), to: user("anna") };
        // Live rooms count as the others do.
        for (id, own) in [("one", GroupType::Avchatroom), ("two", GroupType::Meeting)] {
            service.change("anna", create(&group(id), own)).unwrap();
        }
        assert_eq!(refused(service.change("owner", give())), Refusal::GroupsFull, "{kind:?}");
        assert_eq!(refused(service.by_admin(give())), Refusal::GroupsFull, "{kind:?}: nor by the application");
        let found = block_on(read::groups(&service.store, APP, Asker::Admin, vec![given.clone()]));
        assert_eq!(found.unwrap().remove(0).unwrap().0.owner, "owner", "{kind:?}");
        // It is nobody's loss: he has room again when one of his ends.
        service.change("anna", GroupChange::Dissolve { group: group("one") }).unwrap();
        assert_eq!(service.change("owner", give()), Ok(Answer::Done), "{kind:?}");
        assert_eq!(refused(service.change("anna", create(&group("three"), kind))), Refusal::GroupsFull, "{kind:?}");
        // Who has given it away may own another.
        service.change("owner", create(&group("four"), kind)).unwrap();
    }
}
