//! The client's side of a connection.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::{Millis, SILENT_INTERVALS_MAX, frame_limit};
use crate::{
    ErrorCode, VERSION_MAX, VERSION_MIN,
    command::{Command, Topic},
    frame::{self, Decoder, Frame, FrameError, Kind, Prefix},
    message::{self, AccessPoint, Device, EventPush, Failure, GoAway, GroupPush, Hello, Pong, Presence, Welcome},
};

/// Until the welcome names one, a client waits this long for the server.
const WELCOME_DEADLINE_MS: u64 = 15_000;
/// A client sends heartbeats no faster than this, whatever the welcome says.
const HEARTBEAT_MS_FLOOR: u32 = 100;

/// What a client says of itself in its hello.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Heartbeat interval to ask for, in milliseconds; 0 leaves it to the server.
    pub heartbeat_ms: u32,
    /// Largest frame body to accept, in bytes; 0 for the default.
    pub frame_bytes_max: u32,
    /// Accept and send compressed payloads.
    pub deflate: bool,
    /// Name and version of the software.
    pub client: String,
}

/// What the server said.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// The server speaks the protocol.
    Welcome(Welcome),
    /// A request succeeded; the payload is its reply. An id that is not outstanding is to be ignored.
    Response {
        /// The number [`ClientConnection::request`] returned.
        id: u32,
        /// An encoded message; [`Command::messages`] says which.
        payload: Bytes,
    },
    /// A request failed.
    Failed {
        /// The number [`ClientConnection::request`] returned.
        id: u32,
        /// Why.
        code: ErrorCode,
        /// For people.
        text: String,
        /// When to try again, if the code is retryable.
        retry_after_ms: u32,
    },
    /// A new entry of the event log.
    Event(EventPush),
    /// An online-only message.
    OnlineMessage(message::Message),
    /// The presence of a followed user changed.
    Presence(Presence),
    /// Something of a group that is in no log.
    Group(GroupPush),
    /// The server dropped pushes: sync from the last cursor.
    Behind,
    /// The answer to a ping.
    Pong(Pong),
    /// The connection is over. Last event.
    Closing {
        /// Why.
        code: ErrorCode,
        /// For people.
        text: String,
        /// When to connect again.
        retry_after_ms: u32,
        /// The device because of which this one was signed out.
        by: Option<Device>,
        /// Where to connect instead, the best first; may be empty.
        access_points: Vec<AccessPoint>,
    },
}

/// A connection to a server.
#[derive(Debug)]
pub struct ClientConnection {
    decoder: Decoder,
    output: BytesMut,
    events: VecDeque<ClientEvent>,
    frame_bytes_max: usize,
    wants_deflate: bool,
    deflate: bool,
    heartbeat_ms: Option<u32>,
    next_id: u32,
    started: Millis,
    last_sent: Millis,
    last_received: Millis,
    ended: bool,
    closed: bool,
}

