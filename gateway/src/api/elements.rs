//! Message bodies as the server API writes them (`MsgBody`, `CloudCustomData`, `OfflinePushInfo`) and as the
//! protocol does, one to one (TYPE-01 to TYPE-11). Webhooks use the same mapping.
//!
//! Bytes of the protocol are text in JSON: what is no UTF-8 is shown with replacement characters. Limits of the
//! fields are the domain's; here it is only said what has which type.

use bytes::Bytes;
use protocol::message::{
    Body, Custom, Element, Face, File, GroupTips, Image, Location, Merged, Message, Notification, OfflinePush, Picture,
    Text, Video, Voice, element::Kind, picture,
};
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_128;

use super::fields::{Fields, Wrong};

/// Formats of images by their published numbers.
const IMAGE_FORMATS: [(u32, &str); 4] = [(1, "jpg"), (2, "gif"), (3, "png"), (4, "bmp")];

/// Any other format.
const IMAGE_FORMAT_OTHER: u32 = 255;

/// The one published way to fetch a file: by its URL. The protocol's 0 stands for it.
const DOWNLOAD_BY_URL: u32 = 2;

/// What a `MsgBody` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// Its elements.
    pub elements: Vec<Element>,
    /// What its merged messages hold, where that stands in the body itself: to be stored before it is sent.
    pub contents: Vec<Content>,
}

/// The content of a merged message.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// Follows from the content, so that a repeated request names the same.
    pub id: Bytes,
    /// Copies: only from, time_ms and body are set.
    pub messages: Vec<Message>,
}

/// Reads a `MsgBody`.
pub fn parse(list: &[Value]) -> Result<Parsed, Wrong> {
    let mut parsed = Parsed::default();
    for element in list {
        let element = Fields::of(element).ok_or(Wrong { field: "MsgBody", expected: "an array of objects" })?;
        let kind = element.required_text("MsgType")?;
        let content = element.object("MsgContent")?.ok_or(Wrong { field: "MsgContent", expected: "an object" })?;
        let kind = kind_of(kind, content, &mut parsed.contents)?;
        parsed.elements.push(Element { kind: Some(kind) });
    }
    Ok(parsed)
}

/// Writes a `MsgBody`.
pub fn to_json(elements: &[Element]) -> Value {
    elements.iter().map(element_to_json).collect()
}

/// `CloudCustomData` of a body; empty where it has none.
pub fn cloud_custom_data(body: &Body) -> String {
    text_of(&body.custom_data)
}

fn kind_of(kind: &str, content: Fields<'_>, contents: &mut Vec<Content>) -> Result<Kind, Wrong> {
    Ok(match kind {
        "TIMTextElem" => Kind::Text(Text { text: content.required_text("Text")?.to_owned() }),
        "TIMCustomElem" => Kind::Custom(custom(content)?),
        "TIMImageElem" => Kind::Image(image(content)?),
        "TIMFaceElem" => {
            Kind::Face(Face { index: content.number_i32("Index")?.unwrap_or(0), data: bytes(content, "Data")? })
        }
        "TIMSoundElem" => Kind::Voice(voice(content)?),
        "TIMLocationElem" => Kind::Location(Location {
            name: text(content, "Desc")?,
            longitude: content.decimal("Longitude")?.ok_or(Wrong { field: "Longitude", expected: "a number" })?,
            latitude: content.decimal("Latitude")?.ok_or(Wrong { field: "Latitude", expected: "a number" })?,
        }),
        "TIMFileElem" => Kind::File(file(content)?),
        "TIMVideoFileElem" => Kind::Video(video(content)?),
        "TIMRelayElem" => Kind::Merged(merged(content, contents)?),
        "TIMNotificationElem" => {
            Kind::Notification(Notification { topic: text(content, "Topic")?, data: bytes(content, "Data")? })
        }
        "TIMGroupTipElem" => Kind::GroupTips(group_tips(content)?),
        _ => return Err(Wrong { field: "MsgType", expected: "a known element" }),
    })
}

