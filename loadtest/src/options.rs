//! The command line, and what it needs from disk: the application's key and the server's certificate.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use rustls_pki_types::ServerName;
use serde::Deserialize;

/// Messages a second that `sync`, `reconnect`, `push` and `group` send if nothing else is asked for.
const BACKGROUND_RATE: u64 = 1_000;
/// The same for `room`: what one group takes by default.
const ROOM_RATE: u64 = 40;

/// Puts load on a gateway, measures it, and checks that it kept its promises.
///
/// Progress goes to stderr, the result to stdout. Exit status: 0 all is well; 1 something acknowledged
/// was lost, stored twice or out of order, or could not be verified; 2 the run could not be made.
#[derive(Clone, Debug, Parser)]
#[command(name = "loadtest", version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) scenario: Scenario,

    /// Connections to hold; for `c2c` and `push` an even number: they talk in pairs. For `sync` and `reconnect` the
    /// devices that messages are sent to, for `api` those of HTTP, with one call at a time on each. `group` and `room`
    /// have one for each member.
    #[arg(long, global = true, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) connections: u32,

    /// How long to measure, in seconds.
    #[arg(long, global = true, default_value = "10", value_parser = positive_seconds)]
    pub(crate) seconds: f64,

    /// Length of a message's text, in bytes.
    #[arg(long, global = true, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) payload: u32,

    /// Unanswered sends (or pings) a connection may have at a time.
    #[arg(long, global = true, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) window: u32,

    /// Sends (or pings) a second of all connections together, on a fixed schedule that does not wait for
    /// answers: a latency counts from the scheduled time. Without it, each window is kept full; `sync`,
    /// `reconnect`, `push` and `group` send 1,000 a second, `room` 40. For `api`, calls a second.
    #[arg(long, global = true, value_name = "PER_SECOND", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate: Option<u64>,

    /// Gateways' client ports, of one deployment, separated by commas; connections take turns, and one that is lost comes
    /// back at the next. The two of a `c2c` pair begin at different gateways, in turn each with each; those of a `group`
    /// or `room` are at all of them. These three give the latencies of acks by gateway and those of deliveries by the
    /// sender's gateway and the recipient's; with REGION=HOST:PORT those of a region together. Certificates must be valid
    /// for the hosts as written here.
    #[arg(
        long,
        global = true,
        value_name = "[REGION=]HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:8443"
    )]
    pub(crate) target: Vec<String>,

    /// The gateway's admin endpoint, for its own figures; they are left out if it is not reachable.
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) admin: String,

    /// The gateway's server API, for `api` and `push`, with the same certificate. The published rates are for
    /// each command, so `api` needs a gateway with `--api-rate-percent 0`.
    #[arg(long, global = true, value_name = "HOST:PORT", default_value = "127.0.0.1:8444")]
    pub(crate) api: String,

    /// The application to log in to, as JSON: {"sdkappid": 1, "secret": "…"}.
    /// [default: data/dev/app.json here or in a parent folder]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) app_file: Option<PathBuf>,

    /// Certificates to trust, as PEM; several files separated by commas.
    /// [default: data/dev/cert.pem here or in a parent folder]
    #[arg(long, global = true, value_name = "FILE", value_delimiter = ',')]
    pub(crate) ca: Vec<PathBuf>,

    /// Threads to put the load on with; connections are spread over them.
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) threads: u32,

    /// Decides message texts and back-off; random if not given, and printed.
    #[arg(long, global = true)]
    pub(crate) seed: Option<u64>,

    /// How to print the result.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) report: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum Scenario {
    /// Heartbeats through TLS: what the gateway's network side can do at most.
    Ping,
    /// Pairs of users sending to each other; checks every message, and reads everything back at the end.
    C2c {
        /// Connect again when a connection is lost, send again what was not answered, and go on.
        #[arg(long)]
        reconnect: bool,
        /// Send a mix of message types, as people do: 70% texts; images, faces, voice messages, custom ones,
        /// videos, files, locations. --payload is the length of the texts.
        #[arg(long)]
        types: bool,
    },
    /// Devices that come and go while messages are sent to them: how fast they catch up, and whether each is
    /// given everything, once and in order.
    Sync(SyncOptions),
    /// All devices lose their connections at the same moment and come back, while messages are sent to them:
    /// how long it takes until everyone is back and has caught up, and whether anything is missing.
    Reconnect(ReconnectOptions),
    /// An application's server sends messages through the server API; everything answered is read back.
    Api(ApiOptions),
    /// An application's server tells something to all of many accounts, while those online send to each other:
    /// when the last one has it, what the others notice of it, and whether it waits for who logs in later.
    Push(PushOptions),
    /// Groups whose members all send in turn: when the last member has a message, and whether each is given everything,
    /// once and in order. A group takes 40 messages a second and 200 members, unless the application says otherwise.
    Group(GroupOptions),
    /// One live room in which some speak and all listen: when the last one there has a message, whether each is given
    /// everything in order that he keeps up with, and what one who is there costs the server in memory.
    Room(RoomOptions),
    /// Opens and logs in connections and holds them: what one costs the server in memory.
    Idle,
    /// Connects, logs in and closes over and over: half of the time with full TLS handshakes, half resumed.
    Login,
    /// The writes of a `c2c` send straight into the embedded engine, without a network.
    Engine,
    /// No load: passes connections on to a gateway, as slowly as a long way would.
    Relay(RelayOptions),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub(crate) struct RelayOptions {
    /// Where to listen.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: SocketAddr,

    /// Where to pass connections on to.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) to: SocketAddr,

    /// How much longer everything takes, each way, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(crate) delay_ms: u64,

    /// Each connection is lost after so many seconds, and up to one more.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) lose_after_s: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub(crate) struct SyncOptions {
    /// Devices of each user; a second one is a web client.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
    pub(crate) devices: u32,

    /// How long a device stays connected, on average, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) online_ms: u64,

    /// How long a device stays away, on average, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) away_ms: u64,

    /// Come back as a newly installed device each time, which reads the event log from its start.
    #[arg(long)]
    pub(crate) fresh: bool,

    /// Connections that send the messages; they stay.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) senders: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub(crate) struct ReconnectOptions {
    /// How often all connections are dropped, evenly over the measured time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) storms: u32,

    /// Wait a random time up to this before the first try, each device for itself, as clients do that a
    /// server sends away. Without it everybody is back at once: the storm. In milliseconds; it counts as
    /// time to come back.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(crate) spread_ms: u64,

    /// Come back with full TLS handshakes, as when the server has lost the keys of its session tickets.
    #[arg(long)]
    pub(crate) full_handshakes: bool,

    /// Connections that send the messages; they stay.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) senders: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub(crate) struct ApiOptions {
    /// What to call.
    #[arg(value_enum)]
    pub(crate) command: ApiCommand,

    /// Accounts to import, which messages are sent to.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub(crate) accounts: u32,

    /// Accounts that one `batchsendmsg` is for.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub(crate) recipients: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ApiCommand {
    /// One message from one account to another.
    Sendmsg,
    /// One message of the administrator to many accounts.
    Batchsendmsg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub(crate) struct PushOptions {
    /// Accounts to import; the first of them are online, as many as there are --connections.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub(crate) accounts: u32,

    /// How many of those who were not online log in afterwards and must be told.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) later: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub(crate) struct GroupOptions {
    /// Groups to make.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) groups: u32,

    /// Members of each, with a connection each. Groups of more than 200 (the setting `group_fanout_max`) are large ones.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=6_000))]
    pub(crate) members: u32,

    /// Connect again when a connection is lost, send again what was not answered, and go on.
    #[arg(long)]
    pub(crate) reconnect: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub(crate) struct RoomOptions {
    /// Connections in the room, over all threads.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub(crate) members: u32,

    /// Those of them who speak.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) senders: u32,

    /// Those of them who are guests, without an account. Nobody tells a guest that he did not keep up: what he misses
    /// counts as shed.
    #[arg(long, default_value_t = 0)]
    pub(crate) guests: u32,
}

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scenario::Ping => "ping",
            Scenario::C2c { .. } => "c2c",
            Scenario::Sync(_) => "sync",
            Scenario::Reconnect(_) => "reconnect",
            Scenario::Api(_) => "api",
            Scenario::Push(_) => "push",
            Scenario::Group(_) => "group",
            Scenario::Room(_) => "room",
            Scenario::Idle => "idle",
            Scenario::Login => "login",
            Scenario::Engine => "engine",
            Scenario::Relay(_) => "relay",
        }
    }

    /// Connections that send and are not among `--connections`.
    fn senders(self) -> u32 {
        match self {
            Scenario::Sync(SyncOptions { senders, .. }) | Scenario::Reconnect(ReconnectOptions { senders, .. }) => {
                senders
            }
            _ => 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One JSON object.
    Json,
}

/// The application whose users the harness plays.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct App {
    pub(crate) sdkappid: u32,
    pub(crate) secret: String,
}

