//! Who may: the cells GRP-05 to GRP-10 and GRP-14, allowed and refused.

use super::*;

use GroupType::{Avchatroom, Meeting, Public, Work};

/// Asks as each of [`ACTORS`] in a new group of each type; who was not refused, by type.
fn allowed(service: &Service, ask: impl Fn(&GroupId) -> GroupChange) -> Vec<(GroupType, Vec<&'static str>)> {
    let each = |kind: GroupType| {
        let may = |actor: &&&str| match service.ask(actor, ask(&service.group(kind))) {
            Ok(Answer::GroupUsers(users)) => users.into_iter().all(|(_, outcome)| outcome.is_ok()),
            Ok(_) => true,
            Err(Error::Group(Refusal::RightMissing)) => false,
            other => panic!("{kind:?}, {actor}: {other:?}"),
        };
        (kind, ACTORS.iter().filter(may).copied().collect())
    };
    TYPES.into_iter().map(each).collect()
}

#[test]
fn grp_05_grp_06_who_is_no_member_applies_or_joins_as_the_type_has_it() {
    let service = Service::start();
    let expected = [(Work, refused(Refusal::RightMissing)), (Public, APPLIED), (Meeting, JOINED), (Avchatroom, JOINED)];
    for (kind, answer) in expected {
        let group = service.group(kind);
        assert_eq!(service.ask("stranger", join(&group)), answer, "{kind:?}");
        let is_in = kind == Meeting;
        assert_eq!(service.role(&group, "stranger") != GroupRole::None, is_in, "{kind:?}");
        for member in ["owner", "admin", "member"] {
            let again = if kind == Avchatroom { JOINED } else { refused(Refusal::MemberAlready) };
            assert_eq!(service.ask(member, join(&group)), again, "{kind:?}, {member}");
        }
    }
    assert_eq!(service.ask("stranger", join(&id("none"))), refused(Refusal::Unknown));
}

#[test]
fn grp_05_grp_06_a_group_may_say_otherwise_than_its_type_but_a_work_group_has_no_applications() {
    let service = Service::start();
    let with = |kind, option: GroupJoinOption| {
        let info = GroupUpdate { join_option: Some(option.into()), ..new_group(kind).info };
        service.create(NewGroup { info, ..new_group(kind) })
    };
    use GroupJoinOption::{Approval, Forbidden, Free};
    for (kind, option, expected) in [
        (Public, Free, JOINED),
        (Public, Forbidden, refused(Refusal::RightMissing)),
        (Meeting, Approval, APPLIED),
        (Meeting, Forbidden, refused(Refusal::RightMissing)),
        (Avchatroom, Forbidden, refused(Refusal::RightMissing)),
    ] {
        let group = with(kind, option);
        assert_eq!(service.ask("stranger", join(&group)), expected, "{kind:?}, {option:?}");
    }
    // Whoever comes into a live room is nobody's to approve of.
    let room = service.group(Avchatroom);
    for (option, expected) in [(Approval, refused(Refusal::RightMissing)), (Free, Ok(Answer::Done))] {
        let update = Box::new(GroupUpdate { join_option: Some(option.into()), ..GroupUpdate::default() });
        assert_eq!(service.ask("owner", GroupChange::Update { group: room.clone(), update }), expected, "{option:?}");
    }
}

#[test]
fn grp_07_members_bring_others_into_work_groups_and_the_application_anybody_into_any_but_rooms() {
    let service = Service::start();
    let expected = [
        (Work, vec!["owner", "admin", "member", "app"]),
        (Public, vec!["app"]),
        (Meeting, vec!["app"]),
        (Avchatroom, vec![]),
    ];
    assert_eq!(allowed(&service, |group| invite(group, &["stranger2"])), expected);
}

