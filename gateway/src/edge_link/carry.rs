//! A link while it lives: frames in and out, and whether the other side is still there.

use std::{
    cell::Cell,
    os::fd::{AsRawFd as _, BorrowedFd},
    rc::Rc,
    time::Duration,
};

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, FutureExt as _, pin_mut, select};
use glommio::{net::TcpStream, timer::Timer};
use protocol::{
    link::{EDGE_FRAME_BYTES_MAX, LinkDecoder, What},
    link_message::{LinkGoAway, LinkPing, SessionOpen},
};
use socket2::SockRef;

use super::{Link, greet::Ended, pipe::Pipe};

/// How often the other side is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// Without a byte for so many of them, it is not.
const SILENT_INTERVALS_MAX: u32 = 3;

/// If it takes nothing for so many, it is given up.
const STALLED_INTERVALS_MAX: u32 = 10;

/// Bytes that wait for it, at the most: sessions add nothing long before.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// Bytes that are written before it is noted that they have gone.
const PIECE_BYTES: usize = 16 * 1024;

/// What may lie in the system's buffer and not be on its way: with more, a link that is slow seems to take nothing for long.
const UNSENT_BYTES_MAX: u32 = 128 * 1024;

const READ_BUFFER_BYTES: usize = 64 * 1024;

/// What the user of a link is told.
pub trait LinkEvents {
    /// The other side has opened a session.
    fn opened(&self, open: SessionOpen, pipe: Pipe);
    /// It is about to end: new sessions go elsewhere.
    fn leaving(&self) {}
    /// It says something else.
    fn said(&self, frame: What);
    /// Whether there may still be a link with it: asked now and then.
    fn check(&self) -> Result<(), Ended>;
}

/// Sets up a socket for a link, before its TLS.
pub fn prepare(socket: &TcpStream) {
    // Without either it works, if not as well.
    let _ = socket.set_nodelay(true);
    // SAFETY: the socket is open, and outlives the borrow of its descriptor.
    #[allow(unsafe_code)]
    let descriptor = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    let _ = SockRef::from(&descriptor).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
}

/// Carries a link until it ends. Its sessions are over then.
pub async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
    link: &Rc<Link>,
    stream: S,
    decoder: LinkDecoder,
    events: &dyn LinkEvents,
) -> Ended {
    let (reader, writer) = stream.split();
    let silent = Cell::new(0);
    let reading = read(link, reader, decoder, &silent, events).fuse();
    let writing = write(link, writer).fuse();
    let asking = ask(link, &silent, events).fuse();
    pin_mut!(reading, writing, asking);
    let ended = select! {
        ended = reading => ended,
        ended = writing => ended,
        ended = asking => ended,
    };
    link.end();
    ended
}

/// Says that this side is about to end.
pub fn say_goodbye(link: &Link, retry_after_ms: u32) {
    link.leave();
    link.queue.put(&What::GoAway(LinkGoAway { retry_after_ms }));
}

/// Ends the link once what waits is sent.
pub fn finish(link: &Link) {
    link.queue.finish();
}

async fn read<R: AsyncRead + Unpin>(
    link: &Rc<Link>,
    mut reader: R,
    mut decoder: LinkDecoder,
    silent: &Cell<u32>,
    events: &dyn LinkEvents,
) -> Ended {
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    loop {
        loop {
            match decoder.next_frame(EDGE_FRAME_BYTES_MAX) {
                Ok(Some(frame)) => {
                    if let Err(ended) = handle(link, frame, events) {
                        return ended;
                    }
                    if link.queue.bytes() > QUEUE_BYTES_MAX {
                        return Ended::Stalled;
                    }
                }
                Ok(None) => break,
                Err(error) => return error.into(),
            }
        }
        match reader.read(&mut buffer).await {
            Ok(0) => return std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into(),
            Ok(count) => {
                silent.set(0);
                decoder.feed(buffer.get(..count).unwrap_or_default());
            }
            Err(error) => return error.into(),
        }
        glommio::yield_if_needed().await;
    }
}

