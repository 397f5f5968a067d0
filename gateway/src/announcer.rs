//! Telling announcements to the users of this node (MSG-14): to those online at once, to others when they log
//! in. On a thread of its own, a bounded portion at a time: what users send each other passes in between.
//!
//! What may not live here: what an announcement is, and who is meant (`backend::domain::announcement`).

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use ahash::AHashMap;
use arc_swap::ArcSwap;
use backend::{
    domain::{
        AppId, Error, UserId,
        act::{Act, Answer},
        announcement::{self, Announcement, USERS_MAX},
        callbacks::{Caller, CallerPlatform},
        message::NewMessage,
    },
    store::{Store, Versionstamp, Watch},
};
use futures::{channel::oneshot, future::join_all};
use tokio::{sync::mpsc, time::sleep};

use crate::{
    mailbox::{HomeMail, Mail},
    shared::Shared,
};

/// Users who have logged in and wait to be told; if there are more, everybody online is looked at again.
const ARRIVALS_MAX: usize = 65_536;

/// Messages under way at a time: a part of what one transaction takes, so that there is room for others'.
const SENDS_MAX: usize = 100;

/// How often to look without having been told that there is something new: what is over is forgotten then.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// Before another try when the store can't: grows from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// An application that announces something is not asked about each of the messages, nor told.
const UNHEARD: Caller =
    Caller { ip: None, platform: CallerPlatform::RestApi, admin: None, is_asked: false, is_told: false };

/// Announcements of one application, oldest first.
type Announcements = Arc<[Announcement]>;

/// What the cores say to the announcer.
pub struct Arrivals {
    /// Those that wait for users who log in.
    waiting: ArcSwap<AHashMap<AppId, Announcements>>,
    arrived: mpsc::Sender<(AppId, UserId)>,
    /// Somebody found no room.
    missed: AtomicBool,
}

impl Arrivals {
    /// With where they are told.
    pub fn new() -> (Self, mpsc::Receiver<(AppId, UserId)>) {
        let (arrived, receiver) = mpsc::channel(ARRIVALS_MAX);
        (Arrivals { waiting: ArcSwap::default(), arrived, missed: AtomicBool::new(false) }, receiver)
    }

    /// A user has logged in, and is in the online table. Never waits; costs nothing where nothing is announced.
    pub fn arrived(&self, app: AppId, user: &UserId) {
        if self.waiting.load().contains_key(&app) && self.arrived.try_send((app, user.clone())).is_err() {
            self.missed.store(true, Ordering::Release);
        }
    }
}

/// The announcer's thread. Nothing is lost whenever it ends: what is not noted as told is told again.
pub struct Announcing {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Announcing {
    /// Starts it.
    pub fn start(shared: Arc<Shared>, arrived: mpsc::Receiver<(AppId, UserId)>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let announcer = Announcer { shared, arrived, since: HashMap::new() };
        let (stop, stopped) = oneshot::channel::<()>();
        let run = async move {
            tokio::select! {
                () = announcer.run() => {}
                _ = stopped => {}
            }
        };
        let thread = std::thread::Builder::new().name("announcer".into()).spawn(move || runtime.block_on(run))?;
        Ok(Announcing { stop, thread })
    }

    /// Tells nobody anything from here on.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the announcer died");
        }
    }
}

struct Announcer {
    shared: Arc<Shared>,
    arrived: mpsc::Receiver<(AppId, UserId)>,
    /// The last announcement known of each application.
    since: HashMap<AppId, Versionstamp>,
}

impl Announcer {
    async fn run(mut self) {
        loop {
            match self.look().await {
                Ok(watch) => self.tell_arrivals(watch).await,
                // It is the end of all: the store is closed.
                Err(_) if !self.shared.ready.load(Ordering::Acquire) => return,
                Err(error) => {
                    tracing::warn!(%error, "announcements can't be read; another try follows");
                    sleep(PAUSE_MAX).await;
                }
            }
        }
    }

