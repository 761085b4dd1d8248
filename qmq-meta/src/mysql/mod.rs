//! MySQL and MariaDB: QMQ's own tables, which a Java metaserver may use at the same time, and ours beside them.

mod brokers;
mod clients;
mod clock;
mod connections;
mod exact;
mod groups;
mod read;
mod said;
mod schema;
mod subjects;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::ConnectOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};

use self::connections::Connections;
pub(crate) use self::schema::columns as columns_there;
use crate::columns;
use crate::database::{Database, Everything, Liveness, Now};
use crate::error::DatabaseError;
use crate::fault::{Fault, bounded};
use crate::jdbc::{JdbcUrl, Tls};
use crate::model::{Broker, ClientRow, DataSource, GroupKind, OfflineRow, ReadonlyRow};

/// How often a call is made that was taken back because of a deadlock. Our own calls wait in a row; a Java metaserver's may come across.
const TRIES: u32 = 3;

/// How to reach the database.
#[derive(Clone)]
pub struct MySqlOptions {
    /// `jdbc.url`.
    pub url: JdbcUrl,
    /// `jdbc.username`; empty: what the URL says.
    pub user: String,
    /// `jdbc.password`; empty: what the URL says. Never shown.
    pub password: String,
    /// `pool.size.max`: most connections, from 1.
    pub connections_max: u32,
    /// A call that took longer has failed; `socketTimeout` in the URL shortens it. 5 s by default.
    pub timeout: Duration,
}

impl MySqlOptions {
    /// With user and password of the URL, 10 connections and 5 s.
    #[must_use]
    pub fn new(url: JdbcUrl) -> Self {
        Self {
            url,
            user: String::new(),
            password: String::new(),
            connections_max: 10,
            timeout: Duration::from_secs(5),
        }
    }

    fn connect_options(&self) -> MySqlConnectOptions {
        let url = &self.url;
        let user = if self.user.is_empty() {
            url.user().unwrap_or_default()
        } else {
            &self.user
        };
        let password = if self.password.is_empty() {
            url.password().unwrap_or_default()
        } else {
            &self.password
        };
        let mut options = MySqlConnectOptions::new()
            .host(url.host())
            .port(url.port())
            .database(url.database())
            .username(user)
            .ssl_mode(match url.tls() {
                Tls::Off => MySqlSslMode::Disabled,
                Tls::Preferred => MySqlSslMode::Preferred,
                Tls::Required => MySqlSslMode::Required,
                Tls::VerifyAuthority => MySqlSslMode::VerifyCa,
                Tls::VerifyIdentity => MySqlSslMode::VerifyIdentity,
            })
            .pipes_as_concat(false)
            .disable_statement_logging();
        if let Some(authority) = url.authority() {
            options = options.ssl_ca(authority);
        }
        if !password.is_empty() {
            options = options.password(password);
        }
        options
    }

    fn limit(&self) -> Duration {
        self.url
            .socket_timeout()
            .map_or(self.timeout, |limit| limit.min(self.timeout))
    }
}

impl fmt::Debug for MySqlOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlOptions")
            .field("url", &self.url)
            .field("user", &self.user)
            .field("connections_max", &self.connections_max)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// QMQ's tables and ours in MySQL (from 5.7) or MariaDB (from 10.2), with no more rights than `INSERT, DELETE, UPDATE, SELECT`.
///
/// Names that differ only in case or trailing spaces are one to QMQ's columns: the second is refused as [`DatabaseError::Exists`].
#[derive(Debug)]
pub struct MySql {
    connections: Connections,
    url: JdbcUrl,
    limit: Duration,
}

/// One transaction; again if it was taken back because of a deadlock.
macro_rules! change {
    ($self:ident, $doing:literal, |$connection:ident| $work:expr) => {
        $self
            .bounded($doing, async {
                let mut tries = 0;
                loop {
                    tries += 1;
                    let mut lease = $self.connections.begin().await?;
                    let $connection = lease.get();
                    let outcome = $work.await;
                    match lease.end(outcome).await {
                        Err(Fault::Driver(error)) if said::is_deadlock(&error) && tries < TRIES => {
                        }
                        outcome => return outcome,
                    }
                }
            })
            .await
    };
}

impl MySql {
    /// Makes the handle; the first call connects. Works while the database is away.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Setting`] for settings that can never work.
    pub fn connect(options: &MySqlOptions) -> Result<Self, DatabaseError> {
        if options.connections_max == 0 {
            return Err(DatabaseError::Setting(
                "pool.size.max is 0: at least one connection is needed".into(),
            ));
        }
        if options.user.is_empty() && options.url.user().is_none() {
            return Err(DatabaseError::Setting(
                "jdbc.username is empty: name the user of the database".into(),
            ));
        }
        let limit = options.limit();
        let connecting = options
            .url
            .connect_timeout()
            .map_or(limit, |timeout| timeout.min(limit));
        let connect_options = options.connect_options();
        let connections =
            Connections::new(connect_options, options.connections_max, connecting, limit);
        Ok(Self {
            connections,
            url: options.url.clone(),
            limit,
        })
    }

    async fn bounded<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, DatabaseError> {
        let told = |doing, error: &sqlx::Error| said::said(&self.url, doing, error);
        bounded(self.limit, doing, told, work).await
    }
}

