//! The applications as this process knows them, for what needs their settings outside of a transaction.
//!
//! A thread follows them: it is told by the store when one changes, and looks for itself now and then. What
//! a transaction decides, it decides by what the store says; this is for the rest, and may be a moment old.

use std::{io, sync::Arc, thread::JoinHandle, time::Duration};

use ahash::AHashMap;
use arc_swap::ArcSwap;
use backend::{
    domain::{
        AppId, Error,
        applications::{self, Application},
        rate::SendRate,
    },
    store::Watch,
};
use tokio::sync::watch;

use crate::{mailbox::Mail, shared::Shared};

/// A store may fail to tell of a change: after so long it is looked for all the same.
const POLL: Duration = Duration::from_secs(10);

/// After a failure of the store: until the next try.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// All applications, by number. Read from any thread.
#[derive(Default)]
pub struct Applications {
    known: ArcSwap<AHashMap<AppId, Known>>,
}

/// An application, and what of it is needed in haste.
struct Known {
    application: Arc<Application>,
    send_rate: Option<SendRate>,
}

impl Applications {
    /// An application; `None`: not there, or not yet.
    pub fn find(&self, app: AppId) -> Option<Arc<Application>> {
        self.known.load().get(&app).map(|known| known.application.clone())
    }

    /// Those whose own servers are asked or told.
    pub fn with_callbacks(&self) -> Vec<AppId> {
        let known = self.known.load();
        let wants = |known: &Known| known.application.settings.callbacks.is_some();
        known.iter().filter(|(_, known)| wants(known)).map(|(app, _)| *app).collect()
    }

    /// How many messages a group of the application may be sent each second; 0: without limit.
    pub fn group_sends_per_second(&self, app: AppId) -> u32 {
        self.known.load().get(&app).map_or(0, |known| known.application.settings.group_sends_per_second)
    }

    /// How many messages a user of the application may send; `None`: no limit.
    pub fn send_rate(&self, app: AppId) -> Option<SendRate> {
        self.known.load().get(&app).and_then(|known| known.send_rate)
    }

    /// Takes over what the store has now. Returns the applications that are gone.
    fn replace(&self, all: Vec<Application>) -> Vec<AppId> {
        let known = all.into_iter().map(|application| {
            let send_rate = SendRate::of(&application.settings);
            (application.app, Known { application: Arc::new(application), send_rate })
        });
        let known: AHashMap<AppId, Known> = known.collect();
        let before = self.known.load();
        let gone = before.keys().filter(|app| !known.contains_key(app)).copied().collect();
        self.known.store(Arc::new(known));
        gone
    }
}

/// Reads all applications anew. Sessions of those that are gone end.
pub async fn refresh(shared: &Shared) -> Result<(), Error> {
    let all = applications::list(&shared.store).await?;
    for app in shared.applications.replace(all) {
        tracing::info!(app, "the application is gone; its sessions end");
        for mailbox in shared.router.mailboxes() {
            mailbox.put(Mail::ApplicationGone { app });
        }
    }
    Ok(())
}

/// The thread that follows changes; stopped, it ends.
pub struct Following {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Following {
    /// Starts to follow; `changed` is called after each change.
    pub fn start(shared: Arc<Shared>, changed: impl Fn() + Send + 'static) -> io::Result<Following> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, mut stopped) = watch::channel(false);
        let thread = std::thread::Builder::new().name("applications".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = follow(&shared, changed) => {}
                    _ = stopped.changed() => {}
                }
            });
        })?;
        Ok(Following { stop, thread })
    }

    /// Ends the thread.
    pub fn stop(self) {
        let _ = self.stop.send(true); // it has ended: so it should
        if self.thread.join().is_err() {
            tracing::error!("the thread that follows the applications died");
        }
    }
}

async fn follow(shared: &Shared, changed: impl Fn()) {
    let mut seen = None;
    loop {
        // One that can't be read, or watched, must not make this a busy loop.
        match look(shared, &mut seen, &changed).await {
            Ok(watch) => tokio::select! {
                Ok(()) = watch => {}
                () = tokio::time::sleep(POLL) => {}
            },
            Err(error) => {
                tracing::warn!(%error, "applications could not be read; another try follows");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// Takes over what has changed since `seen`. Returns what ends with the next change.
async fn look(shared: &Shared, seen: &mut Option<u64>, changed: &impl Fn()) -> Result<Watch, Error> {
    // First the watch: a change that comes while all is read ends it.
    let (version, watch) = applications::watch(&shared.store).await?;
    if *seen != Some(version) {
        refresh(shared).await?;
        *seen = Some(version);
        changed();
    }
    Ok(watch)
}