    /// Learns what is new, and tells it to everybody online.
    async fn look(&mut self) -> Result<Watch, Error> {
        let now_ms = self.shared.clock.unix_ms();
        let (new, watch) = announcement::news(&self.shared.store, self.since.clone(), now_ms).await?;
        let mut all: AHashMap<AppId, Vec<Announcement>> = AHashMap::new();
        for (app, waiting) in self.shared.arrivals.waiting.load().iter() {
            let alive: Vec<_> = waiting.iter().filter(|announcement| !announcement.is_over(now_ms)).cloned().collect();
            if alive.len() < waiting.len() {
                while announcement::remove_expired(&self.shared.store, *app, now_ms).await? {}
            }
            all.insert(*app, alive);
        }
        let mut told: Vec<AppId> = Vec::new();
        for announcement in new {
            self.since.insert(announcement.app, announcement.position);
            told.push(announcement.app);
            all.entry(announcement.app).or_default().push(announcement);
        }
        told.dedup();
        // First those that wait are known, then everybody online is looked at: whoever logs in meanwhile is told
        // by one of the two.
        let kept = |list: &Vec<Announcement>| list.iter().filter(|one| one.is_kept).cloned().collect::<Announcements>();
        let waiting = all.iter().map(|(app, list)| (*app, kept(list))).filter(|(_, list)| !list.is_empty());
        self.shared.arrivals.waiting.store(Arc::new(waiting.collect()));
        for app in told {
            if let Some(announcements) = all.remove(&app) {
                self.tell_online(app, announcements.into()).await;
            }
        }
        Ok(watch)
    }

    /// Tells users who log in, until there is something new.
    async fn tell_arrivals(&mut self, mut watch: Watch) {
        let mut look = std::pin::pin!(sleep(LOOK_INTERVAL));
        let mut arrived = Vec::new();
        loop {
            tokio::select! {
                _ = &mut watch => return,
                () = &mut look => return,
                _ = self.arrived.recv_many(&mut arrived, USERS_MAX) => {}
            }
            let waiting = self.shared.arrivals.waiting.load_full();
            let mut by_app: AHashMap<AppId, Vec<UserId>> = AHashMap::new();
            for (app, user) in arrived.drain(..) {
                by_app.entry(app).or_default().push(user);
            }
            for (app, users) in by_app {
                if let Some(announcements) = waiting.get(&app) {
                    self.tell(app, users, announcements).await;
                }
            }
            if self.shared.arrivals.missed.swap(false, Ordering::AcqRel) {
                for (app, announcements) in waiting.iter() {
                    self.tell_online(*app, announcements.clone()).await;
                }
            }
        }
    }

    /// Tells everybody of an application who is online here.
    async fn tell_online(&self, app: AppId, announcements: Announcements) {
        for mailbox in self.shared.router.mailboxes() {
            let (answer, users) = oneshot::channel();
            mailbox.put(Mail::Home(Box::new(HomeMail::Online { app, answer })));
            // A core that is gone takes the process with it.
            let Ok(users) = users.await else { return };
            for users in users.chunks(USERS_MAX) {
                self.tell(app, users.to_vec(), &announcements).await;
            }
        }
    }

