//! The server's side of a connection.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::{FRAME_BYTES_MIN, Millis, OUTPUT_BYTES_HIGH, SILENT_INTERVALS_MAX, frame_limit};
use crate::{
    ErrorCode, VERSION_MAX, VERSION_MIN,
    command::{Access, Command, Topic},
    frame::{self, Decoder, Frame, FrameError, InflateError, Kind, Prefix},
    message::{AccessPoint, Device, Failure, GoAway, Hello, Pong, Welcome},
    push::{EncodedEvent, EncodedPush, EventPush},
};

const CLIENT_NAME_BYTES_MAX: usize = 64;

/// What a server allows its clients. One instance is shared by all connections.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Largest frame body before hello, in bytes.
    pub hello_bytes_max: usize,
    /// Largest frame body between hello and login, in bytes.
    pub login_bytes_max: usize,
    /// Largest frame body after login, in bytes.
    pub frame_bytes_max: usize,
    /// Frames a client may send before it is logged in.
    pub frames_before_login_max: u32,
    /// Failed logins on one connection before it is closed.
    pub login_failures_max: u32,
    /// Time from the connection's start to its hello.
    pub hello_deadline_ms: u64,
    /// Time from the connection's start to its login.
    pub login_deadline_ms: u64,
    /// Shortest heartbeat interval a client may ask for.
    pub heartbeat_ms_min: u32,
    /// Longest heartbeat interval a client may ask for.
    pub heartbeat_ms_max: u32,
    /// Heartbeat interval of a client that asks for none.
    pub heartbeat_ms_default: u32,
    /// Requests a client may have unanswered.
    pub in_flight_max: u32,
    /// Accept and send compressed payloads.
    pub deflate: bool,
}

impl Default for ServerLimits {
    fn default() -> Self {
        ServerLimits {
            hello_bytes_max: 512,
            login_bytes_max: 8 * 1024,
            frame_bytes_max: 64 * 1024,
            frames_before_login_max: 16,
            login_failures_max: 3,
            hello_deadline_ms: 10_000,
            login_deadline_ms: 15_000,
            heartbeat_ms_min: 5_000,
            heartbeat_ms_max: 300_000,
            heartbeat_ms_default: 60_000,
            in_flight_max: 256,
            deflate: true,
        }
    }
}

/// What the server must know of what the client did.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerEvent {
    /// The connection speaks the protocol. To be answered with [`ServerConnection::welcome`]: until then
    /// no further frame is handled.
    Hello {
        /// Agreed version.
        version: u32,
        /// Name and version of the client software, in its own words.
        client: String,
    },
    /// To be answered with [`ServerConnection::respond`] or [`ServerConnection::refuse`], once. While a
    /// login is unanswered no further frame is handled: what a client sent behind it waits for it.
    Request {
        /// The client's number for it.
        id: u32,
        /// What is asked.
        command: Command,
        /// An encoded message; [`Command::messages`] says which.
        payload: Bytes,
    },
    /// To be answered with [`ServerConnection::pong`].
    Ping,
    /// The connection is over: write what [`ServerConnection::output`] holds, then close. Last event.
    Closing(ErrorCode),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitHello,
    /// The hello was right and the caller has not called `welcome` yet.
    AwaitWelcome,
    AwaitLogin,
    Open,
    Closing,
}

/// One client's connection.
#[derive(Debug)]
pub struct ServerConnection {
    limits: Arc<ServerLimits>,
    decoder: Decoder,
    output: BytesMut,
    events: VecDeque<ServerEvent>,
    state: State,
    deflate: bool,
    peer_frame_bytes_max: u32,
    heartbeat_ms: u32,
    in_flight: u32,
    frames_before_login: u32,
    login_failures: u32,
    /// The id of a login that is unanswered.
    login: Option<u32>,
    /// Logged in without an account.
    is_guest: bool,
    /// The client will send nothing more.
    ended: bool,
    started: Millis,
    deadline: Millis,
}

