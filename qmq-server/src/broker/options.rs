//! What a broker is made of.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::Duration;

use qmq_store::{Durability, Options, Retention};

use crate::access::{Access, Tokens, TokensError};
use crate::config::{BrokerConfig, ClientAuth, FlushMode, Settings, WatchedConfig};
use crate::doors::quic::QuicOptions;
use crate::membership::{MembershipOptions, NodeKind};
use crate::rooms::consumers::{ConsumerOptions, QUEUE_BYTES_MAX};
use crate::rooms::deliver::DeliverOptions;
use crate::rooms::produce::ProduceOptions;
use crate::tls::{CertifiedFiles, ClientCertificates, TlsFiles};

/// Everything that [`Broker::start`](super::Broker::start) needs.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Name of the node.
    pub name: String,
    /// Its broker group.
    pub group: String,
    /// The store's folder.
    pub folder: PathBuf,
    /// The store's options.
    pub store: Options,
    /// Messages in.
    pub produce: ProduceOptions,
    /// Who consumes.
    pub consume: ConsumerOptions,
    /// Messages out.
    pub deliver: DeliverOptions,
    /// The door for clients.
    pub quic: QuicOptions,
    /// Where HTTP listens, if it does.
    pub http: Option<SocketAddr>,
    /// Certificates.
    pub tls: TlsFiles,
    /// Who may do what.
    pub access: Arc<Access>,
    /// How long an ending broker waits for acks.
    pub drain_ack: Duration,
    /// Subjects with names in the metrics.
    pub metrics_subjects_max: usize,
    /// The file whose dynamic keys are followed, if there is one.
    pub watched: Option<Arc<WatchedConfig>>,
    /// Which settings named the files of certificates, for errors.
    pub named_by: NamedBy,
    /// Its place in a cluster; `None`: it stands alone. Port 0 there stands for the one that the door has got.
    pub membership: Option<MembershipOptions>,
}

/// Which settings named which files.
#[derive(Clone, Debug, Default)]
pub struct NamedBy(Vec<(PathBuf, String)>);

impl NamedBy {
    /// Those of these files, by their keys.
    #[must_use]
    pub fn settings(settings: &Settings, tls: &TlsFiles) -> Self {
        let files = [
            ("tls.cert", &tls.own.certificate),
            ("tls.key", &tls.own.key),
            ("tls.ca", &tls.authority),
        ];
        let named = files.into_iter().filter_map(|(key, path)| {
            let origin = &settings.get(key)?.origin;
            Some((path.clone(), format!("{key} ({origin})")))
        });
        Self(named.collect())
    }

    /// The setting that named this file, and where it stands: `tls.key (broker.properties:7)`.
    #[must_use]
    pub fn of(&self, path: &Path) -> Option<String> {
        let mut named = self.0.iter();
        named
            .find(|(file, _)| file == path)
            .map(|(_, by)| by.clone())
    }
}

/// What is said on the wire besides messages: frames' and messages' headers, attributes.
const FRAME_OVERHEAD: u64 = 1 << 20;

impl BrokerOptions {
    /// What requests, deliveries and connections' windows may take in memory at a time, in bytes: the sum of `memory.windows.bytes`,
    /// `memory.produce.bytes`, `memory.deliver.bytes` and the queue of the consumers. `docs/security.md` says what is not in it.
    #[must_use]
    pub fn memory_bytes_max(&self) -> u64 {
        self.quic.windows_bytes
            + self.quic.produce_bytes
            + self.deliver.budget_bytes
            + QUEUE_BYTES_MAX as u64
    }

