//! Friends, requests, lists and the blacklist (REL-02 to REL-15).

use super::*;

#[test]
fn rel_02_what_becomes_of_a_request_is_up_to_the_other() {
    let service = Service::start(Settings::default());
    service.allow("cleo", AllowType::NeedConfirm);
    service.allow("dan", AllowType::DenyAny);
    let results = service.add("anna", &["ben", "cleo", "dan", "anna", "nobody"], false);
    assert_eq!(
        results,
        [DONE, ASKED, Err(Refusal::Denied), Err(Refusal::Invalid), Err(Refusal::UserUnknown)],
        "each is judged on its own"
    );
    let told = service.told();
    let by_user = friends_told(&told);
    assert_eq!(by_user.len(), 2, "nobody else");
    assert_eq!(by_user["anna"], (names(&["ben"]), vec![]));
    assert_eq!(by_user["ben"], (names(&["anna"]), vec![]));
    assert_eq!(service.add("anna", &["ben"], false), [Err(Refusal::Invalid)], "a friend already");
    assert_eq!(service.relation("anna", "ben"), Some(Relation::Both));
    assert_eq!(service.relation("anna", "cleo"), Some(Relation::None));
    let own = service.friend("anna", "ben").unwrap();
    assert_eq!((own.remark.as_str(), own.wording.as_str(), own.source.as_str()), ("r", "hello", "App"));
    assert_eq!(own.lists, ["l"]);
    let theirs = service.friend("ben", "anna").unwrap();
    assert_eq!((theirs.remark.as_str(), theirs.wording.as_str()), ("", "hello"), "the remark is the user's own");
    assert!(theirs.lists.is_empty());
}

#[test]
fn rel_02_whom_the_application_has_refused_is_left_out() {
    let service = Service::start(Settings::default());
    let mut change = Change::new(APP, user("anna"), Kind::Friends(add(&["ben", "cleo", "ben"], false)));
    change.refused = vec![(user("ben"), 38_007)];
    let refused = Err(Refusal::ByApplication(38_007));
    assert_eq!(outcomes(service.act(Act::Change(Box::new(change)))), [refused, DONE, refused]);
    assert_eq!(service.relation("anna", "ben"), Some(Relation::None));
    assert_eq!(service.requests("ben", Direction::Incoming), []);
}

#[test]
fn rel_02_one_way_makes_one_friend_and_the_other_way_needs_no_asking() {
    let service = Service::start(Settings::default());
    assert_eq!(service.add("anna", &["ben"], true), [DONE]);
    assert_eq!(service.relation("anna", "ben"), Some(Relation::User));
    assert_eq!(service.relation("ben", "anna"), Some(Relation::Other));
    service.allow("anna", AllowType::NeedConfirm);
    assert_eq!(service.add("ben", &["anna"], true), [DONE], "whoever has the user as a friend has agreed");
    assert_eq!(service.relation("ben", "anna"), Some(Relation::Both));
}

