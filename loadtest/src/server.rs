//! The server's own figures, from its Prometheus endpoint.

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(3);
/// More than any metrics page has, in bytes.
const PAGE_BYTES_MAX: u64 = 8 << 20;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figures {
    pub(crate) rss_bytes: u64,
    pub(crate) cpu_seconds: f64,
}

/// Asks the admin endpoint at `admin` (`http://host:port`); `None` if it doesn't answer as expected.
pub(crate) fn figures(admin: &str) -> Option<Figures> {
    parse(&page(admin.strip_prefix("http://")?.trim_end_matches('/'))?)
}

fn page(host: &str) -> Option<String> {
    let address = host.to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    // Version 1.0, so that the answer comes in one piece and ends with the connection.
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.take(PAGE_BYTES_MAX).read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_ascii_whitespace().nth(1)?;
    (status == "200").then(|| body.to_owned())
}

fn parse(page: &str) -> Option<Figures> {
    let value = |name: &str| -> Option<f64> {
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.split(' ').next()?.parse().ok())
    };
    Some(Figures {
        rss_bytes: value("process_resident_memory_bytes")? as u64,
        cpu_seconds: value("process_cpu_seconds_total")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_prometheus_format() {
        let page = "# HELP process_cpu_seconds_total CPU\n# TYPE process_cpu_seconds_total counter\n\
                    process_cpu_seconds_total 12.5\nprocess_resident_memory_bytes_max 9\n\
                    process_resident_memory_bytes 4.5e7\n";
        assert_eq!(parse(page), Some(Figures { rss_bytes: 45_000_000, cpu_seconds: 12.5 }));
        assert_eq!(parse("process_cpu_seconds_total 1\n"), None);
    }

    #[test]
    fn unreachable_is_none() {
        assert_eq!(figures("http://127.0.0.1:1"), None);
        assert_eq!(figures("nonsense"), None);
    }
}
