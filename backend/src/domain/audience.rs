//! What an application's server says about its users, so that it can tell something to some of them alone
//! (MSG-14): attributes with values, and tags.
//!
//! What may not live here: telling them ([`super::announcement`]).

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::{AppId, Error, UserId, account, applications, damaged, keys};
use crate::store::{Lane, Reading, Store, Tx};

/// Attributes that an application may name.
pub const ATTRIBUTES_MAX: u32 = 10;
/// Longest name or value of an attribute, and longest tag, in bytes.
pub const NAME_BYTES_MAX: usize = 50;
/// Tags of one user, at the most.
pub const TAGS_MAX: usize = 100;
/// Tags put on or taken off one user in one call, and named in one condition, at the most.
pub const TAGS_PER_CALL_MAX: usize = 10;
/// Users that one call is about, at the most.
pub const USERS_MAX: usize = 100;

/// Names of attributes, by their number below [`ATTRIBUTES_MAX`].
pub type AttributeNames = BTreeMap<u32, String>;

/// What is kept of the names.
#[derive(Clone, PartialEq, Message)]
struct AttributeNamesRecord {
    #[prost(btree_map = "uint32, string", tag = "1")]
    names: AttributeNames,
}

/// Attributes and tags of a user.
#[derive(Clone, PartialEq, Message)]
pub struct Audience {
    /// Values, by the attribute's name.
    #[prost(btree_map = "string, string", tag = "1")]
    pub attributes: BTreeMap<String, String>,
    /// Tags, in the order they were put on.
    #[prost(string, repeated, tag = "2")]
    pub tags: Vec<String>,
}

/// Who is meant. Nothing said: everybody. Attributes and tags exclude each other; of either kind both
/// halves must hold that say something.
#[derive(Clone, PartialEq, Message)]
pub struct Condition {
    /// One of these attributes has this value.
    #[prost(btree_map = "string, string", tag = "1")]
    pub attributes_or: BTreeMap<String, String>,
    /// All of them have.
    #[prost(btree_map = "string, string", tag = "2")]
    pub attributes_and: BTreeMap<String, String>,
    /// One of these tags is there.
    #[prost(string, repeated, tag = "3")]
    pub tags_or: Vec<String>,
    /// All of them are.
    #[prost(string, repeated, tag = "4")]
    pub tags_and: Vec<String>,
}

impl Condition {
    /// Everything that can be said without the store.
    pub fn check(&self) -> Result<(), Error> {
        let attributes = [&self.attributes_or, &self.attributes_and];
        let tags = [&self.tags_or, &self.tags_and];
        if attributes.iter().any(|named| !named.is_empty()) && tags.iter().any(|named| !named.is_empty()) {
            return Err(Error::Argument("a condition names attributes or tags, not both"));
        }
        if tags.iter().any(|named| named.len() > TAGS_PER_CALL_MAX) {
            return Err(Error::Argument("a condition names at most 10 tags"));
        }
        attributes.into_iter().flatten().try_for_each(|(name, value)| check_attribute(name, value))?;
        tags.into_iter().flatten().try_for_each(|tag| check_tag(tag))
    }

    /// Nobody is left out.
    pub fn is_everybody(&self) -> bool {
        *self == Condition::default()
    }

    /// Whether a user is meant.
    pub fn matches(&self, user: &Audience) -> bool {
        let has = |(name, value): (&String, &String)| user.attributes.get(name) == Some(value);
        let tagged = |tag: &String| user.tags.contains(tag);
        (self.attributes_or.is_empty() || self.attributes_or.iter().any(has))
            && self.attributes_and.iter().all(has)
            && (self.tags_or.is_empty() || self.tags_or.iter().any(tagged))
            && self.tags_and.iter().all(tagged)
    }
}

/// A change of what is said about one user.
#[derive(Clone, Debug)]
pub enum AudienceChange {
    /// Gives attributes values.
    SetAttributes(BTreeMap<String, String>),
    /// Takes attributes away.
    RemoveAttributes(BTreeSet<String>),
    /// Puts tags on.
    AddTags(Vec<String>),
    /// Takes tags off.
    RemoveTags(Vec<String>),
    /// Takes all tags off.
    RemoveAllTags,
}

impl AudienceChange {
    fn check(&self) -> Result<(), Error> {
        match self {
            AudienceChange::SetAttributes(values) if values.is_empty() => Err(Error::Argument("no attribute is named")),
            AudienceChange::SetAttributes(values) => {
                values.iter().try_for_each(|(name, value)| check_attribute(name, value))
            }
            AudienceChange::RemoveAttributes(names) if names.is_empty() => {
                Err(Error::Argument("no attribute is named"))
            }
            AudienceChange::AddTags(tags) | AudienceChange::RemoveTags(tags) => {
                if !(1..=TAGS_PER_CALL_MAX).contains(&tags.len()) {
                    return Err(Error::Argument("1 to 10 tags are put on or taken off a user at a time"));
                }
                tags.iter().try_for_each(|tag| check_tag(tag))
            }
            AudienceChange::RemoveAttributes(_) | AudienceChange::RemoveAllTags => Ok(()),
        }
    }

