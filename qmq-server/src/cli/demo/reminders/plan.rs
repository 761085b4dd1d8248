//! What happens to each reminder, and when: the data's own departures and delays, and a booking ahead of them.

use super::super::input::{Flight, Input};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// How long before the departure the reminder is due.
const AHEAD_MS: u64 = 3 * HOUR_MS;

/// Longest time from the booking to the reminder: longer than the store's retention.
const BOOKED_MAX_MS: u64 = 14 * 24 * HOUR_MS;

/// A departure later than this is re-timed.
const DELAY_MIN: i32 = 30;

/// Every so many changes come an hour before the departure, when the reminder is out.
const TOO_LATE_EVERY: u64 = 8;

/// What is done at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    /// The flight is booked: its reminder is scheduled.
    Schedule,
    /// The flight is called off.
    Cancel,
    /// The flight, and so its reminder, gets another time.
    Retime {
        /// In ms since 1970 UTC.
        due_ms: u64,
    },
}

/// One step of the replay. In the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Step {
    /// In ms since 1970 UTC.
    pub(super) at_ms: u64,
    /// Index of the flight.
    pub(super) flight: u32,
    pub(super) act: Act,
}

/// When a flight's reminder is due as it is booked.
pub(super) fn due_ms(flight: &Flight) -> u64 {
    flight.departure_ms.saturating_sub(AHEAD_MS)
}

/// All steps of all flights.
pub(super) fn steps(input: &Input) -> Vec<Step> {
    let mut steps: Vec<Step> = (0..)
        .zip(&input.flights)
        .flat_map(|(index, flight)| steps_of(index, flight))
        .collect();
    steps.sort_unstable();
    steps
}

fn steps_of(index: u32, flight: &Flight) -> impl Iterator<Item = Step> + use<> {
    let due_ms = due_ms(flight);
    let random = mix(index.into());
    let booked_ms = random % BOOKED_MAX_MS;
    let schedule = Step {
        at_ms: due_ms.saturating_sub(booked_ms),
        flight: index,
        act: Act::Schedule,
    };
    let act = match flight.delay_min {
        None => Some(Act::Cancel),
        Some(minutes) if minutes > DELAY_MIN => Some(Act::Retime {
            due_ms: due_ms + u64::from(minutes.unsigned_abs()) * MINUTE_MS,
        }),
        Some(_) => None,
    };
    let at_ms = if (random >> 32).is_multiple_of(TOO_LATE_EVERY) {
        flight.departure_ms.saturating_sub(HOUR_MS)
    } else {
        due_ms.saturating_sub(booked_ms / 2)
    };
    let change = act.map(|act| Step {
        at_ms,
        flight: index,
        act,
    });
    std::iter::once(schedule).chain(change)
}

/// One step of SplitMix64.
fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