#[test]
fn rel_07_requests_are_told_listed_read_and_answered() {
    let service = Service::start(Settings::default());
    service.allow("ben", AllowType::NeedConfirm);
    assert_eq!(service.add("anna", &["ben"], false), [ASKED]);
    let incoming = service.requests("ben", Direction::Incoming);
    let outgoing = service.requests("anna", Direction::Outgoing);
    assert_eq!((incoming.len(), outgoing.len()), (1, 1));
    assert_eq!((incoming[0].user.as_str(), incoming[0].wording.as_str()), ("anna", "hello"));
    let told = service.told();
    assert!(told.contains(&("ben".into(), What::FriendRequest(incoming[0].clone()))));
    assert!(told.contains(&("anna".into(), What::FriendRequest(outgoing[0].clone()))));
    // Asked again, it takes the place of the first.
    assert_eq!(service.add("anna", &["ben"], false), [ASKED]);
    assert_eq!(service.requests("ben", Direction::Incoming).len(), 1);
    service.told();
    let read_ms = service.clock.unix_ms();
    service.change("ben", Kind::Friends(FriendsChange::Read { read_ms })).unwrap();
    assert!(
        matches!(&service.told()[..], [(ben, What::FriendRequestsRead(read))] if ben == "ben" && read.read_ms <= read_ms)
    );
    service.change("ben", Kind::Friends(FriendsChange::Read { read_ms: 5 })).unwrap();
    assert!(service.told().is_empty(), "it never goes back");
    let unknown = Err(Error::Relation(Refusal::RequestUnknown));
    assert_eq!(service.answer("anna", "ben", FriendAnswer::Agree), unknown, "one's own request");
    service.answer("ben", "anna", FriendAnswer::AgreeAndAdd).unwrap();
    let told = service.told();
    let states: Vec<_> = told
        .iter()
        .filter_map(|(user, what)| match what {
            What::FriendRequest(request) => Some((user.as_str(), request.state())),
            _ => None,
        })
        .collect();
    assert_eq!(states, [("ben", FriendRequestState::Agreed), ("anna", FriendRequestState::Agreed)]);
    assert_eq!(friends_told(&told)["anna"], (names(&["ben"]), vec![]));
    assert_eq!(service.relation("anna", "ben"), Some(Relation::Both));
    let kept = service.friend("anna", "ben").unwrap();
    assert_eq!((kept.remark.as_str(), kept.lists.len()), ("r", 1), "what was to be kept from the request on");
    assert_eq!(service.friend("ben", "anna").unwrap().remark, "a remark");
    assert_eq!(service.answer("ben", "anna", FriendAnswer::Agree), unknown, "answered already");
}

#[test]
fn rel_07_a_request_can_be_granted_one_way_refused_dropped_or_met_by_another() {
    let service = Service::start(Settings::default());
    for name in ["ben", "anna", "cleo", "dan"] {
        service.allow(name, AllowType::NeedConfirm);
    }
    assert_eq!(service.add("anna", &["ben", "cleo", "dan"], false), [ASKED; 3]);
    service.answer("ben", "anna", FriendAnswer::Agree).unwrap();
    assert_eq!(service.relation("anna", "ben"), Some(Relation::User));
    service.told();
    service.answer("cleo", "anna", FriendAnswer::Refuse).unwrap();
    assert_eq!(service.relation("anna", "cleo"), Some(Relation::None));
    let told = service.told();
    assert!(matches!(&told[..], [(_, What::FriendRequest(one)), (_, What::FriendRequest(other))]
        if one.state() == FriendRequestState::Refused && other.state() == FriendRequestState::Refused));
    let drop = |direction| FriendsChange::Drop { others: users(&["dan", "ben"]), direction };
    let unknown = Err(Refusal::RequestUnknown);
    assert_eq!(service.friends("anna", drop(Direction::Incoming)), [unknown, unknown], "the other direction");
    assert_eq!(service.friends("anna", drop(Direction::Outgoing)), [DONE, unknown]);
    assert!(service.requests("dan", Direction::Incoming).is_empty());
    // Both ask: the second agrees.
    assert_eq!(service.add("cleo", &["dan"], false), [ASKED]);
    assert_eq!(service.add("dan", &["cleo"], false), [DONE]);
    assert_eq!(service.relation("cleo", "dan"), Some(Relation::Both));
    assert!(service.requests("cleo", Direction::Outgoing).is_empty());
}

