//! Due times as people write them.

use std::str::FromStr;

use jiff::Timestamp;

use crate::cli::duration::in_ms;

/// A moment, or a time from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// In ms since 1970 UTC.
    At(u64),
    /// In ms.
    In(u64),
}

impl Due {
    /// In ms since 1970 UTC. What overflows is later than any limit allows.
    pub(crate) fn ms(self, now_ms: u64) -> u64 {
        match self {
            Self::At(ms) => ms,
            Self::In(ms) => now_ms.saturating_add(ms),
        }
    }
}

impl FromStr for Due {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.strip_prefix('+')
            .map_or_else(|| at(text), from_now)
            .ok_or_else(|| {
                let shown: String = text.chars().take(64).collect();
                format!(
                    "{shown:?} is no due time; write it as 2030-01-01T09:00:00Z (RFC 3339) or +90s (ms, s, m, h, d)"
                )
            })
    }
}

/// Rounded up to a millisecond, so as not to be early; before 1970 it is 1970, which is past as well.
fn at(text: &str) -> Option<Due> {
    let time: Timestamp = text.parse().ok()?;
    let ms = time
        .as_nanosecond()
        .max(0)
        .cast_unsigned()
        .div_ceil(1_000_000);
    // Second 60 has been read as 59, which would be early.
    let is_leap_second = text.get(17..19) == Some("60");
    let ms = u64::try_from(ms).ok()?;
    Some(Due::At(ms + if is_leap_second { 1_000 } else { 0 }))
}

fn from_now(text: &str) -> Option<Due> {
    in_ms(text).map(Due::In)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_times_are_moments_or_times_from_now() {
        let due = |text: &str| text.parse::<Due>().unwrap();
        assert_eq!(due("+500ms"), Due::In(500));
        assert_eq!(due("+90s"), Due::In(90_000));
        assert_eq!(due("+5m"), Due::In(300_000));
        assert_eq!(due("+2h"), Due::In(7_200_000));
        assert_eq!(due("+3d"), Due::In(259_200_000));
        assert_eq!(due("2013-07-07T23:59:59.999Z"), Due::At(1_373_241_599_999));
        assert_eq!(
            due("2013-07-08T01:59:59.9981+02:00"),
            Due::At(1_373_241_599_999)
        );
        assert_eq!(due("1960-01-01T00:00:00Z"), Due::At(0));
        assert_eq!(due("2016-12-31T23:59:60Z"), due("2017-01-01T00:00:00Z"));
        assert_eq!(due("+99999999999999999999999d").ms(5), u64::MAX);
        assert_eq!(due("+1s").ms(5), 1_005);
    }

    #[test]
    fn other_text_is_refused_with_the_rule() {
        for text in [
            "",
            "+",
            "+s",
            "+1",
            "+1w",
            "+-1s",
            "90s",
            "2030-01-01",
            "2030-01-01T00:00:00",
            "-5s",
            "+1.5h",
        ] {
            let why = text.parse::<Due>().unwrap_err();
            assert!(why.contains("RFC 3339") && why.contains("+90s"), "{why}");
        }
    }
}
