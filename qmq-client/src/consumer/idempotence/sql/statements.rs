//! How each database says it.

use std::sync::Arc;

/// Keys that older programs note are done at once: these know nothing else.
const DONE: &str = "done SMALLINT NOT NULL DEFAULT 1";

/// The statements for one table. Those about a key take it as their first value.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) create: Arc<str>,
    /// Fails where the table was made before keys could have begun.
    pub(super) has_done: Arc<str>,
    pub(super) add_done: Arc<str>,
    pub(super) begin: Arc<str>,
    /// Of a key that began so many seconds ago, the second value.
    pub(super) take_over: Arc<str>,
    /// Whether it is done, and its age in seconds.
    pub(super) look: Arc<str>,
    pub(super) done: Arc<str>,
    pub(super) failed: Arc<str>,
    /// All that are older than so many seconds.
    pub(super) forget: Arc<str>,
}

impl Statements {
    pub(super) fn sqlite(table: &str) -> Self {
        const NOW: &str = "CAST(strftime('%s', 'now') AS INTEGER)";
        Self {
            create: format!(
                "CREATE TABLE IF NOT EXISTS `{table}` (k BLOB NOT NULL PRIMARY KEY, update_at INTEGER NOT NULL DEFAULT ({NOW}), {DONE})"
            )
            .into(),
            has_done: format!("SELECT done FROM `{table}` LIMIT 1").into(),
            add_done: format!("ALTER TABLE `{table}` ADD COLUMN {DONE}").into(),
            begin: format!("INSERT OR IGNORE INTO `{table}` (k, done) VALUES (?, 0)").into(),
            take_over: format!(
                "UPDATE `{table}` SET update_at = {NOW} WHERE k = ? AND done = 0 AND update_at <= {NOW} - ?"
            )
            .into(),
            look: format!("SELECT done, {NOW} - update_at FROM `{table}` WHERE k = ?").into(),
            done: format!("INSERT OR REPLACE INTO `{table}` (k, done) VALUES (?, 1)").into(),
            failed: format!("DELETE FROM `{table}` WHERE k = ? AND done = 0").into(),
            forget: format!("DELETE FROM `{table}` WHERE update_at < {NOW} - ?").into(),
        }
    }

    pub(super) fn mysql(table: &str, key_bytes_max: usize) -> Self {
        const NOW: &str = "CURRENT_TIMESTAMP";
        Self {
            // Bytes, since most collations take `a` and `A` for the same.
            create: format!(
                "CREATE TABLE IF NOT EXISTS `{table}` (k VARBINARY({key_bytes_max}) NOT NULL PRIMARY KEY, update_at TIMESTAMP NOT NULL DEFAULT {NOW}, {DONE}, KEY (update_at))"
            )
            .into(),
            has_done: format!("SELECT done FROM `{table}` LIMIT 1").into(),
            add_done: format!("ALTER TABLE `{table}` ADD COLUMN {DONE}").into(),
            begin: format!("INSERT IGNORE INTO `{table}` (k, done) VALUES (?, 0)").into(),
            take_over: format!(
                "UPDATE `{table}` SET update_at = {NOW} WHERE k = ? AND done = 0 AND update_at <= {NOW} - INTERVAL ? SECOND"
            )
            .into(),
            look: format!(
                "SELECT CAST(done AS SIGNED), CAST(TIMESTAMPDIFF(SECOND, update_at, {NOW}) AS SIGNED) FROM `{table}` WHERE k = ?"
            )
            .into(),
            done: format!("REPLACE INTO `{table}` (k, done) VALUES (?, 1)").into(),
            failed: format!("DELETE FROM `{table}` WHERE k = ? AND done = 0").into(),
            forget: format!("DELETE FROM `{table}` WHERE update_at < {NOW} - INTERVAL ? SECOND")
                .into(),
        }
    }
}