#[test]
fn limits_of_friends_lists_and_requests_hold_on_both_sides() {
    let settings = Settings { friends_max: 2, friend_lists_max: 1, friend_requests_max: 1, ..Settings::default() };
    let service = Service::start(settings);
    service.befriend("anna", "ben");
    service.befriend("anna", "cleo");
    assert_eq!(service.add("anna", &["dan"], true), [Err(Refusal::Full)]);
    assert_eq!(service.add("dan", &["anna"], false), [Err(Refusal::PeerFull)]);
    assert_eq!(service.add("dan", &["anna"], true), [DONE], "one way it takes no room of the other's");
    let second = FriendUpdate { lists: Some(names(&["l", "m"])), ..FriendUpdate::default() };
    let update =
        FriendsChange::Update { friends: vec![(user("ben"), second), (user("cleo"), FriendUpdate::default())] };
    assert_eq!(service.friends("anna", update), [Err(Refusal::ListsFull), DONE]);
    let lists = ListsUpdate { lists: names(&["m"]), ..ListsUpdate::default() };
    let full = Err(Error::Relation(Refusal::ListsFull));
    assert_eq!(service.change("anna", Kind::Friends(FriendsChange::Lists(lists))), full);
    service.allow("dan", AllowType::NeedConfirm);
    service.allow("cleo", AllowType::NeedConfirm);
    assert_eq!(service.add("ben", &["dan", "cleo"], false), [ASKED, Err(Refusal::RequestsFull)]);
    assert_eq!(service.add("cleo", &["dan"], false), [Err(Refusal::RequestsFull)], "the other has one");
    // The one who has asked got a second friend meanwhile, and so has no room for a third.
    service.befriend("ben", "cleo");
    assert_eq!(service.answer("dan", "ben", FriendAnswer::Agree), Err(Error::Relation(Refusal::PeerFull)));
    service.answer("dan", "ben", FriendAnswer::Refuse).unwrap();
}

#[test]
fn rel_08_the_blacklist_ends_the_friendship_and_bars_another() {
    let service = Service::start(Settings::default());
    service.befriend("anna", "ben");
    service.allow("anna", AllowType::NeedConfirm);
    assert_eq!(service.add("cleo", &["anna"], false), [ASKED]);
    service.told();
    service.blacklist("anna", &["ben", "cleo"]).unwrap();
    let told = service.told();
    let by_user = friends_told(&told);
    assert_eq!(by_user["anna"], (vec![], names(&["ben"])));
    assert_eq!(by_user["ben"], (vec![], names(&["anna"])));
    let dropped = |(user, what): &&(String, What)| {
        matches!(what, What::FriendRequest(request) if request.state() == FriendRequestState::Dropped) && user == "cleo"
    };
    assert_eq!(told.iter().filter(dropped).count(), 1);
    assert_eq!(service.relation("anna", "ben"), Some(Relation::None));
    assert_eq!(service.add("anna", &["ben"], false), [Err(Refusal::OnBlacklist)]);
    assert_eq!(service.add("ben", &["anna"], false), [Err(Refusal::Blacklisted)]);
    let force = || FriendsChange::Add { friends: new_friends(&["ben"]), one_way: false, force: true };
    assert_eq!(outcomes(service.by_admin("anna", Kind::Friends(force()))), [Err(Refusal::OnBlacklist)]);
    // Each on its own.
    let each =
        Kind::Blacklist { add: users(&["dan", "ben", "nobody", "anna"]), remove: users(&["cleo", "eve"]), each: true };
    let results = outcomes(service.by_admin("anna", each));
    let invalid = Err(Refusal::Invalid);
    assert_eq!(results, [DONE, invalid, Err(Refusal::UserUnknown), invalid, DONE, invalid]);
    let listed = block_on(blacklist::page(&service.store, APP, &user("anna"), None, PAGE)).unwrap().0;
    assert_eq!(listed.iter().map(|listed| listed.user.clone()).collect::<Vec<_>>(), users(&["ben", "dan"]));
    assert!(listed.iter().all(|listed| listed.added_ms > 0), "{listed:?}");
    let checked = service.relations("ben", &["anna", "cleo", "eve"], Which::Blacklist);
    assert_eq!(checked, [Some(Relation::Other), Some(Relation::None), None]);
}

