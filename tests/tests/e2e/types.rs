//! Types of messages, and what is carried with them (TYPE-01 to TYPE-10, TYPE-11 in `merged.rs`, MSG-09, MSG-11's
//! fields, MSG-13).
//!
//! Goal: a message of every type arrives byte for byte by every way (push, sync, history both ways), whatever is
//! out of a limit is refused with the code that says so, and nobody can pass for the server. Mechanics: one
//! gateway, tables of elements. Without it a field could be lost on one of the ways, unnoticed by the others.

use bytes::Bytes;
use prost::Message as _;
use protocol::{
    ErrorCode,
    message::{
        Body, Custom, Element, Face, File, GroupTips, Image, Location, Merged, Message, Notification, OfflinePush,
        Picture, Priority, Send, Text, Video, Voice, element::Kind,
    },
};
use tests::{Client, Gateway, body_of, unique_id};

const URL: &str = "https://files.example/1";

fn encode(body: &Body) -> Bytes {
    body.encode_to_vec().into()
}

fn one(kind: Kind) -> Bytes {
    encode(&body_of([kind]))
}

fn text(text: &str) -> Kind {
    Kind::Text(Text { text: text.to_owned() })
}

fn picture(size: i32, url: &str) -> Picture {
    Picture { size, url: url.to_owned(), width: 640, height: 480, bytes: 104_857_600 }
}

fn image(pictures: Vec<Picture>) -> Kind {
    Kind::Image(Image { format: "png".into(), pictures, ..Image::default() })
}

fn voice(url: &str, bytes: u64) -> Kind {
    Kind::Voice(Voice { url: url.to_owned(), bytes, duration_s: 61, ..Voice::default() })
}

fn place(name: &str, longitude: f64, latitude: f64) -> Kind {
    Kind::Location(Location { name: name.to_owned(), longitude, latitude })
}

fn file(url: &str, name: &str, bytes: u64) -> Kind {
    Kind::File(File { url: url.to_owned(), bytes, name: name.to_owned(), ..File::default() })
}

fn video(format: &str, snapshot: Option<Picture>) -> Kind {
    let format = format.to_owned();
    Kind::Video(Video { url: URL.into(), bytes: 104_857_600, duration_s: 7, format, snapshot, ..Video::default() })
}

fn custom(data: &'static [u8], description: &str, extension: &'static [u8]) -> Kind {
    let (data, description, extension) = (data.into(), description.to_owned(), extension.into());
    Kind::Custom(Custom { data, description, extension, ..Custom::default() })
}

/// One body of each type, and some with more.
fn bodies() -> Vec<(&'static str, Bytes)> {
    let all_pictures = vec![picture(0, URL), picture(1, "x"), picture(2, &"u".repeat(2048))];
    let everything = Body {
        custom_data: Bytes::from_static(b"\x00custom\xff"),
        mentions: vec!["ben".into(), "a user who does not exist".into()],
        mention_all: true,
        offline_push: Some(OfflinePush {
            disable: true,
            title: "title".into(),
            text: "text".into(),
            extension: Bytes::from_static(b"{}"),
            sound: "bell".into(),
            ignore_badge: true,
            vendors: "{}".into(),
        }),
        ..body_of([text("all"), Kind::Face(Face { index: 1, data: Bytes::new() })])
    };
    // Field 1 (element) holding field 15, which this server does not know, beside a known one.
    let unknown = [&one(text("known"))[..], &[0x0a, 0x03, 0x7a, 0x01, b'x']].concat();
    vec![
        ("TYPE-01 text", one(text("grüße 你好 🙂"))),
        ("TYPE-02 image", one(image(all_pictures))),
        ("TYPE-03 face", one(Kind::Face(Face { index: -7, data: Bytes::from_static(b"\x00\x01") }))),
        ("TYPE-04 voice", one(voice(URL, 104_857_600))),
        ("TYPE-05 location", one(place("here", -180.0, 90.0))),
        ("TYPE-06 file", one(file(URL, "a.txt", 1))),
        ("TYPE-07 video", one(video("mp4", Some(picture(2, URL))))),
        ("TYPE-08 custom, MSG-13 red packet", one(custom(b"{\"red packet\":1}", "a red packet", b"\xff"))),
        ("32 elements", encode(&body_of((0..32).map(|n| text(&n.to_string()))))),
        ("everything beside the elements", encode(&everything)),
        ("an element of a newer client", unknown.into()),
    ]
}

