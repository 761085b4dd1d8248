//! Lengths of time as people write them: `500ms`, `10s`, `5m`.

use std::time::Duration;

/// A length of time.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let ms = in_ms(text).ok_or_else(|| {
        let shown: String = text.chars().take(64).collect();
        format!("{shown:?} is no time; write it as 10s (ms, s, m, h, d)")
    })?;
    Ok(Duration::from_millis(ms))
}

/// A length of time, and not none.
pub(super) fn positive(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err(format!("{text:?} is no time at all; 1ms at least")),
        time => Ok(time),
    }
}

const UNITS_MS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// In milliseconds; what overflows is as long as can be.
pub(super) fn in_ms(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, unit_ms) = UNITS_MS.into_iter().find(|(name, _)| *name == unit)?;
    if number.is_empty() {
        return None;
    }
    let number: u64 = number.parse().unwrap_or(u64::MAX);
    Some(number.saturating_mul(unit_ms))
}
