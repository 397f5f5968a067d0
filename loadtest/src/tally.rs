//! What a run counts and times. Each thread has its own; they are added up at the end.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::{
    clock::{Micros, SECOND_US},
    ledger::Findings,
    spread::Spread,
};

/// Longer latencies count as this one.
const LATENCY_US_MAX: Micros = 600 * SECOND_US;

#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    pub(crate) delivered: u64,
    /// Of `acked` and `delivered`, those within the measured time.
    pub(crate) acked_in_time: u64,
    pub(crate) delivered_in_time: u64,
    /// Sends whose ack never came.
    pub(crate) unknown: u64,
    /// Sends that the schedule had, and a full window held back to the end.
    pub(crate) unsent: u64,
    pub(crate) reconnects: u64,
    /// Users whose messages could not be read back.
    pub(crate) unverified: u64,
    /// Messages read back so far.
    pub(crate) read_back: u64,
    /// Connections that are logged in.
    pub(crate) connected: u64,
    pub(crate) handshakes_full: u64,
    pub(crate) handshakes_resumed: u64,
    /// Events that devices read while they caught up, and how long all of them together took for it.
    pub(crate) caught_up_events: u64,
    pub(crate) catching_up_us: Micros,
    /// Of `caught_up_events`, those within the measured time.
    pub(crate) caught_up_events_in_time: u64,
    /// Tries to come back that failed.
    pub(crate) retries: u64,
    /// From the first request for what was missed to the log's end.
    pub(crate) catch_up_us: Histogram<u64>,
    /// Until a device was connected, logged in and had caught up.
    pub(crate) return_us: Histogram<u64>,
    /// How long the call took that tells everybody something.
    pub(crate) push_answer_us: Option<Micros>,
    /// From that call until a user who was online had been told.
    pub(crate) told_us: Histogram<u64>,
    /// Acks of what was sent in the second after that call.
    pub(crate) beside_push_us: Histogram<u64>,
    pub(crate) ack_us: Histogram<u64>,
    /// The same by the sender's target, of scenarios in which it is known.
    pub(crate) ack_us_at: Apart<usize>,
    pub(crate) delivery_us: Histogram<u64>,
    /// The same by the sender's target and the recipient's.
    pub(crate) delivery_us_between: Apart<(usize, usize)>,
    /// What many were given.
    pub(crate) spread: Spread,
    /// Messages of a live room that a connection was not given because it did not keep up.
    pub(crate) shed: u64,
    pub(crate) findings: Findings,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            sent: 0,
            acked: 0,
            delivered: 0,
            acked_in_time: 0,
            delivered_in_time: 0,
            unknown: 0,
            unsent: 0,
            reconnects: 0,
            unverified: 0,
            read_back: 0,
            connected: 0,
            handshakes_full: 0,
            handshakes_resumed: 0,
            caught_up_events: 0,
            catching_up_us: 0,
            caught_up_events_in_time: 0,
            retries: 0,
            catch_up_us: histogram(),
            return_us: histogram(),
            push_answer_us: None,
            told_us: histogram(),
            beside_push_us: histogram(),
            ack_us: histogram(),
            ack_us_at: Apart::default(),
            delivery_us: histogram(),
            delivery_us_between: Apart::default(),
            spread: Spread::default(),
            shed: 0,
            findings: Findings::default(),
        }
    }
}

impl Tally {
    /// An answer came at `now_us` to what was due at `sent_us`.
    pub(crate) fn ack(&mut self, sent_us: Micros, now_us: Micros, end_us: Micros) {
        self.acked += 1;
        self.acked_in_time += u64::from(now_us <= end_us);
        self.ack_us.saturating_record(now_us.saturating_sub(sent_us));
    }

    /// A message reached its recipient at `now_us`.
    pub(crate) fn delivery(&mut self, sent_us: Micros, now_us: Micros, end_us: Micros) {
        self.delivered += 1;
        self.delivered_in_time += u64::from(now_us <= end_us);
        self.delivery_us.saturating_record(now_us.saturating_sub(sent_us));
    }

    /// A device read `events` from `start_us` to `now_us`, and has caught up.
    pub(crate) fn catch_up(&mut self, events: u64, start_us: Micros, now_us: Micros, end_us: Micros) {
        self.caught_up_events += events;
        self.caught_up_events_in_time += if now_us <= end_us { events } else { 0 };
        self.catching_up_us += now_us - start_us;
        self.catch_up_us.saturating_record(now_us - start_us);
    }

    /// A try to come back failed; another one follows.
    pub(crate) fn retry(&mut self, error: &anyhow::Error) {
        self.retries += 1;
        self.findings.note(|| format!("tries again: {error:#}"));
    }

    pub(crate) fn add(&mut self, other: Tally) {
        self.sent += other.sent;
        self.acked += other.acked;
        self.delivered += other.delivered;
        self.acked_in_time += other.acked_in_time;
        self.delivered_in_time += other.delivered_in_time;
        self.unknown += other.unknown;
        self.unsent += other.unsent;
        self.reconnects += other.reconnects;
        self.unverified += other.unverified;
        self.read_back += other.read_back;
        self.connected += other.connected;
        self.handshakes_full += other.handshakes_full;
        self.handshakes_resumed += other.handshakes_resumed;
        self.caught_up_events += other.caught_up_events;
        self.catching_up_us += other.catching_up_us;
        self.caught_up_events_in_time += other.caught_up_events_in_time;
        self.retries += other.retries;
        self.catch_up_us.add(other.catch_up_us).expect("same bounds");
        self.return_us.add(other.return_us).expect("same bounds");
        self.push_answer_us = self.push_answer_us.or(other.push_answer_us);
        self.told_us.add(other.told_us).expect("same bounds");
        self.beside_push_us.add(other.beside_push_us).expect("same bounds");
        self.ack_us.add(other.ack_us).expect("same bounds");
        self.ack_us_at.add(other.ack_us_at);
        self.delivery_us.add(other.delivery_us).expect("same bounds");
        self.delivery_us_between.add(other.delivery_us_between);
        self.spread.add(other.spread);
        self.shed += other.shed;
        self.findings.add(other.findings);
    }
}

/// Latencies, each kind of them apart.
#[derive(Debug)]
pub(crate) struct Apart<K>(BTreeMap<K, Histogram<u64>>);

impl<K> Default for Apart<K> {
    fn default() -> Self {
        Apart(BTreeMap::new())
    }
}

impl<K: Ord> Apart<K> {
    pub(crate) fn record(&mut self, kind: K, latency_us: Micros) {
        self.0.entry(kind).or_insert_with(histogram).saturating_record(latency_us);
    }

    pub(crate) fn add(&mut self, other: Apart<K>) {
        for (kind, latencies_us) in other.0 {
            self.0.entry(kind).or_insert_with(histogram).add(latencies_us).expect("same bounds");
        }
    }

    /// By names; kinds that have the same one are put together.
    pub(crate) fn by_name(self, name: impl Fn(K) -> String) -> BTreeMap<String, Histogram<u64>> {
        let mut named = Apart::default();
        for (kind, latencies_us) in self.0 {
            named.add(Apart(BTreeMap::from([(name(kind), latencies_us)])));
        }
        named.0
    }
}

/// For latencies.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("valid bounds")
}
