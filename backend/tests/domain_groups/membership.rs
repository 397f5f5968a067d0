//! Coming and going: who is told, what counts, what is full (GRP-01, GRP-12, GRP-13, GRP-20, GRP-21, GRP-24, GRP-27).

use backend::domain::{conversations, settings::GroupMembersMax};
use protocol::message::{ExtensionChange, GroupApplicationState, GroupCounterOperation};

use super::*;

#[test]
fn grp_20_ids_are_chosen_or_made_and_belong_to_one() {
    let service = Service::start(Settings::default());
    let id = group("mine");
    assert_eq!(service.change("anna", create(&id, GroupType::Public)), Ok(Answer::GroupCreated(id.clone())));
    assert_eq!(refused(service.change("anna", create(&id, GroupType::Public))), Refusal::IdOwn);
    assert_eq!(refused(service.change("ben", create(&id, GroupType::Work))), Refusal::IdTaken);
    assert_eq!(refused(service.change("ben", create(&group("@TGS#mine"), GroupType::Work))), Refusal::IdInvalid);
    let made = backend::domain::groups::generated_id(GroupType::Work, &SeededRng::new(3));
    let GroupChange::Create(new) = create(&made, GroupType::Work) else { unreachable!() };
    let made = GroupChange::Create(Box::new(NewGroup { is_generated: true, ..*new }));
    service.change("ben", made).unwrap();
}

#[test]
fn grp_01_a_group_has_so_many_members_and_a_user_so_many_groups() {
    let group_members_max = GroupMembersMax { work: 3, public: 2, meeting: 200 };
    let service = Service::start(Settings { group_members_max, groups_joined_max: 2, ..Settings::default() });
    let work = service.group(GroupType::Work, &["anna"]);
    let invite =
        GroupChange::Invite { group: work.clone(), users: users(&["ben", "cleo", "anna", "nobody"]), silent: false };
    let expected = [Ok(()), Err(Refusal::Full), Err(Refusal::MemberAlready), Err(Refusal::UserUnknown)];
    assert_eq!(each(service.change("owner", invite)), expected);
    // It counts once she knows of it.
    service.send("owner", &work, "hello").unwrap();
    service.change("anna", create(&group("second"), GroupType::Work)).unwrap();
    assert_eq!(refused(service.change("anna", create(&group("third"), GroupType::Work))), Refusal::GroupsFull);
    service.change("anna", GroupChange::Leave { group: group("second") }).unwrap();
    service.change("anna", create(&group("third"), GroupType::Work)).unwrap();
}

#[test]
fn grp_13_a_work_group_is_told_with_its_first_message() {
    let service = Service::start(Settings::default());
    let group = service.group(GroupType::Work, &["anna"]);
    assert!(service.log("anna").is_empty());
    let joined = |name: &str| block_on(read::joined(&service.store, APP, &user(name), None, PAGE)).unwrap().0.len();
    assert_eq!((joined("owner"), joined("anna")), (1, 0));
    assert_eq!(service.send("owner", &group, "hello"), Ok(1));
    assert_eq!(joined("anna"), 1);
    let log = service.log("anna");
    assert!(matches!(&log[0], What::GroupEntered(entered) if entered.group == group.as_str()), "{log:?}");
    assert_eq!(heard_in(log, &group), [(1, "hello".into())]);
}

#[test]
fn grp_12_changes_of_members_are_told_to_everybody_but_in_meetings() {
    for (kind, expected) in
        [(GroupType::Public, vec!["JOINED", "REMOVED", "hello"]), (GroupType::Meeting, vec!["hello"])]
    {
        let service = Service::start(Settings::default());
        let group = service.group(kind, &["anna"]);
        let (_, cursor) = service.log_since("anna", Versionstamp::ZERO);
        service.change("ben", GroupChange::Join { group: group.clone(), wording: String::new() }).unwrap();
        if kind == GroupType::Public {
            let (applicant, text) = (user("ben"), String::new());
            let answer = GroupChange::Answer { group: group.clone(), applicant, agree: true, text };
            service.change("admin", answer).unwrap();
        }
        let (users, reason) = (users(&["ben"]), "so".to_owned());
        service.change("owner", GroupChange::Remove { group: group.clone(), users, reason, silent: false }).unwrap();
        service.send("owner", &group, "hello").unwrap();
        let heard = heard_in(service.log_since("anna", cursor).0, &group);
        let heard: Vec<&str> = heard.iter().map(|(_, said)| said.as_str()).collect();
        assert_eq!(heard, expected, "{kind:?}");
        let left = service.log("ben").into_iter().find_map(|what| match what {
            What::GroupLeft(left) => Some(left),
            _ => None,
        });
        assert_eq!(left.unwrap().reason, "so");
    }
}

