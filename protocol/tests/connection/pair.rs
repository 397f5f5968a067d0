//! Both machines fed with each other's output, cut at random places: whatever is asked is answered once,
//! whatever is pushed arrives once and in order.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message as _;
use protocol::{
    EncodedEvent, ErrorCode,
    command::Command,
    connection::{ClientConfig, ClientConnection, ClientEvent, ServerConnection, ServerEvent, ServerLimits},
    message::{Event, EventPush, Login, LoginReply, Message, Pong, Send, SendReply, event::What},
};

use crate::support::*;

#[derive(Clone, Debug)]
enum Step {
    /// The client sends a message with a body of so many bytes.
    Send(usize),
    /// The client sends a heartbeat.
    Ping,
    /// The server pushes an event with a body of so many bytes.
    Push(usize),
    /// The server says that pushes were dropped.
    Behind,
    /// Both sides send a frame of a kind the other doesn't know.
    Unknown,
    /// So many bytes at the most move each way, and so many answers are given, newest first.
    Move(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0usize..3_000).prop_map(Step::Send),
        1 => Just(Step::Ping),
        2 => (0usize..3_000).prop_map(Step::Push),
        1 => Just(Step::Behind),
        1 => Just(Step::Unknown),
        6 => (1usize..400, 0usize..4).prop_map(|(bytes, answers)| Step::Move(bytes, answers)),
    ];
    prop::collection::vec(step, 0..60)
}

/// Both ends and the bytes under way between them.
struct Pair {
    client: ClientConnection,
    server: ServerConnection,
    up: BytesMut,
    down: BytesMut,
    unanswered: Vec<(u32, Bytes)>,
    seen: Seen,
    expected: Seen,
}

/// What the client has seen, or is to see.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    welcomes: u32,
    replies: BTreeMap<u32, Bytes>,
    events: Vec<EventPush>,
    behind: u32,
    pongs: u32,
    closing: Option<ErrorCode>,
}

impl Pair {
    fn new(config: ClientConfig, limits: ServerLimits) -> Self {
        Pair {
            client: ClientConnection::new(config, START),
            server: ServerConnection::new(limits.into(), START),
            up: BytesMut::new(),
            down: BytesMut::new(),
            unanswered: Vec::new(),
            seen: Seen::default(),
            expected: Seen { welcomes: 1, ..Seen::default() },
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Send(bytes) => {
                let send = Send { to_user: "bob".into(), body: text(*bytes), ..Default::default() };
                let id = self.client.request(START, Command::Send, &send);
                self.expected.replies.insert(id, reply_to(&send.encode_to_vec()).encode_to_vec().into());
            }
            Step::Ping => {
                self.client.ping(START);
                self.expected.pongs += 1;
            }
            Step::Push(bytes) if self.is_open() => self.push(*bytes),
            Step::Behind if self.is_open() => {
                self.server.push_behind();
                self.expected.behind += 1;
            }
            Step::Unknown if self.is_open() => {
                self.client.output().extend_from_slice(UNKNOWN_KIND);
                self.server.output().extend_from_slice(UNKNOWN_KIND);
            }
            Step::Push(_) | Step::Behind | Step::Unknown => {}
            Step::Move(bytes, answers) => self.exchange(*bytes, *answers),
        }
    }

    /// Whether the login's reply is behind us: only then does a server push.
    fn is_open(&self) -> bool {
        self.seen.replies.contains_key(&1)
    }

    fn push(&mut self, bytes: usize) {
        let number = self.expected.events.len() as u64;
        let message = Message { from: "bob".into(), seq: number + 1, body: text(bytes), ..Default::default() };
        let (position, cursor) = (number.to_be_bytes(), (number + 1).to_be_bytes());
        let cursor = number.is_multiple_of(2).then_some(&cursor[..]);
        self.server.push_event(&position, &EncodedEvent::from(&message), cursor);
        self.expected.events.push(EventPush {
            event: Some(Event { position: Bytes::copy_from_slice(&position), what: Some(What::Message(message)) }),
            cursor: cursor.map(Bytes::copy_from_slice).unwrap_or_default(),
        });
    }

