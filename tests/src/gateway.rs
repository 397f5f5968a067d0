//! A gateway process, and how to start one in every way a test needs.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, OpenOptions},
    io::Write as _,
    net::{SocketAddr, TcpListener},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::Arc,
    time::SystemTime,
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    Api, Client, Labels, Metrics, Options, Process, Refusal, Wire, admin, eventually,
    process::{program, skip},
    wire::{Config, tls_config},
};

/// An application: who signs the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Its number.
    pub sdkappid: u32,
    /// Its key.
    pub secret: String,
}

impl App {
    /// Reads an application file.
    pub fn read(path: &Path) -> App {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let json: serde_json::Value = serde_json::from_str(&text).expect("an application file is JSON");
        App::of(if json.is_array() { &json[0] } else { &json })
    }

    /// From what `gateway app` prints of a new key.
    pub fn of(printed: &serde_json::Value) -> App {
        let sdkappid = printed["sdkappid"].as_u64().and_then(|number| u32::try_from(number).ok()).expect("sdkappid");
        App { sdkappid, secret: printed["secret"].as_str().expect("secret").to_owned() }
    }

    /// A credential that is valid now, for an hour.
    pub fn sign(&self, user: &str) -> String {
        self.sign_at(user, unix_s(), 3600)
    }

    /// A credential of any time.
    pub fn sign_at(&self, user: &str, issued_s: u64, expire_s: u64) -> String {
        backend::domain::usersig::sign(self.sdkappid, &self.secret, user, issued_s, expire_s)
    }
}

/// Seconds since the Unix epoch.
fn unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

/// How to start a gateway. Ports are the system's choice, the folder is a new one, unless something else is said.
pub struct Builder {
    folder: Arc<TempDir>,
    data: PathBuf,
    flags: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    program: Option<PathBuf>,
    prefix: Vec<String>,
    /// Of the application; `None`: the gateway makes its own application file.
    settings: Option<serde_json::Value>,
}

const FDB_PREFIX: &str = "store-fdb-prefix";
/// Longest prefix, in bytes.
const FDB_PREFIX_BYTES_MAX: usize = 64;

/// For a test that is about the embedded store: whether this run has none, and says so.
pub fn has_no_embedded_store() -> bool {
    let has_none = fdb().is_some();
    if has_none {
        skip("it is about the embedded store");
    }
    has_none
}

/// Where `E2E_FDB_CLUSTER_FILE` names a cluster, the tests' gateways keep their data there, those of each folder under a
/// prefix of their own; then the program is the one that `FDB_GATEWAY_BIN` names.
fn fdb() -> Option<(PathBuf, PathBuf)> {
    let named = |variable| std::env::var_os(variable).map(PathBuf::from);
    let cluster_file = named("E2E_FDB_CLUSTER_FILE")?;
    Some((named("FDB_GATEWAY_BIN").expect("FDB_GATEWAY_BIN names a gateway with the feature fdb"), cluster_file))
}

impl Default for Builder {
    fn default() -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        let data = folder.path().join("data");
        let flags = ["client-listen", "admin-listen", "api-listen", "geo-listen"];
        let flags = flags.map(|name| (name.to_owned(), "127.0.0.1:0".to_owned())).into();
        // Most tests are not about devices that exclude each other.
        let instances = ["android", "iphone", "ipad", "windows", "mac", "web", "linux"].map(|name| (name, 100));
        let instances: BTreeMap<_, _> = instances.into();
        let settings = Some(serde_json::json!({ "login_policy": "multi", "instances": instances }));
        let builder =
            Builder { folder, data, flags, environment: Vec::new(), program: None, prefix: Vec::new(), settings };
        match fdb() {
            Some((program, cluster_file)) => builder.on_fdb(program, &cluster_file),
            None => builder,
        }
    }
}

