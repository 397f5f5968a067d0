//! The valid vectors of groups and live rooms.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::{
    ErrorCode,
    command::{Command, Topic},
    message::{event::What, *},
};

use crate::{
    format::FrameVector,
    frames::{TIME_MS, id16, message, push},
    messaging::{both, strings},
};

fn custom() -> BTreeMap<String, Bytes> {
    [("color".to_owned(), Bytes::from_static(b"red"))].into()
}

fn garden() -> String {
    "garden".into()
}

fn update() -> GroupUpdate {
    GroupUpdate {
        name: Some("Gardeners".into()),
        introduction: Some("We garden ✓".into()),
        notice: Some("closed in winter".into()),
        image_url: Some("https://files.example/garden.png".into()),
        join_option: Some(GroupJoinOption::Approval.into()),
        muted_all: Some(true),
        custom: custom(),
        member_max: Some(500),
        searchable: Some(true),
    }
}

fn group() -> Group {
    Group {
        group: garden(),
        r#type: GroupType::Public.into(),
        name: "Gardeners".into(),
        introduction: "We garden ✓".into(),
        notice: "closed in winter".into(),
        image_url: "https://files.example/garden.png".into(),
        owner: "alice".into(),
        created_ms: TIME_MS,
        member_count: 2,
        member_max: 500,
        join_option: GroupJoinOption::Approval.into(),
        muted_all: true,
        custom: custom(),
        revision: 7,
        head_seq: 300,
        last_message_ms: TIME_MS,
        searchable: true,
    }
}

fn member() -> GroupMember {
    GroupMember {
        user: "bob".into(),
        role: GroupRole::Admin.into(),
        joined_ms: TIME_MS,
        name_card: "Bob of the roses".into(),
        custom: custom(),
        muted_until_ms: TIME_MS + 60_000,
        last_sent_ms: TIME_MS,
        first_seq: 12,
    }
}

fn attributes() -> GroupAttributes {
    GroupAttributes { group: garden(), attributes: custom(), revision: 3 }
}

fn counters() -> GroupCounters {
    GroupCounters { group: garden(), counters: [("likes".to_owned(), -5)].into(), removed: strings(&["old"]) }
}

fn application() -> GroupApplication {
    GroupApplication {
        group: garden(),
        user: "eve".into(),
        wording: "let me in".into(),
        time_ms: TIME_MS,
        state: GroupApplicationState::Refused.into(),
        by: "alice".into(),
        text: "not now".into(),
    }
}

fn left() -> GroupLeft {
    GroupLeft {
        group: garden(),
        why: group_left::Why::Removed.into(),
        by: "alice".into(),
        reason: "so".into(),
        last_seq: 300,
    }
}

fn notification() -> GroupNotification {
    GroupNotification { group: garden(), by: "administrator".into(), content: "hello".into(), time_ms: TIME_MS }
}

fn in_group(seq: u64) -> Message {
    Message {
        to: String::new(),
        group: garden(),
        need_receipt: true,
        receivers: 2,
        sender_count: 4,
        other_count: 9,
        ..message(seq, "hello")
    }
}

fn for_some(seq: u64) -> Message {
    Message {
        recipients: strings(&["bob"]),
        exclude_from_unread: true,
        exclude_from_last_message: true,
        ..in_group(seq)
    }
}

pub(crate) fn frames() -> Vec<FrameVector> {
    [talking(), life(), members(), keeping(), pushes()].into_iter().flatten().collect()
}

