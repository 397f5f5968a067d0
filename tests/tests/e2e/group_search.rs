//! Groups are found by those who may know of them (`SearchGroups`; GRP-20, GRP-21, GRP-05).
//!
//! Goal: a search finds by id and by the beginnings of a name's words every group that one may ask to join, as it is
//! now, each once however short the pages are; it tells what anybody may know, and nothing of another application.
//! Mechanics: groups of each type, which are renamed and dissolved between the same questions. Without it a group could
//! be found that is gone, or hidden from those whom it wants.

use std::collections::BTreeSet;

use bytes::Bytes;
use protocol::{
    ErrorCode,
    command::Command,
    message::{
        CreateGroup, CreateGroupReply, DissolveGroup, Done, Group, GroupType, GroupUpdate, SearchGroups,
        SearchGroupsReply, UpdateGroup,
    },
};
use tests::{Answer, App, Client, Gateway};

use GroupType::{Avchatroom, Meeting, Public, Work};

fn named(name: &str) -> Option<GroupUpdate> {
    Some(GroupUpdate { name: Some(name.to_owned()), ..GroupUpdate::default() })
}

/// Makes a group; without an id the server chooses one.
fn create(client: &mut Client, kind: GroupType, group: &str, name: &str) -> String {
    let asked = CreateGroup { r#type: kind.into(), group: group.to_owned(), info: named(name), users: Vec::new() };
    client.call::<CreateGroupReply>(Command::CreateGroup, &asked).expect("made").group
}

fn search(client: &mut Client, text: &str, from: Bytes, limit: u32) -> Answer<SearchGroupsReply> {
    client.call(Command::SearchGroups, &SearchGroups { text: text.to_owned(), from, limit })
}

/// All that is found, in pages of so many at the most.
fn found_in_pages(client: &mut Client, text: &str, limit: u32) -> Vec<Group> {
    let (mut found, mut from) = (Vec::new(), Bytes::new());
    loop {
        let page = search(client, text, from.clone(), limit).expect("searched");
        assert!(page.groups.len() <= limit as usize, "{text}: {} in a page of {limit}", page.groups.len());
        found.extend(page.groups);
        if page.next.is_empty() {
            return found;
        }
        assert_ne!(page.next, from, "{text}: a page that leads nowhere");
        from = page.next;
    }
}

/// Ids of all that is found.
fn found(client: &mut Client, text: &str) -> BTreeSet<String> {
    found_in_pages(client, text, 50).into_iter().map(|group| group.group).collect()
}

fn ids(ids: &[&String]) -> BTreeSet<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn refused<T: std::fmt::Debug>(answer: Answer<T>) -> ErrorCode {
    answer.expect_err("a refusal").code().expect("the connection goes on")
}

#[test]
fn grp_05_who_may_ask_to_join_finds_the_group_and_sees_what_anybody_may() {
    let gateway = Gateway::start();
    let (mut owner, mut eve) = (gateway.login("owner"), gateway.login("eve"));
    let [work, public, meeting, room] =
        [Work, Public, Meeting, Avchatroom].map(|kind| create(&mut owner, kind, "", "Night Owls of Tübingen"));
    for text in ["night", "NIGHT", "Owls", "tüb", "owl nig", "owls, of night!"] {
        assert_eq!(found(&mut eve, text), ids(&[&public, &meeting, &room]), "{text}");
    }
    for text in ["ight", "nightly", "night hawks", "?"] {
        assert_eq!(found(&mut eve, text), ids(&[]), "{text}");
    }
    for group in [&public, &meeting, &room] {
        assert_eq!(found(&mut eve, group), ids(&[group]), "by its id");
        assert_eq!(found(&mut eve, &group[..group.len() - 1]), ids(&[]), "which is given as a whole");
    }
    assert_eq!(found(&mut owner, &work), ids(&[]), "nobody joins it, its own members know it");
    let secret = GroupUpdate { notice: Some("the key is under the mat".into()), ..GroupUpdate::default() };
    let asked = UpdateGroup { group: public.clone(), update: Some(secret) };
    owner.call::<Done>(Command::UpdateGroup, &asked).expect("changed");
    let seen = found_in_pages(&mut eve, &public, 50).remove(0);
    assert_eq!((seen.name.as_str(), seen.r#type(), seen.member_count), ("Night Owls of Tübingen", Public, 1));
    assert_eq!((seen.notice.as_str(), seen.owner.as_str()), ("", ""));
}

#[test]
fn grp_21_grp_04_a_renamed_group_is_found_by_its_new_name_and_a_dissolved_one_not_at_all() {
    let gateway = Gateway::start();
    let (mut owner, mut eve) = (gateway.login("owner"), gateway.login("eve"));
    let group = create(&mut owner, Public, "den", "Night Owls");
    let other = create(&mut owner, Meeting, "", "Night Watch");
    let asked = UpdateGroup { group: group.clone(), update: named("Early Owls") };
    owner.call::<Done>(Command::UpdateGroup, &asked).expect("renamed");
    assert_eq!(found(&mut eve, "night"), ids(&[&other]));
    assert_eq!(found(&mut eve, "early"), ids(&[&group]));
    assert_eq!(found(&mut eve, "owls"), ids(&[&group]));
    owner.call::<Done>(Command::DissolveGroup, &DissolveGroup { group }).expect("dissolved");
    for text in ["night owls", "early", "owls", "den"] {
        assert_eq!(found(&mut eve, text), ids(&[]), "{text}");
    }
    let again = create(&mut owner, Avchatroom, "den", "Day Owls");
    assert_eq!(found(&mut eve, "owls"), ids(&[&again]));
    assert_eq!(found(&mut eve, "early"), ids(&[]));
    // As it is on disk, too.
    let gateway = gateway.restart();
    let mut eve = gateway.login("eve");
    assert_eq!((found(&mut eve, "owls"), found(&mut eve, "early")), (ids(&[&again]), ids(&[])));
}

#[test]
fn each_group_is_found_once_however_short_the_pages_are() {
    let gateway = Gateway::start();
    let (mut owner, mut eve) = (gateway.login("owner"), gateway.login("eve"));
    // One is found by its id, too; of some several words begin so; others are not meant, or may not be found.
    let mut all = vec![create(&mut owner, Public, "owl", "Owls at home"), create(&mut owner, Public, "zoo", "Owl")];
    all.extend((0..20).map(|n| create(&mut owner, Meeting, "", &format!("Owls and owlets {n}"))));
    create(&mut owner, Work, "", "Owls");
    create(&mut owner, Meeting, "", "Hawks");
    all.sort();
    for limit in [1, 2, 3, 7, 22, 23, 50] {
        let mut found: Vec<String> =
            found_in_pages(&mut eve, "owl", limit).into_iter().map(|group| group.group).collect();
        found.sort();
        assert_eq!(found, all, "pages of {limit}");
    }
}

#[test]
fn con_01_groups_of_another_application_are_never_found() {
    let gateway = Gateway::start();
    let other = App::of(&gateway.app_command(&["create", "77"]).expect("created"));
    let (mut anna, mut zoe) = (gateway.login("anna"), gateway.connect_to(&other, "zoe"));
    zoe.log_in_and_sync();
    // The same id is another group there.
    for client in [&mut anna, &mut zoe] {
        let name = format!("Owls of {}", client.user());
        assert_eq!(create(client, Public, "den", &name), "den");
    }
    let hidden = create(&mut zoe, Meeting, "lair", "Owls of zoe");
    for text in ["owls", "den"] {
        let names = |client: &mut Client| -> BTreeSet<String> {
            found_in_pages(client, text, 50).into_iter().map(|group| group.name).collect()
        };
        assert_eq!(names(&mut anna), BTreeSet::from(["Owls of anna".to_owned()]), "{text}");
        assert_eq!(names(&mut zoe), BTreeSet::from(["Owls of zoe".to_owned()]), "{text}");
    }
    assert_eq!((found(&mut anna, "lair"), found(&mut zoe, "lair")), (ids(&[]), ids(&[&hidden])));
}

#[test]
fn grp_16_what_is_no_search_is_refused_and_guests_do_not_search() {
    let gateway = Gateway::start();
    let mut eve = gateway.login("eve");
    for (text, from) in [("", 0), (&*"x".repeat(101), 0), ("owls", 513)] {
        let refusal = refused(search(&mut eve, text, vec![b'x'; from].into(), 0));
        assert_eq!(refusal, ErrorCode::ARGUMENT_INVALID, "{text}, {from}");
    }
    // A place of nobody's making leads to nothing worse than a page.
    search(&mut eve, "owls", vec![0xff; 512].into(), 0).expect("searched");
    assert_eq!(search(&mut eve, &"x".repeat(100), Bytes::new(), 0).expect("searched").groups, []);
    let mut guest = gateway.connect("nobody");
    guest.log_in_as_guest(gateway.app().sdkappid).expect("logged in");
    assert_eq!(refused(search(&mut guest, "owls", Bytes::new(), 0)), ErrorCode::GUESTS_MAY_NOT);
}
