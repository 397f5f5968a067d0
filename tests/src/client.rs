//! A well-behaved client that blocks: one connection of one device.

use std::{collections::VecDeque, net::SocketAddr, net::TcpStream, time::Instant};

use bytes::Bytes;
use prost::Message as _;
use protocol::{
    ErrorCode,
    command::Command,
    connection::{ClientConfig, ClientConnection, ClientEvent},
    message::{
        Body, Element, EventPush, History, HistoryReply, Login, LoginReply, Message, Platform, Pong, Send, SendReply,
        Sync, SyncReply, Text, element, event::What,
    },
};
use socket2::{Domain, Socket, Type};

use crate::{App, PATIENCE, Wire, wire::Config};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request failed; the connection goes on.
    Failed {
        /// Why.
        code: ErrorCode,
        /// When to try again.
        retry_after_ms: u32,
    },
    /// The connection is over; with the go-away, if one came.
    Closed(Option<(ErrorCode, u32)>),
}

impl Refusal {
    /// The code of the failure or the go-away.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Refusal::Failed { code, .. } => Some(*code),
            Refusal::Closed(go_away) => go_away.map(|(code, _)| code),
        }
    }
}

/// What became of a request.
pub type Answer<T> = Result<T, Refusal>;

/// Settings of a connection.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Heartbeat interval to ask for, in milliseconds.
    pub heartbeat_ms: u32,
    /// Frame limit to announce, in bytes.
    pub frame_bytes_max: u32,
    /// Accept and send compressed payloads.
    pub deflate: bool,
    /// Size of the socket's receive buffer, in bytes; small ones fill soon.
    pub receive_buffer_bytes: Option<usize>,
    /// What the device says it runs on.
    pub platform: Platform,
    /// What it calls itself.
    pub device: String,
    /// Logs in from the background.
    pub background: bool,
}

/// A connection.
pub struct Client {
    wire: Wire,
    protocol: ClientConnection,
    started: Instant,
    pub(crate) events: VecDeque<ClientEvent>,
    ended: bool,
    user: String,
    app: App,
    options: Options,
    /// Everything up to here has been taken; kept up by the methods that take events.
    pub cursor: Bytes,
}

