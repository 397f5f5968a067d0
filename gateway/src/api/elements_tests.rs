use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;

/// Writes an `OfflinePushInfo` again, as a caller would have written it.
fn offline_push_to_json(push: &OfflinePush) -> Value {
    let OfflinePush { disable, title, text, extension, sound, ignore_badge, vendors } = push;
    let mut info = json!({
        "PushFlag": u32::from(*disable), "Title": title, "Desc": text, "Ext": text_of(extension),
    });
    match serde_json::from_str::<Map<String, Value>>(vendors) {
        Ok(vendors) => vendors.into_iter().for_each(|(vendor, fields)| info[vendor] = fields),
        // A client says these two things once for all vendors.
        Err(_) => {
            if !sound.is_empty() {
                info["AndroidInfo"] = json!({ "Sound": sound });
            }
            if *ignore_badge || !sound.is_empty() {
                info["ApnsInfo"] = json!({ "BadgeMode": u32::from(*ignore_badge), "Sound": sound });
            }
        }
    }
    info
}

fn round_trip(element: &Element) -> Element {
    let json = to_json(std::slice::from_ref(element));
    let text = json.to_string();
    let read: Value = serde_json::from_str(&text).unwrap();
    let parsed = parse(read.as_array().unwrap()).unwrap_or_else(|wrong| panic!("{wrong}: {text}"));
    assert!(parsed.contents.is_empty());
    assert_eq!(to_json(&parsed.elements), json, "written twice it is the same");
    parsed.elements.into_iter().next().unwrap()
}

/// Text, and bytes that are text.
fn some_text() -> impl Strategy<Value = String> {
    ".{0,12}"
}

fn some_bytes() -> impl Strategy<Value = Bytes> {
    some_text().prop_map(Bytes::from)
}

fn some_flag() -> impl Strategy<Value = u32> {
    // 2 stands as 0.
    any::<u32>().prop_map(|flag| if flag == DOWNLOAD_BY_URL { 0 } else { flag })
}

fn picture(size: impl Strategy<Value = i32>) -> impl Strategy<Value = Picture> {
    (size, "u.{0,9}", any::<u32>(), any::<u32>(), any::<u64>()).prop_map(|(size, url, width, height, bytes)| Picture {
        size,
        url,
        width,
        height,
        bytes,
    })
}

fn image_kind() -> impl Strategy<Value = Kind> {
    let format = prop_oneof![Just("jpg"), Just("gif"), Just("png"), Just("bmp"), Just("webp"), Just("")];
    (format, vec(picture(0..3), 0..3), some_text())
        .prop_map(|(format, pictures, uuid)| Kind::Image(Image { format: format.to_owned(), pictures, uuid }))
}

fn video_kind() -> impl Strategy<Value = Kind> {
    let snapshot = prop_oneof![Just(None), picture(Just(2)).prop_map(Some)];
    let own = (some_text(), any::<u64>(), any::<u32>(), some_text(), some_text(), some_flag());
    (own, snapshot, some_text(), some_text(), some_flag()).prop_map(
        |((url, bytes, duration_s, format, uuid, download_flag), snapshot, thumb, thumb_format, thumb_flag)| {
            Kind::Video(Video {
                url,
                bytes,
                duration_s,
                format,
                snapshot,
                uuid,
                download_flag,
                snapshot_uuid: thumb,
                snapshot_format: thumb_format,
                snapshot_download_flag: thumb_flag,
            })
        },
    )
}

fn media_kind() -> impl Strategy<Value = Kind> {
    let fields = (some_text(), any::<u64>(), some_text(), some_flag(), any::<u32>(), some_text(), any::<bool>());
    fields.prop_map(|(url, bytes, uuid, download_flag, duration_s, name, is_file)| match is_file {
        true => Kind::File(File { url, bytes, name, uuid, download_flag }),
        false => Kind::Voice(Voice { url, bytes, duration_s, uuid, download_flag }),
    })
}

fn small_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        some_text().prop_map(|text| Kind::Text(Text { text })),
        (some_bytes(), some_text(), some_bytes(), some_text()).prop_map(|(data, description, extension, sound)| {
            Kind::Custom(Custom { data, description, extension, sound })
        }),
        (any::<i32>(), some_bytes()).prop_map(|(index, data)| Kind::Face(Face { index, data })),
        (some_text(), -180.0..180.0, -90.0..90.0).prop_map(|(name, longitude, latitude)| Kind::Location(Location {
            name,
            longitude,
            latitude
        })),
        (some_text(), some_bytes()).prop_map(|(topic, data)| Kind::Notification(Notification { topic, data })),
    ]
}

fn server_kind() -> impl Strategy<Value = Kind> {
    let changed = proptest::collection::btree_map(some_text(), some_bytes(), 0..3);
    let tips = (0..9, some_text(), some_text(), vec(some_text(), 0..3), changed).prop_map(
        |(kind, group, by, users, changed): (_, _, _, _, BTreeMap<_, _>)| {
            Kind::GroupTips(GroupTips { kind, group, by, users, changed })
        },
    );
    let merged = (vec(any::<u8>(), 16), some_text(), vec(some_text(), 0..4), any::<u32>(), some_text()).prop_map(
        |(content_id, title, abstracts, count, compatible_text)| {
            Kind::Merged(Merged { content_id: content_id.into(), title, abstracts, count, compatible_text })
        },
    );
    prop_oneof![tips, merged]
}

