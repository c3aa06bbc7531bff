//! How much may be heard in a second, so that a flood of packets takes no more of the processor than that.

use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// Packets that may be heard in each second; when they are used up, nothing is heard for the rest of it.
#[derive(Debug)]
pub(crate) struct Budget {
    per_second: usize,
    left: usize,
    /// When the second began.
    began: Instant,
}

impl Budget {
    pub(crate) fn new(per_second: usize, now: Instant) -> Self {
        Self { per_second, left: per_second, began: now }
    }

    /// How many may be heard now.
    pub(crate) fn left(&mut self, now: Instant) -> usize {
        if now.saturating_duration_since(self.began) >= SECOND {
            (self.began, self.left) = (now, self.per_second);
        }
        self.left
    }

    /// So many were heard. The answer is when to listen again, if that were too many.
    pub(crate) fn spend(&mut self, packets: usize) -> Option<Instant> {
        self.left = self.left.saturating_sub(packets);
        (self.left == 0).then_some(self.began + SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_up_comes_back_with_the_next_second() {
        let start = Instant::now();
        let mut budget = Budget::new(10, start);
        assert_eq!((budget.left(start), budget.spend(4)), (10, None));
        let later = start + Duration::from_millis(900);
        assert_eq!((budget.left(later), budget.spend(7)), (6, Some(start + SECOND)));
        assert_eq!(budget.left(later), 0);
        assert_eq!(budget.left(start + SECOND), 10);
    }

    #[test]
    fn a_flood_is_heard_for_no_more_than_its_budget_in_any_second() {
        let start = Instant::now();
        let mut budget = Budget::new(100, start);
        let (mut heard, mut deaf_until) = (0, start);
        for millisecond in 0..10_000 {
            let now = start + Duration::from_millis(millisecond);
            if now >= deaf_until {
                let packets = budget.left(now).min(32);
                heard += packets;
                deaf_until = budget.spend(packets).unwrap_or(now);
            }
        }
        assert_eq!(heard, 1000);
    }
}
