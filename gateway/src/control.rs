//! What an operator may ask of applications (`gateway app`): the same in a running gateway, which has the
//! embedded store open, and in the command itself, on a store that nobody has open or that many share. And what only a
//! running gateway can say (`gateway locate`).
//!
//! A running gateway takes such wishes through a Unix socket in its data folder: one line of JSON in, one
//! out. Only its own user may open the socket, and only that user or root is answered.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    os::{
        fd::AsRawFd,
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use backend::{
    domain::applications::{self, Application, NewApplication, Refused},
    env::Clock,
    store::Store,
};
use futures::executor::block_on;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    application,
    applications::refresh,
    geo::{
        explain::{self, Question},
        here::Locator as _,
    },
    shared::Shared,
};

/// The socket's name in the data folder.
const SOCKET: &str = "gateway.sock";

/// Longest line.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Who has opened the socket says what it wants at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an operator asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "wish", rename_all = "snake_case")]
pub enum Wish {
    List,
    Show {
        sdkappid: u32,
        secret: bool,
    },
    Create(NewNamed),
    Set {
        sdkappid: u32,
        settings: Map<String, Value>,
    },
    RotateKey {
        sdkappid: u32,
        previous_until_s: u64,
        drop_previous: bool,
    },
    Delete {
        sdkappid: u32,
    },
    /// Where a client would be told to connect, and why; by whom `configured` so.
    Locate {
        question: Question,
        configured: u64,
    },
}

/// An application to be created.
#[derive(Serialize, Deserialize)]
pub struct NewNamed {
    pub sdkappid: u32,
    /// `None`: a fresh one.
    pub secret: Option<String>,
    pub settings: Map<String, Value>,
}

impl std::fmt::Debug for NewNamed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewNamed {{ sdkappid: {} }}", self.sdkappid)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done(Value),
    Refused(String),
}

/// Does what an operator asks. The answer is what the command prints.
pub fn carry_out(store: &Store, clock: &Arc<dyn Clock>, wish: Wish) -> anyhow::Result<Value> {
    match wish {
        Wish::List => {
            let all = block_on(applications::list(store))?;
            Ok(all.iter().map(|application| describe(application, false)).collect())
        }
        Wish::Show { sdkappid, secret } => Ok(describe(&block_on(applications::show(store, sdkappid))?, secret)),
        Wish::Create(NewNamed { sdkappid, secret, settings }) => {
            let settings = backend::domain::settings::Settings::parse(settings).map_err(Refused::Invalid)?;
            let secret = secret.map_or_else(application::generate_secret, Ok)?;
            let new = NewApplication { settings, ..NewApplication::new(sdkappid, &secret) };
            block_on(applications::create(store, clock, new))?;
            Ok(json!({ "sdkappid": sdkappid, "secret": secret }))
        }
        Wish::Set { sdkappid, settings } => {
            let names: Vec<String> = settings.keys().cloned().collect();
            let all = block_on(applications::change_settings(store, sdkappid, settings))?.to_shown();
            Ok(all.into_iter().filter(|(name, _)| names.contains(name)).collect::<Map<_, _>>().into())
        }
        Wish::RotateKey { sdkappid, previous_until_s, drop_previous } => {
            let secret = application::generate_secret()?;
            let rotated =
                applications::rotate_key(store, clock, sdkappid, secret.clone(), previous_until_s, drop_previous);
            block_on(rotated).map_err(|error| match error {
                Refused::PreviousKeyGood { until_s, .. } => {
                    anyhow::anyhow!("{error}. It ends at {}, or now with --drop-previous", date(until_s))
                }
                error => error.into(),
            })?;
            Ok(json!({ "sdkappid": sdkappid, "secret": secret, "previous_secret_until": date(previous_until_s) }))
        }
        Wish::Delete { sdkappid } => {
            block_on(applications::delete(store, clock, sdkappid))?;
            Ok(json!({ "sdkappid": sdkappid, "deleted": true }))
        }
        Wish::Locate { .. } => anyhow::bail!("only a running gateway can say that"),
    }
}

