//! Messages of a group that are for some of its members alone: they have a place in its sequence like others, and stand
//! in the logs of those members and of the sender, whatever the group's size.

use futures::future::try_join_all;
use protocol::{EncodedEvent, message::GroupRole};

use super::group::group_push;
use crate::domain::{
    AppId, Error, GroupId, Peer, UserId,
    act::Staging,
    groups::access,
    keys,
    message::NewMessage,
    records::{EventKind, Head, MessageRef},
};

/// Members for whom alone a message is.
pub(super) struct Addressees {
    /// All of them.
    pub(super) named: Vec<UserId>,
    /// Who is told: those of them who receive from the group, and the sender, if he is in it.
    pub(super) told: Vec<UserId>,
}

impl Addressees {
    /// Who is named and is a member; refuses a message for nobody. `is_member`: the sender is one.
    pub(super) async fn of(
        staging: &Staging<'_>,
        new: &NewMessage,
        group: &GroupId,
        is_member: bool,
    ) -> Result<Addressees, Error> {
        let others: Vec<&UserId> = new.recipients.iter().filter(|user| **user != new.from).collect();
        let rows = others.iter().map(|user| staging.tx.get(&keys::member(new.app, group, user)));
        let rows = try_join_all(rows.collect::<Vec<_>>()).await?;
        let mut found = Addressees { named: Vec::new(), told: Vec::new() };
        for (user, row) in others.into_iter().zip(rows) {
            let Some(member) = row.map(access::decode_member).transpose()? else { continue };
            if member.role() != GroupRole::None {
                found.named.push(user.clone());
                found.told.extend((!member.deaf).then(|| user.clone()));
            }
        }
        if found.named.is_empty() {
            return Err(Error::Argument("recipients name no other member of the group"));
        }
        found.told.extend(is_member.then(|| new.from.clone()));
        Ok(found)
    }

    /// Tells the devices that are there now, and nobody later.
    pub(super) fn push(&self, staging: &mut Staging<'_>, new: &NewMessage, group: &GroupId, head: &Head) {
        let push = group_push(new, group, head);
        self.told.iter().for_each(|user| staging.push(user.clone(), push.clone()));
    }

    /// Writes a message into the logs of those who are told, in the same place of each.
    pub(super) fn append(
        &self,
        staging: &mut Staging<'_>,
        app: AppId,
        group: &GroupId,
        seq: u64,
        event: &EncodedEvent,
    ) {
        let kind = EventKind::Message(MessageRef::new(&Peer::Group(group.clone()), seq));
        let stamp = staging.next_stamp();
        self.told.iter().for_each(|user| staging.append_at(stamp, app, user, kind.clone(), event.clone()));
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.named.iter().map(UserId::to_string).collect()
    }
}
