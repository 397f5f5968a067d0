//! Who may do what: the rows that name somebody.

use protocol::message::{BanFromGroup, GetGroupBans, GetGroupBansReply, group_left::Why};

use super::*;

#[test]
fn grp_02_the_information_is_edited_by_whom_the_document_names() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway) {
        let named = named(cell("GRP-02", scene.kind));
        let text = |actor: Actor| Some(format!("by {actor:?}"));
        let fields: [fn(Option<String>) -> GroupUpdate; 4] = [
            |name| GroupUpdate { name, ..GroupUpdate::default() },
            |introduction| GroupUpdate { introduction, ..GroupUpdate::default() },
            |notice| GroupUpdate { notice, ..GroupUpdate::default() },
            |image_url| GroupUpdate { image_url, ..GroupUpdate::default() },
        ];
        for field in fields {
            scene.only("GRP-02", &named, |client, group, actor| plain(update(client, group, field(text(actor)))));
        }
        let now = scene.member.groups(&[&scene.group]).expect("read").remove(0).group.expect("a group");
        let last = scene.actors().into_iter().rfind(|actor| named.contains(actor));
        let last = last.map_or(String::new(), |actor| format!("by {actor:?}"));
        assert_eq!((&now.notice, &now.introduction, &now.image_url), (&last, &last, &last), "{:?}", scene.kind);
    }
}

#[test]
fn grp_04_it_is_dissolved_by_whom_the_document_names_and_everybody_is_told() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway) {
        let named = named(cell("GRP-04", scene.kind));
        told(&mut scene.member, &mut scene.outsider);
        scene.only("GRP-04", &named, |client, group, _| plain(dissolve(client, group)));
        let Scene { kind, group, mut owner, mut member, mut outsider, .. } = scene;
        if named.is_empty() {
            owner.send_to_group(&group, "still there").expect("sent");
            continue;
        }
        let left = match kind {
            Avchatroom => told_in_room(&mut member, |what| match what {
                group_push::What::Left(left) => Some(left),
                _ => None,
            }),
            _ => match &told(&mut member, &mut outsider)[..] {
                [What::GroupLeft(left)] => left.clone(),
                other => panic!("{kind:?}: {other:?}"),
            },
        };
        assert_eq!((left.group.as_str(), left.by.as_str()), (group.as_str(), owner.user()));
        assert!(matches!(left.why(), Why::Dissolved));
        assert_eq!(refused(owner.send_to_group(&group, "hello?")), ErrorCode::GROUP_UNKNOWN);
        assert_eq!(refused(dissolve(&mut owner, &group)), ErrorCode::GROUP_UNKNOWN);
    }
}

