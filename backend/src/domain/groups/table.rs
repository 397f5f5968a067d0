//! What each type of group allows, and to whom: the table of GROUPS.md as data (GRP-01 to GRP-19). Whoever decides
//! about a group asks here; nothing else branches by type.

use protocol::message::{GroupJoinOption, GroupRole, GroupType, ReceiveOption};

use crate::domain::settings::Settings;

/// Who may do something: any of these. An administrator of the application is named apart from members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// Any member.
    pub member: bool,
    /// The group's administrators.
    pub admin: bool,
    /// The owner.
    pub owner: bool,
    /// Administrators of the application.
    pub app_admin: bool,
}

impl Who {
    const NOBODY: Who = Who { member: false, admin: false, owner: false, app_admin: false };
    const ANY_MEMBER: Who = Who { member: true, admin: true, owner: true, app_admin: true };
    const OWNER_ADMIN_APP: Who = Who { member: false, admin: true, owner: true, app_admin: true };
    const OWNER_APP: Who = Who { member: false, admin: false, owner: true, app_admin: true };
    const APP: Who = Who { member: false, admin: false, owner: false, app_admin: true };

    /// Whether somebody with this role is among them; without a role nobody is.
    pub fn includes(self, role: GroupRole) -> bool {
        match role {
            GroupRole::None => false,
            GroupRole::Member => self.member,
            GroupRole::Admin => self.admin,
            GroupRole::Owner => self.owner,
        }
    }
}

/// One type's column.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The type.
    pub kind: GroupType,
    /// Its published name.
    pub name: &'static str,
    /// GRP-01: it has a limit of members.
    pub is_limited: bool,
    /// GRP-02: who edits its information.
    pub edits: Who,
    /// GRP-03: members shown, if not all.
    pub members_shown: Option<usize>,
    /// GRP-04: who dissolves it.
    pub dissolves: Who,
    /// GRP-05 and GRP-06: what becomes of an application, unless the group says otherwise.
    pub join: GroupJoinOption,
    /// GRP-07: members bring others in, who need not agree.
    pub invites: bool,
    /// GRP-08: the owner may leave.
    pub owner_leaves: bool,
    /// GRP-09: it has administrators.
    pub has_admins: bool,
    /// GRP-10: who removes members.
    pub removes: Who,
    /// GRP-11: new members see earlier history.
    pub shows_earlier: bool,
    /// GRP-12: everyone is told of changes of its members.
    pub tells_member_changes: bool,
    /// GRP-13: it is active at once, not with the first message.
    pub is_active_at_once: bool,
    /// GRP-14: members are muted.
    pub mutes: bool,
    /// GRP-15: unread messages are counted.
    pub counts_unread: bool,
    /// GRP-16: guests may receive.
    pub takes_guests: bool,
    /// GRP-17: history is kept.
    pub keeps_history: bool,
    /// GRP-18: messages are announced to those who are offline, too.
    pub pushes_offline: bool,
    /// GRP-19: it can be imported.
    pub is_imported: bool,
}

/// The table.
pub const TABLE: [Rules; 4] = [
    Rules {
        kind: GroupType::Work,
        name: "Work",
        is_limited: true,
        edits: Who::ANY_MEMBER,
        members_shown: None,
        dissolves: Who::APP,
        join: GroupJoinOption::Forbidden,
        invites: true,
        owner_leaves: true,
        has_admins: false,
        removes: Who::OWNER_APP,
        shows_earlier: false,
        tells_member_changes: true,
        is_active_at_once: false,
        mutes: false,
        counts_unread: true,
        takes_guests: false,
        keeps_history: true,
        pushes_offline: true,
        is_imported: true,
    },
    Rules {
        kind: GroupType::Public,
        name: "Public",
        is_limited: true,
        edits: Who::OWNER_ADMIN_APP,
        members_shown: None,
        dissolves: Who::OWNER_APP,
        join: GroupJoinOption::Approval,
        invites: false,
        owner_leaves: false,
        has_admins: true,
        removes: Who::OWNER_ADMIN_APP,
        shows_earlier: false,
        tells_member_changes: true,
        is_active_at_once: true,
        mutes: true,
        counts_unread: true,
        takes_guests: false,
        keeps_history: true,
        pushes_offline: true,
        is_imported: true,
    },
    Rules {
        kind: GroupType::Meeting,
        name: "Meeting",
        is_limited: true,
        edits: Who::OWNER_APP,
        members_shown: None,
        dissolves: Who::OWNER_APP,
        join: GroupJoinOption::Free,
        invites: false,
        owner_leaves: false,
        has_admins: true,
        removes: Who::OWNER_ADMIN_APP,
        shows_earlier: true,
        tells_member_changes: false,
        is_active_at_once: true,
        mutes: true,
        counts_unread: true,
        takes_guests: false,
        keeps_history: true,
        pushes_offline: false,
        is_imported: true,
    },
    Rules {
        kind: GroupType::Avchatroom,
        name: "AVChatRoom",
        is_limited: false,
        edits: Who::APP,
        members_shown: Some(300),
        dissolves: Who::OWNER_APP,
        join: GroupJoinOption::Free,
        invites: false,
        owner_leaves: false,
        has_admins: false,
        removes: Who::NOBODY,
        shows_earlier: false,
        tells_member_changes: true,
        is_active_at_once: true,
        mutes: true,
        counts_unread: false,
        takes_guests: true,
        keeps_history: false,
        pushes_offline: false,
        is_imported: false,
    },
];

/// The rules of a type; `None` for one that this program does not know.
pub fn rules(kind: GroupType) -> Option<&'static Rules> {
    TABLE.iter().find(|rules| rules.kind == kind)
}

impl Rules {
    /// Members that a group may have; `None`: any number (GRP-01). `own_max`: what was set for it alone, or 0.
    pub fn members_max(&self, settings: &Settings, own_max: u32) -> Option<u32> {
        let by_type = settings.group_members_max;
        let of_type = match self.kind {
            GroupType::Work => by_type.work,
            GroupType::Public => by_type.public,
            _ => by_type.meeting,
        };
        self.is_limited.then_some(if own_max == 0 { of_type } else { own_max })
    }

    /// Whether it is a live room: its members are whoever is there now.
    pub fn is_room(&self) -> bool {
        !self.keeps_history
    }

    /// Who mutes members: whoever leads the group.
    pub fn mutes(&self) -> Who {
        if self.mutes { Who::OWNER_ADMIN_APP } else { Who::NOBODY }
    }

    /// Who makes administrators: the owner, where there are some; of a live room only the application does.
    pub fn names_admins(&self) -> Who {
        match (self.has_admins, self.is_room()) {
            (true, _) => Who::OWNER_APP,
            (false, true) => Who::APP,
            (false, false) => Who::NOBODY,
        }
    }

    /// What members who have not said otherwise receive.
    pub fn receive(&self) -> ReceiveOption {
        if self.pushes_offline { ReceiveOption::Notify } else { ReceiveOption::Silent }
    }
}
