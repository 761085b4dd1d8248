//! The clock that never falls.

use sqlx::MySqlConnection;

use crate::database::Now;
use crate::error::DatabaseError;
use crate::fault::Fault;

/// Moves the clock on; the database's counts. Ahead of it, since that was set back, it goes at half its pace until that has caught up. In a
/// transaction, whoever comes second waits here for the first: that is what puts changes of several meta servers into a row.
pub(super) async fn tick(connection: &mut MySqlConnection) -> Result<Now, Fault> {
    let moved = sqlx::query(
        "UPDATE qmqx_clock SET stamp = LAST_INSERT_ID(GREATEST(CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED),
         stamp + GREATEST(0, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) - raw) DIV 2)),
         raw = CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) WHERE id = 1",
    )
    .execute(connection)
    .await?;
    if moved.rows_affected() == 0 {
        return Err(DatabaseError::Refused {
            doing: "move the clock",
            reason: "table qmqx_clock has lost its row: qmq meta migrate puts it back".into(),
        }
        .into());
    }
    Ok(moved.last_insert_id())
}
