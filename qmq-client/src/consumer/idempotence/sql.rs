//! What has been handled, in a table of a database.

mod statements;

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, MySqlPool, SqlitePool};

use statements::Statements;

use super::{Idempotence, Known, Standing};

/// Longest key, in bytes: the column's width.
const KEY_BYTES_MAX: usize = 1024;
/// Longest name of a table: MySQL's limit.
const TABLE_BYTES_MAX: usize = 64;

/// Begun, if nothing else is said: 10 minutes.
const BEGUN_FOR: Duration = Duration::from_secs(600);

/// Remembers in a table of a SQLite or MySQL database what has been handled, as QMQ's `JdbcIdempotentChecker` does: a key is inserted before a message is
/// handled, marked as done when it is, and deleted if handling fails. Processes that share the table share what they remember.
///
/// * A table for each group: two groups of one subject handle the same messages, and each must.
/// * A process that dies while it handles a message leaves a key behind that has begun. The message comes again, and is put off until the key is
///   [`SqlIdempotence::begun_for`] old; then whoever gets it handles it. So it may be handled twice if the handler had come to its end, or takes longer than that.
///   Where that is too much, let the handler note the message's id in the transaction of its own work instead.
/// * Keys stay until [`SqlIdempotence::forget_older`] takes them: call it now and then, with more time than a message may take to come again.
#[derive(Clone, Debug)]
pub struct SqlIdempotence {
    database: Database,
    statements: Arc<Statements>,
    begun_for: Duration,
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
        Ok(Self {
            database: Database::Sqlite(pool),
            statements: Arc::new(Statements::sqlite(table)),
            begun_for: BEGUN_FOR,
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
            statements: Arc::new(Statements::mysql(table, KEY_BYTES_MAX)),
            begun_for: BEGUN_FOR,
        })
    }

    /// For how long a key that has begun keeps others from its message: longer than a handler ever takes. In whole seconds, from 1 s up; default 10 min.
    /// All processes that share the table say the same.
    #[must_use]
    pub fn begun_for(mut self, time: Duration) -> Self {
        self.begun_for = time;
        self
    }

    fn begun_seconds(&self) -> i64 {
        seconds(self.begun_for).max(1)
    }

    /// Makes the table if it is not there. One that an older version has made gets the column that it lacks; its keys count as done.
    ///
    /// # Errors
    /// [`SqlIdempotenceError::Database`].
    pub async fn create_table(&self) -> Result<(), SqlIdempotenceError> {
        self.run(&self.statements.create).await?;
        if self.run(&self.statements.has_done).await.is_err()
            && let Err(error) = self.run(&self.statements.add_done).await
        {
            // Somebody else may have been quicker.
            self.run(&self.statements.has_done)
                .await
                .map_err(|_| error)?;
        }
        Ok(())
    }

    async fn run(&self, statement: &Arc<str>) -> Result<(), SqlIdempotenceError> {
        let statement = AssertSqlSafe(Arc::clone(statement));
        match &self.database {
            Database::Sqlite(pool) => {
                sqlx::query(statement).execute(pool).await?;
            }
            Database::MySql(pool) => {
                sqlx::query(statement).execute(pool).await?;
            }
        }
        Ok(())
    }

    /// Forgets keys that were noted longer ago than `age`. How many.
    ///
    /// # Errors
    /// [`SqlIdempotenceError::Database`].
    pub async fn forget_older(&self, age: Duration) -> Result<u64, SqlIdempotenceError> {
        let seconds = seconds(age);
        let forget = AssertSqlSafe(Arc::clone(&self.statements.forget));
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

    /// Takes over a key that has begun too long ago. Whether it was so.
    async fn take_over(&self, key: &str) -> Result<bool, SqlIdempotenceError> {
        let statement = AssertSqlSafe(Arc::clone(&self.statements.take_over));
        let seconds = self.begun_seconds();
        let taken = match &self.database {
            Database::Sqlite(pool) => {
                let query = sqlx::query(statement).bind(key.as_bytes()).bind(seconds);
                query.execute(pool).await?.rows_affected()
            }
            Database::MySql(pool) => {
                let query = sqlx::query(statement).bind(key.as_bytes()).bind(seconds);
                query.execute(pool).await?.rows_affected()
            }
        };
        Ok(taken == 1)
    }

    /// Whether a key is done, and how many seconds old it is; `None`: it is not there.
    async fn look(&self, key: &str) -> Result<Option<(i64, i64)>, SqlIdempotenceError> {
        let statement = AssertSqlSafe(Arc::clone(&self.statements.look));
        Ok(match &self.database {
            Database::Sqlite(pool) => {
                let query = sqlx::query_as(statement).bind(key.as_bytes());
                query.fetch_optional(pool).await?
            }
            Database::MySql(pool) => {
                let query = sqlx::query_as(statement).bind(key.as_bytes());
                query.fetch_optional(pool).await?
            }
        })
    }

    async fn standing(&self, key: &str) -> Result<Standing, SqlIdempotenceError> {
        if self.change(&self.statements.begin, key).await? == 1 || self.take_over(key).await? {
            return Ok(Standing::New);
        }
        let (done, age) = self.look(key).await?.unwrap_or_default();
        if done != 0 {
            return Ok(Standing::Done);
        }
        let left = self.begun_seconds().saturating_sub(age).max(1);
        let again_after = Duration::from_secs(left.unsigned_abs());
        Ok(Standing::Begun { again_after })
    }
}