#[test]
fn rel_05_deleting_goes_one_way_both_ways_and_for_all() {
    let service = Service::start(Settings::default());
    for other in ["ben", "cleo", "dan"] {
        service.befriend("anna", other);
    }
    let delete = |names: &[&str], one_way| FriendsChange::Delete { friends: users(names), one_way };
    assert_eq!(service.friends("anna", delete(&["ben"], true)), [DONE]);
    assert_eq!(service.relation("anna", "ben"), Some(Relation::Other));
    let gone = Err(Refusal::FriendUnknown);
    assert_eq!(service.friends("anna", delete(&["ben", "nobody", "anna"], true)), [gone; 3]);
    assert_eq!(service.friends("anna", delete(&["ben", "cleo"], false)), [DONE, DONE], "what is left of it");
    assert_eq!(service.relation("anna", "ben"), Some(Relation::None));
    assert_eq!(service.relation("cleo", "anna"), Some(Relation::None));
    service.told();
    let all = FriendsChange::DeleteAll { friends: vec![], one_way: true };
    assert_eq!(service.change("anna", Kind::Friends(all.clone())), Ok(Answer::Done));
    assert_eq!(friends_told(&service.told())["anna"], (vec![], names(&["dan"])));
    assert_eq!(service.relation("dan", "anna"), Some(Relation::User), "the other's is the other's");
    assert_eq!(service.change("anna", Kind::Friends(all)), Ok(Answer::Done), "nothing left to do");
}

#[test]
fn rel_03_an_administrator_imports_and_a_user_does_not() {
    let service =
        Service::start(Settings { friend_custom_fields: names(&["Tag_SNS_Custom_A"]), ..Settings::default() });
    let custom: BTreeMap<String, Bytes> = [("Tag_SNS_Custom_A".to_owned(), Bytes::from_static(b"1"))].into();
    let friend = ImportedFriend { lists: names(&["x", "y"]), added_ms: 77, custom, ..ImportedFriend::default() };
    let import = |names: &[&str]| FriendsChange::Import {
        friends: names.iter().map(|name| (user(name), friend.clone())).collect(),
    };
    service.allow("ben", AllowType::DenyAny);
    assert_eq!(service.change("anna", Kind::Friends(import(&["ben"]))), Err(Error::NotAllowed));
    let force = FriendsChange::Add { friends: new_friends(&["ben"]), one_way: true, force: true };
    assert_eq!(service.change("anna", Kind::Friends(force)), Err(Error::NotAllowed));
    let results = outcomes(service.by_admin("anna", Kind::Friends(import(&["ben", "nobody", "anna", "ben"]))));
    let invalid = Err(Refusal::Invalid);
    assert_eq!(results, [DONE, Err(Refusal::UserUnknown), invalid, invalid]);
    let own = service.friend("anna", "ben").unwrap();
    assert_eq!((own.lists, own.added_ms, own.custom), (names(&["x", "y"]), 77, friend.custom.clone()));
    assert_eq!(service.relation("anna", "ben"), Some(Relation::User));
}