impl Options {
    /// What clap's value parsers can't see.
    pub(crate) fn check(&self) -> Result<()> {
        if matches!(self.scenario, Scenario::C2c { .. } | Scenario::Push(_) | Scenario::Engine)
            && self.connections % 2 == 1
        {
            bail!("--connections {}: it works in pairs, give an even number", self.connections);
        }
        match self.scenario {
            Scenario::Sync(SyncOptions { devices, .. }) if !self.connections.is_multiple_of(devices) => {
                bail!("--connections {}: each user has {devices} devices, give a multiple of it", self.connections)
            }
            Scenario::Push(PushOptions { accounts, .. }) if accounts < self.connections => {
                bail!("--accounts {accounts}: give at least as many as --connections, those are online")
            }
            Scenario::Room(RoomOptions { members, senders, guests })
                if u64::from(senders) + u64::from(guests) > members.into() =>
            {
                bail!("--members {members}: give at least as many as --senders and --guests together")
            }
            _ => Ok(()),
        }
    }

    /// What is sent beside what a scenario is about has a rate of its own, unless one is given.
    pub(crate) fn with_defaults(mut self) -> Self {
        if self.scenario.senders() > 0 || self.pushes() {
            self.rate.get_or_insert(BACKGROUND_RATE);
        }
        match self.scenario {
            Scenario::Group(GroupOptions { groups, members, .. }) => {
                self.rate.get_or_insert(BACKGROUND_RATE);
                self.connections = groups.saturating_mul(members);
            }
            Scenario::Room(RoomOptions { members, .. }) => {
                self.rate.get_or_insert(ROOM_RATE);
                self.connections = members;
            }
            _ => {}
        }
        self
    }