/// An application for an operator's eyes.
fn describe(application: &Application, secrets: bool) -> Value {
    let Application { app, created_ms, development, settings, secret, previous } = application;
    let mut json = json!({ "sdkappid": app, "created": date(created_ms / 1000) });
    if *development {
        json["development"] = true.into();
    }
    if secrets {
        json["secret"] = secret.as_str().into();
    }
    if let Some((secret, until_s)) = previous {
        json["previous_secret_until"] = date(*until_s).into();
        if secrets {
            json["previous_secret"] = secret.as_str().into();
        }
    }
    json["settings"] = if secrets { settings.to_members() } else { settings.to_shown() }.into();
    json
}

/// Seconds since the Unix epoch as a date with time.
pub fn date(unix_s: u64) -> String {
    let time = i64::try_from(unix_s).ok().and_then(|unix_s| time::UtcDateTime::from_unix_timestamp(unix_s).ok());
    let text = time.and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok());
    text.unwrap_or_else(|| format!("second {unix_s} since 1970"))
}

/// Starts to take wishes in the data folder. The socket is gone when this is dropped.
pub fn serve(folder: &Path, shared: Arc<Shared>) -> anyhow::Result<Serving> {
    let path = folder.join(SOCKET);
    let at = || format!("store.path: the socket {} for `gateway app` and `gateway locate`", path.display());
    let place = Place::of(folder).with_context(at)?;
    // What an earlier process has left. Where the store is ours nobody else answers there; where it is many's, several
    // gateways may have been given one folder.
    anyhow::ensure!(UnixStream::connect(place.path()).is_err(), "{}: another gateway has it", at());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(at),
        _ => {}
    }
    let listener = UnixListener::bind(place.path()).with_context(at)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).with_context(at)?;
    std::thread::Builder::new().name("control".into()).spawn(move || {
        for stream in listener.incoming() {
            // One at a time: wishes are few, and each is short.
            if let Err(error) = stream.and_then(|stream| answer(&stream, &shared)) {
                tracing::warn!(%error, "a wish through the socket was not answered");
                std::thread::sleep(Duration::from_millis(10)); // descriptors may have run out
            }
        }
    })?;
    Ok(Serving { path })
}

/// Removes the socket when the service ends.
pub struct Serving {
    path: PathBuf,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // the next start removes it
    }
}

fn answer(stream: &UnixStream, shared: &Shared) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it came from another user"));
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    let wish = serde_json::from_str(&line).context("not a wish that this gateway knows: is it of another version?");
    let done = wish.and_then(|wish| match wish {
        Wish::Locate { question, configured } => explain(shared, &question, configured),
        wish => {
            let done = carry_out(&shared.store, &shared.clock, wish)?;
            // Whoever is told that it is done must find it so.
            block_on(refresh(shared))?;
            Ok(done)
        }
    });
    let answer = done.map_or_else(|error| Answer::Refused(format!("{error:#}")), Answer::Done);
    let mut stream = stream;
    writeln!(stream, "{}", serde_json::to_string(&answer)?)
}

fn explain(shared: &Shared, question: &Question, configured: u64) -> anyhow::Result<Value> {
    let is_same = configured == explain::configured(&shared.config.geo);
    anyhow::ensure!(is_same, "the gateway that runs here has another configuration of access points");
    shared.explain(question).map(Value::from)
}

/// Asks the gateway that runs on this data folder. `None`: none does.
pub fn ask(folder: &Path, wish: &Wish) -> anyhow::Result<Option<Value>> {
    let at = || format!("the gateway's socket {}", folder.join(SOCKET).display());
    let Some(place) = Place::of(folder).ok() else { return Ok(None) };
    let stream = match UnixStream::connect(place.path()) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(at),
    };
    let answer = ask_on(&stream, wish).with_context(at)?;
    match serde_json::from_str(&answer).with_context(|| format!("{}: it gave no answer", at()))? {
        Answer::Done(value) => Ok(Some(value)),
        Answer::Refused(why) => Err(anyhow::Error::msg(why)),
    }
}

fn ask_on(mut stream: &UnixStream, wish: &Wish) -> io::Result<String> {
    writeln!(stream, "{}", serde_json::to_string(wish)?)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The socket by a short name: its own may be longer than a socket's address can be.
struct Place(File);

impl Place {
    fn of(folder: &Path) -> io::Result<Place> {
        File::open(folder).map(Place)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", self.0.as_raw_fd()))
    }
}
