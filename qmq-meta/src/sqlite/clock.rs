//! The clock that never falls.

use sqlx::SqliteConnection;

use crate::database::Now;
use crate::fault::Fault;
use crate::rows::time_of;

/// Moves the clock on. Ahead of the system's, since that was set back, it goes at half its pace until that has caught up.
pub(super) async fn tick(connection: &mut SqliteConnection) -> Result<Now, Fault> {
    let stamp: i64 = sqlx::query_scalar(
        "UPDATE qmqx_clock SET stamp = max(raw_now, stamp + max(0, raw_now - raw) / 2), raw = raw_now
         FROM (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS raw_now) WHERE id = 1 RETURNING stamp",
    )
    .fetch_one(connection)
    .await?;
    Ok(time_of(stamp))
}