    fn apply(&self, audience: &mut Audience, names: &AttributeNames) -> Result<(), Error> {
        match self {
            AudienceChange::SetAttributes(values) => {
                ensure_named(names, values.keys())?;
                audience.attributes.extend(values.clone());
            }
            AudienceChange::RemoveAttributes(removed) => {
                ensure_named(names, removed.iter())?;
                audience.attributes.retain(|name, _| !removed.contains(name));
            }
            AudienceChange::AddTags(tags) => {
                for tag in tags {
                    if !audience.tags.contains(tag) {
                        audience.tags.push(tag.clone());
                    }
                }
                if audience.tags.len() > TAGS_MAX {
                    return Err(Error::ListFull("a user has at most 100 tags"));
                }
            }
            AudienceChange::RemoveTags(tags) => audience.tags.retain(|tag| !tags.contains(tag)),
            AudienceChange::RemoveAllTags => audience.tags.clear(),
        }
        Ok(())
    }
}

fn ensure_named<'a>(names: &AttributeNames, mut asked: impl Iterator<Item = &'a String>) -> Result<(), Error> {
    match asked.all(|name| names.values().any(|known| known == name)) {
        true => Ok(()),
        false => Err(Error::Argument("the application has no attribute of this name")),
    }
}

fn check_attribute(name: &str, value: &str) -> Result<(), Error> {
    match (1..=NAME_BYTES_MAX).contains(&name.len()) && value.len() <= NAME_BYTES_MAX {
        true => Ok(()),
        false => Err(Error::Argument("an attribute's name must have 1 to 50 bytes, its value at most 50")),
    }
}

fn check_tag(tag: &str) -> Result<(), Error> {
    match (1..=NAME_BYTES_MAX).contains(&tag.len()) {
        true => Ok(()),
        false => Err(Error::Argument("a tag must have 1 to 50 bytes")),
    }
}

/// Names attributes anew; those of other numbers stay. An empty name takes one away.
pub async fn name_attributes(store: &Store, app: AppId, changes: AttributeNames) -> Result<(), Error> {
    if changes.is_empty() || changes.keys().any(|number| *number >= ATTRIBUTES_MAX) {
        return Err(Error::Argument("attributes are numbered from 0 to 9"));
    }
    if changes.values().any(|name| name.len() > NAME_BYTES_MAX) {
        return Err(Error::Argument("an attribute's name must have 1 to 50 bytes"));
    }
    let write = async move |tx: &Tx| -> Result<(), Error> {
        applications::ensure(tx, app).await?;
        let mut names = read_names(tx.get(&keys::attribute_names(app))).await?;
        names.extend(changes.clone());
        names.retain(|_, name| !name.is_empty());
        if names.values().collect::<BTreeSet<_>>().len() < names.len() {
            return Err(Error::Argument("two attributes can't have the same name"));
        }
        tx.set(keys::attribute_names(app), AttributeNamesRecord { names }.encode_to_vec());
        Ok(())
    };
    store.run(Lane::Write, "name_attributes", write).await?;
    Ok(())
}

/// The names of an application's attributes.
pub async fn attribute_names(store: &Store, app: AppId) -> Result<AttributeNames, Error> {
    let read = async move |tx: &Tx| read_names(tx.snapshot_get(&keys::attribute_names(app))).await;
    Ok(store.run(Lane::Read, "attribute_names", read).await?.0)
}

/// Changes what is said about users: all of it, or with an error nothing.
pub async fn change(store: &Store, app: AppId, changes: Vec<(UserId, AudienceChange)>) -> Result<(), Error> {
    check_count(changes.len())?;
    changes.iter().try_for_each(|(_, change)| change.check())?;
    let write = async move |tx: &Tx| -> Result<(), Error> {
        applications::ensure(tx, app).await?;
        let names = tx.snapshot_get(&keys::attribute_names(app));
        let users: BTreeSet<&UserId> = changes.iter().map(|(user, _)| user).collect();
        let reading = |user| (user, tx.get(&keys::account(app, user)), tx.get(&keys::audience(app, user)));
        let readings: Vec<_> = users.into_iter().map(reading).collect();
        let names = read_names(names).await?;
        for (user, account, stored) in readings {
            if !account::is_there(account.await?)? {
                return Err(Error::UserInvalid);
            }
            let mut audience = decode(stored.await?)?;
            let of_user = changes.iter().filter(|(changed, _)| changed == user);
            of_user.map(|(_, change)| change).try_for_each(|change| change.apply(&mut audience, &names))?;
            let key = keys::audience(app, user);
            match audience == Audience::default() {
                true => tx.clear(&key),
                false => tx.set(key, audience.encode_to_vec()),
            }
        }
        Ok(())
    };
    store.run(Lane::Write, "audience", write).await?;
    Ok(())
}

