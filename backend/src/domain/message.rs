//! What a message may be.

use bytes::Bytes;
use prost::Message as _;
use protocol::message::{Body, element::Kind};

use super::{AppId, Error, UserId};

/// Longest client message id, in bytes.
pub const CLIENT_MESSAGE_ID_BYTES_MAX: usize = 32;
/// Default of the longest message body, in bytes (the hosted original's limit).
pub const MESSAGE_BYTES_MAX_DEFAULT: usize = 12 * 1024;

/// A message on its way into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// The application of both users.
    pub app: AppId,
    /// Who sends it.
    pub from: UserId,
    /// Who is to get it.
    pub to: UserId,
    /// The sender's own id of it.
    pub client_message_id: Bytes,
    /// An encoded [`Body`], kept byte for byte.
    pub body: Bytes,
}

impl NewMessage {
    /// Everything that can be said without the store: lengths and content.
    pub fn check(&self, message_bytes_max: usize) -> Result<(), Error> {
        if !(1..=CLIENT_MESSAGE_ID_BYTES_MAX).contains(&self.client_message_id.len()) {
            return Err(Error::Argument("client_message_id must have 1 to 32 bytes"));
        }
        if self.body.len() > message_bytes_max {
            return Err(Error::MessageTooLong { bytes: self.body.len(), limit: message_bytes_max });
        }
        check_body(&self.body)
    }
}

/// Known elements must have content. Elements of a newer client pass: only their bytes say that they
/// are there, because decoding drops what it doesn't know.
fn check_body(encoded: &Bytes) -> Result<(), Error> {
    let body = Body::decode(encoded.clone()).map_err(|_| Error::MessageInvalid)?;
    let has_unknown = body.encoded_len() < encoded.len();
    if body.elements.is_empty() && !has_unknown {
        return Err(Error::MessageEmpty);
    }
    for element in &body.elements {
        match &element.kind {
            Some(Kind::Text(text)) if text.text.is_empty() => return Err(Error::MessageEmpty),
            None if !has_unknown => return Err(Error::MessageEmpty),
            Some(Kind::Text(_)) | None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::message::{Element, Text};

    fn text_body(text: &str) -> Bytes {
        let element = Element { kind: Some(Kind::Text(Text { text: text.to_owned() })) };
        Body { elements: vec![element] }.encode_to_vec().into()
    }

    fn check(body: Bytes) -> Result<(), Error> {
        let user = |name| UserId::new(name).unwrap();
        NewMessage { app: 1, from: user("a"), to: user("b"), client_message_id: Bytes::from_static(b"1"), body }
            .check(100)
    }

    #[test]
    fn text_with_content_passes_and_the_rest_is_named() {
        assert_eq!(check(text_body("hello")), Ok(()));
        assert_eq!(check(text_body("")), Err(Error::MessageEmpty));
        assert_eq!(check(Bytes::new()), Err(Error::MessageEmpty));
        assert_eq!(
            check(Body { elements: vec![Element { kind: None }] }.encode_to_vec().into()),
            Err(Error::MessageEmpty)
        );
        assert_eq!(check(Bytes::from_static(b"\xff\xff")), Err(Error::MessageInvalid));
        assert!(matches!(check(text_body(&"x".repeat(100))), Err(Error::MessageTooLong { limit: 100, .. })));
    }

    #[test]
    fn an_element_of_a_newer_client_passes() {
        // Field 1 (element) holding field 15 with one byte, which this version does not know.
        assert_eq!(check(Bytes::from_static(&[0x0a, 0x03, 0x7a, 0x01, b'x'])), Ok(()));
    }
}