    /// As a configuration says.
    ///
    /// # Errors
    /// When the token file is no good.
    pub fn from_config(config: &BrokerConfig) -> Result<Self, TokensError> {
        let host = || {
            let name = rustix::system::uname();
            name.nodename().to_string_lossy().into_owned()
        };
        let tokens = Tokens::open(&config.tokens_file, config.tokens_required)?;
        let secret = config.cluster_token.as_ref();
        let access = Access::new(tokens, config.anonymous_rights.clone())
            .with_cluster_token(secret.map_or("", |secret| secret.expose()));
        let tls = TlsFiles {
            own: CertifiedFiles {
                certificate: config.tls_cert.clone(),
                key: config.tls_key.clone(),
            },
            authority: config.tls_ca.clone(),
            clients: match config.client_auth {
                ClientAuth::Optional => ClientCertificates::Optional,
                ClientAuth::Required => ClientCertificates::Required,
            },
        };
        let membership = MembershipOptions::of(
            NodeKind::Broker,
            &config.member,
            config.group.as_deref(),
            config.listen.port(),
            config.store_root.clone(),
            &tls,
            secret,
        );
        let auto_create = Arc::new(AtomicBool::new(config.dynamic.subject_auto_create));
        let retry_delay = u32::try_from(config.dynamic.retry_delay.as_secs()).unwrap_or(u32::MAX);
        let retry_delay_seconds = Arc::new(AtomicU32::new(retry_delay));
        let limits = Options::with_segment_bytes(config.segment_bytes);
        let batch_bytes_max = limits.batch_bytes_max.max(config.body_bytes_max * 2);
        let store = Options {
            body_bytes_max: config.body_bytes_max,
            batch_bytes_max: batch_bytes_max.min(config.segment_bytes / 2),
            flush_interval: config.flush_interval,
            retention: Retention {
                max_age: config.retention,
                ..Retention::default()
            },
            ..limits
        };
        let frame_bytes_max = store.batch_bytes_max + FRAME_OVERHEAD;
        Ok(Self {
            name: config.name.clone().unwrap_or_else(host),
            group: config.group.clone().unwrap_or_default(),
            folder: config.store_root.clone(),
            produce: ProduceOptions {
                durability: match config.flush_mode {
                    FlushMode::Sync => Durability::Synced,
                    FlushMode::Async => Durability::Buffered,
                },
                auto_create: Arc::clone(&auto_create),
                dedup_window: config.dedup.window as u64,
                dedup_producers_max: config.dedup.producers_max,
                dedup_log_bytes: config.dedup.log_bytes,
                ..ProduceOptions::default()
            },
            consume: ConsumerOptions {
                session_timeout: config.consumer.session_timeout,
                ack_timeout: config.consumer.ack_timeout,
                retry_delay_seconds: Arc::clone(&retry_delay_seconds),
                nack_max: config.consumer.nack_max,
                auto_create,
                ..ConsumerOptions::default()
            },
            deliver: DeliverOptions {
                attempts_max: Arc::new(AtomicU32::new(config.dynamic.attempts_max)),
                budget_bytes: config.memory.deliver_bytes,
                ..DeliverOptions::default()
            },
            quic: QuicOptions {
                listen: config.listen,
                connections_max: config.connection.connections_max,
                idle: config.connection.idle,
                stall: config.connection.stall,
                handshake: config.connection.handshake,
                streams_max: config.connection.streams_max,
                receive_bytes: config.memory.receive_bytes,
                send_bytes: config.memory.send_bytes,
                windows_bytes: config.memory.windows_bytes,
                produce_bytes: config.memory.produce_bytes,
                frame_bytes_max: u32::try_from(frame_bytes_max).unwrap_or(u32::MAX),
                ..QuicOptions::default()
            },
            http: config.http_address(),
            access: Arc::new(access),
            drain_ack: config.consumer.drain_ack,
            metrics_subjects_max: config.metrics_subjects_max,
            watched: None,
            named_by: NamedBy::settings(&config.settings, &tls),
            tls,
            membership,
            store,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn of(sets: &[(&str, &str)]) -> BrokerOptions {
        let sets = sets.iter().map(|(key, value)| {
            let (key, value) = ((*key).to_owned(), (*value).to_owned());
            (key, value)
        });
        let config = BrokerConfig::load(&Sources {
            sets: sets.collect(),
            ..Sources::default()
        });
        BrokerOptions::from_config(&config.unwrap()).unwrap()
    }

    #[test]
    fn keys_take_effect() {
        let options = of(&[
            ("messagelog.retention.hours", "5"),
            ("flush.interval.ms", "77"),
            ("producer.dedup.producers.max", "33"),
            ("connection.idle.ms", "4000"),
            ("connection.stall.ms", "5000"),
            ("handshake.timeout.ms", "600"),
            ("memory.receive.bytes", "1M"),
            ("memory.send.bytes", "2M"),
            ("memory.produce.bytes", "32M"),
            ("memory.deliver.bytes", "64M"),
            ("metrics.subjects.max", "9"),
            ("drain.ack.ms", "1234"),
        ]);
        let hours = Duration::from_secs(3_600);
        assert_eq!(options.store.retention.max_age, Some(hours * 5));
        assert_eq!(options.store.flush_interval, Duration::from_millis(77));
        assert_eq!(options.produce.dedup_producers_max, 33);
        assert_eq!(options.quic.idle, Duration::from_secs(4));
        assert_eq!(options.quic.stall, Duration::from_secs(5));
        assert_eq!(options.quic.handshake, Duration::from_millis(600));
        assert_eq!(options.quic.receive_bytes, 1 << 20);
        assert_eq!(options.quic.send_bytes, 2 << 20);
        assert_eq!(options.quic.produce_bytes, 32 << 20);
        assert_eq!(options.deliver.budget_bytes, 64 << 20);
        assert_eq!(options.metrics_subjects_max, 9);
        assert_eq!(options.drain_ack, Duration::from_millis(1_234));
        let kept = of(&[("log.expired.delete.enable", "false")]);
        assert_eq!(kept.store.retention.max_age, None);
    }

    #[test]
    fn the_doors_defaults_are_those_of_the_keys() {
        let (of_keys, own) = (of(&[]).quic, QuicOptions::default());
        let limits = |quic: &QuicOptions| {
            (
                (quic.connections_max, quic.streams_max),
                (quic.idle, quic.stall, quic.handshake),
                (quic.receive_bytes, quic.send_bytes, quic.produce_bytes),
            )
        };
        assert_eq!(limits(&of_keys), limits(&own));
    }
}