#[test]
fn grp_05_grp_06_an_outsider_applies_as_the_document_says_and_whom_it_names_decides() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway) {
        let (kind, group) = (scene.kind, scene.group.clone());
        let outsider = scene.outsider.user().to_owned();
        let joined = scene.outsider.join_group(&group);
        assert_eq!(joined.is_ok(), is_yes("GRP-05", kind), "{kind:?}");
        match cell("GRP-06", kind) {
            "–" => assert_eq!(refused(joined), ErrorCode::GROUP_RIGHT_MISSING),
            "not needed" => {
                assert!(!joined.expect("joined").applied);
                scene.outsider.send_to_group(&group, "here I am").expect("sent");
            }
            "needed (owner or admin)" => {
                assert!(joined.expect("applied").applied);
                assert_eq!(scene.role(&outsider), GroupRole::None);
                let early = scene.outsider.send_to_group(&group, "let me in");
                assert_eq!(refused(early), ErrorCode::GROUP_RIGHT_MISSING);
                for actor in [Outsider, Member] {
                    let agreed = answer(scene.client(actor), &group, &outsider, true);
                    assert_eq!(refused(agreed), ErrorCode::GROUP_RIGHT_MISSING, "{actor:?}");
                }
                answer(scene.client(Admin), &group, &outsider, false).expect("refused");
                let unknown = answer(scene.client(Owner), &group, &outsider, true);
                assert_eq!(refused(unknown), ErrorCode::GROUP_APPLICATION_UNKNOWN);
                for decides in [Admin, Owner] {
                    assert!(scene.outsider.join_group(&group).expect("applied").applied);
                    answer(scene.client(decides), &group, &outsider, true).expect("agreed");
                    assert_eq!(scene.role(&outsider), GroupRole::Member);
                    scene.outsider.leave_group(&group).expect("left");
                }
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn grp_05_who_is_in_does_not_join_again_and_who_is_kept_out_does_not_join() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway) {
        let group = scene.group.clone();
        if scene.kind != Avchatroom {
            assert_eq!(refused(scene.member.join_group(&group)), ErrorCode::GROUP_MEMBER_ALREADY);
        }
        let member = scene.member.user().to_owned();
        scene.only("GRP-10", &[Admin, Owner], |client, group, _| ban(client, group, &[&member], 600));
        if is_yes("GRP-05", scene.kind) {
            assert_eq!(refused(scene.member.join_group(&group)), ErrorCode::GROUP_BANNED, "{:?}", scene.kind);
            assert_eq!(ban(&mut scene.owner, &group, &[&member], 0), Ok(vec![0]), "let in again");
            scene.member.join_group(&group).expect("joined, or applied");
        }
    }
}

#[test]
fn grp_07_others_are_brought_in_where_the_document_says_so_and_need_not_agree() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway) {
        let named = if is_yes("GRP-07", scene.kind) { vec![Member, Admin, Owner] } else { Vec::new() };
        let guests =
            [Outsider, Member, Admin, Owner].map(|actor| gateway.login(&name(&format!("{actor:?}s"), scene.kind)));
        scene.only("GRP-07", &named, |client, group, actor| {
            client.invite_to_group(group, &[guests[actor as usize].user()])
        });
        for actor in scene.actors() {
            let expected = if named.contains(&actor) { GroupRole::Member } else { GroupRole::None };
            assert_eq!(scene.role(guests[actor as usize].user()), expected);
        }
        // Nor is a group made with members in it.
        let made = scene.owner.try_create_group(scene.kind, "", &[guests[0].user()]);
        assert_eq!(code_of(plain(made)), if named.is_empty() { ErrorCode::GROUP_RIGHT_MISSING.0 } else { 0 });
        if named.is_empty() {
            continue;
        }
        let again = scene.member.invite_to_group(&scene.group, &[guests[1].user(), "nobody-at-all"]).expect("judged");
        assert_eq!(again, [ErrorCode::GROUP_MEMBER_ALREADY.0, ErrorCode::GROUP_USER_UNKNOWN.0]);
    }
}

#[test]
fn grp_08_the_owner_leaves_where_the_document_says_so_and_others_anywhere() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway) {
        let group = scene.group.clone();
        // The connection goes out of a live room, and its user stays the owner of it.
        let left = if scene.kind == Avchatroom {
            scene.owner.leave_group(&group).expect("out of the room");
            scene.owner.leave_group(&group)
        } else {
            scene.owner.leave_group(&group)
        };
        let expected = if is_yes("GRP-08", scene.kind) { 0 } else { ErrorCode::GROUP_OWNER_STAYS.0 };
        assert_eq!(code_of(plain(left)), expected, "{:?}", scene.kind);
        for actor in scene.actors().into_iter().filter(|actor| [Member, Admin].contains(actor)) {
            scene.client(actor).leave_group(&group).expect("left");
            let sent = code_of(plain(scene.client(actor).send_to_group(&group, "hi")));
            // Who leads a live room need not be in it.
            let leads = (scene.kind, actor) == (Avchatroom, Admin);
            let expected = if leads { 0 } else { ErrorCode::GROUP_RIGHT_MISSING.0 };
            assert_eq!(sent, expected, "{:?}: {actor:?}", scene.kind);
        }
        if scene.kind != Avchatroom {
            assert_eq!(refused(scene.outsider.leave_group(&group)), ErrorCode::GROUP_RIGHT_MISSING);
        }
    }
}