fn element_to_json(element: &Element) -> Value {
    let (kind, content) = match &element.kind {
        Some(Kind::Text(Text { text })) => ("TIMTextElem", json!({ "Text": text })),
        Some(Kind::Custom(Custom { data, description, extension, sound })) => (
            "TIMCustomElem",
            json!({ "Data": text_of(data), "Desc": description, "Ext": text_of(extension), "Sound": sound }),
        ),
        Some(Kind::Image(image)) => ("TIMImageElem", image_to_json(image)),
        Some(Kind::Face(Face { index, data })) => ("TIMFaceElem", json!({ "Index": index, "Data": text_of(data) })),
        Some(Kind::Voice(Voice { url, bytes, duration_s, uuid, download_flag })) => (
            "TIMSoundElem",
            json!({
                "Url": url, "UUID": uuid, "Size": bytes, "Second": duration_s,
                "Download_Flag": download(*download_flag),
            }),
        ),
        Some(Kind::Location(Location { name, longitude, latitude })) => {
            ("TIMLocationElem", json!({ "Desc": name, "Latitude": latitude, "Longitude": longitude }))
        }
        Some(Kind::File(File { url, bytes, name, uuid, download_flag })) => (
            "TIMFileElem",
            json!({
                "Url": url, "UUID": uuid, "FileSize": bytes, "FileName": name,
                "Download_Flag": download(*download_flag),
            }),
        ),
        Some(Kind::Video(video)) => ("TIMVideoFileElem", video_to_json(video)),
        Some(Kind::Merged(Merged { content_id, title, abstracts, count, compatible_text })) => (
            "TIMRelayElem",
            json!({
                "Title": title, "MsgNum": count, "CompatibleText": compatible_text, "AbstractList": abstracts,
                "JsonMsgKey": hex(content_id),
            }),
        ),
        Some(Kind::Notification(Notification { topic, data })) => {
            ("TIMNotificationElem", json!({ "Topic": topic, "Data": text_of(data) }))
        }
        Some(Kind::GroupTips(tips)) => ("TIMGroupTipElem", group_tips_to_json(tips)),
        // Of a newer client: there is something, and nobody here knows what.
        None => ("TIMUnknownElem", json!({})),
    };
    json!({ "MsgType": kind, "MsgContent": content })
}

fn custom(content: Fields<'_>) -> Result<Custom, Wrong> {
    Ok(Custom {
        data: bytes(content, "Data")?,
        description: text(content, "Desc")?,
        extension: bytes(content, "Ext")?,
        sound: text(content, "Sound")?,
    })
}

fn image(content: Fields<'_>) -> Result<Image, Wrong> {
    let number = content.number_u32("ImageFormat")?.unwrap_or(IMAGE_FORMAT_OTHER);
    let known = IMAGE_FORMATS.iter().find(|(known, _)| *known == number);
    let format = known.map_or_else(|| text(content, "Format"), |(_, name)| Ok((*name).to_owned()))?;
    let list = content.list("ImageInfoArray")?.ok_or(Wrong { field: "ImageInfoArray", expected: "an array" })?;
    let pictures = list.iter().map(|info| {
        let info = Fields::of(info).ok_or(Wrong { field: "ImageInfoArray", expected: "an array of objects" })?;
        let kind = info.number_u32("Type")?.filter(|kind| (1..=3).contains(kind));
        Ok(Picture {
            size: kind.map(|kind| kind as i32 - 1).ok_or(Wrong { field: "Type", expected: "1, 2 or 3" })?,
            url: text(info, "URL")?,
            width: info.number_u32("Width")?.unwrap_or(0),
            height: info.number_u32("Height")?.unwrap_or(0),
            bytes: info.number("Size")?.unwrap_or(0),
        })
    });
    Ok(Image { format, pictures: pictures.collect::<Result<_, _>>()?, uuid: text(content, "UUID")? })
}

fn image_to_json(Image { format, pictures, uuid }: &Image) -> Value {
    let known = IMAGE_FORMATS.iter().find(|(_, name)| name == format).map(|(number, _)| *number);
    let info = |picture: &Picture| {
        let Picture { size, url, width, height, bytes } = picture;
        json!({ "Type": size.saturating_add(1), "Size": bytes, "Width": width, "Height": height, "URL": url })
    };
    let pictures: Vec<Value> = pictures.iter().map(info).collect();
    let mut content = json!({
        "UUID": uuid, "ImageFormat": known.unwrap_or(IMAGE_FORMAT_OTHER), "ImageInfoArray": pictures,
    });
    if known.is_none() && !format.is_empty() {
        content["Format"] = json!(format);
    }
    content
}

