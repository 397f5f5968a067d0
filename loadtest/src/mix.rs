//! A mix of message types as people send them. What a message is, to the last byte, follows from one number.
//!
//! Left out are a merged message, whose content would have to be stored first, and what only a server may
//! write (system notifications, group tips).

use protocol::message::{Custom, Face, File, Image, Location, Picture, Video, Voice, element::Kind, picture::Size};

use crate::payload::{GOLDEN_GAMMA, mix};

type Maker = fn(&mut Draw) -> Option<Kind>;

/// How many of a thousand messages are of each type.
const MIX: &[(u64, &str, Maker)] = &[
    (700, "text", |_| None),
    (120, "image", |draw| Some(Kind::Image(image(draw)))),
    (60, "face", |draw| Some(Kind::Face(face(draw)))),
    (60, "voice", |draw| Some(Kind::Voice(voice(draw)))),
    (25, "custom", |draw| Some(Kind::Custom(custom(draw)))),
    (15, "video", |draw| Some(Kind::Video(video(draw)))),
    (10, "file", |draw| Some(Kind::File(file(draw)))),
    (10, "location", |draw| Some(Kind::Location(location(draw)))),
];

/// What the message of `state` says; `None`: it is a text.
pub(crate) fn element(state: u64) -> Option<Kind> {
    let mut draw = Draw(state);
    let mut left = draw.below(1_000);
    for (weight, _, make) in MIX {
        if left < *weight {
            return make(&mut draw);
        }
        left -= weight;
    }
    None
}

/// Numbers that look random and follow from the first one.
#[derive(Clone, Debug)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Draw(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN_GAMMA);
        mix(self.0)
    }

    /// From 0 to one less than `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// Where an application that keeps files in an object store would have put one.
    fn url(&mut self, extension: &str) -> String {
        format!("https://files.example.com/{:016x}/{:016x}.{extension}", self.next(), self.next())
    }
}

fn image(draw: &mut Draw) -> Image {
    let (width, height) = (draw.between(600, 4_000), draw.between(600, 4_000));
    let pictures = [(Size::Original, 1, 6), (Size::Large, 3, 20), (Size::Thumbnail, 15, 120)];
    let pictures = pictures.map(|(size, smaller, packed)| {
        let (width, height) = (width / smaller, height / smaller);
        let url = draw.url("jpg");
        Picture {
            size: size.into(),
            url,
            width: width as u32,
            height: height as u32,
            bytes: width * height / packed + 1,
        }
    });
    Image { format: "jpg".into(), pictures: pictures.into(), ..Image::default() }
}

fn face(draw: &mut Draw) -> Face {
    let index = draw.below(200) as i32;
    Face { index, data: format!("tt{index:02}").into() }
}

fn voice(draw: &mut Draw) -> Voice {
    let duration_s = draw.between(1, 60) as u32;
    Voice { url: draw.url("m4a"), bytes: u64::from(duration_s) * 2_000, duration_s, ..Voice::default() }
}

fn custom(draw: &mut Draw) -> Custom {
    let data = format!(r#"{{"kind":"order","id":"{:016x}","items":{}}}"#, draw.next(), draw.between(1, 20));
    Custom { data: data.into(), description: "an order".into(), ..Custom::default() }
}

fn video(draw: &mut Draw) -> Video {
    let duration_s = draw.between(3, 180) as u32;
    let snapshot = Picture {
        size: Size::Thumbnail.into(),
        url: draw.url("jpg"),
        width: 320,
        height: 180,
        bytes: draw.between(5_000, 30_000),
    };
    Video {
        url: draw.url("mp4"),
        bytes: u64::from(duration_s) * 250_000,
        duration_s,
        format: "mp4".into(),
        snapshot: Some(snapshot),
        ..Video::default()
    }
}

fn file(draw: &mut Draw) -> File {
    File {
        url: draw.url("pdf"),
        bytes: draw.between(10_000, 20_000_000),
        name: format!("report {}.pdf", draw.between(1, 999)),
        ..File::default()
    }
}

fn location(draw: &mut Draw) -> Location {
    // In steps of a thousandth of a degree.
    let degrees = |thousandths: u64, half: f64| thousandths as f64 / 1e3 - half;
    Location {
        name: format!("{} Main Street", draw.between(1, 999)),
        longitude: degrees(draw.below(360_001), 180.0),
        latitude: degrees(draw.below(180_001), 90.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_thousandths() {
        assert_eq!(MIX.iter().map(|row| row.0).sum::<u64>(), 1_000);
    }

    #[test]
    fn every_type_comes_as_often_as_its_weight_says() {
        const MESSAGES: u64 = 100_000;
        let mut counts = vec![0; MIX.len()];
        for state in 0..MESSAGES {
            let kind = element(mix(state));
            assert_eq!(kind, element(mix(state)), "the same again");
            let name = match kind {
                None => "text",
                Some(Kind::Image(_)) => "image",
                Some(Kind::Face(_)) => "face",
                Some(Kind::Voice(_)) => "voice",
                Some(Kind::Custom(_)) => "custom",
                Some(Kind::Video(_)) => "video",
                Some(Kind::File(_)) => "file",
                Some(Kind::Location(_)) => "location",
                other => panic!("{other:?} is not in the mix"),
            };
            counts[MIX.iter().position(|row| row.1 == name).unwrap()] += 1;
        }
        for ((weight, name, _), count) in MIX.iter().zip(counts) {
            let expected = MESSAGES * weight / 1_000;
            assert!((expected * 8 / 10..=expected * 12 / 10).contains(&count), "{count} of {name}");
        }
    }
}
