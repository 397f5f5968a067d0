//! Devices that come and go, and messages that were refused, on their way into the queue: they are in no transaction, so
//! cores hand them over, and a task writes them in batches.

use std::{sync::Arc, time::Duration};

use backend::{
    domain::{
        AppId, Error, GroupId, Peer, UserId,
        act::Act,
        callbacks::{
            CallbackCommand, CallbackRecord, Caller, CallerPlatform, GroupExited, GroupJoined, GroupSendFailed,
            Happened, RoomLost, StateChanged, StateNews, StateReason, queue::append_states,
        },
    },
    env::Clock,
    store::Store,
};
use prost::Message as _;
use protocol::message::{GroupType, Message};
use tokio::sync::{Notify, mpsc};

use crate::{applications::Applications, errors::Refusal};

/// News that may wait to be written; more are dropped and counted.
const WAITING_MAX: usize = 65_536;

/// News written in one transaction.
const BATCH_MAX: usize = 512;

/// After a failure of the store: until the next try, and how many there are.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
const TRIES_MAX: u32 = 20;

/// Takes news over, on any core, without waiting.
pub struct States {
    applications: Arc<Applications>,
    clock: Arc<dyn Clock>,
    sender: mpsc::Sender<StateNews>,
}

/// A way for news, and where they come out.
pub fn channel(applications: Arc<Applications>, clock: Arc<dyn Clock>) -> (States, mpsc::Receiver<StateNews>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (States { applications, clock, sender }, receiver)
}

/// How a user is in a live room now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InRoom {
    Came,
    Left,
    /// The last connection there has ended.
    Lost,
}

impl States {
    /// A device of `user` has come or gone, and with it, those on `signed_out` are.
    pub fn note(
        &self,
        app: AppId,
        user: &UserId,
        caller: Caller,
        reason: StateReason,
        signed_out: impl IntoIterator<Item = CallerPlatform>,
    ) {
        if !self.is_wanted(app, CallbackCommand::StateChange) {
            return;
        }
        let signed_out = signed_out.into_iter().map(i32::from).collect();
        let changed = StateChanged { user: user.to_string(), reason: reason.into(), signed_out };
        self.queue(app, user, None, caller, Happened::State(changed));
    }

    /// A user has come into a live room with the first device, or gone out with the last.
    pub fn note_in_room(&self, app: AppId, room: &GroupId, user: &UserId, caller: Caller, how: InRoom) {
        let (group, by, kind) = (room.to_string(), user.to_string(), GroupType::Avchatroom.into());
        let users = vec![user.to_string()];
        let what = match how {
            InRoom::Came => Happened::GroupJoined(GroupJoined { group, kind, by, users, is_invited: false }),
            InRoom::Left => Happened::GroupExited(GroupExited { group, kind, by, users, is_removed: false }),
            InRoom::Lost => Happened::RoomLost(RoomLost { group, user: by }),
        };
        if self.is_wanted(app, what.command()) {
            self.queue(app, user, Some(room.clone()), caller, what);
        }
    }

    /// An act was refused; of messages to groups an application can be told.
    pub fn note_refused(&self, act: &Act, caller: &Caller, error: &Error) {
        let Act::Send(message) = act else { return };
        let (app, from) = (message.app, &message.from);
        let Peer::Group(group) = &message.to else { return };
        // What is imported was sent elsewhere.
        if message.treatment.unannounced {
            return;
        }
        // Whoever is busy or ends is asked again: that is nothing which the application could mend.
        if matches!(error, Error::Store(_) | Error::Fenced) || !self.is_wanted(app, CallbackCommand::GroupSendFailed) {
            return;
        }
        let refusal = Refusal::from(error.clone());
        let told = Message {
            from: from.to_string(),
            group: group.to_string(),
            client_message_id: message.client_message_id.clone(),
            body: message.body.clone(),
            ..Message::default()
        };
        let failed = GroupSendFailed {
            by: caller.admin.as_ref().unwrap_or(from).to_string(),
            message: told.encode_to_vec().into(),
            online_only: message.treatment.online_only,
            code: refusal.code.0,
            text: refusal.text,
        };
        self.queue(app, from, Some(group.clone()), caller.clone(), Happened::GroupSendFailed(failed));
    }

    fn is_wanted(&self, app: AppId, command: CallbackCommand) -> bool {
        let Some(application) = self.applications.find(app) else { return false };
        application.settings.callbacks.as_ref().is_some_and(|callbacks| callbacks.wants(command))
    }

    fn queue(&self, app: AppId, user: &UserId, room: Option<GroupId>, caller: Caller, what: Happened) {
        let record = CallbackRecord {
            time_ms: self.clock.unix_ms(),
            ip: caller.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            platform: caller.platform.into(),
            what: Some(what),
        };
        if self.sender.try_send(StateNews { app, user: user.clone(), room, record }).is_err() {
            dropped(1, "crowded");
        }
    }
}

/// Writes news until it is told to stop, and then what has come until then.
pub async fn write(store: Store, mut incoming: mpsc::Receiver<StateNews>, stop: Arc<Notify>) {
    let stopped = stop.notified();
    tokio::pin!(stopped);
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            count = incoming.recv_many(&mut batch, BATCH_MAX) => {
                if count == 0 {
                    return;
                }
                write_batch(&store, batch).await;
            }
            () = &mut stopped => incoming.close(),
        }
    }
}

async fn write_batch(store: &Store, batch: Vec<StateNews>) {
    for _ in 0..TRIES_MAX {
        match append_states(store, batch.clone()).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "states of devices were not queued; another try follows"),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    dropped(batch.len(), "store");
}

fn dropped(count: usize, reason: &'static str) {
    metrics::counter!("callbacks_dropped_total", "reason" => reason).increment(count as u64);
}
