//! Who may do what in which type of group: each cell, allowed and refused.

use protocol::message::GroupCounterOperation;

use super::*;

/// Does the same as everybody in turn, each in a group of its own, and says who was let.
fn who_may(kind: GroupType, act: impl Fn(&GroupId) -> GroupChange) -> Vec<&'static str> {
    let mut may = Vec::new();
    for name in ["owner", "admin", "anna", "eve", "app admin"] {
        let service = Service::start(Settings::default());
        let group = service.group(kind, &["anna", "ben"]);
        if kind == GroupType::Avchatroom {
            // Its owner makes none, but the application does.
            service.by_admin(role(&group, "admin", GroupRole::Admin)).unwrap();
        }
        let answer =
            if name == "app admin" { service.by_admin(act(&group)) } else { service.change(name, act(&group)) };
        match answer {
            Ok(Answer::GroupUsers(outcomes)) if outcomes.iter().all(|(_, outcome)| outcome.is_err()) => {}
            Ok(_) => may.push(name),
            Err(Error::Group(Refusal::RightMissing)) => {}
            Err(other) => panic!("{name} in {kind:?}: {other:?}"),
        }
    }
    may
}

#[test]
fn grp_02_who_edits_the_information() {
    let edit = |group: &GroupId| GroupChange::Update { group: group.clone(), update: named("Another") };
    assert_eq!(who_may(GroupType::Work, edit), ["owner", "anna", "app admin"]);
    assert_eq!(who_may(GroupType::Public, edit), ["owner", "admin", "app admin"]);
    assert_eq!(who_may(GroupType::Meeting, edit), ["owner", "app admin"]);
    assert_eq!(who_may(GroupType::Avchatroom, edit), ["app admin"]);
}

#[test]
fn grp_04_who_dissolves_it() {
    let dissolve = |group: &GroupId| GroupChange::Dissolve { group: group.clone() };
    assert_eq!(who_may(GroupType::Work, dissolve), ["app admin"]);
    for kind in [GroupType::Public, GroupType::Meeting, GroupType::Avchatroom] {
        assert_eq!(who_may(kind, dissolve), ["owner", "app admin"], "{kind:?}");
    }
}

#[test]
fn grp_05_grp_06_applying_and_whether_it_is_approved() {
    for (kind, expected) in [
        (GroupType::Work, Err(Refusal::RightMissing)),
        (GroupType::Public, Ok(true)),
        (GroupType::Meeting, Ok(false)),
        (GroupType::Avchatroom, Ok(false)),
    ] {
        let service = Service::start(Settings::default());
        let group = service.group(kind, &[]);
        let join = GroupChange::Join { group: group.clone(), wording: "let me in".into() };
        let outcome = match service.change("eve", join) {
            Ok(Answer::GroupJoined { applied }) => Ok(applied),
            Err(Error::Group(refusal)) => Err(refusal),
            other => panic!("{other:?}"),
        };
        assert_eq!(outcome, expected, "{kind:?}");
        let is_in = kind == GroupType::Meeting;
        assert_eq!(service.role_of(&group, "eve") == GroupRole::Member, is_in, "{kind:?}");
    }
}

#[test]
fn grp_07_who_invites() {
    let invite = |group: &GroupId| GroupChange::Invite { group: group.clone(), users: users(&["dan"]), silent: false };
    assert_eq!(who_may(GroupType::Work, invite), ["owner", "anna", "app admin"]);
    assert_eq!(who_may(GroupType::Public, invite), ["app admin"]);
    assert_eq!(who_may(GroupType::Meeting, invite), ["app admin"]);
    assert_eq!(who_may(GroupType::Avchatroom, invite), [""; 0]);
}

#[test]
fn grp_08_the_owner_leaves_where_he_may() {
    for kind in [GroupType::Work, GroupType::Public, GroupType::Meeting] {
        let service = Service::start(Settings::default());
        let group = service.group(kind, &["anna"]);
        let left = service.change("owner", GroupChange::Leave { group: group.clone() });
        assert_eq!(left.is_ok(), kind == GroupType::Work, "{kind:?}");
        service.change("anna", GroupChange::Leave { group: group.clone() }).unwrap();
        assert_eq!(service.role_of(&group, "anna"), GroupRole::None);
        assert_eq!(refused(service.change("anna", GroupChange::Leave { group })), Refusal::RightMissing);
    }
}

#[test]
fn grp_09_who_names_administrators() {
    let name = |group: &GroupId| role(group, "ben", GroupRole::Admin);
    assert_eq!(who_may(GroupType::Work, name), [""; 0]);
    assert_eq!(who_may(GroupType::Public, name), ["owner", "app admin"]);
    assert_eq!(who_may(GroupType::Meeting, name), ["owner", "app admin"]);
    let service = Service::start(Settings::default());
    let room = service.group(GroupType::Avchatroom, &[]);
    assert!(service.change("owner", role(&room, "ben", GroupRole::Admin)).is_err());
}

