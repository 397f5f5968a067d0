//! A FoundationDB cluster of one process for a test: started in a temporary folder on a free port of
//! the loopback interface, and stopped with the value.
//!
//! `fdbserver` is looked for in `FDBSERVER` and where packages put it, `fdbcli` in `FDBCLI`, beside
//! `fdbserver`, and where packages put it. Where there is none, the tests say so and pass.
//!
//! Knows nothing of the client library, so that the end-to-end tests use it, too.

use std::{
    io::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// How long a cluster may take to get ready; the machine may be busy compiling.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running cluster.
pub struct Server {
    folder: tempfile::TempDir,
    program: PathBuf,
    port: u16,
    process: Child,
}

/// Says something past the test harness, which keeps the output of tests that pass.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn find(variable: &str, beside: Option<&Path>, places: &[&str]) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let beside = beside.and_then(|path| Some(path.parent()?.join("fdbcli")));
    let usual = places.iter().map(PathBuf::from);
    named.into_iter().chain(beside).chain(usual).find(|path| path.is_file())
}

impl Server {
    /// A running, empty cluster; `None`, said aloud, where FoundationDB is not installed.
    pub fn start() -> Option<Server> {
        let servers = ["/usr/sbin/fdbserver", "/usr/local/sbin/fdbserver", "/usr/local/libexec/fdbserver"];
        let server = find("FDBSERVER", None, &servers);
        let cli = |server: &Path| find("FDBCLI", Some(server), &["/usr/bin/fdbcli", "/usr/local/bin/fdbcli"]);
        let Some((program, cli)) = server.and_then(|server| cli(&server).map(|cli| (server, cli))) else {
            say("skipped: no FoundationDB here (fdbserver and fdbcli, see FOUNDATIONDB.md)");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        std::fs::write(folder.path().join("fdb.cluster"), format!("test:test@127.0.0.1:{port}\n")).expect("writes");
        let process = spawn(&program, folder.path(), port);
        let server = Server { folder, program, port, process };
        server.ask(&cli, "configure new single memory", "Database created");
        server.ask(&cli, "status minimal", "The database is available");
        let version = Command::new(&server.program).arg("--version").output().expect("tells its version");
        say(&format!("live: {}", String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or_default()));
        Some(server)
    }

    /// Its cluster file.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("fdb.cluster")
    }

    fn ask(&self, cli: &Path, command: &str, expected: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut asking = Command::new(cli);
            asking.arg("-C").arg(self.file()).args(["--timeout", "10", "--exec", command]);
            let output = asking.output().expect("fdbcli runs");
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            // A first answer may have been lost after it took effect.
            if said.contains(expected) || said.contains("Database already exists") {
                return;
            }
            assert!(Instant::now() < deadline, "the cluster does not get ready: {command}: {said}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn spawn(program: &Path, folder: &Path, port: u16) -> Child {
    let mut command = Command::new(program);
    command.arg("-C").arg(folder.join("fdb.cluster")).arg("-d").arg(folder.join("data"));
    command.arg("-L").arg(folder.join("logs")).arg("-p").arg(format!("127.0.0.1:{port}"));
    std::fs::create_dir_all(folder.join("logs")).expect("makes");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("fdbserver runs")
}

#[allow(dead_code, reason = "each test program uses its part")]
impl Server {
    /// From now on it does not answer, and keeps its connections.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills it, and starts it again on its data.
    pub fn restart(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.process = spawn(&self.program, self.folder.path(), self.port);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, signal).expect("the server lives");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
