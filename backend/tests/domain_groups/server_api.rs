//! What an application's server does with messages of groups (CON-10): it speaks in anybody's name, is known again when
//! it repeats itself, takes back what somebody has said, sets what is unread, reads receipts and the file of an hour.

use std::{
    io::Read as _,
    sync::{Arc, Mutex},
};

use backend::domain::{
    act::Author,
    conversations,
    groups::admin,
    hourly::{self, Chat, Layout},
    message::Earlier,
};

use super::*;

const HOUR_MS: u64 = 3_600_000;

fn now_ms() -> u64 {
    SystemClock::default().unix_ms()
}

fn by_server(new: &mut NewMessage) {
    new.by = Author::Admin;
}

fn unread(service: &Service, name: &str, group: &GroupId) -> u64 {
    let peers = vec![Peer::Group(group.clone())];
    block_on(conversations::chosen(&service.store, APP, &user(name), peers)).unwrap().remove(0).unread
}

/// The same for small and for large groups.
#[test]
fn con_10_grp_15_what_the_server_says_in_a_name_is_that_users_own() {
    for group_fanout_max in [0, 3, 200] {
        let service = Service::start(Settings { group_fanout_max, ..Settings::default() });
        let group = service.group(GroupType::Meeting, &["anna", "ben"]);
        service.change("owner", mute_all(&group)).unwrap();
        assert_eq!(refused(service.send("anna", &group, "hello")), Refusal::Muted);
        for name in ["anna", "eve", "administrator"] {
            service.send_with(name, &group, name, by_server).unwrap();
        }
        let heard = service.heard("ben", &group).into_iter().map(|(_, said)| said);
        let texts: Vec<String> = heard.filter(|said| !said.contains('_')).collect();
        assert_eq!(texts, ["anna", "eve", "administrator"], "{group_fanout_max}");
        assert_eq!((unread(&service, "ben", &group), unread(&service, "anna", &group)), (3, 2));
        // Who was no member becomes one: nothing of his own is unread, before or after.
        service.change("eve", GroupChange::Join { group: group.clone(), wording: String::new() }).unwrap();
        assert_eq!(unread(&service, "eve", &group), 0);
        service.send_with("ben", &group, "welcome", by_server).unwrap();
        service.send_with("eve", &group, "thanks", by_server).unwrap();
        assert_eq!(unread(&service, "eve", &group), 1);
        // The same of a member who was gone meanwhile.
        service.change("anna", GroupChange::Leave { group: group.clone() }).unwrap();
        service.send_with("anna", &group, "without her", by_server).unwrap();
        service.change("anna", GroupChange::Join { group: group.clone(), wording: String::new() }).unwrap();
        assert_eq!(unread(&service, "anna", &group), 0);
        service.send_with("anna", &group, "again", by_server).unwrap();
        service.send_with("ben", &group, "hello", by_server).unwrap();
        assert_eq!(unread(&service, "anna", &group), 1);
    }
}

fn mute_all(group: &GroupId) -> GroupChange {
    let update = Box::new(GroupUpdate { muted_all: Some(true), ..GroupUpdate::default() });
    GroupChange::Update { group: group.clone(), update }
}

#[test]
fn con_10_grp_26_a_repeat_is_known_by_the_id_that_it_would_have_had_before() {
    let service = Service::start(Settings::default());
    let known_as = |id: &'static str, before: &'static str, since_ms: u64| {
        move |new: &mut NewMessage| {
            new.client_message_id = Bytes::from_static(id.as_bytes());
            let client_message_id = Bytes::from_static(before.as_bytes());
            new.earlier = Some(Earlier { client_message_id, since_ms });
        }
    };
    let long_ago = now_ms() - HOUR_MS;
    for kind in [GroupType::Public, GroupType::Avchatroom] {
        let group = service.group(kind, &[]);
        let (one, two, none) = match kind {
            GroupType::Public => ("p1", "p2", "p0"),
            _ => ("r1", "r2", "r0"),
        };
        let first = service.send_with("owner", &group, "once", known_as(one, none, long_ago)).unwrap();
        assert_eq!(service.send_with("owner", &group, "once", known_as(one, none, long_ago)), Ok(first));
        assert_eq!(service.send_with("owner", &group, "once", known_as(two, one, long_ago)), Ok(first), "{kind:?}");
        // What is that long ago is another message.
        let later = now_ms() + HOUR_MS;
        assert_eq!(service.send_with("owner", &group, "once", known_as(two, one, later)), Ok(first + 1), "{kind:?}");
        // An id of one's own still names one message for good.
        assert_eq!(service.send_with("owner", &group, "once", known_as(two, one, later)), Ok(first + 1));
    }
    let elsewhere = service.group(GroupType::Meeting, &[]);
    let again = service.send_with("owner", &elsewhere, "once", known_as("p3", "p2", long_ago));
    assert_eq!(again, Err(Error::ClientMessageIdReused));
    let too_long = known_as("p4", "an id of more than thirty-two bytes", long_ago);
    assert!(matches!(service.send_with("owner", &elsewhere, "once", too_long), Err(Error::Argument(_))));
}

