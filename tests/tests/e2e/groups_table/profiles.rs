//! What a group and its members are called, and what a group keeps: the rows GRP-20 and GRP-21.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::message::{
    GetGroupAttributes, GetGroupCounters, GroupAttributes, GroupCounterOperation, GroupCounters, UpdateGroupAttributes,
    UpdateGroupCounter,
};
use serde_json::json;

use super::*;

fn fields(field: &str, value: &str) -> BTreeMap<String, Bytes> {
    BTreeMap::from([(field.to_owned(), Bytes::copy_from_slice(value.as_bytes()))])
}

#[test]
fn grp_20_a_group_of_each_type_has_an_id_of_ones_own_or_a_generated_one() {
    let gateway = Gateway::start();
    let (mut owner, mut other) = (gateway.login("owner"), gateway.login("other"));
    for kind in TYPES {
        let own = format!("garden-{kind:?}");
        assert_eq!(owner.try_create_group(kind, &own, &[]), Ok(own.clone()));
        let generated = owner.create_group(kind, &[]);
        assert!(generated.starts_with("@TGS#"), "{generated}");
        for group in [&own, &generated] {
            let found = owner.groups(&[group]).expect("read").remove(0);
            let info = found.group.expect("a group");
            assert_eq!((info.r#type(), info.owner.as_str()), (kind, "owner"));
            assert_eq!(found.own.expect("a member").role(), GroupRole::Owner);
        }
        assert_eq!(refused(owner.try_create_group(kind, &own, &[])), ErrorCode::GROUP_ID_OWN);
        assert_eq!(refused(other.try_create_group(kind, &own, &[])), ErrorCode::GROUP_ID_TAKEN);
        for wrong in ["@TGS#garden", "garden\u{e9}", &"g".repeat(49)] {
            assert_eq!(refused(other.try_create_group(kind, wrong, &[])), ErrorCode::GROUP_ID_INVALID, "{wrong}");
        }
    }
    assert_eq!(refused(owner.try_create_group(GroupType::Unknown, "", &[])), ErrorCode::ARGUMENT_INVALID);
}

#[test]
fn grp_21_fields_that_the_application_has_declared_are_set_by_who_may_and_others_by_nobody() {
    let settings = json!({ "group_custom_fields": ["colour"], "group_member_custom_fields": ["team"] });
    let gateway = Gateway::builder().more_settings(&settings).start();
    for mut scene in Scene::each(&gateway) {
        let group = scene.group.clone();
        let named = named(cell("GRP-02", scene.kind));
        let with = |field: &str| GroupUpdate { custom: fields(field, "red"), ..GroupUpdate::default() };
        scene.only("GRP-21", &named, |client, group, _| plain(update(client, group, with("colour"))));
        if !named.is_empty() {
            let seen = scene.member.groups(&[&group]).expect("read").remove(0).group.expect("a group");
            assert_eq!(seen.custom, fields("colour", "red"));
            assert_eq!(refused(update(&mut scene.owner, &group, with("size"))), ErrorCode::ARGUMENT_INVALID);
        }
    }
}

/// Sets somebody's name card, and a field of his.
fn call_member(client: &mut Client, group: &str, user: &str, card: &str) -> Answer<Done> {
    let update = UpdateGroupMember {
        group: group.into(),
        user: user.into(),
        name_card: Some(card.into()),
        custom: fields("team", card),
        ..UpdateGroupMember::default()
    };
    client.call(Command::UpdateGroupMember, &update)
}

#[test]
fn grp_21_members_name_themselves_and_are_named_by_those_above_them() {
    let gateway = Gateway::builder().more_settings(&json!({ "group_member_custom_fields": ["team"] })).start();
    for mut scene in Scene::each(&gateway) {
        let (kind, group) = (scene.kind, scene.group.clone());
        let own: &[Actor] = if kind == Avchatroom { &[] } else { &[Member, Admin, Owner] };
        scene.only("GRP-21", own, |client, group, _| plain(call_member(client, group, "", "me")));
        if kind == Avchatroom {
            continue; // it keeps no members
        }
        let (member, owner) = (scene.member.user().to_owned(), scene.owner.user().to_owned());
        for actor in scene.actors().into_iter().filter(|actor| *actor != Member) {
            let card = format!("by {actor:?}");
            let outcome = code_of(plain(call_member(scene.client(actor), &group, &member, &card)));
            let expected = if actor == Outsider { ErrorCode::GROUP_RIGHT_MISSING.0 } else { 0 };
            assert_eq!(outcome, expected, "{kind:?}: {actor:?}");
            let seen = scene.owner.chosen_group_members(&group, &[&member]).expect("read").remove(0);
            let now = if expected == 0 { card.as_str() } else { "me" };
            assert_eq!((seen.name_card.as_str(), &seen.custom), (now, &fields("team", now)), "{kind:?}");
        }
        for actor in scene.actors().into_iter().filter(|actor| *actor != Owner) {
            let above = call_member(scene.client(actor), &group, &owner, "boss");
            assert_eq!(refused(above), ErrorCode::GROUP_RIGHT_MISSING, "{kind:?}: {actor:?}");
        }
    }
}

#[test]
fn grp_21_attributes_and_counters_are_changed_by_members_and_read_by_who_sees_inside() {
    let gateway = Gateway::start();
    for mut scene in Scene::each(&gateway) {
        let (kind, group) = (scene.kind, scene.group.clone());
        // Of a live room nobody knows for long who is in it.
        let change: &[Actor] = if kind == Avchatroom { &[Admin, Owner] } else { &[Member, Admin, Owner] };
        scene.only("GRP-21", change, |client, group, actor| {
            let set = fields(&format!("{actor:?}"), "fine");
            let update = UpdateGroupAttributes { group: group.into(), set, ..UpdateGroupAttributes::default() };
            plain(client.call::<GroupAttributes>(Command::UpdateGroupAttributes, &update))
        });
        scene.only("GRP-21", change, |client, group, _| {
            let operation = GroupCounterOperation::Add.into();
            let update = UpdateGroupCounter { group: group.into(), key: "visits".into(), operation, value: 2 };
            plain(client.call::<GroupCounters>(Command::UpdateGroupCounter, &update))
        });
        let there: Vec<Actor> = change.iter().copied().filter(|actor| scene.actors().contains(actor)).collect();
        let see: &[Actor] =
            if kind == Avchatroom { &[Outsider, Member, Admin, Owner] } else { &[Member, Admin, Owner] };
        scene.only("GRP-21", see, |client, group, _| {
            let asked = GetGroupAttributes { group: group.into() };
            let seen: GroupAttributes = client.call(Command::GetGroupAttributes, &asked)?;
            assert_eq!((seen.attributes.len(), seen.revision), (there.len(), there.len() as u64));
            let counters: GroupCounters =
                client.call(Command::GetGroupCounters, &GetGroupCounters { group: group.into() })?;
            assert_eq!(counters.counters, [("visits".to_owned(), 2 * there.len() as i64)].into());
            Ok(Vec::new())
        });
        // Of two who change the same revision one is told to look again.
        let old = UpdateGroupAttributes { group, reset: true, revision: there.len() as u64, ..Default::default() };
        let first: Answer<GroupAttributes> = scene.owner.call(Command::UpdateGroupAttributes, &old);
        assert!(first.expect("changed").attributes.is_empty());
        let second: Answer<GroupAttributes> = scene.owner.call(Command::UpdateGroupAttributes, &old);
        assert_eq!(refused(second), ErrorCode::GROUP_ATTRIBUTES_CONFLICT, "{kind:?}");
    }
}
