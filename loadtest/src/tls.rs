//! TLS for the client side, without a socket: ciphertext in, plaintext out, and the other way round.
//!
//! rustls' unbuffered interface lets all connections of a thread share one read buffer; a connection
//! keeps only the bytes of a record that has not wholly come.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore,
    client::{Resumption, UnbufferedClientConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, WriteTraffic},
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

/// What encryption adds to a record, rounded up, in bytes.
const RECORD_OVERHEAD: usize = 64;
/// Most plaintext in one record, in bytes.
const RECORD_PLAIN_MAX: usize = 16 * 1024;

/// A configuration that trusts the certificates in these files and makes a full handshake each time.
pub(crate) fn config(files: &[PathBuf]) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for file in files {
        let readable = || format!("{} should hold certificates as PEM", file.display());
        let before = roots.len();
        for certificate in CertificateDer::pem_file_iter(file).with_context(readable)? {
            roots.add(certificate.with_context(readable)?).with_context(readable)?;
        }
        if roots.len() == before {
            bail!(readable());
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol::ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The same configuration with session tickets, kept apart from everybody else's.
pub(crate) fn with_resumption(config: &ClientConfig) -> ClientConfig {
    let mut config = config.clone();
    config.resumption = Resumption::in_memory_sessions(1);
    config
}

/// One TLS connection.
pub(crate) struct Tls {
    connection: UnbufferedClientConnection,
    /// The start of a record whose rest is still to come.
    partial: Vec<u8>,
    output: Vec<u8>,
    output_sent: usize,
    is_over: bool,
}

impl Tls {
    /// A connection that is about to shake hands.
    pub(crate) fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self> {
        let connection = UnbufferedClientConnection::new(config, name)?;
        let mut tls = Tls { connection, partial: Vec::new(), output: Vec::new(), output_sent: 0, is_over: false };
        tls.receive(&mut [], |_| {})?;
        Ok(tls)
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The server will send nothing more.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Bytes that an earlier read left behind; they belong in front of what is read next.
    pub(crate) fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// Takes in ciphertext (what was [`Self::partial`] first) and gives the plaintext to `sink`.
    pub(crate) fn receive(&mut self, incoming: &mut [u8], mut sink: impl FnMut(&[u8])) -> Result<()> {
        let mut consumed = 0;
        loop {
            let status = self.connection.process_tls_records(incoming.get_mut(consumed..).unwrap_or_default());
            consumed += status.discard;
            match status.state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        consumed += record.discard;
                        sink(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(data) => encode(data, &mut self.output)?,
                ConnectionState::TransmitTlsData(data) => data.done(), // it is in `output`, in order
                ConnectionState::PeerClosed => self.is_over = true,
                ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) | ConnectionState::Closed => break,
                _ => bail!("TLS is in a state that a client without early data can't be in"),
            }
        }
        self.partial.clear();
        self.partial.extend_from_slice(incoming.get(consumed..).unwrap_or_default());
        Ok(())
    }

    /// Encrypts `plain` into the output.
    pub(crate) fn send(&mut self, plain: &[u8]) -> Result<()> {
        let space = plain.len() + RECORD_OVERHEAD * (1 + plain.len() / RECORD_PLAIN_MAX);
        self.with_traffic(space, |traffic, out| traffic.encrypt(plain, out))
    }

    /// Tells the server that nothing more follows.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.with_traffic(RECORD_OVERHEAD, |traffic, out| traffic.queue_close_notify(out))
    }

    /// Ciphertext to be written.
    pub(crate) fn output(&self) -> &[u8] {
        &self.output[self.output_sent..]
    }

    /// The first `count` bytes of the output are written.
    pub(crate) fn output_written(&mut self, count: usize) {
        self.output_sent += count;
        if self.output_sent == self.output.len() {
            self.output.clear();
            self.output_sent = 0;
        }
    }

    fn with_traffic(
        &mut self,
        space: usize,
        write: impl FnOnce(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<()> {
        loop {
            let status = self.connection.process_tls_records(&mut self.partial);
            let discard = status.discard;
            match status.state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let start = self.output.len();
                    self.output.resize(start + space, 0);
                    let written = write(&mut traffic, &mut self.output[start..])?;
                    self.output.truncate(start + written);
                    self.partial.drain(..discard);
                    return Ok(());
                }
                ConnectionState::EncodeTlsData(data) => encode(data, &mut self.output)?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                _ => bail!("the TLS connection can't be written to"),
            }
            self.partial.drain(..discard);
        }
    }
}

type Traffic<'c> = WriteTraffic<'c, rustls::client::ClientConnectionData>;

fn encode(
    mut data: EncodeTlsData<'_, rustls::client::ClientConnectionData>,
    output: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = output.len();
    let written = match data.encode(&mut output[start..]) {
        Err(EncodeError::InsufficientSize(needed)) => {
            output.resize(start + needed.required_size, 0);
            data.encode(&mut output[start..])?
        }
        other => other?,
    };
    output.truncate(start + written);
    Ok(())
}