impl Client {
    /// Connects; the hello is on its way.
    pub fn connect(
        address: SocketAddr,
        tls: Config,
        user: &str,
        app: &App,
        options: Options,
    ) -> Result<Client, Refusal> {
        let gone = |_| Refusal::Closed(None);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        if let Some(bytes) = options.receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes).expect("a buffer size");
        }
        socket.connect_timeout(&address.into(), PATIENCE).map_err(gone)?;
        let wire = Wire::over(TcpStream::from(socket), tls).map_err(gone)?;
        let config = ClientConfig {
            heartbeat_ms: options.heartbeat_ms,
            frame_bytes_max: options.frame_bytes_max,
            deflate: options.deflate,
            client: "tests".into(),
        };
        let mut client = Client {
            wire,
            protocol: ClientConnection::new(config, 0),
            started: Instant::now(),
            events: VecDeque::new(),
            ended: false,
            user: user.to_owned(),
            app: app.clone(),
            options,
            cursor: Bytes::new(),
        };
        client.flush();
        Ok(client)
    }

    /// Who it is.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The connection below.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Logs in with a good credential.
    pub fn try_login(&mut self) -> Answer<LoginReply> {
        let usersig = self.app.sign(&self.user);
        self.login_with(self.app.sdkappid, usersig)
    }

    /// Logs in with any credential.
    pub fn login_with(&mut self, sdkappid: u32, usersig: String) -> Answer<LoginReply> {
        let Options { platform, device, background, .. } = self.options.clone();
        let user = self.user.clone();
        let login = Login { sdkappid, user, usersig, platform: platform.into(), device, background };
        self.call(Command::Login, &login)
    }

    /// Logs in and reads the log to its end: pushes come from here on.
    pub fn log_in_and_sync(&mut self) -> Vec<Message> {
        self.try_login().unwrap_or_else(|refusal| panic!("{} can't log in: {refusal:?}", self.user));
        self.catch_up()
    }

    /// Reads the log from the cursor to its end.
    pub fn catch_up(&mut self) -> Vec<Message> {
        self.try_catch_up().unwrap_or_else(|refusal| panic!("{} can't sync: {refusal:?}", self.user))
    }

    /// The same, where it may fail.
    pub fn try_catch_up(&mut self) -> Answer<Vec<Message>> {
        let messages = self.try_catch_up_events()?.into_iter().filter_map(|what| match what {
            What::Message(message) => Some(message),
            _ => None,
        });
        Ok(messages.collect())
    }

    /// The same with everything that is in the log.
    pub fn try_catch_up_events(&mut self) -> Answer<Vec<What>> {
        let mut events = Vec::new();
        loop {
            let page = self.sync(self.cursor.clone(), 0)?;
            assert!(!page.start_over, "{} was told to start over", self.user);
            events.extend(page.events.into_iter().filter_map(|event| event.what));
            self.cursor = page.cursor;
            if !page.more {
                return Ok(events);
            }
        }
    }

    /// One page of the log.
    pub fn sync(&mut self, cursor: Bytes, limit: u32) -> Answer<SyncReply> {
        self.call(Command::Sync, &Sync { cursor, limit, ..Sync::default() })
    }

    /// One page of a conversation.
    pub fn history(&mut self, user: &str, from_seq: u64, forward: bool, limit: u32) -> Answer<HistoryReply> {
        self.call(Command::History, &History { user: user.to_owned(), from_seq, forward, limit, ..History::default() })
    }

    /// A whole conversation, oldest first.
    pub fn conversation(&mut self, user: &str) -> Vec<Message> {
        let mut messages: Vec<Message> = Vec::new();
        let mut from = 0;
        loop {
            let page = self.history(user, from, true, 0).expect("a page of history");
            messages.extend(page.messages);
            if !page.more {
                return messages;
            }
            assert!(page.next_seq > from, "a page that leads nowhere");
            from = page.next_seq;
        }
    }

    /// Sends a text, and waits for its acknowledgement.
    pub fn send(&mut self, to: &str, text: &str) -> SendReply {
        self.send_as(to, &unique_id(), text_body(text)).unwrap_or_else(|refusal| panic!("not sent: {refusal:?}"))
    }

    /// Sends a body under an id of the test's choice.
    pub fn send_as(&mut self, to: &str, client_message_id: &[u8], body: Bytes) -> Answer<SendReply> {
        let id = self.start_send(to, client_message_id, body);
        self.answer(id)
    }

    /// Sends without waiting; [`Self::answer`] has the outcome.
    pub fn start_send(&mut self, to: &str, client_message_id: &[u8], body: Bytes) -> u32 {
        let client_message_id = Bytes::copy_from_slice(client_message_id);
        self.request(Command::Send, &Send { to_user: to.to_owned(), client_message_id, body, ..Send::default() })
    }

    /// Sends a request without waiting.
    pub fn request(&mut self, command: Command, payload: &impl prost::Message) -> u32 {
        let id = self.protocol.request(self.now(), command, payload);
        self.flush();
        id
    }

    /// Sends a request and waits for its answer.
    pub fn call<Reply: prost::Message + Default>(
        &mut self,
        command: Command,
        payload: &impl prost::Message,
    ) -> Answer<Reply> {
        let id = self.request(command, payload);
        self.answer(id)
    }

    /// Waits for the answer to a request.
    pub fn answer<Reply: prost::Message + Default>(&mut self, request: u32) -> Answer<Reply> {
        self.wait(&format!("the answer to request {request}"), |event| match event {
            ClientEvent::Response { id, payload } if *id == request => {
                Some(Ok(Reply::decode(payload.clone()).expect("a reply")))
            }
            ClientEvent::Failed { id, code, retry_after_ms, .. } if *id == request => {
                Some(Err(Refusal::Failed { code: *code, retry_after_ms: *retry_after_ms }))
            }
            _ => None,
        })?
    }

    /// Waits for the next push of a message; `behind` fails the test.
    pub fn next_message(&mut self) -> Message {
        self.next_push().expect("the connection is open").expect("pushes were dropped")
    }

    /// Waits for the next push: a message, or `None` for `behind`.
    pub fn next_push(&mut self) -> Answer<Option<Message>> {
        Ok(self.next_push_of_any()?.map(|what| match what {
            What::Message(message) => message,
            other => panic!("not a new message: {other:?}"),
        }))
    }

    /// Waits for the next push from the log, whatever it is about; `behind` fails the test.
    pub fn next_event(&mut self) -> What {
        self.next_push_of_any().expect("the connection is open").expect("pushes were dropped")
    }

    /// Waits for the next push that is in no log.
    pub fn next_online_message(&mut self) -> Message {
        let message = self.wait("an online-only message", |event| match event {
            ClientEvent::OnlineMessage(message) => Some(message.clone()),
            _ => None,
        });
        message.expect("the connection is open")
    }

    fn next_push_of_any(&mut self) -> Answer<Option<What>> {
        let push = self.wait("a push", |event| match event {
            ClientEvent::Event(push) => Some(Some(push.clone())),
            ClientEvent::Behind => Some(None),
            _ => None,
        })?;
        Ok(push.map(|push| self.take(push)))
    }

    fn take(&mut self, push: EventPush) -> What {
        let event = push.event.expect("a push has an event");
        let cursor = if push.cursor.is_empty() { event.position } else { push.cursor };
        self.cursor = cursor.max(std::mem::take(&mut self.cursor));
        event.what.expect("an event of a known kind")
    }

    /// Pings and waits for the pong. All that the gateway sent before has come by then.
    pub fn ping(&mut self) -> Pong {
        self.protocol.ping(self.now());
        self.flush();
        let pong =
            self.wait("a pong", |event| if let ClientEvent::Pong(pong) = event { Some(pong.clone()) } else { None });
        pong.expect("the connection is open")
    }

    /// Pushes that have come and were not taken.
    pub fn pushes_waiting(&self) -> usize {
        let is_push = |event: &&ClientEvent| {
            matches!(event, ClientEvent::Event(_) | ClientEvent::OnlineMessage(_) | ClientEvent::Behind)
        };
        self.events.iter().filter(is_push).count()
    }

    /// Waits until the gateway closes: the go-away, if one came, and when to come back.
    pub fn closed(&mut self) -> Option<(ErrorCode, u32)> {
        match self.wait("the end", |_| None::<()>) {
            Err(Refusal::Closed(go_away)) => go_away,
            other => unreachable!("{other:?}"),
        }
    }

    /// Waits for the first event that `pick` takes; the others stay. The end is an error.
    pub(crate) fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(&ClientEvent) -> Option<T>) -> Answer<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut looked_at = 0;
        loop {
            while let Some(event) = self.protocol.poll() {
                self.events.push_back(event);
            }
            for index in looked_at..self.events.len() {
                if let Some(picked) = self.events.get(index).and_then(&mut pick) {
                    self.events.remove(index);
                    return Ok(picked);
                }
            }
            looked_at = self.events.len();
            if self.ended {
                let go_away = self.events.iter().find_map(|event| match event {
                    ClientEvent::Closing { code, retry_after_ms, .. } => Some((*code, *retry_after_ms)),
                    _ => None,
                });
                return Err(Refusal::Closed(go_away));
            }
            let bytes = self.wire.read_until(deadline);
            let bytes = bytes.unwrap_or_else(|| panic!("{} waited too long for {what}", self.user));
            self.ended = bytes.is_empty();
            self.protocol.receive(self.now(), &bytes);
        }
    }

    /// Writes what waits. A connection that is over is noticed when it is read.
    fn flush(&mut self) {
        let output = self.protocol.output().split();
        let _ = self.wire.write(&output);
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

/// A body with one text.
pub fn text_body(text: &str) -> Bytes {
    let kind = element::Kind::Text(Text { text: text.to_owned() });
    Body { elements: vec![Element { kind: Some(kind) }], ..Body::default() }.encode_to_vec().into()
}

/// A client message id that nobody has used.
pub fn unique_id() -> [u8; 16] {
    rand::random()
}

/// What tests ask of a message.
pub trait MessageExt {
    /// Its text; empty if it has none.
    fn text(&self) -> String;
    /// What it says.
    fn decoded(&self) -> Body;
}

impl MessageExt for Message {
    fn decoded(&self) -> Body {
        Body::decode(self.body.clone()).expect("a body")
    }

    fn text(&self) -> String {
        let body = Body::decode(self.body.clone()).expect("a body");
        let texts = body.elements.into_iter().filter_map(|element| element.kind);
        texts
            .filter_map(|kind| match kind {
                element::Kind::Text(text) => Some(text.text),
                _ => None,
            })
            .collect()
    }
}
