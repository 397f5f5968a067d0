//! A message's elements as `MsgBody`, the published JSON, and back. Pure; what an element may hold is checked
//! where a message is sent.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use protocol::message::{
    Custom, Element, Face, File, Image, Location, Merged, Picture, Text, Video, Voice, element::Kind, picture::Size,
};
use serde_json::{Value, json};

/// Picture formats by their published numbers.
const IMAGE_FORMATS: [(&str, u64); 4] = [("jpg", 1), ("gif", 2), ("png", 3), ("bmp", 4)];
const IMAGE_FORMAT_OTHER: u64 = 255;

/// Picture sizes by their published numbers.
const SIZES: [(Size, u64); 3] = [(Size::Original, 1), (Size::Large, 2), (Size::Thumbnail, 3)];

/// The elements as JSON. One that has no published form, or that this program does not know, is left out.
pub fn to_json(elements: &[Element]) -> Value {
    elements.iter().filter_map(|element| element_to_json(element.kind.as_ref()?)).collect()
}

fn element_to_json(kind: &Kind) -> Option<Value> {
    let (name, content) = match kind {
        Kind::Text(Text { text }) => ("TIMTextElem", json!({ "Text": text })),
        Kind::Face(Face { index, data }) => ("TIMFaceElem", json!({ "Index": index, "Data": text(data) })),
        Kind::Location(Location { name, longitude, latitude }) => {
            ("TIMLocationElem", json!({ "Desc": name, "Latitude": latitude, "Longitude": longitude }))
        }
        Kind::Custom(Custom { data, description, extension }) => {
            ("TIMCustomElem", json!({ "Data": text(data), "Desc": description, "Ext": text(extension), "Sound": "" }))
        }
        Kind::Voice(Voice { url, bytes, duration_s }) => (
            "TIMSoundElem",
            json!({ "Url": url, "UUID": url, "Size": bytes, "Second": duration_s, "Download_Flag": 2 }),
        ),
        Kind::File(File { url, bytes, name }) => {
            ("TIMFileElem", json!({ "Url": url, "UUID": url, "FileSize": bytes, "FileName": name, "Download_Flag": 2 }))
        }
        Kind::Image(Image { format, pictures }) => {
            let format = IMAGE_FORMATS.iter().find(|(name, _)| name.eq_ignore_ascii_case(format));
            let format = format.map_or(IMAGE_FORMAT_OTHER, |(_, number)| *number);
            let uuid = pictures.first().map_or("", |picture| &picture.url);
            let pictures: Value = pictures.iter().map(picture_to_json).collect();
            ("TIMImageElem", json!({ "UUID": uuid, "ImageFormat": format, "ImageInfoArray": pictures }))
        }
        Kind::Video(Video { url, bytes, duration_s, format, snapshot }) => {
            let thumb = snapshot.clone().unwrap_or_default();
            (
                "TIMVideoFileElem",
                json!({
                    "VideoUrl": url, "VideoUUID": url, "VideoSize": bytes, "VideoSecond": duration_s,
                    "VideoFormat": format, "VideoDownloadFlag": 2, "ThumbUrl": thumb.url, "ThumbUUID": thumb.url,
                    "ThumbSize": thumb.bytes, "ThumbWidth": thumb.width, "ThumbHeight": thumb.height,
                    "ThumbFormat": "", "ThumbDownloadFlag": 2
                }),
            )
        }
        Kind::Merged(Merged { content_id, title, abstracts, count }) => (
            "TIMRelayElem",
            json!({
                "Title": title, "MsgNum": count, "AbstractList": abstracts, "RelayId": BASE64.encode(content_id)
            }),
        ),
        Kind::Notification(_) | Kind::GroupTips(_) => return None,
    };
    Some(json!({ "MsgType": name, "MsgContent": content }))
}

fn picture_to_json(picture: &Picture) -> Value {
    let number = SIZES.iter().find(|(size, _)| *size == picture.size()).map_or(1, |(_, number)| *number);
    let Picture { url, width, height, bytes, .. } = picture;
    json!({ "Type": number, "Size": bytes, "Width": width, "Height": height, "URL": url })
}

/// Bytes that are a text as such, others in base64.
pub fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| BASE64.encode(bytes), str::to_owned)
}

/// Elements from JSON; `None` if it has not the published form.
pub fn from_json(body: &Value) -> Option<Vec<Element>> {
    let element = |element: &Value| Some(Element { kind: Some(element_from_json(element)?) });
    body.as_array()?.iter().map(element).collect()
}

