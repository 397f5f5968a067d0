//! One call: who makes it, may it be made, which command is it; its answer, always with HTTP status 200.
//!
//! Checks come in the published order: the URL names a command, an application, an identifier and a UserSig; the
//! UserSig is good and its user an administrator; the command is not called too frequently; the body is JSON. A
//! stranger's body is read, so that the answer reaches its client, and not kept.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::AHashMap;
use backend::{
    domain::{
        AppId, Error, UserId, account,
        act::{Act, Answer},
        callbacks::{Caller, CallerPlatform},
        rate::{SendBucket, SendRate},
        settings::Settings,
    },
    env::SeededRng,
};
use bytes::Bytes;
use futures::Stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
    header::{CONTENT_TYPE, HOST},
    http::{HeaderValue, request::Parts},
};
use serde_json::{Map, Value, json};
use tokio::{sync::Mutex, time::timeout};

use super::{
    codes::{self, Failure},
    fields::Fields,
    files,
    table::{self, Row},
};
pub use crate::https::Reply;
use crate::{https::Ends, shared::Shared};

/// Buckets of rates kept, at the most: one for each application and command.
const BUCKETS_MAX: usize = 100_000;

/// What has a rate of its own: a command (its service and its name) of an application.
type Limited = (AppId, &'static str, &'static str);

/// What all calls share.
pub struct Api {
    pub shared: Arc<Shared>,
    /// Draws the names of files.
    pub rng: SeededRng,
    /// One file of an hour is made at a time.
    pub file_making: Mutex<()>,
    buckets: std::sync::Mutex<AHashMap<Limited, Arc<SendBucket>>>,
}

impl Api {
    /// For a server that has just started.
    pub fn new(shared: Arc<Shared>) -> Self {
        let rng = SeededRng::new(shared.clock.monotonic_us() ^ shared.clock.unix_ms() << 20);
        Api { shared, rng, file_making: Mutex::new(()), buckets: std::sync::Mutex::default() }
    }

    /// Takes a call out of the bucket of its command.
    fn take(&self, app: AppId, row: &'static Row) -> Result<(), Failure> {
        let percent = u64::from(self.shared.config.api.rate_percent);
        if percent == 0 {
            return Ok(());
        }
        let per_second = u32::try_from(u64::from(row.per_second) * percent / 100).unwrap_or(u32::MAX).max(1);
        let bucket = {
            let mut buckets = self.buckets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if buckets.len() >= BUCKETS_MAX {
                buckets.clear();
            }
            let key = (app, row.service, row.command);
            buckets.entry(key).or_default().clone()
        };
        bucket
            .take(SendRate::new(per_second, per_second), self.shared.clock.monotonic_us())
            .map_err(|_| codes::TOO_FREQUENT.into())
    }
}

/// A call that may be made, for its handler.
pub struct Call<'a> {
    pub api: &'a Arc<Api>,
    pub app: AppId,
    /// The administrator.
    pub identifier: UserId,
    /// What the table says of the command.
    pub row: &'static Row,
    /// How the caller named this server, for links.
    pub host: String,
    /// Between which addresses.
    pub ends: Ends,
}

impl Call<'_> {
    /// What all threads share.
    pub fn shared(&self) -> &Shared {
        &self.api.shared
    }

    /// The application's settings now.
    pub async fn settings(&self) -> Result<Settings, Failure> {
        let settings = account::settings_now(&self.shared().store, self.app).await;
        settings.map_err(|error| codes::of_credential(&error))
    }

    /// Where acts of this call come from, as the application's server is told.
    pub fn caller(&self) -> Caller {
        let (ip, admin) = (Some(self.ends.remote.ip()), Some(self.identifier.clone()));
        Caller { ip, platform: CallerPlatform::RestApi, admin, ..Caller::default() }
    }

    /// The same, for an act of which the application's server may not be asked or told.
    pub fn start_from(&self, act: Act, caller: Caller) -> impl Future<Output = Result<Answer, Error>> + Send + use<> {
        self.shared().act(act, caller)
    }

    /// Submits an act; the future is its outcome, once it is durable.
    pub fn start(&self, act: Act) -> impl Future<Output = Result<Answer, Error>> + Send + use<> {
        self.start_from(act, self.caller())
    }
}

/// Answers a request.
pub async fn answer(api: &Arc<Api>, ends: Ends, request: Request<Incoming>) -> Reply {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    if parts.method == Method::GET && parts.uri.path().starts_with(files::PATH) {
        return files::fetch(api, &parts).await;
    }
    let row = find_row(parts.uri.path());
    let called = call(api, &parts, body, row, ends).await;
    let code = called.as_ref().err().map_or(0, |failure| failure.code);
    let command = row.map_or_else(|| "unknown".to_owned(), |row| format!("{}/{}", row.service, row.command));
    metrics::histogram!("gateway_api_seconds", "command" => command.clone()).record(started.elapsed().as_secs_f64());
    metrics::counter!("gateway_api_calls_total", "command" => command, "code" => code.to_string()).increment(1);
    json_reply(&envelope(called))
}

async fn call(
    api: &Arc<Api>,
    parts: &Parts,
    body: Incoming,
    row: Option<&'static Row>,
    ends: Ends,
) -> Result<Map<String, Value>, Failure> {
    let config = &api.shared.config.api;
    let admitted = admit(api, parts, row, ends).await;
    let bytes_max = match &admitted {
        Ok(call) => call.row.body_bytes_max.min(config.body_bytes_max),
        Err(_) => config.body_bytes_max,
    };
    let read = read_body(body, bytes_max, admitted.is_ok());
    let read = timeout(Duration::from_millis(config.body_ms_max), read).await;
    let call = admitted?;
    let content = read.map_err(|_| codes::TIMED_OUT)??;
    let value: Value = match content.is_empty() {
        true => json!({}),
        false => serde_json::from_slice(&content).map_err(|error| codes::JSON_INVALID.because(error))?,
    };
    let fields = Fields::of(&value).ok_or(call.row.not_object)?;
    let handled = timeout(Duration::from_millis(config.call_ms_max), (call.row.handler)(&call, fields)).await;
    handled.map_err(|_| Failure::from(codes::TIMED_OUT))?
}

