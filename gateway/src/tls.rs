//! TLS: the server's configuration from PEM files, and one connection's TLS as bytes in, bytes out.
//!
//! [`TlsSession`] wraps rustls' unbuffered connection, which owns no buffers: what is read is decrypted
//! from the core's own buffer, and what is written goes into one. An idle connection holds its keys and
//! nothing else. This type is the only place that knows how rustls is driven.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use rustls::{
    InvalidMessage, ServerConfig,
    server::{ProducesTickets, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// TLS 1.3 and 1.2 with the certificate of two PEM files, for the protocol that ALPN calls `alpn`; tickets on,
/// no 0-RTT.
pub fn server_config(
    cert: &Path,
    key: &Path,
    alpn: &[u8],
    tickets: Arc<dyn ProducesTickets>,
) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("certificate {}: not readable as PEM", cert.display()))?;
    anyhow::ensure!(!chain.is_empty(), "certificate {}: the file holds no certificate", cert.display());
    let key_der = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("private key {}: not readable as PEM", key.display()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .with_context(|| format!("certificate {} and key {} do not fit together", cert.display(), key.display()))?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.ticketer = tickets;
    // Resumption by tickets only: a session cache would hold memory for clients that are gone.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Where a connection's TLS stands after bytes were taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The handshake needs more from the client.
    Handshaking,
    /// Application data may flow.
    Open,
    /// The client has said that it sends no more.
    PeerClosed,
}

/// One connection's TLS.
pub struct TlsSession {
    connection: UnbufferedServerConnection,
    /// The start of a record or handshake message that has not arrived whole.
    partial: Vec<u8>,
}

/// Most bytes held for what has not arrived whole: the longest handshake message TLS knows, and one record.
const PARTIAL_BYTES_MAX: usize = 0xffff + 0x4800 + 5;

