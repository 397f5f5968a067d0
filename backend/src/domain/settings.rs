//! What an operator sets for one application. Kept with the application in the store; read from the
//! `settings` object of its file at start.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Error, UserId};

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
    /// Messages one user may send each second, over all devices, on average; 0: without limit.
    pub sends_per_second: u32,
    /// Messages one user may send at once before that limit holds.
    pub sends_burst: u32,
    /// Longest message body, in bytes; 0: as long as the server allows.
    pub message_bytes_max: u32,
    /// Who may use the server API; they need not exist as accounts (CON-10).
    pub admins: Vec<String>,
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
        Ok(())
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
