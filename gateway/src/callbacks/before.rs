//! Asking before an act.
//!
//! The act waits for no longer than the application's `timeout_ms`. A server that does not answer, or not
//! sensibly, leaves the act to `on_timeout`; after so many failures in a row it is not asked at all for a
//! while, so that a dead one does not make each send wait ([`Circuit`]).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use backend::{
    domain::{
        AppId, Error,
        act::Act,
        applications::Application,
        callbacks::{CallbackCommand, Callbacks, Caller, OnTimeout},
        hooks::Verdict,
    },
    env::Clock,
    store::Store,
};
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::{
    client::{Client, Failure, Question},
    frames,
};

/// Questions that one server is asked at a time; more wait, within their time.
const RUNNING_MAX: usize = 256;

/// Failures in a row after which a server is not asked for a while.
const FAILURES_MAX: u32 = 5;

/// For so long. Then one question finds out whether it is back.
const OPEN_US: u64 = 10_000_000;

/// Asks application servers.
pub struct Asker {
    client: Client,
    store: Store,
    clock: Arc<dyn Clock>,
    servers: Mutex<HashMap<AppId, Arc<Server>>>,
}

/// What is known of an application's server.
struct Server {
    url: String,
    places: Semaphore,
    circuit: Mutex<Circuit>,
}

impl Asker {
    pub fn new(client: Client, store: Store, clock: Arc<dyn Clock>) -> Self {
        Asker { client, store, clock, servers: Mutex::default() }
    }

    /// What the application's server says of an act, asked with this command.
    pub async fn ask(
        &self,
        application: &Application,
        command: CallbackCommand,
        act: Act,
        caller: Caller,
    ) -> Result<Verdict, Error> {
        let Some(callbacks) = &application.settings.callbacks else { return Ok(Verdict::Pass) };
        let Some((act, seq)) = frames::as_asked(&self.store, act).await? else { return Ok(Verdict::Pass) };
        let body = frames::before(&self.store, (&act, seq), (command, &caller), self.clock.unix_ms()).await?;
        let Some(body) = body else { return Ok(Verdict::Pass) };
        let server = self.server(application.app, &callbacks.url);
        let is_asked = lock(&server.circuit).admits(self.clock.monotonic_us());
        let said = match is_asked {
            true => self.ask_server(application.app, callbacks, &server, (command, body), &act, caller).await,
            false => Err("not_asked"),
        };
        let (label, verdict) = match said {
            Ok(verdict) => (label(&verdict), verdict),
            Err(label) => (label, otherwise(callbacks, &act)),
        };
        metrics::counter!("callbacks_asked_total", "outcome" => label).increment(1);
        verdict
    }

    async fn ask_server(
        &self,
        app: AppId,
        callbacks: &Callbacks,
        server: &Server,
        (command, body): (CallbackCommand, Bytes),
        act: &Act,
        caller: Caller,
    ) -> Result<Result<Verdict, Error>, &'static str> {
        let ip = caller.ip.map(|ip| ip.to_string()).unwrap_or_default();
        let question = Question { app, command, ip: &ip, platform: caller.platform.name(), id: None, body };
        let asked = async {
            // Never closed.
            let _place = server.places.acquire().await.map_err(|_| Failure::Connection)?;
            self.client.post(callbacks, question).await
        };
        let answer = tokio::time::timeout(Duration::from_millis(callbacks.timeout_ms.into()), asked).await;
        let said = match answer {
            Ok(Ok(answer)) => frames::verdict(act, &answer).ok_or("senseless"),
            Ok(Err(failure)) => {
                tracing::debug!(app, %failure, "the application's server was asked and did not answer");
                Err("failed")
            }
            Err(_) => Err("timed_out"),
        };
        let now_us = self.clock.monotonic_us();
        if lock(&server.circuit).note(said.is_ok(), now_us) {
            tracing::warn!(app, "the application's server has not answered {FAILURES_MAX} times in a row; a pause");
        }
        said
    }

    fn server(&self, app: AppId, url: &str) -> Arc<Server> {
        let fresh = || {
            let (places, circuit) = (Semaphore::new(RUNNING_MAX), Mutex::default());
            Arc::new(Server { url: url.to_owned(), places, circuit })
        };
        let mut servers = lock(&self.servers);
        let server = servers.entry(app).or_insert_with(fresh);
        if server.url != url {
            *server = fresh();
        }
        server.clone()
    }
}

/// What becomes of an act that there is no answer about.
fn otherwise(callbacks: &Callbacks, act: &Act) -> Result<Verdict, Error> {
    match callbacks.on_timeout {
        OnTimeout::Pass => Ok(Verdict::Pass),
        OnTimeout::Refuse => Err(frames::unanswered(act)),
    }
}

/// What came of an answer, for the metric.
fn label(verdict: &Result<Verdict, Error>) -> &'static str {
    match verdict {
        Ok(Verdict::Pass) => "passed",
        Ok(Verdict::Replace(_)) => "replaced",
        Ok(Verdict::Drop) => "dropped",
        Ok(Verdict::RefuseSome(_)) => "refused_some",
        Err(_) => "refused",
    }
}

/// Whether a server is asked: not for a while after too many failures in a row.
#[derive(Debug, Default)]
struct Circuit {
    failures: u32,
    /// Not before this, on the monotonic clock.
    again_us: u64,
}

impl Circuit {
    /// Whether to ask now. After a pause one question goes first; the others wait for what comes of it.
    fn admits(&mut self, now_us: u64) -> bool {
        if self.failures < FAILURES_MAX {
            return true;
        }
        let admits = now_us >= self.again_us;
        if admits {
            self.again_us = now_us + OPEN_US;
        }
        admits
    }

    /// Notes what came of a question. Returns whether a pause begins with it.
    fn note(&mut self, is_good: bool, now_us: u64) -> bool {
        self.failures = if is_good { 0 } else { self.failures.saturating_add(1) };
        if self.failures >= FAILURES_MAX {
            self.again_us = now_us + OPEN_US;
        }
        self.failures == FAILURES_MAX
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_fails_is_left_alone_and_then_tried_by_one() {
        let mut circuit = Circuit::default();
        for failure in 1..=FAILURES_MAX {
            assert!(circuit.admits(0));
            assert_eq!(circuit.note(false, 0), failure == FAILURES_MAX);
        }
        assert!(!circuit.admits(0));
        assert!(!circuit.admits(OPEN_US - 1));
        assert!(circuit.admits(OPEN_US), "the one that finds out");
        assert!(!circuit.admits(OPEN_US), "the others wait for it");
        assert!(!circuit.note(false, OPEN_US + 5));
        assert!(!circuit.admits(2 * OPEN_US));
        assert!(circuit.admits(2 * OPEN_US + 5));
        circuit.note(true, 2 * OPEN_US + 6);
        assert!(circuit.admits(2 * OPEN_US + 6) && circuit.admits(2 * OPEN_US + 6));
        circuit.note(false, 0);
        assert!(circuit.admits(0), "one failure is none");
    }
}
