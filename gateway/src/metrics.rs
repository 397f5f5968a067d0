//! Metrics: the recorder, each core's handles, and what the process uses.
//!
//! Names and meanings stand in [`describe`]; a handle is looked up once and then costs one atomic.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use protocol::ErrorCode;

use crate::rooms::Numbers;

/// Buckets of everything measured in seconds.
const SECONDS_BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// Buckets of everything counted.
const COUNT_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Installs the recorder. Before anything looks a handle up.
pub fn install() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_messages".into()), COUNT_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_commits".into()), COUNT_BUCKETS)?
        .install_recorder()?;
    describe();
    Ok(handle)
}

fn describe() {
    describe_gauge!("gateway_connections", "Connections now, by core.");
    describe_gauge!("gateway_sessions", "Logged-in connections now, by core.");
    describe_gauge!("gateway_sends_waiting", "Sends waiting for a transaction.");
    describe_gauge!("gateway_mailbox_events", "Live events waiting for a core.");
    describe_gauge!("gateway_sends_unanswered", "Sends handed to the store and not answered yet.");
    describe_counter!("gateway_logins_total", "Successful logins.");
    describe_counter!("gateway_messages_total", "Sends acknowledged.");
    describe_counter!("gateway_pushes_total", "Live events pushed to clients.");
    describe_counter!(
        "gateway_events_dropped_total",
        "Live events dropped, by reason; the clients concerned sync from their log."
    );
    describe_gauge!("gateway_rooms", "Live rooms that somebody is in through this node.");
    describe_gauge!("gateway_room_members", "Users in live rooms through this node, once for each room.");
    describe_gauge!("gateway_room_guests", "Connections without an account in live rooms, once for each room.");
    describe_counter!(
        "gateway_room_notices_dropped_total",
        "Users of whom a live room was not told that they came or went, because many did."
    );
    describe_counter!("gateway_group_messages_shed_total", "Messages refused because a group was sent too many.");
    describe_counter!("gateway_presence_pushes_total", "Changes of presence pushed to followers.");
    describe_counter!(
        "gateway_presence_dropped_total",
        "Changes of presence dropped because a core's mailbox was full of them."
    );
    describe_gauge!("gateway_presence_follows", "Users followed now, counted once for each follower, by home core.");
    describe_counter!("gateway_handshakes_total", "TLS handshakes done, by kind: full or resumed.");
    describe_counter!("gateway_tls_failures_total", "TLS handshakes and connections failed, by kind.");
    describe_counter!(
        "gateway_connections_refused_total",
        "Connections closed at accept because of client.connections_max."
    );
    describe_counter!("gateway_accept_errors_total", "Failures of accept, such as no free descriptors.");
    describe_counter!(
        "gateway_closed_total",
        "Connections closed, by the code the client was told; 0 is its own goodbye."
    );
    describe_counter!("gateway_requests_refused_total", "Requests refused, by error code.");
    describe_counter!("gateway_panics_total", "Panics; each closed one connection. Report them.");
    describe_counter!("gateway_api_calls_total", "Calls of the server API, by command and code.");
    describe_histogram!("gateway_api_seconds", "Calls of the server API: from the head to the answer, by command.");
    describe_gauge!("gateway_api_connections", "Connections to the server API now.");
    describe_counter!(
        "gateway_api_connections_refused_total",
        "Connections to the server API closed because of api.connections_max."
    );
    describe_counter!("gateway_locates_total", "Clients told where to connect, by way: https or protocol.");
    describe_counter!(
        "gateway_locates_refused_total",
        "Questions where to connect that were refused because their address asks too often, by way."
    );
    describe_counter!("gateway_round_trips_total", "Round trips that clients have measured, by whether they counted.");
    describe_gauge!("gateway_locate_connections", "Connections to /v1/locate now.");
    describe_counter!(
        "gateway_locate_connections_refused_total",
        "Connections to /v1/locate closed because of geo.connections_max."
    );
    describe_counter!("gateway_api_files_total", "Files of messages asked for by their links, by HTTP status.");
    describe_counter!("gateway_announcements_told_total", "Messages that told users an announcement.");
    describe_gauge!("gateway_peer_links", "Links to other cores now.");
    describe_gauge!("gateway_edge_links", "Links of edges now, by core.");
    describe_gauge!("gateway_links", "Links of this edge to cores now.");
    describe_counter!("gateway_link_connects_failed_total", "Tries of this edge to be linked with a core that failed.");
    describe_gauge!("gateway_batches_held", "Batches of acts that wait for what other cores have committed before.");
    describe_gauge!(
        "gateway_order_doubtful",
        "1 while a core that lives can't be heard or is late: what is told is to be read from the log."
    );
    describe_counter!(
        "gateway_peer_links_given_up_total",
        "Links to other cores ended here because they took too little."
    );
    describe_gauge!("gateway_peer_queued_bytes", "Bytes that wait to be sent to other cores.");
    describe_counter!(
        "gateway_peer_frames_dropped_total",
        "Frames for other cores that there was no room for (link.queue_bytes_max), or no link any more."
    );
    describe_counter!("gateway_peer_links_lost_total", "Links to other cores that ended though both should be there.");
    describe_counter!("gateway_peer_connects_failed_total", "Connections that did not become a link, by side.");
    describe_histogram!("gateway_peer_round_trip_seconds", "From a ping to another core to its answer.");
    describe_histogram!("send_batch_messages", "Sends that shared a transaction.");
    describe_gauge!("process_resident_memory_bytes", "Resident memory of the process.");
    describe_gauge!("process_cpu_seconds_total", "Processor time used, user and system.");
    describe_gauge!("process_open_fds", "Open file descriptors.");
}

