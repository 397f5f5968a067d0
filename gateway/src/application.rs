//! The application file: an SDKAppID and its secret, as operators hand it to the gateway.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context as _, ensure};
use backend::domain::settings::Settings;
use serde::{Deserialize, Serialize};

/// Number of the development application.
pub const DEVELOPMENT_SDKAPPID: u32 = 1_400_000_001;

/// Bytes of randomness in a generated secret.
const SECRET_BYTES: usize = 32;

/// An application as in its file. The secret never goes into a log: there is no `Debug`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// The application's number.
    pub sdkappid: u32,
    /// The key that UserSigs are signed with.
    pub secret: String,
    /// Made by a development start: a production start refuses it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub development: bool,
    /// What the operator sets for it; what is left out has its default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub settings: Settings,
}

fn is_default(settings: &Settings) -> bool {
    *settings == Settings::default()
}

impl Application {
    /// An application with a fresh secret: hexadecimal, as the hosted original's are.
    pub fn generate(sdkappid: u32, development: bool) -> anyhow::Result<Self> {
        let mut random = [0u8; SECRET_BYTES];
        getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no randomness for a secret: {error}"))?;
        let secret = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Application { sdkappid, secret, development, settings: Settings::default() })
    }

    /// Reads and checks a file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let at = || format!("app.file {}", path.display());
        ensure_private(path).with_context(at)?;
        let text = fs::read_to_string(path).with_context(at)?;
        // The parser's message is not shown: it may quote the secret.
        let application: Application = serde_json::from_str(&text)
            .map_err(|error| {
                anyhow::anyhow!(
                    "line {}: must be JSON like {{\"sdkappid\": 1400000001, \"secret\": \"…\"}}",
                    error.line()
                )
            })
            .with_context(at)?;
        ensure!(application.sdkappid != 0, "{}: sdkappid must not be 0", at());
        application.settings.check().map_err(|wrong| anyhow::anyhow!("{}: {wrong}", at()))?;
        ensure!(application.secret.len() >= 16, "{}: secret must have at least 16 characters", at());
        Ok(application)
    }
}

/// Refuses a file with a secret that others can read.
pub fn ensure_private(path: &Path) -> anyhow::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    ensure!(mode & 0o077 == 0, "mode is {mode:04o}, so others can read the secret: chmod 600 {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::development::write_secret;

    #[test]
    fn what_is_generated_can_be_read_and_what_is_wrong_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.json");
        let generated = Application::generate(7, false).unwrap();
        write_secret(&path, serde_json::to_string(&generated).unwrap().as_bytes()).unwrap();
        assert_eq!(Application::read(&path).unwrap().secret, generated.secret);

        for (content, expected) in [
            ("{}", "must be JSON"),
            (r#"{"sdkappid":0,"secret":"0123456789abcdef"}"#, "must not be 0"),
            (r#"{"sdkappid":1,"secret":"short"}"#, "at least 16"),
        ] {
            write_secret(&path, content.as_bytes()).unwrap();
            let error = format!("{:#}", Application::read(&path).err().unwrap());
            assert!(error.contains(expected), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(format!("{:#}", Application::read(&path).err().unwrap()).contains("chmod 600"));
    }

    #[test]
    fn the_readme_has_every_setting_with_its_default() {
        let serde_json::Value::Object(settings) = serde_json::to_value(Settings::default()).unwrap() else { panic!() };
        let readme = include_str!("../../README.md");
        for (name, default) in settings {
            let row = format!("| `{name}` | `{default}` | ");
            assert!(readme.contains(&row), "{row}");
        }
    }
}
