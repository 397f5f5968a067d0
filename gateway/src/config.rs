//! Configuration: one set of keys, from a file, the environment and flags, in rising precedence.
//!
//! Every key stands once in [`KEYS`], [`geo::KEYS`] or [`nodes::KEYS`] with its default and meaning; `gateway.toml` at the top of
//! the repository is printed from them (`gateway config`). Everything is checked before anything is bound.

mod geo;
mod nodes;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::{self, Display, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use backend::{domain::retention::Keep, store::PREFIX_BYTES_MAX};
use protocol::{
    connection::{FRAME_BYTES_MIN, ServerLimits},
    link_message::NodeRole,
};

pub use self::nodes::{LinkConfig, LinkFiles, NodeConfig, Target, is_name};
use crate::geo::GeoConfig;

/// One configuration key: `section.name`, its default, and what it is for.
pub struct Key {
    /// `section.name` in the file, `--section-name` as a flag, `GATEWAY_SECTION_NAME` in the environment.
    pub name: &'static str,
    /// As it would be written.
    pub default: &'static str,
    /// One sentence or two, with the unit.
    pub meaning: &'static str,
}

const fn key(name: &'static str, default: &'static str, meaning: &'static str) -> Key {
    Key { name, default, meaning }
}

/// Every key there is.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().chain(geo::KEYS).chain(nodes::KEYS)
}

/// What one node needs.
const KEYS: &[Key] = &[
    key("client.listen", "127.0.0.1:8443", "Address and port for clients. Port 0 takes any free one."),
    key(
        "client.connections_max",
        "0",
        "Connections on all cores together; more are closed at once. 0: as many as the open-files limit allows, up to 100000.",
    ),
    key("client.guests_max", "100000", "Connections without an account, of all that there are; more are refused."),
    key(
        "client.room_notices_per_second",
        "10",
        "Notices a second of who comes into a live room and goes; what is more is told together, up to 100 names. 0: none.",
    ),
    key("client.heartbeat_ms", "60000", "Heartbeat interval of clients that ask for none, in milliseconds."),
    key("client.heartbeat_ms_min", "5000", "Shortest heartbeat interval a client may ask for, in milliseconds."),
    key("client.heartbeat_ms_max", "300000", "Longest heartbeat interval a client may ask for, in milliseconds."),
    key("client.hello_deadline_ms", "10000", "From accept to hello, TLS handshake included, in milliseconds."),
    key("client.login_deadline_ms", "15000", "From accept to login, in milliseconds."),
    key("client.frame_bytes_max", "65536", "Largest frame of a logged-in client, in bytes."),
    key("client.in_flight_max", "256", "Requests a client may have unanswered."),
    key("client.sessions_per_user_max", "100", "Sessions one account may have at a time."),
    key("client.presence_subscriptions_max", "1000", "Users whose presence one connection may follow."),
    key(
        "client.push_buffer_bytes_max",
        "262144",
        "Unsent bytes for a client above which live pushes to it are dropped; it syncs later.",
    ),
    key(
        "client.write_stall_ms_max",
        "30000",
        "A client that takes nothing of what waits for it for so long is closed, in milliseconds.",
    ),
    key("client.deflate", "true", "Compress and accept compressed payloads of 1 KiB or more, if the client can."),
    key("tls.cert", "", "Certificate chain, PEM. Empty: a development start with a certificate made by itself."),
    key("tls.key", "", "Private key of the certificate, PEM. Must not be readable by others."),
    key(
        "app.file",
        "",
        "Applications to have: a JSON file with sdkappid and secret, or a list of such, not readable by others. Empty: the development application. \
         An edge has none.",
    ),
    key(
        "admin.listen",
        "127.0.0.1:8080",
        "Address and port of /healthz, /readyz and /metrics: keep it off public networks.",
    ),
    key("api.listen", "127.0.0.1:8444", "Address and port of the server API, HTTPS with the certificate of tls.cert."),
    key("api.threads", "2", "Threads that serve the server API."),
    key("api.connections_max", "1000", "Connections to the server API; more are closed at once."),
    key("api.body_bytes_max", "1048576", "Longest body of a call, in bytes; a command may take less."),
    key(
        "api.head_ms_max",
        "30000",
        "For the TLS handshake, and then for each request's head, in milliseconds: who is idle for longer is closed.",
    ),
    key("api.body_ms_max", "10000", "From a call's head to the end of its body, in milliseconds."),
    key("api.call_ms_max", "15000", "A call that takes longer is answered as timed out, in milliseconds."),
    key(
        "api.write_stall_ms_max",
        "30000",
        "A client that takes nothing of its answer for so long is closed, in milliseconds.",
    ),
    key(
        "api.rate_percent",
        "100",
        "Calls a second of each command and application, in percent of the published limits (API.md). 0: no limit.",
    ),
    key("api.link_hours", "24", "For how long a link to a file of messages holds, in hours."),
    key(
        "callbacks.ca_file",
        "",
        "Certificates, PEM, of authorities that webhook receivers are trusted by, beside the public ones. Empty: only those.",
    ),
    key(
        "store.engine",
        "embedded",
        "Where data lives: embedded (this machine, one process), or fdb (FoundationDB, in builds with the feature fdb).",
    ),
    key("store.path", "./data", "Folder of the embedded store and of development files."),
    key(
        "store.fdb_cluster_file",
        "/etc/foundationdb/fdb.cluster",
        "Cluster file of FoundationDB; the service must be able to write it.",
    ),
    key(
        "store.fdb_prefix",
        "",
        "What all keys in FoundationDB begin with, at most 32 bytes: a name of its own for each deployment that shares a cluster. \
         Not to be changed later.",
    ),
    key("store.cache_bytes", "134217728", "Block cache of the embedded store, in bytes."),
    key(
        "store.disk_reserve_bytes",
        "67108864",
        "Free space below which sends are refused instead of filling the disk, in bytes.",
    ),
    key("store.read_threads", "2", "Threads that read the embedded store."),
    key(
        "store.queue_max",
        "65536",
        "Sends and, apart from them, other store requests waiting at the most; more are refused as busy.",
    ),
    key("store.batch_max", "512", "Sends in one transaction."),
    key("message.bytes_max", "12288", "Longest message body, in bytes."),
    key(
        "retention.message_days",
        "7",
        "Messages are kept for so many days, and so long a repeated send is known as one. 0: for ever.",
    ),
    key(
        "retention.event_days",
        "7",
        "Event logs are kept for so many days. A device that was away for longer starts over. 0: for ever.",
    ),
    key("cores", "0", "Cores to serve on; 0 takes all this process may run on."),
    key("cores_pinned", "false", "Pin each core's thread to its processor. Only where nothing else runs there."),
    key("drain_ms_max", "10000", "From SIGTERM to the end, at the most, in milliseconds."),
    key("log", "info", "What to log: error, warn, info, debug, or a tracing filter."),
];

