//! Lines of the log that strangers could make many of.

use std::time::{Duration, Instant};

/// Between two lines.
const PAUSE: Duration = Duration::from_secs(1);

/// Says of something that happens often no more than once a second how often it has happened.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    said: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// It has happened once more. How often since the last line, if it is time for one.
    pub(crate) fn say(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        if self.said.is_some_and(|said| now < said + PAUSE) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_makes_a_line_a_second_that_counts_all_of_it() {
        let start = Instant::now();
        let mut seldom = Seldom::default();
        let lines: Vec<u64> = (0..2_500)
            .filter_map(|ms| seldom.say(start + Duration::from_millis(ms)))
            .collect();
        assert_eq!(lines, [1, 1_000, 1_000]);
    }
}
