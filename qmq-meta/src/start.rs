//! The first read, and how it went since.

use std::sync::atomic::Ordering;

use crate::error::DatabaseError;
use crate::problem::MetaError;
use crate::shared::Shared;
use crate::snapshot::{self, SnapshotError};
use crate::status::{DatabaseStatus, MetaStatus, NodeStatus};

impl Shared {
    /// Reads everything, or the snapshot if the database is away.
    pub(crate) async fn first_read(&self) -> Result<(), MetaError> {
        self.load_snapshot().await;
        match self.database.verify().await {
            Ok(()) => {}
            Err(DatabaseError::Away { reason }) => {
                self.gone(&reason);
                return self.begin_without();
            }
            Err(error) => return Err(error.into()),
        }
        let remembered = self.known.read().picture.routes().len();
        match self.read_anew().await {
            Ok(()) => {
                self.is_the_database_that_was(remembered)?;
                self.unsaved.store(true, Ordering::Release);
                self.save().await;
                Ok(())
            }
            Err(DatabaseError::Away { .. }) => self.begin_without(),
            Err(error) => Err(error.into()),
        }
    }

    /// New subjects' routes in a database that was lost would leave behind what lies at the brokers of the old ones.
    fn is_the_database_that_was(&self, remembered: usize) -> Result<(), MetaError> {
        let Some(path) = self.snapshot.as_deref().filter(|_| remembered > 0) else {
            return Ok(());
        };
        if self.known.read().picture.routes().len() > 0 {
            return Ok(());
        }
        Err(MetaError::refused(format!(
            "the database has no routes, and the snapshot {path} has those of {remembered} subjects: the database was lost, or is another one; \
             restore it, or, if an empty one is meant, move the snapshot away and start again",
            path = path.display()
        )))
    }

    /// The snapshot counts until the database has been read; then only its routes that were never stored, and the greatest time, do.
    async fn load_snapshot(&self) {
        let Some(path) = self.snapshot.clone() else {
            return;
        };
        let shown = path.display().to_string();
        let read = tokio::task::spawn_blocking(move || snapshot::read(&path)).await;
        match read {
            Ok(Ok((content, stamp))) => {
                self.stamp.fetch_max(stamp, Ordering::AcqRel);
                *self.temporary.write() = content.temporary;
                self.take(content.everything, 0);
                self.from_snapshot.store(true, Ordering::Release);
            }
            Ok(Err(SnapshotError::None)) => {}
            Ok(Err(error)) => tracing::error!(
                meta = self.name,
                path = shown,
                %error,
                "the snapshot is of no use; a new one is written when the database has been read"
            ),
            Err(error) => {
                tracing::error!(meta = self.name, path = shown, %error, "the snapshot could not be read");
            }
        }
    }

    fn begin_without(&self) -> Result<(), MetaError> {
        let groups = self.known.read().picture.groups.len();
        if self.from_snapshot.load(Ordering::Acquire) {
            tracing::warn!(
                meta = self.name,
                at = self.at(),
                groups,
                "starting with the snapshot, since the database is away"
            );
        } else {
            tracing::error!(
                meta = self.name,
                "starting without knowing anything: the database is away and there is no snapshot; nothing is answered until it is back"
            );
        }
        Ok(())
    }

    pub(crate) fn status(&self) -> MetaStatus {
        let database = self.link();
        let nodes = (self.nodes.lock().iter())
            .map(|((hostname, port), node)| NodeStatus {
                hostname: hostname.clone(),
                port: *port,
                group: node.group.clone(),
                role: node.role,
                silent_ms: u64::try_from(node.at.elapsed().as_millis()).unwrap_or(u64::MAX),
            })
            .collect();
        let known = self.known.read();
        let picture = &known.picture;
        MetaStatus {
            stale: database != DatabaseStatus::Up,
            database,
            from_snapshot: self.from_snapshot.load(Ordering::Acquire),
            at: self.at(),
            subjects: picture.subjects.len(),
            routes: picture.routes().len(),
            groups: picture.groups.len(),
            brokers: picture.brokers.len(),
            routes_to_store: self.temporary.read().len(),
            clients_dropped: self.clients.dropped(),
            nodes,
        }
    }
}
