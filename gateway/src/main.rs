//! The gateway: accepts clients, and carries what they ask to the backend and back.
//!
//! - [`service`]: start, run, stop. [`config`], [`limits`], [`development`], [`application`]: what a start needs.
//! - [`shard`]: one core with its connections. [`mailbox`], [`router`], [`homes`]: between cores.
//! - [`api`]: the server API, on threads of its own, over [`https`]. [`places`]: for connections, so many for each who comes.
//! - [`geo`]: where clients should connect.
//! - [`present`]: who of a group is there. [`rooms`]: who is in live rooms. [`policy`]: which devices exclude each other.
//! - [`announcer`]: tells announcements to the users of this node.
//! - [`applications`]: their settings as this process knows them. [`control`]: what operators ask of a
//!   running one. [`app_tool`]: `gateway app`.
//! - [`callbacks`]: applications' own servers are asked and told.
//! - [`figures`]: counts what applications' figures are made of.
//! - [`store_tool`]: `gateway store`, for operators.
//! - [`peers`]: links between cores. [`link_tls`]: TLS between nodes. [`node_certs`]: `gateway node-certs`, for trying it out.
//! - [`tls`]: one connection's TLS. [`admin`], [`metrics`]: for operators. [`errors`]: codes for clients.
//!
//! What may not live here: what an IM is (that is `backend::domain`).

mod admin;
mod announcer;
mod api;
mod app_tool;
mod application;
mod applications;
mod callbacks;
mod cluster;
mod config;
mod control;
mod development;
mod edge;
mod edge_link;
mod edges;
mod errors;
mod figures;
mod geo;
mod homes;
mod https;
mod limits;
mod link_tls;
mod mailbox;
mod metrics;
mod node_certs;
mod nodes;
mod peers;
mod places;
mod policy;
mod present;
mod recent;
mod rooms;
mod rotation;
mod router;
mod service;
mod shard;
mod shared;
mod store_tool;
mod tickets;
mod tls;

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc,
};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;

use crate::{
    config::{CONFIG_FILE_VARIABLE, Config, ConfigError, Values, environment_name, flag_name, keys, short_flags},
    control::Wish,
    geo::explain,
    service::Signal,
};

