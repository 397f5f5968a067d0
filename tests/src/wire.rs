//! TLS and bytes: a connection that does what the test says, sensible or not.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use prost::Message;
use protocol::{
    ErrorCode,
    command::Command,
    frame::{self, Decoder, Frame, Kind, Prefix},
    message::{Failure, GoAway, Hello, Welcome},
};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

use crate::PATIENCE;

/// What a client trusts and offers in TLS.
pub type Config = Arc<ClientConfig>;

/// Trusts the certificates in a file, and offers our protocol in TLS 1.3 and 1.2.
pub fn tls_config(certificate: &Path) -> Config {
    Arc::new(tls_config_of(certificate, rustls::ALL_VERSIONS))
}

/// The same in some versions only, to be changed further.
pub fn tls_config_of(certificate: &Path, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_file_iter(certificate).expect("a certificate file") {
        roots.add(der.expect("PEM")).expect("a certificate");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol::ALPN.to_vec()];
    config
}

/// A TLS connection.
pub struct Wire {
    stream: StreamOwned<ClientConnection, TcpStream>,
    decoder: Decoder,
}

impl Wire {
    /// Connects and shakes hands.
    pub fn open(address: SocketAddr, config: Config) -> io::Result<Wire> {
        Self::over(TcpStream::connect_timeout(&address, PATIENCE)?, config)
    }

    /// Shakes hands over a socket.
    pub fn over(mut socket: TcpStream, config: Config) -> io::Result<Wire> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        Ok(Wire { stream: StreamOwned::new(tls, socket), decoder: Decoder::default() })
    }

    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        &self.stream.sock
    }

    /// The TLS state.
    pub fn tls(&self) -> &ClientConnection {
        &self.stream.conn
    }

    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Reads some bytes; none at all means the end. `None`: nothing came until `deadline`.
    pub fn read_until(&mut self, deadline: Instant) -> Option<Vec<u8>> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.sock.set_read_timeout(Some(left)).expect("a time-out above zero");
        let mut buffer = vec![0; 32 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(count) => buffer.truncate(count),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return None,
            Err(_) => buffer.clear(), // reset, or ended without goodbye: the end all the same
        }
        Some(buffer)
    }

    /// Ends the sending direction, with TLS' goodbye.
    pub fn end(&mut self) {
        self.stream.conn.send_close_notify();
        let _ = self.stream.flush();
        let _ = self.stream.sock.shutdown(std::net::Shutdown::Write);
    }

    /// Writes a frame.
    pub fn send(&mut self, kind: Kind, prefix: Prefix, payload: &impl Message) {
        let mut bytes = BytesMut::new();
        frame::put(&mut bytes, kind, prefix, payload, false);
        self.write(&bytes).expect("the gateway takes a frame");
    }

    /// Writes a request.
    pub fn request(&mut self, id: u32, command: Command, payload: &impl Message) {
        self.send(Kind::Request, Prefix::Pair(id, command.code()), payload);
    }

    /// Says hello and takes the welcome.
    pub fn hello(&mut self) -> Welcome {
        self.hello_with(&Hello { version_min: 1, version_max: 1, ..Hello::default() });
        let frame = self.frame().expect("a welcome");
        assert_eq!(frame.kind, Kind::Welcome);
        Welcome::decode(frame.body).expect("a welcome")
    }

    /// Says hello with these words.
    pub fn hello_with(&mut self, hello: &Hello) {
        self.send(Kind::Hello, Prefix::Magic, hello);
    }

    /// The next frame; `None` at the end of the stream.
    pub fn frame(&mut self) -> Option<Frame> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(frame) = self.decoder.next_frame(1 << 24).expect("the gateway sends frames") {
                return Some(frame);
            }
            let bytes = self.read_until(deadline).expect("a frame or the end, in time");
            if bytes.is_empty() {
                return None;
            }
            self.decoder.feed(&bytes);
        }
    }

    /// The next frame is the failure of request `id`: its code.
    pub fn failure(&mut self, id: u32) -> ErrorCode {
        let frame = self.frame().expect("a response");
        assert_eq!(frame.kind, Kind::Response, "{frame:?}");
        let (found, code, payload) = frame::split_pair(frame.body).expect("a response");
        assert_eq!(found, id);
        assert_ne!(code, 0, "request {id} should have failed");
        Failure::decode(payload).expect("a failure");
        ErrorCode(code)
    }

    /// The next frame is a go-away, and nothing follows it.
    pub fn go_away(&mut self) -> ErrorCode {
        let frame = self.frame().expect("a go-away");
        assert_eq!(frame.kind, Kind::GoAway, "{frame:?}");
        let go_away = GoAway::decode(frame.body).expect("a go-away");
        assert_eq!(self.frame(), None, "the go-away is the last frame");
        ErrorCode(go_away.code)
    }

    /// The gateway closes without a word in our protocol.
    pub fn closed(&mut self) {
        assert_eq!(self.frame(), None);
    }
}