/// One core's handles.
pub struct CoreMetrics {
    pub connections: Gauge,
    pub sessions: Gauge,
    pub mailbox_events: Gauge,
    pub logins: Counter,
    pub messages: Counter,
    pub pushes: Counter,
    pub pushes_dropped: Counter,
    pub presence_pushes: Counter,
    pub presence_dropped: Counter,
    pub presence_follows: Gauge,
    pub connections_refused: Counter,
    pub accept_errors: Counter,
    pub panics: Counter,
    full_handshakes: Counter,
    resumed_handshakes: Counter,
}

impl CoreMetrics {
    /// Handles of the core `index`.
    pub fn new(index: u16) -> Self {
        let core = index.to_string();
        CoreMetrics {
            connections: gauge!("gateway_connections", "core" => core.clone()),
            sessions: gauge!("gateway_sessions", "core" => core.clone()),
            mailbox_events: gauge!("gateway_mailbox_events", "core" => core.clone()),
            presence_pushes: counter!("gateway_presence_pushes_total"),
            presence_dropped: counter!("gateway_presence_dropped_total"),
            presence_follows: gauge!("gateway_presence_follows", "core" => core),
            logins: counter!("gateway_logins_total"),
            messages: counter!("gateway_messages_total"),
            pushes: counter!("gateway_pushes_total"),
            pushes_dropped: counter!("gateway_events_dropped_total", "reason" => "slow_reader"),
            connections_refused: counter!("gateway_connections_refused_total"),
            accept_errors: counter!("gateway_accept_errors_total"),
            panics: counter!("gateway_panics_total"),
            full_handshakes: counter!("gateway_handshakes_total", "kind" => "full"),
            resumed_handshakes: counter!("gateway_handshakes_total", "kind" => "resumed"),
        }
    }

    /// A TLS handshake is done.
    pub fn handshake_done(&self, resumed: bool) {
        if resumed { &self.resumed_handshakes } else { &self.full_handshakes }.increment(1);
    }

    /// TLS failed. Rare enough for a look-up.
    pub fn tls_failed(&self, kind: &'static str) {
        counter!("gateway_tls_failures_total", "kind" => kind).increment(1);
    }

    /// A connection was closed.
    pub fn closed(&self, code: ErrorCode) {
        counter!("gateway_closed_total", "code" => code_label(code)).increment(1);
    }

    /// A request was refused.
    pub fn refused(&self, code: ErrorCode) {
        counter!("gateway_requests_refused_total", "code" => code_label(code)).increment(1);
    }
}

/// Clients may send any code in their goodbye: only known ones become labels.
fn code_label(code: ErrorCode) -> String {
    if code.0 == 0 || code.name().is_some() { code.0.to_string() } else { "unknown".to_owned() }
}

/// What kind of TLS failure, for the counter.
pub fn tls_failure_kind(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidMessage(rustls::InvalidMessage::HandshakePayloadTooLarge) => "too_large",
        rustls::Error::InvalidMessage(_) => "not_tls",
        rustls::Error::PeerIncompatible(_) => "incompatible",
        rustls::Error::AlertReceived(_) => "client_alert",
        rustls::Error::NoApplicationProtocol => "alpn",
        rustls::Error::InappropriateMessage { .. } | rustls::Error::InappropriateHandshakeMessage { .. } => {
            "unexpected_message"
        }
        rustls::Error::DecryptError => "decrypt",
        _ => "other",
    }
}

/// How many are in live rooms, into their gauges.
pub fn update_rooms(Numbers { rooms, members, guests }: Numbers) {
    for (name, number) in [("gateway_rooms", rooms), ("gateway_room_members", members), ("gateway_room_guests", guests)]
    {
        gauge!(name).set(number as f64);
    }
}

/// Reads what the process uses into its gauges.
pub fn update_process() {
    let page_bytes = rustix::param::page_size() as f64;
    if let Ok(statm) = std::fs::read_to_string("/proc/self/statm")
        && let Some(resident) = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok())
    {
        gauge!("process_resident_memory_bytes").set(resident * page_bytes);
    }
    if let Ok(stat) = std::fs::read_to_string("/proc/self/stat")
        && let Some(ticks) = cpu_ticks(&stat)
    {
        gauge!("process_cpu_seconds_total").set(ticks / rustix::param::clock_ticks_per_second() as f64);
    }
    if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
        gauge!("process_open_fds").set(descriptors.count() as f64);
    }
}

/// User and system time: fields 14 and 15 of proc(5)'s stat, counted behind the name, which may hold spaces.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let stat = "12 (a) b (c) S 1 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 100 1 1";
        assert_eq!(cpu_ticks(stat), Some(300.0));
        assert_eq!(cpu_ticks("nonsense"), None);
    }
}
