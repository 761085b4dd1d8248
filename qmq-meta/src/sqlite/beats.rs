//! Heartbeats, several of them in one transaction: by itself each would wait for the disk.

use parking_lot::Mutex;
use sqlx::SqlitePool;
use tokio::sync::oneshot;

use super::groups;
use crate::database::{Liveness, Now};
use crate::fault::Fault;

/// Most heartbeats of one transaction, so that others who write are not kept waiting.
const AT_ONCE: usize = 256;

/// Heartbeats that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Beats {
    waiting: Mutex<Vec<Beat>>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Beat {
    liveness: Liveness,
    answer: oneshot::Sender<Result<Now, Fault>>,
}

impl Beats {
    /// Writes a heartbeat, and all that have come since the last one began to be written.
    pub(super) async fn seen(&self, pool: &SqlitePool, liveness: &Liveness) -> Result<Now, Fault> {
        let (answer, mut answered) = oneshot::channel();
        self.waiting.lock().push(Beat {
            liveness: liveness.clone(),
            answer,
        });
        loop {
            let _turn = self.turn.lock().await;
            if let Ok(answer) = answered.try_recv() {
                return answer;
            }
            let mut beats: Vec<Beat> = {
                let mut waiting = self.waiting.lock();
                let most = waiting.len().min(AT_ONCE);
                waiting.drain(..most).collect()
            };
            // Whoever does not wait any more may have said something else since.
            beats.retain(|beat| !beat.answer.is_closed());
            if beats.is_empty() {
                // Its writer was given up in the middle.
                return Err(sqlx::Error::WorkerCrashed.into());
            }
            write(pool, beats).await;
        }
    }
}

async fn write(pool: &SqlitePool, beats: Vec<Beat>) {
    let said: Vec<&Liveness> = beats.iter().map(|beat| &beat.liveness).collect();
    if let Ok(outcomes) = groups::seen(pool, &said).await {
        for (beat, outcome) in beats.into_iter().zip(outcomes) {
            let _ = beat.answer.send(outcome);
        }
        return;
    }
    // One that the database does not take is no reason to refuse the others.
    for beat in beats {
        let outcome = groups::seen(pool, &[&beat.liveness]).await;
        let outcome = outcome.and_then(|mut alone| {
            (alone.pop()).unwrap_or_else(|| Err(sqlx::Error::WorkerCrashed.into()))
        });
        let _ = beat.answer.send(outcome);
    }
}
