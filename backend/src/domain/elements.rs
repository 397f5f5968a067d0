//! What the elements of a message may be (TYPE-01 to TYPE-11): limits of their fields.
//!
//! The server looks at what it knows and keeps every byte: an element of a newer client passes, and only
//! the bytes left over after decoding say that it is there.

use bytes::Bytes;
use prost::Message as _;
use protocol::message::{
    Body, Custom, Element, Face, File, Image, Location, Merged, Picture, Video, Voice, element::Kind,
};

use super::{Error, UserId, act::Author};

/// Elements of a message, at the most.
pub const ELEMENTS_MAX: usize = 32;
/// Longest URL, in bytes.
pub const URL_BYTES_MAX: usize = 2_048;
/// Longest name of a file or a place, and longest title, in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// Longest format, in bytes.
pub const FORMAT_BYTES_MAX: usize = 16;
/// Largest file, video, voice or picture that a message may point to, in bytes.
pub const MEDIA_BYTES_MAX: u64 = 100 * 1024 * 1024;
/// Users that a message mentions by name, at the most.
pub const MENTIONS_MAX: usize = 30;
/// Messages inside a merged one, at the most.
pub const MERGED_MAX: usize = 300;
/// Lines of a merged message that are shown without fetching it, at the most.
pub const ABSTRACTS_MAX: usize = 5;
/// Length of the id of a merged message's content, in bytes.
pub const CONTENT_ID_BYTES: usize = 16;

/// What must be known of a body beyond its bytes; the usual message has nothing of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Who is mentioned by name.
    pub mentions: Vec<UserId>,
    /// Everybody is mentioned.
    pub mention_all: bool,
    /// Contents of merged messages, with the number of messages said to be in them.
    pub merged: Vec<(Bytes, u32)>,
}

impl Facts {
    /// Refuses to mention anybody: what is for some members alone does not.
    pub(crate) fn ensure_mentions_nobody(&self) -> Result<(), Error> {
        match self.mention_all || !self.mentions.is_empty() {
            true => Err(Error::Argument("a message with recipients mentions nobody")),
            false => Ok(()),
        }
    }
}

/// Checks an encoded [`Body`]. `None`: there is nothing to know of it.
pub fn check(encoded: &Bytes, by: Author) -> Result<Option<Box<Facts>>, Error> {
    let body = Body::decode(encoded.clone()).map_err(|_| Error::MessageInvalid)?;
    let has_unknown = body.encoded_len() < encoded.len();
    if body.elements.is_empty() && !has_unknown {
        return Err(Error::MessageEmpty);
    }
    if body.elements.len() > ELEMENTS_MAX {
        return Err(Error::Element("a message has at most 32 elements"));
    }
    for element in &body.elements {
        check_element(element, has_unknown, by)?;
    }
    if has_unknown && by == Author::User {
        ensure_nothing_overwritten(encoded)?;
    }
    facts(body)
}

/// Refuses what only the server says also where another kind is written over it. The last kind of an element is
/// the one that counts, but not every client's decoder forgets the others.
fn ensure_nothing_overwritten(encoded: &Bytes) -> Result<(), Error> {
    let body = ServersOwn::decode(encoded.clone()).map_err(|_| Error::MessageInvalid)?;
    let is_own = |element: &ServersOwnElement| element.notification.is_some() || element.group_tips.is_some();
    if body.elements.iter().any(is_own) { Err(Error::NotAllowed) } else { Ok(()) }
}

/// A [`Body`] whose elements may have what only the server says beside anything else.
#[derive(Clone, PartialEq, prost::Message)]
struct ServersOwn {
    #[prost(message, repeated, tag = "1")]
    elements: Vec<ServersOwnElement>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ServersOwnElement {
    #[prost(bytes = "bytes", optional, tag = "9")]
    notification: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "10")]
    group_tips: Option<Bytes>,
}

fn check_element(element: &Element, has_unknown: bool, by: Author) -> Result<(), Error> {
    match &element.kind {
        Some(Kind::Text(text)) if text.text.is_empty() => Err(Error::MessageEmpty),
        Some(Kind::Text(_)) => Ok(()),
        Some(Kind::Image(image)) => check_image(image),
        Some(Kind::Face(Face { index: _, data: _ })) => Ok(()),
        Some(Kind::Voice(Voice { url, bytes, uuid, .. })) => check_media(url, *bytes).and_then(|()| check_uuid(uuid)),
        Some(Kind::Location(location)) => check_location(location),
        Some(Kind::File(file)) => check_file(file),
        Some(Kind::Video(video)) => check_video(video),
        Some(Kind::Custom(custom)) => check_custom(custom),
        Some(Kind::Merged(merged)) => check_merged(merged),
        // Written by the server and by administrators; from a client they would be believed.
        Some(Kind::Notification(_) | Kind::GroupTips(_)) if by == Author::User => Err(Error::NotAllowed),
        Some(Kind::Notification(_) | Kind::GroupTips(_)) => Ok(()),
        None if has_unknown => Ok(()),
        None => Err(Error::MessageEmpty),
    }
}