#[test]
fn grp_27_applications_reach_who_decides_and_their_handling_both_sides() {
    let service = Service::start(Settings::default());
    let group = service.group(GroupType::Public, &["anna"]);
    let states = |name: &str| -> Vec<GroupApplicationState> {
        let application = |what| match what {
            What::GroupApplication(application) => Some(application.state()),
            _ => None,
        };
        service.log(name).into_iter().filter_map(application).collect()
    };
    let join = || GroupChange::Join { group: group.clone(), wording: "please".into() };
    let answer =
        |agree| GroupChange::Answer { group: group.clone(), applicant: user("eve"), agree, text: "well".into() };
    service.change("eve", join()).unwrap();
    for name in ["owner", "admin"] {
        let (open, _) = block_on(read::applications(&service.store, APP, &user(name), None, PAGE)).unwrap();
        assert_eq!(open.iter().map(|open| open.user.as_str()).collect::<Vec<_>>(), ["eve"]);
    }
    assert!(block_on(read::applications(&service.store, APP, &user("anna"), None, PAGE)).unwrap().0.is_empty());
    assert_eq!(refused(service.change("anna", answer(true))), Refusal::RightMissing);
    service.change("admin", answer(false)).unwrap();
    assert_eq!(refused(service.change("admin", answer(true))), Refusal::ApplicationUnknown);
    service.change("eve", join()).unwrap();
    service.change("owner", answer(true)).unwrap();
    use GroupApplicationState::{Agreed, Open, Refused};
    for name in ["owner", "admin", "eve"] {
        assert_eq!(states(name), [Open, Refused, Open, Agreed], "{name}");
    }
    assert_eq!(states("anna"), []);
    assert_eq!(service.role_of(&group, "eve"), GroupRole::Member);
}

#[test]
fn who_is_banned_stays_out_until_then() {
    let service = Service::start(Settings::default());
    let group = service.group(GroupType::Meeting, &["anna"]);
    let ban = |seconds| GroupChange::Ban {
        group: group.clone(),
        users: users(&["anna", "owner"]),
        seconds,
        reason: String::new(),
    };
    assert_eq!(each(service.change("admin", ban(60))), [Ok(()), Err(Refusal::RightMissing)]);
    let join = || GroupChange::Join { group: group.clone(), wording: String::new() };
    assert_eq!(refused(service.change("anna", join())), Refusal::Banned);
    each(service.change("admin", ban(0)));
    service.change("anna", join()).unwrap();
    assert_eq!(refused(service.change("anna", join())), Refusal::MemberAlready);
}

