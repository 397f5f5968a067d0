//! What members are told, see, are called and receive (GRP-09, GRP-11 to GRP-14), and groups that grow large.

use backend::domain::callbacks::{LANES, queue};

use super::*;

use GroupType::{Avchatroom, Meeting, Public, Work};

/// Tips that were told to the group.
fn tips_told(told: &[(String, Told)], group: &GroupId) -> Vec<(Tip, Vec<String>)> {
    let of = |(to, told): &(String, Told)| match told {
        Told::Tips(tip, users) if to == group.as_str() => Some((*tip, users.clone())),
        _ => None,
    };
    told.iter().filter_map(of).collect()
}

#[test]
fn grp_12_everyone_is_told_of_changes_of_members_but_in_meetings_nobody() {
    let service = Service::start();
    for kind in TYPES {
        let group = service.group(kind);
        let mut expected = Vec::new();
        let mut ask = |actor: &str, change: GroupChange, tip: Tip, users: &[&str]| {
            assert!(done(&service.ask(actor, change)), "{kind:?}, {tip:?}");
            expected.push((tip, names(users)));
        };
        if kind != Avchatroom {
            ask("app", invite(&group, &["anna", "ben"]), Tip::Invited, &["anna", "ben"]);
            ask("anna", leave(&group), Tip::Left, &["anna"]);
            ask("owner", remove(&group, &["ben"]), Tip::Removed, &["ben"]);
            ask("member", member(&group, "member", card("M")), Tip::MemberChanged, &["member"]);
        }
        ask("owner", ban(&group, &["member2"], 10), Tip::Removed, &["member2"]);
        if kind == Meeting {
            ask("anna", join(&group), Tip::Joined, &["anna"]);
        }
        if kind == Public {
            assert_eq!(service.ask("anna", join(&group)), APPLIED);
            ask("admin", answer(&group, "anna", true), Tip::Joined, &["anna"]);
        }
        if kind != Work {
            ask("app", member(&group, "member", as_admin(true)), Tip::AdminSet, &["member"]);
            ask("app", member(&group, "member", as_admin(false)), Tip::AdminUnset, &["member"]);
            ask("owner", mute(&group, &["admin"], 10), Tip::MemberChanged, &["admin"]);
        }
        let told = tips_told(&service.told(), &group);
        assert_eq!(told, if kind == Meeting { vec![] } else { expected }, "{kind:?}");
    }
}

#[test]
fn grp_12_without_a_word_only_they_are_told_whom_it_concerns() {
    let service = Service::start();
    let group = service.group(Public);
    let silent = GroupChange::Invite { group: group.clone(), users: users(&["anna"]), silent: true };
    assert_eq!(outcomes(service.ask("app", silent)), [Ok(())]);
    let told = service.told();
    assert_eq!(told[0], ("anna".to_owned(), Told::Receives(true)), "first of all");
    assert!(matches!(&told[1], (to, Told::Entered(entered)) if to == "anna" && entered.by == "administrator"));
    assert_eq!(told.len(), 2);
    let silent = GroupChange::Remove { group, users: users(&["anna"]), reason: "why".into(), silent: true };
    assert_eq!(outcomes(service.ask("owner", silent)), [Ok(())]);
    let told = service.told();
    let is_left =
        |left: &GroupLeft| (left.why(), left.by.as_str(), left.reason.as_str()) == (Why::Removed, "owner", "why");
    assert!(matches!(&told[0], (to, Told::Left(left)) if to == "anna" && is_left(left)));
    assert_eq!(told[1..], [("anna".to_owned(), Told::Receives(false))]);
}