impl Builder {
    /// Sets a flag; the last one wins.
    pub fn flag(mut self, name: &str, value: impl ToString) -> Self {
        self.flags.retain(|(known, _)| known != name);
        self.flags.push((name.to_owned(), value.to_string()));
        self
    }

    /// Takes a flag back.
    pub fn without_flag(mut self, name: &str) -> Self {
        self.flags.retain(|(known, _)| known != name);
        self
    }

    /// Sets settings of the application, in place of those that let any number of devices in.
    pub fn settings(mut self, settings: serde_json::Value) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Sets some settings of the application, beside the others.
    pub fn more_settings(mut self, some: &serde_json::Value) -> Self {
        let settings = self.settings.get_or_insert_with(|| serde_json::json!({}));
        for (name, value) in some.as_object().into_iter().flatten() {
            settings[name] = value.clone();
        }
        self
    }

    /// Leaves the application file to the gateway.
    pub fn own_app_file(mut self) -> Self {
        self.settings = None;
        self
    }

    /// Sets an environment variable.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts the store there.
    pub fn data(mut self, folder: &Path) -> Self {
        self.data = folder.to_path_buf();
        self
    }

    /// Takes another gateway than this workspace's ordinary one.
    pub fn program(mut self, gateway: PathBuf) -> Self {
        self.program = Some(gateway);
        self
    }

    /// Keeps its data in a cluster, by a program that can: what belongs to one folder under one prefix.
    pub fn on_fdb(self, gateway: PathBuf, cluster_file: &Path) -> Self {
        self.program(gateway).flag("store", "fdb").flag("fdb-cluster-file", cluster_file.display())
    }

    /// Another gateway of the same deployment, with a folder of its own: the same application, on the same cluster.
    pub fn another(&self) -> Builder {
        let other = Builder { program: self.program.clone(), settings: self.settings.clone(), ..Builder::default() };
        let dev = other.data.join("dev");
        DirBuilder::new().recursive(true).mode(0o700).create(&dev).expect("a folder");
        fs::copy(self.app_file(), dev.join("app.json")).expect("copied, with its mode");
        self.store_flags().into_iter().fold(other, |other, (name, value)| other.flag(&name, value))
    }

    /// Gives it what links take: certificates of one authority, which `certificates` holds, and the name `node`.
    pub fn node(self, certificates: &Path, node: &str) -> Self {
        let file = |name: &str| certificates.join(name).display().to_string();
        self.flag("node-name", node)
            .flag("link-cert", file(&format!("{node}.pem")))
            .flag("link-key", file(&format!("{node}.key")))
            .flag("link-ca", file("ca.pem"))
    }

    /// An edge of the core whose links are taken there.
    pub fn edge(self, core: SocketAddr) -> Self {
        self.flag("node-role", "edge").flag("link-cores", core)
    }

    /// The ports that it was given by number are free: what a killed process had in its ring the kernel lets go a moment
    /// later.
    fn wait_released(&self) {
        let named = self.flags.iter().filter(|(name, _)| name.ends_with("-listen"));
        let fixed = named.filter_map(|(_, address)| address.parse::<SocketAddr>().ok()).filter(|it| it.port() != 0);
        for address in fixed {
            eventually("the port is free again", || TcpListener::bind(address).is_ok());
        }
    }

    fn is_edge(&self) -> bool {
        self.flags.iter().any(|(name, value)| name == "node-role" && value == "edge")
    }

    /// Starts it through another program, such as `prlimit`.
    pub fn through(mut self, prefix: &[&str]) -> Self {
        self.prefix = prefix.iter().map(ToString::to_string).collect();
        self
    }

    /// Where its data will be.
    pub fn data_folder(&self) -> &Path {
        &self.data
    }

