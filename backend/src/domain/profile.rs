//! What is said of a user (PROF-01 to PROF-04): the fields, what their values may be, and reading them.
//!
//! A profile is stored as the protocol's `Profile`, without the user; a field that was never set is not there.
//! Fields have numbers, those of the message, and the names ("tags") that the hosted original publishes.
//!
//! What may not live here: changing a profile, and who is told of it (see [`super::change`]).

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::try_join_all;
use prost::Message as _;
use protocol::message::{AllowType, Gender, Profile, ProfileFields};

use super::{AppId, Error, UserId, account, damaged, keys, settings::Settings};
use crate::store::{Lane, Store, Tx};

/// Profiles read in one go, at the most.
pub const PROFILES_MAX: usize = 100;
/// Longest text of a field, in bytes.
pub const TEXT_BYTES_MAX: usize = 500;
/// Longest location, in bytes.
pub const LOCATION_BYTES_MAX: usize = 16;
/// What the name of every custom field begins with.
pub const CUSTOM_PREFIX: &str = "Tag_Profile_Custom_";
/// Custom fields that an application may declare, of profiles and of friends.
pub const CUSTOM_FIELDS_MAX: usize = 20;

/// What is wrong with a field of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Only an administrator may set it.
    #[error("only an administrator may set this field")]
    ReadOnly,
    /// There is no such field.
    #[error("no such profile field")]
    Unknown,
    /// Its value is too long.
    #[error("the value of a profile field is too long")]
    TooLong,
    /// Its value is out of range.
    #[error("the value of a profile field is out of range")]
    Value,
    /// Its value should be a number, or a text.
    #[error("the value of a profile field is of another type")]
    Type,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u32),
    /// A text.
    Text(String),
}

impl Value {
    fn number(self) -> Result<u32, Invalid> {
        match self {
            Value::Number(number) => Ok(number),
            Value::Text(_) => Err(Invalid::Type),
        }
    }

    fn text(self, bytes_max: usize) -> Result<String, Invalid> {
        match self {
            Value::Text(text) if text.len() <= bytes_max => Ok(text),
            Value::Text(_) => Err(Invalid::TooLong),
            Value::Number(_) => Err(Invalid::Type),
        }
    }

    /// A text that is one of these; which.
    fn one_of(self, names: &[&str]) -> Result<usize, Invalid> {
        let text = self.text(usize::MAX)?;
        names.iter().position(|name| *name == text).ok_or(Invalid::Value)
    }
}

const GENDERS: &[&str] = &["Gender_Type_Unknown", "Gender_Type_Female", "Gender_Type_Male"];
const ALLOW_TYPES: &[&str] = &["AllowType_Type_AllowAny", "AllowType_Type_NeedConfirm", "AllowType_Type_DenyAny"];
const FORBID_TYPES: &[&str] = &["AdminForbid_Type_None", "AdminForbid_Type_SendOut"];

macro_rules! field_table {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $tag:literal, $name:ident;)+) => {
        /// A field that every application has.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Field {
            /// Every field, in the order of their numbers.
            pub const ALL: &[Field] = &[$(Field::$variant,)+];

            /// Its number in the protocol's `Profile`.
            pub fn number(self) -> u32 {
                match self {
                    $(Field::$variant => $number,)+
                }
            }

            /// Its published name.
            pub fn tag(self) -> &'static str {
                match self {
                    $(Field::$variant => $tag,)+
                }
            }

            /// Takes the field over from another profile, if it is there.
            fn copy(self, from: &Profile, to: &mut Profile) {
                match self {
                    $(Field::$variant => if from.$name.is_some() { to.$name = from.$name.clone() },)+
                }
            }

            /// Whether two profiles say something else.
            fn differs(self, one: &Profile, other: &Profile) -> bool {
                match self {
                    $(Field::$variant => one.$name != other.$name,)+
                }
            }

            /// Whether a profile has it.
            fn is_in(self, profile: &Profile) -> bool {
                match self {
                    $(Field::$variant => profile.$name.is_some(),)+
                }
            }
        }
    };
}

