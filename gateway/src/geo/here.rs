//! Questions of this node's clients: the rate, this node's own state, the draw, the moment.

use std::{net::IpAddr, sync::atomic::Ordering};

use backend::env::Clock;

use super::{Located, Now, RoundTrip, TokenInvalid};
use crate::shared::Shared;

impl Shared {
    /// Where a client should connect; `way`: how it asked, for metrics. With too many questions from its address: in how
    /// many milliseconds there is room.
    pub fn locate(&self, ip: IpAddr, current: &str, way: &'static str) -> Result<Located, u32> {
        let ip = ip.to_canonical();
        if let Err(wait_ms) = self.geo.take(ip, self.clock.monotonic_us()) {
            metrics::counter!("gateway_locates_refused_total", "way" => way).increment(1);
            return Err(wait_ms);
        }
        metrics::counter!("gateway_locates_total", "way" => way).increment(1);
        self.tell_own_state();
        Ok(self.geo.locate(ip, current, self.rng.next_u64(), now(&*self.clock)))
    }

    /// Whether a client that logs in here would be much better off elsewhere.
    pub fn is_much_better_elsewhere(&self, ip: IpAddr) -> bool {
        self.tell_own_state();
        self.geo.is_much_better_elsewhere(ip.to_canonical(), self.rng.next_u64(), now(&*self.clock))
    }

    /// Takes what a client has measured.
    pub fn take_round_trips(&self, token: &[u8], round_trips: &[RoundTrip]) -> Result<(), TokenInvalid> {
        let counted = self.geo.report(token, round_trips, now(&*self.clock))?;
        metrics::counter!("gateway_round_trips_total", "counted" => "yes").increment(counted as u64);
        metrics::counter!("gateway_round_trips_total", "counted" => "no")
            .increment((round_trips.len() - counted) as u64);
        Ok(())
    }

    fn tell_own_state(&self) {
        if let Some(node) = self.geo.directory.node(self.geo.here()) {
            node.set_healthy(self.ready.load(Ordering::Acquire));
            node.report(self.connections.load(Ordering::Relaxed) as u64, self.connections_max as u64);
        }
    }
}

fn now(clock: &dyn Clock) -> Now {
    let monotonic_s = clock.monotonic_us() / 1_000_000;
    Now { unix_s: clock.unix_ms() / 1_000, monotonic_s: u32::try_from(monotonic_s).unwrap_or(u32::MAX) }
}
