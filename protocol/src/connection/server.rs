//! The server's side of a connection.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::{Millis, SILENT_INTERVALS_MAX, frame_limit};
use crate::{
    ErrorCode, VERSION_MAX, VERSION_MIN,
    command::{Access, Command, Topic},
    frame::{self, Decoder, Frame, FrameError, InflateError, Kind, Prefix},
    message::{Failure, GoAway, Hello, Pong, Welcome},
    push::{EncodedEvent, EventPush},
};

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
    /// The connection speaks the protocol; `client` is the software's own name.
    Hello {
        /// Agreed version.
        version: u32,
        /// Name and version of the client software.
        client: String,
    },
    /// To be answered with [`ServerConnection::respond`] or [`ServerConnection::refuse`], once.
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
    deadline: Millis,
}

impl ServerConnection {
    /// A connection that was accepted at `now`.
    pub fn new(limits: Arc<ServerLimits>, now: Millis) -> Self {
        ServerConnection {
            deadline: now + limits.hello_deadline_ms.min(limits.login_deadline_ms),
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
        }
    }

    /// Bytes came from the client.
    pub fn receive(&mut self, now: Millis, bytes: &[u8]) {
        if self.state == State::Closing {
            return;
        }
        if self.state == State::Open {
            self.deadline = now + self.silence_ms_max();
        }
        self.decoder.feed(bytes);
        while self.state != State::Closing {
            match self.decoder.next_frame(self.body_bytes_max()) {
                Ok(Some(frame)) => self.handle_frame(now, frame),
                Ok(None) => break,
                Err(error) => self.fail(error),
            }
        }
    }

    /// The client closed its sending direction.
    pub fn receive_end(&mut self) {
        if let Err(error) = self.decoder.finish() {
            self.fail(error);
        }
    }

    /// The next thing to handle.
    pub fn poll(&mut self) -> Option<ServerEvent> {
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
            State::AwaitLogin => self.go_away(ErrorCode::LOGIN_DEADLINE, 0),
            State::Open => self.go_away(ErrorCode::HEARTBEAT_LOST, 0),
            State::Closing => {}
        }
    }

    /// The login was right: from here on the client may do everything.
    pub fn logged_in(&mut self, now: Millis) {
        if self.state == State::AwaitLogin {
            self.state = State::Open;
            self.deadline = now + self.silence_ms_max();
        }
    }

    /// The login was wrong; after a few the connection is closed.
    pub fn login_failed(&mut self) {
        self.login_failures += 1;
        if self.login_failures >= self.limits.login_failures_max {
            self.go_away(ErrorCode::TOO_MANY_LOGIN_FAILURES, 1_000);
        }
    }

    /// Answers a request.
    pub fn respond(&mut self, id: u32, reply: &impl Message) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.put(Kind::Response, Prefix::Pair(id, 0), reply);
    }

    /// Answers a request with an error.
    pub fn refuse(&mut self, id: u32, code: ErrorCode, text: &str, retry_after_ms: u32) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.put_failure(id, code, text, retry_after_ms);
    }

    /// Pushes an entry of the user's event log. `cursor`: everything up to there has now been sent;
    /// `None` if that is the position itself.
    pub fn push_event(&mut self, position: &[u8], event: &EncodedEvent, cursor: Option<&[u8]>) {
        self.put(Kind::Push, Prefix::Topic(Topic::Event.code()), &EventPush { position, event, cursor });
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

    /// Largest frame body the client accepts, in bytes: pages are cut to fit.
    pub fn peer_frame_bytes_max(&self) -> usize {
        self.peer_frame_bytes_max as usize
    }

    /// Requests that were handed out and not answered yet.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    fn handle_frame(&mut self, now: Millis, frame: Frame) {
        if self.state != State::Open {
            self.frames_before_login += 1;
            if self.frames_before_login > self.limits.frames_before_login_max {
                return self.go_away(ErrorCode::TOO_MANY_FRAMES, 0);
            }
        }
        let result = match (self.state, frame.kind) {
            (State::AwaitHello, Kind::Hello) => self.handle_hello(now, frame),
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

    fn handle_hello(&mut self, now: Millis, frame: Frame) -> Result<(), FrameError> {
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
            wish => wish.clamp(limits.heartbeat_ms_min, limits.heartbeat_ms_max),
        };
        self.peer_frame_bytes_max = frame_limit(hello.frame_bytes_max) as u32;
        self.deflate = hello.deflate && limits.deflate;
        // The deadline for login counts from the start of the connection, whenever hello came.
        self.deadline = (self.deadline + limits.login_deadline_ms)
            .saturating_sub(limits.hello_deadline_ms.min(limits.login_deadline_ms))
            .max(now);
        self.state = State::AwaitLogin;
        let client: String = hello.client.chars().filter(|c| !c.is_control()).take(64).collect();
        self.events.push_back(ServerEvent::Hello { version, client });
        Ok(())
    }

    /// Answers the hello. Separate from the event, because the server's wall clock is the caller's to read.
    pub fn welcome(&mut self, version: u32, server_time_ms: u64) {
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
                self.in_flight += 1;
                self.events.push_back(ServerEvent::Request { id, command, payload });
            }
            Err(code) => self.put_failure(id, code, code.text(), 0),
        }
        Ok(())
    }

    fn check_request(&self, code: u32) -> Result<Command, ErrorCode> {
        let command = Command::from_code(code).ok_or(ErrorCode::COMMAND_UNKNOWN)?;
        match (command.access(), self.state) {
            (Access::AfterLogin, State::AwaitLogin) => Err(ErrorCode::NOT_LOGGED_IN),
            (Access::BeforeLogin, State::Open) => Err(ErrorCode::ALREADY_LOGGED_IN),
            _ if self.in_flight >= self.limits.in_flight_max => Err(ErrorCode::TOO_MANY_IN_FLIGHT),
            _ => Ok(command),
        }
    }

    fn body_bytes_max(&self) -> usize {
        match self.state {
            State::AwaitHello => self.limits.hello_bytes_max,
            State::AwaitLogin => self.limits.login_bytes_max,
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

    fn fail(&mut self, error: FrameError) {
        self.go_away_with(error.code(), &error.to_string(), 0);
    }

    fn go_away_with(&mut self, code: ErrorCode, text: &str, retry_after_ms: u32) {
        let goaway = GoAway { code: code.0, text: text.to_owned(), retry_after_ms };
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

fn inflate_code(error: InflateError) -> ErrorCode {
    match error {
        InflateError::Damaged => ErrorCode::PAYLOAD_INVALID,
        InflateError::TooLarge => ErrorCode::FRAME_TOO_LARGE,
    }
}