#[test]
fn type_01_to_type_08_msg_13_arrive_byte_for_byte_by_push_sync_and_history() {
    let gateway = Gateway::start();
    let (mut ben, mut anna) = (gateway.login("ben"), gateway.login("anna"));
    let bodies = bodies();
    for (what, body) in &bodies {
        let sent = anna.send_as("ben", &unique_id(), body.clone());
        sent.unwrap_or_else(|refusal| panic!("{what}: {refusal:?}"));
        assert_eq!(ben.next_message().body, *body, "{what}: pushed");
    }
    let synced = [gateway.connect("ben").log_in_and_sync(), gateway.connect("anna").log_in_and_sync()];
    let mut backward = ben.history("anna", 0, false, 0).expect("a page").messages;
    backward.reverse();
    let read = [ben.conversation("anna"), anna.conversation("ben"), backward];
    for messages in synced.iter().chain(&read) {
        assert_eq!(messages.len(), bodies.len());
        for (message, (what, body)) in messages.iter().zip(&bodies) {
            assert_eq!(message.body, *body, "{what}: read");
        }
    }
}

fn refusal(client: &mut Client, body: Bytes) -> ErrorCode {
    client.send_as("ben", &unique_id(), body).expect_err("a refusal").code().expect("a code")
}

#[test]
fn type_02_to_type_11_fields_that_are_missing_or_out_of_range_are_refused() {
    let gateway = Gateway::start();
    gateway.login("ben");
    let mut anna = gateway.login("anna");
    let merged = |id: usize, title: usize, abstracts: Vec<String>, count| {
        let (content_id, title) = (vec![7; id].into(), "t".repeat(title));
        Kind::Merged(Merged { content_id, title, abstracts, count, ..Merged::default() })
    };
    let long_url = "u".repeat(2049);
    let cases = [
        ("no picture", image(vec![])),
        ("a size twice", image(vec![picture(0, URL), picture(0, URL)])),
        ("a size that is none", image(vec![picture(3, URL)])),
        ("a picture without url", image(vec![picture(0, "")])),
        ("a url with a line break", image(vec![picture(0, "https://x/\r\nhost: y")])),
        (
            "a picture's format",
            Kind::Image(Image { format: "f".repeat(17), pictures: vec![picture(0, URL)], ..Image::default() }),
        ),
        ("a voice without url", voice("", 1)),
        ("a url of 2049 bytes", voice(&long_url, 1)),
        ("a voice over 100 MiB", voice(URL, 104_857_601)),
        ("east of 180", place("", 180.1, 0.0)),
        ("north of the pole", place("", 0.0, 90.1)),
        ("no number", place("", f64::NAN, 0.0)),
        ("infinite", place("", 0.0, f64::NEG_INFINITY)),
        ("a place's name", place(&"n".repeat(257), 0.0, 0.0)),
        ("a file over 100 MiB", file(URL, "a", u64::MAX)),
        ("a file without name", file(URL, "", 1)),
        ("a file's name", file(URL, &"n".repeat(257), 1)),
        ("a video's format", video(&"f".repeat(17), None)),
        ("a video's snapshot", video("mp4", Some(picture(0, "")))),
        ("a content id of 15 bytes", merged(15, 1, vec![], 1)),
        ("a merged message's title", merged(16, 257, vec![], 1)),
        ("6 abstracts", merged(16, 1, vec!["a".into(); 6], 1)),
        ("a long abstract", merged(16, 1, vec!["a".repeat(257)], 1)),
        ("nothing merged", merged(16, 1, vec![], 0)),
        ("301 merged", merged(16, 1, vec![], 301)),
        ("a count of 32 bits", merged(16, 1, vec![], u32::MAX)),
    ];
    for (what, kind) in cases {
        assert_eq!(refusal(&mut anna, one(kind.clone())), ErrorCode::ELEMENT_INVALID, "{what}");
        let behind = encode(&body_of([text("first"), kind]));
        assert_eq!(refusal(&mut anna, behind), ErrorCode::ELEMENT_INVALID, "{what}, behind another");
    }
    let whole = |change: fn(&mut Body)| {
        let mut body = body_of([text("hello")]);
        change(&mut body);
        encode(&body)
    };
    let bodies = [
        ("33 elements", encode(&body_of(vec![text("x"); 33])), ErrorCode::ELEMENT_INVALID),
        ("31 mentions", whole(|body| body.mentions = vec!["ben".into(); 31]), ErrorCode::ELEMENT_INVALID),
        ("a mention of nobody", whole(|body| body.mentions = vec![String::new()]), ErrorCode::ELEMENT_INVALID),
        ("a mention that is no name", whole(|body| body.mentions = vec!["n".repeat(33)]), ErrorCode::ELEMENT_INVALID),
        ("no element", whole(|body| body.elements.clear()), ErrorCode::MESSAGE_EMPTY),
        ("an element of nothing", whole(|body| body.elements = vec![Element::default()]), ErrorCode::MESSAGE_EMPTY),
        ("an empty text behind one", encode(&body_of([text("x"), text("")])), ErrorCode::MESSAGE_EMPTY),
        ("an empty custom element", one(custom(b"", "", b"")), ErrorCode::MESSAGE_EMPTY),
        // An element with a text that is written twice, empty each time.
        ("an odd encoding", Bytes::from_static(&[0x0a, 6, 0x0a, 4, 0x0a, 0, 0x0a, 0]), ErrorCode::MESSAGE_EMPTY),
        ("too long", one(text(&"x".repeat(12 * 1024))), ErrorCode::MESSAGE_TOO_LONG),
    ];
    for (what, body, expected) in bodies {
        assert_eq!(refusal(&mut anna, body), expected, "{what}");
    }
    assert_eq!(anna.send("ben", "the first that is taken").seq, 1);
}

