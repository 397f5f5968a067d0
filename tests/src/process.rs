//! Child processes: found, started, listened to, and killed whatever happens to the test.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, OnceLock, mpsc},
    thread::JoinHandle,
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::PATIENCE;

/// Says why a test did not run, where everybody sees it.
pub fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

/// Where cargo puts the programs this test run belongs to: `target/debug` or the like.
pub fn target_folder() -> PathBuf {
    let test = std::env::current_exe().expect("this program's path");
    let folder = test.parent().expect("a folder");
    // Test programs lie one folder deeper, in `deps`.
    if folder.ends_with("deps") { folder.parent().expect("a folder") } else { folder }.to_path_buf()
}

/// A program of this workspace. `cargo test --workspace` has built it; a run of this package alone builds it here.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let path = target_folder().join(name);
    if !path.exists() {
        BUILT.get_or_init(build_programs);
    }
    assert!(path.exists(), "{} is missing: run `cargo build --workspace --bins` first", path.display());
    path
}

fn build_programs() {
    let target = target_folder();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--workspace", "--bins"]).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    cargo.env("CARGO_TARGET_DIR", target.parent().expect("target has a parent"));
    if target.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().expect("cargo starts");
    assert!(status.success(), "`cargo build --workspace --bins` failed");
}

/// A running child. Killed when dropped; what it wrote is printed if the test has failed by then.
pub struct Process {
    child: Child,
    name: String,
    lines: Mutex<mpsc::Receiver<String>>,
    written: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command`, listening to both of its outputs.
    pub fn start(mut command: Command) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let name = Path::new(command.get_program()).file_name().unwrap_or(OsStr::new("?")).display().to_string();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let written = Arc::new(Mutex::new(String::new()));
        let (sender, lines) = mpsc::channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        let mut senders = [Some(sender), None];
        let readers = outputs.into_iter().zip(&mut senders).map(|(output, sender)| {
            let (written, sender) = (written.clone(), sender.take());
            std::thread::spawn(move || {
                for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    written.lock().expect("no panic inside").push_str(&format!("{line}\n"));
                    sender.as_ref().map(|sender| sender.send(line));
                }
            })
        });
        let readers = readers.collect();
        Process { child, name, lines: Mutex::new(lines), written, readers }
    }

    /// The next line on stdout; `None` once that has ended.
    pub fn line(&self) -> Option<String> {
        match self.lines.lock().expect("no panic inside").recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{} says nothing:\n{}", self.name, self.output()),
        }
    }

    /// Everything it has written, on stdout and stderr.
    pub fn output(&self) -> String {
        self.written.lock().expect("no panic inside").clone()
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// Waits for its end; after that [`Self::output`] is complete.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                for reader in self.readers.drain(..) {
                    reader.join().expect("no panic inside");
                }
                return status;
            }
            assert!(Instant::now() < deadline, "{} does not end", self.name);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- {} wrote:\n{}----", self.name, self.output());
        } else {
            // It closes one connection only, and would go unnoticed.
            assert!(!self.output().contains("panicked at"), "{} panicked:\n{}", self.name, self.output());
        }
    }
}
