//! A link while it lives: frames in and out, and whether the other side is still there.

use std::{cell::Cell, rc::Rc, time::Duration};

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, FutureExt as _, pin_mut, select};
use glommio::timer::Timer;
use protocol::{
    link::{EDGE_FRAME_BYTES_MAX, LinkDecoder, What},
    link_message::{LinkGoAway, LinkPing, SessionOpen},
};

use super::{Link, greet::Ended, pipe::Pipe};

/// How often the other side is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// Without a byte for so many of them, it is not.
const SILENT_INTERVALS_MAX: u32 = 3;

/// If it takes nothing for so many, it is given up.
const STALLED_INTERVALS_MAX: u32 = 10;

/// Bytes that wait for it, at the most: sessions add nothing long before.
const QUEUE_BYTES_MAX: usize = 16 << 20;

const READ_BUFFER_BYTES: usize = 64 * 1024;

/// What the user of a link is told.
pub trait LinkEvents {
    /// The other side has opened a session.
    fn opened(&self, open: SessionOpen, pipe: Pipe);
    /// It is about to end: new sessions go elsewhere.
    fn leaving(&self) {}
    /// It says something else.
    fn said(&self, frame: What);
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
    let asking = ask(link, &silent).fuse();
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
        let written = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        if let Err(error) = written.await {
            return error.into();
        }
    }
    let _ = writer.close().await; // the other side sees the end in any case
    Ended::Own
}

async fn ask(link: &Link, silent: &Cell<u32>) -> Ended {
    let mut number = 0;
    let (mut takes, mut stalled) = (0, 0);
    loop {
        Timer::new(PING_INTERVAL).await;
        // Something waits, and nothing was taken since: what is being written does not go out.
        let is_stalled = link.queue.bytes() > 0 && link.queue.takes() == takes;
        (takes, stalled) = (link.queue.takes(), if is_stalled { stalled + 1 } else { 0 });
        if stalled >= STALLED_INTERVALS_MAX {
            return Ended::Stalled;
        }
        if silent.get() >= SILENT_INTERVALS_MAX {
            return Ended::Silent;
        }
        silent.set(silent.get() + 1);
        number += 1;
        link.queue.put(&What::Ping(LinkPing { number }));
    }
}
