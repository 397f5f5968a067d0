//! `gateway app …`: applications, beside a running gateway or on a store that none has open.

use std::{
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, anyhow, bail, ensure};
use backend::env::{Clock, SystemClock};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value};

use crate::{
    application,
    config::{Config, StoreEngine},
    control::{self, NewNamed, Wish},
    store_tool,
};

/// For how long the key before a new one stays good if nothing is said.
const PREVIOUS_KEY_DAYS: u64 = 7;

/// The commands; `store` are the arguments that say where the store is.
pub fn command(store: &[Arg]) -> Command {
    let sdkappid = Arg::new("sdkappid")
        .required(true)
        .value_name("SDKAPPID")
        .value_parser(clap::value_parser!(u32).range(1..))
        .help("The application's number");
    let settings = Arg::new("settings")
        .value_name("NAME=VALUE")
        .num_args(0..)
        .help("Settings: recall_seconds=300, instances.web=3; a value is JSON, or else text; NAME=null is the default");
    let secret = Arg::new("secret").long("secret").action(ArgAction::SetTrue).help("Print its keys, too");
    let secret_file = Arg::new("secret-file")
        .long("secret-file")
        .value_name("FILE")
        .help("A file with the key that it has elsewhere, not readable by others; without one it gets a fresh key");
    let until = Arg::new("previous-until").long("previous-until").value_name("DATE").help(format!(
        "Until when the key before stays good: 2026-01-31 (the day's first moment, UTC), 2026-01-31T12:00:00Z, or \
         now; {PREVIOUS_KEY_DAYS} days if nothing is said"
    ));
    let drop_previous = Arg::new("drop-previous")
        .long("drop-previous")
        .action(ArgAction::SetTrue)
        .help("End the key before the present one, if it is still good: two can be good at a time");
    let all_data = Arg::new("with-all-data")
        .long("with-all-data")
        .action(ArgAction::SetTrue)
        .help("Say that its accounts, messages and everything else of it are to be removed for ever");
    let command = |name, about| Command::new(name).about(about).args(store);
    Command::new("app")
        .about("List, create, change and delete applications, beside a running gateway or without one")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(command("list", "List the applications, one line of JSON each"))
        .subcommand(command("show", "Show an application with all of its settings").args([sdkappid.clone(), secret]))
        .subcommand(command("create", "Create an application, and print its key").args([
            sdkappid.clone(),
            settings.clone(),
            secret_file,
        ]))
        .subcommand(
            command("set", "Change settings of an application; they hold at once, on every node")
                .args([sdkappid.clone(), settings.required(true).num_args(1..)]),
        )
        .subcommand(command("rotate-key", "Give an application a fresh key, and print it").args([
            sdkappid.clone(),
            until,
            drop_previous,
        ]))
        .subcommand(command("delete", "Delete an application with all of its data").args([sdkappid, all_data]))
}

/// Carries a command out, and prints what came of it.
pub fn run(name: &str, arguments: &ArgMatches, config: &Config) -> anyhow::Result<()> {
    let wish = wish(name, arguments)?;
    let is_list = matches!(wish, Wish::List);
    let answer = carry_out(config, wish)?;
    match answer {
        Value::Array(lines) if is_list => lines.iter().for_each(|line| println!("{line}")),
        answer => println!("{answer:#}"),
    }
    Ok(())
}

fn wish(name: &str, arguments: &ArgMatches) -> anyhow::Result<Wish> {
    let flag = |name| arguments.get_flag(name);
    let sdkappid = || arguments.get_one::<u32>("sdkappid").copied().unwrap_or_default();
    Ok(match name {
        "list" => Wish::List,
        "show" => Wish::Show { sdkappid: sdkappid(), secret: flag("secret") },
        "create" => {
            let secret = arguments.get_one::<String>("secret-file").map(|path| read_secret(Path::new(path)));
            Wish::Create(NewNamed { sdkappid: sdkappid(), secret: secret.transpose()?, settings: settings(arguments)? })
        }
        "set" => Wish::Set { sdkappid: sdkappid(), settings: settings(arguments)? },
        "rotate-key" => Wish::RotateKey {
            sdkappid: sdkappid(),
            previous_until_s: until_s(arguments.get_one::<String>("previous-until").map(String::as_str))?,
            drop_previous: flag("drop-previous"),
        },
        "delete" => {
            ensure!(
                flag("with-all-data"),
                "this removes all accounts, messages and everything else of application {0} for ever. If that is what \
                 you want: gateway app delete {0} --with-all-data",
                sdkappid()
            );
            Wish::Delete { sdkappid: sdkappid() }
        }
        other => bail!("no such command: {other}"),
    })
}