field_table! {
    /// What the user is called.
    Nick = 2, "Tag_Profile_IM_Nick", nick;
    /// Gender.
    Gender = 3, "Tag_Profile_IM_Gender", gender;
    /// Birthday, as in 20190419.
    Birthday = 4, "Tag_Profile_IM_BirthDay", birthday;
    /// Where the user is.
    Location = 5, "Tag_Profile_IM_Location", location;
    /// What the user says of himself.
    Signature = 6, "Tag_Profile_IM_SelfSignature", signature;
    /// What becomes of requests for the user's friendship.
    AllowType = 7, "Tag_Profile_IM_AllowType", allow_type;
    /// Language.
    Language = 8, "Tag_Profile_IM_Language", language;
    /// Where the user's picture is.
    Image = 9, "Tag_Profile_IM_Image", image_url;
    /// Bits: how messages are announced.
    MessageSettings = 10, "Tag_Profile_IM_MsgSettings", message_settings;
    /// The user may not ask for friendships.
    RequestsForbidden = 11, "Tag_Profile_IM_AdminForbidType", requests_forbidden;
    /// Level.
    Level = 12, "Tag_Profile_IM_Level", level;
    /// Role.
    Role = 13, "Tag_Profile_IM_Role", role;
}

impl Field {
    /// The field of a published name.
    pub fn of_tag(tag: &str) -> Option<Field> {
        Field::ALL.iter().copied().find(|field| field.tag() == tag)
    }

    /// Sets it, as the hosted original publishes its values.
    pub fn set(self, profile: &mut Profile, value: Value) -> Result<(), Invalid> {
        let index = |index: usize| Some(index as i32);
        match self {
            Field::Nick => profile.nick = Some(value.text(TEXT_BYTES_MAX)?),
            Field::Gender => profile.gender = index(value.one_of(GENDERS)?),
            Field::Birthday => profile.birthday = Some(value.number()?),
            Field::Location => profile.location = Some(value.text(LOCATION_BYTES_MAX)?),
            Field::Signature => profile.signature = Some(value.text(TEXT_BYTES_MAX)?),
            Field::AllowType => profile.allow_type = index(value.one_of(ALLOW_TYPES)?),
            Field::Language => profile.language = Some(value.number()?),
            Field::Image => profile.image_url = Some(value.text(TEXT_BYTES_MAX)?),
            Field::MessageSettings => profile.message_settings = Some(value.number()?),
            Field::RequestsForbidden => profile.requests_forbidden = Some(value.one_of(FORBID_TYPES)? == 1),
            Field::Level => profile.level = Some(value.number()?),
            Field::Role => profile.role = Some(value.number()?),
        }
        Ok(())
    }

    /// Its value, as published; the default if it was never set.
    pub fn value(self, profile: &Profile) -> Value {
        let text = |text: &Option<String>| Value::Text(text.clone().unwrap_or_default());
        let number = |number: Option<u32>| Value::Number(number.unwrap_or_default());
        let name = |names: &[&str], index: Option<i32>| {
            let index = usize::try_from(index.unwrap_or_default()).unwrap_or_default();
            Value::Text(names.get(index).copied().unwrap_or_default().to_owned())
        };
        match self {
            Field::Nick => text(&profile.nick),
            Field::Gender => name(GENDERS, profile.gender),
            Field::Birthday => number(profile.birthday),
            Field::Location => text(&profile.location),
            Field::Signature => text(&profile.signature),
            Field::AllowType => name(ALLOW_TYPES, profile.allow_type),
            Field::Language => number(profile.language),
            Field::Image => text(&profile.image_url),
            Field::MessageSettings => number(profile.message_settings),
            Field::RequestsForbidden => name(FORBID_TYPES, Some(profile.requests_forbidden().into())),
            Field::Level => number(profile.level),
            Field::Role => number(profile.role),
        }
    }
}

/// Some fields of profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    fields: Vec<Field>,
    /// Names of custom fields; `None`: all.
    custom: Option<Vec<String>>,
}

impl Chosen {
    /// All of them.
    pub fn all() -> Self {
        Chosen { fields: Field::ALL.to_vec(), custom: None }
    }

