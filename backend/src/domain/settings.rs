//! What an operator sets for one application. Kept with the application in the store, as JSON; set by its
//! file and by commands ([`super::applications`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Error, UserId,
    callbacks::{Callbacks, Token},
    friends, profile,
};

/// Greatest numbers that may be set: what one user has must stay small enough to be looked through.
const FRIENDS_MAX: u32 = 10_000;
const FRIEND_LISTS_MAX: u32 = 100;
const FRIEND_REQUESTS_MAX: u32 = 1_000;
/// Members that a group may have, whatever is set (GRP-01).
pub const GROUP_MEMBERS_MAX: u32 = 6_000;
const GROUP_FANOUT_MAX: u32 = 500;
const GROUPS_OF_USER_MAX: u32 = 2_000;

/// Custom fields of groups, or of their members, at the most (the hosted original allows 10 and 5).
const GROUP_FIELDS_MAX: usize = 10;
/// Longest name of such a field, in bytes.
const GROUP_FIELD_NAME_BYTES_MAX: usize = 16;

/// Longest time setting, in seconds: a hundred years.
const SECONDS_MAX: u64 = 100 * 366 * 86_400;

/// Settings of an application. Every field has a default; the names are those of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Which platforms of one account may be logged in beside each other (LOGIN-01 to LOGIN-04).
    pub login_policy: LoginPolicy,
    /// Logins of one account on the same platform beside each other, by platform; 1 where none is named
    /// (LOGIN-05).
    pub instances: BTreeMap<PlatformName, u32>,
    /// For how long a message can be recalled, in seconds (MSG-06).
    pub recall_seconds: u64,
    /// For how long a message can be edited, in seconds; 0: for as long as it is kept.
    pub edit_seconds: u64,
    /// Refuse messages to accounts that do not exist; without it they wait for the account's first login.
    pub recipient_exists: bool,
    /// Refuse messages between users who are not friends of each other.
    pub friends_only: bool,
    /// Refuse messages to users who have blacklisted the sender (REL-08).
    pub blacklist: bool,
    /// Messages one user may send each second, over all devices, on average; 0: without limit. What else shows
    /// others something new counts, too: [`Kind::counts_as_send`](super::change::Kind::counts_as_send).
    pub sends_per_second: u32,
    /// Messages one user may send at once before that limit holds.
    pub sends_burst: u32,
    /// Announcements to many users in 24 hours; 0: without limit (MSG-14).
    pub announcements_per_day: u32,
    /// From one announcement to the next, in milliseconds, at least.
    pub announcements_interval_ms: u64,
    /// Longest message body, in bytes; 0: as long as the server allows.
    pub message_bytes_max: u32,
    /// Who may use the server API; they need not exist as accounts (CON-10).
    pub admins: Vec<String>,
    /// Friends one user may have.
    pub friends_max: u32,
    /// Friend lists one user may have (REL-11).
    pub friend_lists_max: u32,
    /// Open friend requests one user may have, in each direction.
    pub friend_requests_max: u32,
    /// Names of the custom fields of profiles: `Tag_Profile_Custom_…` (PROF-04).
    pub profile_custom_fields: Vec<String>,
    /// Names of the custom fields that users keep about friends: `Tag_SNS_Custom_…` (REL-10).
    pub friend_custom_fields: Vec<String>,
    /// Members a group may have, by its type (GRP-01); a single group can be given another limit.
    pub group_members_max: GroupMembersMax,
    /// Members up to which what happens in a group is written into each one's log; in larger groups it is written
    /// once.
    pub group_fanout_max: u32,
    /// Groups one user may be in.
    pub groups_joined_max: u32,
    /// Groups that a user has left of which he can still read what was said until then: the last ones (GRP-11).
    pub groups_left_max: u32,
    /// Groups one user may own.
    pub groups_owned_max: u32,
    /// Whoever is not logged in may receive in live rooms (GRP-16).
    pub guests: bool,
    /// Messages in one group each second, on average, and at once.
    pub group_sends_per_second: u32,
    /// Names of the custom fields of groups (GRP-21).
    pub group_custom_fields: Vec<String>,
    /// Names of the custom fields that groups keep about members (GRP-21).
    pub group_member_custom_fields: Vec<String>,
    /// How the application's own server is asked and told (CON-06).
    pub callbacks: Option<Callbacks>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            login_policy: LoginPolicy::Dual,
            instances: BTreeMap::new(),
            recall_seconds: 120,
            edit_seconds: 0,
            recipient_exists: true,
            friends_only: false,
            blacklist: true,
            sends_per_second: 0,
            sends_burst: 20,
            announcements_per_day: 100,
            announcements_interval_ms: 1000,
            message_bytes_max: 0,
            admins: vec!["administrator".to_owned()],
            friends_max: 3_000,
            friend_lists_max: 32,
            friend_requests_max: 100,
            profile_custom_fields: Vec::new(),
            friend_custom_fields: Vec::new(),
            group_members_max: GroupMembersMax::default(),
            group_fanout_max: 200,
            groups_joined_max: 500,
            groups_left_max: 1_000,
            groups_owned_max: 500,
            guests: true,
            group_sends_per_second: 40,
            group_custom_fields: Vec::new(),
            group_member_custom_fields: Vec::new(),
            callbacks: None,
        }
    }
}