impl ServerConnection {
    /// A connection that was accepted at `now`.
    pub fn new(limits: Arc<ServerLimits>, now: Millis) -> Self {
        ServerConnection {
            deadline: now.saturating_add(limits.hello_deadline_ms.min(limits.login_deadline_ms)),
            started: now,
            limits,
            decoder: Decoder::default(),
            output: BytesMut::new(),
            events: VecDeque::new(),
            state: State::AwaitHello,
            deflate: false,
            peer_frame_bytes_max: 0,
            heartbeat_ms: 0,
            in_flight: 0,
            frames_before_login: 0,
            login_failures: 0,
            login: None,
            is_guest: false,
            ended: false,
        }
    }

    /// Bytes came from the client. Not to be called while [`Self::wants_input`] says no: what comes then
    /// is kept, and nothing but the caller bounds it.
    pub fn receive(&mut self, now: Millis, bytes: &[u8]) {
        if self.state == State::Closing || bytes.is_empty() {
            return;
        }
        let begun = self.decoder.buffered_bytes() == 0;
        self.decoder.feed(bytes);
        let cut = self.cut_frames();
        // A byte a second is no sign of life: it takes the beginning of a frame or its end. Frames that
        // wait for the caller to take an event are not the client's fault.
        if self.state == State::Open && (begun || cut || !self.events.is_empty()) {
            self.deadline = now.saturating_add(self.silence_ms_max());
        }
    }

    /// The client closed its sending direction. An end between two frames is no event: the caller, who
    /// saw it, answers what is in flight and closes.
    pub fn receive_end(&mut self) {
        self.ended = true;
        self.cut_frames();
    }

    /// Whether to read from the client. If not, its output has to be written first, or an event handled;
    /// after either, [`Self::poll`] and ask again.
    pub fn wants_input(&self) -> bool {
        self.state != State::Closing
            && !self.ended
            && self.output.len() < OUTPUT_BYTES_HIGH
            && self.decoder.buffered_bytes() < frame::HEADER_BYTES_MAX + self.body_bytes_max()
    }

    /// The next thing to handle. `None` until something else has happened: bytes received, the output
    /// written, the welcome given, a login answered, a deadline passed.
    pub fn poll(&mut self) -> Option<ServerEvent> {
        self.cut_frames();
        let event = self.events.pop_front();
        if event.is_none() && self.events.capacity() > 0 {
            self.events = VecDeque::new(); // an idle connection holds no queue
        }
        event
    }

    /// Bytes to write to the client. Take them out with `split` or `clear`.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// When to call [`Self::handle_timeout`]. Moves with every byte received: look again when it has come.
    pub fn timeout(&self) -> Option<Millis> {
        (self.state != State::Closing).then_some(self.deadline)
    }

    /// The time is `now`: closes the connection if its deadline has passed.
    pub fn handle_timeout(&mut self, now: Millis) {
        if now < self.deadline {
            return;
        }
        match self.state {
            State::AwaitHello => self.go_away(ErrorCode::HELLO_DEADLINE, 0),
            State::AwaitWelcome | State::AwaitLogin => self.go_away(ErrorCode::LOGIN_DEADLINE, 0),
            // It was not listened to, because it does not take its answers.
            State::Open if self.output.len() >= OUTPUT_BYTES_HIGH => self.go_away(ErrorCode::SLOW_READER, 0),
            State::Open => self.go_away(ErrorCode::HEARTBEAT_LOST, 0),
            State::Closing => {}
        }
    }

    /// The login was right: from here on the client may do everything. Called together with
    /// [`Self::respond`], before the next [`Self::poll`].
    pub fn logged_in(&mut self, now: Millis) {
        if self.state == State::AwaitLogin {
            self.state = State::Open;
            self.deadline = now.saturating_add(self.silence_ms_max());
        }
    }

    /// A login without an account: the client may do what guests may. Called like [`Self::logged_in`].
    pub fn guest_logged_in(&mut self, now: Millis) {
        self.is_guest = true;
        self.logged_in(now);
    }

    /// The login was wrong; after a few the connection is closed, once the last one is refused. Called
    /// together with [`Self::refuse`], before the next [`Self::poll`].
    pub fn login_failed(&mut self) {
        self.login_failures = self.login_failures.saturating_add(1);
        self.check_login_failures();
    }