#[test]
fn grp_10_that_somebody_leaves_is_the_last_that_he_is_told() {
    let service = Service::start();
    let group = service.group(Public);
    service.ask("member", leave(&group)).unwrap();
    let told = service.told();
    let place = |found: &dyn Fn(&(String, Told)) -> bool| told.iter().position(found).unwrap();
    let left = place(&|(to, told)| to == "member" && matches!(told, Told::Left(left) if left.why() == Why::Left));
    let receives = place(&|(to, told)| to == "member" && *told == Told::Receives(false));
    let tips = place(&|(to, _)| to == group.as_str());
    assert!(tips < left && left < receives);
    // A live room is told of those kept out, and they are put out of it, wherever they are.
    let room = service.group(Avchatroom);
    outcomes(service.ask("admin", ban(&room, &["stranger"], 10)));
    let told = service.told();
    assert!(matches!(&told[0], (to, Told::OutOfRoom(left)) if to == "stranger" && left.reason == "why"));
    assert_eq!(told[1], ("stranger".to_owned(), Told::Receives(false)));
    assert_eq!(told[2], (room.to_string(), Told::Tips(Tip::Removed, names(&["stranger"]))));
}

#[test]
fn grp_11_members_see_what_is_said_from_their_entering_on_and_in_meetings_all() {
    let service = Service::start();
    for kind in [Work, Public, Meeting] {
        let group = service.group(kind);
        // Tips take places in the conversation.
        for _ in 0..2 {
            outcomes(service.ask("app", invite(&group, &["anna"])));
            service.ask("anna", leave(&group)).unwrap();
        }
        service.told();
        outcomes(service.ask("app", invite(&group, &["anna"])));
        let told = service.told();
        let entered = told.iter().find_map(|(_, told)| match told {
            Told::Entered(entered) => Some(entered.first_seq),
            _ => None,
        });
        let records = service.records();
        let first_seq = records.member(&group, "anna").unwrap().first_seq;
        assert_eq!((entered, records.joined(&group, "anna").unwrap().first_seq), (Some(first_seq), first_seq));
        let spans = records.spans(&group, "anna");
        if kind == Meeting {
            assert_eq!((first_seq, spans.len()), (1, 0), "nothing was said");
        } else {
            // Each time: that she was brought in, and, last of all, that she has left.
            let head = first_seq - 1;
            assert_eq!(spans, [(head - 3, head - 2), (head - 1, head)], "{kind:?}");
        }
    }
}

#[test]
fn grp_13_members_of_a_work_group_are_not_told_of_it_before_its_first_message() {
    let service = Service::start();
    let group = service.create(new_group(Work));
    let is_active = |name: &str| service.records().joined(&group, name).map(|joined| joined.is_active);
    assert_eq!((is_active("owner"), is_active("member")), (Some(true), Some(false)));
    assert_eq!(outcomes(service.ask("owner", invite(&group, &["anna"]))), [Ok(())]);
    service.ask("member", leave(&group)).unwrap();
    assert_eq!(service.told(), [], "they did not know of it");
    service.say(&group, "owner");
    let told = service.told();
    for name in ["admin", "member2", "anna"] {
        let own: Vec<_> = told.iter().filter(|(to, _)| to == name).map(|(_, told)| told).collect();
        let Told::Entered(entered) = own[1] else { panic!("{own:?}") };
        assert_eq!((own[0], entered.by.as_str(), entered.first_seq), (&Told::Receives(true), "owner", 1), "{name}");
    }
    assert!(!told.iter().any(|(to, told)| to == "owner" && matches!(told, Told::Entered(_))));
    let records = service.records();
    assert!(records.of_group(&group).is_active && records.joined(&group, "anna").unwrap().is_active);
    assert_eq!(outcomes(service.ask("anna", invite(&group, &["ben"]))), [Ok(())]);
    assert!(service.records().joined(&group, "ben").unwrap().is_active, "told at once from now on");
    for kind in [Public, Meeting] {
        let group = service.create(new_group(kind));
        assert!(service.records().joined(&group, "member").unwrap().is_active, "at once");
    }
}