#[test]
fn rel_04_rel_09_rel_10_what_is_kept_about_friends_is_changed_many_at_once() {
    let service =
        Service::start(Settings { friend_custom_fields: names(&["Tag_SNS_Custom_A"]), ..Settings::default() });
    service.befriend("anna", "ben");
    service.befriend("anna", "cleo");
    let custom =
        |name: &str, value: &'static [u8]| -> BTreeMap<String, Bytes> { [(name.to_owned(), value.into())].into() };
    let update = |remark: &str, value| FriendUpdate {
        remark: Some(remark.into()),
        lists: Some(names(&["close"])),
        custom: custom("Tag_SNS_Custom_A", value),
    };
    let change = FriendsChange::Update {
        friends: vec![
            (user("ben"), update("B", b"1")),
            (user("dan"), update("D", b"2")),
            (user("cleo"), update("C", b"3")),
        ],
    };
    assert_eq!(service.friends("anna", change), [DONE, Err(Refusal::Invalid), DONE]);
    assert_eq!(friends_told(&service.told())["anna"].0, names(&["ben", "cleo"]));
    let ben = service.friend("anna", "ben").unwrap();
    assert_eq!((ben.remark.as_str(), ben.lists.clone()), ("B", names(&["close"])));
    assert_eq!(ben.custom, custom("Tag_SNS_Custom_A", b"1"));
    let off = FriendUpdate { custom: custom("Tag_SNS_Custom_A", b""), ..FriendUpdate::default() };
    service.friends("anna", FriendsChange::Update { friends: vec![(user("ben"), off)] });
    let now = service.friend("anna", "ben").unwrap();
    assert_eq!((now.custom.len(), now.remark, now.lists), (0, ben.remark, ben.lists), "the rest stays");
    service.told();
    service.friends("anna", FriendsChange::Update { friends: vec![(user("ben"), FriendUpdate::default())] });
    assert!(service.told().is_empty(), "as it is already");
    let undeclared = FriendUpdate { custom: custom("Tag_SNS_Custom_B", b"1"), ..FriendUpdate::default() };
    let update = FriendsChange::Update { friends: vec![(user("ben"), undeclared)] };
    assert!(matches!(service.change("anna", Kind::Friends(update)), Err(Error::Argument(_))));
}

#[test]
fn texts_and_numbers_of_users_have_limits() {
    let service = Service::start(Settings::default());
    let long = |bytes: usize| "x".repeat(bytes);
    let new = |new: NewFriend| FriendsChange::Add { friends: vec![(user("ben"), new)], one_way: false, force: false };
    let refused = [
        new(NewFriend { remark: long(97), ..NewFriend::default() }),
        new(NewFriend { wording: long(257), ..NewFriend::default() }),
        new(NewFriend { source: long(17), ..NewFriend::default() }),
        new(NewFriend { source: "a b".into(), ..NewFriend::default() }),
        new(NewFriend { list: long(31), ..NewFriend::default() }),
        FriendsChange::Delete { friends: vec![user("ben"); 101], one_way: false },
        FriendsChange::Lists(ListsUpdate::default()),
        FriendsChange::Lists(ListsUpdate { lists: names(&["a", "b"]), rename: "c".into(), ..ListsUpdate::default() }),
        FriendsChange::Lists(ListsUpdate { lists: vec![String::new()], ..ListsUpdate::default() }),
        FriendsChange::Lists(ListsUpdate {
            lists: names(&["a"]),
            delete: true,
            add: users(&["ben"]),
            ..Default::default()
        }),
    ];
    for change in refused {
        let answer = service.change("anna", Kind::Friends(change.clone()));
        assert!(matches!(answer, Err(Error::Argument(_))), "{answer:?} to {change:?}");
    }
    let all = FriendsChange::DeleteAll { friends: users(&["ben"]), one_way: false };
    assert_eq!(service.change("anna", Kind::Friends(all)), Err(Error::NotAllowed), "who is deleted is not said");
    let most = NewFriend { remark: long(96), wording: long(256), source: long(16), list: long(30) };
    assert_eq!(service.friends("anna", new(most)), [DONE]);
}