/// The configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub client_listen: SocketAddr,
    pub connections_max: usize,
    pub guests_max: usize,
    pub room_notices_per_second: u32,
    pub limits: ServerLimits,
    pub sessions_per_user_max: usize,
    pub presence_subscriptions_max: usize,
    pub push_buffer_bytes_max: usize,
    pub write_stall_ms_max: u64,
    /// Certificate and key files of a production start.
    pub tls: Option<(PathBuf, PathBuf)>,
    pub app_file: Option<PathBuf>,
    pub admin_listen: SocketAddr,
    pub api: ApiConfig,
    pub geo: GeoConfig,
    pub callbacks_ca_file: Option<PathBuf>,
    pub store_engine: StoreEngine,
    pub store_path: PathBuf,
    pub cache_bytes: u64,
    pub disk_reserve_bytes: u64,
    pub read_threads: usize,
    pub queue_max: usize,
    pub batch_max: usize,
    pub message_bytes_max: usize,
    pub keep: Keep,
    pub cores: usize,
    pub cores_pinned: bool,
    pub drain_ms_max: u64,
    pub log: String,
    pub node: NodeConfig,
    pub link: LinkConfig,
}

/// The server API.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    pub listen: SocketAddr,
    pub threads: usize,
    pub connections_max: usize,
    pub body_bytes_max: usize,
    pub head_ms_max: u64,
    pub body_ms_max: u64,
    pub call_ms_max: u64,
    pub write_stall_ms_max: u64,
    /// Of the published rates; 0: no limit.
    pub rate_percent: u32,
    pub link_hours: u32,
}

