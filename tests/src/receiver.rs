//! An application's own server, as far as callbacks go: takes requests over HTTP or HTTPS, keeps them for the
//! test, and answers as the test says.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};

use crate::PATIENCE;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// The path before the query.
    pub path: String,
    /// The query's parameters.
    pub query: HashMap<String, String>,
    /// The id of what it tells, if it has one.
    pub id: Option<String>,
    /// The JSON in it.
    pub body: Value,
}

/// What to answer.
#[derive(Clone, Debug)]
pub enum Reply {
    /// This JSON.
    Json(Value),
    /// Nothing but a status.
    Status(u16),
    /// Nothing at all, until the other side gives up.
    Silence,
}

impl Reply {
    /// The published answer that has nothing against it.
    pub fn ok() -> Reply {
        Reply::code(0, "")
    }

    /// The published answer with a code.
    pub fn code(code: u32, info: &str) -> Reply {
        let status = if code == 0 { "OK" } else { "FAIL" };
        Reply::Json(json!({ "ActionStatus": status, "ErrorInfo": info, "ErrorCode": code }))
    }
}

type Answering = Arc<Mutex<Box<dyn FnMut(&Received) -> Reply + Send>>>;

/// A server that runs.
pub struct Receiver {
    address: SocketAddr,
    answering: Answering,
    received: Mutex<mpsc::Receiver<Received>>,
    certificate: Option<PathBuf>,
}

impl Receiver {
    /// One that has nothing against anything, on a port of the system's choice.
    pub fn start() -> Receiver {
        Receiver::listen(TcpListener::bind("127.0.0.1:0").expect("a port"), None)
    }

    /// One on a port that was chosen before.
    pub fn start_on(port: u16) -> Receiver {
        Receiver::listen(TcpListener::bind(("127.0.0.1", port)).expect("the port"), None)
    }

    /// The same over TLS, with a certificate of its own in `folder`.
    pub fn start_tls(folder: &Path) -> Receiver {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]);
        let rcgen::CertifiedKey { cert, signing_key } = made.expect("a certificate");
        let path = folder.join("receiver.pem");
        std::fs::write(&path, cert.pem()).expect("written");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![cert.der().clone()], key);
        let tls = (Arc::new(config.expect("a key that fits")), path);
        Receiver::listen(TcpListener::bind("127.0.0.1:0").expect("a port"), Some(tls))
    }

    fn listen(listener: TcpListener, tls: Option<(Arc<ServerConfig>, PathBuf)>) -> Receiver {
        let address = listener.local_addr().expect("bound");
        let answering: Answering = Arc::new(Mutex::new(Box::new(|_| Reply::ok())));
        let (sender, received) = mpsc::channel();
        let (config, certificate) = tls.unzip();
        let answers = answering.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answers, sender, config) = (answers.clone(), sender.clone(), config.clone());
                std::thread::spawn(move || _ = serve(stream, config, &answers, &sender)); // the other side hangs up
            }
        });
        Receiver { address, answering, received: Mutex::new(received), certificate }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/hook", self.address)
    }

    /// Its certificate's file, if it has one.
    pub fn certificate(&self) -> &Path {
        self.certificate.as_deref().expect("it was started with TLS")
    }

    /// Settings of callbacks that lead here.
    pub fn settings(&self, commands: &[&str]) -> Value {
        json!({ "callbacks": { "url": self.url(), "commands": commands } })
    }

    /// Answers like this from now on.
    pub fn answer(&self, answer: impl FnMut(&Received) -> Reply + Send + 'static) {
        *self.answering.lock().expect("no panic inside") = Box::new(answer);
    }

    /// The next request.
    pub fn next(&self) -> Received {
        self.received.lock().expect("no panic inside").recv_timeout(PATIENCE).expect("a request, in time")
    }

    /// Requests that have come and were not taken.
    pub fn waiting(&self) -> Vec<Received> {
        self.received.lock().expect("no panic inside").try_iter().collect()
    }
}

fn serve(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    answering: &Answering,
    sender: &mpsc::Sender<Received>,
) -> io::Result<()> {
    match tls {
        None => serve_stream(stream, answering, sender),
        Some(config) => {
            let connection = ServerConnection::new(config).map_err(io::Error::other)?;
            serve_stream(StreamOwned::new(connection, stream), answering, sender)
        }
    }
}

fn serve_stream(stream: impl Read + Write, answering: &Answering, sender: &mpsc::Sender<Received>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream)? {
        let reply = answering.lock().expect("no panic inside")(&request);
        let _ = sender.send(request); // the test has ended
        let (status, body) = match reply {
            Reply::Json(json) => (200, json.to_string()),
            Reply::Status(status) => (status, String::new()),
            Reply::Silence => {
                let _ = stream.read(&mut [0]); // until it hangs up
                return Ok(());
            }
        };
        let head = format!("HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
        stream.get_mut().write_all(format!("{head}\r\n\r\n{body}").as_bytes())?;
        stream.get_mut().flush()?;
    }
    Ok(())
}

fn read_request(stream: &mut impl BufRead) -> io::Result<Option<Received>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let wrong = || io::Error::other(format!("not a request: {line}"));
    let target = line.strip_prefix("POST ").and_then(|rest| rest.split(' ').next()).ok_or_else(wrong)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = query.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let (mut length, mut id) = (0, None);
    loop {
        let mut header = String::new();
        stream.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().map_err(io::Error::other)?,
            "x-callback-id" => id = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let body = serde_json::from_slice(&body)?;
    Ok(Some(Received { path: path.to_owned(), query, id, body }))
}
