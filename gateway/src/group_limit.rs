//! How many messages one group may be sent, by whomever: a token bucket for each. When there are too many, those of
//! low priority are refused first, and those of high priority last.

use std::sync::{Arc, Mutex, PoisonError};

use ahash::AHashMap;
use backend::domain::{AppId, GroupId};
use protocol::message::Priority;

use crate::send_limit::{SendBucket, SendRate};

/// Groups whose buckets are kept; then those are forgotten that are full again.
const GROUPS_MAX: usize = 100_000;

/// The buckets, by group.
#[derive(Default)]
pub struct GroupLimits(Mutex<AHashMap<(AppId, GroupId), Arc<SendBucket>>>);

impl GroupLimits {
    /// Takes a token for a message. Without one: in how many milliseconds there is.
    pub fn take(
        &self,
        app: AppId,
        group: &GroupId,
        priority: Priority,
        per_second: u32,
        now_us: u64,
    ) -> Result<(), u32> {
        // A bucket holds a second's messages. Low priority leaves half of it to others; high priority may borrow as much
        // again.
        let burst = match priority {
            Priority::Low => per_second / 2,
            Priority::Normal => per_second,
            Priority::High => per_second.saturating_mul(2),
        };
        let bucket = {
            let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if buckets.len() >= GROUPS_MAX {
                buckets.retain(|_, bucket| bucket.full_at_ms() > now_us / 1_000);
            }
            buckets.entry((app, group.clone())).or_default().clone()
        };
        let taken = bucket.take(SendRate::with_burst(per_second, burst), now_us);
        if taken.is_err() {
            metrics::counter!("gateway_group_messages_shed_total").increment(1);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_priority_is_refused_first_and_high_priority_last() {
        let (limits, group) = (GroupLimits::default(), GroupId::new("g").unwrap());
        let sent =
            |priority, now_us| (0..1_000).take_while(|_| limits.take(1, &group, priority, 40, now_us).is_ok()).count();
        assert_eq!(sent(Priority::Low, 0), 20);
        assert_eq!(sent(Priority::Normal, 0), 20);
        assert_eq!(sent(Priority::High, 0), 40);
        assert!(limits.take(1, &GroupId::new("h").unwrap(), Priority::Low, 40, 0).is_ok(), "each group apart");
        assert_eq!((sent(Priority::Low, 1_000_000), sent(Priority::Normal, 1_000_000)), (0, 0));
        assert_eq!(sent(Priority::Normal, 2_000_000), 40, "two seconds have paid for all");
    }
}