    /// Tells some users, as often as it takes.
    async fn tell(&self, app: AppId, users: Vec<UserId>, announcements: &Announcements) {
        let Shared { store, clock, .. } = &*self.shared;
        let act = |act| self.shared.act(act, UNHEARD);
        let mut pause = PAUSE_MIN;
        while let Err(error) = tell_once(store, clock.unix_ms(), act, app, users.clone(), announcements.clone()).await {
            let is_over = |announcement: &Announcement| announcement.is_over(clock.unix_ms());
            if error == Error::ApplicationUnknown || announcements.iter().all(is_over) {
                return;
            }
            tracing::warn!(%error, app, "users can't be told an announcement; another try follows");
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// Tells some users what is due, and notes that they were told if all of it was said, or can't be.
async fn tell_once<Answered: Future<Output = Result<Answer, Error>>>(
    store: &Store,
    now_ms: u64,
    act: impl Fn(Act) -> Answered,
    app: AppId,
    users: Vec<UserId>,
    announcements: Announcements,
) -> Result<(), Error> {
    let last = announcements.iter().rfind(|announcement| announcement.is_kept).map(|last| last.position);
    let due = announcement::due(store, app, users.clone(), announcements, now_ms).await?;
    for messages in due.chunks(SENDS_MAX) {
        let sends = messages.iter().map(|message: &NewMessage| act(Act::Send(message.clone())));
        for sent in join_all(sends).await {
            match sent {
                Ok(_) => metrics::counter!("gateway_announcements_told_total").increment(1),
                // Not said, though it may be by another try, or by another node if this one changes nothing any more.
                Err(error @ (Error::Store(_) | Error::Fenced | Error::ApplicationUnknown)) => return Err(error),
                // A user who does not want it, or is gone: no other try changes that.
                Err(_) => {}
            }
        }
    }
    match last {
        Some(position) => announcement::told(store, app, users, position).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use backend::{
        domain::{
            account,
            announcement::{Announced, NewAnnouncement, Quota},
            applications::{self, NewApplication},
            audience::Condition,
            usersig,
        },
        env::{Clock, SeededRng, SystemClock},
        store::{Faults, Memory, StoreOptions},
    };
    use futures::executor::block_on;
    use prost::Message as _;
    use protocol::message::{Body, Element, Text, element::Kind};

    use super::*;

    const APP: AppId = 7;
    const SECRET: &str = "a secret for tests only";

    /// Of anna, who is there, and something that is announced.
    fn announced() -> (Store, UserId, Announcements, u64) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let engine = Arc::new(Memory::new(1, Faults::default()));
        let store = Store::new(engine, clock.clone(), Arc::new(SeededRng::new(1)), StoreOptions::default());
        block_on(applications::put_application(&store, &clock, NewApplication::new(APP, SECRET))).unwrap();
        let anna = UserId::new("anna").unwrap();
        let usersig = usersig::sign(APP, SECRET, "anna", clock.unix_ms() / 1000, 3600);
        block_on(account::login(&store, &clock, false, APP, &anna, usersig)).unwrap();
        // Not before she was there.
        let now_ms = clock.unix_ms();
        let text = Element { kind: Some(Kind::Text(Text { text: "news".into() })) };
        let new = NewAnnouncement {
            from: UserId::new("admin").unwrap(),
            random: 1,
            life_s: 3600,
            condition: Condition::default(),
            body: Body { elements: vec![text], ..Body::default() }.encode_to_vec().into(),
        };
        let made = announcement::announce(&store, APP, new, Quota { per_day: 0, interval_ms: 0 }, now_ms);
        assert!(matches!(block_on(made).unwrap(), Announced::Task(_)));
        let all = block_on(announcement::news(&store, HashMap::new(), now_ms)).unwrap().0;
        (store, anna, all.into(), now_ms)
    }

    #[test]
    fn msg_14_who_was_not_told_is_not_noted_as_told() {
        let (store, anna, all, now_ms) = announced();
        let tell = |outcome: Result<Answer, Error>| {
            let act = |_| ready(outcome.clone());
            block_on(tell_once(&store, now_ms, act, APP, vec![anna.clone()], all.clone()))
        };
        let due = || block_on(announcement::due(&store, APP, vec![anna.clone()], all.clone(), now_ms)).unwrap().len();
        // This node was taken for dead, or ends: another one tells her.
        assert_eq!(tell(Err(Error::Fenced)), Err(Error::Fenced));
        assert_eq!(due(), 1);
        // She does not want it.
        assert_eq!(tell(Err(Error::UserInvalid)), Ok(()));
        assert_eq!(due(), 0);
    }
}