    /// A folder for the test's own files, gone when the gateway is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it and waits for the line that says it serves.
    pub fn start(self) -> Gateway {
        self.write_settings();
        let mut process = Process::start(self.command());
        let Some(ready_line) = process.line() else {
            let status = process.wait();
            panic!("the gateway ended with {status}:\n{}", process.output());
        };
        let address = |before: &str| {
            let (_, behind) = ready_line.split_once(before)?;
            behind.split(',').next()?.parse::<SocketAddr>().ok()
        };
        let (Some(client), Some(admin)) = (address("client tls://"), address("admin http://")) else {
            panic!("not a ready line: {ready_line}");
        };
        let api = (!self.is_edge()).then(|| {
            let api_line = process.line().unwrap_or_default();
            let api = api_line.strip_prefix("server API https://").and_then(|rest| rest.strip_suffix("/v4/"));
            api.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("not its line: {api_line}"))
        });
        let locate_line = if self.serves_locate() { process.line().unwrap_or_default() } else { String::new() };
        let locate = locate_line.strip_prefix("locate ").map(str::to_owned);
        assert_eq!(locate.is_some(), self.serves_locate(), "not its line: {locate_line}");
        let app = App::read(&self.app_file());
        let certificate = self.file("tls-cert").unwrap_or_else(|| self.data.join("dev/cert.pem"));
        Gateway { process, builder: self, ready_line, client, admin, api, locate, app, certificate }
    }

    /// Its application; of an edge, which has none, that of its core.
    fn app_file(&self) -> PathBuf {
        self.file("app-file").unwrap_or_else(|| self.data.join("dev/app.json"))
    }

    fn file(&self, flag: &str) -> Option<PathBuf> {
        self.flags.iter().find(|(known, _)| known == flag).map(|(_, value)| PathBuf::from(value))
    }

    /// Writes the settings into the application file of a development start, which is made if need be.
    fn write_settings(&self) {
        let Some(settings) = &self.settings else { return };
        if self.flags.iter().any(|(name, _)| name == "app-file") {
            return; // the test's own
        }
        let path = self.data.join("dev/app.json");
        let folder = path.parent().expect("it has one");
        DirBuilder::new().recursive(true).mode(0o700).create(folder).expect("a folder");
        let made = || {
            let secret: [u8; 32] = rand::random();
            let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            serde_json::json!({ "sdkappid": 1_400_000_001, "secret": secret, "development": true })
        };
        let before = fs::read(&path).ok();
        let mut app = before.map_or_else(made, |bytes| serde_json::from_slice(&bytes).expect("JSON"));
        if app["settings"] == *settings {
            return;
        }
        app["settings"] = settings.clone();
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = file.as_mut().expect("a file");
        file.write_all(app.to_string().as_bytes()).expect("written");
    }

    /// Starts it, expecting it to end by itself with an error and without ever serving. Returns what it wrote.
    pub fn fails(&self) -> String {
        let mut process = Process::start(self.command());
        if let Some(line) = process.line() {
            panic!("this start should fail, but: {line}");
        }
        let status = process.wait();
        let output = process.output();
        assert_eq!(status.code(), Some(1), "{output}");
        assert!(!output.contains("panicked"), "{output}");
        output
    }

    /// Has the store of a gateway that does not run looked through: records, sequences, logs.
    pub fn check_store(&self) {
        self.store_tool("check");
    }

    /// Says that the store was put back from a copy.
    pub fn restored(&self) {
        self.store_tool("restored");
    }

    fn store_tool(&self, what: &str) {
        let output = self.tool().args(["store", what]).args(self.store_arguments()).output().expect("it starts");
        let said = [&output.stdout[..], &output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }

    /// Runs `gateway app …` on the data folder; what it printed, or what it said was wrong.
    pub fn app(&self, arguments: &[&str]) -> Result<serde_json::Value, String> {
        let output = self.tool().arg("app").args(arguments).args(self.store_arguments()).output().expect("it starts");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {output:?}"))),
            false => Err(error),
        }
    }

    /// Runs `gateway locate …` with the same settings, beside the running gateway or without one; what it printed, or what it said was wrong.
    pub fn locate(&self, arguments: &[&str]) -> Result<String, String> {
        let of_geo = self.flags.iter().filter(|(name, _)| name.starts_with("geo-"));
        let flags = of_geo.flat_map(|(name, value)| [format!("--{name}"), value.clone()]);
        let at = ["--store-path".to_owned(), self.data.display().to_string()];
        let output = self.tool().arg("locate").args(arguments).args(flags).args(at).output().expect("it starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn serves_locate(&self) -> bool {
        self.flags.iter().any(|(name, value)| name == "geo-listen" && !value.is_empty())
    }

    fn gateway(&self) -> PathBuf {
        self.program.clone().unwrap_or_else(|| program("gateway"))
    }

    /// The program, for what operators do with it.
    fn tool(&self) -> Command {
        let mut command = Command::new(self.gateway());
        for (variable, _) in std::env::vars().filter(|(name, _)| name.starts_with("GATEWAY_")) {
            command.env_remove(variable);
        }
        command
    }

    /// Where the store is.
    fn store_arguments(&self) -> Vec<String> {
        let flags = self.store_flags().into_iter().flat_map(|(name, value)| [format!("--{name}"), value]);
        ["--store-path".to_owned(), self.data.display().to_string()].into_iter().chain(flags).collect()
    }

    fn store_flags(&self) -> Vec<(String, String)> {
        let is_one = |name: &str| ["store", "fdb-cluster-file", FDB_PREFIX].contains(&name);
        let mut flags: Vec<_> = self.flags.iter().filter(|(name, _)| is_one(name)).cloned().collect();
        let is_on_fdb = flags.iter().any(|(name, value)| name == "store" && value == "fdb");
        if is_on_fdb && !flags.iter().any(|(name, _)| name == FDB_PREFIX) {
            // Its end tells folders apart.
            let place = format!("{}{}/", std::process::id(), self.data.display());
            let prefix = place.get(place.len().saturating_sub(FDB_PREFIX_BYTES_MAX)..).expect("folders in ASCII");
            flags.push((FDB_PREFIX.to_owned(), prefix.to_owned()));
        }
        flags
    }

    fn command(&self) -> Command {
        let gateway = self.gateway();
        let mut command = match self.prefix.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(gateway);
                command
            }
            None => Command::new(gateway),
        };
        for (variable, _) in std::env::vars().filter(|(name, _)| name.starts_with("GATEWAY_")) {
            command.env_remove(variable);
        }
        command.args(self.store_arguments()).current_dir(self.folder.path());
        let store_flags = self.store_flags();
        let other = self.flags.iter().filter(|flag| !store_flags.contains(flag));
        command.args(other.flat_map(|(name, value)| [format!("--{name}"), value.clone()]));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Makes certificates of nodes, all of one new authority.
