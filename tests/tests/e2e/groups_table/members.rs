//! Who is in a group, who sees it, and who is told: the rows about membership.

use protocol::message::{
    GetGroupApplications, GetGroupApplicationsReply, GetGroupMembers, GetGroupMembersReply, GroupApplication,
    GroupApplicationState, GroupTips, element, group_tips::Kind,
};
use serde_json::json;

use super::*;

/// Tips among events, without those about the group itself.
fn tips(events: Vec<What>) -> Vec<GroupTips> {
    let element = |what| match what {
        What::Message(message) if message.from.is_empty() => message.decoded().elements.pop()?.kind,
        _ => None,
    };
    let tips = |kind| match kind {
        element::Kind::GroupTips(tips) => Some(tips),
        _ => None,
    };
    events.into_iter().filter_map(element).filter_map(tips).collect()
}

/// Has a new user try to come in; what comes of it.
fn one_more(gateway: &Gateway, scene: &mut Scene, who: &str) -> u32 {
    let mut client = gateway.login(&name(who, scene.kind));
    match scene.kind {
        Work => code_of(scene.owner.invite_to_group(&scene.group, &[client.user()])),
        Public => match client.join_group(&scene.group) {
            Ok(_) => code_of(plain(answer(&mut scene.owner, &scene.group, client.user(), true))),
            refused => code_of(plain(refused)),
        },
        _ => code_of(plain(client.join_group(&scene.group))),
    }
}

#[test]
fn grp_01_a_group_has_as_many_members_as_the_document_says_or_the_application() {
    let gateway = Gateway::start();
    let mut scenes = Scene::each(&gateway);
    let app = gateway.app().sdkappid.to_string();
    let set = |max: u32| {
        let value = json!({ "work": max, "public": max, "meeting": max });
        gateway.app_command(&["set", &app, &format!("group_members_max={value}")])
    };
    let max = |scene: &mut Scene| {
        scene.member.groups(&[&scene.group]).expect("read").remove(0).group.expect("a group").member_max
    };
    // "200 (2000, 6000)", by default and as it is raised.
    for index in 0..3 {
        for scene in &mut scenes {
            let numbers =
                cell("GRP-01", scene.kind).split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
            let numbers: Vec<u32> = numbers.map(|number| number.parse().expect("a number")).collect();
            let expected = numbers.get(index).copied().unwrap_or(0);
            assert_eq!(expected == 0, cell("GRP-01", scene.kind) == "unlimited");
            if let (Some(raised), true) = (numbers.get(index), index > 0) {
                set(*raised).expect("set");
            }
            assert_eq!(max(scene), expected, "{:?}", scene.kind);
        }
    }
    set(6_001).expect_err("more than any group may have");
    for mut scene in scenes {
        let before = scene.owner.groups(&[&scene.group]).expect("read").remove(0).group.expect("a group").member_count;
        set(before + 1).expect("set");
        assert_eq!(one_more(&gateway, &mut scene, "last"), 0, "{:?}", scene.kind);
        let full = if scene.kind == Avchatroom { 0 } else { ErrorCode::GROUP_FULL.0 };
        assert_eq!(one_more(&gateway, &mut scene, "more"), full, "{:?}", scene.kind);
        set(before + 2).expect("raised");
        assert_eq!(one_more(&gateway, &mut scene, "after"), 0, "{:?}", scene.kind);
    }
}

#[test]
fn grp_01_users_are_in_and_own_as_many_groups_as_the_application_says() {
    let settings = json!({ "groups_joined_max": 3, "groups_owned_max": 2 });
    let gateway = Gateway::builder().more_settings(&settings).start();
    let (mut owner, mut anna) = (gateway.login("owner"), gateway.login("anna"));
    owner.create_group(Meeting, &[]);
    owner.create_group(Avchatroom, &[]);
    assert_eq!(refused(owner.try_create_group(Public, "", &[])), ErrorCode::GROUPS_FULL);
    let mut others = ["ben", "cleo"].map(|user| gateway.login(user));
    let groups: Vec<String> =
        others.iter_mut().flat_map(|it| [it.create_group(Meeting, &[]), it.create_group(Meeting, &[])]).collect();
    groups[..3].iter().for_each(|group| assert!(!anna.join_group(group).expect("joined").applied));
    assert_eq!(refused(anna.join_group(&groups[3])), ErrorCode::GROUPS_FULL);
    anna.leave_group(&groups[0]).expect("left");
    anna.join_group(&groups[3]).expect("joined");
}

