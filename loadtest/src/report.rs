//! The result: one object for programs, one table for people.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{options::Options, run::Outcome, tally::Apart};

/// What `--report json` prints. The names are an interface: scripts and tests read them.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    scenario: &'static str,
    connections: u32,
    seconds: f64,
    sent: u64,
    acked: u64,
    delivered: u64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    errors: u64,
    per_second: PerSecond,
    ack_ms: Latencies,
    delivery_ms: Latencies,
    server: Server,
    /// What only some scenarios have.
    #[serde(flatten)]
    further: Map<String, Value>,
    #[serde(skip)]
    own_cpu_seconds: Option<f64>,
    #[serde(skip)]
    notes: Vec<String>,
    #[serde(skip)]
    unverified: u64,
}

#[derive(Debug, Serialize)]
struct PerSecond {
    acked: f64,
    delivered: f64,
}

/// In milliseconds; nothing if nothing was timed.
#[derive(Debug, Serialize)]
struct Latencies {
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
    p999: Option<f64>,
    max: Option<f64>,
}

/// Nothing if the admin endpoint was not reachable.
#[derive(Debug, Serialize)]
struct Server {
    rss_bytes: Option<u64>,
    cpu_seconds: Option<f64>,
    bytes_per_connection: Option<u64>,
}

impl Report {
    pub(crate) fn new(options: &Options, outcome: Outcome) -> Self {
        let Outcome { tally, start, end, own_cpu_seconds, .. } = outcome;
        let seconds = options.seconds;
        // A server that was restarted has no CPU time to compare.
        let cpu_seconds = start.zip(end).map(|(start, end)| end.cpu_seconds - start.cpu_seconds);
        let cpu_seconds = cpu_seconds.filter(|&seconds| seconds >= 0.0);
        let report = Report {
            scenario: options.scenario.name(),
            connections: options.connections,
            seconds,
            sent: tally.sent,
            acked: tally.acked,
            delivered: tally.delivered,
            lost: tally.findings.lost,
            duplicated: tally.findings.duplicated,
            reordered: tally.findings.reordered,
            errors: tally.findings.errors,
            per_second: PerSecond {
                acked: rounded(tally.acked_in_time as f64 / seconds),
                delivered: rounded(tally.delivered_in_time as f64 / seconds),
            },
            ack_ms: Latencies::of(&tally.ack_us),
            delivery_ms: Latencies::of(&tally.delivery_us),
            server: Server {
                rss_bytes: end.map(|end| end.rss_bytes),
                cpu_seconds: cpu_seconds.map(rounded),
                bytes_per_connection: None,
            },
            further: Map::new(),
            own_cpu_seconds,
            notes: tally.findings.notes,
            unverified: tally.unverified,
        };
        if options.target.len() > 1 {
            report.with_places(options, tally.ack_us_at, tally.delivery_us_between)
        } else {
            report
        }
    }

    /// Adds the latencies of each region, and of each way between two: `ack_ms_eu`, `delivery_ms_eu_jp`.
    fn with_places(mut self, options: &Options, ack_us: Apart<usize>, delivery_us: Apart<(usize, usize)>) -> Self {
        let region = |target: usize| options.region(target);
        for (region, ack_us) in ack_us.by_name(region) {
            self = self.with_latencies(&format!("ack_ms_{region}"), &ack_us);
        }
        let way = |(from, to)| format!("{}_{}", region(from), region(to));
        for (way, delivery_us) in delivery_us.by_name(way) {
            self = self.with_latencies(&format!("delivery_ms_{way}"), &delivery_us);
        }
        self
    }

    /// Adds a key that only some scenarios have.
    pub(crate) fn with(mut self, key: &str, value: impl Serialize) -> Self {
        self.further.insert(key.to_owned(), json!(value));
        self
    }

    /// Adds percentiles that only some scenarios have.
    pub(crate) fn with_latencies(self, key: &str, micros: &Histogram<u64>) -> Self {
        self.with(key, Latencies::of(micros))
    }

    pub(crate) fn with_bytes_per_connection(mut self, bytes: Option<u64>) -> Self {
        self.server.bytes_per_connection = bytes;
        self
    }

