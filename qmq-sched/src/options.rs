//! Limits and choices of a scheduler.

use std::time::Duration;

use qmq_store::Durability;
use thiserror::Error;

/// What a scheduler is opened with. [`Default`] suits a service with some million pending messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Minutes of one bucket: 1 to 1,440. Default: 60, as QMQ's `segment.scale.minute`. Fixed once data exists.
    pub segment_scale_minute: u32,
    /// Longest time from now to a due time: at least a minute. Default: 3,653 days, ten years.
    pub max_delay: Duration,
    /// Entries that wait in memory to be written as one sorted run, of 32 bytes each: 16 to 16,777,216. Up to four times as many can be in
    /// memory while a run is written. Default: 131,072, which is 4 MiB.
    pub stage_entries: usize,
    /// Entries of the near future in memory, of 32 bytes each: 16 to 16,777,216. Up to twice as many before the window shrinks; it is filled
    /// by an eighth at a time. Default: 65,536.
    pub window_entries: usize,
    /// Runs that may lie side by side before the small ones are merged: 2 to 1,024. Each is one file and one mapping. Default: 32.
    pub runs_max: usize,
    /// Messages handed out and not yet dispatched: 1 to 16,777,216. With so many, [`Scheduler::due`](crate::Scheduler::due) hands out
    /// nothing more. Default: 100,000.
    pub outstanding_max: usize,
    /// Messages that have been rescheduled and are pending: 1 to 16,777,216. With so many a reschedule is refused. Default: 1,000,000.
    pub rescheduled_max: usize,
    /// Subjects of which something is pending: 1 to 16,777,216. With so many a message of another one is refused; as many names are remembered.
    /// Default: 1,000,000.
    pub subjects_max: usize,
    /// Messages a second that are handed out of those that fell due before the scheduler was opened; `None`, the default: no limit.
    pub catch_up_per_second: Option<u32>,
    /// A message later than this is dropped, and counted, when its turn comes; `None`, the default: none is.
    pub time_to_live: Option<Duration>,
    /// How durable the record of a hand-out is before [`Scheduler::due`](crate::Scheduler::due) returns. Default: buffered; a loss of power
    /// may then hand out again.
    pub hand_out_durability: Durability,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_scale_minute: 60,
            max_delay: Duration::from_secs(3_653 * 86_400),
            stage_entries: 1 << 17,
            window_entries: 1 << 16,
            runs_max: 32,
            outstanding_max: 100_000,
            rescheduled_max: 1_000_000,
            subjects_max: 1_000_000,
            catch_up_per_second: None,
            time_to_live: None,
            hand_out_durability: Durability::Buffered,
        }
    }
}

/// An option is out of its range.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("Options::{name} is {value}; it must be from {low} to {high}")]
#[non_exhaustive]
pub struct OptionsError {
    /// The option.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// Least value allowed.
    pub low: u64,
    /// Greatest value allowed.
    pub high: u64,
}

impl Options {
    /// Checks every range.
    ///
    /// # Errors
    /// The first option that is out of its range.
    pub fn check(&self) -> Result<(), OptionsError> {
        const MANY: u64 = 1 << 24;
        let ranges = [
            (
                "segment_scale_minute",
                u64::from(self.segment_scale_minute),
                1,
                1_440,
            ),
            (
                "max_delay (seconds)",
                self.max_delay.as_secs(),
                60,
                200 * 366 * 86_400,
            ),
            ("stage_entries", self.stage_entries as u64, 16, MANY),
            ("window_entries", self.window_entries as u64, 16, MANY),
            ("runs_max", self.runs_max as u64, 2, 1_024),
            ("outstanding_max", self.outstanding_max as u64, 1, MANY),
            ("rescheduled_max", self.rescheduled_max as u64, 1, MANY),
            ("subjects_max", self.subjects_max as u64, 1, MANY),
            (
                "catch_up_per_second",
                u64::from(self.catch_up_per_second.unwrap_or(1)),
                1,
                u64::from(u32::MAX),
            ),
        ];
        let wrong = ranges
            .into_iter()
            .find(|&(_, value, low, high)| !(low..=high).contains(&value));
        match wrong {
            None => Ok(()),
            Some((name, value, low, high)) => Err(OptionsError {
                name,
                value,
                low,
                high,
            }),
        }
    }

    /// Milliseconds of one bucket.
    pub(crate) fn bucket_ms(&self) -> u64 {
        u64::from(self.segment_scale_minute) * 60_000
    }
}
