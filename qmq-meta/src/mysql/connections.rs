//! Connections to the database: at most so many, and none is used again that may be broken.
//!
//! The library's pool waits its whole time for a server that refuses connections, and waits without limit for a connection that hangs when it is
//! given back. Here a refused connection is told at once, and one that was left in the middle of a call is closed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, MySqlConnection};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::DatabaseError;
use crate::fault::Fault;

/// An idle connection that does not answer within this is broken.
const PING: Duration = Duration::from_secs(1);

/// Connections.
#[derive(Debug)]
pub(super) struct Connections {
    options: MySqlConnectOptions,
    connect_limit: Duration,
    session: String,
    permits: Semaphore,
    idle: Mutex<Vec<MySqlConnection>>,
    closed: AtomicBool,
}

impl Connections {
    /// `wait` is how long a statement waits for a row that another has locked.
    pub(super) fn new(
        options: MySqlConnectOptions,
        most: u32,
        connect_limit: Duration,
        wait: Duration,
    ) -> Self {
        let session = format!(
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; SET SESSION innodb_lock_wait_timeout = {}",
            wait.as_secs().max(1)
        );
        Self {
            options,
            connect_limit,
            session,
            permits: Semaphore::new(usize::try_from(most).unwrap_or(usize::MAX >> 3)),
            idle: Mutex::new(Vec::new()),
            closed: AtomicBool::new(false),
        }
    }

    /// A connection that has just answered.
    pub(super) async fn lease(&self) -> Result<Lease<'_>, Fault> {
        let permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| sqlx::Error::PoolClosed)?;
        let kept = self.idle.lock().pop();
        if let Some(mut kept) = kept {
            if matches!(tokio::time::timeout(PING, kept.ping()).await, Ok(Ok(()))) {
                return Ok(self.leased(kept, permit));
            }
            // Those that were opened before the same restart are broken as well.
            self.idle.lock().clear();
        }
        let connecting = async {
            let mut new = self.options.connect().await?;
            sqlx::raw_sql(AssertSqlSafe(self.session.clone()))
                .execute(&mut new)
                .await?;
            Ok::<_, sqlx::Error>(new)
        };
        match tokio::time::timeout(self.connect_limit, connecting).await {
            Ok(new) => Ok(self.leased(new?, permit)),
            Err(_) => Err(DatabaseError::Away {
                reason: format!("no connection within {} ms", self.connect_limit.as_millis()),
            }
            .into()),
        }
    }

    /// A transaction on one.
    pub(super) async fn begin(&self) -> Result<Lease<'_>, Fault> {
        let mut lease = self.lease().await?;
        sqlx::raw_sql("START TRANSACTION")
            .execute(lease.get())
            .await?;
        Ok(lease)
    }

    /// A transaction that sees one moment.
    pub(super) async fn snapshot(&self) -> Result<Lease<'_>, Fault> {
        let mut lease = self.lease().await?;
        sqlx::raw_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            .execute(lease.get())
            .await?;
        Ok(lease)
    }

    /// Closes those that are idle, and each other when it comes back.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle.lock());
        for connection in idle {
            // It is closed either way; the server would only like to be told.
            drop(tokio::time::timeout(PING, connection.close()).await);
        }
    }

    fn leased<'a>(&'a self, connection: MySqlConnection, permit: SemaphorePermit<'a>) -> Lease<'a> {
        Lease {
            connection,
            home: self,
            _permit: permit,
        }
    }
}

/// A connection in use. Dropped, it is closed, and the server takes back what was not committed: nobody knows what is still under way on it.
pub(super) struct Lease<'a> {
    connection: MySqlConnection,
    home: &'a Connections,
    _permit: SemaphorePermit<'a>,
}

impl Lease<'_> {
    pub(super) fn get(&mut self) -> &mut MySqlConnection {
        &mut self.connection
    }

    /// Commits what was done, or takes it back.
    pub(super) async fn end<T>(mut self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        let (statement, outcome) = match outcome {
            Ok(done) => ("COMMIT", Ok(done)),
            Err(fault @ (Fault::Rule(_) | Fault::Driver(sqlx::Error::Database(_)))) => {
                ("ROLLBACK", Err(fault))
            }
            Err(fault) => return Err(fault),
        };
        let ended = sqlx::raw_sql(statement).execute(&mut self.connection).await;
        match (ended, outcome) {
            (Ok(_), outcome) => {
                self.back();
                outcome
            }
            (Err(_), Err(fault)) => Err(fault),
            (Err(error), Ok(_)) => Err(error.into()),
        }
    }

    fn back(self) {
        let Self {
            connection, home, ..
        } = self;
        if !home.closed.load(Ordering::Acquire) {
            home.idle.lock().push(connection);
        }
    }
}
