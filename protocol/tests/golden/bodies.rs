//! The vectors of message bodies: each element type, what stands beside the elements, what is newer.

use bytes::Bytes;
use prost::Message as _;
use protocol::message::{element::Kind, picture::Size, *};

use crate::{
    fields::Payload,
    format::{BodyVector, hex},
    frames::{body, id16},
};

pub(crate) fn bodies() -> Vec<BodyVector> {
    let vector = |name: &str, note: &str, texts: &[&str], bytes: &[u8]| BodyVector {
        name: name.into(),
        note: note.into(),
        texts: texts.iter().map(|text| text.to_string()).collect(),
        fields: Payload::decode("Body", Bytes::copy_from_slice(bytes)).fields(),
        hex: hex(bytes),
    };
    let newer = b"\x0a\x05\x0a\x03\x0a\x01a\x0a\x05\x7a\x03\x0a\x01x\x0a\x05\x0a\x03\x0a\x01b\xa0\x06\x05";
    let mut vectors = vec![
        vector("one text", "", &["hello, Bob"], &body("hello, Bob")),
        vector("text beyond ASCII", "UTF-8.", &["zwei ✓ 三 🙂"], &body("zwei ✓ 三 🙂")),
        vector(
            "texts around an element of a newer kind",
            "The element in the middle has field 15, the body field 100: both are passed on, neither is shown.",
            &["a", "b"],
            newer,
        ),
        vector(
            "fields out of order and repeated",
            "Not as this code would write it, and passed on as it is. Of a repeated field the last one counts.",
            &["b"],
            b"\xa0\x06\x05\x0a\x08\x0a\x06\x0a\x01a\x0a\x01b",
        ),
    ];
    vectors.extend(whole().map(|(name, body)| {
        let texts = body.elements.iter().filter_map(|element| match &element.kind {
            Some(Kind::Text(text)) => Some(text.text.as_str()),
            _ => None,
        });
        vector(name, "", &texts.collect::<Vec<_>>(), &body.encode_to_vec())
    }));
    vectors
}

fn text(text: &str) -> Kind {
    Kind::Text(Text { text: text.into() })
}

fn of(kinds: impl IntoIterator<Item = Kind>) -> Body {
    Body { elements: kinds.into_iter().map(|kind| Element { kind: Some(kind) }).collect(), ..Body::default() }
}

fn picture(size: Size, width: u32, height: u32, bytes: u64) -> Picture {
    let url = format!("https://files.example/{}.png", size.as_str_name().to_lowercase());
    Picture { size: size.into(), url, width, height, bytes }
}

/// Bodies of every element type, by name.
fn whole() -> impl Iterator<Item = (&'static str, Body)> {
    let all = media().chain(special()).chain(from_server()).map(|(name, kind)| (name, of([kind])));
    let beside = Body {
        custom_data: Bytes::from_static(b"{\"theme\":2}"),
        mentions: vec!["bob".into(), "eve".into()],
        mention_all: true,
        offline_push: Some(OfflinePush {
            disable: true,
            title: "Ann".into(),
            text: "wrote to you".into(),
            extension: Bytes::from_static(b"chat=ann"),
            sound: "ding.caf".into(),
            ignore_badge: true,
            ..OfflinePush::default()
        }),
        ..of([text("@bob @eve look"), Kind::Face(Face { index: 3, data: Bytes::new() }), text("at this")])
    };
    let vendors = Body {
        offline_push: Some(OfflinePush {
            text: "wrote".into(),
            vendors: r#"{"ApnsInfo":{"BadgeMode":1}}"#.into(),
            ..OfflinePush::default()
        }),
        ..of([text("hello")])
    };
    all.chain([("several elements, and what stands beside them", beside), ("an offline push by vendors", vendors)])
}

