//! The run's one clock. Sender and receiver share it, so that a delivery time needs no second machine
//! to agree with. Times are microseconds since the process started.

use std::time::Instant;

/// Microseconds on the run's clock.
pub(crate) type Micros = u64;

/// One second, in microseconds.
pub(crate) const SECOND_US: Micros = 1_000_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Clock { start: Instant::now() }
    }

    pub(crate) fn now_us(self) -> Micros {
        self.start.elapsed().as_micros() as Micros
    }
}