    /// Connections that may be open at a time: a dropped one is still there when the next is made.
    pub(crate) fn open_files(&self) -> u64 {
        let each = if self.scenario.senders() > 0 { 2 } else { 1 };
        u64::from(self.connections) * each + u64::from(self.scenario.senders())
    }

    /// Whether messages are of several types.
    pub(crate) fn is_mixed(&self) -> bool {
        matches!(self.scenario, Scenario::C2c { types: true, .. })
    }

    /// Whether everybody is told something.
    pub(crate) fn pushes(&self) -> bool {
        matches!(self.scenario, Scenario::Push(_))
    }

    /// The application, from `--app-file` or the development folder.
    pub(crate) fn app(&self) -> Result<App> {
        let path = development_file(self.app_file.as_deref(), "app.json", "--app-file")?;
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} should be {{\"sdkappid\": 1, \"secret\": \"…\"}}", path.display()))
    }

    /// The files of trusted certificates, from `--ca` or the development folder.
    pub(crate) fn ca_files(&self) -> Result<Vec<PathBuf>> {
        match &self.ca[..] {
            [] => Ok(vec![development_file(None, "cert.pem", "--ca")?]),
            named => named.iter().map(|file| development_file(Some(file), "cert.pem", "--ca")).collect(),
        }
    }

    /// Who the server API is called by.
    pub(crate) const ADMINISTRATOR: &str = "administrator";

    /// The region of a target, by its number; the target itself if none was named.
    pub(crate) fn region(&self, target: usize) -> String {
        let text = self.target.get(target).map_or("", String::as_str);
        text.split_once('=').map_or(text, |(region, _)| region).to_owned()
    }

    /// Where to connect.
    pub(crate) fn targets(&self) -> Result<Vec<Target>> {
        self.target.iter().map(|text| Target::of(text).with_context(|| format!("--target {text}"))).collect()
    }
}

/// Where a gateway takes clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) server_name: ServerName<'static>,
}