    /// None of them.
    pub fn none() -> Self {
        Chosen { fields: Vec::new(), custom: Some(Vec::new()) }
    }

    /// What is told of friends when nothing else was asked for.
    pub fn basic() -> Self {
        Chosen { fields: vec![Field::Nick, Field::Image], custom: Some(Vec::new()) }
    }

    /// By their published names; a name that no field has is an error.
    pub fn of_tags<'a>(tags: impl IntoIterator<Item = &'a str>) -> Result<Self, Invalid> {
        let (mut fields, mut custom) = (Vec::new(), Vec::new());
        for tag in tags {
            match Field::of_tag(tag) {
                Some(field) => fields.push(field),
                None if tag.starts_with(CUSTOM_PREFIX) => custom.push(tag.to_owned()),
                None => return Err(Invalid::Unknown),
            }
        }
        Ok(Chosen { fields, custom: Some(custom) })
    }

    /// As the protocol names them; none named is none chosen.
    pub fn of(fields: &ProfileFields) -> Result<Self, Invalid> {
        let field = |number: &u32| Field::ALL.iter().copied().find(|field| field.number() == *number);
        let standard: Option<Vec<Field>> = fields.fields.iter().map(field).collect();
        Ok(Chosen { fields: standard.ok_or(Invalid::Unknown)?, custom: Some(fields.custom.clone()) })
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.custom.as_ref().is_some_and(Vec::is_empty)
    }

    /// Those that were chosen of a profile.
    pub fn of_profile(&self, user: &UserId, profile: &Profile) -> Profile {
        let mut chosen = Profile { user: user.to_string(), ..Profile::default() };
        self.fields.iter().for_each(|field| field.copy(profile, &mut chosen));
        chosen.custom = match &self.custom {
            None => profile.custom.clone(),
            Some(names) => {
                let of_name = |name: &String| Some((name.clone(), profile.custom.get(name)?.clone()));
                names.iter().filter_map(of_name).collect()
            }
        };
        chosen
    }

    /// The fields that differ.
    pub(crate) fn changed(before: &Profile, now: &Profile) -> Self {
        let fields = Field::ALL.iter().copied().filter(|field| field.differs(before, now)).collect();
        let names = before.custom.keys().chain(now.custom.keys());
        let differ = |name: &&String| before.custom.get(*name) != now.custom.get(*name);
        let mut custom: Vec<String> = names.filter(differ).cloned().collect();
        custom.sort_unstable();
        custom.dedup();
        Chosen { fields, custom: Some(custom) }
    }

    /// The fields that a profile has.
    pub(crate) fn in_profile(profile: &Profile) -> Self {
        let fields = Field::ALL.iter().copied().filter(|field| field.is_in(profile)).collect();
        Chosen { fields, custom: Some(profile.custom.keys().cloned().collect()) }
    }

    /// Both.
    pub(crate) fn and(mut self, other: Chosen) -> Self {
        self.fields.extend(other.fields);
        self.fields.sort_unstable_by_key(|field| field.number());
        self.fields.dedup();
        self.custom = self.custom.zip(other.custom).map(|(mut one, other)| {
            one.extend(other);
            one.sort_unstable();
            one.dedup();
            one
        });
        self
    }

    /// As the protocol names them.
    pub(crate) fn to_fields(&self) -> ProfileFields {
        let fields = self.fields.iter().map(|field| field.number()).collect();
        ProfileFields { fields, custom: self.custom.clone().unwrap_or_default() }
    }

    /// Those chosen of a profile, also those that were taken off: an empty custom field says so.
    pub(crate) fn told(&self, user: &UserId, profile: &Profile) -> Profile {
        let mut told = self.of_profile(user, profile);
        for name in self.custom.iter().flatten() {
            told.custom.entry(name.clone()).or_default();
        }
        told
    }
}

