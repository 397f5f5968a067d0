//! The thread of a core that has the keys of TLS tickets rotate: when a period has begun, it asks the store for its key,
//! which the first core to ask draws. While the store can't be asked, the key before goes on.

use std::{
    io,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use backend::{domain::deployment, store::Store};

use crate::{service::random, shared::Shared, tickets::Tickets};

/// How often to look whether a period has begun.
const INTERVAL: Duration = Duration::from_secs(1);

/// Takes over the store's keys, moved on to the present period.
pub async fn rotate(tickets: &Tickets, store: &Store) -> anyhow::Result<()> {
    tickets.share(deployment::ticket_keys(store, tickets.period(), random()?).await?);
    Ok(())
}

/// The thread; stopped, it ends.
pub struct Rotating {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Rotating {
    pub fn start(shared: Arc<Shared>) -> io::Result<Rotating> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("rotation".into()).spawn(move || {
            let mut is_told = false;
            while stopped.recv_timeout(INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                if !shared.tickets.are_due() {
                    is_told = false;
                    continue;
                }
                let rotated = futures::executor::block_on(rotate(&shared.tickets, &shared.store));
                if let Err(error) = rotated
                    && !is_told
                {
                    tracing::warn!(%error, "keys of TLS tickets can't be rotated; more tries follow");
                    is_told = true;
                }
            }
        })?;
        Ok(Rotating { stop, thread })
    }

    /// Ends the thread.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that rotates keys died");
        }
    }
}