/// Which engine keeps the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEngine {
    /// The embedded one, under `store.path`.
    Embedded,
    /// FoundationDB.
    Fdb {
        /// Names the cluster.
        cluster_file: PathBuf,
        /// Put before every key.
        prefix: String,
    },
}

/// What is wrong with the configuration: the key, the value and what would be right.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Values by key, as text, from all sources.
#[derive(Debug, Default)]
pub struct Values(BTreeMap<&'static str, String>);

impl Values {
    /// Sets a key; later calls win.
    pub fn set(&mut self, name: &str, value: String) -> Result<(), ConfigError> {
        let known = keys().find(|key| key.name == name).ok_or_else(|| unknown_key(name))?;
        self.0.insert(known.name, value);
        Ok(())
    }

    /// Takes the keys of a configuration file.
    pub fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let fail = |why: &dyn Display| ConfigError(format!("configuration file {}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| fail(&error))?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| fail(&error))?;
        for (section, value) in table {
            match value {
                toml::Value::Table(section_table) => {
                    for (name, value) in section_table {
                        self.set(&format!("{section}.{name}"), scalar(value)).map_err(|error| fail(&error))?;
                    }
                }
                value => self.set(&section, scalar(value)).map_err(|error| fail(&error))?,
            }
        }
        Ok(())
    }

    /// Takes `GATEWAY_…` variables. Unknown ones are refused: a typo must not go unnoticed.
    pub fn read_environment(
        &mut self,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<(), ConfigError> {
        for (variable, value) in variables {
            // Names and values of others may be anything.
            let Some(variable) = variable.to_str().filter(|variable| variable.starts_with(ENVIRONMENT_PREFIX)) else {
                continue;
            };
            if variable == CONFIG_FILE_VARIABLE {
                continue;
            }
            let key = keys().find(|key| environment_name(key.name) == variable).ok_or_else(|| {
                ConfigError(format!(
                    "the environment variable {variable} names no configuration key (`gateway config` prints all \
                     of them): correct it, or unset it if something else has set it"
                ))
            })?;
            let value = value.into_string().map_err(|_| ConfigError(format!("{variable} is not valid UTF-8")))?;
            self.set(key.name, value)?;
        }
        Ok(())
    }

    /// Checks everything.
    pub fn check(&self) -> Result<Config, ConfigError> {
        let path = |name| Some(self.text(name)).filter(|text| !text.is_empty()).map(PathBuf::from);
        let tls = match (path("tls.cert"), path("tls.key")) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(ConfigError("tls.cert and tls.key go together: name both or neither".into())),
        };
        Ok(Config {
            client_listen: self.parse("client.listen", "an address like 0.0.0.0:8443")?,
            connections_max: self.number("client.connections_max", 0, 10_000_000)?,
            guests_max: self.number("client.guests_max", 0, 10_000_000)?,
            room_notices_per_second: self.number("client.room_notices_per_second", 0, 1_000)?,
            limits: self.limits()?,
            sessions_per_user_max: self.number("client.sessions_per_user_max", 1, 10_000)?,
            presence_subscriptions_max: self.number("client.presence_subscriptions_max", 0, 100_000)?,
            push_buffer_bytes_max: self.number("client.push_buffer_bytes_max", 4096, 1 << 30)?,
            write_stall_ms_max: self.number("client.write_stall_ms_max", 100, 3_600_000)?,
            tls,
            app_file: path("app.file"),
            admin_listen: self.parse("admin.listen", "an address like 127.0.0.1:8080")?,
            api: self.api()?,
            geo: self.geo()?,
            callbacks_ca_file: path("callbacks.ca_file"),
            store_engine: self.store_engine()?,
            store_path: path("store.path").ok_or_else(|| self.wrong("store.path", "a folder"))?,
            cache_bytes: self.number("store.cache_bytes", 1 << 20, 1 << 40)?,
            disk_reserve_bytes: self.number("store.disk_reserve_bytes", 0, 1 << 50)?,
            read_threads: self.number("store.read_threads", 1, 256)?,
            queue_max: self.number("store.queue_max", 1, 100_000_000)?,
            batch_max: self.number("store.batch_max", 1, 4096)?,
            message_bytes_max: self.number("message.bytes_max", 1, 65_536)?,
            keep: Keep {
                message_days: self.number("retention.message_days", 0, 36_500)?,
                event_days: self.number("retention.event_days", 0, 36_500)?,
            },
            cores: self.number("cores", 0, 1024)?,
            cores_pinned: self.parse("cores_pinned", "true or false")?,
            drain_ms_max: self.number("drain_ms_max", 0, 3_600_000)?,
            log: self.text("log").to_owned(),
            node: self.node()?,
            link: self.link()?,
        })
        .and_then(|config| config.check_together(self))
    }

    fn store_engine(&self) -> Result<StoreEngine, ConfigError> {
        match self.text("store.engine") {
            "embedded" => Ok(StoreEngine::Embedded),
            "fdb" if !cfg!(feature = "fdb") => Err(ConfigError(
                "store.engine is \"fdb\", but this build is without the FoundationDB engine. Build one that has it with \
                 `cargo build --release -p gateway --features fdb` (FOUNDATIONDB.md tells what that needs)"
                    .into(),
            )),
            "fdb" => {
                let cluster_file = self.text("store.fdb_cluster_file");
                let prefix = self.text("store.fdb_prefix");
                if cluster_file.is_empty() {
                    return Err(self.wrong("store.fdb_cluster_file", "the path of a cluster file"));
                }
                if prefix.len() > PREFIX_BYTES_MAX {
                    return Err(self.wrong("store.fdb_prefix", "at most 32 bytes long"));
                }
                Ok(StoreEngine::Fdb { cluster_file: cluster_file.into(), prefix: prefix.to_owned() })
            }
            _ => Err(self.wrong("store.engine", "embedded or fdb")),
        }
    }

    fn api(&self) -> Result<ApiConfig, ConfigError> {
        Ok(ApiConfig {
            listen: self.parse("api.listen", "an address like 127.0.0.1:8444")?,
            threads: self.number("api.threads", 1, 1024)?,
            connections_max: self.number("api.connections_max", 1, 1_000_000)?,
            body_bytes_max: self.number("api.body_bytes_max", 1024, 1 << 26)?,
            head_ms_max: self.number("api.head_ms_max", 100, 3_600_000)?,
            body_ms_max: self.number("api.body_ms_max", 100, 3_600_000)?,
            call_ms_max: self.number("api.call_ms_max", 100, 3_600_000)?,
            write_stall_ms_max: self.number("api.write_stall_ms_max", 100, 3_600_000)?,
            rate_percent: self.number("api.rate_percent", 0, 1_000_000)?,
            link_hours: self.number("api.link_hours", 1, 168)?,
        })
    }

    fn limits(&self) -> Result<ServerLimits, ConfigError> {
        Ok(ServerLimits {
            frame_bytes_max: self.number("client.frame_bytes_max", FRAME_BYTES_MIN as usize, 1 << 24)?,
            hello_deadline_ms: self.number("client.hello_deadline_ms", 100, 3_600_000)?,
            login_deadline_ms: self.number("client.login_deadline_ms", 100, 3_600_000)?,
            heartbeat_ms_min: self.number("client.heartbeat_ms_min", 100, 3_600_000)?,
            heartbeat_ms_max: self.number("client.heartbeat_ms_max", 100, 3_600_000)?,
            heartbeat_ms_default: self.number("client.heartbeat_ms", 100, 3_600_000)?,
            in_flight_max: self.number("client.in_flight_max", 1, 100_000)?,
            deflate: self.parse("client.deflate", "true or false")?,
            ..ServerLimits::default()
        })
    }

    fn text(&self, name: &'static str) -> &str {
        let default = || keys().find(|key| key.name == name).map_or("", |key| key.default);
        self.0.get(name).map_or_else(default, String::as_str)
    }

    fn parse<T: FromStr>(&self, name: &'static str, right: &str) -> Result<T, ConfigError> {
        self.text(name).parse().map_err(|_| self.wrong(name, right))
    }

    fn number<T: FromStr + PartialOrd + Display>(&self, name: &'static str, min: T, max: T) -> Result<T, ConfigError> {
        let right = format!("a number from {min} to {max}");
        let value: T = self.parse(name, &right)?;
        if (min..=max).contains(&value) { Ok(value) } else { Err(self.wrong(name, &right)) }
    }

    fn wrong(&self, name: &'static str, right: &str) -> ConfigError {
        ConfigError(format!("{name} is \"{}\", but must be {right}", self.text(name)))
    }
}

impl Config {
    fn check_together(self, values: &Values) -> Result<Self, ConfigError> {
        let limits = &self.limits;
        if self.tls.is_some() && self.app_file.is_none() && self.node.role != NodeRole::Edge {
            return Err(ConfigError(
                "app.file is empty: a production start (tls.cert is set) names its application, \
                 a JSON file with sdkappid and secret"
                    .into(),
            ));
        }
        if !(limits.heartbeat_ms_min..=limits.heartbeat_ms_max).contains(&limits.heartbeat_ms_default) {
            return Err(
                values.wrong("client.heartbeat_ms", "between client.heartbeat_ms_min and client.heartbeat_ms_max")
            );
        }
        if limits.hello_deadline_ms > limits.login_deadline_ms {
            return Err(values.wrong("client.hello_deadline_ms", "no more than client.login_deadline_ms"));
        }
        // The rest of a send frame (ids, recipient, tags) fits into 256 bytes.
        if self.message_bytes_max + 256 > (FRAME_BYTES_MIN as usize).min(limits.frame_bytes_max) {
            return Err(
                values.wrong("message.bytes_max", "256 less than 32768, so that every client can take a message")
            );
        }
        if self.client_listen == self.admin_listen && self.client_listen.port() != 0 {
            return Err(values.wrong("admin.listen", "another address than client.listen"));
        }
        if [self.client_listen, self.admin_listen].contains(&self.api.listen) && self.api.listen.port() != 0 {
            return Err(values.wrong("api.listen", "another address than client.listen and admin.listen"));
        }
        let others = [self.client_listen, self.admin_listen, self.api.listen];
        if self.geo.listen.is_some_and(|listen| others.contains(&listen) && listen.port() != 0) {
            return Err(values.wrong("geo.listen", "another address than client.listen, admin.listen and api.listen"));
        }
        self.check_nodes(values)?;
        Ok(self)
    }
}

/// The variable that names the configuration file, beside the flag `--config`.
pub const CONFIG_FILE_VARIABLE: &str = "GATEWAY_CONFIG";

const ENVIRONMENT_PREFIX: &str = "GATEWAY_";

/// `client.listen` → `GATEWAY_CLIENT_LISTEN`.
pub fn environment_name(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.to_uppercase().replace('.', "_"))
}

/// `client.listen` → `client-listen`.
pub fn flag_name(key: &str) -> String {
    key.replace(['.', '_'], "-")
}

/// Flags that stand for longer ones.
pub fn short_flags(key: &str) -> &'static [&'static str] {
    match key {
        "store.engine" => &["store"],
        "store.fdb_cluster_file" => &["fdb-cluster-file"],
        _ => &[],
    }
}

