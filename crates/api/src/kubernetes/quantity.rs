//! Quantities as Kubernetes writes them: a decimal number with a binary (`Ki`), decimal (`k`, `m`) or exponent (`e3`)
//! suffix.

/// The value of a quantity, rounded up to a whole number; what is beyond the range of `u64` becomes its end. `None` if the
/// text is no quantity, or is negative.
pub(super) fn parse(text: &str) -> Option<u64> {
    let number_len = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_len);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if number_len == 0 || (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let (multiplier, divisor) = scale(suffix)?;
    // Beyond 18 digits a fraction changes no whole number that a bound would not change as well.
    let fraction = &fraction[..fraction.len().min(18)];
    let unit = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits = format!("{whole}{fraction}");
    let value = digits.parse::<u128>().unwrap_or(u128::MAX).saturating_mul(multiplier);
    Some(u64::try_from(value.div_ceil(unit.checked_mul(divisor)?)).unwrap_or(u64::MAX))
}

/// What a suffix multiplies with, and divides by.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    const SUFFIXES: [(&str, u128, u128); 15] = [
        ("", 1, 1),
        ("n", 1, 1_000_000_000),
        ("u", 1, 1_000_000),
        ("m", 1, 1_000),
        ("k", 1_000, 1),
        ("M", 1_000_000, 1),
        ("G", 1_000_000_000, 1),
        ("T", 1_000_000_000_000, 1),
        ("P", 1_000_000_000_000_000, 1),
        ("Ki", 1 << 10, 1),
        ("Mi", 1 << 20, 1),
        ("Gi", 1 << 30, 1),
        ("Ti", 1 << 40, 1),
        ("Pi", 1 << 50, 1),
        ("Ei", 1 << 60, 1),
    ];
    let known = SUFFIXES.iter().find(|(name, ..)| *name == suffix);
    known.map(|(_, multiplier, divisor)| (*multiplier, *divisor)).or_else(|| exponent(suffix))
}

fn exponent(suffix: &str) -> Option<(u128, u128)> {
    if suffix == "E" {
        return Some((10u128.pow(18), 1));
    }
    let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let scale = 10u128.checked_pow(power.unsigned_abs().min(18))?;
    Some(if power < 0 { (1, scale) } else { (scale, 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_scale() {
        let cases = [
            ("1", 1),
            ("0", 0),
            ("1M", 1_000_000),
            ("2k", 2_000),
            ("8Gi", 8 << 30),
            ("1.5k", 1_500),
            ("1e3", 1_000),
            ("1500m", 2),
            ("20P", 20_000_000_000_000_000),
            ("0.5", 1),
            ("1E3", 1_000),
            ("5E", 5_000_000_000_000_000_000),
            ("80E", u64::MAX),
            (".5k", 500),
            ("5.", 5),
            ("1e-3", 1),
        ];
        for (text, value) in cases {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        assert_eq!(parse(&"9".repeat(60)), Some(u64::MAX));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "-1", "k", ".", "1.2.3", "1x", "1 k", "1ki", "1e", "+5", "1e99999999999"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
