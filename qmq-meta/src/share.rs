//! Moving subjects between groups without losing a message: rebalance and decommission.

use async_trait::async_trait;

/// Tells whether a broker still has messages for somebody. The server implements it by asking the broker.
#[async_trait]
pub trait Emptiness: Send + Sync {
    /// Whether no consumer group has anything left to consume of `subject`, its retry subjects included, in broker group `group`, whose master is at
    /// `master` (`host:port`).
    ///
    /// # Errors
    /// In words, if it cannot be told; then nothing is taken away.
    async fn is_empty(&self, group: &str, master: &str, subject: &str) -> Result<bool, String>;
}

/// A subject that leaves one group for another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Move {
    /// The subject.
    pub subject: String,
    /// The group that it leaves; `None`: it only gains one.
    pub from: Option<String>,
    /// The group that it gains; `None`: it only leaves one.
    pub to: Option<String>,
}

/// What a rebalance would do, or a decommission.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Moves to be made, by subject.
    pub moves: Vec<Move>,
    /// Moves that were begun earlier and wait until a group is empty for the subject, by subject.
    pub draining: Vec<Move>,
}

/// How far one step came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Moves begun by this step.
    pub begun: usize,
    /// Moves ended by this step: the group has left the route.
    pub ended: usize,
    /// Moves that are still to be begun.
    pub to_begin: usize,
    /// Moves that wait: producers have not had time to leave, or the group is not empty, or that could not be told (then `problems` says so).
    pub waiting: usize,
    /// What could not be done, by subject, in words; 100 at most.
    pub problems: Vec<(String, String)>,
}

impl Progress {
    /// Whether nothing is left to be done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.to_begin == 0 && self.waiting == 0
    }
}
