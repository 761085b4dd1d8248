//! What has been handled, in a table of a database.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, MySqlPool, SqlitePool};

use super::{Idempotence, Known};

/// Longest key, in bytes: the column's width.
const KEY_BYTES_MAX: usize = 1024;
/// Longest name of a table: MySQL's limit.
const TABLE_BYTES_MAX: usize = 64;

/// Remembers in a table of a SQLite or MySQL database what has been handled, as QMQ's `JdbcIdempotentChecker` does: a key is inserted before a message is
/// handled, and deleted if handling fails. Processes that share the table share what they remember.
///
/// * A table for each group: two groups of one subject handle the same messages, and each must.
/// * A process that dies while it handles a message leaves its key behind: the message comes again, and is taken for handled. Where that is worse than
///   handling it twice, let the handler note the message's id in the transaction of its own work instead.
/// * Keys stay until [`SqlIdempotence::forget_older`] takes them: call it now and then, with more time than a message may take to come again.
#[derive(Clone, Debug)]
pub struct SqlIdempotence {
    database: Database,
    create: Arc<str>,
    insert: Arc<str>,
    delete: Arc<str>,
    forget: Arc<str>,
}

#[derive(Clone, Debug)]
enum Database {
    Sqlite(SqlitePool),
    MySql(MySqlPool),
}

/// Why there is no answer from the table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqlIdempotenceError {
    /// The name of the table is no good.
    #[error(
        "the table {0:?}: a name has 1 to 64 ASCII letters, digits and underscores, and no digit first"
    )]
    Table(String),
    /// The key does not fit; a database might cut it and take it for another.
    #[error("a key of {0} bytes: 1024 at most; give messages shorter ids")]
    KeyTooLong(usize),
    /// The database.
    #[error("the table of handled messages: {0}")]
    Database(#[from] sqlx::Error),
}

impl SqlIdempotence {
    /// In a SQLite database.
    ///
    /// # Errors
    /// [`SqlIdempotenceError::Table`].
    pub fn sqlite(pool: SqlitePool, table: &str) -> Result<Self, SqlIdempotenceError> {
        check(table)?;
        const NOW: &str = "CAST(strftime('%s', 'now') AS INTEGER)";
        Ok(Self {
            database: Database::Sqlite(pool),
            create: format!(
                "CREATE TABLE IF NOT EXISTS `{table}` (k BLOB NOT NULL PRIMARY KEY, update_at INTEGER NOT NULL DEFAULT ({NOW}))"
            )
            .into(),
            insert: format!("INSERT OR IGNORE INTO `{table}` (k) VALUES (?)").into(),
            delete: format!("DELETE FROM `{table}` WHERE k = ?").into(),
            forget: format!("DELETE FROM `{table}` WHERE update_at < {NOW} - ?").into(),
        })
    }

    /// In a MySQL database.
    ///
    /// # Errors
    /// [`SqlIdempotenceError::Table`].
    pub fn mysql(pool: MySqlPool, table: &str) -> Result<Self, SqlIdempotenceError> {
        check(table)?;
        Ok(Self {
            database: Database::MySql(pool),
            // Bytes, since most collations take `a` and `A` for the same.
            create: format!(
                "CREATE TABLE IF NOT EXISTS `{table}` (k VARBINARY({KEY_BYTES_MAX}) NOT NULL PRIMARY KEY, update_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, KEY (update_at))"
            )
            .into(),
            insert: format!("INSERT IGNORE INTO `{table}` (k) VALUES (?)").into(),
            delete: format!("DELETE FROM `{table}` WHERE k = ?").into(),
            forget: format!(
                "DELETE FROM `{table}` WHERE update_at < CURRENT_TIMESTAMP - INTERVAL ? SECOND"
            )
            .into(),
        })
    }

    /// Makes the table if it is not there.
    ///
    /// # Errors
    /// [`SqlIdempotenceError::Database`].
    pub async fn create_table(&self) -> Result<(), SqlIdempotenceError> {
        let create = AssertSqlSafe(Arc::clone(&self.create));
        match &self.database {
            Database::Sqlite(pool) => {
                sqlx::query(create).execute(pool).await?;
            }
            Database::MySql(pool) => {
                sqlx::query(create).execute(pool).await?;
            }
        }
        Ok(())
    }

    /// Forgets keys that were noted longer ago than `age`. How many.
    ///
    /// # Errors
    /// [`SqlIdempotenceError::Database`].
    pub async fn forget_older(&self, age: Duration) -> Result<u64, SqlIdempotenceError> {
        let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let forget = AssertSqlSafe(Arc::clone(&self.forget));
        Ok(match &self.database {
            Database::Sqlite(pool) => {
                let query = sqlx::query(forget).bind(seconds);
                query.execute(pool).await?.rows_affected()
            }
            Database::MySql(pool) => {
                let query = sqlx::query(forget).bind(seconds);
                query.execute(pool).await?.rows_affected()
            }
        })
    }