fn talking() -> Vec<FrameVector> {
    let send = Send {
        to_group: garden(),
        client_message_id: id16(),
        body: crate::frames::body("hello"),
        need_receipt: true,
        ..Send::default()
    };
    let to_some = Send { recipients: strings(&["bob", "eve"]), ..send.clone() };
    let sent = SendReply { seq: 301, time_ms: TIME_MS, duplicate: false };
    let history = History { group: garden(), forward: true, ..History::default() };
    let page = HistoryReply { messages: vec![in_group(300)], head_seq: 300, first_seq: 12, ..HistoryReply::default() };
    let conversation = Some(Conversation { group: garden(), ..Conversation::default() });
    let recall = Recall { conversation, seq: 300, reason: "so".into() };
    let receipts = GetGroupReceipts { group: garden(), seq: 300, unread: true, after: "bob".into(), limit: 100 };
    let readers = GetGroupReceiptsReply { users: strings(&["eve"]), more: true, read: 1, unread: 2 };
    let guest = GuestLogin { sdkappid: 1_400_000_001, platform: Platform::Web.into() };
    let login = LoginReply { server_time_ms: TIME_MS, ..LoginReply::default() };
    [
        both("guest_login", Command::GuestLogin, guest, login),
        both("send to a group", Command::Send, send, sent),
        both("recall in a group", Command::Recall, recall, MessageReply { message: Some(in_group(300)) }),
        both("send to some of a group", Command::Send, to_some, SendReply { seq: 302, ..sent }),
        both(
            "history of a group with what is for some",
            Command::History,
            history.clone(),
            HistoryReply { messages: vec![for_some(302)], ..HistoryReply::default() },
        ),
        both("history of a group", Command::History, history, page),
        both("get_group_receipts", Command::GetGroupReceipts, receipts, readers),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn life() -> Vec<FrameVector> {
    let create =
        CreateGroup { r#type: GroupType::Work.into(), group: garden(), info: Some(update()), users: strings(&["bob"]) };
    let get = GetGroups { groups: strings(&["garden", "nothing"]) };
    let nothing = Group { group: "nothing".into(), ..Group::default() };
    let found = GroupResult { group: Some(group()), own: Some(member()), code: 0 };
    let unknown = GroupResult { group: Some(nothing), own: None, code: ErrorCode::GROUP_UNKNOWN.0 };
    let joined = GetJoinedGroups { after: "a".into(), limit: 50 };
    let search = SearchGroups { text: "gard".into(), from: "place".into(), limit: 20 };
    let join = JoinGroup { group: garden(), wording: "let me in".into() };
    let joined_reply = JoinGroupReply { applied: true, recent: vec![in_group(300)], info: Some(group()) };
    [
        both("create_group", Command::CreateGroup, create, CreateGroupReply { group: garden() }),
        both("get_groups", Command::GetGroups, get, GetGroupsReply { groups: vec![found.clone(), unknown] }),
        both("update_group", Command::UpdateGroup, UpdateGroup { group: garden(), update: Some(update()) }, Done {}),
        both("dissolve_group", Command::DissolveGroup, DissolveGroup { group: garden() }, Done {}),
        both("transfer_group", Command::TransferGroup, TransferGroup { group: garden(), user: "bob".into() }, Done {}),
        both(
            "get_joined_groups",
            Command::GetJoinedGroups,
            joined,
            GetJoinedGroupsReply { groups: vec![found], more: true },
        ),
        both(
            "search_groups",
            Command::SearchGroups,
            search,
            SearchGroupsReply { groups: vec![group()], next: "place".into() },
        ),
        both("join_group", Command::JoinGroup, join, joined_reply),
        both("leave_group", Command::LeaveGroup, LeaveGroup { group: garden() }, Done {}),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn results() -> GroupResults {
    let result = |user: &str, code| GroupUserResult { user: user.into(), code };
    GroupResults { results: vec![result("bob", 0), result("eve", ErrorCode::GROUP_FULL.0)] }
}

fn members() -> Vec<FrameVector> {
    let users = || strings(&["bob", "eve"]);
    let invite = InviteToGroup { group: garden(), users: users() };
    let remove = RemoveFromGroup { group: garden(), users: users(), reason: "so".into() };
    let ban = BanFromGroup { group: garden(), users: users(), seconds: 3600, reason: "so".into() };
    let bans = GetGroupBans { group: garden(), after: "a".into(), limit: 20 };
    let banned = GroupBan { user: "eve".into(), until_ms: TIME_MS };
    let mute = MuteGroupMembers { group: garden(), users: users(), seconds: 60 };
    let change = UpdateGroupMember {
        group: garden(),
        user: "bob".into(),
        role: Some(GroupRole::Admin.into()),
        name_card: Some("Bob of the roses".into()),
        custom: custom(),
    };
    let get = GetGroupMembers {
        group: garden(),
        after: "a".into(),
        limit: 100,
        roles: vec![GroupRole::Admin.into(), GroupRole::Owner.into()],
    };
    let chosen = GetChosenGroupMembers { group: garden(), users: users() };
    let nobody = GroupMember { user: "eve".into(), ..GroupMember::default() };
    let online = GetGroupOnlineReply { members: 300, guests: 7 };
    [
        both("invite_to_group", Command::InviteToGroup, invite, results()),
        both("remove_from_group", Command::RemoveFromGroup, remove, results()),
        both("ban_from_group", Command::BanFromGroup, ban, results()),
        both("get_group_bans", Command::GetGroupBans, bans, GetGroupBansReply { bans: vec![banned], more: true }),
        both("mute_group_members", Command::MuteGroupMembers, mute, results()),
        both("update_group_member", Command::UpdateGroupMember, change, Done {}),
        both(
            "get_group_members",
            Command::GetGroupMembers,
            get,
            GetGroupMembersReply { members: vec![member()], more: true },
        ),
        both(
            "get_chosen_group_members",
            Command::GetChosenGroupMembers,
            chosen,
            GetChosenGroupMembersReply { members: vec![member(), nobody] },
        ),
        both("get_group_online", Command::GetGroupOnline, GetGroupOnline { group: garden() }, online),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn keeping() -> Vec<FrameVector> {
    let answer = AnswerGroupApplication { group: garden(), user: "eve".into(), agree: true, text: "welcome".into() };
    let waiting = GetGroupApplications { from: "place".into(), limit: 20 };
    let open = GetGroupApplicationsReply { applications: vec![application()], next: "place".into() };
    let set =
        UpdateGroupAttributes { group: garden(), set: custom(), remove: strings(&["old"]), reset: true, revision: 2 };
    let count = UpdateGroupCounter {
        group: garden(),
        key: "likes".into(),
        operation: GroupCounterOperation::Add.into(),
        value: -5,
    };
    [
        both("answer_group_application", Command::AnswerGroupApplication, answer, Done {}),
        both("get_group_applications", Command::GetGroupApplications, waiting, open),
        both("update_group_attributes", Command::UpdateGroupAttributes, set, attributes()),
        both("get_group_attributes", Command::GetGroupAttributes, GetGroupAttributes { group: garden() }, attributes()),
        both("update_group_counter", Command::UpdateGroupCounter, count, counters()),
        both("get_group_counters", Command::GetGroupCounters, GetGroupCounters { group: garden() }, counters()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn pushes() -> Vec<FrameVector> {
    let tips = GroupTips {
        kind: group_tips::Kind::Joined.into(),
        group: garden(),
        by: "bob".into(),
        users: strings(&["bob"]),
        changed: custom(),
    };
    let of = |what| GroupPush { what: Some(what) };
    [
        ("attributes", of(group_push::What::Attributes(attributes()))),
        ("counters", of(group_push::What::Counters(counters()))),
        ("tips", of(group_push::What::Tips(tips))),
        ("left", of(group_push::What::Left(left()))),
        ("notification", of(group_push::What::Notification(notification()))),
    ]
    .into_iter()
    .map(|(name, payload)| push(&format!("push group, {name}"), Topic::Group.code(), payload))
    .collect()
}

/// Events about groups.
pub(crate) fn events() -> [(&'static str, What); 6] {
    let entered = GroupEntered {
        group: garden(),
        r#type: GroupType::Public.into(),
        by: "alice".into(),
        first_seq: 12,
        role: GroupRole::Member.into(),
    };
    let receipts = GroupReceipts { group: garden(), seq: 300, read: 1, unread: 2 };
    [
        ("a message in a group", What::Message(in_group(300))),
        ("a group entered", What::GroupEntered(entered)),
        ("a group left", What::GroupLeft(left())),
        ("an application for a group", What::GroupApplication(application())),
        ("receipts in a group", What::GroupReceipts(receipts)),
        ("a notification of a group", What::GroupNotification(notification())),
    ]
}
