//! Friends, friend requests, friend lists, and the blacklist's part in them (REL-02 to REL-15).
//!
//! Goal: both sides always agree on who is whose friend, every device learns of it, every refusal has its published
//! code, and the send path knows friends. Mechanics: clients of several users and devices, events and readings
//! compared. Without it a friendship could be half there.

use bytes::Bytes;
use protocol::{
    ErrorCode,
    message::{
        AddFriend, AllowType, FriendAnswer, FriendList, FriendListsChanged, FriendRequest, FriendRequestState,
        FriendRequestsRead, FriendUpdate, FriendsChanged, GetFriends, ListNames, Profile, Relation, UpdateFriendLists,
        event::What,
    },
};
use serde_json::json;
use tests::{Answer, Client, Gateway, text_body, unique_id};

fn code<T: std::fmt::Debug>(answer: Answer<T>) -> Option<ErrorCode> {
    answer.expect_err("a refusal").code()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn ask(user: &str) -> AddFriend {
    AddFriend {
        user: user.to_owned(),
        remark: "R".into(),
        list: "close".into(),
        source: "Search".into(),
        wording: "it's me".into(),
    }
}

fn allow(client: &mut Client, allow: AllowType) {
    client.set_profile(Profile { allow_type: Some(allow.into()), ..Profile::default() }).expect("set");
    assert!(matches!(client.next_event(), What::Profile(_)));
}

/// Takes the next event: friends that changed, and friends that are gone.
fn next_friends(client: &mut Client) -> (Vec<String>, Vec<String>) {
    match client.next_event() {
        What::Friends(FriendsChanged { changed, removed }) => (changed, removed),
        other => panic!("not changed friends: {other:?}"),
    }
}

/// Takes the next event: a friend request.
fn next_request(client: &mut Client) -> FriendRequest {
    match client.next_event() {
        What::FriendRequest(request) => request,
        other => panic!("not a friend request: {other:?}"),
    }
}

fn relations(client: &mut Client, users: &[&str]) -> Vec<i32> {
    client.check_relations(users, false, false).expect("relations").iter().map(|result| result.relation).collect()
}

const SENT: u32 = ErrorCode::FRIEND_REQUEST_SENT.0;
const NONE: i32 = Relation::None as i32;
const USER: i32 = Relation::User as i32;
const OTHER: i32 = Relation::Other as i32;
const BOTH: i32 = Relation::Both as i32;

#[test]
fn rel_02_rel_15_whoever_lets_anybody_becomes_a_friend_at_once_on_every_device() {
    let gateway = Gateway::start();
    let (mut phone, mut laptop, mut ben) = (gateway.login("anna"), gateway.login("anna"), gateway.login("ben"));
    gateway.login("cleo");
    assert_eq!(phone.add_friends(vec![ask("ben")], false), Ok(vec![0]));
    for device in [&mut phone, &mut laptop] {
        assert!(
            matches!(device.next_event(), What::FriendLists(FriendListsChanged { lists, .. }) if lists == ["close"])
        );
        assert_eq!(next_friends(device), (names(&["ben"]), vec![]));
    }
    assert_eq!(next_friends(&mut ben), (names(&["anna"]), vec![]));
    assert_eq!((relations(&mut phone, &["ben"]), relations(&mut ben, &["anna"])), (vec![BOTH], vec![BOTH]));
    let kept = laptop.friends(Bytes::new(), 0).0.remove(0);
    assert_eq!((kept.remark.as_str(), kept.source.as_str(), kept.wording.as_str()), ("R", "Search", "it's me"));
    assert_eq!(kept.lists, ["close"]);
    assert_eq!(ben.friends(Bytes::new(), 0).0[0].remark, "", "the remark is the user's own");
    // One way.
    let one_way = AddFriend { user: "cleo".into(), ..AddFriend::default() };
    assert_eq!(phone.add_friends(vec![one_way], true), Ok(vec![0]));
    assert_eq!(relations(&mut phone, &["cleo", "ben", "nobody"]), [USER, BOTH, NONE]);
    assert_eq!(relations(&mut gateway.login("cleo"), &["anna"]), [OTHER]);
    let one_way = phone.check_relations(&["ben", "nobody"], false, true).expect("relations");
    assert_eq!((one_way[0].relation, one_way[0].code), (USER, 0), "what the other says was not asked");
    assert_eq!(one_way[1].code, ErrorCode::RELATION_USER_UNKNOWN.0);
}

#[test]
fn rel_02_each_user_named_is_judged_alone_with_a_published_code() {
    let gateway = Gateway::builder().more_settings(&json!({ "friends_max": 2, "friend_requests_max": 1 })).start();
    let mut anna = gateway.login("anna");
    let [mut ben, mut cleo, mut dan, mut eve, mut fay] =
        ["ben", "cleo", "dan", "eve", "fay"].map(|user| gateway.login(user));
    allow(&mut cleo, AllowType::NeedConfirm);
    allow(&mut dan, AllowType::DenyAny);
    allow(&mut fay, AllowType::NeedConfirm);
    eve.blacklist(&["anna"], &[]).expect("blacklisted");
    anna.blacklist(&["gus"], &[]).expect_err("does not exist");
    let all = ["ben", "cleo", "dan", "eve", "anna", "nobody", "ben", "fay"];
    let friends = all.iter().map(|user| AddFriend { user: user.to_string(), ..AddFriend::default() }).collect();
    let expected = [
        0,
        SENT,
        ErrorCode::FRIENDSHIP_DENIED.0,
        ErrorCode::FRIEND_HAS_BLACKLISTED.0,
        ErrorCode::RELATION_INVALID.0,
        ErrorCode::RELATION_USER_UNKNOWN.0,
        ErrorCode::RELATION_INVALID.0,
        ErrorCode::FRIEND_REQUESTS_FULL.0,
    ];
    assert_eq!(anna.add_friends(friends, false), Ok(expected.to_vec()));
    anna.blacklist(&["dan"], &[]).expect("blacklisted");
    assert_eq!(anna.add_friend("dan"), ErrorCode::FRIEND_ON_BLACKLIST.0);
    assert_eq!(ben.add_friend("eve"), 0);
    assert_eq!(anna.add_friend("eve"), ErrorCode::FRIEND_HAS_BLACKLISTED.0);
    assert_eq!(ben.add_friend("dan"), ErrorCode::FRIENDSHIP_DENIED.0);
    let mut gus = gateway.login("gus");
    assert_eq!(gus.add_friend("ben"), ErrorCode::PEER_FRIENDS_FULL.0);
    assert_eq!(ben.add_friend("gus"), ErrorCode::FRIENDS_FULL.0);
    // Requests that are out of range as a whole.
    let long = |bytes: usize| "x".repeat(bytes);
    let refused = [
        vec![AddFriend { remark: long(97), ..ask("gus") }],
        vec![AddFriend { wording: long(257), ..ask("gus") }],
        vec![AddFriend { source: "two words".into(), ..ask("gus") }],
        vec![AddFriend { list: long(31), ..ask("gus") }],
        vec![ask("gus"); 101],
    ];
    for friends in refused {
        assert_eq!(code(anna.add_friends(friends, false)), Some(ErrorCode::ARGUMENT_INVALID));
    }
    assert_eq!(code(anna.add_friends(vec![ask("")], false)), Some(ErrorCode::USER_INVALID));
    assert_eq!(anna.friend_names(), ["ben"]);
}

#[test]
fn rel_07_a_request_is_told_listed_read_and_granted() {
    let gateway = Gateway::start();
    let (mut anna, mut phone, mut laptop) = (gateway.login("anna"), gateway.login("ben"), gateway.login("ben"));
    allow(&mut phone, AllowType::NeedConfirm);
    assert!(matches!(laptop.next_event(), What::Profile(_)));
    assert_eq!(anna.add_friends(vec![ask("ben")], false), Ok(vec![SENT]));
    let outgoing = next_request(&mut anna);
    assert_eq!((outgoing.user.as_str(), outgoing.incoming, outgoing.state()), ("ben", false, FriendRequestState::Open));
    let incoming = next_request(&mut phone);
    assert_eq!(next_request(&mut laptop), incoming);
    assert_eq!((incoming.user.as_str(), incoming.incoming, incoming.wording.as_str()), ("anna", true, "it's me"));
    assert_eq!(relations(&mut anna, &["ben"]), [NONE], "not yet");
    let listed = laptop.friend_requests(false, "", 0).expect("requests");
    assert_eq!((listed.requests, listed.more, listed.read_ms, listed.count), (vec![incoming.clone()], false, 0, 1));
    assert_eq!(anna.friend_requests(true, "", 0).expect("requests").requests, [outgoing]);
    phone.read_friend_requests(incoming.time_ms).expect("read");
    let read = FriendRequestsRead { read_ms: incoming.time_ms };
    for device in [&mut phone, &mut laptop] {
        assert_eq!(device.next_event(), What::FriendRequestsRead(read));
    }
    assert_eq!(laptop.friend_requests(false, "", 0).expect("requests").read_ms, incoming.time_ms);
    assert_eq!(code(anna.answer_friend("ben", FriendAnswer::AgreeAndAdd)), Some(ErrorCode::FRIEND_REQUEST_UNKNOWN));
    phone.answer_friend("anna", FriendAnswer::AgreeAndAdd).expect("granted");
    for device in [&mut phone, &mut laptop] {
        assert_eq!(
            next_request(device),
            FriendRequest { state: FriendRequestState::Agreed.into(), ..incoming.clone() }
        );
        assert_eq!(next_friends(device), (names(&["anna"]), vec![]));
    }
    assert_eq!(next_request(&mut anna).state(), FriendRequestState::Agreed);
    assert!(matches!(anna.next_event(), What::FriendLists(_)));
    assert_eq!(next_friends(&mut anna), (names(&["ben"]), vec![]));
    assert_eq!((relations(&mut anna, &["ben"]), relations(&mut phone, &["anna"])), (vec![BOTH], vec![BOTH]));
    let (own, theirs) = (anna.friends(Bytes::new(), 0).0.remove(0), laptop.friends(Bytes::new(), 0).0.remove(0));
    assert_eq!((own.remark.as_str(), own.lists), ("R", names(&["close"])), "as the request wished");
    assert_eq!(theirs.remark, "my anna");
    assert_eq!(code(phone.answer_friend("anna", FriendAnswer::Refuse)), Some(ErrorCode::FRIEND_REQUEST_UNKNOWN));
}

#[test]
fn rel_07_a_request_is_refused_dropped_granted_one_way_or_met() {
    let gateway = Gateway::start();
    let mut anna = gateway.login("anna");
    let [mut ben, mut cleo, mut dan] = ["ben", "cleo", "dan"].map(|user| {
        let mut client = gateway.login(user);
        allow(&mut client, AllowType::NeedConfirm);
        client
    });
    allow(&mut anna, AllowType::NeedConfirm);
    let all = ["ben", "cleo", "dan"].iter().map(|user| AddFriend { list: String::new(), ..ask(user) }).collect();
    assert_eq!(anna.add_friends(all, false), Ok(vec![SENT; 3]));
    for client in [&mut ben, &mut cleo, &mut dan] {
        next_request(client);
        next_request(&mut anna);
    }
    let page = anna.friend_requests(true, "", 2).expect("requests");
    assert_eq!((page.requests.len(), page.more, page.count), (2, true, 3));
    let rest = anna.friend_requests(true, &page.requests[1].user, 2).expect("requests");
    assert_eq!((rest.requests[0].user.as_str(), rest.more), ("dan", false));
    ben.answer_friend("anna", FriendAnswer::Refuse).expect("refused");
    for client in [&mut ben, &mut anna] {
        assert_eq!(next_request(client).state(), FriendRequestState::Refused);
    }
    cleo.answer_friend("anna", FriendAnswer::Agree).expect("granted one way");
    assert_eq!(next_request(&mut cleo).state(), FriendRequestState::Agreed);
    assert_eq!(next_request(&mut anna).state(), FriendRequestState::Agreed);
    assert_eq!(next_friends(&mut anna), (names(&["cleo"]), vec![]));
    assert_eq!(relations(&mut anna, &["ben", "cleo"]), [NONE, USER]);
    let unknown = ErrorCode::FRIEND_REQUEST_UNKNOWN.0;
    assert_eq!(dan.drop_friend_requests(&["anna", "ben"], true), Ok(vec![unknown, unknown]), "not the user's own");
    assert_eq!(dan.drop_friend_requests(&["anna", "ben"], false), Ok(vec![0, unknown]));
    for client in [&mut dan, &mut anna] {
        assert_eq!(next_request(client).state(), FriendRequestState::Dropped);
    }
    // Each asks the other: the second has agreed.
    assert_eq!(dan.add_friend("anna"), SENT);
    assert_eq!(anna.add_friend("dan"), 0);
    assert_eq!(relations(&mut dan, &["anna"]), [BOTH]);
}

#[test]
fn rel_08_the_blacklist_ends_the_friendship_and_its_messages() {
    let gateway = Gateway::start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    assert_eq!(anna.add_friend("ben"), 0);
    next_friends(&mut ben);
    next_friends(&mut anna);
    ben.blacklist(&["anna"], &[]).expect("blacklisted");
    assert_eq!(next_friends(&mut ben), (vec![], names(&["anna"])));
    assert!(matches!(ben.next_event(), What::Blacklist(_)));
    assert_eq!(next_friends(&mut anna), (vec![], names(&["ben"])));
    assert_eq!(anna.pushes_waiting(), 0, "who is on the blacklist is not told");
    assert_eq!((relations(&mut anna, &["ben"]), relations(&mut ben, &["anna"])), (vec![NONE], vec![NONE]));
    assert_eq!(code(anna.send_as("ben", &unique_id(), text_body("?"))), Some(ErrorCode::BLACKLISTED));
    let checked = |client: &mut Client, user, one_way| {
        client.check_relations(&[user], true, one_way).expect("relations")[0].relation
    };
    assert_eq!((checked(&mut ben, "anna", false), checked(&mut anna, "ben", false)), (USER, OTHER));
    assert_eq!(checked(&mut anna, "ben", true), NONE, "one way, what the other says is not told");
    anna.blacklist(&["ben"], &[]).expect("blacklisted");
    assert_eq!(checked(&mut anna, "ben", false), BOTH);
    ben.blacklist(&[], &["anna"]).expect("taken off");
    anna.blacklist(&[], &["ben"]).expect("taken off");
    assert_eq!(anna.add_friend("ben"), 0, "and friends again");
}

#[test]
fn rel_05_friendships_end_one_way_both_ways_and_all() {
    let gateway = Gateway::start();
    let mut anna = gateway.login("anna");
    let [mut ben, mut cleo, mut dan] = ["ben", "cleo", "dan"].map(|user| gateway.login(user));
    for user in ["ben", "cleo", "dan"] {
        assert_eq!(anna.add_friend(user), 0);
        next_friends(&mut anna);
    }
    for client in [&mut ben, &mut cleo, &mut dan] {
        next_friends(client);
    }
    let unknown = ErrorCode::FRIEND_UNKNOWN.0;
    assert_eq!(anna.delete_friends(&["ben", "nobody"], true), Ok(vec![0, unknown]));
    assert_eq!(next_friends(&mut anna), (vec![], names(&["ben"])));
    assert_eq!(relations(&mut anna, &["ben"]), [OTHER]);
    assert_eq!(anna.delete_friends(&["cleo"], false), Ok(vec![0]));
    assert_eq!(next_friends(&mut cleo), (vec![], names(&["anna"])));
    assert_eq!(relations(&mut anna, &["cleo", "dan"]), [NONE, BOTH]);
    ben.ping();
    assert_eq!(ben.pushes_waiting(), 0, "one way the other is not told");
    anna.delete_all_friends().expect("all");
    assert_eq!(next_friends(&mut dan), (vec![], names(&["anna"])));
    assert!(anna.friend_names().is_empty());
    assert_eq!(code(anna.delete_friends(&["x"; 101], false)), Some(ErrorCode::ARGUMENT_INVALID));
}

#[test]
fn friends_only_applications_know_who_is_a_friend_of_whom() {
    let gateway = Gateway::builder().more_settings(&json!({ "friends_only": true })).start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    let send = |client: &mut Client, to| client.send_as(to, &unique_id(), text_body("hello"));
    let not_friends = Some(ErrorCode::NOT_FRIENDS);
    assert_eq!(code(send(&mut anna, "ben")), not_friends);
    let one_way = AddFriend { user: "ben".into(), ..AddFriend::default() };
    assert_eq!(anna.add_friends(vec![one_way], true), Ok(vec![0]));
    assert_eq!(code(send(&mut anna, "ben")), not_friends, "half a friendship is none");
    assert_eq!(ben.add_friend("anna"), 0);
    send(&mut anna, "ben").expect("friends");
    send(&mut ben, "anna").expect("friends");
    ben.delete_friends(&["anna"], true).expect("deleted");
    assert_eq!(code(send(&mut anna, "ben")), not_friends);
}

#[test]
fn rel_04_rel_09_rel_10_remarks_lists_and_custom_fields_of_many_friends() {
    let fields = json!({ "friend_custom_fields": ["Tag_SNS_Custom_Team"], "friend_lists_max": 3 });
    let gateway = Gateway::builder().more_settings(&fields).start();
    let (mut anna, mut laptop, mut ben) = (gateway.login("anna"), gateway.login("anna"), gateway.login("ben"));
    gateway.login("cleo");
    for user in ["ben", "cleo"] {
        assert_eq!(anna.add_friend(user), 0);
        next_friends(&mut laptop);
    }
    next_friends(&mut ben);
    let custom = |name: &str, value: &'static [u8]| [(name.to_owned(), Bytes::from_static(value))].into();
    let update = |user: &str| FriendUpdate {
        user: user.to_owned(),
        remark: Some(format!("my {user}")),
        lists: Some(ListNames { lists: names(&["a", "b"]) }),
        custom: custom("Tag_SNS_Custom_Team", b"blue"),
    };
    let invalid = ErrorCode::RELATION_INVALID.0;
    assert_eq!(anna.update_friends(vec![update("ben"), update("dan"), update("cleo")]), Ok(vec![0, invalid, 0]));
    assert!(matches!(laptop.next_event(), What::FriendLists(FriendListsChanged { lists, .. }) if lists == ["a", "b"]));
    assert_eq!(next_friends(&mut laptop), (names(&["ben", "cleo"]), vec![]));
    let kept = laptop.friends(Bytes::new(), 0).0;
    assert!(kept.iter().all(|friend| friend.remark == format!("my {}", friend.user) && friend.lists == ["a", "b"]));
    assert_eq!(kept[0].custom, custom("Tag_SNS_Custom_Team", b"blue"));
    ben.ping();
    assert_eq!(ben.pushes_waiting(), 0, "what is kept about a friend is the user's own");
    let only = |update: FriendUpdate| vec![FriendUpdate { user: "ben".into(), ..update }];
    let refused = [
        FriendUpdate { remark: Some("x".repeat(97)), ..FriendUpdate::default() },
        FriendUpdate { lists: Some(ListNames { lists: vec!["x".repeat(31)] }), ..FriendUpdate::default() },
        FriendUpdate { custom: custom("Tag_SNS_Custom_Hat", b"red"), ..FriendUpdate::default() },
    ];
    for update in refused {
        assert_eq!(code(anna.update_friends(only(update))), Some(ErrorCode::ARGUMENT_INVALID));
    }
    let long: std::collections::BTreeMap<_, _> = [("Tag_SNS_Custom_Team".to_owned(), Bytes::from(vec![1; 501]))].into();
    let update = FriendUpdate { custom: long, ..FriendUpdate::default() };
    assert_eq!(code(anna.update_friends(only(update))), Some(ErrorCode::PROFILE_VALUE_TOO_LONG));
    let lists = Some(ListNames { lists: names(&["c", "d"]) });
    let many = anna.update_friends(only(FriendUpdate { lists, ..FriendUpdate::default() }));
    assert_eq!(many, Ok(vec![ErrorCode::FRIEND_LISTS_FULL.0]));
    let off = FriendUpdate {
        lists: Some(ListNames::default()),
        custom: custom("Tag_SNS_Custom_Team", b""),
        ..FriendUpdate::default()
    };
    assert_eq!(anna.update_friends(only(off)), Ok(vec![0]));
    let chosen = laptop.chosen_friends(&["ben", "dan"], None).expect("friends");
    assert_eq!((chosen[0].code, chosen[1].code), (0, invalid));
    let ben = chosen[0].friend.as_ref().expect("a friend");
    assert_eq!((ben.remark.as_str(), ben.lists.len(), ben.custom.len()), ("my ben", 0, 0), "the remark stays");
}

#[test]
fn rel_11_friend_lists_are_made_filled_renamed_and_deleted() {
    let gateway = Gateway::start();
    let (mut anna, mut laptop) = (gateway.login("anna"), gateway.login("anna"));
    for user in ["ben", "cleo"] {
        gateway.login(user);
        assert_eq!(anna.add_friend(user), 0);
        next_friends(&mut laptop);
    }
    let lists = |lists: &[&str]| UpdateFriendLists { lists: names(lists), ..UpdateFriendLists::default() };
    let with = |lists: UpdateFriendLists, add: &[&str], remove: &[&str]| UpdateFriendLists {
        add: names(add),
        remove: names(remove),
        ..lists
    };
    let invalid = ErrorCode::RELATION_INVALID.0;
    let made = anna.update_friend_lists(with(lists(&["a", "b"]), &["ben", "dan"], &[]));
    assert_eq!(made, Ok(vec![0, invalid]), "dan is no friend");
    assert!(matches!(laptop.next_event(), What::FriendLists(FriendListsChanged { lists, .. }) if lists == ["a", "b"]));
    assert_eq!(next_friends(&mut laptop), (names(&["ben"]), vec![]));
    assert_eq!(anna.update_friend_lists(with(lists(&["b"]), &["cleo"], &["ben"])), Ok(vec![0, 0]));
    assert_eq!(next_friends(&mut laptop), (names(&["cleo", "ben"]), vec![]));
    let list = |name: &str, count| FriendList { name: name.into(), count };
    assert_eq!(laptop.friend_lists(), [list("a", 1), list("b", 1)]);
    let of_list = |client: &mut Client, list: &str| -> Vec<String> {
        let page = client.friends_page(GetFriends { list: list.to_owned(), ..GetFriends::default() }).expect("a page");
        page.friends.into_iter().map(|friend| friend.user).collect()
    };
    assert_eq!((of_list(&mut laptop, "a"), of_list(&mut laptop, "b")), (names(&["ben"]), names(&["cleo"])));
    let rename = |from: &str, to: &str| UpdateFriendLists { rename: to.to_owned(), ..lists(&[from]) };
    assert_eq!(anna.update_friend_lists(rename("a", "near")), Ok(vec![]));
    let renamed = FriendListsChanged { lists: names(&["near", "b"]), renamed: "a".into(), to: "near".into() };
    assert_eq!(laptop.next_event(), What::FriendLists(renamed));
    assert_eq!(of_list(&mut laptop, "near"), ["ben"]);
    for wrong in [rename("a", "x"), rename("near", "b")] {
        assert_eq!(code(anna.update_friend_lists(wrong)), Some(ErrorCode::RELATION_INVALID));
    }
    let delete = UpdateFriendLists { delete: true, ..lists(&["near"]) };
    assert_eq!(anna.update_friend_lists(delete.clone()), Ok(vec![]));
    assert!(matches!(laptop.next_event(), What::FriendLists(FriendListsChanged { lists, .. }) if lists == ["b"]));
    assert_eq!(laptop.friend_lists(), [list("b", 1)]);
    assert_eq!(laptop.friend_names().len(), 2, "the friends stay");
    let refused = [
        lists(&[]),
        lists(&[""]),
        UpdateFriendLists { delete: true, ..rename("b", "c") },
        with(delete, &["ben"], &[]),
        UpdateFriendLists { rename: "c".into(), ..lists(&["a", "b"]) },
        UpdateFriendLists { rename: "x".repeat(31), ..lists(&["b"]) },
    ];
    for update in refused {
        assert_eq!(code(anna.update_friend_lists(update.clone())), Some(ErrorCode::ARGUMENT_INVALID), "{update:?}");
    }
    let many = lists(&(0..32).map(|_| "x").collect::<Vec<_>>());
    assert_eq!(anna.update_friend_lists(many), Ok(vec![]), "named many times it is one");
    let names: Vec<String> = (0..32).map(|n| n.to_string()).collect();
    let too_many = UpdateFriendLists { lists: names, ..UpdateFriendLists::default() };
    assert_eq!(code(anna.update_friend_lists(too_many)), Some(ErrorCode::FRIEND_LISTS_FULL));
}

#[test]
fn rel_06_rel_14_a_device_keeps_friends_and_reads_only_what_changed() {
    let gateway = Gateway::start();
    let mut anna = gateway.login("anna");
    let users: Vec<String> = (0..9).map(|n| format!("user{n}")).collect();
    for user in &users {
        gateway.login(user);
        assert_eq!(anna.add_friend(user), 0);
    }
    let (friends, removed, place) = anna.friends(Bytes::new(), 2);
    assert_eq!(friends.iter().map(|friend| &friend.user).collect::<Vec<_>>(), users.iter().collect::<Vec<_>>());
    assert!(removed.is_empty());
    assert_eq!(anna.friends(place.clone(), 0), (vec![], vec![], place.clone()), "nothing changed");
    anna.delete_friends(&["user3", "user4"], false).expect("deleted");
    assert_eq!(anna.add_friend("user4"), 0);
    let remark = FriendUpdate { user: "user0".into(), remark: Some("first".into()), ..FriendUpdate::default() };
    anna.update_friends(vec![remark]).expect("updated");
    let gateway = gateway.restart();
    let mut anna = gateway.login("anna");
    let (changed, removed, place) = anna.friends(place, 2);
    assert_eq!(changed.iter().map(|friend| friend.user.as_str()).collect::<Vec<_>>(), ["user4", "user0"]);
    assert_eq!(removed, ["user3", "user4"], "applied first");
    assert_eq!(anna.friends(place, 0).0, []);
    let page = anna.friends_page(GetFriends { limit: 1, ..GetFriends::default() }).expect("a page");
    assert_eq!((page.friends.len(), page.more, page.count), (1, true, 8));
    let ahead = Bytes::from_static(&[0xff; 16]);
    let page = anna.friends_page(GetFriends { from: ahead, ..GetFriends::default() }).expect("a page");
    assert!(page.start_over && page.friends.is_empty(), "a place in another store");
    for wrong in [&b"x"[..], &[0; 17]] {
        let from = Bytes::copy_from_slice(wrong);
        let page = anna.friends_page(GetFriends { from, ..GetFriends::default() });
        assert_eq!(code(page), Some(ErrorCode::ARGUMENT_INVALID));
    }
}

#[test]
fn rel_15_two_sides_agree_however_they_meet() {
    let gateway = Gateway::start();
    let users = ["anna", "ben", "cleo", "dan"];
    std::thread::scope(|scope| {
        for (index, user) in users.iter().enumerate() {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut client = gateway.login(user);
                let others: Vec<&str> = users.iter().copied().filter(|other| other != user).collect();
                for round in 0..10 {
                    let other = others[(index + round) % others.len()];
                    match round % 3 {
                        2 => drop(client.delete_friends(&[other], false)),
                        _ => drop(client.add_friend(other)),
                    }
                }
            });
        }
    });
    let mut clients = users.map(|user| gateway.login(user));
    let says: Vec<Vec<i32>> = clients.iter_mut().map(|client| relations(client, &users)).collect();
    for (one, row) in says.iter().enumerate() {
        for (other, relation) in row.iter().enumerate() {
            assert_eq!(*relation, says[other][one], "{} and {}", users[one], users[other]);
            assert!([NONE, BOTH].contains(relation), "all was done both ways");
        }
    }
    let listed = clients[0].friend_names().len();
    assert_eq!(listed, says[0].iter().filter(|relation| **relation == BOTH).count(), "as many are read");
}
