//! Accepting connections on one core.

use std::{
    os::fd::{FromRawFd, IntoRawFd},
    rc::Rc,
    sync::atomic::Ordering,
    time::Duration,
};

use glommio::{
    net::{TcpListener, TcpStream},
    timer::Timer,
};

use super::{Core, connection, stream::Stream};

/// How long to leave the listener alone after it failed: out of descriptors or memory, most likely.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Accepts until cancelled.
pub(super) async fn accept_all(core: Rc<Core>, socket: socket2::Socket) {
    let listener = listen(socket);
    loop {
        match listener.accept().await {
            Ok(stream) => {
                admit(&core, stream);
                glommio::yield_if_needed().await;
            }
            Err(error) => {
                core.metrics.accept_errors.increment(1);
                tracing::warn!(core = core.index, %error, "accepting failed; pausing. Out of file descriptors? Raise the open-files limit.");
                Timer::new(BACK_OFF).await;
            }
        }
    }
}

fn admit(core: &Rc<Core>, stream: TcpStream) {
    if !has_room(core) {
        return; // dropped: closing is all that can be said before TLS
    }
    // Frames are written whole and coalesced already.
    let _ = stream.set_nodelay(true);
    let ip = stream.peer_addr().ok().map(|address| address.ip().to_canonical());
    connection::start(core, Stream::Socket(stream), ip, None);
}

/// Takes a place for a connection, if there is one.
pub(super) fn has_room(core: &Core) -> bool {
    let shared = &core.shared;
    let has_room = shared.connections.fetch_add(1, Ordering::Relaxed) < shared.connections_max;
    if !has_room {
        shared.connections.fetch_sub(1, Ordering::Relaxed);
        core.metrics.connections_refused.increment(1);
    }
    has_room
}

/// A listening socket, for the executor of the calling thread.
pub fn listen(socket: socket2::Socket) -> TcpListener {
    // SAFETY: the descriptor was just given up by its only owner.
    #[allow(unsafe_code)]
    unsafe {
        TcpListener::from_raw_fd(socket.into_raw_fd())
    }
}
