//! From finished acts to the cores concerned: runs on the store's threads, in commit order.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use ahash::{AHashMap, RandomState};
use backend::{
    domain::{
        AppId, Error, GroupId, Peer, UserId,
        act::{Act, Answer, Audience, News, Notice, Outcome},
        change::{Kind, group::GroupChange},
        figures::Figure,
        send_queue::{Completion, Outbox},
        unsettled::Late,
    },
    store::{Committed, StoreError},
};
use futures::channel::oneshot;
use protocol::EncodedPush;

use crate::{
    cluster::{Cluster, Told},
    figures::Figures,
    mailbox::{ActAnswer, Address, HomeMail, Mail, Mailbox, Published},
    recent::Recent,
    rooms::Rooms,
};

/// All cores' mailboxes, and which of them is a user's home.
#[derive(Clone)]
pub struct Router {
    mailboxes: Arc<[Mailbox]>,
    hasher: RandomState,
    callers: Arc<Callers>,
    figures: Figures,
    recent: Arc<Recent>,
    rooms: Arc<Rooms>,
    cluster: Arc<OnceLock<Arc<Cluster>>>,
}

/// Who asked for an act.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// A request of a client.
    Session {
        /// The connection.
        address: Address,
        /// The request's number.
        request: u32,
    },
    /// A caller within this server, by number: see [`Router::call`].
    Server(u64),
}

/// Callers within this server that wait for the outcome of an act.
#[derive(Default)]
struct Callers {
    last: AtomicU64,
    waiting: Mutex<AHashMap<u64, oneshot::Sender<Result<Answer, Error>>>>,
}

impl Callers {
    fn waiting(&self) -> MutexGuard<'_, AHashMap<u64, oneshot::Sender<Result<Answer, Error>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, number: u64, outcome: Result<Answer, Error>) {
        let caller = self.waiting().remove(&number);
        if let Some(caller) = caller {
            let _ = caller.send(outcome); // it may have gone meanwhile
        }
    }
}

/// A call that waits for the outcome of an act. Dropped, it waits no longer; the act goes on.
pub struct Call {
    number: u64,
    callers: Arc<Callers>,
    answer: oneshot::Receiver<Result<Answer, Error>>,
}

impl Call {
    /// What the act is submitted with.
    pub fn origin(&self) -> Origin {
        Origin::Server(self.number)
    }

    /// The act's outcome, once it is durable. Any executor can wait for it.
    pub async fn answer(mut self) -> Result<Answer, Error> {
        (&mut self.answer).await.unwrap_or(Err(StoreError::MaybeCommitted.into()))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.callers.waiting().remove(&self.number);
    }
}

impl Origin {
    /// Nobody waits for the answer: no caller has this number.
    pub const NOBODY: Origin = Origin::Server(0);
}

impl Router {
    /// A router between `cores` cores, which counts messages.
    pub fn new(cores: usize, events_max: usize, figures: Figures) -> Self {
        let mailboxes = (0..cores).map(|_| Mailbox::new(cores, events_max)).collect();
        // Where a user is at home needs to be the same only within the process: random, so that nobody
        // can choose names that all meet on one core.
        let (hasher, callers) = (RandomState::new(), Arc::default());
        let (recent, rooms, cluster) = (Arc::default(), Arc::default(), Arc::default());
        Router { mailboxes, hasher, callers, figures, recent, rooms, cluster }
    }

    /// From here on there are other cores. Said once, before anything is served.
    pub fn join(&self, cluster: Arc<Cluster>) {
        let _ = self.cluster.set(cluster);
    }

    /// The other cores, if there may be any.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.get()
    }

    /// Begins to wait for an act that the caller is about to submit.
    pub fn call(&self) -> Call {
        let number = self.callers.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answer) = oneshot::channel();
        self.callers.waiting().insert(number, sender);
        Call { number, callers: self.callers.clone(), answer }
    }

    /// The core whose table says where `user` is online.
    pub fn home(&self, app: AppId, user: &UserId) -> u16 {
        (self.hasher.hash_one((app, user)) % self.mailboxes.len() as u64) as u16
    }

    /// What was said last in live rooms.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Who is in live rooms.
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Tells whoever is in any live room of an application something that is in no log.
    pub fn push_to_rooms(&self, app: AppId, push: &EncodedPush) {
        self.push_to_rooms_here(app, push);
        if let Some(cluster) = self.cluster() {
            cluster.hint(&Told::Rooms(app, push.clone()));
        }
    }

    /// The same for those on this node.
    pub fn push_to_rooms_here(&self, app: AppId, push: &EncodedPush) {
        for mailbox in self.mailboxes.iter() {
            mailbox.put(Mail::Home(Box::new(HomeMail::Broadcast { app, push: push.clone() })));
        }
    }

    /// Tells whoever is in a live room now something that is in no log.
    pub fn push_to_group(&self, app: AppId, group: &GroupId, push: EncodedPush) {
        let published = Published { app, to: group.clone().into(), news: News::Push(push), origin: None };
        if let Some(cluster) = self.cluster() {
            cluster.hint(&Told::Published(published.clone()));
        }
        self.publish_here([published]);
    }

    /// A core's mailbox.
    pub fn mailbox(&self, core: u16) -> &Mailbox {
        &self.mailboxes[usize::from(core)]
    }

    /// Every core's mailbox.
    pub fn mailboxes(&self) -> &[Mailbox] {
        &self.mailboxes
    }
}

