//! Profiles and relations: the published JSON of what is asked and told about them.

use backend::domain::{
    Error, UserId,
    act::Author,
    callbacks::{Befriended, CallbackCommand, Pair, Pairs, ProfileSet},
    change::{
        Change, Kind,
        friends::{FriendsChange, NewFriend},
    },
    hooks::Verdict,
    profile::{Field, Value as FieldValue},
};
use prost::Message as _;
use protocol::message::{FriendAnswer, Profile};
use serde::Deserialize;
use serde_json::{Value, json};

use super::bounded;

/// Codes that an application's server may give for a friendship that it refuses.
const OWN_CODES: std::ops::RangeInclusive<u32> = 38_000..=39_000;

/// The code of a friendship that it refuses with another one, or without one.
const REFUSED: u32 = *OWN_CODES.start();

/// What an application's server is asked about a change with. Not about those of administrators, as published.
pub fn question(change: &Change) -> Option<CallbackCommand> {
    match &change.kind {
        _ if change.by == Author::Admin => None,
        Kind::Friends(FriendsChange::Add { .. }) => Some(CallbackCommand::BeforeFriendAdd),
        Kind::Friends(FriendsChange::Answer { .. }) => Some(CallbackCommand::BeforeFriendAnswer),
        _ => None,
    }
}

/// The same question.
pub fn before(change: &Change, command: CallbackCommand, now_ms: u64) -> Value {
    let mut frame = json!({
        "CallbackCommand": command.name(),
        "Requester_Account": change.user.as_str(),
        "From_Account": change.user.as_str(),
        "EventTime": now_ms,
    });
    match &change.kind {
        Kind::Friends(FriendsChange::Add { friends, one_way, force }) => {
            frame["FriendItem"] = friends.iter().map(|(other, new)| friend_item(other, new)).collect();
            frame["AddType"] = if *one_way { "Add_Type_Single" } else { "Add_Type_Both" }.into();
            frame["ForceAddFlags"] = u8::from(*force).into();
        }
        Kind::Friends(FriendsChange::Answer { other, answer, remark, list }) => {
            let action = match answer {
                FriendAnswer::AgreeAndAdd => "Response_Action_AgreeAndAdd",
                FriendAnswer::Agree => "Response_Action_Agree",
                FriendAnswer::Refuse => "Response_Action_Reject",
            };
            let item =
                json!({ "To_Account": other.as_str(), "Remark": remark, "TagName": list, "ResponseAction": action });
            frame["ResponseFriendItem"] = json!([item]);
        }
        _ => {}
    }
    frame
}

fn friend_item(other: &UserId, new: &NewFriend) -> Value {
    let NewFriend { remark, list, source, wording } = new;
    let source = if source.is_empty() { String::new() } else { format!("AddSource_Type_{source}") };
    json!({
        "To_Account": other.as_str(),
        "Remark": remark,
        "GroupName": list,
        "AddSource": source,
        "AddWording": wording,
    })
}

/// What the answer says of a change: `None` if it makes no sense, or says that the server has failed.
pub fn verdict(change: &Change, answer: &[u8]) -> Option<Result<Verdict, Error>> {
    let Answer { error_code: 0, result_item } = serde_json::from_slice(answer).ok()? else { return None };
    let refused = result_item.into_iter().filter(|item| item.result_code != 0);
    if let Kind::Friends(FriendsChange::Answer { other, .. }) = &change.kind {
        let about_it = |item: &ResultItem| item.to_account == other.as_str();
        let refused = refused.into_iter().find(about_it);
        return Some(refused.map_or(Ok(Verdict::Pass), |item| {
            Err(Error::Refused { code: item.code(), text: bounded(item.result_info) })
        }));
    }
    let refused = refused.filter_map(|item| Some((UserId::new(&item.to_account)?, item.code())));
    let refused: Vec<_> = refused.collect();
    Some(Ok(if refused.is_empty() { Verdict::Pass } else { Verdict::RefuseSome(refused) }))
}