/// TYPE-02 to TYPE-07: what is fetched by its URL, and what is shown as it is.
fn media() -> impl Iterator<Item = (&'static str, Kind)> {
    let pictures = vec![
        picture(Size::Original, 4_032, 3_024, 8_388_608),
        picture(Size::Large, 1_280, 960, 230_000),
        picture(Size::Thumbnail, 198, 149, 12_000),
    ];
    let voice = Voice { url: "https://files.example/1.m4a".into(), bytes: 48_000, duration_s: 12, ..Voice::default() };
    let location = Location { name: "Brandenburger Tor".into(), longitude: 13.377_704, latitude: 52.516_275 };
    let south_west = Location { name: String::new(), longitude: -180.0, latitude: -0.5 };
    let file = File {
        url: "https://files.example/2".into(),
        bytes: 1_048_576,
        name: "Bericht Ä.pdf".into(),
        ..File::default()
    };
    let video = Video {
        url: "https://files.example/3.mp4".into(),
        bytes: 7_340_032,
        duration_s: 61,
        format: "mp4".into(),
        snapshot: Some(picture(Size::Thumbnail, 320, 180, 9_000)),
        ..Video::default()
    };
    [
        ("image", Kind::Image(Image { format: "png".into(), pictures, ..Image::default() })),
        ("face", Kind::Face(Face { index: 21, data: Bytes::from_static(b"tt21") })),
        ("face with a negative index", Kind::Face(Face { index: -1, data: Bytes::new() })),
        ("voice", Kind::Voice(voice)),
        ("location", Kind::Location(location)),
        ("location in the south west", Kind::Location(south_west)),
        ("file", Kind::File(file)),
        ("video", Kind::Video(video)),
    ]
    .into_iter()
}

/// TYPE-08 to TYPE-11: the developer's own, the server's own, and what was forwarded as one.
fn special() -> impl Iterator<Item = (&'static str, Kind)> {
    let custom = Custom {
        data: Bytes::from_static(&[0, 0xff, 0x7f]),
        description: "a card".into(),
        extension: Bytes::from_static(b"v1"),
        ..Custom::default()
    };
    let notification = Notification { topic: "im.account".into(), data: Bytes::from_static(b"{}") };
    let changed = [("name", &b"Friends of Ann"[..]), ("avatar", b"https://files.example/4.png")];
    let changed = changed.map(|(field, value)| (field.to_owned(), Bytes::from_static(value))).into();
    let tips = GroupTips {
        kind: group_tips::Kind::GroupChanged.into(),
        group: "group-1".into(),
        by: "ann".into(),
        users: vec!["bob".into(), "eve".into()],
        changed,
    };
    let merged = Merged {
        content_id: id16(),
        title: "Chat of Ann and Bob".into(),
        abstracts: vec!["Ann: hello, Bob".into(), "Bob: hello".into()],
        count: 300,
        ..Merged::default()
    };
    [
        ("custom", Kind::Custom(custom)),
        ("notification", Kind::Notification(notification)),
        ("group tips", Kind::GroupTips(tips)),
        ("merged", Kind::Merged(merged)),
    ]
    .into_iter()
}

/// What only application servers say, through the server API.
fn from_server() -> impl Iterator<Item = (&'static str, Kind)> {
    let url = || "https://files.example/5".to_owned();
    let custom = Custom { data: Bytes::from_static(b"order"), sound: "ding.caf".into(), ..Custom::default() };
    let file = File { url: url(), bytes: 1, name: "a".into(), uuid: "5".into(), download_flag: 1 };
    let voice = Voice { url: url(), bytes: 1, duration_s: 1, uuid: "5".into(), download_flag: 1 };
    let pictures = vec![picture(Size::Original, 1, 1, 1)];
    let image = Image { format: "jpg".into(), pictures, uuid: "5".into() };
    let video = Video {
        url: url(),
        uuid: "5".into(),
        download_flag: 1,
        snapshot_uuid: "6".into(),
        snapshot_format: "jpg".into(),
        snapshot_download_flag: 1,
        ..Video::default()
    };
    let merged =
        Merged { content_id: id16(), count: 1, compatible_text: "see a newer client".into(), ..Merged::default() };
    [
        ("custom of the server API", Kind::Custom(custom)),
        ("file of the server API", Kind::File(file)),
        ("voice of the server API", Kind::Voice(voice)),
        ("image of the server API", Kind::Image(image)),
        ("video of the server API", Kind::Video(video)),
        ("merged of the server API", Kind::Merged(merged)),
    ]
    .into_iter()
}
