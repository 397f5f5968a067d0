//! One request to an application's server: its address, signature and bounds.
//!
//! Addresses and tokens are secrets of the operator: neither goes into an error or a log.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use backend::{
    domain::{
        AppId,
        callbacks::{CallbackCommand, Callbacks},
        figures::Figure,
    },
    env::Clock,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{client::legacy, client::legacy::connect::HttpConnector, rt::TokioExecutor};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest as _, Sha256};

use crate::figures::Figures;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The header that has an entry's id: the same whenever it is delivered again.
const ID_HEADER: &str = "x-callback-id";

/// Makes requests. Clones share connections.
#[derive(Clone)]
pub struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    clock: Arc<dyn Clock>,
    figures: Figures,
}

/// What a request is about.
pub struct Question<'a> {
    pub app: AppId,
    pub command: CallbackCommand,
    /// The client's address; empty: not known.
    pub ip: &'a str,
    /// What the client runs on.
    pub platform: &'a str,
    /// The same at each try.
    pub id: Option<&'a str>,
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("its address is not one")]
    Address,
    #[error("it can't be reached, or has hung up")]
    Connection,
    #[error("it answered with status {0}")]
    Status(u16),
    #[error("its answer is too long, or has no end")]
    Answer,
}

impl Client {
    /// Trusts the public authorities, and the certificates in `ca_file`.
    pub fn new(clock: Arc<dyn Clock>, ca_file: Option<&Path>, figures: Figures) -> anyhow::Result<Client> {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(path) = ca_file {
            let at = || format!("callbacks.ca_file {}", path.display());
            let before = roots.len();
            for certificate in CertificateDer::pem_file_iter(path).with_context(at)? {
                roots.add(certificate.with_context(at)?).with_context(at)?;
            }
            anyhow::ensure!(roots.len() > before, "{}: the file holds no certificate", at());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = tls.with_root_certificates(roots).with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Ok(Client { http: legacy::Client::builder(TokioExecutor::new()).build(connector), clock, figures })
    }

    /// Posts a question. The answer's body, if its status says that all is well.
    pub async fn post(&self, callbacks: &Callbacks, question: Question<'_>) -> Result<Bytes, Failure> {
        let uri = self.uri(callbacks, &question)?;
        self.figures.count(question.app, Figure::CallbackRequests, 1);
        let mut request = Request::post(uri).header(header::CONTENT_TYPE, "application/json");
        if let Some(id) = question.id {
            request = request.header(ID_HEADER, id);
        }
        let request = request.body(Full::new(question.body)).map_err(|_| Failure::Address)?;
        let answer = self.http.request(request).await.map_err(|_| Failure::Connection)?;
        if !answer.status().is_success() {
            return Err(Failure::Status(answer.status().as_u16()));
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|_| Failure::Answer)?.to_bytes();
        self.figures.count(question.app, Figure::CallbackAnswers, 1);
        Ok(body)
    }

    fn uri(&self, callbacks: &Callbacks, question: &Question<'_>) -> Result<Uri, Failure> {
        let Question { app, command, ip, platform, .. } = question;
        let mut uri = callbacks.url.clone();
        uri.push(if uri.contains('?') { '&' } else { '?' });
        uri += &format!(
            "SdkAppid={app}&CallbackCommand={}&contenttype=json&ClientIP={ip}&OptPlatform={platform}",
            command.name()
        );
        if !callbacks.token.0.is_empty() {
            let time_s = self.clock.unix_ms() / 1000;
            uri += &format!("&Sign={}&RequestTime={time_s}", sign(&callbacks.token.0, time_s));
        }
        uri.parse().map_err(|_| Failure::Address)
    }
}

/// The published signature.
fn sign(token: &str, time_s: u64) -> String {
    let hash = Sha256::digest(format!("{token}{time_s}").as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_published_one() {
        // The example of the hosted original's documentation.
        let published = "17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061";
        assert_eq!(sign("xxxxyyyy", 1_669_872_112), published);
    }
}
