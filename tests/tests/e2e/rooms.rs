//! Live rooms (AVChatRoom: GRP-03, GRP-05, GRP-12, GRP-16, GRP-17, GRP-25): whoever is there, guests too, hears what is
//! said while he is there, and nothing is kept but the last few messages for whoever comes in.

use protocol::{
    ErrorCode,
    command::Command,
    message::{
        BanFromGroup, Done, GetGroupMembers, GetGroupMembersReply, GroupResults, GroupRole, GroupType, Sync, SyncReply,
        group_left::Why, group_push, group_tips::Kind,
    },
};
use serde_json::json;
use tests::{Answer, Client, Gateway, MessageExt};

fn code<T: std::fmt::Debug>(answer: Answer<T>) -> Option<ErrorCode> {
    answer.expect_err("a refusal").code()
}

fn guest(gateway: &Gateway) -> Client {
    let mut guest = gateway.connect("nobody");
    guest.log_in_as_guest(gateway.app().sdkappid).expect("logged in");
    guest
}

#[test]
fn grp_16_grp_17_everybody_there_hears_and_newcomers_the_last_twenty() {
    let gateway = Gateway::start();
    let (mut host, mut anna) = (gateway.login("host"), gateway.login("anna"));
    let room = host.create_group(GroupType::Avchatroom, &[]);
    assert_eq!(code(anna.send_to_group(&room, "from outside")), Some(ErrorCode::GROUP_RIGHT_MISSING));
    assert!(host.join_group(&room).expect("in").recent.is_empty());
    anna.join_group(&room).expect("in");
    let group_push::What::Tips(tips) = host.next_group_push() else { panic!("no tips") };
    assert!(matches!(tips.kind(), Kind::Joined));
    for n in 1..=25 {
        let talker = if n % 2 == 0 { &mut host } else { &mut anna };
        assert_eq!(talker.send_to_group(&room, &n.to_string()).expect("sent").seq, n);
    }
    for (client, own) in [(&mut host, 0), (&mut anna, 1)] {
        for n in (1..=25).filter(|n| n % 2 != own) {
            assert_eq!(client.next_room_message().seq, n, "{}", client.user());
        }
    }
    let mut guest = guest(&gateway);
    let joined = guest.join_group(&room).expect("in");
    let recent: Vec<u64> = joined.recent.iter().map(|message| message.seq).collect();
    assert_eq!(recent, (6..=25).collect::<Vec<_>>());
    host.send_to_group(&room, "hello guest").expect("sent");
    assert_eq!(guest.next_room_message().text(), "hello guest");
    assert_eq!(anna.next_room_message().text(), "hello guest");
    assert_eq!(host.group_online(&room).expect("counted"), (2, 1));
    let members = host.group_members(&room).expect("members");
    assert_eq!(members.iter().map(|member| member.user.as_str()).collect::<Vec<_>>(), ["anna", "host"]);
    // Nothing is in anybody's log, nor in a history.
    let mut anna_again = gateway.connect("anna");
    assert!(anna_again.log_in_and_sync().is_empty());
    assert!(host.group_history(&room).expect("empty").messages.is_empty());
    drop(anna);
    tests::eventually("anna is gone", || host.group_online(&room).expect("counted") == (1, 1));
    guest.leave_group(&room).expect("out");
    assert_eq!(host.group_online(&room).expect("counted"), (1, 0));
    host.send_to_group(&room, "to nobody").expect("sent");
    guest.ping();
    assert_eq!(guest.pushes_waiting(), 0);
}

#[test]
fn grp_16_guests_receive_in_live_rooms_and_do_nothing_else() {
    let gateway = Gateway::start();
    let mut host = gateway.login("host");
    let room = host.create_group(GroupType::Avchatroom, &[]);
    let meeting = host.create_group(GroupType::Meeting, &[]);
    let mut guest = guest(&gateway);
    guest.join_group(&room).expect("in");
    for answer in
        [code(guest.send_to_group(&room, "hi")), code(guest.call::<SyncReply>(Command::Sync, &Sync::default()))]
    {
        assert_eq!(answer, Some(ErrorCode::GUESTS_MAY_NOT));
    }
    assert_eq!(code(guest.join_group(&meeting)), Some(ErrorCode::GROUP_RIGHT_MISSING));
    assert_eq!(guest.groups(&[&room]).expect("read")[0].code, 0);
    let mut nobody = gateway.connect("nobody");
    assert_eq!(code(nobody.join_group(&room)), Some(ErrorCode::NOT_LOGGED_IN));
    let mut elsewhere = gateway.connect("nobody");
    assert_eq!(code(elsewhere.log_in_as_guest(1)), Some(ErrorCode::APPLICATION_UNKNOWN));
    let closed = Gateway::builder().more_settings(&json!({ "guests": false })).start();
    let mut refused = closed.connect("nobody");
    assert_eq!(code(refused.log_in_as_guest(closed.app().sdkappid)), Some(ErrorCode::NOT_ALLOWED));
}