#[test]
fn rel_11_friend_lists_are_made_renamed_filled_and_deleted() {
    let service = Service::start(Settings::default());
    for other in ["ben", "cleo"] {
        let force = FriendsChange::Import { friends: vec![(user(other), ImportedFriend::default())] };
        outcomes(service.by_admin("anna", Kind::Friends(force)));
    }
    service.told();
    let lists = |update: ListsUpdate| service.change("anna", Kind::Friends(FriendsChange::Lists(update)));
    let members = || block_on(friends::members(&service.store, APP, &user("anna"))).unwrap();
    let (close, far) = (names(&["close"]), names(&["far"]));
    let both = ListsUpdate { lists: names(&["close", "far"]), add: users(&["ben", "dan"]), ..ListsUpdate::default() };
    assert_eq!(outcomes(lists(both)), [DONE, Err(Refusal::Invalid)], "dan is no friend");
    assert_eq!(members(), [("close".to_owned(), users(&["ben"])), ("far".to_owned(), users(&["ben"]))]);
    assert!(
        matches!(&service.told()[..], [(_, What::FriendLists(told)), (_, What::Friends(_))] if told.lists == ["close", "far"])
    );
    let swap =
        ListsUpdate { lists: far.clone(), add: users(&["cleo"]), remove: users(&["ben"]), ..ListsUpdate::default() };
    assert_eq!(outcomes(lists(swap)), [DONE, DONE]);
    assert_eq!(members(), [("close".to_owned(), users(&["ben"])), ("far".to_owned(), users(&["cleo"]))]);
    assert_eq!(service.page("anna", Place::default(), Some("far")).friends[0].user, "cleo", "one list's friends");
    service.told();
    let rename = |from: &[String], to: &str| {
        lists(ListsUpdate { lists: from.to_vec(), rename: to.into(), ..Default::default() })
    };
    assert_eq!(outcomes(rename(&close, "near")), []);
    let told = service.told();
    assert!(matches!(&told[..], [(_, What::FriendLists(told))] if told.lists == ["near", "far"]
        && (told.renamed.as_str(), told.to.as_str()) == ("close", "near")));
    assert_eq!(service.friend("anna", "ben").unwrap().lists, ["near"]);
    assert_eq!(rename(&close, "x"), Err(Error::Relation(Refusal::Invalid)), "there is none");
    assert_eq!(rename(&far, "near"), Err(Error::Relation(Refusal::Invalid)), "there is one");
    let delete = ListsUpdate { lists: names(&["near", "nothing"]), delete: true, ..ListsUpdate::default() };
    assert_eq!(outcomes(lists(delete)), []);
    assert!(service.friend("anna", "ben").unwrap().lists.is_empty());
    // A new list of the same name is another one.
    outcomes(lists(ListsUpdate { lists: names(&["near"]), ..ListsUpdate::default() }));
    assert_eq!(members(), [("far".to_owned(), users(&["cleo"])), ("near".to_owned(), vec![])]);
}

#[test]
fn rel_06_rel_14_friends_are_read_in_pages_and_then_what_changed() {
    let service = Service::start(Settings::default());
    let others: Vec<String> = (0..150).map(|n| format!("f{n:03}")).collect();
    for some in others.chunks(100) {
        let some: Vec<UserId> = some.iter().map(|name| user(name)).collect();
        block_on(account::import(&service.store, &service.clock, APP, some.clone())).unwrap();
        let friends = some.into_iter().map(|other| (other, ImportedFriend::default())).collect();
        outcomes(service.by_admin("anna", Kind::Friends(FriendsChange::Import { friends })));
    }
    let read = |mut from: Place, limit: PageLimit| {
        let (mut friends, mut removed, mut pages) = (Vec::new(), Vec::new(), 0);
        loop {
            let anna = user("anna");
            let page = friends::page(&service.store, APP, &anna, from, None, Chosen::basic(), limit);
            let page = block_on(page).unwrap();
            assert!(!page.start_over);
            assert!(Place::from_slice(&page.next.to_bytes()) == Ok(page.next));
            (from, pages) = (page.next, pages + 1);
            friends.extend(page.friends.into_iter().map(|friend| friend.user));
            removed.extend(page.removed.iter().map(UserId::to_string));
            if !page.more {
                return (friends, removed, from, pages);
            }
        }
    };
    let (friends, removed, place, pages) = read(Place::default(), PageLimit { entries_max: 7, ..PAGE });
    assert_eq!((friends, removed.len(), pages), (others, 0, 22));
    assert!(read(Place::default(), PageLimit { entries_max: 100, bytes_max: 300 }).3 > 2, "cut by bytes");
    assert_eq!(read(place, PAGE).0, Vec::<String>::new(), "nothing changed since");
    let remark = FriendUpdate { remark: Some("x".into()), ..FriendUpdate::default() };
    service.friends("anna", FriendsChange::Update { friends: vec![(user("f003"), remark)] });
    service.friends("anna", FriendsChange::Delete { friends: users(&["f001", "f002"]), one_way: false });
    assert_eq!(service.add("anna", &["f002"], false), [DONE]);
    let (changed, removed, ..) = read(place, PageLimit { entries_max: 2, ..PAGE });
    assert_eq!((changed, removed), (names(&["f003", "f002"]), names(&["f001", "f002"])));
    let (all, removed, ..) = read(Place::default(), PageLimit { entries_max: 2, ..PAGE });
    assert_eq!((all.len(), removed.len()), (149, 0), "from the start nobody is gone");
    // While the pages are being read, somebody goes who was in the first of them.
    let limit = PageLimit { entries_max: 3, ..PAGE };
    let anna = user("anna");
    let first = friends::page(&service.store, APP, &anna, Place::default(), None, Chosen::basic(), limit);
    let first = block_on(first).unwrap();
    service.friends("anna", FriendsChange::Delete { friends: users(&["f000"]), one_way: false });
    assert_eq!(first.friends[0].user, "f000");
    assert_eq!(read(first.next, PAGE).1, names(&["f000"]));
    for wrong in [&b"x"[..], &[0; 15], &[0; 17]] {
        assert!(Place::from_slice(wrong).is_err());
    }
    let ahead = Place { after: 1 << 40, base: 0 };
    assert!(service.page("anna", ahead, None).start_over, "of another store");
}

