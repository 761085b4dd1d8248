//! A MariaDB to test with, and databases in it with a user who has the grants of QMQ's install documents.

use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use qmq_meta::{JdbcUrl, MigrateOptions, MySql, MySqlOptions};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, MySqlConnection, mysql::MySqlConnectOptions,
};

/// What QMQ's install documents grant.
const GRANTS: &str = "INSERT, DELETE, UPDATE, SELECT";

/// A running server: `mysql://USER:PASSWORD@127.0.0.1:PORT`.
pub(crate) struct Server {
    url: String,
    folder: Option<tempfile::TempDir>,
}

fn script(command: &str, folder: Option<&tempfile::TempDir>) -> String {
    let mut run = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/mariadb"));
    if let Some(folder) = folder {
        run.env("QMQ_MARIADB_DIR", folder.path().join("mariadb"));
    }
    let output = run.arg(command).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scripts/mariadb {command}: {told}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let url = printed
        .lines()
        .find_map(|line| line.strip_prefix("QMQ_TEST_MARIADB="));
    url.unwrap_or_default().to_owned()
}

impl Server {
    /// The one that all tests share; started if `QMQ_TEST_MARIADB` names none.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self {
            url: std::env::var("QMQ_TEST_MARIADB").unwrap_or_else(|_| script("start", None)),
            folder: None,
        })
    }

    /// One of this test's own, which it may stop.
    pub(crate) fn own() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            url: script("start", Some(&folder)),
            folder: Some(folder),
        }
    }

    pub(crate) fn down(&self) {
        script("down", self.folder.as_ref());
    }

    pub(crate) fn up(&self) {
        assert_eq!(script("start", self.folder.as_ref()), self.url);
    }

    /// A database without tables.
    pub(crate) async fn database(&'static self) -> Scratch {
        Scratch::make(&self.url).await
    }

    pub(crate) async fn own_database(&self) -> Scratch {
        Scratch::make(&self.url).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            script("stop", Some(folder));
        }
    }
}

/// A database of one test, dropped with it.
pub(crate) struct Scratch {
    server: String,
    name: String,
    password: String,
}

async fn connect(url: &str) -> MySqlConnection {
    let options: MySqlConnectOptions = url.parse().unwrap();
    options.disable_statement_logging().connect().await.unwrap()
}

impl Scratch {
    async fn make(server: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "qmq_test_{}_{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let scratch = Self {
            server: server.to_owned(),
            password: format!("pass@{name}"),
            name,
        };
        let Self { name, password, .. } = &scratch;
        let mut admin = connect(server).await;
        let statements = format!(
            "CREATE DATABASE {name} DEFAULT CHARACTER SET utf8mb4; CREATE USER '{name}'@'127.0.0.1' IDENTIFIED BY '{password}';
             GRANT {GRANTS} ON {name}.* TO '{name}'@'127.0.0.1'"
        );
        sqlx::raw_sql(AssertSqlSafe(statements))
            .execute(&mut admin)
            .await
            .unwrap();
        admin.close().await.unwrap();
        scratch
    }

    /// The URL of an administrator, as text.
    pub(crate) fn admin_url(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }

    /// The URL of an administrator.
    pub(crate) fn admin(&self) -> JdbcUrl {
        self.admin_url().parse().unwrap()
    }

    /// The URL as in `jdbc.url`.
    pub(crate) fn url(&self) -> JdbcUrl {
        let place = self.server.rsplit_once('@').unwrap().1;
        format!("jdbc:mysql://{place}/{}?useSSL=false", self.name)
            .parse()
            .unwrap()
    }

    pub(crate) fn options(&self) -> MySqlOptions {
        MySqlOptions {
            user: self.name.clone(),
            password: self.password.clone(),
            ..MySqlOptions::new(self.url())
        }
    }

    /// As a meta server has it.
    pub(crate) fn meta(&self) -> MySql {
        MySql::connect(&self.options()).unwrap()
    }

    /// Statements of an administrator.
    pub(crate) async fn run(&self, statements: &str) {
        let mut admin = connect(&self.admin_url()).await;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(&mut admin)
            .await
            .unwrap();
        admin.close().await.unwrap();
    }

    /// All tables, QMQ's as they are now.
    pub(crate) async fn migrate(&self) {
        let options = MigrateOptions {
            with_qmq_tables: true,
        };
        qmq_meta::migrate(&self.admin(), options).await.unwrap();
    }

    /// QMQ's tables as they were in 2018.
    pub(crate) async fn older(&self) {
        self.run("ALTER TABLE broker_group DROP COLUMN ext; ALTER TABLE client_meta_info DROP COLUMN online_status").await;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Self { server, name, .. } = self;
        let (server, statements) = (
            server.clone(),
            format!("DROP DATABASE IF EXISTS {name}; DROP USER IF EXISTS '{name}'@'127.0.0.1'"),
        );
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                // What a test left behind must not make it fail.
                if let Ok(mut admin) = server
                    .parse::<MySqlConnectOptions>()
                    .unwrap()
                    .connect()
                    .await
                {
                    drop(
                        sqlx::raw_sql(AssertSqlSafe(statements))
                            .execute(&mut admin)
                            .await,
                    );
                }
            });
        });
        drop(cleaning.join());
    }
}