/// Everything that can be said of what is to be set without the store.
pub(crate) fn check(set: &Profile, by_admin: bool) -> Result<(), Error> {
    if set.requests_forbidden.is_some() && !by_admin {
        return Err(Invalid::ReadOnly.into());
    }
    let too_long = |text: &Option<String>, bytes_max| text.as_ref().is_some_and(|text| text.len() > bytes_max);
    let texts = [&set.nick, &set.signature, &set.image_url];
    if texts.iter().any(|text| too_long(text, TEXT_BYTES_MAX)) || too_long(&set.location, LOCATION_BYTES_MAX) {
        return Err(Invalid::TooLong.into());
    }
    let is_one = |value: Option<i32>, names: &[&str]| {
        value.is_none_or(|value| usize::try_from(value).is_ok_and(|value| value < names.len()))
    };
    if !is_one(set.gender, GENDERS) || !is_one(set.allow_type, ALLOW_TYPES) {
        return Err(Invalid::Value.into());
    }
    if set.custom.len() > CUSTOM_FIELDS_MAX {
        return Err(Invalid::Unknown.into());
    }
    check_custom_values(&set.custom).map_err(Error::Profile)
}

/// Values of custom fields, of profiles and of friends.
pub(crate) fn check_custom_values(custom: &BTreeMap<String, Bytes>) -> Result<(), Invalid> {
    if custom.values().any(|value| value.len() > TEXT_BYTES_MAX) { Err(Invalid::TooLong) } else { Ok(()) }
}

/// Refuses custom fields that the application has not declared.
pub(crate) fn check_declared(set: &Profile, settings: &Settings) -> Result<(), Error> {
    let declared = |name: &String| settings.profile_custom_fields.contains(name);
    if set.custom.keys().all(declared) { Ok(()) } else { Err(Invalid::Unknown.into()) }
}

/// Sets the fields that are there.
pub(crate) fn apply(profile: &mut Profile, set: &Profile) {
    Field::ALL.iter().for_each(|field| field.copy(set, profile));
    set_custom(&mut profile.custom, &set.custom);
}

/// Sets custom fields; an empty value takes the field off.
pub(crate) fn set_custom(custom: &mut BTreeMap<String, Bytes>, set: &BTreeMap<String, Bytes>) {
    for (name, value) in set {
        match value.is_empty() {
            true => drop(custom.remove(name)),
            false => drop(custom.insert(name.clone(), value.clone())),
        }
    }
}

/// A profile from its stored form.
pub(crate) fn decode(stored: Option<Bytes>) -> Result<Profile, Error> {
    stored.map_or_else(|| Ok(Profile::default()), |stored| Profile::decode(stored).map_err(|_| damaged("profile")))
}

/// A profile, read without changing it.
pub(crate) async fn snapshot(tx: &Tx, app: AppId, user: &UserId) -> Result<Profile, Error> {
    decode(tx.snapshot_get(&keys::profile(app, user)).await?)
}

/// Reads profiles, in the order asked for; `None` for users that do not exist. An account has a profile, if an
/// empty one, as soon as it exists.
pub async fn profiles(
    store: &Store,
    app: AppId,
    users: Vec<UserId>,
    chosen: Chosen,
) -> Result<Vec<Option<Profile>>, Error> {
    let read = async move |tx: &Tx| -> Result<Vec<Option<Profile>>, Error> {
        let each = users.iter().map(async |user| {
            let account = tx.snapshot_get(&keys::account(app, user));
            let profile = tx.snapshot_get(&keys::profile(app, user));
            if !account::is_there(account.await?)? {
                return Ok(None);
            }
            Ok::<_, Error>(Some(chosen.of_profile(user, &decode(profile.await?)?)))
        });
        try_join_all(each).await
    };
    Ok(store.run(Lane::Read, "profiles", read).await?.0)
}