    /// Rows that a statement about a key has changed.
    async fn change(&self, statement: &Arc<str>, key: &str) -> Result<u64, SqlIdempotenceError> {
        if key.len() > KEY_BYTES_MAX {
            return Err(SqlIdempotenceError::KeyTooLong(key.len()));
        }
        let statement = AssertSqlSafe(Arc::clone(statement));
        Ok(match &self.database {
            Database::Sqlite(pool) => {
                let query = sqlx::query(statement).bind(key.as_bytes());
                query.execute(pool).await?.rows_affected()
            }
            Database::MySql(pool) => {
                let query = sqlx::query(statement).bind(key.as_bytes());
                query.execute(pool).await?.rows_affected()
            }
        })
    }
}

impl Idempotence for SqlIdempotence {
    fn first<'a>(&'a self, key: &'a str) -> Known<'a, bool> {
        Box::pin(async move { Ok(self.change(&self.insert, key).await? == 1) })
    }

    fn failed<'a>(&'a self, key: &'a str) -> Known<'a, ()> {
        Box::pin(async move {
            self.change(&self.delete, key).await?;
            Ok(())
        })
    }
}

fn check(table: &str) -> Result<(), SqlIdempotenceError> {
    let fits = (1..=TABLE_BYTES_MAX).contains(&table.len())
        && !table.starts_with(|first: char| first.is_ascii_digit())
        && table
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match fits {
        true => Ok(()),
        false => Err(SqlIdempotenceError::Table(table.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use sqlx::mysql::MySqlPoolOptions;
    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

    use super::*;

    async fn in_folder(folder: &tempfile::TempDir) -> SqlIdempotence {
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("handled.sqlite"))
            .create_if_missing(true);
        let pool = SqlitePoolOptions::new().connect_with(options);
        let handled = SqlIdempotence::sqlite(pool.await.unwrap(), "handled_ticket").unwrap();
        handled.create_table().await.unwrap();
        handled
    }

    #[tokio::test]
    async fn a_key_is_first_once_for_all_processes_and_again_after_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (in_folder(&folder).await, in_folder(&folder).await);
        assert!(one.first("order.changed 7").await.unwrap());
        assert!(!one.first("order.changed 7").await.unwrap());
        assert!(!other.first("order.changed 7").await.unwrap());
        assert!(other.first("Order.changed 7").await.unwrap());
        other.failed("order.changed 7").await.unwrap();
        assert!(one.first("order.changed 7").await.unwrap());
    }

    #[tokio::test]
    async fn of_many_who_ask_at_once_one_is_first() {
        let folder = tempfile::tempdir().unwrap();
        let handled = in_folder(&folder).await;
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let handled = handled.clone();
            asking.spawn(async move { handled.first("order.changed 7").await.unwrap() });
        }
        let firsts = asking.join_all().await.into_iter().filter(|first| *first);
        assert_eq!(firsts.count(), 1);
    }

    #[tokio::test]
    async fn old_keys_are_forgotten_and_new_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let handled = in_folder(&folder).await;
        assert!(handled.first("old").await.unwrap());
        let Database::Sqlite(pool) = &handled.database else {
            panic!("it is SQLite");
        };
        let aged = sqlx::query("UPDATE handled_ticket SET update_at = update_at - 3600");
        aged.execute(pool).await.unwrap();
        assert!(handled.first("new").await.unwrap());
        let forgotten = handled.forget_older(Duration::from_secs(1_800)).await;
        assert_eq!(forgotten.unwrap(), 1);
        assert!(handled.first("old").await.unwrap());
        assert!(!handled.first("new").await.unwrap());
    }

    #[tokio::test]
    async fn a_key_that_does_not_fit_is_refused_and_not_cut() {
        let folder = tempfile::tempdir().unwrap();
        let handled = in_folder(&folder).await;
        assert!(handled.first(&"k".repeat(KEY_BYTES_MAX)).await.unwrap());
        let error = handled.first(&"k".repeat(KEY_BYTES_MAX + 1)).await;
        assert!(error.unwrap_err().to_string().contains("1024 at most"));
    }

    #[tokio::test]
    async fn a_name_of_a_table_cannot_carry_a_statement() {
        let pool = MySqlPoolOptions::new().connect_lazy("mysql://nobody@127.0.0.1/none");
        let pool = pool.unwrap();
        for bad in ["", "a`b", "a b", "a;b", "1a", "ä", &"a".repeat(65)] {
            let refused = SqlIdempotence::mysql(pool.clone(), bad);
            assert!(
                matches!(refused, Err(SqlIdempotenceError::Table(_))),
                "{bad}"
            );
        }
        assert!(SqlIdempotence::mysql(pool, "handled_7").is_ok());
    }
}
