//! What lies in the tables, read as an administrator.

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use crate::nodes::Cluster;

impl Cluster {
    /// The first two columns of a query, as text.
    pub(crate) async fn rows(&self, query: &str) -> Vec<(String, String)> {
        let options: MySqlConnectOptions = self.scratch.admin_url().parse().unwrap();
        let mut admin = options.disable_statement_logging().connect().await.unwrap();
        let rows = sqlx::query(AssertSqlSafe(query.to_owned()))
            .fetch_all(&mut admin)
            .await
            .unwrap();
        admin.close().await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}
