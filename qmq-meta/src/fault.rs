//! What goes wrong in a call, before it is known to whom it is said.

use std::future::Future;
use std::time::Duration;

use crate::error::DatabaseError;

/// What went wrong: the driver says so, or a rule.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The driver.
    Driver(sqlx::Error),
    /// A rule.
    Rule(DatabaseError),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<DatabaseError> for Fault {
    fn from(error: DatabaseError) -> Self {
        Self::Rule(error)
    }
}

impl Fault {
    /// Whether the database refused a row because another has what must be unique.
    pub(crate) fn is_duplicate(&self) -> bool {
        matches!(self, Self::Driver(sqlx::Error::Database(error)) if error.is_unique_violation())
    }
}

/// Another row has what must be unique.
pub(crate) fn exists(what: impl Into<String>) -> Fault {
    Fault::Rule(DatabaseError::Exists { what: what.into() })
}

/// A row is not as the caller knew it.
pub(crate) fn changed(what: impl Into<String>) -> Fault {
    Fault::Rule(DatabaseError::Changed { what: what.into() })
}

/// Does it within the limit; `said` is how the driver's errors are told.
pub(crate) async fn bounded<T>(
    limit: Duration,
    doing: &'static str,
    said: impl FnOnce(&'static str, &sqlx::Error) -> DatabaseError,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, DatabaseError> {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(Fault::Rule(error))) => Err(error),
        Ok(Err(Fault::Driver(error))) => Err(said(doing, &error)),
        Err(_) => Err(DatabaseError::Away {
            reason: format!("no answer within {} ms to {doing}", limit.as_millis()),
        }),
    }
}