proptest! {
    #[test]
    fn nothing_is_lost_on_the_way_round(
        kind in prop_oneof![small_kind(), image_kind(), media_kind(), video_kind(), server_kind()]
    ) {
        let element = Element { kind: Some(kind) };
        prop_assert_eq!(round_trip(&element), element);
    }

    #[test]
    fn an_offline_push_comes_back(
        disable in any::<bool>(),
        texts in (some_text(), some_text(), some_bytes()),
        sound in some_text(),
        ignore_badge in any::<bool>(),
    ) {
        let (title, text, extension) = texts;
        let push = OfflinePush { disable, title, text, extension, sound, ignore_badge, vendors: String::new() };
        let json = offline_push_to_json(&push);
        let read = offline_push(Fields::of(&json).unwrap()).unwrap();
        prop_assert_eq!(&OfflinePush { vendors: String::new(), ..read.clone() }, &push);
        prop_assert_eq!(offline_push_to_json(&read), json);
    }
}

#[test]
fn places_keep_every_digit() {
    let place = Location { latitude: 14.214408105182939, ..Location::default() };
    let element = Element { kind: Some(Kind::Location(place)) };
    assert_eq!(round_trip(&element), element);
}

fn parse_one(kind: &str, content: Value) -> Result<Element, Wrong> {
    parse(&[json!({ "MsgType": kind, "MsgContent": content })]).map(|parsed| parsed.elements[0].clone())
}

#[test]
fn published_examples_are_read() {
    let video = parse_one(
        "TIMVideoFileElem",
        json!({
            "VideoUrl": "https://a/v", "VideoUUID": "v1", "VideoSize": 1194603, "VideoSecond": 5, "VideoFormat": "mp4",
            "VideoDownloadFlag": 2, "ThumbUrl": "https://a/t", "ThumbUUID": "t1", "ThumbSize": 13907,
            "ThumbWidth": 720, "ThumbHeight": 1280, "ThumbFormat": "JPG", "ThumbDownloadFlag": 2,
        }),
    );
    let Some(Kind::Video(video)) = video.unwrap().kind else { panic!() };
    assert_eq!((video.duration_s, video.download_flag, video.snapshot.unwrap().height), (5, 0, 1280));
    let image = parse_one(
        "TIMImageElem",
        json!({
            "UUID": "1853095_D61040894AC3DE44CDFFFB3EC7EB720F", "ImageFormat": 1,
            "ImageInfoArray": [
                { "Type": 1, "Size": 1853095, "Width": 2448, "Height": 3264, "URL": "http://x/0" },
                { "Type": 2, "Size": "2565240", "Width": 0, "Height": 0, "URL": "http://x/720" },
                { "Type": 3, "Size": 12535, "Width": 0, "Height": 0, "URL": "http://x/198" },
            ],
        }),
    );
    let Some(Kind::Image(image)) = image.unwrap().kind else { panic!() };
    assert_eq!((image.format.as_str(), image.pictures[1].bytes, image.pictures[2].size), ("jpg", 2_565_240, 2));
}

#[test]
fn what_is_wrong_is_named() {
    for (kind, content, field) in [
        ("TIMTextElem", json!({}), "Text"),
        ("TIMTextElem", json!({ "Text": 1 }), "Text"),
        ("TIMLocationElem", json!({ "Desc": "here", "Latitude": 1 }), "Longitude"),
        ("TIMImageElem", json!({ "ImageInfoArray": [{ "Type": 4 }] }), "Type"),
        ("TIMImageElem", json!({}), "ImageInfoArray"),
        ("TIMFaceElem", json!({ "Index": "x" }), "Index"),
        ("TIMRelayElem", json!({ "Title": "t" }), "JsonMsgKey"),
        ("TIMRelayElem", json!({ "Title": "t", "JsonMsgKey": "0g" }), "JsonMsgKey"),
        ("TIMNothingElem", json!({}), "MsgType"),
    ] {
        assert_eq!(parse_one(kind, content).unwrap_err().field, field, "{kind}");
    }
    assert_eq!(parse(&[json!(1)]).unwrap_err().field, "MsgBody");
    assert_eq!(parse(&[json!({ "MsgType": "TIMTextElem" })]).unwrap_err().field, "MsgContent");
}

#[test]
fn a_merged_message_may_bring_its_content() {
    let list = json!([
        { "From_Account": "anna", "MsgTimeStamp": 7, "MsgBody": [{ "MsgType": "TIMTextElem", "MsgContent": { "Text": "hi" } }] },
    ]);
    let body = json!([{ "MsgType": "TIMRelayElem", "MsgContent": { "Title": "t", "MsgNum": 9, "MsgList": list } }]);
    let parsed = parse(body.as_array().unwrap()).unwrap();
    assert_eq!(parsed, parse(body.as_array().unwrap()).unwrap(), "the same content has the same id");
    let Some(Kind::Merged(merged)) = &parsed.elements[0].kind else { panic!() };
    assert_eq!((merged.count, &merged.content_id), (1, &parsed.contents[0].id));
    let [message] = &parsed.contents[0].messages[..] else { panic!() };
    assert_eq!((message.from.as_str(), message.time_ms), ("anna", 7_000));
}