#[test]
fn grp_03_members_see_all_members_page_by_page_and_outsiders_none() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway).into_iter().filter(|scene| cell("GRP-03", scene.kind) == "all") {
        let more: Vec<Client> = (0..5).map(|n| scene.newcomer(&gateway, &format!("more{n}"))).collect();
        let mut expected: Vec<String> = more.iter().map(|client| client.user().to_owned()).collect();
        expected.extend(scene.actors().into_iter().skip(1).map(|actor| scene.client(actor).user().to_owned()));
        expected.sort();
        for actor in scene.actors() {
            let group = scene.group.clone();
            let client = scene.client(actor);
            let (mut found, mut asked) =
                (Vec::new(), GetGroupMembers { group, limit: 3, ..GetGroupMembers::default() });
            loop {
                match client.call::<GetGroupMembersReply>(Command::GetGroupMembers, &asked) {
                    Ok(page) => {
                        assert!(page.members.len() <= 3);
                        found.extend(page.members.into_iter().map(|member| member.user));
                        match found.last().filter(|_| page.more) {
                            Some(last) => asked.after.clone_from(last),
                            None => break,
                        }
                    }
                    Err(refusal) => {
                        assert_eq!((actor, code(&refusal)), (Outsider, ErrorCode::GROUP_RIGHT_MISSING));
                        break;
                    }
                }
            }
            assert_eq!(found, if actor == Outsider { &[][..] } else { &expected }, "{:?}: {actor:?}", scene.kind);
        }
    }
}

#[test]
fn grp_03_of_a_live_room_as_many_members_are_shown_as_the_document_says() {
    let gateway = Gateway::start();
    let shown: usize =
        cell("GRP-03", Avchatroom).strip_suffix(" shown").and_then(|it| it.parse().ok()).expect("a number");
    let mut scene = Scene::new(&gateway, Avchatroom);
    let in_it: Vec<Client> = (0..shown).map(|n| scene.newcomer(&gateway, &format!("more{n}"))).collect();
    assert_eq!(scene.owner.group_online(&scene.group), Ok((in_it.len() as u32 + 3, 0)));
    for actor in scene.actors() {
        let group = scene.group.clone();
        let (mut found, mut after) = (0, String::new());
        loop {
            let asked = GetGroupMembers { group: group.clone(), after, ..GetGroupMembers::default() };
            let page: GetGroupMembersReply = scene.client(actor).call(Command::GetGroupMembers, &asked).expect("shown");
            found += page.members.len();
            match page.members.last().filter(|_| page.more) {
                Some(last) => after = last.user.clone(),
                None => break,
            }
        }
        assert!((1..=shown).contains(&found), "{actor:?}: {found}");
    }
}

#[test]
fn grp_11_new_members_see_what_was_said_before_where_the_document_says_so() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway) {
        scene.owner.send_to_group(&scene.group, "before").expect("sent");
        let mut newcomer = scene.newcomer(&gateway, "newcomer");
        scene.owner.send_to_group(&scene.group, "after").expect("sent");
        let seen = history(&mut newcomer, &scene.group, scene.kind);
        let texts: Vec<String> = seen.iter().map(MessageExt::text).collect();
        let has = |text: &str| texts.iter().any(|known| known == text);
        assert_eq!(has("before"), is_yes("GRP-11", scene.kind), "{:?}: {texts:?}", scene.kind);
        assert_eq!(has("after"), is_yes("GRP-17", scene.kind), "{:?}: {texts:?}", scene.kind);
        // What was said before comes from the history only.
        if scene.kind != Avchatroom {
            let heard = told(&mut newcomer, &mut scene.outsider);
            let said = |what: &What| matches!(what, What::Message(message) if message.text() == "before");
            assert!(!heard.iter().any(said), "{:?}", scene.kind);
        }
    }
}