    /// Whether everything that was promised was found to be kept.
    pub(crate) fn is_good(&self) -> bool {
        self.lost + self.duplicated + self.reordered + self.unverified == 0
    }

    /// What went wrong, in words.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("a report is plain data")
    }

    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        let seconds = self.seconds;
        // Writing to a string can't fail.
        let mut line = |text: String| _ = writeln!(out, "{}", text.trim_end());
        line(format!("{}: {} connections, {seconds} s", self.scenario, grouped(self.connections.into())));
        line(String::new());
        line(format!("{:12}{:>14}{:>14}", "", "total", "per second"));
        for (name, count, rate) in [
            ("sent", self.sent, None),
            ("acked", self.acked, Some(self.per_second.acked)),
            ("delivered", self.delivered, Some(self.per_second.delivered)),
        ] {
            let rate = rate.map_or(String::new(), |rate| grouped(rate.round() as u64));
            line(format!("{name:12}{:>14}{rate:>14}", grouped(count)));
        }
        line(String::new());
        line(format!("{:12}{:>10}{:>10}{:>10}{:>10}{:>10}", "latency, ms", "p50", "p90", "p99", "p99.9", "max"));
        for (name, latencies) in [("ack", &self.ack_ms), ("delivery", &self.delivery_ms)] {
            line(format!("{name:12}{}", latencies.row()));
        }
        line(String::new());
        for (name, count) in [
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("reordered", self.reordered),
            ("errors", self.errors),
        ] {
            line(format!("{name:12}{:>14}", grouped(count)));
        }
        for (name, value) in &self.further {
            line(format!("{:12}{}", name.replace('_', " "), further(value)));
        }
        line(String::new());
        line(format!("server      {}", self.server.line(seconds)));
        if let Some(used) = self.own_cpu_seconds {
            line(format!("harness     {}", cpu(used, seconds)));
        }
        out
    }
}

impl Latencies {
    fn of(micros: &Histogram<u64>) -> Self {
        let at = |quantile| (!micros.is_empty()).then(|| micros.value_at_quantile(quantile) as f64 / 1e3);
        let max = (!micros.is_empty()).then(|| micros.max() as f64 / 1e3);
        Latencies { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max }
    }

    fn row(&self) -> String {
        let cell = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.2}"));
        [self.p50, self.p90, self.p99, self.p999, self.max].map(|value| format!("{:>10}", cell(value))).concat()
    }
}

impl Server {
    fn line(&self, seconds: f64) -> String {
        let mut parts = Vec::new();
        if let Some(bytes) = self.rss_bytes {
            parts.push(format!("{:.1} MiB resident", bytes as f64 / f64::from(1 << 20)));
        }
        if let Some(used) = self.cpu_seconds {
            parts.push(cpu(used, seconds));
        }
        if let Some(bytes) = self.bytes_per_connection {
            parts.push(format!("{} bytes a connection", grouped(bytes)));
        }
        if parts.is_empty() { "admin endpoint not reachable".into() } else { parts.join(", ") }
    }
}

