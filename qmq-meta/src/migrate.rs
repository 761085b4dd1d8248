//! Makes the tables in MySQL or MariaDB, as a user who may: a running meta server has no such right, and needs none.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::Connection;

use crate::error::DatabaseError;
use crate::fault::{Fault, bounded};
use crate::jdbc::JdbcUrl;
use crate::mysql::{administrator, columns_there, told};

/// The version of our tables, as `qmqx_schema` has it.
pub(crate) const VERSION: i32 = 1;

/// In UTC the oldest default of QMQ's columns is a time that a TIMESTAMP can hold.
const SESSION: &str = "SET time_zone = '+00:00', NAMES utf8mb4;\n";
const QMQ: &str = include_str!("mysql/qmq_tables.sql");
const OURS: &str = include_str!("mysql/own_tables.sql");

/// Making tables in a database that is busy takes its time.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What to make.
#[derive(Clone, Copy, Debug, Default)]
pub struct MigrateOptions {
    /// QMQ's nine tables too, where its `init.sql` has not run. Tables that are there stay as they are.
    pub with_qmq_tables: bool,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Tables that were not there before, by name.
    pub created: Vec<String>,
    /// The version of our tables now.
    pub version: i32,
}

/// The statements that [`migrate`] runs, each ended by a semicolon, for those who run them in another way. They may be run again.
#[must_use]
pub fn migration_sql(with_qmq_tables: bool) -> String {
    let qmq = if with_qmq_tables { QMQ } else { "" };
    format!(
        "{SESSION}\n{qmq}{}{OURS}",
        if with_qmq_tables { "\n" } else { "" }
    )
}

/// Makes the tables that are missing; those that are there are left as they are, so it may be run again.
///
/// # Errors
///
/// [`DatabaseError::Away`], [`DatabaseError::Setting`] (user, password, database), [`DatabaseError::Refused`] (the user may not make tables);
/// [`DatabaseError::Setting`] also if a newer qmq has made its tables there: nothing is changed then.
pub async fn migrate(admin: &JdbcUrl, options: MigrateOptions) -> Result<Report, DatabaseError> {
    if admin.user().is_none() {
        return Err(DatabaseError::Setting(format!(
            "{admin} names no user: write it as mysql://ADMIN:PASSWORD@HOST:3306/DATABASE"
        )));
    }
    let mut connection = administrator(admin).await?;
    let say = |doing, error: &sqlx::Error| told(admin, doing, error);
    bounded(TIMEOUT, "make tables", say, async {
        let tables = |there: std::collections::HashSet<(String, String)>| -> BTreeSet<String> {
            there.into_iter().map(|(table, _)| table).collect()
        };
        let before = tables(columns_there(&mut connection).await?);
        if before.contains("qmqx_schema") {
            let version: Option<i32> = sqlx::query_scalar("SELECT MAX(version) FROM qmqx_schema")
                .fetch_one(&mut connection)
                .await?;
            if version > Some(VERSION) {
                return Err(Fault::Rule(DatabaseError::Setting(format!(
                    "{admin} has tables of version {} and this qmq knows version {VERSION}: use the newer qmq",
                    version.unwrap_or(0)
                ))));
            }
        }
        let sql = migration_sql(options.with_qmq_tables);
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut connection)
            .await?;
        let after = tables(columns_there(&mut connection).await?);
        connection.close().await?;
        Ok(Report {
            created: after.difference(&before).cloned().collect(),
            version: VERSION,
        })
    })
    .await
}