#[test]
fn type_09_type_10_what_only_the_server_says_is_not_taken_from_a_client() {
    let gateway = Gateway::start();
    let mut ben = gateway.login("ben");
    let mut anna = gateway.login("anna");
    let notification = Kind::Notification(Notification { topic: "im.x".into(), data: Bytes::from_static(b"x") });
    let own = Kind::Notification(Notification { topic: "mine".into(), data: Bytes::new() });
    let tips = Kind::GroupTips(GroupTips { kind: 1, group: "g".into(), ..GroupTips::default() });
    // Behind an element of a newer client, which makes the server look away.
    let unknown = [0x0a, 0x03, 0x7a, 0x01, b'x'];
    for kind in [notification, own, tips] {
        assert_eq!(refusal(&mut anna, one(kind.clone())), ErrorCode::NOT_ALLOWED);
        let hidden = [&unknown[..], &one(kind.clone())].concat();
        assert_eq!(refusal(&mut anna, hidden.into()), ErrorCode::NOT_ALLOWED, "hidden");
        let online = Send { to_user: "ben".into(), body: one(kind.clone()), online_only: true, ..Send::default() };
        let refused = anna.send_request(online).expect_err("a refusal");
        assert_eq!(refused.code(), Some(ErrorCode::NOT_ALLOWED), "online only");
        anna.send("ben", "hello");
        let edited = anna.edit("ben", ben.next_message().seq, one(kind)).expect_err("a refusal");
        assert_eq!(edited.code(), Some(ErrorCode::NOT_ALLOWED), "by editing");
    }
}