    /// Answers a request.
    pub fn respond(&mut self, id: u32, reply: &impl Message) {
        self.answered(id);
        // Never compressed: a page holds what different people wrote, and the compressed length of one's
        // own words beside another's tells what the other's are.
        self.put_plain(Kind::Response, Prefix::Pair(id, 0), reply);
    }

    /// Answers a request with an error.
    pub fn refuse(&mut self, id: u32, code: ErrorCode, text: &str, retry_after_ms: u32) {
        self.answered(id);
        self.put_failure(id, code, text, retry_after_ms);
        self.check_login_failures();
    }

    /// Pushes an entry of the user's event log. `cursor`: everything up to there has now been sent;
    /// `None` if that is the position itself.
    pub fn push_event(&mut self, position: &[u8], event: &EncodedEvent, cursor: Option<&[u8]>) {
        self.put(Kind::Push, Prefix::Topic(Topic::Event.code()), &EventPush { position, event, cursor });
    }

    /// Pushes what is in no log.
    pub fn push(&mut self, push: &EncodedPush) {
        self.put(Kind::Push, Prefix::Topic(push.topic.code()), push);
    }

    /// Tells the client that pushes were dropped, so that it syncs.
    pub fn push_behind(&mut self) {
        self.put(Kind::Push, Prefix::Topic(Topic::Behind.code()), &());
    }

    /// Answers a ping.
    pub fn pong(&mut self, cursor: Option<&[u8]>, behind: bool) {
        let cursor = cursor.map(Bytes::copy_from_slice).unwrap_or_default();
        self.put(Kind::Pong, Prefix::None, &Pong { cursor, behind });
    }

    /// Closes the connection, telling the client why and when to come back.
    pub fn go_away(&mut self, code: ErrorCode, retry_after_ms: u32) {
        self.go_away_with(code, code.text(), retry_after_ms);
    }

    /// The same because this server ends, or has no room: the client is told where else to connect.
    pub fn go_elsewhere(&mut self, code: ErrorCode, retry_after_ms: u32, access_points: Vec<AccessPoint>) {
        let text = code.text().to_owned();
        let goaway = GoAway { code: code.0, text, retry_after_ms, by: None, access_points };
        self.put(Kind::GoAway, Prefix::None, &goaway);
        self.close(code);
    }

    /// Closes the connection because of another device of the same user: `by`.
    pub fn sign_out(&mut self, by: Device) {
        let code = ErrorCode::SIGNED_OUT_BY_OTHER_DEVICE;
        let goaway = GoAway {
            code: code.0,
            text: code.text().to_owned(),
            retry_after_ms: 0,
            by: Some(by),
            access_points: Vec::new(),
        };
        self.put(Kind::GoAway, Prefix::None, &goaway);
        self.close(code);
    }

    /// Largest frame body the client accepts, in bytes: pages are cut to fit.
    pub fn peer_frame_bytes_max(&self) -> usize {
        self.peer_frame_bytes_max as usize
    }

    /// Bytes of input that are held: an unfinished frame, or frames that have to wait.
    pub fn buffered_bytes(&self) -> usize {
        self.decoder.buffered_bytes()
    }

    /// Requests that were handed out and not answered yet.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Handles frames until one makes an event or has to wait; says whether there was any.
    fn cut_frames(&mut self) -> bool {
        let mut cut = false;
        while !self.is_held() {
            match self.decoder.next_frame(self.body_bytes_max()) {
                Ok(Some(frame)) => {
                    cut = true;
                    self.handle_frame(frame);
                }
                Ok(None) => {
                    if self.ended
                        && let Err(error) = self.decoder.finish()
                    {
                        self.fail(error);
                    }
                    break;
                }
                Err(error) => self.fail(error),
            }
        }
        cut
    }

    /// Whether input has to wait: for the caller to take an event, to give the welcome or to answer a
    /// login, or for the client to take its output.
    fn is_held(&self) -> bool {
        !self.events.is_empty()
            || matches!(self.state, State::AwaitWelcome | State::Closing)
            || self.login.is_some()
            || self.output.len() >= OUTPUT_BYTES_HIGH
    }

