//! Calls of the server API, as an application's own server makes them: HTTPS with connections that are kept.
//!
//! HTTP has a runtime with threads of its own. Whoever waits for an answer may be on any executor.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use backend::domain::usersig;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{client::legacy, client::legacy::connect::HttpConnector, rt::TokioExecutor};
use serde_json::Value;
use tokio::runtime;

use crate::{options::Options, worker::Plan};

/// An administrator's UserSig lives longer than any run, in seconds.
const USERSIG_EXPIRE_S: u64 = 7 * 86_400;
/// Whoever waits for an answer gives up after this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// The server API, used by an administrator. Clones share connections.
#[derive(Clone)]
pub(crate) struct Api {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: runtime::Handle,
    base: String,
    query: String,
}

impl Api {
    /// Makes the runtime, which ends when it is dropped, and a caller on it.
    pub(crate) fn of(plan: &Plan) -> Result<(runtime::Runtime, Api)> {
        let Plan { options, app, .. } = plan;
        let mut runtime = runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(options.threads as usize).thread_name("http").enable_all().build()?;
        let mut tls = (*plan.tls).clone();
        tls.alpn_protocols.clear();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let http = legacy::Client::builder(TokioExecutor::new()).build(connector.wrap_connector(tcp));
        let issued_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let administrator = Options::ADMINISTRATOR;
        let usersig = usersig::sign(app.sdkappid, &app.secret, administrator, issued_s, USERSIG_EXPIRE_S);
        let sdkappid = app.sdkappid;
        let query = format!("sdkappid={sdkappid}&identifier={administrator}&usersig={usersig}&contenttype=json");
        let api = Api { http, runtime: runtime.handle().clone(), base: format!("https://{}/v4", options.api), query };
        Ok((runtime, api))
    }

    /// Runs a task where calls are made.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Calls a command from any executor: its answer, which says that all is well.
    pub(crate) async fn call(&self, command: &'static str, body: Value) -> Result<Value> {
        let api = self.clone();
        let call = self.runtime.spawn(async move { api.ask(command, &body).await });
        call.await.context("the call's task died")?
    }

    /// The same, for tasks that were spawned here.
    pub(crate) async fn ask(&self, command: &str, body: &Value) -> Result<Value> {
        let answer = tokio::time::timeout(PATIENCE, self.post(command, body)).await;
        let answer = answer.with_context(|| format!("{command}: no answer in time"))?;
        let answer = answer.with_context(|| command.to_owned())?;
        if answer["ActionStatus"] != "OK" || answer["ErrorCode"] != 0 {
            bail!("{command}: {answer}");
        }
        Ok(answer)
    }

    async fn post(&self, command: &str, body: &Value) -> Result<Value> {
        let random = getrandom::u32()?;
        let request = Request::post(format!("{}/{command}?{}&random={random}", self.base, self.query));
        let answer = self.http.request(request.body(Full::new(body.to_string().into()))?).await?;
        if answer.status() != StatusCode::OK {
            bail!("status {}", answer.status());
        }
        Ok(serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?)
    }
}