fn ensure(holds: bool, wrong: &'static str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Element(wrong)) }
}

fn check_media(url: &str, bytes: u64) -> Result<(), Error> {
    ensure((1..=URL_BYTES_MAX).contains(&url.len()), "url must have 1 to 2048 bytes")?;
    ensure(
        !url.chars().any(|c| c.is_control() || c.is_whitespace()),
        "url must not have spaces or control characters",
    )?;
    ensure(bytes <= MEDIA_BYTES_MAX, "bytes must be at most 104857600 (100 MiB)")
}

fn check_format(format: &str) -> Result<(), Error> {
    ensure(format.len() <= FORMAT_BYTES_MAX, "format must have at most 16 bytes")
}

fn check_uuid(uuid: &str) -> Result<(), Error> {
    ensure(uuid.len() <= NAME_BYTES_MAX, "uuid must have at most 256 bytes")
}

fn check_picture(picture: &Picture) -> Result<(), Error> {
    ensure((0..=2).contains(&picture.size), "size of a picture must be 0, 1 or 2")?;
    check_media(&picture.url, picture.bytes)
}

fn check_image(image: &Image) -> Result<(), Error> {
    check_format(&image.format)?;
    check_uuid(&image.uuid)?;
    ensure((1..=3).contains(&image.pictures.len()), "an image has 1 to 3 pictures")?;
    let mut sizes: Vec<i32> = image.pictures.iter().map(|picture| picture.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    ensure(sizes.len() == image.pictures.len(), "an image has one picture of each size")?;
    image.pictures.iter().try_for_each(check_picture)
}

fn check_location(location: &Location) -> Result<(), Error> {
    ensure(location.name.len() <= NAME_BYTES_MAX, "name must have at most 256 bytes")?;
    // Also false for what is no number.
    ensure((-180.0..=180.0).contains(&location.longitude), "longitude must be -180 to 180")?;
    ensure((-90.0..=90.0).contains(&location.latitude), "latitude must be -90 to 90")
}

fn check_file(file: &File) -> Result<(), Error> {
    check_media(&file.url, file.bytes)?;
    check_uuid(&file.uuid)?;
    ensure((1..=NAME_BYTES_MAX).contains(&file.name.len()), "name must have 1 to 256 bytes")
}

fn check_video(video: &Video) -> Result<(), Error> {
    check_media(&video.url, video.bytes)?;
    check_format(&video.format)?;
    check_format(&video.snapshot_format)?;
    check_uuid(&video.uuid)?;
    check_uuid(&video.snapshot_uuid)?;
    video.snapshot.iter().try_for_each(check_picture)
}

fn check_custom(Custom { data, description, extension, sound }: &Custom) -> Result<(), Error> {
    let is_empty = data.is_empty() && description.is_empty() && extension.is_empty();
    ensure(sound.len() <= NAME_BYTES_MAX, "sound must have at most 256 bytes")?;
    if is_empty { Err(Error::MessageEmpty) } else { Ok(()) }
}

fn check_merged(merged: &Merged) -> Result<(), Error> {
    ensure(merged.content_id.len() == CONTENT_ID_BYTES, "content_id must have 16 bytes")?;
    ensure(merged.title.len() <= NAME_BYTES_MAX, "title must have at most 256 bytes")?;
    ensure(merged.abstracts.len() <= ABSTRACTS_MAX, "a merged message has at most 5 abstracts")?;
    let short = merged.abstracts.iter().all(|line| line.len() <= NAME_BYTES_MAX);
    ensure(short, "an abstract must have at most 256 bytes")?;
    ensure((1..=MERGED_MAX).contains(&(merged.count as usize)), "count must be 1 to 300")
}

fn facts(body: Body) -> Result<Option<Box<Facts>>, Error> {
    ensure(body.mentions.len() <= MENTIONS_MAX, "a message mentions at most 30 users")?;
    let mention = |name: &String| UserId::new(name).ok_or(Error::Element("a mention is not a user's name"));
    let facts = Facts {
        mentions: body.mentions.iter().map(mention).collect::<Result<_, _>>()?,
        mention_all: body.mention_all,
        merged: body
            .elements
            .into_iter()
            .filter_map(|element| match element.kind {
                // Copied out of what was read, which may be much larger and would live as long.
                Some(Kind::Merged(merged)) => Some((Bytes::copy_from_slice(&merged.content_id), merged.count)),
                _ => None,
            })
            .collect(),
    };
    Ok((facts != Facts::default()).then(|| Box::new(facts)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::message::{GroupTips, Notification, Text};

    fn check(encoded: &Bytes) -> Result<Option<Box<Facts>>, Error> {
        super::check(encoded, Author::User)
    }

    fn body(kinds: Vec<Kind>) -> Bytes {
        let elements = kinds.into_iter().map(|kind| Element { kind: Some(kind) }).collect();
        Body { elements, ..Body::default() }.encode_to_vec().into()
    }

    fn picture(size: i32, url: &str) -> Picture {
        Picture { size, url: url.into(), width: 4, height: 3, bytes: 10 }
    }

    fn image(pictures: Vec<Picture>) -> Kind {
        Kind::Image(Image { format: "png".into(), pictures, ..Image::default() })
    }

    fn place(longitude: f64, latitude: f64) -> Kind {
        Kind::Location(Location { name: "here".into(), longitude, latitude })
    }

    fn merged(count: u32) -> Merged {
        Merged {
            content_id: Bytes::from_static(&[7; 16]),
            title: "talk".into(),
            abstracts: vec!["a: hi".into()],
            count,
            ..Merged::default()
        }
    }

    #[test]
    fn each_type_passes_with_content_and_is_refused_out_of_its_limits() {
        let url = "https://files.example/1";
        let voice = |url: &str, bytes| Kind::Voice(Voice { url: url.into(), bytes, duration_s: 3, ..Voice::default() });
        let file = |name: &str| Kind::File(File { url: url.into(), bytes: 1, name: name.into(), ..File::default() });
        let video = |format: &str| {
            let snapshot = Some(picture(2, url));
            let (url, format) = (url.into(), format.into());
            Kind::Video(Video { url, bytes: 9, duration_s: 2, format, snapshot, ..Video::default() })
        };
        let custom = |data: &'static [u8]| Kind::Custom(Custom { data: data.into(), ..Custom::default() });
        let cases = [
            (Kind::Text(Text { text: "hi".into() }), true),
            (Kind::Text(Text::default()), false),
            (image(vec![picture(0, url), picture(2, url)]), true),
            (image(vec![]), false),
            (image(vec![picture(1, url), picture(1, url)]), false),
            (image(vec![picture(3, url)]), false),
            (image(vec![picture(0, "has space")]), false),
            (Kind::Face(Face { index: 7, data: Bytes::new() }), true),
            (voice(url, MEDIA_BYTES_MAX), true),
            (voice(url, MEDIA_BYTES_MAX + 1), false),
            (voice("", 1), false),
            (voice(&"u".repeat(URL_BYTES_MAX + 1), 1), false),
            (place(-180.0, 90.0), true),
            (place(180.1, 0.0), false),
            (place(0.0, f64::NAN), false),
            (file("a.txt"), true),
            (file(""), false),
            (video("mp4"), true),
            (video("a format with a long name"), false),
            (custom(b"x"), true),
            (custom(b""), false),
            (Kind::Merged(merged(300)), true),
            (Kind::Merged(merged(0)), false),
            (Kind::Merged(merged(301)), false),
            (Kind::Merged(Merged { content_id: Bytes::from_static(b"short"), ..merged(1) }), false),
            (Kind::Merged(Merged { abstracts: vec![String::new(); 6], ..merged(1) }), false),
            (Kind::Notification(Notification::default()), false),
            (Kind::GroupTips(GroupTips::default()), false),
        ];
        for (kind, passes) in cases {
            assert_eq!(check(&body(vec![kind.clone()])).is_ok(), passes, "{kind:?}");
            let made_by_servers = matches!(kind, Kind::Notification(_) | Kind::GroupTips(_));
            let by_admin = super::check(&body(vec![kind]), Author::Admin);
            assert_eq!(by_admin.is_ok(), passes || made_by_servers);
        }
        let many = vec![Kind::Text(Text { text: "x".into() }); ELEMENTS_MAX + 1];
        assert!(check(&body(many[1..].to_vec())).is_ok());
        assert!(matches!(check(&body(many)), Err(Error::Element(_))));
    }

    #[test]
    fn mentions_and_contents_are_told() {
        let mut with = Body { elements: vec![Element { kind: Some(Kind::Merged(merged(3))) }], ..Body::default() };
        with.mentions = vec!["ben".into()];
        with.mention_all = true;
        let facts = check(&with.encode_to_vec().into()).unwrap().unwrap();
        assert_eq!(facts.mentions, [UserId::new("ben").unwrap()]);
        assert!(facts.mention_all);
        assert_eq!(facts.merged, [(Bytes::from_static(&[7; 16]), 3)]);
        assert_eq!(check(&body(vec![Kind::Text(Text { text: "hi".into() })])), Ok(None));
        with.mentions = vec![String::new()];
        assert!(check(&with.encode_to_vec().into()).is_err());
        with.mentions = vec!["ben".into(); MENTIONS_MAX + 1];
        assert!(check(&with.encode_to_vec().into()).is_err());
    }
}
