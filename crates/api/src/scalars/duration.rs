use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{ScalarError, serde_as_text};

/// A duration as Go writes it: `90s`, `5m0s`, `1h2m3.5s`, `-1ns`. Nanoseconds, signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration {
    nanoseconds: i64,
}

const NANOSECOND: i64 = 1;
const MICROSECOND: i64 = 1_000;
const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

const UNITS: [(&str, i64); 8] = [
    ("ns", NANOSECOND),
    ("us", MICROSECOND),
    ("µs", MICROSECOND),
    ("μs", MICROSECOND),
    ("ms", MILLISECOND),
    ("s", SECOND),
    ("m", MINUTE),
    ("h", HOUR),
];

impl GoDuration {
    /// Whole seconds.
    pub const fn from_secs(seconds: u32) -> Self {
        Self { nanoseconds: seconds as i64 * SECOND }
    }

    /// Nanoseconds.
    pub const fn from_nanos(nanoseconds: i64) -> Self {
        Self { nanoseconds }
    }

    /// Nanoseconds, negative for a duration below zero.
    pub const fn nanos(self) -> i64 {
        self.nanoseconds
    }

    /// The duration, unless it is negative.
    pub fn to_duration(self) -> Option<Duration> {
        u64::try_from(self.nanoseconds).ok().map(Duration::from_nanos)
    }
}

impl FromStr for GoDuration {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let (sign, magnitude) = match text.strip_prefix(['-', '+']) {
            Some(rest) => (if text.starts_with('-') { -1 } else { 1 }, rest),
            None => (1, text),
        };
        let nanoseconds = if magnitude == "0" { Some(0) } else { sum_of_parts(magnitude) };
        nanoseconds.map(|nanoseconds| Self { nanoseconds: sign * nanoseconds }).ok_or_else(|| {
            ScalarError::new(
                text,
                "is not a duration: numbers with units ns, us, ms, s, m or h, such as 90s or 5m0s",
            )
        })
    }
}

fn sum_of_parts(mut text: &str) -> Option<i64> {
    let mut sum = 0i64;
    let mut parts = 0;
    while !text.is_empty() {
        let number_len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, rest) = text.split_at(number_len);
        let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(unit_len);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(scaled(number, *scale)?)?;
        text = rest;
        parts += 1;
    }
    (parts > 0).then_some(sum)
}

fn scaled(number: &str, scale: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Digits beyond nanoseconds of an hour change nothing, and would overflow.
    let fraction = &fraction[..fraction.len().min(15)];
    let part = match fraction {
        "" => 0,
        digits => {
            let divisor = 10i128.pow(u32::try_from(digits.len()).ok()?);
            i64::try_from(digits.parse::<i128>().ok()? * i128::from(scale) / divisor).ok()?
        }
    };
    whole.checked_mul(scale)?.checked_add(part)
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.nanoseconds < 0 { "-" } else { "" };
        let total = self.nanoseconds.unsigned_abs();
        let units = |unit: i64| unit.unsigned_abs();
        match total {
            0 => f.write_str("0s"),
            _ if total < units(MICROSECOND) => write!(f, "{sign}{total}ns"),
            _ if total < units(MILLISECOND) => write!(f, "{sign}{}µs", decimal(total, units(MICROSECOND))),
            _ if total < units(SECOND) => write!(f, "{sign}{}ms", decimal(total, units(MILLISECOND))),
            _ => {
                let (hours, minutes) = (total / units(HOUR), total % units(HOUR) / units(MINUTE));
                let seconds = decimal(total % units(MINUTE), units(SECOND));
                match (hours, minutes) {
                    (0, 0) => write!(f, "{sign}{seconds}s"),
                    (0, _) => write!(f, "{sign}{minutes}m{seconds}s"),
                    _ => write!(f, "{sign}{hours}h{minutes}m{seconds}s"),
                }
            }
        }
    }
}

/// `value / unit` with as many decimals as it needs; `unit` is a power of ten.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{rest:0width$}").trim_end_matches('0'))
}

serde_as_text!(GoDuration);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_as_go_prints_them() {
        let cases = [
            ("90s", "1m30s"),
            ("5m0s", "5m0s"),
            ("1h", "1h0m0s"),
            ("0", "0s"),
            ("1.5h", "1h30m0s"),
            ("1500ms", "1.5s"),
            (".5s", "500ms"),
            ("10ns", "10ns"),
            ("-1ns", "-1ns"),
            ("1500us", "1.5ms"),
        ];
        for (text, printed) in cases {
            assert_eq!(text.parse::<GoDuration>().unwrap().to_string(), printed, "{text}");
        }
    }

    #[test]
    fn numbers_without_units_and_nonsense_are_refused() {
        for text in ["", "90", "s", "1x", "1.s2.", "1..2s", "9999999999h", "-", "."] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }
}