fn card(name_card: &str) -> MemberUpdate {
    MemberUpdate { name_card: Some(name_card.into()), ..MemberUpdate::default() }
}

fn field(value: &str) -> MemberUpdate {
    let custom = [("colour".to_owned(), Bytes::copy_from_slice(value.as_bytes()))].into();
    MemberUpdate { custom, ..MemberUpdate::default() }
}

#[test]
fn type_10_members_are_named_by_themselves_and_by_those_above_them() {
    let fields = vec!["colour".to_owned()];
    let service = Service::with(Settings { group_member_custom_fields: fields, ..Settings::default() });
    let group = service.group(Public);
    let named: [(&str, &[&str]); 4] = [
        ("owner", &["owner", "admin", "admin2", "member"]),
        ("admin", &["admin", "member"]),
        ("member", &["member"]),
        ("app", &["owner", "admin", "admin2", "member"]),
    ];
    for (actor, may) in named {
        for name in ["owner", "admin", "admin2", "member"] {
            let expected = if may.contains(&name) { Ok(Answer::Done) } else { refused(Refusal::RightMissing) };
            for (update, as_set) in [(card(actor), true), (field(actor), true), (field(""), false)] {
                assert_eq!(service.ask(actor, member(&group, name, update)), expected, "{actor} names {name}");
                let records = service.records();
                let row = records.member(&group, name).unwrap();
                if may.contains(&name) {
                    assert_eq!(row.name_card, actor);
                    assert!(row.custom.get("colour").is_none_or(|value| as_set && *value == actor));
                }
            }
        }
    }
    assert_eq!(service.ask("stranger", member(&group, "stranger", card("S"))), refused(Refusal::RightMissing));
    assert_eq!(service.ask("owner", member(&group, "stranger", card("S"))), refused(Refusal::UserUnknown));
    let undeclared = MemberUpdate { custom: [("size".to_owned(), Bytes::new())].into(), ..MemberUpdate::default() };
    assert!(matches!(service.ask("member", member(&group, "member", undeclared)), Err(Error::Argument(_))));
    assert!(matches!(service.ask("member", member(&group, "member", card(&"x".repeat(51)))), Err(Error::Argument(_))));
}

#[test]
fn grp_18_whoever_does_not_receive_is_told_nothing_until_he_does_again() {
    let service = Service::start();
    let group = service.group(Public);
    assert!(service.act(receive(&group, "member", ReceiveOption::Refuse)).is_ok());
    let of_member = |told: Vec<(String, Told)>| -> Vec<Told> {
        told.into_iter().filter(|(to, _)| to == "member").map(|(_, told)| told).collect()
    };
    let told = of_member(service.told());
    assert!(told.len() == 2 && told.contains(&Told::Receives(false)));
    assert!(service.records().member(&group, "member").unwrap().deaf);
    // Leaving and coming back does not change it.
    service.ask("member", leave(&group)).unwrap();
    outcomes(service.ask("app", invite(&group, &["member"])));
    assert!(!of_member(service.told()).contains(&Told::Receives(true)));
    assert!(service.act(receive(&group, "member", ReceiveOption::Silent)).is_ok());
    let told = of_member(service.told());
    assert!(told.len() == 2 && told.contains(&Told::Receives(true)));
    assert!(!service.records().member(&group, "member").unwrap().deaf);
}

#[test]
fn a_group_that_passes_the_limit_is_large_for_all_of_its_members_and_stays_it() {
    let service = Service::with(Settings { group_fanout_max: 6, ..Settings::default() });
    let group = service.group(Public);
    outcomes(service.ask("app", invite(&group, &["anna"])));
    let before = service.records();
    assert!(!before.of_group(&group).is_large);
    outcomes(service.ask("app", invite(&group, &["ben", "cleo"])));
    let records = service.records();
    assert!(records.of_group(&group).is_large);
    for name in ["owner", "admin", "member", "anna", "ben", "cleo"] {
        let joined = records.joined(&group, name).unwrap();
        let version = before.joined(&group, name).map_or(0, |joined| joined.from_version);
        assert!(joined.is_large && joined.from_version > version, "{name}");
    }
    for name in ["anna", "ben", "cleo"] {
        service.ask(name, leave(&group)).unwrap();
    }
    let records = service.records();
    assert!(records.of_group(&group).is_large && records.joined(&group, "member").unwrap().is_large);
    let former = &records.former[&(group.to_string(), "anna".to_owned())];
    assert!(former.spans[0].is_large && former.spans[0].last_seq >= former.spans[0].first_seq);
}

