//! Friend lists, which the published API calls groups.

use backend::domain::{
    UserId,
    change::{
        Kind,
        friends::{FriendsChange, ListsUpdate},
    },
    friends::{self, Refusal},
};
use serde_json::{Map, Value, json};

use super::{change, change_once, existing_owner, owner, results, some_texts, wrong};
use crate::{
    api::{
        answers::object,
        call::Call,
        codes::{self, Failure, of_relations},
        fields::Fields,
        named::Named,
        table::Outcome,
    },
    errors::relation_code,
};

/// Friends that one call may put on lists.
const FRIENDS_MAX: usize = 1_000;

/// Makes friend lists, and puts friends on all of them.
pub async fn add(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = owner(fields)?;
    let lists = names(call, fields)?;
    let with =
        |add| Kind::Friends(FriendsChange::Lists(ListsUpdate { lists: lists.clone(), add, ..Default::default() }));
    let friends = fields.texts("To_Account").map_err(wrong)?.unwrap_or_default();
    if friends.len() > FRIENDS_MAX {
        return Err(codes::RELATION_ARGUMENT.because("To_Account must name at most 1000 friends"));
    }
    change_once(call, &owner, with(Vec::new())).await?;
    let mut answer = Map::new();
    if !friends.is_empty() {
        let (named, users) = Named::of(&friends);
        let mut judged = change(call, &owner, &users, with).await?;
        // "Not as the request supposes" has a number of its own here.
        let is_no_friend = |failure: &&mut Failure| failure.code == relation_code(Refusal::Invalid).0;
        for failure in judged.iter_mut().filter_map(|judged| judged.as_mut().err()).filter(is_no_friend) {
            *failure = codes::NO_FRIEND_FOR_LIST.into();
        }
        answer = results(named, judged);
    }
    answer.insert("CurrentSequence".to_owned(), sequence(call, &owner).await?);
    Ok(answer)
}

/// Deletes friend lists; their friends stay friends.
pub async fn delete(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = owner(fields)?;
    let update = ListsUpdate { lists: names(call, fields)?, delete: true, ..Default::default() };
    change_once(call, &owner, Kind::Friends(FriendsChange::Lists(update))).await?;
    object(json!({ "CurrentSequence": sequence(call, &owner).await? }))
}

/// Reads friend lists, all of them or chosen ones, and who is on them, if that is asked for.
pub async fn get(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = existing_owner(call, fields).await?;
    let chosen = fields.texts("GroupName").map_err(wrong)?.unwrap_or_default();
    let with_friends = match fields.text("NeedFriend").map_err(wrong)? {
        None | Some("" | "Need_Friend_Type_No") => false,
        Some("Need_Friend_Type_Yes") => true,
        Some(_) => return Err(codes::RELATION_ARGUMENT.because("NeedFriend must be Need_Friend_Type_Yes or left out")),
    };
    let sequence = sequence(call, &owner).await?;
    let members = friends::members(&call.shared().store, call.app, &owner).await;
    let lists = members.map_err(|error| of_relations(&error))?.into_iter();
    let lists = lists.filter(|(name, _)| chosen.is_empty() || chosen.contains(&name.as_str()));
    let item = |(name, members): (String, Vec<UserId>)| {
        let mut item = json!({ "GroupName": name, "FriendNumber": members.len() });
        if with_friends {
            item["To_Account"] = members.iter().map(UserId::as_str).collect();
        }
        item
    };
    object(json!({ "ResultItem": lists.map(item).collect::<Vec<Value>>(), "CurrentSequence": sequence }))
}

fn names(call: &Call<'_>, fields: Fields<'_>) -> Result<Vec<String>, Failure> {
    let names = some_texts(fields, "GroupName", call.row.items_max)?;
    Ok(names.iter().map(ToString::to_string).collect())
}

async fn sequence(call: &Call<'_>, owner: &UserId) -> Result<Value, Failure> {
    let seq = friends::lists_seq(&call.shared().store, call.app, owner).await;
    seq.map(Value::from).map_err(|error| of_relations(&error))
}
