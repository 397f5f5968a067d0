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

use super::{Core, connection};

/// How long to leave the listener alone after it failed: out of descriptors or memory, most likely.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Accepts until cancelled.
pub(super) async fn accept_all(core: Rc<Core>, socket: socket2::Socket) {
    // SAFETY: the descriptor was just given up by its only owner.
    #[allow(unsafe_code)]
    let listener = unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) };
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
    let shared = &core.shared;
    if shared.connections.fetch_add(1, Ordering::Relaxed) >= shared.connections_max {
        shared.connections.fetch_sub(1, Ordering::Relaxed);
        core.metrics.connections_refused.increment(1);
        return; // dropped: closing is all that can be said before TLS
    }
    // Frames are written whole and coalesced already.
    let _ = stream.set_nodelay(true);
    connection::start(core, stream);
}