fn cpu(used_seconds: f64, seconds: f64) -> String {
    format!("{used_seconds:.2} s of CPU ({:.2} cores)", used_seconds / seconds)
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn further(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name} {}", further(value).trim_start()));
            format!("  {}", fields.collect::<Vec<_>>().join(", "))
        }
        Value::Number(number) => match number.as_u64() {
            Some(count) => format!("{:>14}", grouped(count)),
            None => format!("{number:>14}"),
        },
        other => format!("{other:>14}"),
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::tally::Tally;

    fn report() -> Report {
        let mut tally = Tally { sent: 3, ..Tally::default() };
        tally.ack(1_000, 3_000, 10_000);
        tally.ack(1_000, 30_000, 10_000);
        let latencies = (Latencies::of(&tally.ack_us), Latencies::of(&tally.delivery_us));
        Report {
            scenario: "c2c",
            connections: 2,
            seconds: 10.0,
            sent: tally.sent,
            acked: tally.acked,
            delivered: 0,
            lost: 0,
            duplicated: 0,
            reordered: 0,
            errors: 0,
            per_second: PerSecond { acked: 0.1, delivered: 0.0 },
            ack_ms: latencies.0,
            delivery_ms: latencies.1,
            server: Server { rss_bytes: Some(50 << 20), cpu_seconds: Some(2.5), bytes_per_connection: None },
            further: Map::new(),
            own_cpu_seconds: None,
            notes: Vec::new(),
            unverified: 0,
        }
        .with("reconnects", 0)
    }

    #[test]
    fn json_has_exactly_the_agreed_keys() {
        let value: Value = serde_json::from_str(&report().json()).unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        names.sort_unstable();
        let mut expected = vec![
            "scenario",
            "connections",
            "seconds",
            "sent",
            "acked",
            "delivered",
            "lost",
            "duplicated",
            "reordered",
            "errors",
            "per_second",
            "ack_ms",
            "delivery_ms",
            "server",
            "reconnects",
        ];
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert_eq!(keys(&value["per_second"]), "acked delivered");
        for latencies in ["ack_ms", "delivery_ms"] {
            assert_eq!(keys(&value[latencies]), "max p50 p90 p99 p999");
        }
        assert_eq!(keys(&value["server"]), "bytes_per_connection cpu_seconds rss_bytes");
        assert_eq!(value["ack_ms"]["max"], 29.007);
        assert_eq!(value["delivery_ms"]["p50"], Value::Null);
        assert_eq!(value["server"]["bytes_per_connection"], Value::Null);
    }

    #[test]
    fn latencies_are_told_by_region_and_by_the_way_between_two() {
        let options = |line: &str| Options::parse_from(line.split(' '));
        let tally = || {
            let mut tally = Tally::default();
            for (from, to, ms) in [(0, 1, 10), (0, 2, 1), (1, 2, 30), (2, 0, 500)] {
                tally.ack_us_at.record(from, ms * 1_000);
                tally.delivery_us_between.record((from, to), ms * 1_000);
            }
            Outcome { tally, ..Outcome::default() }
        };
        let report = |targets: &str| {
            let report = Report::new(&options(&format!("loadtest c2c --target {targets}")), tally());
            let apart = report.further.into_iter().map(|(key, value)| (key, value["max"].as_f64().unwrap().round()));
            apart.collect::<Vec<_>>()
        };
        let expected =
            |expected: &[(&str, f64)]| expected.iter().map(|(key, ms)| ((*key).to_owned(), *ms)).collect::<Vec<_>>();
        let regions = [("ack_ms_eu", 30.0), ("ack_ms_jp", 500.0)];
        let ways = [("delivery_ms_eu_eu", 10.0), ("delivery_ms_eu_jp", 30.0), ("delivery_ms_jp_eu", 500.0)];
        assert_eq!(report("eu=a:1,eu=b:1,jp=c:1"), expected(&[&regions[..], &ways[..]].concat()));
        let unnamed: Vec<_> = report("a:1,b:2,c:3").into_iter().map(|(key, _)| key).collect();
        let ways = ["delivery_ms_a:1_b:2", "delivery_ms_a:1_c:3", "delivery_ms_b:2_c:3", "delivery_ms_c:3_a:1"];
        assert_eq!(unnamed, [&["ack_ms_a:1", "ack_ms_b:2", "ack_ms_c:3"][..], &ways].concat());
        assert_eq!(report("eu=a:1"), []);
    }

    #[test]
    fn table_shows_everything() {
        let table = report().table();
        for part in ["c2c", "acked", "p99.9", "2.00", "50.0 MiB", "0.25 cores", "reconnects", "lost"] {
            assert!(table.contains(part), "{part} is not in\n{table}");
        }
    }

    #[test]
    fn only_broken_promises_are_bad() {
        assert!(report().is_good());
        assert!(Report { errors: 5, ..report() }.is_good());
        assert!(!Report { lost: 1, ..report() }.is_good());
        assert!(!Report { duplicated: 1, ..report() }.is_good());
        assert!(!Report { reordered: 1, ..report() }.is_good());
        assert!(!Report { unverified: 1, ..report() }.is_good());
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
