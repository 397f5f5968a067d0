//! The admin endpoint, as a scraper sees it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::PATIENCE;

/// Labels that a sample must have: name and value.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// Gets a path; the status and the body, or `None` if nobody listens.
pub(crate) fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// One scrape, in the Prometheus text format.
#[derive(Clone, Debug)]
pub struct Metrics(pub String);

impl Metrics {
    /// Sum of the samples with this name that have all of `labels`.
    pub fn sum(&self, name: &str, labels: Labels<'_>) -> f64 {
        self.samples(name, labels).sum()
    }

    /// Whether there is such a sample.
    pub fn has(&self, name: &str, labels: Labels<'_>) -> bool {
        self.samples(name, labels).next().is_some()
    }

    fn samples(&self, name: &str, labels: Labels<'_>) -> impl Iterator<Item = f64> {
        self.0.lines().filter_map(move |line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, rest) = series.split_once('{').unwrap_or((series, ""));
            let matches =
                found == name && labels.iter().all(|(key, value)| rest.contains(&format!("{key}=\"{value}\"")));
            matches.then(|| value.parse().ok()).flatten()
        })
    }
}
