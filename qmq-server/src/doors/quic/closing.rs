//! How the door closes: nobody new comes in, then every stream says what it owes and ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    Shut,
    Finishing,
}

/// The door's side of it. A clone is the same.
#[derive(Clone, Debug)]
pub(super) struct Closing(Arc<watch::Sender<Phase>>);

/// A stream's side of it: as long as it is there, the stream has something to say.
#[derive(Debug)]
pub(super) struct Open(watch::Receiver<Phase>);

impl Closing {
    /// The door is open.
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Open)))
    }

    /// From now on nobody new comes in.
    pub(super) fn shut(&self) {
        self.0.send_if_modified(|phase| {
            let opened = *phase == Phase::Open;
            *phase = Phase::Shut.max(*phase);
            opened
        });
    }

    /// Whether somebody new may not come in.
    pub(super) fn is_shut(&self) -> bool {
        *self.0.borrow() >= Phase::Shut
    }

    /// A stream has begun.
    pub(super) fn stream(&self) -> Open {
        Open(self.0.subscribe())
    }

    /// Asks all streams to finish, and waits until they have, for `limit` at most. Whether they have.
    pub(super) async fn finish(&self, limit: Duration) -> bool {
        self.0.send_replace(Phase::Finishing);
        tokio::time::timeout(limit, self.0.closed()).await.is_ok()
    }
}

impl Open {
    /// Waits until the stream is to answer what it has taken, and to end.
    pub(super) async fn finishing(&mut self) {
        if self
            .0
            .wait_for(|phase| *phase == Phase::Finishing)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }
}