#[test]
fn grp_21_profiles_attributes_and_counters() {
    let fields = |name: &str| vec![name.to_owned()];
    let settings = Settings {
        group_custom_fields: fields("color"),
        group_member_custom_fields: fields("seat"),
        ..Settings::default()
    };
    let service = Service::start(settings);
    let group = service.group(GroupType::Public, &["anna"]);
    let custom = [("color".to_owned(), Bytes::from("red"))].into();
    let update = Box::new(GroupUpdate { notice: Some("read this".into()), custom, ..GroupUpdate::default() });
    service.change("admin", GroupChange::Update { group: group.clone(), update }).unwrap();
    let (seen, own) = block_on(read::groups(&service.store, APP, Asker::User(user("anna")), vec![group.clone()]))
        .unwrap()
        .remove(0)
        .unwrap();
    assert_eq!((seen.notice.as_str(), &seen.custom["color"][..], seen.member_count), ("read this", &b"red"[..], 3));
    assert_eq!(own.unwrap().role(), GroupRole::Member);
    let (seen, own) = block_on(read::groups(&service.store, APP, Asker::User(user("eve")), vec![group.clone()]))
        .unwrap()
        .remove(0)
        .unwrap();
    assert_eq!((seen.notice.as_str(), seen.custom.len(), own), ("", 0, None), "a stranger sees what is for all");
    let member = |name: &str, card: &str| {
        let custom = [("seat".to_owned(), Bytes::from("1"))].into();
        let update = Box::new(MemberUpdate { name_card: Some(card.into()), custom, ..MemberUpdate::default() });
        GroupChange::Member { group: group.clone(), member: user(name), update }
    };
    service.change("anna", member("anna", "Anna A.")).unwrap();
    service.change("owner", member("anna", "Anna B.")).unwrap();
    assert_eq!(refused(service.change("anna", member("admin", "X"))), Refusal::RightMissing);
    assert_eq!(refused(service.change("eve", member("eve", "X"))), Refusal::RightMissing);
    let set = |revision| GroupChange::Attributes {
        group: group.clone(),
        set: [("a".to_owned(), Bytes::from("1"))].into(),
        remove: vec![],
        reset: false,
        revision,
    };
    let Ok(Answer::GroupAttributes(now)) = service.change("anna", set(0)) else { panic!() };
    assert_eq!(now.revision, 1);
    assert_eq!(refused(service.change("anna", set(7))), Refusal::AttributesConflict);
    assert_eq!(refused(service.change("eve", set(0))), Refusal::RightMissing);
    let count = |id, value| GroupChange::Counters {
        group: group.clone(),
        id,
        changes: vec![("n".into(), GroupCounterOperation::Add, value)],
    };
    for (id, value, expected) in [(1, 5, 5), (2, -2, 3), (2, -2, 3)] {
        let Ok(Answer::GroupCounters(now)) = service.change("anna", count(id, value)) else { panic!() };
        assert_eq!(now.counters["n"], expected, "the same change is made once");
    }
    assert!(matches!(service.change("anna", count(3, i64::MAX)), Err(Error::Argument(_))));
}

#[test]
fn grp_04_what_is_dissolved_is_gone_and_its_sequence_goes_on() {
    let service = Service::start(Settings::default());
    let group = service.group(GroupType::Meeting, &["anna"]);
    service.send("anna", &group, "hello").unwrap();
    let head = service.history("anna", &group).unwrap().head_seq;
    service.change("owner", GroupChange::Dissolve { group: group.clone() }).unwrap();
    assert_eq!(refused(service.send("anna", &group, "hello")), Refusal::Unknown);
    assert_eq!(refused(service.history("anna", &group)), Refusal::Unknown);
    assert!(matches!(service.log("anna").last(), Some(What::GroupLeft(left)) if left.group == group.as_str()));
    service.change("ben", create(&group, GroupType::Meeting)).unwrap();
    assert_eq!(service.send("ben", &group, "new"), Ok(head + 1));
    assert_eq!(service.history("ben", &group).unwrap().messages.len(), 1, "nothing of before");
}

#[test]
fn grp_04_a_dissolved_group_leaves_the_lists_of_its_members_as_they_were() {
    for group_fanout_max in [0, 200] {
        let service = Service::start(Settings { group_fanout_max, ..Settings::default() });
        let group = service.group(GroupType::Public, &["anna"]);
        service.send("owner", &group, "hello").unwrap();
        let meeting = service.group(GroupType::Meeting, &["anna"]);
        service.send("owner", &meeting, "hello").unwrap();
        let listed = |name: &str| {
            let page = block_on(conversations::list(&service.store, APP, &user(name), None, None, PAGE)).unwrap();
            page.entries.into_iter().map(|entry| entry.conversation.unwrap().group).collect::<Vec<_>>()
        };
        assert_eq!(listed("anna").len(), 2);
        service.change("owner", GroupChange::Dissolve { group: group.clone() }).unwrap();
        for name in ["anna", "owner"] {
            assert_eq!(listed(name), [meeting.as_str()]);
            assert_eq!(block_on(conversations::total_unread(&service.store, APP, &user(name), 10)).unwrap().marked, 0);
        }
        // One of several that is asked for by name says nothing, and the others do.
        let peers = vec![Peer::Group(group.clone()), Peer::Group(meeting.clone())];
        let chosen = block_on(conversations::chosen(&service.store, APP, &user("anna"), peers)).unwrap();
        assert_eq!(chosen.iter().map(|entry| entry.last_message.is_some()).collect::<Vec<_>>(), [false, true]);
    }
}

