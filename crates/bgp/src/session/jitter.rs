//! Seeded randomness for timers.

use std::time::Duration;

/// A small generator (splitmix64): the same seed gives the same timers.
#[derive(Debug, Clone)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Something between three quarters of a duration and all of it (RFC 4271, section 10).
    pub(crate) fn scale(&mut self, duration: Duration) -> Duration {
        let share = u32::try_from(self.next() % 1024).expect("less than 1024");
        duration * 3 / 4 + duration * share / 4096
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_between_three_quarters_and_all() {
        let mut jitter = Jitter::new(7);
        let second = Duration::from_secs(1);
        let values: Vec<Duration> = (0..1000).map(|_| jitter.scale(second)).collect();
        assert!(values.iter().all(|value| (second * 3 / 4..second).contains(value)));
        assert!(
            values.iter().max().unwrap().as_millis() > 990 && values.iter().min().unwrap().as_millis() < 760
        );
    }
}
