//! The gateway: accepts clients, and carries what they ask to the backend and back.
//!
//! - [`service`]: start, run, stop. [`config`], [`limits`], [`development`], [`application`]: what a start needs.
//! - [`shard`]: one core with its connections. [`mailbox`], [`router`]: between cores.
//! - [`tls`]: one connection's TLS. [`admin`], [`metrics`]: for operators. [`errors`]: codes for clients.
//!
//! What may not live here: what an IM is (that is `backend::domain`).

mod admin;
mod application;
mod config;
mod development;
mod errors;
mod limits;
mod mailbox;
mod metrics;
mod router;
mod service;
mod shard;
mod shared;
mod tls;

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc,
};

use clap::{Arg, ArgMatches, Command};

use crate::{
    application::Application,
    config::{CONFIG_FILE_VARIABLE, Config, ConfigError, KEYS, Values, environment_name, flag_name},
    service::Signal,
};

// glibc's allocator keeps memory after mass disconnects.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let matches = command_line().get_matches();
    let result = match matches.subcommand() {
        Some(("config", _)) => {
            print!("{}", config::template());
            Ok(())
        }
        Some(("app-file", arguments)) => make_application_file(arguments),
        _ => configuration(&matches).map_err(anyhow::Error::from).and_then(start),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command_line() -> Command {
    let keys = KEYS.iter().map(|key| {
        let default = if key.default.is_empty() { "none" } else { key.default };
        Arg::new(key.name).long(flag_name(key.name)).value_name("VALUE").help(format!(
            "{} [default: {default}] [env: {}]",
            key.meaning,
            environment_name(key.name)
        ))
    });
    Command::new("gateway")
        .about("The gateway of a self-hosted instant-messaging service")
        .version(env!("CARGO_PKG_VERSION"))
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .env(CONFIG_FILE_VARIABLE)
                .help("Configuration file; `gateway config` prints one with every key explained"),
        )
        .args(keys)
        .subcommand(Command::new("config").about("Print a configuration file with every key, its default and meaning"))
        .subcommand(
            Command::new("app-file")
                .about("Make an application file with a fresh secret")
                .arg(Arg::new("path").required(true).value_name("PATH").help("File to write; must not exist"))
                .arg(
                    Arg::new("sdkappid")
                        .long("sdkappid")
                        .default_value("1400000002")
                        .value_parser(clap::value_parser!(u32).range(1..))
                        .help("The application's number"),
                ),
        )
}

fn configuration(matches: &ArgMatches) -> Result<Config, ConfigError> {
    let mut values = Values::default();
    if let Some(path) = matches.get_one::<String>("config") {
        values.read_file(Path::new(path))?;
    }
    values.read_environment(std::env::vars_os())?;
    for key in KEYS {
        if let Some(value) = matches.get_one::<String>(key.name) {
            values.set(key.name, value.clone())?;
        }
    }
    values.check()
}

fn start(config: Config) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log).map_err(|error| {
        anyhow::anyhow!("log is \"{}\", but must be a level or a tracing filter: {error}", config.log)
    })?;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    service::run(config, signals()?)
}

/// SIGTERM and SIGINT stop, SIGHUP reloads.
fn signals() -> anyhow::Result<mpsc::Receiver<Signal>> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let (sender, receiver) = mpsc::channel();
    let mut arriving = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in arriving.forever() {
            let told = sender.send(if signal == SIGHUP { Signal::Reload } else { Signal::Stop });
            if told.is_err() {
                break;
            }
        }
    })?;
    Ok(receiver)
}

fn make_application_file(arguments: &ArgMatches) -> anyhow::Result<()> {
    let path = arguments.get_one::<String>("path").map(PathBuf::from).unwrap_or_default();
    anyhow::ensure!(!path.exists(), "{} exists; an application's secret is not overwritten", path.display());
    let sdkappid = arguments.get_one::<u32>("sdkappid").copied().unwrap_or_default();
    let application = Application::generate(sdkappid, false)?;
    development::write_secret(&path, serde_json::to_string_pretty(&application)?.as_bytes())?;
    println!("{}: application {sdkappid} with a fresh secret. Start the gateway with --app-file {0}", path.display());
    Ok(())
}
