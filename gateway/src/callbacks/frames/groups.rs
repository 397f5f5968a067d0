//! Bodies of requests about groups.

use backend::domain::callbacks::{CallbackCommand, GroupExited, GroupFull, GroupJoined, GroupMemberChanged};
use protocol::message::GroupRole;
use serde_json::{Value, json};

use crate::api::groups::words::type_name;

fn accounts(users: &[String]) -> Value {
    users.iter().map(|user| json!({ "Member_Account": user })).collect()
}

pub fn joined(joined: &GroupJoined, time_ms: u64) -> Value {
    json!({
        "CallbackCommand": CallbackCommand::AfterGroupJoin.name(),
        "GroupId": joined.group,
        "Type": type_name(joined.kind),
        "JoinType": if joined.is_invited { "Invited" } else { "Apply" },
        "Operator_Account": joined.by,
        "NewMemberList": accounts(&joined.users),
        "EventTime": time_ms,
    })
}

pub fn exited(exited: &GroupExited, time_ms: u64) -> Value {
    json!({
        "CallbackCommand": CallbackCommand::AfterGroupExit.name(),
        "GroupId": exited.group,
        "Type": type_name(exited.kind),
        "ExitType": if exited.is_removed { "Kicked" } else { "Quit" },
        "Operator_Account": exited.by,
        "ExitMemberList": accounts(&exited.users),
        "EventTime": time_ms,
    })
}

pub fn full(full: &GroupFull, time_ms: u64) -> Value {
    json!({
        "CallbackCommand": CallbackCommand::AfterGroupFull.name(),
        "GroupId": full.group,
        "EventTime": time_ms,
    })
}

pub fn member_changed(changed: &GroupMemberChanged, time_ms: u64) -> Value {
    let mut frame = json!({
        "CallbackCommand": CallbackCommand::AfterGroupMember.name(),
        "GroupId": changed.group,
        "Type": type_name(changed.kind),
        "Operator_Account": changed.by,
        "Modified_Account": changed.user,
        "EventTime": time_ms,
    });
    if let Some(role) = changed.role {
        let is_admin = role == i32::from(GroupRole::Admin);
        frame["Role"] = if is_admin { "Admin" } else { "Member" }.into();
    }
    if let Some(name_card) = &changed.name_card {
        frame["NameCard"] = name_card.as_str().into();
    }
    frame
}

#[cfg(test)]
mod tests {
    use protocol::message::GroupType;

    use super::*;

    #[test]
    fn con_06_who_came_and_went_is_told_in_published_words() {
        let users = vec!["a".to_owned(), "b".to_owned()];
        let (group, by) = ("g".to_owned(), "c".to_owned());
        let kind = GroupType::Meeting.into();
        let came = GroupJoined { group: group.clone(), kind, by: by.clone(), users: users.clone(), is_invited: true };
        assert_eq!(
            joined(&came, 7),
            json!({
                "CallbackCommand": "Group.CallbackAfterNewMemberJoin", "GroupId": "g", "Type": "ChatRoom",
                "JoinType": "Invited", "Operator_Account": "c",
                "NewMemberList": [{ "Member_Account": "a" }, { "Member_Account": "b" }], "EventTime": 7,
            })
        );
        let went = GroupExited { group: group.clone(), kind, by: by.clone(), users, is_removed: false };
        assert_eq!(exited(&went, 7)["ExitType"], "Quit");
        let role = Some(GroupRole::Member.into());
        let changed = GroupMemberChanged { group, kind, by, user: "a".into(), role, name_card: None };
        let frame = member_changed(&changed, 7);
        assert_eq!((frame["Role"].as_str(), frame.get("NameCard")), (Some("Member"), None));
    }
}
