//! Which devices of one user may be logged in beside each other (LOGIN-01 to LOGIN-05).
//!
//! Platforms share *slots*, and how depends on the application's policy; in a slot one platform is logged
//! in at a time, with as many devices as its instances allow. A pure function: the online table applies it.

use backend::domain::settings::{LoginPolicy, PlatformName, Settings};
use protocol::message::Platform;

/// Devices on one platform where the settings name no number.
const INSTANCES_DEFAULT: usize = 1;

/// A device, as far as the policy cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyDevice<'a> {
    /// What it runs on.
    pub platform: Platform,
    /// The client's name of the installation; empty: it has none.
    pub device: &'a str,
}

/// The platform that is counted: one that is not known counts as Linux.
pub fn counted(platform: Platform) -> Platform {
    if platform == Platform::Unknown { Platform::Linux } else { platform }
}

/// Which of a user's devices (by index, `older` in order of their logins) a login of `new` signs out.
pub fn signed_out(settings: &Settings, older: &[PolicyDevice<'_>], new: PolicyDevice<'_>) -> Vec<usize> {
    let platform = counted(new.platform);
    let slot = slot(settings.login_policy, platform);
    let mut out: Vec<usize> = Vec::new();
    let mut beside = Vec::new();
    for (index, device) in older.iter().enumerate() {
        let on = counted(device.platform);
        // The installation itself, come back: its older connection is most likely dead.
        let is_itself = on == platform && !new.device.is_empty() && device.device == new.device;
        if is_itself || (on != platform && self::slot(settings.login_policy, on) == slot) {
            out.push(index);
        } else if on == platform {
            beside.push(index);
        }
    }
    // With the new one there are as many as may be; the oldest make room.
    let too_many = (beside.len() + 1).saturating_sub(instances(settings, platform));
    out.extend(beside.into_iter().take(too_many));
    out.sort_unstable();
    out
}

/// Names the slot of a platform; platforms with the same number exclude each other.
fn slot(policy: LoginPolicy, platform: Platform) -> u8 {
    use Platform::{Android, Ipad, Iphone, Linux, Mac, Unknown, Web, Windows};
    const MOBILE: u8 = 0;
    const DESKTOP: u8 = 1;
    const WEB: u8 = 2;
    match (policy, platform) {
        (LoginPolicy::Single, _) => MOBILE,
        (LoginPolicy::Dual | LoginPolicy::Triple, Web) => WEB,
        (LoginPolicy::Dual, _) | (LoginPolicy::Triple, Android | Iphone | Ipad) => MOBILE,
        (LoginPolicy::Triple, Windows | Mac | Linux | Unknown) => DESKTOP,
        (LoginPolicy::Multi, platform) => platform as u8,
    }
}

fn instances(settings: &Settings, platform: Platform) -> usize {
    let name = match platform {
        Platform::Android => PlatformName::Android,
        Platform::Iphone => PlatformName::Iphone,
        Platform::Ipad => PlatformName::Ipad,
        Platform::Windows => PlatformName::Windows,
        Platform::Mac => PlatformName::Mac,
        Platform::Web => PlatformName::Web,
        Platform::Linux | Platform::Unknown => PlatformName::Linux,
    };
    settings.instances.get(&name).map_or(INSTANCES_DEFAULT, |&count| count as usize)
}

#[cfg(test)]
mod tests {
    use Platform::{Android, Ipad, Iphone, Linux, Mac, Unknown, Web, Windows};

    use super::*;

    const ALL: [Platform; 8] = [Android, Iphone, Ipad, Windows, Mac, Web, Linux, Unknown];

    fn policy(login_policy: LoginPolicy) -> Settings {
        Settings { login_policy, ..Settings::default() }
    }

    fn on(platform: Platform) -> PolicyDevice<'static> {
        PolicyDevice { platform, device: "" }
    }

    /// Every pair of platforms: a login on the second signs the first out exactly if both are named in one
    /// of `slots`.
    fn check_pairs(login_policy: LoginPolicy, slots: &[&[Platform]]) {
        for older in ALL {
            for newer in ALL {
                let same_slot = slots.iter().any(|slot| slot.contains(&older) && slot.contains(&newer));
                let out = signed_out(&policy(login_policy), &[on(older)], on(newer));
                assert_eq!(out == [0], same_slot, "{login_policy:?}: {older:?}, then {newer:?}");
                assert_eq!(out.is_empty(), !same_slot);
            }
        }
    }

    #[test]
    fn login_01_single_platform() {
        check_pairs(LoginPolicy::Single, &[&ALL]);
    }

    #[test]
    fn login_02_dual_platform_is_the_default() {
        assert_eq!(Settings::default().login_policy, LoginPolicy::Dual);
        check_pairs(LoginPolicy::Dual, &[&[Android, Iphone, Ipad, Windows, Mac, Linux, Unknown], &[Web]]);
    }

    #[test]
    fn login_03_triple_platform() {
        check_pairs(LoginPolicy::Triple, &[&[Android, Iphone, Ipad], &[Windows, Mac, Linux, Unknown], &[Web]]);
    }

    #[test]
    fn login_04_multi_platform() {
        check_pairs(
            LoginPolicy::Multi,
            &[&[Android], &[Iphone], &[Ipad], &[Windows], &[Mac], &[Web], &[Linux, Unknown]],
        );
    }

    #[test]
    fn login_05_instances_keep_the_newest_of_a_platform() {
        let mut settings = policy(LoginPolicy::Dual);
        settings.instances.insert(PlatformName::Android, 3);
        settings.instances.insert(PlatformName::Linux, 2);
        let out = |older: &[Platform], new| {
            let older: Vec<_> = older.iter().map(|&platform| on(platform)).collect();
            signed_out(&settings, &older, on(new))
        };
        assert!(out(&[Android, Android], Android).is_empty());
        assert_eq!(out(&[Android, Android, Android], Android), [0], "the oldest");
        assert_eq!(out(&[Android, Web, Android, Android, Android], Android), [0, 2], "a lowered number");
        assert_eq!(out(&[Android, Web, Android], Iphone), [0, 2], "another platform of the slot ends all");
        assert_eq!(out(&[Web, Android], Web), [0], "one where no number is set");
        assert!(out(&[Unknown], Linux).is_empty(), "both count as Linux, of which two may be");
        assert_eq!(out(&[Unknown, Linux], Unknown), [0]);
    }

    #[test]
    fn login_05_the_same_installation_replaces_itself_alone() {
        let mut settings = policy(LoginPolicy::Multi);
        settings.instances.insert(PlatformName::Android, 10);
        let device = |platform, device| PolicyDevice { platform, device };
        let older = [device(Android, "a"), device(Android, "b"), device(Iphone, "b"), device(Android, "")];
        assert_eq!(signed_out(&settings, &older, device(Android, "b")), [1]);
        assert!(signed_out(&settings, &older, device(Android, "c")).is_empty());
        assert!(signed_out(&settings, &older, device(Android, "")).is_empty(), "without a name it is nobody's");
        settings.instances.insert(PlatformName::Android, 3);
        assert_eq!(signed_out(&settings, &older, device(Android, "b")), [1], "that made the room");
        assert_eq!(signed_out(&settings, &older, device(Android, "c")), [0]);
    }
}