impl Idempotence for SqlIdempotence {
    fn begin<'a>(&'a self, key: &'a str) -> Known<'a, Standing> {
        Box::pin(async move { Ok(self.standing(key).await?) })
    }

    fn done<'a>(&'a self, key: &'a str) -> Known<'a, ()> {
        Box::pin(async move {
            self.change(&self.statements.done, key).await?;
            Ok(())
        })
    }

    fn failed<'a>(&'a self, key: &'a str) -> Known<'a, ()> {
        Box::pin(async move {
            self.change(&self.statements.failed, key).await?;
            Ok(())
        })
    }
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
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

    async fn begin(handled: &SqlIdempotence, key: &str) -> Standing {
        handled.begin(key).await.unwrap()
    }

    fn is_begun(standing: Standing) -> bool {
        matches!(standing, Standing::Begun { .. })
    }

    fn sqlite(handled: &SqlIdempotence) -> &SqlitePool {
        match &handled.database {
            Database::Sqlite(pool) => pool,
            Database::MySql(_) => panic!("it is SQLite"),
        }
    }

    /// As if so much time had passed.
    async fn age(handled: &SqlIdempotence, seconds: i64) {
        let aged = sqlx::query("UPDATE handled_ticket SET update_at = update_at - ?");
        aged.bind(seconds).execute(sqlite(handled)).await.unwrap();
    }

    #[tokio::test]
    async fn a_key_is_new_once_for_all_processes_and_again_after_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (in_folder(&folder).await, in_folder(&folder).await);
        assert_eq!(begin(&one, "order.changed 7").await, Standing::New);
        assert!(is_begun(begin(&one, "order.changed 7").await));
        assert!(is_begun(begin(&other, "order.changed 7").await));
        assert_eq!(begin(&other, "Order.changed 7").await, Standing::New);
        one.failed("order.changed 7").await.unwrap();
        assert_eq!(begin(&other, "order.changed 7").await, Standing::New);
        other.done("order.changed 7").await.unwrap();
        assert_eq!(begin(&one, "order.changed 7").await, Standing::Done);
        one.failed("order.changed 7").await.unwrap();
        let still = begin(&one, "order.changed 7").await;
        assert_eq!(still, Standing::Done, "another one has handled it");
    }

    #[tokio::test]
    async fn what_a_process_had_begun_that_died_is_anothers_after_a_while_and_what_is_done_is_not()
    {
        let folder = tempfile::tempdir().unwrap();
        let minute = Duration::from_secs(60);
        let handled = in_folder(&folder).await.begun_for(minute);
        assert_eq!(begin(&handled, "died").await, Standing::New);
        assert_eq!(begin(&handled, "done").await, Standing::New);
        handled.done("done").await.unwrap();
        age(&handled, 30).await;
        let Standing::Begun { again_after } = begin(&handled, "died").await else {
            panic!("it has begun");
        };
        assert!(again_after > Duration::ZERO && again_after <= minute / 2);
        age(&handled, 31).await;
        assert_eq!(begin(&handled, "done").await, Standing::Done);
        assert_eq!(begin(&handled, "died").await, Standing::New);
        assert!(is_begun(begin(&handled, "died").await), "one takes it over");
    }

    #[tokio::test]
    async fn a_table_of_an_older_version_goes_on_and_its_keys_are_done() {
        let folder = tempfile::tempdir().unwrap();
        let handled = in_folder(&folder).await;
        for statement in [
            "DROP TABLE handled_ticket",
            "CREATE TABLE handled_ticket (k BLOB NOT NULL PRIMARY KEY, update_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)))",
            "INSERT INTO handled_ticket (k) VALUES (CAST('old' AS BLOB))",
        ] {
            let pool = sqlite(&handled);
            sqlx::query(statement).execute(pool).await.unwrap();
        }
        for _ in 0..2 {
            handled.create_table().await.unwrap();
        }
        assert_eq!(begin(&handled, "old").await, Standing::Done);
        assert_eq!(begin(&handled, "new").await, Standing::New);
    }

    #[tokio::test]
    async fn of_many_who_ask_at_once_one_is_first() {
        let folder = tempfile::tempdir().unwrap();
        let handled = in_folder(&folder).await;
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let handled = handled.clone();
            asking.spawn(async move { begin(&handled, "order.changed 7").await });
        }
        let all = asking.join_all().await.into_iter();
        assert_eq!(all.filter(|one| *one == Standing::New).count(), 1);
    }

    #[tokio::test]
    async fn old_keys_are_forgotten_and_new_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let handled = in_folder(&folder).await;
        handled.done("old").await.unwrap();
        age(&handled, 3_600).await;
        handled.done("new").await.unwrap();
        let forgotten = handled.forget_older(Duration::from_secs(1_800)).await;
        assert_eq!(forgotten.unwrap(), 1);
        assert_eq!(begin(&handled, "old").await, Standing::New);
        assert_eq!(begin(&handled, "new").await, Standing::Done);
    }

    #[tokio::test]
    async fn a_key_that_does_not_fit_is_refused_and_not_cut() {
        let folder = tempfile::tempdir().unwrap();
        let handled = in_folder(&folder).await;
        let longest = "k".repeat(KEY_BYTES_MAX);
        assert_eq!(begin(&handled, &longest).await, Standing::New);
        let error = handled.begin(&"k".repeat(KEY_BYTES_MAX + 1)).await;
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
