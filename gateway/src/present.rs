//! How many of a group are there now, as this node knows it: of a live room whoever has come into it, of other groups
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
use protocol::message::{GroupMember, GroupRole, OnlineState};

use crate::{homes, shared::Shared};

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
        let (members, guests) = shared.router.rooms().count(app, group);
        return Ok(Present { members, guests });
    }
    let limit = PageLimit { entries_max: ASKED_MAX, bytes_max: usize::MAX >> 1 };
    let (members, _) = read::members(&shared.store, app, asker, group, None, Vec::new(), limit).await?;
    let users = members.iter().filter_map(|member| UserId::new(&member.user)).collect();
    let found = homes::ask_presence(&shared.router, app, users, None).gather().await.unwrap_or_default();
    let is_there = |state: i32| state != OnlineState::Offline as i32;
    let members = found.iter().filter(|presence| is_there(presence.state)).count();
    Ok(Present { members, guests: 0 })
}

/// Who is in a live room now, by name, so many at the most, with their roles.
pub async fn in_room(
    shared: &Shared,
    app: AppId,
    room: &GroupId,
    shown_max: usize,
) -> Result<Vec<(UserId, GroupMember)>, Error> {
    // Those who lead it are kept: an owner and a few administrators.
    let roles = vec![GroupRole::Owner, GroupRole::Admin];
    let limit = PageLimit { entries_max: ASKED_MAX, bytes_max: usize::MAX >> 1 };
    let (leaders, _) = read::members(&shared.store, app, Asker::Admin, room, None, roles, limit).await?;
    let member = |(user, since_s): (UserId, u64)| {
        let known = leaders.iter().find(|leader| leader.user == user.as_str());
        let role = known.map_or(GroupRole::Member, GroupMember::role);
        let joined_ms = since_s * 1000;
        let shown = GroupMember { user: user.to_string(), role: role.into(), joined_ms, ..GroupMember::default() };
        (user, shown)
    };
    Ok(shared.router.rooms().present(app, room, 0, shown_max).into_iter().map(member).collect())
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