fn voice(content: Fields<'_>) -> Result<Voice, Wrong> {
    Ok(Voice {
        url: text(content, "Url")?,
        bytes: content.number("Size")?.unwrap_or(0),
        duration_s: content.number_u32("Second")?.unwrap_or(0),
        uuid: text(content, "UUID")?,
        download_flag: download_flag(content, "Download_Flag")?,
    })
}

fn file(content: Fields<'_>) -> Result<File, Wrong> {
    Ok(File {
        url: text(content, "Url")?,
        bytes: content.number("FileSize")?.unwrap_or(0),
        name: text(content, "FileName")?,
        uuid: text(content, "UUID")?,
        download_flag: download_flag(content, "Download_Flag")?,
    })
}

fn video(content: Fields<'_>) -> Result<Video, Wrong> {
    let snapshot = Picture {
        size: picture::Size::Thumbnail.into(),
        url: text(content, "ThumbUrl")?,
        width: content.number_u32("ThumbWidth")?.unwrap_or(0),
        height: content.number_u32("ThumbHeight")?.unwrap_or(0),
        bytes: content.number("ThumbSize")?.unwrap_or(0),
    };
    Ok(Video {
        url: text(content, "VideoUrl")?,
        bytes: content.number("VideoSize")?.unwrap_or(0),
        duration_s: content.number_u32("VideoSecond")?.unwrap_or(0),
        format: text(content, "VideoFormat")?,
        snapshot: (!snapshot.url.is_empty()).then_some(snapshot),
        uuid: text(content, "VideoUUID")?,
        download_flag: download_flag(content, "VideoDownloadFlag")?,
        snapshot_uuid: text(content, "ThumbUUID")?,
        snapshot_format: text(content, "ThumbFormat")?,
        snapshot_download_flag: download_flag(content, "ThumbDownloadFlag")?,
    })
}

fn video_to_json(video: &Video) -> Value {
    let snapshot = video.snapshot.clone().unwrap_or_default();
    json!({
        "VideoUrl": video.url, "VideoUUID": video.uuid, "VideoSize": video.bytes, "VideoSecond": video.duration_s,
        "VideoFormat": video.format, "VideoDownloadFlag": download(video.download_flag),
        "ThumbUrl": snapshot.url, "ThumbUUID": video.snapshot_uuid, "ThumbSize": snapshot.bytes,
        "ThumbWidth": snapshot.width, "ThumbHeight": snapshot.height, "ThumbFormat": video.snapshot_format,
        "ThumbDownloadFlag": download(video.snapshot_download_flag),
    })
}

/// A merged message names its content (`JsonMsgKey`, as it was told of one), or brings it along (`MsgList`).
fn merged(content: Fields<'_>, contents: &mut Vec<Content>) -> Result<Merged, Wrong> {
    let mut merged = Merged {
        content_id: Bytes::new(),
        title: text(content, "Title")?,
        abstracts: content.texts("AbstractList")?.unwrap_or_default().into_iter().map(str::to_owned).collect(),
        count: content.number_u32("MsgNum")?.unwrap_or(0),
        compatible_text: text(content, "CompatibleText")?,
    };
    match content.list("MsgList")? {
        Some(list) => {
            let messages = list.iter().map(merged_message).collect::<Result<Vec<_>, _>>()?;
            merged.count = messages.len() as u32;
            merged.content_id = content_id(list);
            contents.push(Content { id: merged.content_id.clone(), messages });
        }
        None => {
            let id = content.text("JsonMsgKey")?.and_then(unhex);
            merged.content_id = id.ok_or(Wrong { field: "JsonMsgKey", expected: "what a merged message names" })?;
        }
    }
    Ok(merged)
}

fn merged_message(message: &Value) -> Result<Message, Wrong> {
    let wrong = Wrong { field: "MsgList", expected: "an array of messages" };
    let fields = Fields::of(message).ok_or(wrong.clone())?;
    let body = fields.list("MsgBody")?.ok_or(wrong.clone())?;
    let parsed = parse(body)?;
    if !parsed.contents.is_empty() {
        return Err(wrong); // what is inside must be stored first: it is named by its key
    }
    let body = Body { elements: parsed.elements, custom_data: bytes(fields, "CloudCustomData")?, ..Body::default() };
    Ok(Message {
        from: text(fields, "From_Account")?,
        time_ms: fields.number("MsgTimeStamp")?.unwrap_or(0).saturating_mul(1000),
        body: prost::Message::encode_to_vec(&body).into(),
        ..Message::default()
    })
}