fn element_from_json(element: &Value) -> Option<Kind> {
    let content = element.get("MsgContent")?;
    let text = |name: &str| content.get(name).map_or(Some(""), Value::as_str).map(str::to_owned);
    let bytes = |name: &str| text(name).map(Bytes::from);
    let number = |name: &str| content.get(name).map_or(Some(0), Value::as_u64);
    let short = |name: &str| number(name).and_then(|number| u32::try_from(number).ok());
    let degrees = |name: &str| content.get(name).and_then(Value::as_f64);
    Some(match element.get("MsgType")?.as_str()? {
        "TIMTextElem" => Kind::Text(Text { text: text("Text")? }),
        "TIMFaceElem" => {
            let index = content.get("Index").map_or(Some(0), Value::as_i64)?.try_into().ok()?;
            Kind::Face(Face { index, data: bytes("Data")? })
        }
        "TIMLocationElem" => Kind::Location(Location {
            name: text("Desc")?,
            longitude: degrees("Longitude")?,
            latitude: degrees("Latitude")?,
        }),
        "TIMCustomElem" => {
            Kind::Custom(Custom { data: bytes("Data")?, description: text("Desc")?, extension: bytes("Ext")? })
        }
        "TIMSoundElem" => {
            Kind::Voice(Voice { url: text("Url")?, bytes: number("Size")?, duration_s: short("Second")? })
        }
        "TIMFileElem" => Kind::File(File { url: text("Url")?, bytes: number("FileSize")?, name: text("FileName")? }),
        "TIMImageElem" => {
            let format = number("ImageFormat")?;
            let format = IMAGE_FORMATS.iter().find(|(_, number)| *number == format).map_or("", |(name, _)| name);
            let pictures = content.get("ImageInfoArray")?.as_array()?.iter().map(picture_from_json);
            Kind::Image(Image { format: format.to_owned(), pictures: pictures.collect::<Option<_>>()? })
        }
        "TIMVideoFileElem" => {
            let snapshot = Picture {
                url: text("ThumbUrl")?,
                bytes: number("ThumbSize")?,
                width: short("ThumbWidth")?,
                height: short("ThumbHeight")?,
                ..Picture::default()
            };
            Kind::Video(Video {
                url: text("VideoUrl")?,
                bytes: number("VideoSize")?,
                duration_s: short("VideoSecond")?,
                format: text("VideoFormat")?,
                snapshot: (!snapshot.url.is_empty()).then_some(snapshot),
            })
        }
        "TIMRelayElem" => Kind::Merged(Merged {
            content_id: BASE64.decode(text("RelayId")?).ok()?.into(),
            title: text("Title")?,
            abstracts: content
                .get("AbstractList")?
                .as_array()?
                .iter()
                .map(|line| Some(line.as_str()?.to_owned()))
                .collect::<Option<_>>()?,
            count: short("MsgNum")?,
        }),
        _ => return None,
    })
}

fn picture_from_json(picture: &Value) -> Option<Picture> {
    let number = |name: &str| picture.get(name).map_or(Some(0), Value::as_u64);
    let short = |name: &str| number(name).and_then(|number| u32::try_from(number).ok());
    let kind = number("Type")?;
    let (size, _) = SIZES.iter().find(|(_, number)| *number == kind)?;
    Some(Picture {
        size: (*size).into(),
        url: picture.get("URL")?.as_str()?.to_owned(),
        width: short("Width")?,
        height: short("Height")?,
        bytes: number("Size")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_published_form_comes_back_as_it_was() {
        let picture =
            |size: Size| Picture { size: size.into(), url: "https://a/b".into(), width: 4, height: 3, bytes: 10 };
        let kinds = [
            Kind::Text(Text { text: "hi".into() }),
            Kind::Face(Face { index: -7, data: "x".into() }),
            Kind::Location(Location { name: "here".into(), longitude: 13.5, latitude: -52.25 }),
            Kind::Custom(Custom { data: "d".into(), description: "e".into(), extension: "f".into() }),
            Kind::Voice(Voice { url: "https://v".into(), bytes: 1, duration_s: 2 }),
            Kind::File(File { url: "https://f".into(), bytes: 3, name: "n".into() }),
            Kind::Image(Image {
                format: "png".into(),
                pictures: vec![picture(Size::Original), picture(Size::Thumbnail)],
            }),
            Kind::Video(Video {
                url: "https://w".into(),
                bytes: 9,
                duration_s: 8,
                format: "mp4".into(),
                snapshot: Some(picture(Size::Original)),
            }),
            Kind::Merged(Merged {
                content_id: vec![7; 16].into(),
                title: "t".into(),
                abstracts: vec!["a".into()],
                count: 2,
            }),
        ];
        let elements: Vec<Element> = kinds.into_iter().map(|kind| Element { kind: Some(kind) }).collect();
        let json = to_json(&elements);
        assert_eq!(json.as_array().unwrap().len(), elements.len());
        assert_eq!(from_json(&json), Some(elements));
        assert_eq!(json[0], json!({"MsgType": "TIMTextElem", "MsgContent": {"Text": "hi"}}));
        for wrong in [json!({}), json!([7]), json!([{"MsgType": "Odd", "MsgContent": {}}])] {
            assert_eq!(from_json(&wrong), None);
        }
        let number = json!([{"MsgType": "TIMTextElem", "MsgContent": {"Text": 7}}]);
        assert_eq!(from_json(&number), None);
    }
}
