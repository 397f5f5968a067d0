//! A message on its way into the store.

use bytes::Bytes;
use protocol::message::Priority;

use super::{
    AppId, Error, Peer, UserId,
    act::Author,
    elements::{self, Facts},
};

/// Longest client message id, in bytes.
pub const CLIENT_MESSAGE_ID_BYTES_MAX: usize = 32;
/// Default of the longest message body, in bytes (the hosted original's limit).
pub const MESSAGE_BYTES_MAX_DEFAULT: usize = 12 * 1024;

/// Members for whom alone a group's message may be, at the most.
pub const RECIPIENTS_MAX: usize = 50;

/// A message on its way into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// The application.
    pub app: AppId,
    /// Who sends it.
    pub from: UserId,
    /// Whom it is for.
    pub to: Peer,
    /// In a group: for whom alone it is, beside the sender. Empty: everybody.
    pub recipients: Box<[UserId]>,
    /// The sender's own id of it.
    pub client_message_id: Bytes,
    /// An encoded [`Body`](protocol::message::Body), kept byte for byte.
    pub body: Bytes,
    /// How it is treated.
    pub treatment: Treatment,
    /// What [`NewMessage::check`] has found in the body.
    pub facts: Option<Box<Facts>>,
    /// In whose name.
    pub by: Author,
    /// Another id under which the sender may have sent it.
    pub earlier: Option<Earlier>,
}

/// An id under which a message may have been stored a little earlier: ids that hold for a time change in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// The sender's own id of it.
    pub client_message_id: Bytes,
    /// What was stored before is another message: milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// How a message is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Treatment {
    /// Carried along.
    pub priority: Priority,
    /// Delivered now or never, and stored nowhere (MSG-10).
    pub online_only: bool,
    /// Does not count as unread.
    pub exclude_from_unread: bool,
    /// Is not a conversation's last message, nor brings it up in the list.
    pub exclude_from_last_message: bool,
    /// The recipient's client is asked for a receipt (MSG-07).
    pub need_receipt: bool,
    /// The recipient's devices are told, even if the recipient does not receive from the sender.
    pub reaches_deaf: bool,
    /// Not in the sender's log, and deleted for the sender.
    pub hidden_from_sender: bool,
    /// The sender is in the live room that it is for, as the gateway knows.
    pub is_in_room: bool,
    /// In nobody's log: history that was imported.
    pub unannounced: bool,
    /// When it was sent, milliseconds since the Unix epoch, if that was earlier. Within a conversation time does
    /// not run back: then the message counts as sent with the one before it.
    pub sent_ms: Option<u64>,
}

impl NewMessage {
    /// A message that is treated as usual.
    pub fn new(app: AppId, from: UserId, to: impl Into<Peer>, client_message_id: Bytes, body: Bytes) -> Self {
        let to = to.into();
        let (treatment, by) = (Treatment::default(), Author::User);
        let (recipients, facts, earlier) = (Box::default(), None, None);
        NewMessage { app, from, to, recipients, client_message_id, body, treatment, facts, by, earlier }
    }

    /// The ids by which it is known again, each with the time before which it named another message.
    pub(super) fn ids(&self) -> impl Iterator<Item = (&Bytes, u64)> {
        let earlier = self.earlier.iter().map(|earlier| (&earlier.client_message_id, earlier.since_ms));
        [(&self.client_message_id, 0)].into_iter().chain(earlier)
    }

    /// Everything that can be said without the store: lengths and content.
    pub fn check(&mut self, message_bytes_max: usize) -> Result<(), Error> {
        if self.ids().any(|(id, _)| !(1..=CLIENT_MESSAGE_ID_BYTES_MAX).contains(&id.len())) {
            return Err(Error::Argument("client_message_id must have 1 to 32 bytes"));
        }
        if self.body.len() > message_bytes_max {
            return Err(Error::MessageTooLong { bytes: self.body.len(), limit: message_bytes_max });
        }
        self.facts = elements::check(&self.body, self.by)?;
        if self.recipients.is_empty() { Ok(()) } else { self.check_recipients() }
    }

    /// What is for some members alone is not counted, nor shown as the group's last message: that is one for all.
    fn check_recipients(&mut self) -> Result<(), Error> {
        if self.to.group().is_none() || self.treatment.unannounced {
            return Err(Error::Argument("recipients are for messages to groups"));
        }
        if self.recipients.len() > RECIPIENTS_MAX {
            return Err(Error::Argument("recipients must name at most 50 users"));
        }
        self.facts.as_deref().map_or(Ok(()), Facts::ensure_mentions_nobody)?;
        self.treatment.exclude_from_unread = true;
        self.treatment.exclude_from_last_message = true;
        let mut recipients = std::mem::take(&mut self.recipients).into_vec();
        recipients.sort_unstable();
        recipients.dedup();
        self.recipients = recipients.into();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use protocol::message::{Body, Element, Text, element::Kind};

    fn text_body(text: &str) -> Bytes {
        let element = Element { kind: Some(Kind::Text(Text { text: text.to_owned() })) };
        Body { elements: vec![element], ..Body::default() }.encode_to_vec().into()
    }

    fn check(body: Bytes) -> Result<(), Error> {
        let user = |name| UserId::new(name).unwrap();
        let (from, to) = (user("a"), user("b"));
        let client_message_id = Bytes::from_static(b"1");
        NewMessage::new(1, from, to, client_message_id, body).check(100)
    }

    #[test]
    fn text_with_content_passes_and_the_rest_is_named() {
        assert_eq!(check(text_body("hello")), Ok(()));
        assert_eq!(check(text_body("")), Err(Error::MessageEmpty));
        assert_eq!(check(Bytes::new()), Err(Error::MessageEmpty));
        assert_eq!(
            check(Body { elements: vec![Element { kind: None }], ..Body::default() }.encode_to_vec().into()),
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
