//! What a delay server is made of.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use qmq_client::{Client, Pem};
use qmq_store::{Durability, Retention};
use qmq_wire::{NodeRole, Token};

use super::dispatch::{BackOff, DispatchOptions};
use super::letters;
use super::post::{Destination, PostOptions};
use crate::access::{Access, Pattern, Tokens, TokensError};
use crate::broker::NamedBy;
use crate::config::{ClientAuth, DelayConfig, FlushMode, Role, Watched};
use crate::doors::quic::QuicOptions;
use crate::membership::{MembershipOptions, NodeKind, Timing};
use crate::rooms::schedule::ScheduleOptions;
use crate::tls::{CertifiedFiles, ClientCertificates, TlsFiles};

/// Everything that [`DelayServer::start`](super::DelayServer::start) needs.
#[derive(Clone, Debug)]
pub struct DelayOptions {
    /// Name of the node.
    pub name: String,
    /// Its broker group; what the meta servers say counts before it.
    pub group: String,
    /// Folder of the store (`log`) and of the scheduler (`index`).
    pub folder: PathBuf,
    /// The store's options.
    pub store: qmq_store::Options,
    /// The scheduler's options.
    pub scheduler: qmq_sched::Options,
    /// Messages in.
    pub schedule: ScheduleOptions,
    /// Messages out.
    pub dispatch: DispatchOptions,
    /// Dead letters that are kept: 1 to 1,000,000. The oldest go first.
    pub dead_letter_max: u64,
    /// The brokers of each subject. Messages that no pattern fits wait.
    pub destinations: Vec<Destination>,
    /// How a message gets there.
    pub post: PostOptions,
    /// The door for clients.
    pub quic: QuicOptions,
    /// Where HTTP listens, if it does.
    pub http: Option<SocketAddr>,
    /// Certificates.
    pub tls: TlsFiles,
    /// Who may do what.
    pub access: Arc<Access>,
    /// How long an ending server waits for what is on its way to brokers.
    pub drain: Duration,
    /// Its place in a cluster; `None`: it stands alone.
    pub membership: Option<MembershipOptions>,
    /// The file whose dynamic keys are followed, if there is one.
    pub watched: Option<Arc<Watched<DelayConfig>>>,
    /// Which settings named the files of certificates, for errors.
    pub named_by: NamedBy,
}

/// What is said on the wire besides messages: frames' and messages' headers, attributes.
const FRAME_OVERHEAD: u64 = 1 << 20;
/// What brokers' logs call it.
const APPLICATION: &str = "qmq-delay";
/// As long as a delivery may take, and some.
const DRAIN: Duration = Duration::from_secs(15);

