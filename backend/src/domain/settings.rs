//! What an operator sets for one application. Kept with the application in the store; read from the
//! `settings` object of its file at start.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Error, UserId, friends, profile};

/// Greatest numbers that may be set: what one user has must stay small enough to be looked through.
const FRIENDS_MAX: u32 = 10_000;
const FRIEND_LISTS_MAX: u32 = 100;
const FRIEND_REQUESTS_MAX: u32 = 1_000;

/// Longest time setting, in seconds: a hundred years.
const SECONDS_MAX: u64 = 100 * 366 * 86_400;

/// Settings of an application. Every field has a default; the names are those of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
            message_bytes_max: 0,
            admins: vec!["administrator".to_owned()],
            friends_max: 3_000,
            friend_lists_max: 32,
            friend_requests_max: 100,
            profile_custom_fields: Vec::new(),
            friend_custom_fields: Vec::new(),
        }
    }
}

impl Settings {
    /// Refuses a body that is too long for this application.
    pub(crate) fn check_message_bytes(&self, bytes: usize) -> Result<(), Error> {
        let limit = self.message_bytes_max as usize;
        let fits = limit == 0 || bytes <= limit;
        if fits { Ok(()) } else { Err(Error::MessageTooLong { bytes, limit }) }
    }

    /// What is wrong with the values, in words for the operator.
    pub fn check(&self) -> Result<(), String> {
        if let Some((platform, _)) = self.instances.iter().find(|(_, count)| !(1..=100).contains(*count)) {
            return Err(format!("settings.instances: {platform:?} must be 1 to 100"));
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
            ("friends_max", self.friends_max, FRIENDS_MAX),
            ("friend_lists_max", self.friend_lists_max, FRIEND_LISTS_MAX),
            ("friend_requests_max", self.friend_requests_max, FRIEND_REQUESTS_MAX),
        ];
        if let Some((name, _, max)) = counts.into_iter().find(|(_, count, max)| count > max) {
            return Err(format!("settings.{name} must be at most {max}"));
        }
        check_custom_fields("profile_custom_fields", profile::CUSTOM_PREFIX, &self.profile_custom_fields)?;
        check_custom_fields("friend_custom_fields", friends::CUSTOM_PREFIX, &self.friend_custom_fields)
    }
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
    use super::*;

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
