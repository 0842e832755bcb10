//! Times of a health check.

use crate::yaml::{Error, Value};

const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The time in nanoseconds, from a number of them or from a text such as `1m30s`.
pub(super) fn nanoseconds(value: &Value<'_>) -> Result<u64, Error> {
    if value.is_integer() {
        return value.integer(0..=i64::MAX as u64);
    }
    let text = value.text()?;
    parse(text).ok_or_else(|| {
        value.error(format!("`{text}` is not a time"), "write a time such as `30s`, `1m30s` or `500ms`")
    })
}

/// Numbers with units, as Go's `time.ParseDuration` reads them, but whole and not negative.
fn parse(text: &str) -> Option<u64> {
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let unit_start = rest.find(|character: char| !character.is_ascii_digit())?;
        let (number, after) = rest.split_at(unit_start);
        let unit_end = after.find(|character: char| character.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*size)?)?;
        rest = next;
    }
    // The image configuration holds a signed integer.
    (!text.is_empty() && i64::try_from(total).is_ok()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up() {
        let cases = [
            ("30s", 30_000_000_000),
            ("1m30s", 90_000_000_000),
            ("500ms", 500_000_000),
            ("1h", 3_600_000_000_000),
            ("0s", 0),
        ];
        for (text, time) in cases {
            assert_eq!(parse(text), Some(time), "{text}");
        }
        for text in
            ["", "s", "30", "30 s", "-1s", "1.5s", "1d", "9999999h", "99999999999999999999s", "30S", "1ä"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
