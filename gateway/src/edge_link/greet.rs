//! How a link begins: TLS with both sides' certificates, and both hellos, the dialling side's first.

use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, FutureExt as _, pin_mut, select};
use glommio::timer::Timer;
use protocol::{
    frame::FrameError,
    link::{self, HELLO_BYTES_MAX, LinkDecoder, Mismatch, What},
    link_message::{LinkHello, LinkRefused},
};

use crate::link_tls::Listed;

/// For TCP, TLS and the hellos together.
const GREETING_MAX: Duration = Duration::from_secs(5);

/// Why there is no link, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("what came is no frame of a link: {0}")]
    Frame(#[from] FrameError),
    #[error("no hello came first")]
    NoHello,
    #[error("{0}")]
    Mismatch(#[from] Mismatch),
    #[error("the other side refuses: {0}")]
    Refused(String),
    #[error(transparent)]
    Listed(#[from] Listed),
    #[error("only edges have links here")]
    NoEdge,
    #[error("this certificate has {0} links here already, as many as link.edge_links_max allows")]
    TooMany(usize),
    #[error("this certificate is not for {0}: that of an edge names it")]
    NotNamed(String),
    #[error("another edge has this certificate already, or this one before it was started: each has its own")]
    Another,
    #[error("this core is about to end")]
    Leaving,
    #[error("nothing was heard for too long")]
    Silent,
    #[error("the other side took nothing for too long")]
    Stalled,
    #[error("it took too long")]
    Late,
    #[error("the other side sent more than it may")]
    Overrun,
    #[error("this side ends")]
    Own,
}

/// A greeting, if it does not take too long.
pub async fn in_time<T>(greeting: impl Future<Output = Result<T, Ended>>) -> Result<T, Ended> {
    let (greeting, late) = (greeting.fuse(), Timer::new(GREETING_MAX).fuse());
    pin_mut!(greeting, late);
    select! {
        greeted = greeting => greeted,
        _ = late => Err(Ended::Late),
    }
}

/// Says hello first, and hears the other's; with it, which version holds.
pub async fn dial<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    decoder: &mut LinkDecoder,
    own: &LinkHello,
) -> Result<(LinkHello, u32), Ended> {
    say(stream, &What::Hello(own.clone())).await?;
    let peer = hear(stream, decoder).await?;
    let version = link::agree(own, &peer)?;
    Ok((peer, version))
}

/// Hears the other's hello, and answers with the own one if it is admitted, or with why not.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin, T>(
    stream: &mut S,
    decoder: &mut LinkDecoder,
    own: &LinkHello,
    admit: impl FnOnce(&LinkHello) -> Result<T, Ended>,
) -> Result<(LinkHello, T), Ended> {
    let peer = hear(stream, decoder).await?;
    let agreed = link::agree(own, &peer).map_err(Ended::from);
    match agreed.and_then(|_| admit(&peer)) {
        Ok(admitted) => {
            say(stream, &What::Hello(own.clone())).await?;
            Ok((peer, admitted))
        }
        Err(why) => {
            // Who is gone already need not hear it.
            let _ = say(stream, &What::Refused(LinkRefused { reason: why.to_string(), not_alive: false })).await;
            let _ = stream.close().await;
            Err(why)
        }
    }
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, frame: &What) -> Result<(), Ended> {
    let mut encoded = bytes::BytesMut::new();
    link::encode(frame, &mut encoded);
    stream.write_all(&encoded).await?;
    stream.flush().await?;
    Ok(())
}

async fn hear<S: AsyncRead + Unpin>(stream: &mut S, decoder: &mut LinkDecoder) -> Result<LinkHello, Ended> {
    let mut buffer = vec![0; HELLO_BYTES_MAX];
    loop {
        match decoder.next_frame(HELLO_BYTES_MAX)? {
            Some(What::Hello(hello)) => return Ok(hello),
            Some(What::Refused(LinkRefused { reason, .. })) => {
                return Err(Ended::Refused(reason.chars().filter(|c| !c.is_control()).take(200).collect()));
            }
            Some(_) => return Err(Ended::NoHello),
            None => {}
        }
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        decoder.feed(buffer.get(..count).unwrap_or_default());
    }
}