    fn exchange(&mut self, bytes: usize, answers: usize) {
        self.up.unsplit(self.client.output().split());
        if self.server.wants_input() {
            let piece = self.up.split_to(bytes.min(self.up.len()));
            self.server.receive(START, &piece);
        }
        while let Some(event) = self.server.poll() {
            self.serve(event);
        }
        for _ in 0..answers {
            let Some((id, payload)) = self.unanswered.pop() else { break };
            self.server.respond(id, &reply_to(&payload));
        }
        self.down.unsplit(self.server.output().split());
        let piece = self.down.split_to(bytes.min(self.down.len()));
        self.client.receive(START, &piece);
        while let Some(event) = self.client.poll() {
            self.seen.note(event);
        }
    }

    fn serve(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Hello { version, .. } => self.server.welcome(version, 7),
            ServerEvent::Request { id, command: Command::Login, .. } => {
                self.server.logged_in(START);
                self.server.respond(id, &LoginReply { server_time_ms: 7, ..Default::default() });
            }
            ServerEvent::Request { id, payload, .. } => self.unanswered.push((id, payload)),
            ServerEvent::Ping => self.server.pong(None, false),
            ServerEvent::Closing(code) => panic!("closed by {code}"),
        }
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            let idle = self.up.is_empty() && self.down.is_empty() && self.unanswered.is_empty();
            if idle && self.client.output().is_empty() && self.server.output().is_empty() {
                return;
            }
            self.exchange(10_000, 10);
        }
        panic!("bytes are still under way");
    }
}

impl Seen {
    fn note(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Welcome(_) => self.welcomes += 1,
            ClientEvent::Response { id, payload } => {
                assert!(self.replies.insert(id, payload).is_none(), "{id} was answered twice");
            }
            ClientEvent::Event(push) => self.events.push(push),
            ClientEvent::Behind => self.behind += 1,
            ClientEvent::Pong(pong) => {
                assert_eq!(pong, Pong::default());
                self.pongs += 1;
            }
            ClientEvent::Closing { code, .. } => self.closing = Some(code),
            ClientEvent::Failed { id, code, .. } => panic!("{id} failed: {code}"),
            ClientEvent::OnlineMessage(_) | ClientEvent::Presence(_) | ClientEvent::Group(_) => {
                panic!("nothing of the kind was pushed")
            }
        }
    }
}

/// Compressible, as text is.
fn text(bytes: usize) -> Bytes {
    b"to be or not to be, ".iter().copied().cycle().take(bytes).collect()
}

/// An answer that tells whether the request arrived as it was sent.
fn reply_to(payload: &[u8]) -> SendReply {
    let sum = payload.iter().fold(payload.len() as u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    SendReply { seq: sum, ..Default::default() }
}

proptest! {
    #![proptest_config(seeded(300))]

    #[test]
    fn all_is_answered_once_and_pushed_in_order(
        script in steps(),
        wants_deflate: bool,
        has_deflate: bool,
        in_flight_max in 60u32..70,
    ) {
        let limits = ServerLimits { deflate: has_deflate, in_flight_max, ..ServerLimits::default() };
        let mut pair = Pair::new(ClientConfig { deflate: wants_deflate, ..client_config() }, limits);
        let login = pair.client.request(START, Command::Login, &Login { user: "ann".into(), ..Default::default() });
        pair.expected.replies.insert(login, LoginReply { server_time_ms: 7, ..Default::default() }.encode_to_vec().into());
        for step in &script {
            pair.step(step);
        }
        pair.settle();
        prop_assert_eq!(&pair.seen, &pair.expected);
        prop_assert_eq!(pair.server.in_flight(), 0);
        prop_assert_eq!(pair.server.buffered_bytes() + pair.client.buffered_bytes(), 0);

        pair.server.go_away(ErrorCode::SERVER_DRAINING, 5);
        let mut last = pair.server.output().split().freeze();
        while last.has_remaining() {
            pair.client.receive(START, &last.split_to(1));
        }
        let closing = pair.client.poll();
        let told = matches!(closing, Some(ClientEvent::Closing { code: ErrorCode::SERVER_DRAINING, retry_after_ms: 5, .. }));
        prop_assert!(told, "{:?}", closing);
    }
}