#[test]
fn grp_11_grp_20_a_live_room_shows_nothing_of_an_earlier_group_of_its_id() {
    let service = Service::start(Settings::default());
    let group = service.group(GroupType::Public, &["anna"]);
    let seq = service.send("owner", &group, "a secret").unwrap();
    service.change("owner", GroupChange::Dissolve { group: group.clone() }).unwrap();
    service.change("eve", create(&group, GroupType::Avchatroom)).unwrap();
    service.by_admin(role(&group, "ben", GroupRole::Admin)).unwrap();
    assert_eq!(service.role_of(&group, "ben"), GroupRole::Admin);
    let sees_nothing = |name: &str| {
        let history = service.history(name, &group).map(|page| page.messages.len());
        assert_eq!(history, Ok(0), "{name}");
        let pin = Kind::Pin { peer: group.clone().into(), seq, unpin: false };
        assert!(service.conversation(name, pin).is_err(), "{name}");
    };
    ["eve", "ben"].into_iter().for_each(sees_nothing);
    service.change("eve", GroupChange::Transfer { group: group.clone(), to: user("cleo") }).unwrap();
    sees_nothing("cleo");
}

#[test]
fn grp_22_who_has_owned_a_live_room_has_no_right_in_it_any_more() {
    let service = Service::start(Settings::default());
    let room = service.group(GroupType::Avchatroom, &[]);
    let count = |name: &str, id| {
        let changes = vec![("n".into(), GroupCounterOperation::Add, 1)];
        service.change(name, GroupChange::Counters { group: room.clone(), id, changes })
    };
    count("owner", 1).unwrap();
    service.change("owner", GroupChange::Transfer { group: room.clone(), to: user("anna") }).unwrap();
    count("anna", 2).unwrap();
    assert_eq!(refused(count("owner", 3)), Refusal::RightMissing);
    assert_eq!(refused(service.send("owner", &room, "hello")), Refusal::RightMissing, "he is not in it");
    let members = service.members(&room);
    assert_eq!(members.iter().map(|member| member.user.as_str()).collect::<Vec<_>>(), ["anna"]);
}

#[test]
fn grp_07_grp_13_groups_that_a_user_knows_nothing_of_take_no_place_of_his() {
    let service = Service::start(Settings { groups_joined_max: 2, ..Settings::default() });
    for number in 0..5 {
        let id = group(&format!("!{number}"));
        service.change("eve", create(&id, GroupType::Work)).err();
        let by_admin = GroupChange::Invite { group: id, users: users(&["anna"]), silent: true };
        let _ = service.change("eve", by_admin);
    }
    service.change("anna", create(&group("own"), GroupType::Public)).unwrap();
    // The page goes on past what is not shown.
    let page = PageLimit { entries_max: 1, ..PAGE };
    let (groups, more) = block_on(read::joined(&service.store, APP, &user("anna"), None, page)).unwrap();
    assert_eq!(groups.iter().map(|(group, _)| group.group.as_str()).collect::<Vec<_>>(), ["own"]);
    assert!(!more);
    // An owner knows of the group that is his.
    service.change("eve", GroupChange::Transfer { group: group("!0"), to: user("anna") }).unwrap();
    assert!(matches!(service.log("anna").last(), Some(What::GroupEntered(entered)) if entered.group == "!0"));
    assert_eq!(refused(service.change("anna", create(&group("more"), GroupType::Work))), Refusal::GroupsFull);
}

#[test]
fn grp_10_bans_that_are_over_do_not_end_the_list() {
    let service = Service::start(Settings::default());
    let room = service.group(GroupType::Avchatroom, &[]);
    let ban = |name: &str, seconds| GroupChange::Ban {
        group: room.clone(),
        users: users(&[name]),
        seconds,
        reason: String::new(),
    };
    service.by_admin(ban("anna", 1)).unwrap();
    service.by_admin(ban("ben", 3_600)).unwrap();
    let now_ms = SystemClock::default().unix_ms() + 2_000;
    let page = PageLimit { entries_max: 1, ..PAGE };
    let bans = block_on(read::bans(&service.store, APP, Asker::Admin, &room, None, now_ms, page)).unwrap();
    assert_eq!(bans.0.iter().map(|ban| ban.user.as_str()).collect::<Vec<_>>(), ["ben"]);
    assert!(!bans.1);
}

