//! Friends are read: all of them by page, or chosen ones with fields of their profiles.

use backend::domain::{
    friends::{self, CUSTOM_PREFIX, FriendsPage, Place},
    profile::Chosen,
    sync::PageLimit,
};
use protocol::message::{Friend, Profile};
use serde_json::{Value, json};

use super::{
    existing_owner,
    friends::{GROUP, REMARK, SOURCE_PREFIX},
    no_friend, others, some_texts, wrong,
};
use crate::api::{
    answers::object,
    call::Call,
    codes::{self, Failure, of_relations},
    fields::Fields,
    table::Outcome,
    tags,
};

const SOURCE: &str = "Tag_SNS_IM_AddSource";
const WORDING: &str = "Tag_SNS_IM_AddWording";
const ADD_TIME: &str = "Tag_SNS_IM_AddTime";
/// Published, and not kept.
const REMARK_TIME: &str = "Tag_SNS_IM_RemarkTime";

/// The standard fields of a friend, as pages have them.
const STANDARD: [&str; 5] = [SOURCE, REMARK, GROUP, ADD_TIME, WORDING];

/// Bytes of a page, about, at the most.
const PAGE_BYTES: usize = 1 << 20;
/// Fields that one call may ask for: more than there are.
const TAGS_MAX: usize = 100;

/// Reads a page of a user's friends.
pub async fn page(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = existing_owner(call, fields).await?;
    let number = |field| fields.number(field).map_err(wrong);
    let start = number("StartIndex")?.unwrap_or(0);
    let known_standard = number("StandardSequence")?.unwrap_or(0);
    let known_custom = number("CustomSequence")?.unwrap_or(known_standard);
    let limit = PageLimit { entries_max: call.row.items_max, bytes_max: PAGE_BYTES };
    let (store, from) = (&call.shared().store, Place { after: start, base: 0 });
    let page = friends::page(store, call.app, &owner, from, None, Chosen::none(), limit).await;
    let FriendsPage { friends, next, more, start_over, count, .. } = page.map_err(|error| of_relations(&error))?;
    if start_over {
        return Err(codes::RELATION_ARGUMENT.because("StartIndex is none that a page named as the next one"));
    }
    // Later pages are given the sequence of the first one: they go on with what that one began.
    let is_news = |known: u64| start > 0 || known != next.base;
    let (standard, custom) = (is_news(known_standard), is_news(known_custom));
    let is_told = standard || custom;
    let items: Vec<Value> = friends.iter().filter_map(|friend| data_item(friend, standard, custom)).collect();
    let goes_on = more && is_told;
    object(json!({
        "UserDataItem": items, "StandardSequence": next.base, "CustomSequence": next.base, "FriendNum": count,
        "CompleteFlag": u32::from(!goes_on), "NextStartIndex": if goes_on { next.after } else { 0 },
    }))
}

/// What is kept about a friend; `None`: nothing of what is asked for.
fn data_item(friend: &Friend, standard: bool, custom: bool) -> Option<Value> {
    let tags = STANDARD.into_iter().filter(|_| standard);
    let tags = tags.chain(friend.custom.keys().map(String::as_str).filter(|_| custom));
    let values: Vec<Value> = tags.filter_map(|tag| Some(tags::item(tag, value(friend, tag)?))).collect();
    (!values.is_empty()).then(|| json!({ "To_Account": friend.user, "ValueItem": values }))
}

/// Reads chosen friends.
pub async fn chosen(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let owner = existing_owner(call, fields).await?;
    let (named, users) = others(call, fields)?;
    let asked = some_texts(fields, "TagList", TAGS_MAX)?;
    let (of_friend, of_profile): (Vec<&str>, Vec<&str>) = asked.iter().partition(|tag| is_of_friend(tag));
    let chosen = Chosen::of_tags(of_profile.iter().copied());
    let chosen = chosen.map_err(|invalid| codes::RELATION_ARGUMENT.because(format!("TagList: {invalid}")))?;
    let found = friends::chosen(&call.shared().store, call.app, &owner, users, chosen).await;
    let found = found.map_err(|error| of_relations(&error))?;
    let outcome = |friend: Option<Friend>| {
        let friend = friend.ok_or_else(no_friend)?;
        let kept = of_friend.iter().filter_map(|tag| Some(tags::item(tag, value(&friend, tag)?)));
        let nothing = Profile::default();
        let profile = tags::of_profile(friend.profile.as_ref().unwrap_or(&nothing), of_profile.iter().copied());
        Ok::<_, Failure>(json!({ "SnsProfileItem": kept.chain(profile).collect::<Vec<_>>() }))
    };
    let outcomes = found.into_iter().map(outcome);
    Ok(named.answer("InfoItem", outcomes, &json!({ "SnsProfileItem": [] }), codes::RELATION_ACCOUNT))
}

fn is_of_friend(tag: &str) -> bool {
    STANDARD.contains(&tag) || tag == REMARK_TIME || tag.starts_with(CUSTOM_PREFIX)
}

/// A field of what is kept about a friend, if it is set.
fn value(friend: &Friend, tag: &str) -> Option<Value> {
    let text = |text: &str| (!text.is_empty()).then(|| Value::from(text));
    match tag {
        SOURCE => (!friend.source.is_empty()).then(|| format!("{SOURCE_PREFIX}{}", friend.source).into()),
        WORDING => text(&friend.wording),
        REMARK => text(&friend.remark),
        GROUP => (!friend.lists.is_empty()).then(|| json!(friend.lists)),
        ADD_TIME => Some((friend.added_ms / 1000).into()),
        custom => friend.custom.get(custom).map(tags::custom_text),
    }
}