#[test]
fn con_10_what_one_sender_has_said_is_found_among_the_newest() {
    let service = Service::start(Settings::default());
    let group = service.group(GroupType::Meeting, &["anna", "ben"]);
    for n in 1..=6 {
        service.send(if n % 2 == 0 { "anna" } else { "ben" }, &group, "x").unwrap();
    }
    let sent = |group: &GroupId, name, newest| block_on(admin::sent(&service.store, APP, group, &user(name), newest));
    assert_eq!(sent(&group, "anna", 1_000), Ok(vec![6, 4, 2]));
    assert_eq!(sent(&group, "anna", 3), Ok(vec![6, 4]));
    assert_eq!(sent(&group, "ben", 1), Ok(vec![]));
    assert_eq!(sent(&group, "eve", 1_000), Ok(vec![]));
    assert_eq!(refused(sent(&super::group("nothing"), "anna", 1)), Refusal::Unknown);
}

#[test]
fn con_10_grp_15_unread_numbers_are_set_for_members_where_they_are_counted() {
    let service = Service::start(Settings::default());
    let set = |group: &GroupId, name: &str, count| {
        service.by_admin(GroupChange::Unread { group: group.clone(), member: user(name), count })
    };
    for kind in KINDS {
        let group = service.group(kind, &["anna"]);
        if kind == GroupType::Avchatroom {
            assert_eq!(refused(set(&group, "owner", 1)), Refusal::RightMissing);
            continue;
        }
        for _ in 0..4 {
            service.send("owner", &group, "x").unwrap();
        }
        service.send("anna", &group, "mine").unwrap();
        for (asked, expected) in [(2, 2), (0, 0), (3, 3), (u32::MAX, 4)] {
            let (_, cursor) = service.log_since("anna", Versionstamp::ZERO);
            set(&group, "anna", asked).unwrap();
            assert_eq!(unread(&service, "anna", &group), expected, "{kind:?}: {asked}");
            let news = service.log_since("anna", cursor).0;
            assert!(news.iter().any(|what| matches!(what, What::Conversation(_))), "her devices learn of it");
        }
        service.send("owner", &group, "one more").unwrap();
        assert_eq!(unread(&service, "anna", &group), 5);
        // Who came later, and sees nothing from before, has less that could be unread.
        let invite = GroupChange::Invite { group: group.clone(), users: users(&["cleo"]), silent: true };
        assert!(each(service.by_admin(invite)).iter().all(Result::is_ok));
        service.send("owner", &group, "and one").unwrap();
        set(&group, "cleo", u32::MAX).unwrap();
        let expected = if kind == GroupType::Meeting { 7 } else { 1 };
        assert_eq!(unread(&service, "cleo", &group), expected, "{kind:?}");
        assert_eq!(refused(set(&group, "eve", 1)), Refusal::UserUnknown);
        let own = GroupChange::Unread { group: group.clone(), member: user("anna"), count: 1 };
        assert_eq!(service.change("anna", own), Err(Error::NotAllowed), "nobody sets it himself");
    }
    assert_eq!(refused(set(&super::group("nothing"), "anna", 1)), Refusal::Unknown);
}

