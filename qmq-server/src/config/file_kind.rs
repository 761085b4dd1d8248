//! The configuration files there are.

use std::path::Path;

use super::key::Key;
use super::keys;

/// A configuration file, by what it configures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FileKind {
    /// `metaserver.properties`.
    Meta,
    /// `datasource.properties`.
    Datasource,
    /// `valid-api-tokens.properties`.
    ApiTokens,
    /// `client_log_switch.properties`.
    ClientLogSwitch,
    /// `broker-http-port-map.properties`.
    HttpPorts,
    /// `broker.properties`.
    Broker,
    /// `delay.properties`.
    Delay,
    /// `client.properties`.
    Client,
    /// `watchdog.properties`.
    Watchdog,
    /// `backup.properties`.
    Backup,
    /// `dead_backup.properties`.
    DeadBackup,
    /// `hbase.properties`.
    Hbase,
    /// `qmq.prometheus.properties`.
    Prometheus,
}

impl FileKind {
    /// All of them, in the order in which documents should have them.
    pub const ALL: [Self; 13] = [
        Self::Meta,
        Self::Datasource,
        Self::ApiTokens,
        Self::ClientLogSwitch,
        Self::HttpPorts,
        Self::Broker,
        Self::Delay,
        Self::Client,
        Self::Watchdog,
        Self::Backup,
        Self::DeadBackup,
        Self::Hbase,
        Self::Prometheus,
    ];

    /// Its usual name without `.properties`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "metaserver",
            Self::Datasource => "datasource",
            Self::ApiTokens => "valid-api-tokens",
            Self::ClientLogSwitch => "client_log_switch",
            Self::HttpPorts => "broker-http-port-map",
            Self::Broker => "broker",
            Self::Delay => "delay",
            Self::Client => "client",
            Self::Watchdog => "watchdog",
            Self::Backup => "backup",
            Self::DeadBackup => "dead_backup",
            Self::Hbase => "hbase",
            Self::Prometheus => "qmq.prometheus",
        }
    }

    /// The kind called so by [`Self::name`].
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its keys; none if every line has one of its own.
    #[must_use]
    pub fn keys(self) -> &'static [Key] {
        match self {
            Self::Meta => keys::META,
            Self::Datasource => keys::DATASOURCE,
            Self::Broker => keys::BROKER,
            Self::Delay => keys::DELAY,
            Self::Client => keys::CLIENT,
            Self::Watchdog => keys::WATCHDOG,
            Self::Backup => keys::BACKUP,
            Self::DeadBackup => keys::DEAD_BACKUP,
            Self::Hbase => keys::HBASE,
            Self::Prometheus => keys::PROMETHEUS,
            Self::ApiTokens | Self::ClientLogSwitch | Self::HttpPorts => &[],
        }
    }

    /// Which one a file is, by its name: `broker.properties`, `broker-2.properties` and `broker.properties.bak` are of the broker.
    /// `None` if the name does not begin like that of any.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let file = path.file_name()?.to_str()?;
        // The tokens of clients are no client.properties, though their name begins so.
        if file.starts_with("client-tokens") {
            return None;
        }
        let begins = Self::ALL
            .into_iter()
            .filter(|kind| file.starts_with(kind.name()));
        begins.max_by_key(|kind| kind.name().len())
    }

    /// What it configures, in one sentence.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Meta => "The meta server: who is in the cluster, and where each subject is.",
            Self::Datasource => {
                "The database of the meta server. It stands beside `metaserver.properties`; its keys may also be set there where the meta server's are set by `--set` and the environment."
            }
            Self::ApiTokens => {
                "The tokens of those who manage a cluster over HTTP, a line each: `TOKEN=DESCRIPTION`. Re-read when it changes. Tokens are never shown, only their descriptions."
            }
            Self::ClientLogSwitch => {
                "Of which subjects the meta server logs every request: `default=false`, and `SUBJECT=true` or `SUBJECT=false` for those that are different. Re-read when it changes."
            }
            Self::HttpPorts => {
                "The HTTP ports of slaves that do not have the usual one, a line each: `HOST=PORT` or `HOST/SERVEPORT=PORT`. Accepted without effect: there are no slaves with HTTP yet."
            }
            Self::Broker => "The broker of messages for now.",
            Self::Delay => "The server of messages for later.",
            Self::Client => {
                "How commands, and programs that like, find a broker and say who they are."
            }
            Self::Watchdog => {
                "QMQ's watchdog. There is none here yet, so nothing comes of this file."
            }
            Self::Backup => {
                "QMQ's backup server. There is none here yet, so nothing comes of this file."
            }
            Self::DeadBackup => {
                "Keys of QMQ's backup server for dead messages. There is none here yet, so nothing comes of this file."
            }
            Self::Hbase => {
                "The database of QMQ's backup server. There is none here yet, so nothing comes of this file."
            }
            Self::Prometheus => {
                "Where QMQ's metrics go. Here they are part of the servers, so nothing comes of this file."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_name() {
        for (name, kind) in [
            ("broker.properties", Some(FileKind::Broker)),
            ("conf/broker-2.properties", Some(FileKind::Broker)),
            ("broker-http-port-map.properties", Some(FileKind::HttpPorts)),
            ("metaserver.properties", Some(FileKind::Meta)),
            (
                "client_log_switch.properties",
                Some(FileKind::ClientLogSwitch),
            ),
            ("client.properties", Some(FileKind::Client)),
            ("client-tokens.properties", None),
            ("backup.properties", Some(FileKind::Backup)),
            ("dead_backup.properties", Some(FileKind::DeadBackup)),
            ("application.properties", None),
            ("/", None),
        ] {
            assert_eq!(FileKind::of(Path::new(name)), kind, "{name}");
        }
        for kind in FileKind::ALL {
            assert_eq!(FileKind::named(kind.name()), Some(kind));
            let file = format!("{}.properties", kind.name());
            assert_eq!(FileKind::of(Path::new(&file)), Some(kind));
        }
    }
}