#[test]
fn grp_07_each_who_is_invited_is_judged_alone() {
    let service = Service::with(Settings { groups_joined_max: 2, ..Settings::default() });
    for _ in 0..2 {
        let group = service.create(NewGroup { owner: Some(user("cleo")), members: vec![], ..new_group(Work) });
        assert_eq!(service.role(&group, "cleo"), GroupRole::Owner);
    }
    let info = GroupUpdate { member_max: Some(6), ..new_group(Work).info };
    let group = service.create(NewGroup { info, ..new_group(Work) });
    // Of a group that nobody has been told of the user is in none more, as far as he knows.
    service.say(&group, "owner");
    assert_eq!(outcomes(service.ask("owner", ban(&group, &["ben"], 1_000))), [Ok(())]);
    let asked = invite(&group, &["member", "nobody", "ben", "cleo", "anna", "anna", "stranger", "stranger2"]);
    let each = [
        Err(Refusal::MemberAlready),
        Err(Refusal::UserUnknown),
        Err(Refusal::Banned),
        Err(Refusal::GroupsFull),
        Ok(()),
        Ok(()),
        Err(Refusal::Full),
    ];
    assert_eq!(outcomes(service.ask("owner", asked)), each);
    assert_eq!(service.role(&group, "stranger"), GroupRole::Member);
    assert_eq!(service.role(&group, "stranger2"), GroupRole::None);
    // Who is refused by the application's server is, and the others are not.
    let group = service.group(Work);
    let mut change = super::asked("member", invite(&group, &["stranger", "stranger2", "member"]));
    change.refused = vec![(user("stranger"), 10_111)];
    let outcome = service.act(Act::Change(Box::new(change)));
    assert_eq!(outcomes(outcome), [Err(Refusal::ByApplication(10_111)), Ok(()), Err(Refusal::MemberAlready)]);
}

#[test]
fn grp_08_everybody_may_leave_but_an_owner_only_a_work_group_which_goes_on_without_one() {
    let service = Service::start();
    for kind in TYPES {
        let group = service.group(kind);
        let is_room = kind == Avchatroom;
        let owner = if kind == Work { Ok(Answer::Done) } else { refused(Refusal::OwnerStays) };
        assert_eq!(service.ask("owner", leave(&group)), owner, "{kind:?}");
        assert_eq!(service.ask("admin", leave(&group)), Ok(Answer::Done), "{kind:?}");
        assert_eq!(service.ask("member", leave(&group)), Ok(Answer::Done), "{kind:?}");
        let stranger = if is_room { Ok(Answer::Done) } else { refused(Refusal::RightMissing) };
        assert_eq!(service.ask("stranger", leave(&group)), stranger, "{kind:?}");
        let records = service.records();
        assert_eq!(records.of_group(&group).owner, if kind == Work { "" } else { "owner" });
        assert_eq!(records.role(&group, "member"), GroupRole::None);
        // Who leads a live room leads it from outside, too.
        assert_eq!(records.role(&group, "admin"), if is_room { GroupRole::Admin } else { GroupRole::None });
    }
}

#[test]
fn grp_09_owners_make_administrators_where_there_are_such_and_of_rooms_the_application_does() {
    let service = Service::start();
    let expected =
        [(Work, vec![]), (Public, vec!["owner", "app"]), (Meeting, vec!["owner", "app"]), (Avchatroom, vec!["app"])];
    assert_eq!(allowed(&service, |group| member(group, "member2", as_admin(true))), expected);
    assert_eq!(allowed(&service, |group| member(group, "admin", as_admin(false))), expected);
    // Nobody makes an owner less.
    for kind in [Public, Meeting, Avchatroom] {
        let group = service.group(kind);
        for actor in ["owner", "app"] {
            let less = service.ask(actor, member(&group, "owner", as_admin(false)));
            assert_eq!(less, refused(Refusal::RightMissing), "{kind:?}, {actor}");
        }
        assert_eq!(service.ask("app", member(&group, "member2", as_admin(true))), Ok(Answer::Done));
        assert_eq!(service.role(&group, "member2"), GroupRole::Admin);
        assert_eq!(service.ask("app", member(&group, "member2", as_admin(false))), Ok(Answer::Done));
        let expected = if kind == Avchatroom { GroupRole::None } else { GroupRole::Member };
        assert_eq!(service.role(&group, "member2"), expected);
        assert_eq!(service.ask("app", member(&group, "nobody", as_admin(true))), refused(Refusal::UserUnknown));
    }
}

