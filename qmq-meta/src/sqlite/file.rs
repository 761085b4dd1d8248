//! The file: whose it is, and that nobody else has it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};

use super::said;
use crate::error::DatabaseError;

/// `qmqm`: SQLite keeps it in the file's header.
const APPLICATION: i32 = i32::from_be_bytes(*b"qmqm");
/// The tables that this program knows.
const VERSION: i32 = 1;
const TABLES: &str = include_str!("tables.sql");
const OPENING: &str = "open the file";
/// Connections that read.
const READERS: u32 = 3;

/// Connections to the file.
#[derive(Debug)]
pub(super) struct Pools {
    /// One, which is given to those who write in their order: SQLite lets several that write at a time sleep and try again.
    pub(super) writer: SqlitePool,
    /// They see what is written when they begin, and wait for nobody.
    pub(super) readers: SqlitePool,
}

/// Takes the file for this process, until the lock is dropped. SQLite's own locks are of another kind, and in another file.
pub(super) fn lock(path: &Path) -> Result<File, DatabaseError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&beside)
        .map_err(|error| cannot(&beside, &error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DatabaseError::InUse {
            path: path.display().to_string(),
        }),
        Err(error) => Err(cannot(&beside, &error.into())),
    }
}

fn cannot(path: &Path, error: &std::io::Error) -> DatabaseError {
    DatabaseError::Setting(format!("cannot open {}: {error}", path.display()))
}

/// Opens the file, and makes its tables if it is new.
pub(super) async fn open(path: &Path, busy: Duration) -> Result<Pools, DatabaseError> {
    let plain = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(busy)
        .disable_statement_logging();
    let new = match std::fs::metadata(path) {
        Ok(there) => there.len() == 0,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(cannot(path, &error)),
    };
    // With nothing set: looking at a file that is not ours must not change it.
    let ours = !new && is_ours(path, &plain).await?;
    let options = plain
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    if new {
        create(path).map_err(|error| cannot(path, &error))?;
    }
    let pool = |most, options| {
        let pool = SqlitePoolOptions::new().max_connections(most);
        // A transaction that a full disk has ended behind the driver's back is one that it takes for open ever after.
        let pool = pool.before_acquire(|connection, _| {
            let usable = !connection.is_in_transaction();
            Box::pin(async move { Ok(usable) })
        });
        pool.acquire_timeout(busy).connect_with(options)
    };
    let writer = pool(1, options.clone())
        .await
        .map_err(|error| not_opened(path, &error))?;
    if !ours {
        make(&writer).await.map_err(|error| said(OPENING, &error))?;
    }
    let readers = pool(READERS, options)
        .await
        .map_err(|error| not_opened(path, &error))?;
    Ok(Pools { writer, readers })
}

/// Makes an empty file that only its owner reads: passwords of databases may come to lie in it. SQLite gives its log files the same mode.
fn create(path: &Path) -> std::io::Result<()> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    Ok(())
}

/// Whether tables are there that this program knows; false: no tables at all.
async fn is_ours(path: &Path, options: &SqliteConnectOptions) -> Result<bool, DatabaseError> {
    let looked = look(options)
        .await
        .map_err(|error| not_opened(path, &error))?;
    let path = path.display();
    match looked {
        (0, 0, 0) => Ok(false),
        (APPLICATION, VERSION, _) => Ok(true),
        (APPLICATION, version, _) => Err(DatabaseError::Setting(format!(
            "{path} has tables of version {version} and this qmq knows version {VERSION}: start the newer qmq that wrote it, or name another file"
        ))),
        _ => Err(DatabaseError::Setting(format!(
            "{path} is a SQLite database of another program: name another file"
        ))),
    }
}

async fn look(options: &SqliteConnectOptions) -> Result<(i32, i32, i64), sqlx::Error> {
    let mut connection = options.connect().await?;
    let application = sqlx::query_scalar("PRAGMA application_id")
        .fetch_one(&mut connection)
        .await?;
    let version = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut connection)
        .await?;
    let tables = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok((application, version, tables))
}

fn not_opened(path: &Path, error: &sqlx::Error) -> DatabaseError {
    DatabaseError::Setting(format!(
        "cannot open {} as a SQLite database: {error}; name another file, or a folder that this user may write",
        path.display()
    ))
}

async fn make(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::raw_sql(TABLES).execute(&mut *change).await?;
    for (pragma, value) in [("application_id", APPLICATION), ("user_version", VERSION)] {
        let statement = format!("PRAGMA {pragma} = {value}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut *change)
            .await?;
    }
    change.commit().await
}
