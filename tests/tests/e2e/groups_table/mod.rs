//! The table of groups (GROUPS.md), cell by cell, as clients find it: each cell is read from the document, and what it
//! says is tried by whoever there is in a group, and by somebody outside.
//!
//! Goal: what the document promises an application is what its users are allowed and refused. Mechanics: a group of each
//! type with an owner, an administrator where there are some, a member, and an outsider; each does the same, and the
//! document says which of them may. The application's administrator does through the server API. Without it the
//! table could be right and nothing ask it.

mod app_admin;
mod members;
mod messages;
mod profiles;
mod rights;

use protocol::{
    ErrorCode,
    command::Command,
    message::{
        AnswerGroupApplication, Conversation, ConversationEntry, DissolveGroup, Done, GetConversations,
        GetConversationsReply, GroupResults, GroupRole, GroupType, GroupUpdate, JoinGroupReply, Message,
        MuteGroupMembers, TransferGroup, UpdateGroup, UpdateGroupMember, event::What, group_push,
    },
};
use serde_json::json;
use tests::{Answer, Client, Gateway, MessageExt, Refusal, unique_id};

use GroupType::{Avchatroom, Meeting, Public, Work};

const DOCUMENT: &str = include_str!("../../../../GROUPS.md");

/// The columns, in the document's order.
const TYPES: [GroupType; 4] = [Work, Public, Meeting, Avchatroom];

/// What the document says about a type.
fn cell(row: &str, kind: GroupType) -> &'static str {
    let line = DOCUMENT.lines().find(|line| line.starts_with(&format!("| {row} |")));
    let line = line.unwrap_or_else(|| panic!("{row} is not in the document"));
    let column = 3 + TYPES.iter().position(|known| *known == kind).expect("one of the four");
    line.split('|').nth(column).expect("four columns").trim()
}

/// Whether a cell says yes; it says nothing else but no, or yes with a remark.
fn is_yes(row: &str, kind: GroupType) -> bool {
    let cell = cell(row, kind);
    assert!(cell == "no" || cell.starts_with("yes"), "{row}: {cell}");
    cell != "no"
}

/// Somebody who is, or is not, in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actor {
    Outsider,
    Member,
    Admin,
    Owner,
}

use Actor::{Admin, Member, Outsider, Owner};

/// Who of them a cell names. What it says of administrators of the application is not for clients.
fn named(cell: &str) -> Vec<Actor> {
    if cell == "any member" {
        return vec![Member, Admin, Owner];
    }
    let actor = |name| match name {
        "owner" => Some(Owner),
        "admin" => Some(Admin),
        "app admin" | "nobody" => None,
        other => panic!("nobody is called {other}"),
    };
    cell.split(", ").filter_map(actor).collect()
}

/// A group with somebody of each kind, who are logged in.
struct Scene {
    kind: GroupType,
    group: String,
    owner: Client,
    /// Where there are some.
    admin: Option<Client>,
    member: Client,
    outsider: Client,
}

impl Scene {
    /// A new group. Its people have the type in their names.
    fn new(gateway: &Gateway, kind: GroupType) -> Scene {
        let login = |who: &str| gateway.login(&name(who, kind));
        let [mut owner, mut admin, mut member, outsider] = ["owner", "admin", "member", "outsider"].map(login);
        let group = match kind {
            Work => owner.create_group(kind, &[member.user()]),
            _ => owner.create_group(kind, &[]),
        };
        let mut scene_admin = None;
        if kind != Work {
            come_in(&group, &mut member, &mut owner);
        }
        if is_yes("GRP-09", kind) {
            come_in(&group, &mut admin, &mut owner);
            set_role(&mut owner, &group, admin.user(), GroupRole::Admin).expect("made an administrator");
            scene_admin = Some(admin);
        } else if kind == Avchatroom {
            come_in(&group, &mut admin, &mut owner);
            owner.join_group(&group).expect("in");
            // Its owner makes none, but the application does.
            let asked = json!({ "GroupId": group, "CommandType": 1, "Admin_Account": [admin.user()] });
            gateway.api().ok("group_open_avchatroom_http_svc/modify_admin", asked);
            scene_admin = Some(admin);
        }
        Scene { kind, group, owner, admin: scene_admin, member, outsider }
    }

    /// One of each type.
    fn each(gateway: &Gateway) -> Vec<Scene> {
        TYPES.map(|kind| Scene::new(gateway, kind)).into()
    }

    /// Who there is, the least first.
    fn actors(&self) -> Vec<Actor> {
        [Outsider, Member, Admin, Owner].into_iter().filter(|actor| *actor != Admin || self.admin.is_some()).collect()
    }

    fn client(&mut self, actor: Actor) -> &mut Client {
        match actor {
            Outsider => &mut self.outsider,
            Member => &mut self.member,
            Admin => self.admin.as_mut().expect("this type has some"),
            Owner => &mut self.owner,
        }
    }

    /// Has everybody try, the least first: those who are `named` may, and the others have no right to.
    fn only(
        &mut self,
        row: &str,
        named: &[Actor],
        mut try_it: impl FnMut(&mut Client, &str, Actor) -> Answer<Vec<u32>>,
    ) {
        for actor in self.actors() {
            let (group, kind) = (self.group.clone(), self.kind);
            let outcome = code_of(try_it(self.client(actor), &group, actor));
            let expected = if named.contains(&actor) { 0 } else { ErrorCode::GROUP_RIGHT_MISSING.0 };
            assert_eq!(outcome, expected, "{row}, {kind:?}: {actor:?}");
        }
    }

