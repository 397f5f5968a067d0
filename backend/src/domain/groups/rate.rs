//! How many messages one group may be sent, by whomever may send to it. High priority has a rate of its own, as large as
//! that of all others: a flood of those takes nothing from it. Of the others those of low priority are refused first.

use std::sync::{Mutex, PoisonError};

use ahash::AHashMap;
use protocol::message::Priority;

use crate::domain::{
    AppId, GroupId,
    rate::{SendBucket, SendRate},
};

/// Groups in one generation of buckets. Two are kept: what was not used for a whole generation is forgotten, and begins
/// with a full bucket. Ids that are made up can push others out, and cost no more than that.
const GENERATION_MAX: usize = 50_000;

/// The buckets, by group.
#[derive(Default)]
pub struct GroupLimits(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: AHashMap<(AppId, GroupId), Buckets>,
    old: AHashMap<(AppId, GroupId), Buckets>,
}

#[derive(Default)]
struct Buckets {
    high: SendBucket,
    others: SendBucket,
}

impl Generations {
    fn of(&mut self, key: (AppId, GroupId)) -> &Buckets {
        if self.young.len() >= GENERATION_MAX && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        let old = &mut self.old;
        self.young.entry(key).or_insert_with_key(|key| old.remove(key).unwrap_or_default())
    }
}

impl GroupLimits {
    /// Whether there is a token for a message: what is refused by this is refused before it costs anything. Without one:
    /// in how many milliseconds there is.
    pub fn look(
        &self,
        app: AppId,
        group: &GroupId,
        priority: Priority,
        per_second: u32,
        now_us: u64,
    ) -> Result<(), u32> {
        self.with(app, group, priority, per_second, |bucket, rate| bucket.look(rate, now_us))
    }

    /// Takes a token for a message of somebody who may send it.
    pub fn take(
        &self,
        app: AppId,
        group: &GroupId,
        priority: Priority,
        per_second: u32,
        now_us: u64,
    ) -> Result<(), u32> {
        self.with(app, group, priority, per_second, |bucket, rate| bucket.take(rate, now_us))
    }

    fn with(
        &self,
        app: AppId,
        group: &GroupId,
        priority: Priority,
        per_second: u32,
        ask: impl FnOnce(&SendBucket, SendRate) -> Result<(), u32>,
    ) -> Result<(), u32> {
        if per_second == 0 {
            return Ok(());
        }
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = generations.of((app, group.clone()));
        // A bucket holds a second's messages. Low priority leaves half of it to others; a bucket of one has no half.
        let (bucket, burst) = match priority {
            Priority::Low => (&buckets.others, per_second.div_ceil(2)),
            Priority::Normal => (&buckets.others, per_second),
            Priority::High => (&buckets.high, per_second),
        };
        let answer = ask(bucket, SendRate::with_burst(per_second, burst));
        drop(generations);
        if answer.is_err() {
            metrics::counter!("gateway_group_messages_shed_total").increment(1);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str) -> GroupId {
        GroupId::new(name).unwrap()
    }

    #[test]
    fn low_priority_is_refused_first_and_high_priority_has_its_own_rate() {
        let (limits, group_g) = (GroupLimits::default(), group("g"));
        let sent = |priority, now_us| {
            (0..1_000).take_while(|_| limits.take(1, &group_g, priority, 40, now_us).is_ok()).count()
        };
        assert_eq!(sent(Priority::Low, 0), 20);
        assert_eq!(sent(Priority::Normal, 0), 20);
        assert_eq!(sent(Priority::High, 0), 40);
        assert!(limits.take(1, &group("h"), Priority::Low, 40, 0).is_ok(), "each group apart");
        // Under a flood that goes on, high priority passes at its rate, second for second.
        for second in 1..=10 {
            let now_us = second * 1_000_000;
            assert_eq!((sent(Priority::Normal, now_us), sent(Priority::Low, now_us)), (40, 0), "second {second}");
            assert_eq!(sent(Priority::High, now_us), 40, "second {second}");
        }
    }

    #[test]
    fn at_the_lowest_rate_low_priority_passes_when_nothing_else_is_sent() {
        let limits = GroupLimits::default();
        let take = |priority, now_us| limits.take(1, &group("g"), priority, 1, now_us);
        assert_eq!(take(Priority::Low, 0), Ok(()));
        assert_eq!((take(Priority::Low, 0), take(Priority::Normal, 0)), (Err(1_000), Err(1_000)));
        assert_eq!(take(Priority::Low, 1_000_000), Ok(()), "as was promised");
    }

    #[test]
    fn made_up_groups_take_bounded_room_and_one_in_use_keeps_its_bucket() {
        let limits = GroupLimits::default();
        let take = |name: &str| limits.take(1, &group(name), Priority::Normal, 1, 0);
        assert_eq!(take("real"), Ok(()));
        for number in 0..GENERATION_MAX * 3 {
            assert_eq!(take(&format!("x{number}")), Ok(()));
            if number % 1_000 == 0 {
                assert!(take("real").is_err(), "it has sent what it may");
            }
        }
        let generations = limits.0.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION_MAX);
    }
}
