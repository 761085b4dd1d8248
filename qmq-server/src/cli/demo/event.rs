//! What the worker tells the demo, one JSON object a line, so that the demo knows after a kill what had been
//! promised before it.

use serde::{Deserialize, Serialize};

/// The consumer groups of the demo.
pub(super) const GROUPS: [&str; 3] = ["all-1", "all-2", "some-carriers"];

/// The group that one consumer of the first run takes work in and never comes back to.
pub(super) const KILLED_IN: usize = 0;

/// The group that one consumer of the second run dies in while the process goes on.
pub(super) const DEAD_IN: usize = 1;

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
    /// Sequences in the route's subject.
    pub(super) sequences: Vec<u64>,
    /// How many of them had been handed out before.
    pub(super) again: u64,
}

/// One thing that the worker did.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// The store is open.
    Opened {
        /// How long it took.
        nanos: u64,
    },
    /// Flights are durable: (flight, sequence, nanoseconds from the call until then). None: still alive.
    Stored(Vec<(u32, u64, u64)>),
    /// A consumer is about to handle these; told before they are acknowledged.
    Handled {
        /// The messages.
        work: Work,
        /// How long the pull took.
        nanos: u64,
    },
    /// The acknowledgement of these has returned.
    Acked {
        /// The messages.
        work: Work,
        /// How long it took.
        nanos: u64,
    },
    /// A consumer took these and will never acknowledge them.
    Held(Work),
    /// Everything is stored and handled; the worker waits to be killed.
    Done,
    /// The worker cannot go on.
    Failed(String),
}
