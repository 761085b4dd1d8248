//! What happens in the demo, so that it knows after a kill what had been promised before it. A process of the demo tells it as JSON, one object a line.

use serde::{Deserialize, Serialize};

/// The consumer groups of the demo.
pub(super) const GROUPS: [&str; 3] = ["all-1", "all-2", "some-carriers"];

/// The group of which one consumer's process is killed.
pub(super) const KILLED_IN: usize = 0;

/// The group of which one consumer's process hangs.
pub(super) const HUNG_IN: usize = 1;

/// The group that sees only [`CARRIERS`].
pub(super) const TAGGED: usize = 2;

/// The tags of the third group: American and Delta.
pub(super) const CARRIERS: [&str; 2] = ["AA", "DL"];

/// Messages that one consumer has of one route.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Work {
    /// Index into [`GROUPS`].
    pub(super) group: usize,
    /// The consumer's name.
    pub(super) consumer: String,
    /// Index of the route.
    pub(super) route: u32,
    /// Which flight, and its sequence in the route's subject.
    pub(super) messages: Vec<(u32, u64)>,
    /// How many of them had been handed out before.
    pub(super) again: u64,
}

/// One thing that happened.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// The broker has acknowledged flights: (flight, sequence, nanoseconds from the call until then).
    Stored(Vec<(u32, u64, u64)>),
    /// A consumer is about to handle these; told before they are acknowledged.
    Handled(Work),
    /// The broker has confirmed the acknowledgement of these.
    Acked {
        /// The messages.
        work: Work,
        /// How long it took.
        nanos: u64,
    },
    /// A consumer has these and will never acknowledge them.
    Held(Work),
    /// A consumer got what is no flight, or not as it was sent.
    Foreign(String),
    /// It cannot go on.
    Failed(String),
}
