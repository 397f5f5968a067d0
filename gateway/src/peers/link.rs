//! One link: what is read is passed on, what waits is written, and whoever is silent is given up.

use std::{convert::Infallible, io, time::Duration};

use bytes::BytesMut;
use protocol::{
    frame::FrameError,
    link::{self, LinkDecoder, Mismatch, PEER_FRAME_BYTES_MAX, What},
    link_message::{LinkPing, LinkRefused},
};
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::TlsStream;

use super::{
    Registered,
    connect::REASON_CHARS_MAX,
    queue::{Next, PIECE_BYTES, PeerHandle},
};
use crate::link_tls::{Listed, shown};

/// From ping to ping.
const PING: Duration = Duration::from_secs(1);

/// A peer that says nothing for so long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// A peer that takes nothing for so long is as good as dead.
const STALL_MAX: Duration = Duration::from_secs(10);

/// Why a link ended, or did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("the other side has closed it")]
    Closed,
    #[error("it was closed here")]
    ClosedHere,
    #[error("the other side was silent for {} s", SILENCE_MAX.as_secs())]
    Silent,
    #[error("the other side took nothing for {} s", STALL_MAX.as_secs())]
    Stalled,
    #[error("no answer in time")]
    Late,
    #[error("{0}")]
    Mismatch(#[from] Mismatch),
    #[error("the other side refuses: {0:?}")]
    Refused(String),
    #[error(transparent)]
    Listed(#[from] Listed),
    #[error("something was said that has no place there")]
    Unexpected,
    #[error("another node answers there: the one that was meant has gone")]
    AnotherNode,
    #[error("the lower id dials, and that is this one's")]
    WrongWay,
    #[error("not known here, as yet")]
    Unknown,
    #[error("the other side does not know that this node lives")]
    NotAlive,
}

impl Ended {
    pub fn of(LinkRefused { reason, not_alive }: LinkRefused) -> Self {
        match not_alive {
            true => Ended::NotAlive,
            false => Ended::Refused(reason.chars().take(REASON_CHARS_MAX).collect()),
        }
    }
}

/// What never comes to an end by itself.
type Endless = Result<Infallible, Ended>;

/// A connection of two nodes.
pub struct Connection {
    pub incoming: Incoming,
    /// The other side's.
    pub certificate: CertificateDer<'static>,
    writer: WriteHalf<TlsStream<TcpStream>>,
}

/// What comes on a connection, cut into frames.
pub struct Incoming {
    reader: ReadHalf<TlsStream<TcpStream>>,
    decoder: LinkDecoder,
    /// What is read goes through it.
    buffer: Box<[u8]>,
}

impl Connection {
    pub fn new(stream: TlsStream<TcpStream>) -> Self {
        let certificate = shown(stream.get_ref().1.peer_certificates());
        let (reader, writer) = tokio::io::split(stream);
        let incoming = Incoming { reader, decoder: LinkDecoder::default(), buffer: vec![0; PIECE_BYTES].into() };
        Connection { incoming, certificate, writer }
    }

    /// Says one thing, for what comes before a link is up.
    pub async fn say(&mut self, frame: &What) -> Result<(), Ended> {
        let mut bytes = BytesMut::new();
        link::encode(frame, &mut bytes);
        self.writer.write_all(&bytes).await?;
        Ok(self.writer.flush().await?)
    }

    /// Lives until it ends.
    pub async fn run(self, registered: &Registered) -> Ended {
        let start = Instant::now();
        let handle = &registered.peer.handle;
        tokio::select! {
            Err(end) = read(self.incoming, registered, start) => end,
            Err(end) = write(self.writer, handle, start) => end,
            Err(end) = stay_trusted(&self.certificate, registered) => end,
            () = handle.closed() => Ended::ClosedHere,
        }
    }
}

impl Incoming {
    /// The next frame, of a bounded length. Whoever says nothing at all for `patience` is given up.
    pub async fn next(&mut self, frame_bytes_max: usize, patience: Duration) -> Result<What, Ended> {
        loop {
            if let Some(frame) = self.decoder.next_frame(frame_bytes_max)? {
                return Ok(frame);
            }
            let count = timeout(patience, self.reader.read(&mut self.buffer)).await.map_err(|_| Ended::Silent)??;
            if count == 0 {
                return Err(Ended::Closed);
            }
            self.decoder.feed(self.buffer.get(..count).unwrap_or_default());
        }
    }
}

async fn read(mut incoming: Incoming, registered: &Registered, start: Instant) -> Endless {
    let handle = &registered.peer.handle;
    loop {
        match incoming.next(PEER_FRAME_BYTES_MAX, SILENCE_MAX).await? {
            What::Ping(ping) => handle.send_control(&What::Pong(ping)),
            What::Pong(LinkPing { number }) => {
                let since = start + Duration::from_micros(number.min(u64::from(u32::MAX)));
                metrics::histogram!("gateway_peer_round_trip_seconds").record(since.elapsed().as_secs_f64());
            }
            What::Refused(refused) => return Err(Ended::of(refused)),
            What::Hello(_) => return Err(Ended::Unexpected),
            frame => registered.frame(frame)?,
        }
    }
}

/// A ping's number is the time since the link's start, in microseconds: its pong then says for how long it was away.
async fn write(mut writer: WriteHalf<TlsStream<TcpStream>>, handle: &PeerHandle, start: Instant) -> Endless {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        piece.clear();
        match handle.take(&mut piece) {
            Next::Send => patiently(writer.write_all(&piece)).await?,
            Next::Nothing => {
                patiently(writer.flush()).await?;
                tokio::select! {
                    () = handle.woken() => {}
                    _ = pings.tick() => {
                        let number = start.elapsed().as_micros() as u64;
                        handle.send_control(&What::Ping(LinkPing { number }));
                    }
                }
            }
            Next::Finished => {
                patiently(writer.shutdown()).await?;
                // What was sent has not arrived yet: a socket that is dropped with something unread takes it back.
                return std::future::pending().await;
            }
        }
    }
}

/// Lists of certificates that are refused are read anew now and then.
async fn stay_trusted(certificate: &CertificateDer<'_>, registered: &Registered) -> Endless {
    loop {
        sleep(PING).await;
        registered.node.options.tls.check(certificate)?;
    }
}

async fn patiently(written: impl Future<Output = io::Result<()>>) -> Result<(), Ended> {
    Ok(timeout(STALL_MAX, written).await.map_err(|_| Ended::Stalled)??)
}
