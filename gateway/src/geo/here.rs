//! Questions of this node's clients: the rate, this node's own state, the draw, the moment.

use std::net::IpAddr;

use backend::env::{Clock, Rng};
use protocol::message::LocateReply;

use super::{Geo, Located, Now, RoundTrip, TokenInvalid, explain::Question};

/// A node that says where to connect.
pub trait Locator: Send + Sync + 'static {
    /// All that it knows of that.
    fn geo(&self) -> &Geo;
    /// The time.
    fn clock(&self) -> &dyn Clock;
    /// Draws for clients.
    fn rng(&self) -> &dyn Rng;
    /// Whether it takes clients itself; how many it has, and may have. `None`: its core says that.
    fn own_state(&self) -> (bool, Option<(usize, usize)>);

    /// Where a client should connect; `way`: how it asked, for metrics. With too many questions from its address: in how
    /// many milliseconds there is room.
    fn locate(&self, ip: IpAddr, current: &str, way: &'static str) -> Result<Located, u32> {
        self.take(ip, way)?;
        metrics::counter!("gateway_locates_total", "way" => way).increment(1);
        Ok(self.locate_now(ip, current))
    }

    /// The same for a client that asks by HTTPS. A node that knows less than others asks one of them.
    fn locate_by_https(&self, ip: IpAddr, current: &str) -> impl Future<Output = Result<LocateReply, u32>> + Send {
        std::future::ready(self.locate(ip, current, "https").map(LocateReply::from))
    }

    /// Takes a question, or a report, out of what an address may ask. With too many: in how many milliseconds there is
    /// room.
    fn take(&self, ip: IpAddr, way: &'static str) -> Result<(), u32> {
        self.geo().take(ip.to_canonical(), self.clock().monotonic_us()).inspect_err(|_| {
            metrics::counter!("gateway_locates_refused_total", "way" => way).increment(1);
        })
    }

    /// The same for a client that has not asked.
    fn locate_now(&self, ip: IpAddr, current: &str) -> Located {
        self.tell_own_state();
        self.geo().locate(ip.to_canonical(), current, self.rng().next_u64(), now(self.clock()))
    }

    /// Whether a client that logs in at the access point `here` would be much better off elsewhere.
    fn is_much_better_elsewhere(&self, ip: IpAddr, here: &str) -> bool {
        self.tell_own_state();
        self.geo().is_much_better_elsewhere(ip.to_canonical(), here, self.rng().next_u64(), now(self.clock()))
    }

    /// Explains what a client would be told.
    fn explain(&self, question: &Question) -> anyhow::Result<String> {
        self.tell_own_state();
        self.geo().explain(question, now(self.clock()))
    }

    /// Takes what a client at this address has measured.
    fn take_round_trips(&self, ip: IpAddr, token: &[u8], round_trips: &[RoundTrip]) -> Result<(), TokenInvalid> {
        let counted = self.geo().report(token, ip.to_canonical(), round_trips, now(self.clock()))?;
        metrics::counter!("gateway_round_trips_total", "counted" => "yes").increment(counted as u64);
        metrics::counter!("gateway_round_trips_total", "counted" => "no")
            .increment((round_trips.len() - counted) as u64);
        Ok(())
    }

    /// Brings the own entry in the directory up to date.
    fn tell_own_state(&self) {
        if let Some(node) = self.geo().directory.node(self.geo().here()) {
            let (is_ready, load) = self.own_state();
            node.set_healthy(is_ready);
            if let Some((connections, connections_max)) = load {
                node.report(connections as u64, connections_max as u64);
            }
        }
    }
}

fn now(clock: &dyn Clock) -> Now {
    let monotonic_s = clock.monotonic_us() / 1_000_000;
    Now { unix_s: clock.unix_ms() / 1_000, monotonic_s: u32::try_from(monotonic_s).unwrap_or(u32::MAX) }
}