impl Settings {
    /// Reads settings as an operator gives them; what is left out has its default. What is wrong is said in
    /// words for the operator, with the setting's name.
    pub fn parse(given: Map<String, Value>) -> Result<Self, String> {
        let given = Value::Object(given);
        let settings: Settings = serde_path_to_error::deserialize(&given).map_err(|error| {
            let path = error.path().to_string();
            // A name that is none has no path of its own.
            format!("settings.{}: {}", path.trim_end_matches(".?"), error.inner())
        })?;
        if let Some(unknown) = unknown(&given, &Value::Object(settings.to_members())) {
            let all: Vec<String> = Settings::default().to_members().into_iter().map(|(name, _)| name).collect();
            return Err(format!("settings.{unknown} is no setting; there are {}", all.join(", ")));
        }
        settings.check()?;
        Ok(settings)
    }

    /// These settings with some changed. A null stands for the default; within an object, so does a null for
    /// a member of it.
    pub fn patched(&self, patch: &Map<String, Value>) -> Result<Self, String> {
        let mut members = self.to_members();
        merge(&mut members, patch);
        Settings::parse(members)
    }

    /// All of them by name.
    pub fn to_members(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(members)) => members,
            other => unreachable!("settings are a JSON object: {other:?}"),
        }
    }

    /// The same for people's eyes: without secrets.
    pub fn to_shown(&self) -> Map<String, Value> {
        let mut shown = self.clone();
        if let Some(callbacks) = &mut shown.callbacks
            && !callbacks.token.0.is_empty()
        {
            callbacks.token = Token("…".to_owned());
        }
        shown.to_members()
    }

    /// As they are stored.
    pub(crate) fn to_stored(&self) -> String {
        Value::Object(self.to_members()).to_string()
    }

    /// Reads them back. Settings that this program does not know were set by a newer one, and are left out.
    pub(crate) fn from_stored(stored: &str) -> Option<Self> {
        if stored.is_empty() { Some(Settings::default()) } else { serde_json::from_str(stored).ok() }
    }

    /// Refuses a body that is too long for this application.
    pub(crate) fn check_message_bytes(&self, bytes: usize) -> Result<(), Error> {
        let limit = self.message_bytes_max as usize;
        let fits = limit == 0 || bytes <= limit;
        if fits { Ok(()) } else { Err(Error::MessageTooLong { bytes, limit }) }
    }

    /// What is wrong with the values, in words for the operator.
    pub fn check(&self) -> Result<(), String> {
        if let Some((platform, _)) = self.instances.iter().find(|(_, count)| !(1..=100).contains(*count)) {
            let name = serde_json::to_value(platform).unwrap_or_default();
            return Err(format!("settings.instances.{} must be 1 to 100", name.as_str().unwrap_or_default()));
        }
        for (name, seconds) in [("recall_seconds", self.recall_seconds), ("edit_seconds", self.edit_seconds)] {
            if seconds > SECONDS_MAX {
                return Err(format!("settings.{name} must be at most {SECONDS_MAX}"));
            }
        }
        if let Some(admin) = self.admins.iter().find(|admin| UserId::new(admin).is_none()) {
            return Err(format!("settings.admins: {admin:?} must have 1 to 32 characters of printable ASCII"));
        }
        if self.sends_per_second > 0 && self.sends_burst == 0 {
            return Err("settings.sends_burst must be at least 1".to_owned());
        }
        let counts = [
            ("group_members_max.work", self.group_members_max.work, GROUP_MEMBERS_MAX),
            ("group_members_max.public", self.group_members_max.public, GROUP_MEMBERS_MAX),
            ("group_members_max.meeting", self.group_members_max.meeting, GROUP_MEMBERS_MAX),
            ("group_fanout_max", self.group_fanout_max, GROUP_FANOUT_MAX),
            ("groups_joined_max", self.groups_joined_max, GROUPS_OF_USER_MAX),
            ("groups_left_max", self.groups_left_max, GROUPS_OF_USER_MAX),
            ("groups_owned_max", self.groups_owned_max, GROUPS_OF_USER_MAX),
            ("friends_max", self.friends_max, FRIENDS_MAX),
            ("friend_lists_max", self.friend_lists_max, FRIEND_LISTS_MAX),
            ("friend_requests_max", self.friend_requests_max, FRIEND_REQUESTS_MAX),
        ];
        if let Some((name, _, max)) = counts.into_iter().find(|(_, count, max)| count > max) {
            return Err(format!("settings.{name} must be at most {max}"));
        }
        check_custom_fields("profile_custom_fields", profile::CUSTOM_PREFIX, &self.profile_custom_fields)?;
        check_custom_fields("friend_custom_fields", friends::CUSTOM_PREFIX, &self.friend_custom_fields)?;
        check_group_fields("group_custom_fields", &self.group_custom_fields)?;
        check_group_fields("group_member_custom_fields", &self.group_member_custom_fields)?;
        self.callbacks.as_ref().map_or(Ok(()), Callbacks::check)
    }
}

