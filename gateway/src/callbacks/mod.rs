//! An application's own server is asked and told over HTTP (webhooks, CON-06).
//!
//! - [`client`]: one request, signed, and its answer. [`frames`]: the JSON of each command.
//! - [`before`]: asking before an act, within a deadline, with a circuit for servers that don't answer.
//! - [`after`]: delivering what stands in the durable queue. [`states`]: devices that come and go, on their way
//!   into it.
//!
//! All of it runs on a thread of its own. What may not live here: when an application is asked or told
//! (`backend::domain` decides).

mod after;
mod before;
mod client;
mod frames;
mod states;

use std::{path::Path, sync::Arc, thread::JoinHandle};

use anyhow::Context as _;
use backend::{
    domain::{
        Error,
        act::Act,
        callbacks::Caller,
        hooks::{Hooks, Verdict},
    },
    env::Clock,
    store::Store,
};
use futures::{channel::oneshot, future::BoxFuture};
use tokio::sync::Notify;

pub use self::states::{InRoom, States};
use self::{after::Dispatcher, before::Asker, client::Client};
use crate::{applications::Applications, figures::Figures};

/// What asks application servers, and notes what they are to be told.
pub struct Callbacks {
    applications: Arc<Applications>,
    runtime: tokio::runtime::Handle,
    asker: Arc<Asker>,
    /// Devices that come and go.
    pub states: States,
    changed: Arc<Notify>,
    stop: Arc<Notify>,
}

/// The thread that asks and tells.
pub struct Running {
    stop: Arc<Notify>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Ends it, once devices that came and went are in the queue. What is not delivered stays there.
    pub fn stop(self) {
        self.stop.notify_one();
        if self.thread.join().is_err() {
            tracing::error!("the thread of the callbacks died");
        }
    }
}

impl Callbacks {
    /// Starts the thread. `owner`: what this process is known by among those that deliver from one store.
    pub fn start(
        store: Store,
        clock: Arc<dyn Clock>,
        applications: Arc<Applications>,
        (ca_file, figures): (Option<&Path>, Figures),
        owner: u64,
    ) -> anyhow::Result<(Arc<Callbacks>, Running)> {
        describe();
        let client = Client::new(clock.clone(), ca_file, figures)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (states, incoming) = states::channel(applications.clone(), clock.clone());
        let asker = Arc::new(Asker::new(client.clone(), store.clone(), clock.clone()));
        let callbacks = Arc::new(Callbacks {
            applications: applications.clone(),
            runtime: runtime.handle().clone(),
            asker,
            states,
            changed: Arc::default(),
            stop: Arc::default(),
        });
        let (changed, stop) = (callbacks.changed.clone(), callbacks.stop.clone());
        let thread = std::thread::Builder::new().name("callbacks".into()).spawn(move || {
            runtime.block_on(async move {
                let dispatcher = Dispatcher::new(store.clone(), clock, applications, client, owner);
                let delivering = tokio::spawn(dispatcher.run(changed));
                let noting = tokio::spawn(states::write(store, incoming, stop));
                let _ = noting.await; // it ends when it is told to
                delivering.abort();
            });
        });
        let thread = thread.context("starting the thread of the callbacks")?;
        let stop = callbacks.stop.clone();
        Ok((callbacks, Running { stop, thread }))
    }

    /// Some application has changed: it may want to be told now.
    pub fn applications_changed(&self) {
        self.changed.notify_one();
    }
}

impl Hooks for Callbacks {
    fn before(&self, act: &Act, caller: &Caller) -> Option<BoxFuture<'static, Result<Verdict, Error>>> {
        let command = frames::question(act)?;
        let application = self.applications.find(act.app())?;
        application.settings.callbacks.as_ref().filter(|callbacks| callbacks.wants(command))?;
        let (asker, act, caller) = (self.asker.clone(), act.clone(), caller.clone());
        let (answer, answered) = oneshot::channel();
        self.runtime.spawn(async move {
            // Whoever asked may be gone meanwhile.
            let _ = answer.send(asker.ask(&application, command, act, caller).await);
        });
        Some(Box::pin(async { answered.await.unwrap_or_else(|_| Err(backend::store::StoreError::Busy.into())) }))
    }

    fn refused(&self, act: &Act, caller: &Caller, error: &Error) {
        self.states.note_refused(act, caller, error);
    }
}

fn describe() {
    use metrics::{describe_counter, describe_gauge};
    describe_counter!(
        "callbacks_queued_total",
        "Entries queued for application servers, by application, on all nodes."
    );
    describe_gauge!("callbacks_queue_length", "Entries that are not delivered yet, by application, on all nodes.");
    describe_counter!("callbacks_delivered_total", "Entries delivered.");
    describe_counter!("callbacks_failed_total", "Tries to deliver an entry that failed; it is tried again.");
    describe_counter!("callbacks_dropped_total", "Entries that were given up, by reason.");
    describe_gauge!("callbacks_oldest_seconds", "Age of the oldest entry that is not delivered, by application.");
    describe_counter!("callbacks_asked_total", "Questions before an act, by what came of them.");
}

#[cfg(test)]
mod tests {
    use backend::domain::callbacks::CallbackCommand;

    #[test]
    fn the_readme_has_every_command() {
        let readme = include_str!("../../../README.md");
        for command in CallbackCommand::ALL {
            let row = format!("\n| `{}` | ", command.name());
            assert!(readme.contains(&row), "{row}");
        }
    }
}
