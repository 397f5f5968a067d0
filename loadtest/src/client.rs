//! A client of the gateway: TCP, TLS and the protocol's state machine, driven by the task that owns it.
//!
//! One [`Client::turn`] writes everything that is waiting (many frames, one TLS record, one system call),
//! then waits for bytes or for a time. What came is taken with [`Client::next_event`].

use std::{
    cell::RefCell,
    net::Shutdown,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use futures::io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use prost::Message;
use protocol::{
    ErrorCode,
    command::Command,
    connection::{ClientConfig, ClientConnection, ClientEvent},
    message::{GuestLogin, Login, LoginReply, Platform, Sync, SyncReply},
};

use crate::{
    alarm::Alarm,
    clock::{Clock, Micros, SECOND_US},
    tls::Tls,
    worker::Worker,
};

/// Largest frame to accept, in bytes: pages may be large, so that reading everything back is quick.
const FRAME_BYTES_MAX: u32 = 1 << 20;
/// The shared read buffer, in bytes: a few full TLS records.
const SCRATCH_BYTES: usize = 128 * 1024;
/// Whoever waits for a single answer or a handshake gives up after this time.
pub(crate) const PATIENCE_US: Micros = 30 * SECOND_US;

/// Between two tries of a request that the server is too busy for.
const BUSY_WAIT_US: Micros = SECOND_US / 20;

/// Empty pages of the event log in a row that may say that more follows.
const EMPTY_PAGES_MAX: u32 = 100;

thread_local! {
    /// What is read goes through here; a connection keeps only what is no whole record yet.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// Who logs in.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) sdkappid: u32,
    pub(crate) name: String,
    pub(crate) usersig: String,
    /// A user has one connection at a time for each platform's place in the application's login policy.
    pub(crate) platform: Platform,
    /// A device that comes back takes the place of its older connection.
    pub(crate) device: &'static str,
}

/// How a request ended.
enum Answer {
    Reply(Bytes),
    Refused(ErrorCode, String),
}

pub(crate) struct Client {
    stream: TcpStream,
    tls: Tls,
    machine: ClientConnection,
    alarm: Rc<Alarm>,
    clock: Clock,
    in_flight_max: u32,
}

impl Client {
    /// Connects and shakes hands with the target of this number. The hello is on its way when this returns.
    async fn connect(worker: &Worker, target: usize, tls: Arc<rustls::ClientConfig>) -> Result<Client> {
        let plan = &worker.plan;
        let target = plan.targets.get(target).context("there is no target")?;
        let stream = TcpStream::connect_timeout(target.address, Duration::from_micros(PATIENCE_US))
            .await
            .map_err(|error| anyhow!("cannot connect to {}: {error}", target.address))?;
        stream.set_nodelay(true).map_err(|error| anyhow!("cannot set up the socket: {error}"))?;
        let mut client = Client {
            stream,
            tls: Tls::new(tls, target.server_name.clone())?,
            machine: ClientConnection::new(hello(), plan.clock.now_us() / 1_000),
            alarm: worker.alarms.alarm(),
            clock: plan.clock,
            in_flight_max: u32::MAX,
        };
        let deadline_us = plan.clock.now_us() + PATIENCE_US;
        while client.tls.is_handshaking() {
            if client.turn(deadline_us).await.context("in the TLS handshake")? >= deadline_us {
                bail!("the TLS handshake took too long");
            }
        }
        Ok(client)
    }

    /// Connects to the target whose turn it is, and logs in.
    pub(crate) async fn open(worker: &Worker, user: &User) -> Result<Client> {
        Client::open_at(worker, worker.next_target(), user).await
    }

    /// The same at the target of this number.
    pub(crate) async fn open_at(worker: &Worker, target: usize, user: &User) -> Result<Client> {
        let mut client = Client::connect(worker, target, worker.plan.tls.clone()).await?;
        client.login(user).await?;
        Ok(client)
    }

    /// Where the turn is, with a TLS configuration of its own.
    pub(crate) async fn open_with(worker: &Worker, user: &User, tls: Arc<rustls::ClientConfig>) -> Result<Client> {
        let mut client = Client::connect(worker, worker.next_target(), tls).await?;
        client.login(user).await?;
        Ok(client)
    }

    /// Connects to the target of this number and logs in without an account.
    pub(crate) async fn open_as_guest(worker: &Worker, target: usize) -> Result<Client> {
        let mut client = Client::connect(worker, target, worker.plan.tls.clone()).await?;
        let login = GuestLogin { sdkappid: worker.plan.app.sdkappid, platform: Platform::Linux.into() };
        let _: LoginReply = client.call(Command::GuestLogin, &login).await.context("cannot log in as a guest")?;
        Ok(client)
    }

    pub(crate) async fn login(&mut self, user: &User) -> Result<()> {
        let login = Login {
            sdkappid: user.sdkappid,
            user: user.name.clone(),
            usersig: user.usersig.clone(),
            platform: user.platform.into(),
            device: user.device.into(),
            background: false,
        };
        let _: LoginReply = self.call(Command::Login, &login).await.context("cannot log in")?;
        Ok(())
    }

    /// Reads the event log from `cursor` to its end, page by page; from then on pushes come.
    ///
    /// An empty page may say that more follows: an event came while the server looked. Not time and again.
    pub(crate) async fn sync(&mut self, mut cursor: Bytes, mut page: impl FnMut(&SyncReply)) -> Result<Bytes> {
        let mut empty_pages = 0;
        loop {
            let reply: SyncReply =
                self.call(Command::Sync, &Sync { cursor, ..Sync::default() }).await.context("cannot sync")?;
            page(&reply);
            cursor = reply.cursor;
            if !reply.more {
                return Ok(cursor);
            }
            empty_pages = if reply.events.is_empty() { empty_pages + 1 } else { 0 };
            if empty_pages > EMPTY_PAGES_MAX {
                bail!("sync: {empty_pages} empty pages in a row say that more follows");
            }
        }
    }

    /// Sends one request and waits for its reply; whatever comes before it is skipped. A server that is busy
    /// is asked again.
    pub(crate) async fn call<Reply: Message + Default>(
        &mut self,
        command: Command,
        payload: &impl Message,
    ) -> Result<Reply> {
        let mut now_us = self.clock.now_us();
        let deadline_us = now_us + PATIENCE_US;
        loop {
            let id = self.request(now_us, command, payload);
            match self.answer(id, deadline_us).await? {
                Answer::Reply(payload) => return Ok(Reply::decode(payload)?),
                Answer::Refused(code, _) if code.is_retryable() && now_us < deadline_us => {}
                Answer::Refused(code, text) => bail!("{code} ({text})"),
            }
            now_us = self.turn(now_us + BUSY_WAIT_US).await?;
        }
    }

    async fn answer(&mut self, request: u32, deadline_us: Micros) -> Result<Answer> {
        loop {
            while let Some(event) = self.next_event()? {
                match event {
                    ClientEvent::Response { id, payload } if id == request => return Ok(Answer::Reply(payload)),
                    ClientEvent::Failed { id, code, text, .. } if id == request => {
                        return Ok(Answer::Refused(code, text));
                    }
                    _ => {}
                }
            }
            if self.turn(deadline_us).await? >= deadline_us {
                bail!("no answer in time");
            }
        }
    }

    /// Queues a request. Returns the number that its answer will carry.
    pub(crate) fn request(&mut self, now_us: Micros, command: Command, payload: &impl Message) -> u32 {
        self.machine.request(now_us / 1_000, command, payload)
    }

    /// Queues a heartbeat.
    pub(crate) fn ping(&mut self, now_us: Micros) {
        self.machine.ping(now_us / 1_000);
    }

    /// Requests the server allows to be unanswered.
    pub(crate) fn in_flight_max(&self) -> u32 {
        self.in_flight_max
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.tls.is_resumed()
    }

    /// Takes the next thing that came. The end of the connection is an error.
    pub(crate) fn next_event(&mut self) -> Result<Option<ClientEvent>> {
        match self.machine.poll() {
            Some(ClientEvent::Closing { code, text, .. }) => bail!("connection closed: {code} ({text})"),
            Some(ClientEvent::Welcome(welcome)) => {
                self.in_flight_max = welcome.in_flight_max.max(1);
                Ok(Some(ClientEvent::Welcome(welcome)))
            }
            event => Ok(event),
        }
    }

    /// Writes what is waiting, then waits until bytes come or it is `until_us`. Returns the time; what came
    /// counts from then. Heartbeats go out by themselves.
    pub(crate) async fn turn(&mut self, until_us: Micros) -> Result<Micros> {
        std::future::poll_fn(|cx| self.poll_turn(cx, until_us)).await
    }

    /// Closes the connection in order: what is queued is written first.
    pub(crate) async fn close(mut self) -> Result<()> {
        self.encrypt()?;
        self.tls.close()?;
        std::future::poll_fn(|cx| self.poll_write(cx)).await?;
        self.stream.shutdown(Shutdown::Write).await.map_err(|error| anyhow!("cannot shut down: {error}"))
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>, until_us: Micros) -> Poll<Result<Micros>> {
        self.encrypt()?;
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            return Poll::Ready(Err(error));
        }
        if let Poll::Ready(result) = self.poll_read(cx) {
            return Poll::Ready(result);
        }
        let now_us = self.clock.now_us();
        let due_us = until_us.min(self.machine.timeout() * 1_000);
        if now_us >= due_us {
            self.machine.handle_timeout(now_us / 1_000);
            return Poll::Ready(Ok(now_us));
        }
        self.alarm.set(due_us, cx.waker());
        Poll::Pending
    }

    fn encrypt(&mut self) -> Result<()> {
        if !self.machine.output().is_empty() && !self.tls.is_handshaking() {
            self.tls.send(self.machine.output())?;
            self.machine.output().clear();
        }
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while !self.tls.output().is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, self.tls.output()));
            self.tls.output_written(written.context("cannot write to the server")?);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once. `recv` into the shared buffer happens only while this runs: nothing is lost when the
    /// task wakes for another reason.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Micros>> {
        SCRATCH.with_borrow_mut(|scratch| {
            if self.tls.is_over() {
                return Poll::Ready(Err(anyhow!("the server closed the connection")));
            }
            let held = self.tls.partial().len();
            scratch[..held].copy_from_slice(self.tls.partial());
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut scratch[held..]));
            let read = read.context("cannot read from the server")?;
            let now_us = self.clock.now_us();
            if read == 0 {
                return Poll::Ready(Err(anyhow!("the server closed the connection")));
            }
            let machine = &mut self.machine;
            self.tls.receive(&mut scratch[..held + read], |plain| machine.receive(now_us / 1_000, plain))?;
            Poll::Ready(Ok(now_us))
        })
    }
}

fn hello() -> ClientConfig {
    ClientConfig {
        heartbeat_ms: 0,
        frame_bytes_max: FRAME_BYTES_MAX,
        deflate: false, // it would be the harness's own time that is measured
        client: concat!("loadtest/", env!("CARGO_PKG_VERSION")).into(),
    }
}
