//! Delivering what stands in the durable queue: each lane in its order, one request at a time; the lanes of an
//! application beside each other.
//!
//! A request that fails is tried again, ever less often, until the entry is older than the application's
//! `give_up_hours`; what stands behind it in its lane waits. Delivered entries are removed in batches, so after
//! a crash some are delivered once more, under the same id.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use backend::{
    domain::{
        AppId, Error,
        callbacks::{
            CallbackRecord, Callbacks, CallerPlatform, LANES,
            queue::{self, CLAIM_MS, Entry, Page, Standing},
        },
    },
    env::Clock,
    store::Store,
};
use tokio::{sync::Notify, task::JoinSet};

use super::{
    client::{Client, Question},
    frames,
};
use crate::applications::Applications;

/// How long an answer is waited for.
const TIMEOUT: Duration = Duration::from_secs(10);

/// From a failure to the next try; doubled with each. At the longest no more than a claim allows.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_LONGEST: Duration = Duration::from_secs(10);

/// So long at the least between two looks for lanes with entries: entries that come meanwhile come together.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// A store may fail to tell of an entry, or another process may have died: after so long it is looked.
const POLL: Duration = Duration::from_secs(5);

/// No lane's oldest entry is known.
const NONE: u64 = u64::MAX;

/// Delivers entries, of all applications.
#[derive(Clone)]
pub struct Dispatcher {
    store: Store,
    clock: Arc<dyn Clock>,
    applications: Arc<Applications>,
    client: Client,
    owner: u64,
}

/// An application whose entries are delivered.
struct Served {
    app: AppId,
    /// When the oldest entry of each lane happened.
    oldest_ms: Vec<AtomicU64>,
}