    /// A new user who comes in, if the type lets anybody.
    fn newcomer(&mut self, gateway: &Gateway, who: &str) -> Client {
        let mut client = gateway.login(&name(who, self.kind));
        match self.kind {
            Work => assert_eq!(self.owner.invite_to_group(&self.group, &[client.user()]), Ok(vec![0])),
            _ => come_in(&self.group, &mut client, &mut self.owner),
        }
        client
    }

    /// What somebody is in the group, as its owner sees it.
    fn role(&mut self, user: &str) -> GroupRole {
        self.owner.chosen_group_members(&self.group, &[user]).expect("read").remove(0).role()
    }
}

fn name(who: &str, kind: GroupType) -> String {
    format!("{who}-{kind:?}").to_lowercase()
}

/// Joins a group that one can join, by agreement where it is needed.
fn come_in(group: &str, client: &mut Client, owner: &mut Client) {
    if client.join_group(group).expect("joined").applied {
        answer(owner, group, client.user(), true).expect("agreed");
    }
}

/// The code of a refusal, or the only one of an answer; 0: it was done.
fn code_of(answer: Answer<Vec<u32>>) -> u32 {
    match answer {
        Ok(codes) => {
            assert!(codes.len() <= 1, "{codes:?}");
            codes.first().copied().unwrap_or(0)
        }
        Err(refusal) => code(&refusal).0,
    }
}

fn code(refusal: &Refusal) -> ErrorCode {
    refusal.code().expect("the connection goes on")
}

/// The code of an answer that must be a refusal.
fn refused<T: std::fmt::Debug>(answer: Answer<T>) -> ErrorCode {
    code(&answer.expect_err("a refusal"))
}

/// An answer that names nobody apart.
fn plain<T>(answer: Answer<T>) -> Answer<Vec<u32>> {
    answer.map(|_| Vec::new())
}

fn set_role(client: &mut Client, group: &str, user: &str, role: GroupRole) -> Answer<Done> {
    let update = UpdateGroupMember { group: group.into(), user: user.into(), ..UpdateGroupMember::default() };
    client.call(Command::UpdateGroupMember, &UpdateGroupMember { role: Some(role.into()), ..update })
}

fn update(client: &mut Client, group: &str, update: GroupUpdate) -> Answer<Done> {
    client.call(Command::UpdateGroup, &UpdateGroup { group: group.into(), update: Some(update) })
}

fn dissolve(client: &mut Client, group: &str) -> Answer<Done> {
    client.call(Command::DissolveGroup, &DissolveGroup { group: group.into() })
}

fn transfer(client: &mut Client, group: &str, user: &str) -> Answer<Done> {
    client.call(Command::TransferGroup, &TransferGroup { group: group.into(), user: user.into() })
}

fn answer(client: &mut Client, group: &str, user: &str, agree: bool) -> Answer<Done> {
    let text = "because".to_owned();
    let answer = AnswerGroupApplication { group: group.into(), user: user.into(), agree, text };
    client.call(Command::AnswerGroupApplication, &answer)
}

/// What became of each user.
fn codes(results: GroupResults) -> Vec<u32> {
    results.results.into_iter().map(|result| result.code).collect()
}

fn mute(client: &mut Client, group: &str, user: &str, seconds: u32) -> Answer<Vec<u32>> {
    let mute = MuteGroupMembers { group: group.into(), users: vec![user.into()], seconds };
    client.call(Command::MuteGroupMembers, &mute).map(codes)
}

/// The group's place in a user's conversation list, if it can have one.
fn entry(client: &mut Client, group: &str) -> Answer<ConversationEntry> {
    let conversation = Conversation { group: group.into(), ..Conversation::default() };
    let asked = GetConversations { conversations: vec![conversation] };
    let reply: GetConversationsReply = client.call(Command::GetConversations, &asked)?;
    Ok(reply.conversations.into_iter().next().expect("the one asked for"))
}

/// What somebody who is in a group finds of it in the history. Of a live room, who is in it is not known there.
fn history(client: &mut Client, group: &str, kind: GroupType) -> Vec<Message> {
    match client.group_history(group) {
        Ok(page) => page.messages,
        Err(refusal) => {
            assert_eq!((kind, code(&refusal)), (Avchatroom, ErrorCode::GROUP_RIGHT_MISSING));
            Vec::new()
        }
    }
}

/// Everything that somebody's log was told before what `by` sends him now.
fn told(client: &mut Client, by: &mut Client) -> Vec<What> {
    let mark = format!("mark {}", u128::from_ne_bytes(unique_id()));
    by.send(client.user(), &mark);
    let mut told = Vec::new();
    loop {
        match client.next_event() {
            What::Message(message) if message.group.is_empty() && message.text() == mark => return told,
            What::Message(message) if message.group.is_empty() => {} // was for another device
            other => told.push(other),
        }
    }
}

/// Takes what somebody is told of a live room, until he is told what `pick` takes.
fn told_in_room<T>(client: &mut Client, mut pick: impl FnMut(group_push::What) -> Option<T>) -> T {
    loop {
        if let Some(picked) = pick(client.next_group_push()) {
            return picked;
        }
    }
}

/// Joins a group as a guest.
fn guest_in(gateway: &Gateway, group: &str) -> (Client, Answer<JoinGroupReply>) {
    let mut guest = gateway.connect("guest");
    guest.log_in_as_guest(gateway.app().sdkappid).expect("logged in");
    let joined = guest.join_group(group);
    (guest, joined)
}
