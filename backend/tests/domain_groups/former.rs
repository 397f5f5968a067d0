//! Of groups that a user has left, the last ones stay readable to him up to his leaving (GRP-11).

use backend::domain::conversations;

use super::*;

fn leave(service: &Service, name: &str, group: &GroupId) {
    service.change(name, GroupChange::Leave { group: group.clone() }).unwrap();
}

/// A group in which the owner has said something while Anna was in it.
fn heard_of(service: &Service, number: u32) -> GroupId {
    let id = group(&format!("group {number:02}"));
    service.change("owner", create(&id, GroupType::Public)).unwrap();
    let invite = GroupChange::Invite { group: id.clone(), users: users(&["anna"]), silent: true };
    assert_eq!(each(service.by_admin(invite)), [Ok(())]);
    service.send("owner", &id, "hello").unwrap();
    id
}

fn listed(service: &Service) -> Vec<GroupId> {
    let page = block_on(conversations::list(&service.store, APP, &user("anna"), None, None, PAGE)).unwrap();
    let mut listed: Vec<String> = page.entries.into_iter().map(|entry| entry.conversation.unwrap().group).collect();
    listed.sort_unstable();
    listed.iter().map(|id| group(id)).collect()
}

#[test]
fn grp_11_of_too_many_groups_those_left_first_are_forgotten() {
    for group_fanout_max in [0, 200] {
        let service = Service::start(Settings { groups_left_max: 10, group_fanout_max, ..Settings::default() });
        let groups: Vec<GroupId> = (0..12).map(|number| heard_of(&service, number)).collect();
        let mute = GroupChange::Mute { group: groups[0].clone(), users: users(&["anna"]), seconds: 600 };
        assert_eq!(each(service.by_admin(mute)), [Ok(())]);
        groups[..10].iter().for_each(|group| leave(&service, "anna", group));
        assert!(groups.iter().all(|group| service.history("anna", group).is_ok()), "none is too many");

        leave(&service, "anna", &groups[10]);
        // One is too many, and one more makes room; of the very first a mute is to outlast leaving (GRP-14).
        let seen: Vec<bool> = groups.iter().map(|group| service.history("anna", group).is_ok()).collect();
        let expected: Vec<bool> = (0..12).map(|number| number != 1).collect();
        assert_eq!(seen, expected);
        assert_eq!(refused(service.history("anna", &groups[1])), Refusal::RightMissing);
        let rest: Vec<GroupId> = groups.iter().filter(|group| **group != groups[1]).cloned().collect();
        assert_eq!(listed(&service), rest, "it is on no list either");
        // What devices have not been told yet of those that are kept, they are.
        assert_eq!(service.heard("anna", &groups[10]).iter().filter(|(_, said)| said == "hello").count(), 1);

        let invite =
            |group: &GroupId| GroupChange::Invite { group: group.clone(), users: users(&["anna"]), silent: true };
        assert_eq!(each(service.by_admin(invite(&groups[1]))), [Ok(())]);
        assert!(service.send("anna", &groups[1], "back").is_ok());
        assert_eq!(each(service.by_admin(invite(&groups[0]))), [Ok(())]);
        assert_eq!(refused(service.send("anna", &groups[0], "back")), Refusal::Muted);
    }
}

#[test]
fn grp_11_a_group_that_one_is_in_again_stays_on_the_list_when_its_past_is_forgotten() {
    let service = Service::start(Settings { groups_left_max: 10, ..Settings::default() });
    let groups: Vec<GroupId> = (0..12).map(|number| heard_of(&service, number)).collect();
    leave(&service, "anna", &groups[0]);
    let invite = GroupChange::Invite { group: groups[0].clone(), users: users(&["anna"]), silent: true };
    assert_eq!(each(service.by_admin(invite)), [Ok(())]);
    service.send("owner", &groups[0], "again").unwrap();
    groups[1..].iter().for_each(|group| leave(&service, "anna", group));
    assert_eq!(listed(&service), groups.iter().filter(|group| **group != groups[1]).cloned().collect::<Vec<_>>());
    let seen: Vec<String> = service.history("anna", &groups[0]).unwrap().messages.iter().map(said).collect();
    assert!(seen.contains(&"again".to_owned()) && !seen.contains(&"hello".to_owned()), "{seen:?}");
}

#[test]
fn grp_11_left_groups_that_end_or_are_forgotten_with_the_account_are_not_counted_any_more() {
    let service = Service::start(Settings { groups_left_max: 1, ..Settings::default() });
    for number in 0..3 {
        let id = heard_of(&service, number);
        leave(&service, "anna", &id);
        let invite = GroupChange::Invite { group: id.clone(), users: users(&["anna"]), silent: true };
        assert_eq!(each(service.by_admin(invite)), [Ok(())]);
        assert_eq!(service.change("owner", GroupChange::Dissolve { group: id }), Ok(Answer::Done));
    }
    // Were they, this one would be one too many.
    let last = heard_of(&service, 3);
    leave(&service, "anna", &last);
    assert!(service.history("anna", &last).is_ok());
}