/// What others are told of, in order: a user comes and goes, one is removed, a member is muted and not any more, made
/// an administrator and not any more; as far as the type has it.
fn changes_of_members(gateway: &Gateway, scene: &mut Scene) -> Vec<(Kind, String)> {
    let (kind, group, member) = (scene.kind, scene.group.clone(), scene.member.user().to_owned());
    let coming = if kind == Work { Kind::Invited } else { Kind::Joined };
    let mut newcomer = scene.newcomer(gateway, "newcomer");
    newcomer.leave_group(&group).expect("left");
    let mut expected = vec![(coming, newcomer.user().to_owned()), (Kind::Left, newcomer.user().to_owned())];
    if !named(cell("GRP-10", kind)).is_empty() {
        let victim = scene.newcomer(gateway, "victim");
        assert_eq!(scene.owner.remove_from_group(&group, &[victim.user()]), Ok(vec![0]));
        expected.extend([coming, Kind::Removed].map(|kind| (kind, victim.user().to_owned())));
    }
    if is_yes("GRP-14", kind) {
        for seconds in [600, 0] {
            assert_eq!(mute(&mut scene.owner, &group, &member, seconds), Ok(vec![0]));
            expected.push((Kind::MemberChanged, member.clone()));
        }
    }
    if is_yes("GRP-09", kind) {
        for (role, tips) in [(GroupRole::Admin, Kind::AdminSet), (GroupRole::Member, Kind::AdminUnset)] {
            set_role(&mut scene.owner, &group, &member, role).expect("changed");
            expected.push((tips, member.clone()));
        }
    }
    expected
}

#[test]
fn grp_12_everybody_or_nobody_has_notice_of_member_changes_as_the_document_says() {
    // Each notice of a live room by itself.
    let gateway = Gateway::builder().flag("client-room-notices-per-second", 1_000).start();
    for mut scene in Scene::each(&gateway) {
        let (kind, group) = (scene.kind, scene.group.clone());
        let everyone = cell("GRP-12", kind) == "everyone";
        assert!(everyone || cell("GRP-12", kind) == "none");
        scene.owner.send_to_group(&group, "so that it is active").expect("sent");
        if kind != Avchatroom {
            told(&mut scene.member, &mut scene.outsider);
        }
        let mut expected = changes_of_members(&gateway, &mut scene);
        if !everyone {
            expected.clear();
        }
        // Everybody is told in any case when the group itself changes.
        let muted = GroupUpdate { muted_all: Some(true), ..GroupUpdate::default() };
        update(&mut scene.owner, &group, muted).expect("changed");
        expected.push((Kind::GroupChanged, String::new()));
        if kind == Avchatroom {
            told_of(&mut scene.member, expected);
            continue;
        }
        let told = tips(told(&mut scene.member, &mut scene.outsider));
        let heard: Vec<_> =
            told.iter().map(|tips| (tips.kind(), tips.users.first().cloned().unwrap_or_default())).collect();
        assert_eq!(heard, expected, "{kind:?}");
    }
}

/// Waits until somebody in a live room has been told all of it: who comes and goes may be told later, and together.
fn told_of(client: &mut Client, mut expected: Vec<(Kind, String)>) {
    while !expected.is_empty() {
        let tips = told_in_room(client, |what| match what {
            group_push::What::Tips(tips) => Some(tips),
            _ => None,
        });
        for user in tips.users.iter().map(String::as_str).chain([""]) {
            if let Some(index) = expected.iter().position(|(kind, known)| (*kind, &**known) == (tips.kind(), user)) {
                expected.remove(index);
            }
        }
    }
}

#[test]
fn grp_13_grp_24_members_know_of_a_group_once_it_is_active() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway) {
        let (kind, group) = (scene.kind, scene.group.clone());
        let at_once = cell("GRP-13", kind) == "at once";
        assert!(at_once || cell("GRP-13", kind) == "active once a message is sent");
        let is_kept = kind != Avchatroom; // live rooms are nobody's
        let in_it = |client: &mut Client| client.joined_groups().contains(&group);
        let entered = |client: &mut Client, by: &mut Client| {
            let events = told(client, by);
            events.iter().filter(|what| matches!(what, What::GroupEntered(entered) if entered.group == group)).count()
        };
        let before = entered(&mut scene.member, &mut scene.outsider);
        assert_eq!(before, usize::from(at_once && is_kept), "{kind:?}");
        assert_eq!(in_it(&mut scene.member), at_once && is_kept, "{kind:?}");
        assert_eq!(in_it(&mut scene.owner), is_kept, "{kind:?}");
        scene.owner.send_to_group(&group, "hello").expect("sent");
        let after = entered(&mut scene.member, &mut scene.outsider);
        assert_eq!(before + after, usize::from(is_kept), "{kind:?}: once");
        assert_eq!(in_it(&mut scene.member), is_kept, "{kind:?}");
        assert!(!in_it(&mut scene.outsider));
    }
}