#[test]
fn grp_13_nobody_hears_of_the_end_of_a_group_that_he_has_never_heard_of() {
    for group_fanout_max in [0, 200] {
        let service = Service::start(Settings { group_fanout_max, ..Settings::default() });
        let group = service.group(GroupType::Work, &["anna", "ben"]);
        assert_eq!(service.by_admin(GroupChange::Dissolve { group: group.clone() }), Ok(Answer::Done));
        let heard = |name: &str| service.log(name).iter().filter(|what| matches!(what, What::GroupLeft(_))).count();
        assert_eq!(["owner", "anna", "ben"].map(heard), [1, 0, 0], "{group_fanout_max}");
    }
}

#[test]
fn grp_14_grp_22_a_live_room_goes_to_somebody_who_was_muted_there() {
    let service = Service::start(Settings::default());
    let room = service.group(GroupType::Avchatroom, &[]);
    let mute = GroupChange::Mute { group: room.clone(), users: users(&["anna"]), seconds: 60 };
    assert_eq!(each(service.by_admin(mute)), [Ok(())]);
    assert_eq!(
        service.change("owner", GroupChange::Transfer { group: room.clone(), to: user("anna") }),
        Ok(Answer::Done)
    );
    assert_eq!((service.role_of(&room, "anna"), service.role_of(&room, "owner")), (GroupRole::Owner, GroupRole::None));
    let known =
        block_on(read::groups(&service.store, APP, Asker::Admin, vec![room.clone()])).unwrap().remove(0).unwrap();
    assert_eq!((known.0.owner.as_str(), known.0.member_count), ("anna", 1));
    let anna = service.members(&room).into_iter().find(|member| member.user == "anna").unwrap();
    assert!(anna.joined_ms > 0 && anna.muted_until_ms > 0, "{anna:?}");
}

/// No time passes: no token comes back.
struct OneInstant;

impl Clock for OneInstant {
    fn unix_ms(&self) -> u64 {
        1_700_000_000_000
    }

    fn monotonic_us(&self) -> u64 {
        1
    }
}

#[test]
fn grp_26_what_everybody_is_told_of_counts_as_messages_do() {
    let engine = Arc::new(Memory::new(1, Faults::default()));
    let service = Service::at(Arc::new(OneInstant), engine, StoreOptions::default());
    let service = service.with(Settings { group_sends_per_second: 4, ..Settings::default() });
    let group = service.group(GroupType::Work, &["anna"]);
    let seq = service.send("owner", &group, "hello").unwrap();
    let counters = |id| {
        let changes = vec![("likes".to_owned(), GroupCounterOperation::Add, 1)];
        GroupChange::Counters { group: group.clone(), id, changes }
    };
    let attributes = || {
        let set = [("key".to_owned(), Bytes::from_static(b"value"))].into();
        GroupChange::Attributes { group: group.clone(), set, remove: vec![], reset: false, revision: 0 }
    };
    let update = |name: &str| GroupChange::Update { group: group.clone(), update: named(name) };
    // With the message that makes four, and then none, whatever it is; but for the application.
    service.change("anna", update("one")).unwrap();
    service.change("anna", counters(1)).unwrap();
    service.change("anna", attributes()).unwrap();
    let is_over = |answer: Result<Answer, Error>| matches!(answer, Err(Error::Group(Refusal::RateLimited(_))));
    assert!(is_over(service.change("anna", update("two"))));
    assert!(is_over(service.change("anna", counters(2))));
    assert!(is_over(service.change("anna", attributes())));
    let card = MemberUpdate { name_card: Some("A".to_owned()), ..MemberUpdate::default() };
    let member = GroupChange::Member { group: group.clone(), member: user("anna"), update: Box::new(card) };
    assert!(is_over(service.change("anna", member)));
    let invite = GroupChange::Invite { group: group.clone(), users: users(&["ben"]), silent: false };
    assert!(is_over(service.change("anna", invite)));
    let peer = || Peer::Group(group.clone());
    assert!(is_over(service.conversation("anna", Kind::Pin { peer: peer(), seq, unpin: false })));
    let changes = vec![ExtensionChange { key: "like".into(), value: "1".into(), ..ExtensionChange::default() }];
    assert!(is_over(service.conversation("anna", Kind::Extensions { peer: peer(), seq, changes })));
    assert_eq!(service.by_admin(update("three")), Ok(Answer::Done));
    // A stranger takes nothing from those who may.
    assert_eq!(refused(service.change("eve", update("four"))), Refusal::RightMissing);
    assert_eq!(service.change("anna", GroupChange::Leave { group: group.clone() }), Ok(Answer::Done), "always");
}