impl Dispatcher {
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        applications: Arc<Applications>,
        client: Client,
        owner: u64,
    ) -> Self {
        Dispatcher { store, clock, applications, client, owner }
    }

    /// Serves every application that wants it, until it is dropped. `changed`: there may be another.
    pub async fn run(self, changed: Arc<Notify>) {
        let mut served: HashMap<AppId, tokio::task::Id> = HashMap::new();
        let mut running = JoinSet::new();
        loop {
            for app in self.applications.with_callbacks() {
                served.entry(app).or_insert_with(|| running.spawn(self.clone().serve(app)).id());
            }
            tokio::select! {
                () = changed.notified() => {}
                Some(ended) = running.join_next_with_id(), if !running.is_empty() => {
                    let ended = ended.map_or_else(|error| error.id(), |(id, ())| id);
                    served.retain(|_, id| *id != ended);
                    // One that ended by an error is served again, if it is still there.
                    tokio::time::sleep(LOOK_PAUSE).await;
                }
            }
        }
    }

    /// Serves an application until it wants no callbacks any more, and has none left.
    async fn serve(self, app: AppId) {
        let oldest_ms = (0..LANES).map(|_| AtomicU64::new(NONE)).collect();
        let served = Arc::new(Served { app, oldest_ms });
        let mut lanes = JoinSet::new();
        let mut busy = HashSet::new();
        loop {
            // First the watch: an entry that comes while lanes are looked at ends it.
            let looked = match queue::watch(&self.store, app).await {
                Ok(watch) => queue::look(&self.store, app).await.map(|standing| (standing, watch)),
                Err(error) => Err(error),
            };
            let wake = match looked {
                Ok((standing, watch)) => {
                    show(app, &standing);
                    let found = standing.lanes;
                    if found.is_empty() && busy.is_empty() && self.callbacks(app).is_none() {
                        return;
                    }
                    for lane in found.into_iter().filter(|&lane| busy.insert(lane)) {
                        let (dispatcher, served) = (self.clone(), served.clone());
                        lanes.spawn(async move {
                            if let Err(error) = dispatcher.deliver_lane(&served, lane).await {
                                tracing::debug!(app, lane, %error, "a lane could not be delivered; it is tried again");
                                tokio::time::sleep(PAUSE_FIRST).await;
                            }
                            lane
                        });
                    }
                    Some(watch)
                }
                Err(error) => {
                    tracing::debug!(app, %error, "the queue of callbacks can't be read; another try follows");
                    None
                }
            };
            self.show_age(&served);
            let watched = async {
                let told = match wake {
                    Some(watch) => watch.await.is_ok(),
                    None => false,
                };
                tokio::time::sleep(if told { LOOK_PAUSE } else { POLL }).await;
            };
            tokio::select! {
                () = watched => {}
                () = tokio::time::sleep(POLL) => {}
                Some(ended) = lanes.join_next(), if !lanes.is_empty() => match ended {
                    Ok(lane) => _ = busy.remove(&lane),
                    // A panic has been logged; which lane it was is not known.
                    Err(_) => busy.clear(),
                },
            }
        }
    }

    fn callbacks(&self, app: AppId) -> Option<Callbacks> {
        self.applications.find(app)?.settings.callbacks.clone()
    }

    fn show_age(&self, served: &Served) {
        let oldest_ms = served.oldest_ms.iter().map(|ms| ms.load(Ordering::Relaxed)).min().unwrap_or(NONE);
        let age_ms = if oldest_ms == NONE { 0 } else { self.clock.unix_ms().saturating_sub(oldest_ms) };
        metrics::gauge!("callbacks_oldest_seconds", "app" => served.app.to_string()).set(age_ms as f64 / 1000.0);
    }

    /// Delivers a lane until it is empty, or another process has it.
    async fn deliver_lane(&self, served: &Served, lane: u16) -> Result<(), Error> {
        let app = served.app;
        loop {
            let entries = match queue::claim(&self.store, &self.clock, app, lane, self.owner).await? {
                Page::Others => {
                    tokio::time::sleep(POLL).await;
                    return Ok(());
                }
                Page::Entries(entries) => entries,
            };
            let oldest = entries.first().map(|entry| entry.record.as_ref().map_or(0, |record| record.time_ms));
            if let Some(oldest_ms) = served.oldest_ms.get(usize::from(lane)) {
                oldest_ms.store(oldest.unwrap_or(NONE), Ordering::Relaxed);
            }
            if oldest.is_none() || !self.deliver(app, lane, entries).await? {
                return Ok(());
            }
        }
    }

    /// Delivers entries in their order. `false`: another process has the lane meanwhile.
    async fn deliver(&self, app: AppId, lane: u16, entries: Vec<Entry>) -> Result<bool, Error> {
        let settle = |settled| queue::settle(&self.store, &self.clock, app, lane, self.owner, settled);
        let mut settled = Vec::new();
        let mut claimed_us = self.clock.monotonic_us();
        for entry in entries {
            let mut pause = PAUSE_FIRST;
            loop {
                match self.is_settled(app, &entry).await {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) => {
                        // What was delivered before is not delivered again.
                        settle(settled).await?;
                        return Err(error);
                    }
                }
                if !settle(std::mem::take(&mut settled)).await? {
                    return Ok(false);
                }
                tokio::time::sleep(spread(pause)).await;
                pause = PAUSE_LONGEST.min(pause * 2);
                claimed_us = self.clock.monotonic_us();
            }
            settled.push(entry);
            if self.clock.monotonic_us() - claimed_us > CLAIM_MS * 1000 / 3 {
                if !settle(std::mem::take(&mut settled)).await? {
                    return Ok(false);
                }
                claimed_us = self.clock.monotonic_us();
            }
        }
        settle(settled).await
    }

    /// Tries to deliver an entry. Whether it is done with: delivered, or given up.
    async fn is_settled(&self, app: AppId, entry: &Entry) -> Result<bool, Error> {
        let dropped = |reason: &'static str| {
            metrics::counter!("callbacks_dropped_total", "reason" => reason).increment(1);
            Ok(true)
        };
        let Some(record) = &entry.record else { return dropped("damaged") };
        let Some(callbacks) = self.callbacks(app) else { return dropped("switched_off") };
        let age_ms = self.clock.unix_ms().saturating_sub(record.time_ms);
        if age_ms > u64::from(callbacks.give_up_hours) * 3_600_000 {
            return dropped("too_old");
        }
        // One of a newer program's kinds.
        let Some(body) = frames::after(&self.store, app, record).await? else { return dropped("unknown") };
        match self.post(app, &callbacks, entry, record, body).await {
            Ok(()) => {
                metrics::counter!("callbacks_delivered_total").increment(1);
                Ok(true)
            }
            Err(why) => {
                tracing::debug!(app, %why, "the application's server was not told; another try follows");
                metrics::counter!("callbacks_failed_total").increment(1);
                Ok(false)
            }
        }
    }

    async fn post(
        &self,
        app: AppId,
        callbacks: &Callbacks,
        entry: &Entry,
        record: &CallbackRecord,
        (command, body): (backend::domain::callbacks::CallbackCommand, bytes::Bytes),
    ) -> Result<(), String> {
        let platform = CallerPlatform::try_from(record.platform).unwrap_or(CallerPlatform::Unknown).name();
        let question = Question { app, command, ip: &record.ip, platform, id: Some(&entry.id), body };
        match tokio::time::timeout(TIMEOUT, self.client.post(callbacks, question)).await {
            // What it says is ignored, as published: it has been told.
            Ok(Ok(_)) => Ok(()),
            Ok(Err(failure)) => Err(failure.to_string()),
            Err(_) => Err("it has not answered in time".to_owned()),
        }
    }
}

/// The store's own counts: what a transaction that is run again does is counted once.
fn show(app: AppId, standing: &Standing) {
    let app = app.to_string();
    metrics::counter!("callbacks_queued_total", "app" => app.clone()).absolute(standing.queued);
    metrics::gauge!("callbacks_queue_length", "app" => app).set(standing.left as f64);
}

/// Half of a pause to all of it: those that failed together do not come back together.
fn spread(pause: Duration) -> Duration {
    let mut random = [0u8; 4];
    // Without randomness they do.
    let _ = getrandom::fill(&mut random);
    pause / 2 + (pause / 2).mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX))
}
