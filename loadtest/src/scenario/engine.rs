//! `engine`: the writes of a `c2c` send straight into the embedded engine, durably, many in flight, by the
//! same path as the gateway's: what the gateway could do if the network cost nothing.
//!
//! Uses the backend crate directly: no client, no network, no gateway process. The store is a fresh one
//! in `data/` here (so that it is on the disk that the gateway's would be on), removed at the end.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use backend::{
    domain::{
        AppId, Error, UserId, account,
        act::Act,
        applications::{self, NewApplication},
        history::{self, HistoryQuery, Start},
        message::NewMessage,
        send_queue::{Completion, Outbox, SendLimits, SendQueue},
        sync::PageLimit,
        unsettled::Late,
        usersig,
    },
    env::{Clock as _, SeededRng, SystemClock},
    store::{Committed, Embedded, EmbeddedOptions, Store, StoreError, StoreOptions},
};
use futures::executor::block_on;

use crate::{
    clock::{Clock, Micros, SECOND_US},
    options::Options,
    payload::{Composer, MessageKey},
    report::Report,
    run::Outcome,
};

const APP: AppId = 1;
const SECRET: &str = "only this process ever sees it";
/// How long a send may stay unanswered before the run is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the scenario, which needs no plan: there is nobody to connect to.
pub(crate) fn run(options: &Options) -> Result<Report> {
    let folder = Folder::make()?;
    let clock = Arc::new(SystemClock::default());
    let engine = Embedded::open(&folder.0, EmbeddedOptions::default(), clock.clone()).context("opening the engine")?;
    let store = Store::new(Arc::new(engine), clock.clone(), Arc::new(SeededRng::new(1)), StoreOptions::default());
    let users = make_users(&store, clock.clone(), options.connections)?;
    let (finished, answers) = mpsc::channel();
    let queue = SendQueue::new(store.clone(), clock, SendLimits::default(), Finished(finished));
    let mut driver = Driver::new(options, queue, users);
    driver.drive(&answers)?;
    driver.check(&store)?;
    store.shutdown();
    Ok(Report::new(options, driver.outcome))
}

/// A send on its way.
#[derive(Clone, Copy, Debug)]
struct Origin {
    sender: u32,
    sent_us: Micros,
}

/// Finished batches, as they come from the engine's thread.
struct Finished(Sender<Vec<Completion<Origin>>>);

impl Outbox for Finished {
    type Origin = Origin;

    fn complete(&self, batch: Vec<Completion<Origin>>, _: Option<Committed>) {
        let _ = self.0.send(batch); // the run has been given up
    }

    fn late(&self, _: Vec<Late>) {} // the run counts answers
}

/// Keeps every sender's window full, as a gateway's connections would.
struct Driver<'a> {
    options: &'a Options,
    queue: SendQueue<Finished>,
    users: Vec<UserId>,
    composer: Composer,
    send: protocol::message::Send,
    next_ordinal: Vec<u32>,
    acked: Vec<u64>,
    in_flight: u64,
    clock: Clock,
    outcome: Outcome,
}

impl<'a> Driver<'a> {
    fn new(options: &'a Options, queue: SendQueue<Finished>, users: Vec<UserId>) -> Self {
        Driver {
            options,
            queue,
            composer: Composer::new(options.seed.unwrap_or(1), options.payload as usize),
            send: protocol::message::Send::default(),
            next_ordinal: vec![0; users.len()],
            acked: vec![0; users.len()],
            users,
            in_flight: 0,
            clock: Clock::start(),
            outcome: Outcome::default(),
        }
    }

    fn drive(&mut self, answers: &Receiver<Vec<Completion<Origin>>>) -> Result<()> {
        let end_us = self.clock.now_us() + (self.options.seconds * SECOND_US as f64) as Micros;
        for sender in 0..self.users.len() as u32 {
            for _ in 0..self.options.window {
                self.submit(sender)?;
            }
        }
        while self.in_flight > 0 {
            let batch = answers.recv_timeout(PATIENCE).context("the engine has stopped answering")?;
            let now_us = self.clock.now_us();
            for Completion { origin, outcome, .. } in batch {
                self.in_flight -= 1;
                outcome.map_err(|error| anyhow::anyhow!("a send failed: {error}"))?;
                self.acked[origin.sender as usize] += 1;
                self.outcome.tally.ack(origin.sent_us, now_us, end_us);
                if now_us < end_us {
                    self.submit(origin.sender)?;
                }
            }
        }
        Ok(())
    }

    fn submit(&mut self, sender: u32) -> Result<()> {
        let ordinal = &mut self.next_ordinal[sender as usize];
        self.composer.compose(MessageKey { sender, ordinal: *ordinal }, &mut self.send);
        *ordinal += 1;
        let user = |index: u32| self.users[index as usize].clone();
        let (id, body) = (self.send.client_message_id.clone(), self.send.body.clone());
        let act = Act::Send(NewMessage::new(APP, user(sender), user(sender ^ 1), id, body));
        match self.queue.submit(Origin { sender, sent_us: self.clock.now_us() }, act) {
            Ok(_) => {}
            Err(Error::Store(StoreError::Busy)) => bail!("--connections × --window is more than the send queue takes"),
            Err(error) => bail!("a send was refused: {error}"),
        }
        self.outcome.tally.sent += 1;
        self.in_flight += 1;
        Ok(())
    }

    /// Every pair's conversation must have as many messages as were acknowledged.
    fn check(&mut self, store: &Store) -> Result<()> {
        let limit = PageLimit { entries_max: 1, bytes_max: 0 };
        let newest = HistoryQuery { start: Start::End, forward: false, limit };
        for (pair, acked) in self.users.chunks(2).zip(self.acked.chunks(2)) {
            let [one, other] = pair else { continue };
            let page = block_on(history::page(store, APP, one, &other.clone().into(), newest))?;
            let acked: u64 = acked.iter().sum();
            self.outcome.tally.findings.lost += acked.saturating_sub(page.head_seq);
            self.outcome.tally.findings.duplicated += page.head_seq.saturating_sub(acked);
        }
        Ok(())
    }
}

fn make_users(store: &Store, clock: Arc<SystemClock>, count: u32) -> Result<Vec<UserId>> {
    let issued_s = clock.unix_ms() / 1000;
    let clock: Arc<dyn backend::env::Clock> = clock;
    block_on(applications::put_application(store, &clock, NewApplication::new(APP, SECRET)))?;
    let user = |index: u32| {
        let name = format!("engine-{index}");
        let user = UserId::new(&name).context("a user's name")?;
        let usersig = usersig::sign(APP, SECRET, &name, issued_s, 3600);
        block_on(account::login(store, &clock, false, APP, &user, usersig))?;
        Ok(user)
    };
    (0..count).map(user).collect()
}

/// A folder that is removed at the end, however that comes.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self> {
        let stamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
        let path = Path::new("data").join(format!("loadtest-engine-{}-{stamp}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
