//! The application file: SDKAppIDs and their secrets, as operators hand them to the gateway; one
//! application, or a list of them.

use std::{collections::HashSet, fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context as _, anyhow, ensure};
use backend::domain::{
    applications::{NewApplication, SECRET_CHARS_MIN},
    settings::Settings,
};
use serde_json::{Map, Value, json};

/// Number of the development application.
pub const DEVELOPMENT_SDKAPPID: u32 = 1_400_000_001;

/// Bytes of randomness in a generated secret.
const SECRET_BYTES: usize = 32;

/// What an application in a file may say.
const MEMBERS: [&str; 4] = ["sdkappid", "secret", "development", "settings"];

/// A fresh key: hexadecimal, as the hosted original's are.
pub fn generate_secret() -> anyhow::Result<String> {
    let mut random = [0u8; SECRET_BYTES];
    getrandom::fill(&mut random).map_err(|error| anyhow!("no randomness for a secret: {error}"))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// An application with a fresh key.
pub fn generate(sdkappid: u32, development: bool) -> anyhow::Result<NewApplication> {
    Ok(NewApplication { development, ..NewApplication::new(sdkappid, &generate_secret()?) })
}

/// An application as it stands in a file.
pub fn to_json(application: &NewApplication) -> Value {
    let NewApplication { app, secret, development, settings } = application;
    let mut json = json!({ "sdkappid": app, "secret": secret });
    if *development {
        json["development"] = true.into();
    }
    if *settings != Settings::default() {
        json["settings"] = settings.to_members().into();
    }
    json
}

/// Reads and checks a file.
pub fn read(path: &Path) -> anyhow::Result<Vec<NewApplication>> {
    let at = || format!("app.file {}", path.display());
    ensure_private(path).with_context(at)?;
    let text = fs::read_to_string(path).with_context(at)?;
    parse(&text).with_context(at)
}

fn parse(text: &str) -> anyhow::Result<Vec<NewApplication>> {
    const EXAMPLE: &str = "{\"sdkappid\": 1400000001, \"secret\": \"…\"}, or a list of such";
    // The parser's message is not shown: it may quote the secret.
    let json: Value =
        serde_json::from_str(text).map_err(|error| anyhow!("line {}: must be JSON like {EXAMPLE}", error.line()))?;
    let applications: Vec<NewApplication> = match json {
        Value::Object(one) => vec![application(one)?],
        Value::Array(list) => list
            .into_iter()
            .zip(1..)
            .map(|(one, number)| match one {
                Value::Object(one) => application(one).with_context(|| format!("application {number} of the list")),
                _ => Err(anyhow!("application {number} of the list must be like {EXAMPLE}")),
            })
            .collect::<Result<_, _>>()?,
        _ => return Err(anyhow!("must be JSON like {EXAMPLE}")),
    };
    ensure!(!applications.is_empty(), "the list is empty, so there is nothing to serve: must be {EXAMPLE}");
    let mut seen = HashSet::new();
    for NewApplication { app, .. } in &applications {
        ensure!(seen.insert(app), "sdkappid {app} is there twice");
    }
    Ok(applications)
}

fn application(mut members: Map<String, Value>) -> anyhow::Result<NewApplication> {
    if let Some(unknown) = members.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
        return Err(anyhow!("{unknown} is not known here; there are {}", MEMBERS.join(", ")));
    }
    let app = members.get("sdkappid").and_then(Value::as_u64).and_then(|number| number.try_into().ok());
    let secret = members.get("secret").and_then(Value::as_str).map(str::to_owned);
    let development = match members.get("development") {
        None => false,
        Some(is) => is.as_bool().context("development must be true or false")?,
    };
    let settings = match members.remove("settings") {
        None => Settings::default(),
        Some(Value::Object(settings)) => Settings::parse(settings).map_err(anyhow::Error::msg)?,
        Some(_) => return Err(anyhow!("settings must be an object like {{\"recall_seconds\": 120}}")),
    };
    let application = NewApplication {
        app: app.with_context(|| format!("sdkappid must be a number from 1 to {}", u32::MAX))?,
        secret: secret.with_context(|| format!("secret must be a text of at least {SECRET_CHARS_MIN} characters"))?,
        development,
        settings,
    };
    application.check()?;
    Ok(application)
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
        let generated = generate(7, true).unwrap();
        write_secret(&path, to_json(&generated).to_string().as_bytes()).unwrap();
        let [found] = &read(&path).unwrap()[..] else { panic!("one") };
        assert_eq!((found.app, &found.secret, found.development), (7, &generated.secret, true));

        let good = r#"{"sdkappid":1,"secret":"0123456789abcdef"}"#;
        for (content, expected) in [
            ("{".to_owned(), "line 1: must be JSON"),
            ("7".to_owned(), "must be JSON"),
            ("[]".to_owned(), "the list is empty"),
            ("[7]".to_owned(), "application 1 of the list must be like"),
            ("{}".to_owned(), "sdkappid must be a number"),
            (good.replace('1', "0"), "sdkappid must not be 0"),
            (good.replace("89abcdef", ""), "at least 16"),
            (good.replace("secret", "key"), "key is not known here; there are sdkappid, secret"),
            (format!("[{good}, {good}]"), "sdkappid 1 is there twice"),
            (good.replace('}', r#","settings":{"recall":1}}"#), "settings.recall is no setting; there are"),
            (good.replace('}', r#","settings":[]}"#), "settings must be an object"),
            (format!(r#"[{good}, {{"sdkappid":-2}}]"#), "application 2 of the list: sdkappid must be"),
        ] {
            write_secret(&path, content.as_bytes()).unwrap();
            let error = format!("{:#}", read(&path).err().unwrap());
            assert!(error.contains(expected), "{error}");
        }
        write_secret(&path, format!("[{good}, {}]", good.replacen('1', "2", 1)).as_bytes()).unwrap();
        assert_eq!(read(&path).unwrap().iter().map(|one| one.app).collect::<Vec<_>>(), [1, 2]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(format!("{:#}", read(&path).err().unwrap()).contains("chmod 600"));
    }

    #[test]
    fn the_readme_has_every_setting_with_its_default() {
        let readme = include_str!("../../README.md");
        for (name, default) in Settings::default().to_members() {
            let row = format!("| `{name}` | `{default}` | ");
            assert!(readme.contains(&row), "{row}");
        }
    }
}