impl DelayOptions {
    /// As a configuration says. The meta servers that it names know the brokers.
    ///
    /// # Errors
    /// When the token file is no good.
    pub fn from_config(config: &DelayConfig) -> Result<Self, TokensError> {
        let host = || {
            let name = rustix::system::uname();
            name.nodename().to_string_lossy().into_owned()
        };
        let security = &config.security;
        let tokens = Tokens::open(&security.tokens_file, security.tokens_required)?;
        let secret = security.cluster_token.as_ref();
        let access = Access::new(tokens, security.anonymous_rights.clone())
            .with_cluster_token(secret.map_or("", |secret| secret.expose()));
        let limits = qmq_store::Options::with_segment_bytes(config.segment_bytes);
        // A dead letter says more than its message.
        let body_bytes_max =
            (config.body_bytes_max + letters::OVERHEAD_BYTES).min(config.segment_bytes / 4);
        let batch_bytes_max = limits.batch_bytes_max.max(body_bytes_max * 2);
        let store = qmq_store::Options {
            body_bytes_max,
            batch_bytes_max: batch_bytes_max.min(config.segment_bytes / 2),
            flush_interval: config.flush_interval,
            retention: Retention {
                max_age: config.retention,
                ..Retention::default()
            },
            ..limits
        };
        let frame_bytes_max = store.batch_bytes_max + FRAME_OVERHEAD;
        let own = CertifiedFiles {
            certificate: security.tls_cert.clone(),
            key: security.tls_key.clone(),
        };
        let dynamic = &config.dynamic;
        let tls = TlsFiles {
            own: own.clone(),
            authority: security.tls_ca.clone(),
            clients: match security.client_auth {
                ClientAuth::Optional => ClientCertificates::Optional,
                ClientAuth::Required => ClientCertificates::Required,
            },
        };
        let named_by = NamedBy::settings(&config.settings, &tls);
        Ok(Self {
            name: config.name.clone().unwrap_or_else(host),
            group: config.group.clone().unwrap_or_default(),
            folder: config.store_root.clone(),
            store,
            scheduler: qmq_sched::Options {
                segment_scale_minute: config.segment_scale_minute,
                ..qmq_sched::Options::default()
            },
            schedule: ScheduleOptions {
                durability: match config.flush_mode {
                    FlushMode::Sync => Durability::Synced,
                    FlushMode::Async => Durability::Buffered,
                },
                delay_max: config.due_max,
                body_bytes_max: body_bytes_max - letters::OVERHEAD_BYTES,
                ..ScheduleOptions::default()
            },
            dispatch: DispatchOptions {
                back_off: Arc::new(BackOff::new(dynamic.retry_min, dynamic.retry_max)),
                bytes_max: config.memory.deliver_bytes,
                ..DispatchOptions::default()
            },
            dead_letter_max: config.dead_letters_max as u64,
            destinations: vec![by_meta(config)],
            post: PostOptions {
                batch: config.send_batch_max,
                ..PostOptions::default()
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
            tls,
            access: Arc::new(access),
            drain: DRAIN,
            membership: membership(config, own, host),
            watched: None,
            named_by,
        })
    }
}

/// To the brokers that the meta servers tell.
fn by_meta(config: &DelayConfig) -> Destination {
    let (member, security) = (&config.member, &config.security);
    let pem = |path: &PathBuf| Pem::File(path.clone());
    let mut client = Client::builder()
        .authorities(pem(&security.tls_ca))
        .identity(pem(&security.tls_cert), pem(&security.tls_key))
        .application(APPLICATION);
    for endpoint in &member.meta_endpoints {
        client = client.meta(endpoint);
    }
    if let Some(name) = &member.meta_name {
        client = client.meta_server_name(name);
    }
    if let Some(token) = &security.cluster_token {
        client = client.token(token.expose());
    }
    Destination {
        subjects: Pattern::new("*"),
        client,
    }
}

/// Its place in a cluster, if it knows meta servers.
fn membership(
    config: &DelayConfig,
    own: CertifiedFiles,
    host: impl Fn() -> String,
) -> Option<MembershipOptions> {
    let member = &config.member;
    if member.meta_endpoints.is_empty() {
        return None;
    }
    let role = member.role.map(|role| match role {
        Role::Master => NodeRole::Master,
        Role::Slave => NodeRole::Slave,
        Role::DelayMaster => NodeRole::DelayMaster,
        Role::DelaySlave => NodeRole::DelaySlave,
    });
    let token = config.security.cluster_token.as_ref();
    Some(MembershipOptions {
        kind: NodeKind::Delay,
        endpoints: member.meta_endpoints.clone(),
        server_name: member.meta_name.clone(),
        authority: config.security.tls_ca.clone(),
        own: Some(own),
        cluster_token: token.map(|token| Token(token.expose().to_owned())),
        hostname: member.host.clone().unwrap_or_else(host),
        ip: member.ip.map(|ip| ip.to_string()),
        port: config.listen.port(),
        sync_port: member.sync_port,
        claim: config.group.clone().zip(role),
        group: config.group.clone(),
        folder: config.store_root.clone(),
        timing: Timing::default(),
    })
}
