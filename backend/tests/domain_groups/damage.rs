//! Damage to what is stored of groups is found by a check of the store.

use backend::domain::keys;

use super::*;

/// What a check says once this has happened to a group with an owner, an administrator and a member.
fn problems(damage: impl Fn(&Tx, &GroupId) + Send + 'static) -> Vec<String> {
    let service = Service::start(Settings::default());
    let group = service.group(GroupType::Public, &["anna"]);
    let harm = async move |tx: &Tx| -> Result<(), StoreError> {
        damage(tx, &group);
        Ok(())
    };
    block_on(service.store.run(Lane::Write, "damage", harm)).unwrap();
    let mut problems = Vec::new();
    inspect::check(&service.store, &mut |problem| problems.push(problem.to_owned())).unwrap();
    std::mem::forget(service); // which would check that all is well
    problems
}

#[test]
fn grp_01_members_that_groups_and_users_do_not_agree_on_are_found() {
    let anna = || user("anna");
    let found = problems(move |tx, group| tx.clear(&keys::joined_group(APP, &anna(), group)));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().any(|problem| problem.ends_with("the user does not know to be in the group")));
    assert!(found.iter().any(|problem| problem.contains("are noted")), "{found:?}");
    let found = problems(move |tx, group| tx.clear(&keys::member(APP, group, &anna())));
    assert!(found.iter().any(|problem| problem.contains("3 members are noted, 2 are there")), "{found:?}");
    assert!(found.iter().any(|problem| problem.ends_with("the group does not know the user as a member")));
    let found = problems(move |tx, _| tx.clear(&keys::groups_of_user(APP, &anna())));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].ends_with("the user's groups are not counted"));
    let found = problems(move |tx, group| tx.clear(&keys::member(APP, group, &user("owner"))));
    assert!(
        found.iter().any(|problem| problem.contains("its owner is \"owner\", and members are so: []")),
        "{found:?}"
    );
    let found = problems(move |tx, group| tx.clear(&keys::group(APP, group)));
    assert_eq!(found.iter().filter(|problem| problem.ends_with("there is no such group")).count(), 3, "{found:?}");
    let found = problems(move |tx, group| tx.set(keys::joined_group(APP, &anna(), group), Bytes::new()));
    assert!(found.iter().any(|problem| problem.ends_with("it is not as the user knows it")), "{found:?}");
}
