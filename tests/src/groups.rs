//! What a client can ask for about groups: one method a command, as in `features.rs`.

use protocol::{
    command::Command,
    connection::ClientEvent,
    message::{
        Conversation, ConversationEntry, CreateGroup, CreateGroupReply, Done, GetChosenGroupMembers,
        GetChosenGroupMembersReply, GetConversations, GetConversationsReply, GetGroupMembers, GetGroupMembersReply,
        GetGroupOnline, GetGroupOnlineReply, GetGroups, GetGroupsReply, GetJoinedGroups, GetJoinedGroupsReply,
        GroupMember, GroupPush, GroupResult, GroupResults, GroupType, GroupUpdate, GuestLogin, History, HistoryReply,
        InviteToGroup, JoinGroup, JoinGroupReply, LeaveGroup, LoginReply, Message, RemoveFromGroup, Send, SendReply,
        group_push,
    },
};

use crate::{Answer, Client, text_body, unique_id};

fn names(users: &[&str]) -> Vec<String> {
    users.iter().map(ToString::to_string).collect()
}

fn codes(results: GroupResults) -> Vec<u32> {
    results.results.into_iter().map(|result| result.code).collect()
}

impl Client {
    /// Makes a group with an id that the server chooses.
    pub fn create_group(&mut self, kind: GroupType, users: &[&str]) -> String {
        self.try_create_group(kind, "", users).unwrap_or_else(|refusal| panic!("no group was made: {refusal:?}"))
    }

    /// Makes a group.
    pub fn try_create_group(&mut self, kind: GroupType, group: &str, users: &[&str]) -> Answer<String> {
        let info = GroupUpdate { name: Some("Gardeners of Europe".into()), ..GroupUpdate::default() };
        let asked = CreateGroup { r#type: kind.into(), group: group.to_owned(), info: Some(info), users: names(users) };
        Ok(self.call::<CreateGroupReply>(Command::CreateGroup, &asked)?.group)
    }

    /// Joins a group, or applies for it.
    pub fn join_group(&mut self, group: &str) -> Answer<JoinGroupReply> {
        self.call(Command::JoinGroup, &JoinGroup { group: group.to_owned(), wording: "let me in".into() })
    }

    /// Leaves a group.
    pub fn leave_group(&mut self, group: &str) -> Answer<Done> {
        self.call(Command::LeaveGroup, &LeaveGroup { group: group.to_owned() })
    }

    /// Brings users in; what became of each.
    pub fn invite_to_group(&mut self, group: &str, users: &[&str]) -> Answer<Vec<u32>> {
        let asked = InviteToGroup { group: group.to_owned(), users: names(users) };
        Ok(codes(self.call(Command::InviteToGroup, &asked)?))
    }

    /// Removes members; what became of each.
    pub fn remove_from_group(&mut self, group: &str, users: &[&str]) -> Answer<Vec<u32>> {
        let asked = RemoveFromGroup { group: group.to_owned(), users: names(users), reason: String::new() };
        Ok(codes(self.call(Command::RemoveFromGroup, &asked)?))
    }

    /// Sends a text to a group.
    pub fn send_to_group(&mut self, group: &str, text: &str) -> Answer<SendReply> {
        let client_message_id = unique_id().to_vec().into();
        let body = text_body(text);
        self.call(Command::Send, &Send { to_group: group.to_owned(), client_message_id, body, ..Send::default() })
    }

    /// A group's messages that the user can see, oldest first.
    pub fn group_history(&mut self, group: &str) -> Answer<HistoryReply> {
        let asked = History { group: group.to_owned(), forward: true, ..History::default() };
        self.call(Command::History, &asked)
    }

    /// A group's entry in the conversation list.
    pub fn group_entry(&mut self, group: &str) -> ConversationEntry {
        let conversations = vec![Conversation { group: group.to_owned(), ..Conversation::default() }];
        let reply = self.call::<GetConversationsReply>(Command::GetConversations, &GetConversations { conversations });
        reply.expect("conversations").conversations.pop().expect("an entry")
    }

    /// Groups, as the user sees them.
    pub fn groups(&mut self, groups: &[&str]) -> Answer<Vec<GroupResult>> {
        Ok(self.call::<GetGroupsReply>(Command::GetGroups, &GetGroups { groups: names(groups) })?.groups)
    }

    /// Ids of the groups that the user is in.
    pub fn joined_groups(&mut self) -> Vec<String> {
        let reply = self.call::<GetJoinedGroupsReply>(Command::GetJoinedGroups, &GetJoinedGroups::default());
        reply.expect("groups").groups.into_iter().filter_map(|found| Some(found.group?.group)).collect()
    }

    /// A group's members, by name.
    pub fn group_members(&mut self, group: &str) -> Answer<Vec<GroupMember>> {
        let asked = GetGroupMembers { group: group.to_owned(), ..GetGroupMembers::default() };
        Ok(self.call::<GetGroupMembersReply>(Command::GetGroupMembers, &asked)?.members)
    }

    /// Chosen members of a group.
    pub fn chosen_group_members(&mut self, group: &str, users: &[&str]) -> Answer<Vec<GroupMember>> {
        let asked = GetChosenGroupMembers { group: group.to_owned(), users: names(users) };
        Ok(self.call::<GetChosenGroupMembersReply>(Command::GetChosenGroupMembers, &asked)?.members)
    }

    /// How many are in a group now, and how many guests.
    pub fn group_online(&mut self, group: &str) -> Answer<(u32, u32)> {
        let asked = GetGroupOnline { group: group.to_owned() };
        let reply = self.call::<GetGroupOnlineReply>(Command::GetGroupOnline, &asked)?;
        Ok((reply.members, reply.guests))
    }

    /// Logs in without an account.
    pub fn log_in_as_guest(&mut self, sdkappid: u32) -> Answer<LoginReply> {
        self.call(Command::GuestLogin, &GuestLogin { sdkappid, ..GuestLogin::default() })
    }

    /// Waits for the next push of a group that is in no log.
    pub fn next_group_push(&mut self) -> group_push::What {
        let push: GroupPush = self
            .wait("a push of a group", |event| match event {
                ClientEvent::Group(push) => Some(push.clone()),
                _ => None,
            })
            .expect("the connection is open");
        push.what.expect("it says something")
    }

    /// Waits for the next message said in a live room.
    pub fn next_room_message(&mut self) -> Message {
        self.next_online_message()
    }
}