#[test]
fn msg_07_the_server_sends_receipts_in_a_members_name_and_reads_them() {
    let service = Service::start(Settings::default());
    let group = service.group(GroupType::Work, &["anna", "ben"]);
    let asks = |new: &mut NewMessage| (new.by, new.treatment.need_receipt) = (Author::Admin, true);
    let asked = service.send_with("administrator", &group, "read this", asks).unwrap();
    let plain = service.send("owner", &group, "as you like").unwrap();
    let receipt = |name: &str, seq: u64| {
        let kind = Kind::Receipts { peer: group.clone().into(), seqs: vec![seq] };
        service.act(Act::Change(Box::new(Change::by_admin(APP, user(name), kind))))
    };
    let found = |seq: u64, unread: bool| {
        let query = read::ReceiptsQuery { seq, unread, after: None, limit: PAGE };
        block_on(read::receipts(&service.store, APP, Asker::Admin, &group, query))
    };
    receipt("anna", asked).unwrap();
    let read = found(asked, false).unwrap();
    assert_eq!((read.is_asked, read.read, read.unread, read.users), (true, 1, 2, users(&["anna"])));
    assert_eq!(found(asked, true).unwrap().users, users(&["ben", "owner"]));
    assert!(!found(plain, false).unwrap().is_asked);
    assert!(matches!(receipt("anna", plain), Err(Error::Argument(_))), "it asks for none");
    assert_eq!(refused(receipt("eve", asked)), Refusal::RightMissing);
    assert_eq!(refused(found(99, false)), Refusal::MessageUnknown);
}

/// A file that holds who has said which sequence, and notes where.
struct Lines(Mutex<Vec<String>>);

impl Layout for Lines {
    fn head(&self) -> Vec<u8> {
        b"head".to_vec()
    }

    fn message(&self, message: &Message, first: bool) -> Vec<u8> {
        let line = format!("{}{}{} {}", message.to, message.group, message.seq, message.from);
        self.0.lock().unwrap().push(line.clone());
        format!("{}{line}", if first { ":" } else { "," }).into_bytes()
    }

    fn tail(&self) -> Vec<u8> {
        b"tail".to_vec()
    }
}

/// The content of the file of an hour.
fn hour_file(service: &Service, chat: Chat, hour: u32) -> Option<String> {
    let (rng, lines) = (SeededRng::new(2), Arc::new(Lines(Mutex::default())));
    let file = block_on(hourly::file(&service.store, &rng, APP, (chat, hour), hour, lines.clone())).unwrap()?;
    let chunk = |chunk| block_on(hourly::chunk(&service.store, APP, hour, file.attempt, chunk)).unwrap();
    let packed: Vec<u8> = (0..file.chunks).flat_map(chunk).collect();
    assert_eq!(packed.len() as u64, file.gzip_bytes);
    let mut content = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut content).unwrap();
    assert_eq!(content.len() as u64, file.bytes);
    assert!(lines.0.lock().unwrap().iter().all(|line| content.contains(line)));
    Some(content)
}

#[test]
fn msg_01_an_hour_has_a_file_of_groups_and_one_of_users() {
    let service = Service::start(Settings::default());
    let group = service.group(GroupType::Work, &["anna"]);
    let room = service.group(GroupType::Avchatroom, &[]);
    let hour = u32::try_from(now_ms() / HOUR_MS).unwrap() - 3;
    let then = |new: &mut NewMessage| {
        (new.by, new.treatment.sent_ms) = (Author::Admin, Some(u64::from(hour) * HOUR_MS + 1));
    };
    service.send_with("anna", &group, "one", then).unwrap();
    service.send_with("administrator", &group, "two", then).unwrap();
    service.send_with("owner", &room, "gone", then).unwrap();
    let mut to_ben = NewMessage::new(APP, user("anna"), user("ben"), Bytes::from_static(b"1:1"), body("hello"));
    then(&mut to_ben);
    service.act(Act::Send(to_ben)).unwrap();
    service.send("anna", &group, "later").unwrap();
    // What was taken back has its place.
    let kind = Kind::Recall { peer: group.clone().into(), seq: 1, reason: String::new() };
    service.act(Act::Change(Box::new(Change::by_admin(APP, user("administrator"), kind)))).unwrap();
    let of_groups = format!("head:{group}1 anna,{group}2 administratortail");
    assert_eq!(hour_file(&service, Chat::Groups, hour), Some(of_groups));
    assert_eq!(hour_file(&service, Chat::OneToOne, hour), Some("head:ben1 annatail".into()));
    assert_eq!(hour_file(&service, Chat::Groups, hour - 1), None);
}