#[test]
fn grp_09_administrators_are_made_where_the_document_says_so_by_the_owner_alone() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway) {
        let named = if is_yes("GRP-09", scene.kind) { vec![Owner] } else { Vec::new() };
        let member = scene.member.user().to_owned();
        scene.only("GRP-09", &named, |client, group, _| plain(set_role(client, group, &member, GroupRole::Admin)));
        if named.is_empty() {
            continue;
        }
        assert_eq!(scene.role(&member), GroupRole::Admin);
        assert_eq!(
            mute(&mut scene.member, &scene.group, "nobody-at-all", 1),
            Ok(vec![ErrorCode::GROUP_USER_UNKNOWN.0])
        );
        scene.only("GRP-09", &named, |client, group, _| plain(set_role(client, group, &member, GroupRole::Member)));
        assert_eq!(scene.role(&member), GroupRole::Member);
        let (owner, outsider) = (scene.owner.user().to_owned(), scene.outsider.user().to_owned());
        let own = set_role(&mut scene.owner, &scene.group, &owner, GroupRole::Admin);
        assert_eq!(refused(own), ErrorCode::GROUP_RIGHT_MISSING, "it is given to another first");
        let outside = set_role(&mut scene.owner, &scene.group, &outsider, GroupRole::Admin);
        assert_eq!(refused(outside), ErrorCode::GROUP_USER_UNKNOWN);
    }
}

#[test]
fn grp_10_members_are_removed_by_whom_the_document_names() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway) {
        let named = named(cell("GRP-10", scene.kind));
        let mut victim = scene.newcomer(&gateway, "victim");
        for actor in scene.actors() {
            let group = scene.group.clone();
            let outcome = code_of(scene.client(actor).remove_from_group(&group, &[victim.user()]));
            if !named.contains(&actor) {
                assert_eq!(outcome, ErrorCode::GROUP_RIGHT_MISSING.0, "{:?}: {actor:?}", scene.kind);
                victim.send_to_group(&group, "still here").expect("sent");
                continue;
            }
            assert_eq!(outcome, 0, "{:?}: {actor:?}", scene.kind);
            assert_eq!(refused(victim.send_to_group(&group, "hello?")), ErrorCode::GROUP_RIGHT_MISSING);
            let left = told(&mut victim, &mut scene.outsider).into_iter().rev().find_map(|what| match what {
                What::GroupLeft(left) => Some(left),
                _ => None,
            });
            assert!(matches!(left.expect("told").why(), Why::Removed));
            let again = code_of(scene.client(actor).remove_from_group(&group, &[victim.user()]));
            assert_eq!(again, ErrorCode::GROUP_USER_UNKNOWN.0);
            victim = scene.newcomer(&gateway, "victim");
        }
        let owner = scene.owner.user().to_owned();
        if let Some(admin) = &mut scene.admin {
            for above in [owner, admin.user().to_owned()] {
                let refused = code_of(admin.remove_from_group(&scene.group, &[&above]));
                assert_eq!(refused, ErrorCode::GROUP_RIGHT_MISSING.0, "{above} is not below an administrator");
            }
        }
    }
}

/// Keeps users out for so many seconds; 0 lets them in again.
fn ban(client: &mut Client, group: &str, users: &[&str], seconds: u32) -> Answer<Vec<u32>> {
    let users = users.iter().map(ToString::to_string).collect();
    let ban = BanFromGroup { group: group.into(), users, seconds, reason: "noise".into() };
    client.call(Command::BanFromGroup, &ban).map(codes)
}

/// Who is kept out, behind somebody, two at the most; and whether there are more.
fn bans(client: &mut Client, group: &str, after: &str) -> Answer<(Vec<String>, bool)> {
    let asked = GetGroupBans { group: group.into(), after: after.into(), limit: 2 };
    let reply: GetGroupBansReply = client.call(Command::GetGroupBans, &asked)?;
    assert!(reply.bans.iter().all(|ban| ban.until_ms > 1_700_000_000_000), "the end of a time");
    Ok((reply.bans.into_iter().map(|ban| ban.user).collect(), reply.more))
}

