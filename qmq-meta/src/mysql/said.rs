//! The driver's errors for those who call.

use crate::error::DatabaseError;
use crate::jdbc::JdbcUrl;

/// Numbers of errors that pass: too many connections, a shutdown, a network error, a lock that was waited for in vain, a killed connection, a
/// server that is read-only as in the middle of a failover.
const PASSING: [u16; 18] = [
    1040, 1053, 1077, 1079, 1129, 1152, 1158, 1159, 1160, 1161, 1203, 1205, 1213, 1226, 1290, 1317,
    1836, 1927,
];
/// Access denied, to the database or at all; no such database.
const DENIED: [u16; 4] = [1044, 1045, 1049, 1698];
/// No such column, no such table.
const MISSING: [u16; 2] = [1054, 1146];

/// Whether another try may well end otherwise: a deadlock.
pub(super) fn is_deadlock(error: &sqlx::Error) -> bool {
    number_of(error) == Some(1213)
}

fn number_of(error: &sqlx::Error) -> Option<u16> {
    let sqlx::Error::Database(told) = error else {
        return None;
    };
    told.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
        .map(sqlx::mysql::MySqlDatabaseError::number)
}

/// What it was.
pub(super) fn said(url: &JdbcUrl, doing: &'static str, error: &sqlx::Error) -> DatabaseError {
    let reason = error.to_string();
    let Some(number) = number_of(error) else {
        return match error {
            sqlx::Error::Configuration(_) => {
                DatabaseError::Setting(format!("{url}: {reason}; look at the settings jdbc.*"))
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::WorkerCrashed => DatabaseError::Away {
                reason: format!("{url}: {reason}"),
            },
            _ => DatabaseError::Refused { doing, reason },
        };
    };
    if PASSING.contains(&number) {
        DatabaseError::Away {
            reason: format!("{url}: {reason}"),
        }
    } else if DENIED.contains(&number) {
        DatabaseError::Setting(format!(
            "{url}: {reason}; look at jdbc.url, jdbc.username and jdbc.password"
        ))
    } else if MISSING.contains(&number) {
        DatabaseError::Schema {
            reason,
            command: migrate_command(url, false),
        }
    } else {
        DatabaseError::Refused { doing, reason }
    }
}

/// The command that makes the tables.
pub(super) fn migrate_command(url: &JdbcUrl, with_qmq_tables: bool) -> String {
    let place = url.to_string().replacen("jdbc:mysql://", "", 1);
    let more = if with_qmq_tables {
        " --with-qmq-tables"
    } else {
        ""
    };
    format!("qmq meta migrate --url 'mysql://ADMIN:PASSWORD@{place}'{more}")
}