#[test]
fn who_is_banned_is_out_at_once_and_a_dissolved_room_is_empty() {
    let gateway = Gateway::start();
    let (mut host, mut anna) = (gateway.login("host"), gateway.login("anna"));
    let room = host.create_group(GroupType::Avchatroom, &[]);
    anna.join_group(&room).expect("in");
    let ban = BanFromGroup { group: room.clone(), users: vec!["anna".into()], seconds: 60, reason: "noise".into() };
    let results: GroupResults = host.call(Command::BanFromGroup, &ban).expect("banned");
    assert_eq!(results.results[0].code, 0);
    let left = loop {
        match anna.next_group_push() {
            group_push::What::Left(left) => break left,
            group_push::What::Tips(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(left.why(), Why::Removed));
    assert_eq!(code(anna.join_group(&room)), Some(ErrorCode::GROUP_BANNED));
    assert_eq!(code(anna.send_to_group(&room, "still here?")), Some(ErrorCode::GROUP_RIGHT_MISSING));
    let mut ben = gateway.login("ben");
    ben.join_group(&room).expect("in");
    let dissolve = protocol::message::DissolveGroup { group: room.clone() };
    assert_eq!(code(ben.call::<Done>(Command::DissolveGroup, &dissolve)), Some(ErrorCode::GROUP_RIGHT_MISSING));
    host.call::<Done>(Command::DissolveGroup, &dissolve).expect("dissolved");
    let left = loop {
        match ben.next_group_push() {
            group_push::What::Left(left) => break left,
            group_push::What::Tips(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(left.why(), Why::Dissolved));
    assert_eq!(code(ben.send_to_group(&room, "hello?")), Some(ErrorCode::GROUP_UNKNOWN));
}

#[test]
fn who_is_banned_hears_nothing_more_on_any_device_until_he_may_come_back() {
    let gateway = Gateway::builder().flag("cores", 2).start();
    let [mut host, mut ben, mut phone, mut tablet] = ["host", "ben", "anna", "anna"].map(|user| gateway.login(user));
    let room = host.create_group(GroupType::Avchatroom, &[]);
    for client in [&mut host, &mut ben, &mut phone, &mut tablet] {
        client.join_group(&room).expect("in");
    }
    host.send_to_group(&room, "before").expect("sent");
    for client in [&mut ben, &mut phone, &mut tablet] {
        assert_eq!(client.next_room_message().text(), "before");
    }
    let ban = |host: &mut Client, seconds| {
        let ban = BanFromGroup { group: room.clone(), users: vec!["anna".into()], seconds, reason: "noise".into() };
        host.call::<GroupResults>(Command::BanFromGroup, &ban).expect("judged");
    };
    ban(&mut host, 60);
    for device in [&mut phone, &mut tablet] {
        while !matches!(device.next_group_push(), group_push::What::Left(left) if left.why() == Why::Removed) {}
    }
    assert_eq!(host.group_online(&room), Ok((2, 0)), "she is not counted");
    host.send_to_group(&room, "between").expect("sent");
    assert_eq!(ben.next_room_message().text(), "between");
    for device in [&mut phone, &mut tablet] {
        device.ping();
        assert_eq!(device.pushes_waiting(), 0, "she is out");
        assert_eq!(code(device.send_to_group(&room, "let me in")), Some(ErrorCode::GROUP_RIGHT_MISSING));
        assert_eq!(code(device.join_group(&room)), Some(ErrorCode::GROUP_BANNED));
    }
    ban(&mut host, 0);
    phone.join_group(&room).expect("in again");
    host.send_to_group(&room, "after").expect("sent");
    for client in [&mut ben, &mut phone] {
        assert_eq!(client.next_room_message().text(), "after");
    }
    tablet.ping();
    assert_eq!(tablet.pushes_waiting(), 0, "each device comes in for itself");
}

#[test]
fn a_new_group_of_a_dissolved_room_s_id_has_nothing_to_do_with_it() {
    let gateway = Gateway::start();
    let (mut host, mut anna) = (gateway.login("host"), gateway.login("anna"));
    let mut guest = guest(&gateway);
    let dissolve = protocol::message::DissolveGroup { group: "place".into() };
    for kind in [GroupType::Avchatroom, GroupType::Meeting] {
        host.try_create_group(GroupType::Avchatroom, "place", &[]).expect("made");
        host.join_group("place").expect("in");
        for client in [&mut anna, &mut guest] {
            client.join_group("place").expect("in");
        }
        host.send_to_group("place", "to the room").expect("sent");
        for client in [&mut anna, &mut guest] {
            assert_eq!(client.next_room_message().text(), "to the room");
        }
        host.call::<Done>(Command::DissolveGroup, &dissolve).expect("dissolved");
        host.try_create_group(kind, "place", &[]).expect("made again");
        if kind == GroupType::Avchatroom {
            assert!(host.join_group("place").expect("in").recent.is_empty(), "it was said in another room");
        }
        host.send_to_group("place", "to the new one").expect("sent");
        for client in [&mut anna, &mut guest] {
            client.ping();
            assert_eq!(client.pushes_waiting(), 0, "{} is not in it", client.user());
        }
        assert_eq!(code(anna.send_to_group("place", "hello?")), Some(ErrorCode::GROUP_RIGHT_MISSING));
        host.call::<Done>(Command::DissolveGroup, &dissolve).expect("dissolved");
    }
}

/// The next notice of who has come or gone.
fn next_notice(client: &mut Client) -> (Kind, Vec<String>) {
    loop {
        if let group_push::What::Tips(tips) = client.next_group_push() {
            return (tips.kind(), tips.users);
        }
    }
}

#[test]
fn grp_12_a_user_comes_with_the_first_device_and_goes_with_the_last() {
    let gateway = Gateway::builder().flag("cores", 2).start();
    let mut host = gateway.login("host");
    let room = host.create_group(GroupType::Avchatroom, &[]);
    host.join_group(&room).expect("in");
    let (mut phone, mut tablet) = (gateway.login("anna"), gateway.login("anna"));
    phone.join_group(&room).expect("in");
    tablet.join_group(&room).expect("in");
    tablet.join_group(&room).expect("once more does no harm");
    assert_eq!(host.group_online(&room).expect("counted"), (2, 0));
    let mut ben = gateway.login("ben");
    ben.join_group(&room).expect("in");
    let (joined, left) = (Kind::Joined, Kind::Left);
    assert_eq!(next_notice(&mut host), (joined, vec!["host".to_owned()]));
    let mut come = Vec::new();
    while come.len() < 2 {
        let (kind, users) = next_notice(&mut host);
        assert_eq!(kind, joined);
        come.extend(users);
    }
    assert_eq!(come, ["anna", "ben"], "each once");
    phone.leave_group(&room).expect("out");
    ben.leave_group(&room).expect("out");
    assert_eq!(next_notice(&mut host), (left, vec!["ben".to_owned()]), "anna is still there");
    drop(tablet);
    assert_eq!(next_notice(&mut host), (left, vec!["anna".to_owned()]), "a lost connection is told, too");
    gateway.wait_metric("gateway_room_members", &[], 1.0);
}

#[test]
fn grp_12_many_who_come_at_once_are_told_together() {
    let gateway = Gateway::builder().flag("client-room-notices-per-second", 1).start();
    let mut host = gateway.login("host");
    let room = host.create_group(GroupType::Avchatroom, &[]);
    host.join_group(&room).expect("in");
    let mut others: Vec<Client> = (0..20).map(|n| gateway.login(&format!("u{n:02}"))).collect();
    others.iter_mut().for_each(|client| _ = client.join_group(&room).expect("in"));
    // Messages do not wait for notices.
    others[0].send_to_group(&room, "hello").expect("sent");
    assert_eq!(host.next_room_message().text(), "hello");
    let (mut names, mut notices) = (Vec::new(), 0);
    while names.len() < 21 {
        let (kind, users) = next_notice(&mut host);
        assert_eq!(kind, Kind::Joined);
        names.extend(users);
        notices += 1;
    }
    names.sort();
    let expected: Vec<String> = std::iter::once("host".to_owned()).chain((0..20).map(|n| format!("u{n:02}"))).collect();
    assert_eq!(names, expected, "everybody, once");
    assert!(notices < 21, "{notices}");
}

#[test]
fn grp_16_guests_are_counted_and_no_more_than_may_be() {
    let gateway = Gateway::builder().flag("client-guests-max", 1).start();
    let first = guest(&gateway);
    let mut second = gateway.connect("nobody");
    let refused = second.log_in_as_guest(gateway.app().sdkappid).map(drop);
    assert_eq!(code(refused), Some(ErrorCode::GUESTS_FULL));
    drop(first);
    tests::eventually("the first is gone", || {
        gateway.connect("nobody").log_in_as_guest(gateway.app().sdkappid).is_ok()
    });
}

#[test]
fn grp_03_members_are_shown_page_by_page_and_rooms_are_limited() {
    let gateway = Gateway::start();
    let mut host = gateway.login("host");
    let room = host.create_group(GroupType::Avchatroom, &[]);
    let mut others: Vec<Client> = ["anna", "ben", "cleo"].map(|name| gateway.login(name)).into();
    others.iter_mut().for_each(|client| _ = client.join_group(&room).expect("in"));
    let mut page = |after: &str| {
        let asked =
            GetGroupMembers { group: room.clone(), after: after.to_owned(), limit: 2, ..GetGroupMembers::default() };
        let reply: GetGroupMembersReply = host.call(Command::GetGroupMembers, &asked).expect("members");
        (reply.members.into_iter().map(|member| member.user).collect::<Vec<_>>(), reply.more)
    };
    assert_eq!(page(""), (vec!["anna".to_owned(), "ben".to_owned()], true));
    assert_eq!(page("ben"), (vec!["cleo".to_owned()], false));
    // Ten rooms a connection; groups that are none do not count.
    let rooms: Vec<String> = (0..11).map(|_| host.create_group(GroupType::Avchatroom, &[])).collect();
    let meeting = host.create_group(GroupType::Meeting, &[]);
    let anna = &mut others[0];
    anna.leave_group(&room).expect("out");
    rooms[..10].iter().for_each(|room| _ = anna.join_group(room).expect("in"));
    assert_eq!(code(anna.join_group(&rooms[10])), Some(ErrorCode::GROUPS_FULL));
    anna.join_group(&rooms[3]).expect("in already");
    anna.join_group(&meeting).expect("no room");
}

#[test]
fn grp_03_whoever_is_in_a_live_room_is_told_with_his_role_and_looked_for_by_it() {
    let gateway = Gateway::start();
    let (mut host, mut anna) = (gateway.login("host"), gateway.login("anna"));
    let room = host.create_group(GroupType::Avchatroom, &[]);
    anna.join_group(&room).expect("in");
    let of = |client: &mut Client, roles: &[GroupRole]| {
        let roles = roles.iter().map(|role| i32::from(*role)).collect();
        let asked = GetGroupMembers { group: room.clone(), roles, ..GetGroupMembers::default() };
        let reply: GetGroupMembersReply = client.call(Command::GetGroupMembers, &asked).expect("members");
        assert!(reply.members.iter().all(|member| member.joined_ms > 0));
        reply.members.into_iter().map(|member| (member.user.clone(), member.role())).collect::<Vec<_>>()
    };
    assert_eq!(of(&mut anna, &[]), [("anna".to_owned(), GroupRole::Member)], "the host is not there");
    host.join_group(&room).expect("in");
    let (anna_is, host_is) = (("anna".to_owned(), GroupRole::Member), ("host".to_owned(), GroupRole::Owner));
    assert_eq!(of(&mut anna, &[]), [anna_is.clone(), host_is.clone()]);
    assert_eq!(of(&mut anna, &[GroupRole::Owner]), [host_is]);
    assert_eq!(of(&mut anna, &[GroupRole::Member]), [anna_is]);
    assert_eq!(of(&mut anna, &[GroupRole::Admin]), []);
}