// The published names stand in the order of the protocol's numbers.
const _: () = assert!(Gender::Male as usize + 1 == GENDERS.len());
const _: () = assert!(AllowType::DenyAny as usize + 1 == ALLOW_TYPES.len());

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Profile {
        Profile {
            user: String::new(),
            nick: Some("Anna".into()),
            gender: Some(Gender::Female.into()),
            birthday: Some(20_190_419),
            location: Some("Berlin".into()),
            signature: Some("hello".into()),
            allow_type: Some(AllowType::DenyAny.into()),
            language: Some(1),
            image_url: Some("https://files.example/1".into()),
            message_settings: Some(1),
            requests_forbidden: Some(true),
            level: Some(3),
            role: Some(4),
            custom: [("Tag_Profile_Custom_A".to_owned(), Bytes::from_static(b"1"))].into(),
        }
    }

    #[test]
    fn every_field_is_set_and_read_by_its_published_name() {
        let mut read_back = Profile::default();
        for field in Field::ALL {
            assert_eq!(Field::of_tag(field.tag()), Some(*field));
            let value = field.value(&full());
            field.set(&mut read_back, value.clone()).unwrap();
            let wrong = match value {
                Value::Number(_) => Value::Text("1".into()),
                Value::Text(_) => Value::Number(1),
            };
            assert_eq!(field.set(&mut read_back, wrong), Err(Invalid::Type), "{field:?}");
        }
        read_back.custom = full().custom;
        assert_eq!(read_back, full());
        assert_eq!(Field::of_tag("Tag_Profile_IM_Shoes"), None);
    }

    #[test]
    fn chosen_fields_are_told_and_others_are_not() {
        let user = UserId::new("anna").unwrap();
        let chosen = Chosen::of_tags(["Tag_Profile_IM_Level", "Tag_Profile_Custom_A", "Tag_Profile_Custom_B"]).unwrap();
        let told = Profile { user: "anna".into(), level: Some(3), custom: full().custom, ..Profile::default() };
        assert_eq!(chosen.of_profile(&user, &full()), told);
        assert_eq!(Chosen::of(&chosen.to_fields()), Ok(chosen));
        assert_eq!(Chosen::all().of_profile(&user, &full()), Profile { user: "anna".into(), ..full() });
        assert_eq!(Chosen::of_tags(["Tag_SNS_IM_Remark"]), Err(Invalid::Unknown));
        for number in [0, 1, 14, 99] {
            let fields = ProfileFields { fields: vec![number], custom: Vec::new() };
            assert_eq!(Chosen::of(&fields), Err(Invalid::Unknown));
        }
    }

    #[test]
    fn what_changed_is_told_as_it_is_and_what_was_taken_off_is_empty() {
        let user = UserId::new("anna").unwrap();
        let mut now = full();
        let off = [("Tag_Profile_Custom_A".to_owned(), Bytes::new())];
        let set = Profile { nick: Some("Anne".into()), custom: off.clone().into(), ..Profile::default() };
        apply(&mut now, &set);
        let changed = Chosen::changed(&full(), &now);
        let told = Profile { user: "anna".into(), nick: Some("Anne".into()), custom: off.into(), ..Profile::default() };
        assert_eq!(changed.told(&user, &now), told);
        assert!(Chosen::changed(&now, &now).is_empty());
        assert_eq!(Chosen::in_profile(&set), changed.clone().and(changed));
    }

    #[test]
    fn values_have_limits() {
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        let refused = [
            (Profile { nick: Some(long.clone()), ..Profile::default() }, Invalid::TooLong),
            (Profile { signature: Some(long.clone()), ..Profile::default() }, Invalid::TooLong),
            (Profile { image_url: Some(long.clone()), ..Profile::default() }, Invalid::TooLong),
            (Profile { location: Some(long[..17].into()), ..Profile::default() }, Invalid::TooLong),
            (
                Profile { custom: [("a".to_owned(), long.clone().into())].into(), ..Profile::default() },
                Invalid::TooLong,
            ),
            (Profile { gender: Some(3), ..Profile::default() }, Invalid::Value),
            (Profile { allow_type: Some(-1), ..Profile::default() }, Invalid::Value),
            (Profile { requests_forbidden: Some(false), ..Profile::default() }, Invalid::ReadOnly),
        ];
        for (set, problem) in refused {
            assert_eq!(check(&set, false), Err(Error::Profile(problem)), "{set:?}");
        }
        assert_eq!(check(&full(), true), Ok(()));
        assert_eq!(check(&Profile { location: Some(long[..16].into()), ..Profile::default() }, false), Ok(()));
    }
}
