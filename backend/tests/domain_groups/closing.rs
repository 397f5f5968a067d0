//! Groups with as many members as there may be, and the longest names: what concerns all of them is more than a
//! transaction holds, and must neither fail nor have others fail (GRP-01, GRP-04, GRP-13).

use backend::domain::{
    keys,
    settings::{GROUP_MEMBERS_MAX, GroupMembersMax},
    unfinished,
};

use super::*;

fn long(n: usize) -> UserId {
    user(&format!("{n:0>32}"))
}

/// A service with a group that is full, whose id is as long as one may be.
fn full_group(kind: GroupType) -> (Service, GroupId) {
    let members_max = GROUP_MEMBERS_MAX;
    let group_members_max = GroupMembersMax { work: members_max, public: members_max, meeting: members_max };
    let service = Service::start(Settings { group_members_max, ..Settings::default() });
    let id = group(&"g".repeat(48));
    service.change("owner", create(&id, kind)).unwrap();
    let others: Vec<usize> = (1..members_max as usize).collect();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    for some in others.chunks(100) {
        let some: Vec<UserId> = some.iter().map(|n| long(*n)).collect();
        block_on(account::import(&service.store, &clock, APP, some.clone())).unwrap();
        let invite = GroupChange::Invite { group: id.clone(), users: some, silent: true };
        assert!(each(service.by_admin(invite)).iter().all(Result::is_ok));
    }
    (service, id)
}

fn message(to: impl Into<Peer>, id: &'static str) -> Act {
    Act::Send(NewMessage::new(APP, user("owner"), to, Bytes::from_static(id.as_bytes()), body("hello")))
}

fn has_left(service: &Service, member: &UserId) -> bool {
    let ends = |what: &What| matches!(what, What::GroupLeft(left) if left.by == "owner");
    service.log(member.as_str()).iter().filter(|what| ends(what)).count() == 1
}

#[test]
fn grp_04_a_full_group_ends_and_nobody_else_suffers() {
    let (service, id) = full_group(GroupType::Meeting);
    let dissolve = Change::new(APP, user("owner"), Kind::Group(Box::new(GroupChange::Dissolve { group: id.clone() })));
    let acts = vec![
        message(user("anna"), "before"),
        message(id.clone(), "said"),
        Act::Change(Box::new(dissolve)),
        message(user("anna"), "behind"),
    ];
    let answers = service.act_together(acts);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(refused(service.send("owner", &id, "too late")), Refusal::Unknown);
    for member in [user("owner"), long(1), long(1_500), long(5_999)] {
        assert!(has_left(&service, &member), "{member}");
        let joined = block_on(read::joined(&service.store, APP, &member, None, PAGE)).unwrap().0;
        assert!(joined.is_empty());
    }
    assert!(block_on(unfinished::acts(&service.store)).unwrap().is_empty());
    // The id is free again, with nobody in it.
    service.change("owner", create(&id, GroupType::Meeting)).unwrap();
    assert_eq!(service.members(&id).len(), 1);
}

#[test]
fn grp_13_the_first_word_in_a_full_group_reaches_all() {
    let (service, id) = full_group(GroupType::Work);
    let answers = service.act_together(vec![message(user("anna"), "before"), message(id.clone(), "first")]);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    for member in [long(1), long(5_999)] {
        assert_eq!(service.heard(member.as_str(), &id), [(1, "hello".to_owned())]);
    }
}

/// What the first transaction of a group's end leaves where its process dies behind it.
fn end_begun(service: &Service, id: &GroupId) {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Record {
        #[prost(string, tag = "1")]
        by: String,
    }
    let (id, closing) = (id.clone(), Record { by: "owner".into() }.encode_to_vec());
    let begin = async move |tx: &Tx| -> Result<(), StoreError> {
        tx.clear(&keys::group(APP, &id));
        tx.set(keys::closing_group(APP, &id), closing.clone());
        Ok(())
    };
    block_on(service.store.run(Lane::Write, "begin", begin)).unwrap();
}

#[test]
fn grp_04_a_gateway_that_starts_goes_on_with_a_groups_end() {
    let service = Service::start(Settings::default());
    let id = service.group(GroupType::Public, &["anna"]);
    service.change("ben", GroupChange::Join { group: id.clone(), wording: "me, too".into() }).unwrap();
    end_begun(&service, &id);
    // It is gone for all, and its id is not free yet.
    assert_eq!(refused(service.send("anna", &id, "x")), Refusal::Unknown);
    assert_eq!(refused(service.change("anna", GroupChange::Leave { group: id.clone() })), Refusal::Unknown);
    assert_eq!(refused(service.change("anna", create(&id, GroupType::Public))), Refusal::IdTaken);
    let [act] = block_on(unfinished::acts(&service.store)).unwrap().try_into().unwrap();
    service.act(act).unwrap();
    for member in ["owner", "admin", "anna"] {
        assert!(has_left(&service, &user(member)), "{member}");
    }
    let is_dropped = |what: &What| matches!(what, What::GroupApplication(it) if it.user == "ben" && it.by == "owner");
    assert!(service.log("ben").iter().any(is_dropped));
    assert!(block_on(unfinished::acts(&service.store)).unwrap().is_empty());
    service.change("anna", create(&id, GroupType::Public)).unwrap();
}