    fn answered(&mut self, id: u32) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.login == Some(id) {
            self.login = None;
        }
    }

    fn check_login_failures(&mut self) {
        let too_many = self.login_failures >= self.limits.login_failures_max.max(1);
        // An unanswered login is answered first, so that the client learns what was wrong with it.
        if too_many && self.login.is_none() && self.state == State::AwaitLogin {
            self.go_away(ErrorCode::TOO_MANY_LOGIN_FAILURES, 1_000);
        }
    }

    fn handle_frame(&mut self, frame: Frame) {
        if self.state != State::Open {
            self.frames_before_login = self.frames_before_login.saturating_add(1);
            if self.frames_before_login > self.limits.frames_before_login_max {
                return self.go_away(ErrorCode::TOO_MANY_FRAMES, 0);
            }
        }
        let result = match (self.state, frame.kind) {
            (State::AwaitHello, Kind::Hello) => self.handle_hello(frame),
            // A stream that does not begin with a hello is not this protocol, whatever follows.
            (State::AwaitHello, _) => Err(FrameError::Invalid),
            (_, Kind::Request) => self.handle_request(frame),
            (_, Kind::Ping) => {
                self.events.push_back(ServerEvent::Ping);
                Ok(())
            }
            (_, Kind::GoAway) => {
                self.close(ErrorCode(GoAway::decode(frame.body).map_or(0, |goaway| goaway.code)));
                Ok(())
            }
            (_, Kind::Unknown(_)) => Ok(()), // from a newer client: skipped by its length
            (_, Kind::Hello | Kind::Welcome | Kind::Response | Kind::Push | Kind::Pong) => Err(FrameError::Invalid),
        };
        if let Err(error) = result {
            self.fail(error);
        }
    }

    fn handle_hello(&mut self, frame: Frame) -> Result<(), FrameError> {
        let payload = frame::split_magic(frame.body)?;
        let hello = Hello::decode(payload).map_err(|_| FrameError::Invalid)?;
        let version = hello.version_max.min(VERSION_MAX);
        if version < hello.version_min.max(VERSION_MIN) {
            let text =
                format!("{}: this server speaks {VERSION_MIN} to {VERSION_MAX}", ErrorCode::VERSION_UNSUPPORTED.text());
            self.go_away_with(ErrorCode::VERSION_UNSUPPORTED, &text, 0);
            return Ok(());
        }
        let limits = self.limits.clone();
        self.heartbeat_ms = match hello.heartbeat_ms {
            0 => limits.heartbeat_ms_default,
            // Not `clamp`, which panics on limits that are the wrong way round.
            wish => wish.max(limits.heartbeat_ms_min).min(limits.heartbeat_ms_max),
        };
        // The client's wish bounds what it is sent, not what the server is ready to make.
        let own_limit = limits.frame_bytes_max.max(FRAME_BYTES_MIN as usize);
        self.peer_frame_bytes_max = frame_limit(hello.frame_bytes_max).min(own_limit) as u32;
        self.deflate = hello.deflate && limits.deflate;
        // The deadline for login counts from the start of the connection, whenever hello came.
        self.deadline = self.started.saturating_add(limits.login_deadline_ms);
        self.state = State::AwaitWelcome;
        let client = shown(&hello.client);
        self.events.push_back(ServerEvent::Hello { version, client });
        Ok(())
    }

    /// Answers the hello. Separate from the event, because the server's wall clock is the caller's to read.
    pub fn welcome(&mut self, version: u32, server_time_ms: u64) {
        if self.state != State::AwaitWelcome {
            return; // only a hello is answered so, and once
        }
        self.state = State::AwaitLogin;
        let welcome = Welcome {
            version,
            heartbeat_ms: self.heartbeat_ms,
            frame_bytes_max: self.limits.frame_bytes_max as u32,
            deflate: self.deflate,
            in_flight_max: self.limits.in_flight_max,
            server_time_ms,
        };
        self.put(Kind::Welcome, Prefix::None, &welcome);
    }

    fn handle_request(&mut self, frame: Frame) -> Result<(), FrameError> {
        let (id, code, payload) = frame::split_pair(frame.body)?;
        if id == 0 || (frame.compressed && !self.deflate) {
            return Err(FrameError::Invalid);
        }
        let checked = self.check_request(code).and_then(|command| {
            let payload = frame::inflated(frame.compressed, payload, self.body_bytes_max()).map_err(inflate_code)?;
            Ok((command, payload))
        });
        match checked {
            Ok((command, payload)) => {
                self.in_flight = self.in_flight.saturating_add(1);
                if matches!(command, Command::Login | Command::GuestLogin) {
                    self.login = Some(id);
                }
                self.events.push_back(ServerEvent::Request { id, command, payload });
            }
            Err(code) => self.put_failure(id, code, code.text(), 0),
        }
        Ok(())
    }

    fn check_request(&self, code: u32) -> Result<Command, ErrorCode> {
        let command = Command::from_code(code).ok_or(ErrorCode::COMMAND_UNKNOWN)?;
        match (command.access(), self.state) {
            (Access::BeforeLogin, State::Open) => Err(ErrorCode::ALREADY_LOGGED_IN),
            (Access::AfterLogin | Access::ByGuests, state) if state != State::Open => Err(ErrorCode::NOT_LOGGED_IN),
            (Access::AfterLogin, _) if self.is_guest => Err(ErrorCode::GUESTS_MAY_NOT),
            _ if self.in_flight >= self.limits.in_flight_max => Err(ErrorCode::TOO_MANY_IN_FLIGHT),
            _ => Ok(command),
        }
    }

    fn body_bytes_max(&self) -> usize {
        match self.state {
            State::AwaitHello => self.limits.hello_bytes_max,
            State::AwaitWelcome | State::AwaitLogin => self.limits.login_bytes_max,
            State::Open | State::Closing => self.limits.frame_bytes_max,
        }
    }

    fn silence_ms_max(&self) -> u64 {
        u64::from(self.heartbeat_ms) * SILENT_INTERVALS_MAX
    }

    fn put_failure(&mut self, id: u32, code: ErrorCode, text: &str, retry_after_ms: u32) {
        let failure = Failure { text: text.to_owned(), retry_after_ms };
        self.put(Kind::Response, Prefix::Pair(id, code.0), &failure);
    }

    fn put(&mut self, kind: Kind, prefix: Prefix, payload: &impl frame::Payload) {
        if self.state != State::Closing {
            frame::put(&mut self.output, kind, prefix, payload, self.deflate);
        }
    }

    fn put_plain(&mut self, kind: Kind, prefix: Prefix, payload: &impl frame::Payload) {
        if self.state != State::Closing {
            frame::put(&mut self.output, kind, prefix, payload, false);
        }
    }

    fn fail(&mut self, error: FrameError) {
        self.go_away_with(error.code(), &error.to_string(), 0);
    }

    fn go_away_with(&mut self, code: ErrorCode, text: &str, retry_after_ms: u32) {
        let goaway = GoAway { code: code.0, text: text.to_owned(), retry_after_ms, ..GoAway::default() };
        self.put(Kind::GoAway, Prefix::None, &goaway);
        self.close(code);
    }

    fn close(&mut self, code: ErrorCode) {
        if self.state != State::Closing {
            self.state = State::Closing;
            self.decoder = Decoder::default();
            self.events.push_back(ServerEvent::Closing(code));
        }
    }
}

/// A client's name of itself, fit for a log: no control characters, at most 64 bytes.
fn shown(client: &str) -> String {
    let mut shown = String::new();
    for c in client.chars().filter(|c| !c.is_control()) {
        if shown.len() + c.len_utf8() > CLIENT_NAME_BYTES_MAX {
            break;
        }
        shown.push(c);
    }
    shown
}

fn inflate_code(error: InflateError) -> ErrorCode {
    match error {
        InflateError::Damaged => ErrorCode::PAYLOAD_INVALID,
        InflateError::TooLarge => ErrorCode::FRAME_TOO_LARGE,
    }
}
