//! An application's own server: calls of the server API over HTTPS.

use std::{net::SocketAddr, path::Path, sync::Arc};

use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig, TlsProvider},
};

use crate::{App, PATIENCE};

/// Speaks HTTPS with whoever shows one of these certificates; answers of all statuses, or only good ones.
pub fn https(certificate: &Path, only_good: bool) -> Agent {
    let chain = CertificateDer::pem_file_iter(certificate).expect("a certificate file");
    let chain: Vec<_> = chain.map(|der| Certificate::from_der(&der.expect("PEM")).to_owned()).collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::new_with_certs(&chain))
        .unversioned_rustls_crypto_provider(provider)
        .build();
    let config = Agent::config_builder().tls_config(tls).timeout_global(Some(PATIENCE));
    config.http_status_as_error(only_good).build().new_agent()
}

/// Calls as an administrator; connections are kept between them.
pub struct Api {
    agent: Agent,
    address: SocketAddr,
    app: App,
    identifier: String,
    usersig: String,
}

impl Api {
    /// Calls to an address, by an administrator whose UserSig is good.
    pub fn new(address: SocketAddr, certificate: &Path, app: &App, identifier: &str) -> Api {
        let agent = https(certificate, true);
        let usersig = app.sign(identifier);
        Api { agent, address, app: app.clone(), identifier: identifier.to_owned(), usersig }
    }

    /// The URL of a command, with all that it needs.
    pub fn url(&self, command: &str) -> String {
        let Api { app, identifier, usersig, .. } = self;
        let query = format!("sdkappid={}&identifier={identifier}&usersig={usersig}", app.sdkappid);
        format!("{}?{query}&random=99999999&contenttype=json", self.bare_url(command))
    }

    /// The URL of a command without a query.
    pub fn bare_url(&self, command: &str) -> String {
        // The certificate names it, as the one of a test's own production start does.
        format!("https://localhost:{}/v4/{command}", self.address.port())
    }

    /// Posts a body of any kind; the answer, whose HTTP status is always 200.
    pub fn post(&self, url: &str, body: &[u8]) -> Value {
        let reply = self.agent.post(url).send(body).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(reply.status().as_u16(), 200);
        let answer = reply.into_body().read_to_vec().expect("a body");
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        for field in ["ActionStatus", "ErrorCode", "ErrorInfo"] {
            assert!(!answer[field].is_null(), "{field} is missing: {answer}");
        }
        answer
    }

    /// Calls a command; its answer, whatever came of it.
    pub fn call(&self, command: &str, body: &Value) -> Value {
        self.post(&self.url(command), body.to_string().as_bytes())
    }

    /// Calls a command that is to succeed.
    pub fn ok(&self, command: &str, body: Value) -> Value {
        let answer = self.call(command, &body);
        assert_eq!((&answer["ActionStatus"], &answer["ErrorCode"]), (&json!("OK"), &json!(0)), "{body}: {answer}");
        answer
    }

    /// Calls a command that is to fail: the code.
    pub fn fails(&self, command: &str, body: Value) -> u64 {
        let answer = self.call(command, &body);
        assert_eq!(answer["ActionStatus"], "FAIL", "{body}: {answer}");
        assert!(answer["ErrorInfo"].as_str().is_some_and(|info| !info.is_empty()), "{answer}");
        answer["ErrorCode"].as_u64().expect("a code")
    }

    /// Fetches what a link leads to: the HTTP status and the content.
    pub fn fetch(&self, url: &str) -> (u16, Vec<u8>) {
        match self.agent.get(url).call() {
            Ok(reply) => (reply.status().as_u16(), reply.into_body().read_to_vec().expect("a body")),
            Err(ureq::Error::StatusCode(status)) => (status, Vec::new()),
            Err(error) => panic!("{url}: {error}"),
        }
    }
}
