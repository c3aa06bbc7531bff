//! Measured times and how they compare.

use std::fmt;
use std::time::{Duration, Instant};

/// Times of one thing, measured repeatedly.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Runs something, and remembers how long it took.
    pub(crate) fn time<T>(&mut self, code: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let value = code();
        self.push(start.elapsed());
        value
    }

    /// The time that this share of the sample does not exceed; nearest rank, as for 100 times the 99th of them.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let rank = (sorted.len() * percent).div_ceil(100).clamp(1, sorted.len().max(1));
        sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// How many times were measured.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }
}

impl FromIterator<Duration> for Sample {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        Self(times.into_iter().collect())
    }
}

impl Extend<Duration> for Sample {
    fn extend<I: IntoIterator<Item = Duration>>(&mut self, times: I) {
        self.0.extend(times);
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |percent| self.percentile(percent).as_secs_f64() * 1e3;
        write!(
            f,
            "p50 {:>8.3} ms  p99 {:>8.3} ms  max {:>8.3} ms  ({})",
            ms(50),
            ms(99),
            ms(100),
            self.0.len()
        )
    }
}

/// Prints a sample.
pub(crate) fn print(what: &str, sample: &Sample) {
    println!("  {what:<44} {sample}");
}

/// Prints a figure beside what it has to be at most.
pub(crate) fn at_most(what: &str, figure: f64, goal: f64, unit: &str) {
    verdict(what, figure, "<=", goal, unit, figure <= goal);
}

/// Prints a figure beside what it has to be at least.
pub(crate) fn at_least(what: &str, figure: f64, goal: f64, unit: &str) {
    verdict(what, figure, ">=", goal, unit, figure >= goal);
}

fn verdict(what: &str, figure: f64, relation: &str, goal: f64, unit: &str, met: bool) {
    let outcome = if met { "met" } else { "MISSED" };
    println!("  => {what}: {figure:.3}{unit} (goal {relation} {goal}{unit}): {outcome}");
}

/// How many times as long our median is as the peer's.
pub(crate) fn ratio(ours: &Sample, theirs: &Sample) -> f64 {
    ours.median().as_secs_f64() / theirs.median().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let sample: Sample = (1..=100).rev().map(Duration::from_millis).collect();
        let at = |percent| sample.percentile(percent).as_millis();
        assert_eq!([at(1), at(50), at(99), at(100)], [1, 50, 99, 100]);
        assert_eq!(Sample::from_iter([Duration::from_secs(3)]).percentile(50), Duration::from_secs(3));
        assert_eq!(Sample::default().percentile(99), Duration::ZERO);
    }
}
