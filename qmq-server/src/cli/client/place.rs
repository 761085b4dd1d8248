//! Where a group begins or goes on, as people write it.

use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use qmq_client::{ResetTo, Start};

use crate::cli::delay::due::Due;
use crate::cli::duration::duration;

/// A place among a subject's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The oldest message kept.
    Earliest,
    /// Behind the newest message.
    Latest,
    /// A message by its sequence.
    Sequence(u64),
    /// The first message that the broker took then or later, in ms since 1970 UTC.
    Time(u64),
    /// The same, so many ms ago.
    Ago(u64),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if let Ok(sequence) = text.parse() {
            return Ok(Self::Sequence(sequence));
        }
        let time = match text.strip_prefix('-') {
            Some(ago) => duration(ago)
                .ok()
                .map(|ago| Self::Ago(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX))),
            None => match text.parse() {
                Ok(Due::At(ms)) => Some(Self::Time(ms)),
                _ => None,
            },
        };
        time.ok_or_else(|| {
            let shown: String = text.chars().take(64).collect();
            format!(
                "{shown:?} is no place; write earliest, latest, a sequence such as 4711, \
                 a time such as 2030-01-01T09:00:00Z (RFC 3339), or -1h for an hour ago (ms, s, m, h, d)"
            )
        })
    }
}

impl Place {
    fn ago_ms(ago_ms: u64) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ms = now.unwrap_or_default().as_millis();
        u64::try_from(now_ms)
            .unwrap_or(u64::MAX)
            .saturating_sub(ago_ms)
    }

    /// Where a new group begins.
    pub(super) fn start(self) -> Start {
        match self {
            Self::Earliest => Start::Earliest,
            Self::Latest => Start::Latest,
            Self::Sequence(sequence) => Start::Sequence(sequence),
            Self::Time(ms) => Start::Time(ms),
            Self::Ago(ms) => Start::Time(Self::ago_ms(ms)),
        }
    }

    /// Where a group is moved to.
    pub(super) fn reset(self) -> ResetTo {
        match self {
            Self::Earliest => ResetTo::Earliest,
            Self::Latest => ResetTo::Latest,
            Self::Sequence(sequence) => ResetTo::Sequence(sequence),
            Self::Time(ms) => ResetTo::Time(ms),
            Self::Ago(ms) => ResetTo::Time(Self::ago_ms(ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_words_sequences_and_times() {
        let place = |text: &str| text.parse::<Place>().unwrap();
        assert_eq!(place("earliest"), Place::Earliest);
        assert_eq!(place("latest"), Place::Latest);
        assert_eq!(place("4711"), Place::Sequence(4711));
        assert_eq!(
            place("2013-07-07T23:59:59.999Z"),
            Place::Time(1_373_241_599_999)
        );
        assert_eq!(place("-90s"), Place::Ago(90_000));
        assert_eq!(place("-9999999999999999999d").start(), Start::Time(0));
    }

    #[test]
    fn other_text_is_refused_with_the_rule() {
        for text in ["", "-", "-1", "1h", "+1h", "-1w", "first", "2030-01-01"] {
            let why = text.parse::<Place>().unwrap_err();
            for rule in ["earliest", "4711", "RFC 3339", "-1h"] {
                assert!(why.contains(rule), "{text}: {why}");
            }
        }
    }
}