/// What is said about users, in their order.
pub async fn of_users(store: &Store, app: AppId, users: Vec<UserId>) -> Result<Vec<Audience>, Error> {
    check_count(users.len())?;
    let read = async move |tx: &Tx| -> Result<Vec<Audience>, Error> {
        let readings: Vec<_> = users.iter().map(|user| tx.snapshot_get(&keys::audience(app, user))).collect();
        let mut all = Vec::with_capacity(users.len());
        for reading in readings {
            all.push(decode(reading.await?)?);
        }
        Ok(all)
    };
    Ok(store.run(Lane::Read, "audience", read).await?.0)
}

fn check_count(users: usize) -> Result<(), Error> {
    match (1..=USERS_MAX).contains(&users) {
        true => Ok(()),
        false => Err(Error::Argument("1 to 100 users are named at a time")),
    }
}

/// Attributes and tags as they are stored.
pub(super) fn decode(stored: Option<bytes::Bytes>) -> Result<Audience, Error> {
    Audience::decode(stored.unwrap_or_default()).map_err(|_| damaged("attributes and tags"))
}

async fn read_names(reading: Reading<Option<bytes::Bytes>>) -> Result<AttributeNames, Error> {
    let record = AttributeNamesRecord::decode(reading.await?.unwrap_or_default());
    record.map(|record| record.names).map_err(|_| damaged("attribute names"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn tags(tags: &[&str]) -> Vec<String> {
        tags.iter().map(|tag| (*tag).to_owned()).collect()
    }

    #[test]
    fn msg_14_a_condition_holds_in_both_halves_or_for_everybody() {
        let user = Audience { attributes: values(&[("city", "Ulm"), ("sex", "f")]), tags: tags(&["a", "b"]) };
        let cases = [
            (Condition::default(), true),
            (Condition { attributes_or: values(&[("city", "Ulm"), ("sex", "m")]), ..Condition::default() }, true),
            (Condition { attributes_and: values(&[("city", "Ulm"), ("sex", "m")]), ..Condition::default() }, false),
            (Condition { attributes_or: values(&[("city", "Bonn")]), ..Condition::default() }, false),
            (Condition { tags_or: tags(&["x", "b"]), tags_and: tags(&["a", "b"]), ..Condition::default() }, true),
            (Condition { tags_or: tags(&["x"]), tags_and: tags(&["a"]), ..Condition::default() }, false),
            (Condition { tags_and: tags(&["a", "x"]), ..Condition::default() }, false),
        ];
        for (condition, expected) in cases {
            assert_eq!(condition.check(), Ok(()));
            assert_eq!(condition.matches(&user), expected, "{condition:?}");
        }
    }

    #[test]
    fn msg_14_conditions_out_of_their_limits_are_refused() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        let many: Vec<String> = (0..=TAGS_PER_CALL_MAX).map(|n| n.to_string()).collect();
        for condition in [
            Condition { tags_or: tags(&["a"]), attributes_or: values(&[("a", "b")]), ..Condition::default() },
            Condition { tags_and: many, ..Condition::default() },
            Condition { tags_and: tags(&[&long]), ..Condition::default() },
            Condition { tags_and: tags(&[""]), ..Condition::default() },
            Condition { attributes_and: values(&[("a", &long)]), ..Condition::default() },
            Condition { attributes_or: values(&[("", "b")]), ..Condition::default() },
        ] {
            assert!(matches!(condition.check(), Err(Error::Argument(_))), "{condition:?}");
        }
    }

    #[test]
    fn msg_14_a_user_has_a_hundred_tags_and_each_once() {
        let mut audience = Audience::default();
        let names = AttributeNames::new();
        for n in 0..TAGS_MAX {
            AudienceChange::AddTags(vec![n.to_string(), n.to_string()]).apply(&mut audience, &names).unwrap();
        }
        assert_eq!(audience.tags.len(), TAGS_MAX);
        let full = AudienceChange::AddTags(tags(&["one more"])).apply(&mut audience.clone(), &names);
        assert!(matches!(full, Err(Error::ListFull(_))));
        AudienceChange::RemoveTags(tags(&["3", "unknown"])).apply(&mut audience, &names).unwrap();
        assert_eq!(audience.tags.len(), TAGS_MAX - 1);
        let unnamed = AudienceChange::SetAttributes(values(&[("city", "Ulm")])).apply(&mut audience, &names);
        assert!(matches!(unnamed, Err(Error::Argument(_))));
    }
}
