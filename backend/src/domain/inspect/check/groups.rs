//! Groups: who is in them is known to them and to their members alike, and counted.

use bytes::Bytes;
use prost::Message as _;
use protocol::message::{GroupRole, GroupType};

use super::Check;
use crate::domain::{
    AppId, Error, GroupId, UserId,
    groups::records::{GroupRecord, GroupsOfUserRecord, JoinedRecord, MemberRecord},
    keys,
};

impl Check<'_> {
    pub(super) fn group(&mut self, app: AppId, key: &[u8], group: &GroupId, value: Bytes) -> Result<(), Error> {
        let Ok(record) = GroupRecord::decode(value) else {
            self.problem(key, "does not decode");
            return Ok(());
        };
        let (mut members, mut owners) = (0, Vec::new());
        self.walk.each(keys::members(app, group), |key, value| {
            // What does not decode is told where it stands.
            let role = MemberRecord::decode(value).map(|member| member.role()).unwrap_or_default();
            members += u32::from(role != GroupRole::None);
            if role == GroupRole::Owner {
                owners.extend(keys::last_name(&key));
            }
            Ok(())
        })?;
        if members != record.member_count {
            self.problem(key, &format!("{} members are noted, {members} are there", record.member_count));
        }
        let is_owned = owners.iter().all(|owner| *owner == record.owner);
        if !is_owned || owners.is_empty() != record.owner.is_empty() || owners.len() > 1 {
            self.problem(key, &format!("its owner is {:?}, and members are so: {owners:?}", record.owner));
        }
        Ok(())
    }

    pub(super) fn member(
        &mut self,
        app: AppId,
        key: &[u8],
        group: &GroupId,
        user: &UserId,
        value: Bytes,
    ) -> Result<(), Error> {
        let Ok(member) = MemberRecord::decode(value) else {
            self.problem(key, "does not decode");
            return Ok(());
        };
        let stored = self.walk.get(&keys::group(app, group))?;
        let Some(record) = stored.and_then(|stored| GroupRecord::decode(stored).ok()) else {
            if self.walk.get(&keys::closing_group(app, group))?.is_none() {
                self.problem(key, "there is no such group");
            }
            return Ok(());
        };
        // Live rooms keep who leads them or may not write: users are in none.
        if record.kind == i32::from(GroupType::Avchatroom) {
            return Ok(());
        }
        let joined = self.walk.get(&keys::joined_group(app, user, group))?;
        match joined.and_then(|joined| JoinedRecord::decode(joined).ok()) {
            None => self.problem(key, "the user does not know to be in the group"),
            Some(joined) => {
                let of_member = (member.role, member.deaf, member.first_seq, record.is_large, record.kind);
                if of_member != (joined.role, joined.deaf, joined.first_seq, joined.is_large, joined.kind) {
                    self.problem(key, "it is not as the user knows it");
                }
            }
        }
        Ok(())
    }

    pub(super) fn joined(
        &mut self,
        app: AppId,
        key: &[u8],
        user: &UserId,
        group: &GroupId,
        value: Bytes,
    ) -> Result<(), Error> {
        let joined = JoinedRecord::decode(value);
        if joined.is_err() {
            self.problem(key, "does not decode");
        }
        if self.walk.get(&keys::member(app, group, user))?.is_none() {
            self.problem(key, "the group does not know the user as a member");
        }
        // That there are counts at all: they are compared where they stand.
        let is_counted = joined.is_ok_and(|joined| joined.is_active);
        if is_counted && self.walk.get(&keys::groups_of_user(app, user))?.is_none() {
            self.problem(key, "the user's groups are not counted");
        }
        Ok(())
    }

    pub(super) fn groups_of_user(&mut self, app: AppId, key: &[u8], user: &UserId, value: Bytes) -> Result<(), Error> {
        let Ok(noted) = GroupsOfUserRecord::decode(value) else {
            self.problem(key, "does not decode");
            return Ok(());
        };
        let mut there = GroupsOfUserRecord::default();
        let owner = i32::from(GroupRole::Owner);
        self.walk.each(keys::joined_groups(app, user), |_, value| {
            let joined = JoinedRecord::decode(value).unwrap_or_default();
            there.joined += u32::from(joined.is_active);
            there.owned += u32::from(joined.role == owner);
            Ok(())
        })?;
        // Live rooms count for who owns them alone.
        let mut rooms = Vec::new();
        self.walk.each(keys::group_traces(app, user), |key, _| {
            rooms.extend(keys::two_names(&key).and_then(|(_, group)| GroupId::new(&group)));
            Ok(())
        })?;
        for group in rooms {
            let stored = self.walk.get(&keys::group(app, &group))?;
            let record = stored.and_then(|stored| GroupRecord::decode(stored).ok()).unwrap_or_default();
            let is_room = record.kind == i32::from(GroupType::Avchatroom);
            there.owned += u32::from(is_room && record.owner == user.as_str());
        }
        self.walk.each(keys::former_groups(app, user), |_, _| {
            there.left += 1;
            Ok(())
        })?;
        // What was left before this was counted is not among them.
        let is_left_right = noted.left <= there.left;
        if (noted.joined, noted.owned) != (there.joined, there.owned) || !is_left_right {
            self.problem(key, &format!("{noted:?} are noted, {there:?} are there"));
        }
        Ok(())
    }
}