#[async_trait]
impl Database for MySql {
    fn kind(&self) -> &'static str {
        "mysql"
    }

    async fn verify(&self) -> Result<(), DatabaseError> {
        change!(self, "look at the tables", |c| schema::verify(c, &self.url))
    }

    async fn read(&self) -> Result<Everything, DatabaseError> {
        self.bounded("read", read::everything(&self.connections))
            .await
    }

    async fn seen(&self, liveness: &Liveness) -> Result<Now, DatabaseError> {
        columns::liveness(liveness)?;
        change!(self, "note a heartbeat", |c| groups::seen(c, liveness))
    }

    async fn sweep(&self, silent_ms: u64) -> Result<Vec<String>, DatabaseError> {
        change!(self, "look for silent groups", |c| groups::sweep(
            c, silent_ms
        ))
    }

    async fn grant_epoch(
        &self,
        group: &str,
        known: u64,
        master: &str,
    ) -> Result<u64, DatabaseError> {
        columns::GROUP.fits(group)?;
        columns::MASTER.fits(master)?;
        change!(self, "grant an epoch", |c| groups::grant_epoch(
            c, group, known, master
        ))
    }

    async fn add_broker(&self, broker: &Broker) -> Result<(), DatabaseError> {
        columns::broker(broker)?;
        change!(self, "add a broker", |c| brokers::add(c, broker))
    }

    async fn enter_broker(&self, broker: &Broker) -> Result<(), DatabaseError> {
        columns::broker(broker)?;
        change!(self, "enter a broker", |c| brokers::enter(c, broker))
    }

    async fn replace_broker(&self, broker: &Broker) -> Result<Option<Broker>, DatabaseError> {
        columns::broker(broker)?;
        change!(self, "replace a broker", |c| brokers::replace(c, broker))
    }

    async fn add_subject(&self, name: &str, tag: &str) -> Result<bool, DatabaseError> {
        columns::SUBJECT.fits(name)?;
        columns::SUBJECT_TAG.fits(tag)?;
        change!(self, "add a subject", |c| subjects::add(c, name, tag))
    }

    async fn add_route(&self, subject: &str, groups: &[String]) -> Result<bool, DatabaseError> {
        let json = columns::route(subject, groups)?;
        change!(self, "add a route", |c| subjects::add_route(
            c, subject, &json
        ))
    }

    async fn change_route(
        &self,
        subject: &str,
        groups: &[String],
        version: i32,
    ) -> Result<bool, DatabaseError> {
        let json = columns::route(subject, groups)?;
        change!(self, "change a route", |c| subjects::change_route(
            c, subject, &json, version
        ))
    }

    async fn add_readonly(&self, row: &ReadonlyRow) -> Result<(), DatabaseError> {
        columns::readonly(row)?;
        change!(self, "mark a group read-only", |c| subjects::add_readonly(
            c, row
        ))
    }

    async fn remove_readonly(&self, row: &ReadonlyRow) -> Result<bool, DatabaseError> {
        change!(self, "unmark a read-only group", |c| {
            subjects::remove_readonly(c, row)
        })
    }

    async fn switch_off(&self, row: &OfflineRow) -> Result<(), DatabaseError> {
        columns::offline(row)?;
        change!(self, "switch a consumer off", |c| clients::switch_off(
            c, row
        ))
    }

    async fn switch_on(&self, row: &OfflineRow) -> Result<u64, DatabaseError> {
        change!(self, "switch a consumer on", |c| clients::switch_on(c, row))
    }

    async fn add_clients(&self, rows: &[ClientRow]) -> Result<(), DatabaseError> {
        rows.iter().try_for_each(columns::client)?;
        change!(self, "remember clients", |c| clients::add(c, rows))
    }

    async fn consumers(&self, subject: &str) -> Result<Vec<ClientRow>, DatabaseError> {
        change!(self, "list consumers", |c| clients::consumers(c, subject))
    }

    async fn set_retiring(&self, group: &str, retiring: bool) -> Result<bool, DatabaseError> {
        change!(self, "retire a broker group", |c| groups::set_retiring(
            c, group, retiring
        ))
    }

    async fn remove_group(&self, group: &str) -> Result<(), DatabaseError> {
        change!(self, "remove a broker group", |c| groups::remove(c, group))
    }

    async fn set_group_tag(
        &self,
        group: &str,
        kind: GroupKind,
        tag: &str,
    ) -> Result<bool, DatabaseError> {
        columns::GROUP_TAG.fits(tag)?;
        change!(self, "tag a broker group", |c| groups::set_tag(
            c, group, kind, tag
        ))
    }

    async fn add_data_source(&self, source: &DataSource) -> Result<(), DatabaseError> {
        columns::data_source(source)?;
        change!(self, "add a database of messages", |c| {
            clients::add_data_source(c, source)
        })
    }

    async fn data_sources(&self, room: &str) -> Result<Vec<DataSource>, DatabaseError> {
        change!(self, "list databases of messages", |c| {
            clients::data_sources(c, room)
        })
    }

    async fn close(&self) {
        self.connections.close().await;
    }
}

/// A connection of an administrator, who makes tables.
pub(crate) async fn administrator(url: &JdbcUrl) -> Result<sqlx::MySqlConnection, DatabaseError> {
    let options = MySqlOptions::new(url.clone());
    let limit = options.limit();
    let told = |doing, error: &sqlx::Error| said::said(url, doing, error);
    bounded(limit, "connect", told, async {
        Ok(options.connect_options().connect().await?)
    })
    .await
}

/// The driver's errors in our words.
pub(crate) fn told(url: &JdbcUrl, doing: &'static str, error: &sqlx::Error) -> DatabaseError {
    said::said(url, doing, error)
}