/// The configuration file with every default, each explained.
pub fn template() -> String {
    let mut text = String::from(
        "# Configuration of the gateway. Every key is optional; what stands here commented out is the default.\n\
         # Each can also be given as a flag (client.listen: --client-listen) and in the environment\n\
         # (GATEWAY_CLIENT_LISTEN). A flag wins over the environment, the environment over this file.\n",
    );
    let mut section = "";
    // Keys without a section must stand first in TOML.
    let (plain, sectioned): (Vec<_>, Vec<_>) = keys().partition(|key| !key.name.contains('.'));
    for key in plain.into_iter().chain(sectioned) {
        let (key_section, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if key_section != section {
            section = key_section;
            let _ = write!(text, "\n[{section}]\n");
        }
        let plain = key.default.parse::<u64>().is_ok() || key.default.parse::<bool>().is_ok() || key.default == "[]";
        let default = if plain { key.default.to_owned() } else { format!("\"{}\"", key.default) };
        let _ = write!(text, "\n# {}\n#{name} = {default}\n", key.meaning);
    }
    text
}

fn scalar(value: toml::Value) -> String {
    match value {
        toml::Value::String(text) => text,
        other => other.to_string(),
    }
}

fn unknown_key(name: &str) -> ConfigError {
    ConfigError(format!("{name} is no configuration key; `gateway config` prints all of them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut values = Values::default();
        for (name, value) in pairs {
            values.set(name, (*value).to_owned())?;
        }
        values.check()
    }

    #[test]
    fn defaults_are_valid() {
        check(&[]).unwrap();
    }

    #[test]
    fn an_error_names_key_value_and_what_would_be_right() {
        for (pairs, expected) in [
            (
                &[("client.listen", "nowhere")][..],
                "client.listen is \"nowhere\", but must be an address like 0.0.0.0:8443",
            ),
            (&[("cores", "-1")], "cores is \"-1\", but must be a number from 0 to 1024"),
            (&[("message.bytes_max", "65536")], "message.bytes_max is \"65536\", but must be 256 less than 32768"),
            (&[("tls.cert", "a.pem")], "tls.cert and tls.key go together"),
            (&[("tls.cert", "a"), ("tls.key", "b")], "app.file is empty"),
            (&[("store.engine", "mysql")], "store.engine is \"mysql\", but must be embedded or fdb"),
            (&[("client.heartbeat_ms", "400000")], "client.heartbeat_ms is \"400000\""),
            (&[("admin.listen", "127.0.0.1:8443")], "admin.listen is \"127.0.0.1:8443\""),
            (&[("api.listen", "127.0.0.1:8080")], "api.listen is \"127.0.0.1:8080\""),
            (&[("geo.listen", "127.0.0.1:8444")], "geo.listen is \"127.0.0.1:8444\""),
            (&[("geo.here", "sg")], "geo.here is \"sg\", but must be the id of one of geo.access_points"),
            (&[("geo.access_points", "[{ id = \"a\" }]")], "geo.access_points: missing field"),
            (&[("geo.trusted_proxies", "10.0.0.0/8, x")], "geo.trusted_proxies is \"10.0.0.0/8, x\""),
            (&[("nonsense", "1")], "nonsense is no configuration key"),
        ] {
            let error = check(pairs).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn geo_02_access_points_stand_in_tables_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.toml");
        let text = "[geo]\nhere = \"b\"\n[[geo.regions]]\nid = \"moon\"\ncountry = \"US\"\ncoordinates = [0.0, 1.5]\n\
                    [[geo.access_points]]\nid = \"a\"\naddresses = [\"a.example.com:443\"]\nregion = \"japan\"\n\
                    [[geo.access_points]]\nid = \"b\"\naddresses = [\"b.example.com:443\"]\nregion = \"moon\"\ncapacity = 5\n";
        std::fs::write(&path, text).unwrap();
        let mut values = Values::default();
        values.read_file(&path).unwrap();
        let geo = values.check().unwrap().geo;
        let ids: Vec<_> = geo.access_points.iter().map(|point| (point.id.as_str(), point.capacity)).collect();
        assert_eq!((ids, geo.here.as_str(), geo.regions.len()), (vec![("a", 0), ("b", 5)], "b", 31));
    }

    #[test]
    fn without_foundationdb_an_error_says_how_to_build_with_it() {
        let checked = check(&[("store.engine", "fdb"), ("store.fdb_cluster_file", "/a"), ("store.fdb_prefix", "im/")]);
        match checked {
            Ok(config) if cfg!(feature = "fdb") => {
                let expected = StoreEngine::Fdb { cluster_file: "/a".into(), prefix: "im/".into() };
                assert_eq!(config.store_engine, expected);
            }
            checked => assert!(checked.unwrap_err().to_string().contains("--features fdb")),
        }
    }

    #[test]
    fn later_sources_win_and_typos_in_the_environment_are_refused() {
        let mut values = Values::default();
        values.set("cores", "1".into()).unwrap();
        let variable = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        values.read_environment([variable("GATEWAY_CORES", "3"), variable("HOME", "/")].into_iter()).unwrap();
        assert_eq!(values.check().unwrap().cores, 3);
        assert!(values.read_environment([variable("GATEWAY_COERS", "3")].into_iter()).is_err());
    }

    #[test]
    fn the_template_is_the_file_in_the_repository_and_parses() {
        let committed = include_str!("../../gateway.toml");
        assert_eq!(committed, template(), "run `cargo run -p gateway -- config > gateway.toml`");
        let uncommented: String = template()
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned() + "\n")
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.toml");
        std::fs::write(&path, uncommented).unwrap();
        let mut values = Values::default();
        values.read_file(&path).unwrap();
        assert_eq!(values.0.len(), keys().count());
        values.check().unwrap();
    }
}
