//! Who of a group is there now, as this node's cores know it: of a live room whoever has come into it, of other groups
//! members with a device. Of several nodes each will say its own, and here is where they are added up.

use backend::domain::{
    AppId, Error, GroupId, UserId,
    groups::{
        Refusal,
        read::{self, Asker},
        table,
    },
    sync::PageLimit,
};
use futures::channel::oneshot;
use protocol::message::OnlineState;

use crate::{
    homes,
    mailbox::{HomeMail, Mail},
    router::Router,
    shared::Shared,
};

/// Members who are asked about, at the most, when those online are counted.
const ASKED_MAX: usize = 6_000;

/// How many of a group are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// Users, each once.
    pub members: usize,
    /// Connections without an account.
    pub guests: usize,
}

/// Counts who of a group is there. Refuses whoever may not see its members.
pub async fn count(shared: &Shared, app: AppId, asker: Asker, group: &GroupId) -> Result<Present, Error> {
    if shown_members(shared, app, &asker, group).await?.is_some() {
        let (users, guests) = in_room(&shared.router, app, group).await;
        return Ok(Present { members: users.len(), guests });
    }
    let limit = PageLimit { entries_max: ASKED_MAX, bytes_max: usize::MAX >> 1 };
    let (members, _) = read::members(&shared.store, app, asker, group, None, Vec::new(), limit).await?;
    let users = members.iter().filter_map(|member| UserId::new(&member.user)).collect();
    let found = homes::ask_presence(&shared.router, app, users, None).gather().await.unwrap_or_default();
    let is_there = |state: i32| state != OnlineState::Offline as i32;
    let members = found.iter().filter(|presence| is_there(presence.state)).count();
    Ok(Present { members, guests: 0 })
}

/// How many members of a live room are shown; `None`: it is none.
pub async fn shown_members(
    shared: &Shared,
    app: AppId,
    asker: &Asker,
    group: &GroupId,
) -> Result<Option<usize>, Error> {
    let found = read::groups(&shared.store, app, asker.clone(), vec![group.clone()]).await?.pop();
    let (found, _) = found.unwrap_or(Err(Refusal::Unknown))?;
    Ok(table::rules(found.r#type()).and_then(|rules| rules.members_shown))
}

/// Users in a live room by name, each once, and how many guests: every core says whom it has.
pub async fn in_room(router: &Router, app: AppId, group: &GroupId) -> (Vec<UserId>, usize) {
    let asked: Vec<_> = router
        .mailboxes()
        .iter()
        .map(|mailbox| {
            let (answer, answered) = oneshot::channel();
            mailbox.put(Mail::Home(Box::new(HomeMail::InRoom { app, group: group.clone(), answer })));
            answered
        })
        .collect();
    let (mut users, mut guests) = (Vec::new(), 0);
    for answered in asked {
        if let Ok((some, count)) = answered.await {
            users.extend(some);
            guests += count;
        }
    }
    users.sort_unstable();
    users.dedup();
    (users, guests)
}