pub fn node_certificates(cores: &[&str], edges: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(program("gateway"));
    let status = command
        .arg("node-certs")
        .arg(folder.path())
        .args(cores)
        .arg("--edges")
        .args(edges)
        .output()
        .expect("it starts");
    assert!(status.status.success(), "{status:?}");
    folder
}

/// A gateway that serves.
pub struct Gateway {
    process: Process,
    builder: Builder,
    ready_line: String,
    client: SocketAddr,
    admin: SocketAddr,
    /// An edge has none.
    api: Option<SocketAddr>,
    locate: Option<String>,
    app: App,
    certificate: PathBuf,
}

impl Gateway {
    /// One with default settings on a new folder.
    pub fn start() -> Gateway {
        Builder::default().start()
    }

    /// What to start one with.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts again with the same settings on the same folder, on ports of the system's choice.
    pub fn restart(self) -> Gateway {
        self.kill().start()
    }

    /// Kills it with a signal it can't handle, and gives back what it was started with.
    pub fn kill(self) -> Builder {
        let Gateway { mut process, builder, .. } = self;
        process.kill();
        builder.wait_released();
        builder
    }

    /// Stops its clock: it does nothing until it is [thawed](Self::thaw).
    pub fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Tells it to drain and end; how that went, what it wrote, and what it was started with.
    pub fn stop(self) -> (ExitStatus, String, Builder) {
        self.process.signal(Signal::TERM);
        self.ended()
    }