/// 16 bytes that follow from a content.
fn content_id(list: &[Value]) -> Bytes {
    let text = serde_json::to_vec(list).unwrap_or_default();
    Bytes::copy_from_slice(&xxh3_128(&text).to_be_bytes())
}

fn group_tips(content: Fields<'_>) -> Result<GroupTips, Wrong> {
    let users = content.texts("Member_List")?.unwrap_or_default();
    let changed = match content.get("Changed") {
        None => Default::default(),
        Some(Value::Object(changed)) => changed
            .iter()
            .map(|(name, value)| Some((name.clone(), Bytes::copy_from_slice(value.as_str()?.as_bytes()))))
            .collect::<Option<_>>()
            .ok_or(Wrong { field: "Changed", expected: "an object of strings" })?,
        Some(_) => return Err(Wrong { field: "Changed", expected: "an object of strings" }),
    };
    Ok(GroupTips {
        kind: content.number_i32("OpType")?.unwrap_or(0),
        group: text(content, "GroupId")?,
        by: text(content, "Operator_Account")?,
        users: users.into_iter().map(str::to_owned).collect(),
        changed,
    })
}

fn group_tips_to_json(GroupTips { kind, group, by, users, changed }: &GroupTips) -> Value {
    let changed: Map<String, Value> =
        changed.iter().map(|(name, value)| (name.clone(), Value::String(text_of(value)))).collect();
    json!({ "OpType": kind, "GroupId": group, "Operator_Account": by, "Member_List": users, "Changed": changed })
}

/// Reads an `OfflinePushInfo`.
pub fn offline_push(info: Fields<'_>) -> Result<OfflinePush, Wrong> {
    let mut vendors = Map::new();
    for vendor in VENDORS {
        if let Some(value) = info.get(vendor) {
            let object = value.as_object().ok_or(Wrong { field: vendor, expected: "an object" })?;
            vendors.insert((*vendor).to_owned(), Value::Object(object.clone()));
        }
    }
    let within = |vendor: &'static str| info.object(vendor).ok().flatten();
    let sound = |vendor| within(vendor).and_then(|fields| fields.text("Sound").ok().flatten());
    let badge_mode = within("ApnsInfo").and_then(|apns| apns.number("BadgeMode").ok().flatten());
    Ok(OfflinePush {
        disable: info.flag("PushFlag")?,
        title: text(info, "Title")?,
        text: text(info, "Desc")?,
        extension: bytes(info, "Ext")?,
        sound: sound("AndroidInfo").or_else(|| sound("ApnsInfo")).unwrap_or_default().to_owned(),
        ignore_badge: badge_mode == Some(1),
        vendors: if vendors.is_empty() { String::new() } else { Value::Object(vendors).to_string() },
    })
}

/// Parts of an `OfflinePushInfo` that single vendors of push services understand.
const VENDORS: &[&str] = &["AndroidInfo", "ApnsInfo", "HarmonyInfo"];

fn download_flag(content: Fields<'_>, field: &'static str) -> Result<u32, Wrong> {
    Ok(content.number_u32(field)?.filter(|flag| *flag != DOWNLOAD_BY_URL).unwrap_or(0))
}

fn download(flag: u32) -> u32 {
    if flag == 0 { DOWNLOAD_BY_URL } else { flag }
}

fn text(fields: Fields<'_>, field: &'static str) -> Result<String, Wrong> {
    Ok(fields.text(field)?.unwrap_or_default().to_owned())
}

fn bytes(fields: Fields<'_>, field: &'static str) -> Result<Bytes, Wrong> {
    Ok(Bytes::copy_from_slice(fields.text(field)?.unwrap_or_default().as_bytes()))
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Bytes> {
    let pairs = text.as_bytes().chunks(2).map(|pair| {
        let digits = std::str::from_utf8(pair).ok().filter(|digits| digits.len() == 2)?;
        u8::from_str_radix(digits, 16).ok()
    });
    pairs.collect::<Option<Vec<u8>>>().map(Bytes::from)
}

#[cfg(test)]
#[path = "elements_tests.rs"]
mod tests;