#[test]
fn rel_02_rel_08_whoever_is_no_account_has_no_relations() {
    let service = Service::start(Settings::default());
    let add = || FriendsChange::Add { friends: new_friends(&["ben"]), one_way: false, force: true };
    let blacklist = || Kind::Blacklist { add: users(&["ben"]), remove: Vec::new(), each: true };
    for kind in [Kind::Friends(add()), blacklist()] {
        assert_eq!(service.by_admin("nobody", kind), Err(Error::UserInvalid));
    }
}

#[test]
fn rel_14_who_was_removed_long_ago_is_not_known_any_more() {
    let service = Service::start(Settings::default());
    service.befriend("anna", "cleo");
    let early = service.page("anna", Place::default(), None).next;
    let once = || {
        outcomes(service.by_admin(
            "anna",
            Kind::Friends(FriendsChange::Import { friends: vec![(user("ben"), ImportedFriend::default())] }),
        ));
        service.friends("anna", FriendsChange::Delete { friends: users(&["ben"]), one_way: true });
    };
    (0..friends::REMOVED_MAX).for_each(|_| once());
    assert!(!service.page("anna", early, None).start_over);
    once();
    let page = service.page("anna", early, None);
    assert!(page.start_over && page.friends.is_empty() && page.count == 1);
    let not_asked_for = Place { base: 0, ..early };
    assert!(!service.page("anna", not_asked_for, None).start_over, "who was removed need not be known");
    assert_eq!(service.all_friends("anna").len(), 1);
}

#[test]
fn rel_05_all_friends_are_deleted_some_at_a_time() {
    let service = Service::start(Settings::default());
    let others = with_followers(&service, "anna", 230);
    for some in others.chunks(100) {
        let friends = some.iter().map(|name| (user(name), ImportedFriend::default())).collect();
        outcomes(service.by_admin("anna", Kind::Friends(FriendsChange::Import { friends })));
    }
    let before = *service.parts.lock().unwrap();
    let all = FriendsChange::DeleteAll { friends: vec![], one_way: false };
    assert_eq!(service.change("anna", Kind::Friends(all)), Ok(Answer::Done));
    assert_eq!(*service.parts.lock().unwrap() - before, 4);
    assert!(service.all_friends("anna").is_empty());
    assert!(others.iter().all(|other| service.all_friends(other).is_empty()));
}
