//! What an application's server is asked about groups: who may make one, join one, bring others in, say something.

use backend::{
    domain::{
        AppId, Error, GroupId, Peer, UserId,
        act::{Act, Author},
        callbacks::{CallbackCommand, Caller},
        change::{Change, Kind, group::GroupChange},
        groups::{
            admin,
            read::{self, Asker},
        },
        hooks::Verdict,
        message::NewMessage,
    },
    store::Store,
};
use protocol::ErrorCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Said, bounded, put_body};
use crate::api::{groups::words::type_name, msg_key::random_of};

/// Codes that an application's server may give for what it refuses in groups.
const OWN_CODES: std::ops::RangeInclusive<u32> = 10_100..=10_200;

/// The code of what it refuses with another one, or without one.
const REFUSED: u32 = ErrorCode::GROUP_REFUSED.0;

/// What the application's server is asked about an act in or with a group.
pub fn question(act: &Act) -> Option<CallbackCommand> {
    match act {
        Act::Send(NewMessage { to: Peer::Group(_), treatment, .. }) if !treatment.unannounced => {
            Some(CallbackCommand::BeforeGroupSend)
        }
        Act::Send(_) => None,
        Act::Change(change) => match group_change(change)? {
            GroupChange::Create(new) if new.imported_ms.is_none() => Some(CallbackCommand::BeforeGroupCreate),
            GroupChange::Join { .. } => Some(CallbackCommand::BeforeGroupJoin),
            GroupChange::Invite { .. } => Some(CallbackCommand::BeforeGroupInvite),
            _ => None,
        },
    }
}

fn group_change(change: &Change) -> Option<&GroupChange> {
    if let Kind::Group(what) = &change.kind { Some(what) } else { None }
}

/// What there is to know beside the act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The protocol's `GroupType`.
    kind: i32,
    /// Groups that who makes one owns already.
    owned: u32,
}

/// Reads what there is to know; `None`: there is no such group, so there is nothing to ask.
pub async fn facts(store: &Store, act: &Act) -> Result<Option<Facts>, Error> {
    let app = act.app();
    match act {
        Act::Send(NewMessage { to: Peer::Group(group), .. }) => of_group(store, app, group).await,
        Act::Send(_) => Ok(Some(Facts::default())),
        Act::Change(change) => match group_change(change) {
            Some(GroupChange::Create(new)) => {
                let owner = if change.by == Author::User { Some(&change.user) } else { new.owner.as_ref() };
                let owned = match owner {
                    Some(owner) => admin::owned(store, app, owner).await?,
                    None => 0,
                };
                Ok(Some(Facts { kind: new.kind.into(), owned }))
            }
            Some(GroupChange::Join { group, .. } | GroupChange::Invite { group, .. }) => {
                of_group(store, app, group).await
            }
            _ => Ok(Some(Facts::default())),
        },
    }
}