/// What becomes of a change that there is no answer about, if it is not to be made then.
pub fn unanswered(text: &str) -> Error {
    Error::Refused { code: REFUSED, text: text.into() }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    error_code: u32,
    #[serde(default)]
    result_item: Vec<ResultItem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ResultItem {
    #[serde(rename = "To_Account")]
    to_account: String,
    result_code: u32,
    #[serde(default)]
    result_info: String,
}

impl ResultItem {
    /// The code for clients.
    fn code(&self) -> u32 {
        if OWN_CODES.contains(&self.result_code) { self.result_code } else { REFUSED }
    }
}

/// A profile was changed: `None` if the entry can't be read.
pub fn profile_set(set: &ProfileSet, time_ms: u64) -> Option<Value> {
    let ProfileSet { user, admin, profile } = set;
    let profile = Profile::decode(profile.clone()).ok()?;
    let item = |tag: &str, value: Value| json!({ "Tag": tag, "Value": value });
    let fields = Field::ALL.iter().filter(|field| field.is_in(&profile));
    let fields = fields.map(|field| match field.value(&profile) {
        FieldValue::Number(number) => item(field.tag(), number.into()),
        FieldValue::Text(text) => item(field.tag(), text.into()),
    });
    let custom = profile.custom.iter().map(|(name, value)| item(name, String::from_utf8_lossy(value).into()));
    Some(json!({
        "CallbackCommand": CallbackCommand::AfterProfile.name(),
        "Operator_Account": if admin.is_empty() { user } else { admin },
        "From_Account": user,
        "EventTime": time_ms,
        "ProfileItem": fields.chain(custom).collect::<Vec<_>>(),
    }))
}

/// Users have become friends.
pub fn befriended(befriended: &Befriended) -> Value {
    let Befriended { pairs, asked_by, by_answer, admin, force } = befriended;
    let pair = |pair: &Pair| {
        let mut frame = self::pair(pair);
        frame["Initiator_Account"] = asked_by.as_str().into();
        frame
    };
    json!({
        "CallbackCommand": CallbackCommand::AfterFriendAdd.name(),
        "PairList": pairs.iter().map(pair).collect::<Vec<_>>(),
        "ClientCmd": if *by_answer { "friend_response" } else { "friend_add" },
        "Admin_Account": admin,
        "ForceFlag": u8::from(*force),
    })
}

/// Relations have begun or ended.
pub fn pairs(command: CallbackCommand, Pairs { pairs }: &Pairs) -> Value {
    json!({ "CallbackCommand": command.name(), "PairList": pairs.iter().map(pair).collect::<Vec<_>>() })
}

fn pair(Pair { from, to }: &Pair) -> Value {
    json!({ "From_Account": from, "To_Account": to })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn change(friends: FriendsChange) -> Change {
        Change::new(7, user("anna"), Kind::Friends(friends))
    }

    #[test]
    fn those_that_are_refused_are_named_and_the_rest_passes() {
        let friends = vec![(user("ben"), NewFriend::default()), (user("cleo"), NewFriend::default())];
        let add = change(FriendsChange::Add { friends, one_way: false, force: false });
        let say = |answer: Value| verdict(&add, answer.to_string().as_bytes());
        let item = |name: &str, code: u32| json!({ "To_Account": name, "ResultCode": code, "ResultInfo": "no" });
        assert_eq!(say(json!({ "ErrorCode": 0 })), Some(Ok(Verdict::Pass)));
        assert_eq!(say(json!({ "ErrorCode": 0, "ResultItem": [item("ben", 0)] })), Some(Ok(Verdict::Pass)));
        let given = [(38_000, 38_000), (38_500, 38_500), (39_000, 39_000), (1, 38_000), (39_001, 38_000)];
        for (given, code) in given {
            let refused = Verdict::RefuseSome(vec![(user("cleo"), code)]);
            let answer = json!({ "ErrorCode": 0, "ResultItem": [item("ben", 0), item("cleo", given)] });
            assert_eq!(say(answer), Some(Ok(refused)));
        }
        // The server has failed, as it says itself, or by what it says.
        let item = json!({ "To_Account": "ben" });
        for senseless in [json!({ "ErrorCode": 38_000 }), json!({}), json!({ "ErrorCode": 0, "ResultItem": [item] })] {
            assert_eq!(say(senseless), None);
        }
    }

    #[test]
    fn administrators_are_not_asked_about() {
        let friends = vec![(user("ben"), NewFriend::default())];
        let add = change(FriendsChange::Add { friends, one_way: false, force: false });
        assert_eq!(question(&add), Some(CallbackCommand::BeforeFriendAdd));
        assert_eq!(question(&Change { by: Author::Admin, ..add }), None);
        assert_eq!(question(&change(FriendsChange::Delete { friends: vec![user("ben")], one_way: false })), None);
    }

    #[test]
    fn an_answer_to_a_request_is_refused_whole() {
        let (remark, list) = (String::new(), String::new());
        let answer = FriendsChange::Answer { other: user("ben"), answer: FriendAnswer::Agree, remark, list };
        let said = |name: &str| {
            let item = json!({ "To_Account": name, "ResultCode": 38_001, "ResultInfo": "too young" });
            let said = json!({ "ErrorCode": 0, "ResultItem": [item] });
            verdict(&change(answer.clone()), said.to_string().as_bytes())
        };
        assert_eq!(said("ben"), Some(Err(Error::Refused { code: 38_001, text: "too young".into() })));
        assert_eq!(said("cleo"), Some(Ok(Verdict::Pass)));
    }
}