impl Router {
    /// Once for each application and figure, however many of a batch are its.
    fn count_acts(&self, batch: &[Completion<Origin>]) {
        let counted = batch.iter().filter_map(|completion| {
            let outcome = completion.outcome.as_ref().ok()?;
            let (figure, times) = figure(&completion.act, &outcome.answer)?;
            Some(((completion.act.app(), figure), times))
        });
        for some in counted.collect::<Vec<_>>().chunk_by(|(one, _), (next, _)| one == next) {
            let (app, figure) = some[0].0;
            self.figures.count(app, figure, some.iter().map(|(_, times)| times).sum());
        }
    }
}

/// What an act is counted as, and how often.
fn figure(act: &Act, answer: &Answer) -> Option<(Figure, u64)> {
    match act {
        Act::Send(message) => match (answer, &message.to) {
            (Answer::Sent { duplicate: false, .. }, Peer::User(_)) => Some((Figure::Messages, 1)),
            (Answer::Sent { duplicate: false, .. }, Peer::Group(_)) => Some((Figure::GroupMessages, 1)),
            _ => None,
        },
        Act::Change(change) => match &change.kind {
            Kind::Group(what) => group_figure(what, answer),
            _ => None,
        },
    }
}

fn group_figure(what: &GroupChange, answer: &Answer) -> Option<(Figure, u64)> {
    let done = |outcomes: &[(UserId, _)]| outcomes.iter().filter(|(_, outcome)| Result::is_ok(outcome)).count() as u64;
    match (what, answer) {
        (GroupChange::Create(_), Answer::GroupCreated(_)) => Some((Figure::GroupsMade, 1)),
        (GroupChange::Dissolve { .. }, Answer::Done) => Some((Figure::GroupsDissolved, 1)),
        (GroupChange::Join { .. }, Answer::GroupJoined { applied: false })
        | (GroupChange::Answer { agree: true, .. }, Answer::Done) => Some((Figure::GroupsJoined, 1)),
        (GroupChange::Invite { .. }, Answer::GroupUsers(outcomes)) => Some((Figure::GroupsJoined, done(outcomes))),
        (GroupChange::Leave { .. }, Answer::Done) => Some((Figure::GroupsLeft, 1)),
        (GroupChange::Remove { .. }, Answer::GroupUsers(outcomes)) => Some((Figure::GroupsLeft, done(outcomes))),
        _ => None,
    }
}

impl Outbox for Router {
    type Origin = Origin;

    fn complete(&self, batch: Vec<Completion<Origin>>, at: Option<Committed>) {
        self.count_acts(&batch);
        let mut answers: Vec<Vec<ActAnswer>> = self.mailboxes.iter().map(|_| Vec::new()).collect();
        let mut news = Vec::with_capacity(2 * batch.len());
        for Completion { origin, act, outcome } in batch {
            let outcome = outcome.map(|outcome| {
                let knows = match origin {
                    Origin::Session { address, .. } if outcome.is_whole() => Some(address),
                    Origin::Session { .. } | Origin::Server(_) => None,
                };
                let Outcome { answer, notices } = outcome;
                news.extend(published(act.app(), notices, knows));
                answer
            });
            if outcome.as_ref().is_ok_and(|answer| !answer.is_last()) {
                continue;
            }
            match origin {
                Origin::Session { address, request } => {
                    let answer = ActAnswer { connection: address.connection, request, outcome };
                    answers[usize::from(address.core)].push(answer);
                }
                Origin::Server(number) => self.callers.answer(number, outcome),
            }
        }
        // All answers before any event: a device's cursor must not pass what it did before its answer.
        for (mailbox, answers) in self.mailboxes.iter().zip(answers).filter(|(_, answers)| !answers.is_empty()) {
            mailbox.put(Mail::Acted(answers));
        }
        match (self.cluster(), at) {
            (Some(cluster), Some(at)) => cluster.committed(at, news),
            _ => self.publish_here(news),
        }
    }

    fn late(&self, acts: Vec<Late>) {
        for Late { act, notices } in acts {
            let position = notices.iter().find_map(|notice| match &notice.what {
                News::Event(position, _) => Some(*position),
                _ => None,
            });
            // The device that asked was told that it failed: it is told now, too.
            let news: Vec<Published> = published(act.app(), notices, None).collect();
            match (self.cluster(), position) {
                (Some(cluster), Some(position)) => cluster.late(position.place(), news),
                (Some(cluster), None) => {
                    news.iter().for_each(|one| cluster.hint(&Told::Published(one.clone())));
                    self.publish_here(news);
                }
                (None, _) => self.publish_here(news),
            }
        }
    }
}

/// What devices are told of an act.
fn published(
    app: AppId,
    notices: impl IntoIterator<Item = Notice>,
    origin: Option<Address>,
) -> impl Iterator<Item = Published> {
    notices.into_iter().map(move |Notice { to, what: news }| Published { app, to, news, origin })
}

impl Router {
    /// Tells the devices of this node, by their homes.
    pub fn publish_here(&self, news: impl IntoIterator<Item = Published>) {
        let mut by_home: Vec<Vec<Published>> = self.mailboxes.iter().map(|_| Vec::new()).collect();
        for published in news {
            match &published.to {
                Audience::User(user) => {
                    let home = usize::from(self.home(published.app, user));
                    by_home[home].push(published);
                }
                // Each core tells those members whose home it is: so all that concerns a user takes one way, in order.
                Audience::Group(group) => {
                    self.recent.note(published.app, group, &published.news);
                    by_home.iter_mut().for_each(|home| home.push(published.clone()));
                }
            }
        }
        for ((mailbox, published), home) in self.mailboxes.iter().zip(by_home).zip(0..) {
            mailbox.put_events(published, home, Mail::Publish);
        }
    }
}