/// Who calls, and may they?
async fn admit<'a>(
    api: &'a Arc<Api>,
    parts: &Parts,
    row: Option<&'static Row>,
    ends: Ends,
) -> Result<Call<'a>, Failure> {
    if parts.method != Method::POST {
        return Err(codes::HTTP_INVALID.because("the method must be POST"));
    }
    let row = row.ok_or(codes::COMMAND_UNKNOWN)?;
    let query = Query::of(parts.uri.query().unwrap_or_default()).ok_or(codes::HTTP_INVALID)?;
    let app = query.get("sdkappid").ok_or(codes::SDKAPPID_MISSING)?;
    let app: AppId = app.parse().map_err(|_| codes::SDKAPPID_INVALID)?;
    let identifier = query.get("identifier").and_then(UserId::new).ok_or(codes::IDENTIFIER_INVALID)?;
    let usersig = query.get("usersig").ok_or(codes::IDENTIFIER_INVALID)?.to_owned();
    let Shared { store, clock, development, .. } = &*api.shared;
    let checked = account::admin(store, clock, *development, app, &identifier, usersig).await;
    checked.map_err(|error| codes::of_credential(&error))?;
    api.take(app, row)?;
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.map_or_else(|| ends.local.to_string(), str::to_owned);
    Ok(Call { api, app, identifier, row, host, ends })
}

/// The row of the table that a path names: `/v4/<service>/<command>`.
fn find_row(path: &str) -> Option<&'static Row> {
    let (service, command) = path.strip_prefix("/v4/")?.split_once('/')?;
    table::find(service, command.trim_end_matches('/'))
}

/// Reads a body to its end, and keeps it if that is wanted.
async fn read_body(mut body: Incoming, bytes_max: usize, keep: bool) -> Result<Vec<u8>, Failure> {
    let too_large = || codes::HTTP_INVALID.because("the body is too large");
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let (mut content, mut bytes) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| codes::HTTP_INVALID)?;
        let Ok(data) = frame.into_data() else { continue };
        bytes += data.len();
        if bytes > bytes_max {
            return Err(too_large());
        }
        if keep {
            content.extend_from_slice(&data);
        }
    }
    Ok(content)
}

/// What every answer has beside its own.
fn envelope(called: Result<Map<String, Value>, Failure>) -> Value {
    let (mut answer, status, code, info) = match called {
        Ok(answer) => (answer, "OK", 0, String::new()),
        Err(Failure { code, info }) => (Map::new(), "FAIL", code, info),
    };
    // A command that failed in part says so itself.
    answer.entry("ActionStatus").or_insert_with(|| status.into());
    answer.entry("ErrorCode").or_insert_with(|| code.into());
    answer.entry("ErrorInfo").or_insert_with(|| info.into());
    // Some services publish it; it says nothing.
    answer.entry("ErrorDisplay").or_insert_with(|| "".into());
    Value::Object(answer)
}

fn json_reply(answer: &Value) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(answer.to_string())).boxed_unsync());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// An answer without content.
pub fn empty_reply(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::new()).boxed_unsync());
    *reply.status_mut() = status;
    reply
}

/// An answer that is sent piece by piece.
pub fn stream_reply(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Reply {
    use futures::StreamExt;
    Response::new(StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))).boxed_unsync())
}

/// The parameters of a URL.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Takes a query apart; `None` if an escape in it is none.
    pub fn of(query: &str) -> Option<Query> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((unescape(name)?, unescape(value)?))
        });
        pairs.collect::<Option<_>>().map(Query)
    }

    /// The first parameter of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// `%41` is `A`. A plus stays one: a UserSig has none, and names may.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_taken_apart() {
        let query = Query::of("a=1&b=x%2ay%20&c&&d=+=").unwrap();
        assert_eq!(
            ["a", "b", "c", "d", "e"].map(|name| query.get(name)),
            [Some("1"), Some("x*y "), Some(""), Some("+="), None]
        );
        for wrong in ["a=%", "a=%4", "a=%zz", "a=%ff", "a=%é"] {
            assert!(Query::of(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_path_names_a_row_or_none() {
        assert!(find_row("/v4/openim/sendmsg").is_some());
        for path in ["/v4/openim/sendmsgs", "/v4/openim", "/openim/sendmsg", "/v3/openim/sendmsg", "/", ""] {
            assert!(find_row(path).is_none(), "{path}");
        }
    }

    #[test]
    fn the_envelope_says_what_came_of_it() {
        let failed = envelope(Err(codes::TIMED_OUT.into()));
        assert_eq!(
            failed,
            json!({"ActionStatus": "FAIL", "ErrorCode": 60008, "ErrorInfo": codes::TIMED_OUT.1, "ErrorDisplay": ""})
        );
        let Value::Object(own) = json!({"X": 1, "ActionStatus": "SomeError"}) else { panic!() };
        let partly = envelope(Ok(own));
        let expected =
            json!({"X": 1, "ActionStatus": "SomeError", "ErrorCode": 0, "ErrorInfo": "", "ErrorDisplay": ""});
        assert_eq!(partly, expected);
    }
}
