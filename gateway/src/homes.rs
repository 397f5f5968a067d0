//! Questions to the home cores of users, from whatever thread: by mail, and answered by the core that knows.

use backend::domain::{AppId, UserId};
use futures::channel::oneshot;
use protocol::message::Presence;

use crate::{
    mailbox::{Address, HomeMail, Mail},
    router::Router,
};

/// Sends mail to the home core that it is for.
pub fn post(router: &Router, mail: HomeMail) {
    let (app, user) = match &mail {
        HomeMail::Devices { app, user, .. }
        | HomeMail::SignOut { app, user, .. }
        | HomeMail::SetPresence { app, user, .. } => (*app, Some(user)),
        // For every core.
        HomeMail::Online { app, .. } | HomeMail::Broadcast { app, .. } => (*app, None),
        // All of these users have the same home.
        HomeMail::Presence { app, users, .. } | HomeMail::Unfollow { app, users, .. } => (*app, users.first()),
    };
    if let Some(user) = user {
        let home = router.home(app, user);
        router.mailbox(home).put(Mail::Home(Box::new(mail)));
    }
}

/// Asks the homes of `users` for their presence, with one mail each; `follower` is told of its changes from
/// then on.
pub fn ask_presence(router: &Router, app: AppId, users: Vec<UserId>, follower: Option<Address>) -> Asked {
    let count = users.len();
    let mut homes = Vec::new();
    for (places, users) in by_home(router, app, users) {
        let (answer, answered) = oneshot::channel();
        post(router, HomeMail::Presence { app, users, follower, answer });
        homes.push((places, answered));
    }
    Asked { homes, count }
}

/// Users that have the same home together, with their places.
pub fn by_home(router: &Router, app: AppId, users: Vec<UserId>) -> Vec<(Vec<usize>, Vec<UserId>)> {
    let mut homes = vec![(Vec::new(), Vec::new()); router.mailboxes().len()];
    for (place, user) in users.into_iter().enumerate() {
        if let Some((places, users)) = homes.get_mut(usize::from(router.home(app, &user))) {
            places.push(place);
            users.push(user);
        }
    }
    homes.retain(|(places, _)| !places.is_empty());
    homes
}

/// A question that was put to the homes of some users.
pub struct Asked {
    /// For each home: whose presence, by place in the answer, and where it will come.
    homes: Vec<(Vec<usize>, oneshot::Receiver<Vec<Presence>>)>,
    count: usize,
}

impl Asked {
    /// The answers in the order asked; `None` if a core is gone.
    pub async fn gather(self) -> Option<Vec<Presence>> {
        let mut users = vec![Presence::default(); self.count];
        for (places, answer) in self.homes {
            for (place, presence) in places.into_iter().zip(answer.await.ok()?) {
                if let Some(user) = users.get_mut(place) {
                    *user = presence;
                }
            }
        }
        Some(users)
    }
}