// glibc's allocator keeps memory after mass disconnects.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(&command_line().get_matches()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    match matches.subcommand() {
        Some(("config", _)) => print!("{}", config::template()),
        Some(("api", _)) => print!("{}", api::table::document()),
        Some(("groups", _)) => print!("{}", backend::domain::groups::document::table()),
        Some(("app-file", arguments)) => make_application_file(arguments)?,
        Some(("app", arguments)) => {
            if let Some((name, arguments)) = arguments.subcommand() {
                app_tool::run(name, arguments, &configuration(arguments)?)?;
            }
        }
        Some(("locate", arguments)) => print!("{}", explain_locating(arguments)?),
        Some(("world", arguments)) => {
            let seed = arguments.get_one::<u64>("seed").copied().unwrap_or_default();
            print!("{}", geo::world::report(seed, &configuration(arguments)?.geo));
        }
        Some(("node-certs", arguments)) => node_certs::run(arguments)?,
        Some(("store", arguments)) => return look_at_store(arguments),
        _ => start(configuration(matches)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn look_at_store(arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
    match arguments.subcommand() {
        Some(("check", arguments)) => match store_tool::check(&configuration(arguments)?)? {
            true => Ok(ExitCode::SUCCESS),
            false => Ok(ExitCode::FAILURE),
        },
        Some(("restored", arguments)) => store_tool::restored(&configuration(arguments)?).map(|()| ExitCode::SUCCESS),
        Some((_, arguments)) => store_tool::stats(&configuration(arguments)?).map(|()| ExitCode::SUCCESS),
        None => Ok(ExitCode::FAILURE), // clap asks for one
    }
}

fn command_line() -> Command {
    Command::new("gateway")
        .about("The gateway of a self-hosted instant-messaging service")
        .version(env!("CARGO_PKG_VERSION"))
        .args(configuration_arguments(|_| true))
        .subcommand(Command::new("config").about("Print a configuration file with every key, its default and meaning"))
        .subcommand(Command::new("api").about("Print what the server API serves (API.md)"))
        .subcommand(Command::new("groups").about("Print what each type of group allows (the table in GROUPS.md)"))
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
        .subcommand(
            Command::new("locate")
                .about("Explain, term by term, where a client with an address is told to connect")
                .arg(
                    Arg::new("ip")
                        .long("ip")
                        .required_unless_present("regions")
                        .value_parser(clap::value_parser!(std::net::IpAddr))
                        .help("The client's address"),
                )
                .arg(Arg::new("current").long("current").value_name("ID").help("The access point where it is"))
                .arg(
                    Arg::new("failed")
                        .long("failed")
                        .value_name("ID")
                        .action(ArgAction::Append)
                        .help("An access point to be taken as out of order; may be given more than once"),
                )
                .arg(
                    Arg::new("regions")
                        .long("regions")
                        .action(ArgAction::SetTrue)
                        .help("Print the regions there are: id, country, coordinates, name"),
                )
                .args(configuration_arguments(is_locate_key)),
        )
        .subcommand(
            Command::new("world")
                .about("Simulate users all over the world and say how well they are told where to connect")
                .arg(
                    Arg::new("seed")
                        .long("seed")
                        .default_value("1")
                        .value_parser(clap::value_parser!(u64))
                        .help("The same number makes the same world"),
                )
                .args(configuration_arguments(is_geo_key)),
        )
        .subcommand(node_certs::command())
        .subcommand(app_tool::command(&configuration_arguments(is_store_key)))
        .subcommand(
            Command::new("store")
                .about("Look at a store that no gateway has open, or say that it was put back from a copy")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(
                    Command::new("check")
                        .about(
                            "Check that everything stored is sound: one line a problem, exit status 1 if there is one",
                        )
                        .args(configuration_arguments(is_store_key)),
                )
                .subcommand(
                    Command::new("stats")
                        .about("Count what is stored, by application, and what it takes on the disk")
                        .args(configuration_arguments(is_store_key)),
                )
                .subcommand(
                    Command::new("restored")
                        .about("Say that the store was put back from a copy, so that devices that have seen more start over")
                        .args(configuration_arguments(is_store_key)),
                ),
        )
}

/// What `gateway locate` was asked.
fn explain_locating(arguments: &ArgMatches) -> anyhow::Result<String> {
    let Config { geo: config, store_path, .. } = configuration(arguments)?;
    let Some(&ip) = arguments.get_one::<std::net::IpAddr>("ip") else {
        return Ok(explain::regions(&config.regions));
    };
    let current = arguments.get_one::<String>("current").cloned().unwrap_or_default();
    let failed = arguments.get_many::<String>("failed").unwrap_or_default().cloned().collect();
    let question = explain::Question { ip, current, failed };
    let wish = Wish::Locate { question: question.clone(), configured: explain::configured(&config) };
    let why = match control::ask(&store_path, &wish) {
        Ok(Some(Value::String(text))) => return Ok(text + "As the gateway decides that runs here, at this moment.\n"),
        Ok(_) => format!("none runs with its store.path at {}", store_path.display()),
        Err(error) => format!("{error:#}"),
    };
    explain::from_configuration(&config, &question, &why)
}

fn is_geo_key(name: &str) -> bool {
    name.starts_with("geo.")
}

/// A gateway that runs is found by its data folder.
fn is_locate_key(name: &str) -> bool {
    is_geo_key(name) || name == "store.path"
}

fn is_store_key(name: &str) -> bool {
    name.starts_with("store.")
}

/// The configuration file, and the flags of the keys that are `wanted`.
fn configuration_arguments(wanted: fn(&str) -> bool) -> Vec<Arg> {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .env(CONFIG_FILE_VARIABLE)
        .help("Configuration file; `gateway config` prints one with every key explained");
    let keys = keys().filter(|key| wanted(key.name)).map(|key| {
        let default = if key.default.is_empty() { "none" } else { key.default };
        let arg = Arg::new(key.name).long(flag_name(key.name)).visible_aliases(short_flags(key.name));
        arg.value_name("VALUE").help(format!(
            "{} [default: {default}] [env: {}]",
            key.meaning,
            environment_name(key.name)
        ))
    });
    std::iter::once(file).chain(keys).collect()
}

fn configuration(matches: &ArgMatches) -> Result<Config, ConfigError> {
    let mut values = Values::default();
    if let Some(path) = matches.get_one::<String>("config") {
        values.read_file(Path::new(path))?;
    }
    values.read_environment(std::env::vars_os())?;
    for key in keys() {
        // A subcommand has some of them.
        if let Ok(Some(value)) = matches.try_get_one::<String>(key.name) {
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
    let application = application::to_json(&application::generate(sdkappid, false)?);
    development::write_secret(&path, format!("{application:#}\n").as_bytes())?;
    println!("{}: application {sdkappid} with a fresh secret. Start the gateway with --app-file {0}", path.display());
    Ok(())
}