#[test]
fn grp_10_who_removes_members() {
    let remove = |group: &GroupId| {
        let (users, reason) = (users(&["ben"]), "so".into());
        GroupChange::Remove { group: group.clone(), users, reason, silent: false }
    };
    assert_eq!(who_may(GroupType::Work, remove), ["owner", "app admin"]);
    assert_eq!(who_may(GroupType::Public, remove), ["owner", "admin", "app admin"]);
    assert_eq!(who_may(GroupType::Meeting, remove), ["owner", "admin", "app admin"]);
    assert_eq!(who_may(GroupType::Avchatroom, remove), [""; 0]);
    // Nobody the owner, and administrators no administrators.
    let service = Service::start(Settings::default());
    let group = service.group(GroupType::Public, &["anna"]);
    service.change("owner", role(&group, "anna", GroupRole::Admin)).unwrap();
    let change =
        GroupChange::Remove { group, users: users(&["owner", "anna", "eve"]), reason: String::new(), silent: true };
    let expected = [Err(Refusal::RightMissing), Err(Refusal::RightMissing), Err(Refusal::UserUnknown)];
    assert_eq!(each(service.change("admin", change)), expected);
}

#[test]
fn grp_14_who_mutes_members() {
    let mute = |group: &GroupId| GroupChange::Mute { group: group.clone(), users: users(&["ben"]), seconds: 60 };
    assert_eq!(who_may(GroupType::Work, mute), [""; 0]);
    assert_eq!(who_may(GroupType::Public, mute), ["owner", "admin", "app admin"]);
    assert_eq!(who_may(GroupType::Meeting, mute), ["owner", "admin", "app admin"]);
    assert_eq!(who_may(GroupType::Avchatroom, mute), ["owner", "admin", "app admin"]);
}

#[test]
fn grp_21_who_changes_attributes_and_counters() {
    let attributes = |group: &GroupId| GroupChange::Attributes {
        group: group.clone(),
        set: [("mood".to_owned(), "fine".into())].into(),
        remove: vec![],
        reset: false,
        revision: 0,
    };
    let counters = |group: &GroupId| GroupChange::Counters {
        group: group.clone(),
        id: 1,
        changes: vec![("visits".into(), GroupCounterOperation::Add, 1)],
    };
    for kind in KINDS {
        let expected: &[&str] = match kind {
            GroupType::Work => &["owner", "anna", "app admin"],
            GroupType::Avchatroom => &["owner", "admin", "app admin"], // nobody knows for long who is in it
            _ => &["owner", "admin", "anna", "app admin"],
        };
        assert_eq!(who_may(kind, attributes), expected, "{kind:?}");
        assert_eq!(who_may(kind, counters), expected, "{kind:?}");
    }
}

#[test]
fn grp_22_who_gives_the_group_to_another() {
    let transfer = |group: &GroupId| GroupChange::Transfer { group: group.clone(), to: user("anna") };
    for kind in KINDS {
        assert_eq!(who_may(kind, transfer), ["owner", "app admin"], "{kind:?}");
    }
    let service = Service::start(Settings::default());
    let group = service.group(GroupType::Public, &["anna"]);
    service.change("owner", transfer(&group)).unwrap();
    assert_eq!(service.role_of(&group, "anna"), GroupRole::Owner);
    assert_eq!(service.role_of(&group, "owner"), GroupRole::Member);
    let to_stranger = GroupChange::Transfer { group, to: user("eve") };
    assert_eq!(refused(service.change("anna", to_stranger)), Refusal::UserUnknown);
}

#[test]
fn grp_23_muting_all_is_for_who_leads() {
    let mute_all = |group: &GroupId| {
        let update = Box::new(GroupUpdate { muted_all: Some(true), ..GroupUpdate::default() });
        GroupChange::Update { group: group.clone(), update }
    };
    assert_eq!(who_may(GroupType::Work, mute_all), ["owner", "app admin"]);
    for kind in [GroupType::Public, GroupType::Meeting, GroupType::Avchatroom] {
        assert_eq!(who_may(kind, mute_all), ["owner", "admin", "app admin"], "{kind:?}");
    }
    for kind in [GroupType::Public, GroupType::Meeting] {
        let service = Service::start(Settings::default());
        let group = service.group(kind, &["anna"]);
        service.change("owner", mute_all(&group)).unwrap();
        assert_eq!(refused(service.send("anna", &group, "hello")), Refusal::Muted);
        service.send("admin", &group, "hello").unwrap();
        service.send("owner", &group, "hello").unwrap();
    }
}