#[test]
fn grp_10_who_removes_members() {
    let service = Service::start();
    let expected = [
        (Work, vec!["owner", "app"]),
        (Public, vec!["owner", "admin", "app"]),
        (Meeting, vec!["owner", "admin", "app"]),
        (Avchatroom, vec![]),
    ];
    assert_eq!(allowed(&service, |group| remove(group, &["member2"])), expected);
    let missing = Err(Refusal::RightMissing);
    for kind in [Public, Meeting] {
        let group = service.group(kind);
        let asked = || remove(&group, &["owner", "admin", "admin2", "stranger"]);
        let by_admin = [missing, missing, missing, Err(Refusal::UserUnknown)];
        assert_eq!(
            outcomes(service.ask("admin", asked())),
            by_admin,
            "not the owner, himself, nor another administrator"
        );
        let by_app = [missing, Ok(()), Ok(()), Err(Refusal::UserUnknown)];
        assert_eq!(outcomes(service.ask("app", asked())), by_app, "not the owner");
        let group = service.group(kind);
        let by_owner = [missing, Ok(()), Ok(()), Err(Refusal::UserUnknown)];
        let asked = remove(&group, &["owner", "admin", "admin2", "stranger"]);
        assert_eq!(outcomes(service.ask("owner", asked)), by_owner, "not himself");
        assert_eq!(service.role(&group, "admin"), GroupRole::None);
    }
}

#[test]
fn grp_10_who_keeps_others_out_and_how_they_stay_out() {
    let service = Service::start();
    let expected = [
        (Work, vec!["owner", "app"]),
        (Public, vec!["owner", "admin", "app"]),
        (Meeting, vec!["owner", "admin", "app"]),
        (Avchatroom, vec!["owner", "admin", "app"]),
    ];
    assert_eq!(allowed(&service, |group| ban(group, &["member2", "stranger2"], 100)), expected);
    assert_eq!(allowed(&service, |group| ban(group, &["member2"], 0)), expected);
    let missing = Err(Refusal::RightMissing);
    for kind in [Public, Meeting, Avchatroom] {
        let group = service.group(kind);
        let asked = || ban(&group, &["owner", "admin", "member", "nobody"], 100);
        assert_eq!(outcomes(service.ask("admin", asked())), [missing, missing, Ok(()), Err(Refusal::UserUnknown)]);
        assert_eq!(outcomes(service.ask("app", asked())), [missing, Ok(()), Ok(()), Err(Refusal::UserUnknown)]);
        assert_eq!(service.role(&group, "admin"), GroupRole::None);
        assert_eq!(service.ask("member", join(&group)), refused(Refusal::Banned), "{kind:?}");
        assert_eq!(outcomes(service.ask("app", ban(&group, &["member"], 0))), [Ok(())]);
        assert_eq!(service.ask("member", join(&group)), if kind == Public { APPLIED } else { JOINED });
    }
}

#[test]
fn grp_14_who_mutes_members() {
    let service = Service::start();
    let leaders = vec!["owner", "admin", "app"];
    let expected = [(Work, vec![]), (Public, leaders.clone()), (Meeting, leaders.clone()), (Avchatroom, leaders)];
    assert_eq!(allowed(&service, |group| mute(group, &["member2"], 100)), expected);
    let missing = Err(Refusal::RightMissing);
    for kind in [Public, Meeting, Avchatroom] {
        let group = service.group(kind);
        let asked = || mute(&group, &["owner", "admin", "member", "stranger", "nobody"], 100);
        let stranger = if kind == Avchatroom { Ok(()) } else { Err(Refusal::UserUnknown) };
        let nobody = Err(Refusal::UserUnknown);
        assert_eq!(outcomes(service.ask("admin", asked())), [missing, missing, Ok(()), stranger, nobody]);
        assert_eq!(outcomes(service.ask("owner", asked())), [missing, Ok(()), Ok(()), stranger, nobody]);
        let now_ms = service.clock.unix_ms();
        let until_ms = |name: &str| service.records().member(&group, name).map_or(0, |row| row.muted_until_ms);
        assert!(until_ms("member") > now_ms + 90_000 && until_ms("member") <= now_ms + 100_000);
        assert_eq!(outcomes(service.ask("owner", mute(&group, &["member"], 0))), [Ok(())]);
        assert_eq!(until_ms("member"), 0);
        // Whoever leaves a group and comes back is muted as before.
        assert_eq!(outcomes(service.ask("owner", mute(&group, &["member"], 100))), [Ok(())]);
        service.ask("member", leave(&group)).unwrap();
        if kind != Avchatroom {
            outcomes(service.ask("app", invite(&group, &["member"])));
        }
        assert!(until_ms("member") > now_ms, "{kind:?}");
    }
}