/// Names of custom fields of groups or their members: few, each once, a word.
fn check_group_fields(setting: &str, names: &[String]) -> Result<(), String> {
    if names.len() > GROUP_FIELDS_MAX {
        return Err(format!("settings.{setting} must name at most {GROUP_FIELDS_MAX} fields"));
    }
    for (index, name) in names.iter().enumerate() {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if !(1..=GROUP_FIELD_NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(is_word) {
            return Err(format!(
                "settings.{setting}: {name:?} must be 1 to {GROUP_FIELD_NAME_BYTES_MAX} letters, digits or underscores"
            ));
        }
        if names.iter().take(index).any(|other| other == name) {
            return Err(format!("settings.{setting}: {name:?} is named twice"));
        }
    }
    Ok(())
}

/// Names of custom fields: few, each once, a prefix and a word.
fn check_custom_fields(setting: &str, prefix: &str, names: &[String]) -> Result<(), String> {
    /// Longest word behind the prefix, in bytes.
    const WORD_BYTES_MAX: usize = 16;
    if names.len() > profile::CUSTOM_FIELDS_MAX {
        return Err(format!("settings.{setting} must name at most {} fields", profile::CUSTOM_FIELDS_MAX));
    }
    let is_word = |word: &str| {
        (1..=WORD_BYTES_MAX).contains(&word.len())
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    for (index, name) in names.iter().enumerate() {
        if !name.strip_prefix(prefix).is_some_and(is_word) {
            return Err(format!(
                "settings.{setting}: {name:?} must be {prefix} and 1 to {WORD_BYTES_MAX} letters, digits or underscores"
            ));
        }
        if names.iter().take(index).any(|other| other == name) {
            return Err(format!("settings.{setting}: {name:?} is named twice"));
        }
    }
    Ok(())
}

/// Changes members as RFC 7396 has it.
fn merge(members: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch {
        match (members.get_mut(name), value) {
            (_, Value::Null) => _ = members.remove(name),
            (Some(Value::Object(inner)), Value::Object(patch)) => merge(inner, patch),
            (_, Value::Object(patch)) => {
                let mut inner = Map::new();
                merge(&mut inner, patch);
                members.insert(name.clone(), Value::Object(inner));
            }
            (_, value) => _ = members.insert(name.clone(), value.clone()),
        }
    }
}

/// The path of the first member that was given and not taken.
fn unknown(given: &Value, taken: &Value) -> Option<String> {
    let (Value::Object(given), Value::Object(taken)) = (given, taken) else { return None };
    given.iter().find_map(|(name, value)| match taken.get(name) {
        None => Some(name.clone()),
        Some(taken) => unknown(value, taken).map(|inner| format!("{name}.{inner}")),
    })
}

/// Members that groups of a type may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct GroupMembersMax {
    pub work: u32,
    pub public: u32,
    pub meeting: u32,
}

impl Default for GroupMembersMax {
    fn default() -> Self {
        GroupMembersMax { work: 200, public: 200, meeting: 200 }
    }
}

/// Which platforms may be logged in beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoginPolicy {
    /// One of all.
    Single,
    /// One of the mobile and desktop platforms, and the web.
    Dual,
    /// One mobile platform, one desktop platform, and the web.
    Triple,
    /// Every platform.
    Multi,
}