#[test]
fn grp_25_members_who_are_online_are_counted() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway) {
        let group = scene.group.clone();
        let members = scene.actors().len() as u32 - 1;
        let tablet = gateway.login(scene.owner.user());
        assert_eq!(scene.member.group_online(&group), Ok((members, 0)), "{:?}: users, not devices", scene.kind);
        let expected = members - u32::from(scene.admin.is_some());
        drop((tablet, scene.admin.take()));
        tests::eventually("one is gone", || scene.member.group_online(&group) == Ok((expected, 0)));
        let outside = scene.outsider.group_online(&group);
        match scene.kind {
            Avchatroom => assert_eq!(outside, Ok((expected, 0))), // anybody may see who is in a live room
            _ => assert_eq!(refused(outside), ErrorCode::GROUP_RIGHT_MISSING),
        }
    }
}

/// Of a user's events, how applications stand.
fn applications(events: Vec<What>) -> Vec<GroupApplication> {
    let application = |what| match what {
        What::GroupApplication(application) => Some(application),
        _ => None,
    };
    events.into_iter().filter_map(application).collect()
}

fn open_applications(client: &mut Client) -> Vec<GroupApplication> {
    let reply =
        client.call::<GetGroupApplicationsReply>(Command::GetGroupApplications, &GetGroupApplications::default());
    reply.expect("read").applications
}

#[test]
fn grp_27_applications_and_their_handling_reach_both_sides_on_all_devices_and_wait_for_those_offline() {
    let gateway = Gateway::start();
    let mut scene = Scene::new(&gateway, Public);
    let group = scene.group.clone();
    let names = [scene.owner.user().to_owned(), name("admin", Public), scene.outsider.user().to_owned()];
    for agree in [false, true] {
        // Of each side one device is there, one is away, and one comes later than everything.
        let mut away = Vec::new();
        for user in &names {
            let device = gateway.login(user);
            away.push((user.as_str(), device.cursor.clone()));
        }
        let mut tablets = names.each_ref().map(|user| gateway.login(user));
        for actor in [Owner, Admin, Outsider] {
            told(scene.client(actor), &mut gateway.login("marker"));
        }
        assert!(scene.outsider.join_group(&group).expect("applied").applied);
        assert_eq!(open_applications(&mut scene.owner).len(), 1);
        assert_eq!(open_applications(scene.client(Admin))[0].wording, "let me in");
        assert!(open_applications(&mut scene.member).is_empty(), "a member does not decide");
        answer(scene.client(Admin), &group, &names[2], agree).expect("answered");
        assert!(open_applications(&mut scene.owner).is_empty());
        let handled = if agree { GroupApplicationState::Agreed } else { GroupApplicationState::Refused };
        let check = |who: &str, told: Vec<GroupApplication>| {
            let states: Vec<_> = told.iter().map(|told| (told.state(), told.user.as_str(), told.by.as_str())).collect();
            let expected = [(GroupApplicationState::Open, &*names[2], ""), (handled, &*names[2], &*names[1])];
            assert_eq!(states, expected, "{who}");
            assert_eq!((told[0].wording.as_str(), told[1].text.as_str()), ("let me in", "because"), "{who}");
        };
        let mut marker = gateway.login("marker");
        for actor in [Owner, Admin, Outsider] {
            // Also those who have done it: their devices are told alike.
            check("a device", applications(told(scene.client(actor), &mut marker)));
        }
        for tablet in &mut tablets {
            check("a second device", applications(told(tablet, &mut marker)));
        }
        let heard = applications(told(&mut scene.member, &mut marker));
        assert!(heard.iter().all(|told| told.user == scene.member.user()), "of others' he hears nothing");
        for (user, cursor) in away {
            let mut device = gateway.connect(user);
            device.try_login().expect("logged in");
            device.cursor = cursor;
            check("a device that was away", applications(device.try_catch_up_events().expect("read")));
        }
    }
}