impl ClientConnection {
    /// A connection whose transport is ready at `now`; the hello is in the output already. Requests may
    /// follow at once, without waiting for the welcome.
    pub fn new(config: ClientConfig, now: Millis) -> Self {
        let hello = Hello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            heartbeat_ms: config.heartbeat_ms,
            frame_bytes_max: config.frame_bytes_max,
            deflate: config.deflate,
            client: config.client,
        };
        let mut output = BytesMut::new();
        frame::put(&mut output, Kind::Hello, Prefix::Magic, &hello, false);
        ClientConnection {
            decoder: Decoder::default(),
            output,
            events: VecDeque::new(),
            frame_bytes_max: frame_limit(config.frame_bytes_max),
            wants_deflate: config.deflate,
            deflate: false,
            heartbeat_ms: None,
            next_id: 1,
            started: now,
            last_sent: now,
            last_received: now,
            ended: false,
            closed: false,
        }
    }

    /// Sends a request; its answer comes as an event with the returned number. Once the connection is
    /// over nothing is sent, and no answer comes.
    pub fn request(&mut self, now: Millis, command: Command, payload: &impl Message) -> u32 {
        let id = self.next_id;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        if !self.closed {
            self.last_sent = now;
            frame::put(&mut self.output, Kind::Request, Prefix::Pair(id, command.code()), payload, self.deflate);
        }
        id
    }

    /// Sends a heartbeat. [`Self::handle_timeout`] does so by itself when it is due.
    pub fn ping(&mut self, now: Millis) {
        if !self.closed {
            self.last_sent = now;
            frame::put(&mut self.output, Kind::Ping, Prefix::None, &(), false);
        }
    }

    /// Bytes came from the server.
    pub fn receive(&mut self, now: Millis, bytes: &[u8]) {
        if self.closed || bytes.is_empty() {
            return;
        }
        self.last_received = now;
        self.decoder.feed(bytes);
        self.cut_frames();
    }

    /// The server closed its sending direction. An end between two frames is no event: the caller saw it.
    pub fn receive_end(&mut self) {
        self.ended = true;
        self.cut_frames();
    }

    /// The next thing to handle. Frames are cut one event at a time: poll until there is none before more
    /// bytes are received.
    pub fn poll(&mut self) -> Option<ClientEvent> {
        self.cut_frames();
        self.events.pop_front()
    }

    /// Bytes to write to the server. Take them out with `split` or `clear`.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// When to call [`Self::handle_timeout`]; never, once the connection is over.
    pub fn timeout(&self) -> Millis {
        match self.heartbeat_ms {
            _ if self.closed => Millis::MAX,
            None => self.started.saturating_add(WELCOME_DEADLINE_MS),
            Some(interval) => self.ping_due(interval).min(self.silence_deadline(interval)),
        }
    }

    /// The time is `now`: sends a heartbeat if one is due, gives up if the server is silent for too long.
    pub fn handle_timeout(&mut self, now: Millis) {
        match self.heartbeat_ms {
            None if now >= self.timeout() => self.close(ErrorCode::HELLO_DEADLINE, "no welcome".into(), 0),
            Some(interval) if now >= self.silence_deadline(interval) => {
                self.close(ErrorCode::HEARTBEAT_LOST, "the server is silent".into(), 0);
            }
            Some(interval) if now >= self.ping_due(interval) => self.ping(now),
            _ => {}
        }
    }

    /// Bytes of input that are held: an unfinished frame, or frames that wait to be polled.
    pub fn buffered_bytes(&self) -> usize {
        self.decoder.buffered_bytes()
    }

    /// Heartbeat interval agreed on, in milliseconds, once the welcome is there.
    pub fn heartbeat_ms(&self) -> Option<u32> {
        self.heartbeat_ms
    }

    fn silence_deadline(&self, interval_ms: u32) -> Millis {
        // A quiet server is only heard through answers to pings, so one interval more than it grants.
        self.last_received.saturating_add(u64::from(interval_ms) * (SILENT_INTERVALS_MAX + 1))
    }

    fn ping_due(&self, interval_ms: u32) -> Millis {
        self.last_sent.saturating_add(u64::from(interval_ms))
    }

    fn cut_frames(&mut self) {
        while self.events.is_empty() && !self.closed {
            let handled = match self.decoder.next_frame(self.frame_bytes_max) {
                Ok(Some(frame)) => self.handle_frame(frame),
                Ok(None) if self.ended && self.decoder.buffered_bytes() > 0 => Err(FrameError::Truncated),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            if let Err(error) = handled {
                self.close(error.code(), error.to_string(), 0);
            }
        }
    }

    fn handle_frame(&mut self, frame: Frame) -> Result<(), FrameError> {
        if self.heartbeat_ms.is_none() && !matches!(frame.kind, Kind::Welcome | Kind::GoAway) {
            return Err(FrameError::Invalid);
        }
        match frame.kind {
            Kind::Welcome => self.handle_welcome(frame.body)?,
            Kind::Response => self.handle_response(frame)?,
            Kind::Push => self.handle_push(frame)?,
            Kind::Pong => {
                let pong = Pong::decode(frame.body).map_err(|_| FrameError::Invalid)?;
                self.events.push_back(ClientEvent::Pong(pong));
            }
            Kind::GoAway => {
                let goaway = GoAway::decode(frame.body).map_err(|_| FrameError::Invalid)?;
                self.close_with(goaway);
            }
            Kind::Unknown(_) => {} // from a newer server: skipped by its length
            Kind::Hello | Kind::Request | Kind::Ping => return Err(FrameError::Invalid),
        }
        Ok(())
    }

    fn handle_welcome(&mut self, body: Bytes) -> Result<(), FrameError> {
        let welcome = Welcome::decode(body).map_err(|_| FrameError::Invalid)?;
        if self.heartbeat_ms.is_some() || !(VERSION_MIN..=VERSION_MAX).contains(&welcome.version) {
            return Err(FrameError::Invalid);
        }
        self.heartbeat_ms = Some(welcome.heartbeat_ms.max(HEARTBEAT_MS_FLOOR));
        self.deflate = self.wants_deflate && welcome.deflate;
        self.events.push_back(ClientEvent::Welcome(welcome));
        Ok(())
    }

    fn handle_response(&mut self, frame: Frame) -> Result<(), FrameError> {
        let (id, code, payload) = frame::split_pair(frame.body)?;
        let payload = self.plain(frame.compressed, payload)?;
        let event = match code {
            0 => ClientEvent::Response { id, payload },
            code => {
                let Failure { text, retry_after_ms } = Failure::decode(payload).map_err(|_| FrameError::Invalid)?;
                ClientEvent::Failed { id, code: ErrorCode(code), text, retry_after_ms }
            }
        };
        self.events.push_back(event);
        Ok(())
    }

    fn handle_push(&mut self, frame: Frame) -> Result<(), FrameError> {
        let (topic, payload) = frame::split_topic(frame.body)?;
        let payload = self.plain(frame.compressed, payload)?;
        match Topic::from_code(topic) {
            Some(Topic::Event) => {
                let push = EventPush::decode(payload).map_err(|_| FrameError::Invalid)?;
                self.events.push_back(ClientEvent::Event(push));
            }
            Some(Topic::Behind) => self.events.push_back(ClientEvent::Behind),
            Some(Topic::Message) => {
                let message = message::Message::decode(payload).map_err(|_| FrameError::Invalid)?;
                self.events.push_back(ClientEvent::OnlineMessage(message));
            }
            Some(Topic::Presence) => {
                let presence = Presence::decode(payload).map_err(|_| FrameError::Invalid)?;
                self.events.push_back(ClientEvent::Presence(presence));
            }
            Some(Topic::Group) => {
                let push = GroupPush::decode(payload).map_err(|_| FrameError::Invalid)?;
                self.events.push_back(ClientEvent::Group(push));
            }
            None => {} // from a newer server
        }
        Ok(())
    }

    fn plain(&self, compressed: bool, payload: Bytes) -> Result<Bytes, FrameError> {
        if compressed && !self.deflate {
            return Err(FrameError::Invalid);
        }
        // What inflates may be as large as a plain frame, not larger.
        frame::inflated(compressed, payload, self.frame_bytes_max).map_err(|_| FrameError::Invalid)
    }

    fn close(&mut self, code: ErrorCode, text: String, retry_after_ms: u32) {
        self.close_with(GoAway { code: code.0, text, retry_after_ms, ..GoAway::default() });
    }

    fn close_with(&mut self, goaway: GoAway) {
        if !self.closed {
            self.closed = true;
            self.decoder = Decoder::default();
            let GoAway { code, text, retry_after_ms, by, access_points } = goaway;
            let code = ErrorCode(code);
            self.events.push_back(ClientEvent::Closing { code, text, retry_after_ms, by, access_points });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_start_again_at_one_and_are_never_zero() {
        let config = ClientConfig { heartbeat_ms: 0, frame_bytes_max: 0, deflate: false, client: String::new() };
        let mut client = ClientConnection::new(config, 0);
        client.next_id = u32::MAX;
        let ids = [(); 3].map(|()| client.request(0, Command::Sync, &Pong::default()));
        assert_eq!(ids, [u32::MAX, 1, 2]);
    }
}