/// Through the running gateway, if it has the store for itself; else on the store.
fn carry_out(config: &Config, wish: Wish) -> anyhow::Result<Value> {
    if config.store_engine == StoreEngine::Embedded
        && let Some(answer) = control::ask(&config.store_path, &wish)?
    {
        return Ok(answer);
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let store = store_tool::open(config)?;
    let answer = control::carry_out(&store, &clock, wish);
    store.shutdown();
    answer
}

fn read_secret(path: &Path) -> anyhow::Result<String> {
    let at = || format!("--secret-file {}", path.display());
    application::ensure_private(path).with_context(at)?;
    Ok(std::fs::read_to_string(path).with_context(at)?.trim().to_owned())
}

/// `a.b=1` becomes `{"a": {"b": 1}}`.
fn settings(arguments: &ArgMatches) -> anyhow::Result<Map<String, Value>> {
    let mut settings = Map::new();
    for given in arguments.get_many::<String>("settings").into_iter().flatten() {
        let (name, value) =
            given.split_once('=').with_context(|| format!("{given}: must be NAME=VALUE, like recall_seconds=300"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        let mut inner = &mut settings;
        let mut names = name.split('.').peekable();
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                inner.insert(name.to_owned(), value);
                break;
            }
            let member = inner.entry(name).or_insert_with(|| Value::Object(Map::new()));
            inner =
                member.as_object_mut().with_context(|| format!("{given}: {name} was given another value before"))?;
        }
    }
    Ok(settings)
}

/// Seconds since the Unix epoch.
fn until_s(date: Option<&str>) -> anyhow::Result<u64> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let text = match date {
        None => return Ok(now_s + PREVIOUS_KEY_DAYS * 86_400),
        Some("now") => return Ok(now_s),
        Some(date) if date.contains('T') => date.to_owned(),
        Some(day) => format!("{day}T00:00:00Z"),
    };
    let parsed = time::OffsetDateTime::parse(&text, &time::format_description::well_known::Rfc3339);
    let wrong =
        || anyhow!("--previous-until {}: must be like 2026-01-31 or 2026-01-31T12:00:00Z, or now", date.unwrap_or(""));
    let until_s = parsed.ok().and_then(|time| u64::try_from(time.unix_timestamp()).ok()).with_context(wrong)?;
    ensure!(until_s > now_s, "--previous-until {text} has passed; to end the key before at once: --previous-until now");
    Ok(until_s)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(arguments: &[&str]) -> anyhow::Result<Wish> {
        let matches = command(&[]).try_get_matches_from(arguments)?;
        let (name, arguments) = matches.subcommand().context("a command")?;
        wish(name, arguments)
    }

    #[test]
    fn settings_are_json_or_text_and_may_have_a_path() {
        let wish = parse(&[
            "app",
            "set",
            "7",
            "login_policy=multi",
            "recall_seconds=5",
            "instances.web=3",
            "instances.mac=null",
        ]);
        let Wish::Set { sdkappid: 7, settings } = wish.unwrap() else { panic!("a change") };
        let expected = json!({"login_policy": "multi", "recall_seconds": 5, "instances": {"web": 3, "mac": null}});
        assert_eq!(Value::Object(settings), expected);
        for (arguments, expected) in [
            (&["app", "set", "7", "recall_seconds"][..], "must be NAME=VALUE"),
            (&["app", "set", "7", "a=1", "a.b=2"], "was given another value"),
            (&["app", "delete", "7"], "gateway app delete 7 --with-all-data"),
            (&["app", "rotate-key", "7", "--previous-until", "soon"], "must be like 2026-01-31"),
            (&["app", "rotate-key", "7", "--previous-until", "2001-01-31"], "has passed"),
        ] {
            let error = parse(arguments).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn dates_are_days_or_moments() {
        assert_eq!(until_s(Some("2100-01-01")).unwrap(), 4_102_444_800);
        assert_eq!(until_s(Some("2100-01-01T01:00:00+01:00")).unwrap(), 4_102_444_800);
        assert_eq!(control::date(4_102_444_800), "2100-01-01T00:00:00Z");
    }
}