#[test]
fn grp_09_a_live_room_has_five_administrators_who_need_not_be_there() {
    let service = Service::start();
    let room = service.group(Avchatroom);
    for name in ["anna", "ben", "cleo", "stranger"] {
        assert_eq!(service.ask("app", member(&room, name, as_admin(true))), Ok(Answer::Done));
    }
    let sixth = service.ask("app", member(&room, "member", as_admin(true)));
    assert!(matches!(sixth, Err(Error::ListFull(_))));
    assert_eq!(service.ask("app", member(&room, "anna", as_admin(true))), Ok(Answer::Done), "one already");
    assert_eq!(service.records().of_group(&room).member_count, 6, "with the owner");
    assert_eq!(service.ask("app", member(&room, "anna", as_admin(false))), Ok(Answer::Done));
    assert_eq!(service.ask("app", member(&room, "member", as_admin(true))), Ok(Answer::Done));
}

#[test]
fn con_06_the_application_is_told_who_came_who_went_and_that_a_group_is_full() {
    use CallbackCommand::{AfterGroupExit, AfterGroupFull, AfterGroupJoin, AfterGroupMember};
    let commands = [AfterGroupExit, AfterGroupFull, AfterGroupJoin, AfterGroupMember];
    let callbacks = Callbacks { url: "http://127.0.0.1:1".into(), commands: commands.into(), ..Callbacks::default() };
    let service = Service::with(Settings { callbacks: Some(callbacks), ..Settings::default() });
    let info = GroupUpdate { member_max: Some(6), ..new_group(Public).info };
    let group = service.create(NewGroup { info, ..new_group(Public) });
    let told = |change: GroupChange, actor: &str| {
        let before = queued(&service).len();
        let _ = service.ask(actor, change);
        queued(&service)[before..].to_vec()
    };
    assert_eq!(told(invite(&group, &["anna"]), "app"), [AfterGroupJoin, AfterGroupFull]);
    assert_eq!(told(join(&group), "ben"), [AfterGroupFull], "refused for it");
    assert_eq!(told(leave(&group), "anna"), [AfterGroupExit]);
    assert_eq!(told(leave(&group), "stranger"), []);
    assert_eq!(told(join(&group), "ben"), []);
    assert_eq!(told(answer(&group, "ben", true), "owner"), [AfterGroupJoin, AfterGroupFull]);
    assert_eq!(told(remove(&group, &["ben", "cleo"]), "owner"), [AfterGroupExit]);
    assert_eq!(told(member(&group, "member", card("M")), "member"), [AfterGroupMember]);
    assert_eq!(told(member(&group, "member", card("M")), "member"), [], "as it was");
    assert_eq!(told(member(&group, "member", as_admin(true)), "owner"), [AfterGroupMember]);
}

/// What the application's server is to be told, in the order of the queue: of one group, one lane.
fn queued(service: &Service) -> Vec<CallbackCommand> {
    let mut told = Vec::new();
    for lane in 0..LANES {
        let page = block_on(queue::claim(&service.store, &service.clock, APP, lane, 1)).unwrap();
        let queue::Page::Entries(entries) = page else { panic!("claimed by nobody else") };
        told.extend(entries.iter().map(|entry| entry.record.clone().unwrap().what.unwrap().command()));
    }
    told
}
