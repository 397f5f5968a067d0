//! What a connection reads from and writes to: a socket, or a client's stream on a link of an edge.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;

use crate::edge_link::pipe::Pipe;

/// Bytes of a client, with its TLS or without.
pub(super) enum Stream {
    /// The client's own connection: TLS ends here.
    Socket(TcpStream),
    /// An edge has ended its TLS.
    Linked(Pipe),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Socket(socket) => Pin::new(socket).poll_read(cx, buffer),
            Stream::Linked(pipe) => pipe.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Socket(socket) => Pin::new(socket).poll_write(cx, data),
            Stream::Linked(pipe) => pipe.poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Socket(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Linked(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Socket(socket) => Pin::new(socket).poll_close(cx),
            Stream::Linked(pipe) => {
                pipe.close();
                Poll::Ready(Ok(()))
            }
        }
    }
}