    /// Waits until it has ended by itself; the same as [`Self::stop`] gives.
    pub fn ended(self) -> (ExitStatus, String, Builder) {
        let Gateway { mut process, builder, .. } = self;
        let status = process.wait();
        (status, process.output(), builder)
    }

    /// A device of `user` that is logged in and has read its log to the end: pushes come from here on.
    pub fn login(&self, user: &str) -> Client {
        let mut client = self.connect(user);
        client.log_in_and_sync();
        client
    }

    /// A connection of `user` that has not logged in.
    pub fn connect(&self, user: &str) -> Client {
        self.connect_with(user, Options::default())
    }

    /// A connection with settings of its own.
    pub fn connect_with(&self, user: &str, options: Options) -> Client {
        self.try_connect(user, options).unwrap_or_else(|error| panic!("{user} can't connect: {error:?}"))
    }

    /// A connection, if there can be one.
    pub fn try_connect(&self, user: &str, options: Options) -> Result<Client, Refusal> {
        Client::connect(self.client, self.tls(), user, &self.app, options)
    }

    /// A connection for bytes of any kind.
    pub fn wire(&self) -> Wire {
        Wire::open(self.client, self.tls()).expect("a TLS connection")
    }

    /// What a client trusts and offers.
    pub fn tls(&self) -> Config {
        tls_config(&self.certificate)
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.client
    }

    /// Where the admin endpoint is.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Where the server API is.
    pub fn api_address(&self) -> SocketAddr {
        self.api.expect("an edge has no server API")
    }

    /// The server API, used by the administrator.
    pub fn api(&self) -> Api {
        Api::new(self.api_address(), &self.certificate, &self.app, "administrator")
    }

    /// Where clients ask by HTTPS where to connect; `None`: nowhere.
    pub fn locate_url(&self) -> Option<&str> {
        self.locate.as_deref()
    }

    /// The certificate it shows.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// The application it serves.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Its data folder.
    pub fn data(&self) -> &Path {
        &self.builder.data
    }

    /// The line it said that it serves with.
    pub fn ready_line(&self) -> &str {
        &self.ready_line
    }

    /// A device of another application than its first, with the same certificate.
    pub fn connect_to(&self, app: &App, user: &str) -> Client {
        let client = Client::connect(self.client, self.tls(), user, app, Options::default());
        client.unwrap_or_else(|error| panic!("{user} can't connect: {error:?}"))
    }

    /// Runs `gateway app …` beside it.
    pub fn app_command(&self, arguments: &[&str]) -> Result<serde_json::Value, String> {
        self.builder.app(arguments)
    }

    /// What it was started with.
    pub fn built_from(&self) -> &Builder {
        &self.builder
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Gets a path of the admin endpoint.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        admin::get(self.admin, path)
    }

    /// A scrape.
    pub fn metrics(&self) -> Metrics {
        let (status, body) = self.get("/metrics").expect("the admin endpoint answers");
        assert_eq!(status, 200);
        Metrics(body)
    }

    /// Waits until a metric has at least this value.
    pub fn wait_metric(&self, name: &str, labels: Labels<'_>, at_least: f64) {
        eventually(&format!("{name}{labels:?} of {at_least}"), || self.metrics().sum(name, labels) >= at_least);
    }
}

/// A port nobody listens on, and that the system gives to nobody who leaves the choice to it: for a
/// gateway that must come back on the same one.
pub fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| rand::random_range(10_000..30_000));
    ports.find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok()).expect("one of them is free")
}