#[test]
fn grp_10_who_is_kept_out_is_shown_to_whoever_leads_the_group_page_by_page_and_while_it_lasts() {
    let gateway = Gateway::start();
    let kept = ["kept1", "kept2", "kept3", "kept4"];
    let mut clients = kept.map(|user| gateway.login(user));
    for mut scene in Scene::each(&gateway) {
        let (kind, group) = (scene.kind, scene.group.clone());
        let names = |users: &[&str]| users.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(bans(&mut scene.owner, &group, ""), Ok((vec![], false)), "{kind:?}");
        assert_eq!(ban(&mut scene.owner, &group, &kept, 600), Ok(vec![0; 4]));
        scene.only("GRP-10", &[Admin, Owner], |client, group, actor| {
            for (after, expected, more) in [("", &kept[..2], true), ("kept2", &kept[2..], false), ("kept4", &[], false)]
            {
                assert_eq!(bans(client, group, after)?, (names(expected), more), "{kind:?}, {actor:?}: {after}");
            }
            Ok(Vec::new())
        });
        // One has his time over soon, one is let in again: a page is filled without them.
        assert_eq!(ban(&mut scene.owner, &group, &kept[..1], 1), Ok(vec![0]));
        assert_eq!(ban(&mut scene.owner, &group, &kept[2..3], 0), Ok(vec![0]));
        let expected = Ok((names(&["kept2", "kept4"]), false));
        tests::eventually("his time is over", || bans(&mut scene.owner, &group, "") == expected);
        if is_yes("GRP-05", kind) {
            let [first, second, ..] = &mut clients;
            first.join_group(&group).expect("joined, or applied");
            assert_eq!(refused(second.join_group(&group)), ErrorCode::GROUP_BANNED, "{kind:?}");
        }
        assert_eq!(refused(bans(&mut scene.owner, "nothing", "")), ErrorCode::GROUP_UNKNOWN);
    }
}

#[test]
fn grp_14_a_member_is_muted_where_the_document_says_so_by_whoever_leads_the_group() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway) {
        let named = if is_yes("GRP-14", scene.kind) { vec![Admin, Owner] } else { Vec::new() };
        let (group, member) = (scene.group.clone(), scene.member.user().to_owned());
        scene.only("GRP-14", &named, |client, group, _| mute(client, group, &member, 600));
        let sent = code_of(plain(scene.member.send_to_group(&group, "hello")));
        if named.is_empty() {
            assert_eq!(sent, 0, "{:?}", scene.kind);
            continue;
        }
        assert_eq!(sent, ErrorCode::GROUP_MUTED.0, "{:?}", scene.kind);
        scene.only("GRP-14", &named, |client, group, _| mute(client, group, &member, 0));
        scene.member.send_to_group(&group, "hello").expect("sent");
        let owner = scene.owner.user().to_owned();
        if let Some(admin) = &mut scene.admin {
            assert_eq!(mute(admin, &group, &owner, 600), Ok(vec![ErrorCode::GROUP_RIGHT_MISSING.0]));
        }
    }
}

#[test]
fn grp_22_the_owner_gives_the_group_to_another_member() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway) {
        let (group, member) = (scene.group.clone(), scene.member.user().to_owned());
        if scene.kind != Avchatroom {
            let outsider = scene.outsider.user().to_owned();
            let outside = transfer(&mut scene.owner, &group, &outsider);
            assert_eq!(refused(outside), ErrorCode::GROUP_USER_UNKNOWN, "{:?}", scene.kind);
        }
        scene.only("GRP-22", &[Owner], |client, group, _| plain(transfer(client, group, &member)));
        let now = scene.member.groups(&[&group]).expect("read").remove(0);
        assert_eq!(now.group.expect("a group").owner, member);
        assert_eq!(now.own.expect("a member").role(), GroupRole::Owner);
        assert_eq!(refused(transfer(&mut scene.owner, &group, &member)), ErrorCode::GROUP_RIGHT_MISSING);
    }
}

#[test]
fn grp_23_whoever_leads_the_group_mutes_all_and_still_writes() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway) {
        let group = scene.group.clone();
        let all = |muted| GroupUpdate { muted_all: Some(muted), ..GroupUpdate::default() };
        scene.only("GRP-23", &[Admin, Owner], |client, group, _| plain(update(client, group, all(true))));
        assert_eq!(refused(scene.member.send_to_group(&group, "hello?")), ErrorCode::GROUP_MUTED, "{:?}", scene.kind);
        for actor in scene.actors().into_iter().filter(|actor| [Admin, Owner].contains(actor)) {
            scene.client(actor).send_to_group(&group, "silence").expect("sent");
        }
        scene.only("GRP-23", &[Admin, Owner], |client, group, _| plain(update(client, group, all(false))));
        scene.member.send_to_group(&group, "at last").expect("sent");
    }
}