fn handle(link: &Rc<Link>, frame: What, events: &dyn LinkEvents) -> Result<(), Ended> {
    match frame {
        What::Open(open) => {
            if let Some(pipe) = link.opened(open.session) {
                events.opened(open, pipe);
            }
        }
        // A session that is not known has ended here: the other side hears of that.
        What::Bytes(bytes) => {
            let received = link.session(bytes.session).map(|pipe| pipe.receive(&bytes.data));
            received.transpose().map_err(|_| Ended::Overrun)?;
        }
        What::ManyBytes(bytes) => {
            for session in bytes.sessions {
                let received = link.session(session).map(|pipe| pipe.receive(&bytes.data));
                received.transpose().map_err(|_| Ended::Overrun)?;
            }
        }
        What::Credit(credit) => {
            if let Some(pipe) = link.session(credit.session) {
                pipe.give_credit(credit.bytes as usize);
            }
        }
        What::Close(close) => {
            if let Some(pipe) = link.session(close.session) {
                pipe.peer_closed(close.aborted);
            }
        }
        What::Ping(LinkPing { number }) => link.queue.put(&What::Pong(LinkPing { number })),
        What::GoAway(_) => {
            link.leave();
            events.leaving();
        }
        What::Pong(_) => {}
        other => events.said(other),
    }
    Ok(())
}

async fn write<W: AsyncWrite + Unpin>(link: &Link, mut writer: W) -> Ended {
    while let Some(bytes) = link.queue.take().await {
        if let Err(error) = write_all(link, &mut writer, &bytes).await {
            return error.into();
        }
    }
    let _ = writer.close().await; // the other side sees the end in any case
    Ended::Own
}

/// Writes piece by piece, so that a link that is slow is seen to move.
async fn write_all<W: AsyncWrite + Unpin>(link: &Link, writer: &mut W, bytes: &[u8]) -> std::io::Result<()> {
    for piece in bytes.chunks(PIECE_BYTES) {
        writer.write_all(piece).await?;
        link.queue.went(piece.len());
    }
    writer.flush().await
}

async fn ask(link: &Link, silent: &Cell<u32>, events: &dyn LinkEvents) -> Ended {
    let mut number = 0;
    let mut progress = Progress::default();
    loop {
        Timer::new(PING_INTERVAL).await;
        if progress.look(link.queue.bytes(), link.queue.gone()) >= STALLED_INTERVALS_MAX {
            return Ended::Stalled;
        }
        if silent.get() >= SILENT_INTERVALS_MAX {
            return Ended::Silent;
        }
        if let Err(ended) = events.check() {
            return ended;
        }
        silent.set(silent.get() + 1);
        number += 1;
        link.queue.put(&What::Ping(LinkPing { number }));
    }
}

/// Whether what waits for the other side moves.
#[derive(Default)]
struct Progress {
    gone: u64,
    /// Looks in a row at which something waited, and nothing had gone since the one before.
    stalled: u32,
}

impl Progress {
    fn look(&mut self, waiting: usize, gone: u64) -> u32 {
        let is_stalled = waiting > 0 && gone == self.gone;
        self.stalled = if is_stalled { self.stalled + 1 } else { 0 };
        self.gone = gone;
        self.stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geo_01_a_link_that_is_slow_is_not_one_that_takes_nothing() {
        let mut progress = Progress::default();
        let mut look = |waiting, gone| progress.look(waiting, gone);
        assert_eq!([look(0, 0), look(0, 0)], [0, 0], "nothing waits");
        assert_eq!([look(9, 0), look(9, 0), look(9, 1)], [1, 2, 0], "little goes");
        assert_eq!([look(9, 1), look(0, 1), look(9, 1)], [1, 0, 1], "what waited was taken");
    }
}
