//! How many messages one user may send, over all devices: a token bucket in one number.
//!
//! The generic cell rate algorithm: kept is the time at which the bucket will be full again. Each send
//! moves it on by the time that one token takes to come; a send that would move it further ahead of now
//! than a whole burst takes is refused, and the difference is exactly how long to wait. No timer refills
//! anything, and a bucket that nobody looks at costs nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use super::settings::Settings;

const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

/// A rate: one token each `interval_ns`, and as many at once as fit into `burst_ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendRate {
    interval_ns: u64,
    /// What a whole burst takes to come back, in nanoseconds.
    burst_ns: u64,
}

impl SendRate {
    /// What the settings of an application say; `None`: no limit.
    pub fn of(settings: &Settings) -> Option<SendRate> {
        (settings.sends_per_second > 0).then(|| SendRate::new(settings.sends_per_second, settings.sends_burst))
    }

    /// The same, with a burst that may be nought: then only what has come together since counts.
    pub fn with_burst(per_second: u32, burst: u32) -> SendRate {
        SendRate {
            burst_ns: SendRate::new(per_second, 1).interval_ns * u64::from(burst),
            ..SendRate::new(per_second, 1)
        }
    }

    /// `per_second` sends on average, `burst` of them at once; both at least 1.
    pub fn new(per_second: u32, burst: u32) -> SendRate {
        // Rounded up: never more than promised. The product fits: 10^9 · 2^32 < 2^64.
        let interval_ns = NS_PER_S.div_ceil(u64::from(per_second.max(1)));
        SendRate { interval_ns, burst_ns: interval_ns * u64::from(burst.max(1)) }
    }

    /// When a bucket is full again once a token has been taken; without one: in how many milliseconds there is.
    fn next_full_at_ns(self, full_at_ns: u64, now_us: u64) -> Result<u64, u32> {
        let now_ns = now_us.saturating_mul(1_000);
        let next_ns = full_at_ns.max(now_ns).saturating_add(self.interval_ns);
        match (next_ns - now_ns).saturating_sub(self.burst_ns) {
            0 => Ok(next_ns),
            wait_ns => Err(u32::try_from(wait_ns.div_ceil(NS_PER_MS)).unwrap_or(u32::MAX)),
        }
    }
}

/// The bucket of one user, shared by all of the user's sessions, on whatever cores. What it holds is a time, so
/// that it does not matter if the rate changes: what was taken stays taken.
#[derive(Debug, Default)]
pub struct SendBucket {
    /// When the bucket is full again, nanoseconds on the monotonic clock.
    full_at_ns: AtomicU64,
}

impl SendBucket {
    /// Whether there is a token at `now_us`, on the monotonic clock. Without one: in how many milliseconds there is.
    pub fn look(&self, rate: SendRate, now_us: u64) -> Result<(), u32> {
        rate.next_full_at_ns(self.full_at_ns.load(Ordering::Relaxed), now_us).map(|_| ())
    }

    /// The same, and takes it.
    pub fn take(&self, rate: SendRate, now_us: u64) -> Result<(), u32> {
        let mut full_at_ns = self.full_at_ns.load(Ordering::Relaxed);
        loop {
            let next_ns = rate.next_full_at_ns(full_at_ns, now_us)?;
            // Nothing else is ordered by it: relaxed.
            let order = Ordering::Relaxed;
            match self.full_at_ns.compare_exchange_weak(full_at_ns, next_ns, order, order) {
                Ok(_) => return Ok(()),
                Err(other) => full_at_ns = other,
            }
        }
    }

    /// When the bucket is full again, in milliseconds on the monotonic clock: from then on it is as good as
    /// a new one.
    pub fn full_at_ms(&self) -> u64 {
        self.full_at_ns.load(Ordering::Relaxed).div_ceil(NS_PER_MS)
    }
}

#[cfg(test)]
mod tests {
    use crate::env::{Rng, SeededRng};

    use super::*;

    const START_US: u64 = 5_000_000;

    /// A bucket under one rate.
    struct Limit(SendBucket, SendRate);

    impl Limit {
        fn take(&self, now_us: u64) -> Result<(), u32> {
            self.0.take(self.1, now_us)
        }
    }

