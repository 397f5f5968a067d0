//! Counts what figures of applications are made of, in memory; a thread adds it to the store now and then.
//!
//! What may not live here: what a figure is (`backend::domain::figures`).

use std::{
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use ahash::AHashMap;
use backend::{
    domain::{
        AppId,
        figures::{self, Figure},
    },
    env::Clock,
    store::Store,
};

/// From one addition to the next: so much is missing when the process dies.
const INTERVAL: Duration = Duration::from_secs(5);

/// What was counted and not added yet. Clones share it.
#[derive(Clone, Default)]
pub struct Figures(Arc<Mutex<AHashMap<(AppId, Figure), u64>>>);

impl Figures {
    /// Something has happened so often. What happens thousands of times a second is best told many at a time.
    pub fn count(&self, app: AppId, figure: Figure, times: u64) {
        *self.counted().entry((app, figure)).or_default() += times;
    }

    fn counted(&self) -> MutexGuard<'_, AHashMap<(AppId, Figure), u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what has come together to today's figures; what can't be added now stays.
    fn add(&self, store: &Store, clock: &Arc<dyn Clock>) {
        let counted = mem::take(&mut *self.counted());
        if counted.is_empty() {
            return;
        }
        let list = counted.iter().map(|(&(app, figure), &times)| (app, figure, times)).collect();
        let added = futures::executor::block_on(figures::add(store, figures::day(clock.unix_ms()), list));
        if let Err(error) = added {
            tracing::debug!(%error, "figures could not be added; another try follows");
            counted.into_iter().for_each(|((app, figure), times)| self.count(app, figure, times));
        }
    }
}

/// The thread that adds.
pub struct Adding {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Adding {
    /// Starts it.
    pub fn start(figures: Figures, store: Store, clock: Arc<dyn Clock>) -> io::Result<Adding> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("figures".into()).spawn(move || {
            let is_going_on = |stopped: &mpsc::Receiver<()>| {
                matches!(stopped.recv_timeout(INTERVAL), Err(mpsc::RecvTimeoutError::Timeout))
            };
            while is_going_on(&stopped) {
                figures.add(&store, &clock);
            }
            figures.add(&store, &clock);
        })?;
        Ok(Adding { stop, thread })
    }

    /// Ends it, with everything added.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread of the figures died");
        }
    }
}
