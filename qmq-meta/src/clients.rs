//! Clients that have been there, written in the background.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::database::Database;
use crate::error::DatabaseError;
use crate::model::ClientRow;

/// Clients that wait to be written.
const WAITING_MAX: usize = 10_000;
/// Clients that this process remembers having written (8 bytes each); when it is full it begins anew, and rows that are there stay as they are.
const WRITTEN_MAX: usize = 1 << 18;
/// Rows of one statement.
const BATCH_ROWS: usize = 500;

/// The end of the queue where clients come in.
pub(crate) struct Clients {
    waiting: mpsc::Sender<ClientRow>,
    written: Mutex<HashSet<u64>>,
    dropped: Arc<AtomicU64>,
    /// Taken in and neither written nor dropped.
    pending: Arc<AtomicU64>,
}

/// The end where they are written.
pub(crate) struct ClientWriter {
    waiting: mpsc::Receiver<ClientRow>,
    dropped: Arc<AtomicU64>,
    pending: Arc<AtomicU64>,
}

/// The queue.
pub(crate) fn clients() -> (Clients, ClientWriter) {
    let (sender, waiting) = mpsc::channel(WAITING_MAX);
    let (dropped, pending) = (Arc::default(), Arc::default());
    let clients = Clients {
        waiting: sender,
        written: Mutex::default(),
        dropped: Arc::clone(&dropped),
        pending: Arc::clone(&pending),
    };
    let writer = ClientWriter {
        waiting,
        dropped,
        pending,
    };
    (clients, writer)
}

impl Clients {
    /// Remembers a client, if this process has not yet.
    pub(crate) fn remember(&self, row: ClientRow) {
        let mut hasher = DefaultHasher::new();
        (&row.subject, row.kind, &row.group, &row.client).hash(&mut hasher);
        let hash = hasher.finish();
        let mut written = self.written.lock();
        if written.contains(&hash) {
            return;
        }
        self.pending.fetch_add(1, Ordering::AcqRel);
        if self.waiting.try_send(row).is_err() {
            self.pending.fetch_sub(1, Ordering::AcqRel);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if written.len() >= WRITTEN_MAX {
            written.clear();
        }
        written.insert(hash);
    }

    /// Waits until all are written.
    pub(crate) async fn drain(&self) {
        while self.pending.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl ClientWriter {
    /// Writes clients as they come, until nobody can send any more.
    pub(crate) async fn write(mut self, database: Arc<dyn Database>, pause: Duration) {
        let mut rows = Vec::with_capacity(BATCH_ROWS);
        while self.waiting.recv_many(&mut rows, BATCH_ROWS).await > 0 {
            self.write_batch(&*database, &rows, pause).await;
            self.pending.fetch_sub(rows.len() as u64, Ordering::AcqRel);
            rows.clear();
        }
    }

    async fn write_batch(&self, database: &dyn Database, rows: &[ClientRow], pause: Duration) {
        loop {
            match database.add_clients(rows).await {
                Ok(()) => return,
                Err(DatabaseError::Away { .. }) => tokio::time::sleep(pause).await,
                Err(error) if rows.len() == 1 => {
                    tracing::debug!(%error, "a client is not remembered");
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Err(_) => {
                    for row in rows {
                        Box::pin(self.write_batch(database, std::slice::from_ref(row), pause))
                            .await;
                    }
                    return;
                }
            }
        }
    }
}