async fn of_group(store: &Store, app: AppId, group: &GroupId) -> Result<Option<Facts>, Error> {
    let found = read::groups(store, app, Asker::Admin, vec![group.clone()]).await?.pop();
    Ok(found.and_then(Result::ok).map(|(group, _)| Facts { kind: group.r#type, owned: 0 }))
}

/// The question.
pub fn before(act: &Act, caller: &Caller, facts: Facts, now_ms: u64) -> Value {
    let operator = |user: &UserId| caller.admin.as_ref().unwrap_or(user).to_string();
    match act {
        Act::Send(message) => before_send(message, operator(&message.from), facts, now_ms),
        Act::Change(change) => match group_change(change) {
            Some(GroupChange::Create(new)) => {
                let owner = if change.by == Author::User { Some(&change.user) } else { new.owner.as_ref() };
                json!({
                    "CallbackCommand": CallbackCommand::BeforeGroupCreate.name(),
                    "Operator_Account": operator(&change.user),
                    "Owner_Account": owner.map_or("", UserId::as_str),
                    "Type": type_name(facts.kind),
                    "Name": new.info.name,
                    "CreateGroupNum": facts.owned,
                    "MemberList": accounts(new.members.iter().map(|(user, _)| user)),
                    "EventTime": now_ms,
                })
            }
            Some(GroupChange::Join { group, wording }) => json!({
                "CallbackCommand": CallbackCommand::BeforeGroupJoin.name(),
                "GroupId": group.as_str(),
                "Type": type_name(facts.kind),
                "Requestor_Account": change.user.as_str(),
                "ApplyMsg": wording,
                "EventTime": now_ms,
            }),
            Some(GroupChange::Invite { group, users, .. }) => json!({
                "CallbackCommand": CallbackCommand::BeforeGroupInvite.name(),
                "GroupId": group.as_str(),
                "Type": type_name(facts.kind),
                "Operator_Account": operator(&change.user),
                "DestinationMembers": accounts(users),
                "EventTime": now_ms,
            }),
            _ => Value::Null,
        },
    }
}

fn before_send(message: &NewMessage, operator: String, facts: Facts, now_ms: u64) -> Value {
    let group = if let Peer::Group(group) = &message.to { group.as_str() } else { "" };
    let mut frame = json!({
        "CallbackCommand": CallbackCommand::BeforeGroupSend.name(),
        "GroupId": group,
        "Type": type_name(facts.kind),
        "From_Account": message.from.as_str(),
        "Operator_Account": operator,
        "Random": random_of(&message.client_message_id),
        "OnlineOnlyFlag": u8::from(message.treatment.online_only),
        "EventTime": now_ms,
    });
    put_body(&mut frame, &message.body);
    frame
}

fn accounts<'a>(users: impl IntoIterator<Item = &'a UserId>) -> Value {
    users.into_iter().map(|user| json!({ "Member_Account": user.as_str() })).collect()
}

/// What the answer says of the act: `None` if it makes no sense.
pub fn verdict(act: &Act, answer: &[u8]) -> Option<Result<Verdict, Error>> {
    if let Act::Send(message) = act {
        let said = match Said::parse(answer, &OWN_CODES)? {
            Said::Refuse { code: 0, text } => Said::Refuse { code: REFUSED, text },
            said => said,
        };
        return Some(said.verdict(&message.body));
    }
    let Answer { error_code, error_info, refused } = serde_json::from_slice(answer).ok()?;
    if error_code != 0 {
        let code = if OWN_CODES.contains(&error_code) { error_code } else { REFUSED };
        return Some(Err(Error::Refused { code, text: bounded(error_info) }));
    }
    let refused: Vec<_> = refused.iter().filter_map(|name| Some((UserId::new(name)?, REFUSED))).collect();
    Some(Ok(if refused.is_empty() { Verdict::Pass } else { Verdict::RefuseSome(refused) }))
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "ErrorCode")]
    error_code: u32,
    #[serde(rename = "ErrorInfo", default)]
    error_info: String,
    /// Of those who were to be brought in.
    #[serde(rename = "RefusedMembers_Account", default)]
    refused: Vec<String>,
}

/// What becomes of an act that there is no answer about, if it is not to be carried out then.
pub fn unanswered(text: &str) -> Error {
    Error::Refused { code: REFUSED, text: text.into() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn invite() -> Act {
        let group = GroupId::new("g").unwrap();
        let what = GroupChange::Invite { group, users: vec![user("b"), user("c")], silent: false };
        Act::Change(Box::new(Change::new(7, user("a"), Kind::Group(Box::new(what)))))
    }

    #[test]
    fn con_06_an_invitation_is_refused_whole_or_for_some() {
        let say = |answer: Value| verdict(&invite(), answer.to_string().as_bytes());
        assert_eq!(say(json!({ "ErrorCode": 0 })), Some(Ok(Verdict::Pass)));
        let some = json!({ "ErrorCode": 0, "RefusedMembers_Account": ["c"] });
        assert_eq!(say(some), Some(Ok(Verdict::RefuseSome(vec![(user("c"), 10_016)]))));
        for (given, code) in [(1, 10_016), (10_099, 10_016), (10_100, 10_100), (10_200, 10_200), (10_201, 10_016)] {
            let refused = Err(Error::Refused { code, text: "no".into() });
            assert_eq!(say(json!({ "ErrorCode": given, "ErrorInfo": "no" })), Some(refused));
        }
        assert_eq!(say(json!({ "ErrorInfo": "what?" })), None);
    }

    #[test]
    fn con_06_a_message_is_dropped_refused_or_let_pass() {
        let group = GroupId::new("g").unwrap();
        let act = Act::Send(NewMessage::new(7, user("a"), group, Bytes::from_static(b"1"), Bytes::new()));
        let say = |code: u32| verdict(&act, json!({ "ErrorCode": code, "ErrorInfo": "no" }).to_string().as_bytes());
        assert_eq!((say(0), say(2)), (Some(Ok(Verdict::Pass)), Some(Ok(Verdict::Drop))));
        for (given, code) in [(1, 10_016), (10_150, 10_150), (120_001, 10_016)] {
            assert_eq!(say(given), Some(Err(Error::Refused { code, text: "no".into() })));
        }
    }
}