    fn limit(per_second: u32, burst: u32) -> Limit {
        Limit(SendBucket::default(), SendRate::new(per_second, burst))
    }

    #[test]
    fn a_burst_passes_and_then_one_each_interval() {
        let limit = limit(10, 3);
        for _ in 0..3 {
            assert_eq!(limit.take(START_US), Ok(()));
        }
        assert_eq!(limit.take(START_US), Err(100));
        assert_eq!(limit.take(START_US + 1), Err(100), "99.999 ms, rounded up");
        assert_eq!(limit.take(START_US + 99_999), Err(1));
        assert_eq!(limit.take(START_US + 100_000), Ok(()));
        assert_eq!(limit.take(START_US + 100_000), Err(100));
        assert_eq!(limit.0.full_at_ms(), START_US / 1000 + 400);
        for _ in 0..3 {
            assert_eq!(limit.take(START_US + 400_000), Ok(()), "full again");
        }
        assert_eq!(limit.take(START_US + 400_000), Err(100));
    }

    #[test]
    fn rates_that_do_not_divide_a_second_and_extreme_ones_hold() {
        let third = limit(3, 1);
        assert_eq!(third.take(START_US), Ok(()));
        assert_eq!(third.take(START_US), Err(334));
        assert_eq!(third.take(START_US + 334_000), Ok(()));
        let fastest = limit(u32::MAX, 1);
        assert_eq!(fastest.take(START_US), Ok(()));
        assert_eq!(fastest.take(START_US), Err(1));
        assert_eq!(fastest.take(START_US + 1), Ok(()));
        let widest = limit(1, u32::MAX);
        assert_eq!(widest.take(u64::MAX), Ok(()), "no overflow");
        assert_eq!(SendRate::of(&Settings { sends_per_second: 0, ..Settings::default() }), None);
    }

    #[test]
    fn another_rate_forgives_nothing() {
        let bucket = SendBucket::default();
        let (slow, fast) = (SendRate::new(1, 2), SendRate::new(2, 1));
        assert_eq!((bucket.take(slow, START_US), bucket.take(slow, START_US)), (Ok(()), Ok(())));
        assert_eq!(bucket.take(fast, START_US), Err(2_000));
        assert_eq!(bucket.take(SendRate::new(1, 3), START_US), Ok(()), "a wider one lets more through at once");
    }

    /// At random times under random rates: never more passes than a burst and the rate together allow, in
    /// any span; what is refused passes after exactly the wait it was told, and not a millisecond before.
    #[test]
    fn what_passes_in_any_span_is_bounded_and_waits_are_exact() {
        for seed in 0..300 {
            let rng = SeededRng::new(seed);
            let below = |bound: u64| rng.next_u64() % bound;
            let (per_second, burst) = (1 + below(50) as u32, 1 + below(20) as u32);
            let limit = limit(per_second, burst);
            let mut now_us = below(1 << 40);
            let mut passed_us = Vec::new();
            for _ in 0..200 {
                match limit.take(now_us) {
                    Ok(()) => passed_us.push(now_us),
                    Err(wait_ms) => {
                        let wait_us = u64::from(wait_ms) * 1_000;
                        assert_eq!(limit.take(now_us + wait_us - 1_000), Err(1), "seed {seed}");
                        if below(2) == 0 {
                            now_us += wait_us;
                            assert_eq!(limit.take(now_us), Ok(()), "seed {seed}: refused after its wait");
                            passed_us.push(now_us);
                        }
                    }
                }
                now_us += [0, below(1_000), below(1_000_000)][below(3) as usize];
            }
            for (first, &from_us) in passed_us.iter().enumerate() {
                for (last, &to_us) in passed_us.iter().enumerate().skip(first) {
                    let allowed = u64::from(burst) + (to_us - from_us) * u64::from(per_second) / 1_000_000;
                    let passed = 1 + (last - first) as u64;
                    assert!(passed <= allowed, "seed {seed}: too many within a span");
                }
            }
        }
    }

    #[test]
    fn threads_share_one_burst() {
        let limit = limit(1, 1_000);
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..1_000).filter(|_| limit.take(START_US).is_ok()).count())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 1_000);
    }
}