/// The body with one element that has all of these kinds, one written over the other.
fn overwritten(kinds: &[&Kind]) -> Bytes {
    let element: Vec<u8> =
        kinds.iter().flat_map(|kind| Element { kind: Some((*kind).clone()) }.encode_to_vec()).collect();
    [&[0x0a, element.len() as u8], &element[..]].concat().into()
}

#[test]
fn type_01_a_type_is_the_last_one_written_so_that_nobody_reads_another() {
    let gateway = Gateway::start();
    let mut ben = gateway.login("ben");
    let mut anna = gateway.login("anna");
    let (empty, said) = (text(""), text("said"));
    let place = place("here", 181.0, 0.0);
    anna.send_as("ben", b"1", overwritten(&[&place, &said])).expect("a text");
    assert_eq!(tests::MessageExt::text(&ben.next_message()), "said");
    assert_eq!(refusal(&mut anna, overwritten(&[&said, &place])), ErrorCode::ELEMENT_INVALID);
    assert_eq!(refusal(&mut anna, overwritten(&[&said, &place, &empty])), ErrorCode::MESSAGE_EMPTY);
}

#[test]
fn type_09_type_10_what_only_the_server_says_is_not_hidden_under_another_type() {
    let gateway = Gateway::start();
    let mut ben = gateway.login("ben");
    let mut anna = gateway.login("anna");
    let own = [Kind::Notification(Notification::default()), Kind::GroupTips(GroupTips::default())];
    // A decoder that does not forget the overwritten kind would show it.
    for own in &own {
        let said = text("said");
        for kinds in [&[own, &said][..], &[&said, own], &[own, &said, own, &said]] {
            let body = overwritten(kinds);
            assert_eq!(refusal(&mut anna, body.clone()), ErrorCode::NOT_ALLOWED);
            let behind = [&one(text("first"))[..], &body].concat();
            assert_eq!(refusal(&mut anna, behind.into()), ErrorCode::NOT_ALLOWED, "behind another");
        }
    }
    anna.send("ben", "the only one");
    assert_eq!(tests::MessageExt::text(&ben.next_message()), "the only one");
}

#[test]
fn treatment_and_id_are_carried_by_push_sync_and_history() {
    let gateway = Gateway::start();
    let (mut ben, mut anna) = (gateway.login("ben"), gateway.login("anna"));
    let plain = Send { to_user: "ben".into(), body: one(text("x")), ..Send::default() };
    let sends = [
        Send { priority: Priority::High.into(), ..plain.clone() },
        Send { priority: Priority::Low.into(), need_receipt: true, ..plain.clone() },
        Send { exclude_from_unread: true, ..plain.clone() },
        Send { exclude_from_last_message: true, ..plain.clone() },
        // A priority of a newer client.
        Send { priority: 77, client_message_id: Bytes::from_static(b"of the client's choice"), ..plain },
    ];
    let pushed: Vec<Message> = sends
        .iter()
        .map(|send| {
            anna.send_request(send.clone()).expect("sent");
            ben.next_message()
        })
        .collect();
    for (message, send) in pushed.iter().zip(&sends) {
        let expected_priority = if send.priority == 77 { 0 } else { send.priority };
        assert_eq!(message.priority, expected_priority);
        assert_eq!(message.need_receipt, send.need_receipt);
        assert_eq!(message.exclude_from_unread, send.exclude_from_unread);
        assert_eq!(message.exclude_from_last_message, send.exclude_from_last_message);
        assert_eq!((message.revision, message.edited_ms, message.receipt_ms), (0, 0, 0));
    }
    assert_eq!(pushed.last().map(|message| &message.client_message_id[..]), Some(&b"of the client's choice"[..]));
    assert_eq!(gateway.connect("ben").log_in_and_sync(), pushed);
    assert_eq!([ben.conversation("anna"), anna.conversation("ben")], [pushed.clone(), pushed]);
}