impl TlsSession {
    /// A connection that was just accepted.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(TlsSession { connection: UnbufferedServerConnection::new(config)?, partial: Vec::new() })
    }

    /// Takes bytes from the socket. Plaintext goes to `on_plaintext`, bytes to send are appended to
    /// `out`. After an error `out` holds the alert to send before closing.
    pub fn receive(
        &mut self,
        bytes: &mut [u8],
        out: &mut Vec<u8>,
        on_plaintext: &mut dyn FnMut(&[u8]),
    ) -> Result<Progress, rustls::Error> {
        if self.partial.is_empty() {
            let (used, progress) = self.process(bytes, out, on_plaintext)?;
            self.partial.extend_from_slice(bytes.get(used..).unwrap_or_default());
            return Ok(progress);
        }
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(bytes);
        let (used, progress) = self.process(&mut joined, out, on_plaintext)?;
        if used < joined.len() {
            joined.drain(..used);
            self.partial = joined;
        }
        // A handshake message may come in any number of padded records, none of which is used before the last.
        if self.partial.len() > PARTIAL_BYTES_MAX {
            return Err(InvalidMessage::HandshakePayloadTooLarge.into());
        }
        Ok(progress)
    }

    /// Encrypts application data onto `out`. Only once the handshake is done.
    pub fn encrypt(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), rustls::Error> {
        self.write(Outgoing::Data(plaintext), out)
    }

    /// Says goodbye.
    pub fn close(&mut self, out: &mut Vec<u8>) -> Result<(), rustls::Error> {
        self.write(Outgoing::CloseNotify, out)
    }

    /// How the client and this side agreed, for metrics: the handshake was resumed.
    pub fn resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    fn process(
        &mut self,
        bytes: &mut [u8],
        out: &mut Vec<u8>,
        on_plaintext: &mut dyn FnMut(&[u8]),
    ) -> Result<(usize, Progress), rustls::Error> {
        let mut used = 0;
        let mut peer_closed = false;
        let mut failure = None;
        loop {
            // After a failure there is only the alert to send: rustls must not meet the bytes again.
            if let Some(error) = failure.take_if(|_| !self.connection.wants_write()) {
                return Err(error);
            }
            // A client that names another protocol is refused by the handshake, one that names none here.
            let agreed = failure.is_none() && self.connection.handshake_kind().is_some();
            if agreed && self.connection.alpn_protocol().is_none() {
                return Err(rustls::Error::NoApplicationProtocol);
            }
            let rest = bytes.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { discard, state, .. } = self.connection.process_tls_records(rest);
            let progress = match state {
                Err(error) => {
                    used = bytes.len();
                    failure.get_or_insert(error);
                    continue;
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        on_plaintext(record?.payload);
                    }
                    None
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(out, 0, &mut |free| data.encode(free).map_err(Grow::from))?;
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    peer_closed = true;
                    None
                }
                Ok(ConnectionState::BlockedHandshake) => Some(Progress::Handshaking),
                Ok(ConnectionState::WriteTraffic(_)) if peer_closed => Some(Progress::PeerClosed),
                Ok(ConnectionState::WriteTraffic(_)) => Some(Progress::Open),
                Ok(_) => Some(Progress::PeerClosed),
            };
            used += discard;
            if let Some(progress) = progress {
                return Ok((used, progress));
            }
        }
    }

    fn write(&mut self, outgoing: Outgoing<'_>, out: &mut Vec<u8>) -> Result<(), rustls::Error> {
        loop {
            // rustls remembers how far it got in what it was given last: it must be given that again.
            let UnbufferedStatus { discard, state, .. } = self.connection.process_tls_records(&mut self.partial);
            let mut written = false;
            match state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    append(out, outgoing.encrypted_len(), &mut |free| {
                        let written = match outgoing {
                            Outgoing::Data(plaintext) => traffic.encrypt(plaintext, free),
                            Outgoing::CloseNotify => traffic.queue_close_notify(free),
                        };
                        written.map_err(Grow::from)
                    })?;
                    written = true;
                }
                // A ticket or key update that is due goes first.
                ConnectionState::EncodeTlsData(mut data) => {
                    append(out, 0, &mut |free| data.encode(free).map_err(Grow::from))?;
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => {}
                _ => return Err(rustls::Error::HandshakeNotComplete),
            }
            self.partial.drain(..discard);
            if written {
                return Ok(());
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Outgoing<'a> {
    Data(&'a [u8]),
    CloseNotify,
}

impl Outgoing<'_> {
    /// Room that is enough in every cipher suite: header, explicit nonce, type and tag for each record.
    fn encrypted_len(self) -> usize {
        const RECORD_BYTES_MAX: usize = 16 * 1024;
        const RECORD_OVERHEAD_BYTES: usize = 64;
        match self {
            Outgoing::Data(plaintext) => {
                plaintext.len() + RECORD_OVERHEAD_BYTES * (plaintext.len() / RECORD_BYTES_MAX + 1)
            }
            Outgoing::CloseNotify => RECORD_OVERHEAD_BYTES,
        }
    }
}

/// Why nothing was written.
enum Grow {
    /// More room is needed.
    To(usize),
    /// It can't be written at all.
    Never,
}

impl From<EncodeError> for Grow {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::InsufficientSize(size) => Grow::To(size.required_size),
            EncodeError::AlreadyEncoded => Grow::Never,
        }
    }
}

impl From<EncryptError> for Grow {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(size) => Grow::To(size.required_size),
            EncryptError::EncryptExhausted => Grow::Never,
        }
    }
}

/// Lets `encode` write behind what `out` holds, with `room` bytes or as much as it then asks for.
fn append(
    out: &mut Vec<u8>,
    mut room: usize,
    encode: &mut dyn FnMut(&mut [u8]) -> Result<usize, Grow>,
) -> Result<(), rustls::Error> {
    let start = out.len();
    loop {
        out.resize(start + room, 0);
        match encode(out.get_mut(start..).unwrap_or_default()) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(Grow::To(size)) if size > room => room = size,
            Err(_) => {
                out.truncate(start);
                return Err(rustls::Error::EncryptError);
            }
        }
    }
}