/// A platform as it is named in settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum PlatformName {
    Android,
    Iphone,
    Ipad,
    Windows,
    Mac,
    Web,
    /// Linux, and whatever does not say what it is.
    Linux,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn members(value: Value) -> Map<String, Value> {
        let Value::Object(members) = value else { panic!("an object") };
        members
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (given, expected) in [
            (json!({"recal_seconds": 1}), "settings.recal_seconds is no setting; there are admins, "),
            (json!({"recall_seconds": "long"}), "settings.recall_seconds: invalid type: string \"long\", expected u64"),
            (json!({"recall_seconds": -1}), "settings.recall_seconds: invalid value"),
            (json!({"recall_seconds": u64::MAX}), "settings.recall_seconds must be at most "),
            (
                json!({"login_policy": "any"}),
                "settings.login_policy: unknown variant `any`, expected one of `single`, ",
            ),
            (json!({"instances": {"pager": 1}}), "settings.instances: unknown variant `pager`, expected one of "),
            (json!({"instances": {"web": 0}}), "settings.instances.web must be 1 to 100"),
            (json!({"sends_per_second": 1, "sends_burst": 0}), "settings.sends_burst must be at least 1"),
        ] {
            let error = Settings::parse(members(given)).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn con_06_callbacks_are_checked_and_their_token_is_not_shown() {
        let set = |patch: Value| Settings::default().patched(&members(json!({ "callbacks": patch })));
        for (given, expected) in [
            (json!({}), "settings.callbacks.url must be like https://"),
            (json!({"url": "ftp://here"}), "settings.callbacks.url must be like https://"),
            (json!({"url": "http://a b"}), "settings.callbacks.url must be like https://"),
            (json!({"url": "http://a", "tokn": ""}), "settings.callbacks.tokn is no setting"),
            (json!({"url": "http://a", "timeout_ms": 0}), "settings.callbacks.timeout_ms must be 1 to 10000"),
            (json!({"url": "http://a", "give_up_hours": 0}), "settings.callbacks.give_up_hours must be 1 to 720"),
            (json!({"url": "http://a", "on_timeout": "die"}), "settings.callbacks.on_timeout: unknown variant `die`"),
            (json!({"url": "http://a", "commands": ["C2C"]}), "settings.callbacks.commands[0]: unknown variant `C2C`"),
        ] {
            let error = set(given).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        let settings = set(json!({"url": "http://a", "token": "hush", "commands": ["State.StateChange"]})).unwrap();
        assert!(!format!("{settings:?} {:?}", settings.to_shown()).contains("hush"));
        assert_eq!(settings.patched(&members(json!({"callbacks": null}))).unwrap(), Settings::default());
    }

    #[test]
    fn a_patch_changes_what_it_names_and_null_is_the_default() {
        let patch = |settings: &Settings, patch| settings.patched(&members(patch));
        let first =
            patch(&Settings::default(), json!({"recall_seconds": 5, "instances": {"web": 3, "mac": 2}})).unwrap();
        let second = patch(&first, json!({"instances": {"mac": null, "ipad": 4}, "blacklist": false})).unwrap();
        assert_eq!((second.recall_seconds, second.blacklist), (5, false));
        assert_eq!(second.instances, BTreeMap::from([(PlatformName::Web, 3), (PlatformName::Ipad, 4)]));
        let third = patch(&second, json!({"instances": null, "recall_seconds": null, "blacklist": true})).unwrap();
        assert_eq!(third, Settings::default());
    }

    #[test]
    fn what_a_newer_program_has_set_is_left_out() {
        let settings = Settings { recall_seconds: 7, ..Settings::default() };
        let mut stored = settings.to_members();
        stored.insert("colour".into(), json!({"of": "the sky"}));
        assert_eq!(Settings::from_stored(&Value::Object(stored).to_string()), Some(settings));
        assert_eq!(Settings::from_stored(""), Some(Settings::default()));
        assert_eq!(Settings::from_stored("{"), None);
    }

    #[test]
    fn custom_fields_have_published_names_each_once() {
        let with = |names: &[&str]| Settings {
            friend_custom_fields: names.iter().map(ToString::to_string).collect(),
            ..Settings::default()
        };
        assert_eq!(with(&["Tag_SNS_Custom_A", "Tag_SNS_Custom_b_2"]).check(), Ok(()));
        let long = format!("Tag_SNS_Custom_{}", "x".repeat(17));
        for wrong in ["Color", "Tag_SNS_Custom_", "Tag_Profile_Custom_A", "Tag_SNS_Custom_a-b", &long] {
            assert!(with(&[wrong]).check().is_err(), "{wrong}");
        }
        assert!(with(&["Tag_SNS_Custom_A", "Tag_SNS_Custom_A"]).check().is_err());
        let many: Vec<String> = (0..21).map(|n| format!("Tag_SNS_Custom_{n}")).collect();
        assert!(Settings { friend_custom_fields: many, ..Settings::default() }.check().is_err());
        assert!(Settings { friends_max: 10_001, ..Settings::default() }.check().is_err());
    }
}