impl Target {
    fn of(text: &str) -> Result<Target> {
        let place = match text.split_once('=') {
            // The report's keys have an underscore between two regions.
            Some((region, _)) if region.is_empty() || region.contains('_') => bail!("a region needs a name, without _"),
            Some((_, place)) => place,
            None => text,
        };
        let (host, _) = place.rsplit_once(':').context("give host:port")?;
        let address = place
            .to_socket_addrs()
            .ok()
            .and_then(|mut addresses| addresses.next())
            .context("no such host, or not host:port")?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let server_name = ServerName::try_from(host.to_owned()).context("not a host name")?;
        Ok(Target { address, server_name })
    }
}

fn positive_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 1e6 => Ok(seconds),
        _ => Err("give a number above 0".into()),
    }
}

/// `named` if it is there, else `data/dev/<name>` in the current folder or the nearest parent that has it.
fn development_file(named: Option<&Path>, name: &str, option: &str) -> Result<PathBuf> {
    if let Some(path) = named {
        if !path.is_file() {
            bail!("{option} {}: no such file", path.display());
        }
        return Ok(path.to_owned());
    }
    let here = std::env::current_dir().context("the current folder is gone")?;
    find_upwards(&here, &Path::new("data/dev").join(name)).with_context(|| {
        format!(
            "data/dev/{name} is neither in {} nor in a parent folder: \
             start the gateway here (cargo run --release -p gateway), or name the file with {option}",
            here.display()
        )
    })
}

fn find_upwards(start: &Path, relative: &Path) -> Option<PathBuf> {
    start.ancestors().map(|folder| folder.join(relative)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Options::command().debug_assert();
        let options = Options::parse_from(["loadtest", "c2c", "--reconnect", "--connections", "4", "--rate", "500"]);
        assert_eq!(options.scenario, Scenario::C2c { reconnect: true, types: false });
        assert_eq!((options.connections, options.rate, options.window), (4, Some(500), 16));
        assert!(Options::parse_from(["loadtest", "c2c", "--connections", "3"]).check().is_err());
        assert!(Options::parse_from(["loadtest", "c2c", "--types"]).is_mixed());
    }

    #[test]
    fn devices_come_in_equal_shares_and_messages_at_a_rate() {
        let options = |line: &str| Options::parse_from(line.split(' ')).with_defaults();
        assert!(options("loadtest sync --devices 2 --connections 5").check().is_err());
        assert!(options("loadtest sync --devices 2 --connections 6").check().is_ok());
        assert_eq!(options("loadtest reconnect").rate, Some(BACKGROUND_RATE));
        assert_eq!(options("loadtest reconnect --rate 7").rate, Some(7));
        assert_eq!(options("loadtest push").rate, Some(BACKGROUND_RATE));
        assert!(options("loadtest push --accounts 10 --connections 12").check().is_err());
        assert_eq!(options("loadtest c2c").rate, None);
        assert_eq!(options("loadtest reconnect --connections 5000").open_files(), 10_010);
    }

    #[test]
    fn development_files_are_found_in_parents() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::create_dir_all(root.path().join("data/dev")).unwrap();
        let file = root.path().join("data/dev/app.json");
        std::fs::write(&file, "{}").unwrap();
        assert_eq!(find_upwards(&deep, Path::new("data/dev/app.json")), Some(file));
        assert_eq!(find_upwards(&deep, Path::new("data/dev/other.json")), None);
    }

    #[test]
    fn targets() {
        let targets = |text: &str| {
            let options = Options::parse_from(["loadtest", "ping", "--target", text]);
            let targets = options.targets().ok()?;
            let named = targets.into_iter().enumerate();
            Some(named.map(|(index, it)| (options.region(index), it.address.port())).collect::<Vec<_>>())
        };
        for (text, port) in [("127.0.0.1:8443", 8443), ("[::1]:8443", 8443), ("localhost:1", 1)] {
            assert_eq!(targets(text), Some(vec![(text.to_owned(), port)]));
        }
        let two = vec![("eu".to_owned(), 1), ("us".to_owned(), 2)];
        assert_eq!(targets("eu=localhost:1,us=127.0.0.1:2"), Some(two));
        for refused in ["=localhost:1", "south_asia=localhost:1", "eu=localhost"] {
            assert_eq!(targets(refused), None, "{refused}");
        }
        assert_eq!(targets("localhost"), None);
        assert_eq!(targets("127.0.0.1:8443,localhost"), None);
    }
}
